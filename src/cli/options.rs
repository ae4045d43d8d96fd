//! Options that several subcommands share, in the words of umap-learn and the
//! groups of `--help`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use lowland::{Config, Dtype, Job, Metric, Source};

use super::{Failure, size, stdin};
use crate::progress::{Console, LogFormat};

/// What is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(super) struct InputArgs {
    /// Column of the vectors: a list column, or numeric ones as 'a,b,c' or 'pc*' [default: the
    /// only list column]
    #[arg(long, value_name = "COL", display_order = 1)]
    pub(super) column: Option<String>,
}

/// How near is near.
#[derive(Debug, Args)]
#[command(next_help_heading = "Neighbours")]
pub(super) struct NeighborArgs {
    /// Neighbours of each point, itself not counted
    #[arg(long, value_name = "K", default_value_t = Config::default().n_neighbors)]
    pub(super) n_neighbors: usize,
    /// How distance is measured in the data [default: euclidean]
    #[arg(long, value_name = "METRIC")]
    pub(super) metric: Option<MetricArg>,
    /// Share of the true neighbours that the graph should hold, from 0 to 1; it holds all of them
    /// up to 65,536 rows
    #[arg(long, value_name = "SHARE", default_value_t = Config::default().recall)]
    pub(super) recall: f64,
}

/// The metrics, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MetricArg {
    Euclidean,
    Cosine,
}

impl From<MetricArg> for Metric {
    fn from(metric: MetricArg) -> Self {
        match metric {
            MetricArg::Euclidean => Metric::Euclidean,
            MetricArg::Cosine => Metric::Cosine,
        }
    }
}

/// What is used, and what is left.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
pub(super) struct ResourceArgs {
    /// Memory that the process may hold: 600MiB, 4GiB, 1.5g or plain bytes; never changes the
    /// result
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size::parse)]
    memory: u64,
    /// Worker threads; never changes the result [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Rows read at a time; never changes the result [default: about 8 MiB of them]
    #[arg(long, value_name = "ROWS")]
    batch_rows: Option<usize>,
    /// Seed of every random draw
    #[arg(long, value_name = "SEED", default_value_t = Config::default().seed)]
    seed: u64,
    /// Directory for finished stages, kept after success [default: the output's name and .run]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Keep the default run directory after success too
    #[arg(long)]
    keep_run: bool,
    /// Discard what an earlier run left, and begin anew
    #[arg(long)]
    restart: bool,
    /// Replace outputs that exist
    #[arg(long)]
    pub(super) force: bool,
}

impl ResourceArgs {
    /// Fills in the fields of `job` that these options are about.
    pub(super) fn apply(&self, job: &mut Job) {
        job.config = Config {
            memory: self.memory,
            threads: self.threads,
            batch_rows: self.batch_rows,
            seed: self.seed,
            ..job.config.clone()
        };
        job.run_dir.clone_from(&self.run_dir);
        (job.keep_run, job.restart, job.force) = (self.keep_run, self.restart, self.force);
    }
}

/// What is told meanwhile.
#[derive(Debug, Args)]
#[command(next_help_heading = "Progress")]
pub(super) struct ProgressArgs {
    /// What standard error is written as: bars or lines for people, one JSON object a line for
    /// programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Tell errors only
    #[arg(short, long)]
    quiet: bool,
}

impl ProgressArgs {
    pub(super) fn mode(&self) -> (LogFormat, bool) {
        (self.log_format, self.quiet)
    }
}

/// The vectors that a person named, and the place of those that came by
/// standard input, which goes when this is dropped.
pub(super) struct Opened {
    pub(super) source: Arc<dyn Source>,
    pub(super) spool: Option<stdin::Spool>,
}

/// Opens `sources`; standard input is copied beside the run directory first.
pub(super) fn open(sources: &[String], column: Option<&str>, job: &Job, console: &Console) -> Result<Opened, Failure> {
    if !sources.iter().any(|s| s == "-") {
        return Ok(Opened { source: lowland::open(sources, column)?, spool: None });
    }
    if sources.len() > 1 {
        return Err(Failure::usage("- (standard input) must be the only source"));
    }
    let (source, spool) = stdin::spool(&job.run_path(), column, console)?;
    Ok(Opened { source, spool: Some(spool) })
}

/// A component's type, as people call it.
pub(super) fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "f16",
        Dtype::F32 => "f32",
        Dtype::F64 => "f64",
        Dtype::U8 => "u8",
        Dtype::I8 => "i8",
        Dtype::Mixed => "mixed",
    }
}
