//! Compares a group of queries with a segment by codes: computes the terms that depend on both centres,
//! and finds the pairs that cannot be skipped.

use super::products::{RowBars, UNREACHABLE_BAR, near, products};
use super::{CodeInstructions, CodeScale, CodedRows, CodedVectors, largest_component};
use crate::distances::{LANES, QUERIES};

/// The largest magnitude of a query's, row's or pair's integer term before the product is added. The
/// product is below 2^29, so sums stay within 32 bits.
const MAX_TERM: f32 = (1 << 29) as f32;
/// Number of steps for the largest component of u: 15 bits, in two codes.
const STEPS: f32 = 32_000.0;

wide! {
    /// Codes u = `center` less `from` as two integers per component, high and low, and writes the decoded
    /// vector to `away`. Returns its squared length, the quantisation error, the unit of the low
    /// integers, and the sums of the high and of the low integers.
    split = split_body(
        center: &[f32], from: &[f32], away: &mut [f32], high: &mut [i16], low: &mut [i16]
    ) -> (f32, f32, f32, [i32; 2])
}
wide! {
    /// Returns the dot product of floats and codes of eight bits.
    dot_bytes = dot_body(numbers: &[f32], codes: &[i8]) -> f32
}
wide! {
    /// Returns the dot product of floats and codes of sixteen bits.
    dot_halves = dot_body(numbers: &[f32], codes: &[i16]) -> f32
}

/// Returns the dot product of floats and the codes in a vector's words.
#[inline]
fn dot(with: CodeInstructions, numbers: &[f32], words: &[u32]) -> f32 {
    match with {
        CodeInstructions::Avx2(_) => dot_halves(with, numbers, bytemuck::cast_slice(words)),
        CodeInstructions::Vnni(_) | CodeInstructions::DotProduct(_) | CodeInstructions::Neon(_) => {
            dot_bytes(with, numbers, bytemuck::cast_slice(words))
        }
    }
}

/// A query of the group that is compared with the segment.
#[derive(Debug, Clone, Copy)]
struct CodedQuery {
    /// Index among the queries that are compared with the segment.
    number: u32,
    /// Index among the chosen queries.
    chosen: u32,
    /// Index in the codes.
    place: u32,
    /// ½|u + q̂|², and the sum of the quantisation errors of the query, of u and of the worst row.
    half_square: f32,
    lost: f32,
    /// Amount by which the kernel's product is too large, since rows are stored as unsigned.
    excess: i32,
}

/// Terms of a comparison of a query group with a segment.
#[derive(Default)]
pub(crate) struct CodedComparison {
    dim: usize,
    /// The decoded u, and its squared length.
    away: Vec<f32>,
    square: f32,
    /// Upper bound of the distance between u and the decoded u.
    lost: f32,
    /// Scale of the dot product; 0 where codes cannot decide.
    scale: f32,
    /// 1 / scale.
    per: f32,
    query_scale: f32,
    /// Bound of the rounding errors, in units of the squared distance.
    room: f32,
    /// The code of u as [high, low] components, and the same as words.
    halves: [Vec<i16>; 2],
    codes: [Vec<u32>; 2],
    /// The term that each row adds to the product.
    offsets: Vec<i32>,
    queries: Vec<CodedQuery>,
    bars: Vec<i32>,
    /// The squared distances for which the thresholds in `bars` were computed.
    limits: Vec<f32>,
    /// The dot products of two queries with all rows.
    sums: [Vec<i32>; 2],
    /// Terms for rows that search queries: see [`RowBars`].
    lifts: Vec<i32>,
    beyond: Vec<i32>,
}

impl CodedComparison {
    /// Prepares a comparison of a group, coded by `coding` around `center`, with rows coded around
    /// `rows_center`.
    pub(crate) fn prepare(&mut self, coding: &CodeScale, center: &[f32], rows: &CodedRows, rows_center: &[f32]) {
        let (with, dim) = (rows.with, center.len());
        let together = with.components_per_word();
        self.dim = dim;
        let length = with.words(dim) * together;
        self.away.resize(length, 0.0);
        self.halves.iter_mut().for_each(|codes| codes.resize(length, 0));
        let [high, low] = &mut self.halves;
        let (step, sums);
        (self.square, self.lost, step, sums) = split(with, center, rows_center, &mut self.away, high, low);
        for (words, codes) in self.codes.iter_mut().zip(&self.halves) {
            words.clear();
            words.extend(codes.chunks_exact(together).map(|codes| with.word(codes, 0)));
        }
        self.scale = coding.scale * rows.coding.scale;
        self.query_scale = coding.scale;
        let reach = self.square.sqrt() + coding.farthest + rows.coding.farthest;
        // Sums of `dim` products in lanes have a relative error of (dim/16 + 6)·ε/2; the other operations a few ε.
        self.room = (dim as f32 / 16.0 + 32.0) * f32::EPSILON * reach * reach + f32::MIN_POSITIVE;
        // Codes cannot decide where the centres are so far apart that integers would overflow, or where
        // the scale is not a normal number.
        let sane = self.scale.is_normal() && (reach * reach).is_finite() && reach * reach <= self.scale * MAX_TERM;
        if !sane {
            self.scale = 0.0;
            return;
        }
        self.per = self.scale.recip();
        let blocks = rows.half_squares.len() / LANES;
        self.offsets.resize(blocks * LANES, 0);
        let shift = rows.with.shift();
        let (of_row, of_step) = (rows.coding.scale / coding.scale, step / coding.scale);
        for first in (0..blocks).step_by(2) {
            let (values, count) = rows.pair(first);
            let mut dots = [[0i32; 2 * LANES]; 2];
            products(rows.with, values, count, [&self.codes[0], &self.codes[1]], &mut dots);
            let at = first * LANES..(first + count) * LANES;
            let rows = self.offsets[at.clone()].iter_mut().zip(&rows.half_squares[at]);
            for ((offset, half_square), (high, low)) in rows.zip(dots[0].iter().zip(&dots[1])) {
                let dot = 256.0 * (high - shift * sums[0]) as f32 + (low - shift * sums[1]) as f32;
                *offset = (of_step * dot - of_row * half_square) as i32;
            }
        }
    }

    /// Returns the threshold of a query for rows within `limit` (a squared distance).
    ///
    /// The squared distance of the decoded vectors is then at most (√limit + all quantisation errors)².
    /// The limit itself has a relative error of (dim/16 + 8)·ε/2. Rounding to integers loses one unit in
    /// an offset and one in the threshold.
    #[inline]
    fn bar(&self, query: &CodedQuery, limit: f32) -> i32 {
        let limit = limit * (1.0 + (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON);
        let within = limit.sqrt() + query.lost;
        let bar = (query.half_square - 0.5 * within * within - self.room) * self.per - 2.0;
        bar.clamp(-MAX_TERM, MAX_TERM) as i32 + query.excess
    }

    /// Returns the terms of a query of the group given to [`prepare`](CodedComparison::prepare).
    #[inline]
    fn query(&self, codes: &CodedVectors, rows: &CodedRows, chosen: usize, place: u32) -> CodedQuery {
        let known = codes.known[place as usize];
        let code = &codes.values[place as usize * codes.words..][..codes.words];
        let (dot, scale) = (dot(codes.with, &self.away, code), self.query_scale);
        let square = (self.square + scale * (2.0 * dot + scale * known.square)).max(0.0);
        let lost = self.lost + known.lost + rows.lost;
        let excess = codes.with.shift() * known.sum;
        CodedQuery { number: 0, chosen: chosen as u32, place, half_square: 0.5 * square, lost, excess }
    }

    /// Computes for each query at `chosen` among `codes` an upper bound of the squared distance to its
    /// `crowd` nearest rows; infinite if there are fewer rows.
    pub(crate) fn crowd_limits(
        &mut self,
        codes: &CodedVectors,
        chosen: &[u32],
        rows: &CodedRows,
        crowd: usize,
        far: &mut Vec<f32>,
    ) {
        far.clear();
        far.resize(chosen.len(), f32::INFINITY);
        if self.scale == 0.0 || rows.rows < crowd || crowd == 0 {
            return;
        }
        let blocks = rows.half_squares.len() / LANES;
        let mut sums = std::mem::take(&mut self.sums);
        for (two, far) in chosen.chunks(2).zip(far.chunks_mut(2)) {
            let code = |place: u32| &codes.values[place as usize * codes.words..][..codes.words];
            let vectors = [code(two[0]), code(two[two.len() - 1])];
            sums.iter_mut().for_each(Vec::clear);
            for first in (0..blocks).step_by(2) {
                let (values, count) = rows.pair(first);
                let mut dots = [[0i32; 2 * LANES]; 2];
                products(rows.with, values, count, vectors, &mut dots);
                let offsets = &self.offsets[first * LANES..(first + count) * LANES];
                for (sums, dots) in sums.iter_mut().zip(&dots) {
                    sums.extend(dots.iter().zip(offsets).map(|(dot, offset)| dot + offset));
                }
            }
            for ((&place, far), sums) in two.iter().zip(far).zip(&mut sums) {
                let query = self.query(codes, rows, 0, place);
                let (_, sum, _) = sums[..rows.rows].select_nth_unstable_by(crowd - 1, |a, b| b.cmp(a));
                // As in a threshold, one unit may be lost where an offset was rounded.
                let half = query.half_square - self.scale * (*sum - query.excess - 2) as f32 + self.room;
                let within = (2.0 * half.max(0.0)).sqrt() + query.lost;
                *far = within * within * (1.0 + (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON);
            }
        }
        self.sums = sums;
    }

    /// Finds the rows whose squared distance from the query at `chosen[i]` among `codes` may be at most
    /// `limit(i)`. Calls `hit(i, row)` for each; `hit` returns the query's new limit. With `row_limits`,
    /// a row is also passed to `hit` if the query may be within the row's own limit.
    pub(crate) fn for_each_near(
        &mut self,
        codes: &CodedVectors,
        chosen: &[u32],
        rows: &CodedRows,
        row_limits: Option<&[f32]>,
        limit: impl Fn(usize) -> f32,
        mut hit: impl FnMut(usize, usize) -> f32,
    ) {
        let most_of_rows = row_limits.map_or(0.0, |limits| limits.iter().fold(0f32, |most, &limit| most.max(limit)));
        let code = |place: u32| &codes.values[place as usize * codes.words..][..codes.words];
        let (mut queries, mut bars) = (std::mem::take(&mut self.queries), std::mem::take(&mut self.bars));
        let mut last = std::mem::take(&mut self.limits);
        queries.clear();
        bars.clear();
        last.clear();
        for (i, &place) in chosen.iter().enumerate() {
            let query = self.query(codes, rows, i, place);
            let (square, lost) = (2.0 * query.half_square, query.lost);
            // No row is nearer than the nearest point of the ball around all rows.
            let least =
                (square - 2.0 * self.room).max(0.0).sqrt() * (1.0 - 4.0 * f32::EPSILON) - rows.coding.farthest - lost;
            let most = limit(i);
            let any = most.max(most_of_rows);
            if least > 0.0 && least * least * (1.0 - (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON) > any {
                continue;
            }
            if self.scale == 0.0 {
                (0..rows.rows).for_each(|row| _ = hit(i, row));
                continue;
            }
            bars.push(self.bar(&query, most));
            last.push(most);
            queries.push(CodedQuery { number: queries.len() as u32, ..query });
        }
        bars.resize(bars.len().next_multiple_of(QUERIES), UNREACHABLE_BAR);
        if let Some(limits) = row_limits.filter(|_| !queries.is_empty()) {
            self.set_row_bars(&queries, limits, rows);
        }
        let blocks = if queries.is_empty() { 0 } else { rows.half_squares.len() / LANES };
        for first in (0..blocks).step_by(2) {
            let (values, count) = rows.pair(first);
            let offsets = &self.offsets[first * LANES..(first + count) * LANES];
            let groups = queries.chunks(QUERIES).zip(bars.as_chunks_mut::<QUERIES>().0);
            for (queries, bars) in groups {
                let group = std::array::from_fn(|q| code(queries[q.min(queries.len() - 1)].place));
                let both = row_limits.map(|_| RowBars {
                    lifts: &self.lifts[first * LANES..(first + count) * LANES],
                    beyond: std::array::from_fn(|q| match queries.get(q) {
                        Some(query) => bars[q] - self.beyond[query.number as usize],
                        None => 0,
                    }),
                });
                let Some(masks) = near(codes.with, values, offsets, &group, bars, both) else { continue };
                for ((query, bar), mut mask) in queries.iter().zip(bars).zip(masks) {
                    while mask != 0 {
                        let row = first * LANES + mask.trailing_zeros() as usize;
                        mask &= mask - 1;
                        if row < rows.rows {
                            // Most calls change nothing.
                            let (last, limit) = (&mut last[query.number as usize], hit(query.chosen as usize, row));
                            if limit != *last {
                                (*last, *bar) = (limit, self.bar(query, limit));
                            }
                        }
                    }
                }
            }
        }
        (self.queries, self.bars, self.limits) = (queries, bars, last);
    }

    /// Computes the terms for rows that search queries within `limits` (squared distances).
    ///
    /// A query may be near a row if half of the squared distance of the decoded vectors is at most half
    /// of (√limit + all quantisation errors)². The largest error of any query is used for all queries.
    fn set_row_bars(&mut self, queries: &[CodedQuery], limits: &[f32], rows: &CodedRows) {
        let lost = queries.iter().fold(0f32, |most, query| most.max(query.lost));
        self.lifts.clear();
        self.lifts.extend(limits.iter().map(|limit| {
            let within = (limit * (1.0 + (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON)).sqrt() + lost;
            // Up to two units are lost where this value and an offset are rounded.
            (0.5 * within * within / self.scale + 3.0).min(MAX_TERM) as i32
        }));
        // Padding rows have no limit of their own.
        self.lifts.resize(rows.half_squares.len(), 0);
        self.beyond.clear();
        self.beyond.extend(queries.iter().map(|query| {
            let bar = (query.half_square - self.room) / self.scale - 2.0;
            bar.clamp(-MAX_TERM, MAX_TERM) as i32 + query.excess
        }));
    }
}

#[inline(always)]
fn split_body(
    center: &[f32],
    from: &[f32],
    away: &mut [f32],
    high: &mut [i16],
    low: &mut [i16],
) -> (f32, f32, f32, [i32; 2]) {
    let most = largest_component(center, from);
    let (step, per) = if most > 1e-30 { (most / STEPS, STEPS / most) } else { (0.0, 0.0) };
    let (mut square, mut lost, mut sums) = (0f32, 0f32, [0i32; 2]);
    for ((((away, high), low), &c), &f) in away.iter_mut().zip(high).zip(low).zip(center).zip(from) {
        let exact = c - f;
        let code = (exact * per) as i32;
        *away = code as f32 * step;
        *high = ((code + 128) >> 8) as i16;
        *low = (code - 256 * i32::from(*high)) as i16;
        sums[0] += i32::from(*high);
        sums[1] += i32::from(*low);
        square += *away * *away;
        lost += (exact - *away) * (exact - *away);
    }
    let dim = center.len() as f32;
    // As for the quantisation error of a vector; a sum of `dim` squares in sequence has a relative error of dim·ε/2.
    let lost = lost.sqrt() * (1.005 + dim * f32::EPSILON) + 4.0 * f32::EPSILON * most * dim.sqrt() + f32::MIN_POSITIVE;
    (square, lost, step, sums)
}

#[inline(always)]
fn dot_body<T: Copy + Into<f32>>(numbers: &[f32], codes: &[T]) -> f32 {
    let mut sums = [0f32; LANES];
    let (numbers, numbers_tail) = numbers.as_chunks::<LANES>();
    let (codes, codes_tail) = codes.as_chunks::<LANES>();
    for (x, c) in numbers.iter().zip(codes) {
        for lane in 0..LANES {
            sums[lane] = x[lane].mul_add(c[lane].into(), sums[lane]);
        }
    }
    for (lane, (&x, &c)) in numbers_tail.iter().zip(codes_tail).enumerate() {
        sums[lane] = x.mul_add(c.into(), sums[lane]);
    }
    crate::sum::total(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distances::squared_distance;
    use crate::random::unit;

    /// Checks that no row within `limit` is skipped, in either direction; returns the mean number of rows
    /// that were passed although they are much farther.
    fn check_nothing_is_skipped(
        with: CodeInstructions,
        queries: &[f32],
        center: &[f32],
        rows: &[f32],
        rows_center: &[f32],
        limit: f32,
    ) -> usize {
        let dim = center.len();
        let (count, row_count) = (queries.len() / dim, rows.len() / dim);
        let mut codes = CodedVectors::new(with, count, dim);
        let coding = codes.slots().encode(queries, center);
        let coded = CodedRows::encode(with, Vec::new(), rows, rows_center);
        let mut between = CodedComparison::default();
        between.prepare(&coding, center, &coded, rows_center);
        let mut hit = vec![false; count * row_count];
        let chosen: Vec<u32> = (0..count as u32).rev().collect();
        between.for_each_near(
            &codes,
            &chosen,
            &coded,
            None,
            |_| limit,
            |query, row| {
                hit[(count - 1 - query) * row_count + row] = true;
                limit
            },
        );
        let mut vain = 0;
        for (q, query) in queries.chunks_exact(dim).enumerate() {
            for (r, row) in rows.chunks_exact(dim).enumerate() {
                let squared = squared_distance(query, row);
                let hit = hit[q * row_count + r];
                assert!(squared > limit || hit, "{dim}: {q} and {r}: {squared} within {limit}");
                vain += usize::from(squared > 1.2 * limit && hit);
            }
        }
        // The same for rows that search queries; the queries search nothing.
        let mut hit = vec![false; count * row_count];
        let limits: Vec<f32> = (0..row_count).map(|row| if row % 3 == 0 { 0.0 } else { limit }).collect();
        between.for_each_near(
            &codes,
            &chosen,
            &coded,
            Some(&limits),
            |_| 0.0,
            |query, row| {
                hit[(count - 1 - query) * row_count + row] = true;
                0.0
            },
        );
        for (q, query) in queries.chunks_exact(dim).enumerate() {
            for (r, row) in rows.chunks_exact(dim).enumerate() {
                let squared = squared_distance(query, row);
                let hit = hit[q * row_count + r];
                assert!(squared > limits[r] || hit, "{dim}: row {r} looks for {q}: {squared} within {}", limits[r]);
                vain += usize::from(squared > 1.2 * limit && hit);
            }
        }
        vain / 2
    }

    #[test]
    fn coded_filter_keeps_every_near_row() {
        let cases = [
            (1, 1.0, 0.0, 1.0),
            (3, 1.0, 1e3, 0.0),
            (37, 1.0, 0.0, 3.0),
            (130, 1e6, 3e9, 1.0),
            (64, 1e-33, 0.0, 1.0),
            (200, 1.0, 5.0, 300.0),
            (40, 1.0, 0.0, 1e6),
        ];
        for (dim, scale, away, apart) in cases {
            let (rows, queries) = (70, 45);
            let some = |stream, count: usize, at: f32| -> Vec<f32> {
                (0..count * dim).map(|i| (unit(3, stream, i as u64) * 4.0 - 2.0) * scale + at).collect()
            };
            let mut values = some(9, rows, away);
            // Two almost equal rows, and one with a component that outweighs the others.
            values.copy_within(0..dim, dim);
            values[dim] += scale * 1e-3;
            values[5 * dim] += scale * 30.0;
            // Queries in another place with a smaller spread, and copies of some rows.
            let mut asked = some(10, queries, away + apart * scale);
            asked.iter_mut().for_each(|x| *x = away + apart * scale + (*x - away - apart * scale) * 0.1);
            asked[..20 * dim].copy_from_slice(&values[..20 * dim]);
            let center: Vec<f32> = asked[30 * dim..31 * dim].to_vec();
            let rows_center: Vec<f32> = values[3 * dim..4 * dim].to_vec();
            for limit in [0.0, 1e-6, 0.5, 1.0, 2.0, 4.0].map(|x: f32| x * scale * scale * dim as f32) {
                for with in CodeInstructions::all() {
                    let vain = check_nothing_is_skipped(with, &asked, &center, &values, &rows_center, limit);
                    let plain = dim >= 30 && limit > 0.0 && away == 0.0 && apart < 10.0;
                    assert!(!plain || vain < rows * queries / 3, "{with:?}, {dim}: {vain} in vain at {limit}");
                    check_nothing_is_skipped(with, &values, &rows_center, &values, &rows_center, limit);
                }
            }
        }
    }
}
