//! Instruction sets of x86-64 on other processors, which never have them.

/// AVX2 and FMA.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Avx2 {}

/// AVX-512 VNNI.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Vnni {}

impl Avx2 {
    /// Returns `None`.
    pub(crate) fn detect() -> Option<Self> {
        None
    }

    /// Never runs.
    pub(crate) fn vectorize<R>(self, _: impl FnOnce() -> R) -> R {
        match self {}
    }
}

impl Vnni {
    /// Returns `None`.
    pub(crate) fn detect() -> Option<Self> {
        None
    }
}
