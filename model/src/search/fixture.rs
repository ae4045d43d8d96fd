//! Small snapshots for tests: rows in lists by given centroids, with their exact graph.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::DataType;
use lowland_engine::distances::squared_distance;
use lowland_engine::neighbors::MISSING;
use lowland_engine::random::draw;
use tempfile::TempDir;

use crate::snapshot::*;
use crate::store::{Action, ModelDir, Version};

/// What a snapshot is made of.
pub(crate) struct Rows {
    pub(crate) dim: usize,
    pub(crate) lists: usize,
    /// Number of stored neighbours.
    pub(crate) k: usize,
    pub(crate) base: Vec<f32>,
    pub(crate) delta: Vec<f32>,
    pub(crate) dead: Vec<u32>,
    pub(crate) components: usize,
}

impl Default for Rows {
    fn default() -> Self {
        let (base, delta) = (clustered(400, 5, 1), clustered(30, 5, 2));
        Rows { dim: 5, lists: 12, k: 8, base, delta, dead: vec![3, 17, 200, 405], components: 2 }
    }
}

/// A snapshot in a temporary directory.
pub(crate) struct Fixture {
    _dir: TempDir,
    pub(crate) snapshot: Snapshot,
    pub(crate) dim: usize,
    /// Vectors by place.
    pub(crate) vectors: Vec<f32>,
}

/// A number in [0, 1).
pub(crate) fn unit(stream: u64, counter: u64) -> f32 {
    (draw(7, stream, counter) >> 40) as f32 / (1u32 << 24) as f32
}

/// Rows around ten centres.
pub(crate) fn clustered(rows: usize, dim: usize, stream: u64) -> Vec<f32> {
    let value = |i: usize, d: usize| {
        let center = draw(3, stream, i as u64) % 10;
        8.0 * unit(99, center * 64 + d as u64) + unit(stream + 50, (i * dim + d) as u64)
    };
    (0..rows).flat_map(|i| (0..dim).map(move |d| value(i, d))).collect()
}

impl Rows {
    pub(crate) fn build(&self) -> Fixture {
        let dim = self.dim;
        let base: Vec<&[f32]> = self.base.chunks_exact(dim).collect();
        let centroids: Vec<f32> =
            (0..self.lists).flat_map(|list| base[list * base.len() / self.lists].to_vec()).collect();
        let list_of = |vector: &[f32]| {
            let near = centroids.chunks_exact(dim).map(|centroid| squared_distance(vector, centroid)).enumerate();
            near.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(list, _)| list as u32)
        };
        let mut order: Vec<(u32, usize)> = base.iter().enumerate().map(|(i, row)| (list_of(row), i)).collect();
        order.sort_unstable();
        let mut vectors: Vec<f32> = order.iter().flat_map(|&(_, row)| base[row].to_vec()).collect();
        let starts: Vec<u32> =
            (0..=self.lists as u32).map(|list| order.partition_point(|&(of, _)| of < list) as u32).collect();
        let delta_lists: Vec<u32> = self.delta.chunks_exact(dim).map(list_of).collect();
        vectors.extend(&self.delta);

        let dir = tempfile::tempdir().expect("a directory");
        let model = ModelDir::create(&dir.path().join("map.lowland")).expect("a model");
        let lock = model.lock(false, &mut || false).expect("a lock");
        let mut version = Version::new(Action::Fit);
        let mut put = |role: &str, object| version.objects.insert(role.to_string(), object);
        put(role::QUANTIZER, QuantizerWriter::create(&lock, dim, self.lists).unwrap().finish(&centroids).unwrap());
        put(role::LISTS, ListsWriter::create(&lock).unwrap().finish(&starts).unwrap());
        let count = vectors.len() / dim;
        let parts = [
            (0..base.len(), role::VECTORS, role::GRAPH, role::POSITIONS, role::IDS, role::KEYS),
            (
                base.len()..count,
                role::DELTA_VECTORS,
                role::DELTA_GRAPH,
                role::DELTA_POSITIONS,
                role::DELTA_IDS,
                role::DELTA_KEYS,
            ),
        ];
        for (rows, of_vectors, of_graph, of_positions, of_ids, of_keys) in parts {
            if rows.is_empty() {
                continue;
            }
            let mut writer = VectorsWriter::create(&lock, of_vectors, Element::F32, dim).unwrap();
            writer.push(&vectors[rows.start * dim..rows.end * dim]).unwrap();
            put(of_vectors, writer.finish().unwrap());
            let mut writer = GraphWriter::create(&lock, of_graph, self.k, self.k).unwrap();
            for row in rows.clone() {
                let (places, distances) = padded(&vectors, dim, row, self.k);
                writer.push(&places, &distances).unwrap();
            }
            put(of_graph, writer.finish().unwrap());
            let mut writer = PositionsWriter::create(&lock, of_positions, self.components).unwrap();
            for vector in vectors[rows.start * dim..rows.end * dim].chunks_exact(dim) {
                let position: Vec<f32> = (0..self.components).map(|d| vector[d % dim] * 1.5).collect();
                writer.push(&position).unwrap();
            }
            put(of_positions, writer.finish().unwrap());
            let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(rows.clone().map(|row| row as u64)));
            let mut writer = IdsWriter::create(&lock, of_ids, &DataType::UInt64).unwrap();
            writer.push(&ids).unwrap();
            put(of_ids, writer.finish().unwrap());
            let mut writer = KeysWriter::create(&lock, of_keys).unwrap();
            for row in rows {
                writer.push(&Key { key: row as u128, hash: 0, place: row as u32 }).unwrap();
            }
            put(of_keys, writer.finish().unwrap());
        }
        if !delta_lists.is_empty() {
            let writer = DeltaListsWriter::create(&lock, base.len() as u32).unwrap();
            put(role::DELTA_LISTS, writer.finish(&delta_lists, self.lists as u32).unwrap());
            let mut writer = AddedWriter::create(&lock).unwrap();
            delta_lists.iter().for_each(|_| writer.push(1).unwrap());
            put(role::DELTA_ADDED, writer.finish().unwrap());
        }
        if !self.dead.is_empty() {
            put(role::TOMBSTONES, TombstonesWriter::create(&lock).unwrap().finish(&self.dead).unwrap());
        }
        let mut writer = SampleWriter::create(&lock).unwrap();
        for row in (0..count).step_by(7) {
            let neighbors = nearest(&vectors, dim, &vectors[row * dim..][..dim], self.k, |place| place as usize != row);
            writer.push(&SampleRow { place: row as u32, neighbors }).unwrap();
        }
        put(role::SAMPLE, writer.finish().unwrap());
        let snapshot = Snapshot::open(&model, &version).expect("a snapshot");
        drop(lock);
        Fixture { _dir: dir, snapshot, dim, vectors }
    }
}

/// The stored neighbours of a row.
fn padded(vectors: &[f32], dim: usize, row: usize, k: usize) -> (Vec<u32>, Vec<f32>) {
    let near = nearest(vectors, dim, &vectors[row * dim..][..dim], k, |place| place as usize != row);
    let (mut distances, mut places): (Vec<f32>, Vec<u32>) =
        near.into_iter().map(|(squared, place)| (squared.sqrt(), place)).unzip();
    places.resize(k, MISSING);
    distances.resize(k, f32::INFINITY);
    (places, distances)
}

/// The `k` nearest of the rows that `keep`, as (squared distance, place), by comparing all.
pub(crate) fn nearest(
    vectors: &[f32],
    dim: usize,
    query: &[f32],
    k: usize,
    keep: impl Fn(u32) -> bool,
) -> Vec<(f32, u32)> {
    let mut all: Vec<(f32, u32)> = vectors
        .chunks_exact(dim)
        .zip(0u32..)
        .filter(|&(_, place)| keep(place))
        .map(|(row, place)| (squared_distance(query, row), place))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.truncate(k);
    all
}
