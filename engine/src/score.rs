//! The mean over a sample of rows, and its interval for the mean over all rows.

use serde::{Deserialize, Serialize};

/// Half the width of a 95 % interval, in standard errors.
pub(crate) const STANDARD_ERRORS: f64 = 1.96;

/// A mean over the sample and half the width of its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The mean.
    pub mean: f64,
    /// 1.96 standard errors.
    pub interval: f64,
}

impl From<(f64, f64)> for Score {
    fn from((mean, interval): (f64, f64)) -> Self {
        Score { mean, interval }
    }
}

/// Returns the mean and 1.96 standard errors of `values`, summed in order.
pub fn mean_and_interval(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, STANDARD_ERRORS * (variance / n).sqrt())
}

/// Returns the mean of `values`, which belong to a sample of rows drawn without replacement from
/// `population` rows, and half the width of its 95 % interval (with finite-population correction).
/// The interval is `None` if the sample is all rows.
pub(crate) fn of_sample(values: &[f64], population: u64) -> (f64, Option<f64>) {
    let (mean, interval) = mean_and_interval(values);
    let left = 1.0 - values.len() as f64 / population.max(1) as f64;
    (mean, (left > 0.0).then(|| interval * left.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_equal_values_are_zero() {
        assert_eq!(mean_and_interval(&[0.5; 10]), (0.5, 0.0));
        assert_eq!(mean_and_interval(&[1.0]), (1.0, 0.0));
        assert_eq!(mean_and_interval(&[]), (0.0, 0.0));
    }

    #[test]
    fn no_interval_when_all_rows_are_scored() {
        let values = [0.0, 1.0, 0.0, 1.0];
        assert_eq!(of_sample(&values, 4), (0.5, None));
        let (mean, interval) = of_sample(&values, 16);
        let whole = mean_and_interval(&values).1;
        assert!(mean == 0.5 && interval.is_some_and(|i| (i - whole * 0.75f64.sqrt()).abs() < 1e-12));
    }
}
