//! The scores of an exact method's map: the scores of `quality`, with the method's distances. In
//! the data the distance is the metric's cost; in the map it is Euclidean, or that of the Poincaré
//! ball.
//!
//! What must hold: `neighbors::TieBreaker` orders equally near rows.

use std::sync::Arc;

use lowland_io::Source;

use super::costs::{Cost, Costs};
use super::fit::Problem;
use super::stage::{read, row_bytes};
use crate::Result;
use crate::budget::MemoryNeeds;
use crate::evaluate::{self, RankCounts};
use crate::neighbors::{self, TieBreaker};
use crate::plan::Plan;
use crate::positions::{POSITIONS, Positions, map_bytes};
use crate::quality::{Compared, Quality, TRIPLETS};
use crate::work::StageContext;

/// Computes the scores of the run's positions, in the source's row order. `problem` is the plan's.
pub(crate) fn score(
    plan: &Plan,
    problem: &Problem,
    source: &Arc<dyn Source>,
    work: &StageContext<'_>,
) -> Result<Quality> {
    let (width, progress) = (plan.settings.n_components, work.progress);
    let _held = work.reserve(&needs(plan), "score")?;
    let rows = read(plan, source, work)?;
    let positions = Positions::open(&work.path(POSITIONS), plan.shape.rows, width)?;
    let of_map = if problem.loss.hyperbolic() { Cost::Sqhyperbolic } else { Cost::Sqeuclidean };
    let (data, map) = (Costs::new(&rows, plan.shape.dim, problem.cost), Costs::new(positions.values()?, width, of_map));
    let (n, sample) = (data.len(), neighbors::sampled(plan));
    // The formula is valid for k < n / 2.
    let k = plan.scored_neighbors().min((n - 1) / 2).max(1);
    let ties = TieBreaker::new(plan.settings.seed);
    let near = map.costs_of(&sample, progress, |place, costs| nearest(costs, sample[place], k, ties))?;
    let found = data.costs_of(&sample, progress, |place, costs| {
        let own = sample[place];
        let truth: Vec<(f32, u32)> =
            nearest(costs, own, k, ties).into_iter().map(|other| (costs[other as usize], other)).collect();
        let mut row_ranks = RankCounts::new(near[place].iter().map(|&other| costs[other as usize]).collect());
        let others = costs.iter().enumerate().filter(|&(other, _)| other != own as usize);
        others.for_each(|(_, &cost)| row_ranks.add(cost));
        (truth, row_ranks)
    })?;
    let (truth, rank_counts): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    // Triplets are drawn from the sample, so only the costs between sample rows are needed.
    let (mut of_data, mut of_map) = (Vec::new(), Vec::new());
    for (costs, table) in [(&data, &mut of_data), (&map, &mut of_map)] {
        *table = costs.costs_of(&sample, progress, |_, costs| {
            sample.iter().map(|&other| costs[other as usize]).collect::<Vec<f32>>()
        })?;
    }
    let kept = evaluate::triplets(sample.len(), TRIPLETS, plan.settings.seed, |i, j, l| {
        Ok((of_data[i][j] < of_data[i][l]) == (of_map[i][j] < of_map[i][l]))
    })?;
    progress.advance(plan.shape.rows)?;
    Compared { k, truth: &truth, near: &near, rank_counts: Some(rank_counts), triplets: Some(kept) }
        .score(plan.shape.rows, progress)
}

/// Returns the k rows of least cost without `own`, nearest first; equal costs are ordered by rank
/// in `ties`.
fn nearest(costs: &[f32], own: u32, k: usize, ties: TieBreaker) -> Vec<u32> {
    let mut others: Vec<u32> = (0..costs.len() as u32).filter(|&other| other != own).collect();
    let order = |a: &u32, b: &u32| {
        let rank = |other: u32| ties.rank(own, other);
        costs[*a as usize].total_cmp(&costs[*b as usize]).then_with(|| rank(*a).cmp(&rank(*b)))
    };
    let k = k.min(others.len());
    if k < others.len() {
        others.select_nth_unstable_by(k, order);
    }
    others[..k].sort_unstable_by(order);
    // A copy, so that the memory of the long list is freed.
    others[..k].to_vec()
}

/// Returns the memory that the stage holds.
pub(crate) fn needs(plan: &Plan) -> MemoryNeeds {
    let (n, dim, width) = (plan.shape.rows as usize, plan.shape.dim, plan.settings.n_components);
    let (sample, k) = (plan.sample_rows() as u64, plan.scored_neighbors() as u64);
    let costs = Costs::bytes(n, dim, plan.threads) + Costs::bytes(n, width, plan.threads);
    MemoryNeeds::default().phase(
        "score",
        [
            ("rows", row_bytes(plan)),
            ("batches", plan.loader_bytes()),
            ("costs", costs),
            ("rows in order", plan.threads as u64 * n as u64 * 4),
            ("positions", map_bytes(plan)),
            ("the sample and its ranks", sample * (k * 32 + 200) + 8 * sample * sample),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::nearest;
    use crate::neighbors::TieBreaker;

    #[test]
    fn ties_are_ordered_by_rank() {
        let ties = TieBreaker::new(5);
        let by_rank = |own: u32, mut rows: Vec<u32>| {
            rows.sort_by_key(|&row| ties.rank(own, row));
            rows
        };
        let costs = [-1.0, 2.0, -3.0, 2.0, 2.0, -1.0];
        let expected = [by_rank(2, vec![0, 5]), by_rank(2, vec![1, 3, 4])].concat();
        assert_eq!(nearest(&costs, 2, 10, ties), expected);
        assert_eq!(nearest(&costs, 2, 3, ties), expected[..3]);
    }
}
