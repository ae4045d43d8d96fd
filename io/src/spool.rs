//! Standard input: an Arrow IPC stream, written to a file as it comes, then
//! read like any other file.
//!
//! What must hold: one message is in memory at a time; a file that has its
//! name is whole.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::MessageHeader;
use arrow::ipc::writer::FileWriter;

use crate::arrow_message::{self, Dictionaries};
use crate::open::open_one;
use crate::vectors::Want;
use crate::{Error, Options, PendingFile, Result, Source};

const NAME: &str = "stdin.arrow";

/// What the stream is called in errors.
const STDIN: &str = "standard input";

/// Batches are written in parts of about so many bytes, so that few are read at once later.
const PART_BYTES: usize = 8 << 20;

/// Copies an Arrow IPC stream into `<dir>/stdin.arrow` and opens that file.
///
/// Memory: one batch of the stream and a part of its copy. The file gets its
/// name when it is complete; one that was there before is replaced. Columns of
/// dictionaries are written as plain ones, since a stream may change its
/// dictionaries and a file may not.
///
/// # Errors
///
/// [`Error::Format`], naming "standard input", if it is not an Arrow stream or
/// breaks off; those of [`open`](crate::open) for the file that it becomes.
pub fn spool_stdin(reader: impl Read, dir: &Path, options: &Options) -> Result<Box<dyn Source>> {
    let path = dir.join(NAME);
    let mut stream = Stream { reader };
    let wrong = |what: String| Error::format(STDIN, what);
    let Some((metadata, _)) = stream.first()? else {
        return Err(wrong("empty; - expects an Arrow IPC stream".into()));
    };
    let message = arrow_message::parse(&metadata).map_err(wrong)?;
    let schema = message.header_as_schema();
    let schema = schema.ok_or_else(|| wrong("an Arrow stream that does not begin with a schema".into()))?;
    let schema: SchemaRef = Arc::new(arrow_message::schema(schema).map_err(wrong)?);
    let plain: SchemaRef = Arc::new(Schema::new_with_metadata(
        schema.fields().iter().map(|f| undictionaried(f)).collect::<Vec<_>>(),
        schema.metadata().clone(),
    ));

    let mut file = PendingFile::create(&path)?;
    let unwritten = |e: arrow::error::ArrowError| match e {
        arrow::error::ArrowError::IoError(_, source) => Error::io(&path, "write", source),
        other => Error::format(&path, other.to_string()),
    };
    let mut writer = FileWriter::try_new(&mut file, &plain).map_err(unwritten)?;
    let mut dictionaries = Dictionaries::new();
    while let Some((metadata, body_length)) = stream.next()? {
        let message = arrow_message::parse(&metadata).map_err(wrong)?;
        let body = Buffer::from_vec(stream.bytes(body_length)?);
        match message.header_type() {
            MessageHeader::RecordBatch => {
                let batch = arrow_message::decode(message, &body, &schema, &dictionaries).map_err(wrong)?;
                drop(body);
                let rows = batch.num_rows();
                let size = batch.get_array_memory_size().div_ceil(rows.max(1));
                let part = (PART_BYTES / size.max(1)).max(1);
                for first in (0..rows).step_by(part) {
                    let part = batch.slice(first, part.min(rows - first));
                    let columns = part.columns().iter().zip(plain.fields());
                    let columns = columns.map(|(c, f)| cast(c, f.data_type())).collect::<std::result::Result<_, _>>();
                    let part = columns.and_then(|columns| RecordBatch::try_new(plain.clone(), columns));
                    writer.write(&part.map_err(|e| wrong(e.to_string()))?).map_err(unwritten)?;
                }
            }
            MessageHeader::DictionaryBatch => {
                arrow_message::decode_dictionary(message, &body, &schema, &mut dictionaries).map_err(wrong)?;
            }
            other => return Err(wrong(format!("a message of kind {other:?} where a batch was expected"))),
        }
    }
    writer.finish().map_err(unwritten)?;
    drop(writer);
    file.finish()?;
    let want = options.column.clone().map_or(Want::Any, Want::Asked);
    let (source, _) = open_one(&path, &want)?;
    if source.shape().rows == 0 {
        return Err(wrong("an Arrow stream without rows".into()));
    }
    Ok(source)
}

fn undictionaried(field: &Field) -> Field {
    match field.data_type() {
        DataType::Dictionary(_, values) => Field::new(field.name(), values.as_ref().clone(), field.is_nullable())
            .with_metadata(field.metadata().clone()),
        _ => field.clone(),
    }
}

/// The messages of a stream: each its flatbuffer and its body's length.
struct Stream<R> {
    reader: R,
}

impl<R: Read> Stream<R> {
    /// The first message; here it shows whether this is a stream at all.
    fn first(&mut self) -> Result<Option<(Vec<u8>, u64)>> {
        let Some(start) = self.start()? else { return Ok(None) };
        let what = match &start {
            [0xff, 0xff, 0xff, 0xff, ..] => return self.message(start),
            [b'A', b'R', b'R', b'O', b'W', b'1', ..] => "an Arrow file, not a stream; give its path",
            [b'P', b'A', b'R', b'1', ..] => "a Parquet file; give its path",
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a .npy file; give its path",
            _ => "not an Arrow stream",
        };
        Err(Error::format(
            STDIN,
            format!(
                "{what}; - expects an Arrow IPC stream, such as pyarrow.ipc.new_stream or Polars' write_ipc_stream writes"
            ),
        ))
    }

    fn next(&mut self) -> Result<Option<(Vec<u8>, u64)>> {
        match self.start()? {
            Some(start) => self.message(start),
            None => Ok(None),
        }
    }

    /// The eight bytes before a message; none at the stream's end.
    fn start(&mut self) -> Result<Option<[u8; 8]>> {
        let mut start = [0; 8];
        let mut filled = 0;
        while filled < start.len() {
            match self.reader.read(&mut start[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(STDIN, "read", e)),
            }
        }
        Ok(Some(start))
    }

    fn message(&mut self, [a, b, c, d, length @ ..]: [u8; 8]) -> Result<Option<(Vec<u8>, u64)>> {
        let length = u64::try_from(i32::from_le_bytes(length));
        let (true, Ok(length)) = ([a, b, c, d] == [0xff; 4], length) else {
            return Err(Error::format(STDIN, "damaged: no Arrow message where one should begin"));
        };
        if length == 0 {
            return Ok(None);
        }
        let metadata = self.bytes(length)?;
        let body = arrow_message::parse(&metadata).map_err(|what| Error::format(STDIN, what))?.bodyLength();
        let body = u64::try_from(body).map_err(|_| Error::format(STDIN, "damaged: a body of negative length"))?;
        Ok(Some((metadata, body)))
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let room = usize::try_from(length).is_ok_and(|n| bytes.try_reserve_exact(n).is_ok());
        if !room {
            return Err(Error::format(
                STDIN,
                format!("a message of {length} bytes does not fit into memory; send smaller batches"),
            ));
        }
        let read = self.reader.by_ref().take(length).read_to_end(&mut bytes);
        read.map_err(|e| Error::io(STDIN, "read", e))?;
        if (bytes.len() as u64) < length {
            return Err(cut());
        }
        Ok(bytes)
    }
}

fn cut() -> Error {
    Error::format(STDIN, "cut short: the stream breaks off within a message; did the program that writes it fail?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../tests/data/{name}", std::env::var("CARGO_MANIFEST_DIR").unwrap())).unwrap()
    }

    fn spool(bytes: &[u8]) -> (tempfile::TempDir, Result<Box<dyn Source>>) {
        let dir = tempfile::tempdir().unwrap();
        let source = spool_stdin(bytes, dir.path(), &Options::default());
        (dir, source)
    }

    #[test]
    fn streams_of_pyarrow_and_polars_become_files() {
        for name in ["pyarrow_f32.arrows", "polars_f32.arrows"] {
            let (dir, source) = spool(&fixture(name));
            let source = source.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(source.shape(), crate::Shape { rows: 10, dim: 4 });
            let mut found = [0.0; 8];
            source.read_rows(8, &mut found).unwrap();
            let expected = [56, 59, 62, 65, 63, 66, 69, 72].map(|n| ((n % 23) as f32 - 11.0) / 4.0);
            assert_eq!(found, expected, "{name}");
            let names = source.read_columns(&["name".into()], 9, 1).unwrap();
            let text = cast(names.column(0), &DataType::Utf8).unwrap();
            assert_eq!(text.as_string::<i32>().value(0), "row 9");
            let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
            assert_eq!(files, [NAME]);
        }
    }

    fn check(bytes: &[u8], text: &str) {
        let (dir, source) = spool(bytes);
        let error = source.err().unwrap().to_string();
        assert!(error.starts_with("standard input: ") && error.contains(text), "{error}");
        assert!(!dir.path().join(NAME).exists());
    }

    #[test]
    fn what_is_no_stream_is_told_so() {
        check(&[], "empty; - expects an Arrow IPC stream");
        check(b"id,x\n1,2\n", "not an Arrow stream; - expects");
        check(&fixture("pyarrow_list_f32.arrow"), "an Arrow file, not a stream");
        check(&fixture("pyarrow_list_f32.parquet"), "a Parquet file");
        check(&fixture("numpy_f32.npy"), "a .npy file");
        check(&fixture("pyarrow_f32.arrows")[..1000], "cut short");
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "damaged");
    }

    #[test]
    fn no_damage_panics() {
        for name in ["pyarrow_f32.arrows", "polars_f32.arrows"] {
            let good = fixture(name);
            for length in 0..good.len() {
                let _ = spool(&good[..length]);
            }
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= [1 << (at % 8), 0xff][at % 2];
                if let (_dir, Ok(source)) = spool(&bad) {
                    let crate::Shape { rows, dim } = source.shape();
                    let _ = source.read_rows(0, &mut vec![0.0; rows as usize * dim]);
                }
            }
        }
    }
}
