//! Runs of rows that the join packs and scores as one.
//!
//! Where lists are probed, a segment is a list, or a part of one that is very
//! long; where every pair is compared, a segment is a fixed number of rows. Either way the segments, and the
//! centre that each is shifted by, follow from the data alone.

use std::ops::Range;

use super::kernel::squared_distance;
use crate::Result;
use crate::index::Lists;
use crate::plan::Plan;

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
        self.lists.table.centroid(self.center_list(segment))
    }

    /// The list whose centroid that is.
    pub(super) fn center_list(&self, segment: usize) -> usize {
        let table = &self.lists.table;
        table.list_of(self.starts[segment].min(table.rows().saturating_sub(1)))
    }

    /// The segments that hold rows of `range`.
    pub(super) fn over(&self, range: Range<u32>) -> impl Iterator<Item = usize> + '_ {
        let from = self.segment_of(range.start) as usize;
        (from..self.count()).take_while(move |&segment| self.starts[segment] < range.end)
    }

    /// Segments at most.
    pub(super) fn most(plan: &Plan) -> usize {
        // Every list may end with a short one.
        plan.index.lists + (plan.shape.rows / LONGEST as u64) as usize
    }
}
