//! Rows and queries in eight bits a component, for processors that multiply
//! and add four such pairs a lane at a time (AVX-512 VNNI): a coarser sieve
//! than the kernel's, four times as fast.
//!
//! A vector, shifted by its segment's centre, is its scale (the largest
//! component over 127) times whole numbers. What that loses is measured as it
//! is encoded, as a distance: by the triangle inequality two vectors are no
//! nearer than their codes less what both lost. So the bar says for certain
//! which pairs can be skipped, and the map never hears of codes.

use super::kernel::{LANES, Masks, Piece, QUERIES, piece, piece_length};

/// Components that one lane takes at a time.
const TOGETHER: usize = 4;
/// Added to a query's codes, which the instruction takes as unsigned.
const SHIFT: i32 = 128;
/// The largest code.
const MOST: f32 = 127.0;
/// What rounding may add to a score, as a share of the query's and the row's
/// half norms: with u = ε/2 the shift to the centre errs by 4u (see
/// [`super::kernel::reach`]), the score's few operations by less than 16u.
const ROOM: f32 = 16.0 * f32::EPSILON;
/// Components up to which a dot product cannot overflow 32 bits.
const WIDEST: usize = 60_000;

/// Whether this processor has what it takes, and vectors are narrow enough.
pub(super) fn usable(dim: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        dim <= WIDEST
            && std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = dim;
        false
    }
}

/// What is known of an encoded vector beside its codes.
#[derive(Debug, Clone, Copy)]
struct Code {
    scale: f32,
    /// At least the distance between the vector and what its code stands for.
    lost: f32,
    /// ½|x|² of what the code stands for.
    half_norm: f32,
    /// The sum of the codes.
    sum: i32,
}

/// Encodes `vector` less `center` into `codes`, which may be longer: the rest becomes 0.
fn encode(vector: &[f32], center: &[f32], codes: &mut [i8]) -> Code {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") {
        // SAFETY: the processor has the features: the second includes the first.
        #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
        return unsafe { encode_avx512(vector, center, codes) };
    }
    encode_body(vector, center, codes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn encode_avx512(vector: &[f32], center: &[f32], codes: &mut [i8]) -> Code {
    encode_body(vector, center, codes)
}

#[inline(always)]
fn encode_body(vector: &[f32], center: &[f32], codes: &mut [i8]) -> Code {
    /// Added to a small number, leaves it rounded in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let dim = vector.len();
    codes[dim..].fill(0);
    let (vectors, vector_tail) = vector.as_chunks::<LANES>();
    let (centers, center_tail) = center.as_chunks::<LANES>();
    let mut most = [0f32; LANES];
    let larger = |most: &mut f32, x: f32, c: f32| {
        let away = (x - c).abs();
        *most = if away > *most { away } else { *most };
    };
    for (x, c) in vectors.iter().zip(centers) {
        for lane in 0..LANES {
            larger(&mut most[lane], x[lane], c[lane]);
        }
    }
    for ((most, &x), &c) in most.iter_mut().zip(vector_tail).zip(center_tail) {
        larger(most, x, c);
    }
    let most = most.into_iter().fold(0f32, f32::max);
    // Below this the quotient would be no number; then the code is 0, and all is lost.
    let (scale, per) = if most > 1e-30 { (most / MOST, MOST / most) } else { (0.0, 0.0) };
    let (mut lost, mut squares, mut sums) = ([0f32; LANES], [0i32; LANES], [0i32; LANES]);
    let code = |x: f32, c: f32, lost: &mut f32, square: &mut i32, sum: &mut i32| {
        let away = x - c;
        let code = (away * per + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
        let left = away - scale * code as f32;
        *lost += left * left;
        *square += code * code;
        *sum += code;
        code as i8
    };
    let (chunks, codes_tail) = codes[..dim].as_chunks_mut::<LANES>();
    for ((x, c), codes) in vectors.iter().zip(centers).zip(chunks) {
        for lane in 0..LANES {
            codes[lane] = code(x[lane], c[lane], &mut lost[lane], &mut squares[lane], &mut sums[lane]);
        }
    }
    for (lane, ((&x, &c), out)) in vector_tail.iter().zip(center_tail).zip(codes_tail).enumerate() {
        *out = code(x, c, &mut lost[lane], &mut squares[lane], &mut sums[lane]);
    }
    let square: i32 = squares.iter().sum();
    Code {
        scale,
        // A sum of so many squares may be short by a few thousandths at most, and
        // what is left of a component by two roundings of the largest.
        lost: lost.iter().sum::<f32>().sqrt() * 1.005
            + 4.0 * f32::EPSILON * most * (dim as f32).sqrt()
            + f32::MIN_POSITIVE,
        half_norm: (0.5 * f64::from(scale) * f64::from(scale) * f64::from(square)) as f32,
        sum: sums.iter().sum(),
    }
}

/// A segment's rows, in blocks of [`LANES`]: four components of each of them after the other.
#[derive(Default)]
pub struct Rows {
    dim: usize,
    rows: usize,
    pieces: Vec<Piece>,
    scales: Vec<f32>,
    /// What each row lost.
    lost: Vec<f32>,
    /// ½|x|² of each row, less half the square of what it lost, less its part
    /// of [`ROOM`]; infinite for the padding of the last block.
    half_norms: Vec<f32>,
    /// [`SHIFT`] times the sum of each row's codes.
    shifts: Vec<i32>,
}

fn words(dim: usize) -> usize {
    dim.div_ceil(TOGETHER)
}

impl Rows {
    /// Encodes `rows`, each less `center`, into `pieces` as far as they go.
    pub(super) fn encode(pieces: Vec<Piece>, rows: &[f32], center: &[f32]) -> Self {
        let dim = center.len();
        let count = rows.len() / dim;
        let mut coded = Rows { dim, rows: count, pieces, ..Rows::default() };
        let blocks = count.div_ceil(LANES);
        let (a_piece, length) = (Self::blocks_a_piece(dim), piece_length(dim));
        coded.pieces.retain(|piece| piece.len() == length);
        let wanted = blocks.div_ceil(a_piece);
        coded.pieces.reserve_exact(wanted.saturating_sub(coded.pieces.len()));
        while coded.pieces.len() < wanted {
            coded.pieces.push(piece(dim));
        }
        coded.scales = vec![0.0; blocks * LANES];
        coded.lost = vec![0.0; blocks * LANES];
        coded.half_norms = vec![f32::INFINITY; blocks * LANES];
        coded.shifts = vec![0; blocks * LANES];
        let words = words(dim);
        let mut codes = vec![0i8; words * TOGETHER];
        for (i, row) in rows.chunks_exact(dim).enumerate() {
            let code = encode(row, center, &mut codes);
            let (block, lane) = (i / LANES, i % LANES);
            let piece: &mut [u32] = bytemuck::cast_slice_mut(&mut coded.pieces[block / a_piece]);
            let block = &mut piece[block % a_piece * words * LANES..][..words * LANES];
            for (out, codes) in block[lane..].iter_mut().step_by(LANES).zip(codes.as_chunks::<TOGETHER>().0) {
                *out = u32::from_le_bytes(codes.map(|code| code as u8));
            }
            coded.scales[i] = code.scale;
            coded.lost[i] = code.lost;
            coded.half_norms[i] = code.half_norm * (1.0 - ROOM) - 0.5 * code.lost * code.lost;
            coded.shifts[i] = SHIFT * code.sum;
        }
        coded
    }

    pub(super) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    /// Bytes held by so many rows.
    pub(super) fn bytes(rows: usize, dim: usize) -> u64 {
        let pieces = rows.div_ceil(LANES).div_ceil(Self::blocks_a_piece(dim));
        (pieces * piece_length(dim) * 4 + rows.next_multiple_of(LANES) * 16) as u64
    }

    /// Blocks in a piece: an even number, at least two.
    fn blocks_a_piece(dim: usize) -> usize {
        (piece_length(dim) / (words(dim) * LANES)) & !1
    }
}

/// Queries, in groups of [`QUERIES`]: four components of each of them after the other.
#[derive(Default)]
pub(super) struct Queries {
    dim: usize,
    values: Vec<u32>,
    codes: Vec<Code>,
    /// Those of whole groups.
    scales: Vec<f32>,
}

impl Queries {
    /// Encodes `queries`, each less `center`, replacing what was there.
    pub(super) fn load<'a>(&mut self, queries: impl ExactSizeIterator<Item = &'a [f32]>, center: &[f32]) {
        self.dim = center.len();
        let (words, groups) = (words(self.dim), queries.len().div_ceil(QUERIES));
        self.values.resize(groups * words * QUERIES, 0);
        self.codes.clear();
        self.scales.clear();
        self.scales.resize(groups * QUERIES, 0.0);
        let mut codes = vec![0i8; words * TOGETHER];
        for (i, query) in queries.enumerate() {
            let code = encode(query, center, &mut codes);
            let group = &mut self.values[i / QUERIES * words * QUERIES..][..words * QUERIES];
            for (out, codes) in group[i % QUERIES..].iter_mut().step_by(QUERIES).zip(codes.as_chunks::<TOGETHER>().0) {
                *out = u32::from_le_bytes(codes.map(|code| (i32::from(code) + SHIFT) as u8));
            }
            self.scales[i] = code.scale;
            self.codes.push(code);
        }
    }

    /// The bar of query `i` where rows are to be no farther than `limit`
    /// (squared), and how much it rises with what a row lost.
    ///
    /// Half of (√limit + the query's loss + the row's)² is what the codes'
    /// distance comes to at most: ½a² + a·loss + ½loss², with a the first two.
    /// The limit itself errs by (dim/16 + 8)·ε/2, for scores there is
    /// [`ROOM`], and a row's loss has room of its own.
    fn bar(&self, i: usize, limit: f32) -> (f32, f32) {
        let Code { lost, half_norm, .. } = self.codes[i];
        let limit = limit * (1.0 + (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON);
        let away = limit.sqrt() + lost;
        let bar = 0.5 * away * away * (1.0 + 8.0 * f32::EPSILON) - half_norm * (1.0 - ROOM) + f32::MIN_POSITIVE;
        (bar, away)
    }
}

/// For each query of whole groups: the bar, and how much it rises with what a row lost.
#[derive(Default)]
pub(super) struct Bars {
    bars: Vec<f32>,
    slopes: Vec<f32>,
}

/// Looks for rows that may be no farther (squared) from query `i` than
/// `limit(i)`: `hit(i, row)` for each of them gives its next limit.
pub(super) fn for_each_near(
    queries: &Queries,
    rows: &Rows,
    bars: &mut Bars,
    limit: impl Fn(usize) -> f32,
    mut hit: impl FnMut(usize, usize) -> f32,
) {
    bars.bars.clear();
    bars.bars.resize(queries.scales.len(), f32::NEG_INFINITY);
    bars.slopes.clear();
    bars.slopes.resize(queries.scales.len(), 0.0);
    for i in 0..queries.codes.len() {
        (bars.bars[i], bars.slopes[i]) = queries.bar(i, limit(i));
    }
    let words = words(rows.dim);
    let a_piece = Rows::blocks_a_piece(rows.dim);
    let blocks = rows.half_norms.len() / LANES;
    for first in (0..blocks).step_by(2) {
        let count = (blocks - first).min(2);
        let piece: &[u32] = bytemuck::cast_slice(&rows.pieces[first / a_piece]);
        let of = first * LANES..(first + count) * LANES;
        let pair = Pair {
            values: &piece[first % a_piece * words * LANES..][..count * words * LANES],
            scales: &rows.scales[of.clone()],
            lost: &rows.lost[of.clone()],
            shifts: &rows.shifts[of.clone()],
            half_norms: &rows.half_norms[of],
        };
        let groups = queries.values.chunks_exact(words * QUERIES).zip(queries.scales.as_chunks::<QUERIES>().0);
        let heights = bars.bars.as_chunks_mut::<QUERIES>().0.iter_mut().zip(bars.slopes.as_chunks_mut::<QUERIES>().0);
        for (group, ((query, scales), (bars, slopes))) in groups.zip(heights).enumerate() {
            let masks = pair.near(query, scales, bars, slopes);
            if masks == [0; QUERIES] {
                continue;
            }
            for (place, mut mask) in masks.into_iter().enumerate() {
                while mask != 0 {
                    let row = first * LANES + mask.trailing_zeros() as usize;
                    mask &= mask - 1;
                    if row < rows.rows {
                        let query = group * QUERIES + place;
                        (bars[place], slopes[place]) = queries.bar(query, hit(query, row));
                    }
                }
            }
        }
    }
}

/// One block of rows, or two.
struct Pair<'a> {
    values: &'a [u32],
    scales: &'a [f32],
    lost: &'a [f32],
    shifts: &'a [i32],
    half_norms: &'a [f32],
}

impl Pair<'_> {
    #[inline]
    fn near(&self, query: &[u32], scales: &[f32; QUERIES], bars: &[f32; QUERIES], slopes: &[f32; QUERIES]) -> Masks {
        let (rows, words) = (self.half_norms.len(), query.len() / QUERIES);
        let blocks = rows / LANES;
        assert!(
            self.values.len() == rows * words
                && self.scales.len() == rows
                && self.shifts.len() == rows
                && self.lost.len() == rows
        );
        assert!(query.len() == words * QUERIES && (blocks == 1 || blocks == 2), "whole blocks and groups");
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `usable` asked for the features before anything was encoded; the lengths were just asserted.
            #[expect(unsafe_code, reason = "measured kernel")]
            return unsafe {
                if blocks == 1 {
                    self.near_vnni::<1>(query, scales, bars, slopes)
                } else {
                    self.near_vnni::<2>(query, scales, bars, slopes)
                }
            };
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.near_plain(query, scales, bars, slopes)
    }

    /// Eight queries against `BLOCKS` blocks.
    ///
    /// # Safety
    /// The processor has AVX-512F and VNNI; there are `BLOCKS` blocks, and all is of one dimension.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vnni")]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn near_vnni<const BLOCKS: usize>(
        &self,
        query: &[u32],
        scales: &[f32; QUERIES],
        bars: &[f32; QUERIES],
        slopes: &[f32; QUERIES],
    ) -> Masks {
        use std::arch::x86_64::{
            _CMP_LE_OQ, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fnmadd_ps, _mm512_loadu_ps,
            _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
            _mm512_sub_epi32,
        };
        let words = query.len() / QUERIES;
        let mut sums = [[_mm512_setzero_si512(); BLOCKS]; QUERIES];
        for word in 0..words {
            // SAFETY: word < words, so that every read below ends within its slice.
            unsafe {
                let rows: [_; BLOCKS] = std::array::from_fn(|b| {
                    _mm512_loadu_si512(self.values.as_ptr().add((b * words + word) * LANES).cast())
                });
                for (q, sums) in sums.iter_mut().enumerate() {
                    let q = _mm512_set1_epi32(*query.as_ptr().add(word * QUERIES + q) as i32);
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        *sum = _mm512_dpbusd_epi32(*sum, q, row);
                    }
                }
            }
        }
        let mut masks = [0; QUERIES];
        for b in 0..BLOCKS {
            // SAFETY: each slice has a number for each row of the blocks.
            let (of_rows, lost, shifts, half_norms) = unsafe {
                (
                    _mm512_loadu_ps(self.scales.as_ptr().add(b * LANES)),
                    _mm512_loadu_ps(self.lost.as_ptr().add(b * LANES)),
                    _mm512_loadu_si512(self.shifts.as_ptr().add(b * LANES).cast()),
                    _mm512_loadu_ps(self.half_norms.as_ptr().add(b * LANES)),
                )
            };
            for (q, (mask, sums)) in masks.iter_mut().zip(&sums).enumerate() {
                let dots = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[b], shifts)), of_rows);
                let scores = _mm512_fnmadd_ps(dots, _mm512_set1_ps(scales[q]), half_norms);
                let least = _mm512_fnmadd_ps(lost, _mm512_set1_ps(slopes[q]), scores);
                *mask |= u32::from(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(least, _mm512_set1_ps(bars[q]))) << (b * LANES);
            }
        }
        masks
    }

    /// The same in plain Rust.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn near_plain(
        &self,
        query: &[u32],
        scales: &[f32; QUERIES],
        bars: &[f32; QUERIES],
        slopes: &[f32; QUERIES],
    ) -> Masks {
        let words = query.len() / QUERIES;
        std::array::from_fn(|q| {
            (0..self.half_norms.len()).fold(0, |mask, row| {
                let block = &self.values[row / LANES * words * LANES..][..words * LANES];
                let dot: i32 = (0..words)
                    .flat_map(|word| {
                        let row = block[word * LANES + row % LANES].to_le_bytes();
                        let query = query[word * QUERIES + q].to_le_bytes();
                        row.into_iter().zip(query).map(|(x, q)| i32::from(x as i8) * i32::from(q))
                    })
                    .sum();
                let dot = (dot - self.shifts[row]) as f32 * self.scales[row];
                let score = (-dot).mul_add(scales[q], self.half_norms[row]);
                let least = (-self.lost[row]).mul_add(slopes[q], score);
                mask | u32::from(least <= bars[q]) << row
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::squared_distance;
    use super::*;
    use crate::random::unit;

    #[test]
    fn no_near_row_is_passed_over() {
        for (dim, scale, away) in [(1, 1.0, 0.0), (3, 1.0, 1e3), (37, 1.0, 0.0), (130, 1e6, 3e9), (64, 1e-33, 0.0)] {
            if !usable(dim) {
                return;
            }
            let rows = 70;
            let values: Vec<f32> = (0..rows * dim).map(|i| (unit(3, 9, i as u64) * 4.0 - 2.0) * scale + away).collect();
            // Some rows all but equal, some with one component that outweighs the others.
            let mut values = values;
            values.copy_within(0..dim, dim);
            values[dim] += scale * 1e-3;
            values[5 * dim] += scale * 1e4;
            let center = &values[..dim];
            let mut queries = Queries::default();
            queries.load(values.chunks_exact(dim), center);
            let coded = Rows::encode(Vec::new(), &values, center);
            for limit in [0.0, 1e-6, 0.5, 1.0, 2.0].map(|x: f32| x * scale * scale * dim as f32) {
                let mut hit = vec![false; rows * rows];
                for_each_near(
                    &queries,
                    &coded,
                    &mut Bars::default(),
                    |_| limit,
                    |query, row| {
                        hit[query * rows + row] = true;
                        limit
                    },
                );
                let mut passed = 0;
                for (q, query) in values.chunks_exact(dim).enumerate() {
                    for (r, row) in values.chunks_exact(dim).enumerate() {
                        let squared = squared_distance(query, row);
                        assert!(squared > limit || hit[q * rows + r], "{dim}: {q} and {r}: {squared} within {limit}");
                        passed += usize::from(squared > 1.2 * limit && hit[q * rows + r]);
                    }
                }
                assert!(dim < 30 || limit == 0.0 || away > 0.0 || passed < rows * rows / 4, "{dim}: {passed} in vain");
            }
        }
    }

    #[test]
    fn plain_sums_are_those_of_the_instruction() {
        let dim = 45;
        if !usable(dim) {
            return;
        }
        let values: Vec<f32> = (0..32 * dim).map(|i| unit(4, 9, i as u64) - 0.5).collect();
        let center = vec![0.1; dim];
        let mut queries = Queries::default();
        queries.load(values[..8 * dim].chunks_exact(dim), &center);
        let rows = Rows::encode(Vec::new(), &values, &center);
        let bars: [_; QUERIES] = std::array::from_fn(|i| queries.bar(i, 6.0));
        let (bars, slopes) = (bars.map(|bar| bar.0), bars.map(|bar| bar.1));
        let words = words(dim);
        let piece: &[u32] = bytemuck::cast_slice(&rows.pieces[0]);
        let pair = Pair {
            values: &piece[..2 * words * LANES],
            scales: &rows.scales,
            lost: &rows.lost,
            shifts: &rows.shifts,
            half_norms: &rows.half_norms,
        };
        let scales = queries.scales.as_chunks::<QUERIES>().0[0];
        let near = pair.near(&queries.values, &scales, &bars, &slopes);
        assert_eq!(near, pair.near_plain(&queries.values, &scales, &bars, &slopes));
        assert!(near.iter().any(|&mask| mask != 0 && mask != u32::MAX), "{near:?}");
    }
}
