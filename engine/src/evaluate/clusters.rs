//! How well visible groups in the map agree with labels: k-means on the map, and the adjusted Rand
//! index between clusters and labels.
//!
//! What must hold: sums run over rows in order, and random draws depend only on counters, so that
//! the clusters do not depend on the number of threads.

use std::collections::HashMap;

use rayon::prelude::*;

use super::points::{MapPoints, UNLABELED};
use crate::Result;
use crate::observe::Progress;
use crate::random::{draw, stratified};

/// Sample points per cluster from which the centroids are computed, as in FAISS.
const SAMPLE_PER_CLUSTER: u64 = 256;
/// The most iterations of Lloyd's algorithm.
const MAX_ITERATIONS: usize = 100;
/// The most clusters. The work grows with rows × clusters.
pub(crate) const MAX_CLUSTERS: usize = 4096;
/// Points per task of a thread. Sums are formed per portion of this size.
const PORTION: usize = 4096;
/// Up to this number of clusters, several candidates are tried for each new centroid.
const MAX_GREEDY_CLUSTERS: usize = 256;

/// Returns the k-means cluster of each row: Lloyd's algorithm from k-means++ centroids (Arthur,
/// Vassilvitskii 2007), on a sample of 256 points per cluster if there are more rows. Rows that
/// have no label in `codes`, if given, are ignored and get [`UNLABELED`].
pub(crate) fn kmeans(
    points: &MapPoints,
    codes: Option<&[u32]>,
    clusters: usize,
    seed: u64,
    progress: &Progress<'_>,
) -> Result<Vec<u32>> {
    let takes_part = |row: usize| codes.is_none_or(|codes| codes[row] != UNLABELED);
    let count = (0..points.rows()).filter(|&row| takes_part(row)).count() as u64;
    if count == 0 {
        return Ok(vec![UNLABELED; points.rows()]);
    }
    let wanted = stratified(seed, 0x3ea5, count, SAMPLE_PER_CLUSTER * clusters as u64);
    let mut rows = (0..points.rows()).filter(|&row| takes_part(row));
    let mut passed = 0;
    let mut training = Vec::with_capacity(wanted.len() * points.dim());
    for ordinal in wanted {
        let Some(row) = rows.nth((ordinal - passed) as usize) else { break };
        passed = ordinal + 1;
        training.extend(points.point(row));
    }
    let centers = centers(&training, points.dim(), clusters, seed, progress)?;
    let mut found = vec![UNLABELED; points.rows()];
    found.par_chunks_mut(PORTION).enumerate().try_for_each(|(portion, found)| {
        progress.check()?;
        for (i, found) in found.iter_mut().enumerate() {
            let row = portion * PORTION + i;
            if takes_part(row) {
                *found = centers.closest(&points.point(row)).0;
            }
        }
        crate::Result::Ok(())
    })?;
    Ok(found)
}

fn centers(training: &[f32], dim: usize, clusters: usize, seed: u64, progress: &Progress<'_>) -> Result<MapPoints> {
    let rows = training.len() / dim;
    let mut centers = kmeans_plus_plus(training, dim, clusters.min(rows), seed, progress)?;
    let mut assigned = vec![u32::MAX; rows];
    for _ in 0..MAX_ITERATIONS {
        progress.check()?;
        let nearest = MapPoints::from_rows(&centers, dim);
        let mut squares = vec![0f32; rows];
        let portions = assigned.par_chunks_mut(PORTION).zip(squares.par_chunks_mut(PORTION));
        let moved = portions.zip(training.par_chunks(PORTION * dim)).map(|((assigned, squares), rows)| {
            let mut moved = false;
            for ((assigned, square), row) in assigned.iter_mut().zip(squares).zip(rows.chunks_exact(dim)) {
                let (center, squared) = nearest.closest(row);
                moved |= std::mem::replace(assigned, center) != center;
                *square = squared;
            }
            moved
        });
        if !moved.reduce(|| false, |a, b| a | b) {
            break;
        }
        let mut sums = vec![0f64; centers.len()];
        let mut counts = vec![0u32; centers.len() / dim];
        for (&cluster, row) in assigned.iter().zip(training.chunks_exact(dim)) {
            counts[cluster as usize] += 1;
            sums[cluster as usize * dim..][..dim].iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        for ((center, sums), &count) in centers.chunks_exact_mut(dim).zip(sums.chunks_exact(dim)).zip(&counts) {
            if count > 0 {
                center.iter_mut().zip(sums).for_each(|(x, sum)| *x = (sum / f64::from(count)) as f32);
            } else if let Some(far) = farthest(&squares) {
                // A cluster without points restarts at the point that is farthest from its
                // centroid.
                center.copy_from_slice(&training[far * dim..][..dim]);
                squares[far] = 0.0;
            }
        }
    }
    Ok(MapPoints::from_rows(&centers, dim))
}

/// Returns the first of the points with the largest distance; `None` if all distances are 0.
fn farthest(squares: &[f32]) -> Option<usize> {
    let mut best = None;
    let mut most = 0.0;
    for (at, &square) in squares.iter().enumerate() {
        if square > most {
            (best, most) = (Some(at), square);
        }
    }
    best
}

/// Chooses initial centroids by greedy k-means++: candidates are drawn with probability
/// proportional to the squared distance to the nearest centroid so far; of a few candidates, the
/// one that leaves the least sum of squared distances is taken.
fn kmeans_plus_plus(
    training: &[f32],
    dim: usize,
    clusters: usize,
    seed: u64,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    let rows = training.len() / dim;
    let point = |row: usize| &training[row * dim..][..dim];
    let uniform = |counter: u64| (draw(seed, 0x5eed, counter) >> 11) as f64 / (1u64 << 53) as f64;
    let tries = if clusters <= MAX_GREEDY_CLUSTERS { 2 + (clusters as f64).ln() as usize } else { 1 };
    let mut nearest = vec![f32::INFINITY; rows];
    let mut centers: Vec<f32> = Vec::with_capacity(clusters * dim);
    // The sum of squared distances that would remain in each portion of rows.
    let left = |nearest: &[f32], center: &[f32]| -> Vec<f64> {
        let portions = nearest.par_chunks(PORTION).zip(training.par_chunks(PORTION * dim));
        let sum = |(nearest, rows): (&[f32], &[f32])| {
            let rows = nearest.iter().zip(rows.chunks_exact(dim));
            rows.map(|(near, row)| f64::from(near.min(squared(row, center)))).sum()
        };
        portions.map(sum).collect()
    };
    let mut sums: Vec<f64> = Vec::new();
    for c in 0..clusters {
        progress.check()?;
        let total: f64 = sums.iter().sum();
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for t in 0..if c == 0 { 1 } else { tries } {
            let at = uniform((c * 64 + t) as u64);
            let row = if c == 0 || total <= 0.0 {
                (at * rows as f64) as usize
            } else {
                row_at_sum(&nearest, &sums, at * total)
            };
            let sums = left(&nearest, point(row.min(rows - 1)));
            let total = sums.iter().sum();
            if best.as_ref().is_none_or(|(least, ..)| total < *least) {
                best = Some((total, row.min(rows - 1), sums));
            }
        }
        let Some((_, row, after)) = best else { break };
        sums = after;
        centers.extend_from_slice(point(row));
        let portions = nearest.par_chunks_mut(PORTION).zip(training.par_chunks(PORTION * dim));
        portions.for_each(|(nearest, rows)| {
            for (near, row_) in nearest.iter_mut().zip(rows.chunks_exact(dim)) {
                *near = near.min(squared(row_, point(row)));
            }
        });
    }
    Ok(centers)
}

/// Returns the row at which the running sum of `nearest` exceeds `goal`.
fn row_at_sum(nearest: &[f32], sums: &[f64], mut goal: f64) -> usize {
    let mut portion = 0;
    while portion + 1 < sums.len() && goal >= sums[portion] {
        goal -= sums[portion];
        portion += 1;
    }
    let start = portion * PORTION;
    let mut last = start;
    for (i, &near) in nearest[start..nearest.len().min(start + PORTION)].iter().enumerate() {
        goal -= f64::from(near);
        if near > 0.0 {
            last = start + i;
            if goal < 0.0 {
                break;
            }
        }
    }
    last
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Returns the adjusted Rand index of two labellings (Hubert, Arabie 1985), as scikit-learn
/// computes it: 1 if the labellings are equal up to renaming, about 0 if they agree only by chance.
/// Rows with [`UNLABELED`] in either labelling are ignored; the index is 1 if fewer than two rows
/// remain.
///
/// Pairs are counted in 128-bit integers, so that no number of rows overflows.
pub fn adjusted_rand_score(a: &[u32], b: &[u32]) -> f64 {
    let mut cells: HashMap<(u32, u32), u64> = HashMap::new();
    for (&a, &b) in a.iter().zip(b).filter(|&(&a, &b)| a != UNLABELED && b != UNLABELED) {
        *cells.entry((a, b)).or_default() += 1;
    }
    let (mut of_a, mut of_b): (HashMap<u32, u64>, HashMap<u32, u64>) = Default::default();
    for (&(a, b), &count) in &cells {
        *of_a.entry(a).or_default() += count;
        *of_b.entry(b).or_default() += count;
    }
    // Numbers of ordered pairs: together in both labellings, in `a`, in `b`, and all pairs.
    let pairs = |count: u64| i128::from(count) * (i128::from(count) - 1);
    let both: i128 = cells.values().map(|&count| pairs(count)).sum();
    let (in_a, in_b): (i128, i128) =
        (of_a.values().map(|&count| pairs(count)).sum(), of_b.values().map(|&count| pairs(count)).sum());
    let all = pairs(of_a.values().sum());
    let (only_a, only_b) = (in_a - both, in_b - both);
    if only_a == 0 && only_b == 0 {
        return 1.0;
    }
    let neither = all - in_a - in_b + both;
    let [both, only_a, only_b, neither] = [both, only_a, only_b, neither].map(|count| count as f64);
    2.0 * (both * neither - only_a * only_b)
        / ((both + only_b) * (only_b + neither) + (both + only_a) * (only_a + neither))
}

/// Returns the bytes for clustering `rows` points of `dim` components and comparing them with
/// labels.
pub(crate) fn bytes(rows: u64, dim: usize, clusters: usize) -> u64 {
    let clusters = clusters.min(MAX_CLUSTERS) as u64;
    let training = rows.min(SAMPLE_PER_CLUSTER * clusters);
    let cells = rows.min(clusters * clusters);
    // A hash table is up to twice as large as its entries, and twice that while it grows.
    rows * 4 + training * (dim as u64 * 4 + 24) + clusters * dim as u64 * 24 + cells * 17 * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    fn groups(count: usize, each: usize, spread: f32) -> (MapPoints, Vec<u32>) {
        let codes: Vec<u32> = (0..count * each).map(|row| (row % count) as u32).collect();
        let at = |row: usize, c: u64| {
            let group = row % count;
            let corner = if c == 0 { group % 3 } else { group / 3 };
            corner as f32 * 10.0 + spread * (unit(9, c, row as u64) - 0.5)
        };
        let values: Vec<f32> = (0..count * each).flat_map(|row| [at(row, 0), at(row, 1)]).collect();
        (MapPoints::from_rows(&values, 2), codes)
    }

    fn ari(points: &MapPoints, codes: &[u32], clusters: usize, seed: u64) -> f64 {
        let found = kmeans(points, Some(codes), clusters, seed, &Progress::silent()).expect("clusters");
        assert!(found.iter().zip(codes).all(|(&f, &c)| (f == UNLABELED) == (c == UNLABELED)));
        adjusted_rand_score(&found, codes)
    }

    #[test]
    fn kmeans_finds_separated_groups() {
        for seed in 0..20 {
            let (points, codes) = groups(3, 50, 1.0);
            assert_eq!(ari(&points, &codes, 3, seed), 1.0);
            // More points than the sample has, and some without a label.
            let (points, mut codes) = groups(9, 2_000, 4.0);
            codes.iter_mut().step_by(5).for_each(|code| *code = UNLABELED);
            let found = ari(&points, &codes, 9, seed);
            assert!(found > 0.8, "{found}");
            assert_eq!(found, ari(&points, &codes, 9, seed));
        }
    }

    #[test]
    fn kmeans_of_few_or_equal_points() {
        let points = MapPoints::from_rows(&[0.0, 0.0, 0.1, 0.0, 9.0, 9.0, 9.0, 9.1], 2);
        assert!(ari(&points, &[0, 0, 1, 1], 2, 1) > 0.5);
        // As many clusters as points.
        assert_eq!(ari(&points, &[0, 1, 2, 3], 4, 1), 1.0);
        assert_eq!(ari(&points, &[0, 0, 0, 0], 1, 1), 1.0);
        let equal = MapPoints::from_rows(&[2.0; 40], 2);
        let codes: Vec<u32> = (0..20).map(|row| row % 4).collect();
        assert_eq!(ari(&equal, &codes, 4, 1), 0.0);
        assert_eq!(ari(&equal, &[UNLABELED; 20], 4, 1), 1.0);
    }

    #[test]
    fn adjusted_rand_index_matches_its_definition() {
        // Examples from scikit-learn's documentation.
        assert_eq!(adjusted_rand_score(&[0, 0, 1, 1], &[1, 1, 0, 0]), 1.0);
        assert!((adjusted_rand_score(&[0, 0, 1, 2], &[0, 0, 1, 1]) - 0.571_428_571_428_571_4).abs() < 1e-15);
        assert_eq!(adjusted_rand_score(&[0, 0, 0, 0], &[0, 1, 2, 3]), 0.0);
        assert_eq!(adjusted_rand_score(&[0, 0, 1, 1], &[0, 1, 0, 1]), -0.5);
        assert_eq!(adjusted_rand_score(&[], &[]), 1.0);
        assert_eq!(adjusted_rand_score(&[0, UNLABELED, 1], &[0, 1, UNLABELED]), 1.0);
    }

    /// TorchDR's index was −4.74 at 100,000 rows, because its products exceeded 63 bits.
    #[test]
    fn adjusted_rand_index_does_not_overflow() {
        for rows in [100_000u32, 3_000_000] {
            let a: Vec<u32> = (0..rows).map(|row| row / (rows / 10)).collect();
            let b: Vec<u32> = (0..rows).map(|row| (unit(1, 5, u64::from(row)) * 10.0) as u32).collect();
            assert!(adjusted_rand_score(&a, &b).abs() < 1e-3);
            assert_eq!(adjusted_rand_score(&a, &a), 1.0);
            let moved: Vec<u32> = (0..rows).map(|row| row.wrapping_add(rows / 100) / (rows / 10)).collect();
            let index = adjusted_rand_score(&a, &moved);
            assert!(index > 0.75 && index < 0.9, "{index}");
        }
    }
}
