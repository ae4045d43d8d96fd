//! Mean and covariance of a stream of rows, and the principal axes that follow from both.

use rayon::prelude::*;

use super::axes::{eigen, fix_sign};
use super::products::{BLOCK, OuterProducts, PANEL};
use super::{Pca, PcaError, check};

/// Mean and covariance of a stream of rows, exact and in one pass.
///
/// Sums are taken of `x − s`, where the shift s is the first row. Without the shift, data far from the
/// origin would lose its variance to cancellation. As with every shifted one-pass sum, the first row must
/// be near the others, within about 10⁶ times their spread.
#[derive(Debug)]
pub struct Covariance {
    count: u64,
    /// The vector subtracted from every row before products are formed: the first row, unless a mean was given.
    shift: Vec<f64>,
    given: bool,
    /// Σ(x − s) by component, padded to whole panels.
    sums: Vec<[f64; PANEL]>,
    /// Σ(x − s)(x − s)ᵀ.
    products: OuterProducts,
}

impl Covariance {
    /// Returns the peak bytes for rows with `dim` components, including the eigendecomposition in
    /// `finish` (twice the full matrix).
    pub fn bytes(dim: usize) -> u64 {
        // Tiles while rows are added; at the end the matrix and its eigenvectors.
        OuterProducts::bytes(dim).max(16 * (dim * dim) as u64) + 64 * dim as u64
    }

    /// Creates an empty accumulator for rows with `dim` components. Allocates [`Covariance::bytes`] at most.
    pub fn new(dim: usize) -> Self {
        Self {
            count: 0,
            shift: vec![0.0; dim],
            given: false,
            sums: vec![[0.0; PANEL]; dim.div_ceil(PANEL)],
            products: OuterProducts::new(dim),
        }
    }

    /// Creates an empty accumulator for rows whose mean is about `mean`. The shift is `mean`, so the
    /// first row may be far from the others.
    pub fn around(mean: Vec<f64>) -> Self {
        let empty = Self::new(mean.len());
        Self { shift: mean, given: true, ..empty }
    }

    /// Adds `rows` (rows × dim, row-major). Any split into calls gives the same bits. A call has a fixed
    /// cost of some tens of rows, so pass hundreds of rows at a time.
    ///
    /// # Panics
    /// If the length is not a whole number of rows.
    pub fn add(&mut self, rows: &[f32]) {
        let dim = self.shift.len();
        if dim == 0 || rows.is_empty() {
            return;
        }
        assert_eq!(rows.len() % dim, 0, "rows must be whole");
        if self.count == 0 && !self.given {
            self.shift.iter_mut().zip(rows).for_each(|(shift, &x)| *shift = f64::from(x));
        }
        for block in rows.chunks(BLOCK * dim) {
            let n = block.len() / dim;
            let shift = &self.shift;
            self.products.add(n, |row, c| f64::from(block[row * dim + c]) - shift[c]);
            let panels = self.products.packed.par_chunks(n);
            self.sums.par_iter_mut().zip(panels).for_each(|(sum, panel)| {
                for row in panel {
                    for (s, &x) in sum.iter_mut().zip(row) {
                        *s += x;
                    }
                }
            });
            self.count += n as u64;
        }
    }

    /// Returns the number of rows added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the mean of the rows added, `dim` values; before the first row, zeros or the mean that was given.
    pub fn mean(&self) -> Vec<f64> {
        let n = self.count.max(1) as f64;
        (self.shift.iter().zip(self.sums.as_flattened())).map(|(&s, &sum)| s + sum / n).collect()
    }

    /// Returns the `n_components` axes of largest variance. If the data's rank is lower, orthonormal axes
    /// with variance 0 are added.
    ///
    /// # Errors
    /// [`PcaError::TooManyComponents`], [`PcaError::NoRows`], or [`PcaError::NotFinite`] if a row
    /// contained NaN or an infinity.
    pub fn finish(self, n_components: usize) -> Result<Pca, PcaError> {
        let dim = self.shift.len();
        check(n_components, dim, self.count)?;
        let mean = self.mean();
        let n = self.count as f64;
        let divisor = (n - 1.0).max(1.0);
        let sums = self.sums.as_flattened();
        let covariance = self.products.into_matrix(|i, j, product| (product - sums[i] * (sums[j] / n)) / divisor);
        let total_variance = (0..dim).map(|i| covariance[(i, i)].max(0.0)).sum();
        let (variance, mut components) = eigen(covariance, n_components)?;
        components.chunks_exact_mut(dim).for_each(fix_sign);
        Ok(Pca { mean, components, variance, total_variance })
    }
}
