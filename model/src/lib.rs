//! Stored maps of lowland: a map on disk with everything that later rows need.
//!
//! A *model* is a directory of versions ([`store::ModelDir`]). A version is an immutable record that names immutable
//! files; a [`snapshot::Snapshot`] is its typed view. A [`search::Searcher`] finds the nearest rows of a snapshot, and a
//! [`place::Placer`] gives a new row its position among rows that do not move.
//!
//! - `store/`: the directory: versions, objects, tags, the lock, publication, removal, checks.
//! - `snapshot/`: the formats of objects, and their view as one map.
//! - `fit/`: the objects of a finished run.
//! - `diff/`: what changed between a version and a table.
//! - `search/`, `place/`: the neighbours and the positions of new rows, and of rows that move because their neighbours changed.
//! - `update/`: the objects of an update that keeps the map.
//! - `measure/`: scores of a map, and how far rows moved.
//!
//! What must hold everywhere:
//! - A file that a version names never changes. A reader never sees a part of a version.
//! - A position of a new row depends on the model and on the row alone: not on other new rows, threads, batch size
//!   or memory budget.
//! - Nothing prints, reads the environment or handles signals.

pub mod diff;
mod error;
pub mod fit;
pub mod measure;
mod options;
pub mod place;
pub mod search;
pub mod snapshot;
pub mod store;
pub mod update;

pub use error::{Error, Result};
pub use options::ModelOptions;
