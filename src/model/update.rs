//! The nightly job: a model and the current table become the next version of the model.
//!
//! - `again.rs`: a run whose version a gate refused, begun again.
//! - `before.rs`: the positions from which a refit begins.
//! - `changes.rs`: a table that has only changes.
//! - `gate.rs`: conditions that a version must meet to become current.
//! - `mode.rs`: how the map takes up changes, and when it is computed anew.
//! - `next.rs`: the next version, by placing the new rows or by a refit.
//! - `refit.rs`: the whole map anew.
//! - `report.rs`: what came of an update.
//! - `table.rs`: whether the table fits the model, and what it changes.
//! - `metrics.rs`: the figures of an update as a text file for Prometheus.
//!
//! What must hold:
//! - Everything that can be refused is refused before any work is done.
//! - The current version changes by one rename, after everything that the new version names is durable.
//! - A run of an update that was published is not repeated; one that was begun goes on.

mod again;
mod before;
mod changes;
mod gate;
mod metrics;
mod mode;
mod next;
mod refit;
mod report;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lowland_engine::Observer;
use lowland_io::Source;
use lowland_model::ModelOptions;
use lowland_model::snapshot::Snapshot;
use lowland_model::store::{ModelDir, Version};

pub use changes::COLUMN as CHANGE_COLUMN;
pub use gate::{Gate, GateResult};
pub use mode::{MoveRows, RefitWhen, UpdateMode};
pub use report::{Outcome, UpdateReport};

use next::Next;

use super::open::open_dir;
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
    /// A file for the figures of the update and of the current version, in the text format of Prometheus; replaced by
    /// rename. It has the same names whatever came of the update.
    pub metrics_file: Option<PathBuf>,
}

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
        // Of changes, only rows that are added or changed need the kept columns.
        if !options.kept.is_empty() && !self.changes {
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
            left_out: None,
            measures: None,
            gates: Vec::new(),
            seconds: 0.0,
        };
        // A name of lowland's own belongs to a version that is still to come.
        let before = if self.run_id.is_some() { lock.published(&run_id)? } else { None };
        let refused = match before {
            Some(before) if before.accepted || again::was_accepted(&dir, &before)? => {
                report.version = Some(before.number);
                report.parent = before.parent.unwrap_or(report.parent);
                report.counts = before.counts;
                report.measures = serde_json::from_value(before.measures).ok();
                report.gates = self.judge(&report);
                report.outcome = Outcome::AlreadyPublished;
                lock.end_run(&run_id)?;
                return self.end(&dir, report, started);
            }
            before => before,
        };
        let scratch = lock.run(&run_id)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0)).build();
        let pool = pool.map_err(|e| Error::job(format!("threads: {e}")))?;
        let done = pool.install(|| {
            self.next_version(&lock, &version, refused.as_ref(), &options, &id, &scratch, &mut report, observer)
        });
        match (done?, refused) {
            (Next::None, _) => {}
            (Next::Refused, Some(refused)) => self.judge_again(&lock, &version, refused, &mut report)?,
            (Next::Refused, None) => {}
            (Next::Made(next), _) => {
                report.gates = self.judge(&report);
                let accepted = report.gates.iter().all(|gate| gate.passed);
                let next = Version {
                    run_id: Some(run_id.clone()),
                    parent: Some(version.number),
                    accepted,
                    counts: report.counts,
                    measures: serde_json::to_value(report.measures).unwrap_or_default(),
                    ..*next
                };
                report.version = Some(lock.publish(next, accepted)?);
                report.outcome = if accepted { Outcome::Published } else { Outcome::Refused };
            }
        }
        lock.end_run(&run_id)?;
        self.end(&dir, report, started)
    }

    /// Compares the measures of a version with the gates.
    fn judge(&self, report: &UpdateReport) -> Vec<GateResult> {
        self.gates.iter().map(|gate| gate.judge(report.measures.as_ref())).collect()
    }

    fn end(&self, dir: &ModelDir, mut report: UpdateReport, started: Instant) -> Result<UpdateReport> {
        report.seconds = started.elapsed().as_secs_f64();
        if let Some(path) = &self.metrics_file {
            lowland_io::replace(path, metrics::text(&report, &self.current(dir)?, &self.model).as_bytes())?;
        }
        Ok(report)
    }

    fn current(&self, dir: &ModelDir) -> Result<Version> {
        Ok(dir.version(dir.resolve("current")?)?)
    }
}

/// Returns whether lowland names runs like this.
fn is_own_name(run_id: &str) -> bool {
    run_id == "first" || run_id.starts_with("version-") || run_id.starts_with("rollback-")
}
