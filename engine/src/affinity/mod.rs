//! The affinity stage: distances become weights, and the directed graph a
//! symmetric one.
//!
//! Each row is calibrated by itself; its edges then have to meet those that
//! point back at it, which lie anywhere. An external transpose brings them
//! together: every edge i → j goes to the bucket of j's rows; a bucket is
//! then sorted in memory, merged with the forward edges of the same rows, and
//! leaves as blocks of the edge store. Forward weights are computed twice
//! rather than stored. Memory is one bucket.
//!
//! What must hold: blocks have [`BLOCK_ROWS`] rows, a row's neighbours ascend,
//! and neither buckets nor threads change a byte.

pub mod calibrate;

use std::path::Path;

use calibrate::fuzzy_union;
use lowland_io::buckets::{BucketWriter, EdgeRecord};
use lowland_io::edges::{EdgeBlock, EdgeWriter};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::index::Made;
use crate::neighbors::Graph;
use crate::observe::Progress;
use crate::plan::{BLOCK_ROWS, Plan};

/// The edge store's file in the run directory.
pub const EDGES: &str = "edges.arrow";
/// Rows calibrated at a time by one thread.
const ROWS: usize = 1024;
/// Buckets at most: each is an open file.
const MOST_BUCKETS: usize = 256;

/// What the stage found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Affinities {
    /// Edges of the symmetric graph, each counted in both directions.
    pub edges: u64,
    /// The largest weight: an edge of this weight fires in every epoch.
    pub max_weight: f32,
    /// Rows without any edge.
    pub isolated_rows: u64,
}

/// The directed weights of a row, in the order of its neighbours.
pub struct Calibration<'a> {
    graph: &'a Graph,
    target: f64,
    mean_distance: f64,
}

impl<'a> Calibration<'a> {
    /// UMAP's calibration of `graph`, whose mean distance is `mean_distance`.
    pub fn new(graph: &'a Graph, mean_distance: f64) -> Self {
        // umap-learn counts the point itself: k others are its k + 1, and its
        // means have a zero for the point.
        let k = graph.k();
        Calibration {
            graph,
            target: calibrate::target(k + 1),
            mean_distance: mean_distance * k as f64 / (k + 1) as f64,
        }
    }

    /// Fills `weights` (k values) for `row`.
    pub fn weights(&self, row: u32, weights: &mut [f32]) -> Result<()> {
        calibrate::calibrate(self.graph.distances(row)?, self.target, self.mean_distance, weights);
        Ok(())
    }
}

/// Builds the edge store in `dir`.
pub fn build(
    plan: &Plan,
    graph: &Graph,
    mean_distance: f64,
    dir: &Path,
    progress: &Progress<'_>,
) -> Result<(Made, Affinities)> {
    let (rows, k) = (graph.rows(), graph.k());
    let calibration = Calibration::new(graph, mean_distance);
    let blocks = rows.div_ceil(BLOCK_ROWS);
    let blocks_a_bucket = blocks.div_ceil(plan.affinity.buckets as u32).max(1);
    let rows_a_bucket = blocks_a_bucket * BLOCK_ROWS;
    let buckets = rows.div_ceil(rows_a_bucket) as usize;

    let mut transposed =
        BucketWriter::<EdgeRecord>::create(dir, "transpose", buckets, plan.affinity.buffer_bytes as usize);
    let starts: Vec<u32> = (0..rows).step_by(ROWS).collect();
    for window in starts.chunks(plan.threads * 4) {
        let parts = window
            .par_iter()
            .map(|&start| {
                let mut weights = vec![0f32; k];
                let mut edges = Vec::with_capacity(ROWS * k);
                for from in start..(start + ROWS as u32).min(rows) {
                    calibration.weights(from, &mut weights)?;
                    edges.extend(graph.neighbors(from).zip(&weights).map(|(to, &weight)| EdgeRecord {
                        to,
                        from,
                        weight,
                    }));
                }
                Ok(edges)
            })
            .collect::<Result<Vec<_>>>()?;
        for edge in parts.into_iter().flatten() {
            transposed.push((edge.to / rows_a_bucket) as usize, edge)?;
        }
        let done = window.iter().map(|&start| (rows - start).min(ROWS as u32) as u64).sum::<u64>();
        progress.traffic.read(done * graph.row_bytes() as u64);
        progress.check()?;
    }
    let transposed = transposed.finish()?;
    progress.traffic.wrote(transposed.bytes());

    let mut writer = EdgeWriter::create(
        dir.join(EDGES),
        &[("rows".into(), rows.to_string()), ("affinity".into(), "umap".into()), ("k".into(), k.to_string())],
    )?;
    let mut found = Affinities { edges: 0, max_weight: 0.0, isolated_rows: 0 };
    let mut incoming = Vec::new();
    for bucket in 0..buckets {
        let first = bucket as u32 * rows_a_bucket;
        let end = (first + rows_a_bucket).min(rows);
        transposed.read(bucket, &mut incoming)?;
        progress.traffic.read(incoming.len() as u64 * 12 + u64::from(end - first) * graph.row_bytes() as u64);
        incoming.par_sort_unstable_by_key(|e| (u64::from(e.to) << 32) | u64::from(e.from));
        let starts: Vec<u32> = (first..end).step_by(BLOCK_ROWS as usize).collect();
        for window in starts.chunks(plan.threads) {
            let made = window
                .par_iter()
                .map(|&start| merge(&calibration, &incoming, start, (start + BLOCK_ROWS).min(end)))
                .collect::<Result<Vec<_>>>()?;
            for block in made {
                found.edges += block.neighbors.len() as u64;
                found.isolated_rows += block.offsets.windows(2).filter(|w| w[0] == w[1]).count() as u64;
                found.max_weight = block.weights.iter().copied().fold(found.max_weight, f32::max);
                progress.advance(block.offsets.len() as u64 - 1)?;
                writer.write_block(&block)?;
            }
        }
    }
    let file = writer.finish()?;
    progress.traffic.wrote(file.stamp.bytes);
    transposed.remove()?;
    Ok((vec![(EDGES.to_string(), file.stamp)], found))
}

/// The block of rows `first..end`: their own edges united with those that
/// point at them (`incoming` ascends by row, then by origin).
fn merge(calibration: &Calibration<'_>, incoming: &[EdgeRecord], first: u32, end: u32) -> Result<EdgeBlock> {
    let graph = calibration.graph;
    let mut block = EdgeBlock { first_row: first, offsets: vec![0], neighbors: Vec::new(), weights: Vec::new() };
    let mut weights = vec![0f32; graph.k()];
    let mut forward: Vec<(u32, f32)> = Vec::with_capacity(graph.k());
    let mut at = incoming.partition_point(|e| e.to < first);
    for row in first..end {
        calibration.weights(row, &mut weights)?;
        forward.clear();
        forward.extend(graph.neighbors(row).zip(weights.iter().copied()));
        forward.sort_unstable_by_key(|&(to, _)| to);
        let back = &incoming[at..];
        let back = &back[..back.iter().take_while(|e| e.to == row).count()];
        at += back.len();
        let (mut a, mut b) = (forward.iter().peekable(), back.iter().peekable());
        loop {
            let (neighbor, weight) = match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some(&&(x, w)), Some(y)) if x == y.from => {
                    let both = fuzzy_union(w, y.weight);
                    a.next();
                    b.next();
                    (x, both)
                }
                (Some(&&(x, w)), other) if other.is_none_or(|y| x < y.from) => {
                    a.next();
                    (x, w)
                }
                (_, Some(&&y)) => {
                    b.next();
                    (y.from, y.weight)
                }
                (Some(_), None) => break,
            };
            // A weight that underflowed to 0 is no edge; a row is no neighbour of its own.
            if weight > 0.0 && neighbor != row {
                block.neighbors.push(neighbor);
                block.weights.push(weight);
            }
        }
        block.offsets.push(block.neighbors.len() as u32);
    }
    Ok(block)
}

/// As many buckets as there can be.
pub fn most_buckets(plan: &Plan) -> usize {
    (plan.shape.rows.div_ceil(u64::from(BLOCK_ROWS)) as usize).clamp(1, MOST_BUCKETS)
}

/// Bytes that the stage holds: write buffers and a window of fresh edges,
/// then one bucket with the blocks being merged from it.
pub fn bytes(plan: &Plan) -> u64 {
    let (rows, k) = (plan.shape.rows, plan.k() as u64);
    let window = plan.threads as u64 * 4 * (ROWS as u64 * k * 12);
    let blocks = rows.div_ceil(u64::from(BLOCK_ROWS));
    let rows_a_bucket = (blocks.div_ceil(plan.affinity.buckets as u64) * u64::from(BLOCK_ROWS)).min(rows);
    // Buckets are uneven by as much as some rows are more popular: half as much again.
    let bucket = rows_a_bucket * k * 12 * 3 / 2;
    // A block in each thread, grown by doubling, and the writer's encoding of one.
    let block = u64::from(BLOCK_ROWS).min(rows) * (4 + 2 * k * 8);
    (plan.affinity.buffer_bytes + window).max(bucket + (plan.threads as u64 * 2 + 2) * block)
}
