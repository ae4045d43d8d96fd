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

use crate::sum::total;

/// Number of rows in a block.
pub const LANES: usize = 16;
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
    let kernel = InstructionSet::best();
    let dim = queries.dim;
    let mut tiles = [[[0f32; LANES]; QUERIES]; BLOCKS_AT_ONCE];
    // Two blocks at a time where there are two: a component of a query, once loaded, serves both blocks.
    for (pair, (values, half_norms)) in
        rows.values.iter().zip(rows.half_norms.chunks(BLOCKS_AT_ONCE * LANES)).enumerate()
    {
        let values = &values[..half_norms.len() * dim];
        for (group, query) in queries.values.chunks_exact(dim * QUERIES).enumerate() {
            kernel.dots(values, query, &mut tiles);
            for (i, (tile, half_norms)) in tiles.iter_mut().zip(half_norms.chunks_exact(LANES)).enumerate() {
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
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the feature, as just checked.
        #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
        return unsafe { count_below_avx512(scores, bounds, counts) };
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature, as just checked.
        #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
        return unsafe { count_below_avx2(scores, bounds, counts) };
    }
    count_below_body(scores, bounds, counts);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn count_below_avx512(scores: &[f32], bounds: &[(f32, f32)], counts: &mut [BelowCounts]) {
    count_below_body(scores, bounds, counts);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn count_below_avx2(scores: &[f32], bounds: &[(f32, f32)], counts: &mut [BelowCounts]) {
    count_below_body(scores, bounds, counts);
}

#[inline(always)]
fn count_below_body(scores: &[f32], bounds: &[(f32, f32)], counts: &mut [BelowCounts]) {
    let (mut least, mut most, mut numbers) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0u32; LANES]);
    let (whole, tail) = scores.as_chunks::<LANES>();
    // The unused lanes of the last vector are NaN, which is below no bound.
    let mut last = [f32::NAN; LANES];
    last[..tail.len()].copy_from_slice(tail);
    let rest = if tail.is_empty() { &[][..] } else { std::slice::from_ref(&last) };
    for scores in whole.iter().chain(rest) {
        for lane in 0..LANES {
            let score = scores[lane];
            least[lane] = if score < least[lane] { score } else { least[lane] };
            most[lane] = if score > most[lane] { score } else { most[lane] };
            numbers[lane] += u32::from(score <= f32::INFINITY);
        }
    }
    let least = least.into_iter().fold(f32::INFINITY, f32::min);
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let numbers = numbers.iter().sum();
    for (count, &(lower, upper)) in counts.iter_mut().zip(bounds) {
        // For most bounds all scores are on one side.
        *count = if upper < least {
            BelowCounts::default()
        } else if lower >= most {
            BelowCounts { certain: numbers, possible: numbers }
        } else {
            let (mut surely, mut maybe) = ([0u32; LANES], [0u32; LANES]);
            for scores in whole.iter().chain(rest) {
                for lane in 0..LANES {
                    surely[lane] += u32::from(scores[lane] <= lower);
                    maybe[lane] += u32::from(scores[lane] <= upper);
                }
            }
            BelowCounts { certain: surely.iter().sum(), possible: maybe.iter().sum() }
        };
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
    let kernel = InstructionSet::best();
    let dim = queries.dim;
    let mut scores = [[[0f32; LANES]; QUERIES]; BLOCKS_AT_ONCE];
    for (pair, (values, half_norms)) in
        rows.values.iter().zip(rows.half_norms.chunks(BLOCKS_AT_ONCE * LANES)).enumerate()
    {
        let values = &values[..half_norms.len() * dim];
        let groups = queries.values.chunks_exact(dim * QUERIES).zip(bars.0.as_chunks_mut::<QUERIES>().0);
        for (group, (query, bars)) in groups.enumerate() {
            let masks = kernel.near(values, half_norms, query, bars, &mut scores);
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

/// The instruction sets for which the dot products are implemented.
#[derive(Debug, Clone, Copy, PartialEq)]
enum InstructionSet {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl InstructionSet {
    /// Returns the best instruction set of this processor.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return InstructionSet::Avx512;
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                return InstructionSet::Avx2;
            }
        }
        InstructionSet::Portable
    }

    /// Returns which rows of one or two blocks score at most the thresholds of a group of queries. If
    /// there are any, `scores` is filled.
    #[inline]
    fn near(
        self,
        values: &[f32],
        half_norms: &[f32],
        query: &[f32],
        bars: &[f32; QUERIES],
        scores: &mut [ScoreTile; 2],
    ) -> Masks {
        #[cfg(target_arch = "x86_64")]
        if self == InstructionSet::Avx512 {
            let dim = query.len() / QUERIES;
            let blocks = half_norms.len() / LANES;
            assert!(query.len() == dim * QUERIES && values.len() == blocks * dim * LANES, "whole blocks and groups");
            // SAFETY: the processor has the feature (`best` checked), and the lengths were just asserted.
            #[expect(unsafe_code, reason = "measured kernel")]
            return unsafe {
                if blocks == 1 {
                    near_avx512::<1>(values, half_norms, query, bars, scores)
                } else {
                    near_avx512::<2>(values, half_norms, query, bars, scores)
                }
            };
        }
        #[cfg(target_arch = "x86_64")]
        if self == InstructionSet::Avx2 {
            let dim = query.len() / QUERIES;
            assert!(query.len() == dim * QUERIES && values.len() == half_norms.len() * dim, "whole blocks and groups");
            // SAFETY: the same as above.
            #[expect(unsafe_code, reason = "measured kernel")]
            return unsafe { near_avx2(values, half_norms, query, bars, scores) };
        }
        self.dots(values, query, scores);
        near_of_tiles(scores, half_norms, bars)
    }

    /// Computes the dot products of a group of queries with one or two blocks of rows.
    #[inline]
    fn dots(self, values: &[f32], query: &[f32], out: &mut [ScoreTile; 2]) {
        let dim = query.len() / QUERIES;
        let two = values.len() == 2 * dim * LANES;
        assert!(query.len() == dim * QUERIES && (two || values.len() == dim * LANES), "whole blocks and groups");
        match self {
            // SAFETY: the processor has the feature (`best` checked), and the lengths were just asserted.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "measured kernel")]
            InstructionSet::Avx512 => unsafe {
                if two { dots_avx512::<2>(values, query, out) } else { dots_avx512::<1>(values, query, out) }
            },
            // SAFETY: the same as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "measured kernel")]
            InstructionSet::Avx2 => unsafe {
                for (values, out) in values.chunks_exact(dim * LANES).zip(out) {
                    dots_avx2(values, query, out);
                }
            },
            InstructionSet::Portable => {
                for (values, out) in values.chunks_exact(dim * LANES).zip(out) {
                    dots_portable(values, query, out);
                }
            }
        }
    }
}

/// Turns dot products into scores and returns which are at most their query's threshold.
fn near_of_tiles(tiles: &mut [ScoreTile; 2], half_norms: &[f32], bars: &[f32; QUERIES]) -> Masks {
    let mut masks = [0; QUERIES];
    for (block, (tile, half_norms)) in tiles.iter_mut().zip(half_norms.as_chunks::<LANES>().0).enumerate() {
        for ((mask, scores), &bar) in masks.iter_mut().zip(tile).zip(bars) {
            for (lane, (score, &half_norm)) in scores.iter_mut().zip(half_norms).enumerate() {
                *score = half_norm - *score;
                *mask |= u32::from(*score <= bar) << (block * LANES + lane);
            }
        }
    }
    masks
}

/// Scores eight queries against `BLOCKS` blocks and compares the scores with the thresholds while the
/// scores are still in registers.
///
/// # Safety
/// The conditions of [`sums_avx512`]; `half_norms` has a value for each row of the blocks.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "measured kernel: comparing in memory took a fifth of the join")]
unsafe fn near_avx512<const BLOCKS: usize>(
    values: &[f32],
    half_norms: &[f32],
    query: &[f32],
    bars: &[f32; QUERIES],
    scores: &mut [ScoreTile; 2],
) -> Masks {
    use std::arch::x86_64::{_CMP_LE_OQ, _mm512_cmp_ps_mask, _mm512_loadu_ps, _mm512_set1_ps, _mm512_sub_ps};
    // SAFETY: the caller guarantees the conditions.
    let mut sums = unsafe { sums_avx512::<BLOCKS>(values, query) };
    let mut masks = [0; QUERIES];
    for b in 0..BLOCKS {
        // SAFETY: `half_norms` has sixteen values for each block.
        let half_norms = unsafe { _mm512_loadu_ps(half_norms.as_ptr().add(b * LANES)) };
        for ((mask, sums), &bar) in masks.iter_mut().zip(&mut sums).zip(bars) {
            sums[b] = _mm512_sub_ps(half_norms, sums[b]);
            *mask |= u32::from(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(sums[b], _mm512_set1_ps(bar))) << (b * LANES);
        }
    }
    if masks != [0; QUERIES] {
        // SAFETY: the processor has AVX-512F, as the caller guarantees.
        unsafe { store(&sums, scores) };
    }
    masks
}

/// Stores sums from registers to memory.
///
/// # Safety
/// The processor has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn store<const BLOCKS: usize>(sums: &[[std::arch::x86_64::__m512; BLOCKS]; QUERIES], out: &mut [ScoreTile; 2]) {
    for (q, sums) in sums.iter().enumerate() {
        for (b, &sum) in sums.iter().enumerate() {
            // SAFETY: each row of a tile has space for sixteen floats.
            unsafe { std::arch::x86_64::_mm512_storeu_ps(out[b][q].as_mut_ptr(), sum) };
        }
    }
}

/// Computes the dot products of eight queries with `BLOCKS` blocks.
///
/// # Safety
/// The conditions of [`sums_avx512`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn dots_avx512<const BLOCKS: usize>(values: &[f32], query: &[f32], out: &mut [ScoreTile; 2]) {
    // SAFETY: the caller guarantees the conditions.
    unsafe { store(&sums_avx512::<BLOCKS>(values, query), out) };
}

/// Computes the dot products of eight queries with `BLOCKS` blocks in 8 × `BLOCKS` registers of sums, two
/// registers of rows and one of a query's component.
///
/// # Safety
/// The processor has AVX-512F; `values` holds `BLOCKS` blocks and `query` one group of the same dimension.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
#[expect(unsafe_code, reason = "measured kernel: four times what the compiler makes of the loop")]
unsafe fn sums_avx512<const BLOCKS: usize>(
    values: &[f32],
    query: &[f32],
) -> [[std::arch::x86_64::__m512; BLOCKS]; QUERIES] {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps};
    let dim = query.len() / QUERIES;
    let mut sums = [[_mm512_setzero_ps(); BLOCKS]; QUERIES];
    for c in 0..dim {
        // SAFETY: c < dim, so every read below ends within its slice.
        unsafe {
            let rows: [_; BLOCKS] =
                std::array::from_fn(|b| _mm512_loadu_ps(values.as_ptr().add((b * dim + c) * LANES)));
            for (q, sums) in sums.iter_mut().enumerate() {
                let q = _mm512_set1_ps(*query.as_ptr().add(c * QUERIES + q));
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = _mm512_fmadd_ps(q, row, *sum);
                }
            }
        }
    }
    sums
}

/// Number of queries that AVX2 processes together.
#[cfg(target_arch = "x86_64")]
const AVX2_QUERIES: usize = 4;

/// Scores a group of queries against each block and compares the scores with the thresholds while the
/// scores are still in registers.
///
/// # Safety
/// The processor has AVX2 and FMA; `values` holds one block for each sixteen values of `half_norms`, two
/// at most, and `query` one group of the same dimension.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn near_avx2(
    values: &[f32],
    half_norms: &[f32],
    query: &[f32],
    bars: &[f32; QUERIES],
    scores: &mut [ScoreTile; 2],
) -> Masks {
    use std::arch::x86_64::{
        _CMP_LE_OQ, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps,
    };
    let dim = query.len() / QUERIES;
    let mut masks = [0; QUERIES];
    let blocks = values.chunks_exact(dim * LANES).zip(half_norms.as_chunks::<LANES>().0).zip(scores);
    for (block, ((values, half_norms), scores)) in blocks.enumerate() {
        // SAFETY: `half_norms` has sixteen values for each block.
        let (low, high) =
            unsafe { (_mm256_loadu_ps(half_norms.as_ptr()), _mm256_loadu_ps(half_norms.as_ptr().add(8))) };
        for part in 0..QUERIES / AVX2_QUERIES {
            // SAFETY: the caller guarantees the conditions.
            let sums = unsafe { sums_avx2(values, query, part) };
            for (q, sums) in sums.iter().enumerate() {
                let q = part * AVX2_QUERIES + q;
                let bar = _mm256_set1_ps(bars[q]);
                let (low, high) = (_mm256_sub_ps(low, sums[0]), _mm256_sub_ps(high, sums[1]));
                let near = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(low, bar)) as u32
                    | (_mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(high, bar)) as u32) << 8;
                if near != 0 {
                    masks[q] |= near << (block * LANES);
                    // SAFETY: each row of a tile has space for sixteen floats.
                    unsafe {
                        _mm256_storeu_ps(scores[q].as_mut_ptr(), low);
                        _mm256_storeu_ps(scores[q].as_mut_ptr().add(8), high);
                    }
                }
            }
        }
    }
    masks
}

/// Computes the dot products of a group of queries with one block.
///
/// # Safety
/// The conditions of [`sums_avx2`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn dots_avx2(values: &[f32], query: &[f32], out: &mut ScoreTile) {
    for part in 0..QUERIES / AVX2_QUERIES {
        // SAFETY: the caller guarantees the conditions.
        let sums = unsafe { sums_avx2(values, query, part) };
        for (q, sums) in sums.iter().enumerate() {
            let out = out[part * AVX2_QUERIES + q].as_mut_ptr();
            // SAFETY: each row of a tile has space for sixteen floats.
            unsafe {
                std::arch::x86_64::_mm256_storeu_ps(out, sums[0]);
                std::arch::x86_64::_mm256_storeu_ps(out.add(8), sums[1]);
            }
        }
    }
}

/// Computes the dot products of [`AVX2_QUERIES`] queries of a group with one block in eight registers of sums.
///
/// # Safety
/// The processor has AVX2 and FMA; `values` holds one block and `query` one group of the same dimension.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn sums_avx2(values: &[f32], query: &[f32], part: usize) -> [[std::arch::x86_64::__m256; 2]; AVX2_QUERIES] {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps};
    let mut sums = [[_mm256_setzero_ps(); 2]; AVX2_QUERIES];
    for c in 0..query.len() / QUERIES {
        // SAFETY: c is less than the dimension, so every read below ends within its slice.
        unsafe {
            let row = values.as_ptr().add(c * LANES);
            let (low, high) = (_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(8)));
            for (q, sums) in sums.iter_mut().enumerate() {
                let q = _mm256_set1_ps(*query.as_ptr().add(c * QUERIES + part * AVX2_QUERIES + q));
                sums[0] = _mm256_fmadd_ps(q, low, sums[0]);
                sums[1] = _mm256_fmadd_ps(q, high, sums[1]);
            }
        }
    }
    sums
}

/// Computes the same dot products in plain Rust.
fn dots_portable(values: &[f32], query: &[f32], out: &mut ScoreTile) {
    *out = [[0.0; LANES]; QUERIES];
    for (row, query) in values.as_chunks::<LANES>().0.iter().zip(query.as_chunks::<QUERIES>().0) {
        for (sums, &q) in out.iter_mut().zip(query) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum = q.mul_add(x, *sum);
            }
        }
    }
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
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the feature, as just checked.
        #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
        return unsafe { squared_distance_avx512(a, b) };
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features, as just checked.
        #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
        return unsafe { squared_distance_avx2(a, b) };
    }
    squared_distance_body(a, b)
}

/// Computes the distance with all sixteen partial sums in one register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "measured kernel")]
fn squared_distance_avx512(a: &[f32], b: &[f32]) -> f32 {
    use std::arch::x86_64::{
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
    };
    let mut sums = _mm512_setzero_ps();
    let (a_head, a_tail) = a.as_chunks::<LANES>();
    let (b_head, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a_head.iter().zip(b_head) {
        // SAFETY: both slices have sixteen values.
        let away = unsafe { _mm512_sub_ps(_mm512_loadu_ps(a.as_ptr()), _mm512_loadu_ps(b.as_ptr())) };
        sums = _mm512_fmadd_ps(away, away, sums);
    }
    let left = a_tail.len().min(b_tail.len());
    if left > 0 {
        let there = (1u16 << left) - 1;
        // SAFETY: only existing values are read. The other lanes add 0 · 0, and a sum of squares is never -0.
        let [a, b] = unsafe { [a_tail, b_tail].map(|tail| _mm512_maskz_loadu_ps(there, tail.as_ptr())) };
        let away = _mm512_sub_ps(a, b);
        sums = _mm512_fmadd_ps(away, away, sums);
    }
    let mut lanes = [0f32; LANES];
    // SAFETY: `lanes` has space for sixteen values.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
    total(lanes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn squared_distance_avx2(a: &[f32], b: &[f32]) -> f32 {
    squared_distance_body(a, b)
}

#[inline(always)]
fn squared_distance_body(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_head, a_tail) = a.as_chunks::<LANES>();
    let (b_head, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a_head.iter().zip(b_head) {
        for lane in 0..LANES {
            let d = a[lane] - b[lane];
            sums[lane] = d.mul_add(d, sums[lane]);
        }
    }
    for (lane, (a, b)) in a_tail.iter().zip(b_tail).enumerate() {
        let d = a - b;
        sums[lane] = d.mul_add(d, sums[lane]);
    }
    total(sums)
}

#[cfg(test)]
mod tests {
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
            let mut counts = [BelowCounts { certain: 7, possible: 7 }; 6];
            count_below(&scores, &bounds, &mut counts);
            assert_eq!(counts, expected, "{scores:?}");
            count_below_body(&scores, &bounds, &mut counts);
            assert_eq!(counts, expected, "{scores:?}");
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

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let values = matrix(70, 45, 2);
        let (q, p) = packed(&values, 45);
        let dim = 45;
        let (block, group) = (&p.values[0][..], &q.values[..dim * QUERIES]);
        let dots = |kernel: InstructionSet| {
            let mut tiles = [[[0f32; LANES]; QUERIES]; 2];
            kernel.dots(block, group, &mut tiles);
            tiles.map(|tile| tile.map(|sums| sums.map(f32::to_bits)))
        };
        let portable = dots(InstructionSet::Portable);
        assert_eq!(dots(InstructionSet::best()), portable);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            assert_eq!(dots(InstructionSet::Avx2), portable);
        }
        // Some scores equal their threshold exactly; padding is never near.
        let half_norms = &p.half_norms[..2 * LANES];
        let mut tiles = [[[0f32; LANES]; QUERIES]; 2];
        InstructionSet::Portable.dots(block, group, &mut tiles);
        let bars: [f32; QUERIES] = std::array::from_fn(|q| half_norms[3 * q] - tiles[3 * q / LANES][q][3 * q % LANES]);
        let (mut scores, mut others) = (tiles, tiles);
        let near = InstructionSet::Portable.near(block, half_norms, group, &bars, &mut scores);
        assert_eq!(InstructionSet::best().near(block, half_norms, group, &bars, &mut others), near);
        for (q, mask) in near.into_iter().enumerate() {
            // The score is stored wherever a row is near.
            for at in (0..2 * LANES).filter(|at| mask >> at & 1 == 1) {
                let [score, other] = [&scores, &others].map(|of| of[at / LANES][q][at % LANES].to_bits());
                assert_eq!(score, other);
            }
            assert!(mask >> (3 * q) & 1 == 1 && mask != u32::MAX, "query {q}: {mask:b}");
        }
        for length in 0..45 {
            let (a, b) = (&values[..length], &values[45..45 + length]);
            let plain = squared_distance_body(a, b).to_bits();
            assert_eq!(squared_distance(a, b).to_bits(), plain);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                // SAFETY: the processor has both features, as just checked.
                #[expect(unsafe_code, reason = "the kernel that another processor would take")]
                let narrower = unsafe { squared_distance_avx2(a, b) };
                assert_eq!(narrower.to_bits(), plain);
            }
        }
    }
}
