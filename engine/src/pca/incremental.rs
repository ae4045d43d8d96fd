//! Incremental PCA as scikit-learn has it: each batch is merged as it comes.

use super::merge::Running;
use super::{Pca, PcaError, check_rows};

/// Principal components of batches, one `partial_fit` each, with no more in
/// memory than a batch and the axes so far.
///
/// What scikit-learn's and TorchDR's `IncrementalPCA` find, to rounding, signs
/// included: the batch is part of the question here, so another cut into
/// batches is another answer, close by. [`super::BlockwisePca`] does not have
/// that, and is closer to the exact axes for the vectors that it keeps in
/// reserve. A batch may be of any size after the first, even one row: unlike
/// TorchDR's, the last one need not have as many rows as there are components.
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
    /// From the first batch on, with the number of components.
    running: Option<(Running, usize)>,
}

impl IncrementalPca {
    /// No rows yet. `n_components` axes are kept; by default as many as the
    /// first batch has rows or components, whichever is less.
    pub fn new(n_components: Option<usize>) -> Self {
        Self { asked: n_components, running: None }
    }

    /// The axes of rows in memory (rows × dim, row-major), `batch_rows` of them
    /// at a time; by default 5 · dim, as in scikit-learn. The last batch may be
    /// of any size (scikit-learn joins one of fewer rows than components to the
    /// one before).
    ///
    /// # Errors
    /// Those of [`partial_fit`](Self::partial_fit).
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

    /// Peak bytes for batches of `batch_rows` rows of `dim` components, the
    /// batches themselves not counted.
    pub fn bytes(dim: usize, batch_rows: usize, n_components: usize) -> u64 {
        Running::bytes(dim, batch_rows, n_components, n_components)
    }

    /// Merges a batch: `rows` is rows × dim, row-major.
    ///
    /// # Errors
    /// [`PcaError::NotWhole`] and [`PcaError::NotFiniteAt`] for what is wrong
    /// with the batch, [`PcaError::Width`] where its `dim` is not that of the
    /// batches before; of the first batch [`PcaError::TooManyComponents`] and
    /// [`PcaError::TooFewRows`] where more components were asked for than it
    /// has components or rows. The batches before stay as they were.
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
            self.running = Some((Running::new(dim), asked));
        }
        match &mut self.running {
            Some((running, kept)) => running.merge(rows, *kept),
            None => Ok(()),
        }
    }

    /// Rows merged so far.
    pub fn count(&self) -> u64 {
        self.running.as_ref().map_or(0, |(running, _)| running.count())
    }

    /// The axes of the batches so far.
    ///
    /// # Errors
    /// [`PcaError::NoRows`] before the first.
    pub fn pca(&self) -> Result<Pca, PcaError> {
        let (running, n_components) = self.running.as_ref().ok_or(PcaError::NoRows)?;
        Ok(running.axes(*n_components))
    }
}
