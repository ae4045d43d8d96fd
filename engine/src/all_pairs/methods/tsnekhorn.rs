//! TSNEkhorn (Van Assel, Vayer, Flamary, Courty 2023).

use super::AllPairsMethod;
use crate::all_pairs::affinity::{DualSolver, Entropic, SymmetricEntropic};
use crate::all_pairs::costs::Cost;
use crate::all_pairs::fit::{Descent, Problem};
use crate::all_pairs::loss::{CrossEntropy, MapAffinity, MapKernel};

/// −λ Σ P ln Q + Σ Q, where P is doubly stochastic with equal row entropies and Q is the Student
/// kernel made doubly stochastic. Each iteration updates Sinkhorn's f by five passes, from the f of
/// the previous iteration.
///
/// TorchDR's option `unrolling`, which differentiates through these passes, is not implemented: by
/// the envelope theorem, the gradient used here is the limit of the unrolled one as f converges.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct TsneKhorn {
    /// P. Default: symmetric entropic, perplexity 30, by at most 100 iterations of L-BFGS, with the
    /// diagonal.
    ///
    /// TorchDR uses 100 iterations of Adam, which do not converge: rows of 100 moons then sum to
    /// between 0.014 and 1.7 instead of 1, and their map is a tangle.
    pub affinity: SymmetricEntropic,
    /// Whether P is the symmetric affinity. Otherwise P is the dense entropic affinity of the same
    /// perplexity, with which TorchDR's code fails. Default true.
    pub symmetric_affinity: bool,
    /// The cost of a pair of rows. Default: sqeuclidean.
    pub cost: Cost,
    /// Default: SGD, 2000 iterations, no exaggeration, a `min_grad_norm` of 10⁻⁷ as in the other
    /// methods. With TorchDR's 10⁻⁴ the optimisation would end at once, because the gradient of the
    /// initial positions is smaller.
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

impl AllPairsMethod for TsneKhorn {
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
