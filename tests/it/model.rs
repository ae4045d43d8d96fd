//! Stored maps, through the program: a fit leaves a model, rows are placed on it, nightly tables update it, and whatever
//! is done to it, it has whole versions only.
//!
//! - `transform`: new rows on a map that does not change. `update`: what a table changes. `moved`: rows that move, because
//!   their neighbours change. `refused`: updates that are
//!   refused. `changes`: tables of changes without vectors. `refit`: the whole map anew. `history`: versions, tags, rollback,
//!   removal, differences, export.
//! - `metrics`: the file for Prometheus. `reports`: the JSON of the commands.
//! - `damage`: checksums, copies, read-only disks, later formats. `space`: a full disk. `killed`: SIGKILL at any
//!   moment. `golden`: a model that was made once and kept. `kept`: columns that a model keeps.
//!
//! This file has the tables, and models as the tests look at them.

mod changes;
mod damage;
mod golden;
mod history;
mod kept;
mod killed;
mod metrics;
mod moved;
mod refit;
mod refused;
mod reports;
mod space;
mod transform;
mod update;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Float32Type};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use lowland_datasets::{DatasetKind, Generator, Mixture};
use serde_json::Value;

use crate::harness::{CommandOutput, TestDir};

/// Components of a vector.
const DIM: usize = 8;
/// Rows that tables take theirs from.
const POOL: usize = 6_000;
/// Options of a fit that takes little time.
const FIT: &str = "--id id --n-neighbors 10 --n-epochs 40 --threads 2 --quiet";

/// Rows with ids, as a night's table has them.
#[derive(Clone)]
struct Table {
    /// Id and vector of each row.
    rows: Vec<(i64, Vec<f32>)>,
    /// Whether ids are written as texts.
    texts: bool,
}

/// The vectors of rows `rows` of one mixture of clouds.
fn pool(rows: std::ops::Range<usize>) -> Vec<Vec<f32>> {
    let kind = DatasetKind::Mixture(Mixture { components: 20, ..Mixture::default() });
    let generator = Generator::new(kind, POOL as u64, DIM, 5).expect("a generator");
    generator.table(rows.start as u64, rows.len()).chunks_exact(DIM).map(<[f32]>::to_vec).collect()
}

impl Table {
    /// Rows of the pool; row `i` has the id `3 i + 1`, and rows are not in the order of ids.
    fn of(rows: std::ops::Range<usize>) -> Self {
        let first = rows.start;
        let mut rows: Vec<(i64, Vec<f32>)> =
            pool(rows).into_iter().enumerate().map(|(i, vector)| (id_of(first + i), vector)).collect();
        rows.sort_by_key(|(id, _)| id.wrapping_mul(7919) % 1009);
        Table { rows, texts: false }
    }

    fn with_texts(self) -> Self {
        Table { texts: true, ..self }
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn vector(&self, id: i64) -> &[f32] {
        &self.rows.iter().find(|row| row.0 == id).expect("a row").1
    }

    /// The table with the rows of `more` at its end.
    fn and(mut self, more: Table) -> Self {
        self.rows.extend(more.rows);
        self
    }

    /// The table without rows `rows` of the pool.
    fn without(mut self, rows: std::ops::Range<usize>) -> Self {
        let ids: std::collections::BTreeSet<i64> = rows.map(id_of).collect();
        self.rows.retain(|(id, _)| !ids.contains(id));
        self
    }

    /// The table in which rows `rows` of the pool have other vectors.
    fn changing(mut self, rows: std::ops::Range<usize>) -> Self {
        let ids: std::collections::BTreeSet<i64> = rows.map(id_of).collect();
        for (id, vector) in &mut self.rows {
            if ids.contains(id) {
                vector.iter_mut().for_each(|x| *x = *x * 0.75 + 0.125);
            }
        }
        self
    }

    fn id(&self, row: usize) -> String {
        match self.texts {
            true => text_id(self.rows[row].0),
            false => self.rows[row].0.to_string(),
        }
    }

    /// Writes `id`, `vector` and `label`.
    fn write(&self, place: &TestDir, name: &str) {
        self.write_to(&place.path(name));
    }

    /// Writes the tables one after another, with what happened to the rows of each.
    fn write_changes(place: &TestDir, name: &str, parts: &[(Table, &str)]) {
        let batches = parts.iter().map(|(table, what)| {
            let batch = table.batch();
            let what: ArrayRef = Arc::new(StringArray::from(vec![*what; batch.num_rows()]));
            let schema = batch.schema();
            let columns = schema.fields().iter().map(|f| f.name().clone()).zip(batch.columns().iter().cloned());
            let columns: Vec<(String, ArrayRef)> = columns.chain([("change".to_string(), what)]).collect();
            RecordBatch::try_from_iter(columns).expect("a batch")
        });
        write_batches(&place.path(name), &batches.collect::<Vec<_>>());
    }

    fn write_to(&self, path: &Path) {
        write_batches(path, &[self.batch()]);
    }

    fn batch(&self) -> RecordBatch {
        let dim = self.rows.first().map_or(DIM, |(_, vector)| vector.len());
        let ids: ArrayRef = match self.texts {
            true => Arc::new(StringArray::from_iter_values((0..self.len()).map(|row| self.id(row)))),
            false => Arc::new(Int64Array::from_iter_values(self.rows.iter().map(|(id, _)| *id))),
        };
        let values = Float32Array::from_iter_values(self.rows.iter().flat_map(|(_, vector)| vector.iter().copied()));
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(values), None));
        let labels = self.rows.iter().map(|(id, _)| format!("label {}", id % 5));
        let labels: ArrayRef = Arc::new(StringArray::from_iter_values(labels));
        let columns = [("id", ids), ("vector", vectors), ("label", labels)];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }
}

fn write_batches(path: &Path, batches: &[RecordBatch]) {
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = FileWriter::try_new(file, &batches[0].schema()).expect("begun");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.finish().expect("finished");
}

/// The id of a row of the pool.
fn id_of(row: usize) -> i64 {
    3 * row as i64 + 1
}

fn text_id(id: i64) -> String {
    format!("row {id:06}")
}

/// A place with `t.arrow`, rows of the pool, and `m`, a model of them.
fn fitted(rows: std::ops::Range<usize>) -> (TestDir, Table) {
    let place = TestDir::new();
    let table = Table::of(rows);
    table.write(&place, "t.arrow");
    place.ok(&format!("embed t.arrow --model m {FIT}"));
    (place, table)
}

/// Updates `m` by the table, which becomes `t.arrow`, and gives the report.
fn update(place: &TestDir, table: &Table, options: &str) -> Value {
    table.write(place, "t.arrow");
    json(&place.ok(&format!("update m --source t.arrow --json --quiet {options}")))
}

/// What a program printed, as JSON.
fn json(told: &CommandOutput) -> Value {
    serde_json::from_str(&told.stdout).unwrap_or_else(|e| panic!("{e}: {}", told.stdout))
}

/// The number of the current version of `m`.
fn current(place: &TestDir) -> u64 {
    current_of(&place.path("m")).expect("a current version")
}

/// The number in `CURRENT`, if something was published.
fn current_of(model: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(model.join("CURRENT")).ok()?;
    let number = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{}: {text}", model.display())))
}

/// The objects of a version by role, as its record names them: a name is the checksum of the content.
fn objects(model: &Path, version: u64) -> Value {
    let record = std::fs::read(model.join(format!("versions/{version:06}.json"))).expect("a record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    record["objects"].clone()
}

/// The versions of `m` by number, as `versions --json` tells them.
fn versions(place: &TestDir) -> BTreeMap<u64, Value> {
    let told = json(&place.ok("versions m --json"));
    told.as_array().expect("an array").iter().map(|v| (v["number"].as_u64().expect("a number"), v.clone())).collect()
}

/// A row of an exported version.
#[derive(Debug, Clone, PartialEq)]
struct Exported {
    /// Bits of the coordinates.
    position: Vec<u32>,
    added_in: u64,
    moved: Option<f32>,
    /// Neighbours' ids, and their distances.
    near: Vec<String>,
    distances: Vec<f32>,
}

/// A version of `m` by id, as a table. Options choose the version.
fn export(place: &TestDir, options: &str) -> BTreeMap<String, Exported> {
    place.ok(&format!("export m -o export.arrow --force --quiet {options}"));
    exported(&place.path("export.arrow"))
}

fn exported(path: &Path) -> BTreeMap<String, Exported> {
    let table = read(path);
    let column = |name: &str| table.column_by_name(name).unwrap_or_else(|| panic!("no {name}")).clone();
    let ids = texts(&column("id"));
    let [x, y] = ["x", "y"].map(|name| column(name).as_primitive::<Float32Type>().clone());
    let added = cast(&column("added_in"), &DataType::Int64).expect("numbers");
    let added = added.as_primitive::<arrow::datatypes::Int64Type>().clone();
    let moved = column("moved").as_primitive::<Float32Type>().clone();
    let near = column("neighbors");
    let near = near.as_struct();
    let lists = near.column_by_name("ids").expect("ids").as_list::<i32>().clone();
    let distances = near.column_by_name("distances").expect("distances").as_list::<i32>().clone();
    let row = |i: usize| Exported {
        position: vec![x.value(i).to_bits(), y.value(i).to_bits()],
        added_in: added.value(i) as u64,
        moved: moved.is_valid(i).then(|| moved.value(i)),
        near: texts(&lists.value(i)),
        distances: distances.value(i).as_primitive::<Float32Type>().values().to_vec(),
    };
    let rows: BTreeMap<String, Exported> = ids.iter().enumerate().map(|(i, id)| (id.clone(), row(i))).collect();
    assert_eq!(rows.len(), table.num_rows(), "each id once");
    rows
}

/// An Arrow file as one batch.
fn read(path: &Path) -> RecordBatch {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let reader = FileReader::try_new(file, None).expect("an Arrow file");
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
    concat_batches(&schema, &batches).expect("one batch")
}

/// A column's values as text.
fn texts(column: &ArrayRef) -> Vec<String> {
    let text = cast(column, &DataType::Utf8).expect("text");
    text.as_string::<i32>().iter().map(|t| t.unwrap_or("null").to_string()).collect()
}

/// A map of new rows that `transform` wrote: positions' bits and outlier scores by id.
fn placed(path: &Path) -> BTreeMap<String, ([u32; 2], f32)> {
    let table = read(path);
    let column = |name: &str| table.column_by_name(name).unwrap_or_else(|| panic!("no {name}")).clone();
    let ids = texts(&column("id"));
    let [x, y, outlier] = ["x", "y", "outlier"].map(|name| column(name).as_primitive::<Float32Type>().clone());
    let row = |i: usize| ([x.value(i).to_bits(), y.value(i).to_bits()], outlier.value(i));
    ids.into_iter().enumerate().map(|(i, id)| (id, row(i))).collect()
}

/// Every file of a directory with its bytes, by its name below it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("below").to_string_lossy().into_owned();
                found.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let path = entry.expect("an entry").path();
        let name = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &name);
        } else {
            std::fs::copy(&path, &name).expect("copied");
        }
    }
}

/// Squared distances of `vector` to the rows of a table, ascending, with ids.
fn nearest(table: &Table, vector: &[f32]) -> Vec<(f64, i64)> {
    let squared =
        |other: &[f32]| -> f64 { vector.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum() };
    let mut all: Vec<(f64, i64)> = table.rows.iter().map(|(id, other)| (squared(other), *id)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all
}
