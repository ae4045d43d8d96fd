//! The best few of many scores: a bounded heap's job, done as an append
//! buffer that is cut when full, because most scores fail the threshold.
//!
//! What must hold: what is kept is the `keep` least keys (score, then row, or
//! whatever number stands for it) of all that were offered, in whatever order.

/// The least scores seen so far, with their rows.
#[derive(Debug, Clone, Default)]
pub struct Top {
    keep: usize,
    keys: Vec<u64>,
    /// Scores above this cannot be among the best.
    pub threshold: f32,
}

impl Top {
    /// Keeps the `keep` least.
    pub fn new(keep: usize) -> Self {
        let mut top = Top::default();
        top.reset(keep);
        top
    }

    /// Forgets everything.
    pub fn reset(&mut self, keep: usize) {
        self.keep = keep;
        self.keys.clear();
        self.keys.reserve(Self::room(keep));
        self.threshold = f32::INFINITY;
    }

    fn room(keep: usize) -> usize {
        (2 * keep + 16).next_multiple_of(16)
    }

    /// Offers a row; `score` must not be above the threshold, and never NaN.
    #[inline]
    pub fn offer(&mut self, score: f32, row: u32) {
        self.keys.push(key(score, row));
        if self.keys.len() >= Self::room(self.keep) {
            self.cut();
        }
    }

    #[cold]
    fn cut(&mut self) {
        self.keys.select_nth_unstable(self.keep - 1);
        self.keys.truncate(self.keep);
        self.threshold = score(self.keys[self.keep - 1]);
    }

    /// What was kept, least first, as (score, row).
    pub fn sorted(&mut self) -> impl Iterator<Item = (f32, u32)> + '_ {
        self.keys.sort_unstable();
        self.keys.truncate(self.keep);
        self.keys.iter().map(|&key| (score(key), key as u32))
    }

    /// Bytes held for `keep`.
    pub fn bytes(keep: usize) -> u64 {
        (Self::room(keep) * 8 + size_of::<Self>()) as u64
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
            let mut top = Top::new(keep);
            for (score, row) in offers {
                if score <= top.threshold {
                    top.offer(score, row);
                }
            }
            prop_assert_eq!(top.sorted().collect::<Vec<_>>(), truth);
        }
    }
}
