//! Copies streams (standard input, a pipe or a device) to a file, which is then read like any other
//! file.
//!
//! - Only one portion of the stream is in memory at a time.
//! - An unknown format is refused from the first bytes of the stream, before a file is created.
//! - The file gets its final name only when the whole stream has been copied.
//! - A later process cannot read the stream again. The caller therefore opens the copy as an
//!   [`IdentifiedSource`](crate::IdentifiedSource) of [`SourceId::Once`](crate::SourceId::Once), so
//!   that no later run resumes from it.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use crate::open::FileFormat;
use crate::{Error, PendingFile, Result};

/// The number of bytes copied at a time.
const PORTION_BYTES: usize = 1 << 20;

/// Copies a stream of npy, Parquet or Arrow (a file or an IPC stream) to the file `to`, and returns
/// the number of bytes copied. `name` is what errors call the stream.
///
/// The file gets its name when the stream has ended. An existing file of that name is replaced.
///
/// # Errors
///
/// [`Error::Format`] if the stream is empty or its first bytes belong to no known format. Whether
/// the rest of the data is complete is checked when the copy is opened. [`Error::Io`] if the stream
/// cannot be read or the copy cannot be written.
pub fn spool(mut reader: impl Read, name: &str, to: &Path) -> Result<u64> {
    let unread = |e| Error::io(name, "read", e);
    let unwritten = |e| Error::io(to, "write", e);
    let mut portion = vec![0; PORTION_BYTES];
    let mut filled = 0;
    while filled < FileFormat::MAGIC_BYTES as usize {
        match read(&mut reader, &mut portion[filled..]).map_err(unread)? {
            0 => break,
            n => filled += n,
        }
    }
    if filled == 0 {
        return Err(Error::format(name, "empty; did the program that writes it fail?"));
    }
    FileFormat::of(&portion[..filled]).map_err(|what| Error::format(name, what))?;
    let mut file = PendingFile::create(to)?;
    let mut bytes = 0;
    while filled > 0 {
        file.write_all(&portion[..filled]).map_err(unwritten)?;
        bytes += filled as u64;
        filled = read(&mut reader, &mut portion).map_err(unread)?;
    }
    file.finish()?;
    Ok(bytes)
}

fn read(reader: &mut impl Read, to: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match reader.read(to) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, DictionaryArray, RecordBatch, StringArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Int32Type};
    use arrow::ipc::writer::StreamWriter;

    use super::*;
    use crate::{OpenOptions, Source};

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../tests/data/{name}", std::env::var("CARGO_MANIFEST_DIR").unwrap())).unwrap()
    }

    fn spooled(bytes: &[u8]) -> (tempfile::TempDir, Result<Box<dyn Source>>) {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("copy");
        let source = spool(bytes, "a pipe", &to)
            .inspect(|&n| assert_eq!(n, bytes.len() as u64))
            .and_then(|_| crate::open(&[to.to_str().unwrap().into()], &OpenOptions::default()));
        (dir, source)
    }

    #[test]
    fn streams_of_every_format_become_files() {
        for name in [
            "pyarrow_f32.arrows",
            "polars_f32.arrows",
            "pyarrow_list_f32.arrow",
            "pyarrow_list_f32.parquet",
            "numpy_f32.npy",
        ] {
            let (_dir, source) = spooled(&fixture(name));
            let source = source.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(source.shape(), crate::Shape { rows: 10, dim: 4 });
            let mut found = [0.0; 8];
            source.read_rows(8, &mut found).unwrap();
            let expected = [56, 59, 62, 65, 63, 66, 69, 72].map(|n| ((n % 23) as f32 - 11.0) / 4.0);
            assert_eq!(found, expected, "{name}");
            if !name.ends_with("npy") {
                let names = source.read_columns(&["name".into()], 9, 1).unwrap();
                let text = cast(names.column(0), &DataType::Utf8).unwrap();
                assert_eq!(text.as_string::<i32>().value(0), "row 9");
            }
        }
    }

    fn check(bytes: &[u8], text: &str) {
        let (dir, source) = spooled(bytes);
        let error = source.err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(dir.path().join("copy").exists(), !error.starts_with("a pipe: "), "{error}");
    }

    #[test]
    fn non_streams_are_refused() {
        check(&[], "a pipe: empty;");
        check(b"id,x\n1,2\n", "a pipe: of no known format");
        check(b"\x1f\x8b\x08\0", "a pipe: compressed as a whole");
        check(&fixture("pyarrow_f32.arrows")[..1000], "cut short");
        check(&fixture("numpy_f32.npy")[..150], "cut short");
        check(&fixture("pyarrow_list_f32.parquet")[..500], "cut short");
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "damaged");
        let two = [fixture("pyarrow_f32.arrows"), fixture("pyarrow_f32.arrows")].concat();
        check(&two, "after the Arrow stream's end");
    }

    #[test]
    fn dictionaries_of_a_stream_hold_from_where_they_come() {
        let batch = |values: [&str; 2]| {
            let keys = arrow::array::Int32Array::from(vec![0, 1]);
            let column =
                DictionaryArray::<Int32Type>::new(keys, std::sync::Arc::new(StringArray::from(values.to_vec())));
            let v = arrow::array::Float32Array::from(vec![1.0, 2.0]);
            let columns: [(&str, arrow::array::ArrayRef); 2] =
                [("v", std::sync::Arc::new(v)), ("c", std::sync::Arc::new(column))];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let batches = [batch(["a", "b"]), batch(["c", "d"]), batch(["a", "e"])];
        let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
        batches.iter().for_each(|b| writer.write(b).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, writer.into_inner().unwrap()).unwrap();
        let options = OpenOptions { column: Some("v".into()), ..OpenOptions::default() };
        let source = crate::open(&[path.to_str().unwrap().into()], &options).unwrap();
        for (row, expected) in [(4, "a"), (2, "c"), (1, "b"), (5, "e"), (3, "d"), (0, "a")] {
            let batch = source.read_columns(&["c".into()], row, 1).unwrap();
            let text = cast(batch.column(0), &DataType::Utf8).unwrap();
            assert_eq!(text.as_string::<i32>().value(0), expected, "row {row} of {}", batch.column(0).len());
        }
    }

    #[test]
    fn no_damage_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let survive = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let Ok(source) = crate::open(&[path.to_str().unwrap().into()], &OpenOptions::default()) else { return };
            let crate::Shape { rows, dim } = source.shape();
            if rows < 1000 && dim < 1000 {
                let _ = source.read_rows(0, &mut vec![0.0; rows as usize * dim]);
            }
        };
        for name in ["pyarrow_f32.arrows", "polars_f32.arrows"] {
            let good = fixture(name);
            for length in 0..good.len() {
                survive(&good[..length]);
            }
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= [1 << (at % 8), 0xff][at % 2];
                survive(&bad);
            }
        }
    }
}
