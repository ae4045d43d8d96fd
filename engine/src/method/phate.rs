//! PHATE (Moon et al. 2019), exact: see [`Phate`].

use super::all_pairs::{Exact, cost, defaults, descent};
use super::{Entry, Opt, Steps};
use crate::all_pairs::{Method, PHATE_ROWS, Phate, PhateAffinity};
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
            // The kernel's k includes the row itself, and must not exceed the number of rows; `n_neighbors` is
            // limited to two less.
            let k = own.affinity.k.min(config.n_neighbors + 2);
            // After many steps of the diffusion of two rows, both have the same potential, and so no distance.
            let t = if k == 2 { 1 } else { own.affinity.t };
            let affinity = PhateAffinity { k, t, ..own.affinity };
            Phate { affinity, cost: cost(config.metric), descent: descent(config, own.descent) }.problem()
        },
        rows: PHATE_ROWS as u64,
        instead: &["umap", "pacmap"],
    }),
    ..Entry::EXACT
};
