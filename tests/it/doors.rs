//! Small doors of the command line: metrics by any of their names, graphs in
//! Parquet and with fewer neighbours, names that stand in a wrong place; and
//! warnings, which are told, reported, and with `--strict` an error.

use serde_json::Value;

use crate::bad_input::npy;
use crate::harness::{TestDir, rows_of};

const QUICK: &str = "--n-epochs 20";

/// Numbers between 0 and 1 that look random.
fn draw(i: usize) -> f32 {
    let hash = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1u64 << 24) as f32
}

fn report(place: &TestDir, name: &str) -> Value {
    serde_json::from_slice(&place.bytes(name)).expect("a report")
}

fn kinds(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().expect("warnings").iter().filter_map(|warning| warning["kind"].as_str()).collect()
}

#[test]
fn dominant_component_is_reported_everywhere() {
    let place = TestDir::new();
    npy(&place, "scaled.npy", 300, 3, |i| draw(i) * if i % 3 == 1 { 1000.0 } else { 1.0 });
    npy(&place, "plain.npy", 300, 3, draw);
    let words = "component 1 holds 99.9998 % of the variance";
    let told = place.ok(&format!("embed scaled.npy -o m.npy --report r.json {QUICK}")).stderr;
    assert_eq!(told.matches(&format!("lowland: warning: {words}")).count(), 1, "{told}");
    let full = report(&place, "r.json");
    assert_eq!(kinds(&full), ["one-component"], "{full:#}");
    let logs = place.ok(&format!("embed scaled.npy -o m.npy --force --log-format json {QUICK}")).stderr;
    assert!(logs.contains(r#""event":"warning","kind":"one-component""#), "{logs}");
    // Notes are not told with --quiet, warnings are.
    let quiet = place.ok(&format!("embed scaled.npy -o m.npy --force --quiet {QUICK}")).stderr;
    assert!(quiet.starts_with("lowland: warning: ") && quiet.lines().count() == 1, "{quiet}");
    let exact = place.ok(&format!("embed scaled.npy -o m.npy --force --quiet --method sne {QUICK}")).stderr;
    assert!(exact.contains(words), "{exact}");
    let components = place.ok("pca scaled.npy -o p.npy --report p.json").stderr;
    assert_eq!(
        components
            .matches(&format!("lowland: warning: {words}, so the first axis shows almost only this component"))
            .count(),
        1,
        "{components}"
    );
    assert_eq!(kinds(&report(&place, "p.json")), ["one-component"]);
    assert!(!place.ok("pca plain.npy -o p.npy --force").stderr.contains("warning"));
    let inspected = place.ok("inspect scaled.npy").stdout;
    assert!(inspected.contains(words) && inspected.contains("300 rows"), "{inspected}");
    let inspected: Value = serde_json::from_str(&place.ok("inspect scaled.npy --json").stdout).expect("JSON");
    assert_eq!((&inspected["outweighing"]["component"], &inspected["sampled_rows"]), (&1.into(), &300.into()));
    let plain = place.ok(&format!("embed plain.npy -o m.npy --force --report r.json --strict {QUICK}")).stderr;
    assert!(!plain.contains("warning"), "{plain}");
    assert!(!place.ok("inspect plain.npy").stdout.contains("warning"));
}

#[test]
fn a_map_by_chance_is_warned_of_and_with_strict_an_error_that_keeps_everything() {
    let place = TestDir::new();
    place.vectors("v.npy", 600);
    // Points that hardly move from random places.
    let run = "embed v.npy --init random --learning-rate 1e-9 --n-epochs 3 --report r.json --force";
    let told = place.ok(&format!("{run} -o m.npy"));
    assert!(
        told.stderr.contains("lowland: warning: the map is no better than chance: trustworthiness"),
        "{}",
        told.stderr
    );
    assert_eq!(kinds(&report(&place, "r.json")), ["map-by-chance"]);
    assert_eq!(place.names(), ["m.npy", "r.json", "v.npy"]);
    let strict = place.run(&format!("{run} -o s.npy --strict"));
    assert_eq!(strict.code, 3, "{}", strict.stderr);
    let last = strict.stderr.lines().last().expect("an error");
    for words in ["lowland: error: s.npy is written", "map-by-chance", "kept in s.npy.run"] {
        assert!(last.contains(words), "{last}");
    }
    assert_eq!(place.bytes("s.npy"), place.bytes("m.npy"));
    assert_eq!(place.names(), ["m.npy", "r.json", "s.npy", "s.npy.run", "v.npy"]);
    let again = place.ok(&format!("{run} -o s.npy"));
    assert!(again.stderr.contains("kept from an earlier run"), "{}", again.stderr);
    // A map that is one is no error.
    place.ok("embed v.npy -o good.npy --strict --quiet");
    assert!(!place.path("good.npy.run").exists());
}

#[test]
fn warnings_of_finished_stages_are_repeated_on_resume() {
    let place = TestDir::new();
    npy(&place, "scaled.npy", 300, 3, |i| draw(i) * if i % 3 == 1 { 1000.0 } else { 1.0 });
    let run = format!("embed scaled.npy --run-dir run --report r.json --force {QUICK}");
    place.ok(&format!("{run} -o m.npy"));
    let again = place.ok(&format!("{run} -o m.npy"));
    assert!(again.stderr.contains("kept from an earlier run"), "{}", again.stderr);
    assert_eq!(again.stderr.matches("warning: component 1 holds").count(), 1, "{}", again.stderr);
    assert_eq!(kinds(&report(&place, "r.json")), ["one-component"]);
}

#[test]
fn times_of_stages_are_told_once() {
    let place = TestDir::new();
    place.vectors("v.npy", 300);
    let told = place.ok(&format!("embed v.npy -o m.npy {QUICK}")).stderr;
    for stage in ["scan", "index", "neighbors", "affinity", "init", "layout", "output", "quality", "total"] {
        assert_eq!(told.lines().filter(|line| line.starts_with(stage)).count(), 1, "{stage}: {told}");
    }
}

#[test]
fn metrics_go_by_their_other_names_in_any_case() {
    let place = TestDir::new();
    place.vectors("v.npy", 300);
    for (name, aliases) in [("euclidean", ["L2", "Euclidean"]), ("cosine", ["COSINE", "cos"])] {
        place.ok(&format!("knn v.npy -o {name}.arrow --metric {name}"));
        for alias in aliases {
            place.ok(&format!("knn v.npy -o alias.arrow --metric {alias} --force"));
            assert_eq!(place.bytes("alias.arrow"), place.bytes(&format!("{name}.arrow")), "{alias}");
        }
    }
    place.refused("embed v.npy -o m.npy --metric dot", &["--metric", "angular"]);
    place.refused("embed v.npy -o m.npy --metric l1", &["--metric", "manhattan"]);
    let wrong = place.run("embed v.npy -o m.npy --metric minkowski");
    assert!(wrong.code == 2 && wrong.stderr.contains("euclidean, sqeuclidean, cosine, correlation, hamming"));
    place.ok("pca v.npy -o scores.npy --metric COSINE");
    place.ok("pca v.npy -o scores.npy --metric correlation --force");
    let wrong = place.run("pca v.npy -o scores.npy --metric l1 --force");
    assert!(wrong.code == 2 && wrong.stderr.contains("euclidean, cosine, correlation"), "{}", wrong.stderr);
}

#[test]
fn correlation_is_the_cosine_of_centred_rows() {
    let place = TestDir::new();
    let value = |i: usize| draw(i) * 4.0 + (i / 8 % 3) as f32;
    let mean = |i: usize| (0..8).map(|c| f64::from(value(i / 8 * 8 + c))).sum::<f64>() / 8.0;
    npy(&place, "v.npy", 300, 8, value);
    npy(&place, "centred.npy", 300, 8, |i| (f64::from(value(i)) - mean(i)) as f32);
    place.ok("knn v.npy -o a.arrow --metric correlation");
    place.ok("knn centred.npy -o b.arrow --metric cosine");
    let graph = |name: &str| {
        let graph = lowland_io::GraphReader::open(place.path(name)).expect("a graph");
        let (mut ids, mut far) = (vec![0; 300 * graph.k()], vec![0.0; 300 * graph.k()]);
        graph.read_rows(0, &mut ids, &mut far).expect("rows");
        (ids, far)
    };
    let ((_, ours), (_, theirs)) = (graph("a.arrow"), graph("b.arrow"));
    assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-5));
    // A row whose components are equal has no direction.
    npy(&place, "constant.npy", 100, 4, |i| if i / 4 == 17 { 0.1 } else { draw(i) });
    let words = ["constant.npy: row 17", "of equal components", "correlation"];
    place.refused("embed constant.npy -o m.npy --metric correlation", &words);
}

#[test]
fn hamming_counts_bits_and_takes_nothing_else() {
    let place = TestDir::new();
    npy(&place, "bits.npy", 200, 24, |i| f32::from(draw(i) < 0.5));
    place.ok("knn bits.npy -o a.arrow --metric hamming");
    place.ok("knn bits.npy -o b.arrow --metric sqeuclidean");
    let graph = |name: &str| {
        let graph = lowland_io::GraphReader::open(place.path(name)).expect("a graph");
        let (mut ids, mut far) = (vec![0; 200 * graph.k()], vec![0.0; 200 * graph.k()]);
        graph.read_rows(0, &mut ids, &mut far).expect("rows");
        (ids, far)
    };
    assert_eq!(graph("a.arrow"), graph("b.arrow"));
    place.ok(&format!("embed bits.npy -o m.npy --metric Hamming {QUICK}"));
    place.vectors("v.npy", 200);
    place.refused("embed v.npy -o n.npy --metric hamming", &["v.npy: row 0", "0 or 1", "sqeuclidean"]);
}

#[test]
fn a_graph_in_parquet_serves_as_one_in_arrow_and_with_fewer_neighbours() {
    let place = TestDir::new();
    place.vectors("v.npy", 400);
    place.ok("knn v.npy -o few.arrow --n-neighbors 6 --metric cosine");
    place.ok("knn v.npy -o many.parquet --n-neighbors 20 --metric cosine");
    place.ok("knn v.npy -o many.arrow --n-neighbors 20 --metric cosine");
    let embed = |graph: &str, options: &str, map: &str| {
        place.ok(&format!("embed {graph} -o {map} {QUICK} {options}"));
        place.bytes(map)
    };
    assert!(embed("--knn many.parquet", "", "a.npy") == embed("--knn many.arrow", "", "b.npy"));
    let few = embed("--knn few.arrow", "", "c.npy");
    assert!(few != place.bytes("a.npy"));
    assert!(embed("--knn many.parquet", "--n-neighbors 6", "d.npy") == few);
    // With the vectors beside it, in the lists' order.
    let few = embed("v.npy --knn few.arrow", "", "e.npy");
    assert!(embed("v.npy --knn many.parquet", "--n-neighbors 6", "f.npy") == few);
    place.refused("embed --knn few.arrow -o g.npy --n-neighbors 7", &["--n-neighbors", "7", "few.arrow", "6"]);
    place.refused("knn v.npy -o graph.npy", &["graph.npy", ".arrow or .parquet"]);
    // Another number of neighbours is another run.
    place.ok(&format!("embed --knn many.arrow -o h.npy --run-dir run {QUICK}"));
    let other = place.run(&format!("embed --knn many.arrow -o i.npy --run-dir run --n-neighbors 15 {QUICK}"));
    assert_eq!(other.code, 2, "{}", other.stderr);
}

#[test]
fn a_method_in_a_commands_place_is_pointed_to_embed() {
    let place = TestDir::new();
    for (typed, method) in [("pacmap", "pacmap"), ("UMAP", "umap"), ("t-sne", "tsne")] {
        let told = place.run(&format!("{typed} v.npy -o m.npy"));
        assert!(told.code == 2 && told.stdout.is_empty(), "{}", told.stderr);
        assert!(told.stderr.contains(&format!("lowland embed --method {method}")), "{}", told.stderr);
        assert!(!told.stderr.contains("pca"), "{}", told.stderr);
    }
    let told = place.run("embedd v.npy");
    assert!(told.code == 2 && told.stderr.contains("embed"), "{}", told.stderr);
}

#[test]
fn first_positions_come_from_an_earlier_map_by_id_and_new_rows_begin_among_their_neighbours() {
    let place = TestDir::new();
    place.vectors("few.parquet", 300);
    place.vectors("more.parquet", 400);
    place.ok("embed few.parquet -o few-map.parquet --id id --quiet");
    // A map that hardly moves shows where it began, but for what sets equal rows apart.
    let still = "--n-epochs 1 --learning-rate 1e-6 --init few-map.parquet";
    let told = place.ok(&format!("embed more.parquet -o more-map.parquet --id id {still}")).stderr;
    assert!(told.contains("lowland: 100 of 400 rows have no position in few-map.parquet"), "{told}");
    let ((before, ids), (after, others)) =
        (rows_of(&place.path("few-map.parquet"), "x,y"), rows_of(&place.path("more-map.parquet"), "x,y"));
    let (least, most) = before.iter().fold((f32::MAX, f32::MIN), |(least, most), &x| (least.min(x), most.max(x)));
    for (id, position) in others.iter().zip(after.chunks_exact(2)) {
        match ids.iter().position(|other| other[0] == id[0]) {
            Some(row) => {
                let was = &before[row * 2..][..2];
                assert!(position.iter().zip(was).all(|(a, b)| (a - b).abs() < 0.011), "{id:?}: {position:?} {was:?}");
            }
            None => assert!(position.iter().all(|&x| x > least - 0.02 && x < most + 0.02), "{id:?}: {position:?}"),
        }
    }
    // Without names as many rows are needed, in their order.
    let words = ["few-map.parquet", "300 first positions for 400 rows", "id"];
    place.refused(&format!("embed more.parquet -o m.parquet {still}"), &words);
    place.ok(&format!("embed few.parquet -o m.parquet --quiet {still}"));
    place.refused(
        &format!("embed more.parquet -o n.parquet --id label {still}"),
        &["few-map.parquet", "no column \"label\"", "id, x, y"],
    );
    // An exact method has no edges: new rows begin in the middle.
    place.ok("embed more.parquet -o sne.parquet --id id --method sne --n-epochs 20 --quiet --init few-map.parquet");
}

#[test]
fn first_positions_by_an_id_that_two_rows_have_are_refused_before_the_work() {
    let place = TestDir::new();
    place.vectors("v.parquet", 300);
    place.vectors("w.parquet", 100);
    place.ok(&format!("embed v.parquet -o unique.parquet --id id --quiet {QUICK}"));
    place.ok(&format!("embed v.parquet -o labels.parquet --id label --quiet {QUICK}"));
    place.refused(
        "embed v.parquet -o m.parquet --id label --init labels.parquet",
        &[
            "--init: ",
            "labels.parquet: row ",
            " has the same value in column \"label\" as row ",
            "the rows of the map",
            "--id",
        ],
    );
    // The rows of w are the first ones of v: in the source the first repeated id is in its first row.
    place.refused(
        "embed v.parquet w.parquet -o m.parquet --id id --init unique.parquet",
        &[
            "--init: ",
            "w.parquet: row 0 has the same value in column \"id\" as row 0 of v.parquet",
            "the rows of the source",
        ],
    );
    place.ok(&format!("embed v.parquet -o m.parquet --id id --init unique.parquet --quiet {QUICK}"));
}

#[test]
fn names_that_are_too_long_while_they_are_written_are_refused_before_the_work() {
    let place = TestDir::new();
    place.vectors("v.npy", 60);
    let name = |bytes: usize, end: &str| format!("{}{end}", "n".repeat(bytes - end.len()));
    place.ok(&format!("embed v.npy -o {} --quiet {QUICK}", name(250, ".npy")));
    place.ok(&format!("plot {} -o {}", name(250, ".npy"), name(250, ".png")));
    for bytes in [251, 255] {
        let [npy, png, json, arrow] = [".npy", ".png", ".json", ".arrow"].map(|end| name(bytes, end));
        for arguments in [
            format!("embed v.npy -o {npy}"),
            format!("embed v.npy -o m.npy --plot {png}"),
            format!("embed v.npy -o m.npy --report {json}"),
            format!("knn v.npy -o {arrow}"),
            format!("pca v.npy -o {npy}"),
            format!("plot v.npy -o {png}"),
        ] {
            place.refused(&arguments, &[&format!("a name of {bytes} bytes, and 250 are possible"), "shorten the name"]);
        }
    }
}
