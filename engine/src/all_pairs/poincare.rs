//! The Poincaré ball of curvature −1, the space of hyperbolic maps (Ganea, Bécigneul, Hofmann
//! 2018). Points are short slices of f64 with |x| < 1.
//!
//! What must hold: no operation leaves the ball, and no point of the ball yields NaN.

/// Points are projected to within this radius.
pub(super) const RADIUS: f64 = 1.0 - 1e-5;

/// Returns the hyperbolic distance of the outermost points to the origin: 2 artanh of [`RADIUS`].
pub(super) fn max_distance() -> f64 {
    2.0 * RADIUS.atanh()
}
/// Vectors are treated as at least this long, to avoid division by 0.
const MIN_LENGTH: f64 = 1e-15;
/// tanh is 1 in f64 beyond this value, almost exactly.
const TANH_LIMIT: f64 = 15.0;

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt().max(MIN_LENGTH)
}

/// Returns the conformal factor λ_x = 2/(1 − |x|²), the ratio of hyperbolic to Euclidean length at
/// x.
pub(super) fn conformal(x: &[f64]) -> f64 {
    2.0 / (1.0 - dot(x, x)).max(MIN_LENGTH)
}

/// Computes the Möbius addition x ⊕ y.
fn add(x: &[f64], y: &[f64], out: &mut [f64]) {
    let (xx, yy, xy) = (dot(x, x), dot(y, y), dot(x, y));
    let (a, b) = (1.0 + 2.0 * xy + yy, 1.0 - xx);
    let divisor = (1.0 + 2.0 * xy + xx * yy).max(MIN_LENGTH);
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = (a * x + b * y) / divisor;
    }
}

/// Computes the exponential map: the point reached from `x` along the tangent vector `v`, x ⊕
/// tanh(λ|v|/2)·v/|v|.
pub(super) fn exp(x: &[f64], v: &[f64], out: &mut [f64]) {
    let length = norm(v);
    let scale = (0.5 * conformal(x) * length).min(TANH_LIMIT).tanh() / length;
    let along: Vec<f64> = v.iter().map(|v| v * scale).collect();
    add(x, &along, out);
}

/// Computes [`exp`] at the origin, with λ = 1 instead of 2, as TorchDR's `expmap0`.
pub(super) fn exp0(v: &mut [f64]) {
    let length = norm(v);
    let scale = length.min(TANH_LIMIT).tanh() / length;
    v.iter_mut().for_each(|v| *v *= scale);
}

/// Projects a point into [`RADIUS`], along the line to the origin.
pub(super) fn project(x: &mut [f64]) {
    let length = norm(x);
    if length > RADIUS {
        x.iter_mut().for_each(|x| *x *= RADIUS / length);
    }
}

/// Transports the tangent vector `v` from `x` to `y`: gyr[y, −x] v · λ_x/λ_y.
pub(super) fn transport(x: &[f64], y: &[f64], v: &mut [f64]) {
    let (u, w): (&[f64], Vec<f64>) = (y, x.iter().map(|x| -x).collect());
    let (uu, ww, uw) = (dot(u, u), dot(&w, &w), dot(u, &w));
    let (uv, wv) = (dot(u, v), dot(&w, v));
    let a = -uv * ww + wv + 2.0 * uw * wv;
    let b = -wv * uu - uv;
    let divisor = (1.0 + 2.0 * uw + uu * ww).max(MIN_LENGTH);
    let scale = conformal(x) / conformal(y);
    for ((v, u), w) in v.iter_mut().zip(u).zip(&w) {
        *v = (*v + 2.0 * (a * u + b * w) / divisor) * scale;
    }
}

/// Returns the tangent vector at `x` that [`exp`] maps to `y`.
#[cfg(test)]
fn log(x: &[f64], y: &[f64]) -> Vec<f64> {
    let minus: Vec<f64> = x.iter().map(|x| -x).collect();
    let mut difference = vec![0.0; x.len()];
    add(&minus, y, &mut difference);
    let length = norm(&difference);
    difference.iter().map(|d| 2.0 / conformal(x) * length.atanh() * d / length).collect()
}

/// Returns the distance of two points.
#[cfg(test)]
pub(super) fn distance(x: &[f64], y: &[f64]) -> f64 {
    let minus: Vec<f64> = x.iter().map(|x| -x).collect();
    let mut difference = vec![0.0; x.len()];
    add(&minus, y, &mut difference);
    2.0 * norm(&difference).atanh()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    fn points(count: usize) -> Vec<[f64; 3]> {
        (0..count as u64)
            .map(|i| {
                let mut x = std::array::from_fn(|c| f64::from(unit(7, c as u64, i)) - 0.5);
                x.iter_mut().for_each(|x| *x *= 1.1);
                x
            })
            .collect()
    }

    #[test]
    fn exp_and_log_undo_each_other_and_lengths_are_distances() {
        for pair in points(200).chunks(2) {
            let (x, y) = (&pair[0], &pair[1]);
            let v = log(x, y);
            let mut there = [0.0; 3];
            exp(x, &v, &mut there);
            for (a, b) in there.iter().zip(y) {
                assert!((a - b).abs() < 1e-12, "{x:?} {y:?}");
            }
            let length = conformal(x) * dot(&v, &v).sqrt();
            assert!((length - distance(x, y)).abs() < 1e-10);
            // The distance formula of the losses, without their 10⁻⁸.
            let d: f64 = x.iter().zip(y).map(|(a, b)| (a - b) * (a - b)).sum();
            let by_formula = (1.0 + 2.0 * d / ((1.0 - dot(x, x)) * (1.0 - dot(y, y)))).acosh();
            assert!((by_formula - distance(x, y)).abs() < 1e-10);
        }
    }

    #[test]
    fn on_the_hyperboloid_points_keep_its_equation() {
        for x in points(100) {
            // t = (1 + |x|²)/(1 − |x|²), s = 2x/(1 − |x|²): t² − |s|² = 1.
            let room = 1.0 - dot(&x, &x);
            let time = (1.0 + dot(&x, &x)) / room;
            let space: f64 = x.iter().map(|x| (2.0 * x / room).powi(2)).sum();
            assert!((time * time - space - 1.0).abs() < 1e-9 * time * time);
            // The distance to the origin is arcosh t.
            assert!((time.acosh() - distance(&[0.0; 3], &x)).abs() < 1e-10);
        }
    }

    #[test]
    fn transport_keeps_lengths_and_the_direction_of_travel() {
        for pair in points(100).chunks(2) {
            let (x, y) = (&pair[0], &pair[1]);
            let mut v = log(x, y);
            let before = conformal(x) * dot(&v, &v).sqrt();
            transport(x, y, &mut v);
            let after = conformal(y) * dot(&v, &v).sqrt();
            assert!((before - after).abs() < 1e-9, "{before} {after}");
            // The transported vector from x to y is the negative of the vector from y to x.
            for (a, b) in v.iter().zip(log(y, x)) {
                assert!((a + b).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn points_stay_in_the_ball() {
        for v in [[1e9, 0.0, 0.0], [f64::MIN_POSITIVE, 0.0, 0.0], [0.0; 3], [-3.0, 1e200, 0.0]] {
            for x in points(20) {
                let mut there = [0.0; 3];
                exp(&x, &v, &mut there);
                project(&mut there);
                assert!(dot(&there, &there).sqrt() <= RADIUS + 1e-12, "{x:?} {v:?}: {there:?}");
                let mut carried = v;
                transport(&x, &there, &mut carried);
                assert!(carried.iter().all(|c| !c.is_nan()));
            }
            let mut w = v;
            exp0(&mut w);
            assert!(dot(&w, &w) <= 1.0);
        }
    }
}
