//! New rows on the map of a stored model: the rows are read, their neighbours among the model's rows are found, and
//! each row is placed beside them. The model does not change.
//!
//! A row's position depends on the model and on the row alone. The rows are therefore divided into *units* of
//! consecutive rows, whose number depends on the number of rows alone; a finished unit is a file of the run directory, and
//! the same job uses it again after an interruption.
//!
//! - `begun.rs`: the version on which an unfinished transform goes on.
//! - `planning.rs`: memory, and the rows of a batch.
//! - `units.rs`: rows placed unit by unit.
//! - `report.rs`: what a transform will hold, and what it did.
//!
//! What must hold:
//! - Everything that can be refused is refused before any row is placed: options, columns, the output's name, and
//!   rows without a usable vector, for which the source is read once.
//! - The result does not depend on batch size, threads, memory budget and interruptions.
//! - The output has its name only when it is complete.

mod begun;
mod planning;
mod report;
mod units;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Int64Array, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use lowland_engine::invalid::ExcludedRows;
use lowland_engine::{Event, MapSink, Observer};
use lowland_io::{MapWriter, ShiftedSource, Source, SubsetSource, coordinate_names};

pub use report::{PlacedRowsInMemory, TransformPlan, TransformReport};

use report::InMemory;

use super::Model;
use super::open::is_within;
use crate::budget::Memory;
use crate::invalid_rows::PlacedRows;
use crate::job::{ExtraColumns, MapOutput, Target, refuse_input};
use crate::machine::Machine;
use crate::{Error, InvalidRows, MapFile, MapTable, Result, RunOptions, check_output};

/// The name of the column of outlier scores.
const OUTLIER: &str = "outlier";
/// Ids that are read at a time.
const ID_ROWS: usize = 1 << 16;

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

    fn usable(&self, placed: &PlacedRows) -> u64 {
        placed.rows().map_or(self.source.shape().rows, |rows| rows.count())
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

    /// Reads the ids of the rows of [`run`](Self::run), in their order, into memory: the values of the column
    /// [`id`](Self::id), else the numbers of the rows in the source, from 0.
    ///
    /// # Errors
    /// Those of [`check_rows`](Self::check_rows); if there is no such column, or the observer stops the pass.
    pub fn ids(&self, observer: &dyn Observer) -> Result<ArrayRef> {
        let placed = self.placed(observer)?;
        let Some(id) = &self.id else {
            let (all, kept) = (self.source.shape().rows, placed.rows().filter(|_| self.invalid == InvalidRows::Drop));
            let rows = 0..kept.map_or(all, |kept| kept.count());
            let number = |row| kept.map_or(row, |kept| kept.source_row(row)) as i64;
            return Ok(Arc::new(Int64Array::from_iter_values(rows.map(number))));
        };
        let (source, names) = (self.output_rows(&placed), [id.clone()]);
        let (rows, mut parts) = (source.shape().rows, Vec::new());
        for first in (0..rows).step_by(ID_ROWS) {
            if observer.event(&Event::Pulse).is_break() {
                return Err(lowland_engine::Error::Cancelled { stage: "place" }.into());
            }
            let batch = source.read_columns(&names, first, (rows - first).min(ID_ROWS as u64) as usize)?;
            parts.push(batch.column(0).clone());
        }
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
        if parts.is_empty() {
            return Ok(new_empty_array(source.column_schema(&names)?.field(0).data_type()));
        }
        concat(&parts).map_err(|e| Error::job(format!("column \"{id}\": {e}")))
    }

    /// Returns the rows of the output, unchanged.
    fn output_rows(&self, placed: &PlacedRows) -> Arc<dyn Source> {
        match placed.rows() {
            Some(rows) if self.invalid == InvalidRows::Drop => {
                Arc::new(SubsetSource::new(self.source.clone(), rows.clone()))
            }
            _ => self.source.clone(),
        }
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
        let beside = ExtraColumns {
            source: Some(self.output_rows(placed)),
            placed: Some(placed),
            id: self.id.as_ref(),
            table: &table,
        };
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
}
