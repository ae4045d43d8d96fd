//! The affinity stage: distances become weights, and the directed graph a
//! symmetric one.
//!
//! An [`Affinity`] says what weights a row's edges have, and what becomes of two
//! that lead both ways between the same rows: UMAP's fuzzy union a + b − ab,
//! the mean (a + b) / 2 of conditional probabilities, or a count of pairs.
//! Each row is calibrated by itself; its edges then have to meet those that
//! point back at it, which lie anywhere. An external transpose brings them
//! together (`transpose`): a run of rows at a time they are merged with the
//! forward edges of the same rows, and leave as blocks of the edge store
//! (`store`). Forward weights are computed twice rather than stored.
//!
//! What must hold: a row's neighbours ascend, and neither runs nor threads
//! change a byte.

pub mod calibrate;
pub mod entropic;
pub(crate) mod pairs;
mod store;
mod transpose;

use calibrate::fuzzy_union;
use lowland_io::edges::{EdgeReader, EdgeWriter};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::budget::Needs;
use crate::index::{Lists, Made};
use crate::neighbors::Graph;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::work::Work;
use crate::{Error, Metric, Result};
use pairs::Pairs;
pub use store::{EdgeStore, most_of_block};
use store::{Piece, StoreWriter};
use transpose::{Incoming, ROWS, Transposed};

/// Edges that one thread merges at a time, about.
const PIECE: usize = 1 << 16;

/// What the stage found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Affinities {
    /// Edges of the symmetric graph, each counted in both directions.
    pub edges: u64,
    /// The largest weight: an edge of this weight fires in every epoch.
    pub max_weight: f32,
    /// Rows without any edge.
    pub isolated_rows: u64,
    /// Edges left out at rows that are neighbours of too many others.
    pub cut_edges: u64,
}

/// The input affinities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// UMAP's fuzzy neighbours, by [`Settings::n_neighbors`].
    Umap,
    /// Conditional probabilities by [`Settings::perplexity`], on three times as many neighbours.
    Entropic,
    /// PaCMAP's near and mid-near pairs, by [`Settings::n_neighbors`].
    Pacmap,
}

impl Affinity {
    /// Its name, as in the edge store.
    pub fn name(self) -> &'static str {
        match self {
            Affinity::Umap => "umap",
            Affinity::Entropic => "entropic",
            Affinity::Pacmap => "pacmap",
        }
    }

    /// Neighbours of each of `rows` rows that it wants searched.
    pub fn neighbors(self, settings: &Settings, rows: u64) -> usize {
        let most = rows.saturating_sub(1).min(u64::from(u32::MAX)) as usize;
        match self {
            Affinity::Umap => settings.n_neighbors,
            Affinity::Entropic => {
                ((3.0 * settings.perplexity).round().min(1e6) as usize).clamp(2.min(most), most.max(1))
            }
            Affinity::Pacmap => settings.n_neighbors.saturating_add(pairs::BEYOND).min(most.max(settings.n_neighbors)),
        }
    }

    /// Edges of a row, one way, that become of `k` neighbours.
    pub fn degree(self, settings: &Settings, k: usize) -> usize {
        match self {
            Affinity::Umap | Affinity::Entropic => k,
            Affinity::Pacmap => settings.n_neighbors.min(k) + pairs::middle_pairs(settings),
        }
    }
}

/// What a plan's edges are.
fn of(plan: &Plan) -> Result<Affinity> {
    let why = || format!("{} computes all pairs, and has no edges", plan.settings.method);
    plan.settings.method.affinity().ok_or_else(|| Error::Config { field: "method", why: why() })
}

/// The directed weights of a row's edges.
pub struct Calibration<'a> {
    graph: &'a Graph,
    weighing: Weighing,
}

enum Weighing {
    Umap { target: f64, mean_distance: f64 },
    Entropic { perplexity: f64, metric: Metric },
    Pacmap(Pairs),
}

impl<'a> Calibration<'a> {
    /// UMAP's calibration of `graph`, whose mean distance is `mean_distance`.
    pub fn new(graph: &'a Graph, mean_distance: f64) -> Self {
        // umap-learn counts the point itself: k others are its k + 1, and its
        // means have a zero for the point.
        let k = graph.k();
        let mean_distance = mean_distance * k as f64 / (k + 1) as f64;
        Calibration { graph, weighing: Weighing::Umap { target: calibrate::target(k + 1), mean_distance } }
    }

    /// Conditional probabilities of a perplexity.
    pub fn entropic(graph: &'a Graph, perplexity: f64, metric: Metric) -> Self {
        Calibration { graph, weighing: Weighing::Entropic { perplexity, metric } }
    }

    /// What a plan asks for.
    fn of(plan: &Plan, graph: &'a Graph, mean_distance: f64, lists: Option<&Lists>, work: &Work<'_>) -> Result<Self> {
        Ok(match of(plan)? {
            Affinity::Umap => Calibration::new(graph, mean_distance),
            Affinity::Entropic => Calibration::entropic(graph, plan.settings.perplexity, plan.settings.metric),
            Affinity::Pacmap => {
                Calibration { graph, weighing: Weighing::Pacmap(Pairs::make(plan, graph, lists, work)?) }
            }
        })
    }

    /// Fills `weights` (k values) for `row`'s neighbours; where edges are
    /// pairs, not neighbours, they are left as they are.
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

    /// The edges of `row` in place of those in `edges`; `weights` is room for k values.
    fn edges(&self, row: u32, weights: &mut [f32], edges: &mut Vec<(u32, f32)>) -> Result<()> {
        if let Weighing::Pacmap(pairs) = &self.weighing {
            return pairs.edges(self.graph, row, edges);
        }
        self.weights(row, weights)?;
        edges.clear();
        edges.extend(self.graph.neighbors(row).zip(weights.iter().copied()));
        Ok(())
    }

    /// The weight of an edge whose two directions weigh so much; 0 is none.
    #[inline]
    fn unite(&self, there: f32, back: f32) -> f32 {
        match self.weighing {
            Weighing::Umap { .. } => fuzzy_union(there, back),
            Weighing::Entropic { .. } => 0.5 * (there + back),
            Weighing::Pacmap(_) => there + back,
        }
    }
}

/// Builds the edge store of `graph`, whose mean distance is `mean_distance`;
/// `lists` are the vectors, where there are any.
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
        let held = work.hold(&needs, "transpose")?;
        let calibration = Calibration::of(plan, graph, mean_distance, lists, work)?;
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

/// Merges the rows of a run that are still to be written.
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
        // Pieces of about as many edges, for all threads together.
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

/// The edges of `rows`, united with those that lead to them.
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
            // A weight that underflowed to 0 is no edge; a row is no neighbour of its own.
            if weight > 0.0 && neighbor != row {
                piece.neighbors.push(neighbor);
                piece.weights.push(weight);
            }
        }
        piece.offsets.push(piece.neighbors.len());
    }
    Ok(piece)
}

/// Edges that a symmetrised graph usually has.
pub fn likely_edges(rows: u64, k: usize) -> u64 {
    rows * k as u64 * 33 / 20
}

/// Bytes that visiting a block holds.
pub fn block_visiting_bytes(rows: u64, k: usize) -> u64 {
    let (rows, edges) = most_of_block(rows, k);
    EdgeReader::bytes(rows, edges)
}

/// Bytes that reading a block holds, the block included.
pub fn block_reading_bytes(rows: u64, k: usize) -> u64 {
    let (rows, edges) = most_of_block(rows, k);
    EdgeReader::bytes(rows, edges) + rows * 4 + edges * 8
}

/// Bytes of a run's edges at least, and at most.
pub fn run_bytes(plan: &Plan) -> (u64, u64) {
    let (rows, k) = (plan.shape.rows, plan.degree());
    (transpose::least_bytes(rows, k), transpose::whole_bytes(rows, k))
}

/// Whether all edges are transposed in memory.
pub fn in_memory(plan: &Plan) -> bool {
    plan.affinity.run_bytes >= run_bytes(plan).1
}

/// What the stage holds.
pub fn needs(plan: &Plan) -> Needs {
    let (rows, k, threads) = (plan.shape.rows, plan.degree(), plan.threads as u64);
    let (block_rows, block_edges) = most_of_block(rows, k);
    let spilling = !in_memory(plan);
    let counts = rows * 4;
    // Pieces together may exceed their share by one row of the most edges.
    let pieces = (2 * threads * PIECE as u64 * 8 + block_edges * 8).min(rows * 2 * k as u64 * 8);
    let block = block_rows * 4 + block_edges * 8;
    let run = plan.affinity.run_bytes;
    let pairs = plan.settings.method.affinity() == Some(Affinity::Pacmap);
    let (scales, pools) = if pairs { pairs::bytes(plan) } else { (0, 0) };
    Needs::default()
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

/// Bytes on disk: buckets while they last, and the edge store.
pub fn disk(plan: &Plan) -> (u64, u64) {
    let (rows, k) = (plan.shape.rows, plan.degree());
    let buckets = if in_memory(plan) { 0 } else { rows * k as u64 * 12 };
    let pairs = if plan.settings.method.affinity() == Some(Affinity::Pacmap) { pairs::disk(plan) } else { 0 };
    (buckets + pairs, rows * 4 + likely_edges(rows, k) * 8)
}
