//! Where vectors come from: one trait over every format.
//!
//! A source is a table of `rows × dim` numbers at rest, read by row range in
//! any order, any number of times. What must hold: the same range gives the
//! same values whatever was read before it, and a call holds no more memory
//! than a small multiple of what it was asked for.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::rundir::rfc3339_nanos;
use crate::{Error, Result};

/// Rows and components of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Number of vectors.
    pub rows: u64,
    /// Components of each vector.
    pub dim: usize,
}

/// The type of a component at rest; every source is read as `f32` or as `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// The upper half of IEEE single precision.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision, rounded to the nearest `f32` when read as such.
    F64,
    /// Unsigned bytes.
    U8,
    /// Unsigned integers of 16 bits.
    U16,
    /// Unsigned integers of 32 bits.
    U32,
    /// Unsigned integers of 64 bits.
    U64,
    /// Signed bytes.
    I8,
    /// Signed integers of 16 bits.
    I16,
    /// Signed integers of 32 bits.
    I32,
    /// Signed integers of 64 bits.
    I64,
    /// Booleans, read as 0 and 1.
    Bool,
    /// Decimal fractions of any precision, rounded to the nearest `f64`.
    Decimal,
    /// The bits of bytes, the most significant first, read as 0 and 1.
    Bits,
    /// Numeric columns of several types.
    Mixed,
}

impl Dtype {
    /// Bytes of a component at rest (of mixed columns, the usual four; of eight bits, one). A
    /// decimal takes 16 as Arrow has it.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::U8 | Dtype::I8 | Dtype::Bool | Dtype::Bits => 1,
            Dtype::F16 | Dtype::Bf16 | Dtype::U16 | Dtype::I16 => 2,
            Dtype::F32 | Dtype::U32 | Dtype::I32 | Dtype::Mixed => 4,
            Dtype::F64 | Dtype::U64 | Dtype::I64 => 8,
            Dtype::Decimal => 16,
        }
    }

    /// Bytes of a row of `dim` components at rest.
    pub fn row_bytes(self, dim: usize) -> usize {
        match self {
            Dtype::Bits => dim.div_ceil(8),
            other => dim * other.bytes(),
        }
    }

    /// What people call it: f32, u8, bits.
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

    /// Whether `f32` holds every number of the type.
    pub fn is_single(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::F32 | Dtype::U8 | Dtype::I8)
    }
}

/// A row of a source, named as a person would find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The row within that file, from 0.
    pub row: u64,
}

/// What identifies a file between passes and between runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its modification time, nanoseconds since the epoch.
    pub modified: u64,
    /// xxh3 of the bytes that describe the rest: the npy header, the Arrow or Parquet footer; 0 of
    /// an object with an ETag.
    pub header: u64,
    /// The version of an object, as its store calls it; none of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// Checks that the files are still what they were: `before` and `now` are the
/// fingerprints of one source, or of one list of files, taken at two times.
///
/// [`Error::Changed`] names the first file that differs, and how.
pub fn unchanged(before: &[Fingerprint], now: &[Fingerprint]) -> Result<()> {
    for (i, was) in before.iter().enumerate() {
        let is = now.get(i).filter(|is| is.path == was.path);
        if let Some(what) = is.map_or(Some("it is gone".into()), |is| was.difference(is)) {
            return Err(Error::Changed { path: was.path.clone(), what });
        }
    }
    match now.get(before.len()) {
        Some(added) => Err(Error::Changed { path: added.path.clone(), what: "it was not there before".into() }),
        None => Ok(()),
    }
}

impl Fingerprint {
    /// How the file differs from what it was, both states told; the path is not compared.
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
        (self.header != now.header).then(|| "the part that describes the rest (its header or footer) differs".into())
    }
}

/// A table of vectors at rest. See the module's page for what must hold.
pub trait Source: Send + Sync {
    /// Rows and components.
    fn shape(&self) -> Shape;

    /// The components' type at rest.
    fn dtype(&self) -> Dtype;

    /// Reads rows `first..first + out.len() / dim` into `out`, row by row.
    /// `out.len()` must be a multiple of `dim` and the range within the source.
    ///
    /// Each number is rounded to the nearest `f32`, so one beyond single precision is infinite. A
    /// null component, and each component of a row that is null or an empty list, is
    /// [`NULL`](crate::NULL): see [`is_null`](crate::is_null).
    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()>;

    /// The same rows in double precision; integers of 64 bits are rounded to the nearest `f64`. A
    /// null component is [`NULL_F64`](crate::NULL_F64): see [`is_null_f64`](crate::is_null_f64).
    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()>;

    /// The file and row that hold row `row` of the source.
    fn locate(&self, row: u64) -> Place;

    /// The columns that can be passed through to an output (none for npy).
    fn columns(&self) -> Vec<String>;

    /// Reads the named columns of rows `first..first + rows`, in the order
    /// named. Where [`column_schema`](Self::column_schema) has a dictionary,
    /// also within a list or a struct, this has its values.
    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch>;

    /// The types of the named columns, in the order named: one for each over
    /// all files, from their headers and footers alone.
    ///
    /// [`Error::NoSuchColumn`] where a file with rows lacks a column, and
    /// [`Error::Format`], naming two files, where their types do not match.
    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        Ok(self.read_columns(names, 0, 0)?.schema())
    }

    /// Those of the named columns some of whose values may not fit into the
    /// type that [`column_schema`](Self::column_schema) gives: reading such a
    /// row is [`Error::Format`].
    fn unsure_columns(&self, _names: &[String]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The files behind the source, in order.
    fn fingerprints(&self) -> Result<Vec<Fingerprint>>;

    /// What the vectors are called in the file: a column's name, or several; none for npy.
    fn vector_column(&self) -> Option<String>;

    /// The column that holds component `component` of row `row`; none for npy.
    fn column_of(&self, row: u64, component: usize) -> Option<String> {
        let _ = (row, component);
        self.vector_column()
    }

    /// The most bytes that `read_rows` takes beside `out`, during a call or
    /// from one to the next: a decoded batch, open pages, a buffer. What the
    /// system caches of the file is not counted.
    fn held_bytes(&self) -> u64 {
        0
    }

    /// Bytes that are held as long as the source is, whatever is read.
    fn resident_bytes(&self) -> u64 {
        0
    }

    /// Frees what is kept between calls, an open file included. The next call
    /// starts afresh, and is [`Error::Changed`] if the file no longer is what it was.
    fn release(&self) {}
}

/// Whether `len` numbers from row `first` on lie within `shape`.
pub(crate) fn check_range(path: &Path, shape: Shape, first: u64, len: usize) -> Result<()> {
    let rows = len / shape.dim.max(1);
    if rows * shape.dim != len {
        return Err(Error::format(path, format!("{len} numbers asked for, not a multiple of its {}", shape.dim)));
    }
    match first.checked_add(rows as u64) {
        Some(end) if end <= shape.rows => Ok(()),
        _ => Err(Error::format(
            path,
            format!("{rows} rows from row {first} on asked for, but it has {} rows", shape.rows),
        )),
    }
}

/// A batch of `rows` rows and no columns.
pub(crate) fn no_columns(path: &Path, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(|e| Error::format(path, e.to_string()))
}

/// Opens a file for reading; directories and devices are refused.
pub(crate) fn open_file(path: &Path) -> Result<(File, Metadata)> {
    let failed = |source| Error::io(path, "open", source);
    let described = std::fs::metadata(path).map_err(failed)?;
    // Asked before opening: a pipe would block until somebody writes to it.
    if !described.is_file() {
        return Err(Error::format(path, "not a regular file; a pipe is read only where it is named itself"));
    }
    let file = File::open(path).map_err(failed)?;
    let described = file.metadata().map_err(failed)?;
    if described.len() == 0 {
        return Err(Error::format(path, "empty (0 bytes); write it again"));
    }
    Ok((file, described))
}

/// The state of the file at `path` now; `header` is the range of the bytes
/// that describe the rest. The file was there before: that it is gone is a change.
pub(crate) fn fingerprint(path: &Path, header: Range<u64>) -> Result<Fingerprint> {
    let failed = |source| Error::io(path, "read", source);
    let mut file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Changed { path: path.into(), what: "it is gone".into() },
        _ => Error::io(path, "open", source),
    })?;
    let described = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(header.start)).map_err(failed)?;
    file.take(header.end.saturating_sub(header.start)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Fingerprint { header: xxh3_64(&bytes), ..stamp(path, &described) })
}

/// The state of a file as `described`, of which no bytes are read.
pub(crate) fn stamp(path: &Path, described: &Metadata) -> Fingerprint {
    Fingerprint { path: path.into(), bytes: described.len(), modified: modified(described), header: 0, etag: None }
}

/// Nanoseconds since the epoch; 0 where the system does not say.
fn modified(described: &Metadata) -> u64 {
    let since = described.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}

/// Locks what is kept between calls. It is either whole or empty, so a panic
/// in another thread leaves nothing that would be wrong to use.
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
        let error = unchanged(&[print("a"), print("b")], now).unwrap_err();
        assert!(error.is_bad_input());
        let error = error.to_string();
        assert!(error.starts_with(expected) && error.ends_with("begin anew with `restart`"), "{error}");
    }

    #[test]
    fn what_changed_is_told() {
        let (a, b) = (print("a"), print("b"));
        unchanged(&[a.clone(), b.clone()], &[a.clone(), b.clone()]).unwrap();
        unchanged(&[], &[]).unwrap();
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
        check(&[a.clone(), Fingerprint { header: 8, ..b.clone() }], "b: changed while it was in use: the part that");
        check(std::slice::from_ref(&a), "b: changed while it was in use: it is gone;");
        check(&[b.clone(), a.clone()], "a: changed while it was in use: it is gone;");
        check(&[a, b, print("c")], "c: changed while it was in use: it was not there before;");
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
        assert!(matches!(fingerprint(&path, 0..4), Err(Error::Changed { what, .. }) if what == "it is gone"));
    }
}
