//! The base of a model: the files of a finished run become objects.
//!
//! A run numbers its rows in list order, and the places of a model's base are the same numbers, so that vectors, graph
//! and positions are copied in order. Ids, keys and kept columns come from the source, which has another order: a table of 4 bytes
//! for each row leads from one order to the other.
//!
//! What must hold: objects depend only on the run and the source, not on memory or threads; a stop leaves objects that no
//! version names, which a later collection removes.

mod by_place;
mod kept;
mod size;
mod vectors;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::DataType;
use lowland_engine::index::{self, InvertedLists};
use lowland_engine::neighbors::{KnnGraph, TruthSample};
use lowland_engine::positions::{POSITIONS, Positions};
use lowland_engine::{Config, Plan, Progress};
use lowland_io::{Loader, LoaderOptions, Shift, Source};

use by_place::columns_by_place;
pub use size::base_bytes;
pub(crate) use vectors::narrow;

use crate::diff::{IdKind, KeyFault, KeySorter, RowKey, SortedKeys, each_key, row_hash};
use crate::measure::{Moved, PairSums, Similarity, kept_neighbors, moved};
use crate::place::reach;
use crate::search::{SearchEffort, effort};
use crate::snapshot::{
    AddedWriter, GraphWriter, IdsWriter, Key, KeysWriter, ListsWriter, PositionsWriter, QuantizerWriter, SampleRow,
    SampleWriter, Snapshot, role,
};
use crate::store::{Action, Counts, ModelLock, ObjectRef, Version};
use crate::{Error, ModelOptions, Result};

/// Rows whose neighbours, positions or ids are written at a time.
const ROWS: usize = 8192;
/// The largest number of rows by which the movement of a map is measured.
const MOVED_ROWS: u64 = 1 << 20;
/// The number of rows whose neighbours in two maps are compared, and the number of neighbours.
const KEPT_ROWS: usize = 500;
const KEPT_NEIGHBORS: usize = 15;
/// A new map that moves more than 5 % of the rows farther than this share of the radius, or in which rows keep fewer of
/// their neighbours, does not take the place of the earlier map: people know where its rows are.
const MOST_MOVED: f64 = 0.05;
const LEAST_KEPT: f64 = 0.6;

/// A finished run.
pub struct FittedRun<'a> {
    /// The run directory, with the files of the stages index, neighbors and layout.
    pub dir: &'a Path,
    /// The options that the user gave.
    pub config: &'a Config,
    /// The run's plan.
    pub plan: &'a Plan,
    /// Mean distance to a neighbour in the run's graph.
    pub mean_distance: f64,
    /// The rows as the run read them.
    pub source: &'a Arc<dyn Source>,
    /// The column of the ids. `None`: rows are named by their number in the source.
    pub id: Option<&'a str>,
    /// The columns that the model keeps.
    pub kept: &'a [String],
    /// What the run subtracted from the source's numbers.
    pub shift: Option<&'a Shift>,
    /// A directory for temporary files.
    pub scratch: &'a Path,
    /// The version on whose map the new map is laid by a similarity.
    pub earlier: Option<&'a Snapshot>,
}

/// The objects and facts of a new base.
pub struct StoredRun {
    /// The objects, by role.
    pub objects: BTreeMap<String, ObjectRef>,
    /// The options that the version keeps.
    pub options: ModelOptions,
    /// Number of rows.
    pub rows: u64,
    /// How far the rows of the earlier version moved, and the share of their neighbours in the map that they kept.
    pub moved: Option<(Moved, f64)>,
    /// Whether the rows have their earlier positions, because the new map would have moved them too far.
    pub held: bool,
}

impl StoredRun {
    /// Returns the record of a version with these objects.
    pub fn version(&self, action: Action, run_id: &str) -> Version {
        let counts = Counts { rows: self.rows, added: self.rows, ..Counts::default() };
        Version {
            run_id: Some(run_id.into()),
            counts,
            objects: self.objects.clone(),
            options: self.options.to_value(),
            ..Version::new(action)
        }
    }
}

/// Writes the objects of a run.
///
/// # Errors
/// Files that cannot be read or written; ids that are null or of a type that cannot name rows; repeated ids.
pub fn store(lock: &ModelLock<'_>, run: &FittedRun<'_>, progress: &Progress<'_>) -> Result<StoredRun> {
    let settings = run.plan.settings();
    let lists = index::open(run.dir)?;
    let rows = lists.table.rows();
    let graph = KnnGraph::open(run.dir, u64::from(rows))?;
    let mut objects = BTreeMap::new();

    let quantizer = QuantizerWriter::create(lock, lists.table.dim, lists.table.count())?;
    objects.insert(role::QUANTIZER.into(), quantizer.finish(&lists.table.centroids)?);
    objects.insert(role::LISTS.into(), ListsWriter::create(lock)?.finish(&lists.table.starts)?);
    objects.insert(role::VECTORS.into(), vectors::write(lock, &lists, run.source.dtype(), progress)?);
    objects.insert(role::GRAPH.into(), write_graph(lock, &graph, progress)?);
    objects.insert(role::SAMPLE.into(), write_sample(lock, run.dir)?);

    // The place of each row of the source.
    let mut places = vec![0u32; rows as usize];
    for list in 0..lists.table.count() {
        for (place, row) in lists.table.range(list).zip(lists.source_rows(list)) {
            if let Some(at) = places.get_mut(row as usize) {
                *at = place;
            }
        }
    }
    let (kind, ids) = write_ids(lock, run, &lists, &places, progress)?;
    objects.insert(role::IDS.into(), ids);
    if !run.kept.is_empty() {
        objects.insert(role::KEPT.into(), kept::write(lock, run, &places, progress)?);
    }
    let sorted = sorted_keys(run, &places, progress)?;
    drop(places);
    let (keys, pairs) = write_keys(lock, sorted, run.earlier, rows)?;
    objects.insert(role::KEYS.into(), keys);

    if let Some(earlier) = run.earlier {
        objects.insert(role::ADDED.into(), write_added(lock, &pairs, earlier, rows)?);
    }
    let positions = Positions::open(&run.dir.join(POSITIONS), u64::from(rows), settings.n_components)?;
    let similarity = register(&pairs, run.earlier, positions.values()?, settings.n_components);
    let mut moved = movement(&pairs, run.earlier, positions.values()?, similarity.as_ref(), settings.n_components);
    let too_far = moved.is_some_and(|(moved, kept)| moved.p95 > MOST_MOVED || kept < LEAST_KEPT);
    let held = run.earlier.filter(|_| too_far && pairs.len() == rows as usize);
    let written = match held {
        Some(earlier) => {
            moved = Some((Moved { p50: 0.0, p95: 0.0, max: 0.0 }, 1.0));
            write_held(lock, &pairs, earlier, settings.n_components)?
        }
        None => write_positions(lock, &positions, similarity.as_ref(), run)?,
    };
    objects.insert(role::POSITIONS.into(), written);
    drop(pairs);

    let mut options = ModelOptions {
        config: run.config.clone(),
        settings: settings.clone(),
        epochs: run.plan.layout().epochs,
        n_neighbors: graph.k(),
        mean_distance: run.mean_distance,
        column: run.source.vector_column(),
        id: run.id.map(str::to_string),
        id_kind: kind,
        kept: run.kept.to_vec(),
        shift: run.shift.cloned(),
        dtype: run.source.dtype(),
        effort: SearchEffort { first: 1, graph: 0 },
        effort_recall: 1.0,
        reach: 0.0,
    };
    let counts = Counts { rows: u64::from(rows), ..Counts::default() };
    let draft = Version { counts, objects: objects.clone(), options: options.to_value(), ..Version::new(Action::Fit) };
    let snapshot = Snapshot::open(lock.model(), &draft)?;
    (options.effort, options.effort_recall) =
        effort(&snapshot, settings.metric, settings.recall, &|| progress.check().is_err())?;
    options.reach = reach(&snapshot, settings.metric, &|| progress.check().is_err())?;
    progress.check()?;
    Ok(StoredRun { objects, options, rows: u64::from(rows), moved, held: held.is_some() })
}

/// Writes the neighbours and distances of all rows, in order: no vector is read, since the vectors may be larger than
/// memory.
fn write_graph(lock: &ModelLock<'_>, graph: &KnnGraph, progress: &Progress<'_>) -> Result<ObjectRef> {
    let (rows, k) = (graph.rows(), graph.k());
    let mut writer = GraphWriter::create(lock, role::GRAPH, k, k)?;
    let (mut near, mut distances) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(ROWS) {
        let portion = first..rows.min(first + ROWS as u32);
        near.clear();
        distances.clear();
        for row in portion.clone() {
            near.extend(graph.neighbors(row));
            distances.extend_from_slice(graph.distances(row)?);
        }
        writer.push(&near, &distances)?;
        progress.advance(portion.len() as u64)?;
    }
    writer.finish()
}

fn write_sample(lock: &ModelLock<'_>, dir: &Path) -> Result<ObjectRef> {
    let truth = TruthSample::read(dir)?;
    let mut writer = SampleWriter::create(lock)?;
    for (&place, neighbors) in truth.rows.iter().zip(truth.neighbors) {
        writer.push(&SampleRow { place, neighbors })?;
    }
    writer.finish()
}

/// Writes the ids by place, and returns their kind.
fn write_ids(
    lock: &ModelLock<'_>,
    run: &FittedRun<'_>,
    lists: &InvertedLists,
    places: &[u32],
    progress: &Progress<'_>,
) -> Result<(IdKind, ObjectRef)> {
    let Some(id) = run.id else {
        let mut writer = IdsWriter::create(lock, role::IDS, &DataType::UInt64)?;
        for list in 0..lists.table.count() {
            let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(lists.source_rows(list)));
            writer.push(&numbers)?;
        }
        return Ok((IdKind::Integers, writer.finish()?));
    };
    let schema = run.source.column_schema(&[id.to_string()])?;
    let data_type = schema.field(0).data_type().clone();
    let kind = id_kind(id, &data_type)?;
    let mut writer = IdsWriter::create(lock, role::IDS, &data_type)?;
    let memory = run.plan.settings().memory / 4;
    let id = [id.to_string()];
    columns_by_place(run.source.as_ref(), &id, places, memory, progress, &mut |ids| writer.push(ids.column(0)))?;
    Ok((kind, writer.finish()?))
}

/// Returns the kind of ids of a column.
///
/// # Errors
/// If values of its type cannot name rows.
pub fn id_kind(id: &str, data_type: &DataType) -> Result<IdKind> {
    IdKind::of(data_type).ok_or_else(|| Error::IdType { column: id.into(), data_type: data_type.clone() })
}

/// Returns the keys of all rows of the source with their places, sorted by key.
fn sorted_keys(run: &FittedRun<'_>, places: &[u32], progress: &Progress<'_>) -> Result<SortedKeys> {
    let memory = run.plan.settings().memory / 4;
    let mut sorter = KeySorter::new(run.scratch, "keys", memory, places.len() as u64);
    read_keys(run.source, run.id, run.plan.batch_rows(), progress, &mut |row, key, hash| {
        let place = places.get(row as usize).copied().unwrap_or(u32::MAX);
        sorter.push(RowKey { key, row: u64::from(place), hash })
    })?;
    sorter.finish()
}

/// Calls `each(row, key, hash)` for each row of a source, in order: the key of its id, or of its number if no column of
/// ids is given, and the hash of its vector.
///
/// # Errors
/// Rows that cannot be read, ids that are null, and errors of `each`.
pub fn read_keys(
    source: &Arc<dyn Source>,
    id: Option<&str>,
    batch_rows: usize,
    progress: &Progress<'_>,
    each: &mut dyn FnMut(u64, u128, u64) -> Result<()>,
) -> Result<()> {
    let dim = source.shape().dim;
    let options = LoaderOptions { batch_rows: Some(batch_rows), ..LoaderOptions::default() };
    let mut keys = Vec::new();
    for batch in &Loader::new(source.clone(), options) {
        let batch = batch?;
        keys.clear();
        let ids: ArrayRef = match id {
            Some(id) => source.read_columns(&[id.to_string()], batch.first, batch.rows())?.column(0).clone(),
            None => Arc::new(UInt64Array::from_iter_values(batch.first..batch.first + batch.rows() as u64)),
        };
        each_key(&ids, |_, key| keys.push(key)).map_err(|fault| key_error(source.as_ref(), id, batch.first, fault))?;
        for ((row, &key), vector) in (batch.first..).zip(&keys).zip(batch.values().chunks_exact(dim)) {
            each(row, key, row_hash(vector))?;
        }
        progress.advance(batch.rows() as u64)?;
    }
    source.release();
    Ok(())
}

/// Returns the error of an id in a batch that begins at row `first`.
pub(crate) fn key_error(source: &dyn Source, id: Option<&str>, first: u64, fault: KeyFault) -> Error {
    let column = id.unwrap_or("row numbers").to_string();
    match fault {
        KeyFault::Null(at) => {
            let place = source.locate(first + at as u64);
            lowland_io::Error::Null { path: place.path, row: place.row, column }.into()
        }
        KeyFault::Type(data_type) => Error::IdType { column, data_type },
    }
}

/// The places of rows in a new base and in an earlier version, in the order of keys.
type Pairs = Vec<[u32; 2]>;

/// Writes the keys, and returns the rows that the earlier version has as well.
fn write_keys(
    lock: &ModelLock<'_>,
    mut sorted: SortedKeys,
    earlier: Option<&Snapshot>,
    rows: u32,
) -> Result<(ObjectRef, Pairs)> {
    let mut writer = KeysWriter::create(lock, role::KEYS)?;
    let mut before = earlier.map(|earlier| earlier.keys().peekable());
    let mut pairs = Vec::new();
    let mut last: Option<RowKey> = None;
    let (mut repeats, mut count) = (Vec::new(), 0);
    while let Some(row) = sorted.next_key()? {
        if let Some(other) = last.filter(|other| other.key == row.key) {
            count += 1;
            if repeats.len() < 10 {
                repeats.push([other.row, row.row]);
            }
            continue;
        }
        last = Some(row);
        writer.push(&Key { key: row.key, hash: row.hash, place: row.row as u32 })?;
        if let Some(before) = &mut before {
            while before.next_if(|known| known.key < row.key).is_some() {}
            let known = before.next_if(|known| known.key == row.key);
            // A row with another vector is expected to move.
            if let Some(known) = known.filter(|known| known.hash == row.hash) {
                pairs.push([row.row as u32, known.place]);
            }
        }
    }
    if count > 0 {
        return Err(Error::RepeatedIds { rows: repeats, count });
    }
    debug_assert!(pairs.len() <= rows as usize);
    Ok((writer.finish()?, pairs))
}

/// Writes the versions in which the rows were added: those of the earlier version keep theirs. Holds 4 bytes for each row.
fn write_added(lock: &ModelLock<'_>, pairs: &Pairs, earlier: &Snapshot, rows: u32) -> Result<ObjectRef> {
    let number = lock.next_number()?;
    let mut added = vec![u32::MAX; rows as usize];
    for &[new, old] in pairs {
        added[new as usize] = u32::try_from(earlier.added_in(old)).unwrap_or(u32::MAX);
    }
    let mut writer = AddedWriter::create(lock)?;
    for version in added {
        writer.push(if version == u32::MAX { number } else { u64::from(version) })?;
    }
    writer.finish()
}

/// Returns the similarity that lays the new positions on those of the earlier version.
fn register(pairs: &Pairs, earlier: Option<&Snapshot>, positions: &[f32], components: usize) -> Option<Similarity> {
    let earlier = earlier?;
    let mut sums = PairSums::new(components);
    for &[new, old] in pairs {
        sums.add(&positions[new as usize * components..][..components], earlier.position(old));
    }
    Some(sums.similarity())
}

/// Measures the movement of rows of the earlier version.
fn movement(
    pairs: &Pairs,
    earlier: Option<&Snapshot>,
    positions: &[f32],
    similarity: Option<&Similarity>,
    components: usize,
) -> Option<(Moved, f64)> {
    let (earlier, similarity) = (earlier?, similarity?);
    let step = (pairs.len() as u64).div_ceil(MOVED_ROWS).max(1) as usize;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for &[new, old] in pairs.iter().step_by(step) {
        before.extend_from_slice(earlier.position(old));
        let start = after.len();
        after.extend_from_slice(&positions[new as usize * components..][..components]);
        similarity.apply(&mut after[start..]);
    }
    let rows = before.len() / components;
    let sampled: Vec<usize> = (0..rows).step_by((rows / KEPT_ROWS).max(1)).collect();
    let kept = kept_neighbors(&before, &after, components, &sampled, KEPT_NEIGHBORS);
    Some((moved(&before, &after, components), kept))
}

/// Writes the positions that the rows have in the earlier version.
fn write_held(lock: &ModelLock<'_>, pairs: &Pairs, earlier: &Snapshot, components: usize) -> Result<ObjectRef> {
    let mut places = vec![0u32; pairs.len()];
    for &[new, old] in pairs {
        places[new as usize] = old;
    }
    let mut writer = PositionsWriter::create(lock, role::POSITIONS, components)?;
    for portion in places.chunks(ROWS) {
        let positions: Vec<f32> = portion.iter().flat_map(|&place| earlier.position(place).iter().copied()).collect();
        writer.push(&positions)?;
    }
    writer.finish()
}

fn write_positions(
    lock: &ModelLock<'_>,
    positions: &Positions,
    similarity: Option<&Similarity>,
    run: &FittedRun<'_>,
) -> Result<ObjectRef> {
    let components = run.plan.settings().n_components;
    let mut writer = PositionsWriter::create(lock, role::POSITIONS, components)?;
    let mut portion = Vec::new();
    for values in positions.values()?.chunks(ROWS * components) {
        portion.clear();
        portion.extend_from_slice(values);
        if let Some(similarity) = similarity {
            portion.chunks_exact_mut(components).for_each(|position| similarity.apply(position));
        }
        writer.push(&portion)?;
    }
    writer.finish()
}
