//! Run directories: one that cannot be written is named, and one run at a time works in it, whether it is of the
//! library or of the program.

use std::io::BufReader;
use std::process::{Command, Stdio};

use lowland_io::{Manifest, RunDir};
use serde_json::Value;

use crate::harness::jobs::{LONG, ROWS, at_epoch, command, leave, run};
use crate::harness::{
    CommandOutput, SmallDisk, TestDir, check_layout_resumed, end, failure, names, signal, skipped, start, started,
    wait_for,
};

#[test]
fn a_run_directory_that_cannot_be_written_is_named() {
    let place = TestDir::new();
    place.vectors("v.npy", 500);
    let arguments = |dir: &str| format!("embed v.npy -o m.npy --n-epochs 5 --run-dir {dir} --quiet");
    let check = |answer: &CommandOutput, dir: &str| {
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
    let Some(small) = SmallDisk::new(&place, 64 << 20) else { return };
    let whole = run(&place, &arguments("whole"));
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    std::fs::rename(place.path("m.npy"), place.path("whole.npy")).expect("renamed");
    small.set("ro");
    check(&run(&place, &arguments("small/run")), "small/run");
    small.set("rw");
    let (child, mut stderr) = start(&place, "embed v.npy -o m.npy --n-epochs 5 --run-dir small/run");
    wait_for(&mut stderr, started("scan"));
    // Busy with files being written it says so: then this time it was too late.
    let shut = SmallDisk::mount(&["-o", "remount,ro"], &small.place);
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
fn a_run_directory_is_used_by_one_run_at_a_time() {
    let place = TestDir::new();
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
fn a_run_directory_in_use_is_left_alone() {
    let place = TestDir::new();
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
fn of_two_runs_that_begin_together_in_one_directory_one_succeeds() {
    let place = TestDir::new();
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

/// What a manifest says is under way, seen by another process, is what is resumed.
#[test]
fn the_program_resumes_a_run_of_the_library() {
    let place = TestDir::new();
    place.vectors("v.npy", ROWS);
    leave(&place, "run", &at_epoch(9));
    let manifest = Manifest::read(&place.path("run")).expect("a manifest");
    let (dir, opened) =
        RunDir::open(place.path("run"), manifest.config.clone(), manifest.sources.clone()).expect("ours");
    assert_eq!(opened, lowland_io::RunOrigin::Resumed);
    assert_eq!(dir.units("layout"), ["checkpoint"]);
    drop(dir);
    let (child, stderr) = start(&place, &command(&place, "run").replace("--quiet", ""));
    let (code, events) = end(child, stderr);
    assert_eq!(code, 0, "{events:?}");
    check_layout_resumed(&events.iter().map(Value::to_string).collect::<Vec<_>>(), 9);
}
