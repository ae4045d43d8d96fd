//! Spare neighbours: the nearest of the neighbours' neighbours, beside the neighbours that the run found.
//!
//! When a neighbour of a row is deleted, a spare takes its place, so that most deletions need no search. A spare that is
//! nearer than a neighbour of the run takes its place at once: the join had missed it.

use lowland_engine::Metric;
use lowland_engine::distances::squared_distance;
use lowland_engine::index::InvertedLists;
use lowland_engine::neighbors::{KnnGraph, MISSING};
use rayon::prelude::*;

use crate::Result;

/// Number of spare neighbours of a row.
pub const SPARES: usize = 5;

/// Computes the k + [`SPARES`] neighbours of `count` rows from `first` on, by ascending (distance, row), with
/// [`MISSING`] and infinity where there are fewer. Replaces the contents of `near` and `distances`.
///
/// # Errors
/// A vector or distance that cannot be read.
pub(super) fn with_spares(
    graph: &KnnGraph,
    lists: &InvertedLists,
    metric: Metric,
    (first, count): (u32, usize),
    near: &mut Vec<u32>,
    distances: &mut Vec<f32>,
) -> Result<()> {
    let width = graph.k() + SPARES;
    near.clear();
    near.resize(count * width, MISSING);
    distances.clear();
    distances.resize(count * width, f32::INFINITY);
    near.par_chunks_mut(width).zip(distances.par_chunks_mut(width)).enumerate().try_for_each_init(
        Vec::new,
        |found: &mut Vec<(f32, u32)>, (i, (near, distances))| {
            let row = first + i as u32;
            row_with_spares(graph, lists, metric, row, found)?;
            for ((near, distance), &(squared, other)) in near.iter_mut().zip(distances).zip(&*found) {
                (*near, *distance) = (other, squared);
            }
            Ok(())
        },
    )
}

/// Replaces `found` by the neighbours of `row` and the nearest of their neighbours, at most k + [`SPARES`], as
/// (distance in the metric's units, row).
fn row_with_spares(
    graph: &KnnGraph,
    lists: &InvertedLists,
    metric: Metric,
    row: u32,
    found: &mut Vec<(f32, u32)>,
) -> Result<()> {
    let own: Vec<u32> = graph.neighbors(row).filter(|&other| other != MISSING).collect();
    let mut others: Vec<u32> = own.iter().flat_map(|&other| graph.neighbors(other)).collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|other| *other != MISSING && *other != row && !own.contains(other));
    found.clear();
    found.extend(graph.distances(row)?.iter().copied().zip(own));
    let vector = lists.row(row)?;
    for other in others {
        let distance = metric.distance(squared_distance(vector, lists.row(other)?));
        found.push((distance, other));
    }
    found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    found.truncate(graph.k() + SPARES);
    Ok(())
}
