//! Refits: the whole map anew, from where the rows were, laid on the map before.

use crate::harness::TestDir;

use super::{Table, current, export, fitted, id_of, json, update, versions};

#[test]
fn auto_refits_when_a_tenth_was_added_or_a_fifth_is_gone() {
    let (place, table) = fitted(0..800);
    // 8 %: not yet. 16 % since the last refit: now.
    let first = table.clone().and(Table::of(800..864));
    assert_eq!(update(&place, &first, "")["mode"], "transform");
    let second = first.and(Table::of(864..928));
    let report = update(&place, &second, "");
    assert_eq!((report["mode"].as_str(), report["outcome"].as_str()), (Some("refit"), Some("published")), "{report}");
    assert_eq!(versions(&place)[&3]["action"], "refit");
    // Counted from the refit on.
    let third = second.and(Table::of(928..960));
    assert_eq!(update(&place, &third, "")["mode"], "transform");
    // As the user says.
    let fourth = third.clone().and(Table::of(960..970));
    assert_eq!(update(&place, &fourth, "--refit-when added>0.01")["mode"], "refit");
    let fifth = fourth.clone().without(0..10);
    assert_eq!(update(&place, &fifth, "--refit-when deleted>0.001")["mode"], "refit");
    assert_eq!(export(&place, "").len(), fifth.len());
    let told = place.run("update m --source t.arrow --refit-when nonsense");
    assert!(told.code == 2 && told.stderr.contains("--refit-when"), "{}", told.stderr);
}

#[test]
fn a_map_that_would_move_the_rows_far_is_not_taken() {
    // PaCMAP begins anew from any positions, so that its map is another one.
    let (place, table) = (TestDir::new(), Table::of(0..600));
    table.write(&place, "t0.arrow");
    place.ok("embed t0.arrow --model m --id id --method pacmap --threads 2 --quiet");
    let before = export(&place, "");
    let report = update(&place, &table.and(Table::of(600..620)), "--mode refit --threads 2");
    assert!(report["why"].as_str().is_some_and(|why| why.contains("keep their positions")), "{report}");
    assert_eq!(
        (report["measures"]["moved_max"].as_f64(), report["measures"]["kept_neighbors"].as_f64()),
        (Some(0.0), Some(1.0))
    );
    let after = export(&place, "");
    assert_eq!(after.len(), 620);
    assert!(before.iter().all(|(id, row)| after[id].position == row.position), "a row moved");
    assert_eq!(place.ok("verify m").code, 0);
}

#[test]
fn a_refit_lies_on_the_map_before() {
    let (place, table) = fitted(0..1500);
    let before = export(&place, "");
    let tonight = table.without(0..100).and(Table::of(1500..1600));
    let report = update(&place, &tonight, "--mode refit --threads 2");
    assert_eq!(report["mode"], "refit");
    let measures = &report["measures"];
    let of = |name: &str| measures[name].as_f64().unwrap_or_else(|| panic!("no {name} in {report}"));
    assert!(of("moved_p50") > 0.0 && of("moved_p50") <= of("moved_p95"), "{report}");
    assert!(of("moved_p95") < 0.2, "{report}");
    assert!(of("kept_neighbors") > 0.5, "{report}");
    let after = export(&place, "");
    assert_eq!(after.len(), 1500);
    // A refit adds no row: each keeps the version that added it.
    let added_in = |row: usize| after[&id_of(row).to_string()].added_in;
    assert_eq!((added_in(200), added_in(1550)), (1, 2));
    // How far rows moved by their coordinates, over the radius of the map before, is what the report says.
    let at = |bits: &[u32]| [f64::from(f32::from_bits(bits[0])), f64::from(f32::from_bits(bits[1]))];
    let kept: Vec<([f64; 2], [f64; 2])> = (100..1500)
        .map(|row| id_of(row).to_string())
        .map(|id| (at(&before[&id].position), at(&after[&id].position)))
        .collect();
    let n = kept.len() as f64;
    let middle = [0, 1].map(|axis| kept.iter().map(|(old, _)| old[axis]).sum::<f64>() / n);
    let square = kept.iter().map(|(old, _)| (old[0] - middle[0]).powi(2) + (old[1] - middle[1]).powi(2)).sum::<f64>();
    let radius = (square / n).sqrt();
    let mut moved: Vec<f64> = kept.iter().map(|(old, new)| (old[0] - new[0]).hypot(old[1] - new[1]) / radius).collect();
    moved.sort_by(f64::total_cmp);
    let p95 = moved[(n * 0.95) as usize];
    assert!((p95 - of("moved_p95")).abs() < 0.1 * p95 + 1e-3, "{p95}, told {}", of("moved_p95"));
    // The options of the map stay those of its first fit, whatever a refit made of them.
    let options = |version: u64| -> serde_json::Value {
        let record = place.bytes(&format!("m/versions/{version:06}.json"));
        let mut options = serde_json::from_slice::<serde_json::Value>(&record).expect("JSON")["options"].take();
        // They follow from the rows.
        for field in ["mean_distance", "effort", "effort_recall", "reach"] {
            options[field].take();
        }
        options
    };
    assert_eq!(options(1), options(2));
    // The rows are those of the base now: one more refit of the same rows is a small step.
    let again = update(&place, &tonight, "--mode refit --threads 2 --run-id again");
    assert_eq!(again["outcome"], "published", "a refit that was asked for is done");
    assert_eq!(current(&place), 3);
    place.ok("verify m");
}

#[test]
fn a_refit_is_the_same_whatever_the_threads_and_the_budget() {
    let (place, table) = fitted(0..800);
    table.and(Table::of(800..900)).write(&place, "t.arrow");
    super::copy(&place.path("m"), &place.path("first"));
    let mut whole = None;
    for options in ["--threads 2", "--threads 1 --memory 100MiB"] {
        std::fs::remove_dir_all(place.path("m")).expect("removed");
        super::copy(&place.path("first"), &place.path("m"));
        let report = json(&place.ok(&format!("update m --source t.arrow --mode refit --json --quiet {options}")));
        let made = (report["measures"].clone(), export(&place, ""));
        match &whole {
            None => whole = Some(made),
            Some(whole) => assert!(made == *whole, "{options}: another map"),
        }
    }
}
