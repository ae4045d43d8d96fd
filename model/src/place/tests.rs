use lowland_engine::neighbors::MISSING;
use lowland_engine::{Method, Metric, Settings};

use super::*;
use crate::search::fixture::{Fixture, Rows, clustered};
use crate::search::{SearchEffort, Searcher};

const METHODS: [Method; 5] = [Method::UMAP, Method::LARGEVIS, Method::INFOTSNE, Method::TSNE, Method::PACMAP];

fn settings(method: Method, rows: u64) -> Settings {
    Settings { perplexity: 3.0, ..Settings::defaults_for(method, rows) }
}

fn find(of: &Fixture, queries: &[f32], k: usize) -> Found {
    let all = SearchEffort { first: u16::MAX, graph: 0 };
    let own = vec![MISSING; queries.len() / of.dim];
    Searcher::new(&of.snapshot, Metric::Euclidean, all).search(queries, &own, k, None, &|| false).expect("found")
}

fn place(of: &Fixture, settings: &Settings, found: &Found, hashes: &[u64]) -> (Vec<f32>, Vec<f32>) {
    let placer = Placer::new(settings, &of.snapshot, 2.0).expect("a placer");
    let mut positions = vec![f32::NAN; found.queries() * settings.n_components];
    let mut outliers = vec![f32::NAN; found.queries()];
    placer.place(found, hashes, &mut positions, &mut outliers).expect("placed");
    (positions, outliers)
}

fn part(found: &Found, rows: std::ops::Range<usize>) -> Found {
    let near = rows.start * found.k..rows.end * found.k;
    Found {
        k: found.k,
        places: found.places[near.clone()].to_vec(),
        distances: found.distances[near].to_vec(),
        lists: found.lists[rows.clone()].to_vec(),
        list_distances: found.list_distances[rows].to_vec(),
    }
}

#[test]
fn new_rows_land_among_their_neighbours() {
    let of = Rows { base: clustered(1500, 5, 1), ..Rows::default() }.build();
    let queries = clustered(100, 5, 9);
    let hashes: Vec<u64> = (0..100).collect();
    let found = find(&of, &queries, 8);
    for method in METHODS {
        let (positions, outliers) = place(&of, &settings(method, 1500), &found, &hashes);
        for (query, position) in positions.chunks_exact(2).enumerate() {
            let near = found.of(query).0.iter().map(|&place| of.snapshot.position(place));
            let distances: Vec<f32> = near.map(|p| (p[0] - position[0]).hypot(p[1] - position[1])).collect();
            // The map of the fixture is two components of the vectors.
            assert!(distances.iter().any(|&d| d < 3.0), "{method}: {position:?}, {distances:?}");
            let expected = found.list_distances[query].sqrt() / 2.0;
            assert!((outliers[query] - expected).abs() < 1e-6);
        }
    }
}

#[test]
fn a_position_depends_on_the_row_and_its_hash_alone() {
    let of = Rows::default().build();
    let queries = clustered(150, 5, 10);
    let hashes: Vec<u64> = (0..150).map(|i| i * i + 5).collect();
    let found = find(&of, &queries, 8);
    for method in METHODS {
        let settings = settings(method, 430);
        let whole = place(&of, &settings, &found, &hashes);
        for (threads, chunk) in [(1, 150), (3, 1), (2, 70)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            for first in (0..150).step_by(chunk) {
                let rows = first..(first + chunk).min(150);
                let some = pool.install(|| place(&of, &settings, &part(&found, rows.clone()), &hashes[rows.clone()]));
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&some.0), bits(&whole.0[rows.start * 2..rows.end * 2]), "{method}: {threads} threads");
                assert_eq!(some.1, whole.1[rows]);
            }
        }
        let other = place(&of, &settings, &found, &vec![1; 150]).0;
        let draws = ![Method::TSNE, Method::PACMAP].contains(&method);
        assert_eq!(other != whole.0, draws, "{method}");
    }
}

#[test]
fn a_copy_lands_on_its_row_and_never_on_a_dead_one() {
    let of = Rows::default().build();
    for method in METHODS {
        let queries = of.vectors.clone();
        let count = queries.len() / 5;
        let found = find(&of, &queries, 8);
        let hashes: Vec<u64> = (0..count as u64).collect();
        let (positions, _) = place(&of, &settings(method, 430), &found, &hashes);
        for (row, position) in positions.chunks_exact(2).enumerate() {
            let same = position == of.snapshot.position(row as u32);
            assert_eq!(same, !of.snapshot.is_dead(row as u32), "{method}: row {row}");
        }
    }
}

#[test]
fn maps_of_other_widths_are_placed_and_wrong_widths_refused() {
    for components in [1, 3, 5] {
        let of = Rows { components, ..Rows::default() }.build();
        let found = find(&of, &clustered(20, 5, 11), 6);
        let settings = Settings { n_components: components, ..settings(Method::UMAP, 430) };
        let (positions, _) = place(&of, &settings, &found, &[3; 20]);
        assert!(positions.len() == 20 * components && positions.iter().all(|x| x.is_finite()));
        let wrong = Settings { n_components: 2, ..settings };
        assert!(Placer::new(&wrong, &of.snapshot, 1.0).is_err());
    }
}

#[test]
fn one_row_and_no_row() {
    let one = Rows { dim: 2, lists: 1, k: 1, base: vec![1.0, 2.0], delta: Vec::new(), dead: Vec::new(), components: 2 };
    let of = one.build();
    let found = find(&of, &[1.5, 2.0], 4);
    for method in METHODS {
        let (positions, _) = place(&of, &settings(method, 2), &found, &[1]);
        assert!(positions.iter().all(|x| x.is_finite()), "{method}: {positions:?}");
    }
    let of = Rows { dead: vec![0], ..one }.build();
    let found = find(&of, &[1.5, 2.0], 4);
    let placer = Placer::new(&settings(Method::UMAP, 2), &of.snapshot, 1.0).expect("a placer");
    assert!(placer.place(&found, &[1], &mut [0.0; 2], &mut [0.0]).is_err());
}

#[test]
fn methods_of_all_pairs_are_refused() {
    let of = Rows::default().build();
    let method = Method::from_name("sne").expect("a method");
    assert!(Placer::new(&Settings::defaults_for(method, 430), &of.snapshot, 1.0).is_err());
}

#[test]
fn reach_is_the_99th_percentile_of_distances_to_centroids() {
    // One list whose centroid is the first row, at 0; rows at 0 to 999.
    let base: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let rows = Rows { dim: 1, lists: 1, base, delta: Vec::new(), dead: vec![999], ..Rows::default() };
    let of = rows.build();
    let far = reach(&of.snapshot, Metric::Euclidean, &|| false).expect("a reach");
    assert!((989.0..989.6).contains(&far), "{far}");
    assert!(reach(&of.snapshot, Metric::Euclidean, &|| true).is_err());
    let of = Rows { dead: (0..1000).collect(), ..rows }.build();
    assert_eq!(reach(&of.snapshot, Metric::Euclidean, &|| false).expect("a reach"), 0.0);
}
