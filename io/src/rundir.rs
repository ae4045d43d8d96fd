//! The run directory: a record of which stages of a run are finished, and of their files.
//!
//! ```text
//! <run>/LOCK            text; locked (flock) while a process works in the directory
//! <run>/manifest.json   the finished stages; replaced atomically, never edited in place
//! <run>/<file>          immutable once the manifest lists it
//! ```
//!
//! `LOCK` holds one line: `lowland process <id> on <host> since <RFC 3339, UTC>`.
//!
//! `manifest.json`, format version 3, is one JSON object in UTF-8, indented by two spaces, with
//! these fields in this order:
//!
//! ```text
//! lowland   the crate version that began the run
//! format    3
//! created   RFC 3339, UTC
//! config    the caller's configuration: any JSON, not interpreted in this file
//! sources   [Fingerprint]
//! stages    { name: { done, released, files, data, units: { name: { files, data } } } }
//! xxh3      xxh3 (64 bits, 16 hexadecimal digits) of every byte before the comma that ends `stages`
//! ```
//!
//! `files` is `{ name: { bytes, xxh3 } }` and `data` is any JSON. The last field is `"xxh3"` with
//! 16 digits in this format and in every later one, so that a reader can tell a damaged manifest
//! from a manifest of a newer version. Only version 3 is read.
//!
//! A stage that is `done` may be `released`: every stage that reads its files is finished too, so
//! the files are removed and only `data` is left. Format 1 had no released stages.
//!
//! What must hold:
//! - A file is listed only after it is durable, and removed only after it is no longer listed. So
//!   every listed file exists, whenever the process stops.
//! - Every other file in the directory is a leftover of an interrupted process, and
//!   [`RunDir::open`] removes it. Users must not keep files of their own in the directory.
//!   Subdirectories are neither created nor touched.
//! - In a temporary directory ([`RunDir::temporary`]) "durable" means nothing: no file is synced. A process that is
//!   killed leaves what it would leave anyway; after a power failure files may be empty, but the next run that gets
//!   this directory discards them without reading them.
//! - Nothing is created or removed in a directory that is not a run directory of lowland.
//! - The read-only functions ([`Manifest::read`], [`runs`]) change nothing, and do not prevent a
//!   run from opening its directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::durable::{self, FileStamp, PendingFile};
use crate::file_lock::{FileLock, LOCK_HEAD, lock_text};
use crate::sealed::{check_seal, is_sealed, seal};
use crate::{Error, Fingerprint, Result};

/// The format version of the manifest and of the directory's layout.
const VERSION: u32 = 3;

/// The readable versions, as an error message prints them. The text names the ways out, because a
/// run of another version cannot be resumed.
const READABLE: &str = "3; pass `restart` to discard that run and begin again, or choose another `run_dir`";
const LOCK: &str = "LOCK";
const MANIFEST: &str = "manifest.json";
const MANIFEST_PART: &str = "manifest.json.part";
/// The first bytes of every lowland manifest, the same in all versions.
const HEAD: &str = "{\n  \"lowland\": \"";

/// The files of a stage or unit, by name within the run directory.
pub type Files = BTreeMap<String, FileStamp>;

/// The content of a run directory's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The crate version that began the run.
    pub lowland: String,
    /// The format version of the manifest and of the directory's layout.
    pub format: u32,
    /// When the run began: RFC 3339, UTC.
    pub created: String,
    /// The configuration: any JSON, not interpreted in this file.
    pub config: Value,
    /// The input files.
    pub sources: Vec<Fingerprint>,
    /// Stages that are finished or under way.
    pub stages: BTreeMap<String, StageRecord>,
}

/// The record of a stage of which the whole, or some units, are finished.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Whether the whole stage is finished.
    pub done: bool,
    /// Whether the stage's files were removed after it was finished.
    pub released: bool,
    /// The stage's files. Empty before the stage is done; after a release, only the files that were
    /// kept.
    pub files: Files,
    /// The stage's small results. Null before the stage is done.
    pub data: Value,
    /// The finished units of the stage. Empty once the stage is done.
    pub units: BTreeMap<String, UnitRecord>,
}

/// A finished part of an unfinished stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// The unit's files.
    pub files: Files,
    /// The unit's small results.
    pub data: Value,
}

impl StageRecord {
    fn every_file(&self) -> impl Iterator<Item = (&String, &FileStamp)> {
        self.files.iter().chain(self.units.values().flat_map(|u| &u.files))
    }
}

impl Manifest {
    /// Reads the manifest of the run directory `dir` without taking its lock.
    ///
    /// # Errors
    /// [`Error::ForeignDirectory`] if the directory has no manifest of lowland, [`Error::Corrupt`]
    /// if the manifest's checksum differs, [`Error::Version`] if the manifest is of another
    /// version.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        match std::fs::read(&path) {
            Ok(bytes) => Self::parse(dir, &bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
                Err(Error::ForeignDirectory { path: dir.into() })
            }
            Err(e) => Err(Error::io(path, "read", e)),
        }
    }

    /// Returns every listed file, of stages and of units, with its length and checksum.
    pub fn files(&self) -> impl Iterator<Item = (&str, FileStamp)> {
        self.stages.values().flat_map(StageRecord::every_file).map(|(name, stamp)| (name.as_str(), *stamp))
    }

    /// Returns whether the bytes are a lowland manifest of any version, possibly damaged. Either
    /// the first or the last bytes are enough, because one flipped bit cannot damage both.
    fn is_ours(bytes: &[u8]) -> bool {
        bytes.starts_with(HEAD.as_bytes()) || is_sealed(bytes)
    }

    fn parse(dir: &Path, bytes: &[u8]) -> Result<Self> {
        let path = dir.join(MANIFEST);
        if !Self::is_ours(bytes) {
            return Err(Error::ForeignDirectory { path: dir.into() });
        }
        check_seal(bytes).map_err(|what| Error::Corrupt { path: path.clone(), what: what.into() })?;
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } =
            serde_json::from_slice(bytes).map_err(|e| Error::format(&path, format!("not a manifest: {e}")))?;
        if format != VERSION {
            return Err(Error::Version { path, found: format, readable: READABLE });
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| Error::format(&path, format!("not a manifest: {e}")))?;
        if let Some((name, _)) = manifest.files().find(|(name, _)| !is_plain(name)) {
            return Err(Error::format(&path, format!("it lists \"{name}\", which is not a file name")));
        }
        Ok(manifest)
    }

    fn write(&self, dir: &Path, durable: bool) -> Result<()> {
        let file = PendingFile::begin(dir.join(MANIFEST), durable)?;
        durable::write_whole(file, seal(self).as_bytes()).map(drop)
    }
}

/// Whether a run directory already held a run when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOrigin {
    /// The directory held no run; a new run begins.
    Fresh,
    /// The directory held a run of the same configuration and sources, which is resumed.
    Resumed,
}

/// How thoroughly [`RunDir::verify`] checks files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Each file exists and has the listed length.
    Lengths,
    /// Every byte is read and the checksum compared.
    Checksums,
}

/// A run directory that this process has locked. Can be shared between threads.
///
/// Every change rewrites the whole manifest (some hundred bytes for each file) and syncs it to
/// disk. Units should therefore take seconds, not milliseconds.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    manifest: Mutex<Manifest>,
    /// Whether files are synced. Those of a temporary directory are not.
    durable: bool,
    /// The lock is released when this handle is dropped.
    _lock: FileLock,
}

impl RunDir {
    /// Opens the run directory `path` for a run of `config` over `sources`, creates it if it does
    /// not exist, and removes the unfinished files of an earlier process.
    ///
    /// # Errors
    /// - [`Error::Locked`]: another process, or another handle of this process, holds the lock;
    /// - [`Error::ForeignDirectory`]: the directory holds files and is not a run directory of
    ///   lowland;
    /// - [`Error::Resume`]: the directory holds a run of another configuration or of other sources;
    /// - [`Error::Version`], [`Error::Corrupt`]: the manifest cannot be read.
    pub fn open(path: impl Into<PathBuf>, config: Value, sources: Vec<Fingerprint>) -> Result<(Self, RunOrigin)> {
        let path = path.into();
        let lock = acquire(&path)?;
        let Some(bytes) = read_manifest(&path)? else {
            return Ok((Self::begin(path, lock, config, sources, true)?, RunOrigin::Fresh));
        };
        let mut manifest = Manifest::parse(&path, &bytes)?;
        if let Some((field, was, now)) = difference(&manifest, &config, &sources) {
            return Err(Error::Resume { path, field, was, now });
        }
        // Keep the caller's value rather than the parsed one: later manifests are written from this
        // value, and a number may change when it is parsed.
        manifest.config = config;
        remove_leftovers(&path, &manifest)?;
        Ok((RunDir { path, manifest: Mutex::new(manifest), durable: true, _lock: lock }, RunOrigin::Resumed))
    }

    /// Opens the run directory `path` for a new run and removes every file of the run that it held.
    /// Also works on a directory whose manifest is damaged or of another version.
    ///
    /// # Errors
    /// [`Error::Locked`] and [`Error::ForeignDirectory`] as for [`open`](Self::open).
    pub fn restart(path: impl Into<PathBuf>, config: Value, sources: Vec<Fingerprint>) -> Result<Self> {
        let path = path.into();
        let lock = acquire(&path)?;
        // `begin` writes the new, empty manifest first; every remaining file is then an unlisted
        // leftover.
        Self::begin(path, lock, config, sources, true)
    }

    /// Opens the run directory `path` as [`restart`](Self::restart) does, for a run that only this process runs and
    /// that it removes. Its files are not synced: each sync would take milliseconds, most of the time of a small run.
    /// This is safe because no run is ever continued from them: another run in this directory restarts.
    ///
    /// # Errors
    /// Those of [`restart`](Self::restart).
    pub fn temporary(path: impl Into<PathBuf>, config: Value, sources: Vec<Fingerprint>) -> Result<Self> {
        let path = path.into();
        let lock = acquire(&path)?;
        Self::begin(path, lock, config, sources, false)
    }

    fn begin(path: PathBuf, lock: FileLock, config: Value, sources: Vec<Fingerprint>, durable: bool) -> Result<Self> {
        let manifest = Manifest {
            lowland: env!("CARGO_PKG_VERSION").into(),
            format: VERSION,
            created: now(),
            config,
            sources,
            stages: BTreeMap::new(),
        };
        manifest.write(&path, durable)?;
        remove_leftovers(&path, &manifest)?;
        Ok(RunDir { path, manifest: Mutex::new(manifest), durable, _lock: lock })
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.path
    }

    /// Returns the path at which the run's file `file` lies or should be written.
    pub fn path(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// Begins the run's file `file`, which is durable once it is finished, unless the directory is temporary.
    ///
    /// # Errors
    /// Those of [`PendingFile::create`].
    pub fn create(&self, file: &str) -> Result<PendingFile> {
        PendingFile::begin(self.path(file), self.durable)
    }

    /// Gives the name `file` to a file that another library wrote in this directory as `unfinished`, durably as
    /// [`create`](Self::create) does.
    ///
    /// # Errors
    /// If the file cannot be synced, renamed or read.
    pub fn adopt(&self, unfinished: &Path, file: &str) -> Result<FileStamp> {
        durable::adopt(unfinished, &self.path(file), self.durable)
    }

    /// Returns a copy of the current manifest.
    pub fn manifest(&self) -> Manifest {
        self.lock_manifest().clone()
    }

    /// Returns the record of a stage, if there is one. The record's `done` says whether the stage
    /// is finished.
    pub fn stage(&self, name: &str) -> Option<StageRecord> {
        self.lock_manifest().stages.get(name).cloned()
    }

    /// Returns the names of a stage's finished units, sorted.
    pub fn units(&self, stage: &str) -> Vec<String> {
        self.lock_manifest().stages.get(stage).map_or_else(Vec::new, |record| record.units.keys().cloned().collect())
    }

    /// Returns the record of a finished unit of a stage.
    pub fn unit(&self, stage: &str, unit: &str) -> Option<UnitRecord> {
        self.lock_manifest().stages.get(stage)?.units.get(unit).cloned()
    }

    /// Records that a stage is finished. `files` must be durable and in this directory, as after
    /// [`PendingFile::finish`](crate::PendingFile::finish). The records of the stage's units are
    /// dropped, and the units' files that are not among `files` are removed.
    ///
    /// # Panics
    /// If a file's name is not plain: empty, `.`, `..`, with a `/`, `LOCK`, `manifest.json`, or
    /// ending in `.part`.
    pub fn finish_stage(&self, name: &str, files: Vec<(String, FileStamp)>, data: Value) -> Result<()> {
        let files = listed(files);
        self.change(|stages| {
            stages
                .insert(name.into(), StageRecord { done: true, released: false, files, data, units: BTreeMap::new() });
        })
    }

    /// Records that a unit of a stage is finished. Replaces an earlier unit of the same name, whose
    /// files are removed unless listed again. A checkpoint is such a unit: it is finished again and
    /// again under alternating file names.
    ///
    /// # Panics
    /// As [`finish_stage`](Self::finish_stage), and if the stage is already finished.
    pub fn finish_unit(&self, stage: &str, unit: &str, files: Vec<(String, FileStamp)>, data: Value) -> Result<()> {
        let files = listed(files);
        self.change(|stages| {
            let record = stages.entry(stage.into()).or_default();
            assert!(!record.done, "unit {unit} of stage {stage}, which is finished");
            record.units.insert(unit.into(), UnitRecord { files, data });
        })
    }

    /// Removes the files of a finished stage, except those named in `kept`, once every stage that
    /// reads the files is finished. The record of the stage stays, with `done` and `data`.
    /// Releasing a stage twice changes nothing.
    ///
    /// # Panics
    /// If the stage is not finished, because an unfinished stage needs its files.
    pub fn release_stage(&self, name: &str, kept: &[&str]) -> Result<()> {
        self.change(|stages| match stages.get_mut(name) {
            Some(record) if record.done => {
                record.released = true;
                record.files.retain(|file, _| kept.contains(&file.as_str()));
            }
            _ => panic!("stage {name} is released, but it is not finished"),
        })
    }

    /// Removes the record of a stage and of its units, then their files.
    pub fn drop_stage(&self, name: &str) -> Result<()> {
        self.change(|stages| {
            stages.remove(name);
        })
    }

    /// Checks the files of a stage and of its units against the manifest. A stage that has no
    /// record, or that was released without kept files, has no files to check.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the first file that differs, and the difference.
    pub fn verify(&self, stage: &str, depth: VerifyDepth) -> Result<()> {
        let record = self.stage(stage).unwrap_or_default();
        self.verify_files(record.every_file(), depth)
    }

    /// Checks the files of one unit, as [`verify`](Self::verify) checks the files of a stage.
    pub fn verify_unit(&self, stage: &str, unit: &str, depth: VerifyDepth) -> Result<()> {
        let record = self.unit(stage, unit).unwrap_or_default();
        self.verify_files(record.files.iter(), depth)
    }

    fn verify_files<'a>(
        &self,
        files: impl Iterator<Item = (&'a String, &'a FileStamp)>,
        depth: VerifyDepth,
    ) -> Result<()> {
        for (name, stamp) in files {
            verify_file(&self.path(name), *stamp, depth)?;
        }
        Ok(())
    }

    /// Deletes the run: its files, leftovers, the manifest, the lock and the directory.
    ///
    /// # Errors
    /// [`Error::Io`], among others if the directory has subdirectories, which are not deleted.
    pub fn remove(self) -> Result<()> {
        let manifest = self.lock_manifest().clone();
        // Leftovers of unfinished stages are not listed, so the loop below would miss them.
        remove_leftovers(&self.path, &manifest)?;
        for (name, _) in manifest.files() {
            remove_if_there(&self.path(name))?;
        }
        remove_if_there(&self.path(MANIFEST))?;
        // Removed while the lock is still held: another process that has opened the file meanwhile
        // detects, once it gets the lock, that the name is gone.
        remove_if_there(&self.path(LOCK))?;
        std::fs::remove_dir(&self.path).map_err(|e| Error::io(&self.path, "remove", e))
    }

    fn lock_manifest(&self) -> MutexGuard<'_, Manifest> {
        // The manifest is replaced as a whole, so a panic in another thread cannot leave it half
        // changed.
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the changed manifest, then replaces the manifest in memory, then removes the files
    /// that only the former manifest listed. If writing fails, nothing has changed.
    fn change(&self, edit: impl FnOnce(&mut BTreeMap<String, StageRecord>)) -> Result<()> {
        let mut current = self.lock_manifest();
        let mut next = current.clone();
        edit(&mut next.stages);
        next.write(&self.path, self.durable)?;
        let former = std::mem::replace(&mut *current, next);
        let kept: BTreeSet<&str> = current.files().map(|(name, _)| name).collect();
        for (name, _) in former.files().filter(|(name, _)| !kept.contains(name)) {
            remove_if_there(&self.path(name))?;
        }
        Ok(())
    }
}

/// A run directory found by [`runs`].
#[derive(Debug)]
pub struct RunSummary {
    /// The directory.
    pub path: PathBuf,
    /// The manifest, or the reason why it cannot be read.
    pub manifest: Result<Manifest>,
    /// The process that holds the lock now, with its host and the time since when.
    pub held_by: Option<String>,
    /// The sum of the lengths of the directory's files, unfinished ones included.
    pub bytes: u64,
}

/// Returns the run directories among `dir` and its immediate subdirectories, sorted by path. Skips
/// directories that are not run directories or cannot be read. Includes runs whose manifest is
/// damaged or of another version.
///
/// Creates and changes nothing, and does not disturb a running process.
///
/// # Errors
/// [`Error::Io`] if `dir` itself cannot be listed.
pub fn runs(dir: &Path) -> Result<Vec<RunSummary>> {
    let below = entries(dir)?.into_iter().map(|name| dir.join(name)).filter(|path| path.is_dir());
    let mut found: Vec<RunSummary> = std::iter::once(dir.to_path_buf()).chain(below).filter_map(summary).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Returns the summary of the run directory `path`; `None` if it is not a run directory.
fn summary(path: PathBuf) -> Option<RunSummary> {
    // Checked before reading: in a foreign directory, a named pipe may have this name, and reading
    // it would block.
    if !path.join(MANIFEST).is_file() {
        return None;
    }
    let manifest = match Manifest::read(&path) {
        Err(Error::ForeignDirectory { .. }) => return None,
        // An unreadable manifest does not show whether it is lowland's, but the lock file may.
        Err(Error::Io { .. }) if !lock_text(&path.join(LOCK)).starts_with(LOCK_HEAD) => return None,
        manifest => manifest,
    };
    let length = |name| std::fs::symlink_metadata(path.join(name)).ok().filter(|m| m.is_file()).map_or(0, |m| m.len());
    let bytes = entries(&path).ok()?.into_iter().map(length).sum();
    let held_by = FileLock::held_by(&path.join(LOCK));
    Some(RunSummary { path, manifest, held_by, bytes })
}

/// Creates the directory if needed, checks that it is a run directory or empty, and takes its lock.
fn acquire(path: &Path) -> Result<FileLock> {
    std::fs::create_dir_all(path).map_err(|e| Error::io(path, "create", e))?;
    loop {
        // Before locking, because locking would create a file in a foreign directory.
        check_ours(path)?;
        let lock_path = path.join(LOCK);
        let mut lock = match FileLock::take(&lock_path) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(Error::Locked { path: path.into(), holder: FileLock::holder(&lock_path) }),
            // The former holder has removed the directory since the check.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(path).map_err(|e| Error::io(path, "create", e))?;
                continue;
            }
            Err(e) => return Err(e),
        };
        // Checked again under the lock: only now can no other process change the directory.
        check_ours(path)?;
        lock.sign()?;
        return Ok(lock);
    }
}

/// Checks that a directory can be used for a run: it is empty, or it holds a manifest of lowland,
/// or it holds only the files of a process that stopped before writing its first manifest.
///
/// Another process may begin or remove its run during the check. So the names are listed before the
/// manifest is read: a manifest exists before any file that it lists, and is removed after all of
/// them. A file that still exists without a manifest is therefore not lowland's.
fn check_ours(path: &Path) -> Result<()> {
    let foreign = || Err(Error::ForeignDirectory { path: path.into() });
    let names = match entries(path) {
        // The former holder has removed the directory; taking the lock reports that.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    let ours = || read_manifest(path).map(|bytes| bytes.map(|bytes| Manifest::is_ours(&bytes)));
    match ours()? {
        Some(true) => return Ok(()),
        Some(false) => return foreign(),
        None => {}
    }
    for name in names {
        match name.to_str() {
            Some(LOCK) => {
                let text = lock_text(&path.join(LOCK));
                if !(text.is_empty() || text.starts_with(LOCK_HEAD)) {
                    return foreign();
                }
            }
            Some(MANIFEST | MANIFEST_PART) => {}
            // Not foreign if the file is gone again, or if another run has begun meanwhile.
            _ if std::fs::symlink_metadata(path.join(&name)).is_ok() && ours()? != Some(true) => return foreign(),
            _ => {}
        }
    }
    Ok(())
}

fn read_manifest(dir: &Path) -> Result<Option<Vec<u8>>> {
    let path = dir.join(MANIFEST);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, "read", e)),
    }
}

fn entries(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let list = || std::fs::read_dir(dir)?.map(|e| Ok(e?.file_name())).collect::<std::io::Result<Vec<_>>>();
    list().map_err(|e| Error::io(dir, "list", e))
}

fn remove_leftovers(dir: &Path, manifest: &Manifest) -> Result<()> {
    let listed: BTreeSet<&str> = manifest.files().map(|(name, _)| name).chain([LOCK, MANIFEST]).collect();
    for entry in entries(dir)? {
        let path = dir.join(&entry);
        let is_listed = entry.to_str().is_some_and(|name| listed.contains(name));
        // A symbolic link is removed, not its target. A directory stays.
        if !is_listed && !std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove", e)),
        _ => Ok(()),
    }
}

fn verify_file(path: &Path, listed: FileStamp, depth: VerifyDepth) -> Result<()> {
    let corrupt = |what: String| Err(Error::Corrupt { path: path.into(), what });
    let found = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return corrupt("listed in the manifest, but missing".into());
        }
        Err(e) => return Err(Error::io(path, "inspect", e)),
    };
    if found != listed.bytes {
        return corrupt(format!("{found} bytes where the manifest lists {}", listed.bytes));
    }
    if depth == VerifyDepth::Checksums {
        let found = durable::stamp(path)?;
        if found.xxh3 != listed.xxh3 {
            return corrupt(format!(
                "its checksum is {:016x} where the manifest lists {:016x}",
                found.xxh3, listed.xxh3
            ));
        }
    }
    Ok(())
}

/// Returns whether a name can neither lead out of the directory nor collide with the run
/// directory's own files.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['/', '\0'])
        && !matches!(name, "." | ".." | LOCK | MANIFEST)
        && !name.ends_with(".part")
}

fn listed(files: Vec<(String, FileStamp)>) -> Files {
    for (name, _) in &files {
        assert!(is_plain(name), "\"{name}\" is not a plain file name");
    }
    files.into_iter().collect()
}

/// Returns the first field in which a run differs from the manifest, in the order of field names:
/// its JSON path, and both values as text.
fn difference(was: &Manifest, config: &Value, sources: &[Fingerprint]) -> Option<(String, String, String)> {
    // The new values are also converted to text and back, so that numbers are compared as the
    // manifest stores them.
    let through_text = |value: &Value| serde_json::from_str(&value.to_string()).unwrap_or(Value::Null);
    let as_value = |sources: &[Fingerprint]| serde_json::to_value(sources).unwrap_or(Value::Null);
    // The method is compared first: a different method changes which other options exist.
    first_difference("method", was.config.get("method"), config.get("method"))
        .or_else(|| first_difference("", Some(&was.config), Some(&through_text(config))))
        .or_else(|| first_difference("sources", Some(&as_value(&was.sources)), Some(&as_value(sources))))
}

fn first_difference(at: &str, was: Option<&Value>, now: Option<&Value>) -> Option<(String, String, String)> {
    let nothing = Value::Null;
    match (was.unwrap_or(&nothing), now.unwrap_or(&nothing)) {
        (a, b) if a == b => None,
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                let inner = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                first_difference(&inner, a.get(key), b.get(key))
            })
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|i| first_difference(&format!("{at}[{i}]"), a.get(i), b.get(i)))
        }
        (a, b) => Some((at.into(), a.to_string(), b.to_string())),
    }
}

/// Returns the time now as RFC 3339, UTC, in whole seconds.
pub fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    rfc3339(since.map_or(0, |d| d.as_secs()))
}

/// Formats nanoseconds since the Unix epoch as RFC 3339, UTC, with nine decimals.
pub(crate) fn rfc3339_nanos(nanoseconds: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let whole = rfc3339(nanoseconds / SECOND);
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), nanoseconds % SECOND)
}

/// Formats seconds since the Unix epoch as RFC 3339, UTC.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is the last
    // day of a year and the month follows from a linear formula.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use serde_json::json;

    fn sources(bytes: u64) -> Vec<Fingerprint> {
        vec![Fingerprint {
            path: "in.npy".into(),
            bytes,
            modified: 1_700_000_000_123_456_789,
            header: u64::MAX - 3,
            etag: None,
        }]
    }

    fn config() -> Value {
        json!({"n_neighbors": 15, "min_dist": 0.1_f32, "layout": {"seed": 7, "epochs": [1, 2]}})
    }

    fn open(dir: &Path) -> Result<(RunDir, RunOrigin)> {
        RunDir::open(dir, config(), sources(100))
    }

    fn put(run: &RunDir, name: &str, bytes: &[u8]) -> (String, FileStamp) {
        (name.into(), durable::replace(&run.path(name), bytes).unwrap())
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = entries(dir).unwrap().into_iter().map(|n| n.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_run_is_found_again_as_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/run");
        let (run, opened) = open(&path).unwrap();
        assert_eq!(opened, RunOrigin::Fresh);
        assert!(run.stage("scan").is_none());
        let files = vec![put(&run, "mean.bin", b"mean")];
        run.finish_stage("scan", files, json!({"rows": 12})).unwrap();
        let files = vec![put(&run, "list-0", b"zero")];
        run.finish_unit("neighbors", "0", files, json!(null)).unwrap();
        let before = run.manifest();
        drop(run);

        let (run, opened) = open(&path).unwrap();
        assert_eq!(opened, RunOrigin::Resumed);
        assert_eq!(run.manifest(), before);
        let scan = run.stage("scan").unwrap();
        assert!(scan.done);
        assert_eq!(scan.data["rows"], 12);
        let neighbors = run.stage("neighbors").unwrap();
        assert!(!neighbors.done);
        assert_eq!(neighbors.units["0"].files["list-0"].bytes, 4);
        run.verify("scan", VerifyDepth::Checksums).unwrap();
        run.verify("neighbors", VerifyDepth::Checksums).unwrap();
        run.verify("unheard of", VerifyDepth::Checksums).unwrap();
        assert_eq!(Manifest::read(&path).unwrap(), before);
    }

    #[test]
    fn files_go_when_they_are_no_longer_listed() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let files = vec![put(&run, "at-1", b"one")];
        run.finish_unit("layout", "checkpoint", files, json!(1)).unwrap();
        let files = vec![put(&run, "at-2", b"two")];
        run.finish_unit("layout", "checkpoint", files, json!(2)).unwrap();
        assert_eq!(names(dir.path()), ["LOCK", "at-2", "manifest.json"]);
        // A stage keeps a unit's file by listing it.
        let two = run.stage("layout").unwrap().units["checkpoint"].files["at-2"];
        run.finish_stage("layout", vec![("at-2".into(), two), put(&run, "end", b"end")], json!(null)).unwrap();
        assert_eq!(names(dir.path()), ["LOCK", "at-2", "end", "manifest.json"]);
        run.drop_stage("layout").unwrap();
        assert_eq!(names(dir.path()), ["LOCK", "manifest.json"]);
        run.remove().unwrap();
        assert!(!dir.path().exists());
    }

    #[test]
    fn a_released_stage_keeps_its_record_and_not_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let list = put(&run, "list", b"list");
        run.finish_stage("index", vec![list.clone(), put(&run, "shard", b"shard")], json!({"lists": 3})).unwrap();
        // A file that another stage lists too is not removed.
        run.finish_stage("neighbors", vec![list], json!(null)).unwrap();
        run.release_stage("index", &[]).unwrap();
        run.release_stage("index", &[]).unwrap();
        assert_eq!(names(dir.path()), ["LOCK", "list", "manifest.json"]);
        drop(run);
        let (run, _) = open(dir.path()).unwrap();
        let record = run.stage("index").unwrap();
        assert!(record.done && record.released && record.files.is_empty());
        assert_eq!(record.data["lists"], 3);
        assert!(!run.stage("neighbors").unwrap().released);
        run.verify("index", VerifyDepth::Checksums).unwrap();
        run.drop_stage("index").unwrap();
        assert!(run.stage("index").is_none());
    }

    #[test]
    #[should_panic(expected = "not finished")]
    fn a_stage_under_way_is_not_released() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        run.finish_unit("layout", "0", vec![], json!(null)).unwrap();
        let _ = run.release_stage("layout", &[]);
    }

    #[test]
    fn units_are_found_and_checked_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        for unit in ["b", "a"] {
            let files = vec![put(&run, unit, unit.as_bytes())];
            run.finish_unit("neighbors", unit, files, json!({"unit": unit})).unwrap();
        }
        assert_eq!(run.units("neighbors"), ["a", "b"]);
        assert!(run.units("layout").is_empty());
        assert_eq!(run.unit("neighbors", "b").unwrap().data["unit"], "b");
        assert!(run.unit("neighbors", "c").is_none() && run.unit("layout", "a").is_none());
        std::fs::write(run.path("a"), b"A").unwrap();
        run.verify_unit("neighbors", "b", VerifyDepth::Checksums).unwrap();
        run.verify_unit("neighbors", "a", VerifyDepth::Lengths).unwrap();
        run.verify_unit("neighbors", "c", VerifyDepth::Checksums).unwrap();
        let error = run.verify_unit("neighbors", "a", VerifyDepth::Checksums).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { path, .. } if *path == run.path("a")), "{error}");
    }

    #[test]
    fn runs_are_listed_with_who_holds_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (run, _) = open(&at("b held")).unwrap();
        run.finish_stage("scan", vec![put(&run, "f", &[7; 5000])], json!(null)).unwrap();
        let (damaged, _) = open(&at("c damaged")).unwrap();
        drop(damaged);
        let manifest = at("c damaged").join(MANIFEST);
        let mut bytes = std::fs::read(&manifest).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&manifest, bytes).unwrap();
        let (older, _) = open(&at("a older")).unwrap();
        Manifest { format: 1, ..older.manifest() }.write(&at("a older"), true).unwrap();
        drop(older);
        std::fs::create_dir_all(at("a stranger/below")).unwrap();
        std::fs::write(at("a stranger").join(MANIFEST), "{}").unwrap();
        std::fs::create_dir(at("empty")).unwrap();
        std::fs::create_dir_all(at("neither").join(MANIFEST)).unwrap();
        drop(open(&at("deep/er")).unwrap());
        std::fs::write(at("file"), "x").unwrap();

        let before = names(&at("b held"));
        for _ in 0..2 {
            let found = runs(dir.path()).unwrap();
            let paths: Vec<_> = found.iter().map(|r| r.path.clone()).collect();
            assert_eq!(paths, [at("a older"), at("b held"), at("c damaged")]);
            assert!(matches!(found[0].manifest, Err(Error::Version { found: 1, .. })));
            assert_eq!(*found[1].manifest.as_ref().unwrap(), run.manifest());
            assert!(matches!(found[2].manifest, Err(Error::Corrupt { .. })));
            let holder = found[1].held_by.as_ref().unwrap();
            assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
            assert!(found[0].held_by.is_none() && found[2].held_by.is_none());
            let lengths = before.iter().map(|n| at("b held").join(n).metadata().unwrap().len()).sum::<u64>();
            assert!(lengths > 5000);
            assert_eq!(found[1].bytes, lengths);
        }
        assert_eq!(names(&at("b held")), before);
        assert!(names(&at("empty")).is_empty());

        // `runs` can be called on a run directory itself. Without a `LOCK`, the run has no holder,
        // and no `LOCK` is created.
        drop(run);
        std::fs::remove_file(at("b held").join(LOCK)).unwrap();
        let found = runs(&at("b held")).unwrap();
        assert_eq!(found.iter().map(|r| r.path.clone()).collect::<Vec<_>>(), [at("b held")]);
        assert!(found[0].held_by.is_none());
        assert_eq!(names(&at("b held")), ["f", "manifest.json"]);
        assert!(matches!(runs(&at("nowhere")), Err(Error::Io { .. })));
    }

    #[test]
    fn listing_runs_does_not_block_a_run() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let looking = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while looking.load(std::sync::atomic::Ordering::Relaxed) {
                        let _ = runs(dir.path());
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                });
            }
            let opened: Vec<_> = (0..50).map(|_| open(dir.path()).map(drop)).collect();
            looking.store(false, std::sync::atomic::Ordering::Relaxed);
            assert!(opened.iter().all(|r| r.is_ok()), "{opened:?}");
        });
    }

    #[test]
    fn leftovers_are_removed_on_open() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let files = vec![put(&run, "kept", b"kept")];
        run.finish_stage("scan", files, json!(null)).unwrap();
        drop(run);
        for name in ["orphan", "kept.part", "manifest.json.part"] {
            std::fs::write(dir.path().join(name), b"left").unwrap();
        }
        std::fs::create_dir(dir.path().join("somebody")).unwrap();
        let (_run, opened) = open(dir.path()).unwrap();
        assert_eq!(opened, RunOrigin::Resumed);
        assert_eq!(names(dir.path()), ["LOCK", "kept", "manifest.json", "somebody"]);
    }

    #[test]
    fn a_second_handle_is_refused_and_told_who_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        match open(dir.path()) {
            Err(Error::Locked { holder, .. }) => {
                assert!(holder.contains(&format!("process {} on ", std::process::id())), "{holder}");
                assert!(holder.ends_with('Z'), "{holder}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(RunDir::restart(dir.path(), config(), vec![]), Err(Error::Locked { .. })));
        drop(run);
        open(dir.path()).unwrap();
    }

    #[test]
    fn starting_or_removed_run_is_not_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    let (run, _) = open(&path).unwrap();
                    std::fs::write(run.path("training.f32"), b"begun").unwrap();
                    run.remove().unwrap();
                }
                over.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let looked = check_ours(&path);
                assert!(looked.is_ok(), "{looked:?}");
            }
        });
    }

    #[test]
    fn foreign_directory_is_left_alone() {
        for (name, bytes) in [
            ("notes.txt", &b"mine"[..]),
            ("manifest.json", b"{\"name\": \"a web page\"}"),
            ("manifest.json", b""),
            ("LOCK", b"held by another program"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), bytes).unwrap();
            assert!(matches!(open(dir.path()), Err(Error::ForeignDirectory { .. })), "{name}");
            let restarted = RunDir::restart(dir.path(), config(), vec![]);
            assert!(matches!(restarted, Err(Error::ForeignDirectory { .. })), "{name}");
            assert_eq!(names(dir.path()), [name]);
            assert_eq!(std::fs::read(dir.path().join(name)).unwrap(), bytes);
        }
    }

    #[test]
    fn stopped_before_the_first_manifest_is_fresh() {
        for (lock, part) in
            [(Some(""), None), (Some("lowland process 1 on h since t\n"), Some("{\n")), (None, Some(""))]
        {
            let dir = tempfile::tempdir().unwrap();
            if let Some(lock) = lock {
                std::fs::write(dir.path().join(LOCK), lock).unwrap();
            }
            if let Some(part) = part {
                std::fs::write(dir.path().join(MANIFEST_PART), part).unwrap();
            }
            let (_run, opened) = open(dir.path()).unwrap();
            assert_eq!(opened, RunOrigin::Fresh);
            assert_eq!(names(dir.path()), ["LOCK", "manifest.json"]);
        }
    }

    #[test]
    fn another_configuration_or_source_is_named() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let check = |edit: &dyn Fn(&mut Value, &mut Vec<Fingerprint>), expected: (&str, &str, &str)| {
            let (mut config, mut sources) = (config(), sources(100));
            edit(&mut config, &mut sources);
            match RunDir::open(dir.path(), config, sources) {
                Err(Error::Resume { field, was, now, .. }) => {
                    assert_eq!((field.as_str(), was.as_str(), now.as_str()), expected);
                }
                other => panic!("{other:?}"),
            }
        };
        check(&|c, _| c["n_neighbors"] = json!(30), ("n_neighbors", "15", "30"));
        check(&|c, _| c["layout"]["epochs"] = json!([1, 3]), ("layout.epochs[1]", "2", "3"));
        check(&|c, _| c["layout"]["epochs"] = json!([1]), ("layout.epochs[1]", "2", "null"));
        check(&|c, _| c["added"] = json!("x"), ("added", "null", "\"x\""));
        check(&|_, s| s[0].bytes = 101, ("sources[0].bytes", "100", "101"));
        check(
            &|_, s| s.clear(),
            (
                "sources[0]",
                "{\"bytes\":100,\"header\":18446744073709551612,\"modified\":1700000000123456789,\"path\":\"in.npy\"}",
                "null",
            ),
        );
        // When both differ, the configuration is reported first.
        check(
            &|c, s| {
                c["min_dist"] = json!(0.5);
                s[0].bytes = 1;
            },
            ("min_dist", "0.10000000149011612", "0.5"),
        );
        assert_eq!(open(dir.path()).unwrap().1, RunOrigin::Resumed);
    }

    #[test]
    fn restart_discards_a_run_even_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let files = vec![put(&run, "old", b"old")];
        run.finish_stage("scan", files, json!(null)).unwrap();
        drop(run);
        let manifest = dir.path().join(MANIFEST);
        let mut bytes = std::fs::read(&manifest).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&manifest, bytes).unwrap();
        assert!(matches!(open(dir.path()), Err(Error::Corrupt { .. })));
        let run = RunDir::restart(dir.path(), json!({"n_neighbors": 5}), vec![]).unwrap();
        assert!(run.stage("scan").is_none());
        assert_eq!(names(dir.path()), ["LOCK", "manifest.json"]);
        run.remove().unwrap();
    }

    #[test]
    fn temporary_run_begins_anew_and_has_the_files_of_any_run() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            // The second time, the directory is what a killed process left.
            let run = RunDir::temporary(dir.path(), config(), vec![]).unwrap();
            assert!(run.stage("scan").is_none());
            assert_eq!(names(dir.path()), ["LOCK", "manifest.json"]);
            let mut file = run.create("f").unwrap();
            file.write_all(b"four").unwrap();
            let written = file.finish().unwrap();
            std::fs::write(run.path("other.part"), b"by a library").unwrap();
            let adopted = run.adopt(&run.path("other.part"), "other").unwrap();
            run.finish_stage("scan", vec![("f".into(), written), ("other".into(), adopted)], json!(1)).unwrap();
            run.verify("scan", VerifyDepth::Checksums).unwrap();
            assert_eq!(Manifest::read(dir.path()).unwrap(), run.manifest());
        }
        let run = RunDir::temporary(dir.path().join("own"), config(), vec![]).unwrap();
        run.remove().unwrap();
        assert!(!dir.path().join("own").exists());
    }

    #[test]
    fn any_flipped_bit_or_cut_of_the_manifest_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let files = vec![put(&run, "f", b"f")];
        run.finish_stage("scan", files, json!({"text": "ü"})).unwrap();
        drop(run);
        let path = dir.path().join(MANIFEST);
        let good = std::fs::read(&path).unwrap();
        serde_json::from_slice::<Value>(&good).expect("the manifest is JSON as it stands");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Manifest::parse(dir.path(), &bad), Err(Error::Corrupt { .. })), "bit {bit}");
        }
        for length in HEAD.len()..good.len() {
            assert!(
                matches!(Manifest::parse(dir.path(), &good[..length]), Err(Error::Corrupt { .. })),
                "cut to {length}"
            );
        }
    }

    #[test]
    fn another_version_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let later = Manifest { format: 9, ..run.manifest() };
        drop(run);
        later.write(dir.path(), true).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Version { found: 9, .. }));
        assert!(error.to_string().contains("format version 9; this build reads 3; pass `restart`"), "{error}");
        RunDir::restart(dir.path(), config(), vec![]).unwrap();
    }

    #[test]
    fn a_manifest_cannot_name_files_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let mut evil = run.manifest();
        drop(run);
        let stamp = FileStamp { bytes: 0, xxh3: 0 };
        evil.stages.entry("scan".into()).or_default().files.insert("../outside".into(), stamp);
        evil.write(dir.path(), true).unwrap();
        assert!(matches!(open(dir.path()), Err(Error::Format { .. })));
    }

    #[test]
    fn verify_names_the_file_and_the_difference() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let files = vec![put(&run, "f", b"four")];
        run.finish_stage("scan", files, json!(null)).unwrap();
        let check = |depth, expected: Option<&str>| match (run.verify("scan", depth), expected) {
            (Ok(()), None) => {}
            (Err(Error::Corrupt { path, what }), Some(text)) => {
                assert_eq!(path, run.path("f"));
                assert!(what.contains(text), "{what}");
            }
            other => panic!("{other:?}"),
        };
        check(VerifyDepth::Checksums, None);
        std::fs::write(run.path("f"), b"fouR").unwrap();
        check(VerifyDepth::Lengths, None);
        check(VerifyDepth::Checksums, Some("checksum"));
        std::fs::write(run.path("f"), b"fou").unwrap();
        check(VerifyDepth::Lengths, Some("3 bytes where the manifest lists 4"));
        std::fs::remove_file(run.path("f")).unwrap();
        check(VerifyDepth::Lengths, Some("but missing"));
    }

    #[test]
    fn units_may_be_finished_by_several_threads() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        std::thread::scope(|scope| {
            for t in 0..4 {
                let run = &run;
                scope.spawn(move || {
                    for i in 0..5 {
                        let name = format!("u{t}-{i}");
                        let files = vec![put(run, &name, name.as_bytes())];
                        run.finish_unit("neighbors", &name, files, json!(i)).unwrap();
                    }
                });
            }
        });
        assert_eq!(run.stage("neighbors").unwrap().units.len(), 20);
        run.verify("neighbors", VerifyDepth::Checksums).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), run.manifest());
    }

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_709_251_200), "2024-03-01T00:00:00Z");
        assert_eq!(rfc3339(4_102_444_799), "2099-12-31T23:59:59Z");
    }

    /// A resumed run must read exactly the numbers that an uninterrupted run has in memory.
    #[test]
    fn numbers_survive_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = open(dir.path()).unwrap();
        let mut state = 1_u64;
        let numbers: Vec<f64> = (0..2_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                f64::from_bits((state >> 12) | 0x3ff0_0000_0000_0000) - 1.0
            })
            .collect();
        run.finish_stage("scan", vec![], json!(numbers)).unwrap();
        drop(run);
        let (run, _) = open(dir.path()).unwrap();
        let read: Vec<f64> = serde_json::from_value(run.stage("scan").unwrap().data).unwrap();
        let differing = read.iter().zip(&numbers).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "of {}: serde_json needs its feature float_roundtrip", numbers.len());
    }
}
