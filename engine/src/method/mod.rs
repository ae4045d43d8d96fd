//! The methods: what each is made of, one small file a method.
//!
//! A method that streams is an input affinity, which becomes the edge store,
//! and an objective, which moves the map over it; the rest of an entry is
//! defaults. An exact one (`all_pairs`) is a problem of `exact`, and has no
//! edges. A new one is a file with an `Entry`, and a line in the table below.
//!
//! What must hold: a method says which options it knows, and any other that
//! is asked for is refused with the methods that do.

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

/// A line is a file with an `ENTRY`.
macro_rules! methods {
    ($($file:ident)*) => {
        $(mod $file;)*

        /// All methods, in the order in which they are listed.
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

/// What a method is made of.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name, as it is given.
    name: &'static str,
    /// What it is, in some words.
    about: &'static str,
    /// The input affinity, which becomes edges; none where all pairs are computed.
    affinity: Option<Affinity>,
    /// What moves the map.
    objective: &'static dyn Objective,
    /// The options that it knows, beside those that all methods do.
    knows: &'static [Opt],
    /// Its own defaults of them.
    defaults: fn(Settings) -> Settings,
    /// Passes over the edges, or iterations over all pairs, by the number of rows.
    epochs: Steps,
    /// Pushes for each pull or each row.
    negatives: fn(&Settings) -> usize,
    /// Epochs with early exaggeration, in a run of the usual length.
    exaggerated: usize,
    /// Of so many epochs, those after which the step falls linearly to 0; none where it never does.
    falls: fn(u32) -> Option<u32>,
    /// Whether every second epoch of those in which the step falls repeats the draws of the first of them.
    repeats: bool,
    /// The standard deviation of the first positions' first component; as wide as UMAP's where there is none.
    begins: Option<f64>,
    /// What it is where all pairs are computed: then affinity, objective and what follows it say nothing.
    exact: Option<Exact>,
}

/// One of the methods.
#[derive(Clone, Copy)]
pub struct Method(&'static Entry);

impl Method {
    /// UMAP (McInnes, Healy, Melville 2018), the default.
    pub const UMAP: Method = Method(&umap::ENTRY);
    /// LargeVis (Tang, Liu, Zhang, Mei 2016).
    pub const LARGEVIS: Method = Method(&largevis::ENTRY);
    /// InfoNC-t-SNE (Damrich, Böhm, Hamprecht, Kobak 2023).
    pub const INFOTSNE: Method = Method(&infotsne::ENTRY);
    /// t-SNE (van der Maaten, Hinton 2008), its repulsion by FFT (Linderman et al. 2019).
    pub const TSNE: Method = Method(&tsne::ENTRY);
    /// PaCMAP (Wang, Huang, Rudin, Shaposhnik 2021).
    pub const PACMAP: Method = Method(&pacmap::ENTRY);

    /// All of them, in the order in which they are listed.
    pub fn all() -> impl ExactSizeIterator<Item = Method> {
        TABLE.iter().copied().map(Method)
    }

    /// The method of a name.
    pub fn named(name: &str) -> Option<Method> {
        Method::all().find(|method| method.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What it is, in some words.
    pub fn about(self) -> &'static str {
        self.0.about
    }

    /// Its input affinity, which becomes edges; none where it computes all pairs.
    pub fn affinity(self) -> Option<Affinity> {
        self.0.affinity
    }

    /// Whether it computes all pairs, for what fits, rather than stream.
    pub fn is_exact(self) -> bool {
        self.0.exact.is_some()
    }

    /// What it is where it computes all pairs.
    pub(crate) fn exact(self) -> Option<&'static Exact> {
        self.0.exact.as_ref()
    }

    /// Whether it knows an option.
    pub fn knows(self, opt: Opt) -> bool {
        opt.is_common() || self.0.knows.contains(&opt)
    }

    /// Its own defaults, on those of all methods.
    pub(crate) fn defaults(self, common: Settings) -> Settings {
        (self.0.defaults)(common)
    }

    pub(crate) fn objective(self) -> &'static dyn Objective {
        self.0.objective
    }

    /// Passes over the edges of `rows` rows, or iterations over all their pairs, where nothing else is asked.
    pub fn epochs(self, rows: u64) -> usize {
        self.0.epochs.at(rows)
    }

    /// The same for any number of rows, for help: "500 up to 10,000 rows, 300 up to 100,000, 200 above".
    pub(crate) fn epochs_text(self) -> String {
        self.0.epochs.text()
    }

    /// How the first step follows from the rows where none is asked, for help.
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

    /// Epochs with early exaggeration: as many as usual, but no more than a third.
    pub(crate) fn exaggerated(self, config: &Settings, epochs: usize) -> usize {
        if config.early_exaggeration == 1.0 { 0 } else { self.0.exaggerated.min(epochs / 3) }
    }

    /// Of so many epochs, those after which the step falls linearly to 0; none where it never does.
    pub(crate) fn falls(self, epochs: u32) -> Option<u32> {
        (self.0.falls)(epochs)
    }

    /// Whether every second epoch of those in which the step falls repeats the draws of the first of them.
    pub(crate) fn repeats(self) -> bool {
        self.0.repeats
    }

    pub(crate) fn begins(self) -> Option<f64> {
        self.0.begins
    }

    /// Refuses an option that is asked for and that the method does not know.
    pub(crate) fn check_known(self, config: &Config) -> Result<()> {
        let asked = Opt::ALL.into_iter().find(|&opt| !self.knows(opt) && opt.is_asked(config));
        asked.map_or(Ok(()), |opt| Err(self.unknown(opt)))
    }

    /// That the method does not know an option, and which do.
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
        use crate::exact::{Cosne, Entropic, Matcher, Phate, Sne, Tsne, TsneKhorn};
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
