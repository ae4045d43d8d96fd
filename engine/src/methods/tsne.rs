//! t-SNE (van der Maaten, Hinton 2008): with entropic affinities P and Q = 1 / (1 + d²), L = −λ Σ Pᵢⱼ log Q +
//! log Σᵢ≠ⱼ Q. The repulsion of all pairs of rows is computed in linear time by a field over the plane
//! (Linderman et al. 2019). TorchDR's sum includes the pairs i = j; openTSNE's sum does not, and neither does
//! this one.

use crate::layout::weighted::EdgeLoss;
use crate::simd::{Lanes, Simd};

/// t-SNE's loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tsne;

impl EdgeLoss for Tsne {
    const USES_FIELD: bool = true;
    const GPU_KERNEL: Option<&'static str> = Some("tsne");

    #[inline(always)]
    fn attraction<S: Simd>(self, on: S, weight: S::Lanes, squares: S::Lanes) -> S::Lanes {
        weight.mul(on.splat(4.0)).div(squares.add(on.splat(1.0)))
    }

    /// There are no negative samples: the repulsion comes from the field.
    #[inline(always)]
    fn repulsion<S: Simd>(self, on: S, _: S::Lanes) -> [S::Lanes; 2] {
        [on.splat(0.0); 2]
    }
}
