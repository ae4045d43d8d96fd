//! Segments: runs of rows that the join packs and scores together.
//!
//! Where lists are probed, a segment is a list, or a part of a very long list. Where every pair of rows
//! is compared, a segment consists of adjacent lists. Segments, and the centre that is subtracted from
//! each segment's rows, depend only on the data.

use std::ops::Range;

use crate::Result;
use crate::distances::squared_distance;
use crate::index::InvertedLists;
use crate::plan::Plan;

/// The largest number of rows of a segment, for which memory is planned.
pub(super) const MAX_SEGMENT_ROWS: usize = 2048;
/// Where every pair is compared, the number of rows up to which lists are joined into a segment.
const EVEN_SEGMENT_ROWS: usize = 1024;

/// The largest squared distance between the centroids of joined lists, relative to the lists' extent (a
/// mean squared distance).
const MAX_CENTROID_DISTANCE: f32 = 256.0;

/// Returns the mean squared distance of a list's rows to its centroid.
fn mean_squared_radius(lists: &InvertedLists, list: usize) -> Result<f32> {
    let rows = lists.vectors(list)?.chunks_exact(lists.table.dim);
    let count = rows.len() as f64;
    Ok((rows.map(|row| f64::from(squared_distance(row, lists.table.centroid(list)))).sum::<f64>() / count) as f32)
}

/// The rows of an index, divided into segments.
pub(crate) struct SegmentTable<'a> {
    /// The inverted lists with the vectors.
    pub(crate) lists: &'a InvertedLists,
    /// The first row of each segment; the last value is the number of rows.
    starts: Vec<u32>,
    /// The first segment of each list; the last value is the number of segments. Empty where lists are joined.
    of_list: Vec<u32>,
}

impl<'a> SegmentTable<'a> {
    /// Makes each list a segment, or several if the list has more than 2,048 rows.
    pub(crate) fn by_list(lists: &'a InvertedLists) -> Self {
        let (mut starts, mut of_list) = (Vec::new(), vec![0]);
        for list in 0..lists.table.count() {
            starts.extend(lists.table.range(list).step_by(MAX_SEGMENT_ROWS));
            of_list.push(starts.len() as u32);
        }
        starts.push(lists.table.rows());
        SegmentTable { lists, starts, of_list }
    }

    /// Returns the segments of list `list`.
    pub(crate) fn of_list(&self, list: usize) -> Range<u32> {
        self.of_list[list]..self.of_list[list + 1]
    }

    /// Returns the segment that contains row `row`.
    pub(crate) fn segment_of(&self, row: u32) -> u32 {
        self.starts.partition_point(|&start| start <= row) as u32 - 1
    }

    /// Joins adjacent lists into segments of up to 1,024 rows.
    ///
    /// The rounding error of a score grows with a row's distance to the segment's centre. Lists are
    /// therefore joined only if their centroids are within a small multiple of the lists' own extent, so
    /// that scores still distinguish the rows of each list.
    pub(crate) fn merged_lists(lists: &'a InvertedLists) -> Result<Self> {
        let table = &lists.table;
        let between = |a: usize, b: usize| squared_distance(table.centroid(a), table.centroid(b));
        let mut starts = Vec::new();
        let mut first: Option<(usize, f32)> = None;
        for list in (0..table.count()).filter(|&l| !table.range(l).is_empty()) {
            let extent = match mean_squared_radius(lists, list)? {
                // The list contains copies of one row; the distance to the nearest adjacent list replaces its extent.
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
                if rows as usize <= EVEN_SEGMENT_ROWS && between(of, list) <= MAX_CENTROID_DISTANCE * least {
                    first = Some((of, least));
                    continue;
                }
            }
            starts.extend(table.range(list).step_by(MAX_SEGMENT_ROWS));
            first = Some((list, extent));
        }
        starts.push(table.rows());
        Ok(SegmentTable { lists, starts, of_list: Vec::new() })
    }

    /// Returns the segments of an index: joined lists if the index is `exact`, single lists otherwise.
    pub(crate) fn of_index(lists: &'a InvertedLists, exact: bool) -> Result<Self> {
        if exact { Self::merged_lists(lists) } else { Ok(Self::by_list(lists)) }
    }

    /// Returns the number of segments.
    pub(crate) fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns the rows of segment `segment`.
    pub(crate) fn range(&self, segment: usize) -> Range<u32> {
        self.starts[segment]..self.starts[segment + 1]
    }

    /// Returns the centre that is subtracted from the segment's rows and from the queries compared with them.
    pub(crate) fn center(&self, segment: usize) -> &[f32] {
        self.lists.table.centroid(self.center_list(segment))
    }

    /// Returns the list whose centroid is the segment's centre.
    pub(super) fn center_list(&self, segment: usize) -> usize {
        let table = &self.lists.table;
        table.list_of(self.starts[segment].min(table.rows().saturating_sub(1)))
    }

    /// Returns the segments that contain rows of `range`.
    pub(super) fn covering(&self, range: Range<u32>) -> impl Iterator<Item = usize> + '_ {
        let from = self.segment_of(range.start) as usize;
        (from..self.count()).take_while(move |&segment| self.starts[segment] < range.end)
    }

    /// Returns an upper bound of the number of segments, for planning.
    pub(super) fn max_segments(plan: &Plan) -> usize {
        // Each list may end with a short segment.
        plan.index.lists + (plan.shape.rows / MAX_SEGMENT_ROWS as u64) as usize
    }
}
