//! Losses: how far a map is from P, and which way is down. Each is a struct of
//! its options, in a file of its own, that answers [`Loss`]; what it prepares
//! once for an input is its [`Objective`].
//!
//! All are of the guide's form, λ · attraction + repulsion, and all gradients
//! are in closed form; the tests hold every one against finite differences.

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

/// What the attraction and the repulsion are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strengths {
    /// λ, the exaggeration of the attraction.
    pub attraction: f64,
    /// The guide's `repulsion_strength`.
    pub repulsion: f64,
}

/// How far a map is from P.
pub trait Loss: Send + Sync {
    /// The loss's name.
    fn name(&self) -> &'static str;

    /// Refuses options that do not fit.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the option, the number and what to do.
    fn check(&self) -> Result<()>;

    /// Whether maps lie in the Poincaré ball.
    fn hyperbolic(&self) -> bool {
        false
    }

    /// Whether it is a sum of an attraction and a repulsion, of which the first can be exaggerated.
    fn exaggerates(&self) -> bool {
        true
    }

    /// The least step that SGD takes by default for n rows. The guide's is 50.
    fn least_step(&self, _n: usize) -> f64 {
        50.0
    }

    /// Bytes for n rows, and operations of an iteration over their pairs, of a map of `width` components.
    fn toll(&self, n: usize, width: usize) -> (u64, f64);

    /// Prepares for P, and the rows it was made of (n × dim; none where P was given).
    ///
    /// # Errors
    /// If P does not suit, or the observer asked to stop.
    fn prepare<'a>(
        &'a self,
        weights: &'a Weights<'a>,
        rows: &[f32],
        dim: usize,
        progress: &Progress<'_>,
    ) -> Result<Box<dyn Objective + 'a>>;
}

/// A loss, for one P.
pub trait Objective {
    /// Writes the gradient at `positions` (n × width), and gives the loss where
    /// `value` asks for it: that takes longer than the gradient.
    ///
    /// # Errors
    /// If the observer asked to stop.
    fn evaluate(
        &mut self,
        positions: &[f64],
        width: usize,
        strengths: Strengths,
        value: bool,
        gradient: &mut [f64],
        progress: &Progress<'_>,
    ) -> Result<f64>;

    /// What the next evaluation begins with beside the positions, if anything: a checkpoint keeps it.
    fn memory(&mut self) -> Option<&mut Vec<f64>> {
        None
    }
}
