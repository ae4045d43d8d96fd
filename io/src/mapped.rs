//! A file of lowland's own, mapped read-only, or read by position.
//!
//! What must hold: only finished, immutable files of the run directory are
//! mapped, and the run directory is locked; a file that shrinks while mapped
//! would raise SIGBUS, and no process but the lock's holder may touch it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};

use crate::{Error, Result};

/// The bytes of a finished file.
pub struct Mapped {
    path: PathBuf,
    file: File,
    map: Option<Mmap>,
}

impl Mapped {
    /// Maps the file at `path`; an empty file is an empty map.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::open(&path).map_err(|e| Error::io(&path, "open", e))?;
        let bytes = file.metadata().map_err(|e| Error::io(&path, "examine", e))?.len();
        if bytes == 0 {
            return Ok(Mapped { path, file, map: None });
        }
        // SAFETY: the file is finished and immutable, in a directory that this process has locked.
        #[expect(unsafe_code, reason = "memory map of our own immutable file")]
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(&path, "map", e))?;
        Ok(Mapped { path, file, map: Some(map) })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads little-endian floats from `offset` bytes into the file on, without
    /// the map: what is read once and in order need not lie in pages of ours.
    pub fn read_floats(&self, offset: usize, to: &mut [f32]) -> Result<()> {
        let read = self.file.read_exact_at(bytemuck::cast_slice_mut(to), offset as u64);
        read.map_err(|e| Error::io(&self.path, "read", e))
    }

    /// Tells the system that pages will be read in no order, so that it reads none ahead.
    pub fn expect_random(&self) {
        if let Some(map) = &self.map {
            // Advice only: a system that cannot take it reads a little more.
            let _ = map.advise(Advice::Random);
        }
    }

    /// `count` little-endian floats that begin `offset` bytes into the file.
    ///
    /// The offset must be a multiple of 4 and the range within the file; both
    /// follow from lengths that were checked when the file was opened, so
    /// anything else is an error of lowland's own and comes back as `Corrupt`.
    pub fn floats(&self, offset: usize, count: usize) -> Result<&[f32]> {
        let bytes = offset.checked_add(count * 4).and_then(|end| self.bytes().get(offset..end));
        let Some(bytes) = bytes.filter(|b| b.as_ptr().addr() % 4 == 0 && cfg!(target_endian = "little")) else {
            return Err(Error::Corrupt {
                path: self.path.clone(),
                what: format!("{count} floats at byte {offset} asked of {} bytes", self.bytes().len()),
            });
        };
        // SAFETY: aligned as just checked, `count * 4` bytes long, and every bit pattern is a float.
        #[expect(unsafe_code, reason = "a view of mapped bytes as floats")]
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) })
    }
}
