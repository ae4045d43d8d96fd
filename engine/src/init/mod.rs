//! The init stage: computes the first positions, rows × components, in list order.
//!
//! For every kind of start, each coordinate gets a small random offset, so that equal rows have different
//! positions. The map starts about twenty units wide, which fits UMAP's learning rates, or with the standard
//! deviation that its method asks for.
//!
//! The first positions of a finished run, whose directory is `run`:
//!
//! ```
//! # use std::sync::Arc;
//! # use lowland_engine::{Config, Inputs, embed};
//! # use lowland_io::{MemorySource, RunDir};
//! # let place = tempfile::tempdir()?;
//! # let rows: Vec<f32> = (0..600 * 8).map(|i| ((i * 7919 % 1009) as f32).sin()).collect();
//! # let inputs = Inputs { source: Some(Arc::new(MemorySource::from_vec("rows", rows, 8)?)), ..Inputs::default() };
//! # let plan = Config { n_epochs: Some(10), threads: Some(1), ..Config::default() }.plan(&inputs.describe()?)?;
//! # let (run, _) = RunDir::open(place.path().join("run"), plan.identity(), Vec::new())?;
//! # let mut map = Vec::new();
//! # let report = embed(&plan, &inputs, &run, &mut map, &())?;
//! use lowland_engine::positions::{INIT, Positions};
//!
//! let first = Positions::open(&run.path(INIT), 600, 2)?;
//! assert!(first.values()?.iter().all(|x| x.abs() < 20.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod centroid;
mod diffusion;
mod earlier;

use rayon::prelude::*;

use crate::budget::MemoryNeeds;
use crate::index::{InvertedLists, table_bytes};
use crate::inputs::PositionSource;
use crate::observe::Progress;
use crate::pca::Pca;
use crate::plan::Plan;
use crate::positions::{INIT, map_bytes, write_positions};
use crate::random::unit;
use crate::work::{StageContext, StageFiles};
use crate::{Init, Result};

/// Number of passes over the edges that place the rows of a graph without vectors.
pub(crate) const DIFFUSION_PASSES: usize = diffusion::PASSES;
/// Half of the width that a map starts with.
pub(crate) const HALF_WIDTH: f32 = 10.0;
/// The largest random offset of a coordinate.
const JITTER: f32 = 1e-2;
/// Number of rows that one task handles.
const PORTION_ROWS: usize = 4096;

/// Computes first positions and writes them.
pub fn build(
    plan: &Plan,
    lists: Option<&InvertedLists>,
    pca: Option<&Pca>,
    first: Option<&dyn PositionSource>,
    work: &StageContext<'_>,
) -> Result<StageFiles> {
    let (width, progress) = (plan.settings.n_components, work.progress);
    let _held = work.reserve(&needs(plan), "place")?;
    let mut positions = match (&plan.settings.init, lists, pca) {
        (Init::File(path), ..) => earlier::complete(plan, load(plan, path, first, work)?, lists, work)?,
        (Init::Pca, Some(lists), Some(pca)) => project_rows(lists, pca, width, progress)?,
        (Init::Centroid, Some(lists), _) if plan.has_centroids() => centroid::positions(plan, lists, progress)?,
        (Init::Centroid, Some(lists), Some(pca)) => project_rows(lists, pca, width, progress)?,
        (Init::Random, ..) => random_positions(plan),
        // Without vectors, only the graph tells which rows are near each other.
        (Init::Centroid | Init::Pca, ..) => diffusion::smooth(plan, random_positions(plan), work)?,
    };
    let seed = plan.settings.seed;
    positions.par_chunks_mut(PORTION_ROWS * width).enumerate().for_each(|(chunk, positions)| {
        for (i, x) in positions.iter_mut().enumerate() {
            *x += JITTER * (2.0 * unit(seed, 0x71c4, (chunk * PORTION_ROWS * width + i) as u64) - 1.0);
        }
    });
    if let Some(deviation) = plan.settings.method.initial_deviation() {
        scale_to_deviation(&mut positions, width, deviation);
    }
    let stamp = write_positions(work.create(INIT)?, &positions)?;
    progress.traffic.wrote(stamp.bytes);
    Ok(vec![(INIT.into(), stamp)])
}

fn random_positions(plan: &Plan) -> Vec<f32> {
    let (seed, n) = (plan.settings.seed, plan.shape.rows * plan.settings.n_components as u64);
    (0..n).into_par_iter().map(|i| HALF_WIDTH * (2.0 * unit(seed, 0x4a4d, i) - 1.0)).collect()
}

/// Returns the principal component scores, scaled to ±[`HALF_WIDTH`].
fn project_rows(lists: &InvertedLists, pca: &Pca, width: usize, progress: &Progress<'_>) -> Result<Vec<f32>> {
    let mut positions = vec![0f32; lists.table.rows() as usize * width];
    let mut rest = positions.as_mut_slice();
    for list in 0..lists.table.count() {
        let vectors = lists.vectors(list)?;
        let (here, later) = rest.split_at_mut(lists.table.range(list).len() * width);
        rest = later;
        pca_scores(pca, vectors, width, here);
        progress.traffic.read(vectors.len() as u64 * 4);
        progress.advance(lists.table.range(list).len() as u64)?;
    }
    scale_to_extent(&mut positions);
    Ok(positions)
}

/// Computes principal component scores of `rows`, `width` for each row. Scores beyond the number of principal
/// components are 0.
fn pca_scores(pca: &Pca, rows: &[f32], width: usize, out: &mut [f32]) {
    let there = pca.n_components();
    if there == width {
        return pca.project(rows, out);
    }
    let count = out.len() / width;
    let mut some = vec![0f32; count * there];
    pca.project(rows, &mut some);
    for (out, scores) in out.chunks_exact_mut(width).zip(some.chunks_exact(there)) {
        out[..there].copy_from_slice(scores);
    }
}

/// Scales the positions so that the largest coordinate is ±[`HALF_WIDTH`].
fn scale_to_extent(positions: &mut [f32]) {
    let largest = positions.iter().fold(0f32, |m, x| m.max(x.abs()));
    if largest > 0.0 && largest.is_finite() {
        let factor = HALF_WIDTH / largest;
        positions.iter_mut().for_each(|x| *x *= factor);
    }
}

/// Scales the positions so that the first component has this standard deviation. Sums run in row order, in f64.
fn scale_to_deviation(positions: &mut [f32], width: usize, deviation: f64) {
    let rows = (positions.len() / width) as f64;
    let first = || positions.iter().step_by(width).map(|&x| f64::from(x));
    let mean = first().sum::<f64>() / rows;
    let variance = first().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (rows - 1.0).max(1.0);
    if variance > 0.0 {
        let factor = deviation / variance.sqrt();
        positions.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
    }
}

pub(crate) use earlier::{load, place_unconnected};

/// Bytes for each row that matching rows by name may take.
pub const NAME_BYTES: u64 = 16;

/// Returns the memory that the stage takes.
pub fn needs(plan: &Plan) -> MemoryNeeds {
    let map = map_bytes(plan);
    let beside: Vec<(&'static str, u64)> = match &plan.settings.init {
        Init::File(path) => {
            let named = path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("npy"));
            let names = if named { plan.shape.rows * NAME_BYTES } else { 0 };
            let walk = map + diffusion::bytes(plan);
            vec![("positions in the source's order", map), ("ids of rows, or a block of edges", names.max(walk))]
        }
        Init::Centroid if plan.has_centroids() => centroid::memory_parts(plan),
        Init::Random => Vec::new(),
        _ if plan.shape.dim > 0 => Vec::new(),
        _ => vec![("positions after a pass", map), ("a block of edges", diffusion::bytes(plan))],
    };
    let own = [("positions", map), ("lists' centroids", table_bytes(plan)), ("file buffer", 1 << 20)];
    MemoryNeeds::default().phase("place", own.into_iter().chain(beside))
}
