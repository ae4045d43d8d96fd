//! Writers refuse what does not fit, and leave the same bytes whatever the portions.

use super::*;
use crate::Error;
use crate::snapshot::bits::{self, BitSet};

fn misfit<T: std::fmt::Debug>(result: crate::Result<T>) {
    assert!(matches!(result, Err(Error::Rows { .. })), "{result:?}");
}

#[test]
fn the_portions_do_not_change_the_bytes() {
    let plain = Plain { base: (0..90).map(|i| i / 30).collect(), ..example() };
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    let whole = plain.write(&lock, 1000).objects;
    for portion in [1, 2, 13, 89] {
        assert_eq!(plain.write(&lock, portion).objects, whole);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    misfit(QuantizerWriter::create(&lock, 2, 2).unwrap().finish(&[0.0; 3]));
    misfit(QuantizerWriter::create(&lock, 0, 0).unwrap().finish(&[]));
    for starts in [&[][..], &[0], &[1, 2], &[0, 2, 1]] {
        misfit(ListsWriter::create(&lock).unwrap().finish(starts));
    }
    misfit(DeltaListsWriter::create(&lock, 0).unwrap().finish(&[0, 2], 2));
    misfit(VectorsWriter::create(&lock, role::VECTORS, Element::F32, 0));
    misfit(VectorsWriter::create(&lock, role::VECTORS, Element::F32, 2).unwrap().push(&[0.0; 3]));
    misfit(PositionsWriter::create(&lock, role::POSITIONS, 2).unwrap().push(&[0.0; 3]));
    misfit(GraphWriter::create(&lock, role::GRAPH, 2, 3));
    misfit(GraphWriter::create(&lock, role::GRAPH, 2, 0));
    let mut graph = GraphWriter::create(&lock, role::GRAPH, 2, 2).unwrap();
    misfit(graph.push(&[0; 3], &[0.0; 3]));
    misfit(graph.push(&[0; 2], &[0.0; 1]));
    let mut patch = PatchWriter::create(&lock, 1).unwrap();
    patch.push(5, &[0], &[0.0]).unwrap();
    for (place, count) in [(5, 1), (4, 1), (u32::MAX, 1), (6, 2)] {
        misfit(patch.push(place, &vec![0; count], &vec![0.0; count]));
    }
    let mut moved = MovedWriter::create(&lock, 2).unwrap();
    moved.push(5, &[0.0; 2]).unwrap();
    for (place, count) in [(5, 2), (4, 2), (u32::MAX, 2), (6, 1)] {
        misfit(moved.push(place, &vec![0.0; count]));
    }
    for dead in [&[1, 1][..], &[2, 1], &[u32::MAX]] {
        misfit(TombstonesWriter::create(&lock).unwrap().finish(dead));
    }
    let mut keys = KeysWriter::create(&lock, role::KEYS).unwrap();
    let key = Key { key: 7, hash: 0, place: 3 };
    keys.push(&key).unwrap();
    misfit(keys.push(&key));
    misfit(keys.push(&Key { key: 6, ..key }));
    keys.push(&Key { hash: 1, ..key }).unwrap();
    misfit(AddedWriter::create(&lock).unwrap().push(1 << 32));
    // A writer that was given up leaves nothing.
    drop((graph, patch, moved, keys));
    assert_eq!(std::fs::read_dir(dir.path().join("data")).unwrap().count(), 0);
}

#[test]
fn every_element_gives_back_the_bits_of_its_values() {
    for (element, values) in [
        (Element::U8, vec![0.0, 1.0, 255.0]),
        (Element::I8, vec![0.0, -128.0, 127.0]),
        (Element::F16, vec![0.0, -0.0, 0.5, 65504.0, -6.1035e-5]),
        (Element::F32, vec![0.1, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::from_bits(0x7fc0_1234)]),
    ] {
        let values: Vec<f32> =
            values.iter().map(|&v| if element == Element::F16 { half::f16::from_f32(v).to_f32() } else { v }).collect();
        let dir = tempfile::tempdir().unwrap();
        let model = ModelDir::create(dir.path()).unwrap();
        let lock = model.lock(false, &mut || false).unwrap();
        let mut writer = VectorsWriter::create(&lock, role::VECTORS, element, values.len()).unwrap();
        // More than a chunk, so that a row lies in two of them.
        let rows = 10_000;
        (0..rows).for_each(|_| writer.push(&values).unwrap());
        let object = writer.finish().unwrap();
        assert_eq!(object.bytes, 64 + (rows * values.len() * element.bytes()) as u64 + 8);
        let vectors = vectors::Vectors::open(&model.object_path(&object), &object).unwrap();
        let mut found = vec![0.0; rows * values.len()];
        vectors.read(0..rows as u32, &mut found).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(found.chunks(values.len()).all(|row| bits(row) == bits(&values)));
        let mut row = vec![0.0; values.len()];
        vectors.read_mapped(9_999, &mut row);
        assert_eq!(bits(&row), bits(&values));
    }
    for (element, value) in [
        (Element::U8, -0.0),
        (Element::U8, 256.0),
        (Element::U8, 0.5),
        (Element::I8, 128.0),
        (Element::F16, 0.1),
        (Element::F16, 65520.0),
        (Element::U8, f32::NAN),
    ] {
        assert!(!element.holds(&[value]), "{element:?} {value}");
        let dir = tempfile::tempdir().unwrap();
        let model = ModelDir::create(dir.path()).unwrap();
        let lock = model.lock(false, &mut || false).unwrap();
        misfit(VectorsWriter::create(&lock, role::VECTORS, element, 1).unwrap().push(&[value]));
    }
}

proptest! {
    #[test]
    fn ranks_and_places_are_those_of_a_set(places in prop::collection::btree_set(0u32..3000, 0..200), range in (0u32..3100, 0u32..3100)) {
        let mut set = BitSet::default();
        for &place in &places {
            prop_assert!(set.add(place));
            prop_assert!(!set.add(place));
        }
        let ranks: Vec<u32> = set.ranks().collect();
        prop_assert_eq!(ranks.len() as u64, bits::blocks(set.places().into()));
        prop_assert_eq!(set.words().len() as u64, bits::words(set.places().into()));
        for place in 0..3000 {
            prop_assert_eq!(bits::has(set.words(), place), places.contains(&place));
            if place < set.places() {
                prop_assert_eq!(bits::rank(set.words(), &ranks, place), Some(places.range(..place).count() as u32));
            }
        }
        let range = range.0.min(range.1)..range.0.max(range.1);
        let found: Vec<u32> = bits::places(set.words(), range.clone()).collect();
        prop_assert_eq!(found, places.range(range).copied().collect::<Vec<_>>());
    }
}
