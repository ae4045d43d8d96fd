//! Columns of integers of 128 bits, as Polars writes them. Arrow has no type for them, so they are not
//! read; but they do not keep the other columns of a file from being read.
//!
//! In the schema of a file such a column becomes binary of 16 bytes, which is stored alike, and it is
//! marked. What must hold: no value of a marked column is read ([`check`]).

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use arrow::ipc::{self, Type};

use crate::arrow_message::{self, Checked};
use crate::{Error, Result};

/// The metadata key of a marked column.
const MARK: &str = "lowland:integers-of-128-bits";

const BITS: i32 = 128;

/// Returns the schema in a flatbuffer, and whether columns are marked in it. `root` finds the schema.
pub(crate) fn schema(buffer: &[u8], root: fn(&[u8]) -> Option<ipc::Schema<'_>>) -> Checked<(Schema, bool)> {
    const NONE: &str = "its schema cannot be found";
    let found = root(buffer).ok_or(NONE)?;
    let mut changed = buffer.to_vec();
    let marked: Vec<bool> =
        found.fields().into_iter().flatten().map(|field| narrow(field, &mut changed).unwrap_or(false)).collect();
    if !marked.contains(&true) {
        return Ok((arrow_message::schema(found)?, false));
    }
    let schema = arrow_message::schema(root(&changed).ok_or(NONE)?)?;
    let mark = |(field, &marked): (&FieldRef, &bool)| {
        let mut field = field.as_ref().clone();
        if marked {
            let mut metadata = field.metadata().clone();
            metadata.insert(MARK.into(), String::new());
            field.set_metadata(metadata);
        }
        Arc::new(field)
    };
    let fields: Vec<FieldRef> = schema.fields().iter().zip(&marked).map(mark).collect();
    Ok((Schema::new_with_metadata(fields, schema.metadata), true))
}

/// Changes integers of 128 bits to binary of 16 bytes in a field and its children, in a copy of the
/// field's buffer. Returns whether there were any; `None` if a position is outside of the buffer.
fn narrow(field: ipc::Field<'_>, changed: &mut [u8]) -> Option<bool> {
    let mut any = false;
    for child in field.children().into_iter().flatten() {
        any |= narrow(child, changed)?;
    }
    if let Some(int) = field.type_as_int().filter(|int| int.bitWidth() == BITS) {
        let kind = field._tab.loc() + usize::from(field._tab.vtable().get(ipc::Field::VT_TYPE_TYPE));
        let width = int._tab.loc() + usize::from(int._tab.vtable().get(ipc::Int::VT_BITWIDTH));
        // Both tables have their number in the same place: the bits of an integer, the bytes of binary.
        const { assert!(ipc::Int::VT_BITWIDTH == ipc::FixedSizeBinary::VT_BYTEWIDTH) };
        *changed.get_mut(kind)? = Type::FixedSizeBinary.0;
        changed.get_mut(width..width + 4)?.copy_from_slice(&(BITS / 8).to_le_bytes());
        any = true;
    }
    Some(any)
}

/// Refuses column `index` of `schema` if it is marked.
///
/// # Errors
/// [`Error::Format`] names the column and the way out.
pub(crate) fn check(path: &Path, schema: &Schema, index: usize) -> Result<()> {
    let field = schema.field(index);
    if !field.metadata().contains_key(MARK) {
        return Ok(());
    }
    let what = format!(
        "column \"{}\" has integers of 128 bits, which cannot be read; cast it to Int64 or to text first",
        field.name()
    );
    Err(Error::format(path, what))
}
