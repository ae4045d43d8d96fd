//! The matrix-product kernel of every distance search: scores eight queries against sixteen rows at a time.
//!
//! Rows are packed in blocks of [`LANES`], component after component, so that one load brings the same
//! component of all rows of a block. Queries are packed in groups of [`QUERIES`]. The score `½|x|² − q·x`
//! orders rows `x` as the distance to the query `q` does. A common centre is subtracted from both sides
//! first, so that data far from the origin does not lose its differences to rounding.
//!
//! Invariant: a score is one chain of fused multiply-adds over the components in order, and therefore a pure function
//! of the query and the row. Neither the position in a tile nor the instruction set changes a bit.
//!
//! The nearest of three rows to one query:
//!
//! ```
//! use lowland_engine::distances::{PackedQueries, PackedRows, for_each_tile};
//!
//! let (rows, query) = ([[0.0f32, 0.0], [3.0, 4.0], [1.0, 1.0]], [0.9f32, 1.2]);
//! let (mut packed, mut queries, center) = (PackedRows::default(), PackedQueries::default(), [0.0; 2]);
//! packed.load(rows.iter().map(|row| row.as_slice()), &center);
//! queries.load([query.as_slice()].into_iter(), &center);
//! let mut nearest = 0;
//! for_each_tile(&queries, &packed, |_group, _block, scores| {
//!     nearest = (0..rows.len()).min_by(|&a, &b| scores[0][a].total_cmp(&scores[0][b])).unwrap();
//! });
//! assert_eq!(nearest, 2);
//! ```

use crate::simd::{InstructionSet, Lanes, Simd, SimdTask};
use crate::sum::total;

/// Number of rows in a block.
pub const LANES: usize = crate::simd::LANES;
/// Number of queries in a group.
pub const QUERIES: usize = 8;

/// Scores of a group of queries (outer) against a block of rows (inner).
pub type ScoreTile = [[f32; LANES]; QUERIES];

/// Number of blocks that the kernel processes together.
const BLOCKS_AT_ONCE: usize = 2;

/// Memory for a pair of blocks.
pub type PackedPiece = Box<[f32]>;

/// Returns the number of floats in a piece.
pub(crate) fn piece_length(dim: usize) -> usize {
    BLOCKS_AT_ONCE * dim * LANES
}

/// Returns a piece filled with zeros.
pub(crate) fn empty_piece(dim: usize) -> PackedPiece {
    vec![0.0; piece_length(dim)].into_boxed_slice()
}

/// Rows packed for the kernel.
#[derive(Default)]
pub struct PackedRows {
    dim: usize,
    rows: usize,
    /// Pieces of two blocks each; a block has dim × LANES values. All pieces have the same size, so that
    /// a piece freed by one table can be reused by the next.
    values: Vec<PackedPiece>,
    /// ½|x|² of each row; infinite for the padding of the last block.
    half_norms: Vec<f32>,
}

impl PackedRows {
    /// Packs `rows`, each less `center`, replacing the previous contents.
    pub fn load<'a>(&mut self, rows: impl ExactSizeIterator<Item = &'a [f32]>, center: &[f32]) {
        let dim = center.len();
        self.dim = dim;
        self.rows = rows.len();
        let blocks = self.rows.div_ceil(LANES);
        self.values.retain(|had| had.len() == piece_length(dim));
        // Exact capacity: growth by doubling would exceed the memory budget.
        self.values.reserve_exact(blocks.div_ceil(BLOCKS_AT_ONCE).saturating_sub(self.values.len()));
        self.values.resize_with(blocks.div_ceil(BLOCKS_AT_ONCE), || empty_piece(dim));
        if let Some(last) = self.values.last_mut() {
            last.fill(0.0);
        }
        self.half_norms.clear();
        self.half_norms.reserve_exact(blocks * LANES);
        self.half_norms.resize(blocks * LANES, f32::INFINITY);
        for (i, row) in rows.enumerate() {
            let (block, lane) = (i / LANES, i % LANES);
            let values =
                &mut self.values[block / BLOCKS_AT_ONCE][block % BLOCKS_AT_ONCE * dim * LANES..][..dim * LANES];
            let mut norm = 0f64;
            for ((out, &x), &c) in values.chunks_exact_mut(LANES).zip(row).zip(center) {
                let x = x - c;
                out[lane] = x;
                norm += f64::from(x) * f64::from(x);
            }
            self.half_norms[i] = (norm * 0.5) as f32;
        }
    }

    /// Returns an empty table that will reuse the memory of `pieces`.
    pub fn with_pieces(pieces: Vec<PackedPiece>) -> Self {
        PackedRows { values: pieces, ..PackedRows::default() }
    }

    /// Returns the memory for reuse.
    pub fn into_pieces(self) -> Vec<PackedPiece> {
        self.values
    }

    /// Returns the number of pieces that `rows` rows are packed into.
    pub fn pieces(rows: usize) -> usize {
        rows.div_ceil(BLOCKS_AT_ONCE * LANES)
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the largest ½|x|² of a row, after the shift by the centre.
    pub fn max_half_norm(&self) -> f32 {
        self.half_norms[..self.rows].iter().copied().fold(0f32, f32::max)
    }

    /// Returns the bytes held.
    pub fn held(&self) -> u64 {
        Self::bytes(self.rows, self.dim)
    }

    /// Returns the bytes held by `rows` packed rows of `dim` components.
    pub fn bytes(rows: usize, dim: usize) -> u64 {
        let blocks = rows.div_ceil(LANES);
        ((blocks.next_multiple_of(BLOCKS_AT_ONCE) * dim + blocks) * LANES * 4) as u64
    }
}

/// Queries packed for the kernel in groups; the last group is padded with zeros.
#[derive(Default)]
pub struct PackedQueries {
    dim: usize,
    queries: usize,
    /// Group after group: dim × QUERIES values.
    values: Vec<f32>,
}

impl PackedQueries {
    /// Packs `queries`, each less `center`, replacing the previous contents.
    pub fn load<'a>(&mut self, queries: impl ExactSizeIterator<Item = &'a [f32]>, center: &[f32]) {
        let dim = center.len();
        self.dim = dim;
        self.queries = queries.len();
        self.values.clear();
        self.values.resize(self.groups() * dim * QUERIES, 0.0);
        let mut queries = queries;
        for values in self.values.chunks_exact_mut(dim * QUERIES) {
            // A whole group is written component by component, eight queries side by side.
            let group: [&[f32]; QUERIES] = std::array::from_fn(|_| queries.next().unwrap_or(center));
            for (c, (out, &center)) in values.as_chunks_mut::<QUERIES>().0.iter_mut().zip(center).enumerate() {
                *out = std::array::from_fn(|place| group[place][c] - center);
            }
        }
    }

    /// Returns ½|q|² of each query, after the shift by the centre.
    pub fn half_norms(&self) -> Vec<f32> {
        let mut norms = vec![0f64; self.groups() * QUERIES];
        for (values, norms) in self.values.chunks_exact(self.dim * QUERIES).zip(norms.chunks_exact_mut(QUERIES)) {
            for values in values.chunks_exact(QUERIES) {
                for (norm, &x) in norms.iter_mut().zip(values) {
                    *norm += f64::from(x) * f64::from(x);
                }
            }
        }
        norms.into_iter().map(|norm| (norm * 0.5) as f32).collect()
    }

    /// Returns the components of each group in turn.
    fn components(&self) -> &[[f32; QUERIES]] {
        self.values.as_chunks().0
    }

    /// Returns the number of queries.
    pub fn count(&self) -> usize {
        self.queries
    }

    /// Returns the number of groups.
    pub fn groups(&self) -> usize {
        self.queries.div_ceil(QUERIES)
    }
}

/// Scores all queries against all rows and calls `each(group, block, tile)` for each tile.
///
/// Padding queries have scores too; padding rows score infinity.
pub fn for_each_tile(queries: &PackedQueries, rows: &PackedRows, mut each: impl FnMut(usize, usize, &ScoreTile)) {
    debug_assert_eq!(queries.dim, rows.dim, "queries and rows of one width");
    let on = InstructionSet::best();
    let dim = queries.dim;
    let mut tiles = [[[0f32; LANES]; QUERIES]; BLOCKS_AT_ONCE];
    // Two blocks at a time where there are two: a component of a query, once loaded, serves both blocks.
    for (pair, (values, half_norms)) in
        rows.values.iter().zip(rows.half_norms.chunks(BLOCKS_AT_ONCE * LANES)).enumerate()
    {
        let (half_norms, _) = half_norms.as_chunks::<LANES>();
        let values = &values.as_chunks::<LANES>().0[..half_norms.len() * dim];
        for (group, query) in queries.components().chunks_exact(dim).enumerate() {
            on.run(Dots { values, query, out: &mut tiles });
            for (i, (tile, half_norms)) in tiles.iter_mut().zip(half_norms).enumerate() {
                for scores in tile.iter_mut() {
                    for (score, &half_norm) in scores.iter_mut().zip(half_norms) {
                        *score = half_norm - *score;
                    }
                }
                each(group, BLOCKS_AT_ONCE * pair + i, tile);
            }
        }
    }
}

/// Numbers of scores that are at most a lower bound and at most an upper bound.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BelowCounts {
    /// Number of scores that are at most the lower bound.
    pub certain: u32,
    /// Number of scores that are at most the upper bound.
    pub possible: u32,
}

/// Counts the `scores` that are at most each of the (lower, upper) `bounds`. The order of scores does not
/// matter; NaN is never counted.
pub fn count_below(scores: &[f32], bounds: &[(f32, f32)], counts: &mut [BelowCounts]) {
    InstructionSet::best().run(CountBelow { scores, bounds, counts });
}

struct CountBelow<'a> {
    scores: &'a [f32],
    bounds: &'a [(f32, f32)],
    counts: &'a mut [BelowCounts],
}

impl SimdTask for CountBelow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, on: S) {
        let (whole, tail) = self.scores.as_chunks::<LANES>();
        // The unused lanes of the last vector are NaN, which is below no bound.
        let mut last = [f32::NAN; LANES];
        last[..tail.len()].copy_from_slice(tail);
        let rest = if tail.is_empty() { &[][..] } else { std::slice::from_ref(&last) };
        let infinity = on.splat(f32::INFINITY);
        let (mut least, mut most, mut numbers) = (infinity, on.splat(f32::NEG_INFINITY), 0);
        for scores in whole.iter().chain(rest) {
            let scores = on.load(scores);
            (least, most) = (scores.min(least), scores.max(most));
            numbers += scores.at_most(infinity).count_ones();
        }
        let least = least.to_array().into_iter().fold(f32::INFINITY, f32::min);
        let most = most.to_array().into_iter().fold(f32::NEG_INFINITY, f32::max);
        for (count, &(lower, upper)) in self.counts.iter_mut().zip(self.bounds) {
            // For most bounds all scores are on one side.
            *count = if upper < least {
                BelowCounts::default()
            } else if lower >= most {
                BelowCounts { certain: numbers, possible: numbers }
            } else {
                let (lower, upper) = (on.splat(lower), on.splat(upper));
                let (mut certain, mut possible) = (0, 0);
                for scores in whole.iter().chain(rest) {
                    let scores = on.load(scores);
                    certain += scores.at_most(lower).count_ones();
                    possible += scores.at_most(upper).count_ones();
                }
                BelowCounts { certain, possible }
            };
        }
    }
}

/// Finds the rows whose score is at most their query's threshold. Calls `hit(query, row, score)` for
/// each, with indices of packed queries and rows; `hit` returns the query's new threshold. A lower
/// threshold takes effect with the next tile at the latest, so `hit` may be called for too many rows,
/// never for too few.
pub fn for_each_near(
    queries: &PackedQueries,
    rows: &PackedRows,
    bars: &mut ScoreBars,
    mut hit: impl FnMut(usize, usize, f32) -> f32,
) {
    debug_assert_eq!(queries.dim, rows.dim, "queries and rows of one width");
    let on = InstructionSet::best();
    let dim = queries.dim;
    let mut scores = [[[0f32; LANES]; QUERIES]; BLOCKS_AT_ONCE];
    for (pair, (values, half_norms)) in
        rows.values.iter().zip(rows.half_norms.chunks(BLOCKS_AT_ONCE * LANES)).enumerate()
    {
        let (half_norms, _) = half_norms.as_chunks::<LANES>();
        let values = &values.as_chunks::<LANES>().0[..half_norms.len() * dim];
        let groups = queries.components().chunks_exact(dim).zip(bars.0.as_chunks_mut::<QUERIES>().0);
        for (group, (query, bars)) in groups.enumerate() {
            let masks = on.run(Near { values, half_norms, query, bars, scores: &mut scores });
            // Almost always no row is near, so one comparison tests all masks first.
            if masks == [0; QUERIES] {
                continue;
            }
            for ((place, mut mask), bar) in masks.into_iter().enumerate().zip(bars) {
                while mask != 0 {
                    let at = mask.trailing_zeros() as usize;
                    let row = BLOCKS_AT_ONCE * LANES * pair + at;
                    mask &= mask - 1;
                    if row < rows.rows {
                        *bar = hit(group * QUERIES + place, row, scores[at / LANES][place][at % LANES]);
                    }
                }
            }
        }
    }
}

/// The threshold of each packed query: the largest score at which a row is still a candidate.
#[derive(Debug, Default)]
pub struct ScoreBars(Vec<f32>);

impl ScoreBars {
    /// Sets the thresholds of all queries; the padding of the last group gets a threshold that no score meets.
    pub fn set(&mut self, bars: impl Iterator<Item = f32>) {
        self.0.clear();
        self.0.extend(bars);
        self.0.resize(self.0.len().next_multiple_of(QUERIES), f32::NEG_INFINITY);
    }
}

/// For each query of a group a bit mask of the near rows of up to two blocks; the first block in the low half.
pub(crate) type Masks = [u32; QUERIES];

/// Scores a group of queries against one or two blocks of rows. Returns, for each query, which rows score at most its
/// threshold. If there are any, their scores are stored.
struct Near<'a> {
    /// The components of each block in turn.
    values: &'a [[f32; LANES]],
    /// ½|x|² of the rows of each block.
    half_norms: &'a [[f32; LANES]],
    /// The components of the queries.
    query: &'a [[f32; QUERIES]],
    bars: &'a [f32; QUERIES],
    scores: &'a mut [ScoreTile; BLOCKS_AT_ONCE],
}

impl SimdTask for Near<'_> {
    type Output = Masks;

    #[inline(always)]
    fn run<S: Simd>(self, on: S) -> Masks {
        let Near { values, half_norms, query, bars, scores } = self;
        if fits::<S, BLOCKS_AT_ONCE, QUERIES>() {
            return match half_norms.len() {
                1 => near::<S, 1, QUERIES>(on, values, half_norms, query, 0, bars, scores),
                _ => near::<S, BLOCKS_AT_ONCE, QUERIES>(on, values, half_norms, query, 0, bars, scores),
            };
        }
        let mut masks = [0; QUERIES];
        let mut rest = values;
        for (block, (half_norms, scores)) in half_norms.chunks(1).zip(scores.chunks_mut(1)).enumerate() {
            let values;
            (values, rest) = rest.split_at(query.len());
            for first in [0, FEW_QUERIES] {
                let near = near::<S, 1, FEW_QUERIES>(on, values, half_norms, query, first, bars, scores);
                for (mask, near) in masks[first..].iter_mut().zip(near) {
                    *mask |= near << (block * LANES);
                }
            }
        }
        masks
    }
}

/// Computes the dot products of a group of queries with one or two blocks of rows.
struct Dots<'a> {
    /// The components of each block in turn.
    values: &'a [[f32; LANES]],
    /// The components of the queries.
    query: &'a [[f32; QUERIES]],
    out: &'a mut [ScoreTile; BLOCKS_AT_ONCE],
}

impl SimdTask for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, on: S) {
        let Dots { values, query, out } = self;
        if fits::<S, BLOCKS_AT_ONCE, QUERIES>() {
            if values.len() == query.len() {
                store(&sums::<S, 1, QUERIES>(on, values, query, 0), 0, out);
            } else {
                store(&sums::<S, BLOCKS_AT_ONCE, QUERIES>(on, values, query, 0), 0, out);
            }
            return;
        }
        for (values, out) in values.chunks_exact(query.len()).zip(out.chunks_exact_mut(1)) {
            for first in [0, FEW_QUERIES] {
                store(&sums::<S, 1, FEW_QUERIES>(on, values, query, first), first, out);
            }
        }
    }
}

/// Number of queries that an instruction set with few registers processes together, with one block.
const FEW_QUERIES: usize = QUERIES / 2;

/// Whether the registers hold the sums of `Q` queries with `BLOCKS` blocks, and beside them a vector of each block and
/// of a query.
const fn fits<S: Simd, const BLOCKS: usize, const Q: usize>() -> bool {
    S::VECTORS > Q * BLOCKS + BLOCKS
}

/// Scores `Q` queries, from query `first` on, against `BLOCKS` blocks and compares the scores with the thresholds while
/// the scores are still in registers: comparing in memory took a fifth of the join.
#[inline(always)]
fn near<S: Simd, const BLOCKS: usize, const Q: usize>(
    on: S,
    values: &[[f32; LANES]],
    half_norms: &[[f32; LANES]],
    query: &[[f32; QUERIES]],
    first: usize,
    bars: &[f32; QUERIES],
    scores: &mut [ScoreTile],
) -> [u32; Q] {
    let mut sums = sums::<S, BLOCKS, Q>(on, values, query, first);
    let mut masks = [0; Q];
    for (b, half_norms) in half_norms[..BLOCKS].iter().enumerate() {
        let half_norms = on.load(half_norms);
        for ((mask, sums), &bar) in masks.iter_mut().zip(&mut sums).zip(&bars[first..][..Q]) {
            sums[b] = half_norms.sub(sums[b]);
            *mask |= u32::from(sums[b].at_most(on.splat(bar))) << (b * LANES);
        }
    }
    if masks != [0; Q] {
        store(&sums, first, scores);
    }
    masks
}

/// Stores the sums of the queries from `first` on.
#[inline(always)]
fn store<L: Lanes, const BLOCKS: usize, const Q: usize>(sums: &[[L; BLOCKS]; Q], first: usize, out: &mut [ScoreTile]) {
    for (b, out) in out[..BLOCKS].iter_mut().enumerate() {
        for (out, sums) in out[first..][..Q].iter_mut().zip(sums) {
            sums[b].store(out);
        }
    }
}

/// Computes the dot products of `Q` queries, from query `first` on, with `BLOCKS` blocks in Q × `BLOCKS` vectors of
/// sums, `BLOCKS` vectors of rows and one of a query's component: four times as fast as what the compiler makes of the
/// plain loop.
#[inline(always)]
fn sums<S: Simd, const BLOCKS: usize, const Q: usize>(
    on: S,
    values: &[[f32; LANES]],
    query: &[[f32; QUERIES]],
    first: usize,
) -> [[S::Lanes; BLOCKS]; Q] {
    let dim = query.len();
    assert!(values.len() == BLOCKS * dim && first + Q <= QUERIES, "whole blocks and groups");
    let blocks: [&[[f32; LANES]]; BLOCKS] = std::array::from_fn(|b| &values[b * dim..][..dim]);
    let mut sums = [[on.splat(0.0); BLOCKS]; Q];
    // By index, which is below every length here: no bounds are checked in the loop.
    for c in 0..dim {
        let mut rows = [on.splat(0.0); BLOCKS];
        for (row, block) in rows.iter_mut().zip(blocks) {
            *row = on.load(&block[c]);
        }
        for (sums, &q) in sums.iter_mut().zip(&query[c][first..first + Q]) {
            let q = on.splat(q);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = q.mul_add(row, *sum);
            }
        }
    }
    sums
}

/// Returns an upper bound of score + ½|q|² over all rows whose [`squared_distance`] is at most `limit`:
/// half of `limit`, plus a bound of the rounding errors. `half_norms` is ½|q|² of the query plus the
/// largest ½|x|² of a row.
///
/// With u = ε/2 and r² = 2 · `half_norms`: the shift to the centre errs by at most 4u·r²/2 (each component by u of
/// itself), a chain of `dim` fused multiply-adds by dim·u·r²/2 (Higham 2002, §3.1), half norms and the two sums by
/// 4u·r²/2. The computed distance is within (dim/16 + 8)·u of the true distance, relatively. The constants below are
/// larger than these bounds; `MIN_POSITIVE` covers underflow.
pub fn score_bar(limit: f32, half_norms: f32, dim: usize) -> f32 {
    let of_score = (dim as f32 + 16.0) * 0.5 * f32::EPSILON * half_norms;
    let of_distance = (dim as f32 / 16.0 + 16.0) * f32::EPSILON;
    0.5 * limit * (1.0 + of_distance) + of_score + f32::MIN_POSITIVE
}

/// Returns the squared Euclidean distance of two rows, summed in a fixed order: sixteen partial sums,
/// then their pairwise total.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    InstructionSet::best().run(SquaredDistance { a, b })
}

struct SquaredDistance<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl SimdTask for SquaredDistance<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, on: S) -> f32 {
        let mut sums = on.splat(0.0);
        let (a_head, a_tail) = self.a.as_chunks::<LANES>();
        let (b_head, b_tail) = self.b.as_chunks::<LANES>();
        for (a, b) in a_head.iter().zip(b_head) {
            let away = on.load(a).sub(on.load(b));
            sums = away.mul_add(away, sums);
        }
        let left = a_tail.len().min(b_tail.len());
        if left > 0 {
            // The other lanes add 0 · 0, and a sum of squares is never -0.
            let away = on.load_first(&a_tail[..left]).sub(on.load_first(&b_tail[..left]));
            sums = away.mul_add(away, sums);
        }
        total(sums.to_array())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::unit;

    fn matrix(rows: usize, dim: usize, stream: u64) -> Vec<f32> {
        (0..rows * dim).map(|i| unit(3, stream, i as u64) * 4.0 - 2.0).collect()
    }

    fn packed(values: &[f32], dim: usize) -> (PackedQueries, PackedRows) {
        let center = vec![0.25; dim];
        let (mut q, mut p) = (PackedQueries::default(), PackedRows::default());
        q.load(values.chunks_exact(dim), &center);
        p.load(values.chunks_exact(dim), &center);
        (q, p)
    }

    #[test]
    fn scores_order_rows_as_distances_do() {
        for (rows, dim) in [(1, 1), (17, 3), (40, 16), (33, 37)] {
            let values = matrix(rows, dim, 1);
            let (q, p) = packed(&values, dim);
            let row = |i: usize| values[i * dim..][..dim].iter().map(|&x| f64::from(x) - 0.25).collect::<Vec<_>>();
            for_each_tile(&q, &p, |group, block, tile| {
                for (i, scores) in tile.iter().enumerate() {
                    for (j, &score) in scores.iter().enumerate() {
                        let (i, j) = (group * QUERIES + i, block * LANES + j);
                        if i < rows && j < rows {
                            let (a, b) = (row(i), row(j));
                            let truth: f64 = b.iter().map(|x| x * x * 0.5).sum::<f64>()
                                - a.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>();
                            assert!((f64::from(score) - truth).abs() < 1e-4, "{score} {truth}");
                        } else if j >= rows {
                            assert_eq!(score, f32::INFINITY);
                        }
                    }
                }
            });
        }
    }

    #[test]
    fn scores_are_counted_below_their_bounds() {
        for length in [0, 1, 15, 16, 17, 64, 250] {
            let mut scores: Vec<f32> = (0..length).map(|i| (unit(3, 9, i) * 20.0).floor()).collect();
            scores.iter_mut().skip(3).step_by(7).for_each(|score| *score = f32::NAN);
            scores.iter_mut().skip(5).step_by(11).for_each(|score| *score = f32::INFINITY);
            let bounds = [(3.0, 5.0), (-9.0, -1.0), (30.0, 31.0), (7.0, 7.0), (f32::NEG_INFINITY, 19.0), (2.0, 1e9)];
            let at_most = |bound: f32| scores.iter().filter(|&&score| score <= bound).count() as u32;
            let expected =
                bounds.map(|(lower, upper)| BelowCounts { certain: at_most(lower), possible: at_most(upper) });
            for on in InstructionSet::all() {
                let mut counts = [BelowCounts { certain: 7, possible: 7 }; 6];
                on.run(CountBelow { scores: &scores, bounds: &bounds, counts: &mut counts });
                assert_eq!(counts, expected, "{on:?} {scores:?}");
            }
        }
    }

    #[test]
    fn score_bar_keeps_every_near_row() {
        // Far from the centre scores are coarse, and the threshold must allow for the error.
        for (dim, away) in [(1, 0.0), (3, 1e3), (37, 1e2), (130, 3e4), (8, 1e-18)] {
            let scale = if away < 1e-9 { 1e-18 } else { 1.0 };
            let values: Vec<f32> = matrix(64, dim, 7).into_iter().map(|x| x * scale + away).collect();
            let (q, p) = packed(&values, dim);
            let half_norms = q.half_norms();
            for_each_tile(&q, &p, |group, block, tile| {
                for (i, scores) in tile.iter().enumerate() {
                    for (j, &score) in scores.iter().enumerate() {
                        let (i, j) = (group * QUERIES + i, block * LANES + j);
                        let squared = squared_distance(&values[i * dim..][..dim], &values[j * dim..][..dim]);
                        let bar = score_bar(squared, half_norms[i] + p.max_half_norm(), dim) - half_norms[i];
                        assert!(score <= bar, "{dim} × {away}: {score} above {bar}");
                    }
                }
            });
        }
    }

    /// Checks every kernel on every instruction set against plain chains of fused multiply-adds: `values` are up
    /// to 32 rows of `dim` components, `bars` the thresholds of the first eight of them as queries.
    fn check_bits(values: &[f32], dim: usize, bars: &[f32; QUERIES]) {
        let (q, p) = packed(values, dim);
        let (half_norms, _) = p.half_norms.as_chunks::<LANES>();
        let blocks = &p.values[0].as_chunks::<LANES>().0[..half_norms.len() * dim];
        let query = &q.components()[..dim];
        let shifted = |row: usize, c: usize| values.get(row * dim + c).map_or(0.0, |x| x - 0.25);
        let dot = |q: usize, row: usize| (0..dim).fold(0f32, |sum, c| shifted(q, c).mul_add(shifted(row, c), sum));
        for on in InstructionSet::all() {
            let mut tiles = [[[0f32; LANES]; QUERIES]; 2];
            on.run(Dots { values: blocks, query, out: &mut tiles });
            let mut scores = [[[f32::NAN; LANES]; QUERIES]; 2];
            let masks = on.run(Near { values: blocks, half_norms, query, bars, scores: &mut scores });
            for (q, row) in (0..QUERIES).flat_map(|q| (0..half_norms.len() * LANES).map(move |row| (q, row))) {
                let [sum, found] = [dot(q, row), tiles[row / LANES][q][row % LANES]].map(f32::to_bits);
                assert_eq!(sum, found, "{on:?}: dimension {dim}, query {q}, row {row}");
                let score = p.half_norms[row] - dot(q, row);
                assert_eq!(masks[q] >> row & 1 == 1, score <= bars[q], "{on:?}: dimension {dim}, query {q}, row {row}");
                // The score is stored wherever a row is near.
                let stored = scores[row / LANES][q][row % LANES];
                assert!(masks[q] >> row & 1 == 0 || stored.to_bits() == score.to_bits(), "{on:?}: {stored}, {score}");
            }
            assert!(masks.iter().all(|mask| u64::from(*mask) < 1 << (half_norms.len() * LANES)));
            let (a, b) = (&values[..dim], &values[values.len() - dim..]);
            let mut sums = [0f32; LANES];
            for (c, (a, b)) in a.iter().zip(b).enumerate() {
                sums[c % LANES] = (a - b).mul_add(a - b, sums[c % LANES]);
            }
            let (found, expected) = (on.run(SquaredDistance { a, b }), total(sums));
            assert_eq!(found.to_bits(), expected.to_bits(), "{on:?}: dimension {dim}");
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_same_bits(
            rows in 1usize..=32, dim in 1usize..70, seed in any::<u64>(), scale in -60i32..60, bars in any::<[i8; QUERIES]>(),
        ) {
            let scale = (scale as f32).exp2();
            let values: Vec<f32> = (0..rows * dim).map(|i| (unit(seed, 7, i as u64) - 0.5) * scale).collect();
            check_bits(&values, dim, &bars.map(|bar| f32::from(bar) / 64.0 * scale * scale));
        }
    }

    #[test]
    fn scores_that_equal_their_threshold_are_near() {
        let values = matrix(32, 45, 2);
        let (_, p) = packed(&values, 45);
        let score = |q: usize, row: usize| {
            let shifted = |row: usize, c: usize| values[row * 45 + c] - 0.25;
            p.half_norms[row] - (0..45).fold(0f32, |sum, c| shifted(q, c).mul_add(shifted(row, c), sum))
        };
        check_bits(&values, 45, &std::array::from_fn(|q| score(q, 3 * q)));
        check_bits(&values, 45, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, f32::MIN, 1.0]);
        check_bits(&values[..16 * 45], 45, &std::array::from_fn(|q| score(q, q)));
    }

    #[test]
    fn distances_to_what_is_not_a_number_are_not_numbers() {
        for on in InstructionSet::all() {
            for (length, at) in (1..40).flat_map(|length| (0..length).map(move |at| (length, at))) {
                let a = vec![1.0; length];
                let mut b = a.clone();
                assert_eq!(on.run(SquaredDistance { a: &a, b: &b }).to_bits(), 0, "{on:?}: {length}");
                b[at] = f32::INFINITY;
                assert_eq!(on.run(SquaredDistance { a: &a, b: &b }), f32::INFINITY, "{on:?}: {length}, {at}");
                b[at] = f32::NAN;
                assert!(on.run(SquaredDistance { a: &a, b: &b }).is_nan(), "{on:?}: {length}, {at}");
            }
        }
    }
}
