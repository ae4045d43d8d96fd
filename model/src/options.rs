//! The options that a version keeps: how its map was made, and how new rows are read, matched and placed.
//!
//! They are the field `options` of a version's record. Fields may be added in later releases; a field that this release
//! does not know is ignored.

use lowland_engine::{Config, Settings};
use lowland_io::{Dtype, Shift};
use serde::{Deserialize, Serialize};

use crate::diff::IdKind;
use crate::search::SearchEffort;
use crate::{Error, Result};

/// The options of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelOptions {
    /// The options that the user gave, by which a refit runs.
    pub config: Config,
    /// The resolved options of the run that made the base.
    pub settings: Settings,
    /// Number of epochs of that run's layout.
    pub epochs: usize,
    /// Number of neighbours of a row by which the map was made.
    pub n_neighbors: usize,
    /// Mean distance to a neighbour in that run's graph, in the metric's units.
    pub mean_distance: f64,
    /// The column of the vectors in the source, if it has named columns.
    pub column: Option<String>,
    /// The column of the ids; none if rows are named by their number in the source.
    pub id: Option<String>,
    /// The kind of the ids.
    pub id_kind: IdKind,
    /// The columns that the model keeps of each row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// What is subtracted from each component before rounding to single precision.
    pub shift: Option<Shift>,
    /// The type of the source's numbers.
    pub dtype: Dtype,
    /// How many lists a search visits.
    pub effort: SearchEffort,
    /// The recall that this effort had on the sample of the base.
    pub effort_recall: f64,
    /// The 99th percentile of the rows' distances to their centroids, in the metric's units; see
    /// [`reach`](fn@crate::place::reach).
    pub reach: f32,
}

impl ModelOptions {
    /// Reads the options of a version.
    ///
    /// # Errors
    /// If a field is missing or has another type than here.
    pub fn of(version: &crate::store::Version) -> Result<Self> {
        serde_json::from_value(version.options.clone())
            .map_err(|e| Error::Options { version: version.number, what: e.to_string() })
    }

    /// Returns the options as a version keeps them.
    pub fn to_value(&self) -> serde_json::Value {
        // Numbers, texts and lists always have a form in JSON.
        serde_json::to_value(self).unwrap_or_default()
    }
}
