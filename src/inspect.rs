//! Describes a source and the default run on it. Reads headers, and at most 4,096 rows to compare the
//! scales of the components.
//!
//! ```
//! use lowland::inspect::SourceSummary;
//! # use lowland_datasets::{Generator, DatasetKind, WriteOptions, write};
//! # let dir = tempfile::tempdir()?;
//! # let file = dir.path().join("vectors.parquet");
//! # write(&Generator::new("mixture".parse::<DatasetKind>()?, 500, 8, 7)?, &file, &WriteOptions::default())?;
//! # let file = file.to_str().unwrap();
//!
//! let source = lowland::open(&[file], None)?; // "vectors.parquet"
//! let summary = SourceSummary::of(source.as_ref(), 600 << 20)?;
//! println!("{} bytes in {} files; other columns: {:?}", summary.bytes(), summary.files.len(), summary.columns);
//! assert_eq!(summary.plan?.shape().rows, 500);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use lowland_engine::{ComponentVariance, Config, DominantComponent, Metric, Plan, PlanInput};
use lowland_io::{Fingerprint, Source};
use serde_json::{Value, json};

use crate::{Error, Result};

/// What a source contains.
pub struct SourceSummary {
    /// The columns that can be kept or give colours: all except those of the vectors.
    pub columns: Vec<String>,
    /// The files.
    pub files: Vec<Fingerprint>,
    /// Number of rows that were read.
    pub sampled_rows: u64,
    /// The component that outweighs the others, if there is one.
    pub outweighing: Option<DominantComponent>,
    /// The default run, or why there is none.
    pub plan: Result<Plan>,
}

impl SourceSummary {
    /// Describes `source`, and a run on it with default options and a budget of `memory` bytes.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn of(source: &dyn Source, memory: u64) -> Result<Self> {
        // As `embed` plans without options: files that no stage needs any more are removed.
        let config = Config { memory, keep_stages: Some(Vec::new()), ..Config::default() };
        let input = PlanInput {
            shape: source.shape(),
            dtype: source.dtype(),
            graph_k: None,
            source_bytes: source.held_bytes(),
            resident_bytes: source.resident_bytes(),
        };
        // Scales need rows. If these cannot be read, the run will report the error.
        let spread = ComponentVariance::of_sample(source, Metric::Euclidean).ok();
        Ok(SourceSummary {
            columns: others(source),
            files: source.fingerprints()?,
            sampled_rows: spread.as_ref().map_or(0, ComponentVariance::rows),
            outweighing: spread.and_then(|spread| spread.dominant(Metric::Euclidean)),
            plan: config.plan(&input).map_err(Error::from),
        })
    }

    /// Returns the bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns the description of `source` as JSON.
    pub fn json(&self, source: &dyn Source) -> Value {
        let (plan, problem) = match &self.plan {
            Ok(plan) => (json!(plan), Value::Null),
            Err(why) => (Value::Null, json!(why.to_string())),
        };
        let files = self.files.iter().map(|f| json!({"path": f.path.to_string_lossy(), "bytes": f.bytes}));
        json!({
            "rows": source.shape().rows,
            "components": source.shape().dim,
            "dtype": source.dtype().name(),
            "column": source.vector_column(),
            "columns": self.columns,
            "files": files.collect::<Vec<_>>(),
            "bytes": self.bytes(),
            "sampled_rows": self.sampled_rows,
            "outweighing": self.outweighing.as_ref().map(|found| json!({
                "component": found.component, "share": found.share, "text": found.explain(source),
            })),
            "plan": plan,
            "problem": problem,
        })
    }
}

/// Returns the columns that can be kept or give colours: all except those of the vectors.
fn others(source: &dyn Source) -> Vec<String> {
    let vectors = source.vector_column().unwrap_or_default();
    source.columns().into_iter().filter(|c| !vectors.split(',').any(|v| v.trim() == c)).collect()
}
