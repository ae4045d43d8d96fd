//! The file for Prometheus: every file has the names of the table in `docs/nightly.md`.

use std::collections::BTreeMap;

use super::{Table, current, fitted};
use crate::harness::{TestDir, home};

/// Runs an update that ends with `code`, and gives its metrics by name.
fn metrics(place: &TestDir, arguments: &str, code: i32) -> BTreeMap<String, f64> {
    let told = place.run(&format!("update m --source t.arrow --quiet --metrics-file x.prom {arguments}"));
    assert_eq!(told.code, code, "{}", told.stderr);
    let text = String::from_utf8(place.bytes("x.prom")).expect("text");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.split_once("{model=\"m\"} ").unwrap_or_else(|| panic!("{line}"));
        (name.to_string(), value.parse().unwrap_or_else(|e| panic!("{e}: {line}")))
    });
    let found: BTreeMap<String, f64> = samples.collect();
    for name in found.keys() {
        let described = ["HELP", "TYPE"].map(|what| text.contains(&format!("# {what} {name} ")));
        assert_eq!(described, [true; 2], "{name}");
    }
    found
}

/// The names in the table of the page.
fn documented() -> Vec<String> {
    let page = std::fs::read_to_string(home().join("docs/nightly.md")).expect("the page");
    let (_, section) = page.split_once("\n## Metrics\n").expect("a heading");
    let rows =
        section.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `lowland_"));
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    let mut names: Vec<String> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_string).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_file_has_the_names_of_the_page() {
    let (place, table) = fitted(0..600);
    let table = table.and(Table::of(600..610));
    table.write(&place, "t.arrow");
    let refused = metrics(&place, "--run-id a --mode transform --gate recall>=1.01,trustworthiness>=0", 3);
    let published = metrics(&place, "--run-id b --mode transform", 0);
    let unchanged = metrics(&place, "", 0);
    let again = metrics(&place, "--run-id b", 0);
    let dirty = {
        table.clone().and(Table::of(700..720)).write(&place, "t.arrow");
        metrics(&place, "--mode transform --move dirty --invalid drop", 0)
    };
    for (what, found) in [&refused, &published, &unchanged, &again, &dirty].into_iter().enumerate() {
        assert_eq!(found.keys().cloned().collect::<Vec<_>>(), documented(), "file {what}");
    }
    // What readers take, and what the run did.
    let two = |found: &BTreeMap<String, f64>| [found["lowland_model_version"], found["lowland_update_version"]];
    assert_eq!((two(&refused), two(&published), two(&again)), ([1.0, 2.0], [3.0, 3.0], [3.0, 3.0]));
    assert_eq!((unchanged["lowland_model_version"], current(&place)), (3.0, 4));
    assert!(unchanged["lowland_update_version"].is_nan());
    assert_eq!((refused["lowland_update_success"], refused["lowland_update_failed_gates"]), (0.0, 1.0));
    let done = |found: &BTreeMap<String, f64>| [found["lowland_update_success"], found["lowland_update_published"]];
    assert_eq!((done(&published), done(&unchanged), done(&again)), ([1.0, 1.0], [1.0, 0.0], [1.0, 0.0]));
    assert_eq!((published["lowland_update_added_rows"], published["lowland_model_rows"]), (10.0, 610.0));
    assert_eq!((refused["lowland_update_added_rows"], refused["lowland_model_rows"]), (10.0, 600.0));
    assert_eq!(unchanged["lowland_model_recall"], published["lowland_model_recall"]);
    assert!(published["lowland_model_moved_rows"].is_nan() && dirty["lowland_model_moved_rows"] > 0.0);
}
