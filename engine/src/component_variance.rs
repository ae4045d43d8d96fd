//! The variance of each component, and the check for a component that outweighs all others, so that distances
//! and the map show only that component.

use lowland_io::Source;

use crate::{Metric, Result};

/// The share of the variance above which a component outweighs all others.
const DOMINANT_SHARE: f64 = 0.99;
/// Number of places of the source from which a sample is read, and the largest numbers of rows and bytes of the
/// sample.
const SAMPLE_PLACES: u64 = 16;
const SAMPLE_ROWS: u64 = 4096;
const SAMPLE_BYTES: u64 = 8 << 20;

/// Sums over rows, from which each component's mean and variance are computed.
#[derive(Debug, Clone)]
pub struct ComponentVariance {
    /// The first row, which is subtracted from all rows so that numbers far from 0 keep their precision.
    origin: Vec<f64>,
    sums: Vec<f64>,
    squares: Vec<f64>,
    rows: u64,
}

/// A component that outweighs all others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DominantComponent {
    /// The component, from 0.
    pub component: usize,
    /// The component's share of the variance (for Manhattan distances, of the standard deviations).
    pub share: f64,
}

impl ComponentVariance {
    /// Returns empty sums for rows of `dim` components.
    pub fn new(dim: usize) -> Self {
        ComponentVariance { origin: Vec::new(), sums: vec![0.0; dim], squares: vec![0.0; dim], rows: 0 }
    }

    /// Returns the bytes that sums for rows of `dim` components take.
    pub fn bytes(dim: usize) -> u64 {
        dim as u64 * 24
    }

    /// Adds rows. Rows with a number that is not finite are skipped. The sums do not depend on how rows are
    /// divided into calls.
    pub fn add(&mut self, values: &[f32]) {
        for row in values.chunks_exact(self.sums.len()) {
            if row.iter().any(|x| !x.is_finite()) {
                continue;
            }
            if self.origin.is_empty() {
                self.origin = row.iter().map(|&x| f64::from(x)).collect();
            }
            let sums = self.sums.iter_mut().zip(&mut self.squares).zip(&self.origin);
            for (((sum, square), &origin), &x) in sums.zip(row) {
                let d = f64::from(x) - origin;
                *sum += d;
                *square += d * d;
            }
            self.rows += 1;
        }
    }

    /// Sums at most 4,096 rows of a source, from sixteen places.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn of_sample(source: &dyn Source, metric: Metric) -> Result<Self> {
        let shape = source.shape();
        let mut spread = ComponentVariance::new(shape.dim);
        let most = SAMPLE_ROWS.min(SAMPLE_BYTES / (shape.dim as u64 * 4).max(1)).max(2);
        let places = SAMPLE_PLACES.min(most / 2).max(1);
        let (step, portion) = (shape.rows.div_ceil(places).max(1), (most / places).max(2));
        let mut values = Vec::new();
        for first in (0..shape.rows).step_by(step as usize) {
            let count = portion.min(step).min(shape.rows - first) as usize;
            values.resize(count * shape.dim, 0.0);
            source.read_rows(first, &mut values)?;
            metric.prepare(&mut values, shape.dim);
            spread.add(&values);
        }
        Ok(spread)
    }

    /// Returns the mean and the standard deviation of a component.
    pub(crate) fn moments(&self, component: usize) -> (f64, f64) {
        let rows = self.rows.max(1) as f64;
        let mean = self.sums[component] / rows;
        let variance = self.squares[component] / rows - mean * mean;
        (self.origin.get(component).copied().unwrap_or(0.0) + mean, variance.max(0.0).sqrt())
    }

    /// Returns the number of rows added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the component that outweighs all others under this metric, if there is one. The rows must have
    /// been prepared for the metric.
    pub fn dominant(&self, metric: Metric) -> Option<DominantComponent> {
        if self.sums.len() < 2 || self.rows < 2 {
            return None;
        }
        let rows = self.rows as f64;
        let weight = |(sum, square): (&f64, &f64)| {
            let variance = ((square - sum * sum / rows) / rows).max(0.0);
            if metric == Metric::Manhattan { variance.sqrt() } else { variance }
        };
        let weights: Vec<f64> = self.sums.iter().zip(&self.squares).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let (component, &most) = weights.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        let share = most / total;
        (share > DOMINANT_SHARE).then_some(DominantComponent { component, share })
    }
}

impl DominantComponent {
    /// Explains the problem to users, and what to do.
    pub fn explain(&self, source: &dyn Source) -> String {
        self.explain_of(source, "it dominates all distances")
    }

    /// Returns the same explanation with another effect than "it dominates all distances".
    pub(crate) fn explain_of(&self, source: &dyn Source, effect: &str) -> String {
        format!(
            "{} holds {} of the variance, so {effect}; standardise the components \
             (subtract their means, divide by their standard deviations), or leave this one out",
            component_name(source, self.component),
            percent(self.share)
        )
    }
}

/// Formats a share near 1 as a percentage, with as many digits as distinguish it from 100 %.
fn percent(share: f64) -> String {
    let digits = (0..6).find(|&digits| 100.0 * (1.0 - share) >= 0.5 * 0.1f64.powi(digits)).unwrap_or(6) as usize;
    format!("{:.digits$} %", 100.0 * share)
}

/// Returns a component's name for users: its column, or its number in the vectors.
pub(crate) fn component_name(source: &dyn Source, component: usize) -> String {
    let dim = source.shape().dim;
    let columns = source.vector_column();
    let names: Vec<&str> = columns.iter().flat_map(|columns| columns.split(',')).map(str::trim).collect();
    match (names.get(component), &columns) {
        (Some(name), _) if names.len() == dim => format!("column \"{name}\""),
        (_, Some(column)) => format!("component {component} of \"{column}\""),
        _ => format!("component {component}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    /// Returns rows far from 0 whose component 1 varies by `scale`, and the others by about 1.
    fn rows(scale: f32) -> Vec<f32> {
        (0..300).flat_map(|i| [0, 1, 2].map(|c| 50.0 + unit(9, c, i) * if c == 1 { scale } else { 1.0 })).collect()
    }

    #[test]
    fn dominant_component_is_found_in_any_batches() {
        let found = |scale, portion: usize| {
            let mut spread = ComponentVariance::new(3);
            rows(scale).chunks(3 * portion).for_each(|rows| spread.add(rows));
            spread.dominant(Metric::Euclidean)
        };
        assert_eq!(found(1.0, 300), None);
        // With variances of 1, 100 and 1, the largest share is 98 %.
        assert_eq!(found(10.0, 300), None);
        let of_all = found(40.0, 300).expect("found");
        assert!(of_all.component == 1 && of_all.share > 0.998 && of_all.share < 1.0, "{of_all:?}");
        assert_eq!(found(40.0, 7), Some(of_all));
    }

    #[test]
    fn no_dominant_component_of_nan_or_of_one_column() {
        let mut spread = ComponentVariance::new(3);
        spread.add(&[f32::NAN, 1.0, 1.0, 0.0, f32::INFINITY, 2.0]);
        assert_eq!((spread.rows(), spread.dominant(Metric::Euclidean)), (0, None));
        let mut single = ComponentVariance::new(1);
        single.add(&[1.0, 2.0, 3.0]);
        assert_eq!(single.dominant(Metric::Euclidean), None);
        // For Manhattan distances the standard deviations count, not the variances.
        let mut spread = ComponentVariance::new(3);
        spread.add(&rows(40.0));
        assert_eq!(spread.dominant(Metric::Manhattan), None);
    }

    #[test]
    fn shares_near_1_are_written_with_enough_digits() {
        for (share, text) in [(0.992, "99 %"), (0.9973, "99.7 %"), (0.99996, "99.996 %")] {
            assert_eq!(percent(share), text);
        }
    }
}
