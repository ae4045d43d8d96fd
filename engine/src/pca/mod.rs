//! Principal components, found in five ways, and one form for what is found:
//! [`Pca`].
//!
//! | | data | answer | reads the rows |
//! |---|---|---|---|
//! | [`Covariance`] | up to some thousands of coordinates | exact | once |
//! | [`ExactIncrementalPca`] | the same | exact, however far from the origin | twice |
//! | [`BlockwisePca`] | any width | close | once, in any portions |
//! | [`IncrementalPca`] | any width | close; scikit-learn's | once, batch by batch |
//! | [`RandomizedPca`] | any width | to a residual that it tells | a few times |
//!
//! [`KernelPca`] is for what is curved, and small. A [`PcaConfig`] plans one of
//! them for a source and a memory budget, and [`run`] writes the scores out as
//! it reads.
//!
//! What must hold: the result is a function of the rows and their order alone,
//! bit for bit. How the caller cuts the rows into batches (except in
//! [`IncrementalPca`], where a batch is what is asked), how many threads rayon
//! has and how wide the CPU's registers are change nothing. Hence every sum
//! runs in one fixed order, in f64, with separate multiplications and
//! additions: a fused multiply-add would round differently on the CPUs that
//! lack it (and gains nothing on those where both have their own port).
//!
//! One sign rule serves all: in every axis the entry of largest absolute
//! value, the first of them if several tie, is positive. It is that of
//! scikit-learn's `svd_flip` with `u_based_decision=False`, so signs do not
//! change with the batches or the way in which the axes were found.

mod axes;
mod blockwise;
#[cfg(test)]
mod conformance;
mod covariance;
mod exact;
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

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use axes::dot;
pub use blockwise::BlockwisePca;
pub use covariance::Covariance;
pub use exact::ExactIncrementalPca;
pub use incremental::IncrementalPca;
pub use kernel::{Kernel, KernelPca, center_kernel};
pub use plan::{PcaConfig, PcaPlan, Solver};
pub use randomized::RandomizedPca;
pub use report::PcaReport;
pub use run::run;

/// Scores computed per rayon task: enough rows to be worth a hand-over.
const PROJECT_ROWS: usize = 64;

/// Why there are no principal components.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PcaError {
    /// More axes were asked for than the data has coordinates.
    #[error("{asked} principal components asked of data with {dim} dimensions")]
    TooManyComponents {
        /// Components asked for.
        asked: usize,
        /// Coordinates of a row.
        dim: usize,
    },
    /// More axes were asked for than there are rows.
    #[error("{asked} principal components asked of {rows} rows; ask for at most {rows}")]
    TooFewRows {
        /// Components asked for.
        asked: usize,
        /// Rows of the data, or of the first batch where that decides.
        rows: u64,
    },
    /// Not one row was added.
    #[error("no rows to take principal components of")]
    NoRows,
    /// A row held NaN or an infinity. Where rows are checked as they come,
    /// [`PcaError::NotFiniteAt`] says which; this is the second line of defence.
    #[error("the rows hold NaN or infinite values")]
    NotFinite,
    /// A number that is none.
    #[error("row {row}, component {component} is {value}; drop or fill such rows first")]
    NotFiniteAt {
        /// The row, counted from 0 over all batches.
        row: u64,
        /// The component, from 0.
        component: usize,
        /// The value found.
        value: f32,
    },
    /// Rows of another width than those before.
    #[error("rows of {found} components, where those before had {expected}")]
    Width {
        /// Components of a row before.
        expected: usize,
        /// Components of a row now.
        found: usize,
    },
    /// A slice that is no whole number of rows.
    #[error("{len} numbers are no whole number of rows of {dim} components")]
    NotWhole {
        /// Numbers given.
        len: usize,
        /// Components of a row.
        dim: usize,
    },
    /// The second pass was begun without the first, or the first gone on with.
    #[error("the mean comes first: give all rows to partial_mean, then all rows to partial_fit")]
    MeanFirst,
    /// Two passes saw different numbers of rows.
    #[error("a pass over the data saw {found} rows where the first saw {expected}")]
    Passes {
        /// Rows of the first pass.
        expected: u64,
        /// Rows of a later one.
        found: u64,
    },
    /// An axis along which the data do not vary cannot be scaled to variance 1.
    #[error(
        "the data vary along {usable} axes only: there is nothing to whiten in more; ask for at most {usable} components"
    )]
    NoVariance {
        /// Axes with variance.
        usable: usize,
    },
    /// A kernel that is none: its matrix has a negative eigenvalue.
    #[error(
        "the kernel is not positive semidefinite: its centred matrix has the eigenvalue {least:e} where the largest is {largest:e}"
    )]
    NotPositive {
        /// The least eigenvalue.
        least: f64,
        /// The largest.
        largest: f64,
    },
    /// More rows than a kernel matrix is decomposed for.
    #[error(
        "kernel PCA of {rows} rows: their {rows} × {rows} kernel is decomposed whole, which is done for up to {most}; take a sample, or the linear components, which are streamed at any size"
    )]
    TooManyRows {
        /// Rows given.
        rows: usize,
        /// The most that are taken.
        most: usize,
    },
    /// The eigenvalue iteration ran past its limit. Not known to happen.
    #[error("the eigenvalues of a {order} × {order} matrix did not converge")]
    NotConverged {
        /// Rows of the matrix.
        order: usize,
    },
}

/// Principal axes of a data set, and the projection onto them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pca {
    /// Mean of the rows, `dim` values.
    pub mean: Vec<f64>,
    /// The axes, `n_components × dim`, row-major, orthonormal, by descending
    /// variance. Signs follow the rule in the module's header.
    pub components: Vec<f64>,
    /// Variance along each axis, `n_components` values, with scikit-learn's
    /// divisor n − 1 (its `explained_variance_`).
    pub variance: Vec<f64>,
    /// Variance of the data over all `dim` axes, same divisor:
    /// `variance / total_variance` is the share explained.
    pub total_variance: f64,
}

impl Pca {
    /// The exact components of rows in memory (rows × dim, row-major).
    ///
    /// # Errors
    /// [`PcaError::TooManyComponents`] or [`PcaError::TooFewRows`] for more of
    /// them than min(rows, dim); [`PcaError::NotWhole`], [`PcaError::NoRows`],
    /// [`PcaError::NotFiniteAt`] for what is wrong with the rows.
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

    /// Coordinates of a row.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Number of axes.
    pub fn n_components(&self) -> usize {
        self.variance.len()
    }

    /// The share of the data's variance along each axis, `n_components` values
    /// from 0 to 1; zeros where the data do not vary at all.
    pub fn explained_variance_ratio(&self) -> Vec<f64> {
        let share = |v: &f64| if self.total_variance > 0.0 { v / self.total_variance } else { 0.0 };
        self.variance.iter().map(share).collect()
    }

    /// The scores of `rows` (rows × dim, row-major): rows × n_components.
    ///
    /// # Errors
    /// [`PcaError::NotWhole`] and [`PcaError::NotFiniteAt`].
    pub fn transform(&self, rows: &[f32]) -> Result<Vec<f32>, PcaError> {
        let mut scores = vec![0.0; check_rows(rows, self.dim(), 0)? * self.n_components()];
        self.project(rows, &mut scores);
        Ok(scores)
    }

    /// The rows that `scores` (rows × n_components) stand for: mean + scores ×
    /// axes, rows × dim. They are the rows themselves where all axes were kept.
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

    /// The same with every axis divided by the standard deviation along it:
    /// the scores then have variance 1 (scikit-learn's `whiten`).
    ///
    /// # Errors
    /// [`PcaError::NoVariance`] where an axis has no more than what rounding
    /// the rows to f32 brings about.
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

    /// Writes the scores of `rows` (rows × dim) to `out` (rows ×
    /// n_components), both row-major. A row's scores depend on that row alone.
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

/// What is found of `count` rows of `dim` coordinates: not more than `dim` axes.
fn check(asked: usize, dim: usize, count: u64) -> Result<(), PcaError> {
    if asked > dim {
        return Err(PcaError::TooManyComponents { asked, dim });
    }
    if count == 0 {
        return Err(PcaError::NoRows);
    }
    Ok(())
}

/// The number of rows in `rows`, which must be whole and finite; `before` of
/// them came in earlier calls.
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
