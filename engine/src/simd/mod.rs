//! The instruction sets of processors, and vectors of sixteen floats for each.
//!
//! A value of `Avx512`, `Avx2`, `Vnni`, `Neon` or `DotProduct` proves that the processor has that instruction set: the
//! only way to get one is `detect`. [`Portable`] needs no proof. A kernel is written once, as a safe function that is
//! generic over [`Simd`]. It gets such a value, makes vectors from it and computes with them; a vector can only come from
//! such a value, so that it proves the same.
//!
//! [`InstructionSet::run`] compiles a [`SimdTask`] for an instruction set and runs it. Only what is inlined into the
//! task is compiled for the instruction set; anything else gives the same result, more slowly. What a task calls for
//! each number is therefore `#[inline(always)]`.
//!
//! What must hold: an operation gives the same bits in every implementation, so that no result depends on the
//! processor. The tests run every implementation that the machine has against the portable one.

mod lanes;
mod missing;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use lanes::{LANES, Lanes, Portable, ROUND, Simd, SimdTask};
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use missing::{Avx2, Vnni};
#[cfg(not(target_arch = "aarch64"))]
pub(crate) use missing::{DotProduct, Neon};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::sums::{ByteProducts, SumLanes, SumTask};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{DotProduct, Neon};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Vnni, load_256, load_512, store_256, store_512};

/// An instruction set that the processor has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InstructionSet {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    Portable(Portable),
}

impl InstructionSet {
    /// Returns the widest instruction set of this processor.
    #[inline]
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        return x86::best();
        #[cfg(target_arch = "aarch64")]
        return Neon::detect().map_or(InstructionSet::Portable(Portable), InstructionSet::Neon);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        InstructionSet::Portable(Portable)
    }

    /// Returns every instruction set of this processor, the portable one last.
    #[cfg(test)]
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = [Avx512::detect().map(InstructionSet::Avx512), Avx2::detect().map(InstructionSet::Avx2)];
        #[cfg(target_arch = "aarch64")]
        let wide = [Neon::detect().map(InstructionSet::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let wide: [Option<Self>; 0] = [];
        wide.into_iter().flatten().chain([InstructionSet::Portable(Portable)])
    }

    /// Runs `task`, compiled for this instruction set.
    #[inline]
    pub(crate) fn run<T: SimdTask>(self, task: T) -> T::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512(on) => on.run(task),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2(on) => on.run(task),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon(on) => on.run(task),
            InstructionSet::Portable(on) => on.run(task),
        }
    }
}

/// Returns the number of the widest instruction set that a test of whole stages may use: its place in
/// [`TEST_LEVELS`]. `LOWLAND_TEST_SIMD` names it; without that every instruction set is used.
#[cfg(test)]
pub(crate) fn test_level() -> usize {
    static LEVEL: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(|| match std::env::var("LOWLAND_TEST_SIMD") {
        Ok(name) => TEST_LEVELS.iter().position(|&level| level == name).expect("an instruction set by its name"),
        Err(_) => TEST_LEVELS.len(),
    })
}

/// The instruction sets by which tests run whole stages; each contains those before it.
#[cfg(all(test, not(target_arch = "aarch64")))]
pub(crate) const TEST_LEVELS: &[&str] = &["portable", "avx2", "avx512", "vnni"];
#[cfg(all(test, target_arch = "aarch64"))]
pub(crate) const TEST_LEVELS: &[&str] = &["portable", "neon", "dotprod"];
