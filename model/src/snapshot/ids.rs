//! The kind `ids`: the user's ids of rows, in order of places.
//!
//! ```text
//! header    "LLMI" 1; type (0: text; 1 to 8: Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64)
//! integers  rows × value
//! text      blocks of 4,096 rows (the last one may have fewer): ends (u32, of each text in the block's bytes), then the
//!           bytes (UTF-8, without separators), then zeros up to a multiple of 8
//!           then the offset of each block in the file (u64), and that of these offsets
//! end       rows (u64)
//! ```

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, make_array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::object::{Body, HEADER, Kind, Object};
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("ids", b'I');
/// The rows of a block of texts.
const BLOCK: usize = 4096;
/// The types by their code.
const TYPES: [DataType; 9] = [
    DataType::Utf8,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::UInt8,
    DataType::UInt16,
    DataType::UInt32,
    DataType::UInt64,
];

/// Returns the type in which ids of the type `given` are stored and read: integers as they are, and `Utf8` for text in
/// any of its forms, dictionaries included; `None` if it cannot be the type of an id.
pub fn id_type(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Dictionary(_, values) => id_type(values),
        given => TYPES.contains(given).then(|| given.clone()),
    }
}

/// Writes ids in order of places.
#[derive(Debug)]
pub struct IdsWriter {
    body: Body,
    id_type: DataType,
    rows: u64,
    ends: Vec<u32>,
    texts: Vec<u8>,
    blocks: Vec<u64>,
}

impl IdsWriter {
    /// Begins the ids of the role `role` ([`super::role`]), which arrive as arrays of the type `given`.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if ids cannot be of this type ([`id_type`]).
    pub fn create(lock: &ModelLock<'_>, role: &str, given: &DataType) -> Result<Self> {
        let stored = id_type(given).ok_or_else(|| KIND.misfit(format!("ids are integers or text, not {given}")))?;
        let code = TYPES.iter().position(|known| *known == stored).unwrap_or(0) as u64;
        let body = Body::begin(lock, KIND, role, &[code])?;
        let (ends, texts, blocks) = (Vec::new(), Vec::new(), Vec::new());
        Ok(IdsWriter { body, id_type: stored, rows: 0, ends, texts, blocks })
    }

    /// Appends ids. Holds the texts of a block.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if the type is another, an id is null, or a block of texts is longer than 4 GiB.
    pub fn push(&mut self, ids: &ArrayRef) -> Result<()> {
        if id_type(ids.data_type()).as_ref() != Some(&self.id_type) {
            return Err(KIND.misfit(format!("ids of {} where {} were announced", ids.data_type(), self.id_type)));
        }
        if let Some(nulls) = ids.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
            let row = self.rows + (0..ids.len()).find(|&i| nulls.is_null(i)).unwrap_or(0) as u64;
            return Err(KIND.misfit(format!("the id of row {row} is null; give every row an id")));
        }
        let plain = cast(ids, &self.id_type).map_err(|e| KIND.misfit(e.to_string()))?;
        self.rows += plain.len() as u64;
        if self.id_type != DataType::Utf8 {
            let width = self.id_type.primitive_width().unwrap_or(1);
            let data = plain.to_data();
            let values = data.buffers().first().map(Buffer::as_slice).unwrap_or_default();
            let range = data.offset() * width..(data.offset() + data.len()) * width;
            return self.body.bytes(values.get(range).unwrap_or_default());
        }
        let texts = plain.as_string::<i32>();
        for i in 0..texts.len() {
            self.texts.extend(texts.value(i).as_bytes());
            let end = u32::try_from(self.texts.len()).map_err(|_| KIND.misfit("4,096 ids longer than 4 GiB"))?;
            self.ends.push(end);
            if self.ends.len() == BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.blocks.push(self.body.position());
        self.body.values(&self.ends)?;
        self.body.bytes(&self.texts)?;
        let padding = self.body.position().next_multiple_of(8) - self.body.position();
        self.body.bytes(&[0; 8][..padding as usize])?;
        self.ends.clear();
        self.texts.clear();
        Ok(())
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(mut self) -> Result<ObjectRef> {
        if self.id_type == DataType::Utf8 {
            if !self.ends.is_empty() {
                self.flush()?;
            }
            self.blocks.push(self.body.position());
            self.body.values(&self.blocks)?;
        }
        self.body.finish_rows(self.rows)
    }
}

pub(super) struct Ids {
    object: Object,
    pub(super) rows: u32,
    pub(super) id_type: DataType,
}

impl Ids {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        let Some(id_type) = usize::try_from(object.count(0)).ok().and_then(|code| TYPES.get(code)).cloned() else {
            return Err(object.damaged(format!("type of ids {}, which does not exist", object.count(0))));
        };
        if let Some(width) = id_type.primitive_width() {
            object.check_length(&[[rows.into(), width as u64], [1, 8]])?;
            return Ok(Ids { object, rows, id_type });
        }
        let ids = Ids { object, rows, id_type };
        let length = ids.object.file().bytes().len() as u64;
        let offsets = ids.offsets();
        let at = length.checked_sub((ids.blocks() as u64 + 2) * 8);
        let whole = offsets.first() == Some(&(HEADER as u64))
            && offsets.last().copied() == at
            && offsets.is_sorted()
            && offsets.iter().all(|offset| offset % 8 == 0);
        if !whole {
            return Err(ids.object.damaged("the offsets of its blocks are not in order"));
        }
        Ok(ids)
    }

    fn blocks(&self) -> usize {
        (self.rows as usize).div_ceil(BLOCK)
    }

    /// Returns the offset of each block and the end of the last one; empty if the file is too short for them.
    fn offsets(&self) -> &[u64] {
        let count = self.blocks() + 1;
        self.object.file().bytes().len().checked_sub((count + 1) * 8).map_or(&[], |at| self.object.values(at, count))
    }

    /// Returns the ids of rows, which must be in range.
    pub(super) fn read(&self, rows: Range<u32>) -> Result<ArrayRef> {
        let (first, count) = (rows.start as usize, rows.len());
        if let Some(width) = self.id_type.primitive_width() {
            let mut bytes = vec![0; count * width];
            self.object.file().read_at((HEADER + first * width) as u64, &mut bytes)?;
            let data = arrow::array::ArrayData::builder(self.id_type.clone())
                .len(count)
                .add_buffer(Buffer::from(bytes))
                .align_buffers(true)
                .build()
                .map_err(|e| self.object.damaged(e.to_string()))?;
            return Ok(make_array(data));
        }
        let (mut bytes, mut offsets) = (Vec::new(), vec![0i32]);
        let mut row = first;
        while row < first + count {
            let block = row / BLOCK;
            let end = ((block + 1) * BLOCK).min(first + count);
            self.append(block, row % BLOCK..end - block * BLOCK, &mut bytes, &mut offsets)?;
            row = end;
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let texts = StringArray::try_new(offsets, Buffer::from(bytes), None);
        Ok(Arc::new(texts.map_err(|e| self.object.damaged(format!("an id is not text: {e}")))?))
    }

    /// Appends the texts `range` of a block.
    fn append(&self, block: usize, range: Range<usize>, bytes: &mut Vec<u8>, offsets: &mut Vec<i32>) -> Result<()> {
        let in_block = BLOCK.min(self.rows as usize - block * BLOCK);
        let (Some(&start), Some(&stop)) = (self.offsets().get(block), self.offsets().get(block + 1)) else {
            return Err(self.object.damaged("a block is missing"));
        };
        let ends: &[u32] = self.object.values(start as usize, in_block);
        let texts_at = start as usize + in_block * 4;
        let texts = self.object.file().bytes().get(texts_at..stop as usize).unwrap_or_default();
        let mut from = if range.start == 0 { 0 } else { ends.get(range.start - 1).copied().unwrap_or(0) };
        for &end in ends.get(range).ok_or_else(|| self.object.damaged("a block is cut short"))? {
            let text = texts.get(from as usize..end as usize);
            bytes.extend(text.ok_or_else(|| self.object.damaged("the ends of its texts are not in order"))?);
            let total = i32::try_from(bytes.len());
            offsets.push(total.map_err(|_| KIND.misfit("ids longer than 2 GiB in one portion; read fewer rows"))?);
            from = end;
        }
        Ok(())
    }
}
