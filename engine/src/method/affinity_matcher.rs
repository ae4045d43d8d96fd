//! The exact method `affinity-matcher`, after TorchDR's AffinityMatcher: see [`Matcher`].

use super::all_pairs::{Exact, MOST_ROWS, cost, defaults, descent};
use super::{Entry, Opt, Steps};
use crate::Optimizer;
use crate::all_pairs::{Descent, Matcher};
use crate::settings::Settings;

pub(super) static ENTRY: Entry = Entry {
    name: "affinity-matcher",
    about: "any affinity of the rows against any of the map, exact (Van Assel et al. 2024)",
    knows: &[
        Opt::Affinity,
        Opt::MapAffinity,
        Opt::Loss,
        Opt::Perplexity,
        Opt::NNeighbors,
        Opt::EarlyExaggeration,
        Opt::Optimizer,
    ],
    defaults: |config| Settings { optimizer: Optimizer::Adam, n_neighbors: 30, ..defaults(config) },
    epochs: Steps(&[(u64::MAX, 1000)]),
    exact: Some(Exact {
        problem: |config| {
            let own = Matcher::new(crate::all_pairs::Entropic::default(), config.map_affinity.affinity());
            Matcher {
                affinity: config.affinity.affinity(config.perplexity, config.n_neighbors as f64),
                cost: cost(config.metric),
                loss: config.loss,
                // Weights fall with the square of the number of rows, and the gradient of their squared
                // difference falls faster still. With many rows, the gradient at the first positions may
                // therefore be below any threshold above 0, and the descent would end at once.
                descent: Descent { min_grad_norm: 0.0, ..descent(config, own.descent) },
                map: own.map,
            }
            .problem()
        },
        rows: MOST_ROWS,
        instead: &["umap", "tsne", "largevis"],
    }),
    ..Entry::EXACT
};
