//! Columns that a model keeps: stored by the fit and by updates, given back by an export.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};

use super::{FIT, Table, current, files, id_of, json, read, texts, write_batches};
use crate::harness::TestDir;

/// Columns of the tables beside id and vector.
const KEEP: &str = "--keep label,price --keep tags --keep section";

/// A table with further columns: numbers and lists with nulls, and a dictionary. `night` changes all prices.
fn priced(table: &Table, night: i64) -> RecordBatch {
    let batch = table.batch();
    let ids: Vec<i64> = table.rows.iter().map(|(id, _)| *id).collect();
    let prices = ids.iter().map(|id| (id % 7 != 0).then_some((id * 10 + night) as f64));
    let tags = ids.iter().map(|id| (id % 3 != 0).then(|| vec![Some((id % 11) as i32), None]));
    let sections: DictionaryArray<Int32Type> =
        ids.iter().map(|id| ["admin", "games", "net"][(id % 3) as usize]).collect();
    let more: [(&str, ArrayRef); 3] = [
        ("price", Arc::new(prices.collect::<Float64Array>())),
        ("tags", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(tags))),
        ("section", Arc::new(sections)),
    ];
    let schema = batch.schema();
    let columns = schema.fields().iter().map(|f| f.name().as_str()).zip(batch.columns().iter().cloned());
    let columns = columns.chain(more).map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

fn write(place: &TestDir, table: &Table, night: i64) -> RecordBatch {
    let batch = priced(table, night);
    write_batches(&place.path("t.arrow"), std::slice::from_ref(&batch));
    batch
}

/// A place with a model that keeps columns, and its table.
fn kept(rows: std::ops::Range<usize>) -> (TestDir, Table, RecordBatch) {
    let (place, table) = (TestDir::new(), Table::of(rows));
    let batch = write(&place, &table, 0);
    place.ok(&format!("embed t.arrow --model m {KEEP} {FIT}"));
    (place, table, batch)
}

/// The kept columns of a table by id, as text.
fn by_id(table: &RecordBatch) -> BTreeMap<i64, [String; 4]> {
    let ids = cast(table.column_by_name("id").expect("ids"), &DataType::Int64).expect("integers");
    let told = |name: &str| -> Vec<String> {
        let column = table.column_by_name(name).unwrap_or_else(|| panic!("no {name}"));
        match column.data_type() {
            DataType::List(_) => column.as_list::<i32>().iter().map(|list| format!("{list:?}")).collect(),
            _ => texts(column),
        }
    };
    let columns = ["label", "price", "tags", "section"].map(told);
    let row = |i: usize| columns.each_ref().map(|column| column[i].clone());
    ids.as_primitive::<Int64Type>().values().iter().enumerate().map(|(i, &id)| (id, row(i))).collect()
}

fn exported(place: &TestDir, options: &str) -> BTreeMap<i64, [String; 4]> {
    place.ok(&format!("export m -o export.arrow --force --quiet {options}"));
    by_id(&read(&place.path("export.arrow")))
}

fn update(place: &TestDir, options: &str) -> serde_json::Value {
    json(&place.ok(&format!("update m --source t.arrow --threads 2 --json --quiet {options}")))
}

#[test]
fn an_export_has_the_kept_columns_behind_the_coordinates() {
    let (place, _, batch) = kept(0..700);
    assert_eq!(exported(&place, ""), by_id(&batch));
    let table = read(&place.path("export.arrow"));
    let names: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "x", "y", "label", "price", "tags", "section", "added_in", "moved", "neighbors"]);
    assert_eq!(table.column_by_name("price").expect("prices").data_type(), &DataType::Float64);
    // Parquet, too; and the file of -o has the columns of its own.
    place.ok("export m -o export.parquet --quiet");
    place.ok("plot export.parquet --color label -o export.png --quiet");
    place.ok(&format!("embed t.arrow --model both -o both.arrow {KEEP} {FIT}"));
    assert_eq!(by_id(&read(&place.path("both.arrow"))), by_id(&batch));
    let objects = |model: &str| super::objects(&place.path(model), 1);
    assert_eq!(objects("m")["kept"], objects("both")["kept"]);
    // Whatever memory and threads.
    let other = FIT.replace("--threads 2", "--threads 1 --memory 300MiB");
    place.ok(&format!("embed t.arrow --model other {KEEP} {other}"));
    assert_eq!(objects("other")["kept"], objects("m")["kept"]);
    place.ok("verify m");
}

#[test]
fn an_update_stores_the_kept_columns_of_new_rows() {
    let (place, table, first) = kept(0..700);
    let second = table.without(0..10).changing(30..35).and(Table::of(700..720));
    let batch = write(&place, &second, 1);
    assert_eq!(update(&place, "--mode transform")["outcome"], "published");
    // Rows whose vector is the same keep what was stored; new and changed ones have what the table has now.
    let (before, changed) = (by_id(&first), (30..35).map(id_of).collect::<Vec<_>>());
    let mut expected = by_id(&batch);
    let unchanged = expected.iter_mut().filter(|(id, _)| before.contains_key(id) && !changed.contains(id));
    unchanged.for_each(|(id, row)| row.clone_from(&before[id]));
    assert_eq!(exported(&place, ""), expected);
    // A second night, whose delta has the rows of the first.
    let added = Table::of(720..740);
    let third = second.and(added.clone());
    write(&place, &third, 2);
    update(&place, "--mode transform");
    expected.extend(by_id(&priced(&added, 2)));
    assert_eq!(exported(&place, ""), expected);
    place.ok("verify m");
    // A refit takes what the table has now.
    let batch = write(&place, &third, 3);
    assert_eq!(update(&place, "--mode refit")["outcome"], "published");
    assert_eq!(exported(&place, ""), by_id(&batch));
    place.ok("rollback m --to 1 --quiet");
    assert_eq!(exported(&place, ""), before);
    place.ok("gc m --keep 1 --quiet");
    place.ok("verify m");
    assert_eq!(exported(&place, ""), before);
    place.ok("transform --model m t.arrow -o p.npy --quiet");
}

#[test]
fn a_table_of_changes_has_the_kept_columns() {
    let (place, _, first) = kept(0..600);
    let added = priced(&Table::of(600..610), 1);
    let what: ArrayRef = Arc::new(StringArray::from(vec!["added"; added.num_rows()]));
    let schema = added.schema();
    let columns = schema.fields().iter().map(|f| f.name().as_str()).zip(added.columns().iter().cloned());
    let columns = columns.chain([("change", what)]).map(|(name, array)| (name, array, true));
    let changes = RecordBatch::try_from_iter_with_nullable(columns).expect("a batch");
    write_batches(&place.path("t.arrow"), &[changes]);
    update(&place, "--changes");
    let mut expected = by_id(&first);
    expected.extend(by_id(&added));
    assert_eq!(exported(&place, ""), expected);
}

#[test]
fn a_table_without_a_kept_column_or_with_another_type_is_refused_at_once() {
    let (place, table, _) = kept(0..600);
    let table = table.and(Table::of(600..610));
    let before = files(&place.path("m"));
    table.write(&place, "t.arrow");
    place.refused("update m --source t.arrow", &["t.arrow", "\"price\"", "give a table that has it"]);
    place.refused("update m --source t.arrow --mode refit", &["t.arrow", "\"price\""]);
    let batch = priced(&table, 1);
    let schema = batch.schema();
    let retyped = |name: &str, column: &ArrayRef| match name {
        "price" => Arc::new(Int64Array::from_iter_values(0..column.len() as i64)) as ArrayRef,
        // Another form of text is text.
        "label" => cast(column, &DataType::LargeUtf8).expect("text"),
        _ => column.clone(),
    };
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| (field.name().as_str(), retyped(field.name(), column), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("a batch");
    write_batches(&place.path("t.arrow"), &[batch]);
    place.refused("update m --source t.arrow", &["t.arrow", "\"price\" has type Int64", "Float64", "refit"]);
    let now = files(&place.path("m"));
    let same = |files: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        files.keys().filter(|name| *name != "LOCK").cloned().collect()
    };
    assert_eq!((same(&now), current(&place)), (same(&before), 1), "nothing was begun");
    // A refit takes the table's types.
    update(&place, "--mode refit");
    place.ok("export m -o export.arrow --force --quiet");
    let export = read(&place.path("export.arrow"));
    assert_eq!(export.column_by_name("price").expect("prices").data_type(), &DataType::Int64);
}

#[test]
fn columns_that_cannot_be_kept_are_refused_before_any_work() {
    let (place, table) = (TestDir::new(), Table::of(0..600));
    let batch = table.batch();
    for name in ["x", "y", "added_in", "moved", "neighbors"] {
        let columns = [("id", batch.column(0)), ("vector", batch.column(1)), (name, batch.column(2))];
        let renamed =
            RecordBatch::try_from_iter(columns.map(|(name, column)| (name, column.clone()))).expect("a batch");
        write_batches(&place.path("t.arrow"), &[renamed]);
        let told = format!("column \"{name}\" cannot be kept in the model");
        place.refused(&format!("embed t.arrow --model m --keep {name} {FIT}"), &[&told, "rename"]);
        assert!(!Path::exists(&place.path("m")), "{name}");
    }
    table.write(&place, "t.arrow");
    place.refused(&format!("embed t.arrow --model m --keep nothing {FIT}"), &["nothing"]);
    place.refused(&format!("embed t.arrow --model m --keep id {FIT}"), &["id"]);
    place.refused(&format!("embed t.arrow --model m --keep label --keep label {FIT}"), &["label", "twice"]);
    assert!(!Path::exists(&place.path("m")));
}
