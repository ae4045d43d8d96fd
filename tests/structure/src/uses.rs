//! Which top-level modules of a crate use which others, from the source text.
//!
//! A use is a path that begins with `crate`, `super` or `self` and leads out of its own top-level module: in a `use`
//! declaration (also grouped, nested, renamed or re-exported) or anywhere else, also inside a macro call. A name
//! that `lib.rs` re-exports counts as the module that defines it. Code that is compiled only for tests is left out:
//! items under `#[cfg(test)]` or `#[test]`, and the files of such modules.
//!
//! Methods need no path. Therefore an inherent `impl` with methods that are not private is a use in the other
//! direction: see [`ForeignMethod`].

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;

use crate::Source;
use crate::reader::{Reader, within};

/// One use of a module by another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The top-level module that contains the path.
    pub from: String,
    /// The top-level module to which the path leads.
    pub to: String,
    /// Where the path is: `file:line`.
    pub place: String,
    /// The path as written, without its braces, for instance `crate::run::embed`.
    pub path: String,
}

/// A method that is visible outside its module, of a type that another top-level module defines. Any module that may
/// use the type may call the method, and so uses the module that contains it without a path that would show this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignMethod {
    /// The top-level module that contains the method.
    pub module: String,
    /// `Type::method`.
    pub name: String,
    /// `file:line`.
    pub place: String,
}

/// The uses among a crate's top-level modules.
#[derive(Debug, Default)]
pub struct Uses {
    /// All top-level modules.
    pub modules: BTreeSet<String>,
    /// Every use, sorted, none twice.
    pub uses: Vec<Use>,
    /// Every foreign method, sorted.
    pub methods: Vec<ForeignMethod>,
    /// Paths whose module cannot be told, each with its place.
    pub unclear: Vec<String>,
}

/// Reads the sources of a crate; their paths are relative to its `src`.
///
/// # Panics
/// Where a file is not Rust.
pub fn read(files: &[Source]) -> Uses {
    let mut read = Vec::new();
    for file in files {
        let tokens: TokenStream = file.text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.path));
        let mut reader = Reader::default();
        reader.walk(&tokens.into_iter().collect::<Vec<_>>(), &module_of(&file.path), true);
        read.push((file, reader));
    }
    let tests: Vec<Vec<String>> = read.iter().flat_map(|(_, reader)| reader.tests.clone()).collect();
    read.retain(|(file, _)| {
        let module = module_of(&file.path);
        !tests.iter().any(|test| module.starts_with(test))
    });

    let mut found = Uses::default();
    found.modules.extend(read.iter().filter_map(|(file, _)| module_of(&file.path).first().cloned()));
    let names = Names::of(read.iter().map(|(_, reader)| reader), &found.modules);
    for (file, reader) in &read {
        let Some(own) = module_of(&file.path).first().cloned() else { continue };
        for path in &reader.paths {
            let Some(absolute) = absolute(&path.here, &path.segments) else { continue };
            let place = format!("{}:{}", file.path, path.line);
            let as_written = path.segments.join("::");
            match names.module(&absolute, &found.modules) {
                None => found.unclear.push(format!("{place}: {as_written}")),
                Some(to) if to != own => {
                    found.uses.push(Use { from: own.clone(), to, place, path: as_written });
                }
                Some(_) => {}
            }
        }
        for each in &reader.impls {
            let written = absolute(&each.here, &each.of);
            let of = names.defined(written.unwrap_or_else(|| [&each.here[..], &each.of].concat()));
            // A type of another crate can have no inherent `impl` here.
            if of.first() != Some(&own) {
                let name = each.of.last().map_or("", String::as_str);
                found.methods.extend(each.methods.iter().map(|(method, line)| ForeignMethod {
                    module: own.clone(),
                    name: format!("{name}::{method}"),
                    place: format!("{}:{line}", file.path),
                }));
            }
        }
    }
    found.uses.sort();
    found.uses.dedup();
    found.methods.sort();
    found
}

/// The path of a file's module: `a/b.rs` and `a/b/mod.rs` are `a::b`, `lib.rs` is the root.
fn module_of(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] {
        parts.pop();
    }
    parts
}

/// What each imported or re-exported name stands for: from a path to another, both from the crate's root.
struct Names(BTreeMap<Vec<String>, Vec<String>>);

impl Names {
    fn of<'a>(readers: impl Iterator<Item = &'a Reader>, modules: &BTreeSet<String>) -> Self {
        let mut names = BTreeMap::new();
        for path in readers.flat_map(|reader| &reader.paths).filter(|path| path.import) {
            // In the root, a path may also begin with a module.
            let from_root = path.here.is_empty() && modules.contains(&path.segments[0]);
            let stands_for = if from_root { Some(path.segments.clone()) } else { absolute(&path.here, &path.segments) };
            if let Some(stands_for) = stands_for
                && let Some(name) = path.renamed.as_ref().or(stands_for.last())
            {
                names.insert(within(&path.here, name), stands_for);
            }
        }
        Names(names)
    }

    /// The path of the definition, as far as imports tell.
    fn defined(&self, mut path: Vec<String>) -> Vec<String> {
        // Re-exports are few; more steps than this would be a circle.
        for _ in 0..16 {
            let known = (1..=path.len()).rev().find_map(|n| Some((n, self.0.get(&path[..n])?)));
            match known {
                Some((n, stands_for)) if stands_for[..] != path[..n] => {
                    path = [&stands_for[..], &path[n..]].concat();
                }
                _ => break,
            }
        }
        path
    }

    /// The top-level module to which a path leads: the one that it names, or that of a name in the crate's root.
    fn module(&self, path: &[String], modules: &BTreeSet<String>) -> Option<String> {
        let mut named = path.first()?;
        // A name of the root may stand for another name of the root.
        for _ in 0..16 {
            if modules.contains(named) {
                return Some(named.clone());
            }
            named = self.0.get(std::slice::from_ref(named))?.first()?;
        }
        None
    }
}

/// The path from the crate's root; none for a path that does not begin with `crate`, `super` or `self`.
fn absolute(here: &[String], segments: &[String]) -> Option<Vec<String>> {
    let first = segments.first()?;
    if first == "crate" {
        return Some(segments[1..].to_vec());
    }
    let supers = segments.iter().skip_while(|s| *s == "self").take_while(|s| *s == "super").count();
    if first != "self" && supers == 0 {
        return None;
    }
    let rest = segments.iter().skip_while(|s| *s == "self" || *s == "super").cloned();
    Some(here[..here.len().saturating_sub(supers)].iter().cloned().chain(rest).collect())
}
