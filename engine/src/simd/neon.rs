//! NEON; the dot products of bytes that newer processors have beside it are in `sums`.
//!
//! `unsafe` stands here for two reasons. A call of an intrinsic needs the instruction set: it is proven by a value of
//! [`Neon`] or [`DotProduct`], or of a vector, at hand in every method. The fields of these types are private to this
//! module, which makes the proofs only after detection and the vectors only in methods of the proofs. And loads and
//! stores go through pointers, of references to arrays, and, in gathers, of points whose indices were just compared
//! with the number of points.
//!
//! Four registers make a vector of sixteen lanes, so that sums have the order that they have on other processors.
#![expect(unsafe_code, reason = "intrinsics")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "the reasons for all of them stand above")]

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::lanes::{LANES, Lanes, SQRT_HALF, Simd, SimdTask, no_such_point};

/// Applies an operation of two registers to all quarters of two vectors.
macro_rules! quarters {
    ($op:ident, $a:expr, $b:expr) => {{
        let ([a, b, c, d], [e, f, g, h]) = ($a, $b);
        unsafe { [$op(a, e), $op(b, f), $op(c, g), $op(d, h)] }
    }};
}

pub(super) mod sums;

/// Proof of NEON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Neon(());

/// Proof of NEON and of FEAT_DotProd.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DotProduct(());

impl Neon {
    /// Returns a proof where the processor has the instruction set.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        #[cfg(test)]
        if super::test_level() < 1 {
            return None;
        }
        is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }

    #[target_feature(enable = "neon")]
    fn run_compiled<T: SimdTask>(self, task: T) -> T::Output {
        task.run(self)
    }
}

impl DotProduct {
    /// Returns a proof where the processor has the instruction set.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        #[cfg(test)]
        if super::test_level() < 2 {
            return None;
        }
        (is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod")).then_some(DotProduct(()))
    }
}

impl Simd for Neon {
    type Lanes = NeonLanes;
    const VECTORS: usize = 8;

    #[inline(always)]
    fn run<T: SimdTask>(self, task: T) -> T::Output {
        unsafe { self.run_compiled(task) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> NeonLanes {
        unsafe { NeonLanes([vdupq_n_f32(x); 4]) }
    }
    #[inline(always)]
    fn load(self, numbers: &[f32; LANES]) -> NeonLanes {
        let at = numbers.as_ptr();
        unsafe { NeonLanes([vld1q_f32(at), vld1q_f32(at.add(4)), vld1q_f32(at.add(8)), vld1q_f32(at.add(12))]) }
    }
    #[inline(always)]
    fn load_first(self, numbers: &[f32]) -> NeonLanes {
        let (mut read, count) = ([0.0; LANES], numbers.len().min(LANES));
        read[..count].copy_from_slice(&numbers[..count]);
        self.load(&read)
    }
    #[inline(always)]
    fn widen(self, numbers: &[u16; LANES]) -> NeonLanes {
        unsafe {
            let (low, high) = (vld1q_u16(numbers.as_ptr()), vld1q_u16(numbers.as_ptr().add(8)));
            NeonLanes([
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
                vcvtq_f32_u32(vmovl_high_u16(low)),
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
                vcvtq_f32_u32(vmovl_high_u16(high)),
            ])
        }
    }
    #[inline(always)]
    fn gather<const DIM: usize>(self, points: &[[f32; DIM]], indices: &[u32; LANES]) -> [NeonLanes; DIM] {
        for &i in indices {
            if i as usize >= points.len() {
                no_such_point();
            }
        }
        let mut out = [self.splat(0.0); DIM];
        if DIM == 2 {
            for (quarter, indices) in indices.as_chunks::<4>().0.iter().enumerate() {
                unsafe {
                    let [a, b, c, d] = indices.map(|i| vld1_f32(points.get_unchecked(i as usize).as_ptr()));
                    let (left, right) = (vcombine_f32(a, b), vcombine_f32(c, d));
                    out[0].0[quarter] = vuzp1q_f32(left, right);
                    out[1].0[quarter] = vuzp2q_f32(left, right);
                }
            }
            return out;
        }
        for (component, out) in out.iter_mut().enumerate() {
            let numbers = indices.map(|i| unsafe { points.get_unchecked(i as usize)[component] });
            *out = self.load(&numbers);
        }
        out
    }
    #[inline(always)]
    fn firing(self, rates: &[u16; LANES], number: u16) -> u16 {
        let fires = |rates: &[u16; 8]| unsafe {
            let rates = vld1q_u16(rates.as_ptr());
            vcleq_u16(vmulq_n_u16(vaddq_u16(rates, vdupq_n_u16(1)), number), rates)
        };
        let halves = rates.as_chunks().0;
        unsafe { mask_of_halves(fires(&halves[0]), fires(&halves[1])) }
    }
    #[inline(always)]
    fn compress(self, numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]) {
        let mut count = 0;
        for (quarter, numbers) in numbers.as_chunks::<4>().0.iter().enumerate() {
            let set = mask >> (4 * quarter) & 15;
            // A store writes four numbers; the next store overwrites those that were not selected. The count is at
            // most four times the quarter, so that every store stays within `out`.
            unsafe {
                let places = vld1q_u8(PLACES[usize::from(set)].as_ptr());
                let chosen = vqtbl1q_u8(vreinterpretq_u8_u32(vld1q_u32(numbers.as_ptr())), places);
                vst1q_u32(out.as_mut_ptr().add(count), vreinterpretq_u32_u8(chosen));
            }
            count += set.count_ones() as usize;
        }
    }
}

/// For each subset of four lanes the bytes of its members in order.
static PLACES: [[u8; 16]; 16] = {
    let mut places = [[0; 16]; 16];
    let mut set = 0;
    while set < places.len() {
        let (mut lane, mut count) = (0, 0);
        while lane < 4 {
            if set >> lane & 1 == 1 {
                let mut byte = 0;
                while byte < 4 {
                    places[set][4 * count + byte] = (4 * lane + byte) as u8;
                    byte += 1;
                }
                count += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    places
};

/// Returns a mask of the lanes whose bits are all set, out of sixteen lanes whose bits are all set or all clear.
#[inline]
#[target_feature(enable = "neon")]
fn mask_of_halves(low: uint16x8_t, high: uint16x8_t) -> u16 {
    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    let bytes = vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
    let bits = vandq_u8(bytes, unsafe { vld1q_u8(BITS.as_ptr()) });
    u16::from_le_bytes([vaddv_u8(vget_low_u8(bits)), vaddv_u8(vget_high_u8(bits))])
}

/// As [`mask_of_halves`], of lanes of 32 bits.
#[inline]
#[target_feature(enable = "neon")]
fn mask_of_quarters(lanes: [uint32x4_t; 4]) -> u16 {
    let [a, b, c, d] = lanes.map(|quarter| vreinterpretq_u16_u32(quarter));
    mask_of_halves(vuzp1q_u16(a, b), vuzp1q_u16(c, d))
}

/// The vector of [`Neon`]: four lanes a register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonLanes([float32x4_t; 4]);

impl Lanes for NeonLanes {
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES]) {
        for (out, quarter) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            unsafe { vst1q_f32(out.as_mut_ptr(), quarter) };
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        NeonLanes(quarters!(vaddq_f32, self.0, other.0))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        NeonLanes(quarters!(vsubq_f32, self.0, other.0))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        NeonLanes(quarters!(vmulq_f32, self.0, other.0))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        NeonLanes(quarters!(vdivq_f32, self.0, other.0))
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) = (self.0, factor.0, term.0);
        unsafe { NeonLanes([vfmaq_f32(i, a, e), vfmaq_f32(j, b, f), vfmaq_f32(k, c, g), vfmaq_f32(l, d, h)]) }
    }
    // By comparison: the processor's own minimum and maximum treat NaN and zeros in another way.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        NeonLanes(quarters!(min_quarter, self.0, other.0))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        NeonLanes(quarters!(max_quarter, self.0, other.0))
    }
    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        let (count, mut out) = (count.min(LANES) as u32, other);
        for (quarter, (out, x)) in out.0.iter_mut().zip(self.0).enumerate() {
            let lanes = [0, 1, 2, 3].map(|lane| 4 * quarter as u32 + lane);
            *out = unsafe { vbslq_f32(vcltq_u32(vld1q_u32(lanes.as_ptr()), vdupq_n_u32(count)), x, *out) };
        }
        out
    }
    #[inline(always)]
    fn at_most(self, other: Self) -> u16 {
        let lanes = quarters!(vcleq_f32, self.0, other.0);
        unsafe { mask_of_quarters(lanes) }
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let [[e0, m0], [e1, m1], [e2, m2], [e3, m3]] = self.0.map(|x| unsafe { split_quarter(x) });
        (NeonLanes([e0, e1, e2, e3]), NeonLanes([m0, m1, m2, m3]))
    }
    #[inline(always)]
    fn scale(self, rounded: Self) -> Self {
        NeonLanes(quarters!(scale_quarter, self.0, rounded.0))
    }
}

/// [`Lanes::min`] of four lanes.
#[inline]
#[target_feature(enable = "neon")]
fn min_quarter(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

/// [`Lanes::max`] of four lanes.
#[inline]
#[target_feature(enable = "neon")]
fn max_quarter(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// [`Lanes::split`] of four lanes.
#[inline]
#[target_feature(enable = "neon")]
fn split_quarter(x: float32x4_t) -> [float32x4_t; 2] {
    let bits = vreinterpretq_s32_f32(x);
    let e = vshrq_n_s32::<23>(vsubq_s32(bits, vdupq_n_s32(SQRT_HALF)));
    let m = vsubq_s32(bits, vshlq_n_s32::<23>(e));
    [vcvtq_f32_s32(e), vreinterpretq_f32_s32(m)]
}

/// [`Lanes::scale`] of four lanes.
#[inline]
#[target_feature(enable = "neon")]
fn scale_quarter(x: float32x4_t, rounded: float32x4_t) -> float32x4_t {
    let n = vshlq_n_s32::<23>(vreinterpretq_s32_f32(rounded));
    vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), n))
}
