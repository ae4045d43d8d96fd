//! The map's pairs: sixteen points at a time against one, component by
//! component, so that the loops over them become wide instructions.
//!
//! What must hold: a row's sums run over the others in order, 1,024 of them in
//! the map's own precision and these in f64; a row depends on nothing but the positions.

use rayon::prelude::*;

use super::real::{LANES, Real};
use crate::Result;
use crate::observe::Progress;

/// The most components of a map.
pub const WIDEST: usize = 64;
/// Blocks of sixteen whose sums stay in the map's precision.
const RUN: usize = 64;
/// Rows between two looks at the observer.
const ROWS: usize = 16;

/// Positions, component by component, filled up to whole blocks.
pub(super) struct Points<F> {
    n: usize,
    width: usize,
    padded: usize,
    values: Vec<F>,
}

impl<F: Real> Points<F> {
    /// Takes n × width positions, row by row.
    pub(super) fn new(positions: &[f64], width: usize) -> Self {
        let n = positions.len() / width;
        let padded = n.next_multiple_of(LANES);
        let mut values = vec![F::default(); padded * width];
        for (i, row) in positions.chunks_exact(width).enumerate() {
            for (c, &x) in row.iter().enumerate() {
                values[c * padded + i] = F::of(x);
            }
        }
        Points { n, width, padded, values }
    }

    /// Bytes of n positions in so many bytes each.
    pub(super) fn bytes(n: usize, width: usize) -> u64 {
        (n.next_multiple_of(LANES) * width * size_of::<F>()) as u64
    }

    /// The squares of the distances from row i to a block. What fills up the last is far away.
    #[inline(always)]
    fn squares(&self, columns: &[&[F]], i: usize, start: usize) -> [F; LANES] {
        let mut squares = [F::default(); LANES];
        for column in columns {
            let own = column[i];
            let Some(others) = column[start..].first_chunk::<LANES>() else { continue };
            for lane in 0..LANES {
                let d = own - others[lane];
                squares[lane] += d * d;
            }
        }
        if start + LANES > self.n {
            squares[self.n - start..].fill(F::of(1e30));
        }
        squares
    }

    /// The components, of which there are D, or fewer; the rest is empty.
    fn columns<const D: usize>(&self) -> [&[F]; D] {
        std::array::from_fn(|c| if c < self.width { &self.values[c * self.padded..][..self.padded] } else { &[] })
    }

    /// Meets all rows: `f(first row, squared distances)` for blocks of sixteen.
    #[inline(always)]
    pub(super) fn meet(&self, i: usize, mut f: impl FnMut(usize, &[F; LANES])) {
        let columns = self.columns::<WIDEST>();
        for start in (0..self.padded).step_by(LANES) {
            f(start, &self.squares(&columns[..self.width], i, start));
        }
    }

    /// Σ_j f_j · (z_i − z_j), where f gives sixteen factors from the squared distances; written to `force`.
    #[inline(always)]
    pub(super) fn push(&self, i: usize, force: &mut [f64], f: impl FnMut(usize, &[F; LANES]) -> [F; LANES]) {
        // In the plane, where most maps lie, all stays in registers.
        if self.width == 2 { self.push_in::<2>(i, force, f) } else { self.push_in::<WIDEST>(i, force, f) }
    }

    #[inline(always)]
    fn push_in<const D: usize>(
        &self,
        i: usize,
        force: &mut [f64],
        mut f: impl FnMut(usize, &[F; LANES]) -> [F; LANES],
    ) {
        let columns = self.columns::<D>();
        let columns = &columns[..self.width.min(D)];
        let mut part = [[F::default(); LANES]; D];
        force.fill(0.0);
        for run in (0..self.padded).step_by(RUN * LANES) {
            part[..columns.len()].fill([F::default(); LANES]);
            for start in (run..(run + RUN * LANES).min(self.padded)).step_by(LANES) {
                let factors = f(start, &self.squares(columns, i, start));
                for (column, part) in columns.iter().zip(&mut part) {
                    let own = column[i];
                    let Some(others) = column[start..].first_chunk::<LANES>() else { continue };
                    for lane in 0..LANES {
                        part[lane] += factors[lane] * (own - others[lane]);
                    }
                }
            }
            for (force, part) in force.iter_mut().zip(&part) {
                *force += part.iter().map(|x| x.wide()).sum::<f64>();
            }
        }
    }
}

/// Sixteen numbers of a row's, from `start`; 0 beyond its end.
#[inline(always)]
pub(super) fn block<T: Copy + Default>(row: &[T], start: usize) -> [T; LANES] {
    match row[start..].first_chunk::<LANES>() {
        Some(block) => *block,
        None => {
            let mut block = [T::default(); LANES];
            block[..row.len() - start].copy_from_slice(&row[start..]);
            block
        }
    }
}

/// For every row: `f(row, its width places of out)`.
pub(super) fn each_row(
    out: &mut [f64],
    width: usize,
    progress: &Progress<'_>,
    f: impl Fn(usize, &mut [f64]) + Sync,
) -> Result<()> {
    out.par_chunks_mut(ROWS * width).enumerate().try_for_each(|(chunk, out)| {
        progress.check()?;
        out.chunks_exact_mut(width).enumerate().for_each(|(q, out)| f(chunk * ROWS + q, out));
        Ok(())
    })
}
