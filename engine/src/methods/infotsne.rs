//! InfoNC-t-SNE (Damrich, Böhm, Hamprecht, Kobak 2023), as in TorchDR's guide: with entropic affinities P and Q
//! = 1 / (1 + d²), L = −λ Σ Pᵢⱼ log Q + 1/n Σᵢ log Σ_{j ∈ Neg(i)} Q.

use crate::layout::weighted::EdgeLoss;
use crate::simd::{Lanes, Simd};

/// InfoTSNE's loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct InfoTsneLoss;

impl EdgeLoss for InfoTsneLoss {
    /// The repulsion of a drawn row depends on the mass of the row that draws it.
    const USES_MASSES: bool = true;
    const GPU_KERNEL: Option<&'static str> = Some("infotsne");

    #[inline(always)]
    fn attraction<S: Simd>(self, on: S, weight: S::Lanes, squares: S::Lanes) -> S::Lanes {
        weight.mul(on.splat(4.0)).div(squares.add(on.splat(1.0)))
    }

    #[inline(always)]
    fn repulsion<S: Simd>(self, on: S, squares: S::Lanes) -> [S::Lanes; 2] {
        let q = on.splat(1.0).div(squares.add(on.splat(1.0)));
        [on.splat(4.0).mul(q).mul(q), q]
    }

    /// Returns 1 / mass, which is the derivative of the logarithm.
    #[inline(always)]
    fn repulsion_factor(self, mass: f32, _: u32, _: usize) -> f32 {
        1.0 / mass.max(f32::MIN_POSITIVE.sqrt())
    }
}
