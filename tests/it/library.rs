//! The library without files: rows in memory, maps in memory, batches, and anybody's sink give what
//! the command line writes.

use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Float32Type, UInt64Type};
use lowland::{InvalidRows, MapSink, Rows};

use crate::harness::TestDir;

const DIM: usize = 6;

/// Rows in three groups.
fn values(rows: usize) -> Vec<f32> {
    (0..rows * DIM).map(|i| ((i / DIM % 3) * 20) as f32 + ((i * 7919 % 1009) as f32).sin()).collect()
}

fn batch(values: Vec<f32>, valid: impl Fn(usize) -> bool) -> RecordBatch {
    let rows = values.len() / DIM;
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let nulls = (0..rows).map(valid).collect::<Vec<bool>>().into();
    let vectors = FixedSizeListArray::new(item, DIM as i32, Arc::new(Float32Array::from(values)), Some(nulls));
    let names: StringArray = (0..rows).map(|i| Some(format!("row {i}"))).collect();
    let columns: [(&str, ArrayRef); 2] = [("vector", Arc::new(vectors)), ("name", Arc::new(names))];
    RecordBatch::try_from_iter(columns).expect("a batch")
}

/// The options of all maps here.
fn begun(rows: impl Into<Rows>) -> lowland::Embed {
    lowland::embed(rows).n_epochs(20).memory("1GiB").threads(2)
}

/// Collects batches.
fn batches(embed: lowland::Embed) -> Vec<RecordBatch> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let to = all.clone();
    embed
        .batches(move |batch| {
            to.lock().expect("one thread").push(batch);
            Ok(())
        })
        .expect("a map");
    std::mem::take(&mut all.lock().expect("one thread"))
}

fn column(batches: &[RecordBatch], name: &str) -> Vec<f32> {
    let of = |batch: &RecordBatch| {
        let array = batch.column_by_name(name).expect("a column").as_primitive::<Float32Type>().clone();
        (0..array.len()).map(move |i| if array.is_null(i) { f32::NAN } else { array.value(i) }).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

#[test]
fn a_map_of_rows_in_memory_is_that_of_the_same_rows_in_a_file() {
    let place = TestDir::new();
    let array = begun((values(500), DIM)).run().expect("a map");
    assert_eq!((array.rows(), array.n_components), (500, 2));
    begun((values(500), DIM)).write(place.path("m.npy")).expect("a map");
    let file = place.bytes("m.npy");
    let bytes: Vec<u8> = array.coordinates.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(file.ends_with(&bytes) && file.len() < bytes.len() + 200);
    assert!(!place.path("m.npy.run").exists(), "the run directory of a finished run is gone");

    let found = batches(begun(batch(values(500), |_| true)).id("name").keep(["vector"]));
    let pairs: Vec<f32> = column(&found, "x").into_iter().zip(column(&found, "y")).flat_map(|(x, y)| [x, y]).collect();
    assert!(pairs == array.coordinates);
    let names: Vec<&str> = found.iter().map(|b| b.schema_ref().field(0).name().as_str()).collect();
    assert!(names.iter().all(|name| *name == "name"), "{names:?}");
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 500);
}

#[test]
fn rows_that_are_left_out_have_their_place_in_memory_too() {
    let valid = |i: usize| i % 50 != 3;
    let rows = || batch(values(400), valid);
    assert!(begun(rows()).run().expect_err("null rows").is_bad_input());

    let null = begun(rows()).invalid(InvalidRows::Null).run().expect("a map");
    assert_eq!(null.rows(), 400);
    for row in 0..400 {
        assert_eq!(null.row(row)[0].is_nan(), !valid(row), "row {row}");
    }
    let found = batches(begun(rows()).invalid(InvalidRows::Drop));
    let ids: Vec<u64> = found.iter().flat_map(|b| b.column(0).as_primitive::<UInt64Type>().values().to_vec()).collect();
    let expected: Vec<u64> = (0..400).filter(|&i| valid(i as usize)).collect();
    assert_eq!(UInt64Array::from(ids), UInt64Array::from(expected));
    let placed: Vec<f32> = (0..400).filter(|&i| valid(i)).map(|i| null.row(i)[0]).collect();
    assert!(column(&found, "x") == placed);
}

#[test]
fn a_run_over_rows_in_memory_goes_on_only_with_the_same_rows() {
    let place = TestDir::new();
    let run = || begun((values(500), DIM)).run_dir(place.path("run"));
    let first = run().run().expect("a map");
    assert!(first.report.reused.is_empty());
    let again = run().run().expect("a map");
    assert!(!again.report.reused.is_empty(), "the same rows, so finished stages are used again");
    assert!(again.coordinates == first.coordinates);
    let mut other = values(500);
    other[7] += 0.5;
    let refused = begun((other, DIM)).run_dir(place.path("run")).run().expect_err("other rows").to_string();
    assert!(refused.contains("holds a run with sources"), "{refused}");
}

#[test]
fn a_sink_that_fails_ends_the_run_with_its_error() {
    struct Full;
    impl MapSink for Full {
        fn write(&mut self, first: u64, _: &[f32]) -> lowland_engine::Result<()> {
            Err(lowland_io::Error::format("the caller's table", format!("no room at row {first}")).into())
        }
    }
    let (job, _) = begun((values(300), DIM)).job().expect("a job");
    let plan = job.plan().expect("a plan");
    let error = job.embed_to(&plan, &mut Full, &()).expect_err("a full sink").to_string();
    assert!(error.contains("the caller's table: no room at row 0"), "{error}");
}

#[test]
fn options_that_are_not_understood_are_told_before_any_row_is_read() {
    let error = lowland::embed("no-such-file.npy").memory("much").run().expect_err("no size").to_string();
    assert!(error.contains("memory") && error.contains("4GiB"), "{error}");
    let error = lowland::embed("no-such-file.npy").run().expect_err("no file").to_string();
    assert!(error.contains("no-such-file.npy"), "{error}");
    assert!(lowland::embed((values(300), DIM)).n_neighbors(300).plan().expect_err("too many").is_bad_input());
}
