//! The external transpose: sorts the directed edges i → j by their target j.
//!
//! First the incoming edges of each row are counted, so that the rows can be divided into runs whose edges fit
//! in memory, whatever hubs there are. A single run needs no disk; otherwise each run is a bucket on disk.
//! Edges are written in the order of their origins, so that appending them to their targets in that order
//! leaves each row's incoming edges sorted.
//!
//! A row keeps at most [`max_incoming`] of its incoming edges: the strongest, and of equal ones those of lower
//! rows. The row itself is then attracted by fewer rows, whereas the row at the other end of each edge still
//! has the edge. What must hold: the edges that a row keeps do not depend on how rows are divided into runs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use lowland_io::buckets::{BucketWriter, Buckets, EdgeRecord};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Calibration, WeightFormula, block_limits};
use crate::Result;
use crate::plan::Plan;
use crate::work::{StageContext, StageFiles};

/// Number of rows that one thread calibrates at a time.
pub(super) const CALIBRATION_ROWS: usize = 1024;
/// The largest number of runs; each bucket is an open file.
const MAX_RUNS: u64 = 256;
/// Name of the buckets' files, and of their unit in the manifest.
const UNIT: &str = "transpose";
/// Bytes of an edge in memory: origin and weight.
const EDGE_BYTES: u64 = 8;
/// Bytes of a row of a run: where its edges begin, and their number.
const ROW_BYTES: u64 = 12;

/// Returns the number of incoming edges that a row keeps at most.
pub(super) fn max_incoming(rows: u64, k: usize) -> usize {
    (block_limits(rows, k).1 as usize).saturating_sub(k).max(1)
}

/// Returns the number of edges for which memory is reserved for a row. If a row has more incoming edges than it
/// keeps, the weakest are dropped whenever twice the kept number is reached.
fn row_capacity(incoming: u32, most: usize) -> usize {
    (incoming as usize).min(2 * most)
}

/// Counts the incoming edges of each row.
pub(super) fn count_incoming(calibration: &Calibration<'_>, work: &StageContext<'_>) -> Result<Vec<u32>> {
    let graph = calibration.graph;
    let counts: Vec<AtomicU32> = (0..graph.rows()).map(|_| AtomicU32::new(0)).collect();
    let starts: Vec<u32> = (0..graph.rows()).step_by(CALIBRATION_ROWS).collect();
    starts.par_iter().try_for_each(|&start| {
        let count = |to: u32| counts[to as usize].fetch_add(1, Ordering::Relaxed);
        let mut edges = Vec::new();
        for from in start..(start + CALIBRATION_ROWS as u32).min(graph.rows()) {
            if let WeightFormula::Pacmap(pairs) = &calibration.weighing {
                pairs.edges(graph, from, &mut edges)?;
                edges.iter().for_each(|edge| _ = count(edge.0));
            } else {
                graph.neighbors(from).for_each(|to| _ = count(to));
            }
        }
        work.progress.check()
    })?;
    work.progress.traffic.read(u64::from(graph.rows()) * graph.row_bytes() as u64);
    // Needs no second allocation, because both element types have the same layout.
    Ok(counts.into_iter().map(AtomicU32::into_inner).collect())
}

/// Returns the end of each run. A run has as many rows as fit into `bytes`, and at least one.
fn cut_into_runs(counts: &[u32], most: usize, bytes: u64) -> Vec<u32> {
    let (mut ends, mut held) = (Vec::new(), 0);
    for (row, &incoming) in counts.iter().enumerate() {
        let more = ROW_BYTES + EDGE_BYTES * row_capacity(incoming, most) as u64;
        if held + more > bytes && held > 0 {
            ends.push(row as u32);
            held = 0;
        }
        held += more;
    }
    ends.push(counts.len() as u32);
    ends
}

/// The incoming edges of a run of rows.
pub(super) struct IncomingEdges {
    rows: Range<u32>,
    /// Where each row's edges begin, followed by the total.
    starts: Vec<u64>,
    /// Number of edges of each row so far.
    filled: Vec<u32>,
    /// (origin, weight), sorted by row and within a row by origin.
    edges: Vec<(u32, f32)>,
    most: usize,
    /// Number of dropped edges, for the rows that have any.
    cut: BTreeMap<u32, u64>,
}

impl IncomingEdges {
    fn new(rows: Range<u32>, counts: &[u32], most: usize) -> Self {
        let counts = &counts[rows.start as usize..rows.end as usize];
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut next = 0;
        for &incoming in counts {
            starts.push(next);
            next += row_capacity(incoming, most) as u64;
        }
        starts.push(next);
        IncomingEdges {
            filled: vec![0; counts.len()],
            edges: vec![(0, 0.0); next as usize],
            starts,
            rows,
            most,
            cut: BTreeMap::new(),
        }
    }

    #[inline]
    fn insert(&mut self, edge: EdgeRecord) {
        let row = (edge.to - self.rows.start) as usize;
        let (start, end) = (self.starts[row] as usize, self.starts[row + 1] as usize);
        if self.filled[row] as usize == end - start {
            self.keep_strongest(row);
        }
        self.edges[start + self.filled[row] as usize] = (edge.from, edge.weight);
        self.filled[row] += 1;
    }

    /// Keeps the strongest edges of a row, as many as a row keeps, in the order of their origins.
    #[cold]
    fn keep_strongest(&mut self, row: usize) {
        let start = self.starts[row] as usize;
        let edges = &mut self.edges[start..][..self.filled[row] as usize];
        if edges.len() > self.most {
            edges.select_nth_unstable_by(self.most - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            edges[..self.most].sort_unstable_by_key(|&(from, _)| from);
            *self.cut.entry(self.rows.start + row as u32).or_default() += (edges.len() - self.most) as u64;
            self.filled[row] = self.most as u32;
        }
    }

    /// Drops the surplus edges of all rows, after the last edge.
    fn finish(mut self) -> Self {
        for row in 0..self.filled.len() {
            if self.filled[row] as usize > self.most {
                self.keep_strongest(row);
            }
        }
        self
    }

    /// Returns the rows of the run.
    pub(super) fn rows(&self) -> Range<u32> {
        self.rows.clone()
    }

    /// Returns those of `rows` that did not keep all incoming edges, with the number of dropped edges.
    pub(super) fn dropped_of(&self, rows: Range<u32>) -> Vec<(u32, u64)> {
        self.cut.range(rows).map(|(&row, &cut)| (row, cut)).collect()
    }

    /// Returns the incoming edges of `row`: origins, in ascending order, and weights.
    pub(super) fn edges_to(&self, row: u32) -> &[(u32, f32)] {
        let row = (row - self.rows.start) as usize;
        &self.edges[self.starts[row] as usize..][..self.filled[row] as usize]
    }
}

/// The manifest's record of finished buckets.
#[derive(Serialize, Deserialize)]
struct TransposeRecord {
    ends: Vec<u32>,
    files: Vec<(String, lowland_io::FileStamp)>,
}

/// All edges, sorted by target, one run after another.
pub(super) struct TransposedEdges {
    counts: Vec<u32>,
    most: usize,
    ends: Vec<u32>,
    /// All edges in one run, if they fit in memory.
    whole: Option<IncomingEdges>,
    buckets: Option<Buckets<EdgeRecord>>,
}

impl TransposedEdges {
    /// Calibrates all rows and distributes their edges by target, in memory or to buckets. Reopens the buckets
    /// of an earlier process if they are complete.
    pub(super) fn build(
        plan: &Plan,
        calibration: &Calibration<'_>,
        counts: Vec<u32>,
        work: &StageContext<'_>,
    ) -> Result<Self> {
        let most = max_incoming(plan.shape.rows, plan.degree());
        if let Some(TransposeRecord { ends, files }) = work.recorded_unit::<TransposeRecord>(UNIT)? {
            let buckets = Buckets::reopen(work.run.dir(), UNIT, ends.len(), &files);
            return Ok(TransposedEdges { counts, most, ends, whole: None, buckets: Some(buckets) });
        }
        let ends = cut_into_runs(&counts, most, plan.affinity.run_bytes);
        let rows = calibration.graph.rows();
        if ends.len() == 1 {
            let mut whole = IncomingEdges::new(0..rows, &counts, most);
            each_edge(plan, calibration, work, |edge| {
                whole.insert(edge);
                Ok(())
            })?;
            let whole = Some(whole.finish());
            return Ok(TransposedEdges { counts, most, ends, whole, buckets: None });
        }
        let mut writer =
            BucketWriter::<EdgeRecord>::create(work.run.dir(), UNIT, ends.len(), plan.affinity.buffer_bytes as usize);
        // Most edges lead to a row near their origin, so that the run of the previous edge is tried first.
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
        let transposed = TransposedEdges { counts, most, ends, whole: None, buckets: Some(buckets) };
        let files = transposed.files();
        work.record_unit(UNIT, files.clone(), &TransposeRecord { ends: transposed.ends.clone(), files })?;
        Ok(transposed)
    }

    fn files(&self) -> StageFiles {
        self.buckets.iter().flat_map(Buckets::files).collect()
    }

    /// Returns the number of runs.
    pub(super) fn runs(&self) -> usize {
        self.ends.len()
    }

    /// Returns the rows of run `run`.
    pub(super) fn rows(&self, run: usize) -> Range<u32> {
        let first = if run == 0 { 0 } else { self.ends[run - 1] };
        first..self.ends[run]
    }

    /// Reads the incoming edges of the rows of run `run`.
    pub(super) fn read(&mut self, run: usize, work: &StageContext<'_>) -> Result<IncomingEdges> {
        match (self.whole.take(), &self.buckets) {
            (Some(whole), _) => Ok(whole),
            (None, Some(buckets)) => {
                let mut incoming = IncomingEdges::new(self.rows(run), &self.counts, self.most);
                buckets.for_each(run, |edge| incoming.insert(edge))?;
                work.progress.traffic.read(buckets.len(run) * 12);
                Ok(incoming.finish())
            }
            (None, None) => unreachable!("a transpose in memory has one run, which is read once"),
        }
    }

    /// Deletes the buckets of runs whose rows are all before `row`.
    pub(super) fn discard_before(&mut self, row: u32, work: &StageContext<'_>) -> Result<()> {
        let Some(buckets) = &mut self.buckets else { return Ok(()) };
        let done: Vec<usize> = (0..self.ends.len()).filter(|&r| self.ends[r] <= row && buckets.len(r) > 0).collect();
        if done.is_empty() {
            return Ok(());
        }
        done.into_iter().for_each(|run| buckets.forget(run));
        let files = self.files();
        work.update_unit_files(UNIT, files.clone(), &TransposeRecord { ends: self.ends.clone(), files })
    }
}

/// Calls `take` for every directed edge with its weight, in the order of the origins.
fn each_edge(
    plan: &Plan,
    calibration: &Calibration<'_>,
    work: &StageContext<'_>,
    mut take: impl FnMut(EdgeRecord) -> Result<()>,
) -> Result<()> {
    let graph = calibration.graph;
    let (rows, degree) = (graph.rows(), plan.degree());
    let starts: Vec<u32> = (0..rows).step_by(CALIBRATION_ROWS).collect();
    for window in starts.chunks(plan.threads * 4) {
        let parts = window
            .par_iter()
            .map(|&start| {
                let (mut weights, mut row) = (vec![0f32; graph.k()], Vec::new());
                let mut edges = Vec::with_capacity(CALIBRATION_ROWS * degree);
                for from in start..(start + CALIBRATION_ROWS as u32).min(rows) {
                    calibration.edges(from, &mut weights, &mut row)?;
                    edges.extend(row.iter().map(|&(to, weight)| EdgeRecord { to, from, weight }));
                }
                Ok(edges)
            })
            .collect::<Result<Vec<_>>>()?;
        parts.into_iter().flatten().try_for_each(&mut take)?;
        let done = window.iter().map(|&start| (rows - start).min(CALIBRATION_ROWS as u32) as u64).sum::<u64>();
        work.progress.traffic.read(done * graph.row_bytes() as u64);
        work.progress.check()?;
    }
    Ok(())
}

/// Returns the bytes of calibrated edges that are not distributed yet.
pub(super) fn staging_bytes(plan: &Plan) -> u64 {
    let rows = (plan.threads as u64 * 4 * CALIBRATION_ROWS as u64).min(plan.shape.rows);
    rows * plan.degree() as u64 * 12
}

/// Returns the bytes of a run that holds all rows, without hubs.
pub(super) fn single_run_bytes(rows: u64, k: usize) -> u64 {
    rows * (ROW_BYTES + EDGE_BYTES * k as u64)
}

/// Returns the smallest number of bytes for a run: enough for one row with the most edges, and for at most
/// [`MAX_RUNS`] runs.
pub(super) fn min_run_bytes(rows: u64, k: usize) -> u64 {
    let row = ROW_BYTES + 2 * EDGE_BYTES * max_incoming(rows, k) as u64;
    // Two consecutive runs together exceed the limit, so that runs are at least half full on average.
    row.max(2 * single_run_bytes(rows, k).div_ceil(MAX_RUNS)).min(single_run_bytes(rows, k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_edges_exceed_the_budget() {
        let counts = [3, 0, 5, 100, 1, 1];
        assert_eq!(cut_into_runs(&counts, 1000, u64::MAX), [6]);
        // Bytes of each row, 12 + 8 · edges: 36, 12, 52, 812, 20, 20.
        assert_eq!(cut_into_runs(&counts, 1000, 100), [3, 4, 6]);
        assert_eq!(cut_into_runs(&counts, 1000, 1), [1, 2, 3, 4, 5, 6]);
        // A row with more edges than it keeps reserves memory for twice the kept number.
        assert_eq!(cut_into_runs(&counts, 4, 216), [6]);
    }

    #[test]
    fn hub_keeps_strongest_edges_in_any_order() {
        let weight = |from: u32| ((from * 7919) % 997) as f32 / 997.0;
        let mut truth: Vec<(u32, f32)> = (0..500).map(|from| (from, weight(from))).collect();
        truth.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        truth.truncate(20);
        truth.sort_by_key(|e| e.0);
        for turn in [0, 3, 250] {
            let mut incoming = IncomingEdges::new(7..9, &[0, 0, 0, 0, 0, 0, 0, 2, 500], 20);
            incoming.insert(EdgeRecord { to: 7, from: 3, weight: 0.5 });
            for from in 0..500 {
                let from = (from + turn) % 500;
                incoming.insert(EdgeRecord { to: 8, from, weight: weight(from) });
            }
            incoming.insert(EdgeRecord { to: 7, from: 4, weight: 0.25 });
            let incoming = incoming.finish();
            assert_eq!(incoming.edges_to(8), truth);
            assert_eq!(incoming.edges_to(7), [(3, 0.5), (4, 0.25)]);
            assert_eq!(incoming.dropped_of(0..9), [(8, 480)]);
        }
    }
}
