//! The two number types in which vectors are read, `f32` and `f64`, and the NaN of each that
//! represents a null.
//!
//! A null component has no number. It is read as a quiet NaN with a payload that no NaN of a file
//! keeps, because every NaN of a file becomes the default NaN. (R marks its NA in the same way.)
//! What must hold: a null can be told from a NaN in the file, whatever the file's number type.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::{Result, Source};

/// The payload in the 23 mantissa bits. The first bit makes the NaN quiet. The last 16 bits are not
/// all 0, so no 16-bit NaN (bf16) becomes this NaN when it is widened.
const PAYLOAD: u32 = 0x45_4c57;

/// The single-precision value of a null component; test with [`is_null`].
pub const NULL: f32 = f32::from_bits(0x7f80_0000 | PAYLOAD);

/// The double-precision value of a null component; test with [`is_null_f64`].
pub const NULL_F64: f64 = f64::from_bits(0x7ff0_0000_0000_0000 | (PAYLOAD as u64) << 29);

/// Returns whether a number read from a source is a null, not a number or a NaN of the file.
pub fn is_null(number: f32) -> bool {
    number.to_bits() == NULL.to_bits()
}

/// Returns whether a double-precision number read from a source is a null.
pub fn is_null_f64(number: f64) -> bool {
    number.to_bits() == NULL_F64.to_bits()
}

/// Conversion of a stored number, rounded to the nearest value of this type. Every NaN becomes the
/// default NaN.
pub(crate) trait RoundFrom<T>: Sized {
    fn take(number: T) -> Self;
}

/// A number type in which vectors are read.
pub(crate) trait VectorFloat:
    bytemuck::Pod
    + RoundFrom<u8>
    + RoundFrom<u16>
    + RoundFrom<u32>
    + RoundFrom<u64>
    + RoundFrom<i8>
    + RoundFrom<i16>
    + RoundFrom<i32>
    + RoundFrom<i64>
    + RoundFrom<f16>
    + RoundFrom<f32>
    + RoundFrom<f64>
{
    /// The value of a null.
    const NULL: Self;

    /// Reads rows of `source` as numbers of this type.
    fn read(source: &dyn Source, first: u64, out: &mut [Self]) -> Result<()>;

    /// Converts `out.len()` f16 values, by the processor's conversion instructions if it has them.
    fn halves(halves: &[f16], out: &mut [Self]);
}

macro_rules! integers {
    ($number:ty: $($integer:ty),*) => {
        $(impl RoundFrom<$integer> for $number {
            fn take(number: $integer) -> Self {
                number as $number
            }
        })*
    };
}

integers!(f32: u8, u16, u32, u64, i8, i16, i32, i64);
integers!(f64: u8, u16, u32, u64, i8, i16, i32, i64);

impl RoundFrom<f16> for f32 {
    fn take(number: f16) -> f32 {
        number.to_f32()
    }
}

impl RoundFrom<f32> for f32 {
    fn take(number: f32) -> f32 {
        if number.is_nan() { f32::NAN } else { number }
    }
}

impl RoundFrom<f64> for f32 {
    fn take(number: f64) -> f32 {
        <f32 as RoundFrom<f32>>::take(number as f32)
    }
}

impl RoundFrom<f16> for f64 {
    fn take(number: f16) -> f64 {
        number.to_f64()
    }
}

impl RoundFrom<f32> for f64 {
    fn take(number: f32) -> f64 {
        <f64 as RoundFrom<f64>>::take(f64::from(number))
    }
}

impl RoundFrom<f64> for f64 {
    fn take(number: f64) -> f64 {
        if number.is_nan() { f64::NAN } else { number }
    }
}

impl VectorFloat for f32 {
    const NULL: f32 = NULL;

    fn read(source: &dyn Source, first: u64, out: &mut [f32]) -> Result<()> {
        source.read_rows(first, out)
    }

    fn halves(halves: &[f16], out: &mut [f32]) {
        halves.convert_to_f32_slice(out);
    }
}

impl VectorFloat for f64 {
    const NULL: f64 = NULL_F64;

    fn read(source: &dyn Source, first: u64, out: &mut [f64]) -> Result<()> {
        source.read_rows_f64(first, out)
    }

    fn halves(halves: &[f16], out: &mut [f64]) {
        halves.convert_to_f64_slice(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nan_of_a_file_is_a_null() {
        assert!(NULL.is_nan() && NULL_F64.is_nan() && is_null(NULL) && is_null_f64(NULL_F64));
        assert!(!is_null(f32::NAN) && !is_null_f64(f64::NAN) && !is_null(-NULL) && !is_null(0.0));
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let (mut single, mut double) = ([0.0], [0.0]);
            f32::halves(&[half], &mut single);
            f64::halves(&[half], &mut double);
            assert!(!is_null(single[0]) && !is_null_f64(double[0]), "{bits:#x}");
            assert!(!is_null(f32::take(half)) && !is_null_f64(f64::take(half)), "{bits:#x}");
            // As bf16, and the null payload itself, in case a file contains it.
            let single = f32::from_bits(u32::from(bits) << 16 | PAYLOAD & 0xffff);
            assert!(!is_null(f32::take(single)) && !is_null_f64(f64::take(single)), "{bits:#x}");
            assert!(!is_null(f32::from_bits(u32::from(bits) << 16)), "{bits:#x}");
        }
        for double in [NULL_F64, -NULL_F64, f64::from(NULL), f64::from_bits(NULL_F64.to_bits() | 1)] {
            assert!(!is_null(f32::take(double)) && !is_null_f64(f64::take(double)));
        }
    }

    #[test]
    fn numbers_are_rounded_once_to_the_nearest() {
        assert_eq!(f32::take(16_777_217i32), 16_777_216.0);
        assert_eq!(f32::take(u64::MAX), 18_446_744_073_709_551_615.0);
        // 2⁶⁰ + 2³⁶ + 1 is nearest to 2⁶⁰ + 2³⁷. Rounded to f64 first, it would lose the 1 and
        // become 2⁶⁰.
        assert_eq!(f32::take((1i64 << 60) + (1 << 36) + 1), ((1i64 << 60) + (1i64 << 37)) as f32);
        assert_eq!(f64::take((1i64 << 53) + 1), 9_007_199_254_740_992.0);
        assert!(f32::take(1e39f64).is_infinite());
        assert_eq!(f64::take(1e39f64), 1e39);
    }
}
