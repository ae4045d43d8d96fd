//! Trustworthiness of sampled rows (Venna and Kaski, 2001): whether their neighbours in the map are near in the data,
//! among all live rows.
//!
//! The nearest rows in the map are found first (`near_in_map.rs`). Then the rows that are nearer in the data than each of
//! them are counted: of up to [`EXACT_ROWS`] rows all; of more rows those in the [`NEAR_LISTS`] lists nearest to the sampled
//! row, and of the rows elsewhere one of so many, which counts for all of these: on 4,000,000 text embeddings that changes
//! the trustworthiness by .0004.
//!
//! What must hold: scores are a pure function of two rows ([`lowland_engine::distances`]), and counts are whole numbers,
//! so that the result does not depend on threads.

use lowland_engine::distances::{LANES, PackedQueries, PackedRows, QUERIES, for_each_tile};
use lowland_engine::index::k_nearest;
use rayon::prelude::*;

use super::near_in_map::{self, nearest_in_map};
use crate::Result;
use crate::snapshot::Snapshot;

/// Places whose vectors are read and packed together.
const PLACES: u32 = 512;
/// The largest number of places of which all are compared with all sampled rows.
const EXACT_ROWS: u32 = 65_536;
/// About the number of places that stand for all others in larger models.
const FAR_ROWS: u32 = 16_384;
/// The number of lists of which all rows are compared with a sampled row.
const NEAR_LISTS: usize = 2;
/// The rows that stand for others are taken in runs of so many places, which are read together.
const RUN: u32 = 8;

/// Returns the bytes that `trustworthiness` of `sampled` rows by `k` neighbours in a model of `lists` lists holds on
/// `threads` threads.
pub(crate) fn bytes(sampled: usize, lists: usize, dim: usize, k: usize, threads: usize) -> u64 {
    let sample = sampled as u64 * (12 * dim as u64 + 24 * k as u64 + 16 * NEAR_LISTS as u64);
    let centroids = PackedRows::bytes(lists, dim) + lists as u64 * 24;
    let thread = PLACES as u64 * 4 * dim as u64
        + PackedRows::bytes(PLACES as usize, dim)
        + sampled as u64 * (4 * dim as u64 + 4 * k as u64);
    sample + centroids + threads as u64 * thread + near_in_map::bytes(sampled, k, threads)
}

/// Returns the trustworthiness of the rows at the live places `sampled`, by `k` neighbours; 1 for all of them if there
/// are not more than 3k + 1 live rows. A rank counts strictly nearer rows. It is estimated where the model has more than
/// 65,536 places.
///
/// # Errors
/// Vectors that cannot be read; [`lowland_engine::Error::Cancelled`] once `stop` returns true.
pub fn trustworthiness(
    snapshot: &Snapshot,
    sampled: &[u32],
    k: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>> {
    let step = match snapshot.places() {
        0..=EXACT_ROWS => 1,
        places => places.div_ceil(FAR_ROWS),
    };
    by_steps(snapshot, sampled, k, step, NEAR_LISTS, stop)
}

/// Returns the trustworthiness by all rows of the `near` lists nearest to a sampled row, and one of `step` of the others.
fn by_steps(
    snapshot: &Snapshot,
    sampled: &[u32],
    k: usize,
    step: u32,
    near: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>> {
    let (dim, rows) = (snapshot.dim(), snapshot.live() as usize);
    if rows <= 3 * k + 1 || k == 0 || sampled.is_empty() {
        return Ok(vec![1.0; sampled.len()]);
    }
    let check = || match stop() {
        true => Err(lowland_engine::Error::Cancelled { stage: "quality" }.into()),
        false => Ok(()),
    };
    let mut vectors = vec![0.0; sampled.len() * dim];
    for (&place, to) in sampled.iter().zip(vectors.chunks_exact_mut(dim)) {
        snapshot.read_vector(place, to)?;
    }
    // A row, and not a centroid, which may lie far from the rows.
    let center = vectors.get(..dim).map_or_else(|| vec![0.0; dim], <[f32]>::to_vec);
    // The scores of the k nearest rows in the map, for each sampled row.
    let limits: Vec<Vec<f32>> = nearest_in_map(snapshot, sampled, k, &check)?
        .par_iter()
        .zip(vectors.par_chunks_exact(dim))
        .map(|(places, vector)| scores_of(snapshot, places, vector, &center))
        .collect::<Result<_>>()?;
    let sample = Sample {
        snapshot,
        sampled,
        k,
        near: if step > 1 { nearest_lists(snapshot, &vectors, near) } else { vec![Vec::new(); sampled.len()] },
        most: limits.iter().map(|limits| limits.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect(),
        limits,
        vectors,
        center,
    };
    let mut nearer = sample.count_far(step, &check)?;
    if step > 1 {
        nearer.iter_mut().zip(sample.count_near(&check)?).for_each(|(far, near)| *far = far.saturating_add(near));
    }
    let norm = 2.0 / (k as f64 * (2.0 * rows as f64 - 3.0 * k as f64 - 1.0));
    Ok(nearer.chunks_exact(k).map(|nearer| 1.0 - norm * penalty(nearer, k, rows)).collect())
}

/// Returns the sum of the ranks beyond k of a row's neighbours, of each of which so many of `rows` rows are nearer.
fn penalty(nearer: &[u32], k: usize, rows: usize) -> f64 {
    // An estimated rank may be beyond the last.
    nearer.iter().map(|&nearer| (nearer as usize + 1).min(rows - 1).saturating_sub(k) as f64).sum()
}

/// Returns the `count` lists with the nearest centroids of each vector, ascending by number.
fn nearest_lists(snapshot: &Snapshot, vectors: &[f32], count: usize) -> Vec<Vec<u32>> {
    let (dim, count) = (snapshot.dim(), count.min(snapshot.lists()).max(1));
    let center = &snapshot.centroids()[..dim];
    let mut centroids = PackedRows::default();
    centroids.load(snapshot.centroids().chunks_exact(dim), center);
    let near: Vec<Vec<Vec<u32>>> = vectors
        .par_chunks(PLACES as usize * dim)
        .map(|vectors| {
            let mut queries = PackedQueries::default();
            queries.load(vectors.chunks_exact(dim), center);
            let lists = |near: Vec<(f32, u32)>| {
                let mut lists: Vec<u32> = near.into_iter().map(|(_, list)| list).collect();
                lists.sort_unstable();
                lists
            };
            k_nearest(&queries, &centroids, count).into_iter().map(lists).collect()
        })
        .collect();
    near.into_iter().flatten().collect()
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

/// The sampled rows, and what is counted for them.
struct Sample<'a> {
    snapshot: &'a Snapshot,
    sampled: &'a [u32],
    k: usize,
    /// The lists of which all rows are counted by [`count_near`](Self::count_near), of each sampled row, ascending.
    near: Vec<Vec<u32>>,
    /// The scores of the k nearest rows in the map, and the largest of them.
    limits: Vec<Vec<f32>>,
    most: Vec<f32>,
    /// sampled rows × components.
    vectors: Vec<f32>,
    center: Vec<f32>,
}

/// Numbers of rows that are nearer than each neighbour in the map: sampled rows × k.
type Counts = Vec<u32>;

/// The reusable memory of a thread.
#[derive(Default)]
struct Scratch {
    places: Vec<u32>,
    values: Vec<f32>,
    rows: PackedRows,
    queries: PackedQueries,
}

impl Sample<'_> {
    /// Counts one of `step` rows `step` times, without those in the near lists of a sampled row.
    fn count_far(&self, step: u32, check: &(dyn Fn() -> Result<()> + Sync)) -> Result<Counts> {
        let places = self.snapshot.places();
        let mut queries = PackedQueries::default();
        queries.load(self.vectors.chunks_exact(self.snapshot.dim()), &self.center);
        let all: Vec<u32> = (0..self.sampled.len() as u32).collect();
        (0..places.div_ceil(PLACES * step))
            .into_par_iter()
            .map(|portion| portion * PLACES * step..(portion + 1).saturating_mul(PLACES * step).min(places))
            .try_fold(
                || (self.zero(), Scratch::default()),
                |(mut counts, mut scratch), range| {
                    check()?;
                    self.read(range.filter(|place| (place / RUN).is_multiple_of(step)), &mut scratch)?;
                    let Scratch { places, rows, .. } = &scratch;
                    let is_far = |row: usize, place: u32| {
                        let near = &self.near[row];
                        near.is_empty() || near.binary_search(&self.snapshot.list_of(place)).is_err()
                    };
                    self.count((&all, &queries), (places, rows), step, is_far, &mut counts);
                    Ok::<_, crate::Error>((counts, scratch))
                },
            )
            .map(|done| done.map(|(counts, _)| counts))
            .try_reduce(|| self.zero(), |a, b| Ok(sum(a, b)))
    }

    /// Counts all rows in the near lists of a sampled row.
    fn count_near(&self, check: &(dyn Fn() -> Result<()> + Sync)) -> Result<Counts> {
        let (snapshot, dim) = (self.snapshot, self.snapshot.dim());
        let mut visitors = vec![Vec::new(); snapshot.lists()];
        for (row, lists) in self.near.iter().enumerate() {
            lists.iter().for_each(|&list| visitors[list as usize].push(row as u32));
        }
        (0..snapshot.lists() as u32)
            .into_par_iter()
            .filter(|&list| !visitors[list as usize].is_empty())
            .try_fold(
                || (self.zero(), Scratch::default()),
                |(mut counts, mut scratch), list| {
                    let visitors = &visitors[list as usize];
                    let of = |&row: &u32| &self.vectors[row as usize * dim..][..dim];
                    scratch.queries.load(visitors.iter().map(of), &self.center);
                    let members = || snapshot.base_range(list).chain(snapshot.delta_of(list).iter().copied());
                    let (count, mut from) = (members().count(), 0);
                    while from < count {
                        check()?;
                        self.read(members().skip(from).take(PLACES as usize), &mut scratch)?;
                        let Scratch { places, rows, queries, .. } = &scratch;
                        self.count((visitors, queries), (places, rows), 1, |_, _| true, &mut counts);
                        from += PLACES as usize;
                    }
                    Ok::<_, crate::Error>((counts, scratch))
                },
            )
            .map(|done| done.map(|(counts, _)| counts))
            .try_reduce(|| self.zero(), |a, b| Ok(sum(a, b)))
    }

    fn zero(&self) -> Counts {
        vec![0; self.sampled.len() * self.k]
    }

    /// Reads and packs the live rows among `places`, which ascend.
    fn read(&self, places: impl Iterator<Item = u32>, scratch: &mut Scratch) -> Result<()> {
        let dim = self.snapshot.dim();
        let Scratch { places: live, values, rows, .. } = scratch;
        live.clear();
        live.extend(places.filter(|&place| !self.snapshot.is_dead(place)));
        values.resize(live.len() * dim, 0.0);
        let mut done = 0;
        // Rows that follow each other are read by one call.
        for run in live.chunk_by(|a, b| a + 1 == *b) {
            let to = &mut values[done * dim..][..run.len() * dim];
            self.snapshot.read_vectors(run[0]..run[0] + run.len() as u32, to)?;
            done += run.len();
        }
        rows.load(values.chunks_exact(dim), &self.center);
        Ok(())
    }

    /// Adds `weight` for each of the packed rows that is nearer to a query than a neighbour in its map, where `counts_for`
    /// (sampled row, place) holds. `queries` are the numbers of sampled rows with their packed vectors.
    fn count(
        &self,
        (queries, packed): (&[u32], &PackedQueries),
        (places, rows): (&[u32], &PackedRows),
        weight: u32,
        counts_for: impl Fn(usize, u32) -> bool,
        counts: &mut Counts,
    ) {
        let k = self.k;
        for_each_tile(packed, rows, |group, block, tile| {
            for (&query, scores) in queries[group * QUERIES..].iter().zip(tile) {
                let query = query as usize;
                let most = self.most[query];
                // Almost all rows are farther than all neighbours in the map.
                if scores.iter().fold(false, |any, &score| any | (score < most)) {
                    for (&place, &score) in places[block * LANES..].iter().zip(scores) {
                        if score < most && place != self.sampled[query] && counts_for(query, place) {
                            let counts = &mut counts[query * k..][..k];
                            for (count, &limit) in counts.iter_mut().zip(&self.limits[query]) {
                                *count = count.saturating_add(weight * u32::from(score < limit));
                            }
                        }
                    }
                }
            }
        });
    }
}

fn sum(mut a: Counts, b: Counts) -> Counts {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = a.saturating_add(b));
    a
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

    #[test]
    fn near_lists_and_a_part_of_the_others_estimate_it() {
        let fixture = Rows::default().build();
        let snapshot = &fixture.snapshot;
        let live: Vec<u32> = (0..snapshot.places()).filter(|&place| !snapshot.is_dead(place)).collect();
        let mean = |step, near| {
            let found = by_steps(snapshot, &live, 7, step, near, &|| false).expect("scores");
            (found.iter().sum::<f64>() / live.len() as f64, found)
        };
        let (exact, of_all) = mean(1, 0);
        // All lists are near: everything is counted once.
        assert_eq!(mean(5, snapshot.lists()).1, of_all);
        let (estimate, _) = mean(5, 4);
        assert!(estimate != exact && (estimate - exact).abs() < 0.02, "{estimate} of {exact}");
    }
}
