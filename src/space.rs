//! Disk space: the free space of a file system, and whether two paths are on the same file system.
//!
//! What must hold: a path need not exist. Its file system is that of its nearest existing
//! directory.

use std::path::{Path, PathBuf};

use lowland_io::Result;

/// Returns the nearest existing directory, which may be `path` itself.
pub(crate) fn nearest(path: &Path) -> PathBuf {
    // The last ancestor of a relative path is empty and stands for the working directory.
    let above = path.ancestors().find(|part| part.is_dir() || part.as_os_str().is_empty());
    above.filter(|part| !part.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
}

/// Returns the bytes that this user can still write to the file system of `path`.
///
/// # Errors
/// If the operating system does not report free space.
pub(crate) fn free_space(path: &Path) -> Result<u64> {
    lowland_io::free_space(&nearest(path))
}

/// Returns whether two paths are on the same file system; false if that is unknown.
#[cfg(unix)]
pub(crate) fn together(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(nearest(path)).map(|found| found.dev()).ok();
    device(a).is_some_and(|a| device(b) == Some(a))
}

/// Unknown on this system; space for both paths is then not added up.
#[cfg(not(unix))]
pub(crate) fn together(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_path_is_on_its_directorys_filesystem() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b/c");
        assert_eq!(nearest(&deep), dir.path());
        assert_eq!(nearest(Path::new("no/such")), Path::new("."));
        assert_eq!(nearest(Path::new("")), Path::new("."));
        assert!(together(&deep, dir.path()));
        assert!(free_space(&deep).expect("an answer") > 0);
    }
}
