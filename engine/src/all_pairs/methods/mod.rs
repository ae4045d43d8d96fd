//! The options of the methods. Each method is a struct, in a file of its own, that returns its
//! [`Problem`]. The methods' names are in the table of all methods, [`crate::methods`].

mod cosne;
mod matcher;
mod phate;
mod sne;
mod tsne;
mod tsnekhorn;

pub use cosne::Cosne;
pub use matcher::AffinityMatcher;
pub use phate::Phate;
pub use sne::Sne;
pub use tsne::Tsne;
pub use tsnekhorn::TsneKhorn;

use super::fit::{FitControl, FittedMap, Problem, fit};
use crate::Result;
use crate::observe::Progress;

/// A method: options that define a problem.
pub trait AllPairsMethod {
    /// Returns the problem that the options define.
    fn problem(&self) -> Problem;

    /// Computes the map of `rows` (n × dim, row-major). P is recomputed whenever it is read.
    ///
    /// # Errors
    /// As [`fit`].
    fn fit(&self, rows: &[f32], dim: usize, progress: &Progress<'_>) -> Result<FittedMap> {
        let run = FitControl { hold: 0, state: None, keep: &mut |_| Ok(()) };
        fit(&self.problem(), rows, dim, run, progress)
    }
}
