//! The check of every byte of a model against its checksums.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::names::{CURRENT, DATA, MODEL, TAGS, VERSIONS};
use super::{ModelDir, ObjectRef, Version, names, pointer};
use crate::{Error, Result};

/// The bytes of one read.
const BUFFER: usize = 1 << 20;

/// A file of a model that does not hold what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the model's directory.
    pub file: String,
    /// What is wrong.
    pub what: String,
}

impl ModelDir {
    /// Checks every checksum: of `model.json`, `CURRENT`, every tag, every record, and every object that a record
    /// names. Calls `each` with the name of a file and the bytes that were just read of it, and stops when it says so.
    /// Returns what is damaged, or nothing.
    ///
    /// Versions that a process publishes or removes at the same time may be missed or reported as missing.
    ///
    /// # Errors
    /// [`Error::Stopped`] if `each` stopped the check; [`Error::Io`] if a file cannot be read.
    pub fn verify(&self, each: &mut dyn FnMut(&str, u64) -> ControlFlow<()>) -> Result<Vec<Damage>> {
        let mut found = Vec::new();
        let mut tell = |file: &str, bytes: u64| match each(file, bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped { path: self.path().into() }),
        };
        let mut check = |file: String, outcome: Result<()>| -> Result<()> {
            match outcome {
                Ok(()) => Ok(()),
                Err(Error::Damaged { what, .. }) => {
                    found.push(Damage { file, what });
                    Ok(())
                }
                // The file was removed, or never written.
                Err(e @ (Error::NotAModel { .. } | Error::NoVersion { .. })) => {
                    found.push(Damage { file, what: e.to_string() });
                    Ok(())
                }
                Err(e) => Err(e),
            }
        };

        tell(MODEL, self.length(MODEL))?;
        check(MODEL.into(), ModelDir::open(self.path()).map(drop))?;
        tell(CURRENT, self.length(CURRENT))?;
        check(CURRENT.into(), self.check_pointer(&self.path().join(CURRENT)))?;
        for name in self.tag_names()? {
            let file = format!("{TAGS}/{name}");
            tell(&file, self.length(&file))?;
            check(file, self.check_pointer(&self.tag_path(&name)))?;
        }
        let mut objects: BTreeMap<String, ObjectRef> = BTreeMap::new();
        for number in self.versions()? {
            let file = format!("{VERSIONS}/{}.json", names::digits(number));
            tell(&file, self.length(&file))?;
            let version = self.version(number);
            let version = version.map(|version| {
                for object in version.objects.into_values() {
                    objects.insert(object.name.clone(), object);
                }
            });
            check(file, version)?;
        }
        for (name, object) in objects {
            let file = format!("{DATA}/{name}");
            let outcome = check_object(&self.object_path(&object), &object, &mut |bytes| tell(&file, bytes));
            check(file, outcome)?;
        }
        Ok(found)
    }

    /// Checks the lengths and the checksums of the objects of a version whose role is among `roles`, in one pass over
    /// each, but not of the objects in `checked`, to which it adds the names of those that are right. Calls `read` with
    /// the bytes of each read; its error ends the check.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the object and its role; [`Error::Io`] if it cannot be read.
    pub fn check(
        &self,
        version: &Version,
        roles: &[&str],
        checked: &mut BTreeSet<String>,
        read: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        for (role, object) in version.objects.iter().filter(|(role, _)| roles.contains(&role.as_str())) {
            if checked.contains(&object.name) {
                continue;
            }
            check_object(&self.object_path(object), object, read).map_err(|error| match error {
                Error::Damaged { path, what } => {
                    Error::damaged(path, format!("\"{role}\" of version {}: {what}", version.number))
                }
                error => error,
            })?;
            checked.insert(object.name.clone());
        }
        Ok(())
    }

    fn length(&self, file: &str) -> u64 {
        std::fs::metadata(self.path().join(file)).map_or(0, |found| found.len())
    }

    /// Checks `CURRENT` or a tag, and that the version that it names is there.
    fn check_pointer(&self, path: &Path) -> Result<()> {
        match pointer::read(path)? {
            Some(number) if !self.record_path(number).exists() => {
                let record = format!("{VERSIONS}/{}.json", names::digits(number));
                Err(Error::damaged(path, format!("it names version {number}, whose record {record} is missing")))
            }
            // With one version, the first publication may have been interrupted before this file.
            None if path.ends_with(CURRENT) && self.versions()?.len() > 1 => Err(self.no_current()),
            _ => Ok(()),
        }
    }
}

/// Reads an object and compares its length and checksum.
fn check_object(path: &Path, object: &ObjectRef, read: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let mut file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::damaged(path, "missing")),
        opened => opened.map_err(|e| lowland_io::Error::io(path, "open", e))?,
    };
    let mut buffer = vec![0; BUFFER.min(object.bytes.saturating_add(1) as usize)];
    let (mut hash, mut bytes) = (Xxh3::new(), 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
                read(n as u64)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(lowland_io::Error::io(path, "read", e).into()),
        }
    }
    if bytes != object.bytes {
        return Err(Error::damaged(path, format!("{bytes} bytes where {} were written", object.bytes)));
    }
    if Some(hash.digest128()) != names::object_digest(&object.name) {
        return Err(Error::damaged(path, "its bytes differ from those that were written: the checksum is another"));
    }
    Ok(())
}
