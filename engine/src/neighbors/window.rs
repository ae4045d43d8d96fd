//! A query window: rows (queries) whose neighbours are searched together, with the nearest neighbours found so far.
//!
//! Invariant: a candidate is kept if its (exact distance, rank) is below the largest that the row keeps. The
//! candidate filter ([`CandidateFilter`]) only decides which pairs need no exact distance, so the result depends
//! only on which rows are compared with which.
//!
//! The window's rows of one segment form a group. Groups are assigned to the window's parts in turn,
//! because adjacent groups are compared with the same segments at the same time and should occupy
//! different threads. A part is processed by one thread at a time.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::candidate_filter::{CandidateFilter, FilterMode, FilterScratch, QueryGroup, QuerySet};
use super::segment_reader::{PackedSegment, SegmentForm};
use super::segments::{MAX_SEGMENT_ROWS, SegmentTable};
use super::tie_breaker::TieBreaker;
use super::top_k::TopK;
use crate::Result;
use crate::distances::squared_distance;
use crate::index::{InvertedLists, ListTable};
use crate::observe::Progress;

/// The largest number of queries compared with a segment at once.
pub(crate) const MAX_QUERIES: usize = 256;
/// Number of parts per thread; more than one, because some parts finish earlier than others.
const PARTS_PER_THREAD: usize = 8;

/// Queries and their nearest neighbours so far.
pub(crate) struct Window {
    rows: Vec<u32>,
    queries: QuerySet,
    parts: Vec<WindowPart>,
    ties: TieBreaker,
    /// Whether groups that are whole segments have been compared within themselves.
    compared_within_segments: bool,
}

/// The groups, and the top-k heaps of the rows, that one thread processes at a time.
struct WindowPart {
    /// For each group its index in the window, and the difference between its rows' places in the window
    /// and their indices in the part.
    groups: Vec<(u32, u32)>,
    rows: usize,
    near: TopK,
    ties: TieBreaker,
    /// The rows that visit each segment. None if all rows visit all segments.
    visits: Option<SegmentVisits>,
    work: FilterScratch,
}

/// The neighbours that the rows of a portion find among the rows of a part, where each pair is compared
/// once for both sides. The portion's rows belong to other parts.
struct ReverseMatches<'a> {
    /// Squared distance of each portion row's worst kept neighbour when the comparison began.
    limits: &'a [f32],
    near: &'a mut TopK,
    /// Index in the portion of the segment's first row.
    start: usize,
}

/// The visits of a part: indices of rows in the part, grouped by segment.
struct SegmentVisits {
    rows: Vec<u32>,
    /// Start of each segment's entries in `rows`; the last value is the length of `rows`.
    starts: Vec<u32>,
}

impl Window {
    /// Creates a window that searches the `k` nearest neighbours of each of `rows`, which must ascend.
    /// `seed` breaks ties between equally near neighbours.
    ///
    /// # Errors
    /// A failed read of the rows' vectors.
    pub(crate) fn of(lists: &InvertedLists, rows: Vec<u32>, k: usize, seed: u64) -> Result<Self> {
        let table = &lists.table;
        let mut vectors = Vec::with_capacity(rows.len() * table.dim);
        for &row in &rows {
            vectors.extend_from_slice(lists.row(row)?);
        }
        let groups = rows.chunks(MAX_QUERIES).enumerate().map(|(i, rows)| {
            let middle = table.list_of(rows[rows.len() / 2]) as u32;
            QueryGroup::new((i * MAX_QUERIES) as u32, rows.len() as u32, middle, None)
        });
        Ok(Self::new(lists, groups.collect(), rows, vectors, k, TieBreaker::new(seed)))
    }

    /// Creates a window of the rows of `range`, which are read sequentially.
    pub(super) fn read(segments: &SegmentTable<'_>, range: Range<u32>, k: usize, seed: u64) -> Result<Self> {
        let (lists, dim) = (segments.lists, segments.lists.table.dim);
        let mut vectors = crate::pages::filled(range.len() * dim, 0.0);
        // Each thread reads a block of this many rows.
        const ROWS: usize = 8192;
        let starts: Vec<u32> = range.clone().step_by(ROWS).collect();
        vectors.par_chunks_mut(ROWS * dim).zip(starts).try_for_each(|(to, start)| {
            let rows = (to.len() / dim) as u32;
            lists.read(start..start + rows, to)
        })?;
        let groups = segments.covering(range.clone()).map(|segment| {
            let rows = segments.range(segment);
            let (first, end) = (rows.start.max(range.start), rows.end.min(range.end));
            let whole = (rows == (first..end)).then_some(segment as u32);
            QueryGroup::new(first - range.start, end - first, segments.center_list(segment) as u32, whole)
        });
        Ok(Self::new(lists, groups.collect(), range.collect(), vectors, k, TieBreaker::new(seed)))
    }

    fn new(
        lists: &InvertedLists,
        groups: Vec<QueryGroup>,
        rows: Vec<u32>,
        vectors: Vec<f32>,
        k: usize,
        ties: TieBreaker,
    ) -> Self {
        let table = &lists.table;
        let queries = QuerySet::new(table.dim, vectors, groups, |list| table.centroid(list as usize));
        let parts = WindowPart::split_groups(queries.groups(), k, ties);
        Window { rows, queries, parts, ties, compared_within_segments: false }
    }

    /// Returns the row numbers, ascending.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Returns the vector of the row at `place`.
    pub(super) fn vector(&self, place: usize) -> &[f32] {
        self.queries.vector(place)
    }

    /// Compares the rows at `places`, which belong to one group, with a filter around `center`. Calls
    /// `hit(place, Some(row))` for each row of the filter whose squared distance may be at most the limit
    /// of the place; `hit` returns the new limit. `hit(place, None)` returns the first limit.
    pub(super) fn filter_candidates(
        &self,
        places: Range<usize>,
        table: &ListTable,
        work: &mut FilterScratch,
        filter: &CandidateFilter,
        center: &[f32],
        hit: impl FnMut(usize, Option<usize>) -> f32,
    ) {
        let groups = self.queries.groups();
        let group = &groups[groups.partition_point(|group| group.first as usize <= places.start) - 1];
        let group_center = table.centroid(group.list as usize);
        let hit = RefCell::new(hit);
        for panel in places.clone().step_by(MAX_QUERIES) {
            let chosen: Vec<u32> = (panel..(panel + MAX_QUERIES).min(places.end)).map(|place| place as u32).collect();
            work.for_each_near(
                filter,
                center,
                &self.queries,
                group,
                group_center,
                &chosen,
                FilterMode::QueriesToRows,
                |i| (hit.borrow_mut())(panel + i, None),
                |i, row| (hit.borrow_mut())(panel + i, Some(row)),
            );
        }
    }

    /// Keeps only the first `rows` rows.
    pub(super) fn truncate(&mut self, rows: usize, k: usize) {
        if rows < self.rows.len() {
            self.rows.truncate(rows);
            self.queries.truncate(rows);
            self.parts = WindowPart::split_groups(self.queries.groups(), k, self.ties);
        }
    }

    /// Restricts the segments that each row is compared with to the segments that `of(place)` returns.
    pub(super) fn set_visits<I: Iterator<Item = u32>>(&mut self, segments: usize, of: impl Fn(usize) -> I + Sync) {
        let groups = self.queries.groups();
        self.parts.par_iter_mut().for_each(|part| {
            let places = || {
                part.groups.iter().flat_map(|&(group, beyond)| {
                    let group = groups[group as usize];
                    (group.first..group.first + group.rows).map(move |place| (place, place.wrapping_sub(beyond)))
                })
            };
            let mut starts = vec![0u32; segments + 1];
            for (place, _) in places() {
                of(place as usize).for_each(|segment| starts[segment as usize + 1] += 1);
            }
            (0..segments).for_each(|segment| starts[segment + 1] += starts[segment]);
            let mut rows = vec![0u32; starts[segments] as usize];
            for (place, local) in places() {
                for segment in of(place as usize) {
                    let next = &mut starts[segment as usize];
                    rows[*next as usize] = local;
                    *next += 1;
                }
            }
            // Each segment's start has been advanced to its end.
            starts.rotate_right(1);
            starts[0] = 0;
            part.visits = Some(SegmentVisits { rows, starts });
        });
    }

    /// Initialises each row's heap with neighbours of earlier rounds, given by `near` as (squared
    /// distance, row).
    pub(super) fn set_known_neighbors<I: Iterator<Item = (f32, u32)>>(&mut self, near: impl Fn(u32) -> I + Sync) {
        let (rows, groups) = (&self.rows[..], self.queries.groups());
        self.parts.par_iter_mut().for_each(|part| {
            let WindowPart { groups: own, near: best, ties, .. } = part;
            for &(group, beyond) in &*own {
                let group = groups[group as usize];
                for place in group.first..group.first + group.rows {
                    let row = rows[place as usize];
                    let local = place.wrapping_sub(beyond) as usize;
                    near(row).for_each(|(squared, other)| best.offer(local, squared, ties.rank(row, other)));
                }
            }
        });
    }

    /// Returns the number of rows that are compared with segment `segment`.
    pub(super) fn visitors(&self, segment: usize) -> usize {
        self.parts.iter().map(|part| part.visitors(segment)).sum()
    }

    /// Compares the rows of each segment that lies wholly in the window with each other, before any
    /// segment is read. The resulting thresholds reject most rows of other segments.
    pub(super) fn compare_within_segments(
        &mut self,
        segments: &SegmentTable<'_>,
        progress: &Progress<'_>,
    ) -> Result<()> {
        let (rows, queries) = (&self.rows[..], &self.queries);
        self.parts.par_iter_mut().try_for_each(|part| {
            let groups = std::mem::take(&mut part.groups);
            let mut pieces = Vec::new();
            for of in &groups {
                progress.check()?;
                let group = &queries.groups()[of.0 as usize];
                let Some(segment) = group.whole.map(|segment| segment as usize) else { continue };
                let vectors = queries.vectors(group);
                let packed = CandidateFilter::of(pieces, vectors, segments.center(segment));
                let loaded = PackedSegment { segment, vectors, packed };
                let (own, first) = (group.rows, group.first.wrapping_sub(of.1));
                let locals: Vec<u32> = (first..first + own).collect();
                locals
                    .chunks(MAX_QUERIES)
                    .for_each(|locals| part.compare_group(&loaded, locals, *of, rows, queries, segments, true));
                pieces = loaded.packed.into_pieces();
            }
            part.groups = groups;
            Ok::<_, crate::Error>(())
        })?;
        self.compared_within_segments = true;
        Ok(())
    }

    /// Compares the window's rows with the segments of a portion.
    pub(crate) fn compare(&mut self, portion: &[PackedSegment<'_, CandidateFilter>], segments: &SegmentTable<'_>) {
        let (rows, queries, compared_own) = (&self.rows[..], &self.queries, self.compared_within_segments);
        self.parts.par_iter_mut().for_each(|part| {
            portion.iter().for_each(|loaded| part.compare(loaded, rows, queries, segments, compared_own));
        });
    }

    /// Compares each row with the segments that `of(place)` returns, on a GPU.
    #[cfg(feature = "cuda")]
    pub(super) fn compare_on_gpu<I: Iterator<Item = u32>>(
        &mut self,
        gpu_join: &mut super::cuda::GpuJoin<'_>,
        of: impl Fn(usize) -> I,
        mut done: impl FnMut(Range<u32>) -> Result<()>,
    ) -> Result<()> {
        let (Some(&first), Some(&last)) = (self.rows.first(), self.rows.last()) else { return Ok(()) };
        let (groups, parts) = (self.queries.groups(), RefCell::new(&mut self.parts));
        // The rows of a group are contiguous in their part.
        let each = |rows: &Range<u32>, each: &mut dyn FnMut(&mut [u64])| {
            let (mut at, to) = (rows.start - first, rows.end - first);
            let parts = &mut *parts.borrow_mut();
            while at < to {
                let number = groups.partition_point(|group| group.first <= at) - 1;
                let end = (groups[number].first + groups[number].rows).min(to);
                let of = parts.len();
                let part = &mut parts[number % of];
                let beyond = part.groups[number / of].1;
                each(part.near.keys_mut(at.wrapping_sub(beyond) as usize..end.wrapping_sub(beyond) as usize));
                at = end;
            }
        };
        gpu_join.compare(
            first..last + 1,
            |row| of((row - first) as usize),
            |rows, keys| each(&rows, &mut |own| keys.extend_from_slice(own)),
            |rows, keys| {
                let mut rest = keys;
                each(&rows, &mut |own| {
                    let (found, later) = rest.split_at(own.len());
                    own.copy_from_slice(found);
                    rest = later;
                });
                done(rows)
            },
        )
    }

    /// Returns whether each pair of segments can be compared once for both sides: all rows are in the
    /// window, all rows visit all segments, and each segment has been compared within itself.
    pub(super) fn can_compare_both_ways(&self, segments: &SegmentTable<'_>) -> bool {
        let table = &segments.lists.table;
        let all = self.rows.len() == table.rows() as usize && self.parts.iter().all(|part| part.visits.is_none());
        all && self.compared_within_segments && CandidateFilter::supports_both_ways(table.dim)
    }

    /// Compares the segments of a portion, which are consecutive, with the rows of all later segments,
    /// and updates the neighbours of both sides.
    pub(super) fn compare_both_ways(
        &mut self,
        portion: &[PackedSegment<'_, CandidateFilter>],
        segments: &SegmentTable<'_>,
    ) {
        let (Some(first), Some(last)) = (portion.first(), portion.last()) else { return };
        let here = segments.range(first.segment).start..segments.range(last.segment).end;
        let at_once = rayon::current_num_threads();
        let keep = self.parts[0].near.keep();
        for from in (0..self.parts.len()).step_by(at_once) {
            let limits: Vec<f32> = here.clone().map(|row| self.owner_of(row).1).collect();
            let (rows, queries) = (&self.rows[..], &self.queries);
            let to = (from + at_once).min(self.parts.len());
            let found: Vec<TopK> = self.parts[from..to]
                .par_iter_mut()
                .map(|part| {
                    let mut near = TopK::new(here.len(), keep);
                    portion.iter().for_each(|loaded| {
                        let start = (segments.range(loaded.segment).start - here.start) as usize;
                        let mut back = ReverseMatches { limits: &limits, near: &mut near, start };
                        part.compare_with_later(loaded, rows, queries, segments, &mut back);
                    });
                    near
                })
                .collect();
            for (i, row) in here.clone().enumerate() {
                let ((part, local), _) = self.owner_of(row);
                for (squared, rank) in found.iter().flat_map(|near| near.unsorted(i)) {
                    self.parts[part].near.offer(local, squared, rank);
                }
            }
        }
    }

    /// Returns the part of the row at `place`, its index in the part, and its threshold.
    fn owner_of(&self, place: u32) -> ((usize, usize), f32) {
        let group = self.queries.groups().partition_point(|group| group.first <= place) - 1;
        let number = group % self.parts.len();
        let part = &self.parts[number];
        let local = place.wrapping_sub(part.groups[group / self.parts.len()].1) as usize;
        ((number, local), part.near.threshold(local))
    }

    /// Sorts each row's neighbours. No comparison may follow.
    pub(crate) fn sort(&mut self) {
        self.parts.par_iter_mut().for_each(|part| part.near.sort());
    }

    /// Returns the neighbours of the row at `place` as (squared distance, row), nearest first. The window
    /// must be sorted.
    pub(crate) fn nearest(&self, place: usize) -> impl Iterator<Item = (f32, u32)> + Clone + '_ {
        let group = self.queries.groups().partition_point(|group| group.first as usize <= place) - 1;
        let part = &self.parts[group % self.parts.len()];
        let local = (place as u32).wrapping_sub(part.groups[group / self.parts.len()].1);
        let own = self.rows[place];
        part.near.sorted(local as usize).map(move |(squared, rank)| (squared, self.ties.row(own, rank)))
    }

    /// Returns the bytes held for each row, without its visits.
    pub(crate) fn row_bytes(dim: usize, k: usize) -> u64 {
        QuerySet::row_bytes(dim) + 4 + TopK::bytes(1, k)
    }

    /// Returns the bytes held in addition to the rows, for `segments` segments and `threads` threads.
    pub(crate) fn bytes(dim: usize, segments: usize, threads: usize) -> u64 {
        let parts = (PARTS_PER_THREAD * threads.max(1)) as u64;
        // Each thread packs one segment at a time when groups are compared within themselves.
        let own = threads.max(1) as u64 * <CandidateFilter as SegmentForm>::bytes(MAX_SEGMENT_ROWS, dim);
        parts * (FilterScratch::bytes(dim) + segments as u64 * 4)
            + segments as u64 * (size_of::<QueryGroup>() as u64 + 8)
            + own
    }
}

impl WindowPart {
    /// Assigns groups to parts.
    fn split_groups(groups: &[QueryGroup], k: usize, ties: TieBreaker) -> Vec<WindowPart> {
        let of = (PARTS_PER_THREAD * rayon::current_num_threads()).clamp(1, groups.len().max(1));
        let part = |number: usize| {
            let (mut own, mut rows) = (Vec::with_capacity(groups.len().div_ceil(of)), 0);
            for (i, group) in groups.iter().enumerate().skip(number).step_by(of) {
                own.push((i as u32, group.first.wrapping_sub(rows)));
                rows += group.rows;
            }
            let near = TopK::new(rows as usize, k);
            WindowPart { groups: own, rows: rows as usize, near, ties, visits: None, work: FilterScratch::default() }
        };
        (0..of).map(part).collect()
    }

    fn visitors(&self, segment: usize) -> usize {
        self.visits.as_ref().map_or(self.rows, |visits| visits.of(segment).len())
    }

    fn compare(
        &mut self,
        loaded: &PackedSegment<'_, CandidateFilter>,
        rows: &[u32],
        queries: &QuerySet,
        segments: &SegmentTable<'_>,
        compared_own: bool,
    ) {
        let (groups, visits) = (std::mem::take(&mut self.groups), self.visits.take());
        let mut visitors = visits.as_ref().map(|visits| visits.of(loaded.segment));
        let mut everybody = Vec::new();
        // Visitors and groups both ascend, so the visitors of the next group come first.
        for &of in &groups {
            let group = &queries.groups()[of.0 as usize];
            let first = group.first.wrapping_sub(of.1);
            let own = match &mut visitors {
                Some([]) => break,
                Some(rest) => {
                    let end = first + group.rows;
                    if rest[0] >= end {
                        continue;
                    }
                    let (own, later) = rest.split_at(rest.partition_point(|&local| local < end));
                    *rest = later;
                    own
                }
                None => {
                    everybody.clear();
                    everybody.extend(first..first + group.rows);
                    &everybody[..]
                }
            };
            if !(compared_own && group.whole == Some(loaded.segment as u32)) {
                own.chunks(MAX_QUERIES)
                    .for_each(|locals| self.compare_group(loaded, locals, of, rows, queries, segments, false));
            }
        }
        (self.groups, self.visits) = (groups, visits);
    }

    /// Compares all groups of later segments with a segment, for both sides.
    fn compare_with_later(
        &mut self,
        loaded: &PackedSegment<'_, CandidateFilter>,
        rows: &[u32],
        queries: &QuerySet,
        segments: &SegmentTable<'_>,
        back: &mut ReverseMatches<'_>,
    ) {
        let (dim, there) = (segments.lists.table.dim, segments.range(loaded.segment));
        let mut limits = vec![0f32; there.len()];
        let WindowPart { groups, near, work, ties, .. } = self;
        for &(group, beyond) in &*groups {
            let group = &queries.groups()[group as usize];
            if group.whole.is_none_or(|segment| segment as usize <= loaded.segment) {
                continue;
            }
            let group_center = segments.lists.table.centroid(group.list as usize);
            for first in (group.first..group.first + group.rows).step_by(MAX_QUERIES) {
                let end = (first + MAX_QUERIES as u32).min(group.first + group.rows);
                let chosen: Vec<u32> = (first..end).collect();
                let local = |query: usize| (first + query as u32).wrapping_sub(beyond) as usize;
                for (i, limit) in limits.iter_mut().enumerate() {
                    *limit = back.limits[back.start + i].min(back.near.threshold(back.start + i));
                }
                let before: Vec<f32> = (0..chosen.len()).map(|query| near.threshold(local(query))).collect();
                work.for_each_near(
                    &loaded.packed,
                    segments.center(loaded.segment),
                    queries,
                    group,
                    group_center,
                    &chosen,
                    FilterMode::BothWays(&limits),
                    |query| before[query],
                    |query, row| {
                        let (place, other) = (chosen[query] as usize, there.start + row as u32);
                        let squared = squared_distance(queries.vector(place), &loaded.vectors[row * dim..][..dim]);
                        near.offer(local(query), squared, ties.rank(rows[place], other));
                        if squared <= limits[row] {
                            back.near.offer(back.start + row, squared, ties.rank(other, rows[place]));
                        }
                        near.threshold(local(query))
                    },
                );
            }
        }
    }

    /// Compares some rows of one group, at most `MAX_QUERIES`, with a segment. `own` says that the segment is
    /// the group's own, and that these rows were not compared with any row before.
    #[expect(clippy::too_many_arguments, reason = "two sides, and what both lie in")]
    fn compare_group(
        &mut self,
        loaded: &PackedSegment<'_, CandidateFilter>,
        locals: &[u32],
        (group, beyond): (u32, u32),
        rows: &[u32],
        queries: &QuerySet,
        segments: &SegmentTable<'_>,
        own: bool,
    ) {
        let WindowPart { near, work, ties, .. } = self;
        let (table, group) = (&segments.lists.table, &queries.groups()[group as usize]);
        let mut chosen = [0u32; MAX_QUERIES];
        let chosen = &mut chosen[..locals.len()];
        chosen.iter_mut().zip(locals).for_each(|(place, &local)| *place = local.wrapping_add(beyond));
        let first = segments.range(loaded.segment).start;
        // One more than is kept, because each row finds itself in its own segment.
        let looking = if own { FilterMode::WithCrowd { crowd: near.keep() + 1 } } else { FilterMode::QueriesToRows };
        // A row's limit is the threshold from before the comparison, until a nearer row is found.
        let mut limits = [0f32; MAX_QUERIES];
        limits.iter_mut().zip(locals).for_each(|(limit, &local)| *limit = near.threshold(local as usize));
        work.for_each_near(
            &loaded.packed,
            segments.center(loaded.segment),
            queries,
            group,
            table.centroid(group.list as usize),
            chosen,
            looking,
            |query| limits[query],
            |query, row| {
                let (local, place) = (locals[query] as usize, chosen[query] as usize);
                let (own, other) = (rows[place], first + row as u32);
                let rank = ties.rank(own, other);
                // No distance is below 0, so no exact distance is computed for a row that would be
                // rejected even at 0.
                if other != own && near.would_keep(local, 0.0, rank) {
                    let squared =
                        squared_distance(queries.vector(place), &loaded.vectors[row * table.dim..][..table.dim]);
                    near.offer(local, squared, rank);
                }
                near.threshold(local)
            },
        );
    }
}

impl SegmentVisits {
    fn of(&self, segment: usize) -> &[u32] {
        &self.rows[self.starts[segment] as usize..self.starts[segment + 1] as usize]
    }
}
