//! The lists that the graph leads to: a list's score is the number of live stored neighbours of the rows found that are
//! in it.
//!
//! What must hold: scores are counts, so that neither the order of rows nor threads change them; of equal scores the
//! lower list comes first.

use std::cmp::Reverse;

use crate::snapshot::Snapshot;

/// Number of the nearest rows found whose neighbours are followed, and number of their neighbours. More would cost
/// more than the comparisons that they save.
pub(super) const FOLLOWED: usize = 15;

/// Reusable counts, one for each list.
pub(super) struct ListScores {
    counts: Vec<u32>,
    touched: Vec<u32>,
}

impl ListScores {
    pub(super) fn new(lists: usize) -> Self {
        ListScores { counts: vec![0; lists], touched: Vec::new() }
    }

    /// Bytes held for `lists` lists.
    pub(super) fn bytes(lists: usize) -> u64 {
        lists as u64 * 4 + (FOLLOWED * FOLLOWED * 24) as u64
    }

    /// Returns up to `count` lists, best first, that hold stored neighbours of the rows `found`; none of those
    /// `visited`. The place `own` is not counted, so that a row of the snapshot is searched like a new row.
    pub(super) fn best(
        &mut self,
        snapshot: &Snapshot,
        found: &[u32],
        own: u32,
        visited: &[u32],
        count: usize,
    ) -> Vec<u32> {
        for &place in found.iter().take(FOLLOWED) {
            let (neighbors, _) = snapshot.neighbors(place);
            // Missing neighbours are not places, and count as dead.
            let present = |near: &&u32| !snapshot.is_dead(**near) && **near != own;
            for &near in neighbors.iter().take(FOLLOWED).filter(present) {
                let list = snapshot.list_of(near);
                if self.counts[list as usize] == 0 {
                    self.touched.push(list);
                }
                self.counts[list as usize] += 1;
            }
        }
        let mut scored: Vec<(Reverse<u32>, u32)> = self
            .touched
            .drain(..)
            .map(|list| (Reverse(std::mem::take(&mut self.counts[list as usize])), list))
            .filter(|(_, list)| !visited.contains(list))
            .collect();
        scored.sort_unstable();
        scored.truncate(count);
        scored.into_iter().map(|(_, list)| list).collect()
    }
}
