//! Sources that change during a run: the error names the file, and neither the old nor the new rows are mixed into a
//! map.

use std::path::Path;
use std::time::SystemTime;

use lowland::{Event, MapFile, Stage};

use crate::harness::jobs::{ROWS, command, job, run};
use crate::harness::{TestDir, UnitEvent, UnitLog, end, failure, start, started, wait_for};

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
fn a_source_that_changes_between_passes_is_refused() {
    let place = TestDir::new();
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
fn units_of_a_changed_source_are_not_reused() {
    let place = TestDir::new();
    place.vectors("v.npy", ROWS);
    let path = place.path("v.npy");
    let (intact, time) = (std::fs::read(&path).expect("a source"), modified(&path));
    assert_eq!(run(&place, &command(&place, "whole")).code, 0);
    let whole = place.bytes("m.npy");
    let (job, plan) = job(&place, "run");
    let rewritten = UnitLog::new(|event: &Event<'_>, _: &[UnitEvent]| {
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
fn a_source_truncated_during_the_run_is_refused() {
    let place = TestDir::new();
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
fn a_source_that_changes_before_the_output_is_refused() {
    let place = TestDir::new();
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
