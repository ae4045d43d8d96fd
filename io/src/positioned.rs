//! Reads a file or object at given byte offsets, without mapping it into memory. The npy, Arrow and
//! Parquet readers access their inputs only through this module.
//!
//! - If another process truncates the file, or the disk fails, reading returns an error that names
//!   the file. (With a memory map the process would be killed.)
//! - A file that is opened again must still be the file that was opened first.
//! - A handle, with the data it has read ahead, is kept only from the first read until `release`.
//!   Thousands of files can therefore form one source.

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
use crate::parquet::{PAGE_HEADER, page_claim};
use crate::remote::{Ahead, Object};
use crate::source::{Fingerprint, check_unchanged, fingerprint, lock, open_file, stamp};
use crate::{Error, Result};

/// A file or an object, open only while it is being read.
#[derive(Debug)]
pub(crate) struct PositionedFile {
    path: PathBuf,
    /// The state when it was first opened. Anything parsed from it is valid only for this state.
    stamp: Fingerprint,
    remote: Option<Remote>,
    handle: Mutex<Option<FileHandle>>,
}

/// What an object has besides its path and state.
#[derive(Debug)]
struct Remote {
    object: Arc<Object>,
    /// How many places of the object are read in turns, each sequentially.
    streams: u64,
    /// The hash of the object's header, once it has been requested.
    header: OnceLock<u64>,
}

/// Open bytes of known length. Clones share the open file, or the reader with the data it has read
/// ahead.
#[derive(Debug, Clone)]
pub(crate) struct FileHandle {
    bytes: Held,
    length: u64,
    /// The limits that Parquet pages are checked against, if any.
    pages: Option<Arc<PageLimits>>,
}

#[derive(Debug, Clone)]
enum Held {
    File(Arc<File>),
    Object(Arc<Ahead>),
}

impl PositionedFile {
    /// Opens a regular file that is not empty.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, described) = open_file(path)?;
        let handle = FileHandle { bytes: Held::File(Arc::new(file)), length: described.len(), pages: None };
        let stamp = stamp(path, &described);
        Ok(PositionedFile { path: path.into(), stamp, remote: None, handle: Mutex::new(Some(handle)) })
    }

    /// Opens a file, or prepares an object; the object's store receives no request until it is
    /// read.
    pub(crate) fn of(input: &Input) -> Result<Self> {
        let object = match input {
            Input::File(path) => return PositionedFile::open(path),
            Input::Object(object) => object.clone(),
        };
        let (path, stamp) = (object.path().to_path_buf(), object.stamp());
        if stamp.bytes == 0 {
            return Err(Error::format(path, "empty (0 bytes); write it again"));
        }
        let remote = Some(Remote { object, streams: 1, header: OnceLock::new() });
        Ok(PositionedFile { path, stamp, remote, handle: Mutex::new(None) })
    }

    /// Sets how many places, such as columns, will be read in turns, each sequentially. Has no
    /// effect on files.
    pub(crate) fn expect_streams(&mut self, streams: usize) {
        if let Some(remote) = &mut self.remote {
            remote.streams = (streams as u64).max(1);
        }
    }

    /// Whether this is an object in a store.
    pub(crate) fn is_object(&self) -> bool {
        self.remote.is_some()
    }

    /// Returns the most bytes a handle holds of data it has read ahead; 0 for a file, for which the
    /// operating system reads ahead.
    pub(crate) fn ahead_bytes(&self) -> u64 {
        self.remote.as_ref().map_or(0, |remote| remote.object.ahead_bytes(remote.streams))
    }

    /// Returns the path, or the address as it may be shown.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length it had when it was first opened.
    pub(crate) fn bytes(&self) -> u64 {
        self.stamp.bytes
    }

    /// Fills `to` with the bytes from offset `at` on.
    ///
    /// # Errors
    ///
    /// - [`Error::Truncated`] if the file ends too early.
    /// - [`Error::Changed`] if the file has to be opened again and has changed.
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

    /// Fills `to` with the given parts, each an offset and a length, one after another. Parts of an
    /// object are requested concurrently. Errors are those of [`read_at`](Self::read_at).
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

    /// Returns the bytes of `range`, which must lie within the file.
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

    /// Opens a separate handle, which closes when it and all its clones are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] if the file is no longer the one that was opened first.
    pub(crate) fn handle(&self) -> Result<FileHandle> {
        self.handle_for(Vec::new)
    }

    /// Like [`handle`](Self::handle). For an object, each of `runs` is read ahead in order, part by
    /// part.
    pub(crate) fn handle_for(&self, runs: impl FnOnce() -> Vec<Vec<Range<u64>>>) -> Result<FileHandle> {
        if let Some(Remote { object, streams, .. }) = &self.remote {
            // Every response is checked against the version that was opened first.
            let bytes = Held::Object(object.reader(*streams, runs()));
            return Ok(FileHandle { bytes, length: self.stamp.bytes, pages: None });
        }
        let (file, described) = open_file(&self.path)?;
        self.same(&described)?;
        Ok(FileHandle { bytes: Held::File(Arc::new(file)), length: described.len(), pages: None })
    }

    /// Returns the reason why data read earlier cannot be trusted, if there is one: the file has
    /// changed, or the store failed to deliver the object.
    pub(crate) fn fault(&self) -> Option<Error> {
        match &self.remote {
            Some(remote) => remote.object.fault(),
            None => std::fs::metadata(&self.path).ok().and_then(|now| self.same(&now).err()),
        }
    }

    /// Returns the current fingerprint of a file. `header` is the range of the bytes that describe
    /// the rest. For an object this is the version that was opened, since no other version is ever
    /// read.
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
        check_unchanged(std::slice::from_ref(&self.stamp), &[stamp(&self.path, now)])
    }

    /// Returns the handle that is kept from the first read until `release`, opening it if needed.
    pub(crate) fn kept(&self) -> Result<FileHandle> {
        let mut kept = lock(&self.handle);
        match kept.as_ref() {
            Some(handle) => Ok(handle.clone()),
            None => Ok(kept.insert(self.handle()?).clone()),
        }
    }
}

/// Limits on the pages of a Parquet file, taken from its footer.
#[derive(Debug)]
pub(crate) struct PageLimits {
    /// The largest size in bytes that a decompressed page may have.
    pub(crate) largest: u64,
    /// The offsets of the first page of each column chunk, in ascending order.
    pub(crate) first: Vec<u64>,
}

impl FileHandle {
    /// Returns the same handle, which now refuses pages that contradict `pages`, and dictionaries of
    /// more values than they have bytes. The sizes in a page's header decide how much memory is
    /// allocated, before anything is decoded, so they have to be checked first.
    pub(crate) fn with_pages(self, pages: Arc<PageLimits>) -> Self {
        FileHandle { pages: Some(pages), ..self }
    }

    /// Checks the page that begins at `at`, if one does.
    fn check_page(&self, at: u64) -> std::result::Result<(), ParquetError> {
        let Some(pages) = &self.pages else { return Ok(()) };
        let mut bytes = [0; PAGE_HEADER];
        let read = self.read_at(at, &mut bytes)?;
        match page_claim(&bytes[..read]) {
            Some(page) if page.bytes > pages.largest => {
                let (says, most) = (page.bytes, pages.largest);
                Err(ParquetError::General(format!(
                    "a page of {says} bytes, but the footer allows at most {most}: damaged"
                )))
            }
            // Truth values take less than a byte, but there are only two.
            Some(page) if page.dictionary > page.bytes.max(2) => {
                let (values, bytes) = (page.dictionary, page.bytes);
                Err(ParquetError::General(format!("a dictionary of {values} values in {bytes} bytes: damaged")))
            }
            None if pages.first.binary_search(&at).is_ok() => {
                Err(ParquetError::General(format!("no page at byte {at}, although the footer lists one: damaged")))
            }
            _ => Ok(()),
        }
    }

    /// Fills `to` with the bytes from offset `at` on.
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

    /// Reads the bytes from offset `at` on that are available at once, at most `to.len()`, and
    /// returns how many.
    pub(crate) fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        match &self.bytes {
            Held::File(file) => file.read_at(to, at),
            Held::Object(ahead) => ahead.read_at(at, to),
        }
    }
}

impl Length for FileHandle {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for FileHandle {
    type T = BufReader<SequentialReader>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        self.check_page(start)?;
        Ok(BufReader::new(SequentialReader { handle: self.clone(), at: start }))
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

/// Reads the bytes of a handle sequentially.
#[derive(Debug)]
pub(crate) struct SequentialReader {
    handle: FileHandle,
    at: u64,
}

impl Read for SequentialReader {
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
        let file = PositionedFile::open(&path).unwrap();
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
        let file = PositionedFile::open(&path).unwrap();
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
        let file = PositionedFile::open(&path).unwrap();
        assert!(file.read(0..u64::MAX).is_err());
    }
}
