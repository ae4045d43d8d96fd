//! A full disk while a model changes: the current version is whole, and with space the same command goes on.

use super::{FIT, Table, copy, export, files, fitted, update};
use crate::harness::{SmallDisk, TestDir};

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
    for part in [2, 5, 9] {
        disk.set(&format!("size={}", pages(all * part / 10)));
        let arguments = format!("embed t.arrow --model small/m {FIT}");
        let told = place.run(&arguments);
        assert_eq!(told.code, 1, "{part} tenths: {}", told.stderr);
        assert!(told.stderr.contains("space"), "{}", told.stderr);
        // Nothing was published, and that is said.
        let reader = place.run("export small/m -o e.arrow --force");
        assert_eq!(reader.code, 2, "{part} tenths: {}", reader.stderr);
        disk.set(&format!("size={}", 64 << 20));
        place.ok(&arguments);
        place.ok("export small/m -o e.arrow --force --quiet");
        assert_eq!(super::exported(&place.path("e.arrow")), whole, "{part} tenths: another map");
        std::fs::remove_dir_all(place.path("small/m")).expect("removed");
    }
}
