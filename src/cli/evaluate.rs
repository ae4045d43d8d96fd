//! `lowland evaluate`: computes the scores of a map and prints them as a table.

use std::path::{Path, PathBuf};

use lowland::{Error, Evaluation, GraphInput, InvalidRows, Metric, check_output, format_bytes, open_map, scores};
use serde_json::json;

use super::options::{self, InputArgs, ProgressArgs, dtype_name};
use super::report::{is_device, write_report};
use super::{Failure, names, print, stream};
use crate::progress::Console;
use lowland::budget::{Memory, parse_memory};
use lowland::machine::Machine;

const EXAMPLES: &str = "\
Examples:
  lowland evaluate --source vectors.parquet --map map.parquet --labels section
  lowland evaluate --source vectors.parquet --knn graph.arrow --map map.parquet
  lowland evaluate --map map.parquet --labels section,priority
  lowland evaluate --source 'shards/*.parquet' --map map.npy --sample 20000 --json

Scores, each from comparing sample rows with all rows:
  recall          share of the true neighbours that the graph of --knn has
  trustworthiness 1 if no row is near in the map that is far in the data
  continuity      1 if no row is far in the map that is near in the data
  neighbourhood preservation
                  share of the nearest in the data that are nearest in the map
  triplet accuracy
                  share of random triplets whose nearer pair is the same in both
  Spearman of distances
                  rank correlation of distances in the data and in the map
  label accuracy  share of a row's neighbours in the map that have its label
  silhouette      (b - a) / max(a, b): own label's mean distance a, the next one's b
  k-means ARI     adjusted Rand index of labels and of as many clusters of the map

Without --source only the last three are computed, without --labels only the others.";

/// Score how well a map shows the structure of its data
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct EvaluateArgs {
    /// The map: .parquet, .arrow or .npy, with its rows in the source's order
    #[arg(long, value_name = "MAP", required = true, display_order = 0, help_heading = "Input")]
    map: PathBuf,
    /// Files, directories, globs or addresses (s3://…) of the vectors that the map was made from; - for standard input
    #[arg(long = "source", value_name = "SOURCE", num_args = 1.., display_order = 0, help_heading = "Input")]
    sources: Vec<String>,
    #[command(flatten)]
    input: InputArgs,
    /// Columns of the map's coordinates [default: x, y, z, or c0, c1, …, of any type of numbers, or
    /// the only list column]
    #[arg(long, value_name = "COLS", display_order = 2, help_heading = "Input")]
    coordinates: Option<String>,
    /// Columns of labels, of the map or else of the source; rows without a label are left out
    #[arg(long, value_name = "COLS", display_order = 3, help_heading = "Input")]
    labels: Vec<String>,
    /// Column of weights in the silhouette's means, of the map or else of the source
    #[arg(long, value_name = "COL", requires = "labels", display_order = 4, help_heading = "Input")]
    weights: Option<String>,
    /// A kNN graph whose recall is measured
    #[arg(long, value_name = "GRAPH", requires = "sources", display_order = 5, help_heading = "Input")]
    knn: Option<PathBuf>,
    /// Column of ids that must be equal in the map and the source [default: the map's
    /// first column, where the source has it]
    #[arg(long, value_name = "COL", requires = "sources", display_order = 6, help_heading = "Input")]
    id: Option<String>,
    /// Rows of the source without a vector, with a null, NaN or infinite component, or of all zeros under cosine: error
    /// counts and refuses them, drop leaves them out of all tables. Rows without coordinates in the map are always left out
    #[arg(long, value_name = "CHOICE", default_value = "error", value_parser = parse_choice)]
    #[arg(display_order = 7, help_heading = "Input")]
    invalid: InvalidRows,

    /// Neighbours that the scores use, fewer than half of the rows [default: 15, or as many as possible]
    #[arg(long, value_name = "K", help_heading = "Scores")]
    n_neighbors: Option<usize>,
    #[arg(long, value_name = "METRIC", value_parser = str::parse::<Metric>, help_heading = "Scores")]
    #[arg(help = format!("Distance between two rows of the data: {} [default: the graph's, or euclidean]",
                         Metric::list(|_| true)))]
    metric: Option<Metric>,
    /// Rows that are scored, each against all rows [default: all up to 10,000; 5,000 of more, and
    /// from a million rows on fewer, down to 1,000]
    #[arg(long, value_name = "ROWS", help_heading = "Scores")]
    sample: Option<usize>,
    /// Seed of every random draw
    #[arg(long, value_name = "SEED", default_value_t = scores::EvaluationConfig::default().seed, help_heading = "Scores")]
    seed: u64,

    /// Write the scores as JSON; - for standard output, in place of the table
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Write JSON to standard output, in place of the table
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Replace a report that exists
    #[arg(long, help_heading = "Output")]
    force: bool,

    /// Memory that the process may hold: 600MiB, 4GiB, 1.5g, plain bytes, or a share such as 50%;
    /// never changes the scores [default: half of what the machine or its cgroup grants]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, help_heading = "Resources")]
    memory: Option<Memory>,
    /// Worker threads; never changes the scores [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    threads: Option<usize>,
    /// Rows read at a time; never changes the scores [default: about 8 MiB for each thread]
    #[arg(long, value_name = "ROWS", help_heading = "Resources")]
    batch_rows: Option<usize>,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn run(args: &EvaluateArgs, console: &Console) -> Result<(), Failure> {
    let file = args.report.as_deref().filter(|path| path.as_os_str() != "-");
    if let Some(path) = file.filter(|path| !is_device(path)) {
        check_output(path, args.force)?;
    }
    let machine = Machine::detect();
    // The copy of a stream is removed with the job.
    let (job, _spool) = job(args, &machine, console)?;
    let plan = job.plan()?;
    if let Some(limit) = machine.limit.as_ref().filter(|limit| plan.memory > limit.bytes) {
        let (takes, grants) = (format_bytes(plan.memory), format_bytes(limit.bytes));
        let why = format!("--sample: the evaluation takes {takes}, but {} is {grants}; give fewer rows", limit.source);
        return Err(Failure::usage(why));
    }
    let report = job.run(console).map_err(|error| match &error {
        Error::Engine(lowland_engine::Error::Invalid { .. }) => {
            Failure::leaving(error, "--invalid drop leaves such rows out".into())
        }
        _ => error.into(),
    })?;
    let full = as_json(&report, &job, args);
    if let Some(path) = file {
        write_report(path, &format!("{full:#}\n"))?;
    }
    if args.json || (args.report.is_some() && file.is_none()) {
        return print(&format!("{full:#}\n"));
    }
    print(&format!("{}\n{report}", about(&job, args)))
}

fn parse_choice(text: &str) -> Result<InvalidRows, String> {
    match text {
        "error" => Ok(InvalidRows::Error),
        "drop" => Ok(InvalidRows::Drop),
        _ => Err("the choices are error and drop".into()),
    }
}

/// Creates the job. Also returns the directory of the copies of streams.
fn job(
    args: &EvaluateArgs,
    machine: &Machine,
    console: &Console,
) -> Result<(Evaluation, Option<stream::Spool>), Failure> {
    if args.sources.is_empty() && args.labels.is_empty() {
        return Err(Failure::usage("nothing to compare the map with: give --source, --labels, or both"));
    }
    if args.map.to_str().is_some_and(stream::is_stream) {
        return Err(Failure::usage("--map: a map cannot be read from a stream; write it to a file"));
    }
    let mut spool = None;
    let mut job = Evaluation::new(open_map(&args.map, args.coordinates.as_deref())?);
    if !args.sources.is_empty() {
        let column = args.input.column.as_deref();
        let opened = options::open(&args.sources, column, (&stream::temporary_parent(), None), console)?;
        job.source = Some(opened.source);
        spool = opened.spool;
    }
    job.graph = args.knn.as_ref().map(GraphInput::open).transpose()?;
    let of_graph = job.graph.as_ref().and_then(GraphInput::metric);
    let asked = args.metric;
    if let (Some(asked), Some(has), Some(path)) = (asked, of_graph, &args.knn)
        && asked != has
    {
        return Err(Failure::usage(format!("--metric: the graph {} was made with {}", path.display(), has.name())));
    }
    let mut there = job.map.columns();
    there.extend(job.source.iter().flat_map(|source| source.columns()));
    job.labels = names::columns("--labels", &args.labels, &there)?;
    let one = |option, name: &Option<String>| name.as_ref().map(|name| names::column(option, name, &there)).transpose();
    job.weights = one("--weights", &args.weights)?;
    job.id = one("--id", &args.id)?;
    job.invalid = args.invalid;
    job.config = scores::EvaluationConfig {
        n_neighbors: args.n_neighbors,
        sample: args.sample,
        metric: asked.or(of_graph).unwrap_or_default(),
        seed: args.seed,
        threads: args.threads,
        batch_rows: args.batch_rows,
        memory: options::budget(args.memory, machine)?,
    };
    Ok((job, spool))
}

/// Returns the text that describes the compared inputs.
fn about(job: &Evaluation, args: &EvaluateArgs) -> String {
    let map = job.map.shape();
    let columns =
        job.map.vector_column().map_or_else(String::new, |columns| format!(" ({})", columns.replace(',', ", ")));
    let mut text = format!(
        "map     {}: {} rows × {}{columns}\n",
        lowland_io::shown(&args.map.to_string_lossy()),
        map.rows,
        map.dim
    );
    if let Some(source) = &job.source {
        text += &format!(
            "source  {}: {} components of {}, {}\n",
            options::shown(&args.sources).join(" "),
            source.shape().dim,
            dtype_name(source.dtype()),
            job.config.metric.name()
        );
    }
    if let Some(path) = &args.knn {
        text += &format!("graph   {}\n", path.display());
    }
    text
}

fn as_json(report: &scores::EvaluationReport, job: &Evaluation, args: &EvaluateArgs) -> serde_json::Value {
    let mut full = serde_json::to_value(report).unwrap_or_default();
    if let Some(fields) = full.as_object_mut() {
        // JSON is UTF-8, and a path may not be.
        let text = |path: &Path| json!(lowland_io::shown(&path.to_string_lossy()));
        fields.insert("map".into(), text(&args.map));
        fields.insert("coordinates".into(), json!(job.map.vector_column()));
        fields.insert("sources".into(), json!(options::shown(&args.sources)));
        fields.insert("column".into(), json!(job.source.as_ref().and_then(|source| source.vector_column())));
        fields.insert("knn".into(), json!(args.knn.as_deref().map(text)));
    }
    full
}
