//! umap-rs on a given graph and given first positions: `umap-rs WORK MAP.npy EPOCHS`.
//!
//! Only the epochs are measured. They are called one by one, as its README does
//! to save states between them, and not all at once as its `fit` does: a call
//! reads the other end of an edge from a copy of the positions made as it begins.

use lowland_versus::{Stopwatch, arguments, read};
use ndarray::{Array2, Ix2};
use umap_rs::{EuclideanMetric, GraphParams, Metric, Optimizer, Umap, UmapConfig};

fn main() {
    let (work, map, rest) = arguments();
    let epochs: usize = rest[0].parse().expect("a number of epochs");
    let indices = read::<u32, Ix2>(&work, "knn_indices.npy");
    let distances = read::<f32, Ix2>(&work, "knn_distances.npy");
    let init = read::<f32, Ix2>(&work, "init.npy");

    let graph = GraphParams { n_neighbors: indices.ncols(), ..Default::default() };
    let config = UmapConfig { graph, ..Default::default() };
    // Of the data it asks only how many rows there are.
    let data = Array2::<f32>::zeros((indices.nrows(), 1));
    let manifold = Umap::new(config.clone()).learn_manifold(data.view(), indices.view(), distances.view());
    let metric = EuclideanMetric;
    let mut optimizer = Optimizer::new(manifold, init, epochs, &config, metric.metric_type());

    let watch = Stopwatch::start();
    for _ in 0..epochs {
        optimizer.step_epochs(1, &metric);
    }
    watch.print();

    ndarray_npy::write_npy(&map, &optimizer.embedding()).expect("the map is written");
}
