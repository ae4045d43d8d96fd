//! CO-SNE's loss (Guo, Guo, Yu 2022), in the Poincaré ball and in f64.
//!
//! With D_ij = d_H(z_i, z_j)², q = γ/(D + γ²) and Y_i = d_H(z_i, 0)², the loss is λ Σ P_ij (−ln
//! q_ij) + ln Σ_ij q_ij + h · mean_i (|x_i|² − Y_i)². d_H is arccosh(A + 10⁻⁸), A_ij = 1 + 2|z_i −
//! z_j|²/(α_i α_j), α = 1 − |z|², and ∂A_ij/∂z_i = 4(z_i − z_j)/(α_i α_j) + 4|z_i − z_j|² z_i/(α_i²
//! α_j).

use super::{ForceFactors, Loss, PreparedLoss};
use crate::Result;
use crate::all_pairs::affinity::{check_positive, config_error};
use crate::all_pairs::poincare;
use crate::all_pairs::points::{PointBlocks, block, each_row};
use crate::all_pairs::real::{LANES, ln, sum, total, wide};
use crate::all_pairs::weights::{WeightRow, Weights};
use crate::observe::Progress;

/// TorchDR's COSNE objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HyperbolicCauchy {
    /// γ, above 0. Default 2.
    pub gamma: f64,
    /// h, the weight of the term by which a point's distance to the origin follows the norm of its
    /// row; not negative. Default 1.
    pub h: f64,
}

impl Default for HyperbolicCauchy {
    fn default() -> Self {
        HyperbolicCauchy { gamma: 2.0, h: 1.0 }
    }
}

struct PreparedHyperbolic<'a> {
    options: HyperbolicCauchy,
    weights: &'a Weights<'a>,
    /// |x_i|².
    lengths: Vec<f64>,
}

impl Loss for HyperbolicCauchy {
    fn name(&self) -> &'static str {
        "hyperbolic"
    }

    fn check(&self) -> Result<()> {
        check_positive("gamma", self.gamma)?;
        if self.h >= 0.0 && self.h.is_finite() {
            Ok(())
        } else {
            config_error("h", format!("{} is not 0 or more", self.h))
        }
    }

    fn hyperbolic(&self) -> bool {
        true
    }

    fn work_estimate(&self, n: usize, width: usize) -> (u64, f64) {
        let bytes = PointBlocks::<f64>::bytes(n, width) + 8 * n as u64 * (2 * width as u64 + 5);
        (bytes, (n as f64).powi(2) * (80.0 + 5.0 * width as f64))
    }

    fn prepare<'a>(
        &'a self,
        weights: &'a Weights<'a>,
        rows: &[f32],
        dim: usize,
        progress: &Progress<'_>,
    ) -> Result<Box<dyn PreparedLoss + 'a>> {
        if rows.is_empty() && self.h > 0.0 {
            return config_error("h", "a given affinity has no rows whose lengths the map could follow; set h to 0");
        }
        let length = |row: &[f32]| sum(row.iter().map(|&x| f64::from(x) * f64::from(x)));
        let lengths =
            if rows.is_empty() { vec![0.0; weights.len()] } else { rows.chunks_exact(dim).map(length).collect() };
        let farthest = poincare::max_distance().powi(2);
        let beyond = lengths.iter().filter(|&&length| length > farthest).count();
        if self.h > 0.0 && 2 * beyond > lengths.len() {
            progress.warn(
                "rows-beyond-ball",
                format!(
                    "{beyond} of {} rows are too long for the Poincaré ball: a point's squared distance to its middle \
                 follows the row's squared length, and is at most {farthest:.0}; their points go to the rim, \
                 where neighbours are lost. Divide all rows by their mean length first",
                    lengths.len()
                ),
            )?;
        }
        Ok(Box::new(PreparedHyperbolic { options: *self, weights, lengths }))
    }
}

/// Returns D and dD/dA for A ≥ 1. Near A = 1 both are finite because of the added 10⁻⁸ (as in
/// TorchDR).
#[inline(always)]
fn squared_distance(a: f64) -> (f64, f64) {
    let a = a + 1e-8;
    let root = ((a - 1.0) * (a + 1.0)).max(1e-300).sqrt();
    let d = ln(a + root);
    (d * d, 2.0 * d / root)
}

impl PreparedLoss for PreparedHyperbolic<'_> {
    fn evaluate(
        &mut self,
        positions: &[f64],
        width: usize,
        strengths: ForceFactors,
        value: bool,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<f64> {
        let n = self.weights.len();
        let points = PointBlocks::<f64>::new(positions, width);
        let room = |z: &[f64]| (1.0 - z.iter().map(|z| z * z).sum::<f64>()).max(1e-15);
        let rooms: Vec<f64> = positions.chunks_exact(width).map(room).collect();
        let gamma = self.options.gamma;

        // Repulsion: Σ_j q²·dD/dA·∂A/∂z, the part of ∂A in the direction of z_i, and Σ_j q.
        let mut push = vec![0.0; n * (width + 2)];
        each_row(&mut push, width + 2, progress, |i, out| {
            let (force, rest) = out.split_at_mut(width);
            wide(|| {
                let (mut q_sum, mut along) = ([0.0; LANES], [0.0; LANES]);
                points.push(i, force, |start, squares| {
                    let others = block(&rooms, start);
                    let mut factors = [0.0; LANES];
                    for lane in 0..LANES {
                        let there = if start + lane < n { 1.0 } else { 0.0 };
                        let product = rooms[i] * (others[lane] + (1.0 - there));
                        let square = there * squares[lane];
                        let (distance, slope) = squared_distance(1.0 + 2.0 * square / product);
                        let q = there * gamma / (distance + gamma * gamma);
                        let factor = 4.0 * q * q * slope / product;
                        q_sum[lane] += q;
                        along[lane] += factor * square;
                        factors[lane] = factor;
                    }
                    factors
                });
                rest.copy_from_slice(&[total(q_sum), total(along)]);
            });
        })?;
        let all = sum(push.chunks_exact(width + 2).map(|row| row[width]));
        self.attract(positions, width, &points, &rooms, strengths.attraction, gradient, progress)?;
        // −d ln Σ q = Σ q²/γ · dD / Σ q, for both ends of a pair.
        let scale = 2.0 * strengths.repulsion / (gamma * all);
        let h = strengths.repulsion * self.options.h / n as f64;
        let mut radii = 0.0;
        for (i, gradient) in gradient.chunks_exact_mut(width).enumerate() {
            let (z, row) = (&positions[i * width..][..width], &push[i * (width + 2)..][..width + 2]);
            let length: f64 = z.iter().map(|z| z * z).sum();
            let (distance, slope) = squared_distance(1.0 + 2.0 * length / rooms[i]);
            let gap = self.lengths[i] - distance;
            radii += gap * gap;
            // For the origin as the other end, dA = 4 z / (1 − |z|²)².
            let radial = -2.0 * h * gap * slope * 4.0 / (rooms[i] * rooms[i]);
            for ((g, z), f) in gradient.iter_mut().zip(z).zip(row) {
                *g += radial * z - scale * (f + row[width + 1] * z / rooms[i]);
            }
        }
        if !value {
            return Ok(f64::NAN);
        }
        let attraction = self.attraction(positions, width, &rooms, progress)?;
        Ok(strengths.attraction * attraction + strengths.repulsion * all.ln() + h * radii)
    }
}

impl PreparedHyperbolic<'_> {
    /// Writes λ Σ_j (P_ij + P_ji) dD_ij/dz_i / (D_ij + γ²).
    #[expect(clippy::too_many_arguments, reason = "one call, of one pass over P")]
    fn attract(
        &self,
        positions: &[f64],
        width: usize,
        points: &PointBlocks<f64>,
        rooms: &[f64],
        strength: f64,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<()> {
        let (n, gamma) = (rooms.len(), self.options.gamma);
        if let Weights::Sparse(sparse) = self.weights {
            return each_row(gradient, width, progress, |i, out| {
                out.fill(0.0);
                let own = &positions[i * width..][..width];
                let mut along = 0.0;
                for entries in sparse.entries() {
                    let (columns, values) = entries.of(i);
                    for (&j, &p) in columns.iter().zip(values) {
                        let other = &positions[j as usize * width..][..width];
                        let square: f64 = own.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
                        let product = rooms[i] * rooms[j as usize];
                        let (distance, slope) = squared_distance(1.0 + 2.0 * square / product);
                        let factor = 4.0 * strength * f64::from(p) * slope / ((distance + gamma * gamma) * product);
                        along += factor * square;
                        for ((out, a), b) in out.iter_mut().zip(own).zip(other) {
                            *out += factor * (a - b);
                        }
                    }
                }
                out.iter_mut().zip(own).for_each(|(out, z)| *out += along * z / rooms[i]);
            });
        }
        self.weights.each(progress, gradient, width, |both, out| {
            let i = both.i;
            wide(|| {
                let mut along = [0.0; LANES];
                points.push(i, out, |start, squares| {
                    let (from, to, others) = (block(both.from, start), block(both.to, start), block(rooms, start));
                    let mut factors = [0.0; LANES];
                    for lane in 0..LANES {
                        let there = if start + lane < n { 1.0 } else { 0.0 };
                        let product = rooms[i] * (others[lane] + (1.0 - there));
                        let square = there * squares[lane];
                        let (distance, slope) = squared_distance(1.0 + 2.0 * square / product);
                        let p = f64::from(from[lane]) + f64::from(to[lane]);
                        factors[lane] = 4.0 * strength * p * slope / ((distance + gamma * gamma) * product);
                        along[lane] += factors[lane] * square;
                    }
                    factors
                });
                let along = total(along);
                let own = &positions[i * width..][..width];
                out.iter_mut().zip(own).for_each(|(out, z)| *out += along * z / rooms[i]);
            });
        })
    }

    /// Returns Σ P (−ln q).
    fn attraction(&self, positions: &[f64], width: usize, rooms: &[f64], progress: &Progress<'_>) -> Result<f64> {
        let gamma = self.options.gamma;
        let mut rows = vec![0.0; rooms.len()];
        self.weights.each(progress, &mut rows, 1, |WeightRow { i, from, .. }, out| {
            let own = &positions[i * width..][..width];
            let others = positions.chunks_exact(width).zip(rooms);
            out[0] = sum(from.iter().zip(others).filter(|(p, _)| **p > 0.0).map(|(&p, (other, room))| {
                let square: f64 = own.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
                let (distance, _) = squared_distance(1.0 + 2.0 * square / (rooms[i] * room));
                f64::from(p) * ((distance + gamma * gamma) / gamma).ln()
            }));
        })?;
        Ok(sum(rows))
    }
}
