//! The map's file: rows of coordinates, and the columns that the user asked to keep.
//!
//! ```text
//! .parquet   columns id: UInt64 (or the user's own id column), x, y[, z] or c0, c1, …: Float32,
//!            then the kept columns; zstd; row groups of about 32 MiB, at most 2^20 rows
//! .arrow     the same columns as an Arrow IPC file; not compressed; record batches of 65,536 rows
//!            (4,096 if a column has no fixed width)
//! .npy       rows × dim, <f4, C order, header version 1.0; coordinates only
//! ```
//!
//! The files carry no version of lowland's: they are plain tables.
//!
//! What must hold:
//! - An unfinished map never has the final name.
//! - Rows come in order, exactly as many as were announced.
//! - The bytes depend only on the rows, and not on the portions in which the rows were handed in.
//!   Rows are therefore divided anew into portions of a size that depends only on the columns'
//!   types.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::WriterProperties;

use crate::catch_panic;
use crate::durable::{FileStamp, PendingFile};
use crate::edges::arrow_error;
use crate::kept_columns::{ColumnFormat, KeptColumns};
use crate::parquet::checked_footer;
use crate::parquet_types;
use crate::recast::recast;
use crate::unify::plain;
use crate::{Error, Result};

/// Rows of one portion: the first if every column has a fixed width, the second otherwise, because
/// values may be long texts.
const ROWS: usize = 1 << 16;
const ROWS_OF_TEXT: usize = 1 << 12;
/// A row group is closed when it reaches about this size in bytes, or 2^20 rows.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// The columns of a map.
#[derive(Debug, Clone)]
pub struct MapColumns {
    /// The number of rows.
    pub rows: u64,
    /// The names of the coordinates, one for each component. At least one.
    pub coordinates: Vec<String>,
    /// The kept columns, if any, with the types that
    /// [`Source::column_schema`](crate::Source::column_schema) returns.
    pub extra: Option<SchemaRef>,
    /// Whether the first column of `extra` is the id. Otherwise row numbers are.
    pub own_id: bool,
    /// Whether a row may have no position. Its coordinates are NaN; they are written as null, and
    /// as NaN in an `.npy`.
    pub nullable: bool,
}

/// Returns the names of the coordinates: x, y, z, or c0, c1, … if there are more than three.
pub fn coordinate_names(dim: usize) -> Vec<String> {
    if dim <= 3 {
        ["x", "y", "z"].iter().take(dim).map(|n| n.to_string()).collect()
    } else {
        (0..dim).map(|c| format!("c{c}")).collect()
    }
}

/// Takes the batches of a map that is not written to a file.
type Batches = Box<dyn FnMut(RecordBatch) -> Result<()> + Send>;

enum MapFile {
    /// Nothing is written yet, because the dictionaries are not decided.
    Begun(Box<KeptColumns>, ColumnFormat, To),
    Parquet(Box<ArrowWriter<PendingFile>>),
    Arrow(Box<FileWriter<PendingFile>>),
    Npy(PendingFile),
    Batches(Batches),
    /// A call failed.
    Nothing,
}

/// The destination of a map with columns.
enum To {
    File(PendingFile),
    Batches(Batches),
}

/// Writes a map. The file gets its name in [`finish`](MapWriter::finish).
pub struct MapWriter {
    path: PathBuf,
    columns: MapColumns,
    sink: MapFile,
    /// The kept columns, and the schemas of the buffered batches and of the file; set by `begin`.
    decided: Option<(Arc<KeptColumns>, SchemaRef, SchemaRef)>,
    /// The number of the next row.
    next: u64,
    /// Rows not written yet, in order; fewer than `portion` after each call.
    waiting: Vec<RecordBatch>,
    portion: usize,
}

impl std::fmt::Debug for MapWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MapWriter").field("path", &self.path).field("next", &self.next).finish_non_exhaustive()
    }
}

impl MapWriter {
    /// Returns the ending of a map's name: `parquet`, `arrow` or `npy`.
    ///
    /// # Errors
    /// [`Error::Format`] for another ending.
    pub fn ending(path: &Path) -> Result<String> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        if matches!(ending.as_str(), "parquet" | "arrow" | "npy") {
            return Ok(ending);
        }
        Err(Error::format(path, "a map's name ends in .parquet, .arrow or .npy"))
    }

    /// Begins the map `path`. Its ending selects the format: `.parquet`, `.arrow` or `.npy`.
    ///
    /// # Errors
    /// [`Error::Exists`] if the file exists and `force` is not set. [`Error::Format`] for another
    /// ending, for a kept column with the name of one of the map's own columns, for kept columns in
    /// an `.npy`, and for a column of a type that the format cannot hold.
    ///
    /// # Panics
    /// If there are no coordinates.
    pub fn create(path: impl Into<PathBuf>, columns: MapColumns, force: bool) -> Result<Self> {
        assert!(!columns.coordinates.is_empty());
        let path = path.into();
        let ending = Self::ending(&path)?;
        // `metadata` follows links: a dangling link does not count as an existing file.
        if !force && std::fs::metadata(&path).is_ok() {
            return Err(Error::Exists { path });
        }
        let schema = schema(&path, &columns)?;
        let fixed = schema.fields().iter().all(|f| plain(f.data_type()).primitive_width().is_some());
        let sink = match ending.as_str() {
            "parquet" | "arrow" => {
                let format = if ending == "parquet" { ColumnFormat::Parquet } else { ColumnFormat::Arrow };
                let kept = KeptColumns::new(format, &schema).map_err(|what| Error::format(&path, what))?;
                MapFile::Begun(Box::new(kept), format, To::File(PendingFile::create(&path)?))
            }
            _ if columns.extra.as_ref().is_some_and(|s| !s.fields().is_empty()) => {
                return Err(Error::format(
                    &path,
                    "a .npy holds coordinates only; write .parquet or .arrow to keep columns",
                ));
            }
            _ => {
                let mut file = PendingFile::create(&path)?;
                let header = npy_header(columns.rows, columns.coordinates.len());
                file.write_all(&header).map_err(|e| Error::io(&path, "write", e))?;
                MapFile::Npy(file)
            }
        };
        let portion = if fixed { ROWS } else { ROWS_OF_TEXT };
        Ok(MapWriter { path, columns, sink, decided: None, next: 0, waiting: Vec::new(), portion })
    }

    /// Begins a map whose rows are handed to `each` in batches, with the columns and types of an
    /// `.arrow` map. `name` is what errors call the map.
    ///
    /// # Errors
    /// As of [`create`](Self::create), for the columns.
    pub fn to_batches(
        name: &str,
        columns: MapColumns,
        each: impl FnMut(RecordBatch) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let path = PathBuf::from(name);
        let schema = schema(&path, &columns)?;
        let fixed = schema.fields().iter().all(|f| plain(f.data_type()).primitive_width().is_some());
        let kept = KeptColumns::new(ColumnFormat::Arrow, &schema).map_err(|what| Error::format(&path, what))?;
        let sink = MapFile::Begun(Box::new(kept), ColumnFormat::Arrow, To::Batches(Box::new(each)));
        let portion = if fixed { ROWS } else { ROWS_OF_TEXT };
        Ok(MapWriter { path, columns, sink, decided: None, next: 0, waiting: Vec::new(), portion })
    }

    /// Returns the names of the kept columns whose values decide how, or whether, the column can be
    /// written. Call [`add_values`](Self::add_values) on all rows of these columns before the first
    /// [`write_rows`](Self::write_rows). Otherwise a value that cannot be written is found only
    /// when it is written, and dictionaries are written to `.arrow` as plain values.
    pub fn columns_to_scan(&self) -> Vec<String> {
        match &self.sink {
            MapFile::Begun(kept, ..) => kept.columns_to_scan(),
            _ => Vec::new(),
        }
    }

    /// Takes the values of a kept column that is an ordered dictionary, in their order
    /// ([`Source::categories`](crate::Source::categories)), before its rows are inspected. Returns false if the file
    /// does not keep the order.
    pub fn order(&mut self, name: &str, values: &ArrayRef) -> Result<bool> {
        match &mut self.sink {
            MapFile::Begun(kept, ..) => kept.order(name, values).map_err(|e| arrow_error(&self.path, "write", e)),
            _ => Ok(false),
        }
    }

    /// Inspects rows of a kept column, given as [`write_rows`](Self::write_rows) will receive them.
    ///
    /// # Errors
    /// The first value that cannot be written: its row within `values`, and the reason.
    pub fn add_values(&mut self, name: &str, values: &ArrayRef) -> std::result::Result<(), (usize, String)> {
        match &mut self.sink {
            MapFile::Begun(kept, ..) => kept.add_values(name, values),
            _ => Ok(()),
        }
    }

    /// Returns the columns as they are written. Rows of kept columns can be inspected before this
    /// call only.
    ///
    /// # Errors
    /// [`Error::Format`] of an `.npy`, which has no columns.
    pub fn schema(&mut self) -> Result<SchemaRef> {
        self.begin()?;
        match &self.decided {
            Some((_, _, written)) => Ok(written.clone()),
            None => Err(Error::format(&self.path, "an .npy has no columns")),
        }
    }

    /// Creates the format's writer, unless it exists already.
    fn begin(&mut self) -> Result<()> {
        if !matches!(self.sink, MapFile::Begun(..)) {
            return Ok(());
        }
        let MapFile::Begun(mut kept, format, to) = std::mem::replace(&mut self.sink, MapFile::Nothing) else {
            return Ok(());
        };
        let path = &self.path;
        let (held, written) = kept.settle().map_err(|e| arrow_error(path, "write", e))?;
        self.sink = match (to, format) {
            (To::Batches(each), _) => MapFile::Batches(each),
            (To::File(file), ColumnFormat::Parquet) => {
                let properties = WriterProperties::builder()
                    .set_created_by("lowland".into())
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(1 << 20));
                // Almost all positions differ, so a dictionary would only cost time and space.
                let coordinates = self.columns.coordinates.iter().cloned();
                let properties =
                    coordinates.fold(properties, |p, name| p.set_column_dictionary_enabled(name.into(), false));
                let writer = kept
                    .options(properties.build())
                    .and_then(|options| ArrowWriter::try_new_with_options(file, written.clone(), options));
                MapFile::Parquet(Box::new(writer.map_err(|e| parquet_error(path, "write", e))?))
            }
            (To::File(file), ColumnFormat::Arrow) => {
                let writer = FileWriter::try_new(file, &written);
                MapFile::Arrow(Box::new(writer.map_err(|e| arrow_error(path, "write", e))?))
            }
        };
        self.decided = Some((Arc::from(kept), held, written));
        Ok(())
    }

    /// Returns the memory, in bytes, that a writer of `rows` rows of `dim` components holds. Kept
    /// columns need more: twice the size of 65,536 of their rows (of 4,096 if a column has no fixed
    /// width).
    pub fn bytes(rows: u64, dim: usize) -> u64 {
        // A row group and its encoders' buffers, the buffered portion and its copy, and the file's
        // buffer.
        let row = (8 + 4 * dim) as u64;
        2 * (ROW_GROUP_BYTES as u64).min(rows * row) + 2 * (ROWS as u64).min(rows) * row + (2 << 20)
    }

    /// Writes rows `first..`, which must directly follow the rows written before. `coords` is rows
    /// × dim, row-major; `extra` has the columns announced in [`MapColumns`], with as many rows.
    ///
    /// # Errors
    /// [`Error::Format`] if the rows are not the next ones or the columns differ from those
    /// announced.
    pub fn write_rows(&mut self, first: u64, coords: &[f32], extra: Option<&RecordBatch>) -> Result<()> {
        let dim = self.columns.coordinates.len();
        let rows = coords.len() / dim;
        let expected = self.columns.extra.as_ref().map_or(0, |s| s.fields().len());
        let given = extra.map_or(0, |b| b.num_columns());
        let wrong = if !coords.len().is_multiple_of(dim) {
            Some(format!("{} coordinates, which is not a multiple of {dim}", coords.len()))
        } else if first != self.next {
            Some(format!("row {first}, but row {} is expected", self.next))
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
        self.begin()?;
        if let MapFile::Npy(file) = &mut self.sink {
            return coords
                .chunks(ROWS)
                .try_for_each(|part| file.write_all(&part.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()))
                .map_err(|e| Error::io(&self.path, "write", e));
        }
        let Some((_, held, _)) = &self.decided else { return Err(Error::format(&self.path, "is not begun")) };
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(held.fields().len());
        let mut kept = extra.map_or(&[][..], |b| b.columns()).iter();
        if self.columns.own_id {
            arrays.extend(kept.next().cloned());
        } else {
            arrays.push(Arc::new(UInt64Array::from_iter_values(first..self.next)));
        }
        for c in 0..dim {
            let values = coords.iter().skip(c).step_by(dim).copied();
            arrays.push(Arc::new(match self.columns.nullable {
                true => Float32Array::from_iter(values.map(|x| (!x.is_nan()).then_some(x))),
                false => Float32Array::from_iter_values(values),
            }));
        }
        arrays.extend(kept.cloned());
        let error = |e| arrow_error(&self.path, "write", e);
        for (array, field) in arrays.iter_mut().zip(held.fields()) {
            *array = recast(array, field.data_type()).map_err(error)?;
        }
        let batch = RecordBatch::try_new(held.clone(), arrays).map_err(error)?;
        self.waiting.push(batch);
        while self.waiting.iter().map(RecordBatch::num_rows).sum::<usize>() >= self.portion {
            self.write_portion(self.portion)?;
        }
        Ok(())
    }

    /// Writes the first `rows` of the buffered rows.
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
        let Some((kept, held, written)) = &self.decided else { return Ok(()) };
        let portion =
            concat_batches(held, &parts).and_then(|portion| kept.convert(&portion, written)).map_err(error)?;
        match &mut self.sink {
            MapFile::Parquet(writer) => {
                writer.write(&portion).map_err(|e| parquet_error(&self.path, "write", e))?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES {
                    writer.flush().map_err(|e| parquet_error(&self.path, "write", e))?;
                }
                Ok(())
            }
            MapFile::Arrow(writer) => writer.write(&portion).map_err(error),
            MapFile::Batches(each) => each(portion),
            MapFile::Npy(_) | MapFile::Begun(..) | MapFile::Nothing => Ok(()),
        }
    }

    /// Makes the map durable and gives it its name. Returns the file's stamp; `None` of batches.
    ///
    /// # Errors
    /// [`Error::Format`] if fewer rows were written than announced.
    pub fn finish(mut self) -> Result<Option<FileStamp>> {
        if self.next != self.columns.rows {
            let what = format!("{} rows written where {} were announced", self.next, self.columns.rows);
            return Err(Error::format(&self.path, what));
        }
        self.begin()?;
        let left = self.waiting.iter().map(RecordBatch::num_rows).sum();
        if left > 0 {
            self.write_portion(left)?;
        }
        let path = &self.path;
        let file = match self.sink {
            MapFile::Parquet(writer) => writer.into_inner().map_err(|e| parquet_error(path, "write", e))?,
            MapFile::Arrow(writer) => writer.into_inner().map_err(|e| arrow_error(path, "write", e))?,
            MapFile::Npy(file) => file,
            MapFile::Batches(_) => return Ok(None),
            MapFile::Begun(..) | MapFile::Nothing => return Err(Error::format(path, "an earlier write to it failed")),
        };
        file.finish().map(Some)
    }
}

/// Returns the schema of the map as announced, before its types are adapted to the format.
fn schema(path: &Path, columns: &MapColumns) -> Result<SchemaRef> {
    let mut kept = columns.extra.iter().flat_map(|s| s.fields().iter()).cloned();
    let id = if columns.own_id { kept.next() } else { Some(Arc::new(Field::new("id", DataType::UInt64, false))) };
    let Some(id) = id else { return Err(Error::format(path, "no id column was given")) };
    let mut fields = vec![id];
    let names = columns.coordinates.iter();
    fields.extend(names.map(|name| Arc::new(Field::new(name, DataType::Float32, columns.nullable))));
    if let Some(twice) =
        fields[1..].iter().enumerate().find(|(i, f)| fields[1..=*i].iter().any(|g| g.name() == f.name()))
    {
        return Err(Error::format(path, format!("two coordinates would be called \"{}\"", twice.1.name())));
    }
    if let Some(clash) = fields[1..].iter().find(|f| f.name() == fields[0].name()) {
        let what = format!("the id column \"{}\" has the name of a coordinate; rename it", clash.name());
        return Err(Error::format(path, what));
    }
    for field in kept {
        if fields.iter().any(|f| f.name() == field.name()) {
            let what =
                format!("two columns would be called \"{}\"; rename the kept one, or leave it out", field.name());
            return Err(Error::format(path, what));
        }
        fields.push(field);
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Returns an npy header of version 1.0, padded so that the data begin at a multiple of 64 bytes.
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

/// Converts a Parquet error. An underlying error of the operating system becomes [`Error::Io`].
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
    let length = file.metadata().map_err(|e| Error::io(path, "read", e))?.len();
    checked_footer(path, length, |at, to| file.read_exact_at(to, at))?;
    let open = || {
        let parsed = ParquetMetaDataReader::new().parse_and_finish(&file)?;
        // Dictionary columns are read as their values, whatever type their keys have.
        let (metadata, _) = parquet_types::reading(parsed)?;
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata))
    };
    caught(path, open)?.map_err(|e| parquet_error(path, "read", e))
}

/// Calls into the parquet crate; a panic there becomes an error.
pub(crate) fn caught<T>(path: &Path, ask: impl FnOnce() -> T) -> Result<T> {
    catch_panic::catch_panic(ask).ok_or_else(|| Error::format(path, "a page is damaged; write it again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Coordinates, MapReader};
    use arrow::array::{Array, AsArray};
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
        let columns =
            MapColumns { rows: rows as u64, coordinates: coordinate_names(dim), extra, own_id: false, nullable: false };
        let mut writer = MapWriter::create(path, columns, true).unwrap();
        let mut first = 0;
        while first < rows {
            let n = portion.min(rows - first);
            let extra = keep.then(|| kept(first, n));
            writer.write_rows(first as u64, &coords(first, n, dim), extra.as_ref()).unwrap();
            first += n;
        }
        writer.finish().unwrap().unwrap()
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
                assert_eq!(reader.rows(), rows as u64);
                // A file without rows may have any width.
                assert!(rows == 0 || reader.dim() == dim);
                if name != "a.npy" && rows > 0 {
                    assert_eq!(reader.coordinates()[0], if dim <= 3 { "x" } else { "c0" });
                }
                let expected = coords(0, rows, dim);
                let (mut at, mut labels) = (0, 0);
                let color: &[&str] = if keep { &["label", "kind", "label"] } else { &[] };
                while at < rows {
                    let part = reader.read(at as u64, (rows - at).min(7_001), color).unwrap();
                    for (i, (x, y)) in part.x.iter().zip(&part.y).enumerate() {
                        assert_eq!((*x as f32, *y as f32), (expected[(at + i) * dim], expected[(at + i) * dim + 1]));
                    }
                    if let [label, kind, again] = part.columns.as_slice() {
                        labels += label.len() - label.null_count();
                        assert!(label == again && kind.len() == part.y.len() && kind != label);
                    }
                    at += part.x.len();
                }
                assert_eq!(at, rows);
                assert_eq!(labels, if keep { (0..rows).filter(|i| i % 7 != 0).count() } else { 0 });
                assert!(matches!(reader.read(0, 0, &["no"]), Err(Error::NoSuchColumn { .. })));
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
            MapWriter::create(
                &path,
                MapColumns { rows: 0, coordinates: coordinate_names(2), extra, own_id, nullable: false },
                false,
            )
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

    fn keep(path: &Path, column: &ArrayRef, field: &Field) -> Result<()> {
        let extra = Some(Arc::new(Schema::new(vec![field.clone()])));
        let columns = MapColumns {
            rows: column.len() as u64,
            coordinates: coordinate_names(2),
            extra,
            own_id: false,
            nullable: false,
        };
        let mut writer = MapWriter::create(path, columns, true)?;
        // As a source returns the column: dictionaries as their values.
        let column = recast(column, &plain(field.data_type())).unwrap();
        for name in writer.columns_to_scan() {
            writer
                .add_values(&name, &column)
                .map_err(|(row, what)| Error::format(path, format!("row {row}: {what}")))?;
        }
        let field = field.clone().with_data_type(plain(field.data_type()));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column.clone()]).unwrap();
        // In two portions, to check that the second portion knows the first one's dictionary.
        let half = column.len() / 2;
        writer.write_rows(0, &vec![0.0; 2 * half], Some(&batch.slice(0, half)))?;
        let rest = column.len() - half;
        writer.write_rows(half as u64, &vec![0.0; 2 * rest], Some(&batch.slice(half, rest)))?;
        writer.finish().map(drop)
    }

    /// Returns the column `c` of a file as another program reads it, with its declared type.
    fn found(path: &Path) -> (Field, Vec<ArrayRef>) {
        let file = File::open(path).unwrap();
        let (schema, batches): (SchemaRef, Vec<RecordBatch>) = if path.extension().unwrap() == "arrow" {
            let reader = arrow::ipc::reader::FileReader::try_new(file, None).unwrap();
            (reader.schema(), reader.map(|batch| batch.unwrap()).collect())
        } else {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            (reader.schema().clone(), reader.build().unwrap().map(|batch| batch.unwrap()).collect())
        };
        let at = schema.index_of("c").unwrap();
        (schema.field(at).clone(), batches.iter().map(|batch| batch.column(at).clone()).collect())
    }

    #[test]
    fn dictionaries_stay_dictionaries_with_the_values_of_their_rows() {
        use arrow::array::{Int8Array, StringViewArray};
        use arrow::datatypes::Int8Type;
        let dir = tempfile::tempdir().unwrap();
        let texts = |n: usize| (0..n).map(|i| format!("a text of some length {i}"));
        let field = |key: DataType, values: DataType| {
            Field::new("c", DataType::Dictionary(Box::new(key), Box::new(values)), true)
        };
        let few = DictionaryArray::<Int8Type>::new(
            Int8Array::from(vec![Some(2), None, Some(0), Some(2)]),
            Arc::new(StringViewArray::from_iter_values(texts(3))),
        );
        let few: ArrayRef = Arc::new(few);
        // As read from many files: more values than the declared key type can number.
        let many: ArrayRef = Arc::new(StringArray::from_iter_values(texts(300)));
        for (name, column, given, key) in [
            ("few.arrow", &few, field(DataType::Int8, DataType::Utf8View), DataType::Int8),
            ("few.parquet", &few, field(DataType::Int8, DataType::Utf8View), DataType::Int8),
            ("many.arrow", &many, field(DataType::UInt8, DataType::Utf8), DataType::Int32),
            ("many.parquet", &many, field(DataType::UInt8, DataType::Utf8), DataType::Int32),
        ] {
            let path = dir.path().join(name);
            keep(&path, column, &given).unwrap();
            let (field, batches) = found(&path);
            let DataType::Dictionary(keys, _) = field.data_type() else { panic!("{name}: {field}") };
            assert_eq!(keys.as_ref(), &key, "{name}");
            let values: Vec<_> = batches.iter().map(|b| recast(b, &DataType::Utf8).unwrap()).collect();
            let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
            let values = arrow::compute::concat(&values).unwrap();
            assert_eq!(&values, &recast(column, &DataType::Utf8).unwrap(), "{name}");
            // Read by lowland as well.
            let reader = MapReader::open(&path, &Coordinates::Usual).unwrap();
            let read = reader.read(0, column.len(), &["c"]).unwrap();
            assert_eq!(read.columns[0].len(), column.len());
        }
        // No dictionary is held for so many values.
        let most: ArrayRef = Arc::new(StringArray::from_iter_values(texts(70_000)));
        let path = dir.path().join("most.arrow");
        keep(&path, &most, &field(DataType::Int32, DataType::Utf8)).unwrap();
        assert_eq!(found(&path).0.data_type(), &DataType::Utf8);
        let path = dir.path().join("most.parquet");
        keep(&path, &most, &field(DataType::Int32, DataType::Utf8)).unwrap();
        assert!(matches!(found(&path).0.data_type(), DataType::Dictionary(..)));
    }

    #[test]
    fn dictionaries_within_lists_and_structs_too() {
        use arrow::array::{Int8Array, ListArray, StructArray};
        use arrow::datatypes::{Fields, Int8Type};
        let dir = tempfile::tempdir().unwrap();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let coded = DictionaryArray::<Int8Type>::new(Int8Array::from(vec![1, 0, 1, 1]), texts);
        let coded: ArrayRef = Arc::new(coded);
        let item = Arc::new(Field::new("item", coded.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 0, 2, 1]);
        let list: ArrayRef = Arc::new(ListArray::new(item.clone(), offsets, coded.clone(), None));
        let fields: Fields =
            vec![item.as_ref().clone().with_name("k"), Field::new("l", list.data_type().clone(), true)].into();
        let both: ArrayRef = Arc::new(StructArray::new(fields, vec![coded, list], None));
        for name in ["a.arrow", "a.parquet"] {
            let path = dir.path().join(name);
            keep(&path, &both, &Field::new("c", both.data_type().clone(), true)).unwrap();
            let (field, batches) = found(&path);
            let text = field.data_type().to_string();
            assert_eq!(text.matches("Dictionary").count(), 2, "{name}: {text}");
            let to = plain(both.data_type());
            let [batch] = batches.as_slice() else { panic!("{} batches", batches.len()) };
            // Parquet names a list's item differently.
            let expected = format!("{:?}", recast(&both, &to).unwrap().as_struct().columns());
            let columns = batch.as_struct().columns().iter().zip(both.as_struct().columns());
            let columns = columns.map(|(c, like)| recast(c, &plain(like.data_type())).unwrap());
            assert_eq!(format!("{:?}", columns.collect::<Vec<_>>()), expected, "{name}");
        }
    }

    #[test]
    fn types_that_parquet_lacks_are_stored_as_their_kind_or_refused() {
        use arrow::array::{Date64Array, IntervalMonthDayNanoArray, TimestampSecondArray, UnionArray};
        use arrow::datatypes::{IntervalMonthDayNano, IntervalUnit, TimeUnit, UnionFields};
        let dir = tempfile::tempdir().unwrap();
        let (parquet, arrow) = (dir.path().join("a.parquet"), dir.path().join("a.arrow"));
        let check = |column: ArrayRef, stored: DataType| {
            let field = Field::new("c", column.data_type().clone(), true);
            keep(&parquet, &column, &field).unwrap_or_else(|e| panic!("{e}"));
            let (found, batches) = found(&parquet);
            assert_eq!(found.data_type(), &stored);
            assert_eq!(&recast(&batches[0], column.data_type()).unwrap(), &column);
        };
        let zone: Option<Arc<str>> = Some("Europe/Berlin".into());
        let seconds = TimestampSecondArray::from(vec![Some(5), None]).with_timezone_opt(zone.clone());
        check(Arc::new(seconds), DataType::Timestamp(TimeUnit::Millisecond, zone));
        check(Arc::new(Date64Array::from(vec![Some(86_400_000), None])), DataType::Date64);
        let interval = |months, days, nanoseconds| Some(IntervalMonthDayNano { months, days, nanoseconds });
        let intervals = IntervalMonthDayNanoArray::from(vec![interval(3, 1, 2_000_000), None]);
        let column: ArrayRef = Arc::new(intervals);
        let field = Field::new("c", column.data_type().clone(), true);
        keep(&parquet, &column, &field).unwrap();
        // The parquet crate alone would drop the months.
        let (declared, batches) = {
            let file = File::open(&parquet).unwrap();
            let parsed = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
            let (metadata, declared) = parquet_types::reading(parsed).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata).build().unwrap();
            (declared, reader.map(|batch| batch.unwrap()).collect::<Vec<_>>())
        };
        let at = declared.index_of("c").unwrap();
        assert_eq!(declared.field(at).data_type(), &DataType::Interval(IntervalUnit::MonthDayNano));
        assert_eq!(&recast(batches[0].column(at), column.data_type()).unwrap(), &column);

        let refused = |column: ArrayRef, words: &[&str]| {
            let field = Field::new("c", column.data_type().clone(), true);
            let error = keep(&parquet, &column, &field).unwrap_err().to_string();
            words.iter().for_each(|word| assert!(error.contains(word), "no {word} in {error}"));
            keep(&arrow, &column, &field).unwrap_or_else(|e| panic!("{e}"));
        };
        let finer: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![interval(0, 0, 0), interval(1, 2, 3)]));
        refused(finer, &["row 1: column \"c\"", "write .arrow"]);
        refused(Arc::new(Date64Array::from(vec![0, 1])), &["row 1: column \"c\"", "write .arrow"]);
        let kinds = UnionFields::try_new([0], [Field::new("a", DataType::Utf8, true)]).unwrap();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let union = UnionArray::try_new(kinds, vec![0i8, 0].into(), None, vec![texts]).unwrap();
        refused(Arc::new(union), &["Parquet cannot hold column \"c\"", "write .arrow"]);
        let empty = arrow::array::StructArray::new_empty_fields(2, None);
        refused(Arc::new(empty), &["Parquet cannot hold column \"c\"", "write .arrow"]);
    }

    #[test]
    fn uuids_json_and_times_in_utc_are_known_to_every_reader() {
        use arrow::array::{FixedSizeBinaryArray, Time64MicrosecondArray};
        use parquet::basic::LogicalType;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let uuids: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[1u8; 16], [2; 16]].into_iter()).unwrap());
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["{}", "[]"]));
        let times: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![1, 2]));
        for (column, key, value) in [
            (uuids, "ARROW:extension:name", "arrow.uuid"),
            (texts, "ARROW:extension:name", "arrow.json"),
            (times, parquet_types::IN_UTC, "true"),
        ] {
            let metadata = [(key.to_string(), value.to_string())].into();
            let field = Field::new("c", column.data_type().clone(), true).with_metadata(metadata);
            keep(&path, &column, &field).unwrap();
            let parsed = ParquetMetaDataReader::new().parse_and_finish(&File::open(&path).unwrap()).unwrap();
            let leaf = parsed.file_metadata().schema_descr().column(3);
            match leaf.logical_type_ref() {
                Some(LogicalType::Uuid) => assert_eq!(value, "arrow.uuid"),
                Some(LogicalType::Json) => assert_eq!(value, "arrow.json"),
                Some(LogicalType::Time(time)) => assert!(time.is_adjusted_to_u_t_c),
                other => panic!("{value}: {other:?}"),
            }
            // Also if only Parquet's own types declare it.
            let bare = {
                let file = parsed.file_metadata();
                let (version, rows, schema) = (file.version(), file.num_rows(), file.schema_descr_ptr());
                let file = parquet::file::metadata::FileMetaData::new(version, rows, None, None, schema, None);
                parquet::file::metadata::ParquetMetaData::new(file, Vec::new())
            };
            let (_, declared) = parquet_types::reading(bare).unwrap();
            let field = declared.field_with_name("c").unwrap();
            assert_eq!(field.metadata().get(key).map(String::as_str), Some(value));
        }
    }

    #[test]
    fn coordinates_have_the_names_that_they_are_given() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.parquet", "a.arrow"] {
            let path = dir.path().join(name);
            let extra = Some(Arc::new(Schema::new(vec![Field::new("x", DataType::UInt64, false)])));
            let coordinates = |names: [&str; 2]| names.map(String::from).to_vec();
            let columns = MapColumns {
                rows: 0,
                coordinates: coordinates(["umap_x", "umap_y"]),
                extra,
                own_id: false,
                nullable: false,
            };
            MapWriter::create(&path, columns.clone(), false).unwrap().finish().unwrap();
            assert_eq!(found_names(&path), ["id", "umap_x", "umap_y", "x"]);
            let twice = MapColumns { coordinates: coordinates(["a", "a"]), ..columns };
            assert!(MapWriter::create(&path, twice, true).unwrap_err().to_string().contains("\"a\""));
        }
    }

    fn found_names(path: &Path) -> Vec<String> {
        let file = File::open(path).unwrap();
        let schema = match path.extension().unwrap() == "arrow" {
            true => arrow::ipc::reader::FileReader::try_new(file, None).unwrap().schema(),
            false => ParquetRecordBatchReaderBuilder::try_new(file).unwrap().schema().clone(),
        };
        schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    #[test]
    fn an_unfinished_map_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.parquet", "a.arrow", "a.npy"] {
            let path = dir.path().join(name);
            let columns =
                MapColumns { rows: 10, coordinates: coordinate_names(2), extra: None, own_id: false, nullable: false };
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
        let columns =
            MapColumns { rows: 0, coordinates: coordinate_names(2), extra: None, own_id: false, nullable: false };
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
                // A damaged length may announce more rows than a test can hold.
                reader.read(0, reader.rows().min(1_000) as usize, &[]).map(drop)
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
