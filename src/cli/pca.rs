//! `lowland pca`: computes principal components, and writes the scores of every row.

use std::path::PathBuf;

use clap::ValueEnum;
use lowland::pca::{PcaConfig, PcaJob, PcaReport, Solver};
use lowland::{Error, Metric, RunOptions, check_output};
use serde_json::{Value, json};

use super::options::{self, InputArgs, InvalidArgs, ProgressArgs};
use super::report::{is_device, write_report};
use super::{Failure, names, print};
use crate::progress::Console;
use lowland::budget::{Memory, parse_memory};
use lowland::machine::Machine;

const EXAMPLES: &str = "\
Examples:
  lowland pca vectors.parquet -o scores.parquet --n-components 50
  lowland pca 'shards/*.parquet' -o scores.arrow --id name --keep section --whiten
  lowland pca vectors.npy -o scores.npy --components axes.npy --report pca.json
  lowland embed scores.parquet --column 'c*' -o map.parquet

The axes are found in one pass over the source (up to 6 with --solver randomized),
and one more writes the scores: x, y, z, or c0, c1, … beyond three. In every axis
the largest entry is positive. A row's scores are (row - mean) · axes; the report
has the mean, --components the axes.

Outputs get their names only when they are complete. A run that is stopped (Ctrl-C)
or fails leaves nothing, and the same command begins again.";

/// Find principal components and write every row's scores
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct PcaArgs {
    /// Files, directories, globs or addresses (s3://…) of vectors; - for standard input
    #[arg(value_name = "SOURCE", required = true, display_order = 0, help_heading = "Input")]
    sources: Vec<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    invalid: InvalidArgs,

    /// The scores: .parquet, .arrow or .npy
    #[arg(short, long, value_name = "FILE", display_order = 0, help_heading = "Output")]
    output: PathBuf,
    /// Column that names the rows in the scores [default: row numbers]
    #[arg(long, value_name = "COL", help_heading = "Output")]
    id: Option<String>,
    /// Columns to copy to the scores: 'a,b', or --keep several times; a name with commas as '"a,b"'
    #[arg(long, value_name = "COLS", help_heading = "Output")]
    keep: Vec<String>,
    /// Names of the scores' columns, one for each component [default: x, y, z; c0, c1, … for more than
    /// three]
    #[arg(long, value_name = "NAMES", help_heading = "Output")]
    coordinates: Option<String>,
    /// Write the axes: components × dimensions, float64
    #[arg(long, value_name = "FILE.npy", help_heading = "Output")]
    components: Option<PathBuf>,
    /// Write the report, which contains the mean, as JSON; - for standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Replace outputs that exist
    #[arg(long, help_heading = "Output")]
    force: bool,

    #[arg(long, value_name = "N", help_heading = "Components")]
    #[arg(help = format!("Components to find [default: {}, or as many as the source has]", PcaConfig::default().n_components))]
    n_components: Option<usize>,
    /// Scale the scores to variance 1 along every axis
    #[arg(long, help_heading = "Components")]
    whiten: bool,
    /// euclidean takes the rows as they are; cosine scales each to length 1 first; correlation subtracts
    /// each row's mean before that
    #[arg(long, value_name = "METRIC", default_value = "euclidean", value_parser = parse_metric)]
    #[arg(help_heading = "Components")]
    metric: Metric,
    /// covariance is exact; incremental takes one pass and is approximate; randomized takes a few
    /// passes and is closer; auto is covariance up to 2,048 dimensions and randomized above
    #[arg(long, value_name = "SOLVER", default_value = "auto", help_heading = "Components")]
    solver: SolverArg,
    /// Seed of the randomized solver
    #[arg(long, value_name = "SEED", default_value_t = PcaConfig::default().seed, help_heading = "Components")]
    seed: u64,

    /// Memory that the process may hold: 600MiB, 4GiB, 1.5g, plain bytes, or a share such as 50%;
    /// never changes the result [default: half of what the machine or its cgroup grants]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, help_heading = "Resources")]
    memory: Option<Memory>,
    /// Worker threads; never changes the result [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    threads: Option<usize>,
    /// Rows read at a time; never changes the result [default: about 1 MiB for each thread]
    #[arg(long, value_name = "ROWS", help_heading = "Resources")]
    batch_rows: Option<usize>,

    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

/// Parses a metric under which rows can be preprocessed to be Euclidean, as the components require.
fn parse_metric(text: &str) -> Result<Metric, String> {
    let known = [Metric::Euclidean, Metric::Cosine, Metric::Correlation];
    let found = Metric::from_name(text).filter(|metric| known.contains(metric));
    found.ok_or_else(|| format!("components need one of the metrics {}", known.map(Metric::name).join(", ")))
}

/// The solvers, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SolverArg {
    Auto,
    Covariance,
    Incremental,
    Randomized,
}

impl From<SolverArg> for Solver {
    fn from(solver: SolverArg) -> Self {
        match solver {
            SolverArg::Auto => Solver::Auto,
            SolverArg::Covariance => Solver::Covariance,
            SolverArg::Incremental => Solver::Incremental,
            SolverArg::Randomized => Solver::Randomized,
        }
    }
}

pub(super) fn run(args: &PcaArgs, console: &Console) -> Result<(), Failure> {
    check_files(args)?;
    let machine = Machine::detect();
    let config = args.config(options::budget(args.memory, &machine)?);
    // Streams are copied to a directory beside this job's run directory.
    let beside = RunOptions::beside(&args.output).dir.unwrap_or_default();
    let opened = options::open(&args.sources, args.input.column.as_deref(), (&beside, None), console)?;
    let mut job = PcaJob::new(opened.source, &args.output);
    job.config = config;
    let there = job.source.columns();
    (job.components, job.force) = (args.components.clone(), args.force);
    job.id = args.id.as_ref().map(|id| names::column("--id", id, &there)).transpose()?;
    job.keep = names::columns("--keep", &args.keep, &there)?;
    names::check_kept(job.id.as_ref(), &job.keep)?;
    if let Some(given) = &args.coordinates {
        job.coordinates = names::split(given, &[]).map_err(|why| Failure::usage(format!("--coordinates: {why}")))?;
    }
    job.invalid = args.invalid.invalid.unwrap_or_default();
    job.check_rows(console)?;
    if let Some(note) = job.left_out()?.and_then(|left_out| left_out.note()) {
        console.note("rows-left-out", note);
    }
    if args.n_components.is_none() {
        job.config.n_components = as_many_as_there_are(&job, console)?;
    }
    let planned = options::plan_within_grant(job.config.memory, &machine, |memory| {
        job.config.memory = memory;
        job.plan()
    });
    let plan = planned.map_err(|failure| suggest_solver(failure, &mut job))?;
    console.planned(&plan, || json!(plan));
    let (_, report) = job.run(&plan, console).map_err(|error| match error.is_cancelled() {
        true => Failure::leaving(error, "nothing is kept; the same command begins again".into()),
        false => error.into(),
    })?;

    let to_stdout = args.report.as_ref().is_some_and(|r| r.as_os_str() == "-");
    let mut files = vec![("scores", args.output.as_path())];
    files.extend(args.components.as_deref().map(|path| ("axes", path)));
    files.extend(args.report.as_deref().filter(|_| !to_stdout).map(|path| ("report", path)));
    let full = as_json(&report, &job, args, &files);
    if let Some(path) = &args.report {
        let text = format!("{full:#}\n");
        let written = if to_stdout { print(&text) } else { write_report(path, &text) };
        written.map_err(|f| Failure::leaving(*f.error, format!("the scores {} are written", args.output.display())))?;
    }
    console.done(&report, &full, &files);
    drop((job, opened.spool));
    Ok(())
}

impl PcaArgs {
    fn config(&self, memory: u64) -> PcaConfig {
        PcaConfig {
            n_components: self.n_components.unwrap_or(PcaConfig::default().n_components),
            solver: self.solver.into(),
            whiten: self.whiten,
            metric: self.metric,
            seed: self.seed,
            threads: self.threads,
            batch_rows: self.batch_rows,
            memory,
        }
    }
}

/// Refuses invalid output names before anything is read.
fn check_files(args: &PcaArgs) -> Result<(), Failure> {
    check_output(&args.output, args.force)?;
    if let Some(path) = &args.components {
        check_output(path, args.force)?;
    }
    if let Some(path) = args.report.as_ref().filter(|p| p.as_os_str() != "-" && !is_device(p)) {
        if *path == args.output || Some(path) == args.components.as_ref() {
            return Err(Failure::usage(format!("--report: {} is also the name of another output", path.display())));
        }
        check_output(path, args.force)?;
    }
    Ok(())
}

/// Returns the default number of components, limited by the source; a note reports the limit.
fn as_many_as_there_are(job: &PcaJob, console: &Console) -> Result<usize, Failure> {
    let usual = job.config.n_components;
    let rows = job.source.shape().rows - job.left_out()?.map_or(0, |left_out| left_out.rows);
    let (dim, rows) = (job.source.shape().dim, usize::try_from(rows).unwrap_or(usize::MAX));
    let most = dim.min(rows).max(1);
    if most < usual {
        console.note("few-components", format!("few components: n_components is limited to {most} instead of {usual}"));
    }
    Ok(usual.min(most))
}

/// If the covariance does not fit in the budget, suggests another solver that does.
fn suggest_solver(failure: Failure, job: &mut PcaJob) -> Failure {
    let Error::Engine(lowland_engine::Error::Budget { asked, .. }) = failure.error.as_ref() else { return failure };
    if failure.left.is_some() || !matches!(job.config.solver, Solver::Auto | Solver::Covariance) {
        return failure;
    }
    (job.config.memory, job.config.solver) = (*asked, Solver::Randomized);
    match job.plan() {
        Ok(_) => Failure::leaving(*failure.error, "or --solver randomized, which fits".into()),
        Err(_) => failure,
    }
}

/// Returns the report as JSON, with inputs and outputs.
fn as_json(report: &PcaReport, job: &PcaJob, args: &PcaArgs, files: &[(&str, &std::path::Path)]) -> Value {
    let mut full = serde_json::to_value(report).unwrap_or_default();
    if let Some(fields) = full.as_object_mut() {
        // JSON is UTF-8, and a path may not be.
        let outputs = files.iter().map(|(what, path)| ((*what).to_string(), json!(path.to_string_lossy())));
        fields.insert("peak_memory".into(), json!(report.peak()));
        fields.insert("sources".into(), json!(options::shown(&args.sources)));
        fields.insert("column".into(), json!(job.source.vector_column()));
        fields.insert("outputs".into(), outputs.collect::<serde_json::Map<_, _>>().into());
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct PcaAlone {
        #[command(flatten)]
        args: PcaArgs,
    }

    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_library() {
        let alone = <PcaAlone as clap::Parser>::parse_from(["lowland", "in.npy", "-o", "scores.npy"]);
        let default = PcaConfig::default();
        assert_eq!(alone.args.config(default.memory), default);
    }
}
