//! The memory available to this process: physical memory and cgroup limits.
//!
//! What must hold: reading never fails. A value that cannot be read or is not plausible is no
//! limit. Limits are read for the process's own cgroup and for each cgroup above it, in both
//! versions of cgroups.
//!
//! Half of what this process may use:
//!
//! ```
//! use lowland::machine::Machine;
//!
//! let machine = Machine::detect();
//! if let Some(limit) = &machine.limit {
//!     println!("{} bytes: {}", limit.bytes, limit.source); // … bytes: physical memory
//!     assert!(machine.share(0.5) <= Some(limit.bytes / 2));
//! }
//! ```

use std::path::{Component, Path, PathBuf};

use lowland_engine::{StagePlan, format_bytes};

use crate::{Error, Result};

/// The percentage of the limit that a run should use if a smaller budget is suggested. The rest is
/// for the page cache, which counts towards the limit.
const SAFE_PERCENT: u64 = 90;
/// Version 1 writes "no limit" as the largest page-aligned number; no machine has this much memory.
const UNLIMITED: u64 = 1 << 60;

/// A memory limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The number of bytes.
    pub bytes: u64,
    /// Where the limit comes from, as a part of a sentence.
    pub source: String,
}

impl Limit {
    /// Returns a budget in whole MiB that stays safely below the limit.
    pub fn safe_mib(&self) -> u64 {
        (self.bytes / 100 * SAFE_PERCENT) >> 20
    }
}

/// The machine as seen by this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The smallest memory limit; `None` if the operating system reports none.
    pub limit: Option<Limit>,
}

impl Machine {
    /// Reads the limits.
    pub fn detect() -> Self {
        Self::look_below(Path::new("/"))
    }

    /// As [`look`](Self::look) with `root` in place of `/`, for tests with files.
    fn look_below(root: &Path) -> Self {
        // Of equal limits the first counts: a cgroup with all of the memory does not limit.
        let limit = physical(root).into_iter().chain(cgroup(root)).min_by_key(|limit| limit.bytes);
        Machine { limit }
    }

    /// Returns a fraction of the limit, rounded down to whole MiB; `None` if no limit is known.
    pub fn share(&self, share: f64) -> Option<u64> {
        let limit = self.limit.as_ref()?;
        Some((limit.bytes as f64 * share) as u64 >> 20 << 20)
    }
}

/// Returns the plan with a budget of `memory` bytes. Refuses a plan that takes more than the
/// machine's limit, because the operating system would kill such a run after hours of work. The
/// budget itself may exceed the limit, because a run may use less.
///
/// # Errors
/// Those of `plan`; [`Error::Grant`] if no budget within the limit is enough; and of a plan that takes
/// more than the limit, with a budget that does not.
pub fn plan_within_grant<P: AsRef<[StagePlan]>>(
    memory: u64,
    machine: &Machine,
    mut plan: impl FnMut(u64) -> Result<P>,
) -> Result<P> {
    let planned = plan(memory);
    let Some(limit) = &machine.limit else { return planned };
    let is = format!("{} is {}", limit.source, format_bytes(limit.bytes));
    let planned = match planned {
        Err(error) if smallest_budget(&error).is_some_and(|least| least > limit.bytes) => {
            return Err(Error::Grant { error: Box::new(error), limit: is });
        }
        planned => planned?,
    };
    let Some(most) = planned.as_ref().iter().max_by_key(|s| s.memory).filter(|s| s.memory > limit.bytes) else {
        return Ok(planned);
    };
    let takes = format!("`memory`: the plan takes {} ({}), but {is}", format_bytes(most.memory), most.stage.name());
    // The suggested budget must be one with which a plan exists.
    let safe = limit.safe_mib();
    Err(Error::job(match plan(safe << 20).err().as_ref().and_then(smallest_budget) {
        None => format!("{takes}; give `memory` {safe}MiB or less"),
        Some(least) if least <= limit.bytes => format!("{takes}; give `memory` {}MiB", least >> 20),
        Some(least) => {
            format!("{takes}, and must be raised first: no budget below {} is sufficient", format_bytes(least))
        }
    }))
}

/// Returns the smallest sufficient budget, if the error is a budget that is too small.
pub fn smallest_budget(error: &Error) -> Option<u64> {
    match error {
        Error::Engine(
            lowland_engine::Error::Budget { needed, .. } | lowland_engine::Error::AllPairs { needed, .. },
        ) => Some(*needed),
        Error::Grant { error, .. } => smallest_budget(error),
        _ => None,
    }
}

fn physical(root: &Path) -> Option<Limit> {
    let bytes = total(&text(root, "/proc/meminfo".as_ref())).or_else(hardware).filter(|&bytes| bytes > 0)?;
    Some(Limit { bytes, source: "physical memory".into() })
}

/// Returns `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the physical memory on macOS, which has no /proc. Untested.
#[cfg(target_os = "macos")]
fn hardware() -> Option<u64> {
    let mut bytes = 0u64;
    let mut length = size_of::<u64>();
    // SAFETY: the name ends in a NUL, and the pointers are to a u64 and to its
    // length, which the call is told of and which outlive it.
    #[expect(unsafe_code, reason = "the standard library does not tell how much memory there is")]
    let answer = unsafe {
        let to = std::ptr::from_mut(&mut bytes).cast();
        libc::sysctlbyname(c"hw.memsize".as_ptr(), to, &mut length, std::ptr::null_mut(), 0)
    };
    (answer == 0).then_some(bytes)
}

#[cfg(not(target_os = "macos"))]
fn hardware() -> Option<u64> {
    None
}

/// Returns the smallest limit of the cgroups of this process.
fn cgroup(root: &Path) -> Option<Limit> {
    let groups = text(root, "/proc/self/cgroup".as_ref());
    let mounts = text(root, "/proc/self/mountinfo".as_ref());
    let limits = files(&groups, &mounts).into_iter().filter_map(|file| {
        let bytes: u64 = text(root, &file).trim().parse().ok()?;
        let source = || format!("the cgroup limit in {}", file.display());
        (bytes > 0 && bytes < UNLIMITED).then(|| Limit { bytes, source: source() })
    });
    limits.min_by_key(|limit| limit.bytes)
}

/// Returns the text of a file below `root`; empty if it cannot be read. Invalid UTF-8 is replaced,
/// so a path with such bytes is not found and that cgroup's limit is missed; the limits of the
/// cgroups above still count.
fn text(root: &Path, file: &Path) -> String {
    let path = root.join(file.strip_prefix("/").unwrap_or(file));
    std::fs::read(path).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The two versions of cgroups. A hybrid system has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CgroupVersion {
    One,
    Two,
}

impl CgroupVersion {
    /// The files that contain limits. Above `memory.high` a cgroup is throttled almost to a
    /// standstill, so the plan must stay below it too.
    fn files(self) -> &'static [&'static str] {
        match self {
            CgroupVersion::One => &["memory.limit_in_bytes"],
            CgroupVersion::Two => &["memory.max", "memory.high"],
        }
    }
}

/// A mounted cgroup hierarchy that may limit memory.
#[derive(Debug, PartialEq, Eq)]
struct CgroupMount {
    version: CgroupVersion,
    /// The cgroup that is visible at `point`.
    root: PathBuf,
    point: PathBuf,
}

/// Returns every file that may contain a limit of this process, from the texts of /proc/self/cgroup
/// and /proc/self/mountinfo. Some may not exist.
fn files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mounts: Vec<CgroupMount> = mounts.lines().filter_map(mount).collect();
    let mut files = Vec::new();
    for version in [CgroupVersion::One, CgroupVersion::Two] {
        let mounts = || mounts.iter().filter(|mount| mount.version == version);
        let Some(group) = group(groups, version) else { continue };
        let mut seen: Vec<PathBuf> = Vec::new();
        for mount in mounts() {
            let Some(below) = below(group, &mount.root) else { continue };
            // Parts of the path may not be visible, as in a container that knows its cgroup's name
            // on the host. The mount's own cgroup is always visible.
            seen.extend(below.ancestors().map(|part| mount.point.join(part)));
        }
        if seen.is_empty() {
            // The mount was made in another namespace. The first mount is the one that the
            // container was given.
            seen.extend(mounts().next().map(|mount| mount.point.clone()));
        }
        files.extend(seen.iter().flat_map(|dir| version.files().iter().map(|name| dir.join(name))));
    }
    files
}

/// Returns the cgroup of this process, from a text such as `4:cpu,memory:/docker/12` or
/// `0::/user.slice`.
fn group(groups: &str, version: CgroupVersion) -> Option<&Path> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match version {
            CgroupVersion::One => controllers.split(',').any(|c| c == "memory"),
            CgroupVersion::Two => number == "0" && controllers.is_empty(),
        };
        found.then(|| Path::new(path))
    })
}

/// Returns the path from `root` down to `group`, if `group` is below `root`.
fn below<'a>(group: &'a Path, root: &Path) -> Option<&'a Path> {
    // A cgroup outside of the namespace is written /../…, and is not below `root`.
    let plain = |path: &Path| !path.components().any(|c| c == Component::ParentDir);
    group.strip_prefix(root).ok().filter(|below| plain(below) && plain(root))
}

/// Parses a line of mountinfo: `31 23 0:28 ROOT POINT OPTIONS … - TYPE DEVICE OPTIONS`.
fn mount(line: &str) -> Option<CgroupMount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup2" => CgroupVersion::Two,
        "cgroup" if kind.nth(1)?.split(',').any(|c| c == "memory") => CgroupVersion::One,
        _ => return None,
    };
    let mut place = place.split(' ').skip(3).map(unescaped);
    Some(CgroupMount { version, root: place.next()?.into(), point: place.next()?.into() })
}

/// Decodes a field of mountinfo, in which blanks and the like are written as a backslash and three
/// octal digits.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1048576 kB\n");
    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";
    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    /// Creates a machine from files and returns what is read from it.
    fn machine(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Machine::look_below(root.path())
    }

    /// Returns the limit of a machine with 16 GiB.
    fn limit(groups: &str, mounts: &str, files: &[(&str, &str)]) -> (u64, String) {
        let all: Vec<_> = [MEMINFO, ("proc/self/cgroup", groups), ("proc/self/mountinfo", mounts)]
            .into_iter()
            .chain(files.iter().copied())
            .collect();
        let limit = machine(&all).limit.expect("a limit");
        (limit.bytes, limit.source)
    }

    #[track_caller]
    fn is(found: (u64, String), bytes: u64, file: &str) {
        assert_eq!(found, (bytes, format!("the cgroup limit in /{file}")));
    }

    #[track_caller]
    fn is_physical(found: (u64, String)) {
        assert_eq!(found, (16 * GIB, "physical memory".to_string()));
    }

    #[test]
    fn version_1() {
        let own = "sys/fs/cgroup/memory/user/12/memory.limit_in_bytes";
        let groups = "9:cpu:/elsewhere\n4:memory,hugetlb:/user/12\n";
        is(limit(groups, V1, &[(own, "1073741824\n")]), GIB, own);
        // The values for "no limit": with pages of 4 and of 64 KiB, and values above the physical
        // memory.
        for none in ["9223372036854771712", "9223372036854710272", "17179869184", "99999999999999", "-1", "0"] {
            is_physical(limit(groups, V1, &[(own, none)]));
        }
    }

    #[test]
    fn version_2() {
        let own = "sys/fs/cgroup/user.slice/run-1.scope/memory.max";
        let groups = "0::/user.slice/run-1.scope\n";
        is(limit(groups, V2, &[(own, "2147483648\n")]), 2 * GIB, own);
        is_physical(limit(groups, V2, &[(own, "max\n")]));
        let high = "sys/fs/cgroup/user.slice/run-1.scope/memory.high";
        is(limit(groups, V2, &[(own, "2147483648\n"), (high, "1073741824\n")]), GIB, high);
        is(limit(groups, V2, &[(own, "1073741824\n"), (high, "2147483648\n")]), GIB, own);
        is(limit(groups, V2, &[(own, "2147483648\n"), (high, "max\n")]), 2 * GIB, own);
    }

    #[test]
    fn parent_cgroup_limit_counts() {
        let groups = "0::/a/b/c\n";
        let at = |dir: &str| format!("sys/fs/cgroup/{dir}memory.max");
        let (a, b, c) = (at("a/"), at("a/b/"), at("a/b/c/"));
        let found = |x, y, z| limit(groups, V2, &[(&a, x), (&b, y), (&c, z)]);
        is(found("1073741824", "max", "3221225472"), GIB, &a);
        is(found("4294967296", "2147483648", "max"), 2 * GIB, &b);
        is(found("4294967296", "2147483648", "1073741824"), GIB, &c);
        is_physical(found("max", "max", "max"));
    }

    #[test]
    fn a_hybrid_system_has_its_limits_in_version_1() {
        let mounts = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let groups = "4:memory:/user\n1:name=systemd:/user\n0::/user\n";
        let own = "sys/fs/cgroup/memory/user/memory.limit_in_bytes";
        let unified = ("sys/fs/cgroup/unified/user/cgroup.procs", "1\n");
        is(limit(groups, &mounts, &[(own, "1073741824"), unified]), GIB, own);
        // If both versions have a limit, the smaller one.
        let both = ("sys/fs/cgroup/unified/user/memory.max", "536870912");
        is(limit(groups, &mounts, &[(own, "1073741824"), both]), GIB / 2, both.0);
    }

    #[test]
    fn in_a_container_the_mount_is_the_group() {
        let v1 = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        let v2 = "sys/fs/cgroup/memory.max";
        // The mount's root is the cgroup itself, under its name on the host.
        let bound = "35 31 0:32 /docker/12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        is(limit("4:memory:/docker/12\n", bound, &[(v1, "1073741824")]), GIB, v1);
        let inner = "sys/fs/cgroup/memory/job/memory.limit_in_bytes";
        is(limit("4:memory:/docker/12/job\n", bound, &[(v1, "2147483648"), (inner, "1073741824")]), GIB, inner);
        // The cgroup's name on the host, of which the container sees nothing.
        is(limit("4:memory:/docker/12\n", V1, &[(v1, "1073741824")]), GIB, v1);
        is(limit("0::/docker/12\n", V2, &[(v2, "1073741824")]), GIB, v2);
        // A namespace of its own.
        is(limit("0::/\n", V2, &[(v2, "1073741824")]), GIB, v2);
        // A mount from outside of the namespace, a cgroup outside of it, and a mount of another
        // cgroup: the cgroup is not below the mount's root.
        let outer = V2.replace("0:26 / ", "0:26 /../.. ");
        is(limit("0::/\n", &outer, &[(v2, "1073741824")]), GIB, v2);
        is(limit("0::/../other\n", V2, &[(v2, "1073741824"), ("sys/fs/other/memory.max", "1")]), GIB, v2);
        is(limit("4:memory:/job\n", bound, &[(v1, "1073741824")]), GIB, v1);
        // Names with a common beginning are not below each other.
        is(limit("4:memory:/docker/123\n", bound, &[(v1, "1073741824")]), GIB, v1);
    }

    #[test]
    fn of_several_mounts_those_that_hold_the_group_count() {
        let mounts = format!(
            "{V2}50 23 0:26 /machine/7 /srv/seven rw - cgroup2 cgroup2 rw\n\
             51 23 0:26 / /mnt/the\\040groups rw - cgroup2 cgroup2 rw\n"
        );
        let (first, again) = ("sys/fs/cgroup/own/memory.max", "mnt/the groups/own/memory.max");
        let stranger = ("srv/seven/memory.max", "1048576");
        is(limit("0::/own\n", &mounts, &[(first, "1073741824"), stranger]), GIB, first);
        is(limit("0::/own\n", &mounts, &[(again, "1073741824"), stranger]), GIB, again);
    }

    #[test]
    fn garbage_is_no_limit() {
        let own = "sys/fs/cgroup/memory.max";
        for text in ["", "\n", "lots", "1 GiB", "-5", "0x100", "99999999999999999999999", "\u{fffd}\0"] {
            is_physical(limit("0::/\n", V2, &[(own, text)]));
        }
        let lines = [":", "::", "0:", "-", " - ", "1 2 3 - cgroup2", "1 2 3 / - cgroup", "\u{0}", "0::", "a:memory:"];
        let all = lines.join("\n");
        for text in lines.into_iter().chain([all.as_str()]) {
            is_physical(limit(text, V2, &[]));
            is_physical(limit("0::/\n4:memory:/\n", text, &[]));
        }
        for meminfo in ["", "MemTotal:", "MemTotal: many kB", "MemTotal: 12 MB", "MemTotal: 99999999999999999999 kB"] {
            assert_eq!(total(meminfo), None, "{meminfo}");
        }
        #[cfg(target_os = "linux")]
        assert_eq!(machine(&[]), Machine { limit: None });
        assert_eq!(unescaped("a\\040b\\"), "a b\\");
        assert_eq!(unescaped("\\04\\999\\134"), "\\04\\999\\");
    }

    #[test]
    fn shares_are_whole_mebibytes() {
        let machine = Machine { limit: Some(Limit { bytes: 3 * GIB + 12_345, source: String::new() }) };
        assert_eq!(machine.share(0.5), Some(3 * GIB / 2));
        assert_eq!(machine.share(1.0), Some(3 * GIB));
        assert_eq!(machine.share(1.0 / 3.0), Some(GIB));
        assert_eq!(machine.limit.expect("a limit").safe_mib(), 2764);
        assert_eq!(Machine { limit: None }.share(0.5), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory() {
        let limit = Machine::detect().limit.expect("a limit");
        assert!(limit.bytes > 1 << 20, "{limit:?}");
    }
}
