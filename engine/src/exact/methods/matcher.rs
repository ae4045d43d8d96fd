//! The guide's AffinityMatcher: any affinity of the rows, or one that is given,
//! against any affinity of the map.

use super::super::affinity::Affinity;
use super::super::costs::Cost;
use super::super::fit::{Descent, Problem};
use super::super::loss::{CrossEntropy, MapAffinity, SquareLoss};
use super::super::optimizer::Optimizer;

/// How P and Q are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchLoss {
    /// Σ (P − Q)², the default.
    #[default]
    Square,
    /// −Σ P ln Q.
    CrossEntropy,
}

impl MatchLoss {
    /// Both of them.
    pub const ALL: [MatchLoss; 2] = [MatchLoss::Square, MatchLoss::CrossEntropy];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            MatchLoss::Square => "square",
            MatchLoss::CrossEntropy => "cross-entropy",
        }
    }
}

/// A free combination. Pairs run in f64.
pub struct Matcher {
    /// P, or how it is found; [`crate::exact::Precomputed`] is one that is given.
    pub affinity: Box<dyn Affinity>,
    /// What a pair of rows costs.
    pub cost: Cost,
    /// Q.
    pub map: MapAffinity,
    /// How the two are compared.
    pub loss: MatchLoss,
    /// See [`Matcher::new`].
    pub descent: Descent,
}

impl Matcher {
    /// The square loss, sqeuclidean costs; Adam with a step of 1, 1000 iterations.
    pub fn new(affinity: impl Affinity + 'static, map: MapAffinity) -> Self {
        Matcher {
            affinity: Box::new(affinity),
            cost: Cost::Sqeuclidean,
            map,
            loss: MatchLoss::Square,
            descent: Descent { optimizer: Optimizer::ADAM, max_iter: 1000, ..Descent::default() },
        }
    }

    /// The problem; the affinity goes with it.
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
