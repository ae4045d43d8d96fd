//! The doubly stochastic affinity with quadratic (ℓ₂) regularisation, most of whose entries are 0
//! (Zhang et al. 2023).

use super::{AffinityWork, StreamedAffinity, check_positive, self_cost};
use crate::Result;
use crate::all_pairs::costs::Costs;
use crate::all_pairs::optimizer::{Adam, OptimizerMoments};
use crate::all_pairs::real::{self, wide};
use crate::all_pairs::weights::{ClosedForm, ClosedFormWeights, Dual, Weights};
use crate::observe::Progress;

/// P_ij = max(0, f_i + f_j − C_ij) / (ε n), with f such that every row sums to 1/n. f is found by
/// dual ascent with Adam from f = 1.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DoublyStochasticQuadratic {
    /// ε, above 0, in units of the cost. Default 1.
    pub eps: f64,
    /// Tolerance: the Euclidean norm, over all rows, of n·P·1 − 1. Default 10⁻⁵.
    pub tol: f64,
    /// The most passes. Default 1000.
    pub max_iter: usize,
    /// Adam's learning rate. Default 1.
    pub lr: f64,
    /// Whether the diagonal is 0. Default true.
    pub zero_diag: bool,
}

impl Default for DoublyStochasticQuadratic {
    fn default() -> Self {
        DoublyStochasticQuadratic { eps: 1.0, tol: 1e-5, max_iter: 1000, lr: 1.0, zero_diag: true }
    }
}

/// The first dual is f; `scale` is 1/(ε n).
struct QuadraticForm {
    scale: f64,
}

impl ClosedForm for QuadraticForm {
    const SYMMETRIC: bool = true;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, other: Dual) -> f64 {
        let room = (own[0] + other[0]) - cost;
        if room > 0.0 { room * self.scale } else { 0.0 }
    }
}

impl StreamedAffinity for DoublyStochasticQuadratic {
    fn name(&self) -> &'static str {
        "quadratic"
    }
    fn check(&self, n: usize) -> Result<()> {
        check_positive("eps", self.eps)?;
        check_positive("lr", self.lr)?;
        if n < 2 { super::config_error("affinity", "quadratic needs at least 2 distinct rows") } else { Ok(()) }
    }
    fn work_estimate(&self, n: usize) -> AffinityWork {
        let kept = 16 * n as u64;
        let passes = self.max_iter as f64;
        AffinityWork {
            peak: kept + 32 * n as u64,
            kept,
            passes,
            operations: passes * 4.0 * (n * n) as f64,
            rereads: true,
        }
    }
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        let n = costs.len();
        self.check(n)?;
        let (own, form) = (self_cost(self.zero_diag), QuadraticForm { scale: 1.0 / self.eps });
        let (mut duals, mut gradient) = (vec![[1.0, 0.0]; n], vec![0.0; n]);
        let (adam, mut moments) = (Adam::default(), OptimizerMoments::new(n, n));
        let mut dual = vec![1.0; n];
        for _ in 0..self.max_iter {
            costs.each(own, progress, &mut gradient, 1, |met, out| {
                let own = duals[met.i];
                let [sum] = wide(|| real::fold_with(met.costs, &duals, |cost, other| [form.weight(cost, own, other)]));
                out[0] = sum - 1.0;
            })?;
            // TorchDR takes one more step after the measurement; here the measured duals are kept.
            if real::sum(gradient.iter().map(|g| g * g)).sqrt() < self.tol {
                break;
            }
            adam.step(self.lr, &mut dual, &gradient, &mut moments);
            duals.iter_mut().zip(&dual).for_each(|(d, &f)| d[0] = f);
        }
        Ok(Weights::Tiled(ClosedFormWeights::new(
            costs,
            own,
            QuadraticForm { scale: 1.0 / (self.eps * n as f64) },
            duals,
        )))
    }
}
