//! New rows on the map of a stored model: the rows are read, their neighbours among the model's rows are found, and
//! each row is placed beside them. The model does not change.
//!
//! A row's position depends on the model and on the row alone. The rows are therefore divided into *units* of
//! consecutive rows, whose number depends on the number of rows alone; a finished unit is a file of the run directory, and
//! the same job uses it again after an interruption.
//!
//! ```text
//! placed-<unit>.f32   rows × (components + 1), f32, little-endian: the coordinates, then the outlier score
//! ```
//!
//! What must hold:
//! - Everything that can be refused is refused before any row is placed: options, columns, the output's name, and
//!   rows without a usable vector, for which the source is read once.
//! - The result does not depend on batch size, threads, memory budget and interruptions.
//! - The output has its name only when it is complete.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use lowland_engine::budget::{MemoryNeeds, base_bytes};
use lowland_engine::invalid::{ExcludedRows, check_rows};
use lowland_engine::{
    MapSink, Observer, Progress, Remark, Session, Stage, StageContext, StagePlan, StageReport, format_bytes,
    format_count,
};
use lowland_io::{
    Loader, LoaderOptions, MapWriter, RowSet, ShiftedSource, Source, SubsetSource, VerifyDepth, coordinate_names,
};
use lowland_model::diff::row_hash;
use lowland_model::place::Placer;
use lowland_model::search::Searcher;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Model;
use crate::budget::Memory;
use crate::invalid_rows::PlacedRows;
use crate::job::{ExtraColumns, MapOutput, OpenRun, Target, refuse_input};
use crate::machine::Machine;
use crate::{Error, InvalidRows, MapFile, MapTable, Result, RunOptions, check_output, space};

/// The name of the column of outlier scores.
const OUTLIER: &str = "outlier";
/// The least number of rows of a unit, and the most units.
const UNIT_ROWS: u64 = 1 << 16;
const UNITS: u64 = 256;
/// The most rows of a batch, if none is asked for: enough for the rows that visit one list to be compared together.
const BATCH_ROWS: usize = 1 << 14;
/// The fewest rows of a batch, if none is asked for.
const LEAST_BATCH_ROWS: usize = 64;
/// A warning is given if a larger share of the rows is outside of the range of the model's rows, of which 1 % are.
const OUTSIDE: f64 = 0.1;

/// A job that places rows on the map of a model: fill in the fields, then call [`write`](TransformJob::write) or
/// another method.
pub struct TransformJob {
    /// The model, at the version whose map is used.
    pub model: Arc<Model>,
    /// The vectors of the new rows.
    pub source: Arc<dyn Source>,
    /// The source's column with the rows' ids. Default: row numbers.
    pub id: Option<String>,
    /// How rows that cannot be placed are handled. Default: they are an error.
    pub invalid: InvalidRows,
    /// Finished units are kept here until the job is done. The directory is removed after success.
    pub run: RunOptions,
    /// Bytes that the process may hold. Never changes the result.
    pub memory: u64,
    /// Worker threads; `None`: one for each core. Never changes the result.
    pub threads: Option<usize>,
    /// Rows read at a time; `None`: as the budget allows. Never changes the result.
    pub batch_rows: Option<usize>,
    /// The rows that can be placed, once the source was examined.
    placed: Mutex<Option<Arc<PlacedRows>>>,
}

/// What a transform will hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransformPlan {
    /// Number of rows to place.
    pub rows: u64,
    /// Rows read at a time.
    pub batch_rows: usize,
    /// Worker threads.
    pub threads: usize,
    /// The stages with their memory.
    pub stages: Vec<StagePlan>,
}

impl AsRef<[StagePlan]> for TransformPlan {
    fn as_ref(&self) -> &[StagePlan] {
        &self.stages
    }
}

impl TransformPlan {
    /// Returns the most bytes that the process will hold.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(|stage| stage.memory).max().unwrap_or(0)
    }
}

impl fmt::Display for TransformPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "place      {} rows, {} at a time", format_count(self.rows), format_count(self.batch_rows as u64))?;
        write!(f, "memory     {} at most; {} threads", format_bytes(self.peak()), self.threads)
    }
}

/// What a transform did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransformReport {
    /// lowland's version.
    pub lowland: String,
    /// The version of the model whose map was used.
    pub model_version: u64,
    /// Number of rows that were placed.
    pub rows: u64,
    /// Number of these rows that are farther from the nearest centroid than 99 % of the rows of which the map was
    /// made.
    pub outliers: u64,
    /// Rows that were left out.
    pub left_out: Option<ExcludedRows>,
    /// Number of rows that an earlier process had placed.
    pub reused_rows: u64,
    /// The stages.
    pub stages: Vec<StageReport>,
    /// Warnings.
    pub warnings: Vec<Remark>,
    /// Notes.
    pub notes: Vec<Remark>,
    /// Wall time in seconds.
    pub seconds: f64,
}

impl TransformReport {
    /// Returns the largest memory of a stage in bytes.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(|stage| stage.peak_memory).max().unwrap_or(0)
    }
}

impl fmt::Display for TransformReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "placed     {} rows on version {} in {:.1} s",
            format_count(self.rows),
            self.model_version,
            self.seconds
        )?;
        if self.outliers > 0 {
            write!(f, "; {} are outside of the range of the map's rows", format_count(self.outliers))?;
        }
        Ok(())
    }
}

/// New rows with their positions, in memory.
#[derive(Debug, Clone)]
pub struct PlacedRowsInMemory {
    /// Rows × components, row-major, in the order of the rows; NaN for rows without a position.
    pub coordinates: Vec<f32>,
    /// For each row, the distance to the nearest centroid over the 99th percentile of that distance of the rows of
    /// which the map was made: above 1, the row is outside of their range. NaN for rows without a position.
    pub outlier: Vec<f32>,
    /// The number of components.
    pub n_components: usize,
    /// What the job did.
    pub report: TransformReport,
}

/// The record of a unit, in the manifest.
#[derive(Serialize, Deserialize)]
struct UnitData {
    rows: u64,
    outliers: u64,
}

impl TransformJob {
    /// Returns a job with default options. Its memory budget is half of what the machine grants.
    pub fn new(model: Arc<Model>, source: Arc<dyn Source>) -> Self {
        let memory = Memory::DEFAULT.bytes(&Machine::detect()).unwrap_or(crate::Config::default().memory);
        TransformJob {
            model,
            source,
            id: None,
            invalid: InvalidRows::default(),
            run: RunOptions::default(),
            memory,
            threads: None,
            batch_rows: None,
            placed: Mutex::new(None),
        }
    }

    /// Examines all rows of the source in one pass, and keeps the result: [`plan`](Self::plan) does the same, without
    /// an observer.
    ///
    /// # Errors
    /// If the vectors have another number of components than the model's, if rows cannot be placed and
    /// [`invalid`](Self::invalid) does not say what becomes of them, or if the source cannot be read.
    pub fn check_rows(&self, observer: &dyn Observer) -> Result<()> {
        self.placed(observer).map(drop)
    }

    /// Returns the rows that are left out, if leaving out was requested.
    ///
    /// # Errors
    /// Those of [`check_rows`](Self::check_rows).
    pub fn left_out(&self) -> Result<Option<ExcludedRows>> {
        Ok(self.placed(&())?.left_out())
    }

    fn placed(&self, observer: &dyn Observer) -> Result<Arc<PlacedRows>> {
        self.check_width()?;
        let mut kept = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(placed) = kept.as_ref().filter(|placed| placed.invalid() == self.invalid) {
            return Ok(placed.clone());
        }
        let metric = self.model.options().settings.metric;
        let placed = PlacedRows::of_source(&self.source, self.invalid, metric, self.memory, observer);
        // The smallest budget that is named is enough for the whole job.
        let placed = placed.map_err(|error| match error {
            Error::Engine(lowland_engine::Error::Budget { asked, needed, stage }) => {
                let needed = needed.max(self.least_budget());
                Error::Engine(lowland_engine::Error::Budget { asked, needed, stage })
            }
            error => error,
        })?;
        self.source.release();
        Ok(kept.insert(Arc::new(placed)).clone())
    }

    fn check_width(&self) -> Result<()> {
        let (found, expected) = (self.source.shape().dim, self.model.snapshot().dim());
        if found == expected {
            return Ok(());
        }
        let column = self.source.vector_column().map_or_else(String::new, |name| format!(" of column \"{name}\""));
        let place = self.source.locate(0).path;
        Err(Error::job(format!(
            "{}: the vectors{column} have {found} components, those of the model {} have {expected}; give vectors that \
             were made in the same way",
            place.display(),
            self.model.path().display()
        )))
    }

    /// Returns the rows as the model reads vectors: usable ones only, shifted.
    fn vectors(&self, placed: &PlacedRows) -> Arc<dyn Source> {
        let mut source = self.source.clone();
        if let Some(rows) = placed.rows() {
            source = Arc::new(SubsetSource::new(source, rows.clone()));
        }
        match &self.model.options().shift {
            Some(shift) => Arc::new(ShiftedSource::new(source, shift.clone())),
            None => source,
        }
    }

    /// Checks the options against the inputs, and decides the sizes of batches.
    ///
    /// # Errors
    /// Those of [`check_rows`](Self::check_rows), and a memory budget that is too small.
    pub fn plan(&self) -> Result<TransformPlan> {
        let placed = self.placed(&())?;
        let (all, rows) = (self.source.shape().rows, self.usable(&placed));
        let threads = self.threads();
        if threads == 0 || self.batch_rows == Some(0) {
            let field = if threads == 0 { "threads" } else { "batch_rows" };
            return Err(lowland_engine::Error::Config { field, why: "0 is too small; give 1 or more".into() }.into());
        }
        // A given number of rows is kept. Otherwise the batch is halved until it fits.
        let mut batch_rows = self.batch_rows.unwrap_or(BATCH_ROWS).min(unit_rows(rows) as usize);
        loop {
            let needed = self.budget_of(batch_rows);
            if needed <= self.memory {
                break;
            }
            if self.batch_rows.is_some() || batch_rows <= LEAST_BATCH_ROWS {
                let stage = Stage::Place.name();
                return Err(lowland_engine::Error::Budget { asked: self.memory, needed, stage }.into());
            }
            batch_rows /= 2;
        }
        let base = base_bytes(self.model.snapshot().dim(), threads);
        let stages = vec![
            stage_plan(Stage::Place, &self.needs(batch_rows), base),
            stage_plan(Stage::Output, &self.output_needs(all), base),
        ];
        Ok(TransformPlan { rows, batch_rows, threads, stages })
    }

    fn threads(&self) -> usize {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or(available)
    }

    /// Returns the smallest memory budget, in whole MiB, with batches of `batch_rows`.
    fn budget_of(&self, batch_rows: usize) -> u64 {
        let output = self.output_needs(self.source.shape().rows).bytes();
        let base = base_bytes(self.model.snapshot().dim(), self.threads());
        let held = self.needs(batch_rows).bytes().max(output) + base;
        // A twentieth of the budget stays free, as in a run.
        (held + held / 19).next_multiple_of(1 << 20)
    }

    /// Returns the smallest memory budget that is enough, in whole MiB.
    fn least_budget(&self) -> u64 {
        self.budget_of(self.batch_rows.unwrap_or(LEAST_BATCH_ROWS))
    }

    fn usable(&self, placed: &PlacedRows) -> u64 {
        placed.rows().map_or(self.source.shape().rows, |rows| rows.count())
    }

    /// Returns what is held while batches of `batch_rows` rows are placed.
    fn needs(&self, batch_rows: usize) -> MemoryNeeds {
        let (all, threads) = (self.source.shape().rows, self.threads());
        let (snapshot, options) = (self.model.snapshot(), self.model.options());
        let dim = snapshot.dim();
        let batches = Loader::bytes(batch_rows, dim) + self.source.held_bytes() + (batch_rows * dim * 4) as u64;
        let placing = Placer::bytes(&options.settings, self.model.rows(), options.n_neighbors, threads);
        let (lists, k) = (snapshot.lists(), options.n_neighbors);
        let search = Searcher::bytes(options.effort, lists, dim, batch_rows, k, threads) + snapshot.bytes();
        // Hashes, positions, scores, and the bytes that are written.
        let rows = (batch_rows * (16 + 8 * snapshot.n_components())) as u64;
        MemoryNeeds::default().phase(
            "place",
            [
                ("batches", batches + rows),
                ("a bit a row", RowSet::bytes(all)),
                ("the source", self.source.resident_bytes()),
                ("search", search),
                ("placement", placing),
            ],
        )
    }

    fn output_needs(&self, all: u64) -> MemoryNeeds {
        let dim = self.model.options().settings.n_components + 1;
        MemoryNeeds::default()
            .phase("output", [("the map", MapWriter::bytes(all, dim)), ("a bit a row", RowSet::bytes(all))])
    }

    /// Places the rows and writes them to a file, with the columns id, coordinates, outlier, and the kept ones; an
    /// `.npy` has coordinates only. Continues an earlier run of the same job.
    ///
    /// # Errors
    /// Invalid outputs and inputs are reported before any row is placed. After another error, finished units stay in
    /// the run directory, if it has a name.
    pub fn write(&self, file: &MapFile, observer: &dyn Observer) -> Result<TransformReport> {
        let ending = MapWriter::ending(&file.path)?;
        check_output(&file.path, file.force)?;
        if is_within(&file.path, self.model.path()) {
            return Err(Error::job(format!("{}: in the model's directory; choose another place", file.path.display())));
        }
        refuse_input(&file.path, &self.source.fingerprints()?)?;
        let scored = ending != "npy";
        self.table(Target::File(&file.path, file.force), &file.table, scored, observer)
    }

    /// Places the rows and hands them to `each` as Arrow batches, with the columns of [`write`](Self::write). After an
    /// error, some batches may have been handed over.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), and those of `each`.
    pub fn batches(
        &self,
        table: &MapTable,
        each: impl FnMut(RecordBatch) -> lowland_io::Result<()> + Send + 'static,
        observer: &dyn Observer,
    ) -> Result<TransformReport> {
        self.table(Target::Batches(Box::new(each)), table, true, observer)
    }

    /// Returns the columns of the batches of [`batches`](Self::batches), before the rows are placed.
    ///
    /// # Errors
    /// Those that concern the columns.
    pub fn schema(&self, table: &MapTable, observer: &dyn Observer) -> Result<SchemaRef> {
        let placed = self.placed(observer)?;
        self.begin(Target::Batches(Box::new(|_| Ok(()))), table, &placed, true, observer)?.schema()
    }

    /// Places the rows in memory: 4 bytes for each coordinate and score beside the budget.
    ///
    /// # Errors
    /// Those of [`write`](Self::write) that do not concern the output.
    pub fn run(&self, observer: &dyn Observer) -> Result<PlacedRowsInMemory> {
        let placed = self.placed(observer)?;
        let (all, width) = (self.source.shape().rows, self.model.options().settings.n_components);
        let rows = match self.invalid {
            InvalidRows::Drop => self.usable(&placed),
            InvalidRows::Error | InvalidRows::Null => all,
        };
        let mut memory = InMemory::new(rows as usize, width);
        let kept = placed.rows().filter(|_| self.invalid == InvalidRows::Null).cloned();
        let report =
            self.place(&mut |first, values| memory.put(first, values, kept.as_deref()), Vec::new(), observer)?;
        let InMemory { coordinates, outlier, .. } = memory;
        Ok(PlacedRowsInMemory { coordinates, outlier, n_components: width, report })
    }

    /// Begins the output. `scored` says whether it has the column of outlier scores.
    fn begin(
        &self,
        target: Target<'_>,
        table: &MapTable,
        placed: &PlacedRows,
        scored: bool,
        observer: &dyn Observer,
    ) -> Result<MapOutput> {
        let mut coordinates = match table.coordinates.is_empty() {
            true => coordinate_names(self.model.options().settings.n_components),
            false => table.coordinates.clone(),
        };
        let width = self.model.options().settings.n_components;
        if coordinates.len() != width {
            let why = format!("{} names for {width} components", coordinates.len());
            return Err(lowland_engine::Error::Config { field: "coordinates", why }.into());
        }
        let columns: Vec<&String> = self.id.iter().chain(&table.keep).collect();
        if let Some(name) = columns.iter().find(|name| coordinates.contains(name)) {
            let why = format!("column \"{name}\" of the source has the name of a coordinate; give other names");
            return Err(lowland_engine::Error::Config { field: "coordinates", why }.into());
        }
        if scored {
            if coordinates.iter().chain(columns).any(|name| name == OUTLIER) {
                return Err(Error::job(format!(
                    "column \"{OUTLIER}\": a transform writes a column of this name; rename the source's column or leave \
                     it out of `keep`"
                )));
            }
            coordinates.push(OUTLIER.into());
        }
        let size = (self.usable(placed), coordinates.len());
        let table = MapTable { keep: table.keep.clone(), coordinates };
        let source: Arc<dyn Source> = match placed.rows() {
            Some(rows) if self.invalid == InvalidRows::Drop => {
                Arc::new(SubsetSource::new(self.source.clone(), rows.clone()))
            }
            _ => self.source.clone(),
        };
        let beside = ExtraColumns { source: Some(source), placed: Some(placed), id: self.id.as_ref(), table: &table };
        MapOutput::begin(target, beside, size, observer)
    }

    fn table(
        &self,
        target: Target<'_>,
        table: &MapTable,
        scored: bool,
        observer: &dyn Observer,
    ) -> Result<TransformReport> {
        let placed = self.placed(observer)?;
        let mut output = self.begin(target, table, &placed, scored, observer)?;
        let notes = std::mem::take(&mut output.remarks);
        let width = self.model.options().settings.n_components;
        let report = self.place(
            &mut |first, values| match scored {
                true => Ok(output.write(first, values)?),
                false => {
                    let rows = values.chunks_exact(width + 1);
                    let coordinates: Vec<f32> = rows.flat_map(|row| row[..width].iter().copied()).collect();
                    Ok(output.write(first, &coordinates)?)
                }
            },
            notes,
            observer,
        )?;
        output.finish()?;
        Ok(report)
    }

    /// Places all usable rows in units, then calls `put(first, values)` with the rows in order: rows × (components +
    /// 1).
    fn place(
        &self,
        put: &mut dyn FnMut(u64, &[f32]) -> Result<()>,
        notes: Vec<Remark>,
        observer: &dyn Observer,
    ) -> Result<TransformReport> {
        let plan = self.plan()?;
        let placed = self.placed(observer)?;
        self.check_room(plan.rows)?;
        // Only a source that can be recognised again is worth resuming.
        let resumable = self.source.id()?.is_lasting();
        let run = OpenRun::open(&self.run, self.identity(&placed)?, self.source.fingerprints()?, resumable)?;
        let result = self.place_in(&run, &plan, &placed, put, notes, observer);
        run.end(&self.run, false, result)
    }

    fn place_in(
        &self,
        run: &OpenRun,
        plan: &TransformPlan,
        placed: &PlacedRows,
        put: &mut dyn FnMut(u64, &[f32]) -> Result<()>,
        notes: Vec<Remark>,
        observer: &dyn Observer,
    ) -> Result<TransformReport> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(plan.threads).build();
        let pool = pool.map_err(|e| lowland_engine::Error::Config { field: "threads", why: e.to_string() })?;
        let vectors = self.vectors(placed);
        let mut session = Session::start(observer, self.memory, Some(vectors.clone()))?;
        let size = (plan.rows, "rows");
        let units = units(plan.rows);
        let (done, stage) = session.stage(Stage::Place, size, true, |progress, budget| {
            let work = StageContext { run: &run.dir, progress, budget };
            let place = || -> Result<(u64, u64)> {
                let (mut outliers, mut reused) = (0, 0);
                let (snapshot, options) = (self.model.snapshot(), self.model.options());
                let searcher = Searcher::new(snapshot, options.settings.metric, options.effort);
                let placer = pool.install(|| Placer::new(&options.settings, snapshot, options.reach))?;
                let tools = (&searcher, &placer);
                for (first, rows) in units.clone() {
                    let name = unit_name(first);
                    let data = match work.recorded_unit::<UnitData>(&name)? {
                        Some(data) => {
                            reused += data.rows;
                            progress.advance(data.rows)?;
                            data
                        }
                        None => pool.install(|| self.place_unit(tools, &vectors, (first, rows), plan, &work))?,
                    };
                    outliers += data.outliers;
                }
                Ok((outliers, reused))
            };
            Ok(place())
        })?;
        let (outliers, reused_rows) = done?;
        session.tell_end(stage, plan.rows > 0 && reused_rows == plan.rows)?;

        let (written, stage) = session.stage(Stage::Output, size, false, |progress, _| {
            Ok(units.clone().try_for_each(|unit| self.read_unit(run, unit, progress, put)))
        })?;
        written?;
        session.tell_end(stage, false)?;

        let mut warnings = Vec::new();
        if outliers as f64 > plan.rows as f64 * OUTSIDE {
            let text = format!(
                "{} of {} rows are outside of the range of the rows of which the map was made: a map of old and new rows \
                 together would show them better",
                format_count(outliers),
                format_count(plan.rows)
            );
            let remark = Remark::warning("outliers", text);
            // The job is done: a request to stop comes too late.
            let _ = observer.event(&lowland_engine::Event::Note { remark: &remark });
            warnings.push(remark);
        }
        let (stages, seconds) = session.end();
        Ok(TransformReport {
            lowland: env!("CARGO_PKG_VERSION").into(),
            model_version: self.model.number(),
            rows: plan.rows,
            outliers,
            left_out: placed.left_out(),
            reused_rows,
            stages,
            warnings,
            notes,
            seconds,
        })
    }

    /// Places `rows` usable rows from `first` on, and records them as a unit.
    fn place_unit(
        &self,
        (searcher, placer): (&Searcher<'_>, &Placer<'_>),
        vectors: &Arc<dyn Source>,
        (first, rows): (u64, u64),
        plan: &TransformPlan,
        work: &StageContext<'_>,
    ) -> Result<UnitData> {
        let (snapshot, options) = (self.model.snapshot(), self.model.options());
        let (dim, width, metric) = (snapshot.dim(), snapshot.n_components(), options.settings.metric);
        let file = format!("placed-{}.f32", unit_name(first));
        let mut out = work.create(&file)?;
        let path = out.path().to_path_buf();
        let failed = |e| Error::from(lowland_io::Error::io(&path, "write", e));
        let read = LoaderOptions { batch_rows: Some(plan.batch_rows), rows: Some(first..first + rows), prepare: None };
        let mut outliers = 0;
        for batch in &Loader::new(vectors.clone(), read) {
            let batch = batch?;
            let hashes: Vec<u64> = batch.values().par_chunks_exact(dim).map(row_hash).collect();
            let mut queries = batch.values().to_vec();
            queries.par_chunks_exact_mut(dim).for_each(|row| metric.prepare(row, dim));
            let mut flaws = Default::default();
            if !check_rows(&mut flaws, metric, vectors.as_ref(), batch.first, &queries)? {
                flaws.refuse(plan.rows)?;
            }
            let own = vec![u32::MAX; batch.rows()];
            let stop = || work.progress.check().is_err();
            let found = searcher.search(&queries, &own, options.n_neighbors, None, &stop)?;
            let (mut positions, mut scores) = (vec![0.0; batch.rows() * width], vec![0.0; batch.rows()]);
            placer.place(&found, &hashes, &mut positions, &mut scores)?;
            let mut bytes = Vec::with_capacity(batch.rows() * (width + 1) * 4);
            for (position, score) in positions.chunks_exact(width).zip(&scores) {
                position.iter().chain([score]).for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
                outliers += u64::from(*score > 1.0);
            }
            out.write_all(&bytes).map_err(failed)?;
            let row_bytes = self.source.dtype().row_bytes(dim) as u64;
            work.progress.traffic.read(batch.rows() as u64 * row_bytes);
            work.progress.traffic.wrote(bytes.len() as u64);
            work.progress.advance(batch.rows() as u64)?;
        }
        let stamp = out.finish()?;
        // The rows must be those that the job began with, because a later process uses them.
        work.check_source_unchanged(vectors.as_ref())?;
        let data = UnitData { rows, outliers };
        work.record_unit(&unit_name(first), vec![(file, stamp)], &data)?;
        Ok(data)
    }

    /// Hands the rows of a finished unit to `put`.
    fn read_unit(
        &self,
        run: &OpenRun,
        (first, rows): (u64, u64),
        progress: &Progress<'_>,
        put: &mut dyn FnMut(u64, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let name = unit_name(first);
        run.dir.verify_unit(Stage::Place.name(), &name, VerifyDepth::Lengths)?;
        let path = run.dir.path(&format!("placed-{name}.f32"));
        let row = self.model.options().settings.n_components + 1;
        let mut file = std::fs::File::open(&path).map_err(|e| lowland_io::Error::io(&path, "open", e))?;
        let portion = (rows as usize).min(BATCH_ROWS);
        let (mut bytes, mut values) = (vec![0; portion * row * 4], Vec::with_capacity(portion * row));
        let mut next = first;
        while next < first + rows {
            let count = (first + rows - next).min(portion as u64) as usize;
            let bytes = &mut bytes[..count * row * 4];
            std::io::Read::read_exact(&mut file, bytes).map_err(|e| lowland_io::Error::io(&path, "read", e))?;
            values.clear();
            let (numbers, _) = bytes.as_chunks::<4>();
            values.extend(numbers.iter().map(|&number| f32::from_le_bytes(number)));
            put(next, &values)?;
            progress.traffic.read(bytes.len() as u64);
            progress.advance(count as u64)?;
            next += count as u64;
        }
        Ok(())
    }

    /// Returns what determines the placed rows, beside the source's files: the identity of the run.
    fn identity(&self, placed: &PlacedRows) -> Result<serde_json::Value> {
        let version = self.model.version();
        let objects: serde_json::Map<String, serde_json::Value> =
            version.objects.iter().map(|(role, object)| (role.clone(), json!(object.name))).collect();
        let mut identity = json!({
            "transform": objects,
            "options": version.options,
            "column": self.source.vector_column(),
        });
        if let Some(fields) = identity.as_object_mut() {
            for (name, value) in placed.identity() {
                fields.insert(name.into(), value);
            }
        }
        Ok(identity)
    }

    /// Refuses a job for which there is no space.
    fn check_room(&self, rows: u64) -> Result<()> {
        let directory = self.run.dir.clone().unwrap_or_else(std::env::temp_dir);
        let needed = rows.saturating_mul((self.model.options().settings.n_components as u64 + 1) * 4);
        match space::free_space(&directory) {
            Ok(free) if free < needed => Err(Error::Space { directory, needed, free }),
            _ => Ok(()),
        }
    }
}

fn stage_plan(stage: Stage, needs: &MemoryNeeds, base: u64) -> StagePlan {
    let holds = needs.largest().map_or_else(Vec::new, |phase| phase.parts.clone());
    StagePlan { stage, memory: needs.bytes() + base, holds, read: 0, written: 0, disk: 0, spills: None }
}

/// Returns the number of rows of a unit; the last may have fewer.
fn unit_rows(rows: u64) -> u64 {
    rows.div_ceil(UNITS).max(UNIT_ROWS)
}

/// Returns the units as (first row, number of rows).
fn units(rows: u64) -> impl Iterator<Item = (u64, u64)> + Clone {
    let size = unit_rows(rows);
    (0..rows).step_by(size as usize).map(move |first| (first, size.min(rows - first)))
}

fn unit_name(first: u64) -> String {
    format!("{first:012}")
}

/// Rows that are collected in memory.
struct InMemory {
    coordinates: Vec<f32>,
    outlier: Vec<f32>,
    width: usize,
}

impl InMemory {
    fn new(rows: usize, width: usize) -> Self {
        InMemory { coordinates: vec![f32::NAN; rows * width], outlier: vec![f32::NAN; rows], width }
    }

    /// Stores usable rows from `first` on, at the places that `kept` gives them among all rows.
    fn put(&mut self, first: u64, values: &[f32], kept: Option<&RowSet>) -> Result<()> {
        for (row, values) in (first..).zip(values.chunks_exact(self.width + 1)) {
            let row = kept.map_or(row, |kept| kept.source_row(row)) as usize;
            self.coordinates[row * self.width..][..self.width].copy_from_slice(&values[..self.width]);
            self.outlier[row] = values[self.width];
        }
        Ok(())
    }
}

/// Returns whether a path is that of a model's directory or in it, so that an output there would disturb the model.
pub(super) fn is_within(path: &Path, model: &Path) -> bool {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), model.canonicalize()) {
        (Ok(parent), Ok(model)) => parent.starts_with(model),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_all_rows_once_and_do_not_depend_on_batches() {
        for rows in [0, 1, 65_535, 65_536, 65_537, 40_000_000] {
            let all: Vec<_> = units(rows).collect();
            assert_eq!(all.iter().map(|unit| unit.1).sum::<u64>(), rows);
            assert!(all.len() as u64 <= UNITS);
            let mut next = 0;
            for (first, count) in all {
                assert_eq!(first, next);
                next += count;
            }
        }
    }
}
