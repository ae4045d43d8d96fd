//! Reports as files: a file is replaced, and a pipe or device is written to.

use std::io::Write;
use std::path::Path;

use super::Failure;

/// Returns whether a path is a pipe or device, which is written to and not replaced.
pub(super) fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

pub(super) fn write_report(path: &Path, text: &str) -> Result<(), Failure> {
    if is_device(path) {
        let open = std::fs::OpenOptions::new().write(true).open(path);
        let written = open.and_then(|mut device| device.write_all(text.as_bytes()));
        return written.map_err(|e| lowland_io::Error::io(path, "write", e).into());
    }
    lowland_io::replace(path, text.as_bytes())?;
    Ok(())
}
