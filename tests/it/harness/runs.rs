//! Whole runs through the library, each in a directory of its own, and comparisons between runs.

use std::path::Path;
use std::sync::Arc;

use lowland_engine::affinity;
use lowland_engine::budget::Budget;
use lowland_engine::positions::{INIT, Positions};
use lowland_engine::{
    Config, Error, Event, Inputs, MapSink, Observer, Plan, Progress, Report, Stage, StageContext, embed, index,
};
use lowland_io::RunDir;

use super::{StopWhen, TestTable};

/// Few epochs and two threads.
pub(crate) fn quick() -> Config {
    Config { threads: Some(2), n_epochs: Some(20), ..Config::default() }
}

/// A map that is written to memory, row after row.
struct CollectedMap {
    width: usize,
    values: Vec<f32>,
}

impl MapSink for CollectedMap {
    fn write(&mut self, first: u64, coordinates: &[f32]) -> lowland_engine::Result<()> {
        assert_eq!(first as usize * self.width, self.values.len(), "rows in order, none twice");
        self.values.extend_from_slice(coordinates);
        Ok(())
    }
}

/// A finished run and its directory.
pub(crate) struct FinishedRun {
    pub(crate) dir: RunDir,
    pub(crate) plan: Plan,
    pub(crate) report: Report,
    /// The map in the source's order.
    pub(crate) map: Vec<f32>,
    // Last: the directory's lock goes first.
    _place: tempfile::TempDir,
}

impl FinishedRun {
    /// Every file of the run, by name.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.dir)
    }
}

/// Every file of a run directory, by name, except the FAISS index.
pub(crate) fn files(dir: &RunDir) -> Vec<(String, Vec<u8>)> {
    let manifest = dir.manifest();
    let mut files: Vec<_> = manifest
        .files()
        .filter(|(name, _)| *name != index::INDEX) // FAISS keeps the directory's name in it
        .map(|(name, _)| (name.to_string(), std::fs::read(dir.path(name)).expect("a file of the run")))
        .collect();
    files.sort();
    files
}

/// Opens the run directory `run` in `place` for `plan`.
pub(crate) fn open_run(place: &Path, plan: &Plan) -> RunDir {
    RunDir::open(place.join("run"), plan.identity(), Vec::new()).expect("a run directory").0
}

/// A run directory in which a single stage is run.
pub(crate) struct StageDir {
    pub(crate) dir: RunDir,
    _place: tempfile::TempDir,
}

impl StageDir {
    pub(crate) fn new(plan: &Plan) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        StageDir { dir: open_run(place.path(), plan), _place: place }
    }

    /// Calls `body` as `stage`, with the plan's whole budget; `observer` may stop it.
    pub(crate) fn work<T>(
        &self,
        plan: &Plan,
        stage: Stage,
        observer: &dyn Observer,
        body: impl FnOnce(&StageContext<'_>) -> lowland_engine::Result<T>,
    ) -> lowland_engine::Result<T> {
        let progress = Progress::start(observer, stage, plan.shape().rows, "rows")?;
        body(&StageContext { run: &self.dir, progress: &progress, budget: &Budget::new(plan.settings().memory) })
    }

    /// The files in the directory, by name, but for the manifest and the lock.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.dir()).expect("the directory");
        let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != "manifest.json" && name != "LOCK").collect();
        names.sort();
        names
    }
}

/// The inputs of a run over a table.
pub(crate) fn inputs_of(table: &Arc<TestTable>) -> Inputs<'static> {
    Inputs { source: Some(table.clone()), graph: None, first: None }
}

/// Runs a plan in an open run directory.
pub(crate) fn attempt(
    plan: &Plan,
    inputs: &Inputs<'_>,
    dir: &RunDir,
    observer: &dyn Observer,
) -> lowland_engine::Result<(Report, Vec<f32>)> {
    let mut map = CollectedMap { width: plan.settings().n_components, values: Vec::new() };
    let report = embed(plan, inputs, dir, &mut map, observer)?;
    assert_eq!(map.values.len() as u64, plan.shape().rows * plan.settings().n_components as u64);
    Ok((report, map.values))
}

/// Runs `plan` in a new run directory.
pub(crate) fn run_plan(plan: Plan, inputs: &Inputs<'_>) -> FinishedRun {
    let place = tempfile::tempdir().expect("a directory");
    let dir = open_run(place.path(), &plan);
    let (report, map) = attempt(&plan, inputs, &dir, &()).expect("the run succeeds");
    FinishedRun { dir, plan, report, map, _place: place }
}

/// Runs `config` over `inputs`.
pub(crate) fn run_with(config: &Config, inputs: &Inputs<'_>) -> FinishedRun {
    run_plan(config.plan(&inputs.describe().expect("inputs")).expect("a plan"), inputs)
}

/// Runs `config` over a table.
pub(crate) fn run(config: &Config, table: &Arc<TestTable>) -> FinishedRun {
    run_with(config, &inputs_of(table))
}

/// The plan of `config` for a table.
pub(crate) fn plan_of(config: &Config, table: &Arc<TestTable>) -> Plan {
    config.plan(&inputs_of(table).describe().expect("inputs")).expect("a plan")
}

/// The source's row number of each row in list order.
pub(crate) fn source_rows(run: &FinishedRun) -> Vec<usize> {
    let lists = index::open(run.dir.dir()).expect("lists");
    (0..lists.table.count()).flat_map(|list| lists.source_rows(list).collect::<Vec<_>>()).map(|r| r as usize).collect()
}

/// The first positions of a run, in the source's order.
pub(crate) fn first_positions(run: &FinishedRun) -> Vec<f32> {
    let width = run.plan.settings().n_components;
    let rows = run.plan.shape().rows;
    let stored = Positions::open(&run.dir.path(INIT), rows, width).expect("first positions");
    let stored = stored.values().expect("first positions");
    let mut ordered = vec![0f32; stored.len()];
    for (position, row) in stored.chunks_exact(width).zip(source_rows(run)) {
        ordered[row * width..][..width].copy_from_slice(position);
    }
    ordered
}

/// The smallest budget that the plan's own error names.
pub(crate) fn smallest(config: &Config, table: &Arc<TestTable>) -> Plan {
    let input = inputs_of(table).describe().expect("inputs");
    let tiny = Config { memory: 1, ..config.clone() };
    let Err(Error::Budget { needed, .. } | Error::AllPairs { needed, .. }) = tiny.plan(&input) else {
        panic!("one byte cannot do")
    };
    Config { memory: needed, ..config.clone() }.plan(&input).expect("the budget that was named does")
}

/// The plan with the smallest windows, runs, buffers and caches, none of which may change a result.
pub(crate) fn squeezed(mut plan: Plan) -> Plan {
    *plan.portions().shard_rows = (plan.shape().rows as usize / 7).max(1);
    (*plan.portions().window_rows, *plan.portions().portion_rows) = (777, 3000);
    *plan.portions().run_bytes = affinity::run_bytes(&plan).0;
    *plan.portions().buffer_bytes = 1 << 16;
    *plan.portions().cache_bytes = 0;
    plan
}

/// Runs every plan and compares all files and the map with those of the first.
pub(crate) fn check_same(table: &Arc<TestTable>, plans: impl IntoIterator<Item = (String, Plan)>) {
    let mut first = None;
    for (name, plan) in plans {
        let run = run_plan(plan, &inputs_of(table));
        let (files, map) = (run.files(), run.map.clone());
        match &first {
            None => first = Some((files, map)),
            Some((expected, expected_map)) => {
                for (a, b) in files.iter().zip(expected) {
                    assert_eq!(a.0, b.0, "{name}");
                    assert!(a.1 == b.1, "{name}: {} differs", a.0);
                }
                assert_eq!(files.len(), expected.len(), "{name}");
                assert!(
                    map.iter().zip(expected_map).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{name}: the map differs"
                );
            }
        }
    }
}

/// Stops a run where `when` returns true and resumes it, in the same open directory or, with `again`, in the directory
/// opened anew; compares the map and all files with those of `whole`.
pub(crate) fn check_resumed(
    name: &str,
    table: &Arc<TestTable>,
    plan: &Plan,
    whole: &FinishedRun,
    again: bool,
    when: &(dyn Fn(&Event<'_>) -> bool + Sync),
) {
    let place = tempfile::tempdir().expect("a directory");
    let mut dir = open_run(place.path(), plan);
    match attempt(plan, &inputs_of(table), &dir, &StopWhen(when)) {
        Err(Error::Cancelled { .. }) => {}
        Err(other) => panic!("{name}: {other}"),
        Ok(_) => panic!("{name}: it was not stopped"),
    }
    if again {
        drop(dir);
        dir = open_run(place.path(), plan);
    }
    let kept = dir.manifest().stages.values().filter(|stage| stage.done).count();
    let (report, map) = attempt(plan, &inputs_of(table), &dir, &()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(report.reused.len(), kept, "{name}: what was finished is done again");
    assert!(map == whole.map, "{name}: the map differs");
    let (found, expected) = (files(&dir), whole.files());
    assert_eq!(found.len(), expected.len(), "{name}");
    for (a, b) in found.iter().zip(&expected) {
        assert!(a == b, "{name}: {} differs", a.0);
    }
    // Only what the manifest lists, the manifest and the lock.
    let there = std::fs::read_dir(dir.dir()).expect("a directory").count();
    assert_eq!(there, dir.manifest().files().count() + 2, "{name}: files left behind");
}
