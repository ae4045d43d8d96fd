//! Estimates how long a plan takes on this machine, before the run: rates from a calibration of well under a
//! second, and a formula for each stage.
//!
//! What must hold: nothing is written. What cannot be measured (a source that cannot be read, a disk that the
//! caller could not test) gives no estimate rather than an error. The constants come from real runs on two
//! cores of a server, and the runs are named beside the constants. The number of rows that a row must be
//! compared with for the requested recall depends on the data and is guessed, so that an estimate is meant to
//! be right within a factor of two.
//!
//! The seconds of each stage, from measured rates:
//!
//! ```
//! use lowland_engine::estimate::{DiskRates, Rates, seconds};
//! use lowland_engine::{Config, PlanInput};
//! use lowland_io::{Dtype, Shape};
//!
//! let shape = Shape { rows: 1_000_000, dim: 128 };
//! let input = PlanInput { shape, dtype: Dtype::F32, graph_k: None, source_bytes: 0, resident_bytes: 0 };
//! let plan = Config::default().plan(&input)?;
//! let disk = DiskRates { read: 1e9, write: 5e8, kept: 1 << 30 };
//! // Rates::measure measures them on this machine in less than a second.
//! let rates = Rates { multiply_adds: 5e10, pairs: 1e9, all_pairs: None, source_rows: Some(1e6), disk: Some(disk) };
//! let stages = seconds(&plan, &rates);
//! assert_eq!(stages.len(), plan.stages().len());
//! assert!(stages.iter().all(Option::is_some));
//! # Ok::<(), lowland_engine::Error>(())
//! ```

use std::time::{Duration, Instant};

use lowland_io::Source;
use lowland_io::edges::EdgeBlock;

use crate::config::Settings;
use crate::distances::{LANES, PackedQueries, PackedRows, for_each_tile};
use crate::layout::{self, LayoutEdges, LayoutStart, WeightCode, field};
use crate::observe::{Progress, Stage};
use crate::plan::Plan;
use crate::positions::map_bytes;
use crate::random::unit;
use crate::{Error, Init, Result, affinity, all_pairs, init, methods};

/// The speed of files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskRates {
    /// Bytes read per second, from the disk itself.
    pub read: f64,
    /// Bytes written per second, until they are durable.
    pub write: f64,
    /// Bytes of files that the operating system can cache in memory beside the run. Files that fit are read
    /// from the disk only once.
    pub kept: u64,
}

/// The speed of this machine at the operations of the stages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Multiply-adds of the distance kernel per second, all threads together.
    pub multiply_adds: f64,
    /// Pairs of the layout per second, all threads together, for a small map.
    pub pairs: f64,
    /// Operations of an exact method per second, all threads together, counted as the method counts them: until
    /// its affinity is computed, and in its iterations.
    pub all_pairs: Option<[f64; 2]>,
    /// Rows of the source decoded per second.
    pub source_rows: Option<f64>,
    /// The run directory's disk.
    pub disk: Option<DiskRates>,
}

/// Time for measuring the distance kernel. The kernel and the small map are each run many times, in portions of
/// a millisecond or two, of which the fastest counts: other processes disturb most portions, but not all.
const KERNEL_TIME: Duration = Duration::from_millis(100);
/// Time for measuring the small map; see [`KERNEL_TIME`].
const LAYOUT_TIME: Duration = Duration::from_millis(120);
/// Time for reading the source.
const SOURCE_TIME: Duration = Duration::from_millis(150);
/// Number of rows of the small map, for each thread.
const MAP_ROWS: u32 = 2048;
/// Mean weight over the largest weight: the share of epochs in which an edge fires.
const MEAN_FIRING_RATE: f64 = 0.3;
/// Edges of the symmetric graph over edges of the directed graph.
const SYMMETRIC_EDGE_FACTOR: f64 = 1.6;

/// Share of the kernel's rate that a comparison of every pair reaches: 63,666 × 384 in 8.4 s on two threads.
const ALL_PAIRS_EFFICIENCY: f64 = 0.8;
/// Factor by which integer codes are faster than the kernel: 63,666 × 384 in 3.6 s on two threads with AVX-512,
/// each pair once, where the kernel alone took 13 s.
const CODES_SPEEDUP: f64 = 1.8;
/// Share of the kernel's rate that a search by lists reaches, with queries regrouped by list: 10,000,000 × 128
/// in 280 s on two threads, each row compared with 12,649 centroids and 10,730 rows.
const PROBING_EFFICIENCY: f64 = 0.65;
/// Share of the kernel's rate that k-means reaches, which uses another kernel.
const KMEANS_EFFICIENCY: f64 = 0.5;
/// Number of rows that a row is compared with at a recall of 0.95, in two rounds. Measured: 3,400 (a mixture of
/// 1,000,000 rows) to 17,000 (1,000,000 rows without any structure).
const CANDIDATES_PER_ROW: f64 = 4_000.0;
/// The smallest number of lists that a row is compared with.
const MIN_LISTS_PER_ROW: f64 = 12.0;
/// Number of centroids that a row is compared with.
const CENTROIDS_PER_ROW: f64 = 1024.0;
/// Seconds × cores of a row in a round in addition to its products: collecting results and choosing lists.
const SECONDS_PER_ROW_AND_ROUND: f64 = 5e-6;
/// Bytes of lists that a core packs per second.
const PACKED_BYTES_PER_SECOND: f64 = 1e9;
/// Multiply-adds per second and core of distances that are computed one by one.
const SINGLE_PAIR_RATE: f64 = 8e9;
/// Seconds × cores of a component in the scan.
const SECONDS_PER_SCANNED_COMPONENT: f64 = 0.5e-9;
/// Seconds × cores of a byte that is hashed and written.
const SECONDS_PER_WRITTEN_BYTE: f64 = 2e-9;
/// Seconds × cores of an edge of the directed graph in the affinity stage: 1,000,000 × 15 in 1.4 s on two
/// threads.
const SECONDS_PER_EDGE: f64 = 0.2e-6;
/// Seconds × cores of an edge that is decoded for the layout.
const SECONDS_PER_DECODED_EDGE: f64 = 8e-9;
/// Bytes of positions that stay in the processor's cache. For larger maps a pair takes longer: 1,000,000 rows
/// took 3.8 ns a pair and core, 2,000,000 rows 7.4 ns, 4,000,000 rows 10 ns, 16,000,000 rows 16 ns.
const CACHE_BYTES: f64 = 12e6;
/// How much slower a pair outside of the cache is, in times of a pair in the cache; see [`CACHE_BYTES`].
const CACHE_MISS_FACTOR: f64 = 5.0;
/// Operations of the field's transforms per second and core.
const FFT_OPERATIONS_PER_SECOND: f64 = 1.5e9;
/// Seconds × cores of ranking one row of the map for one row of the sample.
const SECONDS_PER_RANK: f64 = 3e-9;
/// Seconds of a row of the map that is written.
const SECONDS_PER_OUTPUT_ROW: f64 = 0.1e-6;

/// Returns the seconds that each stage of `plan` takes, in the order of the plan's stages; `None` where the
/// rate that a stage depends on was not measured. A disk that was not measured counts as infinitely fast.
pub fn seconds(plan: &Plan, rates: &Rates) -> Vec<Option<f64>> {
    let clock = TimeModel { plan, rates };
    let of = |stage: &crate::StagePlan| {
        let seconds = match stage.stage {
            Stage::Survey | Stage::Diff | Stage::Place | Stage::Scan => clock.scan()?,
            Stage::Index => clock.index()?,
            Stage::Neighbors => clock.neighbors(),
            Stage::Affinity => clock.affinity(),
            Stage::Init => clock.init(),
            Stage::Layout => clock.layout(),
            Stage::Output => plan.shape.rows as f64 * SECONDS_PER_OUTPUT_ROW,
            Stage::Quality => clock.quality(),
        };
        Some(seconds + clock.write_seconds(stage.written))
    };
    plan.stages.iter().map(of).collect()
}

struct TimeModel<'a> {
    plan: &'a Plan,
    rates: &'a Rates,
}

impl TimeModel<'_> {
    fn rows(&self) -> f64 {
        self.plan.shape.rows as f64
    }

    fn dim(&self) -> f64 {
        self.plan.shape.dim as f64
    }

    fn lists(&self) -> f64 {
        self.plan.index.lists as f64
    }

    fn threads(&self) -> f64 {
        self.plan.threads as f64
    }

    /// Returns the seconds of `multiply_adds` at a share of the kernel's rate.
    fn multiply_add_seconds(&self, multiply_adds: f64, share: f64) -> f64 {
        if multiply_adds > 0.0 { multiply_adds / (self.rates.multiply_adds * share) } else { 0.0 }
    }

    fn write_seconds(&self, bytes: u64) -> f64 {
        let bytes = bytes as f64;
        bytes * SECONDS_PER_WRITTEN_BYTE + self.rates.disk.map_or(0.0, |disk| bytes / disk.write)
    }

    /// Returns the seconds of reading `bytes` in all from files of `set` bytes, which the operating system
    /// caches if they fit.
    fn read_seconds(&self, bytes: f64, set: f64) -> f64 {
        self.rates.disk.filter(|disk| set > disk.kept as f64).map_or(0.0, |disk| bytes / disk.read)
    }

    /// Returns the bytes of the vectors in list order.
    fn list_bytes(&self) -> f64 {
        self.rows() * self.dim() * 4.0
    }

    /// Returns the seconds of decoding the source, which one thread does while another processes the rows.
    fn decode_seconds(&self) -> Option<f64> {
        Some(self.rows() / self.rates.source_rows?)
    }

    fn scan(&self) -> Option<f64> {
        let components = if self.plan.needs_pca() { self.rows() * self.dim() * self.dim() / 2.0 } else { 0.0 };
        // Sums are in double precision, with half the numbers in each instruction.
        let looked_at =
            self.rows() * self.dim() * SECONDS_PER_SCANNED_COMPONENT + self.multiply_add_seconds(components, 0.25);
        Some(self.decode_seconds()?.max(looked_at))
    }

    /// Returns the seconds of k-means in two levels, of assigning each row through both levels, and of the
    /// shards.
    fn index(&self) -> Option<f64> {
        const KMEANS_ITERATIONS: f64 = 10.0;
        let groups = crate::index::group_count(self.plan.index.lists) as f64;
        let of_group = self.lists() / groups;
        let training = KMEANS_ITERATIONS * self.plan.index.sample_rows as f64 * of_group * self.dim();
        let assigned = self.rows() * (groups + 8.0 * of_group) * self.dim();
        let spilled = self.plan.index.shard_rows < self.plan.shape.rows as usize;
        let merged = if spilled { self.read_seconds(self.list_bytes(), self.list_bytes()) } else { 0.0 };
        Some(
            self.decode_seconds()?.max(self.multiply_add_seconds(assigned, PROBING_EFFICIENCY))
                + self.multiply_add_seconds(training, KMEANS_EFFICIENCY)
                + merged,
        )
    }

    /// Returns the seconds of comparing the sample with all rows.
    fn sample_sweep_seconds(&self) -> f64 {
        self.multiply_add_seconds(self.plan.sample_rows() as f64 * self.rows() * self.dim(), ALL_PAIRS_EFFICIENCY)
            + self.read_seconds(self.list_bytes(), self.list_bytes())
    }

    fn neighbors(&self) -> f64 {
        let (plan, rows) = (self.plan, self.rows());
        let edges = rows * plan.k() as f64;
        if plan.graph_k.is_some() {
            // The graph goes through buckets and is brought to list order.
            return edges * SECONDS_PER_EDGE / 4.0 + self.sample_sweep_seconds();
        }
        if plan.index.exact {
            return self.multiply_add_seconds(rows * rows / 2.0 * self.dim(), CODES_SPEEDUP * ALL_PAIRS_EFFICIENCY)
                + self.sample_sweep_seconds();
        }
        let compared = self.multiply_add_seconds(
            rows * (CENTROIDS_PER_ROW + self.candidates_per_row()) * self.dim(),
            PROBING_EFFICIENCY,
        );
        let found = 2.0 * rows * SECONDS_PER_ROW_AND_ROUND / self.threads();
        // All lists are read and packed for each window, in each round.
        let again = 2.0 * (rows / plan.neighbors.window_rows as f64).max(1.0) * self.list_bytes();
        let packing = again / (PACKED_BYTES_PER_SECOND * self.threads());
        self.sample_sweep_seconds() + compared + found + packing + self.read_seconds(again, self.list_bytes())
    }

    /// Returns the number of rows that a row is usually compared with for the requested recall: inversely
    /// proportional to the share of neighbours that may be missed.
    fn candidates_per_row(&self) -> f64 {
        let usual = CANDIDATES_PER_ROW.max(MIN_LISTS_PER_ROW * self.rows() / self.lists());
        let missed = ((1.0 - self.plan.settings.recall) / 0.05).max(0.05);
        (usual / missed).min(self.plan.index.max_candidates as f64).min(self.rows())
    }

    fn affinity(&self) -> f64 {
        let edges = self.rows() * self.plan.degree() as f64;
        let (buckets, _) = affinity::disk(self.plan);
        let projected = affinity::projected(self.plan) as f64 / (SINGLE_PAIR_RATE * self.threads());
        edges * SECONDS_PER_EDGE / self.threads() + projected + self.read_seconds(buckets as f64, buckets as f64)
    }

    fn init(&self) -> f64 {
        let (plan, rows, lists) = (self.plan, self.rows(), self.lists());
        let settings: &Settings = &plan.settings;
        match settings.init {
            Init::Random | Init::File(_) => rows * SECONDS_PER_OUTPUT_ROW,
            Init::Centroid if plan.has_centroids() => {
                // The centroids' own map of 500 epochs and its principal components, then the comparison of
                // each row with the 24 lists around it.
                let map = 500.0 * self.pair_seconds(lists, 1.0);
                let components = 10.0 * self.dim().min(512.0).powi(3) / SINGLE_PAIR_RATE;
                let placed = (lists * lists + 24.0 * rows) * self.dim() / (SINGLE_PAIR_RATE * self.threads());
                map + components + placed + self.read_seconds(self.list_bytes(), self.list_bytes())
            }
            _ if self.dim() > 0.0 => rows * self.dim() * settings.n_components as f64 / SINGLE_PAIR_RATE,
            // Random positions are smoothed along the edges of a graph without vectors.
            _ => {
                init::DIFFUSION_PASSES as f64
                    * SYMMETRIC_EDGE_FACTOR
                    * rows
                    * plan.degree() as f64
                    * SECONDS_PER_DECODED_EDGE
            }
        }
    }

    /// Returns the seconds of an epoch's pairs of `rows` rows, where each pair is `slower` times as slow as in
    /// a small map.
    fn pair_seconds(&self, rows: f64, slower: f64) -> f64 {
        let edges = rows * self.plan.degree() as f64 * SYMMETRIC_EDGE_FACTOR;
        let settings = &self.plan.settings;
        let Ok(objective) = methods::objective(settings.method) else { return 0.0 };
        slower * pairs_per_epoch(objective.weight_code(), settings, rows as u64, edges) / self.rates.pairs
    }

    /// Returns the seconds of an exact method with the largest number of iterations.
    fn all_pairs_seconds(&self, hold: u64) -> f64 {
        let Ok(problem) = methods::problem(&self.plan.settings) else { return 0.0 };
        let takes = all_pairs::stage::needs_of_problem(self.plan, &problem, hold);
        // The rates were not measured if rows are so few that they take no time.
        let [affinity, iterations] = self.rates.all_pairs.unwrap_or([f64::INFINITY; 2]);
        takes.affinity_operations / affinity + takes.iterations as f64 * takes.iteration_operations / iterations
    }

    fn layout(&self) -> f64 {
        let plan = self.plan;
        if let Some(exact) = &plan.all_pairs {
            return self.all_pairs_seconds(exact.hold_bytes);
        }
        let positions = map_bytes(plan) as f64;
        let mut epoch =
            self.pair_seconds(self.rows(), 1.0 + CACHE_MISS_FACTOR * (1.0 - CACHE_BYTES / positions).max(0.0));
        if plan.settings.method.has_field() {
            epoch += field::operations(plan.shape.rows) / (FFT_OPERATIONS_PER_SECOND * self.threads());
        }
        let spilled = layout::edge_bytes(plan).saturating_sub(plan.layout.cache_bytes) as f64;
        // Spilled edges are read while the others are processed.
        let epochs = plan.layout.epochs as f64 * epoch.max(self.read_seconds(spilled, spilled));
        epochs + self.rows() * plan.degree() as f64 * SYMMETRIC_EDGE_FACTOR * SECONDS_PER_DECODED_EDGE / self.threads()
    }

    fn quality(&self) -> f64 {
        let ranked = self.plan.sample_rows() as f64 * self.rows() * SECONDS_PER_RANK / self.threads();
        if self.plan.all_pairs.is_some() {
            // The sample's costs, twice, and its ranks.
            let costs =
                2.0 * self.plan.sample_rows() as f64 * self.rows() * self.dim() / SINGLE_PAIR_RATE / self.threads();
            return costs + 4.0 * ranked;
        }
        if self.plan.shape.dim > 0 { self.sample_sweep_seconds() + ranked } else { ranked }
    }
}

impl Rates {
    /// Measures the rates with the number of threads of `plan`.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn measure(plan: &Plan, source: Option<&dyn Source>, disk: Option<DiskRates>) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(plan.threads)
            .build()
            .map_err(|e| Error::Config { field: "threads", why: e.to_string() })?;
        let multiply_adds = if plan.shape.dim > 0 { kernel_rate(&pool, plan.shape.dim) } else { 0.0 };
        let exact = if plan.all_pairs.is_some() { Some(pool.install(|| all_pairs_rates(plan))?) } else { None };
        let pairs = if plan.map && exact.is_none() { pool.install(|| layout_pair_rate(plan))? } else { 0.0 };
        Ok(Rates { multiply_adds, pairs, all_pairs: exact, source_rows: source.and_then(decoding_rate), disk })
    }
}

/// Returns the multiply-adds per second of all threads at the same time: cores that share arithmetic units are
/// slower together than alone.
fn kernel_rate(pool: &rayon::ThreadPool, dim: usize) -> f64 {
    const QUERIES: usize = 256;
    // About the size of a few lists, and of a cache.
    let rows = ((1 << 19) / dim).clamp(2 * LANES, 2048);
    let table = |rows: usize, stream| -> Vec<f32> { (0..rows * dim).map(|i| unit(1, stream, i as u64)).collect() };
    let (of_queries, of_rows) = (table(QUERIES.min(rows), 1), table(rows, 2));
    let work = (QUERIES.min(rows) * rows * dim) as f64;
    let fastest = pool.broadcast(|_| {
        let (mut queries, mut packed) = (PackedQueries::default(), PackedRows::default());
        queries.load(of_queries.chunks_exact(dim), &of_rows[..dim]);
        packed.load(of_rows.chunks_exact(dim), &of_rows[..dim]);
        let (began, mut fastest) = (Instant::now(), f64::MAX);
        while began.elapsed() < KERNEL_TIME {
            let (portion, mut near) = (Instant::now(), 0usize);
            for_each_tile(&queries, &packed, |_, _, tile| {
                // Reads the scores as a search does, although none is below the threshold.
                near += tile.iter().filter(|scores| scores.iter().fold(false, |any, &s| any | (s < -1e30))).count();
            });
            std::hint::black_box(near);
            fastest = fastest.min(portion.elapsed().as_secs_f64());
        }
        fastest.max(1e-9)
    });
    // Threads in excess of the cores share the cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = cores.min(fastest.len()) as f64 / fastest.len() as f64;
    share * fastest.into_iter().map(|seconds| work / seconds).sum::<f64>()
}

/// Returns the pairs per second of a small map with random edges; each row has as many edges as in the plan, up
/// to a limit.
fn layout_pair_rate(plan: &Plan) -> Result<f64> {
    const MAX_EDGES_PER_ROW: usize = 40;
    let settings = &plan.settings;
    let objective = methods::objective(settings.method)?;
    let edges_a_row = ((plan.degree() as f64 * SYMMETRIC_EDGE_FACTOR) as usize).clamp(1, MAX_EDGES_PER_ROW);
    let rows = (MAP_ROWS * plan.threads as u32).min(plan.shape.rows as u32).max(2);
    let edges = rows as usize * edges_a_row;
    let draw = |stream: u64, i: usize| unit(2, stream, i as u64);
    let block = EdgeBlock {
        first_row: 0,
        offsets: (0..=rows).map(|row| row * edges_a_row as u32).collect(),
        // Neighbours are near each other, as in list order.
        neighbors: (0..edges).map(|i| ((i / edges_a_row) as u32 + 1 + (draw(3, i) * 200.0) as u32) % rows).collect(),
        weights: (0..edges)
            .map(|i| match objective.weight_code() {
                WeightCode::Counts => 1.0,
                // The mean of this power of a uniform number is `MEAN_FIRING_RATE`.
                WeightCode::Rates | WeightCode::Roots => draw(4, i).powf((1.0 / MEAN_FIRING_RATE - 1.0) as f32),
            })
            .collect(),
    };
    let width = settings.n_components;
    const EPOCHS: usize = 10;
    let options = layout::LayoutOptions {
        max_weight: 1.0,
        seed: 1,
        ..layout::LayoutOptions::from_settings(objective, settings, rows, EPOCHS)
    };
    let start: Vec<f32> = (0..rows as usize * width).map(|i| 20.0 * draw(5, i) - 10.0).collect();
    let edges = LayoutEdges::in_memory(&block, &options);
    let work = pairs_per_epoch(objective.weight_code(), settings, u64::from(rows), block.neighbors.len() as f64);
    let (began, mut fastest) = (Instant::now(), f64::MAX);
    while began.elapsed() < LAYOUT_TIME || fastest == f64::MAX {
        let portion = Instant::now();
        layout::run(&options, &edges, LayoutStart::Positions(&start), &mut (), &Progress::silent())?;
        fastest = fastest.min(portion.elapsed().as_secs_f64());
    }
    Ok(work * EPOCHS as f64 / fastest.max(1e-9))
}

/// Returns the operations per second of the plan's exact method on a few random rows: until the affinity is
/// computed, and in the iterations.
fn all_pairs_rates(plan: &Plan) -> Result<[f64; 2]> {
    const ROWS: usize = 384;
    const MIN_TIME: usize = 2;
    let problem = |max_iter: usize| {
        let mut problem = methods::problem(&plan.settings)?;
        let d = &mut problem.descent;
        (d.max_iter, d.min_grad_norm, d.process_duplicates) = (max_iter, 0.0, false);
        if let all_pairs::InitialPositions::Positions(_) = d.init {
            d.init = if problem.loss.hyperbolic() {
                all_pairs::InitialPositions::Hyperbolic
            } else {
                all_pairs::InitialPositions::Normal
            };
        }
        Ok::<_, Error>(problem)
    };
    let (dim, most) = (plan.shape.dim, plan.shape.rows as usize);
    // The smallest number of rows that the options are valid for.
    let fits = |rows: &usize| problem(0).is_ok_and(|problem| problem.check(*rows).is_ok());
    let rows = [ROWS, 2 * ROWS, 4 * ROWS].into_iter().find(fits).unwrap_or(most).min(most);
    let table: Vec<f32> = (0..rows * dim).map(|i| unit(6, 1, i as u64) / (dim as f32).sqrt()).collect();
    let time = |max_iter: usize| {
        let problem = problem(max_iter)?;
        let run = all_pairs::FitControl { hold: 0, state: None, keep: &mut |_| Ok(()) };
        let began = Instant::now();
        all_pairs::fit(&problem, &table, dim, run, &Progress::silent())?;
        Ok::<_, Error>((all_pairs::needs(&problem, rows, dim, plan.threads, 0), began.elapsed().as_secs_f64()))
    };
    let (takes, none) = time(0)?;
    // Computing the loss at the end takes about as long as an iteration.
    let (_, some) = time(MIN_TIME)?;
    let each = ((some - none) / MIN_TIME as f64).max(1e-7);
    let count = MIN_TIME + (LAYOUT_TIME.as_secs_f64() / each).min(200.0) as usize;
    let (_, many) = time(count)?;
    let each = ((many - none) / count as f64).max(1e-7);
    let affinity = (none - each).max(none / 4.0).max(1e-7);
    Ok([takes.affinity_operations / affinity, takes.iteration_operations / each])
}

/// Returns the number of pairs that an epoch computes over all rows: edges that fire, or all edges, and
/// negative samples.
fn pairs_per_epoch(coding: WeightCode, settings: &Settings, rows: u64, edges: f64) -> f64 {
    let (rows, negatives) = (rows as f64, settings.method.negatives(settings) as f64);
    match coding {
        // A row without an edge that fires costs about one pair.
        WeightCode::Rates => rows + edges * MEAN_FIRING_RATE * (1.0 + negatives),
        // The optimizer's step of a row costs as much as some pairs.
        WeightCode::Roots | WeightCode::Counts => rows * (8.0 + negatives) + edges,
    }
}

/// Returns the rows per second that the source gives, measured on its first rows; `None` if it cannot be read.
fn decoding_rate(source: &dyn Source) -> Option<f64> {
    const PORTION: usize = 1 << 18;
    let shape = source.shape();
    let rows = (PORTION / shape.dim.max(1)).clamp(1, 65_536).min(shape.rows as usize);
    let mut values = vec![0f32; rows * shape.dim];
    // The first call, which opens the file and decodes ahead, is not measured.
    source.read_rows(0, &mut values).ok()?;
    let (began, mut at) = (Instant::now(), rows as u64);
    let mut read = 0;
    while began.elapsed() < SOURCE_TIME && at < shape.rows {
        let rows = rows.min((shape.rows - at) as usize);
        source.read_rows(at, &mut values[..rows * shape.dim]).ok()?;
        (at, read) = (at + rows as u64, read + rows as u64);
    }
    source.release();
    // So few rows that reading takes no time.
    let few = 1e7 / shape.dim.max(1) as f64;
    Some(if read == 0 { few } else { read as f64 / began.elapsed().as_secs_f64().max(1e-6) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: u64, dim: usize, memory: u64) -> Plan {
        let shape = lowland_io::Shape { rows, dim };
        let input = crate::PlanInput {
            shape,
            dtype: lowland_io::Dtype::F32,
            graph_k: None,
            source_bytes: 0,
            resident_bytes: 0,
        };
        crate::Config { memory, threads: Some(2), ..crate::Config::default() }.plan(&input).expect("fits")
    }

    const RATES: Rates =
        Rates { multiply_adds: 190e9, pairs: 530e6, all_pairs: None, source_rows: Some(1e6), disk: None };

    fn total(plan: &Plan, rates: &Rates) -> f64 {
        seconds(plan, rates).into_iter().flatten().sum()
    }

    #[test]
    fn estimates_match_the_recorded_runs() {
        let near = |found: f64, measured: f64| assert!(found > measured / 2.0 && found < measured * 2.0, "{found}");
        let of = |plan: &Plan, stage: Stage| {
            let at = plan.stages.iter().position(|s| s.stage == stage).expect("a stage");
            seconds(plan, &RATES)[at].expect("measured")
        };
        near(of(&plan(1_000_000, 128, 8 << 30), Stage::Neighbors), 13.0);
        near(of(&plan(63_666, 384, 4 << 30), Stage::Neighbors), 2.3);
        near(of(&plan(2_000_000, 128, 4 << 30), Stage::Layout), 64.0);
        near(of(&plan(63_666, 384, 4 << 30), Stage::Layout), 1.1);
    }

    #[test]
    fn estimates_grow_with_less_memory_and_slower_parts() {
        let (small, large) = (plan(2_000_000, 128, 400 << 20), plan(2_000_000, 128, 8 << 30));
        assert!(total(&small, &RATES) > total(&large, &RATES));
        let slow = Some(DiskRates { read: 50e6, write: 50e6, kept: 0 });
        assert!(total(&small, &Rates { disk: slow, ..RATES }) > 1.2 * total(&small, &RATES));
        let (slow, fast) = (total(&large, &Rates { multiply_adds: 20e9, ..RATES }), total(&large, &RATES));
        assert!(slow > 1.8 * fast, "{slow} {fast}");
    }

    #[test]
    fn unmeasured_rates_give_no_estimate() {
        let plan = plan(100_000, 16, 1 << 30);
        let found = seconds(&plan, &Rates { source_rows: None, ..RATES });
        let unknown = [Stage::Scan, Stage::Index];
        for (stage, seconds) in plan.stages.iter().zip(found) {
            assert_eq!(seconds.is_none(), unknown.contains(&stage.stage), "{:?}", stage.stage);
            assert!(seconds.is_none_or(|s| s.is_finite() && s > 0.0));
        }
    }

    #[test]
    fn calibration_gives_all_rates() {
        for (rows, dim) in [(20, 2), (100_000, 64), (5_000, 3_000)] {
            let rates = Rates::measure(&plan(rows, dim, 4 << 30), None, None).expect("threads");
            assert!(rates.multiply_adds > 1e6 && rates.pairs > 1e4 && rates.source_rows.is_none(), "{rates:?}");
        }
    }
}
