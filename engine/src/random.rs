//! Counter-based random numbers: a draw is a pure function of its purpose (seed, epoch, row, place), so that
//! threads, batches and restarts cannot change it.

/// Mixes 64 bits so that each output bit depends on every input bit (the finaliser of SplitMix64; Steele, Lea,
/// Flood 2014).
#[inline(always)]
pub(crate) fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns the 64-bit draw number `counter` of the stream `(seed, stream)`.
#[inline(always)]
pub fn draw(seed: u64, stream: u64, counter: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    mix64(mix64(seed.wrapping_add(stream.wrapping_mul(GOLDEN))).wrapping_add(counter.wrapping_mul(GOLDEN)))
}

/// Returns a draw in `0..n`, by multiplication (bias below n / 2⁶⁴).
#[inline(always)]
pub(crate) fn below(seed: u64, stream: u64, counter: u64, n: u64) -> u64 {
    ((u128::from(draw(seed, stream, counter)) * u128::from(n)) >> 64) as u64
}

/// Returns a draw in [0, 1) with 24 bits.
#[inline(always)]
pub(crate) fn unit(seed: u64, stream: u64, counter: u64) -> f32 {
    (draw(seed, stream, counter) >> 40) as f32 * (1.0 / (1u64 << 24) as f32)
}

/// Mixes 32 bits (the "lowbias32" constants of C. Wellons' search). A draw of a negative sample must not cost
/// more than this.
#[inline(always)]
pub(crate) fn mix32(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Returns `wanted` rows of `0..rows`, one from each of `wanted` equal strata, in ascending order. Returns all
/// rows if `wanted ≥ rows`.
///
/// A stratified sample needs no memory besides its result, and does not depend on the order in which rows are
/// read.
pub(crate) fn stratified(seed: u64, stream: u64, rows: u64, wanted: u64) -> Vec<u64> {
    if wanted >= rows {
        return (0..rows).collect();
    }
    (0..wanted)
        .map(|i| {
            let start = (u128::from(i) * u128::from(rows) / u128::from(wanted)) as u64;
            let end = ((u128::from(i) + 1) * u128::from(rows) / u128::from(wanted)) as u64;
            start + below(seed, stream, i, end - start)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stratified_samples_are_ascending_distinct_and_in_range() {
        for (rows, wanted) in [(10, 10), (10, 3), (1_000_003, 997), (5, 9), (1, 1)] {
            let sample = stratified(7, 1, rows, wanted);
            assert_eq!(sample.len() as u64, wanted.min(rows));
            assert!(sample.windows(2).all(|w| w[0] < w[1]));
            assert!(sample.iter().all(|&r| r < rows));
        }
    }

    #[test]
    fn draws_cover_their_range_evenly() {
        let mut counts = [0u32; 10];
        for i in 0..100_000 {
            counts[below(1, 2, i, 10) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (9_500..10_500).contains(c)), "{counts:?}");
    }
}
