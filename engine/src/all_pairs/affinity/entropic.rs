//! The entropic affinity: each row has its own temperature, chosen so that the row's entropy is
//! that of `perplexity` equally likely neighbours (Hinton, Roweis 2002).

use super::root::bisect;
use super::{AffinityWork, StreamedAffinity, check_neighbors, config_error, self_cost};
use crate::Result;
use crate::all_pairs::costs::Costs;
use crate::all_pairs::real::{self, MapFloat, wide};
use crate::all_pairs::weights::{ClosedForm, ClosedFormWeights, Dual, SparseEntries, SparseWeights, Weights};
use crate::neighbors::TieBreaker;
use crate::observe::Progress;

/// P_ij = exp(−C_ij / ε_i) / (n Σ_j' exp(−C_ij' / ε_i)), with ε_i such that −Σ_j p (ln p − 1) =
/// ln(perplexity) + 1 for the row p scaled to sum 1.
///
/// P is not symmetric. The losses move both ends of a pair, which is equivalent to (P + Pᵀ)/2.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Entropic {
    /// Effective number of neighbours, above 1 and below n − 1. Default 30.
    pub perplexity: f64,
    /// Whether to keep only each row's 3 · perplexity nearest neighbours, clamped to 2 … n − 2
    /// (TorchDR's `sparsity`). The omitted entries are small, and an iteration reads n · 3 ·
    /// perplexity entries instead of all pairs. Default true.
    pub sparse: bool,
    /// Whether the diagonal is 0. Default true. The diagonal of a sparse affinity is always 0.
    pub zero_diag: bool,
    /// The most bisection steps of the search for ε. Default 1000, of which about thirty are used.
    pub max_iter: usize,
}

impl Default for Entropic {
    fn default() -> Self {
        Entropic { perplexity: 30.0, sparse: true, zero_diag: true, max_iter: 1000 }
    }
}

/// exp(−(C − shift) / ε). The duals are 1/ε, and a constant that combines the shift with the row's
/// sum.
struct EntropicForm;

impl ClosedForm for EntropicForm {
    const SYMMETRIC: bool = false;
    #[inline(always)]
    fn weight(&self, cost: f64, [inverse, log_sum]: Dual, _: Dual) -> f64 {
        MapFloat::exp(-cost * inverse - log_sum)
    }
}

impl Entropic {
    /// Returns the number of neighbours that a sparse affinity of n rows keeps.
    pub fn n_neighbors(&self, n: usize) -> usize {
        ((3.0 * self.perplexity) as usize).clamp(2, n.saturating_sub(2).max(2))
    }

    /// Returns the row's 1/ε and ln Σ exp(−C/ε).
    fn calibrate(&self, costs: &[f32], n: usize) -> Dual {
        // Entropy and ε do not change if a constant is subtracted from all costs.
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for &cost in costs.iter().filter(|c| c.is_finite()) {
            (least, most) = (least.min(cost), most.max(cost));
        }
        let target = self.perplexity.ln() + 1.0;
        let gap = |epsilon: f64| {
            let (sum, moment) = sums(costs, least, 1.0 / epsilon);
            // −Σ p (ln p − 1) with p = w / sum and ln w = −(C − least) / ε.
            sum.ln() + moment / (sum * epsilon) + 1.0 - target
        };
        let bracket = bounds(costs, least, most, self.perplexity, n);
        // If more rows are tied as nearest than the perplexity, there is no root, and any small ε
        // is right. The floor is an ε below the precision of these costs.
        let floor = (1e-9 * f64::from(least.abs())).max(1e-150);
        let inverse = 1.0 / bisect(bracket, self.max_iter, gap).max(floor);
        let (sum, _) = sums(costs, least, inverse);
        [inverse, sum.ln() - f64::from(least) * inverse]
    }
}

/// Returns Σ exp(−(C − least)/ε) and Σ (C − least) exp(−(C − least)/ε).
fn sums(costs: &[f32], least: f32, inverse: f64) -> (f64, f64) {
    let least = f64::from(least);
    let [sum, moment] = wide(|| {
        real::fold(costs, |cost| {
            // An infinite cost has weight 0, and the product below must not become 0 · ∞.
            let beyond = (cost - least).min(1e300);
            let weight = if cost < f64::INFINITY { MapFloat::exp(-beyond * inverse) } else { 0.0 };
            [weight, weight * beyond]
        })
    });
    (sum, moment)
}

/// Returns a bracket of ε from the extreme costs (Vladymyrov, Carreira-Perpiñán 2013, theorem 5).
/// It is valid if the costs differ, and is only the start of the search.
fn bounds(costs: &[f32], least: f32, most: f32, perplexity: f64, n: usize) -> (f64, f64) {
    let n = n as f64;
    let (mut first, mut second) = (f32::INFINITY, f32::INFINITY);
    for &cost in costs {
        if cost < first {
            (first, second) = (cost, first);
        } else if cost < second {
            second = cost;
        }
    }
    let log = perplexity.min((2.0 * n).sqrt()).ln();
    // Solves ln ξ = 2 (1 − p) ln(N / (2 (1 − p))) for p; the right side falls with p.
    let (mut low, mut high) = (0.75, 1.0 - 1e-6);
    for _ in 0..60 {
        let p = 0.5 * (low + high);
        if log > 2.0 * (1.0 - p) * (n / (2.0 * (1.0 - p))).ln() { high = p } else { low = p }
    }
    let p = 0.5 * (low + high);
    let ratio = (n / perplexity).ln();
    let (d1, d2, dn) = (f64::from(least), f64::from(second), f64::from(most));
    let lower = (n * ratio / ((n - 1.0) * (dn - d1))).max((ratio / (dn * dn - d1 * d1)).sqrt());
    let upper = ((n - 1.0) * p / (1.0 - p)).ln() / (d2 - d1);
    (1.0 / upper, 1.0 / lower)
}

impl StreamedAffinity for Entropic {
    fn name(&self) -> &'static str {
        "entropic"
    }

    fn check(&self, n: usize) -> Result<()> {
        check_neighbors("perplexity", self.perplexity, n)?;
        if n > 2 && self.sparse && self.perplexity >= self.n_neighbors(n) as f64 {
            let why = format!(
                "{} is too large for the {} neighbours that are kept of {n} rows; give a smaller value, or `sparse: false`",
                self.perplexity,
                self.n_neighbors(n)
            );
            return config_error("perplexity", why);
        }
        Ok(())
    }

    fn work_estimate(&self, n: usize) -> AffinityWork {
        let operations = 35.0 * 12.0 * n as f64;
        if self.sparse {
            let entries = (n * self.n_neighbors(n)) as u64;
            let kept = SparseWeights::bytes(n, entries);
            // The list of neighbours is freed before the transpose is made.
            AffinityWork {
                peak: kept + 16 * n as u64,
                kept,
                passes: 1.0,
                operations: operations * self.n_neighbors(n) as f64,
                rereads: false,
            }
        } else {
            let kept = 16 * n as u64;
            AffinityWork { peak: kept, kept, passes: 1.0, operations: operations * n as f64, rereads: true }
        }
    }

    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        let n = costs.len();
        self.check(n)?;
        if !self.sparse {
            let mut duals = vec![[0.0; 2]; n];
            costs.each(self_cost(self.zero_diag), progress, &mut duals, 1, |met, dual| {
                let [inverse, log_sum] = self.calibrate(met.costs, n);
                dual[0] = [inverse, log_sum + (n as f64).ln()];
            })?;
            return Ok(Weights::Tiled(ClosedFormWeights::new(costs, self_cost(self.zero_diag), EntropicForm, duals)));
        }
        let k = self.n_neighbors(n);
        let mut near = vec![(0f32, 0u32); n * k];
        costs.each(self_cost(true), progress, &mut near, k, |met, out| {
            nearest(met.costs, met.i, TieBreaker::new(0), out);
            let costs = &mut met.spare[..k];
            costs.iter_mut().zip(&*out).for_each(|(cost, &(c, _))| *cost = c);
            let [inverse, log_sum] = self.calibrate(costs, n);
            let log_sum = log_sum + (n as f64).ln();
            for (weight, _) in out.iter_mut() {
                *weight = MapFloat::exp(-f64::from(*weight) * inverse - log_sum) as f32;
            }
            out.sort_unstable_by_key(|&(_, j)| j);
        })?;
        let entries = SparseEntries {
            offsets: (0..=n).map(|i| i * k).collect(),
            columns: near.iter().map(|&(_, j)| j).collect(),
            values: near.iter().map(|&(w, _)| w).collect(),
        };
        drop(near);
        Ok(Weights::Sparse(SparseWeights::from(entries)))
    }
}

/// Finds the rows of least cost; equal costs are ordered by their rank in `ties`.
pub(super) fn nearest(costs: &[f32], own: usize, ties: TieBreaker, out: &mut [(f32, u32)]) {
    let k = out.len();
    let rank = |row: u32| ties.rank(own as u32, row);
    let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then_with(|| rank(a.1).cmp(&rank(b.1)));
    // The candidates so far, unordered, and the cost that a further candidate may have at most.
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(2 * k);
    let mut bar = f32::INFINITY;
    for (j, &cost) in costs.iter().enumerate() {
        if cost <= bar || best.len() < k {
            best.push((cost, j as u32));
            if best.len() == 2 * k {
                best.select_nth_unstable_by(k - 1, order);
                best.truncate(k);
                bar = best[k - 1].0;
            }
        }
    }
    best.sort_unstable_by(order);
    out.copy_from_slice(&best[..k]);
}
