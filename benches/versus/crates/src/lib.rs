//! What the Rust peers share: a stopwatch, and how a result is handed back.

use std::path::{Path, PathBuf};
use std::time::Instant;

/// Wall and CPU time of this process since the call under measurement began.
pub struct Stopwatch {
    wall: Instant,
    cpu: f64,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_seconds() }
    }

    /// Prints the line that the driver reads: the last one that a peer prints.
    pub fn print(&self) {
        let (wall, cpu) = (self.wall.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        println!(r#"{{"wall": {wall}, "cpu": {cpu}}}"#);
    }
}

fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the pointer is to a rusage, which a call that succeeds has filled.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The work directory, the map to write, and what follows them.
pub fn arguments() -> (PathBuf, PathBuf, Vec<String>) {
    let mut rest = std::env::args().skip(1);
    let mut path = || PathBuf::from(rest.next().expect("arguments: WORK MAP.npy"));
    let (work, map) = (path(), path());
    (work, map, rest.collect())
}

/// An array of the work directory.
pub fn read<A, D>(work: &Path, name: &str) -> ndarray::Array<A, D>
where
    A: ndarray_npy::ReadableElement,
    D: ndarray::Dimension,
{
    let path = work.join(name);
    ndarray_npy::read_npy(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
