//! Plain kernels of the cost, normalised over rows, over all entries, or not at all.

use super::{AffinityWork, StreamedAffinity, check_nonnegative_cost, check_positive, self_cost};
use crate::Result;
use crate::all_pairs::costs::{Cost, Costs};
use crate::all_pairs::real::{self, MapFloat, wide};
use crate::all_pairs::weights::{ClosedForm, ClosedFormWeights, Dual, Weights};
use crate::observe::Progress;

/// The normalisation of an affinity: TorchDR's `normalization_dim`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// Each row sums to 1/n: TorchDR's 1.
    Rows,
    /// All entries together sum to 1: TorchDR's (0, 1), and the default.
    #[default]
    All,
    /// Not normalised: TorchDR's None.
    None,
}

/// P_ij = exp(−C_ij / σ), normalised.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct NormalizedGaussian {
    /// Bandwidth, above 0, in units of the cost. Default 1.
    pub sigma: f64,
    /// The normalisation. Default: all.
    pub normalization: Normalization,
    /// Whether the diagonal is 0. Default true.
    pub zero_diag: bool,
}

impl Default for NormalizedGaussian {
    fn default() -> Self {
        NormalizedGaussian { sigma: 1.0, normalization: Normalization::All, zero_diag: true }
    }
}

/// P_ij = (1 + C_ij / ν)^(−(ν + 1)/2), normalised.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct NormalizedStudent {
    /// ν, above 0. Default 1.
    pub degrees_of_freedom: f64,
    /// The normalisation. Default: all.
    pub normalization: Normalization,
    /// Whether the diagonal is 0. Default true.
    pub zero_diag: bool,
}

impl Default for NormalizedStudent {
    fn default() -> Self {
        NormalizedStudent { degrees_of_freedom: 1.0, normalization: Normalization::All, zero_diag: true }
    }
}

/// exp(−C · inverse − own). The dual is the logarithm of the divisor.
struct GaussianForm {
    inverse: f64,
}

impl ClosedForm for GaussianForm {
    // Not symmetric if rows are normalised, because the duals then differ.
    const SYMMETRIC: bool = false;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, _: Dual) -> f64 {
        MapFloat::exp(-cost * self.inverse - own[0])
    }
}

/// exp(−½ (ν + 1) ln(1 + C/ν) − own).
struct StudentForm {
    inverse: f64,
    exponent: f64,
}

impl ClosedForm for StudentForm {
    const SYMMETRIC: bool = false;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, _: Dual) -> f64 {
        // The logarithm of an infinite cost would be NaN.
        let log = real::ln((cost * self.inverse + 1.0).min(f64::MAX));
        MapFloat::exp(-self.exponent * log - own[0])
    }
}

/// Returns the duals with which `form` has the requested normalisation. `log_weight` returns the
/// logarithm of the form's weight for a cost; the row's largest weight is factored out before
/// exponentials are taken.
pub(super) fn normalize<F: ClosedForm>(
    costs: &Costs<'_>,
    zero_diag: bool,
    normalization: Normalization,
    form: &F,
    log_weight: impl Fn(f64) -> f64 + Sync,
    progress: &Progress<'_>,
) -> Result<Vec<Dual>> {
    let n = costs.len();
    let mut duals = vec![[0.0; 2]; n];
    if normalization == Normalization::None {
        return Ok(duals);
    }
    costs.each(self_cost(zero_diag), progress, &mut duals, 1, |met, dual| {
        let least = met.costs.iter().fold(f32::INFINITY, |least, &c| least.min(c));
        let most = log_weight(f64::from(least));
        let [sum] = wide(|| real::fold(met.costs, |cost| [form.weight(cost, [most, 0.0], [0.0; 2])]));
        dual[0][0] = most + sum.ln();
    })?;
    match normalization {
        Normalization::Rows => duals.iter_mut().for_each(|dual| dual[0] += (n as f64).ln()),
        _ => {
            let most = duals.iter().fold(f64::NEG_INFINITY, |most, d| most.max(d[0]));
            let all = most + real::sum(duals.iter().map(|d| (d[0] - most).exp())).ln();
            duals.fill([all, 0.0]);
        }
    }
    Ok(duals)
}

fn toll(n: usize) -> AffinityWork {
    let kept = 16 * n as u64;
    AffinityWork { peak: kept, kept, passes: 1.0, operations: 15.0 * (n * n) as f64, rereads: true }
}

impl StreamedAffinity for NormalizedGaussian {
    fn name(&self) -> &'static str {
        "gaussian"
    }
    fn check(&self, _: usize) -> Result<()> {
        check_positive("sigma", self.sigma)
    }
    fn work_estimate(&self, n: usize) -> AffinityWork {
        toll(n)
    }
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        self.check(costs.len())?;
        let form = GaussianForm { inverse: 1.0 / self.sigma };
        let log = |cost: f64| -cost / self.sigma;
        let duals = normalize(costs, self.zero_diag, self.normalization, &form, log, progress)?;
        Ok(Weights::Tiled(ClosedFormWeights::new(costs, self_cost(self.zero_diag), form, duals)))
    }
}

impl StreamedAffinity for NormalizedStudent {
    fn name(&self) -> &'static str {
        "student"
    }
    fn check(&self, _: usize) -> Result<()> {
        check_positive("degrees_of_freedom", self.degrees_of_freedom)
    }
    fn check_cost(&self, cost: Cost) -> Result<()> {
        check_nonnegative_cost("student", cost)
    }

    fn work_estimate(&self, n: usize) -> AffinityWork {
        toll(n)
    }
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        self.check(costs.len())?;
        self.check_cost(costs.cost())?;
        let nu = self.degrees_of_freedom;
        let form = StudentForm { inverse: 1.0 / nu, exponent: 0.5 * (nu + 1.0) };
        let log = |cost: f64| -0.5 * (nu + 1.0) * (cost / nu).ln_1p();
        let duals = normalize(costs, self.zero_diag, self.normalization, &form, log, progress)?;
        Ok(Weights::Tiled(ClosedFormWeights::new(costs, self_cost(self.zero_diag), form, duals)))
    }
}
