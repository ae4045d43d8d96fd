//! The nearest rows of sampled rows in the map, in one pass over all positions.
//!
//! A part of the rows gives a radius for each sampled row, within which its nearest rows must lie. A grid of cells tells
//! which sampled rows a position can be near to, so that almost all pairs are never compared.
//!
//! What must hold: the result is that of comparing all pairs: the smallest (squared distance, place).

use lowland_engine::distances::squared_distance;
use rayon::prelude::*;

use crate::Result;
use crate::snapshot::Snapshot;

/// Number of rows that give the radii.
const ROUGH_ROWS: u32 = 16_384;
/// Number of cells along each of the first two components of the map.
const CELLS: usize = 64;
/// Number of places that a task takes.
const PLACES: u32 = 1 << 16;

/// Bytes that are held for `sampled` rows and `k` neighbours on `threads` threads.
pub(super) fn bytes(sampled: usize, k: usize, threads: usize) -> u64 {
    let lists = (threads + 1) * 2 * sampled * (k + 1) * size_of::<Near>();
    // Few rows of the sample have a wide neighbourhood; all of them having one is the bound.
    let cells = CELLS * CELLS * (size_of::<Vec<u32>>() + sampled * 4);
    (lists + cells) as u64
}

/// A row and its squared distance.
type Near = (f32, u32);

/// Returns the places of the `k` nearest live rows in the map of each of the rows `sampled`, ties by place.
///
/// # Errors
/// What `check` returns, which is called from time to time.
pub(super) fn nearest_in_map(
    snapshot: &Snapshot,
    sampled: &[u32],
    k: usize,
    check: &(dyn Fn() -> Result<()> + Sync),
) -> Result<Vec<Vec<u32>>> {
    let step = snapshot.places().div_ceil(ROUGH_ROWS).max(1);
    let rough: Vec<Nearest> = sampled
        .par_iter()
        .map(|&own| {
            check()?;
            let mut nearest = Nearest::new(k, f32::INFINITY);
            (0..snapshot.places()).step_by(step as usize).for_each(|place| nearest.offer(snapshot, own, place));
            Ok(nearest)
        })
        .collect::<Result<_>>()?;
    if step == 1 {
        return Ok(rough.into_iter().map(Nearest::places).collect());
    }
    let limits: Vec<f32> = rough.iter().map(|nearest| nearest.limit).collect();
    drop(rough);
    let grid = Grid::new(snapshot, sampled, &limits);
    let fresh = || limits.iter().map(|&limit| Nearest::new(k, limit)).collect::<Vec<_>>();
    let found = (0..snapshot.places().div_ceil(PLACES))
        .into_par_iter()
        .try_fold(fresh, |mut nearest, portion| {
            check()?;
            for place in portion * PLACES..((portion + 1) * PLACES).min(snapshot.places()) {
                for &row in grid.around(snapshot.position(place)) {
                    nearest[row as usize].offer(snapshot, sampled[row as usize], place);
                }
            }
            Ok::<_, crate::Error>(nearest)
        })
        .try_reduce(fresh, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| b.near.into_iter().for_each(|near| a.keep(near)));
            Ok(a)
        })?;
    Ok(found.into_iter().map(Nearest::places).collect())
}

/// The nearest rows of one row so far.
struct Nearest {
    k: usize,
    /// Rows beyond this squared distance are not among the nearest.
    limit: f32,
    /// Ascending.
    near: Vec<Near>,
}

impl Nearest {
    fn new(k: usize, limit: f32) -> Self {
        Nearest { k, limit, near: Vec::with_capacity(k + 1) }
    }

    fn offer(&mut self, snapshot: &Snapshot, own: u32, place: u32) {
        let squared = squared_distance(snapshot.position(own), snapshot.position(place));
        // A row without a position has no distance.
        if squared <= self.limit && place != own && !snapshot.is_dead(place) {
            self.keep((squared, place));
        }
    }

    fn keep(&mut self, near: Near) {
        let at = self.near.partition_point(|other| other.0.total_cmp(&near.0).then(other.1.cmp(&near.1)).is_lt());
        if at == self.k {
            return;
        }
        self.near.insert(at, near);
        self.near.truncate(self.k);
        if let Some(last) = self.near.get(self.k - 1) {
            self.limit = self.limit.min(last.0);
        }
    }

    fn places(self) -> Vec<u32> {
        self.near.into_iter().map(|(_, place)| place).collect()
    }
}

/// For each cell of the map the sampled rows whose discs reach into it.
struct Grid {
    low: [f32; 2],
    /// Cells a unit of each component.
    scale: [f32; 2],
    cells: Vec<Vec<u32>>,
}

impl Grid {
    /// Lays a grid over the rows `sampled`; what lies outside counts to the cells at its edge. `limits` are squared radii.
    fn new(snapshot: &Snapshot, sampled: &[u32], limits: &[f32]) -> Self {
        let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        for &place in sampled {
            for (at, x) in planar(snapshot.position(place)).into_iter().enumerate() {
                (low[at], high[at]) = (low[at].min(x), high[at].max(x));
            }
        }
        let scale = std::array::from_fn(|at| CELLS as f32 / (high[at] - low[at]).max(f32::MIN_POSITIVE));
        let mut grid = Grid { low, scale, cells: vec![Vec::new(); CELLS * CELLS] };
        for (row, (&place, &limit)) in sampled.iter().zip(limits).enumerate() {
            let center = planar(snapshot.position(place));
            // A little more than the radius, because distances and borders are rounded.
            let reach: [f32; 2] = center.map(|x| limit.sqrt() * 1.000_01 + x.abs() * 1e-6 + f32::MIN_POSITIVE);
            let cell = |at: usize, sign: f32| grid.cell(at, center[at] + sign * reach[at]);
            let (across, up) = (cell(0, -1.0)..=cell(0, 1.0), cell(1, -1.0)..=cell(1, 1.0));
            for y in up {
                for x in across.clone() {
                    grid.cells[y * CELLS + x].push(row as u32);
                }
            }
        }
        grid
    }

    /// The cell of a coordinate along one component; never falls as the coordinate grows.
    fn cell(&self, at: usize, x: f32) -> usize {
        // Casts saturate, and what is not a number becomes 0.
        (((x - self.low[at]) * self.scale[at]) as usize).min(CELLS - 1)
    }

    /// The sampled rows to which a row at `position` can be near.
    fn around(&self, position: &[f32]) -> &[u32] {
        let [x, y] = planar(position);
        &self.cells[self.cell(1, y) * CELLS + self.cell(0, x)]
    }
}

/// The first two components of a position.
fn planar(position: &[f32]) -> [f32; 2] {
    [position[0], position.get(1).copied().unwrap_or(0.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::fixture::Rows;

    #[test]
    fn a_grid_finds_what_all_pairs_find() {
        for components in 1..=3 {
            let fixture = Rows { components, ..Rows::default() }.build();
            let snapshot = &fixture.snapshot;
            let sampled: Vec<u32> =
                (0..snapshot.places()).step_by(7).filter(|&place| !snapshot.is_dead(place)).collect();
            let check = || Ok(());
            let whole = nearest_in_map(snapshot, &sampled, 6, &check).expect("rows");
            // Radii from a few rows.
            let limits: Vec<f32> = sampled
                .iter()
                .map(|&own| {
                    let mut nearest = Nearest::new(6, f32::INFINITY);
                    (0..snapshot.places()).step_by(9).for_each(|place| nearest.offer(snapshot, own, place));
                    nearest.limit
                })
                .collect();
            let grid = Grid::new(snapshot, &sampled, &limits);
            let mut compared = 0;
            let mut found: Vec<Nearest> = limits.iter().map(|&limit| Nearest::new(6, limit)).collect();
            for place in 0..snapshot.places() {
                for &row in grid.around(snapshot.position(place)) {
                    compared += 1;
                    found[row as usize].offer(snapshot, sampled[row as usize], place);
                }
            }
            assert!(compared < sampled.len() * snapshot.places() as usize, "{compared} pairs");
            let found: Vec<Vec<u32>> = found.into_iter().map(Nearest::places).collect();
            assert_eq!(found, whole, "{components} components");
        }
    }
}
