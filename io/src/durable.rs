//! Atomic file writes: under its final name, a file is either complete or absent.
//!
//! A file is written as `<name>.part`, flushed, synced and renamed to `<name>`; then its directory
//! is synced.
//!
//! What must hold:
//! - A name without `.part` never stands for unfinished bytes, whenever the process or the machine
//!   stops.
//! - The length and checksum that [`PendingFile::finish`] returns are those of the bytes handed in,
//!   in order, and not of a later read of the file.
//! - The `.part` file is locked while it is written, so that the second of two writers of one name
//!   gets an error and the two contents are never mixed.
//! - The files of a temporary run directory ([`RunDir::temporary`](crate::RunDir::temporary)) are not synced: they are
//!   removed with the process, and after a power failure nobody reads them. Their names, too, never stand for
//!   unfinished bytes for as long as the machine runs.
//! - If the name is a symbolic link, the link's target is written (its `.part` lies beside the
//!   target), and the link stays.
//!
//! Record of a file, as manifests store it (JSON): `{ "bytes": <length>, "xxh3": "<16 hexadecimal
//! digits>" }`, where `xxh3` is the 64-bit xxh3 of all bytes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::{Error, Result};

/// What is added to the name of a file while it is written.
pub const PART: &str = ".part";

/// Bytes buffered before a write to the operating system, and bytes of one read.
const BUFFER: usize = 1 << 20;

/// Bytes written to the operating system between two requests for write-back to disk.
const WRITEBACK: u64 = 16 << 20;

/// Length and checksum of a file, by which a changed file is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Length in bytes.
    pub bytes: u64,
    /// xxh3 (64 bits) of all bytes. Serialised as a text of 16 hexadecimal digits, because most
    /// JSON readers round integers above 2^53.
    #[serde(with = "hex")]
    pub xxh3: u64,
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(&text, 16).map_err(|_| D::Error::custom(format!("\"{text}\" is not a hexadecimal number")))
    }
}

/// A file that is being written. Holds a buffer of 1 MiB. The file gets its name in
/// [`finish`](PendingFile::finish); if it is dropped before, nothing is left on disk.
///
/// The [`Write`] implementation returns the operating system's errors without the path;
/// [`path`](PendingFile::path) returns it.
pub struct PendingFile {
    /// The path as given.
    path: PathBuf,
    /// The path after following symbolic links.
    target: PathBuf,
    part: PathBuf,
    /// `None` once finished: `drop` then has nothing to remove.
    file: Option<File>,
    buffer: Vec<u8>,
    hash: Box<Xxh3>,
    bytes: u64,
    /// Bytes written to the operating system.
    handed: u64,
    /// Of these, bytes for which write-back to disk was requested.
    begun: u64,
    /// A write failed, so the bytes on disk may differ from those counted and hashed.
    broken: bool,
    /// Whether the file is synced before it gets its name.
    durable: bool,
}

impl PendingFile {
    /// Begins the file `path` and overwrites an abandoned `.part` file of the same name. An
    /// existing file of that name stays until [`finish`](PendingFile::finish).
    ///
    /// # Errors
    /// [`Error::Locked`] if another writer is writing the same file.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        Self::begin(path.into(), true)
    }

    /// As [`create`](Self::create). A file that is not `durable` may be lost if the machine stops.
    pub(crate) fn begin(path: PathBuf, durable: bool) -> Result<Self> {
        let target = target(&path)?;
        let mut part = target.clone().into_os_string();
        part.push(PART);
        let part = PathBuf::from(part);
        let Some(file) = lock(&part)? else {
            return Err(Error::Locked { path, holder: "another writer of the same file".into() });
        };
        file.set_len(0).map_err(|e| Error::io(&part, "truncate", e))?;
        Ok(PendingFile {
            path,
            target,
            part,
            file: Some(file),
            buffer: Vec::with_capacity(BUFFER),
            hash: Box::new(Xxh3::new()),
            bytes: 0,
            handed: 0,
            begun: 0,
            broken: false,
            durable,
        })
    }

    /// Returns the name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes handed in so far, which is the offset of the next byte in the file.
    pub fn position(&self) -> u64 {
        self.bytes
    }

    /// Returns the 128-bit xxh3 of the bytes handed in so far.
    pub fn digest128(&self) -> u128 {
        self.hash.digest128()
    }

    /// Makes the file durable and gives it its name, replacing an existing file of that name.
    pub fn finish(self) -> Result<FileStamp> {
        let target = self.target.clone();
        self.finish_at(&target)
    }

    /// As [`finish`](Self::finish), with the name `target` in place of the one that the file was begun with, for a
    /// file that is named by its content. `target` must be in the same directory.
    pub fn finish_at(mut self, target: &Path) -> Result<FileStamp> {
        self.flush().map_err(|e| Error::io(&self.path, "write", e))?;
        let Some(file) = &self.file else { unreachable!("finish takes the only handle") };
        if self.durable {
            file.sync_all().map_err(|e| Error::io(&self.path, "sync", e))?;
        }
        std::fs::rename(&self.part, target).map_err(|e| Error::io(&self.path, "rename", e))?;
        self.file = None;
        if self.durable {
            sync_directory_of(target)?;
        }
        Ok(FileStamp { bytes: self.bytes, xxh3: self.hash.digest() })
    }

    fn hand_over(&mut self, data: Option<&[u8]>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write to this file failed"));
        }
        let Some(file) = &mut self.file else { unreachable!("finish takes the only handle") };
        let bytes = data.unwrap_or(&self.buffer);
        let written = file.write_all(bytes);
        self.broken = written.is_err();
        self.handed += bytes.len() as u64;
        if self.handed - self.begun >= WRITEBACK {
            begin_writeback(file, self.begun, self.handed - self.begun);
            self.begun = self.handed;
        }
        if data.is_none() {
            self.buffer.clear();
        }
        written
    }
}

impl std::fmt::Debug for PendingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingFile").field("path", &self.path).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Write for PendingFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + data.len() > BUFFER {
            self.flush()?;
        }
        if data.len() >= BUFFER {
            self.hand_over(Some(data))?;
        } else {
            self.buffer.extend_from_slice(data);
        }
        self.hash.update(data);
        self.bytes += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() && !self.broken { Ok(()) } else { self.hand_over(None) }
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // A destructor cannot report errors, and a remaining `.part` file does no harm.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// Replaces a small file atomically: afterwards `path` holds either its former bytes or `bytes`.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<FileStamp> {
    write_whole(PendingFile::create(path)?, bytes)
}

/// Writes all bytes of a small file and gives it its name.
pub(crate) fn write_whole(mut file: PendingFile, bytes: &[u8]) -> Result<FileStamp> {
    file.write_all(bytes).map_err(|e| Error::io(&file.path, "write", e))?;
    file.finish()
}

/// Renames a file that another library wrote as `unfinished` to `path`; if it is to be `durable`, syncs it before.
pub(crate) fn adopt(unfinished: &Path, path: &Path, durable: bool) -> Result<FileStamp> {
    if durable {
        File::open(unfinished).and_then(|file| file.sync_all()).map_err(|e| Error::io(unfinished, "sync", e))?;
    }
    std::fs::rename(unfinished, path).map_err(|e| Error::io(path, "rename into place", e))?;
    if durable {
        sync_directory_of(path)?;
    }
    stamp(path)
}

/// Returns the file that a path leads to after following symbolic links, whether or not the file
/// exists.
///
/// # Errors
/// [`Error::Format`] if the links form a cycle, that is, after 40 links.
pub fn target(path: &Path) -> Result<PathBuf> {
    // The limit that Linux has.
    const MOST_LINKS: usize = 40;
    let mut target = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&target) {
            // A relative link is resolved from the directory that contains it.
            Ok(next) => target = target.parent().map_or_else(|| next.clone(), |directory| directory.join(&next)),
            // Not a link, or not there. Other errors appear when the file is opened.
            Err(_) => return Ok(target),
        }
    }
    Err(Error::format(path, "a symbolic link that leads back to itself; name another file"))
}

/// Reads the whole file, 1 MiB at a time, and returns its length and checksum.
pub fn stamp(path: &Path) -> Result<FileStamp> {
    let mut file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
    let mut buffer = vec![0; BUFFER];
    let mut hash = Xxh3::new();
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(FileStamp { bytes, xxh3: hash.digest() }),
            Ok(n) => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(path, "read", e)),
        }
    }
}

/// Asks the operating system to begin writing these bytes to disk, without waiting. The disk then
/// works during the computation, `finish` waits less, and dirty pages do not accumulate against a
/// memory limit. The request is only a hint, so its failure is ignored; a failing disk is reported
/// by the sync.
fn begin_writeback(file: &File, from: u64, bytes: u64) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let (Ok(from), Ok(bytes)) = (from.try_into(), bytes.try_into()) else { return };
        #[expect(unsafe_code, reason = "the standard library does not have this call")]
        // SAFETY: takes numbers only, and the file is open for as long as it is borrowed.
        unsafe {
            libc::sync_file_range(file.as_raw_fd(), from, bytes, libc::SYNC_FILE_RANGE_WRITE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, from, bytes);
}

/// Syncs the directory that contains `path`. Without this, a power failure may undo a rename or a
/// removal.
///
/// # Errors
/// [`Error::Io`] if the directory cannot be opened or synced.
pub fn sync_directory_of(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let handle = File::open(directory).map_err(|e| Error::io(directory, "open", e))?;
    handle.sync_all().map_err(|e| Error::io(directory, "sync", e))
}

/// Opens `path`, creates it if needed, and takes an exclusive lock on it; `None` if another handle
/// holds the lock. The kernel releases the lock when the handle is closed, however the process
/// ends.
pub(crate) fn lock(path: &Path) -> Result<Option<File>> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| Error::io(path, "create", e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(Error::io(path, "lock", e)),
        }
        // The former holder may have renamed or removed the file between `open` and `try_lock`.
        // Then the lock is on a file that no longer has this name, and the loop tries again.
        let held = file.metadata().map_err(|e| Error::io(path, "inspect", e))?;
        match std::fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => return Ok(Some(file)),
            Ok(named) if named.file_type().is_symlink() => return Ok(Some(file)),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(path, "inspect", e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn dropped_before_finish_leaves_nothing_and_keeps_the_former_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"former").unwrap();
        let mut file = PendingFile::create(&path).unwrap();
        file.write_all(&vec![7; 3 * BUFFER + 5]).unwrap();
        assert_eq!(names(dir.path()), ["a", "a.part"]);
        drop(file);
        assert_eq!(names(dir.path()), ["a"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"former");
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_written() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("far")).unwrap();
        std::fs::write(at("far/there"), "former").unwrap();
        symlink("far/there", at("near")).unwrap();
        symlink(at("near"), at("nearer")).unwrap();
        symlink("far/new", at("dangling")).unwrap();
        for (link, file) in [("near", "far/there"), ("nearer", "far/there"), ("dangling", "far/new")] {
            let mut pending = PendingFile::create(at(link)).unwrap();
            assert_eq!(pending.path(), at(link));
            pending.write_all(link.as_bytes()).unwrap();
            assert!(at(&format!("{file}.part")).exists(), "beside what it leads to");
            assert!(matches!(PendingFile::create(at(file)), Err(Error::Locked { .. })));
            pending.finish().unwrap();
            assert!(std::fs::symlink_metadata(at(link)).unwrap().is_symlink());
            assert_eq!(std::fs::read(at(file)).unwrap(), link.as_bytes());
        }
        assert_eq!(names(&at("far")), ["new", "there"]);
        symlink("round", at("round")).unwrap();
        assert!(PendingFile::create(at("round")).unwrap_err().to_string().contains("leads back to itself"));
        symlink("no/where", at("nowhere")).unwrap();
        assert!(PendingFile::create(at("nowhere")).unwrap_err().is_bad_input());
    }

    #[test]
    fn a_file_can_be_named_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = PendingFile::create(dir.path().join("begun")).unwrap();
        file.write_all(b"content").unwrap();
        let name = format!("{:032x}", file.digest128());
        assert_eq!(name, format!("{:032x}", xxhash_rust::xxh3::xxh3_128(b"content")));
        file.finish_at(&dir.path().join(&name)).unwrap();
        assert_eq!(names(dir.path()), [name]);
    }

    #[test]
    fn an_abandoned_part_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(dir.path().join("a.part"), vec![1; 100]).unwrap();
        let stamp = replace(&path, b"short").unwrap();
        assert_eq!(stamp.bytes, 5);
        assert_eq!(names(dir.path()), ["a"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn the_second_writer_of_a_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut first = PendingFile::create(&path).unwrap();
        assert!(matches!(PendingFile::create(&path), Err(Error::Locked { .. })));
        first.write_all(b"first").unwrap();
        first.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        replace(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn a_full_disk_is_named() {
        // /dev/full fails every write with ENOSPC.
        let dir = tempfile::tempdir().unwrap();
        let mut file = PendingFile::create(dir.path().join("a")).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        file.file = Some(full);
        file.write_all(b"some bytes").unwrap();
        match file.finish() {
            Err(Error::Io { path, source, .. }) => {
                assert_eq!(path, dir.path().join("a"));
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = PendingFile::create(dir.path().join("no/a")).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        assert!(error.to_string().contains("no/a"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_stamp_is_that_of_the_bytes(pieces in prop::collection::vec(0usize..(BUFFER + BUFFER / 2), 0..5)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            let mut file = PendingFile::create(&path).unwrap();
            let mut all = Vec::new();
            for (i, n) in pieces.iter().enumerate() {
                let piece: Vec<u8> = (0..*n).map(|j| (i * 31 + j * 7) as u8).collect();
                file.write_all(&piece).unwrap();
                all.extend(piece);
                prop_assert_eq!(file.position(), all.len() as u64);
            }
            let written = file.finish().unwrap();
            prop_assert_eq!(&std::fs::read(&path).unwrap(), &all);
            prop_assert_eq!(written, FileStamp { bytes: all.len() as u64, xxh3: xxhash_rust::xxh3::xxh3_64(&all) });
            prop_assert_eq!(written, stamp(&path).unwrap());
        }
    }
}
