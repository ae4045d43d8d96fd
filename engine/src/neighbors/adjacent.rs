//! Lists that lie beside each other as the graph so far says: how many of a
//! list's rows have neighbours in another, and the other way round.
//!
//! Centroids tell this badly where a cloud of points is wide and thin: its rows
//! lie in lists of other clouds, all far from each other by their centroids. But
//! wherever one of them found another, its list now names the other's. It is
//! what a pass over neighbours' neighbours uses (NN-descent: Dong, Moses, Li
//! 2011), kept by list: small enough for memory, and read by nobody at random.
//!
//! A row's score of a list is the share of the edges of its neighbours' lists
//! that lead there, by the list's rows: how likely one of these is near. Of
//! each row some lists are known besides, and they tell more: those that most
//! of its neighbours are in, which are ways for whom it is a neighbour of, and
//! some that rows are in whose neighbour it is.
//!
//! What must hold: whole numbers only, so that no order of summing is seen.

use rayon::prelude::*;

use super::so_far::SoFar;
use crate::Result;
use crate::index::ListTable;
use crate::observe::Progress;

/// Lists beside one, at most: those with the most edges.
pub(super) const MOST: usize = 128;
/// Weights are shares, by row, in so many parts of one.
const WHOLE: u64 = 1 << 31;
/// Lists known of a row, either way.
const WAYS: usize = 4;
/// What a neighbour's way counts, of what a list counts that names the row.
const WAY: u64 = 4;
/// No list.
const NONE: u32 = u32::MAX;

/// Each list's neighbours, and each row's ways.
pub(super) struct Adjacent {
    /// The first of each list's, and their number last.
    starts: Vec<u32>,
    /// (list, weight).
    near: Vec<(u32, u32)>,
    /// The lists that most of a row's neighbours are in, others than its own.
    ways: Vec<[u32; WAYS]>,
    /// Lists of rows whose neighbour a row is, where they are not among its ways.
    named_by: Vec<[u32; WAYS]>,
    /// What naming a list counts: [`WHOLE`] by its rows.
    naming: Vec<u32>,
}

impl Adjacent {
    /// Those of a round's graph.
    pub(super) fn of(so_far: &SoFar, table: &ListTable, progress: &Progress<'_>) -> Result<Self> {
        let lists = table.count();
        // Edges out of each list, by the list that they lead to, its own first.
        let out: Vec<Vec<(u32, u32)>> = (0..lists)
            .into_par_iter()
            .with_min_len(16)
            .map_init(
                || (vec![0u32; lists], Vec::new()),
                |(counts, touched), list| {
                    progress.check()?;
                    let near = table.range(list).flat_map(|row| so_far.near(row)).map(|(_, near)| near);
                    for there in table.lists_of(near) {
                        if counts[there] == 0 {
                            touched.push(there as u32);
                        }
                        counts[there] += 1;
                    }
                    let edges = touched.drain(..).map(|to| (to, std::mem::take(&mut counts[to as usize])));
                    Ok(most(edges.collect()))
                },
            )
            .collect::<Result<_>>()?;
        // The same edges by the list that they lead to.
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
            near.extend(most(back).into_iter().map(|(to, edges)| {
                let rows = table.range(to as usize).len() as u64;
                (to, (WHOLE * u64::from(edges) / (all * rows)).clamp(1, u64::from(u32::MAX)) as u32)
            }));
            starts.push(near.len() as u32);
        }
        near.shrink_to_fit();
        let ways = ways(so_far, table, progress)?;
        let named_by = named_by(so_far, table, &ways, progress)?;
        let naming = (0..lists).map(|list| (WHOLE / table.range(list).len().max(1) as u64) as u32).collect();
        Ok(Adjacent { starts, near, ways, named_by, naming })
    }

    /// Calls `each(list, score)` for all lists that the neighbours of `row`,
    /// which are `near`, lead to.
    pub(super) fn score(
        &self,
        row: u32,
        near: impl Iterator<Item = u32> + Clone,
        table: &ListTable,
        scratch: &mut Scratch,
        mut each: impl FnMut(u32, u64),
    ) {
        let Scratch { own, ways, scores, touched } = scratch;
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
        // Each neighbour's are anywhere: all are asked for before the first is looked at.
        ways.clear();
        ways.extend(near.map(|near| self.ways[near as usize]));
        for ways in ways.iter() {
            let ways = ways.iter().take_while(|&&list| list != NONE);
            ways.for_each(|&list| add(list, by_row(list).div_ceil(WAY)));
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

    /// Bytes held while it is made, by so many threads.
    pub(super) fn bytes(rows: u64, lists: usize, threads: usize) -> u64 {
        // Edges out, back (which grow by doubling) and as kept; each thread's counts.
        (lists * (4 * MOST * 8 + 68) + threads * lists * 8) as u64 + rows * 2 * size_of::<[u32; WAYS]>() as u64
    }
}

/// The lists that most neighbours of each row are in; ties to the lower.
fn ways(so_far: &SoFar, table: &ListTable, progress: &Progress<'_>) -> Result<Vec<[u32; WAYS]>> {
    let mut ways = crate::pages::filled(table.rows() as usize, [NONE; WAYS]);
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
            lists.extend(table.lists_of(so_far.near(row).map(|(_, near)| near)).map(|list| list as u32));
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

/// The first few lists, in row order, of rows whose neighbour each row is, and
/// that are not among its ways.
fn named_by(
    so_far: &SoFar,
    table: &ListTable,
    ways: &[[u32; WAYS]],
    progress: &Progress<'_>,
) -> Result<Vec<[u32; WAYS]>> {
    let mut named_by = crate::pages::filled(ways.len(), [NONE; WAYS]);
    // Each thread looks for those of its rows.
    let share = ways.len().div_ceil(rayon::current_num_threads()).max(1);
    named_by.par_chunks_mut(share).enumerate().try_for_each(|(number, named_by)| {
        let first = (number * share) as u32;
        for list in 0..table.count() {
            progress.check()?;
            let own = table.range(list);
            for row in own.clone() {
                for (_, near) in so_far.near(row) {
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

/// The [`MOST`] with the most edges; ties to the lower list.
fn most(mut edges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    edges.sort_unstable_by_key(|&(list, edges)| (std::cmp::Reverse(edges), list));
    edges.truncate(MOST);
    edges.shrink_to_fit();
    edges
}

/// What scoring takes, used again and again.
pub(super) struct Scratch {
    own: Vec<usize>,
    ways: Vec<[u32; WAYS]>,
    scores: Vec<u64>,
    touched: Vec<u32>,
}

impl Scratch {
    /// For so many lists.
    pub(super) fn new(lists: usize) -> Self {
        Scratch { own: Vec::new(), ways: Vec::new(), scores: vec![0; lists], touched: Vec::new() }
    }

    /// Bytes held.
    pub(super) fn bytes(lists: usize) -> u64 {
        lists as u64 * 12
    }
}
