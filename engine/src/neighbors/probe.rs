//! Chooses the lists that the rows of a window visit: by nearest centroids or by the partial graph.

use std::ops::Range;

use rayon::prelude::*;

use super::candidate_filter::{CandidateFilter, FilterScratch};
use super::list_adjacency::ScoreScratch;
use super::partial_graph::PartialGraph;
use super::rounds::{EarlierRounds, ListChoice};
use super::segment_reader::SegmentForm;
use super::segments::{MAX_SEGMENT_ROWS, SegmentTable};
use super::top_k::TopK;
use super::window::Window;
use crate::Result;
use crate::distances::squared_distance;
use crate::observe::Progress;

/// The largest number of segments of one list that a row visits: 65,536 rows.
const MOST_SEGMENTS: u32 = 32;
/// Number of centroids packed at a time.
const PACKED_CENTROIDS: usize = 256;

/// Finds the lists that rows visit in one round.
pub(super) struct ListProbe<'a> {
    pub(super) segments: &'a SegmentTable<'a>,
    pub(super) choice: ListChoice,
    pub(super) before: Option<EarlierRounds<'a>>,
    pub(super) seed: u64,
}

/// The lists that each row of a window visits in a round.
pub(super) struct VisitedLists {
    /// End of each row's entries in `lists`.
    ends: Vec<u32>,
    lists: Vec<u32>,
}

impl VisitedLists {
    /// Returns the lists of the row at `place`.
    pub(super) fn of(&self, place: usize) -> impl Iterator<Item = u32> + Clone + '_ {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        self.lists[start as usize..self.ends[place] as usize].iter().copied()
    }
}

impl ListProbe<'_> {
    /// Returns the lists that the rows of `window`, which are consecutive, visit, without those of
    /// earlier rounds.
    pub(super) fn lists(&self, window: &Window, progress: &Progress<'_>) -> Result<VisitedLists> {
        let mut visited = VisitedLists { ends: Vec::with_capacity(window.rows().len()), lists: Vec::new() };
        let (Some(&first), Some(&last)) = (window.rows().first(), window.rows().last()) else { return Ok(visited) };
        let segments: Vec<u32> = (self.segments.segment_of(first)..=self.segments.segment_of(last)).collect();
        let lists = self.segments.lists.table.count();
        let found: Vec<VisitedLists> = segments
            .into_par_iter()
            .map_init(
                || ScoreScratch::new(lists),
                |scratch, segment| {
                    progress.check()?;
                    let range = self.segments.range(segment as usize);
                    let places = (range.start.max(first) - first) as usize..(range.end.min(last + 1) - first) as usize;
                    Ok(match self.choice {
                        ListChoice::Centroids { probes, around } => {
                            self.lists_by_centroids(window, places, probes, around)
                        }
                        ListChoice::Graph { least } => self.lists_by_graph(window, places, least, scratch),
                    })
                },
            )
            .collect::<Result<_>>()?;
        visited.lists.reserve_exact(found.iter().map(|found| found.lists.len()).sum());
        for found in found {
            let before = visited.lists.len() as u32;
            visited.ends.extend(found.ends.iter().map(|end| before + end));
            visited.lists.extend(found.lists);
        }
        Ok(visited)
    }

    fn partial_graph(&self) -> Option<&PartialGraph> {
        self.before.map(|before| before.partial_graph)
    }

    /// Chooses lists by nearest centroids, for rows that all belong to one list.
    fn lists_by_centroids(&self, window: &Window, places: Range<usize>, probes: usize, around: usize) -> VisitedLists {
        let mut visited = VisitedLists { ends: Vec::with_capacity(places.len()), lists: Vec::new() };
        if places.is_empty() {
            return visited;
        }
        let table = &self.segments.lists.table;
        let own = table.list_of(window.rows()[places.start]);
        let mut top = TopK::new(places.len(), probes.max(2) - 1);
        if probes > 1 {
            let (center, near) = (table.centroid(own), table.nearest_lists(own, around));
            let (mut pieces, mut work, mut rows) = (Vec::new(), FilterScratch::default(), Vec::new());
            for near in near.chunks(PACKED_CENTROIDS) {
                rows.clear();
                near.iter().for_each(|&list| rows.extend_from_slice(table.centroid(list as usize)));
                let filter = CandidateFilter::of(pieces, &rows, center);
                window.filter_candidates(places.clone(), table, &mut work, &filter, center, |place, met| {
                    if let Some(met) = met {
                        let squared = squared_distance(window.vector(place), table.centroid(near[met] as usize));
                        top.offer(place - places.start, squared, near[met]);
                    }
                    top.threshold(place - places.start)
                });
                pieces = filter.into_pieces();
            }
        }
        top.sort();
        let mut been: Vec<u32> = Vec::new();
        for (local, place) in places.enumerate() {
            been.clear();
            been.extend(
                self.partial_graph().into_iter().flat_map(|partial_graph| partial_graph.visits(window.rows()[place])),
            );
            let near = top.sorted(local).map(|(_, list)| list);
            let all = std::iter::once(own as u32).chain(near);
            visited.lists.extend(all.filter(|list| !been.contains(list)));
            visited.ends.push(visited.lists.len() as u32);
        }
        visited
    }

    /// Chooses lists by the partial graph.
    fn lists_by_graph(
        &self,
        window: &Window,
        places: Range<usize>,
        least: u64,
        scratch: &mut ScoreScratch,
    ) -> VisitedLists {
        let mut visited = VisitedLists { ends: Vec::with_capacity(places.len()), lists: Vec::new() };
        let Some(EarlierRounds { partial_graph, adjacent }) = self.before else { return visited };
        let table = &self.segments.lists.table;
        let mut been: Vec<u32> = Vec::new();
        for place in places {
            let row = window.rows()[place];
            been.clear();
            been.extend(partial_graph.visits(row));
            let near = partial_graph.nearest(row).map(|(_, near)| near);
            adjacent.each_score(row, near, table, scratch, |list, score| {
                if score >= least && !been.contains(&list) {
                    visited.lists.push(list);
                }
            });
            visited.ends.push(visited.lists.len() as u32);
        }
        visited
    }

    /// Returns the segments of `lists` that `row` visits.
    pub(super) fn segments_of<I: Iterator<Item = u32>>(&self, row: u32, lists: I) -> impl Iterator<Item = u32> {
        lists.flat_map(move |list| {
            let there = self.segments.of_list(list as usize);
            let count = there.end - there.start;
            // A list this long contains (near) copies of one vector, so a part of the list has enough neighbours. A
            // row of the list starts at its own segment, any other row at a segment drawn for the row.
            let from = if count <= MOST_SEGMENTS {
                0
            } else if self.segments.lists.table.list_of(row) as u32 == list {
                self.segments.segment_of(row) - there.start
            } else {
                crate::random::below(self.seed, u64::from(list), u64::from(row), u64::from(count)) as u32
            };
            (0..count.min(MOST_SEGMENTS)).map(move |s| there.start + (from + s) % count)
        })
    }

    /// Returns the bytes that one thread needs to choose `probes` of `lists` lists for each row of a segment.
    pub(super) fn bytes(dim: usize, lists: usize, probes: usize) -> u64 {
        ScoreScratch::bytes(lists)
            + (PACKED_CENTROIDS.min(lists) * dim * 4) as u64
            + <CandidateFilter as SegmentForm>::bytes(PACKED_CENTROIDS.min(lists), dim)
            + TopK::bytes(MAX_SEGMENT_ROWS, probes)
            + FilterScratch::bytes(dim)
            + lists as u64 * 8
    }
}
