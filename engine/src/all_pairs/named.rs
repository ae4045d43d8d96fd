//! Affinities by name, with TorchDR's defaults except for the options that a config sets.
//! `affinity-matcher` is composed from them.

use serde::{Deserialize, Serialize};

use super::affinity::{
    Affinity, DoublyStochasticQuadratic, DualSolver, Entropic, Magic, Normalization, NormalizedGaussian,
    NormalizedStudent, SelfTuning, Sinkhorn, SymmetricEntropic, UmapAffinity,
};
use super::loss::{MapAffinity, MapKernel};

/// An affinity of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedAffinity {
    /// [`Entropic`] with a perplexity, on the nearest neighbours. The default.
    #[default]
    Entropic,
    /// [`SymmetricEntropic`] with a perplexity, solved as in [`super::TsneKhorn`].
    SymmetricEntropic,
    /// [`Sinkhorn`] with a Gaussian kernel.
    Sinkhorn,
    /// [`DoublyStochasticQuadratic`].
    Quadratic,
    /// [`NormalizedGaussian`].
    Gaussian,
    /// [`NormalizedStudent`].
    Student,
    /// [`SelfTuning`].
    SelfTuning,
    /// [`Magic`].
    Magic,
    /// [`UmapAffinity`] with a number of neighbours.
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

    /// Returns the affinity with the given perplexity or number of neighbours, if it has one.
    pub fn affinity(self, perplexity: f64, n_neighbors: f64) -> Box<dyn Affinity> {
        match self {
            NamedAffinity::Entropic => Box::new(Entropic { perplexity, ..Entropic::default() }),
            NamedAffinity::SymmetricEntropic => Box::new(SymmetricEntropic {
                perplexity,
                solver: DualSolver::Lbfgs,
                lr: 1.0,
                max_iter: 100,
                ..SymmetricEntropic::default()
            }),
            NamedAffinity::Sinkhorn => Box::new(Sinkhorn::default()),
            NamedAffinity::Quadratic => Box::new(DoublyStochasticQuadratic::default()),
            NamedAffinity::Gaussian => Box::new(NormalizedGaussian::default()),
            NamedAffinity::Student => Box::new(NormalizedStudent::default()),
            NamedAffinity::SelfTuning => Box::new(SelfTuning::default()),
            NamedAffinity::Magic => Box::new(Magic::default()),
            NamedAffinity::Umap => Box::new(UmapAffinity { n_neighbors, ..UmapAffinity::default() }),
        }
    }
}

/// An affinity of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedMap {
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

impl NamedMap {
    /// All map affinities, in the order in which they are listed to users.
    pub const ALL: [NamedMap; 4] =
        [NamedMap::Student, NamedMap::Gaussian, NamedMap::SinkhornStudent, NamedMap::SinkhornGaussian];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            NamedMap::Student => "student",
            NamedMap::Gaussian => "gaussian",
            NamedMap::SinkhornStudent => "sinkhorn-student",
            NamedMap::SinkhornGaussian => "sinkhorn-gaussian",
        }
    }

    /// Returns the map affinity.
    pub fn affinity(self) -> MapAffinity {
        match self {
            NamedMap::Student => MapAffinity::Normalized(MapKernel::STUDENT, Normalization::All),
            NamedMap::Gaussian => MapAffinity::Normalized(MapKernel::GAUSSIAN, Normalization::All),
            NamedMap::SinkhornStudent => MapAffinity::Sinkhorn(MapKernel::STUDENT),
            NamedMap::SinkhornGaussian => MapAffinity::Sinkhorn(MapKernel::GAUSSIAN),
        }
    }
}
