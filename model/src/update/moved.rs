//! Rows of the version before that move, because their neighbours have changed.
//!
//! What must hold: rows whose neighbours have not changed keep their positions, byte for byte; a position depends on the
//! version before and on what the update changes, not on the order in which rows are moved.
//!
//! Memory grows with the rows that change: [`ROW_BYTES`] and a position for each, and with a sample of the survivors.

use std::collections::BTreeMap;

use super::Update;
use crate::Result;
use crate::measure::{kept_neighbors, radius};
use crate::place::{MOVE_CAP, Placer};
use crate::snapshot::{MovedWriter, Snapshot, role};
use crate::store::ObjectRef;

/// Bytes of memory for a row whose neighbours change: its place, twice, and how far it moved; positions come on top.
const ROW_BYTES: u64 = 4 + 4 + 8;
/// Rows that are moved between two looks at the progress.
const ROWS: usize = 8192;
/// The most survivors among which the kept neighbours are looked for, and the number of rows for which they are.
const MOST_SAMPLED: usize = 1 << 18;
const KEPT_ROWS: usize = 500;
const KEPT_NEIGHBORS: usize = 15;

/// Returns the bytes that moving holds, if `changed` rows have other neighbours afterwards.
pub(super) fn bytes(update_rows: u64, changed: u64, components: usize) -> u64 {
    let position = 4 * components as u64;
    let sampled = update_rows.min(MOST_SAMPLED as u64);
    // Each thread that looks for kept neighbours has a distance and a number for each sampled row.
    let looked_at = sampled * (2 * position + 8 * rayon::current_num_threads() as u64);
    changed * (ROW_BYTES + position) + MovedWriter::bytes(update_rows) + looked_at
}

/// How the rows of the version before moved. Distances are over the radius of their map.
pub(super) struct Movement {
    pub(super) rows: u64,
    /// How many of them the cap held back in some epoch.
    pub(super) capped: u64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) max: f64,
    /// Share of the nearest rows in the map that rows kept.
    pub(super) kept_neighbors: f64,
}

/// Moves the rows at the places `dirty`, which ascend, and writes the positions of all rows that have moved since the
/// base. In `placed` the new rows have positions, and the others are where they were in the version before.
pub(super) fn write(
    update: &Update<'_>,
    placed: &Snapshot,
    dirty: Vec<u32>,
    objects: &mut BTreeMap<String, ObjectRef>,
) -> Result<Movement> {
    let Update { lock, snapshot, options, progress, .. } = *update;
    let width = placed.n_components();
    let survivors = || (0..snapshot.places()).filter(|&place| !placed.is_dead(place));
    let radius = radius(survivors().map(|place| placed.position(place)), width);
    let cap = (MOVE_CAP * radius) as f32;
    let placer = Placer::new(&options.settings, placed, options.reach)?;
    let mut positions = vec![0f32; dirty.len() * width];
    let mut capped = 0;
    for (places, out) in dirty.chunks(ROWS).zip(positions.chunks_mut(ROWS * width)) {
        let settled = placer.settle(places, options.n_neighbors, cap, out)?;
        capped += settled.iter().filter(|settled| settled.capped).count() as u64;
        progress.check()?;
    }
    drop(placer);
    let of = |at: usize| &positions[at * width..][..width];
    let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    let moved: Vec<u32> =
        (0..dirty.len() as u32).filter(|&at| !same(of(at as usize), placed.position(dirty[at as usize]))).collect();

    let now = |place: u32| match dirty.binary_search(&place) {
        Ok(at) => of(at),
        Err(_) => placed.position(place),
    };
    let mut earlier = placed.moved_places().filter(|&place| !placed.is_dead(place)).peekable();
    if moved.is_empty() && earlier.peek().is_none() {
        objects.remove(role::MOVED);
    } else {
        let mut writer = MovedWriter::create(lock, width)?;
        for &at in &moved {
            let place = dirty[at as usize];
            while let Some(other) = earlier.next_if(|&other| other < place) {
                writer.push(other, now(other))?;
            }
            earlier.next_if_eq(&place);
            writer.push(place, of(at as usize))?;
        }
        for other in earlier {
            writer.push(other, now(other))?;
        }
        objects.insert(role::MOVED.into(), writer.finish()?);
    }

    let count = survivors().count();
    let distance = |place: u32| {
        let pairs = placed.position(place).iter().zip(now(place));
        pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt() / radius.max(f64::MIN_POSITIVE)
    };
    let mut far: Vec<f64> = moved.iter().map(|&at| distance(dirty[at as usize])).collect();
    far.sort_unstable_by(f64::total_cmp);
    // The rows that did not move come first.
    let at = |share: f64| {
        let rank = (count.saturating_sub(1) as f64 * share).round() as usize;
        rank.checked_sub(count - far.len()).and_then(|rank| far.get(rank)).copied().unwrap_or(0.0)
    };
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for place in survivors().step_by(count.div_ceil(MOST_SAMPLED).max(1)) {
        before.extend_from_slice(placed.position(place));
        after.extend_from_slice(now(place));
    }
    let rows = before.len() / width;
    let sampled: Vec<usize> = (0..rows).step_by((rows / KEPT_ROWS).max(1)).collect();
    progress.check()?;
    Ok(Movement {
        rows: far.len() as u64,
        capped,
        p50: at(0.5),
        p95: at(0.95),
        max: at(1.0),
        kept_neighbors: kept_neighbors(&before, &after, width, &sampled, KEPT_NEIGHBORS),
    })
}
