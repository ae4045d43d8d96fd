//! The neighbors stage: finds the `k` nearest neighbours of every row by a join over the inverted lists.
//!
//! Each row visits some inverted lists: first the lists whose centroids are nearest to the row,
//! then, in further rounds, the lists that the partial graph of the rounds before suggests. Rows
//! are numbered by list, so the rows of one query window are near each other and visit mostly the
//! same lists. The window's rows are regrouped by the lists that they visit and compared with each
//! list in dense matrix products. The number of lists that a row visits follows from the requested recall and from
//! the exact neighbours of a sample. Small data sets are compared pair by pair.
//!
//! Invariants:
//!
//! - The exact distance decides which candidates are kept; approximate scores only filter.
//! - A row is never its own neighbour. The row is excluded by its number, not by its distance of 0.
//! - The neighbours of a row are the `k` smallest (distance, rank) of all rows that the row was
//!   compared with (the rank, which breaks ties, is computed by `tie_breaker`). The number of threads,
//!   cache sizes and batch sizes do not change them.
//!
//! The graph of a finished run, whose directory is `run`:
//!
//! ```
//! # use std::sync::Arc;
//! # use lowland_engine::{Config, Inputs, embed};
//! # use lowland_io::{MemorySource, RunDir};
//! # let place = tempfile::tempdir()?;
//! # let rows: Vec<f32> = (0..600 * 8).map(|i| ((i * 7919 % 1009) as f32).sin()).collect();
//! # let inputs = Inputs { source: Some(Arc::new(MemorySource::from_vec("rows", rows, 8)?)), ..Inputs::default() };
//! # let plan = Config { n_epochs: Some(10), threads: Some(1), ..Config::default() }.plan(&inputs.describe()?)?;
//! # let (run, _) = RunDir::open(place.path().join("run"), plan.identity(), Vec::new())?;
//! # let mut map = Vec::new();
//! # let report = embed(&plan, &inputs, &run, &mut map, &())?;
//! use lowland_engine::neighbors::{KnnGraph, TruthSample};
//!
//! let graph = KnnGraph::open(run.dir(), 600)?;
//! assert_eq!((graph.rows(), graph.k()), (600, 15));
//! // Rows are numbered in list order; distances ascend.
//! assert_eq!(graph.neighbors(0).len(), 15);
//! assert!(graph.distances(0)?.is_sorted());
//! // The sample from which recall and quality are measured.
//! assert_eq!(TruthSample::read(run.dir())?.rows.len(), plan.sample_rows());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod candidate_filter;
mod cuda;
mod exchange;
mod graph_writer;
mod list_adjacency;
mod partial_graph;
mod probe;
mod rounds;
mod sample;
mod segment_reader;
mod segments;
mod store;
mod tie_breaker;
mod top_k;
mod window;

use lowland_io::FileStamp;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ops::Range;

pub(crate) use candidate_filter::CandidateFilter;
pub(crate) use cuda::device_bytes;
pub use exchange::{export, import};
pub(crate) use exchange::{export_disk, export_needs, import_disk, import_needs};
pub(crate) use sample::sample_rows as sampled;
pub use sample::{FILE as SAMPLE, TruthSample};
pub(crate) use sample::{bytes as sweep_bytes, exact_neighbors};
pub(crate) use segment_reader::{each_portion, portion_rows};
pub(crate) use segments::SegmentTable;
pub(crate) use store::bytes as graph_bytes;
pub use store::{KnnGraph, MISSING, part_name};
pub(crate) use tie_breaker::TieBreaker;
pub(crate) use top_k::TopK;
pub(crate) use window::{MAX_QUERIES, Window};

use crate::Result;
use crate::budget::MemoryNeeds;
use crate::device::Gpu;
use crate::index::{InvertedLists, table_bytes};
use crate::observe::Progress;
use crate::plan::Plan;
use crate::work::{StageContext, StageFiles};
use cuda::GpuJoin;
use graph_writer::{KnnGraphWriter, RowStats};
use list_adjacency::ListAdjacency;
use partial_graph::{PartialGraph, PartialGraphWriter};
use probe::{ListProbe, VisitedLists};
use rounds::{EarlierRounds, FIRST_LISTS, RecallTarget, Round};

/// The largest number of rows of a window. The limit bounds the work that is lost when a join is killed; at
/// this size the time to read and pack all lists once per window is already a small share.
pub(crate) const MAX_WINDOW_ROWS: usize = 1 << 20;
/// The number of lists that a row of a window visits in the memory plan.
const PLANNED_VISITS: usize = 16;

/// Statistics of the finished graph.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GraphStats {
    /// Mean number of lists visited by a row; the number of all lists where every pair was compared.
    pub probes: usize,
    /// Mean number of rows that a row was compared with.
    pub mean_candidates: f64,
    /// Recall: the share of the sample's exact neighbours that the graph contains.
    pub recall: f64,
    /// Half the width of the recall's 95 % interval (normal approximation over sample rows).
    pub recall_interval: f64,
    /// Number of rows in the sample.
    pub sample_rows: usize,
    /// Mean distance to a neighbour, over all rows and neighbours.
    pub mean_distance: f64,
    /// Number of rows whose nearest neighbour is at distance 0.
    pub rows_with_copies: u64,
}

/// Computes the kNN graph of all rows, on `gpu` if one is given, and writes the graph's parts.
///
/// Returns the written files, statistics and the sample with its exact neighbours.
pub fn join(
    plan: &Plan,
    lists: &InvertedLists,
    gpu: Option<&Gpu>,
    work: &StageContext<'_>,
) -> Result<(StageFiles, GraphStats, TruthSample)> {
    let needs = needs(plan);
    if plan.index.exact {
        return every_pair(plan, lists, work, &needs);
    }
    let held = work.reserve(&needs, "sample")?;
    let (truth, file) = true_neighbors(plan, lists, work)?;
    drop(held);

    let segments = SegmentTable::of_index(lists, false)?;
    let gpu_join = gpu
        .map(|gpu| GpuJoin::new(gpu, &segments, plan.k(), TieBreaker::new(plan.settings.seed), work.progress))
        .transpose()?
        .map(RefCell::new);
    let join = KnnJoin { plan, lists, truth: &truth, gpu_join: gpu_join.as_ref(), work };
    // Rounds that an earlier process finished. Only the files of the last of these rounds are still on disk.
    let whole = (1..rounds::MOST_ROUNDS)
        .take_while(|&round| partial_graph::is_complete(round, lists.table.rows(), work))
        .count();
    let (mut number, mut before): (u32, Option<(PartialGraph, ListAdjacency)>) = (whole.max(1) as u32, None);
    let (mut made, found) = loop {
        let round = join.plan_round(number, before.as_ref(), &needs)?;
        let held = work.reserve(&needs, "join")?;
        let probe = ListProbe {
            segments: &segments,
            choice: round.choice,
            before: before.as_ref().map(|(partial_graph, adjacent)| EarlierRounds { partial_graph, adjacent }),
            seed: plan.settings.seed,
        };
        let room = WindowRoom::of(plan, round.lists);
        if round.last {
            break join.run_last_round(number, &segments, Some(&probe), &room, |_| ())?;
        }
        let partial_graph = join.run_round(number, &segments, &probe, &room)?;
        drop(held);
        drop(before);
        if number > 1 {
            partial_graph::release(number - 1, lists.table.rows(), work)?;
        }
        let held = work.reserve(&needs, "adjacent")?;
        let adjacent = ListAdjacency::of(&partial_graph, &lists.table, work.progress)?;
        drop(held);
        (before, number) = (Some((partial_graph, adjacent)), number + 1);
    };
    made.push(file);
    Ok((made, found, truth))
}

/// Computes the graph by comparing every pair of rows. The sample's exact neighbours are then taken
/// from the graph.
fn every_pair(
    plan: &Plan,
    lists: &InvertedLists,
    work: &StageContext<'_>,
    needs: &MemoryNeeds,
) -> Result<(StageFiles, GraphStats, TruthSample)> {
    let segments = SegmentTable::of_index(lists, true)?;
    let mut truth = TruthSample { rows: sample::sample_rows(plan), neighbors: Vec::new() };
    let held = work.reserve(needs, "join")?;
    let (mut made, found) = {
        let mut neighbors = Vec::with_capacity(truth.rows.len());
        let join = KnnJoin { plan, lists, truth: &truth, gpu_join: None, work };
        let made = join.run_last_round(1, &segments, None, &WindowRoom::of(plan, 0.0), |near| neighbors.push(near))?;
        truth.neighbors = neighbors;
        made
    };
    drop(held);
    if truth.neighbors.len() < truth.rows.len() {
        // An earlier process wrote some parts of the graph, so the sample's neighbours were not all seen here.
        let _held = work.reserve(needs, "sample")?;
        truth = exact_neighbors(plan, lists, plan.k(), work.progress)?;
    }
    made.push(truth.write(work)?);
    Ok((made, found, truth))
}

/// The inputs that all rounds share.
struct KnnJoin<'a> {
    plan: &'a Plan,
    lists: &'a InvertedLists,
    truth: &'a TruthSample,
    gpu_join: Option<&'a RefCell<GpuJoin<'a>>>,
    work: &'a StageContext<'a>,
}

impl KnnJoin<'_> {
    /// Decides what round `number` does, or reads the decision of an earlier process.
    fn plan_round(
        &self,
        number: u32,
        before: Option<&(PartialGraph, ListAdjacency)>,
        needs: &MemoryNeeds,
    ) -> Result<Round> {
        let unit = format!("round-{number}");
        if let Some(round) = self.work.recorded_unit::<Round>(&unit)? {
            return Ok(round);
        }
        let _held = self.work.reserve(needs, "decide")?;
        let before = before.map(|(partial_graph, adjacent)| EarlierRounds { partial_graph, adjacent });
        let (recall, candidates) = (self.plan.settings.recall, self.plan.index.max_candidates as f64);
        let wanted = RecallTarget { recall, candidates };
        let round = match before {
            None => rounds::first_round(self.truth, self.lists, wanted)?,
            Some(before) => rounds::next_round(number, self.truth, self.lists, before, wanted)?,
        };
        if round.last && round.recall < recall {
            self.work.progress.note("recall-below", format!(
                "the expected recall is {:.3} instead of {recall:.3}: a higher recall would compare each row with more than {candidates} others",
                round.recall,
            ))?;
        }
        self.work.record_unit(&unit, Vec::new(), &round)?;
        Ok(round)
    }

    /// Runs a round that is not the last: writes and returns its partial graph.
    fn run_round(
        &self,
        number: u32,
        segments: &SegmentTable<'_>,
        probe: &ListProbe<'_>,
        room: &WindowRoom,
    ) -> Result<PartialGraph> {
        let (rows, k) = (self.lists.table.rows(), self.plan.k());
        let mut out = PartialGraphWriter::resume(number, rows, k, *self.work)?;
        let pace = RoundProgress::of(number, false);
        pace.report_rows(0, out.next_row(), self.work.progress)?;
        while out.next_row() < rows {
            let start = out.next_row();
            let end = start.saturating_add(room.rows as u32).min(rows);
            let (window, visited) = self.search_window(start..end, segments, Some(probe), room, &pace)?;
            for (place, &row) in window.rows().iter().enumerate() {
                let been = probe.before.into_iter().flat_map(|before| before.partial_graph.visits(row));
                out.push(window.nearest(place), been.chain(visited.iter().flat_map(|visited| visited.of(place))))?;
            }
            self.work.progress.check()?;
        }
        PartialGraph::open(self.work.run.dir(), number, rows, k)
    }

    /// Runs the last round, which writes the graph.
    ///
    /// Without a `probe` every pair of rows is compared, and `truly` receives the neighbours of
    /// each sample row.
    fn run_last_round(
        &self,
        number: u32,
        segments: &SegmentTable<'_>,
        probe: Option<&ListProbe<'_>>,
        room: &WindowRoom,
        mut truly: impl FnMut(Vec<(f32, u32)>),
    ) -> Result<(StageFiles, GraphStats)> {
        let KnnJoin { plan, truth, work, .. } = *self;
        let (rows, k) = (self.lists.table.rows(), plan.k());
        let mut graph_writer = KnnGraphWriter::resume(rows, k, *work)?;
        let pace = RoundProgress::of(number, true);
        pace.report_rows(0, graph_writer.next_row(), work.progress)?;
        let mut sampled = truth.rows.partition_point(|&row| row < graph_writer.next_row());
        while graph_writer.next_row() < rows {
            let start = graph_writer.next_row();
            let end = start.saturating_add(room.rows as u32).min(rows);
            let (window, visited) = self.search_window(start..end, segments, probe, room, &pace)?;
            for (place, &row) in window.rows().iter().enumerate() {
                let near = window.nearest(place);
                let is_sampled = truth.rows.get(sampled) == Some(&row);
                let recall = is_sampled.then(|| match probe {
                    Some(_) => recall(near.clone(), &truth.neighbors[sampled]),
                    None => {
                        truly(near.clone().collect());
                        1.0
                    }
                });
                sampled += usize::from(is_sampled);
                let near = near.map(|(squared, row)| (row, plan.settings.metric.distance(squared)));
                let (lists, compared) = match (probe, &visited) {
                    (Some(probe), Some(visited)) => {
                        let been = probe.before.into_iter().flat_map(|before| before.partial_graph.visits(row));
                        let lists = been.chain(visited.of(place));
                        let rows = |segment: u32| segments.range(segment as usize).len() as u64;
                        (lists.clone().count() as u64, probe.segments_of(row, lists).map(rows).sum())
                    }
                    _ => (self.lists.table.count() as u64, u64::from(rows)),
                };
                graph_writer.push(near, RowStats { lists, compared, recall })?;
            }
            work.progress.check()?;
        }
        Ok(graph_writer.finish())
    }

    /// Finds the neighbours of `rows`, or only of the first of these rows if all of them together
    /// visit more segments than `room` allows.
    fn search_window(
        &self,
        rows: Range<u32>,
        segments: &SegmentTable<'_>,
        probe: Option<&ListProbe<'_>>,
        room: &WindowRoom,
        pace: &RoundProgress,
    ) -> Result<(Window, Option<VisitedLists>)> {
        let (k, progress) = (self.plan.k(), self.work.progress);
        let mut window = Window::read(segments, rows.clone(), k, self.plan.settings.seed)?;
        let mut visited = None;
        if let Some(probe) = probe {
            let lists = probe.lists(&window, progress)?;
            let of = |place: usize| probe.segments_of(rows.start + place as u32, lists.of(place));
            let mut visits = (0..window.rows().len()).map(|place| of(place).count() as u64).scan(0, |sum, visits| {
                *sum += visits;
                Some(*sum)
            });
            // The window keeps at least one row, so that the join always advances.
            let fit = visits.position(|visits| visits > room.visits).unwrap_or(window.rows().len()).max(1);
            window.truncate(fit, k);
            if let Some(before) = &probe.before {
                window.set_known_neighbors(|row| before.partial_graph.nearest(row));
            }
            if let Some(gpu_join) = self.gpu_join {
                window.compare_on_gpu(&mut gpu_join.borrow_mut(), of, |rows| {
                    pace.report_rows(rows.start, rows.end, progress)
                })?;
                window.sort();
                return Ok((window, Some(lists)));
            }
            window.set_visits(segments.count(), of);
            visited = Some(lists);
        }
        if probe.is_none_or(|probe| probe.before.is_none()) {
            // Rows are first compared within their own segment: the thresholds are then low enough
            // to reject most of the other rows.
            window.compare_within_segments(segments, progress)?;
        }
        let (count, own) = (segments.count() as u32, segments.segment_of(rows.start));
        let order: Vec<u32> =
            (own..count).chain(0..own).filter(|&segment| window.visitors(segment as usize) > 0).collect();
        let both_ways = window.can_compare_both_ways(segments);
        let pairs = |window: &Window, segment: usize| {
            let there = segments.range(segment);
            let visitors = if both_ways { (rows.end - there.end) as usize } else { window.visitors(segment) };
            (visitors * there.len()) as u64
        };
        let all: u64 = order.iter().map(|&segment| pairs(&window, segment as usize)).sum();
        let (mut met, mut told, looked_at) = (0, 0, window.rows().len() as u64);
        each_portion(segments, &order, self.plan.neighbors.portion_rows, progress, |portion| {
            match both_ways {
                true => window.compare_both_ways(portion, segments),
                false => window.compare(portion, segments),
            }
            met += portion.iter().map(|there| pairs(&window, there.segment)).sum::<u64>();
            let done = (looked_at as f64 * met as f64 / all.max(1) as f64) as u64;
            let (before, now) = (rows.start + told as u32, rows.start + done as u32);
            told = done;
            pace.report_rows(before, now, progress)
        })?;
        pace.report_rows(rows.start + told as u32, rows.start + looked_at as u32, progress)?;
        window.sort();
        Ok((window, visited))
    }
}

/// The share of the stage's progress that a round counts for: half of what is left when the round
/// begins, or all of it for the last round.
struct RoundProgress {
    share: f64,
}

impl RoundProgress {
    fn of(number: u32, last: bool) -> Self {
        let left = 0.5f64.powi(number as i32 - 1);
        RoundProgress { share: if last { left } else { left / 2.0 } }
    }

    /// Reports that rows `from..to` of the round are done.
    fn report_rows(&self, from: u32, to: u32, progress: &Progress<'_>) -> Result<()> {
        let at = |row: u32| (f64::from(row) * self.share) as u64;
        progress.advance(at(to).saturating_sub(at(from)))
    }
}

/// Returns the sample's exact neighbours and their file: the stage's first unit.
fn true_neighbors(
    plan: &Plan,
    lists: &InvertedLists,
    work: &StageContext<'_>,
) -> Result<(TruthSample, (String, FileStamp))> {
    const UNIT: &str = "sample";
    if let Some(()) = work.recorded_unit::<()>(UNIT)? {
        let listed = work.run.unit(work.progress.stage().name(), UNIT).unwrap_or_default();
        if let Some(file) = listed.files.into_iter().next() {
            return Ok((TruthSample::read(work.run.dir())?, file));
        }
    }
    let sample = exact_neighbors(plan, lists, plan.k(), work.progress)?;
    let file = sample.write(work)?;
    work.record_unit(UNIT, vec![file.clone()], &())?;
    Ok((sample, file))
}

/// Returns the share of the true neighbours that were found. A found row counts if it is no farther
/// than the farthest true neighbour.
fn recall(found: impl Iterator<Item = (f32, u32)>, truth: &[(f32, u32)]) -> f64 {
    let Some(&(farthest, _)) = truth.last() else { return 1.0 };
    found.filter(|&(d, _)| d <= farthest).count().min(truth.len()) as f64 / truth.len() as f64
}

/// The size limits of a window.
struct WindowRoom {
    rows: usize,
    /// Limit of visits, that is (row, segment) pairs, of all rows together.
    visits: u64,
}

/// Returns the bytes of one row of a window that visits `probes` lists: first while the lists are
/// being found, then while rows are compared. A visit is stored twice while lists are found, and
/// once, sorted by segment, afterwards.
///
/// A row visits more segments than lists where lists are split into several segments; the window is
/// then cut to fewer rows.
fn window_row_bytes(dim: usize, k: usize, probes: usize) -> (u64, u64) {
    let row = Window::row_bytes(dim, k) + 4;
    (row + probes as u64 * 8, row + probes as u64 * 4)
}

/// Returns the bytes that are held beside a window's rows: first while lists are found, then while
/// rows are compared with the segments that are read.
fn shared_bytes(plan: &Plan, probes: usize) -> (u64, u64) {
    let dim = plan.shape.dim;
    let probe = plan.threads as u64 * ListProbe::bytes(dim, plan.index.lists, probes);
    let portion = plan.neighbors.portion_rows;
    // Where each pair is compared once: limits and heaps for the rows of a portion, a set of heaps
    // for each thread.
    let back = portion as u64 * 8 + plan.threads as u64 * TopK::bytes(portion, plan.k());
    let (probe, back) = if plan.index.exact { (0, back) } else { (probe, 0) };
    (probe, back + segment_reader::bytes::<CandidateFilter>(portion, dim))
}

/// Returns the peak bytes of a window of `rows` rows that visit `probes` lists each, including the
/// segments being compared.
fn window_bytes(plan: &Plan, rows: usize, probes: usize) -> u64 {
    let (row, beside) = (window_row_bytes(plan.shape.dim, plan.k(), probes), shared_bytes(plan, probes));
    (rows as u64 * row.0 + beside.0).max(rows as u64 * row.1 + beside.1)
}

impl WindowRoom {
    /// Returns the limits of a window whose rows visit `lists` lists each, in the memory of the
    /// planned window, whose rows visit [`PLANNED_VISITS`] each.
    fn of(plan: &Plan, lists: f64) -> Self {
        let probes = lists.ceil().max(1.0) as usize;
        let (dim, k, planned) = (plan.shape.dim, plan.k(), plan.neighbors.window_rows);
        if plan.index.exact {
            return WindowRoom { rows: planned, visits: 0 };
        }
        let room = window_bytes(plan, planned, PLANNED_VISITS);
        let (row, beside) = (window_row_bytes(dim, k, probes), shared_bytes(plan, probes));
        let fit = (room.saturating_sub(beside.0) / row.0).min(room.saturating_sub(beside.1) / row.1);
        let rows = (fit as usize).clamp(MAX_QUERIES.min(planned), MAX_WINDOW_ROWS.max(planned));
        WindowRoom { rows, visits: (rows * probes) as u64 }
    }
}

/// Returns the memory that the stage holds, phase by phase.
pub fn needs(plan: &Plan) -> MemoryNeeds {
    let (dim, k, threads) = (plan.shape.dim, plan.k(), plan.threads);
    let lists = plan.index.lists;
    let rows = plan.neighbors.window_rows;
    // The choice of lists stops once a row is compared with `max_candidates` rows.
    let share = (plan.index.max_candidates * lists as u64).div_ceil(plan.shape.rows) as usize;
    let most_probes = if plan.index.exact { 0 } else { lists.min(share + FIRST_LISTS) };
    // The larger of two extremes: many rows that visit few lists each, or few rows that visit many.
    let windows = window_bytes(plan, rows, if plan.index.exact { 0 } else { PLANNED_VISITS }).max(window_bytes(
        plan,
        MAX_QUERIES.min(rows),
        most_probes,
    ));
    let truth = plan.sample_rows() as u64 * (k as u64 * 8 + 40);
    let table = table_bytes(plan);
    let (adjacent, decide) = match plan.index.exact {
        true => (0, 0),
        false => (
            ListAdjacency::bytes(plan.shape.rows, lists, threads),
            rounds::bytes(plan.sample_rows() as u64, k, lists, threads),
        ),
    };
    MemoryNeeds::default()
        .phase("sample", [("lists' centroids", table), ("the sample and its neighbours", truth + sweep_bytes(plan))])
        .phase(
            "decide",
            [
                ("lists' centroids", table),
                ("adjacency of lists", adjacent),
                ("the sample's neighbours", truth),
                ("the lists of the sample's neighbours", decide),
            ],
        )
        .phase(
            "adjacent",
            [("lists' centroids", table), ("adjacency of lists", adjacent), ("the sample's neighbours", truth)],
        )
        .phase(
            "join",
            [
                ("adjacency of lists", adjacent),
                ("a window of rows, and the lists being compared", windows),
                // Fragmentation: memory that is free between a window's parts or cached by threads
                // that freed it.
                ("memory kept by the allocator", windows / 50),
                ("file buffer", 1 << 20),
                ("upload buffers for the GPU", cuda::host_bytes(plan)),
                ("visits of lists", Window::bytes(dim, SegmentTable::max_segments(plan), threads)),
                ("lists' centroids", table),
                ("the sample's neighbours", truth),
            ],
        )
}

/// Returns the bytes on disk beside the graph while the partial graphs of earlier rounds are kept.
pub fn disk(plan: &Plan) -> u64 {
    if plan.index.exact { 0 } else { 2 * partial_graph::bytes(plan.shape.rows, plan.k(), PLANNED_VISITS as u64) }
}
