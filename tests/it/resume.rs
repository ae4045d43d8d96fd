//! Interruptions and failures of the machine: what was finished is kept, and
//! the same command goes on from there to the same bytes.

use std::io::{BufReader, Read};
use std::process::Stdio;

use lowland::{Config, Event, Job, MapFile, RunOptions, Stage};
use lowland_datasets::{Kind, Mixture};

use crate::kit::{Place, signal, skipped, wait_for};
use crate::stages::Table;

/// Long enough in the layout to be met there.
const LONG: &str = "--n-epochs 4000 --threads 2";

/// Starts a run and sends it `name` in `stage`; gives the exit code and the rest of what it told.
fn interrupted(place: &Place, arguments: &str, stage: &str, name: &str) -> (i32, String) {
    let mut command = place.command(&format!("{arguments} --log-format json"));
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut stderr, |event| event["event"] == "advance" && event["stage"] == stage);
    let asked = std::time::Instant::now();
    signal(&child, name);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    let status = child.wait().expect("an end");
    assert!(asked.elapsed().as_secs_f64() < 5.0, "it took {:?} to stop", asked.elapsed());
    (status.code().unwrap_or(-1), rest)
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    let place = Place::new();
    place.vectors("v.parquet", 3_000);
    place.ok(&format!("embed v.parquet -o whole.parquet {LONG} --quiet"));

    let command = format!("embed v.parquet -o m.parquet {LONG}");
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let (found, told) = interrupted(&place, &command, "layout", name);
        assert_eq!(found, code, "{told}");
        for words in ["layout", "scan, index, neighbors, affinity, init", "m.parquet.run", "same command"] {
            assert!(told.contains(words), "no {words} in {told}");
        }
        assert!(place.path("m.parquet.run/manifest.json").exists());
        assert!(!place.path("m.parquet").exists());
        assert!(!place.names().iter().any(|n| n.ends_with(".part")), "{:?}", place.names());
    }

    // Another configuration must not go on from there; what does not matter may differ.
    let other = place.run("embed v.parquet -o m.parquet --n-epochs 3999");
    assert_eq!(other.code, 2, "{}", other.stderr);
    for words in ["m.parquet.run", "n_epochs = 4000", "3999", "--restart"] {
        assert!(other.stderr.contains(words), "no {words} in {}", other.stderr);
    }
    let told = place.ok("embed v.parquet -o m.parquet --n-epochs 4000 --threads 1 --memory 1GiB");
    assert!(told.stderr.contains("kept from an earlier run"), "{}", told.stderr);
    assert!(place.bytes("m.parquet") == place.bytes("whole.parquet"), "the resumed map differs");
    assert!(!place.path("m.parquet.run").exists(), "removed on success");
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let place = Place::new();
    place.vectors("v.arrow", 3_000);
    place.ok("embed v.arrow -o whole.parquet --n-epochs 1500 --quiet");
    for stage in ["scan", "neighbors", "affinity", "layout"] {
        let (code, _) = interrupted(&place, "embed v.arrow -o m.parquet --n-epochs 1500 --threads 1", stage, "KILL");
        assert_eq!(code, -1, "ended by the signal");
        assert!(!place.path("m.parquet").exists());
    }
    place.ok("embed v.arrow -o m.parquet --n-epochs 1500 --quiet");
    assert!(place.bytes("m.parquet") == place.bytes("whole.parquet"), "the resumed map differs");
    assert_eq!(place.names(), ["m.parquet", "v.arrow", "whole.parquet"]);
}

#[test]
fn a_changed_source_is_not_gone_on_with() {
    let place = Place::new();
    place.vectors("v.npy", 1_000);
    place.ok("embed v.npy -o m.npy --n-epochs 5 --keep-run --quiet");
    assert!(place.path("m.npy.run").exists());
    place.vectors("v.npy", 1_001);
    let refused = place.run("embed v.npy -o m.npy --n-epochs 5 --force");
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("sources[0]") && refused.stderr.contains("--restart"), "{}", refused.stderr);
    place.ok("embed v.npy -o m.npy --n-epochs 5 --force --restart --quiet");
    assert!(!place.path("m.npy.run").exists());
}

#[test]
fn a_run_directory_in_use_is_left_alone() {
    let place = Place::new();
    place.vectors("v.npy", 3_000);
    let mut command = place.command(&format!("embed v.npy -o a.npy --run-dir run {LONG} --log-format json"));
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut stderr, |event| event["event"] == "advance" && event["stage"] == "layout");
    let second = place.run(&format!("embed v.npy -o b.npy --run-dir run {LONG}"));
    signal(&child, "TERM");
    assert_eq!(child.wait().expect("an end").code(), Some(143));
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(second.stderr.contains("in use by process"), "{}", second.stderr);
}

#[test]
fn an_interrupted_pipe_leaves_nothing() {
    let place = Place::new();
    let mut command = place.command("embed - -o m.npy");
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut first = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut first).expect("a line");
    assert!(first.contains("cannot be resumed"), "{first}");
    // The pipe stays open and silent.
    signal(&child, "INT");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert!(place.names().is_empty(), "{:?}", place.names());
}

/// No space: a file-size limit that the run's larger files exceed.
#[test]
fn no_space_left() {
    let place = Place::new();
    place.vectors("v.npy", 20_000);
    let limited = |blocks: u32| {
        // The limit's signal is ignored, so that the write fails as on a full disk.
        let script =
            format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" embed v.npy -o m.parquet --n-epochs 20 --quiet");
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_lowland")]).current_dir(place.path("."));
        let output = shell.output().expect("bash runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // The vectors are 1,250 KiB, the graph 2,500: the index fits, the graph does not.
    let (code, told) = limited(1_600);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    for words in ["lowland: error: m.parquet.run/", "make space", "scan", "kept in m.parquet.run"] {
        assert!(told.contains(words), "no {words} in {told}");
    }
    place.ok("embed v.npy -o m.parquet --n-epochs 20 --quiet");
    place.ok("embed v.npy -o whole.parquet --n-epochs 20 --quiet");
    assert!(place.bytes("m.parquet") == place.bytes("whole.parquet"));

    if std::path::Path::new("/dev/full").exists() {
        let answer = place.run("embed v.npy -o n.npy --n-epochs 5 --report /dev/full");
        assert_eq!(answer.code, 1, "{}", answer.stderr);
        assert!(answer.stderr.contains("/dev/full: cannot write") && answer.stderr.contains("n.npy is written"));
    } else {
        skipped("no /dev/full");
    }
}

#[test]
fn a_reader_who_has_gone_is_no_failure() {
    let place = Place::new();
    place.vectors("v.npy", 300);
    let mut command = place.command("inspect v.npy");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop(child.stdout.take());
    assert!(child.wait().expect("an end").success());
    let (read, write) = std::io::pipe().expect("a pipe");
    drop(read);
    let status = place.command("embed v.npy -o m.npy --n-epochs 5 --quiet --report -").stdout(write).status();
    assert!(status.expect("an end").success());
}

#[test]
fn a_damaged_run_directory_says_what_to_do() {
    let place = Place::new();
    place.vectors("v.npy", 1_000);
    place.ok("embed v.npy -o m.npy --n-epochs 5 --keep-run --quiet");
    let manifest = place.path("m.npy.run/manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("a manifest").replace("\"scan\"", "\"scam\"");
    std::fs::write(&manifest, text).expect("written");
    let answer = place.run("embed v.npy -o m.npy --n-epochs 5 --force");
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    assert!(answer.stderr.contains("manifest.json") && answer.stderr.contains("--restart"), "{}", answer.stderr);
    place.ok("embed v.npy -o m.npy --n-epochs 5 --force --restart --quiet");
}

#[test]
fn a_flipped_bit_in_any_stage_file_is_found_and_named() {
    let place = Place::new();
    place.vectors("v.npy", 1_000);
    let command = "embed v.npy -o m.npy --n-epochs 5 --keep-run --force --quiet";
    place.ok(command);
    let run = place.path("m.npy.run");
    let files = ["training.f32", "lists.ivf", "lists.table", "index.faiss", "neighbors-000.bin", "truth.bin"];
    for file in files.into_iter().chain(["edges-000.arrow", "init.f32", "positions.f32"]) {
        let path = run.join(file);
        let whole = std::fs::read(&path).expect("a finished stage's file");
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 4;
        std::fs::write(&path, &damaged).expect("written");
        let answer = place.run(command);
        assert_eq!(answer.code, 1, "{file}: {}", answer.stderr);
        assert!(answer.stderr.contains(file) && answer.stderr.contains("--restart"), "{file}: {}", answer.stderr);
        std::fs::write(&path, &whole).expect("written");
    }
    place.ok(command);
}

/// A run that is told to stop when the layout begins.
struct StopBeforeLayout;

impl lowland::Observer for StopBeforeLayout {
    fn event(&self, event: &Event<'_>) -> std::ops::ControlFlow<()> {
        match event {
            Event::Start { stage: Stage::Layout, .. } => std::ops::ControlFlow::Break(()),
            _ => std::ops::ControlFlow::Continue(()),
        }
    }
}

/// A job that could record its config in place of the plan's would go on from another seed's stages.
#[test]
fn a_run_directory_is_identified_by_the_plan_that_runs() {
    let place = Place::new();
    place.vectors("v.npy", 500);
    let job_of = |seed| {
        let mut job = Job::new();
        job.run = RunOptions::beside(&place.path("m.npy"));
        let source = place.path("v.npy");
        job.source = Some(lowland::open(&[source.to_str().expect("text")], None).expect("a source"));
        job.config = Config { seed, n_epochs: Some(5), memory: 1 << 30, ..Config::default() };
        job
    };
    let mut job = job_of(1);
    let plan = job.plan().expect("a plan");
    job.config.seed = 2;
    assert!(
        job.embed(&plan, &MapFile::new(place.path("m.npy")), &StopBeforeLayout).expect_err("stopped").is_cancelled()
    );

    let other = job_of(2);
    let refused = other
        .embed(&other.plan().expect("a plan"), &MapFile::new(place.path("m.npy")), &())
        .expect_err("another seed's run")
        .to_string();
    assert!(refused.contains("seed = 1") && refused.contains("now it is 2"), "{refused}");
    let same = job_of(1);
    let report = same.embed(&same.plan().expect("a plan"), &MapFile::new(place.path("m.npy")), &()).expect("goes on");
    assert!(report.reused.contains(&Stage::Neighbors), "{:?}", report.reused);
}

/// Vectors that are in no file have no fingerprint: stages of others must not be taken for theirs.
#[test]
fn stages_of_vectors_that_are_in_no_file_are_not_gone_on_with() {
    let place = Place::new();
    let embed = |name: &str, dim, seed| {
        let mut job = Job::new();
        let kind = Kind::Mixture(Mixture { components: 5, ..Mixture::default() });
        job.source = Some(Table::of(kind, 400, dim, seed));
        job.config = Config { n_epochs: Some(5), memory: 1 << 30, ..Config::default() };
        job.run = RunOptions::kept(place.path("run"));
        let plan = job.plan().expect("a plan");
        job.embed(&plan, &MapFile::new(place.path(name)), &()).expect("a map").reused
    };
    assert!(embed("a.npy", 6, 1).is_empty());
    assert!(embed("b.npy", 6, 2).is_empty(), "another table of the same shape");
    assert!(place.bytes("a.npy") != place.bytes("b.npy"));
}
