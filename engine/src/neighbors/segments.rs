//! Runs of rows that the join packs and scores as one, and the cache of
//! packed ones.
//!
//! Where lists are probed, a segment is a list, or a part of one that is very
//! long; where every pair is compared, a segment is a fixed number of rows. Either way the segments, and the
//! centre that each is shifted by, follow from the data alone.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kernel::{Packed, Piece, squared_distance};
use crate::Result;
use crate::index::Lists;

/// Rows of a segment at most: what memory is planned for.
pub(super) const LONGEST: usize = 2048;
/// Rows of a segment where every pair is compared.
const ROWS: usize = 1024;

/// How much farther than their extent (both squared) joined lists may lie from each other.
const SPREAD: f32 = 256.0;

/// The mean squared distance of a list's rows to its centroid.
fn extent(lists: &Lists, list: usize) -> Result<f32> {
    let rows = lists.vectors(list)?.chunks_exact(lists.table.dim);
    let count = rows.len() as f64;
    Ok((rows.map(|row| f64::from(squared_distance(row, lists.table.centroid(list)))).sum::<f64>() / count) as f32)
}

/// The rows of an index, in segments.
pub struct Segments<'a> {
    /// The vectors.
    pub lists: &'a Lists,
    /// The first row of each segment, and the number of rows last.
    starts: Vec<u32>,
    /// The first segment of each list, and their number last; empty where segments are even.
    of_list: Vec<u32>,
}

impl<'a> Segments<'a> {
    /// A segment a list, or more where it has more than 2,048 rows.
    pub fn lists(lists: &'a Lists) -> Self {
        let (mut starts, mut of_list) = (Vec::new(), vec![0]);
        for list in 0..lists.table.count() {
            starts.extend(lists.table.range(list).step_by(LONGEST));
            of_list.push(starts.len() as u32);
        }
        starts.push(lists.table.rows());
        Segments { lists, starts, of_list }
    }

    /// The segments of list `list`.
    pub fn of_list(&self, list: usize) -> Range<u32> {
        self.of_list[list]..self.of_list[list + 1]
    }

    /// The segment that holds row `row`.
    pub fn segment_of(&self, row: u32) -> u32 {
        self.starts.partition_point(|&start| start <= row) as u32 - 1
    }

    /// Neighbouring lists together, up to 1,024 rows.
    ///
    /// A score is rounded on the scale of a row's distance to the segment's
    /// centre, so only lists are joined whose centroids lie within a small
    /// multiple of their own extent: what tells their rows apart is then kept.
    pub fn joined(lists: &'a Lists) -> Result<Self> {
        let table = &lists.table;
        let between = |a: usize, b: usize| squared_distance(table.centroid(a), table.centroid(b));
        let mut starts = Vec::new();
        let mut first: Option<(usize, f32)> = None;
        for list in (0..table.count()).filter(|&l| !table.range(l).is_empty()) {
            let extent = match extent(lists, list)? {
                // Copies of one row: what counts is how far the nearest others are.
                0.0 => {
                    let next = (list + 1 < table.count()).then(|| between(list, list + 1));
                    let before = list.checked_sub(1).map(|before| between(list, before));
                    before.into_iter().chain(next).fold(f32::INFINITY, f32::min)
                }
                extent => extent,
            };
            if let Some((of, least)) = first {
                let least = least.min(extent);
                let rows = table.range(list).end - starts.last().copied().unwrap_or(0);
                if rows as usize <= ROWS && between(of, list) <= SPREAD * least {
                    first = Some((of, least));
                    continue;
                }
            }
            starts.extend(table.range(list).step_by(LONGEST));
            first = Some((list, extent));
        }
        starts.push(table.rows());
        Ok(Segments { lists, starts, of_list: Vec::new() })
    }

    /// The segments that every pair of rows is compared through.
    pub fn all_pairs(lists: &'a Lists, exact: bool) -> Result<Self> {
        if exact { Self::joined(lists) } else { Ok(Self::lists(lists)) }
    }

    /// Number of segments.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of segment `segment`.
    pub fn range(&self, segment: usize) -> Range<u32> {
        self.starts[segment]..self.starts[segment + 1]
    }

    /// What the segment's rows, and the queries that meet them, are shifted by.
    pub fn center(&self, segment: usize) -> &[f32] {
        let table = &self.lists.table;
        let first = self.starts[segment].min(table.rows().saturating_sub(1));
        table.centroid(table.list_of(first))
    }

    /// The vectors of `range`.
    pub fn vectors(&self, range: Range<u32>) -> Result<Vec<&'a [f32]>> {
        let table = &self.lists.table;
        let mut rows = Vec::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let list = table.list_of(at);
            let (first, end) = (table.starts[list], table.starts[list + 1].min(range.end));
            let vectors = self.lists.vectors(list)?;
            rows.extend(
                vectors[(at - first) as usize * table.dim..(end - first) as usize * table.dim].chunks_exact(table.dim),
            );
            at = end;
        }
        Ok(rows)
    }

    /// Packs segment `segment`.
    pub fn pack(&self, segment: usize) -> Result<Packed> {
        self.pack_over(segment, Vec::new())
    }

    /// The same, into `pieces` as far as they go.
    fn pack_over(&self, segment: usize, pieces: Vec<Piece>) -> Result<Packed> {
        let mut packed = Packed::over(pieces);
        packed.load(self.vectors(self.range(segment))?.into_iter(), self.center(segment));
        Ok(packed)
    }

    /// Bytes of all segments packed.
    pub fn packed_bytes(&self) -> u64 {
        (0..self.count()).map(|s| Packed::bytes(self.range(s).len(), self.lists.table.dim)).sum()
    }
}

/// Packed segments, at most `capacity` bytes of them kept.
pub(super) struct Cache<'a> {
    segments: &'a Segments<'a>,
    capacity: u64,
    /// Whether a full cache makes room (lists are visited near to near) or
    /// keeps what it has (a sweep over everything would evict all it needs).
    evicts: bool,
    state: Mutex<State>,
    pool: Pool,
    /// Bytes of vectors read to be packed so far.
    pub read: AtomicU64,
}

#[derive(Default)]
struct State {
    held: u64,
    clock: u64,
    packed: HashMap<usize, (Arc<Pooled>, u64)>,
    by_age: BTreeMap<u64, usize>,
}

/// Pieces of segments that went, for the next ones. Given back to the
/// allocator they would lie there for the thread that once asked for them,
/// while another asks for more.
type Pool = Arc<Mutex<Vec<Piece>>>;

/// A packed segment, whose pieces go back to the pool when nobody reads it any more.
pub(super) struct Pooled {
    packed: Packed,
    pool: Pool,
}

impl std::ops::Deref for Pooled {
    type Target = Packed;
    fn deref(&self) -> &Packed {
        &self.packed
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        lock(&self.pool).extend(std::mem::take(&mut self.packed).into_pieces());
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is whole before the lock is let go.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Cache<'a> {
    /// An empty cache.
    pub(super) fn new(segments: &'a Segments<'a>, capacity: u64, evicts: bool) -> Self {
        let (state, pool) = (Mutex::default(), Pool::default());
        Cache { segments, capacity, evicts, state, pool, read: AtomicU64::new(0) }
    }

    /// Segment `segment`, packed; made now if it is not held.
    pub(super) fn get(&self, segment: usize) -> Result<Arc<Pooled>> {
        let rows = self.segments.range(segment).len();
        let bytes = Packed::bytes(rows, self.segments.lists.table.dim);
        let kept = {
            let mut state = lock(&self.state);
            let state = &mut *state;
            if let Some((packed, age)) = state.packed.get_mut(&segment) {
                state.clock += 1;
                state.by_age.remove(age);
                *age = state.clock;
                state.by_age.insert(*age, segment);
                return Ok(packed.clone());
            }
            while self.evicts && state.held + bytes > self.capacity {
                let Some((_, oldest)) = state.by_age.pop_first() else { break };
                if let Some((packed, _)) = state.packed.remove(&oldest) {
                    state.held -= packed.held();
                }
            }
            // Its room is taken before it is packed: other threads pack meanwhile.
            let kept = state.held + bytes <= self.capacity;
            state.held += if kept { bytes } else { 0 };
            kept
        };
        let pieces = {
            let mut pool = lock(&self.pool);
            let from = pool.len().saturating_sub(Packed::pieces(rows));
            pool.split_off(from)
        };
        let packed = self.segments.pack_over(segment, pieces)?;
        let packed = Arc::new(Pooled { packed, pool: self.pool.clone() });
        self.read.fetch_add((rows * self.segments.lists.table.dim * 4) as u64, Ordering::Relaxed);
        if kept {
            let mut state = lock(&self.state);
            let state = &mut *state;
            if state.packed.contains_key(&segment) {
                // Another thread was faster.
                state.held -= bytes;
            } else {
                state.clock += 1;
                state.packed.insert(segment, (packed.clone(), state.clock));
                state.by_age.insert(state.clock, segment);
            }
        }
        Ok(packed)
    }
}
