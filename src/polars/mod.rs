//! Polars frames as rows of a map, and the map as a frame (feature `polars`).
//!
//! - `mod.rs`: [`EmbedFrame`] begins a map of a frame; [`Embed::frame`] and [`Embed::scan`] return one.
//! - `transform.rs`: [`TransformFrame`] places a frame on the map of a stored model.
//! - `convert.rs`: frames to Arrow batches and back, by Arrow's C data interface.
//!
//! What must hold:
//! - The vectors of a [`DataFrame`] are not copied. The memory of the columns that are read counts as the source's.
//! - The rows of a [`LazyFrame`] are never in memory together: the streaming engine gives them in batches, in order,
//!   which are written to a temporary file. Only the columns that are read are computed. The file is removed with the
//!   source, or if the query fails.
//! - A query that fails or panics is an error: the rows that it gave until then are never used.
//!
//! A map cannot be a stage within a query: Polars' streaming engine has no source that is written in Rust
//! (`AnonymousScan` panics there). So [`Embed::scan`] makes the map at once, and returns a scan of its file.
//!
//! [`LazyFrame`]: polars::prelude::LazyFrame

mod convert;
mod transform;

pub use convert::{to_batches, to_frame};
pub use transform::{Transform, TransformFrame};

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use lowland_io::{IdentifiedSource, MemorySource, OpenOptions, Source, SourceId, columns_to_read, spool_batches};
use polars::frame::DataFrame;
use polars::prelude::{
    Engine, Expr, HiveOptions, LazyFrame, PlRefPath, PlSmallStr, PlanCallback, PolarsError, PolarsResult,
    ScanArgsParquet,
};

use crate::{Config, Dtype, Embed, Error, PlanInput, Result, Rows, Shape, embed};

/// Begins a map of a Polars frame.
pub trait EmbedFrame {
    /// Begins a map of the frame's rows, by UMAP unless another method is chosen. `column` is where the vectors are, as
    /// in [`Embed::column`]: a column of arrays or lists, or columns of numbers.
    ///
    /// ```
    /// use lowland::polars::EmbedFrame;
    /// use polars::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let values: Vec<f32> = (0..600 * 4).map(|i| ((i * 37 % 101) as f32).sin()).collect();
    /// let vectors: ListChunked = values.chunks(4).map(|row| Series::new("".into(), row)).collect();
    /// let columns = [Column::new("id".into(), 0..600), vectors.with_name("embedding".into()).into_column()];
    /// let frame = DataFrame::new(600, columns.into())?;
    ///
    /// let map = frame.lazy().filter(col("id").gt(lit(99)))
    ///     .embed("embedding")
    ///     .id("id")
    ///     .n_neighbors(10)
    ///     .memory("600MiB")
    ///     .frame()?;
    /// assert_eq!(map.shape(), (500, 3)); // id, x, y
    /// # Ok(())
    /// # }
    /// ```
    fn embed(self, column: &str) -> Embed;
}

impl EmbedFrame for DataFrame {
    fn embed(self, column: &str) -> Embed {
        embed(self).column(column)
    }
}

impl EmbedFrame for LazyFrame {
    fn embed(self, column: &str) -> Embed {
        embed(self).column(column)
    }
}

impl From<DataFrame> for Rows {
    fn from(frame: DataFrame) -> Self {
        Rows::Frame(frame)
    }
}

impl From<LazyFrame> for Rows {
    fn from(query: LazyFrame) -> Self {
        Rows::Query(Box::new(query))
    }
}

/// What errors call a frame.
const NAME: &str = "the frame";

/// The most rows of a batch of a query. Some batches are in memory at a time.
const BATCH_ROWS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// The rows for which options are checked: few enough for every method.
const TRIED_ROWS: usize = 1200;

fn failed(error: &PolarsError) -> Error {
    Error::job(format!("{NAME}: {error}"))
}

/// Returns the names of the columns that are read: those of the vectors, and those named `others`.
fn wanted(schema: &polars::prelude::Schema, options: &OpenOptions, others: &[String]) -> Result<Vec<PlSmallStr>> {
    // A type that Arrow does not have matters in a column that is read.
    let named = options.column.iter().chain(others).filter_map(|name| schema.get_full(name));
    let named = named.map(|(_, name, dtype)| (name.clone(), dtype.clone()));
    convert::to_schema(&named.collect())?;
    let arrow: Schema = convert::lenient_schema(schema);
    let columns = columns_to_read(NAME, &arrow, options, others)?;
    Ok(columns.into_iter().map(|at| arrow.field(at).name().as_str().into()).collect())
}

/// Returns a frame's columns of vectors and those named `others` as a source, which shares their memory.
pub(crate) fn open_frame(frame: &DataFrame, options: &OpenOptions, others: &[String]) -> Result<Arc<dyn Source>> {
    let frame = frame.select(wanted(frame.schema(), options, others)?).map_err(|e| failed(&e))?;
    let (schema, batches) = to_batches(&frame)?;
    let source = MemorySource::new(NAME, schema, batches, options)?;
    Ok(Arc::new(source.with_resident_bytes(frame.estimated_size() as u64)))
}

/// Runs a query for its columns of vectors and those named `others`, and returns its rows as a source. They are in a
/// temporary file, which is removed with the source.
pub(crate) fn open_query(mut query: LazyFrame, options: &OpenOptions, others: &[String]) -> Result<Arc<dyn Source>> {
    let schema = query.collect_schema().map_err(|e| failed(&e))?;
    let names = wanted(&schema, options, others)?;
    // Not `col`, to which "*" and "^…$" are patterns.
    let mut query = query.select(names.into_iter().map(Expr::Column).collect::<Vec<_>>());
    let schema = query.collect_schema().map_err(|e| failed(&e))?;
    let schema = convert::to_schema(&schema)?;

    let directory = tempfile::Builder::new().prefix("lowland-").suffix(".spool").tempdir();
    let directory = directory.map_err(|e| lowland_io::Error::io(std::env::temp_dir(), "create a directory in", e))?;
    let file = directory.path().join("rows.arrow");
    let rows = spool_batches(NAME, &schema, Batches::of(query)?, &file)?;
    if rows == 0 {
        return Err(lowland_io::Error::format(NAME, "has no rows").into());
    }
    let source = lowland_io::open(&[file.to_string_lossy().into_owned()], options)?;
    let id = SourceId::of_content(&file, NAME, || false)?;
    Ok(Arc::new(IdentifiedSource::new(source.into(), id).with_owner(directory)))
}

/// Checks the options of a map before a query is run, on rows that are made up. Left out is what depends on the rows:
/// the budget, and the number of neighbours.
pub(crate) fn try_options(config: &Config) -> Result<()> {
    let mut config = Config { memory: 1 << 40, disk: None, ..config.clone() };
    config.n_neighbors = config.n_neighbors.filter(|&n| n <= TRIED_ROWS / 4);
    config.perplexity = config.perplexity.filter(|&perplexity| perplexity <= TRIED_ROWS as f64 / 4.0);
    let shape = Shape { rows: TRIED_ROWS as u64, dim: 64 };
    config.plan(&PlanInput { shape, dtype: Dtype::F32, graph_k: None, source_bytes: 0, resident_bytes: 0 })?;
    Ok(())
}

/// The batches of a running query, in the order of the rows. An error of the query is the last item.
struct Batches {
    frames: Receiver<DataFrame>,
    /// The thread of the query, until it has ended.
    query: Option<JoinHandle<PolarsResult<()>>>,
}

impl Batches {
    /// Runs a query by the streaming engine. If the value is dropped, the query ends at its next batch.
    fn of(query: LazyFrame) -> Result<Self> {
        let (send, frames) = sync_channel(1);
        // The answer says whether the query should stop.
        let each = PlanCallback::new(move |frame: DataFrame| Ok(send.send(frame).is_err()));
        let query = query.sink_batches(each, true, Some(BATCH_ROWS)).map_err(|e| failed(&e))?;
        // Not `collect_batches`, which loses a panic of the query.
        let work = move || query.collect_with_engine(Engine::Streaming).map(|_| ());
        let query = std::thread::Builder::new().name("lowland-query".into()).spawn(work);
        let query = query.map_err(|e| Error::job(format!("{NAME}: the query has no thread: {e}")))?;
        Ok(Batches { frames, query: Some(query) })
    }

    /// Waits for the end of the query.
    fn ended(&mut self) -> Result<()> {
        match self.query.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(failed(&error)),
            Some(Err(panic)) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a text");
                let what = format!(
                    "{NAME}: Polars' streaming engine panicked: {text}; if it cannot run the query, collect the query \
                     and give the DataFrame"
                );
                Err(Error::job(what))
            }
        }
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        // Where chunks end depends on the engine's threads; the file's bytes do not.
        while let Ok(mut frame) = self.frames.recv() {
            frame.rechunk_mut();
            match to_batches(&frame).map(|(_, batches)| batches.into_iter().next()) {
                Ok(None) => {}
                Ok(Some(batch)) => return Some(Ok(batch)),
                Err(error) => return Some(Err(error)),
            }
        }
        self.ended().err().map(Err)
    }
}

impl Embed {
    /// Makes the map and returns it as a frame: the id, the coordinates, the kept columns. The frame
    /// is held in memory, beside the budget.
    ///
    /// # Errors
    /// Those of [`Embed::batches`].
    pub fn frame(self) -> Result<DataFrame> {
        let collected = Arc::new(Mutex::new(Vec::new()));
        let to = collected.clone();
        self.batches(move |batch| {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
            Ok(())
        })?;
        let batches: Vec<RecordBatch> = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
        to_frame(&batches)
    }

    /// Makes the map, writes it to the Parquet file `path`, and returns a scan of that file. The work is done when the
    /// method is called, not when the scan is collected.
    ///
    /// # Errors
    /// If the name does not end in `.parquet`, and those of [`Embed::write`].
    pub fn scan(self, path: impl Into<PathBuf>) -> Result<LazyFrame> {
        let path = path.into();
        check_scanned(&path)?;
        self.write(&path)?;
        scan_file(&path)
    }
}

/// Refuses a name of a file that could not be scanned, before it is written.
fn check_scanned(path: &Path) -> Result<()> {
    let refused = |why: &str| Err(Error::job(format!("{}: {why}", path.display())));
    if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("parquet")) {
        return refused("a map that is scanned is a Parquet file; give a name that ends in .parquet, or use `write`");
    }
    if path.to_str().is_none() {
        return refused("Polars scans files whose names are UTF-8; give another name, or use `write`");
    }
    Ok(())
}

/// Returns a scan of a Parquet file.
fn scan_file(path: &Path) -> Result<LazyFrame> {
    // The name is no pattern, and its directories name no columns.
    let options =
        ScanArgsParquet { glob: false, hive_options: HiveOptions::new_disabled(), ..ScanArgsParquet::default() };
    let name = PlRefPath::try_from_path(path).map_err(|e| failed(&e))?;
    LazyFrame::scan_parquet(name, options).map_err(|e| failed(&e))
}
