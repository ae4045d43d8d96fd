//! Powers of sixteen numbers at a time, by polynomials.
//!
//! What must hold: each lane goes through a fixed chain of operations, the same on every instruction set. The
//! relative error of [`power`] is below 3·10⁻⁵ for the exponents that a layout uses (0 < b ≤ 2) and 10⁻¹² ≤ x ≤
//! 10¹².

use crate::simd::{InstructionSet, LANES, Lanes, ROUND, Simd, SimdTask};

/// Replaces each number x by x to the power b, with the same bits on every processor. The relative error is below
/// 3·10⁻⁵ for 0 < b ≤ 2 and 10⁻¹² ≤ x ≤ 10¹². Values below the least normal number, NaN too, count as that number.
///
/// ```
/// let mut squares = [4.0, 9.0, 2.25];
/// lowland_engine::layout::powers(&mut squares, 0.5);
/// assert!(squares.iter().zip([2.0, 3.0, 1.5]).all(|(x, root): (&f32, f32)| (x / root - 1.0).abs() < 3e-5));
/// ```
pub fn powers(numbers: &mut [f32], b: f32) {
    InstructionSet::best().run(Powers { numbers, b });
}

struct Powers<'a> {
    numbers: &'a mut [f32],
    b: f32,
}

impl SimdTask for Powers<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, on: S) {
        let b = on.splat(self.b);
        let (whole, tail) = self.numbers.as_chunks_mut::<LANES>();
        for numbers in whole {
            power(on, on.load(numbers), b).store(numbers);
        }
        if !tail.is_empty() {
            let last = power(on, on.load_first(tail), b).to_array();
            tail.copy_from_slice(&last[..tail.len()]);
        }
    }
}

/// Returns x to the power b, for x ≥ 0. Values of x below the least normal number are replaced by that number.
#[inline(always)]
pub(super) fn power<S: Simd>(on: S, x: S::Lanes, b: S::Lanes) -> S::Lanes {
    let s = |x: f32| on.splat(x);
    // log₂ x = e + log₂ m. log₂ m is approximated by the polynomial of degree 5 with the least maximum
    // error, 1.3·10⁻⁵, which costs less than a division.
    let (e, m) = x.max(s(f32::MIN_POSITIVE)).split();
    let t = m.sub(s(1.0));
    let p = t.mul_add(s(0.253_843_5), s(-0.397_037_4));
    let p = p.mul_add(t, s(0.487_001_15));
    let p = p.mul_add(t, s(-0.719_923_4));
    let p = p.mul_add(t, s(1.442_549_3));
    let p = p.mul_add(t, s(-9.265_855e-6));
    let log = p.add(e);

    // 2^y = 2^n · 2^f, where n is the integer nearest to y. 2^f is approximated by the polynomial of degree
    // 4 with the least maximum relative error, 2.6·10⁻⁶.
    let y = log.mul(b).min(s(125.0)).max(s(-125.0));
    let rounded = y.add(s(ROUND));
    let f = y.sub(rounded.sub(s(ROUND)));
    let p = f.mul_add(s(0.009_570_102), s(0.055_917_86));
    let p = p.mul_add(f, s(0.240_247_44));
    let p = p.mul_add(f, s(0.693_121_8));
    let p = p.mul_add(f, s(0.999_999_3));
    p.scale(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Portable;

    fn portable(x: f32, b: f32) -> f32 {
        power(Portable, Portable.splat(x), Portable.splat(b)).to_array()[0]
    }

    #[test]
    fn powers_of_any_number_of_numbers_have_the_same_bits() {
        for length in [0, 1, 15, 16, 17, 40] {
            let numbers: Vec<f32> = (0..length).map(|i| crate::random::unit(4, 4, i) * 30.0).collect();
            for on in InstructionSet::all() {
                let mut found = numbers.clone();
                on.run(Powers { numbers: &mut found, b: 0.9 });
                assert!(found.iter().zip(&numbers).all(|(y, &x)| y.to_bits() == portable(x, 0.9).to_bits()), "{on:?}");
            }
        }
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
        assert!(worst < 3e-5, "{worst}");
        assert!(portable(0.0, 0.9).is_finite());
    }
}
