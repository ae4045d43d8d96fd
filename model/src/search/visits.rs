//! The comparison of lists with the queries that visit them.
//!
//! A task is a part of a list of at most [`PART_ROWS`] rows. It decodes the part's live rows once and compares them
//! with all visitors, [`VISITORS`] at a time. Tasks run in any order and at the same time; the nearest rows so far of
//! a query are behind a lock, which is taken only for rows that pass the filter.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use lowland_engine::Metric;
use lowland_engine::distances::{PackedQueries, PackedRows, ScoreBars, for_each_near, score_bar, squared_distance};
use rayon::prelude::*;

use super::check;
use super::nearest::NearestRows;
use crate::Result;
use crate::snapshot::Snapshot;

/// Largest number of rows that a task decodes.
const PART_ROWS: usize = 1024;
/// Number of queries that are packed together.
const VISITORS: usize = 512;

/// Which queries visit which list.
pub(super) struct Visits {
    /// The first entry of each list in `queries`, then the number of entries.
    starts: Vec<u32>,
    queries: Vec<u32>,
}

impl Visits {
    /// Groups the lists of each query by list.
    pub(super) fn by_list(lists_of: &[Vec<u32>], lists: usize) -> Self {
        let mut starts = vec![0u32; lists + 1];
        lists_of.iter().flatten().for_each(|&list| starts[list as usize + 1] += 1);
        for list in 0..lists {
            starts[list + 1] += starts[list];
        }
        let mut next = starts.clone();
        let mut queries = vec![0u32; starts[lists] as usize];
        for (query, lists) in lists_of.iter().enumerate() {
            for &list in lists {
                queries[next[list as usize] as usize] = query as u32;
                next[list as usize] += 1;
            }
        }
        Visits { starts, queries }
    }

    fn of(&self, list: u32) -> &[u32] {
        &self.queries[self.starts[list as usize] as usize..self.starts[list as usize + 1] as usize]
    }
}

/// What all tasks of a search share.
pub(super) struct Comparison<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) metric: Metric,
    pub(super) center: &'a [f32],
    pub(super) queries: &'a [f32],
    pub(super) own: &'a [u32],
    /// The places that are compared.
    pub(super) only: Range<u32>,
    pub(super) nearest: NearestRows,
    /// (place, query, squared distance), if reverse hits are asked for.
    pub(super) hits: Option<Mutex<Vec<(u32, u32, f32)>>>,
    pub(super) stop: &'a (dyn Fn() -> bool + Sync),
}

/// The reusable memory of a thread.
#[derive(Default)]
struct Scratch {
    vectors: Vec<f32>,
    /// (index in `vectors`, place) of the live rows.
    rows: Vec<(u32, u32)>,
    packed: PackedRows,
    queries: PackedQueries,
    bars: ScoreBars,
    /// Squared distances below which a row has room for a query.
    room: Vec<f32>,
}

impl Comparison<'_> {
    /// Bytes held by a thread.
    pub(super) fn bytes(dim: usize) -> u64 {
        let rows = (PART_ROWS * (dim * 4 + 12)) as u64 + PackedRows::bytes(PART_ROWS, dim);
        rows + (VISITORS * (dim * 4 + 24)) as u64
    }

    /// Compares all lists of `visits` with their visitors.
    pub(super) fn compare(&self, visits: &Visits) -> Result<()> {
        let tasks: Vec<(u32, usize)> = (0..self.snapshot.lists() as u32)
            .filter(|&list| !visits.of(list).is_empty())
            .flat_map(|list| {
                let (base, delta) = self.members(list);
                (0..base.len() + delta.len()).step_by(PART_ROWS).map(move |from| (list, from))
            })
            .collect();
        tasks.into_par_iter().with_max_len(1).try_for_each_init(Scratch::default, |scratch, (list, from)| {
            check(self.stop)?;
            self.load_part(list, from, scratch)?;
            self.compare_part(visits.of(list), scratch);
            Ok(())
        })
    }

    /// The base rows and the delta rows of a list that are compared, dead ones too.
    fn members(&self, list: u32) -> (Range<u32>, &[u32]) {
        let (base, delta) = (self.snapshot.base_range(list), self.snapshot.delta_of(list));
        let Range { start, end } = self.only;
        let within = delta.partition_point(|&place| place < start)..delta.partition_point(|&place| place < end);
        // An empty range may begin after its end.
        let base = base.start.max(start)..base.end.min(end);
        (base.start.min(base.end)..base.end, delta.get(within).unwrap_or(&[]))
    }

    /// Compares all rows with all queries.
    pub(super) fn compare_all(&self) -> Result<()> {
        let queries: Vec<u32> = (0..self.own.len() as u32).collect();
        let Range { start, end } = self.only;
        let parts = (end.saturating_sub(start) as usize).div_ceil(PART_ROWS) as u32;
        (0..parts).into_par_iter().with_max_len(1).try_for_each_init(Scratch::default, |scratch, part| {
            check(self.stop)?;
            let from = start + part * PART_ROWS as u32;
            self.load(from..end.min(from.saturating_add(PART_ROWS as u32)), &[], scratch)?;
            self.compare_part(&queries, scratch);
            Ok(())
        })
    }

    /// Decodes and packs the live rows of a part of a list.
    fn load_part(&self, list: u32, from: usize, scratch: &mut Scratch) -> Result<()> {
        let (base, delta) = self.members(list);
        let until = (from + PART_ROWS).min(base.len() + delta.len());
        let base_part = base.start + from.min(base.len()) as u32..base.start + until.min(base.len()) as u32;
        self.load(base_part, &delta[from.max(base.len()) - base.len()..until.max(base.len()) - base.len()], scratch)
    }

    /// Decodes and packs the live rows at the places `range`, then those at the places `single`.
    fn load(&self, range: Range<u32>, single: &[u32], scratch: &mut Scratch) -> Result<()> {
        let dim = self.snapshot.dim();
        let Scratch { vectors, rows, packed, room, .. } = scratch;
        rows.clear();
        vectors.resize((range.len() + single.len()) * dim, 0.0);
        let live = range.clone().chain(single.iter().copied()).zip(0u32..);
        rows.extend(live.filter(|&(place, _)| !self.snapshot.is_dead(place)).map(|(place, index)| (index, place)));
        let (of_range, of_single) = vectors.split_at_mut(range.len() * dim);
        if !range.is_empty() {
            self.snapshot.read_vectors(range, of_range)?;
        }
        for (&place, vector) in single.iter().zip(of_single.chunks_exact_mut(dim)) {
            if !self.snapshot.is_dead(place) {
                self.snapshot.read_vector(place, vector)?;
            }
        }
        packed.load(rows.iter().map(|&(index, _)| &vectors[index as usize * dim..][..dim]), self.center);
        room.clear();
        if self.hits.is_some() {
            room.extend(rows.iter().map(|&(_, place)| squared_bound(self.metric, self.snapshot.radius(place))));
        }
        Ok(())
    }

    /// Compares the packed rows with their visitors.
    fn compare_part(&self, visitors: &[u32], scratch: &mut Scratch) {
        let dim = self.snapshot.dim();
        let Scratch { vectors, rows, packed, queries, bars, room } = scratch;
        if rows.is_empty() {
            return;
        }
        let largest = packed.max_half_norm();
        let widest = room.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let vector = |query: u32| &self.queries[query as usize * dim..][..dim];
        let mut hits = Vec::new();
        for visitors in visitors.chunks(VISITORS) {
            queries.load(visitors.iter().map(|&query| vector(query)), self.center);
            let half_norms = queries.half_norms();
            // The largest score of a row at a squared distance of `limit`.
            let bar = |i: usize, limit: f32| score_bar(limit, half_norms[i] + largest, dim) - half_norms[i];
            let mut limits: Vec<f32> = visitors.iter().map(|&query| self.nearest.limit(query as usize)).collect();
            bars.set(limits.iter().enumerate().map(|(i, &limit)| bar(i, limit.max(widest))));
            for_each_near(queries, packed, bars, |i, row, score| {
                let (query, (index, place)) = (visitors[i], rows[row]);
                let own = self.own[query as usize] == place;
                let room = room.get(row).copied().unwrap_or(f32::NEG_INFINITY);
                if !own && score <= bar(i, limits[i].max(room)) {
                    let squared = squared_distance(vector(query), &vectors[index as usize * dim..][..dim]);
                    limits[i] = self.nearest.offer(query as usize, squared, place);
                    if squared <= room && self.metric.distance(squared) < self.snapshot.radius(place) {
                        hits.push((place, query, squared));
                    }
                }
                bar(i, limits[i].max(widest))
            });
        }
        if let Some(all) = &self.hits
            && !hits.is_empty()
        {
            all.lock().unwrap_or_else(PoisonError::into_inner).append(&mut hits);
        }
    }
}

/// Returns a squared distance that is at least that of every row whose distance is `radius`. The factor covers the
/// rounding of the metric's distance.
pub(super) fn squared_bound(metric: Metric, radius: f32) -> f32 {
    let squared = match metric {
        Metric::Euclidean => radius * radius,
        Metric::Cosine | Metric::Correlation => 2.0 * radius,
        _ => radius,
    };
    squared * 1.000_001 + f32::MIN_POSITIVE
}
