//! Top-k selection for many queries: one binary heap per query, with the worst key on top, all in one
//! allocation. Most candidates are rejected by their score alone and never reach the heap.
//!
//! Invariant: a heap holds the `keep` smallest keys of all that were offered, whatever the order of offers. A key is
//! the score, then the row number; the kNN join uses the rank of `tie_breaker` in place of the row number.

/// The smallest scores seen so far, with their rows, for each of several queries.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopK {
    keep: usize,
    /// `keep` keys per query.
    keys: Vec<u64>,
}

/// Marks an unused entry: infinite score and the largest row, after every real key.
const EMPTY_KEY: u64 = 0xff80_0000_ffff_ffff;

impl TopK {
    /// Creates heaps of `keep` entries, at least one, for `queries` queries.
    pub(crate) fn new(queries: usize, keep: usize) -> Self {
        let keep = keep.max(1);
        TopK { keep, keys: crate::pages::filled(queries * keep, EMPTY_KEY) }
    }

    /// Returns the number of entries kept per query.
    pub(crate) fn keep(&self) -> usize {
        self.keep
    }

    /// Returns the largest score that could still enter the query's heap.
    #[inline]
    pub(crate) fn threshold(&self, query: usize) -> f32 {
        score(self.keys[query * self.keep])
    }

    /// Returns whether a row with this score would enter the query's heap.
    #[inline]
    pub(crate) fn would_keep(&self, query: usize, score: f32, row: u32) -> bool {
        key(score, row) < self.keys[query * self.keep]
    }

    /// Offers a row. `score` must not be NaN, and each row may be offered only once per query.
    #[inline]
    pub(crate) fn offer(&mut self, query: usize, score: f32, row: u32) {
        let heap = &mut self.keys[query * self.keep..][..self.keep];
        let key = key(score, row);
        if key >= heap[0] {
            return;
        }
        // Replaces the worst key: larger children move up until the new key is in place.
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let larger = if right < heap.len() && heap[right] > heap[left] { right } else { left };
            if larger >= heap.len() || heap[larger] <= key {
                break;
            }
            heap[at] = heap[larger];
            at = larger;
        }
        heap[at] = key;
    }

    /// Sorts each query's entries. No row may be offered afterwards.
    pub(crate) fn sort(&mut self) {
        self.keys.chunks_exact_mut(self.keep.max(1)).for_each(<[u64]>::sort_unstable);
    }

    /// Returns the entries of a query as (score, row), smallest first. The heaps must be
    /// [sorted](TopK::sort).
    pub(crate) fn sorted(&self, query: usize) -> impl Iterator<Item = (f32, u32)> + Clone + '_ {
        let keys = &self.keys[query * self.keep..][..self.keep];
        keys.iter().take_while(|&&key| key != EMPTY_KEY).map(|&key| (score(key), key as u32))
    }

    /// Returns the current entries of a query as (score, row), in no particular order.
    pub(crate) fn unsorted(&self, query: usize) -> impl Iterator<Item = (f32, u32)> + '_ {
        let keys = &self.keys[query * self.keep..][..self.keep];
        keys.iter().filter(|&&key| key != EMPTY_KEY).map(|&key| (score(key), key as u32))
    }

    /// Returns the raw keys of some queries: one heap per query, its worst key first, until sorted.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn keys_mut(&mut self, queries: std::ops::Range<usize>) -> &mut [u64] {
        &mut self.keys[queries.start * self.keep..queries.end * self.keep]
    }

    /// Returns the bytes held for `queries` queries.
    pub(crate) fn bytes(queries: usize, keep: usize) -> u64 {
        (queries * keep.max(1) * 8) as u64
    }
}

/// Returns an integer that orders as (score, row) does.
fn key(score: f32, row: u32) -> u64 {
    let bits = score.to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(row)
}

fn score(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn top_k_is_independent_of_order(scores in proptest::collection::vec(-3i8..3, 1..300), keep in 1usize..20, turn in 0usize..300) {
            let mut offers: Vec<(f32, u32)> = scores.iter().enumerate().map(|(i, &s)| (f32::from(s) * 0.5, i as u32)).collect();
            let mut truth = offers.clone();
            truth.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            truth.truncate(keep);
            let middle = turn % offers.len();
            offers.rotate_left(middle);
            let mut tops = TopK::new(3, keep);
            for (score, row) in offers {
                prop_assert!(score <= tops.threshold(2) || !tops.would_keep(2, score, row));
                for query in [0, 2] {
                    tops.offer(query, score, row);
                }
            }
            tops.sort();
            prop_assert_eq!(tops.sorted(0).collect::<Vec<_>>(), truth.clone());
            prop_assert_eq!(tops.sorted(2).collect::<Vec<_>>(), truth);
            prop_assert_eq!(tops.sorted(1).count(), 0);
        }
    }
}
