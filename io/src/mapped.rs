//! A finished file of a run directory or of a model, memory-mapped read-only or read by position.
//!
//! What must hold: only finished, immutable files are mapped: those of a run directory that this process has locked,
//! and those of a model, which nobody changes (they can be removed, which does not disturb a map). A file that shrinks
//! while it is mapped raises SIGBUS.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};

use crate::{Error, Result};

/// The bytes of a finished file.
pub struct MappedFile {
    path: PathBuf,
    file: File,
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`. An empty file gives an empty slice.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::open(&path).map_err(|e| Error::io(&path, "open", e))?;
        let bytes = file.metadata().map_err(|e| Error::io(&path, "examine", e))?.len();
        if bytes == 0 {
            return Ok(MappedFile { path, file, map: None });
        }
        // SAFETY: the file is finished and immutable, as the file's head says.
        #[expect(unsafe_code, reason = "memory map of our own immutable file")]
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(&path, "map", e))?;
        Ok(MappedFile { path, file, map: Some(map) })
    }

    /// Returns the file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads little-endian f32 values from byte `offset` on, not through the map: data that is read
    /// once and in order then does not become part of the process's resident memory.
    pub fn read_floats(&self, offset: usize, to: &mut [f32]) -> Result<()> {
        let read = self.file.read_exact_at(bytemuck::cast_slice_mut(to), offset as u64);
        read.map_err(|e| Error::io(&self.path, "read", e))
    }

    /// Reads the bytes from `offset` on, not through the map, as [`read_floats`](Self::read_floats) does.
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(to, offset).map_err(|e| Error::io(&self.path, "read", e))
    }

    /// Advises the operating system that pages will be read in random order, so that it reads none
    /// ahead.
    pub fn expect_random(&self) {
        if let Some(map) = &self.map {
            // Only advice: if it fails, the operating system reads somewhat more.
            let _ = map.advise(Advice::Random);
        }
    }

    /// Returns `count` little-endian f32 values that begin at byte `offset`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the offset is not a multiple of 4 or the range is not within the file.
    /// Both follow from lengths that were checked when the file was opened, so this is a bug in
    /// lowland.
    pub fn floats(&self, offset: usize, count: usize) -> Result<&[f32]> {
        let bytes = offset.checked_add(count * 4).and_then(|end| self.bytes().get(offset..end));
        let Some(bytes) = bytes.filter(|b| b.as_ptr().addr() % 4 == 0 && cfg!(target_endian = "little")) else {
            return Err(Error::Corrupt {
                path: self.path.clone(),
                what: format!("{count} floats requested at byte {offset} of {} bytes", self.bytes().len()),
            });
        };
        // SAFETY: aligned as just checked, `count * 4` bytes long, and every bit pattern is a float.
        #[expect(unsafe_code, reason = "a view of mapped bytes as floats")]
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) })
    }
}
