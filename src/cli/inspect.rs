//! `lowland inspect`: describes a source and the default run on it. Reads headers, and at most
//! 4,096 rows to compare the scales of the components.

use lowland::{Config, Plan, Source, format_bytes};
use serde_json::{Value, json};

use super::options::{self, InputArgs, budget, dtype_name};
use super::{Failure, print, stream};
use crate::progress::Console;
use lowland::budget::{Memory, parse_memory};
use lowland::machine::Machine;

const EXAMPLES: &str = "\
Examples:
  lowland inspect vectors.parquet
  lowland inspect 'shards/*.parquet' --column embedding --memory 600MiB --json";

/// Tell what a source holds, and what a run on it would be
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct InspectArgs {
    /// Files, directories, globs or addresses (s3://…) of vectors; - for standard input
    #[arg(value_name = "SOURCE", required = true, display_order = 0, help_heading = "Input")]
    sources: Vec<String>,
    #[command(flatten)]
    input: InputArgs,
    /// Memory budget of the run that is planned: 600MiB, 4GiB, 1.5g, plain bytes, or a share such as
    /// 50% [default: half of what the machine or its cgroup grants]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, help_heading = "Resources")]
    memory: Option<Memory>,
    /// Write JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(super) fn run(args: &InspectArgs, console: &Console) -> Result<(), Failure> {
    let column = args.input.column.as_deref();
    let options::OpenedSource { source, spool } =
        options::open(&args.sources, column, (&stream::temporary_parent(), None), console)?;
    let memory = budget(args.memory, &Machine::detect())?;
    // As `embed` plans without options: files that no stage needs any more are removed.
    let config = Config { memory, keep_stages: Some(Vec::new()), ..Config::default() };
    let input = lowland::PlanInput {
        shape: source.shape(),
        dtype: source.dtype(),
        graph_k: None,
        source_bytes: source.held_bytes(),
        resident_bytes: source.resident_bytes(),
    };
    let plan = config.plan(&input).map_err(lowland::Error::from);
    let files = source.fingerprints()?;
    let bytes = files.iter().map(|f| f.bytes).sum::<u64>();
    let shape = source.shape();
    // Scales need rows. If these cannot be read, the run will report the error.
    let spread = lowland::ComponentVariance::of_sample(source.as_ref(), lowland::Metric::Euclidean).ok();
    let sampled = spread.as_ref().map_or(0, lowland::ComponentVariance::rows);
    let outweighing = spread.and_then(|spread| spread.dominant(lowland::Metric::Euclidean));
    if args.json {
        let (plan, problem) = match &plan {
            Ok(plan) => (json!(plan), Value::Null),
            Err(why) => (Value::Null, json!(why.to_string())),
        };
        let found = json!({
            "rows": shape.rows,
            "components": shape.dim,
            "dtype": dtype_name(source.dtype()),
            "column": source.vector_column(),
            "columns": others(source.as_ref()),
            "files": files.iter().map(|f| json!({"path": f.path.to_string_lossy(), "bytes": f.bytes})).collect::<Vec<_>>(),
            "bytes": bytes,
            "sampled_rows": sampled,
            "outweighing": outweighing.map(|found| json!({
                "component": found.component, "share": found.share, "text": found.explain(source.as_ref()),
            })),
            "plan": plan,
            "problem": problem,
        });
        return print(&format!("{found:#}\n"));
    }
    let columns = others(source.as_ref());
    let column = source.vector_column().map_or_else(String::new, |c| format!(", in column {c}"));
    let mut text = format!("rows        {}\n", indicatif::HumanCount(shape.rows));
    text += &format!("components  {} of {}{column}\n", shape.dim, dtype_name(source.dtype()));
    text += &format!("files       {}, {}\n", files.len(), format_bytes(bytes));
    text += &format!("columns     {}\n", if columns.is_empty() { "no others".into() } else { columns.join(", ") });
    if let Some(found) = outweighing {
        let rows = indicatif::HumanCount(sampled);
        text += &format!("warning     {} (from the {rows} rows that were read)\n", found.explain(source.as_ref()));
    }
    text += &match plan {
        Ok(plan) => guess(&plan),
        Err(why) => format!("run         the defaults are refused: {why}\n"),
    };
    drop((source, spool));
    print(&text)
}

/// Returns the columns that can be kept or give colours: all except those of the vectors.
fn others(source: &dyn Source) -> Vec<String> {
    let vectors = source.vector_column().unwrap_or_default();
    source.columns().into_iter().filter(|c| !vectors.split(',').any(|v| v.trim() == c)).collect()
}

fn guess(plan: &Plan) -> String {
    let how = if plan.index().exact {
        "every pair compared".to_string()
    } else {
        format!("{} lists, recall {} or better", plan.index().lists, plan.settings().recall)
    };
    let mut text = format!(
        "run         {how}; {} neighbours; {} epochs; {} threads\n",
        plan.k(),
        plan.layout().epochs,
        plan.threads()
    );
    text += &format!("disk        about {} for the run directory\n", format_bytes(plan.disk()));
    text += &format!(
        "memory      {} at most, of a budget of {}\n",
        format_bytes(plan.peak()),
        format_bytes(plan.settings().memory)
    );
    for stage in plan.stages() {
        text += &format!("  {:<10}{:>10}\n", stage.stage.name(), format_bytes(stage.memory));
    }
    for note in plan.notes() {
        text += &format!("note        {}\n", note.text);
    }
    text + "more        lowland plan shows memory, disk and time of each stage, with any options\n"
}
