//! The kind `patch`: neighbours that replace those of the graph.
//!
//! ```text
//! header   "LLMR" 1; width
//! body     for each row, in order of places: width neighbours (u32), then their distances (f32), as in a graph
//!          ⌈places / 64⌉ u64: bit p mod 64 of word p / 64 is set if place p has a row here
//!          for every 8 words, the number of bits set before them (u32)
//! end      places covered (the last one + 1; u64), rows (u64)
//! ```

use std::path::Path;

use super::bits::{self, BitSet};
use super::graph::{MOST_NEIGHBORS, put_rows, row_at};
use super::object::{Body, HEADER, Kind, Object};
use super::role;
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("patch", b'R');

/// Writes replaced neighbours in order of places. Holds one bit for each place of the version.
#[derive(Debug)]
pub struct PatchWriter {
    body: Body,
    set: BitSet,
    width: usize,
    rows: u64,
}

impl PatchWriter {
    /// Returns the memory that a writer for `places` places holds, in bytes.
    pub fn bytes(places: u64) -> u64 {
        bits::words(places) * 8 + crate::store::ObjectWriter::BYTES
    }

    /// Begins a patch with `width` neighbours a row.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>, width: usize) -> Result<Self> {
        let body = Body::begin(lock, KIND, role::PATCH, &[width as u64])?;
        Ok(PatchWriter { body, set: BitSet::default(), width, rows: 0 })
    }

    /// Appends the neighbours of a place, which are as many as the width, as in
    /// [`GraphWriter::push`](super::GraphWriter::push).
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if the place is not above the one before, or the neighbours do not fit.
    pub fn push(&mut self, place: u32, neighbors: &[u32], distances: &[f32]) -> Result<()> {
        if neighbors.len() != self.width {
            return Err(KIND.misfit(format!("{} neighbours where a row has {}", neighbors.len(), self.width)));
        }
        if !self.set.add(place) {
            return Err(KIND.misfit(format!("place {place} is out of order or out of range")));
        }
        self.rows += 1;
        put_rows(&mut self.body, KIND, self.width, neighbors, distances)
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(mut self) -> Result<ObjectRef> {
        self.body.values(self.set.words())?;
        for rank in self.set.ranks() {
            self.body.values(&[rank])?;
        }
        self.body.values(&[u64::from(self.set.places())])?;
        self.body.finish_rows(self.rows)
    }
}

pub(super) struct Patch {
    object: Object,
    pub(super) places: u32,
    pub(super) width: usize,
    pub(super) rows: u32,
}

impl Patch {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        let places = object.count_before_last()?;
        let width = object.bounded(0, "neighbours a row", MOST_NEIGHBORS)?;
        let set = [bits::words(places.into()), 8];
        object.check_length(&[[u64::from(rows) * width as u64, 8], set, [bits::blocks(places.into()), 4], [2, 8]])?;
        Ok(Patch { object, places, width, rows })
    }

    fn words_at(&self) -> usize {
        HEADER + self.rows as usize * self.width * 8
    }

    fn words(&self) -> &[u64] {
        self.object.values(self.words_at(), bits::words(self.places.into()) as usize)
    }

    /// Returns the places that have a row here, ascending.
    pub(super) fn patched(&self) -> impl Iterator<Item = u32> + '_ {
        bits::places(self.words(), 0..self.places)
    }

    /// Returns the neighbours of the place and their distances, if it has a row here.
    pub(super) fn row(&self, place: u32) -> Option<(&[u32], &[f32])> {
        let words = self.words();
        if !bits::has(words, place) {
            return None;
        }
        let ranks_at = self.words_at() + words.len() * 8;
        let ranks: &[u32] = self.object.values(ranks_at, bits::blocks(self.places.into()) as usize);
        let row = bits::rank(words, ranks, place).filter(|&row| row < self.rows)?;
        Some(row_at(&self.object, HEADER + row as usize * self.width * 8, self.width))
    }
}
