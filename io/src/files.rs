//! Turns the paths a user gives (files, directories, globs, and addresses with the help of
//! `remote`) into an ordered list of files and objects.
//!
//! - The order depends only on names.
//! - If something of exactly the given name exists, it is used, even if the name contains wildcard
//!   characters.
//! - A file that would be listed twice is refused.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};

use crate::remote::{Client, Object, is_address};
use crate::vectors::natural;
use crate::{Error, Fingerprint, Result, arrow_file, npy, parquet};

/// File name endings that mark data in a directory. Files with other endings are recognized by
/// their first bytes, except those in [`IGNORED_ENDINGS`].
pub(crate) const ENDINGS: [&str; 8] = ["parquet", "pq", "parq", "arrow", "arrows", "feather", "ipc", "npy"];

/// Endings of copies and unfinished files, which are skipped in a directory whatever they contain.
const IGNORED_ENDINGS: [&str; 9] = ["tmp", "temp", "part", "partial", "crdownload", "bak", "old", "orig", "crc"];

/// The most patterns that the braces of one path may expand to.
const MOST_ALTERNATIVES: usize = 4096;

/// Shell rules: `*` does not match `.hidden` (nor, in this module, `_SUCCESS`).
const SHELL_RULES: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What a path stands for: a file, or an object in a store.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    File(PathBuf),
    Object(Arc<Object>),
}

impl Input {
    /// Returns the path, or the address as it may be shown.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Input::File(path) => path,
            Input::Object(object) => object.path(),
        }
    }
}

/// The first bytes of an object that was named individually are kept until it is opened. Once this
/// many inputs have been found, they are dropped instead, to bound memory.
const HEADS: usize = 64;

/// Returns the files and objects that `paths` stand for, in the order given. The contents of
/// directories and globs are sorted by name. `connect` is called once, if any path is an address.
///
/// # Errors
///
/// - [`Error::NoFiles`] or [`Error::Store`] if a path matches nothing.
/// - [`Error::Format`] if a file is named twice.
pub(crate) fn find(paths: &[String], connect: &dyn Fn() -> Result<Arc<Client>>) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    // All addresses share one client.
    let mut client = None;
    for given in paths {
        // A file of exactly that name takes precedence over the address.
        if is_address(given) && !Path::new(given).exists() {
            let client = match &client {
                Some(client) => client,
                None => client.insert(connect()?),
            };
            let objects = client.find(given)?;
            if inputs.len() >= HEADS {
                objects.iter().for_each(|object| object.forget_head());
            }
            inputs.extend(objects.into_iter().map(Input::Object));
            continue;
        }
        let mut files = Vec::new();
        expand(given, &mut files)?;
        inputs.extend(files.into_iter().map(Input::File));
    }
    refuse_duplicates(&inputs)?;
    Ok(inputs)
}

/// Returns the single file or object at `path`. A path of a file is not expanded; an address must
/// stand for exactly one object.
pub(crate) fn one(path: &Path) -> Result<Input> {
    let given = path.to_string_lossy();
    if !is_address(&given) || path.exists() {
        return Ok(Input::File(path.into()));
    }
    let objects = Client::new(None)?.find(&given)?;
    match objects.as_slice() {
        [one] => Ok(Input::Object(one.clone())),
        several => {
            let what = format!("matches {} objects, but one is read; name it", several.len());
            Err(Error::format(crate::shown(&given).as_ref(), what))
        }
    }
}

/// Returns the first two neighbouring files of one directory whose order by name differs from the
/// order of the numbers in their names, such as `part-10` before `part-2`.
pub fn out_of_number_order(files: &[Fingerprint]) -> Option<[&Path; 2]> {
    let pairs = files.windows(2).map(|pair| [pair[0].path.as_path(), pair[1].path.as_path()]);
    pairs.into_iter().find(|[a, b]| {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (first, second) = (name(a), name(b));
        a.parent() == b.parent() && first < second && natural(&first, &second).is_gt()
    })
}

fn expand(given: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    let path = Path::new(given);
    // A file name may contain wildcard characters, so an existing file is used as it is.
    if path.try_exists().map_err(|e| Error::io(path, "open", e))? {
        return add(path, files);
    }
    let before = files.len();
    // The same holds for leading directories: only what follows the part of the path that exists is
    // a pattern.
    let (mut base, mut rest) = (PathBuf::new(), given);
    if let Some(below) = rest.strip_prefix('/') {
        (base, rest) = ("/".into(), below);
    }
    while let Some((name, below)) = rest.split_once('/') {
        let next = base.join(name);
        if !name.is_empty() && !next.is_dir() {
            break;
        }
        (base, rest) = (if name.is_empty() { base } else { next }, below);
    }
    if rest.contains(['*', '?', '[', '{']) {
        for pattern in alternatives(rest).ok_or_else(|| Error::format(path, "its braces expand to too many names"))? {
            let components: Vec<&str> = pattern.split('/').filter(|c| !c.is_empty()).collect();
            matching(&base, &components, given, files)?;
        }
    }
    match files.len() > before {
        true => Ok(()),
        false => Err(Error::NoFiles { pattern: given.into() }),
    }
}

/// Expands all braces of `pattern`, nested ones included, in the order written. Braces without a
/// comma are kept as they are. Returns `None` if there are more than [`MOST_ALTERNATIVES`] results.
pub(crate) fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, inside, after)) = braces(rest) {
        let mut parts = Vec::new();
        for part in inside {
            parts.extend(alternatives(part)?);
        }
        all = all.iter().flat_map(|a| parts.iter().map(move |b| format!("{a}{before}{b}"))).collect();
        if all.len() > MOST_ALTERNATIVES {
            return None;
        }
        rest = after;
    }
    Some(all.into_iter().map(|a| a + rest).collect())
}

/// Finds the first braces that contain a comma. Returns the text before them, the parts between the
/// commas, and the text after them.
fn braces(text: &str) -> Option<(&str, Vec<&str>, &str)> {
    for (open, _) in text.match_indices('{') {
        let (mut depth, mut from, mut parts) = (0, open + 1, Vec::new());
        for (at, c) in text[open..].char_indices().map(|(at, c)| (open + at, c)) {
            match c {
                '{' => depth += 1,
                ',' if depth == 1 => {
                    parts.push(&text[from..at]);
                    from = at + 1;
                }
                '}' if depth == 1 => {
                    if parts.is_empty() {
                        break;
                    }
                    parts.push(&text[from..at]);
                    return Some((&text[..open], parts, &text[at + 1..]));
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    None
}

/// Adds the files below `base` that match `patterns`, which has one pattern for each component of
/// the path.
fn matching(base: &Path, patterns: &[&str], given: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    let Some((&first, rest)) = patterns.split_first() else {
        return add(base, files);
    };
    if first == "**" {
        // `**` matches the directory itself and every directory below it. A `**` at the end matches
        // all data files below, which is what adding the directory does.
        if rest.is_empty() {
            return add(base, files);
        }
        let mut found = vec![base.to_path_buf()];
        directories(base, &mut Vec::new(), &mut found)?;
        found.sort();
        return found.iter().try_for_each(|directory| matching(directory, rest, given, files));
    }
    let literal = base.join(first);
    if std::fs::symlink_metadata(&literal).is_ok() {
        return matching(&literal, rest, given, files);
    }
    let pattern = Pattern::new(first).map_err(|e| Error::format(given, format!("not a pattern: {e}")))?;
    if !base.is_dir() && base != Path::new("") {
        return Ok(());
    }
    for path in entries(base)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if matches(&pattern, first, &name) && (rest.is_empty() || path.is_dir()) {
            matching(&path, rest, given, files)?;
        }
    }
    Ok(())
}

/// Whether `pattern`, compiled from `text`, matches `name`. Names that begin with `_` match only
/// patterns that do too.
pub(crate) fn matches(pattern: &Pattern, text: &str, name: &str) -> bool {
    let hidden = name.starts_with('_') && !text.starts_with('_');
    !hidden && pattern.matches_with(name, SHELL_RULES)
}

fn add(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let before = files.len();
    search(path, &mut Vec::new(), files)?;
    if files.len() == before {
        let endings = ENDINGS.join(", .");
        return Err(Error::format(
            path,
            format!("contains no Parquet, Arrow or npy file (a name that ends in .{endings})"),
        ));
    }
    Ok(())
}

/// Adds the data files in `directory` and below it. `above` identifies the directories on the path
/// here; a link back to one of them is not followed.
fn search(directory: &Path, above: &mut Vec<(u64, u64)>, files: &mut Vec<PathBuf>) -> Result<()> {
    if !enter(directory, above)? {
        return Ok(());
    }
    for path in entries(directory)? {
        if is_hidden(&path) {
            continue;
        }
        if path.is_dir() {
            search(&path, above, files)?;
        } else if is_data_file(&path) {
            files.push(path);
        }
    }
    above.pop();
    Ok(())
}

/// Adds all directories below `directory`, likewise without following links back.
fn directories(directory: &Path, above: &mut Vec<(u64, u64)>, found: &mut Vec<PathBuf>) -> Result<()> {
    if !enter(directory, above)? {
        // It was reached through a link back to a directory above.
        found.retain(|path| path != directory);
        return Ok(());
    }
    for path in entries(directory)? {
        if !is_hidden(&path) && path.is_dir() {
            found.push(path.clone());
            directories(&path, above, found)?;
        }
    }
    above.pop();
    Ok(())
}

/// Adds `directory` to `above`; returns false if it is there already.
fn enter(directory: &Path, above: &mut Vec<(u64, u64)>) -> Result<bool> {
    let named = if directory == Path::new("") { Path::new(".") } else { directory };
    let here = identity(&std::fs::metadata(named).map_err(|e| Error::io(directory, "list", e))?);
    let new = !above.contains(&here);
    if new {
        above.push(here);
    }
    Ok(new)
}

/// Returns the paths of a directory's entries, sorted by name.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(directory, "list", e);
    let named = if directory == Path::new("") { Path::new(".") } else { directory };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(named).map_err(failed)? {
        entries.push(directory.join(entry.map_err(failed)?.file_name()));
    }
    entries.sort();
    Ok(entries)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().unwrap_or_default().to_string_lossy().starts_with(['.', '_'])
}

/// Whether a file in a directory holds data, judged by its ending or else by its first bytes.
fn is_data_file(path: &Path) -> bool {
    if let Some(known) = is_meant_by_name(&path.file_name().unwrap_or_default().to_string_lossy()) {
        return known;
    }
    let mut magic = Vec::new();
    let mut read = || File::open(path).and_then(|file| file.take(8).read_to_end(&mut magic));
    path.is_file() && read().is_ok() && is_data(&magic)
}

/// Whether a file in a directory holds data, judged by its name; `None` if the name does not tell.
pub(crate) fn is_meant_by_name(name: &str) -> Option<bool> {
    let ending = Path::new(name).extension().unwrap_or_default().to_ascii_lowercase();
    if ENDINGS.iter().any(|e| ending == *e) {
        return Some(true);
    }
    (IGNORED_ENDINGS.iter().any(|e| ending == *e) || name.ends_with('~')).then_some(false)
}

/// Whether these are the first bytes of a file in a supported format.
pub(crate) fn is_data(magic: &[u8]) -> bool {
    let known = [npy::MAGIC, parquet::MAGIC, arrow_file::MAGIC];
    known.iter().any(|known| magic.starts_with(known))
}

fn identity(described: &Metadata) -> (u64, u64) {
    (described.dev(), described.ino())
}

/// Equal for two inputs exactly if they are the same file or object.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'a> {
    File((u64, u64)),
    Object(&'a str),
}

/// Refuses an input that occurs twice. A file is recognized under different names.
fn refuse_duplicates(inputs: &[Input]) -> Result<()> {
    let mut seen: HashMap<Identity<'_>, &Path> = HashMap::with_capacity(inputs.len());
    for input in inputs {
        let path = input.path();
        let identity = match input {
            Input::Object(object) => Identity::Object(object.identity()),
            Input::File(path) => match std::fs::metadata(path) {
                Ok(described) => Identity::File(identity(&described)),
                // A file without readable metadata cannot be opened either; opening it will report
                // the error.
                Err(_) => continue,
            },
        };
        if let Some(first) = seen.insert(identity, path) {
            let again = if first == path { String::new() } else { format!(", first as {}", first.display()) };
            return Err(Error::format(
                path,
                format!("named twice{again}, so its rows would occur twice; name it once"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const PARQUET: &[u8] = b"PAR1 and so on";

    fn tree(names: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        dir
    }

    fn found(dir: &tempfile::TempDir, given: &[&str]) -> Result<String> {
        let given: Vec<String> = given.iter().map(|g| dir.path().join(g).to_str().unwrap().into()).collect();
        let files = find(&given, &|| Client::new(None))?;
        let names = files.iter().map(|f| f.path().strip_prefix(dir.path()).unwrap().to_str().unwrap().to_string());
        Ok(names.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn files_of_a_directory_are_known_by_ending_or_first_bytes() {
        let dir = tree(&[
            ("a.pq", PARQUET),
            ("b.parquet.snappy", PARQUET),
            ("c.PARQUET", b""),
            ("d", b"ARROW1\0\0"),
            ("e.bin", b"\x93NUMPY\x01\0"),
            ("f.arrows", b"\xff\xff\xff\xff"),
            ("g.parquet.bak", PARQUET),
            ("h.parquet~", PARQUET),
            ("i.parquet.crc", PARQUET),
            ("README", b"read me"),
            ("_SUCCESS", b""),
            ("_x.parquet", PARQUET),
            (".y.parquet", PARQUET),
        ]);
        assert_eq!(found(&dir, &[""]).unwrap(), "a.pq b.parquet.snappy c.PARQUET d e.bin f.arrows");
        let none = tree(&[("README", b"read me")]);
        assert!(found(&none, &[""]).unwrap_err().to_string().contains("contains no Parquet, Arrow or npy file"));
    }

    #[test]
    fn existing_file_wins_over_pattern() {
        let dir = tree(&[
            ("run [v2]/1.npy", b""),
            ("run v/1.npy", b""),
            ("{a,b}/1.npy", b""),
            ("a/1.npy", b""),
            ("a/x/[0]/2.npy", b""),
            ("a/x/0/3.npy", b""),
            ("_b/.1.npy", b""),
        ]);
        assert_eq!(found(&dir, &["run [v2]"]).unwrap(), "run [v2]/1.npy");
        assert_eq!(found(&dir, &["run [v2]/*.npy"]).unwrap(), "run [v2]/1.npy");
        assert_eq!(found(&dir, &["run [[]v2]/*.npy"]).unwrap(), "run [v2]/1.npy");
        assert_eq!(found(&dir, &["run [u-w]/*"]).unwrap(), "run v/1.npy");
        assert_eq!(found(&dir, &["{a,b}/*.npy"]).unwrap(), "{a,b}/1.npy");
        assert_eq!(found(&dir, &["*/x/[0]/?.npy"]).unwrap(), "a/x/[0]/2.npy");
        assert_eq!(found(&dir, &["_*/.1*"]).unwrap(), "_b/.1.npy");
        assert!(matches!(found(&dir, &["_*/*"]), Err(Error::NoFiles { .. })));
        assert!(matches!(found(&dir, &["a/2.npy"]), Err(Error::NoFiles { .. })));
        assert!(found(&dir, &["a/[/1.npy"]).unwrap_err().to_string().contains("not a pattern"));
    }

    #[test]
    fn a_path_that_looks_like_one_is_no_address() {
        for given in ["a//b", "://b", "a b://c", "./s3://b"] {
            assert!(matches!(find(&[given.into()], &|| Client::new(None)), Err(Error::NoFiles { .. })), "{given}");
        }
    }

    #[cfg(not(feature = "object-store"))]
    #[test]
    fn a_build_without_stores_refuses_an_address_with_the_way_out() {
        for given in ["s3://bucket/dt=1/*.parquet", "https://host/a.npy?sig=secret", "gs://b"] {
            let error = find(&[given.into()], &|| Client::new(None)).unwrap_err();
            let told = error.to_string();
            assert!(error.is_bad_input() && told.contains("built without object-store"), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn braces_expand_in_order() {
        let all = |pattern: &str| alternatives(pattern).unwrap().join(" ");
        assert_eq!(all("x{b,a}y{1,2}"), "xby1 xby2 xay1 xay2");
        assert_eq!(all("{a,b{c,d}}/*"), "a/* bc/* bd/*");
        assert_eq!(all("{a}{,b}{"), "{a}{ {a}b{");
        assert!(alternatives(&"{a,b}".repeat(30)).is_none());
        let dir = tree(&[("a/z/1.npy", b""), ("b/z/1.npy", b""), ("c/z/1.npy", b"")]);
        assert_eq!(found(&dir, &["{b,a,x}/z/*.npy"]).unwrap(), "b/z/1.npy a/z/1.npy");
        assert_eq!(found(&dir, &["{c/z/1,a/z/1}.npy"]).unwrap(), "c/z/1.npy a/z/1.npy");
        assert_eq!(found(&dir, &["**/{1,2}.npy"]).unwrap(), "a/z/1.npy b/z/1.npy c/z/1.npy");
        assert!(matches!(found(&dir, &["{x,y}/z/*.npy"]), Err(Error::NoFiles { .. })));
    }

    #[test]
    fn link_cycles_are_not_followed() {
        let dir = tree(&[("in/0.npy", b""), ("in/deep/1.npy", b""), ("out/2.npy", b"")]);
        symlink(dir.path().join("in"), dir.path().join("in/deep/again")).unwrap();
        symlink("../../out", dir.path().join("in/deep/other")).unwrap();
        assert_eq!(found(&dir, &["in"]).unwrap(), "in/0.npy in/deep/1.npy in/deep/other/2.npy");
        assert_eq!(found(&dir, &["in/**/*.npy"]).unwrap(), "in/0.npy in/deep/1.npy in/deep/other/2.npy");
        assert_eq!(found(&dir, &["in/**"]).unwrap(), "in/0.npy in/deep/1.npy in/deep/other/2.npy");
    }

    #[test]
    fn a_file_named_twice_is_refused() {
        let dir = tree(&[("a.npy", b"a"), ("b.npy", b"b")]);
        symlink("a.npy", dir.path().join("l.npy")).unwrap();
        for given in [&["a.npy", "a.npy"][..], &["*.npy"], &["a.npy", "./a.npy"], &["[ab].npy", "b.npy"]] {
            let error = found(&dir, given).unwrap_err();
            assert!(error.is_bad_input() && error.to_string().contains("named twice"), "{given:?}: {error}");
        }
        let error = found(&dir, &["a.npy", "l.npy"]).unwrap_err().to_string();
        assert!(error.contains("l.npy: named twice, first as ") && error.contains("/a.npy, so its rows"), "{error}");
        assert_eq!(found(&dir, &["b.npy", "a.npy"]).unwrap(), "b.npy a.npy");
    }

    #[test]
    fn numbers_without_leading_zeros_are_seen() {
        let prints = |names: &[&str]| -> Vec<Fingerprint> {
            let print = |n: &&str| Fingerprint { path: n.into(), bytes: 0, modified: 0, header: 0, etag: None };
            names.iter().map(print).collect()
        };
        let found = |names: &[&str]| out_of_number_order(&prints(names)).map(|pair| pair.map(Path::to_path_buf));
        assert_eq!(found(&["p/x-1", "p/x-10", "p/x-2"]), Some(["p/x-10".into(), "p/x-2".into()]));
        assert_eq!(found(&["p/x-01", "p/x-02", "p/x-10"]), None);
        // The same numbers in the order given, or in two directories, are not reported.
        assert_eq!(found(&["p/x-3", "p/x-2"]), None);
        assert_eq!(found(&["p/x-10", "q/x-2"]), None);
    }
}
