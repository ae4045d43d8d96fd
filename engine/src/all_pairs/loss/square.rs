//! The square loss Σ (P_ij − Q_ij)², in f64.
//!
//! Let G_ij = ∂loss/∂ln Q_ij = 2 (Q_ij − P_ij) Q_ij. Through the normalisation, the derivative by
//! ln k_ij is H_ij = G_ij − Q_ij c_i, where c_i = n Σ_j G_ij if rows are normalised, Σ G if all
//! entries are, and 0 otherwise. The gradient is −2 Σ_j (H_ij + H_ji) w_ij (z_i − z_j), with w = −d
//! ln k/d(d²).

use super::cross_entropy::{SINKHORN_PASSES, kernel_sums};
use super::kernel::{MapAffinity, MapKernel, MapKernelFn, with_kernel};
use super::{ForceFactors, Loss, PreparedLoss};
use crate::Result;
use crate::all_pairs::affinity::Normalization;
use crate::all_pairs::points::{PointBlocks, block};
use crate::all_pairs::real::{LANES, sum, total, wide};
use crate::all_pairs::weights::Weights;
use crate::observe::Progress;

/// Σ (P_ij − Q_ij)², including the pairs i = j.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquareLoss {
    /// The map's affinity, Q.
    pub map: MapAffinity,
    /// Whether Q includes the kernel of a row with itself. TorchDR's affinities do not.
    pub count_itself: bool,
}

struct PreparedSquareLoss<'a> {
    options: SquareLoss,
    weights: &'a Weights<'a>,
    dual: Vec<f64>,
}

impl Loss for SquareLoss {
    fn name(&self) -> &'static str {
        "square"
    }

    fn check(&self) -> Result<()> {
        match self.map {
            MapAffinity::Normalized(kernel, _) | MapAffinity::Sinkhorn(kernel) => kernel.check(),
        }
    }

    fn exaggerates(&self) -> bool {
        false
    }

    fn work_estimate(&self, n: usize, width: usize) -> (u64, f64) {
        let passes = match self.map {
            MapAffinity::Normalized(_, Normalization::None) => 2.0,
            MapAffinity::Normalized(..) => 3.0,
            MapAffinity::Sinkhorn(_) => 2.0 + SINKHORN_PASSES as f64,
        };
        let bytes = PointBlocks::<f64>::bytes(n, width) + 56 * n as u64;
        (bytes, passes * (n as f64).powi(2) * (15.0 + 5.0 * width as f64))
    }

    fn prepare<'a>(
        &'a self,
        weights: &'a Weights<'a>,
        _: &[f32],
        _: usize,
        _: &Progress<'_>,
    ) -> Result<Box<dyn PreparedLoss + 'a>> {
        let dual = if matches!(self.map, MapAffinity::Sinkhorn(_)) { vec![0.0; weights.len()] } else { Vec::new() };
        Ok(Box::new(PreparedSquareLoss { options: *self, weights, dual }))
    }
}

impl PreparedLoss for PreparedSquareLoss<'_> {
    fn evaluate(
        &mut self,
        positions: &[f64],
        width: usize,
        _: ForceFactors,
        _: bool,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<f64> {
        let points = PointBlocks::<f64>::new(positions, width);
        let kernel = match self.options.map {
            MapAffinity::Normalized(kernel, _) | MapAffinity::Sinkhorn(kernel) => kernel,
        };
        with_kernel!(kernel, kernel => self.in_kernel(&points, kernel, width, gradient, progress))
    }

    fn carried_state(&mut self) -> Option<&mut Vec<f64>> {
        (!self.dual.is_empty()).then_some(&mut self.dual)
    }
}

impl PreparedSquareLoss<'_> {
    /// Returns a and b with Q_ij = k_ij a_i b_j.
    fn factors<K: MapKernelFn>(
        &mut self,
        points: &PointBlocks<f64>,
        kernel: K,
        progress: &Progress<'_>,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let n = self.weights.len();
        let (itself, ones) = (self.options.count_itself, vec![1.0; n]);
        let mut sums = vec![0.0; n];
        Ok(match self.options.map {
            MapAffinity::Normalized(_, Normalization::None) => (ones.clone(), ones),
            MapAffinity::Normalized(_, normalization) => {
                kernel_sums(points, kernel, itself, None, &mut sums, progress)?;
                if normalization == Normalization::All {
                    let all = sum(sums.iter().copied());
                    (vec![1.0 / all; n], ones)
                } else {
                    (sums.iter().map(|s| 1.0 / (s * n as f64)).collect(), ones)
                }
            }
            MapAffinity::Sinkhorn(_) => {
                for _ in 0..SINKHORN_PASSES {
                    let b: Vec<f64> = self.dual.iter().map(|f| f.exp()).collect();
                    kernel_sums(points, kernel, itself, Some(&b), &mut sums, progress)?;
                    self.dual.iter_mut().zip(&sums).for_each(|(f, s)| *f = 0.5 * (*f - s.ln()));
                }
                let b: Vec<f64> = self.dual.iter().map(|f| f.exp()).collect();
                (b.iter().map(|b| b / n as f64).collect(), b)
            }
        })
    }

    fn in_kernel<K: MapKernelFn>(
        &mut self,
        points: &PointBlocks<f64>,
        kernel: K,
        width: usize,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<f64> {
        let n = self.weights.len();
        let (a, b) = self.factors(points, kernel, progress)?;
        let itself = self.options.count_itself;
        // Without `count_itself`, the kernel of a row with itself is 0.
        let kernel = |i: usize, start: usize, squares: &[f64; LANES]| {
            let (mut k, mut w) = ([0.0; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                (k[lane], w[lane]) = kernel.at(squares[lane]);
            }
            if !itself && (start..start + LANES).contains(&i) {
                k[i - start] = 0.0;
            }
            (k, w)
        };

        // The loss, and Σ_j G_ij.
        let mut rows = vec![0.0; 2 * n];
        self.weights.each(progress, &mut rows, 2, |both, out| {
            wide(|| {
                let (mut squares_sum, mut slopes) = ([0.0; LANES], [0.0; LANES]);
                points.meet(both.i, |start, squares| {
                    let (k, _) = kernel(both.i, start, squares);
                    let (p, b) = (block(both.from, start), block(&b, start));
                    for lane in 0..LANES {
                        let q = k[lane] * a[both.i] * b[lane];
                        let gap = q - f64::from(p[lane]);
                        squares_sum[lane] += gap * gap;
                        slopes[lane] += 2.0 * gap * q;
                    }
                });
                out.copy_from_slice(&[total(squares_sum), total(slopes)]);
            });
        })?;
        let value = sum(rows.chunks_exact(2).map(|row| row[0]));
        let back: Vec<f64> = match self.options.map {
            MapAffinity::Normalized(_, Normalization::Rows) => {
                rows.chunks_exact(2).map(|row| n as f64 * row[1]).collect()
            }
            MapAffinity::Normalized(_, Normalization::All) => {
                vec![sum(rows.chunks_exact(2).map(|row| row[1])); n]
            }
            _ => vec![0.0; n],
        };

        self.weights.each(progress, gradient, width, |both, out| {
            let i = both.i;
            wide(|| {
                points.push(i, out, |start, squares| {
                    let (k, w) = kernel(i, start, squares);
                    let (from, to) = (block(both.from, start), block(both.to, start));
                    let (other_a, other_b, other_back) = (block(&a, start), block(&b, start), block(&back, start));
                    let mut factors = [0.0; LANES];
                    for lane in 0..LANES {
                        let (q, r) = (k[lane] * a[i] * other_b[lane], k[lane] * other_a[lane] * b[i]);
                        let own = q * (2.0 * (q - f64::from(from[lane])) - back[i]);
                        let other = r * (2.0 * (r - f64::from(to[lane])) - other_back[lane]);
                        factors[lane] = -2.0 * (own + other) * w[lane];
                    }
                    factors
                });
            });
        })?;
        Ok(value)
    }
}
