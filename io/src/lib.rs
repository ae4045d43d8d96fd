//! Reads and writes files: the input and output formats of lowland, and the run directory.
//!
//! This crate knows nothing about memory budgets, progress or cancellation: each call is bounded by
//! the rows or the block that it was asked for. File contents never cause a panic.
//!
//! A table that is written, opened as a source, and read:
//!
//! ```
//! use lowland_io::{MapColumns, MapWriter, OpenOptions, Source, coordinate_names};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("vectors.npy");
//!
//! let columns =
//!     MapColumns { rows: 2, coordinates: coordinate_names(3), extra: None, own_id: false, nullable: false };
//! let mut writer = MapWriter::create(&path, columns, false)?; // "vectors.npy"
//! writer.write_rows(0, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], None)?;
//! writer.finish()?;
//!
//! let source = lowland_io::open(&[path.to_string_lossy().into()], &OpenOptions::default())?;
//! assert_eq!((source.shape().rows, source.shape().dim), (2, 3));
//! let mut row = [0.0f32; 3];
//! source.read_rows(1, &mut row)?; // rows × components, from row 1 on
//! assert_eq!(row, [3.0, 4.0, 5.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arrow_excerpt;
mod arrow_file;
mod arrow_message;
pub mod buckets;
mod catch_panic;
mod categories;
mod concat;
mod coordinates;
mod durable;
pub mod edges;
mod error;
mod file_lock;
mod files;
mod flatten;
mod graph;
mod hive;
mod identified;
mod kept_columns;
mod loader;
mod map;
mod map_reader;
mod mapped;
mod memory;
mod npy;
mod number;
mod open;
mod parquet;
mod parquet_footer;
mod parquet_types;
mod positioned;
mod recast;
mod remote;
mod rundir;
mod scratch;
mod sealed;
mod shifted;
mod source;
mod space;
mod spool;
mod subset;
mod unify;
mod vectors;
mod wide_integers;

pub use buckets::{BucketWriter, Buckets, ByteBucketWriter, ByteBuckets, EdgeRecord, MAX_BUCKETS, Record};
pub use catch_panic::is_decoding;
pub use categories::has_order;
pub use coordinates::Coordinates;
pub use durable::{FileStamp, PART, PendingFile, replace, stamp, sync_directory_of, target};
pub use edges::{BlockInfo, EdgeBlock, EdgeFile, EdgeReader, EdgeWriter};
pub use error::{Error, Result};
pub use file_lock::FileLock;
pub use files::out_of_number_order;
pub use graph::{GraphReader, GraphWriter, MISSING};
pub use identified::IdentifiedSource;
pub use loader::{Batch, Batches, Loader, LoaderOptions, Prepare};
pub use map::{MapColumns, MapWriter, coordinate_names};
pub use map_reader::{MapReader, MapRows};
pub use mapped::MappedFile;
pub use memory::{MemorySource, spool_batches};
pub use number::{NULL, NULL_F64, is_null, is_null_f64};
pub use open::{OpenOptions, Stop, open, open_map};
pub use remote::{is_address, shown};
pub use rundir::{Files, Manifest, RunDir, RunOrigin, RunSummary, StageRecord, UnitRecord, VerifyDepth, now, runs};
pub use scratch::{ScratchFile, ScratchRange, ScratchWriter};
pub use sealed::{check_seal, is_sealed, seal};
pub use shifted::{Shift, ShiftedSource};
pub use source::{Dtype, Fingerprint, RowLocation, Shape, Source, SourceId, check_unchanged};
pub use space::{free_space, longest_name};
pub use spool::spool;
pub use subset::{RowSet, RowSetBuilder, SubsetSource};
pub use vectors::columns_to_read;
