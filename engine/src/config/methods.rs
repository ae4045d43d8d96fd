//! The only table of methods: for each its name, its own options, and its defaults. It is data; the arithmetic of
//! each method is in [`crate::methods`].
//!
//! To add a method, add an entry and a [`MethodId`] here, and its recipe to [`crate::methods`].
//!
//! What must hold: a method lists the options that it has. Any other option that the user sets is refused with
//! a message that names the methods that have the option.

use super::options::StepsByRows;
use super::{Affinity, Init, MethodOption, Optimizer, Settings};
use crate::Metric;

/// The properties of a method.
#[derive(Debug)]
pub(crate) struct MethodSpec {
    /// The method's number.
    pub(super) id: MethodId,
    /// The name that users give.
    pub(super) name: &'static str,
    /// A short description.
    pub(super) about: &'static str,
    /// The method's options, in addition to those that all methods have.
    pub(super) options: &'static [MethodOption],
    /// Returns the method's defaults, given those of all methods.
    pub(super) defaults: fn(Settings) -> Settings,
    /// Number of epochs, or of iterations over all pairs, by the number of rows.
    pub(super) epochs: StepsByRows,
    /// Whether the method streams or computes all pairs.
    pub(super) kind: Kind,
}

/// The properties that depend on whether a method streams.
#[derive(Debug)]
pub(super) enum Kind {
    /// The method moves the map along the edges of a graph, which streams.
    Streamed(Streamed),
    /// The method computes all pairs in memory.
    AllPairs(AllPairs),
}

/// The properties of a method that streams.
#[derive(Debug)]
pub(super) struct Streamed {
    /// The input affinity.
    pub(super) affinity: Affinity,
    /// Whether the repulsion of all rows is computed by a field over the plane.
    pub(super) field: bool,
    /// Returns the number of negative samples for each edge that fires (UMAP), or for each row.
    pub(super) negatives: fn(&Settings) -> usize,
    /// Number of epochs with early exaggeration, in a run of the usual length.
    pub(super) exaggeration_epochs: usize,
    /// Returns, for a number of epochs, after how many of them the learning rate falls linearly to 0; `None` if
    /// it never does.
    pub(super) decays_after: fn(u32) -> Option<u32>,
    /// Returns, for a number of epochs, after how many of them a few random draws are used in turn, and the number of
    /// these draws; `None`: each epoch has its own draw.
    pub(super) rounds: fn(u32) -> Option<(u32, u32)>,
    /// Standard deviation of the first component of the first positions; `None`: the extent of UMAP's first
    /// positions.
    pub(super) initial_deviation: Option<f64>,
}

/// The properties of a method that computes all pairs.
#[derive(Debug)]
pub(crate) struct AllPairs {
    /// The largest number of rows. The time grows with the square of the rows.
    pub(crate) rows: u64,
    /// Streamed methods to use instead.
    pub(crate) instead: &'static [&'static str],
}

/// With this number of rows, an iteration over all pairs takes some seconds and a map some hours, on two cores.
const MOST_ROWS: u64 = 100_000;

/// The largest number of rows of PHATE. Three f64 matrices of this size take 9.6 GB, and each of the about ten
/// products takes 16·10¹² operations.
pub const PHATE_ROWS: usize = 20_000;

/// The number of a method. The order is the table's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MethodId {
    Umap,
    LargeVis,
    InfoTsne,
    Tsne,
    Pacmap,
    Sne,
    TsneExact,
    TsneKhorn,
    Cosne,
    AffinityMatcher,
    Phate,
}

/// All methods, in the order in which they are listed to users.
pub(super) static ALL: &[&MethodSpec] =
    &[&UMAP, &LARGEVIS, &INFOTSNE, &TSNE, &PACMAP, &SNE, &TSNE_EXACT, &TSNEKHORN, &COSNE, &AFFINITY_MATCHER, &PHATE];

/// UMAP's defaults are umap-learn's where umap-learn has the option.
pub(super) static UMAP: MethodSpec = MethodSpec {
    id: MethodId::Umap,
    name: "umap",
    about: "fuzzy memberships of neighbours, by cross-entropy (McInnes et al. 2018)",
    options: &[MethodOption::NNeighbors, MethodOption::MinDist, MethodOption::Spread, MethodOption::NegativeSampleRate],
    defaults: |config| config,
    // umap-learn uses 500 or 200 epochs. Between these, the share of preserved neighbours grows with the number
    // of epochs.
    epochs: StepsByRows(&[(10_000, 500), (100_000, 300), (u64::MAX, 200)]),
    kind: Kind::Streamed(Streamed {
        affinity: Affinity::Umap,
        field: false,
        negatives: |config| config.negative_sample_rate,
        exaggeration_epochs: 0,
        decays_after: |_| Some(0),
        rounds: |_| None,
        initial_deviation: None,
    }),
};

pub(super) static LARGEVIS: MethodSpec = MethodSpec {
    id: MethodId::LargeVis,
    name: "largevis",
    about: "entropic affinities of neighbours, with negative samples (Tang et al. 2016)",
    options: &[
        MethodOption::Perplexity,
        MethodOption::NNegatives,
        MethodOption::EarlyExaggeration,
        MethodOption::Optimizer,
    ],
    defaults: |config| Settings { n_negatives: 35, optimizer: Optimizer::Gains, ..config },
    epochs: StepsByRows(&[(u64::MAX, 1000)]),
    kind: Kind::Streamed(Streamed {
        affinity: Affinity::Entropic,
        field: false,
        negatives: |config| config.n_negatives,
        exaggeration_epochs: 250,
        decays_after: |_| Some(0),
        rounds: |_| None,
        initial_deviation: Some(1e-4),
    }),
};

pub(super) static INFOTSNE: MethodSpec = MethodSpec {
    id: MethodId::InfoTsne,
    name: "infotsne",
    about: "t-SNE with many negative samples, by a contrastive loss (Damrich et al. 2023)",
    options: &[
        MethodOption::Perplexity,
        MethodOption::NNegatives,
        MethodOption::EarlyExaggeration,
        MethodOption::Optimizer,
    ],
    defaults: |config| Settings {
        n_negatives: 300,
        early_exaggeration: 12.0,
        optimizer: Optimizer::Momentum,
        ..config
    },
    epochs: StepsByRows(&[(u64::MAX, 1000)]),
    kind: Kind::Streamed(Streamed {
        affinity: Affinity::Entropic,
        field: false,
        negatives: |config| config.n_negatives,
        exaggeration_epochs: 250,
        decays_after: |_| Some(0),
        rounds: |_| None,
        initial_deviation: Some(1e-4),
    }),
};

pub(super) static TSNE: MethodSpec = MethodSpec {
    id: MethodId::Tsne,
    name: "tsne",
    about: "entropic affinities of neighbours, with repulsion of all rows, in two dimensions (van der Maaten et al. 2008)",
    options: &[MethodOption::Perplexity, MethodOption::EarlyExaggeration, MethodOption::Optimizer],
    defaults: |config| Settings { early_exaggeration: 12.0, optimizer: Optimizer::Gains, ..config },
    epochs: StepsByRows(&[(u64::MAX, 750)]),
    kind: Kind::Streamed(Streamed {
        affinity: Affinity::Entropic,
        field: true,
        negatives: |_| 0,
        exaggeration_epochs: 250,
        decays_after: |_| None,
        rounds: |_| None,
        initial_deviation: Some(1e-4),
    }),
};

pub(super) static PACMAP: MethodSpec = MethodSpec {
    id: MethodId::Pacmap,
    name: "pacmap",
    about: "near, mid-near and further pairs in three phases (Wang et al. 2021)",
    options: &[MethodOption::NNeighbors],
    defaults: |config| Settings { n_neighbors: 10, optimizer: Optimizer::Adam, ..config },
    epochs: StepsByRows(&[(u64::MAX, 450)]),
    kind: Kind::Streamed(Streamed {
        affinity: Affinity::Pacmap,
        field: false,
        negatives: |config| 2 * config.n_neighbors,
        exaggeration_epochs: 0,
        decays_after: |epochs| Some(3 * pacmap_phase(epochs)),
        rounds: |epochs| Some((2 * pacmap_phase(epochs), PACMAP_DRAWS)),
        initial_deviation: Some(1e-4),
    }),
};

/// Number of draws of further pairs in PaCMAP's third phase.
const PACMAP_DRAWS: u32 = 8;

/// Returns the number of epochs of each of PaCMAP's first two phases: 100 of 450 epochs or more, and the same
/// share of fewer.
pub(crate) fn pacmap_phase(epochs: u32) -> u32 {
    (epochs * 2 / 9).clamp(1, 100)
}

/// The defaults of TorchDR's guide for methods that compute all pairs: squared distances, first positions from
/// PCA, SGD.
fn all_pairs(config: Settings) -> Settings {
    Settings { metric: Metric::Sqeuclidean, init: Init::Pca, optimizer: Optimizer::Momentum, ..config }
}

pub(super) static SNE: MethodSpec = MethodSpec {
    id: MethodId::Sne,
    name: "sne",
    about: "entropic affinities and Gaussian affinities of the map, exact (Hinton, Roweis 2002)",
    options: &[MethodOption::Perplexity, MethodOption::EarlyExaggeration, MethodOption::Optimizer],
    defaults: all_pairs,
    epochs: StepsByRows(&[(u64::MAX, 2000)]),
    kind: Kind::AllPairs(AllPairs { rows: MOST_ROWS, instead: &["tsne", "infotsne"] }),
};

pub(super) static TSNE_EXACT: MethodSpec = MethodSpec {
    id: MethodId::TsneExact,
    name: "tsne-exact",
    about: "entropic affinities and Student-t affinities of the map, exact (van der Maaten, Hinton 2008)",
    options: &[MethodOption::Perplexity, MethodOption::EarlyExaggeration, MethodOption::Optimizer],
    defaults: |config| Settings { early_exaggeration: 12.0, ..all_pairs(config) },
    epochs: StepsByRows(&[(u64::MAX, 2000)]),
    kind: Kind::AllPairs(AllPairs { rows: MOST_ROWS, instead: &["tsne", "infotsne"] }),
};

pub(super) static TSNEKHORN: MethodSpec = MethodSpec {
    id: MethodId::TsneKhorn,
    name: "tsnekhorn",
    about: "doubly stochastic affinities of the data and of the map, exact (Van Assel et al. 2023)",
    options: &[MethodOption::Perplexity, MethodOption::EarlyExaggeration, MethodOption::Optimizer],
    defaults: all_pairs,
    epochs: StepsByRows(&[(u64::MAX, 2000)]),
    kind: Kind::AllPairs(AllPairs { rows: MOST_ROWS, instead: &["tsne", "infotsne"] }),
};

pub(super) static COSNE: MethodSpec = MethodSpec {
    id: MethodId::Cosne,
    name: "cosne",
    about: "entropic affinities, with a map in the Poincaré ball, exact (Guo et al. 2022)",
    options: &[MethodOption::Perplexity, MethodOption::EarlyExaggeration],
    defaults: |config| Settings { early_exaggeration: 12.0, init: Init::Random, ..all_pairs(config) },
    epochs: StepsByRows(&[(u64::MAX, 2000)]),
    kind: Kind::AllPairs(AllPairs { rows: MOST_ROWS, instead: &["umap", "tsne"] }),
};

pub(super) static AFFINITY_MATCHER: MethodSpec = MethodSpec {
    id: MethodId::AffinityMatcher,
    name: "affinity-matcher",
    about: "any affinity of the data with any affinity of the map, exact (Van Assel et al. 2024)",
    options: &[
        MethodOption::Affinity,
        MethodOption::MapAffinity,
        MethodOption::Loss,
        MethodOption::Perplexity,
        MethodOption::NNeighbors,
        MethodOption::EarlyExaggeration,
        MethodOption::Optimizer,
    ],
    defaults: |config| Settings { optimizer: Optimizer::Adam, n_neighbors: 30, ..all_pairs(config) },
    epochs: StepsByRows(&[(u64::MAX, 1000)]),
    kind: Kind::AllPairs(AllPairs { rows: MOST_ROWS, instead: &["umap", "tsne", "largevis"] }),
};

pub(super) static PHATE: MethodSpec = MethodSpec {
    id: MethodId::Phate,
    name: "phate",
    about: "distances between potentials of a diffusion, exact (Moon et al. 2019)",
    options: &[MethodOption::Optimizer],
    defaults: |config| Settings { metric: Metric::Euclidean, optimizer: Optimizer::Adam, ..all_pairs(config) },
    epochs: StepsByRows(&[(u64::MAX, 1000)]),
    kind: Kind::AllPairs(AllPairs { rows: PHATE_ROWS as u64, instead: &["umap", "pacmap"] }),
};
