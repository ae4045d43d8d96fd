//! Sends edges to the GPU: for each group its table, then its blocks, one after another.
//!
//! A block that is kept in memory is page-locked in place, if the driver supports that, and sent from there.
//! All other blocks are copied through page-locked buffers, which are used in turn. A block that is read from
//! disk is given back before the next one is requested, because the reader has only a few buffers.
//!
//! What must hold: data that are being sent do not change until they have arrived.

use std::ops::Range;

use cudarc::driver::{CudaEvent, CudaSlice, DriverError, PinnedHostSlice};
use rayon::prelude::*;

use super::super::edge_blocks::{LayoutEdges, block_words};
use super::{padded_words, write_offsets};
use crate::Result;
use crate::cuda::{Gpu, PinnedPages};
use crate::observe::Progress;

/// Number of words of a buffer, whose transfer takes several times as long as the start of a transfer.
const BUFFER_WORDS: usize = 1 << 20;
/// Number of buffers.
const BUFFERS: usize = 4;
/// Bytes that are page-locked in addition to the edges that are kept anyway.
pub(crate) const UPLOAD_BUFFER_BYTES: u64 = (4 * BUFFER_WORDS * BUFFERS) as u64;

/// The sources of the edges that are sent to a GPU.
pub(super) struct EdgeUpload<'a> {
    gpu: &'a Gpu,
    edges: &'a LayoutEdges,
    /// Dropped before `tables` and `buffers`: its drop waits until all transfers have arrived.
    locked: PinnedPages<'a>,
    /// For each block, whether it is page-locked.
    pinned: Vec<bool>,
    /// The groups' tables: for each block, the word at which its part begins.
    tables: PinnedHostSlice<u32>,
    buffers: Vec<UploadBuffer>,
    turn: usize,
}

/// A buffer, and the event after its last transfer.
struct UploadBuffer {
    words: PinnedHostSlice<u32>,
    sent: Option<CudaEvent>,
}

impl<'a> EdgeUpload<'a> {
    /// Allocates the buffers, and writes the tables of the groups, each given as a range of blocks.
    pub(super) fn new(
        gpu: &'a Gpu,
        edges: &'a LayoutEdges,
        groups: impl Iterator<Item = Range<usize>>,
    ) -> std::result::Result<Self, DriverError> {
        let allocate = |count: usize| {
            // SAFETY: the memory is written before it is sent.
            #[expect(unsafe_code, reason = "FFI: page-locked memory")]
            unsafe {
                gpu.context.alloc_pinned::<u32>(count.max(1))
            }
        };
        let mut tables = allocate(edges.count())?;
        let words = tables.as_mut_slice()?;
        for blocks in groups {
            write_offsets(blocks.clone().map(|i| stored_block_words(edges, i)), &mut words[blocks]);
        }
        let buffers = (0..BUFFERS).map(|_| Ok(UploadBuffer { words: allocate(BUFFER_WORDS)?, sent: None }));
        let buffers = buffers.collect::<std::result::Result<_, DriverError>>()?;
        Ok(EdgeUpload {
            gpu,
            edges,
            locked: PinnedPages::new(gpu),
            pinned: vec![false; edges.count()],
            tables,
            buffers,
            turn: 0,
        })
    }

    /// Page-locks the blocks in this range that are kept in memory. Returns false if the driver does not
    /// support that.
    pub(super) fn lock(&mut self, blocks: Range<usize>, progress: &Progress<'_>) -> Result<bool> {
        for i in blocks {
            if let Some(walk) = self.edges.block_in_memory(i) {
                self.pinned[i] = self.locked.lock(walk.words().pages());
                if !self.pinned[i] {
                    return Ok(false);
                }
            }
        }
        progress.check()?;
        Ok(true)
    }

    /// Sends a group to `to`.
    pub(super) fn send(&mut self, blocks: Range<usize>, to: &mut CudaSlice<u32>) -> Result<()> {
        let gpu = self.gpu;
        let failed = |e| gpu.driver_error("send edges", e);
        let table = &self.tables.as_slice().map_err(failed)?[blocks.clone()];
        gpu.sending.memcpy_htod(table, &mut to.slice_mut(..table.len())).map_err(failed)?;
        let mut at = padded_words(table.len());
        for i in blocks {
            match self.edges.block_in_memory(i).filter(|_| self.pinned[i]) {
                Some(walk) => {
                    let words: &[u32] = walk.words();
                    gpu.sending.memcpy_htod(words, &mut to.slice_mut(at..at + words.len())).map_err(failed)?;
                }
                None => {
                    for held in self.edges.next_blocks(i..i + 1)? {
                        self.copy_through_buffers(held.words(), to, at).map_err(failed)?;
                    }
                }
            }
            at += padded_words(stored_block_words(self.edges, i));
        }
        Ok(())
    }

    /// Skips blocks whose group is already in GPU memory; the reader reads spilled blocks in each epoch, so
    /// that they are taken from it and dropped.
    pub(super) fn skip(&self, blocks: Range<usize>) -> Result<()> {
        blocks
            .filter(|&i| self.edges.block_in_memory(i).is_none())
            .try_for_each(|i| self.edges.next_blocks(i..i + 1).map(drop))
    }

    /// Sends words through the buffers.
    fn copy_through_buffers(
        &mut self,
        words: &[u32],
        to: &mut CudaSlice<u32>,
        mut at: usize,
    ) -> std::result::Result<(), DriverError> {
        for piece in words.chunks(BUFFER_WORDS) {
            let buffer = &mut self.buffers[self.turn % BUFFERS];
            self.turn += 1;
            if let Some(sent) = buffer.sent.take() {
                sent.synchronize()?;
            }
            let room = &mut buffer.words.as_mut_slice()?[..piece.len()];
            room.par_chunks_mut(1 << 16).zip(piece.par_chunks(1 << 16)).for_each(|(to, from)| to.copy_from_slice(from));
            self.gpu.sending.memcpy_htod(&*room, &mut to.slice_mut(at..at + piece.len()))?;
            buffer.sent = Some(self.gpu.sending.record_event(None)?);
            at += piece.len();
        }
        Ok(())
    }
}

/// Returns the number of words of a block.
fn stored_block_words(edges: &LayoutEdges, block: usize) -> usize {
    let (_, rows, count) = edges.block_extent(block);
    block_words(rows as usize, count as usize)
}
