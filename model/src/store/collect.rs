//! The removal of versions, and of the files that no version names.
//!
//! What must hold: a record is removed, durably, before an object that only it names, and after its tags and the scratch
//! of its run; so that every record that is there has its objects, and the next collection removes the rest, whenever the
//! process stops.

use std::collections::BTreeSet;
use std::path::Path;

use super::directory::entries;
use super::lock::{remove_durably, remove_if_there};
use super::names::{DATA, TAGS, VERSIONS};
use super::{ModelDir, ModelLock};
use crate::Result;

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

impl ModelLock<'_> {
    /// Removes every version for which `keep` returns false, with its tags, and every object that no remaining version
    /// names; with `dry_run`, only says what it would remove. The current version and the newest one are always kept:
    /// the newest, so that its number is not given a second time.
    ///
    /// The objects that an interrupted run wrote go too, and its scratch directory stays: a run that resumes must check
    /// its objects by [`ModelDir::has`].
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if the record of a version that stays cannot be read, because its objects are unknown then:
    /// nothing is removed.
    pub fn collect(&self, keep: &dyn Fn(u64) -> bool, dry_run: bool) -> Result<Garbage> {
        let model = self.model;
        let (numbers, current) = (model.versions()?, model.current()?);
        let newest = numbers.last().copied();
        let (kept, removed): (Vec<u64>, Vec<u64>) =
            numbers.into_iter().partition(|&number| Some(number) == current || Some(number) == newest || keep(number));

        let mut garbage = Garbage::default();
        let mut named = BTreeSet::new();
        let mut finished_runs = BTreeSet::new();
        for &number in &kept {
            let version = model.version(number)?;
            named.extend(version.objects.into_values().map(|object| object.name));
            finished_runs.extend(version.run_id);
        }
        // The record of a version that goes may be damaged, which does not matter.
        finished_runs.extend(removed.iter().filter_map(|&number| model.version(number).ok()?.run_id));

        // Before the records, which tell that the runs are finished.
        for run in model.runs()?.into_iter().filter(|run| finished_runs.contains(run)) {
            if !dry_run {
                self.step()?;
                self.end_run(&run)?;
            }
            garbage.runs.push(run);
        }
        for (name, number) in model.tags()? {
            if removed.contains(&number) {
                self.remove(&model.tag_path(&name), dry_run)?;
                garbage.tags.push(name);
            }
        }
        for number in removed {
            self.remove(&model.record_path(number), dry_run)?;
            garbage.versions.push(number);
        }
        for name in entries(&model.path().join(DATA))? {
            let path = model.path().join(DATA).join(&name);
            if named.contains(&name) {
                continue;
            }
            let found = std::fs::symlink_metadata(&path).map_err(|e| lowland_io::Error::io(&path, "inspect", e))?;
            if found.is_dir() {
                continue;
            }
            garbage.objects += 1;
            garbage.bytes += found.len();
            if !dry_run {
                self.step()?;
                remove_if_there(&path)?;
            }
        }
        if !dry_run {
            self.remove_ended()?;
            self.remove_unfinished(model)?;
        }
        Ok(garbage)
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

    fn remove(&self, path: &Path, dry_run: bool) -> Result<()> {
        if dry_run {
            return Ok(());
        }
        self.step()?;
        remove_durably(path)
    }
}
