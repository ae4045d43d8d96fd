//! Rows that cannot be placed on a map: rows without a vector, with a number that is not finite, or without a
//! direction where the metric needs one. Rows are counted by flaw, with the place of the first row of each.
//!
//! What must hold: a row has one flaw, that of its first component with a flaw; the result depends only on the
//! rows and the metric.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use lowland_io::{RowSet, RowSetBuilder, Source, is_null};
use serde::Serialize;

use crate::budget::{Needs, base};
use crate::observe::{Event, Observer, Progress, Stage};
use crate::report::StageReport;
use crate::{Error, Loader, Metric, Result};

/// The reason why a row cannot be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// All components are null: a null in place of a vector, an empty list, or only nulls.
    NoVector,
    /// A component is null.
    Null,
    /// A component is NaN.
    Nan,
    /// A component is infinite, or too large for `f32`.
    Infinite,
    /// All components are zero, so that the row has no direction for the cosine metric.
    Zero,
    /// All components are equal, so that the row has no direction for the correlation metric.
    Equal,
}

impl Flaw {
    /// Returns the flaw as text that follows a number of rows ("3 null in place of a vector").
    fn text(self) -> &'static str {
        match self {
            Flaw::NoVector => "null in place of a vector",
            Flaw::Null => "with a null component",
            Flaw::Nan => "with NaN",
            Flaw::Infinite => "with an infinite number",
            Flaw::Zero => "of all zeros, which have no direction for cosine",
            Flaw::Equal => "of equal components, which have no direction for correlation",
        }
    }

    /// Returns the flaw of a row that was prepared for `metric`, and the component that has it; `None` for a
    /// valid row.
    fn of(metric: Metric, row: &[f32]) -> Option<(Flaw, Option<usize>)> {
        match row.iter().position(|x| !x.is_finite()) {
            // Preparing a row without a direction sets it to zeros.
            None if metric.has_unit_rows() && row.iter().all(|&x| x == 0.0) => {
                Some((if metric == Metric::Correlation { Flaw::Equal } else { Flaw::Zero }, None))
            }
            None => None,
            Some(_) if row.iter().all(|&x| is_null(x)) => Some((Flaw::NoVector, None)),
            Some(at) if is_null(row[at]) => Some((Flaw::Null, Some(at))),
            Some(at) if row[at].is_nan() => Some((Flaw::Nan, Some(at))),
            Some(at) => Some((Flaw::Infinite, Some(at))),
        }
    }
}

/// The rows with one flaw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flawed {
    /// The flaw.
    pub flaw: Flaw,
    /// Number of rows.
    pub rows: u64,
    /// The file of the first row.
    pub file: PathBuf,
    /// The first row's number within that file, from 0.
    pub row: u64,
    /// The component that has the flaw, from 0; `None` if the whole row has it.
    pub component: Option<usize>,
    /// The column of that component, or of the vector; `None` for an .npy file.
    pub column: Option<String>,
    /// The value in the file, unless it is null.
    pub value: Option<String>,
}

/// The rows that cannot be placed, by flaw.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Flaws {
    kinds: Vec<Flawed>,
}

impl Flaws {
    /// Checks the rows from `first` on of `source`, whose `values` were prepared for `metric`, and calls `each`
    /// for every row that cannot be placed.
    ///
    /// # Errors
    /// If the first row with a flaw cannot be read again.
    pub fn look(
        &mut self,
        metric: Metric,
        source: &dyn Source,
        first: u64,
        values: &[f32],
        mut each: impl FnMut(u64),
    ) -> Result<()> {
        // Has no early exit, so that the loop is vectorised.
        let finite = values.iter().fold(true, |all, x| all & x.is_finite());
        if finite && !metric.has_unit_rows() {
            return Ok(());
        }
        for (row, values) in (first..).zip(values.chunks_exact(source.shape().dim)) {
            if let Some((flaw, component)) = Flaw::of(metric, values) {
                self.add(flaw, component, source, row)?;
                each(row);
            }
        }
        Ok(())
    }

    fn add(&mut self, flaw: Flaw, component: Option<usize>, source: &dyn Source, row: u64) -> Result<()> {
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.flaw == flaw) {
            kind.rows += 1;
            return Ok(());
        }
        let place = source.locate(row);
        let value = match (flaw, component) {
            (Flaw::Nan | Flaw::Infinite, Some(component)) => {
                // Reads the value from the file: what is infinite in f32 may be finite there.
                let mut wide = vec![0.0; source.shape().dim];
                source.read_rows_f64(row, &mut wide)?;
                Some(if wide[component].is_finite() {
                    format!("{:e}, beyond single precision", wide[component])
                } else {
                    wide[component].to_string()
                })
            }
            _ => None,
        };
        let column = source.column_of(row, component.unwrap_or(0));
        self.kinds.push(Flawed { flaw, rows: 1, file: place.path, row: place.row, component, column, value });
        Ok(())
    }

    /// Returns whether there are any.
    pub fn any(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.rows).sum()
    }

    /// Returns the flaws, in the order in which they were found.
    pub fn kinds(&self) -> &[Flawed] {
        &self.kinds
    }

    /// Refuses a source of `rows` rows if any cannot be placed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are any.
    pub fn refuse(&self, rows: u64) -> Result<()> {
        if self.any() { Err(Error::Invalid { flaws: self.clone(), rows }) } else { Ok(()) }
    }
}

/// Formats the flaws: "2 null in place of a vector (the first: v.parquet: row 6, column "v"), 1 with NaN (…)".
impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, kind) in self.kinds.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let first = if kind.rows > 1 { "the first: " } else { "" };
            write!(f, "{comma}{} {} ({first}{}: row {}", kind.rows, kind.flaw.text(), kind.file.display(), kind.row)?;
            if let Some(column) = &kind.column {
                write!(f, ", column \"{column}\"")?;
            }
            if let Some(component) = kind.component {
                write!(f, ", component {component}")?;
            }
            if let Some(value) = &kind.value {
                write!(f, " is {value}")?;
            }
            write!(f, ")")?;
        }
        Ok(())
    }
}

/// The result of a survey.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The rows that can be placed.
    pub rows: RowSet,
    /// The other rows.
    pub flaws: Flaws,
}

/// Bytes of a batch of the survey.
const BATCH_BYTES: usize = 1 << 20;

/// Checks all rows of `source` and returns those that can be placed under `metric`. `memory` is the number of
/// bytes that the process may hold.
///
/// # Errors
/// If the source cannot be read or changes meanwhile; [`Error::Cancelled`] if the observer stops the survey;
/// [`Error::Budget`] if the memory is too small for a bit per row and some batches.
pub fn survey(source: &Arc<dyn Source>, metric: Metric, memory: u64, observer: &dyn Observer) -> Result<Survey> {
    let shape = source.shape();
    let (meter, began) = (crate::meter::Meter::start(), std::time::Instant::now());
    let batch_rows = (BATCH_BYTES / (shape.dim.max(1) * 4)).clamp(1, 65_536);
    let needed = needs(source.as_ref(), batch_rows).bytes() + base(0, 1);
    if needed > memory {
        return Err(Error::Budget {
            asked: memory,
            needed: needed.next_multiple_of(1 << 20),
            stage: Stage::Survey.name(),
        });
    }
    let files = source.fingerprints()?;
    let progress = Progress::start(observer, Stage::Survey, shape.rows, "rows")?;
    let (mut rows, mut flaws) = (RowSetBuilder::new(shape.rows), Flaws::default());
    for batch in Loader::new(source.clone(), metric, batch_rows) {
        let batch = batch?;
        flaws.look(metric, source.as_ref(), batch.first, batch.values(), |row| rows.remove(row))?;
        progress.traffic.read((batch.rows() * shape.dim * source.dtype().bytes()) as u64);
        progress.advance(batch.rows() as u64)?;
    }
    lowland_io::unchanged(&files, &source.fingerprints()?)?;
    let (read, written) = progress.traffic.totals();
    let (seconds, peak_memory) = (began.elapsed().as_secs_f64(), meter.take_peak());
    let report = StageReport { stage: Stage::Survey, seconds, peak_memory, read, written };
    if observer.event(&Event::End { report: &report, reused: false }).is_break() {
        return Err(Error::Cancelled { stage: Stage::Survey.name() });
    }
    Ok(Survey { rows: rows.finish(), flaws })
}

fn needs(source: &dyn Source, batch_rows: usize) -> Needs {
    let shape = source.shape();
    let batches = Loader::bytes(batch_rows, shape.dim) + source.held_bytes();
    Needs::default().phase("survey", [("batches", batches), ("a bit a row", RowSet::bytes(shape.rows))])
}

/// The rows that were left out of a run, for its report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    /// The option for these rows: "drop" or "null".
    pub invalid: &'static str,
    /// Number of rows left out.
    pub rows: u64,
    /// Number of rows of the source.
    pub of: u64,
    /// The flaws of the rows left out.
    pub kinds: Flaws,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows", self.rows, self.of)?;
        if self.rows > 0 {
            write!(f, ": {}", self.kinds)?;
        }
        Ok(())
    }
}
