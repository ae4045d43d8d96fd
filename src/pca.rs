//! Principal components of a source: from options to finished files.
//!
//! What must hold: everything that can be refused is refused before any work is done; scores and
//! axes have their names only when they are complete; a run that fails or is stopped leaves
//! nothing. There is no run directory, because only a few passes over the source can be lost; the
//! same job then starts again.
//!
//! For rows in memory, and for batches from elsewhere, the engine's types are re-exported here:
//! [`Pca::fit`], [`IncrementalPca`], [`ExactIncrementalPca`], [`BlockwisePca`], [`RandomizedPca`],
//! [`KernelPca`]. All of them take `f32` rows, row-major, and sum in `f64`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lowland_engine::invalid::ExcludedRows;
use lowland_engine::{Inputs, MapSink, Observer};
use lowland_io::{PendingFile, Source};

pub use lowland_engine::pca::{
    BlockwisePca, Covariance, ExactIncrementalPca, IncrementalPca, Kernel, KernelPca, Pca, PcaConfig, PcaError,
    PcaPlan, PcaReport, RandomizedPca, Solver, center_kernel,
};

use crate::invalid_rows::{InvalidRows, MAP_ROWS, PreparedSource};
use crate::job::{ExtraColumns, MapOutput, MapTable, Target, refuse_input};
use crate::{Error, Result, check_output};

/// A job: fill in the fields, then call [`plan`](PcaJob::plan), then [`run`](PcaJob::run).
///
/// ```
/// use lowland::pca::{PcaConfig, PcaJob};
/// # use lowland_datasets::{Generator, DatasetKind, WriteOptions, write};
/// # let dir = tempfile::tempdir()?;
/// # let (vectors, scores) = (dir.path().join("vectors.npy"), dir.path().join("scores.parquet"));
/// # write(&Generator::new("mixture".parse::<DatasetKind>()?, 500, 8, 7)?, &vectors, &WriteOptions::default())?;
/// # let (vectors, scores) = (vectors.to_str().unwrap(), scores.to_str().unwrap());
///
/// let source = lowland::open(&[vectors], None)?; // "vectors.npy"
/// let mut job = PcaJob::new(source, scores); // "scores.parquet"
/// job.config = PcaConfig { n_components: 3, memory: 200 << 20, ..PcaConfig::default() };
/// let plan = job.plan()?;
/// let (pca, report) = job.run(&plan, &())?;
/// println!("{report}");
/// assert_eq!((pca.n_components(), pca.dim()), (3, 8));
/// assert!(report.explained_variance_ratio.iter().sum::<f64>() <= 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PcaJob {
    /// The vectors.
    pub source: Arc<dyn Source>,
    /// How unusable rows are handled.
    pub invalid: InvalidRows,
    /// The options of the decomposition.
    pub config: PcaConfig,
    /// The scores to write: `.parquet`, `.arrow` or `.npy`, as for a map.
    pub output: PathBuf,
    /// An `.npy` for the axes: n_components × components of a row, float64.
    pub components: Option<PathBuf>,
    /// The source's column with the rows' ids. Default: row numbers.
    pub id: Option<String>,
    /// The source's columns to keep beside the scores.
    pub keep: Vec<String>,
    /// The names of the scores' columns, one for each. If empty: x, y and z, or c0, c1, … if there
    /// are more than three.
    pub coordinates: Vec<String>,
    /// Whether an existing output may be replaced.
    pub force: bool,
    /// How the source is read, once determined.
    reading: Mutex<Option<Arc<PreparedSource>>>,
}

impl PcaJob {
    /// Returns a job with default settings.
    pub fn new(source: Arc<dyn Source>, output: impl Into<PathBuf>) -> Self {
        PcaJob {
            source,
            invalid: InvalidRows::default(),
            config: PcaConfig::default(),
            output: output.into(),
            components: None,
            id: None,
            keep: Vec::new(),
            coordinates: Vec::new(),
            force: false,
            reading: Mutex::new(None),
        }
    }

    /// Examines the source before planning: all rows if some may be left out, and the first rows
    /// for the shift that is subtracted before rounding; see [`Job::check_rows`](crate::Job::check_rows).
    ///
    /// # Errors
    /// If fewer than two rows are usable, the source cannot be read, or the observer stops the
    /// pass.
    pub fn check_rows(&self, observer: &dyn Observer) -> Result<()> {
        self.reading(observer).map(|_| ())
    }

    fn reading(&self, observer: &dyn Observer) -> Result<Arc<PreparedSource>> {
        let (source, invalid, metric) = (&self.source, self.invalid, self.config.metric);
        let mut kept = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = kept.as_ref().filter(|reading| reading.matches(source, invalid, metric, true)) {
            return Ok(reading.clone());
        }
        let reading = PreparedSource::new(source, MAP_ROWS, invalid, metric, true, self.config.memory, observer)?;
        Ok(kept.insert(Arc::new(reading)).clone())
    }

    /// Returns the unusable rows if they are left out. Examines the source as
    /// [`check_rows`](PcaJob::check_rows) does.
    ///
    /// # Errors
    /// Those of [`check_rows`](PcaJob::check_rows).
    pub fn left_out(&self) -> Result<Option<ExcludedRows>> {
        Ok(self.reading(&())?.placed().left_out())
    }

    /// Checks the options against the source and decides every parameter.
    ///
    /// # Errors
    /// Name the invalid option, the fault of the data, or the smallest sufficient budget.
    pub fn plan(&self) -> Result<PcaPlan> {
        let inputs = Inputs { source: Some(self.reading(&())?.source().clone()), graph: None, first: None };
        Ok(self.config.plan(&inputs.describe()?)?)
    }

    /// Computes the components and writes the files. Returns the components, which
    /// [`Pca::transform`] applies to other rows, and the report.
    ///
    /// # Errors
    /// Invalid outputs and inputs are reported before any work. After an error of the engine, no
    /// output is written.
    pub fn run(&self, plan: &PcaPlan, observer: &dyn Observer) -> Result<(Pca, PcaReport)> {
        self.check_outputs()?;
        let size = (plan.shape.rows, plan.config.n_components);
        let reading = self.reading(observer)?;
        let table = MapTable { keep: self.keep.clone(), coordinates: self.coordinates.clone() };
        let (source, placed) = (Some(reading.output()), Some(reading.placed().as_ref()));
        let beside = ExtraColumns { source, placed, id: self.id.as_ref(), table: &table };
        let mut scores = MapOutput::begin(Target::File(&self.output, self.force), beside, size, observer)?;
        let (pca, mut report) = compute(plan, &reading, &mut scores, observer)?;
        report.notes.append(&mut scores.remarks);
        let axes = self.components.as_ref().map(|path| axes(path, &pca)).transpose()?;
        scores.finish()?;
        axes.map(PendingFile::finish).transpose()?;
        Ok((pca, report))
    }

    /// Computes the components and hands the scores to `sink`: those of the usable rows, in order.
    /// [`PcaJob::output`] and the columns are ignored.
    ///
    /// # Errors
    /// As for [`run`](PcaJob::run), and those of the sink.
    pub fn run_to(&self, plan: &PcaPlan, sink: &mut dyn MapSink, observer: &dyn Observer) -> Result<(Pca, PcaReport)> {
        compute(plan, &*self.reading(observer)?, sink, observer)
    }

    fn check_outputs(&self) -> Result<()> {
        let files = self.source.fingerprints()?;
        for path in [Some(&self.output), self.components.as_ref()].into_iter().flatten() {
            check_output(path, self.force)?;
            refuse_input(path, &files)?;
        }
        let Some(components) = &self.components else { return Ok(()) };
        if components.extension().is_none_or(|ending| ending != "npy") {
            return Err(Error::job(format!("{}: the axes' name ends in .npy", components.display())));
        }
        if *components == self.output {
            return Err(Error::job(format!(
                "{}: also the name of the scores; give the axes another name",
                components.display()
            )));
        }
        Ok(())
    }
}

/// Computes the components of the usable rows.
fn compute(
    plan: &PcaPlan,
    reading: &PreparedSource,
    scores: &mut dyn MapSink,
    observer: &dyn Observer,
) -> Result<(Pca, PcaReport)> {
    let (mut pca, mut report) =
        lowland_engine::pca::run(plan, reading.source(), scores, observer).map_err(|e| changed(e.into()))?;
    for mean in [&mut pca.mean, &mut report.mean] {
        let shift = reading.shift().into_iter().flat_map(|shift| shift.values());
        mean.iter_mut().zip(shift).for_each(|(mean, shift)| *mean += shift);
    }
    report.left_out = reading.placed().left_out();
    Ok((pca, report))
}

/// Rewrites the error of a changed input: there is no run directory to restart.
fn changed(error: Error) -> Error {
    match error {
        Error::Engine(lowland_engine::Error::Io(lowland_io::Error::Changed { path, what })) => Error::job(format!(
            "{}: changed while it was in use: {what}; let the program that writes it finish, then give the same command again",
            path.display()
        )),
        other => other,
    }
}

/// Writes the axes, n_components × dim, `<f8`, to a pending file.
fn axes(path: &Path, pca: &Pca) -> Result<PendingFile> {
    let mut file = PendingFile::create(path)?;
    let mut header =
        format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({}, {}), }}", pca.n_components(), pca.dim());
    // Padded so that the numbers begin at a multiple of 64 bytes.
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut write = || {
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&(header.len() as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        pca.components.iter().try_for_each(|x| file.write_all(&x.to_le_bytes()))?;
        file.flush()
    };
    write().map_err(|e| lowland_io::Error::io(path, "write", e))?;
    Ok(file)
}
