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
//! that lead there, by the list's rows: how likely one of these is near.
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

/// Each list's neighbours.
pub(super) struct Adjacent {
    /// The first of each list's, and their number last.
    starts: Vec<u32>,
    /// (list, weight).
    near: Vec<(u32, u32)>,
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
                    let mut last = table.range(list);
                    let mut of_last = list;
                    for row in table.range(list) {
                        for (_, near) in so_far.near(row) {
                            if !last.contains(&near) {
                                of_last = table.list_of(near);
                                last = table.range(of_last);
                            }
                            if counts[of_last] == 0 {
                                touched.push(of_last as u32);
                            }
                            counts[of_last] += 1;
                        }
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
        Ok(Adjacent { starts, near })
    }

    /// Calls `each(list, score)` for all lists that the neighbours of a row lead
    /// to; `lists` are those that these lie in.
    pub(super) fn score(
        &self,
        lists: impl Iterator<Item = usize>,
        scratch: &mut Scratch,
        mut each: impl FnMut(u32, u64),
    ) {
        let Scratch { own, scores, touched } = scratch;
        own.clear();
        own.extend(lists);
        own.sort_unstable();
        for same in own.chunk_by(|a, b| a == b) {
            let near = &self.near[self.starts[same[0]] as usize..self.starts[same[0] + 1] as usize];
            for &(list, weight) in near {
                let score = &mut scores[list as usize];
                if *score == 0 {
                    touched.push(list);
                }
                *score += u64::from(weight) * same.len() as u64;
            }
        }
        touched.drain(..).for_each(|list| each(list, std::mem::take(&mut scores[list as usize])));
    }

    /// Bytes held while it is made, by so many threads.
    pub(super) fn bytes(lists: usize, threads: usize) -> u64 {
        // Edges out, back and as kept; each thread's counts.
        (lists * (3 * MOST * 8 + 64) + threads * lists * 8) as u64
    }
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
    scores: Vec<u64>,
    touched: Vec<u32>,
}

impl Scratch {
    /// For so many lists.
    pub(super) fn new(lists: usize) -> Self {
        Scratch { own: Vec::new(), scores: vec![0; lists], touched: Vec::new() }
    }

    /// Bytes held.
    pub(super) fn bytes(lists: usize) -> u64 {
        lists as u64 * 12
    }
}
