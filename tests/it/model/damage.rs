//! What happens to the directory of a model: it is moved, copied, made read-only, damaged, or of a later format.

use super::{FIT, Table, copy, current, export, files, fitted, json, objects, update};
use crate::harness::{Lcg, TestDir};

/// A model with two versions, a tag, a delta, and a kept column.
fn two() -> (TestDir, Table) {
    let (place, table) = (TestDir::new(), Table::of(0..600));
    table.write(&place, "t.arrow");
    place.ok(&format!("embed t.arrow --model m --keep label {FIT}"));
    let table = table.without(0..10).changing(50..53).and(Table::of(600..620));
    update(&place, &table, "--run-id second");
    place.ok("tag m good 1 --quiet");
    (place, table)
}

#[test]
fn a_flipped_bit_anywhere_is_named() {
    let (place, _) = two();
    place.ok("verify m");
    let mut draws = Lcg(17);
    let all = files(&place.path("m"));
    assert!(all.keys().filter(|name| name.starts_with("data/")).count() >= 14, "{:?}", all.keys());
    for (name, intact) in all.iter().filter(|(name, _)| *name != "LOCK") {
        let path = place.path("m").join(name);
        // The first byte, the last, and one in between.
        let places = [0, intact.len() - 1, draws.below(intact.len())];
        for byte in places {
            let mut flipped = intact.clone();
            flipped[byte] ^= 1 << draws.below(8);
            std::fs::write(&path, &flipped).expect("written");
            let told = place.run("verify m --json");
            assert!(told.code == 1 || told.code == 2, "{name}, byte {byte}: {}: {}", told.code, told.stderr);
            assert!((told.stdout + &told.stderr).contains(name), "{name}, byte {byte}: {}", told.stderr);
            assert!(!told.stderr.contains("panicked"), "{name}: {}", told.stderr);
            // What reads the file either does not need these bytes, or says something; it never panics.
            for arguments in [
                "export m -o e.arrow --force --quiet",
                "versions m",
                "transform --model m t.arrow -o p.npy --force --quiet",
            ] {
                let told = place.run(arguments);
                assert!([0, 1, 2].contains(&told.code), "{arguments}: {name}, byte {byte}: {}", told.stderr);
                assert!(!told.stderr.contains("panicked"), "{arguments}: {name}: {}", told.stderr);
            }
            let _ = std::fs::remove_dir_all(place.path("p.npy.run"));
        }
        for short in [&intact[..intact.len() - 1], &[]] {
            std::fs::write(&path, short).expect("written");
            let told = place.run("verify m --json");
            let is_named = (told.stdout + &told.stderr).contains(name) || told.stderr.contains("not a model");
            assert!(told.code != 0 && is_named, "{name}, cut: {}", told.stderr);
            let told = place.run("export m -o e.arrow --force --quiet");
            assert!(!told.stderr.contains("panicked"), "{name}, cut: {}", told.stderr);
        }
        if name.starts_with("data/") {
            std::fs::remove_file(&path).expect("removed");
            let told = place.run("verify m --json");
            assert!(told.code == 1 && told.stdout.contains(name), "{name}, removed: {}", told.stderr);
            assert!(json(&told)["damaged"].as_array().is_some_and(|damaged| damaged.len() == 1), "{}", told.stdout);
        }
        std::fs::write(&path, intact).expect("written");
    }
    place.ok("verify m");
}

#[test]
fn an_update_does_not_build_on_a_damaged_file() {
    let (place, table) = two();
    table.and(Table::of(620..640)).write(&place, "t.arrow");
    let before = files(&place.path("m"));
    for (name, intact) in before.iter().filter(|(name, _)| name.starts_with("data/")) {
        // The files of the first version alone are not read, and the vectors of the base are `verify`'s.
        let record = String::from_utf8_lossy(&before["versions/000002.json"]);
        let is_named = record.contains(&name["data/".len()..]);
        if !is_named || name.ends_with(".vectors") {
            continue;
        }
        let mut flipped = intact.clone();
        flipped[intact.len() / 2] ^= 4;
        std::fs::write(place.path("m").join(name), &flipped).expect("written");
        let told = place.run("update m --source t.arrow --id id --run-id tonight");
        assert!(told.code == 1 || told.code == 2, "{name}: {}: {}", told.code, told.stderr);
        assert!(told.stderr.contains(name) && !told.stderr.contains("panicked"), "{name}: {}", told.stderr);
        std::fs::write(place.path("m").join(name), intact).expect("written");
        assert_eq!(current(&place), 2);
    }
    place.ok("update m --source t.arrow --id id --run-id tonight --quiet");
    place.ok("verify m --quiet");
}

/// Runs `arguments` on a copy of `m` with a flipped bit in the middle of the object of a role of version 2.
fn with_a_flipped_bit(place: &TestDir, role: &str, arguments: &str) -> (String, crate::harness::CommandOutput) {
    let name = objects(&place.path("m"), 2)[role]["name"].as_str().expect("a name").to_string();
    let path = place.path("m/data").join(&name);
    let intact = std::fs::read(&path).expect("an object");
    let mut flipped = intact.clone();
    flipped[intact.len() / 2] ^= 1;
    std::fs::write(&path, &flipped).expect("written");
    let told = place.run(arguments);
    std::fs::write(&path, &intact).expect("written");
    (name, told)
}

#[test]
fn nothing_is_told_of_a_version_whose_files_are_damaged() {
    let (place, table) = two();
    table.and(Table::of(620..640)).write(&place, "t.arrow");
    update(&place, &Table::of(0..600), "--move dirty --mode transform --max-shrink 1 --run-id third");
    place.ok("rollback m --to 2 --quiet");
    let map = ["positions", "delta-positions", "tombstones", "graph", "delta-graph", "patch", "lists", "delta-lists"];
    let ids = ["ids", "delta-ids", "keys", "delta-keys"];
    let cases = [
        ("export m -o e.arrow --force --quiet", [&map[..], &ids, &["added", "kept"]].concat()),
        ("transform --model m t.arrow -o p.npy --force --quiet", [&map[..], &["quantizer"]].concat()),
        ("diff m 1 2", [&map[..3], &ids, &["lists", "delta-added"]].concat()),
        // Rows of the third version move from where they were in the second.
        ("export m -o e.arrow --version 3 --force --quiet", vec!["positions", "delta-positions", "delta-keys"]),
    ];
    for (arguments, roles) in cases {
        place.ok(arguments);
        for role in roles.into_iter().filter(|role| !objects(&place.path("m"), 2)[*role].is_null()) {
            let (name, told) = with_a_flipped_bit(&place, role, arguments);
            assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{arguments}: {role}: {}", told.stderr);
            // Blocks of kept columns have checksums of their own.
            let file = format!("data/{name}");
            let words = [file.as_str(), "rollback", if role == "kept" { "damaged" } else { role }];
            for word in words {
                assert!(told.stderr.contains(word), "{arguments}: {role}: no {word} in {}", told.stderr);
            }
            assert_eq!(told.stderr.lines().count(), 1, "{arguments}: {role}: {}", told.stderr);
        }
    }
    // The vectors are read by lists, and are compared by `verify`.
    let (name, told) = with_a_flipped_bit(&place, "vectors", "verify m");
    assert!(told.code == 1 && told.stdout.contains(&name), "{}", told.stderr);
}

#[test]
fn a_rollback_mends_a_damaged_current_version() {
    let (place, table) = two();
    table.and(Table::of(620..640)).write(&place, "t.arrow");
    let pointer = place.path("m/CURRENT");
    let advice = "a rollback to a version writes it anew";
    for damaged in [Some("000002 0123456789abcdef\n"), Some(""), None] {
        match damaged {
            Some(text) => std::fs::write(&pointer, text).expect("written"),
            None => std::fs::remove_file(&pointer).expect("removed"),
        }
        for arguments in
            ["update m --source t.arrow --id id", "export m -o e.arrow", "transform --model m t.arrow -o p.npy"]
        {
            let told = place.run(arguments);
            assert!(told.code == 1 || told.code == 2, "{arguments}: {}", told.stderr);
            assert!(told.stderr.contains("CURRENT") && told.stderr.contains(advice), "{arguments}: {}", told.stderr);
        }
        assert!(place.run("verify m").stdout.contains("CURRENT"));
        place.ok("rollback m --to 2 --quiet");
        place.ok("verify m --quiet");
    }
    // The newest record is damaged, and it is the current version.
    let newest = current(&place);
    let record = place.path("m").join(format!("versions/{newest:06}.json"));
    std::fs::write(&record, "{").expect("written");
    let told = place.run("update m --source t.arrow --id id");
    assert!(told.stderr.contains(&format!("{newest:06}.json")), "{}", told.stderr);
    place.ok("rollback m --to 2 --quiet");
    assert_eq!(current(&place), newest + 1);
    place.ok("update m --source t.arrow --id id --run-id tonight --quiet");
    place.ok("gc m --keep 1 --quiet");
    place.ok("verify m --quiet");
}

#[test]
fn a_model_can_be_moved_and_copied() {
    let (place, table) = two();
    let (before, tonight) = (export(&place, ""), table.and(Table::of(620..640)));
    tonight.write(&place, "t.arrow");
    place.ok("transform --model m t.arrow -o p.npy --quiet");
    std::fs::create_dir_all(place.path("far/away")).expect("a directory");
    copy(&place.path("m"), &place.path("far/away/copied model"));
    std::fs::rename(place.path("m"), place.path("moved")).expect("moved");
    std::fs::rename(place.path("far/away/copied model"), place.path("m")).expect("moved");
    assert_eq!(export(&place, ""), before);
    place.ok("transform --model m t.arrow -o q.npy --quiet");
    assert!(place.bytes("p.npy") == place.bytes("q.npy"));
    // The two go their own ways, to the same bytes.
    let first = update(&place, &tonight, "--run-id third");
    place.ok("verify m");
    let updated = export(&place, "");
    std::fs::rename(place.path("m"), place.path("other")).expect("moved");
    std::fs::rename(place.path("moved"), place.path("m")).expect("moved");
    assert_eq!(current(&place), 2);
    let second = update(&place, &tonight, "--run-id third");
    assert_eq!(first["measures"], second["measures"]);
    assert_eq!(export(&place, ""), updated);
}

#[test]
fn a_model_on_a_read_only_disk_is_read_and_not_changed() {
    let (place, table) = two();
    table.and(Table::of(620..640)).write(&place, "t.arrow");
    let Some(disk) = crate::harness::SmallDisk::new(&place, 64 << 20) else { return };
    copy(&place.path("m"), &place.path("small/m"));
    disk.set("ro");
    let before = files(&place.path("small/m"));
    place.ok("transform --model small/m t.arrow -o p.npy --quiet");
    place.ok("export small/m -o e.arrow --quiet");
    place.ok("versions small/m");
    place.ok("gc small/m --keep 1 --dry-run");
    place.ok("diff small/m 1 2");
    place.ok("verify small/m --quiet");
    for arguments in
        ["update small/m --source t.arrow", "rollback small/m --to 1", "gc small/m --keep 1", "tag small/m x"]
    {
        let told = place.run(arguments);
        assert!(told.code == 1 || told.code == 2, "{arguments}: {}: {}", told.code, told.stderr);
        assert!(told.stderr.contains("small/m") && told.stderr.contains("Read-only"), "{arguments}: {}", told.stderr);
        assert_eq!(told.stderr.lines().count(), 1, "{arguments}: {}", told.stderr);
    }
    assert!(files(&place.path("small/m")) == before);
}

#[test]
fn a_model_of_a_later_format_is_refused_by_name() {
    let (place, _) = fitted(0..600);
    let text = String::from_utf8(place.bytes("m/model.json")).expect("text");
    assert!(text.contains("\"format\": 1"), "{text}");
    let (body, _) = text.rsplit_once(",\n  \"xxh3\"").expect("a checksum");
    let path = place.path("m/model.json");
    let body = body.replacen("\"format\": 1", "\"format\": 2", 1);
    std::fs::write(&path, &body).expect("written");
    let sum = lowland_io::stamp(&path).expect("a checksum").xxh3;
    std::fs::write(&path, format!("{body},\n  \"xxh3\": \"{sum:016x}\"\n}}\n")).expect("written");
    let before = files(&place.path("m"));
    for arguments in
        ["transform --model m t.arrow -o p.npy", "update m --source t.arrow", "export m -o e.arrow", "versions m"]
    {
        place.refused(arguments, &["m", "format version 2"]);
    }
    assert!(files(&place.path("m")) == before, "it is left as it is");
}

#[test]
fn readers_are_not_disturbed_by_an_update() {
    let (place, table) = two();
    // A reader keeps the version that it opened, though an update publishes and old versions are removed.
    let model = lowland::model::Model::open(place.path("m")).expect("a model");
    let position = model.snapshot().position(7).to_vec();
    update(&place, &table.and(Table::of(640..660)), "--run-id third");
    place.ok("gc m --keep 1 --quiet");
    assert_eq!((model.number(), model.snapshot().position(7)), (2, &position[..]));
    assert_eq!(lowland::model::Model::open(place.path("m")).expect("a model").number(), 3);
}

#[test]
fn what_is_missing_of_a_model_is_named() {
    let (place, table) = two();
    table.write(&place, "t.arrow");
    std::fs::create_dir(place.path("empty")).expect("a directory");
    let commands = |model: &str| {
        [
            format!("gc {model} --keep 1"),
            format!("verify {model}"),
            format!("export {model} -o e.arrow --force"),
            format!("update {model} --source t.arrow --run-id a"),
            format!("transform --model {model} t.arrow -o p.arrow --force"),
        ]
    };
    for arguments in commands("nowhere") {
        place.run(&arguments).refused(&arguments, &["nowhere", "no such directory"]);
    }
    for arguments in commands("empty") {
        place.run(&arguments).refused(&arguments, &["empty", "no model.json"]);
    }
    assert!(files(&place.path("empty")).is_empty());
    // One file after another is missing; the first version alone needs some of them.
    let positions = objects(&place.path("m"), 2)["positions"]["name"].as_str().expect("a name").to_string();
    for name in ["model.json", "versions/000002.json", "CURRENT", &format!("data/{positions}")] {
        let path = place.path("m").join(name);
        let bytes = std::fs::read(&path).expect("a file");
        std::fs::remove_file(&path).expect("removed");
        let before = files(&place.path("m"));
        for arguments in commands("m") {
            let told = place.run(&arguments);
            assert_eq!(told.code, 1, "{name}: {arguments}: {}", told.stderr);
            let text = format!("{}{}", told.stdout, told.stderr);
            for word in [name, "missing"] {
                assert!(text.contains(word), "{name}: {arguments}: no {word} in {text}");
            }
            let ways = ["restore", "rollback"];
            assert!(ways.iter().any(|way| told.stderr.contains(way)), "{name}: {arguments}: {}", told.stderr);
        }
        let (mut before, mut after) = (before, files(&place.path("m")));
        before.remove("LOCK");
        after.remove("LOCK");
        assert!(before == after, "{name}: nothing is removed");
        std::fs::write(&path, bytes).expect("written");
    }
    place.ok("verify m --quiet");
}
