//! A run that was stopped, interrupted or killed resumes: what was finished is kept, and the same command gives the
//! same bytes as a run that was never stopped. `units` has the stages.

use std::io::{BufReader, Read};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use lowland::{Config, Event, Job, MapFile, RunOptions, Stage};
use lowland_datasets::{DatasetKind, Mixture};
use lowland_engine::Error;
use lowland_io::Manifest;
use serde_json::Value;

use crate::harness::jobs::{LONG, run};
use crate::harness::{
    StopWhen, TestDir, TestTable, attempt, check_layout_resumed, check_resumed, end, files, inputs_of, mixture,
    open_run, plan_of, quick, run_plan, signal, smallest, start, wait_for,
};

#[test]
fn resume_after_a_stop_anywhere_gives_the_same_bytes() {
    let table = mixture(2_000, 6);
    let mut plan = plan_of(&Config { batch_rows: Some(300), ..quick() }, &table);
    *plan.portions().shard_rows = 450;
    let whole = run_plan(plan.clone(), &inputs_of(&table));
    for stage in Stage::ALL {
        let started = move |e: &Event<'_>| matches!(e, Event::Start { stage: s, .. } if *s == stage);
        let ended = move |e: &Event<'_>| matches!(e, Event::End { report, .. } if report.stage == stage);
        check_resumed(&format!("{stage:?} begins"), &table, &plan, &whole, false, &started);
        check_resumed(&format!("{stage:?} ends"), &table, &plan, &whole, true, &ended);
        if !matches!(stage, Stage::Quality) {
            let under_way = move |e: &Event<'_>| matches!(e, Event::Advance { stage: s, .. } if *s == stage);
            check_resumed(&format!("{stage:?} under way"), &table, &plan, &whole, true, &under_way);
        }
    }
    for epoch in [7, 20] {
        let in_epoch =
            move |e: &Event<'_>| matches!(e, Event::Advance { stage: Stage::Layout, done } if *done == epoch);
        check_resumed(&format!("epoch {epoch}"), &table, &plan, &whole, false, &in_epoch);
    }
    // At any event, safe points included.
    let events = AtomicU64::new(0);
    let count = StopWhen(|_: &Event<'_>| {
        events.fetch_add(1, Ordering::Relaxed);
        false
    });
    let place = tempfile::tempdir().expect("a directory");
    attempt(&plan, &inputs_of(&table), &open_run(place.path(), &plan), &count).expect("the run succeeds");
    let all = events.into_inner();
    for at in (0..all).step_by((all as usize / 25).max(1)) {
        let seen = AtomicU64::new(0);
        let stop = |_: &Event<'_>| seen.fetch_add(1, Ordering::Relaxed) >= at;
        check_resumed(&format!("event {at} of {all}"), &table, &plan, &whole, at % 2 == 0, &stop);
    }
}

#[test]
fn resume_after_repeated_stops_gives_the_same_bytes() {
    let table = mixture(2_000, 6);
    let plan = plan_of(&quick(), &table);
    let whole = run_plan(plan.clone(), &inputs_of(&table));
    let place = tempfile::tempdir().expect("a directory");
    for attempts in 0.. {
        assert!(attempts < 300, "it never ends");
        let dir = open_run(place.path(), &plan);
        let seen = AtomicU64::new(0);
        let stop = StopWhen(|_: &Event<'_>| seen.fetch_add(1, Ordering::Relaxed) >= attempts * attempts);
        match attempt(&plan, &inputs_of(&table), &dir, &stop) {
            Err(Error::Cancelled { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok((_, map)) => {
                assert!(attempts > 3);
                assert!(map == whole.map, "the map differs");
                assert!(files(&dir) == whole.files());
                break;
            }
        }
    }
}

#[test]
fn resume_under_another_budget_gives_the_same_map() {
    let table = mixture(20_000, 4);
    let config = Config { n_epochs: Some(5), ..quick() };
    let (small, large) = (smallest(&Config { threads: Some(1), ..config.clone() }, &table), plan_of(&config, &table));
    let whole = run_plan(large.clone(), &inputs_of(&table));
    let place = tempfile::tempdir().expect("a directory");
    let dir = open_run(place.path(), &small);
    let stop = StopWhen(|e: &Event<'_>| matches!(e, Event::Start { stage: Stage::Affinity, .. }));
    attempt(&small, &inputs_of(&table), &dir, &stop).expect_err("stopped");
    let (_, map) = attempt(&large, &inputs_of(&table), &dir, &()).expect("it goes on");
    assert!(map == whole.map);
}

/// Starts a run and sends it the signal `name` in `stage`; gives the exit code and what it printed afterwards.
fn interrupted(place: &TestDir, arguments: &str, stage: &str, name: &str) -> (i32, String) {
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
fn resume_after_an_interrupt_gives_the_same_bytes() {
    let place = TestDir::new();
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
    for words in ["m.parquet.run", "n_epochs was 4000", "3999", "--restart"] {
        assert!(other.stderr.contains(words), "no {words} in {}", other.stderr);
    }
    let told = place.ok("embed v.parquet -o m.parquet --n-epochs 4000 --threads 1 --memory 1GiB");
    assert!(told.stderr.contains("kept from an earlier run"), "{}", told.stderr);
    assert!(place.bytes("m.parquet") == place.bytes("whole.parquet"), "the resumed map differs");
    assert!(!place.path("m.parquet.run").exists(), "removed on success");
}

#[test]
fn resume_after_kill_gives_the_same_bytes() {
    let place = TestDir::new();
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
fn resume_after_a_signal_starts_at_the_epoch_of_the_checkpoint() {
    let place = TestDir::new();
    place.vectors("v.npy", 3_000);
    let arguments = "embed v.npy -o m.npy --n-epochs 6000 --threads 2";
    assert_eq!(run(&place, "embed v.npy -o whole.npy --n-epochs 6000 --quiet").code, 0);
    let mut before = 0;
    for (name, code) in [("TERM", 143), ("INT", 130), ("TERM", 143)] {
        let (child, mut stderr) = start(&place, arguments);
        let told = wait_for(&mut stderr, |event| {
            event["event"] == "advance" && event["stage"] == "layout" && event["done"].as_u64() > Some(before)
        });
        check_layout_resumed(&told, before);
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
    check_layout_resumed(&events.iter().map(Value::to_string).collect::<Vec<_>>(), before);
    assert!(place.bytes("m.npy") == place.bytes("whole.npy"));
    assert!(!place.path("m.npy.run").exists());
}

#[test]
fn resume_with_a_changed_source_is_refused() {
    let place = TestDir::new();
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
fn an_interrupted_pipe_leaves_nothing() {
    let place = TestDir::new();
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

/// Stops the run when the layout begins.
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
    let place = TestDir::new();
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
    assert!(refused.contains("whose seed was 1, and this run's is 2"), "{refused}");
    let same = job_of(1);
    let report = same.embed(&same.plan().expect("a plan"), &MapFile::new(place.path("m.npy")), &()).expect("goes on");
    assert!(report.reused.contains(&Stage::Neighbors), "{:?}", report.reused);
}

/// Vectors that are in no file have no fingerprint: stages of others must not be taken for theirs.
#[test]
fn stages_of_vectors_in_memory_are_not_reused() {
    let place = TestDir::new();
    let embed = |name: &str, dim, seed| {
        let mut job = Job::new();
        let kind = DatasetKind::Mixture(Mixture { components: 5, ..Mixture::default() });
        job.source = Some(TestTable::of(kind, 400, dim, seed));
        job.config = Config { n_epochs: Some(5), memory: 1 << 30, ..Config::default() };
        job.run = RunOptions::kept(place.path("run"));
        let plan = job.plan().expect("a plan");
        job.embed(&plan, &MapFile::new(place.path(name)), &()).expect("a map").reused
    };
    assert!(embed("a.npy", 6, 1).is_empty());
    assert!(embed("b.npy", 6, 2).is_empty(), "another table of the same shape");
    assert!(place.bytes("a.npy") != place.bytes("b.npy"));
}
