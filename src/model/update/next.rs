//! The next version of a model: new rows are placed among old ones, or the whole map is made anew.
//!
//! What must hold: what is written before the version is published is named by no version, and is removed by the next
//! collection.

use std::sync::Arc;

use lowland_engine::budget::base_bytes;
use lowland_engine::{Observer, Progress, Stage, format_bytes};
use lowland_io::{RowSet, ShiftedSource, Source, SubsetSource};
use lowland_model::diff::TableDiff;
use lowland_model::snapshot::{Snapshot, id_type, role};
use lowland_model::store::{Action, Counts, ModelLock, Version};
use lowland_model::update::{Measures, Update, Updated, update};
use lowland_model::{ModelOptions, search};

use super::changes::{self, Changes};
use super::refit::RefitStart;
use super::table::width_error;
use super::{MoveRows, RefitWhen, UpdateJob, UpdateMode, UpdateReport};
use crate::invalid_rows::{PlacedRows, PreparedSource};
use crate::model::open::check_objects;
use crate::{Error, InvalidRows, Result};

/// What comes after the current version.
pub(super) enum Next {
    /// Nothing: the table has the rows of the current version.
    None,
    /// The version that a gate refused to an earlier attempt of this run.
    Refused,
    /// A version whose objects are complete.
    Made(Box<Version>),
}

/// The fewest new rows that are searched together.
const LEAST_BATCH_ROWS: usize = 64;

impl UpdateJob {
    /// Computes the next version, unless the version `refused`, which a gate refused to an earlier attempt of this run, is
    /// of the same table. Fills the counts, the mode and the measures of `report`.
    #[expect(clippy::too_many_arguments, reason = "one call; a struct would only repeat the names")]
    pub(super) fn next_version(
        &self,
        lock: &ModelLock<'_>,
        version: &Version,
        refused: Option<&Version>,
        options: &ModelOptions,
        id: &str,
        scratch: &std::path::Path,
        report: &mut UpdateReport,
        observer: &dyn Observer,
    ) -> Result<Next> {
        let snapshot = Snapshot::open(lock.model(), version)?;
        let shape = self.source.shape();
        if shape.dim != snapshot.dim() && !self.lacks_vectors() {
            return Err(width_error(shape.dim, snapshot.dim()));
        }
        let live = u64::from(snapshot.live());
        if self.is_empty() {
            report.counts = Counts { rows: live, unchanged: live, ..Counts::default() };
            return Ok(Next::None);
        }
        let changes = match self.changes {
            true => Some(Changes::read(&self.source, id, observer)?),
            false => {
                self.check_shrink(live, live.saturating_sub(shape.rows))?;
                None
            }
        };
        let rows = changes.as_ref().map_or(&self.source, |changes| &changes.rows);
        let only_deleted = changes.is_some() && rows.shape().rows == 0;
        if !only_deleted {
            self.check_kept(&snapshot)?;
            if self.lacks_vectors() {
                return Err(changes::without_vectors(rows.as_ref()));
            }
        }
        let metric = options.settings.metric;
        let prepared = PreparedSource::new(rows, 1, self.invalid, metric, false, self.memory, observer)?;
        report.left_out = prepared.placed().left_out();
        let table: Arc<dyn Source> = match &options.shift {
            Some(shift) if !only_deleted => Arc::new(ShiftedSource::new(prepared.source().clone(), shift.clone())),
            _ => prepared.source().clone(),
        };
        let deleted = changes.as_ref().map(|changes| &changes.deleted[..]);
        // One thread decodes the table. Meanwhile another compares the files on which the update builds with their checksums.
        let (checked, diff) = std::thread::scope(|scope| {
            let check = || check_objects(lock.model(), version, &role::FOR_UPDATE, &mut Default::default(), observer);
            let checking = scope.spawn(check);
            let diff = self.diff(&table, id, deleted, &snapshot, scratch, observer);
            (checking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), diff)
        });
        checked?;
        let diff = diff?;
        report.counts = Counts {
            rows: diff.unchanged + diff.new.count(),
            added: diff.added(),
            changed: diff.changed,
            deleted: diff.deleted(),
            unchanged: diff.unchanged,
        };
        self.check_shrink(live, diff.deleted())?;
        if diff.is_empty() && self.mode != UpdateMode::Refit {
            return Ok(Next::None);
        }
        if self.invalid == InvalidRows::Error && diff.new.count() > 0 {
            // Rows that did not change were examined when they were new.
            let new: Arc<dyn Source> = Arc::new(SubsetSource::new(table.clone(), Arc::new(diff.new.clone())));
            PlacedRows::of_source(&new, self.invalid, metric, self.memory, observer)?;
        }
        let (mode, why) = self.choose(&snapshot, &diff, version);
        (report.mode, report.why) = (Some(mode), why);
        if let Some(refused) = refused.filter(|refused| self.would_make(refused, version, report)) {
            let same = match self.view_of(lock.model(), refused, observer)? {
                Some(before) => self.diff(&table, id, deleted, &before, scratch, observer)?.is_empty(),
                None => false,
            };
            if same {
                return Ok(Next::Refused);
            }
        }
        let (next, measures) = match mode {
            UpdateMode::Refit => {
                // New rows begin where a transform places them, if they can be placed among others within the memory.
                let schema = table.column_schema(&[id.to_string()])?;
                let same_type = id_type(schema.field(0).data_type()).as_ref() == Some(snapshot.id_type());
                if self.moving == MoveRows::Dirty {
                    report.why += "; a refit moves all rows, so that none was moved apart for its neighbours";
                }
                let fits = self.batch_rows(&snapshot, options, &diff, MoveRows::None).is_ok();
                let places = same_type && can_place(&snapshot, &diff) && fits;
                let placed = match diff.is_empty() || !places {
                    true => None,
                    false => {
                        let (placed, _) = self.transform(
                            lock,
                            version,
                            &snapshot,
                            options,
                            &diff,
                            &table,
                            id,
                            MoveRows::None,
                            false,
                            observer,
                        )?;
                        Some(Snapshot::open(lock.model(), &placed)?)
                    }
                };
                let start = if diff.unchanged == 0 {
                    RefitStart::Anew
                } else if diff.unchanged < diff.new.count() {
                    RefitStart::MostlyNew(&snapshot)
                } else {
                    RefitStart::Near(placed.as_ref().unwrap_or(&snapshot))
                };
                let (next, measures, held) = self.refit(lock, version.number, start, options, id, scratch, observer)?;
                if held {
                    report.why += "; the new map would have moved the rows too far, so that they keep their positions";
                }
                (next, measures)
            }
            _ => self.transform(lock, version, &snapshot, options, &diff, &table, id, self.moving, true, observer)?,
        };
        report.measures = Some(measures);
        Ok(Next::Made(Box::new(next)))
    }

    fn choose(&self, snapshot: &Snapshot, diff: &TableDiff, version: &Version) -> (UpdateMode, String) {
        if self.mode != UpdateMode::Auto {
            return (self.mode, "asked for".into());
        }
        let base = f64::from(snapshot.base_rows().max(1));
        let delta = u64::from(snapshot.places() - snapshot.base_rows()) + diff.new.count();
        let added = delta as f64 / base;
        let dead = f64::from(snapshot.places() - snapshot.live()) + diff.gone.len() as f64;
        let deleted = dead / (f64::from(snapshot.places()) + diff.new.count() as f64).max(1.0);
        let outliers = version.measures.get("outliers").and_then(serde_json::Value::as_f64);
        let RefitWhen { added: most_added, deleted: most_deleted, outliers: most_outliers } = self.refit;
        let why = if added > most_added {
            format!(
                "{:.1} % of the base were added since the last refit, more than {:.1} %",
                added * 100.0,
                most_added * 100.0
            )
        } else if deleted > most_deleted {
            format!("{:.1} % of the places are tombstones, more than {:.1} %", deleted * 100.0, most_deleted * 100.0)
        } else if let (Some(share), Some(most)) = (outliers, most_outliers)
            && share > most
        {
            format!("{:.1} % of the last new rows lie far outside, more than {:.1} %", share * 100.0, most * 100.0)
        } else {
            return (
                UpdateMode::Transform,
                format!("{:.1} % of the base were added since the last refit", added * 100.0),
            );
        };
        match self.changes {
            true => (UpdateMode::Transform, format!("{why}: a refit is due, which needs the whole table")),
            false => (UpdateMode::Refit, why),
        }
    }

    /// Places the new rows among the old ones. Without `keep` their kept columns are not stored, because only the
    /// positions are used.
    #[expect(clippy::too_many_arguments, reason = "one call; a struct would only repeat the names")]
    fn transform(
        &self,
        lock: &ModelLock<'_>,
        version: &Version,
        snapshot: &Snapshot,
        options: &ModelOptions,
        diff: &TableDiff,
        table: &Arc<dyn Source>,
        id: &str,
        moving: MoveRows,
        keep: bool,
        observer: &dyn Observer,
    ) -> Result<(Version, Measures)> {
        if !can_place(snapshot, diff) {
            return Err(Error::job(format!(
                "{} of the model's rows are left as they were, too few to place {} new rows among them; a refit makes the map \
                 anew",
                match diff.unchanged {
                    0 => "none".to_string(),
                    rows => format!("only {rows}"),
                },
                diff.new.count()
            )));
        }
        let batch_rows = self.batch_rows(snapshot, options, diff, moving)?;
        let rows: Arc<dyn Source> = Arc::new(SubsetSource::new(table.clone(), Arc::new(diff.new.clone())));
        let progress = Progress::start(observer, Stage::Place, diff.new.count(), "rows")?;
        let Updated { objects, measures } = update(&Update {
            lock,
            version,
            snapshot,
            options,
            diff,
            rows: &rows,
            id,
            keep,
            batch_rows,
            move_dirty: moving == MoveRows::Dirty,
            progress: &progress,
        })?;
        let next = Version { objects, options: version.options.clone(), ..Version::new(Action::Transform) };
        Ok((next, measures))
    }

    /// Returns the number of new rows that are searched together. Refuses an update whose new rows do not fit into the
    /// memory.
    fn batch_rows(
        &self,
        snapshot: &Snapshot,
        options: &ModelOptions,
        diff: &TableDiff,
        moving: MoveRows,
    ) -> Result<usize> {
        let threads = self.threads.unwrap_or_else(rayon::current_num_threads);
        let rest = RowSet::bytes(diff.new.all()) * 2 + base_bytes(snapshot.dim(), threads);
        let needed = |batch_rows| Update::bytes(snapshot, options, diff, batch_rows, moving == MoveRows::Dirty) + rest;
        let mut batch_rows = search::batch_rows(snapshot.places());
        while batch_rows > LEAST_BATCH_ROWS && needed(batch_rows) > self.memory {
            batch_rows /= 2;
        }
        let needed = needed(batch_rows);
        if needed <= self.memory {
            return Ok(batch_rows);
        }
        Err(Error::job(format!(
            "an update of {} new rows needs {}, and the memory budget is {}; allow more memory, or refit",
            diff.new.count(),
            format_bytes(needed),
            format_bytes(self.memory)
        )))
    }
}

/// Returns whether enough rows are left as they were to place the new rows among them. New rows are placed at means of old
/// ones: among no more rows than the map has components, all would lie on one point or one line.
fn can_place(snapshot: &Snapshot, diff: &TableDiff) -> bool {
    diff.new.count() == 0 || diff.unchanged > snapshot.n_components() as u64
}
