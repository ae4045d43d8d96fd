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

/// Number of draws that are made together: the positions are read at random from memory, and reads that do not wait for each
/// other take a fraction of the time. The forces take as many samples at a time.
const AHEAD: usize = 16;

/// The negative samples of a row in an epoch.
pub(super) struct Negatives<'a> {
    snapshot: &'a Snapshot,
    seed: u64,
    stream: u64,
    /// Number of draws made.
    made: u64,
    /// The last draws that were made: the positions of those that are on the map.
    ahead: [Option<&'a [f32]>; AHEAD],
    /// How many of them were taken.
    taken: usize,
    /// A row that is not drawn.
    except: u32,
}

impl<'a> Negatives<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, seed: u64, hash: u64, epoch: usize) -> Self {
        Negatives {
            snapshot,
            seed: seed ^ STREAM,
            stream: draw(hash, STREAM, epoch as u64),
            made: 0,
            ahead: [None; AHEAD],
            taken: AHEAD,
            except: MISSING,
        }
    }

    /// Leaves a row out: the one that is moved.
    pub(super) fn without(self, place: u32) -> Self {
        Negatives { except: place, ..self }
    }

    /// Draws a live row and returns its position; none if only dead places were drawn.
    pub(super) fn next(&mut self) -> Option<&'a [f32]> {
        for _ in 0..ATTEMPTS {
            if self.taken == AHEAD {
                self.draw_ahead();
            }
            self.taken += 1;
            if let Some(position) = self.ahead[self.taken - 1] {
                return Some(position);
            }
        }
        None
    }

    fn draw_ahead(&mut self) {
        let places: [u32; AHEAD] = std::array::from_fn(|i| {
            let random = draw(self.seed, self.stream, self.made + i as u64);
            ((u128::from(random) * u128::from(self.snapshot.places())) >> 64) as u32
        });
        // Looking at the positions reads them.
        self.ahead = places.map(|place| {
            let is_drawn = place != self.except && is_on_map(self.snapshot, place);
            is_drawn.then(|| self.snapshot.position(place))
        });
        self.made += AHEAD as u64;
        self.taken = 0;
    }
}
