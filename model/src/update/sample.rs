//! The probe rows: a fixed sample of rows whose exact neighbours are known, by which the recall of the graph is measured.
//!
//! The exact neighbours were found when the base was made. Each update compares the probe rows with all new rows, and
//! leaves out rows that are gone. A neighbour that is gone has no known successor: the list becomes shorter, and a probe
//! row with less than half of its neighbours is left out.

use std::collections::BTreeMap;

use lowland_engine::distances::squared_distance;
use lowland_engine::neighbors::MISSING;
use rayon::prelude::*;

use super::Update;
use crate::Result;
use crate::snapshot::{SampleRow, SampleWriter, Snapshot, role};
use crate::store::ObjectRef;

/// Places whose vectors are read at a time.
const ROWS: u32 = 1024;

/// The probe rows of a version.
pub(super) struct Probes(Vec<SampleRow>);

/// Brings the probe rows up to date and writes them.
pub(super) fn write(update: &Update<'_>, all: &Snapshot, objects: &mut BTreeMap<String, ObjectRef>) -> Result<Probes> {
    let Update { lock, snapshot, options, progress, .. } = *update;
    let (dim, k) = (all.dim(), options.n_neighbors);
    let mut rows: Vec<SampleRow> = Vec::new();
    for row in snapshot.sample().iter().filter(|row| !all.is_dead(row.place)) {
        let mut neighbors = row.neighbors.clone();
        neighbors.retain(|&(_, place)| !all.is_dead(place));
        if 2 * neighbors.len() >= row.neighbors.len() {
            rows.push(SampleRow { place: row.place, neighbors });
        }
    }
    let mut vectors = vec![0.0; rows.len() * dim];
    for (row, to) in rows.iter().zip(vectors.chunks_exact_mut(dim.max(1))) {
        all.read_vector(row.place, to)?;
    }
    let mut values = Vec::new();
    let (first, end) = (snapshot.places(), all.places());
    for start in (first..end).step_by(ROWS as usize) {
        progress.check()?;
        let places = start..(start + ROWS).min(end);
        values.resize(places.len() * dim, 0.0);
        all.read_vectors(places.clone(), &mut values)?;
        rows.par_iter_mut().zip(vectors.par_chunks(dim.max(1))).for_each(|(row, vector)| {
            // The neighbours that are left are the nearest of the rows that were there, up to the last of them.
            let limit = row.neighbors.last().map_or(f32::INFINITY, |&(squared, _)| squared);
            let near = places.clone().zip(values.chunks_exact(dim)).filter_map(|(place, other)| {
                let squared = squared_distance(vector, other);
                (squared <= limit).then_some((squared, place))
            });
            row.neighbors.extend(near);
            // The limit of the next portion is that of the nearest.
            row.neighbors.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            row.neighbors.truncate(k);
        });
    }
    let mut writer = SampleWriter::create(lock)?;
    rows.iter().try_for_each(|row| writer.push(row))?;
    objects.insert(role::SAMPLE.into(), writer.finish()?);
    Ok(Probes(rows))
}

impl Probes {
    /// Returns the share of the probe rows' exact neighbours that are among the first `k` of the stored graph; none
    /// without probe rows.
    pub(super) fn recall(&self, snapshot: &Snapshot, k: usize) -> Option<f64> {
        let mut recall = Recall::default();
        for row in &self.0 {
            let exact: Vec<u32> = row.neighbors.iter().map(|&(_, place)| place).collect();
            recall.add(snapshot.neighbors(row.place).0, &exact, k);
        }
        recall.share()
    }
}

/// Counts how many true neighbours are stored.
#[derive(Debug, Default)]
pub(super) struct Recall {
    found: u64,
    all: u64,
}

impl Recall {
    /// Counts the first `k` neighbours of a row that are `stored`, and its `exact` ones; missing ones do not count.
    pub(super) fn add(&mut self, stored: &[u32], exact: &[u32], k: usize) {
        let stored = &stored[..k.min(stored.len())];
        for place in exact.iter().take(k).filter(|&&place| place != MISSING) {
            self.all += 1;
            self.found += u64::from(stored.contains(place));
        }
    }

    /// Returns the share of the true neighbours that are stored; none if there are no true neighbours.
    pub(super) fn share(&self) -> Option<f64> {
        (self.all > 0).then(|| self.found as f64 / self.all as f64)
    }
}
