//! A query window: rows (queries) whose neighbours are searched together, with the nearest neighbours found so far.
//!
//! Invariant: a candidate is kept if its (exact distance, rank) is below the largest that the row keeps. The
//! candidate filter ([`Sieve`]) only decides which pairs need no exact distance, so the result depends
//! only on which rows are compared with which.
//!
//! The window's rows of one segment form a group. Groups are assigned to the window's parts in turn,
//! because adjacent groups are compared with the same segments at the same time and should occupy
//! different threads. A part is processed by one thread at a time.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::feed::{Form, Met};
use super::segments::{LONGEST, Segments};
use super::sieve::{Asking, Group, Looking, Sieve, Workplace};
use super::ties::Ties;
use super::top::Tops;
use crate::Result;
use crate::distances::squared_distance;
use crate::index::{ListTable, Lists};
use crate::observe::Progress;

/// The largest number of queries compared with a segment at once.
pub const PANEL: usize = 256;
/// Number of parts per thread; more than one, because some parts finish earlier than others.
const PARTS: usize = 8;

/// Queries and their nearest neighbours so far.
pub struct Window {
    rows: Vec<u32>,
    asking: Asking,
    parts: Vec<Part>,
    ties: Ties,
    /// Whether groups that are whole segments have been compared within themselves.
    met_own: bool,
}

/// The groups, and the top-k heaps of the rows, that one thread processes at a time.
struct Part {
    /// For each group its index in the window, and the difference between its rows' places in the window
    /// and their indices in the part.
    groups: Vec<(u32, u32)>,
    rows: usize,
    near: Tops,
    ties: Ties,
    /// The rows that visit each segment. None if all rows visit all segments.
    visits: Option<Visits>,
    work: Workplace,
}

/// The neighbours that the rows of a portion find among the rows of a part, where each pair is compared
/// once for both sides. The portion's rows belong to other parts.
struct Back<'a> {
    /// Squared distance of each portion row's worst kept neighbour when the comparison began.
    limits: &'a [f32],
    near: &'a mut Tops,
    /// Index in the portion of the segment's first row.
    start: usize,
}

/// The visits of a part: indices of rows in the part, grouped by segment.
struct Visits {
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
    pub fn of(lists: &Lists, rows: Vec<u32>, k: usize, seed: u64) -> Result<Self> {
        let table = &lists.table;
        let mut vectors = Vec::with_capacity(rows.len() * table.dim);
        for &row in &rows {
            vectors.extend_from_slice(lists.row(row)?);
        }
        let groups = rows.chunks(PANEL).enumerate().map(|(i, rows)| {
            let middle = table.list_of(rows[rows.len() / 2]) as u32;
            Group::new((i * PANEL) as u32, rows.len() as u32, middle, None)
        });
        Ok(Self::new(lists, groups.collect(), rows, vectors, k, Ties::new(seed)))
    }

    /// Creates a window of the rows of `range`, which are read sequentially.
    pub(super) fn read(segments: &Segments<'_>, range: Range<u32>, k: usize, seed: u64) -> Result<Self> {
        let (lists, dim) = (segments.lists, segments.lists.table.dim);
        let mut vectors = crate::pages::filled(range.len() * dim, 0.0);
        // Each thread reads a block of this many rows.
        const ROWS: usize = 8192;
        let starts: Vec<u32> = range.clone().step_by(ROWS).collect();
        vectors.par_chunks_mut(ROWS * dim).zip(starts).try_for_each(|(to, start)| {
            let rows = (to.len() / dim) as u32;
            lists.read(start..start + rows, to)
        })?;
        let groups = segments.over(range.clone()).map(|segment| {
            let rows = segments.range(segment);
            let (first, end) = (rows.start.max(range.start), rows.end.min(range.end));
            let whole = (rows == (first..end)).then_some(segment as u32);
            Group::new(first - range.start, end - first, segments.center_list(segment) as u32, whole)
        });
        Ok(Self::new(lists, groups.collect(), range.collect(), vectors, k, Ties::new(seed)))
    }

    fn new(lists: &Lists, groups: Vec<Group>, rows: Vec<u32>, vectors: Vec<f32>, k: usize, ties: Ties) -> Self {
        let table = &lists.table;
        let asking = Asking::new(table.dim, vectors, groups, |list| table.centroid(list as usize));
        let parts = Part::deal(asking.groups(), k, ties);
        Window { rows, asking, parts, ties, met_own: false }
    }

    /// Returns the row numbers, ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Returns the vector of the row at `place`.
    pub(super) fn vector(&self, place: usize) -> &[f32] {
        self.asking.vector(place)
    }

    /// Compares the rows at `places`, which belong to one group, with a filter around `center`. Calls
    /// `hit(place, Some(row))` for each row of the filter whose squared distance may be at most the limit
    /// of the place; `hit` returns the new limit. `hit(place, None)` returns the first limit.
    pub(super) fn hold_against(
        &self,
        places: Range<usize>,
        table: &ListTable,
        work: &mut Workplace,
        sieve: &Sieve,
        center: &[f32],
        hit: impl FnMut(usize, Option<usize>) -> f32,
    ) {
        let groups = self.asking.groups();
        let group = &groups[groups.partition_point(|group| group.first as usize <= places.start) - 1];
        let group_center = table.centroid(group.list as usize);
        let hit = RefCell::new(hit);
        for panel in places.clone().step_by(PANEL) {
            let chosen: Vec<u32> = (panel..(panel + PANEL).min(places.end)).map(|place| place as u32).collect();
            work.for_each_near(
                sieve,
                center,
                &self.asking,
                group,
                group_center,
                &chosen,
                Looking::ForRows,
                |i| (hit.borrow_mut())(panel + i, None),
                |i, row| (hit.borrow_mut())(panel + i, Some(row)),
            );
        }
    }

    /// Keeps only the first `rows` rows.
    pub(super) fn cut(&mut self, rows: usize, k: usize) {
        if rows < self.rows.len() {
            self.rows.truncate(rows);
            self.asking.truncate(rows);
            self.parts = Part::deal(self.asking.groups(), k, self.ties);
        }
    }

    /// Restricts the segments that each row is compared with to the segments that `of(place)` returns.
    pub(super) fn visit<I: Iterator<Item = u32>>(&mut self, segments: usize, of: impl Fn(usize) -> I + Sync) {
        let groups = self.asking.groups();
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
            part.visits = Some(Visits { rows, starts });
        });
    }

    /// Initialises each row's heap with neighbours of earlier rounds, given by `near` as (squared
    /// distance, row).
    pub(super) fn remember<I: Iterator<Item = (f32, u32)>>(&mut self, near: impl Fn(u32) -> I + Sync) {
        let (rows, groups) = (&self.rows[..], self.asking.groups());
        self.parts.par_iter_mut().for_each(|part| {
            let Part { groups: own, near: best, ties, .. } = part;
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
    pub(super) fn meet_own(&mut self, segments: &Segments<'_>, progress: &Progress<'_>) -> Result<()> {
        let (rows, asking) = (&self.rows[..], &self.asking);
        self.parts.par_iter_mut().try_for_each(|part| {
            let groups = std::mem::take(&mut part.groups);
            let mut pieces = Vec::new();
            for of in &groups {
                progress.check()?;
                let group = &asking.groups()[of.0 as usize];
                let Some(segment) = group.whole.map(|segment| segment as usize) else { continue };
                let vectors = asking.vectors(group);
                let packed = Sieve::of(pieces, vectors, segments.center(segment));
                let met = Met { segment, vectors, packed };
                let (own, first) = (group.rows, group.first.wrapping_sub(of.1));
                let locals: Vec<u32> = (first..first + own).collect();
                locals
                    .chunks(PANEL)
                    .for_each(|locals| part.meet_group(&met, locals, *of, rows, asking, segments, true));
                pieces = met.packed.into_pieces();
            }
            part.groups = groups;
            Ok::<_, crate::Error>(())
        })?;
        self.met_own = true;
        Ok(())
    }

    /// Compares the window's rows with the segments of a portion.
    pub fn meet(&mut self, portion: &[Met<'_, Sieve>], segments: &Segments<'_>) {
        let (rows, asking, met_own) = (&self.rows[..], &self.asking, self.met_own);
        self.parts.par_iter_mut().for_each(|part| {
            portion.iter().for_each(|met| part.meet(met, rows, asking, segments, met_own));
        });
    }

    /// Compares each row with the segments that `of(place)` returns, on a GPU.
    #[cfg(feature = "cuda")]
    pub(super) fn meet_on<I: Iterator<Item = u32>>(
        &mut self,
        joiner: &mut super::cuda::Joiner<'_>,
        of: impl Fn(usize) -> I,
        mut done: impl FnMut(Range<u32>) -> Result<()>,
    ) -> Result<()> {
        let (Some(&first), Some(&last)) = (self.rows.first(), self.rows.last()) else { return Ok(()) };
        let (groups, parts) = (self.asking.groups(), RefCell::new(&mut self.parts));
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
        joiner.meet(
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
    pub(super) fn meets_both_ways(&self, segments: &Segments<'_>) -> bool {
        let table = &segments.lists.table;
        let all = self.rows.len() == table.rows() as usize && self.parts.iter().all(|part| part.visits.is_none());
        all && self.met_own && Sieve::looks_both_ways(table.dim)
    }

    /// Compares the segments of a portion, which are consecutive, with the rows of all later segments,
    /// and updates the neighbours of both sides.
    pub(super) fn meet_both_ways(&mut self, portion: &[Met<'_, Sieve>], segments: &Segments<'_>) {
        let (Some(first), Some(last)) = (portion.first(), portion.last()) else { return };
        let here = segments.range(first.segment).start..segments.range(last.segment).end;
        let at_once = rayon::current_num_threads();
        let keep = self.parts[0].near.keep();
        for from in (0..self.parts.len()).step_by(at_once) {
            let limits: Vec<f32> = here.clone().map(|row| self.whose(row).1).collect();
            let (rows, asking) = (&self.rows[..], &self.asking);
            let to = (from + at_once).min(self.parts.len());
            let found: Vec<Tops> = self.parts[from..to]
                .par_iter_mut()
                .map(|part| {
                    let mut near = Tops::new(here.len(), keep);
                    portion.iter().for_each(|met| {
                        let start = (segments.range(met.segment).start - here.start) as usize;
                        let mut back = Back { limits: &limits, near: &mut near, start };
                        part.meet_later(met, rows, asking, segments, &mut back);
                    });
                    near
                })
                .collect();
            for (i, row) in here.clone().enumerate() {
                let ((part, local), _) = self.whose(row);
                for (squared, rank) in found.iter().flat_map(|near| near.so_far(i)) {
                    self.parts[part].near.offer(local, squared, rank);
                }
            }
        }
    }

    /// Returns the part of the row at `place`, its index in the part, and its threshold.
    fn whose(&self, place: u32) -> ((usize, usize), f32) {
        let group = self.asking.groups().partition_point(|group| group.first <= place) - 1;
        let number = group % self.parts.len();
        let part = &self.parts[number];
        let local = place.wrapping_sub(part.groups[group / self.parts.len()].1) as usize;
        ((number, local), part.near.threshold(local))
    }

    /// Sorts each row's neighbours. No comparison may follow.
    pub fn sort(&mut self) {
        self.parts.par_iter_mut().for_each(|part| part.near.sort());
    }

    /// Returns the neighbours of the row at `place` as (squared distance, row), nearest first. The window
    /// must be sorted.
    pub fn near(&self, place: usize) -> impl Iterator<Item = (f32, u32)> + Clone + '_ {
        let group = self.asking.groups().partition_point(|group| group.first as usize <= place) - 1;
        let part = &self.parts[group % self.parts.len()];
        let local = (place as u32).wrapping_sub(part.groups[group / self.parts.len()].1);
        let own = self.rows[place];
        part.near.kept(local as usize).map(move |(squared, rank)| (squared, self.ties.row(own, rank)))
    }

    /// Returns the bytes held for each row, without its visits.
    pub fn row_bytes(dim: usize, k: usize) -> u64 {
        Asking::row_bytes(dim) + 4 + Tops::bytes(1, k)
    }

    /// Returns the bytes held in addition to the rows, for `segments` segments and `threads` threads.
    pub fn bytes(dim: usize, segments: usize, threads: usize) -> u64 {
        let parts = (PARTS * threads.max(1)) as u64;
        // Each thread packs one segment at a time when groups are compared within themselves.
        let own = threads.max(1) as u64 * <Sieve as Form>::bytes(LONGEST, dim);
        parts * (Workplace::bytes(dim) + segments as u64 * 4) + segments as u64 * (size_of::<Group>() as u64 + 8) + own
    }
}

impl Part {
    /// Assigns groups to parts.
    fn deal(groups: &[Group], k: usize, ties: Ties) -> Vec<Part> {
        let of = (PARTS * rayon::current_num_threads()).clamp(1, groups.len().max(1));
        let part = |number: usize| {
            let (mut own, mut rows) = (Vec::with_capacity(groups.len().div_ceil(of)), 0);
            for (i, group) in groups.iter().enumerate().skip(number).step_by(of) {
                own.push((i as u32, group.first.wrapping_sub(rows)));
                rows += group.rows;
            }
            let near = Tops::new(rows as usize, k);
            Part { groups: own, rows: rows as usize, near, ties, visits: None, work: Workplace::default() }
        };
        (0..of).map(part).collect()
    }

    fn visitors(&self, segment: usize) -> usize {
        self.visits.as_ref().map_or(self.rows, |visits| visits.of(segment).len())
    }

    fn meet(&mut self, met: &Met<'_, Sieve>, rows: &[u32], asking: &Asking, segments: &Segments<'_>, met_own: bool) {
        let (groups, visits) = (std::mem::take(&mut self.groups), self.visits.take());
        let mut visitors = visits.as_ref().map(|visits| visits.of(met.segment));
        let mut everybody = Vec::new();
        // Visitors and groups both ascend, so the visitors of the next group come first.
        for &of in &groups {
            let group = &asking.groups()[of.0 as usize];
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
            if !(met_own && group.whole == Some(met.segment as u32)) {
                own.chunks(PANEL).for_each(|locals| self.meet_group(met, locals, of, rows, asking, segments, false));
            }
        }
        (self.groups, self.visits) = (groups, visits);
    }

    /// Compares all groups of later segments with a segment, for both sides.
    fn meet_later(
        &mut self,
        met: &Met<'_, Sieve>,
        rows: &[u32],
        asking: &Asking,
        segments: &Segments<'_>,
        back: &mut Back<'_>,
    ) {
        let (dim, there) = (segments.lists.table.dim, segments.range(met.segment));
        let mut limits = vec![0f32; there.len()];
        let Part { groups, near, work, ties, .. } = self;
        for &(group, beyond) in &*groups {
            let group = &asking.groups()[group as usize];
            if group.whole.is_none_or(|segment| segment as usize <= met.segment) {
                continue;
            }
            let group_center = segments.lists.table.centroid(group.list as usize);
            for first in (group.first..group.first + group.rows).step_by(PANEL) {
                let end = (first + PANEL as u32).min(group.first + group.rows);
                let chosen: Vec<u32> = (first..end).collect();
                let local = |query: usize| (first + query as u32).wrapping_sub(beyond) as usize;
                for (i, limit) in limits.iter_mut().enumerate() {
                    *limit = back.limits[back.start + i].min(back.near.threshold(back.start + i));
                }
                let before: Vec<f32> = (0..chosen.len()).map(|query| near.threshold(local(query))).collect();
                work.for_each_near(
                    &met.packed,
                    segments.center(met.segment),
                    asking,
                    group,
                    group_center,
                    &chosen,
                    Looking::BothWays(&limits),
                    |query| before[query],
                    |query, row| {
                        let (place, other) = (chosen[query] as usize, there.start + row as u32);
                        let squared = squared_distance(asking.vector(place), &met.vectors[row * dim..][..dim]);
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

    /// Compares some rows of one group, at most `PANEL`, with a segment. `own` says that the segment is
    /// the group's own, and that these rows were not compared with any row before.
    #[expect(clippy::too_many_arguments, reason = "two sides, and what both lie in")]
    fn meet_group(
        &mut self,
        met: &Met<'_, Sieve>,
        locals: &[u32],
        (group, beyond): (u32, u32),
        rows: &[u32],
        asking: &Asking,
        segments: &Segments<'_>,
        own: bool,
    ) {
        let Part { near, work, ties, .. } = self;
        let (table, group) = (&segments.lists.table, &asking.groups()[group as usize]);
        let mut chosen = [0u32; PANEL];
        let chosen = &mut chosen[..locals.len()];
        chosen.iter_mut().zip(locals).for_each(|(place, &local)| *place = local.wrapping_add(beyond));
        let first = segments.range(met.segment).start;
        // One more than is kept, because each row finds itself in its own segment.
        let looking = if own { Looking::Around { crowd: near.keep() + 1 } } else { Looking::ForRows };
        // A row's limit is the threshold from before the comparison, until a nearer row is found.
        let mut limits = [0f32; PANEL];
        limits.iter_mut().zip(locals).for_each(|(limit, &local)| *limit = near.threshold(local as usize));
        work.for_each_near(
            &met.packed,
            segments.center(met.segment),
            asking,
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
                if other != own && near.takes(local, 0.0, rank) {
                    let squared = squared_distance(asking.vector(place), &met.vectors[row * table.dim..][..table.dim]);
                    near.offer(local, squared, rank);
                }
                near.threshold(local)
            },
        );
    }
}

impl Visits {
    fn of(&self, segment: usize) -> &[u32] {
        &self.rows[self.starts[segment] as usize..self.starts[segment + 1] as usize]
    }
}
