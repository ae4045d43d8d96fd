//! The kernel of methods that weigh every edge in every epoch.
//!
//! A method is a [`EdgeLoss`]: attraction and repulsion, each a function of the squared distance d² in the map,
//! given as the coefficient of (zᵢ − zⱼ) in n times the gradient. The edge store holds every edge in both
//! directions, so that a row's own edges give its whole attraction. The repulsion comes either from negative
//! samples (`pool`) or from a `field`. A row's negative samples count twice: they also stand for the rows that
//! draw this row.
//!
//! What must hold: terms are summed in sixteen lanes, in the order of the edges, so that a row's step depends
//! neither on the instruction set nor on which thread computes it.

use std::fmt::Debug;

use super::edge_blocks::{BlockSlices, WeightCode};
use super::kernel::{Epoch, LayoutKernel, RowChunk};
use super::pool::{NegativePool, ROWS_PER_POOL, offsets_from};
use crate::random::draw;
use crate::simd::{LANES, Lanes, Simd};
use crate::sum::total;

/// The attraction and repulsion of a method.
pub(crate) trait EdgeLoss: Copy + Sync + Debug {
    /// How edge weights are encoded: as roots or as whole numbers.
    const WEIGHT_CODE: WeightCode = WeightCode::Roots;
    /// Whether the repulsive force comes from a field over the whole map.
    const USES_FIELD: bool = false;
    /// Whether the factor of a row's repulsion differs from row to row, because it depends on the row's mass.
    const USES_MASSES: bool = false;

    /// Prefix of the names of the method's GPU kernels; `None` if it has none.
    const GPU_KERNEL: Option<&'static str> = None;

    /// Returns the weights of near and mid-near pairs, for methods that distinguish them.
    #[cfg(any(test, feature = "cuda"))]
    fn weights(self) -> [f32; 2] {
        [0.0; 2]
    }

    /// Returns the loss with the parameters of an epoch.
    fn in_epoch(self, _: &Epoch) -> Self {
        self
    }

    /// Returns the attraction of edges: the coefficient of zᵢ − zⱼ in n times the gradient, from the weights
    /// and d². With [`WeightCode::Roots`], a row's weights sum to about 1, as (pᵢⱼ + pⱼᵢ) / 2 of conditional
    /// probabilities do.
    fn attraction<S: Simd>(self, on: S, weight: S::Lanes, squares: S::Lanes) -> S::Lanes;

    /// Returns the repulsion of drawn rows, as the negative of the same coefficient, and the amounts that these
    /// rows add to the row's mass.
    fn repulsion<S: Simd>(self, on: S, squares: S::Lanes) -> [S::Lanes; 2];

    /// Returns the factor of a row's repulsion. The default ignores the mass and corrects for the number of
    /// rows that were drawn, `drawn`, which is `asked` rounded up to a multiple of sixteen.
    fn repulsion_factor(self, _mass: f32, asked: u32, drawn: usize) -> f32 {
        asked as f32 / drawn as f32
    }
}

/// The kernel of a loss.
#[derive(Debug)]
pub(crate) struct WeightedKernel<L>(pub(crate) L);

impl<L: EdgeLoss> LayoutKernel for WeightedKernel<L> {
    const WEIGHT_CODE: WeightCode = L::WEIGHT_CODE;
    const USES_FIELD: bool = L::USES_FIELD;
    const HAS_GPU_KERNEL: bool = L::GPU_KERNEL.is_some();

    #[cfg(any(test, feature = "cuda"))]
    fn gpu_kernel(&self, epoch: &Epoch) -> Option<super::cuda::GpuKernel> {
        let since = epoch.stepper.since;
        L::GPU_KERNEL.map(|name| super::cuda::GpuKernel {
            name,
            betas: super::optimizer::BETAS,
            since,
            restart: since == 1,
            optimizer: epoch.stepper.optimizer,
            weights: self.0.in_epoch(epoch).weights(),
        })
    }

    #[inline(always)]
    fn advance<S: Simd, const DIM: usize>(&self, on: S, chunk: RowChunk<'_, DIM>) {
        let RowChunk { epoch, block, first, snapshot, field, positions, moments } = chunk;
        let loss = self.0.in_epoch(epoch);
        let part = block.part();
        let mut pool = NegativePool::new();
        for (i, (position, moments)) in positions.iter_mut().zip(moments.iter_mut()).enumerate() {
            let row = first + i as u32;
            let own = snapshot[row as usize];
            let place = (row - block.first_row) as usize;
            let edges = part.offsets[place] as usize..part.offsets[place + 1] as usize;
            if edges.is_empty() {
                // A row without edges does not move: no attraction would balance the repulsion.
                continue;
            }
            let pulls = row_attraction(on, loss, epoch.unit, part, edges, row, snapshot);
            let pushes = match field {
                Some(field) => field.force_at(&own),
                None => {
                    if pool.of != row / ROWS_PER_POOL {
                        pool.fill(on, epoch, row / ROWS_PER_POOL, snapshot);
                        if L::USES_MASSES {
                            estimate_shares(on, loss, epoch.negatives, &mut pool);
                        }
                    }
                    let at = draw(epoch.seed, u64::from(epoch.draw_epoch), u64::from(row)) as usize;
                    row_repulsion(on, loss, epoch.negatives, &pool, at, &own)
                }
            };
            let mut force = [0f32; DIM];
            for d in 0..DIM {
                force[d] = (-epoch.exaggeration).mul_add(pulls[d], pushes[d]);
            }
            epoch.stepper.step(force, own, position, moments);
        }
    }
}

/// Returns the attraction of a row's edges, without exaggeration.
#[inline(always)]
fn row_attraction<S: Simd, L: EdgeLoss, const DIM: usize>(
    on: S,
    loss: L,
    unit: f32,
    part: BlockSlices<'_>,
    edges: std::ops::Range<usize>,
    row: u32,
    snapshot: &[[f32; DIM]],
) -> [f32; DIM] {
    let own = &snapshot[row as usize];
    let mut sums = [on.splat(0.0); DIM];
    for at in edges.clone().step_by(LANES) {
        let wanted = (edges.end - at).min(LANES);
        // Lanes beyond the row's edges hold the row itself with weight 0.
        let (mut neighbors, mut codes) = ([row; LANES], [0; LANES]);
        neighbors[..wanted].copy_from_slice(&part.neighbors[at..at + wanted]);
        codes[..wanted].copy_from_slice(&part.codes[at..at + wanted]);
        let code = on.widen(&codes);
        let weight = match L::WEIGHT_CODE {
            WeightCode::Roots => {
                let root = code.mul(on.splat(unit));
                root.mul(root)
            }
            _ => code,
        };
        let away = offsets_from(on, &on.gather(snapshot, &neighbors), own);
        let pull = loss.attraction(on, weight, squared_distances(on, &away));
        for (sum, &away) in sums.iter_mut().zip(&away) {
            *sum = pull.mul_add(away, *sum);
        }
    }
    sums.map(|sum| total(sum.to_array()))
}

/// Returns the number of groups of sixteen rows that are drawn where `asked` rows are asked for.
fn groups_of_draws<const DIM: usize>(asked: u32) -> usize {
    (asked as usize).div_ceil(LANES).clamp(1, NegativePool::<DIM>::SIZE / LANES)
}

/// Returns the repulsion of `asked` rows of the pool from place `at` on. Half of the sum stands for the row's
/// own draws; the other half stands for the rows that draw this row, where each has the factor of its own mass.
#[inline(always)]
fn row_repulsion<S: Simd, L: EdgeLoss, const DIM: usize>(
    on: S,
    loss: L,
    asked: u32,
    pool: &NegativePool<DIM>,
    mut at: usize,
    own: &[f32; DIM],
) -> [f32; DIM] {
    let groups = groups_of_draws::<DIM>(asked);
    let none = on.splat(0.0);
    let (mut sums, mut theirs, mut masses) = ([none; DIM], [none; DIM], none);
    for _ in 0..groups {
        let away = offsets_from(on, &pool.load(on, at), own);
        let [push, mass] = loss.repulsion(on, squared_distances(on, &away));
        for (sum, &away) in sums.iter_mut().zip(&away) {
            *sum = push.mul_add(away, *sum);
        }
        if L::USES_MASSES {
            let push = push.mul(pool.shares_at(on, at));
            for (sum, &away) in theirs.iter_mut().zip(&away) {
                *sum = push.mul_add(away, *sum);
            }
        }
        masses = distinct_mask(on, squared_distances(on, &away)).mul_add(mass, masses);
        at += LANES;
    }
    let share = loss.repulsion_factor(total(masses.to_array()), asked, groups * LANES);
    if !L::USES_MASSES {
        return sums.map(|sum| share * total(sum.to_array()));
    }
    let mut out = [0f32; DIM];
    for d in 0..DIM {
        out[d] = 0.5 * share.mul_add(total(sums[d].to_array()), total(theirs[d].to_array()));
    }
    out
}

/// Number of rows of the pool from which the mass of each pool row is estimated.
const MASS_SAMPLE: usize = 64;

/// Computes the factors of the pool's rows, from their masses with regard to the 64 rows after their group of
/// sixteen.
#[inline(always)]
fn estimate_shares<S: Simd, L: EdgeLoss, const DIM: usize>(on: S, loss: L, asked: u32, pool: &mut NegativePool<DIM>) {
    let drawn = groups_of_draws::<DIM>(asked) * LANES;
    for from in (0..NegativePool::<DIM>::SIZE).step_by(LANES) {
        let (rows, mut masses) = (pool.load(on, from), on.splat(0.0));
        for other in 0..MASS_SAMPLE {
            let away = offsets_from(on, &rows, &pool.position_at(from + LANES + other));
            let [_, mass] = loss.repulsion(on, squared_distances(on, &away));
            masses = distinct_mask(on, squared_distances(on, &away)).mul_add(mass, masses);
        }
        let masses = masses.mul(on.splat(drawn as f32 / MASS_SAMPLE as f32)).to_array();
        pool.set_shares(from, masses.map(|mass| loss.repulsion_factor(mass, asked, drawn)));
    }
}

/// Returns d² of sixteen differences.
#[inline(always)]
fn squared_distances<S: Simd, const DIM: usize>(on: S, away: &[S::Lanes; DIM]) -> S::Lanes {
    let mut squares = on.splat(0.0);
    for &d in away {
        squares = d.mul_add(d, squares);
    }
    squares
}

/// Returns 1, or 0 where the other row has the same position: a row that draws itself, or a copy of itself,
/// adds no mass.
#[inline(always)]
fn distinct_mask<S: Simd>(on: S, squares: S::Lanes) -> S::Lanes {
    squares.mul(on.splat(1e30)).min(on.splat(1.0))
}
