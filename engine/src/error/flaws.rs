//! Rows that cannot be placed on a map, counted by what ails them, with the first place of each kind.

use std::fmt;
use std::path::{Path, PathBuf};

use lowland_io::{Source, is_null};
use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::metric::Metric;

/// The reason why a row cannot be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowFlaw {
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
    /// In a graph without vectors: the row has no neighbours, and is no other row's neighbour.
    NoNeighbors,
}

impl RowFlaw {
    /// Returns the flaw as text that follows a number of rows ("3 null in place of a vector").
    fn describe(self) -> &'static str {
        match self {
            RowFlaw::NoVector => "null in place of a vector",
            RowFlaw::Null => "with a null component",
            RowFlaw::Nan => "with NaN",
            RowFlaw::Infinite => "with an infinite number",
            RowFlaw::Zero => "of all zeros, which have no direction for cosine",
            RowFlaw::Equal => "of equal components, which have no direction for correlation",
            RowFlaw::NoNeighbors => "without neighbours",
        }
    }

    /// Returns the flaw of a row that was prepared for `metric`, and the component that has it; `None` for a
    /// valid row.
    fn find(metric: Metric, row: &[f32]) -> Option<(RowFlaw, Option<usize>)> {
        match row.iter().position(|x| !x.is_finite()) {
            // Preparing a row without a direction sets it to zeros.
            None if metric.has_unit_rows() && row.iter().all(|&x| x == 0.0) => {
                Some((if metric == Metric::Correlation { RowFlaw::Equal } else { RowFlaw::Zero }, None))
            }
            None => None,
            Some(_) if row.iter().all(|&x| is_null(x)) => Some((RowFlaw::NoVector, None)),
            Some(at) if is_null(row[at]) => Some((RowFlaw::Null, Some(at))),
            Some(at) if row[at].is_nan() => Some((RowFlaw::Nan, Some(at))),
            Some(at) => Some((RowFlaw::Infinite, Some(at))),
        }
    }
}

/// The rows with one flaw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlawCount {
    /// The flaw.
    pub flaw: RowFlaw,
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FlawSummary {
    kinds: Vec<FlawCount>,
}

impl FlawSummary {
    /// Checks the rows from `first` on of `source`, whose `values` were prepared for `metric`, and calls `each`
    /// for every row that cannot be placed.
    ///
    /// # Errors
    /// If the first row with a flaw cannot be read again.
    pub fn check_rows(
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
            if let Some((flaw, component)) = RowFlaw::find(metric, values) {
                self.add(flaw, component, source, row)?;
                each(row);
            }
        }
        Ok(())
    }

    fn add(&mut self, flaw: RowFlaw, component: Option<usize>, source: &dyn Source, row: u64) -> Result<()> {
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.flaw == flaw) {
            kind.rows += 1;
            return Ok(());
        }
        let place = source.locate(row);
        let value = match (flaw, component) {
            (RowFlaw::Nan | RowFlaw::Infinite, Some(component)) => {
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
        self.kinds.push(FlawCount { flaw, rows: 1, file: place.path, row: place.row, component, column, value });
        Ok(())
    }

    /// Adds `rows` rows without neighbours, of which `first` is the first of the graph `file`.
    pub fn add_unlinked(&mut self, file: &Path, first: u64, rows: u64) {
        let (file, flaw) = (file.to_path_buf(), RowFlaw::NoNeighbors);
        self.kinds.push(FlawCount { flaw, rows, file, row: first, component: None, column: None, value: None });
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
    pub fn kinds(&self) -> &[FlawCount] {
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
impl fmt::Display for FlawSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, kind) in self.kinds.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let first = if kind.rows > 1 { "the first: " } else { "" };
            write!(
                f,
                "{comma}{} {} ({first}{}: row {}",
                kind.rows,
                kind.flaw.describe(),
                kind.file.display(),
                kind.row
            )?;
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
