//! Run directories of `tests/data/run-v3`, made once and kept: this build must
//! go on from each to the map that was made then, or its format is another one
//! and must say so.
//!
//! ```text
//! v.npy        the source; its modification time is what the manifests say
//! index/       stopped after the index
//! layout/      stopped in the layout, with a checkpoint
//! complete/    finished, all stages kept
//! m.npy        the map
//! ../run-v1/   a manifest of format 1, by hand
//! ```
//!
//! They are made again with a new format of the run directory, or a new version
//! of lowland (a version goes on with its own runs only), by
//! `cargo run --release --example golden_runs`.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use lowland_io::Manifest;
use serde_json::Value;

use crate::harness::{TestDir, fixture};

/// The epoch of the checkpoint.
const STOPPED: u64 = 25;
const ARGUMENTS: &str = "embed v.npy -o m.npy --n-neighbors 5 --n-epochs 60";

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(&fixture("run-v3")).join(name)
}

/// Copies a directory's files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory");
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let name = entry.expect("an entry").file_name();
        std::fs::copy(from.join(&name), to.join(&name)).expect("copied");
    }
}

/// A place with the source as it was, and the run directory `run`.
fn given(run: &Path) -> TestDir {
    let place = TestDir::new();
    copy(run, &place.path("run"));
    let source = place.path("v.npy");
    std::fs::copy(golden("v.npy"), &source).expect("copied");
    let text = std::fs::read(place.path("run/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&text).expect("JSON");
    let modified = manifest["sources"][0]["modified"].as_u64().expect("nanoseconds");
    let file = std::fs::File::options().write(true).open(&source).expect("the source");
    file.set_modified(UNIX_EPOCH + Duration::from_nanos(modified)).expect("set");
    place
}

#[test]
fn earlier_runs_are_resumed() {
    let stages = ["scan", "index", "neighbors", "affinity", "init", "layout"];
    for (run, finished) in [("index", 2), ("layout", 5), ("complete", 6)] {
        let place = given(&golden(run));
        let manifest = Manifest::read(&place.path("run")).expect("a manifest of this format");
        let arguments = format!("{ARGUMENTS} --run-dir run --log-format json");
        if manifest.config["version"] != env!("CARGO_PKG_VERSION") {
            // Another version may find another map. It says so, and these are to be made again.
            place.refused(&arguments.replace("--log-format json", ""), &["version", "--restart"]);
            continue;
        }
        let answer = place.ok(&arguments);
        assert!(place.bytes("m.npy") == std::fs::read(golden("m.npy")).expect("the map"), "{run}: another map");
        let events: Vec<Value> = answer.stderr.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        let ended = events.iter().filter(|e| e["event"] == "end" && e["reused"] == true);
        let reused: Vec<&str> = ended.filter_map(|e| e["report"]["stage"].as_str()).collect();
        assert_eq!(reused, stages[..finished], "{run}");
        let first = events.iter().find(|e| e["event"] == "advance" && e["stage"] == "layout");
        match run {
            "layout" => assert_eq!(first.expect("an epoch")["done"], STOPPED, "where it goes on"),
            "index" => assert_eq!(first.expect("an epoch")["done"], 1),
            _ => assert!(first.is_none(), "{first:?}"),
        }
    }
}

#[test]
fn formats_of_other_versions_are_refused() {
    let complete = golden("complete");
    let place = TestDir::new();
    copy(&complete, &place.path("later"));
    let text = std::fs::read_to_string(place.path("later/manifest.json")).expect("a manifest");
    let (body, _) = text.rsplit_once(",\n  \"xxh3\"").expect("a checksum");
    write_manifest(&place.path("later"), &body.replacen("\"format\": 3", "\"format\": 4", 1));
    for (run, version) in [(Path::new(&fixture("run-v1")), 1), (&place.path("later"), 4)] {
        let place = given(run);
        let before = std::fs::read(place.path("run/manifest.json")).expect("a manifest");
        let version = format!("format version {version}");
        place.refused(&format!("{ARGUMENTS} --run-dir run"), &["manifest.json", &version, "3", "--restart"]);
        assert!(place.bytes("run/manifest.json") == before, "it is left as it is");
        let listed = place.ok("runs").stdout;
        assert!(listed.contains(&version), "{listed}");
        place.ok(&format!("{ARGUMENTS} --run-dir run --restart --quiet"));
        assert!(Manifest::read(&place.path("run")).is_ok());
    }
}

/// Writes a manifest of these fields with its checksum.
fn write_manifest(dir: &Path, body: &str) {
    let path = dir.join("manifest.json");
    std::fs::write(&path, body).expect("written");
    let sum = lowland_io::stamp(&path).expect("a checksum").xxh3;
    std::fs::write(&path, format!("{body},\n  \"xxh3\": \"{sum:016x}\"\n}}\n")).expect("written");
}
