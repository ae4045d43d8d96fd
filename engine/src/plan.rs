//! From what a user asks to what will run: every number that a stage needs,
//! decided once.
//!
//! What must hold: everything that can change the map (lists, sample, epochs)
//! follows from the data's shape and the config; the budget decides only
//! where bytes live and in what portions they move (batch rows, shards,
//! caches, buckets). The memory of each stage is computed by the `bytes`
//! function beside that stage.

use std::fmt;

use lowland_io::{Dtype, Shape};
use serde::{Deserialize, Serialize};

use crate::error::size;
use crate::observe::Stage;
use crate::{Config, Error, Init, Result, affinity, index, init, layout, neighbors, quality, scan};

/// What a run starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Rows, and components of the vectors (0 where there are none).
    pub shape: Shape,
    /// The vectors' type at rest.
    pub dtype: Dtype,
    /// Neighbours a row in a precomputed graph.
    pub graph_k: Option<usize>,
}

/// Rows that are compared pair by pair, and rows that a row is compared with at most.
const PAIRS: u64 = 65_536;
/// Row numbers are u32; the last few millions are left to blocks that round up.
const MOST_ROWS: u64 = 4_000_000_000;
/// Dimensions above which a covariance is too wide and PCA is incremental.
const WIDE: usize = 2048;
/// What the process holds before any stage: code, allocator, thread stacks.
const FIXED: u64 = 40 << 20;
/// Rows of a batch where nothing else is said and the budget is at its smallest.
const LEAST_BATCH: usize = 64;
/// The share of the budget that no stage plans to use.
const MARGIN: u64 = 20;
/// Rows of a block of the edge store: part of the format's meaning, not of the budget.
pub const BLOCK_ROWS: u32 = 16_384;

/// The index stage's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexPlan {
    /// Whether every pair is compared, and the stored index is an exact Flat.
    pub exact: bool,
    /// Inverted lists.
    pub lists: usize,
    /// Rows that the quantizer is trained on.
    pub sample_rows: u64,
    /// Rows that a row may be compared with.
    pub max_candidates: u64,
    /// Rows collected before a shard is written.
    pub shard_rows: usize,
}

/// The neighbors stage's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeighborsPlan {
    /// Bytes of packed lists kept.
    pub cache_bytes: u64,
}

/// The affinity stage's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AffinityPlan {
    /// Buckets of the external transpose.
    pub buckets: usize,
    /// Bytes of write buffers over all buckets.
    pub buffer_bytes: u64,
}

/// The layout stage's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayoutPlan {
    /// Passes over the edges.
    pub epochs: usize,
    /// Bytes of decoded edge blocks kept.
    pub cache_bytes: u64,
}

/// What one stage will hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StagePlan {
    /// The stage.
    pub stage: Stage,
    /// Bytes of memory, everything counted.
    pub memory: u64,
}

/// Everything that will run. Made by [`Config::plan`] only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// What was asked.
    pub config: Config,
    /// Rows and components.
    pub shape: Shape,
    /// Bytes of a row of vectors at rest.
    pub source_row_bytes: usize,
    /// Neighbours a row, if they come from outside.
    pub graph_k: Option<usize>,
    /// Whether a map is made, or the graph alone.
    pub map: bool,
    /// Worker threads.
    pub threads: usize,
    /// Rows read at a time.
    pub batch_rows: usize,
    /// The index stage's numbers.
    pub index: IndexPlan,
    /// The neighbors stage's numbers.
    pub neighbors: NeighborsPlan,
    /// The affinity stage's numbers.
    pub affinity: AffinityPlan,
    /// The layout stage's numbers.
    pub layout: LayoutPlan,
    /// Memory, stage by stage.
    pub stages: Vec<StagePlan>,
}

impl Plan {
    /// Neighbours a row: asked for, or given with a precomputed graph.
    pub fn k(&self) -> usize {
        self.graph_k.unwrap_or(self.config.n_neighbors)
    }

    /// Rows of the sample that quality is measured on.
    pub fn sample_rows(&self) -> usize {
        let wanted = if self.shape.rows <= 500_000 { 2000 } else { 1000 };
        wanted.min(self.shape.rows) as usize
    }

    /// Bytes that reading the source holds.
    pub fn loader_bytes(&self) -> u64 {
        crate::Loader::bytes(self.batch_rows, self.shape.dim)
    }

    /// Whether the principal components are found incrementally.
    pub fn wide(&self) -> bool {
        self.shape.dim > WIDE
    }

    /// Whether the scan needs principal components of the rows.
    pub fn needs_pca(&self) -> bool {
        self.shape.dim > 0
            && (self.config.init == Init::Pca || (self.config.init == Init::Centroid && !self.has_centroids()))
    }

    /// Whether there are enough centroids to start from.
    pub fn has_centroids(&self) -> bool {
        self.shape.dim > 0 && self.index.lists >= init::LEAST_CENTROIDS
    }
}

impl Config {
    /// Checks the config against the data's shape and decides every number.
    ///
    /// # Errors
    /// [`Error::Config`] names the option that does not hold, [`Error::Data`]
    /// the data's own lack, [`Error::Budget`] the smallest budget that would do.
    pub fn plan(&self, input: &Input) -> Result<Plan> {
        self.plan_stages(input, true)
    }

    /// The same for the graph alone: what only a map needs is not counted.
    ///
    /// # Errors
    /// Those of [`Config::plan`].
    pub fn plan_graph(&self, input: &Input) -> Result<Plan> {
        self.plan_stages(input, false)
    }

    fn plan_stages(&self, input: &Input, map: bool) -> Result<Plan> {
        let Shape { rows, dim } = input.shape;
        self.check(input)?;
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let exact = rows <= PAIRS;
        let lists = lists(rows, exact);
        let sample_rows = (40 * lists as u64).min(rows);
        let epochs = self.n_epochs.unwrap_or(if rows <= 10_000 { 500 } else { 200 });

        let usable = self.memory.saturating_sub(FIXED + self.memory / MARGIN);
        let batch_rows = (self.batch_rows.unwrap_or(LEAST_BATCH) as u64).min(rows) as usize;
        let mut plan = Plan {
            config: self.clone(),
            shape: input.shape,
            source_row_bytes: dim * input.dtype.bytes(),
            graph_k: input.graph_k,
            map,
            threads,
            batch_rows,
            index: IndexPlan { exact, lists, sample_rows, max_candidates: PAIRS, shard_rows: 1024.min(rows as usize) },
            neighbors: NeighborsPlan { cache_bytes: 0 },
            affinity: AffinityPlan { buckets: 1, buffer_bytes: 1 << 20 },
            layout: LayoutPlan { epochs, cache_bytes: 0 },
            stages: Vec::new(),
        };
        // First the least that each stage needs; then what is left is given
        // to what uses it.
        plan.affinity.buckets = affinity::most_buckets(&plan);
        plan.neighbors.cache_bytes = 0;
        plan.fits(usable)?;
        plan.spend(usable);
        plan.stages = plan.memory();
        Ok(plan)
    }

    fn check(&self, input: &Input) -> Result<()> {
        let Shape { rows, dim } = input.shape;
        let config = |field, why: String| Err(Error::Config { field, why });
        if rows < 2 {
            return Err(Error::Data {
                what: format!(
                    "the source has {rows} {}; a map needs at least 2",
                    if rows == 1 { "row" } else { "rows" }
                ),
            });
        }
        if rows > MOST_ROWS {
            return Err(Error::Data { what: format!("{rows} rows: more than {MOST_ROWS} are not supported yet") });
        }
        if self.n_neighbors < 2 && input.graph_k.is_none() {
            return config("n_neighbors", format!("{} is too few; 2 is the least, 15 the default", self.n_neighbors));
        }
        if input.graph_k.is_none() && self.n_neighbors as u64 >= rows {
            return config(
                "n_neighbors",
                format!("{} neighbours asked of {rows} rows; at most {} are there", self.n_neighbors, rows - 1),
            );
        }
        if self.n_neighbors > 1000 {
            return config("n_neighbors", format!("{} is more than 1000", self.n_neighbors));
        }
        if self.n_components == 0 || self.n_components > 64 {
            return config("n_components", format!("{} is not between 1 and 64", self.n_components));
        }
        if dim > 0 && self.n_components > dim {
            return config("n_components", format!("{} asked of vectors with {dim} components", self.n_components));
        }
        if !(self.spread.is_finite() && self.spread > 0.0) {
            return config("spread", format!("{} is not above 0", self.spread));
        }
        if !(self.min_dist >= 0.0 && self.min_dist <= self.spread) {
            return config("min_dist", format!("{} is not between 0 and spread ({})", self.min_dist, self.spread));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return config("learning_rate", format!("{} is not above 0", self.learning_rate));
        }
        if !(self.recall > 0.0 && self.recall <= 1.0) {
            return config("recall", format!("{} is not above 0 and at most 1", self.recall));
        }
        if self.negative_sample_rate == 0 || self.negative_sample_rate > 100 {
            return config("negative_sample_rate", format!("{} is not between 1 and 100", self.negative_sample_rate));
        }
        if self.n_epochs == Some(0) || self.n_epochs.is_some_and(|e| e > 1 << 20) {
            return config("n_epochs", "must be between 1 and 1048576".into());
        }
        if self.init == Init::Pca && dim == 0 {
            return config("init", "pca needs vectors, and only a graph was given".into());
        }
        if self.threads == Some(0) || self.threads.is_some_and(|t| t > 1024) {
            return config("threads", "must be between 1 and 1024".into());
        }
        if self.batch_rows == Some(0) {
            return config("batch_rows", "must be at least 1".into());
        }
        Ok(())
    }
}

/// Inverted lists for so many rows: by the square root, and at least some tens of rows each.
fn lists(rows: u64, exact: bool) -> usize {
    // Where every pair is compared lists only order the rows and give the
    // layout its centroids, and more of them is better for that.
    let by_root = (rows as f64).sqrt() * if exact { 8.0 } else { 4.0 };
    (by_root as u64).min(rows / 32).max(1) as usize
}

impl Plan {
    /// Bytes of the lists' shape and centroids, held from the index stage on.
    fn table_bytes(&self) -> u64 {
        if self.shape.dim > 0 { self.index.lists as u64 * (self.shape.dim as u64 + 1) * 4 } else { 0 }
    }

    /// Memory of each stage as the plan stands.
    fn memory(&self) -> Vec<StagePlan> {
        let mut stages = Vec::new();
        let table = self.table_bytes();
        let mut add = |stage, bytes: u64| stages.push(StagePlan { stage, memory: FIXED + bytes });
        if self.shape.dim > 0 {
            add(Stage::Scan, scan::bytes(self));
            add(Stage::Index, index::bytes(self));
            let imported = if self.graph_k.is_some() { neighbors::import_bytes(self) + table } else { 0 };
            add(Stage::Neighbors, (neighbors::bytes(self) + self.neighbors.cache_bytes).max(imported));
        }
        if !self.map {
            add(Stage::Output, table + neighbors::export_bytes(self));
            return stages;
        }
        add(Stage::Affinity, table + affinity::bytes(self));
        add(Stage::Init, table + init::bytes(self));
        add(Stage::Layout, table + layout::bytes(self) + self.layout.cache_bytes);
        add(Stage::Output, table + layout::output_bytes(self));
        add(Stage::Quality, table + quality::bytes(self));
        stages
    }

    fn fits(&self, usable: u64) -> Result<()> {
        let largest = self.memory().into_iter().max_by_key(|s| s.memory);
        match largest {
            Some(StagePlan { stage, memory }) if memory - FIXED > usable => {
                // The margin grows with the budget: the smallest that would do leaves it whole.
                // Whole MiB, so that the number named can be typed back as it is read.
                let needed = (memory * MARGIN / (MARGIN - 1)).next_multiple_of(1 << 20) + (1 << 20);
                Err(Error::Budget { asked: self.config.memory, needed, stage: stage.name() })
            }
            _ => Ok(()),
        }
    }

    /// Gives each stage's free share to what makes it faster.
    fn spend(&mut self, usable: u64) {
        let rows = self.shape.rows;
        if self.shape.dim > 0 && self.config.batch_rows.is_none() {
            // Five such buffers exist at a time; together they get a sixth at most.
            let row = self.shape.dim as u64 * 4;
            let wanted = ((8 << 20) / row).min(usable / 30 / row).clamp(LEAST_BATCH as u64, 65_536).min(rows) as usize;
            let least = std::mem::replace(&mut self.batch_rows, wanted);
            while self.batch_rows > least && scan::bytes(self).max(index::bytes(self)) > usable {
                self.batch_rows = (self.batch_rows / 2).max(least);
            }
        }
        if self.shape.dim > 0 {
            let entry = index::shard_row_bytes(self.shape.dim);
            let free = usable.saturating_sub(index::bytes_beside_shard(self));
            self.index.shard_rows = (free / entry).clamp(self.index.shard_rows as u64, rows) as usize;
            // Packed vectors take what the vectors do, and a little padding a list.
            let packed =
                rows * (self.shape.dim as u64 + 1) * 4 + self.index.lists as u64 * 16 * 4 * self.shape.dim as u64;
            self.neighbors.cache_bytes = usable.saturating_sub(neighbors::bytes(self)).min(packed);
        }
        // Everything that goes through buckets fits with as few as will do.
        let most = affinity::most_buckets(self);
        let fits = |plan: &Plan| {
            let exchanged = if plan.graph_k.is_some() { neighbors::import_bytes(plan) } else { 0 };
            let exchanged = exchanged.max(if plan.map { affinity::bytes(plan) } else { neighbors::export_bytes(plan) });
            exchanged + plan.table_bytes() <= usable
        };
        let fewest = (1..=most).find(|&buckets| {
            self.affinity.buckets = buckets;
            fits(self)
        });
        self.affinity.buckets = fewest.unwrap_or(most);
        let least = self.affinity.buffer_bytes;
        while self.affinity.buffer_bytes < 64 << 20 {
            self.affinity.buffer_bytes *= 2;
            if !fits(self) {
                self.affinity.buffer_bytes = (self.affinity.buffer_bytes / 2).max(least);
                break;
            }
        }
        self.layout.cache_bytes =
            usable.saturating_sub(layout::bytes(self) + self.table_bytes()).min(layout::edge_bytes(self));
    }
}

/// What will run, for people to read.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { rows, dim } = self.shape;
        writeln!(
            f,
            "{rows} rows × {dim} components → {} components, {} neighbours",
            self.config.n_components,
            self.k()
        )?;
        if dim > 0 {
            let how = if self.index.exact {
                "every pair compared".into()
            } else {
                format!("recall {} or better", self.config.recall)
            };
            writeln!(
                f,
                "{} lists, {how}; {} epochs; {} threads; {} rows a batch",
                self.index.lists, self.layout.epochs, self.threads, self.batch_rows
            )?;
        }
        writeln!(f, "memory {}:", size(self.config.memory))?;
        for stage in &self.stages {
            writeln!(f, "  {:<10} {:>10}", stage.stage.name(), size(stage.memory))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(rows: u64, dim: usize) -> Input {
        Input { shape: Shape { rows, dim }, dtype: Dtype::F32, graph_k: None }
    }

    #[test]
    fn the_budget_never_decides_what_changes_the_map() {
        let plan = |memory| {
            Config { memory, threads: Some(2), ..Config::default() }.plan(&input(2_000_000, 128)).expect("fits")
        };
        let (small, large) = (plan(600 << 20), plan(16 << 30));
        assert_eq!((small.index.lists, small.index.sample_rows), (large.index.lists, large.index.sample_rows));
        assert_eq!(small.layout.epochs, large.layout.epochs);
        assert!(small.neighbors.cache_bytes < large.neighbors.cache_bytes);
        for stage in &small.stages {
            assert!(stage.memory <= 600 << 20, "{small}");
        }
    }

    #[test]
    fn too_small_a_budget_names_one_that_does() {
        let config = Config { memory: 10 << 20, threads: Some(2), ..Config::default() };
        let Err(Error::Budget { needed, .. }) = config.plan(&input(1_000_000, 64)) else { panic!("10 MiB cannot do") };
        let config = Config { memory: needed, ..config };
        config.plan(&input(1_000_000, 64)).expect("what was named does");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |config: Config, rows, dim, word: &str| {
            let error = config.plan(&input(rows, dim)).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        };
        let base = Config::default;
        check(base(), 0, 3, "0 rows");
        check(base(), 1, 3, "1 row");
        check(base(), 15, 3, "n_neighbors");
        check(Config { n_components: 4, ..base() }, 100, 3, "n_components");
        check(Config { min_dist: 2.0, ..base() }, 100, 3, "min_dist");
        check(Config { min_dist: f64::NAN, ..base() }, 100, 3, "min_dist");
        check(Config { spread: 0.0, ..base() }, 100, 3, "spread");
        check(Config { learning_rate: -1.0, ..base() }, 100, 3, "learning_rate");
        check(base(), u64::from(u32::MAX), 3, "not supported");
    }
}
