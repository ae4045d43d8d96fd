//! The only table of options: which methods have an option, and its default for each. The help, the
//! documentation and the code read defaults from here.
//!
//! What must hold: a default in a text is computed from the settings that a run without options uses.

use super::{Config, Init, MatchLoss, Method, NamedAffinity, NamedMapAffinity, Optimizer, Settings};
use crate::error::format_count;
use crate::metric::Metric;

/// An option of [`Config`] whose default depends on the method, or that only some methods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodOption {
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

impl MethodOption {
    /// All options, in the order of [`Config`]'s fields.
    pub const ALL: [MethodOption; 16] = [
        MethodOption::NNeighbors,
        MethodOption::Perplexity,
        MethodOption::NComponents,
        MethodOption::MinDist,
        MethodOption::Spread,
        MethodOption::Metric,
        MethodOption::Init,
        MethodOption::NEpochs,
        MethodOption::NegativeSampleRate,
        MethodOption::NNegatives,
        MethodOption::EarlyExaggeration,
        MethodOption::Optimizer,
        MethodOption::Affinity,
        MethodOption::MapAffinity,
        MethodOption::Loss,
        MethodOption::LearningRate,
    ];

    /// Returns the name of the field of [`Config`].
    pub fn name(self) -> &'static str {
        match self {
            MethodOption::NNeighbors => "n_neighbors",
            MethodOption::Perplexity => "perplexity",
            MethodOption::NComponents => "n_components",
            MethodOption::MinDist => "min_dist",
            MethodOption::Spread => "spread",
            MethodOption::Metric => "metric",
            MethodOption::Init => "init",
            MethodOption::NEpochs => "n_epochs",
            MethodOption::NegativeSampleRate => "negative_sample_rate",
            MethodOption::NNegatives => "n_negatives",
            MethodOption::EarlyExaggeration => "early_exaggeration",
            MethodOption::Optimizer => "optimizer",
            MethodOption::Affinity => "affinity",
            MethodOption::MapAffinity => "map_affinity",
            MethodOption::Loss => "loss",
            MethodOption::LearningRate => "learning_rate",
        }
    }

    /// Returns what the option is, in one sentence without a full stop.
    pub fn help(self) -> String {
        match self {
            MethodOption::NNeighbors => "Neighbours of each row, not counting the row itself".into(),
            MethodOption::Perplexity => "Effective number of neighbours; three times as many are searched".into(),
            MethodOption::NComponents => "Components of the map, 1 to 64; tsne supports only 2".into(),
            MethodOption::MinDist => "Minimum distance of neighbours in the map, from 0 to spread".into(),
            MethodOption::Spread => "Scale of the map's distances".into(),
            MethodOption::Metric => format!(
                "Distance between two rows of the data: {}; with all-pairs methods also {}",
                Metric::list(|metric| metric.unsupported_reason().is_none()),
                Metric::list(|metric| metric.unsupported_reason().is_some())
            ),
            MethodOption::Init => "First positions: centroid, pca, random, or a file: an .npy of rows × components, or an earlier map (.parquet, .arrow), joined by the column of ids".into(),
            MethodOption::NEpochs => {
                "Passes over the edges; for exact methods, the maximum number of iterations".into()
            }
            MethodOption::NegativeSampleRate => "Negative samples for each edge".into(),
            MethodOption::NNegatives => "Negative samples for each row".into(),
            MethodOption::EarlyExaggeration => {
                "Factor of the attraction in the first 250 epochs, or in the first third".into()
            }
            MethodOption::Optimizer => format!(
                "Optimizer: {}; gains is momentum with a gain for each component",
                list_of(&Optimizer::ALL.map(Optimizer::name))
            ),
            MethodOption::Affinity => {
                format!("Affinity of the rows: {}", list_of(&NamedAffinity::ALL.map(NamedAffinity::name)))
            }
            MethodOption::MapAffinity => {
                format!("Affinity of the map: {}", list_of(&NamedMapAffinity::ALL.map(NamedMapAffinity::name)))
            }
            MethodOption::Loss => {
                format!("Loss that compares the two affinities: {}", list_of(&MatchLoss::ALL.map(MatchLoss::name)))
            }
            MethodOption::LearningRate => {
                "Step size of the first epoch; with umap, largevis and infotsne it falls to 0 \
                                           over the epochs"
                    .into()
            }
        }
    }

    /// Returns whether every method has the option.
    pub(super) fn is_common(self) -> bool {
        matches!(
            self,
            MethodOption::NComponents
                | MethodOption::Metric
                | MethodOption::Init
                | MethodOption::NEpochs
                | MethodOption::LearningRate
        )
    }

    /// Returns whether `config` sets the option.
    pub fn is_set(self, config: &Config) -> bool {
        match self {
            MethodOption::NNeighbors => config.n_neighbors.is_some(),
            MethodOption::Perplexity => config.perplexity.is_some(),
            MethodOption::NComponents => config.n_components.is_some(),
            MethodOption::MinDist => config.min_dist.is_some(),
            MethodOption::Spread => config.spread.is_some(),
            MethodOption::Metric => config.metric.is_some(),
            MethodOption::Init => config.init.is_some(),
            MethodOption::NEpochs => config.n_epochs.is_some(),
            MethodOption::NegativeSampleRate => config.negative_sample_rate.is_some(),
            MethodOption::NNegatives => config.n_negatives.is_some(),
            MethodOption::EarlyExaggeration => config.early_exaggeration.is_some(),
            MethodOption::Optimizer => config.optimizer.is_some(),
            MethodOption::Affinity => config.affinity.is_some(),
            MethodOption::MapAffinity => config.map_affinity.is_some(),
            MethodOption::Loss => config.loss.is_some(),
            MethodOption::LearningRate => config.learning_rate.is_some(),
        }
    }

    /// Returns the methods that have the option, in the order of [`Method::all`].
    pub fn methods(self) -> impl Iterator<Item = Method> {
        Method::all().filter(move |method| method.supports(self))
    }

    /// Returns the names of the methods that have the option.
    pub fn method_names(self) -> Vec<&'static str> {
        self.methods().map(Method::name).collect()
    }

    /// Returns, as text, the option's default for `method` with no other option set.
    pub fn default_of(self, method: Method) -> String {
        let own = Settings::defaults_for(method, USUAL_ROWS);
        match self {
            MethodOption::NNeighbors => own.n_neighbors.to_string(),
            MethodOption::Perplexity => own.perplexity.to_string(),
            MethodOption::NComponents => own.n_components.to_string(),
            MethodOption::MinDist => own.min_dist.to_string(),
            MethodOption::Spread => own.spread.to_string(),
            MethodOption::Metric => own.metric.name().into(),
            MethodOption::Init => match own.init {
                Init::Centroid => "centroid".into(),
                Init::Pca => "pca".into(),
                Init::Random => "random".into(),
                Init::File(path) => path.display().to_string(),
            },
            MethodOption::NEpochs => method.epochs_text(),
            MethodOption::NegativeSampleRate => own.negative_sample_rate.to_string(),
            MethodOption::NNegatives => own.n_negatives.to_string(),
            MethodOption::EarlyExaggeration => own.early_exaggeration.to_string(),
            MethodOption::Optimizer => own.optimizer.name().into(),
            MethodOption::Affinity => own.affinity.name().into(),
            MethodOption::MapAffinity => own.map_affinity.name().into(),
            MethodOption::Loss => own.loss.name().into(),
            MethodOption::LearningRate => method.step_rule().into(),
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
            _ => format!("{} {value}", join_names(names)),
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

/// Number of rows for which defaults are printed that do not depend on the number of rows.
const USUAL_ROWS: u64 = 10_000;

/// Joins names: "a, b and c".
fn join_names(names: &[&str]) -> String {
    match names {
        [some @ .., last] if !some.is_empty() => format!("{} and {last}", some.join(", ")),
        names => names.concat(),
    }
}

/// Joins names as "a, b or c".
fn list_of(names: &[&str]) -> String {
    match names {
        [some @ .., last] if !some.is_empty() => format!("{} or {last}", some.join(", ")),
        names => names.concat(),
    }
}

/// A number that depends on the number of rows in steps: pairs of the largest number of rows and the number, in
/// ascending order. The last pair holds for all larger numbers of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepsByRows(pub(crate) &'static [(u64, usize)]);

impl StepsByRows {
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
            text += &format!("{number} up to {}{rows}, ", format_count(*most));
        }
        if some.is_empty() { last.to_string() } else { format!("{text}{last} above") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_texts_match_defaults() {
        for (opt, text) in [
            (MethodOption::NNeighbors, "15; pacmap 10; affinity-matcher 30"),
            (MethodOption::Perplexity, "30"),
            (MethodOption::NComponents, "2"),
            (MethodOption::NNegatives, "35; infotsne 300"),
            (MethodOption::Init, "centroid; sne, tsne-exact, tsnekhorn, affinity-matcher and phate pca; cosne random"),
        ] {
            assert_eq!(opt.default_text(), text, "{}", opt.name());
        }
        let epochs = MethodOption::NEpochs.default_text();
        assert!(epochs.contains("umap 500 up to 10,000 rows, 300 up to 100,000, 200 above"), "{epochs}");
        let exaggeration = MethodOption::EarlyExaggeration.default_text();
        assert!(exaggeration.contains("infotsne, tsne, tsne-exact and cosne 12"), "{exaggeration}");
    }

    #[test]
    fn steps_include_their_last_row() {
        let steps = StepsByRows(&[(10, 5), (100, 3), (u64::MAX, 2)]);
        assert_eq!([1, 10, 11, 100, 101].map(|rows| steps.at(rows)), [5, 5, 3, 3, 2]);
    }
}
