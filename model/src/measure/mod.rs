//! Measures of a version: how good its map is, and how far its rows moved.

mod moved;
mod near_in_map;
mod similarity;
mod trust;

pub use moved::{Moved, kept_neighbors, moved, radius};
pub use similarity::{PairSums, Similarity};
pub(crate) use trust::bytes as trust_bytes;
pub use trust::trustworthiness;
