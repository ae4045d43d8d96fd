//! The neighbors stage: the k nearest of *every* row, by a join of the lists.
//!
//! Each row visits the lists whose centroids lie nearest to it. The rows of a
//! window, near each other since rows are numbered by list, visit much the
//! same lists: regrouped by list, they meet its rows in dense matrix products.
//! How many lists follows from the recall asked for and the exact neighbours
//! of a sample. Small data are compared pair by pair. Either way the best few
//! by score are ordered again by exact distance, and a row's own entry goes by
//! identity.
//!
//! What must hold: a row's neighbours are the k least (distance, row) of all
//! rows it meets; threads, cache and portions cannot change them.

mod coded;
mod exchange;
mod feed;
pub mod kernel;
mod probe;
mod sample;
mod segments;
mod sieve;
mod store;
mod tiles;
mod top;
mod window;

use std::ops::Range;

use lowland_io::FileStamp;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use exchange::{export, export_disk, export_needs, import, import_disk, import_needs};
pub(crate) use feed::portion_rows;
pub use feed::{Form, Met, each_portion};
pub use probe::{Probing, probing};
pub use sample::{FILE as SAMPLE, Sample, bytes as sweep_bytes, exact};
pub use segments::Segments;
pub use sieve::Sieve;
pub use store::{Graph, MISSING, bytes as graph_bytes, part_name};
pub use top::Tops;
pub use window::{PANEL, Window};

use crate::Result;
use crate::budget::Needs;
use crate::index::{Lists, Made};
use crate::observe::Progress;
use crate::plan::Plan;
use crate::work::Work;
use probe::{LEAST_PROBES, Probe};
use tiles::{About, Tiles};

/// Rows of a window at most: what a killed join begins anew is bounded, and
/// what reading and packing all lists for a window costs is long a small share.
pub const LARGEST_WINDOW: usize = 1 << 20;
/// Lists that a row of a window visits, about.
const VISITS: usize = 16;

/// What the stage found, beside the graph itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Lists that each row visited; all of them where every pair was compared.
    pub probes: usize,
    /// Rows that a row was compared with, on average.
    pub mean_candidates: f64,
    /// Share of the sample's true neighbours that the graph holds.
    pub recall: f64,
    /// Half the width of recall's 95 % interval (normal approximation over sample rows).
    pub recall_interval: f64,
    /// Rows in the sample.
    pub sample_rows: usize,
    /// Mean distance to a neighbour, over all rows and neighbours.
    pub mean_distance: f64,
    /// Rows with an exact copy among their neighbours.
    pub rows_with_copies: u64,
}

/// Joins every row with its surroundings and writes the graph.
pub fn join(plan: &Plan, lists: &Lists, work: &Work<'_>) -> Result<(Made, Found, Sample)> {
    let (k, table, progress) = (plan.k(), &lists.table, work.progress);
    let needs = needs(plan);
    let held = work.hold(&needs, "sample")?;
    let Truth { sample: truth, probing, file } = true_neighbors(plan, lists, work)?;
    drop(held);
    if probing.recall < plan.config.recall {
        progress.note(&format!(
            "recall will be about {:.3} rather than {:.3}: more would compare each row with over {} others",
            probing.recall, plan.config.recall, plan.index.max_candidates
        ))?;
    }

    let mut tiles = Tiles::resume(table.rows(), k, *work)?;
    if tiles.next_row() < table.rows() {
        let _held = work.hold(&needs, "join")?;
        let segments = Segments::all_pairs(lists, plan.index.exact)?;
        let probe = (!plan.index.exact).then_some(Probe { segments: &segments, probing, seed: plan.config.seed });
        let room = Room::of(plan, probing.probes);
        let mut sampled = truth.rows.partition_point(|&row| row < tiles.next_row());
        while tiles.next_row() < table.rows() {
            let start = tiles.next_row();
            let end = start.saturating_add(room.rows as u32).min(table.rows());
            let (window, compared) = look_around(start..end, k, &segments, probe.as_ref(), plan, &room, progress)?;
            for (place, &row) in window.rows().iter().enumerate() {
                let near = window.near(place);
                let is_sampled = truth.rows.get(sampled) == Some(&row);
                let recall = is_sampled.then(|| recall(near.clone(), &truth.neighbors[sampled]));
                sampled += usize::from(is_sampled);
                let near = near.map(|(squared, row)| (row, plan.config.metric.distance(squared)));
                tiles.push(near, About { compared: compared.of(place), recall })?;
            }
            progress.check()?;
        }
    }
    let (mut made, found) = tiles.finish(probing.probes);
    made.push(file);
    Ok((made, found, truth))
}

/// How many rows each row of a window was compared with.
enum Compared {
    All(u64),
    Each(Vec<u32>),
}

impl Compared {
    fn of(&self, place: usize) -> u64 {
        match self {
            Compared::All(rows) => *rows,
            Compared::Each(rows) => u64::from(rows[place]),
        }
    }
}

/// Finds the neighbours of `rows`, or of the first of them where they visit
/// more than there is room for.
fn look_around(
    rows: Range<u32>,
    k: usize,
    segments: &Segments<'_>,
    probe: Option<&Probe<'_>>,
    plan: &Plan,
    room: &Room,
    progress: &Progress<'_>,
) -> Result<(Window, Compared)> {
    let mut window = Window::read(segments, rows.clone(), k)?;
    let mut compared = Compared::All(u64::from(segments.lists.table.rows()));
    if let Some(probe) = probe {
        let visited = probe.lists(&window, progress)?;
        let of = |place: usize| probe.segments_of(rows.start + place as u32, &visited, place);
        let mut visits = (0..window.rows().len()).map(|place| of(place).count() as u64).scan(0, |sum, visits| {
            *sum += visits;
            Some(*sum)
        });
        // A row is looked at in any case.
        let fit = visits.position(|visits| visits > room.visits).unwrap_or(window.rows().len()).max(1);
        window.cut(fit, k);
        let met = |place| of(place).map(|segment| segments.range(segment as usize).len() as u32).sum();
        compared = Compared::Each((0..fit).into_par_iter().map(met).collect());
        window.visit(segments.count(), of);
    }
    // A row's own surroundings first: then most others are seen to be too far at once.
    window.meet_own(segments, progress)?;
    let (count, own) = (segments.count() as u32, segments.segment_of(rows.start));
    let order: Vec<u32> = (own..count).chain(0..own).filter(|&segment| window.visitors(segment as usize) > 0).collect();
    let pairs = |window: &Window, segment: usize| (window.visitors(segment) * segments.range(segment).len()) as u64;
    let all: u64 = order.iter().map(|&segment| pairs(&window, segment as usize)).sum();
    let (mut met, mut told) = (0, 0);
    each_portion(segments, &order, plan.neighbors.portion_rows, progress, |portion| {
        window.meet(portion, segments);
        met += portion.iter().map(|there| pairs(&window, there.segment)).sum::<u64>();
        let done = (window.rows().len() as f64 * met as f64 / all.max(1) as f64) as u64;
        progress.advance(done - std::mem::replace(&mut told, done))
    })?;
    window.sort();
    Ok((window, compared))
}

/// What the stage's first unit finds: the sample's exact neighbours, and how
/// many lists must be visited for them.
struct Truth {
    sample: Sample,
    probing: Probing,
    file: (String, FileStamp),
}

fn true_neighbors(plan: &Plan, lists: &Lists, work: &Work<'_>) -> Result<Truth> {
    const UNIT: &str = "sample";
    if let Some(probing) = work.finished::<Probing>(UNIT)? {
        let listed = work.run.unit(work.progress.stage().name(), UNIT).unwrap_or_default();
        if let Some(file) = listed.files.into_iter().next() {
            return Ok(Truth { sample: Sample::read(work.run.dir())?, probing, file });
        }
    }
    let sample = exact(plan, lists, plan.k(), work.progress)?;
    let probing = if plan.index.exact {
        Probing { probes: lists.table.count(), around: lists.table.count(), recall: 1.0 }
    } else {
        probing(&sample, lists, plan.config.recall, plan.index.max_candidates)?
    };
    let file = sample.write(work.run.dir())?;
    work.progress.traffic.wrote(file.1.bytes);
    work.finish(UNIT, vec![file.clone()], &probing)?;
    Ok(Truth { sample, probing, file })
}

/// Share of the true neighbours found: a row as near as the farthest true one counts.
fn recall(found: impl Iterator<Item = (f32, u32)>, truth: &[(f32, u32)]) -> f64 {
    let Some(&(farthest, _)) = truth.last() else { return 1.0 };
    found.filter(|&(d, _)| d <= farthest).count().min(truth.len()) as f64 / truth.len() as f64
}

/// What a window holds.
struct Room {
    rows: usize,
    /// Visits (a row to a segment) of all of them.
    visits: u64,
}

/// Bytes of a window's row that visits so many lists, while these are found
/// and while lists are met: as found a visit is listed twice, in order once.
/// Where lists are cut into several segments a row visits more, and the window
/// is cut to fewer rows.
fn window_row_bytes(dim: usize, k: usize, probes: usize) -> (u64, u64) {
    let row = Window::row_bytes(dim, k) + 4;
    (row + probes as u64 * 8, row + probes as u64 * 4)
}

/// What is held meanwhile beside the rows: what finding takes, and lists on their way.
fn beside(plan: &Plan, probes: usize) -> (u64, u64) {
    let dim = plan.shape.dim;
    let probe = plan.threads as u64 * Probe::bytes(dim, plan.index.lists, probes);
    (if plan.index.exact { 0 } else { probe }, feed::bytes::<Sieve>(plan.neighbors.portion_rows, dim))
}

/// Bytes of a window of so many rows, each of which visits so many lists, and
/// of the lists that it meets.
fn window_bytes(plan: &Plan, rows: usize, probes: usize) -> u64 {
    let (row, beside) = (window_row_bytes(plan.shape.dim, plan.k(), probes), beside(plan, probes));
    (rows as u64 * row.0 + beside.0).max(rows as u64 * row.1 + beside.1)
}

impl Room {
    /// Where each row probes `probes` lists, in the room of the planned rows that visit [`VISITS`].
    fn of(plan: &Plan, probes: usize) -> Self {
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

/// What the stage holds.
pub fn needs(plan: &Plan) -> Needs {
    let (dim, k, threads) = (plan.shape.dim, plan.k(), plan.threads);
    let lists = plan.index.lists;
    let rows = plan.neighbors.window_rows;
    // Probing ends where a row has met its share of all rows.
    let share = (plan.index.max_candidates * lists as u64).div_ceil(plan.shape.rows) as usize;
    let most_probes = if plan.index.exact { 0 } else { lists.min(share + LEAST_PROBES) };
    // Many rows that visit few lists each, or few that visit many.
    let windows = window_bytes(plan, rows, if plan.index.exact { 0 } else { VISITS }).max(window_bytes(
        plan,
        PANEL.min(rows),
        most_probes,
    ));
    let truth = plan.sample_rows() as u64 * (k as u64 * 8 + 40);
    let table = plan.table_bytes();
    Needs::default()
        .phase("sample", [("lists' centroids", table), ("the sample and its neighbours", truth + sweep_bytes(plan))])
        .phase(
            "join",
            [
                ("a window of rows, and the lists that they meet", windows),
                // What lies free between a window's parts, and with threads that gave it back.
                ("what the allocator keeps", windows / 50),
                ("file buffer", 1 << 20),
                ("who visits what", Window::bytes(dim, Segments::most(plan), threads)),
                ("lists' centroids", table),
                ("the sample's neighbours", truth),
            ],
        )
}
