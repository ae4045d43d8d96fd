//! Room on disk: how much a filesystem has, and which filesystem a path is on.
//!
//! What must hold: a path need not be there yet. It is asked for where it would
//! come to lie, which is what its nearest directory lies on.

use std::path::{Path, PathBuf};

use lowland_io::Result;

/// The nearest directory that is there, `path` itself included.
pub(crate) fn nearest(path: &Path) -> PathBuf {
    // A relative path ends in nothing, which stands for the current directory.
    let above = path.ancestors().find(|part| part.is_dir() || part.as_os_str().is_empty());
    above.filter(|part| !part.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
}

/// Bytes that this user may still write to the filesystem where `path` lies or would.
///
/// # Errors
/// Where the system does not tell.
pub(crate) fn free_space(path: &Path) -> Result<u64> {
    lowland_io::free_space(&nearest(path))
}

/// Whether two paths lie, or would, on one filesystem; not where the system does not tell.
#[cfg(unix)]
pub(crate) fn together(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(nearest(path)).map(|found| found.dev()).ok();
    device(a).is_some_and(|a| device(b) == Some(a))
}

/// Unknown here: what both need is then asked of neither.
#[cfg(not(unix))]
pub(crate) fn together(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_lies_where_its_directory_does() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b/c");
        assert_eq!(nearest(&deep), dir.path());
        assert_eq!(nearest(Path::new("no/such")), Path::new("."));
        assert_eq!(nearest(Path::new("")), Path::new("."));
        assert!(together(&deep, dir.path()));
        assert!(free_space(&deep).expect("an answer") > 0);
    }
}
