//! The errors of this crate, and whether the input is at fault.

use std::io::ErrorKind;
use std::path::PathBuf;

use lowland_engine::format_bytes;

use crate::picture::PictureError;

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed job. The text is one line, with the place of the error and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the engine or of reading and writing files.
    #[error(transparent)]
    Engine(#[from] lowland_engine::Error),
    /// An error of a stored map that is no error of the engine or of reading and writing files.
    #[error(transparent)]
    Model(lowland_model::Error),
    /// A job that cannot be done as specified.
    #[error("{what}")]
    Job {
        /// What is wrong, and how to correct it.
        what: String,
    },
    /// A file system without enough free space for the run.
    #[error("{}: {} will need {} there, and {} are free; {}", directory.display(), what.name(), format_bytes(*needed),
            format_bytes(*free), what.way_out())]
    Space {
        /// What needs the space.
        what: SpaceUse,
        /// The run directory.
        directory: PathBuf,
        /// The approximate number of bytes that are still to be written when the run takes the most
        /// space.
        needed: u64,
        /// Free bytes.
        free: u64,
    },
    /// A memory budget that is too small, where the machine does not grant the smallest that is enough.
    #[error("{error}; but {limit}, and must be raised first")]
    Grant {
        /// The budget that is too small.
        error: Box<Error>,
        /// The machine's limit, as a part of a sentence.
        limit: String,
    },
    /// A finished run with warnings that the caller treats as errors.
    #[error("{} is written, but the run warned: {}", output.display(), warnings.join(", "))]
    Warned {
        /// The map.
        output: PathBuf,
        /// The warnings' kinds.
        warnings: Vec<String>,
    },
    /// A column that cannot be used for colours.
    #[error("{}: cannot colour by column \"{column}\": {why}", path.display())]
    Color {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong with the column, and how to correct it.
        why: String,
    },
    /// The picture could not be written.
    #[error("{error}: {}", because(error))]
    Picture {
        /// The picture's path, and the cause.
        #[from]
        error: PictureError,
    },
}

/// What needs space on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceUse {
    /// The run directory of a map or graph.
    Run,
    /// A run whose map becomes a version of a model, and the files of this version.
    Model,
    /// The run directory of a transform.
    Transform,
}

impl SpaceUse {
    fn name(self) -> &'static str {
        match self {
            SpaceUse::Run | SpaceUse::Transform => "the run",
            SpaceUse::Model => "the run and the model",
        }
    }

    fn way_out(self) -> &'static str {
        match self {
            SpaceUse::Run => "make space, choose another `run_dir`, or keep fewer stages (`keep_stages` none)",
            SpaceUse::Model => "make space, or put the model on another disk",
            SpaceUse::Transform => "make space, or choose another `run_dir`",
        }
    }
}

impl From<lowland_io::Error> for Error {
    fn from(error: lowland_io::Error) -> Self {
        Error::Engine(error.into())
    }
}

impl From<lowland_model::Error> for Error {
    fn from(error: lowland_model::Error) -> Self {
        match error {
            lowland_model::Error::Engine(error) => Error::Engine(error),
            lowland_model::Error::Io(error) => Error::Engine(error.into()),
            lowland_model::Error::Stopped { path } => Error::Engine(lowland_io::Error::Stopped { path }.into()),
            error => Error::Model(error),
        }
    }
}

impl Error {
    /// Returns the error of a job that cannot be done as specified.
    pub(crate) fn job(what: impl Into<String>) -> Self {
        Error::Job { what: what.into() }
    }

    /// Returns whether the options or the input, rather than the machine or lowland, are at fault.
    pub fn is_bad_input(&self) -> bool {
        use lowland_engine::Error as Engine;
        match self {
            Error::Job { .. } | Error::Color { .. } | Error::Grant { .. } => true,
            Error::Picture { .. } | Error::Space { .. } | Error::Warned { .. } => false,
            Error::Model(error) => !matches!(error, lowland_model::Error::Damaged { .. }),
            Error::Engine(Engine::Io(error)) => {
                let kind = self.system().map(std::io::Error::kind);
                error.is_bad_input()
                    || matches!(
                        kind,
                        Some(
                            ErrorKind::PermissionDenied
                                | ErrorKind::NotADirectory
                                | ErrorKind::IsADirectory
                                | ErrorKind::InvalidFilename
                        )
                    )
            }
            Error::Engine(Engine::Faiss { .. } | Engine::Device { .. } | Engine::Cancelled { .. }) => false,
            Error::Engine(_) => true,
        }
    }

    /// Returns whether the observer stopped the job.
    pub fn is_cancelled(&self) -> bool {
        use lowland_engine::Error as Engine;
        matches!(self, Error::Engine(Engine::Cancelled { .. } | Engine::Io(lowland_io::Error::Stopped { .. })))
    }

    /// Returns whether an operation of the operating system or of an object store failed, such as
    /// opening a file.
    pub fn is_system(&self) -> bool {
        let is_store = matches!(self, Error::Engine(lowland_engine::Error::Io(lowland_io::Error::Store { .. })));
        is_store || self.system().is_some()
    }

    /// Returns whether a file system is full, or a quota or file size limit was reached.
    pub fn is_no_space(&self) -> bool {
        let full = |e: &std::io::Error| {
            matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
        };
        self.system().is_some_and(full)
    }

    /// Returns the field of the options that is at fault, such as `memory`; `None` if it is not one option.
    pub fn option(&self) -> Option<&str> {
        use lowland_engine::Error as Engine;
        match self {
            Error::Engine(Engine::Config { field, .. }) => Some(field),
            Error::Engine(Engine::Budget { .. } | Engine::AllPairs { .. }) => Some("memory"),
            Error::Engine(Engine::Disk { .. }) => Some("disk"),
            _ => None,
        }
    }

    /// Returns what the user can do, where the text of the error does not say it. `set` writes an option with a value,
    /// as the user sets it.
    ///
    /// ```
    /// let error = lowland::embed((vec![0.5; 4000], 4)).memory("1MiB").plan().unwrap_err();
    /// assert_eq!(error.option(), Some("memory"));
    /// let advice = error.advice(|field, value| format!("--{field} {value}"));
    /// assert!(advice.is_some_and(|advice| advice.starts_with("give --memory ")));
    /// ```
    pub fn advice(&self, set: impl Fn(&str, &str) -> String) -> Option<String> {
        use lowland_engine::Error as Engine;
        // In whole MiB, so that the printed number is sufficient when a user passes it.
        let size = |bytes: u64| format!("{}MiB", bytes.div_ceil(1 << 20));
        match self {
            Error::Engine(Engine::Budget { needed, .. } | Engine::AllPairs { needed, .. }) => {
                Some(format!("give {}", set("memory", &size(*needed))))
            }
            Error::Engine(Engine::Disk { needed, .. }) => {
                let (more, fewer) = (set("disk", &size(*needed)), set("keep_stages", "none"));
                Some(format!("give {more}, or keep fewer stages: {fewer}"))
            }
            Error::Engine(Engine::Io(lowland_io::Error::NoCoordinates { likely, .. })) => Some(match likely {
                Some([x, y]) => {
                    format!("name the map's columns, most likely {}", set("coordinates", &format!("{x},{y}")))
                }
                None => format!("name the map's columns: {}", set("coordinates", "A,B")),
            }),
            Error::Engine(Engine::Invalid { .. }) => {
                let (drop, null) = (set("invalid", "drop"), set("invalid", "null"));
                Some(format!("{drop} leaves such rows out, {null} keeps them in the output without coordinates"))
            }
            error => error.is_no_space().then(|| "make space there, then run the same again".into()),
        }
    }

    /// Returns the operating system's error, if that is the cause.
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
