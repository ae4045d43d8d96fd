//! The names of the files of a model, and which names users may give.

use std::path::Path;

use crate::{Error, Result};

pub(super) const MODEL: &str = "model.json";
pub(super) const LOCK: &str = "LOCK";
pub(super) const CURRENT: &str = "CURRENT";
pub(super) const VERSIONS: &str = "versions";
pub(super) const DATA: &str = "data";
pub(super) const TAGS: &str = "tags";
/// The directory of the scratch of runs.
pub const RUNS: &str = "runs";
/// The scratch directory of a run that ended, while it is removed. No run has such a name.
pub(super) const ENDED: &str = ".ended";
/// The directories of a model.
pub(super) const FOLDERS: [&str; 4] = [VERSIONS, DATA, TAGS, RUNS];

/// The longest name of a tag or run, in bytes.
const LONGEST: usize = 100;
/// The hexadecimal digits of an object's name.
const DIGITS: usize = 32;

/// Returns a version's number as it is written: six digits or more.
pub(super) fn digits(number: u64) -> String {
    format!("{number:06}")
}

/// Returns the number that `text` is, if it is written as [`digits`] writes it.
pub(super) fn number(text: &str) -> Option<u64> {
    let number = text.parse().ok().filter(|&number| number > 0)?;
    (digits(number) == text).then_some(number)
}

/// Returns the number of the version whose record has this file name.
pub(super) fn record_number(file: &str) -> Option<u64> {
    number(file.strip_suffix(".json")?)
}

/// Returns the name of an object's file.
pub(super) fn object(digest: u128, kind: &str) -> String {
    format!("{digest:032x}.{kind}")
}

/// Returns the digest in the name of an object, if it is such a name.
pub(super) fn object_digest(name: &str) -> Option<u128> {
    let (digits, kind) = name.split_at_checked(DIGITS)?;
    let kind = kind.strip_prefix('.')?;
    let digest = u128::from_str_radix(digits, 16).ok()?;
    (is_kind(kind) && object(digest, kind) == name).then_some(digest)
}

fn is_kind(kind: &str) -> bool {
    (1..=32).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// Checks the kind of an object: 1 to 32 lower-case letters and hyphens.
pub(super) fn check_kind(kind: &str) -> Result<()> {
    if is_kind(kind) { Ok(()) } else { Err(refused(kind, "a kind is 1 to 32 lower-case letters and hyphens")) }
}

/// Checks a name that becomes the name of a file: of a tag or of a run.
pub(super) fn check_name(name: &str) -> Result<()> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > LONGEST {
        "it is longer than 100 bytes"
    } else if name.starts_with('.') {
        "it begins with a dot"
    } else if name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        "it has a slash, a backslash or a control character"
    } else if name.ends_with(lowland_io::PART) {
        "it ends in \".part\", as unfinished files do"
    } else {
        return Ok(());
    };
    Err(refused(name, why))
}

/// Checks the name of a tag, which must not look like another way to name a version.
pub(super) fn check_tag(name: &str) -> Result<()> {
    check_name(name)?;
    if name.starts_with('@') || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused(name, "versions are named by numbers and by @"));
    }
    if name.eq_ignore_ascii_case("current") {
        return Err(refused(name, "it names the version that readers take"));
    }
    Ok(())
}

/// Returns what can be done about a damaged file of a model.
pub(crate) fn way_out(path: &Path) -> &'static str {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_string);
    match (path.parent().and_then(name).as_deref(), name(path).as_deref()) {
        (_, Some(CURRENT)) => "a rollback to a version writes it anew",
        (_, Some(MODEL)) => "restore the file from a copy of the model",
        (Some(TAGS), _) => "give the tag to a version anew, or remove it",
        _ => "restore the file from a copy of the model, or go back by `rollback` to a version that does not need it",
    }
}

fn refused(name: &str, why: &'static str) -> Error {
    Error::Name { name: name.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", ".hidden", "a/b", "/a", "a\\b", "a\0b", "a\n", "a.part", &"a".repeat(101)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["2026-11-30", "run 7", "größer", &"a".repeat(100)] {
            check_name(name).unwrap();
        }
        for name in ["41", "@41", "@x", "current", "Current"] {
            assert!(check_tag(name).is_err(), "{name:?}");
        }
        check_tag("v41").unwrap();
    }

    #[test]
    fn numbers_and_objects_have_one_spelling() {
        for (text, expected) in [
            ("000042", Some(42)),
            ("1234567", Some(1_234_567)),
            ("42", None),
            ("0000042", None),
            ("000000", None),
            ("+00042", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        let name = object(0xabc, "delta-ids");
        assert_eq!(object_digest(&name), Some(0xabc));
        assert_eq!(object_digest(&name.to_uppercase()), None);
        for name in ["", "abc.ids", "../x", &format!("{:032x}", 5), &format!("{:032x}.", 5), &format!("{:032x}./", 5)] {
            assert_eq!(object_digest(name), None, "{name}");
        }
    }
}
