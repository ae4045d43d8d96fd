//! One epoch of a method that weighs every edge in every epoch.
//!
//! A method is a [`Loss`]: what pulls and what pushes, each a function of the
//! squared distance d² in the map, as the coefficient of (zᵢ − zⱼ) in n times
//! the gradient. Every edge is in the store in both directions, so a row's
//! pull is complete; what pushes a row is drawn for it (`pool`), and counted
//! a second time for the rows that draw it in their turn, or comes from a `field`.
//!
//! What must hold: terms are summed sixteen lanes wide, in the order of the
//! edges, so that a row's step is the same on every instruction set and
//! whoever computes it.

use std::fmt::Debug;

use super::kernel::{Chunk, Epoch, Kernel};
use super::lanes::{LANES, Lanes};
use super::pool::{Pool, SHARING, away, gather};
use super::walk::{Coding, Part};
use crate::random::draw;
use crate::sum::total;

/// What moves a row of the map.
pub(crate) trait Loss: Copy + Sync + Debug {
    /// How edges are walked: their weights are roots or whole numbers.
    const CODING: Coding = Coding::Roots;
    /// Whether pushes come from a field over the whole map.
    const FIELD: bool = false;
    /// Whether what a row's pushes are multiplied by differs from row to row: by its mass.
    const MASSES: bool = false;

    /// What its kernels are called on a GPU, where it has them.
    const ON_DEVICE: Option<&'static str> = None;

    /// The weights of near and mid-near pairs, where it tells them apart.
    #[cfg(any(test, feature = "cuda"))]
    fn weights(self) -> [f32; 2] {
        [0.0; 2]
    }

    /// The loss as it is in an epoch.
    fn at(self, _: &Epoch) -> Self {
        self
    }

    /// The pull of an edge: the coefficient of zᵢ − zⱼ in n times the gradient,
    /// by its weight and d². For [`Coding::Roots`] weights of a row sum to
    /// about 1, as (pᵢⱼ + pⱼᵢ) / 2 of conditional probabilities do.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set.
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn pull<V: Lanes>(self, weight: V, squares: V) -> V;

    /// The push of a drawn row, as the same coefficient with its sign turned,
    /// and what it adds to the row's mass.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set.
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn push<V: Lanes>(self, squares: V) -> [V; 2];

    /// What a row's pushes are multiplied by, from its mass and the share of
    /// `asked` in `drawn`, which is rounded up to sixteen.
    fn share(self, _mass: f32, asked: u32, drawn: usize) -> f32 {
        asked as f32 / drawn as f32
    }
}

/// The kernel of a loss.
#[derive(Debug)]
pub(crate) struct Weighed<L>(pub(crate) L);

impl<L: Loss> Kernel for Weighed<L> {
    const CODING: Coding = L::CODING;
    const FIELD: bool = L::FIELD;
    const ON_DEVICE: bool = L::ON_DEVICE.is_some();

    #[cfg(any(test, feature = "cuda"))]
    fn on_device(&self, epoch: &Epoch) -> Option<super::cuda::OnDevice> {
        let since = epoch.stepper.since;
        L::ON_DEVICE.map(|name| super::cuda::OnDevice {
            name,
            betas: super::optimizer::BETAS,
            since,
            restart: since == 1,
            optimizer: epoch.stepper.optimizer,
            weights: self.0.at(epoch).weights(),
        })
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn advance<V: Lanes, const DIM: usize>(&self, chunk: Chunk<'_, DIM>) {
        let Chunk { epoch, block, first, snapshot, field, positions, moments } = chunk;
        let loss = self.0.at(epoch);
        // What makes every gather sound: each row that is about to be read exists.
        let from = (first - block.first_row) as usize;
        let part = block.part();
        let (from, to) = (part.offsets[from] as usize, part.offsets[from + positions.len()] as usize);
        let largest = part.neighbors[from..to].iter().fold(0, |most, &row| row.max(most));
        assert!((largest as usize) < snapshot.len(), "an edge leads to a row that there is not");
        let mut pool = Pool::new();
        for (i, (position, moments)) in positions.iter_mut().zip(moments.iter_mut()).enumerate() {
            let row = first + i as u32;
            let own = snapshot[row as usize];
            let place = (row - block.first_row) as usize;
            let edges = part.offsets[place] as usize..part.offsets[place + 1] as usize;
            if edges.is_empty() {
                // A row with no neighbours stays where it began: nothing would hold it.
                continue;
            }
            // SAFETY: as the caller vouches; the block's rows were just checked, and so are the epoch's.
            let (pulls, pushes) = unsafe {
                let pulls = pulled::<V, L, DIM>(loss, epoch.unit, part, edges, row, &own, snapshot);
                let pushes = match field {
                    Some(field) => field.at(&own),
                    None => {
                        if pool.of != row / SHARING {
                            pool.fill::<V>(epoch, row / SHARING, snapshot);
                            if L::MASSES {
                                weigh::<V, L, DIM>(loss, epoch.negatives, &mut pool);
                            }
                        }
                        let at = draw(epoch.seed, u64::from(epoch.drawn), u64::from(row)) as usize;
                        pushed::<V, L, DIM>(loss, epoch.negatives, &pool, at, &own)
                    }
                };
                (pulls, pushes)
            };
            let mut force = [0f32; DIM];
            for d in 0..DIM {
                force[d] = (-epoch.exaggeration).mul_add(pulls[d], pushes[d]);
            }
            epoch.stepper.step(force, own, position, moments);
        }
    }
}

/// The pulls of a row's edges, not exaggerated.
///
/// # Safety
/// The processor has `V`'s instruction set, and the edges' rows are within the snapshot.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn pulled<V: Lanes, L: Loss, const DIM: usize>(
    loss: L,
    unit: f32,
    part: Part<'_>,
    edges: std::ops::Range<usize>,
    row: u32,
    own: &[f32; DIM],
    snapshot: &[[f32; DIM]],
) -> [f32; DIM] {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sums = [V::splat(0.0); DIM];
        for at in edges.clone().step_by(LANES) {
            let wanted = (edges.end - at).min(LANES);
            // Lanes beyond the row's edges stand on the row itself and weigh nothing.
            let (mut neighbors, mut codes) = ([row; LANES], [0; LANES]);
            neighbors[..wanted].copy_from_slice(&part.neighbors[at..at + wanted]);
            codes[..wanted].copy_from_slice(&part.codes[at..at + wanted]);
            let code = V::widen(&codes);
            let weight = match L::CODING {
                Coding::Roots => {
                    let root = code.mul(V::splat(unit));
                    root.mul(root)
                }
                _ => code,
            };
            let away = away(&gather::<V, DIM>(snapshot, &neighbors), own);
            let pull = loss.pull(weight, squared(&away));
            for (sum, &away) in sums.iter_mut().zip(&away) {
                *sum = pull.mul_add(away, *sum);
            }
        }
        sums.map(|sum| total(sum.to_array()))
    }
}

/// How many groups of sixteen are drawn where `asked` rows are.
fn groups<const DIM: usize>(asked: u32) -> usize {
    (asked as usize).div_ceil(LANES).clamp(1, Pool::<DIM>::SIZE / LANES)
}

/// The pushes of `asked` rows of the pool from `at` on. Half of them are the
/// row's own draws; the others stand for the rows that draw it, each with its own share.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn pushed<V: Lanes, L: Loss, const DIM: usize>(
    loss: L,
    asked: u32,
    pool: &Pool<DIM>,
    mut at: usize,
    own: &[f32; DIM],
) -> [f32; DIM] {
    let groups = groups::<DIM>(asked);
    // SAFETY: as the caller vouches.
    unsafe {
        let none = V::splat(0.0);
        let (mut sums, mut theirs, mut masses) = ([none; DIM], [none; DIM], none);
        for _ in 0..groups {
            let away = away(&pool.load::<V>(at), own);
            let [push, mass] = loss.push(squared(&away));
            for (sum, &away) in sums.iter_mut().zip(&away) {
                *sum = push.mul_add(away, *sum);
            }
            if L::MASSES {
                let push = push.mul(pool.shares::<V>(at));
                for (sum, &away) in theirs.iter_mut().zip(&away) {
                    *sum = push.mul_add(away, *sum);
                }
            }
            masses = apart(squared(&away)).mul_add(mass, masses);
            at += LANES;
        }
        let share = loss.share(total(masses.to_array()), asked, groups * LANES);
        if !L::MASSES {
            return sums.map(|sum| share * total(sum.to_array()));
        }
        let mut out = [0f32; DIM];
        for d in 0..DIM {
            out[d] = 0.5 * share.mul_add(total(sums[d].to_array()), total(theirs[d].to_array()));
        }
        out
    }
}

/// Rows of the pool by which the mass of each of its rows is estimated.
const WEIGHED_BY: usize = 64;

/// Finds the shares of the pool's rows, by their masses among those that follow.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn weigh<V: Lanes, L: Loss, const DIM: usize>(loss: L, asked: u32, pool: &mut Pool<DIM>) {
    let drawn = groups::<DIM>(asked) * LANES;
    for from in (0..Pool::<DIM>::SIZE).step_by(LANES) {
        // SAFETY: as the caller vouches.
        let masses = unsafe {
            let (rows, mut masses) = (pool.load::<V>(from), V::splat(0.0));
            for other in 0..WEIGHED_BY {
                let away = away(&rows, &pool.row(from + LANES + other));
                let [_, mass] = loss.push(squared(&away));
                masses = apart(squared(&away)).mul_add(mass, masses);
            }
            masses.mul(V::splat(drawn as f32 / WEIGHED_BY as f32)).to_array()
        };
        pool.share(from, masses.map(|mass| loss.share(mass, asked, drawn)));
    }
}

/// d² of sixteen differences.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn squared<V: Lanes, const DIM: usize>(away: &[V; DIM]) -> V {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut squares = V::splat(0.0);
        for &d in away {
            squares = d.mul_add(d, squares);
        }
        squares
    }
}

/// 1, and 0 where a row draws itself, or a copy in its own place: those add no mass.
///
/// # Safety
/// The processor has `V`'s instruction set.
#[inline(always)]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn apart<V: Lanes>(squares: V) -> V {
    // SAFETY: as the caller vouches.
    unsafe { squares.mul(V::splat(1e30)).min(V::splat(1.0)) }
}
