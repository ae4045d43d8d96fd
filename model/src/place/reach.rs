//! How far the rows of a map are from their centroids.

use std::sync::atomic::{AtomicU32, Ordering};

use lowland_engine::Metric;
use lowland_engine::distances::squared_distance;
use rayon::prelude::*;

use crate::Result;
use crate::snapshot::Snapshot;

/// Number of low bits of a squared distance that are not told apart: 2¹¹ steps an octave.
const SHIFT: u32 = 12;
/// Number of rows that are read together.
const ROWS: u32 = 1024;

/// Returns the 99th percentile of the live rows' distances to the centroids of their lists, in the metric's units,
/// rounded up by at most 2⁻¹¹ of it; 0 without rows. Rows beyond it are outliers. Holds 8 MiB, and a portion of rows
/// for each thread.
///
/// # Errors
/// If vectors cannot be read; [`lowland_engine::Error::Cancelled`] once `stop` returns true.
pub fn reach(snapshot: &Snapshot, metric: Metric, stop: &(dyn Fn() -> bool + Sync)) -> Result<f32> {
    let dim = snapshot.dim();
    let counts: Vec<AtomicU32> = (0..1 << (32 - SHIFT)).map(|_| AtomicU32::new(0)).collect();
    (0..snapshot.places().div_ceil(ROWS)).into_par_iter().try_for_each_init(Vec::new, |vectors, portion| {
        if stop() {
            return Err(crate::Error::from(lowland_engine::Error::Cancelled { stage: "place" }));
        }
        let places = portion * ROWS..((portion + 1) * ROWS).min(snapshot.places());
        vectors.resize(places.len() * dim, 0f32);
        snapshot.read_vectors(places.clone(), vectors)?;
        for (place, vector) in places.zip(vectors.chunks_exact(dim)).filter(|&(place, _)| !snapshot.is_dead(place)) {
            let list = snapshot.list_of(place) as usize;
            let squared = squared_distance(vector, &snapshot.centroids()[list * dim..][..dim]);
            counts[(squared.to_bits() >> SHIFT) as usize].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })?;
    let counts: Vec<u32> = counts.into_iter().map(AtomicU32::into_inner).collect();
    let rows: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let mut beyond = rows / 100;
    for (bin, &count) in counts.iter().enumerate().rev() {
        if u64::from(count) > beyond {
            // The upper end of the bin; a distance of 0 is exact.
            let bits = if bin == 0 { 0 } else { (bin as u32) << SHIFT | ((1 << SHIFT) - 1) };
            return Ok(metric.distance(f32::from_bits(bits)));
        }
        beyond -= u64::from(count);
    }
    Ok(0.0)
}
