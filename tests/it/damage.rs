//! Damaged files of a run directory: the error names the file and the way out, nothing of the file is used, and with
//! the file repaired the same command gives the bytes of a run without damage.

use std::path::Path;

use lowland_io::Manifest;

use crate::harness::jobs::{ROWS, at_epoch, command, leave, run};
use crate::harness::{Lcg, StopRule, TestDir, after, names};

/// What the manifest says of the unit's files.
fn files_of(dir: &Path, stage: &str, unit: &str) -> Vec<String> {
    let manifest = Manifest::read(dir).expect("a manifest");
    manifest.stages[stage].units[unit].files.keys().cloned().collect()
}

#[test]
fn a_damaged_file_is_named_and_never_used() {
    let place = TestDir::new();
    place.vectors("v.npy", ROWS);
    assert_eq!(run(&place, &command(&place, "kept")).code, 0);
    let whole = place.bytes("m.npy");
    // Each leaves one more kind of unit; with it its stage's, and the files of the stages before.
    let stops: [(&str, &str, &str, StopRule<'_>); 5] = [
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

    let mut draws = Lcg(11);
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
    let place = TestDir::new();
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
    let mut draws = Lcg(3);
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
fn restart_replaces_a_damaged_run() {
    let place = TestDir::new();
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

#[test]
fn a_changed_manifest_is_named_and_restart_helps() {
    let place = TestDir::new();
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
    let place = TestDir::new();
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
