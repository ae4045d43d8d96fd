//! The vectors of a base: in list order, prepared for the metric, in the type of the source if it holds every number.

use lowland_engine::Progress;
use lowland_engine::index::InvertedLists;
use lowland_io::Dtype;

use crate::Result;
use crate::snapshot::{Element, VectorsWriter, role};
use crate::store::{ModelLock, ObjectRef};

/// Writes the vectors of all lists.
pub(super) fn write(
    lock: &ModelLock<'_>,
    lists: &InvertedLists,
    dtype: Dtype,
    progress: &Progress<'_>,
) -> Result<ObjectRef> {
    let count = lists.table.count();
    let mut element = narrow(dtype);
    for list in 0..count {
        if element == Element::F32 {
            break;
        }
        if !element.holds(lists.vectors(list)?) {
            element = Element::F32;
        }
        progress.check()?;
    }
    let mut writer = VectorsWriter::create(lock, role::VECTORS, element, lists.table.dim)?;
    for list in 0..count {
        writer.push(lists.vectors(list)?)?;
        progress.check()?;
    }
    writer.finish()
}

/// Returns the narrowest element that may hold numbers of a source's type.
pub(crate) fn narrow(dtype: Dtype) -> Element {
    match dtype {
        Dtype::U8 | Dtype::Bool | Dtype::Bits => Element::U8,
        Dtype::I8 => Element::I8,
        Dtype::F16 => Element::F16,
        _ => Element::F32,
    }
}
