//! Measures the memory that the process holds, by sampling while a stage runs.
//!
//! Only anonymous memory is counted, which is what was allocated. Pages of mapped files are not counted,
//! because the operating system can take them back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);

/// A thread that samples the memory every 10 ms.
pub(crate) struct MemoryMeter {
    shared: Arc<MeterState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct MeterState {
    peak: AtomicU64,
    stop: AtomicBool,
}

impl MemoryMeter {
    /// Starts sampling.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(MeterState::default());
        let theirs = shared.clone();
        // Without the thread, the peak is the memory at the calls of `take_peak`: a lower bound.
        let thread = std::thread::Builder::new()
            .name("lowland-meter".into())
            .stack_size(128 << 10)
            .spawn(move || {
                while !theirs.stop.load(Ordering::Relaxed) {
                    theirs.peak.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                    std::thread::park_timeout(SAMPLE_INTERVAL);
                }
            })
            .ok();
        MemoryMeter { shared, thread }
    }

    /// Returns the most memory since the last call, or since the start.
    pub(crate) fn take_peak(&self) -> u64 {
        let now = anonymous_bytes();
        self.shared.peak.swap(now, Ordering::Relaxed).max(now)
    }
}

impl Drop for MemoryMeter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Returns the resident anonymous memory in bytes; 0 where the operating system does not report it.
pub(crate) fn anonymous_bytes() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
