//! What a method does to a new row: how it weighs the neighbours, how they attract, and what repels.
//!
//! Coefficients are those of the layout's kernels (`n` times the gradient), for sixteen rows at a time.

use lowland_engine::Metric;
use lowland_engine::affinity::{calibrate, entropic};
use lowland_engine::layout::curve::MembershipCurve;
use lowland_engine::layout::{RepulsionField, powers};

use super::negatives::Negatives;

/// Number of rows that are handled at a time.
pub(super) const LANES: usize = 16;
/// A number for each of sixteen rows.
pub(super) type Lanes = [f32; LANES];

/// Upper bound of the absolute value of one repulsive term in one component, as in umap-learn.
const MAX_TERM: f32 = 4.0;
/// Added to d² in UMAP's repulsion and attraction, as in the layout.
const REPULSION_SOFTENING: f32 = 0.001;
const ATTRACTION_SOFTENING: f32 = 1e-12;
/// A rate at which a step ends where the attraction alone is in balance.
const UNLIMITED: f32 = 1e12;

/// A method's forces on a new row.
pub(super) trait Forces: Sync {
    /// Writes the weights of the neighbours at these squared distances between prepared vectors, ascending.
    fn weigh(&self, squared: &[f32], metric: Metric, perplexity: f64, weights: &mut [f32]) {
        let costs: Vec<f64> = squared
            .iter()
            .map(|&squared| f64::from(if metric == Metric::Euclidean { squared } else { metric.distance(squared) }))
            .collect();
        entropic::calibrate(&costs, perplexity, weights);
    }

    /// Returns the rate at the start, given the run's.
    fn rate(&self, rate: f32) -> f32 {
        rate
    }

    /// Returns how close rows at these squared distances in the map are: 1 at most, 0 far away.
    fn closeness(&self, squares: &Lanes) -> Lanes {
        std::array::from_fn(|i| 1.0 / (1.0 + squares[i]))
    }

    /// Returns the coefficients of the attraction of sixteen neighbours, from their weights and squared distances in
    /// the map. They are not negative.
    fn attraction(&self, weights: &Lanes, squares: &Lanes) -> Lanes;

    /// Adds the repulsion of a row at `own` to `force`. `weight` is the sum of its neighbours' weights. `away` is
    /// scratch, one element a component.
    fn repel(&self, own: &[f32], weight: f32, negatives: &mut Negatives<'_>, away: &mut [Lanes], force: &mut [f32]);
}

/// Adds the numbers in a fixed order.
pub(super) fn total(lanes: &Lanes) -> f32 {
    let mut sums = *lanes;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

/// Returns the squared lengths of sixteen differences.
pub(super) fn squares_of(away: &[Lanes]) -> Lanes {
    let mut squares = [0f32; LANES];
    for away in away {
        for (square, away) in squares.iter_mut().zip(away) {
            *square += away * away;
        }
    }
    squares
}

/// Writes the differences of a row at `own` to sixteen drawn rows. A row that could not be drawn has no difference,
/// and therefore no force.
fn draw(own: &[f32], negatives: &mut Negatives<'_>, away: &mut [Lanes]) {
    for lane in 0..LANES {
        match negatives.next() {
            Some(position) => {
                for ((away, own), other) in away.iter_mut().zip(own).zip(position) {
                    away[lane] = own - other;
                }
            }
            None => away.iter_mut().for_each(|away| away[lane] = 0.0),
        }
    }
}

/// UMAP's cross-entropy (McInnes, Healy, Melville 2018).
pub(super) struct Umap {
    a: f32,
    b: f32,
    /// Number of negative samples for each neighbour of weight 1.
    negatives: usize,
}

impl Umap {
    pub(super) fn new(curve: MembershipCurve, negatives: usize) -> Self {
        Umap { a: curve.a as f32, b: curve.b as f32, negatives }
    }
}

impl Forces for Umap {
    fn weigh(&self, squared: &[f32], metric: Metric, _: f64, weights: &mut [f32]) {
        let distances: Vec<f32> = squared.iter().map(|&squared| metric.distance(squared)).collect();
        // The mean distance of all rows bounds the scale only of rows all of whose neighbours are copies; these take
        // the position of one.
        calibrate::calibrate_beyond(0.0, &distances, calibrate::target(distances.len() + 1), 0.0, weights);
        let most = weights.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        weights.iter_mut().for_each(|weight| *weight /= most);
    }

    fn closeness(&self, squares: &Lanes) -> Lanes {
        let mut power = *squares;
        powers(&mut power, self.b);
        std::array::from_fn(|i| 1.0 / (1.0 + self.a * power[i]))
    }

    fn attraction(&self, weights: &Lanes, squares: &Lanes) -> Lanes {
        let mut power = *squares;
        powers(&mut power, self.b);
        let pull = 2.0 * self.a * self.b;
        std::array::from_fn(|i| {
            weights[i] * (pull * power[i] / ((squares[i] + ATTRACTION_SOFTENING) * (1.0 + self.a * power[i])))
        })
    }

    fn repel(&self, own: &[f32], weight: f32, negatives: &mut Negatives<'_>, away: &mut [Lanes], force: &mut [f32]) {
        let asked = self.negatives as f32 * weight;
        if asked <= 0.0 {
            return;
        }
        let groups = (asked / LANES as f32).round().max(1.0);
        let share = asked / (groups * LANES as f32);
        for _ in 0..groups as usize {
            draw(own, negatives, away);
            let squares = squares_of(away);
            let mut power = squares;
            powers(&mut power, self.b);
            let push: Lanes = std::array::from_fn(|i| {
                2.0 * self.b / ((squares[i] + REPULSION_SOFTENING) * (1.0 + self.a * power[i]))
            });
            for (force, away) in force.iter_mut().zip(away.iter()) {
                let terms: Lanes = std::array::from_fn(|i| (push[i] * away[i]).clamp(-MAX_TERM, MAX_TERM));
                *force += share * total(&terms);
            }
        }
    }
}

/// Adds `factor` times the repulsion of drawn rows with coefficients `push`.
fn add_pushes(push: &Lanes, away: &[Lanes], factor: f32, force: &mut [f32]) {
    for (force, away) in force.iter_mut().zip(away) {
        let terms: Lanes = std::array::from_fn(|i| push[i] * away[i]);
        *force += factor * total(&terms);
    }
}

/// LargeVis (Tang, Liu, Zhang, Mei 2016), with Q = 1 / (2 + d²).
pub(super) struct LargeVis {
    pub(super) negatives: usize,
}

impl Forces for LargeVis {
    fn attraction(&self, weights: &Lanes, squares: &Lanes) -> Lanes {
        std::array::from_fn(|i| 4.0 * weights[i] / (2.0 + squares[i]))
    }

    fn repel(&self, own: &[f32], _: f32, negatives: &mut Negatives<'_>, away: &mut [Lanes], force: &mut [f32]) {
        let groups = self.negatives.div_ceil(LANES);
        let share = self.negatives as f32 / (groups * LANES).max(1) as f32;
        for _ in 0..groups {
            draw(own, negatives, away);
            let squares = squares_of(away);
            let push = std::array::from_fn(|i| 4.0 / ((1.0 + squares[i]) * (2.0 + squares[i])));
            add_pushes(&push, away, share, force);
        }
    }
}

/// InfoNC-t-SNE (Damrich, Böhm, Hamprecht, Kobak 2023). The repulsion is that of the row's own draws.
pub(super) struct InfoTsne {
    pub(super) negatives: usize,
}

impl Forces for InfoTsne {
    fn attraction(&self, weights: &Lanes, squares: &Lanes) -> Lanes {
        std::array::from_fn(|i| 4.0 * weights[i] / (1.0 + squares[i]))
    }

    fn repel(&self, own: &[f32], _: f32, negatives: &mut Negatives<'_>, away: &mut [Lanes], force: &mut [f32]) {
        let mut sums = [0f32; MOST_COMPONENTS];
        let mut mass = 0f32;
        for _ in 0..self.negatives.div_ceil(LANES) {
            draw(own, negatives, away);
            let squares = squares_of(away);
            let q: Lanes = std::array::from_fn(|i| 1.0 / (1.0 + squares[i]));
            // A row in the same place adds no mass.
            let masses = std::array::from_fn(|i| if squares[i] > 0.0 { q[i] } else { 0.0 });
            mass += total(&masses);
            let push = std::array::from_fn(|i| 4.0 * q[i] * q[i]);
            add_pushes(&push, away, 1.0, &mut sums[..force.len()]);
        }
        if mass > 0.0 {
            force.iter_mut().zip(sums).for_each(|(force, sum)| *force += sum / mass);
        }
    }
}

/// The largest number of components of a map.
const MOST_COMPONENTS: usize = 64;

/// t-SNE (van der Maaten, Hinton 2008), whose repulsion is the field of the map.
pub(super) struct Tsne {
    pub(super) field: RepulsionField,
}

impl Forces for Tsne {
    fn attraction(&self, weights: &Lanes, squares: &Lanes) -> Lanes {
        std::array::from_fn(|i| 4.0 * weights[i] / (1.0 + squares[i]))
    }

    fn repel(&self, own: &[f32], _: f32, _: &mut Negatives<'_>, _: &mut [Lanes], force: &mut [f32]) {
        if let (&[x, y], [force_x, force_y]) = (own, force) {
            let [by_x, by_y] = self.field.force_at(&[x, y]);
            *force_x += by_x;
            *force_y += by_y;
        }
    }
}

/// PaCMAP's near pairs (Wang, Huang, Rudin, Shaposhnik 2021): Q / (10 + Q) with Q = 1 + d².
pub(super) struct Pacmap;

impl Forces for Pacmap {
    fn weigh(&self, _: &[f32], _: Metric, _: f64, weights: &mut [f32]) {
        weights.fill(1.0);
    }

    fn rate(&self, _: f32) -> f32 {
        UNLIMITED
    }

    fn closeness(&self, squares: &Lanes) -> Lanes {
        std::array::from_fn(|i| 10.0 / (11.0 + squares[i]))
    }

    fn attraction(&self, weights: &Lanes, squares: &Lanes) -> Lanes {
        std::array::from_fn(|i| 20.0 * weights[i] / ((11.0 + squares[i]) * (11.0 + squares[i])))
    }

    fn repel(&self, _: &[f32], _: f32, _: &mut Negatives<'_>, _: &mut [Lanes], _: &mut [f32]) {}
}
