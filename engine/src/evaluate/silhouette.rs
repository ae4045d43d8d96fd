//! Silhouettes (Rousseeuw 1987): how much nearer a point lies to its own
//! group than to the nearest other one.
//!
//! What must hold: a row's coefficient is found from its distances to all
//! rows, added up in their order, so that it does not depend on threads.

use rayon::prelude::*;

use super::points::{Points, UNLABELED};
use crate::Result;
use crate::observe::Progress;

/// Rows that a thread takes at a time, with one table of sums.
const ROWS: usize = 16;

/// What a point alone with its label scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Singletons {
    /// 0, as Rousseeuw and scikit-learn have it.
    #[default]
    Zero,
    /// 1, as TorchDR has it: nothing lies between the point and itself.
    One,
}

/// How much each label weighs: of each row 1, or its weight.
pub(crate) struct Masses {
    masses: Vec<f64>,
    rows: Vec<u32>,
}

impl Masses {
    pub(crate) fn new(codes: &[u32], count: usize, weights: Option<&[f32]>) -> Self {
        let mut all = Masses { masses: vec![0.0; count], rows: vec![0; count] };
        for (row, &code) in codes.iter().enumerate().filter(|&(_, &code)| code != UNLABELED) {
            all.masses[code as usize] += weights.map_or(1.0, |weights| f64::from(weights[row]));
            all.rows[code as usize] += 1;
        }
        all
    }

    /// Labels that weigh anything.
    pub(crate) fn present(&self) -> usize {
        self.masses.iter().filter(|&&mass| mass > 0.0).count()
    }

    /// Labels of one row only.
    pub(crate) fn singletons(&self) -> usize {
        self.rows.iter().filter(|&&rows| rows == 1).count()
    }
}

/// The coefficients of `rows`, which have labels: (b − a) / max(a, b), where a is the mean
/// distance to the others of its label, and b the least of the means to another label's. With
/// weights the means are weighted. 0 where both are 0.
pub(crate) fn coefficients(
    points: &Points,
    codes: &[u32],
    masses: &Masses,
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
                    // As (b − 0) / b.
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

/// Bytes held for so many rows and labels.
pub(crate) fn bytes(rows: usize, labels: usize, threads: usize) -> u64 {
    labels as u64 * (12 + 8 * threads as u64) + rows as u64 * 28
}
