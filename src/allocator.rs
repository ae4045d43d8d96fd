//! Settings of the allocator, so that memory freed by a stage returns to the operating system and
//! the budget bounds the memory that the process really holds.
//!
//! By default, glibc keeps freed memory, and raises the size above which blocks are returned each
//! time such a block is freed: a cache of many medium blocks then stays resident long after it was
//! freed. The settings are for the whole process, and therefore not in the engine.
//!
//! A program whose memory should stay within the budget, as that of the command line:
//!
//! ```standalone_crate
//! use std::ops::ControlFlow;
//!
//! use lowland::{Event, Observer, allocator};
//!
//! struct Trim;
//!
//! impl Observer for Trim {
//!     fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
//!         if matches!(event, Event::End { .. }) {
//!             allocator::trim();
//!         }
//!         ControlFlow::Continue(())
//!     }
//! }
//!
//! allocator::prepare(); // at the beginning of main
//! # let rows: Vec<f32> = (0..500 * 4).map(|i| ((i * 37 % 101) as f32).sin()).collect();
//! let map = lowland::embed((rows, 4)).memory("600MiB").run_watched(&Trim)?;
//! # assert_eq!(map.rows(), 500);
//! # Ok::<(), lowland::Error>(())
//! ```

/// Configures the allocator. Must be called once, before any thread starts.
pub fn prepare() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 128 << 10;
        // SAFETY: mallopt takes two numbers and is called before other threads exist.
        #[expect(unsafe_code, reason = "the allocator's only interface")]
        unsafe {
            // A fixed threshold is never raised: larger blocks are returned when freed.
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 8 * LARGE);
            // The default is eight arenas for each core, each with memory of its own.
            libc::mallopt(libc::M_ARENA_MAX, 4);
        }
    }
}

/// Returns free memory to the operating system. Called between stages.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: takes no pointer and may be called at any time.
        #[expect(unsafe_code, reason = "the allocator's only interface")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
