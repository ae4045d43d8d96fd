//! Fingerprints of the bytes that kernels and whole runs give for fixed data: one constant for every processor and
//! every instruction set.
//!
//! What must hold: a constant changes only with a change of results that is wanted. On x86-64 the test runs itself once
//! for each narrower instruction set; `./x cross` runs it on aarch64.

#[cfg(target_arch = "x86_64")]
use std::process::Command;
use std::sync::Arc;

use lowland_io::{MemorySource, RunDir};

use crate::coded::{CodeInstructions, CodedComparison, CodedRows, CodedVectors};
use crate::distances::{PackedQueries, PackedRows, ScoreBars, for_each_near, for_each_tile, squared_distance};
use crate::index::Quantizer;
use crate::neighbors::KnnGraph;
use crate::random::{below, unit};
#[cfg(target_arch = "x86_64")]
use crate::simd::TEST_LEVELS;
use crate::{Config, Device, Inputs, Method, embed, layout};

/// The hash of some bytes: FNV-1a.
struct Fingerprint(u64);

impl Fingerprint {
    fn new() -> Self {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }

    fn word(&mut self, word: u32) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn floats(&mut self, floats: &[f32]) {
        floats.iter().for_each(|x| self.word(x.to_bits()));
    }
}

/// Numbers in clusters: `rows` × `dim`.
fn clustered(rows: usize, dim: usize) -> Vec<f32> {
    let center = |cluster: u64, c: u64| unit(5, cluster, c) * 4.0;
    (0..rows * dim)
        .map(|i| {
            let (row, c) = ((i / dim) as u64, (i % dim) as u64);
            center(below(5, 100, row, 12), c) + unit(5, 101, i as u64) + unit(5, 102, i as u64)
        })
        .collect()
}

/// Scores of tiles, pairs near their thresholds, and distances, for several widths.
fn distances() -> u64 {
    let mut found = Fingerprint::new();
    for dim in [1, 3, 16, 37, 130] {
        let (values, center) = (clustered(75, dim), vec![2.5; dim]);
        let (mut queries, mut rows) = (PackedQueries::default(), PackedRows::default());
        queries.load(values[..45 * dim].chunks_exact(dim), &center);
        rows.load(values.chunks_exact(dim), &center);
        let mut scores = Vec::new();
        for_each_tile(&queries, &rows, |group, block, tile| {
            found.word((group * 100 + block) as u32);
            found.floats(tile.as_flattened());
            scores.push(tile[0][0]);
        });
        let mut bars = ScoreBars::default();
        bars.set((0..45).map(|query| scores[query % scores.len()] + 0.5));
        for_each_near(&queries, &rows, &mut bars, |query, row, score| {
            found.word((query * 100 + row) as u32);
            found.floats(&[score]);
            score
        });
        for (a, b) in values.chunks_exact(dim).zip(values.chunks_exact(dim).rev()) {
            found.floats(&[squared_distance(a, b)]);
        }
    }
    found.0
}

/// The pairs that codes do not exclude, in both directions.
fn codes(with: CodeInstructions) -> u64 {
    let mut found = Fingerprint::new();
    for dim in [3, 16, 37, 130] {
        let values = clustered(120, dim);
        let (queries, rows) = values.split_at(45 * dim);
        let (center, rows_center, chosen) = (&queries[..dim], &rows[..dim], Vec::from_iter(0..45));
        let mut codes = CodedVectors::new(with, 45, dim);
        let coding = codes.slots().encode(queries, center);
        let rows = CodedRows::encode(with, Vec::new(), rows, rows_center);
        let mut comparison = CodedComparison::default();
        comparison.prepare(&coding, center, &rows, rows_center);
        let mut far = Vec::new();
        comparison.crowd_limits(&codes, &chosen, &rows, 6, &mut far);
        found.floats(&far);
        let row_limits = vec![0.2 * dim as f32; 75];
        for row_limits in [None, Some(&row_limits[..])] {
            comparison.for_each_near(
                &codes,
                &chosen,
                &rows,
                row_limits,
                |query| far[query],
                |query, row| {
                    found.word((query * 100 + row) as u32);
                    far[query]
                },
            );
        }
    }
    found.0
}

fn powers() -> u64 {
    let mut found = Fingerprint::new();
    for b in [0.3, 0.895_060_9, 1.0, 1.7] {
        let mut numbers: Vec<f32> = (0..1000).map(|i| (unit(5, 200, i) * 60.0 - 30.0).mul_add(1.0, 30.5)).collect();
        numbers.extend([0.0, f32::MIN_POSITIVE, 1e-12, 1e12]);
        layout::powers(&mut numbers, b);
        found.floats(&numbers);
    }
    found.0
}

/// The graph and the map of a run. With `exact` every pair of rows is compared, otherwise lists are searched. The
/// quantizer is given, since FAISS trains another one on another processor.
fn run(config: Config, rows: usize, dim: usize, exact: bool) -> [u64; 2] {
    let values = clustered(rows, dim);
    let lists = if exact { 20 } else { 64 };
    let centroids = values[..lists * dim].to_vec();
    let quantizer = Quantizer { dim, centroids, group_centers: vec![2.5; dim], group_starts: vec![0, lists as u32] };
    let source = MemorySource::from_vec("rows", values, dim).expect("whole rows");
    let inputs = Inputs { source: Some(Arc::new(source)), ..Inputs::default() };
    let config = Config { device: Device::Cpu, threads: Some(2), ..config };
    let mut plan = config.plan(&inputs.describe().expect("a shape")).expect("a plan");
    (plan.index.exact, plan.index.lists) = (exact, lists);
    let place = tempfile::tempdir().expect("a directory");
    let (dir, _) = RunDir::open(place.path().join("run"), plan.identity(), Vec::new()).expect("a run directory");
    let stamp = quantizer.write(dir.create("quantizer.bin").expect("a file")).expect("written");
    let files = vec![("quantizer.bin".to_string(), stamp)];
    dir.finish_unit("index", "quantizer", files, serde_json::Value::Null).expect("recorded");
    let mut map: Vec<f32> = Vec::new();
    embed(&plan, &inputs, &dir, &mut map, &()).expect("a map");

    let (mut of_graph, mut of_map) = (Fingerprint::new(), Fingerprint::new());
    let graph = KnnGraph::open(dir.dir(), rows as u64).expect("a graph");
    for row in 0..graph.rows() {
        graph.neighbors(row).for_each(|neighbor| of_graph.word(neighbor));
        of_graph.floats(graph.distances(row).expect("distances"));
    }
    of_map.floats(&map);
    [of_graph.0, of_map.0]
}

/// Computes all fingerprints, by name.
fn all() -> Vec<(String, u64)> {
    let mut found = vec![("distances".to_string(), distances()), ("powers".to_string(), powers())];
    let mut add = |name: String, [graph, map]: [u64; 2]| {
        found.extend([(format!("{name}, graph"), graph), (format!("{name}, map"), map)]);
    };
    for method in [Method::UMAP, Method::LARGEVIS, Method::INFOTSNE, Method::TSNE, Method::PACMAP] {
        let config = Config { n_epochs: Some(20), ..Config::of(method) };
        add(method.name().to_string(), run(config, 700, 20, true));
    }
    let config = Config { n_epochs: Some(20), n_components: Some(3), ..Config::default() };
    add("umap in space".to_string(), run(config, 700, 3, true));
    let config = Config { n_epochs: Some(10), ..Config::default() };
    add("umap by lists".to_string(), run(config, 4_000, 40, false));
    found
}

/// The fingerprints of this version.
const EXPECTED: &[(&str, u64)] = &[
    ("distances", 0x2085_2052_0e0d_c082),
    ("powers", 0xc306_b460_d212_5dd6),
    ("umap, graph", 0x4c0f_d780_fca5_b927),
    ("umap, map", 0x70b2_c5fd_9bf7_6e4a),
    ("largevis, graph", 0x1d2d_e9f2_5127_dd85),
    ("largevis, map", 0xa417_571f_9301_67e3),
    ("infotsne, graph", 0x1d2d_e9f2_5127_dd85),
    ("infotsne, map", 0xbf89_832e_e418_1d9d),
    ("tsne, graph", 0x1d2d_e9f2_5127_dd85),
    ("tsne, map", 0xc60a_80b0_4854_b2ad),
    ("pacmap, graph", 0xaa4a_1a4a_6107_911d),
    ("pacmap, map", 0xbed0_1756_b0cc_589f),
    ("umap in space, graph", 0x9651_9a23_e672_ccfa),
    ("umap in space, map", 0x5252_5501_3824_d502),
    ("umap by lists, graph", 0x5f08_343e_fc4f_3f68),
    ("umap by lists, map", 0x2057_325f_35ff_9576),
];

#[test]
fn bytes_are_those_of_every_instruction_set() {
    let found = all();
    let text: String = found.iter().map(|(name, bytes)| format!("    (\"{name}\", {bytes:#018x}),\n")).collect();
    let same = found.iter().map(|(name, bytes)| (name.as_str(), *bytes)).eq(EXPECTED.iter().copied());
    assert!(same, "found:\n{text}");
}

/// AVX2 has codes of more bits.
#[test]
fn codes_of_eight_bits_exclude_the_same_pairs() {
    for with in CodeInstructions::all().filter(|with| !matches!(with, CodeInstructions::Avx2(_))) {
        assert_eq!(codes(with), 0x336f_33fa_cfc8_cd63, "{with:?}: {:#018x}", codes(with));
    }
}

/// Runs the first test with each narrower instruction set, in a process of its own because the instruction set is
/// selected once.
#[test]
#[cfg(target_arch = "x86_64")]
fn bytes_are_the_same_without_the_widest_instruction_sets() {
    if std::env::var_os("LOWLAND_TEST_SIMD").is_some() {
        return;
    }
    let program = std::env::current_exe().expect("the path of this program");
    for level in &TEST_LEVELS[..TEST_LEVELS.len() - 1] {
        let test = "fingerprints::bytes_are_those_of_every_instruction_set";
        let out = Command::new(&program).args(["--exact", test]).env("LOWLAND_TEST_SIMD", level).output();
        let out = out.expect("this program runs");
        assert!(out.status.success(), "{level}:\n{}", String::from_utf8_lossy(&out.stdout));
        assert!(String::from_utf8_lossy(&out.stdout).contains("1 passed"), "no such test");
    }
}
