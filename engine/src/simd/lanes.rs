//! The operations of an instruction set, and their implementation in plain Rust, which defines the results.

use std::fmt::Debug;

/// Number of floats in a vector.
pub(crate) const LANES: usize = 16;

/// 1.5 · 2²³: adding it to a number leaves the nearest integer in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// The bits of √½, the lower end of the mantissas of [`Lanes::split`].
pub(super) const SQRT_HALF: i32 = 0x3f35_04f3;

/// An instruction set that the processor has.
pub(crate) trait Simd: Copy + Debug + Send + Sync {
    /// A vector of sixteen floats.
    type Lanes: Lanes;
    /// Number of vectors that the registers hold.
    const VECTORS: usize;

    /// Runs `task`, compiled for this instruction set.
    fn run<T: SimdTask>(self, task: T) -> T::Output;
    /// Returns a vector of the same number in each lane.
    fn splat(self, x: f32) -> Self::Lanes;
    /// Reads sixteen numbers.
    fn load(self, numbers: &[f32; LANES]) -> Self::Lanes;
    /// Reads up to sixteen numbers; further ones are not read, and the lanes of missing ones are 0.
    fn load_first(self, numbers: &[f32]) -> Self::Lanes;
    /// Converts sixteen integers to floats.
    fn widen(self, numbers: &[u16; LANES]) -> Self::Lanes;
    /// Reads sixteen points: a vector for each component.
    ///
    /// # Panics
    /// If an index is not below `points.len()`.
    fn gather<const DIM: usize>(self, points: &[[f32; DIM]], indices: &[u32; LANES]) -> [Self::Lanes; DIM];
    /// Returns a mask of the edges, out of sixteen, that fire in epoch `number` (its low 16 bits). `rates` are
    /// the rates minus one; an edge fires if number · rate modulo 2¹⁶ is less than the rate.
    fn firing(self, rates: &[u16; LANES], number: u16) -> u16;
    /// Writes the `numbers` that `mask` selects to the front of `out`, in order. The rest of `out` is
    /// unspecified.
    fn compress(self, numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]);
}

/// Work that is written once for every instruction set.
pub(crate) trait SimdTask {
    /// What the work returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, on: S) -> Self::Output;
}

/// A vector of sixteen floats. Every operation is one IEEE operation per lane, or integer arithmetic on a lane's bits.
pub(crate) trait Lanes: Copy + Debug {
    /// Writes the sixteen numbers.
    fn store(self, out: &mut [f32; LANES]);
    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        self.store(&mut out);
        out
    }
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// Returns self · factor + term, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// Returns the smaller of both; `other` if they are not ordered (NaN), or equal.
    fn min(self, other: Self) -> Self;
    /// Returns the larger of both; `other` if they are not ordered (NaN), or equal.
    fn max(self, other: Self) -> Self;
    /// Returns `self` in the first `count` lanes and `other` in the others.
    fn first(self, count: usize, other: Self) -> Self;
    /// Returns a mask of the lanes that are at most those of `other`; NaN is not.
    fn at_most(self, other: Self) -> u16;
    /// Returns (e, m) with self = 2^e · m and m in [√½, √2), for normal numbers above 0.
    fn split(self) -> (Self, Self);
    /// Returns self · 2^n, where `rounded` is n + 1.5 · 2²³ for an integer n. The arguments self and the
    /// product must be normal.
    fn scale(self, rounded: Self) -> Self;
}

/// Refuses the indices of a gather.
#[cold]
#[inline(never)]
pub(super) fn no_such_point() -> ! {
    panic!("an index beyond the last point");
}

/// Plain Rust, for processors without the other instruction sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type Lanes = PortableLanes;
    const VECTORS: usize = 4;

    // Not inlined, as those of the other instruction sets: it would only burden the code around a call that selects one.
    #[inline(never)]
    fn run<T: SimdTask>(self, task: T) -> T::Output {
        task.run(self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> PortableLanes {
        PortableLanes([x; LANES])
    }
    #[inline(always)]
    fn load(self, numbers: &[f32; LANES]) -> PortableLanes {
        PortableLanes(*numbers)
    }
    #[inline(always)]
    fn load_first(self, numbers: &[f32]) -> PortableLanes {
        PortableLanes(std::array::from_fn(|lane| numbers.get(lane).copied().unwrap_or(0.0)))
    }
    #[inline(always)]
    fn widen(self, numbers: &[u16; LANES]) -> PortableLanes {
        PortableLanes(numbers.map(f32::from))
    }
    #[inline(always)]
    fn gather<const DIM: usize>(self, points: &[[f32; DIM]], indices: &[u32; LANES]) -> [PortableLanes; DIM] {
        let read = indices.map(|i| points.get(i as usize).unwrap_or_else(|| no_such_point()));
        std::array::from_fn(|component| PortableLanes(read.map(|point| point[component])))
    }
    #[inline(always)]
    fn firing(self, rates: &[u16; LANES], number: u16) -> u16 {
        let fires = |&rate: &u16| rate.wrapping_add(1).wrapping_mul(number) <= rate;
        rates.iter().enumerate().fold(0, |mask, (lane, rate)| mask | u16::from(fires(rate)) << lane)
    }
    #[inline(always)]
    fn compress(self, numbers: &[u32; LANES], mask: u16, out: &mut [u32; LANES]) {
        let mut count = 0;
        for (lane, &number) in numbers.iter().enumerate() {
            // Writes every number and increments the count only for selected ones, so that there is no branch
            // to mispredict. The count is at most `lane`.
            out[count] = number;
            count += usize::from(mask >> lane & 1);
        }
    }
}

/// The vector of [`Portable`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PortableLanes([f32; LANES]);

impl PortableLanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        PortableLanes(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

impl Lanes for PortableLanes {
    #[inline(always)]
    fn store(self, out: &mut [f32; LANES]) {
        *out = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        PortableLanes(std::array::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], term.0[lane])))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        PortableLanes(std::array::from_fn(|lane| if lane < count { self.0[lane] } else { other.0[lane] }))
    }
    #[inline(always)]
    fn at_most(self, other: Self) -> u16 {
        (0..LANES).fold(0, |mask, lane| mask | u16::from(self.0[lane] <= other.0[lane]) << lane)
    }
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let e = self.0.map(|x| (x.to_bits() as i32).wrapping_sub(SQRT_HALF) >> 23);
        let m = std::array::from_fn(|lane| {
            f32::from_bits((self.0[lane].to_bits() as i32).wrapping_sub(e[lane] << 23) as u32)
        });
        (PortableLanes(e.map(|e| e as f32)), PortableLanes(m))
    }
    #[inline(always)]
    fn scale(self, rounded: Self) -> Self {
        // The low nine bits of `rounded` are those of n, and are added to the exponent.
        self.zip(rounded, |x, n| f32::from_bits(x.to_bits().wrapping_add(n.to_bits() << 23)))
    }
}
