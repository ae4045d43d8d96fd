//! UMAP's calibration of one row: computes the weights of the row's directed edges from the distances to its
//! neighbours.
//!
//! The formulas are umap-learn's `smooth_knn_dist` and `compute_membership_strengths` (0.5; McInnes, Healy &
//! Melville 2018, algorithm 3), with local connectivity 1 and bandwidth 1. umap-learn stops its bisection when
//! the sum of weights is within 10⁻⁵ of the target, in f32; here the root is computed to f64's precision, so
//! that the weights agree with umap-learn's to about 10⁻⁵. One difference is intended: in umap-learn, one
//! missing neighbour (+∞) makes the row's mean and therefore σ infinite, and all of the row's weights 1; here
//! missing neighbours are left out of the mean.
//!
//! What must hold: a row's weights depend only on that row's arguments, and no input gives NaN.
//!
//! The weights of a row with four neighbours:
//!
//! ```
//! use lowland_engine::affinity::calibrate::{calibrate, target};
//!
//! let mut weights = [0.0; 4];
//! let scale = calibrate(&[1.0, 1.5, 2.0, 3.0], target(4), 1.9, &mut weights);
//! assert_eq!((scale.rho, weights[0]), (1.0, 1.0)); // the nearest neighbour has weight 1
//! assert!((weights.iter().sum::<f32>() - 2.0).abs() < 1e-4); // log₂ 4
//! ```

/// umap-learn's `MIN_K_DIST_SCALE`: the smallest σ, as a fraction of the mean distance.
const MIN_SIGMA_SHARE: f64 = 1e-3;

/// Upper bound of the steps of the root search. Newton's method takes 4 or 5 steps on ordinary rows, and took
/// at most 42 on rows made to be hard (distances over 80 decades).
const MAX_STEPS: usize = 200;

/// The parameters of a calibrated row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowScale {
    /// ρ: the smallest distance above 0 to a neighbour; 0 if there is none.
    pub rho: f64,
    /// σ: the scale on which weights fall off beyond ρ, chosen so that the weights sum to the target.
    /// `f64::MAX` where the weights of all neighbours cannot exceed the target; 0 only where every distance and
    /// `mean_distance` are 0.
    pub sigma: f64,
}

/// Returns the sum that a row's weights must have: log₂ of the number of neighbours.
///
/// umap-learn counts the point itself among its `n_neighbors`; to get umap-learn's weights from k *other*
/// points, pass k + 1.
pub fn target(n_neighbors: usize) -> f64 {
    (n_neighbors.max(1) as f64).log2()
}

/// Computes ρ and σ of one row and writes the weights of its edges.
///
/// - `distances`: the distances to the k nearest other points (never the row itself), ascending; duplicates of
///   the row are at 0, missing neighbours at +∞.
/// - `target`: the sum that the weights should have, see [`target`].
/// - `mean_distance`: the mean over all rows of the data set, where each row contributes its k finite distances
///   and a 0 for the row itself (umap-learn's matrices have that column). The mean bounds σ of rows without a
///   distance above 0; the weights of such rows are 1 in any case.
/// - `weights`: k values, w = exp(−max(0, d − ρ) / σ); 0 where the neighbour is missing.
///
/// # Panics
/// If `weights` and `distances` differ in length.
pub fn calibrate(distances: &[f32], target: f64, mean_distance: f64, weights: &mut [f32]) -> RowScale {
    let rho = distances.iter().find(|d| d.is_finite() && **d > 0.0).map_or(0.0, |&d| f64::from(d));
    calibrate_beyond(rho, distances, target, mean_distance, weights)
}

/// Like [`calibrate`], for a ρ that is given. With ρ = 0 only copies of the row have weight 1, as in umap-learn's
/// `transform`.
///
/// # Panics
/// If `weights` and `distances` differ in length.
pub fn calibrate_beyond(rho: f64, distances: &[f32], target: f64, mean_distance: f64, weights: &mut [f32]) -> RowScale {
    assert_eq!(distances.len(), weights.len(), "one weight per distance");
    // A distance of NaN counts as a missing neighbour.
    let finite = || distances.iter().filter(|d| d.is_finite());

    // Neighbours at distance ρ or less have weight 1 for any σ; the weights of the others must sum to the rest
    // of the target.
    let (mut beyond, mut sum, mut nearest) = (0usize, 0.0, f64::INFINITY);
    let (mut present, mut total) = (0usize, 0.0);
    for &d in finite() {
        present += 1;
        total += f64::from(d);
        let excess = f64::from(d) - rho;
        if excess > 0.0 {
            beyond += 1;
            sum += excess;
            nearest = nearest.min(excess);
        }
    }
    let rest = target - (present - beyond) as f64;
    let sigma = if rest >= beyond as f64 {
        // Also if no neighbour is beyond ρ, where no weight depends on σ.
        f64::MAX
    } else if rest > 0.0 {
        1.0 / solve_inverse_sigma(distances, rho, rest, beyond, sum, nearest)
    } else {
        0.0
    };
    let mean = if total > 0.0 { total / (present + 1) as f64 } else { mean_distance };
    // `max` replaces a NaN; `min` makes an infinite mean finite.
    let sigma = sigma.max(MIN_SIGMA_SHARE * mean).min(f64::MAX);

    for (weight, &d) in weights.iter_mut().zip(distances) {
        let excess = f64::from(d) - rho;
        *weight = if !d.is_finite() {
            0.0
        } else if excess <= 0.0 || sigma == 0.0 {
            1.0
        } else {
            (-excess / sigma).exp() as f32
        };
    }
    RowScale { rho, sigma }
}

/// Returns the s = 1/σ > 0 with Σ exp(−s·eⱼ) = `rest`, where eⱼ > 0 are the `beyond` > `rest` distances minus
/// ρ, `sum` is the sum and `nearest` the smallest of the eⱼ.
///
/// ln Σ exp(−s·eⱼ) is convex and falls with s, so that Newton's method on it, started left of the root,
/// approaches the root from the left and never passes it. By Jensen's inequality the sum is at least
/// `beyond`·exp(−s·mean e), which gives the start. Each term is at most exp(−s·nearest), which gives an upper
/// bound of the root.
fn solve_inverse_sigma(distances: &[f32], rho: f64, rest: f64, beyond: usize, sum: f64, nearest: f64) -> f64 {
    let fall = (beyond as f64 / rest).ln();
    let mut s = fall / (sum / beyond as f64);
    let end = fall / nearest;
    for _ in 0..MAX_STEPS {
        let (mut value, mut slope) = (0.0, 0.0);
        for &d in distances {
            let excess = f64::from(d) - rho;
            if excess > 0.0 && d.is_finite() {
                let term = (-excess * s).exp();
                value += term;
                slope += excess * term;
            }
        }
        let next = (s + (value / rest).ln() * (value / slope)).min(end);
        // Convergence is quadratic: after a step this small, the error is below f64's precision. The same holds
        // where rounding makes the step negative.
        let done = next <= s * (1.0 + 1e-9);
        s = s.max(next);
        if done {
            break;
        }
    }
    s
}

/// Returns the weight of the undirected edge of two directed ones: a + b − a·b, the probability that at least
/// one of two independent edges exists (umap-learn's `set_op_mix_ratio` = 1). Computed in f64, so that the
/// result is exactly 1 where a or b is 1, and never above 1.
pub fn fuzzy_union(a: f32, b: f32) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    (a + b - a * b) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(distances: &[f32], target: f64) -> (RowScale, Vec<f32>) {
        let mut weights = vec![f32::NAN; distances.len()];
        let row = calibrate(distances, target, 1.0, &mut weights);
        (row, weights)
    }

    #[test]
    fn weights_sum_to_the_target() {
        let distances: Vec<f32> = (1..=15).map(|i| 3.0 + (i as f32).sqrt()).collect();
        for n_neighbors in [3, 5, 15, 16] {
            let target = target(n_neighbors);
            let (row, weights) = run(&distances, target);
            let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            assert!((sum - target).abs() < 1e-6, "{sum} for {target}");
            assert_eq!(row.rho, f64::from(distances[0]));
            assert_eq!(weights[0], 1.0);
            assert!(weights.is_sorted_by(|a, b| a >= b));
        }
    }

    #[test]
    fn two_distances_have_a_closed_form() {
        // The equation is 1 + exp(−1/σ) = 1.25.
        let (row, weights) = run(&[2.0, 3.0], 1.25);
        assert_eq!(row.rho, 2.0);
        assert!((row.sigma - 1.0 / 4f64.ln()).abs() < 1e-15);
        assert_eq!(weights, [1.0, 0.25]);
    }

    #[test]
    fn without_rho_the_nearest_weighs_less_than_one() {
        let mut weights = [f32::NAN; 4];
        let row = calibrate_beyond(0.0, &[0.0, 1.0, 2.0, 3.0], 2.0, 1.0, &mut weights);
        assert!(weights[0] == 1.0 && weights[1] < 1.0 && row.rho == 0.0, "{weights:?}");
        assert!((weights.iter().sum::<f32>() - 2.0).abs() < 1e-6);
    }

    #[test]
    fn duplicates_weigh_one_and_do_not_set_rho() {
        let (row, weights) = run(&[0.0, 0.0, 0.5, 0.75, 2.0, 4.0], 3.5);
        assert_eq!(row.rho, 0.5);
        assert_eq!(weights[..3], [1.0, 1.0, 1.0]);
        assert!((weights[3..].iter().sum::<f32>() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn sigma_has_a_floor() {
        // Five neighbours at ρ already exceed the target, so that σ would be 0.
        let distances = [2.0, 2.0, 2.0, 2.0, 2.0, 2.001, 3.0];
        let (row, weights) = run(&distances, 2.8);
        let mean = distances.iter().map(|&d| f64::from(d)).sum::<f64>() / 8.0;
        assert!((row.sigma - 1e-3 * mean).abs() < 1e-18);
        assert_eq!(weights[..5], [1.0; 5]);
        assert!(weights[5] > 0.5 && weights[5] < 0.6 && weights[6] < 1e-30);
        // Without a distance above 0, the data set's mean sets the floor.
        let (row, weights) = run(&[0.0; 4], 2.0);
        assert_eq!(row, RowScale { rho: 0.0, sigma: 1e-3 });
        assert_eq!(weights, [1.0; 4]);
    }

    #[test]
    fn missing_or_equal_distances_give_no_nan() {
        const INF: f32 = f32::INFINITY;
        for (distances, expected) in [
            (&[][..], &[][..]),
            (&[1.0], &[1.0]),
            (&[0.0], &[1.0]),
            (&[INF], &[0.0]),
            (&[INF, INF], &[0.0, 0.0]),
            (&[0.0, INF], &[1.0, 0.0]),
            (&[1.0, INF, INF], &[1.0, 0.0, 0.0]),
            (&[1.0, 2.0, INF], &[1.0, 1.0, 0.0]),
            (&[1.0, 1.0, 1.0, 1.0], &[1.0, 1.0, 1.0, 1.0]),
            (&[0.0, 0.0, 0.0, 0.0], &[1.0, 1.0, 1.0, 1.0]),
            (&[1.0, f32::NAN], &[1.0, 0.0]),
        ] {
            let target = target(distances.len() + 1).max(1.5);
            for mean in [0.0, 1.0, f64::NAN, f64::INFINITY] {
                let mut weights = vec![f32::NAN; distances.len()];
                let row = calibrate(distances, target, mean, &mut weights);
                assert_eq!(weights, expected, "{distances:?}");
                assert!(row.rho.is_finite() && row.sigma.is_finite(), "{row:?}");
            }
        }
    }

    #[test]
    fn union_of_memberships() {
        assert_eq!(fuzzy_union(1.0, 0.3), 1.0);
        assert_eq!(fuzzy_union(0.5, 0.5), 0.75);
        assert_eq!(fuzzy_union(0.0, 0.25), 0.25);
        for i in 0..=1000 {
            let b = i as f32 / 1000.0;
            assert_eq!((fuzzy_union(1.0, b), fuzzy_union(b, 0.0)), (1.0, b));
        }
    }

    /// Returns the sum of the row's weights before they are rounded to f32.
    fn sum_at(distances: &[f32], row: RowScale) -> f64 {
        (distances.iter()).map(|&d| (-(f64::from(d) - row.rho).max(0.0) / row.sigma).exp()).sum()
    }

    proptest! {
        /// Rows over the whole range of f32, where scales differ by a factor of up to 10⁷⁶.
        #[test]
        fn the_root_is_found_on_any_row(
            mut distances in prop::collection::vec(
                prop_oneof![(-45i32..38, 1f32..9.9).prop_map(|(e, m)| m * 10f32.powi(e)), 0f32..1.0],
                1..40,
            ),
            share in 0.01f64..0.99,
        ) {
            distances.sort_by(f32::total_cmp);
            let target = 1.0 + share * (distances.len() - 1) as f64;
            let (row, weights) = run(&distances, target);
            prop_assert!(weights.iter().all(|w| (0.0..=1.0).contains(w)));
            prop_assert!(row.sigma.is_finite() && row.sigma > 0.0);
            let mean = distances.iter().map(|&d| f64::from(d)).sum::<f64>()
                / (distances.len() + 1) as f64;
            let fixed = distances.iter().filter(|&&d| f64::from(d) <= row.rho).count();
            if row.sigma > 1.0000001 * MIN_SIGMA_SHARE * mean && (fixed as f64) < target {
                let sum = sum_at(&distances, row);
                prop_assert!((sum - target).abs() < 1e-9 * target, "{} for {}", sum, target);
            }
        }
    }
}
