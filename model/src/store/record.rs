//! The record of a version: `versions/<number>.json`, a sealed JSON text (`lowland_io::seal`).

use std::collections::BTreeMap;
use std::path::Path;

use lowland_io::{check_seal, seal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names;
use crate::{Error, Result};

/// What made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The first map.
    Fit,
    /// An update that placed new rows among old rows that do not move.
    Transform,
    /// An update that computed the whole map anew.
    Refit,
    /// The return to an earlier version.
    Rollback,
}

/// An object of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The file's name in `data/`: 32 hexadecimal digits of the content's 128-bit xxh3, a dot and the kind.
    pub name: String,
    /// The file's length.
    pub bytes: u64,
}

/// How many rows a version has, and what happened to them since its parent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Rows on the map.
    pub rows: u64,
    /// Rows with an id that the parent does not have.
    pub added: u64,
    /// Rows with an id of the parent and another vector.
    pub changed: u64,
    /// Rows of the parent that are gone.
    pub deleted: u64,
    /// Rows with the id and the vector of a row of the parent.
    pub unchanged: u64,
}

/// The record of a version. Once published it never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The lowland version that made it.
    pub lowland: String,
    /// The number, from 1; 0 in a record that is not published yet.
    pub number: u64,
    /// The version that it follows.
    pub parent: Option<u64>,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// The run that made it, if it has a name.
    pub run_id: Option<String>,
    /// What made it.
    pub action: Action,
    /// Whether it is meant for readers: it passed the gates. A version that did not is kept, but is not current.
    pub accepted: bool,
    /// How many rows it has.
    pub counts: Counts,
    /// The objects by role: `vectors`, `graph`, `delta-graph`, …
    pub objects: BTreeMap<String, ObjectRef>,
    /// The options of the map: any JSON, not interpreted in this module.
    pub options: Value,
    /// What was measured: any JSON, not interpreted in this module.
    pub measures: Value,
}

impl Version {
    /// Returns a record that is not published yet, made now by this release of lowland, without objects.
    pub fn new(action: Action) -> Self {
        Version {
            lowland: env!("CARGO_PKG_VERSION").into(),
            number: 0,
            parent: None,
            created: lowland_io::now(),
            run_id: None,
            action,
            accepted: true,
            counts: Counts::default(),
            objects: BTreeMap::new(),
            options: Value::Null,
            measures: Value::Null,
        }
    }

    /// Returns whether the other record is of the same run and names the same objects.
    pub(super) fn is_of_same_run(&self, other: &Version) -> bool {
        self.run_id.is_some()
            && (&self.run_id, self.action, self.accepted, self.parent, &self.objects)
                == (&other.run_id, other.action, other.accepted, other.parent, &other.objects)
    }

    pub(super) fn text(&self) -> String {
        seal(self)
    }

    /// Reads the record of version `number` at `path`.
    pub(super) fn read(path: &Path, number: u64) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| lowland_io::Error::io(path, "read", e))?;
        check_seal(&bytes).map_err(|what| Error::damaged(path, what))?;
        let version: Version = serde_json::from_slice(&bytes)
            .map_err(|e| Error::damaged(path, format!("not the record of a version: {e}")))?;
        if version.number != number {
            return Err(Error::damaged(path, format!("it is the record of version {}", version.number)));
        }
        // A name with a slash would lead out of the directory.
        if let Some((role, object)) = version.objects.iter().find(|(_, o)| names::object_digest(&o.name).is_none()) {
            return Err(Error::damaged(path, format!("its object \"{role}\" has the name \"{}\"", object.name)));
        }
        Ok(version)
    }
}
