//! PHATE's loss: the stress of metric multidimensional scaling, between distances in the map and
//! distances of the potentials.

use super::{ForceFactors, Loss, PreparedLoss};
use crate::all_pairs::points::{PointBlocks, block};
use crate::all_pairs::real::{LANES, sum, total, wide};
use crate::all_pairs::weights::Weights;
use crate::observe::Progress;
use crate::{Error, Result};

/// The least d², so that distances have a derivative: TorchDR's clamp.
const MIN_SQUARED_DISTANCE: f64 = 1e-12;

/// √(Σ (P_ij + |z_i − z_j|)² / Σ P_ij²), for P = −distances, in f64.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stress;

struct PreparedStress<'a> {
    weights: &'a Weights<'a>,
    /// Σ P².
    scale: f64,
}

impl Loss for Stress {
    fn name(&self) -> &'static str {
        "stress"
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn exaggerates(&self) -> bool {
        false
    }

    fn work_estimate(&self, n: usize, width: usize) -> (u64, f64) {
        (
            PointBlocks::<f64>::bytes(n, width) + 8 * n as u64 * (width as u64 + 1),
            (n as f64).powi(2) * (15.0 + 5.0 * width as f64),
        )
    }

    fn prepare<'a>(
        &'a self,
        weights: &'a Weights<'a>,
        _: &[f32],
        _: usize,
        progress: &Progress<'_>,
    ) -> Result<Box<dyn PreparedLoss + 'a>> {
        let mut rows = vec![0.0; weights.len()];
        weights.each(progress, &mut rows, 1, |both, out| {
            out[0] = sum(both.from.iter().map(|&p| f64::from(p) * f64::from(p)));
        })?;
        let scale = sum(rows);
        if !(scale > 0.0 && scale.is_finite()) {
            let what = format!("the squares of the affinities sum to {scale}; the stress is undefined");
            return Err(Error::Data { what });
        }
        Ok(Box::new(PreparedStress { weights, scale }))
    }
}

impl PreparedLoss for PreparedStress<'_> {
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
        let n = self.weights.len();
        // The force on each row, and the row's part of the loss.
        let mut out = vec![0.0; n * (width + 1)];
        self.weights.each(progress, &mut out, width + 1, |both, out| {
            let (force, share) = out.split_at_mut(width);
            wide(|| {
                let mut lanes = [0.0; LANES];
                points.push(both.i, force, |start, squares| {
                    let (from, to) = (block(both.from, start), block(both.to, start));
                    let mut factors = [0.0; LANES];
                    for lane in 0..LANES {
                        let square = squares[lane];
                        // The padding of the last block is no pair.
                        let there = if start + lane < n { 1.0 } else { 0.0 };
                        let distance = square.max(MIN_SQUARED_DISTANCE).sqrt();
                        let gap = f64::from(from[lane]) + distance;
                        lanes[lane] += there * gap * gap;
                        let slope = (gap + (f64::from(to[lane]) + distance)) / distance;
                        factors[lane] = if square > MIN_SQUARED_DISTANCE { there * slope } else { 0.0 };
                    }
                    factors
                });
                share[0] = total(lanes);
            });
        })?;
        let value = (sum(out.chunks_exact(width + 1).map(|row| row[width])) / self.scale).sqrt();
        // d√(S/T) = dS / (2T√(S/T)); dS/dz_i = 2 Σ_j (both gaps)(z_i − z_j)/distance.
        let scale = 1.0 / (self.scale * value.max(f64::MIN_POSITIVE));
        for (gradient, row) in gradient.chunks_exact_mut(width).zip(out.chunks_exact(width + 1)) {
            gradient.iter_mut().zip(row).for_each(|(g, f)| *g = scale * f);
        }
        Ok(value)
    }
}
