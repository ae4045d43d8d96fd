//! `lowland update`: brings a model up to date with a table.

use std::path::{Path, PathBuf};

use lowland::budget::{Memory, parse_memory};
use lowland::machine::Machine;
use lowland::model::{Gate, Model, MoveRows, Outcome, RefitWhen, UpdateJob, UpdateMode};
use lowland::{Error, check_local, check_output};
use serde_json::json;

use super::options::{self, InputArgs, InvalidArgs, ProgressArgs};
use super::transform::{open_as, with_model};
use super::{Failure, names, print};
use crate::progress::Console;

/// The exit code of an update whose version was refused by a gate.
const REFUSED: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  lowland update map.lowland --source 'vectors/dt=*/*.parquet' --id id
  lowland update map.lowland --source vectors.parquet --run-id 2026-11-30 --json
  lowland update map.lowland --source vectors.parquet --gate 'recall>=0.9, trustworthiness>=0.93'

The source is the whole current table: rows are compared by id, and by their vectors. With
--changes it has only what changed. By transform, old rows keep their positions (unless
--move says otherwise) and new rows are placed among them; by refit, the whole map is
computed anew from the old positions, and turned and scaled to lie on the old map.

Readers see the new version when it is complete, by one rename. An update that stops is
continued by the same command; an update whose --run-id was published does nothing.";

/// The measures by their names.
const MEASURES: &str = "\
Measures, as conditions of --gate: name>=number or name<=number, separated by commas. A
measure that the version does not have passes.
  recall               share of the true neighbours that the graph has: the mean of the
                       next two by the numbers of rows
  recall_old           the same of the rows that were there, on probe rows; transform only
  recall_new           the same of the new rows, on up to 128 of them; transform only
  trustworthiness      of a sample of all rows on the map, 0 to 1
  trustworthiness_old  the same of the rows that were there; by refit of all rows
  trustworthiness_new  the same of the new rows; transform only
  outliers             share of the new rows outside of the range of the map's rows;
                       transform only
  moved_p50            how far unchanged rows moved, over the radius of the map: the median,
  moved_p95            the 95th percentile,
  moved_max            and the largest distance; 0 by transform without --move dirty
  kept_neighbors       share of their 15 nearest rows in the map that unchanged rows kept
  added_share          rows added since the last refit, over the rows of that refit
  tombstone_share      places of rows that are gone, over all places
  largest_list         rows of the largest list, over the mean
  moved_rows           rows that moved; --move dirty only
  capped_rows          those of them that the cap held back; --move dirty only
  move_cap             the cap, over the radius of the map; --move dirty only";

const EXIT_CODES: &str = "\
Exit codes:
  0    a new version is current; also if there was nothing to do, because the table is
       that of the model or the run was published (--no-change-exit-code names another
       code for that)
  1    failure of the machine or of lowland: no space left, a damaged model, a model that
       is in use (--no-wait)
  2    wrong usage or input; nothing changed
  3    a gate refused the version: it is kept, but readers do not take it
  130  interrupted (SIGINT, Ctrl-C)  } the model is unchanged, and the same command
  143  ended (SIGTERM)               } continues";

/// Bring a model up to date with a table
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{MEASURES}\n\n{EXIT_CODES}"))]
pub(super) struct UpdateArgs {
    /// The model
    #[arg(value_name = "MODEL", display_order = 0, help_heading = "Input")]
    model: PathBuf,
    /// The whole current table: files, directories, globs or addresses (s3://…); may be repeated
    #[arg(long, value_name = "SOURCE", required = true, display_order = 1, help_heading = "Input")]
    source: Vec<String>,
    /// The source has only rows that were added, changed or deleted, as its column 'change' says; all other
    /// rows of the model stay. A refit needs the whole table
    #[arg(long, display_order = 2, help_heading = "Input")]
    changes: bool,
    /// Column that names the rows [default: that of the model]
    #[arg(long, value_name = "COL", display_order = 3, help_heading = "Input")]
    id: Option<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    invalid: InvalidArgs,

    /// Name of this run, such as a date: a run that was published does nothing, and one that was begun is
    /// continued
    #[arg(long, value_name = "NAME", help_heading = "Update")]
    run_id: Option<String>,
    /// transform keeps the positions of old rows; refit computes the whole map anew; auto refits when
    /// --refit-when says so
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = parse_mode, help_heading = "Update")]
    mode: UpdateMode,
    /// Which rows of the model an update by transform may move: none, or dirty ones, whose neighbours change. A
    /// spring and a cap hold these near to where they were; a refit moves all rows
    #[arg(long = "move", value_name = "ROWS", default_value = "none", value_parser = parse_move, help_heading = "Update")]
    moving: MoveRows,
    /// What makes auto refit: shares of rows added and deleted since the last refit, and of the last update's
    /// new rows outside of the range of the model's rows (outliers) [default: 'added>0.1, deleted>0.2']
    #[arg(long, value_name = "WHEN", value_parser = str::parse::<RefitWhen>, help_heading = "Update")]
    refit_when: Option<RefitWhen>,
    /// Refuse a version that fails one of these conditions on its measures, which are listed below:
    /// 'recall>=0.9, trustworthiness>=0.93, moved_p95<=0.02'; may be repeated
    #[arg(long, value_name = "GATES", help_heading = "Update")]
    gate: Vec<String>,
    /// Largest share of rows that may be missing in the table, from 0 to 1. An update that would delete more
    /// is refused
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, help_heading = "Update")]
    max_shrink: f64,
    /// Fail at once if another process is changing the model [default: wait]
    #[arg(long, help_heading = "Update")]
    no_wait: bool,
    /// Exit code if there is nothing to do, for schedulers [default: 0]
    #[arg(long, value_name = "CODE", help_heading = "Update")]
    no_change_exit_code: Option<u8>,

    /// Write the report as one JSON object to standard output
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Write counts and measures for Prometheus' textfile collector; replaced by rename
    #[arg(long, value_name = "FILE.prom", help_heading = "Output")]
    metrics_file: Option<PathBuf>,

    /// Memory that the process may hold: 600MiB, 4GiB, 1.5g, plain bytes, or a share such as 50%;
    /// never changes the result [default: half of what the machine or its cgroup grants]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, help_heading = "Resources")]
    memory: Option<Memory>,
    /// Worker threads; never changes the result [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    threads: Option<usize>,

    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

/// Returns the command with help texts of its own for options that other commands have too.
pub(super) fn with_table(command: clap::Command) -> clap::Command {
    with_model(command).mut_arg("invalid", |arg| {
        arg.help(
            "Rows without a vector, with a null, NaN or infinite component, or of all zeros under cosine: error counts \
             and refuses them, drop leaves them out as if the table did not have them (null is refused) [default: error]",
        )
    })
}

fn parse_mode(text: &str) -> Result<UpdateMode, String> {
    let found = UpdateMode::ALL.into_iter().find(|mode| mode.name() == text);
    found.ok_or_else(|| format!("the choices are {}", UpdateMode::ALL.map(UpdateMode::name).join(", ")))
}

fn parse_move(text: &str) -> Result<MoveRows, String> {
    let found = MoveRows::ALL.into_iter().find(|moving| moving.name() == text);
    found.ok_or_else(|| format!("the choices are {}", MoveRows::ALL.map(MoveRows::name).join(", ")))
}

/// Returns the exit code.
pub(super) fn run(args: &UpdateArgs, console: &Console) -> Result<u8, Failure> {
    check_local(&args.model)?;
    if let Some(path) = &args.metrics_file {
        check_output(path, true)?;
    }
    let gates: Result<Vec<Vec<Gate>>, String> = args.gate.iter().map(|text| Gate::parse_all(text)).collect();
    let gates = gates.map_err(|why| Failure::usage(format!("--gate: {why}")))?;
    if !(0.0..=1.0).contains(&args.max_shrink) {
        return Err(Failure::usage(format!(
            "--max-shrink: {} is not a share; give a number from 0 to 1",
            args.max_shrink
        )));
    }
    if args.moving == MoveRows::Dirty && args.mode == UpdateMode::Refit {
        return Err(Failure::usage(
            "--move dirty: a refit moves all rows; take --mode transform or auto, or leave it out",
        ));
    }
    let memory = options::budget(args.memory, &Machine::detect())?;
    let model = Model::open(&args.model)?;
    let column = args.input.column.as_deref();
    // Rows that are deleted need no vector.
    let opened = open_as(&model, &args.source, column, args.changes, &beside(&args.model), console)?;
    let there = opened.source.columns();
    if model.options().id.is_none() {
        let why = "the model names its rows by their numbers, by which an update cannot find them again";
        return Err(Failure::usage(format!("{why}; make it anew by lowland embed --id COL --model DIR")));
    }
    drop(model);
    let mut job = UpdateJob::new(&args.model, opened.for_run());
    job.id = args.id.as_ref().map(|id| names::column("--id", id, &there)).transpose()?;
    (job.run_id, job.changes) = (args.run_id.clone(), args.changes);
    (job.mode, job.moving, job.max_shrink) = (args.mode, args.moving, args.max_shrink);
    job.invalid = args.invalid.invalid.unwrap_or_default();
    job.gates = gates.into_iter().flatten().collect();
    job.refit = args.refit_when.unwrap_or_default();
    (job.wait, job.memory, job.threads) = (!args.no_wait, memory, args.threads);
    job.metrics_file = args.metrics_file.clone();
    let report = job.run(console).map_err(|error| match &error {
        // Rows cannot be kept without a position.
        Error::Engine(lowland_engine::Error::Invalid { .. }) => {
            Failure::leaving(error, "--invalid drop leaves such rows out".into())
        }
        stopped if stopped.is_cancelled() || stopped.is_system() => {
            Failure::leaving(error, "the model is unchanged, and the same command continues".into())
        }
        _ => error.into(),
    })?;
    drop((job, opened));
    let full = json!(report);
    if args.json {
        print(&format!("{full}\n"))?;
    }
    console.done(&report, &full, &[]);
    match report.outcome {
        Outcome::Published => Ok(0),
        Outcome::Unchanged | Outcome::AlreadyPublished => Ok(args.no_change_exit_code.unwrap_or(0)),
        Outcome::Refused => {
            let version = report.version.map_or_else(String::new, |version| format!("version {version} "));
            let path = args.model.display();
            let what = format!("{version}is kept, but readers do not take it: {}", report.refusal());
            let way = report.version.map_or_else(String::new, |version| {
                format!("; lowland rollback {path} --to {version} accepts it nevertheless")
            });
            console.error(&format!("{path}: {what}{way}"), REFUSED);
            Ok(REFUSED)
        }
    }
}

/// Returns a path beside the model, near which streams are copied.
fn beside(model: &Path) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".update");
    name.into()
}

#[cfg(test)]
mod tests {
    use lowland_model::update::Measures;

    use super::*;

    #[test]
    fn the_help_names_every_measure() {
        let lines = MEASURES.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let mut listed: Vec<&str> = lines.filter(|name| !name.is_empty()).collect();
        let mut names = Measures::names();
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(listed, names);
    }
}
