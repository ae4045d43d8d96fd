//! What the machine grants this process: the memory that is built in, and what
//! the cgroups that the process is in leave of it.
//!
//! What must hold: looking never fails. What cannot be read, or makes no
//! sense, is no limit. A limit counts wherever it is visible: in the process's
//! own group and in each one above it, of either version of cgroups.

use std::path::{Component, Path, PathBuf};

/// A share of the limit that a run may take when a smaller budget is named for
/// it: the rest is for the page cache, which is counted too.
const SAFE_PERCENT: u64 = 90;
/// Version 1 says "none" with the largest page-aligned number; no machine has so much.
const NONE: u64 = 1 << 60;

/// A bound on memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) bytes: u64,
    /// Where the number is from, as a sentence goes on with it.
    pub(crate) source: String,
}

impl Limit {
    /// A budget in whole MiB with which a run keeps clear of the limit.
    pub(crate) fn safe_mib(&self) -> u64 {
        (self.bytes / 100 * SAFE_PERCENT) >> 20
    }
}

/// The machine, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The tightest bound on memory; none where the system does not tell.
    pub(crate) limit: Option<Limit>,
}

impl Machine {
    /// Asks the system.
    pub(crate) fn look() -> Self {
        Self::look_below(Path::new("/"))
    }

    /// The same where `root` stands for `/`: tests build machines of files.
    fn look_below(root: &Path) -> Self {
        // The first of equals is told: a group with all the memory limits nothing.
        let limit = physical(root).into_iter().chain(cgroup(root)).min_by_key(|limit| limit.bytes);
        Machine { limit }
    }

    /// A share of the limit in whole MiB; none where no limit is known.
    pub(crate) fn share(&self, share: f64) -> Option<u64> {
        let limit = self.limit.as_ref()?;
        Some((limit.bytes as f64 * share) as u64 >> 20 << 20)
    }
}

fn physical(root: &Path) -> Option<Limit> {
    let bytes = total(&text(root, "/proc/meminfo".as_ref())).or_else(hardware).filter(|&bytes| bytes > 0)?;
    Some(Limit { bytes, source: "physical memory".into() })
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The hardware's memory on macOS, which has no /proc. Untested there.
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

/// The tightest limit of the cgroups that this process is in.
fn cgroup(root: &Path) -> Option<Limit> {
    let groups = text(root, "/proc/self/cgroup".as_ref());
    let mounts = text(root, "/proc/self/mountinfo".as_ref());
    let limits = files(&groups, &mounts).into_iter().filter_map(|file| {
        let bytes: u64 = text(root, &file).trim().parse().ok()?;
        let source = || format!("the cgroup limit in {}", file.display());
        (bytes > 0 && bytes < NONE).then(|| Limit { bytes, source: source() })
    });
    limits.min_by_key(|limit| limit.bytes)
}

/// A file below `root`, where it is there. Paths that are not UTF-8 are lost
/// with the file's other odd bytes, and with them that group's limit; those
/// above it still count.
fn text(root: &Path, file: &Path) -> String {
    let path = root.join(file.strip_prefix("/").unwrap_or(file));
    std::fs::read(path).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The two versions of cgroups; a hybrid system has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The files with a limit. Above `memory.high` a group is slowed down until
    /// it hardly moves: that is no place to plan for.
    fn files(self) -> &'static [&'static str] {
        match self {
            Version::One => &["memory.limit_in_bytes"],
            Version::Two => &["memory.max", "memory.high"],
        }
    }
}

/// A mounted hierarchy of groups that may limit memory.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// The group that is seen at `point`.
    root: PathBuf,
    point: PathBuf,
}

/// Every file that may hold a limit of this process, by the texts of
/// /proc/self/cgroup and /proc/self/mountinfo. Not each must be there.
fn files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mounts: Vec<Mount> = mounts.lines().filter_map(mount).collect();
    let mut files = Vec::new();
    for version in [Version::One, Version::Two] {
        let mounts = || mounts.iter().filter(|mount| mount.version == version);
        let Some(group) = group(groups, version) else { continue };
        let mut seen: Vec<PathBuf> = Vec::new();
        for mount in mounts() {
            let Some(below) = below(group, &mount.root) else { continue };
            // A part of the way may not be visible, as in a container that
            // knows its name on the host; the mount's own group always is.
            seen.extend(below.ancestors().map(|part| mount.point.join(part)));
        }
        if seen.is_empty() {
            // Seen from another namespace than it was mounted in. What is
            // mounted first is what the container was given.
            seen.extend(mounts().next().map(|mount| mount.point.clone()));
        }
        files.extend(seen.iter().flat_map(|dir| version.files().iter().map(|name| dir.join(name))));
    }
    files
}

/// The group of this process, by a text such as `4:cpu,memory:/docker/12` or `0::/user.slice`.
fn group(groups: &str, version: Version) -> Option<&Path> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match version {
            Version::One => controllers.split(',').any(|c| c == "memory"),
            Version::Two => number == "0" && controllers.is_empty(),
        };
        found.then(|| Path::new(path))
    })
}

/// The way from `root` down to `group`, if it leads down.
fn below<'a>(group: &'a Path, root: &Path) -> Option<&'a Path> {
    // A group outside of the namespace is told as /../…, which is no way down.
    let plain = |path: &Path| !path.components().any(|c| c == Component::ParentDir);
    group.strip_prefix(root).ok().filter(|below| plain(below) && plain(root))
}

/// A line of mountinfo: `31 23 0:28 ROOT POINT OPTIONS … - TYPE DEVICE OPTIONS`.
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup2" => Version::Two,
        "cgroup" if kind.nth(1)?.split(',').any(|c| c == "memory") => Version::One,
        _ => return None,
    };
    let mut place = place.split(' ').skip(3).map(unescaped);
    Some(Mount { version, root: place.next()?.into(), point: place.next()?.into() })
}

/// A field of mountinfo, where blanks and the like are three octal digits after a backslash.
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

    /// A machine of files; gives what it grants.
    fn machine(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Machine::look_below(root.path())
    }

    /// The limit of a machine of 16 GiB.
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
        // How "none" is said, with pages of 4 and of 64 KiB, and by more than there is.
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
    fn an_ancestor_may_be_tighter() {
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
        // In either, the tighter one.
        let both = ("sys/fs/cgroup/unified/user/memory.max", "536870912");
        is(limit(groups, &mounts, &[(own, "1073741824"), both]), GIB / 2, both.0);
    }

    #[test]
    fn in_a_container_the_mount_is_the_group() {
        let v1 = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        let v2 = "sys/fs/cgroup/memory.max";
        // The mount's root is the group itself, under its name on the host.
        let bound = "35 31 0:32 /docker/12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        is(limit("4:memory:/docker/12\n", bound, &[(v1, "1073741824")]), GIB, v1);
        let inner = "sys/fs/cgroup/memory/job/memory.limit_in_bytes";
        is(limit("4:memory:/docker/12/job\n", bound, &[(v1, "2147483648"), (inner, "1073741824")]), GIB, inner);
        // The host's name of the group, though the container sees nothing above it.
        is(limit("4:memory:/docker/12\n", V1, &[(v1, "1073741824")]), GIB, v1);
        is(limit("0::/docker/12\n", V2, &[(v2, "1073741824")]), GIB, v2);
        // A namespace of its own.
        is(limit("0::/\n", V2, &[(v2, "1073741824")]), GIB, v2);
        // A mount from outside of the namespace, a group outside of it, and a
        // mount of another group: there is no way down.
        let outer = V2.replace("0:26 / ", "0:26 /../.. ");
        is(limit("0::/\n", &outer, &[(v2, "1073741824")]), GIB, v2);
        is(limit("0::/../other\n", V2, &[(v2, "1073741824"), ("sys/fs/other/memory.max", "1")]), GIB, v2);
        is(limit("4:memory:/job\n", bound, &[(v1, "1073741824")]), GIB, v1);
        // Names that begin alike are not below each other.
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
        let limit = Machine::look().limit.expect("a limit");
        assert!(limit.bytes > 1 << 20, "{limit:?}");
    }
}
