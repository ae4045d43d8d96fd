//! The instruction sets of other processors, which this one never has.

/// Defines a proof that there never is.
macro_rules! missing {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub(crate) enum $name {}

        impl $name {
            /// Returns `None`.
            #[inline(always)]
            pub(crate) fn detect() -> Option<Self> {
                None
            }
        }
    };
}

#[cfg(not(target_arch = "x86_64"))]
missing! {
    /// AVX2 and FMA.
    Avx2
}
#[cfg(not(target_arch = "x86_64"))]
missing! {
    /// AVX-512 VNNI.
    Vnni
}
#[cfg(not(target_arch = "aarch64"))]
missing! {
    /// NEON.
    Neon
}
#[cfg(not(target_arch = "aarch64"))]
missing! {
    /// FEAT_DotProd.
    DotProduct
}

#[cfg(not(target_arch = "x86_64"))]
impl Avx2 {
    /// Never runs.
    pub(crate) fn vectorize<R>(self, _: impl FnOnce() -> R) -> R {
        match self {}
    }
}
