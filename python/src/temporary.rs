//! Directories of temporary files.
//!
//! What must hold: only the process that made a directory removes it. A forked child has copies of
//! its parent's objects, and the parent still reads the files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lowland::Error;
use pyo3::prelude::*;

use crate::errors::exception;

/// A directory of temporary files, which is removed with this value. Only its user may read it.
pub(crate) struct Temporary {
    path: PathBuf,
    process: u32,
}

impl Temporary {
    /// Makes a directory in `parent`, or in the system's directory for temporary files.
    ///
    /// # Errors
    /// `OSError` if the directory cannot be made.
    pub(crate) fn new(py: Python<'_>, parent: Option<&Path>) -> PyResult<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let process = std::process::id();
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("lowland-{process}-{count}.spool"));
            match create(&path) {
                Ok(()) => return Ok(Temporary { path, process }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let error: Error = lowland_io::Error::io(path, "create", error).into();
                    return Err(exception(py, &error));
                }
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if std::process::id() == self.process {
            // A failure leaves temporary files, which the system removes.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn create(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
