//! COSNE (Guo, Guo, Yu 2022), exact, in the Poincaré ball: see [`Cosne`].

use super::all_pairs::{Exact, MOST_ROWS, cost, defaults, descent};
use super::{Entry, Opt};
use crate::Init;
use crate::all_pairs::{Cosne, Entropic, Method};
use crate::settings::Settings;

pub(super) static ENTRY: Entry = Entry {
    name: "cosne",
    about: "entropic neighbours in the Poincaré ball, exact (Guo et al. 2022)",
    knows: &[Opt::Perplexity, Opt::EarlyExaggeration],
    defaults: |config| Settings { early_exaggeration: 12.0, init: Init::Random, ..defaults(config) },
    exact: Some(Exact {
        problem: |config| {
            let own = Cosne::default();
            Cosne {
                affinity: Entropic { perplexity: config.perplexity, ..own.affinity },
                cost: cost(config.metric),
                descent: descent(config, own.descent),
                ..own
            }
            .problem()
        },
        rows: MOST_ROWS,
        instead: &["umap", "tsne"],
    }),
    ..Entry::EXACT
};
