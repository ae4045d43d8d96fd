//! The killer: runs that are ended by SIGKILL at moments spread over all
//! stages, some again and again, and gone on with. The map is that of a run
//! that never stopped, byte for byte, and no finished unit is made again. A run
//! that is killed after its map has its name leaves that map, whole.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lowland::{Config, Event, Job, MapFile, Observer, RunOptions, Stage};
use lowland_datasets::OutputDtype;
use serde_json::{Value, json};

use crate::harness::Lcg;
use crate::harness::{TestDir, note};

/// Rows from which a budget is smaller than what a run would like to hold. A
/// run of fewer is made by the library, which may be given less.
const MANY: u64 = 100_000;
/// Says to this very program which run it is to make, and be killed in.
const VICTIM: &str = "LOWLAND_KILLED";

/// What is run, killed and run again.
struct KilledRun {
    place: TestDir,
    rows: u64,
    /// The budget, of the binary's runs.
    memory: String,
    next: AtomicU64,
}

/// A run from its start to its end or its kill.
#[derive(Default)]
struct Attempt {
    /// Stage and unit of those that were made, but for checkpoints, whose number is a matter of time.
    made: Vec<(String, String)>,
    /// The stage under way at the end.
    stage: String,
    /// Seconds of each stage that was run to its end.
    seconds: BTreeMap<String, f64>,
    finished: bool,
}

impl KilledRun {
    fn new(rows: u64) -> Self {
        let place = TestDir::on_disk();
        let dim = if rows < MANY { 8 } else { 64 };
        place.wide_vectors("v.npy", rows, dim, OutputDtype::F32);
        let mut prey = KilledRun { place, rows, memory: "1MiB".into(), next: AtomicU64::new(0) };
        if rows >= MANY {
            // The refusal names the smallest budget that would do: there everything goes by the disk.
            let refused = prey.place.run(&format!("{} --quiet", prey.arguments("none")));
            let words: Vec<&str> = refused.stderr.split_whitespace().collect();
            let at = words.iter().rposition(|w| w.starts_with("MiB")).expect("a budget that would do");
            prey.memory = format!("{}MiB", words[at - 1]);
        }
        prey
    }

    fn arguments(&self, name: &str) -> String {
        format!(
            "embed v.npy -o {name}.npy --run-dir {name}.run --n-neighbors 15 --recall 0.5 --n-epochs 60 --threads 1 \
             --checkpoint 0.05 --memory {}",
            self.memory
        )
    }

    /// Starts, or goes on with, the run `name`.
    fn start(&self, name: &str) -> (Child, BufReader<ChildStderr>) {
        let mut command = if self.rows < MANY {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.args(["--exact", "killer::a_run_to_be_killed", "--nocapture", "--test-threads", "1"]);
            command.env(VICTIM, self.place.path(name)).stdin(Stdio::null());
            command
        } else {
            self.place.command(&format!("{} --log-format json", self.arguments(name)))
        };
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        (child, stderr)
    }

    /// Runs, and kills at a share of a stage's usual time after it began; `None` lets it run to its end.
    fn attempt(&self, name: &str, kill: Option<(&str, Duration)>) -> Attempt {
        let (mut child, stderr) = self.start(name);
        let mut attempt = Attempt::default();
        let (lines, told) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)).is_ok()
        });
        let (mut deadline, mut errors) = (None::<Instant>, Vec::new());
        loop {
            let left = deadline.map_or(Duration::from_secs(600), |at| at.saturating_duration_since(Instant::now()));
            match told.recv_timeout(left) {
                Ok(line) => {
                    let event: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
                    attempt.hear(&event);
                    if event["event"] == "start"
                        && let Some((stage, after)) = kill
                        && event["stage"] == stage
                    {
                        deadline = Some(Instant::now() + after);
                    }
                    if event.is_null() || event["event"] == "error" {
                        errors.push(line);
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    assert!(deadline.is_some(), "{name}: it hangs in {}", attempt.stage);
                    // SIGKILL. What it told before is still read.
                    child.kill().expect("killed");
                    deadline = Some(Instant::now() + Duration::from_secs(60));
                }
            }
        }
        reader.join().expect("a reader");
        let status = child.wait().expect("an end");
        attempt.finished = status.success();
        // Killed, or well: nothing else.
        assert!(status.success() || status.code().is_none(), "{name}: {status}: {errors:?}");
        attempt
    }

    /// Kills the run `number` one or more times and runs it to its end.
    fn hunt(&self, number: u64, kills: usize, whole: &Whole, tally: &Mutex<Tally>) {
        let (name, mut draws) = (format!("run{number}"), Lcg(number * 2 + 1));
        let mut made = Vec::new();
        let mut from = 0;
        for kill in 0..kills {
            // The first in turn, so that no stage is left out; later ones wherever the run may still come.
            let place = if kill == 0 {
                number as usize % Stage::ALL.len()
            } else {
                from + draws.below(Stage::ALL.len() - from)
            };
            let usual = whole.attempt.seconds[Stage::ALL[place].name()];
            let after = Duration::from_secs_f64(usual * draws.below(1000) as f64 / 1000.0);
            let attempt = self.attempt(&name, Some((Stage::ALL[place].name(), after)));
            made.extend(attempt.made.clone());
            let mut tally = tally.lock().expect("no panic");
            if attempt.finished {
                tally.too_late += 1;
                break;
            }
            *tally.kills.entry(attempt.stage.clone()).or_default() += 1;
            if self.place.path(&format!("{name}.npy")).exists() {
                // Its map had its name and it was giving its stages back: whole, as is asked below.
                tally.named += 1;
                break;
            }
            drop(tally);
            from = Stage::ALL.iter().position(|stage| stage.name() == attempt.stage).unwrap_or(0);
        }
        let map = self.place.path(&format!("{name}.npy"));
        if !map.exists() {
            let last = self.attempt(&name, None);
            assert!(last.finished, "{name} does not go on");
            made.extend(last.made);
            tally.lock().expect("no panic").resumes += 1;
        }
        assert!(std::fs::read(&map).expect("a map") == whole.map, "{name}: another map");
        let again = made.len().saturating_sub(whole.attempt.made.len());
        assert!(again <= kills, "{name}: of {:?} there came {made:?}", whole.attempt.made);
        let mut tally = tally.lock().expect("no panic");
        tally.equal += 1;
        tally.again = tally.again.max(again);
        // Where no stage is kept the run directory went with the last of them.
        let _ = std::fs::remove_dir_all(self.place.path(&format!("{name}.run")));
        std::fs::remove_file(map).expect("removed");
    }
}

impl Attempt {
    fn hear(&mut self, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or("").to_string();
        match event["event"].as_str() {
            Some("start") => self.stage = text("stage"),
            Some("unit") if event["reused"] == false && event["unit"] != "checkpoint" => {
                self.made.push((text("stage"), text("unit")));
            }
            Some("end") => {
                let seconds = event["report"]["seconds"].as_f64().unwrap_or(0.0);
                self.seconds.insert(event["report"]["stage"].as_str().unwrap_or("").into(), seconds);
            }
            _ => {}
        }
    }
}

/// The run that was not killed.
struct Whole {
    attempt: Attempt,
    map: Vec<u8>,
}

#[derive(Default)]
struct Tally {
    kills: BTreeMap<String, usize>,
    too_late: usize,
    /// Kills after the map had its name.
    named: usize,
    resumes: usize,
    equal: usize,
    /// Units that were made more often than in the run that was not killed, at most.
    again: usize,
}

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

/// `LOWLAND_KILLS=200 LOWLAND_KILL_ROWS=200000` makes it what it is meant for:
/// so many kills of the binary at the smallest budget, two at a time on one
/// thread each, for a quarter of an hour (`-- killer --nocapture` shows what it came
/// to). As it stands runs are small and made by
/// the library, with shards, runs of the transpose and spilled edges all the same.
#[test]
fn a_run_killed_anywhere_ends_with_the_same_bytes() {
    let (kills, rows) = (number("LOWLAND_KILLS", 25), number("LOWLAND_KILL_ROWS", 20_000));
    let prey = KilledRun::new(rows);
    let attempt = prey.attempt("whole", None);
    assert!(attempt.finished && attempt.seconds.len() == Stage::ALL.len(), "{:?}", attempt.seconds);
    for unit in ["quantizer", "shard-001", "neighbors-000", "transpose", "edges-000"] {
        assert!(attempt.made.iter().any(|(_, made)| made == unit), "no {unit} in {:?}", attempt.made);
    }
    let whole = Whole { attempt, map: prey.place.bytes("whole.npy") };
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = prey.next.fetch_add(1, Ordering::Relaxed);
                    let done: usize = tally.lock().expect("no panic").kills.values().sum();
                    if done as u64 >= kills || number > 10 * kills {
                        return;
                    }
                    // Every third again and again.
                    prey.hunt(number, if number % 3 == 2 { 3 } else { 1 }, &whole, &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no panic");
    let total: usize = tally.kills.values().sum();
    let stages: Vec<String> = Stage::ALL
        .map(Stage::name)
        .iter()
        .map(|stage| format!("{stage} {}", tally.kills.get(*stage).unwrap_or(&0)))
        .collect();
    note(&format!(
        "{rows} rows, {total} kills ({}), {} of them after the map had its name, {} too late; {} runs gone on with, {} maps equal; {} units made again at most",
        stages.join(", "),
        tally.named,
        tally.too_late,
        tally.resumes,
        tally.equal,
        tally.again
    ));
    assert!(total as u64 >= kills, "{total} kills");
    for stage in ["index", "neighbors", "affinity", "layout"].into_iter().filter(|_| kills >= 25) {
        assert!(tally.kills.contains_key(stage), "no kill in {stage}");
    }
}

/// Tells what the binary tells as JSON.
struct Teller;

impl Observer for Teller {
    #[expect(clippy::print_stderr, reason = "it is how the killer hears of the run")]
    fn event(&self, event: &Event<'_>) -> std::ops::ControlFlow<()> {
        let told = match event {
            Event::Start { stage, .. } => json!({"event": "start", "stage": stage.name()}),
            Event::Unit { stage, unit, reused } => {
                json!({"event": "unit", "stage": stage.name(), "unit": unit, "reused": reused})
            }
            Event::End { report, reused } => {
                json!({"event": "end", "report": {"stage": report.stage.name(), "seconds": report.seconds}, "reused": reused})
            }
            _ => return std::ops::ControlFlow::Continue(()),
        };
        eprintln!("{told}");
        std::ops::ControlFlow::Continue(())
    }
}

/// A run of few rows with next to no room: no budget is as small as this. The
/// killer runs it in a process of its own; otherwise it is left alive, and done.
#[test]
fn a_run_to_be_killed() {
    let Some(name) = std::env::var_os(VICTIM).map(PathBuf::from) else {
        let place = TestDir::new();
        place.wide_vectors("v.npy", 5_000, 8, OutputDtype::F32);
        victim(&place.path("m1"));
        assert!(place.path("m1.npy").exists());
        return;
    };
    victim(&name);
}

/// Makes `name`.npy of the v.npy beside it.
fn victim(name: &std::path::Path) {
    let mut job = Job::new();
    job.source = Some(lowland::open(&[name.with_file_name("v.npy").to_string_lossy()], None).expect("a source"));
    job.run = RunOptions::kept(name.with_extension("run"));
    // Some keep what is finished, others give it back on the way.
    let kept = if name.to_string_lossy().ends_with(['0', '3', '6', '9']) { &Stage::ALL[..] } else { &[] };
    job.config = Config {
        n_neighbors: Some(8),
        n_epochs: Some(60),
        threads: Some(1),
        checkpoint: 0.05,
        keep_stages: Some(kept.to_vec()),
        ..Config::default()
    };
    let mut plan = job.plan().expect("a plan");
    *plan.portions().shard_rows = plan.shape().rows as usize / 6;
    (*plan.portions().window_rows, *plan.portions().portion_rows) = (plan.shape().rows as usize / 3, 3000);
    *plan.portions().run_bytes = lowland_engine::affinity::run_bytes(&plan).1 / 6;
    *plan.portions().buffer_bytes = 1 << 16;
    *plan.portions().cache_bytes = 0;
    job.embed(&plan, &MapFile::new(name.with_extension("npy")), &Teller).expect("a map");
}
