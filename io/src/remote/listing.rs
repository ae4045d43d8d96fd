//! Finds the objects an address stands for: a single object with that key, all data below a prefix,
//! or the matches of a pattern.
//!
//! The rules are those of files and directories (`files.rs`), so that a copy of a directory in a
//! bucket gives the same sources in the same order.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path as Key;

use super::address::{Address, Kind, shown};
use super::client::{Client, UNDER_WAY};
use super::failure::Failure;
use super::object::Object;
use super::store::{State, Store};
use crate::Result;
use crate::files::{self, ENDINGS};

/// The number of leading bytes that identify a format.
const MAGIC: u64 = 8;

impl Client {
    /// Returns the objects an address stands for, in the order of their keys. The alternatives of
    /// braces come in the order written.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) if there are none, or the store refuses to list them.
    /// [`Error::Stopped`](crate::Error::Stopped) if told to stop.
    pub(crate) fn find(self: &Arc<Self>, given: &str) -> Result<Vec<Arc<Object>>> {
        let address = Address::parse(given)?;
        let path = PathBuf::from(shown(given).as_ref());
        let found = self.look(&address).map_err(|failure| failure.about(&path))?;
        let objects: Vec<Arc<Object>> = found.into_iter().map(Arc::new).collect();
        Ok(objects)
    }

    fn look(self: &Arc<Self>, address: &Address) -> std::result::Result<Vec<Object>, Failure> {
        let is_pattern = address.key.contains(['*', '[', '{']) || address.key.contains('?');
        if address.kind == Kind::Http && address.key.contains(['*', '[', '{']) {
            let what = "an HTTP server cannot list objects, so a pattern cannot be matched";
            return Err(Failure::refused(what).advised("name each object"));
        }
        if address.kind == Kind::Http
            && (address.key.is_empty() || address.key.ends_with('/'))
            && !address.root.contains('?')
        {
            let what = "an HTTP server cannot list objects, so a directory cannot be read";
            return Err(Failure::refused(what).advised("name each object"));
        }
        let store = self.store(address)?;
        // A key may contain wildcard characters, so an existing object is used as it is.
        let mut missing = None;
        if address.kind == Kind::Http || !(address.key.is_empty() || address.key.ends_with('/')) {
            match Object::open(self, &store, address) {
                Ok(object) => return Ok(vec![object]),
                // Stores deny access to a missing object if the user may not list the bucket.
                Err(denied @ Failure::Failed { input: true, .. }) if is_pattern => missing = Some(denied),
                Err(failure @ Failure::Missing { .. }) if store.lists() => missing = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        let metas = match is_pattern {
            true => self.matching(&store, address)?,
            false => match self.below(&store, &address.key) {
                // The object is missing. That the prefix cannot be listed is not reported.
                Err(Failure::Failed { input: true, .. }) if missing.is_some() => Vec::new(),
                found => found?,
            },
        };
        if metas.is_empty() {
            return Err(match missing {
                Some(Failure::Missing { what }) if !is_pattern => {
                    Failure::Missing { what: what.replace("such object", "such object, and none below it") }
                }
                _ if is_pattern => Failure::Missing { what: "no object matches it".into() },
                _ => Failure::Missing { what: "there is no object below it".into() },
            });
        }
        Ok(metas.iter().map(|meta| Object::of_list(self, &store, address, meta)).collect())
    }

    /// Returns the data objects below a prefix.
    fn below(self: &Arc<Self>, store: &Arc<Store>, prefix: &str) -> std::result::Result<Vec<ObjectMeta>, Failure> {
        let all = self.list(store, prefix)?;
        let depth = parts(prefix.trim_matches('/')).count();
        self.data(store, &all.iter().collect::<Vec<_>>(), depth, !all.is_empty())
    }

    /// Returns what a pattern matches: objects, and the data objects below matching prefixes.
    fn matching(
        self: &Arc<Self>,
        store: &Arc<Store>,
        address: &Address,
    ) -> std::result::Result<Vec<ObjectMeta>, Failure> {
        let refused = |what: String| Failure::refused(what);
        let patterns = files::alternatives(&address.key);
        let patterns = patterns.ok_or_else(|| refused("its braces expand to too many names".into()))?;
        let mut found = Vec::new();
        for pattern in patterns {
            let names: Vec<&str> = parts(&pattern).collect();
            let plain = names.iter().take_while(|name| !name.contains(['*', '?', '[', '{'])).count();
            // The last name may be an object itself, so its parent is listed.
            let plain = plain.min(names.len().saturating_sub(1));
            let all = self.list(store, &names[..plain].join("/"))?;
            let mut hits = Vec::new();
            matches(&all.iter().collect::<Vec<_>>(), 0, &names, &mut hits).map_err(refused)?;
            for (metas, depth) in hits {
                match metas.as_slice() {
                    [one] if parts(one.location.as_ref()).count() == depth => found.push((*one).clone()),
                    // A matching directory without data is not an error, since others may have
                    // some.
                    _ => found.extend(self.data(store, &metas, depth, false)?),
                }
            }
        }
        Ok(found)
    }

    /// Lists all objects below a prefix, sorted name by name.
    fn list(self: &Arc<Self>, store: &Arc<Store>, prefix: &str) -> std::result::Result<Vec<ObjectMeta>, Failure> {
        let key = Key::parse(prefix).map_err(|e| Failure::of(store.kind(), &e.into()))?;
        let asked = store.clone();
        let mut all = self.wait(async move { asked.list(&key).await })?;
        all.sort_by(|a, b| parts(a.location.as_ref()).cmp(parts(b.location.as_ref())));
        // Some tools mark a directory with an empty object of the same name. These are removed.
        let marks = all.windows(2).map(|pair| {
            let (here, next) = (pair[0].location.as_ref(), pair[1].location.as_ref());
            pair[0].size == 0 && next.strip_prefix(here).is_some_and(|rest| rest.starts_with('/'))
        });
        let mut marks = marks.collect::<Vec<_>>().into_iter();
        all.retain(|_| !marks.next().unwrap_or(false));
        Ok(all)
    }

    /// Returns those of `metas` that hold data, by the rules for a directory whose path has `depth`
    /// names. With `must`, finding none is an error.
    fn data(
        self: &Arc<Self>,
        store: &Arc<Store>,
        metas: &[&ObjectMeta],
        depth: usize,
        must: bool,
    ) -> std::result::Result<Vec<ObjectMeta>, Failure> {
        let hidden = |name: &str| name.starts_with(['.', '_']);
        let seen = metas.iter().filter(|meta| !parts(meta.location.as_ref()).skip(depth).any(hidden));
        // If the name does not tell, the first bytes decide.
        let known = seen.filter_map(|meta| {
            let name = meta.location.filename().unwrap_or_default();
            match files::is_meant_by_name(name) {
                Some(false) => None,
                None if meta.size < MAGIC => None,
                told => Some(((*meta).clone(), told.is_some())),
            }
        });
        let known: Vec<(ObjectMeta, bool)> = known.collect();
        let asked = store.clone();
        let work = async move {
            let looks = known.into_iter().map(|(meta, told)| {
                let store = asked.clone();
                async move {
                    if told {
                        return Ok::<_, Failure>(Some(meta));
                    }
                    let (_, magic) = store.get(&meta.location, 0..MAGIC, Some(&State::of(&meta))).await?;
                    Ok(files::is_data(&magic).then_some(meta))
                }
            });
            let looked = futures_util::stream::iter(looks).buffered(UNDER_WAY);
            looked.try_filter_map(async |meta| Ok(meta)).try_collect().await
        };
        let data: Vec<ObjectMeta> = self.wait(work)?;
        if data.is_empty() && must {
            let what =
                format!("contains no Parquet, Arrow or npy object (a name that ends in .{})", ENDINGS.join(", ."));
            return Err(Failure::refused(what));
        }
        Ok(data)
    }
}

/// Splits a key into its names.
fn parts(key: &str) -> impl Iterator<Item = &str> {
    key.split('/').filter(|name| !name.is_empty())
}

/// A matching part of a listing, with the number of names in the path of the directory or object
/// that matched.
type Hit<'a> = (Vec<&'a ObjectMeta>, usize);

/// Adds the parts of `metas` that match `patterns`, one pattern for each name after the first
/// `depth`. `metas` is sorted, and its entries share their first `depth` names.
fn matches<'a>(
    metas: &[&'a ObjectMeta],
    depth: usize,
    patterns: &[&str],
    hits: &mut Vec<Hit<'a>>,
) -> std::result::Result<(), String> {
    let Some((&first, rest)) = patterns.split_first() else {
        hits.push((metas.to_vec(), depth));
        return Ok(());
    };
    if first == "**" {
        if rest.is_empty() {
            hits.push((metas.to_vec(), depth));
            return Ok(());
        }
        // The entries of this directory first, then directory by directory, in the order used for
        // files.
        matches(metas, depth, rest, hits)?;
        for (name, below) in groups(metas, depth) {
            if !name.starts_with(['.', '_'])
                && below.iter().any(|meta| parts(meta.location.as_ref()).count() > depth + 1)
            {
                matches(&below, depth + 1, patterns, hits)?;
            }
        }
        return Ok(());
    }
    let groups = groups(metas, depth);
    if let Some((_, below)) = groups.iter().find(|(name, _)| *name == first) {
        return matches(below, depth + 1, rest, hits);
    }
    let pattern = glob::Pattern::new(first).map_err(|e| format!("not a pattern: {e}"))?;
    for (name, below) in &groups {
        let is_object = parts(below[0].location.as_ref()).count() == depth + 1;
        if files::matches(&pattern, first, name) && (rest.is_empty() || !is_object) {
            matches(below, depth + 1, rest, hits)?;
        }
    }
    Ok(())
}

/// Groups `metas` by the name that follows the first `depth` names.
fn groups<'a>(metas: &[&'a ObjectMeta], depth: usize) -> Vec<(&'a str, Vec<&'a ObjectMeta>)> {
    let mut groups: Vec<(&str, Vec<&ObjectMeta>)> = Vec::new();
    for &meta in metas {
        let Some(name) = parts(meta.location.as_ref()).nth(depth) else { continue };
        match groups.last_mut().filter(|(last, _)| *last == name) {
            Some((_, group)) => group.push(meta),
            None => groups.push((name, vec![meta])),
        }
    }
    groups
}
