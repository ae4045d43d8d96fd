//! The external transpose: every directed edge i → j is brought to row j.
//!
//! How many edges lead to each row is counted first, so that the rows can be
//! cut into runs whose edges fit in memory together, whatever hubs there are.
//! One run that holds everything needs no disk; otherwise each run is a bucket
//! on disk. Edges are put down in the order of the rows they come from, so
//! placing them by row, one after another, leaves each row's sorted.
//!
//! A row keeps at most [`most_incoming`] of the edges that lead to it: the
//! strongest, then those from lower rows. Only the row itself is then pulled by
//! fewer; every edge's other end still has it. What must hold: which edges a
//! row keeps does not depend on how rows are cut into runs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use lowland_io::buckets::{BucketWriter, Buckets, EdgeRecord};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Calibration, Weighing, most_of_block};
use crate::Result;
use crate::index::Made;
use crate::plan::Plan;
use crate::work::Work;

/// Rows calibrated at a time by one thread.
pub(super) const ROWS: usize = 1024;
/// Runs at most: each bucket is an open file.
const MOST_RUNS: u64 = 256;
/// The buckets' files, and the unit that they are.
const UNIT: &str = "transpose";
/// Bytes of an edge at its place: origin and weight.
const EDGE: u64 = 8;
/// Bytes of a row in a run: where its edges begin, and how many are there.
const ROW: u64 = 12;

/// Edges that a row keeps of those that lead to it.
pub(super) fn most_incoming(rows: u64, k: usize) -> usize {
    (most_of_block(rows, k).1 as usize).saturating_sub(k).max(1)
}

/// Places that a row of so many incoming edges is given: where they are more
/// than are kept, the weakest go whenever twice as many have come.
fn places(incoming: u32, most: usize) -> usize {
    (incoming as usize).min(2 * most)
}

/// How many edges lead to each row.
pub(super) fn count(calibration: &Calibration<'_>, work: &Work<'_>) -> Result<Vec<u32>> {
    let graph = calibration.graph;
    let counts: Vec<AtomicU32> = (0..graph.rows()).map(|_| AtomicU32::new(0)).collect();
    let starts: Vec<u32> = (0..graph.rows()).step_by(ROWS).collect();
    starts.par_iter().try_for_each(|&start| {
        let count = |to: u32| counts[to as usize].fetch_add(1, Ordering::Relaxed);
        let mut edges = Vec::new();
        for from in start..(start + ROWS as u32).min(graph.rows()) {
            if let Weighing::Pacmap(pairs) = &calibration.weighing {
                pairs.edges(graph, from, &mut edges)?;
                edges.iter().for_each(|edge| _ = count(edge.0));
            } else {
                graph.neighbors(from).for_each(|to| _ = count(to));
            }
        }
        work.progress.check()
    })?;
    work.progress.traffic.read(u64::from(graph.rows()) * graph.row_bytes() as u64);
    // In place: the two have one layout.
    Ok(counts.into_iter().map(AtomicU32::into_inner).collect())
}

/// The last row of each run, excluded: as many rows as fit into `bytes`, at least one.
fn cut(counts: &[u32], most: usize, bytes: u64) -> Vec<u32> {
    let (mut ends, mut held) = (Vec::new(), 0);
    for (row, &incoming) in counts.iter().enumerate() {
        let more = ROW + EDGE * places(incoming, most) as u64;
        if held + more > bytes && held > 0 {
            ends.push(row as u32);
            held = 0;
        }
        held += more;
    }
    ends.push(counts.len() as u32);
    ends
}

/// Edges by the row they lead to, for a run of rows.
pub(super) struct Incoming {
    rows: Range<u32>,
    /// The first place of each row, and the number of places last.
    starts: Vec<u64>,
    /// Edges of each row that are there.
    filled: Vec<u32>,
    /// (origin, weight), by row; in each row by origin.
    edges: Vec<(u32, f32)>,
    most: usize,
    /// Edges that were too many, of the rows that had such.
    cut: BTreeMap<u32, u64>,
}

impl Incoming {
    fn new(rows: Range<u32>, counts: &[u32], most: usize) -> Self {
        let counts = &counts[rows.start as usize..rows.end as usize];
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut next = 0;
        for &incoming in counts {
            starts.push(next);
            next += places(incoming, most) as u64;
        }
        starts.push(next);
        Incoming {
            filled: vec![0; counts.len()],
            edges: vec![(0, 0.0); next as usize],
            starts,
            rows,
            most,
            cut: BTreeMap::new(),
        }
    }

    #[inline]
    fn place(&mut self, edge: EdgeRecord) {
        let row = (edge.to - self.rows.start) as usize;
        let (start, end) = (self.starts[row] as usize, self.starts[row + 1] as usize);
        if self.filled[row] as usize == end - start {
            self.strongest(row);
        }
        self.edges[start + self.filled[row] as usize] = (edge.from, edge.weight);
        self.filled[row] += 1;
    }

    /// Keeps the strongest of a row's edges, as many as a row keeps, by origin.
    #[cold]
    fn strongest(&mut self, row: usize) {
        let start = self.starts[row] as usize;
        let edges = &mut self.edges[start..][..self.filled[row] as usize];
        if edges.len() > self.most {
            edges.select_nth_unstable_by(self.most - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            edges[..self.most].sort_unstable_by_key(|&(from, _)| from);
            *self.cut.entry(self.rows.start + row as u32).or_default() += (edges.len() - self.most) as u64;
            self.filled[row] = self.most as u32;
        }
    }

    /// After the last edge.
    fn finish(mut self) -> Self {
        for row in 0..self.filled.len() {
            if self.filled[row] as usize > self.most {
                self.strongest(row);
            }
        }
        self
    }

    /// The rows.
    pub(super) fn rows(&self) -> Range<u32> {
        self.rows.clone()
    }

    /// Those of `rows` that did not keep all edges that lead to them, with how many.
    pub(super) fn cut_of(&self, rows: Range<u32>) -> Vec<(u32, u64)> {
        self.cut.range(rows).map(|(&row, &cut)| (row, cut)).collect()
    }

    /// The edges that lead to `row`: origins, ascending, and weights.
    pub(super) fn of(&self, row: u32) -> &[(u32, f32)] {
        let row = (row - self.rows.start) as usize;
        &self.edges[self.starts[row] as usize..][..self.filled[row] as usize]
    }
}

/// What the manifest keeps of finished buckets.
#[derive(Serialize, Deserialize)]
struct Kept {
    ends: Vec<u32>,
    files: Vec<(String, lowland_io::FileStamp)>,
}

/// All edges, transposed: run after run.
pub(super) struct Transposed {
    counts: Vec<u32>,
    most: usize,
    ends: Vec<u32>,
    /// Everything, where it fits in memory.
    whole: Option<Incoming>,
    buckets: Option<Buckets<EdgeRecord>>,
}

impl Transposed {
    /// Calibrates the graph's rows and brings their edges to where they lead.
    pub(super) fn make(plan: &Plan, calibration: &Calibration<'_>, counts: Vec<u32>, work: &Work<'_>) -> Result<Self> {
        let most = most_incoming(plan.shape.rows, plan.degree());
        if let Some(Kept { ends, files }) = work.finished::<Kept>(UNIT)? {
            let buckets = Buckets::reopen(work.run.dir(), UNIT, ends.len(), &files);
            return Ok(Transposed { counts, most, ends, whole: None, buckets: Some(buckets) });
        }
        let ends = cut(&counts, most, plan.affinity.run_bytes);
        let rows = calibration.graph.rows();
        if ends.len() == 1 {
            let mut whole = Incoming::new(0..rows, &counts, most);
            each_edge(plan, calibration, work, |edge| {
                whole.place(edge);
                Ok(())
            })?;
            let whole = Some(whole.finish());
            return Ok(Transposed { counts, most, ends, whole, buckets: None });
        }
        let mut writer =
            BucketWriter::<EdgeRecord>::create(work.run.dir(), UNIT, ends.len(), plan.affinity.buffer_bytes as usize);
        // Most edges lead near where they come from: the run before is the best guess.
        let mut guess = 0;
        each_edge(plan, calibration, work, |edge| {
            let first = |run: usize| if run == 0 { 0 } else { ends[run - 1] };
            if !(first(guess)..ends[guess]).contains(&edge.to) {
                guess = ends.partition_point(|&end| end <= edge.to);
            }
            Ok(writer.push(guess, edge)?)
        })?;
        let buckets = writer.finish_durable()?;
        work.progress.traffic.wrote(buckets.bytes());
        let transposed = Transposed { counts, most, ends, whole: None, buckets: Some(buckets) };
        let files = transposed.files();
        work.finish(UNIT, files.clone(), &Kept { ends: transposed.ends.clone(), files })?;
        Ok(transposed)
    }

    fn files(&self) -> Made {
        self.buckets.iter().flat_map(Buckets::files).collect()
    }

    /// How many runs there are.
    pub(super) fn runs(&self) -> usize {
        self.ends.len()
    }

    /// The rows of run `run`.
    pub(super) fn rows(&self, run: usize) -> Range<u32> {
        let first = if run == 0 { 0 } else { self.ends[run - 1] };
        first..self.ends[run]
    }

    /// The edges that lead to the rows of run `run`.
    pub(super) fn read(&mut self, run: usize, work: &Work<'_>) -> Result<Incoming> {
        match (self.whole.take(), &self.buckets) {
            (Some(whole), _) => Ok(whole),
            (None, Some(buckets)) => {
                let mut incoming = Incoming::new(self.rows(run), &self.counts, self.most);
                buckets.for_each(run, |edge| incoming.place(edge))?;
                work.progress.traffic.read(buckets.len(run) * 12);
                Ok(incoming.finish())
            }
            (None, None) => unreachable!("a transpose in memory has one run, which is read once"),
        }
    }

    /// Gives back the disk space of runs whose rows all lie before `row`.
    pub(super) fn discard_before(&mut self, row: u32, work: &Work<'_>) -> Result<()> {
        let Some(buckets) = &mut self.buckets else { return Ok(()) };
        let done: Vec<usize> = (0..self.ends.len()).filter(|&r| self.ends[r] <= row && buckets.len(r) > 0).collect();
        if done.is_empty() {
            return Ok(());
        }
        done.into_iter().for_each(|run| buckets.forget(run));
        let files = self.files();
        work.amend(UNIT, files.clone(), &Kept { ends: self.ends.clone(), files })
    }
}

/// Every directed edge with its weight, in the order of the rows they come from.
fn each_edge(
    plan: &Plan,
    calibration: &Calibration<'_>,
    work: &Work<'_>,
    mut take: impl FnMut(EdgeRecord) -> Result<()>,
) -> Result<()> {
    let graph = calibration.graph;
    let (rows, degree) = (graph.rows(), plan.degree());
    let starts: Vec<u32> = (0..rows).step_by(ROWS).collect();
    for window in starts.chunks(plan.threads * 4) {
        let parts = window
            .par_iter()
            .map(|&start| {
                let (mut weights, mut row) = (vec![0f32; graph.k()], Vec::new());
                let mut edges = Vec::with_capacity(ROWS * degree);
                for from in start..(start + ROWS as u32).min(rows) {
                    calibration.edges(from, &mut weights, &mut row)?;
                    edges.extend(row.iter().map(|&(to, weight)| EdgeRecord { to, from, weight }));
                }
                Ok(edges)
            })
            .collect::<Result<Vec<_>>>()?;
        parts.into_iter().flatten().try_for_each(&mut take)?;
        let done = window.iter().map(|&start| (rows - start).min(ROWS as u32) as u64).sum::<u64>();
        work.progress.traffic.read(done * graph.row_bytes() as u64);
        work.progress.check()?;
    }
    Ok(())
}

/// Bytes of fresh edges on their way.
pub(super) fn fresh_bytes(plan: &Plan) -> u64 {
    let rows = (plan.threads as u64 * 4 * ROWS as u64).min(plan.shape.rows);
    rows * plan.degree() as u64 * 12
}

/// Bytes of a run that holds all rows.
pub(super) fn whole_bytes(rows: u64, k: usize) -> u64 {
    rows * (ROW + EDGE * k as u64)
}

/// Bytes that a run takes at least: a row that keeps the most, and few enough runs.
pub(super) fn least_bytes(rows: u64, k: usize) -> u64 {
    let row = ROW + 2 * EDGE * most_incoming(rows, k) as u64;
    // Runs that are followed by one that did not fit are half full on average, or more.
    row.max(2 * whole_bytes(rows, k).div_ceil(MOST_RUNS)).min(whole_bytes(rows, k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_where_their_edges_no_longer_fit() {
        let counts = [3, 0, 5, 100, 1, 1];
        assert_eq!(cut(&counts, 1000, u64::MAX), [6]);
        // 12 + 8 · edges each: 36, 12, 52, 812, 20, 20.
        assert_eq!(cut(&counts, 1000, 100), [3, 4, 6]);
        assert_eq!(cut(&counts, 1000, 1), [1, 2, 3, 4, 5, 6]);
        // A row of more edges than are kept has places for twice those kept.
        assert_eq!(cut(&counts, 4, 216), [6]);
    }

    #[test]
    fn a_hub_keeps_its_strongest_edges_in_whatever_order_they_come() {
        let weight = |from: u32| ((from * 7919) % 997) as f32 / 997.0;
        let mut truth: Vec<(u32, f32)> = (0..500).map(|from| (from, weight(from))).collect();
        truth.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        truth.truncate(20);
        truth.sort_by_key(|e| e.0);
        for turn in [0, 3, 250] {
            let mut incoming = Incoming::new(7..9, &[0, 0, 0, 0, 0, 0, 0, 2, 500], 20);
            incoming.place(EdgeRecord { to: 7, from: 3, weight: 0.5 });
            for from in 0..500 {
                let from = (from + turn) % 500;
                incoming.place(EdgeRecord { to: 8, from, weight: weight(from) });
            }
            incoming.place(EdgeRecord { to: 7, from: 4, weight: 0.25 });
            let incoming = incoming.finish();
            assert_eq!(incoming.of(8), truth);
            assert_eq!(incoming.of(7), [(3, 0.5), (4, 0.25)]);
            assert_eq!(incoming.cut_of(0..9), [(8, 480)]);
        }
    }
}
