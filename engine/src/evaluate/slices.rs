//! The scores for data and maps in memory: all rows, each against all others.
//!
//! `x` is the data, rows × `dim`, and `z` the map, rows × `n_components`, both row-major. Memory
//! beside them is what [`super::needs`] counts for a sample of all rows.
//!
//! Of equally near rows, a hash decides which are the k nearest, the same one in every call.
//!
//! Errors: [`Error::Config`] or [`Error::Data`] for lengths that do not match, for numbers that are
//! not finite, and for too many neighbours.

use std::collections::HashMap;

use rayon::prelude::*;

use super::neighborhoods::{label_agreement, preservation, rank_scores, row_recall};
use super::points::{MapPoints, RankCounts, UNLABELED};
use super::sample_sweep::{RequestedPairs, RowSlice, SampleQueries};
use super::silhouette::{LabelWeights, Singletons, coefficients};
use super::{clusters, distance_order};
use crate::distances::squared_distance;
use crate::neighbors::TieBreaker;
use crate::observe::Progress;
use crate::score::mean_and_interval;
use crate::{Error, Result};

/// The seed of the hash that breaks ties: the default seed of every command.
const SEED: u64 = 42;

/// Computes trustworthiness: 1 − 2 / (n k (2n − 3k − 1)) · Σᵢ Σ_{j ∈ M(i)} max(0, r(i, j) − k),
/// where M(i) are the k nearest to i in the map and r is the rank in the data (Venna, Kaski 2001).
/// From 0 to 1; 1 if no row that is far in the data is near in the map. As in scikit-learn, except
/// that equally far rows do not count as nearer. `n_neighbors` must be below half of the rows.
pub fn trustworthiness(x: &[f32], dim: usize, z: &[f32], n_components: usize, n_neighbors: usize) -> Result<f64> {
    let both = DataAndMap::new(x, dim, z, n_components)?;
    let k = both.neighbors(n_neighbors)?;
    let near = nearest(&both.points, &both.rows, k, None);
    let sample = SampleQueries::new(&both.rows, x, dim);
    let steps = |(&row, near): (&u32, &Vec<u32>)| {
        let own = sample.vector(row as usize);
        RankCounts::new(near.iter().map(|&other| squared_distance(own, sample.vector(other as usize))).collect())
    };
    let mut rank_counts: Vec<RankCounts> = both.rows.par_iter().zip(&near).map(steps).collect();
    sample.count_ranks(&mut rank_counts, &RowSlice { values: x, dim })?;
    Ok(mean_and_interval(&rank_scores(&rank_counts, k, both.rows.len() as u64)).0)
}

/// Computes continuity: trustworthiness with the data and the map exchanged. 1 if no row that is
/// near in the data is far in the map.
pub fn continuity(x: &[f32], dim: usize, z: &[f32], n_components: usize, n_neighbors: usize) -> Result<f64> {
    let both = DataAndMap::new(x, dim, z, n_components)?;
    let k = both.neighbors(n_neighbors)?;
    let near = both.nearest_in_data(x, dim, k)?;
    let count =
        |(&row, near): (&u32, &Vec<(f32, u32)>)| both.points.rank_counts(row, near.iter().map(|&(_, other)| other));
    let rank_counts: Vec<RankCounts> = both.rows.par_iter().zip(&near).map(count).collect();
    Ok(mean_and_interval(&rank_scores(&rank_counts, k, both.rows.len() as u64)).0)
}

/// Computes the mean share of the k nearest rows in the data that are among the k nearest in the
/// map.
pub fn neighborhood_preservation(
    x: &[f32],
    dim: usize,
    z: &[f32],
    n_components: usize,
    n_neighbors: usize,
) -> Result<f64> {
    let both = DataAndMap::new(x, dim, z, n_components)?;
    let k = check_neighbor_count(both.rows.len(), n_neighbors)?;
    let data = both.nearest_in_data(x, dim, k)?;
    let map = nearest(&both.points, &both.rows, k, None);
    Ok(mean_and_interval(&preservation(&data, &map, k)).0)
}

/// Computes the mean recall of a graph. `neighbors` is rows × k, row-major, with row numbers, and
/// `u32::MAX` for a missing neighbour. A neighbour counts if it is as near as the k-th true
/// neighbour. A row's own number does not count, and reduces the row's k by one.
pub fn recall(x: &[f32], dim: usize, neighbors: &[u32], k: usize) -> Result<f64> {
    let rows = check_table("the data", x, dim)?;
    let count = rows.len();
    if k == 0 || neighbors.len() != count * k {
        let what = format!("{} neighbours for {count} rows of {k}", neighbors.len());
        return Err(Error::Data { what });
    }
    if let Some(at) = neighbors.iter().position(|&other| other != u32::MAX && other as usize >= count) {
        let what = format!("row {}: neighbour {} of {count} rows", at / k, neighbors[at]);
        return Err(Error::Data { what });
    }
    let sample = SampleQueries::new(&rows, x, dim);
    let most = k.min(count.saturating_sub(1));
    let truth =
        sample.nearest(most, &mut RequestedPairs::default(), TieBreaker::new(SEED), &RowSlice { values: x, dim })?;
    let score = |row: usize| {
        let (others, places) = listed_neighbors(row as u32, &neighbors[row * k..][..k]);
        let far = others.iter().map(|&other| squared_distance(sample.vector(row), sample.vector(other as usize)));
        row_recall(far, &truth[row], places)
    };
    let scores: Vec<f64> = (0..count).into_par_iter().map(score).collect();
    Ok(mean_and_interval(&scores).0)
}

/// Returns the other rows in a row's list, each once, and the number of list entries for other
/// rows.
pub(super) fn listed_neighbors(row: u32, listed: &[u32]) -> (Vec<u32>, usize) {
    let mut others: Vec<u32> = listed.iter().copied().filter(|&other| other != row && other != u32::MAX).collect();
    others.sort_unstable();
    others.dedup();
    (others, listed.len() - usize::from(listed.contains(&row)))
}

/// Computes the mean share of a row's k map neighbours that have the row's label. Rows with the
/// label [`UNLABELED`] are ignored.
pub fn label_accuracy(z: &[f32], n_components: usize, labels: &[u32], n_neighbors: usize) -> Result<f64> {
    let labeled = LabeledMap::new(z, n_components, labels)?;
    let k = check_neighbor_count(labeled.rows.len(), n_neighbors)?;
    let near = nearest(&labeled.points, &labeled.rows, k, Some(&labeled.codes));
    Ok(mean_and_interval(&label_agreement(&labeled.rows, &near, &labeled.codes)).0)
}

/// Computes the silhouette coefficient of each row that has a label, in order: (b − a) / max(a, b),
/// where a is the mean distance to the other rows of the same label, and b the smallest mean
/// distance to another label (Rousseeuw 1987). With `weights`, one non-negative number for each
/// row, the means are weighted.
pub fn silhouette_samples(
    z: &[f32],
    n_components: usize,
    labels: &[u32],
    weights: Option<&[f32]>,
    singletons: Singletons,
) -> Result<Vec<f64>> {
    let labeled = LabeledMap::new(z, n_components, labels)?;
    if let Some(weights) = weights {
        if weights.len() != labels.len() {
            return Err(Error::Data { what: format!("{} weights for {} rows", weights.len(), labels.len()) });
        }
        if let Some(row) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            return Err(Error::Data { what: format!("row {row}: a weight of {}", weights[row]) });
        }
    }
    let masses = LabelWeights::new(&labeled.codes, labeled.count, weights);
    if masses.present() < 2 {
        return Err(Error::Data { what: "a silhouette needs at least two labels".into() });
    }
    let LabeledMap { points, rows, codes, .. } = &labeled;
    coefficients(points, codes, &masses, weights, singletons, rows, &Progress::silent())
}

/// Computes the mean of [`silhouette_samples`].
pub fn silhouette_score(
    z: &[f32],
    n_components: usize,
    labels: &[u32],
    weights: Option<&[f32]>,
    singletons: Singletons,
) -> Result<f64> {
    Ok(mean_and_interval(&silhouette_samples(z, n_components, labels, weights, singletons)?).0)
}

/// Returns the cluster of each row of `z` by k-means: Lloyd's algorithm from greedy k-means++
/// centroids, which are computed from a sample of 256 rows per cluster if there are more.
pub fn kmeans(z: &[f32], n_components: usize, n_clusters: usize, seed: u64) -> Result<Vec<u32>> {
    check_table("the map", z, n_components)?;
    if n_clusters == 0 || n_clusters > clusters::MAX_CLUSTERS {
        let why = format!("{n_clusters} is not between 1 and {}", clusters::MAX_CLUSTERS);
        return Err(Error::Config { field: "n_clusters", why });
    }
    clusters::kmeans(&MapPoints::from_rows(z, n_components), None, n_clusters, seed, &Progress::silent())
}

/// Computes the adjusted Rand index between the labels and as many [`kmeans`] clusters as there are
/// labels.
pub fn kmeans_ari(z: &[f32], n_components: usize, labels: &[u32], seed: u64) -> Result<f64> {
    let labeled = LabeledMap::new(z, n_components, labels)?;
    let (count, most) = (labeled.count, clusters::MAX_CLUSTERS);
    if count > most {
        return Err(Error::Data { what: format!("{count} labels; k-means supports at most {most} clusters") });
    }
    let found = clusters::kmeans(&labeled.points, Some(&labeled.codes), count.max(1), seed, &Progress::silent())?;
    Ok(clusters::adjusted_rand_score(&found, &labeled.codes))
}

/// Computes the share of random triplets (i, j, l) for which the nearer of j and l to i is the same
/// in the data and in the map. 50 triplets for each row, or more for fewer than 1,000 rows: about
/// 50,000 together, at most 1,000 for each row.
pub fn triplet_accuracy(x: &[f32], dim: usize, z: &[f32], n_components: usize, seed: u64) -> Result<f64> {
    let DataAndMap { points, rows } = DataAndMap::new(x, dim, z, n_components)?;
    let vector = |row: usize| &x[row * dim..][..dim];
    let scores = distance_order::triplets(rows.len(), triplets_per_row(rows.len()).max(50), seed, |i, j, l| {
        let data = squared_distance(vector(i), vector(j)) < squared_distance(vector(i), vector(l));
        Ok(data == (points.squared(i, j) < points.squared(i, l)))
    })?;
    if scores.is_empty() {
        return Err(Error::Data { what: format!("{} rows are too few for a triplet", rows.len()) });
    }
    Ok(mean_and_interval(&scores).0)
}

/// Returns the number of triplets drawn for each of `rows` rows.
pub(super) fn triplets_per_row(rows: usize) -> usize {
    (50_000 / rows.max(1)).clamp(10, 1_000)
}

/// Computes Spearman's rank correlation of the distances in the data and in the map: over all pairs
/// of up to 1,000 rows, else over 500,000 random pairs. `None` if all distances are equal.
pub fn distance_spearman(x: &[f32], dim: usize, z: &[f32], n_components: usize, seed: u64) -> Result<Option<f64>> {
    let DataAndMap { points, rows } = DataAndMap::new(x, dim, z, n_components)?;
    let vector = |row: usize| &x[row * dim..][..dim];
    let distances = |i, j| (squared_distance(vector(i), vector(j)), points.squared(i, j));
    Ok(distance_order::correlation(rows.len(), rows.len() as u64, seed, distances).map(|found| found.value))
}

/// The data and the map of the same rows.
struct DataAndMap {
    points: MapPoints,
    rows: Vec<u32>,
}

impl DataAndMap {
    fn new(x: &[f32], dim: usize, z: &[f32], n_components: usize) -> Result<Self> {
        let (data, rows) = (check_table("the data", x, dim)?, check_table("the map", z, n_components)?);
        if data.len() != rows.len() {
            return Err(Error::Data { what: format!("the map has {} rows, the data {}", rows.len(), data.len()) });
        }
        Ok(DataAndMap { points: MapPoints::from_rows(z, n_components), rows })
    }

    fn neighbors(&self, k: usize) -> Result<usize> {
        let most = self.rows.len().saturating_sub(1) / 2;
        if k == 0 || k > most {
            let why = format!("{k} neighbours for {} rows; give from 1 to {most}", self.rows.len());
            return Err(Error::Config { field: "n_neighbors", why });
        }
        Ok(k)
    }

    fn nearest_in_data(&self, x: &[f32], dim: usize, k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let rows = RowSlice { values: x, dim };
        SampleQueries::new(&self.rows, x, dim).nearest(k, &mut RequestedPairs::default(), TieBreaker::new(SEED), &rows)
    }
}

/// A map and the label codes of its rows, numbered from 0.
struct LabeledMap {
    points: MapPoints,
    codes: Vec<u32>,
    count: usize,
    /// The rows that have a label.
    rows: Vec<u32>,
}

impl LabeledMap {
    fn new(z: &[f32], n_components: usize, labels: &[u32]) -> Result<Self> {
        let rows = check_table("the map", z, n_components)?;
        if rows.len() != labels.len() {
            return Err(Error::Data { what: format!("{} labels for {} rows", labels.len(), rows.len()) });
        }
        let mut seen = HashMap::new();
        let mut code = |&label: &u32| match label {
            UNLABELED => UNLABELED,
            label => {
                let next = seen.len() as u32;
                *seen.entry(label).or_insert(next)
            }
        };
        let codes: Vec<u32> = labels.iter().map(&mut code).collect();
        let rows = rows.into_iter().filter(|&row| codes[row as usize] != UNLABELED).collect();
        Ok(LabeledMap { points: MapPoints::from_rows(z, n_components), count: seen.len(), codes, rows })
    }
}

fn check_neighbor_count(rows: usize, k: usize) -> Result<usize> {
    if k == 0 || k >= rows {
        let why = format!("{k} neighbours for {rows} rows; give from 1 to {}", rows.saturating_sub(1));
        return Err(Error::Config { field: "n_neighbors", why });
    }
    Ok(k)
}

/// Returns the row numbers, after checking that the values are whole rows of finite numbers.
fn check_table(what: &str, values: &[f32], width: usize) -> Result<Vec<u32>> {
    if width == 0 || !values.len().is_multiple_of(width) {
        return Err(Error::Data {
            what: format!("{what}: {} numbers are not a whole number of rows of {width}", values.len()),
        });
    }
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        let what = format!("{what}: row {}, component {} is {}", at / width, at % width, values[at]);
        return Err(Error::Data { what });
    }
    let rows = u32::try_from(values.len() / width).ok().filter(|&rows| rows < u32::MAX);
    let rows = rows.ok_or_else(|| Error::Data { what: format!("{what}: more than {} rows", u32::MAX - 1) })?;
    Ok((0..rows).collect())
}

/// Returns, for each of `rows`, the `k` rows nearest in the map.
fn nearest(points: &MapPoints, rows: &[u32], k: usize, among: Option<&[u32]>) -> Vec<Vec<u32>> {
    rows.par_iter().map(|&row| points.nearest(row, k, among, TieBreaker::new(SEED))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    fn random(rows: usize, dim: usize, stream: u64) -> Vec<f32> {
        (0..rows * dim).map(|i| unit(2, stream, i as u64)).collect()
    }

    /// The silhouette tests of TorchDR's test suite.
    #[test]
    fn silhouettes_of_singletons_and_of_equidistant_points() {
        let mut z = vec![0f32; 100];
        (0..10).for_each(|i| z[i * 11] = 1.0);
        let (alone, pairs): (Vec<u32>, Vec<u32>) = ((0..10).collect(), (0..10).map(|i| i / 2).collect());
        let even = [0.1f32; 10];
        for weights in [None, Some(&even[..])] {
            let samples = |labels, singletons| silhouette_samples(&z, 10, labels, weights, singletons);
            assert_eq!(samples(&alone, Singletons::One).expect("scores"), [1.0; 10]);
            assert_eq!(samples(&alone, Singletons::Zero).expect("scores"), [0.0; 10]);
            assert!(samples(&pairs, Singletons::Zero).expect("scores").iter().all(|s| s.abs() < 1e-6));
        }
    }

    #[test]
    fn silhouette_weight_equals_repeated_rows() {
        let z = random(60, 2, 1);
        let labels: Vec<u32> = (0..60).map(|row| row % 3).collect();
        let of = |weights| silhouette_samples(&z, 2, &labels, weights, Singletons::Zero).expect("scores");
        let plain = of(None);
        let even = of(Some(&[0.25; 60]));
        assert!(plain.iter().zip(&even).all(|(a, b)| (a - b).abs() < 1e-12));
        // For the other rows, a row of weight 0 counts as absent.
        let mut weights = [1f32; 60];
        weights[5] = 0.0;
        let mut without = labels.clone();
        without[5] = UNLABELED;
        let mut weighted = of(Some(&weights));
        weighted.remove(5);
        let left = silhouette_samples(&z, 2, &without, None, Singletons::Zero).expect("scores");
        assert!(weighted.iter().zip(&left).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn identical_map_scores_perfectly() {
        let x = random(300, 5, 3);
        assert_eq!(trustworthiness(&x, 5, &x, 5, 10).expect("a score"), 1.0);
        assert_eq!(continuity(&x, 5, &x, 5, 10).expect("a score"), 1.0);
        assert_eq!(neighborhood_preservation(&x, 5, &x, 5, 10).expect("a score"), 1.0);
        assert_eq!(triplet_accuracy(&x, 5, &x, 5, 1).expect("a score"), 1.0);
        assert!(distance_spearman(&x, 5, &x, 5, 1).expect("a score").is_some_and(|s| s > 0.999_999));
        // A map that is unrelated to the data preserves little.
        let z = random(300, 2, 4);
        assert!((trustworthiness(&x, 5, &z, 2, 10).expect("a score") - 0.5).abs() < 0.05);
        assert!((continuity(&x, 5, &z, 2, 10).expect("a score") - 0.5).abs() < 0.05);
        assert!(neighborhood_preservation(&x, 5, &z, 2, 10).expect("a score") < 0.1);
        assert!((triplet_accuracy(&x, 5, &z, 2, 1).expect("a score") - 0.5).abs() < 0.02);
        assert!(distance_spearman(&x, 5, &z, 2, 1).expect("a score").is_some_and(|s| s.abs() < 0.06));
    }

    #[test]
    fn equal_points_are_scored() {
        let (x, equal) = (random(50, 3, 5), vec![1.0f32; 100]);
        let labels: Vec<u32> = (0..50).map(|row| row % 4).collect();
        // If all points of the map coincide, all rows are tied, and the nearest are any of them.
        assert!(trustworthiness(&x, 3, &equal, 2, 5).expect("a score") < 0.7);
        assert_eq!(continuity(&x, 3, &equal, 2, 5).expect("a score"), 1.0);
        // If all rows of the data coincide, no row is far.
        assert_eq!(trustworthiness(&[2.0; 150], 3, &equal, 2, 5).expect("a score"), 1.0);
        assert_eq!(distance_spearman(&x, 3, &equal, 2, 1).expect("no score"), None);
        assert_eq!(silhouette_score(&equal, 2, &labels, None, Singletons::Zero).expect("a score"), 0.0);
        assert_eq!(kmeans_ari(&equal, 2, &labels, 1).expect("a score"), 0.0);
        let accuracy = label_accuracy(&equal, 2, &labels, 10).expect("a score");
        assert!((0.1..0.4).contains(&accuracy), "{accuracy}");
    }

    #[test]
    fn separated_clusters_score_high() {
        // The tests of label accuracy, preservation and k-means in TorchDR's test suite.
        let labels: Vec<u32> = (0..150).map(|row| row / 50).collect();
        let mut z = random(150, 10, 6);
        z.chunks_exact_mut(10).zip(&labels).for_each(|(row, &l)| row.iter_mut().for_each(|x| *x += l as f32 * 5.0));
        assert!(label_accuracy(&z, 10, &labels, 10).expect("a score") > 0.95);
        assert!(kmeans_ari(&z, 10, &labels, 3).expect("a score") > 0.8);
        assert_eq!(kmeans(&z, 10, 3, 3).expect("clusters"), kmeans(&z, 10, 3, 3).expect("clusters"));
        assert!(silhouette_score(&z, 10, &labels, None, Singletons::Zero).expect("a score") > 0.7);
        let x = random(30, 5, 7);
        assert_eq!(neighborhood_preservation(&x, 5, &x, 5, 5).expect("a score"), 1.0);
        assert!(neighborhood_preservation(&random(50, 5, 8), 5, &random(50, 2, 9), 2, 10).expect("a score") < 0.5);
        assert!(kmeans_ari(&[0.0, 0.0, 0.1, 0.1, 5.0, 5.0, 5.1, 5.1], 2, &[7, 7, 9, 9], 1).expect("a score") > 0.5);
        // Rows without a label change nothing.
        let (mut more, mut codes) = (z.clone(), labels.clone());
        more.extend_from_slice(&z[..500]);
        codes.extend([UNLABELED; 50]);
        assert_eq!(label_accuracy(&more, 10, &codes, 10).ok(), label_accuracy(&z, 10, &labels, 10).ok());
        assert_eq!(
            silhouette_score(&more, 10, &codes, None, Singletons::Zero).ok(),
            silhouette_score(&z, 10, &labels, None, Singletons::Zero).ok()
        );
        assert_eq!(kmeans_ari(&more, 10, &codes, 3).ok(), kmeans_ari(&z, 10, &labels, 3).ok());
    }

    #[test]
    fn recall_of_a_graph() {
        let line: Vec<f32> = (0..10).map(|i| (i * i) as f32).collect();
        let nearest = [[1, 2], [0, 2], [1, 0], [2, 4], [3, 5], [4, 6], [5, 7], [6, 8], [7, 9], [8, 7]];
        let mut graph: Vec<u32> = nearest.concat();
        assert!(recall(&line, 1, &graph, 2).expect("a score") > 0.9);
        let exact =
            DataAndMap::new(&line, 1, &line, 1).and_then(|both| both.nearest_in_data(&line, 1, 2)).expect("rows");
        graph = exact.iter().flatten().map(|&(_, row)| row).collect();
        assert_eq!(recall(&line, 1, &graph, 2).expect("a score"), 1.0);
        // A list that contains the row itself has one entry less for other rows.
        graph.chunks_exact_mut(2).zip(0..).for_each(|(listed, row)| listed[1] = row);
        assert_eq!(recall(&line, 1, &graph, 2).expect("a score"), 1.0);
        graph.chunks_exact_mut(2).for_each(|listed| listed[1] = listed[0]);
        assert_eq!(recall(&line, 1, &graph, 2).expect("a score"), 0.5);
        graph.fill(u32::MAX);
        assert_eq!(recall(&line, 1, &graph, 2).expect("a score"), 0.0);
        graph[3] = 10;
        let error = recall(&line, 1, &graph, 2).expect_err("no row 10").to_string();
        assert!(error.contains("row 1: neighbour 10 of 10 rows"), "{error}");
    }

    #[test]
    fn invalid_score_inputs_are_refused() {
        let (x, z) = (random(20, 3, 1), random(20, 2, 2));
        let mut broken = z.clone();
        broken[7] = f32::NAN;
        for (error, words) in [
            (trustworthiness(&x, 3, &z, 2, 10).expect_err("half"), "10 neighbours for 20 rows; give from 1 to 9"),
            (trustworthiness(&x, 3, &z, 2, 0).expect_err("none"), "0 neighbours"),
            (neighborhood_preservation(&x, 3, &z, 2, 20).expect_err("all"), "from 1 to 19"),
            (continuity(&x, 3, &broken, 2, 5).expect_err("NaN"), "the map: row 3, component 1 is NaN"),
            (continuity(&x, 7, &z, 2, 5).expect_err("60"), "the data: 60 numbers are not a whole number of rows of 7"),
            (continuity(&x[3..], 3, &z, 2, 5).expect_err("19"), "the map has 20 rows, the data 19"),
            (label_accuracy(&z, 2, &[0; 19], 5).expect_err("19"), "19 labels for 20 rows"),
            (label_accuracy(&z, 2, &[UNLABELED; 20], 5).expect_err("0"), "5 neighbours for 0 rows"),
            (silhouette_score(&z, 2, &[3; 20], None, Singletons::Zero).expect_err("one"), "two labels"),
            (silhouette_score(&z, 2, &[3; 20], Some(&[-1.0; 20]), Singletons::Zero).expect_err("-1"), "weight of -1"),
            (kmeans(&z, 2, 0, 1).expect_err("0"), "n_clusters"),
            (triplet_accuracy(&x[..6], 3, &z[..4], 2, 1).expect_err("2"), "2 rows are too few for a triplet"),
        ] {
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(trustworthiness(&[], 3, &[], 2, 1).is_err());
        assert_eq!(distance_spearman(&[], 3, &[], 2, 1).expect("none"), None);
        assert_eq!(kmeans(&[], 2, 3, 1).expect("none"), [0u32; 0]);
    }
}
