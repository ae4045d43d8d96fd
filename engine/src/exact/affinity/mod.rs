//! Affinities: from the costs of an input's pairs to P. Each is a struct of
//! its options, in a file of its own, and answers [`Affinity`].
//!
//! All but [`Phate`] find a few numbers a row, by passes over tiles of costs,
//! and are a closed form of these from then on; [`Entropic`] may keep the
//! nearest neighbours only, as the guide does by default. Formulas and defaults
//! are those of the guide's affinities; where they sum to something, the sum is
//! of all of P: a row of a normalised affinity sums to 1/n.

mod bandwidth;
mod entropic;
mod normalized;
mod phate;
mod precomputed;
mod quadratic;
pub(super) mod root;
mod sinkhorn;
mod symmetric;
mod umap;

pub use bandwidth::{Magic, SelfTuning};
pub use entropic::Entropic;
pub use normalized::{Normalization, NormalizedGaussian, NormalizedStudent};
pub use phate::{PHATE_ROWS, PhateAffinity};
pub use precomputed::Precomputed;
pub use quadratic::DoublyStochasticQuadratic;
pub use sinkhorn::{BaseKernel, Sinkhorn};
pub use symmetric::{DualSolver, SymmetricEntropic};
pub use umap::UmapAffinity;

use super::costs::{Cost, Costs, Itself};
use super::weights::Weights;
use crate::observe::Progress;
use crate::{Error, Result};

/// What an affinity takes, for a number of rows; beside the costs themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Toll {
    /// Bytes at the most while it is found.
    pub peak: u64,
    /// Bytes as long as it is used.
    pub kept: u64,
    /// Passes over all pairs of rows that find it.
    pub passes: f64,
    /// Operations beside these passes.
    pub operations: f64,
    /// Whether an iteration of the layout reads all pairs of the input, rather than stored entries.
    pub rereads: bool,
}

/// From costs to affinities.
pub trait Affinity: Send + Sync {
    /// The affinity's name, as options have it.
    fn name(&self) -> &'static str;

    /// Refuses options that do not fit, or do not fit n rows.
    ///
    /// # Errors
    /// [`Error::Config`] with the option, the number and what to do.
    fn check(&self, n: usize) -> Result<()>;

    /// Refuses a cost that the formula cannot take.
    ///
    /// # Errors
    /// [`Error::Config`] with the cost and what to do.
    fn check_cost(&self, _: Cost) -> Result<()> {
        Ok(())
    }

    /// What it takes for n rows.
    fn toll(&self, n: usize) -> Toll;

    /// Finds P.
    ///
    /// # Errors
    /// If the options do not fit, the rows have no such affinity, or the observer asked to stop.
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>>;

    /// Whether P is given and no rows are needed.
    fn given(&self) -> Option<&Weights<'static>> {
        None
    }
}

pub(super) fn wrong<T>(field: &'static str, why: impl Into<String>) -> Result<T> {
    Err(Error::Config { field, why: why.into() })
}

/// Refuses a perplexity, or the like, that n rows cannot have.
pub(super) fn check_neighbors(field: &'static str, value: f64, n: usize) -> Result<()> {
    if !(value > 1.0 && value.is_finite()) {
        return wrong(field, format!("{value} is not above 1"));
    }
    // Of two rows each is the other's one neighbour, however many are asked for.
    if n > 2 && value >= n as f64 - 1.0 {
        return wrong(field, format!("{value} is too much for {n} different rows; give less than {}", n.max(1) - 1));
    }
    Ok(())
}

pub(super) fn check_positive(field: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { wrong(field, format!("{value} is not a number above 0")) }
}

/// Refuses costs that may lie below 0 where a formula divides by them.
fn check_not_below(name: &str, cost: Cost) -> Result<()> {
    if cost == Cost::Angular {
        let why = format!(
            "the {name} affinity needs costs that are not below 0; scale the rows to length 1 and use sqeuclidean"
        );
        return wrong("metric", why);
    }
    Ok(())
}

/// `zero_diag` as costs have it.
fn itself(zero_diag: bool) -> Itself {
    if zero_diag { Itself::Never } else { Itself::Counts }
}
