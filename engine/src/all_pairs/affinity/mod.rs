//! Affinities: from the costs of all pairs of input rows to the matrix P. Each affinity is a struct
//! of its options, in a file of its own, that implements [`StreamedAffinity`].
//!
//! All affinities except [`PhateAffinity`] compute a few numbers for each row (duals) in passes
//! over tiles of costs; P is then a closed form of these numbers and the costs. [`Entropic`] may
//! store only the nearest neighbours, which is the default, as in TorchDR. Formulas and defaults
//! follow TorchDR. A normalised affinity sums to 1 over all entries, so its rows sum to 1/n, except
//! where stated otherwise.

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
pub use phate::PhateAffinity;
pub use precomputed::PrecomputedAffinity;
pub use quadratic::DoublyStochasticQuadratic;
pub use sinkhorn::{BaseKernel, Sinkhorn};
pub use symmetric::{DualSolver, SymmetricEntropic};
pub use umap::UmapAffinity;

use super::costs::{Cost, Costs, SelfCost};
use super::weights::Weights;
use crate::observe::Progress;
use crate::{Error, Result};

/// The memory and work of an affinity for a number of rows, without the costs themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AffinityWork {
    /// Peak bytes while P is computed.
    pub peak: u64,
    /// Bytes held while P is used.
    pub kept: u64,
    /// Passes over all pairs of rows while P is computed.
    pub passes: f64,
    /// Operations beside these passes.
    pub operations: f64,
    /// Whether an iteration of the layout recomputes all pairs of the input, rather than reading
    /// stored entries.
    pub rereads: bool,
}

/// An affinity: computes P from the costs of pairs.
pub trait StreamedAffinity: Send + Sync {
    /// Returns the affinity's name as used in options.
    fn name(&self) -> &'static str;

    /// Checks the options, by themselves and for n rows.
    ///
    /// # Errors
    /// [`Error::Config`] with the option, the value and a way to correct it.
    fn check(&self, n: usize) -> Result<()>;

    /// Checks that the formula is defined for the cost.
    ///
    /// # Errors
    /// [`Error::Config`] with the cost and a way to correct it.
    fn check_cost(&self, _: Cost) -> Result<()> {
        Ok(())
    }

    /// Returns the memory and work for n rows.
    fn work_estimate(&self, n: usize) -> AffinityWork;

    /// Computes P.
    ///
    /// # Errors
    /// If the options are invalid, the affinity does not exist for these rows, or the observer
    /// asked to stop.
    fn solve<'a>(&'a self, costs: &'a Costs<'a>, progress: &Progress<'_>) -> Result<Weights<'a>>;

    /// Returns P if it was given by the user, so that no rows are needed.
    fn given(&self) -> Option<&Weights<'static>> {
        None
    }
}

pub(super) fn config_error<T>(field: &'static str, why: impl Into<String>) -> Result<T> {
    Err(Error::Config { field, why: why.into() })
}

/// Checks a perplexity or similar number of neighbours against the number of rows.
pub(super) fn check_neighbors(field: &'static str, value: f64, n: usize) -> Result<()> {
    if !(value > 1.0 && value.is_finite()) {
        return config_error(field, format!("{value} is not above 1"));
    }
    // With two rows, each is the other's only neighbour, whatever the number.
    if n > 2 && value >= n as f64 - 1.0 {
        return config_error(
            field,
            format!("{value} is too large for {n} distinct rows; give less than {}", n.max(1) - 1),
        );
    }
    Ok(())
}

pub(super) fn check_positive(field: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        config_error(field, format!("{value} is not a number above 0"))
    }
}

/// Refuses costs that may be negative, for formulas that divide by costs.
fn check_nonnegative_cost(name: &str, cost: Cost) -> Result<()> {
    if cost == Cost::Angular {
        let why = format!(
            "the {name} affinity needs costs that are not below 0; scale the rows to length 1 and use sqeuclidean"
        );
        return config_error("metric", why);
    }
    Ok(())
}

/// Converts the option `zero_diag` to the costs' setting.
fn self_cost(zero_diag: bool) -> SelfCost {
    if zero_diag { SelfCost::Infinite } else { SelfCost::Computed }
}
