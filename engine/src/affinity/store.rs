//! The edge store of a run: one or more files in the edge format of `lowland_io`, each for a range of rows,
//! which are read as one sequence of blocks.
//!
//! `edges-<part>.arrow` holds the rows from `part · part_rows` on. A block ends before each row that is a
//! multiple of [`BLOCK_ROWS`], and before a row that would give it more edges than [`block_limits`]. What must
//! hold: parts and blocks depend only on the rows and the edges.

use std::path::Path;

use lowland_io::edges::{EdgeBlock, EdgeReader, EdgeWriter};
use serde::{Deserialize, Serialize};

use super::{Affinity, AffinityStats};
use crate::Result;
use crate::plan::BLOCK_ROWS;
use crate::work::StageContext;

/// The smallest number of rows in a part.
const PART_ROWS: u32 = 1 << 20;
/// The largest number of parts, approximately.
const MAX_PARTS: u32 = 256;

/// Returns the largest number of rows and of edges in a block.
pub fn block_limits(rows: u64, k: usize) -> (u64, u64) {
    let block_rows = u64::from(BLOCK_ROWS).min(rows);
    // A graph of k neighbours for each row has at most 2k edges for each row once it is symmetric.
    (block_rows, block_rows * 2 * k as u64)
}

/// Returns the number of rows in a part.
fn part_rows(rows: u32) -> u32 {
    rows.div_ceil(MAX_PARTS).next_multiple_of(BLOCK_ROWS).max(PART_ROWS)
}

fn part_name(part: u32) -> String {
    format!("edges-{part:03}.arrow")
}

/// A complete edge store, opened for reading.
pub struct EdgeStore {
    parts: Vec<EdgeReader>,
    /// The part of each block, and the block's number in the part.
    blocks: Vec<(u32, u32)>,
}

impl EdgeStore {
    /// Opens the edge store of `rows` rows in `dir`.
    pub fn open(dir: &Path, rows: u64) -> Result<Self> {
        let parts = (0..rows.div_ceil(u64::from(part_rows(rows as u32))) as u32)
            .map(|part| EdgeReader::open(dir.join(part_name(part))))
            .collect::<lowland_io::Result<Vec<_>>>()?;
        let of_part = |(part, reader): (usize, &EdgeReader)| {
            (0..reader.blocks().len()).map(move |block| (part as u32, block as u32))
        };
        Ok(EdgeStore { blocks: parts.iter().enumerate().flat_map(of_part).collect(), parts })
    }

    /// Returns the number of blocks, which together hold every row once, in order.
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the path of the file that holds block `i`.
    pub fn path_of(&self, i: usize) -> &Path {
        self.parts[self.blocks[i].0 as usize].path()
    }

    /// Returns the bytes of block `i` on disk.
    pub fn block_bytes(&self, i: usize) -> u64 {
        let (part, block) = self.blocks[i];
        self.parts[part as usize].blocks()[block as usize].bytes
    }

    /// Returns the first row of block `i`.
    pub fn first_row(&self, i: usize) -> u32 {
        let (part, block) = self.blocks[i];
        self.parts[part as usize].blocks()[block as usize].first_row
    }

    /// Calls `visit` with the offsets, neighbours and weights of block `i`.
    pub fn visit_block<R>(&self, i: usize, visit: impl FnOnce(&[i32], &[u32], &[f32]) -> R) -> Result<R> {
        let (part, place) = self.blocks[i];
        Ok(self.parts[part as usize].visit_block(place as usize, visit)?)
    }

    /// Reads block `i` into `block`.
    pub fn read_block(&self, i: usize, block: &mut EdgeBlock) -> Result<()> {
        let (part, place) = self.blocks[i];
        Ok(self.parts[part as usize].read_block(place as usize, block)?)
    }
}

/// Writes rows in order, block by block and part by part. Parts that an earlier process finished are skipped.
pub(super) struct EdgeStoreWriter<'a> {
    work: StageContext<'a>,
    rows: u32,
    affinity: Affinity,
    /// Number of directed edges of a row, for the metadata.
    k: usize,
    most_edges: usize,
    block: EdgeBlock,
    part: Option<EdgeWriter>,
    finished: u32,
    /// Statistics of the finished parts.
    before: EdgePartStats,
    found: EdgePartStats,
}

/// Statistics of a part, which the manifest keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct EdgePartStats {
    edges: u64,
    max_weight: f32,
    isolated: u64,
    cut: u64,
}

impl EdgePartStats {
    fn merged_with(self, other: EdgePartStats) -> EdgePartStats {
        EdgePartStats {
            edges: self.edges + other.edges,
            max_weight: self.max_weight.max(other.max_weight),
            isolated: self.isolated + other.isolated,
            cut: self.cut + other.cut,
        }
    }
}

/// The edges of some consecutive rows.
#[derive(Default)]
pub(super) struct RowEdges {
    /// The first row.
    pub(super) first: u32,
    /// Where each row's edges begin, and the end of the last row's; the first offset is 0.
    pub(super) offsets: Vec<usize>,
    pub(super) neighbors: Vec<u32>,
    pub(super) weights: Vec<f32>,
    /// Rows that did not keep all incoming edges, and how many were left out.
    pub(super) cut: Vec<(u32, u64)>,
}

impl<'a> EdgeStoreWriter<'a> {
    /// Skips the parts that are finished already. Blocks have at most `most_edges` edges, unless a single row
    /// has more.
    pub(super) fn resume(
        rows: u32,
        affinity: Affinity,
        k: usize,
        most_edges: usize,
        work: StageContext<'a>,
    ) -> Result<Self> {
        let mut writer = EdgeStoreWriter {
            work,
            rows,
            affinity,
            k,
            most_edges,
            block: EdgeBlock { offsets: vec![0], ..EdgeBlock::default() },
            part: None,
            finished: 0,
            before: EdgePartStats::default(),
            found: EdgePartStats::default(),
        };
        let mut part = 0u32;
        while writer.block.first_row < rows
            && let Some(found) = work.recorded_unit::<EdgePartStats>(&format!("edges-{part:03}"))?
        {
            writer.before = writer.before.merged_with(found);
            writer.block.first_row = (part + 1).saturating_mul(part_rows(rows)).min(rows);
            part += 1;
        }
        writer.finished = writer.block.first_row;
        work.progress.advance(u64::from(writer.finished))?;
        Ok(writer)
    }

    /// Returns the next row to be pushed.
    pub(super) fn next_row(&self) -> u32 {
        self.block.first_row + self.block.rows() as u32
    }

    /// Returns the number of rows in finished parts. Only these survive a stop; rows pushed later may still be
    /// in a block that is not written.
    pub(super) fn finished_rows(&self) -> u32 {
        self.finished
    }

    /// Appends rows, the first of which must be the next row.
    pub(super) fn push(&mut self, piece: &RowEdges) -> Result<()> {
        debug_assert_eq!(piece.first, self.next_row());
        for edges in piece.offsets.windows(2) {
            let edges = edges[0]..edges[1];
            let row = self.next_row();
            let begins = row.is_multiple_of(BLOCK_ROWS);
            if self.block.rows() > 0 && (begins || self.block.neighbors.len() + edges.len() > self.most_edges) {
                self.write_block()?;
            }
            if row.is_multiple_of(part_rows(self.rows)) && row > 0 {
                self.finish_part()?;
            }
            self.found.isolated += u64::from(edges.is_empty());
            self.found.cut += piece.cut.iter().filter(|(of, _)| *of == row).map(|(_, cut)| cut).sum::<u64>();
            self.block.neighbors.extend_from_slice(&piece.neighbors[edges.clone()]);
            self.block.weights.extend_from_slice(&piece.weights[edges]);
            self.block.offsets.push(self.block.neighbors.len() as u32);
        }
        self.work.progress.advance(piece.offsets.len() as u64 - 1)
    }

    fn write_block(&mut self) -> Result<()> {
        let part = match &mut self.part {
            Some(part) => part,
            none => {
                let number = self.block.first_row / part_rows(self.rows);
                let pairs = [
                    ("rows", self.rows.to_string()),
                    ("affinity", self.affinity.name().into()),
                    ("k", self.k.to_string()),
                ];
                let pairs = pairs.map(|(key, value)| (key.to_string(), value));
                none.insert(EdgeWriter::new(self.work.create(&part_name(number))?, &pairs)?)
            }
        };
        part.write_block(&self.block)?;
        self.found.edges += self.block.neighbors.len() as u64;
        self.found.max_weight = self.block.weights.iter().copied().fold(self.found.max_weight, f32::max);
        self.block.first_row += self.block.rows() as u32;
        self.block.offsets.truncate(1);
        self.block.neighbors.clear();
        self.block.weights.clear();
        Ok(())
    }

    fn finish_part(&mut self) -> Result<()> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let number = (self.next_row() - 1) / part_rows(self.rows);
        let file = part.finish()?;
        self.work.progress.traffic.wrote(file.stamp.bytes);
        let found = std::mem::take(&mut self.found);
        self.before = self.before.merged_with(found);
        self.work.record_unit(&format!("edges-{number:03}"), vec![(part_name(number), file.stamp)], &found)?;
        self.finished = self.next_row();
        Ok(())
    }

    /// Writes the last block and part, and returns the statistics of the whole store.
    pub(super) fn finish(mut self) -> Result<AffinityStats> {
        if self.block.rows() > 0 {
            self.write_block()?;
        }
        self.finish_part()?;
        let EdgePartStats { edges, max_weight, isolated, cut } = self.before;
        Ok(AffinityStats { edges, max_weight, isolated_rows: isolated, cut_edges: cut })
    }
}
