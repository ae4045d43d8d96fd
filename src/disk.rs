//! Measures the speed of a disk with an unnamed temporary file.
//!
//! What must hold: no file remains, whatever happens; the measurement takes at most some tenths of
//! a second; if a measurement is not possible, there is no result.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use lowland_engine::estimate::DiskRates;

const PORTION: usize = 4 << 20;
const PORTIONS: usize = 8;
/// After this time, writing or reading ends with the current portion.
const MAX_TIME: Duration = Duration::from_millis(250);
/// The least free space for a measurement.
const MIN_FREE_BYTES: u64 = 256 << 20;

/// Measures the disk of `directory`, which has `free` free bytes. The operating system can cache
/// `kept` bytes of files in memory.
pub(crate) fn rates(directory: &Path, free: u64, kept: u64) -> Option<DiskRates> {
    if free < MIN_FREE_BYTES {
        return None;
    }
    let path = directory.join(format!(".lowland-{}.tmp", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).ok()?;
    // A file without a name is removed with its handle, even if the process is killed.
    let unnamed = std::fs::remove_file(&path).is_ok();
    let rates = measure(&mut file);
    if !unnamed {
        drop(file);
        let _ = std::fs::remove_file(&path);
    }
    let (write, read) = rates.ok()?;
    Some(DiskRates { read, write, kept })
}

/// Returns bytes per second of writing and of reading.
fn measure(file: &mut File) -> std::io::Result<(f64, f64)> {
    // Pseudo-random bytes, because some file systems compress.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut portion = vec![0u8; PORTION];
    for word in portion.as_chunks_mut::<8>().0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.to_le_bytes();
    }
    let rate = |portions: usize, began: Instant| {
        (portions * PORTION) as f64 / began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
    };
    let (began, mut written) = (Instant::now(), 0);
    while written < PORTIONS && began.elapsed() < MAX_TIME {
        file.write_all(&portion)?;
        written += 1;
        if written % 2 == 0 {
            // Synced, so that writing to the page cache is not measured.
            file.sync_data()?;
        }
    }
    file.sync_data()?;
    let write = rate(written, began);
    forget(file);
    file.rewind()?;
    let (began, mut read) = (Instant::now(), 0);
    while read < written && began.elapsed() < MAX_TIME {
        file.read_exact(&mut portion)?;
        read += 1;
    }
    Ok((write, rate(read, began)))
}

/// Asks the operating system to drop the file from the page cache, so that reading measures the
/// disk.
#[cfg(target_os = "linux")]
fn forget(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open, and the call takes no pointer. It is advice: no answer is needed.
    #[expect(unsafe_code, reason = "the standard library cannot ask it")]
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
    }
}

/// Without this call the page cache is read, so the result is too high. Few runs use such systems.
#[cfg(not(target_os = "linux"))]
fn forget(_: &File) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_rate_leaves_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let found = rates(dir.path(), u64::MAX, 5).expect("rates");
        assert!(found.read > 0.0 && found.write > 0.0 && found.kept == 5, "{found:?}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0);
        assert_eq!(rates(dir.path(), 1 << 20, 5), None);
        assert_eq!(rates(&dir.path().join("no"), u64::MAX, 5), None);
    }
}
