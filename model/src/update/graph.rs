//! The neighbours of new rows, and of the rows whose neighbours change: those that have a new row nearer than their last
//! neighbour, and those that lost a neighbour.
//!
//! A search among the rows that are there gives the neighbours of the new rows, and tells which rows see a new row ("both
//! sides look"). New rows are also searched among each other: up to [`EXACT_ROWS`] are all compared, because the graph does
//! not lead to them. Some of the new rows, the probes, are also searched thoroughly, which tells the recall of the new rows.
//! A row that has too few neighbours left after others were deleted is searched again.
//!
//! Memory grows with the new rows and the rows that change: [`ROW_BYTES`] for a new row, [`CHANGED_BYTES`] and
//! the neighbours for a row that changes.

use std::collections::BTreeMap;

use lowland_engine::Metric;
use lowland_engine::neighbors::MISSING;
use rayon::prelude::*;

use super::Update;
use super::new_rows::NewRows;
use super::sample::Recall;
use crate::Result;
use crate::place::Placer;
use crate::search::{ReverseHits, Searcher, first_only};
use crate::snapshot::{GraphWriter, PatchWriter, PositionsWriter, Snapshot, role};
use crate::store::ObjectRef;

/// Bytes of memory for a new row: about 25 rows see it.
pub(super) const ROW_BYTES: u64 = 25 * 12;
/// Bytes of memory for a row whose neighbours change, beside 8 bytes for each neighbour.
pub(super) const CHANGED_BYTES: u64 = 32;

/// The largest number of new rows of which all are compared with each other.
const EXACT_ROWS: usize = 8192;
/// About the number of new rows that are searched thoroughly.
pub(super) const PROBES: usize = 128;

/// A row that has a new row nearer than its last neighbour: its place, the distance in the metric's units, the place of
/// the new row.
type Hit = (u32, f32, u32);

/// What was placed.
pub(super) struct PlacedRows {
    /// Number of new rows.
    pub(super) rows: u64,
    /// How many of them lie farther from their centroid than 99 of 100 rows of the base.
    pub(super) outliers: u64,
    /// The share of the probes' neighbours that are stored; none without neighbours.
    pub(super) recall: Option<f64>,
    /// The places of the version before of which a neighbour that the method uses changes, ascending.
    pub(super) changed: Vec<u32>,
}

/// Searches and places the new rows, and writes the positions and neighbours of the delta, and the neighbours of rows
/// that change. `before` has the rows among which new rows are placed, and `all` also has the new rows.
pub(super) fn write(
    update: &Update<'_>,
    before: &Snapshot,
    all: &Snapshot,
    new: &NewRows,
    objects: &mut BTreeMap<String, ObjectRef>,
) -> Result<PlacedRows> {
    let mut hits = Vec::new();
    let mut placed = write_new(update, before, all, new, &mut hits, objects)?;
    let changed = changed_rows(update, all, new, hits)?;
    // Spares do not pull.
    let k = update.options.n_neighbors;
    let differs = |(place, list): &&Changed| {
        let before = all.neighbors(*place).0.iter().take(k).filter(|&&near| near != MISSING);
        !before.eq(list.iter().take(k).map(|(_, near)| near))
    };
    placed.changed = changed.iter().filter(differs).map(|changed| changed.0).collect();
    write_patch(update, all, changed, objects)?;
    Ok(placed)
}

/// Writes the positions and neighbours of the delta.
fn write_new(
    update: &Update<'_>,
    before: &Snapshot,
    all: &Snapshot,
    new: &NewRows,
    hits: &mut Vec<Hit>,
    objects: &mut BTreeMap<String, ObjectRef>,
) -> Result<PlacedRows> {
    let Update { lock, snapshot, options, progress, batch_rows, .. } = *update;
    let (dim, width, components) = (snapshot.dim(), snapshot.k(), snapshot.n_components());
    let metric = options.settings.metric;
    let mut told = PlacedRows { rows: new.hashes.len() as u64, outliers: 0, recall: None, changed: Vec::new() };
    let old = snapshot.base_rows()..new.first;
    if told.rows == 0 && old.is_empty() {
        return Ok(told);
    }
    let mut graph = GraphWriter::create(lock, role::DELTA_GRAPH, width, options.n_neighbors)?;
    let mut positions = PositionsWriter::create(lock, role::DELTA_POSITIONS, components)?;
    for place in old {
        let (near, distances) = snapshot.neighbors(place);
        graph.push(near, distances)?;
        positions.push(snapshot.first_position(place))?;
    }
    let stop = || progress.check().is_err();
    let among_old = Searcher::new(before, metric, options.effort);
    let among_new = match new.hashes.len() {
        0..=EXACT_ROWS => Searcher::new(all, metric, options.effort).exact(),
        _ => {
            let effort = first_only(before, metric, options.effort, options.effort_recall, &stop)?;
            Searcher::new(all, metric, effort)
        }
    };
    let among_new = among_new.only(new.first..all.places());
    let placer = Placer::new(&options.settings, before, options.reach)?;
    let (mut queries, mut places, mut outliers) = (Vec::new(), Vec::new(), Vec::new());
    let probe_step = new.hashes.len().div_ceil(PROBES).max(1);
    let mut recall = Recall::default();
    for start in (0..new.hashes.len()).step_by(batch_rows.max(1)) {
        let hashes = &new.hashes[start..(start + batch_rows.max(1)).min(new.hashes.len())];
        let first = new.first + start as u32;
        let rows = hashes.len();
        let mut own: Vec<u32> = (first..first + rows as u32).collect();
        queries.resize(rows * dim, 0.0);
        all.read_vectors(first..first + rows as u32, &mut queries)?;
        // The probes follow the rows as further queries.
        let probes: Vec<usize> = (0..rows).filter(|row| (start + row).is_multiple_of(probe_step)).collect();
        for &row in &probes {
            own.push(own[row]);
            queries.extend_from_within(row * dim..(row + 1) * dim);
        }
        let mut here = ReverseHits::default();
        let (mut found, thorough) =
            among_old.search_and_probe(&queries, &own, width, Some(&mut here), probes.len(), &stop)?;
        let seen = here.hits.into_iter();
        hits.extend(seen.map(|(place, query, squared)| (place, metric.distance(squared), first + query)));
        let (others, thorough_others) = among_new.search_and_probe(&queries, &own, width, None, probes.len(), &stop)?;
        let mut probed = probes.iter().zip(0..).peekable();
        for row in 0..rows {
            let (near, distances) = merged(found.of(row), others.of(row), width, metric);
            graph.push(&near, &distances)?;
            if let Some((_, probe)) = probed.next_if(|&(&probed, _)| probed == row) {
                let (true_near, _) = merged(thorough.of(probe), thorough_others.of(probe), width, metric);
                recall.add(&near, &true_near, options.n_neighbors);
            }
        }
        // A position depends on the rows that were there alone.
        found.keep_nearest(options.n_neighbors);
        progress.check()?;
        places.resize(rows * components, 0.0);
        outliers.resize(rows, 0.0);
        placer.place(&found, hashes, &mut places, &mut outliers)?;
        positions.push(&places)?;
        told.outliers += outliers.iter().filter(|&&outlier| outlier > 1.0).count() as u64;
        progress.advance(rows as u64)?;
    }
    objects.insert(role::DELTA_GRAPH.into(), graph.finish()?);
    objects.insert(role::DELTA_POSITIONS.into(), positions.finish()?);
    told.recall = recall.share();
    Ok(told)
}

/// Merges two lists of (places, squared distances), each ascending, into the `width` nearest, with distances in the
/// metric's units.
fn merged(a: (&[u32], &[f32]), b: (&[u32], &[f32]), width: usize, metric: Metric) -> (Vec<u32>, Vec<f32>) {
    let pairs = |(places, squares): (&[u32], &[f32])| -> Vec<(f32, u32)> {
        squares.iter().copied().zip(places.iter().copied()).collect()
    };
    let mut all = [pairs(a), pairs(b)].concat();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut places, mut distances) = (vec![MISSING; width], vec![f32::INFINITY; width]);
    for ((place, distance), (squared, other)) in places.iter_mut().zip(&mut distances).zip(all) {
        (*place, *distance) = (other, metric.distance(squared));
    }
    (places, distances)
}

/// A row whose neighbours change, with its new neighbours as (distance in the metric's units, place), ascending.
type Changed = (u32, Vec<(f32, u32)>);

/// Returns the rows of the version before whose neighbours change, by place.
fn changed_rows(update: &Update<'_>, all: &Snapshot, new: &NewRows, mut hits: Vec<Hit>) -> Result<Vec<Changed>> {
    let Update { snapshot, options, diff, progress, .. } = *update;
    let (width, k) = (snapshot.k(), options.n_neighbors);
    hits.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let gone = !diff.gone.is_empty();
    let mut places: Vec<u32> = hits.iter().map(|hit| hit.0).collect();
    places.dedup();
    if gone {
        let lost: Vec<u32> = (0..new.first)
            .into_par_iter()
            .filter(|&place| {
                !all.is_dead(place) && all.neighbors(place).0.iter().any(|&near| near != MISSING && all.is_dead(near))
            })
            .collect();
        places.extend(lost);
        places.par_sort_unstable();
        places.dedup();
    }
    progress.check()?;
    let mut changed: Vec<Changed> = places
        .into_par_iter()
        .filter(|&place| !all.is_dead(place))
        .map(|place| {
            let (near, distances) = all.neighbors(place);
            let kept = near.iter().zip(distances).filter(|&(&near, _)| near != MISSING && !all.is_dead(near));
            let mut list: Vec<(f32, u32)> = kept.map(|(&near, &distance)| (distance, near)).collect();
            let from = hits.partition_point(|hit| hit.0 < place);
            list.extend(hits[from..].iter().take_while(|hit| hit.0 == place).map(|hit| (hit.1, hit.2)));
            list.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            list.dedup();
            list.truncate(width);
            (place, list)
        })
        .collect();
    drop(hits);
    search_again(update, all, k, &mut changed)?;
    Ok(changed)
}

/// Searches rows anew that have fewer than `k` neighbours left, if the model has more rows.
fn search_again(update: &Update<'_>, all: &Snapshot, k: usize, changed: &mut [Changed]) -> Result<()> {
    let Update { options, progress, batch_rows, .. } = *update;
    let (metric, width) = (options.settings.metric, all.k());
    let enough = k.min((all.live() as usize).saturating_sub(1));
    let short: Vec<usize> = (0..changed.len()).filter(|&at| changed[at].1.len() < enough).collect();
    let searcher = Searcher::new(all, metric, options.effort);
    let stop = || progress.check().is_err();
    for portion in short.chunks(batch_rows.max(1)) {
        let own: Vec<u32> = portion.iter().map(|&at| changed[at].0).collect();
        let mut queries = vec![0.0; own.len() * all.dim()];
        for (&place, to) in own.iter().zip(queries.chunks_exact_mut(all.dim())) {
            all.read_vector(place, to)?;
        }
        let found = searcher.search(&queries, &own, width, None, &stop)?;
        progress.check()?;
        for (i, &at) in portion.iter().enumerate() {
            let of = i * width..(i + 1) * width;
            let near = found.places[of.clone()].iter().zip(&found.distances[of]).filter(|&(&near, _)| near != MISSING);
            changed[at].1 = near.map(|(&near, &squared)| (metric.distance(squared), near)).collect();
        }
    }
    Ok(())
}

/// Writes the neighbours of all rows that changed since the base: those of earlier updates that did not change again,
/// and the new ones.
fn write_patch(
    update: &Update<'_>,
    all: &Snapshot,
    changed: Vec<Changed>,
    objects: &mut BTreeMap<String, ObjectRef>,
) -> Result<()> {
    let width = all.k();
    let is_changed = |place: &u32| changed.binary_search_by_key(place, |changed| changed.0).is_ok();
    let kept = || all.patch_places().filter(|&place| !all.is_dead(place) && !is_changed(&place));
    if changed.is_empty() && kept().next().is_none() {
        objects.remove(role::PATCH);
        return Ok(());
    }
    let mut writer = PatchWriter::create(update.lock, width)?;
    let mut earlier = kept().peekable();
    let keep = |place: u32, writer: &mut PatchWriter| {
        let (near, distances) = all.neighbors(place);
        writer.push(place, near, distances)
    };
    let (mut near, mut distances) = (vec![MISSING; width], vec![f32::INFINITY; width]);
    for (place, list) in &changed {
        let place = *place;
        while let Some(other) = earlier.next_if(|&other| other < place) {
            keep(other, &mut writer)?;
        }
        near.fill(MISSING);
        distances.fill(f32::INFINITY);
        for ((near, distance), (found, row)) in near.iter_mut().zip(&mut distances).zip(list) {
            (*near, *distance) = (*row, *found);
        }
        writer.push(place, &near, &distances)?;
    }
    for other in earlier {
        keep(other, &mut writer)?;
    }
    objects.insert(role::PATCH.into(), writer.finish()?);
    Ok(())
}
