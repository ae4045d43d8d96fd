//! The neighbors stage: the k nearest of *every* row, by a join of the lists.
//!
//! Each row visits the lists whose centroids lie nearest to it. The rows of a
//! window, near each other since rows are numbered by list, visit much the
//! same lists: regrouped by list, they meet its rows in dense matrix products.
//! How many lists follows from the recall asked for and the exact neighbours
//! of a sample. Small data are compared pair by pair. Either way the best few
//! by score are ordered again by exact distance, and a row's own entry goes by
//! identity.
//!
//! What must hold: a row's neighbours are the k least (distance, row) of all
//! rows it meets; threads, cache and portions cannot change them.

mod exchange;
pub mod kernel;
mod panel;
mod sample;
mod segments;
mod store;
mod top;

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use exchange::{export, export_bytes, import, import_bytes};
pub use panel::{PANEL, Panel};
pub use sample::{Sample, bytes as sweep_bytes, exact, panels, probes_for, sweep};
pub use segments::Segments;
pub use store::{Graph, GraphWriter, MISSING, NEIGHBORS};
pub use top::Top;

use crate::Result;
use crate::index::{Lists, Made};
use crate::observe::Progress;
use crate::plan::Plan;
use kernel::{Packed, Queries};
use segments::Cache;

/// Tasks a thread is given at a time; their results wait to be written in order.
const TASKS_A_THREAD: usize = 2;
/// Segments of one list that a row visits at most: 65,536 rows.
const MOST_SEGMENTS: usize = 16;
/// Lists that a row probes at least, so that one in a tiny list meets others.
const LEAST_PROBES: usize = 8;
/// Rows of a window, at most, where lists are probed.
const WINDOW: usize = 16_384;
/// Visits (a row to a list) of a window, about.
const VISITS: usize = 1 << 19;

/// What the stage found, beside the graph itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Lists that each row visited; all of them where every pair was compared.
    pub probes: usize,
    /// Rows that a row was compared with, on average.
    pub mean_candidates: f64,
    /// Share of the sample's true neighbours that the graph holds.
    pub recall: f64,
    /// Half the width of recall's 95 % interval (normal approximation over sample rows).
    pub recall_interval: f64,
    /// Rows in the sample.
    pub sample_rows: usize,
    /// Mean distance to a neighbour, over all rows and neighbours.
    pub mean_distance: f64,
    /// Rows with an exact copy among their neighbours.
    pub rows_with_copies: u64,
}

/// Joins every row with its surroundings and writes the graph to `dir`.
pub fn join(
    plan: &Plan,
    lists: &Lists,
    dir: &std::path::Path,
    progress: &Progress<'_>,
) -> Result<(Made, Found, Sample)> {
    let k = plan.k();
    let table = &lists.table;
    let truth = exact(plan, lists, k, progress)?;
    let (probes, estimate) = if plan.index.exact {
        (table.count(), 1.0)
    } else {
        let (probes, recall) = probes_for(&truth, lists, plan.config.recall, plan.index.max_candidates)?;
        (probes.max(LEAST_PROBES).min(table.count()), recall)
    };
    if estimate < plan.config.recall {
        progress.note(&format!(
            "recall will be about {estimate:.3} rather than {:.3}: more would compare each row with over {} others",
            plan.config.recall, plan.index.max_candidates
        ))?;
    }

    let segments = Segments::all_pairs(lists, plan.index.exact)?;
    let cache = Cache::new(&segments, plan.neighbors.cache_bytes, !plan.index.exact);
    let mut writer = GraphWriter::create(&dir.join(NEIGHBORS), k, table.rows())?;
    let metric = plan.config.metric;
    let (mut distance_sum, mut distances, mut copies, mut candidates) = (0f64, 0u64, 0u64, 0u64);
    let (mut sampled, mut recalls) = (0usize, Vec::with_capacity(truth.rows.len()));

    let coarse = (!plan.index.exact).then(|| Coarse::new(lists, probes, plan.config.seed));
    let rows_a_task = if plan.index.exact { PANEL } else { window_rows(probes) };
    let tasks: Vec<Range<u32>> = (0..table.rows())
        .step_by(rows_a_task)
        .map(|start| start..(start + rows_a_task as u32).min(table.rows()))
        .collect();
    for together in tasks.chunks(plan.threads * TASKS_A_THREAD) {
        let done = together
            .par_iter()
            .map(|rows| run(rows.clone(), &segments, &cache, coarse.as_ref(), k, progress))
            .collect::<Result<Vec<_>>>()?;
        for (rows, (found, compared)) in together.iter().zip(done) {
            candidates += compared;
            for (row, neighbors) in rows.clone().zip(&found) {
                if truth.rows.get(sampled) == Some(&row) {
                    recalls.push(recall(neighbors, &truth.neighbors[sampled]));
                    sampled += 1;
                }
                copies += u64::from(neighbors.first().is_some_and(|&(d, _)| d == 0.0));
                // One row after another, so that the mean does not depend on the tasks.
                for &(squared, _) in neighbors {
                    distance_sum += f64::from(metric.distance(squared));
                    distances += 1;
                }
                writer.push(neighbors.iter().map(|&(squared, row)| (row, metric.distance(squared))))?;
            }
            progress.advance(rows.len() as u64)?;
        }
    }
    progress.traffic.read(cache.read.load(std::sync::atomic::Ordering::Relaxed));
    let stamp = writer.finish()?;
    progress.traffic.wrote(stamp.bytes);
    let (recall, recall_interval) = crate::quality::mean_and_interval(&recalls);
    let found = Found {
        probes,
        mean_candidates: candidates as f64 / f64::from(table.rows().max(1)),
        recall,
        recall_interval,
        sample_rows: recalls.len(),
        mean_distance: distance_sum / distances.max(1) as f64,
        rows_with_copies: copies,
    };
    Ok((vec![(NEIGHBORS.to_string(), stamp)], found, truth))
}

/// Share of the true neighbours found: a row as near as the farthest true one counts.
fn recall(found: &[(f32, u32)], truth: &[(f32, u32)]) -> f64 {
    let Some(&(farthest, _)) = truth.last() else { return 1.0 };
    found.iter().filter(|&&(d, _)| d <= farthest).count().min(truth.len()) as f64 / truth.len() as f64
}

/// Rows of a window whose every row probes so many lists.
fn window_rows(probes: usize) -> usize {
    (VISITS / probes.max(1)).clamp(PANEL, WINDOW)
}

/// The centroids, packed to find each row's nearest lists.
struct Coarse {
    center: Vec<f32>,
    packed: Packed,
    /// Which lists were packed: those that have rows.
    numbers: Vec<u32>,
    probes: usize,
    seed: u64,
}

impl Coarse {
    fn new(lists: &Lists, probes: usize, seed: u64) -> Self {
        let table = &lists.table;
        let center = table.centroid(0).to_vec();
        let numbers: Vec<u32> = (0..table.count() as u32).filter(|&l| !table.range(l as usize).is_empty()).collect();
        let centroids: Vec<&[f32]> = numbers.iter().map(|&l| table.centroid(l as usize)).collect();
        let mut packed = Packed::default();
        packed.load(centroids.into_iter(), &center);
        Coarse { center, packed, numbers, probes, seed }
    }

    /// Which segments each of `vectors` visits; the first of them is row `first`.
    fn visits(&self, first: u32, vectors: &[&[f32]], segments: &Segments<'_>) -> Visits {
        let lists = self.packed.rows();
        let mut visited: Vec<(u32, u32)> = Vec::with_capacity(vectors.len() * (self.probes + 1));
        let mut queries = Queries::default();
        let mut top = vec![Top::default(); PANEL];
        for (panel, vectors) in vectors.chunks(PANEL).enumerate() {
            top.iter_mut().for_each(|top| top.reset(self.probes));
            queries.load(vectors.iter().copied(), &self.center);
            kernel::for_each_tile(&queries, &self.packed, |group, block, tile| {
                for (scores, top) in tile.iter().zip(&mut top[group * kernel::QUERIES..]) {
                    let limit = top.threshold;
                    if scores.iter().fold(false, |any, &s| any | (s <= limit)) {
                        for (lane, &score) in scores.iter().enumerate() {
                            let list = block * kernel::LANES + lane;
                            if score <= top.threshold && list < lists {
                                top.offer(score, self.numbers[list]);
                            }
                        }
                    }
                }
            });
            for (i, top) in top.iter_mut().take(vectors.len()).enumerate() {
                let place = (panel * PANEL + i) as u32;
                let own = segments.lists.table.list_of(first + place) as u32;
                // The row's own list always, even where centroids lie so close
                // together that rounding orders them.
                let others = top.sorted().map(|(_, list)| list).filter(|&list| list != own);
                for list in std::iter::once(own).chain(others).take(self.probes) {
                    let there = segments.of_list(list as usize);
                    if there.len() <= MOST_SEGMENTS {
                        visited.extend(there.map(|segment| (place, segment)));
                        continue;
                    }
                    // A list this long holds copies of one vector, or nearly: a part of it
                    // has neighbours enough. One's own part first, or one drawn for the row.
                    let (row, count) = (first + place, there.len() as u32);
                    let from = if list == own {
                        segments.segment_of(row) - there.start
                    } else {
                        crate::random::below(self.seed, u64::from(list), u64::from(row), u64::from(count)) as u32
                    };
                    visited.extend((0..MOST_SEGMENTS as u32).map(|s| (place, there.start + (from + s) % count)));
                }
            }
        }
        let mut starts = vec![0u32; segments.count() + 1];
        visited.iter().for_each(|&(_, segment)| starts[segment as usize + 1] += 1);
        (0..segments.count()).for_each(|segment| starts[segment + 1] += starts[segment]);
        let mut next = starts.clone();
        let mut visits = vec![0u32; visited.len()];
        for &(place, segment) in &visited {
            visits[next[segment as usize] as usize] = place;
            next[segment as usize] += 1;
        }
        Visits { pairs: visited, visits, starts }
    }
}

/// Who visits what, both ways.
struct Visits {
    /// (row's place, segment), row after row.
    pairs: Vec<(u32, u32)>,
    /// Places of rows, segment after segment.
    visits: Vec<u32>,
    /// The first of each segment's, and the length last.
    starts: Vec<u32>,
}

impl Visits {
    fn of(&self, segment: usize) -> &[u32] {
        &self.visits[self.starts[segment] as usize..self.starts[segment + 1] as usize]
    }
}

type RowsFound = Vec<Vec<(f32, u32)>>;

/// Finds the neighbours of `rows`; also says how many pairs were compared.
fn run(
    rows: Range<u32>,
    segments: &Segments<'_>,
    cache: &Cache<'_>,
    coarse: Option<&Coarse>,
    k: usize,
    progress: &Progress<'_>,
) -> Result<(RowsFound, u64)> {
    let (first, vectors) = (rows.start, segments.vectors(rows.clone())?);
    let all: Vec<u32> = (0..vectors.len() as u32).collect();
    let visits = coarse.map(|coarse| coarse.visits(first, &vectors, segments));
    let mut panel = Panel::new(rows.collect(), vectors, k);
    let mut compared = 0;
    // Every other window goes backwards: what the one before met last is still at hand.
    let backwards = (first as usize / all.len().max(1)) % 2 == 1;
    for place in 0..segments.count() {
        let segment = if backwards { segments.count() - 1 - place } else { place };
        let which = match &visits {
            None => all.as_slice(),
            Some(visits) => visits.of(segment),
        };
        let there = segments.range(segment);
        if !which.is_empty() && !there.is_empty() {
            progress.check()?;
            compared += which.len() as u64 * there.len() as u64;
            panel.scan(which, segment, &*cache.get(segment)?, segments);
        }
    }
    Ok((panel.finish(segments, visits.as_ref().map(|v| v.pairs.as_slice()))?, compared))
}

/// Bytes that the stage holds beside the cache: windows and their results, the
/// sample's truth, and centroids twice (as they are, and packed).
pub fn bytes(plan: &Plan) -> u64 {
    let (dim, k) = (plan.shape.dim, plan.k());
    let lists = plan.index.lists;
    let (rows, visits) = if plan.index.exact { (PANEL, 0) } else { (WINDOW, VISITS.max(PANEL * lists)) };
    // Results of a thread's tasks wait for each other; a list may be many
    // times the mean, and each thread packs one outside the cache.
    let results = (TASKS_A_THREAD * rows * (k * 8 + 96)) as u64;
    // A few buffers of the usual size wait to be filled again.
    let segment = 9 * kernel::Packed::bytes(segments::LONGEST.min(plan.shape.rows as usize), dim) / 4;
    // Each visit is listed twice, as found and in order; half as many again where lists are cut.
    let window = Panel::bytes(rows, dim, k)
        + (visits * 18 + lists * 16) as u64
        + PANEL as u64 * Top::bytes(lists.min(VISITS / PANEL));
    let truth = plan.sample_rows() as u64 * (k as u64 * 8 + 40);
    let tables = 2 * (lists * (dim + 2) * 4) as u64;
    truth + tables + (plan.threads as u64 * (results + segment + window)).max(sweep_bytes(plan))
}
