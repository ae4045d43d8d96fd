//! The kind `tombstones`: the places whose row is gone.
//!
//! ```text
//! header   "LLMT" 1; places covered (the last dead place + 1), how many of them are dead
//! body     ⌈places / 64⌉ u64: bit p mod 64 of word p / 64 is set if place p is dead
//!          dead places: u32, ascending
//! ```

use std::path::Path;

use super::bits::{self, BitSet};
use super::object::{Body, HEADER, Kind, Object};
use super::role;
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("tombstones", b'T');

/// Writes the places that are dead.
#[derive(Debug)]
pub struct TombstonesWriter<'a> {
    lock: &'a ModelLock<'a>,
}

impl<'a> TombstonesWriter<'a> {
    /// Begins the tombstones.
    ///
    /// # Errors
    /// None now; the object is begun in [`finish`](Self::finish).
    pub fn create(lock: &'a ModelLock<'a>) -> Result<Self> {
        Ok(TombstonesWriter { lock })
    }

    /// Writes the dead places, ascending, and makes the object durable. Holds one bit for each place of the version.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if the places do not ascend.
    pub fn finish(self, dead: &[u32]) -> Result<ObjectRef> {
        let mut set = BitSet::default();
        if let Some(place) = dead.iter().find(|&&place| !set.add(place)) {
            return Err(KIND.misfit(format!("place {place} is out of order or out of range")));
        }
        let mut body = Body::begin(self.lock, KIND, role::TOMBSTONES, &[set.places().into(), dead.len() as u64])?;
        body.values(set.words())?;
        body.values(dead)?;
        body.finish()
    }
}

pub(super) struct Tombstones {
    object: Object,
    pub(super) places: u32,
    count: u32,
}

impl Tombstones {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let (places, count) = (object.rows(0)?, object.rows(1)?);
        object.check_length(&[[bits::words(places.into()), 8], [count.into(), 4]])?;
        let opened = Tombstones { object, places, count };
        // Small enough to be checked: the number of live rows depends on them.
        let dead = opened.dead();
        let agree = dead.is_sorted_by(|a, b| a < b)
            && dead.iter().all(|&place| place < places && opened.has(place))
            && opened.words().iter().map(|word| word.count_ones() as usize).sum::<usize>() == dead.len();
        if agree { Ok(opened) } else { Err(opened.object.damaged("its bits are not those of its places")) }
    }

    fn words(&self) -> &[u64] {
        self.object.values(HEADER, bits::words(self.places.into()) as usize)
    }

    pub(super) fn has(&self, place: u32) -> bool {
        bits::has(self.words(), place)
    }

    pub(super) fn dead(&self) -> &[u32] {
        let at = HEADER + bits::words(self.places.into()) as usize * 8;
        self.object.values(at, self.count as usize)
    }
}
