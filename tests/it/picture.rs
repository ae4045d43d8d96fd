//! `plot`, and what else draws or scores a map of any table: which columns are
//! the map, what has no position, how columns become colours.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Int8Type};
use arrow::ipc::writer::FileWriter;

use crate::harness::TestDir;

fn write(place: &TestDir, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("a batch");
    let file = std::fs::File::create(place.path(name)).expect("a file");
    let mut writer = FileWriter::try_new(file, &batch.schema()).expect("a writer");
    writer.write(&batch).expect("written");
    writer.finish().expect("finished");
}

/// A circle of `rows` points.
fn circle(rows: usize) -> [Vec<f64>; 2] {
    let turn = |i: usize| i as f64 / rows as f64 * std::f64::consts::TAU;
    [(0..rows).map(|i| turn(i).cos()).collect(), (0..rows).map(|i| turn(i).sin()).collect()]
}

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

/// The picture of `name`, drawn with `options`.
fn drawn(place: &TestDir, name: &str, options: &str) -> (Vec<u8>, String) {
    let told = place.ok(&format!("plot {name} -o p.png --force {options}")).stderr;
    (place.bytes("p.png"), told)
}

#[test]
fn the_map_is_in_the_columns_that_have_its_names_or_are_named() {
    let place = TestDir::new();
    let [x, y] = circle(50);
    let noise: ArrayRef = Arc::new(Float32Array::from_iter_values((0..50).map(|i| (i * i % 17) as f32)));
    write(&place, "plain.arrow", vec![("x", floats(&x)), ("y", floats(&y))]);
    let (plain, told) = drawn(&place, "plain.arrow", "");
    assert_eq!(told, "");
    // Floats before them, and other types of numbers, change nothing.
    let whole = |v: &[f64]| -> Vec<i64> { v.iter().map(|v| (v * 1e4).round() as i64).collect() };
    let (wx, wy) = (whole(&x), whole(&y));
    let scaled = |v: &[i64]| floats(&v.iter().map(|&v| v as f64).collect::<Vec<_>>());
    write(&place, "scaled.arrow", vec![("x", scaled(&wx)), ("y", scaled(&wy))]);
    let (expected, _) = drawn(&place, "scaled.arrow", "");
    let short: ArrayRef = Arc::new(Int32Array::from_iter_values(wx.iter().map(|&v| v as i32)));
    let long: ArrayRef = Arc::new(Int64Array::from(wy.clone()));
    write(
        &place,
        "whole.arrow",
        vec![("score", noise.clone()), ("prob", noise.clone()), ("x", short.clone()), ("y", long.clone())],
    );
    assert!(drawn(&place, "whole.arrow", "").0 == expected);
    let decimals = Decimal128Array::from_iter_values(wx.iter().map(|&v| i128::from(v)));
    let decimals: ArrayRef = Arc::new(decimals.with_precision_and_scale(9, 0).expect("decimals"));
    write(
        &place,
        "named.arrow",
        vec![("score", noise.clone()), ("u_x", decimals), ("prob", noise.clone()), ("u_y", long)],
    );
    assert!(drawn(&place, "named.arrow", "--coordinates u_x,u_y").0 == expected);
    write(
        &place,
        "c.arrow",
        vec![("score", noise.clone()), ("c0", floats(&x)), ("c1", floats(&y)), ("c2", noise.clone())],
    );
    let (many, told) = drawn(&place, "c.arrow", "");
    assert!(many == plain);
    assert!(told.contains("first two of 3 components"), "{told}");
    // Offsets that f32 cannot hold change nothing but rounding.
    let far = |v: &[f64]| floats(&v.iter().map(|v| v + 1e9).collect::<Vec<_>>());
    write(&place, "far.arrow", vec![("x", far(&x)), ("y", far(&y))]);
    let inked = |bytes: &[u8]| {
        image::load_from_memory(bytes).expect("a picture").to_rgb8().pixels().filter(|p| p.0 != [255; 3]).count()
    };
    let (far, _) = drawn(&place, "far.arrow", "");
    assert!(inked(&far).abs_diff(inked(&plain)) < inked(&plain) / 50);

    let table = vec![("score", noise.clone()), ("prob", noise), ("umap_x", floats(&x)), ("umap_y", floats(&y))];
    write(&place, "table.arrow", table);
    let words = ["\"score\", \"prob\", \"umap_x\", \"umap_y\"", "most likely --coordinates umap_x,umap_y"];
    place.refused("plot table.arrow -o q.png", &words);
    place.refused("evaluate --map table.arrow --labels score", &words);
    place.refused("plot table.arrow -o q.png --coordinates umap_x", &["two coordinates"]);
    place.refused("plot table.arrow -o q.png --coordinates umap_x,z", &["no column \"z\""]);
    assert!(drawn(&place, "table.arrow", "--coordinates umap_x,umap_y").0 == plain);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"; 50]));
    write(&place, "texts.arrow", vec![("x", texts.clone()), ("y", texts)]);
    place.refused("plot texts.arrow -o q.png", &["no coordinates", "--coordinates"]);
}

#[test]
fn rows_without_a_position_are_left_out_and_counted() {
    let place = TestDir::new();
    let [x, y] = circle(40);
    write(&place, "whole.arrow", vec![("x", floats(&x)), ("y", floats(&y))]);
    let some: Vec<Option<f64>> = x.iter().copied().map(Some).chain([None, Some(f64::NAN), Some(1e300)]).collect();
    let mut other = y.clone();
    other.extend([0.0, 0.0, f64::INFINITY]);
    write(&place, "holes.arrow", vec![("x", Arc::new(Float64Array::from(some))), ("y", floats(&other))]);
    let bare = "--width 299 --height 199";
    let (holes, told) = drawn(&place, "holes.arrow", bare);
    assert!(told.contains("3 of 43 rows have no position") && told.lines().count() == 1, "{told}");
    assert!(holes == drawn(&place, "whole.arrow", bare).0);
    let (_, told) = drawn(&place, "holes.arrow", "--quiet");
    assert_eq!(told, "");
    let (_, told) = drawn(&place, "holes.arrow", "--log-format json");
    assert!(told.starts_with("{\"event\":\"note\""), "{told}");
}

/// The colours that points have, whatever their shade.
fn colors(place: &TestDir, options: &str) -> std::collections::BTreeSet<[u8; 3]> {
    let (bytes, _) = drawn(place, "m.arrow", &format!("{options} --width 299 --height 199"));
    image::load_from_memory(&bytes).expect("a picture").to_rgb8().pixels().map(|p| p.0).collect()
}

#[test]
fn columns_of_any_type_colour_and_the_rest_are_refused() {
    let place = TestDir::new();
    let rows = 600;
    let [x, y] = circle(rows);
    let n = || 0..rows as i64;
    let at = 1_714_521_600;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", floats(&x)),
        ("y", floats(&y)),
        ("linear", Arc::new(Int32Array::from_iter_values(0..rows as i32))),
        ("second", Arc::new(TimestampMillisecondArray::from_iter_values(n().map(|i| at * 1000 + i * 100)))),
        (
            "zoned",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(n().map(|i| at * 1_000_000 + i))
                    .with_timezone("Europe/Berlin"),
            ),
        ),
        ("float", floats(&n().map(|i| at as f64 + i as f64 / 10.0).collect::<Vec<_>>())),
        ("id", Arc::new(UInt64Array::from_iter_values(n().map(|i| (1 << 60) + i as u64)))),
        ("date", Arc::new(Date32Array::from_iter_values(19_000..19_000 + rows as i32))),
        ("decimal", Arc::new(Decimal128Array::from_iter_values(n().map(|i| 10i128.pow(30) + i128::from(i))))),
        ("took", Arc::new(DurationSecondArray::from_iter_values(n()))),
        ("bool", Arc::new(BooleanArray::from_iter(n().map(|i| (i % 3 > 0).then_some(i % 2 == 0))))),
        ("coded", Arc::new(n().map(|i| ["a", "b", "c"][i as usize % 3]).collect::<DictionaryArray<Int8Type>>())),
        ("none", Arc::new(NullArray::new(rows))),
        ("blob", Arc::new(BinaryArray::from_iter_values(n().map(|i| i.to_le_bytes())))),
        ("cjk", Arc::new(StringArray::from_iter_values(n().map(|i| ["漢字", "日本語", "Latin"][i as usize % 3])))),
    ];
    write(&place, "m.arrow", columns);
    let linear = colors(&place, "--color linear");
    assert!(linear.len() > 300, "{}", linear.len());
    for column in ["second", "zoned", "float", "id", "date", "decimal", "took"] {
        let seen = colors(&place, &format!("--color {column}"));
        assert!(seen.len() > linear.len() * 9 / 10, "{column}: {} colours for {}", seen.len(), linear.len());
    }
    for column in ["bool", "coded", "none"] {
        place.ok(&format!("plot m.arrow -o p.png --force --color {column}"));
    }
    place.refused("plot m.arrow -o q.png --color blob", &["m.arrow", "\"blob\"", "Binary"]);
    place.refused("plot m.arrow -o q.png --color nothing", &["no column \"nothing\""]);
    let told = drawn(&place, "m.arrow", "--color cjk").1;
    assert!(told.contains("2 texts beside the picture have characters") && told.lines().count() == 1, "{told}");
    let told = drawn(&place, "m.arrow", "--color coded --title 漢").1;
    assert!(told.contains("1 text beside the picture has characters"), "{told}");
    assert_eq!(drawn(&place, "m.arrow", "--color coded").1, "");
}

#[test]
fn embed_refuses_a_column_without_colours_before_it_runs() {
    let place = TestDir::new();
    let vectors = FixedSizeListArray::from_iter_primitive::<arrow::datatypes::Float32Type, _, _>(
        (0..40).map(|i| Some((0..3).map(move |j| Some((i * j % 7) as f32)))),
        3,
    );
    let blobs: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..40u32).map(u32::to_le_bytes)));
    assert_eq!(blobs.data_type(), &DataType::Binary);
    write(&place, "v.arrow", vec![("v", Arc::new(vectors)), ("blob", blobs)]);
    place.refused("embed v.arrow -o m.parquet --plot p.png --color blob", &["\"blob\"", "Binary", "neither"]);
}

#[test]
fn maps_of_any_extent_are_drawn() {
    let place = TestDir::new();
    for (what, x) in [
        ("one", vec![3.0]),
        ("two", vec![-1e300, 1e300]),
        ("equal", vec![7.5; 100]),
        ("huge", vec![f64::MAX, -f64::MAX, 0.0]),
        ("tiny", vec![0.0, 1e-300, 2e-300]),
        ("far", vec![4e6, 4e6 + 1e-3, 4e6 + 2e-3]),
        ("nothing", vec![f64::NAN; 3]),
    ] {
        write(&place, "m.arrow", vec![("x", floats(&x)), ("y", floats(&x))]);
        let told = place.ok("plot m.arrow -o p.png --force --color x").stderr;
        assert_eq!(told.contains("have no position"), what == "nothing", "{what}: {told}");
    }
}
