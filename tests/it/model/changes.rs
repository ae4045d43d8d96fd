//! Tables of changes in which rows have no vectors, or which have no rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullArray, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Float32Type};
use arrow::record_batch::RecordBatch;

use super::{FIT, POOL, Table, copy, current, export, fitted, id_of, json, objects, write_batches};
use crate::harness::TestDir;

/// The ids of rows, what happened to them, and a column of vectors, if one is given.
fn changes(rows: std::ops::Range<usize>, what: &str, vector: Option<ArrayRef>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(rows.clone().map(id_of)));
    let what: ArrayRef = Arc::new(StringArray::from(vec![what; rows.len()]));
    let columns = [("id", Some(ids)), ("change", Some(what)), ("vector", vector)];
    let columns = columns.into_iter().filter_map(|(name, column)| Some((name, column?, true)));
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

#[test]
fn deleted_rows_need_neither_vectors_nor_kept_columns() {
    let (place, table) = (TestDir::new(), Table::of(0..600));
    table.write(&place, "t.arrow");
    place.ok(&format!("embed t.arrow --model m --keep label {FIT}"));
    copy(&place.path("m"), &place.path("first"));
    let again = || {
        std::fs::remove_dir_all(place.path("m")).expect("removed");
        copy(&place.path("first"), &place.path("m"));
    };
    let gone = table.clone().without(0..100).without(120..POOL);
    Table::write_changes(&place, "c.arrow", &[(gone, "deleted")]);
    let arguments = "update m --source c.arrow --changes --run-id gone --mode transform --json --quiet";
    place.ok(arguments);
    let expected = objects(&place.path("m"), 2);
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, [Option<f32>; 0], _>(vec![None; 20]));
    let fixed = new_null_array(&DataType::FixedSizeList(item, super::DIM as i32), 20);
    for (form, vector) in [
        ("none", None),
        ("lists", Some(lists)),
        ("fixed", Some(fixed)),
        ("null", Some(Arc::new(NullArray::new(20)) as _)),
    ] {
        again();
        write_batches(&place.path("c.arrow"), &[changes(100..120, "deleted", vector)]);
        let report = json(&place.ok(arguments));
        for (name, count) in [("rows", 580), ("added", 0), ("changed", 0), ("deleted", 20), ("unchanged", 580)] {
            assert_eq!(report["counts"][name], count, "{form}: {name}: {report}");
        }
        assert_eq!(objects(&place.path("m"), 2), expected, "{form}");
        place.ok("verify m --quiet");
    }
    // A row that is not deleted needs both.
    for what in ["added", "changed"] {
        let batches = [changes(120..121, "deleted", None), changes(121..122, what, None)];
        write_batches(&place.path("c.arrow"), &batches);
        place.refused("update m --source c.arrow --changes --run-id more --quiet", &["c.arrow", "label"]);
    }
    assert_eq!(current(&place), 2);
}

#[test]
fn added_and_deleted_rows_may_be_in_files_of_different_columns() {
    let (place, _) = fitted(0..600);
    Table::write_changes(&place, "a.arrow", &[(Table::of(600..620), "added")]);
    write_batches(&place.path("b.arrow"), &[changes(100..130, "deleted", None)]);
    for (arguments, rows) in
        [("--source a.arrow --source b.arrow --run-id 1", 590), ("--source b.arrow --source a.arrow --run-id 2", 590)]
    {
        place.ok(&format!("update m {arguments} --changes --quiet"));
        assert_eq!(export(&place, "").len(), rows, "{arguments}");
    }
    // An added row without a vector.
    write_batches(&place.path("b.arrow"), &[changes(200..201, "deleted", None), changes(700..701, "added", None)]);
    place.refused("update m --source b.arrow --changes", &["b.arrow", "row 1", "vector"]);
    place.refused("update m --source a.arrow --source b.arrow --changes", &["b.arrow", "1"]);
    // Without `--changes` every row needs one.
    place.refused("update m --source b.arrow", &["b.arrow", "vector"]);
}

#[test]
fn a_table_of_changes_without_rows_changes_nothing() {
    let (place, _) = fitted(0..600);
    let empty = |vector: Option<ArrayRef>| changes(0..0, "deleted", vector);
    Table::write_changes(&place, "whole.arrow", &[(Table::of(0..0), "added")]);
    write_batches(&place.path("none.arrow"), &[empty(None)]);
    write_batches(&place.path("null.arrow"), &[empty(Some(Arc::new(NullArray::new(0))))]);
    for source in ["whole.arrow", "none.arrow", "null.arrow", "none.arrow --source null.arrow"] {
        let told = place.run(&format!("update m --source {source} --changes --no-change-exit-code 99 --json --quiet"));
        assert_eq!((told.code, current(&place)), (99, 1), "{source}: {}", told.stderr);
        let report = json(&told);
        assert_eq!((report["outcome"].as_str(), report["counts"]["rows"].as_u64()), (Some("unchanged"), Some(600)));
        assert_eq!(place.run(&format!("update m --source {source} --changes --quiet")).code, 0, "{source}");
    }
    // A whole table without rows is not one in which nothing changed.
    assert_eq!(place.run("update m --source whole.arrow").code, 2);
}

#[test]
fn one_usable_row_among_others_is_a_change() {
    let (place, table) = fitted(0..600);
    let mut new = Table::of(700..703);
    new.rows[0].1[2] = f32::NAN;
    new.rows[2].1[0] = f32::INFINITY;
    Table::write_changes(&place, "c.arrow", &[(new, "added")]);
    let update = "update m --source c.arrow --changes --mode transform --invalid drop --json --quiet";
    let report = json(&place.ok(update));
    assert_eq!((&report["counts"]["added"], &report["left_out"]["rows"]), (&1.into(), &2.into()), "{report}");
    assert_eq!(export(&place, "").len(), table.len() + 1);
}
