//! The best few of many scores, for many queries: a bounded heap's job, done
//! as an append buffer that is cut when full, because most scores fail the
//! threshold. All queries' buffers are one allocation.
//!
//! What must hold: what is kept of a query is the `keep` least keys (score,
//! then row, or whatever number stands for it) of all that were offered, in
//! whatever order.

/// The least scores seen so far, with their rows, of each of some queries.
#[derive(Debug, Clone, Default)]
pub struct Tops {
    keep: usize,
    /// `room` a query.
    keys: Vec<u64>,
    counts: Vec<u32>,
    /// Scores above a query's cannot be among its best.
    thresholds: Vec<f32>,
}

fn room(keep: usize) -> usize {
    (2 * keep + 16).next_multiple_of(16)
}

impl Tops {
    /// Keeps the `keep` least, at least one, for each of so many queries.
    pub fn new(queries: usize, keep: usize) -> Self {
        let keep = keep.max(1);
        Tops {
            keep,
            keys: vec![0; queries * room(keep)],
            counts: vec![0; queries],
            thresholds: vec![f32::INFINITY; queries],
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.counts.fill(0);
        self.thresholds.fill(f32::INFINITY);
    }

    /// Scores above this cannot be among the query's best.
    #[inline]
    pub fn threshold(&self, query: usize) -> f32 {
        self.thresholds[query]
    }

    /// Offers a row; `score` must not be above the threshold, and never NaN.
    #[inline]
    pub fn offer(&mut self, query: usize, score: f32, row: u32) {
        let (room, count) = (room(self.keep), self.counts[query] as usize);
        self.keys[query * room + count] = key(score, row);
        self.counts[query] += 1;
        if count + 1 == room {
            self.cut(query);
        }
    }

    #[cold]
    fn cut(&mut self, query: usize) {
        let keys = &mut self.keys[query * room(self.keep)..][..room(self.keep)];
        keys.select_nth_unstable(self.keep - 1);
        self.counts[query] = self.keep as u32;
        self.thresholds[query] = score(keys[self.keep - 1]);
    }

    /// What was kept of a query, least first, as (score, row).
    pub fn sorted(&mut self, query: usize) -> impl Iterator<Item = (f32, u32)> + '_ {
        let keys = &mut self.keys[query * room(self.keep)..][..self.counts[query] as usize];
        keys.sort_unstable();
        keys.iter().take(self.keep).map(|&key| (score(key), key as u32))
    }

    /// Bytes held for so many queries.
    pub fn bytes(queries: usize, keep: usize) -> u64 {
        (queries * (room(keep.max(1)) * 8 + 8)) as u64
    }
}

/// A number that orders as (score, row) does.
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
        fn keeps_the_least_in_any_order(scores in proptest::collection::vec(-3i8..3, 1..300), keep in 1usize..20, turn in 0usize..300) {
            let mut offers: Vec<(f32, u32)> = scores.iter().enumerate().map(|(i, &s)| (f32::from(s) * 0.5, i as u32)).collect();
            let mut truth = offers.clone();
            truth.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            truth.truncate(keep);
            let middle = turn % offers.len();
            offers.rotate_left(middle);
            let mut tops = Tops::new(3, keep);
            for (score, row) in offers {
                for query in [0, 2] {
                    if score <= tops.threshold(query) {
                        tops.offer(query, score, row);
                    }
                }
            }
            prop_assert_eq!(tops.sorted(0).collect::<Vec<_>>(), truth.clone());
            prop_assert_eq!(tops.sorted(2).collect::<Vec<_>>(), truth);
            prop_assert_eq!(tops.sorted(1).count(), 0);
        }
    }
}
