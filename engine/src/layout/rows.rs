//! One epoch of UMAP for some rows: the arithmetic.
//!
//! The owner computes: a row's gradient is taken from the epoch's snapshot,
//! over the edges that fire and the random rows that push, and moves that row
//! alone, by Adam (Kingma, Ba 2015). Attraction and repulsion are the
//! gradients of UMAP's cross-entropy (McInnes, Healy, Melville 2018), each
//! term clipped to ±4 a component.
//!
//! Edges have no clocks: an edge of rate r (65,536ths of an epoch) fires in
//! epoch n ≥ 1 when ⌊n·r / 65,536⌋ > ⌊(n−1)·r / 65,536⌋, which is when n·r
//! leaves less than r beyond a multiple of 65,536. Pushing rows come from
//! counters: (seed, epoch, 1,024 rows, place) draws what those rows share,
//! (seed, epoch, row) where in it a row begins.
//!
//! What must hold: terms are summed sixteen lanes wide, in the order of the
//! edges, so that a row's step is the same on every instruction set and
//! whoever computes it.

use super::curve::Curve;
use super::lanes::{LANES, Lanes, Portable};
use super::math::power;
use super::walk::Walk;
use crate::random::{draw, mix32};
use crate::sum::total;

/// What an epoch needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch {
    /// The curve of the map.
    pub curve: Curve,
    /// Its number, from 1.
    pub number: u32,
    /// The step: falls over the run.
    pub step: f32,
    /// Pushing rows for each edge that fires.
    pub negatives: u32,
    /// Rows of the map.
    pub rows: u32,
    /// The seed.
    pub seed: u64,
}

/// How Adam averages: first and second moments.
pub(super) const BETA1: f32 = 0.5;
/// See [`BETA1`].
pub(super) const BETA2: f32 = 0.9;
/// The largest move of one term in one component, as in umap-learn.
const CLIP: f32 = 4.0;
/// Softens the push of a row that is near, as in umap-learn.
const NEAR: f32 = 0.001;
/// Keeps the pull finite where two rows meet, and is felt nowhere else. Pulls
/// softened as pushes are kept fewer neighbours in each of three comparisons.
const MEETING: f32 = 1e-12;

/// Moves rows `first..` of the map, whose positions and moments are given, by
/// one epoch. `snapshot` holds all rows' positions at the epoch's start.
///
/// # Panics
/// If the block names a row that the snapshot does not have.
pub(super) fn advance<const DIM: usize>(
    epoch: &Epoch,
    block: &Walk,
    first: u32,
    snapshot: &[[f32; DIM]],
    positions: &mut [[f32; DIM]],
    moments: &mut [[[f32; DIM]; 2]],
) {
    let last = first as usize + positions.len();
    assert!(epoch.rows as usize <= snapshot.len() && last <= snapshot.len());
    let own = Own { epoch, block, first, snapshot, positions, moments };
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512dq") {
            // SAFETY: the processor has the features, as just asked, and the rows were just checked.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { advance_avx512(own) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { advance_avx2(own) };
        }
    }
    // SAFETY: plain Rust needs no instruction set, and the rows were just checked.
    #[expect(unsafe_code, reason = "the generic kernel")]
    unsafe {
        own.advance::<Portable>()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn advance_avx512<const DIM: usize>(own: Own<'_, DIM>) {
    // SAFETY: as the caller vouches.
    unsafe { own.advance::<super::lanes::Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn advance_avx2<const DIM: usize>(own: Own<'_, DIM>) {
    // SAFETY: as the caller vouches.
    unsafe { own.advance::<super::lanes::Avx2>() }
}

/// The rows that one thread owns for an epoch, and what it reads.
struct Own<'a, const DIM: usize> {
    epoch: &'a Epoch,
    block: &'a Walk,
    first: u32,
    snapshot: &'a [[f32; DIM]],
    positions: &'a mut [[f32; DIM]],
    moments: &'a mut [[[f32; DIM]; 2]],
}

impl<const DIM: usize> Own<'_, DIM> {
    /// # Safety
    /// The processor has `V`'s instruction set; the block's neighbours, the
    /// epoch's rows and the owned rows are all within the snapshot.
    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn advance<V: Lanes>(self) {
        let Own { epoch, block, first, snapshot, positions, moments } = self;
        let (a, b) = (epoch.curve.a as f32, epoch.curve.b as f32);
        // Adam starts from zero moments and corrects for it.
        let correct1 = 1.0 / (1.0 - BETA1.powi(epoch.number as i32));
        let correct2 = 1.0 / (1.0 - BETA2.powi(epoch.number as i32));
        // What makes every gather sound: each row that is about to be read exists.
        let from = (first - block.first_row) as usize;
        let (from, to) = (block.offsets[from] as usize, block.offsets[from + positions.len()] as usize);
        let largest = block.neighbors[from..to].iter().fold(0, |most, &row| row.max(most));
        assert!((largest as usize) < snapshot.len(), "an edge leads to a row that there is not");
        let mut pool = Pool::new();
        let mut firing: Vec<u32> = Vec::new();
        for (i, (position, moments)) in positions.iter_mut().zip(moments.iter_mut()).enumerate() {
            let row = first + i as u32;
            let own = snapshot[row as usize];
            let place = (row - block.first_row) as usize;
            let edges = block.offsets[place] as usize..block.offsets[place + 1] as usize;
            // SAFETY: as the caller vouches.
            let fired = unsafe { fire::<V>(&block.neighbors, &block.rates, edges, epoch.number, &mut firing) };
            if fired == 0 {
                // A row with no neighbours stays where it began: nothing would hold it.
                continue;
            }
            // Lanes without an edge stand on the row itself, where nothing moves it.
            firing[fired..fired + LANES].fill(row);
            if pool.of != row / SHARING {
                // SAFETY: the epoch's rows are within the snapshot.
                unsafe { pool.fill::<V>(epoch, row / SHARING, snapshot) };
            }

            // Pushes are as many as the rate says to the nearest sixteen, and
            // weigh what makes up for the rest; they begin in the pull's last group.
            let asked = fired * epoch.negatives as usize;
            let pulled = fired % LANES;
            let beside = fired.next_multiple_of(LANES) - fired;
            let groups = ((asked.saturating_sub(beside) + LANES / 2) / LANES)
                .clamp(usize::from(beside == 0), Pool::<DIM>::SIZE / LANES);
            let share = asked as f32 / (beside + groups * LANES) as f32;
            let mut at = draw(epoch.seed, u64::from(epoch.number), u64::from(row)) as usize;

            // SAFETY: as the caller vouches.
            unsafe {
                let mut sums = [V::splat(0.0); DIM];
                let (va, vb, none) = (V::splat(a), V::splat(b), V::splat(0.0));
                let (pull, push) = (V::splat(-2.0 * a * b), V::splat(2.0 * b * share));
                let (meeting, near) = (V::splat(MEETING), V::splat(NEAR));
                let (whole, last) = firing[..fired + beside].as_chunks::<LANES>().0.split_at(fired / LANES);
                for targets in whole {
                    let away = away(&gather::<V, DIM>(snapshot, targets), &own);
                    add(&mut sums, &away, va, vb, pull, none, meeting);
                }
                for targets in last {
                    let (pulling, pushing) = (gather::<V, DIM>(snapshot, targets), pool.load::<V>(at));
                    let mut both = pushing;
                    for d in 0..DIM {
                        both[d] = pulling[d].first(pulled, pushing[d]);
                    }
                    let (pull, push) = (pull.first(pulled, none), none.first(pulled, push));
                    add(&mut sums, &away(&both, &own), va, vb, pull, push, meeting.first(pulled, near));
                    at += LANES;
                }
                for _ in 0..groups {
                    add(&mut sums, &away(&pool.load::<V>(at), &own), va, vb, none, push, near);
                    at += LANES;
                }

                for d in 0..DIM {
                    let gradient = total(sums[d].to_array());
                    let first = BETA1.mul_add(moments[0][d], (1.0 - BETA1) * gradient);
                    let second = BETA2.mul_add(moments[1][d], (1.0 - BETA2) * gradient * gradient);
                    moments[0][d] = first;
                    moments[1][d] = second;
                    position[d] = own[d] + epoch.step * (first * correct1) / ((second * correct2).sqrt() + 1e-8);
                }
            }
        }
    }
}

/// Rows that are pushed from one pool, and that a thread takes at a time.
pub(super) const SHARING: u32 = 1024;

/// Random rows' positions, drawn for some rows together: each of those takes
/// what it is pushed by from its own place on. So what is read here and there
/// in the snapshot is a few rows for each row rather than tens.
///
/// A usual row takes 40 of a pool's 2,048, so two rows have one or none in common.
struct Pool<const DIM: usize> {
    /// Whose it is: rows from `of · SHARING`.
    of: u32,
    /// Component after component: positions of `SIZE` rows, the first `LANES` of them again.
    numbers: Vec<f32>,
}

impl<const DIM: usize> Pool<DIM> {
    /// A power of two. In the plane a pool takes 16 KiB, half of the nearest cache.
    const SIZE: usize = if DIM <= 4 { 2048 } else { 512 };
    const STRIDE: usize = Self::SIZE + LANES;

    fn new() -> Self {
        Pool { of: u32::MAX, numbers: vec![0.0; DIM * Self::STRIDE] }
    }

    /// Draws for the rows from `of · SHARING`.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set, and the epoch's rows are within the snapshot.
    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn fill<V: Lanes>(&mut self, epoch: &Epoch, of: u32, snapshot: &[[f32; DIM]]) {
        self.of = of;
        let stream = draw(epoch.seed, u64::from(epoch.number) | POOLS, u64::from(of));
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
    unsafe fn load<V: Lanes>(&self, at: usize) -> [V; DIM] {
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

/// Streams of the pools' draws, apart from those of single rows.
const POOLS: u64 = 1 << 32;

/// Writes the neighbours of those of `edges` that fire in epoch `number` to
/// `firing`, which is made large enough for sixteen more. Gives their number.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn fire<V: Lanes>(
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
        // Sixteen at a time, though some belong to the next row; where the block ends, a copy.
        let (mut last_neighbors, mut last_rates) = ([0; LANES], [0; LANES]);
        let (neighbors, rates) = match (neighbors[at..].first_chunk(), rates[at..].first_chunk()) {
            (Some(neighbors), Some(rates)) => (neighbors, rates),
            _ => {
                last_neighbors[..wanted].copy_from_slice(&neighbors[at..edges.end]);
                last_rates[..wanted].copy_from_slice(&rates[at..edges.end]);
                (&last_neighbors, &last_rates)
            }
        };
        // SAFETY: as the caller vouches.
        unsafe {
            let mask = V::firing(rates, number as u16) & (u16::MAX >> (LANES - wanted));
            let out = firing[fired..].first_chunk_mut().expect("made large enough");
            V::compress(neighbors, mask, out);
            fired += mask.count_ones() as usize;
        }
    }
    fired
}

/// Sixteen rows' positions.
///
/// # Safety
/// As [`Lanes::gather`].
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn gather<V: Lanes, const DIM: usize>(snapshot: &[[f32; DIM]], rows: &[u32; LANES]) -> [V; DIM] {
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
unsafe fn away<V: Lanes, const DIM: usize>(others: &[V; DIM], own: &[f32; DIM]) -> [V; DIM] {
    let mut away = *others;
    for (away, &own) in away.iter_mut().zip(own) {
        // SAFETY: as the caller vouches.
        *away = unsafe { V::splat(own).sub(*away) };
    }
    away
}

/// Adds the clipped terms of sixteen others to the sums: with d the distance,
/// away · (pull · d^2b + push) / ((d² + near) · (1 + a · d^2b)).
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn add<V: Lanes, const DIM: usize>(sums: &mut [V; DIM], away: &[V; DIM], a: V, b: V, pull: V, push: V, near: V) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut squares = V::splat(0.0);
        for &d in away {
            squares = d.mul_add(d, squares);
        }
        let powers = power(squares, b);
        let below = near.add(squares).mul(a.mul_add(powers, V::splat(1.0)));
        let coefficient = pull.mul_add(powers, push).div(below);
        let (low, high) = (V::splat(-CLIP), V::splat(CLIP));
        for (sum, &away) in sums.iter_mut().zip(away) {
            *sum = sum.add(coefficient.mul(away).min(high).max(low));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::walk::WHOLE;
    use crate::random::unit;

    fn epoch(rows: u32) -> Epoch {
        Epoch { curve: Curve { a: 1.577, b: 0.895 }, number: 3, step: 0.7, negatives: 5, rows, seed: 11 }
    }

    /// A ring where each row has edges of several weights, two of them to copies.
    fn block(rows: u32) -> Walk {
        let mut block = Walk { first_row: 0, offsets: vec![0], neighbors: vec![], rates: vec![] };
        for row in 0..rows {
            let degree = if row == 5 { 0 } else { 1 + row % 37 };
            for e in 0..degree {
                block.neighbors.push((row + 1 + e * 3) % rows);
                let rate = if e == 0 { 1.0 } else { unit(1, 1, u64::from(row * 64 + e)) };
                block.rates.push((rate * 65_535.0) as u16);
            }
            block.offsets.push(block.neighbors.len() as u32);
        }
        block
    }

    #[expect(unsafe_code, reason = "test of kernels")]
    fn check<const DIM: usize>() {
        let rows = 200u32;
        let (epoch, block) = (epoch(rows), block(rows));
        let mut snapshot: Vec<[f32; DIM]> =
            (0..rows).map(|r| std::array::from_fn(|d| 20.0 * unit(2, 2, u64::from(r) * 8 + d as u64) - 10.0)).collect();
        snapshot[7] = snapshot[8];
        let start = vec![[[0.25f32; DIM]; 2]; rows as usize];
        let with = |kernel: &dyn Fn(Own<'_, DIM>)| {
            let (mut positions, mut moments) = (snapshot.clone(), start.clone());
            kernel(Own {
                epoch: &epoch,
                block: &block,
                first: 0,
                snapshot: &snapshot,
                positions: &mut positions,
                moments: &mut moments,
            });
            positions
        };
        // SAFETY: all rows of the block are below `rows`.
        let portable = with(&|own| unsafe { own.advance::<Portable>() });
        assert!(portable.iter().flatten().all(|x| x.is_finite()));
        assert_eq!(portable[5], snapshot[5], "a row without edges stays");
        assert_ne!(portable[6], snapshot[6]);
        let (mut positions, mut moments) = (snapshot.clone(), start.clone());
        let (low, high) = positions.split_at_mut(64);
        let (low_moments, high_moments) = moments.split_at_mut(64);
        advance(&epoch, &block, 64, &snapshot, high, high_moments);
        advance(&epoch, &block, 0, &snapshot, low, low_moments);
        assert_eq!(positions, portable, "dispatched, and in two portions");
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the features were just asked for.
            let avx2 = with(&|own| unsafe { advance_avx2(own) });
            assert_eq!(avx2, portable);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        check::<1>();
        check::<2>();
        check::<3>();
        check::<8>();
    }

    #[expect(unsafe_code, reason = "test of a kernel that needs no instruction set")]
    fn fires(number: u32, rate: u32) -> bool {
        // SAFETY: plain Rust needs nothing.
        unsafe { Portable::firing(&[(rate - 1) as u16; LANES], number as u16) != 0 }
    }

    #[test]
    fn an_edge_fires_as_often_as_its_rate_says() {
        for (rate, epochs) in [(WHOLE, 200), (WHOLE / 2, 200), (852, 500), (65, 500), (65_535, 77), (1, 70_000)] {
            let fired = |n: u32| u64::from(n) * u64::from(rate) / u64::from(WHOLE);
            for n in 1..=epochs {
                assert_eq!(fires(n, rate), fired(n) > fired(n - 1), "rate {rate} in epoch {n}");
            }
        }
        assert!((1..=1 << 20).all(|n| fires(n, WHOLE)));
    }
}
