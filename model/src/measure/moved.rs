//! How far rows moved between two maps, and how many of their neighbours in the map they kept.

use lowland_engine::distances::squared_distance;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Distances that rows moved, over the radius of the map: the root of the mean squared distance of its rows from their
/// mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

/// Returns the radius of a map of these positions: the root of the mean squared distance from their mean. Without rows 0.
pub fn radius<'a>(positions: impl Iterator<Item = &'a [f32]> + Clone, components: usize) -> f64 {
    let mut mean = vec![0f64; components];
    let mut rows = 0u64;
    for row in positions.clone() {
        mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        rows += 1;
    }
    mean.iter_mut().for_each(|sum| *sum /= rows.max(1) as f64);
    let square: f64 = positions.flat_map(|row| row.iter().zip(&mean).map(|(&x, m)| (f64::from(x) - m).powi(2))).sum();
    (square / rows.max(1) as f64).sqrt()
}

/// Measures how far rows moved from `before` to `after` (rows × components each). Without rows, or in a map without
/// extent, all distances are 0.
pub fn moved(before: &[f32], after: &[f32], components: usize) -> Moved {
    let radius = radius(before.chunks_exact(components), components);
    let mut far: Vec<f64> = before
        .chunks_exact(components)
        .zip(after.chunks_exact(components))
        .map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt())
        .collect();
    far.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| match far.len() {
        0 => 0.0,
        _ if radius == 0.0 => 0.0,
        count => far[((count - 1) as f64 * share).round() as usize] / radius,
    };
    Moved { p50: at(0.5), p95: at(0.95), max: at(1.0) }
}

/// Returns the mean share of the `k` nearest rows in the map `before` of each of the `sampled` rows that are among its
/// `k` nearest in the map `after` (rows × components each). 1 without rows.
pub fn kept_neighbors(before: &[f32], after: &[f32], components: usize, sampled: &[usize], k: usize) -> f64 {
    let rows = before.len() / components.max(1);
    let k = k.min(rows.saturating_sub(1));
    if sampled.is_empty() || k == 0 {
        return 1.0;
    }
    let nearest = |map: &[f32], row: usize| {
        let own = map[row * components..][..components].to_vec();
        let mut near: Vec<(f32, u32)> = map
            .chunks_exact(components)
            .enumerate()
            .filter(|&(other, _)| other != row)
            .map(|(other, place)| (squared_distance(&own, place), other as u32))
            .collect();
        near.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut near: Vec<u32> = near[..k].iter().map(|&(_, other)| other).collect();
        near.sort_unstable();
        near
    };
    let kept: Vec<u64> = sampled
        .par_iter()
        .map(|&row| {
            let (before, after) = (nearest(before, row), nearest(after, row));
            before.iter().filter(|other| after.binary_search(other).is_ok()).count() as u64
        })
        .collect();
    kept.iter().sum::<u64>() as f64 / (sampled.len() * k) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_told_over_the_radius() {
        let before = [1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0];
        let mut after = before;
        assert_eq!(moved(&before, &after, 2), Moved { p50: 0.0, p95: 0.0, max: 0.0 });
        after[0] = 1.5;
        let found = moved(&before, &after, 2);
        assert_eq!((found.p50, found.max), (0.0, 0.5));
        assert_eq!(moved(&[], &[], 2).max, 0.0);
        assert_eq!(moved(&[1.0, 1.0], &[2.0, 2.0], 2).max, 0.0, "a map without extent");
    }

    #[test]
    fn neighbors_in_the_map_are_kept_or_lost() {
        let before: Vec<f32> = (0..20).flat_map(|i| [i as f32, 0.0]).collect();
        let sampled: Vec<usize> = (0..20).collect();
        assert_eq!(kept_neighbors(&before, &before, 2, &sampled, 3), 1.0);
        let turned: Vec<f32> = (0..20).flat_map(|i| [(i * 7 % 20) as f32, 0.0]).collect();
        assert!(kept_neighbors(&before, &turned, 2, &sampled, 3) < 0.5);
        assert_eq!(kept_neighbors(&before, &before, 2, &[], 3), 1.0);
    }
}
