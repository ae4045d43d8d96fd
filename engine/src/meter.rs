//! How much memory the process holds, sampled while a stage runs.
//!
//! Counted is anonymous memory: what was allocated. Pages of mapped files are
//! the system's to take back and are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(10);

/// A thread that looks every few milliseconds.
pub(crate) struct Meter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    peak: AtomicU64,
    stop: AtomicBool,
}

impl Meter {
    /// Starts looking.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        // Without the thread the peak is what it was when asked: less, not wrong.
        let thread = std::thread::Builder::new()
            .name("lowland-meter".into())
            .stack_size(128 << 10)
            .spawn(move || {
                while !theirs.stop.load(Ordering::Relaxed) {
                    theirs.peak.fetch_max(anonymous(), Ordering::Relaxed);
                    std::thread::park_timeout(EVERY);
                }
            })
            .ok();
        Meter { shared, thread }
    }

    /// The most since the last call, or the start.
    pub(crate) fn take_peak(&self) -> u64 {
        let now = anonymous();
        self.shared.peak.swap(now, Ordering::Relaxed).max(now)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Anonymous resident memory now, in bytes; 0 where the system does not tell.
pub(crate) fn anonymous() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
