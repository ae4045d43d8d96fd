//! The objects of a version, their writers, and the view of them as one map ([`Snapshot`]).
//!
//! Every object begins with a header of 64 bytes: "LLM" and a letter for the kind, the format version of the kind (u32),
//! and seven counts (u64), unused ones 0. All numbers are little-endian. `docs/model-format.md` has every kind.
//!
//! The *base* are the objects that a fit wrote, in list order. The *delta* are those with the rows that were added since,
//! in order of addition; their places follow those of the base. A *patch* replaces the neighbours of rows, *moved*
//! replaces positions, and *tombstones* mark places whose row is gone.
//!
//! What must hold:
//! - [`Snapshot::open`] checks the header and the length of every object, and that they fit together; so that no
//!   access leads out of a file. A neighbour that is not a place of the version counts as dead
//!   ([`Snapshot::is_dead`]), since contents are not checked at opening.
//! - A version with an object of a role that is not listed in [`role`] is not opened: what it says would be missing.
//! - A writer holds memory that does not grow with the rows but where it says so, and leaves the same bytes for the same
//!   rows, however they are divided among its calls.

mod added;
mod bits;
mod graph;
mod ids;
mod kept;
mod keys;
mod lists;
mod merge;
mod moved;
mod object;
mod patch;
mod positions;
mod quantizer;
mod sample;
mod tombstones;
mod vectors;
mod view;

#[cfg(test)]
mod tests;

pub use added::AddedWriter;
pub use graph::GraphWriter;
pub use ids::{IdsWriter, id_type};
pub(crate) use kept::{BLOCK as KEPT_BLOCK, converted, stored_type};
pub use kept::{KeptWriter, is_kept_as, kept_schema};
pub use keys::{Key, KeysWriter};
pub use lists::{DeltaListsWriter, ListsWriter};
pub use merge::Keys;
pub use moved::MovedWriter;
pub use patch::PatchWriter;
pub use positions::PositionsWriter;
pub use quantizer::QuantizerWriter;
pub use sample::{SampleRow, SampleWriter};
pub use tombstones::TombstonesWriter;
pub use vectors::{Element, VectorsWriter};
pub use view::Snapshot;

/// The roles of objects in a version's record.
pub mod role {
    /// The centroids of the lists: [`QuantizerWriter`](super::QuantizerWriter).
    pub const QUANTIZER: &str = "quantizer";
    /// The prepared vectors of the base: [`VectorsWriter`](super::VectorsWriter).
    pub const VECTORS: &str = "vectors";
    /// The lists of the base: [`ListsWriter`](super::ListsWriter).
    pub const LISTS: &str = "lists";
    /// The neighbours of the base: [`GraphWriter`](super::GraphWriter).
    pub const GRAPH: &str = "graph";
    /// The positions of the base: [`PositionsWriter`](super::PositionsWriter).
    pub const POSITIONS: &str = "positions";
    /// The ids of the base: [`IdsWriter`](super::IdsWriter).
    pub const IDS: &str = "ids";
    /// The keys of the base: [`KeysWriter`](super::KeysWriter).
    pub const KEYS: &str = "keys";
    /// The probe rows: [`SampleWriter`](super::SampleWriter).
    pub const SAMPLE: &str = "sample";
    /// The versions in which the rows of the base were added: [`AddedWriter`](super::AddedWriter). Absent if all were
    /// added in the version that wrote the base.
    pub const ADDED: &str = "added";
    /// The kept columns of the base: [`KeptWriter`](super::KeptWriter). Absent if the model keeps none.
    pub const KEPT: &str = "kept";
    /// As [`VECTORS`], for the rows added since.
    pub const DELTA_VECTORS: &str = "delta-vectors";
    /// The lists of the rows added since: [`DeltaListsWriter`](super::DeltaListsWriter).
    pub const DELTA_LISTS: &str = "delta-lists";
    /// As [`GRAPH`], for the rows added since. Absent in a draft without neighbours.
    pub const DELTA_GRAPH: &str = "delta-graph";
    /// As [`POSITIONS`], for the rows added since. Absent in a draft without positions.
    pub const DELTA_POSITIONS: &str = "delta-positions";
    /// As [`IDS`], for the rows added since.
    pub const DELTA_IDS: &str = "delta-ids";
    /// As [`KEYS`], for the rows added since.
    pub const DELTA_KEYS: &str = "delta-keys";
    /// As [`ADDED`], for the rows added since.
    pub const DELTA_ADDED: &str = "delta-added";
    /// As [`KEPT`], for the rows added since. A draft may lack it, or have it for its first rows only.
    pub const DELTA_KEPT: &str = "delta-kept";
    /// The replaced neighbours: [`PatchWriter`](super::PatchWriter).
    pub const PATCH: &str = "patch";
    /// The positions of rows that have moved since: [`MovedWriter`](super::MovedWriter).
    pub const MOVED: &str = "moved";
    /// The places whose row is gone: [`TombstonesWriter`](super::TombstonesWriter).
    pub const TOMBSTONES: &str = "tombstones";

    /// The roles of objects that a transform compares with their checksums before it uses them: all that it reads but the
    /// vectors, which are most of the bytes of a model, and of which it reads some lists only.
    pub const FOR_TRANSFORM: [&str; 10] =
        [QUANTIZER, LISTS, GRAPH, POSITIONS, DELTA_LISTS, DELTA_GRAPH, DELTA_POSITIONS, PATCH, MOVED, TOMBSTONES];
    /// As [`FOR_TRANSFORM`], of an update: all but the vectors of the base. The delta is written anew, so that what is
    /// damaged in it would get a right checksum.
    pub const FOR_UPDATE: [&str; 20] = [
        QUANTIZER,
        LISTS,
        GRAPH,
        POSITIONS,
        IDS,
        KEYS,
        SAMPLE,
        ADDED,
        DELTA_VECTORS,
        DELTA_LISTS,
        DELTA_GRAPH,
        DELTA_POSITIONS,
        DELTA_IDS,
        DELTA_KEYS,
        DELTA_ADDED,
        KEPT,
        DELTA_KEPT,
        PATCH,
        MOVED,
        TOMBSTONES,
    ];
    /// As [`FOR_TRANSFORM`], of an export: all that it reads but the kept columns, whose blocks are compared when they are
    /// read.
    pub const FOR_EXPORT: [&str; 15] = [
        LISTS,
        GRAPH,
        POSITIONS,
        IDS,
        KEYS,
        ADDED,
        DELTA_LISTS,
        DELTA_GRAPH,
        DELTA_POSITIONS,
        DELTA_IDS,
        DELTA_KEYS,
        DELTA_ADDED,
        PATCH,
        MOVED,
        TOMBSTONES,
    ];
    /// As [`FOR_TRANSFORM`], of a comparison of two versions: what tells their rows and where these are.
    pub const FOR_DIFF: [&str; 11] =
        [LISTS, POSITIONS, IDS, KEYS, ADDED, DELTA_POSITIONS, DELTA_IDS, DELTA_KEYS, DELTA_ADDED, MOVED, TOMBSTONES];

    /// All roles that this release knows.
    pub(super) const ALL: [&str; 21] = [
        QUANTIZER,
        VECTORS,
        LISTS,
        GRAPH,
        POSITIONS,
        IDS,
        KEYS,
        SAMPLE,
        ADDED,
        DELTA_VECTORS,
        DELTA_LISTS,
        DELTA_GRAPH,
        DELTA_POSITIONS,
        DELTA_IDS,
        DELTA_KEYS,
        DELTA_ADDED,
        KEPT,
        DELTA_KEPT,
        PATCH,
        MOVED,
        TOMBSTONES,
    ];
}
