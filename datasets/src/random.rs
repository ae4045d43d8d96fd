//! Counter-based random numbers: the n-th number of a stream is a pure function of the stream's key
//! and n, so any row can be drawn at any time, on any thread.
//!
//! What must hold: the same key and counter give the same bits on every machine. Therefore only
//! integer arithmetic and exactly rounded float operations (+ − × ÷ √) are used: the system's `ln`,
//! `sin` and `cos` differ between C libraries. Fused multiply-add is not used either.

use std::f32::consts::FRAC_PI_4;

/// 2⁶⁴ divided by the golden ratio: the increment of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// 2⁻²⁴: floats have 24 bits of precision.
const UNIT: f32 = 1.0 / 16_777_216.0;

/// Normal numbers are computed in pairs, in blocks of this many pairs, so that the compiler can
/// vectorise.
const PAIRS: usize = 16;

/// The finaliser of SplitMix64: a bijection of 64 bits that passes the usual statistical tests.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A sequence of random numbers, indexed by a counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RandomStream {
    key: u64,
}

impl RandomStream {
    /// Returns the root stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { key: mix(seed.wrapping_add(STEP)) }
    }

    /// Returns a separate stream for `purpose`, unrelated to the parent's numbers.
    pub(crate) fn child(self, purpose: u64) -> Self {
        // The constant separates children from the parent's own counters.
        Self { key: mix(self.at(purpose) ^ 0x6c6f_776c_616e_6421) }
    }

    /// Returns 64 random bits.
    pub(crate) fn at(self, counter: u64) -> u64 {
        mix(self.key.wrapping_add(counter.wrapping_add(1).wrapping_mul(STEP)))
    }

    /// Returns a uniform number in [0, 1) with 24 bits.
    pub(crate) fn unit(self, counter: u64) -> f32 {
        (self.at(counter) >> 40) as f32 * UNIT
    }

    /// Returns an integer below `bound`, which must not be 0. The bias is below `bound` / 2⁶⁴.
    pub(crate) fn below(self, counter: u64, bound: u64) -> u64 {
        ((u128::from(self.at(counter)) * u128::from(bound)) >> 64) as u64
    }

    /// Returns an exponentially distributed number with mean 1.
    pub(crate) fn exponential(self, counter: u64) -> f32 {
        -ln(((self.at(counter) >> 40) as f32 + 0.5) * UNIT)
    }

    /// Fills `out` with uniform numbers in [0, 1).
    pub(crate) fn units(self, out: &mut [f32]) {
        for (counter, pair) in (0u64..).zip(out.chunks_mut(2)) {
            let bits = self.at(counter);
            pair[0] = (bits >> 40) as f32 * UNIT;
            if let Some(second) = pair.get_mut(1) {
                *second = (bits as u32 >> 8) as f32 * UNIT;
            }
        }
    }

    /// Fills `out` with standard normal numbers by the Box–Muller transform, one hash for each
    /// pair. The largest possible value is 6.7.
    pub(crate) fn normals(self, out: &mut [f32]) {
        for (block, values) in (0u64..).zip(out.chunks_mut(2 * PAIRS)) {
            let mut bits = [0u64; PAIRS];
            for (lane, bits) in (0u64..).zip(&mut bits) {
                *bits = self.at(block * PAIRS as u64 + lane);
            }
            let mut first = [0f32; PAIRS];
            let mut second = [0f32; PAIRS];
            for lane in 0..PAIRS {
                // Signed conversions, because SSE2 has no instruction for the unsigned one.
                let high = (bits[lane] >> 33) as i32;
                let low = bits[lane] as u32 as i32;
                let unit = (high as f32 + 0.5) * (0.5 / (1u64 << 30) as f32);
                let radius = (-2.0 * ln(unit)).max(0.0).sqrt();
                // An angle within ±45°, and two bits that rotate it into one of the four quadrants,
                // so that sine and cosine stay in the range of short series.
                let angle = (low >> 2) as f32 * (FRAC_PI_4 / (1u32 << 29) as f32);
                let (sine, cosine) = sin_cos_eighth(angle);
                let signed = if low & 1 == 0 { radius } else { -radius };
                let swap = low & 2 == 0;
                first[lane] = signed * if swap { sine } else { cosine };
                second[lane] = signed * if swap { cosine } else { sine };
            }
            for (pair, values) in values.chunks_mut(2).enumerate() {
                values[0] = first[pair];
                if let Some(value) = values.get_mut(1) {
                    *value = second[pair];
                }
            }
        }
    }
}

/// Returns the natural logarithm of a positive normal number, with relative error below 1e-6.
fn ln(x: f32) -> f32 {
    // x = m · 2ᵉ with m in [√½, √2).
    const SQRT_HALF: i32 = 0x3f35_04f3;
    let bits = x.to_bits() as i32;
    let exponent = (bits - SQRT_HALF) >> 23;
    let m = f32::from_bits((bits - (exponent << 23)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let t = s * s;
    let series = 1.0 + t * (1.0 / 3.0 + t * (0.2 + t * (1.0 / 7.0 + t * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * s * series
}

/// Returns sine and cosine of an angle within ±π/4 by their Taylor series, with error below 1e-7.
fn sin_cos_eighth(x: f32) -> (f32, f32) {
    let t = x * x;
    let sine = x * (1.0 + t * (-1.0 / 6.0 + t * (1.0 / 120.0 + t * (-1.0 / 5040.0 + t * (1.0 / 362_880.0)))));
    let cosine = 1.0 + t * (-0.5 + t * (1.0 / 24.0 + t * (-1.0 / 720.0 + t * (1.0 / 40_320.0))));
    (sine, cosine)
}

/// Returns sine and cosine of an angle given in turns.
pub(crate) fn sin_cos_turns(turns: f32) -> (f32, f32) {
    let quarter = (turns * 4.0).round();
    let (sine, cosine) = sin_cos_eighth((turns - quarter * 0.25) * std::f32::consts::TAU);
    match (quarter as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_follow_the_library() {
        for i in 1..=20_000u32 {
            let x = i as f32 / 20_000.0;
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() <= 1e-6 * exact.abs() + 1e-7, "ln {x}");
            let turns = x * 4.0 - 2.0;
            let (sine, cosine) = sin_cos_turns(turns);
            let exact = (f64::from(turns) * std::f64::consts::TAU).sin_cos();
            assert!((f64::from(sine) - exact.0).abs() < 1e-6, "sin {turns}");
            assert!((f64::from(cosine) - exact.1).abs() < 1e-6, "cos {turns}");
        }
        assert!((ln(0.5 * UNIT) + 25.0 * std::f32::consts::LN_2).abs() < 1e-5);
    }

    #[test]
    fn normal_numbers_are_normal() {
        let mut values = vec![0f32; 1_000_001];
        RandomStream::new(3).normals(&mut values);
        let n = values.len() as f64;
        let moment = |p: i32| values.iter().map(|&v| f64::from(v).powi(p)).sum::<f64>() / n;
        // Five standard errors of each moment: √1, √2, √15, √96 over √n.
        assert!(moment(1).abs() < 0.005);
        assert!((moment(2) - 1.0).abs() < 0.0071);
        assert!(moment(3).abs() < 0.02);
        assert!((moment(4) - 3.0).abs() < 0.05);
        let within = |limit: f32| values.iter().filter(|v| v.abs() < limit).count() as f64 / n;
        assert!((within(1.0) - 0.682_69).abs() < 0.0025);
        assert!((within(2.0) - 0.954_50).abs() < 0.0011);
        assert!((within(3.0) - 0.997_30).abs() < 0.0003);
        // Both numbers of a pair come from one hash and must be uncorrelated.
        let pairs: f64 = values.chunks_exact(2).map(|p| f64::from(p[0] * p[1])).sum();
        assert!((pairs / (n / 2.0)).abs() < 0.0071);
        let squares: f64 =
            values.chunks_exact(2).map(|p| f64::from(p[0] * p[0] - 1.0) * f64::from(p[1] * p[1] - 1.0)).sum();
        assert!((squares / (n / 2.0)).abs() < 0.015);
    }

    #[test]
    fn streams_are_known_answers() {
        // The first number of SplitMix64 seeded with 0 is published, and the root key of seed 0 is
        // this number.
        assert_eq!(RandomStream::new(0).key, 0xe220_a839_7b1d_cdaf);
        let stream = RandomStream::new(7);
        assert_ne!(stream.at(0), stream.child(0).at(0));
        assert!((0..1000).all(|i| stream.below(i, 10) < 10));
        let mut long = [0f32; 40];
        let mut short = [0f32; 7];
        stream.normals(&mut long);
        stream.normals(&mut short);
        assert_eq!(long[..7], short);
        stream.units(&mut long);
        assert!(long.iter().all(|v| (0.0..1.0).contains(v)));
    }
}
