//! The nearest live rows of a snapshot for new rows.
//!
//! A query visits the `first` lists whose centroids are nearest to it, more where rows of these are gone
//! (`near_lists`), then `graph` further lists: those that hold most of the live stored neighbours of the rows found so
//! far ([`SearchEffort`]). In each of the two passes the queries
//! are grouped by the lists that they visit, and each visited list is decoded once and compared with all its visitors
//! in dense products (`visits`). Of the compared rows those with the smallest (squared distance, place) are kept.
//!
//! What must hold: what is found for a query depends on the snapshot, the effort and the query alone: not on other
//! queries, on their order or on the number of threads. Exact distances decide; approximate scores only filter.

mod effort;
#[cfg(test)]
pub(crate) mod fixture;
mod followed;
mod near_lists;
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

pub use effort::{effort, first_only};
use followed::{FOLLOWED, ListScores};
use near_lists::LiveShares;
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

/// Up to so many places, a thorough search visits all lists.
const THOROUGH_PLACES: u32 = 65_536;
/// In larger models a thorough search visits so many times the lists of the effort.
const THOROUGH_LISTS: usize = 16;

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

    /// Removes the queries from `first` on and returns them.
    fn split_off(&mut self, first: usize) -> Found {
        Found {
            k: self.k,
            places: self.places.split_off(first * self.k),
            distances: self.distances.split_off(first * self.k),
            lists: self.lists.split_off(first),
            list_distances: self.list_distances.split_off(first),
        }
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
    /// Whether queries are compared with all of them, and not only with those in some lists.
    exact: bool,
    /// Subtracted from both sides of every product. Any point near the data serves.
    center: Vec<f32>,
    centroids: PackedRows,
    live_shares: LiveShares,
}

impl<'a> Searcher<'a> {
    /// Creates the search in `snapshot`, whose vectors are prepared for `metric`.
    pub fn new(snapshot: &'a Snapshot, metric: Metric, effort: SearchEffort) -> Self {
        let dim = snapshot.dim();
        let center = snapshot.centroids().get(..dim).map_or_else(|| vec![0.0; dim], <[f32]>::to_vec);
        let mut centroids = PackedRows::default();
        centroids.load(snapshot.centroids().chunks_exact(dim), &center);
        let live_shares = LiveShares::of(snapshot);
        Searcher { snapshot, metric, effort, only: 0..snapshot.places(), exact: false, center, centroids, live_shares }
    }

    /// Compares queries only with the rows in `places`.
    pub fn only(self, places: Range<u32>) -> Self {
        Searcher { only: places, ..self }
    }

    /// Compares queries with all rows, whatever the effort.
    pub fn exact(self) -> Self {
        Searcher { exact: true, ..self }
    }

    /// Returns the bytes that a search for the `k` nearest of `queries` queries holds, with what it returns but
    /// without the queries themselves and reverse hits. `lists` lists of `dim` components, on `threads` threads.
    pub fn bytes(effort: SearchEffort, lists: usize, dim: usize, queries: usize, k: usize, threads: usize) -> u64 {
        let first = near_lists::most(usize::from(effort.first)).min(lists);
        let visited = first + usize::from(effort.graph);
        let query = NearestRows::bytes(k.max(FOLLOWED)) + k as u64 * 8 + 8 + visited as u64 * 12 + 80;
        let thread =
            Comparison::bytes(dim) + (PANEL * dim * 4) as u64 + (PANEL * first * 16) as u64 + ListScores::bytes(lists);
        PackedRows::bytes(lists, dim)
            + (lists * 16) as u64
            + LiveShares::bytes(lists)
            + queries as u64 * query
            + threads as u64 * thread
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
        Ok(self.search_and_probe(queries, own, k, reverse, 0, stop)?.0)
    }

    /// Searches like [`search`](Self::search), but the last `probes` queries thoroughly: in all lists of a model of up to
    /// 65,536 places, in sixteen times as many lists as the effort has in larger ones. Returns what was found for the
    /// other queries and for the probes. Probes have no reverse hits.
    ///
    /// # Errors
    /// Those of [`search`](Self::search).
    ///
    /// # Panics
    /// As [`search`](Self::search), or if there are more probes than queries.
    pub fn search_and_probe(
        &self,
        queries: &[f32],
        own: &[u32],
        k: usize,
        reverse: Option<&mut ReverseHits>,
        probes: usize,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<(Found, Found)> {
        let dim = self.snapshot.dim();
        assert_eq!(queries.len(), own.len() * dim, "one vector for each query");
        let searched = own.len() - probes;
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
        let (lists, list_distances) = match self.exact {
            true => {
                task.compare_all()?;
                let (_, lists, distances) = self.nearest_lists(queries, 1, stop)?;
                (lists, distances)
            }
            false => self.compare_lists(&task, k, searched)?,
        };
        if let (Some(reverse), Some(hits)) = (reverse, task.hits) {
            let mut hits = hits.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            hits.retain(|&(_, query, _)| (query as usize) < searched);
            reverse.hits.append(&mut hits);
            reverse.hits.par_sort_unstable_by_key(|&(place, query, _)| (place, query));
            reverse.hits.dedup();
        }
        let (places, distances) = task.nearest.into_found(k);
        let mut found = Found { k, places, distances, lists, list_distances };
        let thorough = found.split_off(searched);
        Ok((found, thorough))
    }

    /// Compares the queries of `task` with the rows of the lists that they visit, those from number `searched` on with the
    /// rows of many lists. Returns the list with the nearest centroid of each query, and the squared distance to it.
    fn compare_lists(&self, task: &Comparison<'_>, k: usize, searched: usize) -> Result<(Vec<u32>, Vec<f32>)> {
        let (dim, lists) = (self.snapshot.dim(), self.snapshot.lists());
        let SearchEffort { first, graph } = self.effort;
        let (queries, probes) = task.queries.split_at(searched * dim);
        let (mut visited, mut own_list, mut distances) = self.first_lists(queries, task.stop)?;
        if !probes.is_empty() {
            let thorough = match self.snapshot.places() {
                0..=THOROUGH_PLACES => lists,
                _ => THOROUGH_LISTS * usize::from(first.max(1)),
            };
            let of_probes = self.nearest_lists(probes, thorough, task.stop)?;
            visited.extend(of_probes.0);
            own_list.extend(of_probes.1);
            distances.extend(of_probes.2);
        }
        task.compare(&Visits::by_list(&visited, lists))?;
        if graph > 0 && k > 0 {
            let graph = usize::from(graph);
            let count = |query: usize| if query < searched { graph } else { THOROUGH_LISTS * graph };
            let more = self.followed_lists(task, &visited, count)?;
            drop(visited);
            task.compare(&Visits::by_list(&more, lists))?;
        }
        self.widen(task, k)?;
        Ok((own_list, distances))
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

    /// Returns the lists that each query visits first.
    fn first_lists(&self, queries: &[f32], stop: &(dyn Fn() -> bool + Sync)) -> Result<NearestLists> {
        let first = usize::from(self.effort.first.max(1));
        // Rows that are only a part of the snapshot are gone elsewhere for another reason.
        let part = self.only != (0..self.snapshot.places());
        let candidates = if part { first } else { self.live_shares.candidates(first) };
        let (mut visited, lists, distances) = self.nearest_lists(queries, candidates, stop)?;
        if candidates > first {
            for lists in &mut visited {
                lists.truncate(self.live_shares.visited(lists, first));
            }
        }
        Ok((visited, lists, distances))
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

    /// Returns for each query of `task` up to `count(query)` lists besides those `visited`, by the neighbours of the rows
    /// found.
    fn followed_lists(
        &self,
        task: &Comparison<'_>,
        visited: &[Vec<u32>],
        count: impl Fn(usize) -> usize + Sync,
    ) -> Result<Vec<Vec<u32>>> {
        visited
            .par_iter()
            .enumerate()
            .with_min_len(32)
            .map_init(
                || ListScores::new(self.snapshot.lists()),
                |scores, (query, visited)| {
                    check(task.stop)?;
                    Ok(scores.best(self.snapshot, &task.nearest.places(query), task.own[query], visited, count(query)))
                },
            )
            .collect()
    }
}

/// Returns an error once `stop` returns true.
fn check(stop: &(dyn Fn() -> bool + Sync)) -> Result<()> {
    if stop() { Err(EngineError::Cancelled { stage: "search" }.into()) } else { Ok(()) }
}
