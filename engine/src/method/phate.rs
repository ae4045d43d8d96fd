//! PHATE (Moon et al. 2019), exact: see [`Phate`].

use super::all_pairs::{Exact, cost, defaults, descent};
use super::{Entry, Opt, Steps};
use crate::exact::{Method, PHATE_ROWS, Phate, PhateAffinity};
use crate::settings::Settings;
use crate::{Metric, Optimizer};

pub(super) static ENTRY: Entry = Entry {
    name: "phate",
    about: "distances between potentials of a diffusion, exact (Moon et al. 2019)",
    knows: &[Opt::Optimizer],
    defaults: |config| Settings { metric: Metric::Euclidean, optimizer: Optimizer::Adam, ..defaults(config) },
    epochs: Steps(&[(u64::MAX, 1000)]),
    exact: Some(Exact {
        problem: |config| {
            let own = Phate::default();
            // Its kernel counts the row itself, and few rows have no more.
            let k = own.affinity.k.min(config.n_neighbors + 2);
            // Two rows are as good as the same after many steps of their diffusion, and have no distance then.
            let t = if k == 2 { 1 } else { own.affinity.t };
            let affinity = PhateAffinity { k, t, ..own.affinity };
            Phate { affinity, cost: cost(config.metric), descent: descent(config, own.descent) }.problem()
        },
        rows: PHATE_ROWS as u64,
        instead: &["umap", "pacmap"],
    }),
    ..Entry::EXACT
};
