//! Names and streams as people give them: directories that tell columns,
//! globs, links, pipes.

use std::io::Write;
use std::process::Stdio;

use crate::harness::{TestDir, answer, fixture, rows_of, signal, soon};

const QUICK: &str = "--n-epochs 20 --quiet";

fn put(place: &TestDir, from: &str, to: &str) {
    let to = place.path(to);
    std::fs::create_dir_all(to.parent().expect("a directory")).expect("made");
    std::fs::copy(place.path(from), to).expect("copied");
}

#[test]
fn hive_directories_give_columns() {
    let place = TestDir::new();
    place.vectors("v.parquet", 100);
    place.vectors("w.parquet", 60);
    put(&place, "v.parquet", "hive/dt=2024-01-01/lang=d%20e/label=mine/part");
    put(&place, "w.parquet", "hive/dt=__HIVE_DEFAULT_PARTITION__/lang=fr/part.parquet");
    let options = format!("--id dt --keep lang,label --plot m.png --color lang {QUICK}");
    place.ok(&format!("embed hive -o m.parquet {options}"));
    let (_, columns) = rows_of(&place.path("m.parquet"), "x,y");
    // In the order of names: __HIVE… comes after 2024….
    assert_eq!(columns[0][..2], ["2024-01-01".to_string(), "d e".into()]);
    assert_eq!(columns[100][..2], ["null".to_string(), "fr".into()]);
    // The file's own column of that name wins.
    assert!(columns.iter().all(|row| row[2] != "mine"), "{:?}", columns[0]);
    place.ok("evaluate --map m.parquet --source hive --labels lang --id dt");
    place.refused(&format!("embed hive -o n.parquet --keep day {QUICK}"), &["no column \"day\"", "\"lang\""]);
}

#[test]
fn source_names_expand() {
    let place = TestDir::new();
    place.vectors("v.npy", 100);
    place.ok(&format!("embed v.npy -o plain.npy {QUICK}"));
    for to in ["run[2]/a.NPY", "b/c/d.data", "e/f.npy"] {
        put(&place, "v.npy", to);
    }
    std::fs::write(place.path("run[2]/README"), "about").expect("written");
    std::os::unix::fs::symlink("../b", place.path("b/again")).expect("a link");
    for source in ["run[2]", "run[2]/*.NPY", "b", "{x,b}/**/*.data", "{e,nothing}/*.npy"] {
        place.ok(&format!("embed {source} -o m.npy --force {QUICK}"));
        assert!(place.bytes("m.npy") == place.bytes("plain.npy"), "{source}");
    }
    std::os::unix::fs::symlink("v.npy", place.path("l.npy")).expect("a link");
    for sources in ["v.npy l.npy", "[lv].npy", "v.npy ./v.npy", "{v,v}.npy"] {
        place.refused(&format!("knn {sources} -o g.arrow"), &["v.npy", "named twice"]);
    }
    put(&place, "v.npy", "parts/p-10.npy");
    put(&place, "v.npy", "parts/p-2.npy");
    assert!(place.ok("inspect parts").stderr.contains("p-10.npy comes before p-2.npy"));
    assert!(place.ok("plan parts").stderr.contains("p-10.npy comes before p-2.npy"));
}

#[test]
fn every_command_reads_streams_of_every_format() {
    let place = TestDir::new();
    for name in ["v.npy", "v.parquet", "v.arrow"] {
        place.vectors(name, 300);
    }
    place.ok(&format!("embed v.npy -o plain.npy {QUICK}"));
    for name in ["v.npy", "v.parquet", "v.arrow"] {
        for source in ["-", "/dev/stdin"] {
            let told = place.pipe(&format!("embed {source} -o m.npy --force {QUICK}"), &place.bytes(name));
            assert_eq!(told.code, 0, "{name} on {source}: {}", told.stderr);
            assert!(place.bytes("m.npy") == place.bytes("plain.npy"), "{name} on {source}");
        }
    }
    let npy = place.bytes("v.npy");
    for arguments in
        ["inspect -", "plan -", "knn - -o g.arrow", "pca - -o p.npy", "evaluate --map plain.npy --source -"]
    {
        let told = place.pipe(arguments, &npy);
        assert_eq!(told.code, 0, "{arguments}: {}", told.stderr);
    }
    assert_eq!(
        place.names(),
        ["g.arrow", "m.npy", "p.npy", "plain.npy", "v.arrow", "v.npy", "v.parquet"],
        "the copies are gone"
    );
    // A file beside a pipe, and two process substitutions.
    let script = "exec \"$0\" embed <(cat v.npy) v.parquet <(cat v.arrow) -o three.npy --n-epochs 20 --quiet";
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_lowland")]).current_dir(place.path(".")).stdin(Stdio::null());
    let told = answer(shell);
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(lowland::open(&[place.path("three.npy").to_string_lossy()], None).expect("a map").shape().rows, 900);
}

/// The copy of a stream lies on the disk as long as the run does.
#[test]
fn the_copy_of_a_stream_counts_against_the_disk() {
    let place = TestDir::new();
    place.vectors("v.npy", 20_000);
    let (npy, copy) = (place.bytes("v.npy"), 20_000 * 16 * 4u64);
    let plan = place.ok("plan v.npy --json").stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let stages = plan["stages"].as_array().expect("stages");
    let most = stages.iter().filter_map(|stage| stage["disk"].as_u64()).max().expect("bytes");
    let refused = |command: &str, disk: u64, words: &[&str]| {
        let command = format!("{command} --disk {disk}");
        let told = place.pipe(&command, &npy);
        told.refused(&command, words);
        assert_eq!(place.names(), ["v.npy"], "{command}");
    };
    place.ok(&format!("embed v.npy -o m.npy --disk {most} {QUICK}"));
    std::fs::remove_file(place.path("m.npy")).expect("removed");
    for command in ["embed - -o m.npy", "knn - -o g.arrow"] {
        refused(command, copy / 2, &["--disk: standard input has more than ", "copied to disk first"]);
    }
    refused("embed - -o m.npy", most + copy / 2, &["--disk", "copied from standard input; give --disk "]);
    let told = place.pipe(&format!("plan - --disk {}", most + copy / 2), &npy);
    assert!(told.code == 0 && told.stdout.contains("copied from standard input"), "{told:?}");
    let told = place.pipe(&format!("embed - -o m.npy --disk {} {QUICK}", most + copy + (1 << 20)), &npy);
    assert_eq!(told.code, 0, "{}", told.stderr);
}

#[test]
fn a_named_pipe_is_waited_for_and_left_by_a_signal() {
    let place = TestDir::new();
    place.vectors("v.npy", 200);
    place.ok(&format!("embed v.npy -o plain.npy {QUICK}"));
    let pipe = place.path("pipe.npy");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let bytes = place.bytes("v.npy");
    let writer = std::thread::spawn(move || {
        // Opening waits for the reader.
        std::fs::File::options().write(true).open(pipe).expect("the pipe").write_all(&bytes).expect("written");
    });
    let told = soon(place.command(&format!("embed pipe.npy -o m.npy {QUICK}")));
    assert_eq!(told.code, 0, "{}", told.stderr);
    writer.join().expect("the writer ends");
    assert!(place.bytes("m.npy") == place.bytes("plain.npy"));
    // Nobody writes.
    let mut command = place.command("embed pipe.npy -o n.npy");
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut first = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut first).expect("a line");
    assert!(first.contains("copying pipe.npy"), "{first}");
    signal(&child, "INT");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert_eq!(place.names(), ["m.npy", "pipe.npy", "plain.npy", "v.npy"]);
}

#[test]
fn a_stream_without_an_end_is_told() {
    use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
    let place = TestDir::new();
    let numbers = Float32Array::from_iter_values((0..400).map(|i| ((i * i + 7 * i) % 101) as f32));
    let item = std::sync::Arc::new(arrow::datatypes::Field::new("item", arrow::datatypes::DataType::Float32, true));
    let lists: ArrayRef = std::sync::Arc::new(FixedSizeListArray::new(item, 4, std::sync::Arc::new(numbers), None));
    let batch = RecordBatch::try_from_iter([("v", lists)]).expect("a batch");
    let mut bytes = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).expect("a writer");
    writer.write(&batch.slice(0, 50)).and_then(|()| writer.write(&batch.slice(50, 50))).expect("written");
    writer.finish().expect("finished");
    drop(writer);
    std::fs::create_dir(place.path("parts")).expect("made");
    let put = |name: &str, bytes: &[u8]| std::fs::write(place.path(name), bytes).expect("written");
    let cut = &bytes[..bytes.len() - 8];
    put("whole.arrows", &bytes);
    put("cut.arrows", cut);
    put("parts/a.arrows", &bytes);
    put("parts/b.arrows", cut);
    put("parts/c.arrows", cut);
    let words = ": an Arrow stream without an end";
    for command in
        ["inspect", "plan", "pca -o s.npy --force", "knn -o g.arrow --force", "embed -o m.npy --force --n-epochs 5"]
    {
        let told = |source: &str| place.ok(&format!("{command} {source}")).stderr;
        assert!(!told("whole.arrows").contains(words), "{command}");
        let cut = told("cut.arrows");
        assert_eq!(cut.matches(&format!("lowland: cut.arrows{words}")).count(), 1, "{command}: {cut}");
        let parts = told("parts");
        assert_eq!(parts.matches(&format!("parts/b.arrows (and 1 more){words}")).count(), 1, "{command}: {parts}");
    }
    let piped = place.pipe("inspect -", cut);
    assert!(piped.code == 0 && piped.stderr.contains(&format!("standard input{words}")), "{}", piped.stderr);
}

#[test]
fn integers_of_128_bits_do_not_keep_other_columns_from_being_read() {
    let place = TestDir::new();
    let maps: Vec<_> = ["parquet", "arrow", "arrows"]
        .iter()
        .map(|end| {
            let file = fixture(&format!("polars_int128.{end}"));
            place.ok(&format!("embed {file} -o m.parquet --id id --n-neighbors 3 --force {QUICK}"));
            let refused = |options: &str, column: &str| {
                let words = [&format!("column \"{column}\" has integers of 128 bits"), "cast it to Int64 or to text"];
                place.refused(&format!("embed {file} -o n.parquet --n-neighbors 3 {options}"), &words);
            };
            for column in ["wide", "within"] {
                refused(&format!("--keep {column}"), column);
                refused(&format!("--id {column}"), column);
                refused(&format!("--plot p.png --color {column}"), column);
                refused(&format!("--column {column}"), column);
            }
            refused("--column wide:f32", "wide");
            place.bytes("m.parquet")
        })
        .collect();
    assert!(maps.iter().all(|map| *map == maps[0]));
}

#[test]
fn uuids_are_categories() {
    use arrow::array::{ArrayRef, FixedSizeBinaryArray, Float32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    let place = TestDir::new();
    let column = |c: usize| -> ArrayRef {
        std::sync::Arc::new(Float32Array::from_iter_values((0..60).map(|i| ((i * i * (c + 1) + 7 * i) % 101) as f32)))
    };
    let uuids = (0..60_u8).map(|i| [i % 3; 16]);
    let uuids: ArrayRef = std::sync::Arc::new(FixedSizeBinaryArray::try_from_iter(uuids).expect("uuids"));
    let extension = [("ARROW:extension:name".to_string(), "arrow.uuid".to_string())];
    let schema = Schema::new(vec![
        Field::new("a", DataType::Float32, false),
        Field::new("b", DataType::Float32, false),
        Field::new("u", DataType::FixedSizeBinary(16), false).with_metadata(extension.into()),
    ]);
    let batch = RecordBatch::try_new(std::sync::Arc::new(schema), vec![column(0), column(1), uuids]).expect("a batch");
    let file = std::fs::File::create(place.path("u.arrow")).expect("a file");
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &batch.schema()).expect("a writer");
    writer.write(&batch).and_then(|()| writer.finish()).expect("written");
    for end in ["parquet", "arrow"] {
        place.ok(&format!("embed u.arrow --column a,b -o m.{end} --keep u --plot m.png --color u --force {QUICK}"));
        place.ok(&format!("plot m.{end} -o again.png --color u --force"));
        let scores = place.ok(&format!("evaluate --map m.{end} --labels u")).stdout;
        assert!(scores.contains(", u"), "{scores}");
    }
}
