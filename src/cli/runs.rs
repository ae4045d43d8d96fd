//! `lowland runs`: lists the run directories, and how far each run is.

use std::path::PathBuf;

use lowland::format_bytes;
use lowland::runs::{self, RunEntry, RunStatus};
use serde_json::Value;

use super::flags::with_flags;
use super::{Failure, print};
use crate::progress::Console;

const EXAMPLES: &str = "\
Examples:
  lowland runs
  lowland runs maps /scratch
  lowland runs --json | jq -r '.[] | select(.state == \"stopped\") | .path'

Each DIR is listed if it is a run directory, and so are run directories directly
in it. A stopped run continues with the command that began it; a finished run has
the positions from which the map is written again. A run directory that is no
longer needed can be deleted.";

/// List run directories, and how far each run is
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct RunsArgs {
    /// Run directories, or directories that contain run directories [default: the current directory]
    #[arg(value_name = "DIR", help_heading = "Input")]
    dirs: Vec<PathBuf>,
    /// Write one JSON array, with an object for each run
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(super) fn run(args: &RunsArgs, console: &Console) -> Result<(), Failure> {
    let here = [PathBuf::from(".")];
    let dirs = if args.dirs.is_empty() { &here[..] } else { &args.dirs };
    let mut found = runs::list(dirs)?;
    for run in &mut found {
        if let RunStatus::Damaged(what) | RunStatus::OtherVersion(what) = &mut run.state {
            *what = with_flags(what);
        }
    }
    if found.is_empty() {
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        console.note("no-runs", format!("no run directories in {}", dirs.join(", ")));
    }
    if args.json {
        let all: Vec<Value> = found.iter().map(RunEntry::json).collect();
        return print(&format!("{:#}\n", Value::from(all)));
    }
    print(&table(&found))
}

/// Returns the columns of the table.
fn cells(run: &RunEntry) -> [String; 6] {
    let Some(manifest) = &run.manifest else {
        let none = || "-".to_string();
        return [run.path.display().to_string(), none(), format_bytes(run.bytes), none(), none(), words(run)];
    };
    let mut stages = run.finished().join(", ");
    for (stage, units) in run.under_way() {
        let also = if stages.is_empty() { "" } else { "; " };
        stages += &format!("{also}{stage} begun, {units} {}", if units == 1 { "unit" } else { "units" });
    }
    if stages.is_empty() {
        stages = "none yet".into();
    }
    let sources = match manifest.sources.as_slice() {
        [] => "-".into(),
        [one] => one.path.display().to_string(),
        [first, more @ ..] => format!("{} and {} more", first.path.display(), more.len()),
    };
    let path = run.path.display().to_string();
    [path, manifest.created.clone(), format_bytes(run.bytes), stages, sources, words(run)]
}

fn words(run: &RunEntry) -> String {
    match &run.state {
        RunStatus::InUse(holder) => format!("in use by {holder}"),
        RunStatus::Damaged(what) => format!("damaged: {what}"),
        RunStatus::OtherVersion(what) => what.clone(),
        RunStatus::Finished | RunStatus::Stopped => run.state.name().into(),
    }
}

/// Returns the table, with a line of headings and a line for each run; empty if there are no runs.
fn table(runs: &[RunEntry]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let headings = ["RUN", "SINCE", "SIZE", "FINISHED", "SOURCE", "STATE"].map(String::from);
    // A path may contain control characters, but a run must be one line.
    let printed = |run: &RunEntry| cells(run).map(|cell| cell.replace(char::is_control, " "));
    let rows: Vec<[String; 6]> = std::iter::once(headings).chain(runs.iter().map(printed)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, &width) in row.iter().zip(&widths) {
            text += &format!("{cell:width$}  ");
        }
        // The last column is not padded, because it may be long.
        text += &row[5];
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use lowland_io::{Manifest, RunSummary};
    use serde_json::json;

    use super::*;

    #[test]
    fn stages_are_told_in_their_order_with_what_is_begun() {
        let stage = |done, units: &[&str]| {
            let units: serde_json::Map<String, Value> =
                units.iter().map(|u| ((*u).to_string(), json!({"files": {}, "data": null}))).collect();
            json!({"done": done, "released": false, "files": {}, "data": null, "units": units})
        };
        let manifest: Manifest = serde_json::from_value(json!({
            "lowland": "0.1.0", "format": 2, "created": "2026-01-01T00:00:00Z", "config": {},
            "sources": [
                {"path": "a.npy", "bytes": 1, "modified": 0, "header": 0},
                {"path": "b.npy", "bytes": 2, "modified": 0, "header": 0},
            ],
            "stages": {
                "index": stage(true, &[]),
                "neighbors": stage(false, &["0", "1"]),
                "scan": stage(true, &[]),
                "unheard of": stage(true, &[]),
            },
        }))
        .expect("a manifest");
        let found = RunSummary { path: "./m.run".into(), manifest: Ok(manifest), held_by: None, bytes: 5 << 20 };
        let run = RunEntry::of(found);
        assert_eq!(run.state, RunStatus::Stopped);
        assert_eq!(run.finished(), ["scan", "index", "unheard of"]);
        assert_eq!(run.json()["under_way"], json!([{"stage": "neighbors", "units": 2}]));
        let told = table(&[run]);
        let line = told.lines().nth(1).expect("a run");
        let words = "m.run  2026-01-01T00:00:00Z  5 MiB  scan, index, unheard of; neighbors begun, 2 units  \
                     a.npy and 1 more  stopped";
        assert_eq!(line, words);
        assert_eq!(table(&[]), "");
    }
}
