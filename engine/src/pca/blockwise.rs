//! Principal components of rows too wide for their covariance to fit, in one
//! pass and in whatever portions the rows come.

use super::merge::Running;
use super::{Pca, PcaError, check};

/// Directions kept beyond those asked for. They catch what is weak in one
/// block and strong over all, which a merge of the leading few drops: on
/// 20,000 rows of the Debian embeddings (384 dimensions, two components, the
/// second with 4 % of the variance) the second axis misses the exact one by
/// 1 − |cos| = 0.85 with none in reserve, 2·10⁻² with 16, 10⁻³ with 64 and
/// 10⁻⁴ with 128. Larger blocks help far less and cost more.
const RESERVE: usize = 64;

/// Principal components through a running truncated SVD ([`IncrementalPca`]'s
/// too) whose blocks have a size of their own: rows are gathered until one is
/// full, so the caller's batches leave no trace.
///
/// Exact when the data's rank is at most the number of vectors kept, `rank` +
/// 64; otherwise an approximation, good where a few directions stand out.
/// Directions whose deviation is below about 10⁻⁷ of the largest are lost and
/// count as variance 0.
///
/// [`IncrementalPca`]: super::IncrementalPca
#[derive(Debug)]
pub struct BlockwisePca {
    rank: usize,
    running: Running,
    /// Rows merged, or lost to an error.
    merged: u64,
    /// Rows waiting for their block to fill.
    waiting: Vec<f32>,
    /// What went wrong in a merge; `finish` reports it.
    error: Option<PcaError>,
}

/// Vectors kept between merges.
fn kept(dim: usize, rank: usize) -> usize {
    (rank + RESERVE).min(dim)
}

/// Rows merged at a time. Fixed by `rank`, since the result depends on it.
pub(super) fn block_rows(rank: usize) -> usize {
    2 * (rank + RESERVE)
}

impl BlockwisePca {
    /// Peak bytes for `rank` components of `dim` coordinates: linear in `dim`.
    pub fn bytes(dim: usize, rank: usize) -> u64 {
        let block = block_rows(rank);
        4 * dim as u64 * block as u64 + Running::bytes(dim, block, kept(dim, rank), rank)
    }

    /// No rows yet, of `dim` coordinates; `rank` components will be asked for.
    /// Allocates as [`BlockwisePca::bytes`] says.
    pub fn new(dim: usize, rank: usize) -> Self {
        let waiting = Vec::with_capacity(dim * block_rows(rank));
        Self { rank, running: Running::new(dim), merged: 0, waiting, error: None }
    }

    /// Adds `rows` (rows × dim, row-major). Any split into calls gives the
    /// same bits.
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

    /// Rows added so far.
    pub fn count(&self) -> u64 {
        self.merged + (self.waiting.len() / self.running.dim().max(1)) as u64
    }

    /// The `rank` leading axes. Data of lower rank gets axes of variance 0 to
    /// fill up, orthonormal like the rest.
    ///
    /// # Errors
    /// [`PcaError::TooManyComponents`], [`PcaError::NoRows`], and
    /// [`PcaError::NotFinite`] where a row held what is no number.
    pub fn finish(mut self) -> Result<Pca, PcaError> {
        check(self.rank, self.running.dim(), self.count())?;
        if !self.waiting.is_empty() {
            self.merge();
        }
        self.error.map_or(Ok(()), Err)?;
        Ok(self.running.axes(self.rank))
    }

    /// Takes the waiting rows into the mean, the scatter and the vectors.
    fn merge(&mut self) {
        let dim = self.running.dim();
        if self.error.is_none() {
            self.error = self.running.merge(&self.waiting, kept(dim, self.rank)).err();
        }
        self.merged += (self.waiting.len() / dim) as u64;
        self.waiting.clear();
    }
}
