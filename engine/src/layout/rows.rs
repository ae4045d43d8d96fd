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
//! leaves less than r beyond a multiple of 65,536. Pushing rows come from a
//! counter: (seed, epoch, row, place).
//!
//! What must hold: terms are summed sixteen lanes wide, in the order of the
//! edges, so that a row's step is the same on every instruction set and
//! whoever computes it.

use super::curve::Curve;
use super::lanes::{LANES, Lanes, Portable};
use super::math::power;
use super::walk::{WHOLE, Walk};
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
    let rows = block.offsets[(first - block.first_row) as usize..][..=positions.len()].iter();
    let (from, to) = rows.fold((u32::MAX, 0), |(from, to), &at| (from.min(at), to.max(at)));
    let own = Own { epoch, block, first, snapshot, positions, moments };
    // What makes every gather sound: each row that is about to be read exists.
    let largest = block.neighbors[from as usize..to as usize].iter().fold(0, |most, &row| row.max(most));
    let last = first as usize + own.positions.len();
    assert!((largest as usize) < snapshot.len() && epoch.rows as usize <= snapshot.len() && last <= snapshot.len());
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
        let mut firing: Vec<u32> = Vec::new();
        for (i, (position, moments)) in positions.iter_mut().zip(moments.iter_mut()).enumerate() {
            let row = first + i as u32;
            let own = snapshot[row as usize];
            let place = (row - block.first_row) as usize;
            let edges = block.offsets[place] as usize..block.offsets[place + 1] as usize;
            // Room for all, and for the last group's padding; then each firing
            // edge is written and counted without a branch to mispredict.
            firing.resize(edges.len() + LANES, 0);
            let mut fired = 0;
            for (&neighbor, &rate) in block.neighbors[edges.clone()].iter().zip(&block.rates[edges]) {
                firing[fired] = neighbor;
                fired += usize::from(fires(epoch.number, u32::from(rate) + 1));
            }
            if fired == 0 {
                // A row with no neighbours stays where it began: nothing would hold it.
                continue;
            }
            // Lanes without an edge stand on the row itself, where the pull is zero.
            firing[fired..fired + LANES].fill(row);

            // SAFETY: as the caller vouches; `other` below is less than the epoch's rows.
            unsafe {
                let mut sums = [V::splat(0.0); DIM];
                let (va, vb, one) = (V::splat(a), V::splat(b), V::splat(1.0));
                let pull = V::splat(-2.0 * a * b);
                for targets in firing[..fired.next_multiple_of(LANES)].as_chunks::<LANES>().0 {
                    let away = gather::<V, DIM>(snapshot, targets, &own);
                    let squares = squares(&away);
                    let powers = power(squares, vb);
                    let coefficient = pull.mul(powers).div(squares.mul(va.mul_add(powers, one)));
                    add(&mut sums, coefficient.where_positive(squares), &away);
                }

                let pushes = fired as u32 * epoch.negatives;
                let stream = draw(epoch.seed, u64::from(epoch.number), u64::from(row));
                let (key, stride) = (stream as u32, (stream >> 32) as u32 | 1);
                let push = V::splat(2.0 * b);
                let near = V::splat(0.001);
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
                    let away = gather::<V, DIM>(snapshot, &rows, &own);
                    let squares = squares(&away);
                    let powers = power(squares, vb);
                    let coefficient = push.div(near.add(squares).mul(va.mul_add(powers, one)));
                    add(&mut sums, coefficient, &away);
                    pushed += LANES as u32;
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

/// Whether an edge of `rate` fires in epoch `number`.
#[inline(always)]
fn fires(number: u32, rate: u32) -> bool {
    // Wrapping is no loss: what counts is the product's place among multiples of WHOLE.
    number.wrapping_mul(rate) % WHOLE < rate
}

/// The row's own position less that of each of sixteen others.
///
/// # Safety
/// As [`Lanes::gather`].
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn gather<V: Lanes, const DIM: usize>(
    snapshot: &[[f32; DIM]],
    rows: &[u32; LANES],
    own: &[f32; DIM],
) -> [V; DIM] {
    // SAFETY: as the caller vouches.
    unsafe {
        if DIM == 2 {
            let [x, y] = V::gather_pairs(snapshot, rows);
            return std::array::from_fn(|d| V::splat(own[d]).sub(if d == 0 { x } else { y }));
        }
        std::array::from_fn(|d| V::splat(own[d]).sub(V::gather(snapshot, rows, d)))
    }
}

/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn squares<V: Lanes, const DIM: usize>(away: &[V; DIM]) -> V {
    // SAFETY: as the caller vouches.
    unsafe { away.iter().fold(V::splat(0.0), |sum, &d| d.mul_add(d, sum)) }
}

/// Adds each lane's clipped term to the sums.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn add<V: Lanes, const DIM: usize>(sums: &mut [V; DIM], coefficient: V, away: &[V; DIM]) {
    // SAFETY: as the caller vouches.
    unsafe {
        let (low, high) = (V::splat(-CLIP), V::splat(CLIP));
        for (sum, &away) in sums.iter_mut().zip(away) {
            *sum = sum.add(coefficient.mul(away).min(high).max(low));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
