//! t-SNE (van der Maaten, Hinton 2008): with entropic affinities P and Q = 1 / (1 + d²), L = −λ Σ Pᵢⱼ log Q +
//! log Σᵢ≠ⱼ Q. The repulsion of all pairs of rows is computed in linear time by a field over the plane
//! (Linderman et al. 2019). TorchDR's sum includes the pairs i = j; openTSNE's sum does not, and neither does
//! this one.

use crate::layout::lanes::Lanes;
use crate::layout::weighted::EdgeLoss;

/// t-SNE's loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tsne;

impl EdgeLoss for Tsne {
    const USES_FIELD: bool = true;
    const GPU_KERNEL: Option<&'static str> = Some("tsne");

    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn attraction<V: Lanes>(self, weight: V, squares: V) -> V {
        // SAFETY: the caller guarantees the instruction set.
        unsafe { weight.mul(V::splat(4.0)).div(squares.add(V::splat(1.0))) }
    }

    /// There are no negative samples: the repulsion comes from the field.
    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn repulsion<V: Lanes>(self, _: V) -> [V; 2] {
        // SAFETY: the caller guarantees the instruction set.
        unsafe { [V::splat(0.0); 2] }
    }
}
