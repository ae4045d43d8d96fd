//! A source over an Arrow IPC file (Feather version 2), or over an Arrow IPC stream in a file, read
//! by position. Of uncompressed batches only the requested rows are read; of compressed batches the
//! requested columns, decoded one batch at a time.
//!
//! What must hold:
//! - Opening reads the footer and each message's metadata, but no data beyond dictionaries and the
//!   rows that show how long the vectors are.
//! - A batch that had to be decoded whole is kept, so that reading its next rows is cheap. At most
//!   one such batch is held for vectors and one for other columns.
//! - Damaged bytes cause an error.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::ArrayRef;
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::{self, MessageHeader};
use arrow::record_batch::RecordBatch;

use crate::arrow_excerpt::{self, ExcerptError, ROW_STEP, StoredBatch, has_rows};
use crate::arrow_message::{self, Dictionaries};
use crate::categories::of_both;
use crate::number::VectorFloat;
use crate::positioned::PositionedFile;
use crate::recast::{concat_columns, recast_batch};
use crate::source::{check_range, lock, no_columns};
use crate::unify::plain_columns;
use crate::vectors::{ColumnRequest, VectorColumns, positions, pruned, stored_columns};
use crate::wide_integers;
use crate::{Dtype, Error, Result, RowLocation, Shape, Source, SourceId};

pub(crate) const MAGIC: &[u8] = b"ARROW1";

/// The first bytes of a stream's messages.
pub(crate) const STREAM_MAGIC: &[u8] = &[0xff; 4];
/// The bytes before a message's metadata: the marker above, and the metadata's length.
const PREFIX: u64 = 8;

/// About the number of bytes of vectors read at a time: few enough to stay in a core's cache, and
/// enough to make a call's fixed cost small.
const PORTION_BYTES: usize = 256 << 10;
/// The least number of bytes read at a time from each column if there are many columns, again to
/// make a call's fixed cost small.
const COLUMN_BYTES: usize = 8 << 10;

/// Rows read at a time while no row has shown how long the vectors are.
const SETTLE_ROWS: u64 = 64;

/// The memory of a decompressor: zstd's window at its usual levels, with some margin.
const UNPACK_BYTES: u64 = 4 << 20;

/// An Arrow IPC file, or a stream in a file.
pub(crate) struct ArrowFile {
    path: PathBuf,
    file: PositionedFile,
    /// The byte range of the description: the footer, or a stream's schema.
    header: Range<u64>,
    /// Whether a dictionary is valid from its position on, as in a stream, rather than for the
    /// whole file.
    streamed: bool,
    /// Whether it is a stream whose end marker is missing.
    endless: bool,
    schema: SchemaRef,
    vectors: VectorColumns,
    shape: Shape,
    batches: Vec<MessageBlock>,
    dictionary_blocks: Vec<MessageBlock>,
    /// The rows of the largest compressed batch, which is decoded whole.
    whole: u64,
    /// The bytes of the largest batch, if the vectors' type requires that batches are decoded
    /// whole.
    scattered: u64,
    /// The bytes of the dictionaries that the vectors need.
    dictionary_bytes: u64,
    kept: ArrowCache,
}

/// The data kept between calls.
#[derive(Default)]
struct ArrowCache {
    /// A number of dictionary messages, and the dictionaries after these messages.
    dictionaries: Mutex<Option<(usize, Arc<Dictionaries>)>>,
    /// The index of a batch, and its metadata.
    message: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
    vectors: Mutex<Option<DecodedBatch>>,
    columns: Mutex<Option<DecodedBatch>>,
    /// The buffer into which vectors were read last, for reuse.
    space: Mutex<Option<MutableBuffer>>,
}

/// The place of a message and its body in the file; for a batch also its first row and its rows.
#[derive(Debug, Clone, Copy)]
struct MessageBlock {
    first: u64,
    rows: u64,
    offset: u64,
    metadata: u64,
    body: u64,
}

impl MessageBlock {
    /// Returns the offset of the body in the file, and its length.
    fn body(&self) -> (u64, u64) {
        (self.offset + self.metadata, self.body)
    }
}

/// The schema and the list of messages of a file or stream.
struct ArrowContents {
    schema: SchemaRef,
    /// The byte range from which they were read.
    header: Range<u64>,
    batches: Vec<MessageBlock>,
    dictionaries: Vec<MessageBlock>,
    /// Whether the end is marked: by a footer, or by the marker that ends a stream.
    ended: bool,
}

impl ArrowContents {
    /// Reads the contents of a file from its footer.
    fn of_file(file: &PositionedFile) -> Result<Self> {
        let path = file.path();
        let damaged = |what: String| Error::format(path, what);
        let end = file.bytes().saturating_sub(MAGIC.len() as u64);
        if file.read(end..file.bytes())? != MAGIC {
            return Err(damaged(
                "ends without an Arrow footer: cut short, or still being written; write it again".into(),
            ));
        }
        let no_footer = || damaged("its footer cannot be found; write it again".into());
        let length_at = end.checked_sub(4).ok_or_else(no_footer)?;
        let length = file.read(length_at..end)?.first_chunk().map_or(-1, |b| i32::from_le_bytes(*b));
        let length = u64::try_from(length).map_err(|_| no_footer())?;
        let footer = length_at.checked_sub(length).ok_or_else(no_footer)?..length_at;
        let bytes = file.read(footer.clone())?;
        let parsed = ipc::root_as_footer(&bytes).map_err(|e| damaged(format!("its footer cannot be parsed: {e}")))?;
        parsed.schema().ok_or_else(|| damaged("its footer has no schema".into()))?;
        let (schema, _) =
            wide_integers::schema(&bytes, |bytes| ipc::root_as_footer(bytes).ok()?.schema()).map_err(damaged)?;
        let schema: SchemaRef = Arc::new(schema);
        let block = |found: &ipc::Block| {
            let offset = u64::try_from(found.offset()).ok()?;
            let metadata = u64::try_from(found.metaDataLength()).ok()?;
            let body = u64::try_from(found.bodyLength()).ok()?;
            let end = offset.checked_add(metadata)?.checked_add(body)?;
            (end <= footer.start).then_some(MessageBlock { first: 0, rows: 0, offset, metadata, body })
        };
        let block = |found| block(found).ok_or_else(|| outside(path));
        let batches = parsed.recordBatches().into_iter().flatten().map(block).collect::<Result<_>>()?;
        let dictionaries = parsed.dictionaries().into_iter().flatten().map(block).collect::<Result<_>>()?;
        Ok(ArrowContents { schema, header: footer, batches, dictionaries, ended: true })
    }

    /// Reads the contents of a stream, message by message, without the bodies.
    fn of_stream(file: &PositionedFile) -> Result<Self> {
        let path = file.path();
        let damaged = |what: &str| Error::format(path, what);
        let within = |end: Option<u64>| match end {
            Some(end) if end <= file.bytes() => Ok(end),
            Some(expected) => Err(Error::Truncated { path: path.into(), expected, found: file.bytes() }),
            None => Err(outside(path)),
        };
        let mut contents: Option<ArrowContents> = None;
        let (mut at, mut ended) = (0, false);
        // An end-of-stream marker is optional.
        while at < file.bytes() {
            let prefix = file.read(at..within(at.checked_add(PREFIX))?)?;
            let length =
                prefix.strip_prefix(STREAM_MAGIC).and_then(|b| b.first_chunk()).map(|b| i32::from_le_bytes(*b));
            let length = length.and_then(|length| u64::try_from(length).ok());
            let length = length.ok_or_else(|| damaged("damaged: no Arrow message where one should begin"))?;
            if length == 0 {
                let rest = file.bytes() - at - PREFIX;
                if rest > 0 {
                    return Err(damaged(&format!(
                        "{rest} bytes after the Arrow stream's end; write what follows it to a file of its own"
                    )));
                }
                ended = true;
                break;
            }
            let metadata = PREFIX + length;
            let body = within(at.checked_add(metadata))?;
            let bytes = file.read(at..body)?;
            let message = parse(&bytes).map_err(|what| damaged(&what))?;
            let length = u64::try_from(message.bodyLength()).map_err(|_| outside(path))?;
            let block = MessageBlock { first: 0, rows: 0, offset: at, metadata, body: length };
            at = within(body.checked_add(length))?;
            match (message.header_type(), &mut contents) {
                (MessageHeader::Schema, None) => {
                    message.header_as_schema().ok_or_else(|| damaged("a schema that is none"))?;
                    let buffer = arrow_message::flatbuffer(&bytes).map_err(|what| damaged(&what))?;
                    let found = wide_integers::schema(buffer, arrow_message::schema_of);
                    let schema = Arc::new(found.map_err(|what| damaged(&what))?.0);
                    let (batches, dictionaries) = (Vec::new(), Vec::new());
                    contents = Some(ArrowContents { schema, header: 0..body, batches, dictionaries, ended: false });
                }
                (MessageHeader::RecordBatch, Some(contents)) => contents.batches.push(block),
                (MessageHeader::DictionaryBatch, Some(contents)) => contents.dictionaries.push(block),
                (_, None) => return Err(damaged("an Arrow stream that does not begin with a schema")),
                (kind, _) => return Err(damaged(&format!("a message of kind {kind:?} where a batch was expected"))),
            }
        }
        let contents = contents.ok_or_else(|| damaged("an Arrow stream without a schema"))?;
        Ok(ArrowContents { ended, ..contents })
    }
}

fn outside(path: &Path) -> Error {
    Error::format(path, "a batch lies outside of the file: cut short or damaged")
}

/// A decoded batch: its index, which of its columns, and the buffer that holds the values.
struct DecodedBatch {
    index: usize,
    columns: Vec<usize>,
    batch: RecordBatch,
    body: Buffer,
}

/// The purpose of a read.
#[derive(Clone, Copy, PartialEq)]
enum ArrowUse {
    /// The rows are copied by the caller, so they can be read in portions.
    Vectors,
    /// The rows are returned as they are.
    Columns,
}

impl ArrowFile {
    /// Opens a file, which ends in a footer, or a stream, which does not.
    pub(crate) fn open(file: PositionedFile, want: &ColumnRequest) -> Result<Self> {
        let path = &file.path().to_path_buf();
        let damaged = |what: String| Error::format(path, what);
        let begins = file.read(0..file.bytes().min(MAGIC.len() as u64))?;
        let streamed = begins.starts_with(STREAM_MAGIC);
        let ArrowContents { schema, header, batches: blocks, dictionaries, ended } =
            if streamed { ArrowContents::of_stream(&file)? } else { ArrowContents::of_file(&file)? };
        let (mut batches, mut rows, mut whole) = (Vec::with_capacity(blocks.len()), 0_u64, 0);
        for mut block in blocks {
            let metadata = file.read(block.offset..block.offset + block.metadata)?;
            let message = parse(&metadata).map_err(damaged)?;
            let batch = message.header_as_record_batch();
            let batch = batch.ok_or_else(|| damaged("its footer names a batch that is not one".into()))?;
            block.first = rows;
            block.rows = u64::try_from(batch.length()).map_err(|_| outside(path))?;
            rows = rows.checked_add(block.rows).ok_or_else(|| outside(path))?;
            // A batch without rows is never looked up.
            if block.rows == 0 {
                continue;
            }
            batches.push(block);
            if batch.compression().is_some() {
                whole = whole.max(block.rows);
            }
        }
        let vectors = match rows {
            0 => VectorColumns::none(),
            _ => VectorColumns::resolve(path, &schema, want)?,
        };
        let scattered = match vectors.columns.iter().all(|&c| has_rows(schema.field(c).data_type())) {
            true => 0,
            false => batches.iter().map(|b: &MessageBlock| b.body).max().unwrap_or(0),
        };
        let mut file = file;
        // Each column is read sequentially. Its values dominate; its bitmaps and offsets are small
        // in comparison.
        file.expect_streams(vectors.columns.len());
        let mut this = ArrowFile {
            path: path.clone(),
            file,
            header,
            streamed,
            endless: streamed && !ended,
            shape: Shape { rows, dim: vectors.dim.unwrap_or(0) },
            schema,
            vectors,
            batches,
            dictionary_blocks: dictionaries,
            whole,
            scattered,
            dictionary_bytes: 0,
            kept: ArrowCache::default(),
        };
        if this.vectors.has_dictionary()
            && let Some(last) = this.batches.last()
        {
            let dictionaries = this.dictionaries(ArrowUse::Vectors, last)?;
            this.dictionary_bytes = dictionaries.values().map(|d| d.get_array_memory_size() as u64).sum();
        }
        // The vectors' length is usually known from the first row. If that row is null, further
        // rows are read.
        let (mut at, mut rows) = (0, 1);
        while this.vectors.dim.is_none() && at < this.shape.rows {
            let mut vectors = this.vectors.clone();
            rows = rows.min(this.shape.rows - at);
            this.each(ArrowUse::Vectors, &this.vectors.columns, at, rows as usize, |part, _| {
                vectors.settle(path, part.columns()).map(drop)
            })?;
            this.vectors = vectors;
            (at, rows) = (at + rows, SETTLE_ROWS);
        }
        this.shape.dim = this.vectors.dim.unwrap_or(0);
        // A file that was opened but not read yet holds nothing.
        this.release();
        Ok(this)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.vectors.names
    }

    /// Returns the bytes of a row's vector when decoded: its numbers, and its offsets or validity.
    fn row_bytes(&self) -> u64 {
        self.vectors.row_bytes().saturating_add(self.vectors.place_bytes())
    }

    /// Returns the number of rows of vectors read at a time.
    fn portion(&self) -> u64 {
        let bytes = PORTION_BYTES.max(self.vectors.columns.len().saturating_mul(COLUMN_BYTES)) as u64;
        (bytes / self.row_bytes().max(1)).next_multiple_of(ROW_STEP).max(ROW_STEP)
    }

    fn fault(&self, index: usize, fault: ExcerptError) -> Error {
        match fault {
            // The data may look damaged because the object store failed to deliver it; report that
            // instead.
            ExcerptError::Damage(what) => {
                let fault = self.file.fault().filter(|_| self.file.is_object());
                fault.unwrap_or_else(|| Error::format(&self.path, format!("batch {index}: {what}")))
            }
            ExcerptError::File(error) => error,
        }
    }

    fn read_message(&self, block: &MessageBlock) -> Result<Vec<u8>> {
        self.file.read(block.offset..block.offset + block.metadata)
    }

    /// Returns the metadata of batch `index`.
    fn message(&self, index: usize, block: &MessageBlock) -> Result<Arc<Vec<u8>>> {
        let mut kept = lock(&self.kept.message);
        match kept.as_ref() {
            Some((last, message)) if *last == index => Ok(message.clone()),
            _ => {
                let message = Arc::new(self.read_message(block)?);
                *kept = Some((index, message.clone()));
                Ok(message)
            }
        }
    }

    /// Returns the dictionaries that are valid for `batch`. They are decoded when a column first
    /// needs one.
    fn dictionaries(&self, use_of: ArrowUse, batch: &MessageBlock) -> Result<Arc<Dictionaries>> {
        let blocks = match self.streamed {
            true => &self.dictionary_blocks[..self.dictionary_blocks.partition_point(|d| d.offset < batch.offset)],
            false => &self.dictionary_blocks,
        };
        if use_of == ArrowUse::Vectors && !self.vectors.has_dictionary() || blocks.is_empty() {
            return Ok(Arc::default());
        }
        let mut kept = lock(&self.kept.dictionaries);
        let (read, mut dictionaries) = match kept.take() {
            Some((read, known)) if read == blocks.len() => return Ok(kept.insert((read, known)).1.clone()),
            Some((read, known)) if read < blocks.len() => (read, Arc::unwrap_or_clone(known)),
            _ => (0, Dictionaries::new()),
        };
        for block in &blocks[read..] {
            self.add_dictionary(block, &mut dictionaries)?;
        }
        Ok(kept.insert((blocks.len(), Arc::new(dictionaries))).1.clone())
    }

    /// Decodes the dictionary of a message, and adds it to `dictionaries`.
    fn add_dictionary(&self, block: &MessageBlock, dictionaries: &mut Dictionaries) -> Result<()> {
        let (message, (start, length)) = (self.read_message(block)?, block.body());
        let body = Buffer::from_vec(self.file.read(start..start + length)?);
        parse(&message)
            .and_then(|m| arrow_message::decode_dictionary(m, &body, &self.schema, dictionaries))
            .map_err(|what| Error::format(&self.path, what))
    }

    /// Calls `take` with the `rows` rows from `first` on, in consecutive parts, and with each
    /// part's first row.
    fn each(
        &self,
        use_of: ArrowUse,
        columns: &[usize],
        mut first: u64,
        rows: usize,
        mut take: impl FnMut(RecordBatch, u64) -> Result<()>,
    ) -> Result<()> {
        let mut left = rows as u64;
        let mut index = self.batches.partition_point(|b| b.first + b.rows <= first);
        while left > 0 {
            let part = self.part(use_of, columns, index, first, left, &mut take)?;
            first += part;
            left -= part;
            // A part may end within its batch.
            index += usize::from(self.batches.get(index).is_some_and(|b| b.first + b.rows <= first));
        }
        Ok(())
    }

    /// Calls `take` with up to `most` rows of batch `index`, beginning at row `first` of the file.
    /// Returns how many rows these were.
    fn part(
        &self,
        use_of: ArrowUse,
        columns: &[usize],
        index: usize,
        first: u64,
        most: u64,
        take: &mut impl FnMut(RecordBatch, u64) -> Result<()>,
    ) -> Result<u64> {
        let damaged = |what: &str| self.fault(index, what.into());
        let block = self.batches.get(index).ok_or_else(|| damaged("there is no such batch"))?;
        let from = first - block.first;
        let left = most.min(block.rows - from);
        let kept = if use_of == ArrowUse::Vectors { &self.kept.vectors } else { &self.kept.columns };
        if let Some(last) = lock(kept).as_ref()
            && last.index == index
            && last.columns == columns
        {
            let batch = last.batch.clone();
            take(batch.slice(from as usize, left as usize), first)?;
            return Ok(left);
        }
        // The former batch is freed before the next one is read into the same buffer.
        if let Some(last) = lock(kept).take() {
            drop(last.batch);
            self.keep_space(use_of, last.body);
        }
        let metadata = self.message(index, block)?;
        let message = parse(&metadata).map_err(|what| self.fault(index, what.into()))?;
        let batch = arrow_message::batch(message).map_err(|what| self.fault(index, what.into()))?;
        if batch.length() as u64 != block.rows {
            return Err(damaged("its rows changed since the file was opened"));
        }
        let from_file = StoredBatch { message, body: block.body(), schema: &self.schema };
        let dictionaries = self.dictionaries(use_of, block)?;
        let fields = self.schema.fields();
        if batch.compression().is_some() || !columns.iter().all(|&c| has_rows(fields[c].data_type())) {
            let whole = self.decode(use_of, from_file, columns, None, &dictionaries);
            let (batch, body) = whole.map_err(|fault| self.fault(index, fault))?;
            *lock(kept) = Some(DecodedBatch { index, columns: columns.to_vec(), batch: batch.clone(), body });
            take(batch.slice(from as usize, left as usize), first)?;
            return Ok(left);
        }
        let begin = from - from % ROW_STEP;
        let rows = match use_of {
            ArrowUse::Vectors => left.min(begin + self.portion() - from),
            ArrowUse::Columns => left,
        };
        let excerpt = self.decode(use_of, from_file, columns, Some(begin..from + rows), &dictionaries);
        let (batch, body) = excerpt.map_err(|fault| self.fault(index, fault))?;
        take(batch.slice((from - begin) as usize, rows as usize), first)?;
        drop(batch);
        self.keep_space(use_of, body);
        Ok(rows)
    }

    /// Returns the buffer into which vectors were read last. It is reused because touching new
    /// memory costs as much time as reading into it.
    fn space(&self, use_of: ArrowUse) -> MutableBuffer {
        let kept = if use_of == ArrowUse::Vectors { lock(&self.kept.space).take() } else { None };
        kept.unwrap_or_default()
    }

    /// Keeps the buffer into which vectors were read. The vectors have been copied by now, so
    /// nothing else refers to the buffer. A buffer of other columns is handed out with them.
    fn keep_space(&self, use_of: ArrowUse, body: Buffer) {
        if use_of == ArrowUse::Vectors {
            *lock(&self.kept.space) = body.into_mutable().ok();
        }
    }

    /// Decodes the columns `columns` of a batch, with rows `rows` or all; returns the batch and the
    /// buffer that holds the values. Of structs, a read of vectors decodes only the fields that
    /// hold components.
    fn decode(
        &self,
        use_of: ArrowUse,
        from: StoredBatch<'_>,
        columns: &[usize],
        rows: Option<Range<u64>>,
        dictionaries: &Dictionaries,
    ) -> std::result::Result<(RecordBatch, Buffer), ExcerptError> {
        let paths = match use_of {
            ArrowUse::Vectors => self.vectors.paths(),
            ArrowUse::Columns => columns.iter().map(|&column| vec![column]).collect(),
        };
        let paths: Vec<&[usize]> = paths.iter().map(Vec::as_slice).collect();
        let (message, body) = arrow_excerpt::take_excerpt(&self.file, from, &paths, rows, self.space(use_of))?;
        let schema = Arc::new(Schema::new(pruned(self.schema.fields(), &paths)));
        let batch = arrow_message::decode(arrow_message::parse(&message)?, &body, &schema, dictionaries)?;
        let in_file = ascending(columns);
        let order: Vec<usize> = columns.iter().filter_map(|c| in_file.binary_search(c).ok()).collect();
        Ok((batch.project(&order).map_err(|e| ExcerptError::Damage(e.to_string()))?, body))
    }

    fn read<N: VectorFloat>(&self, first: u64, out: &mut [N]) -> Result<()> {
        check_range(&self.path, self.shape, first, out.len())?;
        let dim = self.shape.dim;
        let mut rest = &mut *out;
        let rows = rest.len() / dim.max(1);
        self.each(ArrowUse::Vectors, &self.vectors.columns, first, rows, |part, at| {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(part.num_rows() * dim);
            rest = after;
            self.vectors.copy(&self.path, part.columns(), at, here)
        })
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
        self.read(first, out)
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.read(first, out)
    }

    fn locate(&self, row: u64) -> RowLocation {
        RowLocation { path: self.path.clone(), row }
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
        let schema = plain_columns(&self.schema, &columns);
        let mut parts = Vec::new();
        self.each(ArrowUse::Columns, &columns, first, rows, |part, _| {
            parts.push(recast_batch(&part, &schema).map_err(failed)?);
            Ok(())
        })?;
        concat_columns(&schema, &parts).map_err(failed)
    }

    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        stored_columns(&self.path, &self.schema, names)
    }

    fn categories(&self, name: &str) -> Result<Option<ArrayRef>> {
        let at = positions(&self.path, &self.schema, std::slice::from_ref(&name.to_string()))?;
        let Some(field) = at.first().map(|&at| self.schema.field(at)) else { return Ok(None) };
        #[expect(deprecated, reason = "the arrow crate gives no other way from a field to its dictionary")]
        let (Some(true), Some(id)) = (field.dict_is_ordered(), field.dict_id()) else { return Ok(None) };
        let (mut dictionaries, mut order) = (Dictionaries::new(), None::<ArrayRef>);
        for block in &self.dictionary_blocks {
            self.add_dictionary(block, &mut dictionaries)?;
            let Some(here) = dictionaries.get(&id) else { continue };
            order = match order {
                None => Some(here.clone()),
                // One that takes the place of another, or adds to it.
                Some(before) => match of_both(&before, here).map_err(|e| Error::format(&self.path, e.to_string()))? {
                    Some(both) => Some(both),
                    None => return Ok(None),
                },
            };
        }
        self.file.release();
        Ok(order)
    }

    fn id(&self) -> Result<SourceId> {
        Ok(SourceId::Files(vec![self.file.fingerprint(self.header.clone())?]))
    }

    fn vector_column(&self) -> Option<String> {
        Some(self.vectors.label.clone())
    }

    fn column_of(&self, _row: u64, component: usize) -> Option<String> {
        Some(self.vectors.column_of(component).to_string())
    }

    fn held_bytes(&self) -> u64 {
        let most = self.batches.iter().map(|b| b.rows.min(self.portion())).max().unwrap_or(0);
        let message = self.batches.iter().map(|b| b.metadata).max().unwrap_or(0);
        // The buffer of a portion may have grown to twice what was needed, and begins at a multiple
        // of STEP.
        let portion = (2 * (most + ROW_STEP)).saturating_mul(self.row_bytes());
        // A decompressor holds its window and a buffer of compressed bytes.
        let whole = if self.whole > 0 { self.whole.saturating_mul(self.row_bytes()) + UNPACK_BYTES } else { 0 };
        let held = whole.max(self.scattered).max(portion).saturating_add(message + self.dictionary_bytes);
        held.saturating_add(self.file.ahead_bytes())
    }

    fn endless_streams(&self) -> Vec<PathBuf> {
        if self.endless { vec![self.path.clone()] } else { Vec::new() }
    }

    fn release(&self) {
        self.file.release();
        *lock(&self.kept.dictionaries) = None;
        *lock(&self.kept.message) = None;
        *lock(&self.kept.vectors) = None;
        *lock(&self.kept.columns) = None;
        *lock(&self.kept.space) = None;
    }
}

/// Parses the message in a batch's metadata.
fn parse(metadata: &[u8]) -> arrow_message::Checked<ipc::Message<'_>> {
    arrow_message::parse(arrow_message::flatbuffer(metadata)?)
}

/// Returns the columns in the file's order, each once.
fn ascending(columns: &[usize]) -> Vec<usize> {
    let mut columns = columns.to_vec();
    columns.sort_unstable();
    columns.dedup();
    columns
}

#[cfg(test)]
mod tests {
    use arrow::array::*;
    use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field, Fields, Int8Type, UnionFields};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
    use proptest::prelude::*;

    use crate::recast::recast;
    use crate::unify::plain;

    use super::*;

    const DIM: usize = 3;

    /// Returns a table with columns of every array layout, with nulls in all that can have them,
    /// after the columns of the vectors.
    fn table(rows: usize) -> RecordBatch {
        let texts: Vec<Option<String>> = (0..rows)
            .map(|i| (i % 7 != 3).then(|| format!("{i} ").repeat(i % 9 + usize::from(i % 4 == 1) * 5)))
            .collect();
        let plain: ArrayRef = Arc::new(StringArray::from(texts));
        let nulls = |every: usize| Some(NullBuffer::from_iter((0..rows).map(|i| i % every != 1)));
        let lengths: Vec<usize> = (0..rows).map(|i| i * i % 5).collect();
        let count = lengths.iter().sum::<usize>();
        let items: ArrayRef =
            Arc::new(StringArray::from_iter((0..count).map(|i| (i % 3 > 0).then(|| "i".repeat(i % 6)))));
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
        let lists: ArrayRef = Arc::new(ListArray::new(item.clone(), offsets, items.clone(), nulls(6)));
        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
        let long_lists: ArrayRef = Arc::new(LargeListArray::new(item.clone(), offsets, items.clone(), nulls(4)));
        let view = |i: usize| (i % 5, lengths[i].min(items.len() - (i % 5).min(items.len())));
        let starts: Vec<i32> = (0..rows).map(|i| (i % 5).min(items.len()) as i32).collect();
        let sizes: Vec<i32> = (0..rows).map(|i| view(i).1 as i32).collect();
        let list_views: ArrayRef = Arc::new(ListViewArray::new(item, starts.into(), sizes.into(), items, nulls(3)));
        let flags: ArrayRef = Arc::new(BooleanArray::from_iter((0..rows).map(|i| (i % 5 > 0).then_some(i % 3 == 0))));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..rows as i64).map(|i| (i % 11 > 0).then_some(i))));
        let decimals: ArrayRef = Arc::new(Decimal128Array::from_iter_values((0..rows as i128).map(|i| i << 70)));
        let wide = (0..rows).map(|i| (i % 4 > 0).then_some([i as u8; 5]));
        let wide: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(wide, 5).unwrap());
        let fields: Fields =
            vec![Field::new("t", DataType::Utf8, true), Field::new("b", DataType::Boolean, true)].into();
        let structs: ArrayRef = Arc::new(StructArray::new(fields, vec![plain.clone(), flags.clone()], nulls(5)));
        let keys = (0..rows).map(|i| (i % 6 > 0).then(|| ["red", "green", "blue"][i % 3]));
        let dictionary: ArrayRef = Arc::new(keys.collect::<DictionaryArray<Int8Type>>());
        let item = Arc::new(Field::new("item", DataType::Boolean, true));
        let bits = BooleanArray::from_iter((0..rows * 3).map(|i| (i % 7 > 0).then_some(i % 2 == 0)));
        let triples: ArrayRef = Arc::new(FixedSizeListArray::new(item, 3, Arc::new(bits), nulls(3)));
        let ends = Int32Array::from_iter_values((1..=rows as i32).filter(|i| i % 4 == 0 || *i == rows as i32));
        let runs: ArrayRef = Arc::new(
            RunArray::try_new(&ends, &StringArray::from_iter_values((0..ends.len()).map(|i| i.to_string()))).unwrap(),
        );
        let kinds = UnionFields::try_new(
            [0, 1],
            [Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int64, true)],
        )
        .unwrap();
        let ids = ScalarBuffer::from_iter((0..rows).map(|i| (i % 2) as i8));
        let unions: ArrayRef =
            Arc::new(UnionArray::try_new(kinds, ids, None, vec![plain.clone(), numbers.clone()]).unwrap());
        let vectors = Float32Array::from_iter_values((0..rows * DIM).map(|i| i as f32));
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, DIM as i32, Arc::new(vectors), None));
        let columns = [
            ("v", vectors),
            ("large", cast(&plain, &DataType::LargeUtf8).unwrap()),
            ("views", cast(&plain, &DataType::Utf8View).unwrap()),
            ("binary", cast(&plain, &DataType::Binary).unwrap()),
            ("texts", plain),
            ("lists", lists),
            ("long lists", long_lists),
            ("list views", list_views),
            ("flags", flags),
            ("numbers", numbers),
            ("decimals", decimals),
            ("wide", wide),
            ("structs", structs),
            ("dictionary", dictionary),
            ("triples", triples),
            ("runs", runs),
            ("unions", unions),
            ("nothing", Arc::new(NullArray::new(rows))),
        ];
        let fields: Vec<_> = columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
        let columns = columns.into_iter().map(|(_, c)| c).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn write(path: &Path, batches: &[RecordBatch], compression: Option<CompressionType>) {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let file = std::fs::File::create(path).unwrap();
        let mut writer = FileWriter::try_new_with_options(file, &batches[0].schema(), options).unwrap();
        batches.iter().for_each(|b| writer.write(b).unwrap());
        writer.finish().unwrap();
    }

    fn open(path: &Path) -> ArrowFile {
        ArrowFile::open(PositionedFile::open(path).unwrap(), &ColumnRequest::Asked("v".into()))
            .unwrap_or_else(|e| panic!("{e}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn rows_of_any_column_are_those_of_the_batch(
            rows in 1usize..90,
            chunk in 1usize..60,
            compressed in any::<bool>(),
            ranges in prop::collection::vec((0usize..90, 0usize..90), 1..8),
        ) {
            let table = table(rows);
            let names: Vec<String> = table.schema().fields().iter().rev().map(|f| f.name().clone()).collect();
            let batches: Vec<_> = (0..rows).step_by(chunk).map(|r| table.slice(r, chunk.min(rows - r))).collect();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            write(&path, &batches, compressed.then_some(CompressionType::LZ4_FRAME));
            let file = open(&path);
            for (a, b) in ranges {
                let (from, to) = (a.min(b).min(rows), a.max(b).min(rows));
                // All columns; then those whose rows can be cut out.
                for names in [&names[..], &names[3..10], &names[11..]] {
                    let found = file.read_columns(names, from as u64, to - from).unwrap();
                    prop_assert_eq!(found.num_rows(), to - from);
                    for (name, column) in names.iter().zip(found.columns()) {
                        // Dictionaries and run-end-encoded columns are returned as their values.
                        let stored = table.column_by_name(name).unwrap().slice(from, to - from);
                        let expected = recast(&stored, &plain(stored.data_type())).unwrap();
                        prop_assert_eq!(column.as_ref(), expected.as_ref(), "{} from row {} to {}", name, from, to);
                    }
                }
                let mut vectors = vec![0.0; (to - from) * DIM];
                file.read_rows(from as u64, &mut vectors).unwrap();
                prop_assert!(vectors.iter().enumerate().all(|(i, v)| *v == (from * DIM + i) as f32));
            }
        }
    }

    #[test]
    fn of_a_large_batch_only_a_portion_is_held() {
        let (rows, dim) = (40_000, 64);
        let values = Float32Array::from_iter_values((0..rows * dim).map(|i| i as f32));
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(values), None));
        let batch = RecordBatch::try_from_iter([("v", vectors)]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, std::slice::from_ref(&batch), None);
        let file = open(&path);
        let whole = (rows * dim * 4) as u64;
        assert!(file.held_bytes() < whole / 8, "{}", file.held_bytes());
        let mut out = vec![0.0; rows * dim];
        // First rows with different remainders by STEP, so that portions do not begin where bitmap
        // bytes do.
        for first in [0, 1, 7, 8, 12_345] {
            let out = &mut out[first * dim..];
            out.fill(-1.0);
            file.read_rows(first as u64, out).unwrap();
            assert!(out.iter().enumerate().all(|(i, v)| *v == (first * dim + i) as f32));
            let held = lock(&file.kept.space).as_ref().map_or(0, |s| s.capacity() as u64);
            assert!(held > 0 && held <= file.held_bytes(), "{held}");
            assert!(lock(&file.kept.vectors).is_none());
        }
        file.release();
        assert!(lock(&file.kept.space).is_none() && lock(&file.kept.message).is_none());

        write(&path, std::slice::from_ref(&batch), Some(CompressionType::ZSTD));
        let file = open(&path);
        assert!(file.held_bytes() > whole && file.held_bytes() < 2 * whole, "{}", file.held_bytes());
        file.read_rows(0, &mut out[..dim]).unwrap();
        let kept = lock(&file.kept.vectors).as_ref().map_or(0, |d| d.batch.get_array_memory_size());
        assert!(kept as u64 >= whole && kept as u64 <= file.held_bytes(), "{kept}");
    }
}
