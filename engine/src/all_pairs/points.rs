//! Pairs of the map's points: sixteen points at a time against one, component by component, so that
//! the loops vectorise.
//!
//! What must hold: a row's sums run over the other rows in order, 1,024 of them in the map's own
//! precision and these sums in f64; a row's result depends only on the positions.

use rayon::prelude::*;

use super::real::{LANES, MapFloat};
use crate::Result;
use crate::observe::Progress;

/// The most components of a map.
pub const MAX_MAP_COMPONENTS: usize = 64;
/// Blocks of sixteen points that are summed in the map's precision.
const RUN: usize = 64;
/// Rows between two checks of the observer.
const ROWS: usize = 16;

/// Positions, component by component, padded to whole blocks.
pub(super) struct PointBlocks<F> {
    n: usize,
    width: usize,
    padded: usize,
    values: Vec<F>,
}

impl<F: MapFloat> PointBlocks<F> {
    /// Copies n × width positions, given row-major.
    pub(super) fn new(positions: &[f64], width: usize) -> Self {
        let n = positions.len() / width;
        let padded = n.next_multiple_of(LANES);
        let mut values = vec![F::default(); padded * width];
        for (i, row) in positions.chunks_exact(width).enumerate() {
            for (c, &x) in row.iter().enumerate() {
                values[c * padded + i] = F::of(x);
            }
        }
        PointBlocks { n, width, padded, values }
    }

    /// Returns the bytes of n positions of `width` components.
    pub(super) fn bytes(n: usize, width: usize) -> u64 {
        (n.next_multiple_of(LANES) * width * size_of::<F>()) as u64
    }

    /// Returns the squared distances from row i to a block. Padding is treated as far away.
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

    /// Returns the component columns, up to D; unused ones are empty.
    fn columns<const D: usize>(&self) -> [&[F]; D] {
        std::array::from_fn(|c| if c < self.width { &self.values[c * self.padded..][..self.padded] } else { &[] })
    }

    /// Calls `f(first row, squared distances)` for each block of sixteen rows.
    #[inline(always)]
    pub(super) fn meet(&self, i: usize, mut f: impl FnMut(usize, &[F; LANES])) {
        let columns = self.columns::<MAX_MAP_COMPONENTS>();
        for start in (0..self.padded).step_by(LANES) {
            f(start, &self.squares(&columns[..self.width], i, start));
        }
    }

    /// Computes Σ_j f_j · (z_i − z_j) into `force`, where `f` returns the sixteen factors of a
    /// block from its squared distances.
    #[inline(always)]
    pub(super) fn push(&self, i: usize, force: &mut [f64], f: impl FnMut(usize, &[F; LANES]) -> [F; LANES]) {
        // For two components, the usual case, the sums stay in registers.
        if self.width == 2 { self.push_in::<2>(i, force, f) } else { self.push_in::<MAX_MAP_COMPONENTS>(i, force, f) }
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

/// Returns sixteen elements of a row from `start` on, padded by the default value.
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

/// Calls `f(row, the row's width elements of out)` for every row.
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
