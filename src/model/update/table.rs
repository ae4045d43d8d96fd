//! The table of an update: whether it fits the model, and what it changes.
//!
//! What must hold: a table that is refused is refused before anything is written to the model.

use std::sync::Arc;

use lowland_engine::{Observer, Progress, Stage};
use lowland_io::Source;
use lowland_model::diff::{IdKind, KeySorter, RowKey, TableDiff, compare, compare_changes};
use lowland_model::fit::{id_kind, read_keys};
use lowland_model::snapshot::Snapshot;
use lowland_model::{Error as ModelError, ModelOptions};

use super::{MoveRows, UpdateJob, UpdateMode, changes};
use crate::model::kept;
use crate::{Error, InvalidRows, Result};

/// The share of the memory for the keys of the table while they are sorted.
const KEYS_SHARE: u64 = 4;
/// Bytes of a portion of the table.
const READ_BYTES: u64 = 4 << 20;

impl UpdateJob {
    /// Checks the table against the model, and returns the column of the ids.
    pub(super) fn check_table(&self, options: &ModelOptions) -> Result<String> {
        let Some(id) = self.id.clone().or_else(|| options.id.clone()) else {
            return Err(Error::job(
                "the rows of this model are named by their numbers, by which an update cannot match them; fit the model \
                 with a column of ids"
                    .to_string(),
            ));
        };
        if let Some(of_model) = options.id.as_ref().filter(|of_model| **of_model != id) {
            return Err(Error::job(format!(
                "the model's rows are named by the column \"{of_model}\", not by \"{id}\""
            )));
        }
        let shape = self.source.shape();
        let dim = options.shift.as_ref().map_or(shape.dim, |shift| shift.values().len());
        if shape.dim != dim && !self.lacks_vectors() {
            return Err(width_error(shape.dim, dim));
        }
        if !self.is_empty() {
            let schema = self.source.column_schema(std::slice::from_ref(&id))?;
            let kind = id_kind(&id, schema.field(0).data_type())?;
            if kind != options.id_kind {
                return Err(kind_error(&id, kind, options.id_kind));
            }
        }
        if self.changes && self.mode == UpdateMode::Refit {
            return Err(Error::job("a refit needs the whole table, not only what changed".to_string()));
        }
        if self.moving == MoveRows::Dirty && self.mode == UpdateMode::Refit {
            return Err(Error::job(
                "a refit moves all rows; rows whose neighbours change are moved apart by a transform only".to_string(),
            ));
        }
        if self.changes && !self.is_empty() {
            self.source.column_schema(&[changes::COLUMN.to_string()])?;
        }
        if self.invalid == InvalidRows::Null {
            return Err(Error::job(
                "rows without a vector cannot be kept in a model; drop leaves them out".to_string(),
            ));
        }
        if !(0.0..=1.0).contains(&self.max_shrink) {
            return Err(Error::job(format!("the largest shrink is a share from 0 to 1, not {}", self.max_shrink)));
        }
        Ok(id)
    }

    /// Returns whether the source has changes, and none of its rows a vector: none may be added or changed then.
    pub(super) fn lacks_vectors(&self) -> bool {
        self.changes && self.source.shape().dim == 0
    }

    /// Returns whether the source has changes, and no rows: then nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        self.changes && self.source.shape().rows == 0
    }

    /// Refuses a table without the columns that the model keeps.
    pub(super) fn check_kept(&self, snapshot: &Snapshot) -> Result<()> {
        kept::check_table(self.source.as_ref(), snapshot.kept_schema(), self.mode == UpdateMode::Refit)
    }

    pub(super) fn check_shrink(&self, live: u64, missing: u64) -> Result<()> {
        let share = missing as f64 / live.max(1) as f64;
        if share <= self.max_shrink {
            return Ok(());
        }
        let only_changes = !self.changes && self.source.columns().iter().any(|name| name == changes::COLUMN);
        let way = match only_changes {
            true => format!("its column \"{}\" tells changes: say that it has only these (`changes`)", changes::COLUMN),
            false => "if they were really deleted, allow a larger share".to_string(),
        };
        let percent =
            |share: f64| format!("{:.2}", 100.0 * share).trim_end_matches('0').trim_end_matches('.').to_string();
        Err(Error::job(format!(
            "{missing} of the model's {live} rows are missing in the table, {} %, and at most {} % may be (`max_shrink`); {way}",
            percent(share),
            percent(self.max_shrink)
        )))
    }

    /// Compares the table with the model.
    pub(super) fn diff(
        &self,
        table: &Arc<dyn Source>,
        id: &str,
        deleted: Option<&[u128]>,
        snapshot: &Snapshot,
        scratch: &std::path::Path,
        observer: &dyn Observer,
    ) -> Result<TableDiff> {
        let rows = table.shape().rows;
        let progress = Progress::start(observer, Stage::Diff, rows, "rows")?;
        let mut sorter = KeySorter::new(scratch, "table", self.memory / KEYS_SHARE, rows);
        read_keys(table, Some(id), self.read_rows(table.shape().dim), &progress, &mut |row, key, hash| {
            sorter.push(RowKey { key, row, hash })
        })?;
        let mut sorted = sorter.finish()?;
        let diff = match deleted {
            Some(deleted) => compare_changes(rows, &mut sorted, deleted, snapshot.keys()),
            None => compare(rows, &mut sorted, snapshot.keys()),
        };
        match diff {
            Err(ModelError::RepeatedIds { rows, count }) => Err(self.repeated(table, id, &rows, count)?),
            Err(ModelError::KeptAndDeleted { row }) => {
                let (place, value) = (table.locate(row), changes::id_of(table.as_ref(), id, row)?);
                Err(Error::job(format!(
                    "{}: row {}: the id \"{value}\" in column \"{id}\" is deleted by another row; an id is either deleted, \
                     or added or changed",
                    place.path.display(),
                    place.row
                )))
            }
            diff => Ok(diff?),
        }
    }

    /// Returns the error of repeated ids, with the ids and their places.
    fn repeated(&self, table: &Arc<dyn Source>, id: &str, rows: &[[u64; 2]], count: u64) -> Result<Error> {
        let mut named = Vec::new();
        for &[first, second] in rows {
            let value = changes::id_of(table.as_ref(), id, second)?;
            let (first, second) = (table.locate(first), table.locate(second));
            named.push(format!("\"{value}\" (rows {} and {} of {})", first.row, second.row, second.path.display()));
        }
        let more = count - rows.len() as u64;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Ok(Error::job(format!(
            "column \"{id}\": {count} rows have the id of an earlier row: {}{more}",
            named.join(", ")
        )))
    }

    /// Returns the number of rows of the table that are read at a time.
    pub(super) fn read_rows(&self, dim: usize) -> usize {
        let bytes = READ_BYTES.min(self.memory / 64);
        (bytes / (dim as u64 * 4).max(1)).clamp(64, 65_536) as usize
    }
}

pub(super) fn width_error(table: usize, model: usize) -> Error {
    Error::job(format!(
        "the table's vectors have {table} components, and the model's have {model}; give vectors that were made in the same \
         way, or make a new model of these by `embed`"
    ))
}

fn kind_error(id: &str, table: IdKind, model: IdKind) -> Error {
    Error::job(format!(
        "column \"{id}\" holds {}, and the model's ids are {}: ids of different types are never equal; cast the column",
        table.name(),
        model.name()
    ))
}
