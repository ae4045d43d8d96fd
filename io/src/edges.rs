//! The edge store: a weighted graph in blocks of rows. Several threads can read blocks in any
//! order.
//!
//! Format "lowland.edges", version 1, is an Arrow IPC file (pyarrow and Polars read it as a table
//! with one row for each row of the graph):
//!
//! ```text
//! columns           neighbors: List<UInt32>   the rows to which the row's edges lead
//!                   weights:   List<Float32>  the weights of these edges, in the same order
//! record batch      one block: a contiguous range of rows; buffers compressed by zstd, level 1
//! schema metadata   format = "lowland.edges", version = "1", and the caller's pairs
//! footer metadata   lowland.blocks       one line for each block, decimal, separated by spaces:
//!                                        first_row rows edges offset bytes xxh3
//!                   lowland.blocks.xxh3  xxh3 of these lines and of the schema metadata
//!                                        (sorted by key; each text with its length as u64 LE before it)
//! ```
//!
//! `offset` and `bytes` are the block's place in the file, message header included. `xxh3` (64
//! bits, 16 hexadecimal digits) is the checksum of these bytes as stored, that is, compressed.
//! Blocks are in row order without gaps. The first block may begin at any row, so that a range of
//! rows can be a file of its own.
//!
//! What must hold:
//! - A block is decoded only after its checksum was verified, so that a damaged file causes an
//!   error and never a wrong map.
//! - The bytes written depend only on the blocks and the metadata pairs.
//!
//! The second half of the file reads and writes Arrow IPC files with such checksums in general; the
//! file of the kNN graph uses it too. Arrow IPC files of other programs, which have no checksums,
//! can be read as well.
//!
//! Two rows with an edge each way, in one block:
//!
//! ```
//! use lowland_io::{EdgeBlock, EdgeReader, EdgeWriter};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("edges.arrow");
//!
//! let block = EdgeBlock { first_row: 0, offsets: vec![0, 1, 2], neighbors: vec![1, 0], weights: vec![0.5, 0.5] };
//! let mut writer = EdgeWriter::create(&path, &[("metric".into(), "euclidean".into())])?; // "edges.arrow"
//! writer.write_block(&block)?;
//! let file = writer.finish()?;
//!
//! let reader = EdgeReader::open(&path)?;
//! assert_eq!(reader.blocks(), file.blocks);
//! let mut read = EdgeBlock::default();
//! reader.read_block(0, &mut read)?;
//! assert_eq!(read, block);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, Float32Array, ListArray, RecordBatch, UInt32Array};
use arrow::buffer::{Buffer, MutableBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use arrow::ipc::{Block, CompressionType, Message, root_as_footer};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::arrow_message::{self, Dictionaries};
use crate::durable::{FileStamp, PendingFile};
use crate::{Error, Result};

/// The format version of the edge store.
pub const VERSION: u32 = 1;

const FORMAT: &str = "lowland.edges";
const READABLE: &str = "1";

/// A contiguous range of rows and their edges. The edges of row `first_row + i` are the entries
/// `offsets[i]..offsets[i + 1]` of `neighbors` and `weights`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EdgeBlock {
    /// The first row.
    pub first_row: u32,
    /// One entry more than there are rows. The first is 0, the last is the number of edges.
    pub offsets: Vec<u32>,
    /// The row to which each edge leads.
    pub neighbors: Vec<u32>,
    /// The weight of each edge.
    pub weights: Vec<f32>,
}

impl EdgeBlock {
    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Returns a description of what is wrong with the block's shape, if anything.
    fn fault(&self) -> Option<String> {
        let edges = self.neighbors.len();
        if self.offsets.first() != Some(&0) {
            return Some("the offsets do not begin at 0".into());
        }
        if self.offsets.last().copied() != u32::try_from(edges).ok() || self.weights.len() != edges {
            return Some(format!(
                "{} neighbours, {} weights, and offsets that end at {:?}",
                edges,
                self.weights.len(),
                self.offsets.last()
            ));
        }
        if self.offsets.is_sorted() {
            (edges > i32::MAX as usize).then(|| format!("{edges} edges in one block; there can be {}", i32::MAX))
        } else {
            Some("the offsets decrease".into())
        }
    }
}

/// The position and size of a block, known without reading the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockInfo {
    /// The first row.
    pub first_row: u32,
    /// The number of rows.
    pub rows: u32,
    /// The number of edges.
    pub edges: u32,
    /// The block's length in the file, in bytes.
    pub bytes: u64,
}

/// A finished edge store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeFile {
    /// Length and checksum of the whole file.
    pub stamp: FileStamp,
    /// Its blocks, in row order.
    pub blocks: Vec<BlockInfo>,
}

/// Writes an edge store. The file gets its name in [`finish`](EdgeWriter::finish).
#[derive(Debug)]
pub struct EdgeWriter {
    file: BatchWriter,
    next_row: Option<u64>,
}

impl EdgeWriter {
    /// Begins the file `path`, with text pairs for the schema's metadata.
    ///
    /// # Panics
    /// If a pair is called `format` or `version`.
    pub fn create(path: impl Into<PathBuf>, metadata: &[(String, String)]) -> Result<Self> {
        Self::new(PendingFile::create(path)?, metadata)
    }

    /// As [`create`](Self::create), into a file that was begun.
    ///
    /// # Errors
    /// If the file's head cannot be written.
    pub fn new(file: PendingFile, metadata: &[(String, String)]) -> Result<Self> {
        let metadata = own_metadata(FORMAT, VERSION, metadata);
        let schema = Schema::new_with_metadata(columns(), metadata);
        Ok(EdgeWriter { file: BatchWriter::new(file, schema, BatchCompression::Zstd1)?, next_row: None })
    }

    /// Returns the most memory, in bytes, that a writer holds, beside the block, while it writes a
    /// block of `rows` rows and `edges` edges.
    pub fn bytes(rows: u64, edges: u64) -> u64 {
        // Arrow's copy of the block; its compressed form, which exceeds the copy by at most one
        // frame header for each buffer; and the buffers and tables of the file and of zstd.
        2 * 8 * (rows + 1 + edges) + (4 << 20)
    }

    /// Writes the next block. Blocks must be contiguous in row order.
    ///
    /// # Errors
    /// [`Error::Format`] if the block's arrays are inconsistent, or if the block does not follow
    /// the previous one.
    pub fn write_block(&mut self, block: &EdgeBlock) -> Result<()> {
        let gap = self.next_row.is_some_and(|next| next != u64::from(block.first_row));
        let end = u64::from(block.first_row) + block.rows() as u64;
        let fault = match block.fault() {
            None if gap => Some(format!("it does not follow row {}", self.next_row.unwrap_or(0))),
            None if end > 1 << 32 => Some("its rows do not fit 32 bits".into()),
            fault => fault,
        };
        if let Some(fault) = fault {
            return Err(Error::format(&self.file.path, format!("block at row {}: {fault}", block.first_row)));
        }
        let signed: Buffer = Buffer::from_slice_ref(&block.offsets);
        // `fault` has checked that the offsets begin at 0, ascend and fit i32.
        let offsets = OffsetBuffer::new(ScalarBuffer::<i32>::new(signed, 0, block.offsets.len()));
        let neighbors = UInt32Array::new(Buffer::from_slice_ref(&block.neighbors).into(), None);
        let weights = Float32Array::new(Buffer::from_slice_ref(&block.weights).into(), None);
        let lists = ListArray::try_new(item(DataType::UInt32), offsets.clone(), Arc::new(neighbors), None)
            .and_then(|n| Ok((n, ListArray::try_new(item(DataType::Float32), offsets, Arc::new(weights), None)?)))
            .and_then(|(n, w)| RecordBatch::try_new(self.file.schema.clone(), vec![Arc::new(n), Arc::new(w)]))
            .map_err(|e| arrow_error(&self.file.path, "write", e))?;
        self.file.write(&lists, u64::from(block.first_row), block.neighbors.len() as u64)?;
        self.next_row = Some(end);
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    pub fn finish(self) -> Result<EdgeFile> {
        let blocks = self.file.index.iter().map(|e| e.info()).collect();
        Ok(EdgeFile { stamp: self.file.finish()?, blocks })
    }
}

/// Reads an edge store. Several threads can read blocks at once.
#[derive(Debug)]
pub struct EdgeReader {
    file: BatchFile,
    blocks: Vec<BlockInfo>,
}

impl EdgeReader {
    /// Opens an edge store and reads the list of its blocks, but no block.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is not an edge store, [`Error::Version`] if it is of another
    /// version, [`Error::Corrupt`] if it is damaged.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let file = BatchFile::open(path.into())?;
        file.expect(FORMAT, VERSION, READABLE)?;
        let columns = Schema::new(columns());
        if file.schema.fields() != columns.fields() {
            return Err(Error::format(&file.path, "not the columns of an edge store"));
        }
        let blocks = file.entries.iter().map(BatchEntry::info).collect();
        Ok(EdgeReader { file, blocks })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Returns the blocks, in row order.
    pub fn blocks(&self) -> &[BlockInfo] {
        &self.blocks
    }

    /// Returns the text pairs of the schema's metadata, including `format` and `version`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.file.metadata
    }

    /// Returns the most memory, in bytes, that reading a block of `rows` rows and `edges` edges
    /// holds beside the block.
    pub fn bytes(rows: u64, edges: u64) -> u64 {
        2 * 8 * (rows + 1 + edges) + (1 << 20)
    }

    /// Reads block `i` into `block`, whose former content is replaced and whose memory is reused.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the block if its bytes are not those that were written.
    ///
    /// # Panics
    /// If there is no block `i`.
    pub fn read_block(&self, i: usize, block: &mut EdgeBlock) -> Result<()> {
        block.first_row = self.blocks[i].first_row;
        block.offsets.clear();
        block.neighbors.clear();
        block.weights.clear();
        self.visit_block(i, |offsets, neighbors, weights| {
            // `unsigned_abs` is exact, because arrow has checked that the offsets ascend from 0.
            block.offsets.extend(offsets.iter().map(|o| o.unsigned_abs()));
            block.neighbors.extend_from_slice(neighbors);
            block.weights.extend_from_slice(weights);
        })
    }

    /// Calls `visit` with the offsets, neighbours and weights of block `i`, borrowed from the
    /// decoded batch without another copy. Offsets ascend from 0.
    ///
    /// # Errors and panics
    /// As [`read_block`](Self::read_block).
    pub fn visit_block<R>(&self, i: usize, visit: impl FnOnce(&[i32], &[u32], &[f32]) -> R) -> Result<R> {
        let info = self.blocks[i];
        let batch = self.file.read(i)?;
        let corrupt = |what: &str| Error::Corrupt { path: self.file.path.clone(), what: format!("block {i}: {what}") };
        let lists = |c: usize| batch.column(c).as_list_opt::<i32>().ok_or_else(|| corrupt("no list"));
        let (neighbors, weights) = (lists(0)?, lists(1)?);
        let offsets = neighbors.value_offsets();
        let ids = neighbors.values().as_primitive_opt::<UInt32Type>().ok_or_else(|| corrupt("not UInt32"))?;
        let values = weights.values().as_primitive_opt::<Float32Type>().ok_or_else(|| corrupt("not Float32"))?;
        let edges = info.edges as usize;
        let whole = offsets.first() == Some(&0) && offsets.last().copied() == i32::try_from(edges).ok();
        if !whole
            || offsets != weights.value_offsets()
            || (batch.num_rows(), ids.len(), values.len()) != (info.rows as usize, edges, edges)
        {
            return Err(corrupt("its lists differ in length"));
        }
        Ok(visit(offsets, ids.values(), values.values()))
    }
}

fn columns() -> Vec<Field> {
    vec![
        Field::new("neighbors", DataType::List(item(DataType::UInt32)), false),
        Field::new("weights", DataType::List(item(DataType::Float32)), false),
    ]
}

/// Returns the field of a list's items. It is declared nullable, because pyarrow and Polars declare
/// it so, although no item is null.
pub(crate) fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, true))
}

// Arrow IPC files with checksums.

const BLOCKS: &str = "lowland.blocks";
const BLOCKS_SUM: &str = "lowland.blocks.xxh3";

/// Returns the schema metadata of a lowland file: the pairs, and `format` and `version`.
pub(crate) fn own_metadata(format: &str, version: u32, pairs: &[(String, String)]) -> HashMap<String, String> {
    let mut metadata: HashMap<String, String> = pairs.iter().cloned().collect();
    let clash =
        metadata.insert("format".into(), format.into()).or(metadata.insert("version".into(), version.to_string()));
    assert!(clash.is_none(), "the pairs \"format\" and \"version\" are the file's own");
    metadata
}

/// Converts an Arrow error. An underlying error of the operating system becomes [`Error::Io`].
pub(crate) fn arrow_error(path: &Path, doing: &'static str, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => Error::io(path, doing, source),
        other => Error::format(path, other.to_string()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchCompression {
    No,
    Zstd1,
}

/// Position, size and checksum of a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchEntry {
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    /// The number of items in all lists of one list column together.
    pub(crate) items: u64,
    offset: u64,
    bytes: u64,
    /// `None` in files of other programs.
    sum: Option<u64>,
}

impl BatchEntry {
    fn info(&self) -> BlockInfo {
        // `write_block` and `parse_index` have checked that these values fit.
        let fit = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        BlockInfo { first_row: fit(self.first_row), rows: fit(self.rows), edges: fit(self.items), bytes: self.bytes }
    }
}

/// A writer that passes bytes on and hashes the bytes of the current batch.
struct HashingFile {
    file: PendingFile,
    batch: Xxh3,
}

impl Write for HashingFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.file.write(data)?;
        self.batch.update(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes an Arrow IPC file with a checksum for each record batch.
pub(crate) struct BatchWriter {
    pub(crate) path: PathBuf,
    pub(crate) schema: SchemaRef,
    writer: FileWriter<HashingFile>,
    index: Vec<BatchEntry>,
}

impl std::fmt::Debug for BatchWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchWriter")
            .field("path", &self.path)
            .field("batches", &self.index.len())
            .finish_non_exhaustive()
    }
}

impl BatchWriter {
    pub(crate) fn new(file: PendingFile, schema: Schema, compress: BatchCompression) -> Result<Self> {
        let path = file.path().to_path_buf();
        let file = HashingFile { file, batch: Xxh3::new() };
        let options = match compress {
            BatchCompression::No => Ok(IpcWriteOptions::default()),
            BatchCompression::Zstd1 => IpcWriteOptions::default()
                .try_with_compression(Some(CompressionType::ZSTD))
                .and_then(|o| o.try_with_compression_level(Some(1))),
        };
        let writer = options
            .and_then(|options| FileWriter::try_new_with_options(file, &schema, options))
            .map_err(|e| arrow_error(&path, "write", e))?;
        Ok(BatchWriter { path, schema: Arc::new(schema), writer, index: Vec::new() })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch, first_row: u64, items: u64) -> Result<()> {
        let sink = self.writer.get_mut();
        let offset = sink.file.position();
        sink.batch.reset();
        self.writer.write(batch).map_err(|e| arrow_error(&self.path, "write", e))?;
        let sink = self.writer.get_ref();
        let (bytes, sum) = (sink.file.position() - offset, Some(sink.batch.digest()));
        self.index.push(BatchEntry { first_row, rows: batch.num_rows() as u64, items, offset, bytes, sum });
        Ok(())
    }

    /// Adds a pair to the footer's metadata, for values that are known only at the end.
    pub(crate) fn note(&mut self, key: &str, value: String) {
        self.writer.write_metadata(key, value);
    }

    /// Writes the list of blocks into the footer and gives the file its name.
    pub(crate) fn finish(mut self) -> Result<FileStamp> {
        let mut lines = String::new();
        for e in &self.index {
            let BatchEntry { first_row, rows, items, offset, bytes, sum } = e;
            let sum = sum.unwrap_or(0);
            let _ = writeln!(lines, "{first_row} {rows} {items} {offset} {bytes} {sum:016x}");
        }
        let metadata = self.schema.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        self.writer.write_metadata(BLOCKS_SUM, format!("{:016x}", index_sum(&lines, &metadata)));
        self.writer.write_metadata(BLOCKS, lines);
        let path = self.path;
        let sink = self.writer.into_inner().map_err(|e| arrow_error(&path, "write", e))?;
        sink.file.finish()
    }
}

fn index_sum(lines: &str, metadata: &BTreeMap<String, String>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(lines.as_bytes());
    for (key, value) in metadata {
        for text in [key, value] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.digest()
}

/// An Arrow IPC file, of lowland or of another program, read batch by batch.
#[derive(Debug)]
pub(crate) struct BatchFile {
    pub(crate) path: PathBuf,
    pub(crate) schema: SchemaRef,
    pub(crate) metadata: BTreeMap<String, String>,
    /// The batches in row order. `items` is 0 in files of other programs.
    pub(crate) entries: Vec<BatchEntry>,
    /// The byte range of the footer in the file.
    pub(crate) footer: Range<u64>,
    file: File,
    dictionaries: Dictionaries,
}

impl BatchFile {
    /// Opens the file and reads its footer and all dictionaries. In a file of another program it
    /// also reads the batches' headers.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(|e| Error::io(&path, "open", e))?;
        let length = file.metadata().map_err(|e| Error::io(&path, "inspect", e))?.len();
        // Layout: "ARROW1", two bytes of padding, messages, footer, the footer's length (u32 LE),
        // "ARROW1".
        let mut head = [0; 6];
        if length < 18 {
            return Err(Error::format(&path, "too short for an Arrow IPC file"));
        }
        read_at(&path, &file, &mut head, 0)?;
        if head != *b"ARROW1" {
            return Err(Error::format(&path, "not an Arrow IPC file"));
        }
        let corrupt = |what: &str| Error::Corrupt { path: path.clone(), what: what.into() };
        let mut tail = [0; 10];
        read_at(&path, &file, &mut tail, length - 10)?;
        let footer_length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if tail[4..] != *b"ARROW1" {
            return Err(corrupt("it does not end as an Arrow IPC file does; it was cut short, or damaged"));
        }
        if footer_length > length - 18 {
            return Err(corrupt("its footer is said to be longer than the file"));
        }
        let footer_at = length - 10 - footer_length;
        let mut bytes = vec![0; footer_length as usize];
        read_at(&path, &file, &mut bytes, footer_at)?;
        let footer = root_as_footer(&bytes).map_err(|e| corrupt(&format!("its footer cannot be read: {e}")))?;
        let (Some(fb_schema), Some(batches)) = (footer.schema(), footer.recordBatches()) else {
            return Err(corrupt("its footer lacks a schema or a list of batches"));
        };
        let schema = Arc::new(arrow_message::schema(fb_schema).map_err(|what| Error::format(&path, what))?);
        let metadata: BTreeMap<String, String> = schema.metadata.clone().into_iter().collect();

        let own = |wanted: &str| {
            let pairs = footer.custom_metadata()?;
            pairs.iter().find(|pair| pair.key() == Some(wanted))?.value()
        };
        let entries = if let (Some(lines), Some(sum)) = (own(BLOCKS), own(BLOCKS_SUM)) {
            if sum != format!("{:016x}", index_sum(lines, &metadata)) {
                return Err(corrupt("the checksum of its list of blocks differs"));
            }
            parse_index(lines, footer_at).ok_or_else(|| corrupt("its list of blocks cannot be read"))?
        } else {
            let mut entries = Vec::with_capacity(batches.len());
            let mut first_row = 0;
            for block in batches {
                let (offset, bytes) =
                    place(block, footer_at).ok_or_else(|| corrupt("a batch lies outside the file"))?;
                let rows = read_header(&path, &file, block)?;
                entries.push(BatchEntry { first_row, rows, items: 0, offset, bytes, sum: None });
                first_row += rows;
            }
            entries
        };
        let mut dictionaries = Dictionaries::new();
        for block in footer.dictionaries().iter().flatten() {
            let (offset, bytes) =
                place(block, footer_at).ok_or_else(|| corrupt("a dictionary lies outside the file"))?;
            let buffer = read_buffer(&path, &file, offset, bytes)?;
            message(&buffer)
                .and_then(|(m, body)| arrow_message::decode_dictionary(m, &body, &schema, &mut dictionaries))
                .map_err(|what| Error::format(&path, what))?;
        }
        let footer = footer_at..footer_at + footer_length;
        Ok(BatchFile { path, schema, metadata, entries, footer, file, dictionaries })
    }

    /// Checks that the file is of the given lowland format and version, and has checksums.
    pub(crate) fn expect(&self, format: &str, version: u32, readable: &'static str) -> Result<()> {
        if self.metadata.get("format").is_none_or(|f| f != format) {
            return Err(Error::format(&self.path, format!("not a file of format \"{format}\"")));
        }
        match self.metadata.get("version").map(|v| v.parse::<u32>()) {
            Some(Ok(found)) if found == version => {}
            Some(Ok(found)) => return Err(Error::Version { path: self.path.clone(), found, readable }),
            _ => return Err(Error::format(&self.path, "no version in its metadata")),
        }
        if !self.has_checksums() {
            return Err(Error::format(&self.path, "written over by another program: its list of blocks is gone"));
        }
        Ok(())
    }

    /// Returns whether every batch has a checksum, as all batches of lowland files have.
    pub(crate) fn has_checksums(&self) -> bool {
        self.entries.iter().all(|e| e.sum.is_some())
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.entries.last().map_or(0, |e| e.first_row + e.rows)
    }

    /// Reads and decodes batch `i`. Holds its stored bytes and its decoded form.
    pub(crate) fn read(&self, i: usize) -> Result<RecordBatch> {
        let entry = &self.entries[i];
        let buffer = read_buffer(&self.path, &self.file, entry.offset, entry.bytes)?;
        let corrupt = |what: String| Error::Corrupt { path: self.path.clone(), what };
        if let Some(sum) = entry.sum
            && xxh3_64(&buffer) != sum
        {
            return Err(corrupt(format!("the checksum of block {i} differs")));
        }
        let batch = message(&buffer)
            .and_then(|(m, body)| arrow_message::decode(m, &body, &self.schema, &self.dictionaries))
            .map_err(|what| Error::format(&self.path, format!("block {i}: {what}")))?;
        if batch.num_rows() as u64 != entry.rows {
            return Err(corrupt(format!("block {i} does not have the rows that were announced")));
        }
        Ok(batch)
    }
}

fn read_at(path: &Path, file: &File, to: &mut [u8], at: u64) -> Result<()> {
    file.read_exact_at(to, at).map_err(|e| Error::io(path, "read", e))
}

fn read_buffer(path: &Path, file: &File, at: u64, bytes: u64) -> Result<Buffer> {
    // The caller has checked that the range lies within the file, so `bytes` is at most the file's
    // length.
    let mut buffer = MutableBuffer::from_len_zeroed(bytes as usize);
    read_at(path, file, &mut buffer, at)?;
    Ok(buffer.into())
}

/// Returns a message's offset and length, if it has a header and ends at or before `end`.
fn place(block: &Block, end: u64) -> Option<(u64, u64)> {
    let offset = u64::try_from(block.offset()).ok()?;
    let header = u64::try_from(block.metaDataLength()).ok().filter(|&n| n >= 8)?;
    let bytes = header.checked_add(u64::try_from(block.bodyLength()).ok()?)?;
    (offset.checked_add(bytes)? <= end).then_some((offset, bytes))
}

/// Parses the list of blocks; `None` if it does not have the form that `finish` writes, or if a
/// block reaches beyond `end`.
fn parse_index(lines: &str, end: u64) -> Option<Vec<BatchEntry>> {
    let mut entries: Vec<BatchEntry> = Vec::new();
    for line in lines.lines() {
        let mut words = line.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (first_row, rows, items) = (number()?, number()?, number()?);
        let (offset, bytes) = (number()?, number()?);
        let sum = Some(u64::from_str_radix(words.next()?, 16).ok()?);
        let follows = entries.last().is_none_or(|e| e.first_row + e.rows == first_row);
        let fits = first_row.checked_add(rows)? <= 1 << 32 && items <= i32::MAX as u64;
        if words.next().is_some() || !follows || !fits || bytes < 8 || offset.checked_add(bytes)? > end {
            return None;
        }
        entries.push(BatchEntry { first_row, rows, items, offset, bytes, sum });
    }
    Some(entries)
}

/// Returns the number of rows of a batch by reading only its header.
fn read_header(path: &Path, file: &File, block: &Block) -> Result<u64> {
    let mut bytes = vec![0; block.metaDataLength().unsigned_abs() as usize];
    read_at(path, file, &mut bytes, block.offset().unsigned_abs())?;
    arrow_message::flatbuffer(&bytes)
        .and_then(arrow_message::parse)
        .and_then(|message| {
            let length = message.header_as_record_batch().map(|batch| batch.length());
            // A larger count is damage, and the sum of such counts could overflow.
            let rows = length.and_then(|n| u64::try_from(n).ok()).filter(|&n| n < 1 << 40);
            rows.ok_or_else(|| "the header of a batch cannot be read".into())
        })
        .map_err(|what| Error::format(path, what))
}

/// Parses a message; returns it and the body that follows.
fn message(bytes: &Buffer) -> arrow_message::Checked<(Message<'_>, Buffer)> {
    let beyond = || String::from("a message whose header is longer than it");
    let at = if bytes.starts_with(&[0xff; 4]) { 4 } else { 0 };
    let length = bytes.get(at..).and_then(|b| b.first_chunk()).ok_or_else(beyond)?;
    let header = at + 4 + u32::from_le_bytes(*length) as usize;
    let head = bytes.get(..header).ok_or_else(beyond)?;
    let message = arrow_message::parse(arrow_message::flatbuffer(head)?)?;
    Ok((message, bytes.slice(header)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(first_row: u32, lists: &[Vec<(u32, f32)>]) -> EdgeBlock {
        let mut block = EdgeBlock { first_row, offsets: vec![0], ..EdgeBlock::default() };
        for list in lists {
            block.neighbors.extend(list.iter().map(|e| e.0));
            block.weights.extend(list.iter().map(|e| e.1));
            block.offsets.push(block.neighbors.len() as u32);
        }
        block
    }

    /// Blocks with a repeating pattern, which zstd compresses.
    fn patterned(first_row: u32, shape: &[(u32, u32)]) -> Vec<EdgeBlock> {
        let mut row = first_row;
        let mut blocks = Vec::new();
        for &(rows, degree) in shape {
            let lists: Vec<Vec<(u32, f32)>> = (row..row + rows)
                .map(|r| (0..degree).map(|j| (r + j * j, 1.0 / (1 + j + r % 3) as f32)).collect())
                .collect();
            blocks.push(block(row, &lists));
            row += rows;
        }
        blocks
    }

    fn write(path: &Path, blocks: &[EdgeBlock]) -> EdgeFile {
        let pairs = [("n_neighbors".to_string(), "15".to_string()), ("kind".to_string(), "umap".to_string())];
        let mut writer = EdgeWriter::create(path, &pairs).unwrap();
        for block in blocks {
            writer.write_block(block).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(path: &Path) -> Result<(BTreeMap<String, String>, Vec<EdgeBlock>)> {
        let reader = EdgeReader::open(path)?;
        let blocks = (0..reader.blocks().len())
            .map(|i| {
                let mut block = EdgeBlock::default();
                reader.read_block(i, &mut block).map(|()| block)
            })
            .collect::<Result<_>>()?;
        Ok((reader.metadata().clone(), blocks))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn blocks_come_back_bit_for_bit(
            first_row in 0u32..1000,
            lists in prop::collection::vec(
                prop::collection::vec(prop::collection::vec((any::<u32>(), any::<u32>()), 0..7), 0..20),
                0..6,
            ),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("edges.arrow");
            let mut row = first_row;
            let mut blocks = Vec::new();
            for lists in &lists {
                let lists: Vec<Vec<(u32, f32)>> = lists.iter()
                    .map(|l| l.iter().map(|e| (e.0, f32::from_bits(e.1))).collect()).collect();
                blocks.push(block(row, &lists));
                row += lists.len() as u32;
            }
            let file = write(&path, &blocks);
            prop_assert_eq!(file.stamp, crate::durable::stamp(&path).unwrap());
            let reader = EdgeReader::open(&path).unwrap();
            prop_assert_eq!(reader.blocks(), &file.blocks[..]);
            let mut found = EdgeBlock { first_row: 9, offsets: vec![1; 50], neighbors: vec![2], weights: vec![] };
            for (i, block) in blocks.iter().enumerate().rev() {
                reader.read_block(i, &mut found).unwrap();
                prop_assert_eq!(found.first_row, block.first_row);
                prop_assert_eq!(&found.offsets, &block.offsets);
                prop_assert_eq!(&found.neighbors, &block.neighbors);
                let bits = |w: &[f32]| w.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&found.weights), bits(&block.weights));
            }
        }
    }

    #[test]
    fn threads_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        let blocks = patterned(100, &[(50, 9), (1, 200), (700, 3), (0, 0), (20, 40)]);
        write(&path, &blocks);
        let reader = EdgeReader::open(&path).unwrap();
        std::thread::scope(|scope| {
            for t in 0..4 {
                let (reader, blocks) = (&reader, &blocks);
                scope.spawn(move || {
                    let mut found = EdgeBlock::default();
                    for i in (0..40).map(|i| (i * 3 + t) % blocks.len()) {
                        reader.read_block(i, &mut found).unwrap();
                        assert_eq!(found, blocks[i]);
                    }
                });
            }
        });
    }

    #[test]
    fn same_blocks_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let blocks = patterned(0, &[(50, 9), (30, 4)]);
        let stamps: Vec<_> = (0..2).map(|i| write(&dir.path().join(i.to_string()), &blocks).stamp).collect();
        assert_eq!(stamps[0], stamps[1]);
    }

    #[test]
    fn damage_is_found_or_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        let blocks = patterned(7, &[(20, 5), (10, 6)]);
        write(&path, &blocks);
        let good = std::fs::read(&path).unwrap();
        let intact = read(&path).unwrap();
        let bodies = {
            let reader = EdgeReader::open(&path).unwrap();
            let (first, last) = (reader.file.entries[0], reader.file.entries[1]);
            first.offset..last.offset + last.bytes
        };
        // One bit of every byte; testing all eight would take a minute.
        for bit in (0..good.len()).map(|byte| byte * 8 + byte % 8) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            match read(&path) {
                Ok(found) => {
                    assert!(found == intact, "bit {bit} changed what is read");
                    assert!(!bodies.contains(&(bit as u64 / 8)), "bit {bit} of a block went unnoticed");
                }
                Err(Error::Corrupt { path: named, what }) if bodies.contains(&(bit as u64 / 8)) => {
                    assert!(named == path && what.contains("block"), "{what}");
                }
                Err(e) => assert!(!bodies.contains(&(bit as u64 / 8)), "bit {bit}: {e}"),
            }
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(read(&path).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn shapes_that_are_wrong_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EdgeWriter::create(dir.path().join("e"), &[]).unwrap();
        let good = block(5, &[vec![(1, 1.0)], vec![(2, 1.0)]]);
        let bad = [
            EdgeBlock::default(),
            EdgeBlock { offsets: vec![1, 2], ..good.clone() },
            EdgeBlock { offsets: vec![0, 3, 2], ..good.clone() },
            EdgeBlock { offsets: vec![0, 1], ..good.clone() },
            EdgeBlock { weights: vec![1.0], ..good.clone() },
            EdgeBlock { first_row: u32::MAX, ..good.clone() },
        ];
        for bad in &bad {
            assert!(matches!(writer.write_block(bad), Err(Error::Format { .. })), "{bad:?}");
        }
        writer.write_block(&good).unwrap();
        for first_row in [5, 6, 8] {
            let bad = EdgeBlock { first_row, ..good.clone() };
            assert!(matches!(writer.write_block(&bad), Err(Error::Format { .. })));
        }
        writer.write_block(&EdgeBlock { first_row: 7, ..good }).unwrap();
        assert_eq!(writer.finish().unwrap().blocks.len(), 2);
    }

    #[test]
    fn other_files_and_versions_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        std::fs::write(&path, b"not an Arrow file, but long enough").unwrap();
        assert!(matches!(EdgeReader::open(&path), Err(Error::Format { .. })));
        for (format, version) in [("lowland.knn", 1), (FORMAT, 2)] {
            let schema = Schema::new_with_metadata(columns(), own_metadata(format, version, &[]));
            BatchWriter::new(PendingFile::create(&path).unwrap(), schema, BatchCompression::No)
                .unwrap()
                .finish()
                .unwrap();
            match EdgeReader::open(&path) {
                Err(Error::Version { found: 2, .. }) => assert_eq!(format, FORMAT),
                Err(Error::Format { .. }) => assert_ne!(format, FORMAT),
                other => panic!("{other:?}"),
            }
        }
        assert!(EdgeReader::open(dir.path().join("none")).unwrap_err().is_bad_input());
    }
}
