//! Assigns each row to the list of its nearest centroid, searched in two levels.
//!
//! A row is compared with the centres of all groups of lists, then with the centroids of the
//! [`GROUPS_PROBED`] nearest groups. The result is a pure function of the row and the quantizer; it may
//! miss the nearest centroid of all lists.

use rayon::prelude::*;

use super::train::Quantizer;
use crate::distances::{PackedQueries, PackedRows, ScoreBars, for_each_near};

/// Number of groups whose centroids a row is compared with.
const GROUPS_PROBED: usize = 8;
/// Number of rows that are compared with the packed centroids together.
const PANEL: usize = 256;

/// A quantizer packed for assignment.
pub(super) struct ListAssigner {
    center: Vec<f32>,
    groups: PackedRows,
    group_starts: Vec<u32>,
    lists: Vec<PackedRows>,
}

impl ListAssigner {
    /// Packs `quantizer`.
    pub(super) fn new(quantizer: &Quantizer) -> Self {
        let dim = quantizer.dim;
        // Any point near the data can serve as the common shift; the first group's centre is one.
        let center = quantizer.group_centers[..dim].to_vec();
        let pack = |rows: &[f32]| {
            let mut packed = PackedRows::default();
            packed.load(rows.chunks_exact(dim), &center);
            packed
        };
        let lists = quantizer
            .group_starts
            .windows(2)
            .map(|w| pack(&quantizer.centroids[w[0] as usize * dim..w[1] as usize * dim]))
            .collect();
        ListAssigner {
            groups: pack(&quantizer.group_centers),
            group_starts: quantizer.group_starts.clone(),
            lists,
            center,
        }
    }

    /// Returns the list of each row of `rows`.
    pub(super) fn assign(&self, rows: &[f32]) -> Vec<u32> {
        let dim = self.center.len();
        let mut assigned = vec![0u32; rows.len() / dim];
        assigned.par_chunks_mut(PANEL).zip(rows.par_chunks(PANEL * dim)).for_each(|(out, rows)| {
            let row = |i: u32| &rows[i as usize * dim..][..dim];
            let mut queries = PackedQueries::default();
            // The rows that are compared with each group.
            let mut visitors = vec![Vec::new(); self.lists.len()];
            if self.lists.len() <= GROUPS_PROBED {
                visitors.fill((0..out.len() as u32).collect());
            } else {
                queries.load(rows.chunks_exact(dim), &self.center);
                for (i, groups) in k_nearest(&queries, &self.groups, GROUPS_PROBED).into_iter().enumerate() {
                    groups.into_iter().for_each(|(_, group)| visitors[group as usize].push(i as u32));
                }
            }
            let mut best = vec![(f32::INFINITY, u32::MAX); out.len()];
            let mut bars = ScoreBars::default();
            for (group, visitors) in visitors.iter().enumerate().filter(|(_, v)| !v.is_empty()) {
                queries.load(visitors.iter().map(|&i| row(i)), &self.center);
                // The best score from earlier groups is the first threshold.
                bars.set(visitors.iter().map(|&i| best[i as usize].0));
                for_each_near(&queries, &self.lists[group], &mut bars, |query, place, score| {
                    let best = &mut best[visitors[query] as usize];
                    let list = self.group_starts[group] + place as u32;
                    // Equal scores go to the lower list, whatever the order of groups.
                    if (score, list) < *best {
                        *best = (score, list);
                    }
                    best.0
                });
            }
            for (out, (_, list)) in out.iter_mut().zip(best) {
                *out = list.min(*self.group_starts.last().unwrap_or(&1) - 1);
            }
        });
        assigned
    }
}

/// Returns for each of `rows` the index of its nearest row of `centers`.
pub(super) fn nearest_centers(centers: &[f32], dim: usize, rows: &[f32]) -> Vec<u32> {
    let center = centers[..dim].to_vec();
    let mut packed = PackedRows::default();
    packed.load(centers.chunks_exact(dim), &center);
    let mut found = vec![0u32; rows.len() / dim];
    found.par_chunks_mut(PANEL).zip(rows.par_chunks(PANEL * dim)).for_each(|(out, rows)| {
        let mut queries = PackedQueries::default();
        queries.load(rows.chunks_exact(dim), &center);
        for (out, found) in out.iter_mut().zip(k_nearest(&queries, &packed, 1)) {
            *out = found.first().map_or(0, |&(_, place)| place);
        }
    });
    found
}

/// Returns for each query the `keep` best rows of a small table, best first, as (score, row).
pub fn k_nearest(queries: &PackedQueries, table: &PackedRows, keep: usize) -> Vec<Vec<(f32, u32)>> {
    let mut best: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(keep + 1); queries.count()];
    let mut bars = ScoreBars::default();
    bars.set(best.iter().map(|_| f32::INFINITY));
    for_each_near(queries, table, &mut bars, |query, row, score| {
        let best = &mut best[query];
        // Rows come in ascending order, so a tie is inserted after the lower row.
        let at = best.partition_point(|&(s, _)| s <= score);
        best.insert(at, (score, row as u32));
        best.truncate(keep);
        best.get(keep - 1).map_or(f32::INFINITY, |&(worst, _)| worst)
    });
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distances::squared_distance;
    use crate::index::train::train;
    use crate::random::unit;

    #[test]
    fn list_assignment_is_near_and_independent_of_batches() {
        let dim = 6;
        let rows: Vec<f32> = (0..5000 * dim).map(|i| unit(5, 6, i as u64) + 100.0).collect();
        let quantizer = train(&mut rows.clone(), dim, 400, 1, &crate::observe::Progress::silent()).expect("trains");
        let assigner = ListAssigner::new(&quantizer);
        let whole = assigner.assign(&rows);
        let split: Vec<u32> = rows.chunks(dim * 777).flat_map(|r| assigner.assign(r)).collect();
        assert_eq!(whole, split);
        let exact = nearest_centers(&quantizer.centroids, dim, &rows);
        let same = whole.iter().zip(&exact).filter(|(a, b)| a == b).count();
        assert!(same * 100 > 97 * exact.len(), "{same} of {} in the nearest list", exact.len());
        let first = (0..quantizer.count())
            .min_by(|&a, &b| {
                let d = |l: usize| squared_distance(&rows[..dim], &quantizer.centroids[l * dim..][..dim]);
                d(a).total_cmp(&d(b))
            })
            .expect("lists");
        assert_eq!(exact[0] as usize, first);
    }
}
