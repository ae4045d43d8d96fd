//! The kernels of `products.rs` for aarch64, written once over [`ByteProducts`].

use super::CodeInstructions;
use super::products::{RowBars, UNREACHABLE_BAR};
use crate::distances::{LANES, Masks, QUERIES};
use crate::simd::{ByteProducts, SumLanes, SumTask};

/// Number of queries that are compared with a block at a time: their sums occupy sixteen registers of 32.
const AT_ONCE: usize = 4;

/// Runs `task` with the instructions that `with` proves.
fn run<T: SumTask>(with: CodeInstructions, task: T) -> T::Output {
    match with {
        CodeInstructions::DotProduct(on) => on.run_sums(task),
        CodeInstructions::Neon(on) => on.run_sums(task),
    }
}

/// Adds the products of `Q` vectors' codes with a block of rows to `sums`.
#[inline(always)]
fn add_products<P: ByteProducts, const Q: usize>(
    on: P,
    rows: &[[u32; LANES]],
    vectors: &[&[u32]; Q],
    sums: &mut [SumLanes; Q],
) {
    // With lengths known to be equal, no bounds are checked in the loop.
    assert!(vectors.iter().all(|vector| vector.len() == rows.len()), "vectors of one width");
    for (word, rows) in rows.iter().enumerate() {
        for (sums, vector) in sums.iter_mut().zip(vectors) {
            *sums = on.add_products(*sums, rows, vector[word]);
        }
    }
}

pub(super) fn products(with: CodeInstructions, values: &[u32], vectors: [&[u32]; 2], out: &mut [[i32; 2 * LANES]; 2]) {
    run(with, Products { values: values.as_chunks().0, vectors, out });
}

/// Computes the products of two vectors' codes with each block.
struct Products<'a> {
    values: &'a [[u32; LANES]],
    vectors: [&'a [u32]; 2],
    out: &'a mut [[i32; 2 * LANES]; 2],
}

impl SumTask for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ByteProducts>(self, on: P) {
        for (b, rows) in self.values.chunks_exact(self.vectors[0].len()).enumerate() {
            let mut sums = [on.splat(0); 2];
            add_products(on, rows, &self.vectors, &mut sums);
            for (out, sums) in self.out.iter_mut().zip(sums) {
                sums.store(&mut out.as_chunks_mut().0[b]);
            }
        }
    }
}

pub(super) fn near(
    with: CodeInstructions,
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: Option<RowBars<'_>>,
) -> Option<Masks> {
    let (values, offsets) = (values.as_chunks().0, offsets.as_chunks().0);
    match both {
        None => run(with, Near::<false> { values, offsets, queries, bars, lifts: &[], beyond: [0; QUERIES] }),
        Some(RowBars { lifts, beyond }) => {
            run(with, Near::<true> { values, offsets, queries, bars, lifts: lifts.as_chunks().0, beyond })
        }
    }
}

/// Finds the rows that reach the thresholds of eight queries and, with `BOTH`, those whose own limits the queries reach.
struct Near<'a, const BOTH: bool> {
    values: &'a [[u32; LANES]],
    offsets: &'a [[i32; LANES]],
    queries: &'a [&'a [u32]; QUERIES],
    bars: &'a [i32; QUERIES],
    lifts: &'a [[i32; LANES]],
    beyond: [i32; QUERIES],
}

impl<const BOTH: bool> SumTask for Near<'_, BOTH> {
    type Output = Option<Masks>;

    /// Sums start with the row's offset less the query's threshold, so that the sum of a row that is not near is
    /// negative.
    #[inline(always)]
    fn run<P: ByteProducts>(self, on: P) -> Option<Masks> {
        let mut masks = None;
        for (block, (rows, offsets)) in self.values.chunks_exact(self.queries[0].len()).zip(self.offsets).enumerate() {
            let offsets = on.load(offsets);
            let groups = self.queries.as_chunks::<AT_ONCE>().0.iter().zip(self.bars.as_chunks::<AT_ONCE>().0);
            for (part, (queries, bars)) in groups.enumerate() {
                // Padding of the last group.
                if bars[0] == UNREACHABLE_BAR {
                    continue;
                }
                let mut sums = bars.map(|bar| offsets.sub(on.splat(bar)));
                add_products(on, rows, queries, &mut sums);
                if BOTH {
                    let lifts = on.load(&self.lifts[block]);
                    for (sums, &beyond) in sums.iter_mut().zip(&self.beyond[part * AT_ONCE..]) {
                        *sums = sums.max(sums.add(lifts.add(on.splat(beyond))));
                    }
                }
                // Almost always no row is near, so the signs of all sums are tested together first.
                if sums[0].and(sums[1]).and(sums[2].and(sums[3])).all_below_zero() {
                    continue;
                }
                let masks: &mut Masks = masks.get_or_insert([0; QUERIES]);
                for (mask, sums) in masks[part * AT_ONCE..].iter_mut().zip(sums) {
                    *mask |= u32::from(sums.not_below_zero()) << (block * LANES);
                }
            }
        }
        masks
    }
}
