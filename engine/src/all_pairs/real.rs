//! Floating-point numbers of either precision, and functions without calls and branches, which a
//! compiler can vectorise.
//!
//! What must hold: every function is a fixed sequence of IEEE operations, never fused, so that
//! every instruction set gives the same bits. The map's pairs are computed in f32; the tests
//! differentiate the same code in f64.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use crate::simd::Avx2;

/// Pairs that are computed together.
pub(super) const LANES: usize = 16;

/// A floating-point type.
pub(super) trait MapFloat:
    Copy
    + Send
    + Sync
    + Default
    + PartialOrd
    + AddAssign
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    const ONE: Self;
    /// Returns the nearest number of this type.
    fn of(x: f64) -> Self;
    fn wide(self) -> f64;
    /// Returns eˣ; results below the least normal number become about that number. Relative error
    /// below 2·10⁻⁷ in f32 and 4·10⁻¹⁶ in f64.
    fn exp(self) -> Self;
    /// Returns xʸ for x > 0, by the platform's library.
    fn power(self, y: Self) -> Self;
}

impl MapFloat for f32 {
    const ONE: f32 = 1.0;
    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    /// As Cephes' `expf`: x = n·ln 2 + r, and a polynomial of degree 5 in r.
    #[inline(always)]
    fn exp(self) -> f32 {
        /// 1.5 · 2²³: adding this to a number leaves the nearest integer in the low bits.
        const ROUND: f32 = 12_582_912.0;
        let x = if self > -86.0 { self } else { -86.0 };
        let x = if x < 88.0 { x } else { 88.0 };
        let rounded = x * std::f32::consts::LOG2_E + ROUND;
        let n = rounded - ROUND;
        let r = x - n * 0.693_359_4;
        let r = r - n * -2.121_944_4e-4;
        let p = r * 1.987_569_1e-4 + 1.398_2e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let p = p * r * r + r + 1.0;
        f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23))
    }
    #[inline(always)]
    fn power(self, y: f32) -> f32 {
        self.powf(y)
    }
}

impl MapFloat for f64 {
    const ONE: f64 = 1.0;
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    /// x = n·ln 2 + r, and the Taylor polynomial of degree 12 in r, |r| ≤ ½ ln 2.
    #[inline(always)]
    fn exp(self) -> f64 {
        /// 1.5 · 2⁵².
        const ROUND: f64 = 6_755_399_441_055_744.0;
        let x = if self > -700.0 { self } else { -700.0 };
        let x = if x < 700.0 { x } else { 700.0 };
        let rounded = x * std::f64::consts::LOG2_E + ROUND;
        let n = rounded - ROUND;
        let r = x - n * 6.931_471_803_691_238e-1;
        let r = r - n * 1.908_214_929_270_587_7e-10;
        let mut p = 1.0 / 479_001_600.0;
        for term in [
            1.0 / 39_916_800.0,
            1.0 / 3_628_800.0,
            1.0 / 362_880.0,
            1.0 / 40_320.0,
            1.0 / 5_040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            1.0,
        ] {
            p = p * r + term;
        }
        f64::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 52))
    }
    #[inline(always)]
    fn power(self, y: f64) -> f64 {
        self.powf(y)
    }
}

/// Returns ln x of a positive normal number, within 4·10⁻¹⁶ · max(1, |ln x|): x = 2ᵉ·m with m in
/// [√½, √2), and ln m = 2 artanh((m − 1)/(m + 1)).
#[inline(always)]
pub(super) fn ln(x: f64) -> f64 {
    /// The bits of √½.
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    /// 2⁵² as a number, and the bits of 2⁵²: an integer in the low bits becomes the amount above
    /// 2⁵².
    const LARGE: f64 = 4_503_599_627_370_496.0;
    const EXPONENT: u64 = 0x4330_0000_0000_0000;
    // Biased so that the exponent cannot become negative.
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF).wrapping_add(1024 << 52);
    let e = f64::from_bits((shifted >> 52) | EXPONENT) - (LARGE + 1024.0);
    let m = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(SQRT_HALF));
    let t = (m - 1.0) / (m + 1.0);
    let s = t * t;
    let mut p = 1.0 / 23.0;
    for odd in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        p = p * s + 1.0 / odd;
    }
    let tail = p * s * t * 2.0 + e * 1.908_214_929_270_587_7e-10;
    (tail + 2.0 * t) + e * 6.931_471_803_691_238e-1
}

/// Runs `work` with the widest available instructions. The loops of `work` must be inlined into it.
/// The resulting bits are the same for all instruction sets.
#[inline(always)]
pub(super) fn wide<R>(work: impl FnOnce() -> R) -> R {
    match Avx2::detect() {
        Some(on) => on.vectorize(work),
        None => work(),
    }
}

/// Returns the sum of the lanes, adding halves pairwise.
#[inline(always)]
pub(super) fn total(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Returns the sum of `values` in a fixed order, in sixteen lanes.
pub(super) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut lanes = [0.0; LANES];
    for (i, value) in values.into_iter().enumerate() {
        lanes[i % LANES] += value;
    }
    total(lanes)
}

/// Returns Σ f(cost), K sums at once, in a fixed order in sixteen lanes.
#[inline(always)]
pub(super) fn fold<const K: usize>(costs: &[f32], f: impl Fn(f64) -> [f64; K]) -> [f64; K] {
    let mut lanes = [[0.0; LANES]; K];
    let (chunks, rest) = costs.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let terms = f(f64::from(chunk[lane]));
            for k in 0..K {
                lanes[k][lane] += terms[k];
            }
        }
    }
    for (lane, &cost) in rest.iter().enumerate() {
        let terms = f(f64::from(cost));
        for k in 0..K {
            lanes[k][lane] += terms[k];
        }
    }
    lanes.map(total)
}

/// Returns Σ f(cost, dual), as [`fold`]. Both slices must have the same length.
#[inline(always)]
pub(super) fn fold_with<const K: usize, D: Copy>(
    costs: &[f32],
    duals: &[D],
    f: impl Fn(f64, D) -> [f64; K],
) -> [f64; K] {
    let mut lanes = [[0.0; LANES]; K];
    let ((costs, costs_rest), (duals, duals_rest)) = (costs.as_chunks::<LANES>(), duals.as_chunks::<LANES>());
    for (costs, duals) in costs.iter().zip(duals) {
        for lane in 0..LANES {
            let terms = f(f64::from(costs[lane]), duals[lane]);
            for k in 0..K {
                lanes[k][lane] += terms[k];
            }
        }
    }
    for (lane, (&cost, &dual)) in costs_rest.iter().zip(duals_rest).enumerate() {
        let terms = f(f64::from(cost), dual);
        for k in 0..K {
            lanes[k][lane] += terms[k];
        }
    }
    lanes.map(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_and_logarithms_are_within_their_stated_errors() {
        let (mut single, mut double, mut log) = (0f64, 0f64, 0f64);
        for i in 0..200_000 {
            let x = -85.0 + i as f64 * (170.0 / 200_000.0);
            let truth = f64::from(x as f32).exp();
            single = single.max(((x as f32).exp_of() - truth).abs() / truth);
            let x = x * 8.0;
            double = double.max((MapFloat::exp(x) - x.exp()).abs() / x.exp());
            let y = x.exp();
            log = log.max((ln(y) - y.ln()).abs() / y.ln().abs().max(1.0));
        }
        assert!(single < 2e-7, "{single}");
        assert!(double < 4e-16, "{double}");
        assert!(log < 4e-16, "{log}");
        for x in [f64::MIN_POSITIVE, 1.0, std::f64::consts::SQRT_2, 0.5f64.sqrt(), 1.0 + 1e-8, f64::MAX] {
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x}");
        }
        assert!(MapFloat::exp(f64::NEG_INFINITY) < 1e-300 && MapFloat::exp(f32::NEG_INFINITY) < 1e-37);
    }

    trait ExpOf {
        fn exp_of(self) -> f64;
    }
    impl ExpOf for f32 {
        fn exp_of(self) -> f64 {
            f64::from(MapFloat::exp(self))
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let numbers: Vec<f64> = (0..1000).map(|i| i as f64 * 0.173 - 90.0).collect();
        let work = || -> Vec<u64> {
            let single = numbers.iter().map(|&x| u64::from(MapFloat::exp(x as f32).to_bits()));
            let double = numbers.iter().flat_map(|&x| [MapFloat::exp(x).to_bits(), ln(x * x + 1e-3).to_bits()]);
            single.chain(double).collect()
        };
        assert_eq!(wide(work), work());
    }
}
