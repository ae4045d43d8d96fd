//! What a run goes by: every option of a [`Config`](crate::Config) with its
//! value, whether it was asked for or is the method's default.
//!
//! What must hold: a run directory is identified by the settings of the plan
//! that runs, and by no other copy of them.

use serde::{Deserialize, Serialize};

use crate::config::{Init, Metric};
use crate::device::Device;
use crate::exact::{MatchLoss, NamedAffinity, NamedMap};
use crate::layout::Optimizer;
use crate::method::{Method, Opt};
use crate::observe::Stage;

/// The resolved options of a run. The fields are those of
/// [`Config`](crate::Config), which documents them; of options that the method
/// does not know the value says nothing.
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
    pub map_affinity: NamedMap,
    pub loss: MatchLoss,
    /// `None`: the rule of the method, [`Method::step_rule`].
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

impl Settings {
    /// The defaults of `method` for `rows` rows.
    pub fn of(method: Method, rows: u64) -> Self {
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
            map_affinity: NamedMap::Student,
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
        method.defaults(common)
    }

    /// The settings that decide the map's bytes, as JSON: what a run directory
    /// must agree on before a run goes on in it. What says how a run is done,
    /// such as threads and memory, is not among them.
    pub(crate) fn identity(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            for opt in Opt::ALL.into_iter().filter(|&opt| !self.method.knows(opt)) {
                fields.remove(opt.name());
            }
            // Another version may find another map: its stages do not mix with ours.
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
    fn identity_leaves_out_what_never_changes_the_map() {
        let a = Settings::of(Method::UMAP, 1000);
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
        let tsne = Settings::of(Method::TSNE, 1000);
        assert_ne!(tsne.identity(), Settings { perplexity: 5.0, ..tsne.clone() }.identity());
        assert_ne!(tsne.identity(), Settings::of(Method::INFOTSNE, 1000).identity());
        // An option that the method does not know says nothing about its map.
        assert!(tsne.identity().get("min_dist").is_none());
    }
}
