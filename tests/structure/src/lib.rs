//! Checks of the workspace's source text. The package needs nothing of the other packages, so that its tests
//! compile and run in seconds: `cargo test --release -p lowland-structure`.
//!
//! - [`layers`]: the engine's top-level modules are layers; a module uses only modules of lower layers.
//! - [`unsafe_code`]: the list of files that may contain `unsafe`.
//!
//! Sources are read as tokens, so that comments and strings count for nothing.

pub mod circles;
pub mod layers;
mod reader;
pub mod unsafe_code;
pub mod uses;

use std::path::{Path, PathBuf};

/// A source file: its path, with `/` between the parts, and its text.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to the directory that was read.
    pub path: String,
    /// The whole file.
    pub text: String,
}

impl Source {
    /// A file with this path and text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Source { path: path.into(), text: text.into() }
    }
}

/// The root of the workspace. Asked at run time, because one build directory may serve several clones.
///
/// # Panics
/// Where cargo does not run the test.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells where the package is");
    Path::new(&package).join("../..")
}

/// All `.rs` files below `dir`, sorted by path; paths are relative to `dir`. Build directories (`target`) and hidden
/// directories are left out.
///
/// # Panics
/// Where a directory or a file cannot be read.
pub fn sources(dir: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    collect(dir, "", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(dir: &Path, prefix: &str, found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let entry = entry.unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        // The type of the entry itself: a link to a directory could lead anywhere.
        let kind = entry.file_type().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if kind.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, &format!("{prefix}{name}/"), found);
            }
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            found.push(Source::new(format!("{prefix}{name}"), text));
        }
    }
}
