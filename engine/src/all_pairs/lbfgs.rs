//! L-BFGS with a strong Wolfe line search (Nocedal, Wright 2006, algorithms 7.4, 3.5 and 3.6), for
//! the dual problems of affinities.

use super::real;
use crate::Result;

/// Number of steps from which the inverse Hessian is approximated.
pub(super) const HISTORY: usize = 10;
/// The most evaluations of one line search.
const MAX_LINE_EVALUATIONS: usize = 25;
/// The constants of the strong Wolfe conditions: sufficient decrease, and curvature.
const DECREASE: f64 = 1e-4;
const FLATTENING: f64 = 0.9;

/// Limits of the search.
pub(super) struct LbfgsLimits {
    /// Length of the first step, in units of the gradient divided by its absolute sum.
    pub(super) first_step: f64,
    /// The most iterations.
    pub(super) max_iter: usize,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    real::sum(a.iter().zip(b).map(|(x, y)| x * y))
}

/// A point of a line search.
struct LinePoint {
    step: f64,
    value: f64,
    slope: f64,
    done: bool,
}

/// Minimises `f` from `x`, which is replaced by the minimum. `f(x, gradient)` writes the gradient
/// and returns the value, and whether the point is accepted. Ends at an accepted point, after
/// `max_iter` iterations, or if no step decreases the value.
pub(super) fn minimize(
    x: &mut Vec<f64>,
    limits: LbfgsLimits,
    mut f: impl FnMut(&[f64], &mut [f64]) -> Result<(f64, bool)>,
) -> Result<()> {
    let n = x.len();
    let mut gradient = vec![0.0; n];
    let (mut value, done) = f(x, &mut gradient)?;
    if done {
        return Ok(());
    }
    let mut history: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    let (mut trial, mut slope_there) = (vec![0.0; n], vec![0.0; n]);
    for iteration in 0..limits.max_iter {
        let mut direction = quasi_newton_direction(&gradient, &history);
        let mut slope = dot(&gradient, &direction);
        if slope.is_nan() || slope >= 0.0 {
            // The curvature was lost to rounding, so the search restarts along the gradient.
            history.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = dot(&gradient, &direction);
        }
        if slope.is_nan() || slope >= 0.0 {
            return Ok(());
        }
        let first = if iteration == 0 || history.is_empty() {
            let absolute = real::sum(gradient.iter().map(|g| g.abs()));
            limits.first_step * (1.0 / absolute).min(1.0)
        } else {
            1.0
        };
        let here = LinePoint { step: 0.0, value, slope, done: false };
        let mut last = 0.0;
        let found = line_search(here, first, |step| {
            last = step;
            trial.iter_mut().zip(&*x).zip(&direction).for_each(|((t, x), d)| *t = x + step * d);
            let (value, done) = f(&trial, &mut slope_there)?;
            let slope = dot(&slope_there, &direction);
            Ok(LinePoint { step, value, slope, done })
        })?;
        let Some(found) = found else { return Ok(()) };
        let (mut new_value, mut done) = (found.value, found.done);
        if last != found.step {
            // The last trial was not the chosen step, so the function is evaluated there again.
            trial.iter_mut().zip(&*x).zip(&direction).for_each(|((t, x), d)| *t = x + found.step * d);
            (new_value, done) = f(&trial, &mut slope_there)?;
        }
        let moved: Vec<f64> = trial.iter().zip(&*x).map(|(a, b)| a - b).collect();
        let turned: Vec<f64> = slope_there.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        std::mem::swap(x, &mut trial);
        std::mem::swap(&mut gradient, &mut slope_there);
        value = new_value;
        if done {
            return Ok(());
        }
        if dot(&moved, &turned) > 1e-10 * dot(&turned, &turned).min(1.0) {
            if history.len() == HISTORY {
                history.remove(0);
            }
            history.push((moved, turned));
        }
    }
    Ok(())
}

/// Returns −H·gradient, where H is the inverse Hessian approximated from the history.
fn quasi_newton_direction(gradient: &[f64], history: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(history.len());
    for (moved, turned) in history.iter().rev() {
        let share = dot(moved, &q) / dot(moved, turned);
        q.iter_mut().zip(turned).for_each(|(q, y)| *q -= share * y);
        shares.push(share);
    }
    if let Some((moved, turned)) = history.last() {
        let scale = dot(moved, turned) / dot(turned, turned);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((moved, turned), share) in history.iter().zip(shares.into_iter().rev()) {
        let back = dot(turned, &q) / dot(moved, turned);
        q.iter_mut().zip(moved).for_each(|(q, s)| *q += (share - back) * s);
    }
    q
}

/// Returns a step that satisfies both Wolfe conditions, else the best step found; `None` if no step
/// is better than `here`.
fn line_search(here: LinePoint, first: f64, mut at: impl FnMut(f64) -> Result<LinePoint>) -> Result<Option<LinePoint>> {
    let enough = |p: &LinePoint| p.value <= here.value + DECREASE * p.step * here.slope;
    let flat = |p: &LinePoint| p.slope.abs() <= -FLATTENING * here.slope;
    let (mut low, mut high): (LinePoint, Option<LinePoint>) =
        (LinePoint { step: 0.0, value: here.value, slope: here.slope, done: false }, None);
    let mut step = first;
    for _ in 0..MAX_LINE_EVALUATIONS {
        let there = at(step)?;
        if there.done || (enough(&there) && flat(&there)) {
            return Ok(Some(there));
        }
        // NaN and infinities are treated as a rise, so the step is too long.
        if !there.value.is_finite() || !enough(&there) || there.value >= low.value {
            high = Some(there);
        } else {
            if there.slope * high.as_ref().map_or(1.0, |h| h.step - low.step) >= 0.0 {
                high = Some(low);
            }
            low = there;
        }
        step = match &high {
            None => low.step * 2.0,
            Some(high) => cubic_minimum(&low, high),
        };
        if high.as_ref().is_some_and(|h| (h.step - low.step).abs() < 1e-14 * step.abs().max(1e-14)) {
            break;
        }
    }
    Ok((low.step > 0.0 && low.value < here.value).then_some(low))
}

/// Returns the minimum of the cubic through both values and slopes, kept away from the ends of the
/// interval.
fn cubic_minimum(low: &LinePoint, high: &LinePoint) -> f64 {
    let width = high.step - low.step;
    let d1 = low.slope + high.slope - 3.0 * (high.value - low.value) / width;
    let d2 = (d1 * d1 - low.slope * high.slope).max(0.0).sqrt() * width.signum();
    let share = 1.0 - (high.slope + d2 - d1) / (high.slope - low.slope + 2.0 * d2);
    let share = if share.is_finite() { share.clamp(0.1, 0.9) } else { 0.5 };
    low.step + share * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lbfgs_minimizes_rosenbrock() {
        let mut x = vec![-1.2, 1.0, 0.3, 2.0];
        let mut calls = 0;
        let limits = LbfgsLimits { first_step: 1.0, max_iter: 200 };
        minimize(&mut x, limits, |x, gradient| {
            calls += 1;
            let mut value = 0.0;
            for (x, g) in x.chunks(2).zip(gradient.chunks_mut(2)) {
                let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
                value += a * a + 100.0 * b * b;
                g.copy_from_slice(&[-2.0 * a - 400.0 * x[0] * b, 200.0 * b]);
            }
            let done = gradient.iter().all(|g| g.abs() < 1e-9);
            Ok((value, done))
        })
        .expect("a minimum");
        assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-8), "{x:?}");
        assert!(calls < 250, "{calls} evaluations");
    }

    #[test]
    fn lbfgs_ends_without_a_minimum() {
        let mut x = vec![0.0; 3];
        let limits = LbfgsLimits { first_step: 1.0, max_iter: 50 };
        minimize(&mut x, limits, |x, gradient| {
            gradient.fill(-1.0);
            Ok((-x.iter().sum::<f64>(), false))
        })
        .expect("an end");
        assert!(x.iter().all(|x| x.is_finite()));
        let mut x = vec![1.0];
        let limits = LbfgsLimits { first_step: 1.0, max_iter: 50 };
        minimize(&mut x, limits, |_, gradient| {
            gradient.fill(f64::NAN);
            Ok((f64::NAN, false))
        })
        .expect("an end");
    }
}
