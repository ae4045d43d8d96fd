//! The options of an evaluation, and the parameters and the memory that follow from the options and
//! the inputs' shape.

use lowland_io::Loader;
use serde::Serialize;

use super::points::{MapPoints, RankCounts};
use super::sample_sweep::{RequestedPairs, SampleQueries};
use super::{clusters, distance_order, silhouette};
use crate::budget::{MemoryNeeds, base_bytes, smallest, usable};
use crate::plan::{BatchSize, check_workers, threads};
use crate::{Error, Metric, Result};

/// Up to this number of rows, every row is scored.
const MAX_EXACT_ROWS: u64 = 10_000;
/// Above that, the default sample: the largest and the smallest number of sample rows, and the
/// number of pairs of a sample row and any row that is aimed at in between.
const MAX_SAMPLE_ROWS: u64 = 5_000;
const MIN_SAMPLE_ROWS: u64 = 1_000;
const MAX_SAMPLE_PAIRS: u64 = 5_000_000_000;
/// The default number of neighbours, if there are enough rows.
const NEIGHBORS: usize = 15;
/// The bytes of a batch for each thread if the budget allows, and the least rows of a batch.
const BATCH_BYTES: u64 = 8 << 20;
const MIN_BATCH_ROWS: usize = 256;

/// The options of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationConfig {
    /// Number of neighbours that the scores use, below half of the rows. Default: 15, or the
    /// largest possible number if there are few rows.
    pub n_neighbors: Option<usize>,
    /// Number of rows that are scored, each against all rows. Default: all rows up to 10,000, then
    /// 5,000 (fewer above a million rows, but never below 1,000).
    pub sample: Option<usize>,
    /// The metric in the data. Default: Euclidean. The metric in the map is always Euclidean.
    pub metric: Metric,
    /// Seed of every random draw. Default 42.
    pub seed: u64,
    /// Worker threads. Default: one per core. Does not change the scores.
    pub threads: Option<usize>,
    /// Rows of a batch. Default: about 8 MiB for each thread. Does not change the scores.
    pub batch_rows: Option<usize>,
    /// Memory budget in bytes. Default: 4 GiB. Does not change the scores.
    pub memory: u64,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        EvaluationConfig {
            n_neighbors: None,
            sample: None,
            metric: Metric::Euclidean,
            seed: 42,
            threads: None,
            batch_rows: None,
            memory: 4 << 30,
        }
    }
}

/// The shape of the inputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationInput {
    /// Rows of the map.
    pub rows: u64,
    /// Components of the map.
    pub n_components: usize,
    /// Components of the vectors, if there is a source.
    pub dim: Option<usize>,
    /// Bytes that reading the inputs holds beside the rows returned
    /// ([`lowland_io::Source::held_bytes`]).
    pub source_bytes: u64,
    /// Neighbours per row of the graph whose recall is measured, if any.
    pub graph_k: Option<usize>,
    /// The number of different labels in each column of labels.
    pub labels: Vec<usize>,
    /// Whether rows have weights.
    pub weights: bool,
}

/// Checked options and all parameters that follow from them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationPlan {
    /// The options.
    pub config: EvaluationConfig,
    /// The shape for which the plan was made.
    pub input: EvaluationInput,
    /// Number of neighbours that the scores use; 0 if there are too few rows for any.
    pub k: usize,
    /// Number of rows that are scored.
    pub sample_rows: usize,
    /// Worker threads.
    pub threads: usize,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// The most bytes that the process will hold.
    pub memory: u64,
}

impl EvaluationConfig {
    /// Checks the options against the inputs' shape and decides every parameter.
    ///
    /// # Errors
    /// [`Error::Config`] names an invalid option, [`Error::Budget`] the smallest sufficient budget,
    /// [`Error::Data`] too many rows.
    pub fn plan(&self, input: &EvaluationInput) -> Result<EvaluationPlan> {
        let k = self.neighbors(input)?;
        let config = |field, why: String| Err(Error::Config { field, why });
        if input.rows > u64::from(u32::MAX - 1) {
            return Err(Error::Data { what: format!("{} rows: more than {} are not supported", input.rows, u32::MAX) });
        }
        if self.sample.is_some_and(|sample| sample < 2) {
            return config("sample", "a sample needs at least 2 rows".into());
        }
        check_workers(self.threads, self.batch_rows)?;
        let by_default = if input.rows <= MAX_EXACT_ROWS {
            MAX_EXACT_ROWS
        } else {
            (MAX_SAMPLE_PAIRS / input.rows).clamp(MIN_SAMPLE_ROWS, MAX_SAMPLE_ROWS)
        };
        let sample_rows = self.sample.map_or(by_default, |sample| sample as u64).min(input.rows) as usize;
        let threads = threads(self.threads);
        let row = input.dim.unwrap_or(input.n_components).max(1) as u64 * 4;
        let mut size = BatchSize::new(MIN_BATCH_ROWS, threads as u64 * BATCH_BYTES / row, input.rows.max(1));
        let batch_rows = self.batch_rows.unwrap_or(size.now).min(input.rows.max(1) as usize);
        let mut plan = EvaluationPlan {
            config: self.clone(),
            input: input.clone(),
            k,
            sample_rows,
            threads,
            batch_rows,
            memory: 0,
        };
        let base = base_bytes(0, threads);
        let usable = usable(self.memory, base);
        while self.batch_rows.is_none() && needs(&plan).bytes() > usable && size.shrink() {
            plan.batch_rows = size.now;
        }
        plan.memory = needs(&plan).bytes() + base;
        if plan.memory > usable + base {
            let needed = smallest(needs(&plan).bytes(), base);
            return Err(Error::Budget { asked: self.memory, needed, stage: "quality" });
        }
        Ok(plan)
    }

    fn neighbors(&self, input: &EvaluationInput) -> Result<usize> {
        // Trustworthiness is defined for less than half of the rows.
        let most = if input.dim.is_some() { input.rows.saturating_sub(1) / 2 } else { input.rows.saturating_sub(1) };
        match self.n_neighbors {
            None => Ok(NEIGHBORS.min(most as usize)),
            Some(k) if k == 0 || k > 1000 => {
                Err(Error::Config { field: "n_neighbors", why: format!("{k} is not between 1 and 1000") })
            }
            Some(k) if k as u64 > most => {
                let why = format!("{k} neighbours are too many for {} rows; the maximum is {most}", input.rows);
                Err(Error::Config { field: "n_neighbors", why })
            }
            Some(k) => Ok(k),
        }
    }
}

impl EvaluationPlan {
    /// Returns the number of neighbours in the data that are searched for each sample row.
    pub(super) fn neighbors_searched(&self) -> usize {
        let most = self.input.rows.saturating_sub(1) as usize;
        self.k.max(self.input.graph_k.unwrap_or(0)).min(most)
    }
}

/// Returns the memory needs of an evaluation, phase by phase.
pub fn needs(plan: &EvaluationPlan) -> MemoryNeeds {
    let input = &plan.input;
    let (rows, sample) = (input.rows, plan.sample_rows);
    let map = ("the map", MapPoints::bytes(rows, input.n_components));
    let codes = rows * 4 * (input.labels.len() as u64 + u64::from(input.weights));
    let codes = ("labels and weights", codes);
    let mut needs = MemoryNeeds::default().phase(
        "read",
        [map, codes, ("rows of the map and labels as they are read", reading_bytes(input) + input.source_bytes)],
    );
    if let Some(dim) = input.dim {
        let (k, searched, listed) = (plan.k, plan.neighbors_searched(), input.graph_k.unwrap_or(0));
        let vectors = ("the sample's vectors", (sample * dim * 4) as u64);
        // The pairs are sorted beside a copy, and a graph is read in portions.
        let lists =
            sample as u64 * (k as u64 * 4 + listed as u64 * 4 + 48) + (listed as u64 * 8 * GRAPH_READ_ROWS as u64);
        let found = SampleQueries::bytes(sample, dim, searched)
            + 2 * RequestedPairs::bytes((sample * (k + listed)) as u64)
            + 2 * sample as u64 * RankCounts::bytes(k)
            + SampleQueries::rank_count_bytes(plan.threads);
        needs = needs
            .phase(
                "neighbours",
                [
                    map,
                    codes,
                    vectors,
                    ("the sample's neighbours and ranks", lists + found),
                    ("batches", Loader::bytes(plan.batch_rows, dim) + input.source_bytes),
                    ("a batch, packed", SampleQueries::batch_bytes(plan.batch_rows, dim)),
                ],
            )
            .phase("distances", [map, codes, vectors, ("pairs and ranks", distance_order::bytes(sample))]);
    }
    for &labels in &input.labels {
        let near = sample as u64 * (plan.k as u64 * 4 + 48);
        let silhouettes = silhouette::bytes(sample, labels, plan.threads);
        let clusters = clusters::bytes(rows, input.n_components, labels);
        needs = needs.phase("labels", [map, codes, ("silhouettes and clusters", near + silhouettes.max(clusters))]);
    }
    needs
}

/// Rows of a graph that are read at a time.
pub(super) const GRAPH_READ_ROWS: usize = 4096;

/// Rows of the map that are read at a time.
pub const READ_ROWS: usize = 16_384;
/// The most different labels of one column.
pub const MAX_LABELS: usize = 100_000;
/// The most bytes that the label texts of one column may take.
pub const LABEL_BYTES: usize = 8 << 20;

/// Returns the bytes that reading holds: a portion of the map, and the texts of one column's labels
/// while codes are assigned, once in the batch and once in a table.
fn reading_bytes(input: &EvaluationInput) -> u64 {
    let rows = input.rows.min(READ_ROWS as u64);
    let labels = if input.labels.is_empty() { 0 } else { LABEL_BYTES.min(input.rows as usize * 1024) as u64 * 3 };
    rows * input.n_components as u64 * 8 + labels + (1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(rows: u64) -> EvaluationInput {
        let labels = vec![20];
        EvaluationInput {
            rows,
            n_components: 2,
            dim: Some(128),
            source_bytes: 0,
            graph_k: None,
            labels,
            weights: false,
        }
    }

    #[test]
    fn sample_size_follows_from_the_rows() {
        let sample = |rows, config: &EvaluationConfig| config.plan(&input(rows)).expect("a plan").sample_rows;
        let default = EvaluationConfig::default();
        for (rows, expected) in
            [(5, 5), (10_000, 10_000), (10_001, 5_000), (1_000_000, 5_000), (2_000_000, 2_500), (100_000_000, 1_000)]
        {
            assert_eq!(sample(rows, &default), expected, "{rows}");
        }
        assert_eq!(sample(500, &EvaluationConfig { sample: Some(900), ..default.clone() }), 500);
        assert_eq!(sample(50_000, &EvaluationConfig { sample: Some(50_000), ..default }), 50_000);
    }

    #[test]
    fn n_neighbors_is_below_half_of_the_rows() {
        let k = |rows, n_neighbors| {
            EvaluationConfig { n_neighbors, ..EvaluationConfig::default() }.plan(&input(rows)).map(|plan| plan.k)
        };
        for (rows, expected) in [(0, 0), (1, 0), (2, 0), (3, 1), (30, 14), (31, 15), (1000, 15)] {
            assert_eq!(k(rows, None).expect("a plan"), expected, "{rows}");
        }
        assert_eq!(k(21, Some(10)).expect("a plan"), 10);
        for asked in [0, 10, 1001] {
            let error = k(20, Some(asked)).expect_err("refused").to_string();
            assert!(error.starts_with("n_neighbors"), "{error}");
        }
        let no_source = EvaluationInput { dim: None, ..input(20) };
        let config = EvaluationConfig { n_neighbors: Some(19), ..EvaluationConfig::default() };
        assert_eq!(config.plan(&no_source).expect("a plan").k, 19);
    }

    #[test]
    fn smallest_budget_named_is_enough() {
        let input = input(3_000_000);
        let Err(Error::Budget { needed, .. }) =
            EvaluationConfig { memory: 1 << 20, ..EvaluationConfig::default() }.plan(&input)
        else {
            panic!("1 MiB for 24 MB of map");
        };
        let config = EvaluationConfig { memory: needed, ..EvaluationConfig::default() };
        let plan = config.plan(&input).expect("fits");
        assert!(plan.memory <= needed && plan.memory > needed - needed / 10, "{} of {needed}", plan.memory);
        let larger = EvaluationConfig { memory: 4 << 30, ..config }.plan(&input).expect("fits");
        assert!(larger.batch_rows > plan.batch_rows);
        assert_eq!((larger.sample_rows, larger.k), (plan.sample_rows, plan.k));
    }
}
