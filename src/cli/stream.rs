//! Streams among the sources: standard input (`-`), pipes, process substitutions and devices. Each
//! is first copied to disk, because every stage reads the rows anew.
//!
//! The copies lie beside the run directory and not in it, because the run directory is opened with
//! the fingerprints of its sources, and opening removes unlisted files.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use lowland::format_bytes;

use super::Failure;
use crate::progress::Console;
use crate::signal::Signals;

/// The longest time for which a signal is not noticed while no data arrive.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(200);
const PORTION: usize = 1 << 20;

/// Other names of standard input beside `-`.
const STDIN: [&str; 3] = ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// The directory of the copies. Dropping it removes all copies.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    /// Each copy, and the name of its stream.
    copies: Vec<(PathBuf, String)>,
    /// Bytes of all copies.
    bytes: u64,
}

impl Drop for Spool {
    fn drop(&mut self) {
        // An error is ignored: remaining copies are replaced by the next ones.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Spool {
    /// Returns the bytes of all copies.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the names of the streams.
    pub(super) fn names(&self) -> String {
        self.copies.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the name of a file for users: of a copy, the name of its stream.
    pub(super) fn name_of(&self, file: &Path) -> String {
        let copy = self.copies.iter().find(|(copy, _)| copy == file);
        copy.map_or_else(|| file.display().to_string(), |(_, name)| name.clone())
    }

    /// Replaces the path of a copy in an error by the name of its stream.
    pub(super) fn name_stream(&self, error: lowland::Error) -> lowland::Error {
        match error {
            lowland::Error::Engine(lowland_engine::Error::Io(error)) => {
                self.copies.iter().fold(error, |e, (copy, name)| e.renamed(copy, name)).into()
            }
            other => other,
        }
    }
}

/// Returns the path beside which commands without a run directory copy streams.
pub(super) fn temporary_parent() -> PathBuf {
    std::env::temp_dir().join(format!("lowland-{}", std::process::id()))
}

/// Returns `sources`, with each stream replaced by a copy. Copies are written to a directory beside
/// `beside`, which is only created if there are streams. Together they have at most `disk` bytes.
pub(super) fn copy_streams(
    sources: &[String],
    (beside, disk): (&Path, Option<u64>),
    console: &Console,
) -> Result<(Vec<String>, Option<Spool>), Failure> {
    let streams: Vec<&String> = sources.iter().filter(|source| is_stream(source)).collect();
    if streams.is_empty() {
        return Ok((sources.to_vec(), None));
    }
    for (i, stream) in streams.iter().enumerate() {
        if streams[..i].iter().any(|earlier| name(earlier) == name(stream)) {
            return Err(Failure::usage(format!("{}: named twice; a stream can be read only once", name(stream))));
        }
    }
    let mut dir = beside.as_os_str().to_owned();
    dir.push(".stdin");
    let dir = PathBuf::from(dir);
    std::fs::create_dir_all(&dir).map_err(|e| lowland_io::Error::io(&dir, "create", e))?;
    let mut spool = Spool { dir, copies: Vec::new(), bytes: 0 };
    let mut paths = Vec::with_capacity(sources.len());
    for source in sources {
        if !is_stream(source) {
            paths.push(source.clone());
            continue;
        }
        let (name, copy) = (name(source), spool.dir.join(format!("stream-{}", spool.copies.len())));
        console.note(
            "spooled",
            format!("copying {name} to {}; a run from a stream cannot be resumed", spool.dir.display()),
        );
        let room = disk.map_or(u64::MAX, |disk| disk - spool.bytes);
        let mut reader = InterruptibleStream::new(source.clone(), console.signals().clone(), room)?;
        match lowland_io::spool(&mut reader, &name, &copy) {
            Ok(bytes) => {
                spool.bytes += bytes;
                console.note("spooled", format!("{name}: {} copied", format_bytes(bytes)));
            }
            Err(_) if reader.beyond => {
                return Err(Failure::usage(format!(
                    "--disk: {name} has more than {}, and a stream is copied to disk first; give a larger --disk",
                    format_bytes(disk.unwrap_or_default())
                )));
            }
            Err(_) if console.signals().came() => {
                return Err(lowland_engine::Error::Cancelled { stage: "input" }.into());
            }
            Err(error) => return Err(error.into()),
        }
        paths.push(copy.to_string_lossy().into_owned());
        spool.copies.push((copy, name));
    }
    Ok((paths, Some(spool)))
}

/// Returns whether a source can be read only once, from the beginning.
pub(super) fn is_stream(source: &str) -> bool {
    source == "-"
        || std::fs::metadata(source).is_ok_and(|found| {
            let kind = found.file_type();
            kind.is_fifo() || kind.is_char_device() || kind.is_socket()
        })
}

fn is_stdin(source: &str) -> bool {
    source == "-" || STDIN.contains(&source)
}

/// Returns the name of a stream.
fn name(source: &str) -> String {
    if is_stdin(source) { "standard input".into() } else { source.into() }
}

/// A stream that is opened and read on a separate thread, so that signals are noticed while the
/// other end of the pipe is not open or sends nothing.
struct InterruptibleStream {
    portions: Receiver<std::io::Result<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
    signals: Signals,
    /// The bytes that are still allowed, and whether more were read.
    room: u64,
    beyond: bool,
}

impl InterruptibleStream {
    fn new(source: String, signals: Signals, room: u64) -> Result<Self, Failure> {
        if is_stdin(&source) && std::io::stdin().is_terminal() {
            return Err(Failure::usage("standard input is a terminal; pipe a program's output to it, or name a file"));
        }
        let (send, portions) = sync_channel(2);
        let called = name(&source);
        let read = move || {
            let opened: std::io::Result<Box<dyn Read>> = match is_stdin(&source) {
                true => Ok(Box::new(std::io::stdin().lock())),
                false => File::open(&source).map(|file| Box::new(file) as _),
            };
            let mut input = match opened {
                Ok(input) => input,
                Err(error) => {
                    // If this fails, the receiver is gone.
                    let _ = send.send(Err(error));
                    return;
                }
            };
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
        let started = std::thread::Builder::new().name("lowland-stream".into()).spawn(read);
        started.map_err(|e| lowland_io::Error::io(called, "start a reading thread for", e))?;
        Ok(InterruptibleStream { portions, current: Vec::new(), at: 0, signals, room, beyond: false })
    }
}

impl Read for InterruptibleStream {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.current.len() {
            if self.signals.came() {
                return Err(std::io::Error::other("interrupted by a signal"));
            }
            match self.portions.recv_timeout(SIGNAL_INTERVAL) {
                Ok(portion) => (self.current, self.at) = (portion?, 0),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
            if self.current.is_empty() {
                return Ok(0);
            }
            match self.room.checked_sub(self.current.len() as u64) {
                Some(room) => self.room = room,
                None => {
                    self.beyond = true;
                    return Err(std::io::Error::other("the stream is larger than the disk budget"));
                }
            }
        }
        let count = out.len().min(self.current.len() - self.at);
        out[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
