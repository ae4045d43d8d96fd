//! Scores of a version's map, and what tells whether a refit is due.

use lowland_engine::Progress;
use serde::{Deserialize, Serialize};

use super::Measures;
use crate::measure::{trust_bytes, trustworthiness};
use crate::snapshot::Snapshot;
use crate::{ModelOptions, Result};

/// The largest numbers of rows that were there and of new rows by which a map is scored, and the number of neighbours.
const OLD_ROWS: usize = 750;
const NEW_ROWS: usize = 250;
const NEIGHBORS: usize = 15;

/// Returns the bytes that scoring a version holds.
pub(super) fn bytes(lists: usize, dim: usize, threads: usize) -> u64 {
    trust_bytes(OLD_ROWS + NEW_ROWS, lists, dim, NEIGHBORS, threads)
}

/// How the rows are spread over the lists.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// Mean number of live rows of a list.
    pub mean: f64,
    /// The largest number of live rows of a list.
    pub largest: u64,
    /// Number of lists with less than a quarter of the mean.
    pub small: u64,
    /// Number of lists with more than four times the mean.
    pub large: u64,
}

/// Returns how the rows of a snapshot are spread over its lists.
pub fn population(snapshot: &Snapshot) -> Population {
    let live = |list: u32| {
        let base = snapshot.base_range(list).filter(|&place| !snapshot.is_dead(place)).count();
        (base + snapshot.delta_of(list).iter().filter(|&&place| !snapshot.is_dead(place)).count()) as u64
    };
    let lists = snapshot.lists() as u32;
    let mean = f64::from(snapshot.live()) / f64::from(lists.max(1));
    let mut told = Population { mean, largest: 0, small: 0, large: 0 };
    for rows in (0..lists).map(live) {
        told.largest = told.largest.max(rows);
        told.small += u64::from((rows as f64) < mean / 4.0);
        told.large += u64::from(rows as f64 > 4.0 * mean);
    }
    told
}

/// Scores a version, whose new rows have the places from `first_new` on.
pub fn measure(
    snapshot: &Snapshot,
    first_new: u32,
    options: &ModelOptions,
    progress: &Progress<'_>,
) -> Result<Measures> {
    let mut sampled = spread(snapshot, 0..first_new, OLD_ROWS);
    let old = sampled.len();
    sampled.extend(spread(snapshot, first_new..snapshot.places(), NEW_ROWS));
    let k = NEIGHBORS.min(options.n_neighbors.max(1));
    let scores = trustworthiness(snapshot, &sampled, k, &|| progress.check().is_err())?;
    progress.check()?;
    let mean = |scores: &[f64]| (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64);
    let new_rows = f64::from(snapshot.places() - first_new);
    let population = population(snapshot);
    let delta = f64::from(snapshot.places() - snapshot.base_rows());
    Ok(Measures {
        recall: options.effort_recall,
        recall_old: None,
        recall_new: None,
        trustworthiness: by_rows(mean(&scores[..old]), f64::from(first_new), mean(&scores[old..]), new_rows),
        trustworthiness_old: mean(&scores[..old]),
        trustworthiness_new: mean(&scores[old..]),
        outliers: None,
        moved_p50: 0.0,
        moved_p95: 0.0,
        moved_max: 0.0,
        kept_neighbors: 1.0,
        added_share: delta / f64::from(snapshot.base_rows().max(1)),
        tombstone_share: f64::from(snapshot.places() - snapshot.live()) / f64::from(snapshot.places().max(1)),
        largest_list: population.largest as f64 / population.mean.max(1e-9),
        moved_rows: None,
        capped_rows: None,
        move_cap: None,
    })
}

/// Returns the mean of two parts of the rows, of which either may have no value; 1 if neither has.
pub(super) fn by_rows(a: Option<f64>, rows_a: f64, b: Option<f64>, rows_b: f64) -> f64 {
    match (a, b) {
        (Some(a), Some(b)) if rows_a + rows_b > 0.0 => (a * rows_a + b * rows_b) / (rows_a + rows_b),
        (a, b) => a.or(b).unwrap_or(1.0),
    }
}

/// Returns at most `most` live places of a range, at equal distances.
fn spread(snapshot: &Snapshot, places: std::ops::Range<u32>, most: usize) -> Vec<u32> {
    let live = places.clone().filter(|&place| !snapshot.is_dead(place)).count();
    let step = live.div_ceil(most).max(1);
    places.filter(|&place| !snapshot.is_dead(place)).step_by(step).collect()
}
