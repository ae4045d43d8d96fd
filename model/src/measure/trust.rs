//! Trustworthiness of sampled rows (Venna and Kaski, 2001): whether their neighbours in the map are near in the data,
//! among all live rows.
//!
//! The nearest rows in the map are found first. Then one pass over all vectors counts how many rows are nearer in the
//! data than each of them.
//!
//! What must hold: scores are a pure function of two rows ([`lowland_engine::distances`]), and counts are whole numbers,
//! so that the result does not depend on threads.

use lowland_engine::distances::{LANES, PackedQueries, PackedRows, QUERIES, for_each_tile, squared_distance};
use rayon::prelude::*;

use crate::Result;
use crate::snapshot::Snapshot;

/// Places whose vectors are read and packed together.
const PLACES: u32 = 512;

/// Returns the bytes that `trustworthiness` of `sampled` rows by `k` neighbours holds on `threads` threads.
pub(crate) fn bytes(sampled: usize, dim: usize, k: usize, threads: usize) -> u64 {
    let sample = sampled as u64 * (8 * dim as u64 + 24 * k as u64);
    let thread = PLACES as u64 * 4 * dim as u64 + PackedRows::bytes(PLACES as usize, dim) + (sampled * k * 4) as u64;
    sample + threads as u64 * thread
}

/// Returns the trustworthiness of the rows at the live places `sampled`, by `k` neighbours; 1 for all of them if there
/// are not more than 3k + 1 live rows. A rank counts strictly nearer rows.
///
/// # Errors
/// Vectors that cannot be read; [`lowland_engine::Error::Cancelled`] once `stop` returns true.
pub fn trustworthiness(
    snapshot: &Snapshot,
    sampled: &[u32],
    k: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>> {
    let (dim, rows) = (snapshot.dim(), snapshot.live() as usize);
    if rows <= 3 * k + 1 || k == 0 {
        return Ok(vec![1.0; sampled.len()]);
    }
    let mut vectors = vec![0.0; sampled.len() * dim];
    for (&place, to) in sampled.iter().zip(vectors.chunks_exact_mut(dim)) {
        snapshot.read_vector(place, to)?;
    }
    // A row, and not a centroid, which may lie far from the rows.
    let center = vectors.get(..dim).map_or_else(|| vec![0.0; dim], <[f32]>::to_vec);
    // The scores of the k nearest rows in the map, for each sampled row.
    let limits: Vec<Vec<f32>> = sampled
        .par_iter()
        .zip(vectors.par_chunks_exact(dim))
        .map(|(&place, vector)| {
            cancelled(stop)?;
            scores_of(snapshot, &nearest_in_map(snapshot, place, k), vector, &center)
        })
        .collect::<Result<_>>()?;
    let most: Vec<f32> = limits.iter().map(|limits| limits.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
    let mut queries = PackedQueries::default();
    queries.load(vectors.chunks_exact(dim), &center);
    drop(vectors);
    let counts = (0..snapshot.places().div_ceil(PLACES))
        .into_par_iter()
        .map(|portion| portion * PLACES..((portion + 1) * PLACES).min(snapshot.places()))
        .try_fold(
            || Counts::new(sampled.len(), k),
            |mut counts, places| {
                cancelled(stop)?;
                counts.add(snapshot, places, sampled, &queries, &limits, &most, &center)?;
                Ok::<_, crate::Error>(counts)
            },
        )
        .try_reduce(|| Counts::new(sampled.len(), k), |a, b| Ok(a.plus(b)))?;
    let norm = 2.0 / (k as f64 * (2.0 * rows as f64 - 3.0 * k as f64 - 1.0));
    Ok(counts.nearer.chunks_exact(k).map(|nearer| 1.0 - norm * penalty(nearer, k)).collect())
}

/// Returns the sum of the ranks beyond k of a row's neighbours, of each of which so many rows are nearer.
fn penalty(nearer: &[u32], k: usize) -> f64 {
    nearer.iter().map(|&nearer| (nearer as usize + 1).saturating_sub(k) as f64).sum()
}

fn cancelled(stop: &(dyn Fn() -> bool + Sync)) -> Result<()> {
    if stop() { Err(lowland_engine::Error::Cancelled { stage: "quality" }.into()) } else { Ok(()) }
}

/// Returns the places of the `k` nearest live rows in the map, ties by place.
fn nearest_in_map(snapshot: &Snapshot, own: u32, k: usize) -> Vec<u32> {
    let position = snapshot.position(own);
    let mut near: Vec<(f32, u32)> = Vec::with_capacity(k + 1);
    for place in (0..snapshot.places()).filter(|&place| place != own) {
        let squared = squared_distance(position, snapshot.position(place));
        let is_near = near.len() < k || near.last().is_some_and(|last| squared < last.0);
        if is_near && !snapshot.is_dead(place) {
            let at = near.partition_point(|&(other, _)| other <= squared);
            near.insert(at, (squared, place));
            near.truncate(k);
        }
    }
    near.into_iter().map(|(_, place)| place).collect()
}

/// Returns the scores of some rows to one vector.
fn scores_of(snapshot: &Snapshot, places: &[u32], vector: &[f32], center: &[f32]) -> Result<Vec<f32>> {
    let dim = vector.len();
    let mut values = vec![0.0; places.len() * dim];
    for (&place, to) in places.iter().zip(values.chunks_exact_mut(dim)) {
        snapshot.read_vector(place, to)?;
    }
    let (mut rows, mut query) = (PackedRows::default(), PackedQueries::default());
    rows.load(values.chunks_exact(dim), center);
    query.load([vector].into_iter(), center);
    let mut scores = vec![f32::INFINITY; places.len()];
    for_each_tile(&query, &rows, |_, block, tile| {
        let from = block * LANES;
        scores[from..].iter_mut().zip(tile[0]).for_each(|(score, found)| *score = found);
    });
    Ok(scores)
}

/// Numbers of rows that are nearer than each neighbour in the map: sampled rows × k.
struct Counts {
    k: usize,
    nearer: Vec<u32>,
}

impl Counts {
    fn new(sampled: usize, k: usize) -> Self {
        Counts { k, nearer: vec![0; sampled * k] }
    }

    fn plus(mut self, other: Counts) -> Self {
        self.nearer.iter_mut().zip(other.nearer).for_each(|(count, more)| *count += more);
        self
    }

    /// Counts the live rows of a range of places.
    #[expect(clippy::too_many_arguments, reason = "one call in a loop")]
    fn add(
        &mut self,
        snapshot: &Snapshot,
        places: std::ops::Range<u32>,
        sampled: &[u32],
        queries: &PackedQueries,
        limits: &[Vec<f32>],
        most: &[f32],
        center: &[f32],
    ) -> Result<()> {
        let dim = snapshot.dim();
        let mut values = vec![0.0; places.len() * dim];
        snapshot.read_vectors(places.clone(), &mut values)?;
        let live: Vec<u32> = places.clone().filter(|&place| !snapshot.is_dead(place)).collect();
        let of = |place: u32| &values[(place - places.start) as usize * dim..][..dim];
        let vectors: Vec<&[f32]> = live.iter().map(|&place| of(place)).collect();
        let mut rows = PackedRows::default();
        rows.load(vectors.into_iter(), center);
        let k = self.k;
        for_each_tile(queries, &rows, |group, block, tile| {
            let first = group * QUERIES;
            for (query, scores) in (first..sampled.len()).zip(tile) {
                let most = most[query];
                // Almost all rows are farther than all neighbours in the map.
                if scores.iter().fold(false, |any, &score| any | (score < most)) {
                    for (&place, &score) in live[block * LANES..].iter().zip(scores) {
                        if score < most && place != sampled[query] {
                            let counts = &mut self.nearer[query * k..][..k];
                            for (count, &limit) in counts.iter_mut().zip(&limits[query]) {
                                *count += u32::from(score < limit);
                            }
                        }
                    }
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::fixture::Rows;

    #[test]
    fn mean_over_live_rows_is_the_engines_trustworthiness() {
        for rows in [Rows::default(), Rows { dead: Vec::new(), ..Rows::default() }] {
            let fixture = rows.build();
            let snapshot = &fixture.snapshot;
            let live: Vec<u32> = (0..snapshot.places()).filter(|&place| !snapshot.is_dead(place)).collect();
            let x: Vec<f32> = live
                .iter()
                .flat_map(|&place| fixture.vectors[place as usize * fixture.dim..][..fixture.dim].to_vec())
                .collect();
            let z: Vec<f32> = live.iter().flat_map(|&place| snapshot.position(place).to_vec()).collect();
            let ours = trustworthiness(snapshot, &live, 7, &|| false).expect("scores");
            let mean = ours.iter().sum::<f64>() / live.len() as f64;
            let whole = lowland_engine::evaluate::trustworthiness(&x, fixture.dim, &z, snapshot.n_components(), 7)
                .expect("a score");
            assert!((mean - whole).abs() < 1e-6, "{mean} and {whole}");
        }
    }

    #[test]
    fn a_stop_and_a_small_model() {
        let fixture = Rows::default().build();
        assert!(trustworthiness(&fixture.snapshot, &[1, 2], 7, &|| true).is_err());
        assert_eq!(trustworthiness(&fixture.snapshot, &[1, 2], 200, &|| false).expect("scores"), [1.0, 1.0]);
    }
}
