//! t-SNE (van der Maaten, Hinton 2008), exact, in any number of components: see [`Tsne`].

use super::all_pairs::{Exact, MOST_ROWS, cost, defaults, descent};
use super::{Entry, Opt};
use crate::all_pairs::{Entropic, Method, Tsne};
use crate::settings::Settings;

pub(super) static ENTRY: Entry = Entry {
    name: "tsne-exact",
    about: "entropic neighbours against all rows, exact (van der Maaten, Hinton 2008)",
    knows: &[Opt::Perplexity, Opt::EarlyExaggeration, Opt::Optimizer],
    defaults: |config| Settings { early_exaggeration: 12.0, ..defaults(config) },
    exact: Some(Exact {
        problem: |config| {
            let own = Tsne::default();
            Tsne {
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
