//! Candidate filter: decides which rows of a segment may be near a query. It uses full-precision scores, or reduced
//! codes where the processor multiplies codes fast. Both filters pass all near rows and some others.

use rayon::prelude::*;

use super::segment_reader::SegmentForm;
use crate::coded::{self, CodeInstructions, CodeScale, CodedComparison, CodedVectors};
use crate::distances::{self, PackedPiece, PackedRows, ScoreBars, score_bar};

/// The rows of a segment, prepared for filtering.
pub(crate) enum CandidateFilter {
    /// Full-precision components.
    FullPrecision {
        /// The rows.
        rows: PackedRows,
        /// The largest ½|x|² of a row, after the shift by the centre.
        farthest: f32,
    },
    /// Reduced integer codes.
    Coded(coded::CodedRows),
}

impl CandidateFilter {
    /// Returns whether, for `dim` components, a comparison can find queries for rows as well as rows for queries.
    pub(super) fn supports_both_ways(dim: usize) -> bool {
        CodeInstructions::best(dim).is_some()
    }
}

impl SegmentForm for CandidateFilter {
    fn of(pieces: Vec<PackedPiece>, rows: &[f32], center: &[f32]) -> Self {
        if let Some(with) = CodeInstructions::best(center.len()) {
            return CandidateFilter::Coded(coded::CodedRows::encode(with, pieces, rows, center));
        }
        let rows = PackedRows::of(pieces, rows, center);
        CandidateFilter::FullPrecision { farthest: rows.max_half_norm(), rows }
    }

    fn into_pieces(self) -> Vec<PackedPiece> {
        match self {
            CandidateFilter::FullPrecision { rows, .. } => rows.into_pieces(),
            CandidateFilter::Coded(rows) => rows.into_pieces(),
        }
    }

    fn bytes(rows: usize, dim: usize) -> u64 {
        if CodeInstructions::best(dim).is_some() {
            coded::CodedRows::bytes(rows, dim)
        } else {
            PackedRows::bytes(rows, dim)
        }
    }
}

/// Query set: the vectors of queries, and their codes where filters use codes. Groups of queries follow one another.
pub(super) struct QuerySet {
    dim: usize,
    vectors: Vec<f32>,
    codes: Option<CodedVectors>,
    groups: Vec<QueryGroup>,
}

/// Queries that are coded around one centroid.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryGroup {
    /// The place of the first query, and the number of queries.
    pub(super) first: u32,
    pub(super) rows: u32,
    /// The list whose centroid the queries are coded around.
    pub(super) list: u32,
    /// The segment whose rows these are, if the group holds all of the segment's rows.
    pub(super) whole: Option<u32>,
    coding: CodeScale,
}

impl QueryGroup {
    /// Creates a group of `rows` queries from place `first` on, around the centroid of `list`.
    pub(super) fn new(first: u32, rows: u32, list: u32, whole: Option<u32>) -> Self {
        QueryGroup { first, rows, list, whole, coding: CodeScale::default() }
    }
}

impl QuerySet {
    /// Prepares `vectors`, which consist of `groups` in order; `center` returns a list's centroid.
    pub(super) fn new<'a>(
        dim: usize,
        vectors: Vec<f32>,
        mut groups: Vec<QueryGroup>,
        center: impl Fn(u32) -> &'a [f32] + Sync,
    ) -> Self {
        let codes = CodeInstructions::best(dim).map(|with| {
            let mut codes = CodedVectors::new(with, vectors.len() / dim, dim);
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
        QuerySet { dim, vectors, codes, groups }
    }

    /// Returns the groups.
    pub(super) fn groups(&self) -> &[QueryGroup] {
        &self.groups
    }

    /// Returns the vector of the query at `place`.
    #[inline]
    pub(super) fn vector(&self, place: usize) -> &[f32] {
        &self.vectors[place * self.dim..][..self.dim]
    }

    /// Returns the vectors of a group.
    pub(super) fn vectors(&self, group: &QueryGroup) -> &[f32] {
        &self.vectors[group.first as usize * self.dim..][..group.rows as usize * self.dim]
    }

    /// Keeps only the first `rows` queries.
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

    /// Returns the bytes of a query.
    pub(super) fn row_bytes(dim: usize) -> u64 {
        dim as u64 * 4 + if CodeInstructions::best(dim).is_some() { CodedVectors::row_bytes(dim) } else { 0 }
    }
}

/// Which side of a comparison searches the other.
#[derive(Debug, Clone, Copy)]
pub(super) enum FilterMode<'a> {
    /// Queries search rows.
    QueriesToRows,
    /// Queries search rows, and `crowd` rows are enough: the codes first give an upper bound of the
    /// distance to the `crowd` nearest rows.
    WithCrowd {
        /// Number of rows.
        crowd: usize,
    },
    /// Queries search rows, and rows search queries within their limits (squared distances). Only with codes.
    BothWays(&'a [f32]),
}

/// Reusable buffers for comparing queries with a filter.
#[derive(Default)]
pub(super) struct FilterScratch {
    whole: distances::PackedQueries,
    half_norms: Vec<f32>,
    bars: ScoreBars,
    between: CodedComparison,
    crowds: Vec<f32>,
}

impl FilterScratch {
    /// Returns the bytes held.
    pub(super) fn bytes(dim: usize) -> u64 {
        // The larger of: a panel of packed queries, or the terms between two centres that codes need.
        (super::MAX_QUERIES * (dim + 16) * 4).max(dim * 16 + 5 * 2048 * 4 + super::MAX_QUERIES * 44) as u64
    }

    /// Finds the rows of `filter`, around `center`, whose squared distance from the query at place
    /// `chosen[i]` may be at most `limit(i)`. The queries belong to `group`, which is around
    /// `group_center`. Calls `hit(i, row)` for each such row; `hit` returns the query's new limit.
    #[expect(clippy::too_many_arguments, reason = "two sides, each with its centre")]
    pub(super) fn for_each_near(
        &mut self,
        filter: &CandidateFilter,
        center: &[f32],
        queries: &QuerySet,
        group: &QueryGroup,
        group_center: &[f32],
        chosen: &[u32],
        looking: FilterMode<'_>,
        limit: impl Fn(usize) -> f32,
        mut hit: impl FnMut(usize, usize) -> f32,
    ) {
        let dim = center.len();
        match (filter, &queries.codes) {
            (CandidateFilter::Coded(rows), Some(codes)) => {
                self.between.prepare(&group.coding, group_center, rows, center);
                match looking {
                    FilterMode::QueriesToRows => self.between.for_each_near(codes, chosen, rows, None, limit, hit),
                    FilterMode::WithCrowd { crowd } => {
                        let crowds = &mut self.crowds;
                        self.between.crowd_limits(codes, chosen, rows, crowd, crowds);
                        let limit = |i| limit(i).min(crowds[i]);
                        let hit = |i, row| hit(i, row).min(crowds[i]);
                        self.between.for_each_near(codes, chosen, rows, None, limit, hit);
                    }
                    FilterMode::BothWays(limits) => {
                        self.between.for_each_near(codes, chosen, rows, Some(limits), limit, hit);
                    }
                }
            }
            (CandidateFilter::Coded(_), None) => unreachable!("one processor codes both sides or neither"),
            (CandidateFilter::FullPrecision { rows, farthest }, _) => {
                self.whole.load(chosen.iter().map(|&place| queries.vector(place as usize)), center);
                self.half_norms = self.whole.half_norms();
                // Adding ½|q|² to a score gives ½ distance².
                let half_norms = &self.half_norms;
                let bar = |i: usize, limit| score_bar(limit, half_norms[i] + farthest, dim) - half_norms[i];
                self.bars.set((0..chosen.len()).map(|i| bar(i, limit(i))));
                distances::for_each_near(&self.whole, rows, &mut self.bars, |i, row, _| bar(i, hit(i, row)));
            }
        }
    }
}
