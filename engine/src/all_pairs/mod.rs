//! Exact methods, for data that fit in memory: every pair of rows and every pair of the map's
//! points is computed, but the n × n matrix is never formed (except by [`Phate`], which needs it).
//!
//! All methods share TorchDR's formulation: an affinity P of the rows, a loss between P and the
//! map, and an optimizer. These are independent choices: a [`Problem`] combines one of each,
//! [`fit`] solves it, and [`needs`] returns its memory and work beforehand. The named methods
//! ([`Tsne`], [`Sne`], [`TsneKhorn`], [`Cosne`], [`Phate`]) are problems with TorchDR's defaults;
//! [`AffinityMatcher`] is any other combination.
//!
//! ```
//! use lowland_engine::Progress;
//! use lowland_engine::all_pairs::{Descent, Entropic, AllPairsMethod, Tsne};
//!
//! let rows: Vec<f32> = (0..300).map(|i| (i % 7) as f32 + 0.01 * i as f32).collect(); // 100 × 3
//! let tsne = Tsne {
//!     affinity: Entropic { perplexity: 10.0, ..Entropic::default() },
//!     descent: Descent { max_iter: 50, ..Tsne::default().descent },
//!     ..Tsne::default()
//! };
//! let map = tsne.fit(&rows, 3, &Progress::silent())?;
//! assert_eq!(map.positions.len(), 100 * 2);
//! # Ok::<(), lowland_engine::Error>(())
//! ```
//!
//! What must hold:
//! - The pairs of a row are summed by one thread in a fixed order, so that the map does not depend
//!   on threads or memory.
//! - Gradients are in closed form and tested against finite differences.
//! - A pair's cost is computed directly from the two rows (`costs`).
//!
//! Known limits: no gradient goes through Sinkhorn's passes (TorchDR's `unrolling`); the platform's
//! logarithm is used once for each row, so maps may differ between C libraries.

mod affinity;
mod checkpoint;
mod costs;
mod duplicates;
mod fit;
mod init;
mod lbfgs;
mod loss;
mod methods;
mod named;
mod needs;
mod optimizer;
mod poincare;
mod points;
pub(crate) mod quality;
mod real;
pub(crate) mod stage;
mod weights;

#[cfg(test)]
mod tests;

pub use crate::config::{MatchLoss, NamedAffinity, NamedMapAffinity, PHATE_ROWS};
pub use affinity::{
    AffinityWork, BaseKernel, DoublyStochasticQuadratic, DualSolver, Entropic, Magic, Normalization,
    NormalizedGaussian, NormalizedStudent, PhateAffinity, PrecomputedAffinity, SelfTuning, Sinkhorn, StreamedAffinity,
    SymmetricEntropic, UmapAffinity,
};
pub use costs::{Cost, Costs};
pub use fit::{Descent, DescentState, FitControl, FittedMap, Problem, Schedule, fit};
pub use init::InitialPositions;
pub use loss::{
    CrossEntropy, ForceFactors, HyperbolicCauchy, Loss, MapAffinity, MapKernel, PreparedLoss, SquareLoss, Stress,
};
pub use methods::{AffinityMatcher, AllPairsMethod, Cosne, Phate, Sne, Tsne, TsneKhorn};
pub use named::{affinity_of, map_affinity_of};
pub use needs::{ProblemNeeds, needs};
pub use optimizer::{Adam, DescentOptimizer, OptimizerMoments};
pub use points::MAX_MAP_COMPONENTS;
pub use stage::DescentStats;
pub use weights::{ClosedForm, ClosedFormWeights, DenseWeights, Dual, SparseWeights, Weights};
