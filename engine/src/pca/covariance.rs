//! Mean and covariance of rows as they come, and the axes of both.

use rayon::prelude::*;

use super::axes::{eigen, fix_sign};
use super::products::{BLOCK, PANEL, Products};
use super::{Pca, PcaError, check};

/// Mean and covariance of a stream of rows, exact and in one pass.
///
/// Sums are taken of `x − s`, where the shift s is the first row: without it,
/// data far from the origin would lose its variance to cancellation. Like
/// every shifted one-pass sum this presumes that the first row lies among the
/// others, within some 10⁶ of their spread.
#[derive(Debug)]
pub struct Covariance {
    count: u64,
    /// What is taken off every row before it is multiplied; the first row, unless given.
    shift: Vec<f64>,
    given: bool,
    /// Σ(x − s) by coordinate, padded to whole panels.
    sums: Vec<[f64; PANEL]>,
    /// Σ(x − s)(x − s)ᵀ.
    products: Products,
}

impl Covariance {
    /// Peak bytes for `dim` coordinates, those of `finish` with its
    /// eigendecomposition (twice the full matrix) included.
    pub fn bytes(dim: usize) -> u64 {
        // Tiles while adding; at the end the matrix beside its eigenvectors.
        Products::bytes(dim).max(16 * (dim * dim) as u64) + 64 * dim as u64
    }

    /// No rows yet, of `dim` coordinates. Allocates as [`Covariance::bytes`] says.
    pub fn new(dim: usize) -> Self {
        Self {
            count: 0,
            shift: vec![0.0; dim],
            given: false,
            sums: vec![[0.0; PANEL]; dim.div_ceil(PANEL)],
            products: Products::new(dim),
        }
    }

    /// No rows yet, whose mean is known to be about `mean`: sums are taken of
    /// what lies around it, however far the first row lies from the others.
    pub fn around(mean: Vec<f64>) -> Self {
        let empty = Self::new(mean.len());
        Self { shift: mean, given: true, ..empty }
    }

    /// Adds `rows` (rows × dim, row-major). Any split into calls gives the
    /// same bits; a call costs as much as some tens of rows, so hand over
    /// hundreds at a time.
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

    /// Rows added so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean of the rows so far, `dim` values; before the first, zeros or what was given.
    pub fn mean(&self) -> Vec<f64> {
        let n = self.count.max(1) as f64;
        (self.shift.iter().zip(self.sums.as_flattened())).map(|(&s, &sum)| s + sum / n).collect()
    }

    /// The `n_components` axes of largest variance. Data of lower rank gets
    /// axes of variance 0 to fill up, orthonormal like the rest.
    ///
    /// # Errors
    /// [`PcaError::TooManyComponents`], [`PcaError::NoRows`], and
    /// [`PcaError::NotFinite`] where a row held what is no number.
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
