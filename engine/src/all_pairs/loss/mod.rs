//! Losses: the difference between P and a map, with its gradient. Each loss is a struct of its
//! options, in a file of its own, that implements [`Loss`]; the data that it prepares once for an
//! input is its [`PreparedLoss`].
//!
//! All losses have TorchDR's form λ · attraction + repulsion. All gradients are in closed form, and
//! the tests compare each with finite differences.

mod cross_entropy;
mod hyperbolic;
mod kernel;
mod square;
mod stress;

pub use cross_entropy::CrossEntropy;
pub use hyperbolic::HyperbolicCauchy;
pub use kernel::{MapAffinity, MapKernel};
pub use square::SquareLoss;
pub use stress::Stress;

use super::weights::Weights;
use crate::Result;
use crate::observe::Progress;

/// The factors of the attraction and the repulsion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForceFactors {
    /// λ, the exaggeration of the attraction.
    pub attraction: f64,
    /// TorchDR's `repulsion_strength`.
    pub repulsion: f64,
}

/// A loss between P and a map.
pub trait Loss: Send + Sync {
    /// Returns the loss's name.
    fn name(&self) -> &'static str;

    /// Checks the options.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the option, the value and a way to correct it.
    fn check(&self) -> Result<()>;

    /// Returns whether maps lie in the Poincaré ball.
    fn hyperbolic(&self) -> bool {
        false
    }

    /// Returns whether the loss is a sum of an attraction and a repulsion, so that the attraction
    /// can be exaggerated.
    fn exaggerates(&self) -> bool {
        true
    }

    /// Returns the least default learning rate of SGD for n rows. TorchDR's is 50.
    fn min_step(&self, _n: usize) -> f64 {
        50.0
    }

    /// Returns the bytes for n rows, and the operations of an iteration over all pairs of a map of
    /// `width` components.
    fn work_estimate(&self, n: usize, width: usize) -> (u64, f64);

    /// Prepares the loss for P and the rows from which P was computed (n × dim; empty if P was
    /// given).
    ///
    /// # Errors
    /// If P does not suit the loss, or the observer asked to stop.
    fn prepare<'a>(
        &'a self,
        weights: &'a Weights<'a>,
        rows: &[f32],
        dim: usize,
        progress: &Progress<'_>,
    ) -> Result<Box<dyn PreparedLoss + 'a>>;
}

/// A loss, prepared for one P.
pub trait PreparedLoss {
    /// Writes the gradient at `positions` (n × width). Returns the loss if `value` is set (which
    /// takes longer than the gradient alone), else an arbitrary value.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] if the observer asked to stop.
    fn evaluate(
        &mut self,
        positions: &[f64],
        width: usize,
        strengths: ForceFactors,
        value: bool,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<f64>;

    /// Returns the loss's own state beside the positions, if any. The state is part of a
    /// checkpoint.
    fn carried_state(&mut self) -> Option<&mut Vec<f64>> {
        None
    }
}
