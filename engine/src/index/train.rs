//! Training the coarse quantizer: k-means in two levels on a seeded sample.
//!
//! One level would cost sample × lists distances an iteration; two levels of
//! √lists each cost a √lists-th of that, and leave the lists in an order in
//! which near ones have near numbers. FAISS trains each part on one thread;
//! the parts run side by side, and the result does not depend on how many do.

use rayon::prelude::*;

use super::assign::nearest_of;
use super::faiss;
use crate::Result;
use crate::observe::Progress;
use crate::random::stratified;

/// Lists that one level of k-means still trains cheaply.
const ONE_LEVEL: usize = 256;
/// Rows a centroid in the upper level's sample.
const UPPER_ROWS: usize = 128;
const ITERATIONS: usize = 10;

/// A trained quantizer: centroids, in groups of near ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantizer {
    /// Components of a centroid.
    pub dim: usize,
    /// nlist × dim.
    pub centroids: Vec<f32>,
    /// The upper level: groups × dim.
    pub group_centers: Vec<f32>,
    /// The first list of each group, and nlist last.
    pub group_starts: Vec<u32>,
}

/// Trains `nlist` centroids on `sample` (rows × dim, at least one row a list).
pub fn train(sample: &[f32], dim: usize, nlist: usize, seed: u64, progress: &Progress<'_>) -> Result<Quantizer> {
    let rows = sample.len() / dim;
    let nlist = nlist.min(rows).max(1);
    if nlist <= ONE_LEVEL {
        let centroids = faiss::kmeans(sample, dim, nlist, 2 * ITERATIONS, seed)?;
        let mean = centroids.chunks_exact(dim).fold(vec![0f32; dim], |mut sum, c| {
            sum.iter_mut().zip(c).for_each(|(s, &x)| *s += x / nlist as f32);
            sum
        });
        return Ok(Quantizer { dim, centroids, group_centers: mean, group_starts: vec![0, nlist as u32] });
    }

    let groups = (nlist as f64).sqrt().round() as usize;
    let upper: Vec<f32> = stratified(seed, 0x7570, rows as u64, (groups * UPPER_ROWS) as u64)
        .into_iter()
        .flat_map(|row| &sample[row as usize * dim..][..dim])
        .copied()
        .collect();
    let group_centers = faiss::kmeans(&upper, dim, groups, 2 * ITERATIONS, seed)?;
    drop(upper);

    let group_of: Vec<u32> = nearest_of(&group_centers, dim, sample);
    let mut members = vec![Vec::new(); groups];
    for (row, &group) in group_of.iter().enumerate() {
        members[group as usize].push(row as u32);
    }
    let shares = shares(&members.iter().map(Vec::len).collect::<Vec<_>>(), nlist);

    // Empty groups go; the others keep their order.
    let parts: Vec<(usize, Vec<f32>)> = members
        .par_iter()
        .zip(&shares)
        .enumerate()
        .filter(|(_, (members, _))| !members.is_empty())
        .map(|(group, (members, &share))| {
            progress.check()?;
            let rows: Vec<f32> = members.iter().flat_map(|&r| &sample[r as usize * dim..][..dim]).copied().collect();
            Ok((group, faiss::kmeans(&rows, dim, share, ITERATIONS, seed.wrapping_add(group as u64 + 1))?))
        })
        .collect::<Result<_>>()?;

    let mut quantizer = Quantizer { dim, centroids: Vec::new(), group_centers: Vec::new(), group_starts: vec![0] };
    for (group, centroids) in parts {
        quantizer.centroids.extend(centroids);
        quantizer.group_centers.extend(&group_centers[group * dim..][..dim]);
        quantizer.group_starts.push((quantizer.centroids.len() / dim) as u32);
    }
    Ok(quantizer)
}

/// Divides `total` lists among groups in proportion to their sizes, at least
/// one and at most a list a member, by largest remainder (ties to the first).
fn shares(sizes: &[usize], total: usize) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let mut shares: Vec<usize> = sizes.iter().map(|&s| (s * total / all).max(1).min(s)).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&g| (std::cmp::Reverse(sizes[g] * total % all), g));
    let mut given: usize = shares.iter().sum();
    'more: while given < total {
        let before = given;
        for &group in &order {
            if given == total {
                break 'more;
            }
            if shares[group] < sizes[group] {
                shares[group] += 1;
                given += 1;
            }
        }
        if given == before {
            break;
        }
    }
    shares
}

impl Quantizer {
    /// Number of lists.
    pub fn count(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// Bytes that training holds beside the sample itself.
    pub fn bytes(sample_rows: usize, dim: usize, nlist: usize, threads: usize) -> u64 {
        let groups = (nlist as f64).sqrt() as usize + 1;
        let upper = if nlist <= ONE_LEVEL { sample_rows } else { groups * UPPER_ROWS };
        // Group numbers and members; each thread's rows (groups are uneven: four times the mean)
        // and FAISS's scratch; the centroids at both levels.
        (sample_rows * 8 + upper * dim * 4 + threads * 4 * (sample_rows / groups + 1) * dim * 4 + 4 * nlist * dim * 4)
            as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_never_exceed_the_members() {
        for (sizes, total) in [(vec![10, 20, 30], 12), (vec![1, 100, 0, 3], 50), (vec![2, 2, 2], 6), (vec![5, 1, 1], 6)]
        {
            let shares = shares(&sizes, total);
            assert_eq!(shares.iter().sum::<usize>(), total.min(sizes.iter().sum()), "{sizes:?} {shares:?}");
            assert!(shares.iter().zip(&sizes).all(|(a, b)| a <= b));
        }
    }

    #[test]
    fn two_levels_train_every_list_and_do_not_depend_on_threads() {
        let dim = 4;
        let sample: Vec<f32> = (0..6000 * dim).map(|i| crate::random::unit(1, 2, i as u64)).collect();
        let with = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("threads")
                .install(|| train(&sample, dim, 300, 9, &Progress::unheard()).expect("trains"))
        };
        let (one, two) = (with(1), with(2));
        assert_eq!(one, two);
        assert_eq!(one.count(), 300);
        assert_eq!(*one.group_starts.last().expect("groups"), 300);
        assert!(one.centroids.iter().all(|x| x.is_finite()));
    }
}
