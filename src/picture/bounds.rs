//! The extent of a map: one pass over the points before any point is drawn.
//!
//! What must hold: the result depends only on the points, not on their division into batches;
//! memory is fixed; a few far points do not shrink the rest to a dot.

/// Bits of the ordered f32 that select a bin: sign, exponent and nine bits of mantissa. Bin edges
/// are within 0.2 % of any value at every magnitude, and no range must be known beforehand.
const KEY_BITS: u32 = 18;

/// A frame that is this many times wider than its core counts as stretched by outliers.
const STRETCHED: f64 = 2.0;

/// The margin around the core if outliers are cut off, as a fraction of the core's width.
const CLIP_PAD: f64 = 0.05;

/// The extent of a map, computed from batches of any size.
///
/// Holds the exact minimum and maximum of each axis and a histogram of fixed size (4 MiB for both
/// axes). The frame is the exact extent, unless this extent is, on an axis, more than twice as wide
/// as the range between the 0.01 % and the 99.99 % quantile (for small maps: without the eight
/// outermost points on either side, or 2 % of the points if that is fewer). Then the frame is that
/// range with a margin, and the points outside are not drawn but counted in the picture's footer.
/// Points with a non-finite coordinate are skipped and counted.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    x: Axis,
    y: Axis,
    points: u64,
    skipped: u64,
}

impl Bounds {
    /// Returns the bounds of no points.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one batch.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn add(&mut self, x: &[f64], y: &[f64]) {
        assert_eq!(x.len(), y.len(), "one x and one y for every point");
        for (&x, &y) in x.iter().zip(y) {
            if x.is_finite() && y.is_finite() {
                self.points += 1;
                self.x.add(x);
                self.y.add(y);
            } else {
                self.skipped += 1;
            }
        }
    }

    /// Returns the number of points with two finite coordinates.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Returns the number of points that were skipped because a coordinate is null, NaN or
    /// infinite.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the ranges to show, x then y, each as its low and high end.
    pub(super) fn frame(&self) -> [(f64, f64); 2] {
        [self.x.range(self.points), self.y.range(self.points)]
    }
}

#[derive(Clone, Debug)]
struct Axis {
    min: f64,
    max: f64,
    bins: Vec<u64>,
}

impl Default for Axis {
    fn default() -> Self {
        Self { min: f64::INFINITY, max: f64::NEG_INFINITY, bins: vec![0; 1 << KEY_BITS] }
    }
}

impl Axis {
    fn add(&mut self, v: f64) {
        self.min = self.min.min(v);
        self.max = self.max.max(v);
        self.bins[key(v)] += 1;
    }

    /// Returns the range to show for `n` values.
    fn range(&self, n: u64) -> (f64, f64) {
        if n == 0 {
            return (0.0, 0.0);
        }
        let (min, max) = (self.min, self.max);
        let trim = (n / 10_000).max((n / 50).min(8));
        let low = position(self.bins.iter(), trim);
        let high = self.bins.len() - 1 - position(self.bins.iter().rev(), trim);
        // A core within one bin has no reliable width.
        if low >= high {
            return (min, max);
        }
        let core = (edges(low).0.max(min), edges(high).1.min(max));
        let width = core.1 - core.0;
        if max - min <= STRETCHED * width {
            return (min, max);
        }
        let pad = CLIP_PAD * width;
        ((core.0 - pad).max(min), (core.1 + pad).min(max))
    }
}

/// Returns the first bin at which more than `trim` values have been counted.
fn position<'a>(bins: impl Iterator<Item = &'a u64>, trim: u64) -> usize {
    let mut seen = 0;
    for (i, count) in bins.enumerate() {
        seen += count;
        if seen > trim {
            return i;
        }
    }
    0
}

/// Returns the bin of a finite value: the leading bits of the nearest f32, in numerical order.
fn key(v: f64) -> usize {
    // Adding zero turns −0 into +0.
    let bits = (v as f32 + 0.0).clamp(f32::MIN, f32::MAX).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    (ordered >> (32 - KEY_BITS)) as usize
}

/// Returns the smallest and the largest value of a bin. The outermost bins include all values
/// beyond f32.
fn edges(of: usize) -> (f64, f64) {
    let shift = 32 - KEY_BITS;
    let low = (of as u32) << shift;
    let value = |ordered: u32| {
        let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
        f64::from(f32::from_bits(bits))
    };
    let least = if of == key(f64::MIN) { f64::MIN } else { value(low) };
    let greatest = if of == key(f64::MAX) { f64::MAX } else { value(low | ((1 << shift) - 1)) };
    (least, greatest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize) -> Vec<f64> {
        (0..n).map(|i| i as f64 / n as f64 * 20.0 - 10.0).collect()
    }

    #[test]
    fn keys_are_ordered_and_edges_enclose() {
        let values = [f64::MIN, -1e30, -5.0, -1e-40, -0.0, 0.0, 1.0, 1.001, 7e9, 3.4e38, 1e300, f64::MAX];
        for pair in values.windows(2) {
            assert!(key(pair[0]) <= key(pair[1]), "{pair:?}");
        }
        for v in values {
            let (low, high) = edges(key(v));
            // Up to the rounding of an f32.
            assert!(low - low.abs() * 1e-7 <= v && v <= high + high.abs() * 1e-7 + 1e-40, "{v}");
        }
    }

    #[test]
    fn extent_is_exact_without_outliers() {
        let mut b = Bounds::new();
        b.add(&line(5000), &line(5000));
        assert_eq!(b.frame()[0], (-10.0, *line(5000).last().unwrap()));
    }

    #[test]
    fn far_outliers_do_not_shrink_the_map() {
        for n in [200, 100_000] {
            let mut b = Bounds::new();
            b.add(&line(n), &line(n));
            b.add(&[1e9, f64::MAX, 3.0], &[0.0, 0.0, -1e30]);
            for (low, high) in b.frame() {
                assert!((-12.0..=-9.0).contains(&low), "{low}");
                assert!((9.0..=12.0).contains(&high), "{high}");
            }
        }
    }

    #[test]
    fn non_finite_points_are_counted_not_used() {
        let mut b = Bounds::new();
        b.add(&[1.0, f64::NAN, 2.0], &[1.0, 5.0, f64::INFINITY]);
        assert_eq!((b.points(), b.skipped()), (1, 2));
        assert_eq!(b.frame(), [(1.0, 1.0), (1.0, 1.0)]);
    }
}
