//! Updates that are refused: the model is as it was before.

use super::{FIT, Table, current, export, files, fitted, id_of, json, update, versions};
use crate::harness::TestDir;

/// Runs an update that must be refused with `words`, and compares the model.
fn check_refused(place: &TestDir, arguments: &str, words: &[&str]) {
    let mut before = files(&place.path("m"));
    place.run(&format!("update m {arguments}")).refused(arguments, words);
    let mut after = files(&place.path("m"));
    before.remove("LOCK");
    after.remove("LOCK");
    let names = |files: &std::collections::BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "{arguments}");
    assert!(before == after, "{arguments}: the model changed");
    assert_eq!(current(place), 1, "{arguments}");
}

#[test]
fn a_table_that_does_not_fit_is_refused_before_any_work() {
    let (place, table) = fitted(0..600);
    let mut wide = table.clone();
    wide.rows.iter_mut().for_each(|(_, vector)| vector.push(0.0));
    wide.write(&place, "wide.arrow");
    check_refused(&place, "--source wide.arrow", &["9", "8"]);
    table.clone().with_texts().write(&place, "texts.arrow");
    check_refused(&place, "--source texts.arrow", &["id", "text"]);
    let mut hole = table.clone();
    hole.rows[5].1[0] = f32::INFINITY;
    hole.write(&place, "hole.arrow");
    check_refused(&place, "--source hole.arrow", &["hole.arrow", "5", "--invalid drop"]);
    table.write(&place, "t.arrow");
    check_refused(&place, "--source t.arrow --id label", &["id"]);
    check_refused(&place, "--source t.arrow --id nowhere", &["nowhere"]);
    check_refused(&place, "--source nowhere.arrow", &["nowhere.arrow"]);
    check_refused(&place, "--source t.arrow --gate recal>=0.9", &["recal", "recall"]);
    check_refused(&place, "--source t.arrow --run-id ../x", &["../x"]);
    check_refused(&place, "--source t.arrow --max-shrink 2", &["--max-shrink"]);
}

#[test]
fn ids_that_come_twice_are_named() {
    let (place, table) = fitted(0..600);
    let mut twice = table;
    for row in [3, 40, 41] {
        let copy = twice.rows[row].clone();
        twice.rows.push(copy);
    }
    twice.write(&place, "twice.arrow");
    let named: Vec<String> = [3, 40, 41].map(|row| twice.rows[row].0.to_string()).into();
    let words: Vec<&str> = named.iter().map(String::as_str).chain(["id"]).collect();
    check_refused(&place, "--source twice.arrow", &words);
    // Many: ten are named, and how many there are.
    for row in 100..130 {
        let copy = twice.rows[row].clone();
        twice.rows.push(copy);
    }
    twice.write(&place, "twice.arrow");
    check_refused(&place, "--source twice.arrow", &["33"]);
    // A fit refuses them too, before any work.
    let fit = place.run(&format!("embed twice.arrow --model new {FIT}"));
    assert_eq!(fit.code, 2, "{}", fit.stderr);
    assert!(fit.stderr.contains("row 600 has the id of row 3"), "{}", fit.stderr);
    assert!(!fit.stderr.contains("continues from there"), "{}", fit.stderr);
}

#[test]
fn a_run_has_no_name_of_lowlands_own() {
    let (place, table) = fitted(0..600);
    table.write(&place, "t.arrow");
    for name in ["first", "version-000002", "rollback-2-to-1"] {
        check_refused(&place, &format!("--source t.arrow --run-id {name}"), &[name]);
    }
}

#[test]
fn a_table_without_a_row_of_the_model_can_be_refitted() {
    let (place, _) = fitted(0..600);
    Table::of(2000..2600).write(&place, "others.arrow");
    let told = place.ok("update m --source others.arrow --max-shrink 1 --mode refit --json");
    assert!(told.stdout.contains("\"added\":600"), "{}", told.stdout);
    place.ok("verify m");
}

#[test]
fn a_table_that_shrank_is_refused() {
    let (place, table) = fitted(0..600);
    table.clone().without(0..121).write(&place, "less.arrow");
    check_refused(&place, "--source less.arrow", &["121", "600", "--max-shrink"]);
    // As many rows as before, but other ones.
    table.clone().without(0..300).and(Table::of(2000..2300)).write(&place, "others.arrow");
    check_refused(&place, "--source others.arrow", &["300", "--max-shrink"]);
    Table { rows: Vec::new(), texts: false }.write(&place, "none.arrow");
    let told = place.run("update m --source none.arrow");
    assert_eq!((told.code, current(&place)), (2, 1), "{}", told.stderr);
    // A fifth of the rows is the default's limit.
    let report = update(&place, &table.without(0..120), "--mode transform");
    assert_eq!(report["counts"]["deleted"], 120);
}

#[test]
fn a_gate_keeps_readers_at_the_version_before() {
    let (place, table) = fitted(0..800);
    let before = export(&place, "");
    let tonight = table.and(Table::of(800..840));
    tonight.write(&place, "t.arrow");
    let arguments = "update m --source t.arrow --run-id a --json --quiet --gate";
    let told = place.run(&format!("{arguments} trustworthiness>=0.5,recall>=1.01"));
    assert_eq!(told.code, 3, "{}", told.stderr);
    let report = json(&told);
    assert_eq!((report["outcome"].as_str(), report["version"].as_u64()), (Some("refused"), Some(2)));
    assert!(told.stderr.contains("recall") && !told.stderr.contains("trustworthiness"), "{}", told.stderr);
    assert_eq!(current(&place), 1);
    assert_eq!(export(&place, ""), before, "readers see what they saw");
    let kept = &versions(&place)[&2];
    assert_eq!((kept["accepted"].as_bool(), kept["current"].as_bool()), (Some(false), Some(false)));
    place.ok("verify m");
    assert_eq!(export(&place, "--version 2").len(), 840, "it can be looked at");
    // The same run again says the same; another run, without the gate, is published on the version before.
    assert_eq!(place.run(&format!("{arguments} recall>=1.01")).code, 3);
    let report = json(&place.ok("update m --source t.arrow --run-id b --json --quiet --gate recall>=0.5"));
    assert_eq!((report["outcome"].as_str(), report["parent"].as_u64()), (Some("published"), Some(1)));
    assert_eq!(current(&place), 3);
    // A refused version can be accepted afterwards.
    place.ok("rollback m --to 2 --quiet");
    assert_eq!(export(&place, "").len(), 840);
    assert!(export(&place, "").contains_key(&id_of(820).to_string()));
    // Then the run counts as published.
    let report = json(&place.ok(&format!("{arguments} recall>=1.01")));
    assert_eq!((report["outcome"].as_str(), report["version"].as_u64()), (Some("already-published"), Some(2)));
}

#[test]
fn a_refused_run_is_judged_again_by_other_gates() {
    let (place, table) = fitted(0..800);
    let tonight = table.and(Table::of(800..840));
    tonight.write(&place, "t.arrow");
    let with_gate = |run: &str, gate: &str| {
        place.run(&format!("update m --source t.arrow --run-id {run} --json --quiet --gate {gate}"))
    };
    assert_eq!(with_gate("a", "recall>=1.01").code, 3);
    // Without a gate there is nothing to judge it by.
    let told = place.run("update m --source t.arrow --run-id a --quiet");
    assert!(told.code == 3 && told.stderr.contains("no gate is given"), "{}: {}", told.code, told.stderr);
    let told = with_gate("a", "recall>=0.5");
    assert_eq!((told.code, json(&told)["outcome"].as_str()), (0, Some("published")), "{}", told.stderr);
    assert!(json(&told)["why"].as_str().is_some_and(|why| why.contains("judged again")), "{}", told.stdout);
    assert_eq!((current(&place), versions(&place)[&3]["parent"].as_u64()), (3, Some(1)));
    // Not on top of a later version, whose rows it would undo.
    let later = tonight.and(Table::of(840..860));
    later.write(&place, "t.arrow");
    assert_eq!(with_gate("b", "recall>=1.01").code, 3);
    later.clone().and(Table::of(860..870)).write(&place, "t.arrow");
    place.ok("update m --source t.arrow --run-id c --quiet");
    later.write(&place, "t.arrow");
    let told = with_gate("b", "recall>=0.5");
    assert!(told.code == 3 && told.stderr.contains("another name"), "{}: {}", told.code, told.stderr);
    assert_eq!(export(&place, "").len(), 870);
}

/// What a run is judged by is the table that it is given, also under the name of a run that a gate refused.
#[test]
fn a_refused_run_begun_again_takes_the_table_of_now() {
    let (place, table) = fitted(0..800);
    let with_gate = |run: &str, gate: &str, table: &Table, more: &str| {
        table.write(&place, "t.arrow");
        let told = place.run(&format!("update m --source t.arrow --run-id {run} --json --quiet --gate {gate} {more}"));
        (told.code, json(&told))
    };
    // A gate that rows far from all others do not pass.
    let mut far = Table::of(800..840);
    far.rows.iter_mut().for_each(|(_, vector)| vector.iter_mut().for_each(|x| *x += 50.0));
    let (code, report) = with_gate("a", "outliers<=0.5", &table.clone().and(far), "");
    assert_eq!((code, report["version"].as_u64(), current(&place)), (3, Some(2), 1), "{report}");
    // The corrected table: as many rows of the same ids, and the gates are those of its own version.
    let right = table.clone().and(Table::of(800..840));
    let (code, report) = with_gate("a", "outliers<=0.5", &right, "");
    assert_eq!((code, report["outcome"].as_str()), (0, Some("published")), "{report}");
    assert_eq!((report["version"].as_u64(), report["parent"].as_u64()), (Some(3), Some(1)), "{report}");
    assert!(report["measures"]["outliers"].as_f64() <= Some(0.5), "{report}");
    assert_eq!((current(&place), versions(&place)[&3]["run_id"].as_str()), (3, Some("a")));
    assert!(export(&place, "").values().all(|row| row.added_in == 1 || row.added_in == 3));
    // The name now stands for the published version.
    let (code, report) = with_gate("a", "outliers<=0.5", &table, "");
    assert_eq!((code, report["outcome"].as_str()), (0, Some("already-published")), "{report}");

    // A table without what was refused is the current version's: there is nothing to do.
    assert_eq!(with_gate("b", "recall>=1.01", &right.clone().and(Table::of(900..910)), "").0, 3);
    let (code, report) = with_gate("b", "recall>=0.5", &right, "");
    assert_eq!((code, report["outcome"].as_str(), current(&place)), (0, Some("unchanged"), 3), "{report}");
    // The same table by another mode is another version.
    let more = right.and(Table::of(900..910));
    let (code, report) = with_gate("c", "recall>=1.01", &more, "--mode transform");
    assert_eq!((code, report["version"].as_u64()), (3, Some(5)), "{report}");
    let (code, report) = with_gate("c", "recall>=0.5", &more, "--mode transform --move dirty");
    assert_eq!((code, report["version"].as_u64()), (0, Some(6)), "{report}");
    assert!(report["measures"]["moved_rows"].as_u64() > Some(0), "{report}");
    place.ok("verify m");
}

/// A table of changes is compared with what it makes of the current version, not only with the refused rows.
#[test]
fn a_refused_run_of_changes_takes_the_changes_of_now() {
    let (place, _) = fitted(0..800);
    let run = |parts: &[(Table, &str)], gate: &str| {
        Table::write_changes(&place, "c.arrow", parts);
        let told = place.run(&format!("update m --source c.arrow --changes --run-id a --json --quiet --gate {gate}"));
        (told.code, json(&told))
    };
    let [first, second] = [800..820, 820..840].map(|rows| (Table::of(rows), "added"));
    assert_eq!(run(&[first.clone(), second], "recall>=1.01").0, 3);
    // Every row of this table is one of the refused version.
    let (code, report) = run(&[first], "recall>=0.5");
    assert_eq!((code, report["counts"]["added"].as_u64(), current(&place)), (0, Some(20), 3), "{report}");
    assert_eq!(export(&place, "").len(), 820);
}

#[test]
fn a_model_is_not_made_twice_nor_from_what_cannot_be_one() {
    let (place, _) = fitted(0..600);
    place.refused(&format!("embed t.arrow --model m {FIT}"), &["m", "update"]);
    place.refused("embed t.arrow --model new --method tsne-exact --id id", &["tsne-exact"]);
    std::fs::create_dir(place.path("full")).expect("a directory");
    std::fs::write(place.path("full/precious"), "x").expect("written");
    place.refused(&format!("embed t.arrow --model full {FIT}"), &["full"]);
    assert_eq!(place.bytes("full/precious"), b"x");
    // Row numbers are no ids.
    place.ok("embed t.arrow --model plain --n-epochs 5 --threads 2 --quiet");
    place.refused("update plain --source t.arrow", &["--id"]);
}

#[test]
fn an_id_that_is_kept_and_deleted_is_named() {
    let (place, _) = fitted(0..600);
    let (kept, gone) = (Table::of(5..6), Table::of(5..7));
    Table::write_changes(&place, "c.arrow", &[(gone, "deleted"), (kept, "changed")]);
    check_refused(&place, "--source c.arrow --changes", &["c.arrow: row 2", &format!("\"{}\"", id_of(5)), "\"id\""]);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_text_are_named() {
    use std::os::unix::ffi::OsStrExt;
    let (place, _) = fitted(0..600);
    let wrong = std::ffi::OsStr::from_bytes(b"w\xffng");
    let run = |before: &str, after: &str| {
        let mut command = place.command(before);
        command.arg(wrong).args(after.split_whitespace());
        crate::harness::answer(command)
    };
    for (before, after) in [
        ("embed", "--model new"),
        ("tag m", ""),
        ("update m --source t.arrow --run-id", ""),
        ("embed t.arrow --id id --n-epochs 5 --model", ""),
        ("update", "--source t.arrow"),
        ("transform t.arrow -o p.arrow --model", ""),
        ("versions", ""),
        ("gc --keep 1", ""),
        ("export -o e.arrow", ""),
    ] {
        let told = run(before, after);
        assert_eq!(told.code, 2, "{before}: {}", told.stderr);
        assert!(told.stderr.contains("\"w\\xFFng\"") && told.stderr.contains("UTF-8"), "{before}: {}", told.stderr);
        assert!(!told.stderr.contains("panicked"), "{before}: {}", told.stderr);
    }
    assert!(!place.path("new").exists());
}
