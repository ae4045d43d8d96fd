//! The probe rows: a fixed sample of rows whose exact neighbours are known, by which the recall of the graph is measured.
//!
//! The exact neighbours were found when the base was made. Each update compares the probe rows with all new rows, and
//! leaves out rows that are gone. A neighbour that is gone has no known successor: the list becomes shorter, and a probe
//! row with less than half of its neighbours is left out.

use std::collections::BTreeMap;

use lowland_engine::distances::squared_distance;
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
        });
    }
    for row in &mut rows {
        row.neighbors.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        row.neighbors.truncate(k);
    }
    let mut writer = SampleWriter::create(lock)?;
    rows.iter().try_for_each(|row| writer.push(row))?;
    objects.insert(role::SAMPLE.into(), writer.finish()?);
    Ok(Probes(rows))
}

impl Probes {
    /// Returns the share of the probe rows' exact neighbours that are among the first `k` of the stored graph; 1 without
    /// probe rows.
    pub(super) fn recall(&self, snapshot: &Snapshot, k: usize) -> f64 {
        let (mut found, mut all) = (0usize, 0usize);
        for row in &self.0 {
            let near = snapshot.neighbors(row.place).0;
            let near = &near[..k.min(near.len())];
            all += row.neighbors.len();
            found += row.neighbors.iter().filter(|(_, place)| near.contains(place)).count();
        }
        if all == 0 { 1.0 } else { found as f64 / all as f64 }
    }
}
