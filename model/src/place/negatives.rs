//! Rows that repel a new row, drawn by a counter.
//!
//! What must hold: a draw is a function of (seed, hash of the row, epoch, number), so that neither other rows nor
//! threads change it. Every live row is drawn equally often.

use lowland_engine::neighbors::MISSING;
use lowland_engine::random::draw;

use super::is_on_map;
use crate::snapshot::Snapshot;

/// Draws after which a negative sample is left out. Half of the places must be dead before one in 2¹⁶ is.
const ATTEMPTS: u64 = 16;
/// Keeps the draws apart from others with the same seed.
const STREAM: u64 = 0x706c_6163_6500;

/// The negative samples of a row in an epoch.
pub(super) struct Negatives<'a> {
    snapshot: &'a Snapshot,
    seed: u64,
    stream: u64,
    next: u64,
    /// A row that is not drawn.
    except: u32,
}

impl<'a> Negatives<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, seed: u64, hash: u64, epoch: usize) -> Self {
        Negatives { snapshot, seed: seed ^ STREAM, stream: draw(hash, STREAM, epoch as u64), next: 0, except: MISSING }
    }

    /// Leaves a row out: the one that is moved.
    pub(super) fn without(self, place: u32) -> Self {
        Negatives { except: place, ..self }
    }

    /// Draws a live row and returns its position; none if only dead places were drawn.
    pub(super) fn next(&mut self) -> Option<&'a [f32]> {
        for _ in 0..ATTEMPTS {
            let random = draw(self.seed, self.stream, self.next);
            self.next += 1;
            let place = ((u128::from(random) * u128::from(self.snapshot.places())) >> 64) as u32;
            if place != self.except && is_on_map(self.snapshot, place) {
                return Some(self.snapshot.position(place));
            }
        }
        None
    }
}
