//! The kind `positions`: the positions of rows on the map, in order of their places.
//!
//! ```text
//! header   "LLMP" 1; components
//! body     rows × components f32
//! end      rows (u64)
//! ```

use std::path::Path;

use super::object::{Body, HEADER, Kind, Object};
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("positions", b'P');
/// The largest number of components of a map.
pub(super) const MOST_COMPONENTS: u64 = 1 << 16;

/// Writes positions in order of their places.
#[derive(Debug)]
pub struct PositionsWriter {
    body: Body,
    components: usize,
    rows: u64,
}

impl PositionsWriter {
    /// Begins the positions of the role `role` ([`super::role`]).
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>, role: &str, components: usize) -> Result<Self> {
        Ok(PositionsWriter { body: Body::begin(lock, KIND, role, &[components as u64])?, components, rows: 0 })
    }

    /// Appends rows: rows × components values.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if the values are not whole rows.
    pub fn push(&mut self, rows: &[f32]) -> Result<()> {
        if self.components == 0 || !rows.len().is_multiple_of(self.components) {
            return Err(KIND.misfit(format!("{} values are not rows of {} components", rows.len(), self.components)));
        }
        self.rows += (rows.len() / self.components) as u64;
        self.body.values(rows)
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(self) -> Result<ObjectRef> {
        self.body.finish_rows(self.rows)
    }
}

pub(super) struct Positions {
    object: Object,
    pub(super) rows: u32,
    pub(super) components: usize,
}

impl Positions {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        let components = object.bounded(0, "components", MOST_COMPONENTS)?;
        if components == 0 {
            return Err(object.damaged("positions of no components"));
        }
        object.check_length(&[[u64::from(rows) * components as u64, 4], [1, 8]])?;
        Ok(Positions { object, rows, components })
    }

    pub(super) fn row(&self, row: u32) -> &[f32] {
        self.object.values(HEADER + row as usize * self.components * 4, self.components)
    }
}
