//! What tells which rows of a segment may be near a query: the kernel's
//! scores, or codes where the processor is fast at them. Either lets through
//! all that are near, and some that are not.

use rayon::prelude::*;

use super::coded::{self, Between, Codes, Coding, Instructions};
use super::feed::Form;
use super::kernel::{self, Bars, Packed, Piece, reach};

/// A segment's rows.
pub enum Sieve {
    /// All of each component.
    Whole {
        /// The rows.
        rows: Packed,
        /// ½|x|² of the one farthest from the centre.
        farthest: f32,
    },
    /// Some bits of it.
    Coded(coded::Rows),
}

impl Sieve {
    /// Whether rows of so many components can look for queries as well.
    pub(super) fn looks_both_ways(dim: usize) -> bool {
        Instructions::best(dim).is_some()
    }
}

impl Form for Sieve {
    fn of(pieces: Vec<Piece>, rows: &[f32], center: &[f32]) -> Self {
        if let Some(with) = Instructions::best(center.len()) {
            return Sieve::Coded(coded::Rows::encode(with, pieces, rows, center));
        }
        let rows = Packed::of(pieces, rows, center);
        Sieve::Whole { farthest: rows.most_half_norm(), rows }
    }

    fn into_pieces(self) -> Vec<Piece> {
        match self {
            Sieve::Whole { rows, .. } => rows.into_pieces(),
            Sieve::Coded(rows) => rows.into_pieces(),
        }
    }

    fn bytes(rows: usize, dim: usize) -> u64 {
        if Instructions::best(dim).is_some() { coded::Rows::bytes(rows, dim) } else { Packed::bytes(rows, dim) }
    }
}

/// The vectors of queries, and their codes where a sieve asks for them: groups
/// of rows that lie together, one after the other.
pub(super) struct Asking {
    dim: usize,
    vectors: Vec<f32>,
    codes: Option<Codes>,
    groups: Vec<Group>,
}

/// Queries that lie together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// The place of the first, and how many they are.
    pub(super) first: u32,
    pub(super) rows: u32,
    /// The list whose centroid they are coded around.
    pub(super) list: u32,
    /// The segment whose rows they are, if they are all of them.
    pub(super) whole: Option<u32>,
    coding: Coding,
}

impl Group {
    /// So many queries from the place `first` on, around the centroid of `list`.
    pub(super) fn new(first: u32, rows: u32, list: u32, whole: Option<u32>) -> Self {
        Group { first, rows, list, whole, coding: Coding::default() }
    }
}

impl Asking {
    /// Prepares `vectors`, in `groups` one after the other; `center` gives a list's centroid.
    pub(super) fn new<'a>(
        dim: usize,
        vectors: Vec<f32>,
        mut groups: Vec<Group>,
        center: impl Fn(u32) -> &'a [f32] + Sync,
    ) -> Self {
        let codes = Instructions::best(dim).map(|with| {
            let mut codes = Codes::new(with, vectors.len() / dim, dim);
            let mut slots = codes.slots();
            let mut tasks = Vec::with_capacity(groups.len());
            for group in &mut groups {
                let (own, later) = slots.split(group.rows as usize);
                slots = later;
                tasks.push((group, own));
            }
            tasks.into_par_iter().for_each(|(group, slots)| {
                let vectors = &vectors[group.first as usize * dim..][..group.rows as usize * dim];
                group.coding = slots.encode(vectors, center(group.list));
            });
            codes
        });
        Asking { dim, vectors, codes, groups }
    }

    /// The groups.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The vector of the query at `place`.
    #[inline]
    pub(super) fn vector(&self, place: usize) -> &[f32] {
        &self.vectors[place * self.dim..][..self.dim]
    }

    /// The vectors of a group.
    pub(super) fn vectors(&self, group: &Group) -> &[f32] {
        &self.vectors[group.first as usize * self.dim..][..group.rows as usize * self.dim]
    }

    /// Leaves only the first `rows` queries.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.vectors.truncate(rows * self.dim);
        if let Some(codes) = &mut self.codes {
            codes.truncate(rows);
        }
        self.groups.retain(|group| (group.first as usize) < rows);
        if let Some(last) = self.groups.last_mut() {
            let left = rows as u32 - last.first;
            if left < last.rows {
                (last.rows, last.whole) = (left, None);
            }
        }
    }

    /// Bytes of a query.
    pub(super) fn row_bytes(dim: usize) -> u64 {
        dim as u64 * 4 + if Instructions::best(dim).is_some() { Codes::row_bytes(dim) } else { 0 }
    }
}

/// Who looks for whom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looking<'a> {
    /// Queries for rows.
    ForRows,
    /// Queries for rows, so many of whom are enough: codes say beforehand how
    /// far those are at most.
    Around {
        /// How many.
        crowd: usize,
    },
    /// And rows for queries, each no farther (squared) than its limit. Codes only.
    BothWays(&'a [f32]),
}

/// What it takes to hold queries against a sieve, used again and again.
#[derive(Default)]
pub(super) struct Workplace {
    whole: kernel::Queries,
    half_norms: Vec<f32>,
    bars: Bars,
    between: Between,
    crowds: Vec<f32>,
}

impl Workplace {
    /// Bytes held.
    pub(super) fn bytes(dim: usize) -> u64 {
        // As many queries as are held at a time, packed; or what lies between centres.
        (super::PANEL * (dim + 16) * 4).max(dim * 16 + 5 * 2048 * 4 + super::PANEL * 44) as u64
    }

    /// Looks for rows of `sieve`, around `center`, that are no farther
    /// (squared) from the query at place `chosen[i]`, of `group` around
    /// `group_center`, than `limit(i)`: `hit(i, row)` for each that may be
    /// gives its next limit.
    #[expect(clippy::too_many_arguments, reason = "two sides, each with its centre")]
    pub(super) fn for_each_near(
        &mut self,
        sieve: &Sieve,
        center: &[f32],
        asking: &Asking,
        group: &Group,
        group_center: &[f32],
        chosen: &[u32],
        looking: Looking<'_>,
        limit: impl Fn(usize) -> f32,
        mut hit: impl FnMut(usize, usize) -> f32,
    ) {
        let dim = center.len();
        match (sieve, &asking.codes) {
            (Sieve::Coded(rows), Some(codes)) => {
                self.between.set(&group.coding, group_center, rows, center);
                match looking {
                    Looking::ForRows => self.between.for_each_near(codes, chosen, rows, None, limit, hit),
                    Looking::Around { crowd } => {
                        let crowds = &mut self.crowds;
                        self.between.crowd(codes, chosen, rows, crowd, crowds);
                        let limit = |i| limit(i).min(crowds[i]);
                        let hit = |i, row| hit(i, row).min(crowds[i]);
                        self.between.for_each_near(codes, chosen, rows, None, limit, hit);
                    }
                    Looking::BothWays(limits) => {
                        self.between.for_each_near(codes, chosen, rows, Some(limits), limit, hit);
                    }
                }
            }
            (Sieve::Coded(_), None) => unreachable!("one processor codes both sides or neither"),
            (Sieve::Whole { rows, farthest }, _) => {
                self.whole.load(chosen.iter().map(|&place| asking.vector(place as usize)), center);
                self.half_norms = self.whole.half_norms();
                // ½|q|² turns a score into ½ distance².
                let half_norms = &self.half_norms;
                let bar = |i: usize, limit| reach(limit, half_norms[i] + farthest, dim) - half_norms[i];
                self.bars.set((0..chosen.len()).map(|i| bar(i, limit(i))));
                kernel::for_each_near(&self.whole, rows, &mut self.bars, |i, row, _| bar(i, hit(i, row)));
            }
        }
    }
}
