//! Updates that keep the map: what a night's table adds, changes and deletes.

use std::collections::BTreeMap;

use super::{
    Exported, FIT, POOL, Table, current, export, files, fitted, id_of, json, nearest, objects, update, versions,
};
use crate::harness::TestDir;

/// The table of the next night: 40 rows added, 10 changed and 60 deleted, of 1,500.
fn next_night(table: &Table) -> Table {
    table.clone().without(100..160).changing(300..310).and(Table::of(1500..1540))
}

#[test]
fn rows_come_change_and_go_and_the_others_keep_their_bytes() {
    let (place, table) = fitted(0..1500);
    let (before, data) = (export(&place, ""), files(&place.path("m/data")));
    let tonight = next_night(&table);
    let report = update(&place, &tonight, "--run-id night-1 --threads 2");
    assert_eq!((report["outcome"].as_str(), report["mode"].as_str()), (Some("published"), Some("transform")));
    let counts = &report["counts"];
    for (name, count) in [("rows", 1480), ("added", 40), ("changed", 10), ("deleted", 60), ("unchanged", 1430)] {
        assert_eq!(counts[name], count, "{name}: {report}");
    }
    assert_eq!((report["version"].as_u64(), current(&place)), (Some(2), 2));
    let after = export(&place, "");
    assert_eq!(after.len(), 1480);
    for row in 0..1500 {
        let id = id_of(row).to_string();
        match row {
            100..160 => assert!(!after.contains_key(&id), "row {id} is deleted"),
            300..310 => assert_eq!(after[&id].added_in, 2, "row {id} is another"),
            _ => {
                assert_eq!(after[&id].position, before[&id].position, "row {id} moved");
                assert_eq!((after[&id].added_in, after[&id].moved), (1, Some(0.0)), "row {id}");
            }
        }
    }
    for row in 1500..1540 {
        let new = &after[&id_of(row).to_string()];
        assert_eq!((new.added_in, new.moved), (2, None), "row {row}");
    }
    // The objects of the version before stay, and readers of it see what they saw.
    let kept = files(&place.path("m/data"));
    assert!(data.iter().all(|(name, bytes)| kept.get(name) == Some(bytes)), "an object changed");
    assert_eq!(export(&place, "--version 1"), before);
    check_neighbors(&after, &tonight, 0.97);
    // No scratch is left.
    assert!(files(&place.path("m/runs")).is_empty());
    place.ok("verify m");
    let recall = report["measures"]["recall"].as_f64().expect("a number");
    assert!((0.95..=1.0).contains(&recall), "{report}");
}

/// Compares a version's neighbours with those of all pairs: of ids, in order of distance, and without rows that are gone.
fn check_neighbors(rows: &BTreeMap<String, Exported>, table: &Table, least: f64) {
    let (mut right, mut all) = (0, 0);
    for (id, vector) in &table.rows {
        let row = &rows[&id.to_string()];
        assert!(row.distances.is_sorted(), "{id}: {:?}", row.distances);
        assert_eq!(row.near.len(), row.distances.len(), "{id}");
        assert!(row.near.len() >= 10, "{id} has {} neighbours", row.near.len());
        let truth: Vec<(f64, i64)> = nearest(table, vector).into_iter().filter(|near| near.1 != *id).collect();
        let farthest = truth[9].0.sqrt() * (1.0 + 1e-5) + 1e-6;
        for (near, distance) in row.near.iter().zip(&row.distances).take(10) {
            assert!(near != &id.to_string(), "{id} is its own neighbour");
            let exact =
                truth.iter().find(|t| t.1.to_string() == *near).unwrap_or_else(|| panic!("{id}: {near} is gone")).0;
            let exact = exact.sqrt();
            assert!((exact - f64::from(*distance)).abs() <= 1e-3 * exact + 1e-4, "{id}, {near}: {distance}, {exact}");
            right += usize::from(exact <= farthest);
            all += 1;
        }
    }
    let share = right as f64 / all as f64;
    assert!(share >= least, "{share} of the neighbours are right");
}

#[test]
fn many_nights_keep_what_was_there_and_the_graph_stays_right() {
    let (place, mut table) = fitted(0..1000);
    let mut known: BTreeMap<String, Exported> = export(&place, "");
    for night in 0..6 {
        let (gone, new) = (night * 30, 1000 + night * 25);
        table = table.without(gone..gone + 30).changing(400 + night * 5..405 + night * 5).and(Table::of(new..new + 25));
        let report = update(&place, &table, "--mode transform --threads 2");
        assert_eq!(report["outcome"], "published", "{report}");
        let now = export(&place, "");
        assert_eq!(now.len(), table.len());
        for (id, row) in now.iter().filter(|(_, row)| row.added_in < report["version"].as_u64().expect("a number")) {
            assert_eq!(row.position, known[id].position, "night {night}: row {id} moved");
        }
        known = now;
    }
    check_neighbors(&known, &table, 0.95);
    // The first night's rows are told apart from the last one's.
    assert_eq!(known[&id_of(1149).to_string()].added_in, 7);
    assert_eq!(known[&id_of(1000).to_string()].added_in, 2);
    assert_eq!(versions(&place).len(), 7);
}

#[test]
fn nothing_to_do_is_told_and_makes_no_version() {
    let (place, mut table) = fitted(0..600);
    let before = files(&place.path("m"));
    // Another order of the same rows.
    table.rows.reverse();
    let report = update(&place, &table, "");
    assert_eq!((report["outcome"].as_str(), report["counts"]["unchanged"].as_u64()), (Some("unchanged"), Some(600)));
    let told = place.run("update m --source t.arrow --no-change-exit-code 99 --quiet");
    assert_eq!(told.code, 99, "{}", told.stderr);
    let mut after = files(&place.path("m"));
    after.insert("LOCK".into(), before["LOCK"].clone());
    assert!(after == before, "the model changed");
    // A published run is not repeated, whatever the table has now.
    let tonight = next_night(&table).without(500..530);
    assert_eq!(update(&place, &tonight, "--run-id a")["outcome"], "published");
    let later = tonight.and(Table::of(2000..2010));
    let again = update(&place, &later, "--run-id a");
    assert_eq!((again["outcome"].as_str(), again["version"].as_u64()), (Some("already-published"), Some(2)));
    assert_eq!(current(&place), 2);
    later.write(&place, "t.arrow");
    assert_eq!(place.run("update m --source t.arrow --run-id a --no-change-exit-code 98 --quiet").code, 98);
    assert_eq!(update(&place, &later, "--run-id b")["version"], 3);
}

/// Rows without a usable vector are left out on request, and are told: they may be rows that leave the map.
#[test]
fn rows_that_are_left_out_are_told() {
    let (place, table) = fitted(0..600);
    let mut holes = table.clone().and(Table::of(600..610));
    let bad: Vec<usize> =
        (0..3).map(|i| holes.rows.iter().position(|row| row.0 == id_of(598 + i)).expect("a row")).collect();
    bad.iter().for_each(|&row| holes.rows[row].1[2] = f32::NAN);
    let report = update(&place, &holes, "--mode transform --invalid drop");
    let left_out = &report["left_out"];
    assert_eq!((left_out["rows"].as_u64(), left_out["of"].as_u64()), (Some(3), Some(610)), "{report}");
    assert_eq!(
        (report["counts"]["added"].as_u64(), report["counts"]["deleted"].as_u64()),
        (Some(9), Some(2)),
        "{report}"
    );
    let told = place.ok("update m --source t.arrow --invalid drop");
    let words = ["nothing changed", "3 of 610 rows are left out", "NaN"];
    assert!(words.iter().all(|word| told.stderr.contains(word)), "{}", told.stderr);
    // Where none is to be left out, none is.
    let report = update(&place, &table, "--mode transform --invalid drop");
    assert_eq!(report["left_out"]["rows"], 0, "{report}");
    assert!(update(&place, &table, "")["left_out"].is_null());
}

#[test]
fn the_same_bytes_whatever_the_threads_and_the_budget() {
    let (place, table) = fitted(0..1500);
    next_night(&table).write(&place, "t.arrow");
    super::copy(&place.path("m"), &place.path("first"));
    let mut whole = None;
    for options in ["--threads 2 --memory 1GiB", "--threads 1 --memory 100MiB", "--threads 3 --memory 60MiB"] {
        std::fs::remove_dir_all(place.path("m")).expect("removed");
        super::copy(&place.path("first"), &place.path("m"));
        place.ok(&format!("update m --source t.arrow --mode transform --run-id a --quiet {options}"));
        let made = (objects(&place.path("m"), 2), export(&place, ""));
        match &whole {
            None => whole = Some(made),
            Some(whole) => assert!(made == *whole, "{options}: another version"),
        }
    }
}

#[test]
fn texts_are_ids_and_tables_may_be_many_files() {
    let place = TestDir::new();
    let table = Table::of(0..800).with_texts();
    table.write(&place, "t.arrow");
    place.ok(&format!("embed t.arrow --model m {FIT}"));
    let before = export(&place, "");
    std::fs::create_dir(place.path("d")).expect("a directory");
    table.clone().without(0..500).write(&place, "d/1.arrow");
    table.clone().without(400..800).without(0..20).and(Table::of(900..910)).write(&place, "d/2.arrow");
    // Rows 0..20 and 400..500 are in neither.
    place.refused("update m --source d/*.arrow --max-shrink 0.1", &["--max-shrink"]);
    let report = json(&place.ok("update m --source d/*.arrow --mode transform --json --quiet"));
    assert_eq!((report["counts"]["deleted"].as_u64(), report["counts"]["added"].as_u64()), (Some(120), Some(10)));
    let after = export(&place, "");
    assert_eq!(after[&super::text_id(id_of(30))].position, before[&super::text_id(id_of(30))].position);
    assert!(after.contains_key(&super::text_id(id_of(905))));
}

#[test]
fn a_table_of_changes_does_what_the_whole_table_does() {
    let (place, table) = fitted(0..1500);
    super::copy(&place.path("m"), &place.path("first"));
    let tonight = next_night(&table);
    update(&place, &tonight, "--run-id whole --mode transform");
    let whole = export(&place, "");
    std::fs::rename(place.path("m"), place.path("whole")).expect("moved");
    std::fs::rename(place.path("first"), place.path("m")).expect("moved");
    let only = |rows: std::ops::Range<usize>| tonight.clone().without(0..rows.start).without(rows.end..POOL);
    let gone = table.clone().without(0..100).without(160..POOL);
    let parts = [(only(1500..1540), "added"), (gone, "deleted"), (only(300..310), "changed")];
    Table::write_changes(&place, "c.arrow", &parts);
    let report = json(&place.ok("update m --source c.arrow --changes --run-id changes --json --quiet"));
    for (name, count) in [("rows", 1480), ("added", 40), ("changed", 10), ("deleted", 60), ("unchanged", 1430)] {
        assert_eq!(report["counts"][name], count, "{name}: {report}");
    }
    let made = export(&place, "");
    assert!(made.keys().eq(whole.keys()));
    assert!(made.iter().all(|(id, row)| row.position == whole[id].position && row.near == whole[id].near));
    place.ok("verify m");
    // The same changes once more change nothing.
    let again = json(&place.ok("update m --source c.arrow --changes --json --quiet"));
    assert_eq!(again["outcome"], "unchanged", "{again}");
    Table::write_changes(&place, "c.arrow", &[(only(10..20), "moved")]);
    place.refused("update m --source c.arrow --changes", &["moved", "deleted"]);
    place.refused("update m --source t.arrow --changes", &["change"]);
}

/// One update holds the model; a second waits for it, or is refused with the holder's name.
#[test]
fn two_updates_at_once_take_turns() {
    let (place, table) = fitted(0..600);
    table.clone().and(Table::of(600..640)).write(&place, "a.arrow");
    table.and(Table::of(600..680)).write(&place, "b.arrow");
    // Whoever holds the lock file holds the model: this is how a long update looks to others.
    let mut holder = std::process::Command::new("flock");
    holder.arg(place.path("m/LOCK")).args(["sleep", "30"]);
    let Ok(mut holder) = holder.spawn() else { return crate::harness::skipped("no flock here") };
    while place.run("tag m x --no-wait --quiet").code == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let busy = place.run("update m --source a.arrow --no-wait");
    assert!(busy.code == 1 || busy.code == 2, "{}: {}", busy.code, busy.stderr);
    assert!(busy.stderr.contains("in use by process"), "the holder is named: {}", busy.stderr);
    assert!(!busy.stderr.contains("panicked") && busy.stderr.lines().count() == 1, "{}", busy.stderr);
    // Reading needs no lock.
    place.ok("versions m");
    place.ok("transform --model m a.arrow -o placed.arrow --quiet");
    let mut both: Vec<_> = ["a", "b"]
        .map(|name| {
            let mut command = place.command(&format!("update m --source {name}.arrow --run-id {name} --quiet"));
            command.stderr(std::process::Stdio::piped()).spawn().expect("the binary runs")
        })
        .into_iter()
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(both.iter_mut().all(|child| child.try_wait().expect("a child").is_none()), "both wait");
    // The sleep is flock's child, and holds the lock's file too.
    let _ = std::process::Command::new("pkill").args(["-P", &holder.id().to_string()]).status();
    let _ = holder.kill();
    let _ = holder.wait();
    for child in both {
        let told = child.wait_with_output().expect("an end");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    }
    let versions = versions(&place);
    assert_eq!(versions.len(), 3);
    // Whichever came first, the last table decides.
    let last = versions[&3]["run_id"].as_str().expect("a run").to_string();
    assert_eq!(export(&place, "").len(), if last == "a" { 640 } else { 680 });
}

#[test]
fn refused_versions_do_not_push_out_good_ones() {
    let (place, table) = fitted(0..600);
    let refused = |name: &str| {
        let told = place.run(&format!("update m --source t.arrow --run-id {name} --mode transform --gate recall>=1.1"));
        assert_eq!(told.code, 3, "{}", told.stderr);
    };
    table.clone().and(Table::of(600..610)).write(&place, "t.arrow");
    refused("a");
    update(&place, &table.clone().and(Table::of(600..630)), "--run-id good --mode transform");
    let table = table.and(Table::of(600..640));
    table.write(&place, "t.arrow");
    refused("b");
    refused("c");
    let told = json(&place.ok("gc m --keep 2 --dry-run --json"));
    assert_eq!(told["versions"], serde_json::json!([]));
    let told = json(&place.ok("gc m --keep 1 --dry-run --json"));
    assert_eq!(told["versions"], serde_json::json!([1, 2]));
    // Once another run has brought the same rows, there is nothing left to do for a refused one.
    update(&place, &table, "--run-id d --mode transform");
    let again = update(&place, &table, "--run-id b --mode transform --gate recall>=0.1");
    assert_eq!(again["outcome"], "unchanged", "{again}");
}

#[test]
fn a_map_of_few_rows_takes_no_new_rows_but_by_a_refit() {
    let (place, table) = fitted(0..600);
    table.clone().changing(0..600).write(&place, "changed.arrow");
    place.run("update m --source changed.arrow --mode transform").refused("all rows changed", &["none", "refit"]);
    table.clone().without(1..600).write(&place, "one.arrow");
    place.ok("update m --source one.arrow --mode transform --max-shrink 1 --quiet");
    assert_eq!(export(&place, "").len(), 1);
    table.write(&place, "t.arrow");
    place.ok("transform --model m t.arrow -o p.npy --quiet");
    // All new rows would lie on the one that is left.
    place.run("update m --source t.arrow --mode transform").refused("one row is left", &["only 1", "599 new", "refit"]);
    let told = json(&place.ok("update m --source t.arrow --json --quiet"));
    assert_eq!(told["mode"], "refit", "{told}");
    assert_eq!(export(&place, "").len(), 600);
}

/// The share of the 10 true neighbours that the graph has of the rows that were new in a version.
fn recall_of_new(rows: &BTreeMap<String, Exported>, table: &Table, version: u64) -> f64 {
    recall_where(rows, table, |added_in| added_in == version)
}

/// The share of the 10 true neighbours that the graph has of the rows that a version added which is `wanted`.
fn recall_where(rows: &BTreeMap<String, Exported>, table: &Table, wanted: impl Fn(u64) -> bool) -> f64 {
    let (mut found, mut all) = (0, 0);
    for (id, vector) in &table.rows {
        let row = &rows[&id.to_string()];
        if wanted(row.added_in) {
            let truth = nearest(table, vector).into_iter().map(|near| near.1).filter(|near| near != id).take(10);
            for near in truth {
                all += 1;
                found += usize::from(row.near.iter().take(10).any(|found| *found == near.to_string()));
            }
        }
    }
    found as f64 / all as f64
}

#[test]
fn rows_that_come_back_where_all_were_gone_find_their_neighbours_and_the_recall_is_theirs() {
    let (place, table) = fitted(0..1000);
    // The rows nearest to one of them: whole lists are empty without them.
    let near = nearest(&table, table.vector(id_of(3)));
    let cluster: Vec<i64> = near.into_iter().take(150).map(|near| near.1).collect();
    let mut without = table.clone();
    without.rows.retain(|(id, _)| !cluster.contains(id));
    update(&place, &without, "--mode transform");
    for (night, rows) in [&table, &without, &table].into_iter().enumerate() {
        let report = update(&place, rows, "--mode transform");
        let told = |name: &str| report["measures"][name].as_f64();
        if let Some(recall) = told("recall_new") {
            let true_recall = recall_of_new(&export(&place, ""), rows, report["version"].as_u64().expect("a number"));
            assert!((recall - true_recall).abs() < 0.005 && recall > 0.97, "{night}: {true_recall}: {report}");
            let [mean, old] = ["recall", "recall_old"].map(|name| told(name).expect("a number"));
            assert!((mean - (850.0 * old + 150.0 * recall) / 1000.0).abs() < 1e-6, "{report}");
        } else {
            assert_eq!(night, 1, "{report}");
        }
    }
    // From six rows that are left to many.
    let few = table.clone().without(6..1000);
    update(&place, &few, "--mode transform --max-shrink 1");
    let more = few.and(Table::of(100..400));
    let report = update(&place, &more, "--mode transform");
    let recall = report["measures"]["recall_new"].as_f64().expect("a number");
    let true_recall = recall_of_new(&export(&place, ""), &more, report["version"].as_u64().expect("a number"));
    assert!((recall - true_recall).abs() < 0.02 && true_recall > 0.99, "{true_recall}: {report}");
}

#[test]
fn the_recall_of_old_rows_is_theirs_after_more_new_rows_than_are_compared_at_a_time() {
    let (place, table) = fitted(0..800);
    let more = table.and(Table::of(800..4000));
    let report = update(&place, &more, "--mode transform");
    let told = report["measures"]["recall_old"].as_f64().expect("a number");
    // All of the old rows are probe rows.
    let true_recall = recall_where(&export(&place, ""), &more, |added_in| added_in == 1);
    assert!((told - true_recall).abs() < 0.002, "{true_recall}: {report}");
}
