//! How large a model will be, before the run whose files it is made of.

use lowland_engine::Plan;
use lowland_io::Dtype;

use super::vectors::narrow;
use crate::snapshot::Element;

/// Bytes of a row's key and hash with its place: as an object, and while they are sorted.
const KEY_BYTES: u64 = 28 + 32;

/// Returns the approximate bytes that the base of a model takes while it is written from a run of `plan` over rows of the
/// type `dtype`: vectors, graph, lists, keys, probe rows. Without positions, ids and kept columns, which a file of the map has too.
pub fn base_bytes(plan: &Plan, dtype: Dtype) -> u64 {
    let shape = plan.shape();
    // Rows of length 1 are no longer numbers of the source's type.
    let element = if plan.settings().metric.has_unit_rows() { Element::F32 } else { narrow(dtype) };
    let row = (shape.dim * element.bytes()) as u64 + 8 * plan.k() as u64 + KEY_BYTES;
    let lists = plan.index().lists as u64 * (4 * shape.dim as u64 + 4);
    let sample = plan.sample_rows() as u64 * (8 + 8 * plan.k() as u64);
    shape.rows.saturating_mul(row).saturating_add(lists + sample)
}
