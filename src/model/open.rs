//! A model at one of its versions, opened for reading.
//!
//! What must hold: opening reads records and headers only, and writes nothing; whatever uses the contents compares them
//! with their checksums before ([`Model::check`]).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lowland_engine::{Event, Observer};
use lowland_io::Source;
use lowland_model::ModelOptions;
use lowland_model::snapshot::Snapshot;
use lowland_model::store::{ModelDir, Version};

use super::TransformJob;
use crate::{Error, Result, check_local};

/// A stored map at one of its versions, opened for reading. Its files stay readable for as long as this exists,
/// whatever is published meanwhile; only the removal of old versions could delete them.
pub struct Model {
    dir: ModelDir,
    version: Version,
    options: ModelOptions,
    snapshot: Snapshot,
    /// The names of the objects whose checksums were compared.
    checked: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("path", &self.path()).field("version", &self.number()).finish_non_exhaustive()
    }
}

impl Model {
    /// Opens the current version of the model at `path`.
    ///
    /// # Errors
    /// If there is no model, if nothing was published in it, or if it is damaged or of a newer format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_version(path, None)
    }

    /// Opens a version of the model at `path`: a number, with or without @ before it, or a tag. Default: the
    /// current version.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and if there is no such version.
    pub fn open_version(path: impl AsRef<Path>, version: Option<&str>) -> Result<Self> {
        let dir = open_dir(path.as_ref())?;
        let number = dir.resolve(version.unwrap_or("current"))?;
        let version = dir.version(number)?;
        let options = ModelOptions::of(&version)?;
        let snapshot = Snapshot::open(&dir, &version)?;
        Ok(Model { dir, version, options, snapshot, checked: Mutex::default() })
    }

    /// Returns the model's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Compares the objects of the version whose role is among `roles` with their checksums: each once for as long as the
    /// model is open.
    ///
    /// # Errors
    /// If an object is damaged or cannot be read, or the observer stops the check.
    pub(super) fn check(&self, roles: &[&str], observer: &dyn Observer) -> Result<()> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        check_objects(&self.dir, &self.version, roles, &mut checked, observer)
    }

    /// As [`check`](Self::check), but not of objects that `other`, another version of the same model, has compared.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub(super) fn check_beside(&self, other: &Model, roles: &[&str], observer: &dyn Observer) -> Result<()> {
        let known = other.checked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
        self.check(roles, observer)
    }

    /// Returns the directory with all versions.
    pub(super) fn dir(&self) -> &ModelDir {
        &self.dir
    }

    /// Returns the number of the version.
    pub fn number(&self) -> u64 {
        self.version.number
    }

    /// Returns the record of the version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Returns the options of the map.
    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    /// Returns the view of the version's rows.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the number of rows of the map.
    pub fn rows(&self) -> u64 {
        u64::from(self.snapshot.live())
    }

    /// Begins a transform: the rows of `source` are placed on the map, which does not change.
    ///
    /// ```no_run
    /// use lowland::MapFile;
    /// use lowland::model::Model;
    ///
    /// let model = Model::open("map.lowland")?;
    /// let new = lowland::open(&["new.parquet"], None)?;
    /// let report = model.transform(new).write(&MapFile::new("placed.parquet"), &())?;
    /// println!("{report}");
    /// # Ok::<(), lowland::Error>(())
    /// ```
    pub fn transform(self, source: Arc<dyn Source>) -> TransformJob {
        TransformJob::new(Arc::new(self), source)
    }
}

/// Compares the objects of a version whose role is among `roles` with their checksums, but not those in `checked`, to which
/// the others are added.
///
/// # Errors
/// If an object is damaged or cannot be read, or the observer stops the check.
pub(super) fn check_objects(
    dir: &ModelDir,
    version: &Version,
    roles: &[&str],
    checked: &mut BTreeSet<String>,
    observer: &dyn Observer,
) -> Result<()> {
    Ok(dir.check(version, roles, checked, &mut |_| match observer.event(&Event::Pulse).is_break() {
        true => Err(lowland_model::Error::Stopped { path: dir.path().into() }),
        false => Ok(()),
    })?)
}

/// Opens a model's directory.
///
/// # Errors
/// Those of [`ModelDir::open`], and those of [`check_path`].
pub(super) fn open_dir(path: &Path) -> Result<ModelDir> {
    check_path(path)?;
    Ok(ModelDir::open(path)?)
}

/// Refuses paths where no model can be.
///
/// # Errors
/// If the path is an address of an object store, or is not UTF-8: a refit names its first positions by a path in JSON.
pub(super) fn check_path(path: &Path) -> Result<()> {
    check_local(path)?;
    match path.to_str() {
        Some(_) => Ok(()),
        None => {
            Err(Error::job(format!("{path:?}: the path of a model must be UTF-8; give the directory another name")))
        }
    }
}

/// Returns whether a path is that of a model's directory or in it, so that an output there would disturb the model.
pub(super) fn is_within(path: &Path, model: &Path) -> bool {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), model.canonicalize()) {
        (Ok(parent), Ok(model)) => parent.starts_with(model),
        _ => false,
    }
}
