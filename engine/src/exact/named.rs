//! Affinities by name, with the guide's defaults but for what a config says:
//! what a free combination is put together from.

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
    /// [`Entropic`], of a perplexity, on its nearest neighbours. The default.
    #[default]
    Entropic,
    /// [`SymmetricEntropic`], of a perplexity, as [`super::TsneKhorn`] solves it.
    SymmetricEntropic,
    /// [`Sinkhorn`] of a gaussian kernel.
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
    /// [`UmapAffinity`], of a number of neighbours.
    Umap,
}

impl NamedAffinity {
    /// All of them, in the order in which they are listed.
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

    /// Its name.
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

    /// Whether it has a perplexity.
    pub fn has_perplexity(self) -> bool {
        matches!(self, NamedAffinity::Entropic | NamedAffinity::SymmetricEntropic)
    }

    /// The affinity, of a perplexity or so many neighbours where it has one.
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
    /// 1 / (1 + d²), all of it summing to 1: t-SNE's, and the default.
    #[default]
    Student,
    /// exp(−d²), all of it summing to 1.
    Gaussian,
    /// 1 / (1 + d²), made doubly stochastic: TSNEkhorn's.
    SinkhornStudent,
    /// exp(−d²), made doubly stochastic.
    SinkhornGaussian,
}

impl NamedMap {
    /// All of them, in the order in which they are listed.
    pub const ALL: [NamedMap; 4] =
        [NamedMap::Student, NamedMap::Gaussian, NamedMap::SinkhornStudent, NamedMap::SinkhornGaussian];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            NamedMap::Student => "student",
            NamedMap::Gaussian => "gaussian",
            NamedMap::SinkhornStudent => "sinkhorn-student",
            NamedMap::SinkhornGaussian => "sinkhorn-gaussian",
        }
    }

    /// The affinity.
    pub fn affinity(self) -> MapAffinity {
        match self {
            NamedMap::Student => MapAffinity::Normalized(MapKernel::STUDENT, Normalization::All),
            NamedMap::Gaussian => MapAffinity::Normalized(MapKernel::GAUSSIAN, Normalization::All),
            NamedMap::SinkhornStudent => MapAffinity::Sinkhorn(MapKernel::STUDENT),
            NamedMap::SinkhornGaussian => MapAffinity::Sinkhorn(MapKernel::GAUSSIAN),
        }
    }
}
