//! `lowland evaluate`: what it tells, that nothing but the inputs decides it,
//! what it refuses, and its scores against those of other programs.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use lowland::scores::{self, Singletons};
use lowland_io::{MapColumns, MapWriter};
use serde_json::Value;

use crate::harness::{TestDir, home, rows_of, signal, wait_for};
use crate::oracle::PythonDir;

/// Writes a map of two components, with row numbers as `id`, and other columns.
fn map(path: &Path, coordinates: &[f32], columns: &[(&str, ArrayRef)]) {
    let extra = RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, a)| (*n, a.clone(), true)));
    let extra = if columns.is_empty() { None } else { Some(extra.expect("columns")) };
    let rows = coordinates.len() as u64 / 2;
    let wanted = MapColumns {
        rows,
        coordinates: lowland_io::coordinate_names(2),
        extra: extra.as_ref().map(RecordBatch::schema),
        own_id: false,
        nullable: false,
    };
    let mut writer = MapWriter::create(path, wanted, true).expect("a map");
    writer.write_rows(0, coordinates, extra.as_ref()).expect("written");
    writer.finish().expect("written");
}

fn texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// A report as JSON.
fn report(place: &TestDir, arguments: &str) -> Value {
    let answer = place.ok(&format!("evaluate {arguments} --json --quiet"));
    assert_eq!(answer.stderr, "", "{arguments}");
    serde_json::from_str(&answer.stdout).expect("JSON")
}

/// A score's value, of a column of labels or of none.
fn value(report: &Value, score: &str, labels: Option<&str>) -> Option<f64> {
    let scores = report["scores"].as_array().expect("scores");
    let found = scores.iter().find(|s| s["score"] == score && s["labels"].as_str() == labels);
    found.and_then(|s| s["value"].as_f64())
}

fn why_left_out(report: &Value, score: &str) -> Option<String> {
    let left = report["left_out"].as_array().expect("a list");
    let found = left.iter().find(|l| l["scores"].as_array().is_some_and(|s| s.iter().any(|s| s == score)));
    found.map(|l| l["why"].as_str().expect("a reason").to_string())
}

/// A source of a thousand rows, its graph, and its map with the labels kept.
fn mapped() -> TestDir {
    let place = TestDir::new();
    place.vectors("v.parquet", 1_000);
    place.ok("knn v.parquet -o g.arrow --n-neighbors 12 --quiet");
    place.ok("embed v.parquet -o m.parquet --id id --keep label --n-epochs 50 --quiet");
    place
}

#[test]
fn evaluate_prints_all_scores() {
    let place = mapped();
    let told = place.ok("evaluate --source v.parquet --knn g.arrow --map m.parquet --labels label");
    for words in [
        "m.parquet: 1000 rows × 2 (x, y)",
        "v.parquet: 16 components of f32, euclidean",
        "recall of the graph@12",
        "trustworthiness@15",
        "continuity@15",
        "neighbourhood preservation@15",
        "triplet accuracy",
        "Spearman of distances",
        "label accuracy@15, label",
        "silhouette, label",
        "k-means ARI, label",
        "± 95 %",
        "all 1000, exact",
        "all 1000, sampled",
    ] {
        assert!(told.stdout.contains(words), "no \"{words}\" in {}", told.stdout);
    }
    assert!(!told.stdout.contains("left out"), "{}", told.stdout);
    let found = report(&place, "--source v.parquet --knn g.arrow --map m.parquet --labels label");
    assert_eq!(value(&found, "recall", None), Some(1.0), "of few rows the graph is exact");
    for (score, labels, least) in [
        ("trustworthiness", None, 0.65),
        ("continuity", None, 0.7),
        ("neighborhood_preservation", None, 0.1),
        ("triplet_accuracy", None, 0.55),
        ("distance_spearman", None, 0.15),
        // The mixture has about as many parts as rows.
        ("label_accuracy", Some("label"), 0.01),
        ("silhouette", Some("label"), -0.8),
        ("kmeans_ari", Some("label"), 0.01),
    ] {
        assert!(value(&found, score, labels).is_some_and(|v| v > least && v <= 1.0), "{score}: {found:#}");
    }
    assert!(found["peak_memory"].as_u64() <= found["plan"]["memory"].as_u64(), "{found:#}");
    // The source's labels serve as well, and a graph's metric is the data's.
    let of_source = report(&place, "--source v.parquet --map m.parquet --coordinates x,y --labels label");
    assert_eq!(value(&of_source, "silhouette", Some("label")), value(&found, "silhouette", Some("label")));
    place.ok("knn v.parquet -o c.arrow --metric cosine --quiet");
    let cosine = report(&place, "--source v.parquet --knn c.arrow --map m.parquet");
    assert_eq!((value(&cosine, "recall", None), &cosine["plan"]["config"]["metric"]), (Some(1.0), &"cosine".into()));
}

#[test]
fn missing_inputs_skip_their_scores() {
    let place = mapped();
    let told = place.ok("evaluate --source v.parquet --map m.parquet").stdout;
    assert!(told.contains("left out: label accuracy, silhouette, k-means ARI: no labels were given"), "{told}");
    assert!(!told.contains("recall"), "{told}");
    let told = place.ok("evaluate --map m.parquet --labels label").stdout;
    assert!(told.contains("left out: recall of the graph, trustworthiness, "), "{told}");
    assert!(told.contains("no source was given") && told.contains("silhouette, label"), "{told}");
}

#[test]
fn scores_are_independent_of_threads_and_batches() {
    let place = mapped();
    let inputs = "--source v.parquet --knn g.arrow --map m.parquet --labels label,id --sample 300";
    let first = report(&place, inputs);
    for how in ["", "--threads 1", "--threads 3 --batch-rows 1", "--batch-rows 97", "--memory 24MiB --threads 2"] {
        let again = report(&place, &format!("{inputs} {how}"));
        assert_eq!(again["scores"], first["scores"], "{how}");
    }
    let other = report(&place, &format!("{inputs} --seed 7"));
    assert_ne!(other["scores"], first["scores"]);
    // The same vectors in another format.
    place.vectors("v.npy", 1_000);
    let npy = report(&place, &inputs.replace("v.parquet", "v.npy").replace(",id", ""));
    assert_eq!(value(&npy, "trustworthiness", None), value(&first, "trustworthiness", None));
}

#[test]
fn sampled_scores_agree_with_exact_ones() {
    let place = TestDir::new();
    place.vectors("v.parquet", 3_000);
    place.ok("embed v.parquet -o m.parquet --id id --keep label --n-epochs 10 --quiet");
    let inputs = "--source v.parquet --map m.parquet --labels label";
    let (all, some) = (report(&place, inputs), report(&place, &format!("{inputs} --sample 700")));
    for score in some["scores"].as_array().expect("scores") {
        let name = score["score"].as_str().expect("a name");
        let truth = value(&all, name, score["labels"].as_str()).expect("a score");
        let found = score["value"].as_f64().expect("a number");
        match score["interval"].as_f64() {
            Some(interval) => {
                assert!(interval > 0.0 && interval < 0.05, "{score}");
                // 95 % is two of these; of seven scores one may lie outside, none by far.
                assert!((found - truth).abs() <= 2.0 * interval, "{score}, of all rows {truth}");
            }
            None => assert!(name == "kmeans_ari" && found == truth, "{score}"),
        }
    }
}

/// Up to 2,000 rows a run scores all of them.
#[test]
fn a_runs_own_scores_are_the_same() {
    let place = TestDir::new();
    place.vectors("v.npy", 1_500);
    let run = place.ok("embed v.npy -o m.npy --n-epochs 30 --report - --quiet");
    let run: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let found = report(&place, "--source v.npy --map m.npy");
    for (ours, theirs) in [("trustworthiness", "trustworthiness"), ("neighborhood_preservation", "preservation")] {
        let (ours, theirs) = (value(&found, ours, None), run["quality"][theirs]["mean"].as_f64());
        let difference = ours.expect("a score") - theirs.expect("a score");
        assert!(difference.abs() < 1e-12, "{ours:?} and {theirs:?}");
    }
}

/// The smallest budget that will do does, and is not exceeded.
#[test]
fn measured_memory_stays_within_plan() {
    let place = TestDir::new();
    place.wide_vectors("v.npy", 150_000, 32, lowland_datasets::OutputDtype::F32);
    place.wide_vectors("m.npy", 150_000, 3, lowland_datasets::OutputDtype::F32);
    let inputs = "--source v.npy --map m.npy --sample 1500 --threads 2";
    let told = place.run(&format!("evaluate {inputs} --memory 8MiB")).stderr;
    let smallest = told.trim().rsplit_once("give --memory ").expect("a budget").1.to_string();
    let (least, most) = (report(&place, &format!("{inputs} --memory {smallest}")), report(&place, inputs));
    assert_eq!(least["scores"], most["scores"]);
    assert!(least["plan"]["batch_rows"].as_u64() < most["plan"]["batch_rows"].as_u64());
    for found in [least, most] {
        let (held, planned) = (found["peak_memory"].as_u64(), found["plan"]["memory"].as_u64());
        crate::harness::note(&format!("{smallest}: planned {planned:?}, held {held:?}"));
        assert!(held <= planned, "{found:#}");
    }
}

#[cfg(unix)]
#[test]
fn an_evaluation_is_stopped_by_ctrl_c() {
    let place = TestDir::new();
    place.vectors("v.npy", 30_000);
    place.wide_vectors("m.npy", 30_000, 2, lowland_datasets::OutputDtype::F32);
    let mut command = place.command("evaluate --source v.npy --map m.npy --sample 30000 --log-format json");
    let piped = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = piped.spawn().expect("the binary runs");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut stderr, |event| event["event"] == "start");
    signal(&child, "INT");
    let told = wait_for(&mut stderr, |event| event["event"] == "error");
    let output = child.wait_with_output().expect("an end");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{told:?}");
    assert!(told.last().is_some_and(|line| line.contains("stopped in the quality stage")), "{told:?}");
}

#[test]
fn reports_are_written() {
    let place = mapped();
    let inputs = "evaluate --source v.parquet --map m.parquet --quiet";
    let table = place.ok(&format!("{inputs} --report r.json")).stdout;
    assert!(table.contains("trustworthiness@15"), "{table}");
    let file: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
    place.refused(&format!("{inputs} --report r.json"), &["r.json", "--force"]);
    let standard: Value = serde_json::from_str(&place.ok(&format!("{inputs} --report -")).stdout).expect("JSON");
    assert_eq!(file["scores"], standard["scores"]);
    assert_eq!((&file["map"], &file["coordinates"]), (&"m.parquet".into(), &"x,y".into()));
    place.ok(&format!("{inputs} --report r.json --force --n-neighbors 7"));
    let file: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
    assert_eq!(file["plan"]["k"], 7);
    // A program hears of progress, and of the end.
    let told = place.ok("evaluate --map m.parquet --labels label --log-format json").stderr;
    assert!(told.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{told}");
}

#[test]
fn labels_of_all_kinds() {
    let place = TestDir::new();
    let z: Vec<f32> = (0..80).map(|i| ((i * 37) % 41) as f32 + if i % 4 < 2 { 0.0 } else { 100.0 }).collect();
    let path = place.path("m.arrow");
    let number = |row: i64| if row % 4 == 3 { f64::NAN } else { (row % 2) as f64 };
    map(
        &path,
        &z,
        &[
            ("one", texts((0..40).map(|_| Some("same".into())))),
            ("each", texts((0..40).map(|row| Some(format!("row {row}"))))),
            ("some", texts((0..40).map(|row| (row % 3 > 0).then(|| format!("{}", row % 2))))),
            ("none", texts((0..40).map(|_| None))),
            ("side", Arc::new(Int64Array::from_iter_values((0..40).map(|row| row % 2)))),
            ("pandas", Arc::new(Float64Array::from_iter_values((0..40).map(number)))),
        ],
    );
    let found = report(&place, "--map m.arrow --labels one,each,none --n-neighbors 5");
    assert_eq!(value(&found, "label_accuracy", Some("one")), Some(1.0));
    assert_eq!(value(&found, "silhouette", Some("one")), None);
    let one = why_left_out(&found, "silhouette").expect("a reason");
    assert!(one.contains("all rows have the same label"), "{one}");
    assert_eq!(value(&found, "label_accuracy", Some("each")), Some(0.0));
    assert_eq!(value(&found, "silhouette", Some("each")), Some(0.0));
    assert_eq!(value(&found, "kmeans_ari", Some("each")), Some(1.0), "as many clusters as rows");
    assert!(why_left_out(&found, "label_accuracy").is_some_and(|why| why.contains("0 rows with a label")));
    let noted = place.ok("evaluate --map m.arrow --labels each").stderr;
    assert!(noted.contains("each: 40 labels are of one row only"), "{noted}");

    let found = report(&place, "--map m.arrow --labels side,some,pandas --n-neighbors 5");
    assert!(value(&found, "silhouette", Some("side")).is_some_and(|s| s > 0.5), "{found:#}");
    assert_eq!(value(&found, "label_accuracy", Some("side")), Some(1.0));
    assert_eq!(value(&found, "kmeans_ari", Some("side")), Some(1.0));
    let rows = |labels: &str| {
        let scores = found["scores"].as_array().expect("scores");
        scores.iter().find(|s| s["labels"] == labels).expect("a score")["rows"].as_u64()
    };
    assert_eq!((rows("side"), rows("some"), rows("pandas")), (Some(40), Some(26), Some(30)));
}

#[test]
fn maps_of_few_rows_and_of_equal_points() {
    let place = TestDir::new();
    for rows in [1u64, 2, 3, 5] {
        place.vectors("v.npy", rows);
        let z: Vec<f32> = (0..rows * 2).map(|i| i as f32).collect();
        map(&place.path("m.parquet"), &z, &[("label", texts((0..rows).map(|row| Some(format!("{}", row % 2)))))]);
        let found = report(&place, "--source v.npy --map m.parquet --labels label");
        let trust = value(&found, "trustworthiness", None);
        assert_eq!(trust.is_some(), rows >= 3, "{rows}: {found:#}");
        if rows < 3 {
            assert!(why_left_out(&found, "trustworthiness").is_some_and(|why| why.contains("have no neighbours")));
        }
    }
    place.vectors("v.npy", 60);
    map(&place.path("m.parquet"), &[3.0; 120], &[("label", texts((0..60).map(|row| Some(format!("{}", row % 4)))))]);
    let found = report(&place, "--source v.npy --map m.parquet --labels label");
    assert_eq!(value(&found, "silhouette", Some("label")), Some(0.0));
    assert_eq!(value(&found, "kmeans_ari", Some("label")), Some(0.0));
    assert_eq!(value(&found, "continuity", None), Some(1.0), "nobody is nearer than anybody");
    assert!(why_left_out(&found, "distance_spearman").is_some_and(|why| why.contains("equal")), "{found:#}");
}

#[test]
fn mismatched_inputs_are_refused() {
    let place = mapped();
    let start = "evaluate --source v.parquet --map";
    place.vectors("w.parquet", 999);
    place.refused(
        "evaluate --source w.parquet --map m.parquet",
        &["m.parquet", "the map has 1000 rows, the source has 999"],
    );
    place.ok("knn w.parquet -o w.arrow --quiet");
    place.refused(&format!("{start} m.parquet --knn w.arrow"), &["the graph has 999"]);
    place.refused(&format!("{start} m.parquet --knn g.arrow --metric cosine"), &["--metric", "g.arrow", "euclidean"]);
    // Rows in another order: by the user's ids, and by row numbers.
    let (z, names) = rows_of(&place.path("m.parquet"), "x,y");
    let ids = |row: usize| Some(names[999 - row][0].clone());
    map(&place.path("turned.parquet"), &z, &[("name", texts((0..1000).map(ids)))]);
    place.ok("embed v.parquet -o own.parquet --id label --n-epochs 1 --quiet");
    place.ok(&format!("{start} own.parquet --quiet"));
    place.refused(&format!("{start} turned.parquet --id name"), &["v.parquet", "--id", "name"]);
    map(&place.path("other.parquet"), &z, &[("label", texts((0..1000).map(|_| Some("no label".into()))))]);
    place.refused(&format!("{start} other.parquet --id label"), &["row 0: label is \"no label\", and in the source"]);
    // Numbers that are none.
    let mut broken = z.clone();
    broken[1_235] = f32::NAN;
    map(&place.path("broken.parquet"), &broken, &[]);
    place.refused(&format!("{start} broken.parquet"), &["broken.parquet", "row 617, component 1 is NaN"]);
    // Columns that are not there, or hold other things.
    let weights: ArrayRef = Arc::new(Float32Array::from_iter_values((0..1000).map(|row| row as f32 - 1.0)));
    map(&place.path("w.arrow"), &z, &[("weight", weights), ("text", texts((0..1000).map(|_| Some("a".into()))))]);
    place
        .refused("evaluate --map w.arrow --labels kind", &["no column \"kind\"; the map's are id, x, y, weight, text"]);
    place.refused(
        "evaluate --map w.arrow --labels text --weights weight",
        &["--weights weight", "the weight of row 0 is -1"],
    );
    place.refused("evaluate --map w.arrow --labels text --weights text", &["--weights text", "Utf8", "numbers"]);
    place.refused("evaluate --map m.parquet --labels label --coordinates q", &["m.parquet", "\"q\""]);
    place.refused("evaluate --map v.parquet --source v.parquet --labels embedding", &["embedding", "cannot be labels"]);
    // Options.
    place.refused("evaluate --map m.parquet", &["--source, --labels, or both"]);
    place.refused("evaluate --map m.parquet --source -", &["standard input", "empty"]);
    place.refused("evaluate --map - --source v.npy", &["--map", "write it to a file"]);
    for (option, words) in [
        ("--n-neighbors 500", &["--n-neighbors: 500 neighbours are too many for 1000 rows; the maximum is 499"][..]),
        ("--n-neighbors 0", &["--n-neighbors: 0 is not between"]),
        ("--sample 1", &["--sample: a sample needs at least 2 rows"]),
        ("--threads 0", &["--threads"]),
        ("--batch-rows 0", &["--batch-rows"]),
        ("--memory 5MiB", &["--memory", "too small", "the smallest sufficient budget", "give --memory "]),
    ] {
        place.refused(&format!("{start} m.parquet {option}"), words);
    }
    place.refused(&format!("{start} nothing.parquet"), &["nothing.parquet"]);
    std::fs::write(place.path("zero.parquet"), "").expect("written");
    place.refused(&format!("{start} zero.parquet"), &["zero.parquet", "0 bytes"]);
    map(&place.path("empty.parquet"), &[], &[]);
    place.refused(&format!("{start} empty.parquet"), &["empty.parquet", "no rows"]);
}

/// Vectors that cannot be measured.
#[test]
fn a_source_is_checked_as_it_is_for_a_run() {
    let place = TestDir::new();
    let npy = |values: &[f32]| {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 2), }}", values.len() / 2);
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((118u16).to_le_bytes());
        bytes.extend(format!("{header:<117}\n").bytes());
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    };
    let good: Vec<f32> = (0..40).map(|i| (i * i % 17) as f32 + 1.0).collect();
    std::fs::write(place.path("m.npy"), npy(&good)).expect("written");
    for (at, wrong, metric, words) in [
        (13, f32::INFINITY, "euclidean", "row 6, component 1 is inf"),
        (12, f32::NAN, "cosine", "row 6, component 0 is NaN"),
        (13, 1e20, "euclidean", "row 6: component 1 is 1e20"),
    ] {
        let mut values = good.clone();
        values[at] = wrong;
        std::fs::write(place.path("v.npy"), npy(&values)).expect("written");
        place.refused(&format!("evaluate --source v.npy --map m.npy --metric {metric}"), &["v.npy", words]);
    }
    let mut values = good.clone();
    values[..2].fill(0.0);
    std::fs::write(place.path("v.npy"), npy(&values)).expect("written");
    place.refused("evaluate --source v.npy --map m.npy --metric cosine", &["v.npy: row 0", "zeros"]);
    place.ok("evaluate --source v.npy --map m.npy");
}

#[test]
fn scores_are_those_of_scikit_learn() {
    let Some(desk) = PythonDir::new() else { return };
    let place = TestDir::new();
    let dir = place.path(".").to_string_lossy().into_owned();
    let packages = home().join("datasets/debian-packages-64.parquet");
    let names = desk.ask("evaluate.py", &["make", &dir, &packages.to_string_lossy()]);
    for name in names.split_whitespace() {
        for weights in ["", "--weights weight"] {
            let inputs = format!("--source {name}.x.npy --map {name}.map.parquet --labels label {weights}");
            let found = report(&place, &format!("{inputs} --n-neighbors 10"));
            std::fs::write(place.path("report.json"), found.to_string()).expect("written");
            let told = desk.ask("evaluate.py", &["check", &dir, name, &place.path("report.json").to_string_lossy()]);
            crate::harness::note(&told);
            if weights.is_empty() {
                slices_agree(&place, name, &found);
            }
        }
    }
    for (metric, aliases) in
        [("manhattan", "L1"), ("correlation", "Correlation"), ("cosine", "COSINE"), ("angular", "ip")]
    {
        let inputs = "--source packages.x.npy --map packages.map.parquet --labels label";
        let found = report(&place, &format!("{inputs} --n-neighbors 10 --metric {aliases}"));
        assert_eq!(found["plan"]["config"]["metric"], metric);
        std::fs::write(place.path("report.json"), found.to_string()).expect("written");
        let told = desk.ask("evaluate.py", &["check", &dir, "packages", &place.path("report.json").to_string_lossy()]);
        crate::harness::note(&told);
    }
}

/// The functions on slices give what the streamed evaluation gives.
fn slices_agree(place: &TestDir, name: &str, found: &Value) {
    let x = lowland::open(&[place.path(&format!("{name}.x.npy")).to_string_lossy()], None).expect("data");
    let dim = x.shape().dim;
    let mut data = vec![0f32; x.shape().rows as usize * dim];
    x.read_rows(0, &mut data).expect("rows");
    let (z, columns) = rows_of(&place.path(&format!("{name}.map.parquet")), "x,y");
    let names: Vec<&String> = columns.iter().map(|row| &row[1]).collect();
    let labels: Vec<u32> =
        names.iter().map(|name| names.iter().position(|other| other == name).expect("itself") as u32).collect();
    for (score, value_) in [
        ("trustworthiness", scores::trustworthiness(&data, dim, &z, 2, 10)),
        ("continuity", scores::continuity(&data, dim, &z, 2, 10)),
        ("neighborhood_preservation", scores::neighborhood_preservation(&data, dim, &z, 2, 10)),
        ("label_accuracy", scores::label_accuracy(&z, 2, &labels, 10)),
        ("silhouette", scores::silhouette_score(&z, 2, &labels, None, Singletons::Zero)),
        ("kmeans_ari", scores::kmeans_ari(&z, 2, &labels, 42)),
        ("distance_spearman", scores::distance_spearman(&data, dim, &z, 2, 42).map(|value| value.expect("a score"))),
    ] {
        let about = ["label_accuracy", "silhouette", "kmeans_ari"].contains(&score).then_some("label");
        assert_eq!(value(found, score, about), value_.ok(), "{score} of {name}");
    }
}

#[test]
fn parts_are_those_of_scikit_learn_and_scipy() {
    let Some(desk) = PythonDir::new() else { return };
    let draw = |i: usize, n: u64| ((i as u64 * 2_654_435_761 + 12_345) >> 7) % n;
    let flat =
        |name: &str, values: &[f32]| desk.npy(name, "<f4", &[values.len()], values.iter().map(|x| x.to_le_bytes()));
    let codes =
        |name: &str, values: &[u32]| desk.npy(name, "<u4", &[values.len()], values.iter().map(|x| x.to_le_bytes()));
    let number = |told: String| told.trim().parse::<f64>().expect("a number");
    for (rows, kinds) in [(4, 2), (300, 7), (200_000, 40)] {
        let a: Vec<u32> = (0..rows).map(|i| draw(i, kinds) as u32).collect();
        let b: Vec<u32> =
            a.iter().enumerate().map(|(i, &a)| if i % 3 == 0 { draw(i + 9, 5) as u32 } else { a }).collect();
        let theirs = number(desk.ask("evaluate.py", &["ari", &codes("a.npy", &a), &codes("b.npy", &b)]));
        let ours = scores::adjusted_rand_score(&a, &b);
        assert!((ours - theirs).abs() < 1e-12, "{ours} and {theirs}");
    }
    // With many ties.
    let a: Vec<f32> = (0..5_000).map(|i| draw(i, 50) as f32).collect();
    let b: Vec<f32> = a.iter().enumerate().map(|(i, a)| (a * 0.1).floor() + draw(i + 3, 9) as f32).collect();
    let theirs = number(desk.ask("evaluate.py", &["spearman", &flat("a.npy", &a), &flat("b.npy", &b)]));
    let ours = scores::spearman(&a, &b).expect("a correlation");
    assert!((ours - theirs).abs() < 1e-12, "{ours} and {theirs}");
    // With a label of one row, and copies.
    let z: Vec<f32> = (0..1_200).map(|i| draw(i, 97) as f32 * 0.25).collect();
    let labels: Vec<u32> = (0..400).map(|i| if i == 17 { 99 } else { draw(i + 5, 6) as u32 }).collect();
    let samples = scores::silhouette_samples(&z, 3, &labels, None, Singletons::Zero).expect("scores");
    let arguments = [
        "silhouette",
        &desk.floats("z.npy", &z, 3),
        &codes("labels.npy", &labels),
        &desk.doubles("ours.npy", &samples, &[400]),
    ];
    desk.ask("evaluate.py", &arguments);
}
