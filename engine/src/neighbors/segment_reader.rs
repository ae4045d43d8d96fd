//! Reads segments for comparison: a separate thread reads one portion (the segments that are read
//! together) while all threads pack and compare the one before.
//!
//! Invariants: at most two portions are held as read and one as packed, whatever the total; segments
//! arrive in the caller's order.

use crossbeam_channel::{Receiver, Sender, bounded};
use lowland_io::Error as IoError;
use rayon::prelude::*;

use super::segments::{MAX_SEGMENT_ROWS, SegmentTable};
use crate::Result;
use crate::distances::{PackedPiece, PackedRows};
use crate::observe::Progress;
use crate::plan::Plan;

/// The largest number of bytes of vectors in a portion.
const PORTION_BYTES: u64 = 8 << 20;

/// A segment in memory: its vectors as read and in packed form.
pub(crate) struct PackedSegment<'a, P> {
    /// The segment's number.
    pub(crate) segment: usize,
    /// The vectors, row after row.
    pub(crate) vectors: &'a [f32],
    /// The vectors less the segment's centre, in packed form.
    pub(crate) packed: P,
}

/// A packed form of a segment's rows.
pub(crate) trait SegmentForm: Send + Sync {
    /// Packs `rows`, each less `center`, reusing `pieces` as memory.
    fn of(pieces: Vec<PackedPiece>, rows: &[f32], center: &[f32]) -> Self;
    /// Returns the memory for reuse.
    fn into_pieces(self) -> Vec<PackedPiece>;
    /// Returns the bytes of `rows` packed rows.
    fn bytes(rows: usize, dim: usize) -> u64;
}

impl SegmentForm for PackedRows {
    fn of(pieces: Vec<PackedPiece>, rows: &[f32], center: &[f32]) -> Self {
        let mut packed = PackedRows::with_pieces(pieces);
        packed.load(rows.chunks_exact(center.len()), center);
        packed
    }

    fn into_pieces(self) -> Vec<PackedPiece> {
        PackedRows::into_pieces(self)
    }

    fn bytes(rows: usize, dim: usize) -> u64 {
        PackedRows::bytes(rows, dim)
    }
}

/// Calls `each` with the segments of `order`, in portions of at most `rows` rows, or of one segment where
/// the segment is longer.
///
/// # Errors
/// A failed read, a stop request from `progress`, or an error of `each`.
pub(crate) fn each_portion<P: SegmentForm>(
    segments: &SegmentTable<'_>,
    order: &[u32],
    rows: usize,
    progress: &Progress<'_>,
    mut each: impl FnMut(&[PackedSegment<'_, P>]) -> Result<()>,
) -> Result<()> {
    let portions = portions(segments, order, rows);
    // Two buffers alternate: one is filled while the other is processed.
    let (to_fill, empty) = bounded(2);
    let (to_use, full) = bounded(2);
    for _ in 0..2 {
        // The channel has capacity for both buffers.
        let _ = to_fill.try_send(Vec::new());
    }
    std::thread::scope(|scope| {
        // The channel ends are moved into this scope: when the scope returns, also with an error, they
        // are dropped and the reader stops.
        let (to_fill, full): (Sender<Vec<f32>>, Receiver<Result<Vec<f32>>>) = (to_fill, full);
        let reading = std::thread::Builder::new().name("lowland-lists".into()).stack_size(256 << 10);
        let portions = &portions;
        let reader = move || {
            for portion in portions {
                let Ok(mut buffer) = empty.recv() else { return };
                let read = read_segments(segments, portion, &mut buffer).map(|()| buffer);
                let stop = read.is_err();
                if to_use.send(read).is_err() || stop {
                    return;
                }
            }
        };
        reading.spawn_scoped(scope, reader).map_err(|e| IoError::io("lists.ivf", "start a reading thread for", e))?;
        let mut pieces: Vec<PackedPiece> = Vec::new();
        let dim = segments.lists.table.dim;
        for portion in portions {
            progress.check()?;
            let ended = || crate::Error::Data { what: "the thread that reads lists stopped early".into() };
            let buffer = full.recv().map_err(|_| ended())??;
            progress.traffic.read(buffer.len() as u64 * 4);
            let mut rest = &buffer[..];
            let met: Vec<(usize, &[f32], Vec<PackedPiece>)> = portion
                .iter()
                .map(|&segment| {
                    let rows = segments.range(segment as usize).len();
                    let (vectors, later) = rest.split_at(rows * dim);
                    rest = later;
                    let from = pieces.len().saturating_sub(PackedRows::pieces(rows));
                    (segment as usize, vectors, pieces.split_off(from))
                })
                .collect();
            let met: Vec<PackedSegment<'_, P>> = met
                .into_par_iter()
                .map(|(segment, vectors, pieces)| {
                    let packed = P::of(pieces, vectors, segments.center(segment));
                    PackedSegment { segment, vectors, packed }
                })
                .collect();
            each(&met)?;
            met.into_iter().for_each(|met| pieces.extend(met.packed.into_pieces()));
            // After the last portion the reader has ended, and sending fails.
            let _ = to_fill.send(buffer);
        }
        Ok(())
    })
}

/// Splits `order` into runs of consecutive segments with at most `most` rows each, or one segment.
fn portions<'a>(segments: &SegmentTable<'_>, order: &'a [u32], most: usize) -> Vec<&'a [u32]> {
    let (mut portions, mut rest) = (Vec::new(), order);
    while !rest.is_empty() {
        let mut rows = 0;
        let end = rest.iter().position(|&segment| {
            rows += segments.range(segment as usize).len();
            rows > most
        });
        let (portion, later) = rest.split_at(end.unwrap_or(rest.len()).max(1));
        portions.push(portion);
        rest = later;
    }
    portions
}

fn read_segments(segments: &SegmentTable<'_>, portion: &[u32], buffer: &mut Vec<f32>) -> Result<()> {
    let dim = segments.lists.table.dim;
    let rows: usize = portion.iter().map(|&segment| segments.range(segment as usize).len()).sum();
    buffer.clear();
    buffer.reserve_exact(rows * dim);
    buffer.resize(rows * dim, 0.0);
    let mut rest = &mut buffer[..];
    for &segment in portion {
        let range = segments.range(segment as usize);
        let (to, later) = rest.split_at_mut(range.len() * dim);
        segments.lists.read(range, to)?;
        rest = later;
    }
    Ok(())
}

/// Returns the number of rows of a portion that fits into `room` bytes.
pub(crate) fn portion_rows(plan: &Plan, room: u64) -> usize {
    let least = MAX_SEGMENT_ROWS.min(plan.shape.rows as usize);
    // Even few rows are split into several portions, so that reading and comparing overlap.
    let most = (PORTION_BYTES / (plan.shape.dim.max(1) as u64 * 4)).min(plan.shape.rows / 8) as usize;
    let fit = (room / bytes::<PackedRows>(MAX_SEGMENT_ROWS, plan.shape.dim).max(1)) as usize * MAX_SEGMENT_ROWS;
    fit.min(most).max(least)
}

/// Returns the bytes that the portions of `rows` rows take while they are read and packed.
pub(crate) fn bytes<P: SegmentForm>(rows: usize, dim: usize) -> u64 {
    // Twice the packed size: many short segments need more padding than one long segment, and pieces
    // freed by an earlier sweep may still be cached by another thread's allocator.
    2 * (rows * dim * 4) as u64 + P::bytes(rows, dim) * 2
}
