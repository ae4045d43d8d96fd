//! The only table of options: which methods have an option, and its default for each. The help, the
//! documentation and the code read defaults from here.
//!
//! What must hold: a default in a text is computed from the settings that a run without options uses.

use super::{Config, Init, Method, Settings};

/// An option of [`Config`] whose default depends on the method, or that only some methods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opt {
    /// [`Config::n_neighbors`].
    NNeighbors,
    /// [`Config::perplexity`].
    Perplexity,
    /// [`Config::n_components`].
    NComponents,
    /// [`Config::min_dist`].
    MinDist,
    /// [`Config::spread`].
    Spread,
    /// [`Config::metric`].
    Metric,
    /// [`Config::init`].
    Init,
    /// [`Config::n_epochs`].
    NEpochs,
    /// [`Config::negative_sample_rate`].
    NegativeSampleRate,
    /// [`Config::n_negatives`].
    NNegatives,
    /// [`Config::early_exaggeration`].
    EarlyExaggeration,
    /// [`Config::optimizer`].
    Optimizer,
    /// [`Config::affinity`].
    Affinity,
    /// [`Config::map_affinity`].
    MapAffinity,
    /// [`Config::loss`].
    Loss,
    /// [`Config::learning_rate`].
    LearningRate,
}

impl Opt {
    /// All options, in the order of [`Config`]'s fields.
    pub const ALL: [Opt; 16] = [
        Opt::NNeighbors,
        Opt::Perplexity,
        Opt::NComponents,
        Opt::MinDist,
        Opt::Spread,
        Opt::Metric,
        Opt::Init,
        Opt::NEpochs,
        Opt::NegativeSampleRate,
        Opt::NNegatives,
        Opt::EarlyExaggeration,
        Opt::Optimizer,
        Opt::Affinity,
        Opt::MapAffinity,
        Opt::Loss,
        Opt::LearningRate,
    ];

    /// Returns the name of the field of [`Config`].
    pub fn name(self) -> &'static str {
        match self {
            Opt::NNeighbors => "n_neighbors",
            Opt::Perplexity => "perplexity",
            Opt::NComponents => "n_components",
            Opt::MinDist => "min_dist",
            Opt::Spread => "spread",
            Opt::Metric => "metric",
            Opt::Init => "init",
            Opt::NEpochs => "n_epochs",
            Opt::NegativeSampleRate => "negative_sample_rate",
            Opt::NNegatives => "n_negatives",
            Opt::EarlyExaggeration => "early_exaggeration",
            Opt::Optimizer => "optimizer",
            Opt::Affinity => "affinity",
            Opt::MapAffinity => "map_affinity",
            Opt::Loss => "loss",
            Opt::LearningRate => "learning_rate",
        }
    }

    /// Returns whether every method has the option.
    pub(super) fn is_common(self) -> bool {
        matches!(self, Opt::NComponents | Opt::Metric | Opt::Init | Opt::NEpochs | Opt::LearningRate)
    }

    /// Returns whether `config` sets the option.
    pub fn is_asked(self, config: &Config) -> bool {
        match self {
            Opt::NNeighbors => config.n_neighbors.is_some(),
            Opt::Perplexity => config.perplexity.is_some(),
            Opt::NComponents => config.n_components.is_some(),
            Opt::MinDist => config.min_dist.is_some(),
            Opt::Spread => config.spread.is_some(),
            Opt::Metric => config.metric.is_some(),
            Opt::Init => config.init.is_some(),
            Opt::NEpochs => config.n_epochs.is_some(),
            Opt::NegativeSampleRate => config.negative_sample_rate.is_some(),
            Opt::NNegatives => config.n_negatives.is_some(),
            Opt::EarlyExaggeration => config.early_exaggeration.is_some(),
            Opt::Optimizer => config.optimizer.is_some(),
            Opt::Affinity => config.affinity.is_some(),
            Opt::MapAffinity => config.map_affinity.is_some(),
            Opt::Loss => config.loss.is_some(),
            Opt::LearningRate => config.learning_rate.is_some(),
        }
    }

    /// Returns the methods that have the option, in the order of [`Method::all`].
    pub fn methods(self) -> impl Iterator<Item = Method> {
        Method::all().filter(move |method| method.knows(self))
    }

    /// Returns the names of the methods that have the option.
    pub fn known_to(self) -> Vec<&'static str> {
        self.methods().map(Method::name).collect()
    }

    /// Returns, as text, the option's default for `method` with no other option set.
    pub fn default_of(self, method: Method) -> String {
        let own = Settings::of(method, USUAL_ROWS);
        match self {
            Opt::NNeighbors => own.n_neighbors.to_string(),
            Opt::Perplexity => own.perplexity.to_string(),
            Opt::NComponents => own.n_components.to_string(),
            Opt::MinDist => own.min_dist.to_string(),
            Opt::Spread => own.spread.to_string(),
            Opt::Metric => own.metric.name().into(),
            Opt::Init => match own.init {
                Init::Centroid => "centroid".into(),
                Init::Pca => "pca".into(),
                Init::Random => "random".into(),
                Init::File(path) => path.display().to_string(),
            },
            Opt::NEpochs => method.epochs_text(),
            Opt::NegativeSampleRate => own.negative_sample_rate.to_string(),
            Opt::NNegatives => own.n_negatives.to_string(),
            Opt::EarlyExaggeration => own.early_exaggeration.to_string(),
            Opt::Optimizer => own.optimizer.name().into(),
            Opt::Affinity => own.affinity.name().into(),
            Opt::MapAffinity => own.map_affinity.name().into(),
            Opt::Loss => own.loss.name().into(),
            Opt::LearningRate => method.step_rule().into(),
        }
    }

    /// Returns the option's defaults by method, for the help. The most common default comes first; each other
    /// one names its methods, as in "15; pacmap 10; affinity-matcher 30".
    pub fn default_text(self) -> String {
        let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
        for method in self.methods() {
            let default = self.default_of(method);
            match groups.iter_mut().find(|(value, _)| *value == default) {
                Some((_, names)) => names.push(method.name()),
                None => groups.push((default, vec![method.name()])),
            }
        }
        let most = groups.iter().map(|(_, names)| names.len()).max().unwrap_or(0);
        let usual = groups.iter().position(|(_, names)| names.len() == most).unwrap_or(0);
        if usual < groups.len() {
            let group = groups.remove(usual);
            groups.insert(0, group);
        }
        let told = groups.iter().enumerate().map(|(i, (value, names))| match i {
            0 => value.clone(),
            _ => format!("{} {value}", listed(names)),
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

/// Number of rows for which defaults are printed that do not depend on the number of rows.
const USUAL_ROWS: u64 = 10_000;

/// Joins names: "a, b and c".
fn listed(names: &[&str]) -> String {
    match names {
        [some @ .., last] if !some.is_empty() => format!("{} and {last}", some.join(", ")),
        names => names.concat(),
    }
}

/// A number that depends on the number of rows in steps: pairs of the largest number of rows and the number, in
/// ascending order. The last pair holds for all larger numbers of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps(pub(crate) &'static [(u64, usize)]);

impl Steps {
    /// Returns the number for `rows` rows; 0 if there are no steps.
    pub(crate) fn at(self, rows: u64) -> usize {
        let step = self.0.iter().find(|(most, _)| rows <= *most).or(self.0.last());
        step.map_or(0, |&(_, number)| number)
    }

    /// Formats the steps: "500 up to 10,000 rows, 300 up to 100,000, 200 above".
    pub(super) fn text(self) -> String {
        let [some @ .., (_, last)] = self.0 else { return "0".into() };
        let mut text = String::new();
        for (i, (most, number)) in some.iter().enumerate() {
            let rows = if i == 0 { " rows" } else { "" };
            text += &format!("{number} up to {}{rows}, ", grouped(*most));
        }
        if some.is_empty() { last.to_string() } else { format!("{text}{last} above") }
    }
}

/// Formats a number with commas between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_told_as_they_are() {
        for (opt, text) in [
            (Opt::NNeighbors, "15; pacmap 10; affinity-matcher 30"),
            (Opt::Perplexity, "30"),
            (Opt::NComponents, "2"),
            (Opt::NNegatives, "35; infotsne 300"),
            (Opt::Init, "centroid; sne, tsne-exact, tsnekhorn, affinity-matcher and phate pca; cosne random"),
        ] {
            assert_eq!(opt.default_text(), text, "{}", opt.name());
        }
        let epochs = Opt::NEpochs.default_text();
        assert!(epochs.contains("umap 500 up to 10,000 rows, 300 up to 100,000, 200 above"), "{epochs}");
        let exaggeration = Opt::EarlyExaggeration.default_text();
        assert!(exaggeration.contains("infotsne, tsne, tsne-exact and cosne 12"), "{exaggeration}");
    }

    #[test]
    fn steps_hold_up_to_and_with_their_rows() {
        let steps = Steps(&[(10, 5), (100, 3), (u64::MAX, 2)]);
        assert_eq!([1, 10, 11, 100, 101].map(|rows| steps.at(rows)), [5, 5, 3, 3, 2]);
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
    }
}
