//! SNE (Hinton, Roweis 2002).

use super::AllPairsMethod;
use crate::all_pairs::affinity::{Entropic, Normalization};
use crate::all_pairs::costs::Cost;
use crate::all_pairs::fit::{Descent, Problem};
use crate::all_pairs::loss::{CrossEntropy, MapAffinity, MapKernel};

/// λ Σ P_ij d²_ij + (1/n) Σ_i ln Σ_j exp(−d²_ij). The inner sum includes j = i, as in TorchDR.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Sne {
    /// P. Default: entropic, perplexity 30, the 90 nearest neighbours.
    pub affinity: Entropic,
    /// The cost of a pair of rows. Default: sqeuclidean.
    pub cost: Cost,
    /// Default: SGD, 2000 iterations, no exaggeration.
    pub descent: Descent,
}

impl AllPairsMethod for Sne {
    fn problem(&self) -> Problem {
        Problem {
            affinity: Box::new(self.affinity.clone()),
            cost: self.cost,
            loss: Box::new(CrossEntropy {
                map: MapAffinity::Normalized(MapKernel::GAUSSIAN, Normalization::Rows),
                count_itself: true,
                single: true,
            }),
            descent: self.descent.clone(),
        }
    }
}
