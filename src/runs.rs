//! Lists run directories, and how far each run is.
//!
//! ```
//! use lowland::runs::{self, RunStatus};
//! # let dir = tempfile::tempdir()?;
//! # let (dir, run) = (dir.path(), dir.path().join("map.npy.run"));
//! # let rows: Vec<f32> = (0..500 * 4).map(|i| ((i * 37 % 101) as f32).sin()).collect();
//!
//! lowland::embed((rows, 4)).memory("600MiB").run_dir(run).run()?; // "map.npy.run"
//! for run in runs::list(&[dir])? {
//!     println!("{}: {}, {} bytes, {:?}", run.path.display(), run.state.name(), run.bytes, run.finished());
//!     assert_eq!(run.state, RunStatus::Finished);
//! }
//! # assert_eq!(runs::list(&[dir])?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lowland_engine::Stage;
use lowland_io::{Error, Manifest, RunSummary};
use serde_json::{Value, json};

use crate::Result;

/// Returns the run directories among `dirs` and directly in them, each once.
///
/// # Errors
/// If a directory cannot be read, or is the address of an object store.
pub fn list<P: AsRef<Path>>(dirs: &[P]) -> Result<Vec<RunEntry>> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for dir in dirs {
        let given = dir.as_ref().to_string_lossy();
        if lowland_io::is_address(&given) && !dir.as_ref().exists() {
            let what =
                format!("{}: an address, and run directories are local; name a directory", lowland_io::shown(&given));
            return Err(crate::Error::job(what));
        }
        for run in lowland_io::runs(dir.as_ref())? {
            // A run directory that is found twice, by its own name and by its parent's, is listed
            // once.
            if seen.insert(run.path.canonicalize().unwrap_or_else(|_| run.path.clone())) {
                found.push(RunEntry::of(run));
            }
        }
    }
    Ok(found)
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunStatus {
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
    /// Returns the state's name.
    pub fn name(&self) -> &'static str {
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
pub struct RunEntry {
    /// The directory.
    pub path: PathBuf,
    /// The state of its run.
    pub state: RunStatus,
    /// The process that works in it.
    holder: Option<String>,
    /// The bytes of its files.
    pub bytes: u64,
    /// What it contains, if that can be read.
    pub manifest: Option<Manifest>,
}

impl RunEntry {
    /// Describes a run directory.
    pub fn of(found: RunSummary) -> Self {
        let RunSummary { path, manifest, held_by: holder, bytes } = found;
        let state = match (&manifest, &holder) {
            (Err(error @ Error::Version { .. }), _) => RunStatus::OtherVersion(error.to_string()),
            (Err(error), _) => RunStatus::Damaged(error.to_string()),
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
    pub fn finished(&self) -> Vec<&str> {
        self.stages(true).map(|(name, _)| name).collect()
    }

    /// Returns the unfinished stages that have finished units, with the number of these units.
    pub fn under_way(&self) -> Vec<(&str, usize)> {
        self.stages(false).collect()
    }

    /// Returns the stages that are done or not, with the number of their units.
    fn stages(&self, done: bool) -> impl Iterator<Item = (&str, usize)> {
        let mut stages: Vec<_> = self.manifest.iter().flat_map(|m| &m.stages).collect();
        // Stages of another version come last.
        stages.sort_by_key(|(name, _)| Stage::ALL.iter().position(|s| s.name() == *name).unwrap_or(Stage::ALL.len()));
        stages.into_iter().filter(move |(_, s)| s.done == done).map(|(name, s)| (name.as_str(), s.units.len()))
    }

    /// Returns the entry as JSON.
    pub fn json(&self) -> Value {
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
