//! lowland: streaming, out-of-core dimensionality reduction within a stated memory budget.
//!
//! The same job as `lowland embed`, from Rust: options, plan, run, report.
//!
//! ```
//! use lowland::{Config, Job, MapFile};
//! # use lowland_datasets::{Generator, DatasetKind, WriteOptions, write};
//! # let dir = tempfile::tempdir()?;
//! # let (vectors, map) = (dir.path().join("vectors.npy"), dir.path().join("map.parquet"));
//! # write(&Generator::new("mixture".parse::<DatasetKind>()?, 500, 8, 7)?, &vectors, &WriteOptions::default())?;
//! # let (vectors, map) = (vectors.to_str().unwrap(), map.to_str().unwrap());
//!
//! let mut job = Job::new();
//! job.source = Some(lowland::open(&[vectors], None)?); // "vectors.npy"
//! job.config = Config { n_neighbors: Some(10), memory: 600 << 20, ..Config::default() };
//! let plan = job.plan()?;
//! println!("{plan}"); // what will run, and what memory each stage will hold
//! let map = MapFile::new(map); // "map.parquet"
//! let report = job.embed(&plan, &map, &())?; // (): an observer that ignores all events
//! println!("{report}");
//! assert_eq!(report.plan.shape().rows, 500);
//! assert!(report.quality.is_some_and(|q| q.preservation.mean > 0.3));
//! # assert!(map.path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An [`Observer`] receives progress and can stop the run. The same job then resumes from the
//! finished stages.
//!
//! # Code map
//!
//! - `embed.rs`: the few lines of the common case: [`embed`].
//! - `job/`: inputs, outputs and the run directory between them: [`Job`].
//! - `invalid_rows.rs`: rows that are left out, and the shift before rounding: [`InvalidRows`].
//! - [`pca`]: principal components of a source: [`pca::PcaJob`].
//! - `evaluate.rs`: scores of a map file: [`Evaluation`].
//! - [`forecast`], [`inspect`], [`runs`]: what a run would take, what a source contains, and how far
//!   the runs in run directories are.
//! - `earlier_map.rs`: initial positions from an earlier map.
//! - [`model`]: stored maps: new rows on a map, and maps that are updated.
//! - [`budget`], [`machine`], `disk.rs`, `space.rs`: budgets as people write them; what the machine
//!   grants; the disk's speed and free space.
//! - [`allocator`]: the settings of the allocator, for the whole process.
//! - `plot.rs`: the picture of a map file, coloured by a column.
//! - [`picture`]: the rasteriser.
//! - `polars/`: Polars frames as rows, and maps as frames (feature `polars`).
//! - `error.rs`: the errors, and whether the input is at fault.
//! - `cli/`, `progress.rs`, `signal.rs`: the command line, a client of the above ([`command_line`];
//!   `main.rs` calls it). Only these files know flags, terminals and signals.
//!
//! Arithmetic and the order of work are in the crate `lowland-engine`, file formats in
//! `lowland-io`.

// The command line is written as a client of this crate.
#[cfg(feature = "cli")]
extern crate self as lowland;

pub mod allocator;
pub mod budget;
#[cfg(feature = "cli")]
mod cli;
mod disk;
mod earlier_map;
mod embed;
mod error;
mod evaluate;
pub mod forecast;
pub mod inspect;
mod invalid_rows;
mod job;
pub mod machine;
pub mod model;
pub mod pca;
pub mod picture;
pub mod plot;
#[cfg(feature = "polars")]
pub mod polars;
#[cfg(feature = "cli")]
mod progress;
pub mod runs;
#[cfg(feature = "cli")]
mod signal;
mod space;

#[cfg(feature = "cli")]
pub use cli::command_line;
pub use embed::{Embed, Embedding, Rows, embed};
pub use error::{Error, Result, SpaceUse};
pub use evaluate::{Evaluation, open_map};
pub use invalid_rows::InvalidRows;
pub use job::{DiskSpace, GraphInput, Job, MapFile, MapTable, RunOptions, check_local, check_output, open, open_with};
/// Scores of data and maps in memory, and the options and results of an [`Evaluation`].
pub use lowland_engine::evaluate as scores;
pub use lowland_engine::{
    ComponentVariance, Config, Device, Event, GraphSink, GraphSource, Init, Level, MapSink, MatchLoss, Method,
    MethodOption, Metric, NamedAffinity, NamedMapAffinity, Observer, Optimizer, Plan, PlanInput, Remark, Report,
    Settings, Stage, StagePlan, StageReport, format_bytes,
};
pub use lowland_io::{
    Batch, Coordinates, Dtype, IdentifiedSource, Loader, LoaderOptions, MemorySource, Shape, Source, SourceId,
    spool_batches,
};

/// The examples for Rust of the page about Polars, compiled as documentation tests.
#[cfg(all(doctest, feature = "polars"))]
#[doc = include_str!("../docs/polars.md")]
pub struct PolarsPage;

/// The examples of the page about the library, compiled as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
pub struct LibraryPage;

/// The example in Rust of the first page, compiled as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../docs/start.md")]
pub struct StartPage;
