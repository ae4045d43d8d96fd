//! Versions: listed, compared, named, gone back to, removed and exported.

use super::{Table, current, export, files, fitted, id_of, json, update, versions};
use crate::harness::TestDir;

/// A model with three versions: 600 rows; 20 more; 10 fewer.
fn three() -> (TestDir, Table) {
    let (place, table) = fitted(0..600);
    let table = table.and(Table::of(600..620));
    update(&place, &table, "--run-id more");
    let table = table.without(0..10).changing(50..53);
    update(&place, &table, "--run-id fewer");
    (place, table)
}

#[test]
fn versions_are_listed_and_compared() {
    let (place, _) = three();
    let all = versions(&place);
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    let runs: Vec<_> = [2, 3].map(|n| all[&n]["run_id"].as_str()).into();
    assert_eq!(runs, [Some("more"), Some("fewer")]);
    let actions: Vec<_> = all.values().map(|v| v["action"].as_str().expect("an action")).collect();
    assert_eq!(actions, ["fit", "transform", "transform"]);
    assert_eq!(all.values().map(|v| v["counts"]["rows"].as_u64().expect("rows")).collect::<Vec<_>>(), [600, 620, 610]);
    assert_eq!(all.values().map(|v| v["current"] == true).collect::<Vec<_>>(), [false, false, true]);
    let text = place.ok("versions m").stdout;
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.lines().any(|line| line.starts_with("*3")), "{text}");

    let told = json(&place.ok("diff m @1 @3 --json"));
    for (name, count) in [("added", 20), ("deleted", 10), ("changed", 3), ("unchanged", 587)] {
        assert_eq!(told[name], count, "{name}: {told}");
    }
    assert_eq!(told["rows"], serde_json::json!([600, 610]));
    // Rows whose vectors changed are placed anew: they are named apart from those that moved.
    let (moved, anew) = (&told["moved"], &told["placed_anew"]);
    assert_eq!(
        (moved["rows"].as_u64(), moved["of"].as_u64(), moved["p95"].as_f64()),
        (Some(0), Some(587), Some(0.0)),
        "{told}"
    );
    assert_eq!((moved["most"].as_array().map(Vec::len), anew["of"].as_u64()), (Some(0), Some(3)), "{told}");
    let mut named: Vec<String> =
        anew["most"].as_array().expect("rows").iter().filter_map(|row| row[0].as_str().map(str::to_string)).collect();
    named.sort_unstable();
    let mut changed: Vec<String> = (50..53).map(|row| id_of(row).to_string()).collect();
    changed.sort_unstable();
    assert_eq!((&named, anew["rows"].as_u64()), (&changed, Some(3)), "{told}");
    let text = place.ok("diff m 2").stdout;
    assert!(text.contains("2 and 3") && text.contains("10 deleted"), "{text}");
    place.refused("diff m 1 9", &["9"]);
}

/// A row that left and came again, and one whose vector changed and changed back, are not where they were; rows that only
/// moved are told apart from them.
#[test]
fn rows_that_are_placed_anew_are_not_among_those_that_moved() {
    let (place, table) = fitted(0..600);
    update(&place, &table.clone().without(0..4).changing(10..14), "--mode transform");
    update(&place, &table.clone().and(Table::of(600..640)), "--mode transform --move dirty");
    let told = json(&place.ok("diff m 1 3 --json"));
    for (name, count) in [("added", 40), ("deleted", 0), ("changed", 0), ("unchanged", 600)] {
        assert_eq!(told[name], count, "{name}: {told}");
    }
    assert_eq!((told["moved"]["of"].as_u64(), told["placed_anew"]["of"].as_u64()), (Some(592), Some(8)), "{told}");
    assert!(told["moved"]["rows"].as_u64() > Some(0) && told["placed_anew"]["rows"].as_u64() > Some(0), "{told}");
    let anew: Vec<String> = (0..4).chain(10..14).map(|row| id_of(row).to_string()).collect();
    let named = |what: &str| -> Vec<String> {
        let rows = told[what]["most"].as_array().expect("rows");
        rows.iter().map(|row| row[0].as_str().expect("an id").to_string()).collect()
    };
    assert!(named("moved").iter().all(|id| !anew.contains(id)), "{told}");
    assert!(named("placed_anew").iter().all(|id| anew.contains(id)), "{told}");
}

#[test]
fn rollback_is_a_new_version_with_the_old_content() {
    let (place, table) = three();
    let (first, data) = (export(&place, "--version 1"), files(&place.path("m/data")));
    let told = json(&place.ok("rollback m --to 1 --json --quiet"));
    assert_eq!((told["version"].as_u64(), current(&place)), (Some(4), 4));
    assert!(files(&place.path("m/data")) == data, "nothing is computed or copied");
    let now = export(&place, "");
    assert_eq!(now.len(), first.len());
    assert!(now.iter().all(|(id, row)| row.position == first[id].position && row.near == first[id].near));
    assert_eq!(versions(&place)[&4]["action"], "rollback");
    place.ok("verify m");
    // The next night starts from there.
    let report = update(&place, &table, "--run-id again");
    assert_eq!((report["parent"].as_u64(), report["counts"]["added"].as_u64()), (Some(4), Some(20)));
    place.refused("rollback m --to 9", &["9"]);
    place.refused("rollback m --to @5", &["5"]);
}

#[test]
fn tags_are_names_of_versions() {
    let (place, _) = three();
    place.ok("tag m good 2 --quiet");
    assert_eq!(versions(&place)[&2]["tags"], serde_json::json!(["good"]));
    assert_eq!(export(&place, "--version good").len(), 620);
    place.ok("rollback m --to good --quiet");
    assert_eq!(export(&place, "").len(), 620);
    // A tag is moved, and removed.
    place.ok("tag m good --quiet");
    assert_eq!(export(&place, "--version good").len(), 620);
    assert_eq!(versions(&place)[&4]["tags"], serde_json::json!(["good"]));
    place.ok("tag m good --delete --quiet");
    place.refused("export m -o x.arrow --version good", &["good"]);
    for name in ["../x", ".x", "7", "@7", "current", "a/b"] {
        place.refused(&format!("tag m {name} 1"), &[name]);
    }
    assert_eq!(files(&place.path("m/tags")).len(), 0);
    place.refused("tag m other 9", &["9"]);
}

#[test]
fn gc_removes_what_no_version_needs() {
    let (place, table) = three();
    let table = table.and(Table::of(700..710));
    update(&place, &table, "--run-id four");
    place.ok("tag m good 2 --quiet");
    let (all, second) = (files(&place.path("m")), export(&place, "--version 2"));
    let told = json(&place.ok("gc m --keep 1 --keep-tagged --dry-run --json"));
    assert_eq!(told["versions"], serde_json::json!([1, 3]));
    let mut after = files(&place.path("m"));
    after.insert("LOCK".into(), all["LOCK"].clone());
    assert!(after == all, "a dry run changed the model");
    let report = json(&place.ok("gc m --keep 1 --keep-tagged --json"));
    assert_eq!(report["versions"], serde_json::json!([1, 3]));
    let names =
        |versions: &std::collections::BTreeMap<u64, serde_json::Value>| versions.keys().copied().collect::<Vec<_>>();
    assert_eq!(names(&versions(&place)), [2, 4]);
    place.ok("verify m");
    // Only what the two versions name is left.
    let mut named: Vec<String> = [2, 4]
        .iter()
        .flat_map(|n| {
            let objects = super::objects(&place.path("m"), *n).as_object().expect("objects").clone();
            objects.values().map(|o| o["name"].as_str().expect("a name").to_string()).collect::<Vec<_>>()
        })
        .collect();
    named.sort();
    named.dedup();
    assert_eq!(files(&place.path("m/data")).into_keys().collect::<Vec<_>>(), named);
    // What stays is what it was; how far rows moved is not known without the version before.
    let kept = export(&place, "--version good");
    assert!(kept.iter().all(|(id, row)| row.position == second[id].position && row.moved.is_none()));
    // Tags of removed versions go with them, and the current version never goes.
    place.ok("rollback m --to 2 --quiet");
    let report = json(&place.ok("gc m --keep 0 --json"));
    assert_eq!(report["versions"], serde_json::json!([2, 4]));
    assert_eq!((current(&place), names(&versions(&place))), (5, vec![5]));
    assert!(files(&place.path("m/tags")).is_empty());
    assert_eq!(export(&place, "").len(), 620);
}

#[test]
fn a_version_is_a_table_for_others() {
    let (place, _) = three();
    place.ok("export m -o map.parquet --quiet");
    place.ok("export m -o v1.parquet --version 1 --coordinates px,py --quiet");
    let inspected = place.ok("inspect map.parquet --column x,y").stdout;
    assert!(inspected.contains("610"), "{inspected}");
    place.ok("plot map.parquet -o map.png --color added_in --quiet");
    place.refused("export m -o map.parquet", &["map.parquet", "--force"]);
    place.refused("export m -o map.npy", &["map.npy", ".parquet"]);
    place.refused("export m -o m/map.arrow", &["m/map.arrow"]);
    place.refused("export m -o x.arrow --coordinates a", &["--coordinates"]);
    // Rows of the same model at the same version are the same bytes.
    place.ok("export m -o again.parquet --quiet");
    assert!(place.bytes("again.parquet") == place.bytes("map.parquet"));
}

#[test]
fn commands_that_change_a_model_tell_what_they_did_as_json() {
    let (place, _) = three();
    let told = |arguments: &str| json(&place.ok(&format!("{arguments} --json --quiet")));
    assert_eq!(told("tag m good @2"), serde_json::json!({"tag": "good", "version": 2}));
    assert_eq!(told("rollback m --to good"), serde_json::json!({"version": 4, "to": 2}));
    assert_eq!(told("tag m good --delete"), serde_json::json!({"tag": "good", "version": null}));
    let report = told("export m -o e.arrow");
    let expected = (Some(4), Some(620), Some("m"), Some("e.arrow"));
    let [version, rows] = ["version", "rows"].map(|name| report[name].as_u64());
    let [model, output] = ["model", "output"].map(|name| report[name].as_str());
    assert_eq!((version, rows, model, output), expected, "{report}");
}
