//! Tie-breaking between equally near neighbours by a hash.
//!
//! The neighbours of a row are the k smallest (distance, rank). The rank of a candidate is a hash of the
//! row, the candidate and the seed. Ranking by row number would make the neighbours of tied rows follow
//! the order of the file: the same few for every row, or the adjacent rows. Ranking by a hash of the
//! candidate alone would make every row choose the same few.
//!
//! Invariants: for one row the ranks of all candidates differ, so that the result does not depend on the
//! order of comparisons; and a rank can be inverted to its row, so that the row needs no memory beside
//! the rank. `neighbors/cuda/join.cu` computes the same ranks.

use crate::random::{draw, mix32};

/// Stream of the random number generator that yields the key.
const STREAM: u64 = 0x7469_6573;

/// The rank function for one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TieBreaker {
    key: u32,
}

impl TieBreaker {
    /// Creates the rank function for `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        TieBreaker { key: draw(seed, STREAM, 0) as u32 }
    }

    /// Returns the rank of `row` among the rows that are equally near to `own`.
    #[inline(always)]
    pub(crate) fn rank(self, own: u32, row: u32) -> u32 {
        mix32(row ^ self.salt(own))
    }

    /// Returns the row that has rank `rank` for `own`.
    #[inline]
    pub(crate) fn row(self, own: u32, rank: u32) -> u32 {
        unmix32(rank) ^ self.salt(own)
    }

    /// Returns the key, from which the GPU kernel computes the same ranks.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn key(self) -> u32 {
        self.key
    }

    #[inline(always)]
    fn salt(self, own: u32) -> u32 {
        mix32(own ^ self.key)
    }
}

/// Inverts [`mix32`] by undoing its steps in reverse order.
fn unmix32(mut x: u32) -> u32 {
    // A shift by 16 is its own inverse; the shift by 15 needs a second term; a factor is undone by its
    // inverse modulo 2³².
    x ^= x >> 16;
    x = x.wrapping_mul(0x4302_1123);
    x ^= (x >> 15) ^ (x >> 30);
    x = x.wrapping_mul(0x1d69_e2a5);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tie_rank_inverts() {
        let ties = TieBreaker::new(42);
        for i in 0..100_000u32 {
            let (own, row) = (mix32(i), if i < 1000 { i } else { mix32(!i) });
            assert_eq!(ties.row(own, ties.rank(own, row)), row);
        }
    }

    #[test]
    fn tie_ranks_differ_by_row_and_seed_without_hubs() {
        let (rows, k) = (2_000u32, 15);
        let nearest = |seed: u64, own: u32| -> Vec<u32> {
            let ties = TieBreaker::new(seed);
            let mut ranks: Vec<u32> = (0..rows).filter(|&row| row != own).map(|row| ties.rank(own, row)).collect();
            ranks.sort_unstable();
            ranks[..k].iter().map(|&rank| ties.row(own, rank)).collect()
        };
        let (mut chosen, mut steps) = (vec![0u32; rows as usize], 0f64);
        for own in 0..rows {
            for row in nearest(1, own) {
                chosen[row as usize] += 1;
                steps += f64::from(own.abs_diff(row));
            }
        }
        // Expected of random rows: each is chosen 15 ± 3.9 times, and two rows are a third of all rows apart.
        assert!(chosen.iter().all(|&times| times < 45), "{:?}", chosen.iter().max());
        let mean = steps / f64::from(rows) / k as f64 / f64::from(rows);
        assert!((mean - 1.0 / 3.0).abs() < 0.02, "{mean}");
        assert_ne!(nearest(1, 7), nearest(2, 7));
    }
}
