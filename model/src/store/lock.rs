//! The lock of a model, and every change that its holder can make.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lowland_io::{Error as IoError, FileLock};

use super::names::{self, CURRENT, DATA, ENDED, LOCK, RUNS};
use super::{ModelDir, ObjectRef, ObjectWriter, Version, pointer};
use crate::{Error, Result};

/// The time between two attempts to take a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(100);

/// The lock of a model, held until the value is dropped: the only way to change the model.
#[derive(Debug)]
pub struct ModelLock<'a> {
    pub(super) model: &'a ModelDir,
    /// The number of the next object that this holder begins.
    serial: AtomicU64,
    _file: FileLock,
    /// How many further steps succeed, in a test of what an interruption leaves.
    #[cfg(test)]
    pub(super) steps: std::cell::Cell<u32>,
}

impl ModelDir {
    /// Takes the lock of the model. If another process holds it, waits while `stop` returns false if `wait` is set.
    ///
    /// # Errors
    /// [`lowland_io::Error::Locked`] names the holder, if `wait` is not set; [`Error::Stopped`] if `stop` returned true;
    /// [`Error::ReadOnly`] if the directory cannot be written.
    pub fn lock(&self, wait: bool, stop: &mut dyn FnMut() -> bool) -> Result<ModelLock<'_>> {
        let path = self.path().join(LOCK);
        loop {
            if let Some(mut file) = FileLock::take(&path).map_err(|e| self.unwritable(e))? {
                file.sign()?;
                self.make_folders()?;
                return Ok(ModelLock {
                    model: self,
                    serial: AtomicU64::new(0),
                    _file: file,
                    #[cfg(test)]
                    steps: std::cell::Cell::new(u32::MAX),
                });
            }
            if !wait {
                return Err(IoError::Locked { path: self.path().into(), holder: FileLock::holder(&path) }.into());
            }
            if stop() {
                return Err(Error::Stopped { path: self.path().into() });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns the error that the lock file cannot be written, in the words of a model if the place is read-only.
    fn unwritable(&self, error: IoError) -> Error {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match error {
            IoError::Io { source, .. } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem) => {
                Error::ReadOnly { path: self.path().into(), source }
            }
            error => error.into(),
        }
    }
}

impl ModelLock<'_> {
    /// Returns the model.
    pub fn model(&self) -> &ModelDir {
        self.model
    }

    /// Returns the scratch directory of the run `run_id`, which is made if needed.
    ///
    /// # Errors
    /// [`Error::Name`] if the name cannot be that of a file; [`Error::Io`].
    pub fn run(&self, run_id: &str) -> Result<PathBuf> {
        let path = self.run_path(run_id)?;
        std::fs::create_dir_all(&path).map_err(|e| IoError::io(&path, "create", e))?;
        Ok(path)
    }

    /// Begins an object of the kind `kind`, which is also the ending of its file. Several objects can be written at
    /// the same time.
    ///
    /// # Errors
    /// [`Error::Name`] if the kind is not 1 to 32 lower-case letters and hyphens; [`Error::Io`].
    pub fn object(&self, kind: &str) -> Result<ObjectWriter> {
        names::check_kind(kind)?;
        ObjectWriter::begin(self.model.path().join(DATA), kind, self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes an object that no version names, such as one of a draft.
    ///
    /// # Errors
    /// [`Error::Name`] if a version names the object; [`Error::Damaged`] if a record cannot be read.
    pub fn discard(&self, object: &ObjectRef) -> Result<()> {
        for number in self.model.versions()? {
            if self.model.version(number)?.objects.values().any(|named| named.name == object.name) {
                return Err(Error::Name { name: object.name.clone(), why: "a version names the object" });
            }
        }
        remove_if_there(&self.model.object_path(object))
    }

    /// Returns the number that [`publish`](Self::publish) gives to the next version.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be read.
    pub fn next_number(&self) -> Result<u64> {
        let newest = self.model.versions()?.last().copied();
        Ok(newest.max(self.whole_current()?).unwrap_or(0) + 1)
    }

    /// Returns the number of the current version, or none if `CURRENT` is damaged: publishing writes it anew.
    fn whole_current(&self) -> Result<Option<u64>> {
        match self.model.current() {
            Err(Error::Damaged { .. }) => Ok(None),
            current => current,
        }
    }

    /// Returns the version that the run `run_id` has published, and makes it current if it is meant for readers and the
    /// process stopped before that.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a record is; [`Error::Io`].
    pub fn published(&self, run_id: &str) -> Result<Option<Version>> {
        let version = self.model.find_run(run_id)?;
        if let Some(version) = version.as_ref().filter(|version| version.accepted) {
            self.make_current_if_newest(version.number)?;
        }
        Ok(version)
    }

    /// Publishes a version: writes its record under the next number and, if `make_current` is set, makes it current.
    /// Returns the number. A version that the same run has recorded already, with the same objects, is not recorded
    /// again: an interrupted publication ends as an uninterrupted one does.
    ///
    /// # Errors
    /// [`Error::Damaged`] names an object that is missing or has another length.
    pub fn publish(&self, mut version: Version, make_current: bool) -> Result<u64> {
        for object in version.objects.values() {
            if names::object_digest(&object.name).is_none() {
                return Err(Error::Name { name: object.name.clone(), why: "it is not the name of an object" });
            }
            if !self.model.has(object) {
                let what = format!("missing, or not {} bytes long", object.bytes);
                return Err(Error::damaged(self.model.object_path(object), what));
            }
        }
        if let Some(run_id) = &version.run_id {
            names::check_name(run_id)?;
        }
        let newest = match self.model.versions()?.last().map(|&number| self.model.version(number)) {
            // A damaged record is no reason not to publish a version of whole files.
            Some(Err(Error::Damaged { .. })) | None => None,
            Some(newest) => Some(newest?),
        };
        version.number = match newest.filter(|newest| newest.is_of_same_run(&version)) {
            Some(recorded) => recorded.number,
            None => {
                version.number = self.next_number()?;
                self.step()?;
                lowland_io::replace(&self.model.record_path(version.number), version.text().as_bytes())?;
                version.number
            }
        };
        if make_current {
            self.make_current_if_newest(version.number)?;
        }
        Ok(version.number)
    }

    /// Makes an accepted or refused version the one that readers take.
    ///
    /// # Errors
    /// [`Error::NoVersion`]; [`Error::Damaged`] if its record is.
    pub fn set_current(&self, number: u64) -> Result<()> {
        self.model.version(number)?;
        self.step()?;
        pointer::write(&self.model.path().join(CURRENT), number)
    }

    /// Makes the version current unless a later one is.
    fn make_current_if_newest(&self, number: u64) -> Result<()> {
        if self.whole_current()?.is_none_or(|current| current < number) { self.set_current(number) } else { Ok(()) }
    }

    /// Gives the version `number` the tag `name`, or removes the tag if `number` is `None`.
    ///
    /// # Errors
    /// [`Error::Name`] if the name cannot be a tag; [`Error::NoVersion`] if there is no such version, or no such tag to
    /// remove.
    pub fn tag(&self, name: &str, number: Option<u64>) -> Result<()> {
        names::check_tag(name)?;
        let path = self.model.tag_path(name);
        self.step()?;
        match number {
            Some(number) => {
                self.model.version(number)?;
                pointer::write(&path, number)
            }
            None if path.exists() => remove_durably(&path),
            None => Err(self.model.no_version(name)?),
        }
    }

    /// Removes the scratch directory of a run. It is renamed first: a run whose directory has lost some files could not go
    /// on.
    ///
    /// # Errors
    /// [`Error::Name`] as for [`run`](Self::run); [`Error::Io`].
    pub fn end_run(&self, run_id: &str) -> Result<()> {
        let path = self.run_path(run_id)?;
        self.remove_ended()?;
        match std::fs::rename(&path, self.ended_path()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(IoError::io(path, "rename", e).into()),
            Ok(()) => self.remove_ended(),
        }
    }

    /// Removes the scratch directory of an ended run, of which a killed process may have left a part. A file or a link of
    /// this name is removed too, because nobody else has a use for it.
    pub(super) fn remove_ended(&self) -> Result<()> {
        let path = self.ended_path();
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(found) if !found.is_dir() => std::fs::remove_file(&path),
            _ => std::fs::remove_dir_all(&path),
        };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(IoError::io(path, "remove", e).into()),
            _ => Ok(()),
        }
    }

    fn ended_path(&self) -> PathBuf {
        self.model.path().join(RUNS).join(ENDED)
    }

    fn run_path(&self, run_id: &str) -> Result<PathBuf> {
        names::check_name(run_id)?;
        Ok(self.model.path().join(RUNS).join(run_id))
    }

    /// A point before a change at which a test can stop.
    pub(super) fn step(&self) -> Result<()> {
        #[cfg(test)]
        match self.steps.get().checked_sub(1) {
            Some(left) => self.steps.set(left),
            None => return Err(Error::Stopped { path: self.model.path().into() }),
        }
        Ok(())
    }
}

/// Removes a file, if it is there.
pub(super) fn remove_if_there(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(IoError::io(path, "remove", e).into()),
        _ => Ok(()),
    }
}

/// Removes a file so that it stays removed after a power failure.
fn remove_durably(path: &std::path::Path) -> Result<()> {
    remove_if_there(path)?;
    Ok(lowland_io::sync_directory_of(path)?)
}
