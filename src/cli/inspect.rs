//! `lowland inspect`: describes a source and the default run on it. Reads headers, and at most
//! 4,096 rows to compare the scales of the components.

use lowland::inspect::SourceSummary;
use lowland::{Plan, format_bytes};
use lowland_engine::format_count;

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
    let found = SourceSummary::of(source.as_ref(), memory)?;
    if args.json {
        return print(&format!("{:#}\n", found.json(source.as_ref())));
    }
    let (shape, columns) = (source.shape(), &found.columns);
    let column = source.vector_column().map_or_else(String::new, |c| format!(", in column {c}"));
    let mut text = format!("rows        {}\n", format_count(shape.rows));
    text += &format!("components  {} of {}{column}\n", shape.dim, dtype_name(source.dtype()));
    text += &format!("files       {}, {}\n", found.files.len(), format_bytes(found.bytes()));
    text += &format!("columns     {}\n", if columns.is_empty() { "no others".into() } else { columns.join(", ") });
    if let Some(outweighing) = &found.outweighing {
        let rows = format_count(found.sampled_rows);
        text +=
            &format!("warning     {} (from the {rows} rows that were read)\n", outweighing.explain(source.as_ref()));
    }
    text += &match &found.plan {
        Ok(plan) => guess(plan),
        Err(why) => format!("run         the defaults are refused: {why}\n"),
    };
    drop((source, spool));
    print(&text)
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
