//! The neighbors stage: the k nearest of *every* row, by a join of the lists.
//!
//! All rows of a list visit the same lists, those whose centroids lie nearest
//! to its own, so that the work is dense matrix products. How many lists
//! follows from the recall asked for and the exact neighbours of a sample.
//! Small data are compared pair by pair. Either way the best few by score are
//! ordered again by exact distance, and a row's own entry goes by identity.
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

pub use exchange::{export, import};
pub use panel::{PANEL, Panel};
pub use sample::{Sample, bytes as sweep_bytes, exact, panels, probes_for, sweep};
pub use segments::Segments;
pub use top::Top;
pub use store::{Graph, GraphWriter, MISSING, NEIGHBORS};

use crate::Result;
use crate::index::{Lists, Made};
use crate::observe::Progress;
use crate::plan::Plan;
use segments::Cache;

/// Tasks a thread is given at a time; their results wait to be written in order.
const TASKS_A_THREAD: usize = 4;
/// A row meets at least so many times `k` others, however small its list's surroundings.
const LEAST_CANDIDATES: usize = 4;

/// What the stage found, beside the graph itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Lists that each list's rows visited; all of them where every pair was compared.
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

/// A list's task: some of its rows, and what they visit.
struct Task {
    rows: Range<u32>,
    /// The list whose surroundings are visited; all segments where `None`.
    list: Option<usize>,
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
        probes_for(&truth, lists, plan.config.recall, plan.index.max_candidates)
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

    let tasks = tasks(lists, plan.index.exact);
    for window in tasks.chunks(plan.threads * TASKS_A_THREAD) {
        let done = window.par_iter().map(|task| run(task, &segments, &cache, probes, k)).collect::<Result<Vec<_>>>()?;
        for (task, (found, compared)) in window.iter().zip(done) {
            candidates += compared * task.rows.len() as u64;
            progress.traffic.read(compared * table.dim as u64 * 4);
            for (row, neighbors) in task.rows.clone().zip(&found) {
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
            progress.advance(task.rows.len() as u64)?;
        }
    }
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

/// All rows in tasks of at most a panel; lists are divided evenly.
fn tasks(lists: &Lists, exact: bool) -> Vec<Task> {
    let divide = |range: Range<u32>, list: Option<usize>| {
        let parts = range.len().div_ceil(PANEL).max(1) as u64;
        let cut = move |i: u64| range.start + (range.len() as u64 * i / parts) as u32;
        (0..parts).map(move |i| Task { rows: cut(i)..cut(i + 1), list })
    };
    let table = &lists.table;
    if exact {
        divide(0..table.rows(), None).collect()
    } else {
        (0..table.len()).flat_map(|list| divide(table.range(list), Some(list))).filter(|t| !t.rows.is_empty()).collect()
    }
}

type RowsFound = Vec<Vec<(f32, u32)>>;

/// Runs one task; each row's neighbours, and how many rows each was compared with.
fn run(task: &Task, segments: &Segments<'_>, cache: &Cache<'_>, probes: usize, k: usize) -> Result<(RowsFound, u64)> {
    let visited: Vec<usize> = match task.list {
        None => (0..segments.len()).collect(),
        Some(list) => {
            let enough = (LEAST_CANDIDATES * k) as u64;
            let mut met = 0;
            segments
                .lists
                .table
                .nearest_lists(list)
                .into_iter()
                .enumerate()
                .take_while(|&(place, other)| {
                    let go_on = place < probes || met < enough;
                    met += segments.range(other as usize).len() as u64;
                    go_on
                })
                .map(|(_, other)| other as usize)
                .collect()
        }
    };
    let mut panel = Panel::new(task.rows.clone().collect(), segments.vectors(task.rows.clone())?, k);
    let mut compared = 0;
    for segment in visited {
        let rows = segments.range(segment);
        compared += rows.len() as u64;
        if !rows.is_empty() {
            panel.scan(&*cache.get(segment)?, segments.center(segment), rows);
        }
    }
    let mut found = Vec::with_capacity(task.rows.len());
    panel.finish(segments, |_, neighbors| found.push(neighbors.to_vec()))?;
    Ok((found, compared))
}

/// Bytes that the stage holds beside the cache: panels and their results, the
/// sample's truth, centroids and the order of lists a thread is working from.
pub fn bytes(plan: &Plan) -> u64 {
    let (dim, k) = (plan.shape.dim, plan.k());
    let results = (PANEL * (k * 8 + 24)) as u64;
    let panels = plan.threads as u64 * Panel::bytes(dim, k) + (plan.threads * TASKS_A_THREAD) as u64 * results;
    // A list may be many times the mean; each thread packs one outside the cache.
    let segment = kernel::Packed::bytes(plan.index.largest_segment(), dim) * plan.threads as u64;
    let lists = plan.index.lists as u64;
    let tables = lists * (dim as u64 * 4 + 4) + plan.threads as u64 * lists * 24;
    let truth = plan.sample_rows() as u64 * (k as u64 * 8 + 40);
    truth + tables + (panels + segment).max(sweep_bytes(plan))
}
