//! What a user asks for: one plain struct with umap-learn's names, in which
//! options may be unset.
//!
//! A `Config` is only data. An option that is unset means the default of the
//! config's method, which [`Opt`](crate::Opt) lists; [`Config::settings`] fills
//! it in. [`Config::plan`] is the one validator, and the stages accept nothing
//! but the [`Plan`](crate::Plan) that it returns.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::exact::{MatchLoss, NamedAffinity, NamedMap};
use crate::layout::Optimizer;
use crate::method::Method;
use crate::metric::Metric;
use crate::observe::Stage;
use crate::settings::Settings;

/// Where the first positions come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// A layout of the index's centroids, each row placed among its nearest.
    /// Data too small to have centroids starts from PCA.
    #[default]
    Centroid,
    /// The first principal components, scaled to ±10.
    Pca,
    /// Uniform in ±10.
    Random,
    /// Positions in an .npy file, rows × n_components, in the source's order.
    File(PathBuf),
}

/// What is asked of a run. A field that is `None` means the default of
/// [`Config::method`]: [`Opt::default_text`](crate::Opt::default_text) tells it
/// for all methods. An option that is set and that the method does not know is
/// refused by [`Config::plan`].
///
/// ```
/// use lowland_engine::{Config, Method};
///
/// let config = Config { method: Method::TSNE, ..Config::default() };
/// assert_eq!(config.settings(1_797).early_exaggeration, 12.0); // t-SNE's own default
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How a map is made. Default UMAP.
    pub method: Method,
    /// Neighbours of each point, itself not counted (umap-learn counts it).
    pub n_neighbors: Option<usize>,
    /// How many neighbours count, by the entropy of their weights.
    pub perplexity: Option<f64>,
    /// Components of the map, 1 to 64.
    pub n_components: Option<usize>,
    /// How close neighbours may lie in the map, 0 ≤ min_dist ≤ spread.
    pub min_dist: Option<f64>,
    /// The scale of the map's distances, above 0.
    pub spread: Option<f64>,
    /// How distance is measured in the data.
    pub metric: Option<Metric>,
    /// Where the first positions come from.
    pub init: Option<Init>,
    /// Passes over the edges; of exact methods iterations at the most.
    pub n_epochs: Option<usize>,
    /// Random points that push for each neighbour that pulls.
    pub negative_sample_rate: Option<usize>,
    /// Random points that push each point.
    pub n_negatives: Option<usize>,
    /// What attraction is multiplied by in the first 250 epochs, or the first third.
    pub early_exaggeration: Option<f32>,
    /// How points move.
    pub optimizer: Option<Optimizer>,
    /// The affinity of the rows that a matcher takes.
    pub affinity: Option<NamedAffinity>,
    /// The affinity of the map that a matcher takes.
    pub map_affinity: Option<NamedMap>,
    /// How a matcher compares the two.
    pub loss: Option<MatchLoss>,
    /// The first epoch's step, in units of the gradient (that of the guide and
    /// scikit-learn, which is four times openTSNE's).
    pub learning_rate: Option<f32>,
    /// Share of the true neighbours that the graph should hold. Default 0.95.
    /// Ignored where every pair is compared.
    pub recall: f64,
    /// Seed of every random draw. Default 42.
    pub seed: u64,
    /// Worker threads; by default one a core. Never changes the map.
    pub threads: Option<usize>,
    /// Rows read at a time; by default about 8 MiB. Never changes the map.
    pub batch_rows: Option<usize>,
    /// Bytes that the process may hold. Default 4 GiB. Never changes the map.
    pub memory: u64,
    /// Where the layout runs. Default a GPU where there is one. Never changes the map.
    pub device: Device,
    /// Bytes of a GPU's memory that may be held; by default what is free there. Never changes the map.
    pub device_memory: Option<u64>,
    /// Bytes that the run directory may come to; by default as many as there are. Never changes the map.
    pub disk: Option<u64>,
    /// Stages whose files stay in the run directory when nothing needs them
    /// any more; by default all. Never changes the map.
    pub keep_stages: Option<Vec<Stage>>,
    /// Seconds between checkpoints of the layout, which is the most that a
    /// kill can cost it. Default 60. Never changes the map.
    pub checkpoint: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            method: Method::UMAP,
            n_neighbors: None,
            perplexity: None,
            n_components: None,
            min_dist: None,
            spread: None,
            metric: None,
            init: None,
            n_epochs: None,
            negative_sample_rate: None,
            n_negatives: None,
            early_exaggeration: None,
            optimizer: None,
            affinity: None,
            map_affinity: None,
            loss: None,
            learning_rate: None,
            recall: 0.95,
            seed: 42,
            threads: None,
            batch_rows: None,
            memory: 4 << 30,
            device: Device::Auto,
            device_memory: None,
            disk: None,
            keep_stages: None,
            checkpoint: 60.0,
        }
    }
}

impl Config {
    /// A config of `method` in which nothing else is asked.
    pub fn of(method: Method) -> Self {
        Config { method, ..Config::default() }
    }

    /// What is asked, and for every option that is unset its default: that of
    /// the method for `rows` rows. Nothing is validated here.
    pub fn settings(&self, rows: u64) -> Settings {
        let own = Settings::of(self.method, rows);
        let mut settings = Settings {
            n_neighbors: self.n_neighbors.unwrap_or(own.n_neighbors),
            perplexity: self.perplexity.unwrap_or(own.perplexity),
            n_components: self.n_components.unwrap_or(own.n_components),
            min_dist: self.min_dist.unwrap_or(own.min_dist),
            spread: self.spread.unwrap_or(own.spread),
            metric: self.metric.unwrap_or(own.metric),
            init: self.init.clone().unwrap_or(own.init),
            n_epochs: self.n_epochs.unwrap_or(own.n_epochs),
            negative_sample_rate: self.negative_sample_rate.unwrap_or(own.negative_sample_rate),
            n_negatives: self.n_negatives.unwrap_or(own.n_negatives),
            early_exaggeration: self
                .early_exaggeration
                .unwrap_or(Settings::of(self.method, u64::MAX).early_exaggeration),
            optimizer: self.optimizer.unwrap_or(own.optimizer),
            affinity: self.affinity.unwrap_or(own.affinity),
            map_affinity: self.map_affinity.unwrap_or(own.map_affinity),
            loss: self.loss.unwrap_or(own.loss),
            learning_rate: self.learning_rate.or(own.learning_rate),
            recall: self.recall,
            seed: self.seed,
            threads: self.threads,
            batch_rows: self.batch_rows,
            memory: self.memory,
            device: self.device,
            device_memory: self.device_memory,
            disk: self.disk,
            keep_stages: self.keep_stages.clone(),
            checkpoint: self.checkpoint,
            method: self.method,
        };
        if self.early_exaggeration.is_none() {
            settings.exaggerate_few(rows);
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_few_rows_defaults_are_as_many_as_there_are_and_what_is_asked_stays() {
        let of = |method, rows| Config::of(method).settings(rows);
        for (rows, neighbors) in [(2, 1), (3, 2), (15, 14), (16, 15), (17, 15)] {
            assert_eq!(of(Method::UMAP, rows).n_neighbors, neighbors, "{rows}");
        }
        assert_eq!((of(Method::PACMAP, 10).n_neighbors, of(Method::PACMAP, 11).n_neighbors), (9, 10));
        for (rows, perplexity) in [(2, 1.0), (3, 1.5), (10, 3.0), (46, 15.0), (91, 30.0), (92, 30.0)] {
            assert_eq!(of(Method::TSNE, rows).perplexity, perplexity, "{rows}");
        }
        let asked = Config { n_neighbors: Some(15), ..Config::default() }.settings(5);
        assert_eq!(asked.n_neighbors, 15);
    }

    #[test]
    fn what_is_unset_is_the_default_of_the_method() {
        for method in Method::all() {
            let literal = Config { method, ..Config::default() };
            let json = format!("{{\"method\": \"{method}\"}}");
            let read: Config = serde_json::from_str(&json).expect("a config");
            assert_eq!(literal, read);
            assert_eq!(literal.settings(1000), Settings::of(method, 1000), "{method}");
        }
        let asked = Config { perplexity: Some(5.0), ..Config::of(Method::TSNE) }.settings(1000);
        assert_eq!((asked.perplexity, asked.early_exaggeration), (5.0, 12.0));
        assert!(serde_json::from_str::<Config>("{\"metod\": \"tsne\"}").is_err(), "a misspelt option is refused");
    }
}
