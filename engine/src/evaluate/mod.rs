//! Map quality: how well a map preserves the neighbourhoods and distances of the data, and how well
//! it separates labels that were not used to make it.
//!
//! [`evaluate`] takes a map in memory and a source of vectors, which are streamed past a sample of
//! rows. The functions on slices take all data in memory. Every sample row is compared with *all*
//! rows, so the score of a sample row is exact, and only the mean over the sample has an interval.
//! If the sample is all rows, there is no interval. Distance in the map is Euclidean.
//!
//! ```
//! use lowland_engine::evaluate::{trustworthiness, continuity};
//! // Nine points on a line, and a map that folds the line in the middle.
//! let x: Vec<f32> = (0..9).map(|i| i as f32).collect();
//! let z: Vec<f32> = (0..9).map(|i: i32| (i - 4).abs() as f32).collect();
//! assert!(trustworthiness(&x, 1, &z, 1, 2)? < 0.7); // far rows have become neighbours
//! assert!(continuity(&x, 1, &z, 1, 2)? > 0.8); // and few neighbours were separated
//! # Ok::<(), lowland_engine::Error>(())
//! ```
//!
//! What must hold: scores depend only on the inputs, k, the sample and the seed; of equally near
//! rows, the row with the smaller number comes first; memory is the map, the labels, and the bytes
//! that [`needs`] counts.

mod clusters;
mod distance_order;
mod neighborhoods;
mod plan;
mod points;
mod report;
mod run;
mod sample_sweep;
mod silhouette;
mod slices;

pub use crate::score::{Score, mean_and_interval};
pub use clusters::adjusted_rand_score;
pub use distance_order::spearman;
pub use plan::{EvaluationConfig, EvaluationInput, EvaluationPlan, LABEL_BYTES, MAX_LABELS, READ_ROWS, needs};
pub use points::{MapPoints, UNLABELED};
pub use report::{EvaluationReport, ScoreName, ScoreValue, SkippedScores};
pub use run::{EvaluationSubject, Labels, evaluate};
pub use silhouette::Singletons;
pub use slices::{
    continuity, distance_spearman, kmeans, kmeans_ari, label_accuracy, neighborhood_preservation, recall,
    silhouette_samples, silhouette_score, triplet_accuracy, trustworthiness,
};

pub(crate) use distance_order::triplets;
pub(crate) use neighborhoods::{preservation, rank_scores};
pub(crate) use points::RankCounts;
pub(crate) use sample_sweep::{count_ranks, rank_count_bytes};
