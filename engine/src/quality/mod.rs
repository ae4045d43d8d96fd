//! The quality stage: scores how well the map preserves the data's structure, on a sample of rows.
//!
//! Every sample row is compared with *all* rows, in the data and in the map, in tiles, so that the scores are
//! exact for the sample's rows: trustworthiness as scikit-learn defines it (Venna, Kaski 2001), the share of
//! the true neighbours that are preserved, and the share of random triplets whose order is preserved.
//!
//! A run's report has the scores:
//!
//! ```
//! # use std::sync::Arc;
//! # use lowland_engine::{Config, Inputs, embed};
//! # use lowland_io::{MemorySource, RunDir};
//! # let place = tempfile::tempdir()?;
//! # let rows: Vec<f32> = (0..600 * 8).map(|i| ((i * 7919 % 1009) as f32).sin()).collect();
//! # let inputs = Inputs { source: Some(Arc::new(MemorySource::from_vec("rows", rows, 8)?)), ..Inputs::default() };
//! # let plan = Config { n_epochs: Some(10), threads: Some(1), ..Config::default() }.plan(&inputs.describe()?)?;
//! # let (run, _) = RunDir::open(place.path().join("run"), plan.identity(), Vec::new())?;
//! # let mut map = Vec::new();
//! # let report = embed(&plan, &inputs, &run, &mut map, &())?;
//! let quality = report.quality.expect("scores");
//! assert_eq!((quality.k, quality.sample_rows), (15, 600));
//! assert!(quality.preservation.mean > 0.0 && quality.preservation.mean <= 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chance;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::budget::MemoryNeeds;
use crate::distances::{PackedQueries, PackedRows, squared_distance};
use crate::evaluate::{self, MapPoints, RankCounts, mean_and_interval};
use crate::index::{InvertedLists, table_bytes};
use crate::neighbors::{MAX_QUERIES, SegmentTable, TieBreaker, TruthSample, each_portion, sweep_bytes};
use crate::observe::Progress;
use crate::plan::Plan;
use crate::positions::{POSITIONS, Positions, map_bytes};
use crate::work::StageContext;

use chance::warn_of_chance;

pub use crate::evaluate::Score;

/// Number of triplets drawn for each sample row.
pub(crate) const TRIPLETS: usize = 10;

/// The map's scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Number of neighbours that the scores use.
    pub k: usize,
    /// Number of rows in the sample.
    pub sample_rows: usize,
    /// Trustworthiness: 1 if no rows are neighbours in the map that are not neighbours in the data. `None`
    /// without vectors.
    pub trustworthiness: Option<Score>,
    /// Share of the true neighbours that are neighbours in the map.
    pub preservation: Score,
    /// Share of random triplets (i, j, l) in which the same of j and l is nearer to i in the data and in the
    /// map. `None` without vectors.
    pub triplets: Option<Score>,
}

/// Scores the run's positions (in list order) against the sample's exact neighbours, and against the vectors if
/// there are any.
pub fn score(
    plan: &Plan,
    lists: Option<&InvertedLists>,
    truth: &TruthSample,
    work: &StageContext<'_>,
) -> Result<Quality> {
    let (width, progress) = (plan.settings.n_components, work.progress);
    let _held = work.reserve(&needs(plan), "score")?;
    // Every sample row is compared with all positions, which are therefore kept in memory.
    let positions = Positions::open(&work.path(POSITIONS), plan.shape.rows, width)?;
    let map = MapPoints::from_rows(positions.values()?, width);
    let n = map.rows();
    // The formula of trustworthiness holds for k < n / 2.
    let longest = truth.neighbors.iter().map(Vec::len).max().unwrap_or(0);
    let k = longest.min(plan.scored_neighbors()).min((n - 1) / 2).max(1);
    let ties = TieBreaker::new(plan.settings.seed);
    let near = truth
        .rows
        .par_iter()
        .map(|&row| {
            progress.check()?;
            Ok(map.nearest(row, k, None, ties))
        })
        .collect::<Result<Vec<Vec<u32>>>>()?;
    let (mut rank_counts, mut triplets) = (None, None);
    if let Some(lists) = lists {
        if has_trustworthiness(n, k) {
            rank_counts = Some(ranks(plan, lists, truth, &near, progress)?);
        }
        let rows = &truth.rows;
        let kept = evaluate::triplets(rows.len(), TRIPLETS, plan.settings.seed, |i, j, l| {
            let own = lists.row(rows[i])?;
            let data = squared_distance(own, lists.row(rows[j])?) < squared_distance(own, lists.row(rows[l])?);
            let here = |other: usize| map.squared(rows[i] as usize, rows[other] as usize);
            Ok(data == (here(j) < here(l)))
        })?;
        triplets = Some(kept);
    }
    Compared { k, truth: &truth.neighbors, near: &near, rank_counts, triplets }.score(plan.shape.rows, progress)
}

/// Returns whether trustworthiness is defined for `n` rows: with two rows, no neighbour can be wrong.
fn has_trustworthiness(n: usize, k: usize) -> bool {
    2 * n > 3 * k + 1
}

/// A sample of rows whose neighbours in the data and in the map are known.
pub(crate) struct Compared<'a> {
    /// Number of neighbours that the scores use.
    pub(crate) k: usize,
    /// The nearest rows in the data of each row of the sample, with their distances.
    pub(crate) truth: &'a [Vec<(f32, u32)>],
    /// The nearest rows in the map of each row of the sample.
    pub(crate) near: &'a [Vec<u32>],
    /// How many rows are nearer in the data than each neighbour in the map.
    pub(crate) rank_counts: Option<Vec<RankCounts>>,
    /// The share of triplets of each row of the sample whose order is preserved.
    pub(crate) triplets: Option<Vec<f64>>,
}

impl Compared<'_> {
    /// Returns the scores of a map of `rows` rows, and warns if they are no better than chance.
    pub(crate) fn score(self, rows: u64, progress: &Progress<'_>) -> Result<Quality> {
        let Compared { k, truth, near, rank_counts, triplets } = self;
        let rank_counts = rank_counts.filter(|_| has_trustworthiness(rows as usize, k));
        let quality = Quality {
            k,
            sample_rows: near.len(),
            trustworthiness: rank_counts
                .map(|rank_counts| mean_and_interval(&evaluate::rank_scores(&rank_counts, k, rows)).into()),
            preservation: mean_and_interval(&evaluate::preservation(truth, near, k)).into(),
            triplets: triplets.map(|kept| mean_and_interval(&kept).into()),
        };
        warn_of_chance(rows, &quality, progress)?;
        Ok(quality)
    }
}

/// Counts, for each sample row and each of its neighbours in the map, how many rows are nearer in the data.
fn ranks(
    plan: &Plan,
    lists: &InvertedLists,
    truth: &TruthSample,
    near: &[Vec<u32>],
    progress: &Progress<'_>,
) -> Result<Vec<RankCounts>> {
    struct Ranking<'a> {
        rows: &'a [u32],
        vectors: Vec<f32>,
        rank_counts: Vec<RankCounts>,
        queries: PackedQueries,
    }
    let (segments, dim) = (SegmentTable::of_index(lists, plan.index.exact)?, plan.shape.dim);
    let mut rankings = truth
        .rows
        .chunks(MAX_QUERIES)
        .zip(near.chunks(MAX_QUERIES))
        .map(|(rows, near)| {
            let mut vectors = Vec::with_capacity(rows.len() * dim);
            for &row in rows {
                vectors.extend_from_slice(lists.row(row)?);
            }
            let rank_counts = vectors
                .chunks_exact(dim)
                .zip(near)
                .map(|(own, near)| {
                    let far = |&other: &u32| Ok(squared_distance(own, lists.row(other)?));
                    Ok(RankCounts::new(near.iter().map(far).collect::<Result<_>>()?))
                })
                .collect::<Result<Vec<RankCounts>>>()?;
            Ok(Ranking { rows, vectors, rank_counts, queries: PackedQueries::default() })
        })
        .collect::<Result<Vec<_>>>()?;
    let all: Vec<u32> = (0..segments.count() as u32).collect();
    each_portion::<PackedRows>(&segments, &all, plan.neighbors.portion_rows, progress, |portion| {
        rankings.par_iter_mut().for_each(|Ranking { rows, vectors, rank_counts, queries }| {
            for loaded in portion {
                queries.load(vectors.chunks_exact(dim), segments.center(loaded.segment));
                let half_norms = queries.half_norms();
                let first = segments.range(loaded.segment).start;
                let own = |i: usize| Some(rows[i].checked_sub(first)? as usize);
                evaluate::count_ranks(queries, &half_norms, &loaded.packed, dim, rank_counts, own, |i, at| {
                    squared_distance(&vectors[i * dim..][..dim], &loaded.vectors[at * dim..][..dim])
                });
            }
        });
        progress.advance(portion.iter().map(|loaded| loaded.packed.rows() as u64).sum())
    })?;
    Ok(rankings.into_iter().flat_map(|ranking| ranking.rank_counts).collect())
}

/// Returns the memory that the stage takes.
pub fn needs(plan: &Plan) -> MemoryNeeds {
    let sample = plan.sample_rows() as u64 * (plan.k() as u64 * 32 + 200);
    let counted = plan.threads as u64 * evaluate::rank_count_bytes(MAX_QUERIES);
    let sweep = if plan.shape.dim > 0 { sweep_bytes(plan) + counted } else { 0 };
    MemoryNeeds::default().phase(
        "score",
        [
            ("positions", map_bytes(plan)),
            ("the sample and its ranks", sample + sweep),
            ("lists' centroids", table_bytes(plan)),
        ],
    )
}
