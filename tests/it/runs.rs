//! `lowland runs`: what is listed, and how each run stands.

use std::io::BufReader;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{TestDir, signal, wait_for};

/// Runs the listing; gives its objects.
fn listed(place: &TestDir, arguments: &str) -> Vec<Value> {
    let answer = place.ok(&format!("runs {arguments} --json"));
    serde_json::from_str::<Value>(&answer.stdout).expect("JSON").as_array().expect("an array").clone()
}

#[test]
fn no_run_is_no_failure() {
    let place = TestDir::new();
    place.vectors("v.npy", 300);
    std::fs::create_dir(place.path("mine")).expect("a directory");
    std::fs::write(place.path("mine/manifest.json"), "{\"name\": \"a web page\"}").expect("written");
    for arguments in ["runs", "runs .", "runs mine", "runs --json"] {
        let answer = place.ok(arguments);
        assert_eq!(answer.stdout.trim(), if arguments.ends_with("json") { "[]" } else { "" }, "{arguments}");
        assert!(answer.stderr.contains("no run directories in "), "{arguments}: {}", answer.stderr);
    }
    place.refused("runs nothing", &["nothing", "cannot list"]);
    place.refused("runs v.npy", &["v.npy", "cannot list"]);
}

#[test]
fn a_finished_run_that_was_kept() {
    let place = TestDir::new();
    place.vectors("v.npy", 1_000);
    place.ok("embed v.npy -o m.npy --n-epochs 5 --keep-run --quiet");
    let answer = place.ok("runs");
    assert_eq!(answer.stderr, "");
    let lines: Vec<&str> = answer.stdout.lines().collect();
    let [headings, line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(headings.starts_with("RUN "), "{headings}");
    for words in ["m.npy.run  20", "Z  ", "scan, index, neighbors, affinity, init, layout", "v.npy", "  finished"] {
        assert!(line.contains(words), "no {words} in {line}");
    }
    assert!(line.starts_with("m.npy.run "), "as a person types it: {line}");

    // By itself, by what it lies in, and twice: the same run.
    let itself = listed(&place, "m.npy.run");
    assert_eq!(itself, listed(&place, ""));
    assert_eq!(itself, listed(&place, "m.npy.run . m.npy.run"));
    let [run] = itself.as_slice() else { panic!("{itself:?}") };
    assert_eq!((&run["state"], &run["path"]), (&"finished".into(), &"m.npy.run".into()));
    assert_eq!((&run["holder"], &run["problem"]), (&Value::Null, &Value::Null));
    assert_eq!(run["finished"].as_array().map(Vec::len), Some(6));
    assert_eq!(run["under_way"], serde_json::json!([]));
    assert_eq!(run["sources"][0]["bytes"], place.bytes("v.npy").len());
    let files = std::fs::read_dir(place.path("m.npy.run")).expect("the run directory");
    let bytes: u64 = files.map(|f| f.and_then(|f| f.metadata()).expect("a file").len()).sum();
    assert_eq!(run["bytes"], bytes);
    let created = run["created"].as_str().expect("a time");
    assert!(created.len() == 20 && created.ends_with('Z'), "{created}");
}

#[test]
fn a_run_in_use_and_then_stopped() {
    let place = TestDir::new();
    place.vectors("v.npy", 3_000);
    let arguments = "embed v.npy -o m.npy --n-epochs 4000 --threads 2 --log-format json";
    let mut child = place.command(arguments).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut stderr, |event| event["event"] == "advance" && event["stage"] == "layout");
    let (used, text) = (listed(&place, ""), place.ok("runs").stdout);
    signal(&child, "TERM");
    assert_eq!(child.wait().expect("an end").code(), Some(143));
    let [run] = used.as_slice() else { panic!("{used:?}") };
    assert_eq!(run["state"], "in use");
    let holder = format!("process {} on ", child.id());
    assert!(run["holder"].as_str().is_some_and(|who| who.starts_with(&holder)), "{run}");
    assert!(text.contains(&format!("  in use by {holder}")), "{text}");

    let stopped = listed(&place, "");
    let [run] = stopped.as_slice() else { panic!("{stopped:?}") };
    assert_eq!((&run["state"], &run["holder"]), (&"stopped".into(), &Value::Null));
    let finished = ["scan", "index", "neighbors", "affinity", "init"];
    assert_eq!(run["finished"], serde_json::json!(finished));
    let text = place.ok("runs").stdout;
    assert!(text.contains("init") && text.trim_end().ends_with("  stopped"), "{text}");
    // Looking has changed nothing: it still goes on.
    let again = place.ok("embed v.npy -o m.npy --n-epochs 4000 --threads 2");
    assert!(again.stderr.contains("kept from an earlier run"), "{}", again.stderr);
}

#[test]
fn a_damaged_run_says_what_is_wrong() {
    let place = TestDir::new();
    place.vectors("v.npy", 500);
    for name in ["a", "b", "c"] {
        place.ok(&format!("embed v.npy -o {name}.npy --n-epochs 5 --keep-run --quiet"));
    }
    let manifest = place.path("a.npy.run/manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    std::fs::write(&manifest, text.replace("\"scan\"", "\"scam\"")).expect("written");
    std::fs::write(place.path("b.npy.run/positions.f32"), "short").expect("written");
    std::fs::remove_file(place.path("c.npy.run/edges-000.arrow")).expect("removed");
    let runs = listed(&place, "");
    let words = [
        ["a.npy.run", "manifest.json", "checksum differs"],
        ["b.npy.run", "positions.f32", "5 bytes where the manifest lists 4000"],
        ["c.npy.run", "edges-000.arrow", "listed in the manifest"],
    ];
    assert_eq!(runs.len(), 3);
    let text = place.ok("runs").stdout;
    for ((run, [path, file, what]), line) in runs.iter().zip(words).zip(text.lines().skip(1)) {
        assert_eq!((&run["path"], &run["state"]), (&path.into(), &"damaged".into()));
        let problem = run["problem"].as_str().expect("a problem");
        assert!(problem.contains(file) && problem.contains(what), "{problem}");
        assert!(line.starts_with(path) && line.contains("damaged: ") && line.contains(what), "{line}");
    }
}
