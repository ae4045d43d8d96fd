//! The errors of a stored model.

/// The result of an operation on a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written, or its content is damaged.
    #[error(transparent)]
    Io(#[from] lowland_io::Error),
    /// A computation failed, or the options do not fit the data.
    #[error(transparent)]
    Engine(#[from] lowland_engine::Error),
    /// Several rows of a table have one id.
    #[error("{count} rows have an id that an earlier row has, such as rows {} and {}", rows[0][0], rows[0][1])]
    RepeatedIds {
        /// Pairs of rows with one id, the first ten.
        rows: Vec<[u64; 2]>,
        /// The number of rows whose id an earlier row has.
        count: u64,
    },
    /// The options of a version cannot be read.
    #[error("the options of version {version} cannot be read: {what}")]
    Options {
        /// The version's number.
        version: u64,
        /// What is wrong.
        what: String,
    },
}
