//! The report of a run: as text for the terminal, as JSON for programs.

use std::borrow::Cow;
use std::fmt;

use lowland_io::Shift;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Result;
use crate::affinity::AffinityStats;
use crate::all_pairs::DescentStats;
use crate::error::format_bytes;
use crate::format;
use crate::invalid::ExcludedRows;
use crate::neighbors::GraphStats;
use crate::observe::{Stage, StageReport};
use crate::plan::Plan;
use crate::quality::Quality;
use crate::remark::Remark;

/// The statistics of a whole run. As JSON it can be stored, and read again by [`Report::from_json`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The number of the JSON's format, [`Report::FORMAT`].
    #[serde(deserialize_with = "format_of_report")]
    pub format: u32,
    /// The version of lowland that made the run.
    pub version: Cow<'static, str>,
    /// Every resolved parameter.
    pub plan: Plan,
    /// The stages in order. Stages that were found done have the statistics of when they ran.
    pub stages: Vec<StageReport>,
    /// The stages that were found done.
    pub reused: Vec<Stage>,
    /// Statistics of the graph.
    pub neighbors: Option<GraphStats>,
    /// Statistics of the affinities.
    pub affinity: Option<AffinityStats>,
    /// The result of an exact method's optimization.
    #[serde(rename = "exact")]
    pub all_pairs: Option<DescentStats>,
    /// The map's scores.
    pub quality: Option<Quality>,
    /// Warnings that the map may not be what was wanted.
    pub warnings: Vec<Remark>,
    /// Other messages for the user.
    pub notes: Vec<Remark>,
    /// Rows that were left out, if rows may be left out.
    pub left_out: Option<ExcludedRows>,
    /// The numbers that were subtracted from each component before rounding. The vectors in the index are the
    /// source's minus these.
    pub shift: Option<Shift>,
    /// Wall time of this process in seconds.
    pub seconds: f64,
}

/// The whole report: stages, results, warnings and notes.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10} {:>9} {:>11} {:>11} {:>11}", "stage", "seconds", "memory", "read", "written")?;
        for s in &self.stages {
            let reused = if self.reused.contains(&s.stage) { "  (kept from an earlier run)" } else { "" };
            writeln!(
                f,
                "{:<10} {:>9.2} {:>11} {:>11} {:>11}{reused}",
                s.stage.name(),
                s.seconds,
                format_bytes(s.peak_memory),
                format_bytes(s.read),
                format_bytes(s.written)
            )?;
        }
        writeln!(f, "{:<10} {:>9.2} {:>11}", "total", self.seconds, format_bytes(self.peak()))?;
        for (what, remarks) in [("warning", &self.warnings), ("note", &self.notes)] {
            remarks.iter().try_for_each(|remark| writeln!(f, "{what:<10} {}", remark.text))?;
        }
        self.outcome(f)
    }
}

/// The results of a run, without the stages, warnings and notes that an observer has received already.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a>(&'a Report);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary(report) = self;
        let (seconds, peak) = (report.seconds, format_bytes(report.peak()));
        writeln!(f, "{:<10} {seconds:>8.2} s   peak {peak}", "total")?;
        report.outcome(f)
    }
}

fn format_of_report<'de, D: Deserializer<'de>>(format: D) -> std::result::Result<u32, D::Error> {
    format::up_to(Report::FORMAT, "report", format)
}

impl Report {
    /// The number of the format in which reports are written as JSON, as its field `format`. It grows with every change
    /// that an older version would misread.
    pub const FORMAT: u32 = 1;

    /// Reads a report from JSON, as serialisation and the command line write it.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) if a newer version of lowland wrote it, or it is not a report.
    pub fn from_json(json: &str) -> Result<Report> {
        format::from_json(json, Report::FORMAT, "report")
    }

    /// Returns the report without the stages, warnings and notes that an observer has received already.
    pub fn summary(&self) -> Summary<'_> {
        Summary(self)
    }

    /// Writes scores and statistics, one line each.
    fn outcome(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.plan.settings;
        if let Some(n) = self.neighbors.as_ref().filter(|n| n.sample_rows > 0) {
            writeln!(
                f,
                "graph      recall@{} {:.4} ± {:.4} on {} rows; {:.0} candidates a row",
                self.plan.k(),
                n.recall,
                n.recall_interval,
                n.sample_rows,
                n.mean_candidates
            )?;
        }
        if let Some(a) = &self.affinity {
            writeln!(
                f,
                "edges      {} in {} rows; {} rows without edges",
                a.edges, self.plan.shape.rows, a.isolated_rows
            )?;
        }
        if let Some(fitted) = &self.all_pairs {
            let ended = if fitted.converged { ", converged" } else { "" };
            writeln!(
                f,
                "fit        loss {:.6} after {} iterations{ended}; {} distinct rows",
                fitted.loss, fitted.iterations, fitted.distinct
            )?;
        }
        if let Some(q) = &self.quality {
            write!(f, "map        ")?;
            if let Some(t) = q.trustworthiness {
                write!(f, "trustworthiness@{} {:.4} ± {:.4}; ", q.k, t.mean, t.interval)?;
            }
            write!(
                f,
                "neighbourhood preservation@{} {:.4} ± {:.4}",
                q.k, q.preservation.mean, q.preservation.interval
            )?;
            if let Some(t) = q.triplets {
                write!(f, "; triplet accuracy {:.4} ± {:.4}", t.mean, t.interval)?;
            }
            writeln!(f, " (sample of {})", q.sample_rows)?;
        }
        if let Some(left_out) = self.left_out.as_ref().filter(|left_out| left_out.rows > 0) {
            writeln!(f, "left out   {left_out}")?;
        }
        if let Some(shift) = &self.shift {
            writeln!(
                f,
                "shift      {} components were shifted by a constant each before they were rounded to f32",
                shift.moved()
            )?;
        }
        write!(
            f,
            "from       {}; seed {}; {}; {} threads; memory {}",
            self.plan.input_text(),
            settings.seed,
            self.plan.layout_summary(),
            self.plan.threads,
            format_bytes(settings.memory)
        )
    }

    /// Returns the most anonymous memory that any stage held.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(|s| s.peak_memory).max().unwrap_or(0)
    }
}
