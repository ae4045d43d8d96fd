//! Memory by its pages. Long vectors in large ones: those that are read here and
//! there, where a page of 4 KiB is a miss in the processor's table each time. And
//! words in pages that hold nothing else, which a driver can lock where they are.

/// Bytes from which it is worth asking.
const LARGE: usize = 4 << 20;
/// Bytes of a page, as nearly everywhere.
const PAGE: usize = 4096;

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

/// Words in whole pages of their own.
#[derive(Default)]
pub(crate) struct Words {
    memory: Vec<u32>,
    begin: usize,
    length: usize,
}

/// Bytes that [`Words`] may hold beside its words.
pub(crate) const AROUND: u64 = 2 * PAGE as u64;

impl Words {
    /// Makes it so many; what they are is not said. Memory that is large enough is used again.
    pub(crate) fn resize(&mut self, length: usize) {
        const WORDS: usize = PAGE / 4;
        let room = length.next_multiple_of(WORDS) + WORDS - 1;
        if self.memory.len() < room {
            // First the old goes.
            self.memory = Vec::new();
            self.memory = vec![0; room];
            let address = self.memory.as_ptr().addr();
            self.begin = (address.next_multiple_of(PAGE) - address) / 4;
        }
        self.length = length;
    }

    /// The pages, whole.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn pages(&self) -> &[u32] {
        &self.memory[self.begin..][..self.length.next_multiple_of(PAGE / 4)]
    }
}

impl std::ops::Deref for Words {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        &self.memory[self.begin..][..self.length]
    }
}

impl std::ops::DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.memory[self.begin..][..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_pages_to_themselves() {
        let mut words = Words::default();
        assert!(words.is_empty() && words.pages().is_empty());
        for length in [5, 1024, 1025, 0, 3000, 7] {
            words.resize(length);
            words.fill(9);
            let pages = words.pages();
            assert_eq!((words.len(), pages.len() % 1024, pages.as_ptr().addr() % PAGE), (length, 0, 0));
            assert!(pages.len() >= length && pages.len() < length + 1024);
            let held = words.memory.len() * 4;
            assert!(held as u64 <= 3000u64.next_multiple_of(1024) * 4 + AROUND);
        }
    }

    #[test]
    fn what_is_filled_is_there() {
        for count in [0, 1, 1000, LARGE / 4 + 1, 3 * LARGE] {
            let values = filled(count, 7u32);
            assert!(values.len() == count && values.iter().all(|&value| value == 7));
        }
    }
}
