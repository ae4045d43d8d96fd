//! The symmetric entropic affinity: symmetric, doubly stochastic, and with the same entropy in
//! every row (Van Assel, Vayer, Flamary, Courty 2023).

use super::{AffinityWork, StreamedAffinity, check_neighbors, check_positive, self_cost};
use crate::all_pairs::costs::{Costs, SelfCost};
use crate::all_pairs::lbfgs;
use crate::all_pairs::optimizer::{Adam, OptimizerMoments};
use crate::all_pairs::real::{self, MapFloat, wide};
use crate::all_pairs::weights::{ClosedForm, ClosedFormWeights, Dual, Weights};
use crate::observe::Progress;
use crate::{Error, Result};

/// The solver for the duals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DualSolver {
    /// Adam, with one pass for each iteration. TorchDR's default.
    #[default]
    Adam,
    /// L-BFGS with a strong Wolfe line search: a few dozen iterations of one or two passes each.
    Lbfgs,
}

/// P_ij = exp((μ_i + μ_j − 2 C_ij)/(ε_i + ε_j))/n, with μ and ε such that the rows of n·P sum to 1
/// and have the entropy −Σ p (ln p − 1) = ln(perplexity) + 1.
///
/// The concave dual is maximised from μ = 1, e = 1, where ε = e² or ε = e.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SymmetricEntropic {
    /// Effective number of neighbours, above 1 and below n − 1. Default 30.
    pub perplexity: f64,
    /// The solver. Default: Adam.
    pub solver: DualSolver,
    /// The solver's learning rate, or first step. Default 0.1; 1 suits L-BFGS.
    pub lr: f64,
    /// Whether ε is the square of the optimised variable. Default true.
    pub eps_square: bool,
    /// Tolerance for the Euclidean norms of the gradients by μ and by e. Default 10⁻³.
    pub tol: f64,
    /// The most iterations. Default 500.
    pub max_iter: usize,
    /// Whether the diagonal is 0. Default true, and false in [`crate::all_pairs::TsneKhorn`].
    pub zero_diag: bool,
}

impl Default for SymmetricEntropic {
    fn default() -> Self {
        SymmetricEntropic {
            perplexity: 30.0,
            solver: DualSolver::Adam,
            lr: 0.1,
            eps_square: true,
            tol: 1e-3,
            max_iter: 500,
            zero_diag: true,
        }
    }
}

/// The least ε, because a sum of two ε is a divisor.
const MIN_EPSILON: f64 = 1e-10;

/// The duals are μ and ε; `log_n` is subtracted from the exponent.
struct SymmetricEntropicForm {
    log_n: f64,
}

impl ClosedForm for SymmetricEntropicForm {
    const SYMMETRIC: bool = true;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, other: Dual) -> f64 {
        MapFloat::exp(exponent(cost, own, other) - self.log_n)
    }
}

#[inline(always)]
fn exponent(cost: f64, own: Dual, other: Dual) -> f64 {
    ((own[0] + other[0]) - 2.0 * cost) / (own[1] + other[1])
}

/// The dual problem, as a function of (e, μ) to be minimised.
struct DualProblem<'a> {
    options: &'a SymmetricEntropic,
    costs: &'a Costs<'a>,
    itself: SelfCost,
    duals: Vec<Dual>,
    /// The sum and the entropy of each row of n·P.
    rows: Vec<f64>,
}

impl DualProblem<'_> {
    fn set(&mut self, parameters: &[f64]) {
        let (e, mu) = parameters.split_at(self.duals.len());
        for ((dual, &e), &mu) in self.duals.iter_mut().zip(e).zip(mu) {
            let epsilon = if self.options.eps_square { e * e } else { e };
            *dual = [mu, epsilon.max(MIN_EPSILON)];
        }
    }

    /// Returns the value and computes the gradient by e and by μ. The value is Σ ε_i Σ_j P_ij − Σ
    /// ε_i (ln perplexity + 1) − Σ μ_i, the Lagrangian −⟨P, C⟩ + ⟨ε, H − h⟩ + ⟨μ, P1 − 1⟩ at the P
    /// that maximises it.
    fn evaluate(&mut self, parameters: &[f64], gradient: &mut [f64], progress: &Progress<'_>) -> Result<f64> {
        self.set(parameters);
        let duals = &self.duals;
        self.costs.each(self.itself, progress, &mut self.rows, 2, |met, out| {
            let own = duals[met.i];
            let [sum, moment] = wide(|| {
                real::fold_with(met.costs, duals, |cost, other| {
                    // Prevents 0 · −∞, which is NaN.
                    let x = exponent(cost, own, other).max(-700.0);
                    let p = MapFloat::exp(x);
                    [p, p * x]
                })
            });
            out.copy_from_slice(&[sum, sum - moment]);
        })?;
        let target = self.options.perplexity.ln() + 1.0;
        let (by_e, by_mu) = gradient.split_at_mut(duals.len());
        for (i, row) in self.rows.chunks_exact(2).enumerate() {
            let gap = row[1] - target;
            by_e[i] = if self.options.eps_square { 2.0 * parameters[i] * gap } else { gap };
            by_mu[i] = row[0] - 1.0;
        }
        let terms = duals.iter().zip(self.rows.chunks_exact(2));
        Ok(real::sum(terms.map(|(&[mu, epsilon], row)| epsilon * (row[0] - target) - mu)))
    }

    fn done(&self, gradient: &[f64]) -> bool {
        let (by_e, by_mu) = gradient.split_at(self.duals.len());
        let length = |g: &[f64]| real::sum(g.iter().map(|g| g * g)).sqrt();
        length(by_e) < self.options.tol && length(by_mu) < self.options.tol
    }
}

impl StreamedAffinity for SymmetricEntropic {
    fn name(&self) -> &'static str {
        "symmetric-entropic"
    }

    fn check(&self, n: usize) -> Result<()> {
        check_neighbors("perplexity", self.perplexity, n)?;
        check_positive("lr", self.lr)?;
        check_positive("tol", self.tol)
    }

    fn work_estimate(&self, n: usize) -> AffinityWork {
        let kept = 16 * n as u64;
        let (passes, numbers) = match self.solver {
            DualSolver::Adam => (self.max_iter as f64, 8),
            DualSolver::Lbfgs => (self.max_iter.min(80) as f64, 4 * lbfgs::HISTORY + 12),
        };
        let operations = passes * 25.0 * (n * n) as f64;
        AffinityWork { peak: kept + 16 * n as u64 * (numbers as u64 + 1), kept, passes, operations, rereads: true }
    }

    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        let n = costs.len();
        self.check(n)?;
        let own = self_cost(self.zero_diag);
        let mut problem =
            DualProblem { options: self, costs, itself: own, duals: vec![[1.0; 2]; n], rows: vec![0.0; 2 * n] };
        let (mut parameters, mut gradient) = (vec![1.0; 2 * n], vec![0.0; 2 * n]);
        match self.solver {
            DualSolver::Adam => {
                let (adam, mut moments) = (Adam::default(), OptimizerMoments::new(2 * n, 2 * n));
                for _ in 0..self.max_iter {
                    problem.evaluate(&parameters, &mut gradient, progress)?;
                    if problem.done(&gradient) || gradient.iter().any(|g| !g.is_finite()) {
                        break;
                    }
                    adam.step(self.lr, &mut parameters, &gradient, &mut moments);
                    if !self.eps_square {
                        parameters[..n].iter_mut().for_each(|e| *e = e.max(MIN_EPSILON));
                    }
                }
            }
            DualSolver::Lbfgs => {
                let limits = lbfgs::LbfgsLimits { first_step: self.lr, max_iter: self.max_iter };
                lbfgs::minimize(&mut parameters, limits, |x, gradient| {
                    let value = problem.evaluate(x, gradient, progress)?;
                    Ok((value, problem.done(gradient)))
                })?;
            }
        }
        problem.set(&parameters);
        if problem.duals.iter().flatten().any(|x| !x.is_finite()) {
            let what = format!(
                "the duals of the symmetric entropic affinity became infinite; lower lr (it is {}), or scale the data, whose costs should be of the order of 1",
                self.lr
            );
            return Err(Error::Data { what });
        }
        let duals = problem.duals;
        Ok(Weights::Tiled(ClosedFormWeights::new(costs, own, SymmetricEntropicForm { log_n: (n as f64).ln() }, duals)))
    }
}
