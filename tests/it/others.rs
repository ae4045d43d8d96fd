//! knn, inspect, plot, help and version.

use serde_json::Value;

use crate::harness::{TestDir, rows_of};

const QUICK: &str = "--n-epochs 20 --quiet";

#[test]
fn a_graph_made_alone_gives_the_same_map() {
    let place = TestDir::new();
    place.vectors("v.parquet", 3_000);
    place.ok("knn v.parquet -o g.arrow --n-neighbors 10 --quiet");
    place.ok(&format!("embed v.parquet -o direct.npy --n-neighbors 10 {QUICK}"));
    place.ok(&format!("embed v.parquet --knn g.arrow -o with.npy {QUICK}"));
    assert!(place.bytes("direct.npy") == place.bytes("with.npy"), "with the vectors nothing is different");
    let report = place.ok(&format!("embed --knn g.arrow -o without.parquet --report - {QUICK}"));
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert_eq!(report["plan"]["graph_k"], 10);
    assert!(report["quality"]["preservation"]["mean"].as_f64().is_some_and(|p| p > 0.05), "{report:#}");
    let (map, _) = rows_of(&place.path("without.parquet"), "x,y");
    assert!(map.len() == 6_000 && map.iter().all(|x| x.is_finite()));

    place.ok("knn v.parquet -o c.arrow --n-neighbors 10 --metric cosine --quiet");
    let report = place.ok(&format!("embed v.parquet --knn c.arrow -o cosine.npy --report - {QUICK}"));
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert_eq!(report["plan"]["config"]["metric"], "cosine", "the graph's metric is taken over");
}

#[test]
fn graphs_that_do_not_fit() {
    let place = TestDir::new();
    place.vectors("v.parquet", 500);
    place.vectors("w.parquet", 501);
    place.ok("knn v.parquet -o g.arrow --quiet");
    place.refused("embed w.parquet --knn g.arrow -o m.npy", &["500", "501"]);
    place.refused("embed v.parquet --knn v.parquet -o m.npy", &["v.parquet", "neighbors"]);
    place.refused("embed --knn nothing.arrow -o m.npy", &["nothing.arrow"]);
    place.refused("embed v.parquet --knn g.arrow --metric cosine -o m.npy", &["--metric", "g.arrow", "euclidean"]);
    place.refused("embed --knn g.arrow --keep label -o m.parquet", &["label", "a graph has no columns"]);
    place.refused(
        "embed --knn g.arrow --plot m.png --color label -o m.parquet",
        &["--color", "the graph has no column"],
    );
    place.refused("embed --knn g.arrow -o g.arrow --force", &["g.arrow", "also an input"]);
}

#[test]
fn inspect_lists_the_source() {
    let place = TestDir::new();
    place.vectors("v.parquet", 500);
    let text = place.ok("inspect v.parquet");
    for words in ["500", "16 of f32", "embedding", "id, label", "every pair", "epochs", "layout"] {
        assert!(text.stdout.contains(words), "no {words} in {}", text.stdout);
    }
    assert_eq!(text.stderr, "");
    let found: Value = serde_json::from_str(&place.ok("inspect v.parquet --json").stdout).expect("JSON");
    assert_eq!((&found["rows"], &found["components"], &found["dtype"]), (&500.into(), &16.into(), &"f32".into()));
    assert_eq!((&found["column"], &found["columns"]), (&"embedding".into(), &serde_json::json!(["id", "label"])));
    assert_eq!(found["plan"]["layout"]["epochs"], 500);
    place.vectors("few.npy", 10);
    let few = place.ok("inspect few.npy");
    assert!(few.stdout.contains("n_neighbors"), "{}", few.stdout);
}

#[test]
fn help_and_version() {
    let place = TestDir::new();
    for arguments in ["--help", "embed --help", "knn --help", "inspect --help", "plot --help", "runs --help"] {
        let help = place.ok(arguments);
        assert_eq!(help.stderr, "");
        for words in ["Usage: lowland", "Exit codes:", "130", "143"] {
            assert!(help.stdout.contains(words), "{arguments}: no {words}");
        }
    }
    let help = place.ok("embed --help").stdout;
    let spaced = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for opt in lowland::MethodOption::ALL {
        let default = format!("[default: {}]", opt.default_text());
        assert!(spaced.contains(&default), "{}: no {default} in the help", opt.name());
    }
    for heading in ["Input:", "Output:", "Neighbours:", "Map:", "Resources:", "Progress:", "Examples:"] {
        assert!(help.contains(heading), "no {heading}");
    }
    let version = place.ok("--version").stdout;
    assert!(version.contains(env!("CARGO_PKG_VERSION")) && version.contains("FAISS"), "{version}");
}
