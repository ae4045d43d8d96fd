//! The layers of the engine's top-level modules.
//!
//! A module uses only modules of lower layers: none above it and none beside it. So there are no circles, a module
//! can be understood from what lies below it, and it is clear where something new belongs.

use crate::circles;
use crate::uses::Uses;

/// The top-level modules of the engine, from the lowest layer up.
pub const LAYERS: &[&[&str]] = &[
    // Numbers, names and data without dependencies.
    &["sum", "random", "simd", "metric", "pages", "memory_meter", "remark", "score"],
    &["error", "distances", "distinct"],
    &["budget", "batch", "coded", "component_variance", "cuda", "format", "observe"],
    &["precision", "device", "session", "work"],
    // What the user asks for.
    &["config"],
    // What follows from it, as data.
    &["plan"],
    // What a run takes and gives, and the map on disk.
    &["inputs", "positions"],
    &["invalid"],
    &["pca"],
    // The stages.
    &["scan"],
    &["index"],
    &["neighbors", "output"],
    &["affinity", "evaluate"],
    &["layout", "quality"],
    // Above the layout: the centroids' positions are a layout.
    &["init"],
    &["all_pairs"],
    // The table that ties a method's name to its arithmetic.
    &["methods"],
    &["decide", "report"],
    &["estimate"],
    &["run"],
];

/// Methods that are visible outside their module though a lower module defines the type, each with the reason.
pub const METHODS: &[(&str, &str)] = &[
    ("Config::plan", "a user's first call, and only theirs: nothing in the engine calls it"),
    ("Config::plan_graph", "as `Config::plan`"),
];

/// Uses that are still to be removed, as (user, used). A use that is not here fails the test, and so does an entry
/// without a use.
pub const KNOWN: &[(&str, &str)] = &[];

/// What the modules must conform to.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// As [`LAYERS`].
    pub layers: &'a [&'a [&'a str]],
    /// As [`METHODS`].
    pub methods: &'a [(&'a str, &'a str)],
    /// As [`KNOWN`].
    pub known: &'a [(&'a str, &'a str)],
}

impl Rules<'_> {
    /// The engine's.
    pub const ENGINE: Rules<'static> = Rules { layers: LAYERS, methods: METHODS, known: KNOWN };

    /// Every violation in words, with the line that causes it; empty where there is none.
    pub fn violations(&self, uses: &Uses) -> Vec<String> {
        let mut found: Vec<String> = uses.unclear.iter().map(|u| format!("{u}: which module is that?")).collect();
        found.extend(
            uses.modules.iter().filter(|m| self.layer(m).is_none()).map(|m| format!("`{m}` is in no layer; add it")),
        );
        let listed = self.layers.iter().flat_map(|layer| layer.iter());
        found.extend(
            listed.filter(|m| !uses.modules.contains(**m)).map(|m| format!("there is no module `{m}`; remove it")),
        );
        let is_known = |from: &str, to: &str| self.known.contains(&(from, to));
        let is_wrong = |from: &str, to: &str| match (self.layer(from), self.layer(to)) {
            (Some(from), Some(to)) => from <= to,
            _ => false,
        };
        for each in uses.uses.iter().filter(|u| is_wrong(&u.from, &u.to) && !is_known(&u.from, &u.to)) {
            let side = if self.layer(&each.from) == self.layer(&each.to) { "beside" } else { "above" };
            found.push(format!("{}: `{}` uses `{}`, {side} it: {}", each.place, each.from, each.to, each.path));
        }
        for (from, to) in self.known {
            if !uses.uses.iter().any(|u| u.from == *from && u.to == *to) {
                found.push(format!("`{from}` no longer uses `{to}`; remove it from the known uses"));
            } else if !is_wrong(from, to) {
                found.push(format!("`{from}` may use `{to}`; remove it from the known uses"));
            }
        }
        let rest = || uses.uses.iter().filter(|u| !is_known(&u.from, &u.to));
        if let Some(circle) = circles::shortest(rest()) {
            let mut lines = Vec::new();
            for (at, from) in circle.iter().enumerate() {
                let to = &circle[(at + 1) % circle.len()];
                let of = rest().filter(|u| u.from == *from && u.to == *to);
                lines.extend(of.map(|u| format!("    {}: {}", u.place, u.path)));
            }
            found.push(format!("a circle: {} → {}\n{}", circle.join(" → "), circle[0], lines.join("\n")));
        }
        let is_listed = |name: &str| self.methods.iter().any(|(listed, _)| *listed == name);
        found.extend(uses.methods.iter().filter(|m| !is_listed(&m.name)).map(|m| {
            let (place, module, name) = (&m.place, &m.module, &m.name);
            format!("{place}: `{module}` gives a type of another module the method {name}, which any module may call")
        }));
        found.extend(
            self.methods
                .iter()
                .filter(|(name, _)| !uses.methods.iter().any(|m| m.name == *name))
                .map(|(name, _)| format!("there is no method {name} of another module's type; remove it")),
        );
        found
    }

    fn layer(&self, module: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.contains(&module))
    }
}
