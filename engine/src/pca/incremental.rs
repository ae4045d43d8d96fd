//! Incremental PCA as in scikit-learn: each batch is merged as it arrives.

use super::merge::RunningSvd;
use super::{Pca, PcaError, check_rows};

/// Principal components of a sequence of batches, with one `partial_fit` each. Memory holds only one
/// batch and the current axes.
///
/// The result equals that of scikit-learn's and TorchDR's `IncrementalPCA` up to rounding, including
/// signs. It depends on the batches: a different split gives a slightly different result. The result of
/// [`super::BlockwisePca`] does not depend on batches, and is closer to the exact axes because of the
/// extra vectors that it keeps. After the first batch a batch may have any size, even one row; in TorchDR
/// the last batch needs as many rows as there are components.
///
/// ```
/// use lowland_engine::pca::IncrementalPca;
/// let mut pca = IncrementalPca::new(Some(2));
/// for batch in [[1.0, 0.0, 2.0, 0.5, 1.0, 9.0], [0.0, 7.0, 1.0, 2.0, 2.0, 3.0]] {
///     pca.partial_fit(&batch, 3)?; // two rows of three components
/// }
/// pca.partial_fit(&[4.0, 4.0, 4.0], 3)?;
/// let found = pca.pca()?; // the axes so far; more batches may follow
/// assert_eq!((pca.count(), found.n_components(), found.dim()), (5, 2, 3));
/// # Ok::<(), lowland_engine::pca::PcaError>(())
/// ```
#[derive(Debug)]
pub struct IncrementalPca {
    asked: Option<usize>,
    /// The state after the first batch, and the number of components.
    running: Option<(RunningSvd, usize)>,
}

impl IncrementalPca {
    /// Creates an empty accumulator that keeps `n_components` axes, by default the smaller of the first
    /// batch's rows and components.
    pub fn new(n_components: Option<usize>) -> Self {
        Self { asked: n_components, running: None }
    }

    /// Returns the axes of rows in memory (rows × dim, row-major), merged in batches of `batch_rows`, by
    /// default 5 · dim as in scikit-learn. The last batch may have any size (scikit-learn joins a last
    /// batch with fewer rows than components to the batch before).
    ///
    /// # Errors
    /// The errors of [`partial_fit`](Self::partial_fit).
    pub fn fit(
        rows: &[f32],
        dim: usize,
        n_components: Option<usize>,
        batch_rows: Option<usize>,
    ) -> Result<Pca, PcaError> {
        check_rows(rows, dim, 0)?;
        let mut pca = Self::new(n_components);
        for batch in rows.chunks(dim * batch_rows.unwrap_or(5 * dim).max(1)) {
            pca.partial_fit(batch, dim)?;
        }
        pca.pca()
    }

    /// Returns the peak bytes for batches of `batch_rows` rows with `dim` components, without the batches themselves.
    pub fn bytes(dim: usize, batch_rows: usize, n_components: usize) -> u64 {
        RunningSvd::bytes(dim, batch_rows, n_components, n_components)
    }

    /// Merges a batch: `rows` is rows × dim, row-major.
    ///
    /// # Errors
    /// [`PcaError::NotWhole`] or [`PcaError::NotFiniteAt`] for invalid rows, [`PcaError::Width`] if `dim`
    /// differs from the batches before; for the first batch [`PcaError::TooManyComponents`] or
    /// [`PcaError::TooFewRows`] if more components were requested than the batch has components or rows.
    /// After an error the state is unchanged.
    pub fn partial_fit(&mut self, rows: &[f32], dim: usize) -> Result<(), PcaError> {
        if let Some((running, _)) = self.running.as_ref().filter(|(running, _)| running.dim() != dim) {
            return Err(PcaError::Width { expected: running.dim(), found: dim });
        }
        let n = check_rows(rows, dim, self.count())?;
        if n == 0 {
            return Ok(());
        }
        if self.running.is_none() {
            let asked = self.asked.unwrap_or(n.min(dim));
            if asked > dim {
                return Err(PcaError::TooManyComponents { asked, dim });
            }
            if asked > n {
                return Err(PcaError::TooFewRows { asked, rows: n as u64 });
            }
            self.running = Some((RunningSvd::new(dim), asked));
        }
        match &mut self.running {
            Some((running, kept)) => running.merge(rows, *kept),
            None => Ok(()),
        }
    }

    /// Returns the number of rows merged.
    pub fn count(&self) -> u64 {
        self.running.as_ref().map_or(0, |(running, _)| running.count())
    }

    /// Returns the axes of the batches merged so far.
    ///
    /// # Errors
    /// [`PcaError::NoRows`] before the first batch.
    pub fn pca(&self) -> Result<Pca, PcaError> {
        let (running, n_components) = self.running.as_ref().ok_or(PcaError::NoRows)?;
        Ok(running.axes(*n_components))
    }
}
