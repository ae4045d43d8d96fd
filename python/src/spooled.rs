//! The identity of batches that were written to disk once.
//!
//! What must hold: two files of equal batches have equal identities, so that a run can be resumed by
//! another process that is given the same batches, although their temporary file is another one.

use std::io::Read;
use std::path::Path;

use lowland_io::{Error, Fingerprint, Result, SourceId};
use xxhash_rust::xxh3::Xxh3;

use crate::watch::Watch;

/// Bytes of the file that are read at a time for its checksum.
const PORTION: usize = 1 << 20;

/// Returns the identity of the batches in the file `path`, which errors call `name`.
///
/// # Errors
/// If the file cannot be read, or `watch` stops.
pub(crate) fn content(path: &Path, name: &str, watch: &Watch) -> Result<SourceId> {
    let failed = |error| Error::io(path, "read", error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut hash, mut bytes, mut portion) = (Xxh3::new(), 0, vec![0; PORTION]);
    loop {
        if watch.is_stopped() {
            return Err(Error::Stopped { path: path.into() });
        }
        let count = file.read(&mut portion).map_err(failed)?;
        if count == 0 {
            let header = hash.digest();
            return Ok(SourceId::Content(Fingerprint { path: name.into(), bytes, modified: 0, header, etag: None }));
        }
        hash.update(&portion[..count]);
        bytes += count as u64;
    }
}
