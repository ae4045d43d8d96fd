//! A cgroup with a memory limit, made for one test and gone with it: what the
//! kernel does to a run that holds more than it said.
//!
//! What must hold: where no group can be made (no root, no memory controller,
//! another system) the test is told as skipped and nothing is changed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::skipped;

/// The two versions differ in the names of their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TestCgroupVersion {
    One,
    Two,
}

/// A group of processes that together hold no more than a number of bytes:
/// what they allocate, and the page cache of the files that they touch. The
/// cache is given up before anything is killed, so a run may touch files of
/// any size; but files on a tmpfs cannot be given up.
#[derive(Debug)]
pub(crate) struct Limited {
    dir: PathBuf,
    version: TestCgroupVersion,
}

impl Limited {
    /// A group with a limit of `bytes`, or none, told as skipped.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        match Self::make(bytes) {
            Ok(limited) => Some(limited),
            Err(why) => {
                skipped(&format!("no cgroup with a memory limit can be made here: {why}"));
                None
            }
        }
    }

    fn make(bytes: u64) -> io::Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let (parent, version) = parent()?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("lowland-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir)?;
        // From here on dropped, so removed, where something else fails.
        let limited = Limited { dir, version };
        let (limit, with_swap) = match version {
            TestCgroupVersion::One => ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", bytes)),
            TestCgroupVersion::Two => ("memory.max", ("memory.swap.max", 0)),
        };
        std::fs::write(limited.dir.join(limit), bytes.to_string())?;
        // Without swap that is accounted for there is no such file.
        let _ = std::fs::write(limited.dir.join(with_swap.0), with_swap.1.to_string());
        let found = limited.number(limit, "").ok_or_else(|| io::Error::other("the limit cannot be read back"))?;
        if found.abs_diff(bytes) > 1 << 16 {
            return Err(io::Error::other(format!("the limit is {found} where {bytes} were asked for")));
        }
        let joined = limited.command(&Command::new("true")).stderr(Stdio::null()).status()?;
        if joined.success() { Ok(limited) } else { Err(io::Error::other("no process can be put into the group")) }
    }

    /// `command` (program, arguments, directory and environment), to be run in this group.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("bash");
        inside.args(["-c", "echo $$ >\"$1\"/cgroup.procs && shift && exec \"$@\"", "bash"]);
        inside.arg(&self.dir).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        if let Some(dir) = command.get_current_dir() {
            inside.current_dir(dir);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// The file with the limit, as an error names it.
    pub(crate) fn limit_file(&self) -> PathBuf {
        self.dir.join(if self.version == TestCgroupVersion::One { "memory.limit_in_bytes" } else { "memory.max" })
    }

    /// The most that the group ever held, page cache included, where the kernel tells.
    pub(crate) fn peak(&self) -> Option<u64> {
        match self.version {
            TestCgroupVersion::One => self.number("memory.max_usage_in_bytes", ""),
            TestCgroupVersion::Two => self.number("memory.peak", ""),
        }
    }

    /// Processes of the group that were killed because the limit was reached.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.version == TestCgroupVersion::One { "memory.oom_control" } else { "memory.events" };
        self.number(file, "oom_kill ").unwrap_or_else(|| panic!("{} tells of no oom_kill", self.dir.display()))
    }

    /// The number in the line of a file that begins with `key`.
    fn number(&self, file: &str, key: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.dir.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // A group is busy until its last process is gone for good.
        for _ in 0..100 {
            match std::fs::remove_dir(&self.dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(20)),
                _ => return,
            }
        }
        skipped(&format!("{}: this group of a test cannot be removed", self.dir.display()));
    }
}

/// Where groups can be made: as near to the own group as may be, so that its limits hold too.
fn parent() -> io::Result<(PathBuf, TestCgroupVersion)> {
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = |controller: &str| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|c| c == controller).then(|| path.trim_start_matches('/').to_string())
        })
    };
    let one = Path::new("/sys/fs/cgroup/memory");
    if let Some(own) = own("memory").filter(|_| one.join("memory.limit_in_bytes").exists()) {
        // A container may not see its group under the name that it has outside.
        let dir = one.join(own);
        return Ok((if dir.is_dir() { dir } else { one.into() }, TestCgroupVersion::One));
    }
    let two = Path::new("/sys/fs/cgroup");
    let own = own("").unwrap_or_default();
    // A group with processes in it hands no controller down, so it is one above.
    let hands_down = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
        text.split_whitespace().any(|c| c == "memory")
    };
    let above = Path::new(&own).ancestors().map(|part| two.join(part)).find(|dir| hands_down(dir));
    above
        .map(|dir| (dir, TestCgroupVersion::Two))
        .ok_or_else(|| io::Error::other("no memory controller is handed down"))
}
