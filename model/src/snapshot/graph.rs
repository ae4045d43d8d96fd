//! The kind `graph`: the nearest neighbours of rows, in order of their places.
//!
//! ```text
//! header   "LLMG" 1; width, n_neighbors (at most width)
//! body     for each row: width neighbours (u32 places, ascending by distance; 4294967295 where there are fewer), then
//!          their distances (f32, in the metric's own units; infinite where missing)
//! end      rows (u64)
//! ```

use std::path::Path;

use super::object::{Body, HEADER, Kind, Object};
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("graph", b'G');
/// The largest number of neighbours of a row.
pub(super) const MOST_NEIGHBORS: u64 = 1 << 20;

/// Writes the nearest neighbours of rows in order of their places.
#[derive(Debug)]
pub struct GraphWriter {
    body: Body,
    width: usize,
    rows: u64,
}

impl GraphWriter {
    /// Begins the graph of the role `role` ([`super::role`]), with `width` neighbours a row, of which the method uses
    /// `n_neighbors`.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if `n_neighbors` is 0 or above `width`; [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>, role: &str, width: usize, n_neighbors: usize) -> Result<Self> {
        if n_neighbors == 0 || n_neighbors > width {
            return Err(KIND.misfit(format!("{n_neighbors} of {width} neighbours")));
        }
        let body = Body::begin(lock, KIND, role, &[width as u64, n_neighbors as u64])?;
        Ok(GraphWriter { body, width, rows: 0 })
    }

    /// Appends rows: rows × width neighbours and their distances, ascending by distance within a row;
    /// [`lowland_io::MISSING`] and infinity where there are fewer.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if these are not whole rows, or not as many distances.
    pub fn push(&mut self, neighbors: &[u32], distances: &[f32]) -> Result<()> {
        if !neighbors.len().is_multiple_of(self.width) {
            return Err(KIND.misfit(format!("{} neighbours are not rows of {}", neighbors.len(), self.width)));
        }
        put_rows(&mut self.body, KIND, self.width, neighbors, distances)?;
        self.rows += (neighbors.len() / self.width) as u64;
        Ok(())
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(self) -> Result<ObjectRef> {
        self.body.finish_rows(self.rows)
    }
}

/// Writes the records of rows: the neighbours of a row, then their distances.
pub(super) fn put_rows(body: &mut Body, kind: Kind, width: usize, neighbors: &[u32], distances: &[f32]) -> Result<()> {
    if neighbors.len() != distances.len() {
        return Err(kind.misfit(format!("{} neighbours and {} distances", neighbors.len(), distances.len())));
    }
    for (neighbors, distances) in neighbors.chunks(width).zip(distances.chunks(width)) {
        body.values(neighbors)?;
        body.values(distances)?;
    }
    Ok(())
}

pub(super) struct Graph {
    object: Object,
    pub(super) rows: u32,
    pub(super) width: usize,
    pub(super) n_neighbors: usize,
}

impl Graph {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        let width = object.bounded(0, "neighbours a row", MOST_NEIGHBORS)?;
        let n_neighbors = object.bounded(1, "neighbours", width as u64)?;
        if n_neighbors == 0 {
            return Err(object.damaged("rows without neighbours"));
        }
        object.check_length(&[[u64::from(rows) * width as u64, 8], [1, 8]])?;
        Ok(Graph { object, rows, width, n_neighbors })
    }

    pub(super) fn row(&self, row: u32) -> (&[u32], &[f32]) {
        row_at(&self.object, HEADER + row as usize * self.width * 8, self.width)
    }
}

/// Returns the record of a row that begins at byte `at`.
pub(super) fn row_at(object: &Object, at: usize, width: usize) -> (&[u32], &[f32]) {
    (object.values(at, width), object.values(at + width * 4, width))
}
