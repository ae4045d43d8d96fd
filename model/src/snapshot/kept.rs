//! The kind `kept`: columns of the table that the model keeps, in order of places.
//!
//! ```text
//! header  "LLMC" 1; the number of columns
//! schema  an Arrow IPC stream without record batches
//! blocks  of 4,096 rows (the last one may have fewer): an Arrow IPC stream with one record batch, whose buffers are
//!         compressed by zstd where that makes them smaller
//! table   for the schema and for each block: where it ends in the file (u64), and the 64-bit XXH3 of its bytes (u64)
//! end     rows (u64)
//! ```
//!
//! What must hold: Arrow is given no stream whose checksum differs, so that a damaged file is an error and not a panic.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use xxhash_rust::xxh3::xxh3_64;

use super::object::{Body, HEADER, Kind, Object};
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("kept", b'C');
/// The rows of a block.
pub(crate) const BLOCK: usize = 4096;

/// Returns the columns in the types in which a model keeps them: views of text or bytes as text or bytes, all others as
/// they are. Every column may have nulls, because a later table may. `given` are the columns of
/// [`lowland_io::Source::read_columns`], which have no dictionaries.
///
/// # Errors
/// The name of a column whose values cannot be reordered or written, and why.
pub fn kept_schema(given: &Schema) -> std::result::Result<SchemaRef, (String, String)> {
    let stored = Arc::new(Schema::new(given.fields().iter().map(stored_field).collect::<Vec<_>>()));
    for field in stored.fields() {
        let alone: SchemaRef = Arc::new(Schema::new(vec![field.clone()]));
        let null = new_null_array(field.data_type(), 1);
        let written = RecordBatch::try_new(alone.clone(), vec![null])
            .and_then(|batch| take_record_batch(&batch, &UInt32Array::from(vec![0])))
            .and_then(|batch| read_stream(&stream(&alone, Some(&batch))?, &alone));
        written.map_err(|e| (field.name().clone(), e.to_string()))?;
    }
    Ok(stored)
}

/// Returns whether values of the type `given` can be kept as `stored`: texts and bytes in any of their forms, and types
/// that differ in the names and nullability of nested fields only where these are items of lists.
pub fn is_kept_as(given: &DataType, stored: &DataType) -> bool {
    general(given) == general(stored)
}

/// Returns the type that stands for all that are kept alike.
fn general(given: &DataType) -> DataType {
    let named = |field: &FieldRef, name: &str| Arc::new(Field::new(name, general(field.data_type()), true));
    match given {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::LargeList(item) => DataType::List(named(item, "item")),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(named(item, "item"), *size),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| named(field, field.name())).collect::<Fields>())
        }
        DataType::Dictionary(_, values) => general(values),
        other => other.clone(),
    }
}

/// Returns the type in which values are held and stored: a view holds on to the bytes of all rows that were read with it.
pub(crate) fn stored_type(given: &DataType) -> DataType {
    match given {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

fn stored_field(given: &FieldRef) -> FieldRef {
    let stored = stored_type(given.data_type());
    Arc::new(given.as_ref().clone().with_data_type(stored).with_nullable(true))
}

/// Converts an array; a value that the type cannot hold is an error.
pub(crate) fn converted(array: &ArrayRef, to: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
    match array.data_type() == to {
        true => Ok(array.clone()),
        false => cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

/// Returns a batch as an Arrow IPC stream; without a batch the schema alone.
fn stream(schema: &SchemaRef, batch: Option<&RecordBatch>) -> std::result::Result<Vec<u8>, ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options)?;
    batch.map_or(Ok(()), |batch| writer.write(batch))?;
    writer.finish()?;
    writer.into_inner()
}

/// Reads the batch of a stream, which must have these columns.
fn read_stream(bytes: &[u8], schema: &SchemaRef) -> std::result::Result<RecordBatch, ArrowError> {
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    if reader.schema() != *schema {
        return Err(ArrowError::SchemaError("a block has other columns than the file".into()));
    }
    reader.next().unwrap_or_else(|| Err(ArrowError::ParseError("a block without rows".into())))
}

/// Writes kept columns in order of places.
#[derive(Debug)]
pub struct KeptWriter {
    body: Body,
    schema: SchemaRef,
    rows: u64,
    /// Rows of the next block, fewer than it has.
    waiting: Vec<RecordBatch>,
    table: Vec<[u64; 2]>,
}

impl KeptWriter {
    /// Begins the kept columns of the role `role` ([`super::role`]), whose types are those of [`kept_schema`].
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn create(lock: &ModelLock<'_>, role: &str, schema: &SchemaRef) -> Result<Self> {
        let body = Body::begin(lock, KIND, role, &[schema.fields().len() as u64])?;
        let mut writer = KeptWriter { body, schema: schema.clone(), rows: 0, waiting: Vec::new(), table: Vec::new() };
        let empty = stream(schema, None).map_err(failed)?;
        writer.put(&empty)?;
        Ok(writer)
    }

    /// Appends rows, whose columns are in the order of the schema. Holds the rows of a block.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if a column has a value that the type cannot hold.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns = rows.columns().iter().zip(self.schema.fields()).map(|(array, field)| {
            let wrong = |e| KIND.misfit(format!("column \"{}\": {e}", field.name()));
            converted(array, field.data_type()).map_err(wrong)
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(failed)?;
        let mut first = 0;
        while first < rows.num_rows() {
            let waiting: usize = self.waiting.iter().map(RecordBatch::num_rows).sum();
            let count = (BLOCK - waiting).min(rows.num_rows() - first);
            // A copy, which does not hold on to the other rows.
            self.waiting.push(copied(&rows.slice(first, count)).map_err(failed)?);
            first += count;
            if waiting + count == BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let block = concat_batches(&self.schema, &self.waiting).and_then(|block| copied(&block)).map_err(failed)?;
        self.waiting.clear();
        self.rows += block.num_rows() as u64;
        self.put(&stream(&self.schema, Some(&block)).map_err(failed)?)
    }

    fn put(&mut self, stream: &[u8]) -> Result<()> {
        self.body.bytes(stream)?;
        // A stream's length is a multiple of 8, so that the table can be viewed as numbers.
        self.table.push([self.body.position(), xxh3_64(stream)]);
        Ok(())
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(mut self) -> Result<ObjectRef> {
        if !self.waiting.is_empty() {
            self.flush()?;
        }
        self.body.values(&self.table)?;
        self.body.finish_rows(self.rows)
    }
}

/// Copies rows: the same values in buffers that do not depend on where the rows were.
fn copied(rows: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
    take_record_batch(rows, &UInt32Array::from_iter_values(0..rows.num_rows() as u32))
}

fn failed(error: ArrowError) -> crate::Error {
    KIND.misfit(error.to_string())
}

pub(super) struct Kept {
    object: Object,
    pub(super) rows: u32,
    pub(super) schema: SchemaRef,
}

impl Kept {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        let mut kept = Kept { object, rows, schema: Arc::new(Schema::empty()) };
        let ends = kept.table();
        let table_at = (kept.object.file().bytes().len() as u64).checked_sub(8 + ends.len() as u64 * 16);
        let mut before = HEADER as u64;
        let ordered = ends.iter().all(|&[end, _]| {
            let follows = end > before;
            before = end;
            follows
        });
        if !ordered || ends.is_empty() || Some(before) != table_at {
            return Err(kept.object.damaged("the ends of its blocks are not in order"));
        }
        let bytes = kept.stream(0)?;
        let reader = StreamReader::try_new(Cursor::new(&bytes[..]), None);
        kept.schema = reader.map_err(|e| kept.object.damaged(e.to_string()))?.schema();
        if kept.schema.fields().len() as u64 != kept.object.count(0) {
            return Err(kept.object.damaged(format!("{} columns", kept.object.count(0))));
        }
        Ok(kept)
    }

    pub(super) fn damaged(&self, what: &str) -> crate::Error {
        self.object.damaged(what)
    }

    /// Returns the ends and checksums of the schema and the blocks; empty if the file is too short for them.
    fn table(&self) -> &[[u64; 2]] {
        let count = (self.rows as usize).div_ceil(BLOCK) + 1;
        let at = self.object.file().bytes().len().checked_sub(8 + count * 16);
        at.map_or(&[], |at| self.object.values(at, count))
    }

    /// Reads the stream of the schema (0) or of a block (from 1), and checks it.
    fn stream(&self, which: usize) -> Result<Vec<u8>> {
        let table = self.table();
        let start = which.checked_sub(1).map_or(HEADER as u64, |before| table[before][0]);
        let [end, sum] = table[which];
        let mut bytes = vec![0; (end - start) as usize];
        self.object.file().read_at(start, &mut bytes)?;
        match xxh3_64(&bytes) == sum {
            true => Ok(bytes),
            false => Err(self.object.damaged(format!("its bytes {start} to {end} are not those that were written"))),
        }
    }

    /// Returns rows, which must be in range. Reads whole blocks, not through the map.
    pub(super) fn read(&self, rows: Range<u32>) -> Result<RecordBatch> {
        let damaged = |e: ArrowError| self.object.damaged(e.to_string());
        let (mut row, end) = (rows.start as usize, rows.end as usize);
        let mut parts = Vec::new();
        while row < end {
            let block = row / BLOCK;
            let batch = read_stream(&self.stream(block + 1)?, &self.schema).map_err(damaged)?;
            if batch.num_rows() != BLOCK.min(self.rows as usize - block * BLOCK) {
                return Err(self.object.damaged(format!("{} rows in block {block}", batch.num_rows())));
            }
            let until = ((block + 1) * BLOCK).min(end);
            parts.push(batch.slice(row - block * BLOCK, until - row));
            row = until;
        }
        concat_batches(&self.schema, &parts).map_err(damaged)
    }
}
