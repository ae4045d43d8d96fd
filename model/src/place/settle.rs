//! The movement of rows of the map whose neighbours have changed.
//!
//! Such a row is moved as a new row is, with its neighbours of now, but it begins where it is. A spring pulls it to where
//! it was, and it goes no farther from there than a cap, nor farther than the cap from where it was first: from the position
//! that the last refit gave to it, or its placing. So a row that moves on many nights does not leave its part of the map. All other rows are where they are, also those that move in the
//! same update. A row with an exact copy on the map stays, so that copies lie together.
//!
//! The spring has [`SPRING`] times the coefficients by which the neighbours attract the row at the start. It is a share of
//! the attraction, because that differs by orders of magnitude between methods and between maps.
//!
//! What must hold: a row's new position depends on the snapshot, the settings and the row's vector alone.

use lowland_engine::Metric;
use rayon::prelude::*;

use super::forces::Forces;
use super::negatives::Negatives;
use super::row::{Row, Scratch};
use super::{Placer, ROWS, Rule, is_on_map};
use crate::Result;
use crate::diff::row_hash;

/// The stiffness of the spring over that of the neighbours' attraction at the start. On three nights of 40,000 text
/// embeddings the scores with .3, 1 and 3 are not told apart; rows then keep .81, .87 and .92 of their 15 nearest rows in the
/// map a night (`benches/record/2026-11-30-models.md`).
const SPRING: f32 = 3.0;
/// How far a row may move in one update, and how far from its first position in all updates until the next refit, over the
/// radius of the map ([`radius`](crate::measure::radius)). With this spring one in 25 rows that move reaches it in one update: it stops those that would leave their part of the map, and not the others. A refit may
/// move as many as one row in 20 by .05.
pub const MOVE_CAP: f64 = 0.02;

/// Where a row was moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Whether the cap held the row back in some epoch.
    pub capped: bool,
}

impl Placer<'_> {
    /// Moves the rows at `places` of the snapshot, each by its first `k` neighbours, at most by `cap` in the map, and no
    /// farther than `cap` from [`Snapshot::first_position`](crate::snapshot::Snapshot::first_position). Writes
    /// rows × components `positions`. Runs in the current thread pool of rayon.
    ///
    /// # Errors
    /// If a vector cannot be read.
    ///
    /// # Panics
    /// If `positions` has another number of rows than `places`.
    pub fn settle(&self, places: &[u32], k: usize, cap: f32, positions: &mut [f32]) -> Result<Vec<Settled>> {
        match &self.rule {
            Rule::Umap(forces) => self.settle_by(forces, places, k, cap, positions),
            Rule::LargeVis(forces) => self.settle_by(forces, places, k, cap, positions),
            Rule::InfoTsne(forces) => self.settle_by(forces, places, k, cap, positions),
            Rule::Tsne(forces) => self.settle_by(forces.as_ref(), places, k, cap, positions),
            Rule::Pacmap(forces) => self.settle_by(forces, places, k, cap, positions),
        }
    }

    fn settle_by<F: Forces>(
        &self,
        forces: &F,
        places: &[u32],
        k: usize,
        cap: f32,
        positions: &mut [f32],
    ) -> Result<Vec<Settled>> {
        let (width, dim) = (self.snapshot.n_components(), self.snapshot.dim());
        assert_eq!(positions.len(), places.len() * width, "a position for each row");
        let mut settled = vec![Settled { capped: false }; places.len()];
        let parts =
            positions.par_chunks_mut(ROWS * width).zip(settled.par_chunks_mut(ROWS)).zip(places.par_chunks(ROWS));
        parts.try_for_each_init(
            || (Scratch::new(width), vec![0f32; dim]),
            |(scratch, vector), ((out, settled), places)| -> Result<()> {
                for ((&place, out), settled) in places.iter().zip(out.chunks_exact_mut(width)).zip(settled) {
                    self.snapshot.read_vector(place, vector)?;
                    let mut row = Row { placer: self, hash: row_hash(vector), scratch };
                    settled.capped = row.settle(forces, place, k, cap, out);
                }
                Ok(())
            },
        )?;
        Ok(settled)
    }
}

impl Row<'_> {
    /// Writes the position to which the row at `place` moves. Returns whether the cap held it back in some
    /// epoch.
    fn settle<F: Forces>(&mut self, forces: &F, place: u32, k: usize, cap: f32, out: &mut [f32]) -> bool {
        let snapshot = self.placer.snapshot;
        let (home, first) = (snapshot.position(place), snapshot.first_position(place));
        // A row that was beyond the cap, in a map of a larger radius, is not brought back at once.
        let most = cap.max(distance(home, first) as f32);
        out.copy_from_slice(home);
        let (places, distances) = snapshot.neighbors(place);
        let on_map = || places.iter().zip(distances).take(k).filter(|&(&near, _)| is_on_map(snapshot, near));
        if !is_on_map(snapshot, place) || on_map().next().is_none_or(|(_, &distance)| distance <= 0.0) {
            return false;
        }
        let metric = self.placer.metric;
        self.scratch.squared.clear();
        self.scratch.squared.extend(on_map().map(|(_, &distance)| squared(metric, distance)));
        self.weigh(forces);
        self.gather(on_map().map(|(&near, _)| snapshot.position(near)), out.len());
        let start = forces.rate(self.placer.rate);
        let (mut spring, mut capped) = (0.0, false);
        for epoch in 0..self.placer.epochs {
            let rate = start * (1.0 - epoch as f32 / self.placer.epochs as f32);
            let mut negatives = Negatives::new(snapshot, self.placer.seed, self.hash, epoch).without(place);
            let stiffness = self.pull(forces, &mut negatives, out);
            if epoch == 0 {
                spring = SPRING * stiffness;
            }
            let step = rate / (1.0 + rate * (stiffness + spring));
            for ((own, &home), &force) in out.iter_mut().zip(home).zip(&self.scratch.force) {
                *own += step * (force - spring * (*own - home));
            }
            // `home` is within both, so that the second does not lead beyond the first.
            capped |= hold(out, home, cap) | hold(out, first, most);
        }
        if out.iter().all(|x| x.is_finite()) {
            return capped;
        }
        out.copy_from_slice(home);
        false
    }
}

/// Brings a position back to the distance `cap` from `home` if it is beyond. Returns whether it was.
fn hold(position: &mut [f32], home: &[f32], cap: f32) -> bool {
    let far = distance(position, home);
    if far <= f64::from(cap) {
        return false;
    }
    let share = f64::from(cap) / far;
    for (x, &home) in position.iter_mut().zip(home) {
        *x = (f64::from(home) + share * (f64::from(*x) - f64::from(home))) as f32;
    }
    true
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

/// Returns the squared Euclidean distance of prepared rows from the metric's distance: what [`Metric::distance`] undoes.
fn squared(metric: Metric, distance: f32) -> f32 {
    match metric {
        Metric::Euclidean => distance * distance,
        Metric::Cosine | Metric::Correlation => 2.0 * distance,
        Metric::Sqeuclidean | Metric::Hamming | Metric::Angular | Metric::Manhattan => distance,
    }
}

#[cfg(test)]
mod tests {
    use lowland_engine::{Method, Settings};

    use super::*;
    use crate::search::fixture::{Fixture, Rows};

    const METHODS: [Method; 5] = [Method::UMAP, Method::LARGEVIS, Method::INFOTSNE, Method::TSNE, Method::PACMAP];

    fn settle(of: &Fixture, method: Method, places: &[u32], cap: f32) -> (Vec<f32>, Vec<Settled>) {
        let settings = Settings { perplexity: 3.0, ..Settings::defaults_for(method, 430) };
        let placer = Placer::new(&settings, &of.snapshot, 2.0).expect("a placer");
        let mut positions = vec![f32::NAN; places.len() * 2];
        let settled = placer.settle(places, 8, cap, &mut positions).expect("moved");
        (positions, settled)
    }

    fn live(of: &Fixture) -> Vec<u32> {
        (0..of.snapshot.places()).filter(|&place| !of.snapshot.is_dead(place)).collect()
    }

    fn far(of: &Fixture, place: u32, position: &[f32]) -> f32 {
        let home = of.snapshot.position(place);
        (home[0] - position[0]).hypot(home[1] - position[1])
    }

    #[test]
    fn rows_move_at_most_as_far_as_the_cap_and_tell_when_they_reach_it() {
        let of = Rows::default().build();
        let places = live(&of);
        for method in METHODS {
            for cap in [1e-3f32, 1e6] {
                let (positions, settled) = settle(&of, method, &places, cap);
                let mut moved = 0;
                for ((&place, position), settled) in places.iter().zip(positions.chunks_exact(2)).zip(&settled) {
                    let far = far(&of, place, position);
                    assert!(far <= cap * 1.01, "{method}: {far}");
                    assert!(settled.capped || far < cap, "{method}: {far}");
                    moved += usize::from(far > 0.0);
                }
                assert!(moved > places.len() / 2, "{method}: {moved} rows moved");
                let capped = settled.iter().filter(|settled| settled.capped).count();
                assert_eq!(capped > 0, cap < 1.0, "{method}: {capped} rows came to the cap of {cap}");
            }
        }
    }

    #[test]
    fn a_position_depends_on_the_row_alone() {
        let of = Rows::default().build();
        let places = live(&of);
        for method in METHODS {
            let whole = settle(&of, method, &places, 0.5);
            for (threads, chunk) in [(1, 430), (3, 1), (2, 70)] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                for (part, rows) in places.chunks(chunk).enumerate() {
                    let some = pool.install(|| settle(&of, method, rows, 0.5));
                    let first = part * chunk;
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&some.0), bits(&whole.0[2 * first..][..2 * rows.len()]), "{method}");
                    assert_eq!(some.1, whole.1[first..][..rows.len()]);
                }
            }
        }
    }

    #[test]
    fn a_row_with_a_copy_stays_and_one_without_neighbours_too() {
        // Rows 0 and 1 are equal; all others are dead.
        let base = vec![1.0, 2.0, 1.0, 2.0, 5.0, 6.0];
        let rows = Rows { dim: 2, lists: 1, k: 2, base, delta: Vec::new(), dead: vec![], components: 2 };
        let of = rows.build();
        let alone = Rows { dead: vec![0, 1], ..rows }.build();
        for method in METHODS {
            for (of, place) in [(&of, 0), (&of, 1), (&alone, 2)] {
                let (position, settled) = settle(of, method, &[place], 1.0);
                assert_eq!(position, of.snapshot.position(place), "{method}: row {place}");
                assert!(!settled[0].capped);
            }
        }
    }

    #[test]
    fn distances_are_undone() {
        for metric in [Metric::Euclidean, Metric::Sqeuclidean, Metric::Cosine, Metric::Correlation, Metric::Hamming] {
            for square in [0.0f32, 0.25, 1.0, 4.0] {
                assert_eq!(squared(metric, metric.distance(square)), square, "{metric:?}");
            }
        }
    }
}
