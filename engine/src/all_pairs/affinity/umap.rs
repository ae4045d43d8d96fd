//! UMAP's affinity over all pairs.

use super::root::bisect;
use super::{AffinityWork, StreamedAffinity, check_neighbors, self_cost};
use crate::Result;
use crate::all_pairs::costs::Costs;
use crate::all_pairs::real::{self, MapFloat, wide};
use crate::all_pairs::weights::{ClosedForm, ClosedFormWeights, Dual, Weights};
use crate::observe::Progress;

/// P = A + Aᵀ − A∘Aᵀ, where A_ij = exp(−(C_ij − ρ_i)/σ_i), ρ_i is the row's least cost, and σ_i is
/// such that the row of A sums to log₂(n_neighbors). As in TorchDR, P is dense and the cost is by
/// default the squared distance. The streamed UMAP instead uses the distance and the nearest
/// neighbours, as umap-learn does.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct UmapAffinity {
    /// Effective number of neighbours, above 1 and below n − 1. Default 30.
    pub n_neighbors: f64,
    /// The most bisection steps of the search for σ. Default 1000, of which about thirty are used.
    pub max_iter: usize,
    /// Whether the diagonal is 0. Default true.
    pub zero_diag: bool,
    /// Whether A and its transpose are combined. Default true; otherwise P = A.
    pub symmetrize: bool,
}

impl Default for UmapAffinity {
    fn default() -> Self {
        UmapAffinity { n_neighbors: 30.0, max_iter: 1000, zero_diag: true, symmetrize: true }
    }
}

/// The duals are ρ and 1/σ.
struct UmapDirectedForm;

impl ClosedForm for UmapDirectedForm {
    const SYMMETRIC: bool = false;
    #[inline(always)]
    fn weight(&self, cost: f64, [rho, inverse]: Dual, _: Dual) -> f64 {
        MapFloat::exp((rho - cost) * inverse)
    }
}

struct UmapUnionForm;

impl ClosedForm for UmapUnionForm {
    const SYMMETRIC: bool = true;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, other: Dual) -> f64 {
        let (a, b) = (UmapDirectedForm.weight(cost, own, other), UmapDirectedForm.weight(cost, other, own));
        (a + b) - a * b
    }
}

impl StreamedAffinity for UmapAffinity {
    fn name(&self) -> &'static str {
        "umap"
    }
    fn check(&self, n: usize) -> Result<()> {
        check_neighbors("n_neighbors", self.n_neighbors, n)
    }
    fn work_estimate(&self, n: usize) -> AffinityWork {
        let kept = 16 * n as u64;
        let operations = 35.0 * 12.0 * (n * n) as f64;
        AffinityWork { peak: kept, kept, passes: 1.0, operations, rereads: true }
    }
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        let n = costs.len();
        self.check(n)?;
        let target = self.n_neighbors.log2();
        let mut duals = vec![[0.0; 2]; n];
        costs.each(self_cost(self.zero_diag), progress, &mut duals, 1, |met, dual| {
            let rho = met.costs.iter().fold(f64::INFINITY, |least, &c| least.min(f64::from(c)));
            let gap = |sigma: f64| {
                let row = [rho, 1.0 / sigma];
                let [sum] = wide(|| real::fold(met.costs, |cost| [UmapDirectedForm.weight(cost, row, row)]));
                sum - target
            };
            dual[0] = [rho, 1.0 / bisect((1.0, 1.0), self.max_iter, gap)];
        })?;
        let own = self_cost(self.zero_diag);
        Ok(Weights::Tiled(if self.symmetrize {
            ClosedFormWeights::new(costs, own, UmapUnionForm, duals)
        } else {
            ClosedFormWeights::new(costs, own, UmapDirectedForm, duals)
        }))
    }
}
