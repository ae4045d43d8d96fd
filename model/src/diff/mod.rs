//! What changed between a model and the current table: rows are matched by the keys of their ids, and compared by the
//! hashes of their vectors.
//!
//! Both sides are read once, in ascending order of key: the model's keys are stored in this order, and the table's are
//! sorted by [`KeySorter`]. Memory is one bit for each row of the table, twice, and four bytes for each row that is gone.

mod keys;
mod sort;

use lowland_io::{RowSet, RowSetBuilder};

pub use keys::{IdKind, KeyFault, each_key, row_hash};
pub use sort::{KeySorter, RowKey, SortedKeys};

use crate::snapshot::Key;
use crate::{Error, Result};

/// The largest number of repeated ids that an error names.
const NAMED_REPEATS: usize = 10;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDiff {
    /// Rows of the table that are to be placed: their id is new, or their vector differs.
    pub new: RowSet,
    /// How many of the rows of `new` have an id that the model has.
    pub changed: u64,
    /// Places of rows that are gone, ascending: their id is missing in the table, or their vector differs.
    pub gone: Vec<u32>,
    /// Rows with the id and the vector of a row of the model.
    pub unchanged: u64,
}

impl TableDiff {
    /// Returns the number of rows whose id is new.
    pub fn added(&self) -> u64 {
        self.new.count() - self.changed
    }

    /// Returns the number of rows whose id is missing in the table.
    pub fn deleted(&self) -> u64 {
        self.gone.len() as u64 - self.changed
    }

    /// Returns whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.new.count() == 0 && self.gone.is_empty()
    }

    /// Returns the bytes of the comparison of a table of `rows` rows, of which `gone` of the model are missing.
    pub fn bytes(rows: u64, gone: u64) -> u64 {
        2 * RowSet::bytes(rows) + 4 * gone
    }
}

/// Compares a table of `rows` rows, sorted by key, with the keys of a model, which ascend. Rows of the model that the
/// table does not have are gone.
///
/// # Errors
/// [`Error::RepeatedIds`] if two rows of the table have one key; if records cannot be read.
pub fn compare(rows: u64, table: &mut SortedKeys, model: impl IntoIterator<Item = Key>) -> Result<TableDiff> {
    merge(rows, table, model, |missing, found| found.gone.push(missing.place))
}

/// Compares a table that has only changes with the keys of a model, which ascend. Rows of the model that the table does
/// not have stay, but for those with a key of `deleted`, which ascends without repeats; a deleted key that the model
/// does not have changes nothing.
///
/// # Errors
/// [`Error::RepeatedIds`] if two rows of the table have one key; [`Error::KeptAndDeleted`] if a row of the table has a
/// deleted key; if records cannot be read.
pub fn compare_changes(
    rows: u64,
    table: &mut SortedKeys,
    deleted: &[u128],
    model: impl IntoIterator<Item = Key>,
) -> Result<TableDiff> {
    let is_deleted = |key: u128| deleted.binary_search(&key).is_ok();
    let mut checked = Checked { table, is_deleted: &is_deleted };
    merge(rows, &mut checked, model, |missing, found| match is_deleted(missing.key) {
        true => found.gone.push(missing.place),
        false => found.unchanged += 1,
    })
}

/// Records in ascending order of key.
trait Ascending {
    fn next_row(&mut self) -> Result<Option<RowKey>>;
}

impl Ascending for SortedKeys {
    fn next_row(&mut self) -> Result<Option<RowKey>> {
        self.next_key()
    }
}

/// Records that must not have a deleted key.
struct Checked<'a> {
    table: &'a mut SortedKeys,
    is_deleted: &'a dyn Fn(u128) -> bool,
}

impl Ascending for Checked<'_> {
    fn next_row(&mut self) -> Result<Option<RowKey>> {
        match self.table.next_key()? {
            Some(row) if (self.is_deleted)(row.key) => Err(Error::KeptAndDeleted { row: row.row }),
            row => Ok(row),
        }
    }
}

/// Merges a table with the keys of a model, and calls `missing` for each row of the model that the table does not have.
fn merge(
    rows: u64,
    table: &mut dyn Ascending,
    model: impl IntoIterator<Item = Key>,
    missing: impl Fn(Key, &mut TableDiff),
) -> Result<TableDiff> {
    let mut same = RowSetBuilder::new(rows);
    let mut found = TableDiff { new: RowSetBuilder::new(0).finish(), changed: 0, gone: Vec::new(), unchanged: 0 };
    let (mut repeats, mut repeated) = (Vec::new(), 0u64);
    let mut model = model.into_iter().peekable();
    let mut last: Option<RowKey> = None;
    while let Some(row) = table.next_row()? {
        if let Some(before) = last.filter(|before| before.key == row.key) {
            repeated += 1;
            if repeats.len() < NAMED_REPEATS {
                repeats.push([before.row, row.row]);
            }
            continue;
        }
        last = Some(row);
        while let Some(known) = model.next_if(|known| known.key < row.key) {
            missing(known, &mut found);
        }
        match model.next_if(|known| known.key == row.key) {
            Some(known) if known.hash == row.hash => {
                found.unchanged += 1;
                same.remove(row.row);
            }
            Some(known) => {
                found.changed += 1;
                found.gone.push(known.place);
            }
            None => {}
        }
    }
    if repeated > 0 {
        return Err(Error::RepeatedIds { rows: repeats, count: repeated });
    }
    for known in model {
        missing(known, &mut found);
    }
    found.gone.sort_unstable();
    found.new = same.finish();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(rows: &[(u128, u64)]) -> SortedKeys {
        let dir = tempfile::tempdir().expect("a directory");
        let mut sorter = KeySorter::new(dir.path(), "keys", 0, rows.len() as u64);
        for (row, &(key, hash)) in rows.iter().enumerate() {
            sorter.push(RowKey { key, row: row as u64, hash }).expect("pushed");
        }
        sorter.finish().expect("sorted")
    }

    fn model(rows: &[(u128, u64)]) -> Vec<Key> {
        let mut keys: Vec<Key> =
            rows.iter().enumerate().map(|(place, &(key, hash))| Key { key, hash, place: place as u32 }).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn rows_are_added_changed_deleted_or_unchanged() {
        let before = model(&[(7, 70), (3, 30), (9, 90), (5, 50)]);
        let diff = compare(4, &mut sorted(&[(5, 50), (4, 40), (9, 91), (7, 70)]), before).expect("a difference");
        assert_eq!((diff.added(), diff.changed, diff.deleted(), diff.unchanged), (1, 1, 1, 2));
        assert_eq!(diff.gone, [1, 2]);
        assert_eq!((0..4).filter(|&row| diff.new.contains(row)).collect::<Vec<_>>(), [1, 2]);
        assert!(!diff.is_empty());
    }

    #[test]
    fn equal_and_empty_tables() {
        let rows = [(1, 10), (2, 20)];
        assert!(compare(2, &mut sorted(&rows), model(&rows)).expect("a difference").is_empty());
        let none = compare(0, &mut sorted(&[]), model(&rows)).expect("a difference");
        assert_eq!((none.deleted(), none.added(), none.gone), (2, 0, vec![0, 1]));
        let all = compare(2, &mut sorted(&rows), model(&[])).expect("a difference");
        assert_eq!((all.added(), all.gone.len()), (2, 0));
    }

    #[test]
    fn changes_leave_all_other_rows() {
        let before = model(&[(7, 70), (3, 30), (9, 90), (5, 50)]);
        let table = || sorted(&[(5, 50), (4, 40), (9, 91)]);
        let diff = compare_changes(3, &mut table(), &[3, 8], before.clone()).expect("a difference");
        assert_eq!((diff.added(), diff.changed, diff.deleted(), diff.unchanged), (1, 1, 1, 2));
        assert_eq!(diff.gone, [1, 2]);
        match compare_changes(3, &mut table(), &[4], before) {
            Err(Error::KeptAndDeleted { row }) => assert_eq!(row, 1),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn repeated_ids_are_named() {
        let rows: Vec<(u128, u64)> = (0..30).map(|row| (row % 15, row as u64)).collect();
        match compare(30, &mut sorted(&rows), model(&[])) {
            Err(Error::RepeatedIds { rows, count }) => {
                assert_eq!((count, rows.len(), rows[0]), (15, 10, [0, 15]));
            }
            other => panic!("{other:?}"),
        }
    }
}
