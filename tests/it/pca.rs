//! `lowland pca`, and the ways to principal components through the library:
//! the same bytes under every setting that must not matter, what is refused and
//! how, interruptions, memory, and scikit-learn.

use std::io::{BufReader, Read};
use std::process::Stdio;
use std::sync::Arc;

use lowland::Metric;
use lowland::pca::{IncrementalPca, Kernel, KernelPca, Pca};
use lowland_datasets::OutputDtype;
use lowland_engine::prepared_loader;
use lowland_io::Source;
use serde_json::Value;

use crate::bad_input::npy;
use crate::harness::{TestDir, fixture, note, rows_of, signal, wait_for};
use crate::harness::{TestTable, mixture};
use crate::oracle::{PythonDir, packages};

const ROWS: u64 = 4_000;
const SOLVERS: [&str; 3] = ["covariance", "incremental", "randomized"];

#[test]
fn pca_is_independent_of_threads_batches_and_budget() {
    let place = TestDir::new();
    for source in ["v.parquet", "v.arrow", "v.npy"] {
        place.vectors(source, ROWS);
    }
    for solver in SOLVERS {
        let command = format!("--solver {solver} --n-components 3 --components a.npy --report r.json --force --quiet");
        let mut first: Option<[Vec<u8>; 2]> = None;
        for setting in [
            "v.parquet",
            "v.arrow",
            "v.npy",
            "v.npy --threads 1 --batch-rows 1000",
            "v.npy --threads 2 --batch-rows 65536",
            "v.parquet --threads 3 --batch-rows 7",
            "v.arrow --memory 60MiB",
        ] {
            let answer = place.ok(&format!("pca {setting} -o s.parquet {command}"));
            assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""), "quiet, and no results on stdout");
            let made = [place.bytes("s.parquet"), place.bytes("a.npy")];
            assert!(first.get_or_insert_with(|| made.clone()) == &made, "{solver}: {setting} differs");
        }
    }
    assert_eq!(place.names(), ["a.npy", "r.json", "s.parquet", "v.arrow", "v.npy", "v.parquet"]);
    let scores = |arguments: &str| {
        place.ok(&format!("pca v.npy -o s.npy --solver {arguments} --force --quiet"));
        place.bytes("s.npy")
    };
    let exact = scores("covariance");
    assert!(scores("auto") == exact && scores("covariance --seed 1") == exact);
    assert!(scores("covariance --metric cosine") != exact && scores("covariance --whiten") != exact);
}

#[test]
fn outputs_reports_and_columns() {
    let place = TestDir::new();
    place.vectors("v.parquet", 500);
    let answer = place.ok("pca v.parquet -o s.parquet --id id --keep label --report - --components axes.npy");
    for words in ["500 rows × 16 components → 2 principal components", "solver covariance", "explained", "axes.npy"]
    {
        assert!(answer.stderr.contains(words), "no {words} in {}", answer.stderr);
    }
    let report: Value = serde_json::from_str(&answer.stdout).expect("JSON");
    let ratios: Vec<f64> = serde_json::from_value(report["explained_variance_ratio"].clone()).expect("shares");
    assert!(ratios.len() == 2 && ratios[0] > ratios[1] && ratios[1] > 0.0 && ratios[0] + ratios[1] < 1.0);
    assert_eq!(report["mean"].as_array().map(Vec::len), Some(16));
    assert_eq!((&report["plan"]["solver"], &report["passes"]), (&"covariance".into(), &2.into()));
    assert_eq!(report["outputs"]["scores"], "s.parquet");
    let (scores, columns) = rows_of(&place.path("s.parquet"), "x,y");
    let (_, given) = rows_of(&place.path("v.parquet"), "embedding");
    assert_eq!((scores.len(), columns), (1000, given));

    // The axes and the mean of the report make the scores.
    let axes = lowland::open(&[place.path("axes.npy").to_string_lossy()], None).expect("axes");
    assert_eq!((axes.shape().rows, axes.shape().dim, axes.dtype()), (2, 16, lowland::Dtype::F64));
    let table = |source: &dyn Source| {
        let mut values = vec![0f32; source.shape().rows as usize * source.shape().dim];
        source.read_rows(0, &mut values).expect("rows");
        values
    };
    let pca = Pca {
        mean: serde_json::from_value(report["mean"].clone()).expect("a mean"),
        components: table(axes.as_ref()).iter().map(|&x| f64::from(x)).collect(),
        variance: serde_json::from_value(report["explained_variance"].clone()).expect("variances"),
        total_variance: report["total_variance"].as_f64().expect("a variance"),
    };
    let vectors = lowland::open(&[place.path("v.parquet").to_string_lossy()], None).expect("vectors");
    for (ours, told) in pca.transform(&table(vectors.as_ref())).expect("scores").iter().zip(&scores) {
        assert!((ours - told).abs() < 1e-4, "{ours}, {told}");
    }

    place.ok("pca v.parquet -o five.arrow --n-components 5 --quiet");
    let (five, _) = rows_of(&place.path("five.arrow"), "c0,c1,c2,c3,c4");
    assert!(
        five.chunks(5).zip(scores.chunks(2)).all(|(five, two)| five[..2] == *two),
        "more components, the same first"
    );
    place.ok("pca v.parquet -o one.npy --n-components 1 --whiten --quiet");
    let bytes = place.bytes("one.npy");
    let one: Vec<f32> =
        bytes[bytes.len() - 2000..].chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect();
    let variance = one.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 499.0;
    assert!((variance - 1.0).abs() < 1e-5, "{variance}");
    // All of them, and a map of the scores.
    place.ok("pca v.parquet -o all.parquet --n-components 16 --quiet");
    place.ok("embed all.parquet --column c* -o map.npy --n-epochs 5 --quiet");
    // JSON lines.
    let told = place.ok("pca v.parquet -o json.npy --log-format json").stderr;
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = events.iter().map(|e| e["event"].as_str().expect("a name")).collect();
    assert_eq!(names, ["plan", "start", "advance", "end", "start", "advance", "end", "report"]);
    let help = place.ok("pca --help").stdout;
    for words in ["Usage: lowland pca", "Components:", "Resources:", "Examples:", "Exit codes:", "--solver", "130"] {
        assert!(help.contains(words), "no {words} in {help}");
    }
}

#[test]
fn a_source_on_standard_input() {
    let place = TestDir::new();
    let stream = std::fs::read(fixture("polars_f32.arrows")).expect("a fixture");
    let answer = place.pipe("pca - -o piped.parquet --id id --keep name --quiet", &stream);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    place.ok(&format!("pca {} -o file.parquet --id id --keep name --quiet", fixture("polars_array_f32.arrow")));
    assert!(place.bytes("piped.parquet") == place.bytes("file.parquet"));
    assert_eq!(place.names(), ["file.parquet", "piped.parquet"], "the copy is gone");
}

#[test]
fn what_is_refused() {
    let place = TestDir::new();
    place.vectors("v.parquet", 500);
    place.vectors("v.npy", 500);
    for (options, words) in [
        ("--n-components 17", &["--n-components", "17", "between 1 and 16", "500 rows of 16"][..]),
        ("--n-components 0", &["--n-components"]),
        ("--threads 0", &["--threads"]),
        ("--batch-rows 0", &["--batch-rows"]),
        ("--memory 1MiB", &["--memory", "too small", "smallest sufficient budget"]),
        ("--column nothing", &["v.parquet", "\"nothing\"", "\"embedding\""]),
        ("--keep label,nothing", &["v.parquet", "\"nothing\"", "\"label\""]),
        ("--id nothing", &["v.parquet", "\"nothing\""]),
        ("--keep id", &["\"id\"", "--id id"]),
        ("--components no/a.npy", &["no/a.npy", "directory"]),
        ("--components a.parquet", &["a.parquet", ".npy"]),
        ("--components v.npy", &["v.npy", "already exists", "--force"]),
        ("--report no/r.json", &["no/r.json", "directory"]),
        ("--report s.parquet", &["--report", "another output"]),
    ] {
        place.refused(&format!("pca v.parquet -o s.parquet {options}"), words);
    }
    place.refused("pca v.npy -o s.npy --components s.npy", &["s.npy", "another"]);
    place.refused("pca v.parquet -o s.npy --keep label", &["s.npy", "coordinates only"]);
    place.refused("pca v.parquet -o s.csv", &[".parquet, .arrow or .npy"]);
    place.refused("pca v.npy -o v.npy --force", &["v.npy", "also an input"]);
    place.refused("pca v.parquet v.npy -o s.npy --components v.npy --force", &["v.npy", "also an input"]);
    place.refused("pca v.parquet -o v.npy", &["v.npy", "already exists", "--force"]);
    place.wide_vectors("wide.npy", 3, 8_200, OutputDtype::U8);
    place.refused("pca wide.npy -o s.npy --solver covariance", &["--solver", "the vectors have 8200", "at most 8192"]);
    place.refused("pca v.npy - -o s.npy", &["standard input", "empty"]);
    for arguments in ["pca", "pca v.npy", "pca v.npy -o s.npy --solver svd", "pca v.npy -o s.npy --metric manhattan"] {
        assert_eq!(place.run(arguments).code, 2, "{arguments}");
    }
}

#[test]
fn bad_data_is_named() {
    let place = TestDir::new();
    let spoilt = |at: usize, by: f32| move |i: usize| if i == at { by } else { (i as f32 * 0.37).sin() };
    npy(&place, "nan.npy", 100, 3, spoilt(41, f32::NAN));
    npy(&place, "inf.npy", 100, 3, spoilt(7, f32::NEG_INFINITY));
    npy(&place, "few.npy", 2, 3, spoilt(0, 0.5));
    npy(&place, "one.npy", 1, 3, spoilt(0, 0.5));
    npy(&place, "none.npy", 0, 3, |_| 0.0);
    npy(&place, "equal.npy", 100, 3, |i| [0.1, -7e5, 3.3][i % 3]);
    npy(&place, "zero.npy", 100, 3, |i| if (120..123).contains(&i) { 0.0 } else { (i as f32).cos() });
    npy(&place, "flat.npy", 100, 3, |i| [i as f32, -2.0 * (i - i % 3) as f32, 1.0][i % 3]);
    npy(&place, "huge.npy", 100, 3, |i| if i % 2 == 0 { 3e38 } else { -3e38 });
    std::fs::write(place.path("empty.parquet"), "").expect("written");
    for solver in SOLVERS {
        let refused = |arguments: &str, words: &[&str]| {
            place.refused(&format!("pca {arguments} -o s.npy --solver {solver} --components a.npy"), words);
        };
        refused("nan.npy", &["nan.npy", "row 13", "component 2", "NaN", "--invalid drop"]);
        refused("few.npy inf.npy", &["inf.npy", "row 2", "component 1", "-inf"]);
        refused("inf.npy --metric cosine --batch-rows 1", &["inf.npy", "row 2", "component 1", "-inf"]);
        refused("one.npy", &["1 row", "at least 2"]);
        refused("none.npy", &["none.npy", "no rows"]);
        refused("empty.parquet", &["empty.parquet", "0 bytes"]);
        refused("few.npy --n-components 3", &["--n-components", "3 is not between 1 and 2", "2 rows"]);
        refused("equal.npy", &["all 100 rows are equal"]);
        refused("zero.npy --metric cosine", &["zero.npy", "row 40", "all zeros"]);
        refused("flat.npy --whiten", &["--whiten", "along 1 axes", "at most 1"]);
        refused("huge.npy", &["huge.npy", "row 0", "single precision", "scale the data down"]);
        place.ok(&format!("pca zero.npy few.npy -o ok.npy --solver {solver} --force --quiet"));
        place.ok(&format!("pca flat.npy -o ok.npy --n-components 3 --solver {solver} --force --quiet"));
        place.ok(&format!("pca few.npy -o ok.npy --n-components 2 --solver {solver} --force --quiet"));
    }
}

#[test]
fn too_small_budget_names_the_smallest() {
    let place = TestDir::new();
    place.wide_vectors("v.npy", 3_000, 700, OutputDtype::F32);
    for solver in SOLVERS {
        let command = format!("pca v.npy --solver {solver} --threads 2 --n-components 20 --force");
        place.ok(&format!("{command} -o free.npy --memory 1GiB --quiet"));
        let refused = place.run(&format!("{command} -o s.npy --memory 9MiB"));
        refused.refused(&command, &["too small", "give --memory "]);
        let (_, named) = refused.stderr.rsplit_once("give --memory ").expect("a budget");
        let named = named.split(';').next().expect("a budget").trim();
        place.ok(&format!("{command} -o s.npy --memory {named} --quiet"));
        assert!(place.bytes("s.npy") == place.bytes("free.npy"), "{solver}");
        let mebibytes: u64 = named.trim_end_matches("MiB").parse().expect("a number");
        let less = place.run(&format!("{command} -o s.npy --memory {}MiB", mebibytes - 2));
        assert_eq!(less.code, 2, "{solver}: {mebibytes} MiB are named, and 2 fewer do");
    }
    // Where the covariance is what does not fit, there is another way.
    place.wide_vectors("w.npy", 40, 2_000, OutputDtype::F32);
    place.refused(
        "pca w.npy -o w.s.npy --memory 40MiB --threads 2",
        &["too small", "or --solver randomized, which fits"],
    );
    place.ok("pca w.npy -o w.s.npy --memory 40MiB --threads 2 --solver randomized --quiet");
}

#[test]
fn measured_memory_stays_within_plan() {
    let place = TestDir::on_disk();
    for (name, rows, dim, dtype) in
        [("a.parquet", 60_000, 64, OutputDtype::F64), ("b.arrow", 3_000, 1_500, OutputDtype::F16)]
    {
        place.wide_vectors(name, rows, dim, dtype);
        for solver in SOLVERS {
            let report = place.ok(&format!(
                "pca {name} -o s.parquet --solver {solver} --n-components 30 --threads 2 --report - --force --quiet"
            ));
            let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
            let stages = |of: &Value| of["stages"].as_array().expect("stages").clone();
            for (planned, measured) in stages(&report["plan"]).iter().zip(stages(&report)) {
                let number = |value: &Value| value.as_u64().expect("a number") >> 20;
                let (planned, measured) = (number(&planned["memory"]), number(&measured["peak_memory"]));
                note(&format!(
                    "{name}, {solver}, {}: planned {planned} MiB, held {measured}",
                    report["stages"][0]["stage"]
                ));
                assert!(measured <= planned, "{name}, {solver}: {report:#}");
            }
        }
    }
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let place = TestDir::new();
    place.vectors("v.npy", 60_000);
    let quick = "pca v.npy -o s.npy --components a.npy --solver randomized";
    let command = format!("{quick} --batch-rows 20 --threads 1");
    for (stage, name, code) in [("scan", "INT", 130), ("output", "TERM", 143)] {
        let mut child = place
            .command(&format!("{command} --log-format json"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        wait_for(&mut stderr, |event| event["event"] == "advance" && event["stage"] == stage);
        assert!(place.path("s.npy.part").exists() && !place.path("s.npy").exists());
        signal(&child, name);
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).expect("text");
        assert_eq!(child.wait().expect("an end").code(), Some(code), "{rest}");
        for words in ["stopped in the", stage, "nothing is kept"] {
            assert!(rest.contains(words), "no {words} in {rest}");
        }
        assert_eq!(place.names(), ["v.npy"]);
    }
    // A kill leaves a part, which the next run writes over.
    let mut child =
        place.command(&format!("{command} --log-format json")).stderr(Stdio::piped()).spawn().expect("runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut stderr, |event| event["event"] == "advance" && event["stage"] == "output");
    child.kill().expect("killed");
    child.wait().expect("an end");
    assert_eq!(place.names(), ["s.npy.part", "v.npy"]);
    place.ok(&format!("{quick} --quiet"));
    assert_eq!(place.names(), ["a.npy", "s.npy", "v.npy"]);
}

#[test]
fn a_source_that_changes_meanwhile() {
    let place = TestDir::new();
    place.vectors("v.npy", 60_000);
    let mut command = place.command("pca v.npy -o s.npy --batch-rows 20 --threads 1 --log-format json");
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut stderr, |event| event["event"] == "advance" && event["stage"] == "output");
    let file = std::fs::File::options().write(true).open(place.path("v.npy")).expect("the source");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("an end").code(), Some(2), "{rest}");
    assert!(
        rest.contains("v.npy: changed while it was in use") && rest.contains("give the same command again"),
        "{rest}"
    );
    assert!(!rest.contains("--restart"), "{rest}");
    assert_eq!(place.names(), ["v.npy"]);
}

/// TorchDR: IncrementalPCA of a DataLoader is that of a tensor in the same batches.
#[test]
fn batches_of_a_source_are_those_of_a_slice() {
    let table = mixture(150, 4);
    let source: Arc<dyn Source> = table.clone();
    let mut streamed = IncrementalPca::new(Some(2));
    for batch in prepared_loader(source, Metric::Euclidean, 50) {
        streamed.partial_fit(batch.expect("a batch").values(), 4).expect("taken");
    }
    let whole = IncrementalPca::fit(&table.values, 4, Some(2), Some(50)).expect("axes");
    assert_eq!(streamed.pca().expect("axes"), whole);
}

/// What `lowland pca` writes, beside scikit-learn's PCA.
#[test]
fn the_command_is_scikit_learns_pca() {
    let Some(desk) = PythonDir::new() else { return };
    let place = TestDir::new();
    let table = packages(6_000);
    std::fs::copy(desk.floats("v.npy", &table.values, table.dim), place.path("v.npy")).expect("copied");
    let data = place.path("v.npy").to_string_lossy().into_owned();
    let dir = place.path(".").to_string_lossy().into_owned();
    for (options, flag) in
        [("--n-components 5", ""), ("--n-components 64 --whiten", "--whiten"), ("--metric cosine", "--cosine")]
    {
        for solver in ["covariance", "randomized"] {
            let outputs = "-o scores.npy --components axes.npy --report report.json --force --quiet";
            place.ok(&format!("pca v.npy {outputs} --solver {solver} {options}"));
            let mut arguments = vec!["command", data.as_str(), dir.as_str()];
            arguments.extend((!flag.is_empty()).then_some(flag));
            note(&format!("{options} {solver}\n{}", desk.ask("pca.py", &arguments)));
        }
    }
}

/// A data set that scikit-learn brings.
fn brought(desk: &PythonDir, name: &str) -> Arc<TestTable> {
    let path = desk.path(&format!("{name}.npy"));
    desk.ask("pca.py", &["data", name, &path]);
    let source = lowland::open(&[path], None).expect("a data set");
    let mut values = vec![0f32; source.shape().rows as usize * source.shape().dim];
    source.read_rows(0, &mut values).expect("rows");
    TestTable::new(source.shape().dim, values)
}

/// TorchDR's rows on digits and iris, with its tolerances.
#[test]
fn incremental_pca_is_scikit_learns() {
    let Some(desk) = PythonDir::new() else { return };
    for (name, held_out, batch, asked) in [
        ("digits", 20, 64, Some(10)),
        ("digits", 20, 64, Some(20)),
        ("digits", 20, 64, None),
        ("iris", 10, 50, Some(2)),
    ] {
        let table = brought(&desk, name);
        let (train, test) = table.values.split_at(table.values.len() - held_out * table.dim);
        let n = train.len() / table.dim;
        // As scikit-learn cuts: no last batch of fewer rows than components.
        let mut pca = IncrementalPca::new(asked);
        let mut at = 0;
        while at < n {
            let rows = if n - at - batch.min(n - at) < asked.unwrap_or(1).max(1) { n - at } else { batch };
            pca.partial_fit(&train[at * table.dim..(at + rows) * table.dim], table.dim).expect("merged");
            at += rows;
        }
        let pca = pca.pca().expect("axes");
        for (name, rows) in [("train.npy", train), ("test.npy", test)] {
            desk.floats(name, &pca.transform(rows).expect("scores"), pca.n_components());
        }
        let ratios = pca.explained_variance_ratio();
        if name == "iris" {
            let exact = Pca::fit(train, table.dim, 2).expect("axes").explained_variance_ratio();
            let off = exact.iter().zip(&ratios).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            note(&format!("iris: shares of variance {off:.1e} from the exact ones"));
            assert!(off < 1e-3, "{off}");
        }
        desk.doubles("ratio.npy", &ratios, &[ratios.len()]);
        let (train, test) = (desk.floats("x.npy", train, table.dim), desk.floats("y.npy", test, table.dim));
        let asked = asked.map_or("none".into(), |n| n.to_string());
        let told = desk.ask("pca.py", &["incremental", &train, &test, &desk.path(""), &asked, &batch.to_string()]);
        note(&format!("{name}, {asked}:\n{told}"));
    }
}

#[test]
fn kernel_pca_is_scikit_learns() {
    let Some(desk) = PythonDir::new() else { return };
    // TorchDR's shapes; then more rows.
    for (rows, dim, n) in [(15, 20, 3), (400, 6, 5)] {
        let table = mixture(rows, dim);
        // Columns of length 1: otherwise all points are about as far apart.
        let lengths: Vec<f32> =
            (0..dim).map(|c| table.values.iter().skip(c).step_by(dim).map(|x| x * x).sum::<f32>().sqrt()).collect();
        let values: Vec<f32> = table.values.iter().enumerate().map(|(i, x)| x / lengths[i % dim]).collect();
        let (other, fitted) = values.split_at(5 * dim);
        let (data, others) = (desk.floats("x.npy", fitted, dim), desk.floats("y.npy", other, dim));
        for (kernel, words) in [
            (Kernel::Linear, "linear"),
            (Kernel::Gaussian { sigma: 2.0 }, "gaussian 2"),
            (Kernel::Polynomial { degree: 3, gamma: 0.5, coef0: 1.0 }, "polynomial 3 0.5 1"),
            (Kernel::Cosine, "cosine"),
        ] {
            let pca = KernelPca::fit(kernel, fitted, dim, Some(n)).expect("components");
            desk.floats("data.npy", &pca.scores(), n);
            desk.floats("other.npy", &pca.transform(other).expect("scores"), n);
            let dir = desk.path("");
            let mut arguments = vec!["kernel", data.as_str(), others.as_str(), dir.as_str()];
            arguments.extend(words.split(' '));
            note(&format!("{rows} rows, {words}:\n{}", desk.ask("pca.py", &arguments)));
        }
    }
}
