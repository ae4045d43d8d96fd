//! The placement of one row.

use super::forces::{Forces, LANES, Lanes, squares_of, total};
use super::negatives::Negatives;
use super::{Placer, is_on_map};

/// The reusable memory of a thread.
pub(super) struct Scratch {
    /// Squared distances of the neighbours that are on the map.
    pub(super) squared: Vec<f32>,
    weights: Vec<f32>,
    /// Positions of the neighbours: sixteen at a time, component after component.
    neighbors: Vec<Lanes>,
    /// Weights of the neighbours, sixteen at a time, with 0 after the last.
    shares: Vec<Lanes>,
    away: Vec<Lanes>,
    pub(super) force: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(width: usize) -> Self {
        Scratch {
            squared: Vec::new(),
            weights: Vec::new(),
            neighbors: Vec::new(),
            shares: Vec::new(),
            away: vec![[0.0; LANES]; width],
            force: vec![0.0; width],
        }
    }

    /// Bytes held for rows of `k` neighbours on a map of `width` components.
    pub(super) fn bytes(k: usize, width: usize) -> u64 {
        // Vectors grow by doubling.
        (2 * k.next_multiple_of(LANES) * (width + 5) * 4 + width * (LANES + 1) * 4) as u64
    }
}

/// A row that is placed.
pub(super) struct Row<'a> {
    pub(super) placer: &'a Placer<'a>,
    /// Hash of the raw row.
    pub(super) hash: u64,
    pub(super) scratch: &'a mut Scratch,
}

impl Row<'_> {
    /// Writes the position of the row with these neighbours and squared distances to `out`. Returns false if none of
    /// them is on the map.
    pub(super) fn place<F: Forces>(
        &mut self,
        forces: &F,
        (places, squared): (&[u32], &[f32]),
        out: &mut [f32],
    ) -> bool {
        let snapshot = self.placer.snapshot;
        let on_map = || places.iter().zip(squared).filter(|&(&place, _)| is_on_map(snapshot, place));
        match on_map().next() {
            None => return false,
            Some((&place, &0.0)) => {
                out.copy_from_slice(snapshot.position(place));
                return true;
            }
            Some(_) => {}
        }
        self.scratch.squared.clear();
        self.scratch.squared.extend(on_map().map(|(_, &squared)| squared));
        self.weigh(forces);
        self.gather(on_map().map(|(&place, _)| snapshot.position(place)), out.len());
        self.begin(forces, out);
        let start = forces.rate(self.placer.rate);
        for epoch in 0..self.placer.epochs {
            let rate = start * (1.0 - epoch as f32 / self.placer.epochs as f32);
            let mut negatives = Negatives::new(snapshot, self.placer.seed, self.hash, epoch);
            self.step(forces, rate, &mut negatives, out);
        }
        true
    }

    /// Computes the weights of the neighbours.
    pub(super) fn weigh<F: Forces>(&mut self, forces: &F) {
        let Scratch { squared, weights, .. } = self.scratch;
        weights.clear();
        weights.resize(squared.len(), 0.0);
        forces.weigh(squared, self.placer.metric, self.placer.perplexity, weights);
        if weights.iter().sum::<f32>() <= 0.0 {
            weights.fill(1.0);
        }
    }

    /// Copies the neighbours' `positions`, of `width` components, and weights.
    pub(super) fn gather<'p>(&mut self, positions: impl Iterator<Item = &'p [f32]>, width: usize) {
        let Scratch { weights, neighbors, shares, .. } = &mut *self.scratch;
        let groups = weights.len().div_ceil(LANES);
        neighbors.clear();
        neighbors.resize(groups * width, [0.0; LANES]);
        shares.clear();
        shares.resize(groups, [0.0; LANES]);
        for (i, (position, &weight)) in positions.zip(weights.iter()).enumerate() {
            let (group, lane) = (i / LANES, i % LANES);
            shares[group][lane] = weight;
            for (neighbors, &x) in neighbors[group * width..].iter_mut().zip(position) {
                neighbors[lane] = x;
            }
        }
    }

    /// Writes the position of the neighbour to `out` to which the others, by their weights, are nearest. Of equal ones
    /// the nearest neighbour is taken.
    fn begin<F: Forces>(&mut self, forces: &F, out: &mut [f32]) {
        let width = out.len();
        let Scratch { weights, neighbors, shares, away, .. } = &mut *self.scratch;
        let mut most = f32::NEG_INFINITY;
        for lane in 0..weights.len().min(LANES) {
            let mut sum = 0f32;
            for (others, shares) in neighbors.chunks_exact(width).zip(shares.iter()) {
                for ((away, others), own) in away.iter_mut().zip(others).zip(neighbors.iter()) {
                    *away = std::array::from_fn(|i| own[lane] - others[i]);
                }
                let closeness = forces.closeness(&squares_of(away));
                let terms: Lanes = std::array::from_fn(|i| shares[i] * closeness[i]);
                sum += total(&terms);
            }
            if lane == 0 || sum > most {
                most = sum;
                out.iter_mut().zip(neighbors.iter()).for_each(|(out, own)| *out = own[lane]);
            }
        }
    }

    /// Moves the row at `own` by one epoch.
    fn step<F: Forces>(&mut self, forces: &F, rate: f32, negatives: &mut Negatives<'_>, own: &mut [f32]) {
        let stiffness = self.pull(forces, negatives, own);
        let step = rate / (1.0 + rate * stiffness);
        own.iter_mut().zip(&self.scratch.force).for_each(|(own, force)| *own += step * force);
    }

    /// Computes the force on the row at `own`, and returns the sum of the coefficients of its attraction.
    pub(super) fn pull<F: Forces>(&mut self, forces: &F, negatives: &mut Negatives<'_>, own: &[f32]) -> f32 {
        let width = own.len();
        let Scratch { neighbors, shares, away, force, .. } = &mut *self.scratch;
        force.fill(0.0);
        let (mut stiffness, mut weight) = (0f32, 0f32);
        for (neighbors, shares) in neighbors.chunks_exact(width).zip(shares.iter()) {
            for ((away, neighbors), &own) in away.iter_mut().zip(neighbors).zip(own.iter()) {
                *away = std::array::from_fn(|i| own - neighbors[i]);
            }
            let pull = forces.attraction(shares, &squares_of(away));
            stiffness += total(&pull);
            weight += total(shares);
            for (force, away) in force.iter_mut().zip(away.iter()) {
                let terms: Lanes = std::array::from_fn(|i| pull[i] * away[i]);
                *force -= total(&terms);
            }
        }
        forces.repel(own, weight, negatives, away, force);
        stiffness
    }
}
