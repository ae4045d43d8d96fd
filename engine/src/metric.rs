//! The metrics, their names, and the preparation of rows that turns most metrics into the Euclidean distance.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A metric.
///
/// Streamed methods need rows that are near in the metric to be near in Euclidean distance after
/// preparation, and therefore support all metrics but the last two. Entropic affinities (LargeVis,
/// InfoTSNE, t-SNE) use the squared distance for both Euclidean metrics, as scikit-learn does, and the
/// cosine, correlation and Hamming distance unchanged. PaCMAP uses the squared distance too; UMAP uses
/// the named metric. All-pairs methods use the named metric as the cost of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// |x − y|.
    #[default]
    Euclidean,
    /// |x − y|².
    Sqeuclidean,
    /// One minus the cosine of the angle. Rows are scaled to length 1 as they are read; a row of zeros
    /// has no direction and is refused.
    Cosine,
    /// One minus Pearson's correlation of the components: the row's mean is subtracted, then the cosine
    /// distance is used. A row whose components are all equal has no direction and is refused.
    Correlation,
    /// Number of components that differ. Components must be 0 or 1; other values are refused. On 0 and 1
    /// it equals the squared Euclidean distance.
    Hamming,
    /// Minus the inner product of the unchanged rows. All-pairs methods only.
    Angular,
    /// Σ |x − y|. All-pairs methods only.
    Manhattan,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 7] = [
        Metric::Euclidean,
        Metric::Sqeuclidean,
        Metric::Cosine,
        Metric::Correlation,
        Metric::Hamming,
        Metric::Angular,
        Metric::Manhattan,
    ];

    /// Returns the metric's name.
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

    /// Returns other names of the metric, in lower case, as used by umap-learn, scikit-learn, FAISS and
    /// vector databases.
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

    /// Returns the metric of a name or alias. Upper and lower case are equal, and so are `-`, `_` and spaces.
    pub fn from_name(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase().replace(['-', ' '], "_");
        Metric::ALL.into_iter().find(|metric| metric.name() == text || metric.aliases().contains(&text.as_str()))
    }

    /// Returns the names of the selected metrics for a help text, each with its shortest other name.
    pub fn list(selected: impl Fn(Metric) -> bool) -> String {
        let name = |metric: Metric| match metric.aliases().iter().min_by_key(|alias| alias.len()) {
            Some(alias) => format!("{} ({alias})", metric.name()),
            None => metric.name().into(),
        };
        Metric::ALL.into_iter().filter(|&metric| selected(metric)).map(name).collect::<Vec<_>>().join(", ")
    }

    /// Returns why streamed methods do not support the metric; none if they do.
    pub fn unsupported_reason(self) -> Option<&'static str> {
        match self {
            Metric::Euclidean | Metric::Sqeuclidean | Metric::Cosine | Metric::Correlation | Metric::Hamming => None,
            Metric::Angular => Some(
                "angular is minus the inner product, for which a row may not be its own nearest neighbour, so inverted lists do not work; cosine compares angles",
            ),
            Metric::Manhattan => Some(
                "manhattan distances cannot be computed by matrix products, which streaming methods need; euclidean is similar",
            ),
        }
    }

    /// Returns whether prepared rows have length 1.
    pub fn has_unit_rows(self) -> bool {
        matches!(self, Metric::Cosine | Metric::Correlation)
    }

    /// Returns whether [`distance`](Metric::distance) is a squared Euclidean distance.
    pub fn is_square(self) -> bool {
        matches!(self, Metric::Sqeuclidean | Metric::Hamming)
    }

    /// Returns whether adding the same vector to all rows leaves distances unchanged.
    pub fn ignores_shift(self) -> bool {
        matches!(self, Metric::Euclidean | Metric::Sqeuclidean | Metric::Manhattan)
    }

    /// Prepares rows so that the Euclidean distance represents the metric. If rows are to have length 1,
    /// rows without a direction become zeros.
    pub fn prepare(self, rows: &mut [f32], dim: usize) {
        if !self.has_unit_rows() {
            return;
        }
        for row in rows.chunks_exact_mut(dim) {
            let mean = match self {
                // The mean of equal numbers may round to a different number.
                Metric::Correlation if row.iter().all(|x| *x == row[0]) => f64::from(row[0]),
                Metric::Correlation => row.iter().map(|&x| f64::from(x)).sum::<f64>() / dim as f64,
                _ => 0.0,
            };
            let norm = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>().sqrt();
            match norm {
                0.0 => row.fill(0.0),
                // A row with NaN or infinite components is left unchanged, so that it can be reported.
                norm if !norm.is_finite() => {}
                norm => row.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) / norm) as f32),
            }
        }
    }

    /// Returns the metric's distance from the squared Euclidean distance of prepared rows. For an
    /// [unsupported](Metric::unsupported_reason) metric it returns the squared distance.
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
        Metric::from_name(text).ok_or_else(|| format!("the metrics are {}", Metric::ALL.map(Metric::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_are_unique_in_any_case() {
        for metric in Metric::ALL {
            assert_eq!(Metric::from_name(metric.name()), Some(metric));
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
            assert_eq!(Metric::from_name(text), Some(metric), "{text}");
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
        // Rows whose components are equal have no direction, whatever the rounding of their mean.
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
