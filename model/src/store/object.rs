//! The writer of an object: a file that gets the name of its content.

use std::io::{self, Write};
use std::path::PathBuf;

use lowland_io::PendingFile;

use super::{ObjectRef, names};
use crate::Result;

/// Writes an object. A writer that is dropped leaves nothing.
#[derive(Debug)]
pub struct ObjectWriter {
    data: PathBuf,
    kind: String,
    file: PendingFile,
}

impl ObjectWriter {
    /// The memory that a writer holds, in bytes.
    pub const BYTES: u64 = 1 << 20;

    /// Begins an object of the kind `kind` in the directory `data`, for now under the name `new-<serial>`.
    pub(super) fn begin(data: PathBuf, kind: &str, serial: u64) -> Result<Self> {
        let file = PendingFile::create(data.join(format!("new-{serial}")))?;
        Ok(ObjectWriter { data, kind: kind.into(), file })
    }

    /// Returns the bytes written so far.
    pub fn position(&self) -> u64 {
        self.file.position()
    }

    /// Makes the object durable and gives it its name. An object of the same bytes is replaced by this one, whose
    /// bytes are known to be right.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(self) -> Result<ObjectRef> {
        let name = names::object(self.file.digest128(), &self.kind);
        let stamp = self.file.finish_at(&self.data.join(&name))?;
        Ok(ObjectRef { name, bytes: stamp.bytes })
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
