//! The kNN graph of a run, in list order.
//!
//! `neighbors.bin`, version 1, little-endian: "LLN1", k u32, rows u32, four
//! zero bytes; then for each row its k neighbours (u32, list order, ascending
//! by distance, [`MISSING`] where there are fewer) and their k distances (f32,
//! the metric's own; infinite where missing).

use std::io::Write;
use std::path::{Path, PathBuf};

use lowland_io::{Error as IoError, FileStamp, Mapped, PendingFile};

use crate::Result;

/// The file's name in the run directory.
pub const NEIGHBORS: &str = "neighbors.bin";
/// Stands for a neighbour that a row does not have.
pub const MISSING: u32 = u32::MAX;
const HEADER: usize = 16;

/// Writes the graph, row after row.
pub struct GraphWriter {
    file: PendingFile,
    path: PathBuf,
    k: usize,
    record: Vec<u8>,
}

impl GraphWriter {
    /// A graph of `rows` rows with `k` neighbours each.
    pub fn create(path: &Path, k: usize, rows: u32) -> Result<Self> {
        let mut writer = GraphWriter { file: PendingFile::create(path)?, path: path.into(), k, record: Vec::new() };
        writer.record.extend(b"LLN1");
        writer.record.extend((k as u32).to_le_bytes());
        writer.record.extend(rows.to_le_bytes());
        writer.record.extend([0; 4]);
        writer.flush()?;
        Ok(writer)
    }

    /// Appends the next row: (neighbour, distance), at most k of them.
    pub fn push(&mut self, neighbors: impl Iterator<Item = (u32, f32)> + Clone) -> Result<()> {
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
    pub fn finish(self) -> Result<FileStamp> {
        Ok(self.file.finish()?)
    }
}

/// A finished graph, mapped.
pub struct Graph {
    map: Mapped,
    k: usize,
    rows: u32,
}

impl Graph {
    /// Opens the graph at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Mapped::open(path)?;
        let corrupt = |what: &str| IoError::Corrupt { path: path.to_path_buf(), what: what.into() };
        let word = |at: usize| {
            let bytes = map.bytes().get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or_else(|| corrupt("cut short"))
        };
        if map.bytes().get(..4) != Some(b"LLN1") {
            return Err(corrupt("not a graph of neighbours, version 1").into());
        }
        let (k, rows) = (word(4)? as usize, word(8)?);
        let expected = HEADER as u64 + u64::from(rows) * k as u64 * 8;
        let found = map.bytes().len() as u64;
        if expected != found {
            return Err(IoError::Truncated { path: path.to_path_buf(), expected, found }.into());
        }
        Ok(Graph { map, k, rows })
    }

    /// Neighbours of a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Rows of the graph.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The neighbours of `row` that there are, nearest first.
    pub fn neighbors(&self, row: u32) -> impl ExactSizeIterator<Item = u32> + Clone + '_ {
        let start = HEADER + row as usize * self.k * 8;
        let words = self.map.bytes()[start..start + self.k * 4].as_chunks::<4>().0;
        // Missing ones stand last.
        let there = words.iter().take_while(|w| u32::from_le_bytes(**w) != MISSING).count();
        words[..there].iter().map(|w| u32::from_le_bytes(*w))
    }

    /// All k distances of `row`, infinite where a neighbour is missing.
    pub fn distances(&self, row: u32) -> Result<&[f32]> {
        let start = HEADER + row as usize * self.k * 8 + self.k * 4;
        Ok(self.map.floats(start, self.k)?)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.k * 8
    }
}
