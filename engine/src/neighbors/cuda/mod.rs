//! The kNN join on an NVIDIA GPU (`crate::cuda`). All vectors are held in GPU memory. Rows are sent in
//! slices, with their current heaps and the segments that they visit.
//!
//! Invariant: distances are summed as on the CPU, and each row keeps the smallest keys of all rows that
//! it was compared with, so that the graph has the same bytes as on the CPU.

#[cfg(feature = "cuda")]
mod gpu_join;
#[cfg(not(feature = "cuda"))]
mod none;

#[cfg(feature = "cuda")]
pub(super) use gpu_join::GpuJoin;
#[cfg(not(feature = "cuda"))]
pub(super) use none::GpuJoin;

use super::segments::SegmentTable;
use super::top_k::TopK;
use crate::Device;
use crate::plan::Plan;

/// The largest number of rows, and of visits, that are sent together.
const MAX_SLICE_ROWS: usize = 1 << 15;
const MAX_SLICE_VISITS: usize = 1 << 20;
/// Number of bytes of vectors that are read and sent together (one vector if that is longer).
const UPLOAD_BYTES: usize = 4 << 20;
/// The largest number of bytes of shared memory of a thread block.
const SHARED_MEMORY_BYTES: usize = 48 << 10;
/// Number of threads that process a row (a squad).
#[cfg(feature = "cuda")]
const THREADS_PER_ROW: usize = 32;
/// The largest number of rows of a thread block.
const MAX_ROWS_PER_BLOCK: usize = 8;

/// Arguments of the kernel, with the layout of the struct `Join` in `join.cu`.
#[cfg(any(test, feature = "cuda"))]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct JoinArguments {
    first: u32,
    count: u32,
    dim: u32,
    keep: u32,
    /// The key of [`TieBreaker`](super::tie_breaker::TieBreaker).
    ties: u32,
}

/// Returns the bytes of shared memory for one row.
fn row_shared_bytes(dim: usize, k: usize) -> usize {
    k * 8 + dim.div_ceil(2) * 8
}

/// Returns the number of rows per thread block; 0 where a row needs more shared memory than there is.
fn rows_per_block(dim: usize, k: usize) -> usize {
    (SHARED_MEMORY_BYTES / row_shared_bytes(dim, k)).min(MAX_ROWS_PER_BLOCK)
}

/// Returns the bytes of GPU memory that the join takes; `u64::MAX` where a row needs more shared memory
/// than there is.
pub(crate) fn device_bytes(plan: &Plan) -> u64 {
    let (rows, dim, k) = (plan.shape.rows, plan.shape.dim, plan.k());
    if rows_per_block(dim, k) == 0 {
        return u64::MAX;
    }
    rows * dim as u64 * 4 + SegmentTable::max_segments(plan) as u64 * 4 + slice_bytes(k)
}

/// Returns the bytes of the rows that are sent together.
fn slice_bytes(k: usize) -> u64 {
    (MAX_SLICE_ROWS * 4 + MAX_SLICE_VISITS * 4) as u64 + TopK::bytes(MAX_SLICE_ROWS, k)
}

/// Returns the host bytes that the join on a GPU holds, in addition to the join on the CPU.
pub(super) fn host_bytes(plan: &Plan) -> u64 {
    if !cfg!(feature = "cuda") || plan.settings.device == Device::Cpu || plan.index.exact {
        return 0;
    }
    slice_bytes(plan.k()) + UPLOAD_BYTES.max(plan.shape.dim * 4) as u64 + SegmentTable::max_segments(plan) as u64 * 4
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;

    use super::super::tie_breaker::TieBreaker;
    use super::*;
    use crate::distances::squared_distance;
    use crate::random::{draw, unit};

    type JoinKernelPointer =
        unsafe extern "C" fn(*const f32, *const u32, *const u32, *const u32, *mut u64, *const JoinArguments);

    /// Compares the kernel's result for rows with known neighbours and some visits with the expected one.
    #[expect(unsafe_code, reason = "FFI: a library of our own")]
    fn check(dim: usize, keep: usize) {
        // SAFETY: the kernel of this name has this signature.
        let join =
            unsafe { std::mem::transmute::<*mut c_void, JoinKernelPointer>(crate::cuda::shim::kernel_symbol("join")) };
        let rows = 400usize;
        let mut vectors: Vec<f32> = (0..rows * dim).map(|i| unit(1, dim as u64, i as u64) * 8.0 - 4.0).collect();
        // Some copies, so that equal distances are ordered by rank.
        vectors.copy_within(0..3 * dim, 200 * dim);
        let starts: Vec<u32> = vec![0, 1, 18, 18, 130, 131, 300, 400];
        let (first, count) = (37u32, 90usize);
        let visited = |place: usize| {
            (0..7u32).filter(move |&segment| !draw(5, place as u64, u64::from(segment)).is_multiple_of(3))
        };
        let (mut ends, mut visits, mut tops) = (Vec::new(), Vec::new(), TopK::new(count, keep));
        let ties = TieBreaker::new(9);
        let squared = |a: usize, b: usize| squared_distance(&vectors[a * dim..][..dim], &vectors[b * dim..][..dim]);
        let mut expected = TopK::new(count, keep);
        for place in 0..count {
            let own = first as usize + place;
            // Known neighbours from a segment that the row does not visit now.
            if visited(place).all(|segment| segment != 1) {
                for row in 1..9 {
                    let key = (squared(own, row), ties.rank(own as u32, row as u32));
                    tops.offer(place, key.0, key.1);
                    expected.offer(place, key.0, key.1);
                }
            }
            for segment in visited(place) {
                visits.push(segment);
                for row in starts[segment as usize] as usize..starts[segment as usize + 1] as usize {
                    if row != own {
                        expected.offer(place, squared(own, row), ties.rank(own as u32, row as u32));
                    }
                }
            }
            ends.push(visits.len() as u32);
        }
        let of = JoinArguments { first, count: count as u32, dim: dim as u32, keep: keep as u32, ties: ties.key() };
        // SAFETY: all arrays are as long as the arguments, ends and starts say.
        unsafe {
            join(
                vectors.as_ptr(),
                starts.as_ptr(),
                ends.as_ptr(),
                visits.as_ptr(),
                tops.keys_mut(0..count).as_mut_ptr(),
                &of,
            );
        }
        tops.sort();
        expected.sort();
        assert_eq!(tops.keys_mut(0..count), expected.keys_mut(0..count), "{dim} components, {keep} kept");
    }

    #[test]
    fn gpu_join_equals_cpu() {
        for (dim, keep) in [(1, 3), (2, 1), (15, 15), (16, 15), (17, 4), (100, 15), (128, 32), (385, 90)] {
            check(dim, keep);
        }
    }

    #[test]
    fn gpu_block_fits_its_rows() {
        assert_eq!(
            (rows_per_block(128, 15), rows_per_block(1 << 11, 15), rows_per_block(1 << 14, 15)),
            (MAX_ROWS_PER_BLOCK, 5, 0)
        );
        for (dim, k) in [(1, 1), (384, 15), (4096, 500)] {
            assert!(rows_per_block(dim, k) * row_shared_bytes(dim, k) <= SHARED_MEMORY_BYTES);
        }
    }
}
