//! A full disk while a model changes: the current version is whole, and with space the same command goes on.

use super::{FIT, Table, copy, export, files, fitted, json, update};
use crate::harness::{SmallDisk, TestDir, end, failure, start, started, wait_for};

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

/// The space that a directory's files take on the small disk.
fn space(place: &TestDir, name: &str) -> u64 {
    files(&place.path(name)).values().map(|bytes| pages(bytes.len() as u64)).sum()
}

#[test]
fn a_disk_that_fills_up_during_an_update_leaves_the_version_before() {
    let (place, table) = fitted(0..1500);
    let Some(disk) = SmallDisk::new(&place, 64 << 20) else { return };
    copy(&place.path("m"), &place.path("first"));
    let before = export(&place, "");
    for mode in ["transform", "refit"] {
        // The update with space: how much it takes, and what it makes.
        std::fs::remove_dir_all(place.path("m")).expect("removed");
        copy(&place.path("first"), &place.path("m"));
        let tonight = table.clone().without(0..50).and(Table::of(1500..1560));
        update(&place, &tonight, &format!("--mode {mode} --run-id a"));
        let (after, all) = (export(&place, ""), space(&place, "m"));
        let extra = all - space(&place, "first");
        for part in [1, 3, 6, 9] {
            let _ = std::fs::remove_dir_all(place.path("small/m"));
            disk.set(&format!("size={}", 64 << 20));
            copy(&place.path("first"), &place.path("small/m"));
            let full = space(&place, "small/m") + pages(extra * part / 10);
            disk.set(&format!("size={full}"));
            let arguments = format!("update small/m --source t.arrow --mode {mode} --run-id a --quiet");
            let told = place.run(&arguments);
            assert_eq!(told.code, 1, "{mode}, {part} tenths: {}", told.stderr);
            assert!(told.stderr.contains("small/m") && told.stderr.contains("space"), "{mode}: {}", told.stderr);
            assert_eq!(told.stderr.lines().count(), 1, "{mode}: {}", told.stderr);
            place.ok("verify small/m");
            place.ok("export small/m -o e.arrow --force --quiet");
            assert_eq!(super::exported(&place.path("e.arrow")), before, "{mode}, {part} tenths: the version before");
            disk.set(&format!("size={}", 64 << 20));
            place.ok(&arguments);
            place.ok("export small/m -o e.arrow --force --quiet");
            assert_eq!(super::exported(&place.path("e.arrow")), after, "{mode}, {part} tenths: another map");
            place.ok("verify small/m");
            // What the failed attempt left is removed.
            place.ok("gc small/m --keep 9 --quiet");
            place.ok("gc m --keep 9 --quiet");
            let names = |name: &str| files(&place.path(name)).into_keys().collect::<Vec<_>>();
            assert_eq!(names("small/m/data"), names("m/data"), "{mode}, {part} tenths");
            assert!(files(&place.path("small/m/runs")).is_empty(), "{mode}, {part} tenths");
        }
    }
}

#[test]
fn a_disk_that_fills_up_during_a_fit_leaves_finished_stages() {
    let (place, _) = fitted(0..1500);
    let Some(disk) = SmallDisk::new(&place, 64 << 20) else { return };
    let (whole, all) = (export(&place, ""), space(&place, "m"));
    let arguments = format!("embed t.arrow --model small/m {FIT}");
    for stage in ["index", "affinity", "layout"] {
        let (child, mut stderr) = start(&place, &arguments.replace("--quiet", ""));
        wait_for(&mut stderr, started(stage));
        fill(&place.path("small/fill"));
        let (code, events) = end(child, stderr);
        std::fs::remove_file(place.path("small/fill")).expect("removed");
        // It may have been done in the meantime.
        if code != 0 {
            assert_eq!(code, 1, "{stage}: {events:?}");
            assert!(failure(&events, stage).0.contains("space"), "{events:?}");
            // Nothing was published, and that is said.
            let reader = place.run("export small/m -o e.arrow --force");
            assert_eq!(reader.code, 2, "{stage}: {}", reader.stderr);
            place.ok(&arguments);
        }
        place.ok("export small/m -o e.arrow --force --quiet");
        assert_eq!(super::exported(&place.path("e.arrow")), whole, "{stage}: another map");
        std::fs::remove_dir_all(place.path("small/m")).expect("removed");
    }
    // Space for the run, but not for the model: refused before any work, with ways out that there are.
    let plan =
        json(&place.ok("plan t.arrow --model small/m --id id --n-neighbors 10 --n-epochs 40 --threads 2 --json"));
    let [run, needed, model] = ["disk", "disk_needed", "model_bytes"].map(|name| plan[name].as_u64().expect("bytes"));
    assert!(
        (all * 7 / 10..all * 2).contains(&model) && needed >= run && needed > model,
        "{run} {needed} {model} {all}"
    );
    disk.set(&format!("size={}", pages(needed - model / 2)));
    let told = place.run(&arguments);
    assert_eq!(told.code, 1, "{}", told.stderr);
    for word in ["small/m", "the run and the model will need", "make space"] {
        assert!(told.stderr.contains(word), "no {word} in {}", told.stderr);
    }
    assert!(!told.stderr.contains("--"), "an option that is refused with --model: {}", told.stderr);
    disk.set(&format!("size={}", 64 << 20));
    place.ok(&arguments);
}

/// Writes a file until the disk is full.
fn fill(path: &std::path::Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
}

#[test]
fn a_plan_counts_the_space_of_a_model() {
    let place = TestDir::new();
    Table::of(0..600).write(&place, "t.arrow");
    let options = "t.arrow --id id --n-neighbors 10 --threads 2";
    let bytes = |options: &str| json(&place.ok(&format!("plan {options} --json")))["model_bytes"].as_u64();
    assert_eq!(bytes(options), None);
    let model = bytes(&format!("{options} --model m")).expect("bytes");
    assert!(bytes(&format!("{options} --model m --keep label")).expect("bytes") > model);
    let told = place.ok(&format!("plan {options} --model m")).stdout;
    assert!(told.lines().any(|line| line.starts_with("model ")), "{told}");
    assert!(!place.path("m").exists());
    // A limit of the run directory that is too small: the advice can be followed.
    let told = place.run(&format!("embed {options} --model m --disk 1KiB"));
    assert!(told.code == 2 && !told.stderr.contains("--keep-stages"), "{}", told.stderr);
    let (_, enough) = told.stderr.trim().rsplit_once("give --disk ").expect("a way out");
    place.ok(&format!("embed {options} --model m --disk {enough} --n-epochs 5 --quiet"));
}
