//! The directory in which a run keeps its finished stages, and the disk space that a run needs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lowland_engine::{Plan, Report, Stage};
use lowland_io::{Fingerprint, Manifest, RunDir, RunOrigin};
use serde_json::Value;

use crate::Result;

/// The run directory of a job, and what becomes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// The directory. `None`: a directory for temporary files, which is removed in any case.
    pub dir: Option<PathBuf>,
    /// Whether the directory stays after success, with all stages if
    /// [`Config::keep_stages`](crate::Config::keep_stages) does not name them. It also stays if
    /// stages are named.
    pub keep: bool,
    /// Whether an earlier run in the directory is discarded.
    pub restart: bool,
    /// Whether the caller treats warnings ([`Report::warnings`]) as an error. Then a run with
    /// warnings keeps its finished stages, and no stage's files are removed before the run ends,
    /// which takes more disk space.
    pub strict: bool,
}

impl RunOptions {
    /// Returns the options of a run whose directory is the output's name plus `.run`. It is removed
    /// after success.
    pub fn beside(output: &Path) -> Self {
        let mut name = output.as_os_str().to_owned();
        name.push(".run");
        RunOptions { dir: Some(name.into()), ..RunOptions::default() }
    }

    /// Returns the options of a run in a directory that stays after success.
    pub fn kept(dir: impl Into<PathBuf>) -> Self {
        RunOptions { dir: Some(dir.into()), keep: true, ..RunOptions::default() }
    }

    /// Returns whether the directory stays after success. Without stages to keep it is removed
    /// whatever is asked, because only a list of removed files would be left.
    pub(super) fn keeps(&self, stages: Option<&[Stage]>) -> bool {
        self.dir.is_some() && stages.map_or(self.keep, |stages| !stages.is_empty())
    }
}

/// Returns a path for a temporary run directory, a new one at each call.
fn temporary() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("lowland-{}-{count}.run", std::process::id()))
}

/// An open run directory.
pub(crate) struct OpenRun {
    pub(crate) dir: RunDir,
    /// Whether this job created it.
    made: bool,
    /// Whether a later run over the same rows can be recognised as such.
    resumable: bool,
}

impl OpenRun {
    /// Opens the directory for a run with this `identity` and these input `files`. Stages of an
    /// earlier run are reused only if its identity and files are equal. If the source is not
    /// `resumable`, equal means nothing, so that a run of such a source is begun anew. The run of another
    /// source is an error as always. A run without a directory gets a temporary one, whose files are not
    /// synced.
    pub(crate) fn open(
        options: &RunOptions,
        identity: Value,
        files: Vec<Fingerprint>,
        resumable: bool,
    ) -> Result<Self> {
        let Some(path) = &options.dir else {
            let dir = RunDir::temporary(temporary(), identity, files)?;
            return Ok(OpenRun { dir, made: true, resumable: false });
        };
        // An existing directory was chosen by the user and is not removed.
        let made = !path.exists();
        let restart = || RunDir::restart(path, identity.clone(), files.clone());
        let dir = if options.restart {
            restart()?
        } else {
            match RunDir::open(path, identity.clone(), files.clone())? {
                (dir, RunOrigin::Resumed) if !resumable => {
                    // The lock must be free before it is taken again.
                    drop(dir);
                    restart()?
                }
                (dir, _) => dir,
            }
        };
        Ok(OpenRun { dir, made, resumable })
    }

    /// Removes the directory if it is not needed any more. `keeps` says whether it stays after
    /// success.
    pub(super) fn close(self, options: &RunOptions, keeps: bool, result: Result<Report>) -> Result<Report> {
        let warned = result.as_ref().is_ok_and(|report| options.strict && !report.warnings.is_empty());
        self.end(options, keeps || warned, result)
    }

    /// As [`close`](Self::close), for a result of any type.
    pub(crate) fn end<T>(self, options: &RunOptions, keeps: bool, result: Result<T>) -> Result<T> {
        let useless = match &result {
            // A directory for temporary files: nobody would look for it.
            _ if options.dir.is_none() => true,
            Ok(_) => !keeps,
            Err(_) if !self.resumable => true,
            Err(_) => self.made && self.dir.manifest().stages.is_empty(),
        };
        if useless {
            let removed = self.dir.remove();
            // After a failed run, the run's error is reported and not that of the removal.
            if result.is_ok() {
                removed?;
            }
        }
        result
    }
}

/// Disk space for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpace {
    /// The run directory.
    pub directory: PathBuf,
    /// The approximate number of bytes that are still to be written when the run takes the most
    /// space, including the output if it is on the same file system.
    pub needed: u64,
    /// Free bytes.
    pub free: u64,
}

/// Returns the stages that a run of `plan` still has to run if it resumes from `manifest`. The planned disk space
/// of the other stages is not needed any more.
pub(super) fn to_run(plan: &Plan, manifest: Option<&Manifest>) -> Vec<Stage> {
    plan.graph().to_run(|stage| {
        let record = manifest.and_then(|manifest| manifest.stages.get(stage.name()));
        record.is_some_and(|record| record.done && !record.released)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use lowland_engine::Config;

    use super::*;

    #[test]
    fn resumed_run_skips_done_stages() {
        let shape = lowland_io::Shape { rows: 1000, dim: 8 };
        let input = lowland_engine::PlanInput {
            shape,
            dtype: lowland_io::Dtype::F32,
            graph_k: None,
            source_bytes: 0,
            resident_bytes: 0,
        };
        let plan = Config::default().plan(&input).expect("a plan");
        // For each stage: whether its files are kept (true) or were released (false).
        let behind = |stages: &[(&str, bool)]| {
            let record =
                |there: bool| json!({"done": true, "released": !there, "files": {}, "data": null, "units": {}});
            let stages: serde_json::Map<String, Value> =
                stages.iter().map(|&(name, there)| (name.into(), record(there))).collect();
            let manifest: Manifest = serde_json::from_value(json!({
                "lowland": "0.1.0", "format": 2, "created": "", "config": {}, "sources": [], "stages": stages,
            }))
            .expect("a manifest");
            let to_run = to_run(&plan, Some(&manifest));
            let behind = plan.stages().iter().map(|s| s.stage).filter(|stage| !to_run.contains(stage));
            behind.map(Stage::name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(to_run(&plan, None).len(), plan.stages().len());
        assert_eq!(behind(&[("scan", true)]), "scan");
        assert_eq!(behind(&[("scan", false), ("index", true)]), "scan index");
        let before_layout =
            [("scan", false), ("index", true), ("neighbors", false), ("affinity", true), ("init", true)];
        assert_eq!(behind(&before_layout), "scan index neighbors affinity init");
        // After a run that kept some stages: the index is built again, and so are the stages after
        // it.
        assert_eq!(behind(&[("index", false), ("layout", true)]), "neighbors affinity init layout");
        assert_eq!(behind(&[("index", true), ("neighbors", false), ("layout", false)]), "scan index");
    }
}
