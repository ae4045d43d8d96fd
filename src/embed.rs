//! The common case in a few lines: rows from files or memory become a map in memory, in a file, or in
//! batches. Everything here is a [`Job`] with its fields filled in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use lowland_io::{MemorySource, OpenOptions, Source};

use crate::budget::Memory;
use crate::machine::Machine;
use crate::{Config, Error, Init, InvalidRows, Job, MapFile, MapTable, Method, Metric, Observer, Plan, Report, Result};

/// The rows of a map: names of files, rows in memory, or any [`Source`].
pub enum Rows {
    /// Files, directories and globs.
    Files(Vec<String>),
    /// Arrow batches of one schema.
    Batches(SchemaRef, Vec<RecordBatch>),
    /// An array of rows × components, row-major, and its number of components.
    Array(Vec<f32>, usize),
    /// An opened source.
    Source(Arc<dyn Source>),
    /// A Polars frame.
    #[cfg(feature = "polars")]
    Frame(polars::frame::DataFrame),
    /// A Polars query, which is run when the rows are opened.
    #[cfg(feature = "polars")]
    Query(Box<polars::prelude::LazyFrame>),
}

impl Rows {
    /// Opens the rows as a source. `columns` are to be read besides the vectors: ids, and columns to keep. The source
    /// of a frame or a query has only these columns and those of the vectors.
    ///
    /// # Errors
    /// If the rows cannot be opened.
    pub fn open(self, options: &OpenOptions, columns: &[String]) -> Result<Arc<dyn Source>> {
        // Only frames and queries need the names.
        #[cfg(not(feature = "polars"))]
        let _ = columns;
        Ok(match self {
            Rows::Files(names) => lowland_io::open(&names, options)?.into(),
            Rows::Batches(schema, batches) => Arc::new(MemorySource::new("the batches", schema, batches, options)?),
            Rows::Array(values, dim) => Arc::new(MemorySource::from_vec("the array", values, dim)?),
            Rows::Source(source) => source,
            #[cfg(feature = "polars")]
            Rows::Frame(frame) => crate::polars::open_frame(&frame, options, columns)?,
            #[cfg(feature = "polars")]
            Rows::Query(query) => crate::polars::open_query(*query, options, columns)?,
        })
    }
}

impl From<&str> for Rows {
    fn from(name: &str) -> Self {
        Rows::Files(vec![name.into()])
    }
}

impl From<&Path> for Rows {
    fn from(path: &Path) -> Self {
        Rows::Files(vec![path.to_string_lossy().into_owned()])
    }
}

impl From<&PathBuf> for Rows {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<Vec<String>> for Rows {
    fn from(names: Vec<String>) -> Self {
        Rows::Files(names)
    }
}

impl<const N: usize> From<[&str; N]> for Rows {
    fn from(names: [&str; N]) -> Self {
        Rows::Files(names.map(String::from).to_vec())
    }
}

impl From<RecordBatch> for Rows {
    fn from(batch: RecordBatch) -> Self {
        Rows::Batches(batch.schema(), vec![batch])
    }
}

impl From<(Vec<f32>, usize)> for Rows {
    fn from((values, n_components): (Vec<f32>, usize)) -> Self {
        Rows::Array(values, n_components)
    }
}

impl From<Arc<dyn Source>> for Rows {
    fn from(source: Arc<dyn Source>) -> Self {
        Rows::Source(source)
    }
}

/// Begins a map of `rows`, by UMAP unless another method is chosen.
///
/// ```
/// # let rows: Vec<f32> = (0..600 * 4).map(|i| ((i * 37 % 101) as f32).sin()).collect();
/// // 600 rows of 4 components; file names and globs work as well: lowland::embed("vectors/*.parquet")
/// let map = lowland::embed((rows, 4)).n_neighbors(10).memory("600MiB").seed(7).run()?;
/// assert_eq!((map.rows(), map.n_components), (600, 2));
/// println!("{:?}: {}", map.row(0), map.report.summary());
/// # Ok::<(), lowland::Error>(())
/// ```
pub fn embed(rows: impl Into<Rows>) -> Embed {
    Embed { rows: rows.into(), column: None, job: Job::new(), table: MapTable::default(), force: false, wrong: None }
}

/// A map to be made. Options that are not set have the method's default.
pub struct Embed {
    rows: Rows,
    column: Option<String>,
    job: Job,
    table: MapTable,
    force: bool,
    /// The first option that could not be understood.
    wrong: Option<Error>,
}

impl Embed {
    /// Selects the method. Default: UMAP.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        self.options(|config| config.method = method)
    }

    /// Sets options by a function, for those that have no method here.
    #[must_use]
    pub fn options(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(&mut self.job.config);
        self
    }

    /// Sets the number of neighbours of each row, without the row itself.
    #[must_use]
    pub fn n_neighbors(self, n_neighbors: usize) -> Self {
        self.options(|config| config.n_neighbors = Some(n_neighbors))
    }

    /// Sets the perplexity, for methods that have it.
    #[must_use]
    pub fn perplexity(self, perplexity: f64) -> Self {
        self.options(|config| config.perplexity = Some(perplexity))
    }

    /// Sets the effective smallest distance between neighbours in the map (UMAP).
    #[must_use]
    pub fn min_dist(self, min_dist: f64) -> Self {
        self.options(|config| config.min_dist = Some(min_dist))
    }

    /// Sets the number of components of the map, 1 to 64.
    #[must_use]
    pub fn n_components(self, n_components: usize) -> Self {
        self.options(|config| config.n_components = Some(n_components))
    }

    /// Sets the number of epochs.
    #[must_use]
    pub fn n_epochs(self, n_epochs: usize) -> Self {
        self.options(|config| config.n_epochs = Some(n_epochs))
    }

    /// Sets the distance between rows.
    #[must_use]
    pub fn metric(self, metric: Metric) -> Self {
        self.options(|config| config.metric = Some(metric))
    }

    /// Sets the first positions.
    #[must_use]
    pub fn init(self, init: Init) -> Self {
        self.options(|config| config.init = Some(init))
    }

    /// Sets the seed of all random draws. Default: 42.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.options(|config| config.seed = seed)
    }

    /// Sets the number of worker threads, which does not change the map. Default: one for each core.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        self.options(|config| config.threads = Some(threads))
    }

    /// Sets the memory budget, which does not change the map: a size such as `"4GiB"`, or a share of
    /// what the machine grants such as `"25%"`. Default: half of it.
    #[must_use]
    pub fn memory(mut self, memory: &str) -> Self {
        match memory.parse::<Memory>() {
            Ok(memory) => match memory.bytes(&Machine::detect()) {
                Some(bytes) => self.job.config.memory = bytes,
                None => {
                    self.refuse("memory: the system does not report its memory, so a share cannot be computed".into())
                }
            },
            Err(why) => self.refuse(format!("memory: {why}")),
        }
        self
    }

    fn refuse(&mut self, what: String) {
        self.wrong.get_or_insert(Error::job(what));
    }

    /// Names the column of the vectors: see [`lowland_io::OpenOptions::column`].
    #[must_use]
    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    /// Names the column of the rows' ids. Default: row numbers.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.job.id = Some(id.into());
        self
    }

    /// Names columns to keep beside the coordinates, in files and batches.
    #[must_use]
    pub fn keep<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.table.keep = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Says how rows without a usable vector are handled. Default: they are an error.
    #[must_use]
    pub fn invalid(mut self, invalid: InvalidRows) -> Self {
        self.job.invalid = Some(invalid);
        self
    }

    /// Keeps the finished stages in a directory, from which the same run can be resumed. Default: the
    /// name of the file to write plus `.run`, which is removed after success; a temporary directory
    /// if no file is written.
    #[must_use]
    pub fn run_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.job.run = crate::RunOptions::kept(dir);
        self
    }

    /// Allows to replace an existing file.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }

    /// Opens the rows and returns the job, whose fields hold everything that was set.
    ///
    /// # Errors
    /// If an option was not understood, or the rows cannot be opened.
    pub fn job(self) -> Result<(Job, MapTable)> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let Embed { rows, column, mut job, table, .. } = self;
        #[cfg(feature = "polars")]
        if let Rows::Query(_) = rows {
            crate::polars::try_options(&job.config)?;
        }
        let columns: Vec<String> = job.id.iter().chain(&table.keep).cloned().collect();
        job.source = Some(rows.open(&OpenOptions { column, ..OpenOptions::default() }, &columns)?);
        Ok((job, table))
    }

    /// Checks everything and decides every parameter, without computing anything.
    ///
    /// # Errors
    /// Those of [`Job::plan`].
    pub fn plan(self) -> Result<Plan> {
        self.job()?.0.plan()
    }

    /// Makes the map in memory: 4 bytes for each coordinate beside the budget.
    ///
    /// # Errors
    /// Those of [`Job::embed_to`].
    pub fn run(self) -> Result<Embedding> {
        self.run_watched(&())
    }

    /// Makes the map in memory, watched by an observer.
    ///
    /// # Errors
    /// Those of [`Job::embed_to`].
    pub fn run_watched(self, observer: &dyn Observer) -> Result<Embedding> {
        let (job, _) = self.job()?;
        job.check_rows(observer)?;
        let plan = job.plan()?;
        let mut coordinates = Vec::new();
        let report = job.embed_to(&plan, &mut coordinates, observer)?;
        Ok(Embedding { coordinates, n_components: plan.settings().n_components, report })
    }

    /// Makes the map and writes it to `path`: `.parquet`, `.arrow` or `.npy`.
    ///
    /// # Errors
    /// Those of [`Job::embed`].
    pub fn write(self, path: impl Into<PathBuf>) -> Result<Report> {
        self.write_watched(path, &())
    }

    /// Makes the map and writes it to `path`, watched by an observer.
    ///
    /// # Errors
    /// Those of [`Job::embed`].
    pub fn write_watched(self, path: impl Into<PathBuf>, observer: &dyn Observer) -> Result<Report> {
        let (path, force) = (path.into(), self.force);
        // Before the rows are opened, because a query is run for them.
        crate::check_output(&path, force)?;
        lowland_io::MapWriter::ending(&path)?;
        let (mut job, table) = self.job()?;
        if job.run.dir.is_none() {
            job.run = crate::RunOptions::beside(&path);
        }
        job.check_rows(observer)?;
        let plan = job.plan()?;
        job.embed(&plan, &MapFile { path, table, force }, observer)
    }

    /// Makes the map and hands it to `each` in batches: id, coordinates, kept columns.
    ///
    /// # Errors
    /// Those of [`Job::embed_batches`].
    pub fn batches(self, each: impl FnMut(RecordBatch) -> lowland_io::Result<()> + Send + 'static) -> Result<Report> {
        let (job, table) = self.job()?;
        let plan = job.plan()?;
        job.embed_batches(&plan, &table, each, &())
    }
}

/// A map in memory.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// Rows × components, row-major, in the order of the rows; NaN for rows without a position.
    pub coordinates: Vec<f32>,
    /// The number of components.
    pub n_components: usize,
    /// What the run did, and the measured quality of the map.
    pub report: Report,
}

impl Embedding {
    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.coordinates.len() / self.n_components
    }

    /// Returns the coordinates of row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.coordinates[row * self.n_components..][..self.n_components]
    }
}
