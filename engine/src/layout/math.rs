//! Powers, sixteen at a time, by polynomials.
//!
//! What must hold: a fixed chain of operations per lane, the same on every
//! instruction set; relative error of [`power`] below 2·10⁻⁵ for the
//! exponents a layout uses (0 < b ≤ 2) and 10⁻¹² ≤ x ≤ 10¹².

use super::lanes::{Lanes, ROUND};

/// x to the power b, for x ≥ 0 (what is below the least normal number counts as that).
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
pub(super) unsafe fn power<V: Lanes>(x: V, b: V) -> V {
    // SAFETY: as the caller vouches.
    unsafe {
        let s = |x: f32| V::splat(x);
        // log₂ x = e + 2/ln 2 · atanh((m − 1)/(m + 1)), the series up to s⁹: |s| ≤ 0.1716.
        let (e, m) = x.max(s(f32::MIN_POSITIVE)).split();
        let t = m.sub(s(1.0)).div(m.add(s(1.0)));
        let t2 = t.mul(t);
        let p = t2.mul_add(s(2.0 / 9.0), s(2.0 / 7.0));
        let p = p.mul_add(t2, s(2.0 / 5.0));
        let p = p.mul_add(t2, s(2.0 / 3.0));
        let p = p.mul_add(t2, s(2.0));
        let log = t.mul(p).mul_add(s(std::f32::consts::LOG2_E), e);

        // 2^y = 2^n · e^(f ln 2), n the nearest integer; Taylor's series, |f ln 2| ≤ 0.347.
        let y = log.mul(b).min(s(126.0)).max(s(-126.0));
        let rounded = y.add(s(ROUND));
        let f = y.sub(rounded.sub(s(ROUND))).mul(s(std::f32::consts::LN_2));
        let p = f.mul_add(s(1.0 / 5040.0), s(1.0 / 720.0));
        let p = p.mul_add(f, s(1.0 / 120.0));
        let p = p.mul_add(f, s(1.0 / 24.0));
        let p = p.mul_add(f, s(1.0 / 6.0));
        let p = p.mul_add(f, s(0.5));
        let p = p.mul_add(f, s(1.0));
        let p = p.mul_add(f, s(1.0));
        p.scale(rounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::lanes::Portable;

    #[expect(unsafe_code, reason = "test of a kernel that needs no instruction set")]
    fn portable(x: f32, b: f32) -> f32 {
        // SAFETY: plain Rust needs nothing.
        unsafe { power(Portable::splat(x), Portable::splat(b)).to_array()[0] }
    }

    #[test]
    fn power_is_within_its_stated_error() {
        let mut worst = 0f64;
        for b in [0.3f32, 0.5, 0.895_060_9, 1.0, 1.5, 2.0] {
            for i in 0..20_000 {
                let x = 10f32.powf(-12.0 + 24.0 * i as f32 / 20_000.0);
                let truth = f64::from(x).powf(f64::from(b));
                if truth > 1e-30 && truth < 1e30 {
                    worst = worst.max((f64::from(portable(x, b)) - truth).abs() / truth);
                }
            }
        }
        assert!(worst < 2e-5, "{worst}");
        assert!(portable(0.0, 0.9).is_finite());
    }
}
