//! PaCMAP (Wang, Huang, Rudin, Shaposhnik 2021): with Q = 1 + d², L = w_nb Σ Q / (10 + Q) + w_mn Σ Q / (10⁴ +
//! Q) + w_fp Σ 1 / (1 + Q), over near pairs, mid-near pairs and further pairs. The weights go through three
//! phases. Near and mid-near pairs are edges, counted in the code of an edge (`affinity::pairs`). Further pairs
//! are drawn anew in every epoch, whereas the authors' program draws them once. New draws require two changes
//! in the third phase (`benches/record/2026-11-30-pacmap.md`):
//!
//! - The noise of new draws does not fade as the gradient does, so that rows never settle at the authors'
//!   constant learning rate of 1. Here the learning rate stays for the first 100 epochs of the phase, in which
//!   a map of many rows still unfolds, and then falls linearly to 0.
//! - If all draws were new, all rows of a small cluster would on average have the same repulsion, and the
//!   cluster would shrink to a line or a point. Eight draws are used in turn, which gives each row a
//!   repulsion of its own, so that the cluster keeps its shape.
//!
//! As in the authors' program, pairs of rows with more than 100 components are chosen by their first 100
//! principal components (`affinity::compared`).

use crate::affinity::pairs::MID_NEAR_WEIGHT;
use crate::config::pacmap_phase;
use crate::layout::WeightCode;
use crate::layout::kernel::Epoch;
use crate::layout::weighted::EdgeLoss;
use crate::simd::{Lanes, ROUND, Simd};

/// PaCMAP's loss, with the weights of its three kinds of pairs.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacmapLoss {
    near: f32,
    middle: f32,
    further: f32,
}

impl PacmapLoss {
    /// The loss before an epoch sets its weights ([`EdgeLoss::in_epoch`]).
    pub(super) const UNWEIGHED: PacmapLoss = PacmapLoss { near: 0.0, middle: 0.0, further: 0.0 };

    /// Returns the loss with these weights of near, mid-near and further pairs.
    #[cfg(test)]
    pub(super) fn weighing(near: f32, middle: f32, further: f32) -> Self {
        PacmapLoss { near, middle, further }
    }
}

impl EdgeLoss for PacmapLoss {
    const WEIGHT_CODE: WeightCode = WeightCode::Counts;
    const GPU_KERNEL: Option<&'static str> = Some("pacmap");

    #[cfg(any(test, feature = "cuda"))]
    fn weights(self) -> [f32; 2] {
        [self.near, self.middle]
    }

    fn in_epoch(self, epoch: &Epoch) -> Self {
        let phase = pacmap_phase(epoch.epochs);
        let done = epoch.number - 1;
        let (near, middle) = if done < phase {
            let share = done as f32 / phase as f32;
            (2.0, 1000.0 * (1.0 - share) + 3.0 * share)
        } else if done < 2 * phase {
            (3.0, 3.0)
        } else {
            (1.0, 0.0)
        };
        PacmapLoss { near, middle, further: 1.0 }
    }

    /// The weight of an edge is the number of its near pairs plus [`MID_NEAR_WEIGHT`] times the number of its mid-near
    /// pairs.
    #[inline(always)]
    fn attraction<S: Simd>(self, on: S, weight: S::Lanes, squares: S::Lanes) -> S::Lanes {
        let s = |x: f32| on.splat(x);
        // The number of mid-near pairs: the quotient rounded down, as the integer nearest to a slightly
        // smaller number.
        let count =
            weight.mul_add(s(1.0 / MID_NEAR_WEIGHT), s(0.5 / MID_NEAR_WEIGHT - 0.5)).add(s(ROUND)).sub(s(ROUND));
        let rest = count.mul_add(s(-MID_NEAR_WEIGHT), weight);
        let (near, middle) = (squares.add(s(11.0)), squares.add(s(10_001.0)));
        let near = rest.mul(s(20.0 * self.near)).div(near.mul(near));
        count.mul(s(20_000.0 * self.middle)).div(middle.mul(middle)).add(near)
    }

    /// The coefficient is doubled, because it also stands for the rows that draw this one.
    #[inline(always)]
    fn repulsion<S: Simd>(self, on: S, squares: S::Lanes) -> [S::Lanes; 2] {
        let below = squares.add(on.splat(2.0));
        [on.splat(4.0 * self.further).div(below.mul(below)), on.splat(0.0)]
    }
}
