//! Rows that cannot be placed on a map: without a vector, with a number that
//! is none, or without what the metric goes by. They are counted by what ails
//! them, with the first place of each kind.
//!
//! What must hold: a row has one flaw, that of its first component that has
//! any; what is found is a function of the rows and the metric alone.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use lowland_io::{RowSet, RowSetBuilder, Source, is_null};
use serde::Serialize;

use crate::budget::{Needs, base};
use crate::observe::{Event, Observer, Progress, Stage};
use crate::report::StageReport;
use crate::{Error, Loader, Metric, Result};

/// What ails a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// All components are null: a null in place of a vector, an empty list, or nulls only.
    NoVector,
    /// A component is null.
    Null,
    /// A component is NaN.
    Nan,
    /// A component is infinite, or beyond what `f32` holds.
    Infinite,
    /// All zeros, which have no direction for cosine.
    Zero,
    /// Components that are all equal, which have no direction for correlation.
    Equal,
}

impl Flaw {
    /// As it is said of some rows: "3 rows …".
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

    /// The flaw of a row that was made ready for `metric`, and the component that has it; none of a
    /// sound row.
    fn of(metric: Metric, row: &[f32]) -> Option<(Flaw, Option<usize>)> {
        match row.iter().position(|x| !x.is_finite()) {
            // What has no direction was made zeros.
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

/// Rows with one flaw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flawed {
    /// What ails them.
    pub flaw: Flaw,
    /// How many there are.
    pub rows: u64,
    /// The file of the first.
    pub file: PathBuf,
    /// Its row within that file, from 0.
    pub row: u64,
    /// The component that has the flaw, from 0, unless all have.
    pub component: Option<usize>,
    /// The column of that component, or of the vector; none of an npy.
    pub column: Option<String>,
    /// What stands there, where it is no null.
    pub value: Option<String>,
}

/// Rows that cannot be placed, by what ails them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Flaws {
    kinds: Vec<Flawed>,
}

impl Flaws {
    /// Looks at rows `first..` of `source`, whose `values` were made ready for `metric`; hands those that cannot be placed to `each`.
    ///
    /// # Errors
    /// Where the first row of a kind cannot be read again.
    pub fn look(
        &mut self,
        metric: Metric,
        source: &dyn Source,
        first: u64,
        values: &[f32],
        mut each: impl FnMut(u64),
    ) -> Result<()> {
        // Without a way out on the way, so that it goes by vectors.
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
                // As it stands in the file: what is infinite in f32 need not be.
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

    /// Whether there are any.
    pub fn any(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// How many there are.
    pub fn rows(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.rows).sum()
    }

    /// By what ails them, in the order in which they were met.
    pub fn kinds(&self) -> &[Flawed] {
        &self.kinds
    }

    /// The refusal of a source of so many rows for the sake of these.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there are any.
    pub fn refuse(&self, rows: u64) -> Result<()> {
        if self.any() { Err(Error::Invalid { flaws: self.clone(), rows }) } else { Ok(()) }
    }
}

/// "2 null in place of a vector (the first: v.parquet, row 6, column "v"), 1 with NaN (…)".
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

/// What a survey found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The rows that can be placed.
    pub rows: RowSet,
    /// The others.
    pub flaws: Flaws,
}

/// Bytes of a batch of the survey.
const BATCH_BYTES: usize = 1 << 20;

/// Looks at all rows of `source` and finds those that `metric` can place. `memory` is what the
/// process may hold.
///
/// # Errors
/// Where the source cannot be read, or changes meanwhile; [`Error::Cancelled`] when the observer
/// stops it; [`Error::Budget`] where a bit a row and some batches are too much.
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

/// Rows that were left out of a run, for its report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    /// What was done with them: "drop" or "null".
    pub invalid: &'static str,
    /// How many they are.
    pub rows: u64,
    /// Rows of the source.
    pub of: u64,
    /// What ails them.
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
