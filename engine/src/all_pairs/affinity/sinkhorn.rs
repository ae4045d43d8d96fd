//! The Sinkhorn affinity: a kernel made doubly stochastic by the symmetric fixed-point iteration of
//! Feydy et al. (2019, equation 25).

use super::{AffinityWork, StreamedAffinity, check_nonnegative_cost, check_positive, self_cost};
use crate::all_pairs::costs::{Cost, Costs, SelfCost};
use crate::all_pairs::real::{self, MapFloat, wide};
use crate::all_pairs::weights::{ClosedForm, ClosedFormWeights, Dual, Weights};
use crate::observe::Progress;
use crate::{Error, Result};

/// The kernel that is made doubly stochastic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseKernel {
    /// exp(−C/ε), the default.
    #[default]
    Gaussian,
    /// (1 + C)^(−1/ε).
    Student,
}

/// P_ij = exp(f_i + f_j − C_ij/ε)/n, with f such that every row sums to 1/n. For the Student
/// kernel, C is replaced by ln(1 + C). f starts at 0 and moves half of the way to −ln Σ_j exp(f_j −
/// C_ij/ε) in each pass, until the remaining change is below `tol`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Sinkhorn {
    /// ε, above 0. Default 1.
    pub eps: f64,
    /// Tolerance: the Euclidean norm, over all rows, of the remaining change of f. Default 10⁻⁵.
    pub tol: f64,
    /// The most passes. Default 1000.
    pub max_iter: usize,
    /// The kernel. Default: Gaussian.
    pub base_kernel: BaseKernel,
    /// Whether the diagonal is 0. Default true.
    pub zero_diag: bool,
}

impl Default for Sinkhorn {
    fn default() -> Self {
        Sinkhorn { eps: 1.0, tol: 1e-5, max_iter: 1000, base_kernel: BaseKernel::Gaussian, zero_diag: true }
    }
}

/// exp(f_i + f_j − C/ε). The first dual is f, which finally includes the factor 1/n.
struct SinkhornGaussianForm {
    inverse: f64,
}

impl ClosedForm for SinkhornGaussianForm {
    const SYMMETRIC: bool = true;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, other: Dual) -> f64 {
        MapFloat::exp((own[0] + other[0]) - cost * self.inverse)
    }
}

/// The same form of ln(1 + C).
struct SinkhornStudentForm {
    inverse: f64,
}

impl ClosedForm for SinkhornStudentForm {
    const SYMMETRIC: bool = true;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, other: Dual) -> f64 {
        MapFloat::exp((own[0] + other[0]) - real::ln((cost + 1.0).min(f64::MAX)) * self.inverse)
    }
}

/// Computes −ln Σ_j exp(f_j + log K_ij) for every row.
fn row_log_sums<F: ClosedForm>(
    costs: &Costs<'_>,
    itself: SelfCost,
    form: &F,
    duals: &[Dual],
    out: &mut [f64],
    progress: &Progress<'_>,
) -> Result<()> {
    costs.each(itself, progress, out, 1, |met, out| {
        // The row's f of the last pass is used as a shift that keeps the sum near 1.
        let own = duals[met.i];
        let [sum] = wide(|| real::fold_with(met.costs, duals, |cost, other| [form.weight(cost, own, other)]));
        out[0] = own[0] - sum.ln();
    })
}

impl Sinkhorn {
    fn duals<F: ClosedForm>(&self, costs: &Costs<'_>, form: &F, progress: &Progress<'_>) -> Result<Vec<Dual>> {
        let n = costs.len();
        let (mut duals, mut wanted) = (vec![[0.0; 2]; n], vec![0.0; n]);
        // For f = 0 a row's sum may overflow or underflow, so its largest term is factored out.
        costs.each(self_cost(self.zero_diag), progress, &mut wanted, 1, |met, out| {
            let least = met.costs.iter().fold(f32::INFINITY, |least, &c| least.min(c));
            let most = form.weight(f64::from(least), [0.0; 2], [0.0; 2]).max(1e-300).ln();
            let [sum] = wide(|| real::fold(met.costs, |cost| [form.weight(cost, [-most, 0.0], [0.0; 2])]));
            out[0] = -most - sum.ln();
        })?;
        for pass in 0..self.max_iter {
            if pass > 0 {
                row_log_sums(costs, self_cost(self.zero_diag), form, &duals, &mut wanted, progress)?;
            }
            let mut left = 0.0;
            for (row, (dual, &wanted)) in duals.iter_mut().zip(&wanted).enumerate() {
                dual[0] = 0.5 * (dual[0] + wanted);
                if !dual[0].is_finite() {
                    let what = format!(
                        "the sinkhorn affinity of row {row} is not finite after {pass} passes: all other rows are too far for eps = {}; raise eps",
                        self.eps
                    );
                    return Err(Error::Data { what });
                }
                left += (dual[0] - wanted) * (dual[0] - wanted);
            }
            if left.sqrt() < self.tol {
                break;
            }
        }
        // The division by n, half of it for each of the two rows of a pair.
        duals.iter_mut().for_each(|dual| dual[0] -= 0.5 * (n as f64).ln());
        Ok(duals)
    }
}

impl StreamedAffinity for Sinkhorn {
    fn name(&self) -> &'static str {
        "sinkhorn"
    }
    fn check(&self, n: usize) -> Result<()> {
        check_positive("eps", self.eps)?;
        if n < 2 { super::config_error("affinity", "sinkhorn needs at least 2 distinct rows") } else { Ok(()) }
    }
    fn check_cost(&self, cost: Cost) -> Result<()> {
        match self.base_kernel {
            BaseKernel::Gaussian => Ok(()),
            BaseKernel::Student => check_nonnegative_cost("sinkhorn (student)", cost),
        }
    }

    fn work_estimate(&self, n: usize) -> AffinityWork {
        let kept = 16 * n as u64;
        // A few dozen passes are enough if ε suits the costs; a small ε needs more.
        let passes = self.max_iter.min(60) as f64;
        AffinityWork {
            peak: kept + 8 * n as u64,
            kept,
            passes,
            operations: passes * 15.0 * (n * n) as f64,
            rereads: true,
        }
    }
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        self.check(costs.len())?;
        let inverse = 1.0 / self.eps;
        let own = self_cost(self.zero_diag);
        Ok(Weights::Tiled(match self.base_kernel {
            BaseKernel::Gaussian => {
                let duals = self.duals(costs, &SinkhornGaussianForm { inverse }, progress)?;
                ClosedFormWeights::new(costs, own, SinkhornGaussianForm { inverse }, duals)
            }
            BaseKernel::Student => {
                self.check_cost(costs.cost())?;
                let duals = self.duals(costs, &SinkhornStudentForm { inverse }, progress)?;
                ClosedFormWeights::new(costs, own, SinkhornStudentForm { inverse }, duals)
            }
        }))
    }
}
