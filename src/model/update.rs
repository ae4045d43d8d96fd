//! The nightly job: a model and the current table become the next version of the model.
//!
//! - `before.rs`: the positions from which a refit begins.
//! - `changes.rs`: a table that has only changes.
//! - `gate.rs`: conditions that a version must meet to become current.
//! - `mode.rs`: how the map takes up changes, and when it is computed anew.
//! - `refit.rs`: the whole map anew.
//! - `report.rs`: what came of an update.
//! - `metrics.rs`: the figures of an update as a text file for Prometheus.
//!
//! What must hold:
//! - Everything that can be refused is refused before any work is done.
//! - The current version changes by one rename, after everything that the new version names is durable.
//! - A run of an update that was published is not repeated; one that was begun goes on.

mod before;
mod changes;
mod gate;
mod metrics;
mod mode;
mod refit;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lowland_engine::budget::base_bytes;
use lowland_engine::{Observer, Progress, Stage, format_bytes};
use lowland_io::{RowSet, ShiftedSource, Source, SubsetSource};
use lowland_model::diff::{IdKind, KeySorter, RowKey, TableDiff, compare, compare_changes};
use lowland_model::fit::{id_kind, read_keys};
use lowland_model::search;
use lowland_model::snapshot::{Snapshot, id_type, role};
use lowland_model::store::{Action, Counts, ModelDir, ModelLock, Version};
use lowland_model::update::{Measures, Update, Updated, update};
use lowland_model::{Error as ModelError, ModelOptions};

pub use changes::COLUMN as CHANGE_COLUMN;
pub use gate::{Gate, GateResult};
pub use mode::{MoveRows, RefitWhen, UpdateMode};
pub use report::{Outcome, UpdateReport};

use changes::Changes;
use refit::RefitStart;

use super::kept;
use super::open::open_dir;
use crate::invalid_rows::{PlacedRows, PreparedSource};
use crate::{Error, InvalidRows, Job, Result};

/// An update of a model.
pub struct UpdateJob {
    /// The model.
    pub model: PathBuf,
    /// The whole current table, or only what changed.
    pub source: Arc<dyn Source>,
    /// Whether the source has only rows that were added, changed or deleted, as its column [`CHANGE_COLUMN`] says.
    /// Default: it is the whole table.
    pub changes: bool,
    /// The column of the ids. `None`: that of the model.
    pub id: Option<String>,
    /// The name of this run. A run that was published is not repeated. `None`: a name made of the next version's number.
    pub run_id: Option<String>,
    /// How the map takes up changes.
    pub mode: UpdateMode,
    /// Which rows that are there an update by transform may move. Default: none. A refit moves all.
    pub moving: MoveRows,
    /// Conditions that the new version must meet to become current.
    pub gates: Vec<Gate>,
    /// The largest share of the rows that may be missing in the table; more are refused, because an empty or half-written
    /// table must not delete a map. Default: 0.2.
    pub max_shrink: f64,
    /// When [`UpdateMode::Auto`] computes the whole map anew.
    pub refit: RefitWhen,
    /// How rows without a usable vector are handled. Default: they are an error. `Null` is not possible.
    pub invalid: InvalidRows,
    /// Whether to wait for another process that is changing the model. Default: true.
    pub wait: bool,
    /// Bytes of memory that the process may use.
    pub memory: u64,
    /// Number of worker threads. Default: one for each core.
    pub threads: Option<usize>,
    /// A file for the figures of the update, in the text format of Prometheus; replaced by rename.
    pub metrics_file: Option<PathBuf>,
}

/// The share of the memory for the keys of the table while they are sorted.
const KEYS_SHARE: u64 = 4;
/// Bytes of a portion of the table.
const READ_BYTES: u64 = 4 << 20;
/// The fewest new rows that are searched together.
const LEAST_BATCH_ROWS: usize = 64;

impl UpdateJob {
    /// Returns an update of `model` to the table `source`, with default options.
    pub fn new(model: impl Into<PathBuf>, source: Arc<dyn Source>) -> Self {
        let memory = Job::new().config.memory;
        UpdateJob {
            model: model.into(),
            source,
            changes: false,
            id: None,
            run_id: None,
            mode: UpdateMode::Auto,
            moving: MoveRows::None,
            gates: Vec::new(),
            max_shrink: 0.2,
            refit: RefitWhen::default(),
            invalid: InvalidRows::Error,
            wait: true,
            memory,
            threads: None,
            metrics_file: None,
        }
    }

    /// Runs the update.
    ///
    /// # Errors
    /// Everything about the table that does not fit the model, before any work; then those of reading, computing and
    /// writing. The current version is the one before in any case. The same call goes on.
    pub fn run(&self, observer: &dyn Observer) -> Result<UpdateReport> {
        let started = Instant::now();
        let dir = open_dir(&self.model)?;
        // What is wrong with the request and the table is told before the model is locked.
        let current = self.current(&dir)?;
        let options = ModelOptions::of(&current)?;
        let id = self.check_table(&options)?;
        if !options.kept.is_empty() {
            self.check_kept(&Snapshot::open(&dir, &current)?)?;
        }
        if let Some(run_id) = self.run_id.as_deref().filter(|name| is_own_name(name)) {
            return Err(Error::job(format!("the run cannot be called \"{run_id}\": lowland gives such names itself")));
        }
        for gate in &self.gates {
            gate.check().map_err(Error::job)?;
        }
        let lock = dir.lock(self.wait, &mut || observer.event(&lowland_engine::Event::Pulse).is_break())?;
        // The model may have changed while this process waited.
        let version = self.current(&dir)?;
        let run_id = match &self.run_id {
            Some(run_id) => run_id.clone(),
            None => format!("version-{:06}", lock.next_number()?),
        };
        let mut report = UpdateReport {
            run_id: run_id.clone(),
            outcome: Outcome::Unchanged,
            version: None,
            parent: version.number,
            mode: None,
            why: String::new(),
            counts: version.counts,
            measures: None,
            gates: Vec::new(),
            seconds: 0.0,
        };
        // A name of lowland's own belongs to a version that is still to come.
        let before = if self.run_id.is_some() { lock.published(&run_id)? } else { None };
        if let Some(before) = before {
            report.version = Some(before.number);
            report.parent = before.parent.unwrap_or(report.parent);
            report.counts = before.counts;
            report.measures = serde_json::from_value(before.measures.clone()).ok();
            report.gates = self.gates.iter().map(|gate| gate.judge(report.measures.as_ref())).collect();
            // A refused version that somebody has accepted since is the current one.
            let accepted = before.accepted || version.objects == before.objects;
            report.outcome = match accepted {
                true => Outcome::AlreadyPublished,
                false => Outcome::Refused,
            };
            // The gates of today may let it pass, but not after another version became current.
            let is_next = before.parent == Some(version.number);
            if !accepted && !is_next {
                report.why = format!("version {} became current since; give the run another name", version.number);
            }
            if !accepted && is_next && !self.gates.is_empty() && report.gates.iter().all(|gate| gate.passed) {
                let again =
                    Version { accepted: true, parent: Some(version.number), created: lowland_io::now(), ..before };
                report.parent = version.number;
                report.version = Some(lock.publish(again, true)?);
                report.outcome = Outcome::Published;
            }
            lock.end_run(&run_id)?;
            return self.end(report, started);
        }
        let scratch = lock.run(&run_id)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0)).build();
        let pool = pool.map_err(|e| Error::job(format!("threads: {e}")))?;
        let done = pool.install(|| self.next_version(&lock, &version, &options, &id, &scratch, &mut report, observer));
        if let Some(next) = done? {
            report.gates = self.gates.iter().map(|gate| gate.judge(report.measures.as_ref())).collect();
            let accepted = report.gates.iter().all(|gate| gate.passed);
            let next = Version {
                run_id: Some(run_id.clone()),
                parent: Some(version.number),
                accepted,
                counts: report.counts,
                measures: serde_json::to_value(report.measures).unwrap_or_default(),
                ..next
            };
            report.version = Some(lock.publish(next, accepted)?);
            report.outcome = if accepted { Outcome::Published } else { Outcome::Refused };
        }
        lock.end_run(&run_id)?;
        self.end(report, started)
    }

    fn end(&self, mut report: UpdateReport, started: Instant) -> Result<UpdateReport> {
        report.seconds = started.elapsed().as_secs_f64();
        if let Some(path) = &self.metrics_file {
            lowland_io::replace(path, metrics::text(&report, &self.model).as_bytes())?;
        }
        Ok(report)
    }

    fn current(&self, dir: &ModelDir) -> Result<Version> {
        let Some(number) = dir.current()? else {
            if dir.versions()?.len() > 1 {
                // The error that says so.
                dir.resolve("current")?;
            }
            return Err(Error::job(format!(
                "{}: nothing was published in this model yet; the `embed` that began it goes on when it is run again",
                dir.path().display()
            )));
        };
        Ok(dir.version(number)?)
    }

    /// Checks the table against the model, and returns the column of the ids.
    fn check_table(&self, options: &ModelOptions) -> Result<String> {
        let Some(id) = self.id.clone().or_else(|| options.id.clone()) else {
            return Err(Error::job(
                "the rows of this model are named by their numbers, by which an update cannot match them; fit the model \
                 with a column of ids"
                    .to_string(),
            ));
        };
        if let Some(of_model) = options.id.as_ref().filter(|of_model| **of_model != id) {
            return Err(Error::job(format!(
                "the model's rows are named by the column \"{of_model}\", not by \"{id}\""
            )));
        }
        let shape = self.source.shape();
        let dim = options.shift.as_ref().map_or(shape.dim, |shift| shift.values().len());
        if shape.dim != dim {
            return Err(width_error(shape.dim, dim));
        }
        let schema = self.source.column_schema(std::slice::from_ref(&id))?;
        let kind = id_kind(&id, schema.field(0).data_type())?;
        if kind != options.id_kind {
            return Err(kind_error(&id, kind, options.id_kind));
        }
        if self.changes && self.mode == UpdateMode::Refit {
            return Err(Error::job("a refit needs the whole table, not only what changed".to_string()));
        }
        if self.moving == MoveRows::Dirty && self.mode == UpdateMode::Refit {
            return Err(Error::job(
                "a refit moves all rows; rows whose neighbours change are moved apart by a transform only".to_string(),
            ));
        }
        if self.changes {
            self.source.column_schema(&[changes::COLUMN.to_string()])?;
        }
        if self.invalid == InvalidRows::Null {
            return Err(Error::job(
                "rows without a vector cannot be kept in a model; drop leaves them out".to_string(),
            ));
        }
        if !(0.0..=1.0).contains(&self.max_shrink) {
            return Err(Error::job(format!("the largest shrink is a share from 0 to 1, not {}", self.max_shrink)));
        }
        Ok(id)
    }

    /// Refuses a table without the columns that the model keeps.
    fn check_kept(&self, snapshot: &Snapshot) -> Result<()> {
        kept::check_table(self.source.as_ref(), snapshot.kept_schema(), self.mode == UpdateMode::Refit)
    }

    /// Computes the next version; `None` if nothing changed. Fills the counts, the mode and the measures of `report`.
    #[expect(clippy::too_many_arguments, reason = "one call; a struct would only repeat the names")]
    fn next_version(
        &self,
        lock: &ModelLock<'_>,
        version: &Version,
        options: &ModelOptions,
        id: &str,
        scratch: &std::path::Path,
        report: &mut UpdateReport,
        observer: &dyn Observer,
    ) -> Result<Option<Version>> {
        let snapshot = Snapshot::open(lock.model(), version)?;
        check_objects(lock.model(), version, observer)?;
        let shape = self.source.shape();
        if shape.dim != snapshot.dim() {
            return Err(width_error(shape.dim, snapshot.dim()));
        }
        self.check_kept(&snapshot)?;
        let live = u64::from(snapshot.live());
        let changes = match self.changes {
            true => Some(Changes::read(&self.source, id, observer)?),
            false => {
                self.check_shrink(live, live.saturating_sub(shape.rows))?;
                None
            }
        };
        let rows = changes.as_ref().map_or(&self.source, |changes| &changes.rows);
        let metric = options.settings.metric;
        let prepared = PreparedSource::new(rows, self.invalid, metric, false, self.memory, observer)?;
        let table: Arc<dyn Source> = match &options.shift {
            Some(shift) => Arc::new(ShiftedSource::new(prepared.source().clone(), shift.clone())),
            None => prepared.source().clone(),
        };
        let deleted = changes.as_ref().map(|changes| &changes.deleted[..]);
        let diff = self.diff(&table, id, deleted, &snapshot, scratch, observer)?;
        report.counts = Counts {
            rows: diff.unchanged + diff.new.count(),
            added: diff.added(),
            changed: diff.changed,
            deleted: diff.deleted(),
            unchanged: diff.unchanged,
        };
        self.check_shrink(live, diff.deleted())?;
        if diff.is_empty() && self.mode != UpdateMode::Refit {
            return Ok(None);
        }
        if self.invalid == InvalidRows::Error && diff.new.count() > 0 {
            // Rows that did not change were examined when they were new.
            let new: Arc<dyn Source> = Arc::new(SubsetSource::new(table.clone(), Arc::new(diff.new.clone())));
            PlacedRows::of_source(&new, self.invalid, metric, self.memory, observer)?;
        }
        let (mode, why) = self.choose(&snapshot, &diff, version);
        (report.mode, report.why) = (Some(mode), why);
        let (next, measures) = match mode {
            UpdateMode::Refit => {
                // New rows begin where a transform places them, if they can be placed among others within the memory.
                let schema = table.column_schema(&[id.to_string()])?;
                let same_type = id_type(schema.field(0).data_type()).as_ref() == Some(snapshot.id_type());
                if self.moving == MoveRows::Dirty {
                    report.why += "; a refit moves all rows, so that none was moved apart for its neighbours";
                }
                let fits = self.batch_rows(&snapshot, options, &diff, MoveRows::None).is_ok();
                let places = same_type && diff.unchanged > 0 && fits;
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
        Ok(Some(next))
    }

    fn check_shrink(&self, live: u64, missing: u64) -> Result<()> {
        let share = missing as f64 / live.max(1) as f64;
        if share <= self.max_shrink {
            return Ok(());
        }
        let only_changes = !self.changes && self.source.columns().iter().any(|name| name == changes::COLUMN);
        let way = match only_changes {
            true => format!("its column \"{}\" tells changes: say that it has only these (`changes`)", changes::COLUMN),
            false => "if they were really deleted, allow a larger share".to_string(),
        };
        Err(Error::job(format!(
            "{missing} of the model's {live} rows are missing in the table, {:.1} %, and at most {:.0} % may be \
             (`max_shrink`); {way}",
            100.0 * share,
            100.0 * self.max_shrink
        )))
    }

    /// Compares the table with the model.
    fn diff(
        &self,
        table: &Arc<dyn Source>,
        id: &str,
        deleted: Option<&[u128]>,
        snapshot: &Snapshot,
        scratch: &std::path::Path,
        observer: &dyn Observer,
    ) -> Result<TableDiff> {
        let rows = table.shape().rows;
        let progress = Progress::start(observer, Stage::Diff, rows, "rows")?;
        let mut sorter = KeySorter::new(scratch, "table", self.memory / KEYS_SHARE, rows);
        read_keys(table, Some(id), self.read_rows(table.shape().dim), &progress, &mut |row, key, hash| {
            sorter.push(RowKey { key, row, hash })
        })?;
        let mut sorted = sorter.finish()?;
        let diff = match deleted {
            Some(deleted) => compare_changes(rows, &mut sorted, deleted, snapshot.keys()),
            None => compare(rows, &mut sorted, snapshot.keys()),
        };
        match diff {
            Err(ModelError::RepeatedIds { rows, count }) => Err(self.repeated(table, id, &rows, count)?),
            Err(ModelError::KeptAndDeleted { row }) => {
                let place = table.locate(row);
                Err(Error::job(format!(
                    "{}: row {} has an id that another row deletes; an id is either deleted, or added or changed",
                    place.path.display(),
                    place.row
                )))
            }
            diff => Ok(diff?),
        }
    }

    /// Returns the error of repeated ids, with the ids and their places.
    fn repeated(&self, table: &Arc<dyn Source>, id: &str, rows: &[[u64; 2]], count: u64) -> Result<Error> {
        let mut named = Vec::new();
        for &[first, second] in rows {
            let batch = table.read_columns(&[id.to_string()], second, 1)?;
            let value = crate::plot::texts(batch.column(0)).map_err(Error::job)?;
            let value = value.iter().flatten().next().unwrap_or_default().to_string();
            let (first, second) = (table.locate(first), table.locate(second));
            named.push(format!("\"{value}\" (rows {} and {} of {})", first.row, second.row, second.path.display()));
        }
        let more = count - rows.len() as u64;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Ok(Error::job(format!(
            "column \"{id}\": {count} rows have the id of an earlier row: {}{more}",
            named.join(", ")
        )))
    }

    /// Returns the number of rows of the table that are read at a time.
    fn read_rows(&self, dim: usize) -> usize {
        let bytes = READ_BYTES.min(self.memory / 64);
        (bytes / (dim as u64 * 4).max(1)).clamp(64, 65_536) as usize
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
        // New rows are placed at means of these rows: of fewer, all would lie on one point or one line.
        if diff.unchanged <= snapshot.n_components() as u64 && diff.new.count() > 0 {
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

/// Checks the checksums of the objects on which a version is built: a flipped bit would be part of every later version. The
/// vectors and the graph, which are most of the bytes, are not read only for this.
fn check_objects(model: &ModelDir, version: &Version, observer: &dyn Observer) -> Result<()> {
    for (role, object) in &version.objects {
        if [role::VECTORS, role::GRAPH].contains(&role.as_str()) {
            continue;
        }
        model.verify_object(object, &mut |_| match observer.event(&lowland_engine::Event::Pulse).is_break() {
            true => Err(lowland_engine::Error::Cancelled { stage: "diff" }.into()),
            false => Ok(()),
        })?;
    }
    Ok(())
}

/// Returns whether lowland names runs like this.
fn is_own_name(run_id: &str) -> bool {
    run_id == "first" || run_id.starts_with("version-") || run_id.starts_with("rollback-")
}

fn width_error(table: usize, model: usize) -> Error {
    Error::job(format!("the table's vectors have {table} components, and the model's have {model}"))
}

fn kind_error(id: &str, table: IdKind, model: IdKind) -> Error {
    Error::job(format!(
        "column \"{id}\" holds {}, and the model's ids are {}: ids of different types are never equal",
        table.name(),
        model.name()
    ))
}
