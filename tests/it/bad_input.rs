//! What cannot be done is refused with exit code 2, in one line that names the
//! place and the way out, and leaves nothing behind.

use crate::harness::{TestDir, fixture, skipped};

#[test]
fn bad_files() {
    let place = TestDir::new();
    for (name, words) in [
        ("bad_complex.npy", &["complex", "astype"][..]),
        ("bad_twice.npy", &["a second array", "a file of its own"]),
        ("bad_twice.parquet", &["two columns are named \"v\"", "rename"]),
        ("bad_one_dimension.npy", &["one-dimensional", "reshape"]),
        ("bad_three_dimensions.npy", &["3 dimensions", "reshape"]),
        ("bad_structured.npy", &["structured"]),
        ("bad_no_rows.parquet", &["no rows"]),
        ("bad_no_vectors.parquet", &["no column holds vectors", "\"id: Int64\"", "--column"]),
        ("bad_two_columns.parquet", &["\"v\", \"w\"", "--column"]),
        ("bad_null_list.parquet", &["row 6", "null", "\"v\"", "--invalid drop"]),
        ("bad_null_list.arrow", &["row 6", "null", "\"v\"", "--invalid drop"]),
        ("bad_null_component.parquet", &["row 8", "null", "\"v\""]),
        ("bad_null_component.arrow", &["row 8", "null", "\"v\""]),
        ("bad_ragged.parquet", &["row 5", "2 components", "4"]),
        ("bad_ragged.arrow", &["row 5", "2 components", "4"]),
    ] {
        let file = fixture(name);
        let words: Vec<&str> = [file.as_str()].iter().chain(words).copied().collect();
        place.refused(&format!("embed {file} -o m.parquet --n-neighbors 3"), &words);
        place.refused(&format!("knn {file} -o g.arrow --n-neighbors 3"), &words);
    }
    for name in ["bad_null_number.parquet", "bad_null_number.arrow"] {
        let file = fixture(name);
        place.refused(&format!("embed {file} --column x,y -o m.parquet --n-neighbors 2"), &["row 2", "null", "\"x\""]);
    }
}

#[test]
fn columns_that_need_a_path_or_a_word() {
    let place = TestDir::new();
    let file = fixture("pyarrow_clothes.parquet");
    place.refused(&format!("embed {file} --column binary -o m.npy"), &["\"binary\"", "--column 'binary:f32'"]);
    place.refused(&format!("embed {file} --column struct -o m.npy"), &["\"struct\"", "--column 'struct.values'"]);
    place.refused(
        &format!("embed {} -o m.npy --n-neighbors 3", fixture("bad_sparse.parquet")),
        &["row 4", "vector_to_array"],
    );
    let embed = |column: &str| {
        place.ok(&format!("embed {file} --column {column} -o m.npy --force --n-neighbors 3 --n-epochs 5 --quiet"));
        place.bytes("m.npy")
    };
    let map = embed("nested");
    for column in ["struct.values", "spark", "binary:f32", "decimal"] {
        assert!(embed(column) == map, "{column}");
    }
}

#[test]
fn files_that_are_not_there_or_cut_short() {
    let place = TestDir::new();
    place.refused("embed nothing.parquet -o m.parquet", &["nothing.parquet", "no such file"]);
    place.refused("embed no*.parquet -o m.parquet", &["no*.parquet", "no file matches"]);
    std::fs::create_dir(place.path("empty")).expect("a directory");
    place.refused("embed empty -o m.parquet", &["empty", ".parquet"]);
    std::fs::write(place.path("text.parquet"), "not a table").expect("written");
    place.refused("embed text.parquet -o m.parquet", &["text.parquet", "no known format"]);
    std::fs::write(place.path("zero.parquet"), "").expect("written");
    place.refused("embed zero.parquet -o m.parquet", &["zero.parquet", "0 bytes"]);
    for name in ["v.parquet", "v.arrow", "v.npy"] {
        place.vectors(name, 500);
        let bytes = place.bytes(name);
        for keep in [10, bytes.len() / 2, bytes.len() - 3] {
            std::fs::write(place.path(name), &bytes[..keep]).expect("written");
            place.refused(&format!("embed {name} -o m.parquet"), &[name]);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let place = TestDir::new();
    place.vectors("v.npy", 100);
    std::fs::set_permissions(place.path("v.npy"), std::fs::Permissions::from_mode(0o000)).expect("permissions");
    if std::fs::read(place.path("v.npy")).is_ok() {
        skipped("this user may read everything");
        return;
    }
    place.refused("embed v.npy -o m.npy", &["v.npy", "cannot open"]);
}

/// An .npy of `rows` × 2 that `value` fills.
pub(crate) fn npy(place: &TestDir, name: &str, rows: usize, dim: usize, value: impl Fn(usize) -> f32) {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes.extend((0..rows * dim).flat_map(|i| value(i).to_le_bytes()));
    std::fs::write(place.path(name), bytes).expect("written");
}

#[test]
fn bad_numbers() {
    let place = TestDir::new();
    let spoilt = |at: usize, by: f32| move |i: usize| if i == at { by } else { (i as f32 * 0.37).sin() };
    npy(&place, "nan.npy", 100, 2, spoilt(41, f32::NAN));
    place.refused("embed nan.npy -o m.npy", &["nan.npy", "row 20", "component 1", "NaN", "--invalid drop"]);
    npy(&place, "inf.npy", 100, 2, spoilt(6, f32::NEG_INFINITY));
    place.refused("embed inf.npy -o m.npy", &["inf.npy", "row 3", "component 0", "-inf"]);
    place.refused("embed inf.npy nan.npy -o m.npy", &["inf.npy", "row 3"]);
    let header = b"\x93NUMPY\x01\x00\x3d\x00{'descr': '<f8', 'fortran_order': False, 'shape': (20, 2), }\n";
    let numbers = (0..40).map(|i| if i == 7 { 1e39 } else { f64::from(i) });
    let bytes = header.iter().copied().chain(numbers.flat_map(f64::to_le_bytes)).collect::<Vec<u8>>();
    std::fs::write(place.path("large.npy"), bytes).expect("written");
    place.refused("embed large.npy -o m.npy", &["large.npy", "row 3", "component 1 is 1e39, beyond single precision"]);
    npy(&place, "equal.npy", 100, 2, |_| 3.5);
    place.refused("embed equal.npy -o m.npy", &["all 100 rows are equal"]);
    npy(&place, "none.npy", 0, 2, |_| 0.0);
    place.refused("embed none.npy -o m.npy", &["none.npy", "no rows"]);
    npy(&place, "one.npy", 1, 2, |_| 0.0);
    place.refused("embed one.npy -o m.npy", &["1 row", "at least 2"]);
    npy(&place, "few.npy", 15, 2, |i| i as f32);
    place.refused("embed few.npy -o m.npy --n-neighbors 15", &["--n-neighbors", "15 neighbours", "the maximum is 14"]);
    npy(&place, "wide.npy", 15, 3, |i| i as f32);
    place.refused("embed few.npy wide.npy -o m.npy", &["wide.npy", "3 components", "few.npy has 2"]);
    // The least that is a map.
    npy(&place, "least.npy", 3, 2, |i| (i * i) as f32);
    place.ok("embed least.npy -o least-map.npy --n-neighbors 2 --quiet");
}

#[test]
fn bad_options() {
    let place = TestDir::new();
    place.vectors("v.parquet", 500);
    place.vectors("v.npy", 500);
    for (options, words) in [
        ("--n-components 17", &["--n-components", "17", "16 components"][..]),
        ("--n-components 0", &["--n-components"]),
        ("--min-dist 2", &["--min-dist", "spread"]),
        ("--min-dist nan", &["--min-dist"]),
        ("--spread 0", &["--spread"]),
        ("--recall 0", &["--recall"]),
        ("--learning-rate 0", &["--learning-rate"]),
        ("--negative-sample-rate 0", &["--negative-sample-rate"]),
        ("--n-epochs 0", &["--n-epochs"]),
        ("--threads 0", &["--threads"]),
        ("--batch-rows 0", &["--batch-rows"]),
        ("--n-neighbors 1", &["--n-neighbors"]),
        ("--n-neighbors 500", &["--n-neighbors", "the maximum is 499"]),
        ("--memory 1MiB", &["--memory", "too small", "smallest sufficient budget"]),
        ("--column nothing", &["v.parquet", "\"nothing\"", "\"embedding\""]),
        ("--column label*x", &["v.parquet", "label*x"]),
        ("--keep label,nothing", &["v.parquet", "\"nothing\"", "\"label\""]),
        ("--id nothing", &["v.parquet", "\"nothing\""]),
        ("--plot m.png --color nothing", &["v.parquet", "\"nothing\""]),
        ("--plot m.jpg", &["m.jpg", ".png"]),
        ("--plot m.png --n-components 1", &["--plot", "--n-components"]),
        ("--plot no/m.png", &["no/m.png", "directory"]),
        ("--report no/r.json", &["no/r.json", "directory"]),
        ("--report m.parquet", &["--report"]),
        ("--init nothing.npy", &["nothing.npy"]),
        ("--init v.npy", &["--init", "500 × 16", "500 × 2"]),
        ("--keep id", &["\"id\"", "--id id"]),
    ] {
        place.refused(&format!("embed v.parquet -o m.parquet {options}"), words);
    }
    place.refused("embed v.npy -o m.npy --keep label", &["v.npy", "\"label\""]);
    place.refused("embed v.parquet -o m.npy --keep label", &["m.npy", "coordinates only", ".parquet"]);
    place.refused("embed v.parquet -o m.csv", &["m.csv", ".parquet, .arrow or .npy"]);
    place.refused("embed v.parquet -o no/m.npy", &["no/m.npy", "create it first"]);
    place.refused("embed v.parquet - -o m.npy", &["standard input", "empty"]);
    place.refused("embed v.npy ./v.npy -o m.npy", &["./v.npy", "named twice", "v.npy"]);
    place.refused("embed - /dev/fd/0 -o m.npy", &["standard input", "named twice"]);
    place.refused("embed v.npy -o s3://bucket/m.npy", &["s3://bucket/m.npy", "outputs are written to local files"]);
    place.refused("embed hf://datasets/v.npy -o m.npy", &["hf://datasets/v.npy", "is not supported", "s3://"]);
    place.refused("embed v.npy -o v.npy --force", &["v.npy", "also an input"]);
    place.refused("knn v.npy -o g.csv", &["g.csv", ".arrow or .parquet"]);
    place.refused("inspect -", &["standard input", "empty"]);
    place.refused("plot v.npy -o p.jpg", &["p.jpg", ".png"]);
    place.refused("plot nothing.parquet -o p.png", &["nothing.parquet"]);
    place.refused("plot v.npy -o p.png --color label", &["v.npy", "\"label\""]);
}

#[test]
fn what_clap_refuses() {
    let place = TestDir::new();
    for arguments in [
        "",
        "embed",
        "embed v.npy",
        "embed -o m.npy",
        "embed v.npy -o m.npy --color label",
        "embed v.npy -o m.npy --memory lots",
        "embed v.npy -o m.npy --init pcaa",
        "embed v.npy -o m.npy --invalid maybe",
        "evaluate --source v.npy --map v.npy --invalid null",
        "embed v.npy -o m.npy --metric chebyshev",
        "plot m.npy -o p.png --width 1000000",
        "nothing",
    ] {
        let answer = place.run(arguments);
        assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{arguments}");
        assert!(answer.stderr.contains("Usage") || answer.stderr.contains("--help"), "{}", answer.stderr);
    }
}

#[test]
fn an_output_that_exists() {
    let place = TestDir::new();
    place.vectors("v.parquet", 300);
    for (name, arguments) in [
        ("m.parquet", "embed v.parquet -o m.parquet --n-epochs 5"),
        ("m.png", "embed v.parquet -o new.parquet --plot m.png --n-epochs 5"),
        ("r.json", "embed v.parquet -o new.parquet --report r.json --n-epochs 5"),
        ("g.arrow", "knn v.parquet -o g.arrow"),
    ] {
        std::fs::write(place.path(name), "mine").expect("written");
        place.refused(arguments, &[name, "already exists", "--force"]);
        assert_eq!(place.bytes(name), b"mine");
        place.ok(&format!("{arguments} --force --quiet"));
        assert_ne!(place.bytes(name), b"mine");
        let _ = std::fs::remove_file(place.path("new.parquet"));
    }
    place.refused("plot m.parquet -o m.png", &["m.png", "already exists", "--force"]);
    place.ok("plot m.parquet -o m.png --force");
    std::fs::create_dir(place.path("dir.npy")).expect("a directory");
    place.refused("embed v.parquet -o dir.npy --force", &["dir.npy", "a directory"]);
}

#[test]
fn foreign_directory_is_no_run_directory() {
    let place = TestDir::new();
    place.vectors("v.npy", 300);
    std::fs::create_dir(place.path("mine")).expect("a directory");
    std::fs::write(place.path("mine/thesis.tex"), "years").expect("written");
    place.refused("embed v.npy -o m.npy --run-dir mine", &["mine", "not a run directory", "--run-dir"]);
    place.refused("embed v.npy -o m.npy --run-dir mine --restart", &["mine", "not a run directory"]);
    assert_eq!(place.bytes("mine/thesis.tex"), b"years");
}
