//! A job: inputs, outputs and the run directory between them.
//!
//! What must hold:
//! - Everything that can be refused is refused before any work is done.
//! - An output has its name only when it is complete.
//! - A run that fails leaves its finished stages for the next attempt; a run that finished no stage
//!   leaves nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use lowland_engine::invalid::LeftOut;
use lowland_engine::{
    Config, Event, FirstPositions, GraphSink, GraphSource, Init, Inputs, Metric, Observer, Plan, Report, Sink, Stage,
};
use lowland_io::{
    Fingerprint, GraphReader, GraphWriter, MISSING, Manifest, MapColumns, MapWriter, RowSet, RunDir, Shift, Source,
    coordinate_names,
};

use crate::evaluate::open_map;
use crate::first::EarlierMap;
use crate::invalid::{Invalid, Placed, Reading};
use crate::{Error, Result, space};

/// Rows of kept columns read at a time; few, because values may be long texts.
const KEPT_ROWS: usize = 8192;

/// Opens files, directories and globs as one source. `column` says where the vectors are if that is
/// ambiguous (see [`lowland_io::Options`]).
///
/// # Errors
/// If there are no files, or the files cannot be read as vectors.
pub fn open<S: AsRef<str>>(paths: &[S], column: Option<&str>) -> Result<Arc<dyn Source>> {
    let paths: Vec<String> = paths.iter().map(|p| p.as_ref().to_string()).collect();
    let options = lowland_io::Options { column: column.map(str::to_string) };
    Ok(lowland_io::open(&paths, &options)?.into())
}

/// A kNN graph in a file, which replaces the neighbors stage.
#[derive(Debug)]
pub struct Graph {
    path: PathBuf,
    reader: GraphReader,
    /// How many of each row's nearest neighbours are used. Default: all.
    pub nearest: Option<usize>,
}

impl Graph {
    /// Opens an Arrow IPC or Parquet file of neighbours and distances.
    ///
    /// # Errors
    /// If there is no file, or the file is not a graph.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Ok(Graph { reader: GraphReader::open(&path)?, path, nearest: None })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the metric of the distances, if the file names one that lowland knows.
    pub fn metric(&self) -> Option<Metric> {
        Metric::named(self.reader.metric()?)
    }

    /// Returns length and modification time, by which a changed file is recognised.
    fn fingerprint(&self) -> Result<Fingerprint> {
        let failed = |e| lowland_io::Error::io(&self.path, "inspect", e);
        let described = std::fs::metadata(&self.path).map_err(failed)?;
        let since = described.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let modified = since.map_or(0, |d| d.as_nanos() as u64);
        Ok(Fingerprint { path: self.path.clone(), bytes: described.len(), modified, header: 0 })
    }
}

impl GraphSource for Graph {
    fn k(&self) -> usize {
        self.reader.k()
    }

    fn rows(&self) -> u64 {
        self.reader.rows()
    }

    fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> lowland_engine::Result<()> {
        Ok(self.reader.read_rows(first, ids, distances)?)
    }

    fn nearest(&self) -> Option<usize> {
        self.nearest
    }
}

/// A job: inputs, options and outputs. Fill in the fields, then call [`plan`](Job::plan), then
/// [`embed`](Job::embed) or [`knn`](Job::knn).
pub struct Job {
    /// The vectors.
    pub source: Option<Arc<dyn Source>>,
    /// A precomputed kNN graph, with or without the vectors.
    pub graph: Option<Graph>,
    /// How rows without a usable vector are handled.
    pub invalid: Invalid,
    /// The options that determine the map.
    pub config: Config,
    /// The map (`.parquet`, `.arrow`, `.npy`) or graph (`.arrow`, `.parquet`) to write.
    pub output: PathBuf,
    /// The source's column with the rows' ids. Default: row numbers.
    pub id: Option<String>,
    /// The source's columns to keep beside the coordinates.
    pub keep: Vec<String>,
    /// The names of the coordinates, one for each. If empty: x, y and z, or c0, c1, … if there are
    /// more than three.
    pub coordinates: Vec<String>,
    /// Whether an existing output may be replaced.
    pub force: bool,
    /// The run directory, which holds finished stages. Default: the output's name plus `.run`.
    pub run_dir: Option<PathBuf>,
    /// Whether the run directory stays after success, with all stages if `config.keep_stages` does
    /// not name them. The run directory also stays if `run_dir` is given or stages are named.
    pub keep_run: bool,
    /// Whether an earlier run in the run directory is discarded.
    pub restart: bool,
    /// Whether the caller treats warnings ([`Report::warnings`]) as an error. Then a run with
    /// warnings keeps its finished stages, and no stage's files are removed before the run ends,
    /// which takes more disk space.
    pub strict: bool,
    /// Whether the input can be read only once. Then a run that fails leaves nothing.
    pub once: bool,
    /// How the source is read, once determined.
    reading: Mutex<Option<Arc<Reading>>>,
}

impl Job {
    /// Returns a job with default settings and without inputs.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Job {
            source: None,
            graph: None,
            invalid: Invalid::default(),
            config: Config::default(),
            output: output.into(),
            id: None,
            keep: Vec::new(),
            coordinates: Vec::new(),
            force: false,
            run_dir: None,
            keep_run: false,
            restart: false,
            strict: false,
            once: false,
            reading: Mutex::new(None),
        }
    }

    /// Returns the path of the run directory.
    pub fn run_path(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| {
            let mut name = self.output.clone().into_os_string();
            name.push(".run");
            name.into()
        })
    }

    /// Returns whether the run directory stays after success. Without stages to keep it is removed
    /// even if `run_dir` is given, because only a list of removed files would be left.
    pub fn keeps_run(&self) -> bool {
        match &self.config.keep_stages {
            Some(stages) => !stages.is_empty(),
            None => self.keep_run || self.run_dir.is_some(),
        }
    }

    /// Returns the options as planned: if the run directory is removed in the end, a stage's files
    /// may be removed as soon as no later stage needs them.
    fn planned(&self) -> Config {
        let mut config = self.config.clone();
        if !self.keeps_run() && !self.strict {
            config.keep_stages = Some(Vec::new());
        }
        config
    }

    /// Examines the source before planning: if rows may be left out ([`Job::invalid`]), all rows in
    /// one pass; and the first rows, for the shift that is subtracted before rounding. The result
    /// is kept, so that the pass is not repeated. [`plan`](Job::plan) does the same, without an
    /// observer.
    ///
    /// # Errors
    /// If fewer than two rows are usable, the source cannot be read, or the observer stops the
    /// pass.
    pub fn look(&self, observer: &dyn Observer) -> Result<()> {
        self.reading(observer).map(|_| ())
    }

    fn reading(&self, observer: &dyn Observer) -> Result<Option<Arc<Reading>>> {
        let Some(source) = &self.source else { return Ok(None) };
        let metric = self.config.settings(source.shape().rows).metric;
        // The method cosne uses the lengths of rows, which a shift would change.
        let allowed = self.config.method.name() != "cosne";
        let mut kept = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = kept.as_ref().filter(|reading| reading.is_of(source, self.invalid, metric, allowed)) {
            return Ok(Some(reading.clone()));
        }
        let reading = Reading::new(source, self.invalid, metric, allowed, self.config.memory, observer)?;
        Ok(Some(kept.insert(Arc::new(reading)).clone()))
    }

    /// Returns the rows without a usable vector if they are left out. Examines the source as
    /// [`look`](Job::look) does.
    ///
    /// # Errors
    /// Those of [`look`](Job::look).
    pub fn left_out(&self) -> Result<Option<LeftOut>> {
        Ok(self.reading(&())?.and_then(|reading| reading.left_out()))
    }

    /// Returns the shift that is subtracted from each component before rounding to single
    /// precision. There is a shift if columns of a source of f64 or integers are far from 0 and the
    /// metric does not depend on a common shift of the rows.
    ///
    /// # Errors
    /// Those of [`look`](Job::look).
    pub fn shift(&self) -> Result<Option<Shift>> {
        Ok(self.reading(&())?.and_then(|reading| reading.shift().cloned()))
    }

    /// Returns the source restricted to the rows of the output: all rows, or those that are not
    /// dropped.
    ///
    /// # Errors
    /// Those of [`look`](Job::look).
    pub fn output_rows(&self) -> Result<Option<Arc<dyn Source>>> {
        Ok(self.reading(&())?.map(|reading| reading.output()))
    }

    /// Calls `with` with the inputs in the engine's form.
    fn with_inputs<T>(&self, observer: &dyn Observer, with: impl FnOnce(&Inputs<'_>) -> Result<T>) -> Result<T> {
        let reading = self.reading(observer)?;
        let rows = reading.as_ref().and_then(|reading| reading.rows().cloned());
        let graph = self.graph.as_ref().map(|graph| Placed { graph, rows });
        with(&Inputs {
            source: reading.map(|reading| reading.source().clone()),
            graph: graph.as_ref().map(|graph| graph as &dyn GraphSource),
            first: None,
        })
    }

    /// Returns the report, completed by the rows left out and the shift.
    fn told(&self, report: Report) -> Result<Report> {
        Ok(Report { left_out: self.left_out()?, shift: self.shift()?, ..report })
    }

    /// Checks the options against the inputs and decides every parameter.
    ///
    /// # Errors
    /// Name the invalid option, the fault of the data, or the smallest sufficient budget.
    pub fn plan(&self) -> Result<Plan> {
        self.with_inputs(&(), |inputs| Ok(self.planned().plan(&inputs.describe()?)?))
    }

    /// Plans [`Job::knn`], which needs less than [`Job::embed`].
    ///
    /// # Errors
    /// As [`Job::plan`].
    pub fn plan_graph(&self) -> Result<Plan> {
        self.with_inputs(&(), |inputs| Ok(self.planned().plan_graph(&inputs.describe()?)?))
    }

    /// Computes and writes the map. Resumes an earlier run of the same job from its finished
    /// stages.
    ///
    /// # Errors
    /// Invalid outputs and inputs are reported before any work. After an error of the engine,
    /// finished stages stay in [`run_path`](Job::run_path).
    pub fn embed(&self, plan: &Plan, observer: &dyn Observer) -> Result<Report> {
        self.check_output()?;
        let earlier = self.earlier(plan)?;
        self.check_room(plan)?;
        let mut map = self.begin_map(plan, observer)?;
        let run = self.open_run(plan, earlier.as_ref())?;
        let first = earlier.as_ref().map(|earlier| earlier as &dyn FirstPositions);
        let result = self.with_inputs(observer, |inputs| {
            let inputs = Inputs { first, ..inputs.clone() };
            self.told(lowland_engine::embed(plan, &inputs, &run.dir, &mut map, observer)?)
        });
        self.close_run(run, result)
    }

    /// Computes and writes only the kNN graph.
    ///
    /// # Errors
    /// As for [`embed`](Job::embed).
    pub fn knn(&self, plan: &Plan, observer: &dyn Observer) -> Result<Report> {
        self.check_output()?;
        if !GraphWriter::takes(&self.output) {
            let what = format!("{}: a graph's name ends in .arrow or .parquet", self.output.display());
            return Err(Error::job(what));
        }
        self.check_room(plan)?;
        let placing = Placing::of(self.reading(observer)?.as_deref());
        let create = if matches!(placing, Placing::Drop(_)) { GraphWriter::create_named } else { GraphWriter::create };
        let writer = create(&self.output, plan.k(), plan.settings().metric.name(), self.force)?;
        let mut graph = Found { writer: Some(writer), placing };
        let run = self.open_run(plan, None)?;
        let result = self.with_inputs(observer, |inputs| {
            self.told(lowland_engine::knn(plan, inputs, &run.dir, &mut graph, observer)?)
        });
        self.close_run(run, result)
    }

    /// Returns the disk space that a run of `plan` still needs, and the free space. `None` if the
    /// operating system does not report free space.
    pub fn room(&self, plan: &Plan) -> Option<Room> {
        let directory = self.run_path();
        let free = space::free_space(&directory).ok()?;
        // Unfinished files of an earlier process count as available, because opening the run
        // removes them.
        let listed = lowland_io::runs(&directory).unwrap_or_default().into_iter().find(|run| run.path == directory);
        let there = listed.as_ref().map_or(0, |run| run.bytes);
        let manifest = listed.and_then(|run| run.manifest.ok()).filter(|_| !self.restart);
        let output = if space::together(&directory, &self.output) { self.output_bytes(plan) } else { 0 };
        let needed =
            plan.stages().iter().filter(|stage| !is_behind(stage.stage, plan, manifest.as_ref())).map(|stage| {
                let output = if matches!(stage.stage, Stage::Output | Stage::Quality) { output } else { 0 };
                stage.disk.saturating_add(output)
            });
        Some(Room { needed: needed.max().unwrap_or(0).saturating_sub(there), directory, free })
    }

    fn check_room(&self, plan: &Plan) -> Result<()> {
        match self.room(plan) {
            Some(Room { directory, needed, free }) if needed > free => Err(Error::Space { directory, needed, free }),
            _ => Ok(()),
        }
    }

    /// Returns the approximate bytes of the output; texts are assumed to be short.
    fn output_bytes(&self, plan: &Plan) -> u64 {
        const TEXT: usize = 32;
        if !plan.is_map() {
            return plan.shape().rows.saturating_mul(plan.k() as u64 * 8);
        }
        let names: Vec<String> = self.id.iter().chain(&self.keep).cloned().collect();
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

    fn check_output(&self) -> Result<()> {
        check_output(&self.output, self.force)?;
        is_input(&self.output, &self.fingerprints()?)
    }

    /// Opens the map from which initial positions are taken. They are read late in a run, so the
    /// file is checked now, before hours of work.
    fn earlier(&self, plan: &Plan) -> Result<Option<EarlierMap>> {
        let Init::File(path) = &plan.settings().init else { return Ok(None) };
        let shape = (plan.shape().rows, plan.settings().n_components);
        let source = self.reading(&())?.map(|reading| reading.source().clone());
        EarlierMap::open(path, shape, source.as_ref(), self.id.as_ref()).map(Some)
    }

    fn begin_map(&self, plan: &Plan, observer: &dyn Observer) -> Result<Map> {
        let reading = self.reading(observer)?;
        let beside = Beside {
            reading: reading.as_deref(),
            id: self.id.as_ref(),
            keep: &self.keep,
            coordinates: &self.coordinates,
        };
        let size = (plan.shape().rows, plan.settings().n_components);
        Map::begin(&self.output, beside, size, self.force, observer)
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

    /// Opens the run directory of `plan`. The directory is identified by the plan, even if
    /// `self.config` was changed since.
    fn open_run(&self, plan: &Plan, earlier: Option<&EarlierMap>) -> Result<Run> {
        let mut identity = plan.identity();
        if let Some(fields) = identity.as_object_mut() {
            let column = self.source.as_ref().and_then(|s| s.vector_column());
            fields.insert("column".into(), column.into());
            if let Some(id) = earlier.and_then(EarlierMap::id) {
                fields.insert("init_id".into(), id.into());
            }
            fields.insert("knn".into(), self.graph.as_ref().map(|g| g.path.to_string_lossy()).into());
            for (name, value) in self.reading(&())?.iter().flat_map(|reading| reading.identity()) {
                fields.insert(name.into(), value);
            }
        }
        let (path, files) = (self.run_path(), self.fingerprints()?);
        // An existing directory was chosen by the user and is not removed.
        let made = !path.exists();
        // Vectors that are not in files have no fingerprint, so a changed input could not be
        // detected. No stage of an earlier run is reused.
        let unknown = self.source.is_some() && files.is_empty();
        let dir = if self.restart || unknown {
            RunDir::restart(path, identity, files)?
        } else {
            RunDir::open(path, identity, files)?.0
        };
        Ok(Run { dir, made })
    }

    /// Removes the run directory if it is not needed any more.
    fn close_run(&self, run: Run, result: Result<Report>) -> Result<Report> {
        let useless = match &result {
            Ok(report) => !(self.keeps_run() || self.strict && !report.warnings.is_empty()),
            Err(_) if self.once => true,
            Err(_) => run.made && run.dir.manifest().stages.is_empty(),
        };
        if useless {
            let removed = run.dir.remove();
            // After a failed run, the run's error is reported and not that of the removal.
            if result.is_ok() {
                removed?;
            }
        }
        result
    }
}

/// Disk space for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The run directory.
    pub directory: PathBuf,
    /// The approximate number of bytes that are still to be written when the run takes the most
    /// space, including the output if it is on the same file system.
    pub needed: u64,
    /// Free bytes.
    pub free: u64,
}

/// Returns whether a run that resumes from `manifest` is past `stage`, so that the stage's planned
/// disk space is not needed any more.
fn is_behind(stage: Stage, plan: &Plan, manifest: Option<&Manifest>) -> bool {
    let has = |stage: Stage| {
        let record = manifest.and_then(|manifest| manifest.stages.get(stage.name()));
        record.is_some_and(|record| record.done && !record.released)
    };
    if matches!(stage, Stage::Scan | Stage::Index) {
        // All later stages read the index. If its files were released, it must be built again.
        return has(Stage::Index) || stage == Stage::Scan && has(Stage::Scan);
    }
    let place = |stage| plan.stages().iter().position(|planned| planned.stage == stage);
    let reached = [Stage::Layout, Stage::Affinity, Stage::Neighbors].into_iter().find(|&stage| has(stage));
    reached.is_some_and(|reached| place(stage) <= place(reached))
}

/// An open run directory, and whether this job created it.
struct Run {
    dir: RunDir,
    made: bool,
}

/// Refuses an output that exists, unless `force` is set, and an output whose directory does not
/// exist.
///
/// # Errors
/// Name the output and the way out.
pub fn check_output(path: &Path, force: bool) -> Result<()> {
    if lowland_io::is_address(&path.to_string_lossy()) {
        return Err(Error::job(format!("{}: an address, and outputs stay local; name a file", path.display())));
    }
    // Outputs are written through symbolic links, so the link's target counts.
    let target = lowland_io::target(path)?;
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        let what = format!("{}: its directory {} is not there; make it first", path.display(), directory.display());
        return Err(Error::job(what));
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Error::job(format!("{}: a directory; name a file in it", path.display()))),
        Ok(_) if !force => Err(lowland_io::Error::Exists { path: path.into() }.into()),
        _ => Ok(()),
    }
}

/// Refuses an output that is one of the inputs' `files`.
pub(crate) fn is_input(output: &Path, files: &[Fingerprint]) -> Result<()> {
    let Ok(there) = output.canonicalize() else { return Ok(()) };
    if files.iter().any(|file| file.path.canonicalize().is_ok_and(|path| path == there)) {
        return Err(Error::job(format!("{}: the output is also an input; choose another name", output.display())));
    }
    Ok(())
}

/// How the engine's rows, from which unusable rows were left out, are placed in the output.
enum Placing {
    /// No rows were left out.
    All,
    /// The output has only these rows of the source.
    Drop(Arc<RowSet>),
    /// The output has all rows of the source; these rows have results. Also the next row to be
    /// written.
    Null(Arc<RowSet>, u64),
}

impl Placing {
    fn of(reading: Option<&Reading>) -> Self {
        match reading.and_then(|reading| Some((reading.invalid(), reading.rows()?))) {
            Some((Invalid::Drop, rows)) => Placing::Drop(rows.clone()),
            Some((Invalid::Null, rows)) => Placing::Null(rows.clone(), 0),
            _ => Placing::All,
        }
    }
}

/// Distributes `count` usable rows, from the usable row `first` on, over the source's rows from
/// `next` on, up to the next usable row: calls `each(row, rows)` with consecutive portions of at
/// most `portion` rows of the source. Returns the row after the last one.
fn spread(
    rows: &RowSet,
    (first, count): (u64, usize),
    next: u64,
    portion: usize,
    mut each: impl FnMut(u64, usize) -> lowland_engine::Result<()>,
) -> lowland_engine::Result<u64> {
    // Unusable rows directly after the last usable one are included.
    let end = rows.source_row(first + count as u64);
    let mut row = next;
    while row < end {
        let here = (end - row).min(portion as u64) as usize;
        each(row, here)?;
        row += here as u64;
    }
    Ok(end)
}

/// The graph that is being written.
struct Found {
    writer: Option<GraphWriter>,
    placing: Placing,
}

impl GraphSink for Found {
    fn write(&mut self, first: u64, ids: &[u32], distances: &[f32]) -> lowland_engine::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let named = |rows: &RowSet, ids: &[u32]| -> Vec<u32> {
            let name = |&id: &u32| if id == MISSING { MISSING } else { rows.source_row(u64::from(id)) as u32 };
            ids.iter().map(name).collect()
        };
        match &mut self.placing {
            Placing::All => writer.write_rows(first, ids, distances)?,
            Placing::Drop(rows) => {
                let count = ids.len() / writer.k();
                let own: Vec<u32> = (first..first + count as u64).map(|row| rows.source_row(row) as u32).collect();
                writer.write_named_rows(first, &own, &named(rows, ids), distances)?;
            }
            Placing::Null(rows, next) => {
                let k = writer.k();
                let (mut ids, mut distances) = (ids.chunks_exact(k), distances.chunks_exact(k));
                let count = ids.len();
                *next = spread(rows, (first, count), *next, KEPT_ROWS, |row, here| {
                    let (mut all, mut far) = (vec![MISSING; here * k], vec![f32::INFINITY; here * k]);
                    for (i, (all, far)) in (row..).zip(all.chunks_exact_mut(k).zip(far.chunks_exact_mut(k))) {
                        if rows.contains(i)
                            && let (Some(ids), Some(distances)) = (ids.next(), distances.next())
                        {
                            all.copy_from_slice(&named(rows, ids));
                            far.copy_from_slice(distances);
                        }
                    }
                    Ok(writer.write_rows(row, &all, &far)?)
                })?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> lowland_engine::Result<()> {
        self.writer.take().map_or(Ok(()), |graph| Ok(graph.finish().map(|_| ())?))
    }
}

/// The map that is being written: coordinates from the engine, kept columns from the source.
pub(crate) struct Map {
    /// `None` once the map is finished.
    writer: Option<MapWriter>,
    /// The source of the output's rows, if columns are kept.
    source: Option<Arc<dyn Source>>,
    names: Vec<String>,
    placing: Placing,
    /// Whether an id column with the rows' numbers in the source is written, because these differ
    /// from the output's row numbers.
    numbered: bool,
    dim: usize,
}

/// The columns of a map beside its coordinates, and the coordinates' names.
pub(crate) struct Beside<'a> {
    /// How the source of the columns is read.
    pub(crate) reading: Option<&'a Reading>,
    pub(crate) id: Option<&'a String>,
    pub(crate) keep: &'a [String],
    pub(crate) coordinates: &'a [String],
}

impl Map {
    /// Begins the map `path` of rows × dim, where `rows` counts the usable rows, with columns of
    /// the source. Checks the columns: their types over all files and, if the types do not decide,
    /// their values.
    pub(crate) fn begin(
        path: &Path,
        beside: Beside<'_>,
        (rows, dim): (u64, usize),
        force: bool,
        observer: &dyn Observer,
    ) -> Result<Map> {
        let Beside { reading, id, keep, coordinates } = beside;
        let names: Vec<String> = id.into_iter().chain(keep).cloned().collect();
        let (source, placing) = (reading.map(Reading::output), Placing::of(reading));
        let mut extra = match (&source, names.is_empty()) {
            (_, true) => None,
            (Some(source), false) => Some(source.column_schema(&names)?),
            (None, false) => {
                return Err(Error::job(format!(
                    "column \"{}\" cannot be kept: there is no source beside the graph",
                    names[0]
                )));
            }
        };
        let coordinates = coordinates_of(coordinates, dim, &names)?;
        let only_coordinates = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy"));
        let numbered = matches!(placing, Placing::Drop(_)) && id.is_none() && !only_coordinates;
        if numbered {
            let kept = extra.iter().flat_map(|schema| schema.fields().iter().cloned());
            let number = Arc::new(Field::new("id", DataType::UInt64, false));
            extra = Some(Arc::new(Schema::new(std::iter::once(number).chain(kept).collect::<Vec<_>>())));
        }
        let rows = if let Placing::Null(all, _) = &placing { all.all() } else { rows };
        let nullable = reading.is_some_and(|reading| reading.invalid() == Invalid::Null);
        let columns = MapColumns { rows, coordinates, extra, own_id: id.is_some() || numbered, nullable };
        let mut writer = MapWriter::create(path, columns, force)?;
        if let Some(source) = &source {
            let mut unsure = source.unsure_columns(&names)?;
            unsure.extend(writer.unsure().into_iter().filter(|name| names.contains(name)));
            unsure.sort_unstable();
            unsure.dedup();
            look(source.as_ref(), &unsure, observer, &mut |first, name, values| {
                writer.look(name, values).map_err(|(row, what)| {
                    let place = source.locate(first + row as u64);
                    lowland_io::Error::format(place.path, format!("row {}: {what}", place.row)).into()
                })
            })?;
        }
        let source = source.filter(|_| !names.is_empty());
        Ok(Map { writer: Some(writer), source, names, placing, numbered, dim })
    }

    /// Writes rows of the output together with their kept columns.
    fn put(&mut self, first: u64, coordinates: &[f32]) -> lowland_engine::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let rows = coordinates.len() / self.dim;
        let kept = self.source.as_ref().map(|source| source.read_columns(&self.names, first, rows)).transpose()?;
        let Placing::Drop(placed) = &self.placing else {
            return Ok(writer.write_rows(first, coordinates, kept.as_ref())?);
        };
        if !self.numbered {
            return Ok(writer.write_rows(first, coordinates, kept.as_ref())?);
        }
        let numbers = (first..first + rows as u64).map(|row| placed.source_row(row));
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(numbers));
        let mut fields = vec![Arc::new(Field::new("id", DataType::UInt64, false))];
        let mut columns = vec![numbers];
        if let Some(kept) = &kept {
            fields.extend(kept.schema().fields().iter().cloned());
            columns.extend(kept.columns().iter().cloned());
        }
        let wrong = |e: arrow::error::ArrowError| lowland_io::Error::format("the map", e.to_string());
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(wrong)?;
        Ok(writer.write_rows(first, coordinates, Some(&batch))?)
    }
}

/// Returns the coordinates' names, which must differ from the kept columns' names.
fn coordinates_of(asked: &[String], dim: usize, kept: &[String]) -> Result<Vec<String>> {
    let wrong = |why: String| Err(lowland_engine::Error::Config { field: "coordinates", why }.into());
    let names = if asked.is_empty() { coordinate_names(dim) } else { asked.to_vec() };
    if names.len() != dim {
        return wrong(format!("{} names for {dim} components", names.len()));
    }
    match names.iter().find(|name| kept.contains(name)) {
        Some(name) => {
            let others: Vec<String> = coordinate_names(dim).iter().map(|name| format!("umap_{name}")).collect();
            let others = others.join(",");
            wrong(format!("a column that is kept is called \"{name}\" too; give other names, such as {others}"))
        }
        None => Ok(names),
    }
}

/// Reads columns of a source in portions, and calls `each` with a portion's first row, the column's
/// name and its values.
pub(crate) fn look(
    source: &dyn Source,
    names: &[String],
    observer: &dyn Observer,
    each: &mut dyn FnMut(u64, &str, &ArrayRef) -> Result<()>,
) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let rows = source.shape().rows;
    for first in (0..rows).step_by(KEPT_ROWS) {
        if observer.event(&Event::Pulse).is_break() {
            return Err(lowland_engine::Error::Cancelled { stage: "input" }.into());
        }
        let count = (rows - first).min(KEPT_ROWS as u64) as usize;
        let batch = source.read_columns(names, first, count)?;
        for (name, values) in names.iter().zip(batch.columns()) {
            each(first, name, values)?;
        }
    }
    source.release();
    Ok(())
}

impl Sink for Map {
    fn write(&mut self, first: u64, coordinates: &[f32]) -> lowland_engine::Result<()> {
        // Without kept columns, a portion may have any size.
        let portion = if self.source.is_some() || self.numbered { KEPT_ROWS } else { usize::MAX / self.dim };
        let Placing::Null(rows, next) = &self.placing else {
            let mut row = first;
            for part in coordinates.chunks(portion * self.dim) {
                self.put(row, part)?;
                row += (part.len() / self.dim) as u64;
            }
            return Ok(());
        };
        let (rows, next, dim) = (rows.clone(), *next, self.dim);
        let mut placed = coordinates.chunks_exact(dim);
        let count = placed.len();
        let next = spread(&rows, (first, count), next, KEPT_ROWS, |row, here| {
            let mut all = vec![f32::NAN; here * dim];
            for (i, all) in (row..).zip(all.chunks_exact_mut(dim)) {
                if rows.contains(i)
                    && let Some(coordinates) = placed.next()
                {
                    all.copy_from_slice(coordinates);
                }
            }
            self.put(row, &all)
        })?;
        self.placing = Placing::Null(rows, next);
        Ok(())
    }

    /// Gives the map its name.
    fn finish(&mut self) -> lowland_engine::Result<()> {
        self.writer.take().map_or(Ok(()), |writer| Ok(writer.finish().map(|_| ())?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_a_resumed_run_has_behind_it() {
        let shape = lowland_io::Shape { rows: 1000, dim: 8 };
        let input = lowland_engine::Input {
            shape,
            dtype: lowland_io::Dtype::F32,
            graph_k: None,
            source_bytes: 0,
            resident_bytes: 0,
        };
        let plan = Config::default().plan(&input).expect("a plan");
        // For each stage: whether its files are kept (true) or were released (false).
        let behind = |stages: &[(&str, bool)]| {
            let record =
                |there: bool| json!({"done": true, "released": !there, "files": {}, "data": null, "units": {}});
            let stages: serde_json::Map<String, Value> =
                stages.iter().map(|&(name, there)| (name.into(), record(there))).collect();
            let manifest: Manifest = serde_json::from_value(json!({
                "lowland": "0.1.0", "format": 2, "created": "", "config": {}, "sources": [], "stages": stages,
            }))
            .expect("a manifest");
            let behind = plan.stages().iter().map(|s| s.stage).filter(|&s| is_behind(s, &plan, Some(&manifest)));
            behind.map(Stage::name).collect::<Vec<_>>().join(" ")
        };
        assert!(plan.stages().iter().all(|stage| !is_behind(stage.stage, &plan, None)));
        assert_eq!(behind(&[("scan", true)]), "scan");
        assert_eq!(behind(&[("scan", false), ("index", true)]), "scan index");
        let before_layout =
            [("scan", false), ("index", true), ("neighbors", false), ("affinity", true), ("init", true)];
        assert_eq!(behind(&before_layout), "scan index neighbors affinity");
        // After a run that kept some stages: the index is built again, and so are the stages after
        // it.
        assert_eq!(behind(&[("index", false), ("layout", true)]), "neighbors affinity init layout");
        assert_eq!(behind(&[("index", true), ("neighbors", false), ("layout", false)]), "scan index");
    }
}
