//! The edges in the form that the optimizer reads in every epoch, block after block ("walked" edges).
//!
//! A walked edge takes 6 bytes: its neighbour (u32) and a code of its weight (u16); [`WeightCode`] lists the codes.
//! Edges whose weight rounds to code 0, or which would never fire, are left out. The plan's number of bytes of
//! blocks is kept in memory. The other blocks are spilled uncompressed to a scratch file, which a thread of its
//! own reads some blocks ahead. Kept and spilled blocks alternate evenly, so that the disk is busy throughout
//! an epoch.
//!
//! What must hold: kept and spilled blocks have the same codes, so that the map does not depend on the memory
//! budget.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use lowland_io::edges::EdgeBlock;
use lowland_io::{Error as IoError, ScratchFile, ScratchRange, ScratchWriter};
use rayon::prelude::*;

use super::LayoutOptions;
use crate::Result;
use crate::affinity::EdgeStore;
use crate::pages::{PAGE_WORDS_OVERHEAD, PageWords};
use crate::plan::BLOCK_ROWS;
use crate::work::StageContext;

/// The rate of an edge that fires in every epoch. Rates are in units of 1 / 65,536.
pub(super) const FULL_RATE: u32 = 1 << 16;
/// Name of the spilled blocks' file in the run directory.
const SPILL: &str = "walk.scratch";

/// How an edge's weight w is encoded in 16 bits, where m is the largest weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightCode {
    /// How often the edge fires: w/m in 65,536ths of an epoch, minus one. Edges too weak to fire once in all
    /// epochs are left out.
    Rates,
    /// √(w/m) in 65,535ths. The relative error of a decoded weight is at most √(m/w) / 65,535 where this value
    /// is small; it is 1.5·10⁻⁴ for a weight of a hundredth of the largest.
    Roots,
    /// w itself, which is a whole number.
    Counts,
}

impl WeightCode {
    /// Returns the code of a weight, or `None` if the edge is left out.
    fn encode(self, weight: f32, options: &LayoutOptions) -> Option<u16> {
        let share = f64::from(weight) / f64::from(options.max_weight.max(f32::MIN_POSITIVE));
        match self {
            WeightCode::Rates => {
                // With a smaller rate, ⌊epochs · rate⌋ is 0: the edge never fires.
                let least = FULL_RATE.div_ceil(options.epochs.max(1) as u32);
                let scale = f64::from(FULL_RATE) / f64::from(options.max_weight.max(f32::MIN_POSITIVE));
                let rate = ((f64::from(weight) * scale).round() as u32).min(FULL_RATE);
                (rate >= least).then(|| (rate - 1) as u16)
            }
            WeightCode::Roots => Some((share.min(1.0).sqrt() * MAX_ROOT_CODE).round() as u16).filter(|&code| code > 0),
            WeightCode::Counts => Some(weight as u16).filter(|&code| code > 0),
        }
    }
}

/// Returns √w of an edge with code 1 of [`WeightCode::Roots`].
pub(crate) fn root_unit(max_weight: f32) -> f32 {
    (f64::from(max_weight).sqrt() / MAX_ROOT_CODE) as f32
}

/// The largest code of [`WeightCode::Roots`].
const MAX_ROOT_CODE: f64 = 65_535.0;

/// A block of rows and their edges, in one piece of memory, in the layout that a GPU reads: rows + 1 offsets
/// (where each row's edges begin, and where the last row's edges end), the neighbours, and the codes, two in a
/// word.
#[derive(Default)]
pub(crate) struct PackedBlock {
    pub(crate) first_row: u32,
    rows: usize,
    edges: usize,
    words: PageWords,
}

/// The three arrays of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSlices<'a> {
    /// rows + 1 offsets into the other arrays; the first is 0.
    pub(crate) offsets: &'a [u32],
    pub(crate) neighbors: &'a [u32],
    /// Codes of the weights of the edges to `neighbors`.
    pub(crate) codes: &'a [u16],
}

impl PackedBlock {
    /// Sets the block's size. The contents are to be written by the caller.
    fn resize(&mut self, first_row: u32, rows: usize, edges: usize) {
        (self.first_row, self.rows, self.edges) = (first_row, rows, edges);
        self.words.resize(block_words(rows, edges));
        if let Some(last) = self.words.last_mut() {
            // With an odd number of edges, the last word's second half is unused and must not vary.
            *last = 0;
        }
    }

    pub(crate) fn part(&self) -> BlockSlices<'_> {
        let (offsets, rest) = self.words.split_at(self.rows + 1);
        let (neighbors, codes) = rest.split_at(self.edges);
        BlockSlices { offsets, neighbors, codes: &bytemuck::cast_slice(codes)[..self.edges] }
    }

    /// Returns offsets, neighbours and codes for writing.
    fn part_mut(&mut self) -> (&mut [u32], &mut [u32], &mut [u16]) {
        let (offsets, rest) = self.words.split_at_mut(self.rows + 1);
        let (neighbors, codes) = rest.split_at_mut(self.edges);
        (offsets, neighbors, &mut bytemuck::cast_slice_mut(codes)[..self.edges])
    }

    /// Returns the whole block as words.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn words(&self) -> &PageWords {
        &self.words
    }

    /// Builds a block from its arrays.
    #[cfg(test)]
    pub(crate) fn from_parts(first_row: u32, offsets: &[u32], neighbors: &[u32], codes: &[u16]) -> Self {
        let mut walk = PackedBlock::default();
        walk.resize(first_row, offsets.len() - 1, neighbors.len());
        let (to_offsets, to_neighbors, to_codes) = walk.part_mut();
        to_offsets.copy_from_slice(offsets);
        to_neighbors.copy_from_slice(neighbors);
        to_codes.copy_from_slice(codes);
        walk
    }

    /// Encodes the edges of a block of the edge store.
    fn encode(first_row: u32, offsets: &[i32], neighbors: &[u32], weights: &[f32], options: &LayoutOptions) -> Self {
        let coding = options.objective.weight_code();
        let code = |weight: f32| coding.encode(weight, options);
        let count = weights.iter().filter(|&&weight| code(weight).is_some()).count();
        let mut walk = PackedBlock::default();
        walk.resize(first_row, offsets.len().saturating_sub(1), count);
        let (to_offsets, to_neighbors, to_codes) = walk.part_mut();
        to_offsets[0] = 0;
        let mut at = 0;
        for (edges, end) in offsets.windows(2).zip(&mut to_offsets[1..]) {
            let edges = edges[0] as usize..edges[1] as usize;
            for (&neighbor, &weight) in neighbors[edges.clone()].iter().zip(&weights[edges]) {
                if let Some(code) = code(weight) {
                    (to_neighbors[at], to_codes[at]) = (neighbor, code);
                    at += 1;
                }
            }
            *end = at as u32;
        }
        walk
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn extent(&self) -> (u32, u32, u32) {
        (self.first_row, self.rows as u32, self.edges as u32)
    }

    fn bytes_held(&self) -> u64 {
        bytes(self.rows as u64, self.edges as u64)
    }
}

/// Returns the number of words of a block.
pub(super) fn block_words(rows: usize, edges: usize) -> usize {
    rows + 1 + edges + edges.div_ceil(2)
}

/// Returns the bytes of memory that blocks with this many rows and walked edges take in all.
pub(super) fn bytes(rows: u64, edges: u64) -> u64 {
    rows * 4 + edges * 6 + rows.div_ceil(u64::from(BLOCK_ROWS)) * PAGE_WORDS_OVERHEAD
}

/// A spilled block's size and its place in the scratch file.
#[derive(Debug, Clone, Copy)]
struct SpilledBlock {
    first_row: u32,
    rows: usize,
    edges: usize,
    scrap: ScratchRange,
}

/// All blocks of edges, in row order.
pub struct LayoutEdges {
    blocks: Vec<BlockPlace>,
    /// The first row, the number of rows and the number of edges of each block.
    extents: Vec<(u32, u32, u32)>,
    reader: Option<SpillReader>,
    /// Bytes that are read from the scratch file in each epoch.
    spilled_bytes: u64,
}

enum BlockPlace {
    InMemory(PackedBlock),
    OnDisk,
}

impl LayoutEdges {
    /// Encodes one block that holds all edges, and keeps it in memory.
    pub fn in_memory(block: &EdgeBlock, options: &LayoutOptions) -> Self {
        LayoutEdges::blocks_in_memory(std::slice::from_ref(block), options)
    }

    /// Encodes consecutive blocks that together hold all edges, and keeps them in memory.
    pub fn blocks_in_memory(blocks: &[EdgeBlock], options: &LayoutOptions) -> Self {
        let walks = blocks.iter().map(|block| {
            let offsets: Vec<i32> = block.offsets.iter().map(|&offset| offset as i32).collect();
            PackedBlock::encode(block.first_row, &offsets, &block.neighbors, &block.weights, options)
        });
        let (extents, blocks) = walks.map(|walk| (walk.extent(), BlockPlace::InMemory(walk))).unzip();
        LayoutEdges { extents, blocks, reader: None, spilled_bytes: 0 }
    }

    /// Encodes the blocks of `store`. Blocks of at most `keep` bytes in all stay in memory; the others are
    /// spilled to the run directory. `expected` is the likely number of bytes of all blocks.
    pub fn load(
        store: &EdgeStore,
        keep: u64,
        expected: u64,
        options: &LayoutOptions,
        work: &StageContext<'_>,
    ) -> Result<Self> {
        let mut spill: Option<ScratchWriter> = None;
        let mut spilled = Vec::new();
        let mut blocks = Vec::with_capacity(store.count());
        let (mut held, mut extents) = (0, Vec::with_capacity(store.count()));
        // Kept blocks are spread evenly among all blocks; if all blocks are likely to fit, each one is kept
        // while it fits.
        let share = if expected <= keep { 1.0 } else { keep as f64 / expected as f64 };
        let all: Vec<usize> = (0..store.count()).collect();
        for window in all.chunks(rayon::current_num_threads().max(1)) {
            let walks = window
                .par_iter()
                .map(|&i| {
                    work.progress.traffic.read(store.block_bytes(i));
                    store.visit_block(i, |offsets, neighbors, weights| {
                        if let Some(row) = neighbors.iter().find(|&&row| row >= options.rows) {
                            let what = format!("an edge to row {row} of {}", options.rows);
                            return Err(IoError::Corrupt { path: store.path_of(i).to_path_buf(), what }.into());
                        }
                        Ok(PackedBlock::encode(store.first_row(i), offsets, neighbors, weights, options))
                    })?
                })
                .collect::<Result<Vec<PackedBlock>>>()?;
            for (&i, walk) in window.iter().zip(walks) {
                extents.push(walk.extent());
                let turn = ((i + 1) as f64 * share).floor() > (i as f64 * share).floor();
                if turn && held + walk.bytes_held() <= keep {
                    held += walk.bytes_held();
                    blocks.push(BlockPlace::InMemory(walk));
                    continue;
                }
                let spill = match &mut spill {
                    Some(open) => open,
                    none => none.insert(ScratchWriter::create(work.path(SPILL))?),
                };
                let scrap = spill.append(&[bytemuck::cast_slice(&walk.words)])?;
                spilled.push(SpilledBlock { first_row: walk.first_row, rows: walk.rows, edges: walk.edges, scrap });
                blocks.push(BlockPlace::OnDisk);
            }
            work.progress.check()?;
        }
        let spilled_bytes = spill.as_ref().map_or(0, ScratchWriter::bytes);
        work.progress.traffic.wrote(spilled_bytes);
        let reader = match spill {
            Some(spill) => {
                Some(SpillReader::start(spill.finish()?, spilled, blocks_read_ahead(rayon::current_num_threads())))
            }
            None => None,
        };
        Ok(LayoutEdges { blocks, extents, reader, spilled_bytes })
    }

    /// Returns the number of edges that are read in each epoch.
    pub fn edges_per_epoch(&self) -> u64 {
        self.extents.iter().map(|&(_, _, edges)| u64::from(edges)).sum()
    }

    /// Returns the number of blocks.
    pub(super) fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the first row, the number of rows and the number of edges of a block.
    #[cfg(feature = "cuda")]
    pub(super) fn block_extent(&self, block: usize) -> (u32, u32, u32) {
        self.extents[block]
    }

    /// Returns a block if it is kept in memory.
    #[cfg(feature = "cuda")]
    pub(super) fn block_in_memory(&self, block: usize) -> Option<&PackedBlock> {
        match &self.blocks[block] {
            BlockPlace::InMemory(walk) => Some(walk),
            BlockPlace::OnDisk => None,
        }
    }

    /// Returns the bytes that are read from the scratch file in each epoch.
    pub(super) fn spilled_bytes(&self) -> u64 {
        self.spilled_bytes
    }

    /// Returns the next blocks of an epoch. Ranges must follow each other in order, because the reader thread
    /// reads the spilled blocks in order, over and over.
    ///
    /// # Panics
    /// If more of the blocks are spilled than the reader has buffers. All of these blocks are held at the same
    /// time, so that the reader would wait for a free buffer, and the caller for the reader.
    pub(super) fn next_blocks(&self, range: std::ops::Range<usize>) -> Result<Vec<BlockGuard<'_>>> {
        let spilled = self.blocks[range.clone()].iter().filter(|place| matches!(place, BlockPlace::OnDisk)).count();
        let buffers = self.reader.as_ref().map_or(0, |reader| reader.buffers);
        assert!(spilled <= buffers, "{spilled} blocks at a time, and there are {buffers} buffers");
        self.blocks[range]
            .iter()
            .map(|place| match (place, &self.reader) {
                (BlockPlace::InMemory(walk), _) => Ok(BlockGuard::InMemory(walk)),
                (BlockPlace::OnDisk, Some(reader)) => Ok(BlockGuard::FromDisk(reader.next()?, &reader.recycle)),
                (BlockPlace::OnDisk, None) => unreachable!("spilled blocks have a reader"),
            })
            .collect()
    }
}

/// A block in memory, either kept there or read into one of the reader's buffers.
pub(super) enum BlockGuard<'a> {
    InMemory(&'a PackedBlock),
    FromDisk(PackedBlock, &'a Sender<PackedBlock>),
}

impl std::ops::Deref for BlockGuard<'_> {
    type Target = PackedBlock;
    fn deref(&self) -> &PackedBlock {
        match self {
            BlockGuard::InMemory(walk) => walk,
            BlockGuard::FromDisk(walk, _) => walk,
        }
    }
}

impl Drop for BlockGuard<'_> {
    fn drop(&mut self) {
        if let BlockGuard::FromDisk(walk, recycle) = self {
            // The send fails if the reader has ended; the buffer is then freed.
            let _ = recycle.try_send(std::mem::take(walk));
        }
    }
}

/// Returns the number of blocks that an epoch on the CPU holds at a time.
pub(super) fn blocks_per_portion(threads: usize) -> usize {
    2 * threads.max(1)
}

/// Returns the number of the reader's buffers, which include those of the current portion.
pub(super) fn blocks_read_ahead(threads: usize) -> usize {
    2 * blocks_per_portion(threads) + 2
}

/// A thread that reads the spilled blocks over and over, some ahead of the epoch.
struct SpillReader {
    buffers: usize,
    full: Receiver<Result<PackedBlock>>,
    recycle: Sender<PackedBlock>,
    thread: Option<JoinHandle<()>>,
}

impl SpillReader {
    fn start(scratch: ScratchFile, spilled: Vec<SpilledBlock>, buffers: usize) -> Self {
        let (to_walk, full) = bounded(buffers);
        let (recycle, empty) = bounded::<PackedBlock>(buffers);
        for _ in 0..buffers {
            // Cannot fail: the channel has room for all buffers.
            let _ = recycle.try_send(PackedBlock::default());
        }
        let (failed, path) = (to_walk.clone(), scratch.path().to_path_buf());
        let thread = std::thread::Builder::new().name("lowland-edges".into()).stack_size(256 << 10).spawn(move || {
            for place in spilled.iter().cycle() {
                let Ok(mut walk) = empty.recv() else { return };
                let read = place.read(&scratch, &mut walk).map(|()| walk);
                let stop = read.is_err();
                if to_walk.send(read).is_err() || stop {
                    return;
                }
            }
        });
        let thread =
            thread.map_err(|e| failed.try_send(Err(IoError::io(path, "start a reading thread for", e).into()))).ok();
        SpillReader { buffers, full, recycle, thread }
    }

    fn next(&self) -> Result<PackedBlock> {
        self.full
            .recv()
            .unwrap_or_else(|_| Err(crate::Error::Data { what: "the thread that reads edges stopped early".into() }))
    }
}

impl Drop for SpillReader {
    fn drop(&mut self) {
        // Closing both channels ends the thread, which is then joined.
        let (nobody, _) = bounded(0);
        self.recycle = nobody;
        let (_, closed) = bounded(0);
        self.full = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl SpilledBlock {
    fn read(&self, scratch: &ScratchFile, walk: &mut PackedBlock) -> Result<()> {
        walk.resize(self.first_row, self.rows, self.edges);
        Ok(scratch.read(self.scrap, &mut [bytemuck::cast_slice_mut(&mut walk.words)])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;
    use crate::random::unit;

    #[test]
    fn weights_as_roots_are_within_their_stated_error() {
        let options =
            LayoutOptions { max_weight: 0.8, ..crate::methods::options(Method::TSNE, 10).expect("it streams") };
        let unit_root = root_unit(options.max_weight);
        for i in 0..10_000u64 {
            let weight = 0.8 * unit(1, 1, i).powi(4);
            let Some(code) = WeightCode::Roots.encode(weight, &options) else {
                assert!(weight < 0.8 * (0.5f32 / 65_535.0).powi(2) * 1.001, "{weight} is left out");
                continue;
            };
            let found = (f32::from(code) * unit_root).powi(2);
            let (share, most) = (weight / 0.8, 1.0 / 65_535.0);
            let off = f64::from((found / weight - 1.0).abs());
            let bound = f64::from(most / share.sqrt());
            assert!(off <= bound * (1.0 + bound) + 1e-6, "{weight} is {found}");
        }
        assert_eq!(WeightCode::Roots.encode(0.8, &options), Some(65_535));
        assert_eq!(WeightCode::Counts.encode(9.0, &options), Some(9));
        assert_eq!(WeightCode::Counts.encode(0.0, &options), None);
    }
}
