//! A map that is kept as a model: the run of a [`Job`], whose stages become the first version of a model, or the next
//! one in a refit.
//!
//! What must hold: the model's current version changes only after everything that the new version names is durable; a
//! job that is stopped goes on from its finished stages.

use std::path::{Path, PathBuf};

use lowland_engine::{MapSink, Observer, Progress, Report, Stage};
use lowland_model::ModelOptions;
use lowland_model::fit::{FittedRun, StoredRun, id_kind};
use lowland_model::snapshot::Snapshot;
use lowland_model::store::{Action, ModelDir, ModelLock, RUNS, Version};
use lowland_model::update::measure;

use super::kept;
use super::open::check_path;
use crate::earlier_map::first_repeat;
use crate::job::{RunOptions, look_at_columns};
use crate::{Error, Job, MapFile, Result};

/// The stages whose files a model is made of.
const STAGES: [Stage; 3] = [Stage::Index, Stage::Neighbors, Stage::Layout];
/// The name of the run directory of a fit in the directory of its update.
pub(super) const RUN: &str = "fit";
/// The name of the report of a finished run in the directory of its update.
const REPORT: &str = "report.json";

/// Takes a map's positions and keeps none: the model has them.
struct NoMap;

impl MapSink for NoMap {
    fn write(&mut self, _first: u64, _coordinates: &[f32]) -> lowland_engine::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> lowland_engine::Result<()> {
        Ok(())
    }
}

/// What a fit gave.
pub struct Fitted {
    /// The report of the run.
    pub report: Report,
    /// The number of the version.
    pub version: u64,
}

impl Job {
    /// Prepares the plan, and the disk space that it needs, of a run whose map becomes the new model `path`, which keeps
    /// the columns `keep` of each row. [`embed_model`](Job::embed_model) does so itself.
    pub fn plan_for_model(&mut self, path: &Path, keep: &[String]) {
        let run = path.join(RUNS).join(FIRST).join(RUN);
        self.run = RunOptions { restart: self.run.restart, ..RunOptions::kept(run) };
        self.keep_for_model(keep);
    }

    /// Keeps the files of which a model is made, which has the columns `keep` of each row.
    fn keep_for_model(&mut self, keep: &[String]) {
        self.config.keep_stages = Some(STAGES.to_vec());
        self.kept_in_model = Some(keep.to_vec());
    }

    /// Checks whether a model can be made of this job.
    ///
    /// # Errors
    /// If the method compares all pairs, the rows have no vectors, a graph was given, or rows are left out.
    pub fn check_model(&self) -> Result<()> {
        let method = self.config.method;
        if method.is_all_pairs() {
            return Err(Error::job(format!(
                "a model needs lists of near rows, and {method} compares all pairs; umap, tsne, infotsne, largevis and \
                 pacmap can be stored"
            )));
        }
        if self.source.is_none() || self.graph.is_some() {
            return Err(Error::job("a model is made of vectors, not of a graph".to_string()));
        }
        Ok(())
    }

    /// Computes the map and stores it as the first version of the new model `path`, and in `file` if one is given. The
    /// model keeps the columns `keep` of each row; those of `file` are its own.
    /// Of [`Job::run`] only `restart` is used: finished stages are kept in the model until the version is complete, and the
    /// same call goes on from there.
    ///
    /// # Errors
    /// Those of [`Job::embed`] and [`check_model`](Job::check_model); if there is a model with a version already; a column
    /// to keep that does not exist, has the name of a column of an export, or a type that cannot be stored.
    pub fn embed_model(
        mut self,
        path: &Path,
        keep: &[String],
        file: Option<&MapFile>,
        observer: &dyn Observer,
    ) -> Result<Fitted> {
        self.check_model()?;
        check_path(path)?;
        self.check_kept(keep, observer)?;
        let model = match ModelDir::open(path) {
            // Published, but stopped before the run directory was removed.
            Ok(model) if !model.versions()?.is_empty() && model.runs()?.iter().any(|run| run == FIRST) => model,
            _ => ModelDir::create(path)?,
        };
        let lock = model.lock(false, &mut || false)?;
        if let Some(current) = model.current()?
            && model.version(current)?.run_id.as_deref() != Some(FIRST)
        {
            return Err(Error::job(format!(
                "{} is a model whose current version is {current}; `update` adds rows to it",
                path.display()
            )));
        }
        self.check_ids(observer)?;
        let scratch = lock.run(FIRST)?;
        self.run = RunOptions { restart: self.run.restart, ..RunOptions::kept(scratch.join(RUN)) };
        let report = self.run_for_model(&scratch, keep, file, observer)?;
        let version = match lock.published(FIRST)? {
            Some(published) => published.number,
            None => {
                let stored = self.store(&lock, &report, &scratch, None, keep, observer)?;
                let mut version = stored.version(Action::Fit, FIRST);
                version.measures = self.measures(&lock, &version, &report, observer)?;
                lock.publish(version, true)?
            }
        };
        lock.end_run(FIRST)?;
        Ok(Fitted { report, version })
    }
}

/// The name of the first run of a model.
const FIRST: &str = "first";
/// The share of the memory for the hashes of ids while they are compared.
const HASHES_SHARE: u64 = 4;

impl Job {
    /// Refuses ids that cannot name rows, before any work.
    fn check_ids(&self, observer: &dyn Observer) -> Result<()> {
        let (Some(id), Some(source)) = (&self.id, self.read_source(observer)?) else { return Ok(()) };
        let schema = source.column_schema(std::slice::from_ref(id))?;
        id_kind(id, schema.field(0).data_type())?;
        let memory = self.config.memory / HASHES_SHARE;
        let Some([first, second]) = first_repeat(source.as_ref(), id, memory, observer)? else { return Ok(()) };
        let batch = source.read_columns(std::slice::from_ref(id), second, 1)?;
        let value = crate::plot::texts(batch.column(0)).map_err(Error::job)?;
        let value = value.iter().flatten().next().unwrap_or_default().to_string();
        let (first, second) = (source.locate(first), source.locate(second));
        Err(Error::job(format!(
            "{}: row {} has the id of row {}, \"{value}\" in column \"{id}\"; name a column whose values all differ",
            second.path.display(),
            second.row,
            first.row
        )))
    }

    /// Refuses columns that a model cannot keep, before any work.
    fn check_kept(&self, keep: &[String], observer: &dyn Observer) -> Result<()> {
        let (false, Some(source)) = (keep.is_empty(), self.read_source(observer)?) else { return Ok(()) };
        let settings = self.config.settings(source.shape().rows);
        kept::check_names(keep, self.id.as_deref(), settings.n_components)?;
        kept::check_columns(source.as_ref(), keep)?;
        look_at_columns(source.as_ref(), &source.unsure_columns(keep)?, observer, &mut |_, _, _| Ok(()))
    }

    /// Measures the map of a version that is not published yet.
    fn measures(
        &self,
        lock: &ModelLock<'_>,
        version: &Version,
        report: &Report,
        observer: &dyn Observer,
    ) -> Result<serde_json::Value> {
        let snapshot = Snapshot::open(lock.model(), version)?;
        let options = ModelOptions::of(version)?;
        let progress = Progress::start(observer, Stage::Quality, 1, "maps")?;
        let measured = self.pool()?.install(|| measure(&snapshot, snapshot.places(), &options, &progress));
        let mut measures = measured?;
        measures.recall = report.neighbors.map_or(measures.recall, |found| found.recall);
        Ok(serde_json::to_value(measures).unwrap_or_default())
    }

    /// Returns a pool of the worker threads. Not rayon's own threads: they do not count what was asked for, and a forked
    /// process does not have them.
    fn pool(&self) -> Result<rayon::ThreadPool> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.config.threads.unwrap_or(0)).build();
        pool.map_err(|e| Error::job(format!("threads: {e}")))
    }

    /// Runs the stages, and keeps the files that a model with the columns `keep` is made of. A run that was finished is not
    /// repeated: its report is kept, because the output that it wrote must not be refused as an existing file.
    pub(super) fn run_for_model(
        &mut self,
        scratch: &Path,
        keep: &[String],
        file: Option<&MapFile>,
        observer: &dyn Observer,
    ) -> Result<Report> {
        // A plan says which files stay.
        self.keep_for_model(keep);
        let plan = self.plan()?;
        let (path, key) = (scratch.join(REPORT), self.run_key(&plan)?);
        if let Some(kept) = key.as_ref().filter(|_| !self.run.restart).and_then(|key| kept_report(&path, key)) {
            return Ok(kept);
        }
        let report = match file {
            Some(file) => self.embed(&plan, file, observer),
            None => self.embed_to(&plan, &mut NoMap, observer),
        }?;
        if let Some(key) = key {
            let kept = serde_json::json!({"key": key, "report": report});
            lowland_io::replace(&path, kept.to_string().as_bytes())?;
        }
        Ok(report)
    }

    /// Writes the objects of a finished run into a model. With `earlier` the map is turned and scaled to lie on the map
    /// of that snapshot. `kept` are the columns that the model keeps.
    pub(super) fn store(
        &self,
        lock: &ModelLock<'_>,
        report: &Report,
        scratch: &Path,
        earlier: Option<&Snapshot>,
        kept: &[String],
        observer: &dyn Observer,
    ) -> Result<StoredRun> {
        let Some(source) = self.read_source(observer)? else {
            return Err(Error::job("a model is made of vectors".to_string()));
        };
        let plan = &report.plan;
        let progress = Progress::start(observer, Stage::Place, plan.shape().rows, "rows")?;
        let run: PathBuf = scratch.join(RUN);
        let fitted = FittedRun {
            dir: &run,
            config: &self.config,
            plan,
            mean_distance: report.neighbors.map_or(0.0, |found| found.mean_distance),
            source: &source,
            id: self.id.as_deref(),
            kept,
            shift: report.shift.as_ref(),
            scratch,
            earlier,
        };
        let stored = self.pool()?.install(|| lowland_model::fit::store(lock, &fitted, &progress))?;
        Ok(stored)
    }
}

/// Returns the report of a finished run, if it was the run of this key.
fn kept_report(path: &Path, key: &serde_json::Value) -> Option<Report> {
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (kept.get("key") == Some(key)).then(|| Report::from_json(&kept.get("report")?.to_string()).ok())?
}
