//! New rows on a map that does not change: each row is placed by itself, whatever happens on the way.

use std::process::Stdio;

use serde_json::Value;

use super::{Table, export, fitted, id_of, json, nearest, placed, read};
use crate::harness::{TestDir, end, start, wait_for};

#[test]
fn the_same_bytes_whatever_the_batch_the_threads_and_the_budget() {
    let (place, table) = fitted(0..1500);
    let before = super::files(&place.path("m"));
    Table::of(1500..2500).write(&place, "new.arrow");
    place.ok("transform --model m new.arrow -o whole.arrow --quiet");
    let whole = place.bytes("whole.arrow");
    // The smallest budget that would do is named by the refusal.
    let refused = place.run("transform --model m new.arrow -o x.arrow --memory 1MiB --threads 1");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let words: Vec<&str> = refused.stderr.split_whitespace().collect();
    let at = words.iter().rposition(|word| word.starts_with("MiB")).expect("a budget that would do");
    let small = format!("--memory {}MiB --threads 1", words[at - 1]);
    for options in ["--threads 1", "--threads 3 --batch-rows 1", "--batch-rows 77", "--batch-rows 100000", &small] {
        place.ok(&format!("transform --model m new.arrow -o again.arrow --force --quiet {options}"));
        assert!(place.bytes("again.arrow") == whole, "{options}");
    }
    // The model is as it was, and nothing else is left.
    assert!(super::files(&place.path("m")) == before, "a transform changed the model");
    assert_eq!(place.names(), ["again.arrow", "m", "new.arrow", "t.arrow", "whole.arrow"]);

    // A row's place does not depend on the other rows of its table, and a copy lands on its row.
    let mut half = Table::of(1500..1700);
    let copied = id_of(17);
    half.rows.push((-5, table.vector(copied).to_vec()));
    half.write(&place, "half.arrow");
    place.ok("transform --model m half.arrow -o half_placed.arrow --quiet");
    let (some, all) = (placed(&place.path("half_placed.arrow")), placed(&place.path("whole.arrow")));
    for row in 1500..1700 {
        let id = id_of(row).to_string();
        assert_eq!(some[&id], all[&id], "row {id}");
    }
    let model = export(&place, "");
    assert_eq!(some["-5"].0.to_vec(), model[&copied.to_string()].position, "a copy lands on its row");
    // Ids and columns go with the rows, in their order.
    place.ok("transform --model m half.arrow -o kept.arrow --keep label --quiet");
    let kept = read(&place.path("kept.arrow"));
    assert_eq!(
        super::texts(kept.column_by_name("id").expect("ids")),
        (0..half.len()).map(|i| half.id(i)).collect::<Vec<_>>()
    );
    assert!(kept.column_by_name("label").is_some());
}

#[test]
fn rows_lie_beside_their_neighbours_and_far_ones_are_told() {
    let (place, table) = fitted(0..1500);
    let mut new = Table::of(1500..1800);
    new.rows.push((-1, vec![1000.0; 8]));
    new.write(&place, "new.arrow");
    let report = json(&place.ok("transform --model m new.arrow -o p.arrow --json --quiet"));
    let (found, model) = (placed(&place.path("p.arrow")), export(&place, ""));
    assert!(found["-1"].1 > 10.0, "{:?}", found["-1"]);
    let far = found.values().filter(|row| row.1 > 1.0).count();
    assert!(far < 60, "{far} of {} rows are outside", found.len());
    assert_eq!(report["outliers"].as_u64(), Some(far as u64), "{report}");
    assert_eq!(report["rows"].as_u64(), Some(301));
    // The distance to the median of the nearest rows' positions, over the map's width.
    let at = |bits: &[u32]| [f32::from_bits(bits[0]), f32::from_bits(bits[1])].map(f64::from);
    let all: Vec<[f64; 2]> = model.values().map(|row| at(&row.position)).collect();
    let width = all.iter().map(|p| p[0]).fold(f64::MIN, f64::max) - all.iter().map(|p| p[0]).fold(f64::MAX, f64::min);
    let mut away: Vec<f64> = (0..300)
        .map(|row| {
            let (id, vector) = &new.rows[row];
            let near = nearest(&table, vector);
            let mut spread: Vec<[f64; 2]> = near[..9].iter().map(|n| at(&model[&n.1.to_string()].position)).collect();
            let mut middle = [0.0; 2];
            for axis in 0..2 {
                spread.sort_by(|a, b| a[axis].total_cmp(&b[axis]));
                middle[axis] = spread[4][axis];
            }
            let own = at(&found[&id.to_string()].0);
            (own[0] - middle[0]).hypot(own[1] - middle[1]) / width
        })
        .collect();
    away.sort_by(f64::total_cmp);
    assert!(away[150] < 0.03 && away[270] < 0.1, "median {}, ninth tenth {}", away[150], away[270]);
}

#[test]
fn what_cannot_be_placed_is_refused_before_any_work() {
    let (place, _) = fitted(0..600);
    let mut wide = Table::of(600..610);
    wide.rows.iter_mut().for_each(|(_, vector)| vector.push(0.5));
    wide.write(&place, "wide.arrow");
    let mut hole = Table::of(600..610);
    hole.rows[3].1[2] = f32::NAN;
    hole.write(&place, "hole.arrow");
    Table::of(600..610).write(&place, "new.arrow");
    std::fs::write(place.path("there.arrow"), "x").expect("written");
    for (arguments, words) in [
        ("wide.arrow -o p.arrow", &["wide.arrow", "9", "8"][..]),
        ("hole.arrow -o p.arrow", &["hole.arrow", "--invalid"]),
        ("new.arrow -o there.arrow", &["there.arrow", "--force"]),
        ("new.arrow -o m/p.arrow", &["m/p.arrow"]),
        ("new.arrow -o p.arrow --id nowhere", &["nowhere"]),
        ("new.arrow -o p.arrow --version 7", &["7"]),
        ("new.arrow -o p.csv", &["p.csv"]),
    ] {
        place.refused(&format!("transform --model m {arguments}"), words);
    }
    place.refused("transform --model t.arrow new.arrow -o p.arrow", &["t.arrow", "model"]);
    place.refused("transform --model nowhere new.arrow -o p.arrow", &["nowhere"]);
    assert_eq!(place.bytes("there.arrow"), b"x");
    // Left out, or without a place.
    place.ok("transform --model m hole.arrow -o dropped.arrow --invalid drop --quiet");
    assert_eq!(read(&place.path("dropped.arrow")).num_rows(), 9);
}

#[test]
fn every_method_with_a_graph_places_rows() {
    let place = TestDir::new();
    let table = Table::of(0..800).with_texts();
    table.write(&place, "t.arrow");
    let mut new = Table::of(800..900).with_texts();
    new.rows.push((90_000, table.rows[5].1.clone()));
    new.write(&place, "new.arrow");
    for method in ["tsne", "infotsne", "largevis", "pacmap"] {
        place.ok(&format!("embed t.arrow --model m --method {method} --id id --n-epochs 60 --threads 2 --quiet"));
        place.ok("transform --model m new.arrow -o p.arrow --quiet");
        let (found, model) = (placed(&place.path("p.arrow")), export(&place, ""));
        assert_eq!(found.len(), 101, "{method}");
        let finite = |row: &([u32; 2], f32)| row.0.iter().all(|bits| f32::from_bits(*bits).is_finite());
        assert!(found.values().all(finite), "{method}");
        assert_eq!(found[&super::text_id(90_000)].0.to_vec(), model[&table.id(5)].position, "{method}: a copy");
        std::fs::remove_file(place.path("p.arrow")).expect("removed");
        std::fs::remove_dir_all(place.path("m")).expect("removed");
    }
}

#[test]
fn a_killed_transform_resumes_to_the_same_bytes() {
    let place = TestDir::new();
    place.vectors("v.npy", 800);
    place.ok("embed v.npy --model m --n-neighbors 5 --n-epochs 20 --threads 2 --quiet");
    place.vectors("new.npy", 150_000);
    place.ok("transform --model m new.npy -o whole.npy --quiet");
    let arguments = "transform --model m new.npy -o p.npy";
    let (mut child, mut stderr) = start(&place, arguments);
    wait_for(&mut stderr, |event| event["event"] == "unit" && event["stage"] == "place");
    child.kill().expect("killed");
    child.wait().expect("an end");
    assert!(place.path("p.npy.run").exists() && !place.path("p.npy").exists());
    // Another table of rows is not mixed with these.
    place.vectors("other.npy", 149_999);
    let other = "transform --model m other.npy -o p.npy";
    place.run(other).refused(other, &["p.npy.run", "--restart"]);
    let (child, stderr) = start(&place, arguments);
    let (code, events) = end(child, stderr);
    assert_eq!(code, 0, "{events:?}");
    let reused = |event: &&Value| event["event"] == "unit" && event["reused"] == true;
    assert!(events.iter().any(|event| reused(&event)), "nothing was used again");
    assert!(place.bytes("p.npy") == place.bytes("whole.npy"), "another map");
    assert!(!place.path("p.npy.run").exists());

    // An interrupt keeps what is finished too.
    std::fs::remove_file(place.path("p.npy")).expect("removed");
    let mut command = place.command(&format!("{arguments} --log-format json"));
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut stderr, |event| event["event"] == "unit" && event["stage"] == "place");
    crate::harness::signal(&child, "INT");
    let (code, _) = end(child, stderr);
    assert_eq!(code, 130);
    place.ok(&format!("{arguments} --quiet"));
    assert!(place.bytes("p.npy") == place.bytes("whole.npy"), "another map");
}

#[test]
fn a_killed_transform_goes_on_on_the_version_on_which_it_began() {
    let (place, table) = super::fitted(0..600);
    place.wide_vectors("new.npy", 150_000, super::DIM, lowland_datasets::OutputDtype::F32);
    place.ok("transform --model m new.npy -o whole.npy --quiet");
    let arguments = "transform --model m new.npy -o p.npy";
    let (mut child, mut stderr) = start(&place, arguments);
    wait_for(&mut stderr, |event| event["event"] == "unit" && event["stage"] == "place");
    child.kill().expect("killed");
    child.wait().expect("an end");
    super::update(&place, &table.and(Table::of(600..640)), "--run-id second");
    super::copy(&place.path("p.npy.run"), &place.path("kept.run"));
    // Another version that is asked for is not mixed with it.
    let other = format!("{arguments} --version 2");
    place.run(&other).refused(&other, &["p.npy.run", "version 1", "version 2", "--restart", "--run-dir"]);
    let told = place.ok(&format!("{arguments} --json"));
    let report = super::json(&told);
    assert_eq!(report["model_version"], 1, "{report}");
    assert!(report["reused_rows"].as_u64().is_some_and(|rows| rows > 0), "{report}");
    assert!(told.stderr.contains("version 1") && told.stderr.contains("the current version is 2"), "{}", told.stderr);
    assert!(place.bytes("p.npy") == place.bytes("whole.npy"), "another map");
    // The version is gone.
    std::fs::remove_file(place.path("p.npy")).expect("removed");
    std::fs::rename(place.path("kept.run"), place.path("p.npy.run")).expect("moved");
    place.ok("gc m --keep 1 --quiet");
    place.run(arguments).refused(arguments, &["p.npy.run", "version 1", "m does not have", "--restart", "version 2"]);
    let report = super::json(&place.ok(&format!("{arguments} --restart --json --quiet")));
    assert_eq!((report["model_version"].as_u64(), report["reused_rows"].as_u64()), (Some(2), Some(0)));
}

/// Many lists, so that a row is compared with a part of the rows only.
#[test]
fn rows_find_their_neighbours_among_many_lists() {
    let place = TestDir::new();
    place.wide_vectors("v.npy", 70_000, 4, lowland_datasets::OutputDtype::F32);
    place.ok("embed v.npy -o map.npy --model m --n-neighbors 8 --n-epochs 10 --threads 2 --quiet");
    // All are copies: each lands on its row, or on another copy of it.
    place.ok("transform --model m v.npy -o p.npy --quiet --batch-rows 5000");
    let (map, again) = (place.bytes("map.npy"), place.bytes("p.npy"));
    let same = map.chunks_exact(8).zip(again.chunks_exact(8)).filter(|(a, b)| a == b).count();
    assert!(same >= 69_900, "{same} of 70000 copies land on their row");
}
