//! How an update takes up changes: by placing new rows, or by computing the whole map anew; when it chooses the latter; and
//! whether rows that are there move.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the map takes up changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateMode {
    /// A refit where [`RefitWhen`] says so, otherwise a transform.
    #[default]
    Auto,
    /// New rows are placed among the rows that are there, which keep their positions.
    Transform,
    /// The whole map is computed anew, from the positions that are there, and laid on them.
    Refit,
}

impl UpdateMode {
    /// All modes.
    pub const ALL: [UpdateMode; 3] = [UpdateMode::Auto, UpdateMode::Transform, UpdateMode::Refit];

    /// Returns the mode's name.
    pub fn name(self) -> &'static str {
        match self {
            UpdateMode::Auto => "auto",
            UpdateMode::Transform => "transform",
            UpdateMode::Refit => "refit",
        }
    }
}

/// Which rows that are there an update by transform may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveRows {
    /// None: they keep their positions, byte for byte.
    #[default]
    None,
    /// Those whose neighbours change: a new row becomes one of them, or one of them is gone. A spring pulls them to where
    /// they were, and a cap limits how far they go.
    Dirty,
}

impl MoveRows {
    /// All choices.
    pub const ALL: [MoveRows; 2] = [MoveRows::None, MoveRows::Dirty];

    /// Returns the choice's name.
    pub fn name(self) -> &'static str {
        match self {
            MoveRows::None => "none",
            MoveRows::Dirty => "dirty",
        }
    }
}

/// When [`UpdateMode::Auto`] computes the whole map anew.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RefitWhen {
    /// If more rows than this share of the base were added since the last refit. Default: 0.1.
    pub added: f64,
    /// If more than this share of all places are tombstones. Default: 0.2.
    pub deleted: f64,
    /// If more than this share of the last update's new rows lay far outside of the base. Default: never.
    pub outliers: Option<f64>,
}

impl Default for RefitWhen {
    fn default() -> Self {
        RefitWhen { added: 0.1, deleted: 0.2, outliers: None }
    }
}

/// Conditions as text: `added>0.1, deleted>0.2, outliers>0.05`.
impl FromStr for RefitWhen {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut when = RefitWhen::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('>').ok_or_else(|| format!("\"{part}\" is not of the form added>0.1"))?;
            let value: f64 = value.trim().parse().map_err(|_| format!("\"{}\" is not a number", value.trim()))?;
            if !value.is_finite() || value < 0.0 {
                return Err(format!("{value} is not a share"));
            }
            match name.trim() {
                "added" => when.added = value,
                "deleted" => when.deleted = value,
                "outliers" => when.outliers = Some(value),
                other => return Err(format!("\"{other}\" is none of added, deleted, outliers")),
            }
        }
        Ok(when)
    }
}
