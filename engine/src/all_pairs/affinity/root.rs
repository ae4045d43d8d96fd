//! Root finding for the calibration of rows: bisection of an increasing function of a positive
//! number, as TorchDR's `binary_search`.

/// The value of |f| at which the search ends.
const TOLERANCE: f64 = 1e-6;

/// Returns the x > 0 with f(x) = 0, where f is increasing. The bracket `(begin, end)` is first
/// widened by halving and doubling until it holds a root; each of the three loops runs at most
/// `max_iter` times. If that is not enough, the last midpoint is returned.
///
/// TorchDR also stops at |f| < 10⁻⁶. In f32 it rarely gets there and uses all its iterations; in
/// f64 about thirty are enough.
pub(super) fn bisect((begin, end): (f64, f64), max_iter: usize, f: impl Fn(f64) -> f64) -> f64 {
    let sane = |x: f64, other: f64| if x > 0.0 && x.is_finite() { x } else { other };
    let (mut low, mut high) = (sane(begin, 1.0), sane(end, 1.0));
    for _ in 0..max_iter {
        if f(low) <= 0.0 || low < 1e-200 {
            break;
        }
        high = high.min(low);
        low *= 0.5;
    }
    for _ in 0..max_iter {
        if f(high) >= 0.0 || high > 1e200 {
            break;
        }
        low = low.max(high);
        high *= 2.0;
    }
    let mut middle = (low + high) * 0.5;
    for _ in 0..max_iter {
        let value = f(middle);
        if value.abs() < TOLERANCE || middle == low || middle == high {
            break;
        }
        if value < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
        middle = (low + high) * 0.5;
    }
    middle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bisect_finds_the_root_from_any_bracket() {
        for bracket in [(1.0, 1.0), (0.1, 5.0), (20.0, 30.0), (1e-3, 2e-3), (f64::NAN, f64::INFINITY), (0.0, -1.0)] {
            let root = bisect(bracket, 100, |x| x * x - 1.0);
            assert!((root - 1.0).abs() < 1e-6, "{bracket:?}: {root}");
        }
    }

    #[test]
    fn bisect_ends_without_a_root() {
        assert!(bisect((1.0, 1.0), 60, |_| -1.0).is_finite());
        assert!(bisect((1.0, 1.0), 60, |_| 1.0) >= 0.0);
        assert!(bisect((1.0, 1.0), 60, |_| f64::NAN).is_finite());
    }
}
