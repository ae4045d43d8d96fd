//! Scores of distances at all scales: triplet accuracy (whether the nearer of two rows stays the
//! nearer), and Spearman's correlation of the distances in the data and in the map.

use rayon::prelude::*;

use crate::Result;
use crate::random::below;
use crate::score::STANDARD_ERRORS;

/// The most pairs whose distances are correlated. If the rows have no more pairs, all are used.
const MAX_PAIRS: usize = 500_000;
/// The number of groups of rows for the jackknife estimate of the correlation's error.
const JACKKNIFE_GROUPS: usize = 20;

/// Returns each sample row's share of random triplets (i, j, l) for which `kept(i, j, l)` holds. i,
/// j and l are positions in the sample. A row for which no valid triplet was drawn has no entry.
pub(crate) fn triplets(
    count: usize,
    each: usize,
    seed: u64,
    kept: impl Fn(usize, usize, usize) -> Result<bool> + Sync,
) -> Result<Vec<f64>> {
    let score = |i: usize| {
        let (mut right, mut drawn) = (0u32, 0u32);
        for t in 0..each {
            let pick = |which| below(seed, 0x7419, ((i * each + t) * 2 + which) as u64, count as u64) as usize;
            let (j, l) = (pick(0), pick(1));
            if j != l && j != i && l != i {
                drawn += 1;
                right += u32::from(kept(i, j, l)?);
            }
        }
        Ok((drawn > 0).then(|| f64::from(right) / f64::from(drawn)))
    };
    let scores = (0..count).into_par_iter().map(score).collect::<Result<Vec<Option<f64>>>>()?;
    Ok(scores.into_iter().flatten().collect())
}

/// A correlation over pairs of sample rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Correlation {
    pub(crate) value: f64,
    /// Half the width of the 95 % interval. `None` if all pairs of all rows were used.
    pub(crate) interval: Option<f64>,
}

/// Returns Spearman's correlation of two distances of the pair (i, j), which are positions in a
/// sample of `count` rows out of `population`. `None` if all distances are equal, in the data or in
/// the map.
pub(crate) fn correlation(
    count: usize,
    population: u64,
    seed: u64,
    distances: impl Fn(usize, usize) -> (f32, f32) + Sync,
) -> Option<Correlation> {
    let all = pairs(count) <= MAX_PAIRS;
    let pairs: Vec<(u32, u32)> = if all {
        (0..count as u32).flat_map(|i| (0..i).map(move |j| (i, j))).collect()
    } else {
        let draw = |p: usize| {
            let i = below(seed, 0x59ea, 2 * p as u64, count as u64) as u32;
            // A row other than i.
            let j = below(seed, 0x59ea, 2 * p as u64 + 1, count as u64 - 1) as u32;
            (i, j + u32::from(j >= i))
        };
        (0..MAX_PAIRS).map(draw).collect()
    };
    let (data, map): (Vec<f32>, Vec<f32>) = pairs.par_iter().map(|&(i, j)| distances(i as usize, j as usize)).unzip();
    let (data, map) = (ranks(&data), ranks(&map));
    let value = pearson(&data, &map, |_| true)?;
    let whole = count as u64 == population;
    let interval = match (all, whole) {
        (true, true) => None,
        // Pairs drawn independently from all pairs (Bonett, Wright 2000).
        (false, true) => {
            let error = ((1.0 + value * value / 2.0) / (pairs.len() as f64 - 3.0)).sqrt();
            Some(STANDARD_ERRORS * (1.0 - value * value) * error)
        }
        // A row is part of many pairs, so the pairs are not independent. The error is estimated by
        // a jackknife over groups of rows.
        _ => {
            let group = |i: u32| i as usize % JACKKNIFE_GROUPS;
            let without: Vec<f64> = (0..JACKKNIFE_GROUPS)
                .into_par_iter()
                .filter_map(|g| pearson(&data, &map, |p| group(pairs[p].0) != g && group(pairs[p].1) != g))
                .collect();
            let n = without.len().max(1) as f64;
            let mean = without.iter().sum::<f64>() / n;
            let spread: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
            Some(STANDARD_ERRORS * ((n - 1.0) / n * spread * (1.0 - count as f64 / population as f64)).sqrt())
        }
    };
    Some(Correlation { value, interval })
}

/// Returns the bytes that the pairs of `count` rows take.
pub(crate) fn bytes(count: usize) -> u64 {
    // The pair, two distances, two ranks, and a sort order with a copy.
    pairs(count).min(MAX_PAIRS) as u64 * (8 + 8 + 16 + 8)
}

fn pairs(count: usize) -> usize {
    count.saturating_mul(count.saturating_sub(1)) / 2
}

/// Returns Spearman's rank correlation of two lists of equal length. Equal values get the mean of
/// their ranks. `None` if a list is constant, has fewer than two values, or the lengths differ.
pub fn spearman(a: &[f32], b: &[f32]) -> Option<f64> {
    (a.len() == b.len()).then(|| pearson(&ranks(a), &ranks(b), |_| true)).flatten()
}

/// Returns the ranks of `values`, from 1. Equal values get the mean of their ranks.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    order.par_sort_unstable_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
    let mut ranks = vec![0.0; values.len()];
    let mut done = 0;
    for equals in order.chunk_by(|&a, &b| values[a as usize] == values[b as usize]) {
        let rank = done as f64 + (equals.len() as f64 + 1.0) / 2.0;
        equals.iter().for_each(|&at| ranks[at as usize] = rank);
        done += equals.len();
    }
    ranks
}

/// Returns Pearson's correlation of the values at the positions for which `take` returns true.
fn pearson(a: &[f64], b: &[f64], take: impl Fn(usize) -> bool) -> Option<f64> {
    let taken = || a.iter().zip(b).enumerate().filter(|&(at, _)| take(at)).map(|(_, pair)| pair);
    let (mut count, mut sums) = (0f64, (0f64, 0f64));
    for (a, b) in taken() {
        (count, sums) = (count + 1.0, (sums.0 + a, sums.1 + b));
    }
    let means = (sums.0 / count, sums.1 / count);
    let (mut aa, mut bb, mut ab) = (0f64, 0f64, 0f64);
    for (a, b) in taken() {
        let (a, b) = (a - means.0, b - means.1);
        (aa, bb, ab) = (aa + a * a, bb + b * b, ab + a * b);
    }
    (aa > 0.0 && bb > 0.0).then(|| (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    #[test]
    fn ranks_average_ties() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[1.0, 4.0, 9.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[9.0, 4.0, 1.0]), Some(-1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0]), None);
        assert_eq!(spearman(&[], &[]), None);
        assert_eq!(spearman(&[1.0], &[1.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[1.0]), None);
    }

    /// Points on a line, and the same points with noise: checks the correlation and interval of
    /// samples.
    #[test]
    fn intervals_cover_the_truth_about_as_often_as_they_say() {
        const ROWS: usize = 900;
        let at: Vec<f32> = (0..ROWS).map(|i| unit(1, 1, i as u64)).collect();
        let moved: Vec<f32> = at.iter().enumerate().map(|(i, x)| x + 0.5 * unit(1, 2, i as u64)).collect();
        let far = |i: usize, j: usize| ((at[i] - at[j]).powi(2), (moved[i] - moved[j]).powi(2));
        let truth = correlation(ROWS, ROWS as u64, 0, far).expect("a correlation");
        assert_eq!(truth.interval, None);
        let mut covered = 0;
        for seed in 0..100 {
            let rows = crate::random::stratified(seed, 7, ROWS as u64, 200);
            let of = |i: usize, j: usize| far(rows[i] as usize, rows[j] as usize);
            let found = correlation(rows.len(), ROWS as u64, seed, of).expect("a correlation");
            covered += u32::from((found.value - truth.value).abs() <= found.interval.expect("an interval"));
        }
        assert!((88..=100).contains(&covered), "{covered} of 100");
    }

    #[test]
    fn sampled_correlation_is_near_the_exact_one() {
        // The rows have more pairs than are compared.
        let far = |i: usize, j: usize| {
            let d = (i as f32 - j as f32).abs();
            (d, (d - 400.0).powi(2) * (1.0 + (i * j % 7) as f32))
        };
        let sampled = correlation(1_100, 1_100, 3, far).expect("a correlation");
        let all: Vec<(f32, f32)> = (0..1_100).flat_map(|i| (0..i).map(move |j| far(i, j))).collect();
        let (data, map): (Vec<f32>, Vec<f32>) = all.into_iter().unzip();
        let truth = spearman(&data, &map).expect("a correlation");
        let interval = sampled.interval.expect("an interval");
        assert!(interval < 0.01 && (sampled.value - truth).abs() <= 2.0 * interval, "{sampled:?}, all {truth}");
    }

    #[test]
    fn triplets_are_of_three_rows() {
        let scores = triplets(5, 40, 1, |i, j, l| {
            assert!(i != j && j != l && i != l);
            Ok(j < l)
        });
        let scores = scores.expect("scores");
        assert!(scores.len() == 5 && scores.iter().all(|s| (0.2..0.8).contains(s)), "{scores:?}");
        assert_eq!(triplets(2, 40, 1, |_, _, _| Ok(true)).expect("none"), [0f64; 0]);
        assert_eq!(triplets(0, 40, 1, |_, _, _| Ok(true)).expect("none"), [0f64; 0]);
    }
}
