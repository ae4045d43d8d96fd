//! The methods by name: each a struct of its options, in a file of its own,
//! that says what [`Problem`] it is. A new one is its file and a line in [`METHODS`].

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

/// A method's name, its problem with default options, and what takes its place where rows are many.
pub struct Entry {
    /// The name, as options have it.
    pub name: &'static str,
    /// The problem, by default.
    pub problem: fn() -> Problem,
    /// The methods that stream.
    pub streamed: &'static [&'static str],
}

/// All methods but [`Matcher`], whose affinity has no default.
pub const METHODS: &[Entry] = &[
    Entry { name: "sne", problem: || Sne::default().problem(), streamed: &["tsne", "infotsne"] },
    Entry { name: "tsne", problem: || Tsne::default().problem(), streamed: &["tsne", "infotsne"] },
    Entry { name: "tsnekhorn", problem: || TsneKhorn::default().problem(), streamed: &["tsne", "infotsne"] },
    Entry { name: "cosne", problem: || Cosne::default().problem(), streamed: &["umap"] },
    Entry { name: "phate", problem: || Phate::default().problem(), streamed: &["umap", "pacmap"] },
];
