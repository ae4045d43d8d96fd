//! One epoch of UMAP for some rows: the arithmetic.
//!
//! The owner computes: a row's gradient is taken from the epoch's snapshot,
//! over the edges that fire and the random rows that push, and moves that row
//! alone, by Adam (Kingma, Ba 2015). Attraction and repulsion are the
//! gradients of UMAP's cross-entropy (McInnes, Healy, Melville 2018), each
//! term clipped to ±4 a component.
//!
//! Edges have no clocks: an edge of weight w fires in epoch n ≥ 1 when
//! ⌊n·r⌋ > ⌊(n−1)·r⌋ with r = w / w_max. Pushing rows come from a counter:
//! (seed, epoch, row, place).
//!
//! What must hold: terms are summed sixteen lanes wide, in the order of the
//! edges, so that a row's step is the same on every instruction set and
//! whoever computes it.

use lowland_io::edges::EdgeBlock;

use super::curve::Curve;
use super::math::{LANES, Lanes, power, total};
use crate::random::{draw, mix32};

/// What an epoch needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// The curve of the map.
    pub curve: Curve,
    /// Its number, from 1.
    pub number: u32,
    /// The step: falls over the run.
    pub step: f32,
    /// 1 / the largest weight.
    pub rate: f32,
    /// Pushing rows for each edge that fires.
    pub negatives: u32,
    /// Rows of the map.
    pub rows: u32,
    /// The seed.
    pub seed: u64,
}

/// How Adam averages: first and second moments.
pub const BETA1: f32 = 0.5;
/// See [`BETA1`].
pub const BETA2: f32 = 0.9;
/// The largest move of one term in one component, as in umap-learn.
const CLIP: f32 = 4.0;

impl Epoch {
    /// Whether an edge of weight `weight` fires in this epoch.
    #[inline(always)]
    fn fires(&self, weight: f32) -> bool {
        let r = f64::from((weight * self.rate).min(1.0));
        (f64::from(self.number) * r).floor() > (f64::from(self.number - 1) * r).floor()
    }
}

/// Moves rows `first..` of the map, whose positions and moments are given, by
/// one epoch. `snapshot` holds all rows' positions at the epoch's start.
pub fn advance<const DIM: usize>(
    epoch: &Epoch,
    block: &EdgeBlock,
    first: u32,
    snapshot: &[[f32; DIM]],
    positions: &mut [[f32; DIM]],
    moments: &mut [[[f32; DIM]; 2]],
) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature, as just asked.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { advance_avx512(epoch, block, first, snapshot, positions, moments) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has both features, as just asked.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { advance_avx2(epoch, block, first, snapshot, positions, moments) };
        }
    }
    advance_body(epoch, block, first, snapshot, positions, moments);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
fn advance_avx512<const DIM: usize>(
    epoch: &Epoch,
    block: &EdgeBlock,
    first: u32,
    snapshot: &[[f32; DIM]],
    positions: &mut [[f32; DIM]],
    moments: &mut [[[f32; DIM]; 2]],
) {
    advance_body(epoch, block, first, snapshot, positions, moments);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn advance_avx2<const DIM: usize>(
    epoch: &Epoch,
    block: &EdgeBlock,
    first: u32,
    snapshot: &[[f32; DIM]],
    positions: &mut [[f32; DIM]],
    moments: &mut [[[f32; DIM]; 2]],
) {
    advance_body(epoch, block, first, snapshot, positions, moments);
}

#[inline(always)]
fn advance_body<const DIM: usize>(
    epoch: &Epoch,
    block: &EdgeBlock,
    first: u32,
    snapshot: &[[f32; DIM]],
    positions: &mut [[f32; DIM]],
    moments: &mut [[[f32; DIM]; 2]],
) {
    let (a, b) = (epoch.curve.a as f32, epoch.curve.b as f32);
    // Adam starts from zero moments and corrects for it.
    let correct1 = 1.0 / (1.0 - BETA1.powi(epoch.number.min(1 << 20) as i32));
    let correct2 = 1.0 / (1.0 - BETA2.powi(epoch.number.min(1 << 20) as i32));
    let mut firing: Vec<u32> = Vec::new();
    for (i, (position, moments)) in positions.iter_mut().zip(moments.iter_mut()).enumerate() {
        let row = first + i as u32;
        let own = snapshot[row as usize];
        let place = (row - block.first_row) as usize;
        let edges = block.offsets[place] as usize..block.offsets[place + 1] as usize;
        firing.clear();
        for (&neighbor, &weight) in block.neighbors[edges.clone()].iter().zip(&block.weights[edges]) {
            if epoch.fires(weight) {
                firing.push(neighbor);
            }
        }
        if firing.is_empty() {
            // A row with no neighbours stays where it began: nothing would hold it.
            continue;
        }

        let mut sums = [[0f32; LANES]; DIM];
        for targets in firing.chunks(LANES) {
            // Lanes without an edge stand on the row itself, where the pull is zero.
            let mut rows = [row; LANES];
            rows[..targets.len()].copy_from_slice(targets);
            let away = gather(snapshot, &rows, &own);
            let squares = squares(&away);
            let powers = power(&squares, b);
            let mut coefficient = [0f32; LANES];
            for lane in 0..LANES {
                let c = (-2.0 * a * b) * powers[lane] / (squares[lane] * a.mul_add(powers[lane], 1.0));
                coefficient[lane] = if squares[lane] > 0.0 { c } else { 0.0 };
            }
            add(&mut sums, &coefficient, &away);
        }

        let pushes = firing.len() as u32 * epoch.negatives;
        let stream = draw(epoch.seed, u64::from(epoch.number), u64::from(row));
        let (key, stride) = (stream as u32, (stream >> 32) as u32 | 1);
        let mut pushed = 0;
        while pushed < pushes {
            let mut rows = [0u32; LANES];
            for (lane, out) in rows.iter_mut().enumerate() {
                let counter = pushed + lane as u32;
                let random = mix32(key ^ mix32(counter.wrapping_mul(stride)));
                let other = ((u64::from(random) * u64::from(epoch.rows)) >> 32) as u32;
                // Lanes beyond the last push stand on the row itself, where the push is zero.
                *out = if counter < pushes { other } else { row };
            }
            let away = gather(snapshot, &rows, &own);
            let squares = squares(&away);
            let powers = power(&squares, b);
            let mut coefficient = [0f32; LANES];
            for lane in 0..LANES {
                coefficient[lane] = (2.0 * b) / ((0.001 + squares[lane]) * a.mul_add(powers[lane], 1.0));
            }
            add(&mut sums, &coefficient, &away);
            pushed += LANES as u32;
        }

        for d in 0..DIM {
            let gradient = total(&sums[d]);
            let first = BETA1.mul_add(moments[0][d], (1.0 - BETA1) * gradient);
            let second = BETA2.mul_add(moments[1][d], (1.0 - BETA2) * gradient * gradient);
            moments[0][d] = first;
            moments[1][d] = second;
            position[d] = own[d] + epoch.step * (first * correct1) / ((second * correct2).sqrt() + 1e-8);
        }
    }
}

/// The row's own position less that of each of sixteen others.
#[inline(always)]
fn gather<const DIM: usize>(snapshot: &[[f32; DIM]], rows: &[u32; LANES], own: &[f32; DIM]) -> [Lanes; DIM] {
    let mut away = [[0f32; LANES]; DIM];
    for lane in 0..LANES {
        let other = &snapshot[rows[lane] as usize];
        for d in 0..DIM {
            away[d][lane] = own[d] - other[d];
        }
    }
    away
}

#[inline(always)]
fn squares<const DIM: usize>(away: &[Lanes; DIM]) -> Lanes {
    let mut squares = [0f32; LANES];
    for away in away {
        for lane in 0..LANES {
            squares[lane] = away[lane].mul_add(away[lane], squares[lane]);
        }
    }
    squares
}

/// Adds each lane's clipped term to the sums.
#[inline(always)]
fn add<const DIM: usize>(sums: &mut [Lanes; DIM], coefficient: &Lanes, away: &[Lanes; DIM]) {
    for (sums, away) in sums.iter_mut().zip(away) {
        for lane in 0..LANES {
            sums[lane] += (coefficient[lane] * away[lane]).clamp(-CLIP, CLIP);
        }
    }
}
