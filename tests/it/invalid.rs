//! Rows that cannot be placed: refused with their number and the ways out, or
//! left out so that the others' map is that of these rows alone. And numbers
//! far from 0, which are moved there before they are rounded.

use std::io::{BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Schema, UInt64Type};
use arrow::ipc::writer::FileWriter;
use serde_json::Value;

use crate::harness::{TestDir, signal, wait_for};

const DIM: usize = 5;

/// Four groups of rows in [`DIM`] components, by a rule.
fn value(i: usize) -> f64 {
    let (row, c) = (i / DIM, i % DIM);
    let within = ((row * 7 + c * 131) as f64 * 0.7391).sin() + ((row * 13 + c) as f64 * 1.237).cos();
    within + 8.0 * ((row % 4) * (c + 1) % 5) as f64
}

/// An .npy of type `descr`, of which `numbers` are the bytes.
fn npy(path: &Path, descr: &str, rows: usize, dim: usize, numbers: impl Iterator<Item = Vec<u8>>) {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes.extend(numbers.flatten());
    std::fs::write(path, bytes).expect("written");
}

fn f32s(place: &TestDir, name: &str, numbers: &[f32]) {
    npy(&place.path(name), "<f4", numbers.len() / DIM, DIM, numbers.iter().map(|x| x.to_le_bytes().to_vec()));
}

fn f64s(place: &TestDir, name: &str, numbers: &[f64]) {
    npy(&place.path(name), "<f8", numbers.len() / DIM, DIM, numbers.iter().map(|x| x.to_le_bytes().to_vec()));
}

/// `rows` sound rows.
fn sound(rows: usize) -> Vec<f32> {
    (0..rows * DIM).map(|i| value(i) as f32).collect()
}

/// Rows that cannot be placed, and where they stand among `rows` sound ones.
const SPOILT: [usize; 7] = [0, 1, 57, 200, 201, 202, 306];

/// The sound rows with others between them, so that those are the rows [`SPOILT`].
fn spoilt(sound: &[f32]) -> Vec<f32> {
    let mut all = sound.to_vec();
    for (nth, at) in SPOILT.into_iter().enumerate() {
        let mut row = [1.5f32; DIM];
        row[nth % DIM] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][nth % 3];
        all.splice(at * DIM..at * DIM, row);
    }
    all
}

/// The numbers of an .npy of f32.
fn floats(bytes: &[u8]) -> Vec<f32> {
    let header = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[header..].as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

/// An Arrow file of a list column `v` in which some rows or components are null, and a column `n` of numbers.
fn arrow_with_nulls(place: &TestDir, name: &str, rows: &[Option<Vec<Option<f32>>>]) {
    let vectors = ListArray::from_iter_primitive::<Float32Type, _, _>(rows.to_vec());
    let numbers = Int64Array::from_iter_values((0..rows.len() as i64).map(|n| 1000 + n));
    let schema = Arc::new(Schema::new(vec![
        Field::new("v", vectors.data_type().clone(), true),
        Field::new("n", DataType::Int64, false),
    ]));
    let columns: Vec<ArrayRef> = vec![Arc::new(vectors), Arc::new(numbers)];
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("a batch");
    let file = std::fs::File::create(place.path(name)).expect("a file");
    let mut writer = FileWriter::try_new(file, &schema).expect("a writer");
    // In two batches, so that rows are located across them.
    let half = rows.len() / 2;
    writer.write(&batch.slice(0, half)).expect("written");
    writer.write(&batch.slice(half, rows.len() - half)).expect("written");
    writer.finish().expect("finished");
}

/// Rows 0 (null), 3 (empty), 57 (all components null) and 100 (one component null) of 120 have no vector.
fn with_nulls() -> Vec<Option<Vec<Option<f32>>>> {
    let row = |row: usize| (0..DIM).map(|c| Some(value(row * DIM + c) as f32)).collect::<Vec<_>>();
    let mut rows: Vec<Option<Vec<Option<f32>>>> = (0..120).map(|i| Some(row(i))).collect();
    rows[0] = None;
    rows[3] = Some(Vec::new());
    rows[57] = Some(vec![None; DIM]);
    if let Some(row) = &mut rows[100] {
        row[2] = None;
    }
    rows
}

const NULL_ROWS: [u64; 4] = [0, 3, 57, 100];

/// All batches of a map as one.
fn table(place: &TestDir, name: &str) -> RecordBatch {
    let source = lowland::open(&[place.path(name).to_string_lossy()], Some("x,y")).expect("a map");
    source.read_columns(&source.columns(), 0, source.shape().rows as usize).expect("columns")
}

fn ids(table: &RecordBatch) -> Vec<u64> {
    table.column_by_name("id").expect("ids").as_primitive::<UInt64Type>().values().to_vec()
}

#[test]
fn invalid_rows_are_counted_and_explained() {
    let place = TestDir::new();
    f32s(&place, "a.npy", &spoilt(&sound(300)));
    let mut more = sound(50);
    more[12 * DIM..13 * DIM].fill(0.0);
    more[7] = f32::NAN;
    f32s(&place, "b.npy", &more);
    let words = [
        "8 of 357 rows cannot be placed",
        "4 with NaN (the first: a.npy: row 0, component 0 is NaN)",
        "4 with an infinite number (the first: a.npy: row 1, component 1 is inf)",
        "--invalid drop",
        "--invalid null",
    ];
    for command in ["embed a.npy b.npy -o m.npy", "knn a.npy b.npy -o g.arrow", "pca a.npy b.npy -o s.npy"] {
        place.refused(command, &words);
        place.refused(&format!("{command} --batch-rows 7"), &words);
    }
    place.refused(
        "embed a.npy b.npy -o m.npy --metric cosine",
        &["9 of 357 rows", "4 with an infinite", "1 of all zeros", "b.npy: row 12)"],
    );
    // What single precision does not hold is told as it stands there.
    let mut wide: Vec<f64> = sound(40).into_iter().map(f64::from).collect();
    wide[33] = 1e39;
    f64s(&place, "w.npy", &wide);
    place.refused("embed w.npy -o m.npy", &["row 6, component 3 is 1e39, beyond single precision"]);
}

#[test]
fn nulls_are_counted_and_named_by_their_column() {
    let place = TestDir::new();
    arrow_with_nulls(&place, "n.arrow", &with_nulls());
    place.refused(
        "embed n.arrow -o m.parquet",
        &[
            "4 of 120 rows cannot be placed",
            "3 null in place of a vector (the first: n.arrow: row 0, column \"v\")",
            "1 with a null component (n.arrow: row 100, column \"v\", component 2)",
            "--invalid drop",
        ],
    );
}

#[test]
fn map_of_valid_rows_is_that_of_those_rows_alone() {
    let place = TestDir::new();
    let rows = sound(300);
    let all = spoilt(&rows);
    f32s(&place, "alone.npy", &rows);
    f32s(&place, "all.npy", &all);
    let (first, second) = all.split_at(201 * DIM);
    f32s(&place, "1.npy", first);
    f32s(&place, "2.npy", second);
    for options in
        ["", "--metric cosine", "--method tsne --perplexity 8", "--method tsne-exact --perplexity 8 --n-epochs 60"]
    {
        let options = format!("{options} --quiet --force");
        place.ok(&format!("embed alone.npy -o alone-map.npy {options}"));
        let expected = place.bytes("alone-map.npy");
        for (sources, more) in [
            ("all.npy", ""),
            ("1.npy 2.npy", ""),
            ("all.npy", "--batch-rows 7 --threads 1"),
            ("1.npy 2.npy", "--batch-rows 64 --memory 600MiB"),
        ] {
            place.ok(&format!("embed {sources} -o m.npy --invalid drop {more} {options}"));
            assert!(place.bytes("m.npy") == expected, "{options}: {sources} {more}: another map");
        }
        place.ok(&format!("embed 1.npy 2.npy -o null.npy --invalid null {options}"));
        let map = floats(&place.bytes("null.npy"));
        assert_eq!(map.len(), 307 * 2);
        let mut sound = Vec::new();
        for (row, point) in map.chunks(2).enumerate() {
            if SPOILT.contains(&row) {
                assert!(point.iter().all(|x| x.is_nan()), "row {row}: {point:?}");
            } else {
                sound.extend_from_slice(point);
            }
        }
        assert_eq!(sound, floats(&expected));
    }
}

#[test]
fn a_killed_run_without_them_goes_on_to_the_same_bytes() {
    let place = TestDir::new();
    f32s(&place, "all.npy", &spoilt(&sound(300)));
    let command = "embed all.npy -o m.parquet --invalid drop --n-epochs 3000";
    place.ok(&format!("{} --quiet", command.replace("m.parquet", "whole.parquet")));
    for stage in ["survey", "layout"] {
        let mut child = place.command(&format!("{command} --log-format json"));
        let mut child = child.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        wait_for(&mut stderr, |event| event["event"] == "start" && event["stage"] == stage);
        signal(&child, "KILL");
        let _ = stderr.read_to_end(&mut Vec::new());
        child.wait().expect("an end");
    }
    // Another choice must not go on from there.
    let other = place.run(&command.replace("drop", "null"));
    assert_eq!(other.code, 2, "{}", other.stderr);
    assert!(
        other.stderr.contains("whose invalid was \"drop\"") && other.stderr.contains("--restart"),
        "{}",
        other.stderr
    );
    let told = place.ok(command);
    assert!(told.stderr.contains("kept from an earlier run"), "{}", told.stderr);
    assert!(place.bytes("m.parquet") == place.bytes("whole.parquet"));
}

#[test]
fn outputs_name_rows_as_the_source_does() {
    let place = TestDir::new();
    arrow_with_nulls(&place, "n.arrow", &with_nulls());
    for end in ["parquet", "arrow"] {
        let drop = format!("drop.{end}");
        let told = place.ok(&format!("embed n.arrow -o {drop} --invalid drop --keep n --report r.json --force"));
        assert!(told.stderr.contains("4 of 120 rows are left out"), "{}", told.stderr);
        let report: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
        assert_eq!((&report["left_out"]["rows"], &report["left_out"]["invalid"]), (&4.into(), &"drop".into()));
        assert_eq!(report["left_out"]["kinds"][0]["flaw"], "no-vector");
        assert_eq!(report["plan"]["shape"]["rows"], 116);
        let dropped = table(&place, &drop);
        let kept: Vec<u64> = (0..120).filter(|row| !NULL_ROWS.contains(row)).collect();
        assert_eq!(ids(&dropped), kept);
        let numbers = dropped.column_by_name("n").expect("kept").as_primitive::<arrow::datatypes::Int64Type>();
        assert!(numbers.values().iter().zip(&kept).all(|(&n, &row)| n == 1000 + row as i64));

        let null = format!("null.{end}");
        place.ok(&format!("embed n.arrow -o {null} --invalid null --keep n --quiet --force"));
        let all = table(&place, &null);
        assert_eq!(ids(&all), (0..120).collect::<Vec<_>>());
        for name in ["x", "y"] {
            let (some, all) = (dropped.column_by_name(name).expect("x"), all.column_by_name(name).expect("x"));
            let (some, all) = (some.as_primitive::<Float32Type>(), all.as_primitive::<Float32Type>());
            assert_eq!(all.null_count(), 4);
            let there: Vec<f32> = all.iter().flatten().collect();
            assert_eq!(there, some.values().to_vec());
            assert!(NULL_ROWS.iter().all(|&row| all.is_null(row as usize)));
        }
        let by_name = format!("named.{end}");
        place.ok(&format!("embed n.arrow -o {by_name} --invalid drop --id n --quiet --force"));
        assert_eq!(table(&place, &by_name).schema().field(0).name(), "n");
    }
    // The picture takes its colours from the source, row for row.
    for choice in ["drop", "null"] {
        place.ok(&format!("embed n.arrow -o m.arrow --invalid {choice} --plot p.png --color n --quiet --force"));
        place.ok("plot m.arrow -o q.png --color id --force");
    }
    // Principal components alike.
    place.ok("pca n.arrow -o s.parquet --invalid null --quiet");
    place.ok("pca n.arrow -o d.parquet --invalid drop --quiet");
    assert_eq!(ids(&table(&place, "d.parquet")).len(), 116);
    assert_eq!(table(&place, "s.parquet").column_by_name("x").expect("x").null_count(), 4);
}

#[test]
fn a_graph_names_rows_as_the_source_does() {
    let place = TestDir::new();
    let rows = sound(300);
    f32s(&place, "alone.npy", &rows);
    f32s(&place, "all.npy", &spoilt(&rows));
    place.ok("knn alone.npy -o alone.arrow --n-neighbors 4 --quiet");
    place.ok("knn all.npy -o null.arrow --n-neighbors 4 --invalid null --quiet");
    place.ok("knn all.npy -o drop.arrow --n-neighbors 4 --invalid drop --quiet");
    let kept: Vec<u32> = (0..307).filter(|row| !SPOILT.contains(&(*row as usize))).collect();
    let read = |name: &str| {
        let graph = lowland_io::GraphReader::open(place.path(name)).expect("a graph");
        let (mut ids, mut far) = (vec![0; graph.rows() as usize * 4], vec![0.0; graph.rows() as usize * 4]);
        graph.read_rows(0, &mut ids, &mut far).expect("rows");
        (ids, far)
    };
    let (alone, far) = read("alone.arrow");
    let (null, null_far) = read("null.arrow");
    assert_eq!(null.len(), 307 * 4);
    let mut next = 0;
    for row in 0..307 {
        let (ids, distances) = (&null[row * 4..][..4], &null_far[row * 4..][..4]);
        if SPOILT.contains(&row) {
            assert_eq!((ids, distances), (&[lowland_io::MISSING; 4][..], &[f32::INFINITY; 4][..]));
            continue;
        }
        let expected: Vec<u32> = alone[next * 4..][..4].iter().map(|&id| kept[id as usize]).collect();
        assert_eq!((ids, distances), (&expected[..], &far[next * 4..][..4]));
        next += 1;
    }
    // Of rows that were dropped a graph is not read back by mistake.
    place
        .refused("embed --knn drop.arrow -o m.npy", &["drop.arrow", "dropped", "--invalid null, which keeps all rows"]);
    let words = ["the graph has 300 rows, the vectors 307", "--invalid null"];
    place.refused("embed --knn alone.arrow all.npy -o m.npy", &words);
    let file = std::fs::File::open(place.path("drop.arrow")).expect("a file");
    let reader = arrow::ipc::reader::FileReader::try_new(file, None).expect("Arrow");
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
    let own = batches[0].column_by_name("id").expect("ids").as_primitive::<arrow::datatypes::UInt32Type>();
    assert_eq!(own.values(), &kept);
    // With the source and the graph of all its rows: as from the rows alone.
    place.ok("embed --knn alone.arrow alone.npy -o alone-map.npy --quiet");
    place.ok("embed --knn null.arrow all.npy -o map.npy --invalid drop --quiet");
    assert!(place.bytes("map.npy") == place.bytes("alone-map.npy"));
}

#[test]
fn rows_without_neighbours_of_a_graph_alone_have_no_coordinates() {
    let place = TestDir::new();
    let rows = sound(300);
    f32s(&place, "alone.npy", &rows);
    f32s(&place, "all.npy", &spoilt(&rows));
    for end in ["arrow", "parquet"] {
        let (alone, null) = (format!("alone.{end}"), format!("null.{end}"));
        place.ok(&format!("knn alone.npy -o {alone} --n-neighbors 4 --quiet"));
        place.ok(&format!("knn all.npy -o {null} --n-neighbors 4 --invalid null --quiet"));
        let options = "--n-epochs 30 --force";
        place.ok(&format!("embed --knn {alone} -o alone-map.npy --quiet {options}"));
        let expected = floats(&place.bytes("alone-map.npy"));

        for choice in ["", "--invalid null"] {
            let told = place.ok(&format!("embed --knn {null} -o m.npy --report r.json {choice} {options}")).stderr;
            let note = format!("7 of 307 rows have no coordinates: 7 without neighbours (the first: {null}: row 0)");
            assert_eq!(told.matches(&format!("lowland: {note}")).count(), 1, "{told}");
            assert!(told.contains("300 rows, a graph of 4 neighbours → 2 components by umap"), "{told}");
            assert!(told.contains("from       300 rows, a graph of 4 neighbours; seed"), "{told}");
            let report: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
            assert_eq!((&report["left_out"]["rows"], &report["left_out"]["of"]), (&7.into(), &307.into()));
            assert_eq!(report["left_out"]["kinds"][0]["flaw"], "no-neighbors");
            let map = floats(&place.bytes("m.npy"));
            assert_eq!(map.len(), 307 * 2);
            let (mut sound, mut without) = (Vec::new(), Vec::new());
            for (row, point) in map.chunks(2).enumerate() {
                match point.iter().any(|x| x.is_nan()) {
                    true => without.push(row),
                    false => sound.extend_from_slice(point),
                }
            }
            assert_eq!((without, sound), (SPOILT.to_vec(), expected.clone()));
            let planned: Value =
                serde_json::from_str(&place.ok(&format!("plan --knn {null} {choice} --json")).stdout).expect("JSON");
            assert!(planned["resident_bytes"].as_u64().is_some_and(|bytes| bytes >= 307 / 8), "{choice}");
            let planned = place.ok(&format!("plan --knn {null} {choice}")).stdout;
            assert!(planned.contains(&note) && planned.contains("300 rows, a graph of 4 neighbours,"), "{planned}");
        }
        place.ok(&format!("embed --knn {null} -o m.npy --invalid drop --quiet {options}"));
        assert_eq!(floats(&place.bytes("m.npy")), expected);
        place.ok(&format!("embed --knn {null} -o m.parquet --invalid drop --quiet {options}"));
        let kept: Vec<u64> = (0..307).filter(|row| !SPOILT.contains(&(*row as usize))).collect();
        assert_eq!(ids(&table(&place, "m.parquet")), kept);
        place.ok(&format!("embed --knn {null} -o m.parquet --quiet {options}"));
        assert_eq!(table(&place, "m.parquet").column_by_name("y").expect("y").null_count(), 7);
        let words = ["7 of 307 rows cannot be placed: 7 without neighbours", "--invalid drop", "--invalid null"];
        place.refused(&format!("embed --knn {null} -o other.npy --invalid error"), &words);
        place.ok(&format!("embed --knn {alone} -o m.npy --invalid error --quiet {options}"));
    }
}

#[test]
fn a_map_with_rows_without_coordinates_gives_first_positions() {
    let place = TestDir::new();
    arrow_with_nulls(&place, "n.arrow", &with_nulls());
    let points = |name: &str| -> Vec<Option<f32>> {
        let map = table(&place, name);
        let column = |name| map.column_by_name(name).expect("a column").as_primitive::<Float32Type>().clone();
        ["x", "y"].into_iter().flat_map(|name| column(name).iter().collect::<Vec<_>>()).collect()
    };
    let still = "--n-epochs 1 --learning-rate 1e-6 --quiet --force";
    place.ok("embed n.arrow -o first.npy --invalid null --quiet");
    for (first, options) in [("first.parquet", "--id n"), ("first.parquet", ""), ("first.npy", "")] {
        place.ok(&format!("embed n.arrow -o first.parquet --invalid null --quiet --force {options}"));
        for choice in ["null", "drop"] {
            place.ok(&format!("embed n.arrow -o m.parquet --invalid {choice} --init {first} {options} {still}"));
            place.ok(&format!("embed n.arrow -o before.parquet --invalid {choice} --quiet --force"));
            let (before, after) = (points("before.parquet"), points("m.parquet"));
            assert_eq!(before.len(), after.len());
            let near = |(a, b): (&Option<f32>, &Option<f32>)| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 0.011,
                (a, b) => a.is_none() && b.is_none(),
            };
            assert!(before.iter().zip(&after).all(near), "{first} {choice} {options}: {before:?} {after:?}");
        }
    }
    // Where these rows have vectors now, they begin among their neighbours.
    let whole: Vec<Option<Vec<Option<f32>>>> =
        (0..120).map(|row| Some((0..DIM).map(|c| Some(value(row * DIM + c) as f32)).collect())).collect();
    arrow_with_nulls(&place, "whole.arrow", &whole);
    let told = place.ok("embed whole.arrow -o m.npy --init first.npy --n-epochs 5 --force").stderr;
    assert!(told.contains("4 of 120 rows have no position in first.npy"), "{told}");
    let map = floats(&place.bytes("m.npy"));
    assert!(map.len() == 240 && map.iter().all(|x| x.is_finite()));
}

#[test]
fn too_few_rows_that_can_be_placed_are_refused_before_any_work() {
    let place = TestDir::new();
    let mut rows = vec![f32::NAN; 30 * DIM];
    f32s(&place, "none.npy", &rows);
    rows[..DIM].fill(1.0);
    f32s(&place, "one.npy", &rows);
    rows[DIM..5 * DIM].copy_from_slice(&sound(4));
    f32s(&place, "five.npy", &rows);
    for choice in ["drop", "null"] {
        let refused = |name: &str, words: &[&str]| {
            place.refused(&format!("embed {name} -o m.npy --invalid {choice}"), words);
            place.refused(&format!("pca {name} -o m.npy --invalid {choice}"), words);
        };
        refused("none.npy", &["no row of 30 can be placed", "30 cannot: 30 with NaN"]);
        refused("one.npy", &["1 row of 30 can be placed", "29 cannot"]);
    }
    place.ok("embed five.npy -o m.npy --invalid drop --n-neighbors 3 --quiet");
    assert_eq!(floats(&place.bytes("m.npy")).len(), 10);
}

#[test]
fn plan_counts_invalid_rows() {
    let place = TestDir::new();
    f32s(&place, "all.npy", &spoilt(&sound(300)));
    let told: Value = serde_json::from_str(&place.ok("plan all.npy --invalid drop --json").stdout).expect("JSON");
    assert_eq!((&told["left_out"]["rows"], &told["shape"]["rows"]), (&7.into(), &300.into()));
    assert!(told["resident_bytes"].as_u64().is_some_and(|bytes| bytes >= 307 / 8));
    let text = place.ok("plan all.npy --invalid null").stdout;
    assert!(text.contains("7 of 307 rows have no coordinates"), "{text}");
}

#[test]
fn evaluate_excludes_invalid_rows() {
    let place = TestDir::new();
    let rows = sound(300);
    f32s(&place, "alone.npy", &rows);
    f32s(&place, "all.npy", &spoilt(&rows));
    place.ok("embed alone.npy -o alone-map.npy --quiet");
    place.ok("embed all.npy -o null.parquet --invalid null --quiet");
    place.ok("embed all.npy -o drop.parquet --invalid drop --quiet");
    let scores = |arguments: &str| {
        let told = place.ok(&format!("evaluate --json --quiet {arguments}")).stdout;
        serde_json::from_str::<Value>(&told).expect("JSON")
    };
    let expected = scores("--source alone.npy --map alone-map.npy");
    for arguments in [
        "--source all.npy --map null.parquet",
        "--source all.npy --map null.parquet --invalid drop",
        "--source all.npy --map drop.parquet --invalid drop",
        "--source alone.npy --map drop.parquet",
    ] {
        assert_eq!(scores(arguments)["scores"], expected["scores"], "{arguments}");
    }
    let told = scores("--source all.npy --map null.parquet --invalid drop");
    assert_eq!((&told["without_coordinates"], &told["invalid"]["rows"]), (&7.into(), &7.into()));
    place.refused("evaluate --source all.npy --map drop.parquet", &["300 rows", "307"]);
    let mut spoilt = rows.clone();
    spoilt[12] = f32::NAN;
    f32s(&place, "spoilt.npy", &spoilt);
    place.refused("evaluate --source spoilt.npy --map alone-map.npy", &["1 of 300 rows", "--invalid drop"]);
    assert_eq!(scores("--source spoilt.npy --map alone-map.npy --invalid drop")["plan"]["input"]["rows"], 299);
}

#[test]
fn evaluate_refuses_a_map_that_lacks_other_rows_than_the_source() {
    let place = TestDir::new();
    let values = sound(120);
    let dim = values.len() / 120;
    for (name, row) in [("a.npy", 3), ("b.npy", 5)] {
        let mut values = values.clone();
        values[row * dim] = f32::NAN;
        f32s(&place, name, &values);
    }
    place.ok("embed a.npy -o a.parquet --invalid drop --n-epochs 5 --quiet");
    place.ok("evaluate --source a.npy --map a.parquet --invalid drop --quiet");
    let words = ["row 3 has the id 4", "in its place is row 3", "the same rows in the same order"];
    place.refused("evaluate --source b.npy --map a.parquet --invalid drop --quiet", &words);
}

#[test]
fn numbers_far_from_0_are_moved_before_they_are_rounded() {
    let place = TestDir::new();
    // On a grid that survives the offset, so that what is left is exact.
    let rows: Vec<f64> = (0..300 * DIM).map(|i| (value(i) * 1024.0).round() / 1024.0).collect();
    let offset: Vec<f64> = rows.iter().map(|x| x + 4e8).collect();
    f64s(&place, "near.npy", &rows);
    f64s(&place, "far.npy", &offset);
    let score = |name: &str, map: &str| {
        let told = place.ok(&format!("evaluate --source {name} --map {map} --json --quiet")).stdout;
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["scores"][0]["value"].as_f64().expect("a score")
    };
    for options in ["", "--method tsne-exact --perplexity 10 --n-epochs 200", "--metric sqeuclidean --method pacmap"] {
        place.ok(&format!("embed near.npy -o near-map.npy --quiet --force {options}"));
        place.ok(&format!("embed far.npy -o far-map.npy --quiet --force --report r.json {options}"));
        // Both maps by both files' numbers: they are the same but for the offset.
        let (near, far) = (score("near.npy", "near-map.npy"), score("near.npy", "far-map.npy"));
        assert!((near - far).abs() < 0.01, "{options}: {near} and {far}");
        assert!((far - score("far.npy", "far-map.npy")).abs() < 1e-3);
        let report: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
        let shift = report["shift"].as_array().expect("a shift");
        assert!(shift.len() == DIM && shift.iter().all(|s| (s.as_f64().expect("a number") - 4e8).abs() < 64.0));
    }
    // Ordinary numbers are not moved, and cosine, whose angles would change, is not either.
    place.ok("embed near.npy -o m.npy --report r.json --quiet --force");
    assert_eq!(serde_json::from_slice::<Value>(&place.bytes("r.json")).expect("JSON")["shift"], Value::Null);
    let told = place.ok("embed far.npy -o m.npy --metric cosine --force --report r.json");
    assert!(told.stderr.contains("single precision is too coarse for component 0 (steps of"), "{}", told.stderr);
    assert!(told.stderr.contains("the scores are those of the rounded values"), "{}", told.stderr);
    assert_eq!(serde_json::from_slice::<Value>(&place.bytes("r.json")).expect("JSON")["shift"], Value::Null);
    // A file of f32 holds no more than it holds.
    let single: Vec<f32> = offset.iter().map(|&x| x as f32).collect();
    f32s(&place, "single.npy", &single);
    let told = place.ok("embed single.npy -o m.npy --force");
    assert!(told.stderr.contains("(steps of 3.2e1 near 4.000e8"), "{}", told.stderr);
    // The shift stays with the index, and the run is told by it.
    place.ok("embed far.npy -o m.npy --keep-stages index --run-dir run --quiet --force");
    let manifest: Value = serde_json::from_slice(&place.bytes("run/manifest.json")).expect("JSON");
    assert_eq!(manifest["config"]["shift"].as_array().map(Vec::len), Some(DIM));
    // With rows that are left out it is that of the others.
    let mut spoilt = offset.clone();
    spoilt.splice(0..0, [f64::NAN; DIM]);
    f64s(&place, "spoilt.npy", &spoilt);
    place.ok("embed far.npy -o far-map.npy --quiet --force");
    place.ok("embed spoilt.npy -o m.npy --invalid drop --quiet --force");
    assert!(place.bytes("m.npy") == place.bytes("far-map.npy"));
}

#[test]
fn times_and_large_integers_keep_their_differences() {
    let place = TestDir::new();
    let schema = Arc::new(Schema::new(vec![
        Field::new("t", DataType::Int64, false),
        Field::new("u", DataType::Float64, false),
        Field::new("w", DataType::Int32, false),
    ]));
    let column = |c: usize| (0..300).map(move |row| value(row * DIM + c));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(column(0).map(|x| 1_700_000_000 + (x * 10.0) as i64))),
        Arc::new(Float64Array::from_iter_values(column(1).map(|x| 1.7e9 + x * 10.0))),
        Arc::new(arrow::array::PrimitiveArray::<Int32Type>::from_iter_values(column(2).map(|x| (x * 10.0) as i32))),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("a batch");
    let file = std::fs::File::create(place.path("t.arrow")).expect("a file");
    let mut writer = FileWriter::try_new(file, &schema).expect("a writer");
    writer.write(&batch).expect("written");
    writer.finish().expect("finished");
    let told = place.ok("embed t.arrow --column t,u,w -o m.parquet --report r.json --keep t");
    assert!(!told.stderr.contains("single precision"), "{}", told.stderr);
    let report: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
    assert_eq!(report["shift"][2], 0.0);
    assert!(report["quality"]["trustworthiness"]["mean"].as_f64().is_some_and(|t| t > 0.97), "{report}");

    // Principal components: the mean is the file's, the scores those of its differences.
    place.ok("pca t.arrow --column t,u,w -o s.parquet --report p.json --n-components 2 --quiet");
    let report: Value = serde_json::from_slice(&place.bytes("p.json")).expect("JSON");
    let mean = |c: usize| report["mean"][c].as_f64().expect("a mean");
    let expected = column(1).map(|x| x * 10.0).sum::<f64>() / 300.0;
    assert!((mean(1) - 1.7e9 - expected).abs() < 1e-3, "{}", mean(1));
    assert!((mean(0) - 1.7e9).abs() < 1e3);
    let near: Vec<f64> = (0..300 * DIM).map(|i| value(i) * 10.0).collect();
    let far: Vec<f64> = near.iter().map(|x| x + 1.7e9).collect();
    f64s(&place, "near.npy", &near);
    f64s(&place, "far.npy", &far);
    place.ok("pca near.npy -o near-s.npy --quiet");
    place.ok("pca far.npy -o far-s.npy --quiet");
    let (near, far) = (floats(&place.bytes("near-s.npy")), floats(&place.bytes("far-s.npy")));
    let largest = near.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(near.iter().zip(&far).all(|(a, b)| (a - b).abs() < 2e-6 * largest));
}
