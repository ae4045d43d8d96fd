//! Cross-entropy between P and the map's affinity Q. SNE, t-SNE and TSNEkhorn are this loss with
//! three kernels and normalisations.
//!
//! With the kernel k of d²_ij, w = −d ln k/d(d²), and p_i = Σ_j P_ij:
//!
//! | normalisation | repulsion | r_ij = ∂ repulsion / ∂ ln k_ij |
//! |---|---|---|
//! | rows | Σ_i p_i ln Σ_j k_ij | p_i k_ij / s_i |
//! | all | (Σ p) ln Σ_ij k_ij | (Σ p) k_ij / Z |
//! | sinkhorn | Σ_ij Q_ij, f constant | Q_ij |
//! | none | – | 0 |
//!
//! where s_i = Σ_j k_ij and Z = Σ_ij k_ij. The gradient is 2 Σ_j (λ(P_ij + P_ji) − (r_ij + r_ji))
//! w_ij (z_i − z_j). For `rows` and `sinkhorn`, r_ij + r_ji = k_ij (a_i b_j + b_i a_j) with factors
//! a, b for each row; for `all`, the factor is one number.

use super::kernel::{MapAffinity, MapKernel, MapKernelFn, with_kernel};
use super::{ForceFactors, Loss, PreparedLoss};
use crate::Result;
use crate::all_pairs::affinity::Normalization;
use crate::all_pairs::points::{PointBlocks, block, each_row};
use crate::all_pairs::real::{LANES, MapFloat, sum, total, wide};
use crate::all_pairs::weights::Weights;
use crate::observe::Progress;

/// The most passes over the map's pairs that update f in an iteration.
pub(super) const SINKHORN_PASSES: usize = 5;
/// The Euclidean norm of the remaining change of f below which f is not updated further.
const SINKHORN_TOL: f64 = 1e-5;

/// λ Σ P (−ln k) + the repulsion in the table of the module's source. For λ = 1 this equals −Σ P ln
/// Q, up to terms of P alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropy {
    /// The map's affinity, Q.
    pub map: MapAffinity,
    /// Whether the normalising sums include the kernel of a row with itself, which is 1. TorchDR's
    /// SNE and TSNE include it, its affinities do not.
    pub count_itself: bool,
    /// Whether pairs are computed in f32, which is four times as fast on most machines.
    pub single: bool,
}

struct PreparedCrossEntropy<'a> {
    options: CrossEntropy,
    weights: &'a Weights<'a>,
    /// Σ_j P_ij.
    marginals: Vec<f64>,
    /// Sinkhorn's f.
    dual: Vec<f64>,
}

impl Loss for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    /// The attraction of a Gaussian kernel grows with the distance without bound, by at most 8/n of
    /// the distance. A learning rate of 50 would make the distances of a few rows grow until they
    /// overflow.
    fn min_step(&self, n: usize) -> f64 {
        let (MapAffinity::Normalized(kernel, _) | MapAffinity::Sinkhorn(kernel)) = self.map;
        match kernel {
            MapKernel::Gaussian { .. } => 50f64.min(n as f64 / 3.0),
            MapKernel::Student { .. } => 50.0,
        }
    }

    fn check(&self) -> Result<()> {
        match self.map {
            MapAffinity::Normalized(kernel, _) | MapAffinity::Sinkhorn(kernel) => kernel.check(),
        }
    }

    fn work_estimate(&self, n: usize, width: usize) -> (u64, f64) {
        let points =
            if self.single { PointBlocks::<f32>::bytes(n, width) } else { PointBlocks::<f64>::bytes(n, width) };
        // The marginals, f, both factors, the sums, and the forces with one more number for each
        // row.
        let bytes = points + n as u64 * 8 * (6 + width as u64);
        let passes = match self.map {
            MapAffinity::Normalized(_, Normalization::All) => 1.0,
            MapAffinity::Normalized(_, Normalization::Rows) => 2.0,
            MapAffinity::Normalized(_, Normalization::None) => 0.0,
            MapAffinity::Sinkhorn(_) => 1.0 + SINKHORN_PASSES as f64,
        };
        (bytes, passes * (n as f64).powi(2) * (6.0 + 5.0 * width as f64))
    }

    fn prepare<'a>(
        &'a self,
        weights: &'a Weights<'a>,
        _: &[f32],
        _: usize,
        progress: &Progress<'_>,
    ) -> Result<Box<dyn PreparedLoss + 'a>> {
        let marginals = weights.marginals(progress)?;
        let dual = if matches!(self.map, MapAffinity::Sinkhorn(_)) { vec![0.0; weights.len()] } else { Vec::new() };
        Ok(Box::new(PreparedCrossEntropy { options: *self, weights, marginals, dual }))
    }
}

impl PreparedLoss for PreparedCrossEntropy<'_> {
    fn evaluate(
        &mut self,
        positions: &[f64],
        width: usize,
        strengths: ForceFactors,
        value: bool,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<f64> {
        let kernel = match self.options.map {
            MapAffinity::Normalized(kernel, _) | MapAffinity::Sinkhorn(kernel) => kernel,
        };
        attract(self.weights, kernel, positions, width, strengths.attraction, self.options.single, gradient, progress)?;
        let repulsion = if self.options.single {
            let points = PointBlocks::<f32>::new(positions, width);
            with_kernel!(kernel, kernel => self.repel(&points, kernel, width, strengths.repulsion, gradient, progress)?)
        } else {
            let points = PointBlocks::<f64>::new(positions, width);
            with_kernel!(kernel, kernel => self.repel(&points, kernel, width, strengths.repulsion, gradient, progress)?)
        };
        if !value {
            return Ok(f64::NAN);
        }
        let attraction = attraction(self.weights, kernel, positions, width, progress)?;
        // The contribution of f to −Σ P ln Q.
        let of_dual = sum(self.marginals.iter().zip(&self.dual).map(|(p, f)| 2.0 * p * f));
        Ok(strengths.attraction * (attraction - of_dual) + strengths.repulsion * repulsion)
    }

    fn carried_state(&mut self) -> Option<&mut Vec<f64>> {
        (!self.dual.is_empty()).then_some(&mut self.dual)
    }
}

impl PreparedCrossEntropy<'_> {
    /// Adds the repulsion's gradient, times `strength`, to `gradient`; returns the repulsion.
    fn repel<F: MapFloat, K: MapKernelFn>(
        &mut self,
        points: &PointBlocks<F>,
        kernel: K,
        width: usize,
        strength: f64,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<f64> {
        let n = self.marginals.len();
        let itself = self.options.count_itself;
        let (a, b, value) = match self.options.map {
            MapAffinity::Normalized(_, Normalization::None) => return Ok(0.0),
            MapAffinity::Normalized(_, Normalization::All) => {
                return self.repel_all(points, kernel, width, strength, gradient, progress);
            }
            MapAffinity::Normalized(_, Normalization::Rows) => {
                let mut sums = vec![0.0; n];
                kernel_sums(points, kernel, itself, None, &mut sums, progress)?;
                let value = sum(sums.iter().zip(&self.marginals).map(|(s, p)| p * s.ln()));
                let a: Vec<F> = sums.iter().zip(&self.marginals).map(|(s, p)| F::of(p / s)).collect();
                (a, vec![F::ONE; n], value)
            }
            MapAffinity::Sinkhorn(_) => self.renew(points, kernel, progress)?,
        };
        let mut forces = vec![0.0; n * width];
        each_row(&mut forces, width, progress, |i, force| {
            wide(|| {
                let (own_a, own_b) = (a[i], b[i]);
                points.push(i, force, |start, squares| {
                    let (a, b) = (block(&a, start), block(&b, start));
                    let mut factors = [F::default(); LANES];
                    for lane in 0..LANES {
                        let (k, w) = kernel.at(squares[lane]);
                        factors[lane] = k * w * (own_a * b[lane] + own_b * a[lane]);
                    }
                    factors
                });
            });
        })?;
        gradient.iter_mut().zip(&forces).for_each(|(g, f)| *g -= 2.0 * strength * f);
        Ok(value)
    }

    /// The repulsion normalised over all entries. One pass is enough, because the divisor is one
    /// number, which is applied at the end.
    fn repel_all<F: MapFloat, K: MapKernelFn>(
        &mut self,
        points: &PointBlocks<F>,
        kernel: K,
        width: usize,
        strength: f64,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<f64> {
        let n = self.marginals.len();
        let mut out = vec![0.0; n * (width + 1)];
        each_row(&mut out, width + 1, progress, |i, out| {
            let (force, sum) = out.split_at_mut(width);
            wide(|| {
                let mut lanes = [0.0; LANES];
                points.push(i, force, |_, squares| {
                    let mut factors = [F::default(); LANES];
                    for lane in 0..LANES {
                        let (k, w) = kernel.at(squares[lane]);
                        lanes[lane] += k.wide();
                        factors[lane] = k * w;
                    }
                    factors
                });
                sum[0] = total(lanes);
            });
        })?;
        let itself = if self.options.count_itself { 0.0 } else { n as f64 };
        let all = sum(out.chunks_exact(width + 1).map(|row| row[width])) - itself;
        let mass = sum(self.marginals.iter().copied());
        let scale = 4.0 * strength * mass / all;
        for (gradient, row) in gradient.chunks_exact_mut(width).zip(out.chunks_exact(width + 1)) {
            gradient.iter_mut().zip(row).for_each(|(g, f)| *g -= scale * f);
        }
        Ok(mass * all.ln())
    }

    /// Performs Sinkhorn's passes from the current f. Returns factors a and b with
    /// a_i b_j = e^(f_i + f_j)/n, and Σ Q.
    fn renew<F: MapFloat, K: MapKernelFn>(
        &mut self,
        points: &PointBlocks<F>,
        kernel: K,
        progress: &Progress<'_>,
    ) -> Result<(Vec<F>, Vec<F>, f64)> {
        let n = self.dual.len();
        let itself = self.options.count_itself;
        let mut sums = vec![0.0; n];
        let scaled = |dual: &[f64]| -> (f64, Vec<F>) {
            let most = dual.iter().fold(f64::NEG_INFINITY, |most, f| most.max(*f));
            (most, dual.iter().map(|f| F::of((f - most).exp())).collect())
        };
        for _ in 0..SINKHORN_PASSES {
            let (most, b) = scaled(&self.dual);
            kernel_sums(points, kernel, itself, Some(&b), &mut sums, progress)?;
            let mut left = 0.0;
            for (f, s) in self.dual.iter_mut().zip(&sums) {
                let wanted = -(s.max(f64::MIN_POSITIVE).ln() + most);
                *f = 0.5 * (*f + wanted);
                left += (*f - wanted) * (*f - wanted);
            }
            if left.sqrt() < SINKHORN_TOL {
                break;
            }
        }
        let (most, b) = scaled(&self.dual);
        kernel_sums(points, kernel, itself, Some(&b), &mut sums, progress)?;
        let scale = (2.0 * most).exp() / n as f64;
        let a = self.dual.iter().map(|f| F::of((f - most).exp() * scale)).collect();
        let value = sum(self.dual.iter().zip(&sums).map(|(f, s)| (f + most).exp() * s)) / n as f64;
        Ok((a, b, value))
    }
}

/// Computes Σ_j k_ij b_j of every row; b = 1 if `b` is not given.
pub(super) fn kernel_sums<F: MapFloat, K: MapKernelFn>(
    points: &PointBlocks<F>,
    kernel: K,
    itself: bool,
    b: Option<&[F]>,
    sums: &mut [f64],
    progress: &Progress<'_>,
) -> Result<()> {
    each_row(sums, 1, progress, |i, out| {
        let mut lanes = [0.0; LANES];
        wide(|| match b {
            None => points.meet(i, |_, squares| {
                for lane in 0..LANES {
                    lanes[lane] += kernel.at(squares[lane]).0.wide();
                }
            }),
            Some(b) => points.meet(i, |start, squares| {
                let b = block(b, start);
                for lane in 0..LANES {
                    lanes[lane] += (kernel.at(squares[lane]).0 * b[lane]).wide();
                }
            }),
        });
        // The kernel of a row with itself is exactly 1.
        let own = if itself { 0.0 } else { b.map_or(1.0, |b| b[i].wide()) };
        out[0] = (total(lanes) - own).max(f64::MIN_POSITIVE);
    })
}

/// Writes 2 · strength · Σ_j (P_ij + P_ji) w_ij (z_i − z_j).
#[expect(clippy::too_many_arguments, reason = "one call, of one pass over P")]
fn attract(
    weights: &Weights<'_>,
    kernel: MapKernel,
    positions: &[f64],
    width: usize,
    strength: f64,
    single: bool,
    gradient: &mut [f64],
    progress: &Progress<'_>,
) -> Result<()> {
    if let Weights::Sparse(sparse) = weights {
        return with_kernel!(kernel, kernel => each_row(gradient, width, progress, |i, out| {
            out.fill(0.0);
            let own = &positions[i * width..][..width];
            for entries in sparse.entries() {
                let (columns, values) = entries.of(i);
                for (&j, &p) in columns.iter().zip(values) {
                    let other = &positions[j as usize * width..][..width];
                    let square: f64 = own.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
                    let factor = 2.0 * strength * f64::from(p) * kernel.at(square).1;
                    for ((out, a), b) in out.iter_mut().zip(own).zip(other) {
                        *out += factor * (a - b);
                    }
                }
            }
        }));
    }
    if single {
        let points = PointBlocks::<f32>::new(positions, width);
        with_kernel!(kernel, kernel => attract_dense(weights, &points, kernel, width, gradient, progress)?);
    } else {
        let points = PointBlocks::<f64>::new(positions, width);
        with_kernel!(kernel, kernel => attract_dense(weights, &points, kernel, width, gradient, progress)?);
    }
    gradient.iter_mut().for_each(|g| *g *= 2.0 * strength);
    Ok(())
}

fn attract_dense<F: MapFloat, K: MapKernelFn>(
    weights: &Weights<'_>,
    points: &PointBlocks<F>,
    kernel: K,
    width: usize,
    gradient: &mut [f64],
    progress: &Progress<'_>,
) -> Result<()> {
    weights.each(progress, gradient, width, |both, out| {
        wide(|| {
            points.push(both.i, out, |start, squares| {
                let (from, to) = (block(both.from, start), block(both.to, start));
                let mut factors = [F::default(); LANES];
                for lane in 0..LANES {
                    let p = F::of(f64::from(from[lane])) + F::of(f64::from(to[lane]));
                    factors[lane] = p * kernel.at(squares[lane]).1;
                }
                factors
            });
        });
    })
}

/// Returns Σ P (−ln k).
fn attraction(
    weights: &Weights<'_>,
    kernel: MapKernel,
    positions: &[f64],
    width: usize,
    progress: &Progress<'_>,
) -> Result<f64> {
    let cost = |i: usize, j: usize| {
        let (a, b) = (&positions[i * width..][..width], &positions[j * width..][..width]);
        kernel.cost(a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum())
    };
    let mut rows = vec![0.0; weights.len()];
    if let Weights::Sparse(sparse) = weights {
        each_row(&mut rows, 1, progress, |i, out| {
            let (columns, values) = sparse.entries()[0].of(i);
            out[0] = sum(columns.iter().zip(values).map(|(&j, &p)| f64::from(p) * cost(i, j as usize)));
        })?;
    } else {
        weights.each(progress, &mut rows, 1, |both, out| {
            let terms = both.from.iter().enumerate();
            out[0] = sum(terms.map(|(j, &p)| if p > 0.0 { f64::from(p) * cost(both.i, j) } else { 0.0 }));
        })?;
    }
    Ok(sum(rows))
}
