//! A snapshot gives back what was written.

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;

use super::*;

fn check(plain: &Plain, snapshot: &Snapshot) {
    let (base, places) = (plain.base.len() as u32, plain.places());
    assert_eq!((snapshot.base_rows(), snapshot.places()), (base, places));
    assert_eq!((snapshot.dim(), snapshot.n_components()), (plain.dim, plain.components));
    assert_eq!((snapshot.k(), snapshot.n_neighbors(), snapshot.lists()), (plain.k, plain.n_neighbors, plain.lists));
    assert_eq!(snapshot.centroids().len(), plain.dim * plain.lists);
    assert_eq!(snapshot.tombstones(), plain.dead);
    assert_eq!(snapshot.live(), places - plain.dead.len() as u32);
    assert_eq!(snapshot.patch_places().collect::<Vec<_>>(), plain.patched);
    assert_eq!(snapshot.moved_places().collect::<Vec<_>>(), plain.moved);
    assert_eq!((snapshot.element(), snapshot.patched()), (plain.element, plain.patched.len() as u32));

    let mut by_list = vec![Vec::new(); plain.lists];
    for (place, &list) in (0..).zip(plain.base.iter().chain(&plain.delta)) {
        assert_eq!(snapshot.list_of(place), list);
        by_list[list as usize].push(place);
        assert_eq!(snapshot.is_dead(place), plain.dead.contains(&place));
        let seed = if plain.patched.contains(&place) { 3 } else { 0 };
        let (neighbors, distances) = plain.neighbors(place, seed);
        assert_eq!(snapshot.neighbors(place), (&neighbors[..], &distances[..]), "place {place}");
        assert_eq!(snapshot.radius(place), distances[plain.n_neighbors - 1]);
        assert_eq!(snapshot.position(place), plain.position(place));
        assert_eq!(snapshot.added_in(place), plain.added_in(place));
        let mut vector = vec![0.0; plain.dim];
        snapshot.read_vector(place, &mut vector).unwrap();
        assert_eq!(vector, plain.vector(place));
    }
    for (list, expected) in (0..).zip(by_list) {
        let found: Vec<u32> = snapshot.base_range(list).chain(snapshot.delta_of(list).iter().copied()).collect();
        assert_eq!(found, expected, "list {list}");
    }
    for range in [0..places, base..places, 0..base, places / 3..places - places / 4] {
        let mut vectors = vec![0.0; range.len() * plain.dim];
        snapshot.read_vectors(range.clone(), &mut vectors).unwrap();
        assert_eq!(vectors, range.clone().flat_map(|place| plain.vector(place)).collect::<Vec<_>>());
        let ids = snapshot.ids(range.clone()).unwrap();
        assert_eq!(ids.data_type(), snapshot.id_type());
        assert_eq!(ids.as_primitive::<Int32Type>().values(), &range.clone().map(|p| plain.id(p)).collect::<Vec<_>>());
        let (kept, rows) = (snapshot.kept(range.clone()).unwrap(), range.collect::<Vec<u32>>());
        assert_eq!((kept.num_rows(), kept.schema()), (rows.len(), snapshot.kept_schema().clone()));
        let expected = if plain.kept { plain.kept_of(&rows).columns().to_vec() } else { Vec::new() };
        assert_eq!(kept.columns(), expected);
    }
    let mut keys: Vec<Key> = (0..places).filter(|p| !plain.dead.contains(p)).map(|p| plain.key(p)).collect();
    keys.sort();
    assert_eq!(snapshot.keys().collect::<Vec<_>>(), keys);
    for key in 0u128..700 {
        // Where a row of the base and one of the delta share a key, either may be found.
        let expected: Vec<Key> = keys.iter().copied().filter(|found| found.key == key).collect();
        match snapshot.find(key) {
            Some(found) => assert!(expected.contains(&found)),
            None => assert!(expected.is_empty()),
        }
    }
    let sample: Vec<SampleRow> = (0..base).step_by(3).map(|place| plain.sample_row(place)).collect();
    assert_eq!(snapshot.sample(), sample);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_was_written_is_read(plain in plain(), portion in 1usize..40) {
        let dir = tempfile::tempdir().unwrap();
        let model = ModelDir::create(dir.path()).unwrap();
        let version = plain.write(&model.lock(false, &mut || false).unwrap(), portion);
        check(&plain, &Snapshot::open(&model, &version).unwrap());
    }
}

#[test]
fn an_opened_version_outlives_its_collection() {
    let plain = example();
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    let first = lock.publish(plain.write(&lock, 7), true).unwrap();
    let snapshot = Snapshot::open(&model, &model.version(first).unwrap()).unwrap();
    let other = Plain { k: 2, dead: vec![0], ..plain.clone() };
    lock.publish(other.write(&lock, 7), true).unwrap();
    assert_eq!(lock.collect(&|_| false).unwrap().versions, [first]);
    check(&plain, &snapshot);
    check(&other, &Snapshot::open(&model, &model.version(2).unwrap()).unwrap());
}

#[test]
fn a_place_that_is_not_there_is_dead_and_nowhere() {
    let plain = example();
    let (_dir, model, version) = on_disk(&plain);
    let snapshot = Snapshot::open(&model, &version).unwrap();
    for place in [plain.places(), 1000, u32::MAX - 1, MISSING] {
        assert!(snapshot.is_dead(place));
        assert!(snapshot.position(place).iter().all(|x| x.is_nan()) && snapshot.position(place).len() == 2);
        assert_eq!(snapshot.neighbors(place), (&[MISSING; 3][..], &[f32::INFINITY; 3][..]));
        assert_eq!((snapshot.radius(place), snapshot.added_in(place)), (f32::INFINITY, 0));
        assert!((snapshot.list_of(place) as usize) < snapshot.lists());
        assert!(snapshot.read_vector(place, &mut [0.0; 3]).is_err());
    }
    assert!(snapshot.base_range(4).is_empty() && snapshot.base_range(MISSING).is_empty());
    assert!(snapshot.delta_of(4).is_empty() && snapshot.delta_of(MISSING).is_empty());
    assert!(snapshot.read_vectors(0..11, &mut [0.0; 33]).is_err());
    assert!(snapshot.read_vectors(0..10, &mut [0.0; 29]).is_err());
    #[expect(clippy::reversed_empty_ranges, reason = "what is refused")]
    let reversed = 5..4;
    assert!(snapshot.ids(reversed).is_err() && snapshot.ids(9..11).is_err());
    assert_eq!(snapshot.ids(10..10).unwrap().len(), 0);
}

#[test]
fn a_draft_may_lack_neighbours_and_positions() {
    let plain = example();
    let (_dir, model, mut version) = on_disk(&plain);
    for role in [role::DELTA_GRAPH, role::DELTA_POSITIONS, role::DELTA_KEYS, role::DELTA_ADDED, role::PATCH] {
        version.objects.remove(role);
    }
    let snapshot = Snapshot::open(&model, &version).unwrap();
    for place in 7..10 {
        assert_eq!(snapshot.neighbors(place).0, [MISSING; 3]);
        assert!(snapshot.position(place).iter().all(|x| x.is_nan()));
        assert_eq!(snapshot.added_in(place), 0);
        assert_eq!(snapshot.is_dead(place), place == 8);
    }
    assert_eq!(snapshot.keys().count(), 6);
    // Neighbours and positions of an earlier delta, whose rows are the first ones.
    let shorter = Plain { delta: plain.delta[..1].to_vec(), patched: Vec::new(), dead: Vec::new(), ..plain.clone() };
    let earlier = shorter.write(&model.lock(false, &mut || false).unwrap(), 7);
    for role in [role::DELTA_GRAPH, role::DELTA_POSITIONS] {
        version.objects.insert(role.into(), earlier.objects[role].clone());
    }
    let snapshot = Snapshot::open(&model, &version).unwrap();
    assert_eq!(snapshot.position(7), plain.position(7));
    assert!(snapshot.position(8)[0].is_nan() && snapshot.neighbors(8).0 == [MISSING; 3]);
    // The other way round, there are more of them than rows.
    let mut longer = earlier;
    longer.objects.insert(role::DELTA_POSITIONS.into(), plain_positions(&plain, &model));
    assert!(matches!(Snapshot::open(&model, &longer), Err(crate::Error::Damaged { .. })));
}

fn plain_positions(plain: &Plain, model: &ModelDir) -> ObjectRef {
    plain.write(&model.lock(false, &mut || false).unwrap(), 7).objects[role::DELTA_POSITIONS].clone()
}
