//! The methods that compute all pairs: the problem that the settings of each describe. Positions from a file are
//! not read yet.
//!
//! What must hold: the problem depends only on the settings that define the map.

use crate::all_pairs::{
    AffinityMatcher, AllPairsMethod as _, Cosne, Cost, Descent, DescentOptimizer, Entropic, InitialPositions, Phate,
    PhateAffinity, Problem, Sne, SymmetricEntropic, Tsne, TsneKhorn, affinity_of, map_affinity_of,
};
use crate::config::{Init, Optimizer, Settings};
use crate::metric::Metric;

/// SNE (Hinton, Roweis 2002): see [`Sne`].
pub(super) fn sne(config: &Settings) -> Problem {
    let own = Sne::default();
    Sne {
        affinity: Entropic { perplexity: config.perplexity, ..own.affinity },
        cost: pair_cost(config.metric),
        descent: descent(config, own.descent),
    }
    .problem()
}

/// t-SNE (van der Maaten, Hinton 2008), in any number of components: see [`Tsne`].
pub(super) fn tsne(config: &Settings) -> Problem {
    let own = Tsne::default();
    Tsne {
        affinity: Entropic { perplexity: config.perplexity, ..own.affinity },
        cost: pair_cost(config.metric),
        descent: descent(config, own.descent),
    }
    .problem()
}

/// TSNEkhorn (Van Assel, Vayer, Flamary, Courty 2023): see [`TsneKhorn`].
pub(super) fn tsnekhorn(config: &Settings) -> Problem {
    let own = TsneKhorn::default();
    TsneKhorn {
        affinity: SymmetricEntropic { perplexity: config.perplexity, ..own.affinity },
        cost: pair_cost(config.metric),
        descent: descent(config, own.descent),
        ..own
    }
    .problem()
}

/// COSNE (Guo, Guo, Yu 2022), in the Poincaré ball: see [`Cosne`].
pub(super) fn cosne(config: &Settings) -> Problem {
    let own = Cosne::default();
    Cosne {
        affinity: Entropic { perplexity: config.perplexity, ..own.affinity },
        cost: pair_cost(config.metric),
        descent: descent(config, own.descent),
        ..own
    }
    .problem()
}

/// TorchDR's AffinityMatcher: see [`AffinityMatcher`].
pub(super) fn affinity_matcher(config: &Settings) -> Problem {
    let own = AffinityMatcher::new(Entropic::default(), map_affinity_of(config.map_affinity));
    AffinityMatcher {
        affinity: affinity_of(config.affinity, config.perplexity, config.n_neighbors),
        cost: pair_cost(config.metric),
        loss: config.loss,
        // Weights fall with the square of the number of rows, and the gradient of their squared
        // difference falls faster still. With many rows, the gradient at the first positions may
        // therefore be below any threshold above 0, and the descent would end at once.
        descent: Descent { min_grad_norm: 0.0, ..descent(config, own.descent) },
        map: own.map,
    }
    .problem()
}

/// PHATE (Moon et al. 2019): see [`Phate`].
pub(super) fn phate(config: &Settings) -> Problem {
    let own = Phate::default();
    // The kernel's k includes the row itself, and must not exceed the number of rows; `n_neighbors` is
    // limited to two less.
    let k = own.affinity.k.min(config.n_neighbors + 2);
    // After many steps of the diffusion of two rows, both have the same potential, and so no distance.
    let t = if k == 2 { 1 } else { own.affinity.t };
    let affinity = PhateAffinity { k, t, ..own.affinity };
    Phate { affinity, cost: pair_cost(config.metric), descent: descent(config, own.descent) }.problem()
}

/// Returns the cost of a pair of rows that were prepared for `metric`, as TorchDR's guide defines it.
fn pair_cost(metric: Metric) -> Cost {
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
fn descent(config: &Settings, own: Descent) -> Descent {
    let max_iter = config.n_epochs;
    let ball = matches!(own.optimizer, DescentOptimizer::RiemannianAdam(_));
    Descent {
        n_components: config.n_components,
        init: match config.init {
            Init::Random if ball => InitialPositions::Hyperbolic,
            Init::Random => InitialPositions::Normal,
            Init::File(_) => InitialPositions::Positions(Vec::new()),
            Init::Pca | Init::Centroid => InitialPositions::Pca,
        },
        optimizer: match config.optimizer {
            _ if ball => own.optimizer,
            Optimizer::Adam => DescentOptimizer::ADAM,
            // The planner refuses gains.
            Optimizer::Momentum | Optimizer::Gains => DescentOptimizer::SGD,
        },
        lr: config.learning_rate.map(f64::from).or(own.lr),
        early_exaggeration: f64::from(config.early_exaggeration),
        early_exaggeration_iter: own.early_exaggeration_iter.min(max_iter / 3),
        max_iter,
        seed: config.seed,
        ..own
    }
}
