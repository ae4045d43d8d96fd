//! The kNN graph of a run, in list order.
//!
//! `neighbors-<part>.bin` holds the rows from `part · part_rows` on. Version 2, little-endian: "LLN2", k (u32), first
//! row (u32), number of rows (u32); then for each row its k neighbours (u32, in list order, by ascending distance,
//! [`MISSING`] where there are fewer) and their k distances (f32, in the metric's own units; infinite where missing).
//! A part is a unit of the stage: it is written once and never changed.
//!
//! Invariant: the division into parts depends only on the number of rows.

use std::io::Write;
use std::path::{Path, PathBuf};

use lowland_io::{Error as IoError, FileStamp, MappedFile, PendingFile};

use crate::Result;

/// Marks a missing neighbour.
pub const MISSING: u32 = u32::MAX;
const MAGIC: &[u8; 4] = b"LLN2";
const HEADER: usize = 16;
/// The smallest number of rows of a part.
const PART_ROWS: u32 = 1 << 17;
/// The largest number of parts.
const MOST_PARTS: u32 = 256;

/// Returns the number of rows per part, a power of two, for a graph of `rows` rows.
pub(super) fn part_rows(rows: u32) -> u32 {
    rows.div_ceil(MOST_PARTS).max(PART_ROWS).next_power_of_two()
}

/// Returns the file name of part `part`.
pub fn part_name(part: u32) -> String {
    format!("neighbors-{part:03}.bin")
}

/// Writes a part, row after row.
pub(super) struct GraphPartWriter {
    file: PendingFile,
    path: PathBuf,
    k: usize,
    record: Vec<u8>,
}

impl GraphPartWriter {
    /// Begins the part of `rows` rows from `first` on, with `k` neighbours each, in `file`.
    pub(super) fn new(file: PendingFile, k: usize, first: u32, rows: u32) -> Result<Self> {
        let mut writer = GraphPartWriter { path: file.path().into(), file, k, record: Vec::new() };
        writer.record.extend(MAGIC);
        for word in [k as u32, first, rows] {
            writer.record.extend(word.to_le_bytes());
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Appends the next row: at most k pairs (neighbour, distance).
    pub(super) fn push(&mut self, neighbors: impl Iterator<Item = (u32, f32)> + Clone) -> Result<()> {
        let padded = neighbors.chain(std::iter::repeat((MISSING, f32::INFINITY))).take(self.k);
        padded.clone().for_each(|(row, _)| self.record.extend(row.to_le_bytes()));
        padded.for_each(|(_, distance)| self.record.extend(distance.to_le_bytes()));
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.record).map_err(|e| IoError::io(&self.path, "write", e))?;
        self.record.clear();
        Ok(())
    }

    /// Makes the file durable.
    pub(super) fn finish(self) -> Result<FileStamp> {
        Ok(self.file.finish()?)
    }
}

/// A finished graph, memory-mapped.
pub struct KnnGraph {
    parts: Vec<MappedFile>,
    k: usize,
    rows: u32,
    /// log₂ of the number of rows of a part.
    shift: u32,
}

impl KnnGraph {
    /// Opens the graph of `rows` rows in `dir`.
    ///
    /// # Errors
    /// A part that is missing, is too short, or does not belong to a graph of `rows` rows.
    pub fn open(dir: &Path, rows: u64) -> Result<Self> {
        let (rows, mut k) = (rows as u32, None);
        let part_rows = part_rows(rows);
        let mut parts = Vec::new();
        for first in (0..rows).step_by(part_rows as usize) {
            let map = MappedFile::open(dir.join(part_name(first / part_rows)))?;
            let corrupt = |what: &str| IoError::Corrupt { path: map.path().to_path_buf(), what: what.into() };
            let words: Vec<u32> =
                map.bytes().as_chunks::<4>().0.iter().take(4).map(|w| u32::from_le_bytes(*w)).collect();
            let &[magic, this_k, this_first, this_rows] = words.as_slice() else {
                return Err(corrupt("cut short").into());
            };
            let here = part_rows.min(rows - first);
            if magic != u32::from_le_bytes(*MAGIC) || (this_first, this_rows) != (first, here) {
                return Err(corrupt("not this part of a graph of neighbours, version 2").into());
            }
            if *k.get_or_insert(this_k) != this_k {
                return Err(corrupt("another number of neighbours than the parts before").into());
            }
            let expected = HEADER as u64 + u64::from(here) * u64::from(this_k) * 8;
            let found = map.bytes().len() as u64;
            if expected != found {
                return Err(IoError::Truncated { path: map.path().to_path_buf(), expected, found }.into());
            }
            parts.push(map);
        }
        Ok(KnnGraph { parts, k: k.unwrap_or(0) as usize, rows, shift: part_rows.trailing_zeros() })
    }

    /// Returns the number of neighbours per row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    fn place(&self, row: u32) -> (&MappedFile, usize) {
        let place = (row & ((1 << self.shift) - 1)) as usize;
        (&self.parts[(row >> self.shift) as usize], HEADER + place * self.row_bytes())
    }

    /// Returns the neighbours of `row`, nearest first, without missing ones.
    pub fn neighbors(&self, row: u32) -> impl ExactSizeIterator<Item = u32> + Clone + '_ {
        let (part, start) = self.place(row);
        let words = part.bytes()[start..start + self.k * 4].as_chunks::<4>().0;
        // Missing neighbours come last.
        let there = words.iter().take_while(|w| u32::from_le_bytes(**w) != MISSING).count();
        words[..there].iter().map(|w| u32::from_le_bytes(*w))
    }

    /// Returns all k distances of `row`, infinite where a neighbour is missing.
    pub fn distances(&self, row: u32) -> Result<&[f32]> {
        let (part, start) = self.place(row);
        Ok(part.floats(start + self.k * 4, self.k)?)
    }

    /// Returns the bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.k * 8
    }
}

/// Returns the bytes of the graph's files.
pub(crate) fn bytes(rows: u64, k: usize) -> u64 {
    rows * k as u64 * 8 + u64::from(MOST_PARTS) * HEADER as u64
}
