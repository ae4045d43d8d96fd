//! The kind `moved`: positions that replace those of the base and of the delta.
//!
//! ```text
//! header   "LLMM" 1; components
//! body     for each row, in order of places: components f32
//!          ⌈places / 64⌉ u64: bit p mod 64 of word p / 64 is set if place p has a row here
//!          for every 8 words, the number of bits set before them (u32)
//! end      places covered (the last one + 1; u64), rows (u64)
//! ```
//!
//! After an odd number of values comes a 0 (u32), so that the words lie at multiples of 8 bytes.

use std::path::Path;

use super::bits::{self, BitSet};
use super::object::{Body, HEADER, Kind, Object};
use super::positions::MOST_COMPONENTS;
use super::role;
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("moved", b'M');

/// Writes replaced positions in order of places. Holds one bit for each place of the version.
#[derive(Debug)]
pub struct MovedWriter {
    body: Body,
    set: BitSet,
    components: usize,
    rows: u64,
}

impl MovedWriter {
    /// Returns the memory that a writer for `places` places holds, in bytes.
    pub fn bytes(places: u64) -> u64 {
        bits::words(places) * 8 + crate::store::ObjectWriter::BYTES
    }

    /// Begins the positions of rows that moved, of `components` components.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>, components: usize) -> Result<Self> {
        let body = Body::begin(lock, KIND, role::MOVED, &[components as u64])?;
        Ok(MovedWriter { body, set: BitSet::default(), components, rows: 0 })
    }

    /// Appends the position of a place.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if the place is not above the one before, or the position has another number of components.
    pub fn push(&mut self, place: u32, position: &[f32]) -> Result<()> {
        if position.len() != self.components {
            return Err(KIND.misfit(format!("{} components where a position has {}", position.len(), self.components)));
        }
        if !self.set.add(place) {
            return Err(KIND.misfit(format!("place {place} is out of order or out of range")));
        }
        self.rows += 1;
        self.body.values(position)
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(mut self) -> Result<ObjectRef> {
        if odd(self.rows * self.components as u64) == 1 {
            self.body.values(&[0u32])?;
        }
        self.body.values(self.set.words())?;
        for rank in self.set.ranks() {
            self.body.values(&[rank])?;
        }
        self.body.values(&[u64::from(self.set.places())])?;
        self.body.finish_rows(self.rows)
    }
}

/// Returns the number of zeros that follow `values` values of four bytes.
fn odd(values: u64) -> u64 {
    values % 2
}

pub(super) struct MovedPositions {
    object: Object,
    pub(super) places: u32,
    pub(super) components: usize,
    rows: u32,
}

impl MovedPositions {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        let places = object.count_before_last()?;
        let components = object.bounded(0, "components", MOST_COMPONENTS)?;
        if components == 0 {
            return Err(object.damaged("positions of no components"));
        }
        let (values, blocks) = (u64::from(rows) * components as u64, bits::blocks(places.into()));
        let set = [bits::words(places.into()), 8];
        object.check_length(&[[values + odd(values), 4], set, [blocks, 4], [2, 8]])?;
        let opened = MovedPositions { object, places, components, rows };
        // What decides which rows have another position is checked whole.
        let counted: u64 = opened.words().iter().map(|word| u64::from(word.count_ones())).sum();
        match counted == u64::from(rows) {
            true => Ok(opened),
            false => Err(opened.object.damaged(format!("{counted} places for {rows} positions"))),
        }
    }

    fn words_at(&self) -> usize {
        let values = self.rows as usize * self.components;
        HEADER + (values + values % 2) * 4
    }

    fn words(&self) -> &[u64] {
        self.object.values(self.words_at(), bits::words(self.places.into()) as usize)
    }

    /// Returns the places that have a position here, ascending.
    pub(super) fn moved(&self) -> impl Iterator<Item = u32> + '_ {
        bits::places(self.words(), 0..self.places)
    }

    /// Returns the position of the place, if it has one here.
    pub(super) fn row(&self, place: u32) -> Option<&[f32]> {
        let words = self.words();
        if !bits::has(words, place) {
            return None;
        }
        let ranks_at = self.words_at() + words.len() * 8;
        let ranks: &[u32] = self.object.values(ranks_at, bits::blocks(self.places.into()) as usize);
        let row = bits::rank(words, ranks, place).filter(|&row| row < self.rows)?;
        Some(self.object.values(HEADER + row as usize * self.components * 4, self.components))
    }
}
