//! Kernel PCA: principal components in the feature space of a kernel, for data whose n × n kernel matrix
//! fits into memory (Schölkopf, Smola & Müller, "Nonlinear component analysis as a kernel eigenvalue
//! problem", 1998).

use nalgebra::DMatrix;
use rayon::prelude::*;

use super::axes::{dot, fix_sign, spectrum};
use super::{PcaError, check_rows};

/// The largest number of rows: a kernel matrix of 512 MiB, and some minutes.
const MOST_ROWS: usize = 8192;
/// A negative eigenvalue larger in magnitude than this share of the largest eigenvalue means that the
/// kernel is not positive semidefinite.
const NEGATIVE_SHARE: f64 = 1e-3;
/// An eigenvalue below this share of the largest counts as 0.
const ZERO_SHARE: f64 = 1e-6;

/// A similarity function of two rows.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Kernel {
    /// ⟨x, y⟩: the components are those of [`Pca`](super::Pca).
    Linear,
    /// exp(−‖x − y‖² / σ); scikit-learn's `rbf` with gamma = 1/σ.
    Gaussian {
        /// The width σ, above 0, in units of squared distance. TorchDR's default is 1.
        sigma: f64,
    },
    /// (γ⟨x, y⟩ + c)^degree.
    Polynomial {
        /// The exponent.
        degree: u32,
        /// γ, above 0.
        gamma: f64,
        /// c, at least 0.
        coef0: f64,
    },
    /// ⟨x, y⟩ / (‖x‖ ‖y‖); 0 if a row is all zeros.
    Cosine,
    /// The rows are the kernel matrix: row i holds the kernel of row i with all fitted rows.
    Precomputed,
}

impl Kernel {
    /// Returns the kernel of two rows.
    fn of(self, x: &[f64], y: &[f64]) -> f64 {
        match self {
            Kernel::Linear | Kernel::Precomputed => dot(x, y),
            Kernel::Gaussian { sigma } => {
                let squared: f64 = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum();
                (-squared / sigma).exp()
            }
            Kernel::Polynomial { degree, gamma, coef0 } => (gamma * dot(x, y) + coef0).powi(degree as i32),
            Kernel::Cosine => {
                let lengths = dot(x, x).sqrt() * dot(y, y).sqrt();
                if lengths > 0.0 { dot(x, y) / lengths } else { 0.0 }
            }
        }
    }
}

/// Principal components of rows in a kernel's feature space.
///
/// ```
/// use lowland_engine::pca::{Kernel, KernelPca};
/// let rows = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 3.0, 3.0]; // four rows of two components
/// let pca = KernelPca::fit(Kernel::Gaussian { sigma: 2.0 }, &rows, 2, Some(2))?;
/// assert_eq!(pca.scores().len(), 4 * 2);
/// assert_eq!(pca.transform(&[1.0, 1.0])?.len(), 2);
/// # Ok::<(), lowland_engine::pca::PcaError>(())
/// ```
#[derive(Debug)]
pub struct KernelPca {
    kernel: Kernel,
    dim: usize,
    rows: Vec<f64>,
    /// Mean of each column of the kernel matrix, and of the whole matrix.
    means: Vec<f64>,
    mean: f64,
    eigenvalues: Vec<f64>,
    /// Components × rows.
    eigenvectors: Vec<f64>,
}

impl KernelPca {
    /// Returns the peak bytes for `rows` rows with `dim` components.
    pub fn bytes(rows: usize, dim: usize) -> u64 {
        // The matrix, its eigenvectors, and the eigenvectors that are kept.
        let (rows, dim) = (rows as u64, dim as u64);
        8 * rows * dim + 24 * rows * rows + 64 * rows
    }

    /// Finds `n_components` components of `rows` (rows × dim, row-major), by default as many as there are
    /// eigenvalues above 0.
    ///
    /// Eigenvalues below 10⁻⁶ of the largest count as 0, and the scores along their axes are 0. The sign
    /// rule of this module is applied to the eigenvectors.
    ///
    /// # Errors
    /// [`PcaError::TooManyRows`] above 8,192 rows; [`PcaError::TooFewRows`] for more components than
    /// rows; [`PcaError::NotPositive`] if an eigenvalue is negative by more than 10⁻³ of the largest;
    /// [`PcaError::NoRows`], [`PcaError::NotWhole`] or [`PcaError::NotFiniteAt`] for invalid rows;
    /// [`PcaError::Width`] for a precomputed kernel that is not square; [`PcaError::NotFinite`] if the
    /// kernel returns NaN or an infinity.
    pub fn fit(kernel: Kernel, rows: &[f32], dim: usize, n_components: Option<usize>) -> Result<Self, PcaError> {
        let n = check_rows(rows, dim, 0)?;
        if n == 0 {
            return Err(PcaError::NoRows);
        }
        if n > MOST_ROWS {
            return Err(PcaError::TooManyRows { rows: n, most: MOST_ROWS });
        }
        if kernel == Kernel::Precomputed && n != dim {
            return Err(PcaError::Width { expected: n, found: dim });
        }
        if let Some(asked) = n_components.filter(|&asked| asked > n) {
            return Err(PcaError::TooFewRows { asked, rows: n as u64 });
        }
        let rows: Vec<f64> = rows.iter().map(|&x| f64::from(x)).collect();
        let mut matrix = values(kernel, &rows, &rows, dim);
        let (means, mean) = center_kernel(&mut matrix);
        // Rounding can make the two entries of a pair differ.
        for i in 0..n {
            (0..i).for_each(|j| matrix[j * n + i] = matrix[i * n + j]);
        }
        let matrix = DMatrix::from_vec(n, n, matrix);
        let (mut eigenvalues, mut eigenvectors) = spectrum(matrix, n_components.unwrap_or(n))?;
        let largest = eigenvalues.first().copied().unwrap_or(0.0);
        let least = eigenvalues.last().copied().unwrap_or(0.0);
        if least < -NEGATIVE_SHARE * largest.max(0.0) && least < -f64::EPSILON * mean.abs() {
            return Err(PcaError::NotPositive { least, largest });
        }
        let positive = eigenvalues.iter().take_while(|&&v| v > ZERO_SHARE * largest).count();
        eigenvalues.truncate(n_components.unwrap_or(positive));
        eigenvalues.iter_mut().skip(positive).for_each(|v| *v = 0.0);
        eigenvectors.truncate(eigenvalues.len() * n);
        eigenvectors.chunks_exact_mut(n).for_each(fix_sign);
        let rows = if kernel == Kernel::Precomputed { Vec::new() } else { rows };
        Ok(Self { kernel, dim, rows, means, mean, eigenvalues, eigenvectors })
    }

    /// Returns the number of components found.
    pub fn n_components(&self) -> usize {
        self.eigenvalues.len()
    }

    /// Returns the eigenvalues of the centred kernel matrix, descending, none negative.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// Returns the scores of the fitted rows: eigenvector × √eigenvalue, rows × n_components.
    pub fn scores(&self) -> Vec<f32> {
        let n = self.means.len();
        let mut scores = Vec::with_capacity(n * self.n_components());
        for row in 0..n {
            let along = self.eigenvectors.chunks_exact(n).zip(&self.eigenvalues);
            scores.extend(along.map(|(vector, value)| (vector[row] * value.sqrt()) as f32));
        }
        scores
    }

    /// Returns the scores of other rows (rows × dim, row-major): rows × n_components. For a precomputed
    /// kernel, `rows` holds their kernel with the fitted rows.
    ///
    /// # Errors
    /// [`PcaError::NotWhole`] and [`PcaError::NotFiniteAt`].
    pub fn transform(&self, rows: &[f32]) -> Result<Vec<f32>, PcaError> {
        check_rows(rows, self.dim, 0)?;
        let rows: Vec<f64> = rows.iter().map(|&x| f64::from(x)).collect();
        let n = self.means.len();
        let mut kernel = values(self.kernel, &rows, &self.rows, self.dim);
        let mut scores = Vec::with_capacity(rows.len() / self.dim * self.n_components());
        for row in kernel.chunks_exact_mut(n) {
            let own = row.iter().sum::<f64>() / n as f64;
            row.iter_mut().zip(&self.means).for_each(|(k, mean)| *k += self.mean - own - mean);
            let along = self.eigenvectors.chunks_exact(n).zip(&self.eigenvalues);
            let score =
                |(vector, value): (&[f64], &f64)| if *value > 0.0 { dot(row, vector) / value.sqrt() } else { 0.0 };
            scores.extend(along.map(|pair| score(pair) as f32));
        }
        Ok(scores)
    }
}

/// Returns the kernel of `rows` with `others`: rows × others, row-major.
fn values(kernel: Kernel, rows: &[f64], others: &[f64], dim: usize) -> Vec<f64> {
    if kernel == Kernel::Precomputed {
        return rows.to_vec();
    }
    let n = others.len() / dim;
    let mut values = vec![0.0; rows.len() / dim * n];
    values.par_chunks_mut(n).zip(rows.par_chunks(dim)).for_each(|(values, row)| {
        for (value, other) in values.iter_mut().zip(others.chunks_exact(dim)) {
            *value = kernel.of(row, other);
        }
    });
    values
}

/// Centres a kernel matrix (n × n, symmetric, row-major) in feature space: H K H with H = I − 1/n.
/// Returns the mean of each column of K, and of all of K.
///
/// # Panics
/// If the matrix is not square.
pub fn center_kernel(matrix: &mut [f64]) -> (Vec<f64>, f64) {
    let n = matrix.len().isqrt();
    assert_eq!(n * n, matrix.len(), "a kernel matrix is square");
    let mut means = vec![0.0; n];
    for row in matrix.chunks_exact(n.max(1)) {
        means.iter_mut().zip(row).for_each(|(mean, k)| *mean += k);
    }
    means.iter_mut().for_each(|mean| *mean /= n as f64);
    let mean = means.iter().sum::<f64>() / n.max(1) as f64;
    for (row, own) in matrix.chunks_exact_mut(n.max(1)).zip(&means) {
        row.iter_mut().zip(&means).for_each(|(k, column)| *k += mean - own - column);
    }
    (means, mean)
}
