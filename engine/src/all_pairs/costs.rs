//! Costs of pairs of rows, computed whenever they are needed: the n × n matrix is never stored. A
//! thread holds one tile of a few rows of the matrix.
//!
//! Distances are computed directly as Σ(x − y)², not by the expansion |x|² + |y|² − 2xy. This takes
//! a third longer, but keeps the digits of near rows: by expansion, a distance of 10⁻³ between rows
//! of length 1 has one correct digit, and entropic affinities depend on the near rows. 32
//! components are summed in f32 and these sums in f64, so a distance has a relative error below
//! 2·10⁻⁶, mostly 10⁻⁷, in any dimension. An inner product has such an error relative to |x||y|.
//!
//! What must hold: C_ij and C_ji have the same bits, and a cost depends only on its two rows.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::real::{LANES, wide};
use crate::Result;
use crate::observe::Progress;

/// The cost of a pair of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// |x − y|², the default.
    #[default]
    Sqeuclidean,
    /// |x − y|.
    Euclidean,
    /// −⟨x, y⟩, TorchDR's "angular": rows are not normalised. On rows of length 1 (see
    /// [`crate::Metric::prepare`]) it is the cosine distance minus 1.
    Angular,
    /// Σ |x − y|.
    Manhattan,
    /// The squared distance in the Poincaré ball, arccosh(1 + 2|x − y|² / ((1 − |x|²)(1 − |y|²)) +
    /// 10⁻⁸)². Rows must lie inside the ball of radius 1.
    Sqhyperbolic,
}

impl Cost {
    /// All costs.
    pub const ALL: [Cost; 5] = [Cost::Sqeuclidean, Cost::Euclidean, Cost::Angular, Cost::Manhattan, Cost::Sqhyperbolic];

    /// Returns the name, as in TorchDR.
    pub fn name(self) -> &'static str {
        match self {
            Cost::Sqeuclidean => "sqeuclidean",
            Cost::Euclidean => "euclidean",
            Cost::Angular => "angular",
            Cost::Manhattan => "manhattan",
            Cost::Sqhyperbolic => "sqhyperbolic",
        }
    }
}

/// The cost of a row to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SelfCost {
    /// As computed.
    Computed,
    /// +∞: TorchDR's `zero_diag`, which adds 10¹².
    Infinite,
}

/// Rows of a tile, whose costs are computed together.
const QUERIES: usize = 4;
/// Components that are summed in f32.
const RUN: usize = 32;

/// A row of the cost matrix.
pub(super) struct RowCosts<'t> {
    /// The row's number.
    pub(super) i: usize,
    /// The row's costs to all rows.
    pub(super) costs: &'t [f32],
    /// Scratch space of two numbers for each row, with arbitrary contents.
    pub(super) spare: &'t mut [f32],
}

/// Rows in memory, and the costs of their pairs.
pub struct Costs<'a> {
    rows: &'a [f32],
    dim: usize,
    cost: Cost,
    /// Panels of sixteen rows side by side, component by component. The last panel is padded with
    /// zeros.
    panels: Vec<[f32; LANES]>,
    /// 1 − |x|² of each row; only for [`Cost::Sqhyperbolic`].
    rooms: Vec<f64>,
}

impl<'a> Costs<'a> {
    /// Borrows `rows` (n × dim, row-major) and makes a copy in panels.
    ///
    /// # Panics
    /// If the number of values is not a multiple of `dim`.
    pub fn new(rows: &'a [f32], dim: usize, cost: Cost) -> Self {
        assert!(dim > 0 && rows.len().is_multiple_of(dim), "rows must be whole");
        let mut panels = vec![[0.0; LANES]; (rows.len() / dim).div_ceil(LANES) * dim];
        for (panel, rows) in panels.chunks_exact_mut(dim).zip(rows.chunks(LANES * dim)) {
            for (lane, row) in rows.chunks_exact(dim).enumerate() {
                panel.iter_mut().zip(row).for_each(|(numbers, &x)| numbers[lane] = x);
            }
        }
        let room = |row: &[f32]| 1.0 - row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        let rooms = if cost == Cost::Sqhyperbolic { rows.chunks_exact(dim).map(room).collect() } else { Vec::new() };
        Costs { rows, dim, cost, panels, rooms }
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the kind of cost.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Returns the bytes of `n` rows in panels, and of the tiles of `threads` threads.
    pub(super) fn bytes(n: usize, dim: usize, threads: usize) -> u64 {
        let padded = n.next_multiple_of(LANES) as u64;
        padded * (4 * dim as u64 + 8) + threads as u64 * (QUERIES as u64 + 2) * padded * 4
    }

    /// Calls `f(costs of the row, out)` for every row of `rows`, whose start must be a multiple of
    /// four. `out` is the part of `out` for this row, `width` elements.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] if the observer asked to stop.
    pub(super) fn each_in<T: Send>(
        &self,
        rows: Range<usize>,
        itself: SelfCost,
        progress: &Progress<'_>,
        out: &mut [T],
        width: usize,
        f: impl Fn(RowCosts<'_>, &mut [T]) + Sync,
    ) -> Result<()> {
        let (n, dim) = (self.len(), self.dim);
        debug_assert!(rows.start.is_multiple_of(QUERIES) && out.len() == rows.len() * width);
        let padded = n.next_multiple_of(LANES);
        let queries = self.rows[rows.start * dim..rows.end * dim].par_chunks(QUERIES * dim);
        out.par_chunks_mut(QUERIES * width).zip(queries).enumerate().try_for_each_init(
            || vec![0f32; QUERIES * padded + 2 * n],
            |buffer, (t, (out, queries))| {
                progress.check()?;
                let first = rows.start + t * QUERIES;
                let (tile, spare) = buffer.split_at_mut(QUERIES * padded);
                self.fill(self.rooms.get(first..).unwrap_or_default(), queries, tile);
                for (q, out) in out.chunks_exact_mut(width).enumerate() {
                    let (i, costs) = (first + q, &mut tile[q * padded..][..n]);
                    if itself == SelfCost::Infinite {
                        costs[i] = f32::INFINITY;
                    }
                    f(RowCosts { i, costs, spare }, out);
                }
                Ok(())
            },
        )
    }

    /// As [`Costs::each_in`], for all rows.
    pub(super) fn each<T: Send>(
        &self,
        itself: SelfCost,
        progress: &Progress<'_>,
        out: &mut [T],
        width: usize,
        f: impl Fn(RowCosts<'_>, &mut [T]) + Sync,
    ) -> Result<()> {
        self.each_in(0..self.len(), itself, progress, out, width, f)
    }

    /// Calls `f(position in rows, costs to all rows)` for the given rows and returns the results in
    /// order.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] if the observer asked to stop.
    pub(super) fn costs_of<T: Send>(
        &self,
        rows: &[u32],
        progress: &Progress<'_>,
        f: impl Fn(usize, &[f32]) -> T + Sync,
    ) -> Result<Vec<T>> {
        let (n, dim) = (self.len(), self.dim);
        let padded = n.next_multiple_of(LANES);
        let portions = rows.par_chunks(QUERIES).enumerate().map_init(
            || vec![0f32; QUERIES * padded],
            |tile, (t, rows)| {
                progress.check()?;
                let queries: Vec<f32> =
                    rows.iter().flat_map(|&row| &self.rows[row as usize * dim..][..dim]).copied().collect();
                let rooms: Vec<f64> = rows.iter().filter_map(|&row| self.rooms.get(row as usize)).copied().collect();
                self.fill(&rooms, &queries, tile);
                Ok((0..rows.len()).map(|q| f(t * QUERIES + q, &tile[q * padded..][..n])).collect::<Vec<T>>())
            },
        );
        Ok(portions.collect::<Result<Vec<Vec<T>>>>()?.into_iter().flatten().collect())
    }

    /// Computes the costs of up to four rows to all rows. `rooms` begins with the rooms of these
    /// rows.
    fn fill(&self, rooms: &[f64], queries: &[f32], tile: &mut [f32]) {
        let squares = |x: f32, y: f32| (x - y) * (x - y);
        match self.cost {
            Cost::Sqeuclidean => self.fill_by(queries, tile, squares, |x| x as f32),
            Cost::Euclidean => self.fill_by(queries, tile, squares, |x| x.sqrt() as f32),
            Cost::Angular => self.fill_by(queries, tile, |x, y| x * y, |x| -x as f32),
            Cost::Manhattan => self.fill_by(queries, tile, |x, y| (x - y).abs(), |x| x as f32),
            Cost::Sqhyperbolic => {
                self.fill_by(queries, tile, squares, |x| x as f32);
                let padded = tile.len() / QUERIES;
                for (costs, &own) in tile.chunks_exact_mut(padded).zip(rooms) {
                    for (cost, &room) in costs.iter_mut().zip(&self.rooms) {
                        let distance = (1.0 + 2.0 * f64::from(*cost) / (own * room) + 1e-8).acosh();
                        *cost = (distance * distance) as f32;
                    }
                }
            }
        }
    }

    fn fill_by(
        &self,
        queries: &[f32],
        tile: &mut [f32],
        term: impl Fn(f32, f32) -> f32 + Copy,
        last: impl Fn(f64) -> f32 + Copy,
    ) {
        let (dim, count) = (self.dim, queries.len() / self.dim);
        // If there are fewer than four rows, the last one is repeated.
        let queries: [&[f32]; QUERIES] = std::array::from_fn(|q| &queries[q.min(count - 1) * dim..][..dim]);
        let padded = tile.len() / QUERIES;
        wide(|| {
            for (p, panel) in self.panels.chunks_exact(dim).enumerate() {
                let costs = partial_sums(&queries, panel, term);
                for (q, costs) in costs.iter().enumerate() {
                    let place = &mut tile[q * padded + p * LANES..][..LANES];
                    for (place, &cost) in place.iter_mut().zip(costs) {
                        *place = last(cost);
                    }
                }
            }
        });
    }
}

/// Computes Σ term(x, y) over the components, for four rows and a panel of sixteen.
#[inline(always)]
fn partial_sums(
    queries: &[&[f32]; QUERIES],
    panel: &[[f32; LANES]],
    term: impl Fn(f32, f32) -> f32 + Copy,
) -> [[f64; LANES]; QUERIES] {
    let mut sums = [[0.0; LANES]; QUERIES];
    for (run, components) in panel.chunks(RUN).enumerate() {
        let own: [&[f32]; QUERIES] = std::array::from_fn(|q| &queries[q][run * RUN..][..components.len()]);
        let mut part = [[0f32; LANES]; QUERIES];
        for (c, others) in components.iter().enumerate() {
            for q in 0..QUERIES {
                let x = own[q][c];
                for lane in 0..LANES {
                    part[q][lane] += term(x, others[lane]);
                }
            }
        }
        for q in 0..QUERIES {
            for lane in 0..LANES {
                sums[q][lane] += f64::from(part[q][lane]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    fn all(rows: &[f32], dim: usize, cost: Cost) -> Vec<f32> {
        let costs = Costs::new(rows, dim, cost);
        let n = costs.len();
        let mut out = vec![0f32; n * n];
        let copy = |met: RowCosts<'_>, out: &mut [f32]| out.copy_from_slice(met.costs);
        costs.each(SelfCost::Computed, &Progress::silent(), &mut out, n, copy).expect("costs");
        out
    }

    #[test]
    fn costs_are_those_of_f64_and_symmetric_to_the_bit() {
        for (n, dim) in [(1, 1), (5, 3), (33, 40), (70, 100)] {
            let rows: Vec<f32> =
                (0..n * dim).map(|i| (unit(3, 1, i as u64) - 0.5) * (1.0 / dim as f32).sqrt()).collect();
            for cost in Cost::ALL {
                let found = all(&rows, dim, cost);
                for i in 0..n {
                    for j in 0..n {
                        let pair = || rows[i * dim..][..dim].iter().zip(&rows[j * dim..][..dim]);
                        let f = |g: fn(f64, f64) -> f64| -> f64 { pair().map(|(&x, &y)| g(x.into(), y.into())).sum() };
                        let square = f(|x, y| (x - y) * (x - y));
                        let room =
                            |r: usize| 1.0 - rows[r * dim..][..dim].iter().map(|&x| f64::from(x * x)).sum::<f64>();
                        let truth = match cost {
                            Cost::Sqeuclidean => square,
                            Cost::Euclidean => square.sqrt(),
                            Cost::Angular => -f(|x, y| x * y),
                            Cost::Manhattan => f(|x, y| (x - y).abs()),
                            Cost::Sqhyperbolic => (1.0 + 2.0 * square / (room(i) * room(j)) + 1e-8).acosh().powi(2),
                        };
                        let scale = if cost == Cost::Angular { 1.0 } else { truth };
                        let error = (f64::from(found[i * n + j]) - truth).abs();
                        assert!(error <= 2e-6 * scale.abs() + 1e-12, "{cost:?} {n} {dim}: {error} of {truth}");
                        assert_eq!(found[i * n + j].to_bits(), found[j * n + i].to_bits());
                    }
                }
            }
        }
    }

    #[test]
    fn costs_of_near_rows_far_from_the_origin_are_precise() {
        let rows = [1000.0, 1000.0, 1000.0, 1000.001];
        let truth = f64::from(1000.001f32 - 1000.0).powi(2);
        assert!((f64::from(all(&rows, 2, Cost::Sqeuclidean)[1]) / truth - 1.0).abs() < 1e-6);
    }
}
