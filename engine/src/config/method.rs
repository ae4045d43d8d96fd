//! The methods by name, with what each has and its defaults. A method's arithmetic is in [`crate::methods`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::methods::{self, AllPairs, Kind, MethodId, MethodSpec, Streamed};
use super::{Affinity, Config, MethodOption, Optimizer, Settings};
use crate::{Error, Result};

/// A method.
#[derive(Clone, Copy)]
pub struct Method(&'static MethodSpec);

impl Method {
    /// UMAP (McInnes, Healy, Melville 2018), the default.
    pub const UMAP: Method = Method(&methods::UMAP);
    /// LargeVis (Tang, Liu, Zhang, Mei 2016).
    pub const LARGEVIS: Method = Method(&methods::LARGEVIS);
    /// InfoNC-t-SNE (Damrich, Böhm, Hamprecht, Kobak 2023).
    pub const INFOTSNE: Method = Method(&methods::INFOTSNE);
    /// t-SNE (van der Maaten, Hinton 2008), with repulsion by FFT (Linderman et al. 2019).
    pub const TSNE: Method = Method(&methods::TSNE);
    /// PaCMAP (Wang, Huang, Rudin, Shaposhnik 2021).
    pub const PACMAP: Method = Method(&methods::PACMAP);

    /// Returns all methods, in the order in which they are listed to users.
    pub fn all() -> impl ExactSizeIterator<Item = Method> {
        methods::ALL.iter().copied().map(Method)
    }

    /// Returns the method with this name.
    pub fn from_name(name: &str) -> Option<Method> {
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

    /// Returns the method as a number, by which its arithmetic is found.
    pub(crate) fn id(self) -> MethodId {
        self.0.id
    }

    /// Returns the input affinity; `None` if the method computes all pairs.
    pub fn affinity(self) -> Option<Affinity> {
        self.streamed().map(|streamed| streamed.affinity)
    }

    /// Returns whether the method computes all pairs in memory, rather than streams.
    pub fn is_all_pairs(self) -> bool {
        self.all_pairs().is_some()
    }

    /// Returns the properties of a method that streams; `None` if it computes all pairs.
    fn streamed(self) -> Option<&'static Streamed> {
        match &self.0.kind {
            Kind::Streamed(streamed) => Some(streamed),
            Kind::AllPairs(_) => None,
        }
    }

    /// Returns the properties of a method that computes all pairs; `None` if it streams.
    pub(crate) fn all_pairs(self) -> Option<&'static AllPairs> {
        match &self.0.kind {
            Kind::Streamed(_) => None,
            Kind::AllPairs(all_pairs) => Some(all_pairs),
        }
    }

    /// Returns whether the method has an option.
    pub fn supports(self, opt: MethodOption) -> bool {
        opt.is_common() || self.0.options.contains(&opt)
    }

    /// Returns the method's defaults, given those of all methods.
    pub(crate) fn defaults(self, common: Settings) -> Settings {
        (self.0.defaults)(common)
    }

    /// Returns whether the repulsion of all rows is computed by a field over the plane.
    pub(crate) fn has_field(self) -> bool {
        self.streamed().is_some_and(|streamed| streamed.field)
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
        let ball = self.id() == MethodId::Cosne;
        match Settings::defaults_for(self, 1000).optimizer {
            _ if self == Method::UMAP || ball => "1",
            Optimizer::Adam => "1",
            _ if self.is_all_pairs() => "rows / 4 over the exaggeration, but at least 50",
            _ if self.has_field() => "rows / 4 over the current exaggeration",
            _ => "rows / 4, but at least 50, over the current exaggeration",
        }
    }

    /// Returns the number of negative samples for each edge that fires (UMAP), or for each row; 0 without edges.
    pub(crate) fn negatives(self, config: &Settings) -> usize {
        self.streamed().map_or(0, |streamed| (streamed.negatives)(config))
    }

    /// Returns the number of epochs with early exaggeration: the usual number, but at most a third of the
    /// epochs.
    pub(crate) fn exaggeration_epochs(self, config: &Settings, epochs: usize) -> usize {
        let usual = self.streamed().map_or(0, |streamed| streamed.exaggeration_epochs);
        if config.early_exaggeration == 1.0 { 0 } else { usual.min(epochs / 3) }
    }

    /// Returns after how many of `epochs` epochs the learning rate falls linearly to 0; `None` if it never
    /// does.
    pub(crate) fn decays_after(self, epochs: u32) -> Option<u32> {
        self.streamed().and_then(|streamed| (streamed.decays_after)(epochs))
    }

    /// Returns the number of epochs after which a few random draws are used in turn, and the number of these draws;
    /// `None`: each epoch has its own draw.
    pub(crate) fn rounds(self, epochs: u32) -> Option<(u32, u32)> {
        self.streamed().and_then(|streamed| (streamed.rounds)(epochs))
    }

    /// Returns the standard deviation of the first component of the first positions; `None`: the extent of UMAP's
    /// first positions.
    pub(crate) fn initial_deviation(self) -> Option<f64> {
        self.streamed().and_then(|streamed| streamed.initial_deviation)
    }

    /// Refuses an option that the config sets and the method does not have.
    pub(crate) fn check_supported(self, config: &Config) -> Result<()> {
        let asked = MethodOption::ALL.into_iter().find(|&opt| !self.supports(opt) && opt.is_set(config));
        asked.map_or(Ok(()), |opt| Err(self.unsupported_option(opt)))
    }

    /// Returns the error for an option that the method does not have, which names the methods that have it.
    pub fn unsupported_option(self, opt: MethodOption) -> Error {
        let known = opt.method_names();
        let does = if known.len() == 1 { "does" } else { "do" };
        Error::Config {
            field: opt.name(),
            why: format!("{self} does not have this option; {} {does}", known.join(", ")),
        }
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
        Method::from_name(&name).ok_or_else(|| serde::de::Error::custom(format!("\"{name}\" is not a method")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names_are_unique() {
        let names: Vec<&str> = Method::all().map(Method::name).collect();
        for (i, method) in Method::all().enumerate() {
            assert_eq!(Method::from_name(method.name()), Some(method));
            assert!(!names[..i].contains(&method.name()));
            let text = serde_json::to_string(&method).expect("JSON");
            assert_eq!(serde_json::from_str::<Method>(&text).expect("a method"), method);
        }
        assert_eq!(Method::from_name("tsne"), Some(Method::TSNE));
        assert_eq!(Method::from_name("t-sne"), None);
    }

    #[test]
    fn suggested_methods_stream() {
        for (method, exact) in Method::all().filter_map(|method| Some((method, method.all_pairs()?))) {
            let streams = |name: &&str| Method::from_name(name).is_some_and(|method| !method.is_all_pairs());
            assert!(!exact.instead.is_empty() && exact.instead.iter().all(streams), "{method}: {:?}", exact.instead);
        }
    }

    #[test]
    fn unsupported_options_are_refused_and_name_methods() {
        for method in Method::all() {
            method.check_supported(&Config::of(method)).expect("its own defaults");
        }
        let asked = Config { min_dist: Some(0.1), ..Config::of(Method::TSNE) };
        let told = Method::TSNE.check_supported(&asked).expect_err("refused").to_string();
        assert!(told.contains("min_dist") && told.contains("tsne does not have this option; umap does"), "{told}");
        let asked = Config { perplexity: Some(5.0), ..Config::of(Method::PACMAP) };
        let told = Method::PACMAP.check_supported(&asked).expect_err("refused").to_string();
        assert!(
            told.contains("pacmap does not have this option; largevis, infotsne, tsne, ") && told.ends_with(" do"),
            "{told}"
        );
    }
}
