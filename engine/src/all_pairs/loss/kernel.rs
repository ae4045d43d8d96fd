//! Affinities of the map: a kernel of the squared distance, and its normalisation.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::all_pairs::affinity::{Normalization, check_positive};
use crate::all_pairs::real::MapFloat;

/// A kernel of d², the squared distance of two points of the map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MapKernel {
    /// exp(−d²/σ).
    Gaussian {
        /// σ, above 0.
        sigma: f64,
    },
    /// (1 + d²/ν)^(−(ν + 1)/2).
    Student {
        /// ν, above 0.
        degrees_of_freedom: f64,
    },
}

impl MapKernel {
    /// exp(−d²), as in SNE.
    pub const GAUSSIAN: MapKernel = MapKernel::Gaussian { sigma: 1.0 };
    /// 1/(1 + d²), as in t-SNE.
    pub const STUDENT: MapKernel = MapKernel::Student { degrees_of_freedom: 1.0 };

    pub(super) fn check(&self) -> Result<()> {
        match *self {
            MapKernel::Gaussian { sigma } => check_positive("sigma", sigma),
            MapKernel::Student { degrees_of_freedom } => check_positive("degrees_of_freedom", degrees_of_freedom),
        }
    }

    /// Returns −ln of the kernel.
    pub(super) fn cost(&self, square: f64) -> f64 {
        match *self {
            MapKernel::Gaussian { sigma } => square / sigma,
            MapKernel::Student { degrees_of_freedom: nu } => 0.5 * (nu + 1.0) * (square / nu).ln_1p(),
        }
    }
}

/// The map's affinity Q: kernel and normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MapAffinity {
    /// The kernel, normalised as an input affinity.
    Normalized(MapKernel, Normalization),
    /// exp(f_i + f_j)·kernel/n with rows that sum to 1/n. f is kept between iterations, each of
    /// which updates f by at most five passes.
    ///
    /// f is treated as constant in the gradient, as in TorchDR without unrolling. For the
    /// cross-entropy plus ΣQ this is exact once f has converged and the rows of P sum to 1/n; for
    /// the square loss it is an approximation, in TorchDR as here.
    Sinkhorn(MapKernel),
}

/// A kernel in either precision.
pub(super) trait MapKernelFn: Copy + Sync {
    /// Returns k(d²) and −d ln k / d(d²).
    fn at<F: MapFloat>(self, square: F) -> (F, F);
}

#[derive(Clone, Copy)]
pub(super) struct GaussianKernel {
    pub(super) inverse: f64,
}

impl MapKernelFn for GaussianKernel {
    #[inline(always)]
    fn at<F: MapFloat>(self, square: F) -> (F, F) {
        let inverse = F::of(self.inverse);
        ((-(square * inverse)).exp(), inverse)
    }
}

/// The Student kernel with ν = 1.
#[derive(Clone, Copy)]
pub(super) struct CauchyKernel;

impl MapKernelFn for CauchyKernel {
    #[inline(always)]
    fn at<F: MapFloat>(self, square: F) -> (F, F) {
        let k = F::ONE / (F::ONE + square);
        (k, k)
    }
}

#[derive(Clone, Copy)]
pub(super) struct StudentKernel {
    pub(super) nu: f64,
}

impl MapKernelFn for StudentKernel {
    #[inline(always)]
    fn at<F: MapFloat>(self, square: F) -> (F, F) {
        let inverse = F::of(1.0 / self.nu);
        let base = F::ONE / (F::ONE + square * inverse);
        let half = 0.5 * (self.nu + 1.0);
        (base.power(F::of(half)), base * F::of(half / self.nu))
    }
}

/// Evaluates `$body` with `$kernel` bound to the kernel's own type, so that loops are compiled for
/// each type.
macro_rules! with_kernel {
    ($of:expr, $kernel:ident => $body:expr) => {
        match $of {
            MapKernel::Gaussian { sigma } => {
                let $kernel = $crate::all_pairs::loss::kernel::GaussianKernel { inverse: 1.0 / sigma };
                $body
            }
            MapKernel::Student { degrees_of_freedom: 1.0 } => {
                let $kernel = $crate::all_pairs::loss::kernel::CauchyKernel;
                $body
            }
            MapKernel::Student { degrees_of_freedom: nu } => {
                let $kernel = $crate::all_pairs::loss::kernel::StudentKernel { nu };
                $body
            }
        }
    };
}
pub(super) use with_kernel;
