//! A source over a Parquet file, read in order, at most 4,096 rows at a time, and only the
//! requested columns.
//!
//! What must hold: a row group is never held decoded as a whole; a read that continues where the
//! last one ended decodes nothing twice; vectors and other columns have a cursor each, so that
//! reading one does not disturb the other. A jump opens the row group that holds the row, and skips
//! to the row.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ProjectionMask};
use parquet::basic::Type;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader,
    ParquetStatisticsPolicy,
};
use parquet::schema::types::TypePtr;

use crate::arrow_message;
use crate::catch_panic::catch_panic;
use crate::number::VectorFloat;
use crate::parquet_footer;
use crate::parquet_types;
use crate::positioned::{FileHandle, PageLimits, PositionedFile};
use crate::recast::{concat_columns, recast_batch};
use crate::source::{check_range, lock, no_columns};
use crate::unify::plain_columns;
use crate::vectors::{ColumnRequest, VectorColumns, positions, stored_columns, within};
use crate::wide_integers;
use crate::{Dtype, Error, Result, RowLocation, Shape, Source, SourceId};

pub(crate) const MAGIC: &[u8] = b"PAR1";

/// The most rows and bytes decoded at a time: a bound for memory, and enough to make a call's fixed
/// cost small.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

/// Rows decoded at a time while no row has shown how long the vectors are.
const SETTLE_ROWS: usize = 64;

/// Pages up to this size are read even if the footer states a smaller size for the whole column
/// chunk.
const USUAL_PAGE: u64 = 16 << 20;

/// The working memory of a decompressor (zstd's, the largest). Each column has one.
const CODEC_BYTES: u64 = 96 << 10;
/// An allowance for small allocations: bitmaps, read buffers.
const OTHER_BYTES: u64 = 1 << 20;

/// A Parquet file.
pub(crate) struct ParquetFile {
    path: PathBuf,
    file: PositionedFile,
    metadata: ArrowReaderMetadata,
    /// The declared types of the columns, with their dictionaries. The decoded types are in
    /// `metadata`.
    declared: SchemaRef,
    /// The first row of each row group.
    starts: Vec<u64>,
    vectors: VectorColumns,
    shape: Shape,
    /// The byte range of the footer.
    footer: std::ops::Range<u64>,
    pages: PageSize,
    /// The bounds on pages that follow from the footer.
    expected: Arc<PageLimits>,
    vector_cursor: Mutex<Option<RowCursor>>,
    column_cursor: Mutex<Option<RowCursor>>,
}

/// The purpose of a read.
#[derive(Clone, Copy)]
enum ParquetUse {
    Vectors,
    Columns,
}

/// A reader, and the rows that it has decoded but not returned yet.
struct RowCursor {
    reader: ParquetRecordBatchReader,
    /// The columns read, in the requested order.
    columns: Vec<usize>,
    ready: Option<RecordBatch>,
    /// The file's row that is returned next.
    next: u64,
}

impl ParquetFile {
    pub(crate) fn open(file: PositionedFile, want: &ColumnRequest) -> Result<Self> {
        let path = &file.path().to_path_buf();
        let failed = |e| failure(path, e);
        let handle = file.kept()?;
        // A file that was opened but not read yet holds nothing. Each cursor has a handle of its
        // own.
        file.release();
        let footer = checked_footer(path, file.bytes(), |at, to| handle.read_exact_at(at, to))?;
        // Statistics and page indexes are not used, and can be most of a footer.
        let options = ParquetMetaDataOptions::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let parsed = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_metadata_options(Some(options))
            .parse_and_finish(&handle)
            .map_err(failed)?;
        let (starts, arrow_schema) = check_metadata(&parsed, footer.start).map_err(|what| Error::format(path, what))?;
        let parsed = match arrow_schema {
            Some(schema) => parquet_types::with_arrow_schema(parsed, &schema),
            None => parsed,
        };
        let rows = parsed.row_groups().iter().map(|g| g.num_rows() as u64).sum();
        let expected = Arc::new(expected(&parsed));
        let (metadata, declared) = parquet_types::reading(parsed).map_err(failed)?;
        let vectors = match rows {
            0 => VectorColumns::none(),
            _ => VectorColumns::resolve(path, metadata.schema(), want)?,
        };
        let mut this = ParquetFile {
            path: path.clone(),
            file,
            metadata,
            declared,
            starts,
            shape: Shape { rows, dim: vectors.dim.unwrap_or(0) },
            vectors,
            footer,
            pages: PageSize::default(),
            expected,
            vector_cursor: Mutex::new(None),
            column_cursor: Mutex::new(None),
        };
        let first =
            this.leaves().first().and_then(|&leaf| this.metadata.metadata().row_groups().first()?.columns().get(leaf));
        this.file.expect_streams(this.leaves().len());
        this.pages = first.and_then(|chunk| PageSize::read(&handle, chunk)).unwrap_or_default();
        if this.vectors.dim.is_none() && rows > 0 {
            // The vectors' length is usually known from the first row. If that row is null, further
            // rows are read.
            let mut batch_rows = 1;
            let mut cursor = this.cursor(ParquetUse::Vectors, this.vectors.columns.clone(), 0, batch_rows)?;
            while cursor.next < rows {
                let part = this.take(&mut cursor, BATCH_ROWS)?;
                if this.vectors.settle(path, part.columns())? {
                    break;
                }
                if batch_rows == 1 {
                    batch_rows = SETTLE_ROWS;
                    cursor = this.cursor(ParquetUse::Vectors, this.vectors.columns.clone(), cursor.next, batch_rows)?;
                }
            }
            this.shape.dim = this.vectors.dim.unwrap_or(0);
        }
        Ok(this)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.vectors.names
    }

    /// Returns the Parquet leaf columns in which the vectors are stored.
    fn leaves(&self) -> Vec<usize> {
        let paths = self.vectors.paths();
        let paths: Vec<&[usize]> = paths.iter().map(Vec::as_slice).collect();
        let mut leaves = Vec::new();
        let mut next = 0;
        for (i, field) in self.metadata.parquet_schema().root_schema().get_fields().iter().enumerate() {
            add_leaves(field, within(&paths, i).as_deref(), &mut next, &mut leaves);
        }
        leaves
    }

    /// Returns a cursor over `columns` that begins at row `first`. Of structs, a cursor over
    /// vectors reads only the needed fields.
    fn cursor(&self, use_of: ParquetUse, columns: Vec<usize>, first: u64, batch_rows: usize) -> Result<RowCursor> {
        let group = self.group_of(first);
        let skipped = first - self.starts.get(group).copied().unwrap_or(first);
        let schema = self.metadata.parquet_schema();
        let mask = match use_of {
            ParquetUse::Vectors => ProjectionMask::leaves(schema, self.leaves()),
            ParquetUse::Columns => ProjectionMask::roots(schema, columns.iter().copied()),
        };
        let handle = self.file.handle_for(|| self.runs(&mask, group))?.with_pages(self.expected.clone());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(handle, self.metadata.clone());
        let reader = builder
            .with_projection(mask)
            .with_row_groups((group..self.starts.len()).collect())
            .with_batch_size(batch_rows)
            .build()
            .map_err(|e| failure(&self.path, e))?;
        let mut cursor = RowCursor { reader, columns, ready: None, next: first - skipped };
        // Rows before `first` are decoded and dropped. The reader's own skip (with_offset)
        // decompresses as much, because lists end anywhere, and does not return if a damaged page
        // holds fewer values than it states.
        self.skip_to(&mut cursor, first)?;
        Ok(cursor)
    }

    /// Returns where the columns of `mask` lie from row group `group` on: each column's byte
    /// ranges, in order.
    fn runs(&self, mask: &ProjectionMask, group: usize) -> Vec<Vec<std::ops::Range<u64>>> {
        let groups = self.metadata.metadata().row_groups().get(group..).unwrap_or_default();
        let leaves = (0..self.metadata.parquet_schema().num_columns()).filter(|&leaf| mask.leaf_included(leaf));
        let chunk = |chunk: &ColumnChunkMetaData| {
            let (start, length) = chunk.byte_range();
            (chunk.num_values() > 0 && length > 0).then(|| start..start.saturating_add(length))
        };
        let run = |leaf| groups.iter().filter_map(|group| chunk(group.columns().get(leaf)?)).collect::<Vec<_>>();
        leaves.map(run).filter(|run| !run.is_empty()).collect()
    }

    /// Returns the row group that contains row `first`.
    fn group_of(&self, first: u64) -> usize {
        // Of several groups with the same first row, all but the last are empty.
        self.starts.partition_point(|&start| start <= first).saturating_sub(1)
    }

    /// Decodes and drops the rows before `first`.
    fn skip_to(&self, cursor: &mut RowCursor, first: u64) -> Result<()> {
        while cursor.next < first {
            let left = usize::try_from(first - cursor.next).unwrap_or(usize::MAX);
            self.take(cursor, left)?;
        }
        Ok(())
    }

    /// Returns the cursor `kept` if it can continue at row `first`, else a new cursor.
    fn resume(
        &self,
        use_of: ParquetUse,
        kept: Option<RowCursor>,
        columns: &[usize],
        first: u64,
        batch_rows: usize,
    ) -> Result<RowCursor> {
        if let Some(mut cursor) = kept
            && cursor.columns == columns
            && let Some(skipped) = first.checked_sub(cursor.next)
        {
            let ready = cursor.ready.as_ref().map_or(0, RecordBatch::num_rows) as u64;
            // A new cursor would decode the row group from its first row.
            let group = self.starts.get(self.group_of(first)).copied().unwrap_or(first);
            if skipped <= ready || cursor.next >= group {
                self.skip_to(&mut cursor, first)?;
                return Ok(cursor);
            }
        }
        self.cursor(use_of, columns.to_vec(), first, batch_rows)
    }

    /// Returns the next rows, at most `most`, with the columns in the requested order.
    fn take(&self, cursor: &mut RowCursor, most: usize) -> Result<RecordBatch> {
        let batch = match cursor.ready.take().filter(|b| b.num_rows() > 0) {
            Some(batch) => batch,
            None => {
                // After a panic the error drops `cursor`, and the reader with it.
                let decoded = catch_panic(|| cursor.reader.next());
                let decoded = decoded.ok_or_else(|| self.near(cursor.next, "a page is damaged; write it again"))?;
                let batch = decoded.ok_or_else(|| {
                    let (row, rows) = (cursor.next, self.shape.rows);
                    Error::format(&self.path, format!("ends at row {row}, but its footer announces {rows}"))
                })?;
                let batch = batch.map_err(|e| self.near(cursor.next, &e.to_string()))?;
                // The reader returns the columns in the file's order, each once.
                let mut in_file = cursor.columns.clone();
                in_file.sort_unstable();
                in_file.dedup();
                let order: Vec<usize> = cursor.columns.iter().filter_map(|c| in_file.binary_search(c).ok()).collect();
                batch.project(&order).map_err(|e| self.near(cursor.next, &e.to_string()))?
            }
        };
        let taken = most.min(batch.num_rows());
        cursor.ready = Some(batch.slice(taken, batch.num_rows() - taken));
        cursor.next += taken as u64;
        Ok(batch.slice(0, taken))
    }

    /// Returns the error that rows cannot be decoded. If the file has changed meanwhile, or its
    /// object store failed, the error is that.
    fn near(&self, row: u64, what: &str) -> Error {
        if let Some(fault) = self.file.fault() {
            return fault;
        }
        Error::format(&self.path, format!("cannot be decoded at or after row {row}: {what}"))
    }

    fn read<N: VectorFloat>(&self, first: u64, out: &mut [N]) -> Result<()> {
        check_range(&self.path, self.shape, first, out.len())?;
        if out.is_empty() {
            return Ok(());
        }
        let dim = self.shape.dim;
        let mut kept = lock(&self.vector_cursor);
        let mut cursor =
            self.resume(ParquetUse::Vectors, kept.take(), &self.vectors.columns, first, self.batch_rows())?;
        let mut rest = out;
        while !rest.is_empty() {
            let at = cursor.next;
            let part = self.take(&mut cursor, rest.len() / dim)?;
            let (here, after) = rest.split_at_mut(part.num_rows() * dim);
            self.vectors.copy(&self.path, part.columns(), at, here)?;
            rest = after;
        }
        // A cursor at the end of the file is not needed again, so its memory and file handle are
        // freed.
        *kept = (cursor.next < self.shape.rows).then_some(cursor);
        Ok(())
    }

    fn batch_rows(&self) -> usize {
        let row = usize::try_from(self.vectors.row_bytes()).unwrap_or(usize::MAX);
        (BATCH_BYTES / row.max(1)).clamp(1, BATCH_ROWS)
    }
}

impl Source for ParquetFile {
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
        self.metadata.schema().fields().iter().map(|f| f.name().clone()).collect()
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        check_range(&self.path, self.shape, first, rows.saturating_mul(self.shape.dim))?;
        let columns = positions(&self.path, self.metadata.schema(), names)?;
        if columns.is_empty() {
            return no_columns(&self.path, rows);
        }
        let failed = |e: arrow::error::ArrowError| Error::format(&self.path, e.to_string());
        let schema = plain_columns(&self.declared, &columns);
        let mut parts = Vec::new();
        if rows > 0 {
            let mut kept = lock(&self.column_cursor);
            let mut cursor = self.resume(ParquetUse::Columns, kept.take(), &columns, first, BATCH_ROWS)?;
            let mut left = rows;
            while left > 0 {
                let part = self.take(&mut cursor, left)?;
                left -= part.num_rows();
                parts.push(recast_batch(&part, &schema).map_err(failed)?);
            }
            *kept = (cursor.next < self.shape.rows).then_some(cursor);
        }
        concat_columns(&schema, &parts).map_err(failed)
    }

    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        stored_columns(&self.path, &self.declared, names)
    }

    fn id(&self) -> Result<SourceId> {
        Ok(SourceId::Files(vec![self.file.fingerprint(self.footer.clone())?]))
    }

    fn vector_column(&self) -> Option<String> {
        Some(self.vectors.label.clone())
    }

    fn column_of(&self, _row: u64, component: usize) -> Option<String> {
        Some(self.vectors.column_of(component).to_string())
    }

    fn held_bytes(&self) -> u64 {
        let leaves = self.metadata.parquet_schema();
        let blob = self.vectors.row_bytes();
        let values = (self.batch_rows() as u64).saturating_mul(self.vectors.values_of_row());
        let (mut value_bytes, mut open, mut largest) = (0, 0, 0);
        for leaf in self.leaves() {
            let column = leaves.column(leaf);
            let width = match column.physical_type() {
                Type::BOOLEAN => 1,
                Type::INT64 | Type::DOUBLE => 8,
                Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.type_length()).unwrap_or(0),
                Type::BYTE_ARRAY if self.vectors.dtype != Dtype::Decimal => blob + 8,
                Type::BYTE_ARRAY => 16 + 8,
                _ => 4,
            };
            // A batch is decoded in the stored type, then copied if Arrow's type differs.
            let stored_otherwise = column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY;
            let component = self.vectors.component_bytes();
            let copied = if stored_otherwise || width != component { component } else { 0 };
            // Lists have two levels of two bytes for every value, in this batch and in the previous
            // one.
            let levels = if column.max_rep_level() > 0 { 8 } else { 0 };
            value_bytes = value_bytes.max(width + copied + levels);

            let groups = self.metadata.metadata().row_groups().iter();
            let (page, dictionary) = groups.filter_map(|g| g.columns().get(leaf)).fold((0, 0), |most, chunk| {
                let (page, dictionary) = self.pages.open(chunk, width);
                (page.max(most.0), dictionary.max(most.1))
            });
            open += page + dictionary + CODEC_BYTES;
            largest = page.max(largest);
        }
        // While a page is read, the previous page and the compressed page are still in memory.
        values.saturating_mul(value_bytes) + open + 2 * largest + OTHER_BYTES + self.file.ahead_bytes()
    }

    fn release(&self) {
        *lock(&self.vector_cursor) = None;
        *lock(&self.column_cursor) = None;
    }
}

/// Adds to `leaves` the leaf columns of `field` to which `paths` lead: all if a path ends here,
/// none if there are no paths. `next` counts the leaves of the file.
fn add_leaves(field: &TypePtr, paths: Option<&[&[usize]]>, next: &mut usize, leaves: &mut Vec<usize>) {
    if field.is_primitive() {
        leaves.extend(paths.map(|_| *next));
        *next += 1;
        return;
    }
    let all = paths.is_some_and(|paths| paths.iter().any(|path| path.is_empty()));
    for (i, field) in field.get_fields().iter().enumerate() {
        let deeper = paths.and_then(|paths| within(paths, i));
        let paths = if all { paths } else { deeper.as_deref() };
        add_leaves(field, paths, next, leaves);
    }
}

/// The size of a file's pages. A writer ends all pages by the same rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PageSize {
    /// Bytes, uncompressed.
    bytes: u64,
    /// Values, nulls included.
    values: u64,
}

impl Default for PageSize {
    /// The default of most writers: about 1 MiB.
    fn default() -> Self {
        PageSize { bytes: 1 << 20, values: 0 }
    }
}

impl PageSize {
    /// Reads the size of a chunk's first data page from its header alone. `None` if there is no
    /// such header; decoding then finds the error.
    fn read(file: &FileHandle, chunk: &ColumnChunkMetaData) -> Option<Self> {
        // The sizes come first in a header; the following fields may be long.
        let mut bytes = [0; PAGE_HEADER];
        let read = file.read_at(u64::try_from(chunk.data_page_offset()).ok()?, &mut bytes).ok()?;
        Self::parse(bytes.get(..read)?)
    }

    /// Parses the beginning of the header of a data page.
    fn parse(bytes: &[u8]) -> Option<Self> {
        page_header(bytes).and_then(|(kind, size)| (kind != DICTIONARY).then_some(size))
    }

    /// Returns the most bytes that a page and the dictionary of a chunk take, if a value takes
    /// `width` bytes.
    fn open(self, chunk: &ColumnChunkMetaData, width: u64) -> (u64, u64) {
        let size = |n: i64| u64::try_from(n).unwrap_or(0);
        let (whole, compressed) = (size(chunk.uncompressed_size()), size(chunk.compressed_size()).max(1));
        // The first page may hold dictionary indices and later ones the values themselves. Lists
        // have levels in addition, hence the factor 17/16.
        let page = self.bytes.max(self.values.saturating_mul(width).saturating_mul(17) / 16);
        let dictionary = chunk.dictionary_page_offset().map_or(0, |at| size(chunk.data_page_offset() - at));
        let dictionary = dictionary.max(dictionary.saturating_mul(whole) / compressed);
        (page.min(whole), dictionary.min(whole))
    }
}

/// Returns the bounds on pages that follow from the footer.
fn expected(metadata: &ParquetMetaData) -> PageLimits {
    let (mut largest, mut first) = (USUAL_PAGE, Vec::new());
    for chunk in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        largest = largest.max(u64::try_from(chunk.uncompressed_size()).unwrap_or(0));
        // A chunk without values has no page.
        if chunk.num_values() > 0 {
            first.push(chunk.byte_range().0);
        }
    }
    first.sort_unstable();
    PageLimits { largest, first }
}

/// The bytes read of a page's header: the sizes come first, and the following fields may be long.
pub(crate) const PAGE_HEADER: usize = 64;

/// The page type of a dictionary.
const DICTIONARY: u64 = 2;

/// What a page's header says of the memory that its values take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageClaim {
    /// Bytes, decompressed.
    pub(crate) bytes: u64,
    /// The number of values of a dictionary, each of which has bytes of its own; 0 for other pages.
    pub(crate) dictionary: u64,
}

/// Returns what the header says that begins with `bytes`; `None` if `bytes` is not the beginning of a
/// page header.
pub(crate) fn page_claim(bytes: &[u8]) -> Option<PageClaim> {
    let (kind, size) = page_header(bytes)?;
    Some(PageClaim { bytes: size.bytes, dictionary: if kind == DICTIONARY { size.values } else { 0 } })
}

/// Parses the beginning of a page header in Thrift's compact protocol. A field begins with a byte
/// that holds the difference to the previous field's number and the type. An integer is
/// zigzag-encoded, seven bits a byte.
fn page_header(mut bytes: &[u8]) -> Option<(u64, PageSize)> {
    const NEXT_INTEGER: u8 = 0x15;
    let mut byte = || bytes.split_off_first().copied();
    let number = |byte: &mut dyn FnMut() -> Option<u8>| {
        let mut number = 0_u64;
        for shift in (0..35).step_by(7) {
            let seven = byte()?;
            number |= u64::from(seven & 0x7f) << shift;
            if seven < 0x80 {
                // Sizes and counts are not negative.
                return (number & 1 == 0).then_some(number >> 1);
            }
        }
        None
    };
    let mut numbers = [0; 3];
    for field in &mut numbers {
        if byte()? != NEXT_INTEGER {
            return None;
        }
        *field = number(&mut byte)?;
    }
    let [kind, size, _compressed] = numbers;
    let mut next = byte()?;
    let mut last = 3;
    if next == NEXT_INTEGER {
        // A checksum, which may have any sign.
        while byte()? >= 0x80 {}
        (next, last) = (byte()?, 4);
    }
    // The header of the page type: field 5 for data pages of version 1, field 8 for version 2,
    // field 7 for dictionaries.
    let particular = match kind {
        0 => 5,
        DICTIONARY => 7,
        3 => 8,
        _ => return None,
    };
    if next != (particular - last) << 4 | 0x0c || byte()? != NEXT_INTEGER {
        return None;
    }
    Some((kind, PageSize { bytes: size, values: number(&mut byte)? }))
}

/// Returns the byte range of the footer in a file of `length` bytes. `read` fills a slice from an
/// offset on.
pub(crate) fn footer(
    path: &Path,
    length: u64,
    read: impl FnOnce(u64, &mut [u8]) -> std::io::Result<()>,
) -> Result<std::ops::Range<u64>> {
    let cut = "ends without a Parquet footer: cut short, or still being written; copy or write it again";
    let end = length.checked_sub(8).ok_or_else(|| Error::format(path, cut))?;
    let mut tail = [0; 8];
    read(end, &mut tail).map_err(|e| Error::io(path, "read", e))?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic == *b"PARE" {
        return Err(Error::format(path, "encrypted; write it without encryption"));
    }
    let start = end.checked_sub(u32::from_le_bytes([a, b, c, d]).into());
    match start {
        Some(start) if magic == MAGIC => Ok(start..end),
        _ => Err(Error::format(path, cut)),
    }
}

/// Returns the byte range of the footer, as [`footer`] does, after a check of the footer's counts.
pub(crate) fn checked_footer(
    path: &Path,
    length: u64,
    read: impl Fn(u64, &mut [u8]) -> std::io::Result<()>,
) -> Result<std::ops::Range<u64>> {
    let range = footer(path, length, &read)?;
    let mut bytes = vec![0; (range.end - range.start) as usize];
    read(range.start, &mut bytes).map_err(|e| Error::io(path, "read", e))?;
    if !parquet_footer::is_possible(&bytes) {
        return Err(Error::format(path, "its footer is damaged; write it again"));
    }
    Ok(range)
}

/// Checks what the parquet crate takes for granted: lengths and offsets, and the Arrow schema in
/// the file's metadata. Returns the first row of each row group, and the Arrow schema if another than that in the
/// metadata has to be used.
fn check_metadata(
    metadata: &ParquetMetaData,
    data_end: u64,
) -> std::result::Result<(Vec<u64>, Option<Schema>), String> {
    let mut starts = Vec::with_capacity(metadata.num_row_groups());
    let mut rows = 0u64;
    for (index, group) in metadata.row_groups().iter().enumerate() {
        starts.push(rows);
        let damaged = || format!("row group {index} lies outside of the file: its footer is damaged; write it again");
        rows = u64::try_from(group.num_rows()).ok().and_then(|n| rows.checked_add(n)).ok_or_else(damaged)?;
        for chunk in group.columns() {
            chunk_end(chunk).filter(|&end| end <= data_end).ok_or_else(damaged)?;
        }
    }
    let mut changed = None;
    let entries = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    for entry in entries.filter(|e| e.key == ARROW_SCHEMA_META_KEY) {
        let damaged = || String::from("the Arrow schema in its footer is damaged; write it again");
        let message = entry.value.as_deref().and_then(base64).ok_or_else(damaged)?;
        let buffer = arrow_message::flatbuffer(&message)?;
        arrow_message::parse(buffer)?.header_as_schema().ok_or_else(damaged)?;
        let (schema, marked) = wide_integers::schema(buffer, arrow_message::schema_of)?;
        changed = marked.then_some(schema);
    }
    Ok((starts, changed))
}

/// Returns the end of a column chunk; `None` if its numbers are invalid.
fn chunk_end(chunk: &ColumnChunkMetaData) -> Option<u64> {
    let pages = u64::try_from(chunk.data_page_offset()).ok()?;
    let start = match chunk.dictionary_page_offset() {
        Some(offset) => u64::try_from(offset).ok()?,
        None => pages,
    };
    u64::try_from(chunk.num_values()).ok()?;
    start.checked_add(u64::try_from(chunk.compressed_size()).ok()?)
}

/// Decodes standard base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

fn failure(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(source) => Error::io(path, "read", *source),
            Err(inner) => Error::format(path, format!("cannot be read as Parquet: {inner}")),
        },
        error => Error::format(path, format!("cannot be read as Parquet: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array};
    use arrow::datatypes::{DataType, Field};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::*;

    fn write(path: &Path, rows: usize, dim: usize, properties: WriterProperties) -> ParquetFile {
        let values = Float32Array::from_iter_values((0..rows * dim).map(|i| (i as f32).sin()));
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(values), None));
        let batch = RecordBatch::try_from_iter([("v", vectors)]).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        ParquetFile::open(PositionedFile::open(path).unwrap(), &ColumnRequest::Any).unwrap()
    }

    #[test]
    fn pages_are_measured_by_the_first_ones_header() {
        let dir = tempfile::tempdir().unwrap();
        let (rows, dim) = (6_000, 32);
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let pages = |rows: usize| {
                let properties = WriterProperties::builder()
                    .set_writer_version(version)
                    .set_dictionary_enabled(false)
                    .set_data_page_row_count_limit(rows)
                    .set_write_batch_size(rows);
                properties.build()
            };
            let small = write(&dir.path().join("small"), rows, dim, pages(50));
            assert_eq!(small.pages.values, 50 * dim as u64);
            let bytes = 50 * dim as u64 * 4;
            assert!((bytes..bytes + bytes / 8).contains(&small.pages.bytes), "{:?}", small.pages);
            let large = write(&dir.path().join("large"), rows, dim, pages(rows));
            assert_eq!(large.pages.values, (rows * dim) as u64);
            let batch = small.batch_rows() as u64 * dim as u64 * 12;
            for file in [small, large] {
                let expected = batch + 3 * file.pages.bytes;
                assert!((expected..expected + expected / 8 + (2 << 20)).contains(&file.held_bytes()));
            }
        }
    }

    #[test]
    fn only_headers_of_values_are_taken_for_such() {
        let header = |fields: &[u8]| PageSize::parse(fields);
        let size = |bytes, values| Some(PageSize { bytes, values });
        assert_eq!(header(&[0x15, 0, 0x15, 0x80, 0x02, 0x15, 4, 0x2c, 0x15, 6]), size(128, 3));
        // With a checksum of any sign; a page of version 2.
        assert_eq!(header(&[0x15, 0, 0x15, 2, 0x15, 4, 0x15, 0xff, 1, 0x1c, 0x15, 6]), size(1, 3));
        assert_eq!(header(&[0x15, 6, 0x15, 2, 0x15, 4, 0x5c, 0x15, 6]), size(1, 3));
        assert_eq!(header(&[0x15, 6, 0x15, 2, 0x15, 4, 0x15, 7, 0x4c, 0x15, 6]), size(1, 3));
        // A dictionary; a negative size; an integer without end; a cut header; other bytes.
        assert_eq!(header(&[0x15, 4, 0x15, 2, 0x15, 4, 0x4c, 0x15, 6]), None);
        assert_eq!(header(&[0x15, 0, 0x15, 1, 0x15, 4, 0x2c, 0x15, 6]), None);
        assert_eq!(header(&[0x15, 0, 0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(header(&[0x15, 0, 0x15, 2, 0x15, 4, 0x2c, 0x15]), None);
        assert_eq!(header(&[0x15, 0, 0x15, 2, 0x15, 4, 0x5c, 0x15, 6]), None);
        assert_eq!(header(b"PAR1"), None);
        // The sizes of a dictionary page are known all the same.
        let claim = page_claim(&[0x15, 4, 0x15, 2, 0x15, 4, 0x4c, 0x15, 6]);
        assert_eq!(claim, Some(PageClaim { bytes: 1, dictionary: 3 }));
        assert_eq!(header(&[]), None);
    }
}
