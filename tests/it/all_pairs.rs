//! The exact methods as methods of the one table: the same map as the library's,
//! the same bytes whatever must not matter and wherever a run was stopped or
//! killed, scores that are true, memory that is planned, and what is refused.

use std::io::BufReader;
use std::process::Stdio;

use lowland::{
    Config, Event, Init, MatchLoss, Method, MethodOption, Metric, NamedAffinity, NamedMapAffinity, Stage, scores,
};
use lowland_datasets::{DatasetKind, Mixture, OutputDtype};
use lowland_engine::all_pairs::{AllPairsMethod as _, Cost, Descent, Entropic, Sne};
use lowland_engine::{Progress, Settings};
use serde_json::Value;

use crate::bad_input::npy;
use crate::harness::{TestDir, note, signal, wait_for};
use crate::harness::{TestTable, check_resumed, check_same, inputs_of, mixture, plan_of, run, run_plan, smallest};

/// All exact methods.
fn exact_ones() -> impl Iterator<Item = Method> {
    Method::all().filter(|method| method.is_all_pairs())
}

/// A method in some iterations on two threads.
fn quick(method: Method) -> Config {
    let config = Config { threads: Some(2), n_epochs: Some(30), ..Config::of(method) };
    if method.supports(MethodOption::Perplexity) { Config { perplexity: Some(8.0), ..config } } else { config }
}

#[test]
fn a_run_gives_the_map_of_the_library_in_the_order_of_the_source() {
    let table = mixture(300, 7);
    let config = Config { seed: 9, learning_rate: Some(3.0), ..quick(Method::from_name("sne").expect("a method")) };
    for (metric, cost) in [
        (Metric::Sqeuclidean, Cost::Sqeuclidean),
        (Metric::Euclidean, Cost::Euclidean),
        (Metric::Manhattan, Cost::Manhattan),
        (Metric::Angular, Cost::Angular),
        (Metric::Cosine, Cost::Sqeuclidean),
    ] {
        let mut rows = table.values.clone();
        metric.prepare(&mut rows, table.dim);
        if metric == Metric::Cosine {
            rows.iter_mut().for_each(|x| *x *= std::f32::consts::FRAC_1_SQRT_2);
        }
        let descent =
            Descent { max_iter: 30, early_exaggeration_iter: 10, seed: 9, lr: Some(3.0), ..Descent::default() };
        let library = Sne { affinity: Entropic { perplexity: 8.0, ..Entropic::default() }, cost, descent };
        let expected = library.fit(&rows, table.dim, &Progress::silent()).expect("a map").positions;
        let found = run(&Config { metric: Some(metric), ..config.clone() }, &table);
        assert!(found.map == expected, "{}: the map differs", metric.name());
        let fitted = found.report.all_pairs.expect("figures");
        assert_eq!((fitted.iterations, fitted.distinct), (30, 300));
    }
}

#[test]
fn threads_batches_and_budget_do_not_change_an_exact_map() {
    let table = mixture(300, 6);
    for method in exact_ones() {
        let config = quick(method);
        let plan = |change: &dyn Fn(&mut Config)| {
            let mut config = config.clone();
            change(&mut config);
            plan_of(&config, &table)
        };
        let held = |hold_bytes| {
            let mut plan = plan(&|_| {});
            if let Some(held) = plan.portions().hold_bytes {
                *held = hold_bytes;
            }
            plan
        };
        let name = |what: &str| format!("{method}, {what}");
        check_same(
            &table,
            [
                (name("as it is"), plan(&|_| {})),
                (name("1 thread"), plan(&|c| c.threads = Some(1))),
                (name("batches of 77"), plan(&|c| c.batch_rows = Some(77))),
                (name("the smallest budget"), smallest(&config, &table)),
                (name("nothing held"), held(0)),
                (name("some held"), held(100_000)),
            ],
        );
    }
}

#[test]
fn an_exact_run_stopped_anywhere_goes_on_to_the_same_bytes() {
    let table = mixture(200, 6);
    for method in exact_ones() {
        let plan = plan_of(&quick(method), &table);
        assert_eq!(
            plan.stages().iter().map(|stage| stage.stage).collect::<Vec<_>>(),
            [Stage::Scan, Stage::Layout, Stage::Output, Stage::Quality]
        );
        let whole = run_plan(plan.clone(), &inputs_of(&table));
        for iteration in [1, 9, 10, 11, 29] {
            let there =
                move |e: &Event<'_>| matches!(e, Event::Advance { stage: Stage::Layout, done } if *done == iteration);
            check_resumed(&format!("{method}, iteration {iteration}"), &table, &plan, &whole, true, &there);
        }
        for stage in [Stage::Scan, Stage::Layout, Stage::Output] {
            let ended = move |e: &Event<'_>| matches!(e, Event::End { report, .. } if report.stage == stage);
            check_resumed(&format!("{method}, {stage:?} ends"), &table, &plan, &whole, true, &ended);
        }
    }
}

#[test]
fn a_killed_exact_run_goes_on_to_the_same_bytes() {
    let place = TestDir::new();
    place.vectors("v.npy", 400);
    for method in exact_ones() {
        let arguments = format!("embed v.npy --method {method} --n-epochs 400 --checkpoint 0");
        place.ok(&format!("{arguments} -o whole.npy --quiet --force"));
        for reused in [false, true] {
            let mut command = place.command(&format!("{arguments} -o m.npy --threads 1 --log-format json"));
            let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
            let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
            let kept = |event: &Value| event["event"] == "unit" && event["unit"] == "checkpoint";
            if reused {
                wait_for(&mut stderr, |event| kept(event) && event["reused"] == true);
            }
            wait_for(&mut stderr, |event| kept(event) && event["reused"] == false);
            signal(&child, "KILL");
            assert_eq!(child.wait().expect("an end").code(), None, "{method}: ended by the signal");
        }
        place.ok(&format!("{arguments} -o m.npy --quiet"));
        assert!(place.bytes("m.npy") == place.bytes("whole.npy"), "{method}: the resumed map differs");
        std::fs::remove_file(place.path("m.npy")).expect("removed");
    }
}

/// What a user's first positions, a combination's parts and copies of rows come to.
#[test]
fn options_reach_the_problem() {
    let copies = DatasetKind::Duplicates { mixture: Mixture { components: 5, ..Mixture::default() }, share: 0.5 };
    let table = TestTable::of(copies, 300, 4, 5);
    for method in exact_ones() {
        let found = run(&quick(method), &table);
        let distinct = found.report.all_pairs.expect("figures").distinct;
        assert!(distinct < 300 && found.map.iter().all(|x| x.is_finite()), "{method}: {distinct}");
    }
    let matcher = Config { n_neighbors: Some(12), ..quick(Method::from_name("affinity-matcher").expect("a method")) };
    let table = mixture(150, 5);
    let mut maps = Vec::new();
    for affinity in NamedAffinity::ALL {
        for (map_affinity, loss) in
            NamedMapAffinity::ALL.into_iter().zip([MatchLoss::Square, MatchLoss::CrossEntropy].into_iter().cycle())
        {
            let perplexity = affinity.has_perplexity().then_some(8.0);
            let n_neighbors = (affinity == NamedAffinity::Umap).then_some(12);
            let config = Config {
                affinity: Some(affinity),
                map_affinity: Some(map_affinity),
                loss: Some(loss),
                perplexity,
                n_neighbors,
                ..matcher.clone()
            };
            let map = run(&config, &table).map;
            assert!(map.iter().all(|x| x.is_finite()), "{affinity:?} {map_affinity:?} {loss:?}");
            maps.push(map);
        }
    }
    for (i, map) in maps.iter().enumerate() {
        assert!(!maps[..i].contains(map), "combination {i} gives the map of another");
    }
}

#[test]
fn exact_maps_keep_neighbours_and_their_scores_are_those_of_evaluate() {
    let table = mixture(500, 10);
    let mut low = Vec::new();
    for method in exact_ones() {
        let run = run(&Config { threads: Some(2), ..Config::of(method) }, &table);
        let quality = run.report.quality.expect("scores");
        let trust = quality.trustworthiness.expect("vectors").mean;
        note(&format!("{method}: trustworthiness {trust:.4}, {:?}", run.report.all_pairs));
        let least = match method.name() {
            "cosne" | "phate" | "affinity-matcher" => 0.6,
            "sne" => 0.75,
            _ => 0.85,
        };
        if trust <= least {
            low.push(format!("{method}: {trust}"));
        }
        // In the ball another distance is the map's own.
        if method.name() != "cosne" {
            let expected = scores::trustworthiness(&table.values, 10, &run.map, 2, quality.k).expect("a score");
            assert!((trust - expected).abs() < 1e-6, "{method}: {trust}, {expected}");
            let expected =
                scores::neighborhood_preservation(&table.values, 10, &run.map, 2, quality.k).expect("a score");
            assert!((quality.preservation.mean - expected).abs() < 1e-6, "{method}: {quality:?}, {expected}");
        } else {
            assert!(run.map.chunks(2).all(|z| z[0].hypot(z[1]) < 1.0), "out of the ball");
        }
    }
    assert!(low.is_empty(), "{low:?}");
}

#[test]
fn all_pairs_memory_stays_within_plan() {
    let place = TestDir::on_disk();
    place.wide_vectors("many.npy", 4_000, 64, OutputDtype::F32);
    place.wide_vectors("few.npy", 1_000, 64, OutputDtype::F32);
    for (method, source, memory) in [
        ("sne", "many.npy", "64MiB"),
        ("tsnekhorn", "many.npy", "64MiB"),
        ("tsnekhorn", "many.npy", "300MiB"),
        ("phate", "few.npy", "1GiB"),
    ] {
        place.ok(&format!(
            "embed {source} -o m.npy --force --method {method} --n-epochs 3 --memory {memory} --threads 2 --quiet \
             --report r.json"
        ));
        let report: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
        std::fs::remove_file(place.path("r.json")).expect("removed");
        let stages = |value: &Value| value.as_array().expect("stages").clone();
        let planned = stages(&report["plan"]["stages"]);
        for stage in stages(&report["stages"]) {
            let plan = planned.iter().find(|plan| plan["stage"] == stage["stage"]).expect("planned");
            let (plan, held) = (plan["memory"].as_u64().expect("bytes"), stage["peak_memory"].as_u64().expect("bytes"));
            note(&format!("{method} with {memory}, {}: planned {plan}, held {held}", stage["stage"]));
            assert!(held <= plan, "{method}, {}: {held} of {plan}", stage["stage"]);
        }
    }
}

#[test]
fn all_pairs_limits_are_refused_with_alternatives() {
    let place = TestDir::new();
    place.vectors("v.npy", 500);
    for (options, words) in [
        ("--method sne --n-neighbors 5", &["n-neighbors", "sne does not have this option", "umap, pacmap"][..]),
        ("--method phate --perplexity 5", &["perplexity", "phate does not have this option", "tsnekhorn"]),
        ("--method cosne --optimizer adam", &["optimizer", "cosne does not have this option", "sne"]),
        ("--method sne --optimizer gains", &["optimizer", "sne does not support gains", "momentum"]),
        ("--method phate --early-exaggeration 4", &["early-exaggeration", "phate does not have this option"]),
        ("--method sne --min-dist 0.1", &["min-dist", "sne does not have this option", "umap does"]),
        ("--method tsne --affinity magic", &["affinity", "tsne does not have this option", "affinity-matcher does"]),
        ("--method umap --loss square", &["loss", "affinity-matcher does"]),
        ("--method affinity-matcher --affinity best", &["--affinity", "entropic, symmetric-entropic, sinkhorn"]),
        ("--method affinity-matcher --map-affinity best", &["--map-affinity", "student, gaussian"]),
        ("--method affinity-matcher --loss hinge", &["--loss", "square and cross-entropy"]),
        (
            "--method affinity-matcher --affinity magic --perplexity 5",
            &["perplexity", "the magic affinity does not have this option", "entropic, symmetric-entropic do"],
        ),
        (
            "--method affinity-matcher --n-neighbors 5",
            &["n-neighbors", "the entropic affinity does not have this option; umap does"],
        ),
        ("--method affinity-matcher --early-exaggeration 4", &["early-exaggeration", "square loss"]),
        ("--method sne --perplexity 600", &["perplexity", "600", "500"]),
        ("--method sne --init centroid", &["init", "centroid needs inverted lists", "pca, random or a file"]),
        ("--method cosne --init pca", &["init", "ball", "random or a file"]),
        ("--method sne --learning-rate 0", &["learning-rate", "above 0"]),
        (
            "--method tsne-exact --memory 9MiB",
            &["tsne-exact compares all pairs of 500 rows", "smallest", "tsne and infotsne stream"],
        ),
        ("--method phate --metric angular", &["metric", "phate affinity"]),
        (
            "--method tsne --metric manhattan",
            &["metric", "tsne streams", "manhattan", "exact methods support the metric: sne"],
        ),
        ("--metric angular", &["metric", "umap streams", "inner product", "cosine", "tsne-exact"]),
        ("--metric inner-product", &["metric", "angular"]),
        (
            "--metric chebyshev",
            &["--metric", "euclidean, sqeuclidean, cosine, correlation, hamming, angular, manhattan"],
        ),
    ] {
        for command in ["embed", "plan"] {
            let answer = place.run(&format!("{command} v.npy -o m.npy {options}"));
            assert_eq!(answer.code, 2, "{command} {options}: {} {}", answer.stdout, answer.stderr);
            for word in words {
                assert!(answer.stderr.contains(word), "{command} {options}: no {word} in {}", answer.stderr);
            }
        }
    }
    place.refused("knn v.npy -o g.arrow --metric manhattan", &["metric", "manhattan"]);
    place.ok("knn v.npy -o g.arrow --n-neighbors 12 --quiet");
    let words = ["phate compares all pairs of vectors", "cannot start from a graph", "umap or pacmap"];
    place.refused("embed --knn g.arrow -o m.npy --method phate", &words);
    place.refused("embed v.npy --knn g.arrow -o m.npy --method phate", &words);
    // Above so many rows, in any budget.
    place.wide_vectors("many.npy", 20_001, 2, OutputDtype::U8);
    let words = ["phate compares all pairs", "20001 rows", "the maximum is 20000", "umap or pacmap, which streams"];
    place.refused("embed many.npy -o m.npy --method phate --memory 1TiB", &words);
}

#[test]
fn plan_and_report_describe_all_pairs_runs() {
    let place = TestDir::new();
    place.vectors("v.npy", 700);
    let told = place.ok("plan v.npy --method tsnekhorn --threads 2").stdout;
    for words in ["by tsnekhorn: all pairs, 2000 iterations at most", "sqeuclidean costs", "2000 iterations", "layout"]
    {
        assert!(told.contains(words), "no {words} in {told}");
    }
    for words in ["neighbours", "index", "affinity  ", "floor"] {
        assert!(!told.contains(words), "{words} in {told}");
    }
    let plan: Value = serde_json::from_str(&place.ok("plan v.npy --method phate --json").stdout).expect("JSON");
    assert_eq!(plan["config"]["metric"], "euclidean");
    assert!(plan["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{plan}");
    let answer = place.ok("embed v.npy -o m.parquet --method tsne-exact --n-components 3 --n-epochs 20 --threads 2");
    for words in ["all pairs", "fit", "iterations", "trustworthiness"] {
        assert!(answer.stderr.contains(words), "no {words} in {}", answer.stderr);
    }
    assert_eq!(place.names(), ["m.parquet", "v.npy"]);
    // Kept, it is found finished.
    place.ok("embed v.npy -o a.npy --method sne --n-epochs 20 --run-dir run --quiet");
    let again = place.ok("embed v.npy -o b.npy --method sne --n-epochs 20 --run-dir run");
    assert!(again.stderr.contains("kept from an earlier run"), "{}", again.stderr);
    assert!(place.bytes("a.npy") == place.bytes("b.npy"));
    place.refused("embed v.npy -o c.npy --method cosne --n-epochs 20 --run-dir run", &["run", "method", "--restart"]);
    // First positions of the user's own.
    place.ok("embed v.npy -o c.npy --method sne --n-epochs 20 --init a.npy --quiet");
    let help = place.ok("embed --help").stdout;
    for words in ["--affinity", "--map-affinity", "--loss", "sne, tsne-exact, tsnekhorn, cosne", "symmetric-entropic"] {
        assert!(help.contains(words), "no {words} in the help");
    }
}

/// The ball has room for rows of some length.
#[test]
fn cosne_warns_of_long_rows() {
    for (scale, told) in [(0.1, false), (100.0, true)] {
        let place = TestDir::new();
        let table = mixture(200, 8);
        npy(&place, "v.npy", 200, 8, |i| table.values[i] * scale);
        let answer = place.ok("embed v.npy -o m.npy --method cosne --n-epochs 5 --perplexity 10");
        let words = "200 of 200 rows are too long for the Poincaré ball";
        assert_eq!(answer.stderr.contains(words), told, "{}", answer.stderr);
    }
}

/// Metrics whose neighbours are Euclid's: what is made of the distances.
#[test]
fn first_positions_that_no_map_begins_from_are_refused_before_the_scan() {
    let place = TestDir::new();
    place.vectors("v.npy", 40);
    npy(&place, "outside.npy", 40, 2, |i| if i == 11 { 1.5 } else { 0.1 + i as f32 / 1000.0 });
    npy(&place, "inside.npy", 40, 2, |i| i as f32 / 200.0);
    npy(&place, "line.npy", 40, 2, |i| if i % 2 == 0 { 3.0 } else { i as f32 });
    let words = ["--init", "row 5 is not inside the ball of radius 1"];
    place.refused("embed v.npy -o m.npy --method cosne --init outside.npy", &words);
    place.refused("embed v.npy -o m.npy --method sne --init line.npy", &["--init", "standard deviation of 0"]);
    let told = place.ok("embed v.npy -o m.npy --method cosne --init inside.npy --n-epochs 5").stderr;
    assert!(!told.contains("ball of radius"), "{told}");
    place.ok("embed v.npy -o n.npy --method sne --init outside.npy --n-epochs 5");
}

#[test]
fn squares_of_distances_have_the_same_neighbours() {
    let table = mixture(600, 8);
    let of = |method: Method, metric| {
        let config = Config { metric: Some(metric), n_epochs: Some(5), threads: Some(2), ..Config::of(method) };
        let run = run(&config, &table);
        let first = |values: &[f32]| values.iter().take(8).copied().collect::<Vec<f32>>();
        (first(&run.map), run.report.affinity.map(|found| found.edges))
    };
    for (method, same) in [(Method::UMAP, false), (Method::TSNE, true), (Method::PACMAP, true)] {
        let ((a, edges), (b, other)) = (of(method, Metric::Euclidean), of(method, Metric::Sqeuclidean));
        assert_eq!(edges.is_some(), other.is_some());
        let scale = a.iter().fold(0f32, |most, x| most.max(x.abs()));
        let near = a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-2 * scale);
        assert_eq!(near, same, "{method}: {a:?} {b:?}");
    }
}

/// The table's line says what streams instead, and a config the whole problem.
#[test]
fn a_method_needs_one_line_of_the_table() {
    for method in exact_ones() {
        let own = Settings::defaults_for(method, 100);
        assert!(own.init != Init::Centroid && method.affinity().is_none() && method.epochs(100) >= 1000, "{method}");
        let told =
            Config { memory: 1, ..Config::of(method) }.plan(&inputs_of(&mixture(200, 4)).describe().expect("inputs"));
        let told = told.expect_err("one byte cannot do").to_string();
        let streamed = Method::all().filter(|method| !method.is_all_pairs());
        assert!(streamed.map(Method::name).any(|name| told.contains(name)), "{method}: {told}");
    }
}
