//! The table of methods, with one small file for each method.
//!
//! A streamed method consists of an input affinity, from which the edge store is made, and an objective, which
//! moves the map; the other fields of its entry are defaults. An exact method (`all_pairs`) is a problem of
//! `exact`, and has no edges. To add a method, add a file with an `Entry`, and a line to the table below.
//!
//! What must hold: a method lists the options that it has. Any other option that the user sets is refused with
//! a message that names the methods that have the option.

mod all_pairs;
#[cfg(test)]
mod gradients;
mod options;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use all_pairs::Exact;
pub use options::Opt;
pub(crate) use options::Steps;

use crate::affinity::Affinity;
use crate::layout::{Objective, Optimizer};
use crate::settings::Settings;
use crate::{Config, Error, Result};

/// Each line is the name of a file with an `ENTRY`.
macro_rules! methods {
    ($($file:ident)*) => {
        $(mod $file;)*

        /// All methods, in the order in which they are listed to users.
        static TABLE: &[&Entry] = &[$(&$file::ENTRY),*];
    };
}

methods! {
    umap
    largevis
    infotsne
    tsne
    pacmap
    sne
    tsne_exact
    tsnekhorn
    cosne
    affinity_matcher
    phate
}

/// The properties of a method.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The name that users give.
    name: &'static str,
    /// A short description.
    about: &'static str,
    /// The input affinity; `None` where all pairs are computed.
    affinity: Option<Affinity>,
    /// The loss, as the layout's kernel.
    objective: &'static dyn Objective,
    /// The method's options, in addition to those that all methods have.
    knows: &'static [Opt],
    /// Returns the method's defaults, given those of all methods.
    defaults: fn(Settings) -> Settings,
    /// Number of epochs, or of iterations over all pairs, by the number of rows.
    epochs: Steps,
    /// Returns the number of negative samples for each edge that fires (UMAP), or for each row.
    negatives: fn(&Settings) -> usize,
    /// Number of epochs with early exaggeration, in a run of the usual length.
    exaggerated: usize,
    /// Returns, for a number of epochs, after how many of them the learning rate falls linearly to 0; `None` if
    /// it never does.
    falls: fn(u32) -> Option<u32>,
    /// Whether, while the learning rate falls, every second epoch uses the random draws of the first such
    /// epoch.
    repeats: bool,
    /// Standard deviation of the first component of the first positions; `None`: the extent of UMAP's first
    /// positions.
    begins: Option<f64>,
    /// The properties of a method that computes all pairs; `affinity`, `objective` and the fields from
    /// `negatives` on are then unused.
    exact: Option<Exact>,
}

/// A method.
#[derive(Clone, Copy)]
pub struct Method(&'static Entry);

impl Method {
    /// UMAP (McInnes, Healy, Melville 2018), the default.
    pub const UMAP: Method = Method(&umap::ENTRY);
    /// LargeVis (Tang, Liu, Zhang, Mei 2016).
    pub const LARGEVIS: Method = Method(&largevis::ENTRY);
    /// InfoNC-t-SNE (Damrich, Böhm, Hamprecht, Kobak 2023).
    pub const INFOTSNE: Method = Method(&infotsne::ENTRY);
    /// t-SNE (van der Maaten, Hinton 2008), with repulsion by FFT (Linderman et al. 2019).
    pub const TSNE: Method = Method(&tsne::ENTRY);
    /// PaCMAP (Wang, Huang, Rudin, Shaposhnik 2021).
    pub const PACMAP: Method = Method(&pacmap::ENTRY);

    /// Returns all methods, in the order in which they are listed to users.
    pub fn all() -> impl ExactSizeIterator<Item = Method> {
        TABLE.iter().copied().map(Method)
    }

    /// Returns the method with this name.
    pub fn named(name: &str) -> Option<Method> {
        Method::all().find(|method| method.name() == name)
    }

    /// Returns the method's name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Returns a short description.
    pub fn about(self) -> &'static str {
        self.0.about
    }

    /// Returns the input affinity; `None` if the method computes all pairs.
    pub fn affinity(self) -> Option<Affinity> {
        self.0.affinity
    }

    /// Returns whether the method computes all pairs in memory, rather than streams.
    pub fn is_exact(self) -> bool {
        self.0.exact.is_some()
    }

    /// Returns the properties of a method that computes all pairs; `None` if it streams.
    pub(crate) fn exact(self) -> Option<&'static Exact> {
        self.0.exact.as_ref()
    }

    /// Returns whether the method has an option.
    pub fn knows(self, opt: Opt) -> bool {
        opt.is_common() || self.0.knows.contains(&opt)
    }

    /// Returns the method's defaults, given those of all methods.
    pub(crate) fn defaults(self, common: Settings) -> Settings {
        (self.0.defaults)(common)
    }

    pub(crate) fn objective(self) -> &'static dyn Objective {
        self.0.objective
    }

    /// Returns the default number of epochs for `rows` rows, or of iterations over all their pairs.
    pub fn epochs(self, rows: u64) -> usize {
        self.0.epochs.at(rows)
    }

    /// Returns the default number of epochs for any number of rows, for the help: "500 up to 10,000 rows, 300
    /// up to 100,000, 200 above".
    pub(crate) fn epochs_text(self) -> String {
        self.0.epochs.text()
    }

    /// Returns the rule for the default learning rate, for the help.
    pub fn step_rule(self) -> &'static str {
        let ball = self.0.name == cosne::ENTRY.name;
        match Settings::of(self, 1000).optimizer {
            _ if self == Method::UMAP || ball => "1",
            Optimizer::Adam => "1",
            _ if self.is_exact() => "rows / 4 over the exaggeration, but at least 50",
            _ if self.objective().field() => "rows / 4 over the exaggeration of the time",
            _ => "rows / 4, but at least 50, over the exaggeration of the time",
        }
    }

    pub(crate) fn negatives(self, config: &Settings) -> usize {
        (self.0.negatives)(config)
    }

    /// Returns the number of epochs with early exaggeration: the usual number, but at most a third of the
    /// epochs.
    pub(crate) fn exaggerated(self, config: &Settings, epochs: usize) -> usize {
        if config.early_exaggeration == 1.0 { 0 } else { self.0.exaggerated.min(epochs / 3) }
    }

    /// Returns after how many of `epochs` epochs the learning rate falls linearly to 0; `None` if it never
    /// does.
    pub(crate) fn falls(self, epochs: u32) -> Option<u32> {
        (self.0.falls)(epochs)
    }

    /// Returns whether, while the learning rate falls, every second epoch uses the random draws of the first
    /// such epoch.
    pub(crate) fn repeats(self) -> bool {
        self.0.repeats
    }

    pub(crate) fn begins(self) -> Option<f64> {
        self.0.begins
    }

    /// Refuses an option that the config sets and the method does not have.
    pub(crate) fn check_known(self, config: &Config) -> Result<()> {
        let asked = Opt::ALL.into_iter().find(|&opt| !self.knows(opt) && opt.is_asked(config));
        asked.map_or(Ok(()), |opt| Err(self.unknown(opt)))
    }

    /// Returns the error for an option that the method does not have, which names the methods that have it.
    pub fn unknown(self, opt: Opt) -> Error {
        let known = opt.known_to();
        let does = if known.len() == 1 { "does" } else { "do" };
        Error::Config { field: opt.name(), why: format!("{self} does not know it; {} {does}", known.join(", ")) }
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Method {}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Method::named(&name).ok_or_else(|| serde::de::Error::custom(format!("\"{name}\" is no method")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_none_is_there_twice() {
        let names: Vec<&str> = Method::all().map(Method::name).collect();
        for (i, method) in Method::all().enumerate() {
            assert_eq!(Method::named(method.name()), Some(method));
            assert!(!names[..i].contains(&method.name()));
            let text = serde_json::to_string(&method).expect("JSON");
            assert_eq!(serde_json::from_str::<Method>(&text).expect("a method"), method);
        }
        assert_eq!(Method::named("tsne"), Some(Method::TSNE));
        assert_eq!(Method::named("t-sne"), None);
    }

    #[test]
    fn what_streams_in_place_of_an_exact_method_does() {
        for (method, exact) in Method::all().filter_map(|method| Some((method, method.exact()?))) {
            let streams = |name: &&str| Method::named(name).is_some_and(|method| !method.is_exact());
            assert!(!exact.instead.is_empty() && exact.instead.iter().all(streams), "{method}: {:?}", exact.instead);
        }
    }

    #[test]
    fn epochs_of_exact_methods_are_those_of_their_problems() {
        use crate::all_pairs::{Cosne, Entropic, Matcher, Phate, Sne, Tsne, TsneKhorn};
        let matcher = Matcher::new(Entropic::default(), crate::NamedMap::Student.affinity());
        for (name, own) in [
            ("sne", Sne::default().descent),
            ("tsne-exact", Tsne::default().descent),
            ("tsnekhorn", TsneKhorn::default().descent),
            ("cosne", Cosne::default().descent),
            ("phate", Phate::default().descent),
            ("affinity-matcher", matcher.descent),
        ] {
            assert_eq!(Method::named(name).map(|method| method.epochs(100)), Some(own.max_iter), "{name}");
        }
    }

    #[test]
    fn what_a_method_does_not_know_is_refused_with_those_that_do() {
        for method in Method::all() {
            method.check_known(&Config::of(method)).expect("its own defaults");
        }
        let asked = Config { min_dist: Some(0.1), ..Config::of(Method::TSNE) };
        let told = Method::TSNE.check_known(&asked).expect_err("refused").to_string();
        assert!(told.contains("min_dist") && told.contains("tsne does not know it; umap does"), "{told}");
        let asked = Config { perplexity: Some(5.0), ..Config::of(Method::PACMAP) };
        let told = Method::PACMAP.check_known(&asked).expect_err("refused").to_string();
        assert!(
            told.contains("pacmap does not know it; largevis, infotsne, tsne, ") && told.ends_with(" do"),
            "{told}"
        );
    }
}
