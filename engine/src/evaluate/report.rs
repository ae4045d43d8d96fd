//! The results of an evaluation, as numbers and as a printed table.

use std::fmt;

use serde::Serialize;

use super::plan::EvaluationPlan;
use crate::invalid::ExcludedRows;

/// One score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreValue {
    /// Which score.
    pub score: ScoreName,
    /// The number of neighbours that the score uses.
    pub k: Option<usize>,
    /// The column of labels that the score uses.
    pub labels: Option<String>,
    /// The score.
    pub value: f64,
    /// Half the width of the 95 % interval. `None` if the score is exact.
    pub interval: Option<f64>,
    /// The number of rows that were scored, each against all rows.
    pub rows: u64,
}

/// The scores' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreName {
    /// The share of the true neighbours that a graph has.
    Recall,
    /// 1 if no row that is far in the data is near in the map.
    Trustworthiness,
    /// 1 if no row that is near in the data is far in the map.
    Continuity,
    /// The share of the nearest rows in the data that are among the nearest in the map.
    NeighborhoodPreservation,
    /// The share of random triplets whose nearer pair is the same in the data and in the map.
    TripletAccuracy,
    /// Spearman's correlation of distances in the data and in the map.
    DistanceSpearman,
    /// The share of a row's map neighbours that have the row's label.
    LabelAccuracy,
    /// How much nearer rows are to rows of their own label than to those of the next label.
    Silhouette,
    /// The adjusted Rand index between labels and k-means clusters of the map.
    KmeansAri,
}

impl ScoreName {
    /// Returns the name as printed.
    pub fn label(self) -> &'static str {
        match self {
            ScoreName::Recall => "recall of the graph",
            ScoreName::Trustworthiness => "trustworthiness",
            ScoreName::Continuity => "continuity",
            ScoreName::NeighborhoodPreservation => "neighbourhood preservation",
            ScoreName::TripletAccuracy => "triplet accuracy",
            ScoreName::DistanceSpearman => "Spearman of distances",
            ScoreName::LabelAccuracy => "label accuracy",
            ScoreName::Silhouette => "silhouette",
            ScoreName::KmeansAri => "k-means ARI",
        }
    }
}

/// Scores that could not be computed, and the reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SkippedScores {
    /// Which ones.
    pub scores: Vec<ScoreName>,
    /// The column of labels that the scores would have used.
    pub labels: Option<String>,
    /// The reason.
    pub why: String,
}

/// The results of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationReport {
    /// lowland's version.
    pub version: &'static str,
    /// The plan, with every parameter.
    pub plan: EvaluationPlan,
    /// The scores.
    pub scores: Vec<ScoreValue>,
    /// The scores that could not be computed.
    pub left_out: Vec<SkippedScores>,
    /// Rows of the map without coordinates, which were excluded from all inputs.
    pub without_coordinates: u64,
    /// Rows of the source that were excluded from all inputs on request.
    pub invalid: Option<ExcludedRows>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Peak anonymous memory in bytes; 0 if the operating system does not report it.
    pub peak_memory: u64,
}

impl EvaluationReport {
    /// Returns a score; of the column `labels`, if the score uses labels.
    pub fn get(&self, score: ScoreName, labels: Option<&str>) -> Option<&ScoreValue> {
        self.scores.iter().find(|m| m.score == score && m.labels.as_deref() == labels)
    }
}

impl ScoreValue {
    fn title(&self) -> String {
        let k = self.k.map_or_else(String::new, |k| format!("@{k}"));
        let labels = self.labels.as_ref().map_or_else(String::new, |labels| format!(", {labels}"));
        format!("{}{k}{labels}", self.score.label())
    }
}

impl fmt::Display for EvaluationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<String> = self.scores.iter().map(ScoreValue::title).collect();
        let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0).max("score".len());
        if !titles.is_empty() {
            writeln!(f, "{:<width$}  {:>8}  {:>8}  rows", "score", "value", "± 95 %")?;
        }
        for (title, measure) in titles.iter().zip(&self.scores) {
            let (interval, how) = match measure.interval {
                Some(interval) => (format!("{interval:.4}"), "sampled"),
                None => (String::new(), "exact"),
            };
            let rows = match measure.rows == self.plan.input.rows {
                true => format!("all {}", measure.rows),
                false => format!("{} of {}", measure.rows, self.plan.input.rows),
            };
            writeln!(f, "{title:<width$}  {:>8.4}  {interval:>8}  {rows}, {how}", measure.value)?;
        }
        if self.without_coordinates > 0 {
            writeln!(f, "left out: {} rows without coordinates in the map", self.without_coordinates)?;
        }
        if let Some(rows) = self.invalid.as_ref().filter(|rows| rows.rows > 0) {
            writeln!(f, "left out: {rows}")?;
        }
        for out in &self.left_out {
            let names: Vec<&str> = out.scores.iter().map(|score| score.label()).collect();
            let labels = out.labels.as_ref().map_or_else(String::new, |labels| format!(" of {labels}"));
            writeln!(f, "left out: {}{labels}: {}", names.join(", "), out.why)?;
        }
        Ok(())
    }
}
