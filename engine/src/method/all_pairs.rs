//! The shared parts of the exact methods: the table entry of a method that computes all pairs, and the
//! translation of a config into the method's problem.
//!
//! What must hold: the problem depends only on the settings that define the map.

use super::{Entry, Steps};
use crate::all_pairs::{Cost, Descent, Optimizer as Stepper, Problem, Start};
use crate::layout::{Checkpoints, Coding, Edges, Gpu, Objective, Optimizer, Options, Start as Begin};
use crate::observe::Progress;
use crate::settings::Settings;
use crate::{Error, Init, Metric, Result};

/// The properties of a method that computes all pairs.
#[derive(Debug)]
pub(crate) struct Exact {
    /// Returns the problem that the settings describe. Positions from a file are not read yet.
    pub(crate) problem: fn(&Settings) -> Problem,
    /// The largest number of rows. The time grows with the square of the rows.
    pub(crate) rows: u64,
    /// Streamed methods to use instead.
    pub(crate) instead: &'static [&'static str],
}

/// With this number of rows, an iteration takes some seconds and a map some hours, on two cores.
pub(super) const MOST_ROWS: u64 = 100_000;

impl Entry {
    /// The common properties of all exact methods.
    pub(super) const EXACT: Entry = Entry {
        name: "",
        about: "",
        affinity: None,
        objective: &NoEdges,
        knows: &[],
        defaults,
        epochs: Steps(&[(u64::MAX, 2000)]),
        negatives: |_| 0,
        exaggerated: 0,
        falls: |_| None,
        repeats: false,
        begins: None,
        exact: None,
    };
}

/// The defaults of TorchDR's guide: squared distances, first positions from PCA, SGD.
pub(super) fn defaults(config: Settings) -> Settings {
    Settings { metric: Metric::Sqeuclidean, init: Init::Pca, optimizer: Optimizer::Momentum, ..config }
}

/// Returns the cost of a pair of rows that were prepared for `metric`, as TorchDR's guide defines it.
pub(super) fn cost(metric: Metric) -> Cost {
    match metric {
        Metric::Euclidean => Cost::Euclidean,
        // Rows prepared for cosine and correlation have length √½, so that their squared distance is 1 −
        // cosine.
        Metric::Sqeuclidean | Metric::Hamming | Metric::Cosine | Metric::Correlation => Cost::Sqeuclidean,
        Metric::Angular => Cost::Angular,
        Metric::Manhattan => Cost::Manhattan,
    }
}

/// Returns a method's descent with the config's options. Early exaggeration lasts at most a third of the
/// iterations, as in streamed methods.
pub(super) fn descent(config: &Settings, own: Descent) -> Descent {
    let max_iter = config.n_epochs;
    let ball = matches!(own.optimizer, Stepper::RiemannianAdam(_));
    Descent {
        n_components: config.n_components,
        init: match config.init {
            Init::Random if ball => Start::Hyperbolic,
            Init::Random => Start::Normal,
            Init::File(_) => Start::Positions(Vec::new()),
            Init::Pca | Init::Centroid => Start::Pca,
        },
        optimizer: match config.optimizer {
            _ if ball => own.optimizer,
            Optimizer::Adam => Stepper::ADAM,
            // The planner refuses gains.
            Optimizer::Momentum | Optimizer::Gains => Stepper::SGD,
        },
        lr: config.learning_rate.map(f64::from).or(own.lr),
        early_exaggeration: f64::from(config.early_exaggeration),
        early_exaggeration_iter: own.early_exaggeration_iter.min(max_iter / 3),
        max_iter,
        seed: config.seed,
        ..own
    }
}

/// The objective of methods without edges. Laying out edges with it is an error.
#[derive(Debug)]
struct NoEdges;

impl Objective for NoEdges {
    fn field(&self) -> bool {
        false
    }

    fn coding(&self) -> Coding {
        Coding::Roots
    }

    fn has_device(&self) -> bool {
        false
    }

    fn run(
        &self,
        _: Option<&Gpu>,
        _: &Options,
        _: &Edges,
        _: Begin<'_>,
        _: &mut dyn Checkpoints,
        _: &Progress<'_>,
    ) -> Result<Vec<f32>> {
        Err(Error::Config { field: "method", why: "it computes all pairs, and has no edges to lay out".into() })
    }
}
