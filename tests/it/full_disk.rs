//! A full disk: the error names the stage's file and asks for space, no partial file is left, and with space the same
//! command gives the bytes of a run that always had it.

use std::process::Stdio;

use lowland_datasets::OutputDtype;
use lowland_io::Manifest;
use serde_json::Value;

use crate::harness::jobs::run;
use crate::harness::{SmallDisk, TestDir, end, failure, names, skipped, start, started, wait_for};

/// Bytes of whole pages.
fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

const ALL: [&str; 7] = ["scan", "index", "neighbors", "affinity", "init", "layout", "output"];

/// A run on a disk that, once the run has begun, is of `full` bytes only; the exit code and the events from there.
fn filled(place: &TestDir, small: &SmallDisk, arguments: &str, full: u64) -> (i32, Vec<Value>) {
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

/// Checks a disk that becomes full in each of `stages` in turn, after the run has begun with enough space.
fn check_full(rows: u64, dim: usize, options: &str, stages: &[&str]) {
    const ROOM: u64 = 256 << 20;
    let place = TestDir::new();
    place.wide_vectors("v.npy", rows, dim, OutputDtype::F32);
    let Some(small) = SmallDisk::new(&place, ROOM) else { return };
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
fn a_disk_that_fills_up_in_any_stage_is_told_and_the_run_resumes() {
    check_full(10_000, 32, "--n-epochs 10 --threads 2", &ALL);
}

/// By lists: FAISS writes a file of its own.
#[test]
fn a_disk_that_fills_up_with_a_probed_graph_is_told_and_the_run_resumes() {
    let options = "--n-epochs 4 --n-neighbors 5 --recall 0.5 --threads 2";
    check_full(66_000, 4, options, &["index", "affinity"]);
}

/// No space: a file-size limit that the run's larger files exceed.
#[test]
fn a_file_that_cannot_grow_is_told_like_a_full_disk() {
    let place = TestDir::new();
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
fn a_closed_pipe_is_no_failure() {
    let place = TestDir::new();
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
