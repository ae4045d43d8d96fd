//! Scores of maps whose points are placed at random, and the warning where a map is no better.

use super::Quality;
use crate::Result;
use crate::observe::Progress;

/// A score that exceeds that of chance by this much is better than chance, whatever its interval.
const CLEAR_MARGIN: f64 = 0.1;

/// If the score of random maps has a larger standard error than this, no warning is given.
const MAX_CHANCE_ERROR: f64 = 0.08;

/// The score of maps with random positions: its mean, and its standard error over a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ChanceScore {
    mean: f64,
    error: f64,
}

impl ChanceScore {
    /// Returns the trustworthiness of `n` rows with `k` neighbours, over `sample` rows: the neighbours in the
    /// map are random rows, whose ranks in the data are uniform on 1 to n − 1. Each neighbour costs max(0, rank
    /// − k), which is each of 1 to m = n − 1 − k with probability 1 / (n − 1), and otherwise 0.
    fn of_trustworthiness(n: u64, k: usize, sample: usize) -> Self {
        let (n, k) = (n as f64, k as f64);
        let m = n - 1.0 - k;
        let mean = m * (m + 1.0) / (2.0 * (n - 1.0));
        let square = m * (m + 1.0) * (2.0 * m + 1.0) / (6.0 * (n - 1.0));
        // The score is 1 − scale / k · Σ of the costs of k neighbours.
        let scale = 2.0 / (2.0 * n - 3.0 * k - 1.0);
        let error = scale * ((square - mean * mean) / k / sample.max(1) as f64).sqrt();
        ChanceScore { mean: 1.0 - scale * mean, error }
    }

    /// Returns the share of `k` neighbours that are preserved, where each neighbour in the map is one of n − 1
    /// rows.
    fn of_preservation(n: u64, k: usize, sample: usize) -> Self {
        let share = k as f64 / (n as f64 - 1.0);
        ChanceScore { mean: share, error: (share * (1.0 - share) / k as f64 / sample.max(1) as f64).sqrt() }
    }

    /// Returns whether a score with this interval is no better than chance.
    fn is_consistent_with(self, mean: f64, interval: f64) -> bool {
        self.error <= MAX_CHANCE_ERROR && mean - self.mean <= interval.max(2.0 * self.error).min(CLEAR_MARGIN)
    }
}

/// Warns if the scores are no better than those of random positions.
pub(crate) fn warn_of_chance(rows: u64, quality: &Quality, progress: &Progress<'_>) -> Result<()> {
    let (k, sample) = (quality.k, quality.sample_rows);
    let (name, score, chance) = match quality.trustworthiness {
        Some(score) => ("trustworthiness", score, ChanceScore::of_trustworthiness(rows, k, sample)),
        None if 2 * k as u64 >= rows => return Ok(()),
        None => ("neighbourhood preservation", quality.preservation, ChanceScore::of_preservation(rows, k, sample)),
    };
    if !chance.is_consistent_with(score.mean, score.interval) {
        return Ok(());
    }
    let text = format!(
        "the map is no better than chance: {name}@{k} is {:.4} ± {:.4}, and points placed at random have {:.4}; either \
         the layout failed, or the rows have no neighbourhoods to show (as random data of many components)",
        score.mean, score.interval, chance.mean
    );
    progress.warn("map-by-chance", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Score, mean_and_interval, trustworthiness};
    use crate::observe::warning_kinds;
    use crate::random::unit;

    #[test]
    fn random_maps_score_at_chance() {
        let (n, dim) = (120usize, 6);
        for k in [3, 10, 30] {
            let scores: Vec<f64> = (0..40)
                .map(|map| {
                    let data: Vec<f32> = (0..n * dim).map(|i| unit(map, 1, i as u64)).collect();
                    let places: Vec<f32> = (0..n * 2).map(|i| unit(map, 2, i as u64)).collect();
                    trustworthiness(&data, dim, &places, 2, k).expect("a score")
                })
                .collect();
            let (mean, interval) = mean_and_interval(&scores);
            let chance = ChanceScore::of_trustworthiness(n as u64, k, n);
            assert!((mean - chance.mean).abs() < 2.0 * interval, "{k}: {mean} ± {interval}, {chance:?}");
            assert!(chance.error > 0.0 && chance.error < 0.05, "{chance:?}");
        }
    }

    #[test]
    fn chance_scores_warn_and_better_ones_do_not() {
        let told = |rows: u64, k, trustworthiness: Option<f64>, preservation: f64, interval: f64| {
            let score = |mean| Score { mean, interval };
            let quality = Quality {
                k,
                sample_rows: rows.min(1000) as usize,
                trustworthiness: trustworthiness.map(score),
                preservation: score(preservation),
                triplets: None,
            };
            !warning_kinds(|progress| warn_of_chance(rows, &quality, progress)).is_empty()
        };
        assert!(told(100, 15, Some(0.51), 0.15, 0.02));
        assert!(told(1_000_000, 15, Some(0.4975), 0.0, 0.005));
        assert!(told(5000, 15, Some(0.35), 0.0, 0.005));
        assert!(!told(5000, 15, Some(0.53), 0.0, 0.005));
        assert!(!told(100, 15, Some(0.93), 0.5, 0.02));
        // The scores of few rows vary too much.
        assert!(!told(3, 1, Some(0.5), 0.5, 0.5));
        assert!(!told(2, 1, None, 1.0, 0.0));
        // For a graph without vectors, there is no trustworthiness.
        assert!(told(1000, 15, None, 0.016, 0.002) && !told(1000, 15, None, 0.2, 0.01));
    }
}
