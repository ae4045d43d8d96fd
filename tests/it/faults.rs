//! Faults: damaged files, full disks, sources that change, directories that
//! cannot be used, signals. Each time the run must end with an error that says
//! what and where, nothing wrong may be used or left, and once the fault is
//! gone the same command ends with the bytes of a run that never had it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::SystemTime;

use lowland::{Config, Event, Job, MapFile, Plan, RunOptions, Stage};
use lowland_datasets::Dtype;
use lowland_io::{Manifest, RunDir};
use serde_json::Value;

use crate::kit::{Answer, Place, signal, skipped, soon, wait_for};
use crate::stages::Draws;
use crate::units::{Ear, Stop, Told, after};

/// Runs `arguments`, which must end soon.
fn run(place: &Place, arguments: &str) -> Answer {
    soon(place.command(arguments))
}

// Damage.

const ROWS: u64 = 2_000;
const EPOCHS: usize = 30;

/// A job whose run goes on where the binary's does, with another plan: several
/// shards, and edges by way of the disk.
fn job(place: &Place, run: &str) -> (Job, Plan) {
    let mut job = Job::new();
    job.source = Some(lowland::open(&[place.path("v.npy").to_string_lossy()], None).expect("a source"));
    job.run = RunOptions::kept(place.path(run));
    job.config = Config { n_epochs: Some(EPOCHS), threads: Some(2), ..Config::default() };
    let mut plan = job.plan().expect("a plan");
    *plan.portions().shard_rows = 700;
    *plan.portions().run_bytes = lowland_engine::affinity::run_bytes(&plan).1 / 4;
    (job, plan)
}

/// The same run for the binary.
fn command(place: &Place, run: &str) -> String {
    let source = place.path("v.npy");
    format!("embed {} -o m.npy --n-epochs {EPOCHS} --threads 2 --run-dir {run} --force --quiet", source.display())
}

/// Leaves the run directory `run` as it is when `stop` says so.
fn leave(place: &Place, run: &str, stop: Stop<'_>) {
    let (job, plan) = job(place, run);
    let error = job.embed(&plan, &MapFile::new(place.path("from-job.npy")), &Ear::new(stop)).expect_err("stopped");
    assert!(error.is_cancelled(), "{error}");
}

/// The names of a directory's files, in order; none where it is not there.
fn names(dir: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        entries => entries.expect("a directory"),
    };
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn at_epoch(epoch: u64) -> impl Fn(&Event<'_>, &[Told]) -> bool + Sync {
    move |e, _| matches!(e, Event::Advance { stage: Stage::Layout, done } if *done == epoch)
}

/// What the manifest says of the unit's files.
fn files_of(dir: &Path, stage: &str, unit: &str) -> Vec<String> {
    let manifest = Manifest::read(dir).expect("a manifest");
    manifest.stages[stage].units[unit].files.keys().cloned().collect()
}

#[test]
fn a_damaged_file_is_named_and_never_used() {
    let place = Place::new();
    place.vectors("v.npy", ROWS);
    assert_eq!(run(&place, &command(&place, "kept")).code, 0);
    let whole = place.bytes("m.npy");
    // Each leaves one more kind of unit; with it its stage's, and the files of the stages before.
    let stops: [(&str, &str, &str, Stop<'_>); 5] = [
        ("shard", "index", "shard-001", &after(3)),
        ("neighbors", "neighbors", "neighbors-000", &after(5)),
        ("transpose", "affinity", "transpose", &after(6)),
        ("edges", "affinity", "edges-000", &after(7)),
        ("checkpoint", "layout", "checkpoint", &at_epoch(7)),
    ];
    for (name, stage, unit, stop) in stops {
        leave(&place, name, stop);
        assert!(!files_of(&place.path(name), stage, unit).is_empty(), "{name}");
    }
    assert_eq!(files_of(&place.path("shard"), "index", "quantizer"), ["quantizer.bin"]);

    let mut draws = Draws(11);
    for state in ["kept", "shard", "neighbors", "transpose", "edges", "checkpoint"] {
        let dir = place.path(state);
        let listed = names(&dir);
        assert!(listed.len() > 4, "{listed:?}");
        for file in listed.iter().filter(|name| !matches!(name.as_str(), "LOCK" | "manifest.json")) {
            let path = dir.join(file);
            let intact = std::fs::read(&path).expect("a file");
            let mut flipped = intact.clone();
            let bit = draws.below(flipped.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            for (what, damaged) in [("a bit flipped", &flipped[..]), ("cut short", &intact[..intact.len() - 1])] {
                std::fs::write(&path, damaged).expect("written");
                let answer = run(&place, &command(&place, state));
                // With all edges finished nobody asks for what they were made from.
                if state == "edges" && file.starts_with("transpose-") && answer.code == 0 {
                    assert!(place.bytes("m.npy") == whole, "{state}: {file}, {what}: another map");
                    std::fs::remove_dir_all(&dir).expect("removed");
                    leave(&place, state, &after(7));
                    continue;
                }
                let (told, code) = (&answer.stderr, answer.code);
                assert_eq!(code, 1, "{state}: {file}, {what} (bit {bit}): {told}");
                assert_eq!(told.lines().count(), 1, "{state}: {file}, {what}: {told}");
                for word in [file, "--restart"] {
                    assert!(told.contains(word), "{state}: {file}, {what}: no {word} in {told}");
                }
                assert_eq!(names(&dir), listed, "{state}: {file}, {what}: other files than before");
            }
            std::fs::write(&path, &intact).expect("written");
        }
        std::fs::remove_file(place.path("m.npy")).expect("a map");
        let answer = run(&place, &command(&place, state));
        assert_eq!(answer.code, 0, "{state}: {}", answer.stderr);
        assert!(place.bytes("m.npy") == whole, "{state}: another map once the damage is gone");
    }
}

#[test]
fn a_damaged_manifest_is_named_and_never_used() {
    let place = Place::new();
    place.vectors("v.npy", ROWS);
    leave(&place, "run", &at_epoch(7));
    let dir = place.path("run");
    let (path, listed) = (dir.join("manifest.json"), names(&dir));
    let intact = std::fs::read(&path).expect("a manifest");
    let command = command(&place, "run");
    let check = |what: &str, damaged: &[u8]| {
        std::fs::write(&path, damaged).expect("written");
        let answer = run(&place, &command);
        assert_eq!(answer.code, 1, "{what}: {}", answer.stderr);
        assert_eq!(answer.stderr.lines().count(), 1, "{what}: {}", answer.stderr);
        for word in ["manifest.json", "--restart"] {
            assert!(answer.stderr.contains(word), "{what}: no {word} in {}", answer.stderr);
        }
        assert_eq!(names(&dir), listed, "{what}: other files than before");
    };
    let bits = intact.len() * 8;
    let mut draws = Draws(3);
    for i in 0..50 {
        let bit = i * bits / 50 + draws.below(bits / 50);
        let mut flipped = intact.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check(&format!("bit {bit} of {bits}"), &flipped);
    }
    for length in [intact.len() - 1, intact.len() / 2, 40] {
        check(&format!("cut to {length} bytes"), &intact[..length]);
    }
    // Nothing of it is left to tell it by: then it is nobody's to remove.
    std::fs::write(&path, "").expect("written");
    let answer = run(&place, &command);
    assert_eq!((answer.code, names(&dir)), (2, listed), "{}", answer.stderr);
    std::fs::write(&path, &intact).expect("written");
    assert_eq!(run(&place, &command).code, 0);
}

#[test]
fn a_damaged_run_can_be_begun_anew() {
    let place = Place::new();
    place.vectors("v.npy", ROWS);
    assert_eq!(run(&place, &command(&place, "run")).code, 0);
    let whole = place.bytes("m.npy");
    std::fs::write(place.path("run/lists.ivf"), "short").expect("written");
    std::fs::write(place.path("run/manifest.json"), "{\n  \"lowland\": \"damaged").expect("written");
    assert_eq!(run(&place, &command(&place, "run")).code, 1);
    let answer = run(&place, &format!("{} --restart", command(&place, "run")));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(place.bytes("m.npy") == whole);
}

// Full disks.

/// A file system in memory, of a size that can be changed; gone with the test.
struct Small {
    place: PathBuf,
}

impl Small {
    /// None, told as skipped, where mounting is not allowed.
    fn new(place: &Place, bytes: u64) -> Option<Self> {
        let small = Small { place: place.path("small") };
        std::fs::create_dir(&small.place).expect("a directory");
        let options = format!("size={bytes}");
        match Self::mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &small.place) {
            Ok(()) => Some(small),
            Err(why) => {
                skipped(&format!("no file system can be mounted here: {why}"));
                // Nothing to unmount.
                std::mem::forget(small);
                None
            }
        }
    }

    fn mount(arguments: &[&str], at: &Path) -> Result<(), String> {
        let output = Command::new("mount").args(arguments).arg(at).output().map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_string()) }
    }

    /// Mounts it again with another option; refused where more is there already than is asked for.
    fn try_set(&self, option: &str) -> Result<(), String> {
        Self::mount(&["-o", &format!("remount,{option}")], &self.place)
    }

    fn set(&self, option: &str) {
        self.try_set(option).expect("mounted again");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Also with a file in it open, as after a failed test.
        let status = Command::new("umount").arg("-l").arg(&self.place).status();
        if !status.is_ok_and(|status| status.success()) {
            skipped(&format!("{} stays mounted", self.place.display()));
        }
    }
}

/// Starts the binary with JSON told on standard error.
fn start(place: &Place, arguments: &str) -> (Child, BufReader<ChildStderr>) {
    let mut command = place.command(&format!("{arguments} --log-format json"));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary runs");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    (child, stderr)
}

fn started(stage: &str) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "start" && event["stage"] == stage
}

/// What was told until the end, and the exit code.
fn end(mut child: Child, stderr: BufReader<ChildStderr>) -> (i32, Vec<Value>) {
    let events = stderr.lines().map(|line| {
        let line = line.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    });
    let events: Vec<Value> = events.collect();
    (child.wait().expect("an end").code().unwrap_or(-1), events)
}

/// The one error among events, and the stage under way, which was `waited` for before them.
fn failure(events: &[Value], waited: &str) -> (String, String) {
    let errors: Vec<&Value> = events.iter().filter(|e| e["event"] == "error").collect();
    let [error] = errors.as_slice() else { panic!("{events:?}") };
    assert_eq!(events.last(), Some(*error), "the error is the last that is told");
    let stage = events.iter().rev().find(|e| e["event"] == "start").map(|e| e["stage"].as_str().expect("a stage"));
    let message = error["message"].as_str().expect("a message");
    assert!(!message.contains('\n'), "{message}");
    (message.into(), stage.unwrap_or(waited).into())
}

/// Bytes of whole pages.
fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

const ALL: [&str; 7] = ["scan", "index", "neighbors", "affinity", "init", "layout", "output"];

/// A run on a disk that, once the run has begun, is of `full` bytes only; the exit code and the events from there.
fn filled(place: &Place, small: &Small, arguments: &str, full: u64) -> (i32, Vec<Value>) {
    for _ in 0..30 {
        let (mut child, mut stderr) = start(place, arguments);
        wait_for(&mut stderr, started("scan"));
        if small.try_set(&format!("size={}", pages(full))).is_ok() {
            return end(child, stderr);
        }
        // Too late: there is more already.
        child.kill().expect("killed");
        child.wait().expect("an end");
        std::fs::remove_dir_all(place.path("small/run")).expect("removed");
        let _ = std::fs::remove_file(place.path("small/m.npy.part"));
    }
    panic!("the run is always faster than mounting");
}

/// A disk that fills up in each of `stages` in turn, where the room was enough when the run began.
fn check_full(rows: u64, dim: usize, options: &str, stages: &[&str]) {
    const ROOM: u64 = 256 << 20;
    let place = Place::new();
    place.wide_vectors("v.npy", rows, dim, Dtype::F32);
    let Some(small) = Small::new(&place, ROOM) else { return };
    let whole = format!("embed v.npy -o whole.npy {options} --run-dir whole --quiet");
    assert_eq!(run(&place, &whole).code, 0);
    let manifest = Manifest::read(&place.path("whole")).expect("a manifest");
    let sizes = |stage: &str| manifest.stages[stage].files.values().map(|stamp| pages(stamp.bytes)).collect::<Vec<_>>();
    let arguments = format!("embed v.npy -o small/m.npy {options} --run-dir small/run");

    // Two manifests, one taking the other's place, the lock, and the map's file.
    let mut before = pages(std::fs::metadata(place.path("whole/manifest.json")).expect("a manifest").len()) * 2 + 4096;
    for stage in ALL {
        let files = match stage {
            "output" => vec![pages(place.bytes("whole.npy").len() as u64)],
            stage => sizes(stage),
        };
        // In the middle of each file that is not the smallest of things.
        let mut written = 0;
        for &file in &files {
            let full = before + written + file / 2;
            written += file;
            if file <= 8192 || !stages.contains(&stage) {
                continue;
            }
            let (code, events) = filled(&place, &small, &arguments, full);
            let (message, at) = failure(&events, "scan");
            // A small map is written when all is done.
            let at = if stage == "output" && at == "quality" { "output" } else { at.as_str() };
            assert_eq!((code, at), (1, stage), "{full} bytes of room: {message}");
            for word in ["small/", "make space"] {
                assert!(message.contains(word), "{stage}, {full} bytes: no {word} in {message}");
            }
            let left: Vec<String> =
                names(&place.path("small")).into_iter().chain(names(&place.path("small/run"))).collect();
            assert!(
                message.contains("FAISS")
                    || !left.iter().any(|name| name.ends_with(".part") || name.ends_with(".scratch")),
                "{stage}: {left:?}"
            );
            assert!(!left.iter().any(|name| name == "m.npy"), "{stage}: {left:?}");
            // Once more with as little room: refused before any work, or full again.
            let (child, stderr) = start(&place, &arguments);
            let (code, events) = end(child, stderr);
            let (message, _) = failure(&events, "");
            assert!(code == 1 && message.contains("make space"), "{stage}, once more: {code}, {message}");
            // Files are made in another order than they are named: the next sizes are for a run from the start.
            small.set(&format!("size={ROOM}"));
            let answer = run(&place, &format!("{arguments} --quiet"));
            assert_eq!(answer.code, 0, "{stage}, with room: {}", answer.stderr);
            assert!(place.bytes("small/m.npy") == place.bytes("whole.npy"), "{stage}: another map");
            std::fs::remove_file(place.path("small/m.npy")).expect("removed");
            std::fs::remove_dir_all(place.path("small/run")).expect("removed");
        }
        before += written;
    }
    // Too little from the start.
    small.set("size=65536");
    let answer = run(&place, &format!("{arguments} --quiet"));
    assert_eq!((answer.code, names(&place.path("small")).len()), (1, 0), "{}", answer.stderr);
    for word in ["small/run", "make space", "will need"] {
        assert!(answer.stderr.contains(word), "no {word} in {}", answer.stderr);
    }
}

#[test]
fn a_disk_that_fills_up_in_any_stage() {
    check_full(10_000, 32, "--n-epochs 10 --threads 2", &ALL);
}

/// By lists: FAISS writes a file of its own.
#[test]
fn a_disk_that_fills_up_in_any_stage_by_lists() {
    let options = "--n-epochs 4 --n-neighbors 5 --recall 0.5 --threads 2";
    check_full(66_000, 4, options, &["index", "affinity"]);
}

// Sources that change.

/// Other bytes of the same length, in place.
fn rewrite(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a source");
    let middle = bytes.len() / 2;
    // Numbers as before, in another order; the header and a footer stay.
    let (from, to) = (middle - middle / 2, middle + middle / 2);
    bytes[from..to].as_chunks_mut::<4>().0.reverse();
    std::fs::write(path, bytes).expect("written");
}

fn modified(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|m| m.modified()).expect("a time")
}

/// Puts a source back as it was, its time included.
fn restore(path: &Path, bytes: &[u8], time: SystemTime) {
    std::fs::write(path, bytes).expect("written");
    std::fs::File::options().write(true).open(path).and_then(|f| f.set_modified(time)).expect("set");
}

#[test]
fn a_source_that_changes_between_passes() {
    let place = Place::new();
    for source in ["v.npy", "v.arrow", "v.parquet"] {
        place.vectors(source, 10_000);
        let path = place.path(source);
        let (intact, time) = (std::fs::read(&path).expect("a source"), modified(&path));
        let arguments = format!("embed {source} -o m.npy --n-epochs 5 --threads 2");
        let (child, mut stderr) = start(&place, &arguments);
        wait_for(&mut stderr, started("index"));
        rewrite(&path);
        let (code, events) = end(child, stderr);
        let (message, at) = failure(&events, "index");
        // Where this process was kept from its turn, the change came after the index.
        assert!(code == 2 && ["index", "output"].contains(&at.as_str()), "{source}: {code} in {at}: {message}");
        assert!(message.contains(source), "{source}: {message}");
        assert!(!place.path("m.npy").exists());
        // Neither the rows that it has now nor a mixture is gone on with.
        let again = run(&place, &arguments);
        assert_eq!(again.code, 2, "{source}: {}", again.stderr);
        assert!(again.stderr.contains("sources[0]") && again.stderr.contains("--restart"), "{}", again.stderr);
        restore(&path, &intact, time);
        assert_eq!(
            run(&place, &format!("{arguments} -o whole.npy --force --quiet").replacen("-o m.npy", "", 1)).code,
            0
        );
        let answer = run(&place, &format!("{arguments} --quiet"));
        assert_eq!(answer.code, 0, "{source}, as it was: {}", answer.stderr);
        assert!(place.bytes("m.npy") == place.bytes("whole.npy"), "{source}: something of the other rows was kept");
        let answer = run(&place, &format!("{arguments} --force --quiet --restart"));
        assert_eq!(answer.code, 0, "{source}: {}", answer.stderr);
        assert!(place.bytes("m.npy") == place.bytes("whole.npy"), "{source}");
        std::fs::remove_file(place.path("m.npy")).expect("removed");
    }
}

/// Between the quantizer, made from the source as it was, and the first shard, which would not be.
#[test]
fn units_of_a_source_that_changed_are_not_gone_on_with() {
    let place = Place::new();
    place.vectors("v.npy", ROWS);
    let path = place.path("v.npy");
    let (intact, time) = (std::fs::read(&path).expect("a source"), modified(&path));
    assert_eq!(run(&place, &command(&place, "whole")).code, 0);
    let whole = place.bytes("m.npy");
    let (job, plan) = job(&place, "run");
    let rewritten = Ear::new(|event: &Event<'_>, _: &[Told]| {
        if matches!(event, Event::Unit { stage: Stage::Index, unit: "quantizer", .. }) {
            rewrite(&path);
        }
        false
    });
    let error =
        job.embed(&plan, &MapFile::new(place.path("from-job.npy")), &rewritten).expect_err("a source that changed");
    assert!(error.is_bad_input() && error.to_string().contains("v.npy"), "{error}");
    let told = rewritten.told();
    assert!(
        !told.iter().any(|(_, unit, _)| unit.starts_with("shard")),
        "rows of another source are on record: {told:?}"
    );
    // The source comes back as it was, with its time, as from a copy.
    restore(&path, &intact, time);
    let answer = run(&place, &command(&place, "run"));
    let right = answer.code == 0 && place.bytes("m.npy") == whole;
    let refused = answer.code == 1 && answer.stderr.contains("--restart");
    assert!(right || refused, "shards of other rows are gone on with: {} {}", answer.code, answer.stderr);
}

#[test]
fn a_source_cut_short_under_the_run() {
    let place = Place::new();
    for source in ["v.npy", "v.arrow", "v.parquet"] {
        for stage in ["scan", "index"] {
            // Rows enough to be read for a while.
            place.vectors(source, 60_000);
            let path = place.path(source);
            let (child, mut stderr) = start(&place, &format!("embed {source} -o m.npy --n-epochs 5 --threads 2"));
            wait_for(&mut stderr, started(stage));
            let file = std::fs::File::options().write(true).open(&path).expect("a source");
            file.set_len(std::fs::metadata(&path).expect("a source").len() / 3).expect("cut");
            let (code, events) = end(child, stderr);
            let (message, _) = failure(&events, stage);
            assert_eq!(code, 2, "{source}, {stage}: {message}");
            assert!(message.contains(source), "{source}, {stage}: {message}");
            assert!(!place.path("m.npy").exists());
            let _ = std::fs::remove_dir_all(place.path("m.npy.run"));
        }
    }
}

/// Columns are read again at the end: of other rows they must not stand beside the map.
#[test]
fn a_source_that_changes_before_the_output() {
    let place = Place::new();
    place.vectors("v.parquet", 3_000);
    let (child, mut stderr) = start(&place, "embed v.parquet -o m.parquet --keep label --n-epochs 3000 --threads 2");
    wait_for(&mut stderr, |event| event["event"] == "advance" && event["stage"] == "layout");
    let path = place.path("v.parquet");
    restore(&path, &std::fs::read(&path).expect("a source"), SystemTime::UNIX_EPOCH);
    let (code, events) = end(child, stderr);
    let (message, at) = failure(&events, "layout");
    assert_eq!((code, at.as_str()), (2, "output"), "{message}");
    assert!(message.contains("v.parquet"), "{message}");
    assert_eq!(place.names(), ["m.parquet.run", "v.parquet"]);
}

// Directories.

#[test]
fn a_run_directory_that_cannot_be_written() {
    let place = Place::new();
    place.vectors("v.npy", 500);
    let arguments = |dir: &str| format!("embed v.npy -o m.npy --n-epochs 5 --run-dir {dir} --quiet");
    let check = |answer: &Answer, dir: &str| {
        assert!([1, 2].contains(&answer.code), "{}", answer.stderr);
        assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
        assert!(answer.stderr.contains(dir), "no {dir} in {}", answer.stderr);
        assert!(!place.path("m.npy").exists() && !answer.stderr.contains("panicked"));
    };
    // A file in its place, or above it.
    std::fs::write(place.path("file"), "mine").expect("written");
    for dir in ["file", "file/run"] {
        check(&run(&place, &arguments(dir)), dir);
    }
    assert_eq!(place.bytes("file"), b"mine");
    // Permissions, where they bind.
    std::fs::create_dir(place.path("shut")).expect("a directory");
    let set = |mode: &str| Command::new("chmod").args([mode, "shut"]).current_dir(place.path(".")).status();
    assert!(set("555").expect("chmod runs").success());
    if std::fs::write(place.path("shut/probe"), "").is_ok() {
        std::fs::remove_file(place.path("shut/probe")).expect("removed");
        skipped("permissions do not bind this user");
    } else {
        for dir in ["shut", "shut/run"] {
            check(&run(&place, &arguments(dir)), dir);
        }
    }
    assert!(set("755").expect("chmod runs").success());
    // A file system that takes nothing, from the start or in the middle of it.
    let Some(small) = Small::new(&place, 64 << 20) else { return };
    let whole = run(&place, &arguments("whole"));
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    std::fs::rename(place.path("m.npy"), place.path("whole.npy")).expect("renamed");
    small.set("ro");
    check(&run(&place, &arguments("small/run")), "small/run");
    small.set("rw");
    let (child, mut stderr) = start(&place, "embed v.npy -o m.npy --n-epochs 5 --run-dir small/run");
    wait_for(&mut stderr, started("scan"));
    // Busy with files being written it says so: then this time it was too late.
    let shut = Small::mount(&["-o", "remount,ro"], &small.place);
    let (code, events) = end(child, stderr);
    if shut.is_ok() && code != 0 {
        let (message, _) = failure(&events, "scan");
        assert!(code == 1 && message.contains("small/run"), "{code}: {message}");
    }
    small.set("rw");
    let answer = run(&place, &format!("{} --force", arguments("small/run")));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(place.bytes("m.npy") == place.bytes("whole.npy"));
}

#[test]
fn a_run_directory_is_for_one_run_at_a_time() {
    let place = Place::new();
    place.vectors("v.npy", 3_000);
    let arguments = |map: &str| format!("embed v.npy -o {map} --n-epochs 1500 --threads 1 --run-dir run");
    let (child, mut stderr) = start(&place, &arguments("a.npy"));
    wait_for(&mut stderr, |event| event["event"] == "advance" && event["stage"] == "layout");
    let before = names(&place.path("run"));
    for more in ["", " --restart"] {
        let second = run(&place, &format!("{}{more}", arguments("b.npy")));
        assert_eq!(second.code, 1, "{}", second.stderr);
        assert!(second.stderr.contains("run") && second.stderr.contains("in use by process"), "{}", second.stderr);
    }
    let after: Vec<String> = names(&place.path("run")).into_iter().filter(|n| !n.contains(".state")).collect();
    assert_eq!(after, before.into_iter().filter(|n| !n.contains(".state")).collect::<Vec<_>>());
    assert!(!place.path("b.npy").exists() && !place.path("b.npy.part").exists());
    // The first is none the worse for it.
    assert_eq!(end(child, stderr).0, 0);
    assert_eq!(run(&place, &format!("{} --quiet", arguments("b.npy"))).code, 0, "free again");
    assert!(place.bytes("a.npy") == place.bytes("b.npy"));

    // A lock dies with its process.
    let (mut child, mut stderr) = start(&place, &format!("{} --restart --force", arguments("a.npy")));
    wait_for(&mut stderr, started("layout"));
    child.kill().expect("killed");
    child.wait().expect("an end");
    let answer = run(&place, &format!("{} --force", arguments("a.npy")));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stderr.contains("kept from an earlier run"), "{}", answer.stderr);
    assert!(place.bytes("a.npy") == place.bytes("b.npy"));
}

#[test]
fn two_runs_that_begin_together_on_one_directory() {
    let place = Place::new();
    place.vectors("v.npy", 2_000);
    let arguments = |map: &str| format!("embed v.npy -o {map}.npy --n-epochs 50 --threads 1 --run-dir run --quiet");
    for round in 0..3 {
        let children = ["a", "b"].map(|map| {
            let mut command = place.command(&format!("{} --force", arguments(map)));
            command.stderr(Stdio::piped()).spawn().expect("the binary runs")
        });
        let ends = children.map(|child| child.wait_with_output().expect("an end"));
        let codes = ends.iter().map(|end| end.status.code()).collect::<Vec<_>>();
        let told: String = ends.iter().map(|end| String::from_utf8_lossy(&end.stderr)).collect();
        // One at least has it; the other may come late enough to have it too.
        assert!(codes.contains(&Some(0)), "round {round}: {codes:?}: {told}");
        for (code, end) in codes.iter().zip(&ends) {
            let told = String::from_utf8_lossy(&end.stderr);
            assert!(*code == Some(0) || *code == Some(1) && told.contains("in use"), "round {round}: {told}");
        }
        std::fs::remove_dir_all(place.path("run")).expect("removed");
    }
    run(&place, &format!("{} --force", arguments("a")));
    run(&place, &format!("{} --force --restart", arguments("b")));
    assert!(place.bytes("a.npy") == place.bytes("b.npy"));
}

// Signals.

#[test]
fn a_stopped_layout_goes_on_from_its_epoch() {
    let place = Place::new();
    place.vectors("v.npy", 3_000);
    let arguments = "embed v.npy -o m.npy --n-epochs 6000 --threads 2";
    assert_eq!(run(&place, "embed v.npy -o whole.npy --n-epochs 6000 --quiet").code, 0);
    let mut before = 0;
    for (name, code) in [("TERM", 143), ("INT", 130), ("TERM", 143)] {
        let (child, mut stderr) = start(&place, arguments);
        let told = wait_for(&mut stderr, |event| {
            event["event"] == "advance" && event["stage"] == "layout" && event["done"].as_u64() > Some(before)
        });
        check_resumed(&told, before);
        signal(&child, name);
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).expect("text");
        let mut child = child;
        assert_eq!(child.wait().expect("an end").code(), Some(code), "{rest}");
        let manifest = Manifest::read(&place.path("m.npy.run")).expect("a manifest");
        let unit = &manifest.stages["layout"].units["checkpoint"];
        let epoch = unit.data["epoch"].as_u64().expect("an epoch");
        assert!(epoch > before && epoch < 6000, "{epoch} after {before}");
        assert_eq!(unit.files.len(), 1);
        before = epoch;
    }
    let (child, stderr) = start(&place, arguments);
    let (code, events) = end(child, stderr);
    assert_eq!(code, 0, "{events:?}");
    check_resumed(&events.iter().map(Value::to_string).collect::<Vec<_>>(), before);
    assert!(place.bytes("m.npy") == place.bytes("whole.npy"));
    assert!(!place.path("m.npy.run").exists());
}

/// The layout goes on from epoch `epoch`, if it is above 0.
fn check_resumed(told: &[String], epoch: u64) {
    let events: Vec<Value> = told.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let reused = events.iter().filter(|e| e["event"] == "unit" && e["stage"] == "layout" && e["reused"] == true);
    assert_eq!(reused.count(), usize::from(epoch > 0));
    let first = events.iter().find(|e| e["event"] == "advance" && e["stage"] == "layout").expect("an epoch");
    assert_eq!(first["done"].as_u64(), Some(epoch.max(1)), "where it goes on");
}

/// What a manifest says is under way, seen by another process, is what is resumed.
#[test]
fn a_run_directory_of_the_library_is_that_of_the_binary() {
    let place = Place::new();
    place.vectors("v.npy", ROWS);
    leave(&place, "run", &at_epoch(9));
    let manifest = Manifest::read(&place.path("run")).expect("a manifest");
    let (dir, opened) =
        RunDir::open(place.path("run"), manifest.config.clone(), manifest.sources.clone()).expect("ours");
    assert_eq!(opened, lowland_io::Opened::Resumed);
    assert_eq!(dir.units("layout"), ["checkpoint"]);
    drop(dir);
    let (child, stderr) = start(&place, &command(&place, "run").replace("--quiet", ""));
    let (code, events) = end(child, stderr);
    assert_eq!(code, 0, "{events:?}");
    check_resumed(&events.iter().map(Value::to_string).collect::<Vec<_>>(), 9);
}
