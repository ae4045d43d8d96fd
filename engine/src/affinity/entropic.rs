//! The entropic affinity of one row (Hinton, Roweis 2002): probabilities pⱼ ∝ exp(−β Cⱼ) of the row's
//! neighbours, with β such that the entropy −Σ p log p is the logarithm of the perplexity. (TorchDR's guide
//! defines the entropy as −Σ p (log p − 1), which is larger by 1.)
//!
//! The cost C is the squared distance for the Euclidean metric. For the cosine metric it is 1 − cos, which is
//! half of the squared distance of rows of length 1.
//!
//! What must hold: a row's weights depend only on that row's arguments, sum to 1 if the row has any neighbour,
//! and are never NaN.
//!
//! The probabilities of a row's neighbours:
//!
//! ```
//! use lowland_engine::affinity::entropic::calibrate;
//!
//! let mut weights = [0.0; 4];
//! calibrate(&[1.0, 2.0, 3.0, 4.0], 2.0, &mut weights); // squared distances, perplexity
//! let entropy: f32 = weights.iter().map(|p| -p * p.ln()).sum();
//! assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5 && (entropy.exp() - 2.0).abs() < 1e-3);
//! ```

/// Upper bound of the steps of the root search; bisection alone would need about 80.
const MAX_STEPS: usize = 200;

/// Computes the probabilities of a row's neighbours from their `costs`, and returns β. A cost that is not
/// finite stands for a missing neighbour, whose probability is 0. If there are no more neighbours than the
/// perplexity, or all costs are equal, all probabilities are equal and β is 0.
pub fn calibrate(costs: &[f64], perplexity: f64, weights: &mut [f32]) -> f64 {
    debug_assert_eq!(costs.len(), weights.len());
    let present = costs.iter().filter(|c| c.is_finite()).count();
    let least = costs.iter().copied().filter(|c| c.is_finite()).fold(f64::INFINITY, f64::min);
    let (mut sum, mut nearest, mut ties) = (0.0, f64::INFINITY, 0usize);
    for excess in costs.iter().filter(|c| c.is_finite()).map(|c| c - least) {
        sum += excess;
        if excess > 0.0 {
            nearest = nearest.min(excess);
        } else {
            ties += 1;
        }
    }
    let target = perplexity.max(1.0).ln();
    let beta = if present as f64 <= perplexity || ties == present {
        0.0
    } else if ties as f64 >= perplexity {
        // At least as many nearest neighbours as the perplexity have the same cost: only these get a
        // probability above 0.
        f64::INFINITY
    } else {
        solve_beta(costs, least, target, present as f64 / sum, nearest)
    };
    let weigh = |cost: f64| match cost - least {
        excess if !excess.is_finite() => 0.0,
        0.0 => 1.0,
        excess => (-beta * excess).exp(),
    };
    let total: f64 = costs.iter().map(|&c| weigh(c)).sum();
    for (weight, &cost) in weights.iter_mut().zip(costs) {
        *weight = if total > 0.0 { (weigh(cost) / total) as f32 } else { 0.0 };
    }
    beta
}

/// Returns the β > 0 for which the entropy is `target`: Newton's method on log β, within an interval known to
/// contain the root. The entropy falls with β.
fn solve_beta(costs: &[f64], least: f64, target: f64, start: f64, nearest: f64) -> f64 {
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut beta = start;
    for _ in 0..MAX_STEPS {
        let (mut zero, mut one, mut two) = (0.0, 0.0, 0.0);
        for excess in costs.iter().filter(|c| c.is_finite()).map(|c| c - least) {
            let term = (-beta * excess).exp();
            zero += term;
            one += term * excess;
            two += term * excess * excess;
        }
        let mean = one / zero;
        let over = zero.ln() + beta * mean - target;
        if over > 0.0 {
            low = beta
        } else {
            high = beta
        }
        let closed = high.is_finite() && high - low <= 1e-14 * high;
        if over.abs() < 1e-12 || closed || beta * nearest > 800.0 {
            break;
        }
        // The derivative of the entropy by log β is −β² times the variance of the costs.
        let slope = beta * beta * (two / zero - mean * mean);
        let next = beta * (over / slope).clamp(-3.0, 3.0).exp();
        let between = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * beta };
        beta = if next > low && next < high { next } else { between };
    }
    beta
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entropy(weights: &[f32]) -> f64 {
        weights.iter().map(|&p| f64::from(p)).filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum()
    }

    #[test]
    fn two_costs_have_a_closed_form() {
        // Probabilities of 0.9 and 0.1 have entropy 0.325 and perplexity 1.384.
        let perplexity = (-(0.9f64.ln() * 0.9 + 0.1f64.ln() * 0.1)).exp();
        let mut weights = [0.0; 2];
        let beta = calibrate(&[3.0, 5.0], perplexity, &mut weights);
        assert!((beta - 9f64.ln() / 2.0).abs() < 1e-9, "{beta}");
        assert!((weights[0] - 0.9).abs() < 1e-6 && (weights[1] - 0.1).abs() < 1e-6, "{weights:?}");
    }

    #[test]
    fn missing_or_equal_distances_give_no_nan() {
        const INF: f64 = f64::INFINITY;
        for (costs, expected) in [
            (&[][..], &[][..]),
            (&[2.0], &[1.0]),
            (&[INF, INF], &[0.0, 0.0]),
            (&[1.0, INF], &[1.0, 0.0]),
            // No more neighbours than the perplexity: equal probabilities.
            (&[0.0, 9.0], &[0.5, 0.5]),
            (&[4.0, 4.0, 4.0, 4.0], &[0.25; 4]),
            // More copies than the perplexity.
            (&[0.0, 0.0, 0.0, 0.0, 7.0], &[0.25, 0.25, 0.25, 0.25, 0.0]),
            (&[1.0, f64::NAN, 2.0, INF], &[0.5, 0.0, 0.5, 0.0]),
        ] {
            let mut weights = vec![f32::NAN; costs.len()];
            calibrate(costs, 3.0, &mut weights);
            assert_eq!(weights, expected, "{costs:?}");
        }
    }

    proptest! {
        /// Rows over many decades, for which a root exists.
        #[test]
        fn entropy_matches_the_perplexity(
            mut costs in prop::collection::vec((-20i32..20, 1f64..9.9).prop_map(|(e, m)| m * 10f64.powi(e)), 5..90),
            share in 0.05f64..0.95,
        ) {
            costs.sort_by(f64::total_cmp);
            costs.dedup();
            prop_assume!(costs.len() > 3);
            let perplexity = 1.05 + share * (costs.len() as f64 - 1.5);
            let mut weights = vec![0.0; costs.len()];
            calibrate(&costs, perplexity, &mut weights);
            let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-5, "{}", sum);
            prop_assert!((entropy(&weights) - perplexity.ln()).abs() < 2e-5, "{} {}", entropy(&weights), perplexity.ln());
            prop_assert!(weights.is_sorted_by(|a, b| a >= b));
        }
    }
}
