//! What can go wrong for a user of the facade, and whose fault it is.

use std::io::ErrorKind;
use std::path::PathBuf;

use lowland_engine::size;

use crate::picture::PictureError;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of a job. One line of text each, with the place and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine, or the bytes below it.
    #[error(transparent)]
    Engine(#[from] lowland_engine::Error),
    /// A job that cannot be done as it was put.
    #[error("{what}")]
    Job {
        /// What is wrong, and what to do.
        what: String,
    },
    /// A filesystem without the room that the run will need.
    #[error("{}: the run will need {} there, and {} are free; make space, choose another --run-dir, or keep fewer \
             stages (--keep-stages none)", directory.display(), size(*needed), size(*free))]
    Space {
        /// The run directory.
        directory: PathBuf,
        /// Bytes that are still to be written at the run's fullest, about.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A run that is done, of which warnings were to be errors.
    #[error("{} is written, but the run warned: {}", output.display(), warnings.join(", "))]
    Warned {
        /// The map.
        output: PathBuf,
        /// The warnings' kinds.
        warnings: Vec<String>,
    },
    /// A column that gives no colours.
    #[error("{}: cannot colour by column \"{column}\": {why}", path.display())]
    Color {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The picture could not be written.
    #[error("{error}: {}", because(error))]
    Picture {
        /// Which picture, and why.
        #[from]
        error: PictureError,
    },
}

impl From<lowland_io::Error> for Error {
    fn from(error: lowland_io::Error) -> Self {
        Error::Engine(error.into())
    }
}

impl Error {
    /// A job that cannot be done as it was put.
    pub(crate) fn job(what: impl Into<String>) -> Self {
        Error::Job { what: what.into() }
    }

    /// Whether what was asked or given, rather than the machine or lowland, is at fault.
    pub fn is_bad_input(&self) -> bool {
        use lowland_engine::Error as Engine;
        match self {
            Error::Job { .. } | Error::Color { .. } => true,
            Error::Picture { .. } | Error::Space { .. } | Error::Warned { .. } => false,
            Error::Engine(Engine::Io(error)) => {
                let kind = self.system().map(std::io::Error::kind);
                error.is_bad_input()
                    || matches!(
                        kind,
                        Some(ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
                    )
            }
            Error::Engine(Engine::Faiss { .. } | Engine::Device { .. } | Engine::Cancelled { .. }) => false,
            Error::Engine(_) => true,
        }
    }

    /// Whether the observer stopped the job.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Error::Engine(lowland_engine::Error::Cancelled { .. }))
    }

    /// Whether the operating system refused something, such as to open a file.
    pub fn is_system(&self) -> bool {
        self.system().is_some()
    }

    /// Whether a file system is full, or a quota or limit of sizes reached.
    pub fn is_no_space(&self) -> bool {
        let full = |e: &std::io::Error| {
            matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
        };
        self.system().is_some_and(full)
    }

    /// The operating system's own answer, where it is the cause.
    fn system(&self) -> Option<&std::io::Error> {
        match self {
            Error::Engine(lowland_engine::Error::Io(lowland_io::Error::Io { source, .. })) => Some(source),
            Error::Picture { error } => std::error::Error::source(error).and_then(|e| match e.downcast_ref() {
                Some(image::ImageError::IoError(source)) => Some(source),
                _ => None,
            }),
            _ => None,
        }
    }
}

fn because(error: &PictureError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}
