//! A file that names a version: `CURRENT`, or a tag. It is replaced by rename.
//!
//! It holds one line: the version's number as in the name of its record, a space, and 16 hexadecimal digits: the
//! 64-bit xxh3 of the file's name, a space and the number. The digits tell a damaged number from another version's.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::names;
use crate::{Error, Result};

const DAMAGED: &str = "it is not the number of a version with its checksum";

/// Returns the content of the file `name` that names the version `number`.
pub(super) fn text(name: &str, number: u64) -> String {
    let digits = names::digits(number);
    let sum = xxh3_64(format!("{name} {digits}").as_bytes());
    format!("{digits} {sum:016x}\n")
}

/// Reads the file `path`; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<u64>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(lowland_io::Error::io(path, "read", e).into()),
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = std::str::from_utf8(&bytes).ok().and_then(|text| names::number(text.split(' ').next()?));
    match number {
        Some(number) if text(name, number).as_bytes() == bytes => Ok(Some(number)),
        _ => Err(Error::damaged(path, DAMAGED)),
    }
}

/// Writes the file `path` durably.
pub(super) fn write(path: &Path, number: u64) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    lowland_io::replace(path, text(name, number).as_bytes())?;
    Ok(())
}
