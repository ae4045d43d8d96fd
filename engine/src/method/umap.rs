//! UMAP (McInnes, Healy, Melville 2018): fuzzy neighbours, and edges that fire in proportion to their weights.
//! The defaults are umap-learn's where umap-learn has the option.

use super::{Entry, Opt, Steps};
use crate::affinity::Affinity;
use crate::layout::rows::Firing;

pub(super) static ENTRY: Entry = Entry {
    name: "umap",
    about: "fuzzy neighbours by cross-entropy (McInnes et al. 2018)",
    affinity: Some(Affinity::Umap),
    objective: &Firing,
    knows: &[Opt::NNeighbors, Opt::MinDist, Opt::Spread, Opt::NegativeSampleRate],
    defaults: |config| config,
    // umap-learn uses 500 or 200 epochs. Between these, the share of preserved neighbours grows with the number
    // of epochs.
    epochs: Steps(&[(10_000, 500), (100_000, 300), (u64::MAX, 200)]),
    negatives: |config| config.negative_sample_rate,
    exaggerated: 0,
    falls: |_| Some(0),
    repeats: false,
    begins: None,
    exact: None,
};
