//! The methods beside UMAP: their edges against a dense computation, the same
//! bytes whatever must not matter and wherever a run was stopped or killed,
//! maps that keep what the data say, and what is refused.

use std::io::BufReader;
use std::process::Stdio;
use std::sync::Arc;

use lowland::{Config, Event, Init, Method, MethodOption, Optimizer, Stage};
use lowland_datasets::{DatasetKind, Mixture, OutputDtype};
use lowland_engine::affinity::EdgeStore;
use lowland_engine::neighbors::KnnGraph;
use lowland_engine::pca::Pca;
use lowland_engine::{Metric, index};
use lowland_io::EdgeBlock;
use serde_json::Value;

use crate::harness::{
    FinishedRun, TestTable, check_resumed, check_same, inputs_of, mixture, plan_of, run, run_plan, smallest, squeezed,
};
use crate::harness::{TestDir, signal, wait_for};
use crate::shapes::held;

/// All methods that stream; those of all pairs are in `all_pairs`.
fn streamed() -> impl Iterator<Item = Method> {
    Method::all().filter(|method| !method.is_all_pairs())
}

/// All of these but UMAP, each with few epochs and two threads.
fn quick_ones() -> Vec<Config> {
    streamed()
        .filter(|&method| method != Method::UMAP)
        .map(|method| Config { threads: Some(2), n_epochs: Some(20), ..small(method) })
        .collect()
}

/// A method's defaults with few neighbours.
fn small(method: Method) -> Config {
    let config = Config::of(method);
    if method.supports(MethodOption::Perplexity) { Config { perplexity: Some(5.0), ..config } } else { config }
}

// Affinities.

/// Every edge of a run, by its two rows.
fn edges_of(run: &FinishedRun) -> Vec<(u32, u32, f32)> {
    let store = EdgeStore::open(run.dir.dir(), run.plan.shape().rows).expect("an edge store");
    let (mut edges, mut block) = (Vec::new(), EdgeBlock::default());
    for i in 0..store.count() {
        store.read_block(i, &mut block).expect("a block");
        for (place, range) in block.offsets.windows(2).enumerate() {
            for at in range[0] as usize..range[1] as usize {
                edges.push((block.first_row + place as u32, block.neighbors[at], block.weights[at]));
            }
        }
    }
    edges
}

/// Conditional probabilities of one row over its k least costs, by bisection.
fn conditional(costs: &[(f64, usize)], perplexity: f64) -> Vec<(usize, f64)> {
    let shares = |beta: f64| -> Vec<f64> {
        let weights: Vec<f64> = costs.iter().map(|c| (-beta * (c.0 - costs[0].0)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    };
    let entropy = |beta: f64| -> f64 { shares(beta).iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum() };
    let (mut low, mut high) = (1e-12, 1e12);
    for _ in 0..300 {
        let middle = f64::sqrt(low * high);
        if entropy(middle) > perplexity.ln() { low = middle } else { high = middle }
    }
    // The guide's entropy, Σ −p (log p − 1), is this and 1.
    assert!((entropy(low) - perplexity.ln()).abs() < 1e-9);
    costs.iter().map(|c| c.1).zip(shares(low)).collect()
}

#[test]
fn entropic_edges_equal_a_dense_computation() {
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let (n, perplexity) = (400, 12.0);
        let table = mixture(n, 8);
        let run = run(
            &Config {
                metric: Some(metric),
                perplexity: Some(perplexity),
                n_epochs: Some(2),
                ..Config::of(Method::TSNE)
            },
            &table,
        );
        assert_eq!(run.plan.k(), 36);
        let lists = index::open(run.dir.dir()).expect("lists");
        let rows: Vec<Vec<f64>> =
            (0..n as u32).map(|row| lists.row(row).expect("a row").iter().map(|&x| f64::from(x)).collect()).collect();
        let mut expected = vec![vec![0.0; n]; n];
        for row in 0..n {
            let cost = |other: &Vec<f64>| rows[row].iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            let mut costs: Vec<(f64, usize)> =
                (0..n).filter(|&o| o != row).map(|other| (cost(&rows[other]), other)).collect();
            costs.sort_by(|a, b| a.0.total_cmp(&b.0));
            costs.truncate(36);
            for (other, share) in conditional(&costs, perplexity) {
                expected[row][other] += share / 2.0;
                expected[other][row] += share / 2.0;
            }
        }
        let mut found = vec![vec![0.0; n]; n];
        for (from, to, weight) in edges_of(&run) {
            found[from as usize][to as usize] = f64::from(weight);
        }
        let mut total = 0.0;
        for a in 0..n {
            for b in 0..n {
                assert!((found[a][b] - expected[a][b]).abs() < 2e-6, "{a}, {b}: {} {}", found[a][b], expected[a][b]);
                assert_eq!(found[a][b], found[b][a]);
                total += found[a][b];
            }
        }
        // Rows sum to 1 before they are symmetrised, and so to n all together.
        assert!((total / n as f64 - 1.0).abs() < 1e-5, "{total}");
    }
}

#[test]
fn pairs_are_those_of_the_paper() {
    check_pairs(6);
}

#[test]
fn of_many_components_the_first_hundred_principal_ones_choose_the_pairs() {
    check_pairs(130);
}

fn check_pairs(dim: usize) {
    let n = 700;
    let table = mixture(n, dim);
    let config = Config { n_epochs: Some(2), ..Config::of(Method::PACMAP) };
    let run = run(&config, &table);
    assert_eq!((run.plan.k(), run.plan.degree()), (60, 15));
    let graph = KnnGraph::open(run.dir.dir(), n as u64).expect("a graph");
    let lists = index::open(run.dir.dir()).expect("lists");
    let mut rows: Vec<f32> = (0..n as u32).flat_map(|row| lists.row(row).expect("a row").to_vec()).collect();
    let compared = dim.min(100);
    if dim > compared {
        rows = Pca::fit(&rows, dim, compared).and_then(|pca| pca.transform(&rows)).expect("principal components");
    }
    let distance = |a: u32, b: u32| -> f64 {
        let [a, b] = [a, b].map(|row| &rows[row as usize * compared..][..compared]);
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let scale = |row: u32| {
        let mut near: Vec<f64> = graph.neighbors(row).map(|to| distance(row, to).sqrt()).collect();
        near.sort_by(f64::total_cmp);
        near[3..6].iter().sum::<f64>() / 3.0
    };
    // Codes: near pairs count 1 for each end that names the other, mid-near ones 4.
    let mut near = vec![vec![0u32; n]; n];
    for row in 0..n as u32 {
        let mut scaled: Vec<(f64, u32)> =
            graph.neighbors(row).map(|to| (distance(row, to) / scale(row) / scale(to), to)).collect();
        scaled.sort_by(|a, b| a.0.total_cmp(&b.0));
        for &(_, to) in &scaled[..10] {
            near[row as usize][to as usize] += 1;
            near[to as usize][row as usize] += 1;
        }
    }
    let (mut wrong, mut middle, mut shares) = (0, 0, 0.0);
    for (from, to, weight) in edges_of(&run) {
        let code = weight as u32;
        assert!(f64::from(weight) == f64::from(code) && code > 0 && code < 16, "{weight}");
        wrong += u32::from(code % 4 != near[from as usize][to as usize]);
        if code >= 4 {
            middle += code / 4;
            // Where it stands among all rows, by distance: of six drawn the second is at 2/7 in the mean.
            let here = distance(from, to);
            let nearer = (0..n as u32).filter(|&o| o != from && distance(from, o) < here).count();
            shares += f64::from(code / 4) * nearer as f64 / n as f64;
        }
    }
    // A tie in f32 need not be one in f64.
    assert!(wrong <= 4, "{wrong} near pairs differ");
    // Five a row in both directions, but for those drawn twice.
    let most = 2 * 5 * n as u32;
    assert!(middle <= most && middle > most * 97 / 100, "{middle} of {most}");
    let mean = shares / f64::from(middle);
    // An edge is counted from both of its ends; by the other end it may stand anywhere.
    assert!((0.25..0.42).contains(&mean), "{mean}");
}

/// The guide's row: on 300 moons each names 30 others.
#[test]
fn each_of_the_moons_names_as_many_as_are_asked_for() {
    let table = TestTable::of(DatasetKind::Moons { noise: 0.05 }, 300, 2, 0);
    let run = run(&Config { n_neighbors: Some(30), n_epochs: Some(2), ..Config::of(Method::PACMAP) }, &table);
    let mut named = [0; 300];
    for (from, to, weight) in edges_of(&run) {
        assert!(from != to && to < 300);
        named[from as usize] += weight as u32 % 4;
    }
    // A pair counts at both of its ends.
    assert!(named.iter().all(|&count| count >= 30), "{named:?}");
    assert_eq!(named.iter().sum::<u32>(), 2 * 30 * 300);
}

// What must not matter.

#[test]
fn threads_batches_and_budget_do_not_change_a_map_of_any_method() {
    let table = mixture(3_000, 8);
    for config in quick_ones() {
        let plan = |change: &dyn Fn(&mut Config)| {
            let mut config = config.clone();
            change(&mut config);
            plan_of(&config, &table)
        };
        let name = |what: &str| format!("{}, {what}", config.method);
        check_same(
            &table,
            [
                (name("as it is"), plan(&|_| {})),
                (name("1 thread"), plan(&|c| c.threads = Some(1))),
                (name("batches of 1000"), plan(&|c| c.batch_rows = Some(1000))),
                (name("the smallest budget"), smallest(&config, &table)),
                (name("no room"), squeezed(plan(&|c| (c.threads, c.batch_rows) = (Some(5), Some(77))))),
            ],
        );
    }
}

#[test]
fn a_run_of_any_method_stopped_anywhere_goes_on_to_the_same_bytes() {
    let table = mixture(2_000, 6);
    for config in quick_ones() {
        // Adam's moments, and momentum's velocities and gains.
        let adam = Config { optimizer: Some(Optimizer::Adam), ..config.clone() };
        for config in if config.method == Method::TSNE { vec![config, adam] } else { vec![config] } {
            let plan = plan_of(&config, &table);
            let whole = run_plan(plan.clone(), &inputs_of(&table));
            for stage in [Stage::Affinity, Stage::Init, Stage::Layout] {
                let under_way = move |e: &Event<'_>| matches!(e, Event::Advance { stage: s, .. } if *s == stage);
                check_resumed(&format!("{} in {stage:?}", config.method), &table, &plan, &whole, true, &under_way);
            }
            // Of the first third, where attraction is exaggerated, its end, and after it.
            for epoch in [3, 6, 7, 15] {
                let there =
                    move |e: &Event<'_>| matches!(e, Event::Advance { stage: Stage::Layout, done } if *done == epoch);
                check_resumed(&format!("{}, epoch {epoch}", config.method), &table, &plan, &whole, true, &there);
            }
            let unit = |e: &Event<'_>| matches!(e, Event::Unit { unit: "middle", .. });
            if config.method == Method::PACMAP {
                check_resumed("mid-near pairs are kept", &table, &plan, &whole, true, &unit);
            }
        }
    }
}

/// The smallest budget that the binary names for a run.
fn least_memory(place: &TestDir, arguments: &str) -> String {
    let told = place.run(&format!("plan {arguments} --memory 1MiB")).stderr;
    let (_, named) = told.trim_end().rsplit_once("give --memory ").unwrap_or_else(|| panic!("{arguments}: {told}"));
    named.to_string()
}

/// Kills a run as soon as its log tells something that `reached` accepts.
fn kill_at(place: &TestDir, arguments: &str, reached: impl Fn(&Value) -> bool) {
    let mut command = place.command(&format!("{arguments} --log-format json"));
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    wait_for(&mut BufReader::new(child.stderr.take().expect("piped")), reached);
    signal(&child, "KILL");
    assert_eq!(child.wait().expect("an end").code(), None, "{arguments}: ended by the signal");
}

/// From an array with all the memory there is, streamed from Parquet with as little as will do, and that
/// killed among the neighbours and twice in the layout: one seed, one map. `./x methods` has real data.
#[test]
fn every_method_gives_one_map_in_memory_streamed_and_after_kills() {
    let place = TestDir::new();
    // So many that not every pair is compared, and lists are read from disk.
    for name in ["v.npy", "v.parquet"] {
        place.wide_vectors(name, 66_000, 8, OutputDtype::F32);
    }
    for method in streamed() {
        let few = if method.supports(MethodOption::Perplexity) { " --perplexity 5" } else { "" };
        let options = format!("--method {method} --n-epochs 24 --recall 0.8 --threads 2{few}");
        let memory = least_memory(&place, &format!("v.parquet {options}"));
        place.ok(&format!("embed v.npy -o memory.npy {options} --memory 2GiB --quiet --force"));
        let streamed = format!("embed v.parquet {options} --memory {memory} --force");
        place.ok(&format!("{streamed} -o streamed.npy --quiet --report report.json"));
        let report: Value = serde_json::from_slice(&place.bytes("report.json")).expect("JSON");
        for (stage, planned, measured) in held(&report) {
            assert!(measured <= planned, "{method}, {stage}: {measured} bytes, where {planned} were planned");
        }
        assert!(place.bytes("streamed.npy") == place.bytes("memory.npy"), "{method} in {memory}: another map");
        let killed = format!("{streamed} -o killed.npy --checkpoint 0");
        kill_at(&place, &killed, |event| event["event"] == "unit" && event["stage"] == "neighbors");
        for _ in 0..2 {
            let kept = |event: &Value| event["event"] == "unit" && event["unit"] == "checkpoint";
            kill_at(&place, &killed, |event| kept(event) && event["reused"] == false);
        }
        place.ok(&format!("{killed} --quiet"));
        assert!(place.bytes("killed.npy") == place.bytes("memory.npy"), "{method}: the resumed map differs");
    }
}

// What comes of it.

/// The mean silhouette of two groups, as scikit-learn defines it.
fn silhouette(map: &[f32], group: impl Fn(usize) -> usize) -> f64 {
    let rows: Vec<&[f32]> = map.chunks_exact(2).collect();
    let distance = |a: usize, b: usize| -> f64 {
        rows[a].iter().zip(rows[b]).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
    };
    let mut sum = 0.0;
    for row in 0..rows.len() {
        let mean = |which: usize| {
            let others: Vec<f64> =
                (0..rows.len()).filter(|&o| o != row && group(o) == which).map(|o| distance(row, o)).collect();
            others.iter().sum::<f64>() / others.len() as f64
        };
        let (own, other) = (mean(group(row)), mean(1 - group(row)));
        sum += (other - own) / own.max(other);
    }
    sum / rows.len() as f64
}

/// The guide's test_NE: two half moons of 100 rows, from random positions,
/// 100 epochs, Adam with step 1. The raw rows have a silhouette of .31, and the
/// guide asks for .15; here for what it was seen to reach, by the median of seven
/// seeds. UMAP begins where it does by default: from random positions so few
/// epochs of its Adam leave a moon torn (.24, and .58 after 500), which SGD does not.
#[test]
fn every_method_separates_moons() {
    let table = TestTable::of(DatasetKind::Moons { noise: 0.05 }, 100, 2, 0);
    let moons = lowland_datasets::Generator::new(DatasetKind::Moons { noise: 0.05 }, 100, 2, 0).expect("a generator");
    let group = |row: usize| moons.label(row as u64) as usize;
    for (method, least) in [
        (Method::UMAP, 0.38),
        (Method::LARGEVIS, 0.385),
        (Method::INFOTSNE, 0.37),
        (Method::TSNE, 0.37),
        (Method::PACMAP, 0.46),
    ] {
        let mut found = [1, 2, 3, 4, 5, 6, 7].map(|seed| {
            let init = if method == Method::UMAP { Init::Pca } else { Init::Random };
            let own = Config { seed, init: Some(init), n_epochs: Some(100), ..Config::of(method) };
            let optimizer = method.supports(MethodOption::Optimizer).then_some(Optimizer::Adam);
            // The guide's; the paper's 35 push so few rows too far apart.
            let n_negatives = (method == Method::LARGEVIS).then_some(5);
            let config = Config { learning_rate: Some(1.0), optimizer, n_negatives, ..own };
            silhouette(&run(&config, &table).map, group)
        });
        found.sort_by(f64::total_cmp);
        crate::harness::note(&format!("{method}: silhouettes {found:.3?}"));
        assert!(found[3] > least, "{method}: {found:?}");
    }
}

#[test]
fn every_method_keeps_neighbours_in_two_and_in_three_components() {
    let table = mixture(2_000, 10);
    for method in streamed() {
        for n_components in [2, 3] {
            if method == Method::TSNE && n_components == 3 {
                continue;
            }
            let run = run(&Config { n_components: Some(n_components), threads: Some(2), ..Config::of(method) }, &table);
            let trust = run.report.quality.expect("scores").trustworthiness.expect("vectors").mean;
            crate::harness::note(&format!("{method} in {n_components}: trustworthiness {trust:.4}"));
            let least = match (method.name(), n_components) {
                ("pacmap", 2) => 0.875,
                (_, 2) => 0.91,
                ("pacmap", _) => 0.9,
                _ => 0.92,
            };
            assert!(trust > least, "{method} in {n_components}: {trust}");
        }
    }
}

#[test]
fn awkward_data_give_a_map_of_any_method() {
    let copies = DatasetKind::Duplicates { mixture: Mixture { components: 5, ..Mixture::default() }, share: 0.7 };
    let tables: [Arc<TestTable>; 3] = [
        TestTable::of(copies, 400, 4, 5),
        TestTable::of(DatasetKind::BlobsFar { blobs: 4 }, 400, 3, 1),
        // Fewer rows than neighbours are asked for.
        mixture(40, 4),
    ];
    for method in streamed() {
        for table in &tables {
            let run = run(&Config { n_epochs: Some(60), threads: Some(2), ..Config::of(method) }, table);
            assert!(run.map.iter().all(|x| x.is_finite()), "{method}");
        }
    }
    // The least that each will do with.
    for method in streamed() {
        let n_neighbors = method.supports(MethodOption::NNeighbors).then_some(2);
        let config = Config { n_neighbors, ..small(method) };
        let config =
            if method.supports(MethodOption::Perplexity) { Config { perplexity: Some(2.0), ..config } } else { config };
        let run = run(&Config { n_epochs: Some(9), threads: Some(2), ..config }, &mixture(4, 3));
        assert!(run.map.iter().all(|x| x.is_finite()), "{method}");
    }
}

// The command line.

#[test]
fn unsupported_options_are_refused_and_name_methods() {
    let place = TestDir::new();
    place.vectors("v.npy", 500);
    for (options, words) in [
        ("--method tsne --min-dist 0.1", &["min-dist", "tsne does not have this option", "umap does"][..]),
        ("--method pacmap --perplexity 30", &["perplexity", "largevis, infotsne, tsne, "]),
        ("--perplexity 30", &["perplexity", "umap does not have this option"]),
        ("--method tsne --n-neighbors 15", &["n-neighbors", "umap, pacmap, "]),
        ("--method tsne --n-negatives 5", &["n-negatives", "largevis, infotsne do"]),
        ("--method largevis --negative-sample-rate 5", &["negative-sample-rate", "umap does"]),
        ("--method pacmap --optimizer adam", &["optimizer", "largevis, infotsne, tsne, "]),
        ("--method umap --early-exaggeration 4", &["early-exaggeration", "umap does not have this option"]),
        ("--method t-sne", &["--method", "umap, largevis, infotsne, tsne, pacmap"]),
        ("--method tsne --optimizer sgd", &["--optimizer", "adam, momentum, gains"]),
        ("--method tsne --perplexity 600", &["perplexity", "600"]),
        ("--method tsne --perplexity nan", &["perplexity"]),
        ("--method tsne --early-exaggeration 0", &["early-exaggeration", "between 1"]),
        ("--method infotsne --n-negatives 100000", &["n-negatives", "512"]),
        ("--method tsne --n-components 3", &["n-components", "tsne", "2 components", "infotsne"]),
    ] {
        for command in ["embed", "plan"] {
            let answer = place.run(&format!("{command} v.npy -o m.npy {options}"));
            assert_eq!(answer.code, 2, "{command} {options}: {}", answer.stderr);
            for word in words {
                assert!(answer.stderr.contains(word), "{command} {options}: no {word} in {}", answer.stderr);
            }
        }
    }
    place.ok("knn v.npy -o g.arrow --n-neighbors 12 --quiet");
    place.refused("embed --knn g.arrow -o m.npy --method pacmap", &["pacmap needs the vectors", "--method"]);
    let words = ["perplexity", "12 neighbours a row", "4 is suitable"];
    place.refused("embed --knn g.arrow -o m.npy --method tsne --perplexity 30", &words);
    let answer = place.ok("embed --knn g.arrow -o m.npy --method tsne --n-epochs 9");
    assert!(answer.stderr.contains("perplexity is limited to 4 instead of 30"), "{}", answer.stderr);
    place.ok("embed --knn g.arrow -o m.npy --method tsne --perplexity 4 --n-epochs 9 --quiet --force");
}

#[test]
fn another_method_does_not_go_on_and_the_plan_tells_which_it_is() {
    let place = TestDir::new();
    place.vectors("v.npy", 1_000);
    place.ok("embed v.npy -o m.npy --run-dir run --n-epochs 5 --quiet");
    place.refused("embed v.npy -o n.npy --run-dir run --n-epochs 5 --method tsne", &["run", "method", "--restart"]);
    let told = place.ok("plan v.npy --method tsne --threads 2").stdout;
    for words in ["to 2 components by tsne: 90 neighbours, 750 epochs", "32 bytes a row"] {
        assert!(told.contains(words), "no {words} in {told}");
    }
    let told = place.ok("plan v.npy --method pacmap --json").stdout;
    let plan: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(plan["config"]["method"], "pacmap");
    let help = place.ok("embed --help").stdout;
    for words in ["--method", "--perplexity", "--early-exaggeration", "--n-negatives", "--optimizer", "--lr"] {
        assert!(help.contains(words), "no {words} in the help");
    }
}
