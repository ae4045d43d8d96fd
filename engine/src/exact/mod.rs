//! Exact methods, for what fits: every pair of rows and every pair of the
//! map's points is computed, and the n × n matrix is never formed (but by
//! [`Phate`], which cannot do without).
//!
//! Everything is the guide's one formulation: an affinity P of the rows, a
//! loss between P and the map, an optimizer. The three are separate choices
//! that compose: a [`Problem`] is one of each, [`fit`] solves it, [`needs`]
//! says beforehand what that takes. The named methods ([`Tsne`], [`Sne`],
//! [`TsneKhorn`], [`Cosne`], [`Phate`]) are problems with the guide's defaults;
//! [`Matcher`] is any other.
//!
//! ```
//! use lowland_engine::Progress;
//! use lowland_engine::exact::{Descent, Entropic, Method, Tsne};
//!
//! let rows: Vec<f32> = (0..300).map(|i| (i % 7) as f32 + 0.01 * i as f32).collect(); // 100 × 3
//! let tsne = Tsne {
//!     affinity: Entropic { perplexity: 10.0, ..Entropic::default() },
//!     descent: Descent { max_iter: 50, ..Tsne::default().descent },
//!     ..Tsne::default()
//! };
//! let map = tsne.fit(&rows, 3, &Progress::unheard())?;
//! assert_eq!(map.positions.len(), 100 * 2);
//! # Ok::<(), lowland_engine::Error>(())
//! ```
//!
//! What must hold: rows that a thread owns are summed in one order, so the map
//! does not depend on threads or memory; gradients are in closed form and held
//! against finite differences; a pair's cost is computed from the two rows,
//! directly (`costs`).
//!
//! Problems known: no gradient goes through Sinkhorn's passes (the guide's
//! `unrolling`); the platform's logarithm is used once a row, so maps may
//! differ between C libraries.

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

pub use affinity::{
    Affinity, BaseKernel, DoublyStochasticQuadratic, DualSolver, Entropic, Magic, Normalization, NormalizedGaussian,
    NormalizedStudent, PHATE_ROWS, PhateAffinity, Precomputed, SelfTuning, Sinkhorn, SymmetricEntropic, Toll,
    UmapAffinity,
};
pub use costs::{Cost, Costs};
pub use fit::{Descent, Fit, Problem, Run, Schedule, State, fit};
pub use init::Start;
pub use loss::{
    CrossEntropy, HyperbolicCauchy, Loss, MapAffinity, MapKernel, Objective, SquareLoss, Strengths, Stress,
};
pub use methods::{Cosne, MatchLoss, Matcher, Method, Phate, Sne, Tsne, TsneKhorn};
pub use named::{NamedAffinity, NamedMap};
pub use needs::{Takes, needs};
pub use optimizer::{Adam, Moments, Optimizer};
pub use points::WIDEST;
pub use stage::Fitted;
pub use weights::{ClosedForm, Dense, Dual, Sparse, Tiled, Weights};
