//! The functions of `faiss.rs` in a build without FAISS (`--cfg lowland_no_faiss`).
//!
//! Such a build needs no C++ for the target. It serves the tests on another processor: a run whose quantizer was trained
//! before completes, and training returns an error.

use std::path::Path;

use crate::{Error, Result};

fn absent<T>(doing: &'static str) -> Result<T> {
    let why = "this build has no FAISS; build without `--cfg lowland_no_faiss`".into();
    Err(Error::Faiss { doing, why })
}

/// Returns "none".
pub fn initialize() -> Result<&'static str> {
    Ok("none")
}

/// Returns an error.
///
/// # Errors
/// [`Error::Faiss`], always.
pub fn kmeans(_rows: &[f32], _dim: usize, _k: usize, _iterations: usize, _seed: u64) -> Result<Vec<f32>> {
    absent("train k-means")
}

/// Writes an empty file at `path`: what the stages read are the lists and their table.
///
/// # Errors
/// If the file cannot be written.
pub fn write_ivf(path: &Path, _lists: &Path, _centroids: &[f32], _sizes: &[usize], _nprobe: usize) -> Result<()> {
    Ok(std::fs::write(path, []).map_err(|e| lowland_io::Error::io(path, "write", e))?)
}

/// Returns an error.
///
/// # Errors
/// [`Error::Faiss`], always.
pub fn search(_path: &Path, _queries: &[f32], _dim: usize, _k: usize, _probes: usize) -> Result<(Vec<f32>, Vec<i64>)> {
    absent("search the index")
}
