//! Damaged objects are refused at opening or read without a panic.

use super::*;
use crate::Error;

/// Uses every method on every place, whatever it returns.
fn use_all(snapshot: &Snapshot) {
    let places = snapshot.places();
    let mut vector = vec![0.0; snapshot.dim()];
    for place in (0..places.min(500)).chain([places, MISSING]) {
        let _ = (snapshot.is_dead(place), snapshot.list_of(place), snapshot.radius(place), snapshot.added_in(place));
        let _ = (snapshot.position(place).len(), snapshot.read_vector(place, &mut vector));
        assert_eq!(
            (snapshot.neighbors(place).0.len(), snapshot.neighbors(place).1.len()),
            (snapshot.k(), snapshot.k())
        );
        for &near in snapshot.neighbors(place).0 {
            let _ = (snapshot.is_dead(near), snapshot.position(near).len(), snapshot.list_of(near));
        }
    }
    for list in 0..snapshot.lists().min(500) as u32 + 1 {
        let _ = (snapshot.base_range(list), snapshot.delta_of(list).len());
    }
    let mut vectors = vec![0.0; places as usize * snapshot.dim()];
    let _ = snapshot.read_vectors(0..places, &mut vectors);
    let _ = snapshot.ids(0..places).map(|ids| ids.len());
    let _ = snapshot.kept(0..places).map(|kept| kept.num_rows());
    let _ = (snapshot.keys().count(), snapshot.find(7), snapshot.centroids().len(), snapshot.sample().len());
    let _ = (snapshot.patch_places().count(), snapshot.tombstones().len(), snapshot.live(), snapshot.bytes());
    let _ = snapshot.moved_places().count();
}

#[test]
fn a_changed_byte_is_refused_or_harmless() {
    let (_dir, model, version) = on_disk(&example());
    let (mut opened, mut refused) = (0, 0);
    for (role, object) in &version.objects {
        let path = model.object_path(object);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= [0x01, 0x80, 0xff][at / 8 % 3];
            std::fs::write(&path, damaged).unwrap();
            match Snapshot::open(&model, &version) {
                Ok(snapshot) => {
                    opened += 1;
                    assert!(at >= 8, "{role}: byte {at} of the magic");
                    // What decides which rows are looked at is checked whole.
                    assert!(role != role::TOMBSTONES || at < 64, "{role}: byte {at}");
                    assert!(
                        role != role::MOVED || !(64 + 3 * 8..64 + 4 * 8).contains(&at),
                        "{role}: byte {at} of the set"
                    );
                    assert!(role != role::DELTA_LISTS || at < 64 || at % 4 < 3, "{role}: byte {at}, a highest one");
                    // Every stream has a checksum.
                    if role == role::KEPT || role == role::DELTA_KEPT {
                        let told = snapshot.kept(0..snapshot.places());
                        let is_named = matches!(&told, Err(Error::Damaged { path: named, .. }) if *named == path);
                        assert!(at < 64 && told.is_ok() || is_named, "{role}: byte {at}: {told:?}");
                    }
                    use_all(&snapshot);
                }
                Err(Error::Damaged { path: named, .. } | Error::Newer { path: named, .. }) => {
                    refused += 1;
                    assert!(named.starts_with(model.path()), "{role}: byte {at}: {}", named.display());
                }
                Err(other) => panic!("{role}: byte {at}: {other}"),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(opened > 100 && refused > 100, "{opened} {refused}");
    Snapshot::open(&model, &version).unwrap();
}

#[test]
fn an_object_of_another_length_is_named() {
    let (_dir, model, version) = on_disk(&example());
    for (role, object) in &version.objects {
        let path = model.object_path(object);
        let bytes = std::fs::read(&path).unwrap();
        let named = |error: Error| match error {
            Error::Damaged { path: named, .. } => assert_eq!(named, path, "{role}"),
            other => panic!("{role}: {other}"),
        };
        for length in [0, 8, 63, 64, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            named(Snapshot::open(&model, &version).unwrap_err());
            // The same if the record says so: the header does not agree.
            let mut shorter = version.clone();
            shorter.objects.get_mut(role).unwrap().bytes = length as u64;
            Snapshot::open(&model, &shorter).unwrap_err();
        }
        std::fs::remove_file(&path).unwrap();
        named(Snapshot::open(&model, &version).unwrap_err());
        std::fs::write(&path, &bytes).unwrap();
        // An object of another kind under this role.
        let other = if role == role::QUANTIZER { role::LISTS } else { role::QUANTIZER };
        let mut swapped = version.clone();
        swapped.objects.insert(role.clone(), version.objects[other].clone());
        assert!(matches!(Snapshot::open(&model, &swapped), Err(Error::Damaged { .. })), "{role}");
    }
    let mut lacking = version.clone();
    lacking.objects.remove(role::GRAPH);
    let error = Snapshot::open(&model, &lacking).unwrap_err().to_string();
    assert!(error.contains("no object \"graph\""), "{error}");
}

#[test]
fn an_object_of_a_later_format_is_refused() {
    let (_dir, model, version) = on_disk(&example());
    let path = model.object_path(&version.objects[role::KEYS]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4] = 2;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(Snapshot::open(&model, &version), Err(Error::Newer { found: 2, .. })));
}

#[test]
fn an_object_of_a_role_that_only_a_later_release_knows_is_refused() {
    let (_dir, model, mut version) = on_disk(&example());
    let object = version.objects[role::PATCH].clone();
    version.objects.insert("turned".into(), object);
    let error = Snapshot::open(&model, &version).unwrap_err();
    assert!(matches!(&error, Error::UnknownRole { role, .. } if role == "turned"), "{error}");
    let told = error.to_string();
    assert!(told.contains("written by a newer lowland") && told.contains("\"turned\""), "{told}");
    version.objects.remove("turned");
    Snapshot::open(&model, &version).unwrap();
}

#[test]
fn objects_of_different_fits_do_not_open_together() {
    let plain = example();
    let (_dir, model, version) = on_disk(&plain);
    let lock = model.lock(false, &mut || false).unwrap();
    let others = [
        Plain { base: vec![0, 0, 0, 1, 1, 3], dead: vec![], patched: vec![], ..plain.clone() },
        Plain { dim: 2, ..plain.clone() },
        Plain { k: 2, ..plain.clone() },
        Plain { components: 3, ..plain.clone() },
        Plain { lists: 5, ..plain.clone() },
    ];
    for other in others {
        let of_other = other.write(&lock, 7);
        let mut refused = 0;
        for (role, object) in &of_other.objects {
            let mut mixed = version.clone();
            mixed.objects.insert(role.clone(), object.clone());
            refused += u32::from(matches!(Snapshot::open(&model, &mixed), Err(Error::Damaged { .. })));
        }
        assert!(refused >= 2, "{other:?}");
    }
}
