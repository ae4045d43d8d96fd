//! Columns that pass through: what they are over several files, in every
//! output, and that nothing is refused for them after a stage has run.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, Float32Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, NullArray, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampSecondArray, UInt8Array, UnionArray,
};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema, UInt8Type, UnionFields};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;

use crate::harness::{TestDir, fixture, rows_of};

const ROWS: usize = 60;
const RUN: &str = "--n-epochs 5 --threads 1 --quiet";

/// Writes a file of vectors beside columns.
fn file(place: &Path, name: &str, columns: &[(&str, ArrayRef)]) {
    let rows = columns.first().map_or(ROWS, |(_, column)| column.len());
    let value = |i: usize| ((i * 7919 + name.len()) % 997) as f32 / 100.0;
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from_iter_values((0..4 * rows).map(value)));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 4, values, None));
    let all = [("v", vectors)].into_iter().chain(columns.iter().cloned());
    let batch = RecordBatch::try_from_iter_with_nullable(all.map(|(name, c)| (name, c, true))).expect("a batch");
    let path = place.join(name);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    let mut writer = FileWriter::try_new(std::fs::File::create(path).expect("a file"), &batch.schema()).expect("begun");
    writer.write(&batch).expect("written");
    writer.finish().expect("finished");
}

/// Two files `d/0.arrow`, `d/1.arrow` with a column `c` each, or without.
fn two(first: Option<ArrayRef>, second: Option<ArrayRef>) -> TestDir {
    let place = TestDir::new();
    for (name, column) in [("d/0.arrow", first), ("d/1.arrow", second)] {
        let columns: Vec<(&str, ArrayRef)> = column.map(|column| ("c", column)).into_iter().collect();
        file(&place.path("."), name, &columns);
    }
    place
}

fn texts(what: &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(|i| format!("{what} {}", i % 3))))
}

fn ints() -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(0..ROWS as i32))
}

/// Categories of one file, more over three files than keys of a byte can tell.
fn categories(file: usize) -> ArrayRef {
    let values = StringViewArray::from_iter_values((0..100).map(|i| format!("file {file} has category {i}")));
    let keys = UInt8Array::from_iter_values((0..ROWS).map(|i| (i % 100) as u8));
    Arc::new(DictionaryArray::<UInt8Type>::new(keys, Arc::new(values)))
}

#[test]
fn column_types_that_differ_are_refused_before_any_work() {
    let zoned: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0; ROWS]).with_timezone("UTC"));
    let naive: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0; ROWS]));
    let late = TimestampSecondArray::from_iter_values((0..ROWS).map(|i| if i == 7 { i64::MAX } else { 0 }));
    let late: ArrayRef = Arc::new(late);
    for (first, second, words) in [
        (texts("a"), None, &["1.arrow: no column \"c\"", "0.arrow"][..]),
        (texts("a"), Some(ints()), &["1.arrow: column \"c\" is Int32, but Utf8 in", "0.arrow"]),
        (zoned, Some(naive.clone()), &["1.arrow: column \"c\" is Timestamp(µs), but Timestamp(µs, \"UTC\") in"]),
        (naive, Some(late), &["1.arrow: row 7: column \"c\""]),
    ] {
        let place = two(Some(first), second);
        for command in [
            format!("embed d -o map.parquet --keep c {RUN}"),
            format!("embed d -o map.parquet --id c {RUN}"),
            format!("embed d -o map.npy --plot map.png --color c {RUN}"),
            "pca d -o scores.arrow --keep c --n-components 2 --quiet".into(),
        ] {
            place.refused(&command, words);
        }
        place.ok(&format!("embed d -o map.npy {RUN}"));
        place.refused("evaluate --source d --map map.npy --labels c --quiet", words);
    }
}

#[test]
fn column_types_are_unified_over_files() {
    let long: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|i| i << 33)));
    let nulls: ArrayRef = Arc::new(NullArray::new(ROWS));
    for (first, second, row, other) in [
        (ints(), long, "1", (1i64 << 33).to_string()),
        (nulls.clone(), texts("b"), "null", "b 1".into()),
        (texts("a"), nulls, "a 1", "null".into()),
    ] {
        let place = two(Some(first), Some(second));
        for output in ["map.parquet", "map.arrow"] {
            place.ok(&format!("embed d -o {output} --keep c {RUN}"));
            let (_, rows) = rows_of(&place.path(output), "x,y");
            assert_eq!(rows.len(), 2 * ROWS);
            assert_eq!((&rows[1][1], &rows[ROWS + 1][1]), (&row.to_string(), &other));
        }
    }
}

#[test]
fn categories_over_many_files_keep_the_values_of_their_rows() {
    let place = TestDir::new();
    for i in 0..3 {
        file(&place.path("."), &format!("d/{i}.arrow"), &[("c", categories(i))]);
    }
    let expected: Vec<String> = (0..3 * ROWS).map(|i| format!("file {} has category {}", i / ROWS, i % ROWS)).collect();
    for output in ["map.parquet", "map.arrow"] {
        place.ok(&format!("embed d -o {output} --keep c {RUN}"));
        let (_, rows) = rows_of(&place.path(output), "x,y");
        assert_eq!(rows.into_iter().map(|row| row[1].clone()).collect::<Vec<_>>(), expected, "{output}");
        let source = lowland::open(&[place.path(output).to_string_lossy()], Some("x,y")).expect("a map");
        let kind = source.column_schema(&["c".into()]).expect("a column").field(0).data_type().clone();
        assert!(matches!(kind, DataType::Dictionary(..)), "{output}: {kind}");
    }
    place.ok(&format!("embed d -o ids.parquet --id c --plot map.png --color c {RUN}"));
    assert_eq!(rows_of(&place.path("ids.parquet"), "x,y").1[ROWS][0], expected[ROWS]);
    place.ok("pca d -o scores.parquet --keep c --n-components 2 --quiet");
    assert_eq!(rows_of(&place.path("scores.parquet"), "x,y").1[ROWS][1], expected[ROWS]);
    place.ok("evaluate --source d --map map.parquet --labels c --quiet");
    place.ok("plot map.arrow -o plot.png --color c --quiet");
}

/// Writes a file of vectors beside categories `c` in an order, some of which no row has.
fn in_order(place: &TestDir, name: &str, values: &[&str], key: impl Fn(usize) -> u8) {
    let keys = UInt8Array::from_iter_values((0..ROWS).map(key));
    let dictionary = DictionaryArray::<UInt8Type>::new(keys, Arc::new(StringArray::from_iter_values(values)));
    let field = Field::new("c", dictionary.data_type().clone(), true).with_dict_is_ordered(true);
    let vectors = Float32Array::from_iter_values((0..2 * ROWS).map(|i| (i * 7919 % 997) as f32));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors = FixedSizeListArray::new(item, 2, Arc::new(vectors), None);
    let schema = Arc::new(Schema::new(vec![Field::new("v", vectors.data_type().clone(), true), field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(vectors), Arc::new(dictionary)]).expect("a batch");
    let file = std::fs::File::create(place.path(name)).expect("a file");
    let mut writer = FileWriter::try_new(file, &schema).expect("begun");
    writer.write(&batch).expect("written");
    writer.finish().expect("finished");
}

#[test]
fn categories_in_an_order_keep_it_or_it_is_told_that_they_do_not() {
    let place = TestDir::new();
    // In an order that is neither that of the rows nor that of the alphabet.
    in_order(&place, "all.arrow", &["none", "low", "mid", "high"], |i| 3 - (i % 3) as u8);
    in_order(&place, "some.arrow", &["low", "high"], |i| 1 - (i % 2) as u8);
    in_order(&place, "other.arrow", &["high", "low"], |i| (i % 2) as u8);
    let kept = |name: &str| {
        let file = std::fs::File::open(place.path(name)).expect("a file");
        let mut reader = FileReader::try_new(file, None).expect("Arrow");
        let ordered = reader.schema().field_with_name("c").expect("a column").dict_is_ordered();
        let batch = reader.next().expect("a batch").expect("read");
        let column = batch.column_by_name("c").expect("a column").clone();
        let values = column.as_any_dictionary_opt().expect("a dictionary").values().clone();
        let texts = arrow::compute::cast(&values, &DataType::Utf8).expect("texts");
        let texts: Vec<String> = texts.as_string::<i32>().iter().flatten().map(String::from).collect();
        (ordered, texts.join(" "))
    };
    let lost = "column \"c\": the order of its categories is not kept: ";
    for (sources, values) in [("all.arrow", "none low mid high"), ("some.arrow all.arrow", "none low mid high")] {
        for command in [format!("embed {sources} -o m.arrow --keep c"), format!("pca {sources} -o m.arrow --keep c")] {
            let told = place.ok(&format!("{command} --force")).stderr;
            assert!(!told.contains(lost), "{told}");
            assert_eq!(kept("m.arrow"), (Some(true), values.to_string()), "{command}");
            assert_eq!(rows_of(&place.path("m.arrow"), "x,y").1[0][1], "high");
        }
    }
    for (sources, output, why) in [
        ("some.arrow other.arrow", "m.arrow", "have different orders"),
        ("all.arrow", "m.parquet", "Parquet cannot store it; .arrow can"),
    ] {
        let told = place.ok(&format!("embed {sources} -o {output} --keep c --force --report r.json")).stderr;
        assert_eq!(told.matches(lost).count(), 1, "{told}");
        assert!(told.contains(why), "{told}");
        let report: serde_json::Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
        let notes = report["notes"].as_array().expect("notes");
        assert!(notes.iter().any(|note| note["kind"] == "categories-without-order"), "{report:#}");
    }
    assert_eq!(kept("m.arrow").0, Some(false));
}

/// What types do not tell: that a column's bytes cannot be decoded is found at its first row.
#[test]
fn a_column_that_cannot_be_decoded_is_refused_before_any_work() {
    let place = TestDir::new();
    let encrypted = fixture("bad_encrypted_column.parquet");
    let words = ["bad_encrypted_column.parquet", "cannot be decoded"];
    for output in ["m.parquet", "m.arrow"] {
        place.refused(&format!("embed {encrypted} -o {output} --keep name {RUN}"), &words);
        place.refused(&format!("pca {encrypted} -o {output} --id name --quiet"), &words);
    }
    place.refused(&format!("embed {encrypted} -o m.npy --plot m.png --color name {RUN}"), &words);
    place.ok(&format!("embed {encrypted} -o m.parquet --id id {RUN}"));
}

/// Every column that DuckDB writes, in a map of each format and in a map of that map.
#[test]
fn columns_of_duckdb_come_out_of_maps_as_they_went_in() {
    let place = TestDir::new();
    let fixture = fixture("duckdb_columns.parquet");
    let source = lowland::open(std::slice::from_ref(&fixture), Some("v")).expect("the fixture");
    let names: Vec<String> = source.columns().into_iter().filter(|name| name != "v").collect();
    let rows = source.shape().rows as usize;
    let expected = source.read_columns(&names, 0, rows).expect("columns");
    let schema = source.column_schema(&names).expect("a schema");
    let keep = names.join(",");
    place.ok(&format!("embed {fixture} --column v -o a.parquet --keep {keep} {RUN}"));
    place.ok(&format!("embed {fixture} --column v -o a.arrow --keep {keep} {RUN}"));
    place.ok(&format!("embed a.arrow --column x,y -o b.parquet --keep {keep} --coordinates u,v {RUN}"));
    place.ok(&format!("embed a.parquet --column x,y -o b.arrow --keep {keep} --coordinates u,v {RUN}"));
    for (map, coordinates) in [("a.parquet", "x,y"), ("a.arrow", "x,y"), ("b.parquet", "u,v"), ("b.arrow", "u,v")] {
        let found = lowland::open(&[place.path(map).to_string_lossy()], Some(coordinates)).expect("a map");
        assert_eq!(found.column_schema(&names).expect("a schema").fields(), schema.fields(), "{map}");
        assert_eq!(found.read_columns(&names, 0, rows).expect("columns").columns(), expected.columns(), "{map}");
    }
}

#[test]
fn a_column_that_the_output_has_itself_is_refused_with_the_option_that_takes_it() {
    let place = TestDir::new();
    file(&place.path("."), "a.arrow", &[("id", ints()), ("b", texts("b"))]);
    for command in
        [format!("embed a.arrow -o m.parquet --force {RUN}"), "pca a.arrow -o m.parquet --force --quiet".into()]
    {
        place.run(&format!("{command} --keep b,id")).refused(&command, &["--keep: ", "row numbers", "--id id"]);
        let told = place.run(&format!("{command} --keep b,id --id id"));
        told.refused(&command, &["--keep: ", "\"id\" is written already"]);
        place.ok(&format!("{command} --keep b --id id"));
        place.ok(&format!("{command} --keep id --id b"));
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused_before_any_work() {
    let interval = IntervalMonthDayNano { months: 1, days: 2, nanoseconds: 3 };
    let intervals: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![interval; ROWS]));
    let kinds = UnionFields::try_new([0], [Field::new("a", DataType::Utf8, true)]).expect("kinds");
    let union = UnionArray::try_new(kinds, vec![0i8; ROWS].into(), None, vec![texts("a")]).expect("a union");
    for (column, words) in [
        (intervals, ["row 0: column \"c\"", "write .arrow"]),
        (Arc::new(union) as ArrayRef, ["Parquet cannot hold column \"c\"", "write .arrow"]),
    ] {
        let place = TestDir::new();
        file(&place.path("."), "a.arrow", &[("c", column)]);
        place.refused(&format!("embed a.arrow -o map.parquet --keep c {RUN}"), &words);
        place.refused("pca a.arrow -o scores.parquet --keep c --n-components 2 --quiet", &words);
        place.refused(&format!("embed a.arrow -o map.npy --plot map.png --color c {RUN}"), &["\"c\""]);
        place.ok(&format!("embed a.arrow -o map.arrow --keep c {RUN}"));
    }
}

#[test]
fn names_with_commas_and_the_names_of_the_coordinates() {
    let place = TestDir::new();
    let columns = [("x", ints()), ("y", texts("y")), ("o.t,h", texts("o")), ("b", texts("b"))];
    file(&place.path("."), "a.arrow", &columns);
    let run = |given: &[&str]| {
        let mut command = place.command(&format!("embed a.arrow --column v --force {RUN} -o map.parquet"));
        command.args(given);
        crate::harness::answer(command)
    };
    let names =
        || lowland::open(&[place.path("map.parquet").to_string_lossy()], Some("umap_x,umap_y")).map(|s| s.columns());
    run(&["--keep", "x,y"]).refused("--keep x,y", &["--coordinates: ", "\"x\"", "umap_x,umap_y"]);
    run(&["--coordinates", "a,b,c"]).refused("three", &["--coordinates: 3 names for 2 components"]);
    run(&["--keep", "b", "--coordinates", "a,b"]).refused("b", &["--coordinates: ", "\"b\""]);
    let given = ["--coordinates", "umap_x,umap_y", "--keep", "x,y", "--keep", "o.t,h", "--id", "b"];
    let answer = run(&given);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert_eq!(names().expect("a map"), ["b", "umap_x", "umap_y", "x", "y", "o.t,h"]);
    let answer = run(&["--coordinates", "umap_x,umap_y", "--keep", "b,\"o.t,h\""]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert_eq!(names().expect("a map"), ["id", "umap_x", "umap_y", "b", "o.t,h"]);
    run(&["--keep", "\"b"]).refused("a quote", &["--keep: a quote is not closed"]);

    let answer =
        place.run("pca a.arrow --column v -o scores.parquet --n-components 2 --quiet --keep x --coordinates p,q");
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let scores = lowland::open(&[place.path("scores.parquet").to_string_lossy()], Some("p,q")).expect("scores");
    assert_eq!(scores.columns(), ["id", "p", "q", "x"]);
}

#[test]
fn outputs_that_are_links_are_written_through() {
    let place = TestDir::new();
    place.vectors("in.npy", 60);
    std::fs::create_dir(place.path("far")).expect("made");
    for name in ["map.parquet", "map.png", "report.json", "graph.arrow", "scores.parquet"] {
        symlink(format!("far/{name}"), place.path(name)).expect("a link");
    }
    let linked = |name: &str| {
        let link = std::fs::symlink_metadata(place.path(name)).expect("there");
        let file = std::fs::symlink_metadata(place.path(&format!("far/{name}")));
        link.is_symlink() && file.is_ok_and(|file| file.is_file())
    };
    // Links to nothing are no files that would be replaced.
    place.ok(&format!("embed in.npy -o map.parquet --plot map.png --report report.json {RUN}"));
    place.ok("knn in.npy -o graph.arrow --quiet");
    place.ok("pca in.npy -o scores.parquet --n-components 2 --quiet");
    for name in ["map.parquet", "map.png", "report.json", "graph.arrow", "scores.parquet"] {
        assert!(linked(name), "{name}");
    }
    let before = place.bytes("far/map.parquet");
    place.refused(&format!("embed in.npy -o map.parquet {RUN}"), &["map.parquet: already exists", "--force"]);
    place.ok(&format!("embed in.npy -o map.parquet --seed 5 --force {RUN}"));
    assert!(linked("map.parquet") && place.bytes("far/map.parquet") != before);
    place.ok("plot map.parquet -o map.png --force --quiet");
    assert!(linked("map.png"));
    symlink("nowhere/map.npy", place.path("map.npy")).expect("a link");
    place.refused(&format!("embed in.npy -o map.npy {RUN}"), &["map.npy: its directory", "nowhere"]);
}
