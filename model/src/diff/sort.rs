//! Records of a table's rows, sorted by key within a given memory: runs are sorted in memory, written to files, and
//! merged.
//!
//! A run file holds records of 32 bytes, little-endian: key (u128), row (u64), hash (u64). It is scratch: it is not
//! synced, and a resumed job begins anew.
//!
//! What must hold: the order is by (key, row), whatever the memory is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use lowland_io::Error as IoError;

use crate::Result;

/// A row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The key of the row's id.
    pub key: u128,
    /// The row's number in the table, or its place in a model.
    pub row: u64,
    /// The hash of the row's vector.
    pub hash: u64,
}

impl RowKey {
    const BYTES: usize = 32;

    fn write(self, to: &mut impl Write) -> std::io::Result<()> {
        to.write_all(&self.key.to_le_bytes())?;
        to.write_all(&self.row.to_le_bytes())?;
        to.write_all(&self.hash.to_le_bytes())
    }

    fn read(from: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| from[at + i]));
        let key = u128::from_le_bytes(std::array::from_fn(|i| from[i]));
        RowKey { key, row: word(16), hash: word(24) }
    }
}

/// The least number of records that a sorter holds.
const LEAST_RECORDS: usize = 1 << 12;
/// Bytes of the buffer of a run while it is merged.
const RUN_BUFFER: usize = 1 << 16;

/// Takes records in any order and gives them sorted.
pub struct KeySorter {
    dir: PathBuf,
    name: String,
    /// The largest number of records in memory.
    most: usize,
    held: Vec<RowKey>,
    runs: Vec<PathBuf>,
}

impl KeySorter {
    /// Creates a sorter that holds at most `memory` bytes of records, 128 KiB at least, and writes runs to `dir` under
    /// names that begin with `name`. If `rows` records are expected, no more memory is taken than they need.
    pub fn new(dir: &Path, name: &str, memory: u64, rows: u64) -> Self {
        let most = (memory / RowKey::BYTES as u64).min(rows.max(1)) as usize;
        let most = most.max(LEAST_RECORDS);
        KeySorter { dir: dir.into(), name: name.into(), most, held: Vec::new(), runs: Vec::new() }
    }

    /// Returns the bytes that a sorter of `rows` records holds within `memory`.
    pub fn bytes(memory: u64, rows: u64) -> u64 {
        let records = (memory / RowKey::BYTES as u64).min(rows).max(LEAST_RECORDS as u64);
        records * RowKey::BYTES as u64 + rows / records * RUN_BUFFER as u64
    }

    /// Takes a record.
    ///
    /// # Errors
    /// A run that cannot be written.
    pub fn push(&mut self, record: RowKey) -> Result<()> {
        if self.held.capacity() == 0 {
            self.held.reserve_exact(self.most);
        }
        if self.held.len() == self.most {
            self.spill()?;
        }
        self.held.push(record);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        self.held.sort_unstable();
        let path = self.dir.join(format!("{}-{:04}.sorted", self.name, self.runs.len()));
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
            self.held.iter().try_for_each(|record| record.write(&mut file))?;
            file.flush()
        };
        write().map_err(|e| IoError::io(&path, "write", e))?;
        self.held.clear();
        self.runs.push(path);
        Ok(())
    }

    /// Returns the records in order. The runs are removed when the iterator is dropped.
    ///
    /// # Errors
    /// A run that cannot be written or opened.
    pub fn finish(mut self) -> Result<SortedKeys> {
        self.held.sort_unstable();
        let mut runs = Vec::new();
        for path in std::mem::take(&mut self.runs) {
            let file = File::open(&path).map_err(|e| IoError::io(&path, "open", e))?;
            runs.push(Run { file: BufReader::with_capacity(RUN_BUFFER, file), path });
        }
        let mut sorted = SortedKeys { held: std::mem::take(&mut self.held).into_iter(), runs, next: BinaryHeap::new() };
        for run in 0..=sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }
}

impl Drop for KeySorter {
    fn drop(&mut self) {
        // Scratch of a job that failed; what cannot be removed is removed with the job's directory.
        for path in &self.runs {
            let _ = std::fs::remove_file(path);
        }
    }
}

struct Run {
    file: BufReader<File>,
    path: PathBuf,
}

/// Records in ascending order of (key, row).
pub struct SortedKeys {
    /// The records that were not written, sorted: the last run.
    held: std::vec::IntoIter<RowKey>,
    runs: Vec<Run>,
    /// The next record of each run, and the run's number.
    next: BinaryHeap<Reverse<(RowKey, usize)>>,
}

impl SortedKeys {
    fn refill(&mut self, run: usize) -> Result<()> {
        let record = match self.runs.get_mut(run) {
            None => self.held.next(),
            Some(Run { file, path }) => {
                let mut bytes = [0; RowKey::BYTES];
                match file.read_exact(&mut bytes) {
                    Ok(()) => Some(RowKey::read(&bytes)),
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => None,
                    Err(e) => return Err(IoError::io(path.as_path(), "read", e).into()),
                }
            }
        };
        self.next.extend(record.map(|record| Reverse((record, run))));
        Ok(())
    }

    /// Returns the next record.
    ///
    /// # Errors
    /// A run that cannot be read.
    pub fn next_key(&mut self) -> Result<Option<RowKey>> {
        let Some(Reverse((record, run))) = self.next.pop() else { return Ok(None) };
        self.refill(run)?;
        Ok(Some(record))
    }
}

impl Drop for SortedKeys {
    fn drop(&mut self) {
        for run in &self.runs {
            let _ = std::fs::remove_file(&run.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_sorted_in_memory_and_in_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let records: Vec<RowKey> = (0..30_000u64)
            .map(|row| RowKey { key: u128::from(row * 7919 % 10_007), row, hash: row.wrapping_mul(0x9e37_79b9) })
            .collect();
        let mut wanted = records.clone();
        wanted.sort_unstable();
        for memory in [0, 200_000, 10 << 20] {
            let mut sorter = KeySorter::new(dir.path(), "keys", memory, records.len() as u64);
            for &record in &records {
                sorter.push(record).expect("pushed");
            }
            let mut sorted = sorter.finish().expect("sorted");
            let mut found = Vec::new();
            while let Some(record) = sorted.next_key().expect("a record") {
                found.push(record);
            }
            assert!(found == wanted, "within {memory} bytes");
            drop(sorted);
            assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0, "runs are removed");
        }
        let mut none = KeySorter::new(dir.path(), "none", 1 << 20, 0).finish().expect("sorted");
        assert_eq!(none.next_key().expect("no record"), None);
    }
}
