//! The errors of generating and writing data sets.

use std::path::PathBuf;

use crate::DatasetKind;

/// The reason why a data set could not be generated or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no data set of this name.
    #[error("no data set is called {0:?}; the data sets are {names}", names = DatasetKind::NAMES.join(", "))]
    Name(String),
    /// The number of dimensions is too small for the data set.
    #[error("{name} needs at least {least} dimensions, but {dim} were requested")]
    Dim {
        /// The data set.
        name: &'static str,
        /// The smallest number of dimensions.
        least: usize,
        /// The requested number of dimensions.
        dim: usize,
    },
    /// A parameter is invalid.
    #[error("{name}: {fault}")]
    Parameter {
        /// The data set.
        name: &'static str,
        /// What is wrong.
        fault: &'static str,
    },
    /// The file's name does not end in a known format's extension.
    #[error("{}: the name must end in .parquet, .arrow or .npy", .0.display())]
    Extension(PathBuf),
    /// The format does not support compression.
    #[error("{}: .npy files cannot be compressed", .0.display())]
    Compression(PathBuf),
    /// The operating system reported an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The Parquet writer failed.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The writer's error.
        source: parquet::errors::ParquetError,
    },
    /// The Arrow writer failed.
    #[error("{}: {source}", path.display())]
    Arrow {
        /// The file.
        path: PathBuf,
        /// The writer's error.
        source: arrow::error::ArrowError,
    },
}
