//! What tells which rows of a segment may be near a query: the kernel's
//! scores, or codes where the processor is fast at them. Either lets through
//! all that are near, and some that are not.

use super::coded;
use super::feed::Form;
use super::kernel::{self, Bars, Packed, Piece, reach};

/// A segment's rows.
pub enum Sieve {
    /// All of each component.
    Whole {
        /// The rows.
        rows: Packed,
        /// ½|x|² of the one farthest from the centre.
        farthest: f32,
    },
    /// Eight bits of it.
    Coded(coded::Rows),
}

impl Form for Sieve {
    fn of(pieces: Vec<Piece>, rows: &[f32], center: &[f32]) -> Self {
        if coded::usable(center.len()) {
            return Sieve::Coded(coded::Rows::encode(pieces, rows, center));
        }
        let rows = Packed::of(pieces, rows, center);
        Sieve::Whole { farthest: rows.most_half_norm(), rows }
    }

    fn into_pieces(self) -> Vec<Piece> {
        match self {
            Sieve::Whole { rows, .. } => rows.into_pieces(),
            Sieve::Coded(rows) => rows.into_pieces(),
        }
    }

    fn bytes(rows: usize, dim: usize) -> u64 {
        if coded::usable(dim) { coded::Rows::bytes(rows, dim) } else { Packed::bytes(rows, dim) }
    }
}

/// Queries in the form that a sieve asks for.
#[derive(Default)]
pub(super) struct Asked {
    whole: kernel::Queries,
    half_norms: Vec<f32>,
    bars: Bars,
    coded: coded::Queries,
    coded_bars: coded::Bars,
}

impl Asked {
    /// Looks for rows that are no farther (squared) from query `i` than
    /// `limit(i)`: `hit(i, row)` for each that may be, gives its next limit.
    pub(super) fn for_each_near<'a>(
        &mut self,
        sieve: &Sieve,
        queries: impl ExactSizeIterator<Item = &'a [f32]>,
        center: &[f32],
        limit: impl Fn(usize) -> f32,
        mut hit: impl FnMut(usize, usize) -> f32,
    ) {
        let (count, dim) = (queries.len(), center.len());
        match sieve {
            Sieve::Whole { rows, farthest } => {
                self.whole.load(queries, center);
                self.half_norms = self.whole.half_norms();
                // ½|q|² turns a score into ½ distance².
                let half_norms = &self.half_norms;
                let bar = |i: usize, limit| reach(limit, half_norms[i] + farthest, dim) - half_norms[i];
                self.bars.set((0..count).map(|i| bar(i, limit(i))));
                kernel::for_each_near(&self.whole, rows, &mut self.bars, |i, row, _| bar(i, hit(i, row)));
            }
            Sieve::Coded(rows) => {
                self.coded.load(queries, center);
                coded::for_each_near(&self.coded, rows, &mut self.coded_bars, limit, hit);
            }
        }
    }
}
