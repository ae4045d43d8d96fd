//! The resolved options of a run: every option of a [`Config`](crate::Config) with its value, either the user's
//! or the method's default.
//!
//! What must hold: a run directory is identified by the settings of the run's plan, and by no other copy of
//! them.

use serde::{Deserialize, Serialize};

use super::{Init, MatchLoss, Method, MethodOption, NamedAffinity, NamedMapAffinity, Optimizer};
use crate::device::Device;
use crate::metric::Metric;
use crate::observe::Stage;

/// The resolved options of a run. The fields are documented in [`Config`](crate::Config). The values of options
/// that the method does not have are meaningless.
#[expect(missing_docs, reason = "as in Config")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub method: Method,
    pub n_neighbors: usize,
    pub perplexity: f64,
    pub n_components: usize,
    pub min_dist: f64,
    pub spread: f64,
    pub metric: Metric,
    pub init: Init,
    pub n_epochs: usize,
    pub negative_sample_rate: usize,
    pub n_negatives: usize,
    pub early_exaggeration: f32,
    pub optimizer: Optimizer,
    pub affinity: NamedAffinity,
    pub map_affinity: NamedMapAffinity,
    pub loss: MatchLoss,
    /// `None`: the default rule of the method, [`Method::step_rule`].
    pub learning_rate: Option<f32>,
    pub recall: f64,
    pub seed: u64,
    pub threads: Option<usize>,
    pub batch_rows: Option<usize>,
    pub memory: u64,
    pub device: Device,
    pub device_memory: Option<u64>,
    pub disk: Option<u64>,
    pub keep_stages: Option<Vec<Stage>>,
    pub checkpoint: f64,
}

/// Counts the changes that alter graphs or maps within one version of lowland. 2: ties between equally near
/// neighbours are resolved by a hash.
const ALGORITHM: u32 = 2;

/// The options that few rows limit, and whether the user set them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) n_neighbors: bool,
    pub(crate) perplexity: bool,
}

impl Settings {
    /// Returns the defaults of `method` for `rows` rows.
    pub fn defaults_for(method: Method, rows: u64) -> Self {
        let asked = crate::Config::default();
        let common = Settings {
            method,
            n_neighbors: 15,
            perplexity: 30.0,
            n_components: 2,
            min_dist: 0.1,
            spread: 1.0,
            metric: Metric::Euclidean,
            init: Init::Centroid,
            n_epochs: method.epochs(rows),
            negative_sample_rate: 5,
            n_negatives: 5,
            early_exaggeration: 1.0,
            optimizer: Optimizer::Adam,
            affinity: NamedAffinity::Entropic,
            map_affinity: NamedMapAffinity::Student,
            loss: MatchLoss::Square,
            learning_rate: None,
            recall: asked.recall,
            seed: asked.seed,
            threads: asked.threads,
            batch_rows: asked.batch_rows,
            memory: asked.memory,
            device: asked.device,
            device_memory: asked.device_memory,
            disk: asked.disk,
            keep_stages: asked.keep_stages,
            checkpoint: asked.checkpoint,
        };
        method.defaults(common).limited_by(rows)
    }

    /// Limits defaults that assume many rows.
    ///
    /// - `n_neighbors` is at most the number of other rows; for exact methods, which compute entropies, one
    ///   less.
    /// - `perplexity` is at most a third of the other rows, because entropic affinities keep three times as
    ///   many neighbours. With more than two rows, `perplexity` stays above 1, where a single neighbour would
    ///   have all the weight.
    /// - `early_exaggeration` of t-SNE: see [`Settings::limit_exaggeration`].
    fn limited_by(mut self, rows: u64) -> Self {
        let others = rows.saturating_sub(1).max(1);
        let exact = self.method.is_all_pairs();
        let most = if exact { others - 1 } else { others };
        self.n_neighbors = self.n_neighbors.min(usize::try_from(most).unwrap_or(usize::MAX));
        let (third, least) = (others as f64 / 3.0, if exact { 1.5 } else { 1.5f64.min(others as f64) });
        self.perplexity = self.perplexity.min(third.max(least));
        self.limit_exaggeration(rows);
        self
    }

    /// Returns the settings for rows of which only `distinct` differ: the defaults that few rows limit are those of as
    /// many rows, and what the user `asked` for stays.
    pub(crate) fn of_distinct(&self, distinct: u64, asked: Asked) -> Self {
        let few = self.clone().limited_by(distinct);
        let mut settings = self.clone();
        if !asked.perplexity {
            settings.perplexity = few.perplexity;
        }
        if !asked.n_neighbors {
            settings.n_neighbors = few.n_neighbors;
        }
        settings
    }

    /// Describes the options that are less in `few`, settings for fewer rows, of those that the method's affinity has.
    pub(crate) fn reduced_to(&self, few: &Self) -> Vec<String> {
        let rounded = |x: f64| (x * 100.0).round() / 100.0;
        let matcher = self.method.supports(MethodOption::Affinity);
        let has_perplexity =
            self.method.supports(MethodOption::Perplexity) && (!matcher || self.affinity.has_perplexity());
        let mut reduced = Vec::new();
        if has_perplexity && few.perplexity < self.perplexity {
            reduced.push(format!(
                "perplexity is limited to {} instead of {}",
                rounded(few.perplexity),
                rounded(self.perplexity)
            ));
        }
        if matcher && self.affinity == NamedAffinity::Umap && few.n_neighbors < self.n_neighbors {
            reduced.push(format!("n_neighbors is limited to {} instead of {}", few.n_neighbors, self.n_neighbors));
        }
        reduced
    }

    /// Limits t-SNE's default exaggeration to the square of rows / (3 · perplexity), but at least 1.
    /// Exaggeration gathers clusters of rows that are neighbours. If most rows are neighbours of each other,
    /// exaggerated attraction outweighs repulsion everywhere and only shrinks the map.
    pub(crate) fn limit_exaggeration(&mut self, rows: u64) {
        if self.method == Method::TSNE {
            let share = rows as f64 / (3.0 * self.perplexity);
            self.early_exaggeration = self.early_exaggeration.min((share * share).max(1.0) as f32);
        }
    }

    /// Returns the settings that the map's bytes depend on, as JSON. A run directory must have equal settings
    /// before a run is resumed in it. Settings of how a run is done, such as threads and memory, are left out.
    pub(crate) fn identity(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            for opt in MethodOption::ALL.into_iter().filter(|&opt| !self.method.supports(opt)) {
                fields.remove(opt.name());
            }
            // Stages made by another algorithm of the same version cannot be mixed with this one's.
            fields.insert("algorithm".into(), ALGORITHM.into());
            // Stages of another version cannot be mixed with this one's, because it may give another map.
            fields.insert("version".into(), env!("CARGO_PKG_VERSION").into());
            for free in
                ["threads", "batch_rows", "memory", "device", "device_memory", "disk", "keep_stages", "checkpoint"]
            {
                fields.remove(free);
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_excludes_options_that_never_change_the_map() {
        let a = Settings::defaults_for(Method::UMAP, 1000);
        let b = Settings {
            threads: Some(7),
            batch_rows: Some(3),
            memory: 1,
            device: Device::Cuda(1),
            device_memory: Some(3),
            disk: Some(2),
            checkpoint: 0.5,
            ..a.clone()
        };
        assert_eq!(a.identity(), b.identity());
        assert_ne!(a.identity(), Settings { seed: 1, ..a.clone() }.identity());
        let tsne = Settings::defaults_for(Method::TSNE, 1000);
        assert_ne!(tsne.identity(), Settings { perplexity: 5.0, ..tsne.clone() }.identity());
        assert_ne!(tsne.identity(), Settings::defaults_for(Method::INFOTSNE, 1000).identity());
        // An option that the method does not have is no part of the identity.
        assert!(tsne.identity().get("min_dist").is_none());
    }
}
