//! An update that keeps the map: new rows are placed among the rows that are there, rows that are gone become tombstones.
//!
//! - `new_rows.rs`: the vectors, lists, ids and keys of the new rows. `kept.rs`: their kept columns.
//! - `graph.rs`: the neighbours of the new rows, and of the rows whose neighbours change.
//! - `moved.rs`: rows that move, because their neighbours change.
//! - `sample.rs`: the probe rows and their exact neighbours; the recall of the graph.
//! - `scores.rs`: scores of the map, and what tells whether a refit is due.
//!
//! What must hold: rows that are there keep their positions, byte for byte, unless it is asked that those whose neighbours
//! change move. A new row's position depends on the version
//! before and on its own vector, not on the other new rows.

mod graph;
mod kept;
mod moved;
mod new_rows;
mod sample;
mod scores;

use std::collections::BTreeMap;
use std::sync::Arc;

use lowland_engine::Progress;
use lowland_io::Source;
use serde::{Deserialize, Serialize};

pub use scores::{Population, measure, population};

use crate::diff::TableDiff;
use crate::place::{MOVE_CAP, Placer};
use crate::search::Searcher;
use crate::snapshot::{Snapshot, TombstonesWriter, role};
use crate::store::{ModelLock, ObjectRef, Version};
use crate::{Error, ModelOptions, Result};

/// What an update works with.
pub struct Update<'a> {
    /// The lock of the model.
    pub lock: &'a ModelLock<'a>,
    /// The version before.
    pub version: &'a Version,
    /// Its view.
    pub snapshot: &'a Snapshot,
    /// Its options.
    pub options: &'a ModelOptions,
    /// What changed.
    pub diff: &'a TableDiff,
    /// The new rows, raw, in the order of [`TableDiff::new`].
    pub rows: &'a Arc<dyn Source>,
    /// The column of the ids.
    pub id: &'a str,
    /// Whether the kept columns of the new rows are stored. Not in a draft of which only the positions are used.
    pub keep: bool,
    /// Number of rows that are read and searched at a time.
    pub batch_rows: usize,
    /// Whether rows whose neighbours change may move.
    pub move_dirty: bool,
    /// Progress in new rows.
    pub progress: &'a Progress<'a>,
}

impl Update<'_> {
    /// Returns the bytes of memory that an update holds, if the rows of `diff` change, and if rows whose neighbours change
    /// move by `move_dirty`.
    pub fn bytes(
        snapshot: &Snapshot,
        options: &ModelOptions,
        diff: &TableDiff,
        batch_rows: usize,
        move_dirty: bool,
    ) -> u64 {
        let (effort, threads) = (options.effort, rayon::current_num_threads());
        let (new, gone) = (diff.new.count(), diff.gone.len() as u64);
        let neighbor = 8 * snapshot.k() as u64;
        // A row that is gone was a neighbour of about as many rows as it had neighbours.
        let changed = (new + gone) * snapshot.k() as u64;
        let moving = match move_dirty {
            true => {
                let placer = Placer::bytes(&options.settings, u64::from(snapshot.live()) + new, snapshot.k(), threads);
                let vectors = threads as u64 * 4 * snapshot.dim() as u64;
                placer + vectors + moved::bytes(snapshot.places().into(), changed, snapshot.n_components())
            }
            false => 0,
        };
        let batch = (batch_rows + graph::PROBES) as u64 * (4 * snapshot.dim() as u64 * 3 + 2 * neighbor);
        new * (new_rows::ROW_BYTES + graph::ROW_BYTES)
            + changed * (graph::CHANGED_BYTES + neighbor)
            + batch.max(scores::bytes(snapshot.lists(), snapshot.dim(), threads))
            + moving
            + (u64::from(snapshot.places() - snapshot.live()) + gone) * 4
            + 2 * Searcher::bytes(
                effort,
                snapshot.lists(),
                snapshot.dim(),
                batch_rows + graph::PROBES,
                snapshot.k(),
                threads,
            )
    }
}

/// Measures of a version. Shares are between 0 and 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Recall of the stored graph: the mean of `recall_old` and `recall_new` by the numbers of rows; of a version that a run
    /// made, that of the run.
    pub recall: f64,
    /// Recall of the rows that were there, on probe rows whose exact neighbours are known; none if no probe row is left.
    pub recall_old: Option<f64>,
    /// Recall of the new rows, on up to 128 of them that are searched thoroughly; none without new rows.
    pub recall_new: Option<f64>,
    /// Mean trustworthiness of a sample of rows among all rows. Ranks are estimated in models of more than 65,536 rows.
    pub trustworthiness: f64,
    /// The same of rows that were there, and of new rows; none if there are no such rows.
    pub trustworthiness_old: Option<f64>,
    /// See `trustworthiness_old`.
    pub trustworthiness_new: Option<f64>,
    /// Share of the new rows that are farther from their centroid than 99 of 100 rows of the base; none without new rows.
    pub outliers: Option<f64>,
    /// Median, 95th percentile and maximum of the distances that rows moved, over the map's radius.
    pub moved_p50: f64,
    /// See `moved_p50`.
    pub moved_p95: f64,
    /// See `moved_p50`.
    pub moved_max: f64,
    /// Share of the 15 nearest rows in the map that rows kept.
    pub kept_neighbors: f64,
    /// Rows added since the last refit, over the rows of the base.
    pub added_share: f64,
    /// Tombstones over all places.
    pub tombstone_share: f64,
    /// The rows of the largest list over the mean.
    pub largest_list: f64,
    /// Number of rows that moved because their neighbours changed; none if that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_rows: Option<u64>,
    /// How many of them the cap held back in some epoch; see `moved_rows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capped_rows: Option<u64>,
    /// The cap: how far a row may move in one update, over the map's radius; see `moved_rows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_cap: Option<f64>,
}

impl Measures {
    /// Returns a measure by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let value = serde_json::to_value(self).ok()?;
        value.get(name)?.as_f64()
    }

    /// Returns the names of all measures.
    pub fn names() -> Vec<String> {
        // A measure without a value has no field.
        let all = Measures { moved_rows: Some(0), capped_rows: Some(0), move_cap: Some(0.0), ..Measures::default() };
        let value = serde_json::to_value(all).unwrap_or_default();
        value.as_object().map_or(Vec::new(), |fields| fields.keys().cloned().collect())
    }
}

/// The objects and measures of an update.
pub struct Updated {
    /// The objects of the new version, by role.
    pub objects: BTreeMap<String, ObjectRef>,
    /// Its measures.
    pub measures: Measures,
}

/// Places the new rows and marks the rows that are gone.
///
/// # Errors
/// Rows that cannot be read or placed; files that cannot be read or written; a stop.
pub fn update(update: &Update<'_>) -> Result<Updated> {
    let Update { lock, version, snapshot, options, diff, .. } = *update;
    let mut objects = version.objects.clone();
    if !diff.gone.is_empty() {
        let mut dead = snapshot.tombstones().to_vec();
        dead.extend(&diff.gone);
        dead.sort_unstable();
        objects.insert(role::TOMBSTONES.into(), TombstonesWriter::create(lock)?.finish(&dead)?);
    }
    // The rows among which new rows are placed: those of the version before, without the rows that are gone.
    let before = draft(lock, version, &objects)?;
    let new = new_rows::write(update, &mut objects)?;
    kept::write(update, &mut objects)?;
    // All rows; the new ones have neither neighbours nor positions yet.
    let all = draft(lock, version, &objects)?;
    let placed = graph::write(update, &before, &all, &new, &mut objects)?;
    let movement = match update.move_dirty {
        true => {
            let whole = draft(lock, version, &objects)?;
            Some(moved::write(update, &whole, placed.changed, &mut objects)?)
        }
        false => None,
    };
    let probes = sample::write(update, &all, &mut objects)?;
    let whole = draft(lock, version, &objects)?;
    let mut measures = scores::measure(&whole, snapshot.places(), options, update.progress)?;
    measures.outliers = (placed.rows > 0).then(|| placed.outliers as f64 / placed.rows as f64);
    if let Some(found) = movement {
        (measures.moved_p50, measures.moved_p95, measures.moved_max) = (found.p50, found.p95, found.max);
        measures.kept_neighbors = found.kept_neighbors;
        (measures.moved_rows, measures.capped_rows) = (Some(found.rows), Some(found.capped));
        measures.move_cap = Some(MOVE_CAP);
    }
    (measures.recall_old, measures.recall_new) = (probes.recall(&whole, options.n_neighbors), placed.recall);
    let old_rows = f64::from(whole.live()) - placed.rows as f64;
    measures.recall = scores::by_rows(measures.recall_old, old_rows, measures.recall_new, placed.rows as f64);
    Ok(Updated { objects, measures })
}

/// Opens objects that no version names yet.
fn draft(lock: &ModelLock<'_>, version: &Version, objects: &BTreeMap<String, ObjectRef>) -> Result<Snapshot> {
    let draft = Version { objects: objects.clone(), ..version.clone() };
    Snapshot::open(lock.model(), &draft)
}

/// Returns the error of more places than a model can have.
fn too_many(rows: u64) -> Error {
    lowland_engine::Error::Data {
        what: format!("{rows} rows and tombstones are more than a model can have, 2³² − 2; a refit removes tombstones"),
    }
    .into()
}
