//! A run's plan: the resolved options, and every parameter that the stages need, as the module `decide` computed them
//! once. Data only.

mod stages;

use std::fmt;
use std::time::Duration;

use lowland_io::{Dtype, Loader, Shape};
use serde::{Deserialize, Deserializer, Serialize};

use crate::budget::{MemoryPart, base_bytes};
use crate::config::{Asked, Settings};
use crate::error::format_bytes;
use crate::format;
use crate::observe::Stage;
use crate::remark::Remark;
use crate::{Error, Init, Method, Result};

pub use stages::{StageGraph, StageNode};

/// The properties of a run's input.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanInput {
    /// Number of rows, and of components of the vectors (0 if there are no vectors).
    pub shape: Shape,
    /// Type of the vectors' numbers in the source.
    pub dtype: Dtype,
    /// Number of neighbours of each row in a precomputed graph.
    pub graph_k: Option<usize>,
    /// Bytes that the source holds while it is read, in addition to the rows that are asked for.
    pub source_bytes: u64,
    /// Bytes that the source holds all the time.
    pub resident_bytes: u64,
}

/// Dimension above which the covariance matrix is too large, and PCA is incremental.
pub(crate) const MAX_COVARIANCE_COMPONENTS: usize = 2048;
/// Rows of a batch at the smallest budget, where the config has no number.
pub(crate) const MIN_BATCH_ROWS: usize = 64;
/// The largest number of rows of a batch, where the config has no number.
const MAX_BATCH_ROWS: u64 = 65_536;
/// Bytes of a batch for each thread, where the config has no number.
pub(crate) const BATCH_BYTES: u64 = 1 << 20;
/// Number of neighbours on which the maps of methods other than UMAP are scored.
const DEFAULT_SCORED_NEIGHBORS: usize = 15;
/// Number of rows in a block of the edge store. The number belongs to the format and does not depend on the
/// budget.
pub const BLOCK_ROWS: u32 = 16_384;
/// The smallest number of centroids for a start from centroids; with fewer, the map starts from PCA.
pub(crate) const MIN_CENTROIDS: usize = 128;

/// The parameters of the index stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexPlan {
    /// Whether every pair of rows is compared, and the stored index is an exact one (Flat).
    pub exact: bool,
    /// Number of inverted lists.
    pub lists: usize,
    /// Number of rows that the quantizer is trained on.
    pub sample_rows: u64,
    /// The largest number of rows that a row is compared with.
    pub max_candidates: u64,
    /// Number of rows collected before a shard is written.
    pub shard_rows: usize,
}

/// The parameters of the neighbors stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeighborsPlan {
    /// Number of rows (queries) that are compared with the lists together.
    pub window_rows: usize,
    /// Number of rows of lists that are read and packed at a time.
    pub portion_rows: usize,
}

/// The parameters for bringing a graph into another order of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExchangePlan {
    /// Number of buckets on disk.
    pub buckets: usize,
    /// Bytes of write buffers of all buckets.
    pub buffer_bytes: u64,
}

/// The parameters of the affinity stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AffinityPlan {
    /// Bytes for the incoming edges of a run of rows.
    pub run_bytes: u64,
    /// Bytes of write buffers of all buckets.
    pub buffer_bytes: u64,
}

/// The parameters of the layout stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayoutPlan {
    /// Number of epochs (passes over the edges).
    pub epochs: usize,
    /// Bytes of edges kept in memory.
    pub cache_bytes: u64,
    /// Time between checkpoints.
    pub checkpoint: Duration,
}

/// The parameters of an exact method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AllPairsPlan {
    /// Bytes of the input affinity P that are kept in memory rather than recomputed in each iteration.
    pub hold_bytes: u64,
}

/// The memory, disk space and traffic of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StagePlan {
    /// The stage.
    pub stage: Stage,
    /// The largest number of bytes of memory, everything included.
    pub memory: u64,
    /// The parts of the memory in the phase that takes the most.
    pub holds: Vec<MemoryPart>,
    /// Approximate number of bytes read, before any cache.
    pub read: u64,
    /// Approximate number of bytes written.
    pub written: u64,
    /// Approximate largest number of bytes in the run directory while the stage runs.
    pub disk: u64,
    /// What is spilled to disk because it does not fit in memory.
    pub spills: Option<String>,
}

/// All parameters of a run. Only [`Config::plan`](crate::Config::plan) makes a plan, and a plan is read-only outside
/// this crate, because the plan identifies a run's directory.
///
/// A plan can be stored as JSON and read again by [`Plan::from_json`], in this or a newer version; the run is that of the
/// first plan. A run refuses a plan that was made for other rows or another graph, or whose numbers cannot be used.
///
/// ```
/// use lowland_engine::{Config, Plan, PlanInput};
///
/// let shape = lowland_io::Shape { rows: 10_000, dim: 64 };
/// let input = PlanInput { shape, dtype: lowland_io::Dtype::F32, graph_k: None, source_bytes: 0, resident_bytes: 0 };
/// let plan = Config::default().plan(&input)?;
/// println!("{plan}"); // parameters, and the memory of each stage
/// let stored = serde_json::to_string(&plan).expect("JSON");
/// assert_eq!(Plan::from_json(&stored)?, plan);
/// # Ok::<(), lowland_engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The number of the JSON's format, [`Plan::FORMAT`].
    #[serde(deserialize_with = "format_of_plan")]
    pub(crate) format: u32,
    /// The resolved options. In JSON they are called `config`, for compatibility.
    #[serde(rename = "config")]
    pub(crate) settings: Settings,
    /// Number of rows and components.
    pub(crate) shape: Shape,
    /// Bytes of a row of vectors in the source.
    pub(crate) source_row_bytes: usize,
    /// Bytes that the source holds while it is read.
    pub(crate) source_bytes: u64,
    /// Bytes that the source holds all the time.
    pub(crate) resident_bytes: u64,
    /// Number of neighbours of each row, if a graph is given.
    pub(crate) graph_k: Option<usize>,
    /// Whether the run makes a map, or only the graph.
    pub(crate) map: bool,
    /// Number of worker threads.
    pub(crate) threads: usize,
    /// Number of rows read at a time.
    pub(crate) batch_rows: usize,
    /// The parameters of the index stage.
    pub(crate) index: IndexPlan,
    /// The parameters of the neighbors stage.
    pub(crate) neighbors: NeighborsPlan,
    /// The parameters for reading a given graph, or for writing the run's graph in the source's order.
    pub(crate) exchange: ExchangePlan,
    /// The parameters of the affinity stage.
    pub(crate) affinity: AffinityPlan,
    /// The parameters of the layout stage.
    pub(crate) layout: LayoutPlan,
    /// The parameters of an exact method, which has neither lists nor edges; `index`, `neighbors`, `exchange` and
    /// `affinity` are then unused.
    #[serde(rename = "exact")]
    pub(crate) all_pairs: Option<AllPairsPlan>,
    /// Memory, disk space and traffic of each stage.
    pub(crate) stages: Vec<StagePlan>,
    /// Notes for the user on how the parameters were chosen. A run reports them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<Remark>,
    /// Which of the options that few rows limit the user set.
    #[serde(default)]
    pub(crate) asked: Asked,
}

impl AsRef<[StagePlan]> for Plan {
    fn as_ref(&self) -> &[StagePlan] {
        &self.stages
    }
}

/// The parameters of a plan that depend on the budget. These parameters change where bytes are stored and in what
/// portions bytes are read and written, but never the result.
#[derive(Debug)]
pub struct PortionSizes<'a> {
    /// Number of rows collected before a shard of the index is written.
    pub shard_rows: &'a mut usize,
    /// Number of rows (queries) that are compared with the lists together.
    pub window_rows: &'a mut usize,
    /// Number of rows of lists that are read and packed at a time.
    pub portion_rows: &'a mut usize,
    /// Number of buckets on disk that bring a graph into another order.
    pub buckets: &'a mut usize,
    /// Bytes for the incoming edges of a run of rows.
    pub run_bytes: &'a mut u64,
    /// Bytes of write buffers of all buckets of the affinity stage.
    pub buffer_bytes: &'a mut u64,
    /// Bytes of edges that the layout keeps in memory.
    pub cache_bytes: &'a mut u64,
    /// Bytes of P that an exact method keeps in memory; `None` for a streamed method.
    pub hold_bytes: Option<&'a mut u64>,
}

fn format_of_plan<'de, D: Deserializer<'de>>(format: D) -> std::result::Result<u32, D::Error> {
    format::up_to(Plan::FORMAT, "plan", format)
}

impl Plan {
    /// The number of the format in which plans are written as JSON, as its field `format`. It grows with every change
    /// that an older version would misread.
    pub const FORMAT: u32 = 1;

    /// Reads a plan from JSON, as serialisation writes it.
    ///
    /// # Errors
    /// [`Error::Data`] if a newer version of lowland wrote it, or it is not a plan.
    pub fn from_json(json: &str) -> Result<Plan> {
        format::from_json(json, Plan::FORMAT, "plan")
    }

    /// Returns the resolved options.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the number of rows and components.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns the number of neighbours of each row, if a graph is given.
    pub fn graph_k(&self) -> Option<usize> {
        self.graph_k
    }

    /// Returns whether the run makes a map, or only the graph.
    pub fn is_map(&self) -> bool {
        self.map
    }

    /// Returns the number of worker threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Returns the number of rows read at a time.
    pub fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    /// Returns the parameters of the index stage.
    pub fn index(&self) -> &IndexPlan {
        &self.index
    }

    /// Returns the parameters of the neighbors stage.
    pub fn neighbors(&self) -> &NeighborsPlan {
        &self.neighbors
    }

    /// Returns the parameters for reading a given graph, or for writing the run's graph in the source's order.
    pub fn exchange(&self) -> &ExchangePlan {
        &self.exchange
    }

    /// Returns the parameters of the affinity stage.
    pub fn affinity(&self) -> &AffinityPlan {
        &self.affinity
    }

    /// Returns the parameters of the layout stage.
    pub fn layout(&self) -> &LayoutPlan {
        &self.layout
    }

    /// Returns the parameters of an exact method; `None` for a streamed method.
    pub fn all_pairs(&self) -> Option<&AllPairsPlan> {
        self.all_pairs.as_ref()
    }

    /// Returns memory, disk space and traffic of each stage.
    pub fn stages(&self) -> &[StagePlan] {
        &self.stages
    }

    /// Returns the notes for the user on how the parameters were chosen.
    pub fn notes(&self) -> &[Remark] {
        &self.notes
    }

    /// Returns the parameters that depend on the budget, for tests that must take every code path.
    pub fn portions(&mut self) -> PortionSizes<'_> {
        PortionSizes {
            shard_rows: &mut self.index.shard_rows,
            window_rows: &mut self.neighbors.window_rows,
            portion_rows: &mut self.neighbors.portion_rows,
            buckets: &mut self.exchange.buckets,
            run_bytes: &mut self.affinity.run_bytes,
            buffer_bytes: &mut self.affinity.buffer_bytes,
            cache_bytes: &mut self.layout.cache_bytes,
            hold_bytes: self.all_pairs.as_mut().map(|exact| &mut exact.hold_bytes),
        }
    }

    /// Returns, as JSON, everything that the bytes of the result depend on. A run is resumed only in a
    /// directory with an equal identity.
    pub fn identity(&self) -> serde_json::Value {
        let mut identity = self.settings.identity();
        if let (Some(fields), Some(k)) = (identity.as_object_mut(), self.graph_k) {
            fields.insert("graph_k".into(), k.into());
        }
        identity
    }

    /// Returns the number of neighbours of each row: the number that the method's affinity asks for, or that a
    /// given graph has; for an exact method the number that its map is scored on.
    pub fn k(&self) -> usize {
        self.graph_k.unwrap_or(match self.settings.method.affinity() {
            Some(affinity) => affinity.neighbors(&self.settings, self.shape.rows),
            None => DEFAULT_SCORED_NEIGHBORS.min(self.shape.rows.saturating_sub(1) as usize),
        })
    }

    /// Returns the number of directed edges of each row after the affinity stage.
    pub fn degree(&self) -> usize {
        self.settings.method.affinity().map_or(0, |affinity| affinity.degree(&self.settings, self.k()))
    }

    /// Returns the number of neighbours that the map is scored on: UMAP's own number, and the same number for
    /// all other methods, so that their scores can be compared.
    pub fn scored_neighbors(&self) -> usize {
        if self.settings.method == Method::UMAP { self.k() } else { DEFAULT_SCORED_NEIGHBORS.min(self.k()) }
    }

    /// Returns a text for users: the number of neighbours and epochs, or of iterations.
    pub fn layout_summary(&self) -> String {
        match self.all_pairs {
            None => format!("{} neighbours; {} epochs", self.k(), self.layout.epochs),
            Some(_) => format!("all pairs; {} iterations at most", self.layout.epochs),
        }
    }

    /// Returns the number of rows of the sample on which quality is measured.
    pub fn sample_rows(&self) -> usize {
        // A larger sample costs little where rows are few; with up to 2,000 rows, all are scored.
        let wanted = if self.shape.rows <= 10_000 { 2000 } else { 1000 };
        wanted.min(self.shape.rows) as usize
    }

    /// Returns the bytes that reading the source takes.
    pub fn loader_bytes(&self) -> u64 {
        Loader::bytes(self.batch_rows, self.shape.dim) + self.source_bytes
    }

    /// Returns the bytes that the process takes in every stage.
    pub(crate) fn base(&self) -> u64 {
        base_bytes(self.shape.dim, self.threads) + self.resident_bytes
    }

    /// Returns the largest memory of any stage.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(|stage| stage.memory).max().unwrap_or(0)
    }

    /// Returns the largest number of bytes in the run directory at any time.
    pub fn disk(&self) -> u64 {
        self.stages.iter().map(|stage| stage.disk).max().unwrap_or(0)
    }

    /// Returns whether a stage's files are kept after the last stage that reads them.
    pub fn keeps(&self, stage: Stage) -> bool {
        self.settings.keep_stages.as_ref().is_none_or(|stages| stages.contains(&stage))
    }

    /// Returns whether the principal components are computed incrementally.
    pub fn uses_incremental_pca(&self) -> bool {
        self.shape.dim > MAX_COVARIANCE_COMPONENTS
    }

    /// Returns whether the scan must compute the principal components.
    pub fn needs_pca(&self) -> bool {
        self.shape.dim > 0
            && self.all_pairs.is_none()
            && (self.settings.init == Init::Pca || (self.settings.init == Init::Centroid && !self.has_centroids()))
    }

    /// Returns whether there are enough centroids to start from.
    pub fn has_centroids(&self) -> bool {
        self.shape.dim > 0 && self.index.lists >= MIN_CENTROIDS
    }
}

/// Checks the options that all jobs have.
pub(crate) fn check_workers(threads: Option<usize>, batch_rows: Option<usize>) -> Result<()> {
    if threads.is_some_and(|threads| threads == 0 || threads > 1024) {
        return Err(Error::Config { field: "threads", why: "must be between 1 and 1024".into() });
    }
    if batch_rows == Some(0) {
        return Err(Error::Config { field: "batch_rows", why: "must be at least 1".into() });
    }
    Ok(())
}

/// Returns the number of worker threads: the number asked for, or the number of cores.
pub(crate) fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The number of rows of a batch, while the planner (module `decide`) searches for one that fits the budget.
pub(crate) struct BatchSize {
    pub(crate) now: usize,
    least: usize,
}

impl BatchSize {
    /// Returns `wanted` rows, limited to at least `least`, at most [`MAX_BATCH_ROWS`], and at most `rows`.
    pub(crate) fn new(least: usize, wanted: u64, rows: u64) -> Self {
        let least = (least as u64).min(rows);
        BatchSize { now: wanted.clamp(least, MAX_BATCH_ROWS).min(rows) as usize, least: least as usize }
    }

    /// Halves the number. Returns false if it was the smallest already.
    pub(crate) fn shrink(&mut self) -> bool {
        let fewer = (self.now / 2).max(self.least);
        std::mem::replace(&mut self.now, fewer) > fewer
    }
}

impl Plan {
    /// Describes the input: "300 rows × 5 components", or "300 rows, a graph of 15 neighbours" if there are no vectors.
    pub(crate) fn input_text(&self) -> String {
        let Shape { rows, dim } = self.shape;
        match self.graph_k {
            Some(k) if dim == 0 => {
                format!("{rows} rows, a graph of {k} {}", if k == 1 { "neighbour" } else { "neighbours" })
            }
            _ => format!("{rows} rows × {dim} components"),
        }
    }
}

/// A summary of the plan for users.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dim = self.shape.dim;
        writeln!(
            f,
            "{} → {} components by {}, {}",
            self.input_text(),
            self.settings.n_components,
            self.settings.method,
            if self.all_pairs.is_some() { self.layout_summary() } else { format!("{} neighbours", self.k()) }
        )?;
        if self.all_pairs.is_some() {
            writeln!(f, "{} threads; {} rows a batch", self.threads, self.batch_rows)?;
        } else if dim > 0 {
            let how = if self.index.exact {
                "every pair compared".into()
            } else {
                format!("recall {} or better", self.settings.recall)
            };
            writeln!(
                f,
                "{} lists, {how}; {} epochs; {} threads; {} rows a batch",
                self.index.lists, self.layout.epochs, self.threads, self.batch_rows
            )?;
        }
        writeln!(f, "memory {}:", format_bytes(self.settings.memory))?;
        for stage in &self.stages {
            writeln!(f, "  {:<10} {:>10}", stage.stage.name(), format_bytes(stage.memory))?;
        }
        Ok(())
    }
}
