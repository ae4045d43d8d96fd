//! t-SNE (van der Maaten, Hinton 2008), with all pairs of the map's points.

use super::AllPairsMethod;
use crate::all_pairs::affinity::{Entropic, Normalization};
use crate::all_pairs::costs::Cost;
use crate::all_pairs::fit::{Descent, Problem};
use crate::all_pairs::loss::{CrossEntropy, MapAffinity, MapKernel};

/// λ Σ P_ij ln(1 + d²_ij) + ln Σ_ij 1/(1 + d²_ij). The sum includes the pairs i = j, as in TorchDR.
/// Compared with the paper, these are n terms of a sum of the order of n², and change the gradient
/// by about 0.1 %.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Tsne {
    /// P. Default: entropic, perplexity 30, the 90 nearest neighbours.
    pub affinity: Entropic,
    /// The cost of a pair of rows. Default: sqeuclidean.
    pub cost: Cost,
    /// Default: SGD, 2000 iterations, the first 250 with an exaggeration of 12.
    pub descent: Descent,
}

impl Default for Tsne {
    fn default() -> Self {
        Tsne {
            affinity: Entropic::default(),
            cost: Cost::Sqeuclidean,
            descent: Descent { early_exaggeration: 12.0, ..Descent::default() },
        }
    }
}

impl AllPairsMethod for Tsne {
    fn problem(&self) -> Problem {
        Problem {
            affinity: Box::new(self.affinity.clone()),
            cost: self.cost,
            loss: Box::new(CrossEntropy {
                map: MapAffinity::Normalized(MapKernel::STUDENT, Normalization::All),
                count_itself: true,
                single: true,
            }),
            descent: self.descent.clone(),
        }
    }
}
