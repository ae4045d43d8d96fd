//! First positions from the index's centroids: the centroids' own graph is laid out as a small map, and every
//! row is placed at a weighted mean of its nearest centroids.

use lowland_io::edges::EdgeBlock;
use rayon::prelude::*;

use super::scale_to_extent;
use crate::affinity::calibrate::{self, fuzzy_union};
use crate::distances::{PackedQueries, PackedRows, squared_distance};
use crate::index::{InvertedLists, k_nearest};
use crate::layout::{self, curve};
use crate::observe::Progress;
use crate::pca::{self, BlockwisePca, Covariance};
use crate::plan::Plan;
use crate::{Error, Method, Result};

/// Number of epochs of the small map.
const EPOCHS: usize = 500;
/// Number of centroids whose mean places a row.
const NEAREST_CENTROIDS: usize = 4;
/// Number of lists whose centroids a row is compared with: the lists nearest to the row's own list, which is
/// included.
const NEARBY_LISTS: usize = 24;
/// The largest dimension for which the centroids' whole covariance matrix is decomposed.
const MAX_COVARIANCE_COMPONENTS: usize = 512;
/// Number of centroids that are searched for together.
const PANEL: usize = 256;

/// Returns the positions of all rows, in list order.
pub(super) fn positions(plan: &Plan, lists: &InvertedLists, progress: &Progress<'_>) -> Result<Vec<f32>> {
    let width = plan.settings.n_components;
    let map = centroid_map(plan, &lists.table.centroids, lists.table.dim, progress)?;
    let table = &lists.table;
    let mut positions = vec![0f32; table.rows() as usize * width];
    let mut parts = Vec::with_capacity(table.count());
    let mut rest = positions.as_mut_slice();
    for list in 0..table.count() {
        let (here, later) = rest.split_at_mut(table.range(list).len() * width);
        rest = later;
        parts.push((list, here));
    }
    parts.into_par_iter().try_for_each(|(list, out)| {
        let around: Vec<u32> =
            std::iter::once(list as u32).chain(table.nearest_lists(list, NEARBY_LISTS - 1)).collect();
        let vectors = lists.vectors(list)?;
        let mut near: Vec<(f32, u32)> = Vec::with_capacity(around.len());
        for (row, out) in vectors.chunks_exact(table.dim).zip(out.chunks_exact_mut(width)) {
            near.clear();
            near.extend(around.iter().map(|&l| (squared_distance(row, table.centroid(l as usize)), l)));
            near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            near.truncate(NEAREST_CENTROIDS);
            let mut total = 0.0;
            for &(squared, l) in &near {
                // Bounds the weight; a row at its centroid gets nearly the centroid's position.
                let weight = 1.0 / (squared.sqrt() + f32::MIN_POSITIVE.sqrt());
                total += weight;
                for (out, &x) in out.iter_mut().zip(&map[l as usize * width..]) {
                    *out += weight * x;
                }
            }
            out.iter_mut().for_each(|x| *x /= total);
        }
        progress.traffic.read(vectors.len() as u64 * 4);
        progress.advance(table.range(list).len() as u64)
    })?;
    Ok(positions)
}

/// Computes the map of the centroids: exact neighbours, UMAP weights, PCA start.
fn centroid_map(plan: &Plan, centroids: &[f32], dim: usize, progress: &Progress<'_>) -> Result<Vec<f32>> {
    let n = centroids.len() / dim;
    let k = plan.k().min(n - 1);
    let mut table = PackedRows::default();
    table.load(centroids.chunks_exact(dim), &centroids[..dim]);
    let found: Vec<Vec<(f32, u32)>> = centroids
        .par_chunks(PANEL * dim)
        .enumerate()
        .flat_map_iter(|(panel, rows)| {
            let mut queries = PackedQueries::default();
            queries.load(rows.chunks_exact(dim), &centroids[..dim]);
            k_nearest(&queries, &table, k + 4).into_iter().enumerate().map(move |(i, found)| {
                let own = (panel * PANEL + i) as u32;
                let row = &rows[i * dim..][..dim];
                let mut near: Vec<(f32, u32)> = found
                    .into_iter()
                    .filter(|&(_, other)| other != own)
                    .map(|(_, other)| (squared_distance(row, &centroids[other as usize * dim..][..dim]).sqrt(), other))
                    .collect();
                near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                near.truncate(k);
                near
            })
        })
        .collect();
    drop(table);
    progress.check()?;

    let count = found.iter().map(Vec::len).sum::<usize>() + n;
    let mean = found.iter().flatten().map(|&(d, _)| f64::from(d)).sum::<f64>() / count as f64;
    // Lists every edge in both directions, then combines the two edges of each pair.
    let mut edges: Vec<(u32, u32, f32, f32)> = Vec::with_capacity(2 * count);
    let (mut distances, mut weights) = (Vec::new(), Vec::new());
    for (from, near) in found.iter().enumerate() {
        distances.clear();
        distances.extend(near.iter().map(|&(d, _)| d));
        weights.clear();
        weights.resize(near.len(), 0.0);
        calibrate::calibrate(&distances, calibrate::target(k + 1), mean, &mut weights);
        for (&(_, to), &weight) in near.iter().zip(&weights) {
            edges.push((from as u32, to, weight, 0.0));
            edges.push((to, from as u32, 0.0, weight));
        }
    }
    edges.sort_unstable_by_key(|&(from, to, ..)| (from, to));
    let mut block = EdgeBlock { first_row: 0, offsets: vec![0], neighbors: Vec::new(), weights: Vec::new() };
    let mut max_weight = 0f32;
    let mut at = edges.as_slice();
    for row in 0..n as u32 {
        while let Some(&(_, to, ..)) = at.first().filter(|e| e.0 == row) {
            let same = at.iter().take_while(|e| e.0 == row && e.1 == to).count();
            let (there, back) = at[..same].iter().fold((0f32, 0f32), |(a, b), e| (a.max(e.2), b.max(e.3)));
            let weight = fuzzy_union(there, back);
            max_weight = max_weight.max(weight);
            if weight > 0.0 {
                block.neighbors.push(to);
                block.weights.push(weight);
            }
            at = &at[same..];
        }
        block.offsets.push(block.neighbors.len() as u32);
    }

    let width = plan.settings.n_components;
    // A start need not be exact, and the decomposition of a wide covariance matrix takes minutes, during which
    // the run could not be stopped.
    let pca = pca::of_rows(centroids, dim, width.min(dim), MAX_COVARIANCE_COMPONENTS);
    let pca = pca.map_err(|e| Error::Config { field: "n_components", why: e.to_string() })?;
    let mut start = vec![0f32; n * width];
    super::pca_scores(&pca, centroids, width, &mut start);
    scale_to_extent(&mut start);
    // The small map is UMAP's for every method: the centroids are few, and only determine first positions.
    let config = &plan.settings;
    let options = layout::LayoutOptions {
        n_components: width,
        epochs: EPOCHS,
        curve: curve::fit(config.min_dist, config.spread),
        learning_rate: Some(1.0),
        negatives: config.negative_sample_rate,
        max_weight,
        seed: config.seed,
        ..layout::LayoutOptions::for_method(&layout::umap::UmapKernel, Method::UMAP, n as u32)
    };
    let quiet = progress.part_progress();
    let edges = layout::LayoutEdges::in_memory(&block, &options);
    drop(block);
    layout::run(&options, &edges, layout::LayoutStart::Positions(&start), &mut (), &quiet)
}

/// Returns the memory held in addition to the positions and the centroids.
pub(super) fn memory_parts(plan: &Plan) -> Vec<(&'static str, u64)> {
    let (n, dim) = (plan.index.lists as u64, plan.shape.dim as u64);
    let components = if plan.shape.dim > MAX_COVARIANCE_COMPONENTS {
        BlockwisePca::bytes(plan.shape.dim, plan.settings.n_components)
    } else {
        Covariance::bytes(plan.shape.dim)
    };
    // The packed centroids are freed before the principal components are computed.
    let packed = n * (dim + 1) * 4;
    vec![
        ("the centroids' own graph", n * plan.k() as u64 * (16 + 2 * 16 + 16)),
        ("centroids packed, or their components", packed.max(components)),
        ("orders of lists", plan.threads as u64 * n * 24),
    ]
}
