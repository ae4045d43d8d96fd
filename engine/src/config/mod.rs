//! The user's options: one plain struct with umap-learn's names, in which options may be unset.
//!
//! A `Config` is only data. An unset option stands for the default of the config's method, which
//! [`MethodOption`](crate::MethodOption) lists and [`Config::settings`] fills in. [`Config::plan`] is the only validator; the
//! stages accept only the [`Plan`](crate::Plan) that it returns.

mod method;
mod methods;
mod names;
mod options;
mod settings;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::metric::Metric;
use crate::observe::Stage;

pub use method::Method;
pub use methods::PHATE_ROWS;
pub(crate) use methods::{AllPairs, MethodId, pacmap_phase};
pub(crate) use names::mid_near_per_row;
pub use names::{Affinity, MatchLoss, NamedAffinity, NamedMapAffinity, Optimizer};
pub use options::MethodOption;
pub(crate) use settings::Asked;
pub use settings::Settings;

/// The source of the first positions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// A layout of the index's centroids, where each row is placed among its nearest ones. Data too small to
    /// have centroids start from PCA.
    #[default]
    Centroid,
    /// The first principal components, scaled to ±10.
    Pca,
    /// Uniform random numbers in ±10.
    Random,
    /// Positions in a file: an .npy array, rows × n_components in the source's order, or an earlier map (see
    /// [`PositionSource`](crate::PositionSource)).
    File(PathBuf),
}

/// The options of a run. A field that is `None` stands for the default of [`Config::method`], which
/// [`MethodOption::default_text`](crate::MethodOption::default_text) describes for all methods. [`Config::plan`] refuses an
/// option that is set and that the method does not have.
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
    /// The method. Default: UMAP.
    pub method: Method,
    /// Number of neighbours of each point, which does not include the point itself (umap-learn's number does).
    pub n_neighbors: Option<usize>,
    /// Effective number of neighbours of each point: the exponential of the entropy of their weights.
    pub perplexity: Option<f64>,
    /// Number of components of the map, 1 to 64.
    pub n_components: Option<usize>,
    /// The effective smallest distance between neighbours in the map, 0 ≤ min_dist ≤ spread.
    pub min_dist: Option<f64>,
    /// The scale of the map's distances, above 0.
    pub spread: Option<f64>,
    /// The distance between rows of the data.
    pub metric: Option<Metric>,
    /// The source of the first positions.
    pub init: Option<Init>,
    /// Number of epochs (passes over the edges); for exact methods the largest number of iterations.
    pub n_epochs: Option<usize>,
    /// Number of negative samples for each edge that attracts (UMAP).
    pub negative_sample_rate: Option<usize>,
    /// Number of negative samples for each point.
    pub n_negatives: Option<usize>,
    /// Factor of the attraction in the first 250 epochs, or in the first third of the epochs.
    pub early_exaggeration: Option<f32>,
    /// The optimizer.
    pub optimizer: Option<Optimizer>,
    /// The affinity of the rows, for `affinity-matcher`.
    pub affinity: Option<NamedAffinity>,
    /// The affinity of the map's points, for `affinity-matcher`.
    pub map_affinity: Option<NamedMapAffinity>,
    /// The loss between both affinities, for `affinity-matcher`.
    pub loss: Option<MatchLoss>,
    /// Learning rate of the first epoch, in units of the gradient (as in TorchDR's guide and scikit-learn;
    /// openTSNE's number is four times as large).
    pub learning_rate: Option<f32>,
    /// Share of the true neighbours that the graph should contain. Default: 0.95. Ignored where all pairs are
    /// compared.
    pub recall: f64,
    /// Seed of every random draw. Default: 42.
    pub seed: u64,
    /// Number of worker threads. Default: the number of cores. Does not change the map.
    pub threads: Option<usize>,
    /// Number of rows read at a time. Default: about 1 MiB for each thread, less with a small budget. Does not
    /// change the map.
    pub batch_rows: Option<usize>,
    /// Bytes of memory that the process may use. Default: 4 GiB. Does not change the map.
    pub memory: u64,
    /// The device of the neighbour search by lists and of the layout. Default: a GPU if there is one. Does not
    /// change the map.
    pub device: Device,
    /// Bytes of a GPU's memory that may be used. Default: the free memory. Does not change the map.
    pub device_memory: Option<u64>,
    /// Bytes that the run directory may take. Default: no limit. Does not change the map.
    pub disk: Option<u64>,
    /// Stages whose files stay in the run directory after the last stage that reads them. Default: all. Does
    /// not change the map.
    pub keep_stages: Option<Vec<Stage>>,
    /// Seconds between checkpoints of the layout, and so about the largest loss if the process is killed.
    /// Default: 60. Does not change the map.
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
    /// Returns a config of `method` in which all other options are unset.
    pub fn of(method: Method) -> Self {
        Config { method, ..Config::default() }
    }

    /// Returns the options with every unset option replaced by the method's default for `rows` rows. Validates
    /// nothing.
    pub fn settings(&self, rows: u64) -> Settings {
        let own = Settings::defaults_for(self.method, rows);
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
                .unwrap_or(Settings::defaults_for(self.method, u64::MAX).early_exaggeration),
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
            settings.limit_exaggeration(rows);
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_limit_defaults_but_not_set_options() {
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
    fn unset_options_take_the_method_default() {
        for method in Method::all() {
            let literal = Config { method, ..Config::default() };
            let json = format!("{{\"method\": \"{method}\"}}");
            let read: Config = serde_json::from_str(&json).expect("a config");
            assert_eq!(literal, read);
            assert_eq!(literal.settings(1000), Settings::defaults_for(method, 1000), "{method}");
        }
        let asked = Config { perplexity: Some(5.0), ..Config::of(Method::TSNE) }.settings(1000);
        assert_eq!((asked.perplexity, asked.early_exaggeration), (5.0, 12.0));
        assert!(serde_json::from_str::<Config>("{\"metod\": \"tsne\"}").is_err(), "a misspelt option is refused");
    }
}
