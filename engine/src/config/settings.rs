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

/// The resolved options of a run: those of [`Config`](crate::Config), each with a value. The values of options that the
/// method does not have are meaningless.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The method.
    pub method: Method,
    /// Number of neighbours of each point, which does not include the point itself (umap-learn's number does).
    pub n_neighbors: usize,
    /// Effective number of neighbours of each point: the exponential of the entropy of their weights.
    pub perplexity: f64,
    /// Number of components of the map, 1 to 64.
    pub n_components: usize,
    /// The effective smallest distance between neighbours in the map, 0 ≤ min_dist ≤ spread.
    pub min_dist: f64,
    /// The scale of the map's distances, above 0.
    pub spread: f64,
    /// The distance between rows of the data.
    pub metric: Metric,
    /// The source of the first positions.
    pub init: Init,
    /// Number of epochs (passes over the edges); for exact methods the largest number of iterations.
    pub n_epochs: usize,
    /// Number of negative samples for each edge that attracts (UMAP).
    pub negative_sample_rate: usize,
    /// Number of negative samples for each point.
    pub n_negatives: usize,
    /// Factor of the attraction in the first 250 epochs, or in the first third of the epochs.
    pub early_exaggeration: f32,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The affinity of the rows, for `affinity-matcher`.
    pub affinity: NamedAffinity,
    /// The affinity of the map's points, for `affinity-matcher`.
    pub map_affinity: NamedMapAffinity,
    /// The loss between both affinities, for `affinity-matcher`.
    pub loss: MatchLoss,
    /// Learning rate of the first epoch, in units of the gradient. `None`: by the rule of the method,
    /// [`Method::step_rule`].
    pub learning_rate: Option<f32>,
    /// Share of the true neighbours that the graph should contain. Ignored where all pairs are compared.
    pub recall: f64,
    /// Seed of every random draw.
    pub seed: u64,
    /// Number of worker threads; `None`: the number of cores. Does not change the map.
    pub threads: Option<usize>,
    /// Number of rows read at a time; `None`: as the budget allows. Does not change the map.
    pub batch_rows: Option<usize>,
    /// Bytes of memory that the process may use. Does not change the map.
    pub memory: u64,
    /// The device of the neighbour search by lists and of the layout. Does not change the map.
    pub device: Device,
    /// Bytes of a GPU's memory that may be used; `None`: the free memory. Does not change the map.
    pub device_memory: Option<u64>,
    /// Bytes that the run directory may take; `None`: any number. Does not change the map.
    pub disk: Option<u64>,
    /// Stages whose files stay in the run directory after the last stage that reads them; `None`: all. Does not
    /// change the map.
    pub keep_stages: Option<Vec<Stage>>,
    /// Seconds between checkpoints of the layout, and so about the largest loss if the process is killed. Does not
    /// change the map.
    pub checkpoint: f64,
}

/// Counts the changes that alter graphs or maps within one version of lowland. 2: ties between equally near
/// neighbours are resolved by a hash.
const ALGORITHM: u32 = 2;

/// The options that few rows limit, and whether the user set them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
