//! The delta of a version: rows that were added since the base, those of earlier updates and the new ones.
//!
//! Earlier rows are copied as they are, and new rows follow in the order of the table. The memory grows with the new rows:
//! [`ROW_BYTES`] for each.

use std::collections::BTreeMap;

use arrow::array::{Array as _, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};
use lowland_engine::invalid::FlawSummary;
use lowland_io::{Loader, LoaderOptions};

use super::{Update, too_many};
use crate::Result;
use crate::diff::{each_key, row_hash};
use crate::fit::{key_error, narrow};
use crate::search::Searcher;
use crate::snapshot::{AddedWriter, DeltaListsWriter, Element, IdsWriter, Key, KeysWriter, VectorsWriter, role};
use crate::store::ObjectRef;

/// Rows that are copied at a time.
const ROWS: u32 = 4096;
/// The most new rows that are read at a time.
const READ_ROWS: usize = 8192;
/// Bytes of memory for a new row: its hash, key and list.
pub(super) const ROW_BYTES: u64 = 8 + 32 + 4;

/// The new rows of an update.
pub(super) struct NewRows {
    /// The place of the first new row.
    pub(super) first: u32,
    /// The hashes of their vectors, in order.
    pub(super) hashes: Vec<u64>,
}

/// Writes the delta: vectors, lists, ids, keys and versions of all rows that the base does not have. Positions and
/// neighbours are missing until the rows are placed.
pub(super) fn write(update: &Update<'_>, objects: &mut BTreeMap<String, ObjectRef>) -> Result<NewRows> {
    let Update { lock, snapshot, diff, .. } = *update;
    let first = snapshot.places();
    let count = diff.new.count();
    let places = u64::from(first) + count;
    if places >= u64::from(u32::MAX) {
        return Err(too_many(places));
    }
    let mut new = NewRows { first, hashes: Vec::with_capacity(count as usize) };
    let old = snapshot.base_rows()..first;
    if count == 0 && old.is_empty() {
        return Ok(new);
    }
    let mut lists: Vec<u32> = old.clone().map(|place| snapshot.list_of(place)).collect();
    lists.reserve_exact(count as usize);
    objects.insert(role::DELTA_VECTORS.into(), write_vectors(update, &mut new, &mut lists)?);
    objects.insert(
        role::DELTA_LISTS.into(),
        DeltaListsWriter::create(lock, snapshot.base_rows())?.finish(&lists, snapshot.lists() as u32)?,
    );
    drop(lists);
    let mut added = AddedWriter::create(lock)?;
    for place in old {
        added.push(snapshot.added_in(place))?;
    }
    let number = lock.next_number()?;
    for _ in 0..count {
        added.push(number)?;
    }
    objects.insert(role::DELTA_ADDED.into(), added.finish()?);
    write_ids(update, &new, objects)?;
    // The positions and neighbours of earlier updates stay: a row of theirs can lose a neighbour too. Those of the new
    // rows are written when the rows are placed.
    Ok(new)
}

/// Writes the vectors of the delta, and appends the hashes and lists of the new rows.
fn write_vectors(update: &Update<'_>, new: &mut NewRows, lists: &mut Vec<u32>) -> Result<ObjectRef> {
    let Update { lock, snapshot, options, rows, progress, batch_rows, .. } = *update;
    let dim = snapshot.dim();
    let metric = options.settings.metric;
    // Rows of length 1 are no longer numbers of the source's type.
    let narrow = if metric.has_unit_rows() { Element::F32 } else { narrow(rows.dtype()) };
    let element = match snapshot.delta_element() {
        Some(old) if old == narrow || update.diff.new.count() == 0 => old,
        Some(_) => Element::F32,
        None => narrow,
    };
    let (base, first) = (snapshot.base_rows(), snapshot.places());
    let mut writer = VectorsWriter::create(lock, role::DELTA_VECTORS, element, dim)?;
    let mut values = Vec::new();
    for start in (base..first).step_by(ROWS as usize) {
        let end = (start + ROWS).min(first);
        values.resize((end - start) as usize * dim, 0.0);
        snapshot.read_vectors(start..end, &mut values)?;
        writer.push(&values)?;
    }
    let searcher = Searcher::new(snapshot, metric, options.effort);
    let stop = || progress.check().is_err();
    let loader = LoaderOptions { batch_rows: Some(batch_rows.min(READ_ROWS)), ..LoaderOptions::default() };
    for batch in &Loader::new(rows.clone(), loader) {
        let batch = batch?;
        values.clear();
        values.extend_from_slice(batch.values());
        new.hashes.extend(values.chunks_exact(dim).map(row_hash));
        metric.prepare(&mut values, dim);
        let mut flaws = FlawSummary::default();
        flaws.check_rows(metric, rows.as_ref(), batch.first, &values, |_| ())?;
        flaws.refuse(rows.shape().rows)?;
        writer.push(&values)?;
        lists.extend(searcher.nearest_list(&values, &stop)?);
        progress.check()?;
    }
    rows.release();
    writer.finish()
}

/// Writes the ids and the keys of the delta.
fn write_ids(update: &Update<'_>, new: &NewRows, objects: &mut BTreeMap<String, ObjectRef>) -> Result<()> {
    let Update { lock, snapshot, rows, id, .. } = *update;
    let (base, first) = (snapshot.base_rows(), snapshot.places());
    let mut ids = IdsWriter::create(lock, role::DELTA_IDS, snapshot.id_type())?;
    for start in (base..first).step_by(ROWS as usize) {
        ids.push(&snapshot.ids(start..(start + ROWS).min(first))?)?;
    }
    let mut keys: Vec<Key> = snapshot.keys().filter(|key| key.place >= base && !update.is_gone(key.place)).collect();
    keys.reserve_exact(new.hashes.len());
    let names = [id.to_string()];
    for start in (0..new.hashes.len()).step_by(ROWS as usize) {
        let count = (new.hashes.len() - start).min(ROWS as usize);
        let values: ArrayRef = rows.read_columns(&names, start as u64, count)?.column(0).clone();
        let values = match values.data_type() == snapshot.id_type() {
            true => values,
            false => {
                cast_with_options(&values, snapshot.id_type(), &CastOptions { safe: false, ..CastOptions::default() })
                    .map_err(|e| {
                    let why =
                        format!("{e}; the model's ids are {}, and a refit takes the table's type", snapshot.id_type());
                    lowland_io::Error::format(rows.locate(start as u64).path, format!("column \"{id}\": {why}"))
                })?
            }
        };
        each_key(&values, |i, key| {
            let at = start + i;
            keys.push(Key { key, hash: new.hashes[at], place: new.first + at as u32 });
        })
        .map_err(|fault| key_error(rows.as_ref(), Some(id), start as u64, fault))?;
        ids.push(&values)?;
    }
    objects.insert(role::DELTA_IDS.into(), ids.finish()?);
    keys.sort_unstable();
    let mut writer = KeysWriter::create(lock, role::DELTA_KEYS)?;
    keys.iter().try_for_each(|key| writer.push(key))?;
    objects.insert(role::DELTA_KEYS.into(), writer.finish()?);
    Ok(())
}

impl Update<'_> {
    /// Returns whether the row at a place is gone by this update.
    pub(super) fn is_gone(&self, place: u32) -> bool {
        self.diff.gone.binary_search(&place).is_ok()
    }
}
