//! TSNEkhorn (Van Assel, Vayer, Flamary, Courty 2023).

use super::Method;
use crate::exact::affinity::{DualSolver, Entropic, SymmetricEntropic};
use crate::exact::costs::Cost;
use crate::exact::fit::{Descent, Problem};
use crate::exact::loss::{CrossEntropy, MapAffinity, MapKernel};

/// −λ Σ P ln Q + Σ Q, P doubly stochastic of one entropy, Q the student kernel
/// made doubly stochastic: Sinkhorn's f is renewed by five passes an iteration, from where it was.
///
/// The guide's `unrolling`, which differentiates through these passes, is left
/// out: by the envelope theorem this is the gradient that it approaches as f converges.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct TsneKhorn {
    /// P. Default: symmetric entropic, perplexity 30, by at most 100 iterations of L-BFGS, rows neighbours of themselves.
    ///
    /// The guide takes 100 of Adam, which do not get there: rows of
    /// 100 moons then sum to between 0.014 and 1.7 rather than 1, and the map of them is a tangle.
    pub affinity: SymmetricEntropic,
    /// Whether P is the symmetric affinity. Otherwise the entropic of its
    /// perplexity, dense: the guide's code fails there. Default true.
    pub symmetric_affinity: bool,
    /// What a pair of rows costs. Default sqeuclidean.
    pub cost: Cost,
    /// Default: SGD, 2000 iterations, no exaggeration. `min_grad_norm` is 10⁻⁷ as
    /// elsewhere: below the guide's 10⁻⁴ lies the gradient of its own first positions, and it would end there.
    pub descent: Descent,
}

impl Default for TsneKhorn {
    fn default() -> Self {
        TsneKhorn {
            affinity: SymmetricEntropic {
                solver: DualSolver::Lbfgs,
                lr: 1.0,
                max_iter: 100,
                zero_diag: false,
                ..SymmetricEntropic::default()
            },
            symmetric_affinity: true,
            cost: Cost::Sqeuclidean,
            descent: Descent::default(),
        }
    }
}

impl Method for TsneKhorn {
    fn problem(&self) -> Problem {
        let entropic = || Entropic { perplexity: self.affinity.perplexity, sparse: false, ..Entropic::default() };
        Problem {
            affinity: if self.symmetric_affinity { Box::new(self.affinity.clone()) } else { Box::new(entropic()) },
            cost: self.cost,
            loss: Box::new(CrossEntropy {
                map: MapAffinity::Sinkhorn(MapKernel::STUDENT),
                count_itself: false,
                single: true,
            }),
            descent: self.descent.clone(),
        }
    }
}
