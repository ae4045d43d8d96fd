//! PHATE (Moon et al. 2019).

use super::AllPairsMethod;
use crate::all_pairs::affinity::PhateAffinity;
use crate::all_pairs::costs::Cost;
use crate::all_pairs::fit::{Descent, Problem};
use crate::all_pairs::loss::Stress;
use crate::all_pairs::optimizer::DescentOptimizer;

/// √(Σ (P_ij + |z_i − z_j|)² / Σ P_ij²), where P is the negative distances of the diffusion
/// potentials. Dense, for up to [`crate::all_pairs::PHATE_ROWS`] rows.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Phate {
    /// P. Default: k 5, α 10, t 100.
    pub affinity: PhateAffinity,
    /// The cost of a pair of rows. Default: euclidean.
    pub cost: Cost,
    /// Default: Adam with learning rate 1, 1000 iterations, a `min_grad_norm` of 10⁻¹⁵.
    pub descent: Descent,
}

impl Default for Phate {
    fn default() -> Self {
        Phate {
            affinity: PhateAffinity { t: 100, ..PhateAffinity::default() },
            cost: Cost::Euclidean,
            descent: Descent {
                optimizer: DescentOptimizer::ADAM,
                max_iter: 1000,
                min_grad_norm: 1e-15,
                ..Descent::default()
            },
        }
    }
}

impl AllPairsMethod for Phate {
    fn problem(&self) -> Problem {
        Problem {
            affinity: Box::new(self.affinity.clone()),
            cost: self.cost,
            loss: Box::new(Stress),
            descent: self.descent.clone(),
        }
    }
}
