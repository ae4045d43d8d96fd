//! Silhouettes (Rousseeuw 1987): how much nearer a point is to its own group than to the nearest
//! other group.
//!
//! What must hold: a row's coefficient is computed from its distances to all rows, summed in row
//! order, so that it does not depend on the number of threads.

use rayon::prelude::*;

use super::points::{MapPoints, UNLABELED};
use crate::Result;
use crate::observe::Progress;

/// Rows per task of a thread, which share one table of sums.
const ROWS: usize = 16;

/// The silhouette of a point that is the only one with its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Singletons {
    /// 0, as in Rousseeuw's definition and scikit-learn.
    #[default]
    Zero,
    /// 1, as in TorchDR.
    One,
}

/// The number of rows of each label, and their total weight (1 for each row without weights).
pub(crate) struct LabelWeights {
    masses: Vec<f64>,
    rows: Vec<u32>,
}

impl LabelWeights {
    pub(crate) fn new(codes: &[u32], count: usize, weights: Option<&[f32]>) -> Self {
        let mut all = LabelWeights { masses: vec![0.0; count], rows: vec![0; count] };
        for (row, &code) in codes.iter().enumerate().filter(|&(_, &code)| code != UNLABELED) {
            all.masses[code as usize] += weights.map_or(1.0, |weights| f64::from(weights[row]));
            all.rows[code as usize] += 1;
        }
        all
    }

    /// Returns the number of labels with a total weight above 0.
    pub(crate) fn present(&self) -> usize {
        self.masses.iter().filter(|&&mass| mass > 0.0).count()
    }

    /// Returns the number of labels that only one row has.
    pub(crate) fn singletons(&self) -> usize {
        self.rows.iter().filter(|&&rows| rows == 1).count()
    }
}

/// Returns the silhouette coefficients of `rows`, which must have labels: (b − a) / max(a, b),
/// where a is the mean distance to the other rows of the same label, and b the smallest mean
/// distance to another label. With weights, the means are weighted. The coefficient is 0 if a and b
/// are 0.
pub(crate) fn coefficients(
    points: &MapPoints,
    codes: &[u32],
    masses: &LabelWeights,
    weights: Option<&[f32]>,
    singletons: Singletons,
    rows: &[u32],
    progress: &Progress<'_>,
) -> Result<Vec<f64>> {
    let found = rows.par_chunks(ROWS).map(|rows| {
        let mut sums = vec![0f64; masses.masses.len()];
        let mut found = Vec::with_capacity(rows.len());
        for &row in rows {
            progress.check()?;
            sums.fill(0.0);
            points.each_tile(&points.point(row as usize), |first, squares| {
                for (lane, &square) in squares.iter().enumerate() {
                    let (other, distance) = (first + lane, f64::from(square.sqrt()));
                    if let Some(sum) = sums.get_mut(codes[other] as usize) {
                        *sum += weights.map_or(distance, |weights| distance * f64::from(weights[other]));
                    }
                }
            });
            let own = codes[row as usize] as usize;
            let others = masses.masses[own] - weights.map_or(1.0, |weights| f64::from(weights[row as usize]));
            let between = sums.iter().zip(&masses.masses).enumerate();
            let b = between
                .filter(|&(code, (_, &mass))| code != own && mass > 0.0)
                .map(|(_, (sum, mass))| sum / mass)
                .fold(f64::INFINITY, f64::min);
            found.push(if masses.rows[own] == 1 || others <= 0.0 {
                match singletons {
                    Singletons::Zero => 0.0,
                    // The limit (b − a) / max(a, b) for a = 0.
                    Singletons::One => f64::from(u8::from(b > 0.0)),
                }
            } else {
                let a = sums[own] / others;
                let most = a.max(b);
                if most > 0.0 && most < f64::INFINITY { (b - a) / most } else { 0.0 }
            });
        }
        Ok(found)
    });
    Ok(found.collect::<Result<Vec<Vec<f64>>>>()?.concat())
}

/// Returns the bytes for the silhouettes of `rows` rows with `labels` labels.
pub(crate) fn bytes(rows: usize, labels: usize, threads: usize) -> u64 {
    labels as u64 * (12 + 8 * threads as u64) + rows as u64 * 28
}
