//! A model's directory, opened for reading.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lowland_io::{Error as IoError, check_seal, is_sealed, seal};
use serde::{Deserialize, Serialize};

use super::names::{self, CURRENT, DATA, ENDED, FOLDERS, LOCK, MODEL, RUNS, TAGS, VERSIONS};
use super::{FORMAT, ObjectRef, READABLE, Version, pointer};
use crate::{Error, Result};

/// The content of `model.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    /// The lowland version that created the model.
    lowland: String,
    /// The format version of the directory.
    format: u64,
    /// When the model was created: RFC 3339, UTC.
    created: String,
}

/// A model's directory, opened for reading. Nothing is held open, and nothing is ever written through it but under the
/// lock ([`ModelDir::lock`]).
#[derive(Debug, Clone)]
pub struct ModelDir {
    path: PathBuf,
}

impl ModelDir {
    /// Creates a model without versions in the directory `path`, which is made if needed. A creation that was
    /// interrupted, or a model of which nothing was published yet, is taken up.
    ///
    /// # Errors
    /// [`Error::Occupied`] if the directory holds a model with versions or anything that is not lowland's;
    /// [`Error::Newer`] and [`Error::Damaged`] as for [`open`](Self::open); [`Error::Io`] if it cannot be written.
    pub fn create(path: &Path) -> Result<ModelDir> {
        std::fs::create_dir_all(path).map_err(|e| IoError::io(path, "create", e))?;
        let marker = path.join(MODEL);
        if read_if_there(&marker)?.is_some() {
            let model = ModelDir::open(path)?;
            if model.current()?.is_some() || !model.versions()?.is_empty() {
                return Err(Error::Occupied { path: path.into(), what: "a model already".into() });
            }
        } else {
            let begun = format!("{MODEL}{}", lowland_io::PART);
            if let Some(name) = entries(path)?.into_iter().find(|name| *name != begun) {
                return Err(Error::Occupied { path: path.into(), what: format!("\"{name}\"") });
            }
            let content = Marker {
                lowland: env!("CARGO_PKG_VERSION").into(),
                format: u64::from(FORMAT),
                created: lowland_io::now(),
            };
            lowland_io::replace(&marker, seal(&content).as_bytes())?;
        }
        let model = ModelDir { path: path.into() };
        model.make_folders()?;
        Ok(model)
    }

    /// Opens the model in the directory `path`.
    ///
    /// # Errors
    /// [`Error::NotAModel`]; [`Error::Newer`] if a later release wrote it; [`Error::Damaged`] if `model.json` is.
    pub fn open(path: &Path) -> Result<ModelDir> {
        let marker = path.join(MODEL);
        let Some(bytes) = read_if_there(&marker)? else {
            if path.join(VERSIONS).is_dir() && path.join(CURRENT).is_file() {
                return Err(Error::damaged(marker, "missing"));
            }
            let begun = path.join(format!("{MODEL}{}", lowland_io::PART)).exists();
            let why = match std::fs::metadata(path) {
                Ok(found) if !found.is_dir() => "not a model of lowland: it is a file",
                Ok(_) if begun => "not a model of lowland: its creation was interrupted",
                Ok(_) => "not a model of lowland: it has no model.json",
                Err(_) => "not a model of lowland: no such directory",
            };
            return Err(Error::NotAModel { path: path.into(), why, begun });
        };
        if !bytes.starts_with(b"{\n  \"lowland\": \"") && !is_sealed(&bytes) {
            let why = "not a model of lowland: its model.json is another program's";
            return Err(Error::NotAModel { path: path.into(), why, begun: false });
        }
        check_seal(&bytes).map_err(|what| Error::damaged(&marker, what))?;
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        let not_one = |e: serde_json::Error| Error::damaged(&marker, format!("not the mark of a model: {e}"));
        let Format { format } = serde_json::from_slice(&bytes).map_err(not_one)?;
        if format > u64::from(FORMAT) {
            return Err(Error::Newer { path: marker, found: format, readable: READABLE });
        }
        let _: Marker = serde_json::from_slice(&bytes).map_err(not_one)?;
        Ok(ModelDir { path: path.into() })
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of the version that readers take; `None` if nothing is published yet.
    ///
    /// # Errors
    /// [`Error::Damaged`] if `CURRENT` is.
    pub fn current(&self) -> Result<Option<u64>> {
        pointer::read(&self.path.join(CURRENT))
    }

    /// Reads the record of a version.
    ///
    /// # Errors
    /// [`Error::NoVersion`]; [`Error::Damaged`] if the record is.
    pub fn version(&self, number: u64) -> Result<Version> {
        let path = self.record_path(number);
        match Version::read(&path, number) {
            Err(Error::Io(IoError::Io { source, .. })) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(self.no_version(&number.to_string())?)
            }
            version => version,
        }
    }

    /// Returns the numbers of the versions, ascending.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be listed.
    pub fn versions(&self) -> Result<Vec<u64>> {
        let mut numbers: Vec<u64> =
            entries(&self.path.join(VERSIONS))?.iter().filter_map(|name| names::record_number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Returns the tags and the versions that they name.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a tag's file is.
    pub fn tags(&self) -> Result<BTreeMap<String, u64>> {
        let mut tags = BTreeMap::new();
        for name in self.tag_names()? {
            if let Some(number) = pointer::read(&self.tag_path(&name))? {
                tags.insert(name, number);
            }
        }
        Ok(tags)
    }

    /// Returns the number of the version that `name` names: "41", "@41", a tag, or "current".
    ///
    /// # Errors
    /// [`Error::NoVersion`] if there is none; [`Error::Damaged`] if `CURRENT` or the file of the tag is, or if the record
    /// that it names is missing.
    pub fn resolve(&self, name: &str) -> Result<u64> {
        let plain = name.strip_prefix('@').unwrap_or(name);
        let mut named_by = None;
        let number = if plain == "current" {
            named_by = Some(CURRENT.to_string());
            let current = self.current()?;
            if current.is_none() && self.versions()?.len() > 1 {
                return Err(self.no_current());
            }
            current
        } else if let Ok(number) = plain.parse() {
            Some(number)
        } else if names::check_tag(plain).is_ok() {
            named_by = Some(format!("the tag {plain}"));
            pointer::read(&self.tag_path(plain))?
        } else {
            None
        };
        match (number, named_by) {
            (Some(number), _) if self.record_path(number).exists() => Ok(number),
            (Some(number), Some(by)) => Err(self.no_record(number, &by)),
            _ => Err(self.no_version(name)?),
        }
    }

    /// Returns the newest version that the run `run_id` published, if any. It may not be current yet, if the process
    /// stopped in between: see [`ModelLock::published`](super::ModelLock::published). Damaged records are passed over.
    ///
    /// # Errors
    /// [`Error::Io`] if a record cannot be read.
    pub fn find_run(&self, run_id: &str) -> Result<Option<Version>> {
        for number in self.versions()?.into_iter().rev() {
            let version = match self.version(number) {
                Err(Error::Damaged { .. }) => continue,
                version => version?,
            };
            if version.run_id.as_deref() == Some(run_id) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Returns the path of an object.
    pub fn object_path(&self, object: &ObjectRef) -> PathBuf {
        self.path.join(DATA).join(&object.name)
    }

    /// Returns whether the object is there and has its length. Its bytes are not read.
    pub fn has(&self, object: &ObjectRef) -> bool {
        std::fs::metadata(self.object_path(object)).is_ok_and(|found| found.is_file() && found.len() == object.bytes)
    }

    /// Returns the process that changes the model now, if any.
    pub fn held_by(&self) -> Option<String> {
        lowland_io::FileLock::held_by(&self.path.join(LOCK))
    }

    /// Returns the names of the runs that have a scratch directory: those under way, and those that were interrupted.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be listed.
    pub fn runs(&self) -> Result<Vec<String>> {
        let mut runs = entries(&self.path.join(RUNS))?;
        runs.retain(|name| name != ENDED);
        runs.sort();
        Ok(runs)
    }

    pub(super) fn record_path(&self, number: u64) -> PathBuf {
        self.path.join(VERSIONS).join(format!("{}.json", names::digits(number)))
    }

    pub(super) fn tag_path(&self, name: &str) -> PathBuf {
        self.path.join(TAGS).join(name)
    }

    /// Returns the names of the files in `tags/` that can be tags.
    pub(super) fn tag_names(&self) -> Result<Vec<String>> {
        let mut tags = entries(&self.path.join(TAGS))?;
        tags.retain(|name| names::check_tag(name).is_ok());
        Ok(tags)
    }

    /// Makes the model's directories, which a copy may lack where they were empty.
    pub(super) fn make_folders(&self) -> Result<()> {
        let mut made = false;
        for folder in FOLDERS {
            let path = self.path.join(folder);
            match std::fs::create_dir(&path) {
                Ok(()) => made = true,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(IoError::io(path, "create", e).into()),
            }
        }
        if made {
            lowland_io::sync_directory_of(&self.path.join(MODEL))?;
        }
        Ok(())
    }

    /// Returns the error that `CURRENT` is missing, though there are versions.
    pub(super) fn no_current(&self) -> Error {
        Error::damaged(self.path.join(CURRENT), "missing, though there are versions")
    }

    /// Returns the error that the record of a version is missing, though `by` names it.
    pub(super) fn no_record(&self, number: u64, by: &str) -> Error {
        Error::damaged(self.record_path(number), format!("missing, though {by} names it"))
    }

    /// Returns the error that the model has no version of this name.
    pub(super) fn no_version(&self, name: &str) -> Result<Error> {
        let mut known: Vec<String> = self.versions()?.iter().map(u64::to_string).collect();
        known.extend(self.tag_names()?);
        Ok(Error::NoVersion { path: self.path.clone(), name: name.into(), known })
    }
}

/// Returns the bytes of a file; `None` if there is none.
fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(IoError::io(path, "read", e).into()),
    }
}

/// Returns the names in a directory; none if it is not there. Names that are not UTF-8 are not lowland's, and are
/// returned with replacement characters.
pub(super) fn entries(dir: &Path) -> Result<Vec<String>> {
    let listed = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed,
    };
    let names = listed.and_then(|listed| {
        listed.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<std::io::Result<Vec<_>>>()
    });
    Ok(names.map_err(|e| IoError::io(dir, "list", e))?)
}
