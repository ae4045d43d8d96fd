//! PHATE's affinity: the negative distances between the rows' diffusion potentials (Moon et al.
//! 2019). The only dense affinity, because it needs a power of an n × n matrix.
//!
//! What must hold: products are computed in a fixed order, with separate multiplications and
//! additions, so that threads and instruction sets do not change the result.

use rayon::prelude::*;

use super::bandwidth::kth_costs;
use super::{AffinityWork, StreamedAffinity, check_nonnegative_cost, check_positive, config_error};
use crate::all_pairs::costs::{Cost, Costs, SelfCost};
use crate::all_pairs::real::{self, MapFloat, ln, wide};
use crate::all_pairs::weights::{DenseWeights, Weights};
use crate::config::PHATE_ROWS;
use crate::observe::Progress;
use crate::{Error, Result};

/// P_ij = −|u_i − u_j|, where u_i = −ln max(row i of Mᵗ, 10⁻¹²). M is A with rows scaled to sum 1;
/// A is the mean of exp(−(C_ij/σ_i)^α) and its transpose, and σ_i is the cost of row i's k-th
/// nearest row, row i included. Computed in f64.
///
/// The cost should be the Euclidean distance ([`crate::all_pairs::Cost::Euclidean`]).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct PhateAffinity {
    /// k, counting the row itself, from 2 to n. Default 5.
    pub k: usize,
    /// α, above 0. Default 10.
    pub alpha: f64,
    /// The number of diffusion steps, t. Default 5, and 100 in [`crate::all_pairs::Phate`].
    pub t: u32,
}

impl Default for PhateAffinity {
    fn default() -> Self {
        PhateAffinity { k: 5, alpha: 10.0, t: 5 }
    }
}

impl StreamedAffinity for PhateAffinity {
    fn name(&self) -> &'static str {
        "phate"
    }

    fn check(&self, n: usize) -> Result<()> {
        check_positive("alpha", self.alpha)?;
        if n > PHATE_ROWS {
            let why = format!(
                "phate takes a power of a matrix of all pairs, which for {n} rows is {} and {:.0}·10¹² operations; it is for up to {PHATE_ROWS} rows: take a sample, or umap or pacmap, which stream",
                crate::format_bytes(24 * (n as u64).pow(2)),
                self.products() * 2.0 * (n as f64).powi(3) / 1e12
            );
            return config_error("method", why);
        }
        if self.k < 2 || self.k > n {
            return config_error(
                "k",
                format!("{} nearest of {n} distinct rows, counting the row itself; give 2 to {n}", self.k),
            );
        }
        Ok(())
    }

    fn check_cost(&self, cost: Cost) -> Result<()> {
        check_nonnegative_cost(self.name(), cost)
    }

    fn work_estimate(&self, n: usize) -> AffinityWork {
        let square = (n as u64).pow(2);
        AffinityWork {
            peak: 24 * square,
            kept: 4 * square,
            passes: 2.0,
            operations: (self.products() + 1.0) * 2.0 * (n as f64).powi(3),
            rereads: true,
        }
    }

    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>> {
        let n = costs.len();
        self.check(n)?;
        self.check_cost(costs.cost())?;
        // The k-th nearest row including the row itself is the (k − 1)-th without it.
        let sigma = kth_costs(costs, SelfCost::Infinite, self.k - 1, progress)?;
        let mut matrix = vec![0.0; n * n];
        costs.each(SelfCost::Computed, progress, &mut matrix, n, |met, out| {
            let kernel = |cost: f64, sigma: f64| MapFloat::exp(-(cost / sigma).powf(self.alpha));
            for ((out, &cost), &other) in out.iter_mut().zip(met.costs).zip(&sigma) {
                let cost = f64::from(cost);
                *out = 0.5 * (kernel(cost, sigma[met.i]) + kernel(cost, other));
            }
            let sum = real::sum(out.iter().copied());
            out.iter_mut().for_each(|x| *x /= sum);
        })?;
        let mut potentials = power(matrix, n, self.t, progress)?;
        potentials.par_iter_mut().for_each(|x| *x = -ln(x.max(1e-12)));
        let mut out = vec![0f32; n * n];
        out.par_chunks_mut(n).enumerate().try_for_each(|(i, out)| {
            progress.check()?;
            let own = &potentials[i * n..][..n];
            for (out, other) in out.iter_mut().zip(potentials.chunks_exact(n)) {
                let squares = wide(|| squares(own, other));
                *out = -(squares.sqrt() as f32);
            }
            Ok::<(), Error>(())
        })?;
        Ok(Weights::Dense(DenseWeights::symmetric(n, out)))
    }
}

impl PhateAffinity {
    /// Returns the number of matrix products in the t-th power.
    fn products(&self) -> f64 {
        f64::from(self.t.max(1).ilog2() + self.t.count_ones().saturating_sub(1))
    }
}

#[inline(always)]
fn squares(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; real::LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<{ real::LANES }>(), b.as_chunks::<{ real::LANES }>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..real::LANES {
            lanes[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += (a - b) * (a - b);
    }
    real::total(lanes)
}

/// Returns the t-th power of an n × n matrix, by repeated squaring; the identity for t = 0.
fn power(mut base: Vec<f64>, n: usize, mut t: u32, progress: &Progress<'_>) -> Result<Vec<f64>> {
    let mut result: Option<Vec<f64>> = None;
    let mut spare = vec![0.0; n * n];
    while t > 0 {
        if t & 1 == 1 {
            match &mut result {
                None if t == 1 => return Ok(base),
                None => result = Some(base.clone()),
                Some(result) => {
                    product(result, &base, n, &mut spare, progress)?;
                    std::mem::swap(result, &mut spare);
                }
            }
        }
        t >>= 1;
        if t > 0 {
            product(&base, &base, n, &mut spare, progress)?;
            std::mem::swap(&mut base, &mut spare);
        }
    }
    Ok(result.unwrap_or_else(|| {
        spare.fill(0.0);
        spare.iter_mut().step_by(n + 1).for_each(|x| *x = 1.0);
        spare
    }))
}

/// Rows and columns of the product whose sums stay in registers.
const HEIGHT: usize = 4;
const WIDTH: usize = 8;
/// Columns of `b` that are processed together. With AVX2, 2,000 rows of them fill a core's
/// second-level cache.
const BLOCK: usize = 64;

/// Computes out = a · b. Each entry is one sum over the rows of b, in order.
fn product(a: &[f64], b: &[f64], n: usize, out: &mut [f64], progress: &Progress<'_>) -> Result<()> {
    let tall = 32 * HEIGHT;
    out.par_chunks_mut(tall * n).zip(a.par_chunks(tall * n)).try_for_each_init(
        || vec![0.0; n * BLOCK],
        |panel, (out, a)| {
            for first in (0..n).step_by(BLOCK) {
                progress.check()?;
                let block = BLOCK.min(n - first);
                // Copied so that eight columns are adjacent; missing columns are 0.
                for (w, strip) in panel.chunks_exact_mut(n * WIDTH).enumerate() {
                    for (row, place) in strip.chunks_exact_mut(WIDTH).enumerate() {
                        for (c, place) in place.iter_mut().enumerate() {
                            let column = w * WIDTH + c;
                            *place = if column < block { b[row * n + first + column] } else { 0.0 };
                        }
                    }
                }
                for (out, a) in out.chunks_mut(HEIGHT * n).zip(a.chunks(HEIGHT * n)) {
                    let count = a.len() / n;
                    let rows: [&[f64]; HEIGHT] = std::array::from_fn(|q| &a[q.min(count - 1) * n..][..n]);
                    for (w, strip) in panel.chunks_exact(n * WIDTH).enumerate().take(block.div_ceil(WIDTH)) {
                        let sums = wide(|| strip_product(&rows, strip));
                        for (q, out) in out.chunks_exact_mut(n).enumerate() {
                            let start = first + w * WIDTH;
                            let width = WIDTH.min(n - start);
                            out[start..start + width].copy_from_slice(&sums[q][..width]);
                        }
                    }
                }
            }
            Ok(())
        },
    )
}

#[inline(always)]
fn strip_product(rows: &[&[f64]; HEIGHT], strip: &[f64]) -> [[f64; WIDTH]; HEIGHT] {
    let mut sums = [[0.0; WIDTH]; HEIGHT];
    let (strip, _) = strip.as_chunks::<WIDTH>();
    let [r0, r1, r2, r3] = rows;
    for ((((b, &x0), &x1), &x2), &x3) in strip.iter().zip(*r0).zip(*r1).zip(*r2).zip(*r3) {
        for (sums, x) in sums.iter_mut().zip([x0, x1, x2, x3]) {
            for c in 0..WIDTH {
                sums[c] += x * b[c];
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_repeated_products() {
        for n in [1, 3, 9, 70, 131] {
            let matrix: Vec<f64> = (0..n * n).map(|i| ((i * 37 % 101) as f64 - 50.0) / (60.0 * n as f64)).collect();
            let mut truth: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect();
            for t in 0..8 {
                let found = power(matrix.clone(), n, t, &Progress::silent()).expect("a power");
                for (a, b) in found.iter().zip(&truth) {
                    assert!((a - b).abs() < 1e-14, "{n} {t}: {a} {b}");
                }
                let old = truth.clone();
                for (i, place) in truth.iter_mut().enumerate() {
                    *place = (0..n).map(|k| old[i / n * n + k] * matrix[k * n + i % n]).sum();
                }
            }
        }
    }
}
