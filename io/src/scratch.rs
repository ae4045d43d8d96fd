//! Scratch: bytes that a process puts aside for itself and reads back, in any
//! order, any number of times.
//!
//! ```text
//! <dir>/<name>    what was appended, end to end, in the machine's own byte order
//! ```
//!
//! What must hold: what comes back is checked against what went in. The file
//! loses its name when writing ends, so that nothing is left of it, however
//! the process ends; until then it is a leftover like any other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::{Error, Result};

/// Where something was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrap {
    at: u64,
    bytes: u64,
    sum: u64,
}

/// A scratch file being written.
#[derive(Debug)]
pub struct ScratchWriter {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl ScratchWriter {
    /// Begins the file `path`, over what was there.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&path).map_err(|e| Error::io(&path, "create", e))?;
        Ok(ScratchWriter { file, path, bytes: 0 })
    }

    /// Puts `parts` aside, one after another.
    pub fn append(&mut self, parts: &[&[u8]]) -> Result<Scrap> {
        let (mut hash, at) = (Xxh3::new(), self.bytes);
        for part in parts {
            hash.update(part);
            self.file.write_all_at(part, self.bytes).map_err(|e| Error::io(&self.path, "write", e))?;
            self.bytes += part.len() as u64;
        }
        Ok(Scrap { at, bytes: self.bytes - at, sum: hash.digest() })
    }

    /// Bytes put aside so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends writing; the file has no name from here on.
    pub fn finish(self) -> Result<Scratch> {
        std::fs::remove_file(&self.path).map_err(|e| Error::io(&self.path, "remove", e))?;
        Ok(Scratch { file: self.file, path: self.path })
    }
}

/// What was put aside. May be read by several threads at once.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    /// Reads `scrap` back into `parts`, which together are as long as it is.
    ///
    /// [`Error::Corrupt`] if those are not the bytes that were put aside.
    ///
    /// # Panics
    /// If `parts` are longer or shorter together.
    pub fn read(&self, scrap: Scrap, parts: &mut [&mut [u8]]) -> Result<()> {
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

    /// The name that the file had.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_comes_back_and_leaves_no_name() {
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
