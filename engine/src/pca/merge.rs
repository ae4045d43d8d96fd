//! A running truncated SVD: the leading right singular vectors of the centred rows so far, into which
//! further rows are merged.
//!
//! A merge is an SVD of the stack [S·V; rows − their mean; √(n·m/(n+m)) · (mean − their mean)] (Ross,
//! Lim, Lin & Yang, "Incremental learning for robust visual tracking", IJCV 2008; also scikit-learn's
//! `IncrementalPCA`). It uses the Gram matrix of the shorter side of the stack: stacked rows or
//! components. Squaring loses directions with a standard deviation below about 10⁻⁷ of the largest; these
//! count as variance 0.

use rayon::prelude::*;

use super::axes::{complete, eigen, fix_sign, orthonormalize};
use super::products::{BLOCK, OuterProducts};
use super::{Pca, PcaError};

/// The state of the running SVD, in about as much memory as the vectors kept.
#[derive(Debug)]
pub(super) struct RunningSvd {
    count: u64,
    mean: Vec<f64>,
    /// Σ‖x − mean‖² over the merged rows.
    scatter: f64,
    /// Squared singular values, descending, all positive.
    strengths: Vec<f64>,
    /// S·V, component by component: `dim × strengths.len()`. Because it is not normalised, a merge keeps
    /// a projection of its stack that is correct to rounding even for weak directions.
    sketch: Vec<f64>,
}

impl RunningSvd {
    /// Creates an empty state for rows with `dim` components.
    pub(super) fn new(dim: usize) -> Self {
        Self { count: 0, mean: vec![0.0; dim], scatter: 0.0, strengths: Vec::new(), sketch: Vec::new() }
    }

    /// Returns the peak bytes of merging `rows` rows at a time into `kept` vectors, without the rows
    /// themselves, and of computing `rank` axes at the end.
    pub(super) fn bytes(dim: usize, rows: usize, kept: usize, rank: usize) -> u64 {
        let order = kept + rows + 1;
        let side = order.min(dim.max(1));
        // The sketch and its successor; at the end, the axes and the sketch.
        let vectors = 8 * dim as u64 * (kept + kept.max(rank)) as u64;
        let gram = OuterProducts::bytes(side).max(16 * (side * side) as u64);
        vectors + (40 * dim + 64 * order) as u64 + gram
    }

    /// Returns the number of components of a row.
    pub(super) fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Returns the number of rows merged.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Merges `rows` into the mean, the scatter and at most `kept` vectors.
    pub(super) fn merge(&mut self, rows: &[f32], kept: usize) -> Result<(), PcaError> {
        let dim = self.mean.len();
        let old = self.strengths.len();
        let block = rows.len() / dim;
        let (n, m) = (self.count as f64, block as f64);

        // The mean of the rows, with the first row as a shift for accuracy.
        let mut block_mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            for ((sum, &x), &first) in block_mean.iter_mut().zip(row).zip(rows) {
                *sum += f64::from(x) - f64::from(first);
            }
        }
        for (sum, &first) in block_mean.iter_mut().zip(rows) {
            *sum = f64::from(first) + *sum / m;
        }
        let weight = (n * m / (n + m)).sqrt();

        let order = old + block + 1;
        let (sketch, mean) = (&self.sketch, &self.mean);
        let stack = |row: usize, c: usize| {
            if row < old {
                sketch[c * old + row]
            } else if row < old + block {
                f64::from(rows[(row - old) * dim + c]) - block_mean[c]
            } else {
                weight * (mean[c] - block_mean[c])
            }
        };
        let (scatter, strengths, sketch) = if order <= dim {
            by_rows(dim, old, order, kept, stack)?
        } else {
            by_coordinates(dim, old, order, kept, stack)?
        };
        (self.sketch, self.strengths) = (sketch, strengths);
        for (mean, &of_block) in self.mean.iter_mut().zip(&block_mean) {
            *mean += (of_block - *mean) * (m / (n + m));
        }
        self.scatter += scatter;
        self.count += block as u64;
        Ok(())
    }

    /// Returns the `rank` leading axes. If the data's rank is lower, orthonormal axes with variance 0 are added.
    pub(super) fn axes(&self, rank: usize) -> Pca {
        let dim = self.dim();
        let divisor = (self.count as f64 - 1.0).max(1.0);
        let found = self.strengths.len();
        let mut variance: Vec<f64> = self.strengths.iter().take(rank).copied().collect();
        let mut components = Vec::with_capacity(rank * dim);
        for axis in 0..variance.len() {
            components.extend(self.sketch.iter().skip(axis).step_by(found));
        }
        // Weak directions from a Gram matrix are not exactly orthogonal.
        for axis in 0..variance.len() {
            let (before, after) = components.split_at_mut(axis * dim);
            orthonormalize(before, &mut after[..dim]);
        }
        variance.iter_mut().for_each(|v| *v /= divisor);
        variance.resize(rank, 0.0);
        complete(&mut components, rank, dim);
        components.chunks_exact_mut(dim).for_each(fix_sign);
        Pca { mean: self.mean.clone(), components, variance, total_variance: self.scatter / divisor }
    }
}

/// Result of a merge: the scatter of the new rows, squared singular values, and sketch.
type MergedSvd = (f64, Vec<f64>, Vec<f64>);

/// Merges by the products of the stack's rows with each other: order × order.
fn by_rows(
    dim: usize,
    old: usize,
    order: usize,
    kept: usize,
    stack: impl Fn(usize, usize) -> f64 + Sync,
) -> Result<MergedSvd, PcaError> {
    let mut products = OuterProducts::new(order);
    for start in (0..dim).step_by(BLOCK) {
        let n = BLOCK.min(dim - start);
        products.add(n, |c, row| stack(row, start + c));
    }
    let gram = products.into_matrix(|_, _, product| product);
    let scatter: f64 = (old..order).map(|i| gram[(i, i)]).sum();
    let (mut strengths, turns) = eigen(gram, kept.min(order))?;
    strengths.truncate(above_rounding(&strengths, order));
    let sketch = rotate(&turns, strengths.len(), order, dim, stack);
    Ok((scatter, strengths, sketch))
}

/// Merges by the products of the stack's components with each other: dim × dim, where there are many rows.
fn by_coordinates(
    dim: usize,
    old: usize,
    order: usize,
    kept: usize,
    stack: impl Fn(usize, usize) -> f64 + Sync,
) -> Result<MergedSvd, PcaError> {
    let mut products = OuterProducts::new(dim);
    for start in (0..order).step_by(BLOCK) {
        let n = BLOCK.min(order - start);
        products.add(n, |row, c| stack(start + row, c));
    }
    let mut scatter = 0.0;
    for row in old..order {
        scatter += (0..dim).map(|c| stack(row, c).powi(2)).sum::<f64>();
    }
    let (mut strengths, axes) = eigen(products.into_matrix(|_, _, product| product), kept.min(dim))?;
    strengths.truncate(above_rounding(&strengths, order));
    let mut sketch = vec![0.0; dim * strengths.len()];
    for (i, (axis, strength)) in axes.chunks_exact(dim).zip(&strengths).enumerate() {
        let length = strength.sqrt();
        for (c, x) in axis.iter().enumerate() {
            sketch[c * strengths.len() + i] = length * x;
        }
    }
    Ok((scatter, strengths, sketch))
}

/// Returns how many of the strengths, which descend, are larger than rounding errors.
fn above_rounding(strengths: &[f64], order: usize) -> usize {
    let floor = strengths.first().map_or(0.0, |s| s * order as f64 * f64::EPSILON);
    strengths.iter().take_while(|&&s| s > floor).count()
}

/// Returns the first `n` rows of `turns` (any × order) times the stack (order × dim), component by
/// component: dim × n.
fn rotate(turns: &[f64], n: usize, order: usize, dim: usize, stack: impl Fn(usize, usize) -> f64 + Sync) -> Vec<f64> {
    /// Number of components processed at a time: two cache lines of each row.
    const COLUMNS: usize = 32;
    // Four stack rows at a time, so that a running sum is loaded once for four terms.
    let padded = order.next_multiple_of(4);
    let mut by_row = vec![0.0; padded * n];
    for (axis, turn) in turns.chunks_exact(order).take(n).enumerate() {
        for (row, &share) in turn.iter().enumerate() {
            by_row[row * n + axis] = share;
        }
    }
    let mut out = vec![0.0; dim * n];
    if n == 0 {
        return out;
    }
    out.par_chunks_mut(COLUMNS * n).enumerate().for_each(|(chunk, out)| {
        let mut columns = vec![0.0; COLUMNS * padded];
        for row in 0..order {
            for c in 0..out.len() / n {
                columns[c * padded + row] = stack(row, chunk * COLUMNS + c);
            }
        }
        for (out, column) in out.chunks_exact_mut(n).zip(columns.chunks_exact(padded)) {
            for (x, turns) in column.chunks_exact(4).zip(by_row.chunks_exact(4 * n)) {
                let (a, turns) = turns.split_at(n);
                let (b, turns) = turns.split_at(n);
                let (c, d) = turns.split_at(n);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = (((*out + x[0] * a[i]) + x[1] * b[i]) + x[2] * c[i]) + x[3] * d[i];
                }
            }
        }
    });
    out
}
