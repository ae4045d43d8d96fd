//! `lowland transform`: places new rows on the map of a model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lowland::budget::{Memory, parse_memory};
use lowland::machine::Machine;
use lowland::model::Model;
use lowland::{Error, MapFile, MapTable, RunOptions, check_local, check_output};
use serde_json::json;

use super::options::{self, InputArgs, InvalidArgs, ProgressArgs};
use super::{Failure, names, print};
use crate::progress::Console;

const EXAMPLES: &str = "\
Examples:
  lowland embed vectors.parquet --id id --model map.lowland
  lowland transform --model map.lowland new.parquet -o placed.parquet --keep label
  lowland transform --model map.lowland --version 41 'new/*.parquet' -o placed.arrow

The map does not change, and each row is placed by itself: its position depends on the
model and on the row alone. An exact copy of a row of the model gets that row's position.
The column outlier is the distance to the nearest centroid over the 99th percentile of
that distance among the model's rows: above 1, a row is outside of their range.

A transform that stops keeps finished rows in the run directory, and the same command
continues from there.";

/// Place new rows on the map of a model
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct TransformArgs {
    /// Files, directories, globs or addresses (s3://…) of vectors; - for standard input
    #[arg(value_name = "SOURCE", required = true, display_order = 0, help_heading = "Input")]
    sources: Vec<String>,
    /// The model
    #[arg(long, value_name = "DIR", display_order = 0, help_heading = "Input")]
    model: PathBuf,
    /// Version of the model: a number or a tag [default: the current version]
    #[arg(long, value_name = "VERSION", display_order = 1, help_heading = "Input")]
    version: Option<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    invalid: InvalidArgs,

    /// The placed rows: .parquet, .arrow or .npy
    #[arg(short, long, value_name = "FILE", display_order = 0, help_heading = "Output")]
    output: PathBuf,
    /// Column that names the rows [default: that of the model's rows if the source has it, else row
    /// numbers]
    #[arg(long, value_name = "COL", help_heading = "Output")]
    id: Option<String>,
    /// Columns to copy: 'a,b', or --keep several times; a name with commas as '"a,b"'
    #[arg(long, value_name = "COLS", help_heading = "Output")]
    keep: Vec<String>,
    /// Names of the coordinates' columns, one for each component [default: x, y, z; c0, c1, … for more
    /// than three]
    #[arg(long, value_name = "NAMES", help_heading = "Output")]
    coordinates: Option<String>,
    /// Write the report as one JSON object to standard output
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Replace the output if it exists
    #[arg(long, help_heading = "Output")]
    force: bool,

    /// Memory that the process may hold: 600MiB, 4GiB, 1.5g, plain bytes, or a share such as 50%;
    /// never changes the result [default: half of what the machine or its cgroup grants]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, help_heading = "Resources")]
    memory: Option<Memory>,
    /// Worker threads; never changes the result [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    threads: Option<usize>,
    /// Rows read at a time; never changes the result [default: up to 16,384]
    #[arg(long, value_name = "ROWS", help_heading = "Resources")]
    batch_rows: Option<usize>,
    /// Directory for finished rows, removed after success [default: the output's name with .run appended]
    #[arg(long, value_name = "DIR", help_heading = "Resources")]
    run_dir: Option<PathBuf>,
    /// Discard the finished rows of an earlier run, and begin again
    #[arg(long, help_heading = "Resources")]
    restart: bool,

    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

/// Returns the command with a help text of its own for the column of the vectors, whose default is that of the model.
pub(super) fn with_model(command: clap::Command) -> clap::Command {
    command.mut_arg("column", |arg| {
        arg.help(
            "Column of the vectors: a list column, or numeric ones as 'a,b,c' or 'pc*'; a struct's field as 'emb.values'; \
             bytes as 'blob:f32' (or f16, bf16, f64, u8, i8, bits) [default: the column that the model was made of, if \
             the source has it, else the only list column]",
        )
    })
}

pub(super) fn run(args: &TransformArgs, console: &Console) -> Result<(), Failure> {
    check_output(&args.output, args.force)?;
    lowland_io::MapWriter::ending(&args.output)?;
    args.run_dir.as_deref().map_or(Ok(()), check_local)?;
    let machine = Machine::detect();
    let memory = options::budget(args.memory, &machine)?;
    let mut run = RunOptions::beside(&args.output);
    if let Some(dir) = &args.run_dir {
        run.dir = Some(dir.clone());
    }
    run.restart = args.restart;
    let model = Arc::new(match &args.version {
        None if !args.restart => Model::open_begun(&args.model, run_path(&run))?,
        version => Model::open_version(&args.model, version.as_deref())?,
    });
    if args.version.is_none()
        && let Some(note) = later_version(&model)?
    {
        console.note("earlier-version", note);
    }
    let opened = open_as(&model, &args.sources, args.input.column.as_deref(), false, run_path(&run), console)?;
    let mut job = lowland::model::TransformJob::new(model, opened.for_run());
    let there = job.source.columns();
    job.id = match &args.id {
        Some(id) => Some(names::column("--id", id, &there)?),
        None => job.model.options().id.clone().filter(|id| there.contains(id) && is_table(&args.output)),
    };
    let mut table = MapTable { keep: names::columns("--keep", &args.keep, &there)?, ..MapTable::default() };
    names::check_kept(job.id.as_ref(), &table.keep)?;
    // A column that is not there is named before all rows are read.
    job.source.column_schema(&table.keep)?;
    if let Some(given) = &args.coordinates {
        table.coordinates = names::split(given, &[]).map_err(|why| Failure::usage(format!("--coordinates: {why}")))?;
    }
    (job.memory, job.threads, job.batch_rows, job.run) = (memory, args.threads, args.batch_rows, run);
    job.invalid = args.invalid.invalid.unwrap_or_default();
    job.check_rows(console)?;
    if let Some(note) = job.left_out()?.and_then(|left_out| left_out.note()) {
        console.note("rows-left-out", note);
    }
    let plan = options::plan_within_grant(job.memory, &machine, |memory| {
        job.memory = memory;
        job.plan()
    })?;
    console.planned(&plan, || json!(plan));
    let file = MapFile { path: args.output.clone(), table, force: args.force };
    let resumable = job.source.id()?.is_lasting();
    let report = job.write(&file, console).map_err(|error| kept(error, run_path(&job.run), resumable))?;
    let mut full = serde_json::to_value(&report).unwrap_or_default();
    if let Some(fields) = full.as_object_mut() {
        fields.insert("peak_memory".into(), json!(report.peak()));
        fields.insert("model".into(), json!(args.model.to_string_lossy()));
        fields.insert("sources".into(), json!(options::shown(&args.sources)));
        fields.insert("output".into(), json!(args.output.to_string_lossy()));
    }
    console.done(&report, &full, &[("rows", &args.output)]);
    drop((job, opened));
    if args.json { print(&format!("{full}\n")) } else { Ok(()) }
}

/// Returns a note if a transform goes on on another version than the current one.
fn later_version(model: &Model) -> Result<Option<String>, Failure> {
    let current = Model::open(model.path())?.number();
    Ok((current != model.number()).then(|| {
        let number = model.number();
        format!(
            "goes on on version {number}, on which it began; the current version is {current}: --restart begins there"
        )
    }))
}

/// Opens sources as those of the model were opened: by the given column, else by the model's column if the sources have
/// it, else by their only column of vectors. `may_lack_vectors` says whether they need one.
pub(super) fn open_as(
    model: &Model,
    sources: &[String],
    column: Option<&str>,
    may_lack_vectors: bool,
    beside: &Path,
    console: &Console,
) -> Result<options::OpenedSource, Failure> {
    let usual = model.options().column.as_deref();
    let tries: &[Option<&str>] = match (column, usual) {
        (Some(_), _) => &[column],
        (None, Some(_)) => &[usual, None],
        (None, None) => &[None],
    };
    options::open_first(sources, tries, may_lack_vectors, (beside, None), console)
}

/// Returns the run directory, which the command line always names.
fn run_path(run: &RunOptions) -> &Path {
    run.dir.as_deref().unwrap_or(Path::new(""))
}

/// Returns whether an output has columns.
fn is_table(output: &Path) -> bool {
    output.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("npy"))
}

/// Adds to the error of a transform that finished rows are kept.
fn kept(error: Error, run: &Path, resumable: bool) -> Failure {
    let kept = run.join("manifest.json").exists();
    match (kept, error.is_cancelled()) {
        (true, _) if resumable && (error.is_cancelled() || error.is_system()) => {
            let what = format!("finished rows are kept in {}: the same command continues from there", run.display());
            Failure::leaving(error, what)
        }
        (false, true) => Failure::leaving(error, "nothing was finished yet".into()),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_npy_has_no_columns() {
        assert!(is_table("a.parquet".as_ref()) && is_table("a".as_ref()));
        assert!(!is_table("a.NPY".as_ref()));
    }
}
