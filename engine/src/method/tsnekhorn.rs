//! TSNEkhorn (Van Assel, Vayer, Flamary, Courty 2023), exact: see [`TsneKhorn`].

use super::all_pairs::{Exact, MOST_ROWS, cost, descent};
use super::{Entry, Opt};
use crate::all_pairs::{Method, SymmetricEntropic, TsneKhorn};

pub(super) static ENTRY: Entry = Entry {
    name: "tsnekhorn",
    about: "doubly stochastic entropic affinities against a doubly stochastic map, exact (Van Assel et al. 2023)",
    knows: &[Opt::Perplexity, Opt::EarlyExaggeration, Opt::Optimizer],
    exact: Some(Exact {
        problem: |config| {
            let own = TsneKhorn::default();
            TsneKhorn {
                affinity: SymmetricEntropic { perplexity: config.perplexity, ..own.affinity },
                cost: cost(config.metric),
                descent: descent(config, own.descent),
                ..own
            }
            .problem()
        },
        rows: MOST_ROWS,
        instead: &["tsne", "infotsne"],
    }),
    ..Entry::EXACT
};
