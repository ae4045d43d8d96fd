//! The versions of a model: listing, comparing (`compare.rs`), going back, removing, naming, checking.
//!
//! What must hold:
//! - A change is made under the model's lock, and is whole or absent, whenever the process stops.
//! - Listing, comparing and checking write nothing.

use std::path::Path;

use lowland_engine::{Event, Observer};
use lowland_model::snapshot::Snapshot;
use lowland_model::store::{Action, Counts, Damage, Garbage, ModelDir, ModelLock, Version};
use serde::Serialize;
use serde_json::{Value, json};

use super::open::open_dir;
use super::{Model, VersionDiff};
use crate::{Error, Result};

/// A model and its versions.
pub struct History {
    dir: ModelDir,
    /// Whether a change waits for another process that is changing the model. Otherwise it is refused with the name
    /// of that process. Default: true.
    pub wait: bool,
}

/// A version in a list.
#[derive(Debug)]
pub struct Kept {
    /// The number.
    pub number: u64,
    /// Whether readers take this version.
    pub current: bool,
    /// The version's tags, sorted.
    pub tags: Vec<String>,
    /// The record, or why it cannot be read.
    pub record: std::result::Result<Version, String>,
}

impl Kept {
    /// Returns the version as a JSON object: the record without its objects and options, whether it is current, and its
    /// tags; of a damaged record, why it cannot be read.
    pub fn to_json(&self) -> Value {
        let (number, current, tags) = (self.number, self.current, &self.tags);
        match &self.record {
            Err(damage) => json!({"number": number, "current": current, "tags": tags, "damaged": damage}),
            Ok(version) => json!({
                "number": number,
                "current": current,
                "tags": tags,
                "parent": version.parent,
                "created": version.created,
                "lowland": version.lowland,
                "run_id": version.run_id,
                "action": version.action,
                "accepted": version.accepted,
                "counts": version.counts,
                "measures": version.measures,
            }),
        }
    }
}

/// Which versions stay when old ones are removed. The current and the newest version always stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The number of newest versions that stay.
    pub keep: usize,
    /// Whether versions with a tag stay.
    pub tagged: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// The versions.
    pub versions: Vec<u64>,
    /// The tags that named them.
    pub tags: Vec<String>,
    /// The number of files of data.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl History {
    /// Opens the model at `path`.
    ///
    /// # Errors
    /// If there is no model, or it is damaged or of a newer format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(History { dir: open_dir(path.as_ref())?, wait: true })
    }

    /// Returns the model's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns all versions, the oldest first.
    ///
    /// # Errors
    /// If the directory cannot be read. A version whose record is damaged is no error.
    pub fn versions(&self) -> Result<Vec<Kept>> {
        let (current, tags) = (self.dir.current()?, self.dir.tags()?);
        let kept = |number| Kept {
            number,
            current: current == Some(number),
            tags: tags.iter().filter(|(_, tagged)| **tagged == number).map(|(name, _)| name.clone()).collect(),
            record: self.dir.version(number).map_err(|e| e.to_string()),
        };
        Ok(self.dir.versions()?.into_iter().map(kept).collect())
    }

    /// Returns the number of the version that `name` names: a number, with or without @ before it, a tag, or `current`.
    ///
    /// # Errors
    /// If there is no such version.
    pub fn number(&self, name: &str) -> Result<u64> {
        Ok(self.dir.resolve(name)?)
    }

    /// Returns the names of the runs that have begun and whose version is not complete, or whose files are still there.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn unfinished(&self) -> Result<Vec<String>> {
        Ok(self.dir.runs()?)
    }

    /// Compares two versions, each a number, with or without @ before it, or a tag. Holds four bytes for each row that
    /// is in both.
    ///
    /// # Errors
    /// If there is no such version, or its files cannot be read.
    pub fn diff(&self, from: &str, to: &str, observer: &dyn Observer) -> Result<VersionDiff> {
        let from = Model::open_version(self.path(), Some(from))?;
        let to = Model::open_version(self.path(), Some(to))?;
        VersionDiff::of(&from, &to, observer)
    }

    /// Publishes a new version with the content of the version `to`, and makes it current. Returns its number. Nothing
    /// is computed or copied. A version that a gate refused can be named too: this accepts it. Where `CURRENT` is damaged
    /// or missing, it is written anew.
    ///
    /// # Errors
    /// If there is no such version, if another process is changing the model and waiting is not allowed, or if the
    /// model cannot be written.
    pub fn rollback(&self, to: &str, observer: &dyn Observer) -> Result<u64> {
        let lock = self.lock(observer)?;
        let number = self.dir.resolve(to)?;
        let current = match self.dir.current() {
            // Publishing writes it anew.
            Err(lowland_model::Error::Damaged { .. }) => None,
            current => current?,
        };
        if current == Some(number) {
            return Err(Error::job(format!("version {number} is the current version already")));
        }
        let old = self.dir.version(number)?;
        // Opened, so that a version without its files is never made current.
        let rows = u64::from(Snapshot::open(&self.dir, &old)?.live());
        // By its name, a rollback that was interrupted is continued instead of recorded twice.
        let run_id = format!("rollback-{}-to-{number}", current.unwrap_or(0));
        let version = Version {
            number: 0,
            parent: current,
            created: lowland_io::now(),
            lowland: env!("CARGO_PKG_VERSION").into(),
            run_id: Some(run_id),
            action: Action::Rollback,
            accepted: true,
            counts: Counts { rows, added: 0, changed: 0, deleted: 0, unchanged: rows },
            ..old
        };
        Ok(lock.publish(version, true)?)
    }

    /// Removes old versions and the files that no remaining version needs. With `dry_run`, only tells what would be
    /// removed: the model may then be read-only, and another process may be changing it.
    ///
    /// # Errors
    /// If another process is changing the model and waiting is not allowed, if a version that stays is damaged, or if
    /// the model cannot be written.
    pub fn collect(&self, retention: Retention, dry_run: bool, observer: &dyn Observer) -> Result<Collected> {
        let lock = if dry_run { None } else { Some(self.lock(observer)?) };
        let (versions, tags) = (self.dir.versions()?, self.dir.tags()?);
        // A version that a gate refused is not one to which somebody would go back. A damaged record is none either.
        let is_good = |&number: &u64| self.dir.version(number).is_ok_and(|version| version.accepted);
        let good = versions.iter().copied().filter(is_good).rev().take(retention.keep).last();
        let keep = |number: u64| {
            good.is_some_and(|first| number >= first)
                || retention.tagged && tags.values().any(|&tagged| tagged == number)
        };
        let Garbage { versions, tags, objects, bytes, .. } = match lock {
            Some(lock) => lock.collect(&keep)?,
            None => self.dir.garbage(&keep)?,
        };
        Ok(Collected { versions, tags, files: objects, bytes })
    }

    /// Gives a version a name, which may be used in place of its number. Default: the current version. A tag that
    /// exists is moved.
    ///
    /// # Errors
    /// If the name cannot be a tag, or there is no such version.
    pub fn tag(&self, name: &str, version: Option<&str>, observer: &dyn Observer) -> Result<u64> {
        let lock = self.lock(observer)?;
        let number = self.dir.resolve(version.unwrap_or("current"))?;
        lock.tag(name, Some(number))?;
        Ok(number)
    }

    /// Removes a tag. The version stays.
    ///
    /// # Errors
    /// If there is no such tag.
    pub fn untag(&self, name: &str, observer: &dyn Observer) -> Result<()> {
        Ok(self.lock(observer)?.tag(name, None)?)
    }

    /// Reads every file of the model and compares it with its checksum. Returns what is damaged.
    ///
    /// # Errors
    /// If the directory cannot be read, or the observer stops the check.
    pub fn verify(&self, observer: &dyn Observer) -> Result<Vec<Damage>> {
        Ok(self.dir.verify(&mut |_, _| observer.event(&Event::Pulse))?)
    }

    fn lock(&self, observer: &dyn Observer) -> Result<ModelLock<'_>> {
        Ok(self.dir.lock(self.wait, &mut || observer.event(&Event::Pulse).is_break())?)
    }
}
