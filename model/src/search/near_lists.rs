//! Which of the lists near a query are visited first.
//!
//! An effort counts lists whose rows live. Where rows of the lists near a query are gone, its nearest live rows lie
//! farther out, where more lists are about equally near: for each near list whose rows are gone, the query visits four
//! further lists ([`REPLACEMENTS`]), within bounds ([`most`]).
//!
//! What must hold: without tombstones exactly the lists of the effort are visited.

use crate::snapshot::Snapshot;

/// Lists that are visited in the place of one whose rows are gone.
const REPLACEMENTS: f32 = 4.0;
/// The largest number of lists that are visited, as a multiple of those of the effort; its own least and largest value.
const MOST: usize = 8;
const MOST_LISTS: [usize; 2] = [16, 128];
/// Lists that have at least this share of their rows are visited as if they had all.
const WHOLE: f32 = 0.875;

/// Returns the largest number of lists that a query visits first by an effort of `first` lists.
pub(super) fn most(first: usize) -> usize {
    (MOST * first).clamp(MOST_LISTS[0], MOST_LISTS[1]).max(first)
}

/// The share of the rows of each list that live.
#[derive(Debug, Default)]
pub(super) struct LiveShares {
    /// One a list; none if nearly all rows of each list live.
    shares: Vec<f32>,
}

impl LiveShares {
    /// Counts the live rows of all lists.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let dead = snapshot.tombstones();
        if dead.is_empty() {
            return LiveShares::default();
        }
        let base_rows = snapshot.base_rows();
        let (dead_base, dead_delta) = dead.split_at(dead.partition_point(|&place| place < base_rows));
        let mut gone = vec![0u32; snapshot.lists()];
        for (gone, list) in gone.iter_mut().zip(0u32..) {
            let range = snapshot.base_range(list);
            let from = dead_base.partition_point(|&place| place < range.start);
            *gone = dead_base[from..].partition_point(|&place| place < range.end) as u32;
        }
        for &place in dead_delta {
            if let Some(gone) = gone.get_mut(snapshot.list_of(place) as usize) {
                *gone += 1;
            }
        }
        let share = |(&gone, list): (&u32, u32)| {
            let all = snapshot.base_range(list).len() + snapshot.delta_of(list).len();
            // A list that never had rows says nothing about rows that are gone.
            if gone == 0 { 1.0 } else { 1.0 - gone as f32 / all.max(1) as f32 }
        };
        let shares: Vec<f32> = gone.iter().zip(0u32..).map(share).collect();
        match shares.iter().all(|&share| share >= WHOLE) {
            true => LiveShares::default(),
            false => LiveShares { shares },
        }
    }

    /// Bytes held for `lists` lists.
    pub(super) fn bytes(lists: usize) -> u64 {
        lists as u64 * 8
    }

    /// Returns how many nearest lists [`visited`](Self::visited) chooses from, for an effort of `first` lists.
    pub(super) fn candidates(&self, first: usize) -> usize {
        if self.shares.is_empty() { first } else { most(first) }
    }

    /// Returns how many of a query's nearest lists, ascending by distance, are visited by an effort of `first` lists.
    pub(super) fn visited(&self, nearest: &[u32], first: usize) -> usize {
        let first = first.min(nearest.len());
        let share = |list: u32| self.shares.get(list as usize).copied().unwrap_or(1.0);
        let wanted = REPLACEMENTS * nearest[..first].iter().map(|&list| 1.0 - share(list)).sum::<f32>();
        let (mut count, mut added) = (first, 0.0);
        while count < nearest.len() && added + 0.5 <= wanted {
            added += share(nearest[count]);
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Rows;
    use super::*;

    #[test]
    fn lists_whose_rows_are_gone_are_replaced_by_more() {
        let whole = Rows { dead: Vec::new(), ..Rows::default() }.build();
        let shares = LiveShares::of(&whole.snapshot);
        assert_eq!((shares.candidates(3), shares.visited(&[4, 2, 7], 3)), (3, 3));
        let range = whole.snapshot.base_range(4);
        let mut dead: Vec<u32> = range.clone().chain(whole.snapshot.delta_of(4).iter().copied()).collect();
        dead.sort_unstable();
        let of = Rows { dead, ..Rows::default() }.build();
        let shares = LiveShares::of(&of.snapshot);
        assert_eq!(shares.candidates(2), 16);
        assert_eq!(shares.visited(&[4, 2, 7, 1, 0, 3, 5], 2), 6, "four lists for the one that is empty");
        assert_eq!(shares.visited(&[2, 7, 4, 1, 0, 3, 5], 2), 2, "no list that is visited is empty");
        assert_eq!(shares.visited(&[4, 2, 7], 2), 3, "there are no more lists");
    }
}
