//! Positions for new rows on a map whose rows do not move.
//!
//! A new row begins at the position of one of its neighbours: the one to which the others are nearest in the map, by
//! the weights that the method gives them. It is then moved for a few epochs by the method's own forces. Only the new
//! row moves. A row that is an exact copy of a live row takes that row's position.
//!
//! umap-learn, TorchDR and openTSNE begin at a mean of the neighbours instead. Where the neighbours lie in several parts
//! of the map, their mean lies between these parts, and a few epochs do not always lead from there into one of them: on
//! 5,000 rows of text embeddings the mean cost .008 of trustworthiness.
//!
//! - `umap`: the weights are those of umap-learn's `transform`, which calibrates with ρ = 0, as TorchDR 0.5 does too:
//!   the nearest row of the map does not get weight 1 by definition. Forces are the expectation of what umap-learn's
//!   steps sample: every neighbour attracts in proportion to its weight.
//! - `largevis`, `infotsne`: entropic weights of the run's perplexity and the losses of the run, as in TorchDR 0.5.
//! - `tsne`: entropic weights of the run's perplexity; the repulsion is the map's field, computed once. openTSNE
//!   normalises it for each new row; here it has the Z of the map, by which the map's own rows were placed.
//! - `pacmap`: as in PaCMAP's own `transform`, only near pairs attract, and nothing repels. Its loss is then minimised
//!   by weighted means.
//!
//! The step of an epoch is implicit in the attraction: with the coefficients cⱼ of the neighbours and the rate η, the
//! row moves by η·F / (1 + η Σ cⱼ). It never moves beyond what attracts it, however strong that is. η begins at a
//! quarter of the run's rate and falls to 0, as in umap-learn and TorchDR.
//!
//! A row of the map whose neighbours changed is moved by the same forces (`settle.rs`).
//!
//! What must hold: a row's position depends on the snapshot, the settings, the row's neighbours and its hash alone.
//! Sums have a fixed order, products and sums are rounded one by one, and powers are the engine's, so that the bits
//! are the same on every machine and for any number of threads.

mod forces;
mod negatives;
mod reach;
mod row;
mod settle;
#[cfg(test)]
mod tests;

use lowland_engine::layout::{LayoutOptions, Optimizer, RepulsionField};
use lowland_engine::{Error as EngineError, Method, Metric, Settings, methods};
use rayon::prelude::*;

use forces::{Forces, InfoTsne, LargeVis, Pacmap, Tsne, Umap};
use row::{Row, Scratch};

pub use reach::reach;
pub use settle::{MOVE_CAP, Settled};

use crate::Result;
use crate::search::Found;
use crate::snapshot::Snapshot;

/// Number of epochs of a new row: a third of the run's, and no more than this. More epochs do not improve the scores of
/// placed rows.
const MOST_EPOCHS: usize = 30;
/// Share of the run's learning rate with which new rows begin.
const RATE_SHARE: f32 = 0.25;
/// The sum of a row's steps by momentum, over one step: 1 / (1 − 0.8).
const MOMENTUM_GAIN: f32 = 5.0;
/// Number of rows that a thread places at a time.
const ROWS: usize = 64;

/// Places new rows on the map of a snapshot.
pub struct Placer<'a> {
    snapshot: &'a Snapshot,
    metric: Metric,
    rule: Rule,
    /// 99th percentile of the training rows' distances to their centroids.
    reach: f32,
    epochs: usize,
    rate: f32,
    seed: u64,
    perplexity: f64,
}

/// The method's forces.
enum Rule {
    Umap(Umap),
    LargeVis(LargeVis),
    InfoTsne(InfoTsne),
    Tsne(Box<Tsne>),
    Pacmap(Pacmap),
}

impl<'a> Placer<'a> {
    /// Creates the placement by `settings`, those of the run that made the map of `snapshot`. `reach` is the
    /// [`reach`](fn@reach) of the training rows. For t-SNE the field of the map is computed.
    ///
    /// # Errors
    /// If the method compares all pairs, or the map has another number of components than the settings.
    pub fn new(settings: &Settings, snapshot: &'a Snapshot, reach: f32) -> Result<Self> {
        let rows = snapshot.live().max(1);
        let objective = methods::objective(settings.method)?;
        let options = LayoutOptions::from_settings(objective, settings, rows, settings.n_epochs);
        if settings.n_components != snapshot.n_components() {
            let why = format!("{}, but the map has {}", settings.n_components, snapshot.n_components());
            return Err(EngineError::Config { field: "n_components", why }.into());
        }
        let negatives = options.negatives;
        let rule = match settings.method {
            method if method == Method::UMAP => Rule::Umap(Umap::new(options.curve, negatives)),
            method if method == Method::LARGEVIS => Rule::LargeVis(LargeVis { negatives }),
            method if method == Method::INFOTSNE => Rule::InfoTsne(InfoTsne { negatives }),
            method if method == Method::TSNE => Rule::Tsne(Box::new(Tsne { field: field_of(snapshot)? })),
            method if method == Method::PACMAP => Rule::Pacmap(Pacmap),
            method => {
                let why = format!("{method} has no way to place new rows");
                return Err(EngineError::Config { field: "method", why }.into());
            }
        };
        // Forces are n times the gradient, as in the layout.
        let rate = match (options.optimizer, options.learning_rate) {
            (Optimizer::Adam, asked) => asked.unwrap_or(1.0),
            (_, Some(asked)) => asked / rows as f32 * MOMENTUM_GAIN,
            (_, None) => 0.25 * MOMENTUM_GAIN,
        };
        Ok(Placer {
            snapshot,
            metric: settings.metric,
            rule,
            reach,
            epochs: (settings.n_epochs / 3).clamp(1, MOST_EPOCHS),
            rate: RATE_SHARE * rate,
            seed: settings.seed,
            perplexity: settings.perplexity,
        })
    }

    /// Returns the bytes that a placement on a map of `rows` rows holds, beside what it returns.
    pub fn bytes(settings: &Settings, rows: u64, k: usize, threads: usize) -> u64 {
        // The positions of the live rows are held while the field is computed.
        let field = if settings.method == Method::TSNE { RepulsionField::bytes(rows) + rows * 8 } else { 0 };
        field + threads as u64 * Scratch::bytes(k, settings.n_components)
    }

    /// Places the rows whose neighbours were `found`. `hashes` are the hashes of the raw rows, the keys of their random
    /// numbers. Writes rows × components `positions`, and for each row its outlier score: the distance to the nearest
    /// centroid over the reach; above 1 means farther than 99 % of the training rows. Runs in the current thread pool
    /// of rayon.
    ///
    /// # Errors
    /// A row without any neighbour on the map.
    ///
    /// # Panics
    /// If the slices differ in their numbers of rows.
    pub fn place(&self, found: &Found, hashes: &[u64], positions: &mut [f32], outliers: &mut [f32]) -> Result<()> {
        match &self.rule {
            Rule::Umap(forces) => self.place_by(forces, found, hashes, positions)?,
            Rule::LargeVis(forces) => self.place_by(forces, found, hashes, positions)?,
            Rule::InfoTsne(forces) => self.place_by(forces, found, hashes, positions)?,
            Rule::Tsne(forces) => self.place_by(forces.as_ref(), found, hashes, positions)?,
            Rule::Pacmap(forces) => self.place_by(forces, found, hashes, positions)?,
        }
        assert_eq!(outliers.len(), found.queries(), "one score for each row");
        for (outlier, &squared) in outliers.iter_mut().zip(&found.list_distances) {
            let distance = self.metric.distance(squared);
            // Training rows that all equal their centroids have no reach.
            *outlier = if distance == 0.0 { 0.0 } else { distance / self.reach };
        }
        Ok(())
    }

    fn place_by<F: Forces>(&self, forces: &F, found: &Found, hashes: &[u64], positions: &mut [f32]) -> Result<()> {
        let width = self.snapshot.n_components();
        assert!(
            hashes.len() == found.queries() && positions.len() == hashes.len() * width,
            "a hash and a position for each row"
        );
        positions.par_chunks_mut(ROWS * width).enumerate().try_for_each_init(
            || Scratch::new(width),
            |scratch, (chunk, out)| {
                for (i, out) in out.chunks_exact_mut(width).enumerate() {
                    let query = chunk * ROWS + i;
                    let mut row = Row { placer: self, hash: hashes[query], scratch };
                    if !row.place(forces, found.of(query), out) {
                        let what = format!("row {query} has no neighbour on the map: the map has no rows");
                        return Err(EngineError::Data { what }.into());
                    }
                }
                Ok(())
            },
        )
    }
}

/// Returns the repulsive field of the live rows.
fn field_of(snapshot: &Snapshot) -> Result<RepulsionField> {
    let live = (0..snapshot.places()).filter(|&place| is_on_map(snapshot, place));
    let positions: Vec<[f32; 2]> = live.filter_map(|place| snapshot.position(place).try_into().ok()).collect();
    let mut field = RepulsionField::new(positions.len() as u64);
    if !positions.is_empty() {
        field.update(&positions)?;
    }
    Ok(field)
}

/// Whether a place is that of a live row with a position.
fn is_on_map(snapshot: &Snapshot, place: u32) -> bool {
    !snapshot.is_dead(place) && snapshot.position(place).iter().all(|x| x.is_finite())
}
