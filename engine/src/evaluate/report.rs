//! What an evaluation found, as numbers and as a table.

use std::fmt;

use serde::Serialize;

use super::plan::Plan;
use crate::invalid::LeftOut as LeftOutRows;

/// One score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measure {
    /// Which one.
    pub score: Name,
    /// Neighbours that it looks at.
    pub k: Option<usize>,
    /// The column of labels that it is about.
    pub labels: Option<String>,
    /// The score.
    pub value: f64,
    /// Half the width of its 95 % interval; none where it is exact.
    pub interval: Option<f64>,
    /// Rows that it is the score of, each against all others.
    pub rows: u64,
}

/// The scores' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Share of the true neighbours that a graph has.
    Recall,
    /// 1 where no row is near in the map that is far in the data.
    Trustworthiness,
    /// 1 where no row is far in the map that is near in the data.
    Continuity,
    /// Share of the nearest in the data that are among the nearest in the map.
    NeighborhoodPreservation,
    /// Share of random triplets whose nearer pair is the same in both.
    TripletAccuracy,
    /// Spearman's correlation of distances in the data and in the map.
    DistanceSpearman,
    /// Share of a row's neighbours in the map that have its label.
    LabelAccuracy,
    /// How much nearer rows lie to their own label than to the next.
    Silhouette,
    /// The adjusted Rand index of labels and of k-means clusters in the map.
    KmeansAri,
}

impl Name {
    /// As people read it.
    pub fn text(self) -> &'static str {
        match self {
            Name::Recall => "recall of the graph",
            Name::Trustworthiness => "trustworthiness",
            Name::Continuity => "continuity",
            Name::NeighborhoodPreservation => "neighbourhood preservation",
            Name::TripletAccuracy => "triplet accuracy",
            Name::DistanceSpearman => "Spearman of distances",
            Name::LabelAccuracy => "label accuracy",
            Name::Silhouette => "silhouette",
            Name::KmeansAri => "k-means ARI",
        }
    }
}

/// Scores that were not taken, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    /// Which ones.
    pub scores: Vec<Name>,
    /// The column of labels that they would have been about.
    pub labels: Option<String>,
    /// The reason.
    pub why: String,
}

/// An evaluation's results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// lowland's version.
    pub version: &'static str,
    /// Every resolved parameter.
    pub plan: Plan,
    /// The scores.
    pub scores: Vec<Measure>,
    /// Those that could not be taken.
    pub left_out: Vec<LeftOut>,
    /// Rows of the map without coordinates, which were left out of all tables.
    pub without_coordinates: u64,
    /// Rows of the source that were left out of all tables, where that was asked for.
    pub invalid: Option<LeftOutRows>,
    /// Wall time.
    pub seconds: f64,
    /// Most anonymous memory held, in bytes; 0 where the system does not tell.
    pub peak_memory: u64,
}

impl Report {
    /// A score, of the column `labels` where it is about labels.
    pub fn get(&self, score: Name, labels: Option<&str>) -> Option<&Measure> {
        self.scores.iter().find(|m| m.score == score && m.labels.as_deref() == labels)
    }
}

impl Measure {
    fn title(&self) -> String {
        let k = self.k.map_or_else(String::new, |k| format!("@{k}"));
        let labels = self.labels.as_ref().map_or_else(String::new, |labels| format!(", {labels}"));
        format!("{}{k}{labels}", self.score.text())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<String> = self.scores.iter().map(Measure::title).collect();
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
            let names: Vec<&str> = out.scores.iter().map(|score| score.text()).collect();
            let labels = out.labels.as_ref().map_or_else(String::new, |labels| format!(" of {labels}"));
            writeln!(f, "left out: {}{labels}: {}", names.join(", "), out.why)?;
        }
        Ok(())
    }
}
