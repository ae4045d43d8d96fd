//! Standard input: an Arrow IPC stream of unknown length, copied to disk
//! before anything else, because every stage reads its rows anew.
//!
//! The copy lies beside the run directory, not in it: that directory is opened
//! with the fingerprints of its sources, and removes what it does not know.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use lowland::Source;

use super::Failure;
use crate::progress::Console;
use crate::signal::Signals;

/// How long a signal may go unheard while nothing comes.
const EVERY: Duration = Duration::from_millis(200);
const PORTION: usize = 1 << 20;

/// The directory of the copy; dropping it removes both.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Best effort: a copy that stays is replaced by the next one.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Copies standard input to disk and opens the copy.
pub(super) fn spool(
    run_dir: &Path,
    column: Option<&str>,
    console: &Console,
) -> Result<(Arc<dyn Source>, Spool), Failure> {
    let mut dir = run_dir.as_os_str().to_owned();
    dir.push(".stdin");
    let dir = PathBuf::from(dir);
    std::fs::create_dir_all(&dir).map_err(|e| lowland_io::Error::io(&dir, "create", e))?;
    let spool = Spool { dir };
    console.note(&format!("copying standard input to {}; such a run cannot be resumed", spool.dir.display()));
    let options = lowland_io::Options { column: column.map(str::to_string) };
    let reader = Interruptible::new(console.signals().clone())?;
    match lowland_io::spool_stdin(reader, &spool.dir, &options) {
        Ok(source) => Ok((source.into(), spool)),
        Err(_) if console.signals().came() => Err(lowland_engine::Error::Cancelled { stage: "input" }.into()),
        Err(error) => Err(error.into()),
    }
}

/// Standard input, read on a thread of its own, so that a signal is heard
/// while the program at the other end of the pipe thinks.
struct Interruptible {
    portions: Receiver<std::io::Result<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
    signals: Signals,
}

impl Interruptible {
    fn new(signals: Signals) -> Result<Self, Failure> {
        let (send, portions) = sync_channel(2);
        let read = move || {
            let mut input = std::io::stdin().lock();
            loop {
                let mut portion = vec![0; PORTION];
                let result = input.read(&mut portion);
                let stop = !matches!(&result, Ok(1..));
                let result = result.map(|n| {
                    portion.truncate(n);
                    portion
                });
                if send.send(result).is_err() || stop {
                    return;
                }
            }
        };
        let started = std::thread::Builder::new().name("lowland-stdin".into()).spawn(read);
        started.map_err(|e| lowland_io::Error::io("standard input", "start a reading thread for", e))?;
        Ok(Interruptible { portions, current: Vec::new(), at: 0, signals })
    }
}

impl Read for Interruptible {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.current.len() {
            if self.signals.came() {
                return Err(std::io::Error::other("a signal came"));
            }
            match self.portions.recv_timeout(EVERY) {
                Ok(portion) => (self.current, self.at) = (portion?, 0),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
            if self.current.is_empty() {
                return Ok(0);
            }
        }
        let count = out.len().min(self.current.len() - self.at);
        out[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
