use lowland_engine::Metric;
use lowland_engine::neighbors::MISSING;

use super::fixture::{Fixture, Rows, clustered, nearest};
use super::*;

const ALL: SearchEffort = SearchEffort { first: u16::MAX, graph: 0 };

fn search(of: &Fixture, effort: SearchEffort, queries: &[f32], own: &[u32], k: usize) -> (Found, ReverseHits) {
    let mut reverse = ReverseHits::default();
    let searcher = Searcher::new(&of.snapshot, Metric::Euclidean, effort);
    let found = searcher.search(queries, own, k, Some(&mut reverse), &|| false).expect("found");
    (found, reverse)
}

fn nobody(queries: &[f32], dim: usize) -> Vec<u32> {
    vec![MISSING; queries.len() / dim]
}

fn check_against_all_pairs(of: &Fixture, queries: &[f32], own: &[u32], k: usize) {
    let (found, reverse) = search(of, ALL, queries, own, k);
    let live = |place: u32| !of.snapshot.is_dead(place);
    let mut hits = Vec::new();
    for (query, vector) in queries.chunks_exact(of.dim).enumerate() {
        let others = |place: u32| live(place) && place != own[query];
        let expected = nearest(&of.vectors, of.dim, vector, k, others);
        let (places, distances) = found.of(query);
        let got: Vec<(f32, u32)> = distances.iter().copied().zip(places.iter().copied()).collect();
        assert_eq!(got, expected, "query {query}");
        for (squared, place) in nearest(&of.vectors, of.dim, vector, usize::MAX, others) {
            if squared.sqrt() < of.snapshot.radius(place) {
                hits.push((place, query as u32, squared));
            }
        }
    }
    hits.sort_unstable_by_key(|&(place, query, _)| (place, query));
    assert_eq!(reverse.hits, hits);
    assert_eq!(found.places.len(), found.queries() * k);
}

#[test]
fn all_lists_find_what_all_pairs_find() {
    let of = Rows::default().build();
    let queries = clustered(40, 5, 3);
    check_against_all_pairs(&of, &queries, &nobody(&queries, 5), 7);
    // The rows themselves, base and delta, dead ones too.
    let own: Vec<u32> = (0..of.snapshot.places()).collect();
    check_against_all_pairs(&of, &of.vectors, &own, 7);
    check_against_all_pairs(&of, &of.vectors, &nobody(&of.vectors, 5), 1);
    check_against_all_pairs(&of, &queries, &nobody(&queries, 5), 0);
}

#[test]
fn equal_distances_go_to_the_lower_place_and_copies_are_found() {
    // Every row four times, in base and delta.
    let one = clustered(50, 3, 4);
    let base = [one.as_slice(), &one, &one].concat();
    let of = Rows { dim: 3, lists: 6, base, delta: one.clone(), dead: vec![1, 160], ..Rows::default() }.build();
    let own: Vec<u32> = (0..200).collect();
    check_against_all_pairs(&of, &of.vectors, &own, 6);
    let (found, _) = search(&of, ALL, &one, &nobody(&one, 3), 3);
    assert!((0..50).all(|query| found.of(query).1[0] == 0.0));
}

#[test]
fn few_rows_leave_missing_neighbours() {
    let base = vec![1.0, 2.0, 3.0, 1.0];
    let of = Rows { dim: 4, lists: 1, k: 2, base, delta: Vec::new(), dead: Vec::new(), components: 2 }.build();
    let (found, reverse) = search(&of, ALL, &[1.0, 2.0, 3.0, 3.0], &[MISSING], 3);
    assert_eq!(
        (&found.places[..], &found.distances[..]),
        (&[0, MISSING, MISSING][..], &[4.0, f32::INFINITY, f32::INFINITY][..])
    );
    assert_eq!((found.of(0).0.len(), found.lists[0], found.list_distances[0]), (1, 0, 4.0));
    // A row with fewer neighbours than it stores has room for any row.
    assert_eq!(reverse.hits, [(0, 0, 4.0)]);
    let (found, reverse) = search(&of, ALL, &[1.0, 2.0, 3.0, 1.0], &[0], 3);
    assert!(found.of(0).0.is_empty() && reverse.hits.is_empty());
    let (found, _) = search(&of, ALL, &[], &[], 3);
    assert_eq!(found.queries(), 0);
}

#[test]
fn a_model_of_dead_rows_finds_nothing() {
    let base = clustered(20, 2, 5);
    let of = Rows { dim: 2, lists: 3, base, delta: Vec::new(), dead: (0..20).collect(), ..Rows::default() }.build();
    let (found, reverse) = search(&of, ALL, &[0.0, 0.0], &[MISSING], 4);
    assert!(found.of(0).0.is_empty() && reverse.hits.is_empty());
}

#[test]
fn what_is_found_depends_neither_on_chunks_nor_on_threads() {
    let of = Rows { base: clustered(3000, 5, 1), lists: 40, ..Rows::default() }.build();
    let queries = clustered(700, 5, 6);
    let effort = SearchEffort { first: 2, graph: 2 };
    let (whole, hits) = search(&of, effort, &queries, &nobody(&queries, 5), 6);
    for (threads, chunk) in [(1, 700), (1, 1), (3, 64), (2, 333)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let mut first = 0;
        for part in queries.chunks(chunk * 5) {
            let (found, some) = pool.install(|| search(&of, effort, part, &nobody(part, 5), 6));
            let rows = first..first + found.queries();
            assert_eq!(found.places, whole.places[rows.start * 6..rows.end * 6], "{threads} threads, {chunk} queries");
            assert_eq!(found.distances, whole.distances[rows.start * 6..rows.end * 6]);
            assert_eq!(found.lists, whole.lists[rows.clone()]);
            let own: Vec<_> = (hits.hits.iter())
                .filter(|hit| rows.contains(&(hit.1 as usize)))
                .map(|&(place, query, squared)| (place, query - first as u32, squared))
                .collect();
            assert_eq!(some.hits, own);
            first = rows.end;
        }
    }
}

#[test]
fn a_search_of_some_places_finds_only_these() {
    let of = Rows::default().build();
    let queries = clustered(30, 5, 12);
    for places in [0..400, 400..430, 20..405, 7..7, 430..430] {
        let searcher = Searcher::new(&of.snapshot, Metric::Euclidean, ALL).only(places.clone());
        let mut found = searcher.search(&queries, &nobody(&queries, 5), 9, None, &|| false).expect("found");
        found.keep_nearest(4);
        for (query, vector) in queries.chunks_exact(5).enumerate() {
            let keep = |place: u32| places.contains(&place) && !of.snapshot.is_dead(place);
            let expected: Vec<u32> = nearest(&of.vectors, 5, vector, 4, keep).into_iter().map(|near| near.1).collect();
            assert_eq!(found.of(query).0, expected, "{places:?}, query {query}");
        }
    }
}

/// The share of the exact neighbours that an effort finds.
fn recall(of: &Fixture, effort: SearchEffort) -> f64 {
    let (mut found, mut all) = (0, 0);
    for row in of.snapshot.sample().iter().filter(|row| !of.snapshot.is_dead(row.place)) {
        let vector = &of.vectors[row.place as usize * of.dim..][..of.dim];
        let wanted: Vec<u32> =
            row.neighbors.iter().map(|near| near.1).filter(|&place| !of.snapshot.is_dead(place)).collect();
        let (got, _) = search(of, effort, vector, &[row.place], row.neighbors.len());
        found += wanted.iter().filter(|place| got.places.contains(place)).count();
        all += wanted.len();
    }
    found as f64 / all as f64
}

#[test]
fn effort_reaches_its_recall_and_grows_with_it() {
    // Rows without clusters, whose neighbours are spread over many lists.
    let base: Vec<f32> = (0..2000 * 6).map(|i| super::fixture::unit(8, i)).collect();
    let of = Rows { dim: 6, base, delta: Vec::new(), dead: vec![5, 900], lists: 50, ..Rows::default() }.build();
    let mut before = 0;
    for wanted in [0.3, 0.6, 0.9, 0.97, 1.0] {
        let (least, reached) = effort(&of.snapshot, Metric::Euclidean, wanted, &|| false).expect("an effort");
        assert!(reached >= wanted, "{reached} for {wanted}");
        // A search goes on where the lists of an effort have too few rows.
        let found = recall(&of, least);
        assert!(found >= reached - 1e-9 && found < reached + 0.05, "{least:?} for {wanted}: {found} for {reached}");
        let lists = least.first + least.graph;
        assert!(lists >= before, "{lists} lists for {wanted}");
        before = lists;
    }
    // More lists of either kind find no fewer rows.
    let at = |first, graph| recall(&of, SearchEffort { first, graph });
    assert!(at(2, 0) < at(2, 2) && at(2, 2) < at(2, 6) && at(2, 0) < at(5, 0));
}

#[test]
fn a_search_can_be_stopped() {
    let of = Rows::default().build();
    let searcher = Searcher::new(&of.snapshot, Metric::Euclidean, ALL);
    let stopped = searcher.search(&of.vectors, &nobody(&of.vectors, 5), 3, None, &|| true);
    assert!(matches!(stopped, Err(crate::Error::Engine(EngineError::Cancelled { .. }))));
}

#[test]
fn cosine_radii_are_halves_of_squares() {
    for (metric, radius) in [(Metric::Euclidean, 3.0f32), (Metric::Cosine, 0.37), (Metric::Sqeuclidean, 7.0)] {
        let bound = visits::squared_bound(metric, radius);
        let last = (0..4000u32)
            .map(|by| f32::from_bits(bound.to_bits() - 2000 + by))
            .rfind(|&squared| metric.distance(squared) < radius);
        assert!(last.is_none_or(|last| last <= bound) && bound < metric.distance(1.0).recip() * radius * radius * 40.0);
    }
    assert_eq!(visits::squared_bound(Metric::Euclidean, f32::INFINITY), f32::INFINITY);
}

#[test]
fn rows_are_found_where_all_rows_near_a_query_are_gone() {
    let rows = Rows::default();
    let whole = rows.build();
    // All rows of the lists that a query visits first are gone.
    let query = whole.vectors[..5].to_vec();
    let near = nearest(&whole.vectors, 5, &query, 300, |_| true);
    let mut dead: Vec<u32> = near.iter().map(|&(_, place)| place).collect();
    dead.sort_unstable();
    let of = Rows { dead: dead.clone(), ..rows }.build();
    let effort = SearchEffort { first: 1, graph: 1 };
    let mut hits = ReverseHits::default();
    let found = Searcher::new(&of.snapshot, Metric::Euclidean, effort)
        .search(&query, &nobody(&query, 5), 9, Some(&mut hits), &|| false)
        .expect("found");
    let wanted = nearest(&whole.vectors, 5, &query, 9, |place| dead.binary_search(&place).is_err());
    assert_eq!(found.places, wanted.iter().map(|&(_, place)| place).collect::<Vec<_>>());
    let mut once = hits.hits.clone();
    once.dedup();
    assert_eq!(hits.hits, once, "each row sees the query once");
}

#[test]
fn an_exact_search_and_probes_find_what_all_pairs_find() {
    let of = Rows { base: clustered(900, 5, 1), lists: 30, ..Rows::default() }.build();
    let least = SearchEffort { first: 1, graph: 0 };
    let queries = clustered(60, 5, 9);
    let own = nobody(&queries, 5);
    let places = 20..915;
    let searcher = Searcher::new(&of.snapshot, Metric::Euclidean, least).only(places.clone()).exact();
    let exact = searcher.search(&queries, &own, 6, None, &|| false).expect("found");
    let probed = [queries.as_slice(), &queries[..50]].concat();
    let mut reverse = ReverseHits::default();
    let (rows, probes) = Searcher::new(&of.snapshot, Metric::Euclidean, least)
        .search_and_probe(&probed, &nobody(&probed, 5), 6, Some(&mut reverse), 10, &|| false)
        .expect("found");
    let (alone, hits) = search(&of, least, &queries, &own, 6);
    assert!(rows == alone && reverse == hits, "probes change nothing of the rows");
    assert_eq!((rows.queries(), probes.queries()), (60, 10));
    for (query, vector) in queries.chunks_exact(5).enumerate() {
        let find = |keep: &dyn Fn(u32) -> bool| -> Vec<u32> {
            let live = |place| keep(place) && !of.snapshot.is_dead(place);
            nearest(&of.vectors, 5, vector, 6, live).into_iter().map(|near| near.1).collect()
        };
        assert_eq!(exact.of(query).0, find(&|place| places.contains(&place)));
        if query < 10 {
            assert_eq!(probes.of(query).0, find(&|_| true));
        }
    }
}

#[test]
fn an_effort_without_the_graph_reaches_the_same_recall() {
    let base: Vec<f32> = (0..2000 * 6).map(|i| super::fixture::unit(8, i)).collect();
    let of = Rows { dim: 6, base, delta: Vec::new(), dead: vec![5, 900], lists: 50, ..Rows::default() }.build();
    let (least, reached) = effort(&of.snapshot, Metric::Euclidean, 0.9, &|| false).expect("an effort");
    let find = |recall| first_only(&of.snapshot, Metric::Euclidean, least, recall, &|| false).expect("an effort");
    let alone = find(reached);
    assert!(alone.graph == 0 && alone.first >= least.first, "{alone:?} for {least:?}");
    assert!(recall(&of, alone) >= reached);
    assert!(recall(&of, SearchEffort { first: alone.first - 1, graph: 0 }) < reached);
    // At most four times as many lists.
    let few = first_only(&of.snapshot, Metric::Euclidean, SearchEffort { first: 1, graph: 0 }, 1.0, &|| false);
    assert_eq!(few.expect("an effort"), SearchEffort { first: 4, graph: 0 });
}
