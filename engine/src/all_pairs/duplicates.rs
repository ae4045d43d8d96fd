//! Duplicate rows. As in TorchDR, only distinct rows are fitted, and a duplicate gets the position
//! of its original, because two points at the same position have no direction in which to separate.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::distinct::hash;

/// The distinct rows, and the place of each row among them.
pub(super) struct DistinctRows {
    /// The first row of each group of equal rows, ascending.
    pub(super) kept: Vec<u32>,
    /// For each row, the index in `kept` of its equal.
    pub(super) place: Vec<u32>,
}

/// Returns the most bytes for n rows.
pub(super) fn bytes(n: usize, dim: usize) -> u64 {
    // The hash table, both vectors, and a copy of the distinct rows.
    n as u64 * (64 + 4 * dim as u64)
}

/// Finds duplicates among `rows` (n × dim, finite); `None` if all rows differ. −0 equals 0.
pub(super) fn find(rows: &[f32], dim: usize) -> Option<DistinctRows> {
    let n = rows.len() / dim;
    let row = |i: u32| &rows[i as usize * dim..][..dim];
    // Rows are found by hash, and compared in full if hashes agree. `next` chains the rows of one
    // hash.
    let mut table: HashMap<u64, u32> = HashMap::with_capacity(n);
    let mut next: Vec<u32> = Vec::new();
    let (mut kept, mut place): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::with_capacity(n));
    for i in 0..n as u32 {
        match table.entry(hash(row(i))) {
            Entry::Vacant(vacant) => {
                vacant.insert(kept.len() as u32);
                place.push(kept.len() as u32);
                kept.push(i);
                next.push(u32::MAX);
            }
            Entry::Occupied(occupied) => {
                let mut at = *occupied.get();
                // Comparison of floats, and not of bits: 0 and −0 are the same position.
                while row(kept[at as usize]) != row(i) && next[at as usize] != u32::MAX {
                    at = next[at as usize];
                }
                if row(kept[at as usize]) == row(i) {
                    place.push(at);
                } else {
                    next[at as usize] = kept.len() as u32;
                    place.push(kept.len() as u32);
                    kept.push(i);
                    next.push(u32::MAX);
                }
            }
        }
    }
    (kept.len() < n).then_some(DistinctRows { kept, place })
}

impl DistinctRows {
    /// Returns the distinct rows.
    pub(super) fn rows(&self, rows: &[f32], dim: usize) -> Vec<f32> {
        self.kept.iter().flat_map(|&i| &rows[i as usize * dim..][..dim]).copied().collect()
    }

    /// Returns the positions of all rows from the positions of the distinct rows.
    pub(super) fn to_all_rows(&self, positions: &[f32], width: usize) -> Vec<f32> {
        self.place.iter().flat_map(|&p| &positions[p as usize * width..][..width]).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_wherever_they_are() {
        let rows = [1.0, 2.0, 0.0, 3.0, 1.0, 2.0, -0.0, 3.0, 5.0, 5.0, 1.0, 2.0];
        let found = find(&rows, 2).expect("copies");
        assert_eq!((found.kept.as_slice(), found.place.as_slice()), (&[0, 1, 4][..], &[0, 1, 0, 1, 2, 0][..]));
        assert_eq!(found.rows(&rows, 2), [1.0, 2.0, 0.0, 3.0, 5.0, 5.0]);
        assert_eq!(found.to_all_rows(&[1.0, 2.0, 3.0], 1), [1.0, 2.0, 1.0, 2.0, 3.0, 1.0]);
        assert!(find(&rows[..4], 2).is_none());
    }
}
