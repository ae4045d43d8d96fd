//! Checks the counts in a Parquet footer before the parquet crate reads it. The crate reserves memory
//! for as many entries as a list's header announces, so that one damaged byte could ask for gigabytes.
//!
//! A footer is a `FileMetaData` struct of the Parquet format in Thrift's compact protocol:
//!
//! ```text
//! struct   fields, then a byte 0. A field: a byte with the type in its lower half, and in its upper
//!          half the difference to the last field's number (0: the number follows, zigzag)
//! integer  zigzag, seven bits a byte, the lowest first
//! binary   the length (seven bits a byte), then the bytes
//! list     a byte with the entries' type in its lower half, and in its upper half the number of
//!          entries (15: the number follows)
//! map      the number of entries; unless it is 0, a byte with both types
//! ```
//!
//! What must hold: a footer that passes announces no more entries than it has bytes, and no schema
//! element with more children than the schema has elements. Whether the entries make sense is left to
//! the parquet crate.

/// The deepest nesting of structs and lists; the format needs six levels.
const DEEPEST: usize = 32;

/// The field of `FileMetaData` that lists the schema's elements, and the field of an element that
/// counts its children.
const SCHEMA: i64 = 2;
const CHILDREN: i64 = 5;

/// Returns whether the counts in a footer are possible.
pub(crate) fn is_possible(footer: &[u8]) -> bool {
    Walk { bytes: footer, elements: None }.structure(0, Place::File).is_some()
}

/// The struct being read, as far as it matters.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    File,
    Schema,
    Element,
    Other,
}

struct Walk<'a> {
    /// What follows.
    bytes: &'a [u8],
    /// The number of the schema's elements, once it was read.
    elements: Option<u64>,
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.bytes.split_off_first().copied()
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.bytes.split_off(..usize::try_from(bytes).ok()?).map(drop)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let seven = self.byte()?;
            number |= u64::from(seven & 0x7f) << shift;
            if seven < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        self.unsigned().map(|zigzag| (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// Reads a number of entries, each of which takes a byte at least.
    fn count(&mut self, count: Option<u64>) -> Option<u64> {
        let count = count.map_or_else(|| self.unsigned(), Some)?;
        (count <= self.bytes.len() as u64).then_some(count)
    }

    fn structure(&mut self, depth: usize, place: Place) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        let mut field = 0_i64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Some(());
            }
            field = match header >> 4 {
                0 => self.integer()?,
                more => field.checked_add(i64::from(more))?,
            };
            match (place, field, header & 0x0f) {
                (Place::File, SCHEMA, 9) => self.value(9, depth, Place::Schema)?,
                (Place::Element, CHILDREN, 5) => {
                    let children = u64::try_from(self.integer()?).ok()?;
                    if children > self.elements.unwrap_or(0) {
                        return None;
                    }
                }
                // A field's boolean is in its header.
                (_, _, 1 | 2) => {}
                (_, _, kind) => self.value(kind, depth, Place::Other)?,
            }
        }
    }

    fn value(&mut self, kind: u8, depth: usize, place: Place) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match kind {
            1..=3 => self.skip(1),
            4..=6 => self.unsigned().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.unsigned()?;
                self.skip(length)
            }
            9 | 10 => {
                let header = self.byte()?;
                let count = self.count(Some(u64::from(header >> 4)).filter(|&short| short < 15))?;
                let within = if place == Place::Schema { Place::Element } else { Place::Other };
                if within == Place::Element {
                    self.elements = Some(count);
                }
                (0..count).try_for_each(|_| self.value(header & 0x0f, depth + 1, within))
            }
            11 => {
                let count = self.count(None)?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.value(kinds >> 4, depth + 1, Place::Other)?;
                    self.value(kinds & 0x0f, depth + 1, Place::Other)
                })
            }
            12 => self.structure(depth + 1, place),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer with a version, a schema of two elements (the root with one child, and a leaf), a
    /// number of rows and an empty list of row groups.
    fn footer(elements: u8, children: u8) -> Vec<u8> {
        let mut bytes = vec![0x15, 4, 0x19, elements << 4 | 0x0c];
        bytes.extend([0x48, 1, b'r', 0x15, children * 2, 0]);
        bytes.extend([0x15, 2, 0x38, 1, b'v', 0]);
        bytes.extend([0x16, 20, 0x19, 0x0c, 0]);
        bytes
    }

    #[test]
    fn counts_beyond_the_footer_are_refused() {
        assert!(is_possible(&footer(2, 1)));
        assert!(!is_possible(&footer(2, 3)), "more children than elements");
        assert!(!is_possible(&footer(3, 1)), "an element that is not there");
        // A list of row groups that announces 2^28 entries.
        let mut long = footer(2, 1);
        long.truncate(long.len() - 2);
        long.extend([0xfc, 0x80, 0x80, 0x80, 0x80, 1, 0]);
        assert!(!is_possible(&long));
    }

    #[test]
    fn no_bytes_panic() {
        for length in 0..footer(2, 1).len() {
            assert!(!is_possible(&footer(2, 1)[..length]));
        }
        // Structs in structs without end.
        assert!(!is_possible(&[0x1c; 1000]));
        assert!(!is_possible(&[0x19; 1000]));
    }

    #[test]
    fn footers_of_all_programs_pass() {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
        let mut count = 0;
        for entry in std::fs::read_dir(data).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.ends_with(".parquet") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let end = bytes.len() - 8;
            let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
            assert!(is_possible(&bytes[end - length..end]), "{name}");
            count += 1;
        }
        assert!(count > 10);
    }
}
