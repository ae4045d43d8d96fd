//! The quality stage: how well the map keeps what the data say, on a sample.
//!
//! Every sample row is compared with *all* rows, in the data and in the map,
//! in tiles, so that the scores are exact for the rows they are taken on:
//! trustworthiness as scikit-learn defines it (Venna, Kaski 2001), the share
//! of the true neighbours kept, and random triplets whose order is kept.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::budget::Needs;
use crate::index::Lists;
use crate::layout::POSITIONS;
use crate::neighbors::kernel::{Packed, QUERIES, Queries, for_each_tile, half_square, squared_distance};
use crate::neighbors::{PANEL, Sample, Segments, Tops, each_portion, sweep_bytes};
use crate::observe::Progress;
use crate::plan::Plan;
use crate::random::below;
use crate::work::Work;
use crate::{Result, init};

/// Triplets drawn for each sample row.
const TRIPLETS: usize = 10;

/// A mean over the sample and half the width of its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The mean.
    pub mean: f64,
    /// 1.96 standard errors.
    pub interval: f64,
}

impl From<(f64, f64)> for Score {
    fn from((mean, interval): (f64, f64)) -> Self {
        Score { mean, interval }
    }
}

/// The map's scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Neighbours that the scores look at.
    pub k: usize,
    /// Rows in the sample.
    pub sample_rows: usize,
    /// 1 where no row is near in the map that is far in the data.
    pub trustworthiness: Option<Score>,
    /// Share of the true neighbours that are neighbours in the map.
    pub preservation: Score,
    /// Share of random triplets (i, j, l) with i's nearer one of j and l the same in both.
    pub triplets: Option<Score>,
}

/// Mean and 1.96 standard errors of `values`, summed in order.
pub fn mean_and_interval(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, 1.96 * (variance / n).sqrt())
}

/// Scores the run's positions (list order) against the sample's exact neighbours, and
/// against the vectors where there are any.
pub fn score(plan: &Plan, lists: Option<&Lists>, truth: &Sample, work: &Work<'_>) -> Result<Quality> {
    let (width, progress) = (plan.config.n_components, work.progress);
    let _held = work.hold(&needs(plan), "score")?;
    // Every sample row is compared with all of them: they had better be in memory.
    let positions = init::Positions::open(&work.path(POSITIONS), plan.shape.rows, width)?.values()?.to_vec();
    let positions = positions.as_slice();
    let n = positions.len() / width;
    // The formula holds for k < n / 2.
    let longest = truth.neighbors.iter().map(Vec::len).max().unwrap_or(0);
    let k = longest.min(plan.scored()).min((n - 1) / 2).max(1);
    let near = truth
        .rows
        .par_iter()
        .map(|&row| {
            progress.check()?;
            Ok(nearest_in_map(positions, width, row, k))
        })
        .collect::<Result<Vec<Vec<u32>>>>()?;

    let preserved: Vec<f64> = near
        .iter()
        .zip(&truth.neighbors)
        .map(|(near, truth)| {
            let truth = &truth[..truth.len().min(k)];
            let kept = truth.iter().filter(|(_, row)| near.contains(row)).count();
            if truth.is_empty() { 1.0 } else { kept as f64 / truth.len() as f64 }
        })
        .collect();
    let mut quality = Quality {
        k,
        sample_rows: truth.rows.len(),
        trustworthiness: None,
        preservation: mean_and_interval(&preserved).into(),
        triplets: None,
    };
    if let Some(lists) = lists {
        // Two rows have no neighbours that could be wrong.
        if 2 * n > 3 * k + 1 {
            quality.trustworthiness = Some(trust(plan, lists, truth, &near, k, n, progress)?);
        }
        quality.triplets = Some(triplets(plan, lists, truth, positions)?);
    }
    Ok(quality)
}

/// The `k` rows nearest to `row` in the map, nearest first.
fn nearest_in_map(positions: &[f32], width: usize, row: u32, k: usize) -> Vec<u32> {
    const LANES: usize = 16;
    let own = &positions[row as usize * width..][..width];
    let mut top = Tops::new(1, k + 1);
    for (chunk, rows) in positions.chunks(LANES * width).enumerate() {
        let mut squares = [f32::INFINITY; LANES];
        for (square, other) in squares.iter_mut().zip(rows.chunks_exact(width)) {
            *square = own.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
        }
        if squares.iter().fold(false, |any, &s| any | (s <= top.threshold(0))) {
            for (lane, &square) in squares.iter().enumerate().take(rows.len() / width) {
                top.offer(0, square, (chunk * LANES + lane) as u32);
            }
        }
    }
    top.sort();
    top.kept(0).map(|(_, other)| other).filter(|&other| other != row).take(k).collect()
}

/// 1 − 2 / (k (2n − 3k − 1)) · Σ (rank − k) over map neighbours that are no
/// neighbours in the data: a row's own sum is its score, and they average.
fn trust(
    plan: &Plan,
    lists: &Lists,
    truth: &Sample,
    near: &[Vec<u32>],
    k: usize,
    n: usize,
    progress: &Progress<'_>,
) -> Result<Score> {
    struct Ranking {
        vectors: Vec<f32>,
        thresholds: Vec<Vec<f32>>,
        nearer: Vec<Vec<u64>>,
        queries: Queries,
    }
    let (segments, dim) = (Segments::all_pairs(lists, plan.index.exact)?, plan.shape.dim);
    let mut rankings = truth
        .rows
        .chunks(PANEL)
        .zip(near.chunks(PANEL))
        .map(|(rows, near)| {
            let mut vectors = Vec::with_capacity(rows.len() * dim);
            for &row in rows {
                vectors.extend_from_slice(lists.row(row)?);
            }
            let thresholds = vectors
                .chunks_exact(dim)
                .zip(near)
                .map(|(own, near)| {
                    // In the kernel's own numbers, so that no row is nearer than itself.
                    near.iter()
                        .map(|&other| {
                            let center = segments.center(segments.segment_of(other) as usize);
                            Ok(half_square(own, lists.row(other)?, center))
                        })
                        .collect()
                })
                .collect::<Result<Vec<Vec<f32>>>>()?;
            let nearer = thresholds.iter().map(|t| vec![0; t.len()]).collect();
            Ok(Ranking { vectors, thresholds, nearer, queries: Queries::default() })
        })
        .collect::<Result<Vec<_>>>()?;
    let all: Vec<u32> = (0..segments.count() as u32).collect();
    each_portion::<Packed>(&segments, &all, plan.neighbors.portion_rows, progress, |portion| {
        rankings.par_iter_mut().for_each(|ranking| {
            for met in portion {
                ranking.queries.load(ranking.vectors.chunks_exact(dim), segments.center(met.segment));
                count_nearer(&ranking.queries, &met.packed, &ranking.thresholds, &mut ranking.nearer);
            }
        });
        progress.advance(portion.iter().map(|met| met.packed.rows() as u64).sum())
    })?;
    let scale = 2.0 / (k as f64 * (2.0 * n as f64 - 3.0 * k as f64 - 1.0));
    let scores: Vec<f64> = rankings
        .iter()
        .flat_map(|r| &r.nearer)
        .map(|nearer| {
            // The row itself is nearer than any but its copies: what was counted is the rank.
            let excess: u64 = nearer.iter().map(|&rank| rank.saturating_sub(k as u64)).sum();
            1.0 - scale * excess as f64
        })
        .collect();
    Ok(mean_and_interval(&scores).into())
}

/// Counts, for every query and each of its thresholds (½ distance²), the rows that are nearer.
fn count_nearer(queries: &Queries, packed: &Packed, thresholds: &[Vec<f32>], counts: &mut [Vec<u64>]) {
    let half_norms = queries.half_norms();
    for_each_tile(queries, packed, |group, _, tile| {
        let first = group * QUERIES;
        for (((scores, thresholds), counts), &half_norm) in
            tile.iter().zip(&thresholds[first..]).zip(&mut counts[first..]).zip(&half_norms[first..])
        {
            for (&threshold, count) in thresholds.iter().zip(counts.iter_mut()) {
                let nearer: u32 = scores.iter().map(|&s| u32::from(s + half_norm < threshold)).sum();
                *count += u64::from(nearer);
            }
        }
    });
}

fn triplets(plan: &Plan, lists: &Lists, truth: &Sample, positions: &[f32]) -> Result<Score> {
    let width = plan.config.n_components;
    let count = truth.rows.len() as u64;
    let map = |row: u32| &positions[row as usize * width..][..width];
    let scores = (0..truth.rows.len())
        .into_par_iter()
        .map(|i| {
            let own = truth.rows[i];
            let (mut kept, mut drawn) = (0u32, 0u32);
            for t in 0..TRIPLETS {
                let pick = |which| {
                    let counter = ((i * TRIPLETS + t) * 2 + which) as u64;
                    truth.rows[below(plan.config.seed, 0x7419, counter, count) as usize]
                };
                let (j, l) = (pick(0), pick(1));
                if j != l && j != own && l != own {
                    let data = squared_distance(lists.row(own)?, lists.row(j)?)
                        < squared_distance(lists.row(own)?, lists.row(l)?);
                    let here = squared_distance(map(own), map(j)) < squared_distance(map(own), map(l));
                    drawn += 1;
                    kept += u32::from(data == here);
                }
            }
            Ok((drawn > 0).then(|| f64::from(kept) / f64::from(drawn)))
        })
        .collect::<Result<Vec<Option<f64>>>>()?;
    Ok(mean_and_interval(&scores.into_iter().flatten().collect::<Vec<_>>()).into())
}

/// What the stage holds.
pub fn needs(plan: &Plan) -> Needs {
    let sample = plan.sample_rows() as u64 * (plan.k() as u64 * 32 + 200);
    let sweep = if plan.shape.dim > 0 { sweep_bytes(plan) } else { 0 };
    Needs::default().phase(
        "score",
        [
            ("positions", init::map_bytes(plan)),
            ("the sample and its rankings", sample + sweep),
            ("lists' centroids", plan.table_bytes()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_equal_values_are_zero() {
        assert_eq!(mean_and_interval(&[0.5; 10]), (0.5, 0.0));
        assert_eq!(mean_and_interval(&[1.0]), (1.0, 0.0));
        assert_eq!(mean_and_interval(&[]), (0.0, 0.0));
    }

    #[test]
    fn map_neighbours_are_exact_and_leave_the_row_out() {
        let positions: Vec<f32> = (0..100).flat_map(|i| [i as f32, 0.0]).collect();
        assert_eq!(nearest_in_map(&positions, 2, 50, 4), [49, 51, 48, 52]);
        assert_eq!(nearest_in_map(&positions, 2, 0, 2), [1, 2]);
    }
}
