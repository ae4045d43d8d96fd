//! COSNE (Guo, Guo, Yu 2022): a map in the Poincaré ball.

use super::Method;
use crate::exact::affinity::Entropic;
use crate::exact::costs::Cost;
use crate::exact::fit::{Descent, Problem};
use crate::exact::init::Start;
use crate::exact::loss::HyperbolicCauchy;
use crate::exact::optimizer::Optimizer;

/// λ Σ P (−ln q) + ln Σ q + h · mean((|x_i|² − d_H(z_i, 0)²)²), q = γ/(d_H² + γ²).
///
/// The step is 1 by default, as the guide's page says. Its code takes SGD's
/// rule, at least 50, from which Riemannian Adam leaps to the rim of the ball.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Cosne {
    /// P. Default: entropic, perplexity 30, the 90 nearest neighbours.
    pub affinity: Entropic,
    /// What a pair of rows costs. Default sqeuclidean.
    pub cost: Cost,
    /// γ, above 0. Default 2.
    pub gamma: f64,
    /// h, the guide's `learning_rate_for_h_loss`, 0 or more. Default 1.
    pub h: f64,
    /// Default: Riemannian Adam, 2000 iterations, hyperbolic init with a scaling
    /// of 0.5, and release 0.4's exaggeration of 12 for 250 iterations. Later
    /// releases dropped that; without it iris ends at a loss of 10.6, with it at 9.1.
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
                optimizer: Optimizer::RIEMANNIAN_ADAM,
                init: Start::Hyperbolic,
                init_scaling: 0.5,
                early_exaggeration: 12.0,
                ..Descent::default()
            },
        }
    }
}

impl Method for Cosne {
    fn problem(&self) -> Problem {
        Problem {
            affinity: Box::new(self.affinity.clone()),
            cost: self.cost,
            loss: Box::new(HyperbolicCauchy { gamma: self.gamma, h: self.h }),
            descent: self.descent.clone(),
        }
    }
}
