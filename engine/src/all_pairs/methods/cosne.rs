//! CO-SNE (Guo, Guo, Yu 2022): a map in the Poincaré ball.

use super::AllPairsMethod;
use crate::all_pairs::affinity::Entropic;
use crate::all_pairs::costs::Cost;
use crate::all_pairs::fit::{Descent, Problem};
use crate::all_pairs::init::InitialPositions;
use crate::all_pairs::loss::HyperbolicCauchy;
use crate::all_pairs::optimizer::DescentOptimizer;

/// λ Σ P (−ln q) + ln Σ q + h · mean((|x_i|² − d_H(z_i, 0)²)²), where q = γ/(d_H² + γ²).
///
/// The default learning rate is 1, as TorchDR's documentation says. TorchDR's code uses the rule
/// for SGD (at least 50), with which Riemannian Adam moves points to the boundary of the ball.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Cosne {
    /// P. Default: entropic, perplexity 30, the 90 nearest neighbours.
    pub affinity: Entropic,
    /// The cost of a pair of rows. Default: sqeuclidean.
    pub cost: Cost,
    /// γ, above 0. Default 2.
    pub gamma: f64,
    /// h, TorchDR's `learning_rate_for_h_loss`, not negative. Default 1.
    pub h: f64,
    /// Default: Riemannian Adam, 2000 iterations, hyperbolic initialisation with a scaling of 0.5,
    /// and the early exaggeration of 12 for 250 iterations of TorchDR 0.4. Later releases dropped
    /// the exaggeration; without it the loss on iris ends at 10.6, with it at 9.1.
    pub descent: Descent,
}

impl Default for Cosne {
    fn default() -> Self {
        Cosne {
            affinity: Entropic::default(),
            cost: Cost::Sqeuclidean,
            gamma: 2.0,
            h: 1.0,
            descent: Descent {
                optimizer: DescentOptimizer::RIEMANNIAN_ADAM,
                init: InitialPositions::Hyperbolic,
                init_scaling: 0.5,
                early_exaggeration: 12.0,
                ..Descent::default()
            },
        }
    }
}

impl AllPairsMethod for Cosne {
    fn problem(&self) -> Problem {
        Problem {
            affinity: Box::new(self.affinity.clone()),
            cost: self.cost,
            loss: Box::new(HyperbolicCauchy { gamma: self.gamma, h: self.h }),
            descent: self.descent.clone(),
        }
    }
}
