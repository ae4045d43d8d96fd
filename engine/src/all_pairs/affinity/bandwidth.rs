//! Affinities whose bandwidth is the cost of each row's K-th nearest neighbour: self-tuning
//! (Zelnik-Manor, Perona 2004) and MAGIC (van Dijk et al. 2018).

use super::entropic::nearest;
use super::normalized::Normalization;
use super::{AffinityWork, StreamedAffinity, check_nonnegative_cost, config_error, self_cost};
use crate::all_pairs::costs::{Cost, Costs, SelfCost};
use crate::all_pairs::real::{self, MapFloat, wide};
use crate::all_pairs::weights::{ClosedForm, ClosedFormWeights, Dual, Weights};
use crate::neighbors::TieBreaker;
use crate::observe::Progress;
use crate::{Error, Result};

/// P_ij = exp(−C_ij / (σ_i σ_j)), where σ_i is the cost of row i's K-th nearest neighbour.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SelfTuning {
    /// K, from 1 to n − 1. Default 7.
    pub k: usize,
    /// The normalisation. Default: all. With `Rows`, each row sums to 1 and not to 1/n, as in
    /// TorchDR's code.
    pub normalization: Normalization,
    /// Whether the diagonal is 0. Default true. Otherwise a row is its own nearest neighbour.
    pub zero_diag: bool,
}

impl Default for SelfTuning {
    fn default() -> Self {
        SelfTuning { k: 7, normalization: Normalization::All, zero_diag: true }
    }
}

/// P = (A + Aᵀ)/2 with rows scaled to sum 1, where A_ij = exp(−C_ij / σ_i) and σ_i is the cost of
/// row i's K-th nearest neighbour. Rows sum to 1 and not to 1/n, as in TorchDR's code.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Magic {
    /// K, from 1 to n − 1. Default 7.
    pub k: usize,
    /// Whether the diagonal is 0. Default true. Otherwise a row is its own nearest neighbour.
    pub zero_diag: bool,
}

impl Default for Magic {
    fn default() -> Self {
        Magic { k: 7, zero_diag: true }
    }
}

/// The duals are 1/σ, and the logarithm of the row's divisor.
struct SelfTuningForm;

impl ClosedForm for SelfTuningForm {
    const SYMMETRIC: bool = false;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, other: Dual) -> f64 {
        MapFloat::exp(-cost * (own[0] * other[0]) - own[1])
    }
}

/// The duals are 1/σ, and half of the reciprocal of the row's sum.
struct MagicForm;

impl ClosedForm for MagicForm {
    const SYMMETRIC: bool = false;
    #[inline(always)]
    fn weight(&self, cost: f64, own: Dual, other: Dual) -> f64 {
        (MapFloat::exp(-cost * own[0]) + MapFloat::exp(-cost * other[0])) * own[1]
    }
}

fn check_k(k: usize, n: usize) -> Result<()> {
    if k == 0 || k >= n {
        return config_error("k", format!("{k} nearest neighbours of {n} distinct rows; give 1 to {}", n.max(1) - 1));
    }
    Ok(())
}

/// Returns the cost of each row's `k`-th nearest neighbour.
pub(super) fn kth_costs(costs: &Costs<'_>, itself: SelfCost, k: usize, progress: &Progress<'_>) -> Result<Vec<f64>> {
    let mut scales = vec![0.0; costs.len()];
    costs.each(itself, progress, &mut scales, 1, |met, scale| {
        let mut near = vec![(0.0, 0); k];
        nearest(met.costs, met.i, TieBreaker::new(0), &mut near);
        scale[0] = f64::from(near[k - 1].0);
    })?;
    if let Some(row) = scales.iter().position(|&s| !(s > 0.0 && s.is_finite())) {
        let what = format!(
            "the cost from row {row} to its neighbour number {k} is {}, which cannot be a bandwidth; drop copies of it, or raise k",
            scales[row]
        );
        return Err(Error::Data { what });
    }
    Ok(scales)
}

fn toll(n: usize) -> AffinityWork {
    let kept = 16 * n as u64;
    AffinityWork { peak: kept + 8 * n as u64, kept, passes: 2.0, operations: 20.0 * (n * n) as f64, rereads: true }
}

impl StreamedAffinity for SelfTuning {
    fn name(&self) -> &'static str {
        "self-tuning"
    }
    fn check(&self, n: usize) -> Result<()> {
        check_k(self.k, n)
    }
    fn check_cost(&self, cost: Cost) -> Result<()> {
        check_nonnegative_cost(self.name(), cost)
    }

    fn work_estimate(&self, n: usize) -> AffinityWork {
        toll(n)
    }
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        self.check(costs.len())?;
        self.check_cost(costs.cost())?;
        let own = self_cost(self.zero_diag);
        let mut duals: Vec<Dual> =
            kth_costs(costs, own, self.k, progress)?.into_iter().map(|sigma| [1.0 / sigma, 0.0]).collect();
        if self.normalization != Normalization::None {
            let mut logs = vec![0.0; duals.len()];
            costs.each(own, progress, &mut logs, 1, |met, log| log[0] = log_sum(met.costs, duals[met.i][0], &duals))?;
            if self.normalization == Normalization::All {
                let most = logs.iter().fold(f64::NEG_INFINITY, |most, &log| most.max(log));
                let all = most + real::sum(logs.iter().map(|&log| (log - most).exp())).ln();
                logs.fill(all);
            }
            duals.iter_mut().zip(logs).for_each(|(dual, log)| dual[1] = log);
        }
        Ok(Weights::Tiled(ClosedFormWeights::new(costs, own, SelfTuningForm, duals)))
    }
}

/// Returns ln Σ exp(−C / (σ σ')).
fn log_sum(costs: &[f32], own: f64, duals: &[Dual]) -> f64 {
    let exponents = || costs.iter().zip(duals).map(|(&cost, dual)| -f64::from(cost) * (own * dual[0]));
    let most = exponents().fold(f64::NEG_INFINITY, f64::max);
    let [sum] = wide(|| real::fold_with(costs, duals, |cost, other| [MapFloat::exp(-cost * (own * other[0]) - most)]));
    most + sum.ln()
}

impl StreamedAffinity for Magic {
    fn name(&self) -> &'static str {
        "magic"
    }
    fn check(&self, n: usize) -> Result<()> {
        check_k(self.k, n)
    }
    fn check_cost(&self, cost: Cost) -> Result<()> {
        check_nonnegative_cost(self.name(), cost)
    }

    fn work_estimate(&self, n: usize) -> AffinityWork {
        toll(n)
    }
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        self.check(costs.len())?;
        self.check_cost(costs.cost())?;
        let own = self_cost(self.zero_diag);
        let mut duals: Vec<Dual> =
            kth_costs(costs, own, self.k, progress)?.into_iter().map(|sigma| [1.0 / sigma, 0.5]).collect();
        // The K nearest contribute at least exp(−1)/2 each, so a sum is never 0.
        let mut sums = vec![0.0; duals.len()];
        costs.each(own, progress, &mut sums, 1, |met, sum| {
            let own = duals[met.i];
            [sum[0]] = wide(|| real::fold_with(met.costs, &duals, |cost, other| [MagicForm.weight(cost, own, other)]));
        })?;
        duals.iter_mut().zip(sums).for_each(|(dual, sum)| dual[1] /= sum);
        Ok(Weights::Tiled(ClosedFormWeights::new(costs, own, MagicForm, duals)))
    }
}
