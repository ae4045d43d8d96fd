//! What a user asks for: one plain struct with umap-learn's names.
//!
//! A `Config` is only data. [`Config::plan`] is its one validator, and the
//! stages accept nothing but the [`Plan`](crate::Plan) that it returns.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::exact::{MatchLoss, NamedAffinity, NamedMap};
use crate::layout::Optimizer;
use crate::method::{Method, Opt};
use crate::observe::Stage;

/// How distance is measured, as the guide has it.
///
/// Methods that stream need rows near each other to be near under the Euclidean
/// distance of rows made ready, and so take the first three. Of these, entropic
/// affinities (LargeVis, InfoTSNE, t-SNE) weigh by the square of the Euclidean
/// distance, whichever of the two is named, as scikit-learn does, and by the
/// cosine distance as it is; PaCMAP by the square as well; UMAP by what is
/// named. Exact methods take what is named for the cost of a pair, all five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Straight-line distance.
    #[default]
    Euclidean,
    /// Its square.
    Sqeuclidean,
    /// One minus the cosine of the angle. Rows are scaled to length 1 as they
    /// are read; a row of zeros, which has no direction, is refused.
    Cosine,
    /// Minus the inner product of rows as they are. Exact methods only.
    Angular,
    /// The sum of the components' differences. Exact methods only.
    Manhattan,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 5] =
        [Metric::Euclidean, Metric::Sqeuclidean, Metric::Cosine, Metric::Angular, Metric::Manhattan];

    /// The metric's name.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Euclidean => "euclidean",
            Metric::Sqeuclidean => "sqeuclidean",
            Metric::Cosine => "cosine",
            Metric::Angular => "angular",
            Metric::Manhattan => "manhattan",
        }
    }

    /// Why lists and the join of them, and what is made of both, cannot go by it; none if they can.
    pub fn barred(self) -> Option<&'static str> {
        match self {
            Metric::Euclidean | Metric::Sqeuclidean | Metric::Cosine => None,
            Metric::Angular => Some(
                "angular is minus the inner product, under which a row need not be nearest to itself, and lists of near rows do not exist; cosine goes by the angle",
            ),
            Metric::Manhattan => {
                Some("manhattan distances are no matrix products, by which rows are compared here; euclidean is near")
            }
        }
    }

    /// Makes rows ready, so that from here on every metric is Euclidean.
    pub fn prepare(self, rows: &mut [f32], dim: usize) {
        if self == Metric::Cosine {
            for row in rows.chunks_exact_mut(dim) {
                let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
                if norm > 0.0 {
                    row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
                }
            }
        }
    }

    /// The metric's distance, from the squared Euclidean one of prepared rows; of a metric that is
    /// [barred](Metric::barred) there is none, and this is the square.
    pub fn distance(self, squared: f32) -> f32 {
        match self {
            Metric::Euclidean => squared.max(0.0).sqrt(),
            Metric::Sqeuclidean | Metric::Angular | Metric::Manhattan => squared.max(0.0),
            // |u − v|² = 2 − 2 cos for rows of length 1.
            Metric::Cosine => squared.max(0.0) * 0.5,
        }
    }
}

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

/// Everything that decides a map. `Config::default()` is UMAP's, with
/// umap-learn's defaults where it has them; [`Config::of`] is another method's.
/// What a method does not know must stay as it is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// How a map is made. Default UMAP.
    pub method: Method,
    /// Neighbours of each point, itself not counted (umap-learn counts it). Default 15,
    /// for PaCMAP 10, and for a matcher's UMAP affinity 30; methods of a perplexity take three
    /// times that many.
    pub n_neighbors: usize,
    /// How many neighbours count, by the entropy of their weights. Default 30.
    pub perplexity: f64,
    /// Components of the map. Default 2.
    pub n_components: usize,
    /// How close neighbours may lie in the map, 0 ≤ min_dist ≤ spread. Default 0.1.
    pub min_dist: f64,
    /// The scale of the map's distances. Default 1.
    pub spread: f64,
    /// How distance is measured in the data. Default Euclidean; of exact methods sqeuclidean, but for PHATE.
    pub metric: Metric,
    /// Where the first positions come from. Default centroid; of exact methods PCA, and of COSNE random.
    pub init: Init,
    /// Passes over the edges; by default the method's: UMAP 500 up to 10,000 rows and
    /// 200 above, LargeVis and InfoTSNE 1000, t-SNE 750, PaCMAP 450. Of exact methods
    /// iterations at the most: 2000, of PHATE and the matcher 1000.
    pub n_epochs: Option<usize>,
    /// Random points that push for each neighbour that pulls. Default 5.
    pub negative_sample_rate: usize,
    /// Random points that push each point. Default 35 for LargeVis, 300 for InfoTSNE.
    pub n_negatives: usize,
    /// What attraction is multiplied by in the first 250 epochs, or the first
    /// third. Default 12 for t-SNE, InfoTSNE and COSNE, 1 otherwise.
    pub early_exaggeration: f32,
    /// How points move. Default momentum, with gains for t-SNE and LargeVis; Adam for
    /// PaCMAP, PHATE and the matcher, and UMAP and COSNE their own.
    pub optimizer: Optimizer,
    /// The affinity of the rows that a matcher takes. Default entropic.
    pub affinity: NamedAffinity,
    /// The affinity of the map that a matcher takes. Default student.
    pub map_affinity: NamedMap,
    /// How a matcher compares the two. Default square.
    pub loss: MatchLoss,
    /// The first epoch's step, in units of the gradient (that of the guide and
    /// scikit-learn, which is four times openTSNE's). Default 1 for UMAP, where
    /// it falls linearly to 0, and for Adam; for momentum n / 4, but at
    /// least 50, over the exaggeration of the time; exact methods as the guide,
    /// n / 4 over the exaggeration, but at least 50.
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
            n_neighbors: 15,
            perplexity: 30.0,
            n_components: 2,
            min_dist: 0.1,
            spread: 1.0,
            metric: Metric::Euclidean,
            init: Init::Centroid,
            n_epochs: None,
            negative_sample_rate: 5,
            n_negatives: 5,
            early_exaggeration: 1.0,
            optimizer: Optimizer::Adam,
            affinity: NamedAffinity::Entropic,
            map_affinity: NamedMap::Student,
            loss: MatchLoss::Square,
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
    /// A method's defaults.
    pub fn of(method: Method) -> Self {
        method.defaults(Config::default())
    }

    /// The fields that decide the map's bytes, as JSON: what a run directory
    /// must agree on before it is resumed. What says how it runs, like threads
    /// and memory, is not among them.
    pub fn identity(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            for opt in Opt::ALL.into_iter().filter(|&opt| !self.method.knows(opt)) {
                fields.remove(opt.name());
            }
            if self.method == Method::UMAP {
                // As it was when there was no other.
                fields.remove("method");
                fields.insert("learning_rate".into(), self.learning_rate.unwrap_or(1.0).into());
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
        let a = Config::default();
        let b = Config {
            threads: Some(7),
            batch_rows: Some(3),
            memory: 1,
            device: Device::Cuda(1),
            device_memory: Some(3),
            disk: Some(2),
            checkpoint: 0.5,
            ..Config::default()
        };
        assert_eq!(a.identity(), b.identity());
        assert_ne!(a.identity(), Config { seed: 1, ..Config::default() }.identity());
        let tsne = Config::of(Method::TSNE);
        assert_ne!(tsne.identity(), Config { perplexity: 5.0, ..tsne.clone() }.identity());
        assert_ne!(tsne.identity(), Config::of(Method::INFOTSNE).identity());
        // What it does not know says nothing about its map.
        assert!(tsne.identity().get("min_dist").is_none());
    }

    #[test]
    fn cosine_rows_have_length_one_and_zero_rows_stay() {
        let mut rows = [3.0, 4.0, 0.0, 0.0];
        Metric::Cosine.prepare(&mut rows, 2);
        assert_eq!(rows, [0.6, 0.8, 0.0, 0.0]);
    }
}
