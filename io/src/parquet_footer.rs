//! Checks a Parquet footer before the parquet crate reads it. The crate reserves memory for as many
//! row groups, and for as many children of a schema element, as the footer announces, so that one
//! damaged byte could ask for gigabytes.
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
//! What must hold of a footer that passes:
//! - A list announces no more entries than the footer has bytes left.
//! - The elements of the schema have together fewer children than there are elements.
//! - A field that the format defines has the format's type, and a number of 32 bits fits in them.
//!   The parquet crate reads the fields that it knows by their number alone: after a field of another
//!   type, the crate would take other bytes for counts than this check did.
//!
//! Whether the values make sense is left to the parquet crate.

/// The deepest nesting of structs and lists; the format needs eight levels.
const DEEPEST: usize = 32;

/// A type of the format.
#[derive(Clone, Copy)]
enum Type {
    Bool,
    I8,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Type),
    Struct(Fields),
    /// A list of [`SCHEMA_ELEMENT`]s.
    Schema,
    /// The number of a schema element's children.
    Children,
}

/// The fields that a struct has in the format; others are skipped.
type Fields = &'static [(i64, Type)];

const EMPTY: Type = Type::Struct(&[]);
const TIME: Type = Type::Struct(&[(1, Type::Bool), (2, Type::Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]))]);
const LOGICAL_TYPE: Type = Type::Struct(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Type::Struct(&[(1, Type::I32), (2, Type::I32)])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, Type::Struct(&[(1, Type::I8), (2, Type::Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Type::Struct(&[(1, Type::I8)])),
    (17, Type::Struct(&[(1, Type::Binary)])),
    (18, Type::Struct(&[(1, Type::Binary), (2, Type::I32)])),
]);
const SCHEMA_ELEMENT: Type = Type::Struct(&[
    (1, Type::I32),
    (2, Type::I32),
    (3, Type::I32),
    (4, Type::Binary),
    (5, Type::Children),
    (6, Type::I32),
    (7, Type::I32),
    (8, Type::I32),
    (9, Type::I32),
    (10, LOGICAL_TYPE),
]);
const KEY_VALUE: Type = Type::Struct(&[(1, Type::Binary), (2, Type::Binary)]);
const STATISTICS: Type = Type::Struct(&[
    (1, Type::Binary),
    (2, Type::Binary),
    (3, Type::I64),
    (4, Type::I64),
    (5, Type::Binary),
    (6, Type::Binary),
    (7, Type::Bool),
    (8, Type::Bool),
]);
const SIZE_STATISTICS: Type = Type::Struct(&[(1, Type::I64), (2, Type::List(&Type::I64)), (3, Type::List(&Type::I64))]);
const BOUNDING_BOX: Type = Type::Struct(&[
    (1, Type::Double),
    (2, Type::Double),
    (3, Type::Double),
    (4, Type::Double),
    (5, Type::Double),
    (6, Type::Double),
    (7, Type::Double),
    (8, Type::Double),
]);
const COLUMN_META_DATA: Type = Type::Struct(&[
    (1, Type::I32),
    (2, Type::List(&Type::I32)),
    (3, Type::List(&Type::Binary)),
    (4, Type::I32),
    (5, Type::I64),
    (6, Type::I64),
    (7, Type::I64),
    (8, Type::List(&KEY_VALUE)),
    (9, Type::I64),
    (10, Type::I64),
    (11, Type::I64),
    (12, STATISTICS),
    (13, Type::List(&Type::Struct(&[(1, Type::I32), (2, Type::I32), (3, Type::I32)]))),
    (14, Type::I64),
    (15, Type::I32),
    (16, SIZE_STATISTICS),
    (17, Type::Struct(&[(1, BOUNDING_BOX), (2, Type::List(&Type::I32))])),
]);
const COLUMN_CHUNK: Type = Type::Struct(&[
    (1, Type::Binary),
    (2, Type::I64),
    (3, COLUMN_META_DATA),
    (4, Type::I64),
    (5, Type::I32),
    (6, Type::I64),
    (7, Type::I32),
]);
const SORTING_COLUMN: Type = Type::Struct(&[(1, Type::I32), (2, Type::Bool), (3, Type::Bool)]);
const ROW_GROUP: Type = Type::Struct(&[
    (1, Type::List(&COLUMN_CHUNK)),
    (2, Type::I64),
    (3, Type::I64),
    (4, Type::List(&SORTING_COLUMN)),
    (5, Type::I64),
    (6, Type::I64),
    (7, Type::I16),
]);
const COLUMN_ORDER: Type = Type::Struct(&[(1, EMPTY)]);
const FILE_META_DATA: Fields = &[
    (1, Type::I32),
    (2, Type::Schema),
    (3, Type::I64),
    (4, Type::List(&ROW_GROUP)),
    (5, Type::List(&KEY_VALUE)),
    (6, Type::Binary),
    (7, Type::List(&COLUMN_ORDER)),
];

/// Returns whether a footer has the format's types, and counts that are possible.
pub(crate) fn is_possible(footer: &[u8]) -> bool {
    Walk { bytes: footer, children: 0 }.structure(FILE_META_DATA, 0).is_some()
}

struct Walk<'a> {
    /// The bytes that are not read yet.
    bytes: &'a [u8],
    /// How many more children the schema's elements may have.
    children: u64,
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
            let byte = self.byte()?;
            let seven = u64::from(byte & 0x7f);
            if seven << shift >> shift != seven {
                return None;
            }
            number |= seven << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        self.unsigned().map(|zigzag| (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// Reads a list's entry type and number of entries, each of which takes a byte at least.
    fn list(&mut self) -> Option<(u8, u64)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.unsigned()?,
            short => u64::from(short),
        };
        (count <= self.bytes.len() as u64).then_some((header & 0x0f, count))
    }

    fn structure(&mut self, fields: Fields, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        let mut number = 0_i64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Some(());
            }
            number = match header >> 4 {
                0 => self.integer()?,
                more => number + i64::from(more),
            };
            // Field numbers have 16 bits.
            i16::try_from(number).ok()?;
            let kind = header & 0x0f;
            match fields.iter().find(|(field, _)| *field == number) {
                Some((_, expected)) => self.expected(*expected, kind, depth)?,
                // A field's boolean is in its header.
                None if matches!(kind, 1 | 2) => {}
                None => self.any(kind, depth)?,
            }
        }
    }

    /// Reads the value of a field, or of an entry of a list, that the format defines. `kind` is the
    /// type that is written.
    fn expected(&mut self, expected: Type, kind: u8, depth: usize) -> Option<()> {
        match (expected, kind) {
            (Type::Bool, 1 | 2) => Some(()),
            (Type::I32, 5) => i32::try_from(self.integer()?).ok().map(drop),
            (Type::I8, 3) | (Type::I16, 4) | (Type::I64, 6) | (Type::Double, 7) | (Type::Binary, 8) => {
                self.any(kind, depth)
            }
            (Type::Struct(fields), 12) => self.structure(fields, depth + 1),
            (Type::List(entry), 9) => self.entries(*entry, depth).map(drop),
            (Type::Schema, 9) => {
                // Every element but the root is the child of one other.
                self.children = (self.bytes.len() as u64).saturating_sub(1);
                let before = self.children;
                let elements = self.entries(SCHEMA_ELEMENT, depth)?;
                (before - self.children < elements.max(1)).then_some(())
            }
            (Type::Children, 5) => {
                let children = i32::try_from(self.integer()?).ok()?;
                self.children = self.children.checked_sub(u64::try_from(children).ok()?)?;
                Some(())
            }
            _ => None,
        }
    }

    /// Reads the entries of a list that the format defines; returns their number.
    fn entries(&mut self, entry: Type, depth: usize) -> Option<u64> {
        let (kind, count) = self.list()?;
        (0..count).try_for_each(|_| self.expected(entry, kind, depth + 1))?;
        Some(count)
    }

    /// Skips the value of a field, or of an entry, that the format does not define.
    fn any(&mut self, kind: u8, depth: usize) -> Option<()> {
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
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.any(kind, depth + 1))
            }
            11 => {
                let count = self.unsigned()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.any(kinds >> 4, depth + 1)?;
                    self.any(kinds & 0x0f, depth + 1)
                })
            }
            12 => self.structure(&[], depth + 1),
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
        // Each group within bounds, but one child of two groups.
        let mut twice = vec![0x15, 4, 0x19, 0x3c];
        twice.extend([0x48, 1, b'r', 0x15, 4, 0]);
        twice.extend([0x48, 1, b'g', 0x15, 2, 0]);
        twice.extend([0x48, 1, b'v', 0, 0x16, 20, 0x19, 0x0c, 0]);
        assert!(!is_possible(&twice));
        twice[8] = 2;
        assert!(is_possible(&twice));
        // A list of row groups that announces 2^28 entries.
        let mut long = footer(2, 1);
        long.truncate(long.len() - 2);
        long.extend([0xfc, 0x80, 0x80, 0x80, 0x80, 1, 0]);
        assert!(!is_possible(&long));
    }

    #[test]
    fn fields_of_other_types_are_refused() {
        for (place, byte, what) in [
            (2, 0x1a, "a schema that is a set"),
            (3, 0x28, "a schema of texts"),
            (7, 0x16, "a number of children in 64 bits"),
            (0, 0x16, "a version in 64 bits"),
            (18, 0x1a, "row groups in a set"),
        ] {
            let mut other = footer(2, 1);
            other[place] = byte;
            assert!(!is_possible(&other), "{what}");
        }
        // 2^33 + 1 children, which 32 bits would cut to 1.
        let mut long = vec![0x15, 4, 0x19, 0x2c, 0x48, 1, b'r', 0x15];
        long.extend([0x82, 0x80, 0x80, 0x80, 0x40, 0]);
        long.extend([0x15, 2, 0x38, 1, b'v', 0, 0x16, 20, 0x19, 0x0c, 0]);
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
