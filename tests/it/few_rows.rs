//! Few rows, and rows that are equally near: maps by default options of every method, what is
//! told of them, and neighbours that do not follow the file.

use lowland::{Config, Method, NamedAffinity, scores};
use lowland_datasets::{DatasetKind, Mixture};
use lowland_engine::Metric;
use lowland_engine::neighbors::{KnnGraph, MISSING};

use crate::bad_input::npy;
use crate::harness::TestDir;
use crate::harness::{TestTable, mixture, run};

/// Some numbers of a seed, uniform in 0 to 1.
fn drawn(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn distance(map: &[f32], a: usize, b: usize) -> f64 {
    f64::from(map[2 * a] - map[2 * b]).hypot(f64::from(map[2 * a + 1] - map[2 * b + 1]))
}

/// How far apart rows that follow one another lie, beside random pairs.
fn along_the_file(map: &[f32]) -> f64 {
    let rows = map.len() / 2;
    let next: f64 = (1..rows).map(|row| distance(map, row - 1, row)).sum::<f64>() / (rows - 1) as f64;
    let mut draw = drawn(3);
    let mut row = || (draw() * rows as f64) as usize;
    let pairs: Vec<f64> =
        (0..20_000).map(|_| (row(), row())).filter(|(a, b)| a != b).map(|(a, b)| distance(map, a, b)).collect();
    next / (pairs.iter().sum::<f64>() / pairs.len() as f64)
}

#[test]
fn tsne_of_few_rows_keeps_neighbours() {
    let mut draw = drawn(7);
    let normal: Vec<f32> = (0..3 * 200).map(|_| (0..12).map(|_| draw()).sum::<f64>() as f32 - 6.0).collect();
    // Where contraction is strongest, and what is asked for makes it stronger still.
    let tables =
        [(mixture(20, 6), 0.8), (mixture(60, 6), 0.9), (mixture(100, 10), 0.9), (TestTable::new(3, normal), 0.95)];
    for (table, least) in tables {
        for early_exaggeration in [None, Some(12.0), Some(200.0)] {
            for seed in [1, 2] {
                let config = Config { early_exaggeration, seed, threads: Some(2), ..Config::of(Method::TSNE) };
                let map = run(&config, &table).map;
                let k = 5;
                let trust = scores::trustworthiness(&table.values, table.dim, &map, 2, k).expect("a score");
                let about = format!("{} rows, exaggeration {early_exaggeration:?}, seed {seed}", table.rows());
                crate::harness::note(&format!("{about}: trustworthiness {trust:.4}"));
                assert!(trust > least, "{about}: {trust}");
                let wide = (0..table.rows()).map(|row| distance(&map, 0, row)).fold(0.0, f64::max);
                assert!(wide > 1.0, "{about}: {wide} wide");
            }
        }
    }
}

#[test]
fn equally_near_rows_do_not_follow_the_file() {
    let rows = 600;
    let eye = TestTable::new(rows, (0..rows * rows).map(|i| f32::from(i / rows == i % rows)).collect());
    // Each row many times over, one kind after the other.
    let kinds = TestTable::new(4, (0..4 * 800).map(|i| f32::from((i / 4) * 4 / 800 == i % 4)).collect());
    for method in [Method::UMAP, Method::TSNE, Method::PACMAP, Method::LARGEVIS] {
        let config = Config { threads: Some(2), ..Config::of(method) };
        let ratio = along_the_file(&run(&config, &eye).map);
        assert!((0.8..1.2).contains(&ratio), "{method}: consecutive rows lie {ratio} as far apart as random ones");
    }
    let of_kind = |map: &[f32], kind: usize| along_the_file(&map[2 * 200 * kind..2 * 200 * (kind + 1)]);
    let map = run(&Config { threads: Some(2), ..Config::default() }, &kinds).map;
    for kind in 0..4 {
        let ratio = of_kind(&map, kind);
        assert!((0.8..1.2).contains(&ratio), "copies that follow one another lie {ratio} as far apart as others");
    }
}

#[test]
fn ties_do_not_make_hubs() {
    let rows = 2_000;
    // By pairs, and by lists where pairs are too many: the same rule.
    let table = TestTable::new(
        rows / 10,
        (0..rows * rows / 10).map(|i| f32::from(i / (rows / 10) % (rows / 10) == i % (rows / 10))).collect(),
    );
    let graph_of = |seed: u64, threads: usize| {
        let run = run(&Config { seed, threads: Some(threads), n_epochs: Some(1), ..Config::default() }, &table);
        let graph = KnnGraph::open(run.dir.dir(), rows as u64).expect("a graph");
        (0..rows as u32).map(|row| graph.neighbors(row).collect::<Vec<u32>>()).collect::<Vec<_>>()
    };
    let graph = graph_of(1, 1);
    assert_eq!(graph, graph_of(1, 3), "threads");
    assert_ne!(graph, graph_of(2, 1), "ties are of the seed");
    let mut times = vec![0; rows];
    graph.iter().flatten().filter(|&&row| row != MISSING).for_each(|&row| times[row as usize] += 1);
    let most = times.iter().max().copied().unwrap_or(0);
    assert!(most < 60, "a row is the neighbour of {most} others, of 15 on average");
}

#[test]
fn few_rows_give_a_map_by_every_method_as_it_is() {
    for rows in [2, 3, 4, 5, 15, 40] {
        for (dim, metric) in [(3, None), (1, None), (3, Some(Metric::Cosine))] {
            let values: Vec<f32> = TestTable::of(DatasetKind::Mixture(Mixture::default()), rows, dim, 9).values.clone();
            let table = TestTable::new(dim, values);
            for method in Method::all() {
                let run = run(&Config { metric, threads: Some(2), ..Config::of(method) }, &table);
                let about = format!("{method}: {rows} rows of {dim}, {metric:?}");
                assert_eq!(run.map.len(), 2 * rows, "{about}");
                assert!(run.map.iter().all(|x| x.is_finite()), "{about}: {:?}", run.map);
                // The loss of SNE and of COSNE does not hold two rows apart.
                let least = if rows == 2 && matches!(method.name(), "sne" | "cosne") { -1.0 } else { 1e-6 };
                let wide = (0..rows).map(|row| distance(&run.map, 0, row)).fold(0.0, f64::max);
                assert!(wide > least, "{about}: {wide} wide");
            }
        }
    }
}

#[test]
fn every_affinity_of_few_rows_gives_a_map() {
    let matcher = Method::from_name("affinity-matcher").expect("a method");
    for rows in [2, 3, 4, 5, 9, 20] {
        let table = TestTable::of(DatasetKind::Mixture(Mixture::default()), rows, 3, 9);
        for affinity in NamedAffinity::ALL {
            let config =
                Config { affinity: Some(affinity), threads: Some(2), n_epochs: Some(50), ..Config::of(matcher) };
            let run = run(&config, &table);
            assert!(run.map.iter().all(|x| x.is_finite()), "{affinity:?}: {rows} rows: {:?}", run.map);
        }
    }
}

/// Exact methods place copies once: what their defaults go by is the rows that differ.
#[test]
fn few_different_rows_limit_the_defaults_of_exact_methods_and_what_is_asked_is_refused_by_the_scan() {
    let place = TestDir::new();
    npy(&place, "copies.npy", 300, 3, |i| ((i / 3 % 6) * (i / 3 % 6) + i % 3) as f32);
    for method in Method::all().filter(|method| method.is_all_pairs()) {
        let told = place.ok(&format!("embed copies.npy -o m.npy --force --n-epochs 30 --method {method}")).stderr;
        let limited = method.supports(lowland::MethodOption::Perplexity);
        let note = "only 6 rows are distinct: perplexity is limited to 1.67 instead of 30\n";
        assert_eq!(told.matches(note).count(), usize::from(limited), "{method}: {told}");
        if limited {
            place.refused(
                &format!("embed copies.npy -o n.npy --method {method} --perplexity 5"),
                &["--perplexity", "5 is too large for 6 distinct rows"],
            );
        }
    }
    let matcher = "--method affinity-matcher --affinity umap";
    let told = place.ok(&format!("embed copies.npy -o m.npy --force --n-epochs 30 {matcher}")).stderr;
    assert!(told.contains("only 6 rows are distinct: n_neighbors is limited to 4 instead of 30"), "{told}");
    for affinity in ["self-tuning", "magic"] {
        place.ok(&format!(
            "embed copies.npy -o m.npy --force --n-epochs 30 --method affinity-matcher --affinity {affinity}"
        ));
    }
}

#[test]
fn components_are_as_many_as_there_are_unless_more_are_asked_for() {
    let place = TestDir::new();
    npy(&place, "line.npy", 30, 1, |i| (i * i) as f32);
    let told = place.ok("pca line.npy -o s.npy").stderr;
    assert_eq!(told.matches("n_components is limited to 1 instead of 2").count(), 1, "{told}");
    place.refused("pca line.npy -o t.npy --n-components 2", &["--n-components: 2 is not between 1 and 1"]);
    npy(&place, "plane.npy", 30, 2, |i| (i * i % 7) as f32);
    assert!(!place.ok("pca plane.npy -o u.npy").stderr.contains("instead of"));
}

/// Of a map of one place, and of data whose rows are all equally far, any row is as near as any other.
#[test]
fn ties_are_scored_whatever_the_order_of_the_file() {
    let rows = 600;
    let place = TestDir::new();
    npy(&place, "eye.npy", rows, rows, |i| f32::from(i / rows == i % rows));
    npy(&place, "one.npy", rows, 2, |_| 1.0);
    // Labels of the first rows, which would be everybody's neighbours by row number.
    let labels: Vec<u32> = (0..rows as u32).map(|row| u32::from(row < 60)).collect();
    let accuracy = scores::label_accuracy(&vec![1.0; 2 * rows], 2, &labels, 15).expect("a score");
    assert!((accuracy - 0.82).abs() < 0.02, "{accuracy}: of random neighbours .9² + .1² have the label");
    let told = place.ok("evaluate --source eye.npy --map one.npy --n-neighbors 15 --json").stdout;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let score = |name: &str| {
        let scores = told["scores"].as_array().expect("scores");
        scores.iter().find(|score| score["score"] == name).and_then(|score| score["value"].as_f64()).expect("a score")
    };
    // One rule for both: who is near is the same, and nobody is farther.
    assert_eq!((score("neighborhood_preservation"), score("trustworthiness")), (1.0, 1.0));
}

#[test]
fn limited_defaults_are_noted_and_set_values_refused() {
    let place = TestDir::new();
    npy(&place, "few.npy", 8, 2, |i| (i * i) as f32);
    let answer = place.ok("embed few.npy -o m.npy --report r.json");
    assert_eq!(answer.stderr.matches("n_neighbors is limited to 7 instead of 15").count(), 1, "{}", answer.stderr);
    let report: serde_json::Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
    assert_eq!(report["plan"]["config"]["n_neighbors"], 7, "{report}");
    assert!(report["plan"]["notes"][0]["text"].as_str().is_some_and(|note| note.contains("n_neighbors")), "{report}");
    let answer = place.ok("embed few.npy -o t.npy --method tsne");
    assert_eq!(answer.stderr.matches("perplexity is limited to 2.33 instead of 30").count(), 1, "{}", answer.stderr);
    place.ok("knn few.npy -o g.arrow");
    place.ok("embed --knn g.arrow few.npy -o u.npy --method tsne");
    place.refused("embed few.npy -o n.npy --n-neighbors 8", &["--n-neighbors", "8 neighbours", "the maximum is 7"]);
    place.refused("embed few.npy -o n.npy --method tsne --perplexity 8", &["--perplexity", "the maximum is 7"]);
    // Where there are enough, nothing is told.
    npy(&place, "enough.npy", 100, 2, |i| (i * i % 97) as f32);
    let answer = place.ok("embed enough.npy -o e.npy");
    assert!(!answer.stderr.contains("instead of"), "{}", answer.stderr);
}
