//! The kind `sample`: probe rows with their exact neighbours, by which the recall of searches is measured.
//!
//! ```text
//! header   "LLMS" 1
//! body     for each row: its place (u32), the number of its neighbours (u32), and for each of them the squared
//!          distance (f32) and the place (u32), ascending
//! end      rows (u64)
//! ```

use std::path::Path;

use super::graph::MOST_NEIGHBORS;
use super::object::{Body, HEADER, Kind, Object};
use super::role;
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("sample", b'S');

/// A probe row.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRow {
    /// Its place.
    pub place: u32,
    /// The squared distances and places of its exact neighbours, ascending.
    pub neighbors: Vec<(f32, u32)>,
}

/// Writes the probe rows.
#[derive(Debug)]
pub struct SampleWriter {
    body: Body,
    rows: u64,
}

impl SampleWriter {
    /// Begins the probe rows.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>) -> Result<Self> {
        Ok(SampleWriter { body: Body::begin(lock, KIND, role::SAMPLE, &[])?, rows: 0 })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if it has more than 1,048,576 neighbours.
    pub fn push(&mut self, row: &SampleRow) -> Result<()> {
        let count = row.neighbors.len();
        if count as u64 > MOST_NEIGHBORS {
            return Err(KIND.misfit(format!("a probe row of {count} neighbours")));
        }
        self.rows += 1;
        self.body.values(&[row.place, count as u32])?;
        for &(distance, place) in &row.neighbors {
            self.body.values(&[distance.to_bits(), place])?;
        }
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

/// Reads the probe rows of a version of `places` places. They are held in memory.
pub(super) fn read(path: &Path, named: &ObjectRef, places: u32) -> Result<Vec<SampleRow>> {
    let object = Object::open(path, named, KIND)?;
    let rows = object.last_rows()?;
    let words = (named.bytes as usize).saturating_sub(HEADER + 8) / 4;
    let mut body: &[u32] = object.values(HEADER, words);
    object.check_length(&[[words as u64, 4], [1, 8]])?;
    let mut sample = Vec::new();
    for _ in 0..rows {
        let (Some(&[place, count]), rest) = (body.first_chunk(), body.get(2..).unwrap_or_default()) else {
            return Err(object.damaged("fewer probe rows than it says"));
        };
        let Some((near, rest)) = rest.split_at_checked((count as usize).saturating_mul(2)) else {
            return Err(object.damaged("a probe row is cut short"));
        };
        let neighbors: Vec<(f32, u32)> = near.chunks_exact(2).map(|pair| (f32::from_bits(pair[0]), pair[1])).collect();
        if place >= places || neighbors.iter().any(|&(_, near)| near >= places) {
            return Err(object.damaged("a probe row or a neighbour is not a place of the version"));
        }
        sample.push(SampleRow { place, neighbors });
        body = rest;
    }
    if body.is_empty() { Ok(sample) } else { Err(object.damaged("more probe rows than it says")) }
}
