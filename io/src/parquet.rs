//! Parquet, read in order: a few thousand rows at a time, of the columns
//! wanted only.
//!
//! What must hold: a row group is never held decoded; reading on from where
//! the last call ended decodes nothing twice; two cursors, so that columns
//! passed through do not disturb the vectors'. A jump opens the row group
//! that holds the row and skips to it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader,
    ParquetStatisticsPolicy,
};

use crate::arrow_message;
use crate::damage::caught;
use crate::source::{check_range, fingerprint, lock, modified, no_columns, open_file};
use crate::vectors::{Vectors, Want, positions};
use crate::{Dtype, Error, Fingerprint, Place, Result, Shape, Source};

pub(crate) const MAGIC: &[u8] = b"PAR1";

/// Rows decoded at once: few enough for `BATCH_BYTES`, enough to make a call's fixed cost small.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

/// A Parquet file.
pub(crate) struct ParquetFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// Each row group's first row.
    starts: Vec<u64>,
    vectors: Vectors,
    shape: Shape,
    /// Length and modification time when opened: the footer holds for these only.
    stamp: (u64, u64),
    /// The footer's place, in bytes.
    footer: std::ops::Range<u64>,
    vector_cursor: Mutex<Option<Cursor>>,
    column_cursor: Mutex<Option<Cursor>>,
}

/// A reader, and the rows it has decoded that nobody has asked for yet.
struct Cursor {
    reader: ParquetRecordBatchReader,
    /// The columns read, in the order wanted.
    columns: Vec<usize>,
    ready: Option<RecordBatch>,
    /// The file's row that comes next.
    next: u64,
}

impl ParquetFile {
    pub(crate) fn open(path: &Path, want: &Want) -> Result<Self> {
        let (file, described) = open_file(path)?;
        let failed = |e| failure(path, e);
        let length = described.len();
        let footer = footer(path, &file, length)?;
        // Statistics and page indexes are not used, and can be most of a footer.
        let options = ParquetMetaDataOptions::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let parsed = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_metadata_options(Some(options))
            .parse_and_finish(&file)
            .map_err(failed)?;
        let starts = check_metadata(&parsed, footer.start).map_err(|what| Error::format(path, what))?;
        let rows = parsed.row_groups().iter().map(|g| g.num_rows() as u64).sum();
        let metadata = ArrowReaderMetadata::try_new(Arc::new(parsed), ArrowReaderOptions::new()).map_err(failed)?;
        let vectors = Vectors::resolve(path, metadata.schema(), want)?;
        let mut this = ParquetFile {
            path: path.into(),
            metadata,
            starts,
            shape: Shape { rows, dim: vectors.dim.unwrap_or(0) },
            vectors,
            stamp: (length, modified(&described)),
            footer,
            vector_cursor: Mutex::new(None),
            column_cursor: Mutex::new(None),
        };
        if this.shape.dim == 0 && rows > 0 {
            let mut cursor = this.cursor(this.vectors.columns.clone(), 0, 1)?;
            let first = this.take(&mut cursor, 1)?;
            this.shape.dim = this.vectors.first_width(path, first.columns())?;
        }
        Ok(this)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.vectors.names
    }

    /// A reader of `columns` that begins at row `first`.
    fn cursor(&self, columns: Vec<usize>, first: u64, batch_rows: usize) -> Result<Cursor> {
        let (file, described) = open_file(&self.path)?;
        if self.stamp != (described.len(), modified(&described)) {
            return Err(Error::format(&self.path, "was changed after it was opened; start again"));
        }
        // Of groups that begin at one row, all but the last are empty.
        let group = self.starts.partition_point(|&start| start <= first).saturating_sub(1);
        let skipped = first - self.starts.get(group).copied().unwrap_or(first);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
        let reader = builder
            .with_projection(mask)
            .with_row_groups((group..self.starts.len()).collect())
            .with_batch_size(batch_rows)
            .build()
            .map_err(|e| failure(&self.path, e))?;
        let mut cursor = Cursor { reader, columns, ready: None, next: first - skipped };
        // Rows before `first` are decoded and dropped. The reader's own way to
        // skip (with_offset) decompresses as much, since lists end anywhere,
        // and does not return when a damaged page holds fewer values than it says.
        while cursor.next < first {
            let left = usize::try_from(first - cursor.next).unwrap_or(usize::MAX);
            self.take(&mut cursor, left)?;
        }
        Ok(cursor)
    }

    /// The cursor in `kept` if it can go on from `first`, else a new one.
    fn resume(&self, kept: Option<Cursor>, columns: &[usize], first: u64, batch_rows: usize) -> Result<Cursor> {
        if let Some(mut cursor) = kept
            && cursor.columns == columns
            && let Some(skipped) = first.checked_sub(cursor.next)
        {
            let ready = cursor.ready.as_ref().map_or(0, RecordBatch::num_rows) as u64;
            if skipped <= ready {
                self.take(&mut cursor, skipped as usize)?;
                return Ok(cursor);
            }
        }
        self.cursor(columns.to_vec(), first, batch_rows)
    }

    /// The next rows, up to `most` of them; columns in the order wanted.
    fn take(&self, cursor: &mut Cursor, most: usize) -> Result<RecordBatch> {
        let batch = match cursor.ready.take().filter(|b| b.num_rows() > 0) {
            Some(batch) => batch,
            None => {
                // After a panic the reader is dropped, for `cursor` is then too.
                let decoded = caught(|| cursor.reader.next());
                let decoded = decoded.ok_or_else(|| self.near(cursor.next, "a page is damaged; write it again"))?;
                let batch = decoded.ok_or_else(|| {
                    let (row, rows) = (cursor.next, self.shape.rows);
                    Error::format(&self.path, format!("ends at row {row}, but its footer promises {rows}"))
                })?;
                let batch = batch.map_err(|e| self.near(cursor.next, &e.to_string()))?;
                // The reader gives them in the file's order, each once.
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

    fn near(&self, row: u64, what: &str) -> Error {
        Error::format(&self.path, format!("cannot be decoded at or after row {row}: {what}"))
    }

    fn batch_rows(&self) -> usize {
        let row = self.shape.dim.saturating_mul(self.vectors.component_bytes() as usize);
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
        check_range(&self.path, self.shape, first, out.len())?;
        if out.is_empty() {
            return Ok(());
        }
        let dim = self.shape.dim;
        let mut kept = lock(&self.vector_cursor);
        let mut cursor = self.resume(kept.take(), &self.vectors.columns, first, self.batch_rows())?;
        let mut rest = out;
        while !rest.is_empty() {
            let at = cursor.next;
            let part = self.take(&mut cursor, rest.len() / dim)?;
            let (here, after) = rest.split_at_mut(part.num_rows() * dim);
            self.vectors.copy(&self.path, part.columns(), dim, at, here)?;
            rest = after;
        }
        // A cursor that has reached the end would only hold memory and an open file.
        *kept = (cursor.next < self.shape.rows).then_some(cursor);
        Ok(())
    }

    fn locate(&self, row: u64) -> Place {
        Place { path: self.path.clone(), row }
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
        let schema: SchemaRef = Arc::new(self.metadata.schema().project(&columns).map_err(failed)?);
        let mut parts = Vec::new();
        if rows > 0 {
            let mut kept = lock(&self.column_cursor);
            let mut cursor = self.resume(kept.take(), &columns, first, BATCH_ROWS)?;
            let mut left = rows;
            while left > 0 {
                let part = self.take(&mut cursor, left)?;
                left -= part.num_rows();
                parts.push(part);
            }
            *kept = (cursor.next < self.shape.rows).then_some(cursor);
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            several => concat_batches(&schema, several).map_err(failed),
        }
    }

    fn fingerprints(&self) -> Result<Vec<Fingerprint>> {
        Ok(vec![fingerprint(&self.path, self.footer.clone())?])
    }

    fn vector_column(&self) -> Option<String> {
        Some(self.vectors.label.clone())
    }

    fn held_bytes(&self) -> u64 {
        // A batch and its two levels of two bytes a value, and of each column
        // read a page, compressed and not. Writers end pages at about 1 MiB.
        const PAGES: u64 = 3 << 20;
        let values = (self.batch_rows() * self.shape.dim) as u64;
        let leaves = self.metadata.parquet_schema();
        let of_vectors = |leaf: &usize| self.vectors.columns.contains(&leaves.get_column_root_idx(*leaf));
        let read: Vec<usize> = (0..leaves.num_columns()).filter(of_vectors).collect();
        let whole = self.metadata.metadata().row_groups().iter().map(|group| {
            let chunks = read.iter().filter_map(|&leaf| group.columns().get(leaf));
            chunks.map(|c| 2 * c.uncompressed_size().max(0) as u64).sum::<u64>()
        });
        let pages = (self.vectors.columns.len() as u64 * PAGES).min(whole.max().unwrap_or(0));
        values * (self.vectors.component_bytes() + 4) + pages
    }

    fn release(&self) {
        *lock(&self.vector_cursor) = None;
        *lock(&self.column_cursor) = None;
    }
}

/// Where the footer lies.
fn footer(path: &Path, file: &File, length: u64) -> Result<std::ops::Range<u64>> {
    use std::io::{Read, Seek, SeekFrom};
    let failed = |e| Error::io(path, "read", e);
    let cut = "ends without a Parquet footer: cut short, or still being written; copy or write it again";
    let end = length.checked_sub(8).ok_or_else(|| Error::format(path, cut))?;
    let mut tail = [0; 8];
    let mut file = file;
    file.seek(SeekFrom::Start(end)).map_err(failed)?;
    file.read_exact(&mut tail).map_err(failed)?;
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

/// Looks at what the parquet crate would take for granted: lengths and
/// places, and the Arrow schema that writers put beside Parquet's own. Gives
/// each row group's first row.
fn check_metadata(metadata: &ParquetMetaData, data_end: u64) -> std::result::Result<Vec<u64>, String> {
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
    let entries = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    for entry in entries.filter(|e| e.key == ARROW_SCHEMA_META_KEY) {
        let damaged = || String::from("the Arrow schema in its footer is damaged; write it again");
        let message = entry.value.as_deref().and_then(base64).ok_or_else(damaged)?;
        let message = arrow_message::parse(arrow_message::flatbuffer(&message)?)?;
        arrow_message::schema(message.header_as_schema().ok_or_else(damaged)?)?;
    }
    Ok(starts)
}

/// Where a column chunk ends, if its numbers make sense.
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
