//! The table that ties each method to its arithmetic, above all stages. The names, options and defaults of the
//! methods belong to [`crate::Method`].
//!
//! A method that streams is a loss over edges, as a kernel of the layout; the edges are weighed by its input
//! affinity. A method that computes all pairs is a [`Problem`].
//!
//! The defaults of a method's layout:
//!
//! ```
//! use lowland_engine::{Method, methods};
//!
//! let options = methods::options(Method::TSNE, 10_000)?;
//! assert_eq!((options.n_components, options.early_exaggeration), (2, 12.0));
//! // Methods that compute all pairs have no layout over edges.
//! assert!(methods::options(Method::from_name("sne").unwrap(), 10_000).is_err());
//! # Ok::<(), lowland_engine::Error>(())
//! ```

mod all_pairs;
#[cfg(test)]
mod gradients;
mod infotsne;
mod largevis;
mod pacmap;
mod tsne;

use crate::all_pairs::Problem;
use crate::config::{Method, MethodId, Settings};
use crate::layout::umap::UmapKernel;
use crate::layout::weighted::WeightedKernel;
use crate::layout::{self, LayoutObjective};
use crate::{Error, Result};

/// A method's arithmetic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Recipe {
    /// The loss over edges, as the layout's kernel.
    Streamed(&'static dyn LayoutObjective),
    /// Returns the problem over all pairs that the settings describe. Positions from a file are not read yet.
    AllPairs(fn(&Settings) -> Problem),
}

/// Returns the arithmetic of a method.
pub(crate) fn recipe(method: Method) -> Recipe {
    match method.id() {
        MethodId::Umap => Recipe::Streamed(&UmapKernel),
        MethodId::LargeVis => Recipe::Streamed(&WeightedKernel(largevis::LargeVisLoss)),
        MethodId::InfoTsne => Recipe::Streamed(&WeightedKernel(infotsne::InfoTsneLoss)),
        MethodId::Tsne => Recipe::Streamed(&WeightedKernel(tsne::Tsne)),
        MethodId::Pacmap => Recipe::Streamed(&WeightedKernel(pacmap::PacmapLoss::UNWEIGHED)),
        MethodId::Sne => Recipe::AllPairs(all_pairs::sne),
        MethodId::TsneExact => Recipe::AllPairs(all_pairs::tsne),
        MethodId::TsneKhorn => Recipe::AllPairs(all_pairs::tsnekhorn),
        MethodId::Cosne => Recipe::AllPairs(all_pairs::cosne),
        MethodId::AffinityMatcher => Recipe::AllPairs(all_pairs::affinity_matcher),
        MethodId::Phate => Recipe::AllPairs(all_pairs::phate),
    }
}

/// Returns the loss of a method that streams.
///
/// # Errors
/// [`Error::Config`] if the method computes all pairs.
pub fn objective(method: Method) -> Result<&'static dyn LayoutObjective> {
    match recipe(method) {
        Recipe::Streamed(objective) => Ok(objective),
        Recipe::AllPairs(_) => {
            let why = format!("{method} compares all pairs, and has no edges to lay out");
            Err(Error::Config { field: "method", why })
        }
    }
}

/// Returns the problem that the settings describe. Positions from a file are not read yet.
///
/// # Errors
/// [`Error::Config`] if the settings' method streams.
pub(crate) fn problem(settings: &Settings) -> Result<Problem> {
    match recipe(settings.method) {
        Recipe::AllPairs(problem) => Ok(problem(settings)),
        Recipe::Streamed(_) => {
            let why = format!("{} streams, and is not a method of all pairs", settings.method);
            Err(Error::Config { field: "method", why })
        }
    }
}

/// Returns a method's default options of the layout, for a map of `rows` rows in the plane whose edge weights are
/// at most 1.
///
/// # Errors
/// [`Error::Config`] if the method computes all pairs.
pub fn options(method: Method, rows: u32) -> Result<layout::LayoutOptions> {
    Ok(layout::LayoutOptions::for_method(objective(method)?, method, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::all_pairs::{AffinityMatcher, Cosne, Entropic, Phate, Sne, Tsne, TsneKhorn, map_affinity_of, needs};
    use crate::config::NamedMapAffinity;

    #[test]
    fn a_method_streams_or_computes_all_pairs_in_both_tables() {
        for method in Method::all() {
            match recipe(method) {
                Recipe::Streamed(objective) => {
                    assert!(!method.is_all_pairs() && objective.uses_field() == method.has_field(), "{method}");
                }
                Recipe::AllPairs(_) => assert!(method.is_all_pairs() && !method.has_field(), "{method}"),
            }
        }
    }

    #[test]
    fn all_pairs_epochs_match_their_problems() {
        let matcher = AffinityMatcher::new(Entropic::default(), map_affinity_of(NamedMapAffinity::Student));
        for (name, own) in [
            ("sne", Sne::default().descent),
            ("tsne-exact", Tsne::default().descent),
            ("tsnekhorn", TsneKhorn::default().descent),
            ("cosne", Cosne::default().descent),
            ("phate", Phate::default().descent),
            ("affinity-matcher", matcher.descent),
        ] {
            assert_eq!(Method::from_name(name).map(|method| method.epochs(100)), Some(own.max_iter), "{name}");
        }
    }

    #[test]
    fn problem_needs_bound_what_is_allocated() {
        for method in Method::all().filter(|method| method.is_all_pairs()) {
            let problem = problem(&Settings::defaults_for(method, 2_000)).expect("all pairs");
            let small = needs(&problem, 2_000, 64, 2, 0);
            let large = needs(&problem, 8_000, 64, 2, 0);
            assert!(small.needs.bytes() > 2_000 * 64 * 4, "{}", method.name());
            assert!(large.operations() > 10.0 * small.operations(), "{}", method.name());
            // Only PHATE's memory grows with the square of the rows.
            let growth = large.needs.bytes() as f64 / small.needs.bytes() as f64;
            assert_eq!(growth > 5.0, method.name() == "phate", "{}: {growth}", method.name());
            let held = needs(&problem, 2_000, 64, 2, u64::MAX);
            assert_eq!(held.hold > 0, method.name() == "tsnekhorn", "{}", method.name());
            assert!(held.needs.bytes() <= small.needs.bytes() + held.hold);
        }
    }
}
