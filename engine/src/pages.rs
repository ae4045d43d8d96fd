//! Memory in whole pages, for two purposes. Long vectors that are read at random are placed in large pages,
//! because with pages of 4 KiB each read misses the processor's TLB. Arrays of words are placed in pages that
//! hold nothing else, which a GPU driver can page-lock in place.

/// The smallest number of bytes for which large pages are requested.
const LARGE: usize = 4 << 20;
/// Bytes of a page on nearly all systems.
const PAGE: usize = 4096;

/// Returns a vector of `count` times `value`, in large pages if the operating system grants them.
pub(crate) fn filled<T: Copy>(count: usize, value: T) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    request_large_pages(values.spare_capacity_mut());
    values.resize(count, value);
    values
}

/// Requests large pages for memory that was not written yet.
fn request_large_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        let bytes = size_of_val(memory);
        if bytes < LARGE {
            return;
        }
        let start = memory.as_mut_ptr().addr().next_multiple_of(PAGE) - memory.as_mut_ptr().addr();
        // SAFETY: whole pages within the allocation; the advice changes no byte and may be refused.
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

/// An array of words in whole pages that hold nothing else.
#[derive(Default)]
pub(crate) struct PageWords {
    memory: Vec<u32>,
    begin: usize,
    length: usize,
}

/// Bytes that [`PageWords`] may take in addition to its words.
pub(crate) const PAGE_WORDS_OVERHEAD: u64 = 2 * PAGE as u64;

impl PageWords {
    /// Sets the number of words; their values are unspecified. The memory is reused if it is large enough.
    pub(crate) fn resize(&mut self, length: usize) {
        const WORDS: usize = PAGE / 4;
        let room = length.next_multiple_of(WORDS) + WORDS - 1;
        if self.memory.len() < room {
            // Frees the old memory before the new memory is allocated.
            self.memory = Vec::new();
            self.memory = vec![0; room];
            let address = self.memory.as_ptr().addr();
            self.begin = (address.next_multiple_of(PAGE) - address) / 4;
        }
        self.length = length;
    }

    /// Returns the words together with the rest of their last page.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn pages(&self) -> &[u32] {
        &self.memory[self.begin..][..self.length.next_multiple_of(PAGE / 4)]
    }
}

impl std::ops::Deref for PageWords {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        &self.memory[self.begin..][..self.length]
    }
}

impl std::ops::DerefMut for PageWords {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.memory[self.begin..][..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_words_share_no_page() {
        let mut words = PageWords::default();
        assert!(words.is_empty() && words.pages().is_empty());
        for length in [5, 1024, 1025, 0, 3000, 7] {
            words.resize(length);
            words.fill(9);
            let pages = words.pages();
            assert_eq!((words.len(), pages.len() % 1024, pages.as_ptr().addr() % PAGE), (length, 0, 0));
            assert!(pages.len() >= length && pages.len() < length + 1024);
            let held = words.memory.len() * 4;
            assert!(held as u64 <= 3000u64.next_multiple_of(1024) * 4 + PAGE_WORDS_OVERHEAD);
        }
    }

    #[test]
    fn filled_vector_has_its_value() {
        for count in [0, 1, 1000, LARGE / 4 + 1, 3 * LARGE] {
            let values = filled(count, 7u32);
            assert!(values.len() == count && values.iter().all(|&value| value == 7));
        }
    }
}
