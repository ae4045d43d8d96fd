//! SNE (Hinton, Roweis 2002), exact: see [`Sne`].

use super::all_pairs::{Exact, MOST_ROWS, cost, descent};
use super::{Entry, Opt};
use crate::all_pairs::{Entropic, Method, Sne};

pub(super) static ENTRY: Entry = Entry {
    name: "sne",
    about: "entropic neighbours against all rows by gaussians, exact (Hinton, Roweis 2002)",
    knows: &[Opt::Perplexity, Opt::EarlyExaggeration, Opt::Optimizer],
    exact: Some(Exact {
        problem: |config| {
            let own = Sne::default();
            Sne {
                affinity: Entropic { perplexity: config.perplexity, ..own.affinity },
                cost: cost(config.metric),
                descent: descent(config, own.descent),
            }
            .problem()
        },
        rows: MOST_ROWS,
        instead: &["tsne", "infotsne"],
    }),
    ..Entry::EXACT
};
