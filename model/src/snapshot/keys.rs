//! The kind `keys`: the keys of rows, ascending, by which an update finds the row of an id.
//!
//! ```text
//! header   "LLMK" 1
//! body     for each row, ascending by (key, hash, place): key (u128), hash (u64), place (u32)
//! end      rows (u64)
//! ```

use std::path::Path;

use super::object::{Body, HEADER, Kind, Object};
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("keys", b'K');
/// The bytes of a record.
const RECORD: usize = 28;

/// The key of a row: what stands for its id and its vector when two tables are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Stands for the id: an integer, or the 128-bit xxh3 of a text.
    pub key: u128,
    /// The 64-bit xxh3 of the raw vector's bytes, as little-endian f32.
    pub hash: u64,
    /// The place.
    pub place: u32,
}

impl Key {
    fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..16].copy_from_slice(&self.key.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.hash.to_le_bytes());
        bytes[24..].copy_from_slice(&self.place.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; RECORD]) -> Self {
        let mut key = [0; 16];
        let mut hash = [0; 8];
        let mut place = [0; 4];
        key.copy_from_slice(&bytes[..16]);
        hash.copy_from_slice(&bytes[16..24]);
        place.copy_from_slice(&bytes[24..]);
        Key { key: u128::from_le_bytes(key), hash: u64::from_le_bytes(hash), place: u32::from_le_bytes(place) }
    }
}

/// Writes keys in ascending order.
#[derive(Debug)]
pub struct KeysWriter {
    body: Body,
    rows: u64,
    last: Option<Key>,
}

impl KeysWriter {
    /// Begins the keys of the role `role` ([`super::role`]).
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>, role: &str) -> Result<Self> {
        Ok(KeysWriter { body: Body::begin(lock, KIND, role, &[])?, rows: 0, last: None })
    }

    /// Appends the next key.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if it is not above the one before.
    pub fn push(&mut self, &key: &Key) -> Result<()> {
        if self.last.is_some_and(|last| last >= key) {
            return Err(KIND.misfit(format!("the key of place {} is not above the one before", key.place)));
        }
        self.last = Some(key);
        self.rows += 1;
        self.body.bytes(&key.to_bytes())
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(self) -> Result<ObjectRef> {
        self.body.finish_rows(self.rows)
    }
}

pub(super) struct KeyFile {
    object: Object,
    pub(super) rows: u32,
}

impl KeyFile {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        object.check_length(&[[rows.into(), RECORD as u64], [1, 8]])?;
        Ok(KeyFile { object, rows })
    }

    fn records(&self) -> &[[u8; RECORD]] {
        self.object.values(HEADER, self.rows as usize)
    }

    /// Returns the keys from the record `from` on.
    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = Key> + '_ {
        self.records().get(from..).unwrap_or_default().iter().map(Key::from_bytes)
    }

    /// Returns the number of the first record whose key is not below `key`.
    pub(super) fn first_of(&self, key: u128) -> usize {
        self.records().partition_point(|record| Key::from_bytes(record).key < key)
    }
}
