//! Affinities by name, with TorchDR's defaults except for the options that a config sets.
//! `affinity-matcher` is composed from them.

use super::affinity::{
    Affinity, DoublyStochasticQuadratic, DualSolver, Entropic, Magic, Normalization, NormalizedGaussian,
    NormalizedStudent, SelfTuning, Sinkhorn, SymmetricEntropic, UmapAffinity,
};
use super::loss::{MapAffinity, MapKernel};
use crate::config::{NamedAffinity, NamedMap};

/// Returns the named affinity with the given perplexity or number of neighbours, if it has one.
pub fn affinity_of(name: NamedAffinity, perplexity: f64, n_neighbors: f64) -> Box<dyn Affinity> {
    match name {
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

/// Returns the named map affinity.
pub fn map_affinity_of(name: NamedMap) -> MapAffinity {
    match name {
        NamedMap::Student => MapAffinity::Normalized(MapKernel::STUDENT, Normalization::All),
        NamedMap::Gaussian => MapAffinity::Normalized(MapKernel::GAUSSIAN, Normalization::All),
        NamedMap::SinkhornStudent => MapAffinity::Sinkhorn(MapKernel::STUDENT),
        NamedMap::SinkhornGaussian => MapAffinity::Sinkhorn(MapKernel::GAUSSIAN),
    }
}
