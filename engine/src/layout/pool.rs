//! Pools of random rows' positions, shared by groups of rows, from which negative samples are taken.
//!
//! Draws come from a counter-based generator: (seed, epoch, group of 1,024 rows, place) draws the rows of a
//! group's pool, and (seed, epoch, row) draws the place in the pool at which a row's negative samples begin.

use super::kernel::Epoch;
use crate::random::{draw, mix32};
use crate::simd::{LANES, Lanes, Simd};

/// Number of rows that share a pool. A thread handles this number of rows at a time.
pub(super) const ROWS_PER_POOL: u32 = 1024;

/// Positions of random rows, drawn once for a group of [`ROWS_PER_POOL`] rows. Each row of the group takes its
/// negative samples from its own place on. Per row of the map this costs only a few random reads of the
/// snapshot, rather than tens.
///
/// A row usually takes 40 of a pool's 2,048 rows, so that two rows have one sample in common or none.
pub(super) struct NegativePool<const DIM: usize> {
    /// The group that the pool was drawn for: rows from `of * ROWS_PER_POOL`.
    pub(super) of: u32,
    /// Positions of `SIZE` rows, component after component; in each component the first `LANES` values follow
    /// again at the end.
    numbers: Vec<f32>,
    /// The factor of each pool row's repulsion where that row is the one that draws, and the first `LANES`
    /// factors again at the end. Empty until [`NegativePool::set_shares`] is called.
    shares: Vec<f32>,
}

impl<const DIM: usize> NegativePool<DIM> {
    /// Number of rows in a pool, a power of two. In the plane a pool takes 16 KiB, half of the L1 cache.
    pub(super) const SIZE: usize = if DIM <= 4 { 2048 } else { 512 };
    const STRIDE: usize = Self::SIZE + LANES;

    pub(super) fn new() -> Self {
        NegativePool { of: u32::MAX, numbers: vec![0.0; DIM * Self::STRIDE], shares: Vec::new() }
    }

    /// Draws the pool of the rows from `of * ROWS_PER_POOL` on.
    #[inline(always)]
    pub(super) fn fill<S: Simd>(&mut self, on: S, epoch: &Epoch, of: u32, snapshot: &[[f32; DIM]]) {
        self.of = of;
        let stream = draw(epoch.seed, u64::from(epoch.draw_epoch) | POOL_STREAM, u64::from(of));
        let (key, stride) = (stream as u32, (stream >> 32) as u32 | 1);
        for from in (0..Self::SIZE).step_by(LANES) {
            let mut rows = [0; LANES];
            for (lane, row) in rows.iter_mut().enumerate() {
                let random = mix32(key.wrapping_add(((from + lane) as u32).wrapping_mul(stride)));
                *row = ((u64::from(random) * u64::from(epoch.rows)) >> 32) as u32;
            }
            for (d, component) in on.gather(snapshot, &rows).iter().enumerate() {
                self.numbers[d * Self::STRIDE + from..][..LANES].copy_from_slice(&component.to_array());
            }
        }
        for d in 0..DIM {
            let component = &mut self.numbers[d * Self::STRIDE..][..Self::STRIDE];
            component.copy_within(..LANES, Self::SIZE);
        }
    }

    /// Returns sixteen positions from place `at` on; places are taken modulo `SIZE`.
    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, on: S, at: usize) -> [S::Lanes; DIM] {
        let at = at % Self::SIZE;
        let mut points = [on.splat(0.0); DIM];
        for (d, component) in points.iter_mut().enumerate() {
            let numbers = self.numbers[d * Self::STRIDE + at..].first_chunk();
            *component = on.load(numbers.expect("a pool ends in sixteen more"));
        }
        points
    }
}

/// Functions for methods in which the factor of the repulsion depends on the row that draws.
impl<const DIM: usize> NegativePool<DIM> {
    /// Returns the position in place `at`; places are taken modulo `SIZE`.
    pub(super) fn position_at(&self, at: usize) -> [f32; DIM] {
        std::array::from_fn(|d| self.numbers[d * Self::STRIDE + at % Self::SIZE])
    }

    /// Stores the factors of sixteen rows from place `from` on.
    pub(super) fn set_shares(&mut self, from: usize, shares: [f32; LANES]) {
        self.shares.resize(Self::STRIDE, 0.0);
        self.shares[from..from + LANES].copy_from_slice(&shares);
        if from == 0 {
            self.shares[Self::SIZE..].copy_from_slice(&shares);
        }
    }

    /// Returns the factors of sixteen rows from place `at` on; places are taken modulo `SIZE`.
    #[inline(always)]
    pub(super) fn shares_at<S: Simd>(&self, on: S, at: usize) -> S::Lanes {
        let shares = self.shares[at % Self::SIZE..].first_chunk();
        on.load(shares.expect("a pool ends in sixteen more"))
    }
}

/// Bit that keeps the random streams of the pools apart from the streams of single rows.
pub(super) const POOL_STREAM: u64 = 1 << 32;

/// Returns the row's own position minus each of sixteen other positions.
#[inline(always)]
pub(super) fn offsets_from<S: Simd, const DIM: usize>(
    on: S,
    others: &[S::Lanes; DIM],
    own: &[f32; DIM],
) -> [S::Lanes; DIM] {
    let mut away = *others;
    for (away, &own) in away.iter_mut().zip(own) {
        *away = on.splat(own).sub(*away);
    }
    away
}
