//! Exact principal components in two passes: first the mean, then the covariance around the mean.

use super::{Covariance, Pca, PcaError, check_rows};

/// Computes the mean in a first pass over all batches and the covariance around the mean in a second:
/// TorchDR's `ExactIncrementalPCA`.
///
/// [`Covariance`] needs one pass and is as exact, unless the first row is some 10⁶ times farther out than
/// the others. Variances have the divisor n − 1, as in all algorithms here; TorchDR's have n.
///
/// ```
/// use lowland_engine::pca::ExactIncrementalPca;
/// let batches = [[1.0, 0.0, 2.0, 0.5], [0.0, 7.0, 1.0, 2.0]]; // two rows of two components each
/// let mut pca = ExactIncrementalPca::new(2);
/// for batch in &batches {
///     pca.partial_mean(batch)?;
/// }
/// for batch in &batches {
///     pca.partial_fit(batch)?;
/// }
/// assert_eq!(pca.finish(1)?.mean, [1.0, 2.375]);
/// # Ok::<(), lowland_engine::pca::PcaError>(())
/// ```
#[derive(Debug)]
pub struct ExactIncrementalPca {
    /// Rows of the first pass.
    count: u64,
    first: Vec<f32>,
    /// Σ(x − first row) by component.
    sums: Vec<f64>,
    around: Option<Covariance>,
}

impl ExactIncrementalPca {
    /// Creates an empty accumulator for rows with `dim` components.
    pub fn new(dim: usize) -> Self {
        Self { count: 0, first: Vec::new(), sums: vec![0.0; dim], around: None }
    }

    /// Returns the peak bytes for rows with `dim` components.
    pub fn bytes(dim: usize) -> u64 {
        Covariance::bytes(dim) + 12 * dim as u64
    }

    /// Adds `rows` (rows × dim, row-major) to the mean. Any split into calls gives the same bits.
    ///
    /// # Errors
    /// [`PcaError::NotWhole`], [`PcaError::NotFiniteAt`]; [`PcaError::MeanFirst`] once the second pass has begun.
    pub fn partial_mean(&mut self, rows: &[f32]) -> Result<(), PcaError> {
        if self.around.is_some() {
            return Err(PcaError::MeanFirst);
        }
        let dim = self.sums.len();
        let n = check_rows(rows, dim, self.count)?;
        if self.count == 0 && n > 0 {
            self.first = rows[..dim].to_vec();
        }
        for row in rows.chunks_exact(dim) {
            for ((sum, &x), &first) in self.sums.iter_mut().zip(row).zip(&self.first) {
                *sum += f64::from(x) - f64::from(first);
            }
        }
        self.count += n as u64;
        Ok(())
    }

    /// Returns the mean of the rows of the first pass, `dim` values.
    ///
    /// # Errors
    /// [`PcaError::NoRows`] before the first row.
    pub fn mean(&self) -> Result<Vec<f64>, PcaError> {
        if self.count == 0 {
            return Err(PcaError::NoRows);
        }
        let n = self.count as f64;
        Ok(self.first.iter().zip(&self.sums).map(|(&first, sum)| f64::from(first) + sum / n).collect())
    }

    /// Adds `rows` to the covariance. All rows must have been added to the mean before.
    ///
    /// # Errors
    /// [`PcaError::MeanFirst`] if no rows were added to the mean; [`PcaError::NotWhole`],
    /// [`PcaError::NotFiniteAt`].
    pub fn partial_fit(&mut self, rows: &[f32]) -> Result<(), PcaError> {
        let seen = self.around.as_ref().map_or(0, Covariance::count);
        check_rows(rows, self.sums.len(), seen)?;
        if self.around.is_none() {
            let mean = self.mean().map_err(|_| PcaError::MeanFirst)?;
            self.around = Some(Covariance::around(mean));
        }
        if let Some(around) = &mut self.around {
            around.add(rows);
        }
        Ok(())
    }

    /// Returns the `n_components` axes of largest variance.
    ///
    /// # Errors
    /// [`PcaError::MeanFirst`] without a second pass, [`PcaError::Passes`] if the second pass saw another
    /// number of rows; [`PcaError::TooManyComponents`] or [`PcaError::TooFewRows`] for more than
    /// min(rows, dim) components.
    pub fn finish(self, n_components: usize) -> Result<Pca, PcaError> {
        let around = self.around.ok_or(PcaError::MeanFirst)?;
        if around.count() != self.count {
            return Err(PcaError::Passes { expected: self.count, found: around.count() });
        }
        if n_components as u64 > self.count && n_components <= self.sums.len() {
            return Err(PcaError::TooFewRows { asked: n_components, rows: self.count });
        }
        around.finish(n_components)
    }
}
