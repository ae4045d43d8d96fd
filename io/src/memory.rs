//! A source whose rows are in memory: Arrow batches, or one array of numbers.
//!
//! What must hold:
//! - The values are shared with the caller, never copied. The caller does not change them while the
//!   source exists.
//! - Two sources of equal content have equal fingerprints, so that a run over rows in memory can be
//!   resumed by another process which has the same rows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, FixedSizeListArray, PrimitiveArray};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, Field, Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use xxhash_rust::xxh3::Xxh3;

use crate::number::VectorFloat;
use crate::recast::{concat_columns, recast_batch};
use crate::source::{check_range, no_columns};
use crate::unify::plain_columns;
use crate::vectors::{ColumnRequest, VectorColumns, positions, stored_columns};
use crate::{Dtype, Error, Fingerprint, OpenOptions, Result, RowLocation, Shape, Source, SourceId};

/// The column of an array's vectors.
const VECTOR: &str = "vector";
/// Rows inspected at a time while no row has shown how long the vectors are.
const SETTLE_ROWS: usize = 64;
/// About the number of bytes that are encoded at a time for the content's checksum.
const HASHED_BYTES: usize = 4 << 20;

/// Rows in memory, as a [`Source`].
///
/// The memory that the rows take belongs to the caller: neither [`held_bytes`](Source::held_bytes)
/// nor [`resident_bytes`](Source::resident_bytes) counts it, unless it is set by
/// [`with_resident_bytes`](MemorySource::with_resident_bytes).
pub struct MemorySource {
    /// What errors call the source.
    name: PathBuf,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// The first row of each batch.
    firsts: Vec<u64>,
    vectors: VectorColumns,
    shape: Shape,
    /// The bytes of rows that the caller gave away.
    resident: u64,
    /// The fingerprint of the content, once it was computed.
    fingerprint: OnceLock<Fingerprint>,
}

impl MemorySource {
    /// Returns the source of the rows of `batches`, in order. All batches have the schema `schema`.
    /// `name` is what errors call the source; `options` select the vectors' column.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if there are no rows, a batch has another schema, or no row has a vector;
    /// and those of [`OpenOptions::column`].
    pub fn new(name: &str, schema: SchemaRef, batches: Vec<RecordBatch>, options: &OpenOptions) -> Result<Self> {
        let name = PathBuf::from(name);
        let (mut firsts, mut rows) = (Vec::with_capacity(batches.len()), 0_u64);
        for (i, batch) in batches.iter().enumerate() {
            let (has, first) = (batch.schema(), &schema);
            let same = has.fields().len() == first.fields().len()
                && has
                    .fields()
                    .iter()
                    .zip(first.fields())
                    .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
            if !same {
                return Err(Error::format(&name, format!("batch {i} has other columns than the first: {has}")));
            }
            firsts.push(rows);
            rows += batch.num_rows() as u64;
        }
        if rows == 0 && !options.may_lack_vectors {
            return Err(Error::format(&name, "has no rows"));
        }
        let want = options.column.clone().map_or(ColumnRequest::Any, ColumnRequest::Asked);
        let mut vectors = match VectorColumns::resolve(&name, &schema, &want) {
            Err(Error::NoVectorColumn { .. } | Error::NoSuchColumn { .. }) if options.may_lack_vectors => {
                VectorColumns::resolve(&name, &schema, &ColumnRequest::none())?
            }
            vectors => vectors?,
        };
        'all: for batch in &batches {
            for row in (0..batch.num_rows()).step_by(SETTLE_ROWS) {
                let part = batch.slice(row, SETTLE_ROWS.min(batch.num_rows() - row));
                if vectors.settle(&name, &columns_of(&part, &vectors.columns))? {
                    break 'all;
                }
            }
        }
        let Some(dim) = vectors.dim.or(options.may_lack_vectors.then_some(0)) else {
            let what = format!("column \"{}\" has no vector: all its rows are null or empty", vectors.label);
            return Err(Error::format(&name, what));
        };
        let shape = Shape { rows, dim };
        Ok(MemorySource { name, schema, batches, firsts, vectors, shape, resident: 0, fingerprint: OnceLock::new() })
    }

    /// Counts `bytes` as [resident](Source::resident_bytes), for rows that only this source holds.
    #[must_use]
    pub fn with_resident_bytes(self, bytes: u64) -> Self {
        MemorySource { resident: bytes, ..self }
    }

    /// Returns the source of an array of rows × `dim` numbers, row-major. `name` is what errors
    /// call it. A [`Buffer`] of foreign memory makes the source without a copy.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if `dim` is 0 or above 2³¹ − 1, there are no rows, or the number of values
    /// is not a multiple of `dim`.
    pub fn from_array<T: ArrowPrimitiveType>(name: &str, values: ScalarBuffer<T::Native>, dim: usize) -> Result<Self> {
        let wrong = |what: String| Error::format(name, what);
        let width = i32::try_from(dim).ok().filter(|&width| width > 0);
        let width = width.ok_or_else(|| wrong(format!("vectors of {dim} components cannot be read")))?;
        if values.len() % dim != 0 {
            return Err(wrong(format!("{} numbers are not a whole number of rows of {dim}", values.len())));
        }
        let item = Arc::new(Field::new("item", T::DATA_TYPE, false));
        let numbers: ArrayRef = Arc::new(PrimitiveArray::<T>::new(values, None));
        let failed = |e: arrow::error::ArrowError| wrong(e.to_string());
        let vectors = FixedSizeListArray::try_new(item, width, numbers, None).map_err(failed)?;
        let schema = Arc::new(Schema::new(vec![Field::new(VECTOR, vectors.data_type().clone(), false)]));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(vectors)]).map_err(failed)?;
        MemorySource::new(name, schema, vec![batch], &OpenOptions::default())
    }

    /// Returns the source of an array of `f32` that the caller gives away.
    ///
    /// # Errors
    ///
    /// Those of [`from_array`](Self::from_array).
    pub fn from_vec(name: &str, values: Vec<f32>, dim: usize) -> Result<Self> {
        Self::from_array::<arrow::datatypes::Float32Type>(name, Buffer::from_vec(values).into(), dim)
    }

    /// Calls `take` with the parts of `rows` rows from row `first` on, and with each part's first row.
    fn each(&self, first: u64, rows: usize, mut take: impl FnMut(RecordBatch, u64) -> Result<()>) -> Result<()> {
        let (mut first, mut left) = (first, rows);
        let mut index = self.firsts.partition_point(|&f| f <= first).saturating_sub(1);
        while left > 0 {
            let Some(batch) = self.batches.get(index) else { break };
            let from = (first - self.firsts[index]) as usize;
            let here = (batch.num_rows() - from).min(left);
            if here > 0 {
                take(batch.slice(from, here), first)?;
            }
            (first, left, index) = (first + here as u64, left - here, index + 1);
        }
        Ok(())
    }

    fn read<N: VectorFloat>(&self, first: u64, out: &mut [N]) -> Result<()> {
        check_range(&self.name, self.shape, first, out.len())?;
        let dim = self.shape.dim;
        let rows = out.len() / dim;
        let mut rest = out;
        self.each(first, rows, |part, row| {
            let (now, after) = std::mem::take(&mut rest).split_at_mut(part.num_rows() * dim);
            rest = after;
            self.vectors.copy(&self.name, &columns_of(&part, &self.vectors.columns), row, now)
        })
    }

    /// Computes the fingerprint: a checksum of the batches, encoded as an Arrow stream.
    fn content(&self) -> Result<Fingerprint> {
        let failed = |e: arrow::error::ArrowError| Error::format(&self.name, e.to_string());
        let mut stream = StreamWriter::try_new(Hashed(Xxh3::new(), 0), &self.schema).map_err(failed)?;
        for batch in &self.batches {
            let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
            let portion = (HASHED_BYTES / row_bytes.max(1)).max(1);
            for row in (0..batch.num_rows()).step_by(portion) {
                stream.write(&batch.slice(row, portion.min(batch.num_rows() - row))).map_err(failed)?;
            }
        }
        let Hashed(hash, bytes) = stream.into_inner().map_err(failed)?;
        Ok(Fingerprint { path: self.name.clone(), bytes, modified: 0, header: hash.digest(), etag: None })
    }
}

/// Returns the columns with these indices.
fn columns_of(batch: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().map(|&at| batch.column(at).clone()).collect()
}

/// Takes bytes into a checksum, and counts them.
struct Hashed(Xxh3, u64);

impl std::io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        self.1 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Source for MemorySource {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn dtype(&self) -> Dtype {
        self.vectors.dtype
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        self.read(first, out)
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.read(first, out)
    }

    fn locate(&self, row: u64) -> RowLocation {
        RowLocation { path: self.name.clone(), row }
    }

    fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        check_range(&self.name, Shape { rows: self.shape.rows, dim: 1 }, first, rows)?;
        if names.is_empty() {
            return no_columns(&self.name, rows);
        }
        let columns = positions(&self.name, &self.schema, names)?;
        let failed = |e: arrow::error::ArrowError| Error::format(&self.name, e.to_string());
        let schema = plain_columns(&self.schema, &columns);
        let mut parts = Vec::new();
        self.each(first, rows, |part, _| {
            let part = part.project(&columns).map_err(failed)?;
            parts.push(recast_batch(&part, &schema).map_err(failed)?);
            Ok(())
        })?;
        concat_columns(&schema, &parts).map_err(failed)
    }

    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        stored_columns(&self.name, &self.schema, names)
    }

    /// The first call reads all rows once.
    fn id(&self) -> Result<SourceId> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(SourceId::Content(known.clone()));
        }
        let found = self.content()?;
        Ok(SourceId::Content(self.fingerprint.get_or_init(|| found).clone()))
    }

    fn vector_column(&self) -> Option<String> {
        Some(self.vectors.label.clone())
    }

    fn column_of(&self, _row: u64, component: usize) -> Option<String> {
        Some(self.vectors.column_of(component).to_string())
    }

    fn held_bytes(&self) -> u64 {
        HASHED_BYTES as u64
    }

    fn resident_bytes(&self) -> u64 {
        self.resident
    }
}

/// Writes batches that can be read only once to an Arrow stream in the file `to`, and returns the
/// number of rows. The file gets its name when the last batch is written; an existing file is
/// replaced.
///
/// # Errors
///
/// An error of `batches` is returned as it is; [`Error::Format`], naming the source `name`, if a
/// batch has other columns than `schema`; [`Error::Io`] if the file cannot be written.
pub fn spool_batches<E: From<Error>>(
    name: &str,
    schema: &SchemaRef,
    batches: impl IntoIterator<Item = std::result::Result<RecordBatch, E>>,
    to: &Path,
) -> std::result::Result<u64, E> {
    let failed = |e: arrow::error::ArrowError| match e {
        arrow::error::ArrowError::IoError(_, e) => Error::io(to, "write", e),
        other => Error::format(name, other.to_string()),
    };
    let file = crate::PendingFile::create(to)?;
    let mut stream = StreamWriter::try_new(file, schema).map_err(failed)?;
    let mut rows = 0;
    for (i, batch) in batches.into_iter().enumerate() {
        let batch = batch?;
        if batch.schema().fields() != schema.fields() {
            let what = format!("batch {i} has other columns than the first: {}", batch.schema());
            return Err(Error::format(name, what).into());
        }
        rows += batch.num_rows() as u64;
        stream.write(&batch).map_err(failed)?;
    }
    stream.finish().map_err(failed)?;
    stream.into_inner().map_err(failed)?.finish()?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, DictionaryArray, Float64Array, ListArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::{DataType, Float16Type, Int8Type, Int32Type};
    use half::f16;

    use super::*;
    use crate::is_null;

    fn batch(values: &[f64], words: &[&str]) -> RecordBatch {
        let lengths = std::iter::repeat_n(2, values.len() / 2);
        let item = Arc::new(Field::new("item", DataType::Float64, true));
        let numbers = Arc::new(Float64Array::from(values.to_vec()));
        let vectors = ListArray::new(item, OffsetBuffer::from_lengths(lengths), numbers, None);
        let words: DictionaryArray<Int8Type> = words.iter().copied().collect();
        let columns: [(&str, ArrayRef); 2] = [("v", Arc::new(vectors)), ("word", Arc::new(words))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn source(batches: Vec<RecordBatch>) -> Result<MemorySource> {
        MemorySource::new("rows", batches[0].schema(), batches, &OpenOptions::default())
    }

    #[test]
    fn rows_of_batches_read_as_they_are() {
        let whole = batch(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5], &["a", "b", "a", "c"]);
        // Slices, an empty batch among them, and dictionaries of their own.
        let last = batch(&[4.0, 4.5], &["z"]);
        let source = source(vec![whole.slice(1, 2), whole.slice(0, 0), whole.slice(3, 1), last]).unwrap();
        assert_eq!((source.shape(), source.dtype()), (Shape { rows: 4, dim: 2 }, Dtype::F64));
        for first in 0..4 {
            for rows in 0..=4 - first {
                let mut out = vec![0.0; rows * 2];
                source.read_rows(first as u64, &mut out).unwrap();
                let expected = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5];
                assert_eq!(out, expected[first * 2..][..rows * 2], "{rows} rows from {first}");
                let words = source.read_columns(&["word".into()], first as u64, rows).unwrap();
                let words: Vec<_> = words.column(0).as_string::<i32>().iter().map(Option::unwrap).collect();
                assert_eq!(words, ["b", "a", "c", "z"][first..][..rows]);
            }
        }
        assert!(source.read_rows(3, &mut [0.0; 4]).is_err());
        assert!(source.read_columns(&["none".into()], 0, 1).is_err());
    }

    #[test]
    fn an_array_is_shared_and_read_in_its_own_type() {
        let values: Vec<f16> = (0..12).map(|i| f16::from_f32(i as f32 / 2.0)).collect();
        let buffer = Buffer::from_vec(values);
        let at = buffer.as_ptr();
        let source = MemorySource::from_array::<Float16Type>("array", buffer.into(), 3).unwrap();
        assert_eq!((source.shape(), source.dtype()), (Shape { rows: 4, dim: 3 }, Dtype::F16));
        let numbers = source.batches[0].column(0).as_fixed_size_list().values().clone();
        assert_eq!(numbers.to_data().buffers()[0].as_ptr(), at);
        let mut out = [0.0; 3];
        source.read_rows(2, &mut out).unwrap();
        assert_eq!(out, [3.0, 3.5, 4.0]);
        for (dim, text) in [(0, "0 components"), (5, "not a whole number"), (usize::MAX, "cannot be read")] {
            let error = MemorySource::from_vec("array", vec![0.0; 12], dim).err().unwrap().to_string();
            assert!(error.starts_with("array: ") && error.contains(text), "{error}");
        }
        assert!(MemorySource::from_vec("array", Vec::new(), 3).err().unwrap().to_string().contains("no rows"));
    }

    #[test]
    fn null_rows_are_marked_also_in_slices() {
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        let numbers = Arc::new(PrimitiveArray::<Int32Type>::from_iter((0..8).map(|i| (i != 5).then_some(i))));
        let nulls = NullBuffer::from(vec![false, true, true, true]);
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, numbers, Some(nulls)));
        let batch = RecordBatch::try_from_iter([("v", vectors)]).unwrap();
        let source = source(vec![batch.slice(2, 2), batch.slice(0, 2)]).unwrap();
        let mut out = [0.0; 8];
        source.read_rows(0, &mut out).unwrap();
        let nulls: Vec<bool> = out.iter().map(|&x| is_null(x)).collect();
        assert_eq!(nulls, [false, true, false, false, true, true, false, false]);
        assert_eq!((out[0], out[2], out[6]), (4.0, 6.0, 2.0));
    }

    #[test]
    fn equal_content_has_equal_fingerprints() {
        let print = |batches| source(batches).unwrap().fingerprints().unwrap();
        let whole = batch(&[0.0, 0.5, 1.0, 1.5], &["a", "b"]);
        let again = batch(&[0.0, 0.5, 1.0, 1.5], &["a", "b"]);
        assert_eq!(print(vec![whole.clone()]), print(vec![again]));
        assert_ne!(print(vec![whole.clone()]), print(vec![batch(&[0.0, 0.5, 1.0, 2.5], &["a", "b"])]));
        assert_ne!(print(vec![whole.clone()]), print(vec![batch(&[0.0, 0.5, 1.0, 1.5], &["a", "c"])]));
        // A slice counts for its rows only.
        let longer = batch(&[9.0, 9.5, 0.0, 0.5, 1.0, 1.5], &["a", "a", "b"]);
        assert_eq!(print(vec![whole]), print(vec![longer.slice(1, 2)]));
    }

    #[test]
    fn batches_of_other_columns_are_refused() {
        let one = batch(&[0.0, 0.5], &["a"]);
        let other = one.project(&[0]).unwrap();
        let error = MemorySource::new("rows", one.schema(), vec![one.clone(), other.clone()], &OpenOptions::default());
        assert!(error.err().unwrap().to_string().starts_with("rows: batch 1 has other columns"));
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("spool");
        let batches = [Ok(one.clone()), Ok(other)];
        let error = spool_batches::<Error>("a generator", &one.schema(), batches, &to).unwrap_err().to_string();
        assert!(error.starts_with("a generator: batch 1 has other columns"), "{error}");
        assert!(!to.exists());
    }

    #[test]
    fn batches_read_once_become_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("spool");
        let batches = [batch(&[0.0, 0.5], &["a"]), batch(&[1.0, 1.5], &["b"])];
        let schema = batches[0].schema();
        let rows = spool_batches::<Error>("a generator", &schema, batches.into_iter().map(Ok), &to).unwrap();
        assert_eq!(rows, 2);
        let source = crate::open(&[to.to_str().unwrap().into()], &OpenOptions::default()).unwrap();
        let mut out = [0.0; 4];
        source.read_rows(0, &mut out).unwrap();
        assert_eq!(out, [0.0, 0.5, 1.0, 1.5]);
        let words = source.read_columns(&["word".into()], 0, 2).unwrap();
        let words: Vec<_> = words.column(0).as_string::<i32>().iter().map(Option::unwrap).collect();
        assert_eq!(words, ["a", "b"]);
        // The error of the one who makes the batches comes through, and leaves no file.
        let failing = [Err(Error::format("upstream", "gone"))];
        let to = dir.path().join("failed");
        assert!(spool_batches::<Error>("x", &schema, failing, &to).unwrap_err().to_string().contains("gone"));
        assert!(!to.exists());
    }
}
