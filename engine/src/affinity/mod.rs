//! The affinity stage: computes edge weights from distances, and makes the directed graph symmetric.
//!
//! An [`Affinity`] defines the weights of a row's edges, and how the weights of the two edges between a pair of
//! rows are combined: UMAP's fuzzy union a + b − ab, the mean (a + b) / 2 of conditional probabilities, or a
//! count of pairs. Each row is calibrated by itself. A row's edges must then be combined with the edges that
//! lead to the row from any other row. An external transpose (`transpose`) sorts the edges by target, for one
//! run of rows at a time; these incoming edges are merged with the outgoing edges of the same rows, and written
//! as blocks of the edge store (`store`). The weights of the outgoing edges are computed twice rather than
//! stored.
//!
//! What must hold: each row's neighbours are in ascending order, and neither the division into runs nor the
//! number of threads changes a byte of the edge store.
//!
//! The edges of a finished run, whose directory is `run`:
//!
//! ```
//! # use std::sync::Arc;
//! # use lowland_engine::{Config, Inputs, embed};
//! # use lowland_io::{MemorySource, RunDir};
//! # let place = tempfile::tempdir()?;
//! # let rows: Vec<f32> = (0..600 * 8).map(|i| ((i * 7919 % 1009) as f32).sin()).collect();
//! # let inputs = Inputs { source: Some(Arc::new(MemorySource::from_vec("rows", rows, 8)?)), ..Inputs::default() };
//! # let plan = Config { n_epochs: Some(10), threads: Some(1), ..Config::default() }.plan(&inputs.describe()?)?;
//! # let (run, _) = RunDir::open(place.path().join("run"), plan.identity(), Vec::new())?;
//! # let mut map = Vec::new();
//! # let report = embed(&plan, &inputs, &run, &mut map, &())?;
//! use lowland_engine::affinity::EdgeStore;
//!
//! let store = EdgeStore::open(run.dir(), plan.shape().rows)?;
//! // Offsets of the rows' edges, then the target and the weight (0 to 1) of each edge.
//! let edges = store.visit_block(0, |offsets, targets, weights| {
//!     assert_eq!(offsets.len(), 600 + 1);
//!     assert!(weights.iter().all(|&weight| weight > 0.0 && weight <= 1.0));
//!     targets.len() as u64
//! })?;
//! assert_eq!(Some(edges), report.affinity.map(|affinity| affinity.edges));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod calibrate;
mod compared;
pub mod entropic;
pub(crate) mod pairs;
mod store;
mod transpose;

use calibrate::fuzzy_union;
use lowland_io::edges::{EdgeReader, EdgeWriter};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::budget::MemoryNeeds;
pub use crate::config::Affinity;
use crate::index::InvertedLists;
use crate::neighbors::KnnGraph;
use crate::plan::Plan;
use crate::work::{StageContext, StageFiles};
use crate::{Error, Metric, Result};
use compared::Compared;
use pairs::PacmapPairs;
pub use store::{EdgeStore, block_limits};
use store::{EdgeStoreWriter, RowEdges};
use transpose::{CALIBRATION_ROWS, IncomingEdges, TransposedEdges};

/// Approximate number of edges that one thread merges at a time.
const MERGE_EDGES: usize = 1 << 16;

/// Statistics of the symmetric graph.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AffinityStats {
    /// Number of edges of the symmetric graph, where each is counted in both directions.
    pub edges: u64,
    /// The largest weight. An edge of this weight fires in every epoch.
    pub max_weight: f32,
    /// Number of rows without any edge.
    pub isolated_rows: u64,
    /// Number of incoming edges that were left out at rows that are neighbours of too many others.
    pub cut_edges: u64,
}

/// Returns the affinity of a plan's method.
///
/// # Errors
/// If the method computes all pairs.
fn of_plan(plan: &Plan) -> Result<Affinity> {
    let why = || format!("{} compares all pairs, and has no edges", plan.settings.method);
    plan.settings.method.affinity().ok_or_else(|| Error::Config { field: "method", why: why() })
}

/// Computes the directed weights of a row's edges.
pub struct Calibration<'a> {
    graph: &'a KnnGraph,
    weighing: WeightFormula<'a>,
}

enum WeightFormula<'a> {
    Umap { target: f64, mean_distance: f64 },
    Entropic { perplexity: f64, metric: Metric },
    Pacmap(PacmapPairs<'a>),
}

impl<'a> Calibration<'a> {
    /// Returns UMAP's calibration of `graph`, whose mean distance is `mean_distance`.
    pub fn new(graph: &'a KnnGraph, mean_distance: f64) -> Self {
        // umap-learn counts the point itself: k others correspond to its k + 1 neighbours, and its means
        // include a zero for the point.
        let k = graph.k();
        let mean_distance = mean_distance * k as f64 / (k + 1) as f64;
        Calibration { graph, weighing: WeightFormula::Umap { target: calibrate::target(k + 1), mean_distance } }
    }

    /// Returns the calibration to conditional probabilities of this perplexity.
    pub fn entropic(graph: &'a KnnGraph, perplexity: f64, metric: Metric) -> Self {
        Calibration { graph, weighing: WeightFormula::Entropic { perplexity, metric } }
    }

    /// Returns the calibration that a plan asks for.
    fn of(
        plan: &Plan,
        graph: &'a KnnGraph,
        mean_distance: f64,
        compared: Option<Compared<'a>>,
        work: &StageContext<'_>,
    ) -> Result<Self> {
        Ok(match of_plan(plan)? {
            Affinity::Umap => Calibration::new(graph, mean_distance),
            Affinity::Entropic => Calibration::entropic(graph, plan.settings.perplexity, plan.settings.metric),
            Affinity::Pacmap => Calibration {
                graph,
                weighing: WeightFormula::Pacmap(PacmapPairs::load_or_draw(plan, graph, compared, work)?),
            },
        })
    }

    /// Computes the `weights` (k values) of the neighbours of `row`. For PaCMAP, whose edges are not the
    /// neighbours, the values are not changed.
    pub fn weights(&self, row: u32, weights: &mut [f32]) -> Result<()> {
        let distances = self.graph.distances(row)?;
        match &self.weighing {
            WeightFormula::Umap { target, mean_distance } => {
                calibrate::calibrate(distances, *target, *mean_distance, weights);
            }
            WeightFormula::Entropic { perplexity, metric } => {
                let cost = |&d: &f32| match metric {
                    Metric::Euclidean => f64::from(d) * f64::from(d),
                    _ => f64::from(d),
                };
                let costs: Vec<f64> = distances.iter().map(cost).collect();
                entropic::calibrate(&costs, *perplexity, weights);
            }
            WeightFormula::Pacmap(_) => {}
        }
        Ok(())
    }

    /// Replaces `edges` by the directed edges of `row`. `weights` is scratch space for k values.
    fn edges(&self, row: u32, weights: &mut [f32], edges: &mut Vec<(u32, f32)>) -> Result<()> {
        if let WeightFormula::Pacmap(pairs) = &self.weighing {
            return pairs.edges(self.graph, row, edges);
        }
        self.weights(row, weights)?;
        edges.clear();
        edges.extend(self.graph.neighbors(row).zip(weights.iter().copied()));
        Ok(())
    }

    /// Returns the weight of an undirected edge from the weights of its two directions, where 0 stands for a
    /// missing edge.
    #[inline]
    fn symmetrize(&self, there: f32, back: f32) -> f32 {
        match self.weighing {
            WeightFormula::Umap { .. } => fuzzy_union(there, back),
            WeightFormula::Entropic { .. } => 0.5 * (there + back),
            WeightFormula::Pacmap(_) => there + back,
        }
    }
}

/// Builds the edge store of `graph`, whose mean distance is `mean_distance`. `lists` holds the vectors; `None`
/// if the run began with a graph.
pub fn build(
    plan: &Plan,
    graph: &KnnGraph,
    mean_distance: f64,
    lists: Option<&InvertedLists>,
    work: &StageContext<'_>,
) -> Result<(StageFiles, AffinityStats)> {
    let needs = needs(plan);
    let (_, most_edges) = block_limits(plan.shape.rows, plan.degree());
    let affinity = of_plan(plan)?;
    let mut writer = EdgeStoreWriter::resume(graph.rows(), affinity, plan.degree(), most_edges as usize, *work)?;
    if writer.next_row() < graph.rows() {
        let compared = match lists {
            Some(lists) if compares(plan) => {
                let _held = work.reserve(&needs, "compare")?;
                Some(Compared::make(lists, work)?)
            }
            lists => lists.map(Compared::Whole),
        };
        let held = work.reserve(&needs, "transpose")?;
        let calibration = Calibration::of(plan, graph, mean_distance, compared, work)?;
        let counts = transpose::count_incoming(&calibration, work)?;
        let mut transposed = TransposedEdges::build(plan, &calibration, counts, work)?;
        drop(held);
        let _held = work.reserve(&needs, "merge")?;
        for run in 0..transposed.runs() {
            if transposed.rows(run).end > writer.next_row() {
                let incoming = transposed.read(run, work)?;
                merge_run(plan, &calibration, &incoming, &mut writer, work)?;
            }
            transposed.discard_before(writer.finished_rows(), work)?;
        }
    }
    let found = writer.finish()?;
    if found.cut_edges > 0 {
        work.progress.note(
            "edges-cut",
            format!(
                "some rows have more incoming edges than a block holds: {} of all {} edges were dropped, the weakest first",
                found.cut_edges,
                found.cut_edges + found.edges
            ),
        )?;
    }
    let files = work.unit_files().into_iter().filter(|(name, _)| name.starts_with("edges-")).collect();
    Ok((files, found))
}

/// Merges the edges of a run's rows that are not written yet.
fn merge_run(
    plan: &Plan,
    calibration: &Calibration<'_>,
    incoming: &IncomingEdges,
    writer: &mut EdgeStoreWriter<'_>,
    work: &StageContext<'_>,
) -> Result<()> {
    let k = plan.degree();
    let mut next = writer.next_row();
    let end = incoming.rows().end;
    while next < end {
        // Divides the rows into pieces with about equal numbers of edges, and collects pieces for all threads.
        let (mut window, mut edges) = (Vec::new(), 0);
        while next < end && edges < plan.threads * MERGE_EDGES {
            let (first, mut here) = (next, 0);
            while next < end && here < MERGE_EDGES / 4 && ((next - first) as usize) < CALIBRATION_ROWS {
                here += k + incoming.edges_to(next).len();
                next += 1;
            }
            window.push(first..next);
            edges += here;
        }
        let pieces = window
            .into_par_iter()
            .map(|rows| symmetrize_rows(calibration, incoming, k, rows))
            .collect::<Result<Vec<RowEdges>>>()?;
        for piece in pieces {
            work.progress.traffic.read((piece.offsets.len() as u64 - 1) * calibration.graph.row_bytes() as u64);
            writer.push(&piece)?;
        }
    }
    Ok(())
}

/// Combines the outgoing edges of `rows` with the incoming ones.
fn symmetrize_rows(
    calibration: &Calibration<'_>,
    incoming: &IncomingEdges,
    k: usize,
    rows: std::ops::Range<u32>,
) -> Result<RowEdges> {
    let graph = calibration.graph;
    let cut = incoming.dropped_of(rows.clone());
    let most: usize = rows.clone().map(|row| k + incoming.edges_to(row).len()).sum();
    let mut piece = RowEdges { first: rows.start, cut, ..RowEdges::default() };
    piece.offsets.reserve_exact(rows.len() + 1);
    piece.offsets.push(0);
    piece.neighbors.reserve_exact(most);
    piece.weights.reserve_exact(most);
    let mut weights = vec![0f32; graph.k()];
    let mut forward: Vec<(u32, f32)> = Vec::with_capacity(k);
    for row in rows {
        calibration.edges(row, &mut weights, &mut forward)?;
        forward.sort_unstable_by_key(|&(to, _)| to);
        let (mut a, mut b) = (forward.iter().peekable(), incoming.edges_to(row).iter().peekable());
        loop {
            let (neighbor, weight) = match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some(&&(x, w)), Some(&&(y, v))) if x == y => {
                    a.next();
                    b.next();
                    (x, calibration.symmetrize(w, v))
                }
                (Some(&&(x, w)), other) if other.is_none_or(|&&(y, _)| x < y) => {
                    a.next();
                    (x, calibration.symmetrize(w, 0.0))
                }
                (_, Some(&&(y, v))) => {
                    b.next();
                    (y, calibration.symmetrize(0.0, v))
                }
                (Some(_), None) => break,
            };
            // Leaves out weights that underflowed to 0, and edges from a row to itself.
            if weight > 0.0 && neighbor != row {
                piece.neighbors.push(neighbor);
                piece.weights.push(weight);
            }
        }
        piece.offsets.push(piece.neighbors.len());
    }
    Ok(piece)
}

/// Returns the number of edges that a symmetric graph usually has, given k directed edges for each row.
pub fn expected_edges(rows: u64, k: usize) -> u64 {
    rows * k as u64 * 33 / 20
}

/// Returns the bytes that visiting a block takes.
pub fn block_visiting_bytes(rows: u64, k: usize) -> u64 {
    let (rows, edges) = block_limits(rows, k);
    EdgeReader::bytes(rows, edges)
}

/// Returns the bytes that reading a block takes, the block included.
pub fn block_reading_bytes(rows: u64, k: usize) -> u64 {
    let (rows, edges) = block_limits(rows, k);
    EdgeReader::bytes(rows, edges) + rows * 4 + edges * 8
}

/// Returns the smallest and the largest useful number of bytes for a run's edges.
pub fn run_bytes(plan: &Plan) -> (u64, u64) {
    let (rows, k) = (plan.shape.rows, plan.degree());
    (transpose::min_run_bytes(rows, k), transpose::single_run_bytes(rows, k))
}

/// Returns whether all edges are transposed in memory.
pub fn fits_in_one_run(plan: &Plan) -> bool {
    plan.affinity.run_bytes >= run_bytes(plan).1
}

/// Returns whether pairs are chosen by principal components of the rows.
fn compares(plan: &Plan) -> bool {
    let settings = &plan.settings;
    settings.method.affinity() == Some(Affinity::Pacmap) && compared::reduces(plan.shape.dim, settings.metric)
}

/// Returns the multiplications of the projection onto these components, 0 where there is none.
pub(crate) fn projected(plan: &Plan) -> u64 {
    if compares(plan) { plan.shape.rows * (plan.shape.dim * compared::MOST) as u64 } else { 0 }
}

/// Returns the memory that the stage takes.
pub fn needs(plan: &Plan) -> MemoryNeeds {
    let (rows, k, threads) = (plan.shape.rows, plan.degree(), plan.threads as u64);
    let (block_rows, block_edges) = block_limits(rows, k);
    let spilling = !fits_in_one_run(plan);
    let counts = rows * 4;
    // The pieces may exceed their bound by one row with the largest number of edges.
    let pieces = (2 * threads * MERGE_EDGES as u64 * 8 + block_edges * 8).min(rows * 2 * k as u64 * 8);
    let block = block_rows * 4 + block_edges * 8;
    let run = plan.affinity.run_bytes;
    let pairs = plan.settings.method.affinity() == Some(Affinity::Pacmap);
    let (scales, pools) = if pairs { pairs::bytes(plan) } else { (0, 0) };
    let first = if compares(plan) {
        MemoryNeeds::default().phase("compare", [("principal components, and rows before them", compared::bytes(plan))])
    } else {
        MemoryNeeds::default()
    };
    first
        .phase(
            "transpose",
            [
                ("in-degrees", counts),
                ("scales of distances", scales),
                ("rows drawn for pairs", pools),
                ("edges sorted by target row", if spilling { 0 } else { run }),
                ("bucket buffers", if spilling { plan.affinity.buffer_bytes } else { 0 }),
                ("fresh edges", transpose::staging_bytes(plan)),
            ],
        )
        .phase(
            "merge",
            [
                ("in-degrees", counts),
                ("scales of distances", scales),
                ("edges sorted by target row", run),
                ("pieces merged", pieces),
                ("a block and its encoding", block + EdgeWriter::bytes(block_rows, block_edges)),
            ],
        )
}

/// Returns the bytes on disk of the buckets, which are temporary, and of the edge store.
pub fn disk(plan: &Plan) -> (u64, u64) {
    let (rows, k) = (plan.shape.rows, plan.degree());
    let buckets = if fits_in_one_run(plan) { 0 } else { rows * k as u64 * 12 };
    let pairs = if plan.settings.method.affinity() == Some(Affinity::Pacmap) { pairs::disk(plan) } else { 0 };
    (buckets + pairs, rows * 4 + expected_edges(rows, k) * 8)
}
