//! The kind `quantizer`: the centroids of the lists, in the prepared space.
//!
//! ```text
//! header   "LLMQ" 1; lists, dim
//! body     centroids: lists × dim f32
//! ```

use std::path::Path;

use super::object::{Body, HEADER, Kind, Object};
use super::role;
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("quantizer", b'Q');
/// The largest number of components.
pub(super) const MOST_COMPONENTS: u64 = 1 << 24;

/// Writes the centroids of the lists.
#[derive(Debug)]
pub struct QuantizerWriter {
    body: Body,
    dim: usize,
    lists: usize,
}

impl QuantizerWriter {
    /// Begins the centroids of `lists` lists.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>, dim: usize, lists: usize) -> Result<Self> {
        let body = Body::begin(lock, KIND, role::QUANTIZER, &[lists as u64, dim as u64])?;
        Ok(QuantizerWriter { body, dim, lists })
    }

    /// Writes `centroids`, lists × dim values in the prepared space, and makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if there are none, or another number.
    pub fn finish(mut self, centroids: &[f32]) -> Result<ObjectRef> {
        if centroids.is_empty() || centroids.len() != self.dim * self.lists {
            let what = format!("{} values are not {} lists of {} components", centroids.len(), self.lists, self.dim);
            return Err(KIND.misfit(what));
        }
        self.body.values(centroids)?;
        self.body.finish()
    }
}

pub(super) struct Centroids {
    object: Object,
    pub(super) lists: usize,
    pub(super) dim: usize,
}

impl Centroids {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let lists = object.rows(0)? as usize;
        let dim = object.bounded(1, "components", MOST_COMPONENTS)?;
        if lists == 0 || dim == 0 {
            return Err(object.damaged("it has no centroids"));
        }
        object.check_length(&[[lists as u64 * dim as u64, 4]])?;
        Ok(Centroids { object, lists, dim })
    }

    pub(super) fn values(&self) -> &[f32] {
        self.object.values(HEADER, self.lists * self.dim)
    }
}
