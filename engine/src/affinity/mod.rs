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

use crate::budget::Needs;
pub use crate::config::Affinity;
use crate::index::Lists;
use crate::neighbors::Graph;
use crate::plan::Plan;
use crate::work::{Made, Work};
use crate::{Error, Metric, Result};
use compared::Compared;
use pairs::Pairs;
pub use store::{EdgeStore, most_of_block};
use store::{Piece, StoreWriter};
use transpose::{Incoming, ROWS, Transposed};

/// Approximate number of edges that one thread merges at a time.
const PIECE: usize = 1 << 16;

/// Statistics of the symmetric graph.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Affinities {
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
fn of(plan: &Plan) -> Result<Affinity> {
    let why = || format!("{} computes all pairs, and has no edges", plan.settings.method);
    plan.settings.method.affinity().ok_or_else(|| Error::Config { field: "method", why: why() })
}

/// Computes the directed weights of a row's edges.
pub struct Calibration<'a> {
    graph: &'a Graph,
    weighing: Weighing<'a>,
}

enum Weighing<'a> {
    Umap { target: f64, mean_distance: f64 },
    Entropic { perplexity: f64, metric: Metric },
    Pacmap(Pairs<'a>),
}

impl<'a> Calibration<'a> {
    /// Returns UMAP's calibration of `graph`, whose mean distance is `mean_distance`.
    pub fn new(graph: &'a Graph, mean_distance: f64) -> Self {
        // umap-learn counts the point itself: k others correspond to its k + 1 neighbours, and its means
        // include a zero for the point.
        let k = graph.k();
        let mean_distance = mean_distance * k as f64 / (k + 1) as f64;
        Calibration { graph, weighing: Weighing::Umap { target: calibrate::target(k + 1), mean_distance } }
    }

    /// Returns the calibration to conditional probabilities of this perplexity.
    pub fn entropic(graph: &'a Graph, perplexity: f64, metric: Metric) -> Self {
        Calibration { graph, weighing: Weighing::Entropic { perplexity, metric } }
    }

    /// Returns the calibration that a plan asks for.
    fn of(
        plan: &Plan,
        graph: &'a Graph,
        mean_distance: f64,
        compared: Option<Compared<'a>>,
        work: &Work<'_>,
    ) -> Result<Self> {
        Ok(match of(plan)? {
            Affinity::Umap => Calibration::new(graph, mean_distance),
            Affinity::Entropic => Calibration::entropic(graph, plan.settings.perplexity, plan.settings.metric),
            Affinity::Pacmap => {
                Calibration { graph, weighing: Weighing::Pacmap(Pairs::make(plan, graph, compared, work)?) }
            }
        })
    }

    /// Computes the `weights` (k values) of the neighbours of `row`. For PaCMAP, whose edges are not the
    /// neighbours, the values are not changed.
    pub fn weights(&self, row: u32, weights: &mut [f32]) -> Result<()> {
        let distances = self.graph.distances(row)?;
        match &self.weighing {
            Weighing::Umap { target, mean_distance } => {
                calibrate::calibrate(distances, *target, *mean_distance, weights);
            }
            Weighing::Entropic { perplexity, metric } => {
                let cost = |&d: &f32| match metric {
                    Metric::Euclidean => f64::from(d) * f64::from(d),
                    _ => f64::from(d),
                };
                let costs: Vec<f64> = distances.iter().map(cost).collect();
                entropic::calibrate(&costs, *perplexity, weights);
            }
            Weighing::Pacmap(_) => {}
        }
        Ok(())
    }

    /// Replaces `edges` by the directed edges of `row`. `weights` is scratch space for k values.
    fn edges(&self, row: u32, weights: &mut [f32], edges: &mut Vec<(u32, f32)>) -> Result<()> {
        if let Weighing::Pacmap(pairs) = &self.weighing {
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
    fn unite(&self, there: f32, back: f32) -> f32 {
        match self.weighing {
            Weighing::Umap { .. } => fuzzy_union(there, back),
            Weighing::Entropic { .. } => 0.5 * (there + back),
            Weighing::Pacmap(_) => there + back,
        }
    }
}

/// Builds the edge store of `graph`, whose mean distance is `mean_distance`. `lists` holds the vectors; `None`
/// if the run began with a graph.
pub fn build(
    plan: &Plan,
    graph: &Graph,
    mean_distance: f64,
    lists: Option<&Lists>,
    work: &Work<'_>,
) -> Result<(Made, Affinities)> {
    let needs = needs(plan);
    let (_, most_edges) = most_of_block(plan.shape.rows, plan.degree());
    let affinity = of(plan)?;
    let mut writer = StoreWriter::resume(graph.rows(), affinity, plan.degree(), most_edges as usize, *work)?;
    if writer.next_row() < graph.rows() {
        let compared = match lists {
            Some(lists) if compares(plan) => {
                let _held = work.hold(&needs, "compare")?;
                Some(Compared::make(lists, work)?)
            }
            lists => lists.map(Compared::Whole),
        };
        let held = work.hold(&needs, "transpose")?;
        let calibration = Calibration::of(plan, graph, mean_distance, compared, work)?;
        let counts = transpose::count(&calibration, work)?;
        let mut transposed = Transposed::make(plan, &calibration, counts, work)?;
        drop(held);
        let _held = work.hold(&needs, "merge")?;
        for run in 0..transposed.runs() {
            if transposed.rows(run).end > writer.next_row() {
                let incoming = transposed.read(run, work)?;
                merge(plan, &calibration, &incoming, &mut writer, work)?;
            }
            transposed.discard_before(writer.finished_rows(), work)?;
        }
    }
    let found = writer.finish()?;
    if found.cut_edges > 0 {
        work.progress.note(
            "edges-cut",
            format!(
                "a few rows are neighbours of very many others: of the edges that lead to them {} of {} were left out",
                found.cut_edges,
                found.cut_edges + found.edges
            ),
        )?;
    }
    let files = work.unit_files().into_iter().filter(|(name, _)| name.starts_with("edges-")).collect();
    Ok((files, found))
}

/// Merges the edges of a run's rows that are not written yet.
fn merge(
    plan: &Plan,
    calibration: &Calibration<'_>,
    incoming: &Incoming,
    writer: &mut StoreWriter<'_>,
    work: &Work<'_>,
) -> Result<()> {
    let k = plan.degree();
    let mut next = writer.next_row();
    let end = incoming.rows().end;
    while next < end {
        // Divides the rows into pieces with about equal numbers of edges, and collects pieces for all threads.
        let (mut window, mut edges) = (Vec::new(), 0);
        while next < end && edges < plan.threads * PIECE {
            let (first, mut here) = (next, 0);
            while next < end && here < PIECE / 4 && ((next - first) as usize) < ROWS {
                here += k + incoming.of(next).len();
                next += 1;
            }
            window.push(first..next);
            edges += here;
        }
        let pieces =
            window.into_par_iter().map(|rows| unite(calibration, incoming, k, rows)).collect::<Result<Vec<Piece>>>()?;
        for piece in pieces {
            work.progress.traffic.read((piece.offsets.len() as u64 - 1) * calibration.graph.row_bytes() as u64);
            writer.push(&piece)?;
        }
    }
    Ok(())
}

/// Combines the outgoing edges of `rows` with the incoming ones.
fn unite(calibration: &Calibration<'_>, incoming: &Incoming, k: usize, rows: std::ops::Range<u32>) -> Result<Piece> {
    let graph = calibration.graph;
    let cut = incoming.cut_of(rows.clone());
    let most: usize = rows.clone().map(|row| k + incoming.of(row).len()).sum();
    let mut piece = Piece { first: rows.start, cut, ..Piece::default() };
    piece.offsets.reserve_exact(rows.len() + 1);
    piece.offsets.push(0);
    piece.neighbors.reserve_exact(most);
    piece.weights.reserve_exact(most);
    let mut weights = vec![0f32; graph.k()];
    let mut forward: Vec<(u32, f32)> = Vec::with_capacity(k);
    for row in rows {
        calibration.edges(row, &mut weights, &mut forward)?;
        forward.sort_unstable_by_key(|&(to, _)| to);
        let (mut a, mut b) = (forward.iter().peekable(), incoming.of(row).iter().peekable());
        loop {
            let (neighbor, weight) = match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some(&&(x, w)), Some(&&(y, v))) if x == y => {
                    a.next();
                    b.next();
                    (x, calibration.unite(w, v))
                }
                (Some(&&(x, w)), other) if other.is_none_or(|&&(y, _)| x < y) => {
                    a.next();
                    (x, calibration.unite(w, 0.0))
                }
                (_, Some(&&(y, v))) => {
                    b.next();
                    (y, calibration.unite(0.0, v))
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
pub fn likely_edges(rows: u64, k: usize) -> u64 {
    rows * k as u64 * 33 / 20
}

/// Returns the bytes that visiting a block takes.
pub fn block_visiting_bytes(rows: u64, k: usize) -> u64 {
    let (rows, edges) = most_of_block(rows, k);
    EdgeReader::bytes(rows, edges)
}

/// Returns the bytes that reading a block takes, the block included.
pub fn block_reading_bytes(rows: u64, k: usize) -> u64 {
    let (rows, edges) = most_of_block(rows, k);
    EdgeReader::bytes(rows, edges) + rows * 4 + edges * 8
}

/// Returns the smallest and the largest useful number of bytes for a run's edges.
pub fn run_bytes(plan: &Plan) -> (u64, u64) {
    let (rows, k) = (plan.shape.rows, plan.degree());
    (transpose::least_bytes(rows, k), transpose::whole_bytes(rows, k))
}

/// Returns whether all edges are transposed in memory.
pub fn in_memory(plan: &Plan) -> bool {
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
pub fn needs(plan: &Plan) -> Needs {
    let (rows, k, threads) = (plan.shape.rows, plan.degree(), plan.threads as u64);
    let (block_rows, block_edges) = most_of_block(rows, k);
    let spilling = !in_memory(plan);
    let counts = rows * 4;
    // The pieces may exceed their bound by one row with the largest number of edges.
    let pieces = (2 * threads * PIECE as u64 * 8 + block_edges * 8).min(rows * 2 * k as u64 * 8);
    let block = block_rows * 4 + block_edges * 8;
    let run = plan.affinity.run_bytes;
    let pairs = plan.settings.method.affinity() == Some(Affinity::Pacmap);
    let (scales, pools) = if pairs { pairs::bytes(plan) } else { (0, 0) };
    let first = if compares(plan) {
        Needs::default().phase("compare", [("principal components, and rows before them", compared::bytes(plan))])
    } else {
        Needs::default()
    };
    first
        .phase(
            "transpose",
            [
                ("in-degrees", counts),
                ("scales of distances", scales),
                ("rows drawn for pairs", pools),
                ("edges by the row they lead to", if spilling { 0 } else { run }),
                ("bucket buffers", if spilling { plan.affinity.buffer_bytes } else { 0 }),
                ("fresh edges", transpose::fresh_bytes(plan)),
            ],
        )
        .phase(
            "merge",
            [
                ("in-degrees", counts),
                ("scales of distances", scales),
                ("edges by the row they lead to", run),
                ("pieces merged", pieces),
                ("a block and its encoding", block + EdgeWriter::bytes(block_rows, block_edges)),
            ],
        )
}

/// Returns the bytes on disk of the buckets, which are temporary, and of the edge store.
pub fn disk(plan: &Plan) -> (u64, u64) {
    let (rows, k) = (plan.shape.rows, plan.degree());
    let buckets = if in_memory(plan) { 0 } else { rows * k as u64 * 12 };
    let pairs = if plan.settings.method.affinity() == Some(Affinity::Pacmap) { pairs::disk(plan) } else { 0 };
    (buckets + pairs, rows * 4 + likely_edges(rows, k) * 8)
}
