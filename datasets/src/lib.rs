//! Data sets for lowland's tests, benches and demo: seeded generators, and writers for the file
//! formats.
//!
//! Row i of a generated data set is a pure function of the seed and i. So any range of rows can be
//! generated on its own, and a file of any size in bounded memory:
//!
//! ```
//! use lowland_datasets::{Generator, DatasetKind};
//!
//! let mixture = Generator::new("mixture".parse::<DatasetKind>()?, 1_000_000_000, 128, 7)?;
//! let mut rows = vec![0.0; 2 * 128];
//! mixture.fill(999_999_998, &mut rows);
//! assert_eq!(mixture.label(999_999_999), mixture.label(999_999_999));
//! # Ok::<(), lowland_datasets::Error>(())
//! ```
//!
//! [`write()`] writes a data set to a Parquet, Arrow or NumPy file. The binary `lowland-datasets`
//! does the same from the command line.

mod error;
mod generator;
mod random;
mod write;

pub use error::Error;
pub use generator::{DatasetKind, Generator, Mixture};
pub use write::{Compression, OutputDtype, OutputFormat, WriteOptions, write};

/// `catalog.toml`: a list of public data sets with address, shape, licence and, if known, checksum.
/// The list is for people; no code downloads the data.
pub const CATALOG: &str = include_str!("../catalog.toml");
