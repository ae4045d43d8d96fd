//! UMAP (McInnes, Healy, Melville 2018): fuzzy neighbours, and edges that fire
//! as often as they weigh. The defaults are umap-learn's where it has them.

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
    // Between umap-learn's 500 and 200 the neighbours kept grow by as much as the passes.
    epochs: Steps(&[(10_000, 500), (100_000, 300), (u64::MAX, 200)]),
    negatives: |config| config.negative_sample_rate,
    exaggerated: 0,
    falls: |_| Some(0),
    repeats: false,
    begins: None,
    exact: None,
};
