//! How long a plan takes on this machine, told before anything is done: rates
//! from a calibration of well under a second, and a formula for each stage.
//!
//! What must hold: nothing is written; what cannot be measured (a source that
//! cannot be read, a disk that the caller could not try) gives no figure, not
//! an error. The constants are from real runs on two cores of a server and
//! stand beside the runs they are from; how many rows each row must be compared
//! with for its recall is the data's secret, and guessed. So a figure is meant
//! within a factor of two, no nearer.

use std::time::{Duration, Instant};

use lowland_io::Source;
use lowland_io::edges::EdgeBlock;

use crate::layout::{self, Coding, Edges, Start, field};
use crate::neighbors::kernel::{LANES, Packed, Queries, for_each_tile};
use crate::observe::{Progress, Stage};
use crate::plan::Plan;
use crate::random::unit;
use crate::settings::Settings;
use crate::{Error, Init, Result, affinity, exact, init};

/// How fast files are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskRates {
    /// Bytes read a second, from the disk itself.
    pub read: f64,
    /// Bytes written a second, until they are durable.
    pub write: f64,
    /// Bytes that the system can keep in memory of files beside the run: what
    /// fits is read from the disk once.
    pub kept: u64,
}

/// How fast this machine is at what the stages do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Multiply-adds of the distance kernel a second, all threads together.
    pub multiply_adds: f64,
    /// Pairs of the layout a second, all threads together, where the map is small.
    pub pairs: f64,
    /// Operations of an exact method a second, of the kind that it says it takes, all threads
    /// together: until its affinity is found, and in its iterations.
    pub exact: Option<[f64; 2]>,
    /// Rows of the source decoded a second.
    pub source_rows: Option<f64>,
    /// The run directory's disk.
    pub disk: Option<DiskRates>,
}

/// How long the kernel runs, and the small map. Each does its work many times
/// over, in portions of a millisecond or two of which the fastest counts:
/// others who use the machine disturb most of them, but not all.
const KERNEL: Duration = Duration::from_millis(100);
/// See [`KERNEL`].
const MAP: Duration = Duration::from_millis(120);
/// How long the source is read.
const SOURCE: Duration = Duration::from_millis(150);
/// Rows of the map that is laid out, for each thread.
const MAP_ROWS: u32 = 2048;
/// Mean of weights over the largest one: how often an edge fires in an epoch.
const FIRING: f64 = 0.3;
/// Edges of the symmetric graph over those of the directed one.
const SYMMETRIC: f64 = 1.6;

/// Of the kernel's rate, what a search reaches that compares all pairs:
/// 63,666 × 384 in 8.4 s on two threads.
const ALL_PAIRS: f64 = 0.8;
/// How much faster codes are than the kernel: 63,666 × 384 in 3.6 s on two
/// threads with AVX-512, each pair once, where the kernel alone took 13.
const CODES: f64 = 1.8;
/// The same where rows visit lists, regrouped by list: 10,000,000 × 128 in
/// 280 s on two threads, each row compared with 12,649 centroids and 10,730 rows.
const PROBING: f64 = 0.65;
/// The same of k-means, which uses another kernel.
const TRAINING: f64 = 0.5;
/// Rows that a row is compared with at a recall of .95, in two rounds. Measured
/// were 3,400 (a mixture of 1,000,000) to 17,000 (1,000,000 without any structure).
const CANDIDATES: f64 = 4_000.0;
/// Lists that those are at least.
const PROBES: f64 = 12.0;
/// Centroids that a row is compared with.
const AROUND: f64 = 1024.0;
/// Seconds and cores a row takes in a round beside its products: what is found, who visits what.
const VISITED: f64 = 5e-6;
/// Bytes of lists that a core packs a second.
const PACKING: f64 = 1e9;
/// Multiply-adds a second and core of distances taken one by one.
const ONE_BY_ONE: f64 = 8e9;
/// Seconds and cores a component for what the scan looks at, and a byte that is hashed and written.
const CHECKING: f64 = 0.5e-9;
/// See [`CHECKING`].
const WRITING: f64 = 2e-9;
/// Seconds and cores an edge of the directed graph costs the affinities: 1,000,000 × 15 in 1.4 s on two threads.
const EDGE: f64 = 0.2e-6;
/// Seconds and cores an edge costs to be decoded for the layout.
const WALKED: f64 = 8e-9;
/// Bytes of positions that stay in a processor's cache, and how much slower a
/// pair is that lies outside of it: 1,000,000 rows took 3.8 ns a pair and core,
/// 2,000,000 7.4, 4,000,000 10, 16,000,000 16.
const CACHE: f64 = 12e6;
/// See [`CACHE`].
const MISS: f64 = 5.0;
/// Operations of the field's transforms a second and core.
const TRANSFORMS: f64 = 1.5e9;
/// Seconds and cores for a row of the map before a row of the sample, ranked.
const RANKING: f64 = 3e-9;
/// Seconds a row of the map takes to be written.
const ROW: f64 = 0.1e-6;

/// Seconds that each stage of `plan` takes, in the order of its stages; `None`
/// where what decides it was not measured. A disk that was not costs nothing.
pub fn seconds(plan: &Plan, rates: &Rates) -> Vec<Option<f64>> {
    let clock = Clock { plan, rates };
    let of = |stage: &crate::StagePlan| {
        let seconds = match stage.stage {
            Stage::Survey | Stage::Scan => clock.scan()?,
            Stage::Index => clock.index()?,
            Stage::Neighbors => clock.neighbors(),
            Stage::Affinity => clock.affinity(),
            Stage::Init => clock.init(),
            Stage::Layout => clock.layout(),
            Stage::Output => plan.shape.rows as f64 * ROW,
            Stage::Quality => clock.quality(),
        };
        Some(seconds + clock.written(stage.written))
    };
    plan.stages.iter().map(of).collect()
}

struct Clock<'a> {
    plan: &'a Plan,
    rates: &'a Rates,
}

impl Clock<'_> {
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

    /// So many multiply-adds at a share of the kernel's rate.
    fn kernel(&self, multiply_adds: f64, share: f64) -> f64 {
        if multiply_adds > 0.0 { multiply_adds / (self.rates.multiply_adds * share) } else { 0.0 }
    }

    fn written(&self, bytes: u64) -> f64 {
        let bytes = bytes as f64;
        bytes * WRITING + self.rates.disk.map_or(0.0, |disk| bytes / disk.write)
    }

    /// Bytes read again and again of a set of files, which the system keeps in memory if it can.
    fn read(&self, bytes: f64, set: f64) -> f64 {
        self.rates.disk.filter(|disk| set > disk.kept as f64).map_or(0.0, |disk| bytes / disk.read)
    }

    /// The vectors at rest in list order.
    fn list_bytes(&self) -> f64 {
        self.rows() * self.dim() * 4.0
    }

    /// The source is decoded by one thread while another looks at it.
    fn decoded(&self) -> Option<f64> {
        Some(self.rows() / self.rates.source_rows?)
    }

    fn scan(&self) -> Option<f64> {
        let components = if self.plan.needs_pca() { self.rows() * self.dim() * self.dim() / 2.0 } else { 0.0 };
        // Sums in double precision: half the numbers at a time.
        let looked_at = self.rows() * self.dim() * CHECKING + self.kernel(components, 0.25);
        Some(self.decoded()?.max(looked_at))
    }

    /// K-means in two levels, each row through both, and the shards.
    fn index(&self) -> Option<f64> {
        const ITERATIONS: f64 = 10.0;
        let groups = crate::index::groups(self.plan.index.lists) as f64;
        let of_group = self.lists() / groups;
        let training = ITERATIONS * self.plan.index.sample_rows as f64 * of_group * self.dim();
        let assigned = self.rows() * (groups + 8.0 * of_group) * self.dim();
        let spilled = self.plan.index.shard_rows < self.plan.shape.rows as usize;
        let merged = if spilled { self.read(self.list_bytes(), self.list_bytes()) } else { 0.0 };
        Some(self.decoded()?.max(self.kernel(assigned, PROBING)) + self.kernel(training, TRAINING) + merged)
    }

    /// The sample before all rows.
    fn sweep(&self) -> f64 {
        self.kernel(self.plan.sample_rows() as f64 * self.rows() * self.dim(), ALL_PAIRS)
            + self.read(self.list_bytes(), self.list_bytes())
    }

    fn neighbors(&self) -> f64 {
        let (plan, rows) = (self.plan, self.rows());
        let edges = rows * plan.k() as f64;
        if plan.graph_k.is_some() {
            // Taken in through buckets, and put in order.
            return edges * EDGE / 4.0 + self.sweep();
        }
        if plan.index.exact {
            return self.kernel(rows * rows / 2.0 * self.dim(), CODES * ALL_PAIRS) + self.sweep();
        }
        let compared = self.kernel(rows * (AROUND + self.candidates()) * self.dim(), PROBING);
        let found = 2.0 * rows * VISITED / self.threads();
        // All lists are read and packed for each window, in each round.
        let again = 2.0 * (rows / plan.neighbors.window_rows as f64).max(1.0) * self.list_bytes();
        let packing = again / (PACKING * self.threads());
        self.sweep() + compared + found + packing + self.read(again, self.list_bytes())
    }

    /// Rows that a row is compared with, as the recall asked for usually takes:
    /// the more, the fewer are to be missed.
    fn candidates(&self) -> f64 {
        let usual = CANDIDATES.max(PROBES * self.rows() / self.lists());
        let missed = ((1.0 - self.plan.settings.recall) / 0.05).max(0.05);
        (usual / missed).min(self.plan.index.max_candidates as f64).min(self.rows())
    }

    fn affinity(&self) -> f64 {
        let edges = self.rows() * self.plan.degree() as f64;
        let (buckets, _) = affinity::disk(self.plan);
        edges * EDGE / self.threads() + self.read(buckets as f64, buckets as f64)
    }

    fn init(&self) -> f64 {
        let (plan, rows, lists) = (self.plan, self.rows(), self.lists());
        let settings: &Settings = &plan.settings;
        match settings.init {
            Init::Random | Init::File(_) => rows * ROW,
            Init::Centroid if plan.has_centroids() => {
                // The centroids' own map of 500 epochs and its principal
                // components; then each row before the 24 lists around it.
                let map = 500.0 * self.pairs(lists, 1.0);
                let components = 10.0 * self.dim().min(512.0).powi(3) / ONE_BY_ONE;
                let placed = (lists * lists + 24.0 * rows) * self.dim() / (ONE_BY_ONE * self.threads());
                map + components + placed + self.read(self.list_bytes(), self.list_bytes())
            }
            _ if self.dim() > 0.0 => rows * self.dim() * settings.n_components as f64 / ONE_BY_ONE,
            // Some passes over the edges of a graph without vectors.
            _ => 20.0 * rows * plan.degree() as f64 * WALKED,
        }
    }

    /// An epoch's pairs for so many rows, each so many times as slow as in a small map.
    fn pairs(&self, rows: f64, slower: f64) -> f64 {
        let edges = rows * self.plan.degree() as f64 * SYMMETRIC;
        slower * pairs_an_epoch(&self.plan.settings, rows as u64, edges) / self.rates.pairs
    }

    /// All pairs, in iterations of which as many are done as there may be.
    fn all_pairs(&self, hold: u64) -> f64 {
        let Some(takes) = exact::stage::takes(self.plan, hold) else { return 0.0 };
        // None was measured of so few rows that they take no time.
        let [affinity, iterations] = self.rates.exact.unwrap_or([f64::INFINITY; 2]);
        takes.affinity_operations / affinity + takes.iterations as f64 * takes.iteration_operations / iterations
    }

    fn layout(&self) -> f64 {
        let plan = self.plan;
        if let Some(exact) = &plan.exact {
            return self.all_pairs(exact.hold_bytes);
        }
        let positions = init::map_bytes(plan) as f64;
        let mut epoch = self.pairs(self.rows(), 1.0 + MISS * (1.0 - CACHE / positions).max(0.0));
        if plan.settings.method.objective().field() {
            epoch += field::operations(plan.shape.rows) / (TRANSFORMS * self.threads());
        }
        let spilled = layout::edge_bytes(plan).saturating_sub(plan.layout.cache_bytes) as f64;
        // What is spilled is read while the rest is computed.
        let epochs = plan.layout.epochs as f64 * epoch.max(self.read(spilled, spilled));
        epochs + self.rows() * plan.degree() as f64 * SYMMETRIC * WALKED / self.threads()
    }

    fn quality(&self) -> f64 {
        let ranked = self.plan.sample_rows() as f64 * self.rows() * RANKING / self.threads();
        if self.plan.exact.is_some() {
            // The sample's costs, twice, and its ranks.
            let costs = 2.0 * self.plan.sample_rows() as f64 * self.rows() * self.dim() / ONE_BY_ONE / self.threads();
            return costs + 4.0 * ranked;
        }
        if self.plan.shape.dim > 0 { self.sweep() + ranked } else { ranked }
    }
}

impl Rates {
    /// Measures on as many threads as `plan` has.
    ///
    /// # Errors
    /// Where those threads cannot be had.
    pub fn measure(plan: &Plan, source: Option<&dyn Source>, disk: Option<DiskRates>) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(plan.threads)
            .build()
            .map_err(|e| Error::Config { field: "threads", why: e.to_string() })?;
        let multiply_adds = if plan.shape.dim > 0 { kernel(&pool, plan.shape.dim) } else { 0.0 };
        let exact = if plan.exact.is_some() { Some(pool.install(|| all_pairs(plan))?) } else { None };
        let pairs = if plan.map && exact.is_none() { pool.install(|| pairs(plan))? } else { 0.0 };
        Ok(Rates { multiply_adds, pairs, exact, source_rows: source.and_then(decoding), disk })
    }
}

/// Multiply-adds a second of all threads at once: cores that share their
/// arithmetic are slower together than alone.
fn kernel(pool: &rayon::ThreadPool, dim: usize) -> f64 {
    const QUERIES: usize = 256;
    // About the size of a list or a few, and of a cache.
    let rows = ((1 << 19) / dim).clamp(2 * LANES, 2048);
    let table = |rows: usize, stream| -> Vec<f32> { (0..rows * dim).map(|i| unit(1, stream, i as u64)).collect() };
    let (of_queries, of_rows) = (table(QUERIES.min(rows), 1), table(rows, 2));
    let work = (QUERIES.min(rows) * rows * dim) as f64;
    let fastest = pool.broadcast(|_| {
        let (mut queries, mut packed) = (Queries::default(), Packed::default());
        queries.load(of_queries.chunks_exact(dim), &of_rows[..dim]);
        packed.load(of_rows.chunks_exact(dim), &of_rows[..dim]);
        let (began, mut fastest) = (Instant::now(), f64::MAX);
        while began.elapsed() < KERNEL {
            let (portion, mut near) = (Instant::now(), 0usize);
            for_each_tile(&queries, &packed, |_, _, tile| {
                // As a search looks at them, though none is near enough.
                near += tile.iter().filter(|scores| scores.iter().fold(false, |any, &s| any | (s < -1e30))).count();
            });
            std::hint::black_box(near);
            fastest = fastest.min(portion.elapsed().as_secs_f64());
        }
        fastest.max(1e-9)
    });
    // Threads beyond the cores take turns on them.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = cores.min(fastest.len()) as f64 / fastest.len() as f64;
    share * fastest.into_iter().map(|seconds| work / seconds).sum::<f64>()
}

/// Pairs a second of a small map with random edges, as many a row as the plan's up to some.
fn pairs(plan: &Plan) -> Result<f64> {
    const MOST_EDGES: usize = 40;
    let edges_a_row = ((plan.degree() as f64 * SYMMETRIC) as usize).clamp(1, MOST_EDGES);
    let rows = (MAP_ROWS * plan.threads as u32).min(plan.shape.rows as u32).max(2);
    let edges = rows as usize * edges_a_row;
    let draw = |stream: u64, i: usize| unit(2, stream, i as u64);
    let block = EdgeBlock {
        first_row: 0,
        offsets: (0..=rows).map(|row| row * edges_a_row as u32).collect(),
        // Neighbours lie near each other, as in list order.
        neighbors: (0..edges).map(|i| ((i / edges_a_row) as u32 + 1 + (draw(3, i) * 200.0) as u32) % rows).collect(),
        weights: (0..edges)
            .map(|i| match plan.settings.method.objective().coding() {
                Coding::Whole => 1.0,
                // Of this power the mean is `FIRING`.
                Coding::Rates | Coding::Roots => draw(4, i).powf((1.0 / FIRING - 1.0) as f32),
            })
            .collect(),
    };
    let settings = &plan.settings;
    let width = settings.n_components;
    const EPOCHS: usize = 10;
    let options = layout::Options { max_weight: 1.0, seed: 1, ..layout::Options::asked(settings, rows, EPOCHS) };
    let start: Vec<f32> = (0..rows as usize * width).map(|i| 20.0 * draw(5, i) - 10.0).collect();
    let edges = Edges::in_memory(&block, &options);
    let work = pairs_an_epoch(settings, u64::from(rows), block.neighbors.len() as f64);
    let (began, mut fastest) = (Instant::now(), f64::MAX);
    while began.elapsed() < MAP || fastest == f64::MAX {
        let portion = Instant::now();
        layout::run(&options, &edges, Start::Positions(&start), &mut (), &Progress::unheard())?;
        fastest = fastest.min(portion.elapsed().as_secs_f64());
    }
    Ok(work * EPOCHS as f64 / fastest.max(1e-9))
}

/// Operations a second of the plan's exact method, on some random rows: until the affinity is found,
/// and in iterations.
fn all_pairs(plan: &Plan) -> Result<[f64; 2]> {
    const ROWS: usize = 384;
    const LEAST: usize = 2;
    let problem = |max_iter: usize| {
        let mut problem = exact::stage::problem(plan)?;
        let d = &mut problem.descent;
        (d.max_iter, d.min_grad_norm, d.process_duplicates) = (max_iter, 0.0, false);
        if let exact::Start::Positions(_) = d.init {
            d.init = if problem.loss.hyperbolic() { exact::Start::Hyperbolic } else { exact::Start::Normal };
        }
        Ok::<_, Error>(problem)
    };
    let (dim, most) = (plan.shape.dim, plan.shape.rows as usize);
    // So many that the options fit them.
    let fits = |rows: &usize| problem(0).is_ok_and(|problem| problem.check(*rows).is_ok());
    let rows = [ROWS, 2 * ROWS, 4 * ROWS].into_iter().find(fits).unwrap_or(most).min(most);
    let table: Vec<f32> = (0..rows * dim).map(|i| unit(6, 1, i as u64) / (dim as f32).sqrt()).collect();
    let time = |max_iter: usize| {
        let problem = problem(max_iter)?;
        let run = exact::Run { hold: 0, state: None, keep: &mut |_| Ok(()) };
        let began = Instant::now();
        exact::fit(&problem, &table, dim, run, &Progress::unheard())?;
        Ok::<_, Error>((exact::needs(&problem, rows, dim, plan.threads, 0), began.elapsed().as_secs_f64()))
    };
    let (takes, none) = time(0)?;
    // Its loss at the end takes about as long as an iteration.
    let (_, some) = time(LEAST)?;
    let each = ((some - none) / LEAST as f64).max(1e-7);
    let count = LEAST + (MAP.as_secs_f64() / each).min(200.0) as usize;
    let (_, many) = time(count)?;
    let each = ((many - none) / count as f64).max(1e-7);
    let affinity = (none - each).max(none / 4.0).max(1e-7);
    Ok([takes.affinity_operations / affinity, takes.iteration_operations / each])
}

/// Pairs that move a row in an epoch, over all rows: edges that fire, or all of them, and their pushes.
fn pairs_an_epoch(settings: &Settings, rows: u64, edges: f64) -> f64 {
    let (rows, negatives) = (rows as f64, settings.method.negatives(settings) as f64);
    match settings.method.objective().coding() {
        // A row without an edge that fires costs a look at it.
        Coding::Rates => rows + edges * FIRING * (1.0 + negatives),
        // What moves a row costs as much as some pairs.
        Coding::Roots | Coding::Whole => rows * (8.0 + negatives) + edges,
    }
}

/// Rows a second that the source gives, from its first ones; none where it cannot be read.
fn decoding(source: &dyn Source) -> Option<f64> {
    const PORTION: usize = 1 << 18;
    let shape = source.shape();
    let rows = (PORTION / shape.dim.max(1)).clamp(1, 65_536).min(shape.rows as usize);
    let mut values = vec![0f32; rows * shape.dim];
    // What the first call opens and decodes ahead would count for all.
    source.read_rows(0, &mut values).ok()?;
    let (began, mut at) = (Instant::now(), rows as u64);
    let mut read = 0;
    while began.elapsed() < SOURCE && at < shape.rows {
        let rows = rows.min((shape.rows - at) as usize);
        source.read_rows(at, &mut values[..rows * shape.dim]).ok()?;
        (at, read) = (at + rows as u64, read + rows as u64);
    }
    source.release();
    // So few that they take no time.
    let few = 1e7 / shape.dim.max(1) as f64;
    Some(if read == 0 { few } else { read as f64 / began.elapsed().as_secs_f64().max(1e-6) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: u64, dim: usize, memory: u64) -> Plan {
        let shape = lowland_io::Shape { rows, dim };
        let input =
            crate::Input { shape, dtype: lowland_io::Dtype::F32, graph_k: None, source_bytes: 0, resident_bytes: 0 };
        crate::Config { memory, threads: Some(2), ..crate::Config::default() }.plan(&input).expect("fits")
    }

    const RATES: Rates = Rates { multiply_adds: 190e9, pairs: 530e6, exact: None, source_rows: Some(1e6), disk: None };

    fn total(plan: &Plan, rates: &Rates) -> f64 {
        seconds(plan, rates).into_iter().flatten().sum()
    }

    #[test]
    fn the_runs_that_the_constants_are_from() {
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
    fn less_memory_and_slower_parts_take_longer() {
        let (small, large) = (plan(2_000_000, 128, 400 << 20), plan(2_000_000, 128, 8 << 30));
        assert!(total(&small, &RATES) > total(&large, &RATES));
        let slow = Some(DiskRates { read: 50e6, write: 50e6, kept: 0 });
        assert!(total(&small, &Rates { disk: slow, ..RATES }) > 1.2 * total(&small, &RATES));
        let (slow, fast) = (total(&large, &Rates { multiply_adds: 20e9, ..RATES }), total(&large, &RATES));
        assert!(slow > 1.8 * fast, "{slow} {fast}");
    }

    #[test]
    fn what_was_not_measured_has_no_figure() {
        let plan = plan(100_000, 16, 1 << 30);
        let found = seconds(&plan, &Rates { source_rows: None, ..RATES });
        let unknown = [Stage::Scan, Stage::Index];
        for (stage, seconds) in plan.stages.iter().zip(found) {
            assert_eq!(seconds.is_none(), unknown.contains(&stage.stage), "{:?}", stage.stage);
            assert!(seconds.is_none_or(|s| s.is_finite() && s > 0.0));
        }
    }

    #[test]
    fn a_calibration_ends_and_gives_rates() {
        for (rows, dim) in [(20, 2), (100_000, 64), (5_000, 3_000)] {
            let rates = Rates::measure(&plan(rows, dim, 4 << 30), None, None).expect("threads");
            assert!(rates.multiply_adds > 1e6 && rates.pairs > 1e4 && rates.source_rows.is_none(), "{rates:?}");
        }
    }
}
