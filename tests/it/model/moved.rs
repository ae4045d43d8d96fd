//! Rows that an update moves because their neighbours change, and what later commands make of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Exported, FIT, Table, copy, current, export, files, fitted, id_of, json, objects, update};

/// The table of the next night: 40 rows added, 10 changed and 60 deleted, of 1,500.
fn next_night(table: &Table) -> Table {
    table.clone().without(100..160).changing(300..310).and(Table::of(1500..1540))
}

/// The root of the mean squared distance of rows from their mean.
fn radius(rows: &BTreeMap<String, Exported>, ids: &[String]) -> f64 {
    let positions: Vec<Vec<f64>> = ids.iter().map(|id| numbers(&rows[id].position)).collect();
    let count = positions.len() as f64;
    let mean: Vec<f64> = (0..positions[0].len()).map(|i| positions.iter().map(|p| p[i]).sum::<f64>() / count).collect();
    let square: f64 = positions.iter().flat_map(|p| p.iter().zip(&mean).map(|(x, m)| (x - m).powi(2))).sum();
    (square / count).sqrt()
}

fn numbers(bits: &[u32]) -> Vec<f64> {
    bits.iter().map(|&bits| f64::from(f32::from_bits(bits))).collect()
}

/// The distance between two positions, given as bits.
fn far(a: &[u32], b: &[u32]) -> f64 {
    numbers(a).iter().zip(numbers(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// The ids of rows of both versions whose vectors are equal.
fn survivors(before: &BTreeMap<String, Exported>, after: &BTreeMap<String, Exported>) -> Vec<String> {
    let same = before.keys().filter(|id| after.get(*id).is_some_and(|row| row.added_in == before[*id].added_in));
    same.cloned().collect()
}

#[test]
fn only_rows_whose_neighbours_change_move_and_no_farther_than_the_cap() {
    let (place, table) = fitted(0..1500);
    let before = export(&place, "");
    let report = update(&place, &next_night(&table), "--mode transform --move dirty --run-id night-1 --threads 2");
    let after = export(&place, "");
    let both = survivors(&before, &after);
    assert_eq!(both.len(), 1430);
    let measures = &report["measures"];
    let of = |name: &str| measures[name].as_f64().unwrap_or_else(|| panic!("no {name} in {report}"));
    let (radius, mut moved) = (radius(&before, &both), Vec::new());
    for id in &both {
        let (was, is) = (&before[id], &after[id]);
        let far = far(&was.position, &is.position);
        assert!(far <= of("move_cap") * radius * (1.0 + 1e-4) + 1e-6, "{id} moved by {far}");
        assert!((f64::from(is.moved.expect("a distance")) - far).abs() <= 1e-5 * (1.0 + far), "{id}: {:?}", is.moved);
        if was.near == is.near && was.distances == is.distances {
            assert_eq!(was.position, is.position, "{id} moved, and its neighbours are the same");
        }
        moved.push(far / radius);
    }
    moved.sort_by(f64::total_cmp);
    let count = moved.iter().filter(|far| **far > 0.0).count();
    assert!((50..1400).contains(&count), "{count} rows moved");
    assert_eq!(of("moved_rows") as usize, count);
    assert!(of("capped_rows") <= of("moved_rows"));
    for (name, share) in [("moved_p50", 0.5), ("moved_p95", 0.95), ("moved_max", 1.0)] {
        let expected = moved[(1429.0_f64 * share).round() as usize];
        assert!((of(name) - expected).abs() <= 1e-4, "{name}: {} and {expected}", of(name));
    }
    assert!(of("moved_max") > 0.0 && of("kept_neighbors") > 0.3 && of("kept_neighbors") < 1.0, "{report}");
    place.ok("verify m");
    // The version before is as it was.
    assert_eq!(export(&place, "--version 1"), before);
    let told = json(&place.ok("diff m @1 @2 --json"));
    assert!(told["moved"]["rows"].as_u64().is_some_and(|rows| rows as usize >= count), "{told}");
    let shown = place.ok("update m --source t.arrow --move dirty");
    assert!(!shown.stderr.contains("panicked"), "{}", shown.stderr);
}

#[test]
fn rows_that_moved_stay_there_for_all_that_comes_later() {
    let (place, table) = fitted(0..1500);
    let first = export(&place, "");
    let mut table = next_night(&table);
    update(&place, &table, "--mode transform --move dirty --run-id night-1 --threads 2");
    let second = export(&place, "");
    let moved: BTreeSet<String> =
        survivors(&first, &second).into_iter().filter(|id| first[id].position != second[id].position).collect();
    // Copies of rows that moved are placed where these are now.
    let ids: Vec<i64> = moved.iter().take(20).map(|id| id.parse().expect("a number")).collect();
    let mut copies = table.clone();
    copies.rows.retain(|(id, _)| ids.contains(id));
    copies.write(&place, "copies.arrow");
    place.ok("transform --model m copies.arrow -o placed.arrow --quiet");
    let placed = super::placed(&place.path("placed.arrow"));
    for id in &ids {
        assert_eq!(placed[&id.to_string()].0[..], second[&id.to_string()].position[..], "{id}");
    }
    // A night that moves nothing keeps the bytes of all, of rows of the delta too.
    table = table.without(400..410).and(Table::of(1540..1560));
    let report = update(&place, &table, "--mode transform --run-id night-2 --threads 2");
    assert!(report["measures"].get("moved_rows").is_none(), "{report}");
    let third = export(&place, "");
    for id in survivors(&second, &third) {
        assert_eq!(second[&id].position, third[&id].position, "{id}");
    }
    // One that moves begins where they are; rows that do not move again stay.
    table = table.without(420..440).and(Table::of(1560..1580));
    let report = update(&place, &table, "--mode transform --move dirty --run-id night-3 --threads 2");
    let fourth = export(&place, "");
    let both = survivors(&third, &fourth);
    let cap = report["measures"]["move_cap"].as_f64().expect("a number") * radius(&third, &both);
    assert!(both.iter().all(|id| far(&third[id].position, &fourth[id].position) <= cap * (1.0 + 1e-4) + 1e-6));
    let stayed = moved.iter().filter(|id| fourth.get(*id).is_some_and(|row| row.position == second[*id].position));
    assert!(stayed.count() > 0, "a row that moved once stays");
    place.ok("verify m");
    place.ok("rollback m --to 2 --quiet");
    let back = export(&place, "");
    assert!(back.iter().all(|(id, row)| row.position == second[id].position));
    place.ok("gc m --keep 1 --quiet");
    place.ok("verify m");
    assert!(export(&place, "").iter().all(|(id, row)| row.position == second[id].position));
    // A refit begins from them, and has no rows that moved since.
    let report = update(&place, &table, "--mode refit --run-id whole --threads 2");
    assert_eq!(report["mode"], "refit");
    assert!(objects(&place.path("m"), current(&place)).get("moved").is_none());
    let last = export(&place, "");
    let both = survivors(&back, &last);
    let most = both.iter().map(|id| far(&back[id].position, &last[id].position)).fold(0.0, f64::max);
    assert!(most < radius(&back, &both), "a row moved by {most}");
}

/// A row that moves on many nights goes no farther from where the fit put it than on one night.
#[test]
fn the_cap_holds_over_many_nights() {
    let (place, mut table) = fitted(0..1000);
    let first = export(&place, "");
    let (mut most, mut nights_moved, mut delta) = (0.0_f64, 0.0_f64, BTreeMap::new());
    for night in 0..6 {
        let (gone, new) = (night * 40, 1000 + night * 40);
        table = table.without(gone..gone + 40).and(Table::of(new..new + 40));
        let before = export(&place, "");
        let report = update(&place, &table, "--mode transform --move dirty --threads 2");
        let now = export(&place, "");
        let both = survivors(&first, &now);
        let cap = report["measures"]["move_cap"].as_f64().expect("a cap") * radius(&before, &survivors(&before, &now));
        let slack = 0.1 * cap;
        for id in &both {
            let far = far(&first[id].position, &now[id].position);
            // The radius, and with it the cap, is not the same on all nights.
            assert!(far <= cap + slack, "night {night}: {id} is {far} from where it was, the cap is {cap}");
            most = most.max(far);
        }
        nights_moved += report["measures"]["moved_max"].as_f64().expect("a number") * radius(&before, &both);
        // Rows of the delta stay near to where they were placed.
        for (id, row) in now.iter().filter(|(id, _)| !first.contains_key(*id)) {
            let placed: &Vec<u32> = delta.entry(id.clone()).or_insert_with(|| row.position.clone());
            assert!(far(placed, &row.position) <= cap + slack, "night {night}: {id}");
        }
    }
    assert!(
        most > 0.0 && nights_moved > 1.5 * most,
        "all nights together moved rows by {nights_moved}, the map has {most}"
    );
    place.ok("verify m");
}

#[test]
fn the_same_bytes_whatever_the_threads_and_the_budget() {
    for method in ["umap", "tsne", "pacmap"] {
        let place = crate::harness::TestDir::new();
        let table = Table::of(0..900);
        table.write(&place, "t.arrow");
        place.ok(&format!("embed t.arrow --model first --method {method} {}", FIT.replace("--n-neighbors 10", "")));
        table.without(100..160).changing(300..310).and(Table::of(1500..1540)).write(&place, "t.arrow");
        let mut whole = None;
        for options in ["--threads 2 --memory 1GiB", "--threads 1 --memory 100MiB", "--threads 3 --memory 60MiB"] {
            copy(&place.path("first"), &place.path("m"));
            place.ok(&format!("update m --source t.arrow --mode transform --move dirty --run-id a --quiet {options}"));
            let made = (objects(&place.path("m"), 2), export(&place, ""));
            assert!(made.0.get("moved").is_some(), "{method}");
            match &whole {
                None => whole = Some(made),
                Some(whole) => assert!(made == *whole, "{method}: {options}: another version"),
            }
            std::fs::remove_dir_all(place.path("m")).expect("removed");
        }
    }
}

#[test]
fn a_refit_has_no_rows_to_move_apart() {
    let (place, table) = fitted(0..600);
    table.clone().and(Table::of(600..700)).write(&place, "t.arrow");
    let before = files(&place.path("m"));
    place.refused("update m --source t.arrow --mode refit --move dirty", &["--move", "refit"]);
    let told = place.run("update m --source t.arrow --move all");
    assert!(told.code == 2 && told.stderr.contains("none, dirty"), "{}", told.stderr);
    assert!(files(&place.path("m")) == before, "the model changed");
    // More than a tenth is new: auto refits, and says that nothing was moved apart.
    let report = json(&place.ok("update m --source t.arrow --move dirty --json --quiet"));
    assert_eq!(report["mode"], "refit", "{report}");
    assert!(report["why"].as_str().is_some_and(|why| why.contains("moved apart")), "{report}");
    assert!(report["measures"].get("moved_rows").is_none());
    assert!(export(&place, "").contains_key(&id_of(650).to_string()));
}
