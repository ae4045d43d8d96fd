//! The way of edges to the device: a group's table, then its blocks, one after another.
//!
//! A block that is kept in memory is page-locked there, where the driver does that, and sent
//! from where it lies. All others pass through page-locked buffers, by turns: those that are
//! read from disk, and are given back before the next is asked for, as the reader has few.
//!
//! What must hold: whatever is sent stays as it is until it has arrived.

use std::ops::Range;

use cudarc::driver::{CudaEvent, CudaSlice, DriverError, PinnedHostSlice};
use rayon::prelude::*;

use super::super::walk::{Edges, words_of};
use super::{padded_words, tabulate};
use crate::Result;
use crate::cuda::{Gpu, Locked};
use crate::observe::Progress;

/// Words of a buffer: a copy of them takes a bus several times as long as it takes to begin one.
const BUFFER: usize = 1 << 20;
/// Buffers.
const BUFFERS: usize = 4;
/// Bytes that are page-locked beside edges that are kept anyway.
pub(crate) const SENDING_BYTES: u64 = (4 * BUFFER * BUFFERS) as u64;

/// Whence edges are sent.
pub(super) struct Sending<'a> {
    gpu: &'a Gpu,
    edges: &'a Edges,
    /// First to go: it waits until all that was sent has arrived.
    locked: Locked<'a>,
    /// Of each block whether it is locked.
    lies: Vec<bool>,
    /// The groups' tables: of each block where its part begins.
    tables: PinnedHostSlice<u32>,
    buffers: Vec<Buffer>,
    turn: usize,
}

/// A buffer, and when it was last sent.
struct Buffer {
    words: PinnedHostSlice<u32>,
    sent: Option<CudaEvent>,
}

impl<'a> Sending<'a> {
    /// Buffers and tables for groups of so many blocks each.
    pub(super) fn new(
        gpu: &'a Gpu,
        edges: &'a Edges,
        groups: impl Iterator<Item = Range<usize>>,
    ) -> std::result::Result<Self, DriverError> {
        let allocate = |count: usize| {
            // SAFETY: written before it is sent.
            #[expect(unsafe_code, reason = "FFI: page-locked memory")]
            unsafe {
                gpu.context.alloc_pinned::<u32>(count.max(1))
            }
        };
        let mut tables = allocate(edges.count())?;
        let words = tables.as_mut_slice()?;
        for blocks in groups {
            tabulate(blocks.clone().map(|i| words_at(edges, i)), &mut words[blocks]);
        }
        let buffers = (0..BUFFERS).map(|_| Ok(Buffer { words: allocate(BUFFER)?, sent: None }));
        let buffers = buffers.collect::<std::result::Result<_, DriverError>>()?;
        Ok(Sending { gpu, edges, locked: Locked::new(gpu), lies: vec![false; edges.count()], tables, buffers, turn: 0 })
    }

    /// Page-locks those of some blocks that are kept, and says whether the driver does that.
    pub(super) fn lock(&mut self, blocks: Range<usize>, progress: &Progress<'_>) -> Result<bool> {
        for i in blocks {
            if let Some(walk) = self.edges.kept(i) {
                self.lies[i] = self.locked.lock(walk.words().pages());
                if !self.lies[i] {
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
        let failed = |e| gpu.failed("send edges", e);
        let table = &self.tables.as_slice().map_err(failed)?[blocks.clone()];
        gpu.sending.memcpy_htod(table, &mut to.slice_mut(..table.len())).map_err(failed)?;
        let mut at = padded_words(table.len());
        for i in blocks {
            match self.edges.kept(i).filter(|_| self.lies[i]) {
                Some(walk) => {
                    let words: &[u32] = walk.words();
                    gpu.sending.memcpy_htod(words, &mut to.slice_mut(at..at + words.len())).map_err(failed)?;
                }
                None => {
                    for held in self.edges.next(i..i + 1)? {
                        self.pass(held.words(), to, at).map_err(failed)?;
                    }
                }
            }
            at += padded_words(words_at(self.edges, i));
        }
        Ok(())
    }

    /// Passes over blocks that are there already: those from disk come round all the same.
    pub(super) fn skip(&self, blocks: Range<usize>) -> Result<()> {
        blocks.filter(|&i| self.edges.kept(i).is_none()).try_for_each(|i| self.edges.next(i..i + 1).map(drop))
    }

    /// Sends words through the buffers.
    fn pass(&mut self, words: &[u32], to: &mut CudaSlice<u32>, mut at: usize) -> std::result::Result<(), DriverError> {
        for piece in words.chunks(BUFFER) {
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

/// Words of a block.
fn words_at(edges: &Edges, block: usize) -> usize {
    let (_, rows, count) = edges.extent(block);
    words_of(rows as usize, count as usize)
}
