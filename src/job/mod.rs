//! A job: inputs and options. What becomes of it is a file, batches, or anybody's sink; between them
//! is a run directory.
//!
//! - `run.rs`: the run directory ([`RunOptions`]), and the disk space of a run.
//! - `map.rs`: the map as a table: a file ([`MapFile`]) or batches, with kept columns.
//! - `graph.rs`: kNN graphs in files.
//! - `placing.rs`: rows that were left out of the run, in the output.
//! - `outputs.rs`: checks of an output's name.
//!
//! What must hold:
//! - Everything that can be refused is refused before any work is done.
//! - An output has its name only when it is complete.
//! - A run that fails leaves its finished stages for the next attempt; a run that finished no stage
//!   leaves nothing.

mod graph;
mod map;
mod outputs;
mod placing;
mod run;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use lowland_engine::invalid::ExcludedRows;
use lowland_engine::{
    Config, GraphSink, GraphSource, Init, Inputs, MapSink, Observer, Plan, PositionSource, Report, Stage,
};
use lowland_io::{Fingerprint, GraphWriter, Shift, Source};

pub use graph::GraphInput;
pub use map::{MapFile, MapTable};
pub use outputs::{check_local, check_output};
pub use run::{DiskSpace, RunOptions};

pub(crate) use map::{ExtraColumns, MapOutput, Target, look_at_columns};
pub(crate) use outputs::refuse_input;
pub(crate) use run::OpenRun;

use graph::GraphFile;
use placing::{Completed, RowPlacement};
use run::to_run;

use crate::budget::Memory;
use crate::earlier_map::EarlierMap;
use crate::evaluate::open_map;
use crate::invalid_rows::{FilteredGraph, MAP_ROWS, PlacedRows, PreparedSource};
use crate::machine::Machine;
use crate::{Error, InvalidRows, Result, SpaceUse, space};

/// Opens files, directories, globs and addresses as one source (see [`lowland_io::open`]). `column`
/// says where the vectors are if that is ambiguous (see [`lowland_io::OpenOptions`]).
///
/// # Errors
/// If there are no files, or the files cannot be read as vectors.
pub fn open<S: AsRef<str>>(paths: &[S], column: Option<&str>) -> Result<Arc<dyn Source>> {
    open_with(
        paths,
        &lowland_io::OpenOptions { column: column.map(str::to_string), ..lowland_io::OpenOptions::default() },
    )
}

/// Opens a source as [`open`] does, with all options.
///
/// # Errors
/// Those of [`open`], and if waiting for an object store was stopped.
pub fn open_with<S: AsRef<str>>(paths: &[S], options: &lowland_io::OpenOptions) -> Result<Arc<dyn Source>> {
    let paths: Vec<String> = paths.iter().map(|p| p.as_ref().to_string()).collect();
    Ok(lowland_io::open(&paths, options)?.into())
}

/// A job: inputs and options. Fill in the fields, then call [`plan`](Job::plan), then
/// [`embed`](Job::embed) or another method that takes the plan.
pub struct Job {
    /// The vectors.
    pub source: Option<Arc<dyn Source>>,
    /// A precomputed kNN graph, with or without the vectors.
    pub graph: Option<GraphInput>,
    /// The source's column with the rows' ids. Default: row numbers.
    pub id: Option<String>,
    /// How rows that cannot be placed are handled. Default: an error; rows without neighbours of a graph without
    /// vectors stay in the output without coordinates.
    pub invalid: Option<InvalidRows>,
    /// The options that determine the map.
    pub config: Config,
    /// The run directory, which holds finished stages.
    pub run: RunOptions,
    /// If the map becomes a version of a model: the columns that the model keeps.
    pub(crate) kept_in_model: Option<Vec<String>>,
    /// How the source is read, once determined.
    reading: Mutex<Option<Arc<PreparedSource>>>,
    /// The rows of a graph without vectors, once examined, with the state of the graph's file.
    of_graph: Mutex<Option<(Fingerprint, Arc<PlacedRows>)>>,
}

impl Default for Job {
    fn default() -> Self {
        Job::new()
    }
}

impl Job {
    /// Returns a job without inputs, with default options. Its memory budget is half of what the
    /// machine grants ([`Memory::DEFAULT`]).
    pub fn new() -> Self {
        let config = Config::default();
        let memory = Memory::DEFAULT.bytes(&Machine::detect()).unwrap_or(config.memory);
        Job {
            source: None,
            graph: None,
            id: None,
            invalid: None,
            config: Config { memory, ..config },
            run: RunOptions::default(),
            kept_in_model: None,
            reading: Mutex::new(None),
            of_graph: Mutex::new(None),
        }
    }

    /// Returns whether the run directory stays after success.
    pub fn keeps_run(&self) -> bool {
        self.run.keeps(self.config.keep_stages.as_deref())
    }

    /// Returns the options as planned: if the run directory is removed in the end, a stage's files
    /// may be removed as soon as no later stage needs them.
    fn effective_config(&self) -> Config {
        let mut config = self.config.clone();
        if !self.keeps_run() && !self.run.strict {
            config.keep_stages = Some(Vec::new());
        }
        config
    }

    /// Examines the inputs before planning: if rows may be left out ([`Job::invalid`]), all rows in
    /// one pass, and all rows of a graph without vectors; and the first rows, for the shift that is
    /// subtracted before rounding. The result is kept, so that the pass is not repeated.
    /// [`plan`](Job::plan) does the same, without an observer.
    ///
    /// # Errors
    /// If fewer than two rows are usable, the inputs cannot be read, or the observer stops the
    /// pass.
    pub fn check_rows(&self, observer: &dyn Observer) -> Result<()> {
        self.placed(observer).map(|_| ())
    }

    /// Returns how rows that cannot be placed are handled.
    fn invalid_rows(&self) -> InvalidRows {
        let graph_alone = self.source.is_none() && self.graph.is_some();
        self.invalid.unwrap_or(if graph_alone { InvalidRows::Null } else { InvalidRows::Error })
    }

    /// Returns the rows that have a place on the map, and the others.
    fn placed(&self, observer: &dyn Observer) -> Result<Option<Arc<PlacedRows>>> {
        if let Some(reading) = self.reading(observer)? {
            return Ok(Some(reading.placed().clone()));
        }
        let Some(graph) = &self.graph else { return Ok(None) };
        let (file, invalid) = (graph.fingerprint()?, self.invalid_rows());
        let mut kept = self.of_graph.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, placed)) = kept.as_ref().filter(|(of, placed)| *of == file && placed.invalid() == invalid) {
            return Ok(Some(placed.clone()));
        }
        let placed = Arc::new(PlacedRows::of_graph(graph, invalid, self.config.memory, observer)?);
        Ok(Some(kept.insert((file, placed)).1.clone()))
    }

    fn reading(&self, observer: &dyn Observer) -> Result<Option<Arc<PreparedSource>>> {
        let Some(source) = &self.source else { return Ok(None) };
        let metric = self.config.settings(source.shape().rows).metric;
        // The method cosne uses the lengths of rows, which a shift would change.
        let (allowed, invalid) = (self.config.method.name() != "cosne", self.invalid_rows());
        let mut kept = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = kept.as_ref().filter(|reading| reading.matches(source, invalid, metric, allowed)) {
            return Ok(Some(reading.clone()));
        }
        let reading = PreparedSource::new(source, MAP_ROWS, invalid, metric, allowed, self.config.memory, observer)?;
        Ok(Some(kept.insert(Arc::new(reading)).clone()))
    }

    /// Returns the source as the engine reads it: usable rows, shifted.
    pub(crate) fn read_source(&self, observer: &dyn Observer) -> Result<Option<Arc<dyn Source>>> {
        Ok(self.reading(observer)?.map(|reading| reading.source().clone()))
    }

    /// Returns the rows that cannot be placed if they are left out. Examines the inputs as
    /// [`check_rows`](Job::check_rows) does.
    ///
    /// # Errors
    /// Those of [`check_rows`](Job::check_rows).
    pub fn left_out(&self) -> Result<Option<ExcludedRows>> {
        Ok(self.placed(&())?.and_then(|placed| placed.left_out()))
    }

    /// Returns the shift that is subtracted from each component before rounding to single
    /// precision. There is a shift if columns of a source of f64 or integers are far from 0 and the
    /// metric does not depend on a common shift of the rows.
    ///
    /// # Errors
    /// Those of [`check_rows`](Job::check_rows).
    pub fn shift(&self) -> Result<Option<Shift>> {
        Ok(self.reading(&())?.and_then(|reading| reading.shift().cloned()))
    }

    /// Returns the source restricted to the rows of the output: all rows, or those that are not
    /// dropped.
    ///
    /// # Errors
    /// Those of [`check_rows`](Job::check_rows).
    pub fn output_rows(&self) -> Result<Option<Arc<dyn Source>>> {
        Ok(self.reading(&())?.map(|reading| reading.output()))
    }

    /// Calls `with` with the inputs in the engine's form.
    fn with_inputs<T>(&self, observer: &dyn Observer, with: impl FnOnce(&Inputs<'_>) -> Result<T>) -> Result<T> {
        let reading = self.reading(observer)?;
        let rows = self.placed(observer)?.and_then(|placed| placed.rows().cloned());
        let graph = self.graph.as_ref().map(|graph| FilteredGraph { graph, rows });
        with(&Inputs {
            source: reading.map(|reading| reading.source().clone()),
            graph: graph.as_ref().map(|graph| graph as &dyn GraphSource),
            first: None,
        })
    }

    /// Returns the report, completed by the rows left out and the shift.
    fn with_source_facts(&self, report: Report) -> Result<Report> {
        Ok(Report { left_out: self.left_out()?, shift: self.shift()?, ..report })
    }

    /// Checks the options against the inputs and decides every parameter.
    ///
    /// # Errors
    /// Name the invalid option, the fault of the data, or the smallest sufficient budget.
    pub fn plan(&self) -> Result<Plan> {
        self.with_inputs(&(), |inputs| Ok(self.effective_config().plan(&inputs.describe()?)?))
    }

    /// Plans [`Job::knn`], which needs less than [`Job::embed`].
    ///
    /// # Errors
    /// As [`Job::plan`].
    pub fn plan_graph(&self) -> Result<Plan> {
        self.with_inputs(&(), |inputs| Ok(self.effective_config().plan_graph(&inputs.describe()?)?))
    }

    /// Computes the map and writes it to a file. Resumes an earlier run of the same job from its
    /// finished stages.
    ///
    /// # Errors
    /// Invalid outputs and inputs are reported before any work. After an error of the engine,
    /// finished stages stay in the run directory, if it has a name.
    pub fn embed(&self, plan: &Plan, file: &MapFile, observer: &dyn Observer) -> Result<Report> {
        self.check_output(&file.path, file.force)?;
        let earlier = self.earlier(plan, observer)?;
        self.check_room(plan, Some((&file.path, &file.table)))?;
        let mut map = self.begin_map(Target::File(&file.path, file.force), plan, &file.table, observer)?;
        let mut report = self.run_map(plan, earlier, &mut map, observer)?;
        report.notes.append(&mut map.remarks);
        Ok(report)
    }

    /// Computes the map and hands it to `each` as Arrow batches, in the order of the rows: the id,
    /// the coordinates, the kept columns. After an error, some batches may have been handed over.
    ///
    /// # Errors
    /// As for [`embed`](Job::embed), and those of `each`.
    pub fn embed_batches(
        &self,
        plan: &Plan,
        table: &MapTable,
        each: impl FnMut(RecordBatch) -> lowland_io::Result<()> + Send + 'static,
        observer: &dyn Observer,
    ) -> Result<Report> {
        let earlier = self.earlier(plan, observer)?;
        self.check_room(plan, None)?;
        let mut map = self.begin_map(Target::Batches(Box::new(each)), plan, table, observer)?;
        let mut report = self.run_map(plan, earlier, &mut map, observer)?;
        report.notes.append(&mut map.remarks);
        Ok(report)
    }

    /// Returns the columns of the batches of [`embed_batches`](Job::embed_batches), before the run.
    ///
    /// # Errors
    /// Those of [`embed_batches`](Job::embed_batches) that concern the columns.
    pub fn map_schema(&self, plan: &Plan, table: &MapTable, observer: &dyn Observer) -> Result<SchemaRef> {
        self.begin_map(Target::Batches(Box::new(|_| Ok(()))), plan, table, observer)?.schema()
    }

    /// Computes the map and hands its coordinates to `sink`: those of all rows of
    /// [`output_rows`](Job::output_rows), in order, with NaN for rows without a position.
    ///
    /// # Errors
    /// As for [`embed`](Job::embed), and those of the sink.
    pub fn embed_to(&self, plan: &Plan, sink: &mut dyn MapSink, observer: &dyn Observer) -> Result<Report> {
        let earlier = self.earlier(plan, observer)?;
        self.check_room(plan, None)?;
        let placing = RowPlacement::of(self.placed(observer)?.as_deref());
        let mut sink = Completed { sink, placing, dim: plan.settings().n_components };
        self.run_map(plan, earlier, &mut sink, observer)
    }

    fn run_map(
        &self,
        plan: &Plan,
        earlier: Option<EarlierMap>,
        sink: &mut dyn MapSink,
        observer: &dyn Observer,
    ) -> Result<Report> {
        let run = self.open_run(plan, earlier.as_ref())?;
        let first = earlier.as_ref().map(|earlier| earlier as &dyn PositionSource);
        let result = self.with_inputs(observer, |inputs| {
            let inputs = Inputs { first, ..inputs.clone() };
            self.with_source_facts(lowland_engine::embed(plan, &inputs, &run.dir, sink, observer)?)
        });
        run.close(&self.run, self.keeps_run(), result)
    }

    /// Computes the kNN graph alone and writes it to the file `path` (`.arrow` or `.parquet`);
    /// `force` says whether an existing file may be replaced.
    ///
    /// # Errors
    /// As for [`embed`](Job::embed).
    pub fn knn(&self, plan: &Plan, path: &Path, force: bool, observer: &dyn Observer) -> Result<Report> {
        self.check_output(path, force)?;
        if !GraphWriter::takes(path) {
            let what = format!("{}: a graph's name ends in .arrow or .parquet", path.display());
            return Err(Error::job(what));
        }
        self.check_room(plan, Some((path, &MapTable::default())))?;
        let placing = RowPlacement::of(self.placed(observer)?.as_deref());
        let create =
            if matches!(placing, RowPlacement::Drop(_)) { GraphWriter::create_named } else { GraphWriter::create };
        let writer = create(path, plan.k(), plan.settings().metric.name(), force)?;
        let mut graph = GraphFile { writer: Some(writer), placing };
        self.run_graph(plan, &mut graph, observer)
    }

    /// Computes the kNN graph alone and hands it to `sink`: neighbours are numbers of usable rows,
    /// which are all rows unless some are left out ([`Job::invalid`]).
    ///
    /// # Errors
    /// As for [`embed`](Job::embed), and those of the sink.
    pub fn knn_to(&self, plan: &Plan, sink: &mut dyn GraphSink, observer: &dyn Observer) -> Result<Report> {
        self.check_room(plan, None)?;
        self.run_graph(plan, sink, observer)
    }

    fn run_graph(&self, plan: &Plan, sink: &mut dyn GraphSink, observer: &dyn Observer) -> Result<Report> {
        let run = self.open_run(plan, None)?;
        let result = self.with_inputs(observer, |inputs| {
            self.with_source_facts(lowland_engine::knn(plan, inputs, &run.dir, sink, observer)?)
        });
        run.close(&self.run, self.keeps_run(), result)
    }

    /// Returns the disk space that a run of `plan` still needs, and the free space; `output` is the
    /// file to write and its columns. `None` if the operating system does not report free space.
    pub fn room(&self, plan: &Plan, output: Option<(&Path, &MapTable)>) -> Option<DiskSpace> {
        let directory = self.run.dir.clone().unwrap_or_else(std::env::temp_dir);
        let free = space::free_space(&directory).ok()?;
        // Unfinished files of an earlier process count as available, because opening the run
        // removes them.
        let listed = lowland_io::runs(&directory).unwrap_or_default().into_iter().find(|run| run.path == directory);
        let there = listed.as_ref().map_or(0, |run| run.bytes);
        let manifest = listed.and_then(|run| run.manifest.ok()).filter(|_| !self.run.restart);
        let output = output.filter(|(path, _)| space::together(&directory, path));
        let output = output.map_or(0, |(_, table)| self.output_bytes(plan, &table.keep));
        let to_run = to_run(plan, manifest.as_ref());
        let needed = plan.stages().iter().filter(|stage| to_run.contains(&stage.stage)).map(|stage| {
            let output = if matches!(stage.stage, Stage::Output | Stage::Quality) { output } else { 0 };
            stage.disk.saturating_add(output)
        });
        let mut needed = needed.max().unwrap_or(0);
        if let Some(model) = self.model_bytes(plan) {
            // The model is made of files of the run, which are removed when it is complete.
            let kept = plan.stages().last().map_or(0, |stage| stage.disk);
            needed = needed.max(kept.saturating_add(output).saturating_add(model));
        }
        Some(DiskSpace { needed: needed.saturating_sub(there), directory, free })
    }

    /// Returns the approximate bytes of the model that is made of the map; `None` if none is.
    pub fn model_bytes(&self, plan: &Plan) -> Option<u64> {
        let (kept, source) = (self.kept_in_model.as_ref()?, self.source.as_ref()?);
        // Positions, ids and kept columns are those of a file of the map.
        Some(lowland_model::fit::base_bytes(plan, source.dtype()).saturating_add(self.output_bytes(plan, kept)))
    }

    fn check_room(&self, plan: &Plan, output: Option<(&Path, &MapTable)>) -> Result<()> {
        match self.room(plan, output) {
            Some(DiskSpace { directory, needed, free }) if needed > free => {
                let what = if self.kept_in_model.is_some() { SpaceUse::Model } else { SpaceUse::Run };
                Err(Error::Space { what, directory, needed, free })
            }
            _ => Ok(()),
        }
    }

    /// Returns the approximate bytes of the output; texts are assumed to be short.
    fn output_bytes(&self, plan: &Plan, keep: &[String]) -> u64 {
        const TEXT: usize = 32;
        if !plan.is_map() {
            return plan.shape().rows.saturating_mul(plan.k() as u64 * 8);
        }
        let names: Vec<String> = self.id.iter().chain(keep).cloned().collect();
        let kept = self.source.as_ref().and_then(|source| source.column_schema(&names).ok());
        let kept = kept.map_or(0, |schema| {
            let widths = schema.fields().iter().map(|f| f.data_type().primitive_width().unwrap_or(TEXT)).sum();
            let widths: usize = widths;
            widths as u64
        });
        // An id column of row numbers, if the user names no id column.
        let number = if self.id.is_none() { 8 } else { 0 };
        plan.shape().rows.saturating_mul(number + kept + plan.settings().n_components as u64 * 4)
    }

    fn check_output(&self, path: &Path, force: bool) -> Result<()> {
        check_output(path, force)?;
        self.run.dir.as_deref().map_or(Ok(()), check_local)?;
        refuse_input(path, &self.fingerprints()?)
    }

    /// Opens the map from which initial positions are taken. They are read late in a run, so the
    /// file is checked now, before hours of work.
    fn earlier(&self, plan: &Plan, observer: &dyn Observer) -> Result<Option<EarlierMap>> {
        // The ids' hashes may take this part of the budget, of which nothing else is used yet.
        const HASHES: u64 = 4;
        let Init::File(path) = &plan.settings().init else { return Ok(None) };
        let shape = (plan.shape().rows, plan.settings().n_components);
        let source = self.reading(observer)?.map(|reading| reading.source().clone());
        let placed = self.placed(observer)?;
        let placed = placed.as_ref().and_then(|placed| placed.rows());
        let earlier = EarlierMap::open(path, shape, source.as_ref(), self.id.as_ref(), placed)?;
        earlier.check_ids(plan.settings().memory / HASHES, observer)?;
        Ok(Some(earlier))
    }

    fn begin_map(
        &self,
        target: Target<'_>,
        plan: &Plan,
        table: &MapTable,
        observer: &dyn Observer,
    ) -> Result<MapOutput> {
        let (source, placed) = (self.reading(observer)?.map(|reading| reading.output()), self.placed(observer)?);
        let beside = ExtraColumns { source, placed: placed.as_deref(), id: self.id.as_ref(), table };
        MapOutput::begin(target, beside, (plan.shape().rows, plan.settings().n_components), observer)
    }

    /// Returns the fingerprints of the input files, which must be unchanged when a run is resumed.
    fn fingerprints(&self) -> Result<Vec<Fingerprint>> {
        let mut files = match &self.source {
            Some(source) => source.fingerprints()?,
            None => Vec::new(),
        };
        if let Some(graph) = &self.graph {
            files.push(graph.fingerprint()?);
        }
        if let Some(Init::File(path)) = &self.config.init {
            files.extend(open_map(path, None)?.fingerprints()?);
        }
        Ok(files)
    }

    /// Returns whether a run of this job that ends early can be resumed by another process: the source
    /// is identified by its files or content ([`lowland_io::SourceId`]).
    ///
    /// # Errors
    /// If a file of the source cannot be read any more.
    pub fn is_resumable(&self) -> Result<bool> {
        Ok(self.source.as_ref().map_or(Ok(true), |source| source.id().map(|id| id.is_lasting()))?)
    }

    /// Opens the run directory of `plan`. The directory is identified by the plan, even if
    /// `self.config` was changed since.
    fn open_run(&self, plan: &Plan, earlier: Option<&EarlierMap>) -> Result<OpenRun> {
        let identity = self.identity(plan, earlier.and_then(EarlierMap::id))?;
        OpenRun::open(&self.run, identity, self.fingerprints()?, self.is_resumable()?)
    }

    /// Returns what determines the results of a run of `plan` beside the content of its files. `init_id` is the column by
    /// which rows are matched with an earlier map.
    fn identity(&self, plan: &Plan, init_id: Option<&str>) -> Result<serde_json::Value> {
        let mut identity = plan.identity();
        if let Some(fields) = identity.as_object_mut() {
            let column = self.source.as_ref().and_then(|s| s.vector_column());
            fields.insert("column".into(), column.into());
            if let Some(id) = init_id {
                fields.insert("init_id".into(), id.into());
            }
            fields.insert("knn".into(), self.graph.as_ref().map(|g| g.path.to_string_lossy()).into());
            for (name, value) in self.placed(&())?.iter().flat_map(|placed| placed.identity()) {
                fields.insert(name.into(), value);
            }
            if let Some(shift) = self.shift()? {
                fields.insert("shift".into(), serde_json::json!(shift));
            }
        }
        Ok(identity)
    }

    /// Returns what must be equal for a finished run of `plan` to be the same run as an earlier one: its identity, and the
    /// state of its files. `None` if that cannot be told.
    pub(crate) fn run_key(&self, plan: &Plan) -> Result<Option<serde_json::Value>> {
        if !self.is_resumable()? {
            return Ok(None);
        }
        let key = serde_json::json!({"run": self.identity(plan, self.id.as_deref())?, "files": self.fingerprints()?});
        Ok(Some(key))
    }
}
