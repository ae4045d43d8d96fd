//! How distance is measured: the metrics, their names, and how rows are made
//! ready so that most of them are Euclidean.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How distance is measured, as the guide has it.
///
/// Methods that stream need rows near each other to be near under the Euclidean
/// distance of rows made ready, and so take all but the last two. Of these,
/// entropic affinities (LargeVis, InfoTSNE, t-SNE) weigh by the square of the
/// Euclidean distance, whichever of the two is named, as scikit-learn does, and by
/// the cosine, correlation and Hamming distance as they are; PaCMAP by the square as
/// well; UMAP by what is named. Exact methods take what is named for the cost of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Straight-line distance.
    #[default]
    Euclidean,
    /// Its square.
    Sqeuclidean,
    /// One minus the cosine of the angle. Rows are scaled to length 1 as they
    /// are read; a row of zeros, which has no direction, is refused.
    Cosine,
    /// One minus Pearson's correlation of the components: each row less its own mean,
    /// then cosine. A row whose components are all equal has no direction, and is refused.
    Correlation,
    /// How many components differ, of components that are 0 or 1; any other is
    /// refused. On these it is the squared Euclidean distance.
    Hamming,
    /// Minus the inner product of rows as they are. Exact methods only.
    Angular,
    /// The sum of the components' differences. Exact methods only.
    Manhattan,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 7] = [
        Metric::Euclidean,
        Metric::Sqeuclidean,
        Metric::Cosine,
        Metric::Correlation,
        Metric::Hamming,
        Metric::Angular,
        Metric::Manhattan,
    ];

    /// The metric's name.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Euclidean => "euclidean",
            Metric::Sqeuclidean => "sqeuclidean",
            Metric::Cosine => "cosine",
            Metric::Correlation => "correlation",
            Metric::Hamming => "hamming",
            Metric::Angular => "angular",
            Metric::Manhattan => "manhattan",
        }
    }

    /// Other names of it, in lower case: those of umap-learn, scikit-learn, FAISS and vector databases.
    pub fn aliases(self) -> &'static [&'static str] {
        match self {
            Metric::Euclidean => &["l2"],
            Metric::Sqeuclidean => &["squared_euclidean", "l2sq", "l2_squared"],
            Metric::Cosine => &["cos", "cosine_distance", "cosine_similarity"],
            Metric::Correlation => &["pearson"],
            Metric::Hamming => &[],
            Metric::Angular => &["inner_product", "innerproduct", "ip", "dot", "dotproduct", "dot_product"],
            Metric::Manhattan => &["l1", "cityblock", "taxicab"],
        }
    }

    /// The metric of a name or an alias, in any case; `-`, `_` and spaces are the same.
    pub fn named(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase().replace(['-', ' '], "_");
        Metric::ALL.into_iter().find(|metric| metric.name() == text || metric.aliases().contains(&text.as_str()))
    }

    /// Why lists and the join of them, and what is made of both, cannot go by it; none if they can.
    pub fn barred(self) -> Option<&'static str> {
        match self {
            Metric::Euclidean | Metric::Sqeuclidean | Metric::Cosine | Metric::Correlation | Metric::Hamming => None,
            Metric::Angular => Some(
                "angular is minus the inner product, under which a row need not be nearest to itself, and lists of near rows do not exist; cosine goes by the angle",
            ),
            Metric::Manhattan => {
                Some("manhattan distances are no matrix products, by which rows are compared here; euclidean is near")
            }
        }
    }

    /// Whether rows made ready have length 1.
    pub fn has_unit_rows(self) -> bool {
        matches!(self, Metric::Cosine | Metric::Correlation)
    }

    /// Whether [`distance`](Metric::distance) is a squared Euclidean one.
    pub fn is_square(self) -> bool {
        matches!(self, Metric::Sqeuclidean | Metric::Hamming)
    }

    /// Whether distances stay as they are where all rows are moved alike.
    pub fn ignores_shift(self) -> bool {
        matches!(self, Metric::Euclidean | Metric::Sqeuclidean | Metric::Manhattan)
    }

    /// Makes rows ready, so that from here on every metric is Euclidean. Rows without a direction
    /// become zeros where rows are to have length 1.
    pub fn prepare(self, rows: &mut [f32], dim: usize) {
        if !self.has_unit_rows() {
            return;
        }
        for row in rows.chunks_exact_mut(dim) {
            let mean = match self {
                // The mean of equal numbers may round to another one.
                Metric::Correlation if row.iter().all(|x| *x == row[0]) => f64::from(row[0]),
                Metric::Correlation => row.iter().map(|&x| f64::from(x)).sum::<f64>() / dim as f64,
                _ => 0.0,
            };
            let norm = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>().sqrt();
            match norm {
                0.0 => row.fill(0.0),
                // What is no number stays as it is read, to be told as that.
                norm if !norm.is_finite() => {}
                norm => row.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) / norm) as f32),
            }
        }
    }

    /// The metric's distance, from the squared Euclidean one of prepared rows; of a metric that is
    /// [barred](Metric::barred) there is none, and this is the square.
    pub fn distance(self, squared: f32) -> f32 {
        match self {
            Metric::Euclidean => squared.max(0.0).sqrt(),
            Metric::Sqeuclidean | Metric::Hamming | Metric::Angular | Metric::Manhattan => squared.max(0.0),
            // |u − v|² = 2 − 2 cos for rows of length 1.
            Metric::Cosine | Metric::Correlation => squared.max(0.0) * 0.5,
        }
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Metric::named(text).ok_or_else(|| format!("there are {}", Metric::ALL.map(Metric::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_in_any_case_and_none_is_there_twice() {
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(metric));
            assert_eq!(serde_json::to_value(metric).expect("JSON"), metric.name());
        }
        for (text, metric) in [
            ("L2", Metric::Euclidean),
            ("Euclidean", Metric::Euclidean),
            ("COSINE", Metric::Cosine),
            ("l1", Metric::Manhattan),
            ("cityblock", Metric::Manhattan),
            ("ip", Metric::Angular),
            ("dot", Metric::Angular),
            ("inner-product", Metric::Angular),
            ("Inner_Product", Metric::Angular),
            ("InnerProduct", Metric::Angular),
        ] {
            assert_eq!(Metric::named(text), Some(metric), "{text}");
        }
        let mut names: Vec<&str> =
            Metric::ALL.iter().flat_map(|metric| metric.aliases().iter().copied().chain([metric.name()])).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        let told = "minkowski".parse::<Metric>().expect_err("refused");
        assert!(told.contains("euclidean, sqeuclidean, cosine, correlation, hamming"), "{told}");
    }

    #[test]
    fn cosine_rows_have_length_one_and_zero_rows_stay() {
        let mut rows = [3.0, 4.0, 0.0, 0.0];
        Metric::Cosine.prepare(&mut rows, 2);
        assert_eq!(rows, [0.6, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn correlation_is_the_cosine_of_rows_less_their_means() {
        let (a, b) = ([1.0f32, 2.0, 4.0, 1e4], [9.0f32, -3.0, 0.5, 77.0]);
        let mut rows = [a, b, [0.1; 4], [7.0; 4]].concat();
        Metric::Correlation.prepare(&mut rows, 4);
        // Rows whose components are equal have no direction, whatever rounding makes of their mean.
        assert_eq!(rows[8..], [0.0; 8]);
        let mean = |row: &[f32]| row.iter().map(|&x| f64::from(x)).sum::<f64>() / 4.0;
        let sum = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - mean(a)) * (f64::from(y) - mean(b))).sum::<f64>()
        };
        let r = sum(&a, &b) / (sum(&a, &a) * sum(&b, &b)).sqrt();
        let squared: f32 = rows[..4].iter().zip(&rows[4..8]).map(|(x, y)| (x - y).powi(2)).sum();
        assert!((f64::from(Metric::Correlation.distance(squared)) - (1.0 - r)).abs() < 1e-6);
    }
}
