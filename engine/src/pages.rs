//! Long vectors in large pages: those that are read here and there, where a
//! page of 4 KiB is a miss in the processor's table of pages each time.

/// Bytes from which it is worth asking.
const LARGE: usize = 4 << 20;

/// `count` times `value`, in large pages where the system grants them on request.
pub(crate) fn filled<T: Copy>(count: usize, value: T) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    ask(values.spare_capacity_mut());
    values.resize(count, value);
    values
}

/// Asks for large pages for memory that nobody has touched yet.
fn ask<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let bytes = size_of_val(memory);
        if bytes < LARGE {
            return;
        }
        let start = memory.as_mut_ptr().addr().next_multiple_of(PAGE) - memory.as_mut_ptr().addr();
        // SAFETY: whole pages within what was allocated; the advice changes no byte, and may be refused.
        #[expect(unsafe_code, reason = "a system call that the standard library lacks")]
        unsafe {
            libc::madvise(
                memory.as_mut_ptr().byte_add(start).cast(),
                (bytes - start) / PAGE * PAGE,
                libc::MADV_HUGEPAGE,
            );
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_is_there() {
        for count in [0, 1, 1000, LARGE / 4 + 1, 3 * LARGE] {
            let values = filled(count, 7u32);
            assert!(values.len() == count && values.iter().all(|&value| value == 7));
        }
    }
}
