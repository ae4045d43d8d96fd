//! Kernels for products of codes, sixteen rows of a block at a time.
//!
//! Invariant: all arithmetic is in integers, so that every instruction set gives the same sums for the
//! same codes. `product` is the reference.

use super::CodeInstructions;
use crate::distances::{LANES, Masks, QUERIES};
#[cfg(target_arch = "x86_64")]
use crate::simd::{load_256, load_512, store_256, store_512};

/// A threshold that no row reaches.
pub(super) const UNREACHABLE_BAR: i32 = 1 << 30;

/// Computes the products of two vectors' codes with one or two blocks of rows.
pub(super) fn products(
    with: CodeInstructions,
    values: &[u32],
    blocks: usize,
    vectors: [&[u32]; 2],
    out: &mut [[i32; 2 * LANES]; 2],
) {
    let words = vectors[0].len();
    assert!(vectors[1].len() == words && values.len() == blocks * words * LANES && blocks <= 2, "whole blocks");
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: `with` proves that the processor has the instruction set.
        #[expect(unsafe_code, reason = "run-time dispatch")]
        unsafe {
            match (with, blocks) {
                (CodeInstructions::Vnni(_), 1) => products_vnni::<1>(values, vectors, out),
                (CodeInstructions::Vnni(_), _) => products_vnni::<2>(values, vectors, out),
                (CodeInstructions::Avx2(_), _) => products_avx2(values, vectors, out),
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    super::products_neon::products(with, values, vectors, out);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    products_plain(with, values, vectors, out);
}

/// Additional terms where rows search queries as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowBars<'a> {
    /// For each row half of its squared limit with all errors, in the scale of the thresholds.
    pub(super) lifts: &'a [i32],
    /// For each query its threshold less the threshold that it would have with a limit of 0 and no errors.
    pub(super) beyond: [i32; QUERIES],
}

/// Returns a mask of the rows of one or two blocks that reach the thresholds of eight queries, or whose
/// own limits the queries reach; None if there is no such row.
#[inline]
pub(super) fn near(
    with: CodeInstructions,
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: Option<RowBars<'_>>,
) -> Option<Masks> {
    assert!(both.is_none_or(|both| both.lifts.len() == offsets.len()), "whole blocks");
    let (words, blocks) = (queries[0].len(), offsets.len() / LANES);
    assert!(blocks == 1 || blocks == 2, "one block or two");
    assert!(offsets.len() == blocks * LANES && values.len() == blocks * words * LANES, "whole blocks");
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: `with` proves that the processor has the instruction set.
        #[expect(unsafe_code, reason = "run-time dispatch")]
        unsafe {
            const ALONE: &RowBars<'_> = &RowBars { lifts: &[], beyond: [0; QUERIES] };
            match (with, blocks, &both) {
                (CodeInstructions::Vnni(_), 1, None) => near_vnni::<1, false>(values, offsets, queries, bars, ALONE),
                (CodeInstructions::Vnni(_), _, None) => near_vnni::<2, false>(values, offsets, queries, bars, ALONE),
                (CodeInstructions::Vnni(_), 1, Some(both)) => {
                    near_vnni::<1, true>(values, offsets, queries, bars, both)
                }
                (CodeInstructions::Vnni(_), _, Some(both)) => {
                    near_vnni::<2, true>(values, offsets, queries, bars, both)
                }
                (CodeInstructions::Avx2(_), _, None) => near_avx2::<false>(values, offsets, queries, bars, ALONE),
                (CodeInstructions::Avx2(_), _, Some(both)) => near_avx2::<true>(values, offsets, queries, bars, both),
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    return super::products_neon::near(with, values, offsets, queries, bars, both);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    near_plain(with, values, offsets, queries, bars, both)
}

/// Adds the products of `Q` vectors' codes with `BLOCKS` blocks to `sums`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add_products<const BLOCKS: usize, const Q: usize>(
    values: &[u32],
    vectors: &[&[u32]; Q],
    sums: &mut [[std::arch::x86_64::__m512i; BLOCKS]; Q],
) {
    use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_set1_epi32};
    let words = vectors[0].len();
    // With lengths known to be equal, no bounds are checked in the loop.
    assert!(vectors.iter().all(|vector| vector.len() == words), "vectors of one width");
    let mut values = values.as_chunks::<LANES>().0;
    let mut blocks: [&[[u32; LANES]]; BLOCKS] = [&[]; BLOCKS];
    for block in &mut blocks {
        (*block, values) = values.split_at(words);
    }
    for word in 0..words {
        let mut rows = [_mm512_set1_epi32(0); BLOCKS];
        for (row, block) in rows.iter_mut().zip(blocks) {
            *row = load_512(&block[word]);
        }
        for (vector, sums) in vectors.iter().zip(sums.iter_mut()) {
            let vector = _mm512_set1_epi32(vector[word] as i32);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = _mm512_dpbusd_epi32(*sum, row, vector);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn products_vnni<const BLOCKS: usize>(values: &[u32], vectors: [&[u32]; 2], out: &mut [[i32; 2 * LANES]; 2]) {
    let mut sums = [[std::arch::x86_64::_mm512_setzero_si512(); BLOCKS]; 2];
    add_products(values, &vectors, &mut sums);
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out.as_chunks_mut().0.iter_mut().zip(sums) {
            store_512(out, sum);
        }
    }
}

/// Sums start with the row's offset less the query's threshold, so that the sum of a row that is not near
/// is negative.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn near_vnni<const BLOCKS: usize, const BOTH: bool>(
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: &RowBars<'_>,
) -> Option<Masks> {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_cmpge_epi32_mask, _mm512_max_epi32, _mm512_set1_epi32,
        _mm512_setzero_si512, _mm512_sub_epi32,
    };
    /// Reads a number for each row of the blocks.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn of_rows<const BLOCKS: usize>(numbers: &[i32]) -> [__m512i; BLOCKS] {
        let mut read = [_mm512_setzero_si512(); BLOCKS];
        for (read, numbers) in read.iter_mut().zip(&numbers.as_chunks::<LANES>().0[..BLOCKS]) {
            *read = load_512(numbers);
        }
        read
    }
    let zero = _mm512_setzero_si512();
    let offsets = of_rows::<BLOCKS>(offsets);
    let mut sums = [[zero; BLOCKS]; QUERIES];
    for (sums, &bar) in sums.iter_mut().zip(bars) {
        for (sum, offset) in sums.iter_mut().zip(offsets) {
            *sum = _mm512_sub_epi32(offset, _mm512_set1_epi32(bar));
        }
    }
    add_products(values, queries, &mut sums);
    if BOTH {
        let lifts = of_rows::<BLOCKS>(both.lifts);
        for (sums, &beyond) in sums.iter_mut().zip(&both.beyond) {
            let beyond = _mm512_set1_epi32(beyond);
            for (sum, lift) in sums.iter_mut().zip(lifts) {
                *sum = _mm512_max_epi32(*sum, _mm512_add_epi32(*sum, _mm512_add_epi32(lift, beyond)));
            }
        }
    }
    // Almost always no row is near, so the signs of all sums are tested together first.
    let all = sums.as_flattened().iter().fold(_mm512_set1_epi32(-1), |all, &sum| _mm512_and_si512(all, sum));
    if _mm512_cmpge_epi32_mask(all, zero) == 0 {
        return None;
    }
    Some(sums.map(|sums| {
        let masks = sums.iter().enumerate();
        masks.fold(0, |mask, (b, &sum)| mask | u32::from(_mm512_cmpge_epi32_mask(sum, zero)) << (b * LANES))
    }))
}

/// Number of rows in a register of AVX2, one word each.
#[cfg(target_arch = "x86_64")]
const HALF_LANES: usize = LANES / 2;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn products_avx2(values: &[u32], vectors: [&[u32]; 2], out: &mut [[i32; 2 * LANES]; 2]) {
    use std::arch::x86_64::{_mm256_add_epi32, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256};
    let words = vectors[0].len();
    let vectors = vectors.map(|vector| &vector[..words]);
    for (b, block) in values.as_chunks::<LANES>().0.chunks_exact(words).enumerate() {
        for half in 0..2 {
            let mut sums = [_mm256_setzero_si256(); 2];
            for word in 0..words {
                let rows = load_256(&block[word].as_chunks::<HALF_LANES>().0[half]);
                for (sum, vector) in sums.iter_mut().zip(vectors) {
                    let vector = _mm256_set1_epi32(vector[word] as i32);
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(rows, vector));
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                store_256(&mut out.as_chunks_mut::<HALF_LANES>().0[2 * b + half], sum);
            }
        }
    }
}

/// Compares four queries at a time with a block, in eight registers of sums.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn near_avx2<const BOTH: bool>(
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: &RowBars<'_>,
) -> Option<Masks> {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_madd_epi16, _mm256_max_epi32,
        _mm256_movemask_ps, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sub_epi32,
    };
    /// Reads a number for each row of a block.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_rows<T: bytemuck::Pod>(numbers: &[T; LANES]) -> [__m256i; 2] {
        let halves = numbers.as_chunks::<HALF_LANES>().0;
        [load_256(&halves[0]), load_256(&halves[1])]
    }
    const AT_ONCE: usize = 4;
    let words = queries[0].len();
    let mut masks = None;
    let mut values = values.as_chunks::<LANES>().0;
    for (block, offsets) in offsets.as_chunks::<LANES>().0.iter().enumerate() {
        let rows;
        (rows, values) = values.split_at(words);
        let [low, high] = of_rows(offsets);
        for (part, (queries, bars)) in
            queries.as_chunks::<AT_ONCE>().0.iter().zip(bars.as_chunks::<AT_ONCE>().0).enumerate()
        {
            // Padding of the last group.
            if bars[0] == UNREACHABLE_BAR {
                continue;
            }
            // With lengths known to be equal, no bounds are checked in the loop.
            assert!(queries.iter().all(|query| query.len() == words), "queries of one width");
            let mut sums = [[_mm256_setzero_si256(); 2]; AT_ONCE];
            for (sums, &bar) in sums.iter_mut().zip(bars) {
                let bar = _mm256_set1_epi32(bar);
                *sums = [_mm256_sub_epi32(low, bar), _mm256_sub_epi32(high, bar)];
            }
            for word in 0..words {
                let [low, high] = of_rows(&rows[word]);
                for (sums, query) in sums.iter_mut().zip(queries) {
                    let query = _mm256_set1_epi32(query[word] as i32);
                    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, query));
                    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, query));
                }
            }
            if BOTH {
                let lifts = of_rows(&both.lifts.as_chunks::<LANES>().0[block]);
                for (sums, &beyond) in sums.iter_mut().zip(&both.beyond[part * AT_ONCE..]) {
                    let beyond = _mm256_set1_epi32(beyond);
                    for (sum, lift) in sums.iter_mut().zip(lifts) {
                        *sum = _mm256_max_epi32(*sum, _mm256_add_epi32(*sum, _mm256_add_epi32(lift, beyond)));
                    }
                }
            }
            // Almost always no row is near, so the signs of all sums are tested together first.
            let all = sums.as_flattened().iter().fold(_mm256_set1_epi32(-1), |all, &sum| _mm256_and_si256(all, sum));
            if _mm256_movemask_ps(_mm256_castsi256_ps(all)) == 0xff {
                continue;
            }
            let masks: &mut Masks = masks.get_or_insert([0; QUERIES]);
            for (mask, sums) in masks[part * AT_ONCE..].iter_mut().zip(&sums) {
                for (h, &sum) in sums.iter().enumerate() {
                    let far = _mm256_movemask_ps(_mm256_castsi256_ps(sum)) as u32;
                    *mask |= (!far & 0xff) << (block * LANES + h * HALF_LANES);
                }
            }
        }
    }
    masks
}

/// Returns the product of a vector's codes with those of row `row` of some blocks, in plain Rust.
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn product(with: CodeInstructions, values: &[u32], row: usize, vector: &[u32]) -> i32 {
    let block = &values[row / LANES * vector.len() * LANES..][..vector.len() * LANES];
    let words = vector.iter().enumerate().map(|(word, vector)| {
        let row = block[word * LANES + row % LANES];
        match with {
            CodeInstructions::Vnni(_) => {
                let pairs = row.to_le_bytes().into_iter().zip(vector.to_le_bytes());
                pairs.map(|(x, q)| i32::from(x) * i32::from(q as i8)).sum::<i32>()
            }
            CodeInstructions::DotProduct(_) | CodeInstructions::Neon(_) => {
                let pairs = row.to_le_bytes().into_iter().zip(vector.to_le_bytes());
                pairs.map(|(x, q)| i32::from(x as i8) * i32::from(q as i8)).sum::<i32>()
            }
            CodeInstructions::Avx2(_) => {
                [0, 16].map(|at| i32::from((row >> at) as i16) * i32::from((vector >> at) as i16)).iter().sum()
            }
        }
    });
    words.sum()
}

#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn products_plain(with: CodeInstructions, values: &[u32], vectors: [&[u32]; 2], out: &mut [[i32; 2 * LANES]; 2]) {
    let rows = values.len() / vectors[0].len();
    for (out, vector) in out.iter_mut().zip(vectors) {
        (0..rows).for_each(|row| out[row] = product(with, values, row, vector));
    }
}

#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn near_plain(
    with: CodeInstructions,
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: Option<RowBars<'_>>,
) -> Option<Masks> {
    let masks = std::array::from_fn(|q| {
        let near = |row: usize| {
            let sum = offsets[row] - bars[q] + product(with, values, row, queries[q]);
            sum >= 0 || both.is_some_and(|both| sum.wrapping_add(both.lifts[row].wrapping_add(both.beyond[q])) >= 0)
        };
        (0..offsets.len()).fold(0, |mask, row| mask | u32::from(near(row)) << row)
    });
    (masks != [0; QUERIES]).then_some(masks)
}

#[cfg(test)]
mod tests {
    use super::super::{CodedRows, CodedVectors};
    use super::*;
    use crate::random::unit;

    #[test]
    fn portable_products_match_simd() {
        for (with, dim) in CodeInstructions::all().flat_map(|with| (1..50).chain([200]).map(move |dim| (with, dim))) {
            let mut values: Vec<f32> = (0..32 * dim).map(|i| unit(4, 9, i as u64) - 0.5).collect();
            // Two rows whose codes all have the largest magnitude.
            values[..dim].fill(0.6);
            values[dim..2 * dim].fill(-0.4);
            let center = vec![0.1; dim];
            let mut codes = CodedVectors::new(with, 8, dim);
            codes.slots().encode(&values[..8 * dim], &center);
            let rows = CodedRows::encode(with, Vec::new(), &values, &center);
            let (pair, blocks) = rows.pair(0);
            let queries: [&[u32]; QUERIES] = std::array::from_fn(|q| &codes.values[q * codes.words..][..codes.words]);
            let product = product(with, pair, 3, queries[0]);
            let (offsets, bars) = ([-9000; 32], [product - 9000, 20_000, 90_000, -20_000, 5, 6, UNREACHABLE_BAR, 0]);
            let found = near(with, pair, &offsets, &queries, &bars, None);
            assert_eq!(found, near_plain(with, pair, &offsets, &queries, &bars, None));
            let lifts = std::array::from_fn::<i32, 32, _>(|row| 100_000 * row as i32);
            let both = Some(RowBars {
                lifts: &lifts,
                beyond: [-1000, 0, 50_000, -200_000, 0, 9, UNREACHABLE_BAR - 2_000_000, -77_000],
            });
            let looked_back = near(with, pair, &offsets, &queries, &bars, both);
            assert_eq!(looked_back, near_plain(with, pair, &offsets, &queries, &bars, both));
            assert_ne!(looked_back, found);
            assert!(found.is_some_and(|masks| masks[0] >> 3 & 1 == 1 && masks[6] == 0), "{found:?}");
            let one = near(with, &pair[..pair.len() / 2], &offsets[..16], &queries, &bars, None);
            assert_eq!(one, near_plain(with, &pair[..pair.len() / 2], &offsets[..16], &queries, &bars, None));
            let mut dots = [[[0; 2 * LANES]; 2]; 2];
            products(with, pair, blocks, [queries[0], queries[1]], &mut dots[0]);
            products_plain(with, pair, [queries[0], queries[1]], &mut dots[1]);
            assert_eq!(dots[0], dots[1]);
        }
    }
}
