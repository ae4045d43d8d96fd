//! The nearest live rows of a snapshot for new rows.
//!
//! A query visits the `first` lists whose centroids are nearest to it, then `graph` further lists: those that hold
//! most of the stored neighbours of the rows found so far ([`SearchEffort`]). In each of the two passes the queries
//! are grouped by the lists that they visit, and each visited list is decoded once and compared with all its visitors
//! in dense products (`visits`). Of the compared rows those with the smallest (squared distance, place) are kept.
//!
//! What must hold: what is found for a query depends on the snapshot, the effort and the query alone: not on other
//! queries, on their order or on the number of threads. Exact distances decide; approximate scores only filter.

mod effort;
#[cfg(test)]
pub(crate) mod fixture;
mod followed;
mod nearest;
#[cfg(test)]
mod tests;
mod visits;

use std::ops::Range;

use lowland_engine::distances::{PackedQueries, PackedRows, squared_distance};
use lowland_engine::index::k_nearest;
use lowland_engine::neighbors::MISSING;
use lowland_engine::{Error as EngineError, Metric};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use effort::effort;
use followed::{FOLLOWED, ListScores};
use nearest::NearestRows;
use visits::{Comparison, Visits};

use crate::Result;
use crate::snapshot::Snapshot;

/// Number of queries that are compared with the centroids together.
const PANEL: usize = 256;

/// The fewest and the most queries that are searched together if memory allows.
const BATCH_ROWS: [usize; 2] = [1 << 14, 1 << 16];
/// A batch of queries visits nearly all lists, so that all rows are decoded for it: it has at least one query for so
/// many rows.
const ROWS_PER_QUERY: usize = 64;

/// Returns the number of queries that a search in a model of `places` places takes together if memory allows. What is
/// found does not depend on it.
pub fn batch_rows(places: u32) -> usize {
    (places as usize / ROWS_PER_QUERY).clamp(BATCH_ROWS[0], BATCH_ROWS[1])
}

/// How many lists a query visits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchEffort {
    /// Number of lists with the nearest centroids.
    pub first: u16,
    /// Number of further lists, which hold most of the stored neighbours of the rows found in the first ones.
    pub graph: u16,
}

/// What was found for some queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Number of neighbours of a query.
    pub k: usize,
    /// The places of the nearest rows, `k` a query: ascending by (distance, place), [`MISSING`] where there are fewer.
    pub places: Vec<u32>,
    /// Their squared distances between prepared vectors, `k` a query; infinite where there are fewer.
    pub distances: Vec<f32>,
    /// The list with the nearest centroid, one a query.
    pub lists: Vec<u32>,
    /// The squared distance to that centroid, one a query.
    pub list_distances: Vec<f32>,
}

impl Found {
    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.lists.len()
    }

    /// The places and squared distances of a query's nearest rows, without missing ones.
    pub fn of(&self, query: usize) -> (&[u32], &[f32]) {
        let places = &self.places[query * self.k..][..self.k];
        let present = places.iter().take_while(|&&place| place != MISSING).count();
        (&places[..present], &self.distances[query * self.k..][..present])
    }

    /// Keeps the `k` nearest rows of each query.
    pub fn keep_nearest(&mut self, k: usize) {
        if k >= self.k {
            return;
        }
        for query in 0..self.queries() {
            let kept = query * self.k..query * self.k + k;
            self.places.copy_within(kept.clone(), query * k);
            self.distances.copy_within(kept, query * k);
        }
        self.places.truncate(self.lists.len() * k);
        self.distances.truncate(self.lists.len() * k);
        self.k = k;
    }
}

/// Rows of the snapshot that are nearer to a query than to the last of their stored neighbours, so that the query
/// would be one of their neighbours. Only rows in visited lists are compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReverseHits {
    /// (place, query, squared distance), ascending.
    pub hits: Vec<(u32, u32, f32)>,
}

/// The lists of each query, by ascending distance to their centroids; the first list of each query; the squared
/// distance to its centroid.
type NearestLists = (Vec<Vec<u32>>, Vec<u32>, Vec<f32>);

/// The search in a snapshot. Holds the packed centroids and nothing that grows with the rows.
pub struct Searcher<'a> {
    snapshot: &'a Snapshot,
    metric: Metric,
    effort: SearchEffort,
    /// The places that are compared.
    only: Range<u32>,
    /// Subtracted from both sides of every product. Any point near the data serves.
    center: Vec<f32>,
    centroids: PackedRows,
}

impl<'a> Searcher<'a> {
    /// Creates the search in `snapshot`, whose vectors are prepared for `metric`.
    pub fn new(snapshot: &'a Snapshot, metric: Metric, effort: SearchEffort) -> Self {
        let dim = snapshot.dim();
        let center = snapshot.centroids().get(..dim).map_or_else(|| vec![0.0; dim], <[f32]>::to_vec);
        let mut centroids = PackedRows::default();
        centroids.load(snapshot.centroids().chunks_exact(dim), &center);
        Searcher { snapshot, metric, effort, only: 0..snapshot.places(), center, centroids }
    }

    /// Compares queries only with the rows in `places`.
    pub fn only(self, places: Range<u32>) -> Self {
        Searcher { only: places, ..self }
    }

    /// Returns the bytes that a search for the `k` nearest of `queries` queries holds, with what it returns but
    /// without the queries themselves and reverse hits. `lists` lists of `dim` components, on `threads` threads.
    pub fn bytes(effort: SearchEffort, lists: usize, dim: usize, queries: usize, k: usize, threads: usize) -> u64 {
        let visited = usize::from(effort.first) + usize::from(effort.graph);
        let query = NearestRows::bytes(k.max(FOLLOWED)) + k as u64 * 8 + 8 + visited as u64 * 12 + 80;
        let thread = Comparison::bytes(dim)
            + (PANEL * dim * 4) as u64
            + (PANEL * usize::from(effort.first) * 16) as u64
            + ListScores::bytes(lists);
        PackedRows::bytes(lists, dim) + (lists * 16) as u64 + queries as u64 * query + threads as u64 * thread
    }

    /// Finds the `k` nearest live rows of each prepared query, and with `reverse` also the rows that would have a
    /// query as a neighbour. `own[i]` is a place that query i does not find, [`MISSING`] for none. Runs in the
    /// current thread pool of rayon.
    ///
    /// # Errors
    /// If vectors cannot be read; [`lowland_engine::Error::Cancelled`] once `stop` returns true.
    ///
    /// # Panics
    /// If `queries` does not hold as many vectors as `own` has places.
    pub fn search(
        &self,
        queries: &[f32],
        own: &[u32],
        k: usize,
        reverse: Option<&mut ReverseHits>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Found> {
        let dim = self.snapshot.dim();
        assert_eq!(queries.len(), own.len() * dim, "one vector for each query");
        let hits = reverse.is_some().then(Default::default);
        let task = Comparison {
            snapshot: self.snapshot,
            metric: self.metric,
            center: &self.center,
            queries,
            own,
            only: self.only.clone(),
            // The graph leads on from as many rows for any k.
            nearest: NearestRows::new(own.len(), if k > 0 { k.max(FOLLOWED) } else { 0 }),
            hits,
            stop,
        };
        let (first, lists, list_distances) =
            self.nearest_lists(queries, usize::from(self.effort.first.max(1)), stop)?;
        task.compare(&Visits::by_list(&first, self.snapshot.lists()))?;
        if self.effort.graph > 0 && k > 0 {
            let more = self.followed_lists(&task, &first, usize::from(self.effort.graph))?;
            drop(first);
            task.compare(&Visits::by_list(&more, self.snapshot.lists()))?;
        }
        self.widen(&task, k)?;
        if let (Some(reverse), Some(hits)) = (reverse, task.hits) {
            let hits = hits.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            reverse.hits.extend(hits);
            reverse.hits.par_sort_unstable_by_key(|&(place, query, _)| (place, query));
            reverse.hits.dedup();
        }
        let (places, distances) = task.nearest.into_found(k);
        Ok(Found { k, places, distances, lists, list_distances })
    }

    /// Compares the queries that found fewer rows than there are with more lists, four times as many each time: most rows
    /// near them are gone, or their lists are small.
    fn widen(&self, task: &Comparison<'_>, k: usize) -> Result<()> {
        if self.only != (0..self.snapshot.places()) {
            return Ok(());
        }
        let (dim, lists, queries) = (self.snapshot.dim(), self.snapshot.lists(), task.own.len());
        let live = self.snapshot.live() as usize;
        // A row of the snapshot does not find itself.
        let enough = |query: usize| k.min(live - usize::from(!self.snapshot.is_dead(task.own[query])));
        let mut count = usize::from(self.effort.first.max(1));
        while count < lists {
            count = (4 * count).min(lists);
            let short: Vec<usize> =
                (0..queries).filter(|&query| task.nearest.places(query).len() < enough(query)).collect();
            for panel in short.chunks(PANEL) {
                let vectors: Vec<f32> =
                    panel.iter().flat_map(|&query| task.queries[query * dim..][..dim].iter().copied()).collect();
                let (near, ..) = self.nearest_lists(&vectors, count, task.stop)?;
                let mut visited = vec![Vec::new(); queries];
                for (&query, near) in panel.iter().zip(near) {
                    visited[query] = near;
                }
                task.compare(&Visits::by_list(&visited, lists))?;
            }
        }
        Ok(())
    }

    /// Returns the list with the nearest centroid of each prepared query: the list of an added row.
    ///
    /// # Errors
    /// [`lowland_engine::Error::Cancelled`] once `stop` returns true.
    pub fn nearest_list(&self, queries: &[f32], stop: &(dyn Fn() -> bool + Sync)) -> Result<Vec<u32>> {
        Ok(self.nearest_lists(queries, 1, stop)?.1)
    }

    /// Returns the `count` lists with the nearest centroids of each query.
    fn nearest_lists(&self, queries: &[f32], count: usize, stop: &(dyn Fn() -> bool + Sync)) -> Result<NearestLists> {
        let dim = self.snapshot.dim();
        let count = count.min(self.snapshot.lists()).max(1);
        let panels: Vec<Vec<(Vec<u32>, f32)>> = queries
            .par_chunks(PANEL * dim)
            .map_init(PackedQueries::default, |packed, panel| {
                check(stop)?;
                packed.load(panel.chunks_exact(dim), &self.center);
                let found = k_nearest(packed, &self.centroids, count);
                let of = |(query, found): (&[f32], Vec<(f32, u32)>)| {
                    let lists: Vec<u32> = found.into_iter().map(|(_, list)| list).collect();
                    let distance = lists.first().map_or(f32::INFINITY, |&list| {
                        squared_distance(query, &self.snapshot.centroids()[list as usize * dim..][..dim])
                    });
                    (lists, distance)
                };
                Ok(panel.chunks_exact(dim).zip(found).map(of).collect())
            })
            .collect::<Result<_>>()?;
        let (mut visited, mut lists, mut distances) = (Vec::new(), Vec::new(), Vec::new());
        for (of, distance) in panels.into_iter().flatten() {
            lists.push(of.first().copied().unwrap_or(0));
            distances.push(distance);
            visited.push(of);
        }
        Ok((visited, lists, distances))
    }

    /// Returns for each query of `task` up to `count` lists besides those `visited`, by the neighbours of the rows found.
    fn followed_lists(&self, task: &Comparison<'_>, visited: &[Vec<u32>], count: usize) -> Result<Vec<Vec<u32>>> {
        visited
            .par_iter()
            .enumerate()
            .with_min_len(32)
            .map_init(
                || ListScores::new(self.snapshot.lists()),
                |scores, (query, visited)| {
                    check(task.stop)?;
                    Ok(scores.best(self.snapshot, &task.nearest.places(query), task.own[query], visited, count))
                },
            )
            .collect()
    }
}

/// Returns an error once `stop` returns true.
fn check(stop: &(dyn Fn() -> bool + Sync)) -> Result<()> {
    if stop() { Err(EngineError::Cancelled { stage: "search" }.into()) } else { Ok(()) }
}
