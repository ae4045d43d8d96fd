//! The methods' options: each a struct, in a file of its own, that says what
//! [`Problem`] it is. Their names are in the table of all methods, [`crate::method`].

mod cosne;
mod matcher;
mod phate;
mod sne;
mod tsne;
mod tsnekhorn;

pub use cosne::Cosne;
pub use matcher::{MatchLoss, Matcher};
pub use phate::Phate;
pub use sne::Sne;
pub use tsne::Tsne;
pub use tsnekhorn::TsneKhorn;

use super::fit::{Fit, Problem, Run, fit};
use crate::Result;
use crate::observe::Progress;

/// A method: options that decide a problem.
pub trait Method {
    /// The problem that the options describe.
    fn problem(&self) -> Problem;

    /// Maps `rows` (n × dim, row-major), with P made anew whenever it is read.
    ///
    /// # Errors
    /// As [`fit`].
    fn fit(&self, rows: &[f32], dim: usize, progress: &Progress<'_>) -> Result<Fit> {
        let run = Run { hold: 0, state: None, keep: &mut |_| Ok(()) };
        fit(&self.problem(), rows, dim, run, progress)
    }
}
