//! Maps: the same bytes from every format and under every setting that must
//! not matter; the outputs; the pictures; the reports.

use serde_json::Value;

use crate::harness::{TestDir, fixture, home, rows_of};

/// Enough rows for many lists and blocks of several batches, few enough to be quick.
const ROWS: u64 = 4_000;
const QUICK: &str = "--n-epochs 20 --quiet";

#[test]
fn every_format_gives_the_same_bytes() {
    let place = TestDir::new();
    for source in ["v.parquet", "v.arrow", "v.npy"] {
        place.vectors(source, ROWS);
        let answer = place.ok(&format!("embed {source} -o {source}.map.parquet {QUICK}"));
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""), "quiet, and no results on stdout");
    }
    let map = place.bytes("v.parquet.map.parquet");
    assert!(map == place.bytes("v.arrow.map.parquet"), "Arrow differs");
    assert!(map == place.bytes("v.npy.map.parquet"), "npy differs");
    assert!(!place.names().iter().any(|n| n.contains(".run") || n.contains(".part")), "{:?}", place.names());
}

#[test]
fn several_files_are_one_source() {
    let place = TestDir::new();
    place.vectors("all.npy", ROWS);
    // Two files that hold the same rows as one: cut the .npy by hand.
    let bytes = place.bytes("all.npy");
    let (head, data) = bytes.split_at(bytes.len() - ROWS as usize * 64);
    for (name, rows, part) in [("a.npy", 1500, &data[..1500 * 64]), ("b.npy", 2500, &data[1500 * 64..])] {
        let head = String::from_utf8_lossy(&head[10..]).replace("(4000, 16)", &format!("({rows}, 16)"));
        let mut file = bytes[..10].to_vec();
        file.extend(head.as_bytes());
        file.extend(part);
        std::fs::write(place.path(name), file).expect("written");
    }
    place.ok(&format!("embed all.npy -o all.map.npy {QUICK}"));
    place.ok(&format!("embed [ab].npy -o parts.map.npy {QUICK}"));
    assert!(place.bytes("all.map.npy") == place.bytes("parts.map.npy"));
}

#[test]
fn map_is_independent_of_threads_batches_and_budget() {
    let place = TestDir::new();
    place.vectors("v.arrow", ROWS);
    let settings = [
        "--threads 1 --batch-rows 1000",
        "--threads 2 --batch-rows 65536",
        "--threads 3 --memory 60MiB",
        "--batch-rows 7",
    ];
    for (i, setting) in settings.iter().enumerate() {
        place.ok(&format!("embed v.arrow -o {i}.parquet {QUICK} {setting}"));
        assert!(place.bytes("0.parquet") == place.bytes(&format!("{i}.parquet")), "{setting} differs");
    }
    place.ok(&format!("embed v.arrow -o other.parquet {QUICK} --seed 43"));
    assert!(place.bytes("0.parquet") != place.bytes("other.parquet"), "the seed must matter");
}

#[test]
fn outputs_by_extension() {
    let place = TestDir::new();
    place.vectors("v.parquet", 500);
    for output in ["m.parquet", "m.arrow", "m.npy"] {
        place.ok(&format!("embed v.parquet -o {output} {QUICK}"));
    }
    let (parquet, ids) = rows_of(&place.path("m.parquet"), "x,y");
    let (arrow, _) = rows_of(&place.path("m.arrow"), "x,y");
    assert_eq!(parquet, arrow);
    assert!(ids.iter().enumerate().all(|(i, id)| id == &[i.to_string()]));
    let npy = place.bytes("m.npy");
    let floats: Vec<u8> = parquet.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(npy[npy.len() - floats.len()..], floats);
    assert!(parquet.iter().all(|x| x.is_finite()));

    place.ok(&format!("embed v.parquet -o three.parquet --n-components 3 {QUICK}"));
    assert_eq!(rows_of(&place.path("three.parquet"), "x,y,z").0.len(), 1500);
    place.ok(&format!("embed v.parquet -o five.arrow --n-components 5 {QUICK}"));
    assert_eq!(rows_of(&place.path("five.arrow"), "c0,c1,c2,c3,c4").0.len(), 2500);
    place.ok(&format!("embed v.parquet -o one.npy --n-components 1 {QUICK}"));
    for init in ["pca", "random", "m.npy"] {
        place.ok(&format!("embed v.parquet -o init-{init}.npy --init {init} --metric cosine {QUICK}"));
    }
    assert!(place.bytes("init-pca.npy") != place.bytes("init-random.npy"));
}

#[test]
fn kept_columns_come_in_the_sources_order() {
    let place = TestDir::new();
    place.vectors("v.parquet", 3_000);
    place.ok(&format!("embed v.parquet -o m.parquet --id id --keep label {QUICK}"));
    let (_, rows) = rows_of(&place.path("m.parquet"), "x,y");
    let (_, given) = rows_of(&place.path("v.parquet"), "embedding");
    assert_eq!(given[0].len(), 2, "the generator gives id and label");
    assert_eq!(rows, given);
}

#[test]
fn exact_copies_stay_distinct_rows() {
    let place = TestDir::new();
    let generator = lowland_datasets::Generator::new(
        "duplicates".parse::<lowland_datasets::DatasetKind>().expect("a kind"),
        2_000,
        8,
        1,
    );
    let options = lowland_datasets::WriteOptions::default();
    lowland_datasets::write(&generator.expect("a generator"), &place.path("d.npy"), &options).expect("written");
    place.ok(&format!("embed d.npy -o m.parquet {QUICK}"));
    let (map, rows) = rows_of(&place.path("m.parquet"), "x,y");
    assert_eq!(rows.len(), 2_000);
    assert!(map.iter().all(|x| x.is_finite()));
}

#[test]
fn fixtures_of_other_programs_become_maps() {
    let place = TestDir::new();
    for name in ["polars_array_f32.parquet", "pyarrow_fixed_i8.arrow", "pyarrow_dictionary_f32.arrow", "numpy_f64.npy"]
    {
        place.ok(&format!("embed {} -o {name}.map.arrow --n-neighbors 3 {QUICK}", fixture(name)));
    }
    let scalars = fixture("pyarrow_scalars.parquet");
    place.ok(&format!("embed {scalars} --column pc* --keep name -o m.parquet --n-neighbors 3 {QUICK}"));
}

#[test]
fn the_picture_and_the_report() {
    let place = TestDir::new();
    place.vectors("v.parquet", ROWS);
    let told = place.ok(
        "embed v.parquet -o m.parquet --n-epochs 20 --plot m.png --color label --report r.json --run-dir run --metric cosine",
    );
    assert_eq!(told.stdout, "");
    for words in ["scan ", "layout ", "recall@15", "trustworthiness@15", "seed 42", "m.png", "r.json"] {
        assert!(told.stderr.contains(words), "no {words} in {}", told.stderr);
    }
    assert_eq!(&place.bytes("m.png")[1..4], b"PNG");
    let report: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
    for pointer in [
        "/version",
        "/seconds",
        "/peak_memory",
        "/column",
        "/plan/config/n_neighbors",
        "/plan/config/seed",
        "/plan/config/memory",
        "/plan/threads",
        "/plan/batch_rows",
        "/plan/layout/epochs",
        "/plan/index/lists",
        "/plan/stages/0/memory",
        "/stages/0/seconds",
        "/stages/0/peak_memory",
        "/stages/0/read",
        "/stages/0/written",
        "/neighbors/recall",
        "/neighbors/recall_interval",
        "/neighbors/sample_rows",
        "/quality/k",
        "/quality/trustworthiness/mean",
        "/quality/trustworthiness/interval",
        "/quality/preservation/mean",
        "/quality/triplets/mean",
        "/outputs/map",
        "/outputs/picture",
        "/outputs/report",
    ] {
        assert!(report.pointer(pointer).is_some_and(|v| !v.is_null()), "no {pointer} in {report:#}");
    }
    let page = std::fs::read_to_string(home().join("docs/outputs.md")).expect("the page");
    let (_, table) = page.split_once("## The report").expect("the section");
    let (table, _) = table.split_once("Keys without a value").expect("the table of keys");
    for key in report.as_object().expect("an object").keys() {
        assert!(table.contains(&format!("`{key}`")), "docs/outputs.md lacks the key {key} of the report");
    }
    assert_eq!(report["plan"]["config"]["metric"], "cosine");
    assert_eq!(report["plan"]["shape"]["rows"], ROWS);
    assert_eq!(report["run_dir"], "run");
    assert!(report["neighbors"]["recall"].as_f64().is_some_and(|r| r > 0.99));
    let stages: Vec<&str> =
        report["stages"].as_array().expect("stages").iter().filter_map(|s| s["stage"].as_str()).collect();
    assert_eq!(stages, ["scan", "index", "neighbors", "affinity", "init", "layout", "output", "quality"]);
    // A named run directory stays, and the next run of the same kind is quick.
    let again = place.ok("embed v.parquet -o n.npy --n-epochs 20 --run-dir run --metric cosine --report -");
    let report: Value = serde_json::from_str(&again.stdout).expect("nothing but the report on stdout");
    assert_eq!(report["reused"].as_array().map(Vec::len), Some(6));
    assert_eq!(report["stages"].as_array().map(Vec::len), Some(8));
}

#[test]
fn json_logs_are_one_object_a_line() {
    let place = TestDir::new();
    place.vectors("v.npy", 500);
    let told = place.ok("embed v.npy -o m.npy --n-epochs 20 --log-format json");
    let events: Vec<Value> =
        told.stderr.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    let named = |name: &str| events.iter().filter(|e| e["event"] == name).count();
    assert_eq!((named("plan"), named("start"), named("end"), named("report")), (1, 8, 8, 1));
    let failed = place.run("embed v.npy -o m.npy --log-format json");
    assert_eq!(failed.code, 2);
    let error: Value = serde_json::from_str(failed.stderr.trim_end()).expect("one object");
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &2.into()));
}

#[test]
fn colours_of_a_map_without_columns_come_from_the_source() {
    let place = TestDir::new();
    place.vectors("v.arrow", 500);
    place.ok(&format!("embed v.arrow -o m.npy --plot a.png --color label {QUICK}"));
    place.ok(&format!("embed v.arrow -o m.parquet --keep label --plot b.png --color label {QUICK}"));
    assert!(place.bytes("a.png") == place.bytes("b.png"));
    place.ok("plot m.parquet -o c.png --color label");
    assert!(place.bytes("a.png") == place.bytes("c.png"));
    place.ok("plot m.npy -o d.png --dark --width 300 --height 200 --title Title");
    assert_ne!(place.bytes("d.png"), place.bytes("a.png"));
}

#[test]
fn a_source_on_standard_input() {
    let place = TestDir::new();
    let stream = std::fs::read(fixture("polars_f32.arrows")).expect("a fixture");
    let answer = place.pipe(&format!("embed - -o piped.parquet --id id --keep name --n-neighbors 3 {QUICK}"), &stream);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let file = fixture("polars_array_f32.arrow");
    place.ok(&format!("embed {file} -o file.parquet --id id --keep name --n-neighbors 3 {QUICK}"));
    assert_eq!(rows_of(&place.path("piped.parquet"), "x,y"), rows_of(&place.path("file.parquet"), "x,y"));
    assert_eq!(place.names(), ["file.parquet", "piped.parquet"], "the copy is gone");

    for (input, word) in [
        (&b""[..], "empty"),
        (b"\x93NUMPY\x01\x00", "cut short"),
        (b"id,x\n1,2\n", "no known format"),
        (&stream[..900], "cut short"),
    ] {
        let answer = place.pipe("embed - -o bad.parquet --n-neighbors 3", input);
        assert_eq!(answer.code, 2, "{}", answer.stderr);
        assert!(answer.stderr.contains("standard input") && answer.stderr.contains(word), "{}", answer.stderr);
    }
    assert_eq!(place.names(), ["file.parquet", "piped.parquet"]);
}

/// JSON is UTF-8, and a path need not be.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let place = TestDir::new();
    place.vectors("v.npy", 300);
    let name = std::ffi::OsStr::from_bytes(b"m\xff.npy");
    let mut command = place.command("embed v.npy --n-epochs 5 --keep-run --report r.json --log-format json -o");
    command.arg(name);
    let answer = crate::harness::answer(command);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(place.path(".").join(name).exists());
    let runs = place.ok("runs --json").stdout;
    assert!(runs.contains("m\u{fffd}.npy.run") && runs.contains("finished"), "{runs}");
    std::fs::create_dir(place.path("parts")).expect("a directory");
    std::fs::rename(place.path("v.npy"), place.path("parts").join(name)).expect("renamed");
    assert!(place.ok("inspect parts --json").stdout.contains("parts/m\u{fffd}.npy"));
    place.ok("embed parts -o n.npy --n-epochs 5 --run-dir run");
    place.ok("embed parts -o n.npy --n-epochs 5 --run-dir run --force --report n.json");
    let report: serde_json::Value = serde_json::from_slice(&place.bytes("n.json")).expect("JSON");
    assert!(report["reused"].as_array().is_some_and(|stages| !stages.is_empty()), "{}", report["reused"]);
}
