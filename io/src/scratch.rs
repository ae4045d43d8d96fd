//! Scratch files: bytes that a process writes for itself and reads back, in any order, any number
//! of times.
//!
//! ```text
//! <dir>/<name>    the appended bytes, end to end, no header; multi-byte values in native byte order
//! ```
//!
//! The format has no version: the file is read only by the process that wrote it.
//!
//! What must hold: the bytes read are checked against a checksum of the bytes written. The file's
//! name is removed when writing ends, so that nothing remains of the file, however the process
//! ends. Before that, the file is an ordinary leftover that opening the run directory removes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::{Error, Result};

/// The place and checksum of appended bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScratchRange {
    at: u64,
    bytes: u64,
    sum: u64,
}

/// A scratch file that is being written.
#[derive(Debug)]
pub struct ScratchWriter {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl ScratchWriter {
    /// Begins the file `path`, replacing an existing one.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&path).map_err(|e| Error::io(&path, "create", e))?;
        Ok(ScratchWriter { file, path, bytes: 0 })
    }

    /// Appends `parts`, one after another.
    pub fn append(&mut self, parts: &[&[u8]]) -> Result<ScratchRange> {
        let (mut hash, at) = (Xxh3::new(), self.bytes);
        for part in parts {
            hash.update(part);
            self.file.write_all_at(part, self.bytes).map_err(|e| Error::io(&self.path, "write", e))?;
            self.bytes += part.len() as u64;
        }
        Ok(ScratchRange { at, bytes: self.bytes - at, sum: hash.digest() })
    }

    /// Returns the number of bytes appended so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends writing and removes the file's name.
    pub fn finish(self) -> Result<ScratchFile> {
        std::fs::remove_file(&self.path).map_err(|e| Error::io(&self.path, "remove", e))?;
        Ok(ScratchFile { file: self.file, path: self.path })
    }
}

/// A finished scratch file. Several threads can read it at once.
#[derive(Debug)]
pub struct ScratchFile {
    file: File,
    path: PathBuf,
}

impl ScratchFile {
    /// Reads the bytes of `scrap` into `parts`, which together must have the same length.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the bytes are not those that were appended.
    ///
    /// # Panics
    /// If the total length of `parts` differs from that of `scrap`.
    pub fn read(&self, scrap: ScratchRange, parts: &mut [&mut [u8]]) -> Result<()> {
        assert_eq!(scrap.bytes, parts.iter().map(|part| part.len() as u64).sum::<u64>());
        let (mut hash, mut at) = (Xxh3::new(), scrap.at);
        for part in parts {
            self.file.read_exact_at(part, at).map_err(|e| Error::io(&self.path, "read", e))?;
            hash.update(part);
            at += part.len() as u64;
        }
        if hash.digest() == scrap.sum {
            return Ok(());
        }
        let what = format!("bytes {} to {at} are not those that were written; the disk may be failing", scrap.at);
        Err(Error::Corrupt { path: self.path.clone(), what })
    }

    /// Returns the path that the file had.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_round_trips_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ScratchWriter::create(dir.path().join("a")).unwrap();
        let one = writer.append(&[b"first", b"", b"second"]).unwrap();
        let two = writer.append(&[b"third"]).unwrap();
        assert_eq!(writer.bytes(), 16);
        let scratch = writer.finish().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let (mut a, mut b) = ([0; 5], [0; 6]);
        scratch.read(two, &mut [&mut a]).unwrap();
        assert_eq!(&a, b"third");
        scratch.read(one, &mut [&mut a, &mut b]).unwrap();
        assert_eq!((&a, &b), (b"first", b"second"));
        scratch.file.write_all_at(b"F", 0).unwrap();
        let error = scratch.read(one, &mut [&mut a, &mut b]).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}
