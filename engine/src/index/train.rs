//! Trains the coarse quantizer: k-means in two levels on a seeded sample.
//!
//! One level would compute sample × lists distances per iteration. Two levels of about √lists centroids each compute
//! about 1/√lists of that, and number the lists so that near lists have near numbers. FAISS trains each group on one
//! thread, with groups in parallel; the result does not depend on the number of threads.

use std::io::Write;
use std::path::Path;

use lowland_io::{Error as IoError, FileStamp, PendingFile};
use rayon::prelude::*;

use super::assign::nearest_centers;
use super::faiss;
use crate::Result;
use crate::observe::Progress;
use crate::random::stratified;

/// Number of lists up to which one level of k-means is cheap.
const MAX_ONE_LEVEL_LISTS: usize = 256;
/// Number of sample rows per centroid of the upper level.
const UPPER_SAMPLE_ROWS: usize = 128;
const ITERATIONS: usize = 10;
/// Approximate limit of the number of lists in a group, which bounds the comparisons of a row for any
/// number of lists.
const GROUP_LISTS: usize = 64;

/// A trained quantizer: centroids, in groups of near centroids.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantizer {
    /// Number of components of a centroid.
    pub dim: usize,
    /// The centroids of the lists: nlist × dim.
    pub centroids: Vec<f32>,
    /// The centroids of the upper level: groups × dim.
    pub group_centers: Vec<f32>,
    /// The first list of each group; the last value is nlist.
    pub group_starts: Vec<u32>,
}

/// Trains `nlist` centroids on `sample` (rows × dim, at least one row per list). The order of the
/// sample's rows is changed.
pub fn train(sample: &mut [f32], dim: usize, nlist: usize, seed: u64, progress: &Progress<'_>) -> Result<Quantizer> {
    let rows = sample.len() / dim;
    let nlist = nlist.min(rows).max(1);
    if nlist <= MAX_ONE_LEVEL_LISTS {
        let centroids = faiss::kmeans(sample, dim, nlist, 2 * ITERATIONS, seed)?;
        let mean = centroids.chunks_exact(dim).fold(vec![0f32; dim], |mut sum, c| {
            sum.iter_mut().zip(c).for_each(|(s, &x)| *s += x / nlist as f32);
            sum
        });
        return Ok(Quantizer { dim, centroids, group_centers: mean, group_starts: vec![0, nlist as u32] });
    }

    let groups = group_count(nlist);
    let chosen = stratified(seed, 0x7570, rows as u64, (groups * UPPER_SAMPLE_ROWS) as u64);
    let mut upper = Vec::with_capacity(chosen.len() * dim);
    chosen.into_iter().for_each(|row| upper.extend_from_slice(&sample[row as usize * dim..][..dim]));
    let group_centers = faiss::kmeans(&upper, dim, groups, 2 * ITERATIONS, seed)?;
    drop(upper);

    let sizes = sort_by_group(sample, dim, nearest_centers(&group_centers, dim, sample), groups);
    let shares = lists_per_group(&sizes, nlist);
    let mut members = Vec::with_capacity(groups);
    let mut rest = &*sample;
    for &size in &sizes {
        let (rows, later) = rest.split_at(size * dim);
        members.push(rows);
        rest = later;
    }

    // Empty groups are dropped; the others keep their order.
    let parts: Vec<(usize, Vec<f32>)> = members
        .par_iter()
        .zip(&shares)
        .enumerate()
        .filter(|(_, (members, _))| !members.is_empty())
        .map(|(group, (members, &share))| {
            progress.check()?;
            Ok((group, faiss::kmeans(members, dim, share, ITERATIONS, seed.wrapping_add(group as u64 + 1))?))
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

/// Returns the number of groups for `nlist` lists: the square root, or more, so that a group has about
/// [`GROUP_LISTS`] lists at most.
pub(crate) fn group_count(nlist: usize) -> usize {
    ((nlist as f64).sqrt().round() as usize).max(nlist / GROUP_LISTS)
}

/// Sorts `sample` by the group of each row, stably and in place, since a copy would double the memory.
/// Returns the groups' sizes.
fn sort_by_group(sample: &mut [f32], dim: usize, group_of: Vec<u32>, groups: usize) -> Vec<usize> {
    let mut sizes = vec![0; groups];
    group_of.iter().for_each(|&group| sizes[group as usize] += 1);
    let mut next: Vec<u32> = Vec::with_capacity(groups);
    sizes.iter().fold(0, |start, &size| {
        next.push(start);
        start + size as u32
    });
    // The destination of each row.
    let mut to = group_of;
    for place in &mut to {
        let next = &mut next[*place as usize];
        *place = *next;
        *next += 1;
    }
    // Follows the cycles of the permutation: each swap brings one row to its destination.
    for row in 0..to.len() {
        while to[row] as usize != row {
            let there = to[row] as usize;
            let (low, high) = (row.min(there), row.max(there));
            let (head, tail) = sample.split_at_mut(high * dim);
            head[low * dim..][..dim].swap_with_slice(&mut tail[..dim]);
            to.swap(row, there);
        }
    }
    sizes
}

/// Divides `total` lists among groups in proportion to their sizes: at least one list per group and at
/// most one per member, by largest remainder (ties go to the first group).
fn lists_per_group(sizes: &[usize], total: usize) -> Vec<usize> {
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
    /// Writes `quantizer.bin`, version 1, little-endian: "LLQ1", number of components, lists and groups
    /// (u32); the first list of each group, then the number of lists (u32); the centroids, then the
    /// groups' centres (f32).
    pub fn write(&self, mut file: PendingFile) -> Result<FileStamp> {
        let head = [self.dim as u32, self.count() as u32, self.group_starts.len() as u32 - 1];
        let mut write = || {
            file.write_all(b"LLQ1")?;
            head.iter().chain(&self.group_starts).try_for_each(|word| file.write_all(&word.to_le_bytes()))?;
            crate::work::write_floats(&mut file, &self.centroids)?;
            crate::work::write_floats(&mut file, &self.group_centers)
        };
        write().map_err(|e| IoError::io(file.path(), "write", e))?;
        Ok(file.finish()?)
    }

    /// Reads a quantizer from `path`.
    ///
    /// # Errors
    /// A file that cannot be read or has another format.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| IoError::io(path, "read", e))?;
        let corrupt = || IoError::Corrupt { path: path.into(), what: "not a quantizer, version 1".into() };
        let (words, rest) = bytes.as_chunks::<4>();
        let [[b'L', b'L', b'Q', b'1'], dim, lists, groups, words @ ..] = words else { return Err(corrupt().into()) };
        let [dim, lists, groups] = [dim, lists, groups].map(|word| u32::from_le_bytes(*word) as usize);
        let expected = (groups + 1).checked_add(lists.checked_mul(dim).ok_or_else(corrupt)?);
        let expected = expected.and_then(|e| e.checked_add(groups.checked_mul(dim)?));
        if !rest.is_empty() || expected != Some(words.len()) {
            return Err(corrupt().into());
        }
        let (starts, floats) = words.split_at(groups + 1);
        let (centroids, centers) = floats.split_at(lists * dim);
        let floats = |words: &[[u8; 4]]| words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        let group_starts: Vec<u32> = starts.iter().map(|word| u32::from_le_bytes(*word)).collect();
        if !group_starts.is_sorted() || group_starts.last() != Some(&(lists as u32)) || dim == 0 {
            return Err(corrupt().into());
        }
        Ok(Quantizer { dim, centroids: floats(centroids), group_centers: floats(centers), group_starts })
    }

    /// Returns the number of lists.
    pub fn count(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// Returns the bytes that training holds in addition to the sample.
    pub fn bytes(sample_rows: usize, dim: usize, nlist: usize, threads: usize) -> u64 {
        let groups = group_count(nlist);
        let upper = if nlist <= MAX_ONE_LEVEL_LISTS { 0 } else { (groups * UPPER_SAMPLE_ROWS).min(sample_rows) };
        // On each thread FAISS compares this many rows with this many centroids at a time.
        let scratch = 4096.min(sample_rows) * 1024.min(nlist / groups.max(1) * 4).max(groups) * 4;
        // The destination of each row; the upper level's rows, or each thread's scratch; the centroids of
        // all groups, before and after they are joined.
        (sample_rows * 4 + (upper * dim * 4).max(threads * scratch) + 2 * nlist * dim * 4) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_sizes_are_bounded() {
        for (lists, expected) in [(300, 17), (4_000, 63), (4_096, 64), (19_027, 297), (126_491, 1_976)] {
            assert_eq!(group_count(lists), expected, "{lists}");
        }
    }

    #[test]
    fn lists_per_group_sum_and_are_bounded() {
        for (sizes, total) in [(vec![10, 20, 30], 12), (vec![1, 100, 0, 3], 50), (vec![2, 2, 2], 6), (vec![5, 1, 1], 6)]
        {
            let shares = lists_per_group(&sizes, total);
            assert_eq!(shares.iter().sum::<usize>(), total.min(sizes.iter().sum()), "{sizes:?} {shares:?}");
            assert!(shares.iter().zip(&sizes).all(|(a, b)| a <= b));
        }
    }

    #[test]
    fn quantizer_round_trips_and_damage_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("q");
        let quantizer = Quantizer {
            dim: 2,
            centroids: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            group_centers: vec![0.5, 0.25, -1.0, 8.0],
            group_starts: vec![0, 1, 3],
        };
        quantizer.write(PendingFile::create(&path).expect("a file")).expect("written");
        assert_eq!(Quantizer::read(&path).expect("read"), quantizer);
        let whole = std::fs::read(&path).expect("read");
        for cut in [0, 3, 15, 27, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).expect("written");
            assert!(Quantizer::read(&path).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn sort_by_group_is_stable() {
        let group_of: Vec<u32> = (0..50).map(|i| (i * 7 + i / 3) % 4).collect();
        let mut sample: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let sizes = sort_by_group(&mut sample, 2, group_of.clone(), 5);
        let expected: Vec<f32> = (0..5)
            .flat_map(|g| (0..50).filter(|&i| group_of[i] == g).collect::<Vec<_>>())
            .flat_map(|i| [2.0 * i as f32, 2.0 * i as f32 + 1.0])
            .collect();
        assert_eq!(sample, expected);
        assert_eq!(sizes.iter().sum::<usize>(), 50);
        assert_eq!(sizes[4], 0);
    }

    #[test]
    #[cfg_attr(lowland_no_faiss, ignore = "trains lists, which FAISS does")]
    fn two_levels_train_every_list_and_do_not_depend_on_threads() {
        let dim = 4;
        let sample: Vec<f32> = (0..6000 * dim).map(|i| crate::random::unit(1, 2, i as u64)).collect();
        let with = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("threads")
                .install(|| train(&mut sample.clone(), dim, 300, 9, &Progress::silent()).expect("trains"))
        };
        let (one, two) = (with(1), with(2));
        assert_eq!(one, two);
        assert_eq!(one.count(), 300);
        assert_eq!(*one.group_starts.last().expect("groups"), 300);
        assert!(one.centroids.iter().all(|x| x.is_finite()));
    }
}
