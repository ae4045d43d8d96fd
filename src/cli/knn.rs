//! `lowland knn`: computes only the graph of nearest neighbours.

use std::path::PathBuf;

use lowland::{Config, Job, Metric, check_output};

use super::Failure;
use super::keep::parse_kept_of_graph;
use super::map::{report_excluded, run_path};
use super::options::{self, InputArgs, InvalidArgs, NeighborArgs, ProgressArgs, ResourceArgs};
use super::stopped::kept;
use crate::progress::Console;
use lowland::machine::Machine;

const EXAMPLES: &str = "\
Examples:
  lowland knn vectors.parquet -o graph.arrow --n-neighbors 30
  lowland embed --knn graph.arrow -o map.parquet

The graph is an Arrow IPC or Parquet file with the columns neighbors (row numbers)
and distances (ascending), in the source's order; its schema metadata name the metric.
With --invalid null a row that cannot be placed has no neighbours (4294967295 at
infinity); with --invalid drop it is absent, and a column id has each row's number
in the source.";

/// Returns the command with help texts of its own for the options that it shares with embed, whose
/// texts mention methods, affinities and layouts.
pub(super) fn command_alone(command: clap::Command) -> clap::Command {
    command
        .mut_arg("n_neighbors", |arg| arg.help("Neighbours of each row, not counting the row itself [default: 15]"))
        .mut_arg("metric", |arg| {
            let names = Metric::list(|metric| metric.unsupported_reason().is_none());
            arg.help(format!("Distance between two rows: {names} [default: euclidean]"))
        })
        .mut_arg("device", |arg| {
            arg.help(
                "Device of the neighbour search by lists: auto (a GPU if there is one), cpu, cuda or cuda:N; never \
                 changes the result",
            )
        })
        .mut_arg("keep_stages", |arg| {
            arg.value_parser(parse_kept_of_graph).help(
                "Stages whose files stay in the run directory after success, such as 'index,neighbors': scan, index, \
                 neighbors; all, none. Other files are deleted as soon as no stage needs them [default: all if the run \
                 directory is kept, else none]",
            )
        })
}

/// Compute only the graph of nearest neighbours
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct KnnArgs {
    /// Files, directories, globs or addresses (s3://…) of vectors; - for standard input
    #[arg(value_name = "SOURCE", required = true, display_order = 0, help_heading = "Input")]
    sources: Vec<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    invalid: InvalidArgs,
    /// The graph: .arrow or .parquet
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: PathBuf,
    #[command(flatten)]
    neighbors: NeighborArgs,
    #[command(flatten)]
    resources: ResourceArgs,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn run(args: &KnnArgs, console: &Console) -> Result<(), Failure> {
    check_output(&args.output, args.resources.force)?;
    let machine = Machine::detect();
    let mut job = Job::new();
    job.config = Config {
        n_neighbors: args.neighbors.n_neighbors,
        metric: args.neighbors.metric,
        recall: args.neighbors.recall,
        ..Config::default()
    };
    args.resources.apply(&mut job, &args.output, &machine)?;
    let column = args.input.column.as_deref();
    let opened = options::open(&args.sources, column, (run_path(&job), args.resources.disk), console)?;
    job.source = Some(opened.for_run());
    job.invalid = args.invalid.invalid;
    report_excluded(&job, console)?;
    let plan = options::plan_within_grant(job.config.memory, &machine, |memory| {
        job.config.memory = memory;
        job.plan_graph()
    })?;
    options::check_disk(job.config.disk, &plan, opened.spool.as_ref())?;
    console.plan(&plan);
    let report =
        job.knn(&plan, &args.output, args.resources.force, console).map_err(|error| kept(error, &job, console))?;
    let full = serde_json::to_value(&report).unwrap_or_default();
    console.done(&report.summary(), &full, &[("graph", &args.output)]);
    drop((job, opened));
    Ok(())
}
