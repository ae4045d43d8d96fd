//! A source's file, read by position rather than mapped.
//!
//! What must hold: a file that another process cuts short, or whose disk
//! fails, is an error that names it (a map would end the process); a file
//! that is opened again is still the one that was opened first; a handle is
//! kept no longer than from the first read to `release`, so that thousands of
//! files may be one source.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::source::{Fingerprint, lock, open_file, stamp, unchanged};
use crate::{Error, Result};

/// A file that is open while it is read.
#[derive(Debug)]
pub(crate) struct Positioned {
    path: PathBuf,
    /// The state in which it was opened first: what was understood then holds for this only.
    stamp: Fingerprint,
    handle: Mutex<Option<Arc<File>>>,
}

impl Positioned {
    /// Opens a regular file that is not empty.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, described) = open_file(path)?;
        let handle = Mutex::new(Some(Arc::new(file)));
        Ok(Positioned { path: path.into(), stamp: stamp(path, &described), handle })
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
        let file = self.file()?;
        file.read_exact_at(to, at).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => {
                let found = file.metadata().map_or(at, |m| m.len());
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

    fn file(&self) -> Result<Arc<File>> {
        let mut handle = lock(&self.handle);
        if let Some(file) = handle.as_ref() {
            return Ok(file.clone());
        }
        let (file, described) = open_file(&self.path)?;
        unchanged(std::slice::from_ref(&self.stamp), &[stamp(&self.path, &described)])?;
        Ok(handle.insert(Arc::new(file)).clone())
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
