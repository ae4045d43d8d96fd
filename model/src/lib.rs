//! Stored maps of lowland: a map on disk with everything that later rows need.
//!
//! A *model* is a directory of versions ([`ModelDir`]). A version is an immutable record that names immutable
//! files; a [`Snapshot`] is its typed view. A [`Searcher`] finds the nearest rows of a snapshot, and a [`Placer`]
//! gives a new row its position among rows that do not move.
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
