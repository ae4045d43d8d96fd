//! AVX-512 and AVX2.
//!
//! `unsafe` stands here for two reasons. A call of an intrinsic needs the instruction set: it is proven by a value of
//! [`Avx512`], [`Avx2`] or [`Vnni`], or of a vector, at hand in every method. The fields of these types are private to
//! this file, which makes the proofs only after detection and the vectors only in methods of the proofs. And loads and
//! stores go through pointers, of references to arrays, and, in gathers, of points whose indices were just compared
//! with the number of points.
#![expect(unsafe_code, reason = "intrinsics")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "the reasons for all of them stand above")]

use std::arch::x86_64::*;
use std::sync::atomic::{AtomicU8, Ordering};

use bytemuck::Pod;

use super::InstructionSet;
use super::lanes::{LANES, Lanes, Portable, SQRT_HALF, Simd, SimdTask, no_such_point};

/// Set once the processor was asked, so that 0 means that it was not.
const ASKED: u8 = 1;
const AVX2: u8 = 2;
const AVX512: u8 = 4;
const VNNI: u8 = 8;

/// What the processor has, as the constants above: a copy of the answers of the standard library, which would read each
/// feature of an instruction set by itself.
static FEATURES: AtomicU8 = AtomicU8::new(0);

#[inline]
fn features() -> u8 {
    match FEATURES.load(Ordering::Relaxed) {
        0 => ask(),
        features => features,
    }
}

#[cold]
fn ask() -> u8 {
    let mut features = ASKED;
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        features |= AVX2;
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            features |= AVX512;
            if is_x86_feature_detected!("avx512vnni") {
                features |= VNNI;
            }
        }
    }
    #[cfg(test)]
    {
        features &= ASKED | [0, AVX2, AVX2 | AVX512].get(super::test_level()).unwrap_or(&(AVX2 | AVX512 | VNNI));
    }
    FEATURES.store(features, Ordering::Relaxed);
    features
}

/// Returns the widest instruction set of this processor.
#[inline]
pub(super) fn best() -> InstructionSet {
    match (Avx512::detect(), Avx2::detect()) {
        (Some(on), _) => InstructionSet::Avx512(on),
        (None, Some(on)) => InstructionSet::Avx2(on),
        (None, None) => InstructionSet::Portable(Portable),
    }
}

/// Proof of AVX2 and FMA.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Avx2(());

/// Proof of AVX-512F, BW, DQ and VL, and of AVX2 and FMA.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Avx512(());

/// Proof of AVX-512 VNNI, and of all that [`Avx512`] proves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Vnni(());

impl Avx2 {
    /// Returns a proof where the processor has the instruction set.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        (features() & AVX2 != 0).then_some(Avx2(()))
    }

    /// Runs plain Rust, compiled for this instruction set: the compiler may use wider vectors for its loops. Loops in
    /// functions that `work` calls must be inlined.
    #[inline(always)]
    pub(crate) fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        unsafe { self.run_plain(work) }
    }

    #[target_feature(enable = "avx2,fma")]
    fn run_plain<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }

    #[target_feature(enable = "avx2,fma")]
    fn run_compiled<T: SimdTask>(self, task: T) -> T::Output {
        task.run(self)
    }
}

impl Avx512 {
    /// Returns a proof where the processor has the instruction set.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        (features() & AVX512 != 0).then_some(Avx512(()))
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
    fn run_compiled<T: SimdTask>(self, task: T) -> T::Output {
        task.run(self)
    }
}

impl Vnni {
    /// Returns a proof where the processor has the instruction set.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        (features() & VNNI != 0).then_some(Vnni(()))
    }
}

/// Reads sixteen numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_512<T: Pod>(numbers: &[T; LANES]) -> __m512i {
    const { assert!(size_of::<T>() == 4) };
    unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
}

/// Writes sixteen numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_512<T: Pod>(out: &mut [T; LANES], numbers: __m512i) {
    const { assert!(size_of::<T>() == 4) };
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), numbers) };
}

/// Reads eight numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_256<T: Pod>(numbers: &[T; LANES / 2]) -> __m256i {
    const { assert!(size_of::<T>() == 4) };
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}

/// Writes eight numbers of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store_256<T: Pod>(out: &mut [T; LANES / 2], numbers: __m256i) {
    const { assert!(size_of::<T>() == 4) };
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), numbers) };
}

impl Simd for Avx512 {
    type Lanes = Avx512Lanes;
    const VECTORS: usize = 32;

    #[inline(always)]
    fn run<T: SimdTask>(self, task: T) -> T::Output {
        unsafe { self.run_compiled(task) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Avx512Lanes {
        unsafe { Avx512Lanes(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(self, numbers: &[f32; LANES]) -> Avx512Lanes {
        unsafe { Avx512Lanes(_mm512_loadu_ps(numbers.as_ptr())) }
    }
    #[inline(always)]
    fn load_first(self, numbers: &[f32]) -> Avx512Lanes {
        unsafe { Avx512Lanes(_mm512_maskz_loadu_ps(first_lanes(numbers.len()), numbers.as_ptr())) }
    }
    #[inline(always)]
    fn widen(self, numbers: &[u16; LANES]) -> Avx512Lanes {
        unsafe {
            let numbers = _mm256_loadu_si256(numbers.as_ptr().cast());
            Avx512Lanes(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(numbers)))
        }
    }
    #[inline(always)]
    fn gather<const DIM: usize>(self, points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Avx512Lanes; DIM] {
        let mut out = [self.splat(0.0); DIM];
        unsafe {
            let last = _mm512_set1_epi32(last_index(points.len()) as i32);
            if _mm512_cmple_epu32_mask(_mm512_loadu_si512(indices.as_ptr().cast()), last) != u16::MAX {
                no_such_point();
            }
            if DIM == 2 {
                // A point is one 8-byte element. Indices are widened to 64 bits, because the instruction takes
                // signed indices.
                let base = points.as_ptr().cast::<i64>();
                let low = _mm512_cvtepu32_epi64(_mm256_loadu_si256(indices.as_ptr().cast()));
                let high = _mm512_cvtepu32_epi64(_mm256_loadu_si256(indices.as_ptr().add(8).cast()));
                let a = _mm512_castsi512_ps(_mm512_i64gather_epi64::<8>(low, base));
                let b = _mm512_castsi512_ps(_mm512_i64gather_epi64::<8>(high, base));
                let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
                let odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
                out[0] = Avx512Lanes(_mm512_permutex2var_ps(a, even, b));
                out[1] = Avx512Lanes(_mm512_permutex2var_ps(a, odd, b));
                return out;
            }
            for (component, out) in out.iter_mut().enumerate() {
                let mut numbers = [0f32; LANES];
                for (number, &i) in numbers.iter_mut().zip(indices) {
                    *number = points.get_unchecked(i as usize)[component];
                }
                *out = self.load(&numbers);
            }
        }
        out
    }
    #[inline(always)]
    fn firing(self, rates: &[u16; LANES], number: u16) -> u16 {
        unsafe { firing(rates, number) }
    }
    #[inline(always)]
    fn compress(self, numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]) {
        unsafe {
            let numbers = _mm512_loadu_si512(numbers.as_ptr().cast());
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(mask, numbers));
        }
    }
}

/// The vector of [`Avx512`]: one register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Lanes(__m512);

impl Lanes for Avx512Lanes {
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES]) {
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) };
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        unsafe { Avx512Lanes(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        unsafe { Avx512Lanes(_mm512_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        unsafe { Avx512Lanes(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        unsafe { Avx512Lanes(_mm512_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe { Avx512Lanes(_mm512_fmadd_ps(self.0, factor.0, term.0)) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        unsafe { Avx512Lanes(_mm512_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        unsafe { Avx512Lanes(_mm512_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        unsafe { Avx512Lanes(_mm512_mask_mov_ps(other.0, first_lanes(count), self.0)) }
    }
    #[inline(always)]
    fn at_most(self, other: Self) -> u16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let e = _mm512_srai_epi32::<23>(_mm512_sub_epi32(bits, _mm512_set1_epi32(SQRT_HALF)));
            let m = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(e));
            (Avx512Lanes(_mm512_cvtepi32_ps(e)), Avx512Lanes(_mm512_castsi512_ps(m)))
        }
    }
    #[inline(always)]
    fn scale(self, rounded: Self) -> Self {
        unsafe {
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded.0));
            Avx512Lanes(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), n)))
        }
    }
}

/// Returns a mask of the first `count` lanes; of all for a count above sixteen.
#[inline(always)]
fn first_lanes(count: usize) -> u16 {
    ((1u32 << count.min(LANES)) - 1) as u16
}

/// Returns the largest index of a point that 32 bits can hold, for `points` points.
#[inline(always)]
fn last_index(points: usize) -> u32 {
    match points.checked_sub(1) {
        Some(last) => last.min(u32::MAX as usize) as u32,
        None => no_such_point(),
    }
}

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
#[inline]
#[target_feature(enable = "avx2")]
fn places(set: u8) -> __m256i {
    unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(PLACES[usize::from(set)].as_ptr().cast())) }
}

/// [`Simd::firing`] for both implementations: sixteen rates fill one AVX2 register.
#[inline]
#[target_feature(enable = "avx2")]
fn firing(rates: &[u16; LANES], number: u16) -> u16 {
    let rates = unsafe { _mm256_loadu_si256(rates.as_ptr().cast()) };
    let left = _mm256_mullo_epi16(_mm256_add_epi16(rates, _mm256_set1_epi16(1)), _mm256_set1_epi16(number as i16));
    // Compares left ≤ rate as unsigned numbers, then packs the result to one byte per lane, in order.
    let fires = _mm256_cmpeq_epi16(_mm256_min_epu16(left, rates), left);
    let bytes = _mm_packs_epi16(_mm256_castsi256_si128(fires), _mm256_extracti128_si256::<1>(fires));
    _mm_movemask_epi8(bytes) as u16
}

/// Returns, for each half, a mask of its lanes below `count`.
#[inline]
#[target_feature(enable = "avx2")]
fn halves_below(count: usize) -> [__m256i; 2] {
    let count = _mm256_set1_epi32(count.min(LANES) as i32);
    let (low, high) = (_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
    [_mm256_cmpgt_epi32(count, low), _mm256_cmpgt_epi32(count, high)]
}

impl Simd for Avx2 {
    type Lanes = Avx2Lanes;
    const VECTORS: usize = 8;

    #[inline(always)]
    fn run<T: SimdTask>(self, task: T) -> T::Output {
        unsafe { self.run_compiled(task) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Avx2Lanes {
        unsafe { Avx2Lanes(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(self, numbers: &[f32; LANES]) -> Avx2Lanes {
        unsafe { Avx2Lanes(_mm256_loadu_ps(numbers.as_ptr()), _mm256_loadu_ps(numbers.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn load_first(self, numbers: &[f32]) -> Avx2Lanes {
        unsafe {
            let ([low, high], at) = (halves_below(numbers.len()), numbers.as_ptr());
            // Nothing is read where the mask is not set, but the address may be beyond the slice.
            Avx2Lanes(_mm256_maskload_ps(at, low), _mm256_maskload_ps(at.wrapping_add(8), high))
        }
    }
    #[inline(always)]
    fn widen(self, numbers: &[u16; LANES]) -> Avx2Lanes {
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(numbers.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(numbers.as_ptr().add(8).cast()));
            Avx2Lanes(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        }
    }
    #[inline(always)]
    fn gather<const DIM: usize>(self, points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Avx2Lanes; DIM] {
        // One at a time: indices were often just stored in pieces, and loading them as a vector would stall until the
        // stores are complete.
        for &i in indices {
            if i as usize >= points.len() {
                no_such_point();
            }
        }
        let mut out = [self.splat(0.0); DIM];
        unsafe {
            if DIM == 2 {
                let points: &[[f32; 2]] = points.as_flattened().as_chunks().0;
                let mut found = [&points[0]; LANES];
                for (found, &i) in found.iter_mut().zip(indices) {
                    *found = points.get_unchecked(i as usize);
                }
                let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = found;
                let low = unzip([a, b, c, d, e, f, g, h]);
                let high = unzip([i, j, k, l, m, n, o, p]);
                out[0] = Avx2Lanes(low[0], high[0]);
                out[1] = Avx2Lanes(low[1], high[1]);
                return out;
            }
            for (component, out) in out.iter_mut().enumerate() {
                let mut numbers = [0f32; LANES];
                for (number, &i) in numbers.iter_mut().zip(indices) {
                    *number = points.get_unchecked(i as usize)[component];
                }
                // Through registers: storing single floats and loading them as a vector would stall until the
                // stores are complete.
                let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = numbers;
                *out = Avx2Lanes(_mm256_setr_ps(a, b, c, d, e, f, g, h), _mm256_setr_ps(i, j, k, l, m, n, o, p));
            }
        }
        out
    }
    #[inline(always)]
    fn firing(self, rates: &[u16; LANES], number: u16) -> u16 {
        unsafe { firing(rates, number) }
    }
    #[inline(always)]
    fn compress(self, numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]) {
        let (low, high) = (mask as u8, (mask >> 8) as u8);
        unsafe {
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

/// Separates the components of eight points in the plane. Single loads of two floats take a fraction of the gather
/// instruction's time.
#[inline]
#[target_feature(enable = "avx2")]
fn unzip(points: [&[f32; 2]; 8]) -> [__m256; 2] {
    let [a, b, c, d, e, f, g, h] = points;
    let left = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(pair(a, b)), pair(e, f));
    let right = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(pair(c, d)), pair(g, h));
    [_mm256_shuffle_ps::<0b10_00_10_00>(left, right), _mm256_shuffle_ps::<0b11_01_11_01>(left, right)]
}

/// Reads two points: x, y, x, y.
#[inline]
#[target_feature(enable = "avx2")]
fn pair(a: &[f32; 2], b: &[f32; 2]) -> __m128 {
    // A point has the alignment of a float. The loads of doubles into half a register (`_mm_load_sd`, `_mm_loadh_pd`)
    // would require that of a double.
    let [a, b] = [a, b].map(|&point| bytemuck::cast::<[f32; 2], f64>(point));
    _mm_castpd_ps(_mm_setr_pd(a, b))
}

/// The vector of [`Avx2`]: the first eight lanes and the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2Lanes(__m256, __m256);

/// Applies an operation of two registers to both halves.
macro_rules! halves {
    ($op:ident, $a:expr, $b:expr) => {
        unsafe { Avx2Lanes($op($a.0, $b.0), $op($a.1, $b.1)) }
    };
}

impl Lanes for Avx2Lanes {
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES]) {
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), self.0);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), self.1);
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        halves!(_mm256_add_ps, self, other)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        halves!(_mm256_sub_ps, self, other)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        halves!(_mm256_mul_ps, self, other)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        halves!(_mm256_div_ps, self, other)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe { Avx2Lanes(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1)) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        halves!(_mm256_min_ps, self, other)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        halves!(_mm256_max_ps, self, other)
    }
    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        unsafe {
            let [low, high] = halves_below(count);
            let (low, high) = (_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
            Avx2Lanes(_mm256_blendv_ps(other.0, self.0, low), _mm256_blendv_ps(other.1, self.1, high))
        }
    }
    #[inline(always)]
    fn at_most(self, other: Self) -> u16 {
        unsafe {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(self.1, other.1));
            (low | high << 8) as u16
        }
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let ([e0, m0], [e1, m1]) = unsafe { (split_half(self.0), split_half(self.1)) };
        (Avx2Lanes(e0, e1), Avx2Lanes(m0, m1))
    }
    #[inline(always)]
    fn scale(self, rounded: Self) -> Self {
        halves!(scale_half, self, rounded)
    }
}

/// [`Lanes::split`] of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn split_half(x: __m256) -> [__m256; 2] {
    let bits = _mm256_castps_si256(x);
    let e = _mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(SQRT_HALF)));
    let m = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(e));
    [_mm256_cvtepi32_ps(e), _mm256_castsi256_ps(m)]
}

/// [`Lanes::scale`] of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn scale_half(x: __m256, rounded: __m256) -> __m256 {
    let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded));
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), n))
}
