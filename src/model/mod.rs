//! Stored maps: a map on disk with everything that later rows need.
//!
//! A *model* is a directory of versions. A fit leaves one ([`Job::embed_model`](crate::Job::embed_model)); a
//! transform places new rows on its map ([`TransformJob`]); an update writes the next version of it
//! ([`UpdateJob`]). The bytes of a model are described in the crate `lowland-model`.
//!
//! - `fit.rs`: a run whose map becomes a version ([`Fitted`]).
//! - `update.rs`: the table of today as the next version ([`UpdateJob`]).
//! - `open.rs`: a model at one of its versions ([`Model`]).
//! - `transform.rs`: new rows on the map of a version ([`TransformJob`]).
//! - `history.rs`: versions, rollback, removal, tags, checks ([`History`]). `compare.rs`: how two versions differ.
//! - `export.rs`: a version as a table ([`ExportJob`]). `kept.rs`: the columns that a model keeps.
//!
//! What must hold:
//! - Everything that can be refused is refused before any work is done.
//! - Whoever only reads a model never writes to its directory.

mod compare;
mod export;
mod fit;
mod history;
mod kept;
mod open;
mod transform;
mod update;

pub use compare::{Moved, VersionDiff};
pub use export::{ExportJob, ExportReport};
pub use fit::Fitted;
pub use history::{Collected, History, Kept, Retention};
pub use lowland_model::ModelOptions;
pub use open::Model;
pub use transform::{PlacedRowsInMemory, TransformJob, TransformPlan, TransformReport};
pub use update::{CHANGE_COLUMN, Gate, GateResult, MoveRows, Outcome, RefitWhen, UpdateJob, UpdateMode, UpdateReport};
