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

pub use exchange::{export, export_bytes, import};
pub use panel::{PANEL, Panel};
pub use sample::{Sample, bytes as sweep_bytes, exact, panels, probes_for, sweep};
pub use segments::Segments;
pub use top::Top;
pub use store::{Graph, GraphWriter, MISSING, NEIGHBORS};

use crate::Result;
use crate::index::{Lists, Made};
use crate::observe::Progress;
use crate::plan::Plan;
use kernel::{Packed, Queries};
use segments::Cache;

/// Tasks a thread is given at a time; their results wait to be written in order.
const TASKS_A_THREAD: usize = 2;
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
        (table.len(), 1.0)
    } else {
        let (probes, recall) = probes_for(&truth, lists, plan.config.recall, plan.index.max_candidates)?;
        (probes.max(LEAST_PROBES).min(table.len()), recall)
    };
    if estimate < plan.config.recall {
        progress.note(&format!(
            "recall will be about {estimate:.3} rather than {:.3}: more would compare each row with over {} others",
            plan.config.recall, plan.index.max_candidates
        ))?;
    }

    let segments = if plan.index.exact { Segments::even(lists) } else { Segments::lists(lists) };
    let cache = Cache::new(&segments, plan.neighbors.cache_bytes, !plan.index.exact);
    let mut writer = GraphWriter::create(&dir.join(NEIGHBORS), k, table.rows())?;
    let metric = plan.config.metric;
    let (mut distance_sum, mut distances, mut copies, mut candidates) = (0f64, 0u64, 0u64, 0u64);
    let (mut sampled, mut recalls) = (0usize, Vec::with_capacity(truth.rows.len()));

    let coarse = (!plan.index.exact).then(|| Coarse::new(lists, probes));
    let rows_a_task = if plan.index.exact { PANEL } else { window_rows(probes) };
    let tasks: Vec<Range<u32>> = (0..table.rows())
        .step_by(rows_a_task)
        .map(|start| start..start.saturating_add(rows_a_task as u32).min(table.rows()))
        .collect();
    for together in tasks.chunks(plan.threads * TASKS_A_THREAD) {
        let done = together
            .par_iter()
            .map(|rows| {
                progress.check()?;
                run(rows.clone(), &segments, &cache, coarse.as_ref(), k)
            })
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
    probes: usize,
}

impl Coarse {
    fn new(lists: &Lists, probes: usize) -> Self {
        let table = &lists.table;
        let center = table.centroid(0).to_vec();
        let mut packed = Packed::default();
        packed.load(table.centroids.chunks_exact(table.dim), &center);
        Coarse { center, packed, probes }
    }

    /// For each list, the rows of `vectors` (by place) that probe it: in one
    /// array, with the first place of each list's share and the length last.
    fn visits(&self, vectors: &[&[f32]]) -> (Vec<u32>, Vec<u32>) {
        let lists = self.packed.rows();
        let mut probed: Vec<u32> = Vec::with_capacity(vectors.len() * self.probes);
        let mut queries = Queries::default();
        let mut top = vec![Top::default(); PANEL];
        for vectors in vectors.chunks(PANEL) {
            top.iter_mut().for_each(|top| top.reset(self.probes));
            queries.load(vectors.iter().copied(), &self.center);
            kernel::for_each_tile(&queries, &self.packed, |group, block, tile| {
                for (scores, top) in tile.iter().zip(&mut top[group * kernel::QUERIES..]) {
                    let limit = top.threshold;
                    if scores.iter().fold(false, |any, &s| any | (s <= limit)) {
                        for (lane, &score) in scores.iter().enumerate() {
                            let list = block * kernel::LANES + lane;
                            if score <= top.threshold && list < lists {
                                top.offer(score, list as u32);
                            }
                        }
                    }
                }
            });
            top.iter_mut().take(vectors.len()).for_each(|top| probed.extend(top.sorted().map(|(_, list)| list)));
        }
        let mut starts = vec![0u32; lists + 1];
        probed.iter().for_each(|&list| starts[list as usize + 1] += 1);
        (0..lists).for_each(|list| starts[list + 1] += starts[list]);
        let mut next = starts.clone();
        let mut visits = vec![0u32; probed.len()];
        for (visit, &list) in probed.iter().enumerate() {
            visits[next[list as usize] as usize] = (visit / self.probes) as u32;
            next[list as usize] += 1;
        }
        (visits, starts)
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
) -> Result<(RowsFound, u64)> {
    let (first, vectors) = (rows.start, segments.vectors(rows.clone())?);
    let all: Vec<u32> = (0..vectors.len() as u32).collect();
    let visits = coarse.map(|coarse| coarse.visits(&vectors));
    let mut panel = Panel::new(rows.collect(), vectors, k);
    let mut compared = 0;
    // Every other window goes backwards: what the one before met last is still at hand.
    let backwards = (first as usize / WINDOW) % 2 == 1;
    for place in 0..segments.len() {
        let segment = if backwards { segments.len() - 1 - place } else { place };
        let which = match &visits {
            None => all.as_slice(),
            Some((visits, starts)) => &visits[starts[segment] as usize..starts[segment + 1] as usize],
        };
        let there = segments.range(segment);
        if !which.is_empty() && !there.is_empty() {
            compared += which.len() as u64 * there.len() as u64;
            panel.scan(which, &*cache.get(segment)?, segments.center(segment), there);
        }
    }
    Ok((panel.finish(segments)?, compared))
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
    let segment = 9 * kernel::Packed::bytes(plan.index.largest_segment(), dim) / 4;
    let window = Panel::bytes(rows, dim, k) + (visits * 8 + lists * 8 + PANEL * 64) as u64;
    let truth = plan.sample_rows() as u64 * (k as u64 * 8 + 40);
    let tables = 2 * (lists * (dim + 2) * 4) as u64;
    truth + tables + (plan.threads as u64 * (results + segment + window)).max(sweep_bytes(plan))
}
