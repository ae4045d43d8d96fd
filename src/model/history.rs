//! The versions of a model: listing, comparing, going back, removing, naming, checking.
//!
//! What must hold:
//! - A change is made under the model's lock, and is whole or absent, whenever the process stops.
//! - Listing, comparing and checking write nothing.

use std::collections::BinaryHeap;
use std::path::Path;

use lowland_engine::{Event, Observer};
use lowland_model::snapshot::{Key, Snapshot, role};
use lowland_model::store::{Action, Counts, Damage, Garbage, ModelDir, ModelLock, Version};
use serde::Serialize;
use serde_json::{Value, json};

use super::Model;
use super::open::open_dir;
use crate::plot::texts;
use crate::{Error, Result};

/// The number of rows that a comparison names.
const NAMED: usize = 10;
/// Keys between two looks at the observer.
const KEYS: u64 = 1 << 16;

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

/// How two versions differ. Rows are matched by id.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionDiff {
    /// The first version.
    pub from: u64,
    /// The second version.
    pub to: u64,
    /// Rows, of the first and the second.
    pub rows: [u64; 2],
    /// Rows of the second that the first does not have.
    pub added: u64,
    /// Rows of the first that the second does not have.
    pub deleted: u64,
    /// Rows of both whose vectors differ.
    pub changed: u64,
    /// Rows of both with equal vectors.
    pub unchanged: u64,
    /// The distances between the positions of the rows that are in both.
    pub moved: Moved,
    /// The measures that the versions record, of the first and the second.
    pub measures: [Value; 2],
}

/// How far rows moved between two versions, over the radius of the first version's map (the root of the mean squared
/// distance of these rows to their mean).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Moved {
    /// Rows that are not exactly where they were.
    pub rows: u64,
    /// The median of all rows that are in both versions.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The rows that moved most, the farthest first: ids and distances.
    pub most: Vec<(String, f64)>,
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
        let (before, after) = (from.snapshot(), to.snapshot());
        if before.id_type() != after.id_type() {
            let types = format!("{} and {}", before.id_type(), after.id_type());
            return Err(Error::job(format!("the ids of the versions are of different types, {types}")));
        }
        let mut found = VersionDiff {
            from: from.number(),
            to: to.number(),
            rows: [from.rows(), to.rows()],
            added: 0,
            deleted: 0,
            changed: 0,
            unchanged: 0,
            moved: Moved::default(),
            measures: [from.version().measures.clone(), to.version().measures.clone()],
        };
        from.check(&role::FOR_DIFF, observer)?;
        to.check_beside(&from, &role::FOR_DIFF, observer)?;
        let comparable = before.n_components() == after.n_components();
        let mut moves = Moves::new(before.n_components());
        for_each_pair(before, after, observer, &mut |pair| match pair {
            [Some(_), None] => found.deleted += 1,
            [None, Some(_)] => found.added += 1,
            [Some(old), Some(new)] => {
                let same = old.hash == new.hash;
                found.changed += u64::from(!same);
                found.unchanged += u64::from(same);
                if comparable {
                    moves.add(new.place, before.position(old.place), after.position(new.place));
                }
            }
            [None, None] => {}
        })?;
        found.moved = moves.finish(after)?;
        Ok(found)
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

/// Calls `each` with the rows of two snapshots by ascending key: a row that both have once, with both keys.
pub(super) fn for_each_pair(
    before: &Snapshot,
    after: &Snapshot,
    observer: &dyn Observer,
    each: &mut dyn FnMut([Option<Key>; 2]),
) -> Result<()> {
    let (mut old, mut new) = (before.keys().peekable(), after.keys().peekable());
    for count in 0_u64.. {
        if count.is_multiple_of(KEYS) && observer.event(&Event::Pulse).is_break() {
            return Err(lowland_engine::Error::Cancelled { stage: "diff" }.into());
        }
        let pair = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(a), Some(b)) if a.key == b.key => [old.next(), new.next()],
            (Some(a), Some(b)) if a.key > b.key => [None, new.next()],
            (Some(_), _) => [old.next(), None],
            (None, Some(_)) => [None, new.next()],
        };
        each(pair);
    }
    Ok(())
}

/// The distances between two positions of each row.
struct Moves {
    distances: Vec<f32>,
    /// The sums of the first positions' components, and of the squares of all of them.
    sums: Vec<f64>,
    squares: f64,
    /// The rows that moved most: the bits of the distance, which order as the distance does, and the place. The least
    /// comes out first.
    most: BinaryHeap<std::cmp::Reverse<(u32, u32)>>,
}

impl Moves {
    fn new(components: usize) -> Self {
        Moves { distances: Vec::new(), sums: vec![0.0; components], squares: 0.0, most: BinaryHeap::new() }
    }

    fn add(&mut self, place: u32, before: &[f32], after: &[f32]) {
        let squared: f64 = before.iter().zip(after).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        let distance = squared.sqrt() as f32;
        for (sum, &x) in self.sums.iter_mut().zip(before) {
            *sum += f64::from(x);
            self.squares += f64::from(x).powi(2);
        }
        self.distances.push(distance);
        if distance > 0.0 {
            self.most.push(std::cmp::Reverse((distance.to_bits(), place)));
            if self.most.len() > NAMED {
                self.most.pop();
            }
        }
    }

    fn finish(mut self, after: &Snapshot) -> Result<Moved> {
        let count = self.distances.len();
        if count == 0 {
            return Ok(Moved::default());
        }
        let mean_square: f64 = self.sums.iter().map(|sum| (sum / count as f64).powi(2)).sum();
        let radius = (self.squares / count as f64 - mean_square).max(0.0).sqrt();
        // All rows of a map without extent are at one place.
        let over = |distance: f32| if radius > 0.0 { f64::from(distance) / radius } else { f64::from(distance) };
        let rows = self.distances.iter().filter(|&&distance| distance > 0.0).count() as u64;
        let mut at = |share: f64| {
            let rank = ((count - 1) as f64 * share).round() as usize;
            let (_, value, _) = self.distances.select_nth_unstable_by(rank, f32::total_cmp);
            over(*value)
        };
        let (p50, p95) = (at(0.5), at(0.95));
        let mut most = Vec::new();
        for std::cmp::Reverse((bits, place)) in self.most.into_sorted_vec() {
            most.push((id_text(after, place)?, over(f32::from_bits(bits))));
        }
        Ok(Moved { rows, p50, p95, most })
    }
}

/// Returns the id of a place as text.
fn id_text(snapshot: &Snapshot, place: u32) -> Result<String> {
    let ids = snapshot.ids(place..place + 1)?;
    let values = texts(&ids).map_err(|what| lowland_engine::Error::Data { what })?;
    Ok(values.iter().next().flatten().unwrap_or_default().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_told_over_the_radius() {
        let mut moves = Moves::new(2);
        for (place, by) in [0.0, 0.0, 0.0, 2.0].into_iter().enumerate() {
            let corner = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]][place];
            moves.add(place as u32, &corner, &[corner[0] + by, corner[1]]);
        }
        assert_eq!(moves.most.len(), 1, "a row that stayed is not among those that moved");
        let mean_square: f64 = moves.sums.iter().map(|sum| (sum / 4.0).powi(2)).sum();
        assert_eq!((mean_square, moves.squares), (0.0, 8.0));
    }
}
