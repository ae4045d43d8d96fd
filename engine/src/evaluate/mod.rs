//! How good a map is: what it keeps of the data that it was made from, and how
//! well it shows labels that it never saw.
//!
//! [`evaluate`] takes a map in memory and vectors at rest, which stream past a
//! sample of rows; the functions beside it take slices. Every sample row is
//! compared with *all* rows, so that a score is exact for the rows it is taken
//! on; where these are all rows there is no interval. In the map distance is
//! Euclidean.
//!
//! ```
//! use lowland_engine::evaluate::{trustworthiness, continuity};
//! // Nine points on a line, and a map that folds it in the middle.
//! let x: Vec<f32> = (0..9).map(|i| i as f32).collect();
//! let z: Vec<f32> = (0..9).map(|i: i32| (i - 4).abs() as f32).collect();
//! assert!(trustworthiness(&x, 1, &z, 1, 2)? < 0.7); // strangers have become neighbours
//! assert!(continuity(&x, 1, &z, 1, 2)? > 0.8); // and few neighbours were torn apart
//! # Ok::<(), lowland_engine::Error>(())
//! ```
//!
//! What must hold: scores follow from the inputs, k, sample and seed alone;
//! of equally near rows the lesser number comes first; memory is the map, the
//! labels, and what [`needs`] counts beside them.

mod clusters;
mod neighborhoods;
mod order;
mod plan;
mod points;
mod report;
mod run;
mod score;
mod silhouette;
mod slices;
mod sweep;

pub use clusters::adjusted_rand_score;
pub use order::spearman;
pub use plan::{Config, Input, LABEL_BYTES, MOST_LABELS, Plan, READ_ROWS, needs};
pub use points::{Points, UNLABELED};
pub use report::{LeftOut, Measure, Name, Report};
pub use run::{Labels, Subject, evaluate};
pub use score::{Score, mean_and_interval};
pub use silhouette::Singletons;
pub use slices::{
    continuity, distance_spearman, kmeans, kmeans_ari, label_accuracy, neighborhood_preservation, recall,
    silhouette_samples, silhouette_score, triplet_accuracy, trustworthiness,
};

pub(crate) use neighborhoods::{preserved, ranked};
pub(crate) use order::triplets;
pub(crate) use points::Ladder;
pub(crate) use sweep::{climb, climb_bytes};
