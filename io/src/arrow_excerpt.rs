//! Reads a part of an Arrow record batch from a file: some columns, and some of their rows.
//!
//! The part is an Arrow batch of its own (message and body, not compressed), so that the code that
//! checks and decodes whole batches handles it too.
//!
//! What must hold: every length and offset that a message states is checked before anything is read
//! by it; bytes outside the requested columns and rows are not read; compressed bytes are never
//! held whole, but decompressed while they are read.

use std::io::{self, BufReader, ErrorKind, Read};
use std::ops::Range;

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::{self, CompressionType, FieldNode, MessageHeader, MetadataVersion};
use flatbuffers::FlatBufferBuilder;
use lz4_flex::frame::FrameDecoder;

use crate::Error;
use crate::arrow_message;
use crate::positioned::PositionedFile;
use crate::vectors::within;

/// Buffers in a body begin at multiples of this number of bytes.
const ALIGNMENT: usize = 64;

/// Compressed bytes of one read.
const PACKED_BYTES: usize = 64 << 10;

/// The first row of a part is a multiple of this number, so that bitmaps are cut at byte
/// boundaries.
pub(crate) const ROW_STEP: u64 = 8;

/// Why a part of a batch cannot be read.
pub(crate) enum ExcerptError {
    /// The bytes are invalid. The caller adds the file's name to the text.
    Damage(String),
    /// The file cannot be read.
    File(Error),
}

impl From<String> for ExcerptError {
    fn from(what: String) -> Self {
        ExcerptError::Damage(what)
    }
}

impl From<&str> for ExcerptError {
    fn from(what: &str) -> Self {
        ExcerptError::Damage(what.into())
    }
}

impl From<Error> for ExcerptError {
    fn from(error: Error) -> Self {
        ExcerptError::File(error)
    }
}

type ExcerptResult<T> = std::result::Result<T, ExcerptError>;

/// A batch in a file: its message, the offset and length of its body, and its schema.
#[derive(Clone, Copy)]
pub(crate) struct StoredBatch<'a> {
    pub(crate) message: ipc::Message<'a>,
    pub(crate) body: (u64, u64),
    pub(crate) schema: &'a Schema,
}

/// Returns whether a range of rows can be cut out of arrays of a type. Arrays of other types are
/// read whole, because the data of a row may lie anywhere in them.
pub(crate) fn has_rows(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        List(item) | LargeList(item) | FixedSizeList(item, _) | Map(item, _) => has_rows(item.data_type()),
        Struct(fields) => fields.iter().all(|f| has_rows(f.data_type())),
        ListView(_) | LargeListView(_) | RunEndEncoded(..) | Union(..) => false,
        _ => true,
    }
}

/// Reads a part of a batch: the columns, and the fields of structs, to which `paths` lead, and the
/// rows `rows`, or all rows for `None`. `rows` must begin at a multiple of [`ROW_STEP`], and requires
/// that the batch is not compressed and that [`has_rows`] holds for the columns' types. Returns the
/// part's message and body; the body is stored in `space`.
pub(crate) fn take_excerpt(
    file: &PositionedFile,
    from: StoredBatch<'_>,
    paths: &[&[usize]],
    rows: Option<Range<u64>>,
    space: MutableBuffer,
) -> ExcerptResult<(Vec<u8>, Buffer)> {
    let batch = arrow_message::batch(from.message)?;
    let part = rows.map_or(ArrayPart::Whole, ArrayPart::Rows);
    if matches!(part, ArrayPart::Rows(_)) && batch.compression().is_some() {
        return Err("rows of a compressed batch".into());
    }
    let length = match &part {
        ArrayPart::Rows(rows) => i64::try_from(rows.end - rows.start).map_err(|_| "too many rows")?,
        _ => batch.length(),
    };
    let mut excerpt = Excerpt {
        file,
        body: from.body,
        codec: batch.compression().map(|c| c.codec()),
        version: from.message.version(),
        nodes: batch.nodes().ok_or("a batch without arrays")?.iter(),
        buffers: batch.buffers().ok_or("a batch without buffers")?.iter(),
        variadic: batch.variadicBufferCounts().into_iter().flatten().collect::<Vec<_>>().into_iter(),
        taken_nodes: Vec::new(),
        taken_buffers: Vec::new(),
        taken_variadic: Vec::new(),
        space,
        filled: 0,
    };
    // Arrays behind the last requested column need not be visited.
    let end = paths.iter().filter_map(|path| path.first()).max().map_or(0, |&last| last + 1);
    for (i, field) in from.schema.fields().iter().take(end).enumerate() {
        let paths = within(paths, i);
        let part = if paths.is_some() { &part } else { &ArrayPart::Nothing };
        excerpt.field(field, part, &paths.unwrap_or_default()).map_err(|fault| match fault {
            ExcerptError::Damage(what) => ExcerptError::Damage(format!("column \"{}\": {what}", field.name())),
            ExcerptError::File(error) => ExcerptError::File(error),
        })?;
    }
    let message = excerpt.message(length);
    Ok((message, excerpt.space.into()))
}

/// The part of an array that is read.
#[derive(Clone)]
enum ArrayPart {
    Nothing,
    Whole,
    /// This range of its elements.
    Rows(Range<u64>),
}

/// A walk over a batch's columns, in the order in which their arrays and buffers are stored, with
/// the parts read so far.
struct Excerpt<'a, N, B> {
    file: &'a PositionedFile,
    /// The offset of the body in the file, and its length.
    body: (u64, u64),
    codec: Option<CompressionType>,
    version: MetadataVersion,
    nodes: N,
    buffers: B,
    variadic: std::vec::IntoIter<i64>,
    taken_nodes: Vec<FieldNode>,
    taken_buffers: Vec<ipc::Buffer>,
    taken_variadic: Vec<i64>,
    /// The part's body, up to `filled`. The bytes beyond are left from an earlier use.
    space: MutableBuffer,
    filled: usize,
}

impl<'a, N, B> Excerpt<'a, N, B>
where
    N: Iterator<Item = &'a FieldNode>,
    B: ExactSizeIterator<Item = &'a ipc::Buffer>,
{
    fn message(&self, length: i64) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::with_capacity(256);
        let nodes = Some(builder.create_vector(&self.taken_nodes));
        let buffers = Some(builder.create_vector(&self.taken_buffers));
        let counts = (!self.taken_variadic.is_empty()).then(|| builder.create_vector(&self.taken_variadic));
        let args = ipc::RecordBatchArgs { length, nodes, buffers, compression: None, variadicBufferCounts: counts };
        let header = Some(ipc::RecordBatch::create(&mut builder, &args).as_union_value());
        let args = ipc::MessageArgs {
            version: self.version,
            header_type: MessageHeader::RecordBatch,
            header,
            bodyLength: self.filled as i64,
            custom_metadata: None,
        };
        let message = ipc::Message::create(&mut builder, &args);
        builder.finish(message, None);
        builder.finished_data().to_vec()
    }

    /// Reads `part` of the next array and of its child arrays. Of a struct's fields, only those to
    /// which `paths` lead; all if there are no paths or one ends here.
    fn field(&mut self, field: &Field, part: &ArrayPart, paths: &[&[usize]]) -> ExcerptResult<()> {
        use DataType::*;
        let node = self.node(part)?;
        match field.data_type() {
            Null => self.empty(node, part),
            Utf8 | Binary => self.texts(node, part, 4)?,
            LargeUtf8 | LargeBinary => self.texts(node, part, 8)?,
            Utf8View | BinaryView => self.views(node, part)?,
            List(item) | Map(item, _) => {
                self.bitmap(node, part)?;
                let inner = self.offsets(part, 4, ROW_STEP)?;
                self.field(item, &inner, &[])?;
            }
            LargeList(item) => {
                self.bitmap(node, part)?;
                let inner = self.offsets(part, 8, ROW_STEP)?;
                self.field(item, &inner, &[])?;
            }
            FixedSizeList(item, size) => {
                self.bitmap(node, part)?;
                let size = u64::try_from(*size).map_err(|_| "lists of negative size")?;
                self.field(item, &part.times(size)?, &[])?;
            }
            Struct(fields) => {
                self.bitmap(node, part)?;
                let all = paths.iter().any(|path| path.is_empty()) || paths.is_empty();
                for (i, field) in fields.iter().enumerate() {
                    match within(paths, i) {
                        Some(paths) if !all => self.field(field, part, &paths)?,
                        None if !all => self.field(field, &ArrayPart::Nothing, &[])?,
                        _ => self.field(field, part, &[])?,
                    }
                }
            }
            Dictionary(index, _) => {
                self.bitmap(node, part)?;
                self.values(part, index.primitive_width().unwrap_or(1) as u64)?;
            }
            Boolean => {
                self.bitmap(node, part)?;
                self.bits(part)?;
            }
            FixedSizeBinary(width) => {
                self.bitmap(node, part)?;
                self.values(part, u64::try_from(*width).map_err(|_| "values of negative size")?)?;
            }
            // For types without `has_rows`, `part` is never a range of rows.
            ListView(item) | LargeListView(item) => {
                self.whole(node, part, 3)?;
                self.field(item, part, &[])?;
            }
            RunEndEncoded(ends, values) => {
                self.whole(node, part, 0)?;
                self.field(ends, part, &[])?;
                self.field(values, part, &[])?;
            }
            Union(fields, mode) => {
                let bitmap = usize::from(self.version < MetadataVersion::V5);
                let dense = usize::from(*mode == arrow::datatypes::UnionMode::Dense);
                self.whole(node, part, bitmap + 1 + dense)?;
                for (_, field) in fields.iter() {
                    self.field(field, part, &[])?;
                }
            }
            other => {
                self.bitmap(node, part)?;
                self.values(part, other.primitive_width().unwrap_or(1) as u64)?;
            }
        }
        Ok(())
    }

    /// Returns the next array's length and null count. A range of rows must lie within this length.
    fn node(&mut self, part: &ArrayPart) -> ExcerptResult<&'a FieldNode> {
        let node = self.nodes.next().ok_or("its array is missing")?;
        if let ArrayPart::Rows(rows) = part
            && !u64::try_from(node.length()).is_ok_and(|length| rows.end <= length)
        {
            return Err(format!("{} values where {} are needed", node.length(), rows.end).into());
        }
        Ok(node)
    }

    fn note(&mut self, node: &FieldNode, part: &ArrayPart, nulls: u64) {
        match part {
            ArrayPart::Nothing => {}
            ArrayPart::Whole => self.taken_nodes.push(*node),
            ArrayPart::Rows(rows) => {
                self.taken_nodes.push(FieldNode::new((rows.end - rows.start) as i64, nulls as i64))
            }
        }
    }

    /// Handles an array of nulls only, which has no buffers.
    fn empty(&mut self, node: &FieldNode, part: &ArrayPart) {
        let nulls = if let ArrayPart::Rows(rows) = part { rows.end - rows.start } else { 0 };
        self.note(node, part, nulls);
    }

    /// Handles an array with `buffers` buffers of its own that are read whole or not at all.
    fn whole(&mut self, node: &FieldNode, part: &ArrayPart, buffers: usize) -> ExcerptResult<()> {
        self.note(node, part, 0);
        for _ in 0..buffers {
            self.bytes(part)?;
        }
        Ok(())
    }

    /// Reads an array's validity bitmap and records the length of the part read.
    fn bitmap(&mut self, node: &FieldNode, part: &ArrayPart) -> ExcerptResult<()> {
        let ArrayPart::Rows(rows) = part else {
            self.note(node, part, 0);
            return self.bytes(part);
        };
        if node.null_count() == 0 {
            self.note(node, part, 0);
            return self.bytes(&ArrayPart::Rows(0..0));
        }
        let taken = self.cut(rows.start / 8..rows.end.div_ceil(8))?;
        let count = rows.end - rows.start;
        let mut valid: u64 = self.space[taken.clone()].iter().map(|b| u64::from(b.count_ones())).sum();
        if let Some(last) = self.space[taken].last()
            && !count.is_multiple_of(8)
        {
            valid -= u64::from((last >> (count % 8)).count_ones());
        }
        self.note(node, part, count - valid);
        Ok(())
    }

    /// Reads a buffer of bits.
    fn bits(&mut self, part: &ArrayPart) -> ExcerptResult<()> {
        match part {
            ArrayPart::Rows(rows) => self.bytes(&ArrayPart::Rows(rows.start / 8..rows.end.div_ceil(8))),
            part => self.bytes(part),
        }
    }

    /// Reads a buffer of values of `width` bytes.
    fn values(&mut self, part: &ArrayPart, width: u64) -> ExcerptResult<()> {
        let part = part.times(width)?;
        self.bytes(&part)
    }

    /// Reads an array of texts or byte strings.
    fn texts(&mut self, node: &FieldNode, part: &ArrayPart, width: usize) -> ExcerptResult<()> {
        self.bitmap(node, part)?;
        let within = self.offsets(part, width, 1)?;
        self.bytes(&within)
    }

    /// Reads a buffer of offsets of `width` bytes, one more than there are rows. Returns the range
    /// of elements between the first and the last offset, beginning at a multiple of `step`, and
    /// makes the offsets relative to this beginning.
    fn offsets(&mut self, part: &ArrayPart, width: usize, step: u64) -> ExcerptResult<ArrayPart> {
        let ArrayPart::Rows(rows) = part else {
            self.bytes(part)?;
            return Ok(part.clone());
        };
        if rows.is_empty() {
            // An array without values may have no offsets at all.
            self.bytes(&ArrayPart::Rows(0..0))?;
            return Ok(ArrayPart::Rows(0..0));
        }
        let ArrayPart::Rows(places) = ArrayPart::Rows(rows.start..rows.end + 1).times(width as u64)? else {
            return Ok(ArrayPart::Nothing);
        };
        let taken = self.cut(places)?;
        let bytes = &mut self.space[taken];
        let read = |bytes: &[u8]| match bytes {
            [a, b, c, d] => u64::try_from(i32::from_le_bytes([*a, *b, *c, *d])).ok(),
            bytes => bytes.first_chunk().and_then(|b| u64::try_from(i64::from_le_bytes(*b)).ok()),
        };
        let first = bytes.chunks_exact(width).next().and_then(read).ok_or("a negative offset")?;
        let start = first - first % step;
        let mut last = first;
        for place in bytes.chunks_exact_mut(width) {
            let offset = read(place).filter(|&o| o >= last).ok_or("offsets that do not ascend")?;
            last = offset;
            place.copy_from_slice(&(offset - start).to_le_bytes()[..width]);
        }
        Ok(ArrayPart::Rows(start..last))
    }

    /// Reads an array of views. A view holds a text of at most 12 bytes itself, or the place of a
    /// longer text in one of several further buffers.
    fn views(&mut self, node: &FieldNode, part: &ArrayPart) -> ExcerptResult<()> {
        const WIDTH: u64 = 16;
        let count = self.variadic.next().and_then(|n| usize::try_from(n).ok());
        let count = count.ok_or("its count of buffers is missing")?;
        if !matches!(part, ArrayPart::Nothing) {
            self.taken_variadic.push(count as i64);
        }
        self.bitmap(node, part)?;
        let ArrayPart::Rows(rows) = part else {
            self.bytes(part)?;
            // Stops with an error if the message counts more buffers than it has.
            return (0..count).try_for_each(|_| self.bytes(part));
        };
        let ArrayPart::Rows(places) = ArrayPart::Rows(rows.clone()).times(WIDTH)? else { return Ok(()) };
        let taken = self.cut(places)?;
        if count > self.buffers.len() {
            return Err("a buffer is missing".into());
        }
        // The range that the rows' texts occupy in each buffer.
        let mut used = vec![(u32::MAX, 0); count];
        for view in self.space[taken.clone()].as_chunks().0 {
            if let Some((length, buffer, offset)) = long(view) {
                let (start, end) = used.get_mut(buffer as usize).ok_or("a view into a buffer that is not there")?;
                let last = offset.checked_add(length).ok_or("a view beyond its buffer")?;
                (*start, *end) = (offset.min(*start), last.max(*end));
            }
        }
        for view in self.space[taken].as_chunks_mut().0 {
            if let Some((_, buffer, offset)) = long(view) {
                view[12..].copy_from_slice(&(offset - used[buffer as usize].0).to_le_bytes());
            }
        }
        for (start, end) in used {
            self.bytes(&ArrayPart::Rows(u64::from(start.min(end))..u64::from(end)))?;
        }
        Ok(())
    }

    /// Reads `part` of the next buffer's bytes.
    fn bytes(&mut self, part: &ArrayPart) -> ExcerptResult<()> {
        match part {
            ArrayPart::Nothing => self.buffers.next().map(drop).ok_or_else(|| "a buffer is missing".into()),
            ArrayPart::Whole => {
                let buffer = self.buffer()?;
                match self.codec {
                    Some(codec) if !buffer.is_empty() => self.unpack(buffer, codec),
                    _ => self.put(buffer).map(drop),
                }
            }
            ArrayPart::Rows(range) => self.cut(range.clone()).map(drop),
        }
    }

    /// Reads a range of the next buffer's bytes. Returns the range in `space`.
    fn cut(&mut self, range: Range<u64>) -> ExcerptResult<Range<usize>> {
        let buffer = self.buffer()?;
        let length = buffer.end - buffer.start;
        if range.end > length {
            return Err(format!("a buffer of {length} bytes where {} are needed", range.end).into());
        }
        self.put(buffer.start + range.start..buffer.start + range.end)
    }

    /// Returns the range of the next buffer in the body.
    fn buffer(&mut self) -> ExcerptResult<Range<u64>> {
        let buffer = self.buffers.next().ok_or("a buffer is missing")?;
        let start = u64::try_from(buffer.offset()).map_err(|_| "a buffer at a negative offset")?;
        let length = u64::try_from(buffer.length()).map_err(|_| "a buffer of negative length")?;
        match start.checked_add(length) {
            Some(end) if end <= self.body.1 => Ok(start..end),
            _ => {
                let body = self.body.1;
                Err(format!("a buffer of {length} bytes at {start} in a body of {body}: cut short or damaged").into())
            }
        }
    }

    /// Reads a range of the body to the end of the part.
    fn put(&mut self, range: Range<u64>) -> ExcerptResult<Range<usize>> {
        let place = self.grow(range.end - range.start)?;
        self.file.read_at(self.body.0 + range.start, &mut self.space[place.clone()])?;
        Ok(place)
    }

    /// Decompresses a range of the body to the end of the part.
    fn unpack(&mut self, range: Range<u64>, codec: CompressionType) -> ExcerptResult<()> {
        const PREFIX: u64 = 8;
        let data = range.start + PREFIX..range.end;
        if data.start > data.end {
            return Err("a compressed buffer without its length".into());
        }
        let mut prefix = [0; PREFIX as usize];
        self.file.read_at(self.body.0 + range.start, &mut prefix)?;
        let Some(length) = arrow_message::decompressed(prefix, data.end - data.start)? else {
            return self.put(data).map(drop);
        };
        let place = self.grow(length)?;
        let to = &mut self.space[place];
        let packed = CompressedRange { file: self.file, at: self.body.0 + data.start, end: self.body.0 + data.end };
        let mut packed = BufReader::with_capacity(PACKED_BYTES, packed);
        let unpacked = match codec {
            CompressionType::LZ4_FRAME => fill(&mut FrameDecoder::new(&mut packed), to),
            CompressionType::ZSTD => {
                zstd::Decoder::with_buffer(&mut packed).and_then(|mut reader| fill(&mut reader, to))
            }
            _ => return Err(format!("compressed as {codec:?}; lz4 and zstd are read").into()),
        };
        unpacked.map_err(|e| match e.downcast::<Error>() {
            Ok(error) => ExcerptError::File(error),
            Err(e) => ExcerptError::Damage(format!("a buffer that cannot be decompressed: {e}")),
        })
    }

    /// Allocates space for another buffer at the end of the part.
    fn grow(&mut self, length: u64) -> ExcerptResult<Range<usize>> {
        let start = self.filled.next_multiple_of(ALIGNMENT);
        let end = usize::try_from(length).ok().and_then(|n| start.checked_add(n)).ok_or("a buffer is too long")?;
        if self.space.len() < end {
            if !arrow_message::has_room(end) {
                return Err(format!("{end} bytes of a batch do not fit into memory; write smaller batches").into());
            }
            self.space.resize(end, 0);
        }
        self.taken_buffers.push(ipc::Buffer::new(start as i64, length as i64));
        self.filled = end;
        Ok(start..end)
    }
}

/// Fills `to` from a decompressor, which must give exactly that many bytes.
fn fill(reader: &mut impl Read, to: &mut [u8]) -> io::Result<()> {
    let wrong = |what: &str| io::Error::new(ErrorKind::InvalidData, format!("{what} than it says"));
    reader.read_exact(to).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => wrong("it holds less"),
        _ => e,
    })?;
    match reader.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(wrong("it holds more")),
    }
}

/// Compressed bytes in a file, read from offset `at` to `end`.
struct CompressedRange<'a> {
    file: &'a PositionedFile,
    at: u64,
    end: u64,
}

impl Read for CompressedRange<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.end - self.at).map_or(to.len(), |left| left.min(to.len()));
        self.file.read_at(self.at, &mut to[..length]).map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl ArrayPart {
    /// Converts a range of elements to the range of their sub-elements, `n` for each element.
    fn times(&self, n: u64) -> ExcerptResult<ArrayPart> {
        let ArrayPart::Rows(rows) = self else { return Ok(self.clone()) };
        match (rows.start.checked_mul(n), rows.end.checked_mul(n)) {
            (Some(start), Some(end)) => Ok(ArrayPart::Rows(start..end)),
            _ => Err("too many values".into()),
        }
    }
}

/// Returns length, buffer and offset of a view whose text lies in a buffer; `None` for a short
/// text.
fn long(view: &[u8; 16]) -> Option<(u32, u32, u32)> {
    let word = |at: usize| view[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
    let length = word(0);
    (length > 12).then(|| (length, word(8), word(12)))
}
