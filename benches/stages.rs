//! The stages' inner parts, one at a time, by criterion.
//!
//! `./x bench`, or `cargo bench --release --bench stages -- kernel` for some.
//! Figures worth keeping go to `benches/record` with the command that made them.

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowland_datasets::{DatasetKind, Generator, WriteOptions, write};
use lowland_engine::affinity::calibrate;
use lowland_engine::distances::{PackedQueries, PackedRows, for_each_tile};
use lowland_engine::{Event, Method, Metric, Observer, Progress, Stage, layout, methods, prepared_loader};
use lowland_io::edges::{EdgeBlock, EdgeReader, EdgeWriter};

/// Scores of 256 queries against 4,096 rows: elements are multiply-adds.
fn kernel(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernel");
    for dim in [32usize, 128, 384] {
        let rows = generate("mixture", 4096, dim);
        let (mut queries, mut packed) = (PackedQueries::default(), PackedRows::default());
        queries.load(rows[..256 * dim].chunks_exact(dim), &rows[..dim]);
        packed.load(rows.chunks_exact(dim), &rows[..dim]);
        group.throughput(Throughput::Elements((256 * 4096 * dim) as u64));
        group.bench_function(format!("256x4096x{dim}"), |b| {
            b.iter(|| {
                let mut least = f32::INFINITY;
                for_each_tile(&queries, &packed, |_, _, tile| least = tile[0].iter().copied().fold(least, f32::min));
                black_box(least)
            });
        });
    }
    group.finish();
}

/// Weights of one row of 15 distances.
fn calibration(c: &mut Criterion) {
    let distances: Vec<f32> = (0..15).map(|i| 0.3 + 0.05 * i as f32).collect();
    let mut weights = vec![0f32; 15];
    c.bench_function("calibrate/k15", |b| {
        b.iter(|| calibrate::calibrate(black_box(&distances), calibrate::target(16), 0.5, &mut weights));
    });
}

/// Ten epochs of 100,000 rows with 20 edges each, on all cores: elements are row-epochs.
fn epochs(c: &mut Criterion) {
    struct NoEvents;
    impl Observer for NoEvents {
        fn event(&self, _: &Event<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    const ROWS: u32 = 100_000;
    let neighbors = (0..ROWS).flat_map(|r| (0..20).map(move |e| (r + 1 + e * e) % ROWS)).collect();
    let weights = (0..ROWS * 20).map(|e| 1.0 / (1 + e % 20) as f32).collect();
    let block = EdgeBlock { first_row: 0, offsets: (0..=ROWS).map(|r| r * 20).collect(), neighbors, weights };
    let start: Vec<f32> = generate("uniform", u64::from(ROWS), 2).iter().map(|x| 20.0 * x - 10.0).collect();
    let options =
        layout::LayoutOptions { epochs: 10, seed: 1, ..methods::options(Method::UMAP, ROWS).expect("it streams") };
    let edges = layout::LayoutEdges::in_memory(&block, &options);
    let mut group = c.benchmark_group("layout");
    group.throughput(Throughput::Elements(u64::from(ROWS) * 10));
    group.sample_size(10);
    group.bench_function("10 epochs of 100k rows", |b| {
        b.iter(|| {
            let progress = Progress::start(&NoEvents, Stage::Layout, 10, "epochs").expect("never stops");
            layout::run(&options, &edges, layout::LayoutStart::Positions(&start), &mut (), &progress).expect("runs")
        });
    });
    group.finish();
}

/// Reading 100,000 × 128 through the loader, format by format.
fn loader(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let generator =
        Generator::new("mixture".parse::<DatasetKind>().expect("a kind"), 100_000, 128, 1).expect("a generator");
    let mut group = c.benchmark_group("loader");
    group.throughput(Throughput::Bytes(100_000 * 128 * 4));
    group.sample_size(10);
    for format in ["npy", "arrow", "parquet"] {
        let path = dir.path().join(format!("vectors.{format}"));
        write(&generator, &path, &WriteOptions::default()).expect("written");
        let source: std::sync::Arc<dyn lowland_io::Source> =
            lowland_io::open(&[path.to_string_lossy().into_owned()], &Default::default()).expect("opens").into();
        group.bench_function(format, |b| {
            b.iter(|| {
                prepared_loader(source.clone(), Metric::Euclidean, 8192)
                    .iter()
                    .map(|b| b.expect("reads").rows())
                    .sum::<usize>()
            });
        });
    }
    group.finish();
}

/// Writing and reading the edge store, 500,000 edges a block: elements are edges.
fn edge_store(c: &mut Criterion) {
    const ROWS: u32 = 16_384;
    const DEGREE: u32 = 30;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("edges.arrow");
    // In list order neighbours are near: ascending, some tens of rows apart.
    let neighbors = (0..ROWS).flat_map(|r| (0..DEGREE).map(move |e| (r + 37 * e) % ROWS)).collect();
    let weights = (0..ROWS * DEGREE).map(|e| 1.0 / (1 + e.wrapping_mul(2_654_435_761) % 1000) as f32).collect();
    let block = EdgeBlock { first_row: 0, offsets: (0..=ROWS).map(|r| r * DEGREE).collect(), neighbors, weights };
    let write = || {
        let mut writer = EdgeWriter::create(&path, &[]).expect("created");
        writer.write_block(&block).expect("written");
        writer.finish().expect("finished")
    };
    let mut group = c.benchmark_group("edges");
    group.throughput(Throughput::Elements(u64::from(ROWS * DEGREE)));
    group.bench_function("write", |b| b.iter(write));
    write();
    let reader = EdgeReader::open(&path).expect("opens");
    let mut found = EdgeBlock::default();
    group.bench_function("read", |b| b.iter(|| reader.read_block(0, &mut found).expect("reads")));
    group.finish();
}

fn generate(kind: &str, rows: u64, dim: usize) -> Vec<f32> {
    let generator = Generator::new(kind.parse::<DatasetKind>().expect("a kind"), rows, dim, 1).expect("a generator");
    generator.table(0, rows as usize)
}

criterion_group!(benches, kernel, calibration, epochs, edge_store, loader);
criterion_main!(benches);
