//! The errors of reading and writing files. Every variant carries the data by which a user finds
//! the place. `Display` says what is wrong and, if there is one, the way out. Exit codes are
//! decided in the command line.

use std::path::{Path, PathBuf};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure to read or write files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was attempted: "open", "read", "write", "sync", …
        doing: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The bytes are not what the file's name or header says.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file, and how to fix it.
        what: String,
    },
    /// The file is shorter than expected.
    #[error("{}: cut short: {expected} bytes expected, {found} found; copy or write it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The expected length in bytes.
        expected: u64,
        /// The actual length in bytes.
        found: u64,
    },
    /// An input file changed after it was opened.
    #[error("{}: changed while it was in use: {what}; let the program that writes it finish, then begin again with `restart`", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The difference, with both states: "5120 bytes before, 6144 now".
        what: String,
    },
    /// An object store that does not return what was asked for.
    #[error("{}: {what}", url.display())]
    Store {
        /// The address, without its user and query.
        url: PathBuf,
        /// What the store answered and, if possible, how to fix it.
        what: String,
        /// Whether the input is at fault, rather than the store or the network.
        input: bool,
    },
    /// The wait for an object store was told to stop.
    #[error("{}: stopped while waiting for the object store", path.display())]
    Stopped {
        /// The object's address, without its user and query.
        path: PathBuf,
    },
    /// A file that lowland wrote does not match its checksum.
    #[error("{}: corrupt: {what}; delete the run directory or pass `restart`", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Which part is corrupt, and how it differs.
        what: String,
    },
    /// A format version that this build does not read.
    #[error("{}: format version {found}; this build reads {readable}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The readable versions as text ("1" or "1 to 3"), followed by the way out if there is
        /// one.
        readable: &'static str,
    },
    /// No file matches the given pattern.
    #[error("{pattern}: no such file, and no file matches it")]
    NoFiles {
        /// The path, directory or glob as given.
        pattern: String,
    },
    /// A requested column does not exist.
    #[error("{}: no column \"{asked}\"; it has {}", path.display(), quoted(available))]
    NoSuchColumn {
        /// The file.
        path: PathBuf,
        /// The requested name.
        asked: String,
        /// The columns of the file.
        available: Vec<String>,
    },
    /// Several columns could hold the vectors.
    #[error("{}: several columns could hold the vectors: {}; name one with `column`", path.display(), quoted(candidates))]
    AmbiguousColumn {
        /// The file.
        path: PathBuf,
        /// The candidates.
        candidates: Vec<String>,
    },
    /// No column can hold the vectors.
    #[error("{}: no column holds vectors, which are lists of numbers; it has {}; several numeric columns can be named with `column` 'a,b,c' or `column` 'pc*', bytes with `column` 'blob:f32' (or f16, bf16, f64, u8, i8, bits), a field of a struct with `column` 'emb.values'; text must be written as numbers first (in DuckDB: CAST(emb AS FLOAT[]))", path.display(), quoted(available))]
    NoVectorColumn {
        /// The file.
        path: PathBuf,
        /// The columns of the file, with their types.
        available: Vec<String>,
    },
    /// No columns are recognised as a map's coordinates.
    #[error("{}: no coordinates, which are numeric columns x and y, or c0, c1, …; it has {}{}", path.display(), if candidates.is_empty() { "no numeric " } else { "the numeric columns " }, if candidates.is_empty() { "columns".into() } else { quoted(candidates) })]
    NoCoordinates {
        /// The file.
        path: PathBuf,
        /// The numeric columns of the file.
        candidates: Vec<String>,
        /// The pair of them whose names suggest a map, if there is exactly one such pair.
        likely: Option<[String; 2]>,
    },
    /// A column of a type that cannot be read as numbers.
    #[error("{}: column \"{column}\" is {found}, which cannot be read as a vector component{instead}", path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// "; " and how the column can be read, or empty.
        instead: String,
    },
    /// A null where a number is required.
    #[error("{}: row {row}: null in column \"{column}\"; drop or fill such rows first", path.display())]
    Null {
        /// The file.
        path: PathBuf,
        /// The row within the file, from 0.
        row: u64,
        /// The column.
        column: String,
    },
    /// A vector whose length differs from the first one's.
    #[error("{}: row {row}: {found} components where the first row has {expected}", path.display())]
    Ragged {
        /// The file.
        path: PathBuf,
        /// The row within the file, from 0.
        row: u64,
        /// The first row's length.
        expected: usize,
        /// This row's length.
        found: usize,
    },
    /// Files of one source differ in the number of components.
    #[error("{}: vectors of {found} components, but {} has {expected}", path.display(), first.display())]
    Width {
        /// The file that differs.
        path: PathBuf,
        /// Its width.
        found: usize,
        /// The first file of the source.
        first: PathBuf,
        /// The first file's width.
        expected: usize,
    },
    /// An output file that exists already.
    #[error("{}: already exists; pass `force` to replace it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A run directory, or a file, that another process or writer holds.
    #[error("{}: in use by {holder}", path.display())]
    Locked {
        /// The run directory or file.
        path: PathBuf,
        /// The holder: process, host and time.
        holder: String,
    },
    /// A run directory that holds a run of another configuration or of other sources.
    #[error("{}: holds a run whose {field} was {was}, and this run's is {now}; go back to the earlier value to continue that run, choose another `run_dir`, or pass `restart` to discard it", path.display())]
    Resume {
        /// The run directory.
        path: PathBuf,
        /// The first field that differs, as a JSON path (`n_neighbors`, `sources[0].bytes`).
        field: String,
        /// The value in the run, as JSON; `null` if it had none.
        was: String,
        /// The value now.
        now: String,
    },
    /// A directory that holds files but is not a run directory.
    #[error("{}: not empty and not a run directory of lowland; choose another `run_dir`", path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
    },
}

impl Error {
    /// Returns the error of an I/O operation `doing` at `path`. If `source` wraps an [`Error`],
    /// returns that error.
    pub fn io(path: impl Into<PathBuf>, doing: &'static str, source: std::io::Error) -> Self {
        match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Io { path: path.into(), doing, source },
        }
    }

    /// Returns the error of a malformed file.
    pub fn format(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Error::Format { path: path.as_ref().to_path_buf(), what: what.into() }
    }

    /// Replaces the path `from` by `to` if the error names the path `from` as its input file.
    #[must_use]
    pub fn renamed(mut self, from: &Path, to: impl Into<PathBuf>) -> Self {
        use Error::*;
        if let Io { path, .. }
        | Format { path, .. }
        | Truncated { path, .. }
        | Changed { path, .. }
        | Version { path, .. }
        | NoSuchColumn { path, .. }
        | AmbiguousColumn { path, .. }
        | NoVectorColumn { path, .. }
        | ColumnType { path, .. }
        | Null { path, .. }
        | Ragged { path, .. }
        | Width { path, .. } = &mut self
            && path == from
        {
            *path = to.into();
        }
        self
    }

    /// Returns whether the input, rather than the machine or lowland, is at fault.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Error::Store { input, .. } => *input,
            Error::Corrupt { .. } | Error::Locked { .. } | Error::Stopped { .. } => false,
            _ => true,
        }
    }
}

fn quoted(names: &[String]) -> String {
    if names.is_empty() {
        return "no columns".into();
    }
    const SHOWN: usize = 12;
    let mut text = names.iter().take(SHOWN).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
