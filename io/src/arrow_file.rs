//! Arrow IPC files (Feather version 2), memory-mapped: uncompressed batches
//! are read in place, compressed ones decoded one at a time.
//!
//! What must hold: opening reads the footer and each batch's metadata but no
//! data; the last batch decoded is kept, so that reading on costs nothing;
//! damaged bytes are an error.

use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc;
use arrow::record_batch::RecordBatch;

use crate::arrow_message::{self, Dictionaries};
use crate::source::{check_range, fingerprint, lock, map, no_columns};
use crate::vectors::{Vectors, Want, positions};
use crate::{Dtype, Error, Fingerprint, Place, Result, Shape, Source};

pub(crate) const MAGIC: &[u8] = b"ARROW1";

/// An Arrow IPC file.
pub(crate) struct ArrowFile {
    path: PathBuf,
    bytes: Buffer,
    /// The footer's place, in bytes.
    footer: std::ops::Range<usize>,
    schema: SchemaRef,
    vectors: Vectors,
    shape: Shape,
    batches: Vec<Block>,
    dictionary_blocks: Vec<Block>,
    dictionaries: Mutex<Option<Arc<Dictionaries>>>,
    compressed: bool,
    last_vectors: Mutex<Option<Decoded>>,
    last_columns: Mutex<Option<Decoded>>,
}

/// A message and its body in the file; for a batch also its first row.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: u64,
    rows: u64,
    offset: usize,
    metadata: usize,
    body: usize,
}

/// A batch as decoded: which, and which columns of it.
#[derive(Clone)]
struct Decoded {
    index: usize,
    columns: Vec<usize>,
    batch: RecordBatch,
}

impl ArrowFile {
    pub(crate) fn open(path: &Path, want: &Want) -> Result<Self> {
        let bytes = mapped(path)?;
        let damaged = |what: String| Error::format(path, what);
        let end = bytes.len().saturating_sub(MAGIC.len());
        if bytes.get(end..) != Some(MAGIC) {
            return Err(damaged(
                "ends without an Arrow footer: cut short, or still being written; write it again".into(),
            ));
        }
        let no_footer = || damaged("its footer cannot be found; write it again".into());
        let length_at = end.checked_sub(4).ok_or_else(no_footer)?;
        let length = bytes.get(length_at..end).and_then(|b| b.first_chunk()).ok_or_else(no_footer)?;
        let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| no_footer())?;
        let footer = length_at.checked_sub(length).ok_or_else(no_footer)?..length_at;
        let parsed = ipc::root_as_footer(bytes.get(footer.clone()).ok_or_else(no_footer)?)
            .map_err(|e| damaged(format!("its footer cannot be parsed: {e}")))?;
        let schema = parsed.schema().ok_or_else(|| damaged("its footer has no schema".into()))?;
        let schema: SchemaRef = Arc::new(arrow_message::schema(schema).map_err(damaged)?);
        let vectors = Vectors::resolve(path, &schema, want)?;

        let block = |found: &ipc::Block| {
            let offset = usize::try_from(found.offset()).ok()?;
            let metadata = usize::try_from(found.metaDataLength()).ok()?;
            let body = usize::try_from(found.bodyLength()).ok()?;
            let end = offset.checked_add(metadata)?.checked_add(body)?;
            (end <= footer.start).then_some(Block { first: 0, rows: 0, offset, metadata, body })
        };
        let outside = || damaged("a batch lies outside of the file: cut short or damaged".into());
        let mut batches = Vec::new();
        let (mut rows, mut compressed) = (0u64, false);
        for found in parsed.recordBatches().into_iter().flatten() {
            let mut block = block(found).ok_or_else(outside)?;
            let message = message(&bytes, &block).map_err(damaged)?;
            let batch = message.header_as_record_batch();
            let batch = batch.ok_or_else(|| damaged("its footer names a batch that is not one".into()))?;
            block.first = rows;
            block.rows = u64::try_from(batch.length()).map_err(|_| outside())?;
            rows = rows.checked_add(block.rows).ok_or_else(outside)?;
            compressed |= batch.compression().is_some();
            // Empty batches hold no row to be found by.
            if block.rows > 0 {
                batches.push(block);
            }
        }
        let dictionary_blocks = parsed.dictionaries().into_iter().flatten().map(|b| block(b).ok_or_else(outside));
        let dictionary_blocks = dictionary_blocks.collect::<Result<_>>()?;
        let mut file = ArrowFile {
            path: path.into(),
            bytes,
            footer,
            schema,
            shape: Shape { rows, dim: vectors.dim.unwrap_or(0) },
            vectors,
            batches,
            dictionary_blocks,
            dictionaries: Mutex::new(None),
            compressed,
            last_vectors: Mutex::new(None),
            last_columns: Mutex::new(None),
        };
        if file.shape.dim == 0 && rows > 0 {
            let batch = file.batch(&file.last_vectors, 0, &file.vectors.columns)?;
            file.shape.dim = file.vectors.first_width(path, batch.columns())?;
        }
        // A file asked nothing yet holds nothing.
        file.release();
        Ok(file)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.vectors.names
    }

    /// Columns `columns` of batch `index`, from `kept` where they are there.
    fn batch(&self, kept: &Mutex<Option<Decoded>>, index: usize, columns: &[usize]) -> Result<RecordBatch> {
        if let Some(last) = lock(kept).as_ref()
            && last.index == index
            && last.columns == columns
        {
            return Ok(last.batch.clone());
        }
        // The old batch goes before the new one comes: one at a time.
        *lock(kept) = None;
        let damaged = |what: String| Error::format(&self.path, format!("batch {index}: {what}"));
        let block = self.batches.get(index).ok_or_else(|| damaged("there is no such batch".into()))?;
        let message = message(&self.bytes, block).map_err(damaged)?;
        let dictionaries = self.dictionaries(columns)?;
        let body = self.bytes.slice_with_length(block.offset + block.metadata, block.body);
        let batch =
            arrow_message::decode(message, &body, &self.schema, Some(columns), &dictionaries).map_err(damaged)?;
        if batch.num_rows() as u64 != block.rows {
            return Err(damaged("its rows changed since the file was opened".into()));
        }
        *lock(kept) = Some(Decoded { index, columns: columns.to_vec(), batch: batch.clone() });
        Ok(batch)
    }

    /// All dictionaries, decoded when a column first needs one.
    fn dictionaries(&self, columns: &[usize]) -> Result<Arc<Dictionaries>> {
        if columns == self.vectors.columns || self.dictionary_blocks.is_empty() {
            return Ok(Arc::default());
        }
        let mut kept = lock(&self.dictionaries);
        if let Some(dictionaries) = kept.as_ref() {
            return Ok(dictionaries.clone());
        }
        let mut dictionaries = Dictionaries::new();
        for block in &self.dictionary_blocks {
            let body = self.bytes.slice_with_length(block.offset + block.metadata, block.body);
            message(&self.bytes, block)
                .and_then(|m| arrow_message::decode_dictionary(m, &body, &self.schema, &mut dictionaries))
                .map_err(|what| Error::format(&self.path, what))?;
        }
        Ok(kept.insert(Arc::new(dictionaries)).clone())
    }

    /// Calls `take` with each batch's part of `rows` rows from `first` on, and the part's first row.
    fn each(
        &self,
        kept: &Mutex<Option<Decoded>>,
        columns: &[usize],
        mut first: u64,
        rows: usize,
        mut take: impl FnMut(RecordBatch, u64) -> Result<()>,
    ) -> Result<()> {
        let mut left = rows;
        let mut index = self.batches.partition_point(|b| b.first + b.rows <= first);
        while left > 0 {
            let batch = self.batch(kept, index, columns)?;
            let from = (first - self.batches[index].first) as usize;
            let part = left.min(batch.num_rows() - from);
            take(batch.slice(from, part), first)?;
            first += part as u64;
            left -= part;
            index += 1;
        }
        Ok(())
    }
}

impl Source for ArrowFile {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn dtype(&self) -> Dtype {
        self.vectors.dtype
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        check_range(&self.path, self.shape, first, out.len())?;
        let dim = self.shape.dim;
        let mut rest = &mut *out;
        let rows = rest.len() / dim.max(1);
        self.each(&self.last_vectors, &self.vectors.columns, first, rows, |part, at| {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(part.num_rows() * dim);
            rest = after;
            self.vectors.copy(&self.path, part.columns(), dim, at, here)
        })
    }

    fn locate(&self, row: u64) -> Place {
        Place { path: self.path.clone(), row }
    }

    fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        check_range(&self.path, self.shape, first, rows.saturating_mul(self.shape.dim))?;
        let columns = positions(&self.path, &self.schema, names)?;
        if columns.is_empty() {
            return no_columns(&self.path, rows);
        }
        let failed = |e: arrow::error::ArrowError| Error::format(&self.path, e.to_string());
        let schema: SchemaRef = Arc::new(self.schema.project(&columns).map_err(failed)?);
        let mut parts = Vec::new();
        self.each(&self.last_columns, &columns, first, rows, |part, _| {
            parts.push(part);
            Ok(())
        })?;
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            several => concat_batches(&schema, several).map_err(failed),
        }
    }

    fn fingerprints(&self) -> Result<Vec<Fingerprint>> {
        Ok(vec![fingerprint(&self.path, self.footer.start as u64..self.footer.end as u64)?])
    }

    fn vector_column(&self) -> Option<String> {
        Some(self.vectors.label.clone())
    }

    fn held_bytes(&self) -> u64 {
        let most = self.batches.iter().map(|b| b.rows).max().unwrap_or(0);
        if self.compressed { most * (self.shape.dim as u64) * self.vectors.component_bytes() } else { 0 }
    }

    fn release(&self) {
        *lock(&self.last_vectors) = None;
        *lock(&self.last_columns) = None;
    }
}

/// The message of `block`, which lies within `bytes`.
fn message<'a>(bytes: &'a Buffer, block: &Block) -> arrow_message::Checked<ipc::Message<'a>> {
    let message = bytes.get(block.offset..block.offset + block.metadata).ok_or("a batch lies outside of the file")?;
    arrow_message::parse(arrow_message::flatbuffer(message)?)
}

/// The file's bytes as a buffer that arrays can be cut from without a copy.
fn mapped(path: &Path) -> Result<Buffer> {
    let map = Arc::new(map(path)?);
    let start = NonNull::from(map.as_ref().as_ref()).cast();
    let length = map.len();
    #[expect(unsafe_code, reason = "arrays are read in the file's pages, without a copy")]
    // SAFETY: `start` and `length` are the map's own, and the buffer keeps the
    // map alive for as long as any array cut from it lives.
    let buffer = unsafe { Buffer::from_custom_allocation(start, length, map) };
    Ok(buffer)
}
