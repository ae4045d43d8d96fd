//! A source's file or object, read by position rather than mapped. The readers
//! of npy, Arrow and Parquet know their bytes through this module only.
//!
//! What must hold: a file that another process cuts short, or whose disk
//! fails, is an error that names it (a map would end the process); a file
//! that is opened again is still the one that was opened first; a handle, and
//! what it has read ahead of an object, is kept no longer than from the first
//! read to `release`, so that thousands of files may be one source.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use xxhash_rust::xxh3::xxh3_64;

use crate::files::Input;
use crate::parquet::{PAGE_HEADER, page_bytes};
use crate::remote::{Ahead, Object};
use crate::source::{Fingerprint, fingerprint, lock, open_file, stamp, unchanged};
use crate::{Error, Result};

/// A file or an object that is open while it is read.
#[derive(Debug)]
pub(crate) struct Positioned {
    path: PathBuf,
    /// The state in which it was opened first: what was understood then holds for this only.
    stamp: Fingerprint,
    remote: Option<Remote>,
    handle: Mutex<Option<Handle>>,
}

/// What an object is beside its name and state.
#[derive(Debug)]
struct Remote {
    object: Arc<Object>,
    /// How many places of it are read on from beside each other.
    streams: u64,
    /// The hash of its header, when that was asked for.
    header: OnceLock<u64>,
}

/// Open bytes of known length. Copies share what is open, and what was read ahead.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    bytes: Held,
    length: u64,
    /// What pages of Parquet are held against, if they are.
    pages: Option<Arc<Pages>>,
}

#[derive(Debug, Clone)]
enum Held {
    File(Arc<File>),
    Object(Arc<Ahead>),
}

impl Positioned {
    /// Opens a regular file that is not empty.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, described) = open_file(path)?;
        let handle = Handle { bytes: Held::File(Arc::new(file)), length: described.len(), pages: None };
        let stamp = stamp(path, &described);
        Ok(Positioned { path: path.into(), stamp, remote: None, handle: Mutex::new(Some(handle)) })
    }

    /// Opens a file, or an object, which is asked for nothing before it is read.
    pub(crate) fn of(input: &Input) -> Result<Self> {
        let object = match input {
            Input::File(path) => return Positioned::open(path),
            Input::Object(object) => object.clone(),
        };
        let (path, stamp) = (object.path().to_path_buf(), object.stamp());
        if stamp.bytes == 0 {
            return Err(Error::format(path, "empty (0 bytes); write it again"));
        }
        let remote = Some(Remote { object, streams: 1, header: OnceLock::new() });
        Ok(Positioned { path, stamp, remote, handle: Mutex::new(None) })
    }

    /// Says how many places of it will be read on from beside each other, such as columns.
    pub(crate) fn expect_streams(&mut self, streams: usize) {
        if let Some(remote) = &mut self.remote {
            remote.streams = (streams as u64).max(1);
        }
    }

    /// Whether it is an object of a store.
    pub(crate) fn is_object(&self) -> bool {
        self.remote.is_some()
    }

    /// The most bytes that a handle holds of what it has read ahead; none of a file, which the
    /// system reads ahead.
    pub(crate) fn ahead_bytes(&self) -> u64 {
        self.remote.as_ref().map_or(0, |remote| remote.object.ahead_bytes(remote.streams))
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
                let found = match &handle.bytes {
                    Held::File(file) => file.metadata().map_or(at, |m| m.len()),
                    Held::Object(_) => handle.length,
                };
                Error::Truncated { path: self.path.clone(), expected: at + to.len() as u64, found }
            }
            _ => Error::io(&self.path, "read", e),
        })
    }

    /// Fills `to` with parts, each of so many bytes from a place on: of an object by requests beside
    /// each other. Errors as of [`read_at`](Self::read_at).
    pub(crate) fn read_parts(&self, parts: &[(u64, usize)], to: &mut [u8]) -> Result<()> {
        if let Held::Object(ahead) = &self.kept()?.bytes {
            return ahead.read_parts(parts, to).map_err(|e| Error::io(&self.path, "read", e));
        }
        let mut rest = to;
        for &(at, length) in parts {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(length);
            self.read_at(at, here)?;
            rest = after;
        }
        Ok(())
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
        self.handle_for(Vec::new)
    }

    /// The same; of an object each of `runs` is read ahead, part after part.
    pub(crate) fn handle_for(&self, runs: impl FnOnce() -> Vec<Vec<Range<u64>>>) -> Result<Handle> {
        if let Some(Remote { object, streams, .. }) = &self.remote {
            // Every answer is held against the version that was opened.
            let bytes = Held::Object(object.reader(*streams, runs()));
            return Ok(Handle { bytes, length: self.stamp.bytes, pages: None });
        }
        let (file, described) = open_file(&self.path)?;
        self.same(&described)?;
        Ok(Handle { bytes: Held::File(Arc::new(file)), length: described.len(), pages: None })
    }

    /// Why what was read of it is not to be trusted, if that is so: the file differs from the one
    /// that was opened first, or its store gave it no more.
    pub(crate) fn fault(&self) -> Option<Error> {
        match &self.remote {
            Some(remote) => remote.object.fault(),
            None => std::fs::metadata(&self.path).ok().and_then(|now| self.same(&now).err()),
        }
    }

    /// The state of the file now; `header` is the range of the bytes that describe the rest. That of
    /// an object is the one that was opened: no other is ever read.
    pub(crate) fn fingerprint(&self, header: Range<u64>) -> Result<Fingerprint> {
        let Some(remote) = &self.remote else { return fingerprint(&self.path, header) };
        let stamp = self.stamp.clone();
        if stamp.etag.is_some() {
            return Ok(stamp);
        }
        let header = match remote.header.get() {
            Some(header) => *header,
            None => {
                let mut bytes = vec![0; usize::try_from(header.end - header.start).unwrap_or(0)];
                let read = self.handle()?.read_exact_at(header.start, &mut bytes);
                read.map_err(|e| Error::io(&self.path, "read", e))?;
                *remote.header.get_or_init(|| xxh3_64(&bytes))
            }
        };
        Ok(Fingerprint { header, ..stamp })
    }

    fn same(&self, now: &std::fs::Metadata) -> Result<()> {
        unchanged(std::slice::from_ref(&self.stamp), &[stamp(&self.path, now)])
    }

    /// The handle that is kept from the first read to `release`.
    pub(crate) fn kept(&self) -> Result<Handle> {
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
        if let Held::File(file) = &self.bytes {
            return file.read_exact_at(to, at);
        }
        let mut done = 0;
        while done < to.len() {
            match self.read_at(at + done as u64, &mut to[done..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }

    /// Reads as many bytes from `at` on as there are at once, at most as many as `to` holds.
    pub(crate) fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        match &self.bytes {
            Held::File(file) => file.read_at(to, at),
            Held::Object(ahead) => ahead.read_at(at, to),
        }
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
