//! A window: rows whose neighbours are looked for together, with all that is
//! found for them so far.
//!
//! A row is near if its exact distance is below the worst that is kept. The
//! sieve only says which pairs can be skipped, so that the result is a pure
//! function of who met whom.
//!
//! Parts of the window belong to one thread at a time. Rows are dealt to them
//! in blocks, round and round, since rows that lie together meet the same
//! segments at the same time.

use std::ops::Range;

use rayon::prelude::*;

use super::feed::Met;
use super::kernel::squared_distance;
use super::segments::Segments;
use super::sieve::{Asked, Sieve};
use super::top::Tops;
use crate::Result;
use crate::index::Lists;

/// Queries packed together, at most.
pub const PANEL: usize = 256;
/// Rows that go to a part together.
const BLOCK: usize = 32;
/// Parts for each thread: some are done sooner than others.
const PARTS: usize = 2;

/// How far `row` comes after `own`, around the end: what decides between rows
/// that are equally near. By number alone all copies of a row would name the
/// same few, which would then have an edge to every other.
fn after(own: u32, row: u32) -> u32 {
    row.wrapping_sub(own)
}

/// Rows of the index and the nearest of the others, so far.
pub struct Window {
    dim: usize,
    rows: Vec<u32>,
    /// Row after row.
    vectors: Vec<f32>,
    parts: Vec<Part>,
}

/// The rows of every [`PARTS`] · threads-th block.
struct Part {
    /// Which of how many.
    number: usize,
    of: usize,
    rows: usize,
    near: Tops,
    /// None where all rows visit all segments.
    visits: Option<Visits>,
    asked: Asked,
}

/// Who visits what: a part's rows by number within the part, segment after segment.
struct Visits {
    rows: Vec<u32>,
    /// The first of each segment's, and the length last.
    starts: Vec<u32>,
}

impl Window {
    /// A window that looks for the `k` nearest of each of `rows`.
    pub fn of(lists: &Lists, rows: Vec<u32>, k: usize) -> Result<Self> {
        let dim = lists.table.dim;
        let mut vectors = Vec::with_capacity(rows.len() * dim);
        for &row in &rows {
            vectors.extend_from_slice(lists.row(row)?);
        }
        Ok(Self::new(dim, rows, vectors, k))
    }

    /// The same, of the rows of `range`, read one after another.
    pub(super) fn read(segments: &Segments<'_>, range: Range<u32>, k: usize) -> Result<Self> {
        let (lists, dim) = (segments.lists, segments.lists.table.dim);
        let mut vectors = crate::pages::filled(range.len() * dim, 0.0);
        // A few reads at a time, each of a good size.
        const ROWS: usize = 8192;
        let starts: Vec<u32> = range.clone().step_by(ROWS).collect();
        vectors.par_chunks_mut(ROWS * dim).zip(starts).try_for_each(|(to, start)| {
            let rows = (to.len() / dim) as u32;
            lists.read(start..start + rows, to)
        })?;
        Ok(Self::new(dim, range.collect(), vectors, k))
    }

    fn new(dim: usize, rows: Vec<u32>, vectors: Vec<f32>, k: usize) -> Self {
        let blocks = rows.len().div_ceil(BLOCK);
        let of = (PARTS * rayon::current_num_threads()).clamp(1, blocks.max(1));
        let part = |number| {
            let full = blocks / of + usize::from(number < blocks % of);
            // The last block of all may be a short one.
            let missing = if blocks > 0 && (blocks - 1) % of == number { blocks * BLOCK - rows.len() } else { 0 };
            let rows = full * BLOCK - missing;
            Part { number, of, rows, near: Tops::new(rows, k), visits: None, asked: Asked::default() }
        };
        let parts = (0..of).map(part).collect();
        Window { dim, rows, vectors, parts }
    }

    /// The rows, in order.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The vector of the row at `place`.
    pub(super) fn vector(&self, place: usize) -> &[f32] {
        &self.vectors[place * self.dim..][..self.dim]
    }

    /// Leaves only the first `rows` rows.
    pub(super) fn cut(&mut self, rows: usize, k: usize) {
        if rows < self.rows.len() {
            let (mut all, mut vectors) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.vectors));
            all.truncate(rows);
            vectors.truncate(rows * self.dim);
            *self = Self::new(self.dim, all, vectors, k);
        }
    }

    /// From now on the row at each place meets only the segments that `of(place)` gives.
    pub(super) fn visit<I: Iterator<Item = u32>>(&mut self, segments: usize, of: impl Fn(usize) -> I + Sync) {
        self.parts.par_iter_mut().for_each(|part| {
            let mut starts = vec![0u32; segments + 1];
            for local in 0..part.rows {
                of(part.place(local)).for_each(|segment| starts[segment as usize + 1] += 1);
            }
            (0..segments).for_each(|segment| starts[segment + 1] += starts[segment]);
            let mut rows = vec![0u32; starts[segments] as usize];
            for local in 0..part.rows {
                for segment in of(part.place(local)) {
                    let next = &mut starts[segment as usize];
                    rows[*next as usize] = local as u32;
                    *next += 1;
                }
            }
            // Each segment's start has become its end.
            starts.rotate_right(1);
            starts[0] = 0;
            part.visits = Some(Visits { rows, starts });
        });
    }

    /// Rows that meet segment `segment`.
    pub(super) fn visitors(&self, segment: usize) -> usize {
        self.parts.iter().map(|part| part.visitors(segment)).sum()
    }

    /// Brings rows and segments together.
    pub fn meet(&mut self, portion: &[Met<'_, Sieve>], segments: &Segments<'_>) {
        let (rows, vectors) = (&self.rows[..], &self.vectors[..]);
        self.parts.par_iter_mut().for_each(|part| {
            portion.iter().for_each(|met| part.meet(met, rows, vectors, segments));
        });
    }

    /// Puts what was found in order. Nothing can be met afterwards.
    pub fn sort(&mut self) {
        self.parts.par_iter_mut().for_each(|part| part.near.sort());
    }

    /// The nearest of the row at `place`, nearest first, once they are sorted: (squared distance, row).
    pub fn near(&self, place: usize) -> impl Iterator<Item = (f32, u32)> + Clone + '_ {
        let (block, of, own) = (place / BLOCK, self.parts.len(), self.rows[place]);
        let local = block / of * BLOCK + place % BLOCK;
        self.parts[block % of].near.kept(local).map(move |(squared, after)| (squared, own.wrapping_add(after)))
    }

    /// Bytes held for each row, what it visits not counted.
    pub fn row_bytes(dim: usize, k: usize) -> u64 {
        dim as u64 * 4 + 4 + Tops::bytes(1, k)
    }

    /// Bytes held beside, of a window that visits some of so many segments.
    pub fn bytes(dim: usize, segments: usize, threads: usize) -> u64 {
        let panel = (PANEL * (dim + 16) * 4) as u64;
        (PARTS * threads.max(1)) as u64 * (panel + segments as u64 * 4)
    }
}

impl Part {
    fn place(&self, local: usize) -> usize {
        (local / BLOCK * self.of + self.number) * BLOCK + local % BLOCK
    }

    fn visitors(&self, segment: usize) -> usize {
        self.visits.as_ref().map_or(self.rows, |visits| visits.of(segment).len())
    }

    fn meet(&mut self, met: &Met<'_, Sieve>, rows: &[u32], vectors: &[f32], segments: &Segments<'_>) {
        let (center, dim) = (segments.center(met.segment), segments.lists.table.dim);
        let first = segments.range(met.segment).start;
        let (number, of) = (self.number, self.of);
        let place = |local: u32| {
            let local = local as usize;
            (local / BLOCK * of + number) * BLOCK + local % BLOCK
        };
        let visitors = self.visitors(met.segment);
        let mut chosen = [0u32; PANEL];
        for start in (0..visitors).step_by(PANEL) {
            let chosen = &mut chosen[..PANEL.min(visitors - start)];
            match &self.visits {
                Some(visits) => chosen.copy_from_slice(&visits.of(met.segment)[start..][..chosen.len()]),
                None => chosen.iter_mut().zip(start as u32..).for_each(|(local, next)| *local = next),
            }
            let vector = |local: u32| &vectors[place(local) * dim..][..dim];
            // Each limit is what it was when the segment came, until something nearer is found.
            let limits: Vec<f32> = chosen.iter().map(|&local| self.near.threshold(local as usize)).collect();
            let (near, queries) = (&mut self.near, chosen.iter().map(|&local| vector(local)));
            self.asked.for_each_near(
                &met.packed,
                queries,
                center,
                |query| limits[query],
                |query, row| {
                    let local = chosen[query];
                    let own = rows[place(local)];
                    let other = after(own, first + row as u32);
                    // No distance is below 0: one that could not be taken even then is not computed.
                    if other != 0 && near.takes(local as usize, 0.0, other) {
                        let squared = squared_distance(vector(local), &met.vectors[row * dim..][..dim]);
                        near.offer(local as usize, squared, other);
                    }
                    near.threshold(local as usize)
                },
            );
        }
    }
}

impl Visits {
    fn of(&self, segment: usize) -> &[u32] {
        &self.rows[self.starts[segment] as usize..self.starts[segment + 1] as usize]
    }
}
