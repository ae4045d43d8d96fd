//! Stored maps by the command line: new rows on a map, versions, tables.

use std::process::Stdio;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float32Type, UInt64Type};
use lowland_datasets::OutputDtype;
use serde_json::Value;

use crate::harness::{TestDir, rows_of, start, wait_for};

const QUICK: &str = "--n-epochs 30 --threads 2 --quiet";

/// A directory with `map.lowland` and `map.parquet`, both of the `rows` first rows of the test's vectors.
fn fitted(rows: u64) -> TestDir {
    let place = TestDir::new();
    place.vectors("old.parquet", rows);
    place.ok(&format!("embed old.parquet --id id --model map.lowland -o map.parquet {QUICK}"));
    place
}

fn json(text: &str) -> Value {
    assert_eq!(text.trim_end().lines().count(), 1, "one object on one line: {text}");
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn placed_rows_depend_on_the_model_and_on_themselves_alone() {
    let place = fitted(1_500);
    place.vectors("more.parquet", 1_800);
    place.vectors("few.arrow", 100);
    let placed = "transform --model map.lowland more.parquet --keep label --quiet";
    place.ok(&format!("{placed} -o a.parquet"));
    place.ok(&format!("{placed} -o b.parquet --batch-rows 7 --threads 1 --memory 300MiB"));
    assert!(place.bytes("a.parquet") == place.bytes("b.parquet"), "the bytes depend on the batches");

    let (map, ids) = rows_of(&place.path("map.parquet"), "x,y");
    let (all, columns) = rows_of(&place.path("a.parquet"), "x,y,outlier");
    assert_eq!(columns[1_799][0], "1799", "ids are those of the model's column");
    for (row, at) in all.chunks_exact(3).take(1_500).enumerate() {
        assert_eq!(&map[row * 2..][..2], &at[..2], "row {row}, {:?}, is a copy of a row of the model", ids[row]);
    }
    assert!(all.iter().all(|x| x.is_finite()));

    place.ok("transform --model map.lowland few.arrow -o few.parquet --quiet");
    let (few, _) = rows_of(&place.path("few.parquet"), "x,y,outlier");
    assert_eq!(few, all[..300], "other rows have no part in a row's place");

    place.ok("transform --model map.lowland more.parquet -o c.npy --quiet");
    let coordinates = lowland::open(&[place.path("c.npy").to_string_lossy()], None).expect("an npy");
    assert_eq!((coordinates.shape().rows, coordinates.shape().dim), (1_800, 2));
    assert!(!place.names().iter().any(|name| name.ends_with(".run")), "no run directory stays: {:?}", place.names());
}

#[test]
fn an_interrupted_transform_goes_on() {
    let place = TestDir::new();
    place.wide_vectors("old.npy", 600, 4, OutputDtype::F32);
    place.wide_vectors("new.npy", 140_000, 4, OutputDtype::F32);
    place.ok(&format!("embed old.npy --model map.lowland {QUICK}"));
    place.ok("transform --model map.lowland new.npy -o whole.arrow --quiet");
    let (mut child, mut events) = start(&place, "transform --model map.lowland new.npy -o placed.arrow");
    wait_for(&mut events, |event| event["event"] == "unit");
    child.kill().expect("killed");
    child.wait().expect("an end");
    assert!(!place.path("placed.arrow").exists());
    let told = place.ok("transform --model map.lowland new.npy -o placed.arrow --json --quiet");
    let report = json(&told.stdout);
    assert_eq!(report["rows"], 140_000);
    assert!(report["reused_rows"].as_u64().is_some_and(|rows| rows >= 65_536), "{report}");
    assert!(place.bytes("placed.arrow") == place.bytes("whole.arrow"));
    assert!(!place.path("placed.arrow.run").exists());
}

#[test]
fn what_cannot_be_placed_is_refused_before_any_row_is() {
    let place = fitted(600);
    place.wide_vectors("wide.npy", 50, 17, OutputDtype::F32);
    place.vectors("new.parquet", 50);
    for (arguments, words) in [
        ("wide.npy -o placed.npy", &["17 components", "16"][..]),
        ("new.parquet -o map.parquet", &["exists"]),
        ("new.parquet -o placed.csv", &[".parquet, .arrow or .npy"]),
        ("new.parquet -o placed.parquet --id name", &["\"name\"", "\"label\""]),
        ("new.parquet -o placed.parquet --keep name", &["name"]),
        ("new.parquet -o placed.npy --keep label", &[".npy"]),
        ("new.parquet -o placed.parquet --coordinates a", &["--coordinates: 1 names for 2 components"]),
        ("new.parquet -o placed.parquet --coordinates a,outlier", &["outlier"]),
        ("new.parquet -o placed.parquet --version 7", &["no version 7", "it has 1"]),
        ("new.parquet -o placed.parquet --memory 1MiB", &["--memory: ", "smallest"]),
        ("new.parquet -o placed.parquet --threads 0", &["--threads: "]),
        ("new.parquet -o placed.parquet --batch-rows 0", &["--batch-rows: "]),
    ] {
        place.refused(&format!("transform --model map.lowland {arguments} --quiet"), words);
    }
    place.refused("transform --model old.parquet new.parquet -o placed.parquet", &["not a model"]);
    place.refused("versions nothing.lowland", &["not a model"]);
    place.refused("embed old.parquet --model map.lowland", &["--model: ", "lowland update"]);
    place.refused("embed old.parquet --model new.lowland --plot p.png", &["--plot: ", "-o"]);
    place.refused("embed old.parquet --model new.lowland --method sne", &["sne"]);
}

#[test]
fn versions_are_listed_named_undone_removed_and_checked() {
    let place = fitted(600);
    place.vectors("today.parquet", 620);
    let told = place.ok("update map.lowland --source today.parquet --mode transform --run-id monday --json --quiet");
    let report = json(&told.stdout);
    assert_eq!((&report["outcome"], &report["version"]), (&"published".into(), &2.into()), "{report}");
    assert_eq!(report["counts"]["added"], 20);
    // The same night again, and a table without changes.
    for run in ["monday", "tuesday"] {
        let again = place
            .run(&format!("update map.lowland --source today.parquet --run-id {run} --no-change-exit-code 99 --quiet"));
        assert_eq!((again.code, again.stdout.as_str()), (99, ""), "{}", again.stderr);
    }
    place.vectors("more.parquet", 640);
    let refused = place.run("update map.lowland --source more.parquet --mode transform --gate recall>=2 --json");
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("version 3 is kept") && refused.stderr.contains("rollback"), "{}", refused.stderr);
    assert_eq!(json(&refused.stdout)["outcome"], "refused");
    let listed = json(&place.ok("versions map.lowland --json").stdout);
    let of = |field: &str| listed.as_array().expect("a list").iter().map(|v| v[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("number"), [1, 2, 3]);
    assert_eq!(of("current"), [false, true, false]);
    assert_eq!(of("accepted"), [true, true, false]);
    assert_eq!(of("action"), ["fit", "transform", "transform"]);

    let diff = json(&place.ok("diff map.lowland @1 --json").stdout);
    assert_eq!((&diff["added"], &diff["deleted"], &diff["unchanged"]), (&20.into(), &0.into(), &600.into()));
    assert_eq!(diff["moved"]["rows"], 0, "old rows keep their bytes");

    place.ok("tag map.lowland first 1");
    place.refused("tag map.lowland 7 1", &["7"]);
    place.refused("tag map.lowland none --delete", &["none"]);
    let back = json(&place.ok("rollback map.lowland --to first --json").stdout);
    assert_eq!(back["version"], 4);
    place.refused("rollback map.lowland --to 4", &["current"]);
    place.ok("export map.lowland -o back.parquet --quiet");
    let back = lowland::open(&[place.path("back.parquet").to_string_lossy()], Some("x,y")).expect("a table");
    assert_eq!(back.shape().rows, 600);

    let removed = json(&place.ok("gc map.lowland --keep 1 --keep-tagged --dry-run --json").stdout);
    assert_eq!(removed["versions"], serde_json::json!([2, 3]));
    assert_eq!(place.ok("versions map.lowland").stdout.lines().count(), 5, "nothing is removed yet");
    place.ok("gc map.lowland --keep 1 --keep-tagged");
    let table = place.ok("versions map.lowland").stdout;
    assert!(table.lines().any(|line| line.starts_with("*4 ")) && table.contains("first"), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");

    assert_eq!(place.ok("verify map.lowland").stdout, "");
    let data = place.path("map.lowland/data");
    let file = std::fs::read_dir(&data).expect("data").next().expect("a file").expect("an entry").path();
    let mut bytes = std::fs::read(&file).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let damaged = place.run("verify map.lowland");
    assert_eq!(damaged.code, 1, "{}", damaged.stderr);
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(damaged.stdout.contains(&name) && damaged.stdout.lines().count() == 1, "{}", damaged.stdout);
}

#[test]
fn an_export_has_the_columns_of_a_version() {
    let place = fitted(600);
    place.vectors("today.parquet", 630);
    place.ok("update map.lowland --source today.parquet --mode transform --quiet");
    place.ok("export map.lowland -o map.arrow --quiet");
    place.refused("export map.lowland -o map.npy", &[".parquet or .arrow"]);
    place.refused("export map.lowland -o map.lowland/map.parquet", &["in the model"]);
    let source = lowland::open(&[place.path("map.arrow").to_string_lossy()], Some("x,y")).expect("a table");
    let names = ["id", "added_in", "moved", "neighbors"].map(String::from);
    let batch = source.read_columns(&names, 0, source.shape().rows as usize).expect("columns");
    let ids = arrow::compute::cast(batch.column(0), &DataType::Int64).expect("integers");
    let ids: Vec<i64> = ids.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..630).collect::<Vec<i64>>(), "every id once");
    let (added, moved) = (batch.column(1).as_primitive::<UInt64Type>(), batch.column(2).as_primitive::<Float32Type>());
    let neighbors = batch.column(3).as_struct();
    let (near, far) = (neighbors.column(0).as_list::<i32>(), neighbors.column(1).as_list::<i32>());
    for (row, &id) in ids.iter().enumerate() {
        let new = id >= 600;
        assert_eq!(added.value(row), if new { 2 } else { 1 }, "row {id}");
        assert_eq!(moved.iter().nth(row).flatten(), (!new).then_some(0.0), "row {id}");
        let near = arrow::compute::cast(&near.value(row), &DataType::Int64).expect("integers");
        let near = near.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
        assert!(near.len() == 15 && !near.contains(&id) && near.iter().all(|id| sorted.contains(id)), "row {id}");
        let far = far.value(row);
        assert!(far.as_primitive::<Float32Type>().values().is_sorted(), "row {id}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let place = fitted(600);
    let mut command = place.command("versions map.lowland");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop(child.stdout.take());
    assert!(child.wait().expect("an end").success());
}
