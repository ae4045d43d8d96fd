//! Which lists a row visits: its own, and those others whose centroids lie
//! nearest to it, out of the lists that lie nearest to its own.
//!
//! How many of each follows from the recall asked for, by exact counting on
//! the sample: a neighbour is found when its list is visited.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::kernel::{Bars, Packed, Queries, for_each_near, squared_distance};
use super::sample::Sample;
use super::segments::{LONGEST, Segments};
use super::top::Tops;
use super::window::{PANEL, Window};
use crate::Result;
use crate::index::Lists;
use crate::observe::Progress;

/// Segments of one list that a row visits at most: 65,536 rows.
const MOST_SEGMENTS: u32 = 32;
/// Lists that a row probes at least, so that one in a tiny list meets others.
pub(super) const LEAST_PROBES: usize = 8;
/// Lists around a row's own that it may choose from: the first that do. To
/// look at one costs about what a row costs that is compared.
const AROUND: [usize; 3] = [256, 1024, 4096];
/// Centroids packed at a time.
const CENTROIDS: usize = 256;

/// How many lists each row visits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probing {
    /// Lists that each row visits.
    pub probes: usize,
    /// Lists around its own that it chooses from.
    pub around: usize,
    /// The share of the sample's neighbours that is found so.
    pub recall: f64,
}

/// Decides the probing that reaches recall `target` on the sample at the least
/// cost, or comes nearest to it with `max_candidates` rows compared a row.
pub fn probing(sample: &Sample, lists: &Lists, target: f64, max_candidates: u64) -> Result<Probing> {
    let mut best: Option<(Probing, f64)> = None;
    for from in AROUND {
        let from = from.min(lists.table.count());
        let (probing, candidates) = count(sample, lists, from, target, max_candidates)?;
        let (reached, cost) = (probing.recall >= target, candidates + from as f64);
        let better =
            best.is_none_or(
                |(had, least)| {
                    if had.recall >= target { reached && cost < least } else { probing.recall > had.recall }
                },
            );
        if better {
            best = Some((probing, cost));
        }
        if from == lists.table.count() {
            break;
        }
    }
    let all = Probing { probes: lists.table.count(), around: lists.table.count(), recall: 1.0 };
    Ok(best.map_or(all, |(probing, _)| probing))
}

/// The fewest lists to visit out of `from`, and the rows that a row then meets on average.
fn count(sample: &Sample, lists: &Lists, from: usize, target: f64, max_candidates: u64) -> Result<(Probing, f64)> {
    let table = &lists.table;
    // For each place in a row's order of lists: neighbours that lie there, and rows compared.
    let nothing = || (vec![0u64; from + 1], vec![0u64; from + 1]);
    let (found, candidates) = sample
        .rows
        .par_iter()
        .zip(&sample.neighbors)
        .try_fold(nothing, |(mut found, mut candidates), (&row, neighbors)| {
            let (own, vector) = (table.list_of(row), lists.row(row)?);
            let mut others: Vec<(f32, u32)> = table
                .around(own, from)
                .into_iter()
                .map(|list| (squared_distance(vector, table.centroid(list as usize)), list))
                .collect();
            others.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            // The row's own list is always the first.
            let order: Vec<u32> = std::iter::once(own as u32).chain(others.into_iter().map(|o| o.1)).collect();
            for &(_, neighbor) in neighbors {
                let list = table.list_of(neighbor) as u32;
                if let Some(place) = order.iter().position(|&l| l == list) {
                    found[place] += 1;
                }
            }
            candidates.iter_mut().zip(&order).for_each(|(c, &l)| *c += table.range(l as usize).len() as u64);
            Ok::<_, crate::Error>((found, candidates))
        })
        .try_reduce(nothing, |mut a, b| {
            a.0.iter_mut().zip(&b.0).for_each(|(x, y)| *x += y);
            a.1.iter_mut().zip(&b.1).for_each(|(x, y)| *x += y);
            Ok(a)
        })?;
    let wanted: u64 = sample.neighbors.iter().map(|n| n.len() as u64).sum();
    let (mut have, mut compared, mut probing) = (0u64, 0u64, Probing { probes: 0, around: from, recall: 0.0 });
    let mean = |compared: u64| compared as f64 / sample.rows.len().max(1) as f64;
    for (found, rows) in found.iter().zip(&candidates).take(table.count()) {
        have += found;
        compared += rows;
        probing.probes += 1;
        probing.recall = have as f64 / wanted.max(1) as f64;
        let enough = probing.recall >= target && probing.probes >= LEAST_PROBES;
        if enough || mean(compared) >= max_candidates as f64 {
            break;
        }
    }
    Ok((probing, mean(compared)))
}

/// Finds the lists that rows visit.
pub(super) struct Probe<'a> {
    pub(super) segments: &'a Segments<'a>,
    pub(super) probing: Probing,
    pub(super) seed: u64,
}

/// The lists that each row of a window visits.
pub(super) struct Visited {
    probes: usize,
    /// `probes` a row, its own first; [`NONE`] where there are fewer.
    lists: Vec<u32>,
}

/// No list.
const NONE: u32 = u32::MAX;

impl Visited {
    fn of(&self, place: usize) -> impl Iterator<Item = u32> + '_ {
        let lists = &self.lists[place * self.probes..][..self.probes];
        lists.iter().copied().take_while(|&list| list != NONE)
    }
}

impl Probe<'_> {
    /// The lists that the rows of `window`, which follow one another, visit.
    pub(super) fn lists(&self, window: &Window, progress: &Progress<'_>) -> Result<Visited> {
        let probes = self.probing.probes;
        let mut visited = Visited { probes, lists: vec![NONE; window.rows().len() * probes] };
        let (Some(&first), Some(&last)) = (window.rows().first(), window.rows().last()) else { return Ok(visited) };
        // Each segment's rows and their part of the table.
        let mut rest = &mut visited.lists[..];
        let mut tasks = Vec::new();
        for segment in self.segments.segment_of(first)..=self.segments.segment_of(last) {
            let range = self.segments.range(segment as usize);
            let places = (range.start.max(first) - first) as usize..(range.end.min(last + 1) - first) as usize;
            let (own, later) = rest.split_at_mut(places.len() * probes);
            rest = later;
            tasks.push((places, own));
        }
        tasks.into_par_iter().try_for_each(|(places, out)| {
            progress.check()?;
            self.of_segment(window, places, out);
            Ok::<_, crate::Error>(())
        })?;
        Ok(visited)
    }

    /// The lists of rows that are all of one list.
    fn of_segment(&self, window: &Window, places: std::ops::Range<usize>, out: &mut [u32]) {
        let (table, probes) = (&self.segments.lists.table, self.probing.probes);
        if places.is_empty() {
            return;
        }
        let own = table.list_of(window.rows()[places.start]);
        out.chunks_exact_mut(probes).for_each(|lists| lists[0] = own as u32);
        if probes == 1 {
            return;
        }
        let (center, near) = (table.centroid(own), table.around(own, self.probing.around));
        let mut top = Tops::new(places.len(), probes - 1);
        let (mut packed, mut queries, mut bars) = (Packed::default(), Queries::default(), Bars::default());
        for near in near.chunks(CENTROIDS) {
            packed.load(near.iter().map(|&list| table.centroid(list as usize)), center);
            for panel in places.clone().step_by(PANEL) {
                let panel = panel..(panel + PANEL).min(places.end);
                queries.load(panel.clone().map(|place| window.vector(place)), center);
                let first = panel.start - places.start;
                bars.set(panel.clone().map(|place| top.threshold(place - places.start)));
                for_each_near(&queries, &packed, &mut bars, |query, place, score| {
                    top.offer(first + query, score, near[place]);
                    top.threshold(first + query)
                });
            }
        }
        top.sort();
        for (row, lists) in out.chunks_exact_mut(probes).enumerate() {
            lists[1..].iter_mut().zip(top.kept(row)).for_each(|(out, (_, list))| *out = list);
        }
    }

    /// Segments that the row at `place` visits, and the rows in them.
    pub(super) fn segments_of(&self, row: u32, visited: &Visited, place: usize) -> impl Iterator<Item = u32> {
        visited.of(place).flat_map(move |list| {
            let there = self.segments.of_list(list as usize);
            let count = there.end - there.start;
            // A list this long holds copies of one vector, or nearly: a part of it
            // has neighbours enough. One's own part first, or one drawn for the row.
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

    /// Bytes that finding so many lists for each row of a segment takes.
    pub(super) fn bytes(dim: usize, lists: usize, probes: usize) -> u64 {
        Packed::bytes(CENTROIDS.min(lists), dim)
            + Tops::bytes(LONGEST, probes)
            + (PANEL * (dim + 2) * 4) as u64
            + lists as u64 * 8
    }
}
