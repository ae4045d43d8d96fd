//! First positions that the user provides: those of an earlier map, which need not have all rows.
//!
//! A row without a position starts at the mean of its neighbours that have one, weighted by its edges. Passes
//! over the edges repeat until no further row can be placed. The remaining rows start at the mean of all. The
//! map keeps its position and scale.

use std::path::Path;

use lowland_io::edges::EdgeBlock;
use rayon::prelude::*;

use super::random_positions;
use crate::affinity::EdgeStore;
use crate::index::InvertedLists;
use crate::inputs::PositionSource;
use crate::plan::Plan;
use crate::work::StageContext;
use crate::{Error, Result};

/// Returns the positions in the source's order, with NaN for rows without a position. Positions are read from
/// `first`, or else from the file `path`, which must then have rows × components numbers.
///
/// # Errors
/// If the file has another shape, or a number that is not finite.
pub(crate) fn load(
    plan: &Plan,
    path: &Path,
    first: Option<&dyn PositionSource>,
    work: &StageContext<'_>,
) -> Result<Vec<f32>> {
    let (rows, width) = (plan.shape.rows, plan.settings.n_components);
    let mut positions = vec![0f32; rows as usize * width];
    if let Some(first) = first {
        let placed = first.read(&mut positions, &mut || work.progress.check())?;
        if placed.new == rows {
            let text = format!("no row has a position in {}: first positions are random", placed.from);
            work.progress.warn("first-positions", text)?;
        } else if placed.new > 0 {
            let text = format!(
                "{} of {rows} rows have no position in {}: their first position is the mean of their neighbours",
                placed.new, placed.from
            );
            work.progress.note("first-positions", text)?;
        }
        return Ok(positions);
    }
    let file = lowland_io::open(&[path.to_string_lossy().into_owned()], &lowland_io::OpenOptions::default())?;
    let shape = file.shape();
    if shape.rows != rows || shape.dim != width {
        let why = format!("{} holds {} × {}, but the map is {rows} × {width}", path.display(), shape.rows, shape.dim);
        return Err(Error::Config { field: "init", why });
    }
    file.read_rows(0, &mut positions)?;
    if let Some(at) = positions.iter().position(|x| !x.is_finite()) {
        return Err(crate::invalid::not_finite(file.as_ref(), (at / width) as u64, at % width));
    }
    Ok(positions)
}

/// Brings positions to list order, and places rows without a position among their neighbours.
pub(super) fn complete(
    plan: &Plan,
    given: Vec<f32>,
    lists: Option<&InvertedLists>,
    work: &StageContext<'_>,
) -> Result<Vec<f32>> {
    let width = plan.settings.n_components;
    let mut positions = given;
    if let Some(lists) = lists {
        let mut ordered = Vec::with_capacity(positions.len());
        for list in 0..lists.table.count() {
            for row in lists.source_rows(list) {
                ordered.extend_from_slice(&positions[row as usize * width..][..width]);
            }
        }
        positions = ordered;
    }
    if !positions.iter().any(|x| x.is_nan()) {
        return Ok(positions);
    }
    if positions.iter().all(|x| x.is_nan()) {
        return Ok(random_positions(plan));
    }
    let store = EdgeStore::open(work.run.dir(), plan.shape.rows)?;
    let mut next = positions.clone();
    let mut block = EdgeBlock::default();
    loop {
        let mut placed = 0;
        for i in 0..store.count() {
            store.read_block(i, &mut block)?;
            let first = block.first_row as usize;
            let rows = next[first * width..][..block.rows() * width].par_chunks_mut(width).enumerate();
            placed += rows
                .map(|(at, out)| {
                    let own = &positions[(first + at) * width..][..width];
                    usize::from(own[0].is_nan() && neighbor_mean(&block, at, &positions, out))
                })
                .sum::<usize>();
            work.progress.check()?;
        }
        if placed == 0 {
            break;
        }
        positions.copy_from_slice(&next);
    }
    drop(next);
    Ok(place_unconnected(plan, positions))
}

/// Sets `out` to the weighted mean of the neighbours of the block's row `at` that have positions. Returns
/// whether there was any.
fn neighbor_mean(block: &EdgeBlock, at: usize, positions: &[f32], out: &mut [f32]) -> bool {
    let (mut sums, mut total) = (vec![0f64; out.len()], 0f64);
    let range = block.offsets[at] as usize..block.offsets[at + 1] as usize;
    for (&to, &weight) in block.neighbors[range.clone()].iter().zip(&block.weights[range]) {
        let place = &positions[to as usize * out.len()..][..out.len()];
        if place[0].is_nan() || weight <= 0.0 {
            continue;
        }
        total += f64::from(weight);
        sums.iter_mut().zip(place).for_each(|(sum, &x)| *sum += f64::from(weight) * f64::from(x));
    }
    if total > 0.0 {
        out.iter_mut().zip(&sums).for_each(|(x, sum)| *x = (sum / total) as f32);
    }
    total > 0.0
}

/// Places rows without a position at the mean of the other rows. If no row has a position, all rows are placed
/// at random within a ball of radius ½.
pub(crate) fn place_unconnected(plan: &Plan, mut positions: Vec<f32>) -> Vec<f32> {
    let width = plan.settings.n_components;
    let (mut sums, mut count) = (vec![0f64; width], 0u64);
    for place in positions.chunks_exact(width).filter(|place| !place[0].is_nan()) {
        sums.iter_mut().zip(place).for_each(|(sum, &x)| *sum += f64::from(x));
        count += 1;
    }
    if count == 0 {
        let scale = 0.05 / (width as f32).sqrt();
        return random_positions(plan).into_iter().map(|x| x * scale).collect();
    }
    for place in positions.chunks_exact_mut(width).filter(|place| place[0].is_nan()) {
        place.iter_mut().zip(&sums).for_each(|(x, sum)| *x = (sum / count as f64) as f32);
    }
    positions
}
