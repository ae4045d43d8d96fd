//! Principal components of rows that are too wide for a covariance matrix, in one pass and in batches of any size.

use super::merge::RunningSvd;
use super::{Pca, PcaError, check};

/// Number of vectors kept in addition to those requested. They retain directions that are weak in each
/// block but strong over all rows, which merges of only the leading vectors lose: on 20,000 rows of the
/// Debian embeddings (384 dimensions, two components, the second with 4 % of the variance) the second
/// axis deviates from the exact one by 1 − |cos| = 0.85 with no extra vectors, 2·10⁻² with 16, 10⁻³ with
/// 64 and 10⁻⁴ with 128. Larger blocks help far less and cost more.
const RESERVE_DIRECTIONS: usize = 64;

/// Principal components by a running truncated SVD, as in [`IncrementalPca`], with blocks of a fixed size: rows are
/// collected until a block is full, so that the caller's batch sizes do not change the result.
///
/// The result is exact if the data's rank is at most the number of vectors kept, `rank` + 64. Otherwise
/// it is an approximation, which is good if a few directions dominate. Directions with a standard
/// deviation below about 10⁻⁷ of the largest are lost and count as variance 0.
///
/// [`IncrementalPca`]: super::IncrementalPca
#[derive(Debug)]
pub struct BlockwisePca {
    rank: usize,
    running: RunningSvd,
    /// Number of rows merged, including rows dropped after an error.
    merged: u64,
    /// Rows of the next block, which is not full yet.
    waiting: Vec<f32>,
    /// The first error of a merge; `finish` returns it.
    error: Option<PcaError>,
}

/// Returns the number of vectors kept between merges.
fn kept(dim: usize, rank: usize) -> usize {
    (rank + RESERVE_DIRECTIONS).min(dim)
}

/// Returns the number of rows merged at a time. It depends only on `rank`, since the result depends on it.
pub(super) fn block_rows(rank: usize) -> usize {
    2 * (rank + RESERVE_DIRECTIONS)
}

impl BlockwisePca {
    /// Returns the peak bytes for `rank` components of rows with `dim` components: linear in `dim`.
    pub fn bytes(dim: usize, rank: usize) -> u64 {
        let block = block_rows(rank);
        4 * dim as u64 * block as u64 + RunningSvd::bytes(dim, block, kept(dim, rank), rank)
    }

    /// Creates an empty accumulator for rows with `dim` components, from which `rank` principal
    /// components will be requested. Allocates [`BlockwisePca::bytes`] at most.
    pub fn new(dim: usize, rank: usize) -> Self {
        let waiting = Vec::with_capacity(dim * block_rows(rank));
        Self { rank, running: RunningSvd::new(dim), merged: 0, waiting, error: None }
    }

    /// Adds `rows` (rows × dim, row-major). Any split into calls gives the same bits.
    ///
    /// # Panics
    /// If the length is not a whole number of rows.
    pub fn add(&mut self, mut rows: &[f32]) {
        let dim = self.running.dim();
        if dim == 0 {
            return;
        }
        assert_eq!(rows.len() % dim, 0, "rows must be whole");
        let full = dim * block_rows(self.rank);
        while !rows.is_empty() {
            let (now, later) = rows.split_at((full - self.waiting.len()).min(rows.len()));
            self.waiting.extend_from_slice(now);
            rows = later;
            if self.waiting.len() == full {
                self.merge();
            }
        }
    }

    /// Returns the number of rows added.
    pub fn count(&self) -> u64 {
        self.merged + (self.waiting.len() / self.running.dim().max(1)) as u64
    }

    /// Returns the `rank` leading axes. If the data's rank is lower, orthonormal axes with variance 0 are added.
    ///
    /// # Errors
    /// [`PcaError::TooManyComponents`], [`PcaError::NoRows`], or [`PcaError::NotFinite`] if a row
    /// contained NaN or an infinity.
    pub fn finish(mut self) -> Result<Pca, PcaError> {
        check(self.rank, self.running.dim(), self.count())?;
        if !self.waiting.is_empty() {
            self.merge();
        }
        self.error.map_or(Ok(()), Err)?;
        Ok(self.running.axes(self.rank))
    }

    /// Merges the collected rows into the mean, the scatter and the vectors.
    fn merge(&mut self) {
        let dim = self.running.dim();
        if self.error.is_none() {
            self.error = self.running.merge(&self.waiting, kept(dim, self.rank)).err();
        }
        self.merged += (self.waiting.len() / dim) as u64;
        self.waiting.clear();
    }
}
