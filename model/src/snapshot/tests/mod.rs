//! Small models whose every value is known, written and read back.

mod damage;
mod ids;
mod kept;
mod view;
mod writers;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use lowland_io::MISSING;
use proptest::prelude::*;

use super::*;
use crate::store::{Action, ModelDir, ModelLock, ObjectRef, Version};

/// What a model of the tests holds, in plain vectors.
#[derive(Debug, Clone)]
struct Plain {
    dim: usize,
    components: usize,
    k: usize,
    n_neighbors: usize,
    lists: usize,
    /// The list of each row of the base, ascending.
    base: Vec<u32>,
    /// The list of each row of the delta.
    delta: Vec<u32>,
    element: Element,
    dead: Vec<u32>,
    patched: Vec<u32>,
    moved: Vec<u32>,
    /// Whether the rows of the base have versions of their own.
    added: bool,
    /// Whether columns are kept.
    kept: bool,
}

impl Plain {
    fn places(&self) -> u32 {
        (self.base.len() + self.delta.len()) as u32
    }

    fn vector(&self, place: u32) -> Vec<f32> {
        (0..self.dim as u32).map(|i| ((place * 31 + i * 7) % 128) as f32).collect()
    }

    fn neighbors(&self, place: u32, seed: u32) -> (Vec<u32>, Vec<f32>) {
        // Fewer than k at some places.
        let count = self.k - (place as usize + seed as usize) % 2;
        let mut neighbors: Vec<u32> = (0..count as u32).map(|i| (place + seed + i) % self.places()).collect();
        let mut distances: Vec<f32> = (0..count).map(|i| i as f32 + seed as f32 / 8.0).collect();
        neighbors.resize(self.k, MISSING);
        distances.resize(self.k, f32::INFINITY);
        (neighbors, distances)
    }

    /// The first position of a place.
    fn first_position(&self, place: u32) -> Vec<f32> {
        (0..self.components).map(|i| place as f32 / 4.0 - i as f32).collect()
    }

    fn position(&self, place: u32) -> Vec<f32> {
        let by = if self.moved.contains(&place) { 100.0 } else { 0.0 };
        self.first_position(place).into_iter().map(|x| x + by).collect()
    }

    fn key(&self, place: u32) -> Key {
        // Some rows of the delta have the key of a row of the base.
        let id = if place as usize >= self.base.len() && place.is_multiple_of(3) { place / 2 } else { place * 5 };
        Key { key: u128::from(id ^ 0x55), hash: u64::from(place) << 40, place }
    }

    fn id(&self, place: u32) -> i32 {
        place as i32 * 3 - 50
    }

    /// The kept columns of rows: texts and lists, both with nulls.
    fn kept_of(&self, places: &[u32]) -> RecordBatch {
        let has = |place: u32, every: u32| !place.is_multiple_of(every);
        let texts: StringArray = places.iter().map(|&p| has(p, 3).then(|| format!("größe {p}"))).collect();
        let list = |p: u32| (0..p % 5).map(|i| has(i + p, 2).then_some((p + i) as i32)).collect::<Vec<_>>();
        let lists = places.iter().map(|&p| has(p, 7).then(|| list(p)));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
        let columns: [(&str, ArrayRef, bool); 2] = [("text", Arc::new(texts), true), ("list", Arc::new(lists), true)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn write_kept(&self, lock: &ModelLock<'_>, role: &str, places: std::ops::Range<u32>, portion: usize) -> ObjectRef {
        let schema = kept_schema(&self.kept_of(&[]).schema()).unwrap();
        let mut kept = KeptWriter::create(lock, role, &schema).unwrap();
        let all: Vec<u32> = places.collect();
        all.chunks(portion).for_each(|places| kept.push(&self.kept_of(places)).unwrap());
        kept.finish().unwrap()
    }

    fn added_in(&self, place: u32) -> u64 {
        match place.checked_sub(self.base.len() as u32) {
            Some(row) => u64::from(row) + 10,
            None if self.added => u64::from(place) % 5 + 1,
            None => 1,
        }
    }

    /// Writes the rows `places` under the roles, in portions of `portion` rows.
    fn write_rows(
        &self,
        lock: &ModelLock<'_>,
        places: std::ops::Range<u32>,
        roles: [&str; 5],
        portion: usize,
        put: &mut dyn FnMut(&str, ObjectRef),
    ) {
        let [vectors_role, graph_role, positions_role, ids_role, keys_role] = roles;
        let mut vectors = VectorsWriter::create(lock, vectors_role, self.element, self.dim).unwrap();
        let mut graph = GraphWriter::create(lock, graph_role, self.k, self.n_neighbors).unwrap();
        let mut positions = PositionsWriter::create(lock, positions_role, self.components).unwrap();
        let mut ids = IdsWriter::create(lock, ids_role, &DataType::Int32).unwrap();
        let all: Vec<u32> = places.clone().collect();
        for places in all.chunks(portion) {
            vectors.push(&places.iter().flat_map(|&place| self.vector(place)).collect::<Vec<_>>()).unwrap();
            let near: Vec<_> = places.iter().map(|&place| self.neighbors(place, 0)).collect();
            let neighbors: Vec<u32> = near.iter().flat_map(|near| near.0.clone()).collect();
            let distances: Vec<f32> = near.iter().flat_map(|near| near.1.clone()).collect();
            graph.push(&neighbors, &distances).unwrap();
            positions.push(&places.iter().flat_map(|&place| self.first_position(place)).collect::<Vec<_>>()).unwrap();
            let array: ArrayRef = Arc::new(Int32Array::from_iter_values(places.iter().map(|&place| self.id(place))));
            ids.push(&array).unwrap();
        }
        let mut sorted: Vec<Key> = places.map(|place| self.key(place)).collect();
        sorted.sort();
        let mut keys = KeysWriter::create(lock, keys_role).unwrap();
        sorted.iter().for_each(|key| keys.push(key).unwrap());
        put(vectors_role, vectors.finish().unwrap());
        put(graph_role, graph.finish().unwrap());
        put(positions_role, positions.finish().unwrap());
        put(ids_role, ids.finish().unwrap());
        put(keys_role, keys.finish().unwrap());
    }

    /// Writes the model into the directory of `lock`, in portions of `portion` rows, and returns a draft.
    fn write(&self, lock: &ModelLock<'_>, portion: usize) -> Version {
        let base = self.base.len() as u32;
        let mut version = Version::new(Action::Fit);
        let mut put = |role: &str, object| {
            version.objects.insert(role.into(), object);
        };
        let centroids: Vec<f32> = (0..self.lists * self.dim).map(|i| i as f32).collect();
        put(role::QUANTIZER, QuantizerWriter::create(lock, self.dim, self.lists).unwrap().finish(&centroids).unwrap());
        let starts: Vec<u32> =
            (0..=self.lists as u32).map(|list| self.base.partition_point(|&of| of < list) as u32).collect();
        put(role::LISTS, ListsWriter::create(lock).unwrap().finish(&starts).unwrap());
        let roles = [role::VECTORS, role::GRAPH, role::POSITIONS, role::IDS, role::KEYS];
        self.write_rows(lock, 0..base, roles, portion, &mut put);
        if self.added {
            let mut added = AddedWriter::create(lock).unwrap();
            (0..base).for_each(|place| added.push(self.added_in(place)).unwrap());
            put(role::ADDED, added.finish().unwrap());
        }
        if self.kept {
            put(role::KEPT, self.write_kept(lock, role::KEPT, 0..base, portion));
        }
        let mut sample = SampleWriter::create(lock).unwrap();
        for place in (0..base).step_by(3) {
            sample.push(&self.sample_row(place)).unwrap();
        }
        put(role::SAMPLE, sample.finish().unwrap());
        if !self.delta.is_empty() {
            let roles =
                [role::DELTA_VECTORS, role::DELTA_GRAPH, role::DELTA_POSITIONS, role::DELTA_IDS, role::DELTA_KEYS];
            self.write_rows(lock, base..self.places(), roles, portion, &mut put);
            let lists = DeltaListsWriter::create(lock, base).unwrap();
            put(role::DELTA_LISTS, lists.finish(&self.delta, self.lists as u32).unwrap());
            let mut added = AddedWriter::create(lock).unwrap();
            (base..self.places()).for_each(|place| added.push(self.added_in(place)).unwrap());
            put(role::DELTA_ADDED, added.finish().unwrap());
            if self.kept {
                put(role::DELTA_KEPT, self.write_kept(lock, role::DELTA_KEPT, base..self.places(), portion));
            }
        }
        if !self.dead.is_empty() {
            put(role::TOMBSTONES, TombstonesWriter::create(lock).unwrap().finish(&self.dead).unwrap());
        }
        if !self.patched.is_empty() {
            let mut patch = PatchWriter::create(lock, self.k).unwrap();
            for &place in &self.patched {
                let (neighbors, distances) = self.neighbors(place, 3);
                patch.push(place, &neighbors, &distances).unwrap();
            }
            put(role::PATCH, patch.finish().unwrap());
        }
        if !self.moved.is_empty() {
            let mut moved = MovedWriter::create(lock, self.components).unwrap();
            self.moved.iter().for_each(|&place| moved.push(place, &self.position(place)).unwrap());
            put(role::MOVED, moved.finish().unwrap());
        }
        version
    }

    fn sample_row(&self, place: u32) -> SampleRow {
        let near = (0..place % 4).map(|i| (i as f32 / 2.0, (place + i) % self.places()));
        SampleRow { place, neighbors: near.collect() }
    }
}

/// Models of up to 90 rows in the base and 40 in the delta.
fn plain() -> impl Strategy<Value = Plain> {
    let sizes = (1usize..6, 1usize..4, 2usize..5, 1usize..7, 0usize..4, any::<[bool; 2]>(), 1usize..5);
    sizes.prop_flat_map(|(dim, components, k, lists, element, [added, kept], n)| {
        let list = 0..lists as u32;
        let rows = (prop::collection::vec(list.clone(), 0..90), prop::collection::vec(list, 0..40));
        let marked = || prop::collection::btree_set(0u32..130, 0..60);
        let marks = (marked(), marked(), marked());
        (rows, marks).prop_map(move |((mut base, delta), (dead, patched, moved))| {
            base.sort_unstable();
            let places = (base.len() + delta.len()) as u32;
            let within = |set: std::collections::BTreeSet<u32>| set.into_iter().filter(|&p| p < places).collect();
            let element = [Element::U8, Element::I8, Element::F16, Element::F32][element];
            let (dead, patched, moved) = (within(dead), within(patched), within(moved));
            let n_neighbors = n.min(k);
            Plain { dim, components, k, n_neighbors, lists, base, delta, element, dead, patched, moved, added, kept }
        })
    })
}

/// A model with rows of every kind.
fn example() -> Plain {
    Plain {
        dim: 3,
        components: 2,
        k: 3,
        n_neighbors: 2,
        lists: 4,
        base: vec![0, 0, 0, 1, 1, 3, 3],
        delta: vec![2, 0, 2],
        element: Element::F16,
        dead: vec![1, 8],
        patched: vec![0, 6, 9],
        moved: vec![0, 3, 5],
        added: true,
        kept: true,
    }
}

fn on_disk(plain: &Plain) -> (tempfile::TempDir, ModelDir, Version) {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let version = plain.write(&model.lock(false, &mut || false).unwrap(), 7);
    (dir, model, version)
}
