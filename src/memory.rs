//! What the process asks of its allocator, so that memory a stage is done with
//! goes back to the system and the budget is a bound on what it really holds.
//!
//! glibc keeps freed memory for later by default, and raises the size above
//! which it would not each time such a block is freed: a cache of many middling
//! blocks then stays resident long after it is gone. These are settings of the
//! whole process, which is why they are here and not in the engine.

/// Sets the allocator; once, before any thread is started.
pub(crate) fn prepare() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 128 << 10;
        // SAFETY: mallopt takes two numbers and is called before other threads exist.
        #[expect(unsafe_code, reason = "the allocator's only interface")]
        unsafe {
            // Fixed, so that it is never raised: blocks above it are given back when freed.
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 8 * LARGE);
            // By default eight arenas a core, each with memory of its own.
            libc::mallopt(libc::M_ARENA_MAX, 4);
        }
    }
}

/// Gives back what is free; worth it between stages.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes no pointer and may be called at any time.
        #[expect(unsafe_code, reason = "the allocator's only interface")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
