//! Random rows' positions, drawn for some rows together, and how sixteen
//! positions are taken out of the snapshot.
//!
//! Pushing rows come from counters: (seed, epoch, 1,024 rows, place) draws what
//! those rows share, (seed, epoch, row) where in it a row begins.

use super::kernel::Epoch;
use super::lanes::{LANES, Lanes};
use crate::random::{draw, mix32};

/// Rows that are pushed from one pool, and that a thread takes at a time.
pub(super) const SHARING: u32 = 1024;

/// Random rows' positions, drawn for some rows together: each of those takes
/// what it is pushed by from its own place on. So what is read here and there
/// in the snapshot is a few rows for each row rather than tens.
///
/// A usual row takes 40 of a pool's 2,048, so two rows have one or none in common.
pub(super) struct Pool<const DIM: usize> {
    /// Whose it is: rows from `of · SHARING`.
    pub(super) of: u32,
    /// Component after component: positions of `SIZE` rows, the first `LANES` of them again.
    numbers: Vec<f32>,
    /// What its rows' pushes are multiplied by where they draw in their turn, `LANES` again
    /// at the end; empty until it is asked for.
    shares: Vec<f32>,
}

impl<const DIM: usize> Pool<DIM> {
    /// A power of two. In the plane a pool takes 16 KiB, half of the nearest cache.
    pub(super) const SIZE: usize = if DIM <= 4 { 2048 } else { 512 };
    const STRIDE: usize = Self::SIZE + LANES;

    pub(super) fn new() -> Self {
        Pool { of: u32::MAX, numbers: vec![0.0; DIM * Self::STRIDE], shares: Vec::new() }
    }

    /// Draws for the rows from `of · SHARING`.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set, and the epoch's rows are within the snapshot.
    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    pub(super) unsafe fn fill<V: Lanes>(&mut self, epoch: &Epoch, of: u32, snapshot: &[[f32; DIM]]) {
        self.of = of;
        let stream = draw(epoch.seed, u64::from(epoch.drawn) | POOLS, u64::from(of));
        let (key, stride) = (stream as u32, (stream >> 32) as u32 | 1);
        for from in (0..Self::SIZE).step_by(LANES) {
            let mut rows = [0; LANES];
            for (lane, row) in rows.iter_mut().enumerate() {
                let random = mix32(key.wrapping_add(((from + lane) as u32).wrapping_mul(stride)));
                *row = ((u64::from(random) * u64::from(epoch.rows)) >> 32) as u32;
            }
            // SAFETY: each row is less than the epoch's, which are within the snapshot.
            unsafe {
                for (d, component) in gather::<V, DIM>(snapshot, &rows).iter().enumerate() {
                    self.numbers[d * Self::STRIDE + from..][..LANES].copy_from_slice(&component.to_array());
                }
            }
        }
        for d in 0..DIM {
            let component = &mut self.numbers[d * Self::STRIDE..][..Self::STRIDE];
            component.copy_within(..LANES, Self::SIZE);
        }
    }

    /// Sixteen positions from a place on; the pool has no end.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set.
    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    pub(super) unsafe fn load<V: Lanes>(&self, at: usize) -> [V; DIM] {
        let at = at % Self::SIZE;
        // SAFETY: as the caller vouches.
        unsafe {
            let mut points = [V::splat(0.0); DIM];
            for (d, component) in points.iter_mut().enumerate() {
                let numbers = self.numbers[d * Self::STRIDE + at..].first_chunk();
                *component = V::load(numbers.expect("a pool ends in sixteen more"));
            }
            points
        }
    }
}

/// What comes with the rows where pushes differ by who draws.
impl<const DIM: usize> Pool<DIM> {
    /// The position of the row in a place; the pool has no end.
    pub(super) fn row(&self, at: usize) -> [f32; DIM] {
        std::array::from_fn(|d| self.numbers[d * Self::STRIDE + at % Self::SIZE])
    }

    /// Keeps the shares of sixteen rows.
    pub(super) fn share(&mut self, from: usize, shares: [f32; LANES]) {
        self.shares.resize(Self::STRIDE, 0.0);
        self.shares[from..from + LANES].copy_from_slice(&shares);
        if from == 0 {
            self.shares[Self::SIZE..].copy_from_slice(&shares);
        }
    }

    /// Sixteen rows' shares from a place on.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set.
    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    pub(super) unsafe fn shares<V: Lanes>(&self, at: usize) -> V {
        let shares = self.shares[at % Self::SIZE..].first_chunk();
        // SAFETY: as the caller vouches.
        unsafe { V::load(shares.expect("a pool ends in sixteen more")) }
    }
}

/// Streams of the pools' draws, apart from those of single rows.
pub(super) const POOLS: u64 = 1 << 32;

/// Sixteen rows' positions.
///
/// # Safety
/// As [`Lanes::gather`].
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
pub(super) unsafe fn gather<V: Lanes, const DIM: usize>(snapshot: &[[f32; DIM]], rows: &[u32; LANES]) -> [V; DIM] {
    // SAFETY: as the caller vouches.
    unsafe {
        if DIM == 2 {
            let [x, y] = V::gather_pairs(snapshot, rows);
            let mut points = [x; DIM];
            points[1] = y;
            return points;
        }
        let mut points = [V::splat(0.0); DIM];
        for (d, component) in points.iter_mut().enumerate() {
            *component = V::gather(snapshot, rows, d);
        }
        points
    }
}

/// The row's own position less that of each of sixteen others.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
pub(super) unsafe fn away<V: Lanes, const DIM: usize>(others: &[V; DIM], own: &[f32; DIM]) -> [V; DIM] {
    let mut away = *others;
    for (away, &own) in away.iter_mut().zip(own) {
        // SAFETY: as the caller vouches.
        *away = unsafe { V::splat(own).sub(*away) };
    }
    away
}
