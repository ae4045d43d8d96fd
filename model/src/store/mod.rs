//! The directory of a model: immutable objects, immutable records of versions, and one pointer to the current version.
//!
//! ```text
//! <model>/model.json             marks the directory; written first
//! <model>/CURRENT                the version that readers take; replaced by rename
//! <model>/versions/000042.json   the record of a version
//! <model>/data/<digits>.<kind>   an object: a file named by the 128-bit xxh3 of its bytes
//! <model>/tags/<name>            the version that a tag names; replaced by rename
//! <model>/runs/<run-id>/         scratch of a run that changes the model
//! <model>/LOCK                   locked (flock) while a process changes the model
//! ```
//!
//! `docs/model-format.md` describes every file byte by byte.
//!
//! What must hold:
//! - A record and an object never change, and an object is durable before a record names it. `CURRENT` names a version
//!   whose record is durable. So the current version is whole, whenever the process or the machine stops.
//! - Only the holder of the lock changes anything ([`ModelLock`]). Reading creates and writes nothing, not even a lock,
//!   and works on a read-only disk.
//! - Records name files of the directory only, so that a model can be moved and copied.
//! - Every file but `LOCK` and the scratch is covered by a checksum, which [`ModelDir::verify`] checks.

mod collect;
mod directory;
mod lock;
mod names;
mod object;
mod pointer;
mod record;
mod verify;

#[cfg(test)]
mod tests;

pub use collect::Garbage;
pub use directory::ModelDir;
pub use lock::ModelLock;
pub use names::RUNS;
pub(crate) use names::way_out;
pub use object::ObjectWriter;
pub use record::{Action, Counts, ObjectRef, Version};
pub use verify::Damage;

/// The format version of the directory that this build writes and reads.
pub const FORMAT: u32 = 1;
/// The readable format versions, in words.
const READABLE: &str = "version 1";
