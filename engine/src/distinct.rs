//! Counts distinct rows.

use std::collections::HashSet;

use crate::random::mix64;

/// Counts distinct rows by their hashes of 64 bits.
#[derive(Debug)]
pub(crate) struct Counter(HashSet<u64>);

impl Counter {
    /// Makes room for `rows` rows.
    pub(crate) fn new(rows: u64) -> Self {
        Counter(HashSet::with_capacity(rows as usize))
    }

    /// Returns the bytes held for `rows` rows: the table has a power of two of places, at least an eighth of them empty.
    pub(crate) fn bytes(rows: u64) -> u64 {
        rows * 21 + 64
    }

    /// Adds rows of `dim` components, row-major.
    pub(crate) fn add(&mut self, rows: &[f32], dim: usize) {
        self.0.extend(rows.chunks_exact(dim).map(hash));
    }

    /// Returns the number of distinct rows so far.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// Hashes a row; 0 and −0 are the same number.
pub(crate) fn hash(row: &[f32]) -> u64 {
    row.iter().fold(0, |hash, &x| mix64(hash ^ u64::from((x + 0.0).to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_count_once() {
        let rows = [1.0, 2.0, 0.0, 3.0, 1.0, 2.0, -0.0, 3.0, 5.0, 5.0, 1.0, 2.0];
        let mut counter = Counter::new(6);
        rows.chunks(4).for_each(|rows| counter.add(rows, 2));
        assert_eq!(counter.count(), 3);
    }
}
