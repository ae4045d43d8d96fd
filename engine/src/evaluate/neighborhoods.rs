//! Scores of neighbourhoods: trustworthiness, continuity, preservation, recall, and label accuracy.
//!
//! Notation: n rows, k neighbours. For a row i, V is the set of the k nearest rows in the data and
//! M the set of the k nearest in the map, without i; ties are broken by `neighbors::Ties`, which does not depend on
//! the order of the file. The rank of j
//! is one more than the number of rows that are nearer to i than j.

use super::points::{RankCounts, UNLABELED};

/// Returns each row's trustworthiness, from the ranks of M in the data, or its continuity, from the
/// ranks of V in the map: 1 − 2 / (k (2n − 3k − 1)) · Σ max(0, rank − k) (Venna, Kaski 2001). The
/// mean over all rows equals scikit-learn's trustworthiness.
pub(crate) fn rank_scores(rank_counts: &[RankCounts], k: usize, rows: u64) -> Vec<f64> {
    let (k_, n) = (k as f64, rows as f64);
    let scale = 2.0 / (k_ * (2.0 * n - 3.0 * k_ - 1.0));
    rank_counts.iter().map(|row_ranks| 1.0 - scale * row_ranks.excess(k) as f64).collect()
}

/// Returns each row's share of the k nearest in the data that are also among the k nearest in the
/// map:
/// |V ∩ M| / k.
pub(crate) fn preservation(data: &[Vec<(f32, u32)>], map: &[Vec<u32>], k: usize) -> Vec<f64> {
    let kept = |(data, map): (&Vec<(f32, u32)>, &Vec<u32>)| {
        let data = &data[..data.len().min(k)];
        let kept = data.iter().filter(|(_, row)| map[..map.len().min(k)].contains(row)).count();
        if data.is_empty() { 1.0 } else { kept as f64 / data.len() as f64 }
    };
    data.iter().zip(map).map(kept).collect()
}

/// Returns the recall of a row in a graph. `truth` has the true neighbours with their squared
/// distances, `listed` the squared distances of the graph's neighbours. A listed row counts if it
/// is as near as the k-th true neighbour.
pub(crate) fn row_recall(listed: impl Iterator<Item = f32>, truth: &[(f32, u32)], k: usize) -> f64 {
    let truth = &truth[..truth.len().min(k)];
    let Some(&(farthest, _)) = truth.last() else { return 1.0 };
    listed.filter(|&squared| squared <= farthest).count().min(truth.len()) as f64 / truth.len() as f64
}

/// Returns each row's share of map neighbours with the row's own label. Rows without a label are
/// skipped.
pub(crate) fn label_agreement(rows: &[u32], near: &[Vec<u32>], codes: &[u32]) -> Vec<f64> {
    let labeled = rows.iter().zip(near).filter(|&(&row, near)| codes[row as usize] != UNLABELED && !near.is_empty());
    labeled
        .map(|(&row, near)| {
            let same = near.iter().filter(|&&other| codes[other as usize] == codes[row as usize]).count();
            same as f64 / near.len() as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_counts_equally_near_rows() {
        let truth = [(1.0, 4), (2.0, 7), (2.0, 9)];
        assert_eq!(row_recall([1.0, 2.0, 2.0, 2.0].into_iter(), &truth, 3), 1.0);
        assert_eq!(row_recall([1.0, 3.0].into_iter(), &truth, 2), 0.5);
        assert_eq!(row_recall([].into_iter(), &truth, 3), 0.0);
        assert_eq!(row_recall([].into_iter(), &[], 3), 1.0);
    }

    #[test]
    fn preservation_is_the_share_of_neighbours() {
        let data = vec![vec![(1.0, 1), (2.0, 2)], vec![(1.0, 0), (1.5, 2)], vec![]];
        let map = vec![vec![2, 3], vec![0, 2], vec![]];
        assert_eq!(preservation(&data, &map, 2), [0.5, 1.0, 1.0]);
        let codes = [0, 0, 1, UNLABELED];
        assert_eq!(label_agreement(&[0, 1, 3], &[vec![1, 2], vec![0, 3], vec![0, 1]], &codes), [0.5, 0.5]);
    }
}
