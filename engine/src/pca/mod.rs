//! Principal component analysis by five linear algorithms with one result type, [`Pca`].
//!
//! | | data | result | reads the rows |
//! |---|---|---|---|
//! | [`Covariance`] | up to some thousands of components | exact | once |
//! | [`ExactIncrementalPca`] | the same | exact, however far from the origin | twice |
//! | [`BlockwisePca`] | any width | approximate | once, in any batches |
//! | [`IncrementalPca`] | any width | approximate; that of scikit-learn | once, batch by batch |
//! | [`RandomizedPca`] | any width | approximate, with a residual | a few times |
//!
//! [`KernelPca`] finds nonlinear components of small data. A [`PcaConfig`] plans one of the linear
//! algorithms for a source and a memory budget, and [`run`] writes the scores while it reads.
//!
//! Invariant: the result depends only on the rows and their order, bit for bit. Batch sizes (except in
//! [`IncrementalPca`], which is defined by its batches), the number of threads and the CPU's instruction
//! set change nothing. Therefore every sum runs in a fixed order, in f64, with separate multiplications
//! and additions: a fused multiply-add would round differently on CPUs that lack it, and is not faster on
//! CPUs with separate ports for multiplication and addition.
//!
//! Sign rule: in every axis the entry of largest absolute value, the first of them if several tie, is
//! positive. This is the rule of scikit-learn's `svd_flip` with `u_based_decision=False`. Signs therefore
//! do not depend on batches or algorithm.

mod axes;
mod blockwise;
#[cfg(test)]
mod conformance;
mod covariance;
mod incremental;
mod kernel;
mod merge;
mod plan;
mod products;
mod randomized;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod two_pass;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use axes::dot;
pub use blockwise::BlockwisePca;
pub use covariance::Covariance;
pub use incremental::IncrementalPca;
pub use kernel::{Kernel, KernelPca, center_kernel};
pub use plan::{PcaConfig, PcaPlan, Solver};
pub use randomized::RandomizedPca;
pub use report::PcaReport;
pub use run::run;
pub use two_pass::ExactIncrementalPca;

/// Number of rows projected per rayon task: enough to outweigh the cost of a task.
const PROJECT_ROWS: usize = 64;

/// Why principal components cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PcaError {
    /// More components were requested than a row has.
    #[error("{asked} principal components are more than the {dim} dimensions of the data")]
    TooManyComponents {
        /// Components requested.
        asked: usize,
        /// Components of a row.
        dim: usize,
    },
    /// More components were requested than there are rows.
    #[error("{asked} principal components are too many for {rows} rows; the maximum is {rows}")]
    TooFewRows {
        /// Components requested.
        asked: usize,
        /// Number of rows, of the first batch where that is the limit.
        rows: u64,
    },
    /// No row was added.
    #[error("principal components need at least one row")]
    NoRows,
    /// A row contained NaN or an infinity. Where rows are checked as they arrive,
    /// [`PcaError::NotFiniteAt`] is returned instead and names the row.
    #[error("the rows hold NaN or infinite values")]
    NotFinite,
    /// A value is NaN or infinite.
    #[error("row {row}, component {component} is {value}; drop or fill such rows first")]
    NotFiniteAt {
        /// The row, counted from 0 over all batches.
        row: u64,
        /// The component, from 0.
        component: usize,
        /// The value found.
        value: f32,
    },
    /// Rows have a different number of components than the rows before.
    #[error("rows of {found} components, but the rows before had {expected}")]
    Width {
        /// Number of components of the rows before.
        expected: usize,
        /// Number of components of the new rows.
        found: usize,
    },
    /// A slice does not contain a whole number of rows.
    #[error("{len} numbers are not a whole number of rows of {dim} components")]
    NotWhole {
        /// Number of values given.
        len: usize,
        /// Number of components of a row.
        dim: usize,
    },
    /// The second pass began before the first, or the first continued after the second began.
    #[error("the mean comes first: give all rows to partial_mean, then all rows to partial_fit")]
    MeanFirst,
    /// Two passes saw different numbers of rows.
    #[error("a pass over the data found {found} rows, but the first pass found {expected}")]
    Passes {
        /// Rows of the first pass.
        expected: u64,
        /// Rows of the later pass.
        found: u64,
    },
    /// The data do not vary along some axes, which cannot be scaled to variance 1.
    #[error(
        "the data vary along {usable} axes only, and other axes cannot be scaled to variance 1; use at most {usable} components"
    )]
    NoVariance {
        /// Number of axes with variance.
        usable: usize,
    },
    /// The kernel is not positive semidefinite: its matrix has a negative eigenvalue.
    #[error(
        "the kernel is not positive semidefinite: its centred matrix has the eigenvalue {least:e} where the largest is {largest:e}"
    )]
    NotPositive {
        /// The smallest eigenvalue.
        least: f64,
        /// The largest eigenvalue.
        largest: f64,
    },
    /// More rows than the kernel matrix may have.
    #[error(
        "kernel PCA of {rows} rows: their {rows} × {rows} kernel matrix is decomposed in memory, which is supported up to {most} rows; take a sample, or use linear components, which are streamed at any size"
    )]
    TooManyRows {
        /// Number of rows given.
        rows: usize,
        /// The largest number of rows.
        most: usize,
    },
    /// The eigenvalue iteration reached its limit, which is not known to happen.
    #[error("the eigenvalues of a {order} × {order} matrix did not converge")]
    NotConverged {
        /// Number of rows of the matrix.
        order: usize,
    },
}

/// Principal axes of a data set, and the projection onto them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pca {
    /// Mean of the rows, `dim` values.
    pub mean: Vec<f64>,
    /// The axes, `n_components × dim`, row-major, orthonormal, by descending variance. Signs follow the
    /// rule in the module's header.
    pub components: Vec<f64>,
    /// Variance along each axis, `n_components` values, with scikit-learn's divisor n − 1 (its
    /// `explained_variance_`).
    pub variance: Vec<f64>,
    /// Variance of the data over all `dim` axes, with the same divisor: `variance / total_variance` is
    /// the share explained.
    pub total_variance: f64,
}

/// Returns the first `n_components` principal components of rows in memory (rows × dim): from their covariance
/// matrix, or, with more than `widest` components of a row, in blocks of rows.
///
/// # Errors
/// If there are fewer rows or components than that, or no variance.
pub(crate) fn of_rows(rows: &[f32], dim: usize, n_components: usize, widest: usize) -> Result<Pca, PcaError> {
    if dim > widest {
        let mut pca = BlockwisePca::new(dim, n_components);
        pca.add(rows);
        pca.finish()
    } else {
        let mut covariance = Covariance::new(dim);
        covariance.add(rows);
        covariance.finish(n_components)
    }
}

impl Pca {
    /// Computes the exact components of rows in memory (rows × dim, row-major).
    ///
    /// # Errors
    /// [`PcaError::TooManyComponents`] or [`PcaError::TooFewRows`] for more than min(rows, dim) components;
    /// [`PcaError::NotWhole`], [`PcaError::NoRows`] or [`PcaError::NotFiniteAt`] for invalid rows.
    ///
    /// ```
    /// use lowland_engine::pca::Pca;
    /// let rows = [0.0, 0.0, 2.0, 2.1, 4.0, 3.9, 6.0, 6.0]; // four rows of two components
    /// let pca = Pca::fit(&rows, 2, 1)?;
    /// assert!(pca.explained_variance_ratio()[0] > 0.99);
    /// assert_eq!(pca.transform(&rows)?.len(), 4);
    /// # Ok::<(), lowland_engine::pca::PcaError>(())
    /// ```
    pub fn fit(rows: &[f32], dim: usize, n_components: usize) -> Result<Self, PcaError> {
        let n = check_rows(rows, dim, 0)? as u64;
        if n_components as u64 > n && n > 0 && n_components <= dim {
            return Err(PcaError::TooFewRows { asked: n_components, rows: n });
        }
        let mut covariance = Covariance::new(dim);
        covariance.add(rows);
        covariance.finish(n_components)
    }

    /// Returns the number of components of a row.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Returns the number of axes.
    pub fn n_components(&self) -> usize {
        self.variance.len()
    }

    /// Returns the share of the data's variance along each axis, `n_components` values from 0 to 1; zeros
    /// if the data do not vary.
    pub fn explained_variance_ratio(&self) -> Vec<f64> {
        let share = |v: &f64| if self.total_variance > 0.0 { v / self.total_variance } else { 0.0 };
        self.variance.iter().map(share).collect()
    }

    /// Returns the scores of `rows` (rows × dim, row-major): rows × n_components.
    ///
    /// # Errors
    /// [`PcaError::NotWhole`] and [`PcaError::NotFiniteAt`].
    pub fn transform(&self, rows: &[f32]) -> Result<Vec<f32>, PcaError> {
        let mut scores = vec![0.0; check_rows(rows, self.dim(), 0)? * self.n_components()];
        self.project(rows, &mut scores);
        Ok(scores)
    }

    /// Returns the rows that belong to `scores` (rows × n_components): mean + scores × axes, rows × dim.
    /// With all axes kept these are the original rows.
    ///
    /// # Errors
    /// [`PcaError::NotWhole`].
    pub fn inverse_transform(&self, scores: &[f32]) -> Result<Vec<f32>, PcaError> {
        let n_components = self.n_components();
        if n_components == 0 || !scores.len().is_multiple_of(n_components) {
            return Err(PcaError::NotWhole { len: scores.len(), dim: n_components });
        }
        let mut rows = Vec::with_capacity(scores.len() / n_components * self.dim());
        for scores in scores.chunks_exact(n_components) {
            rows.extend(self.mean.iter().enumerate().map(|(c, mean)| {
                let along = scores.iter().zip(self.components.chunks_exact(self.dim()));
                along.fold(*mean, |sum, (&score, axis)| sum + f64::from(score) * axis[c]) as f32
            }));
        }
        Ok(rows)
    }

    /// Returns a copy in which every axis is divided by the standard deviation along it, so that scores
    /// have variance 1 (scikit-learn's `whiten`).
    ///
    /// # Errors
    /// [`PcaError::NoVariance`] if the variance along an axis is no larger than the effect of rounding
    /// the rows to f32.
    pub fn whitened(&self) -> Result<Self, PcaError> {
        let magnitude = self.mean.iter().fold(0.0, |most, mean| f64::max(most, mean * mean));
        let floor = (magnitude + self.variance.first().unwrap_or(&0.0)) * f64::from(f32::EPSILON).powi(2);
        let usable = self.variance.iter().take_while(|&&v| v > floor).count();
        if usable < self.n_components() {
            return Err(PcaError::NoVariance { usable });
        }
        let mut whitened = self.clone();
        for (axis, variance) in whitened.components.chunks_exact_mut(self.dim()).zip(&self.variance) {
            let deviation = variance.sqrt();
            axis.iter_mut().for_each(|x| *x /= deviation);
        }
        Ok(whitened)
    }

    /// Writes the scores of `rows` (rows × dim) to `out` (rows × n_components), both row-major. A row's
    /// scores depend on that row alone.
    ///
    /// # Panics
    /// If the two lengths do not belong to the same whole number of rows.
    pub fn project(&self, rows: &[f32], out: &mut [f32]) {
        let (dim, n_components) = (self.dim(), self.n_components());
        if dim == 0 || n_components == 0 {
            return;
        }
        assert_eq!(rows.len() % dim, 0, "rows must be whole");
        assert_eq!(out.len(), rows.len() / dim * n_components, "one score for each row and component");
        out.par_chunks_mut(PROJECT_ROWS * n_components).zip(rows.par_chunks(PROJECT_ROWS * dim)).for_each(
            |(out, rows)| {
                let mut centered = vec![0.0; dim];
                for (scores, row) in out.chunks_exact_mut(n_components).zip(rows.chunks_exact(dim)) {
                    for ((c, &x), &mean) in centered.iter_mut().zip(row).zip(&self.mean) {
                        *c = f64::from(x) - mean;
                    }
                    for (score, axis) in scores.iter_mut().zip(self.components.chunks_exact(dim)) {
                        *score = dot(&centered, axis) as f32;
                    }
                }
            },
        );
    }
}

/// Checks that `asked` components of `count` rows with `dim` components each can exist.
fn check(asked: usize, dim: usize, count: u64) -> Result<(), PcaError> {
    if asked > dim {
        return Err(PcaError::TooManyComponents { asked, dim });
    }
    if count == 0 {
        return Err(PcaError::NoRows);
    }
    Ok(())
}

/// Returns the number of rows in `rows`, after checking that the rows are whole and finite; `before` rows
/// came in earlier calls.
fn check_rows(rows: &[f32], dim: usize, before: u64) -> Result<usize, PcaError> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        return Err(PcaError::NotWhole { len: rows.len(), dim });
    }
    if let Some(at) = rows.iter().position(|x| !x.is_finite()) {
        let (row, component) = (before + (at / dim) as u64, at % dim);
        return Err(PcaError::NotFiniteAt { row, component, value: rows[at] });
    }
    Ok(rows.len() / dim)
}
