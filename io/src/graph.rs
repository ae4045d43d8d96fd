//! The file of the k-nearest-neighbour graph, in the row order of the source: written for the user,
//! and read back from lowland's files or from those of other programs.
//!
//! Format "lowland.knn", version 1, is an Arrow IPC file. It is not compressed, so that it can be
//! memory-mapped:
//!
//! ```text
//! columns           neighbors: FixedSizeList<UInt32, k>   row numbers
//!                   distances: FixedSizeList<Float32, k>  ascending
//! record batch      rows of about 4 MiB
//! schema metadata   format = "lowland.knn", version = "1", metric, k
//! footer metadata   rows, and the list of blocks with checksums, as in the edge store
//! ```
//!
//! A path that ends in `.parquet` selects a Parquet file (zstd, row groups of about 8 MiB) with the
//! same columns and schema metadata. Its number of rows is in the Parquet footer; it has no
//! checksums of lowland.
//!
//! A graph over a subset of a source's rows has a first column `id: UInt32` with the rows' numbers
//! in the source, and its neighbours are such numbers too. Its schema metadata have `ids = source`.
//! [`GraphReader`] refuses it.
//!
//! Where a row has fewer than k neighbours, the remaining entries are 4294967295 at distance
//! infinity. Distances are Euclidean or cosine, as `metric` says, and never squared.
//!
//! Graphs of other programs may be Arrow IPC or Parquet. Their neighbours are in a column
//! `neighbors`, `indices` or `ids` of lists of any integer type, where -1 (or the largest value of
//! an unsigned type) means "no neighbour". Their distances are in a column `distances` of lists of
//! f16, f32 or f64.
//!
//! What must hold: every neighbour that is read is a row of the graph, and its distance is a number
//! not below 0. The order within a row is that of the file, and a row's own number is not removed.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema, SchemaRef, UInt64Type};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::durable::{FileStamp, PendingFile};
use crate::edges::{BatchCompression, BatchFile, BatchWriter, arrow_error, item, own_metadata};
use crate::map::{caught, parquet, parquet_error};
use crate::source::fingerprint;
use crate::{Error, Fingerprint, Result};

/// The row number that marks a missing neighbour.
pub const MISSING: u32 = u32::MAX;

const VERSION: u32 = 1;
const READABLE: &str = "1";
const FORMAT: &str = "lowland.knn";
/// The metadata key of a graph with an `id` column; its value says what the ids count.
const IDS_KEY: &str = "ids";
/// The approximate size of a record batch: neighbours and distances, in bytes.
const BATCH_BYTES: usize = 4 << 20;
/// A row group of a Parquet file is closed when it reaches about this size in bytes.
const ROW_GROUP_BYTES: usize = 8 << 20;
/// Rows read at a time from Parquet, and while searching lists of unequal length for the longest.
const SCAN_ROWS: usize = 1 << 16;

/// Writes a kNN graph. The file gets its name in [`finish`](GraphWriter::finish).
#[derive(Debug)]
pub struct GraphWriter {
    path: PathBuf,
    schema: SchemaRef,
    file: GraphFile,
    k: usize,
    /// The number of the next row.
    next: u64,
    /// Rows that were handed in but not written yet: fewer than a batch after each call.
    ids: Vec<u32>,
    distances: Vec<f32>,
    /// The ids of these rows, if the graph has an `id` column.
    names: Option<Vec<u32>>,
    batch_rows: usize,
}

/// The file that is being written.
enum GraphFile {
    Arrow(Box<BatchWriter>),
    Parquet(Box<ArrowWriter<PendingFile>>),
}

impl std::fmt::Debug for GraphFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            GraphFile::Arrow(_) => "Arrow",
            GraphFile::Parquet(_) => "Parquet",
        })
    }
}

impl GraphWriter {
    /// Returns whether the path's ending names a graph format: `.arrow` or `.parquet`.
    pub fn takes(path: &Path) -> bool {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        ["arrow", "parquet"].iter().any(|known| ending.eq_ignore_ascii_case(known))
    }

    /// Returns the memory, in bytes, that a writer of `rows` rows of `k` neighbours holds.
    pub fn bytes(rows: u64, k: usize) -> u64 {
        let all = rows.saturating_mul(k as u64 * 8);
        2 * all.min(BATCH_BYTES as u64) + 2 * all.min(ROW_GROUP_BYTES as u64)
    }

    /// Begins the graph `path` with `k` neighbours for each row. Replaces an existing file if
    /// `force` is set.
    ///
    /// # Errors
    /// [`Error::Format`] if the name ends in neither `.arrow` nor `.parquet`; [`Error::Exists`] if
    /// the file exists and `force` is not set.
    ///
    /// # Panics
    /// If `k` is 0.
    pub fn create(path: impl Into<PathBuf>, k: usize, metric: &str, force: bool) -> Result<Self> {
        Self::begin(path, k, metric, None, force)
    }

    /// As [`create`](Self::create), for a graph over a subset of a source's rows. A first column
    /// `id` holds each row's number in the source, and neighbours are such numbers too.
    /// [`GraphReader`] refuses such a graph.
    ///
    /// # Panics
    /// If `k` is 0.
    pub fn create_named(path: impl Into<PathBuf>, k: usize, metric: &str, force: bool) -> Result<Self> {
        Self::begin(path, k, metric, Some(Vec::new()), force)
    }

    fn begin(path: impl Into<PathBuf>, k: usize, metric: &str, names: Option<Vec<u32>>, force: bool) -> Result<Self> {
        assert!(k > 0);
        let path = path.into();
        if !force && std::fs::metadata(&path).is_ok() {
            return Err(Error::Exists { path });
        }
        let list = |name, items| Field::new(name, DataType::FixedSizeList(item(items), k as i32), false);
        let mut pairs = vec![("metric".to_string(), metric.to_string()), ("k".to_string(), k.to_string())];
        let mut fields = vec![list("neighbors", DataType::UInt32), list("distances", DataType::Float32)];
        if names.is_some() {
            pairs.push((IDS_KEY.to_string(), "source".to_string()));
            fields.insert(0, Field::new("id", DataType::UInt32, false));
        }
        let schema = Schema::new_with_metadata(fields, own_metadata(FORMAT, VERSION, &pairs));
        let batch_rows = (BATCH_BYTES / (8 * k)).max(1);
        if !GraphWriter::takes(&path) {
            return Err(Error::format(&path, "a graph's name ends in .arrow or .parquet"));
        }
        let is_parquet = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
        let file = if is_parquet {
            // Almost all distances differ, so a dictionary would only cost time and space.
            let properties = WriterProperties::builder()
                .set_created_by("lowland".into())
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_dictionary_enabled(false)
                .build();
            let file = PendingFile::create(&path)?;
            let writer = ArrowWriter::try_new(file, Arc::new(schema.clone()), Some(properties));
            GraphFile::Parquet(Box::new(writer.map_err(|e| parquet_error(&path, "write", e))?))
        } else {
            GraphFile::Arrow(Box::new(BatchWriter::new(
                PendingFile::create(&path)?,
                schema.clone(),
                BatchCompression::No,
            )?))
        };
        Ok(GraphWriter {
            path,
            schema: Arc::new(schema),
            file,
            k,
            next: 0,
            ids: Vec::new(),
            distances: Vec::new(),
            names,
            batch_rows,
        })
    }

    /// Writes rows `first..`, which must directly follow the rows written before. Both slices are
    /// rows × k, row-major; each row's distances ascend, with [`MISSING`] neighbours last, at
    /// infinity.
    ///
    /// # Errors
    /// [`Error::Format`] if the rows are not the next ones, or their distances are negative, NaN or
    /// not ascending.
    pub fn write_rows(&mut self, first: u64, ids: &[u32], distances: &[f32]) -> Result<()> {
        let wrong = |what: String| Err(Error::format(&self.path, what));
        if first != self.next || ids.len() != distances.len() || !ids.len().is_multiple_of(self.k) {
            let (a, b) = (ids.len(), distances.len());
            return wrong(format!(
                "{a} neighbours and {b} distances at row {first}, but row {} is expected",
                self.next
            ));
        }
        for (row, (ids, distances)) in ids.chunks_exact(self.k).zip(distances.chunks_exact(self.k)).enumerate() {
            let sound = |(&id, &d): (&u32, &f32)| d >= 0.0 && (id != MISSING || d == f32::INFINITY);
            if !(distances.is_sorted() && ids.iter().zip(distances).all(sound)) {
                return wrong(format!(
                    "row {}: distances that are negative, NaN, or not ascending",
                    first + row as u64
                ));
            }
        }
        // Split, so that at most one batch is buffered, however many rows are handed in.
        for (ids, distances) in ids.chunks(self.batch_rows * self.k).zip(distances.chunks(self.batch_rows * self.k)) {
            self.ids.extend_from_slice(ids);
            self.distances.extend_from_slice(distances);
            self.next += (ids.len() / self.k) as u64;
            if self.ids.len() >= self.batch_rows * self.k {
                self.write_batch(self.batch_rows)?;
            }
        }
        Ok(())
    }

    /// As [`write_rows`](Self::write_rows), for a graph with an `id` column: `names` has one id for
    /// each row.
    pub fn write_named_rows(&mut self, first: u64, names: &[u32], ids: &[u32], distances: &[f32]) -> Result<()> {
        match &mut self.names {
            Some(waiting) if names.len() * self.k == ids.len() => waiting.extend_from_slice(names),
            _ => return Err(Error::format(&self.path, format!("{} names of rows at row {first}", names.len()))),
        }
        self.write_rows(first, ids, distances)
    }

    fn write_batch(&mut self, rows: usize) -> Result<()> {
        let first = self.next - (self.ids.len() / self.k) as u64;
        let ids = UInt32Array::from_iter_values(self.ids.drain(..rows * self.k));
        let distances = Float32Array::from_iter_values(self.distances.drain(..rows * self.k));
        let k = self.k as i32;
        let batch = FixedSizeListArray::try_new(item(DataType::UInt32), k, Arc::new(ids), None)
            .and_then(|i| Ok((i, FixedSizeListArray::try_new(item(DataType::Float32), k, Arc::new(distances), None)?)))
            .and_then(|(i, d)| {
                let mut columns: Vec<ArrayRef> = vec![Arc::new(i), Arc::new(d)];
                if let Some(names) = &mut self.names {
                    columns.insert(0, Arc::new(UInt32Array::from_iter_values(names.drain(..rows))));
                }
                RecordBatch::try_new(self.schema.clone(), columns)
            })
            .map_err(|e| arrow_error(&self.path, "write", e))?;
        match &mut self.file {
            GraphFile::Arrow(file) => file.write(&batch, first, (rows * self.k) as u64),
            GraphFile::Parquet(writer) => {
                let failed = |e| parquet_error(&self.path, "write", e);
                writer.write(&batch).map_err(failed)?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES {
                    writer.flush().map_err(failed)?;
                }
                Ok(())
            }
        }
    }

    /// Returns the number of neighbours of each row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Makes the file durable and gives it its name.
    pub fn finish(mut self) -> Result<FileStamp> {
        let left = self.ids.len() / self.k;
        if left > 0 {
            self.write_batch(left)?;
        }
        match self.file {
            GraphFile::Arrow(mut file) => {
                file.note("rows", self.next.to_string());
                file.finish()
            }
            GraphFile::Parquet(writer) => {
                writer.into_inner().map_err(|e| parquet_error(&self.path, "write", e))?.finish()
            }
        }
    }
}

enum GraphTable {
    /// The file, and the batch that was read last, because callers mostly read consecutive ranges.
    Arrow(Box<BatchFile>, Mutex<Option<(usize, RecordBatch)>>),
    /// The first row of each row group.
    Parquet(Vec<u64>),
}

/// Reads a graph by ranges of rows.
///
/// The record batch that was read last is kept in memory. A graph that another program wrote as a
/// single batch is therefore held whole; such a program should write several batches, or Parquet.
pub struct GraphReader {
    path: PathBuf,
    table: GraphTable,
    /// The byte range of the footer in the file.
    footer: Range<u64>,
    schema: SchemaRef,
    /// The indices of the columns of neighbours and of distances.
    columns: [usize; 2],
    rows: u64,
    k: usize,
    metric: Option<String>,
}

impl std::fmt::Debug for GraphReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let GraphReader { path, rows, k, .. } = self;
        f.debug_struct("GraphReader").field("path", path).field("rows", rows).field("k", k).finish_non_exhaustive()
    }
}

impl GraphReader {
    /// Opens a graph; its first bytes tell Arrow IPC from Parquet. If neither column has lists of
    /// fixed size, the neighbour lists are all read to find the longest.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is not a graph or has an `id` column of lowland,
    /// [`Error::NoSuchColumn`] if the neighbours or distances are missing, [`Error::Version`],
    /// [`Error::Corrupt`] for a lowland file of another version or a damaged one.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let given = path.to_string_lossy();
        if crate::is_address(&given) && !path.exists() {
            let what = "an address, but a graph is read from a local file; download it first";
            return Err(Error::format(crate::shown(&given).as_ref(), what));
        }
        let file = File::open(&path).map_err(|e| Error::io(&path, "open", e))?;
        let mut head = Vec::new();
        (&file).take(6).read_to_end(&mut head).map_err(|e| Error::io(&path, "read", e))?;
        let (table, footer, schema, rows) = if head == b"ARROW1" {
            let file = BatchFile::open(path.clone())?;
            if file.metadata.get("format").is_some_and(|f| f.starts_with("lowland.")) {
                file.expect(FORMAT, VERSION, READABLE)?;
            }
            let (footer, schema, rows) = (file.footer.clone(), file.schema.clone(), file.rows());
            (GraphTable::Arrow(Box::new(file), Mutex::new(None)), footer, schema, rows)
        } else if head.starts_with(b"PAR1") {
            let length = file.metadata().map_err(|e| Error::io(&path, "inspect", e))?.len();
            let footer = crate::parquet::footer(&path, length, |at, to| file.read_exact_at(to, at))?;
            let reader = parquet(&path, file)?;
            let (mut firsts, mut rows) = (Vec::new(), 0_u64);
            for group in reader.metadata().row_groups() {
                firsts.push(rows);
                rows = u64::try_from(group.num_rows())
                    .ok()
                    .and_then(|n| rows.checked_add(n))
                    .ok_or_else(|| Error::format(&path, "a row group of an impossible length"))?;
            }
            (GraphTable::Parquet(firsts), footer, reader.schema().clone(), rows)
        } else {
            return Err(Error::format(&path, "neither Arrow IPC nor Parquet: not a graph"));
        };
        if schema.metadata.get("format").is_some_and(|format| format == FORMAT) && schema.metadata.contains_key(IDS_KEY)
        {
            let what = "its neighbours are row numbers of a source from which rows were dropped; write the graph again \
                        with `invalid` null, which keeps all rows";
            return Err(Error::format(&path, what));
        }
        let columns = [find(&path, &schema, &["neighbors", "indices", "ids"])?, find(&path, &schema, &["distances"])?];
        let types = columns.map(|c| schema.field(c).data_type().clone());
        let (ids, distances) = (items(&types[0]), items(&types[1]));
        let fault = |c: usize, wanted: &str| {
            let field = schema.field(columns[c]);
            let what = format!("column \"{}\" is {}, not lists of {wanted}", field.name(), field.data_type());
            Err(Error::format(&path, what))
        };
        if !ids.is_some_and(DataType::is_integer) {
            return fault(0, "integers");
        }
        if !distances.is_some_and(DataType::is_floating) {
            return fault(1, "floating-point numbers");
        }
        if rows >= u64::from(MISSING) {
            return Err(Error::format(&path, format!("{rows} rows; a graph can have at most {}", MISSING - 1)));
        }
        let metric = schema.metadata.get("metric").cloned();
        let mut reader = GraphReader { path, table, footer, schema, columns, rows, k: 0, metric };
        reader.k = match (&types[0], &types[1]) {
            (DataType::FixedSizeList(_, a), DataType::FixedSizeList(_, b)) if a != b => {
                return Err(Error::format(&reader.path, format!("{a} neighbours and {b} distances a row")));
            }
            (DataType::FixedSizeList(_, k), _) | (_, DataType::FixedSizeList(_, k)) => (*k).max(0) as usize,
            _ => reader.longest()?,
        };
        if reader.k == 0 {
            return Err(Error::format(&reader.path, "no row has a neighbour (k = 0)"));
        }
        Ok(reader)
    }

    /// Returns the number of neighbours of a row, k: the length of the longest list.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the metric, if the file's metadata name one.
    pub fn metric(&self) -> Option<&str> {
        self.metric.as_deref()
    }

    /// Returns the current fingerprint of the graph's file, which includes the footer's bytes.
    ///
    /// # Errors
    /// [`Error::Changed`] if the file is gone.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        fingerprint(&self.path, self.footer.clone())
    }

    /// Reads rows `first..` into two slices of rows × k. Shorter lists, and entries that the file
    /// marks as "no neighbour", are filled with [`MISSING`] at infinity.
    ///
    /// # Errors
    /// [`Error::Format`] names the row if a neighbour is not a row, if a distance is NaN or
    /// negative, or if the two lists differ in length. [`Error::Null`] for a null.
    ///
    /// # Panics
    /// If the slices differ in length, are no multiple of k, or reach beyond the last row.
    pub fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> Result<()> {
        assert!(ids.len() == distances.len() && ids.len().is_multiple_of(self.k));
        let count = ids.len() / self.k;
        assert!(first.checked_add(count as u64).is_some_and(|end| end <= self.rows));
        let mut done = 0;
        self.each(first, count, &mut |batch, row| {
            let here = done * self.k..(done + batch.num_rows()) * self.k;
            done += batch.num_rows();
            match (ids.get_mut(here.clone()), distances.get_mut(here)) {
                (Some(ids), Some(distances)) => self.take(batch, row, ids, distances),
                _ => Err(Error::format(&self.path, "more rows than were announced")),
            }
        })?;
        if done == count { Ok(()) } else { Err(Error::format(&self.path, "fewer rows than were announced")) }
    }

    /// Calls `each` with the rows `first..first + count`, in portions, and with the first row of
    /// each portion.
    fn each(&self, first: u64, count: usize, each: &mut dyn FnMut(&RecordBatch, u64) -> Result<()>) -> Result<()> {
        let end = first + count as u64;
        if count == 0 {
            return Ok(());
        }
        match &self.table {
            GraphTable::Arrow(file, last) => {
                let start = file.entries.partition_point(|e| e.first_row + e.rows <= first);
                for (i, entry) in file.entries.iter().enumerate().skip(start) {
                    let (from, to) = (first.max(entry.first_row), end.min(entry.first_row + entry.rows));
                    if entry.first_row >= end {
                        break;
                    }
                    if from < to {
                        let batch = self.batch(file, last, i)?;
                        each(&batch.slice((from - entry.first_row) as usize, (to - from) as usize), from)?;
                    }
                }
                Ok(())
            }
            GraphTable::Parquet(firsts) => {
                let start = firsts.partition_point(|&f| f <= first) - 1;
                let stop = firsts.partition_point(|&f| f < end);
                let file = File::open(&self.path).map_err(|e| Error::io(&self.path, "open", e))?;
                let builder = parquet(&self.path, file)?;
                let mask = ProjectionMask::roots(builder.parquet_schema(), self.columns);
                let mut reader = builder
                    .with_projection(mask)
                    .with_row_groups((start..stop).collect())
                    .with_offset((first - firsts[start]) as usize)
                    .with_limit(count)
                    .with_batch_size(count.min(SCAN_ROWS))
                    .build()
                    .map_err(|e| parquet_error(&self.path, "read", e))?;
                let mut row = first;
                while let Some(batch) = caught(&self.path, || reader.next())? {
                    let batch = batch.map_err(|e| arrow_error(&self.path, "read", e))?;
                    each(&batch, row)?;
                    row += batch.num_rows() as u64;
                }
                Ok(())
            }
        }
    }

    fn batch(&self, file: &BatchFile, last: &Mutex<Option<(usize, RecordBatch)>>, i: usize) -> Result<RecordBatch> {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, batch)) if *at == i => Ok(batch.clone()),
            _ => {
                // The former batch is freed before the next one is read.
                *last = None;
                let batch = file.read(i)?;
                *last = Some((i, batch.clone()));
                Ok(batch)
            }
        }
    }

    /// Returns the lists of both columns.
    fn lists(&self, batch: &RecordBatch, row: u64) -> Result<[ListColumn; 2]> {
        let lists = |c: usize| {
            let field = self.schema.field(self.columns[c]);
            let array = batch.column_by_name(field.name()).map(|a| ListColumn::of(a.as_ref()));
            let Some(Some(lists)) = array else {
                return Err(Error::format(&self.path, "a batch with different columns"));
            };
            match lists.null {
                Some(at) => Err(self.null(row + at as u64, c)),
                None => Ok(lists),
            }
        };
        Ok([lists(0)?, lists(1)?])
    }

    fn null(&self, row: u64, c: usize) -> Error {
        let column = self.schema.field(self.columns[c]).name().clone();
        Error::Null { path: self.path.clone(), row, column }
    }

    fn longest(&self) -> Result<usize> {
        let (mut first, mut longest) = (0, 0);
        while first < self.rows {
            let count = (self.rows - first).min(SCAN_ROWS as u64) as usize;
            self.each(first, count, &mut |batch, row| {
                let [ids, _] = self.lists(batch, row)?;
                longest = ids.ends.windows(2).map(|w| w[1] - w[0]).fold(longest, usize::max);
                Ok(())
            })?;
            first += count as u64;
        }
        Ok(longest)
    }

    fn take(&self, batch: &RecordBatch, first: u64, ids: &mut [u32], distances: &mut [f32]) -> Result<()> {
        let [near, far] = self.lists(batch, first)?;
        let at =
            |row: usize, what: String| Err(Error::format(&self.path, format!("row {}: {what}", first + row as u64)));
        let error = |e| arrow_error(&self.path, "read", e);
        let (start, end) = (near.ends[0], near.ends[batch.num_rows()]);
        let found = near.values.slice(start, end - start);
        // The value of an unsigned type that stands for -1.
        let none = match found.data_type() {
            DataType::UInt8 => i64::from(u8::MAX),
            DataType::UInt16 => i64::from(u16::MAX),
            DataType::UInt32 => i64::from(u32::MAX),
            _ => -1,
        };
        let found: Vec<Option<i64>> = if let Some(wide) = found.as_primitive_opt::<UInt64Type>() {
            // The largest value becomes -1. Other values beyond i64 become i64::MAX, which is no
            // row.
            wide.iter()
                .map(|v| v.map(|v| if v == u64::MAX { -1 } else { i64::try_from(v).unwrap_or(i64::MAX) }))
                .collect()
        } else {
            let wide = cast(&found, &DataType::Int64).map_err(error)?;
            wide.as_primitive::<Int64Type>().iter().collect()
        };
        let (far_start, far_end) = (far.ends[0], far.ends[batch.num_rows()]);
        let far_found = cast(&far.values.slice(far_start, far_end - far_start), &DataType::Float32).map_err(error)?;
        let far_found = far_found.as_primitive::<Float32Type>();
        ids.fill(MISSING);
        distances.fill(f32::INFINITY);
        for row in 0..batch.num_rows() {
            let (from, to) = (near.ends[row] - start, near.ends[row + 1] - start);
            let far_from = far.ends[row] - far_start;
            let far_length = far.ends[row + 1] - far_start - far_from;
            if to - from != far_length || far_length > self.k {
                return at(row, format!("{} neighbours and {far_length} distances", to - from));
            }
            for j in 0..far_length {
                let Some(id) = found[from + j] else { return Err(self.null(first + row as u64, 0)) };
                // -1 and the largest value of an unsigned type mean "no neighbour", unless a type
                // is so narrow that the latter is a row number.
                if id == -1 || id == none && id as u64 >= self.rows {
                    continue;
                }
                if far_found.is_null(far_from + j) {
                    return Err(self.null(first + row as u64, 1));
                }
                let distance = far_found.value(far_from + j);
                if id < 0 || id as u64 >= self.rows {
                    return at(row, format!("neighbour {id} of {} rows", self.rows));
                }
                if distance.is_nan() || distance < 0.0 {
                    return at(row, format!("a distance of {distance}"));
                }
                ids[row * self.k + j] = id as u32;
                distances[row * self.k + j] = distance;
            }
        }
        Ok(())
    }
}

/// Returns the type of a list's items.
fn items(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => Some(f.data_type()),
        _ => None,
    }
}

fn find(path: &Path, schema: &Schema, names: &[&str]) -> Result<usize> {
    names.iter().find_map(|name| schema.index_of(name).ok()).ok_or_else(|| Error::NoSuchColumn {
        path: path.into(),
        asked: names.join("\", \"").replace("\", \"", "\" or \""),
        available: schema.fields().iter().map(|f| f.name().clone()).collect(),
    })
}

/// Lists of any Arrow list type: row i is `ends[i]..ends[i + 1]` of the values.
struct ListColumn {
    ends: Vec<usize>,
    values: Arc<dyn Array>,
    /// The first row that is null, if any.
    null: Option<usize>,
}

impl ListColumn {
    fn of(array: &dyn Array) -> Option<ListColumn> {
        // Without nulls this scans all rows, and each test is immediate.
        let null = (0..array.len()).find(|&i| array.is_null(i));
        if let Some(list) = array.as_list_opt::<i32>() {
            let ends = list.value_offsets().iter().map(|&o| o as usize).collect();
            return Some(ListColumn { ends, values: list.values().clone(), null });
        }
        if let Some(list) = array.as_list_opt::<i64>() {
            let ends = list.value_offsets().iter().map(|&o| o as usize).collect();
            return Some(ListColumn { ends, values: list.values().clone(), null });
        }
        let list = array.as_fixed_size_list_opt()?;
        let k = usize::try_from(list.value_length()).ok()?;
        // A slice of fixed-size lists has its values sliced too, so they start at 0.
        Some(ListColumn { ends: (0..=list.len()).map(|i| i * k).collect(), values: list.values().clone(), null })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, LargeListArray, ListArray, UInt64Array};
    use arrow::buffer::OffsetBuffer;
    use arrow::ipc::writer::FileWriter;
    use proptest::prelude::*;

    fn graph(rows: usize, k: usize) -> (Vec<u32>, Vec<f32>) {
        let mut ids = Vec::new();
        let mut distances = Vec::new();
        for row in 0..rows {
            let there = if row % 5 == 0 { k / 2 } else { k };
            ids.extend((0..k).map(|j| if j < there { ((row + j * j) % rows) as u32 } else { MISSING }));
            distances.extend((0..k).map(|j| if j < there { (row + j) as f32 * 0.25 } else { f32::INFINITY }));
        }
        (ids, distances)
    }

    fn write(path: &Path, rows: usize, k: usize, portion: usize) -> FileStamp {
        let (ids, distances) = graph(rows, k);
        let mut writer = GraphWriter::create(path, k, "cosine", true).unwrap();
        for first in (0..rows).step_by(portion) {
            let range = first * k..(first + portion).min(rows) * k;
            writer.write_rows(first as u64, &ids[range.clone()], &distances[range]).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(path: &Path) -> Result<(usize, Vec<u32>, Vec<f32>)> {
        let reader = GraphReader::open(path)?;
        let n = reader.rows() as usize * reader.k();
        let (mut ids, mut distances) = (vec![7; n], vec![7.0; n]);
        reader.read_rows(0, &mut ids, &mut distances)?;
        Ok((reader.k(), ids, distances))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_range_comes_back(rows in 1usize..3_000, k in 1usize..1_500, a in 0usize..3_000, b in 0usize..3_000) {
            prop_assume!(rows * k < 2_000_000);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("g.arrow");
            let stamp = write(&path, rows, k, 97);
            prop_assert_eq!(write(&path, rows, k, 5_000), stamp);
            let (from, to) = (a.min(b).min(rows), a.max(b).min(rows));
            let reader = GraphReader::open(&path).unwrap();
            prop_assert_eq!((reader.rows(), reader.k(), reader.metric()), (rows as u64, k, Some("cosine")));
            let (mut ids, mut distances) = (vec![0; (to - from) * k], vec![0.0; (to - from) * k]);
            reader.read_rows(from as u64, &mut ids, &mut distances).unwrap();
            let (all_ids, all_distances) = graph(rows, k);
            prop_assert!(ids == all_ids[from * k..to * k] && distances == all_distances[from * k..to * k]);
        }
    }

    #[test]
    fn a_graph_in_parquet_is_the_same_graph() {
        let dir = tempfile::tempdir().unwrap();
        let (arrow, parquet) = (dir.path().join("g.arrow"), dir.path().join("g.parquet"));
        // More than one row group.
        let stamp = write(&parquet, 200_000, 8, 9_999);
        assert_eq!(write(&parquet, 200_000, 8, 5_000), stamp);
        write(&arrow, 200_000, 8, 5_000);
        assert!(read(&parquet).unwrap() == read(&arrow).unwrap());
        let reader = GraphReader::open(&parquet).unwrap();
        assert_eq!((reader.rows(), reader.k(), reader.metric()), (200_000, 8, Some("cosine")));
        for name in ["g.npy", "g", "g.parquet.gz"] {
            let refused = GraphWriter::create(dir.path().join(name), 2, "euclidean", false).unwrap_err().to_string();
            assert!(refused.contains(".arrow or .parquet"), "{refused}");
        }
    }

    /// Writes a graph as another program would: as Arrow in two batches, and as Parquet in row
    /// groups of two rows.
    fn foreign(dir: &Path, columns: Vec<(&str, ArrayRef)>) -> [PathBuf; 2] {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let paths = [dir.join("g.arrow"), dir.join("g.parquet")];
        let parts = [batch.slice(0, 1), batch.slice(1, batch.num_rows() - 1)];
        let mut writer = FileWriter::try_new(File::create(&paths[0]).unwrap(), &batch.schema()).unwrap();
        parts.iter().for_each(|p| writer.write(p).unwrap());
        writer.finish().unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
        let file = File::create(&paths[1]).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        parts.iter().for_each(|p| writer.write(p).unwrap());
        writer.close().unwrap();
        paths
    }

    fn ragged(values: ArrayRef, lengths: &[usize]) -> ArrayRef {
        let field = Arc::new(Field::new("item", values.data_type().clone(), true));
        Arc::new(LargeListArray::new(field, OffsetBuffer::from_lengths(lengths.iter().copied()), values, None))
    }

    #[test]
    fn foreign_graphs_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let doubles = |v: Vec<f64>| Arc::new(arrow::array::Float64Array::from(v)) as ArrayRef;
        let lengths = [2, 3, 0, 1];
        let ids: Vec<(&str, ArrayRef)> = vec![
            ("indices", Arc::new(Int64Array::from(vec![0, 1, 3, -1, 2, 0]))),
            ("ids", Arc::new(UInt64Array::from(vec![0, 1, 3, u64::MAX, 2, 0]))),
        ];
        for (name, values) in ids {
            let columns = vec![
                ("title", Arc::new(UInt32Array::from(vec![1, 2, 3, 4])) as ArrayRef),
                (name, ragged(values, &lengths)),
                ("distances", ragged(doubles(vec![0.0, 0.5, 0.25, f64::NAN, 1.0, 2.0]), &lengths)),
            ];
            for path in foreign(dir.path(), columns) {
                let (k, ids, distances) = read(&path).unwrap();
                assert_eq!(k, 3);
                let (m, inf) = (MISSING, f32::INFINITY);
                assert_eq!(ids, [0, 1, m, 3, m, 2, m, m, m, 0, m, m]);
                assert_eq!(distances, [0.0, 0.5, inf, 0.25, inf, 1.0, inf, inf, inf, 2.0, inf, inf]);
                let reader = GraphReader::open(&path).unwrap();
                let (mut ids, mut distances) = ([0; 6], [0.0; 6]);
                reader.read_rows(2, &mut ids, &mut distances).unwrap();
                assert_eq!(ids, [m, m, m, 0, m, m]);
                assert_eq!(reader.metric(), None);
            }
        }
    }

    #[test]
    fn a_fingerprint_covers_the_footer() {
        let dir = tempfile::tempdir().unwrap();
        let columns = |id: i64| {
            vec![
                ("ids", ragged(Arc::new(Int64Array::from(vec![0, id])), &[1, 1])),
                ("distances", ragged(Arc::new(Float32Array::from(vec![1.0, 1.0])), &[1, 1])),
            ]
        };
        for path in foreign(dir.path(), columns(0)) {
            let reader = GraphReader::open(&path).unwrap();
            let before = reader.fingerprint().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!((&before.path, before.bytes), (&path, bytes.len() as u64));
            crate::check_unchanged(std::slice::from_ref(&before), &[reader.fingerprint().unwrap()]).unwrap();
            // The last byte of the footer itself; its length and the magic bytes follow.
            for (at, covered) in [(bytes.len() - 16, true), (8, false)] {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                std::fs::write(&path, &changed).unwrap();
                assert_eq!(reader.fingerprint().unwrap().header != before.header, covered, "{}", path.display());
            }
            std::fs::remove_file(&path).unwrap();
            assert!(matches!(reader.fingerprint(), Err(Error::Changed { .. })));
        }
    }

    #[test]
    fn graph_errors_name_the_row() {
        let dir = tempfile::tempdir().unwrap();
        let check = |ids: Vec<i64>, a: [usize; 3], distances: Vec<f32>, b: [usize; 3], expected: &str| {
            let columns = vec![
                ("neighbors", ragged(Arc::new(Int64Array::from(ids)), &a)),
                ("distances", ragged(Arc::new(Float32Array::from(distances)), &b)),
            ];
            for path in foreign(dir.path(), columns) {
                let error = read(&path).unwrap_err().to_string();
                assert!(error.contains(expected), "{error}");
            }
        };
        check(vec![0, 1, 2], [1, 1, 1], vec![0.0; 3], [1, 2, 0], "row 1: 1 neighbours and 2 distances");
        check(vec![0, 1, 3], [1, 1, 1], vec![0.0; 3], [1, 1, 1], "row 2: neighbour 3 of 3 rows");
        check(vec![0, -2, 1], [1, 1, 1], vec![0.0; 3], [1, 1, 1], "row 1: neighbour -2");
        check(vec![0, 1, 2], [1, 1, 1], vec![0.0, f32::NAN, 0.0], [1, 1, 1], "row 1: a distance of NaN");
        check(vec![0, 1, 2], [1, 1, 1], vec![0.0, 0.0, -0.5], [1, 1, 1], "row 2: a distance of -0.5");
        check(vec![], [0, 0, 0], vec![], [0, 0, 0], "k = 0");

        let item = Arc::new(Field::new("item", DataType::Int64, true));
        let lists: ArrayRef = Arc::new(ListArray::new_null(item, 2));
        let distances = ragged(Arc::new(Float32Array::from(vec![1.0, 1.0])), &[1, 1]);
        for path in foreign(dir.path(), vec![("neighbors", lists), ("distances", distances.clone())]) {
            assert!(matches!(read(&path), Err(Error::Null { row: 0, .. })));
        }
        for path in foreign(dir.path(), vec![("neighbours", distances.clone()), ("distances", distances.clone())]) {
            assert!(matches!(read(&path), Err(Error::NoSuchColumn { .. })));
        }
        for path in foreign(dir.path(), vec![("ids", distances.clone()), ("distances", distances)]) {
            assert!(read(&path).unwrap_err().to_string().contains("not lists of integers"));
        }
    }

    #[test]
    fn graph_writer_refuses_invalid_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.arrow");
        let mut writer = GraphWriter::create(&path, 2, "euclidean", false).unwrap();
        assert!(writer.write_rows(1, &[0, 1], &[0.0, 1.0]).is_err());
        assert!(writer.write_rows(0, &[0, 1, 2], &[0.0, 1.0, 2.0]).is_err());
        assert!(writer.write_rows(0, &[0, 1], &[1.0, 0.5]).is_err());
        assert!(writer.write_rows(0, &[0, 1], &[1.0, f32::NAN]).is_err());
        assert!(writer.write_rows(0, &[0, MISSING], &[1.0, 2.0]).is_err());
        writer.write_rows(0, &[0, MISSING], &[1.0, f32::INFINITY]).unwrap();
        assert!(!path.exists());
        writer.finish().unwrap();
        assert!(matches!(GraphWriter::create(&path, 2, "euclidean", false), Err(Error::Exists { .. })));
        drop(GraphWriter::create(&path, 3, "euclidean", true).unwrap());
        assert_eq!(read(&path).unwrap().0, 2);
    }

    #[test]
    fn damage_is_found_or_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.arrow");
        write(&path, 20, 3, 20);
        let good = std::fs::read(&path).unwrap();
        let intact = read(&path).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            std::fs::write(&path, &bad).unwrap();
            if let Ok(found) = read(&path) {
                assert!(found == intact, "a bit of byte {byte} changed what is read");
            }
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(read(&path).is_err(), "cut to {length}");
        }
    }
}
