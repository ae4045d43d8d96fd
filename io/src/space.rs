//! What a file system grants: free space, and the length of names.
//!
//! What must hold: nothing is created, and the value is the space that this process may use,
//! without the blocks reserved for the superuser.

use std::path::Path;

use crate::{Error, Result};

/// Returns the bytes that this process can still write on the file system of `path`. For a path
/// that does not exist, this is the file system of its nearest existing ancestor.
///
/// # Errors
/// [`Error::Io`] if the file system does not tell.
pub fn free_space(path: &Path) -> Result<u64> {
    file_system(path, "ask for the free space of").map(|found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns the most bytes that a name may have on the file system of `directory`: 255 on most.
///
/// # Errors
/// [`Error::Io`] if the file system does not tell.
pub fn longest_name(directory: &Path) -> Result<u64> {
    file_system(directory, "ask how long a name in it may be").map(|found| found.f_namemax)
}

/// Asks for the file system of `path`; `doing` says for what, in an error.
fn file_system(path: &Path, doing: &'static str) -> Result<rustix::fs::StatVfs> {
    let mut asked = path;
    loop {
        // The parent of a plain name is the empty path, which stands for the working directory.
        let here = if asked.as_os_str().is_empty() { Path::new(".") } else { asked };
        match rustix::fs::statvfs(here) {
            Ok(found) => return Ok(found),
            Err(rustix::io::Errno::NOENT) if asked.parent().is_some() => asked = asked.parent().unwrap_or(asked),
            Err(e) => return Err(Error::io(path, doing, e.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_path_has_the_space_of_its_ancestor() {
        let dir = tempfile::tempdir().unwrap();
        let there = free_space(dir.path()).unwrap();
        assert!(there > 0);
        // Other processes write meanwhile, so the values are only roughly equal.
        let below = free_space(&dir.path().join("not/yet")).unwrap();
        assert!(below.abs_diff(there) < there / 2 + (1 << 30), "{below} where {there} are free");
        free_space(Path::new("a-name-of-nothing")).unwrap();
        free_space(Path::new("/a-name-of-nothing/below")).unwrap();
        free_space(Path::new("")).unwrap();
    }

    #[test]
    fn failed_space_query_names_the_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = free_space(&file.path().join("below")).unwrap_err().to_string();
        assert!(error.contains("below: cannot ask for the free space of: "), "{error}");
        let error = longest_name(&file.path().join("below")).unwrap_err().to_string();
        assert!(error.contains("below: cannot ask how long a name in it may be: "), "{error}");
    }
}
