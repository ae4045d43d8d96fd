//! The grid of sums from which the picture is shaded, and its tone curve.
//!
//! What must hold: sums are integers, so the order of points and their division into batches do not
//! matter; memory depends only on the number of pixels.

/// The weight of a pixel that one point covers fully.
pub(super) const FULL: u64 = 64;

/// The number of positions within a pixel, along each axis, at which a disc can be centred.
const PLACES: usize = 8;

/// The sums of a pixel: the weight, then three sums whose meaning the colouring defines, each
/// weighted by the covered part of the pixel.
pub(super) type PixelSums = [u64; 4];

/// The sums of the pixels of the map's rectangle.
#[derive(Debug)]
pub(super) struct PixelGrid {
    width: usize,
    height: usize,
    cells: Vec<PixelSums>,
    stamp: PointStamp,
}

impl PixelGrid {
    /// Returns an empty grid for about `points` points.
    pub(super) fn new(width: usize, height: usize, points: u64) -> Self {
        let stamp = if points / 2 > (width * height) as u64 {
            PointStamp::Pixel
        } else {
            PointStamp::disc(radius(width, height, points))
        };
        Self { width, height, cells: vec![[0; 4]; width * height], stamp }
    }

    /// Adds a point at a position in pixels, with its paint per unit of weight. Returns false, and
    /// does nothing, if the point lies outside.
    #[inline]
    pub(super) fn add(&mut self, x: f64, y: f64, paint: [u64; 3]) -> bool {
        // Also rejects NaN, which a difference of huge numbers can give.
        if !(x >= 0.0 && y >= 0.0 && x < self.width as f64 && y < self.height as f64) {
            return false;
        }
        let (column, row) = (x as usize, y as usize);
        match &self.stamp {
            PointStamp::Pixel => deposit(&mut self.cells[row * self.width + column], FULL, paint),
            PointStamp::Disc { reach, covers } => {
                let place = |v: f64, whole: usize| (((v - whole as f64) * PLACES as f64) as usize).min(PLACES - 1);
                let span = 2 * reach + 1;
                let nth = place(y, row) * PLACES + place(x, column);
                let cover = &covers[nth * span * span..][..span * span];
                // The part of the stamp's square that lies on the grid.
                let (left, right) = (reach.saturating_sub(column), span.min(self.width + reach - column));
                for (i, weights) in cover.chunks_exact(span).enumerate() {
                    let Some(at) = (row + i).checked_sub(*reach).filter(|&at| at < self.height) else {
                        continue;
                    };
                    let start = at * self.width + column + left - reach;
                    for (cell, &weight) in self.cells[start..].iter_mut().zip(&weights[left..right]) {
                        deposit(cell, u64::from(weight), paint);
                    }
                }
            }
        }
        true
    }

    /// Returns the rows of sums, top to bottom.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[PixelSums]> {
        self.cells.chunks_exact(self.width)
    }

    /// Returns the tone curve for the points added so far.
    pub(super) fn tone(&self) -> ToneCurve {
        ToneCurve::new(self.cells.iter().map(|cell| cell[0]))
    }
}

#[inline]
fn deposit(cell: &mut PixelSums, weight: u64, paint: [u64; 3]) {
    cell[0] += weight;
    cell[1] += weight * paint[0];
    cell[2] += weight * paint[1];
    cell[3] += weight * paint[2];
}

/// Returns the radius in pixels of a point among `points` points: a visible dot for a few points,
/// shrinking towards a pixel for millions.
pub(super) fn radius(width: usize, height: usize, points: u64) -> f64 {
    // Tuned on the default picture of about 1.2 million pixels.
    let size = ((width * height) as f64 / 1.2e6).sqrt();
    let shrink = (200.0 / (points.max(1) as f64)).powf(0.3);
    (6.5 * size * shrink).clamp(0.8, (9.0 * size).max(0.8))
}

/// The shape that one point covers.
#[derive(Debug)]
enum PointStamp {
    /// The pixel that contains the point. With several points to a pixel, smooth edges are not
    /// worth the time.
    Pixel,
    /// For each position within a pixel: the coverage (0 to `FULL`) of the square of pixels around
    /// it, with `reach` pixels to either side.
    Disc { reach: usize, covers: Vec<u8> },
}

impl PointStamp {
    fn disc(radius: f64) -> Self {
        let reach = radius.ceil() as usize;
        let span = 2 * reach + 1;
        let mut covers = Vec::with_capacity(PLACES * PLACES * span * span);
        // Positions are relative to the corner of the centre's pixel.
        let center = |place: usize| (place as f64 + 0.5) / PLACES as f64;
        let sample = |pixel: usize, part: usize| pixel as f64 - reach as f64 + center(part);
        for (y, x) in pairs(PLACES) {
            for (row, column) in pairs(span) {
                let inside = pairs(PLACES).filter(|&(v, u)| {
                    let dy = sample(row, v) - center(y);
                    let dx = sample(column, u) - center(x);
                    dx * dx + dy * dy <= radius * radius
                });
                covers.push(inside.count() as u8);
            }
        }
        Self::Disc { reach, covers }
    }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).map(move |b| (a, b)))
}

/// The strength with which a pixel is shown for its weight, from 0 to 1.
///
/// Up to the weight of one point the strength grows with the coverage, so that edges are smooth,
/// and ends at the strength `lone`, which keeps single points visible beside dense regions. Above
/// that it is the mean of a logarithm, which keeps the shape of the density, and of the rank among
/// the pixels (histogram equalisation), which gives contrast to the most common densities.
#[derive(Debug)]
pub(super) struct ToneCurve {
    lone: f32,
    steps: Vec<f32>,
}

/// Tone steps per doubling of the weight.
const STEPS: f64 = 32.0;

impl ToneCurve {
    fn new(weights: impl Iterator<Item = u64>) -> Self {
        let mut bins = vec![0u64; (64.0 * STEPS) as usize];
        let (mut above, mut occupied) = (0, 0);
        for weight in weights.filter(|&w| w > 0) {
            occupied += 1;
            if weight > FULL {
                above += 1;
                bins[step(weight) as usize] += 1;
            }
        }
        // The logarithm's white point ignores the few densest pixels.
        let spare = occupied / 1000;
        let (mut seen, mut top) = (0, 0);
        for (i, count) in bins.iter().enumerate().rev() {
            seen += count;
            if seen > spare {
                top = i;
                break;
            }
        }
        let top = (top as f32 + 1.0) / STEPS as f32;
        let lone = LONE_SPARSE + (LONE_DENSE - LONE_SPARSE) * (top / DENSE).min(1.0);
        let mut below = 0;
        let steps = bins.iter().enumerate().map(|(i, &count)| {
            let log = (i as f32 / STEPS as f32 / top).min(1.0);
            // Each step stands for the middle of its bin.
            let rank = (below as f64 + count as f64 / 2.0) / (above as f64).max(1.0);
            below += count;
            lone + (1.0 - lone) * (0.5 * log + 0.5 * rank as f32)
        });
        Self { lone, steps: steps.collect() }
    }

    /// Returns the strength of a pixel of this weight.
    #[inline]
    pub(super) fn at(&self, weight: u64) -> f32 {
        if weight <= FULL {
            return self.lone * weight as f32 / FULL as f32;
        }
        let step = step(weight);
        let (low, part) = (step as usize, step.fract() as f32);
        let (from, to) = (self.steps[low], self.steps[low + 1]);
        (from + (to - from) * part).clamp(0.0, 1.0)
    }
}

/// The strength of a single point on a map whose points hardly overlap, and on a dense map; between
/// the two, interpolated by the logarithm of the densest pixels' points, up to 2 to the power
/// `DENSE`.
const LONE_SPARSE: f32 = 0.78;
const LONE_DENSE: f32 = 0.28;
const DENSE: f32 = 6.0;

/// Returns the tone step, with its fraction, of a weight above `FULL`.
#[inline]
fn step(weight: u64) -> f64 {
    (weight as f64 / FULL as f64).log2() * STEPS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn a_disc_has_its_area_wherever_it_lies() {
        for (x, y) in [(50.0, 50.0), (50.4, 50.9), (49.99, 50.13)] {
            let mut grid = PixelGrid::new(100, 100, 1);
            assert!(grid.add(x, y, [1, 2, 3]));
            let sums =
                grid.rows().flatten().fold([0; 4], |sum: PixelSums, cell| std::array::from_fn(|i| sum[i] + cell[i]));
            let area = PI * radius(100, 100, 1).powi(2);
            assert!((sums[0] as f64 / FULL as f64 / area - 1.0).abs() < 0.1);
            assert_eq!([sums[1], sums[2], sums[3]], [1, 2, 3].map(|p| p * sums[0]));
        }
    }

    #[test]
    fn discs_are_cut_at_the_edges() {
        let mut grid = PixelGrid::new(60, 40, 3);
        assert!(grid.add(0.0, 0.0, [0; 3]));
        assert!(grid.add(59.999, 39.999, [0; 3]));
        for (x, y) in [(60.0, 0.0), (-0.1, 5.0), (f64::NAN, 1.0), (1e300, 1e300)] {
            assert!(!grid.add(x, y, [0; 3]));
        }
        let rows: Vec<&[PixelSums]> = grid.rows().collect();
        assert_eq!(rows[0][0][0], rows[39][59][0]);
        assert_eq!(rows[0][59][0], 0);
    }

    #[test]
    fn tone_is_monotonic() {
        for top in [1, 3, 50, 1_000_000] {
            let weights: Vec<u64> = (1..=4000).map(|i| FULL * top * i / 4000 + 1).collect();
            let tone = ToneCurve::new(weights.iter().copied());
            let values: Vec<f32> = weights.iter().map(|&w| tone.at(w)).collect();
            assert!(values.is_sorted(), "{top}");
            assert!(tone.at(FULL) > LONE_DENSE - 1e-6 && tone.at(u64::MAX / 2) <= 1.0);
        }
    }
}
