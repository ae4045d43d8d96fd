//! One run in two ways, as a job of the library and as a command of the program. Each can resume the other's.

use lowland::{Config, Event, Job, MapFile, Plan, RunOptions, Stage};

use super::{CommandOutput, StopRule, TestDir, UnitEvent, UnitLog, soon};

/// Options with which the layout is long enough to be interrupted.
pub(crate) const LONG: &str = "--n-epochs 4000 --threads 2";

/// Rows of `v.npy`, which a test writes.
pub(crate) const ROWS: u64 = 2_000;

const EPOCHS: usize = 30;

/// Runs `arguments`, which must end soon.
pub(crate) fn run(place: &TestDir, arguments: &str) -> CommandOutput {
    soon(place.command(arguments))
}

/// The job of the same run as [`command`]. Its plan has several shards and transposes the edges on disk.
pub(crate) fn job(place: &TestDir, run: &str) -> (Job, Plan) {
    let mut job = Job::new();
    job.source = Some(lowland::open(&[place.path("v.npy").to_string_lossy()], None).expect("a source"));
    job.run = RunOptions::kept(place.path(run));
    job.config = Config { n_epochs: Some(EPOCHS), threads: Some(2), ..Config::default() };
    let mut plan = job.plan().expect("a plan");
    *plan.portions().shard_rows = 700;
    *plan.portions().run_bytes = lowland_engine::affinity::run_bytes(&plan).1 / 4;
    (job, plan)
}

/// The command of the same run as [`job`].
pub(crate) fn command(place: &TestDir, run: &str) -> String {
    let source = place.path("v.npy");
    format!("embed {} -o m.npy --n-epochs {EPOCHS} --threads 2 --run-dir {run} --force --quiet", source.display())
}

/// Stops the job in the run directory `run` where `stop` returns true.
pub(crate) fn leave(place: &TestDir, run: &str, stop: StopRule<'_>) {
    let (job, plan) = job(place, run);
    let error = job.embed(&plan, &MapFile::new(place.path("from-job.npy")), &UnitLog::new(stop)).expect_err("stopped");
    assert!(error.is_cancelled(), "{error}");
}

/// Stops the layout at `epoch`.
pub(crate) fn at_epoch(epoch: u64) -> impl Fn(&Event<'_>, &[UnitEvent]) -> bool + Sync {
    move |e, _| matches!(e, Event::Advance { stage: Stage::Layout, done } if *done == epoch)
}
