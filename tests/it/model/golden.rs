//! The model of `tests/data/model-v1`, made once and kept: this build and later ones must open it, place rows with it
//! and update it, or its format is another one and must say so.
//!
//! ```text
//! t.arrow        the table of the model: id (text), vector, label
//! model/         a model with two versions, the first tagged `first`
//! new.arrow      other rows
//! placed.npy     where they were placed then
//! map.arrow      the model as a table
//! tonight.arrow  the table of the next night
//! ```
//!
//! Every version of lowland whose format is a new one adds a directory; the earlier ones stay. This one is made again
//! only while its format is unpublished, by `cargo run --release --example golden_model`.

use std::path::{Path, PathBuf};

use super::{copy, exported, json};
use crate::harness::{TestDir, fixture};

fn golden(name: &str) -> PathBuf {
    Path::new(&fixture("model-v1")).join(name)
}

/// A place with a copy of all.
fn given() -> TestDir {
    let place = TestDir::new();
    copy(&golden("."), &place.path("g"));
    place
}

#[test]
fn an_earlier_model_is_opened_and_checked() {
    let place = given();
    place.ok("verify g/model");
    let versions = json(&place.ok("versions g/model --json"));
    assert_eq!(versions.as_array().map(Vec::len), Some(2));
    assert_eq!((versions[0]["tags"][0].as_str(), versions[1]["current"].as_bool()), (Some("first"), Some(true)));
    place.ok("export g/model -o map.arrow --quiet");
    assert_eq!(exported(&place.path("map.arrow")), exported(&golden("map.arrow")));
    let told = json(&place.ok("diff g/model first current --json"));
    assert_eq!((told["added"].as_u64(), told["deleted"].as_u64()), (Some(20), Some(10)));
}

#[test]
fn an_earlier_model_places_rows() {
    let place = given();
    let made_by = json(&place.ok("versions g/model --json"))[1]["lowland"].clone();
    place.ok("transform --model g/model g/new.arrow -o placed.npy --quiet");
    let (found, kept) = (place.bytes("placed.npy"), std::fs::read(golden("placed.npy")).expect("positions"));
    assert_eq!(found.len(), kept.len());
    // Another version may place rows in another way.
    if made_by == env!("CARGO_PKG_VERSION") {
        assert!(found == kept, "rows are placed elsewhere");
    }
}

#[test]
fn an_earlier_model_is_updated() {
    let place = given();
    let before = exported(&golden("map.arrow"));
    for (mode, version) in [("transform", 3), ("refit", 4)] {
        let report = json(&place.ok(&format!(
            "update g/model --source g/tonight.arrow --mode {mode} --run-id {mode} --json --quiet --threads 2"
        )));
        assert_eq!(
            (report["outcome"].as_str(), report["version"].as_u64()),
            (Some("published"), Some(version)),
            "{report}"
        );
        place.ok("export g/model -o map.arrow --force --quiet");
        let after = exported(&place.path("map.arrow"));
        assert_eq!(after.len(), before.len() + 5);
        if mode == "transform" {
            assert!(before.iter().all(|(id, row)| after[id].position == row.position), "old rows keep their places");
        }
        place.ok("verify g/model");
    }
    place.ok("rollback g/model --to first --quiet");
    place.ok("gc g/model --keep 2 --quiet");
    place.ok("verify g/model");
}
