//! Models are created, published to, stopped at every step, copied, damaged and collected.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use super::*;
use crate::{Error, Result};

fn lock(model: &ModelDir) -> ModelLock<'_> {
    model.lock(false, &mut || false).unwrap()
}

fn object(lock: &ModelLock<'_>, kind: &str, bytes: &[u8]) -> ObjectRef {
    let mut writer = lock.object(kind).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A record with the objects "shared" and "own", whose bytes are the text.
fn record(lock: &ModelLock<'_>, run_id: &str, text: &str) -> Version {
    let mut version = Version::new(Action::Transform);
    version.run_id = Some(run_id.into());
    version.objects.insert("shared".into(), object(lock, "vectors", b"the same in every version"));
    version.objects.insert("own".into(), object(lock, "delta-ids", text.as_bytes()));
    version
}

/// A model of three versions, of which the second has the tag "kept".
fn three(path: &Path) -> ModelDir {
    let model = ModelDir::create(path).unwrap();
    let lock = lock(&model);
    for (number, text) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(lock.next_number().unwrap(), number);
        assert_eq!(lock.publish(record(&lock, text, text), true).unwrap(), number);
    }
    lock.tag("kept", Some(2)).unwrap();
    drop(lock);
    model
}

fn damages(model: &ModelDir) -> Vec<String> {
    let found = model.verify(&mut |_, _| ControlFlow::Continue(())).unwrap();
    found.into_iter().map(|damage| damage.file).collect()
}

/// Every file below `dir`, relative, with its bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_string();
                found.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn versions_are_named_in_several_ways() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    assert_eq!(model.current().unwrap(), Some(3));
    assert_eq!(model.versions().unwrap(), [1, 2, 3]);
    for (name, expected) in [("1", 1), ("@1", 1), ("kept", 2), ("@kept", 2), ("current", 3), ("000002", 2)] {
        assert_eq!(model.resolve(name).unwrap(), expected, "{name}");
    }
    for name in ["4", "@0", "unknown", "", "@", "../versions/000001.json", "-1"] {
        let error = model.resolve(name).unwrap_err();
        assert!(matches!(error, Error::NoVersion { .. }), "{name}: {error}");
        assert!(error.to_string().contains("it has 1, 2, 3, kept"), "{error}");
    }
    assert_eq!(model.version(2).unwrap().run_id.as_deref(), Some("two"));
    assert!(matches!(model.version(9), Err(Error::NoVersion { .. })));
    assert_eq!(model.tags().unwrap().into_iter().collect::<Vec<_>>(), [("kept".to_string(), 2)]);
    assert_eq!(std::fs::read_to_string(dir.path().join("CURRENT")).unwrap().split(' ').next(), Some("000003"));
}

#[test]
fn an_object_has_the_name_of_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = lock(&model);
    let (a, b) = (object(&lock, "graph", b"same"), object(&lock, "graph", b"same"));
    assert_eq!(a, b);
    assert_eq!(a.name, format!("{:032x}.graph", xxhash_rust::xxh3::xxh3_128(b"same")));
    assert!(model.has(&a));
    // Two are written at the same time, and one is given up.
    let (mut one, mut two) = (lock.object("one").unwrap(), lock.object("two").unwrap());
    one.write_all(b"1").unwrap();
    two.write_all(b"2").unwrap();
    drop(one);
    let two = two.finish().unwrap();
    assert_eq!(files(&dir.path().join("data")).len(), 2);
    lock.discard(&two).unwrap();
    assert!(!model.has(&two));
    for kind in ["", "A", "a/b", "..", "a.b"] {
        assert!(matches!(lock.object(kind), Err(Error::Name { .. })), "{kind}");
    }
    let version = record(&lock, "run", "text");
    let own = version.objects["own"].clone();
    lock.publish(version, true).unwrap();
    assert!(lock.discard(&own).is_err());
    assert!(model.has(&own));
}

#[test]
fn an_object_damaged_on_the_disk_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let shared = model.version(1).unwrap().objects["shared"].clone();
    std::fs::write(model.object_path(&shared), vec![b'x'; shared.bytes as usize]).unwrap();
    assert_eq!(damages(&model), [format!("data/{}", shared.name)]);
    let lock = lock(&model);
    lock.publish(record(&lock, "four", "four"), true).unwrap();
    assert!(damages(&model).is_empty());
}

#[test]
fn only_a_new_empty_or_half_created_directory_becomes_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("map.lowland");
    assert!(matches!(ModelDir::open(&path), Err(Error::NotAModel { begun: false, .. })));
    // Stopped before and after the mark was written, and before the directories were made.
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("model.json.part"), "{\n  \"low").unwrap();
    assert!(matches!(ModelDir::open(&path), Err(Error::NotAModel { begun: true, .. })));
    ModelDir::create(&path).unwrap();
    std::fs::remove_dir(path.join("data")).unwrap();
    std::fs::remove_dir(path.join("tags")).unwrap();
    let model = ModelDir::create(&path).unwrap();
    assert_eq!(model.current().unwrap(), None);
    assert!(model.versions().unwrap().is_empty() && model.tags().unwrap().is_empty());
    assert!(damages(&model).is_empty());
    assert!(matches!(model.resolve("current"), Err(Error::NoVersion { .. })));
    let held = lock(&model);
    held.publish(record(&held, "one", "one"), true).unwrap();
    drop(held);
    assert!(matches!(ModelDir::create(&path), Err(Error::Occupied { .. })));

    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis.txt"), "mine").unwrap();
    let error = ModelDir::create(&foreign).unwrap_err();
    assert!(error.to_string().contains("thesis.txt"), "{error}");
    assert_eq!(files(&foreign).len(), 1);
    std::fs::write(foreign.join("model.json"), "{}").unwrap();
    assert!(matches!(ModelDir::open(&foreign), Err(Error::NotAModel { .. })));
    assert!(matches!(ModelDir::create(&foreign), Err(Error::NotAModel { .. })));
    assert!(ModelDir::create(&foreign.join("thesis.txt")).is_err());
    assert!(matches!(ModelDir::open(&foreign.join("thesis.txt")), Err(Error::NotAModel { .. })));
}

#[test]
fn a_model_of_a_later_release_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    let text = lowland_io::seal(&serde_json::json!({"lowland": "9.0.0", "format": 2, "created": {"new": true}}));
    std::fs::write(dir.path().join("model.json"), text).unwrap();
    let error = ModelDir::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("update lowland"), "{error}");
    assert!(matches!(ModelDir::create(dir.path()), Err(Error::Newer { .. })));
}

#[test]
fn the_second_holder_waits_or_is_told_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    assert_eq!(model.held_by(), None);
    let first = lock(&model);
    let other = ModelDir::open(dir.path()).unwrap();
    let error = other.lock(false, &mut || false).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(model.held_by().unwrap().contains("process"));
    // Readers are not disturbed.
    assert_eq!(other.current().unwrap(), Some(3));
    let mut asked = 0;
    let stopped = other.lock(true, &mut || {
        asked += 1;
        asked > 1
    });
    assert!(matches!(stopped, Err(Error::Stopped { .. })));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| other.lock(true, &mut || false).map(|lock| lock.next_number().unwrap()));
        std::thread::sleep(std::time::Duration::from_millis(150));
        first.publish(record(&first, "four", "four"), true).unwrap();
        drop(first);
        assert_eq!(waits.join().unwrap().unwrap(), 5);
    });
}

#[test]
fn a_copy_on_a_read_only_disk_is_read_and_not_changed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    three(&dir.path().join("here"));
    let there = dir.path().join("there");
    copy(&dir.path().join("here"), &there);
    std::fs::remove_dir_all(dir.path().join("here")).unwrap();
    // A copy has no LOCK, and no directory that was empty.
    std::fs::remove_file(there.join("LOCK")).unwrap();
    assert!(!there.join("runs").exists());
    let before = files(&there);
    let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    for folder in ["", "versions", "data", "tags"] {
        set(&there.join(folder), 0o555);
    }
    let model = ModelDir::open(&there).unwrap();
    assert_eq!(model.resolve("kept").unwrap(), 2);
    assert!(damages(&model).is_empty());
    assert_eq!((model.held_by(), model.runs().unwrap()), (None, Vec::new()));
    assert_eq!(files(&there), before);
    // The superuser may write anywhere.
    let superuser = std::fs::write(there.join("probe"), "").is_ok();
    if !superuser {
        assert!(matches!(model.lock(false, &mut || false), Err(Error::ReadOnly { .. })));
    }
    for folder in ["", "versions", "data", "tags"] {
        set(&there.join(folder), 0o755);
    }
    let lock = lock(&model);
    lock.publish(record(&lock, "four", "four"), true).unwrap();
    assert_eq!(model.current().unwrap(), Some(4));
}

#[test]
fn every_flipped_bit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    assert!(damages(&model).is_empty());
    for (name, bytes) in files(dir.path()).into_iter().filter(|(name, _)| name != "LOCK") {
        let path = dir.path().join(&name);
        // One bit of every byte; of long records, of every third.
        for byte in (0..bytes.len()).step_by(if bytes.len() > 200 { 3 } else { 1 }) {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1 << (byte % 8);
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(damages(&model), [name.as_str()], "byte {byte} of {name}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(damages(&model), [name.as_str()], "{name}, cut short");
        std::fs::remove_file(&path).unwrap();
        // A tag or record that is gone leaves no trace, unless something names it.
        let missed = damages(&model);
        match name.as_str() {
            "tags/kept" | "versions/000001.json" => assert!(missed.is_empty()),
            "versions/000002.json" => assert_eq!(missed, ["tags/kept"]),
            "versions/000003.json" => assert_eq!(missed, ["CURRENT"]),
            name => assert_eq!(missed, [name]),
        }
        std::fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn a_record_that_leads_elsewhere_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let path = dir.path().join("versions/000002.json");
    let mut version = model.version(2).unwrap();
    version.objects.insert("own".into(), ObjectRef { name: "../../secret".into(), bytes: 1 });
    std::fs::write(&path, version.text()).unwrap();
    assert!(model.version(2).unwrap_err().to_string().contains("../../secret"));
    version = model.version(3).unwrap();
    std::fs::write(&path, version.text()).unwrap();
    assert!(model.version(2).unwrap_err().to_string().contains("record of version 3"));
    // Current names the version still, but its objects are unknown: nothing is removed.
    let before = files(dir.path()).len();
    let lock = lock(&model);
    assert!(matches!(lock.collect(&|_| true), Err(Error::Damaged { .. })));
    assert_eq!(files(dir.path()).len(), before);
    assert_eq!(lock.collect(&|number| number != 2).unwrap().versions, [2]);
}

#[test]
fn the_check_tells_what_it_reads_and_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let mut read = std::collections::BTreeMap::new();
    model
        .verify(&mut |file, bytes| {
            *read.entry(file.to_string()).or_insert(0) += bytes;
            ControlFlow::Continue(())
        })
        .unwrap();
    for (name, bytes) in files(dir.path()).into_iter().filter(|(name, _)| name != "LOCK") {
        assert_eq!(read.remove(&name), Some(bytes.len() as u64), "{name}");
    }
    assert!(read.is_empty());
    assert!(matches!(model.verify(&mut |_, _| ControlFlow::Break(())), Err(Error::Stopped { .. })));
}

#[test]
fn a_version_needs_its_objects() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let lock = lock(&model);
    let mut version = record(&lock, "four", "four");
    version.objects.insert("more".into(), ObjectRef { name: format!("{:032x}.ids", 7), bytes: 3 });
    assert!(matches!(lock.publish(version.clone(), true), Err(Error::Damaged { .. })));
    version.objects.insert("more".into(), ObjectRef { name: "../model.json".into(), bytes: 3 });
    assert!(matches!(lock.publish(version, true), Err(Error::Name { .. })));
    assert_eq!(model.versions().unwrap(), [1, 2, 3]);
    assert!(lock.set_current(9).is_err());
    assert!(lock.tag("new", Some(9)).is_err());
    assert!(lock.tag("new", None).is_err());
    lock.tag("kept", None).unwrap();
    assert!(model.tags().unwrap().is_empty());
}

#[test]
fn a_refused_version_is_kept_but_not_current() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let lock = lock(&model);
    let refused = Version { accepted: false, ..record(&lock, "four", "worse") };
    assert_eq!(lock.publish(refused, false).unwrap(), 4);
    assert_eq!(model.current().unwrap(), Some(3));
    assert_eq!(lock.published("four").unwrap().map(|version| version.number), Some(4));
    assert_eq!(model.current().unwrap(), Some(3));
    // Its number is not given again.
    assert_eq!(lock.collect(&|number| number < 3).unwrap(), Garbage::default());
    assert_eq!(lock.next_number().unwrap(), 5);
    lock.set_current(4).unwrap();
    assert_eq!(model.current().unwrap(), Some(4));
}

#[test]
fn scratch_stays_until_its_run_ends() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let lock = lock(&model);
    for name in ["..", "a/b", ".x", ""] {
        assert!(matches!(lock.run(name), Err(Error::Name { .. })), "{name}");
        assert!(matches!(lock.end_run(name), Err(Error::Name { .. })), "{name}");
    }
    for name in ["three", "unfinished"] {
        std::fs::write(lock.run(name).unwrap().join("part"), "scratch").unwrap();
    }
    assert_eq!(model.runs().unwrap(), ["three", "unfinished"]);
    assert_eq!(lock.collect(&|_| true).unwrap().runs, ["three"]);
    assert_eq!(model.runs().unwrap(), ["unfinished"]);
    lock.end_run("unfinished").unwrap();
    lock.end_run("unfinished").unwrap();
    assert!(model.runs().unwrap().is_empty());
}

#[test]
fn whatever_has_the_name_of_ended_scratch_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let lock = lock(&model);
    let (ended, precious) = (dir.path().join("runs/.ended"), dir.path().join("precious"));
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("thesis.txt"), "mine").unwrap();
    let makes: [&dyn Fn(); 4] = [
        &|| std::fs::write(&ended, "").unwrap(),
        &|| std::os::unix::fs::symlink(&precious, &ended).unwrap(),
        &|| std::os::unix::fs::symlink("nowhere", &ended).unwrap(),
        &|| std::fs::create_dir_all(ended.join("deep/er")).unwrap(),
    ];
    for make in makes {
        make();
        std::fs::write(lock.run("a").unwrap().join("part"), "scratch").unwrap();
        lock.end_run("a").unwrap();
        make();
        lock.collect(&|_| true).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("runs")).unwrap().count(), 0);
        assert!(precious.join("thesis.txt").exists());
    }
}

#[test]
fn what_nobody_names_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let lock = lock(&model);
    let (one, two) = (model.version(1).unwrap(), model.version(2).unwrap());
    object(&lock, "ids", b"of a draft");
    for leftover in ["data/new-7.part", "versions/000009.json.part", "tags/x.part", "CURRENT.part", "model.json.part"] {
        std::fs::write(dir.path().join(leftover), "unfinished").unwrap();
    }
    let before = files(dir.path());
    let told = model.garbage(&|number| number == 1).unwrap();
    assert_eq!(files(dir.path()), before);
    assert_eq!((&told.versions[..], &told.tags[..]), (&[2][..], &["kept".to_string()][..]));
    assert_eq!((told.objects, told.bytes), (2 + 1, 3 + 10 + 10));
    assert_eq!(lock.collect(&|number| number == 1).unwrap(), told);
    assert_eq!(model.versions().unwrap(), [1, 3]);
    assert!(model.has(&one.objects["own"]) && model.has(&one.objects["shared"]) && !model.has(&two.objects["own"]));
    assert!(damages(&model).is_empty());
    assert!(files(dir.path()).iter().all(|(name, _)| !name.ends_with(".part")));
    assert_eq!(lock.collect(&|_| false).unwrap().versions, [1]);
    assert_eq!((model.versions().unwrap(), model.current().unwrap()), (vec![3], Some(3)));
}

/// Does `action` on a copy of the model, stopped before its first, second, … change, and on each stopped copy calls
/// `check`; then does the action again, without a stop, and compares all files with those of an action that was never
/// stopped.
fn stopped_everywhere(model: &Path, action: impl Fn(&ModelLock<'_>) -> Result<()>, check: impl Fn(&ModelDir)) {
    let dir = tempfile::tempdir().unwrap();
    let run = |path: &Path, steps: u32| {
        let opened = ModelDir::open(path).unwrap();
        let lock = lock(&opened);
        lock.steps.set(steps);
        action(&lock)
    };
    let whole = dir.path().join("whole");
    copy(model, &whole);
    run(&whole, u32::MAX).unwrap();
    let comparable = |path: &Path| {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        // The time at which a record was made differs, and so its checksum does.
        let same = |line: &&str| !line.contains("\"created\"") && !line.contains("\"xxh3\"");
        let files = files(path).into_iter().filter(|(name, _)| name != "LOCK");
        files.map(|(name, bytes)| (name, text(bytes).lines().filter(same).collect::<String>())).collect::<Vec<_>>()
    };
    for steps in 0.. {
        let path = dir.path().join(format!("stopped-{steps}"));
        copy(model, &path);
        let done = run(&path, steps);
        // What a killed process leaves besides: unfinished files.
        for leftover in ["data/new-0.part", "CURRENT.part", "versions/000004.json.part"] {
            std::fs::write(path.join(leftover), "unfini").unwrap();
        }
        let opened = ModelDir::open(&path).unwrap();
        assert!(damages(&opened).is_empty(), "after {steps} steps");
        check(&opened);
        if let Err(error) = done {
            assert!(matches!(error, Error::Stopped { .. }), "{error}");
            run(&path, u32::MAX).unwrap();
            for leftover in ["data/new-0.part", "CURRENT.part", "versions/000004.json.part"] {
                let _ = std::fs::remove_file(path.join(leftover));
            }
            assert_eq!(comparable(&path), comparable(&whole), "after {steps} steps");
        } else {
            assert!(steps >= 2, "the action changes nothing");
            return;
        }
    }
}

#[test]
fn a_publication_stopped_anywhere_leaves_the_old_or_the_new_version() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    let publish = |lock: &ModelLock<'_>| {
        // As an update does: what the run has published already is not done again.
        if lock.published("four")?.is_none() {
            lock.publish(record(lock, "four", "four"), true)?;
        }
        Ok(())
    };
    stopped_everywhere(dir.path(), publish, |model| {
        let current = model.current().unwrap().unwrap();
        assert!(current == 3 || current == 4);
        assert_eq!(model.version(current).unwrap().number, current);
    });
    // The same without the question what the run has published.
    let publish = |lock: &ModelLock<'_>| lock.publish(record(lock, "four", "four"), true).map(drop);
    stopped_everywhere(dir.path(), publish, |model| assert!(model.current().unwrap() >= Some(3)));
}

#[test]
fn nothing_is_collected_if_the_current_version_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let lock = lock(&model);
    lock.set_current(1).unwrap();
    let pointer = dir.path().join("CURRENT");
    for damaged in [Some("000001 0123456789abcdef\n"), Some(""), None] {
        match damaged {
            Some(text) => std::fs::write(&pointer, text).unwrap(),
            None => std::fs::remove_file(&pointer).unwrap(),
        }
        let before = files(dir.path());
        for error in [lock.collect(&|_| false).unwrap_err(), model.garbage(&|_| false).unwrap_err()] {
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("CURRENT") && text.contains("a rollback to a version writes it anew"), "{text}");
        }
        assert!(files(dir.path()) == before, "{damaged:?}");
    }
    lock.set_current(1).unwrap();
    // The current version lacks an object, or its record.
    let version = model.version(1).unwrap();
    for path in [model.object_path(&version.objects["own"]), dir.path().join("versions/000001.json")] {
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let before = files(dir.path());
        for error in [lock.collect(&|_| false).unwrap_err(), model.garbage(&|_| false).unwrap_err()] {
            let name = path.file_name().unwrap().to_str().unwrap();
            let text = error.to_string();
            assert!(
                matches!(error, Error::Damaged { .. }) && text.contains(name) && text.contains("rollback"),
                "{text}"
            );
        }
        assert!(files(dir.path()) == before);
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(lock.collect(&|_| false).unwrap().versions, [2]);
}

#[test]
fn a_collection_stopped_anywhere_leaves_whole_versions() {
    let dir = tempfile::tempdir().unwrap();
    let model = three(dir.path());
    let held = lock(&model);
    held.run("one").unwrap();
    std::fs::write(dir.path().join("runs/one/scratch"), "x").unwrap();
    object(&held, "ids", b"of a draft");
    drop(held);
    let collect = |lock: &ModelLock<'_>| lock.collect(&|_| false).map(drop);
    stopped_everywhere(dir.path(), collect, |model| {
        assert_eq!(model.current().unwrap(), Some(3));
        // Every record that is left has its objects (`damages` has looked), and every tag its version.
        for number in model.tags().unwrap().into_values() {
            model.version(number).unwrap();
        }
    });
}
