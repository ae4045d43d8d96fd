//! Bytes at rest: the formats lowland reads and writes, and the run directory.
//!
//! Nothing here knows about budgets, progress or cancellation: every call is
//! bounded by the rows or the block it was asked for. Input never panics.

pub mod buckets;
mod durable;
pub mod edges;
mod error;
mod map;
mod mapped;
mod rundir;
mod arrow_file;
mod arrow_message;
mod concat;
mod npy;
mod open;
mod parquet;
mod spool;
mod vectors;
mod source;

pub use buckets::{BucketWriter, Buckets, ByteBucketWriter, ByteBuckets, EdgeRecord, MAX_BUCKETS, Record};
pub use durable::{FileStamp, PendingFile, replace, stamp};
pub use edges::{BlockInfo, EdgeBlock, EdgeFile, EdgeReader, EdgeWriter};
pub use error::{Error, Result};
pub use mapped::Mapped;
pub use map::{MapColumns, MapReader, MapWriter, coordinate_names};
pub use rundir::{Depth, Files, Manifest, Opened, RunDir, StageRecord, UnitRecord};
pub use open::{Options, open};
pub use source::{Dtype, Fingerprint, Place, Shape, Source};
pub use spool::spool_stdin;
