//! The report of an update, as JSON and as a line for people.

use std::fmt;

use lowland_engine::invalid::ExcludedRows;
use lowland_model::store::Counts;
use lowland_model::update::Measures;
use serde::Serialize;

use super::{GateResult, UpdateMode};

/// What came of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A new version is current.
    Published,
    /// The table has the rows of the model.
    Unchanged,
    /// The run had been published before.
    AlreadyPublished,
    /// The new version does not meet a gate. It is kept, and the version before stays current.
    Refused,
}

/// The result of an update.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateReport {
    /// The name of the run.
    pub run_id: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The new version, or the version of the same run.
    pub version: Option<u64>,
    /// The version before.
    pub parent: u64,
    /// What was done; none if nothing was.
    pub mode: Option<UpdateMode>,
    /// Why the mode was chosen.
    pub why: String,
    /// Rows.
    pub counts: Counts,
    /// The rows of the table that were left out because they have no usable vector. `None` if that was not asked for, and
    /// if the table was not read.
    pub left_out: Option<ExcludedRows>,
    /// Measures of the new version.
    pub measures: Option<Measures>,
    /// The gates.
    pub gates: Vec<GateResult>,
    /// Wall time.
    pub seconds: f64,
}

impl UpdateReport {
    /// Returns why the version is not current: the gates that it does not meet, else why it was not judged by others.
    pub fn refusal(&self) -> String {
        let failed: Vec<String> = self.gates.iter().filter(|gate| !gate.passed).map(GateResult::to_string).collect();
        match failed.is_empty() {
            true => format!("a gate of an earlier attempt refused it; {}", self.why),
            false => failed.join(", "),
        }
    }

    fn write_left_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left_out.as_ref().and_then(ExcludedRows::note) {
            Some(note) => write!(f, "; {note}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for UpdateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { rows, added, changed, deleted, .. } = self.counts;
        let number = self.version.unwrap_or(self.parent);
        let changes = format!("{added} added, {changed} changed, {deleted} deleted");
        match self.outcome {
            Outcome::Unchanged => {
                write!(f, "nothing changed: version {} has the {rows} rows of the table", self.parent)?;
                return self.write_left_out(f);
            }
            Outcome::AlreadyPublished => {
                return write!(f, "the run {} was published before, as version {number}", self.run_id);
            }
            Outcome::Published => write!(f, "version {number} is current: {rows} rows, {changes}")?,
            Outcome::Refused => {
                write!(f, "version {number} is kept but not current ({}): {rows} rows, {changes}", self.refusal())?;
            }
        }
        if let Some(measures) = &self.measures {
            write!(f, "; recall {:.3}", measures.recall)?;
            if let Some(new) = measures.recall_new {
                write!(f, " (new rows {new:.3})")?;
            }
            write!(f, ", trustworthiness {:.3}", measures.trustworthiness)?;
            if let (Some(rows), Some(capped), Some(cap)) =
                (measures.moved_rows, measures.capped_rows, measures.move_cap)
            {
                write!(f, ", {rows} rows moved, {capped} of them held back by the cap of {cap} of the radius")?;
            }
            if self.mode == Some(UpdateMode::Refit) {
                let (p95, kept) = (measures.moved_p95, measures.kept_neighbors);
                write!(
                    f,
                    ", 95 % of the rows moved at most {p95:.3} of the radius and kept {kept:.2} of their neighbours"
                )?;
            }
        }
        self.write_left_out(f)?;
        write!(f, "; {:.1} s", self.seconds)
    }
}
