//! Sixteen floats at a time, on whatever the processor has.
//!
//! The layout is written once, over [`Lanes`]; each instruction set provides
//! the few operations it is made of. What must hold: an operation gives the
//! same bits in every implementation (each is one IEEE operation per lane, or
//! integer arithmetic on its bits), so that the map does not depend on the
//! processor's width.

/// Numbers handled together.
pub(super) const LANES: usize = 16;

/// Sixteen floats.
///
/// # Safety
/// Every method needs the implementation's instruction set, which the caller
/// of the outermost function vouches for; [`Lanes::gather`] says what else.
#[expect(unsafe_code, reason = "measured kernel: operations of an instruction set asked for at run time")]
pub(super) unsafe trait Lanes: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn to_array(self) -> [f32; LANES];
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// self · factor + term, rounded once.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The lesser; `other` where they do not compare.
    unsafe fn min(self, other: Self) -> Self;
    /// The greater; `other` where they do not compare.
    unsafe fn max(self, other: Self) -> Self;
    /// `self` where `condition` > 0, otherwise 0.
    unsafe fn where_positive(self, condition: Self) -> Self;
    /// (e, m) with self = 2^e · m and m in [√½, √2); for normal numbers above 0.
    unsafe fn split(self) -> (Self, Self);
    /// self · 2^n, where `rounded` is n + 1.5 · 2²³ for an integer n in the normal range.
    unsafe fn scale(self, rounded: Self) -> Self;
    /// Component `component` of sixteen points.
    ///
    /// # Safety
    /// Every index is below `points.len()`, and `component` below `DIM`.
    unsafe fn gather<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES], component: usize) -> Self;
    /// Both components of sixteen points of a plane.
    ///
    /// # Safety
    /// Every index is below `points.len()`, and `DIM` is 2.
    unsafe fn gather_pairs<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self; 2];
}

/// √½ as bits: where [`Lanes::split`] cuts.
const SQRT_HALF: i32 = 0x3f35_04f3;
/// 1.5 · 2²³: added to a number it leaves the nearest integer in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// Plain Rust, for processors without the others; the definition of each operation.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

// SAFETY: no instruction set is needed, and indices are checked all the same.
#[expect(unsafe_code, reason = "implements the unsafe trait")]
unsafe impl Lanes for Portable {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Portable([x; LANES])
    }
    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LANES] {
        self.0
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Portable(std::array::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], term.0[lane])))
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn where_positive(self, condition: Self) -> Self {
        self.zip(condition, |a, c| if c > 0.0 { a } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn split(self) -> (Self, Self) {
        let e = self.0.map(|x| (x.to_bits() as i32).wrapping_sub(SQRT_HALF) >> 23);
        let m = std::array::from_fn(|lane| {
            f32::from_bits((self.0[lane].to_bits() as i32).wrapping_sub(e[lane] << 23) as u32)
        });
        (Portable(e.map(|e| e as f32)), Portable(m))
    }
    #[inline(always)]
    unsafe fn scale(self, rounded: Self) -> Self {
        self.zip(rounded, |x, n| {
            let n = (n.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
            x * f32::from_bits((n.wrapping_add(127) << 23) as u32)
        })
    }
    #[inline(always)]
    unsafe fn gather<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES], component: usize) -> Self {
        Portable(indices.map(|i| points[i as usize][component]))
    }
    #[inline(always)]
    unsafe fn gather_pairs<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self; 2] {
        // SAFETY: nothing is asked of the caller here.
        unsafe { [Self::gather(points, indices, 0), Self::gather(points, indices, 1)] }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Lanes, ROUND, SQRT_HALF};

    /// One register of AVX-512.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY: needs AVX-512F and DQ, which callers vouch for; gathers read only points that indices name.
    #[expect(unsafe_code, reason = "intrinsics")]
    #[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all of them stands above")]
    unsafe impl Lanes for Avx512 {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Avx512(_mm512_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn to_array(self) -> [f32; LANES] {
            let mut out = [0f32; LANES];
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) };
            out
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_div_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            unsafe { Avx512(_mm512_fmadd_ps(self.0, factor.0, term.0)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Avx512(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn where_positive(self, condition: Self) -> Self {
            unsafe {
                let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(condition.0, _mm512_setzero_ps());
                Avx512(_mm512_maskz_mov_ps(positive, self.0))
            }
        }
        #[inline(always)]
        unsafe fn split(self) -> (Self, Self) {
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let e = _mm512_srai_epi32::<23>(_mm512_sub_epi32(bits, _mm512_set1_epi32(SQRT_HALF)));
                let m = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(e));
                (Avx512(_mm512_cvtepi32_ps(e)), Avx512(_mm512_castsi512_ps(m)))
            }
        }
        #[inline(always)]
        unsafe fn scale(self, rounded: Self) -> Self {
            unsafe {
                let n =
                    _mm512_sub_epi32(_mm512_castps_si512(rounded.0), _mm512_set1_epi32(ROUND.to_bits() as i32 - 127));
                Avx512(_mm512_mul_ps(self.0, _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))))
            }
        }
        #[inline(always)]
        unsafe fn gather<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES], component: usize) -> Self {
            let mut out = [0f32; LANES];
            for (out, &i) in out.iter_mut().zip(indices) {
                // SAFETY: the caller vouches for index and component.
                *out = unsafe { *points.get_unchecked(i as usize).get_unchecked(component) };
            }
            unsafe { Avx512(_mm512_loadu_ps(out.as_ptr())) }
        }
        #[inline(always)]
        unsafe fn gather_pairs<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self; 2] {
            unsafe {
                // A point is one 8-byte element. Indices are widened, so that they may use all 32 bits.
                let base = points.as_ptr().cast::<i64>();
                let low = _mm512_cvtepu32_epi64(_mm256_loadu_si256(indices.as_ptr().cast()));
                let high = _mm512_cvtepu32_epi64(_mm256_loadu_si256(indices.as_ptr().add(8).cast()));
                let a = _mm512_castsi512_ps(_mm512_i64gather_epi64::<8>(low, base));
                let b = _mm512_castsi512_ps(_mm512_i64gather_epi64::<8>(high, base));
                let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
                let odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
                [Avx512(_mm512_permutex2var_ps(a, even, b)), Avx512(_mm512_permutex2var_ps(a, odd, b))]
            }
        }
    }

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    /// Applies a 256-bit intrinsic to both halves.
    macro_rules! halves {
        ($op:ident, $a:expr, $b:expr) => {
            unsafe { Avx2($op($a.0, $b.0), $op($a.1, $b.1)) }
        };
    }

    impl Avx2 {
        #[inline(always)]
        #[expect(unsafe_code, reason = "intrinsics")]
        #[expect(clippy::undocumented_unsafe_blocks, reason = "as the implementation below")]
        unsafe fn split_half(x: __m256) -> (__m256, __m256) {
            unsafe {
                let bits = _mm256_castps_si256(x);
                let e = _mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(SQRT_HALF)));
                let m = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(e));
                (_mm256_cvtepi32_ps(e), _mm256_castsi256_ps(m))
            }
        }
        #[inline(always)]
        #[expect(unsafe_code, reason = "intrinsics")]
        #[expect(clippy::undocumented_unsafe_blocks, reason = "as the implementation below")]
        unsafe fn scale_half(x: __m256, rounded: __m256) -> __m256 {
            unsafe {
                let n = _mm256_sub_epi32(_mm256_castps_si256(rounded), _mm256_set1_epi32(ROUND.to_bits() as i32 - 127));
                _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n)))
            }
        }
    }

    // SAFETY: needs AVX2 and FMA, which callers vouch for; gathers read only points that indices name.
    #[expect(unsafe_code, reason = "intrinsics")]
    #[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all of them stands above")]
    unsafe impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Avx2(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn to_array(self) -> [f32; LANES] {
            let mut out = [0f32; LANES];
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), self.0);
                _mm256_storeu_ps(out.as_mut_ptr().add(8), self.1);
            }
            out
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            halves!(_mm256_add_ps, self, other)
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            halves!(_mm256_sub_ps, self, other)
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            halves!(_mm256_mul_ps, self, other)
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            halves!(_mm256_div_ps, self, other)
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            unsafe { Avx2(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            halves!(_mm256_min_ps, self, other)
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            halves!(_mm256_max_ps, self, other)
        }
        #[inline(always)]
        unsafe fn where_positive(self, condition: Self) -> Self {
            unsafe {
                let zero = _mm256_setzero_ps();
                let half = |x, c| _mm256_and_ps(x, _mm256_cmp_ps::<_CMP_GT_OQ>(c, zero));
                Avx2(half(self.0, condition.0), half(self.1, condition.1))
            }
        }
        #[inline(always)]
        unsafe fn split(self) -> (Self, Self) {
            unsafe {
                let ((e0, m0), (e1, m1)) = (Self::split_half(self.0), Self::split_half(self.1));
                (Avx2(e0, e1), Avx2(m0, m1))
            }
        }
        #[inline(always)]
        unsafe fn scale(self, rounded: Self) -> Self {
            unsafe { Avx2(Self::scale_half(self.0, rounded.0), Self::scale_half(self.1, rounded.1)) }
        }
        #[inline(always)]
        unsafe fn gather<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES], component: usize) -> Self {
            let mut out = [0f32; LANES];
            for (out, &i) in out.iter_mut().zip(indices) {
                // SAFETY: the caller vouches for index and component.
                *out = unsafe { *points.get_unchecked(i as usize).get_unchecked(component) };
            }
            unsafe { Avx2(_mm256_loadu_ps(out.as_ptr()), _mm256_loadu_ps(out.as_ptr().add(8))) }
        }
        #[inline(always)]
        unsafe fn gather_pairs<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self; 2] {
            unsafe { [Self::gather(points, indices, 0), Self::gather(points, indices, 1)] }
        }
    }
}
