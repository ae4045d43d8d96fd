//! Vectors of sixteen floats, for each instruction set.
//!
//! The layout's kernels are written once, over [`Lanes`]; each instruction set implements the few operations
//! that they need. What must hold: an operation gives the same bits in every implementation (each is one IEEE
//! operation per lane, or integer arithmetic on a lane's bits), so that the map does not depend on the
//! processor's vector width.

/// Number of floats in a vector.
pub(crate) const LANES: usize = 16;

/// A vector of sixteen floats.
///
/// # Safety
/// Every method needs the implementation's instruction set, which the caller of the outermost function
/// guarantees; [`Lanes::gather`] and [`Lanes::gather_pairs`] have further requirements.
#[expect(unsafe_code, reason = "measured kernel: operations of an instruction set asked for at run time")]
pub(crate) unsafe trait Lanes: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(numbers: &[f32; LANES]) -> Self;
    /// Converts sixteen integers to floats.
    unsafe fn widen(numbers: &[u16; LANES]) -> Self;
    unsafe fn to_array(self) -> [f32; LANES];
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// Returns self · factor + term, rounded once.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// Returns the smaller of both; `other` if they are not ordered (NaN).
    unsafe fn min(self, other: Self) -> Self;
    /// Returns the larger of both; `other` if they are not ordered (NaN).
    unsafe fn max(self, other: Self) -> Self;
    /// Returns `self` in the first `count` lanes and `other` in the others.
    unsafe fn first(self, count: usize, other: Self) -> Self;
    /// Returns (e, m) with self = 2^e · m and m in [√½, √2), for normal numbers above 0.
    unsafe fn split(self) -> (Self, Self);
    /// Returns self · 2^n, where `rounded` is n + 1.5 · 2²³ for an integer n. The arguments self and the
    /// product must be normal.
    unsafe fn scale(self, rounded: Self) -> Self;
    /// Reads one component of sixteen points.
    ///
    /// # Safety
    /// Every index is below `points.len()`, and `component` is below `DIM`.
    unsafe fn gather<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES], component: usize) -> Self;
    /// Reads both components of sixteen points in the plane.
    ///
    /// # Safety
    /// Every index is below `points.len()`, and `DIM` is 2.
    unsafe fn gather_pairs<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self; 2];
    /// Returns a mask of the edges, out of sixteen, that fire in epoch `number` (its low 16 bits). `rates` are
    /// the rates minus one; an edge fires if number · rate modulo 2¹⁶ is less than the rate.
    unsafe fn firing(rates: &[u16; LANES], number: u16) -> u16;
    /// Writes the `numbers` that `mask` selects to the front of `out`, in order. The rest of `out` is
    /// unspecified.
    unsafe fn compress(numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]);
}

/// The bits of √½, the lower end of the mantissas of [`Lanes::split`].
const SQRT_HALF: i32 = 0x3f35_04f3;
/// 1.5 · 2²³: adding it to a number leaves the nearest integer in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// The implementation in plain Rust, for other processors. This implementation defines the result of each
/// operation.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

// SAFETY: no instruction set is needed, and indices are checked.
#[expect(unsafe_code, reason = "implements the unsafe trait")]
unsafe impl Lanes for Portable {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Portable([x; LANES])
    }
    #[inline(always)]
    unsafe fn load(numbers: &[f32; LANES]) -> Self {
        Portable(*numbers)
    }
    #[inline(always)]
    unsafe fn widen(numbers: &[u16; LANES]) -> Self {
        Portable(numbers.map(f32::from))
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
    unsafe fn first(self, count: usize, other: Self) -> Self {
        Portable(std::array::from_fn(|lane| if lane < count { self.0[lane] } else { other.0[lane] }))
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
        // The low nine bits of `rounded` are those of n, and are added to the exponent.
        self.zip(rounded, |x, n| f32::from_bits(x.to_bits().wrapping_add(n.to_bits() << 23)))
    }
    #[inline(always)]
    unsafe fn gather<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES], component: usize) -> Self {
        Portable(indices.map(|i| points[i as usize][component]))
    }
    #[inline(always)]
    unsafe fn gather_pairs<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self; 2] {
        // SAFETY: this implementation requires nothing of the caller.
        unsafe { [Self::gather(points, indices, 0), Self::gather(points, indices, 1)] }
    }
    #[inline(always)]
    unsafe fn firing(rates: &[u16; LANES], number: u16) -> u16 {
        let fires = |&rate: &u16| rate.wrapping_add(1).wrapping_mul(number) <= rate;
        rates.iter().enumerate().fold(0, |mask, (lane, rate)| mask | u16::from(fires(rate)) << lane)
    }
    #[inline(always)]
    unsafe fn compress(numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]) {
        let mut count = 0;
        for (lane, &number) in numbers.iter().enumerate() {
            // Writes every number and increments the count only for selected ones, so that there is no branch
            // to mispredict. The count is at most `lane`.
            out[count] = number;
            count += usize::from(mask >> lane & 1);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Lanes, SQRT_HALF};

    /// One AVX-512 register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    // SAFETY: needs AVX-512F and AVX-512DQ, which callers guarantee; gathers read only the points that
    // `indices` name.
    #[expect(unsafe_code, reason = "intrinsics")]
    #[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all of them stands above")]
    unsafe impl Lanes for Avx512 {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Avx512(_mm512_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(numbers: &[f32; LANES]) -> Self {
            unsafe { Avx512(_mm512_loadu_ps(numbers.as_ptr())) }
        }
        #[inline(always)]
        unsafe fn widen(numbers: &[u16; LANES]) -> Self {
            unsafe { Avx512(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(numbers.as_ptr().cast())))) }
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
        unsafe fn first(self, count: usize, other: Self) -> Self {
            // A count above sixteen selects all lanes.
            let mask = ((1u32 << count.min(LANES)) - 1) as u16;
            unsafe { Avx512(_mm512_mask_mov_ps(other.0, mask, self.0)) }
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
                let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded.0));
                Avx512(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), n)))
            }
        }
        #[inline(always)]
        unsafe fn gather<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES], component: usize) -> Self {
            let mut out = [0f32; LANES];
            for (out, &i) in out.iter_mut().zip(indices) {
                // SAFETY: the caller guarantees that index and component are in range.
                *out = unsafe { *points.get_unchecked(i as usize).get_unchecked(component) };
            }
            unsafe { Avx512(_mm512_loadu_ps(out.as_ptr())) }
        }
        #[inline(always)]
        unsafe fn gather_pairs<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self; 2] {
            unsafe {
                // A point is one 8-byte element. Indices are widened to 64 bits, because the instruction takes
                // signed indices.
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
        #[inline(always)]
        unsafe fn firing(rates: &[u16; LANES], number: u16) -> u16 {
            unsafe { firing(rates, number) }
        }
        #[inline(always)]
        unsafe fn compress(numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]) {
            unsafe {
                let numbers = _mm512_loadu_si512(numbers.as_ptr().cast());
                _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(mask, numbers));
            }
        }
    }

    /// Two AVX registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    /// For each subset of eight lanes, its members in order.
    static PLACES: [[u8; 8]; 256] = {
        let mut places = [[0; 8]; 256];
        let mut set = 0;
        while set < places.len() {
            let (mut lane, mut count) = (0, 0);
            while lane < 8 {
                if set >> lane & 1 == 1 {
                    places[set][count] = lane;
                    count += 1;
                }
                lane += 1;
            }
            set += 1;
        }
        places
    };

    /// Returns the members of a subset of eight lanes, in order, as a permutation.
    #[inline(always)]
    #[expect(unsafe_code, reason = "intrinsics")]
    unsafe fn places(set: usize) -> __m256i {
        // SAFETY: needs AVX2, which callers guarantee.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(PLACES[set].as_ptr().cast())) }
    }

    /// [`Lanes::firing`] for both implementations: sixteen rates fill one AVX2 register.
    #[inline(always)]
    #[expect(unsafe_code, reason = "intrinsics")]
    unsafe fn firing(rates: &[u16; LANES], number: u16) -> u16 {
        // SAFETY: needs AVX2, which callers guarantee.
        unsafe {
            let rates = _mm256_loadu_si256(rates.as_ptr().cast());
            let left =
                _mm256_mullo_epi16(_mm256_add_epi16(rates, _mm256_set1_epi16(1)), _mm256_set1_epi16(number as i16));
            // Compares left ≤ rate as unsigned numbers, then packs the result to one byte per lane, in order.
            let fires = _mm256_cmpeq_epi16(_mm256_min_epu16(left, rates), left);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(fires), _mm256_extracti128_si256::<1>(fires));
            _mm_movemask_epi8(bytes) as u16
        }
    }

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
                let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), n))
            }
        }
    }

    // The functions for one half are not closures, because closures would not be compiled for AVX2.
    impl Avx2 {
        /// [`Lanes::gather`] through registers: storing single floats and loading them as a vector would stall
        /// until the stores are complete.
        #[inline(always)]
        #[expect(unsafe_code, reason = "intrinsics")]
        unsafe fn gather_half<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32], component: usize) -> __m256 {
            let mut out = [0f32; 8];
            for (out, &i) in out.iter_mut().zip(indices) {
                // SAFETY: the caller guarantees that index and component are in range.
                *out = unsafe { *points.get_unchecked(i as usize).get_unchecked(component) };
            }
            let [a, b, c, d, e, f, g, h] = out;
            // SAFETY: needs AVX, which callers guarantee.
            unsafe { _mm256_setr_ps(a, b, c, d, e, f, g, h) }
        }
        /// Reads two points: x, y, x, y.
        #[inline(always)]
        #[expect(unsafe_code, reason = "intrinsics")]
        unsafe fn two(base: *const f64, i: u32, j: u32) -> __m128 {
            // SAFETY: the caller guarantees the indices; a point is 8 bytes.
            unsafe { _mm_castpd_ps(_mm_loadh_pd(_mm_load_sd(base.add(i as usize)), base.add(j as usize))) }
        }
        /// [`Lanes::gather_pairs`] by single loads, which take a fraction of the gather instruction's time.
        #[inline(always)]
        #[expect(unsafe_code, reason = "intrinsics")]
        unsafe fn pairs_half(base: *const f64, i: &[u32]) -> (__m256, __m256) {
            // SAFETY: the caller guarantees the instruction set and the indices.
            unsafe {
                let a = _mm256_castps128_ps256(Self::two(base, i[0], i[1]));
                let a = _mm256_insertf128_ps::<1>(a, Self::two(base, i[4], i[5]));
                let b = _mm256_castps128_ps256(Self::two(base, i[2], i[3]));
                let b = _mm256_insertf128_ps::<1>(b, Self::two(base, i[6], i[7]));
                (_mm256_shuffle_ps::<0b10_00_10_00>(a, b), _mm256_shuffle_ps::<0b11_01_11_01>(a, b))
            }
        }
    }

    // SAFETY: needs AVX2 and FMA, which callers guarantee; gathers read only the points that `indices` name.
    #[expect(unsafe_code, reason = "intrinsics")]
    #[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all of them stands above")]
    unsafe impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            unsafe { Avx2(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(numbers: &[f32; LANES]) -> Self {
            unsafe { Avx2(_mm256_loadu_ps(numbers.as_ptr()), _mm256_loadu_ps(numbers.as_ptr().add(8))) }
        }
        #[inline(always)]
        unsafe fn widen(numbers: &[u16; LANES]) -> Self {
            unsafe {
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(numbers.as_ptr().cast()));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(numbers.as_ptr().add(8).cast()));
                Avx2(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
            }
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
        unsafe fn first(self, count: usize, other: Self) -> Self {
            unsafe {
                let count = _mm256_set1_epi32(count.min(LANES) as i32);
                let low = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
                let high = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
                let (low, high) = (_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
                Avx2(_mm256_blendv_ps(other.0, self.0, low), _mm256_blendv_ps(other.1, self.1, high))
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
            unsafe {
                let (low, high) = indices.split_at(8);
                Avx2(Self::gather_half(points, low, component), Self::gather_half(points, high, component))
            }
        }
        #[inline(always)]
        unsafe fn gather_pairs<const DIM: usize>(points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self; 2] {
            unsafe {
                let (base, (low, high)) = (points.as_ptr().cast(), indices.split_at(8));
                let ((x0, y0), (x1, y1)) = (Self::pairs_half(base, low), Self::pairs_half(base, high));
                [Avx2(x0, x1), Avx2(y0, y1)]
            }
        }
        #[inline(always)]
        unsafe fn firing(rates: &[u16; LANES], number: u16) -> u16 {
            unsafe { firing(rates, number) }
        }
        #[inline(always)]
        unsafe fn compress(numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]) {
            unsafe {
                let (low, high) = (usize::from(mask & 0xff), usize::from(mask >> 8));
                let (a, b) = (numbers.as_ptr().cast(), numbers.as_ptr().add(8).cast());
                let a = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(a), places(low));
                let b = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(b), places(high));
                // The first store writes eight numbers; the second store overwrites those that were not
                // selected. The second store begins at most at position 8, so that both stores stay within
                // `out`.
                _mm256_storeu_si256(out.as_mut_ptr().cast(), a);
                _mm256_storeu_si256(out.as_mut_ptr().add(low.count_ones() as usize).cast(), b);
            }
        }
    }
}
