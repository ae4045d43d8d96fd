//! A source over a NumPy `.npy` file: one array of `rows × dim` numbers, read by position.
//!
//! ```text
//! "\x93NUMPY"                   6 bytes
//! major, minor version          2 bytes; major versions 1 to 3 are read
//! header length                 u16 (version 1) or u32, little-endian
//! header                        a Python dictionary literal: descr, fortran_order, shape
//! numbers                       rows × dim, in the type and byte order of descr
//! ```
//!
//! An array in Fortran order is read in blocks: a few thousand rows, from each column the part that
//! belongs to these rows. Consecutive reads are served from the block, so that one pass over the
//! rows reads the file once, whatever the batch size.
//!
//! What must hold: any file contents give an array or an error that says how to fix the file, never
//! a panic. In C order a call reads only the requested rows; in Fortran order at most one block is
//! held.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow::record_batch::RecordBatch;
use half::f16;

use crate::number::{RoundFrom, VectorFloat};
use crate::positioned::PositionedFile;
use crate::source::{check_range, lock};
use crate::{Dtype, Error, Result, RowLocation, Shape, Source, SourceId};

pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// Bytes read at a time; they fit in a core's cache.
const PORTION_BYTES: usize = 96 << 10;

/// A longer header is refused. NumPy does not read such headers by default either.
const LONGEST_HEADER: u64 = 16 << 20;

/// The size in bytes of a block of an array in Fortran order.
const BLOCK_BYTES: usize = 16 << 20;
/// The least number of bytes read from each column, up to four times the block size in total:
/// shorter reads would take as long.
const COLUMN_BYTES: usize = 4 << 10;

/// A `.npy` file.
#[derive(Debug)]
pub(crate) struct NpyFile {
    path: PathBuf,
    file: PositionedFile,
    header: NpyHeader,
    /// The offset of the numbers in the file, in bytes.
    start: u64,
    /// The last block read of an array in Fortran order.
    block: Mutex<Option<ColumnBlock>>,
}

/// Rows of an array in Fortran order: column after column, as in the file.
#[derive(Debug, Default)]
struct ColumnBlock {
    first: u64,
    rows: usize,
    bytes: Vec<u8>,
}

impl ColumnBlock {
    fn end(&self) -> u64 {
        self.first + self.rows as u64
    }
}

impl NpyFile {
    pub(crate) fn open(file: PositionedFile) -> Result<Self> {
        let path = &file.path().to_path_buf();
        let (header, start) = read_header(path, &file)?;
        let Shape { rows, dim } = header.shape;
        let expected = rows
            .checked_mul(dim as u64)
            .and_then(|n| n.checked_mul(header.element.width() as u64))
            .and_then(|n| n.checked_add(start))
            .ok_or_else(|| Error::format(path, format!("its header gives an impossible shape, {rows} by {dim}")))?;
        if expected > file.bytes() {
            return Err(Error::Truncated { path: path.into(), expected, found: file.bytes() });
        }
        let after = (expected + MAGIC.len() as u64).min(file.bytes());
        if file.read(expected..after)? == MAGIC {
            let what = "a second array follows the first, as np.save writes when it is called twice on one open file; \
                        save each array to a file of its own, or one np.concatenate of them";
            return Err(Error::format(path, what));
        }
        // A file that was opened but not read yet holds nothing.
        file.release();
        Ok(NpyFile { path: path.into(), file, header, start, block: Mutex::new(None) })
    }

    fn read<N: VectorFloat>(&self, first: u64, out: &mut [N]) -> Result<()> {
        check_range(&self.path, self.header.shape, first, out.len())?;
        if self.header.fortran {
            return self.read_by_columns(first, out);
        }
        // `check_range` has passed, so the range lies in the file and does not overflow.
        let NpyHeader { shape, element, .. } = self.header;
        let width = element.width();
        let mut at = self.start + first * shape.dim as u64 * width as u64;
        let mut buffer = vec![0; PORTION_BYTES.min(out.len() * width)];
        for out in out.chunks_mut(PORTION_BYTES / width) {
            let bytes = &mut buffer[..out.len() * width];
            self.file.read_at(at, bytes)?;
            at += bytes.len() as u64;
            match element {
                NpyElement { dtype: Dtype::F16, big: false } => convert_halves(bytes, out),
                element => decode(element, bytes, out.iter_mut()),
            }
        }
        Ok(())
    }

    /// Reads rows of an array in Fortran order, through blocks that are read ahead.
    fn read_by_columns<N: VectorFloat>(&self, first: u64, out: &mut [N]) -> Result<()> {
        /// Rows transposed at a time: few enough that their part of `out` stays in a core's cache.
        const TILE: usize = 256;
        let NpyHeader { shape: Shape { rows, dim }, element, .. } = self.header;
        let width = element.width();
        let mut kept = lock(&self.block);
        let mut block = kept.take().unwrap_or_default();
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let wanted = rest.len() / dim;
            if !(block.first..block.end()).contains(&at) {
                // A consecutive read gets a whole block, a jump only the requested rows.
                let ahead = if at == block.end() { self.block_rows() } else { wanted.min(self.block_rows()) };
                self.fill(&mut block, at, (rows - at).min(ahead as u64) as usize)?;
            }
            let skipped = (at - block.first) as usize;
            let taken = wanted.min(block.rows - skipped).min(TILE);
            let (tile, after) = rest.split_at_mut(taken * dim);
            for component in 0..dim {
                let bytes = &block.bytes[(component * block.rows + skipped) * width..][..taken * width];
                decode(element, bytes, tile.iter_mut().skip(component).step_by(dim));
            }
            (at, rest) = (at + taken as u64, after);
        }
        // A block at the end of the array is not needed again, so its memory is freed.
        *kept = (at < rows).then_some(block);
        Ok(())
    }

    /// Reads `rows` rows, from row `first` on, into `block`.
    fn fill(&self, block: &mut ColumnBlock, first: u64, rows: usize) -> Result<()> {
        let NpyHeader { shape, element, .. } = self.header;
        let column = rows * element.width();
        (block.first, block.rows) = (first, rows);
        block.bytes.resize(column * shape.dim, 0);
        let part = |component| {
            let at = (component as u64 * shape.rows + first) * element.width() as u64;
            (self.start + at, column)
        };
        let parts: Vec<_> = (0..shape.dim).map(part).collect();
        self.file.read_parts(&parts, &mut block.bytes)
    }

    /// Returns the number of rows of a block.
    fn block_rows(&self) -> usize {
        let NpyHeader { shape, element, .. } = self.header;
        let row = shape.dim.saturating_mul(element.width()).max(1);
        let long = (COLUMN_BYTES / element.width()).min(4 * BLOCK_BYTES / row);
        (BLOCK_BYTES / row).max(long).max(1).min(usize::try_from(shape.rows).unwrap_or(usize::MAX))
    }
}

impl Source for NpyFile {
    fn shape(&self) -> Shape {
        self.header.shape
    }

    fn dtype(&self) -> Dtype {
        self.header.element.dtype
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        let NpyHeader { shape, element, fortran } = self.header;
        if element == (NpyElement { dtype: Dtype::F32, big: false }) && !fortran && cfg!(target_endian = "little") {
            // The file's bytes are the numbers, so they are read directly into `out`.
            check_range(&self.path, shape, first, out.len())?;
            let at = self.start + first * shape.dim as u64 * size_of::<f32>() as u64;
            self.file.read_at(at, bytemuck::cast_slice_mut(out))?;
            out.iter_mut().for_each(|number| *number = f32::take(*number));
            return Ok(());
        }
        self.read(first, out)
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.read(first, out)
    }

    fn locate(&self, row: u64) -> RowLocation {
        RowLocation { path: self.path.clone(), row }
    }

    fn columns(&self) -> Vec<String> {
        Vec::new()
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        if let Some(asked) = names.first() {
            return Err(Error::NoSuchColumn { path: self.path.clone(), asked: asked.clone(), available: Vec::new() });
        }
        check_range(&self.path, self.header.shape, first, rows.saturating_mul(self.header.shape.dim))?;
        crate::source::no_columns(&self.path, rows)
    }

    fn id(&self) -> Result<SourceId> {
        Ok(SourceId::Files(vec![self.file.fingerprint(0..self.start)?]))
    }

    fn vector_column(&self) -> Option<String> {
        None
    }

    fn held_bytes(&self) -> u64 {
        let NpyHeader { shape, element, fortran } = self.header;
        match fortran {
            true => {
                let block = (self.block_rows() as u64).saturating_mul(shape.dim as u64 * element.width() as u64);
                // Responses are held in full before they are copied into the block.
                block.saturating_mul(if self.file.is_object() { 2 } else { 1 }) + self.file.ahead_bytes()
            }
            false => PORTION_BYTES as u64 + self.file.ahead_bytes(),
        }
    }

    fn release(&self) {
        self.file.release();
        *lock(&self.block) = None;
    }
}

/// Decodes numbers into `slots`, until either ends.
fn decode<'a, N: VectorFloat>(element: NpyElement, bytes: &[u8], slots: impl Iterator<Item = &'a mut N>) {
    macro_rules! numbers {
        ($number:ty) => {
            convert(bytes, slots, |b| N::take(<$number>::from_le_bytes(little_endian(b, element.big))))
        };
    }
    match element.dtype {
        Dtype::F16 => numbers!(f16),
        Dtype::F32 => numbers!(f32),
        Dtype::F64 => numbers!(f64),
        Dtype::U8 => numbers!(u8),
        Dtype::U16 => numbers!(u16),
        Dtype::U32 => numbers!(u32),
        Dtype::U64 => numbers!(u64),
        Dtype::I8 => numbers!(i8),
        Dtype::I16 => numbers!(i16),
        Dtype::I32 => numbers!(i32),
        Dtype::I64 => numbers!(i64),
        // Booleans: every byte other than 0 is true.
        _ => convert(bytes, slots, |[b]: [u8; 1]| N::take(u8::from(b != 0))),
    }
}

/// Returns a number's bytes, least significant first.
fn little_endian<const W: usize>(mut bytes: [u8; W], big: bool) -> [u8; W] {
    if big {
        bytes.reverse();
    }
    bytes
}

fn convert<'a, N: 'a, const W: usize>(
    bytes: &[u8],
    slots: impl Iterator<Item = &'a mut N>,
    number: impl Fn([u8; W]) -> N,
) {
    for (slot, bytes) in slots.zip(bytes.as_chunks().0) {
        *slot = number(*bytes);
    }
}

fn convert_halves<N: VectorFloat>(bytes: &[u8], out: &mut [N]) {
    // In portions of a fixed size, so that the processor's conversion instruction is used.
    const PORTION: usize = 1024;
    let mut halves = [f16::ZERO; PORTION];
    for (bytes, out) in bytes.chunks(2 * PORTION).zip(out.chunks_mut(PORTION)) {
        for (half, pair) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*pair);
        }
        N::halves(&halves[..out.len()], out);
    }
}

/// A NumPy number type, and whether it is big-endian.
#[derive(Debug, Clone, Copy, PartialEq)]
struct NpyElement {
    dtype: Dtype,
    big: bool,
}

impl NpyElement {
    /// Parses the header's `descr`; `None` if the type is not supported.
    fn of(descr: &str) -> Option<Self> {
        let (order, kind) = descr.split_at_checked(1)?;
        let dtype = match kind {
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            "u1" => Dtype::U8,
            "u2" => Dtype::U16,
            "u4" => Dtype::U32,
            "u8" => Dtype::U64,
            "i1" => Dtype::I8,
            "i2" => Dtype::I16,
            "i4" => Dtype::I32,
            "i8" => Dtype::I64,
            "b1" => Dtype::Bool,
            _ => return None,
        };
        // One-byte types have no byte order, which is written `|`.
        match order {
            "<" | ">" => Some(NpyElement { dtype, big: order == ">" }),
            "|" if dtype.bytes() == 1 => Some(NpyElement { dtype, big: false }),
            _ => None,
        }
    }

    fn width(self) -> usize {
        self.dtype.bytes()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct NpyHeader {
    shape: Shape,
    element: NpyElement,
    /// Whether the array is stored column by column rather than row by row.
    fortran: bool,
}

/// Reads the header. Returns it and the offset of the numbers.
fn read_header(path: &Path, file: &PositionedFile) -> Result<(NpyHeader, u64)> {
    let part = |range: Range<u64>| match range.end <= file.bytes() {
        true => file.read(range),
        false => Err(Error::Truncated { path: path.into(), expected: range.end, found: file.bytes() }),
    };
    let length_at = MAGIC.len() as u64 + 2;
    let version = part(0..length_at)?[MAGIC.len()];
    let text_at = match version {
        1 => length_at + 2,
        2 | 3 => length_at + 4,
        found => return Err(Error::Version { path: path.into(), found: found.into(), readable: "1 to 3" }),
    };
    let length = part(length_at..text_at)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
    let start = text_at + length;
    if length > LONGEST_HEADER {
        return Err(Error::format(path, format!("a header of {length} bytes: damaged; save the array again")));
    }
    let text = part(text_at..start)?;
    // Version 3 is UTF-8, versions 1 and 2 are Latin-1. The relevant characters are the same in
    // both.
    let text = String::from_utf8_lossy(&text);
    let entries = PythonLiteral { rest: &text }
        .dictionary()
        .ok_or_else(|| Error::format(path, "its header is not one that NumPy writes; save the array again"))?;
    Ok((parse_header(path, &entries)?, start))
}

fn parse_header(path: &Path, entries: &[(&str, NpyValue)]) -> Result<NpyHeader> {
    let refuse = |what: String| Err(Error::format(path, what));
    let entry = |name: &str| entries.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    let element = match entry("descr") {
        Some(NpyValue::Text(descr)) => match (NpyElement::of(descr), *descr) {
            (Some(element), _) => element,
            (None, object) if object.starts_with("|O") => {
                return refuse("an array of Python objects; save np.stack(arr).astype('<f4')".into());
            }
            (None, complex) if complex.get(1..2) == Some("c") => {
                return refuse(format!(
                    "complex numbers ({complex}); save np.concatenate([arr.real, arr.imag], 1).astype('<f4')"
                ));
            }
            (None, other) => {
                return refuse(format!(
                    "numbers of type {other}; floats of 2 to 8 bytes, integers and bool are read: save arr.astype('<f8')"
                ));
            }
        },
        Some(NpyValue::Fields) => {
            return refuse(
                "a structured array; save its fields as one matrix: \
                 numpy.lib.recfunctions.structured_to_unstructured(arr).astype('<f4')"
                    .into(),
            );
        }
        _ => return refuse("its header names no type; save the array again".into()),
    };
    let (rows, dim) = match entry("shape") {
        Some(NpyValue::Shape(sizes)) => match *sizes.as_slice() {
            [rows, dim] => (rows, dim),
            [n] => {
                return refuse(format!(
                    "one-dimensional, {n} numbers; save arr.reshape(-1, dim), or arr.reshape(-1, 1) for vectors of one"
                ));
            }
            [] => return refuse("a single number; vectors are rows: save an array of two dimensions".into()),
            ref sizes => {
                return refuse(format!(
                    "{} dimensions, but vectors have 2 (rows and components); save arr.reshape(len(arr), -1)",
                    sizes.len()
                ));
            }
        },
        _ => return refuse("its header gives no shape; save the array again".into()),
    };
    let dim = match usize::try_from(dim) {
        Ok(dim) if dim > 0 => dim,
        _ => return refuse(format!("its vectors have {dim} components")),
    };
    let fortran = match entry("fortran_order") {
        // With one row or one component both orders have the same bytes.
        Some(NpyValue::Truth(fortran)) => *fortran && rows > 1 && dim > 1,
        _ => return refuse("its header does not say which order its numbers are in; save the array again".into()),
    };
    Ok(NpyHeader { shape: Shape { rows, dim }, element, fortran })
}

#[derive(Debug, PartialEq)]
enum NpyValue<'a> {
    Text(&'a str),
    Truth(bool),
    Shape(Vec<u64>),
    /// The list that describes a structured type; its contents are not parsed.
    Fields,
}

/// The Python literal in the header: a flat dictionary.
struct PythonLiteral<'a> {
    rest: &'a str,
}

impl<'a> PythonLiteral<'a> {
    fn dictionary(mut self) -> Option<Vec<(&'a str, NpyValue<'a>)>> {
        self.token("{")?;
        let mut entries = Vec::new();
        while self.token("}").is_none() {
            let key = self.text()?;
            self.token(":")?;
            let value = self.value()?;
            entries.push((key, value));
            if self.token(",").is_none() {
                self.token("}")?;
                break;
            }
        }
        Some(entries)
    }

    fn value(&mut self) -> Option<NpyValue<'a>> {
        if self.token("True").is_some() {
            Some(NpyValue::Truth(true))
        } else if self.token("False").is_some() {
            Some(NpyValue::Truth(false))
        } else if self.token("(").is_some() {
            self.shape().map(NpyValue::Shape)
        } else if self.rest.trim_start().starts_with('[') {
            self.skip_list()?;
            Some(NpyValue::Fields)
        } else {
            self.text().map(NpyValue::Text)
        }
    }

    fn shape(&mut self) -> Option<Vec<u64>> {
        let mut sizes = Vec::new();
        while self.token(")").is_none() {
            let text = self.rest.trim_start();
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            sizes.push(text[..digits].parse().ok()?);
            self.rest = &text[digits..];
            let _ = self.token("L"); // Python 2 wrote sizes as long integers.
            if self.token(",").is_none() {
                self.token(")")?;
                break;
            }
        }
        Some(sizes)
    }

    fn skip_list(&mut self) -> Option<()> {
        let mut depth = 0usize;
        let mut quote = None;
        for (at, c) in self.rest.char_indices() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '[') => depth += 1,
                (None, ']') => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        self.rest = &self.rest[at + 1..];
                        return Some(());
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (inside, rest) = text[1..].split_once(quote)?;
        self.rest = rest;
        Some(inside)
    }

    fn token(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
    }

    /// An array, and the directory in which it is saved.
    #[derive(Debug)]
    struct SavedArray(NpyFile, #[expect(dead_code, reason = "removes the directory when dropped")] tempfile::TempDir);

    impl std::ops::Deref for SavedArray {
        type Target = NpyFile;
        fn deref(&self) -> &NpyFile {
            &self.0
        }
    }

    fn open(bytes: &[u8]) -> Result<SavedArray> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        std::fs::write(&path, bytes).unwrap();
        PositionedFile::open(&path).and_then(NpyFile::open).map(|npy| SavedArray(npy, dir))
    }

    fn check(descr: &str, fortran: &str, shape: &str, expected: std::result::Result<(u64, usize), &str>) {
        for version in 1..=3 {
            match (open(&file(version, &header(descr, fortran, shape), &[0; 96])), expected) {
                (Ok(npy), Ok((rows, dim))) => assert_eq!(npy.shape(), Shape { rows, dim }),
                (Err(e), Err(text)) => assert!(e.to_string().contains(text), "{e}"),
                (found, expected) => panic!("{:?} where {expected:?} was expected", found.map(|npy| npy.shape())),
            }
        }
    }

    #[test]
    fn headers_parse_or_explain_the_way_out() {
        check("'<f4'", "False", "(3, 4)", Ok((3, 4)));
        check("\"<f4\"", "False", "(3L, 4L)", Ok((3, 4)));
        check("'<f4'", "True", "(3, 1)", Ok((3, 1)));
        check("'<f4'", "False", "(0, 4)", Ok((0, 4)));
        check("'<f4'", "True", "(3, 4)", Ok((3, 4)));
        check("'>f4'", "False", "(3, 4)", Ok((3, 4)));
        check("'<i8'", "False", "(3, 4)", Ok((3, 4)));
        check("'|b1'", "False", "(3, 4)", Ok((3, 4)));
        check("'=f4'", "False", "(3, 4)", Err("arr.astype('<f8')"));
        check("'|i8'", "False", "(3, 4)", Err("arr.astype('<f8')"));
        check("'<f16'", "False", "(3, 2)", Err("arr.astype('<f8')"));
        check("'<c8'", "False", "(3, 4)", Err("arr.real"));
        check("'<M8[ns]'", "False", "(3, 4)", Err("arr.astype"));
        check("'ä'", "False", "(3, 4)", Err("arr.astype"));
        check("''", "False", "(3, 4)", Err("arr.astype"));
        check("'|O'", "False", "(3, 4)", Err("np.stack"));
        check("[('x', '<f4'), ('y]', '<f4')]", "False", "(3,)", Err("structured"));
        check("'<f4'", "False", "(12,)", Err("one-dimensional"));
        check("'<f4'", "False", "()", Err("a single number"));
        check("'<f4'", "False", "(1, 3, 4)", Err("3 dimensions"));
        check("'<f4'", "False", "(3, 0)", Err("0 components"));
        check("'<f4'", "False", "(30, 4)", Err("cut short"));
        check("'<f4'", "False", "(9223372036854775807, 9223372036854775807)", Err("impossible shape"));
        check("'<f4'", "False", "(99999999999999999999999, 4)", Err("not one that NumPy writes"));
        check("'<f4'", "None", "(3, 4)", Err("not one that NumPy writes"));
        check("'<f4'", "'no'", "(3, 4)", Err("which order"));
        check("True", "False", "(3, 4)", Err("no type"));
        check("'<f4'", "False", "'x'", Err("no shape"));
    }

    #[test]
    fn newer_npy_versions_are_refused() {
        let error = open(&file(4, "{}", &[])).unwrap_err();
        assert!(matches!(error, Error::Version { found: 4, .. }), "{error}");
    }

    #[test]
    fn rows_out_of_the_array_are_refused() {
        let npy = open(&file(1, &header("'<f4'", "False", "(3, 4)"), &[0; 48])).unwrap();
        assert!(npy.read_rows(2, &mut [0.0; 4]).is_ok());
        for (first, len) in [(3, 4), (2, 8), (u64::MAX, 4), (0, 3)] {
            assert!(npy.read_rows(first, &mut vec![0.0; len]).is_err());
        }
        assert!(npy.read_columns(&["x".into()], 0, 1).unwrap_err().to_string().contains("no column"));
    }

    #[test]
    fn no_damage_panics() {
        for order in ["False", "True"] {
            survives(file(1, &header("'<f4'", order, "(3, 4)"), &[0; 48]));
        }
    }

    fn survives(good: Vec<u8>) {
        for length in 6..good.len() {
            assert!(open(&good[..length]).is_err(), "cut at {length}");
        }
        for at in 6..good.len() - 48 {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                if let Ok(npy) = open(&bad) {
                    let Shape { rows, dim } = npy.shape();
                    let _ = npy.read_rows(0, &mut vec![0.0; rows as usize * dim]);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_header_or_an_error(text in ".{0,80}") {
            let _ = PythonLiteral { rest: &text }.dictionary();
            let _ = open(&file(3, &text, &[]));
        }

        #[test]
        fn any_range_reads_as_written(
            rows in 1usize..40,
            dim in 1usize..9,
            seed in any::<u32>(),
            dtype in 0usize..12,
            big in any::<bool>(),
            fortran in any::<bool>(),
        ) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) % 100) as u8;
            let n = rows * dim;
            // The numbers in file order.
            let stored = (0..n).map(|at| if fortran { at % rows * dim + at / rows } else { at }).map(value);
            let each = |kind: &str, bytes: &dyn Fn(u8) -> Vec<u8>| {
                let number = |v| if big { bytes(v).into_iter().rev().collect() } else { bytes(v) };
                (format!("'{}{kind}'", if big { '>' } else { '<' }), stored.clone().flat_map(number).collect::<Vec<u8>>())
            };
            let (descr, data) = match dtype {
                0 => each("f2", &|v| f16::from_f32(v as f32).to_le_bytes().into()),
                1 => each("f4", &|v| (v as f32).to_le_bytes().into()),
                2 => each("f8", &|v| (v as f64).to_le_bytes().into()),
                3 => each("u1", &|v| vec![v]),
                4 => each("u2", &|v| (v as u16).to_le_bytes().into()),
                5 => each("u4", &|v| (v as u32).to_le_bytes().into()),
                6 => each("u8", &|v| (v as u64).to_le_bytes().into()),
                7 => each("i1", &|v| vec![v]),
                8 => each("i2", &|v| (-(v as i16)).to_le_bytes().into()),
                9 => each("i4", &|v| (-(v as i32)).to_le_bytes().into()),
                10 => each("i8", &|v| (-(v as i64)).to_le_bytes().into()),
                _ => each("b1", &|v| vec![v]),
            };
            let number = |i: usize| match dtype {
                8..=10 => -f64::from(value(i)),
                11 => f64::from(u8::from(value(i) != 0)),
                _ => f64::from(value(i)),
            };
            let order = if fortran { "True" } else { "False" };
            let npy = open(&file(1, &header(&descr, order, &format!("({rows}, {dim})")), &data)).unwrap();
            let step = 1 + seed as usize % 7;
            // Forwards, as in a pass over the rows; then backwards.
            let firsts: Vec<usize> = (0..rows).step_by(step).collect();
            for &first in firsts.iter().chain(firsts.iter().rev()) {
                let take = (rows - first).min(step);
                let expected: Vec<f64> = (first * dim..(first + take) * dim).map(number).collect();
                let mut out = vec![0.0f64; take * dim];
                npy.read_rows_f64(first as u64, &mut out).unwrap();
                prop_assert_eq!(&out, &expected);
                let mut out = vec![0.0f32; take * dim];
                npy.read_rows(first as u64, &mut out).unwrap();
                prop_assert!(out.iter().zip(&expected).all(|(a, b)| f64::from(*a) == *b));
            }
        }
    }

    #[test]
    fn a_second_array_is_refused_and_other_bytes_are_passed_over() {
        let array = file(1, &header("'<f4'", "False", "(3, 4)"), &[0; 48]);
        let twice = [array.as_slice(), array.as_slice()].concat();
        let error = open(&twice).unwrap_err().to_string();
        assert!(error.contains("a second array follows") && error.contains("a file of its own"), "{error}");
        for junk in [&b"x"[..], &[0; 77], &MAGIC[..5]] {
            let npy = open(&[array.as_slice(), junk].concat()).unwrap();
            assert_eq!(npy.shape(), Shape { rows: 3, dim: 4 });
        }
    }

    #[test]
    fn fortran_order_is_read_in_blocks_that_are_counted() {
        let (rows, dim) = (5_000usize, 2_000usize);
        let value = |row: usize, component: usize| (row * 7 + component * 3) as u16;
        let data: Vec<u8> = (0..dim).flat_map(|c| (0..rows).flat_map(move |r| value(r, c).to_le_bytes())).collect();
        let npy = open(&file(1, &header("'<u2'", "True", &format!("({rows}, {dim})")), &data)).unwrap();
        let whole = (rows * dim * 2) as u64;
        assert!(npy.held_bytes() < whole, "{}", npy.held_bytes());
        let held = || lock(&npy.block).as_ref().map_or(0, |block| block.bytes.capacity() as u64);
        let mut out = vec![0f32; 600 * dim];
        for first in (0..rows).step_by(600).chain([17, 4_321]) {
            let taken = (rows - first).min(600);
            npy.read_rows(first as u64, &mut out[..taken * dim]).unwrap();
            for (i, found) in out[..taken * dim].iter().enumerate() {
                assert_eq!(*found, f32::from(value(first + i / dim, i % dim)));
            }
            assert!(held() <= npy.held_bytes());
        }
        assert!(held() > 0);
        npy.release();
        assert_eq!(held(), 0);
    }
}
