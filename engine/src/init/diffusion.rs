//! First positions from the graph alone: random positions, smoothed along the edges. Each pass replaces a row's
//! position by the weighted mean of itself and its neighbours, and then makes the axes orthonormal. The passes
//! are a power iteration towards the leading eigenvectors of the graph, which only streams the edge blocks.

use lowland_io::edges::EdgeBlock;
use rayon::prelude::*;

use super::scale_to_extent;
use crate::Result;
use crate::affinity::{self, EdgeStore};
use crate::plan::Plan;
use crate::work::StageContext;

/// Number of passes over the edges.
pub(super) const PASSES: usize = 30;

/// Smooths `positions` over the run's edges.
pub(super) fn smooth(plan: &Plan, mut positions: Vec<f32>, work: &StageContext<'_>) -> Result<Vec<f32>> {
    let width = plan.settings.n_components;
    let store = EdgeStore::open(work.run.dir(), plan.shape.rows)?;
    let mut next = vec![0f32; positions.len()];
    let mut block = EdgeBlock::default();
    for _ in 0..PASSES {
        for i in 0..store.count() {
            store.read_block(i, &mut block)?;
            let rows = block.rows();
            let first = block.first_row as usize;
            next[first * width..][..rows * width].par_chunks_mut(width).enumerate().for_each(|(place, out)| {
                let own = &positions[(first + place) * width..][..width];
                out.copy_from_slice(own);
                let mut total = 1f32;
                let range = block.offsets[place] as usize..block.offsets[place + 1] as usize;
                for (&to, &weight) in block.neighbors[range.clone()].iter().zip(&block.weights[range]) {
                    total += weight;
                    for (out, &x) in out.iter_mut().zip(&positions[to as usize * width..]) {
                        *out += weight * x;
                    }
                }
                out.iter_mut().for_each(|x| *x /= total);
            });
            work.progress.check()?;
        }
        std::mem::swap(&mut positions, &mut next);
        orthonormalize_axes(&mut positions, width);
    }
    scale_to_extent(&mut positions);
    Ok(positions)
}

/// Centres each axis, subtracts its projections on the previous axes, and scales it to unit variance. Sums run
/// in row order, in f64.
fn orthonormalize_axes(positions: &mut [f32], width: usize) {
    let rows = (positions.len() / width) as f64;
    for axis in 0..width {
        let mean = positions.iter().skip(axis).step_by(width).map(|&x| f64::from(x)).sum::<f64>() / rows;
        positions.iter_mut().skip(axis).step_by(width).for_each(|x| *x = (f64::from(*x) - mean) as f32);
        for before in 0..axis {
            let shared =
                positions.chunks_exact(width).map(|r| f64::from(r[before]) * f64::from(r[axis])).sum::<f64>() / rows;
            positions
                .chunks_exact_mut(width)
                .for_each(|r| r[axis] = (f64::from(r[axis]) - shared * f64::from(r[before])) as f32);
        }
        let variance =
            positions.iter().skip(axis).step_by(width).map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / rows;
        if variance > 0.0 {
            let factor = 1.0 / variance.sqrt();
            positions.iter_mut().skip(axis).step_by(width).for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
    }
}

/// Returns the bytes held in addition to two sets of positions.
pub(super) fn bytes(plan: &Plan) -> u64 {
    affinity::block_reading_bytes(plan.shape.rows, plan.degree())
}
