//! TorchDR's AffinityMatcher: any affinity of the rows, or a given one, is matched by any affinity
//! of the map.

use super::super::affinity::StreamedAffinity;
use super::super::costs::Cost;
use super::super::fit::{Descent, Problem};
use super::super::loss::{CrossEntropy, MapAffinity, SquareLoss};
use super::super::optimizer::DescentOptimizer;
use crate::config::MatchLoss;

/// A free combination of affinity, map affinity and loss. Pairs are computed in f64.
pub struct AffinityMatcher {
    /// The affinity that gives P; [`crate::all_pairs::PrecomputedAffinity`] for a given P.
    pub affinity: Box<dyn StreamedAffinity>,
    /// The cost of a pair of rows.
    pub cost: Cost,
    /// The map's affinity, Q.
    pub map: MapAffinity,
    /// The loss between P and Q.
    pub loss: MatchLoss,
    /// The optimisation; defaults as in [`AffinityMatcher::new`].
    pub descent: Descent,
}

impl AffinityMatcher {
    /// Returns a matcher with the square loss, sqeuclidean costs, and Adam with learning rate 1 for
    /// 1000 iterations.
    pub fn new(affinity: impl StreamedAffinity + 'static, map: MapAffinity) -> Self {
        AffinityMatcher {
            affinity: Box::new(affinity),
            cost: Cost::Sqeuclidean,
            map,
            loss: MatchLoss::Square,
            descent: Descent { optimizer: DescentOptimizer::ADAM, max_iter: 1000, ..Descent::default() },
        }
    }

    /// Returns the problem. Takes `self`, because the affinity moves into the problem.
    pub fn problem(self) -> Problem {
        Problem {
            affinity: self.affinity,
            cost: self.cost,
            loss: match self.loss {
                MatchLoss::Square => Box::new(SquareLoss { map: self.map, count_itself: false }),
                MatchLoss::CrossEntropy => Box::new(CrossEntropy { map: self.map, count_itself: false, single: false }),
            },
            descent: self.descent,
        }
    }
}
