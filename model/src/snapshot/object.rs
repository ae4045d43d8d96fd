//! What all objects have in common: the header, its checks, and how values are written and viewed.

use std::io::Write;
use std::path::Path;

use bytemuck::{AnyBitPattern, NoUninit};
use lowland_io::{Error as IoError, MappedFile};

use crate::store::{ModelLock, ObjectRef, ObjectWriter};
use crate::{Error, Result};

/// The bytes of the header.
pub(super) const HEADER: usize = 64;
/// The counts of the header.
const COUNTS: usize = 7;

/// A kind of object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// The name in messages.
    pub(super) name: &'static str,
    /// The letter in the magic.
    pub(super) letter: u8,
    /// The format version that is written and read.
    pub(super) version: u32,
}

impl Kind {
    pub(super) const fn new(name: &'static str, letter: u8) -> Self {
        Kind { name, letter, version: 1 }
    }

    fn magic(self) -> [u8; 4] {
        [b'L', b'L', b'M', self.letter]
    }

    /// Returns the error that the rows handed to a writer do not fit the object.
    pub(super) fn misfit(self, what: impl Into<String>) -> Error {
        Error::Rows { object: self.name, what: what.into() }
    }
}

/// Writes an object: the header, then values.
#[derive(Debug)]
pub(super) struct Body {
    kind: Kind,
    file: ObjectWriter,
}

impl Body {
    /// Begins an object of the kind with these counts, whose file has the ending `ending`.
    pub(super) fn begin(lock: &ModelLock<'_>, kind: Kind, ending: &str, counts: &[u64]) -> Result<Self> {
        assert!(counts.len() <= COUNTS, "an object has at most seven counts");
        little_endian(kind)?;
        let mut body = Body { kind, file: lock.object(ending)? };
        body.bytes(&kind.magic())?;
        body.bytes(&kind.version.to_le_bytes())?;
        for i in 0..COUNTS {
            body.bytes(&counts.get(i).copied().unwrap_or(0).to_le_bytes())?;
        }
        Ok(body)
    }

    pub(super) fn position(&self) -> u64 {
        self.file.position()
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all(bytes).map_err(|e| IoError::io(self.kind.name, "write", e))?)
    }

    pub(super) fn values<T: NoUninit>(&mut self, values: &[T]) -> Result<()> {
        self.bytes(bytemuck::cast_slice(values))
    }

    pub(super) fn finish(self) -> Result<ObjectRef> {
        self.file.finish()
    }

    /// Ends an object whose last eight bytes are the number of its rows, which was not known at the beginning.
    pub(super) fn finish_rows(mut self, rows: u64) -> Result<ObjectRef> {
        self.bytes(&rows.to_le_bytes())?;
        self.file.finish()
    }
}

/// Values are copied between memory and files as they are.
fn little_endian(kind: Kind) -> Result<()> {
    if cfg!(target_endian = "little") {
        return Ok(());
    }
    Err(kind.misfit("models are read and written on little-endian machines only"))
}

/// A mapped object whose header was checked.
pub(super) struct Object {
    file: MappedFile,
    counts: [u64; COUNTS],
}

impl Object {
    /// Maps the object at `path` and checks its kind, format version, and length as the record gives it.
    pub(super) fn open(path: &Path, named: &ObjectRef, kind: Kind) -> Result<Self> {
        little_endian(kind)?;
        let file = match MappedFile::open(path) {
            Err(IoError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::damaged(path, "missing"));
            }
            file => file?,
        };
        let found = file.bytes().len() as u64;
        if found != named.bytes {
            return Err(Error::damaged(path, format!("{found} bytes where {} were written", named.bytes)));
        }
        let Some(header) = file.bytes().get(..HEADER).filter(|header| header.starts_with(&kind.magic())) else {
            return Err(Error::damaged(path, format!("not an object of the kind \"{}\"", kind.name)));
        };
        let version = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if version > kind.version {
            return Err(Error::Newer { path: path.into(), found: version.into(), readable: "version 1" });
        }
        if version != kind.version {
            return Err(Error::damaged(path, format!("format version {version}, which does not exist")));
        }
        let mut counts = [0; COUNTS];
        for (count, bytes) in counts.iter_mut().zip(header[8..].chunks_exact(8)) {
            *count = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        Ok(Object { file, counts })
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the number of rows in the last eight bytes, which must be below the largest u32.
    pub(super) fn last_rows(&self) -> Result<u32> {
        self.number_from_end(8)
    }

    /// Returns the number in the eight bytes before the last eight.
    pub(super) fn count_before_last(&self) -> Result<u32> {
        self.number_from_end(16)
    }

    fn number_from_end(&self, from_end: usize) -> Result<u32> {
        let body = self.file.bytes().get(HEADER..).unwrap_or_default();
        let last = body.get(..(body.len() + 8).saturating_sub(from_end)).and_then(|body| body.last_chunk::<8>());
        let rows = last.map(|last| u64::from_le_bytes(*last)).ok_or_else(|| self.damaged("cut short"))?;
        u32::try_from(rows).ok().filter(|&rows| rows < u32::MAX).ok_or_else(|| self.damaged(format!("{rows} rows")))
    }

    pub(super) fn file(&self) -> &MappedFile {
        &self.file
    }

    /// Returns a count of the header.
    pub(super) fn count(&self, which: usize) -> u64 {
        self.counts[which]
    }

    /// Returns a count of the header that must be at most `most`.
    pub(super) fn bounded(&self, which: usize, what: &str, most: u64) -> Result<usize> {
        let count = self.counts[which];
        if count > most {
            return Err(self.damaged(format!("{count} {what}, which is more than {most}")));
        }
        Ok(count as usize)
    }

    /// Returns the number of rows of the header, which must be below the largest u32.
    pub(super) fn rows(&self, which: usize) -> Result<u32> {
        Ok(self.bounded(which, "rows", u64::from(u32::MAX) - 1)? as u32)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(self.path(), what)
    }

    /// Checks that the body has the length that the counts give: the sum of `parts`, which are products.
    pub(super) fn check_length(&self, parts: &[[u64; 2]]) -> Result<()> {
        let expected = parts.iter().try_fold(HEADER as u64, |sum, [a, b]| sum.checked_add(a.checked_mul(*b)?));
        let found = self.file.bytes().len() as u64;
        match expected {
            Some(expected) if expected == found => Ok(()),
            _ => Err(self.damaged(format!("{found} bytes, which is not what its header says"))),
        }
    }

    /// Returns `count` values from the byte `at` on. An empty slice if the range is not in the file or not aligned,
    /// which the checks at opening rule out.
    pub(super) fn values<T: AnyBitPattern>(&self, at: usize, count: usize) -> &[T] {
        let length = count.checked_mul(size_of::<T>());
        let bytes = length.and_then(|length| self.file.bytes().get(at..at.checked_add(length)?));
        bytes.and_then(|bytes| bytemuck::try_cast_slice(bytes).ok()).unwrap_or_default()
    }
}
