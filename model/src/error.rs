//! The errors of a stored model.

use std::path::PathBuf;

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
    /// A row of a table of changes has an id that the same table deletes.
    #[error("row {row} has an id that another row deletes; an id is either deleted, or added or changed")]
    KeptAndDeleted {
        /// The row.
        row: u64,
    },
    /// The options of a version cannot be read.
    #[error("the options of version {version} cannot be read: {what}")]
    Options {
        /// The version's number.
        version: u64,
        /// What is wrong.
        what: String,
    },
    /// A column whose values cannot name rows.
    #[error("column \"{column}\" has type {data_type}, and ids are integers or texts")]
    IdType {
        /// The column.
        column: String,
        /// Its type.
        data_type: arrow::datatypes::DataType,
    },
    /// A path that is not a model.
    #[error("{}: {why}; {}", path.display(), if *begun { "run the command that created it again" } else { "give a directory that `embed` wrote as a model" })]
    NotAModel {
        /// The path.
        path: PathBuf,
        /// What is there instead, or that nothing is.
        why: &'static str,
        /// Whether the creation of a model began there.
        begun: bool,
    },
    /// A directory in which no model can be created, because it holds something else.
    #[error("{}: holds {what}; choose a directory that is new or empty", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// What it holds: a model, or the first name that is not part of one.
        what: String,
    },
    /// A model, or a file of a model, that a later release of lowland wrote.
    #[error("{}: format version {found}; this build reads {readable}: update lowland", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The readable versions.
        readable: &'static str,
    },
    /// A version with an object that only a later release of lowland knows.
    #[error("{}: version {version} has an object \"{role}\", which this build does not know: it was written by a newer lowland; update lowland, or take an earlier version", path.display())]
    UnknownRole {
        /// The model.
        path: PathBuf,
        /// The version's number.
        version: u64,
        /// The role of the object.
        role: String,
    },
    /// A file of a model does not hold what was written.
    #[error("{}: damaged: {what}; {}", path.display(), crate::store::way_out(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A model that cannot be changed where it lies.
    #[error("{}: the model cannot be changed here: {source}; copy it to a place that you can write", path.display())]
    ReadOnly {
        /// The model.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A version that the model does not have.
    #[error("{}: {}", path.display(), no_version(name, known))]
    NoVersion {
        /// The model.
        path: PathBuf,
        /// The name as given: a number, a tag or "current".
        name: String,
        /// The numbers and tags of the model.
        known: Vec<String>,
    },
    /// A name of a tag, run or object that cannot be used.
    #[error("the name \"{name}\" cannot be used: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// The caller asked to stop.
    #[error("{}: stopped", path.display())]
    Stopped {
        /// The model.
        path: PathBuf,
    },
    /// The rows handed to the writer of an object do not fit it.
    #[error("{object}: {what}")]
    Rows {
        /// The kind of the object.
        object: &'static str,
        /// What does not fit.
        what: String,
    },
}

impl Error {
    /// Returns the error of a damaged file.
    pub(crate) fn damaged(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Error::Damaged { path: path.into(), what: what.into() }
    }
}

/// Returns the text of the error that there is no version of a name.
fn no_version(name: &str, known: &[String]) -> String {
    const AGAIN: &str = "the `embed` that began it goes on when it is run again";
    match (name.trim_start_matches('@'), known) {
        ("current", []) => format!("nothing was published in this model yet; {AGAIN}"),
        ("current", known) => format!(
            "none of its versions is current, of {}; {AGAIN}, and a rollback to a version makes it current",
            list(known)
        ),
        (_, known) => format!("no version {name}; it has {}", list(known)),
    }
}

/// Returns names as a list in words, the last twelve of them.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.len().checked_sub(SHOWN) {
        _ if names.is_empty() => "none".into(),
        None | Some(0) => names.join(", "),
        Some(more) => format!("{more} more and {}", names[more..].join(", ")),
    }
}
