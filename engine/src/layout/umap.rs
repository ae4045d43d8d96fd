//! UMAP's kernel: the arithmetic of one epoch for some rows.
//!
//! Each row is moved only by the thread that owns it. A row's gradient is computed from the epoch's snapshot,
//! over the edges that fire and over the negative samples, and moves that row by Adam (Kingma, Ba 2015).
//! Attraction and repulsion are the gradients of UMAP's cross-entropy (McInnes, Healy, Melville 2018); each
//! term is clipped to ±4 in each component.
//!
//! No state is stored for an edge: an edge of rate r (65,536ths of an epoch) fires in epoch n ≥ 1 if ⌊n·r /
//! 65,536⌋ > ⌊(n−1)·r / 65,536⌋. The condition is equivalent to (n·r mod 65,536) < r. Negative samples come
//! from a counter-based generator (`pool`).
//!
//! What must hold: terms are summed in sixteen lanes, in the order of the edges, so that a row's step depends
//! neither on the instruction set nor on which thread computes it.

use super::edge_blocks::{BlockSlices, WeightCode};
#[cfg(any(test, feature = "cuda"))]
use super::kernel::Epoch;
use super::kernel::{LayoutKernel, RowChunk};
use super::math::power;
use super::pool::{NegativePool, ROWS_PER_POOL, offsets_from};
use crate::random::draw;
use crate::simd::{LANES, Lanes, Simd};
use crate::sum::total;

/// Decay rate of Adam's first moment.
pub(super) const BETA1: f32 = 0.5;
/// Decay rate of Adam's second moment.
pub(super) const BETA2: f32 = 0.9;
/// Upper bound of the absolute value of one term in one component, as in umap-learn.
const MAX_TERM: f32 = 4.0;
/// Added to d² in the repulsion, which bounds the repulsion between near rows, as in umap-learn.
const REPULSION_SOFTENING: f32 = 0.001;
/// Added to d² in the attraction, which keeps the attraction finite between rows in the same place and has no
/// effect elsewhere. With the constant of the repulsion instead, fewer neighbours were kept in each of three
/// comparisons.
const ATTRACTION_SOFTENING: f32 = 1e-12;

/// UMAP's kernel: edges fire according to their rates, and each edge that fires brings its negative samples.
#[derive(Debug)]
pub(crate) struct UmapKernel;

impl LayoutKernel for UmapKernel {
    const WEIGHT_CODE: WeightCode = WeightCode::Rates;
    const HAS_GPU_KERNEL: bool = true;

    #[cfg(any(test, feature = "cuda"))]
    fn gpu_kernel(&self, epoch: &Epoch) -> Option<super::cuda::GpuKernel> {
        let betas = [BETA1, BETA2];
        let (since, optimizer, weights) = (epoch.number, super::Optimizer::Adam, [0.0; 2]);
        Some(super::cuda::GpuKernel { name: "umap", betas, since, restart: false, optimizer, weights })
    }

    #[inline(always)]
    fn advance<S: Simd, const DIM: usize>(&self, on: S, chunk: RowChunk<'_, DIM>) {
        let RowChunk { epoch, block, first, snapshot, positions, moments, .. } = chunk;
        let (a, b) = (epoch.curve.a as f32, epoch.curve.b as f32);
        // Bias correction of Adam's moments, which start at zero.
        let correct1 = 1.0 / (1.0 - BETA1.powi(epoch.number as i32));
        let correct2 = 1.0 / (1.0 - BETA2.powi(epoch.number as i32));
        let BlockSlices { offsets, neighbors, codes } = block.part();
        let mut pool = NegativePool::new();
        let mut firing: Vec<u32> = Vec::new();
        for (i, (position, moments)) in positions.iter_mut().zip(moments.iter_mut()).enumerate() {
            let row = first + i as u32;
            let own = snapshot[row as usize];
            let place = (row - block.first_row) as usize;
            let edges = offsets[place] as usize..offsets[place + 1] as usize;
            let fired = select_firing(on, neighbors, codes, edges, epoch.number, &mut firing);
            if fired == 0 {
                // A row without edges in this epoch does not move: no attraction would balance the repulsion.
                continue;
            }
            // Lanes without an edge hold the row itself, whose distance of zero gives no force.
            firing[fired..fired + LANES].fill(row);
            if pool.of != row / ROWS_PER_POOL {
                pool.fill(on, epoch, row / ROWS_PER_POOL, snapshot);
            }

            // The number of negative samples is rounded to a multiple of sixteen, after those that fill up the
            // last group of edges; `share` weights them so that the sum stands for the number that was asked
            // for.
            let asked = fired * epoch.negatives as usize;
            let pulled = fired % LANES;
            let beside = fired.next_multiple_of(LANES) - fired;
            let groups = ((asked.saturating_sub(beside) + LANES / 2) / LANES)
                .clamp(usize::from(beside == 0), NegativePool::<DIM>::SIZE / LANES);
            let share = asked as f32 / (beside + groups * LANES) as f32;
            let mut at = draw(epoch.seed, u64::from(epoch.draw_epoch), u64::from(row)) as usize;

            let mut sums = [on.splat(0.0); DIM];
            let (curve, none) = ([on.splat(a), on.splat(b)], on.splat(0.0));
            let (pull, push) = (on.splat(-2.0 * a * b), on.splat(2.0 * b * share));
            let (meeting, near) = (on.splat(ATTRACTION_SOFTENING), on.splat(REPULSION_SOFTENING));
            let (whole, last) = firing[..fired + beside].as_chunks::<LANES>().0.split_at(fired / LANES);
            for targets in whole {
                let away = offsets_from(on, &on.gather(snapshot, targets), &own);
                add_terms(on, &mut sums, &away, curve, pull, none, meeting);
            }
            for targets in last {
                let (pulling, pushing) = (on.gather(snapshot, targets), pool.load(on, at));
                let mut both = pushing;
                for d in 0..DIM {
                    both[d] = pulling[d].first(pulled, pushing[d]);
                }
                let (pull, push) = (pull.first(pulled, none), none.first(pulled, push));
                add_terms(
                    on,
                    &mut sums,
                    &offsets_from(on, &both, &own),
                    curve,
                    pull,
                    push,
                    meeting.first(pulled, near),
                );
                at += LANES;
            }
            for _ in 0..groups {
                add_terms(on, &mut sums, &offsets_from(on, &pool.load(on, at), &own), curve, none, push, near);
                at += LANES;
            }

            for d in 0..DIM {
                let gradient = total(sums[d].to_array());
                let first = BETA1.mul_add(moments[0][d], (1.0 - BETA1) * gradient);
                let second = BETA2.mul_add(moments[1][d], (1.0 - BETA2) * gradient * gradient);
                moments[0][d] = first;
                moments[1][d] = second;
                position[d] = own[d] + epoch.stepper.rate * (first * correct1) / ((second * correct2).sqrt() + 1e-8);
            }
        }
    }
}

/// Writes the neighbours of the `edges` that fire in epoch `number` to `firing`, which is enlarged to hold at
/// least sixteen more. Returns the number of edges that fire.
#[inline(always)]
fn select_firing<S: Simd>(
    on: S,
    neighbors: &[u32],
    rates: &[u16],
    edges: std::ops::Range<usize>,
    number: u32,
    firing: &mut Vec<u32>,
) -> usize {
    let most = edges.len() + 2 * LANES;
    if firing.len() < most {
        firing.resize(most, 0);
    }
    let mut fired = 0;
    for at in edges.clone().step_by(LANES) {
        let wanted = (edges.end - at).min(LANES);
        // Reads sixteen edges at a time, the last of which may belong to the next row and are masked out below.
        // At the end of the block, the edges are copied first.
        let (mut last_neighbors, mut last_rates) = ([0; LANES], [0; LANES]);
        let (neighbors, rates) = match (neighbors[at..].first_chunk(), rates[at..].first_chunk()) {
            (Some(neighbors), Some(rates)) => (neighbors, rates),
            _ => {
                last_neighbors[..wanted].copy_from_slice(&neighbors[at..edges.end]);
                last_rates[..wanted].copy_from_slice(&rates[at..edges.end]);
                (&last_neighbors, &last_rates)
            }
        };
        let mask = on.firing(rates, number as u16) & (u16::MAX >> (LANES - wanted));
        let out = firing[fired..].first_chunk_mut().expect("made large enough");
        on.compress(neighbors, mask, out);
        fired += mask.count_ones() as usize;
    }
    fired
}

/// Adds the clipped terms of sixteen other rows to `sums`. With d the distance, a term is away · (pull · d^2b +
/// push) / ((d² + near) · (1 + a · d^2b)).
#[inline(always)]
fn add_terms<S: Simd, const DIM: usize>(
    on: S,
    sums: &mut [S::Lanes; DIM],
    away: &[S::Lanes; DIM],
    [a, b]: [S::Lanes; 2],
    pull: S::Lanes,
    push: S::Lanes,
    near: S::Lanes,
) {
    let mut squares = on.splat(0.0);
    for &d in away {
        squares = d.mul_add(d, squares);
    }
    let powers = power(on, squares, b);
    let below = near.add(squares).mul(a.mul_add(powers, on.splat(1.0)));
    let coefficient = pull.mul_add(powers, push).div(below);
    let (low, high) = (on.splat(-MAX_TERM), on.splat(MAX_TERM));
    for (sum, &away) in sums.iter_mut().zip(away) {
        *sum = sum.add(coefficient.mul(away).min(high).max(low));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Optimizer;
    use crate::layout::curve::MembershipCurve;
    use crate::layout::edge_blocks::{FULL_RATE, PackedBlock};
    use crate::layout::kernel::{self, Advance};
    use crate::layout::optimizer::OptimizerStep;
    use crate::random::unit;
    use crate::simd::{InstructionSet, Portable};

    fn epoch(rows: u32) -> Epoch {
        let stepper = OptimizerStep { optimizer: Optimizer::Adam, rate: 0.7, since: 3 };
        let curve = MembershipCurve { a: 1.577, b: 0.895 };
        Epoch {
            curve,
            number: 3,
            draw_epoch: 3,
            epochs: 10,
            stepper,
            exaggeration: 1.0,
            negatives: 5,
            unit: 1.0,
            rows,
            seed: 11,
        }
    }

    /// A ring in which each row has edges of several weights.
    fn block(rows: u32) -> PackedBlock {
        let (mut offsets, mut neighbors, mut codes) = (vec![0], vec![], vec![]);
        for row in 0..rows {
            let degree = if row == 5 { 0 } else { 1 + row % 37 };
            for e in 0..degree {
                neighbors.push((row + 1 + e * 3) % rows);
                let rate = if e == 0 { 1.0 } else { unit(1, 1, u64::from(row * 64 + e)) };
                codes.push((rate * 65_535.0) as u16);
            }
            offsets.push(neighbors.len() as u32);
        }
        PackedBlock::from_parts(0, &offsets, &neighbors, &codes)
    }

    fn check<const DIM: usize>() {
        let rows = 200u32;
        let (epoch, block) = (epoch(rows), block(rows));
        let mut snapshot: Vec<[f32; DIM]> =
            (0..rows).map(|r| std::array::from_fn(|d| 20.0 * unit(2, 2, u64::from(r) * 8 + d as u64) - 10.0)).collect();
        snapshot[7] = snapshot[8];
        let start = vec![[[0.25f32; DIM]; 2]; rows as usize];
        let with = |kernel: &dyn Fn(RowChunk<'_, DIM>)| {
            let (mut positions, mut moments) = (snapshot.clone(), start.clone());
            kernel(RowChunk {
                epoch: &epoch,
                block: &block,
                first: 0,
                snapshot: &snapshot,
                field: None,
                positions: &mut positions,
                moments: &mut moments,
            });
            positions
        };
        let portable = with(&|own| UmapKernel.advance(Portable, own));
        assert!(portable.iter().flatten().all(|x| x.is_finite()));
        assert_eq!(portable[5], snapshot[5], "a row without edges stays");
        assert_ne!(portable[6], snapshot[6]);
        let (mut positions, mut moments) = (snapshot.clone(), start.clone());
        let (low, high) = positions.split_at_mut(64);
        let (low_moments, high_moments) = moments.split_at_mut(64);
        for (first, positions, moments) in [(64, high, high_moments), (0, low, low_moments)] {
            let (epoch, block, snapshot) = (&epoch, &block, snapshot.as_slice());
            kernel::advance(&UmapKernel, RowChunk { epoch, block, first, snapshot, field: None, positions, moments });
        }
        assert_eq!(positions, portable, "dispatched, and in two portions");
        for on in InstructionSet::all() {
            assert_eq!(with(&|chunk| on.run(Advance { kernel: &UmapKernel, chunk })), portable, "{on:?}");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        check::<1>();
        check::<2>();
        check::<3>();
        check::<8>();
    }

    /// Each term is twice the derivative of the cross-entropy, as in umap-learn: with q = 1 / (1 + a d^2b),
    /// attraction is −∂(−ln q) and repulsion −∂(−ln (1 − q)), up to the constant that bounds the repulsion
    /// between near rows.
    #[test]
    fn terms_are_the_derivatives_of_the_cross_entropy() {
        let (a, b) = (1.577f64, 0.895f64);
        let loss = |at: [f64; 2], pulls: bool| {
            let q = 1.0 / (1.0 + a * (at[0] * at[0] + at[1] * at[1]).powf(b));
            if pulls { -q.ln() } else { -(1.0 - q).ln() }
        };
        for i in 0..200 {
            // Far enough apart that no term is clipped, or changed by the constant by more than the tolerance.
            let away: [f64; 2] = std::array::from_fn(|d| 8.0 * f64::from(unit(3, d as u64, i)) + 0.6);
            for pulls in [true, false] {
                let splat = |x: f64| Portable.splat(x as f32);
                let (pull, push) = if pulls { (-2.0 * a * b, 0.0) } else { (0.0, 2.0 * b) };
                let near = Portable.splat(if pulls { ATTRACTION_SOFTENING } else { REPULSION_SOFTENING });
                let (mut sums, to) = ([splat(0.0); 2], away.map(splat));
                add_terms(Portable, &mut sums, &to, [a, b].map(splat), splat(pull), splat(push), near);
                let sum = sums.map(|sum| f64::from(sum.to_array()[0]));
                for d in 0..2 {
                    let moved = |by: f64| {
                        let mut there = away;
                        there[d] += by;
                        loss(there, pulls)
                    };
                    let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    assert!((sum[d] + slope).abs() < 2e-3 * slope.abs(), "{away:?}, pulls {pulls}: {} {slope}", sum[d]);
                }
            }
        }
    }

    fn fires(number: u32, rate: u32) -> bool {
        Portable.firing(&[(rate - 1) as u16; LANES], number as u16) != 0
    }

    #[test]
    fn an_edge_fires_as_often_as_its_rate_says() {
        for (rate, epochs) in [(FULL_RATE, 200), (FULL_RATE / 2, 200), (852, 500), (65, 500), (65_535, 77), (1, 70_000)]
        {
            let fired = |n: u32| u64::from(n) * u64::from(rate) / u64::from(FULL_RATE);
            for n in 1..=epochs {
                assert_eq!(fires(n, rate), fired(n) > fired(n - 1), "rate {rate} in epoch {n}");
            }
        }
        assert!((1..=1 << 20).all(|n| fires(n, FULL_RATE)));
    }
}
