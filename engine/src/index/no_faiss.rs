//! The functions of `faiss.rs` in a build without FAISS (`--cfg lowland_no_faiss`): each returns an error.
//!
//! Such a build needs no C++ for the target. It serves the tests of the kernels on another processor; stages that
//! train or write an index do not run.

use std::path::Path;

use crate::{Error, Result};

fn absent<T>(doing: &'static str) -> Result<T> {
    let why = "this build has no FAISS; build without `--cfg lowland_no_faiss`".into();
    Err(Error::Faiss { doing, why })
}

/// Returns an error.
///
/// # Errors
/// [`Error::Faiss`], always.
pub fn initialize() -> Result<&'static str> {
    absent("start")
}

/// Returns an error.
///
/// # Errors
/// [`Error::Faiss`], always.
pub fn kmeans(_rows: &[f32], _dim: usize, _k: usize, _iterations: usize, _seed: u64) -> Result<Vec<f32>> {
    absent("train k-means")
}

/// Returns an error.
///
/// # Errors
/// [`Error::Faiss`], always.
pub fn write_ivf(_path: &Path, _lists: &Path, _centroids: &[f32], _sizes: &[usize], _nprobe: usize) -> Result<()> {
    absent("write the index")
}

/// Returns an error.
///
/// # Errors
/// [`Error::Faiss`], always.
pub fn search(_path: &Path, _queries: &[f32], _dim: usize, _k: usize, _probes: usize) -> Result<(Vec<f32>, Vec<i64>)> {
    absent("search the index")
}
