//! The version of a model on which an unfinished transform began: it goes on there, although another version is current
//! by now, because rows of one output lie on one map.

use std::path::Path;

use lowland_io::Error as IoError;
use lowland_model::store::Version;
use serde_json::{Value, json};

use super::super::Model;
use super::super::open::open_dir;
use crate::{Error, Result};

/// The field of a run's identity with the objects of the version.
pub(super) const OBJECTS: &str = "transform";

/// What a run directory tells of the version on which its rows are placed.
struct Begun {
    /// The names of the version's objects by role.
    objects: Value,
    /// The version's number, once a unit is finished.
    number: Option<u64>,
}

impl Begun {
    /// Reads the run directory `run`; `None` if no transform is under way there.
    fn read(run: &Path) -> Option<Self> {
        let listed = lowland_io::runs(run).ok()?.into_iter().find(|summary| summary.path == run)?;
        let manifest = listed.manifest.ok()?;
        let units = manifest.stages.values().flat_map(|stage| stage.units.values());
        let number = units.into_iter().find_map(|unit| unit.data.get("version")?.as_u64());
        Some(Begun { objects: manifest.config.get(OBJECTS)?.clone(), number })
    }

    fn name(&self) -> String {
        self.number.map_or("another version".into(), |number| format!("version {number}"))
    }
}

/// Returns the names of a version's objects by role, by which a later process recognises the version.
pub(super) fn objects(version: &Version) -> Value {
    let names = version.objects.iter().map(|(role, object)| (role.clone(), json!(object.name)));
    Value::Object(names.collect())
}

impl Model {
    /// Opens the version of the model at `path` on which the transform in the run directory `run` began, if one is under
    /// way there; otherwise the current version.
    ///
    /// # Errors
    /// Those of [`open`](Model::open), and if the model does not have that version any more.
    pub fn open_begun(path: impl AsRef<Path>, run: &Path) -> Result<Self> {
        let model = Self::open(path.as_ref())?;
        let Some(begun) = Begun::read(run).filter(|begun| begun.objects != objects(model.version())) else {
            return Ok(model);
        };
        let dir = open_dir(path.as_ref())?;
        for number in dir.versions()?.into_iter().rev() {
            // A damaged record of another version is no reason to stop.
            if dir.version(number).is_ok_and(|version| begun.objects == objects(&version)) {
                return Self::open_version(path, Some(&number.to_string()));
            }
        }
        Err(Error::job(format!(
            "{}: holds rows that were placed on {} of a model, which {} does not have (any more); choose another `run_dir`, or \
             pass `restart` to place all rows on version {}",
            run.display(),
            begun.name(),
            model.path().display(),
            model.number()
        )))
    }

    /// Returns the error of a run directory, in the words of versions if its rows were placed on another version.
    pub(super) fn of_other_version(&self, error: Error) -> Error {
        let Error::Engine(lowland_engine::Error::Io(IoError::Resume { path, .. })) = &error else { return error };
        match Begun::read(path).filter(|begun| begun.objects != objects(self.version())) {
            Some(begun) => Error::job(format!(
                "{}: holds rows that were placed on {} of a model, and this run's is version {} of {}; take that version to \
                 continue that run, choose another `run_dir`, or pass `restart` to discard it",
                path.display(),
                begun.name(),
                self.number(),
                self.path().display()
            )),
            None => error,
        }
    }
}
