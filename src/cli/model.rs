//! The small commands of a model: `lowland versions`, `rollback`, `gc`, `tag`, `verify` and `export`.

use std::path::PathBuf;

use lowland::model::{ExportJob, History, Kept, Model, Retention};
use lowland::{MapFile, format_bytes};
use lowland_engine::format_count;
use serde_json::{Value, json};

use super::options::ProgressArgs;
use super::{Failure, names, print};
use crate::progress::Console;

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failure of the machine, or a damaged model (verify names its files)
  2    wrong usage: no such model, version or tag, or an output that exists
  130  interrupted (SIGINT, Ctrl-C)  } the model is whole, and the same command
  143  ended (SIGTERM)               } may be given again";

const VERIFY_EXIT_CODES: &str = "\
Exit codes:
  0    all checksums are right
  1    a file is damaged or missing: each is named on standard output
  2    wrong usage, or not a model
  130  interrupted (SIGINT, Ctrl-C)
  143  ended (SIGTERM)";

/// List the versions of a model
///
/// Readers take the current version, marked *. A version that a gate refused is kept, and is never current by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct VersionsArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Write one JSON array, with an object for each version
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn versions(args: &VersionsArgs, console: &Console) -> Result<(), Failure> {
    let versions = History::open(&args.model)?.versions()?;
    if versions.is_empty() {
        console.note("no-versions", format!("{} has no version yet", args.model.display()));
    }
    if args.json {
        let all: Vec<Value> = versions.iter().map(Kept::to_json).collect();
        return print(&format!("{}\n", Value::from(all)));
    }
    let headings = ["VERSION", "PARENT", "MADE", "BY", "ROWS", "ADDED", "CHANGED", "DELETED", "NOTES"];
    let mut rows = vec![headings.map(String::from).to_vec()];
    rows.extend(versions.iter().map(cells));
    print(&if versions.is_empty() { String::new() } else { aligned(&rows) })
}

fn cells(kept: &Kept) -> Vec<String> {
    let number = format!("{}{}", if kept.current { "*" } else { "" }, kept.number);
    let mut notes: Vec<String> = kept.tags.iter().map(|tag| format!("tag {tag}")).collect();
    let version = match &kept.record {
        Ok(version) => version,
        Err(damage) => {
            let mut cells = vec![number];
            cells.resize(8, "-".into());
            notes.push(damage.clone());
            cells.push(notes.join(", "));
            return cells;
        }
    };
    if !version.accepted {
        notes.push("refused by a gate".into());
    }
    notes.extend(version.run_id.as_ref().map(|run| format!("run {run}")));
    let action = json!(version.action).as_str().unwrap_or("-").to_string();
    let counts = &version.counts;
    vec![
        number,
        version.parent.map_or("-".into(), |parent| parent.to_string()),
        version.created.clone(),
        action,
        counts.rows.to_string(),
        counts.added.to_string(),
        counts.changed.to_string(),
        counts.deleted.to_string(),
        notes.join(", "),
    ]
}

/// Returns rows of cells as lines with aligned columns; the last column is not padded.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    // Control characters would break the line.
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| cell.replace(char::is_control, " ")).collect()).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 < columns { widths[column] } else { 0 };
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Go back to an earlier version of a model
///
/// A new version with the content of the old one is published and made current. Nothing is computed or copied.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct RollbackArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The version to go back to: a number or a tag. A version that a gate refused is accepted by this
    #[arg(long, value_name = "VERSION")]
    to: String,
    /// Fail at once if another process is changing the model
    #[arg(long)]
    no_wait: bool,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn rollback(args: &RollbackArgs, console: &Console) -> Result<(), Failure> {
    let mut history = History::open(&args.model)?;
    history.wait = !args.no_wait;
    let to = history.number(&args.to)?;
    let number = history.rollback(&to.to_string(), console)?;
    if args.json {
        return print(&format!("{}\n", json!({"version": number, "to": to})));
    }
    console.note("rolled-back", format!("version {number} has the content of version {to} and is current"));
    Ok(())
}

/// Remove old versions of a model, and the files that no other version needs
///
/// The current and the newest version always stay.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct GcArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Number of newest versions that stay, without those that a gate refused
    #[arg(long, value_name = "N")]
    keep: usize,
    /// Versions with a tag stay too. Otherwise the tags of removed versions are removed
    #[arg(long)]
    keep_tagged: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Fail at once if another process is changing the model
    #[arg(long)]
    no_wait: bool,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn gc(args: &GcArgs, console: &Console) -> Result<(), Failure> {
    let mut history = History::open(&args.model)?;
    history.wait = !args.no_wait;
    let retention = Retention { keep: args.keep, tagged: args.keep_tagged };
    let removed = history.collect(retention, args.dry_run, console)?;
    if args.json {
        let mut full = json!(removed);
        full["dry_run"] = args.dry_run.into();
        return print(&format!("{full}\n"));
    }
    let versions: Vec<String> = removed.versions.iter().map(u64::to_string).collect();
    let versions = if versions.is_empty() { "no version".into() } else { format!("versions {}", versions.join(", ")) };
    let tags = match &removed.tags[..] {
        [] => String::new(),
        [one] => format!(", the tag {one}"),
        several => format!(", the tags {}", several.join(", ")),
    };
    print(&format!(
        "{} {versions}{tags} and {} files, {}\n",
        if args.dry_run { "would remove" } else { "removed" },
        format_count(removed.files),
        format_bytes(removed.bytes)
    ))
}

/// Name a version of a model
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct TagArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The tag, which may be used in place of a version's number
    #[arg(value_name = "NAME")]
    name: String,
    /// The version that gets the tag [default: the current version]
    #[arg(value_name = "VERSION", conflicts_with = "delete")]
    version: Option<String>,
    /// Remove the tag; the version stays
    #[arg(long)]
    delete: bool,
    /// Fail at once if another process is changing the model
    #[arg(long)]
    no_wait: bool,
    /// Write one JSON object; without the tag, its version is null
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn tag(args: &TagArgs, console: &Console) -> Result<(), Failure> {
    let mut history = History::open(&args.model)?;
    history.wait = !args.no_wait;
    let tagged = |version: Option<u64>| print(&format!("{}\n", json!({"tag": args.name, "version": version})));
    if args.delete {
        history.untag(&args.name, console)?;
        if args.json {
            return tagged(None);
        }
        console.note("untagged", format!("the tag {} is removed", args.name));
        return Ok(());
    }
    let number = history.tag(&args.name, args.version.as_deref(), console)?;
    if args.json {
        return tagged(Some(number));
    }
    console.note("tagged", format!("version {number} has the tag {}", args.name));
    Ok(())
}

/// Check every file of a model against its checksum
///
/// Prints each file that is damaged and what is wrong with it, and then ends with exit code 1.
#[derive(Debug, clap::Args)]
#[command(after_help = VERIFY_EXIT_CODES)]
pub(super) struct VerifyArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

/// Returns the exit code.
pub(super) fn verify(args: &VerifyArgs, console: &Console) -> Result<u8, Failure> {
    let history = History::open(&args.model)?;
    let damage = history.verify(console)?;
    if args.json {
        let damaged: Vec<Value> = damage.iter().map(|one| json!({"file": one.file, "what": one.what})).collect();
        print(&format!("{}\n", json!({"model": args.model.to_string_lossy(), "damaged": damaged})))?;
    } else {
        let lines: String = damage.iter().map(|one| format!("{}: {}\n", one.file, one.what)).collect();
        print(&lines)?;
    }
    if damage.is_empty() {
        console.note("verified", format!("{}: all checksums are right", args.model.display()));
        return Ok(0);
    }
    let files = if damage.len() == 1 { "1 file is".to_string() } else { format!("{} files are", damage.len()) };
    let advice = "restore what is named from a copy of the model, or go back to a version that does not need it";
    console.error(&format!("{}: {files} damaged; {advice}", args.model.display()), 1);
    Ok(1)
}

/// Write a version of a model as a table
///
/// The columns are id, the coordinates, added_in (the version that added the row), moved (the distance between the
/// row's positions in this version and in its parent; null without a parent), and neighbors: a struct of ids and
/// distances, nearest first.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct ExportArgs {
    /// The model
    #[arg(value_name = "MODEL", display_order = 0, help_heading = "Input")]
    model: PathBuf,
    /// Version of the model: a number or a tag [default: the current version]
    #[arg(long, value_name = "VERSION", help_heading = "Input")]
    version: Option<String>,
    /// The table: .parquet or .arrow
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: PathBuf,
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
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn export(args: &ExportArgs, console: &Console) -> Result<(), Failure> {
    lowland::check_output(&args.output, args.force)?;
    lowland_io::MapWriter::ending(&args.output)?;
    let mut file = MapFile { path: args.output.clone(), force: args.force, ..MapFile::default() };
    if let Some(given) = &args.coordinates {
        let coordinates = names::split(given, &[]);
        file.table.coordinates = coordinates.map_err(|why| Failure::usage(format!("--coordinates: {why}")))?;
    }
    let job = ExportJob { model: Model::open_version(&args.model, args.version.as_deref())? };
    let report = job.write(&file, console)?;
    let mut full = serde_json::to_value(&report).unwrap_or_default();
    if let Some(fields) = full.as_object_mut() {
        fields.insert("model".into(), json!(args.model.to_string_lossy()));
        fields.insert("output".into(), json!(args.output.to_string_lossy()));
    }
    console.done(&report, &full, &[("table", &args.output)]);
    if args.json { print(&format!("{full}\n")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_have_a_line_for_each_row() {
        let rows = [["A", "LONG", "Z"], ["long\n", "b", ""]].map(|row| row.map(String::from).to_vec());
        assert_eq!(aligned(&rows), "A      LONG  Z\nlong   b\n");
    }
}
