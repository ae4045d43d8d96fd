//! The guide's conformance table: rows that no other test holds, and that
//! `tests/CONFORMANCE.md` names tests that there are.

use lowland_datasets::DatasetKind;
use lowland_engine::{Config, Metric};

use crate::harness::home;
use crate::harness::{TestTable, graph_of, plan_of, quick};

/// Every `path::name` of the table is a function in that file.
#[test]
fn conformance_table_names_existing_tests() {
    let text = std::fs::read_to_string(home().join("tests/CONFORMANCE.md")).expect("the table");
    let mut named = 0;
    for (path, name) in text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::")) {
        let path = format!("{path}.rs");
        let source = std::fs::read_to_string(home().join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(source.contains(&format!("fn {name}(")), "{path} has no test {name}");
        named += 1;
    }
    assert!(named > 60, "{named}");
}

/// The DataLoader's rows: 1000 × 32, ten neighbours, batches of any size; the row itself is none of them.
#[test]
fn batches_of_any_size_give_the_neighbours_of_the_whole() {
    const K: usize = 10;
    let table = TestTable::of(DatasetKind::Uniform, 1000, 32, 0);
    for metric in [Metric::Euclidean, Metric::Sqeuclidean, Metric::Cosine] {
        let of = |batch_rows| {
            let config = Config { metric: Some(metric), n_neighbors: Some(K), batch_rows: Some(batch_rows), ..quick() };
            let (ids, distances, ..) = graph_of(&plan_of(&config, &table), &table);
            (ids, distances)
        };
        let whole = of(1000);
        for rows in [50, 100, 256, 500] {
            assert_eq!(of(rows), whole, "batches of {rows}");
        }
        let rows: Vec<Vec<f64>> =
            table.values.chunks(32).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for (row, (ids, distances)) in whole.0.chunks(K).zip(whole.1.chunks(K)).enumerate() {
            let far = |other: usize| {
                let squared = rows[row].iter().zip(&rows[other]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                let lengths = (dot(&rows[row], &rows[row]) * dot(&rows[other], &rows[other])).sqrt();
                match metric {
                    Metric::Euclidean => squared.sqrt(),
                    Metric::Sqeuclidean => squared,
                    _ => 1.0 - dot(&rows[row], &rows[other]) / lengths,
                }
            };
            let mut expected: Vec<(f64, u32)> =
                (0..1000).filter(|&o| o != row).map(|other| (far(other), other as u32)).collect();
            expected.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert_eq!(ids, expected[..K].iter().map(|e| e.1).collect::<Vec<_>>(), "row {row}");
            for (found, (expected, _)) in distances.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "row {row}: {found}, {expected}");
            }
        }
    }
}
