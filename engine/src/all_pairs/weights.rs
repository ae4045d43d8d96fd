//! P, the affinities of the input: in closed form, dense, or sparse.
//!
//! A closed form computes P_ij from the cost C_ij and two numbers for each row, its duals, whenever
//! P_ij is needed. What must hold: reading P gives the same bits each time, whether or not some
//! rows are held.

use rayon::prelude::*;

use super::costs::{Costs, SelfCost};
use super::real::{sum, wide};
use crate::observe::Progress;
use crate::{Error, Result};

/// The two numbers that an affinity computes for a row. Each affinity documents their meaning.
pub type Dual = [f64; 2];

/// Computes P_ij from C_ij and the duals of both rows.
pub trait ClosedForm: Send + Sync + 'static {
    /// Whether the weight is unchanged if the rows are exchanged.
    const SYMMETRIC: bool;
    /// Returns P_ij; 0 for an infinite cost.
    fn weight(&self, cost: f64, own: Dual, other: Dual) -> f64;
}

/// A closed form, evaluated for a whole row or column.
trait ClosedFormRows: Send + Sync {
    fn symmetric(&self) -> bool;
    fn row(&self, costs: &[f32], own: Dual, others: &[Dual], out: &mut [f32]);
    fn column(&self, costs: &[f32], own: Dual, others: &[Dual], out: &mut [f32]);
}

impl<F: ClosedForm> ClosedFormRows for F {
    fn symmetric(&self) -> bool {
        F::SYMMETRIC
    }
    fn row(&self, costs: &[f32], own: Dual, others: &[Dual], out: &mut [f32]) {
        wide(|| {
            for ((out, &cost), &other) in out.iter_mut().zip(costs).zip(others) {
                *out = self.weight(f64::from(cost), own, other) as f32;
            }
        });
    }
    fn column(&self, costs: &[f32], own: Dual, others: &[Dual], out: &mut [f32]) {
        wide(|| {
            for ((out, &cost), &other) in out.iter_mut().zip(costs).zip(others) {
                *out = self.weight(f64::from(cost), other, own) as f32;
            }
        });
    }
}

/// P in closed form, over rows in memory.
pub struct ClosedFormWeights<'a> {
    costs: &'a Costs<'a>,
    itself: SelfCost,
    form: Box<dyn ClosedFormRows>,
    duals: Vec<Dual>,
    /// The first rows of P, and of its transpose if P is not symmetric.
    held: Vec<f32>,
    held_rows: usize,
}

/// P as n × n numbers.
#[derive(Debug, Clone)]
pub struct DenseWeights {
    n: usize,
    values: Vec<f32>,
    symmetric: bool,
}

/// P as its non-zero entries, by rows, and the same of its transpose.
#[derive(Debug, Clone)]
pub struct SparseWeights {
    rows: SparseEntries,
    columns: SparseEntries,
}

/// The entries of a sparse matrix. Row i has the entries `offsets[i]..offsets[i + 1]`.
#[derive(Debug, Clone, Default)]
pub(super) struct SparseEntries {
    pub(super) offsets: Vec<usize>,
    pub(super) columns: Vec<u32>,
    pub(super) values: Vec<f32>,
}

/// P, in one of three forms.
pub enum Weights<'a> {
    /// In closed form.
    Tiled(ClosedFormWeights<'a>),
    /// As a dense matrix.
    Dense(DenseWeights),
    /// As a sparse matrix.
    Sparse(SparseWeights),
}

/// One row of P, and the same row of its transpose.
pub(super) struct WeightRow<'t> {
    pub(super) i: usize,
    /// P_ij.
    pub(super) from: &'t [f32],
    /// P_ji.
    pub(super) to: &'t [f32],
}

impl<'a> ClosedFormWeights<'a> {
    pub(super) fn new<F: ClosedForm>(costs: &'a Costs<'a>, itself: SelfCost, form: F, duals: Vec<Dual>) -> Self {
        debug_assert_eq!(duals.len(), costs.len());
        ClosedFormWeights { costs, itself, form: Box::new(form), duals, held: Vec::new(), held_rows: 0 }
    }

    /// Returns the duals of each row.
    pub fn duals(&self) -> &[Dual] {
        &self.duals
    }

    /// Returns how many numbers a held row takes.
    fn width(&self) -> usize {
        self.costs.len() * if self.form.symmetric() { 1 } else { 2 }
    }

    /// Holds as many rows of P as fit in `bytes`, so that they are not recomputed.
    pub(super) fn hold(&mut self, bytes: u64, progress: &Progress<'_>) -> Result<()> {
        let (n, width) = (self.costs.len(), self.width());
        let rows = (bytes / (4 * width as u64)).min(n as u64) as usize;
        // Whole tiles, so that the rows that are not held begin with a tile.
        let rows = if rows < n { rows / 4 * 4 } else { n };
        let mut held = vec![0f32; rows * width];
        self.costs.each_in(0..rows, self.itself, progress, &mut held, width, |met, out| {
            let own = self.duals[met.i];
            let (from, to) = out.split_at_mut(n);
            self.form.row(met.costs, own, &self.duals, from);
            if !to.is_empty() {
                self.form.column(met.costs, own, &self.duals, to);
            }
        })?;
        (self.held, self.held_rows) = (held, rows);
        Ok(())
    }

    fn each<T: Send>(
        &self,
        progress: &Progress<'_>,
        out: &mut [T],
        width: usize,
        f: impl Fn(WeightRow<'_>, &mut [T]) + Sync,
    ) -> Result<()> {
        let n = self.costs.len();
        let (held, rest) = out.split_at_mut(self.held_rows * width);
        held.par_chunks_mut(width).zip(self.held.par_chunks(self.width())).enumerate().try_for_each(
            |(i, (out, held))| {
                progress.check()?;
                let (from, to) = held.split_at(n);
                f(WeightRow { i, from, to: if to.is_empty() { from } else { to } }, out);
                Ok::<(), Error>(())
            },
        )?;
        if self.held_rows == n {
            return Ok(());
        }
        self.costs.each_in(self.held_rows..n, self.itself, progress, rest, width, |met, out| {
            let own = self.duals[met.i];
            let (from, to) = met.spare.split_at_mut(n);
            self.form.row(met.costs, own, &self.duals, from);
            if self.form.symmetric() {
                f(WeightRow { i: met.i, from, to: from }, out);
            } else {
                self.form.column(met.costs, own, &self.duals, to);
                f(WeightRow { i: met.i, from, to }, out);
            }
        })
    }
}

impl DenseWeights {
    /// Returns a given matrix: n × n numbers, row-major, finite and not negative.
    ///
    /// # Errors
    /// [`Error::Data`] names the invalid entry or shape.
    pub fn new(values: Vec<f32>) -> Result<Self> {
        let n = values.len().isqrt();
        if n * n != values.len() || n == 0 {
            let what = format!("an affinity of {} numbers is not square; give n × n of them", values.len());
            return Err(Error::Data { what });
        }
        if let Some(at) = values.iter().position(|&x| !(x >= 0.0 && x.is_finite())) {
            return Err(wrong_entry(at / n, at % n, values[at]));
        }
        let symmetric = (0..n).all(|i| (0..i).all(|j| values[i * n + j].to_bits() == values[j * n + i].to_bits()));
        Ok(DenseWeights { n, values, symmetric })
    }

    /// Returns a symmetric matrix, whose entries may have any sign.
    pub(super) fn symmetric(n: usize, values: Vec<f32>) -> Self {
        debug_assert_eq!(values.len(), n * n);
        DenseWeights { n, values, symmetric: true }
    }

    /// Returns the entries, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    fn each<T: Send>(
        &self,
        progress: &Progress<'_>,
        out: &mut [T],
        width: usize,
        f: impl Fn(WeightRow<'_>, &mut [T]) + Sync,
    ) -> Result<()> {
        let n = self.n;
        let rows = out.par_chunks_mut(width).zip(self.values.par_chunks(n)).enumerate();
        rows.try_for_each_init(
            || vec![0f32; if self.symmetric { 0 } else { n }],
            |column, (i, (out, from))| {
                progress.check()?;
                column.iter_mut().zip(self.values[i..].iter().step_by(n)).for_each(|(to, &x)| *to = x);
                f(WeightRow { i, from, to: if self.symmetric { from } else { column } }, out);
                Ok(())
            },
        )
    }
}

fn wrong_entry(row: usize, column: usize, value: f32) -> Error {
    let what = format!("the affinity of rows {row} and {column} is {value}; affinities must be finite and not below 0");
    Error::Data { what }
}

impl SparseEntries {
    pub(super) fn of(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    fn transposed(&self) -> SparseEntries {
        let n = self.offsets.len() - 1;
        let mut offsets = vec![0; n + 1];
        self.columns.iter().for_each(|&j| offsets[j as usize + 1] += 1);
        for i in 0..n {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let (mut columns, mut values) = (vec![0; self.columns.len()], vec![0.0; self.columns.len()]);
        for i in 0..n {
            let (row, weights) = self.of(i);
            for (&j, &x) in row.iter().zip(weights) {
                let place = &mut next[j as usize];
                (columns[*place], values[*place]) = (i as u32, x);
                *place += 1;
            }
        }
        SparseEntries { offsets, columns, values }
    }
}

impl SparseWeights {
    /// Returns a given matrix in compressed rows: row i has the entries `offsets[i]..offsets[i +
    /// 1]` of `columns` and `values`. It need not be symmetric.
    ///
    /// # Errors
    /// [`Error::Data`] if the lengths do not match, a column occurs twice in a row or is not below
    /// the number of rows, or a value is negative or not finite.
    pub fn new(offsets: Vec<usize>, columns: Vec<u32>, values: Vec<f32>) -> Result<Self> {
        let wrong = |what: String| Err(Error::Data { what });
        let n = offsets.len().saturating_sub(1);
        if n == 0 || offsets[0] != 0 || offsets.windows(2).any(|w| w[0] > w[1]) {
            return wrong("a sparse affinity needs ascending offsets, one more than rows, from 0".into());
        }
        if (offsets[n], offsets[n]) != (columns.len(), values.len()) {
            return wrong(format!(
                "a sparse affinity whose offsets end at {} has {} columns and {} values; the three must agree",
                offsets[n],
                columns.len(),
                values.len()
            ));
        }
        let mut seen = vec![usize::MAX; n];
        for i in 0..n {
            for at in offsets[i]..offsets[i + 1] {
                let (j, value) = (columns[at] as usize, values[at]);
                if j >= n {
                    return wrong(format!("row {i} of the affinity has column {j}, and there are {n} rows"));
                }
                if seen[j] == i {
                    return wrong(format!("row {i} of the affinity has column {j} twice; add the two up"));
                }
                if !(value >= 0.0 && value.is_finite()) {
                    return Err(wrong_entry(i, j, value));
                }
                seen[j] = i;
            }
        }
        Ok(SparseWeights::from(SparseEntries { offsets, columns, values }))
    }

    /// Returns the entries by rows, and by columns.
    pub(super) fn entries(&self) -> [&SparseEntries; 2] {
        [&self.rows, &self.columns]
    }

    /// Returns the bytes of a matrix of n rows with `entries` entries.
    pub(super) fn bytes(n: usize, entries: u64) -> u64 {
        16 * (n as u64 + 1) + 16 * entries
    }

    fn each<T: Send>(
        &self,
        progress: &Progress<'_>,
        out: &mut [T],
        width: usize,
        f: impl Fn(WeightRow<'_>, &mut [T]) + Sync,
    ) -> Result<()> {
        let n = self.rows.offsets.len() - 1;
        out.par_chunks_mut(width).enumerate().try_for_each_init(
            || vec![0f32; 2 * n],
            |both, (i, out)| {
                progress.check()?;
                both.fill(0.0);
                let (from, to) = both.split_at_mut(n);
                for (place, entries) in [(&mut *from, &self.rows), (&mut *to, &self.columns)] {
                    let (columns, values) = entries.of(i);
                    columns.iter().zip(values).for_each(|(&j, &x)| place[j as usize] = x);
                }
                f(WeightRow { i, from, to }, out);
                Ok(())
            },
        )
    }
}

impl From<SparseEntries> for SparseWeights {
    fn from(rows: SparseEntries) -> Self {
        let columns = rows.transposed();
        SparseWeights { rows, columns }
    }
}

impl Weights<'_> {
    /// Returns the number of rows, which is also the number of columns.
    pub fn len(&self) -> usize {
        match self {
            Weights::Tiled(tiled) => tiled.costs.len(),
            Weights::Dense(dense) => dense.n,
            Weights::Sparse(sparse) => sparse.rows.offsets.len() - 1,
        }
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f(row and column, out)` for every row, where `out` is the row's `width` elements of
    /// `out`.
    pub(super) fn each<T: Send>(
        &self,
        progress: &Progress<'_>,
        out: &mut [T],
        width: usize,
        f: impl Fn(WeightRow<'_>, &mut [T]) + Sync,
    ) -> Result<()> {
        match self {
            Weights::Tiled(tiled) => tiled.each(progress, out, width, f),
            Weights::Dense(dense) => dense.each(progress, out, width, f),
            Weights::Sparse(sparse) => sparse.each(progress, out, width, f),
        }
    }

    /// Returns P as n × n numbers, row-major.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the observer asked to stop.
    pub fn to_dense(&self, progress: &Progress<'_>) -> Result<Vec<f32>> {
        let n = self.len();
        let mut out = vec![0f32; n * n];
        self.each(progress, &mut out, n, |both, out| out.copy_from_slice(both.from))?;
        Ok(out)
    }

    /// Returns Σ_j P_ij of every row.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the observer asked to stop.
    pub fn marginals(&self, progress: &Progress<'_>) -> Result<Vec<f64>> {
        let mut out = vec![0f64; self.len()];
        let add = |both: WeightRow<'_>, out: &mut [f64]| out[0] = sum(both.from.iter().map(|&x| f64::from(x)));
        self.each(progress, &mut out, 1, add)?;
        Ok(out)
    }
}
