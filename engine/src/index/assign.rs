//! Assigns each row to the list of its nearest centroid, searched in two levels.
//!
//! A row is compared with the centres of all groups of lists, then with the centroids of the
//! [`GROUPS_PROBED`] nearest groups. The result is a pure function of the row and the quantizer; it may
//! miss the nearest centroid of all lists.
//!
//! Where the processor multiplies codes fast, codes exclude most centroids (`assign_by_codes`). The scores of the
//! others decide, which have the same bits in both ways.

use rayon::prelude::*;

use super::assign_by_codes::CodedAssigner;
use super::train::Quantizer;
use crate::distances::{PackedQueries, PackedRows, ScoreBars, for_each_near};

/// Number of groups whose centroids a row is compared with.
pub(super) const GROUPS_PROBED: usize = 8;
/// Number of rows that are compared with the packed centroids together.
pub(super) const PANEL: usize = 256;

/// A quantizer prepared for assignment.
pub(super) enum ListAssigner<'a> {
    ByCodes(CodedAssigner<'a>),
    ByScores(PackedAssigner),
}

impl<'a> ListAssigner<'a> {
    /// Prepares `quantizer`.
    pub(super) fn new(quantizer: &'a Quantizer) -> Self {
        match CodedAssigner::new(quantizer) {
            Some(assigner) => ListAssigner::ByCodes(assigner),
            None => ListAssigner::ByScores(PackedAssigner::new(quantizer)),
        }
    }

    /// Returns the list of each row of `rows`.
    pub(super) fn assign(&self, rows: &[f32]) -> Vec<u32> {
        match self {
            ListAssigner::ByCodes(assigner) => assigner.assign(rows),
            ListAssigner::ByScores(assigner) => assigner.assign(rows),
        }
    }
}

/// Returns the point that is subtracted from rows and centroids before they are scored. Any point near the data can
/// serve; the first group's centre is one.
pub(super) fn common_center(quantizer: &Quantizer) -> &[f32] {
    &quantizer.group_centers[..quantizer.dim]
}

/// A quantizer whose centroids are packed in full precision.
pub(super) struct PackedAssigner {
    center: Vec<f32>,
    groups: PackedRows,
    group_starts: Vec<u32>,
    lists: Vec<PackedRows>,
}

impl PackedAssigner {
    /// Packs `quantizer`.
    pub(super) fn new(quantizer: &Quantizer) -> Self {
        let dim = quantizer.dim;
        let center = common_center(quantizer).to_vec();
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
        PackedAssigner {
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
    #[cfg_attr(lowland_no_faiss, ignore = "trains lists, which FAISS does")]
    fn codes_assign_as_scores_do() {
        // Clusters of very different widths, copies of rows, and a few rows far from all others.
        for (dim, apart, lists) in [(5, 1.0, 100), (24, 30.0, 700), (40, 0.0, 600), (130, 1e4, 400)] {
            let mut rows: Vec<f32> = Vec::new();
            for row in 0..9000u64 {
                let (cluster, copy) = (row % 37, row - row % 3 * u64::from(row % 7 == 0));
                let width = 0.01 + unit(8, 1, cluster) * 2.0;
                let far = if row % 911 == 0 { 300.0 } else { 1.0 };
                for d in 0..dim as u64 {
                    let at = unit(8, 2, cluster * 1000 + d) * apart;
                    rows.push((at + (unit(8, 3, copy * 1000 + d) - 0.5) * width) * far + 7.0);
                }
            }
            let quantizer =
                train(&mut rows.clone(), dim, lists, 1, &crate::observe::Progress::silent()).expect("trains");
            let expected = PackedAssigner::new(&quantizer).assign(&rows);
            for assigner in CodedAssigner::all(&quantizer) {
                assert_eq!(assigner.assign(&rows), expected, "{dim} components, {lists} lists");
                assert_eq!(assigner.assign(&rows[..dim * 100]), expected[..100]);
            }
        }
    }

    #[test]
    #[cfg_attr(lowland_no_faiss, ignore = "trains lists, which FAISS does")]
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
