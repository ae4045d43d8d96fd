//! The kind `added`: the version in which each row was added, in order of places.
//!
//! ```text
//! header   "LLMA" 1
//! body     rows × u32
//! end      rows (u64)
//! ```

use std::path::Path;

use super::object::{Body, HEADER, Kind, Object};
use super::role;
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("added", b'A');

/// Writes the versions in which rows were added, in order of their places.
#[derive(Debug)]
pub struct AddedWriter {
    body: Body,
    rows: u64,
}

impl AddedWriter {
    /// Begins the versions of rows.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>) -> Result<Self> {
        Ok(AddedWriter { body: Body::begin(lock, KIND, role::ADDED, &[])?, rows: 0 })
    }

    /// Appends the version of the next row.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if the number does not fit 32 bits.
    pub fn push(&mut self, version: u64) -> Result<()> {
        let version = u32::try_from(version).map_err(|_| KIND.misfit(format!("version {version} is too large")))?;
        self.rows += 1;
        self.body.values(&[version])
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(self) -> Result<ObjectRef> {
        self.body.finish_rows(self.rows)
    }
}

pub(super) struct Added {
    object: Object,
    pub(super) rows: u32,
}

impl Added {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        object.check_length(&[[rows.into(), 4], [1, 8]])?;
        Ok(Added { object, rows })
    }

    pub(super) fn version(&self, row: u32) -> u64 {
        self.object.values::<u32>(HEADER, self.rows as usize).get(row as usize).copied().unwrap_or(0).into()
    }
}
