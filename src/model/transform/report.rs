//! What a transform will hold, what it did, and rows that are placed in memory.

use std::fmt;

use lowland_engine::invalid::ExcludedRows;
use lowland_engine::{Remark, StagePlan, StageReport, format_bytes, format_count};
use lowland_io::RowSet;
use serde::Serialize;

use crate::Result;

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

/// Rows that are collected in memory.
pub(super) struct InMemory {
    pub(super) coordinates: Vec<f32>,
    pub(super) outlier: Vec<f32>,
    width: usize,
}

impl InMemory {
    pub(super) fn new(rows: usize, width: usize) -> Self {
        InMemory { coordinates: vec![f32::NAN; rows * width], outlier: vec![f32::NAN; rows], width }
    }

    /// Stores usable rows from `first` on, at the places that `kept` gives them among all rows.
    pub(super) fn put(&mut self, first: u64, values: &[f32], kept: Option<&RowSet>) -> Result<()> {
        for (row, values) in (first..).zip(values.chunks_exact(self.width + 1)) {
            let row = kept.map_or(row, |kept| kept.source_row(row)) as usize;
            self.coordinates[row * self.width..][..self.width].copy_from_slice(&values[..self.width]);
            self.outlier[row] = values[self.width];
        }
        Ok(())
    }
}
