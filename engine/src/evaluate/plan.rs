//! What an evaluation is asked for, and the numbers and the memory that
//! follow from it and from the data's shape.

use serde::Serialize;

use super::points::{Ladder, Points};
use super::sweep::{Pairs, Sample};
use super::{clusters, order, silhouette};
use crate::budget::{Needs, base};
use crate::plan::{BatchSize, check_workers, threads};
use crate::{Error, Loader, Metric, Result};

/// Rows up to which every one is scored.
const ALL: u64 = 10_000;
/// Rows of a sample at most and at least, and the pairs of a sample row and another that it may
/// come to between them.
const MOST: u64 = 5_000;
const LEAST: u64 = 1_000;
const PAIRS: u64 = 5_000_000_000;
/// Neighbours that the scores look at, where the rows have so many.
const NEIGHBORS: usize = 15;
/// Bytes of a batch for each thread, where the budget has room for them; and its rows at least.
const BATCH_BYTES: u64 = 8 << 20;
const LEAST_BATCH: usize = 256;
/// The share of the budget that is not planned to be used.
const MARGIN: u64 = 20;

/// What is asked of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Neighbours of each row that the scores look at, below half of the rows. By default 15, or
    /// as many as there may be.
    pub n_neighbors: Option<usize>,
    /// Rows that are scored, each against all rows. By default all up to 10,000, and then 5,000
    /// (fewer above a million rows, and never below 1,000).
    pub sample: Option<usize>,
    /// How distance is measured in the data. In the map it is Euclidean. Default Euclidean.
    pub metric: Metric,
    /// Seed of every random draw. Default 42.
    pub seed: u64,
    /// Worker threads; by default one a core. Never changes the scores.
    pub threads: Option<usize>,
    /// Rows read at a time; by default about 8 MiB. Never changes the scores.
    pub batch_rows: Option<usize>,
    /// Bytes that the process may hold. Default 4 GiB. Never changes the scores.
    pub memory: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
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

/// The shape of what is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Input {
    /// Rows of the map.
    pub rows: u64,
    /// Components of the map.
    pub n_components: usize,
    /// Components of the vectors, where there are any.
    pub dim: Option<usize>,
    /// Bytes that reading the inputs takes beside what is read ([`lowland_io::Source::held_bytes`]).
    pub source_bytes: u64,
    /// Neighbours a row of a graph whose recall is asked for.
    pub graph_k: Option<usize>,
    /// How many labels there are in each column of labels.
    pub labels: Vec<usize>,
    /// Whether rows have weights.
    pub weights: bool,
}

/// A checked config and the numbers that follow from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// What was asked.
    pub config: Config,
    /// The shape it was planned for.
    pub input: Input,
    /// Neighbours that the scores look at; 0 where there are too few rows for any.
    pub k: usize,
    /// Rows that are scored.
    pub sample_rows: usize,
    /// Worker threads.
    pub threads: usize,
    /// Rows read at a time.
    pub batch_rows: usize,
    /// The most bytes that the process will hold.
    pub memory: u64,
}

impl Config {
    /// Checks the config against the inputs' shape and decides every number.
    ///
    /// # Errors
    /// [`Error::Config`] names the option that does not hold, [`Error::Budget`] the smallest
    /// budget that would do.
    pub fn plan(&self, input: &Input) -> Result<Plan> {
        let k = self.neighbors(input)?;
        let config = |field, why: String| Err(Error::Config { field, why });
        if input.rows > u64::from(u32::MAX - 1) {
            return Err(Error::Data { what: format!("{} rows: more than {} are not supported", input.rows, u32::MAX) });
        }
        if self.sample.is_some_and(|sample| sample < 2) {
            return config("sample", "a sample has at least 2 rows".into());
        }
        check_workers(self.threads, self.batch_rows)?;
        let by_default = if input.rows <= ALL { ALL } else { (PAIRS / input.rows).clamp(LEAST, MOST) };
        let sample_rows = self.sample.map_or(by_default, |sample| sample as u64).min(input.rows) as usize;
        let threads = threads(self.threads);
        let row = input.dim.unwrap_or(input.n_components).max(1) as u64 * 4;
        let mut size = BatchSize::between(LEAST_BATCH, threads as u64 * BATCH_BYTES / row, input.rows.max(1));
        let batch_rows = self.batch_rows.unwrap_or(size.now).min(input.rows.max(1) as usize);
        let mut plan =
            Plan { config: self.clone(), input: input.clone(), k, sample_rows, threads, batch_rows, memory: 0 };
        let base = base(0, threads);
        let usable = self.memory.saturating_sub(base + self.memory / MARGIN);
        while self.batch_rows.is_none() && needs(&plan).bytes() > usable && size.shrink() {
            plan.batch_rows = size.now;
        }
        plan.memory = needs(&plan).bytes() + base;
        if plan.memory > usable + base {
            // Whole MiB, so that the number named can be typed back as it is read.
            let needed = (plan.memory * MARGIN / (MARGIN - 1)).next_multiple_of(1 << 20) + (1 << 20);
            return Err(Error::Budget { asked: self.memory, needed, stage: "quality" });
        }
        Ok(plan)
    }

    fn neighbors(&self, input: &Input) -> Result<usize> {
        // Trustworthiness is defined below half of the rows.
        let most = if input.dim.is_some() { input.rows.saturating_sub(1) / 2 } else { input.rows.saturating_sub(1) };
        match self.n_neighbors {
            None => Ok(NEIGHBORS.min(most as usize)),
            Some(k) if k == 0 || k > 1000 => {
                Err(Error::Config { field: "n_neighbors", why: format!("{k} is not between 1 and 1000") })
            }
            Some(k) if k as u64 > most => {
                let why = format!("{k} neighbours asked of {} rows; {most} are the most", input.rows);
                Err(Error::Config { field: "n_neighbors", why })
            }
            Some(k) => Ok(k),
        }
    }
}

impl Plan {
    /// Neighbours of a sample row that are looked for in the data.
    pub(super) fn searched(&self) -> usize {
        let most = self.input.rows.saturating_sub(1) as usize;
        self.k.max(self.input.graph_k.unwrap_or(0)).min(most)
    }
}

/// What an evaluation holds.
pub fn needs(plan: &Plan) -> Needs {
    let input = &plan.input;
    let (rows, sample) = (input.rows, plan.sample_rows);
    let map = ("the map", Points::bytes(rows, input.n_components));
    let codes = rows * 4 * (input.labels.len() as u64 + u64::from(input.weights));
    let codes = ("labels and weights", codes);
    let mut needs = Needs::default().phase(
        "read",
        [map, codes, ("rows of the map and labels as they are read", reading_bytes(input) + input.source_bytes)],
    );
    if let Some(dim) = input.dim {
        let (k, searched, listed) = (plan.k, plan.searched(), input.graph_k.unwrap_or(0));
        let vectors = ("the sample's vectors", (sample * dim * 4) as u64);
        // A pair is sorted beside itself, and a graph is read in portions.
        let lists = sample as u64 * (k as u64 * 4 + listed as u64 * 4 + 48) + (listed as u64 * 8 * LISTED as u64);
        let found = Sample::bytes(sample, dim, searched)
            + 2 * Pairs::bytes((sample * (k + listed)) as u64)
            + 2 * sample as u64 * Ladder::bytes(k)
            + Sample::climb_bytes(plan.threads);
        needs = needs
            .phase(
                "neighbours",
                [
                    map,
                    codes,
                    vectors,
                    ("the sample's neighbours and ranks", lists + found),
                    ("batches", Loader::bytes(plan.batch_rows, dim) + input.source_bytes),
                    ("a batch, packed", Sample::batch_bytes(plan.batch_rows, dim)),
                ],
            )
            .phase("distances", [map, codes, vectors, ("pairs and ranks", order::bytes(sample))]);
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
pub(super) const LISTED: usize = 4096;

/// Rows of the map that are read at a time.
pub const READ_ROWS: usize = 16_384;
/// Labels of one column at most.
pub const MOST_LABELS: usize = 100_000;
/// Bytes that the texts of one column's labels may come to.
pub const LABEL_BYTES: usize = 8 << 20;

/// What reading holds: rows of the map, and the texts of one column's labels while they get their
/// codes, once in a batch and once in a table.
fn reading_bytes(input: &Input) -> u64 {
    let rows = input.rows.min(READ_ROWS as u64);
    let labels = if input.labels.is_empty() { 0 } else { LABEL_BYTES.min(input.rows as usize * 1024) as u64 * 3 };
    rows * input.n_components as u64 * 8 + labels + (1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(rows: u64) -> Input {
        let labels = vec![20];
        Input { rows, n_components: 2, dim: Some(128), source_bytes: 0, graph_k: None, labels, weights: false }
    }

    #[test]
    fn samples_follow_from_the_rows() {
        let sample = |rows, config: &Config| config.plan(&input(rows)).expect("a plan").sample_rows;
        let default = Config::default();
        for (rows, expected) in
            [(5, 5), (10_000, 10_000), (10_001, 5_000), (1_000_000, 5_000), (2_000_000, 2_500), (100_000_000, 1_000)]
        {
            assert_eq!(sample(rows, &default), expected, "{rows}");
        }
        assert_eq!(sample(500, &Config { sample: Some(900), ..default.clone() }), 500);
        assert_eq!(sample(50_000, &Config { sample: Some(50_000), ..default }), 50_000);
    }

    #[test]
    fn neighbours_are_below_half_of_the_rows() {
        let k = |rows, n_neighbors| Config { n_neighbors, ..Config::default() }.plan(&input(rows)).map(|plan| plan.k);
        for (rows, expected) in [(0, 0), (1, 0), (2, 0), (3, 1), (30, 14), (31, 15), (1000, 15)] {
            assert_eq!(k(rows, None).expect("a plan"), expected, "{rows}");
        }
        assert_eq!(k(21, Some(10)).expect("a plan"), 10);
        for asked in [0, 10, 1001] {
            let error = k(20, Some(asked)).expect_err("refused").to_string();
            assert!(error.starts_with("n_neighbors"), "{error}");
        }
        let no_source = Input { dim: None, ..input(20) };
        let config = Config { n_neighbors: Some(19), ..Config::default() };
        assert_eq!(config.plan(&no_source).expect("a plan").k, 19);
    }

    #[test]
    fn the_smallest_budget_that_is_named_will_do() {
        let input = input(3_000_000);
        let Err(Error::Budget { needed, .. }) = Config { memory: 1 << 20, ..Config::default() }.plan(&input) else {
            panic!("1 MiB for 24 MB of map");
        };
        let config = Config { memory: needed, ..Config::default() };
        let plan = config.plan(&input).expect("fits");
        assert!(plan.memory <= needed && plan.memory > needed - needed / 10, "{} of {needed}", plan.memory);
        let larger = Config { memory: 4 << 30, ..config }.plan(&input).expect("fits");
        assert!(larger.batch_rows > plan.batch_rows);
        assert_eq!((larger.sample_rows, larger.k), (plan.sample_rows, plan.k));
    }
}
