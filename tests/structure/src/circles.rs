//! The shortest circle in a graph of modules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::uses::Use;

/// The shortest circle among modules, in order, the first once; the first by name where several are shortest. None
/// where there is no circle.
pub fn shortest<'a>(uses: impl IntoIterator<Item = &'a Use>) -> Option<Vec<String>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for each in uses {
        next.entry(&each.from).or_default().insert(&each.to);
    }
    next.keys().filter_map(|&module| circle_through(module, &next)).min_by_key(Vec::len)
}

/// The shortest circle through `module`, by a breadth-first search from it.
fn circle_through(module: &str, next: &BTreeMap<&str, BTreeSet<&str>>) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([module]);
    while let Some(here) = queue.pop_front() {
        for &to in next.get(here).into_iter().flatten() {
            if to == module {
                let mut circle = vec![here];
                while let Some(&earlier) = before.get(circle[circle.len() - 1]) {
                    circle.push(earlier);
                }
                return Some(circle.into_iter().rev().map(str::to_string).collect());
            }
            if !before.contains_key(to) {
                before.insert(to, here);
                queue.push_back(to);
            }
        }
    }
    None
}
