//! Tests of the exact methods as a whole: TorchDR's conformance table, row by row (`affinities`,
//! `methods`), and gradients against finite differences (`gradients`).

mod affinities;
mod gradients;
mod methods;

use super::costs::Costs;
use super::{Cost, DenseWeights, StreamedAffinity};
use crate::Result;
use crate::observe::Progress;
use crate::random::unit;

/// Returns two half circles with noise, as scikit-learn's `make_moons`, and the half circle of each
/// point.
fn moons(n: usize, noise: f64) -> (Vec<f32>, Vec<usize>) {
    let normal = |i: u64| {
        // The sum of twelve uniform numbers is close enough to normal.
        (0..12).map(|k| f64::from(unit(0, 5, i * 12 + k))).sum::<f64>() - 6.0
    };
    let half = n / 2;
    let rows = (0..n).flat_map(|i| {
        let angle = std::f64::consts::PI * (i % half.max(1)) as f64 / (half - 1) as f64;
        let (x, y) = if i < half { (angle.cos(), angle.sin()) } else { (1.0 - angle.cos(), 0.5 - angle.sin()) };
        [(x + noise * normal(2 * i as u64)) as f32, (y + noise * normal(2 * i as u64 + 1)) as f32]
    });
    (rows.collect(), (0..n).map(|i| usize::from(i >= half)).collect())
}

/// Returns independent, approximately normal numbers around `mean`.
fn noise(n: usize, dim: usize, mean: f32, seed: u64) -> Vec<f32> {
    (0..(n * dim) as u64).map(|i| mean + (0..12).map(|k| unit(seed, 6, i * 12 + k)).sum::<f32>() - 6.0).collect()
}

/// Returns Fisher's iris data, 150 × 4, and the species.
fn iris() -> (Vec<f32>, Vec<usize>) {
    let mut rows = Vec::new();
    let mut labels = Vec::new();
    for line in include_str!("iris.csv").lines() {
        let numbers: Vec<f32> = line.split(',').map(|x| x.parse().expect("a number")).collect();
        rows.extend_from_slice(&numbers[..4]);
        labels.push(numbers[4] as usize);
    }
    (rows, labels)
}

/// Returns P as n × n numbers.
fn dense(affinity: &dyn StreamedAffinity, rows: &[f32], dim: usize, cost: Cost) -> Result<Vec<f64>> {
    let costs = Costs::new(rows, dim, cost);
    let weights = affinity.solve(&costs, &Progress::silent())?;
    Ok(weights.to_dense(&Progress::silent())?.into_iter().map(f64::from).collect())
}

/// Returns the mean silhouette of labelled points, as scikit-learn defines it.
fn silhouette(points: &[f32], width: usize, labels: &[usize]) -> f64 {
    let n = labels.len();
    let groups = labels.iter().max().expect("labels") + 1;
    let count = |g: usize| labels.iter().filter(|&&l| l == g).count() as f64;
    let scores = (0..n).map(|i| {
        let mut sums = vec![0.0; groups];
        for j in 0..n {
            let pair = points[i * width..][..width].iter().zip(&points[j * width..][..width]);
            sums[labels[j]] += pair.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        }
        let own = sums[labels[i]] / (count(labels[i]) - 1.0);
        let other = (0..groups).filter(|&g| g != labels[i]).map(|g| sums[g] / count(g)).fold(f64::INFINITY, f64::min);
        (other - own) / own.max(other)
    });
    scores.sum::<f64>() / n as f64
}

/// Returns a symmetric matrix that sums to 1, with a zero diagonal.
fn given(n: usize, seed: u64) -> DenseWeights {
    let mut values = vec![0f32; n * n];
    for i in 0..n {
        for j in 0..i {
            let x = unit(seed, 8, (i * n + j) as u64).powi(4);
            (values[i * n + j], values[j * n + i]) = (x, x);
        }
    }
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|x| *x /= sum);
    DenseWeights::new(values).expect("an affinity")
}
