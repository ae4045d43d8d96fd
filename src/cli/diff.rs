//! `lowland diff`: how two versions of a model differ.

use std::path::PathBuf;

use lowland::model::{History, Moved, VersionDiff};
use lowland_engine::format_count;
use serde_json::{Value, json};

use super::model::EXIT_CODES;
use super::options::ProgressArgs;
use super::{Failure, print};
use crate::progress::Console;

/// Compare two versions of a model
///
/// Rows are matched by id. Distances are over the radius of the first version's map.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct DiffArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The first version: a number such as @41, or a tag
    #[arg(value_name = "FROM")]
    from: String,
    /// The second version [default: the current version]
    #[arg(value_name = "TO")]
    to: Option<String>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn diff(args: &DiffArgs, console: &Console) -> Result<(), Failure> {
    let history = History::open(&args.model)?;
    let found = history.diff(&args.from, args.to.as_deref().unwrap_or("current"), console)?;
    print(&if args.json { format!("{}\n", json!(found)) } else { diff_text(&found) })
}

fn diff_text(found: &VersionDiff) -> String {
    let count = |count: u64| format_count(count);
    let mut text = format!("versions   {} and {}\n", found.from, found.to);
    text += &format!("rows       {} and {}\n", count(found.rows[0]), count(found.rows[1]));
    let (added, changed, deleted) = (count(found.added), count(found.changed), count(found.deleted));
    text += &format!("rows       {added} added, {changed} changed, {deleted} deleted\n");
    let (moved, anew) = (&found.moved, &found.placed_anew);
    text += &format!("moved      {} of {} rows that kept their vector", count(moved.rows), count(moved.of));
    text += &distances(moved);
    if anew.of > 0 {
        text += &format!("placed     {} {} anew", count(anew.of), if anew.of == 1 { "row" } else { "rows" });
        text += &distances(anew);
    }
    let empty = serde_json::Map::new();
    let [before, after] = found.measures.each_ref().map(|measures| measures.as_object().unwrap_or(&empty));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let told = |measures: &serde_json::Map<String, Value>| match measures.get(name).and_then(Value::as_f64) {
            Some(value) => format!("{value:.4}"),
            None => "-".into(),
        };
        text += &format!("measure    {name}: {} and {}\n", told(before), told(after));
    }
    text
}

/// Returns the end of a line about rows, and a line for each of those that moved most.
fn distances(moved: &Moved) -> String {
    let mut text = match moved.rows {
        0 => "\n".to_string(),
        _ => format!("; median {:.4}, 95 % below {:.4} of the radius\n", moved.p50, moved.p95),
    };
    for (id, distance) in &moved.most {
        text += &format!("           {distance:.4}  {}\n", id.replace(char::is_control, " "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_with_its_measures() {
        let found = VersionDiff {
            from: 41,
            to: 42,
            rows: [1000, 1001],
            added: 2,
            deleted: 1,
            changed: 3,
            unchanged: 996,
            moved: Moved { of: 996, rows: 3, p50: 0.0, p95: 0.01, most: vec![("a\tb".into(), 0.5)] },
            placed_anew: Moved { of: 1, ..Moved::default() },
            measures: [json!({"recall": 0.95}), json!({"recall": 0.94, "moved_p95": 0.01})],
        };
        let text = diff_text(&found);
        for line in [
            "rows       1,000 and 1,001",
            "moved      3 of 996 rows",
            "0.5000  a b",
            "placed     1 row anew\n",
            "recall: 0.9500 and 0.9400",
            "moved_p95: - and 0.0100",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}
