//! NumPy's `.npy`: one array of `rows × dim` numbers, read by position.
//!
//! What must hold: any bytes at all give an array or an error that says what
//! to do, never a panic; a call reads only the rows asked for.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatch;
use half::f16;

use crate::number::{Number, Take};
use crate::positioned::Positioned;
use crate::source::check_range;
use crate::{Dtype, Error, Fingerprint, Place, Result, Shape, Source};

pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// Bytes read at once on their way to `out`: they stay in a core's cache.
const PORTION_BYTES: usize = 96 << 10;

/// A header of more bytes is none that NumPy would read either, without being told to.
const LONGEST_HEADER: u64 = 16 << 20;

/// A `.npy` file.
#[derive(Debug)]
pub(crate) struct Npy {
    path: PathBuf,
    file: Positioned,
    header: Header,
    /// Where the numbers begin, in bytes.
    start: u64,
}

impl Npy {
    pub(crate) fn open(file: Positioned) -> Result<Self> {
        let path = &file.path().to_path_buf();
        let (header, start) = read_header(path, &file)?;
        let Shape { rows, dim } = header.shape;
        let expected = rows
            .checked_mul(dim as u64)
            .and_then(|n| n.checked_mul(width(header.dtype) as u64))
            .and_then(|n| n.checked_add(start))
            .ok_or_else(|| Error::format(path, format!("its header gives an impossible shape, {rows} by {dim}")))?;
        if expected > file.bytes() {
            return Err(Error::Truncated { path: path.into(), expected, found: file.bytes() });
        }
        // A file asked nothing yet holds nothing.
        file.release();
        Ok(Npy { path: path.into(), file, header, start })
    }

    fn read<N: Number>(&self, first: u64, out: &mut [N]) -> Result<()> {
        let Shape { dim, .. } = self.header.shape;
        check_range(&self.path, self.header.shape, first, out.len())?;
        // Within the range, so within the file: no overflow.
        let width = width(self.header.dtype);
        let mut at = self.start + first * dim as u64 * width as u64;
        let mut buffer = vec![0; PORTION_BYTES.min(out.len() * width)];
        for out in out.chunks_mut(PORTION_BYTES / width) {
            let bytes = &mut buffer[..out.len() * width];
            self.file.read_at(at, bytes)?;
            at += bytes.len() as u64;
            match self.header.dtype {
                Dtype::F32 => convert(bytes, out, |b| N::take(f32::from_le_bytes(b))),
                Dtype::F64 => convert(bytes, out, |b| N::take(f64::from_le_bytes(b))),
                Dtype::U8 => convert(bytes, out, |b| N::take(u8::from_le_bytes(b))),
                Dtype::I8 => convert(bytes, out, |b| N::take(i8::from_le_bytes(b))),
                Dtype::F16 => convert_halves(bytes, out),
                Dtype::Mixed => return Err(Error::format(&self.path, "an array has one type")),
            }
        }
        Ok(())
    }
}

impl Source for Npy {
    fn shape(&self) -> Shape {
        self.header.shape
    }

    fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        if self.header.dtype == Dtype::F32 && cfg!(target_endian = "little") {
            // The file's bytes are the numbers.
            check_range(&self.path, self.header.shape, first, out.len())?;
            let at = self.start + first * self.header.shape.dim as u64 * size_of::<f32>() as u64;
            self.file.read_at(at, bytemuck::cast_slice_mut(out))?;
            out.iter_mut().for_each(|number| *number = f32::take(*number));
            return Ok(());
        }
        self.read(first, out)
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.read(first, out)
    }

    fn locate(&self, row: u64) -> Place {
        Place { path: self.path.clone(), row }
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

    fn fingerprints(&self) -> Result<Vec<Fingerprint>> {
        Ok(vec![self.file.fingerprint(0..self.start)?])
    }

    fn vector_column(&self) -> Option<String> {
        None
    }

    fn held_bytes(&self) -> u64 {
        PORTION_BYTES as u64
    }

    fn release(&self) {
        self.file.release();
    }
}

fn convert<N, const W: usize>(bytes: &[u8], out: &mut [N], number: impl Fn([u8; W]) -> N) {
    for (slot, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *slot = number(*bytes);
    }
}

fn convert_halves<N: Number>(bytes: &[u8], out: &mut [N]) {
    // In portions, so that the processor's own conversion is used.
    const PORTION: usize = 1024;
    let mut halves = [f16::ZERO; PORTION];
    for (bytes, out) in bytes.chunks(2 * PORTION).zip(out.chunks_mut(PORTION)) {
        for (half, pair) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*pair);
        }
        N::halves(&halves[..out.len()], out);
    }
}

fn width(dtype: Dtype) -> usize {
    match dtype {
        Dtype::U8 | Dtype::I8 => 1,
        Dtype::F16 => 2,
        Dtype::F32 | Dtype::Mixed => 4,
        Dtype::F64 => 8,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    shape: Shape,
    dtype: Dtype,
}

/// Reads the header; gives it and where the numbers begin.
fn read_header(path: &Path, file: &Positioned) -> Result<(Header, u64)> {
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
    // Version 3 is UTF-8, 1 and 2 are Latin-1: alike in all that matters here.
    let text = String::from_utf8_lossy(&text);
    let entries = Literal { rest: &text }
        .dictionary()
        .ok_or_else(|| Error::format(path, "its header is not one that NumPy writes; save the array again"))?;
    Ok((understand(path, &entries)?, start))
}

fn understand(path: &Path, entries: &[(&str, Value)]) -> Result<Header> {
    let refuse = |what: String| Err(Error::format(path, what));
    let entry = |name: &str| entries.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    let dtype = match entry("descr") {
        Some(Value::Text(descr)) => match *descr {
            "<f2" => Dtype::F16,
            "<f4" => Dtype::F32,
            "<f8" => Dtype::F64,
            "|u1" | "<u1" => Dtype::U8,
            "|i1" | "<i1" => Dtype::I8,
            big if big.starts_with('>') => {
                return refuse(format!("big-endian numbers ({big}); save arr.astype('<f4')"));
            }
            object if object.starts_with("|O") => {
                return refuse("an array of Python objects; save np.stack(arr).astype('<f4')".into());
            }
            other => {
                return refuse(format!(
                    "numbers of type {other}; f2, f4, f8, u1 and i1 are read: save arr.astype('<f4')"
                ));
            }
        },
        Some(Value::Fields) => {
            return refuse(
                "a structured array; save its fields as one matrix: \
                 numpy.lib.recfunctions.structured_to_unstructured(arr).astype('<f4')"
                    .into(),
            );
        }
        _ => return refuse("its header names no type; save the array again".into()),
    };
    let (rows, dim) = match entry("shape") {
        Some(Value::Shape(sizes)) => match *sizes.as_slice() {
            [rows, dim] => (rows, dim),
            [n] => {
                return refuse(format!(
                    "one-dimensional, {n} numbers; save arr.reshape(-1, dim), or arr.reshape(-1, 1) for vectors of one"
                ));
            }
            ref sizes => {
                return refuse(format!("{} dimensions where 2 are read; save arr.reshape(len(arr), -1)", sizes.len()));
            }
        },
        _ => return refuse("its header gives no shape; save the array again".into()),
    };
    let dim = match usize::try_from(dim) {
        Ok(dim) if dim > 0 => dim,
        _ => return refuse(format!("its vectors have {dim} components")),
    };
    match entry("fortran_order") {
        Some(Value::Truth(false)) => {}
        // With one row or one component the two orders are the same bytes.
        Some(Value::Truth(true)) if rows <= 1 || dim == 1 => {}
        Some(Value::Truth(true)) => {
            return refuse(
                "in Fortran order, whose rows do not lie together; write it again with np.save(path, np.ascontiguousarray(a))"
                    .into(),
            );
        }
        _ => return refuse("its header does not say which order its numbers are in; save the array again".into()),
    }
    Ok(Header { shape: Shape { rows, dim }, dtype })
}

#[derive(Debug, PartialEq)]
enum Value<'a> {
    Text(&'a str),
    Truth(bool),
    Shape(Vec<u64>),
    /// The list that describes a structured type; its inside is not read.
    Fields,
}

/// The Python literal that is the header: a flat dictionary.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn dictionary(mut self) -> Option<Vec<(&'a str, Value<'a>)>> {
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

    fn value(&mut self) -> Option<Value<'a>> {
        if self.token("True").is_some() {
            Some(Value::Truth(true))
        } else if self.token("False").is_some() {
            Some(Value::Truth(false))
        } else if self.token("(").is_some() {
            self.shape().map(Value::Shape)
        } else if self.rest.trim_start().starts_with('[') {
            self.skip_list()?;
            Some(Value::Fields)
        } else {
            self.text().map(Value::Text)
        }
    }

    fn shape(&mut self) -> Option<Vec<u64>> {
        let mut sizes = Vec::new();
        while self.token(")").is_none() {
            let text = self.rest.trim_start();
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            sizes.push(text[..digits].parse().ok()?);
            self.rest = &text[digits..];
            let _ = self.token("L"); // Python 2 wrote longs.
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

    /// An array, and the directory that it lies in.
    #[derive(Debug)]
    struct Saved(Npy, #[expect(dead_code, reason = "removes the directory when dropped")] tempfile::TempDir);

    impl std::ops::Deref for Saved {
        type Target = Npy;
        fn deref(&self) -> &Npy {
            &self.0
        }
    }

    fn open(bytes: &[u8]) -> Result<Saved> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        std::fs::write(&path, bytes).unwrap();
        Positioned::open(&path).and_then(Npy::open).map(|npy| Saved(npy, dir))
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
    fn headers_are_understood_or_say_the_way_out() {
        check("'<f4'", "False", "(3, 4)", Ok((3, 4)));
        check("\"<f4\"", "False", "(3L, 4L)", Ok((3, 4)));
        check("'<f4'", "True", "(3, 1)", Ok((3, 1)));
        check("'<f4'", "False", "(0, 4)", Ok((0, 4)));
        check("'<f4'", "True", "(3, 4)", Err("np.ascontiguousarray(a)"));
        check("'>f4'", "False", "(3, 4)", Err("arr.astype('<f4')"));
        check("'<i8'", "False", "(3, 4)", Err("arr.astype('<f4')"));
        check("'|O'", "False", "(3, 4)", Err("np.stack"));
        check("[('x', '<f4'), ('y]', '<f4')]", "False", "(3,)", Err("structured"));
        check("'<f4'", "False", "(12,)", Err("one-dimensional"));
        check("'<f4'", "False", "()", Err("0 dimensions"));
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
    fn versions_to_come_are_refused() {
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
        let good = file(1, &header("'<f4'", "False", "(3, 4)"), &[0; 48]);
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
            let _ = Literal { rest: &text }.dictionary();
            let _ = open(&file(3, &text, &[]));
        }

        #[test]
        fn any_range_reads_as_written(rows in 1usize..40, dim in 1usize..9, seed in any::<u32>(), dtype in 0usize..5) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) % 100) as u8;
            let n = rows * dim;
            let (descr, data): (_, Vec<u8>) = match dtype {
                0 => ("'<f2'", (0..n).flat_map(|i| f16::from_f32(value(i) as f32).to_le_bytes()).collect()),
                1 => ("'<f4'", (0..n).flat_map(|i| (value(i) as f32).to_le_bytes()).collect()),
                2 => ("'<f8'", (0..n).flat_map(|i| (value(i) as f64).to_le_bytes()).collect()),
                3 => ("'|u1'", (0..n).map(value).collect()),
                _ => ("'|i1'", (0..n).map(value).collect()),
            };
            let npy = open(&file(1, &header(descr, "False", &format!("({rows}, {dim})")), &data)).unwrap();
            for first in 0..rows {
                let take = (rows - first).min(1 + seed as usize % 7);
                let mut out = vec![0.0; take * dim];
                npy.read_rows(first as u64, &mut out).unwrap();
                let expected: Vec<f32> = (first * dim..(first + take) * dim).map(|i| value(i) as f32).collect();
                prop_assert_eq!(out, expected);
            }
        }
    }
}
