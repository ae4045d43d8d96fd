//! The kind `vectors`: the prepared vectors of rows, in order of their places.
//!
//! ```text
//! header   "LLMV" 1; dim, element (0: u8, 1: i8, 2: f16, 3: f32)
//! body     rows × dim elements
//! end      rows (u64)
//! ```

use std::ops::Range;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::object::{Body, HEADER, Kind, Object};
use super::quantizer::MOST_COMPONENTS;
use crate::Result;
use crate::store::{ModelLock, ObjectRef};

const KIND: Kind = Kind::new("vectors", b'V');
/// Components that are encoded or decoded at a time.
const CHUNK: usize = 1 << 14;

/// The type in which components are stored. Every stored component is read as the f32 that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Unsigned bytes.
    U8,
    /// Signed bytes.
    I8,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

impl Element {
    const ALL: [Element; 4] = [Element::U8, Element::I8, Element::F16, Element::F32];

    /// Returns the bytes of a component.
    pub fn bytes(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::F16 => 2,
            Element::F32 => 4,
        }
    }

    /// Returns whether every value is the same, bit by bit, after it was stored.
    pub fn holds(self, values: &[f32]) -> bool {
        match self {
            Element::U8 => values.iter().all(|&value| f32::from(value as u8).to_bits() == value.to_bits()),
            Element::I8 => values.iter().all(|&value| f32::from(value as i8).to_bits() == value.to_bits()),
            Element::F16 => values.iter().all(|&value| f16::from_f32(value).to_f32().to_bits() == value.to_bits()),
            Element::F32 => true,
        }
    }

    /// Appends the stored form of values that the element holds.
    fn encode(self, values: &[f32], to: &mut Vec<u8>) {
        match self {
            Element::U8 => to.extend(values.iter().map(|&value| value as u8)),
            Element::I8 => to.extend(values.iter().map(|&value| value as i8 as u8)),
            Element::F16 => to.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
            Element::F32 => to.extend(values.iter().flat_map(|&value| value.to_le_bytes())),
        }
    }

    /// Decodes as many components as `to` has from the stored form.
    fn decode(self, from: &[u8], to: &mut [f32]) {
        match self {
            Element::U8 => to.iter_mut().zip(from).for_each(|(to, &byte)| *to = byte.into()),
            Element::I8 => to.iter_mut().zip(from).for_each(|(to, &byte)| *to = (byte as i8).into()),
            Element::F16 => match bytemuck::try_cast_slice::<u8, u16>(from) {
                Ok(halves) if halves.len() == to.len() => {
                    use half::slice::HalfBitsSliceExt;
                    halves.reinterpret_cast::<f16>().convert_to_f32_slice(to);
                }
                _ => to.iter_mut().zip(from.chunks_exact(2)).for_each(|(to, pair)| {
                    *to = f16::from_le_bytes([pair[0], pair[1]]).to_f32();
                }),
            },
            Element::F32 => to.iter_mut().zip(from.chunks_exact(4)).for_each(|(to, word)| {
                *to = f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            }),
        }
    }
}

/// Writes prepared vectors in order of their places.
#[derive(Debug)]
pub struct VectorsWriter {
    body: Body,
    element: Element,
    dim: usize,
    rows: u64,
    buffer: Vec<u8>,
}

impl VectorsWriter {
    /// Begins the vectors of the role `role` ([`super::role`]).
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if `dim` is 0; [`crate::Error::Io`] if the object cannot be begun.
    pub fn create(lock: &ModelLock<'_>, role: &str, element: Element, dim: usize) -> Result<Self> {
        if dim == 0 {
            return Err(KIND.misfit("vectors of no components"));
        }
        let body = Body::begin(lock, KIND, role, &[dim as u64, element as u64])?;
        Ok(VectorsWriter { body, element, dim, rows: 0, buffer: Vec::with_capacity(CHUNK * 4) })
    }

    /// Appends rows: rows × dim values.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] if the values are not whole rows, or one would change when stored.
    pub fn push(&mut self, rows: &[f32]) -> Result<()> {
        if !rows.len().is_multiple_of(self.dim) {
            return Err(KIND.misfit(format!("{} values are not rows of {} components", rows.len(), self.dim)));
        }
        for chunk in rows.chunks(CHUNK) {
            if !self.element.holds(chunk) {
                return Err(KIND.misfit(format!("a component is not a value of the element type {:?}", self.element)));
            }
            self.buffer.clear();
            self.element.encode(chunk, &mut self.buffer);
            self.body.bytes(&self.buffer)?;
        }
        self.rows += (rows.len() / self.dim) as u64;
        Ok(())
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn finish(self) -> Result<ObjectRef> {
        self.body.finish_rows(self.rows)
    }
}

pub(super) struct Vectors {
    object: Object,
    element: Element,
    pub(super) rows: u32,
    pub(super) dim: usize,
}

impl Vectors {
    pub(super) fn open(path: &Path, named: &ObjectRef) -> Result<Self> {
        let object = Object::open(path, named, KIND)?;
        let rows = object.last_rows()?;
        let dim = object.bounded(0, "components", MOST_COMPONENTS)?;
        let Some(&element) = usize::try_from(object.count(1)).ok().and_then(|code| Element::ALL.get(code)) else {
            return Err(object.damaged(format!("element type {}, which does not exist", object.count(1))));
        };
        object.check_length(&[[u64::from(rows) * dim as u64, element.bytes() as u64], [1, 8]])?;
        // Through the map go single rows in any order; the operating system must not read megabytes ahead of each.
        object.file().expect_random();
        Ok(Vectors { object, element, rows, dim })
    }

    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// Reads rows in order, not through the map.
    pub(super) fn read(&self, rows: Range<u32>, to: &mut [f32]) -> Result<()> {
        let bytes = self.element.bytes();
        let first = HEADER + rows.start as usize * self.dim * bytes;
        if self.element == Element::F32 {
            return Ok(self.object.file().read_floats(first, to)?);
        }
        // u16, so that halves are aligned.
        let mut buffer = vec![0u16; CHUNK.min(to.len()) * bytes / 2 + 1];
        for (i, part) in to.chunks_mut(CHUNK).enumerate() {
            let stored = &mut bytemuck::cast_slice_mut::<u16, u8>(&mut buffer)[..part.len() * bytes];
            self.object.file().read_at((first + i * CHUNK * bytes) as u64, stored)?;
            self.element.decode(stored, part);
        }
        Ok(())
    }

    /// Reads a row through the map, in any order.
    pub(super) fn read_mapped(&self, row: u32, to: &mut [f32]) {
        let length = self.dim * self.element.bytes();
        self.element.decode(self.object.values(HEADER + row as usize * length, length), to);
    }
}
