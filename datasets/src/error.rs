//! What can go wrong while a data set is made.

use std::path::PathBuf;

use crate::Kind;

/// Why a data set could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No data set of this name.
    #[error("no data set is called {0:?}; there are {names}", names = Kind::NAMES.join(", "))]
    Name(String),
    /// The width is too small for the shape.
    #[error("{name} needs at least {least} dimensions, {dim} were asked for")]
    Dim {
        /// The data set.
        name: &'static str,
        /// The smallest width that does.
        least: usize,
        /// The width asked for.
        dim: usize,
    },
    /// A parameter makes no sense.
    #[error("{name}: {fault}")]
    Parameter {
        /// The data set.
        name: &'static str,
        /// What is wrong.
        fault: &'static str,
    },
    /// The file's name says no format that can be written.
    #[error("{}: the name must end in .parquet, .arrow or .npy", .0.display())]
    Extension(PathBuf),
    /// The format has no compression.
    #[error("{}: .npy files cannot be compressed", .0.display())]
    Compression(PathBuf),
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own answer.
        source: std::io::Error,
    },
    /// The Parquet writer failed.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The writer's own answer.
        source: parquet::errors::ParquetError,
    },
    /// The Arrow writer failed.
    #[error("{}: {source}", path.display())]
    Arrow {
        /// The file.
        path: PathBuf,
        /// The writer's own answer.
        source: arrow::error::ArrowError,
    },
}
