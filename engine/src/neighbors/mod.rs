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

mod exchange;
pub mod kernel;
mod panel;
mod sample;
mod segments;
mod store;
mod tiles;
mod top;

use std::ops::Range;

use lowland_io::FileStamp;
use serde::{Deserialize, Serialize};

pub use exchange::{export, export_disk, export_needs, import, import_disk, import_needs};
pub use panel::{Near, PANEL, Panel};
pub use sample::{FILE as SAMPLE, Sample, bytes as sweep_bytes, exact, panels, probes_for, sweep};
pub use segments::Segments;
pub use store::{Graph, MISSING, bytes as graph_bytes, part_name};
pub use top::Tops;

use crate::Result;
use crate::budget::Needs;
use crate::index::{Lists, Made};
use crate::observe::Progress;
use crate::ordered::{self, in_order};
use crate::plan::Plan;
use crate::work::Work;
use kernel::{Packed, Queries};
use segments::Cache;
use tiles::{About, Tiles};

/// Segments of one list that a row visits at most: 65,536 rows.
const MOST_SEGMENTS: usize = 32;
/// Lists that a row probes at least, so that one in a tiny list meets others.
const LEAST_PROBES: usize = 8;
/// Rows of a window where lists are probed and all of them stay packed.
pub const WINDOW: usize = 16_384;
/// Rows of a window at most, where they do not.
pub const LARGEST_WINDOW: usize = 1 << 18;
/// Visits (a row to a list) of a window, for each of its rows, about.
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
    let Truth { sample: truth, probes, recall: estimate, file } = true_neighbors(plan, lists, work)?;
    drop(held);
    if estimate < plan.config.recall {
        progress.note(&format!(
            "recall will be about {estimate:.3} rather than {:.3}: more would compare each row with over {} others",
            plan.config.recall, plan.index.max_candidates
        ))?;
    }

    let mut tiles = Tiles::resume(table.rows(), k, *work)?;
    if tiles.next_row() < table.rows() {
        let _held = work.hold(&needs, "join")?;
        let segments = Segments::all_pairs(lists, plan.index.exact)?;
        let cache = Cache::new(&segments, plan.neighbors.cache_bytes, !plan.index.exact);
        let metric = plan.config.metric;
        let coarse = (!plan.index.exact).then(|| Coarse::new(lists, probes, plan.config.seed));
        let rows_a_task = if plan.index.exact { PANEL } else { window_rows(plan.neighbors.window_rows, k, probes) };
        let tasks: Vec<Range<u32>> = (tiles.next_row()..table.rows())
            .step_by(rows_a_task)
            .map(|start| start..start.saturating_add(rows_a_task as u32).min(table.rows()))
            .collect();
        let mut sampled = truth.rows.partition_point(|&row| row < tiles.next_row());
        in_order(
            tasks.len(),
            |task| {
                let backwards = task % 2 == 1;
                run(tasks[task].clone(), &segments, &cache, coarse.as_ref(), k, backwards, progress)
            },
            |task, (found, compared)| {
                let rows = tasks[task].clone();
                for ((row, near), compared) in rows.clone().zip(found.rows()).zip(compared) {
                    let is_sampled = truth.rows.get(sampled) == Some(&row);
                    let recall = is_sampled.then(|| recall(near, &truth.neighbors[sampled]));
                    sampled += usize::from(is_sampled);
                    let near = near.iter().map(|&(squared, row)| (row, metric.distance(squared)));
                    tiles.push(near, About { compared, recall })?;
                }
                progress.advance(rows.len() as u64)
            },
        )?;
        progress.traffic.read(cache.read.load(std::sync::atomic::Ordering::Relaxed));
    }
    let (mut made, found) = tiles.finish(probes);
    made.push(file);
    Ok((made, found, truth))
}

/// What the stage's first unit finds: the sample's exact neighbours, how many
/// lists must be probed for them, and the recall that this gives.
struct Truth {
    sample: Sample,
    probes: usize,
    recall: f64,
    file: (String, FileStamp),
}

fn true_neighbors(plan: &Plan, lists: &Lists, work: &Work<'_>) -> Result<Truth> {
    const UNIT: &str = "sample";
    if let Some((probes, recall)) = work.finished::<(usize, f64)>(UNIT)? {
        let listed = work.run.unit(work.progress.stage().name(), UNIT).unwrap_or_default();
        if let Some(file) = listed.files.into_iter().next() {
            return Ok(Truth { sample: Sample::read(work.run.dir())?, probes, recall, file });
        }
    }
    let sample = exact(plan, lists, plan.k(), work.progress)?;
    let (probes, recall) = if plan.index.exact {
        (lists.table.count(), 1.0)
    } else {
        let (probes, recall) = probes_for(&sample, lists, plan.config.recall, plan.index.max_candidates)?;
        (probes.max(LEAST_PROBES).min(lists.table.count()), recall)
    };
    let file = sample.write(work.run.dir())?;
    work.progress.traffic.wrote(file.1.bytes);
    work.finish(UNIT, vec![file.clone()], &(probes, recall))?;
    Ok(Truth { sample, probes, recall, file })
}

/// Share of the true neighbours found: a row as near as the farthest true one counts.
fn recall(found: &[(f32, u32)], truth: &[(f32, u32)]) -> f64 {
    let Some(&(farthest, _)) = truth.last() else { return 1.0 };
    found.iter().filter(|&&(d, _)| d <= farthest).count().min(truth.len()) as f64 / truth.len() as f64
}

/// Bytes of a window's row that visits so many lists: each visit is listed
/// twice, as found and in order; half as many again where lists are cut. And
/// of its results, with those of rows that wait for their turn.
fn window_row_bytes(k: usize, probes: usize) -> u64 {
    Panel::row_bytes(k) + probes as u64 * 18 + ordered::AHEAD as u64 * (k as u64 * 8 + 8)
}

/// Rows of a window, each visiting `probes` lists, in the room of `planned`
/// rows that visit [`VISITS`].
fn window_rows(planned: usize, k: usize, probes: usize) -> usize {
    let room = planned as u64 * window_row_bytes(k, VISITS);
    let fit = (room / window_row_bytes(k, probes)) as usize;
    fit.clamp(PANEL.min(planned), LARGEST_WINDOW.max(planned))
}

/// The centroids, packed to find each row's nearest lists.
struct Coarse {
    center: Vec<f32>,
    packed: Packed,
    /// Which lists were packed: those that have rows.
    numbers: Vec<u32>,
    probes: usize,
    seed: u64,
}

impl Coarse {
    fn new(lists: &Lists, probes: usize, seed: u64) -> Self {
        let table = &lists.table;
        let center = table.centroid(0).to_vec();
        let numbers: Vec<u32> = (0..table.count() as u32).filter(|&l| !table.range(l as usize).is_empty()).collect();
        let centroids: Vec<&[f32]> = numbers.iter().map(|&l| table.centroid(l as usize)).collect();
        let mut packed = Packed::default();
        packed.load(centroids.into_iter(), &center);
        Coarse { center, packed, numbers, probes, seed }
    }

    /// Which segments each of `vectors` visits; the first of them is row `first`.
    fn visits(&self, first: u32, vectors: &[&[f32]], segments: &Segments<'_>) -> Visits {
        let lists = self.packed.rows();
        let mut visited: Vec<(u32, u32)> = Vec::with_capacity(vectors.len() * (self.probes + 1));
        let mut queries = Queries::default();
        let mut top = Tops::new(PANEL.min(vectors.len()), self.probes);
        for (panel, vectors) in vectors.chunks(PANEL).enumerate() {
            top.reset();
            queries.load(vectors.iter().copied(), &self.center);
            kernel::for_each_tile(&queries, &self.packed, |group, block, tile| {
                for (query, scores) in (group * kernel::QUERIES..vectors.len()).zip(tile) {
                    let limit = top.threshold(query);
                    if scores.iter().fold(false, |any, &s| any | (s <= limit)) {
                        for (lane, &score) in scores.iter().enumerate() {
                            let list = block * kernel::LANES + lane;
                            if score <= top.threshold(query) && list < lists {
                                top.offer(query, score, self.numbers[list]);
                            }
                        }
                    }
                }
            });
            for i in 0..vectors.len() {
                let place = (panel * PANEL + i) as u32;
                let own = segments.lists.table.list_of(first + place) as u32;
                // The row's own list always, even where centroids lie so close
                // together that rounding orders them.
                let others = top.sorted(i).map(|(_, list)| list).filter(|&list| list != own);
                for list in std::iter::once(own).chain(others).take(self.probes) {
                    let there = segments.of_list(list as usize);
                    if there.len() <= MOST_SEGMENTS {
                        visited.extend(there.map(|segment| (place, segment)));
                        continue;
                    }
                    // A list this long holds copies of one vector, or nearly: a part of it
                    // has neighbours enough. One's own part first, or one drawn for the row.
                    let (row, count) = (first + place, there.len() as u32);
                    let from = if list == own {
                        segments.segment_of(row) - there.start
                    } else {
                        crate::random::below(self.seed, u64::from(list), u64::from(row), u64::from(count)) as u32
                    };
                    visited.extend((0..MOST_SEGMENTS as u32).map(|s| (place, there.start + (from + s) % count)));
                }
            }
        }
        let mut starts = vec![0u32; segments.count() + 1];
        visited.iter().for_each(|&(_, segment)| starts[segment as usize + 1] += 1);
        (0..segments.count()).for_each(|segment| starts[segment + 1] += starts[segment]);
        let mut next = starts.clone();
        let mut visits = vec![0u32; visited.len()];
        for &(place, segment) in &visited {
            visits[next[segment as usize] as usize] = place;
            next[segment as usize] += 1;
        }
        Visits { pairs: visited, visits, starts }
    }
}

/// Who visits what, both ways.
struct Visits {
    /// (row's place, segment), row after row.
    pairs: Vec<(u32, u32)>,
    /// Places of rows, segment after segment.
    visits: Vec<u32>,
    /// The first of each segment's, and the length last.
    starts: Vec<u32>,
}

impl Visits {
    fn of(&self, segment: usize) -> &[u32] {
        &self.visits[self.starts[segment] as usize..self.starts[segment + 1] as usize]
    }
}

/// Finds the neighbours of `rows`; also says how many rows each was compared with.
fn run(
    rows: Range<u32>,
    segments: &Segments<'_>,
    cache: &Cache<'_>,
    coarse: Option<&Coarse>,
    k: usize,
    backwards: bool,
    progress: &Progress<'_>,
) -> Result<(Near, Vec<u64>)> {
    let (first, vectors) = (rows.start, segments.vectors(rows.clone())?);
    let all: Vec<u32> = (0..vectors.len() as u32).collect();
    let visits = coarse.map(|coarse| coarse.visits(first, &vectors, segments));
    let mut panel = Panel::new(rows.collect(), vectors, k);
    let mut compared = vec![0; all.len()];
    for place in 0..segments.count() {
        // Every other window goes backwards: what the one before met last is still at hand.
        let segment = if backwards { segments.count() - 1 - place } else { place };
        let which = match &visits {
            None => all.as_slice(),
            Some(visits) => visits.of(segment),
        };
        let there = segments.range(segment);
        if !which.is_empty() && !there.is_empty() {
            progress.check()?;
            which.iter().for_each(|&row| compared[row as usize] += there.len() as u64);
            panel.scan(which, segment, &**cache.get(segment)?, segments);
        }
    }
    Ok((panel.finish(segments, visits.as_ref().map(|v| v.pairs.as_slice()))?, compared))
}

/// What the stage holds.
pub fn needs(plan: &Plan) -> Needs {
    let (dim, k, threads) = (plan.shape.dim, plan.k(), plan.threads as u64);
    let lists = plan.index.lists;
    let rows = if plan.index.exact { PANEL } else { plan.neighbors.window_rows }.min(plan.shape.rows as usize);
    // Each thread has one list in hand that the cache may not hold.
    let packing = Packed::bytes(segments::LONGEST.min(plan.shape.rows as usize), dim);
    // Many rows that visit few lists each, or few that visit many.
    let few = PANEL.min(rows);
    // Probing ends where a row has met its share of all rows.
    let share = (plan.index.max_candidates * lists as u64).div_ceil(plan.shape.rows) as usize;
    let most_probes = if plan.index.exact { 0 } else { lists.min(share + LEAST_PROBES) };
    let windows = (rows as u64 * window_row_bytes(k, VISITS.min(most_probes)))
        .max(few as u64 * window_row_bytes(k, most_probes))
        + Panel::bytes(dim)
        + (lists * 16) as u64
        + Tops::bytes(few, most_probes.min(VISITS * rows / few));
    let truth = plan.sample_rows() as u64 * (k as u64 * 8 + 40);
    let table = plan.table_bytes();
    Needs::default()
        .phase("sample", [("lists' centroids", table), ("the sample and its neighbours", truth + sweep_bytes(plan))])
        .phase(
            "join",
            [
                ("packed lists kept", plan.neighbors.cache_bytes),
                ("windows, and results waiting", threads * windows),
                ("lists being packed", threads * packing),
                ("lists' centroids, also packed", if plan.index.exact { table } else { 2 * table }),
                ("the sample's neighbours", truth),
            ],
        )
}

/// Bytes of the lists, packed.
pub fn packed_bytes(plan: &Plan) -> u64 {
    // As the vectors are, and half a pair of blocks of padding a segment.
    let (rows, dim) = (plan.shape.rows, plan.shape.dim as u64);
    let segments = if plan.index.exact { rows / 1024 + 1 } else { plan.index.lists as u64 };
    (rows + segments * kernel::LANES as u64) * (dim + 1) * 4
}
