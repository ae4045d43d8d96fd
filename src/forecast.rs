//! What a run would take, stage by stage, before it begins: as text and as JSON.
//!
//! What must hold: the numbers are those that the run uses; nothing is created except an unnamed
//! temporary file, to measure the disk's speed.
//!
//! The table of stages, as `lowland plan` prints it:
//!
//! ```
//! use lowland::forecast::Forecast;
//! use lowland::machine::Machine;
//!
//! # let rows: Vec<f32> = (0..500 * 4).map(|i| ((i * 37 % 101) as f32).sin()).collect();
//! let (job, _) = lowland::embed((rows, 4)).memory("600MiB").job()?; // or names of files
//! let (plan, machine) = (job.plan()?, Machine::detect());
//! let forecast = Forecast::measure(&job, &plan, &machine, None, true, Vec::new())?;
//! println!("{}", forecast.text());
//! assert_eq!(forecast.json()["peak"], plan.peak());
//! # Ok::<(), lowland::Error>(())
//! ```

use std::path::{Path, PathBuf};

use lowland_engine::estimate::{self, Rates};
use lowland_engine::invalid::ExcludedRows;
use lowland_engine::{Plan, Stage, StagePlan, format_bytes, format_count};
use lowland_io::Shift;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::{DiskSpace, Job, MapTable, Result, disk};

/// Returns the directory in which a run directory lies or would lie.
fn run_parent(run: &Path) -> PathBuf {
    let above = run.ancestors().skip(1).find(|part| part.is_dir());
    above.unwrap_or(Path::new(".")).to_path_buf()
}

/// What a run would take: a plan together with what was measured on this machine.
pub struct Forecast<'a> {
    job: &'a Job,
    plan: &'a Plan,
    machine: &'a Machine,
    /// Whether the user gave the budget.
    asked: bool,
    room: Option<DiskSpace>,
    rates: Rates,
    seconds: Vec<Option<f64>>,
    /// The reasons why `embed` would refuse to begin on this machine.
    problems: Vec<String>,
    left_out: Option<ExcludedRows>,
    shift: Option<Shift>,
}

impl<'a> Forecast<'a> {
    /// Measures the processor and the disk for a run of `plan`, for less than a second. `output` is
    /// the file to write and its columns; `asked` says whether the user gave the memory budget;
    /// `problems` are the reasons why the run would be refused.
    ///
    /// # Errors
    /// If the source cannot be read.
    pub fn measure(
        job: &'a Job,
        plan: &'a Plan,
        machine: &'a Machine,
        output: Option<(&Path, &MapTable)>,
        asked: bool,
        problems: Vec<String>,
    ) -> Result<Self> {
        let room = job.room(plan, output);
        let short = room.as_ref().filter(|room| room.needed > room.free).map(|room| {
            format!(
                "{} are free where the run directory would be, and {} are needed",
                format_bytes(room.free),
                format_bytes(room.needed)
            )
        });
        let problems = problems.into_iter().chain(short).collect();
        let kept = machine.limit.as_ref().map_or(0, |limit| limit.bytes.saturating_sub(plan.peak()));
        let directory = job.run.dir.as_deref().map_or_else(std::env::temp_dir, run_parent);
        let disk = disk::rates(&directory, room.as_ref().map_or(0, |room| room.free), kept);
        let rates = Rates::measure(plan, job.source.as_deref(), disk)?;
        let seconds = estimate::seconds(plan, &rates);
        let (left_out, shift) = (job.left_out()?, job.shift()?);
        Ok(Forecast { job, plan, machine, asked, room, rates, seconds, problems, left_out, shift })
    }

    /// Returns the seconds of all stages; `None` if a stage has no estimate.
    fn total(&self) -> Option<f64> {
        self.seconds.iter().copied().sum()
    }

    /// Returns the plan as JSON, with what was measured on this machine.
    pub fn json(&self) -> Value {
        let mut all = json!(self.plan);
        if let Some(stages) = all.get_mut("stages").and_then(Value::as_array_mut) {
            for (stage, seconds) in stages.iter_mut().zip(&self.seconds) {
                stage["seconds"] = json!(seconds);
            }
        }
        if let Some(fields) = all.as_object_mut() {
            let limit = self.machine.limit.as_ref();
            fields.insert("peak".into(), json!(self.plan.peak()));
            fields.insert("disk".into(), json!(self.plan.disk()));
            fields.insert("model_bytes".into(), json!(self.job.model_bytes(self.plan)));
            fields.insert("disk_needed".into(), json!(self.room.as_ref().map(|room| room.needed)));
            fields.insert("disk_free".into(), json!(self.room.as_ref().map(|room| room.free)));
            fields.insert("limit".into(), json!(limit.map(|l| json!({"bytes": l.bytes, "source": l.source}))));
            fields.insert(
                "run_dir".into(),
                json!(self.job.run.dir.as_deref().unwrap_or(Path::new("")).to_string_lossy()),
            );
            fields.insert("seconds".into(), json!(self.total()));
            fields.insert("problems".into(), json!(self.problems));
            fields.insert("left_out".into(), json!(self.left_out));
            fields.insert("shift".into(), json!(self.shift));
        }
        all
    }

    /// Returns the plan as text, with a line for each stage.
    pub fn text(&self) -> String {
        let mut text = self.header();
        if let Some(note) = self.left_out.as_ref().and_then(ExcludedRows::note) {
            text += &format!("{note}\n");
        }
        if let Some(shift) = &self.shift {
            text += &format!(
                "{} components are shifted by a constant each before they are rounded to f32\n",
                shift.moved()
            );
        }
        text += "\n";
        text += &self.table();
        text += "\n";
        text += &self.sums();
        for problem in &self.problems {
            text += &format!("refused    {problem}\n");
        }
        text
    }

    fn header(&self) -> String {
        let (plan, settings) = (self.plan, self.plan.settings());
        let what = match &self.job.source {
            Some(source) => {
                format!("{} rows × {} of {}", format_count(plan.shape().rows), plan.shape().dim, source.dtype().name())
            }
            None => {
                let k = plan.graph_k().unwrap_or(0);
                let s = if k == 1 { "" } else { "s" };
                format!("{} rows, a graph of {k} neighbour{s},", format_count(plan.shape().rows))
            }
        };
        let mut text = format!(
            "{what} to {} components by {}: {}, {} threads, {} rows a batch\n",
            settings.n_components,
            settings.method,
            plan.layout_summary().replace(';', ","),
            plan.threads(),
            format_count(plan.batch_rows() as u64)
        );
        if plan.all_pairs().is_some() {
            text += &format!("exact, in memory, with {} costs\n", settings.metric.name());
        } else if plan.shape().dim > 0 {
            let how = if plan.graph_k().is_some() {
                "neighbours from the graph".into()
            } else if plan.index().exact {
                "every pair compared".into()
            } else {
                format!("recall {} or better", settings.recall)
            };
            text += &format!("{} lists, {how}\n", format_count(plan.index().lists as u64));
        }
        for note in plan.notes() {
            text += &format!("{}\n", note.text);
        }
        let from = match (&self.machine.limit, self.asked) {
            (_, true) => "as requested".into(),
            (Some(limit), false) => format!("half of {}, {}", limit.source, format_bytes(limit.bytes)),
            (None, false) => "by default".into(),
        };
        text + &format!("a budget of {}, {from}\n", format_bytes(settings.memory))
    }

    /// Returns the table, with a line for each stage.
    fn table(&self) -> String {
        let headings = ["stage", "work", "memory", "disk", "read", "written", "time"].map(String::from);
        let mut rows = vec![headings];
        for (stage, seconds) in self.plan.stages().iter().zip(&self.seconds) {
            let work = match stage.stage {
                Stage::Layout if self.plan.all_pairs().is_some() => format!("{} iterations", self.plan.layout().epochs),
                Stage::Layout => format!("{} epochs", self.plan.layout().epochs),
                _ => format!("{} rows", format_count(self.plan.shape().rows)),
            };
            let time = seconds.map_or("?".into(), duration);
            let bytes = [stage.memory, stage.disk, stage.read, stage.written].map(format_bytes);
            let [memory, disk, read, written] = bytes;
            rows.push([stage.stage.name().into(), work, memory, disk, read, written, time]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..7).map(width).collect();
        let mut text = String::new();
        let spills = std::iter::once(None).chain(self.plan.stages().iter().map(|stage| stage.spills.as_deref()));
        for (row, spills) in rows.iter().zip(spills) {
            text += &format!("{:<10}", row[0]);
            for (cell, &width) in row.iter().zip(&widths).skip(1) {
                text += &format!(" {cell:>width$} ");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
            if let Some(spills) = spills {
                text += &format!("           {spills}\n");
            }
        }
        text
    }

    /// Returns the lines of peaks, totals, and the least memory.
    fn sums(&self) -> String {
        let plan = self.plan;
        let mut text = String::new();
        if let Some(fullest) = plan.stages().iter().max_by_key(|stage| stage.memory) {
            text += &format!(
                "peak       {} of memory, in {}: {}\n",
                format_bytes(fullest.memory),
                fullest.stage.name(),
                parts(fullest)
            );
        }
        if let Some(fullest) = plan.stages().iter().max_by_key(|stage| stage.disk) {
            text += &format!(
                "disk       {} in the run directory at most, in {}",
                format_bytes(fullest.disk),
                fullest.stage.name()
            );
            if let Some(room) = &self.room {
                text += &format!("; {} are free for {}", format_bytes(room.free), room.directory.display());
            }
            text.push('\n');
        }
        if let Some(model) = self.job.model_bytes(plan) {
            text += &format!(
                "model      about {}, beside the files of the run until it is complete\n",
                format_bytes(model)
            );
        }
        let disk = if self.rates.disk.is_none() { ", without disk time: the disk could not be measured" } else { "" };
        text += &match self.total() {
            Some(total) => {
                format!("time       about {} on this machine, within a factor of two{disk}\n", duration(total))
            }
            None => {
                let known = self.seconds.iter().flatten().sum();
                format!(
                    "time       {} in addition to reading the source, whose speed could not be measured{disk}\n",
                    duration(known)
                )
            }
        };
        if let Some((bytes, row)) = floor(plan) {
            text += &format!(
                "floor      {row} bytes a row, {} here: positions, snapshot and moments must be in memory with any budget\n",
                format_bytes(bytes)
            );
        }
        text
    }
}

/// Returns the bytes that the layout holds for the rows, in total and for each row.
fn floor(plan: &Plan) -> Option<(u64, u64)> {
    if plan.all_pairs().is_some() {
        // An exact method holds everything.
        return None;
    }
    let layout = plan.stages().iter().find(|stage| stage.stage == Stage::Layout)?;
    let state = layout.holds.iter().find(|part| part.what.starts_with("positions"))?;
    Some((state.bytes, state.bytes / plan.shape().rows))
}

/// Returns the parts of a stage's peak memory, largest first.
fn parts(stage: &StagePlan) -> String {
    let mut parts: Vec<_> = stage.holds.iter().collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let parts: Vec<String> = parts.iter().map(|part| format!("{} {}", part.what, format_bytes(part.bytes))).collect();
    parts.join(", ")
}

/// Formats a duration, with no more digits than the estimate has.
fn duration(seconds: f64) -> String {
    const UNITS: [(&str, f64); 4] = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("days", 86_400.0)];
    // From two of a unit on, because "80 min" is more readable than "1.3 h".
    let (name, unit) = UNITS.into_iter().rev().find(|(_, unit)| seconds >= 2.0 * unit).unwrap_or(UNITS[0]);
    let number = seconds / unit;
    if number < 10.0 { format!("{number:.1} {name}") } else { format!("{number:.0} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, told) in [
            (0.0, "0.0 s"),
            (0.31, "0.3 s"),
            (1.5, "1.5 s"),
            (95.0, "95 s"),
            (125.0, "2.1 min"),
            (840.0, "14 min"),
            (7_100.0, "118 min"),
            (7_300.0, "2.0 h"),
            (100_000.0, "28 h"),
            (900_000.0, "10 days"),
        ] {
            assert_eq!(duration(seconds), told);
        }
    }

    #[test]
    fn beside_a_run_directory() {
        assert_eq!(run_parent("map.npy.run".as_ref()), Path::new("."));
        assert_eq!(run_parent("no/such/run".as_ref()), Path::new("."));
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(run_parent(&dir.path().join("a/b")), dir.path());
    }
}
