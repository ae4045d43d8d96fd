//! The report of a PCA run, as text for the terminal and as JSON.

use std::fmt;

use serde::Serialize;

use super::{Pca, PcaPlan};
use crate::error::format_bytes;
use crate::invalid::ExcludedRows;
use crate::observe::StageReport;
use crate::remark::Remark;

/// The largest number of lines of the printed table.
const MAX_TABLE_LINES: usize = 12;

/// The figures of a run.
#[derive(Debug, Clone, Serialize)]
pub struct PcaReport {
    /// lowland's version.
    pub version: &'static str,
    /// Every resolved parameter.
    pub plan: PcaPlan,
    /// Stages: `scan` found the axes, `output` wrote the scores.
    pub stages: Vec<StageReport>,
    /// Number of passes over the source, including the one that wrote the scores.
    pub passes: usize,
    /// For the randomised solver: the largest ‖C·v − λv‖ / λ over the axes v, where C is the covariance;
    /// it bounds the error of the axes.
    pub residual: Option<f64>,
    /// Mean of the rows, one value per component.
    pub mean: Vec<f64>,
    /// Variance along each axis, with divisor n − 1.
    pub explained_variance: Vec<f64>,
    /// Variance along each axis as a share of the total variance.
    pub explained_variance_ratio: Vec<f64>,
    /// Total variance of the data.
    pub total_variance: f64,
    /// Rows that were dropped, if dropping was requested.
    pub left_out: Option<ExcludedRows>,
    /// The warnings of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Remark>,
    /// The notes of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Remark>,
    /// Wall time, in seconds.
    pub seconds: f64,
}

impl PcaReport {
    pub(super) fn new(plan: &PcaPlan, pca: &Pca) -> Self {
        PcaReport {
            version: env!("CARGO_PKG_VERSION"),
            plan: plan.clone(),
            stages: Vec::new(),
            passes: 0,
            residual: None,
            mean: pca.mean.clone(),
            explained_variance: pca.variance.clone(),
            explained_variance_ratio: pca.explained_variance_ratio(),
            total_variance: pca.total_variance,
            left_out: None,
            warnings: Vec::new(),
            notes: Vec::new(),
            seconds: 0.0,
        }
    }

    /// Returns the peak of anonymous memory, in bytes; 0 where the system does not report it.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(|s| s.peak_memory).max().unwrap_or(0)
    }
}

impl fmt::Display for PcaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10} {:>12} {:>10} {:>10}", "component", "variance", "explained", "together")?;
        let mut together = 0.0;
        let all = self.explained_variance_ratio.len();
        for (i, (variance, ratio)) in self.explained_variance.iter().zip(&self.explained_variance_ratio).enumerate() {
            together += ratio;
            if all > MAX_TABLE_LINES && i + 1 == MAX_TABLE_LINES {
                writeln!(f, "…")?;
            }
            if i + 1 < MAX_TABLE_LINES || i + 1 == all {
                let (explained, together) = (100.0 * ratio, 100.0 * together);
                writeln!(f, "{i:<10} {variance:>12.6} {explained:>8.2} % {together:>8.2} %")?;
            }
        }
        if let Some(residual) = self.residual {
            writeln!(f, "residual   {residual:.1e} of an axis's variance at most")?;
        }
        if let Some(left_out) = &self.left_out {
            writeln!(f, "left out   {left_out}")?;
        }
        write!(
            f,
            "from       {} rows × {}; solver {}; ",
            self.plan.shape.rows,
            self.plan.shape.dim,
            self.plan.solver.name()
        )?;
        write!(f, "{} passes in {:.2} s; peak {}", self.passes, self.seconds, format_bytes(self.peak()))
    }
}
