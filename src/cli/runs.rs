//! `lowland runs`: lists the run directories, and how far each run is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lowland::{Stage, format_bytes};
use lowland_io::{Error, Manifest, RunSummary, runs};
use serde_json::{Value, json};

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
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for dir in dirs {
        let given = dir.to_string_lossy();
        if lowland_io::is_address(&given) && !dir.exists() {
            let shown = lowland_io::shown(&given);
            return Err(Failure::usage(format!(
                "{shown}: an address, and run directories are local; name a directory"
            )));
        }
        for run in runs(dir)? {
            // A run directory that is found twice, by its own name and by its parent's, is listed
            // once.
            if seen.insert(run.path.canonicalize().unwrap_or_else(|_| run.path.clone())) {
                found.push(RunEntry::of(run));
            }
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

/// The state of a run.
#[derive(Debug, PartialEq, Eq)]
enum RunStatus {
    /// A process works in the directory: its id, host and start.
    InUse(String),
    /// The positions are finished. The remaining output and scores are not stored in a run
    /// directory.
    Finished,
    /// The run can be resumed from its finished stages.
    Stopped,
    /// A file or the manifest is missing or changed.
    Damaged(String),
    /// The run was begun by another version of lowland.
    OtherVersion(String),
}

impl RunStatus {
    fn name(&self) -> &'static str {
        match self {
            RunStatus::InUse(_) => "in use",
            RunStatus::Finished => "finished",
            RunStatus::Stopped => "stopped",
            RunStatus::Damaged(_) => "damaged",
            RunStatus::OtherVersion(_) => "other version",
        }
    }
}

/// A run directory, as it is listed.
struct RunEntry {
    path: PathBuf,
    state: RunStatus,
    holder: Option<String>,
    bytes: u64,
    manifest: Option<Manifest>,
}

impl RunEntry {
    fn of(found: RunSummary) -> Self {
        let RunSummary { path, manifest, held_by: holder, bytes } = found;
        let state = match (&manifest, &holder) {
            (Err(error @ Error::Version { .. }), _) => RunStatus::OtherVersion(with_flags(&error.to_string())),
            (Err(error), _) => RunStatus::Damaged(with_flags(&error.to_string())),
            // The files of a running process change, so they are not checked.
            (Ok(_), Some(holder)) => RunStatus::InUse(holder.clone()),
            (Ok(manifest), None) => match (missing(&path, manifest), manifest.stages.get(Stage::Layout.name())) {
                (Some(what), _) => RunStatus::Damaged(what),
                (None, Some(layout)) if layout.done => RunStatus::Finished,
                (None, _) => RunStatus::Stopped,
            },
        };
        // As a user would type it.
        let path = match path.strip_prefix(".") {
            Ok(below) if !below.as_os_str().is_empty() => below.into(),
            _ => path,
        };
        RunEntry { path, state, holder, bytes, manifest: manifest.ok() }
    }

    /// Returns the finished stages, in order.
    fn finished(&self) -> Vec<&str> {
        self.stages(true).map(|(name, _)| name).collect()
    }

    /// Returns the unfinished stages that have finished units, with the number of these units.
    fn under_way(&self) -> Vec<(&str, usize)> {
        self.stages(false).collect()
    }

    /// Returns the stages that are done or not, with the number of their units.
    fn stages(&self, done: bool) -> impl Iterator<Item = (&str, usize)> {
        let mut stages: Vec<_> = self.manifest.iter().flat_map(|m| &m.stages).collect();
        // Stages of another version come last.
        stages.sort_by_key(|(name, _)| Stage::ALL.iter().position(|s| s.name() == *name).unwrap_or(Stage::ALL.len()));
        stages.into_iter().filter(move |(_, s)| s.done == done).map(|(name, s)| (name.as_str(), s.units.len()))
    }

    fn json(&self) -> Value {
        let problem = match &self.state {
            RunStatus::Damaged(what) | RunStatus::OtherVersion(what) => json!(what),
            _ => Value::Null,
        };
        let under_way: Vec<Value> =
            self.under_way().into_iter().map(|(stage, units)| json!({"stage": stage, "units": units})).collect();
        let sources = self.manifest.iter().flat_map(|m| &m.sources);
        json!({
            "path": self.path.to_string_lossy(),
            "state": self.state.name(),
            "holder": self.holder,
            "created": self.manifest.as_ref().map(|m| &m.created),
            "finished": self.finished(),
            "under_way": under_way,
            "bytes": self.bytes,
            "sources": sources.map(|f| json!({"path": f.path.to_string_lossy(), "bytes": f.bytes})).collect::<Vec<_>>(),
            "problem": problem,
        })
    }

    /// Returns the columns of the table.
    fn cells(&self) -> [String; 6] {
        let Some(manifest) = &self.manifest else {
            let none = || "-".to_string();
            return [self.path.display().to_string(), none(), format_bytes(self.bytes), none(), none(), self.words()];
        };
        let mut stages = self.finished().join(", ");
        for (stage, units) in self.under_way() {
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
        let path = self.path.display().to_string();
        [path, manifest.created.clone(), format_bytes(self.bytes), stages, sources, self.words()]
    }

    fn words(&self) -> String {
        match &self.state {
            RunStatus::InUse(holder) => format!("in use by {holder}"),
            RunStatus::Damaged(what) => format!("damaged: {what}"),
            RunStatus::OtherVersion(what) => what.clone(),
            RunStatus::Finished | RunStatus::Stopped => self.state.name().into(),
        }
    }
}

/// Returns the first listed file that is missing or has another length. The contents are only
/// checked when the run is resumed, because reading all of them would take as long.
fn missing(dir: &Path, manifest: &Manifest) -> Option<String> {
    manifest.files().find_map(|(name, stamp)| {
        let path = dir.join(name);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() == stamp.bytes => None,
            Ok(found) => {
                Some(format!("{}: {} bytes where the manifest lists {}", path.display(), found.len(), stamp.bytes))
            }
            Err(why) => Some(format!("{}: listed in the manifest, but cannot be read: {why}", path.display())),
        }
    })
}

/// Returns the table, with a line of headings and a line for each run; empty if there are no runs.
fn table(runs: &[RunEntry]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let headings = ["RUN", "SINCE", "SIZE", "FINISHED", "SOURCE", "STATE"].map(String::from);
    // A path may contain control characters, but a run must be one line.
    let cells = |run: &RunEntry| run.cells().map(|cell| cell.replace(char::is_control, " "));
    let rows: Vec<[String; 6]> = std::iter::once(headings).chain(runs.iter().map(cells)).collect();
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
