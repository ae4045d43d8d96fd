//! What the exact methods share: a method's entry that computes all pairs, and
//! how a config becomes the problem that it is.
//!
//! What must hold: what a config says of a map decides the problem, and
//! nothing else does.

use super::{Entry, Steps};
use crate::exact::{Cost, Descent, Optimizer as Stepper, Problem, Start};
use crate::layout::{Checkpoints, Coding, Edges, Gpu, Objective, Optimizer, Options, Start as Begin};
use crate::observe::Progress;
use crate::settings::Settings;
use crate::{Error, Init, Metric, Result};

/// What a method is made of that computes all pairs.
#[derive(Debug)]
pub(crate) struct Exact {
    /// The problem that a config describes. Positions from a file are still to be read.
    pub(crate) problem: fn(&Settings) -> Problem,
    /// The most rows. Their pairs are what decides: twice the rows take four times as long.
    pub(crate) rows: u64,
    /// The methods that stream in its place.
    pub(crate) instead: &'static [&'static str],
}

/// Rows of which an iteration takes some seconds, and a map some hours, on two cores.
pub(super) const MOST_ROWS: u64 = 100_000;

impl Entry {
    /// What all exact methods have in common.
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

/// The guide's: squared distances, first positions from PCA, SGD.
pub(super) fn defaults(config: Settings) -> Settings {
    Settings { metric: Metric::Sqeuclidean, init: Init::Pca, optimizer: Optimizer::Momentum, ..config }
}

/// What a pair of rows costs that were made ready for `metric`, as the guide has it.
pub(super) fn cost(metric: Metric) -> Cost {
    match metric {
        Metric::Euclidean => Cost::Euclidean,
        // Of rows of length √½ the square of the distance is 1 less the cosine.
        Metric::Sqeuclidean | Metric::Hamming | Metric::Cosine | Metric::Correlation => Cost::Sqeuclidean,
        Metric::Angular => Cost::Angular,
        Metric::Manhattan => Cost::Manhattan,
    }
}

/// A method's own descent with what the config says of it. A run that is
/// shorter than usual exaggerates for a third of it, as those that stream do.
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
            // Gains are refused by the plan.
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

/// The objective of methods that have no edges: whoever brings some is told.
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
