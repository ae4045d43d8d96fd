//! Initial positions.

use serde::{Deserialize, Serialize};

use super::poincare;
use super::real::sum;
use super::weights::Weights;
use crate::pca::{self, BlockwisePca, Covariance};
use crate::random::draw;
use crate::{Error, Result};

/// The source of the initial positions. All except `Hyperbolic` (and positions in the ball) are
/// scaled so that the first component has the standard deviation (divisor n − 1) `init_scaling`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialPositions {
    /// The first principal components of the rows, or of a given dense affinity.
    #[default]
    Pca,
    /// Independent standard normal numbers.
    Normal,
    /// Given positions, n × n_components, row-major, in the order of the input rows. For a map in
    /// the Poincaré ball they must lie inside the ball, and are not scaled.
    Positions(Vec<f32>),
    /// Standard normal vectors v times `init_scaling`, mapped into the Poincaré ball by
    /// tanh(|v|)·v/|v|. Not scaled afterwards.
    Hyperbolic,
}

impl InitialPositions {
    /// Returns the name.
    pub fn name(&self) -> &'static str {
        match self {
            InitialPositions::Pca => "pca",
            InitialPositions::Normal => "normal",
            InitialPositions::Positions(_) => "positions",
            InitialPositions::Hyperbolic => "hyperbolic",
        }
    }
}

/// Above this number of components, an incremental PCA is used instead of the covariance.
const WIDE: usize = 4096;

/// The stream number of the random draws.
const STREAM: u64 = 0x1217;

/// Returns the most bytes while the initial positions are computed.
pub(super) fn bytes(start: &InitialPositions, n: usize, dim: usize, width: usize) -> u64 {
    let scores = 12 * (n * width) as u64;
    match start {
        InitialPositions::Pca if dim > WIDE => scores + BlockwisePca::bytes(dim, width),
        InitialPositions::Pca => scores + Covariance::bytes(dim),
        _ => scores,
    }
}

/// Returns initial positions of `width` components, in the Poincaré ball if `ball` is set. `kept`
/// are the distinct rows, if there are duplicates.
pub(super) fn positions(
    start: &InitialPositions,
    data: (&[f32], usize),
    weights: &Weights<'_>,
    width: usize,
    (scaling, seed): (f64, u64),
    ball: bool,
    kept: Option<&[u32]>,
) -> Result<Vec<f64>> {
    let n = weights.len();
    let scores: Vec<f64> = match start {
        InitialPositions::Positions(given) => match kept {
            None => given.iter().map(|&x| f64::from(x)).collect(),
            Some(kept) => {
                let row = |&i: &u32| given[i as usize * width..][..width].iter().map(|&x| f64::from(x));
                kept.iter().flat_map(row).collect()
            }
        },
        InitialPositions::Normal => normal(n * width, seed),
        InitialPositions::Hyperbolic => {
            let mut positions = normal(n * width, seed);
            for row in positions.chunks_exact_mut(width) {
                row.iter_mut().for_each(|x| *x *= scaling);
                poincare::exp0(row);
                poincare::project(row);
            }
            return Ok(positions);
        }
        InitialPositions::Pca => match (data.0.is_empty(), weights) {
            (false, _) => components(data.0, data.1, width)?,
            (true, Weights::Dense(dense)) => components(dense.values(), n, width)?,
            (true, _) => {
                let why = "pca needs rows, and a sparse affinity was given; choose normal, or give positions";
                return Err(Error::Config { field: "init", why: why.into() });
            }
        },
    };
    if !ball {
        return scale_to_deviation(scores, width, scaling);
    }
    match outside(scores.chunks_exact(width), |row| kept.map_or(row, |kept| kept[row] as usize)) {
        Some(refused) => Err(refused),
        None => Ok(scores),
    }
}

/// Refuses first positions (rows × `width`) that no map can start from: positions in the Poincaré ball must be
/// inside it, and others must differ in their first component.
pub(super) fn check_given(given: &[f32], width: usize, ball: bool) -> Result<()> {
    let wide: Vec<f64> = given.iter().map(|&x| f64::from(x)).collect();
    match ball {
        true => outside(wide.chunks_exact(width), |row| row).map_or(Ok(()), Err),
        false => scale_to_deviation(wide, width, 1.0).map(drop),
    }
}

/// Returns an error for the first position outside the ball, if there is one; `number` maps its index to a row number.
fn outside<'a>(mut rows: impl Iterator<Item = &'a [f64]>, number: impl Fn(usize) -> usize) -> Option<Error> {
    let row = number(rows.position(|z| poincare::dot(z, z) >= 1.0)?);
    let why = format!(
        "the position of row {row} is not inside the ball of radius 1; divide the positions by more than the largest distance from 0"
    );
    Some(Error::Config { field: "init", why })
}

fn scale_to_deviation(mut positions: Vec<f64>, width: usize, scaling: f64) -> Result<Vec<f64>> {
    let n = (positions.len() / width) as f64;
    let first = || positions.iter().step_by(width);
    let mean = sum(first().copied()) / n;
    let deviation = (sum(first().map(|x| (x - mean) * (x - mean))) / (n - 1.0)).sqrt();
    if !(deviation > 0.0 && deviation.is_finite()) {
        let why = format!(
            "the first component has a standard deviation of {deviation}, and cannot be scaled; choose normal, or give other positions"
        );
        return Err(Error::Config { field: "init", why });
    }
    positions.iter_mut().for_each(|x| *x *= scaling / deviation);
    Ok(positions)
}

fn components(rows: &[f32], dim: usize, width: usize) -> Result<Vec<f64>> {
    let found = pca::of_rows(rows, dim, width.min(dim), WIDE);
    let pca = found.map_err(|e| Error::Config { field: "init", why: format!("pca: {e}; choose normal") })?;
    let kept = pca.n_components();
    let mut scores = vec![0f32; rows.len() / dim * kept];
    pca.project(rows, &mut scores);
    // If the rows have fewer principal components, the remaining ones are 0.
    let mut positions = vec![0.0; rows.len() / dim * width];
    for (place, scores) in positions.chunks_exact_mut(width).zip(scores.chunks_exact(kept)) {
        place.iter_mut().zip(scores).for_each(|(x, &s)| *x = f64::from(s));
    }
    Ok(positions)
}

/// Returns standard normal numbers, by the Box–Muller transform of counter-based draws.
fn normal(count: usize, seed: u64) -> Vec<f64> {
    let unit = |counter: u64| (draw(seed, STREAM, counter) >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
    (0..count as u64)
        .map(|i| {
            let (radius, angle) = (unit(i / 2 * 2), unit(i / 2 * 2 + 1) * std::f64::consts::TAU);
            // 1 − u is never 0, because u is below 1.
            let radius = (-2.0 * (1.0 - radius).ln()).sqrt();
            radius * if i % 2 == 0 { angle.cos() } else { angle.sin() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_their_moments() {
        let numbers = normal(200_000, 3);
        let moment = |p: i32| numbers.iter().map(|x| x.powi(p)).sum::<f64>() / numbers.len() as f64;
        // Four standard errors of each moment: √(variance of xᵖ / count).
        for (p, truth, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
            let error = moment(p) - truth;
            assert!(error.abs() < 4.0 * (variance / 200_000.0).sqrt(), "moment {p}: off by {error}");
        }
        assert_ne!(normal(4, 1), normal(4, 2));
    }

    #[test]
    fn scaling_sets_the_first_deviation_and_keeps_the_shape() {
        let scaled = scale_to_deviation(vec![1.0, 5.0, 3.0, -5.0], 2, 1e-4).expect("scaled");
        let first: f64 = (scaled[0] - scaled[2]).abs() / 2f64.sqrt();
        assert!((first - 1e-4).abs() < 1e-18);
        assert!((scaled[1] / scaled[0] - 5.0).abs() < 1e-12);
        assert!(super::scale_to_deviation(vec![2.0, 1.0, 2.0, 5.0], 2, 1e-4).is_err());
        assert!(super::scale_to_deviation(vec![2.0, 1.0], 2, 1e-4).is_err());
    }
}
