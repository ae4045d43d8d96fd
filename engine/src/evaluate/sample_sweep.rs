//! Compares sample rows with all rows of the data, which are streamed in order and never held: the
//! nearest rows of each sample row, the distances of given pairs, and the ranks of these distances.
//!
//! What must hold: the kernel's scores only exclude pairs; the exact distance decides. So the
//! result depends only on the rows, not on batches or threads.

use std::sync::Arc;

use lowland_io::Source;
use rayon::prelude::*;

use super::points::RankCounts;
use crate::batch::prepared_loader;
use crate::distances::{
    BelowCounts, LANES, PackedQueries, PackedRows, QUERIES, ScoreBars, count_below, for_each_near, for_each_tile,
    score_bar, squared_distance,
};
use crate::neighbors::{TieBreaker, TopK};
use crate::observe::Progress;
use crate::{Metric, Result};

/// Sample rows (queries) that are compared with a block of rows together.
const PANEL: usize = 64;
/// Rows that are packed together.
const BLOCK: usize = 512;
/// Rows of one portion of a slice.
const PORTION: usize = 8192;

/// Rows that can be streamed in order, several times.
pub(crate) trait RowStream {
    /// Calls `each(first, values)` with all rows, in portions.
    fn each(&self, each: &mut dyn FnMut(u64, &[f32]) -> Result<()>) -> Result<()>;
}

/// Rows in memory.
pub(crate) struct RowSlice<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) dim: usize,
}

impl RowStream for RowSlice<'_> {
    fn each(&self, each: &mut dyn FnMut(u64, &[f32]) -> Result<()>) -> Result<()> {
        let portions = self.values.chunks(PORTION * self.dim);
        portions.enumerate().try_for_each(|(i, values)| each((i * PORTION) as u64, values))
    }
}

/// Rows of a source.
pub(crate) struct SourceStream<'a> {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) metric: Metric,
    pub(crate) batch_rows: usize,
    pub(crate) progress: &'a Progress<'a>,
}

impl RowStream for SourceStream<'_> {
    fn each(&self, each: &mut dyn FnMut(u64, &[f32]) -> Result<()>) -> Result<()> {
        let row_bytes = self.source.shape().dim * self.source.dtype().bytes();
        for batch in prepared_loader(self.source.clone(), self.metric, self.batch_rows) {
            let batch = batch?;
            self.progress.traffic.read((batch.rows() * row_bytes) as u64);
            each(batch.first, batch.values())?;
            self.progress.advance(batch.rows() as u64)?;
        }
        Ok(())
    }
}

/// Pairs of a sample row, given by its position in the sample, and any row, whose distances are
/// needed.
#[derive(Debug, Default)]
pub(crate) struct RequestedPairs {
    /// The pairs (row, position), ascending.
    requested: Vec<(u32, u32)>,
    squared: Vec<f32>,
}

impl RequestedPairs {
    /// Prepares the given pairs (position, row).
    pub(crate) fn new(pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut asked: Vec<(u32, u32)> = pairs.map(|(place, row)| (row, place)).collect();
        asked.par_sort_unstable();
        asked.dedup();
        RequestedPairs { squared: vec![0.0; asked.len()], requested: asked }
    }

    /// Returns the squared distance of a pair, if the pair was given.
    pub(crate) fn squared(&self, place: u32, row: u32) -> Option<f32> {
        self.requested.binary_search(&(row, place)).ok().map(|at| self.squared[at])
    }

    /// Returns the bytes of `count` pairs.
    pub(crate) fn bytes(count: u64) -> u64 {
        count * 12
    }

    fn measure(&mut self, sample: &SampleQueries<'_>, first: u64, values: &[f32]) {
        let dim = sample.dim;
        let end = first + (values.len() / dim) as u64;
        let [from, to] = [first, end].map(|row| self.requested.partition_point(|&(at, _)| u64::from(at) < row));
        self.squared[from..to].par_iter_mut().zip(&self.requested[from..to]).for_each(|(squared, &(row, place))| {
            let other = &values[(u64::from(row) - first) as usize * dim..][..dim];
            *squared = (sample.far)(sample.vector(place as usize), other);
        });
    }
}

/// Sample rows with their vectors, packed for comparison with other rows.
pub(crate) struct SampleQueries<'a> {
    rows: &'a [u32],
    vectors: &'a [f32],
    dim: usize,
    center: Vec<f32>,
    panels: Vec<QueryPanel>,
    /// The distance of two vectors, or a number in the same order.
    far: DistanceFn,
    /// Whether the kernel's scores can exclude pairs.
    scored: bool,
}

/// A function that returns the distance of two vectors, or a number that orders pairs in the same
/// way.
pub(crate) type DistanceFn = fn(&[f32], &[f32]) -> f32;

/// Returns the distance function for vectors that were preprocessed for `metric`: the squared
/// Euclidean distance if the preprocessed vectors are Euclidean.
pub(crate) fn distance_fn(metric: Metric) -> DistanceFn {
    match metric {
        Metric::Manhattan => |a, b| component_sum(a, b, |x, y| (x - y).abs()) as f32,
        Metric::Angular => |a, b| -component_sum(a, b, |x, y| x * y) as f32,
        _ => squared_distance,
    }
}

/// Sums over the components, in eight accumulators of double precision.
fn component_sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (mut lanes, (a, a_rest), (b, b_rest)) = ([0f64; 8], a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(f64::from(x), f64::from(y));
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(&x, &y)| term(f64::from(x), f64::from(y)));
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}

/// Some sample rows, packed for the kernel.
struct QueryPanel {
    first: usize,
    queries: PackedQueries,
    half_norms: Vec<f32>,
}

impl<'a> SampleQueries<'a> {
    /// Packs the rows `rows` (ascending) with their vectors (row-major).
    pub(crate) fn new(rows: &'a [u32], vectors: &'a [f32], dim: usize) -> Self {
        // Any centre gives correct results; near the mean, rounding errors are smallest.
        let mut sums = vec![0f64; dim];
        for row in vectors.chunks_exact(dim) {
            sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let center: Vec<f32> = sums.iter().map(|sum| (sum / rows.len().max(1) as f64) as f32).collect();
        let panels = (0..rows.len()).step_by(PANEL).collect::<Vec<_>>().into_par_iter().map(|first| {
            let mut queries = PackedQueries::default();
            let count = PANEL.min(rows.len() - first);
            queries.load(vectors[first * dim..][..count * dim].chunks_exact(dim), &center);
            QueryPanel { first, half_norms: queries.half_norms(), queries }
        });
        let panels = panels.collect();
        SampleQueries { rows, vectors, dim, center, panels, far: squared_distance, scored: true }
    }

    /// Returns the same sample under a metric. If preprocessed rows are not Euclidean, every pair
    /// is computed.
    pub(crate) fn with_metric(self, metric: Metric) -> Self {
        SampleQueries { far: distance_fn(metric), scored: metric.unsupported_reason().is_none(), ..self }
    }

    /// Calls `each(query, position of the row, distance)` for each pair of a panel's query and one
    /// of the rows `first..`, except the query itself.
    fn each_pair(&self, panel: &QueryPanel, first: u64, values: &[f32], mut each: impl FnMut(usize, usize, f32)) {
        for (at, vector) in values.chunks_exact(self.dim).enumerate() {
            for i in 0..panel.queries.count() {
                if u64::from(self.rows[panel.first + i]) != first + at as u64 {
                    each(i, at, (self.far)(self.vector(panel.first + i), vector));
                }
            }
        }
    }

    pub(crate) fn vector(&self, place: usize) -> &[f32] {
        &self.vectors[place * self.dim..][..self.dim]
    }

    /// Returns the `k` nearest rows of each sample row, ascending by (squared distance, rank in `ties`),
    /// without the sample row itself. Also computes the distances of `pairs`.
    pub(crate) fn nearest(
        &self,
        k: usize,
        pairs: &mut RequestedPairs,
        ties: TieBreaker,
        rows: &dyn RowStream,
    ) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut near: Vec<(TopK, ScoreBars)> =
            self.panels.iter().map(|panel| (TopK::new(panel.queries.count(), k), ScoreBars::default())).collect();
        let mut packed = Vec::new();
        rows.each(&mut |first, values| {
            if !self.scored {
                near.par_iter_mut().zip(&self.panels).for_each(|((tops, _), panel)| {
                    self.each_pair(panel, first, values, |i, at, far| {
                        let rank = ties.rank(self.rows[panel.first + i], (first + at as u64) as u32);
                        if tops.would_keep(i, far, rank) {
                            tops.offer(i, far, rank);
                        }
                    });
                });
                pairs.measure(self, first, values);
                return Ok(());
            }
            let blocks = pack(values, &self.center, &mut packed);
            near.par_iter_mut().zip(&self.panels).for_each(|((tops, bars), panel)| {
                for (block, rows) in blocks.iter().enumerate() {
                    let (dim, farthest) = (self.dim, rows.max_half_norm());
                    let bar = |i: usize, limit: f32| {
                        score_bar(limit, panel.half_norms[i] + farthest, dim) - panel.half_norms[i]
                    };
                    bars.set((0..panel.queries.count()).map(|i| bar(i, tops.threshold(i))));
                    for_each_near(&panel.queries, rows, bars, |i, row, _| {
                        let at = block * BLOCK + row;
                        let (own, other) = (self.rows[panel.first + i], (first + at as u64) as u32);
                        let rank = ties.rank(own, other);
                        // No distance is below 0, so a row that would not enter the heap at
                        // distance 0 need not be computed.
                        if other != own && tops.would_keep(i, 0.0, rank) {
                            let vector = &values[at * dim..][..dim];
                            tops.offer(i, squared_distance(self.vector(panel.first + i), vector), rank);
                        }
                        bar(i, tops.threshold(i))
                    });
                }
            });
            pairs.measure(self, first, values);
            Ok(())
        })?;
        let of_panel = |(mut tops, _): (TopK, ScoreBars), panel: &QueryPanel| {
            tops.sort();
            let kept = |i: usize| {
                let own = self.rows[panel.first + i];
                tops.sorted(i).map(|(far, rank)| (far, ties.row(own, rank))).collect()
            };
            (0..panel.queries.count()).map(kept).collect::<Vec<Vec<_>>>()
        };
        Ok(near.into_iter().zip(&self.panels).flat_map(|(near, panel)| of_panel(near, panel)).collect())
    }

    /// Counts all rows in the sample rows' rank counts.
    pub(crate) fn count_ranks(&self, rank_counts: &mut [RankCounts], rows: &dyn RowStream) -> Result<()> {
        let mut packed = Vec::new();
        rows.each(&mut |first, values| {
            if !self.scored {
                rank_counts.par_chunks_mut(PANEL).zip(&self.panels).for_each(|(rank_counts, panel)| {
                    self.each_pair(panel, first, values, |i, _, far| rank_counts[i].add(far));
                });
                return Ok(());
            }
            let blocks = pack(values, &self.center, &mut packed);
            rank_counts.par_chunks_mut(PANEL).zip(&self.panels).for_each(|(rank_counts, panel)| {
                for (block, rows) in blocks.iter().enumerate() {
                    let vector = |at: usize| &values[(block * BLOCK + at) * self.dim..][..self.dim];
                    let block_first = first + (block * BLOCK) as u64;
                    let own = |i: usize| Some(u64::from(self.rows[panel.first + i]).checked_sub(block_first)? as usize);
                    count_ranks(&panel.queries, &panel.half_norms, rows, self.dim, rank_counts, own, |i, at| {
                        squared_distance(self.vector(panel.first + i), vector(at))
                    });
                }
            });
            Ok(())
        })
    }

    /// Returns the bytes beside the rows and their vectors: the packed queries and the `k` nearest.
    pub(crate) fn bytes(rows: usize, dim: usize, k: usize) -> u64 {
        (rows.next_multiple_of(PANEL) * (dim + 2) * 4) as u64
            + TopK::bytes(rows, k)
            + rows as u64 * (k as u64 * 8 + 24)
            + dim as u64 * 12
    }

    /// Returns the bytes of the scores that `threads` threads hold at a time while counting.
    pub(crate) fn rank_count_bytes(threads: usize) -> u64 {
        threads as u64 * rank_count_bytes(PANEL)
    }

    /// Returns the bytes of a packed batch of `rows` rows.
    pub(crate) fn batch_bytes(rows: usize, dim: usize) -> u64 {
        rows.div_ceil(BLOCK) as u64 * PackedRows::bytes(BLOCK.min(rows.next_multiple_of(32)), dim)
    }
}

/// Packs rows into blocks, reusing the blocks in `packed`.
fn pack<'p>(values: &[f32], center: &[f32], packed: &'p mut Vec<PackedRows>) -> &'p [PackedRows] {
    let dim = center.len();
    let blocks = (values.len() / dim).div_ceil(BLOCK);
    if packed.len() < blocks {
        packed.resize_with(blocks, PackedRows::default);
    }
    let packed = &mut packed[..blocks];
    packed
        .par_iter_mut()
        .zip(values.par_chunks(BLOCK * dim))
        .for_each(|(packed, rows)| packed.load(rows.chunks_exact(dim), center));
    packed
}

/// Scores of a query that are counted together.
const SCORES_PER_COUNT: usize = 16 * LANES;

/// Returns the bytes of the scores of `queries` queries while they are counted.
pub(crate) const fn rank_count_bytes(queries: usize) -> u64 {
    (queries * SCORES_PER_COUNT * 4) as u64
}

/// Counts packed rows in the rank counts of some queries. `own(query)` is the position of the query
/// itself if it is among the rows. `exact(query, row)` is computed for pairs whose score does not
/// decide a count.
pub(crate) fn count_ranks(
    queries: &PackedQueries,
    half_norms: &[f32],
    rows: &PackedRows,
    dim: usize,
    rank_counts: &mut [RankCounts],
    own: impl Fn(usize) -> Option<usize>,
    exact: impl Fn(usize, usize) -> f32,
) {
    let farthest = rows.max_half_norm();
    // For each step of each row's rank counts: the score up to which a row is certainly nearer, and the score
    // up to which it may be nearer.
    let bounds: Vec<Vec<(f32, f32)>> = rank_counts
        .iter()
        .zip(half_norms)
        .map(|(row_ranks, &half_norm)| {
            let of_step = |&step: &f32| match step > 0.0 {
                true => score_bounds(step, half_norm, farthest, dim),
                // No row is nearer than distance 0.
                false => (f32::NEG_INFINITY, f32::NEG_INFINITY),
            };
            row_ranks.steps().iter().map(of_step).collect()
        })
        .collect();
    let most = bounds.iter().map(Vec::len).max().unwrap_or(0);
    let (mut scores, mut counts) =
        (vec![0f32; rank_counts.len() * SCORES_PER_COUNT], vec![BelowCounts::default(); most]);
    let mut count = |scores: &mut [f32], first: usize| {
        let there = SCORES_PER_COUNT.min(rows.rows() - first);
        for (i, (row_ranks, bounds)) in rank_counts.iter_mut().zip(&bounds).enumerate() {
            let scores = &mut scores[i * SCORES_PER_COUNT..][..there];
            if let Some(score) = own(i).and_then(|own| scores.get_mut(own.checked_sub(first)?)) {
                *score = f32::NAN;
            }
            count_below(scores, bounds, &mut counts);
            for (step, (count, &(lower, upper))) in counts.iter().zip(bounds).enumerate() {
                row_ranks.add_rows(step, count.certain);
                if count.possible > count.certain {
                    let open = scores.iter().enumerate().filter(|&(_, &score)| score > lower && score <= upper);
                    let nearer = open.filter(|&(at, _)| exact(i, first + at) < row_ranks.steps()[step]).count();
                    row_ranks.add_rows(step, nearer as u32);
                }
            }
        }
    };
    let mut first = 0;
    for_each_tile(queries, rows, |group, block, tile| {
        let row = block * LANES;
        if row >= first + SCORES_PER_COUNT {
            count(&mut scores, first);
            first += SCORES_PER_COUNT;
        }
        for (i, tile) in (group * QUERIES..bounds.len()).zip(tile) {
            scores[i * SCORES_PER_COUNT + row - first..][..LANES].copy_from_slice(tile);
        }
    });
    if first < rows.rows() {
        count(&mut scores, first);
    }
}

/// Returns the score up to which [`squared_distance`] is certainly less than `step`, and the score
/// up to which it may be less. Both follow from the error bound of [`score_bar`].
fn score_bounds(step: f32, half_norm: f32, farthest: f32, dim: usize) -> (f32, f32) {
    // `reach` at limit 0 bounds the rounding error of a score, and its excess at limit 1 over ½
    // bounds the relative error of a distance.
    let of_score = score_bar(0.0, half_norm + farthest, dim);
    let share = 2.0 * score_bar(1.0, 0.0, dim);
    // The sums below round too.
    let slack = 4.0 * f32::EPSILON * (step + half_norm + of_score);
    (0.5 * step / share - of_score - half_norm - slack, 0.5 * step * share + of_score - half_norm + slack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    /// Whole numbers, so that many distances are equal, and a few copies.
    fn table(rows: usize, dim: usize, offset: f32) -> Vec<f32> {
        let mut values: Vec<f32> = (0..rows * dim).map(|i| (unit(5, 1, i as u64) * 6.0).floor() + offset).collect();
        let copy = values[..dim].to_vec();
        for row in [7, 300, 301] {
            values[row * dim..][..dim].copy_from_slice(&copy);
        }
        values
    }

    fn squares(values: &[f32], dim: usize, row: usize) -> Vec<f64> {
        let own = &values[row * dim..][..dim];
        let square = |other: &[f32]| own.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        values.chunks_exact(dim).map(square).collect()
    }

    #[test]
    fn ranks_are_exact_below_score_precision() {
        // Points on a line far from the centre, each one f32 step farther than the last.
        let far = |row: usize| f32::from_bits(1000f32.to_bits() + row as u32);
        let values: Vec<f32> = (0..400).flat_map(|row| [if row == 0 { 0.0 } else { far(row) }, 0.0, 1.0]).collect();
        let sample = SampleQueries::new(&[0], &values[..3], 3);
        let square = |row: usize| squared_distance(&values[..3], &values[3 * row..][..3]);
        let mut rank_counts = vec![RankCounts::new([100, 200, 300].map(square).to_vec())];
        sample.count_ranks(&mut rank_counts, &RowSlice { values: &values, dim: 3 }).expect("ranks");
        let nearer = |step: usize| (1..400).filter(|&row| square(row) < square(step)).count() as u64;
        assert_eq!(rank_counts[0].excess(0), [100, 200, 300].map(|step| nearer(step) + 1).iter().sum::<u64>());
    }

    #[test]
    fn nearest_and_ranks_match_sorting_for_any_batches() {
        for (dim, offset) in [(3, 0.0), (17, 0.0), (9, 4000.0)] {
            let values = table(1300, dim, offset);
            let rows: Vec<u32> = (0..1300).step_by(9).collect();
            let vectors: Vec<f32> =
                rows.iter().flat_map(|&row| values[row as usize * dim..][..dim].iter().copied()).collect();
            let sample = SampleQueries::new(&rows, &vectors, dim);
            let ties = TieBreaker::new(11);
            let others = |place: u32| (0..6).map(move |i| (place * 37 + i * 211 + 1) % 1300);
            let mut seen = None;
            for portion in [1300, 512, 700, 97] {
                struct PortionedRows<'a>(&'a [f32], usize, usize);
                impl RowStream for PortionedRows<'_> {
                    fn each(&self, each: &mut dyn FnMut(u64, &[f32]) -> Result<()>) -> Result<()> {
                        let mut portions = self.0.chunks(self.1 * self.2).enumerate();
                        portions.try_for_each(|(i, values)| each((i * self.1) as u64, values))
                    }
                }
                let all = PortionedRows(&values, portion, dim);
                let mut pairs =
                    RequestedPairs::new((0..rows.len() as u32).flat_map(|p| others(p).map(move |other| (p, other))));
                let near = sample.nearest(10, &mut pairs, ties, &all).expect("neighbours");
                let steps = |place: u32| others(place).filter_map(|other| pairs.squared(place, other)).collect();
                let mut rank_counts: Vec<RankCounts> =
                    (0..rows.len() as u32).map(|place| RankCounts::new(steps(place))).collect();
                sample.count_ranks(&mut rank_counts, &all).expect("ranks");
                let excess: Vec<u64> = rank_counts.iter().map(|row_ranks| row_ranks.excess(5)).collect();
                let found = (near, excess);
                if let Some(seen) = &seen {
                    assert_eq!(seen, &found, "batches of {portion}");
                    continue;
                }
                for (place, &row) in rows.iter().enumerate() {
                    let far = squares(&values, dim, row as usize);
                    let mut order: Vec<usize> = (0..1300).filter(|&other| other != row as usize).collect();
                    let rank = |other: usize| ties.rank(row, other as u32);
                    order.sort_by(|&a, &b| far[a].total_cmp(&far[b]).then(rank(a).cmp(&rank(b))));
                    let ours: Vec<usize> = found.0[place].iter().map(|&(_, other)| other as usize).collect();
                    assert_eq!(ours, order[..10], "row {row}");
                    let rank = |other: u32| 1 + order.iter().filter(|&&o| far[o] < far[other as usize]).count() as u64;
                    let expected: u64 = others(place as u32).map(|other| rank(other).saturating_sub(5)).sum();
                    assert_eq!(found.1[place], expected, "row {row}");
                }
                seen = Some(found);
            }
        }
    }
}
