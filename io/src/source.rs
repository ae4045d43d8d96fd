//! The trait [`Source`], which every input format implements.
//!
//! A source is a stored table of `rows × dim` numbers. Ranges of rows can be read in any order and
//! any number of times.
//!
//! - The same range gives the same values, whatever was read before it.
//! - Besides what a source keeps (see [`Source::held_bytes`]), a call uses at most a small multiple
//!   of the memory of what it was asked for.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use arrow::array::ArrayRef;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::rundir::rfc3339_nanos;
use crate::{Error, Result};

/// The number of rows and of components of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The number of vectors.
    pub rows: u64,
    /// The number of components of each vector.
    pub dim: usize,
}

/// The stored type of a component. Every source can be read as `f32` or as `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single-precision number.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision. Rounded to the nearest `f32` when read as `f32`.
    F64,
    /// Unsigned bytes.
    U8,
    /// Unsigned 16-bit integers.
    U16,
    /// Unsigned 32-bit integers.
    U32,
    /// Unsigned 64-bit integers.
    U64,
    /// Signed bytes.
    I8,
    /// Signed 16-bit integers.
    I16,
    /// Signed 32-bit integers.
    I32,
    /// Signed 64-bit integers.
    I64,
    /// Booleans, read as 0 and 1.
    Bool,
    /// Decimal numbers of any precision, rounded to the nearest `f64`.
    Decimal,
    /// Bits packed into bytes, most significant bit first. Read as 0 and 1.
    Bits,
    /// Numeric columns of different types.
    Mixed,
}

impl Dtype {
    /// Returns the stored size of a component in bytes. For `Mixed` this is 4, the most common
    /// size; for `Bits` it is 1, the size of eight components; for `Decimal` it is 16, the size
    /// Arrow uses.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::U8 | Dtype::I8 | Dtype::Bool | Dtype::Bits => 1,
            Dtype::F16 | Dtype::Bf16 | Dtype::U16 | Dtype::I16 => 2,
            Dtype::F32 | Dtype::U32 | Dtype::I32 | Dtype::Mixed => 4,
            Dtype::F64 | Dtype::U64 | Dtype::I64 => 8,
            Dtype::Decimal => 16,
        }
    }

    /// Returns the stored size of a row of `dim` components in bytes.
    pub fn row_bytes(self, dim: usize) -> usize {
        match self {
            Dtype::Bits => dim.div_ceil(8),
            other => dim * other.bytes(),
        }
    }

    /// Returns the usual name of the type: `f32`, `u8`, `bits`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
            Dtype::U8 => "u8",
            Dtype::U16 => "u16",
            Dtype::U32 => "u32",
            Dtype::U64 => "u64",
            Dtype::I8 => "i8",
            Dtype::I16 => "i16",
            Dtype::I32 => "i32",
            Dtype::I64 => "i64",
            Dtype::Bool => "bool",
            Dtype::Decimal => "decimal",
            Dtype::Bits => "bits",
            Dtype::Mixed => "mixed",
        }
    }

    /// Whether the type is one of those known to be held exactly by `f32`: `F16`, `F32`, `U8` and
    /// `I8`.
    pub fn is_single(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::F32 | Dtype::U8 | Dtype::I8)
    }
}

/// The file that holds a row of a source, and the row's number in that file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLocation {
    /// The file.
    pub path: PathBuf,
    /// The row within that file, counted from 0.
    pub row: u64,
}

/// Identifies the state of a file or object, to notice changes between passes and between runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The file as it was named, with bytes that are not UTF-8 replaced, or the object's address
    /// without its secret parts.
    pub path: PathBuf,
    /// The length in bytes.
    pub bytes: u64,
    /// The modification time in nanoseconds since the Unix epoch; 0 if unknown.
    pub modified: u64,
    /// The xxh3 hash of the bytes that describe the rest (the npy header, or the Arrow or Parquet
    /// footer); 0 for an object with an ETag.
    pub header: u64,
    /// An object's ETag, as its store gives it; `None` for files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// What identifies the rows of a source. A run is resumed only with rows of equal identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceId {
    /// The files or objects that hold the rows, in order, in their present state. An empty
    /// list identifies nothing; the run is then not resumed.
    Files(Vec<Fingerprint>),
    /// The content of rows in memory, or of rows that were written once to a temporary file: `path` is the source's
    /// name, `bytes` the length of the rows as an Arrow stream or of the file, and `header` the xxh3 hash of it.
    Content(Fingerprint),
    /// Nothing: the rows can be read only while this source exists, as those of a stream. A run over
    /// them is never resumed, and a run that fails leaves nothing.
    Once,
}

impl SourceId {
    /// Returns the identity of rows that were written once to the file `path`, by the file's content: files of equal
    /// bytes have equal identities. `name` is what errors about a row call the rows. `is_stopped` is asked for every MiB.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, [`Error::Stopped`] if `is_stopped` returns true.
    pub fn of_content(path: &Path, name: &str, is_stopped: impl Fn() -> bool) -> Result<Self> {
        /// Bytes that are read at a time.
        const PORTION: usize = 1 << 20;
        let failed = |error| Error::io(path, "read", error);
        let mut file = File::open(path).map_err(failed)?;
        let (mut hash, mut bytes, mut portion) = (Xxh3::new(), 0, vec![0; PORTION]);
        loop {
            if is_stopped() {
                return Err(Error::Stopped { path: path.into() });
            }
            let count = file.read(&mut portion).map_err(failed)?;
            if count == 0 {
                let (path, header) = (PathBuf::from(name), hash.digest());
                return Ok(SourceId::Content(Fingerprint { path, bytes, modified: 0, header, etag: None }));
            }
            hash.update(&portion[..count]);
            bytes += count as u64;
        }
    }

    /// Returns whether later rows can be recognised as the same, so that a run can be resumed.
    pub fn is_lasting(&self) -> bool {
        match self {
            SourceId::Files(files) => !files.is_empty(),
            SourceId::Content(_) => true,
            SourceId::Once => false,
        }
    }

    /// Returns the fingerprints of the files, or of the content; none for [`SourceId::Once`].
    pub fn into_fingerprints(self) -> Vec<Fingerprint> {
        match self {
            SourceId::Files(files) => files,
            SourceId::Content(content) => vec![content],
            SourceId::Once => Vec::new(),
        }
    }
}

/// Checks that files are unchanged. `before` and `now` are the fingerprints of the same source, or
/// of the same list of files, at two times.
///
/// # Errors
///
/// [`Error::Changed`] names the first file that differs, and says how.
pub fn check_unchanged(before: &[Fingerprint], now: &[Fingerprint]) -> Result<()> {
    for (i, was) in before.iter().enumerate() {
        let is = now.get(i).filter(|is| is.path == was.path);
        if let Some(what) = is.map_or(Some("it no longer exists".into()), |is| was.difference(is)) {
            return Err(Error::Changed { path: was.path.clone(), what });
        }
    }
    match now.get(before.len()) {
        Some(added) => Err(Error::Changed { path: added.path.clone(), what: "it did not exist before".into() }),
        None => Ok(()),
    }
}

impl Fingerprint {
    /// Describes how `now` differs from `self`, or returns `None` if it does not. Paths are not
    /// compared.
    fn difference(&self, now: &Fingerprint) -> Option<String> {
        if self.bytes != now.bytes {
            return Some(format!("{} bytes before, {} now", self.bytes, now.bytes));
        }
        if self.etag != now.etag {
            let told = |etag: &Option<String>| etag.clone().unwrap_or("none".into());
            return Some(format!("ETag {} before, {} now", told(&self.etag), told(&now.etag)));
        }
        if self.modified != now.modified {
            let (before, now) = (rfc3339_nanos(self.modified), rfc3339_nanos(now.modified));
            return Some(format!("modified at {before} before, at {now} now"));
        }
        (self.header != now.header).then(|| "its header or footer differs".into())
    }
}

/// A stored table of vectors. The top of `source.rs` lists what every implementation guarantees.
pub trait Source: Send + Sync {
    /// Returns the number of rows and components.
    fn shape(&self) -> Shape;

    /// Returns the stored type of the components.
    fn dtype(&self) -> Dtype;

    /// Reads rows `first..first + out.len() / dim` into `out`, row by row. `out.len()` must be a
    /// multiple of `dim`, and the rows must exist.
    ///
    /// Each number is rounded to the nearest `f32`; a number outside the range of `f32` becomes
    /// infinite. A null component, and every component of a row that is null or an empty list,
    /// becomes [`NULL`](crate::NULL): see [`is_null`](crate::is_null).
    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()>;

    /// Like [`read_rows`](Self::read_rows), in double precision. 64-bit integers are rounded to the
    /// nearest `f64`. A null component becomes [`NULL_F64`](crate::NULL_F64): see
    /// [`is_null_f64`](crate::is_null_f64).
    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()>;

    /// Returns the file that holds row `row` of the source, and the row's number in it.
    fn locate(&self, row: u64) -> RowLocation;

    /// Returns the names of the columns that can be copied to an output (none for npy).
    fn columns(&self) -> Vec<String>;

    /// Reads the named columns of rows `first..first + rows`, in the order named. Where
    /// [`column_schema`](Self::column_schema) gives a dictionary type, including inside a list or a
    /// struct, the batch holds the dictionary's values instead.
    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch>;

    /// Returns the types of the named columns, in the order named. Each column has one type over
    /// all files, found from the headers and footers alone.
    ///
    /// # Errors
    ///
    /// - [`Error::NoSuchColumn`] if the first file with rows lacks a column.
    /// - [`Error::Format`] if a later file with rows lacks it, or if the types in two files cannot
    ///   be combined. It names both files.
    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        Ok(self.read_columns(names, 0, 0)?.schema())
    }

    /// Returns those of the named columns that may hold values outside the range of the type given
    /// by [`column_schema`](Self::column_schema). Reading such a value gives [`Error::Format`].
    fn unsure_columns(&self, _names: &[String]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Returns the values of an ordered dictionary column in their order; `None` if the files do not contain the order,
    /// or disagree.
    fn categories(&self, _name: &str) -> Result<Option<ArrayRef>> {
        Ok(None)
    }

    /// Reads the named columns of the first row of every file, so that columns that cannot be decoded are an error
    /// before any work.
    fn try_columns(&self, names: &[String]) -> Result<()> {
        match names.is_empty() || self.shape().rows == 0 {
            true => Ok(()),
            false => self.read_columns(names, 0, 1).map(drop),
        }
    }

    /// Returns what identifies the rows, as it is now.
    ///
    /// # Errors
    ///
    /// If a file cannot be read any more.
    fn id(&self) -> Result<SourceId>;

    /// Returns the fingerprints in the source's [`id`](Self::id): those of the files behind the
    /// source, in order.
    ///
    /// # Errors
    ///
    /// Those of [`id`](Self::id).
    fn fingerprints(&self) -> Result<Vec<Fingerprint>> {
        Ok(self.id()?.into_fingerprints())
    }

    /// Returns the name of the column (or columns) that holds the vectors; `None` for npy.
    fn vector_column(&self) -> Option<String>;

    /// Returns the column that holds component `component` of row `row`; `None` for npy.
    fn column_of(&self, row: u64, component: usize) -> Option<String> {
        let _ = (row, component);
        self.vector_column()
    }

    /// Returns the most bytes that `read_rows` uses besides `out`, during a call or between calls:
    /// decoded batches, open pages, buffers. The operating system's page cache does not count.
    fn held_bytes(&self) -> u64 {
        0
    }

    /// Returns the bytes that the source holds for as long as it exists, whatever is read.
    fn resident_bytes(&self) -> u64 {
        0
    }

    /// Returns the files that may lack rows at their end without being damaged: Arrow streams without the marker that
    /// ends a stream.
    fn endless_streams(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Frees what is kept between calls, including open files. The next call opens the file again,
    /// and returns [`Error::Changed`] if the file has changed.
    fn release(&self) {}
}

/// Checks that `len` numbers, from row `first` on, lie within `shape`.
pub(crate) fn check_range(path: &Path, shape: Shape, first: u64, len: usize) -> Result<()> {
    let rows = len / shape.dim.max(1);
    if rows * shape.dim != len {
        return Err(Error::format(
            path,
            format!("{len} numbers requested, which is not a multiple of its {} components", shape.dim),
        ));
    }
    match first.checked_add(rows as u64) {
        Some(end) if end <= shape.rows => Ok(()),
        _ => Err(Error::format(
            path,
            format!("{rows} rows from row {first} on requested, but it has {} rows", shape.rows),
        )),
    }
}

/// Returns a batch of `rows` rows and no columns.
pub(crate) fn no_columns(path: &Path, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(|e| Error::format(path, e.to_string()))
}

/// Opens a regular file that is not empty. Directories, pipes and devices are refused.
pub(crate) fn open_file(path: &Path) -> Result<(File, Metadata)> {
    let failed = |source| Error::io(path, "open", source);
    let described = std::fs::metadata(path).map_err(failed)?;
    // Checked before opening, because opening a pipe blocks until a writer opens it too.
    if !described.is_file() {
        return Err(Error::format(path, "not a regular file; a pipe is read only if it is named directly"));
    }
    let file = File::open(path).map_err(failed)?;
    let described = file.metadata().map_err(failed)?;
    if described.len() == 0 {
        return Err(Error::format(path, "empty (0 bytes); write it again"));
    }
    Ok((file, described))
}

/// Returns the current fingerprint of the file at `path`. `header` is the range of the bytes that
/// describe the rest. The file was opened before, so a missing file is [`Error::Changed`].
pub(crate) fn fingerprint(path: &Path, header: Range<u64>) -> Result<Fingerprint> {
    let failed = |source| Error::io(path, "read", source);
    let mut file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Changed { path: path.into(), what: "it no longer exists".into() },
        _ => Error::io(path, "open", source),
    })?;
    let described = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(header.start)).map_err(failed)?;
    file.take(header.end.saturating_sub(header.start)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Fingerprint { header: xxh3_64(&bytes), ..stamp(path, &described) })
}

/// Returns the fingerprint of a file from its metadata alone, with a header hash of 0.
pub(crate) fn stamp(path: &Path, described: &Metadata) -> Fingerprint {
    // Manifests and reports are text, so bytes of a name that are not UTF-8 are replaced.
    let path = path.to_string_lossy().into_owned().into();
    Fingerprint { path, bytes: described.len(), modified: modified(described), header: 0, etag: None }
}

/// Returns the modification time in nanoseconds since the Unix epoch; 0 if the system does not know
/// it.
fn modified(described: &Metadata) -> u64 {
    let since = described.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}

/// Locks a value kept between calls. The value is always either complete or empty, so it is safe to
/// use even if another thread panicked while holding the lock.
pub(crate) fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(path: &str) -> Fingerprint {
        Fingerprint { path: path.into(), bytes: 5120, modified: 1_700_000_000_123_456_789, header: 7, etag: None }
    }

    fn check(now: &[Fingerprint], expected: &str) {
        let error = check_unchanged(&[print("a"), print("b")], now).unwrap_err();
        assert!(error.is_bad_input());
        let error = error.to_string();
        assert!(error.starts_with(expected) && error.ends_with("begin again with `restart`"), "{error}");
    }

    #[test]
    fn changed_files_are_named() {
        let (a, b) = (print("a"), print("b"));
        check_unchanged(&[a.clone(), b.clone()], &[a.clone(), b.clone()]).unwrap();
        check_unchanged(&[], &[]).unwrap();
        let now = Fingerprint { bytes: 6144, modified: 0, ..b.clone() };
        check(&[a.clone(), now], "b: changed while it was in use: 5120 bytes before, 6144 now; let");
        let now = Fingerprint { modified: b.modified + 1, ..b.clone() };
        check(
            &[a.clone(), now],
            "b: changed while it was in use: modified at 2023-11-14T22:13:20.123456789Z before, \
             at 2023-11-14T22:13:20.123456790Z now;",
        );
        let now = Fingerprint { etag: Some("\"2\"".into()), ..b.clone() };
        check(&[a.clone(), now], "b: changed while it was in use: ETag none before, \"2\" now;");
        check(
            &[a.clone(), Fingerprint { header: 8, ..b.clone() }],
            "b: changed while it was in use: its header or footer",
        );
        check(std::slice::from_ref(&a), "b: changed while it was in use: it no longer exists;");
        check(&[b.clone(), a.clone()], "a: changed while it was in use: it no longer exists;");
        check(&[a, b, print("c")], "c: changed while it was in use: it did not exist before;");
    }

    #[test]
    fn a_file_is_recorded_as_it_was_before_there_were_objects() {
        let text = r#"{"path":"a","bytes":5120,"modified":1700000000123456789,"header":7}"#;
        assert_eq!(serde_json::to_string(&print("a")).unwrap(), text);
        assert_eq!(serde_json::from_str::<Fingerprint>(text).unwrap(), print("a"));
        let object = Fingerprint { etag: Some("\"1\"".into()), ..print("s3://b/a") };
        let text = serde_json::to_string(&object).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), object, "{text}");
    }

    #[test]
    fn a_file_that_is_gone_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "some bytes").unwrap();
        let before = fingerprint(&path, 0..4).unwrap();
        assert_eq!((before.bytes, before.header), (10, xxh3_64(b"some")));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(fingerprint(&path, 0..4), Err(Error::Changed { what, .. }) if what == "it no longer exists"));
    }
}
