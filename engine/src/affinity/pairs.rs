//! PaCMAP's pairs (Wang, Huang, Rudin, Shaposhnik 2021): near pairs, by a distance that is scaled at both ends,
//! and mid-near pairs, by a random draw.
//!
//! A row's near pairs are the k of its k + 50 nearest neighbours with the smallest d² / (ρᵢ ρⱼ), where ρ is the
//! mean distance to the neighbours 4 to 6. A mid-near pair of a row is the second nearest of six rows drawn at
//! random. The authors' program reads six rows anywhere in the data for each pair. Here 2,048 consecutive rows
//! draw from a shared pool of 2,048 random rows, whose vectors are read only once. Of rows with more than 100
//! components, d is the distance between their first 100 principal components (`compared`).
//!
//! `middle.u32` in the run directory: rows × pairs row numbers (u32, little-endian), in list order; a row for
//! which no pair was found names itself. The file is a unit of the affinity stage. What must hold: the file
//! depends only on the lists and the seed.

use std::io::Write;

use lowland_io::{Error as IoError, MappedFile};
use rayon::prelude::*;

use super::compared::{self, Compared};
use crate::config::mid_near_per_row;
use crate::distances::squared_distance;
use crate::neighbors::KnnGraph;
use crate::plan::Plan;
use crate::random::below;
use crate::work::StageContext;
use crate::{Error, Metric, Result};

/// Weight of a mid-near pair, where a near pair has weight 1. Since an edge has at most two of each, one in
/// each direction, the sum of the weights encodes both counts.
pub(crate) const MID_NEAR_WEIGHT: f32 = 4.0;

/// Number of rows drawn for a mid-near pair.
const DRAWS_PER_PAIR: usize = 6;
/// Number of rows that draw from one pool, and number of rows in a pool.
const POOL_ROWS: u32 = 2048;
/// The random stream that draws the pools.
const POOL_STREAM: u64 = 0x6d69_6421;
/// The random stream that draws from the pools.
const DRAW_STREAM: u64 = 0x6d69_6422;
/// Name of the pairs' file in the run directory.
const FILE: &str = "middle.u32";
/// Name of the unit in the manifest.
const UNIT: &str = "middle";

/// The pairs of all rows.
pub(super) struct PacmapPairs<'a> {
    compared: Compared<'a>,
    near: usize,
    /// 1 / ρ of each row.
    scales: Vec<f32>,
    metric: Metric,
    middle: MappedFile,
    pairs: usize,
}

impl<'a> PacmapPairs<'a> {
    /// Draws the mid-near pairs and writes their file, unless an earlier process did, and computes the rows'
    /// scales.
    pub(super) fn load_or_draw(
        plan: &Plan,
        graph: &KnnGraph,
        compared: Option<Compared<'a>>,
        work: &StageContext<'_>,
    ) -> Result<Self> {
        let pairs = mid_near_per_row(&plan.settings);
        let Some(compared) = compared else { return Err(vectors_missing()) };
        if work.recorded_unit::<()>(UNIT)?.is_none() {
            draw_mid_near(plan, &compared, graph.rows(), pairs, work)?;
        }
        let path = work.path(FILE);
        let middle = MappedFile::open(&path)?;
        let (expected, found) = (u64::from(graph.rows()) * pairs as u64 * 4, middle.bytes().len() as u64);
        if expected != found {
            return Err(IoError::Truncated { path, expected, found }.into());
        }
        let metric = plan.settings.metric;
        let scales = (0..graph.rows())
            .into_par_iter()
            .map(|row| Ok(inverse_mean_distance(&lengths(&compared, graph, row, metric)?)))
            .collect::<Result<_>>()?;
        Ok(PacmapPairs { compared, near: plan.settings.n_neighbors.min(graph.k()), scales, metric, middle, pairs })
    }

    /// Replaces `edges` by a row's near pairs with weight 1 and mid-near pairs with weight [`MID_NEAR_WEIGHT`]; a row
    /// that is both gets the sum of both.
    pub(super) fn edges(&self, graph: &KnnGraph, row: u32, edges: &mut Vec<(u32, f32)>) -> Result<()> {
        let own = self.scales[row as usize];
        let mut near = lengths(&self.compared, graph, row, self.metric)?;
        for (d, to) in &mut near {
            *d = *d * *d * own * self.scales[*to as usize];
        }
        // The sort is stable: of equal scaled distances, the nearer neighbour comes first.
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        near.truncate(self.near);
        edges.clear();
        edges.extend(near.iter().map(|&(_, to)| (to, 1.0)));
        for to in self.mid_near(row) {
            match edges.iter_mut().find(|edge| edge.0 == to) {
                // A row that was drawn twice counts once.
                Some(edge) if edge.1 < MID_NEAR_WEIGHT => edge.1 += MID_NEAR_WEIGHT,
                Some(_) => {}
                None if to != row => edges.push((to, MID_NEAR_WEIGHT)),
                None => {}
            }
        }
        Ok(())
    }

    fn mid_near(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let words = self.middle.bytes().as_chunks::<4>().0;
        words[row as usize * self.pairs..][..self.pairs].iter().map(|word| u32::from_le_bytes(*word))
    }
}

pub(crate) fn vectors_missing() -> Error {
    Error::Config {
        field: "method",
        why: "pacmap needs the vectors as well as the graph, to compute the distances of its mid-near pairs".into(),
    }
}

/// Returns the distances of a row to its neighbours in the graph, nearest first. Where the metric is a squared
/// distance, they are its roots.
fn lengths(compared: &Compared<'_>, graph: &KnnGraph, row: u32, metric: Metric) -> Result<Vec<(f32, u32)>> {
    let neighbors = graph.neighbors(row);
    if let Some(mut found) = compared.distances(row, neighbors.clone())? {
        // The sort is stable: of equal distances, the neighbour that is nearer in the graph comes first.
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        return Ok(found);
    }
    let length = |&d: &f32| if metric.is_square() { d.sqrt() } else { d };
    Ok(graph.distances(row)?.iter().map(length).zip(neighbors).collect())
}

/// Returns 1 over the mean distance to the neighbours 4 to 6, or with fewer neighbours to the last three.
fn inverse_mean_distance(near: &[(f32, u32)]) -> f32 {
    let last = near.len().min(6);
    let some = &near[last.saturating_sub(3)..last];
    let mean = some.iter().map(|&(d, _)| f64::from(d)).sum::<f64>() / some.len().max(1) as f64;
    (1.0 / mean.max(1e-10)) as f32
}

/// Draws the mid-near pairs of all rows and writes them as a unit.
fn draw_mid_near(plan: &Plan, compared: &Compared<'_>, rows: u32, pairs: usize, work: &StageContext<'_>) -> Result<()> {
    let seed = plan.settings.seed;
    let mut file = work.create(FILE)?;
    let firsts: Vec<u32> = (0..rows).step_by(POOL_ROWS as usize).collect();
    for window in firsts.chunks(plan.threads) {
        let parts = window
            .par_iter()
            .map(|&first| {
                work.progress.check()?;
                mid_near_of_rows(compared, first..(first + POOL_ROWS).min(rows), rows, pairs, seed)
            })
            .collect::<Result<Vec<Vec<u32>>>>()?;
        for part in parts {
            let bytes: Vec<u8> = part.iter().flat_map(|row| row.to_le_bytes()).collect();
            file.write_all(&bytes).map_err(|e| IoError::io(file.path(), "write", e))?;
            work.progress.traffic.read(part.len() as u64 / pairs as u64 * 2 * compared.dim() as u64 * 4);
        }
    }
    let stamp = file.finish()?;
    work.progress.traffic.wrote(stamp.bytes);
    work.record_unit(UNIT, vec![(FILE.to_string(), stamp)], &())
}

/// Returns the mid-near pairs of rows that share a pool.
fn mid_near_of_rows(
    compared: &Compared<'_>,
    rows: std::ops::Range<u32>,
    all: u32,
    pairs: usize,
    seed: u64,
) -> Result<Vec<u32>> {
    let dim = compared.dim();
    let counter = |i: u32| u64::from(rows.start) + u64::from(i);
    let mut pool: Vec<u32> =
        (0..POOL_ROWS).map(|i| below(seed, POOL_STREAM, counter(i), u64::from(all)) as u32).collect();
    // The vectors are read in the order in which they are stored.
    pool.sort_unstable();
    let mut vectors = Vec::with_capacity(pool.len() * dim);
    for &row in &pool {
        vectors.extend_from_slice(compared.row(row)?);
    }
    let mut out = Vec::with_capacity(rows.len() * pairs);
    for row in rows {
        let own = compared.row(row)?;
        for pair in 0..pairs {
            let mut near: [(f32, u32); DRAWS_PER_PAIR] = std::array::from_fn(|i| {
                let counter = (u64::from(row) * pairs as u64 + pair as u64) * DRAWS_PER_PAIR as u64 + i as u64;
                let place = below(seed, DRAW_STREAM, counter, u64::from(POOL_ROWS)) as usize;
                let other = pool[place];
                // A row is no candidate for a pair with itself.
                let far = other == row;
                (if far { f32::INFINITY } else { squared_distance(own, &vectors[place * dim..][..dim]) }, other)
            });
            // The sort is stable: of equally near rows, the one that was drawn first comes first.
            near.sort_by(|a, b| a.0.total_cmp(&b.0));
            out.push(if near[1].0.is_finite() { near[1].1 } else { row });
        }
    }
    Ok(out)
}

/// Returns the bytes held in addition to the edges: every row's scale, and, while pairs are drawn, a pool for
/// each thread.
pub(super) fn bytes(plan: &Plan) -> (u64, u64) {
    let pool = u64::from(POOL_ROWS) * (plan.shape.dim as u64 * 4 + 4 + mid_near_per_row(&plan.settings) as u64 * 8);
    (plan.shape.rows * 4, plan.threads as u64 * pool)
}

/// Returns the bytes of the pairs' file.
pub(super) fn disk(plan: &Plan) -> u64 {
    plan.shape.rows * mid_near_per_row(&plan.settings) as u64 * 4 + compared::disk(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pacmap_scale_uses_neighbours_4_to_6() {
        let of = |distances: &[f32]| inverse_mean_distance(&distances.iter().map(|&d| (d, 0)).collect::<Vec<_>>());
        assert_eq!(of(&[1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 100.0]), 1.0 / 6.0);
        assert_eq!(of(&[1.0, 3.0]), 0.5);
        assert_eq!(of(&[]), 1e10);
        assert_eq!(of(&[0.0; 8]), 1e10);
    }
}
