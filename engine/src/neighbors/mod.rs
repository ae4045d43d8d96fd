//! The neighbors stage: finds the `k` nearest neighbours of every row by a join over the inverted lists.
//!
//! Each row visits some inverted lists: first the lists whose centroids are nearest to the row,
//! then, in further rounds, the lists that the partial graph of the rounds before suggests. Rows
//! are numbered by list, so the rows of one query window are near each other and visit mostly the
//! same lists. The window's rows are regrouped by the lists that they visit and compared with each
//! list in dense matrix products. The number of lists follows from the requested recall and from
//! the exact neighbours of a sample. Small data sets are compared pair by pair.
//!
//! Invariants:
//!
//! - The exact distance decides which candidates are kept; approximate scores only filter.
//! - A row is never its own neighbour. The row is excluded by its number, not by its distance of 0.
//! - The neighbours of a row are the `k` smallest (distance, rank) of all rows that the row was
//!   compared with (the rank, which breaks ties, is computed by `ties`). The number of threads,
//!   cache sizes and batch sizes do not change them.

mod adjacent;
mod coded;
mod cuda;
mod exchange;
mod feed;
mod probe;
mod rounds;
mod sample;
mod segments;
mod sieve;
mod so_far;
mod store;
mod ties;
mod tiles;
mod top;
mod window;

use lowland_io::FileStamp;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ops::Range;

pub(crate) use cuda::device_bytes;
pub use exchange::{export, export_disk, export_needs, import, import_disk, import_needs};
pub(crate) use feed::portion_rows;
pub use feed::{Form, Met, each_portion};
pub(crate) use sample::rows as sampled;
pub use sample::{FILE as SAMPLE, Sample, bytes as sweep_bytes, exact};
pub use segments::Segments;
pub use sieve::Sieve;
pub use store::{Graph, MISSING, bytes as graph_bytes, part_name};
pub(crate) use ties::Ties;
pub use top::Tops;
pub use window::{PANEL, Window};

use crate::Result;
use crate::budget::Needs;
use crate::device::Gpu;
use crate::index::{Lists, table_bytes};
use crate::observe::Progress;
use crate::plan::Plan;
use crate::work::{Made, Work};
use adjacent::Adjacent;
use cuda::Joiner;
use probe::{Probe, Visited};
use rounds::{Before, FIRST, Round, Wanted};
use so_far::{SoFar, SoFarWriter};
use tiles::{About, Tiles};

/// The largest number of rows of a window. The limit bounds the work that is lost when a join is killed; at
/// this size the time to read and pack all lists once per window is already a small share.
pub const LARGEST_WINDOW: usize = 1 << 20;
/// The number of lists that a row of a window visits in the memory plan.
const VISITS: usize = 16;

/// Statistics of the finished graph.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Found {
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
pub fn join(plan: &Plan, lists: &Lists, gpu: Option<&Gpu>, work: &Work<'_>) -> Result<(Made, Found, Sample)> {
    let needs = needs(plan);
    if plan.index.exact {
        return all_pairs(plan, lists, work, &needs);
    }
    let held = work.hold(&needs, "sample")?;
    let (truth, file) = true_neighbors(plan, lists, work)?;
    drop(held);

    let segments = Segments::all_pairs(lists, false)?;
    let joiner = gpu
        .map(|gpu| Joiner::new(gpu, &segments, plan.k(), Ties::new(plan.settings.seed), work.progress))
        .transpose()?
        .map(RefCell::new);
    let join = Join { plan, lists, truth: &truth, joiner: joiner.as_ref(), work };
    // Rounds that an earlier process finished. Only the files of the last of these rounds are still on disk.
    let whole = (1..rounds::MOST_ROUNDS).take_while(|&round| so_far::is_whole(round, lists.table.rows(), work)).count();
    let (mut number, mut before): (u32, Option<(SoFar, Adjacent)>) = (whole.max(1) as u32, None);
    let (mut made, found) = loop {
        let round = join.decide(number, before.as_ref(), &needs)?;
        let held = work.hold(&needs, "join")?;
        let probe = Probe {
            segments: &segments,
            choice: round.choice,
            before: before.as_ref().map(|(so_far, adjacent)| Before { so_far, adjacent }),
            seed: plan.settings.seed,
        };
        let room = Room::of(plan, round.lists);
        if round.last {
            break join.last(number, &segments, Some(&probe), &room, |_| ())?;
        }
        let so_far = join.round(number, &segments, &probe, &room)?;
        drop(held);
        drop(before);
        if number > 1 {
            so_far::release(number - 1, lists.table.rows(), work)?;
        }
        let held = work.hold(&needs, "adjacent")?;
        let adjacent = Adjacent::of(&so_far, &lists.table, work.progress)?;
        drop(held);
        (before, number) = (Some((so_far, adjacent)), number + 1);
    };
    made.push(file);
    Ok((made, found, truth))
}

/// Computes the graph by comparing every pair of rows. The sample's exact neighbours are then taken
/// from the graph.
fn all_pairs(plan: &Plan, lists: &Lists, work: &Work<'_>, needs: &Needs) -> Result<(Made, Found, Sample)> {
    let segments = Segments::all_pairs(lists, true)?;
    let mut truth = Sample { rows: sample::rows(plan), neighbors: Vec::new() };
    let held = work.hold(needs, "join")?;
    let (mut made, found) = {
        let mut neighbors = Vec::with_capacity(truth.rows.len());
        let join = Join { plan, lists, truth: &truth, joiner: None, work };
        let made = join.last(1, &segments, None, &Room::of(plan, 0.0), |near| neighbors.push(near))?;
        truth.neighbors = neighbors;
        made
    };
    drop(held);
    if truth.neighbors.len() < truth.rows.len() {
        // An earlier process wrote some parts of the graph, so the sample's neighbours were not all seen here.
        let _held = work.hold(needs, "sample")?;
        truth = exact(plan, lists, plan.k(), work.progress)?;
    }
    made.push(truth.leave(work)?);
    Ok((made, found, truth))
}

/// The inputs that all rounds share.
struct Join<'a> {
    plan: &'a Plan,
    lists: &'a Lists,
    truth: &'a Sample,
    joiner: Option<&'a RefCell<Joiner<'a>>>,
    work: &'a Work<'a>,
}

impl Join<'_> {
    /// Decides what round `number` does, or reads the decision of an earlier process.
    fn decide(&self, number: u32, before: Option<&(SoFar, Adjacent)>, needs: &Needs) -> Result<Round> {
        let unit = format!("round-{number}");
        if let Some(round) = self.work.finished::<Round>(&unit)? {
            return Ok(round);
        }
        let _held = self.work.hold(needs, "decide")?;
        let before = before.map(|(so_far, adjacent)| Before { so_far, adjacent });
        let (recall, candidates) = (self.plan.settings.recall, self.plan.index.max_candidates as f64);
        let wanted = Wanted { recall, candidates };
        let round = match before {
            None => rounds::first(self.truth, self.lists, wanted)?,
            Some(before) => rounds::next(number, self.truth, self.lists, before, wanted)?,
        };
        if round.last && round.recall < recall {
            self.work.progress.note("recall-below", format!(
                "recall will be about {:.3} rather than {recall:.3}: more would compare each row with over {candidates} others",
                round.recall,
            ))?;
        }
        self.work.finish(&unit, Vec::new(), &round)?;
        Ok(round)
    }

    /// Runs a round that is not the last: writes and returns its partial graph.
    fn round(&self, number: u32, segments: &Segments<'_>, probe: &Probe<'_>, room: &Room) -> Result<SoFar> {
        let (rows, k) = (self.lists.table.rows(), self.plan.k());
        let mut out = SoFarWriter::resume(number, rows, k, *self.work)?;
        let pace = Pace::of(number, false);
        pace.tell(0, out.next_row(), self.work.progress)?;
        while out.next_row() < rows {
            let start = out.next_row();
            let end = start.saturating_add(room.rows as u32).min(rows);
            let (window, visited) = self.look_around(start..end, segments, Some(probe), room, &pace)?;
            for (place, &row) in window.rows().iter().enumerate() {
                let been = probe.before.into_iter().flat_map(|before| before.so_far.visits(row));
                out.push(window.near(place), been.chain(visited.iter().flat_map(|visited| visited.of(place))))?;
            }
            self.work.progress.check()?;
        }
        SoFar::open(self.work.run.dir(), number, rows, k)
    }

    /// Runs the last round, which writes the graph.
    ///
    /// Without a `probe` every pair of rows is compared, and `truly` receives the neighbours of
    /// each sample row.
    fn last(
        &self,
        number: u32,
        segments: &Segments<'_>,
        probe: Option<&Probe<'_>>,
        room: &Room,
        mut truly: impl FnMut(Vec<(f32, u32)>),
    ) -> Result<(Made, Found)> {
        let Join { plan, truth, work, .. } = *self;
        let (rows, k) = (self.lists.table.rows(), plan.k());
        let mut tiles = Tiles::resume(rows, k, *work)?;
        let pace = Pace::of(number, true);
        pace.tell(0, tiles.next_row(), work.progress)?;
        let mut sampled = truth.rows.partition_point(|&row| row < tiles.next_row());
        while tiles.next_row() < rows {
            let start = tiles.next_row();
            let end = start.saturating_add(room.rows as u32).min(rows);
            let (window, visited) = self.look_around(start..end, segments, probe, room, &pace)?;
            for (place, &row) in window.rows().iter().enumerate() {
                let near = window.near(place);
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
                        let been = probe.before.into_iter().flat_map(|before| before.so_far.visits(row));
                        let lists = been.chain(visited.of(place));
                        let rows = |segment: u32| segments.range(segment as usize).len() as u64;
                        (lists.clone().count() as u64, probe.segments_of(row, lists).map(rows).sum())
                    }
                    _ => (self.lists.table.count() as u64, u64::from(rows)),
                };
                tiles.push(near, About { lists, compared, recall })?;
            }
            work.progress.check()?;
        }
        Ok(tiles.finish())
    }

    /// Finds the neighbours of `rows`, or only of the first of these rows if all of them together
    /// visit more segments than `room` allows.
    fn look_around(
        &self,
        rows: Range<u32>,
        segments: &Segments<'_>,
        probe: Option<&Probe<'_>>,
        room: &Room,
        pace: &Pace,
    ) -> Result<(Window, Option<Visited>)> {
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
            window.cut(fit, k);
            if let Some(before) = &probe.before {
                window.remember(|row| before.so_far.near(row));
            }
            if let Some(joiner) = self.joiner {
                window.meet_on(&mut joiner.borrow_mut(), of, |rows| pace.tell(rows.start, rows.end, progress))?;
                window.sort();
                return Ok((window, Some(lists)));
            }
            window.visit(segments.count(), of);
            visited = Some(lists);
        }
        if probe.is_none_or(|probe| probe.before.is_none()) {
            // Rows are first compared within their own segment: the thresholds are then low enough
            // to reject most of the other rows.
            window.meet_own(segments, progress)?;
        }
        let (count, own) = (segments.count() as u32, segments.segment_of(rows.start));
        let order: Vec<u32> =
            (own..count).chain(0..own).filter(|&segment| window.visitors(segment as usize) > 0).collect();
        let both_ways = window.meets_both_ways(segments);
        let pairs = |window: &Window, segment: usize| {
            let there = segments.range(segment);
            let visitors = if both_ways { (rows.end - there.end) as usize } else { window.visitors(segment) };
            (visitors * there.len()) as u64
        };
        let all: u64 = order.iter().map(|&segment| pairs(&window, segment as usize)).sum();
        let (mut met, mut told, looked_at) = (0, 0, window.rows().len() as u64);
        each_portion(segments, &order, self.plan.neighbors.portion_rows, progress, |portion| {
            match both_ways {
                true => window.meet_both_ways(portion, segments),
                false => window.meet(portion, segments),
            }
            met += portion.iter().map(|there| pairs(&window, there.segment)).sum::<u64>();
            let done = (looked_at as f64 * met as f64 / all.max(1) as f64) as u64;
            let (before, now) = (rows.start + told as u32, rows.start + done as u32);
            told = done;
            pace.tell(before, now, progress)
        })?;
        pace.tell(rows.start + told as u32, rows.start + looked_at as u32, progress)?;
        window.sort();
        Ok((window, visited))
    }
}

/// The share of the stage's progress that a round counts for: half of what is left when the round
/// begins, or all of it for the last round.
struct Pace {
    share: f64,
}

impl Pace {
    fn of(number: u32, last: bool) -> Self {
        let left = 0.5f64.powi(number as i32 - 1);
        Pace { share: if last { left } else { left / 2.0 } }
    }

    /// Reports that rows `from..to` of the round are done.
    fn tell(&self, from: u32, to: u32, progress: &Progress<'_>) -> Result<()> {
        let at = |row: u32| (f64::from(row) * self.share) as u64;
        progress.advance(at(to).saturating_sub(at(from)))
    }
}

/// Returns the sample's exact neighbours and their file: the stage's first unit.
fn true_neighbors(plan: &Plan, lists: &Lists, work: &Work<'_>) -> Result<(Sample, (String, FileStamp))> {
    const UNIT: &str = "sample";
    if let Some(()) = work.finished::<()>(UNIT)? {
        let listed = work.run.unit(work.progress.stage().name(), UNIT).unwrap_or_default();
        if let Some(file) = listed.files.into_iter().next() {
            return Ok((Sample::read(work.run.dir())?, file));
        }
    }
    let sample = exact(plan, lists, plan.k(), work.progress)?;
    let file = sample.leave(work)?;
    work.finish(UNIT, vec![file.clone()], &())?;
    Ok((sample, file))
}

/// Returns the share of the true neighbours that were found. A found row counts if it is no farther
/// than the farthest true neighbour.
fn recall(found: impl Iterator<Item = (f32, u32)>, truth: &[(f32, u32)]) -> f64 {
    let Some(&(farthest, _)) = truth.last() else { return 1.0 };
    found.filter(|&(d, _)| d <= farthest).count().min(truth.len()) as f64 / truth.len() as f64
}

/// The size limits of a window.
struct Room {
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
fn beside(plan: &Plan, probes: usize) -> (u64, u64) {
    let dim = plan.shape.dim;
    let probe = plan.threads as u64 * Probe::bytes(dim, plan.index.lists, probes);
    let portion = plan.neighbors.portion_rows;
    // Where each pair is compared once: limits and heaps for the rows of a portion, a set of heaps
    // for each thread.
    let back = portion as u64 * 8 + plan.threads as u64 * Tops::bytes(portion, plan.k());
    let (probe, back) = if plan.index.exact { (0, back) } else { (probe, 0) };
    (probe, back + feed::bytes::<Sieve>(portion, dim))
}

/// Returns the peak bytes of a window of `rows` rows that visit `probes` lists each, including the
/// segments being compared.
fn window_bytes(plan: &Plan, rows: usize, probes: usize) -> u64 {
    let (row, beside) = (window_row_bytes(plan.shape.dim, plan.k(), probes), beside(plan, probes));
    (rows as u64 * row.0 + beside.0).max(rows as u64 * row.1 + beside.1)
}

impl Room {
    /// Returns the limits of a window whose rows visit `lists` lists each, in the memory of the
    /// planned window, whose rows visit [`VISITS`] each.
    fn of(plan: &Plan, lists: f64) -> Self {
        let probes = lists.ceil().max(1.0) as usize;
        let (dim, k, planned) = (plan.shape.dim, plan.k(), plan.neighbors.window_rows);
        if plan.index.exact {
            return Room { rows: planned, visits: 0 };
        }
        let room = window_bytes(plan, planned, VISITS);
        let (row, beside) = (window_row_bytes(dim, k, probes), beside(plan, probes));
        let fit = (room.saturating_sub(beside.0) / row.0).min(room.saturating_sub(beside.1) / row.1);
        let rows = (fit as usize).clamp(PANEL.min(planned), LARGEST_WINDOW.max(planned));
        Room { rows, visits: (rows * probes) as u64 }
    }
}

/// Returns the memory that the stage holds, phase by phase.
pub fn needs(plan: &Plan) -> Needs {
    let (dim, k, threads) = (plan.shape.dim, plan.k(), plan.threads);
    let lists = plan.index.lists;
    let rows = plan.neighbors.window_rows;
    // The choice of lists stops once a row is compared with `max_candidates` rows.
    let share = (plan.index.max_candidates * lists as u64).div_ceil(plan.shape.rows) as usize;
    let most_probes = if plan.index.exact { 0 } else { lists.min(share + FIRST) };
    // The larger of two extremes: many rows that visit few lists each, or few rows that visit many.
    let windows = window_bytes(plan, rows, if plan.index.exact { 0 } else { VISITS }).max(window_bytes(
        plan,
        PANEL.min(rows),
        most_probes,
    ));
    let truth = plan.sample_rows() as u64 * (k as u64 * 8 + 40);
    let table = table_bytes(plan);
    let (adjacent, decide) = match plan.index.exact {
        true => (0, 0),
        false => (
            Adjacent::bytes(plan.shape.rows, lists, threads),
            rounds::bytes(plan.sample_rows() as u64, k, lists, threads),
        ),
    };
    Needs::default()
        .phase("sample", [("lists' centroids", table), ("the sample and its neighbours", truth + sweep_bytes(plan))])
        .phase(
            "decide",
            [
                ("lists' centroids", table),
                ("lists beside each other", adjacent),
                ("the sample's neighbours", truth),
                ("the lists that they are in", decide),
            ],
        )
        .phase(
            "adjacent",
            [("lists' centroids", table), ("lists beside each other", adjacent), ("the sample's neighbours", truth)],
        )
        .phase(
            "join",
            [
                ("lists beside each other", adjacent),
                ("a window of rows, and the lists that they meet", windows),
                // Fragmentation: memory that is free between a window's parts or cached by threads
                // that freed it.
                ("what the allocator keeps", windows / 50),
                ("file buffer", 1 << 20),
                ("rows on their way to the GPU", cuda::host_bytes(plan)),
                ("who visits what", Window::bytes(dim, Segments::most(plan), threads)),
                ("lists' centroids", table),
                ("the sample's neighbours", truth),
            ],
        )
}

/// Returns the bytes on disk beside the graph while the partial graphs of earlier rounds are kept.
pub fn disk(plan: &Plan) -> u64 {
    if plan.index.exact { 0 } else { 2 * so_far::bytes(plan.shape.rows, plan.k(), VISITS as u64) }
}
