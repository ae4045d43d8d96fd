//! Polars frames on the map of a stored model: [`TransformFrame`] begins a transform, [`Transform`] runs it.
//!
//! What must hold: what does not depend on the rows is refused before a query is run.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lowland_io::{OpenOptions, columns_to_read};
use polars::frame::DataFrame;
use polars::prelude::{LazyFrame, Schema};

use super::{check_scanned, convert, scan_file};
use crate::budget::Memory;
use crate::machine::Machine;
use crate::model::{Model, TransformJob, TransformReport};
use crate::{Error, InvalidRows, MapFile, MapTable, Result, Rows, RunOptions, Source};

/// Begins to place a Polars frame on the map of a stored model.
pub trait TransformFrame {
    /// Begins to place the frame's rows on the map of `model`, which does not change. The vectors are in the model's
    /// column if the frame has it, unless [`Transform::column`] names another one.
    ///
    /// ```no_run
    /// use lowland::model::Model;
    /// use lowland::polars::TransformFrame;
    /// use polars::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let new = LazyFrame::scan_parquet("new.parquet".into(), ScanArgsParquet::default())?;
    /// let placed = new.transform_onto(Model::open("map.lowland")?).id("id").keep(["label"]).frame()?;
    /// println!("{}", placed.lazy().filter(col("outlier").gt(lit(1))).collect()?);
    /// # Ok(())
    /// # }
    /// ```
    fn transform_onto(self, model: Model) -> Transform;
}

impl TransformFrame for DataFrame {
    fn transform_onto(self, model: Model) -> Transform {
        let schema = Ok(self.schema().clone());
        Transform::new(self.into(), schema, model)
    }
}

impl TransformFrame for LazyFrame {
    fn transform_onto(mut self, model: Model) -> Transform {
        let schema = self.collect_schema().map_err(|e| super::failed(&e));
        Transform::new(self.into(), schema, model)
    }
}

/// Rows to be placed. Options that are not set have the defaults of [`TransformJob`].
pub struct Transform {
    rows: Rows,
    schema: Result<Arc<Schema>>,
    model: Arc<Model>,
    column: Option<String>,
    id: Option<String>,
    table: MapTable,
    invalid: InvalidRows,
    memory: Option<u64>,
    threads: Option<usize>,
    run: RunOptions,
    force: bool,
    /// The first option that could not be understood.
    wrong: Option<Error>,
}

impl Transform {
    fn new(rows: Rows, schema: Result<Arc<Schema>>, model: Model) -> Self {
        Transform {
            rows,
            schema,
            model: Arc::new(model),
            column: None,
            id: None,
            table: MapTable::default(),
            invalid: InvalidRows::default(),
            memory: None,
            threads: None,
            run: RunOptions::default(),
            force: false,
            wrong: None,
        }
    }

    /// Names the column of the vectors: see [`OpenOptions::column`].
    #[must_use]
    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    /// Names the column of the rows' ids. Default: row numbers.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Names columns to keep beside the coordinates.
    #[must_use]
    pub fn keep<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.table.keep = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Says how rows without a usable vector are handled. Default: they are an error.
    #[must_use]
    pub fn invalid(mut self, invalid: InvalidRows) -> Self {
        self.invalid = invalid;
        self
    }

    /// Sets the memory budget, which does not change the result: a size such as `"4GiB"`, or a share of what the machine
    /// grants such as `"25%"`. Default: half of it.
    #[must_use]
    pub fn memory(mut self, memory: &str) -> Self {
        let why = match memory.parse::<Memory>() {
            Ok(memory) => {
                self.memory = memory.bytes(&Machine::detect());
                match self.memory {
                    Some(_) => return self,
                    None => "the system does not report its memory, so a share cannot be computed".into(),
                }
            }
            Err(why) => why,
        };
        self.wrong.get_or_insert(Error::job(format!("memory: {why}")));
        self
    }

    /// Sets the number of worker threads, which does not change the result. Default: one for each core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Keeps finished rows in a directory until the transform is done, from which the same one can be resumed. Default: the
    /// name of the file to write plus `.run`; a temporary directory if no file is written.
    #[must_use]
    pub fn run_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.run.dir = Some(dir.into());
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
    pub fn job(self) -> Result<(TransformJob, MapTable)> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let usual = self.model.options().column.clone();
        let schema = convert::lenient_schema(&*self.schema?);
        let is_there = |column: &String| {
            let options = OpenOptions { column: Some(column.clone()), ..OpenOptions::default() };
            columns_to_read(super::NAME, &schema, &options, &[]).is_ok()
        };
        let column = self.column.or_else(|| usual.filter(is_there));
        let columns: Vec<String> = self.id.iter().chain(&self.table.keep).cloned().collect();
        let source: Arc<dyn Source> = self.rows.open(&OpenOptions { column, ..OpenOptions::default() }, &columns)?;
        let mut job = TransformJob::new(self.model, source);
        (job.id, job.invalid, job.threads, job.run) = (self.id, self.invalid, self.threads, self.run);
        job.memory = self.memory.unwrap_or(job.memory);
        Ok((job, self.table))
    }

    /// Places the rows and returns them as a frame: the id, the coordinates, the outlier score, the kept columns. The
    /// frame is held in memory, beside the budget.
    ///
    /// # Errors
    /// Those of [`TransformJob::batches`].
    pub fn frame(self) -> Result<DataFrame> {
        let (job, table) = self.job()?;
        let collected = Arc::new(Mutex::new(Vec::new()));
        let to = collected.clone();
        let each = move |batch| {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
            Ok(())
        };
        job.batches(&table, each, &())?;
        let batches = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
        super::to_frame(&batches)
    }

    /// Places the rows and writes them to `path`: `.parquet`, `.arrow` or `.npy`.
    ///
    /// # Errors
    /// Those of [`TransformJob::write`].
    pub fn write(self, path: impl Into<PathBuf>) -> Result<TransformReport> {
        let (path, force) = (path.into(), self.force);
        // Before the rows are opened, because a query is run for them.
        crate::check_output(&path, force)?;
        lowland_io::MapWriter::ending(&path)?;
        let (mut job, table) = self.job()?;
        if job.run.dir.is_none() {
            job.run = RunOptions::beside(&path);
        }
        job.write(&MapFile { path, table, force }, &())
    }

    /// Places the rows, writes them to the Parquet file `path`, and returns a scan of that file. The work is done when the
    /// method is called, not when the scan is collected.
    ///
    /// # Errors
    /// If the name does not end in `.parquet`, and those of [`Transform::write`].
    pub fn scan(self, path: impl Into<PathBuf>) -> Result<LazyFrame> {
        let path = path.into();
        check_scanned(&path)?;
        self.write(&path)?;
        scan_file(&path)
    }
}
