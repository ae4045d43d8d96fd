//! Affinities by name, with TorchDR's defaults except for the options that a config sets.
//! `affinity-matcher` is composed from them.

use super::affinity::{
    DoublyStochasticQuadratic, DualSolver, Entropic, Magic, Normalization, NormalizedGaussian, NormalizedStudent,
    SelfTuning, Sinkhorn, StreamedAffinity, SymmetricEntropic, UmapAffinity,
};
use super::loss::{MapAffinity, MapKernel};
use crate::config::{NamedAffinity, NamedMapAffinity};

/// Returns the named affinity with the given perplexity or number of neighbours, if it has one. `n_neighbors` limits
/// the neighbours that scales are computed from to `n_neighbors + 1`, for few rows.
pub fn affinity_of(name: NamedAffinity, perplexity: f64, n_neighbors: usize) -> Box<dyn StreamedAffinity> {
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
        NamedAffinity::SelfTuning => {
            let own = SelfTuning::default();
            Box::new(SelfTuning { k: own.k.min(n_neighbors + 1), ..own })
        }
        NamedAffinity::Magic => {
            let own = Magic::default();
            Box::new(Magic { k: own.k.min(n_neighbors + 1), ..own })
        }
        // Three rows have two neighbours each, of which fewer than two can count.
        NamedAffinity::Umap => {
            Box::new(UmapAffinity { n_neighbors: (n_neighbors as f64).max(1.5), ..UmapAffinity::default() })
        }
    }
}

/// Returns the named map affinity.
pub fn map_affinity_of(name: NamedMapAffinity) -> MapAffinity {
    match name {
        NamedMapAffinity::Student => MapAffinity::Normalized(MapKernel::STUDENT, Normalization::All),
        NamedMapAffinity::Gaussian => MapAffinity::Normalized(MapKernel::GAUSSIAN, Normalization::All),
        NamedMapAffinity::SinkhornStudent => MapAffinity::Sinkhorn(MapKernel::STUDENT),
        NamedMapAffinity::SinkhornGaussian => MapAffinity::Sinkhorn(MapKernel::GAUSSIAN),
    }
}
