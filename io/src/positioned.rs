//! A source's file, read by position rather than mapped. The readers of npy,
//! Arrow and Parquet know their bytes through this module only.
//!
//! What must hold: a file that another process cuts short, or whose disk
//! fails, is an error that names it (a map would end the process); a file
//! that is opened again is still the one that was opened first; a handle is
//! kept no longer than from the first read to `release`, so that thousands of
//! files may be one source.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::parquet::{PAGE_HEADER, page_bytes};
use crate::source::{Fingerprint, fingerprint, lock, open_file, stamp, unchanged};
use crate::{Error, Result};

/// A file that is open while it is read.
#[derive(Debug)]
pub(crate) struct Positioned {
    path: PathBuf,
    /// The state in which it was opened first: what was understood then holds for this only.
    stamp: Fingerprint,
    handle: Mutex<Option<Handle>>,
}

/// Open bytes of known length. Copies share what is open.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    file: Arc<File>,
    length: u64,
    /// What pages of Parquet are held against, if they are.
    pages: Option<Arc<Pages>>,
}

impl Positioned {
    /// Opens a regular file that is not empty.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, described) = open_file(path)?;
        let handle = Handle { file: Arc::new(file), length: described.len(), pages: None };
        Ok(Positioned { path: path.into(), stamp: stamp(path, &described), handle: Mutex::new(Some(handle)) })
    }

    /// What it is called.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length when it was opened.
    pub(crate) fn bytes(&self) -> u64 {
        self.stamp.bytes
    }

    /// Fills `to` with the bytes from `at` on.
    ///
    /// [`Error::Truncated`] if the file ends before, [`Error::Changed`] if it is opened
    /// again and no longer the same.
    pub(crate) fn read_at(&self, at: u64, to: &mut [u8]) -> Result<()> {
        let handle = self.kept()?;
        handle.read_exact_at(at, to).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => {
                let found = handle.file.metadata().map_or(at, |m| m.len());
                Error::Truncated { path: self.path.clone(), expected: at + to.len() as u64, found }
            }
            _ => Error::io(&self.path, "read", e),
        })
    }

    /// The bytes of `range`, which lies within the file's length.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        if bytes.try_reserve_exact(length).is_err() {
            return Err(Error::format(&self.path, format!("{length} bytes of it at once do not fit into memory")));
        }
        bytes.resize(length, 0);
        self.read_at(range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Closes the file until it is read again.
    pub(crate) fn release(&self) {
        *lock(&self.handle) = None;
    }

    /// A handle of its own, which closes when it and its copies are dropped.
    ///
    /// [`Error::Changed`] if the file is no longer the one that was opened first.
    pub(crate) fn handle(&self) -> Result<Handle> {
        let (file, described) = open_file(&self.path)?;
        self.same(&described)?;
        Ok(Handle { file: Arc::new(file), length: described.len(), pages: None })
    }

    /// How the file differs from the one that was opened first, if it does.
    pub(crate) fn change(&self) -> Option<Error> {
        std::fs::metadata(&self.path).ok().and_then(|now| self.same(&now).err())
    }

    /// The state of the file now; `header` is the range of the bytes that describe the rest.
    pub(crate) fn fingerprint(&self, header: Range<u64>) -> Result<Fingerprint> {
        fingerprint(&self.path, header)
    }

    fn same(&self, now: &std::fs::Metadata) -> Result<()> {
        unchanged(std::slice::from_ref(&self.stamp), &[stamp(&self.path, now)])
    }

    /// The handle that is kept from the first read to `release`.
    fn kept(&self) -> Result<Handle> {
        let mut kept = lock(&self.handle);
        match kept.as_ref() {
            Some(handle) => Ok(handle.clone()),
            None => Ok(kept.insert(self.handle()?).clone()),
        }
    }
}

/// What a Parquet file's footer says of its pages.
#[derive(Debug)]
pub(crate) struct Pages {
    /// The most bytes that one may take when it is decompressed.
    pub(crate) largest: u64,
    /// Where the first of each column chunk begins, ascending.
    pub(crate) first: Vec<u64>,
}

impl Handle {
    /// The same handle, which refuses pages that are not as `pages` has them: memory for a page
    /// is taken by what its header says, before anything of it is decompressed.
    pub(crate) fn with_pages(self, pages: Arc<Pages>) -> Self {
        Handle { pages: Some(pages), ..self }
    }

    /// Refuses the page that begins at `at`, if one does.
    fn check_page(&self, at: u64) -> std::result::Result<(), ParquetError> {
        let Some(pages) = &self.pages else { return Ok(()) };
        let mut bytes = [0; PAGE_HEADER];
        let read = self.read_at(at, &mut bytes)?;
        match page_bytes(&bytes[..read]) {
            Some(says) if says > pages.largest => {
                let most = pages.largest;
                Err(ParquetError::General(format!(
                    "a page of {says} bytes where the footer has {most} at most: damaged"
                )))
            }
            None if pages.first.binary_search(&at).is_ok() => {
                Err(ParquetError::General(format!("no page at byte {at}, where the footer has one: damaged")))
            }
            _ => Ok(()),
        }
    }

    /// Fills `to` with the bytes from `at` on.
    pub(crate) fn read_exact_at(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(to, at)
    }

    /// Reads as many bytes from `at` on as there are at once, at most as many as `to` holds.
    pub(crate) fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(to, at)
    }
}

impl Length for Handle {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Handle {
    type T = BufReader<Sequential>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        self.check_page(start)?;
        Ok(BufReader::new(Sequential { handle: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(ParquetError::EOF(format!("{length} bytes from byte {start} on, beyond the file's end")));
        }
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(length).is_err() {
            return Err(ParquetError::General(format!("{length} bytes of it at once do not fit into memory")));
        }
        bytes.resize(length, 0);
        self.read_exact_at(start, &mut bytes)?;
        Ok(bytes.into())
    }
}

/// The bytes of a handle, one after the other.
#[derive(Debug)]
pub(crate) struct Sequential {
    handle: Handle,
    at: u64,
}

impl Read for Sequential {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.handle.read_at(self.at, to)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_cut_short_or_replaced_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, [7; 100]).unwrap();
        let file = Positioned::open(&path).unwrap();
        assert_eq!(file.read(90..100).unwrap(), [7; 10]);
        File::options().write(true).open(&path).unwrap().set_len(95).unwrap();
        assert_eq!(file.read(85..95).unwrap(), [7; 10]);
        let error = file.read(90..100).unwrap_err();
        assert!(matches!(&error, Error::Truncated { path: p, expected: 100, found: 95 } if *p == path), "{error}");
        file.release();
        let error = file.read(0..1).unwrap_err();
        assert!(matches!(&error, Error::Changed { path: p, .. } if *p == path), "{error}");
        assert!(error.to_string().contains("100 bytes before, 95 now"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(file.read(0..1).is_err());
    }

    #[test]
    fn a_released_file_is_closed_and_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "four").unwrap();
        let file = Positioned::open(&path).unwrap();
        file.release();
        assert!(lock(&file.handle).is_none());
        assert_eq!(file.read(1..3).unwrap(), b"ou");
        assert!(lock(&file.handle).is_some());
    }

    #[test]
    fn a_length_that_memory_cannot_hold_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "four").unwrap();
        let file = Positioned::open(&path).unwrap();
        assert!(file.read(0..u64::MAX).is_err());
    }
}
