//! Products of bytes, added in 32 bits: by one instruction of FEAT_DotProd, or by four of NEON.
//!
//! `unsafe` stands here for the reasons of `neon.rs`, and for the instruction that the standard library has no stable
//! function for.
#![expect(unsafe_code, reason = "intrinsics")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "the reasons for all of them stand above")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::lanes::LANES;
use super::{DotProduct, Neon, mask_of_quarters};

/// Instructions that multiply bytes, four a word, and add the products in 32 bits.
pub(crate) trait ByteProducts: Copy {
    /// Runs `task`, compiled for this instruction set.
    fn run_sums<T: SumTask>(self, task: T) -> T::Output;
    /// Returns a vector of the same number in each lane.
    fn splat(self, number: i32) -> SumLanes;
    /// Reads sixteen numbers.
    fn load(self, numbers: &[i32; LANES]) -> SumLanes;
    /// Adds to each of `sums` the product of `word` with one of sixteen `words`: that of their four signed bytes. Bytes
    /// of `words` are above -128.
    fn add_products(self, sums: SumLanes, words: &[u32; LANES], word: u32) -> SumLanes;
}

/// Work that is written once for both kinds of [`ByteProducts`].
pub(crate) trait SumTask {
    /// What the work returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<P: ByteProducts>(self, on: P) -> Self::Output;
}

/// Implements [`ByteProducts`] by a function for four lanes.
macro_rules! byte_products {
    ($proof:ident, $features:literal, $quarter:ident) => {
        impl $proof {
            #[target_feature(enable = $features)]
            fn run_compiled_sums<T: SumTask>(self, task: T) -> T::Output {
                task.run(self)
            }
        }

        impl ByteProducts for $proof {
            #[inline(always)]
            fn run_sums<T: SumTask>(self, task: T) -> T::Output {
                unsafe { self.run_compiled_sums(task) }
            }
            #[inline(always)]
            fn splat(self, number: i32) -> SumLanes {
                unsafe { SumLanes([vdupq_n_s32(number); 4]) }
            }
            #[inline(always)]
            fn load(self, numbers: &[i32; LANES]) -> SumLanes {
                let at = numbers.as_ptr();
                unsafe { SumLanes([vld1q_s32(at), vld1q_s32(at.add(4)), vld1q_s32(at.add(8)), vld1q_s32(at.add(12))]) }
            }
            #[inline(always)]
            fn add_products(self, sums: SumLanes, words: &[u32; LANES], word: u32) -> SumLanes {
                let ([a, b, c, d], at) = (sums.0, words.as_ptr().cast::<i8>());
                unsafe {
                    let word = vreinterpretq_s8_u32(vdupq_n_u32(word));
                    SumLanes([
                        $quarter(a, vld1q_s8(at), word),
                        $quarter(b, vld1q_s8(at.add(16)), word),
                        $quarter(c, vld1q_s8(at.add(32)), word),
                        $quarter(d, vld1q_s8(at.add(48)), word),
                    ])
                }
            }
        }
    };
}

byte_products!(DotProduct, "neon,dotprod", add_dot_products);
byte_products!(Neon, "neon", add_long_products);

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_dot_products(sums: int32x4_t, words: int8x16_t, word: int8x16_t) -> int32x4_t {
    let mut out = sums;
    unsafe {
        asm!(
            "sdot {out:v}.4s, {words:v}.16b, {word:v}.16b",
            out = inout(vreg) out,
            words = in(vreg) words,
            word = in(vreg) word,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    out
}

#[inline]
#[target_feature(enable = "neon")]
fn add_long_products(sums: int32x4_t, words: int8x16_t, word: int8x16_t) -> int32x4_t {
    let low = vmull_s8(vget_low_s8(words), vget_low_s8(word));
    // Two products of at most 127 · 128 stay within 16 bits.
    vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(words, word)))
}

/// Sixteen sums of 32 bits, which wrap around.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SumLanes([int32x4_t; 4]);

impl SumLanes {
    /// Writes the sixteen numbers.
    #[inline(always)]
    pub(crate) fn store(self, out: &mut [i32; LANES]) {
        for (out, quarter) in out.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            unsafe { vst1q_s32(out.as_mut_ptr(), quarter) };
        }
    }
    #[inline(always)]
    pub(crate) fn add(self, other: Self) -> Self {
        SumLanes(quarters!(vaddq_s32, self.0, other.0))
    }
    #[inline(always)]
    pub(crate) fn sub(self, other: Self) -> Self {
        SumLanes(quarters!(vsubq_s32, self.0, other.0))
    }
    #[inline(always)]
    pub(crate) fn max(self, other: Self) -> Self {
        SumLanes(quarters!(vmaxq_s32, self.0, other.0))
    }
    /// Returns the bits that are set in both.
    #[inline(always)]
    pub(crate) fn and(self, other: Self) -> Self {
        SumLanes(quarters!(vandq_s32, self.0, other.0))
    }
    /// Whether every lane is below 0.
    #[inline(always)]
    pub(crate) fn all_below_zero(self) -> bool {
        let [a, b, c, d] = self.0;
        unsafe { vmaxvq_s32(vmaxq_s32(vmaxq_s32(a, b), vmaxq_s32(c, d))) < 0 }
    }
    /// Returns a mask of the lanes that are not below 0.
    #[inline(always)]
    pub(crate) fn not_below_zero(self) -> u16 {
        unsafe { mask_of_quarters(self.0.map(|quarter| vcgezq_s32(quarter))) }
    }
}
