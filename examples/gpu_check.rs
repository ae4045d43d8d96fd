//! The layout on a GPU, held against the CPU and timed: `./x gpu-check` runs it.
//!
//! The graph is drawn: as many rows and edges as asked, of the degrees and weights of a
//! UMAP graph of 15 neighbours in list order (most neighbours near, some anywhere, some
//! hubs). Prints a line for each figure.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lowland_engine::layout::{self, Gpu, LayoutEdges, LayoutOptions, LayoutStart};
use lowland_engine::{BLOCK_ROWS, Error, Event, Method, Observer, Progress, Stage, methods};
use lowland_io::edges::EdgeBlock;

type CheckError = Box<dyn std::error::Error>;

/// A draw in [0, 1) for a counter.
fn unit(counter: u64) -> f64 {
    let mut x = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Blocks of a graph of `rows` rows with 21.6 edges each, in the mean.
fn graph(rows: u32) -> Vec<EdgeBlock> {
    let block = |first: u32| {
        let mut block = EdgeBlock { first_row: first, offsets: vec![0], neighbors: Vec::new(), weights: Vec::new() };
        for row in first..rows.min(first.saturating_add(BLOCK_ROWS)) {
            let seed = u64::from(row) << 16;
            let hub = if unit(seed) < 1e-4 { 1000.0 } else { 0.0 };
            let degree = (15.0 + hub - 6.09 * unit(seed + 1).max(1e-9).ln()) as u32;
            for e in 0..degree {
                let draw = |of: u64| unit(seed + 16 + u64::from(e) * 4 + of);
                let near = draw(0) < 0.9;
                let width = if near { 400.0 } else { f64::from(rows) };
                let away = 1 + (draw(1) * width) as u32;
                let to = (u64::from(row) + u64::from(rows) - 200 + u64::from(away)) % u64::from(rows);
                block.neighbors.push(if to == u64::from(row) { (row + 1) % rows } else { to as u32 });
                // A third of them fires in an epoch; the strongest always.
                block.weights.push(if e == 0 { 1.0 } else { draw(2).powi(2) as f32 });
            }
            block.offsets.push(block.neighbors.len() as u32);
        }
        block
    };
    (0..rows).step_by(BLOCK_ROWS as usize).map(block).collect()
}

/// When the epochs were told.
#[derive(Default)]
struct Watch(Mutex<Vec<Instant>>);

impl Observer for Watch {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if matches!(event, Event::Advance { .. }) {
            self.0.lock().expect("one thread").push(Instant::now());
        }
        ControlFlow::Continue(())
    }
}

struct CheckedRun {
    map: Vec<f32>,
    whole: Duration,
    /// Of a mean epoch, the first ones left out: they send what then stays.
    epoch: Duration,
}

fn run(gpu: Option<&Gpu>, options: &LayoutOptions, edges: &LayoutEdges) -> Result<CheckedRun, Error> {
    let count = options.rows as usize * options.n_components;
    let start: Vec<f32> = (0..count as u64).map(|i| (20.0 * unit(i ^ 0xabcd_0000_0000) - 10.0) as f32).collect();
    let watch = Watch::default();
    let progress = Progress::start(&watch, Stage::Layout, options.epochs as u64, "epochs")?;
    let began = Instant::now();
    let map = layout::run_on(gpu, options, edges, LayoutStart::Positions(&start), &mut (), &progress)?;
    let whole = began.elapsed();
    let told = watch.0.into_inner().expect("one thread");
    let skipped = (told.len() / 10).max(1).min(told.len() - 1);
    let epoch = (told[told.len() - 1] - told[skipped]) / (told.len() - 1 - skipped).max(1) as u32;
    Ok(CheckedRun { map, whole, epoch })
}

fn same(a: &[f32], b: &[f32]) -> String {
    let differ = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    if differ == 0 {
        "the same bytes".into()
    } else {
        format!("{differ} of {} numbers differ, by up to {most}", a.len())
    }
}

fn line(what: &str, found: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe is nobody reading.
    let _ = writeln!(out, "{what:<58} {found}");
}

/// Arguments: [rows] [epochs] [directory to write the graph to, - for none] [ptx=FILE…]
fn check() -> Result<bool, CheckError> {
    let mut given: Vec<String> = std::env::args().skip(1).collect();
    let variants: Vec<String> = given.iter().filter_map(|a| a.strip_prefix("ptx=").map(str::to_string)).collect();
    given.retain(|a| !a.starts_with("ptx="));
    let rows: u32 = given.first().map_or(Ok(1_000_000), |a| a.parse())?;
    let epochs: usize = given.get(1).map_or(Ok(200), |a| a.parse())?;
    let found = |budget| Gpu::open(0, budget);
    let gpu = found(None)?;
    line("device", gpu.name());
    let mut well = true;

    // Every method, in some widths: the device against the processor, and against itself.
    let small = rows.min(60_000);
    let blocks = graph(small);
    for method in [Method::UMAP, Method::LARGEVIS, Method::INFOTSNE, Method::TSNE, Method::PACMAP] {
        // A field is of a plane.
        let widths: &[usize] = if method == Method::TSNE { &[2] } else { &[2, 3, 1, 8, 50] };
        for &n_components in widths {
            let options = LayoutOptions { epochs: 30, n_components, ..methods::options(method, small)? };
            let mut blocks = blocks.clone();
            if method == Method::PACMAP {
                blocks.iter_mut().flat_map(|block| &mut block.weights).for_each(|w| *w = 1.0 + (*w * 4.0).floor());
            }
            let edges = LayoutEdges::blocks_in_memory(&blocks, &options);
            let cpu = run(None, &options, &edges)?;
            let once = run(Some(&gpu), &options, &edges)?;
            let again = run(Some(&gpu), &options, &edges)?;
            well &= once.map == cpu.map && again.map == once.map;
            let what = format!("{method}, {small} rows, {n_components} components, 30 epochs: CPU, GPU");
            line(&what, &same(&cpu.map, &once.map));
            if again.map != once.map {
                line(&format!("{what}: twice"), &same(&again.map, &once.map));
            }
        }
    }

    let blocks = graph(rows);
    let options = LayoutOptions { epochs, ..methods::options(Method::UMAP, rows)? };
    if let Some(dir) = given.get(2).filter(|dir| *dir != "-") {
        export(dir, &blocks)?;
    }
    let edges = LayoutEdges::blocks_in_memory(&blocks, &options);
    drop(blocks);
    let walked = edges.edges_per_epoch();
    line("rows, walked edges, epochs", &format!("{rows}, {walked}, {epochs}"));
    let ms = |d: Duration| format!("{:.3} ms", d.as_secs_f64() * 1e3);
    let told = |run: &CheckedRun| {
        format!(
            "{} an epoch, {epochs} in {:.3} s; with all sent and fetched {:.3} s",
            ms(run.epoch),
            run.epoch.as_secs_f64() * epochs as f64,
            run.whole.as_secs_f64()
        )
    };

    let first = run(Some(&gpu), &options, &edges)?;
    line("UMAP on the GPU, edges kept there (first run)", &told(&first));
    let kept = run(Some(&gpu), &options, &edges)?;
    line("UMAP on the GPU, edges kept there", &told(&kept));
    well &= kept.map == first.map;
    line("twice", &same(&first.map, &kept.map));
    for threads in [128, 256, 512] {
        for ptx in std::iter::once(None).chain(variants.iter().map(Some)) {
            let text = ptx.map(std::fs::read_to_string).transpose()?;
            let gpu = found(None)?.with_kernels(text, threads);
            let tried = run(Some(&gpu), &options, &edges)?;
            let what = format!("  {threads} threads a block, {}", ptx.map_or("as built", |p| p.as_str()));
            let bytes = if tried.map == kept.map { "same bytes" } else { "OTHER BYTES" };
            well &= tried.map == kept.map;
            line(&what, &format!("{} an epoch, {bytes}", ms(tried.epoch)));
        }
    }

    for share in [0.0, 0.5] {
        let bytes = walked * 6 + u64::from(rows) * 4;
        let budget = u64::from(rows) * 32 + (64 << 20) + (bytes as f64 * share) as u64;
        let gpu = found(Some(budget))?;
        let streamed = run(Some(&gpu), &LayoutOptions { epochs: epochs.min(50), ..options }, &edges)?;
        let rate = bytes as f64 * (1.0 - share) / streamed.epoch.as_secs_f64() / 1e9;
        line(
            &format!("UMAP on the GPU, about {:.0} % of edges kept there", share * 100.0),
            &format!("{} an epoch, about {rate:.1} GB/s sent", ms(streamed.epoch)),
        );
        if epochs <= 50 {
            well &= streamed.map == kept.map;
            line("  against all kept", &same(&streamed.map, &kept.map));
        }
    }

    for method in [Method::LARGEVIS, Method::INFOTSNE, Method::TSNE, Method::PACMAP] {
        let options = LayoutOptions { epochs: 50, ..methods::options(method, rows)? };
        let edges = LayoutEdges::blocks_in_memory(&graph(rows), &options);
        line(&format!("{method} on the GPU"), &format!("{} an epoch", ms(run(Some(&gpu), &options, &edges)?.epoch)));
    }

    let few = LayoutOptions { epochs: epochs.min(10), ..options };
    let cpu = run(None, &few, &edges)?;
    let same_few = run(Some(&gpu), &few, &edges)?;
    well &= cpu.map == same_few.map;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    line(&format!("UMAP on the CPU, {threads} threads"), &format!("{} an epoch", ms(cpu.epoch)));
    line(&format!("CPU, GPU after {} epochs", few.epochs), &same(&cpu.map, &same_few.map));
    Ok(well)
}

/// Writes the graph for others: degrees as offsets (u32), neighbours (u32), weights (f32).
fn export(dir: &str, blocks: &[EdgeBlock]) -> Result<(), CheckError> {
    std::fs::create_dir_all(dir)?;
    let open = |name: &str| std::fs::File::create(format!("{dir}/{name}")).map(std::io::BufWriter::new);
    let (mut degrees, mut neighbors, mut weights) =
        (open("degrees.u32")?, open("neighbors.u32")?, open("weights.f32")?);
    for block in blocks {
        for edges in block.offsets.windows(2) {
            degrees.write_all(&(edges[1] - edges[0]).to_le_bytes())?;
        }
        for (neighbor, weight) in block.neighbors.iter().zip(&block.weights) {
            neighbors.write_all(&neighbor.to_le_bytes())?;
            weights.write_all(&weight.to_le_bytes())?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match check() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            line("FAILED", "bytes differ; see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            line("FAILED", &error.to_string());
            ExitCode::FAILURE
        }
    }
}
