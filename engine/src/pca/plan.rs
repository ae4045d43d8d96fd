//! Plans a PCA run: from the request and the source's shape to everything that will run.
//!
//! Invariant: the solver depends only on the width and the configuration. The memory budget only decides
//! how many rows are read at a time.

use std::fmt;

use lowland_io::{Loader, MapWriter, Shape};
use serde::{Deserialize, Serialize};

use super::{BlockwisePca, Covariance, RandomizedPca};
use crate::budget::{MemoryNeeds, base_bytes, smallest, usable};
use crate::error::format_bytes;
use crate::plan::{BATCH_BYTES, BatchSize, MAX_COVARIANCE_COMPONENTS, MIN_BATCH_ROWS, check_workers, threads};
use crate::{Error, Metric, PlanInput, Result, Stage, StagePlan};

/// The largest number of components whose covariance is decomposed: a matrix of 512 MiB, and some minutes
/// that cannot be interrupted.
const WIDEST_COVARIANCE: usize = 8192;

/// The algorithm that finds the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// Covariance up to 2,048 components, randomised above.
    #[default]
    Auto,
    /// Exact, through the covariance matrix: memory grows with the square of the width, which is at most 8,192.
    Covariance,
    /// A running truncated SVD in one pass: [`BlockwisePca`].
    Incremental,
    /// Up to six passes, with a reported residual: [`RandomizedPca`].
    Randomized,
}

impl Solver {
    /// Returns the solver's name.
    pub fn name(self) -> &'static str {
        match self {
            Solver::Auto => "auto",
            Solver::Covariance => "covariance",
            Solver::Incremental => "incremental",
            Solver::Randomized => "randomized",
        }
    }
}

/// The request. [`PcaConfig::plan`] is its only validator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PcaConfig {
    /// Number of axes, at most min(rows, components of a row). Default 2.
    pub n_components: usize,
    /// The algorithm. Default auto.
    pub solver: Solver,
    /// Whether scores are scaled to variance 1 along every axis. Default false.
    pub whiten: bool,
    /// Cosine scales rows to length 1 first, as for a map. Default Euclidean, which leaves rows unchanged.
    pub metric: Metric,
    /// Seed of the randomised solver. Default 42.
    pub seed: u64,
    /// Worker threads, by default one per core. Never changes the scores.
    pub threads: Option<usize>,
    /// Rows read at a time, by default about 1 MiB for each thread. Never changes the scores.
    pub batch_rows: Option<usize>,
    /// Bytes that the process may hold. Default 4 GiB. Never changes the scores.
    pub memory: u64,
}

impl Default for PcaConfig {
    fn default() -> Self {
        PcaConfig {
            n_components: 2,
            solver: Solver::Auto,
            whiten: false,
            metric: Metric::Euclidean,
            seed: 42,
            threads: None,
            batch_rows: None,
            memory: 4 << 30,
        }
    }
}

/// Everything that will run. Created only by [`PcaConfig::plan`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PcaPlan {
    /// The request.
    pub config: PcaConfig,
    /// Rows and components of the source.
    pub shape: Shape,
    /// The algorithm; never [`Solver::Auto`].
    pub solver: Solver,
    /// The largest number of passes over the source: those that find the axes, and one that writes the scores.
    pub passes: usize,
    /// Worker threads.
    pub threads: usize,
    /// Rows read at a time.
    pub batch_rows: usize,
    /// Bytes of a row in the source's files.
    pub source_row_bytes: usize,
    /// Bytes that the source holds while it is read.
    pub source_bytes: u64,
    /// Memory and I/O: `scan` finds the axes, `output` writes the scores.
    pub stages: Vec<StagePlan>,
}

impl AsRef<[StagePlan]> for PcaPlan {
    fn as_ref(&self) -> &[StagePlan] {
        &self.stages
    }
}

impl PcaConfig {
    /// Checks the configuration against the data's shape and decides every number.
    ///
    /// # Errors
    /// [`Error::Config`] names an invalid option, [`Error::Data`] what the data lack, [`Error::Budget`]
    /// the smallest sufficient budget.
    pub fn plan(&self, input: &PlanInput) -> Result<PcaPlan> {
        let Shape { rows, dim } = input.shape;
        self.check(input.shape)?;
        let threads = threads(self.threads);
        let solver = match self.solver {
            Solver::Auto if dim > MAX_COVARIANCE_COMPONENTS => Solver::Randomized,
            Solver::Auto => Solver::Covariance,
            asked => asked,
        };
        let mut plan = PcaPlan {
            config: self.clone(),
            shape: input.shape,
            solver,
            passes: 1 + if solver == Solver::Randomized { RandomizedPca::PASSES } else { 1 },
            threads,
            batch_rows: (self.batch_rows.unwrap_or(MIN_BATCH_ROWS) as u64).min(rows) as usize,
            source_row_bytes: input.dtype.row_bytes(dim),
            source_bytes: input.source_bytes + input.resident_bytes,
            stages: Vec::new(),
        };
        let usable = usable(self.memory, base_bytes(0, threads));
        plan.fits(usable)?;
        if self.batch_rows.is_none() {
            let row = dim as u64 * 4;
            let mut size = BatchSize::new(MIN_BATCH_ROWS, threads as u64 * BATCH_BYTES / row, rows);
            plan.batch_rows = size.now;
            while plan.fits(usable).is_err() && size.shrink() {
                plan.batch_rows = size.now;
            }
        }
        plan.stages = plan.describe();
        Ok(plan)
    }

    fn check(&self, Shape { rows, dim }: Shape) -> Result<()> {
        let config = |field, why: String| Err(Error::Config { field, why });
        if rows < 2 {
            let row = if rows == 1 { "row" } else { "rows" };
            let what = format!("the source has {rows} {row}; principal components need at least 2");
            return Err(Error::Data { what });
        }
        let most = rows.min(dim as u64);
        if self.n_components == 0 || self.n_components as u64 > most {
            let why =
                format!("{} is not between 1 and {most}: there are {rows} rows of {dim} components", self.n_components);
            return config("n_components", why);
        }
        if self.solver == Solver::Covariance && dim > WIDEST_COVARIANCE {
            let why = format!(
                "covariance supports at most {WIDEST_COVARIANCE} components, and the vectors have {dim}; randomized supports any number"
            );
            return config("solver", why);
        }
        check_workers(self.threads, self.batch_rows)
    }
}

impl PcaPlan {
    /// Returns the peak memory of all stages, in bytes.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(|stage| stage.memory).max().unwrap_or(0)
    }

    /// Returns the memory that each stage holds.
    pub(super) fn needs(&self) -> [(Stage, MemoryNeeds); 2] {
        let (rows, dim, n) = (self.shape.rows, self.shape.dim as u64, self.config.n_components as u64);
        let batches = ("batches", Loader::bytes(self.batch_rows, self.shape.dim).saturating_add(self.source_bytes));
        let axes = 8 * dim * (n + 1);
        let solver = match self.solver {
            Solver::Auto | Solver::Covariance => Covariance::bytes(self.shape.dim) + axes,
            Solver::Incremental => BlockwisePca::bytes(self.shape.dim, self.config.n_components),
            Solver::Randomized => {
                // Each thread combines two vectors when residuals are computed.
                RandomizedPca::bytes(self.shape.dim, self.config.n_components) + 16 * dim * self.threads as u64
            }
        };
        let read = MemoryNeeds::default().phase("read", [batches, ("principal components", solver)]);
        let write = MemoryNeeds::default().phase(
            "write",
            [
                batches,
                ("the axes, and scaled", 2 * axes),
                ("rows around the mean", 8 * dim * self.threads as u64),
                ("scores of a batch", 4 * n * self.batch_rows as u64),
                ("the scores' file", MapWriter::bytes(rows, self.config.n_components)),
                // Allows for texts in a few columns.
                ("kept columns", (16 << 20).min(rows.saturating_mul(64))),
                ("the axes' file", 1 << 20),
            ],
        );
        [(Stage::Scan, read), (Stage::Output, write)]
    }

    fn fits(&self, usable: u64) -> Result<()> {
        match self.needs().iter().map(|(stage, needs)| (needs.bytes(), stage)).max_by_key(|(bytes, _)| *bytes) {
            Some((bytes, stage)) if bytes > usable => {
                let needed = smallest(bytes, base_bytes(0, self.threads));
                Err(Error::Budget { asked: self.config.memory, needed, stage: stage.name() })
            }
            _ => Ok(()),
        }
    }

    fn describe(&self) -> Vec<StagePlan> {
        let source = self.shape.rows.saturating_mul(self.source_row_bytes as u64);
        let scores = self.shape.rows.saturating_mul(8 + 4 * self.config.n_components as u64);
        let stages = self.needs().map(|(stage, needs)| {
            let passes = if stage == Stage::Scan { self.passes as u64 - 1 } else { 1 };
            StagePlan {
                stage,
                memory: base_bytes(0, self.threads) + needs.bytes(),
                holds: needs.largest().map_or(Vec::new(), |phase| phase.parts.clone()),
                read: source.saturating_mul(passes),
                written: if stage == Stage::Output { scores } else { 0 },
                disk: 0,
                spills: None,
            }
        });
        stages.into()
    }
}

/// Prints the plan for people.
impl fmt::Display for PcaPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { rows, dim } = self.shape;
        let n = self.config.n_components;
        let most = if self.solver == Solver::Randomized { "up to " } else { "" };
        let axes = if n == 1 { "principal component" } else { "principal components" };
        writeln!(f, "{rows} rows × {dim} components → {n} {axes}")?;
        writeln!(
            f,
            "solver {}, {most}{} passes; {} threads; {} rows a batch",
            self.solver.name(),
            self.passes,
            self.threads,
            self.batch_rows
        )?;
        writeln!(f, "memory {}:", format_bytes(self.config.memory))?;
        for stage in &self.stages {
            writeln!(f, "  {:<10} {:>10}", stage.stage.name(), format_bytes(stage.memory))?;
        }
        Ok(())
    }
}
