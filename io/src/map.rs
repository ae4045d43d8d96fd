//! The map: rows of coordinates, beside the columns that the user asked to keep.
//!
//! ```text
//! .parquet, .arrow   id (or the user's own id column), x, y[, z] or c0, c1, …,
//!                    then the kept columns
//! .npy               rows × dim, <f4, C order; coordinates only
//! ```
//!
//! What must hold: an unfinished map never has the final name; rows come in
//! order, as many as were announced; and the bytes follow from the rows alone,
//! not from the portions in which they were handed in. Hence rows are cut anew
//! into portions of a size that depends on the columns' types only.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, RecordBatch, UInt64Array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::damage;
use crate::durable::{FileStamp, PendingFile};
use crate::edges::arrow_error;
use crate::{Error, Result};

/// Rows written at once where every column has a fixed width, and where some
/// do not, whose values may be long texts.
const ROWS: usize = 1 << 16;
const ROWS_OF_TEXT: usize = 1 << 12;
/// A row group is closed when it has come to about this size, or to 2^20 rows.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// What a map consists of.
#[derive(Debug, Clone)]
pub struct MapColumns {
    /// The number of rows.
    pub rows: u64,
    /// Components of each position, at least 1.
    pub dim: usize,
    /// The columns passed through, if any, as [`MapWriter::write_rows`] will be given them.
    pub extra: Option<SchemaRef>,
    /// Whether the first of `extra` is the id, in place of row numbers.
    pub own_id: bool,
}

/// The names of the coordinates: x, y, z, or c0, c1, … if there are more than three.
pub fn coordinate_names(dim: usize) -> Vec<String> {
    if dim <= 3 {
        ["x", "y", "z"].iter().take(dim).map(|n| n.to_string()).collect()
    } else {
        (0..dim).map(|c| format!("c{c}")).collect()
    }
}

enum Sink {
    Parquet(Box<ArrowWriter<PendingFile>>),
    Arrow(Box<FileWriter<PendingFile>>),
    Npy(PendingFile),
}

/// Writes a map, which has its name only after [`finish`](MapWriter::finish).
pub struct MapWriter {
    path: PathBuf,
    columns: MapColumns,
    schema: SchemaRef,
    sink: Sink,
    /// The next row.
    next: u64,
    /// Rows not yet written, in order; fewer than `portion` after each call.
    waiting: Vec<RecordBatch>,
    portion: usize,
}

impl std::fmt::Debug for MapWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MapWriter").field("path", &self.path).field("next", &self.next).finish_non_exhaustive()
    }
}

impl MapWriter {
    /// Begins the map `path`, whose ending says the format: `.parquet`,
    /// `.arrow` or `.npy`.
    ///
    /// [`Error::Exists`] if it is there and `force` is not given;
    /// [`Error::Format`] for another ending, for a kept column whose name the
    /// map needs itself, and for kept columns in a `.npy`.
    ///
    /// # Panics
    /// If `dim` is 0.
    pub fn create(path: impl Into<PathBuf>, columns: MapColumns, force: bool) -> Result<Self> {
        assert!(columns.dim > 0);
        let path = path.into();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        if !matches!(ending.as_str(), "parquet" | "arrow" | "npy") {
            return Err(Error::format(&path, "a map's name ends in .parquet, .arrow or .npy"));
        }
        if !force && std::fs::symlink_metadata(&path).is_ok() {
            return Err(Error::Exists { path });
        }
        let schema = schema(&path, &columns)?;
        let fixed = schema.fields().iter().all(|f| f.data_type().primitive_width().is_some());
        let sink = match ending.as_str() {
            "parquet" => {
                let properties = WriterProperties::builder()
                    .set_created_by("lowland".into())
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(1 << 20));
                // Hardly two positions are alike: a dictionary would only cost.
                let properties = coordinate_names(columns.dim)
                    .into_iter()
                    .fold(properties, |p, name| p.set_column_dictionary_enabled(name.into(), false));
                let writer =
                    ArrowWriter::try_new(PendingFile::create(&path)?, schema.clone(), Some(properties.build()));
                Sink::Parquet(Box::new(writer.map_err(|e| parquet_error(&path, "write", e))?))
            }
            "arrow" => {
                let writer = FileWriter::try_new(PendingFile::create(&path)?, &schema);
                Sink::Arrow(Box::new(writer.map_err(|e| arrow_error(&path, "write", e))?))
            }
            _ if columns.extra.as_ref().is_some_and(|s| !s.fields().is_empty()) => {
                return Err(Error::format(
                    &path,
                    "a .npy holds coordinates only; write .parquet or .arrow to keep columns",
                ));
            }
            _ => {
                let mut file = PendingFile::create(&path)?;
                let header = npy_header(columns.rows, columns.dim);
                file.write_all(&header).map_err(|e| Error::io(&path, "write", e))?;
                Sink::Npy(file)
            }
        };
        let portion = if fixed { ROWS } else { ROWS_OF_TEXT };
        Ok(MapWriter { path, columns, schema, sink, next: 0, waiting: Vec::new(), portion })
    }

    /// The memory that a writer of `rows` of `dim` components holds, in bytes; kept
    /// columns come on top, with twice 65,536 of their rows (4,096 where a
    /// column has no fixed width).
    pub fn bytes(rows: u64, dim: usize) -> u64 {
        // A row group and its encoders' buffers, the portion that waits and
        // its copy, and the file's buffer.
        let row = (8 + 4 * dim) as u64;
        2 * (ROW_GROUP_BYTES as u64).min(rows * row) + 2 * (ROWS as u64).min(rows) * row + (2 << 20)
    }

    /// Writes rows `first..`, which must follow those written before: `coords`
    /// is rows × dim, row by row, and `extra` the columns announced in
    /// [`MapColumns`], of as many rows.
    pub fn write_rows(&mut self, first: u64, coords: &[f32], extra: Option<&RecordBatch>) -> Result<()> {
        let dim = self.columns.dim;
        let rows = coords.len() / dim;
        let expected = self.columns.extra.as_ref().map_or(0, |s| s.fields().len());
        let given = extra.map_or(0, |b| b.num_columns());
        let wrong = if !coords.len().is_multiple_of(dim) {
            Some(format!("{} coordinates, no multiple of {dim}", coords.len()))
        } else if first != self.next {
            Some(format!("row {first} where row {} is due", self.next))
        } else if first + rows as u64 > self.columns.rows {
            Some(format!("more than the {} rows announced", self.columns.rows))
        } else if given != expected || extra.is_some_and(|b| expected > 0 && b.num_rows() != rows) {
            Some(format!("{given} kept columns of {:?} rows for {expected} of {rows}", extra.map(|b| b.num_rows())))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            return Err(Error::format(&self.path, wrong));
        }
        self.next += rows as u64;
        if let Sink::Npy(file) = &mut self.sink {
            return coords
                .chunks(ROWS)
                .try_for_each(|part| file.write_all(&part.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()))
                .map_err(|e| Error::io(&self.path, "write", e));
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let mut kept = extra.map_or(&[][..], |b| b.columns()).iter();
        if self.columns.own_id {
            arrays.extend(kept.next().cloned());
        } else {
            arrays.push(Arc::new(UInt64Array::from_iter_values(first..self.next)));
        }
        for c in 0..dim {
            arrays.push(Arc::new(Float32Array::from_iter_values(coords.iter().skip(c).step_by(dim).copied())));
        }
        arrays.extend(kept.cloned());
        let error = |e| arrow_error(&self.path, "write", e);
        for (array, field) in arrays.iter_mut().zip(self.schema.fields()) {
            if matches!(array.data_type(), DataType::Dictionary(..)) {
                *array = cast(array, field.data_type()).map_err(error)?;
            }
        }
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(error)?;
        self.waiting.push(batch);
        while self.waiting.iter().map(RecordBatch::num_rows).sum::<usize>() >= self.portion {
            self.write_portion(self.portion)?;
        }
        Ok(())
    }

    /// Writes the first `rows` of the rows that wait.
    fn write_portion(&mut self, rows: usize) -> Result<()> {
        let mut parts = Vec::new();
        let mut left = rows;
        while left > 0 {
            let batch = self.waiting.remove(0);
            let n = batch.num_rows().min(left);
            parts.push(batch.slice(0, n));
            if n < batch.num_rows() {
                self.waiting.insert(0, batch.slice(n, batch.num_rows() - n));
            }
            left -= n;
        }
        let error = |e| arrow_error(&self.path, "write", e);
        let portion = concat_batches(&self.schema, &parts).map_err(error)?;
        match &mut self.sink {
            Sink::Parquet(writer) => {
                writer.write(&portion).map_err(|e| parquet_error(&self.path, "write", e))?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES {
                    writer.flush().map_err(|e| parquet_error(&self.path, "write", e))?;
                }
                Ok(())
            }
            Sink::Arrow(writer) => writer.write(&portion).map_err(error),
            Sink::Npy(_) => Ok(()),
        }
    }

    /// Makes the map durable and gives it its name.
    pub fn finish(mut self) -> Result<FileStamp> {
        if self.next != self.columns.rows {
            let what = format!("{} rows written where {} were announced", self.next, self.columns.rows);
            return Err(Error::format(&self.path, what));
        }
        let left = self.waiting.iter().map(RecordBatch::num_rows).sum();
        if left > 0 {
            self.write_portion(left)?;
        }
        let path = &self.path;
        match self.sink {
            Sink::Parquet(writer) => writer.into_inner().map_err(|e| parquet_error(path, "write", e))?.finish(),
            Sink::Arrow(writer) => writer.into_inner().map_err(|e| arrow_error(path, "write", e))?.finish(),
            Sink::Npy(file) => file.finish(),
        }
    }
}

/// The columns of the map. Dictionaries are written as their values, because
/// an Arrow file takes one dictionary only, and portions may have several.
fn schema(path: &Path, columns: &MapColumns) -> Result<SchemaRef> {
    let plain = |field: &FieldRef| match field.data_type() {
        DataType::Dictionary(_, values) => Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone())),
        _ => field.clone(),
    };
    let mut kept = columns.extra.iter().flat_map(|s| s.fields().iter()).map(plain);
    let id = if columns.own_id { kept.next() } else { Some(Arc::new(Field::new("id", DataType::UInt64, false))) };
    let Some(id) = id else { return Err(Error::format(path, "no id column was given")) };
    let mut fields = vec![id];
    let names = coordinate_names(columns.dim);
    fields.extend(names.into_iter().map(|n| Arc::new(Field::new(n, DataType::Float32, false))));
    if let Some(clash) = fields[1..].iter().find(|f| f.name() == fields[0].name()) {
        let what = format!("the id column \"{}\" has the name of a coordinate; rename it", clash.name());
        return Err(Error::format(path, what));
    }
    for field in kept {
        if fields.iter().any(|f| f.name() == field.name()) {
            let what = format!(
                "two columns would be called \"{}\"; rename the kept one, or leave it out of --keep",
                field.name()
            );
            return Err(Error::format(path, what));
        }
        fields.push(field);
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// An npy header of version 1.0, padded so that the data begin at a multiple of 64.
fn npy_header(rows: u64, dim: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.into_bytes());
    header
}

/// An error of Parquet's: the system's own where that is the cause.
pub(crate) fn parquet_error(path: &Path, doing: &'static str, error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(source) => Error::io(path, doing, *source),
            Err(other) => Error::format(path, other.to_string()),
        },
        other => Error::format(path, other.to_string()),
    }
}

/// Opens a Parquet file and reads its footer.
pub(crate) fn parquet(path: &Path, file: File) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    caught(path, || ParquetRecordBatchReaderBuilder::try_new(file))?.map_err(|e| parquet_error(path, "read", e))
}

/// What the parquet crate answers, a panic being an error too.
pub(crate) fn caught<T>(path: &Path, ask: impl FnOnce() -> T) -> Result<T> {
    damage::caught(ask).ok_or_else(|| Error::format(path, "a page is damaged; write it again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Coordinates, MapReader};
    use arrow::array::{DictionaryArray, StringArray};
    use arrow::datatypes::Int32Type;

    fn coords(first: usize, rows: usize, dim: usize) -> Vec<f32> {
        (first * dim..(first + rows) * dim).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    fn kept(first: usize, rows: usize) -> RecordBatch {
        let label = |i: usize| (!i.is_multiple_of(7)).then(|| format!("label {}", i % 13));
        let labels: StringArray = (first..first + rows).map(label).collect();
        let dictionary: DictionaryArray<Int32Type> =
            (first..first + rows).map(|i| ["one", "two", "three"][i % 3]).collect();
        let fields =
            vec![Field::new("label", DataType::Utf8, true), Field::new("kind", dictionary.data_type().clone(), false)];
        let columns: Vec<ArrayRef> = vec![Arc::new(labels), Arc::new(dictionary)];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn write(path: &Path, rows: usize, dim: usize, portion: usize, keep: bool) -> FileStamp {
        let extra = keep.then(|| kept(0, 0).schema());
        let columns = MapColumns { rows: rows as u64, dim, extra, own_id: false };
        let mut writer = MapWriter::create(path, columns, true).unwrap();
        let mut first = 0;
        while first < rows {
            let n = portion.min(rows - first);
            let extra = keep.then(|| kept(first, n));
            writer.write_rows(first as u64, &coords(first, n, dim), extra.as_ref()).unwrap();
            first += n;
        }
        writer.finish().unwrap()
    }

    #[test]
    fn every_format_comes_back_whatever_the_portions() {
        let dir = tempfile::tempdir().unwrap();
        for (name, keep) in
            [("a.parquet", false), ("a.parquet", true), ("a.arrow", false), ("a.arrow", true), ("a.npy", false)]
        {
            for (rows, dim) in [(0, 2), (1, 2), (10_000, 2), (70_000, 3), (5_000, 5)] {
                let path = dir.path().join(name);
                let stamps = [1_000, 3_333, 100_000].map(|portion| write(&path, rows, dim, portion, keep));
                assert!(stamps[0] == stamps[1] && stamps[1] == stamps[2], "{name}, {rows} rows: bytes differ");
                assert_eq!(stamps[0], crate::durable::stamp(&path).unwrap());
                let reader = MapReader::open(&path, &Coordinates::Usual).unwrap();
                assert_eq!((reader.rows(), reader.dim()), (rows as u64, dim));
                if name != "a.npy" {
                    assert_eq!(reader.coordinates()[0], if dim <= 3 { "x" } else { "c0" });
                }
                let expected = coords(0, rows, dim);
                let (mut at, mut labels) = (0, 0);
                let color = keep.then_some("label");
                while at < rows {
                    let part = reader.read(at as u64, (rows - at).min(7_001), color).unwrap();
                    for (i, (x, y)) in part.x.iter().zip(&part.y).enumerate() {
                        assert_eq!((*x as f32, *y as f32), (expected[(at + i) * dim], expected[(at + i) * dim + 1]));
                    }
                    labels += part.beside.map_or(0, |c| c.len() - c.null_count());
                    at += part.x.len();
                }
                assert_eq!(at, rows);
                assert_eq!(labels, if keep { (0..rows).filter(|i| i % 7 != 0).count() } else { 0 });
                assert!(matches!(reader.read(0, 0, Some("no")), Err(Error::NoSuchColumn { .. })));
            }
        }
    }

    #[test]
    fn columns_come_in_their_order_and_clashes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let field = |name: &str| Field::new(name, DataType::UInt64, false);
        let make = |names: &[&str], own_id| {
            let extra = Some(Arc::new(Schema::new(names.iter().map(|n| field(n)).collect::<Vec<_>>())));
            MapWriter::create(&path, MapColumns { rows: 0, dim: 2, extra, own_id }, false)
        };
        for (names, own_id) in
            [(&["x"][..], false), (&["id"], false), (&["y", "a"], true), (&["a", "a"], false), (&["a", "a"], true)]
        {
            match make(names, own_id) {
                Err(Error::Format { what, .. }) => assert!(what.contains("rename"), "{what}"),
                other => panic!("{names:?}: {other:?}"),
            }
        }
        make(&["doc", "id"], true).unwrap().finish().unwrap();
        assert_eq!(MapReader::open(&path, &Coordinates::Usual).unwrap().columns(), ["doc", "x", "y", "id"]);
        assert!(matches!(make(&[], false), Err(Error::Exists { .. })));
    }

    #[test]
    fn an_unfinished_map_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.parquet", "a.arrow", "a.npy"] {
            let path = dir.path().join(name);
            let columns = MapColumns { rows: 10, dim: 2, extra: None, own_id: false };
            let mut writer = MapWriter::create(&path, columns.clone(), false).unwrap();
            writer.write_rows(0, &[0.0; 6], None).unwrap();
            assert!(writer.write_rows(2, &[0.0; 2], None).is_err(), "a gap");
            assert!(writer.write_rows(3, &[0.0; 3], None).is_err(), "half a row");
            assert!(writer.write_rows(3, &[0.0; 16], None).is_err(), "too many");
            assert!(!path.exists());
            assert!(writer.finish().is_err(), "too few");
            drop(MapWriter::create(&path, columns, false).unwrap());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        let columns = MapColumns { rows: 0, dim: 2, extra: None, own_id: false };
        match MapWriter::create(dir.path().join("a.csv"), columns, false) {
            Err(Error::Format { what, .. }) => assert!(what.contains(".parquet, .arrow or .npy"), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn damaged_maps_do_not_panic() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.parquet", "a.arrow", "a.npy"] {
            let path = dir.path().join(name);
            write(&path, 40, 2, 40, name != "a.npy");
            let good = std::fs::read(&path).unwrap();
            let read = || {
                let reader = MapReader::open(&path, &Coordinates::Usual)?;
                // Damage may promise more rows than a test can hold.
                reader.read(0, reader.rows().min(1_000) as usize, None).map(drop)
            };
            for byte in 0..good.len() {
                let mut bad = good.clone();
                bad[byte] ^= 1 << (byte % 8);
                std::fs::write(&path, &bad).unwrap();
                let _ = read();
            }
            for length in 0..good.len() {
                std::fs::write(&path, &good[..length]).unwrap();
                assert!(read().is_err(), "{name} cut to {length}");
            }
        }
    }
}
