//! The least effort that reaches a recall.
//!
//! The sample's rows are searched as queries that do not find themselves. Every row of a visited list is compared, so
//! a true neighbour is found exactly if its list is visited; only the choice of lists costs recall. Efforts with few
//! and with many first lists are tried, and the one with the fewest comparisons is taken. In a model of at least 2²⁰
//! places, whose vectors may be read from disk, an effort of one pass over the lists is taken instead, if it has at most
//! twice as many lists.

use lowland_engine::Metric;

use super::followed::FOLLOWED;
use super::nearest::NearestRows;
use super::visits::{Comparison, Visits};
use super::{SearchEffort, Searcher};
use crate::Result;
use crate::snapshot::Snapshot;

/// Numbers of first lists that are tried.
const FIRST: [usize; 13] = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 96, 128, 256];
/// Largest number of lists by the graph.
const MOST_GRAPH: usize = 128;
/// Most lists of an effort without lists by the graph, as a multiple of all lists of the effort with them.
const FIRST_ONLY: usize = 4;
/// From so many places on, an effort without lists by the graph may be taken: a second pass would read most vectors again.
const ONE_PASS_PLACES: u32 = 1 << 20;
/// Most lists of such an effort, as a multiple of all lists of the one with those by the graph.
const ONE_PASS: usize = 2;
/// Comparisons that a visit costs beside those with the list's rows.
const VISIT_COST: f64 = 16.0;

/// A sample row as a query.
struct Probe {
    /// The lists of its true neighbours that live, and their number in each.
    wanted: Vec<(u32, u32)>,
}

impl Probe {
    /// Number of true neighbours in a list.
    fn in_list(&self, list: u32) -> u64 {
        self.wanted.iter().find(|&&(wanted, _)| wanted == list).map_or(0, |&(_, count)| u64::from(count))
    }
}

/// Returns the least effort whose recall of the sample's exact neighbours is at least `recall`, and the recall that it
/// reaches. If none of the efforts tried reaches it, all lists are visited. A snapshot without a sample is searched
/// whole.
///
/// # Errors
/// If vectors cannot be read; [`lowland_engine::Error::Cancelled`] once `stop` returns true.
pub fn effort(
    snapshot: &Snapshot,
    metric: Metric,
    recall: f64,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<(SearchEffort, f64)> {
    let lists = snapshot.lists();
    let whole = SearchEffort { first: u16::try_from(lists).unwrap_or(u16::MAX).max(1), graph: 0 };
    let (own, probes) = probes(snapshot);
    if probes.is_empty() {
        return Ok((whole, 1.0));
    }
    let queries = vectors(snapshot, &own)?;
    let searcher = Searcher::new(snapshot, metric, whole);
    let most = FIRST[FIRST.len() - 1].min(lists);
    let (nearest, _, _) = searcher.nearest_lists(&queries, most, stop)?;
    let task = Comparison {
        snapshot,
        metric,
        center: &searcher.center,
        queries: &queries,
        own: &own,
        only: 0..snapshot.places(),
        nearest: NearestRows::new(own.len(), FOLLOWED),
        hits: None,
        stop,
    };
    let all: u64 = probes.iter().flat_map(|probe| &probe.wanted).map(|&(_, count)| u64::from(count)).sum();
    let mut best: Option<(f64, SearchEffort, f64)> = None;
    let mut visited: Vec<Vec<u32>> = vec![Vec::new(); own.len()];
    for first in FIRST.into_iter().filter(|&first| first < most).chain([most]) {
        // Only the lists that smaller efforts did not visit.
        let more: Vec<Vec<u32>> = nearest
            .iter()
            .zip(&visited)
            .map(|(lists, had)| lists[had.len()..first.min(lists.len())].to_vec())
            .collect();
        task.compare(&Visits::by_list(&more, lists))?;
        visited.iter_mut().zip(more).for_each(|(visited, more)| visited.extend(more));
        let mut curve = Curve::new(&probes, &visited, snapshot);
        if best.is_some_and(|(cost, ..)| cost <= curve.cost()) {
            break;
        }
        let graph = searcher.followed_lists(&task, &visited, |_| MOST_GRAPH)?;
        for rank in 0..=MOST_GRAPH {
            let reached = curve.found as f64 / all as f64;
            let cheaper = best.is_none_or(|(cost, ..)| curve.cost() < cost);
            if reached >= recall && cheaper {
                let effort = SearchEffort { first: first as u16, graph: rank as u16 };
                best = Some((curve.cost(), effort, reached));
            }
            if reached >= recall || !curve.visit(&probes, &graph, rank, snapshot) {
                break;
            }
        }
    }
    let Some((_, effort, reached)) = best else { return Ok((whole, 1.0)) };
    if effort.graph > 0 && snapshot.places() >= ONE_PASS_PLACES {
        let alone = first_only(snapshot, metric, effort, reached, stop)?;
        if usize::from(alone.first) <= ONE_PASS * (usize::from(effort.first) + usize::from(effort.graph)) {
            return Ok((alone, reached));
        }
    }
    Ok((effort, reached))
}

/// Returns the least effort without lists by the graph whose recall of the sample's exact neighbours is at least `recall`:
/// rows that the graph does not lead to are found by it. It visits at most four times as many lists as `effort`.
///
/// # Errors
/// If vectors cannot be read; [`lowland_engine::Error::Cancelled`] once `stop` returns true.
pub fn first_only(
    snapshot: &Snapshot,
    metric: Metric,
    effort: SearchEffort,
    recall: f64,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<SearchEffort> {
    let most = (FIRST_ONLY * (usize::from(effort.first) + usize::from(effort.graph))).clamp(1, snapshot.lists());
    let (own, probes) = probes(snapshot);
    if probes.is_empty() {
        return Ok(SearchEffort { first: u16::try_from(most).unwrap_or(u16::MAX), graph: 0 });
    }
    let (nearest, ..) = Searcher::new(snapshot, metric, effort).nearest_lists(&vectors(snapshot, &own)?, most, stop)?;
    // Number of true neighbours in the list of each rank.
    let mut in_rank = vec![0; most];
    for (probe, lists) in probes.iter().zip(&nearest) {
        in_rank.iter_mut().zip(lists).for_each(|(found, &list)| *found += probe.in_list(list));
    }
    let all: u64 = probes.iter().flat_map(|probe| &probe.wanted).map(|&(_, count)| u64::from(count)).sum();
    let mut found = 0;
    let enough = in_rank.into_iter().position(|more| {
        found += more;
        found as f64 >= recall * all as f64
    });
    Ok(SearchEffort { first: u16::try_from(enough.map_or(most, |rank| rank + 1)).unwrap_or(u16::MAX), graph: 0 })
}

/// Returns the live rows of the sample that have live neighbours: their places, and the lists of these neighbours.
fn probes(snapshot: &Snapshot) -> (Vec<u32>, Vec<Probe>) {
    let (mut own, mut probes) = (Vec::new(), Vec::new());
    for row in snapshot.sample().iter().filter(|row| !snapshot.is_dead(row.place)) {
        let live = row.neighbors.iter().filter(|near| !snapshot.is_dead(near.1));
        let mut near: Vec<u32> = live.map(|near| snapshot.list_of(near.1)).collect();
        near.sort_unstable();
        let wanted: Vec<(u32, u32)> = near.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect();
        if !wanted.is_empty() {
            own.push(row.place);
            probes.push(Probe { wanted });
        }
    }
    (own, probes)
}

/// Reads the vectors of some places.
fn vectors(snapshot: &Snapshot, places: &[u32]) -> Result<Vec<f32>> {
    let dim = snapshot.dim();
    let mut vectors = vec![0.0; places.len() * dim];
    for (&place, vector) in places.iter().zip(vectors.chunks_exact_mut(dim)) {
        snapshot.read_vector(place, vector)?;
    }
    Ok(vectors)
}

/// What the visits so far found and cost.
struct Curve {
    found: u64,
    rows: u64,
    visits: u64,
    probes: usize,
}

impl Curve {
    /// Counts the lists `visited`.
    fn new(probes: &[Probe], visited: &[Vec<u32>], snapshot: &Snapshot) -> Self {
        let mut curve = Curve { found: 0, rows: 0, visits: 0, probes: probes.len() };
        for (probe, lists) in probes.iter().zip(visited) {
            lists.iter().for_each(|&list| curve.add(probe, list, snapshot));
        }
        curve
    }

    fn add(&mut self, probe: &Probe, list: u32, snapshot: &Snapshot) {
        self.found += probe.in_list(list);
        self.rows += (snapshot.base_range(list).len() + snapshot.delta_of(list).len()) as u64;
        self.visits += 1;
    }

    /// Counts the list number `rank` of each probe by the graph. Returns whether any probe has one.
    fn visit(&mut self, probes: &[Probe], graph: &[Vec<u32>], rank: usize, snapshot: &Snapshot) -> bool {
        let before = self.visits;
        for (probe, lists) in probes.iter().zip(graph) {
            if let Some(&list) = lists.get(rank) {
                self.add(probe, list, snapshot);
            }
        }
        self.visits > before
    }

    /// Mean number of comparisons of a query.
    fn cost(&self) -> f64 {
        (self.rows as f64 + VISIT_COST * self.visits as f64) / self.probes as f64
    }
}
