//! Warnings of failed maps: positions that are not finite, a map without extent, and scores no better than
//! chance.

use crate::exact;
use crate::observe::Progress;
use crate::plan::Plan;
use crate::quality::Quality;
use crate::{Init, Method, Result, init};

/// A map whose extent is less than this fraction of its first extent has collapsed.
const COLLAPSED: f64 = 1e-3;
/// Extent, in units of f32's resolution at the largest coordinate, below which points are not distinguishable.
const STEPS: f32 = 16.0;
/// A score that exceeds that of chance by this much is better than chance, whatever its interval.
const TELLING: f64 = 0.1;
/// If the score of random maps has a larger standard error than this, no warning is given.
const VARIES: f64 = 0.08;

/// The extent of a map, and the number of its rows that are not finite.
#[derive(Debug)]
pub(crate) struct Extent {
    /// The smallest and the largest coordinate of each component.
    ranges: Vec<(f32, f32)>,
    /// Number of rows with a coordinate that is NaN or infinite, and the first of these rows.
    broken: u64,
    first_broken: Option<u64>,
}

impl Extent {
    pub(crate) fn new(width: usize) -> Self {
        Extent { ranges: vec![(f32::INFINITY, f32::NEG_INFINITY); width], broken: 0, first_broken: None }
    }

    /// Adds the rows from `first` on.
    pub(crate) fn add(&mut self, first: u64, coordinates: &[f32]) {
        for (row, point) in coordinates.chunks_exact(self.ranges.len()).enumerate() {
            if point.iter().any(|x| !x.is_finite()) {
                self.broken += 1;
                self.first_broken.get_or_insert(first + row as u64);
                continue;
            }
            for ((least, most), &x) in self.ranges.iter_mut().zip(point) {
                *least = least.min(x);
                *most = most.max(x);
            }
        }
    }

    /// Returns the extent of the widest component.
    fn widest(&self) -> f32 {
        self.ranges.iter().map(|(least, most)| most - least).fold(0.0, f32::max)
    }

    /// Returns the largest absolute value of a coordinate.
    fn farthest(&self) -> f32 {
        self.ranges.iter().map(|(least, most)| least.abs().max(most.abs())).fold(0.0, f32::max)
    }

    /// Warns of positions that are not finite, and of a map without extent. `began` is the approximate extent
    /// of the first positions, if known.
    pub(crate) fn warn(&self, rows: u64, began: Option<f64>, progress: &Progress<'_>) -> Result<()> {
        if let Some(first) = self.first_broken {
            let text = format!(
                "{} of {rows} points of the map have a coordinate that is no number (NaN or infinite), the first in \
                 row {first}: the layout diverged; a smaller learning rate may help",
                self.broken
            );
            return progress.warn("map-not-finite", text);
        }
        let (widest, step) = (self.widest(), STEPS * f32::EPSILON * self.farthest());
        let collapsed = began.is_some_and(|began| f64::from(widest) < COLLAPSED * began);
        if !collapsed && widest > step {
            return Ok(());
        }
        let began = match began.filter(|_| collapsed) {
            Some(began) => format!(", and began about {began:.1e} wide"),
            None => ", which single precision hardly tells apart there".into(),
        };
        let text = format!(
            "all points of the map lie within {widest:.1e} of each other{began}: it shows nothing; a smaller learning \
             rate or early exaggeration, or another initialisation, may help"
        );
        progress.warn("map-no-extent", text)
    }
}

/// Returns the approximate extent of the first positions; `None` if the user provided them.
pub(crate) fn began(plan: &Plan) -> Option<f64> {
    let settings = &plan.settings;
    // Nearly all of a normal distribution is within three standard deviations.
    let wide = |deviation: f64| 6.0 * deviation;
    if plan.exact.is_some() {
        return exact::stage::problem(plan).ok().map(|problem| wide(problem.descent.init_scaling));
    }
    match (settings.method.begins(), &settings.init) {
        (Some(deviation), _) => Some(wide(deviation)),
        (None, Init::File(_)) => None,
        // UMAP's maps are about as large as their spread.
        (None, _) if settings.method == Method::UMAP => Some(2.0 * f64::from(init::EXTENT) * settings.spread.min(1.0)),
        (None, _) => Some(2.0 * f64::from(init::EXTENT)),
    }
}

/// The score of maps with random positions: its mean, and its standard error over a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Chance {
    mean: f64,
    error: f64,
}

impl Chance {
    /// Returns the trustworthiness of `n` rows with `k` neighbours, over `sample` rows: the neighbours in the
    /// map are random rows, whose ranks in the data are uniform on 1 to n − 1. Each neighbour costs max(0, rank
    /// − k), which is each of 1 to m = n − 1 − k with probability 1 / (n − 1), and otherwise 0.
    fn of_trustworthiness(n: u64, k: usize, sample: usize) -> Self {
        let (n, k) = (n as f64, k as f64);
        let m = n - 1.0 - k;
        let mean = m * (m + 1.0) / (2.0 * (n - 1.0));
        let square = m * (m + 1.0) * (2.0 * m + 1.0) / (6.0 * (n - 1.0));
        // The score is 1 − scale / k · Σ of the costs of k neighbours.
        let scale = 2.0 / (2.0 * n - 3.0 * k - 1.0);
        let error = scale * ((square - mean * mean) / k / sample.max(1) as f64).sqrt();
        Chance { mean: 1.0 - scale * mean, error }
    }

    /// Returns the share of `k` neighbours that are preserved, where each neighbour in the map is one of n − 1
    /// rows.
    fn of_preservation(n: u64, k: usize, sample: usize) -> Self {
        let share = k as f64 / (n as f64 - 1.0);
        Chance { mean: share, error: (share * (1.0 - share) / k as f64 / sample.max(1) as f64).sqrt() }
    }

    /// Returns whether a score with this interval is no better than chance.
    fn explains(self, mean: f64, interval: f64) -> bool {
        self.error <= VARIES && mean - self.mean <= interval.max(2.0 * self.error).min(TELLING)
    }
}

/// Warns if the scores are no better than those of random positions.
pub(crate) fn warn_of_chance(rows: u64, quality: &Quality, progress: &Progress<'_>) -> Result<()> {
    let (k, sample) = (quality.k, quality.sample_rows);
    let (name, score, chance) = match quality.trustworthiness {
        Some(score) => ("trustworthiness", score, Chance::of_trustworthiness(rows, k, sample)),
        None if 2 * k as u64 >= rows => return Ok(()),
        None => ("preservation", quality.preservation, Chance::of_preservation(rows, k, sample)),
    };
    if !chance.explains(score.mean, score.interval) {
        return Ok(());
    }
    let text = format!(
        "the map is no better than chance: {name}@{k} is {:.4} ± {:.4}, and points placed at random have {:.4}; either \
         the layout failed, or the rows have no neighbourhoods to show (as random data of many components)",
        score.mean, score.interval, chance.mean
    );
    progress.warn("map-by-chance", text)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Mutex;

    use super::*;
    use crate::evaluate::{Score, mean_and_interval, trustworthiness};
    use crate::observe::{Event, Observer, Stage};
    use crate::random::unit;

    /// Returns the kinds of the warnings of `tell`.
    fn warned(tell: impl Fn(&Progress<'_>) -> Result<()>) -> Vec<String> {
        struct Kinds(Mutex<Vec<String>>);
        impl Observer for Kinds {
            fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
                if let Event::Note { remark } = event {
                    self.0.lock().expect("not poisoned").push(remark.kind.to_string());
                }
                ControlFlow::Continue(())
            }
        }
        let kinds = Kinds(Mutex::default());
        tell(&Progress::start(&kinds, Stage::Quality, 1, "rows").expect("started")).expect("told");
        kinds.0.into_inner().expect("not poisoned")
    }

    #[test]
    fn random_maps_score_as_chance_has_it() {
        let (n, dim) = (120usize, 6);
        for k in [3, 10, 30] {
            let scores: Vec<f64> = (0..40)
                .map(|map| {
                    let data: Vec<f32> = (0..n * dim).map(|i| unit(map, 1, i as u64)).collect();
                    let places: Vec<f32> = (0..n * 2).map(|i| unit(map, 2, i as u64)).collect();
                    trustworthiness(&data, dim, &places, 2, k).expect("a score")
                })
                .collect();
            let (mean, interval) = mean_and_interval(&scores);
            let chance = Chance::of_trustworthiness(n as u64, k, n);
            assert!((mean - chance.mean).abs() < 2.0 * interval, "{k}: {mean} ± {interval}, {chance:?}");
            assert!(chance.error > 0.0 && chance.error < 0.05, "{chance:?}");
        }
    }

    #[test]
    fn scores_of_chance_are_warned_of_and_better_ones_are_not() {
        let told = |rows: u64, k, trustworthiness: Option<f64>, preservation: f64, interval: f64| {
            let score = |mean| Score { mean, interval };
            let quality = Quality {
                k,
                sample_rows: rows.min(1000) as usize,
                trustworthiness: trustworthiness.map(score),
                preservation: score(preservation),
                triplets: None,
            };
            !warned(|progress| warn_of_chance(rows, &quality, progress)).is_empty()
        };
        assert!(told(100, 15, Some(0.51), 0.15, 0.02));
        assert!(told(1_000_000, 15, Some(0.4975), 0.0, 0.005));
        assert!(told(5000, 15, Some(0.35), 0.0, 0.005));
        assert!(!told(5000, 15, Some(0.53), 0.0, 0.005));
        assert!(!told(100, 15, Some(0.93), 0.5, 0.02));
        // The scores of few rows vary too much.
        assert!(!told(3, 1, Some(0.5), 0.5, 0.5));
        assert!(!told(2, 1, None, 1.0, 0.0));
        // For a graph without vectors, there is no trustworthiness.
        assert!(told(1000, 15, None, 0.016, 0.002) && !told(1000, 15, None, 0.2, 0.01));
    }

    #[test]
    fn maps_without_extent_and_positions_that_are_no_numbers_are_warned_of() {
        let told = |points: &[f32], began: Option<f64>| {
            let mut extent = Extent::new(2);
            extent.add(0, points);
            warned(|progress| extent.warn(points.len() as u64 / 2, began, progress))
        };
        assert_eq!(told(&[0.0, 0.0, 1e-12, 1e-13], Some(6e-4)), ["map-no-extent"]);
        assert_eq!(told(&[1000.0, 0.0, 1000.0001, 0.0], None), ["map-no-extent"]);
        assert_eq!(told(&[3.0, 3.0, 3.0, 3.0], Some(20.0)), ["map-no-extent"]);
        assert_eq!(told(&[0.0, f32::NAN, 1.0, 2.0], Some(20.0)), ["map-not-finite"]);
        assert!(told(&[0.0, 0.0, 1.0, 0.0], Some(20.0)).is_empty());
        assert!(told(&[0.0, 0.0, 1e-9, 0.0], None).is_empty());
    }
}
