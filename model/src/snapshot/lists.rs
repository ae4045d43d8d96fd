//! The kinds `lists` and `delta-lists`: which rows are in which list.
//!
//! ```text
//! lists        header   "LLML" 1; lists, rows, the version that wrote the base
//!              body     starts: (lists + 1) u32; list i holds the places starts[i]..starts[i + 1]
//! delta-lists  header   "LLMD" 1; lists, rows, first place
//!              body     starts: (lists + 1) u32
//!                       places: rows u32, list by list; ascending within a list
//!                       lists: rows u32, in order of places
//! ```

use std::ops::Range;
use std::path::Path;

use super::object::{Body, HEADER, Kind, Object};
use super::role;
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("lists", b'L');
const DELTA: Kind = Kind::new("delta-lists", b'D');

/// Writes the lists of the base.
#[derive(Debug)]
pub struct ListsWriter<'a> {
    lock: &'a ModelLock<'a>,
    version: u64,
}

impl<'a> ListsWriter<'a> {
    /// Begins the lists of a base that the version with the next number has first ([`ModelLock::next_number`]).
    ///
    /// # Errors
    /// Those of [`ModelLock::next_number`].
    pub fn create(lock: &'a ModelLock<'a>) -> Result<Self> {
        Ok(ListsWriter { lock, version: lock.next_number()? })
    }

    /// Writes the lists whose first places are `starts`, which ends in the number of rows, and makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if `starts` does not begin at 0 or descends.
    pub fn finish(self, starts: &[u32]) -> Result<ObjectRef> {
        if !are_starts(starts) || starts.len() < 2 {
            return Err(KIND.misfit("the first places of the lists must begin at 0 and not descend"));
        }
        let rows = starts.last().copied().unwrap_or(0);
        let mut body =
            Body::begin(self.lock, KIND, role::LISTS, &[starts.len() as u64 - 1, rows.into(), self.version])?;
        body.values(starts)?;
        body.finish()
    }
}

/// Writes the lists of the rows added since the base.
#[derive(Debug)]
pub struct DeltaListsWriter<'a> {
    lock: &'a ModelLock<'a>,
    first: u32,
}

impl<'a> DeltaListsWriter<'a> {
    /// Begins the lists of the places from `first` on, the number of rows of the base.
    ///
    /// # Errors
    /// None now; the object is begun in [`finish`](Self::finish).
    pub fn create(lock: &'a ModelLock<'a>, first: u32) -> Result<Self> {
        Ok(DeltaListsWriter { lock, first })
    }

    /// Writes the lists and makes the object durable: `list_of` has the list of each place, in order of places, of which
    /// there are `lists`. Holds eight bytes a row besides.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if a list is not below `lists`.
    pub fn finish(self, list_of: &[u32], lists: u32) -> Result<ObjectRef> {
        let lists = lists as usize;
        let mut starts = vec![0u32; lists + 1];
        for &list in list_of {
            match starts.get_mut(list as usize + 1) {
                Some(size) => *size += 1,
                None => return Err(DELTA.misfit(format!("list {list} of {lists}"))),
            }
        }
        for list in 0..lists {
            starts[list + 1] += starts[list];
        }
        let mut next = starts.clone();
        let mut places = vec![0u32; list_of.len()];
        for (place, &list) in (self.first..).zip(list_of) {
            places[next[list as usize] as usize] = place;
            next[list as usize] += 1;
        }
        let mut body =
            Body::begin(self.lock, DELTA, role::DELTA_LISTS, &[lists as u64, list_of.len() as u64, self.first.into()])?;
        body.values(&starts)?;
        body.values(&places)?;
        body.values(list_of)?;
        body.finish()
    }
}

/// Returns whether the first places of lists begin at 0 and do not descend.
fn are_starts(starts: &[u32]) -> bool {
    starts.first() == Some(&0) && starts.is_sorted()
}

pub(super) struct Lists {
    object: Object,
    pub(super) lists: usize,
    pub(super) rows: u32,
    pub(super) version: u64,
}

impl Lists {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let (lists, rows) = (object.rows(0)? as usize, object.rows(1)?);
        object.check_length(&[[lists as u64 + 1, 4]])?;
        let opened = Lists { lists, rows, version: object.count(2), object };
        check_starts(&opened.object, opened.starts(), rows)?;
        Ok(opened)
    }

    fn starts(&self) -> &[u32] {
        self.object.values(HEADER, self.lists + 1)
    }

    pub(super) fn range(&self, list: u32) -> Range<u32> {
        match self.starts().get(list as usize..).unwrap_or_default() {
            [start, end, ..] => *start..*end,
            _ => 0..0,
        }
    }

    /// Returns the list of a row of the base.
    pub(super) fn list_of(&self, row: u32) -> u32 {
        (self.starts().partition_point(|&start| start <= row) as u32).saturating_sub(1)
    }
}

/// Checks the first places of lists that hold `rows` rows.
fn check_starts(object: &Object, starts: &[u32], rows: u32) -> Result<()> {
    if are_starts(starts) && starts.last() == Some(&rows) {
        return Ok(());
    }
    Err(object.damaged("the first places of the lists descend, or do not end at the number of rows"))
}

pub(super) struct DeltaLists {
    object: Object,
    lists: usize,
    pub(super) rows: u32,
    pub(super) first: u32,
}

impl DeltaLists {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, DELTA)?;
        let (lists, rows, first) = (object.rows(0)? as usize, object.rows(1)?, object.rows(2)?);
        object.check_length(&[[lists as u64 + 1, 4], [rows.into(), 8]])?;
        let opened = DeltaLists { lists, rows, first, object };
        check_starts(&opened.object, opened.starts(), rows)?;
        // The delta is small, so its contents are checked too: a place out of range would be looked up in every search.
        let end = first.checked_add(rows).ok_or_else(|| opened.object.damaged("more places than there can be"))?;
        let places = opened.object.values::<u32>(opened.places_at(), rows as usize);
        if places.iter().any(|place| !(first..end).contains(place))
            || opened.of_rows().iter().any(|&l| l as usize >= lists)
        {
            return Err(opened.object.damaged("a place or a list is out of range"));
        }
        Ok(opened)
    }

    pub(super) fn lists(&self) -> usize {
        self.lists
    }

    fn starts(&self) -> &[u32] {
        self.object.values(HEADER, self.lists + 1)
    }

    fn places_at(&self) -> usize {
        HEADER + (self.lists + 1) * 4
    }

    fn of_rows(&self) -> &[u32] {
        self.object.values(self.places_at() + self.rows as usize * 4, self.rows as usize)
    }

    pub(super) fn places(&self, list: u32) -> &[u32] {
        match self.starts().get(list as usize..).unwrap_or_default() {
            [start, end, ..] => self.object.values(self.places_at() + *start as usize * 4, (end - start) as usize),
            _ => &[],
        }
    }

    /// Returns the list of the delta's row `row`, counted from 0.
    pub(super) fn list_of(&self, row: u32) -> u32 {
        self.of_rows().get(row as usize).copied().unwrap_or(0)
    }
}
