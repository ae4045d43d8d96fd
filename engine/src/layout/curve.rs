//! The curve 1 / (1 + a·d^(2b)) that turns a map distance d into a membership, and the fit of a and b to
//! `min_dist` and `spread`.
//!
//! What must hold: a and b agree with umap-learn's `find_ab_params` to the precision of its optimiser, and no
//! input causes a panic or an endless loop.
//!
//! UMAP's defaults:
//!
//! ```
//! use lowland_engine::layout::curve::fit;
//!
//! let curve = fit(0.1, 1.0);
//! assert!((curve.a - 1.577).abs() < 1e-3 && (curve.b - 0.895).abs() < 1e-3);
//! ```

use serde::{Deserialize, Serialize};

/// Number of points of the fit, at equal distances on [0, 3·spread], as in umap-learn.
const FIT_POINTS: usize = 300;

/// Upper bound of the optimiser's steps; usually 5 to 15 are enough.
const MAX_STEPS: usize = 500;

/// The parameters of 1 / (1 + a·d^(2b)), where d is a Euclidean distance in the map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembershipCurve {
    /// Factor of d^(2b).
    pub a: f64,
    /// Half of the exponent.
    pub b: f64,
}

/// Fits the curve by least squares to UMAP's target: 1 up to `min_dist`, exp(−(d − min_dist) / spread) beyond
/// (McInnes, Healy & Melville 2018, section 4.3). The defaults `min_dist` 0.1 and `spread` 1 give a = 1.57694
/// and b = 0.89506.
///
/// Requires 0 ≤ min_dist ≤ spread and spread > 0. The planner refuses other values; for these the function
/// returns meaningless numbers, which may be infinite or NaN.
pub fn fit(min_dist: f64, spread: f64) -> MembershipCurve {
    // Distances are divided by the spread. The problem then depends only on the ratio min_dist / spread, and
    // only `a` depends on the unit.
    let threshold = min_dist / spread;
    let points: [(f64, f64); FIT_POINTS] = std::array::from_fn(|i| {
        let x = 3.0 * i as f64 / (FIT_POINTS - 1) as f64;
        // The point x = 0 is left out of the fit: ln 0 does not exist, and the curve is 1 there for all
        // parameters.
        (x.ln(), (threshold - x).min(0.0).exp())
    });

    // Levenberg–Marquardt over p = (ln a, b).
    let mut p = [0.0, 1.0];
    let mut fit = NormalEquations::at(p, &points[1..]);
    let mut damping = 1e-3;
    for _ in 0..MAX_STEPS {
        let [[h00, h01], [_, h11]] = fit.hessian;
        let (d0, d1) = (h00 * (1.0 + damping), h11 * (1.0 + damping));
        let determinant = d0 * d1 - h01 * h01;
        let step = [
            (d1 * fit.gradient[0] - h01 * fit.gradient[1]) / determinant,
            (d0 * fit.gradient[1] - h01 * fit.gradient[0]) / determinant,
        ];
        let next = [p[0] + step[0], p[1] + step[1]];
        let there = NormalEquations::at(next, &points[1..]);
        if there.squares <= fit.squares {
            (p, fit) = (next, there);
            damping *= 0.1;
        } else {
            damping *= 10.0;
        }
        // The sum of squares is flat at its minimum, so that near the end half of a step's digits are noise;
        // and no step reduces the sum once the damping has grown beyond 10¹⁵.
        if step[0].abs().max(step[1].abs()) < 1e-12 || damping > 1e15 {
            break;
        }
    }
    MembershipCurve { a: p[0].exp() * spread.powf(-2.0 * p[1]), b: p[1] }
}

/// The normal equations of the fit for one pair of parameters.
struct NormalEquations {
    /// Σ (target − curve)².
    squares: f64,
    /// JᵀJ, where J holds the derivatives of the curve by the parameters.
    hessian: [[f64; 2]; 2],
    /// Jᵀ(target − curve).
    gradient: [f64; 2],
}

impl NormalEquations {
    /// Computes the normal equations at (ln a, b); `points` are (ln x, target).
    fn at([ln_a, b]: [f64; 2], points: &[(f64, f64)]) -> Self {
        let mut normal = Self { squares: 0.0, hessian: [[0.0; 2]; 2], gradient: [0.0; 2] };
        for &(ln_x, target) in points {
            let power = (ln_a + 2.0 * b * ln_x).exp();
            let curve = 1.0 / (1.0 + power);
            // The derivative by ln a. The derivative by b is 2·ln x times that. Written as curve · (1 − curve),
            // it is finite even where `power` is not.
            let by_a = -curve * (1.0 - curve);
            let slopes = [by_a, by_a * 2.0 * ln_x];
            let residual = target - curve;
            normal.squares += residual * residual;
            for i in 0..2 {
                normal.gradient[i] += slopes[i] * residual;
                for j in 0..2 {
                    normal.hessian[i][j] += slopes[i] * slopes[j];
                }
            }
        }
        normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (min_dist, spread, a, b) by umap-learn 0.5.12's `find_ab_params(spread, min_dist)`. umap-learn's
    /// optimiser (scipy) stops at a relative change of the squares of 10⁻⁸, which leaves a and b up to 5·10⁻⁶
    /// from the minimum.
    const UMAP_LEARN: [(f64, f64, f64, f64); 19] = [
        (0.0, 0.5, 5.782483390, 0.790495107),
        (0.001, 0.5, 5.776298981, 0.792515307),
        (0.1, 0.5, 5.069309329, 1.003005423),
        (0.25, 0.5, 3.706290202, 1.334167247),
        (0.5, 0.5, 1.667716867, 1.929240437),
        (0.0, 1.0, 1.932808397, 0.790494973),
        (0.001, 1.0, 1.929073396, 0.791504533),
        (0.1, 1.0, 1.576943460, 0.895060878),
        (0.25, 1.0, 1.121436342, 1.057499877),
        (0.5, 1.0, 0.583030020, 1.334166992),
        (0.8, 1.0, 0.232062727, 1.681231603),
        (0.99, 1.0, 0.119305300, 1.916390417),
        (0.0, 2.0, 0.646046672, 0.790494491),
        (0.001, 2.0, 0.644970931, 0.790999147),
        (0.1, 2.0, 0.544660540, 0.842055427),
        (0.25, 2.0, 0.416273497, 0.921855132),
        (0.5, 2.0, 0.258878741, 1.057499699),
        (0.8, 2.0, 0.140821021, 1.222563349),
        (0.99, 2.0, 0.093747266, 1.328536098),
    ];

    fn squares(curve: MembershipCurve, min_dist: f64, spread: f64) -> f64 {
        (0..FIT_POINTS)
            .map(|i| {
                let x = 3.0 * spread * i as f64 / (FIT_POINTS - 1) as f64;
                let target = if x < min_dist { 1.0 } else { (-(x - min_dist) / spread).exp() };
                (target - 1.0 / (1.0 + curve.a * x.powf(2.0 * curve.b))).powi(2)
            })
            .sum()
    }

    #[test]
    fn agrees_with_umap_learn_and_is_no_worse() {
        for (min_dist, spread, a, b) in UMAP_LEARN {
            let curve = fit(min_dist, spread);
            assert!((curve.a / a - 1.0).abs() < 6e-6, "{min_dist} {spread}: {curve:?}, a = {a}");
            assert!((curve.b / b - 1.0).abs() < 6e-6, "{min_dist} {spread}: {curve:?}, b = {b}");
            let theirs = squares(MembershipCurve { a, b }, min_dist, spread);
            assert!(squares(curve, min_dist, spread) <= theirs * (1.0 + 1e-12));
        }
    }

    #[test]
    fn defaults_are_the_known_ones() {
        let curve = fit(0.1, 1.0);
        assert!((curve.a - 1.576_943_5).abs() < 2e-7, "{curve:?}");
        assert!((curve.b - 0.895_060_8).abs() < 2e-7, "{curve:?}");
    }

    #[test]
    fn the_unit_of_length_only_scales_a() {
        let one = fit(0.1, 1.0);
        for spread in [1e-6, 0.01, 3.0, 1e6] {
            let other = fit(0.1 * spread, spread);
            assert!((other.b - one.b).abs() < 1e-9);
            let scaled = other.a * spread.powf(2.0 * other.b);
            assert!((scaled / one.a - 1.0).abs() < 1e-7);
        }
    }

    #[test]
    fn valid_input_gives_a_falling_curve_and_no_input_hangs() {
        for i in 0..=100 {
            let curve = fit(f64::from(i) / 100.0, 1.0);
            assert!(curve.a > 0.0 && curve.a.is_finite() && curve.b > 0.5 && curve.b < 3.0);
        }
        let odd = [0.0, -1.0, 1.0, 5.0, f64::MAX, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY];
        for min_dist in odd {
            for spread in odd {
                fit(min_dist, spread);
            }
        }
    }
}
