//! `lowland plan`: what it tells is what a run then does, for data of any
//! size, and it leaves nothing behind.

use lowland_datasets::{DatasetKind, Generator, OutputDtype, WriteOptions, write};
use serde_json::Value;

use crate::harness::TestDir;

const GIB: u64 = 1 << 30;

/// Runs `plan` with `--json`; gives the object.
fn planned(place: &TestDir, arguments: &str) -> Value {
    let before = place.names();
    let answer = place.ok(&format!("plan {arguments} --json"));
    assert_eq!(answer.stderr, "", "{arguments}");
    assert_eq!(place.names(), before, "{arguments}");
    serde_json::from_str(&answer.stdout).expect("JSON")
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_else(|| panic!("no {name} in {of}"))
}

fn stages(plan: &Value) -> &[Value] {
    plan["stages"].as_array().expect("stages")
}

#[test]
fn plan_text_lists_every_stage() {
    let place = TestDir::new();
    place.vectors("v.parquet", 2_000);
    let before = place.names();
    let answer = place.ok("plan v.parquet --memory 1GiB --threads 2 --n-epochs 30");
    assert_eq!(answer.stderr, "");
    assert_eq!(place.names(), before);
    for words in [
        "2,000 rows × 16 of f32 to 2 components by umap: 15 neighbours, 30 epochs, 2 threads, ",
        "62 lists, every pair compared",
        "a budget of 1 GiB, as requested",
        "30 epochs",
        "in the run directory at most",
        "are free for map.parquet.run",
        " on this machine, within a factor of two",
        "32 bytes a row, 62.50 KiB here",
    ] {
        assert!(answer.stdout.contains(words), "no {words} in {}", answer.stdout);
    }
    let firsts: Vec<&str> = answer.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    let order = ["stage", "scan", "index", "neighbors", "affinity", "init", "layout", "output", "quality"];
    let at = firsts.iter().position(|&word| word == "stage").expect("headings");
    assert_eq!(firsts[at..at + order.len()], order);
    assert!(!answer.stdout.contains("refused"), "{}", answer.stdout);
    let answer = place.ok("plan v.parquet");
    assert!(answer.stdout.contains("half of ") || answer.stdout.contains("by default"), "{}", answer.stdout);
}

#[test]
fn run_matches_its_plan() {
    let place = TestDir::new();
    place.vectors("v.npy", 20_000);
    let options = "v.npy -o m.npy --n-epochs 20 --memory 100MiB --threads 2";
    let plan = planned(&place, options);
    place.ok(&format!("embed {options} --report r.json --quiet"));
    let report: Value = serde_json::from_slice(&place.bytes("r.json")).expect("JSON");
    for field in ["shape", "threads", "batch_rows", "index", "neighbors", "affinity", "layout", "config"] {
        assert_eq!(plan[field], report["plan"][field], "{field}");
    }
    for (planned, found) in stages(&plan).iter().zip(report["stages"].as_array().expect("stages")) {
        assert_eq!(planned["stage"], found["stage"]);
        assert!(number(found, "peak_memory") <= number(planned, "memory"), "{planned} {found}");
        assert!(planned["seconds"].as_f64().is_some_and(|s| s > 0.0 && s < 100.0), "{planned}");
        assert!(number(planned, "memory") <= 100 << 20 && number(planned, "disk") <= number(&plan, "disk"));
    }
    assert!(plan["seconds"].as_f64().is_some_and(|s| s < 100.0));
    assert_eq!(plan["problems"], serde_json::json!([]));
    assert_eq!(plan["run_dir"], "m.npy.run");
    assert!(number(&plan, "disk_free") > number(&plan, "disk_needed"));
}

#[test]
fn kept_stages_count_against_the_disk_budget() {
    let place = TestDir::new();
    place.vectors("v.npy", 20_000);
    let disk = |options: &str| number(&planned(&place, &format!("v.npy --threads 2 {options}")), "disk");
    let (none, all) = (disk(""), disk("--keep-run"));
    assert!(none < all, "{none} {all}");
    assert_eq!(all, disk("--keep-stages all"));
    assert_eq!(all, disk("--run-dir run"));
    assert_eq!(none, disk("--run-dir run --keep-stages none"));
    let between = disk("--keep-stages graph");
    assert!(none < between && between < all, "{none} {between} {all}");
    let words = ["--disk", "2 MiB is too small", "stage needs", "--keep-stages none"];
    place.refused("plan v.npy --disk 2MiB", &words);
    place.refused("embed v.npy -o m.npy --disk 2MiB", &words);
    let told = place.run("embed v.npy -o m.npy --disk 2MiB --n-epochs 5 --quiet").stderr;
    let needed = told.split("give --disk ").nth(1).and_then(|rest| rest.split(',').next()).expect("a size");
    place.ok(&format!("embed v.npy -o m.npy --disk {needed} --n-epochs 5 --quiet"));
}

#[test]
fn kept_stages_stay_and_released_ones_are_remade() {
    let place = TestDir::new();
    place.vectors("v.npy", 3_000);
    place.ok("embed v.npy -o whole.npy --n-epochs 20 --quiet");
    let has = |file: &str| place.path("m.npy.run").join(file).exists();
    for stages in ["index", "map,index", "graph", "scan,init", "all"] {
        let command = format!("embed v.npy -o m.npy --n-epochs 20 --quiet --force --keep-stages {stages}");
        place.ok(&format!("{command} --restart"));
        assert!(place.bytes("m.npy") == place.bytes("whole.npy"), "{stages}");
        let all = stages == "all";
        assert_eq!(has("training.f32"), all || stages.contains("scan"), "{stages}");
        assert_eq!(has("index.faiss"), all || stages.contains("index"), "{stages}");
        assert_eq!(has("positions.f32"), all || stages.contains("map"), "{stages}");
        assert_eq!(has("init.f32"), all || stages.contains("init"), "{stages}");
        std::fs::remove_file(place.path("m.npy")).expect("removed");
        place.ok(&command);
        assert!(place.bytes("m.npy") == place.bytes("whole.npy"), "{stages} again");
        assert!(place.path("m.npy.run").exists(), "{stages}");
    }
    place.ok("embed v.npy -o m.npy --n-epochs 20 --quiet --force --keep-stages none");
    assert!(place.bytes("m.npy") == place.bytes("whole.npy"));
    assert_eq!(place.names(), ["m.npy", "v.npy", "whole.npy"]);
}

#[test]
fn what_cannot_be_planned() {
    let place = TestDir::new();
    place.vectors("v.npy", 500);
    place.refused("plan -", &["standard input", "empty"]);
    place.refused("plan nothing.npy", &["nothing.npy", "no such file"]);
    place.refused("plan v.npy --n-neighbors 500", &["--n-neighbors", "the maximum is 499"]);
    place.refused("plan v.npy --keep-run --keep-stages none", &["--keep-stages none", "--keep-run"]);
    place.refused("plan v.npy --checkpoint 1e12", &["--checkpoint", "seconds"]);
    for arguments in ["plan", "plan v.npy --keep-stages index,outptu", "plan v.npy --disk lots"] {
        let answer = place.run(arguments);
        assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{arguments}");
    }
}

#[test]
fn a_graph_is_planned_as_well() {
    let place = TestDir::new();
    place.vectors("v.npy", 3_000);
    place.ok("knn v.npy -o g.arrow --n-neighbors 7 --quiet");
    for (arguments, first) in [("--knn g.arrow --quiet", "neighbors"), ("--knn g.arrow v.npy", "scan")] {
        let plan = planned(&place, arguments);
        assert_eq!((number(&plan, "graph_k"), &stages(&plan)[0]["stage"]), (7, &first.into()), "{arguments}");
        let text = place.ok(&format!("plan {arguments}")).stdout;
        assert!(text.contains("7 neighbours"), "{text}");
    }
}

/// A Parquet file that says it has `times` as many rows as it has: its footer
/// names the one row group again and again. Each of them can be read.
fn repeated(place: &TestDir, name: &str, rows: u64, dim: usize, times: usize) {
    let generator =
        Generator::new("mixture".parse::<DatasetKind>().expect("a kind"), rows, dim, 7).expect("a generator");
    let group_rows = std::num::NonZero::new(rows as usize).expect("rows");
    let options = WriteOptions { dtype: OutputDtype::F16, group_rows, ..WriteOptions::default() };
    write(&generator, &place.path("once.parquet"), &options).expect("written");
    let bytes = place.bytes("once.parquet");
    std::fs::remove_file(place.path("once.parquet")).expect("removed");

    let (data, tail) = bytes.split_at(bytes.len() - 8);
    let length = u32::from_le_bytes(tail[..4].try_into().expect("four bytes")) as usize;
    let (data, footer) = data.split_at(data.len() - length);
    // FileMetaData: version, schema, num_rows (field 3), row_groups (field 4), and the rest.
    let mut at = 0;
    for _ in 0..2 {
        at = compact_field(footer, at);
    }
    let num_rows = at + 1;
    let row_groups = compact_field(footer, at) + 1;
    assert_eq!(footer[row_groups], 0x1c, "a list of one struct");
    let end = compact_value(footer, row_groups + 1, 12);
    let group = &footer[row_groups + 1..end];

    let mut out = data.to_vec();
    let start = out.len();
    out.extend(&footer[..num_rows]);
    varint(&mut out, 2 * rows * times as u64);
    out.push(footer[row_groups - 1]);
    out.push(0xfc);
    varint(&mut out, times as u64);
    (0..times).for_each(|_| out.extend(group));
    out.extend(&footer[end..]);
    let length = (out.len() - start) as u32;
    out.extend(length.to_le_bytes());
    out.extend(b"PAR1");
    std::fs::write(place.path(name), out).expect("written");
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return number;
        }
    }
}

/// Where a field of Thrift's compact protocol ends that begins `at`; its number is given by a difference.
fn compact_field(bytes: &[u8], at: usize) -> usize {
    assert!(bytes[at] >> 4 != 0, "a difference of more than 15");
    compact_value(bytes, at + 1, bytes[at] & 15)
}

/// Where a value of the compact protocol ends.
fn compact_value(bytes: &[u8], mut at: usize, kind: u8) -> usize {
    match kind {
        1 | 2 => at,
        3 => at + 1,
        4..=6 => {
            read_varint(bytes, &mut at);
            at
        }
        7 => at + 8,
        8 => {
            let length = read_varint(bytes, &mut at) as usize;
            at + length
        }
        9 | 10 => {
            let (mut count, kind) = (u64::from(bytes[at] >> 4), bytes[at] & 15);
            at += 1;
            if count == 15 {
                count = read_varint(bytes, &mut at);
            }
            // In a list a truth takes a byte of its own.
            (0..count).fold(at, |at, _| if kind <= 2 { at + 1 } else { compact_value(bytes, at, kind) })
        }
        12 => {
            while bytes[at] != 0 {
                at = compact_field(bytes, at);
            }
            at + 1
        }
        other => panic!("a value of kind {other} at {at}"),
    }
}

#[test]
fn a_hundred_million_rows_without_77_gb() {
    let place = TestDir::new();
    repeated(&place, "big.parquet", 10_000, 384, 10_000);
    let plan = planned(&place, "big.parquet --memory 16GiB --threads 2");
    assert_eq!((number(&plan["shape"], "rows"), number(&plan["shape"], "dim")), (100_000_000, 384));
    for stage in stages(&plan) {
        assert!(number(stage, "memory") <= 16 * GIB, "{stage}");
    }
    assert!(stages(&plan).iter().any(|stage| stage["spills"].is_string()), "{plan}");
    let text = place.ok("plan big.parquet --memory 16GiB --threads 2").stdout;
    for words in ["100,000,000 rows × 384 of f16", "in shards", "32 bytes a row, 2.98 GiB here"] {
        let found = text.contains(words) || words == "in shards" && text.contains(" shards, merged by list");
        assert!(found, "no {words} in {text}");
    }

    let refused = place.run("plan big.parquet --memory 1GiB --threads 2");
    refused.refused("1GiB", &["--memory: a memory budget of 1 GiB", "stage needs", "smallest sufficient budget"]);
    let smallest = refused.stderr.trim().rsplit("give --memory ").next().expect("a budget");
    let least = planned(&place, &format!("big.parquet --memory {smallest} --threads 2"));
    for stage in stages(&least) {
        assert!(number(stage, "memory") <= number(&least["config"], "memory"), "{stage}");
    }
}
