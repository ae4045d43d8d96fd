//! InfoNC-t-SNE (Damrich, Böhm, Hamprecht, Kobak 2023), as in TorchDR's guide: with entropic affinities P and Q
//! = 1 / (1 + d²), L = −λ Σ Pᵢⱼ log Q + 1/n Σᵢ log Σ_{j ∈ Neg(i)} Q.

use crate::layout::lanes::Lanes;
use crate::layout::weighted::EdgeLoss;

/// InfoTSNE's loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct InfoTsneLoss;

impl EdgeLoss for InfoTsneLoss {
    /// The repulsion of a drawn row depends on the mass of the row that draws it.
    const USES_MASSES: bool = true;
    const GPU_KERNEL: Option<&'static str> = Some("infotsne");

    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn attraction<V: Lanes>(self, weight: V, squares: V) -> V {
        // SAFETY: the caller guarantees the instruction set.
        unsafe { weight.mul(V::splat(4.0)).div(squares.add(V::splat(1.0))) }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn repulsion<V: Lanes>(self, squares: V) -> [V; 2] {
        // SAFETY: the caller guarantees the instruction set.
        unsafe {
            let q = V::splat(1.0).div(squares.add(V::splat(1.0)));
            [V::splat(4.0).mul(q).mul(q), q]
        }
    }

    /// Returns 1 / mass, which is the derivative of the logarithm.
    #[inline(always)]
    fn repulsion_factor(self, mass: f32, _: u32, _: usize) -> f32 {
        1.0 / mass.max(f32::MIN_POSITIVE.sqrt())
    }
}
