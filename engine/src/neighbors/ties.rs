//! Which of several equally near rows counts as the nearer one: a hash decides.
//!
//! Neighbours are the k least (distance, rank). The rank of a row among the candidates of
//! another is a hash of the pair and the seed. By row numbers the neighbours of tied rows would
//! follow the file: the same few for every row, or those that stand beside it. By a hash of
//! the candidate alone every row would choose the same few.
//!
//! What must hold: for one row the ranks of all candidates differ, so that the result is one
//! set whatever order they come in; and a rank gives its row back, so that it takes no memory
//! beside it. `neighbors/cuda/join.cu` computes the same.

use crate::random::{draw, mix32};

/// The stream of the key.
const STREAM: u64 = 0x7469_6573;

/// The ranks of one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ties {
    key: u32,
}

impl Ties {
    /// Those of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Ties { key: draw(seed, STREAM, 0) as u32 }
    }

    /// The rank of `row` among rows that are equally near to `own`.
    #[inline(always)]
    pub(crate) fn rank(self, own: u32, row: u32) -> u32 {
        mix32(row ^ self.salt(own))
    }

    /// The row of a rank.
    #[inline]
    pub(crate) fn row(self, own: u32, rank: u32) -> u32 {
        unmix32(rank) ^ self.salt(own)
    }

    /// What a GPU is told to compute the same.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn key(self) -> u32 {
        self.key
    }

    #[inline(always)]
    fn salt(self, own: u32) -> u32 {
        mix32(own ^ self.key)
    }
}

/// The inverse of [`mix32`]: each of its steps undone, the last one first.
fn unmix32(mut x: u32) -> u32 {
    // Shifts of 16 undo themselves; the shift of 15 needs a second step, and a factor its inverse modulo 2³².
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
    fn a_rank_gives_its_row_back() {
        let ties = Ties::new(42);
        for i in 0..100_000u32 {
            let (own, row) = (mix32(i), if i < 1000 { i } else { mix32(!i) });
            assert_eq!(ties.row(own, ties.rank(own, row)), row);
        }
    }

    #[test]
    fn the_least_ranks_are_other_rows_for_each_row_and_each_seed_and_none_is_a_hub() {
        let (rows, k) = (2_000u32, 15);
        let nearest = |seed: u64, own: u32| -> Vec<u32> {
            let ties = Ties::new(seed);
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
        // As of random rows: 15 ± 3.9 times each, a third of all rows apart.
        assert!(chosen.iter().all(|&times| times < 45), "{:?}", chosen.iter().max());
        let mean = steps / f64::from(rows) / k as f64 / f64::from(rows);
        assert!((mean - 1.0 / 3.0).abs() < 0.02, "{mean}");
        assert_ne!(nearest(1, 7), nearest(2, 7));
    }
}
