//! Decides how many rounds the kNN join runs and how each round chooses the lists that rows visit.
//!
//! In the first round a row visits the lists whose centroids are nearest. If the requested recall would
//! need many lists, the first round visits few lists, and the partial graph guides the next round
//! (`list_adjacency`). Centroids guide that round too where they are cheaper, as in data without structure. The
//! cost and the recall of each choice are counted exactly on the sample: a neighbour counts as found when
//! the list that contains the neighbour is visited.
//!
//! Invariant: the rounds depend only on the data and the configuration.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::list_adjacency::{ListAdjacency, ScoreScratch};
use super::partial_graph::PartialGraph;
use super::sample::TruthSample;
use crate::Result;
use crate::distances::squared_distance;
use crate::index::InvertedLists;

/// Numbers of lists around a row's own list that are tried, in order, as candidates for a visit. Looking
/// at one list costs about as much as comparing one row.
const NEARBY_LISTS: [usize; 3] = [256, 1024, 4096];
/// Number of lists that a row visits in the first round.
pub(super) const FIRST_LISTS: usize = 6;
/// Number of lists around the row's own list from which the first round chooses.
const FIRST_NEARBY_LISTS: usize = 256;
/// Number of comparisons per row below which another round does not pay.
const CHEAP_CANDIDATES: f64 = 4096.0;
/// The largest number of rounds.
pub(super) const MOST_ROUNDS: u32 = 4;

/// How rows choose the lists to visit, in addition to the lists visited in earlier rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum ListChoice {
    /// The `probes` lists with the nearest centroids, out of the `around` lists nearest to the row's own
    /// list. The row's own list always comes first.
    Centroids {
        /// Number of lists visited, including those of earlier rounds.
        probes: usize,
        /// Number of lists around the row's own list from which the row chooses.
        around: usize,
    },
    /// The lists whose score by the partial graph is at least this value.
    Graph {
        /// The smallest score.
        least: u64,
    },
}

/// The decision for one round, as stored in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Round {
    /// How lists are chosen.
    pub(super) choice: ListChoice,
    /// Whether the round is the last.
    pub(super) last: bool,
    /// Expected number of lists that a row visits in the round, on average.
    pub(super) lists: f64,
    /// Expected recall on the sample after the round, including all earlier rounds.
    pub(super) recall: f64,
}

/// The results of the earlier rounds.
#[derive(Clone, Copy)]
pub(super) struct EarlierRounds<'a> {
    pub(super) partial_graph: &'a PartialGraph,
    pub(super) adjacent: &'a ListAdjacency,
}

/// The target of all rounds together.
#[derive(Clone, Copy)]
pub(super) struct RecallTarget {
    /// The requested recall.
    pub(super) recall: f64,
    /// The largest mean number of rows that a row may be compared with.
    pub(super) candidates: f64,
}

/// Decides the first round. The first round is also the last if few lists reach the requested recall, or if few lists
/// reach less than half of the requested recall and centroids alone reach it with more lists.
pub(super) fn first_round(sample: &TruthSample, lists: &InvertedLists, wanted: RecallTarget) -> Result<Round> {
    let around = FIRST_NEARBY_LISTS.min(lists.table.count());
    let choice = ListChoice::Centroids { probes: FIRST_LISTS.min(lists.table.count()), around };
    let recall = RecallCurve::by_centroids(sample, lists, around, None)?.at_step(FIRST_LISTS).recall;
    let last = recall >= wanted.recall || lists.table.count() <= FIRST_LISTS;
    let few = Round { choice, last, lists: FIRST_LISTS as f64, recall };
    if recall < 0.5 * wanted.recall {
        let alone = by_centroids(sample, lists, None, wanted, (few, f64::INFINITY))?.0;
        if alone.recall >= wanted.recall {
            return Ok(alone);
        }
    }
    Ok(few)
}

/// Decides round `number` (2 or later) from the results of the rounds `before`.
pub(super) fn next_round(
    number: u32,
    sample: &TruthSample,
    lists: &InvertedLists,
    before: EarlierRounds<'_>,
    wanted: RecallTarget,
) -> Result<Round> {
    let graph = RecallCurve::by_graph(sample, lists, before)?;
    let by_graph = |last, point: RecallPoint| {
        let choice = ListChoice::Graph { least: min_score(point.steps) };
        Round { choice, last, lists: point.lists, recall: point.recall }
    };
    let point = graph.cheapest_with_margin(wanted);
    let (best, cost) = by_centroids(sample, lists, Some(before), wanted, (by_graph(true, point), point.rows))?;
    if number < MOST_ROUNDS && cost > CHEAP_CANDIDATES {
        // Half of that number of comparisons may be enough for a graph that guides the next round much better.
        let point = graph.cheapest(RecallTarget { recall: 1.0, candidates: CHEAP_CANDIDATES / 2.0 });
        if point.recall - graph.recall() > 0.25 * (1.0 - graph.recall()) {
            return Ok(by_graph(false, point));
        }
    }
    Ok(best)
}

/// Returns the cheapest last round guided by centroids, with its cost in comparisons per row, if that
/// round is cheaper than `best` or, where `best` misses the requested recall, finds more neighbours.
/// Returns `best` otherwise.
fn by_centroids(
    sample: &TruthSample,
    lists: &InvertedLists,
    before: Option<EarlierRounds<'_>>,
    wanted: RecallTarget,
    (mut best, mut cost): (Round, f64),
) -> Result<(Round, f64)> {
    for around in NEARBY_LISTS {
        let around = around.min(lists.table.count());
        if best.recall >= wanted.recall && cost <= around as f64 {
            break;
        }
        let point = RecallCurve::by_centroids(sample, lists, around, before)?.cheapest_with_margin(wanted);
        let dear = point.rows + around as f64;
        let better = match best.recall >= wanted.recall {
            true => point.recall >= wanted.recall && dear < cost,
            false => point.recall > best.recall,
        };
        if better {
            let choice = ListChoice::Centroids { probes: point.steps, around };
            (best, cost) = (Round { choice, last: true, lists: point.lists, recall: point.recall }, dear);
        }
        if around == lists.table.count() {
            break;
        }
    }
    Ok((best, cost))
}

/// Number of steps into which scores are divided: 32 per octave, the highest scores first.
const SCORE_STEPS: usize = 64 * 32;

/// Returns the step of a score.
fn score_step(score: u64) -> usize {
    let octave = score.max(1).ilog2();
    let within = (u128::from(score.max(1)) << 5 >> octave) as usize & 31;
    SCORE_STEPS - 1 - (octave as usize * 32 + within)
}

/// Returns the smallest score that belongs to the first `steps` steps.
fn min_score(steps: usize) -> u64 {
    let Some(last) = SCORE_STEPS.checked_sub(steps) else { return 0 };
    if steps == 0 {
        return u64::MAX;
    }
    // Rounded up: a score below a step's bound belongs to the next step.
    ((u128::from(last as u64 & 31 | 32) << (last / 32)).div_ceil(32)) as u64
}

/// A point of the recall curve: the result of visiting the lists of the first `steps` steps.
#[derive(Debug, Clone, Copy, Default)]
struct RecallPoint {
    steps: usize,
    recall: f64,
    /// Mean number of rows and of lists that a row visits in addition to those of earlier rounds.
    rows: f64,
    lists: f64,
}

/// Recall curve: the lists that the sample's rows may visit, in steps from the most to the least likely.
#[derive(Default)]
struct RecallCurve {
    /// For each step the sums over all sample rows: neighbours found, rows compared, lists visited.
    steps: Vec<[u64; 3]>,
    rows: Vec<SampleRow>,
}

/// A row of the sample.
#[derive(Default)]
struct SampleRow {
    /// Number of the row's exact neighbours, and of those found in earlier rounds.
    wanted: u32,
    found: u32,
    /// (step, number of neighbours) of each list that contains neighbours not found before.
    there: Vec<(u16, u16)>,
}

impl RecallCurve {
    fn by_centroids(
        sample: &TruthSample,
        lists: &InvertedLists,
        around: usize,
        before: Option<EarlierRounds<'_>>,
    ) -> Result<Self> {
        let table = &lists.table;
        Self::of(sample, lists, before, around + 1, |row, _, offer| {
            let (own, vector) = (table.list_of(row), lists.row(row)?);
            let mut others: Vec<(f32, u32)> = table
                .nearest_lists(own, around)
                .into_iter()
                .map(|list| (squared_distance(vector, table.centroid(list as usize)), list))
                .collect();
            others.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            // The row's own list is always the first.
            offer(own as u32, 0);
            others.into_iter().enumerate().for_each(|(i, (_, list))| offer(list, i + 1));
            Ok(())
        })
    }

    fn by_graph(sample: &TruthSample, lists: &InvertedLists, before: EarlierRounds<'_>) -> Result<Self> {
        let table = &lists.table;
        Self::of(sample, lists, Some(before), SCORE_STEPS, |row, scratch, offer| {
            let near = before.partial_graph.nearest(row).map(|(_, near)| near);
            before.adjacent.each_score(row, near, table, scratch, |list, score| offer(list, score_step(score)));
            Ok(())
        })
    }

    /// Builds the curve from the (list, step) pairs that `each(row, scratch, offer)` passes to `offer`
    /// for each sample row.
    fn of(
        sample: &TruthSample,
        lists: &InvertedLists,
        before: Option<EarlierRounds<'_>>,
        steps: usize,
        each: impl Fn(u32, &mut ScoreScratch, &mut dyn FnMut(u32, usize)) -> Result<()> + Sync,
    ) -> Result<Self> {
        let table = &lists.table;
        let pieces = sample.rows.len().div_ceil(4 * rayon::current_num_threads()).max(1);
        let curves: Vec<RecallCurve> = sample
            .rows
            .par_chunks(pieces)
            .zip(sample.neighbors.par_chunks(pieces))
            .map(|(rows, neighbors)| {
                let mut scratch = ScoreScratch::new(table.count());
                let mut curve = RecallCurve { steps: vec![[0; 3]; steps], rows: Vec::with_capacity(rows.len()) };
                for (&row, neighbors) in rows.iter().zip(neighbors) {
                    let mut been: Vec<u32> =
                        before.map_or(Vec::new(), |before| before.partial_graph.visits(row).collect());
                    been.sort_unstable();
                    let been = |list: u32| been.binary_search(&list).is_ok();
                    let mut wanted: Vec<u32> = neighbors.iter().map(|&(_, row)| table.list_of(row) as u32).collect();
                    wanted.sort_unstable();
                    let found = wanted.iter().filter(|&&list| been(list)).count() as u32;
                    let mut of = SampleRow { wanted: wanted.len() as u32, found, there: Vec::new() };
                    each(row, &mut scratch, &mut |list, step| {
                        if been(list) {
                            return;
                        }
                        let from = wanted.partition_point(|&l| l < list);
                        let there = wanted[from..].iter().take_while(|&&l| l == list).count();
                        if there > 0 {
                            of.there.push((step as u16, there as u16));
                        }
                        let more = [there as u64, table.range(list as usize).len() as u64, 1];
                        curve.steps[step].iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                    })?;
                    curve.rows.push(of);
                }
                Ok(curve)
            })
            .collect::<Result<_>>()?;
        let mut all = RecallCurve { steps: vec![[0; 3]; steps], rows: Vec::with_capacity(sample.rows.len()) };
        for curve in curves {
            for (sums, more) in all.steps.iter_mut().zip(curve.steps) {
                sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
            all.rows.extend(curve.rows);
        }
        Ok(all)
    }

    /// Returns the recall of the earlier rounds.
    fn recall(&self) -> f64 {
        self.at_step(0).recall
    }

    /// Returns the point of the curve after the first `steps` steps.
    fn at_step(&self, steps: usize) -> RecallPoint {
        self.first_enough(steps, |_| false)
    }

    /// Returns the first point that reaches the requested recall or the limit of comparisons.
    fn cheapest(&self, wanted: RecallTarget) -> RecallPoint {
        self.first_enough(self.steps.len(), |point| point.recall >= wanted.recall || point.rows >= wanted.candidates)
    }

    fn first_enough(&self, most: usize, enough: impl Fn(&RecallPoint) -> bool) -> RecallPoint {
        let of = |row: fn(&SampleRow) -> u32| self.rows.iter().map(|r| u64::from(row(r))).sum::<u64>();
        let (all, count) = (of(|row| row.wanted).max(1) as f64, self.rows.len().max(1) as f64);
        let mut sums = [of(|row| row.found), 0, 0];
        let mut point = RecallPoint { recall: sums[0] as f64 / all, ..RecallPoint::default() };
        let mut steps = self.steps.iter().enumerate().take(most);
        while !enough(&point) {
            // An empty step would change nothing.
            let Some((step, more)) = steps.find(|(_, more)| more[2] > 0) else { break };
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            let [found, rows, lists] = sums.map(|sum| sum as f64);
            point = RecallPoint { steps: step + 1, recall: found / all, rows: rows / count, lists: lists / count };
        }
        point
    }

    /// Like [`climb`](Self::climb), for a recall that is one standard error higher, since the sample's
    /// recall may overestimate the recall of all rows by about one standard error.
    fn cheapest_with_margin(&self, wanted: RecallTarget) -> RecallPoint {
        let reached = self.cheapest(wanted);
        let recalls: Vec<f64> = self
            .rows
            .iter()
            .map(|row| {
                let there = row.there.iter().filter(|there| usize::from(there.0) < reached.steps);
                let found = row.found + there.map(|there| u32::from(there.1)).sum::<u32>();
                f64::from(found) / f64::from(row.wanted.max(1))
            })
            .collect();
        let (_, interval) = crate::score::mean_and_interval(&recalls);
        let safe = self.cheapest(RecallTarget { recall: (wanted.recall + interval / 1.96).min(1.0), ..wanted });
        // If the safety margin would cost too many comparisons, the point for the requested recall is used.
        if safe.recall > wanted.recall && safe.rows < 2.0 * reached.rows + CHEAP_CANDIDATES { safe } else { reached }
    }
}

/// Returns the bytes that deciding a round takes, for a sample of `sample_rows` rows with `k` neighbours each.
pub(super) fn bytes(sample_rows: u64, k: usize, lists: usize, threads: usize) -> u64 {
    // Each thread sorts the lists around a row; the curves of all tasks are held until they are added up.
    let thread = ScoreScratch::bytes(lists) + lists as u64 * 32;
    let curves = (4 * threads as u64 + 1) * NEARBY_LISTS[NEARBY_LISTS.len() - 1].max(SCORE_STEPS) as u64 * 24;
    sample_rows * (k as u64 * 8 + 64) + threads as u64 * thread + curves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_steps_invert() {
        for score in (1..5000).chain([u64::from(u32::MAX), 1 << 40, (1 << 40) + (1 << 35) - 1, u64::MAX]) {
            let steps = score_step(score) + 1;
            assert!(score >= min_score(steps), "{score} is at least {}", min_score(steps));
            assert!(steps == 1 || score < min_score(steps - 1), "{score} is below {}", min_score(steps - 1));
        }
        assert_eq!(min_score(0), u64::MAX);
    }

    #[test]
    fn recall_curve_stops_at_the_target() {
        let row = |found, there: &[(u16, u16)]| SampleRow { wanted: 10, found, there: there.to_vec() };
        let curve = RecallCurve {
            steps: vec![[0, 0, 0], [4, 100, 2], [2, 50, 1], [0, 400, 4], [1, 40, 2]],
            rows: vec![row(6, &[(1, 2), (2, 2)]), row(5, &[(1, 2), (4, 1)])],
        };
        assert_eq!(curve.recall(), 0.55);
        let climb = |recall, candidates| curve.cheapest(RecallTarget { recall, candidates });
        assert_eq!(climb(0.5, 1e9).steps, 0);
        let point = climb(0.8, 1e9);
        assert_eq!((point.steps, point.recall, point.rows, point.lists), (3, 0.85, 75.0, 1.5));
        assert_eq!(climb(1.0, 60.0).steps, 3, "no farther than what may be compared");
        assert_eq!((climb(1.0, 1e9).steps, climb(1.0, 1e9).recall), (5, 0.9));
    }
}
