//! Adjacency of lists according to the partial graph: how many rows of one list have neighbours in
//! another list, in either direction.
//!
//! Centroids are a bad guide where a cluster is wide and thin. The cluster's rows then belong to lists of other
//! clusters, whose centroids are far from each other. But wherever one of these rows found another, the edge connects
//! their two lists. This is the information that a pass over neighbours of neighbours uses (NN-descent: Dong, Moses,
//! Li 2011), aggregated by list, so that it fits into memory and needs no random reads.
//!
//! A row scores a list by the share of the edges of its neighbours' lists that lead to the list, divided by the
//! number of rows in the list: an estimate of how likely one row of the list is near. Two kinds of lists that are
//! known for each single row add to the score and are better evidence: the lists that contain most neighbours of each
//! of the row's neighbours, and some lists with rows that have the row as a neighbour.
//!
//! Invariant: scores are sums of integers, so the order of summation does not matter.

use rayon::prelude::*;

use super::partial_graph::PartialGraph;
use crate::Result;
use crate::index::ListTable;
use crate::observe::Progress;

/// The largest number of adjacent lists kept for a list: the lists with the most edges.
pub(super) const MAX_ADJACENT: usize = 128;
/// Fixed-point unit of weights, which are shares of edges per row.
const WEIGHT_UNIT: u64 = 1 << 31;
/// Number of lists stored for a row, of each of the two kinds.
const LISTS_PER_ROW: usize = 4;
/// Divisor of the weight of a list that a neighbour suggests, relative to a list with a row that has the
/// scored row as a neighbour.
const NEIGHBOR_LIST_WEIGHT: u64 = 4;
/// Marks an unused entry.
const NONE: u32 = u32::MAX;

/// The adjacent lists of each list, and the lists known for each row.
pub(super) struct ListAdjacency {
    /// Start of each list's entries in `near`; the last value is the length of `near`.
    starts: Vec<u32>,
    /// (list, weight).
    near: Vec<(u32, u32)>,
    /// For each row, the lists that contain most of its neighbours, without its own list.
    ways: Vec<[u32; LISTS_PER_ROW]>,
    /// For each row, lists with rows that have the row as a neighbour, without its own list and the lists in `ways`.
    named_by: Vec<[u32; LISTS_PER_ROW]>,
    /// For each list, the weight of one mention: [`WEIGHT_UNIT`] divided by the number of its rows.
    naming: Vec<u32>,
}

impl ListAdjacency {
    /// Computes the adjacency from the graph of a round.
    pub(super) fn of(partial_graph: &PartialGraph, table: &ListTable, progress: &Progress<'_>) -> Result<Self> {
        let lists = table.count();
        // Edges that leave each list, counted by destination list, including edges within the list.
        let out: Vec<Vec<(u32, u32)>> = (0..lists)
            .into_par_iter()
            .with_min_len(16)
            .map_init(
                || (vec![0u32; lists], Vec::new()),
                |(counts, touched), list| {
                    progress.check()?;
                    let near = table.range(list).flat_map(|row| partial_graph.nearest(row)).map(|(_, near)| near);
                    for there in table.lists_of(near) {
                        if counts[there] == 0 {
                            touched.push(there as u32);
                        }
                        counts[there] += 1;
                    }
                    let edges = touched.drain(..).map(|to| (to, std::mem::take(&mut counts[to as usize])));
                    Ok(strongest(edges.collect()))
                },
            )
            .collect::<Result<_>>()?;
        // The same edges, grouped by destination list.
        let mut back: Vec<Vec<(u32, u32)>> = vec![Vec::new(); lists];
        for (list, edges) in out.iter().enumerate() {
            edges.iter().for_each(|&(to, edges)| back[to as usize].push((list as u32, edges)));
        }
        let (mut starts, mut near) = (vec![0u32], Vec::new());
        for (list, (out, mut back)) in out.into_iter().zip(back).enumerate() {
            back.extend(out);
            back.sort_unstable();
            back.dedup_by(|next, kept| {
                next.0 == kept.0 && {
                    kept.1 += next.1;
                    true
                }
            });
            let all: u64 = back.iter().map(|&(_, edges)| u64::from(edges)).sum();
            back.retain(|&(to, _)| to as usize != list);
            near.extend(strongest(back).into_iter().map(|(to, edges)| {
                let rows = table.range(to as usize).len() as u64;
                (to, (WEIGHT_UNIT * u64::from(edges) / (all * rows)).clamp(1, u64::from(u32::MAX)) as u32)
            }));
            starts.push(near.len() as u32);
        }
        near.shrink_to_fit();
        let ways = neighbor_lists(partial_graph, table, progress)?;
        let named_by = reverse_lists(partial_graph, table, &ways, progress)?;
        let naming = (0..lists).map(|list| (WEIGHT_UNIT / table.range(list).len().max(1) as u64) as u32).collect();
        Ok(ListAdjacency { starts, near, ways, named_by, naming })
    }

    /// Calls `each(list, score)` for all lists suggested by `near`, the neighbours of `row`.
    pub(super) fn each_score(
        &self,
        row: u32,
        near: impl Iterator<Item = u32> + Clone,
        table: &ListTable,
        scratch: &mut ScoreScratch,
        mut each: impl FnMut(u32, u64),
    ) {
        let ScoreScratch { own, ways, scores, touched } = scratch;
        let mut add = |list: u32, weight: u64| {
            let score = &mut scores[list as usize];
            if *score == 0 {
                touched.push(list);
            }
            *score += weight;
        };
        let by_row = |list: u32| u64::from(self.naming[list as usize]);
        own.clear();
        own.extend(table.lists_of(near.clone()));
        // The entries of the neighbours are scattered in memory; copying all of them first lets the cache
        // misses overlap.
        ways.clear();
        ways.extend(near.map(|near| self.ways[near as usize]));
        for ways in ways.iter() {
            let ways = ways.iter().take_while(|&&list| list != NONE);
            ways.for_each(|&list| add(list, by_row(list).div_ceil(NEIGHBOR_LIST_WEIGHT)));
        }
        let named_by = self.named_by[row as usize].iter().take_while(|&&list| list != NONE);
        named_by.for_each(|&list| add(list, by_row(list)));
        own.sort_unstable();
        for same in own.chunk_by(|a, b| a == b) {
            let near = &self.near[self.starts[same[0]] as usize..self.starts[same[0] + 1] as usize];
            near.iter().for_each(|&(list, weight)| add(list, u64::from(weight) * same.len() as u64));
        }
        touched.drain(..).for_each(|list| each(list, std::mem::take(&mut scores[list as usize])));
    }

    /// Returns the bytes held while the adjacency is computed by `threads` threads.
    pub(super) fn bytes(rows: u64, lists: usize, threads: usize) -> u64 {
        // Outgoing edges, incoming edges (whose vectors grow by doubling) and kept edges; each thread's counts.
        (lists * (4 * MAX_ADJACENT * 8 + 68) + threads * lists * 8) as u64
            + rows * 2 * size_of::<[u32; LISTS_PER_ROW]>() as u64
    }
}

/// Returns for each row the lists that contain most of its neighbours, without its own list; ties go to
/// the lower list number.
fn neighbor_lists(
    partial_graph: &PartialGraph,
    table: &ListTable,
    progress: &Progress<'_>,
) -> Result<Vec<[u32; LISTS_PER_ROW]>> {
    let mut ways = crate::pages::filled(table.rows() as usize, [NONE; LISTS_PER_ROW]);
    let (mut rest, mut tasks) = (&mut ways[..], Vec::with_capacity(table.count()));
    for list in 0..table.count() {
        let (own, later) = rest.split_at_mut(table.range(list).len());
        tasks.push((list, own));
        rest = later;
    }
    tasks.into_par_iter().try_for_each_init(Vec::new, |lists: &mut Vec<u32>, (own, ways)| {
        progress.check()?;
        for (row, ways) in table.range(own).zip(ways) {
            lists.clear();
            lists.extend(table.lists_of(partial_graph.nearest(row).map(|(_, near)| near)).map(|list| list as u32));
            lists.sort_unstable();
            let mut counts: Vec<(std::cmp::Reverse<usize>, u32)> = lists
                .chunk_by(|a, b| a == b)
                .filter(|same| same[0] as usize != own)
                .map(|same| (std::cmp::Reverse(same.len()), same[0]))
                .collect();
            counts.sort_unstable();
            ways.iter_mut().zip(counts).for_each(|(way, (_, list))| *way = list);
        }
        Ok::<_, crate::Error>(())
    })?;
    Ok(ways)
}

/// Returns for each row the first few lists, in row order, with rows that have the row as a neighbour,
/// without its own list and the lists in `ways`.
fn reverse_lists(
    partial_graph: &PartialGraph,
    table: &ListTable,
    ways: &[[u32; LISTS_PER_ROW]],
    progress: &Progress<'_>,
) -> Result<Vec<[u32; LISTS_PER_ROW]>> {
    let mut named_by = crate::pages::filled(ways.len(), [NONE; LISTS_PER_ROW]);
    // Each thread reads all edges and keeps those that lead to its own range of rows.
    let share = ways.len().div_ceil(rayon::current_num_threads()).max(1);
    named_by.par_chunks_mut(share).enumerate().try_for_each(|(number, named_by)| {
        let first = (number * share) as u32;
        for list in 0..table.count() {
            progress.check()?;
            let own = table.range(list);
            for row in own.clone() {
                for (_, near) in partial_graph.nearest(row) {
                    let Some(names) = named_by.get_mut(near.wrapping_sub(first) as usize) else { continue };
                    if own.contains(&near) || ways[near as usize].contains(&(list as u32)) {
                        continue;
                    }
                    if let Some(free) = names.iter_mut().find(|name| **name == NONE || **name == list as u32) {
                        *free = list as u32;
                    }
                }
            }
        }
        Ok::<_, crate::Error>(())
    })?;
    Ok(named_by)
}

/// Returns the [`MAX_ADJACENT`] lists with the most edges; ties go to the lower list number.
fn strongest(mut edges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    edges.sort_unstable_by_key(|&(list, edges)| (std::cmp::Reverse(edges), list));
    edges.truncate(MAX_ADJACENT);
    edges.shrink_to_fit();
    edges
}

/// Reusable buffers for scoring.
pub(super) struct ScoreScratch {
    own: Vec<usize>,
    ways: Vec<[u32; LISTS_PER_ROW]>,
    scores: Vec<u64>,
    touched: Vec<u32>,
}

impl ScoreScratch {
    /// Creates buffers for `lists` lists.
    pub(super) fn new(lists: usize) -> Self {
        ScoreScratch { own: Vec::new(), ways: Vec::new(), scores: vec![0; lists], touched: Vec::new() }
    }

    /// Returns the bytes held for `lists` lists.
    pub(super) fn bytes(lists: usize) -> u64 {
        lists as u64 * 12
    }
}
