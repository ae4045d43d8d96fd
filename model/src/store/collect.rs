//! The removal of versions, and of the files that no version names.
//!
//! What must hold: a record is removed, durably, before an object that only it names, and after its tags and the scratch
//! of its run; so that every record that is there has its objects, and the next collection removes the rest, whenever the
//! process or the machine stops. Each of these steps makes its directory durable once, after its last file: which of the
//! files of one step are gone after a power failure does not matter.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::directory::entries;
use super::lock::remove_if_there;
use super::names::{CURRENT, DATA, ENDED, RUNS, TAGS, VERSIONS};
use super::{ModelDir, ModelLock};
use crate::{Error, Result};

/// What a collection removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbage {
    /// The numbers of the versions.
    pub versions: Vec<u64>,
    /// The tags that named them.
    pub tags: Vec<String>,
    /// The number of files in `data/`, unfinished ones included.
    pub objects: u64,
    /// The bytes of these files.
    pub bytes: u64,
    /// Scratch directories of runs whose version is published.
    pub runs: Vec<String>,
}

/// What a collection removes, with the paths of the files in `data/`.
struct Unneeded {
    garbage: Garbage,
    files: Vec<PathBuf>,
}

impl ModelDir {
    /// Returns what [`ModelLock::collect`] would remove. Only reads.
    ///
    /// # Errors
    /// Those of [`ModelLock::collect`].
    pub fn garbage(&self, keep: &dyn Fn(u64) -> bool) -> Result<Garbage> {
        Ok(self.unneeded(keep)?.garbage)
    }

    fn unneeded(&self, keep: &dyn Fn(u64) -> bool) -> Result<Unneeded> {
        let (numbers, current) = (self.versions()?, self.current()?);
        let newest = numbers.last().copied();
        match current {
            None if newest.is_some() => return Err(self.no_current()),
            Some(number) if !numbers.contains(&number) => return Err(self.no_record(number, CURRENT)),
            // Older versions may be the way out of a current one whose files are missing.
            Some(number) => {
                if let Some(lost) = self.version(number)?.objects.values().find(|object| !self.has(object)) {
                    return Err(Error::damaged(
                        self.object_path(lost),
                        format!("missing, or not {} bytes long, and the current version {number} needs it", lost.bytes),
                    ));
                }
            }
            None => {}
        }
        let (kept, removed): (Vec<u64>, Vec<u64>) =
            numbers.into_iter().partition(|&number| Some(number) == current || Some(number) == newest || keep(number));
        let mut named = BTreeSet::new();
        let mut finished_runs = BTreeSet::new();
        for &number in &kept {
            let version = self.version(number)?;
            named.extend(version.objects.into_values().map(|object| object.name));
            finished_runs.extend(version.run_id);
        }
        // The record of a version that goes may be damaged, which does not matter.
        finished_runs.extend(removed.iter().filter_map(|&number| self.version(number).ok()?.run_id));
        let mut garbage = Garbage {
            runs: self.runs()?.into_iter().filter(|run| finished_runs.contains(run)).collect(),
            tags: self
                .tags()?
                .into_iter()
                .filter(|(_, number)| removed.contains(number))
                .map(|(name, _)| name)
                .collect(),
            versions: removed,
            ..Garbage::default()
        };
        let mut files = Vec::new();
        for name in entries(&self.path().join(DATA))?.into_iter().filter(|name| !named.contains(name)) {
            let path = self.path().join(DATA).join(&name);
            match std::fs::symlink_metadata(&path) {
                Ok(found) if !found.is_dir() => {
                    garbage.objects += 1;
                    garbage.bytes += found.len();
                    files.push(path);
                }
                // A process that changes the model may have removed it.
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(lowland_io::Error::io(&path, "inspect", e).into());
                }
                _ => {}
            }
        }
        Ok(Unneeded { garbage, files })
    }
}

impl ModelLock<'_> {
    /// Removes every version for which `keep` returns false, with its tags, and every object that no remaining version
    /// names. The current version and the newest one are always kept: the newest, so that its number is not given a second
    /// time.
    ///
    /// The objects that an interrupted run wrote go too, and its scratch directory stays: a run that resumes must check
    /// its objects by [`ModelDir::has`].
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if the record of a version that stays cannot be read, because its objects are unknown then,
    /// if `CURRENT` is damaged or missing, because the version that readers take is unknown then, or if that version lacks
    /// its record or an object, because an older version may be the way out: nothing is removed.
    pub fn collect(&self, keep: &dyn Fn(u64) -> bool) -> Result<Garbage> {
        let model = self.model;
        let Unneeded { garbage, files } = model.unneeded(keep)?;
        // Before the records, which tell that the runs are finished.
        for run in &garbage.runs {
            self.step()?;
            self.end_run(run)?;
        }
        if !garbage.runs.is_empty() {
            lowland_io::sync_directory_of(&model.path().join(RUNS).join(ENDED))?;
        }
        let tags: Vec<PathBuf> = garbage.tags.iter().map(|name| model.tag_path(name)).collect();
        self.remove_durably(&tags)?;
        let records: Vec<PathBuf> = garbage.versions.iter().map(|&number| model.record_path(number)).collect();
        self.remove_durably(&records)?;
        for path in &files {
            self.step()?;
            remove_if_there(path)?;
        }
        self.remove_ended()?;
        self.remove_unfinished(model)?;
        Ok(garbage)
    }

    /// Removes files of one directory, in any order, so that they stay removed after a power failure.
    fn remove_durably(&self, paths: &[PathBuf]) -> Result<()> {
        for path in paths {
            self.step()?;
            remove_if_there(path)?;
        }
        match paths.last() {
            Some(last) => Ok(lowland_io::sync_directory_of(last)?),
            None => Ok(()),
        }
    }

    /// Removes the unfinished records and pointers of interrupted processes.
    fn remove_unfinished(&self, model: &ModelDir) -> Result<()> {
        for folder in [model.path().to_path_buf(), model.path().join(VERSIONS), model.path().join(TAGS)] {
            for name in entries(&folder)?.into_iter().filter(|name| name.ends_with(lowland_io::PART)) {
                remove_if_there(&folder.join(name))?;
            }
        }
        Ok(())
    }
}
