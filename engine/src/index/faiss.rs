//! The FFI to FAISS: k-means, the index file, and the search that tests use as a reference. All unsafe
//! code for FAISS is in this file.
//!
//! Invariants: FAISS runs on one thread per call, since calls run on several threads in parallel; a build
//! of FAISS without SIMD is refused at the start.
//!
//! Two centroids of four rows:
//!
//! ```
//! use lowland_engine::index::faiss::kmeans;
//!
//! let rows = [0.0, 1.0, 9.0, 10.0]; // 4 × 1
//! let mut centroids = kmeans(&rows, 1, 2, 10, 7)?; // 2 clusters, 10 iterations, seed 7
//! centroids.sort_by(f32::total_cmp);
//! assert_eq!(centroids, [0.5, 9.5]);
//! # Ok::<(), lowland_engine::Error>(())
//! ```

use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use crate::{Error, Result};

// The shim needs FAISS linked in, which naming the crate ensures.
use faiss_sys as _;

const MESSAGE_BYTES: usize = 512;
/// The C library's text with which a FAISS message ends where the disk is full.
const DISK_FULL: &str = "No space left on device";

#[expect(unsafe_code, reason = "FFI to the FAISS shim")]
unsafe extern "C" {
    fn lowland_faiss_start(out: *mut c_char, room: usize, why: *mut c_char) -> c_int;
    fn lowland_kmeans(
        d: usize,
        n: usize,
        k: usize,
        iterations: c_int,
        seed: c_int,
        rows: *const f32,
        centroids: *mut f32,
        why: *mut c_char,
    ) -> c_int;
    fn lowland_write_ivf(
        path: *const c_char,
        lists_path: *const c_char,
        d: usize,
        nlist: usize,
        centroids: *const f32,
        sizes: *const usize,
        nprobe: usize,
        why: *mut c_char,
    ) -> c_int;
    fn lowland_search(
        path: *const c_char,
        n: usize,
        k: usize,
        probes: usize,
        queries: *const f32,
        distances: *mut f32,
        ids: *mut i64,
        why: *mut c_char,
    ) -> c_int;
}

/// Turns a status and message of the shim into a result.
fn check_status(doing: &'static str, status: c_int, why: &[u8; MESSAGE_BYTES]) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let end = why.iter().position(|&b| b == 0).unwrap_or(MESSAGE_BYTES);
    Err(Error::Faiss { doing, why: String::from_utf8_lossy(&why[..end]).into_owned() })
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Faiss { doing: "name a file", why: format!("{} has a NUL byte", path.display()) })
}

/// Initialises FAISS and returns its compile options, such as "OPTIMIZE AVX2 …".
///
/// The first call also turns off BLAS threads.
///
/// # Errors
/// [`Error::Faiss`] if the processor lacks AVX2 or FMA, or if FAISS was built without SIMD.
pub fn initialize() -> Result<&'static str> {
    static OPTIONS: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let options = OPTIONS.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if !(std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")) {
            return Err("this processor lacks AVX2 and FMA, which this build needs".into());
        }
        let (mut out, mut why) = ([0u8; 256], [0u8; MESSAGE_BYTES]);
        // SAFETY: both buffers outlive the call; the shim is given the size of `out` and assumes that of `why`.
        #[expect(unsafe_code, reason = "FFI")]
        let status = unsafe { lowland_faiss_start(out.as_mut_ptr().cast(), out.len(), why.as_mut_ptr().cast()) };
        check_status("start", status, &why).map_err(|e| e.to_string())?;
        let end = out.iter().position(|&b| b == 0).unwrap_or(out.len());
        let options = String::from_utf8_lossy(&out[..end]).trim().to_string();
        if options.contains("GENERIC") && cfg!(target_arch = "x86_64") {
            return Err(format!(
                "FAISS was built without SIMD (\"{options}\"): build inside the repository, whose .cargo/config.toml sets CXXFLAGS"
            ));
        }
        Ok(options)
    });
    options.as_deref().map_err(|why| Error::Faiss { doing: "start", why: why.clone() })
}

/// Runs seeded k-means (Lloyd) on `rows` (n × dim) and returns `k ≤ n` centroids (k × dim).
pub fn kmeans(rows: &[f32], dim: usize, k: usize, iterations: usize, seed: u64) -> Result<Vec<f32>> {
    initialize()?;
    let n = rows.len() / dim;
    assert!(k >= 1 && k <= n && rows.len() == n * dim, "k-means of {n} rows into {k}");
    let mut centroids = vec![0f32; k * dim];
    let mut why = [0u8; MESSAGE_BYTES];
    let seed = (seed ^ (seed >> 32)) as c_int & c_int::MAX;
    // SAFETY: `rows` holds n × dim floats and `centroids` k × dim, as asserted and allocated above.
    #[expect(unsafe_code, reason = "FFI")]
    let status = unsafe {
        lowland_kmeans(
            dim,
            n,
            k,
            iterations as c_int,
            seed,
            rows.as_ptr(),
            centroids.as_mut_ptr(),
            why.as_mut_ptr().cast(),
        )
    };
    check_status("train k-means", status, &why)?;
    Ok(centroids)
}

/// Writes an IVFFlat index at `path` that refers to the inverted lists in `lists_path` (list after list:
/// the vectors as f32, then the ids as i64).
pub fn write_ivf(path: &Path, lists_path: &Path, centroids: &[f32], sizes: &[usize], nprobe: usize) -> Result<()> {
    initialize()?;
    let dim = centroids.len() / sizes.len().max(1);
    assert_eq!(centroids.len(), dim * sizes.len(), "a centroid for every list");
    let (file, path, lists_path) = (path, c_path(path)?, c_path(lists_path)?);
    let mut why = [0u8; MESSAGE_BYTES];
    // SAFETY: the strings end in NUL, and the arrays hold nlist × dim floats and nlist sizes.
    #[expect(unsafe_code, reason = "FFI")]
    let status = unsafe {
        lowland_write_ivf(
            path.as_ptr(),
            lists_path.as_ptr(),
            dim,
            sizes.len(),
            centroids.as_ptr(),
            sizes.as_ptr(),
            nprobe,
            why.as_mut_ptr().cast(),
        )
    };
    check_status("write the index", status, &why).map_err(|error| match error {
        // FAISS reports errors only as text; a full disk is reported as an I/O error, as elsewhere.
        Error::Faiss { why, .. } if why.contains(DISK_FULL) => {
            lowland_io::Error::io(file, "write", std::io::Error::from_raw_os_error(libc::ENOSPC)).into()
        }
        error => error,
    })
}

/// Searches the index file at `path` with FAISS: returns `k` squared distances and ids for each query.
/// With `probes` 0 the index's own number of probes is used. A reference and baseline for the join; the
/// pipeline does not call it.
pub fn search(path: &Path, queries: &[f32], dim: usize, k: usize, probes: usize) -> Result<(Vec<f32>, Vec<i64>)> {
    initialize()?;
    let n = queries.len() / dim;
    assert_eq!(queries.len(), n * dim, "whole queries");
    let path = c_path(path)?;
    let (mut distances, mut ids) = (vec![0f32; n * k], vec![0i64; n * k]);
    let mut why = [0u8; MESSAGE_BYTES];
    // SAFETY: the outputs hold n × k values each, and the queries n × dim floats.
    #[expect(unsafe_code, reason = "FFI")]
    let status = unsafe {
        lowland_search(
            path.as_ptr(),
            n,
            k,
            probes,
            queries.as_ptr(),
            distances.as_mut_ptr(),
            ids.as_mut_ptr(),
            why.as_mut_ptr().cast(),
        )
    };
    check_status("search the index", status, &why)?;
    Ok((distances, ids))
}
