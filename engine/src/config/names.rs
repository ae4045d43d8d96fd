//! What a config names: input affinities, optimizers, and the parts of `affinity-matcher`. Their arithmetic is in
//! the stages.

use serde::{Deserialize, Serialize};

use super::Settings;

/// The input affinities of the streamed methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// UMAP's fuzzy neighbours, with [`Settings::n_neighbors`].
    Umap,
    /// Conditional probabilities with [`Settings::perplexity`], on three times as many neighbours.
    Entropic,
    /// PaCMAP's near and mid-near pairs, with [`Settings::n_neighbors`].
    Pacmap,
}

impl Affinity {
    /// Returns the name, as in the edge store's metadata.
    pub fn name(self) -> &'static str {
        match self {
            Affinity::Umap => "umap",
            Affinity::Entropic => "entropic",
            Affinity::Pacmap => "pacmap",
        }
    }

    /// Returns the number of neighbours to search for each of `rows` rows.
    pub fn neighbors(self, settings: &Settings, rows: u64) -> usize {
        let most = rows.saturating_sub(1).min(u64::from(u32::MAX)) as usize;
        match self {
            Affinity::Umap => settings.n_neighbors,
            Affinity::Entropic => {
                ((3.0 * settings.perplexity).round().min(1e6) as usize).clamp(2.min(most), most.max(1))
            }
            Affinity::Pacmap => {
                settings.n_neighbors.saturating_add(EXTRA_CANDIDATES).min(most.max(settings.n_neighbors))
            }
        }
    }

    /// Returns the number of a row's directed edges, given `k` neighbours.
    pub fn degree(self, settings: &Settings, k: usize) -> usize {
        match self {
            Affinity::Umap | Affinity::Entropic => k,
            Affinity::Pacmap => settings.n_neighbors.min(k) + mid_near_per_row(settings),
        }
    }
}

/// Number of candidates of PaCMAP in addition to the near pairs that are kept.
const EXTRA_CANDIDATES: usize = 50;

/// Returns the number of PaCMAP's mid-near pairs of a row.
pub(crate) fn mid_near_per_row(settings: &Settings) -> usize {
    settings.n_neighbors.div_ceil(2).max(1)
}

/// How rows are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam (Kingma, Ba 2015), with decay rates β₁ = 0.9 and β₂ = 0.999.
    Adam,
    /// Gradient descent with momentum, as PyTorch's SGD.
    Momentum,
    /// Momentum with a gain for each component, which grows while the component keeps its direction (Jacobs
    /// 1988; van der Maaten 2008). Momentum with gains converges in fewer epochs, but is noisier with few rows
    /// and drawn negative samples. Not available for exact methods.
    Gains,
}

impl Optimizer {
    /// All optimizers.
    pub const ALL: [Optimizer; 3] = [Optimizer::Adam, Optimizer::Momentum, Optimizer::Gains];

    /// Returns the optimizer's name.
    pub fn name(self) -> &'static str {
        match self {
            Optimizer::Adam => "adam",
            Optimizer::Momentum => "momentum",
            Optimizer::Gains => "gains",
        }
    }
}

/// An affinity of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedAffinity {
    /// [`Entropic`](crate::all_pairs::Entropic) with a perplexity, on the nearest neighbours. The default.
    #[default]
    Entropic,
    /// [`SymmetricEntropic`](crate::all_pairs::SymmetricEntropic) with a perplexity, solved as in [`TsneKhorn`](crate::all_pairs::TsneKhorn).
    SymmetricEntropic,
    /// [`Sinkhorn`](crate::all_pairs::Sinkhorn) with a Gaussian kernel.
    Sinkhorn,
    /// [`DoublyStochasticQuadratic`](crate::all_pairs::DoublyStochasticQuadratic).
    Quadratic,
    /// [`NormalizedGaussian`](crate::all_pairs::NormalizedGaussian).
    Gaussian,
    /// [`NormalizedStudent`](crate::all_pairs::NormalizedStudent).
    Student,
    /// [`SelfTuning`](crate::all_pairs::SelfTuning).
    SelfTuning,
    /// [`Magic`](crate::all_pairs::Magic).
    Magic,
    /// [`UmapAffinity`](crate::all_pairs::UmapAffinity) with a number of neighbours.
    Umap,
}

impl NamedAffinity {
    /// All affinities, in the order in which they are listed to users.
    pub const ALL: [NamedAffinity; 9] = [
        NamedAffinity::Entropic,
        NamedAffinity::SymmetricEntropic,
        NamedAffinity::Sinkhorn,
        NamedAffinity::Quadratic,
        NamedAffinity::Gaussian,
        NamedAffinity::Student,
        NamedAffinity::SelfTuning,
        NamedAffinity::Magic,
        NamedAffinity::Umap,
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            NamedAffinity::Entropic => "entropic",
            NamedAffinity::SymmetricEntropic => "symmetric-entropic",
            NamedAffinity::Sinkhorn => "sinkhorn",
            NamedAffinity::Quadratic => "quadratic",
            NamedAffinity::Gaussian => "gaussian",
            NamedAffinity::Student => "student",
            NamedAffinity::SelfTuning => "self-tuning",
            NamedAffinity::Magic => "magic",
            NamedAffinity::Umap => "umap",
        }
    }

    /// Returns whether the affinity has a perplexity.
    pub fn has_perplexity(self) -> bool {
        matches!(self, NamedAffinity::Entropic | NamedAffinity::SymmetricEntropic)
    }
}

/// An affinity of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedMapAffinity {
    /// 1 / (1 + d²), all entries summing to 1, as in t-SNE. The default.
    #[default]
    Student,
    /// exp(−d²), all entries summing to 1.
    Gaussian,
    /// 1 / (1 + d²), made doubly stochastic, as in TSNEkhorn.
    SinkhornStudent,
    /// exp(−d²), made doubly stochastic.
    SinkhornGaussian,
}

impl NamedMapAffinity {
    /// All map affinities, in the order in which they are listed to users.
    pub const ALL: [NamedMapAffinity; 4] = [
        NamedMapAffinity::Student,
        NamedMapAffinity::Gaussian,
        NamedMapAffinity::SinkhornStudent,
        NamedMapAffinity::SinkhornGaussian,
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            NamedMapAffinity::Student => "student",
            NamedMapAffinity::Gaussian => "gaussian",
            NamedMapAffinity::SinkhornStudent => "sinkhorn-student",
            NamedMapAffinity::SinkhornGaussian => "sinkhorn-gaussian",
        }
    }
}

/// The loss between P and Q.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchLoss {
    /// Σ (P − Q)², the default.
    #[default]
    Square,
    /// −Σ P ln Q.
    CrossEntropy,
}

impl MatchLoss {
    /// All losses.
    pub const ALL: [MatchLoss; 2] = [MatchLoss::Square, MatchLoss::CrossEntropy];

    /// Returns the loss's name.
    pub fn name(self) -> &'static str {
        match self {
            MatchLoss::Square => "square",
            MatchLoss::CrossEntropy => "cross-entropy",
        }
    }
}
