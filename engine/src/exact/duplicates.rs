//! Copies of rows: the guide fits the rows that differ, and gives a copy the
//! place of its original. Two points that coincide have no direction to part in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Which rows differ, and where each row's like is among them.
pub(super) struct Distinct {
    /// The first of each like, ascending.
    pub(super) kept: Vec<u32>,
    /// For each row its place in `kept`.
    pub(super) place: Vec<u32>,
}

/// Bytes for n rows at the most.
pub(super) fn bytes(n: usize, dim: usize) -> u64 {
    // The table, both vectors, and a copy of the rows without their copies.
    n as u64 * (64 + 4 * dim as u64)
}

/// Finds copies among `rows` (n × dim, finite); none if all differ. −0 is 0.
pub(super) fn find(rows: &[f32], dim: usize) -> Option<Distinct> {
    let n = rows.len() / dim;
    let row = |i: u32| &rows[i as usize * dim..][..dim];
    // By hash, and by the row itself where hashes agree: a chain through the rows of one hash.
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
                // Of floats equality is what is wanted: 0 and −0 are one place.
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
    (kept.len() < n).then_some(Distinct { kept, place })
}

fn hash(row: &[f32]) -> u64 {
    row.iter().fold(0, |hash, &x| crate::random::mix64(hash ^ u64::from((x + 0.0).to_bits())))
}

impl Distinct {
    /// The rows that differ.
    pub(super) fn rows(&self, rows: &[f32], dim: usize) -> Vec<f32> {
        self.kept.iter().flat_map(|&i| &rows[i as usize * dim..][..dim]).copied().collect()
    }

    /// Positions of the rows that differ, given to all.
    pub(super) fn scatter(&self, positions: &[f32], width: usize) -> Vec<f32> {
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
        assert_eq!(found.scatter(&[1.0, 2.0, 3.0], 1), [1.0, 2.0, 1.0, 2.0, 3.0, 1.0]);
        assert!(find(&rows[..4], 2).is_none());
    }
}
