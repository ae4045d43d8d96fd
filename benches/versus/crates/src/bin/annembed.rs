//! annembed, from vectors to map: `annembed WORK MAP.npy`.
//!
//! The index and the embedding have the defaults of annembed's own program
//! `embed`. The copy of the vectors row by row is not measured.

use annembed::fromhnsw::kgraph::kgraph_from_hnsw_all;
use annembed::prelude::{Embedder, EmbedderParams};
use hnsw_rs::prelude::{DistL2, Hnsw};
use lowland_versus::{Stopwatch, arguments, read};
use ndarray::Ix2;

const CONNECTIONS: usize = 64;
const EF_CONSTRUCTION: usize = 512;
const NEIGHBORS: usize = 10;

fn main() {
    let (work, map, _) = arguments();
    let vectors: Vec<Vec<f32>> =
        read::<f32, Ix2>(&work, "vectors.npy").rows().into_iter().map(|row| row.to_vec()).collect();
    let layers = 16.min((vectors.len() as f32).ln() as usize);

    let watch = Stopwatch::start();
    let hnsw = Hnsw::<f32, DistL2>::new(CONNECTIONS, vectors.len(), layers, EF_CONSTRUCTION, DistL2 {});
    let with_ids: Vec<(&Vec<f32>, usize)> = vectors.iter().zip(0..).collect();
    hnsw.parallel_insert(&with_ids);
    let graph = kgraph_from_hnsw_all::<f32, DistL2, f32>(&hnsw, NEIGHBORS).expect("a graph");
    let mut embedder = Embedder::new(&graph, EmbedderParams::default());
    embedder.embed().expect("an embedding");
    watch.print();

    ndarray_npy::write_npy(&map, &embedder.get_embedded_reindexed()).expect("the map is written");
}
