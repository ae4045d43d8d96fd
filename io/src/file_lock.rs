//! The lock of a directory that one process at a time may change, with a text that says who holds it.
//!
//! The file (`LOCK`) is locked by flock, so that the kernel releases it however the process ends. It holds one line:
//! `lowland process <id> on <host> since <RFC 3339, UTC>`. The line stays when the lock is released.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::rundir::now;
use crate::{Error, Result, durable};

/// The first word of every lock file that lowland writes.
pub(crate) const LOCK_HEAD: &str = "lowland ";

/// A lock that this process holds until the value is dropped.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    file: File,
}

impl FileLock {
    /// Takes the lock `path`, and creates the file if needed; `None` if another handle holds the lock. A reader in
    /// [`held_by`](Self::held_by) also holds the lock, but for less than a millisecond, so the lock is tried three
    /// times, 10 ms apart.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be created or locked.
    pub fn take(path: &Path) -> Result<Option<Self>> {
        const TIMES: usize = 3;
        for attempt in 0..TIMES {
            if attempt > 0 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            if let Some(file) = durable::lock(path)? {
                return Ok(Some(FileLock { path: path.into(), file }));
            }
        }
        Ok(None)
    }

    /// Writes this process as the holder into the file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn sign(&mut self) -> Result<()> {
        let text = format!("{LOCK_HEAD}process {} on {} since {}\n", std::process::id(), host(), now());
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .map_err(|e| Error::io(&self.path, "write", e))
    }

    /// Returns the process that the text of the lock file `path` names: process, host and time.
    pub fn holder(path: &Path) -> String {
        let text = lock_text(path);
        match text.strip_prefix(LOCK_HEAD).map(str::trim) {
            Some(who) if !who.is_empty() => who.into(),
            _ => "another process".into(),
        }
    }

    /// Returns the process that holds the lock `path` now, if any. Creates nothing.
    pub fn held_by(path: &Path) -> Option<String> {
        // A shared lock, so that two concurrent readers do not take each other for the holder.
        match File::open(path).ok()?.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(Self::holder(path)),
            // The lock just taken is released when the handle is dropped at the end of this statement.
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

/// Returns the first 512 bytes of a lock file as text; empty if the file cannot be read.
pub(crate) fn lock_text(lock: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(lock).and_then(|file| file.take(512).read_to_end(&mut bytes));
    read.map_or(String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

fn host() -> String {
    let mut name = [0_u8; 256];
    #[expect(unsafe_code, reason = "the standard library does not tell the host's name")]
    // SAFETY: the pointer and the length are those of `name`, which outlives the call.
    let answer = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) };
    let length = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    if answer == 0 && length > 0 {
        String::from_utf8_lossy(&name[..length]).into_owned()
    } else {
        "an unnamed host".into()
    }
}
