//! Tests the kernels' forces against finite differences of each loss in f64, on every instruction set.

use super::infotsne::InfoTsneLoss;
use super::largevis::LargeVisLoss;
use super::pacmap::PacmapLoss;
use super::tsne::Tsne;
use crate::layout::curve::MembershipCurve;
use crate::layout::field::RepulsionField;
use crate::layout::kernel::{Advance, Epoch, RowChunk};
use crate::layout::weighted::{EdgeLoss, WeightedKernel};
use crate::layout::{Optimizer, OptimizerStep, PackedBlock, WeightCode, root_unit};
use crate::random::unit;
use crate::simd::{InstructionSet, Portable, Simd};

const ROWS: usize = 60;

fn position(row: usize) -> [f32; 2] {
    std::array::from_fn(|d| 6.0 * unit(2, d as u64, row as u64) - 3.0)
}

/// Returns symmetric weights, above 0 for some of the pairs.
fn weight(a: usize, b: usize, coding: WeightCode) -> f64 {
    let draw = unit(9, a.min(b) as u64, a.max(b) as u64);
    match coding {
        _ if a == b || draw > 0.4 => 0.0,
        // Codes of pairs that are near from one end or both, mid-near from one end or both, and combinations.
        WeightCode::Counts => [1.0, 2.0, 4.0, 5.0, 8.0, 10.0][(draw * 15.0) as usize % 6],
        _ => f64::from(draw) / 10.0,
    }
}

fn walk(coding: WeightCode) -> PackedBlock {
    let (mut offsets, mut neighbors, mut codes) = (vec![0], vec![], vec![]);
    for a in 0..ROWS {
        for b in 0..ROWS {
            let weight = weight(a, b, coding);
            if weight > 0.0 {
                neighbors.push(b as u32);
                codes.push(match coding {
                    WeightCode::Counts => weight as u16,
                    _ => ((weight / 0.05).sqrt() * 65_535.0).round() as u16,
                });
            }
        }
        offsets.push(neighbors.len() as u32);
    }
    PackedBlock::from_parts(0, &offsets, &neighbors, &codes)
}

fn epoch(rate: f32, negatives: u32, seed: u64) -> Epoch {
    Epoch {
        curve: MembershipCurve { a: 1.0, b: 1.0 },
        number: 1,
        draw_epoch: 1,
        epochs: 450,
        stepper: OptimizerStep { optimizer: Optimizer::Momentum, rate, since: 1 },
        exaggeration: 3.0,
        negatives,
        unit: root_unit(0.05),
        rows: ROWS as u32,
        seed,
    }
}

/// Returns the force on each row, times the learning rate, as the kernel computes it.
fn forces<L: EdgeLoss>(loss: L, rate: f32, on: InstructionSet) -> Vec<[f32; 2]> {
    moved(loss, &epoch(rate, 40, 5), on)
}

fn moved<L: EdgeLoss>(loss: L, epoch: &Epoch, on: InstructionSet) -> Vec<[f32; 2]> {
    let walk = walk(L::WEIGHT_CODE);
    let snapshot: Vec<[f32; 2]> = (0..ROWS).map(position).collect();
    let mut field = RepulsionField::new(ROWS as u64);
    field.update(&snapshot).expect("numbers");
    let (mut positions, mut moments) = (snapshot.clone(), vec![[[0.0; 2]; 2]; ROWS]);
    let chunk = RowChunk {
        epoch,
        block: &walk,
        first: 0,
        snapshot: &snapshot,
        field: L::USES_FIELD.then_some(&field),
        positions: &mut positions,
        moments: &mut moments,
    };
    on.run(Advance { kernel: &WeightedKernel(loss), chunk });
    // The first velocity is the force times the learning rate.
    moments.iter().map(|m| m[0]).collect()
}

fn squared(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

/// Returns the derivative of `energy` by the two components of a position.
fn derivative(at: [f64; 2], energy: &dyn Fn([f64; 2]) -> f64) -> [f64; 2] {
    const STEP: f64 = 1e-5;
    std::array::from_fn(|d| {
        let moved = |by: f64| {
            let mut there = at;
            there[d] += by;
            energy(there)
        };
        (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
    })
}

/// Compares the kernel's forces on all rows with −n ∂L. `pull(w, d²)` is the amount that both directions of an
/// edge add to n·L, and `push` the amount that all rows add if one row is at a given position.
fn check_rows<L: EdgeLoss>(loss: L, tolerance: f64, pull: fn(f64, f64) -> f64, push: &dyn Fn(usize, [f64; 2]) -> f64) {
    const RATE: f32 = 1e-3;
    let found = forces(loss, RATE, InstructionSet::Portable(Portable));
    for on in InstructionSet::all() {
        assert_eq!(found, forces(loss, RATE, on), "{on:?}");
    }
    let places: Vec<[f64; 2]> = (0..ROWS).map(|row| position(row).map(f64::from)).collect();
    for row in 0..ROWS {
        let energy = |at: [f64; 2]| {
            let pulls: f64 = (0..ROWS)
                .filter(|&o| o != row)
                .map(|o| pull(weight(row, o, L::WEIGHT_CODE), squared(at, places[o])))
                .sum();
            3.0 * pulls + push(row, at)
        };
        let expected = derivative(places[row], &energy);
        let size = expected.iter().map(|x| x * x).sum::<f64>().sqrt().max(0.1);
        for d in 0..2 {
            let force = f64::from(found[row][d]) / f64::from(RATE);
            assert!((force + expected[d]).abs() < tolerance * size, "row {row}: {force}, and not {}", -expected[d]);
        }
    }
}

#[test]
fn tsne_forces_match_its_loss() {
    let places: Vec<[f64; 2]> = (0..ROWS).map(|row| position(row).map(f64::from)).collect();
    // n · log Σ q over all pairs, with one row moved.
    let push = |row: usize, at: [f64; 2]| {
        let place = |i: usize| if i == row { at } else { places[i] };
        let pairs = (0..ROWS).flat_map(|i| (0..ROWS).map(move |j| (i, j))).filter(|(i, j)| i != j);
        ROWS as f64 * pairs.map(|(i, j)| 1.0 / (1.0 + squared(place(i), place(j)))).sum::<f64>().ln()
    };
    check_rows(Tsne, 2e-3, |w, s| 2.0 * w * (1.0 + s).ln(), &push);
}

#[test]
fn repulsion_has_the_same_bits_on_every_instruction_set() {
    fn check<L: EdgeLoss>(loss: L) {
        let portable = forces(loss, 0.1, InstructionSet::Portable(Portable));
        assert!(portable.iter().flatten().all(|x| x.is_finite() && *x != 0.0));
        for on in InstructionSet::all() {
            assert_eq!(portable, forces(loss, 0.1, on), "{loss:?} {on:?}");
        }
    }
    check(LargeVisLoss);
    check(InfoTsneLoss);
    check(PacmapLoss::weighing(2.0, 900.0, 1.0));
}

/// A loss with the attraction of `L` and no repulsion.
#[derive(Debug, Clone, Copy)]
struct AttractionOnly<L>(L);

impl<L: EdgeLoss> EdgeLoss for AttractionOnly<L> {
    const WEIGHT_CODE: WeightCode = L::WEIGHT_CODE;
    #[inline(always)]
    fn attraction<S: Simd>(self, on: S, weight: S::Lanes, squares: S::Lanes) -> S::Lanes {
        self.0.attraction(on, weight, squares)
    }
    #[inline(always)]
    fn repulsion<S: Simd>(self, on: S, _: S::Lanes) -> [S::Lanes; 2] {
        [on.splat(0.0), on.splat(1.0)]
    }
}

#[test]
fn attraction_matches_each_loss() {
    check_rows(AttractionOnly(LargeVisLoss), 1e-4, |w, s| 2.0 * w * (2.0 + s).ln(), &|_, _| 0.0);
    check_rows(AttractionOnly(InfoTsneLoss), 1e-4, |w, s| 2.0 * w * (1.0 + s).ln(), &|_, _| 0.0);
    // Plain sums over pairs: an edge's count includes both directions.
    let pairs = |code: f64, s: f64| {
        let (middle, q) = ((code / 4.0).floor(), 1.0 + s);
        2.0 * (code - 4.0 * middle) * q / (10.0 + q) + 500.0 * middle * q / (1e4 + q)
    };
    check_rows(AttractionOnly(PacmapLoss::weighing(2.0, 500.0, 1.0)), 1e-4, pairs, &|_, _| 0.0);
}

/// A loss with the repulsion of `L` and no attraction.
#[derive(Debug, Clone, Copy)]
struct RepulsionOnly<L>(L);

impl<L: EdgeLoss> EdgeLoss for RepulsionOnly<L> {
    const USES_MASSES: bool = L::USES_MASSES;
    #[inline(always)]
    fn attraction<S: Simd>(self, on: S, _: S::Lanes, _: S::Lanes) -> S::Lanes {
        on.splat(0.0)
    }
    #[inline(always)]
    fn repulsion<S: Simd>(self, on: S, squares: S::Lanes) -> [S::Lanes; 2] {
        self.0.repulsion(on, squares)
    }
    fn repulsion_factor(self, mass: f32, asked: u32, drawn: usize) -> f32 {
        self.0.repulsion_factor(mass, asked, drawn)
    }
}

/// Returns the mean repulsion of each row over many draws.
fn mean_pushes<L: EdgeLoss>(loss: L, asked: u32) -> Vec<[f64; 2]> {
    const DRAWS: u64 = 4000;
    let mut sums = vec![[0f64; 2]; ROWS];
    for seed in 0..DRAWS {
        let steps = moved(RepulsionOnly(loss), &epoch(1e-3, asked, seed), InstructionSet::best());
        for (sum, step) in sums.iter_mut().zip(steps) {
            (0..2).for_each(|d| sum[d] += f64::from(step[d]) / 1e-3 / DRAWS as f64);
        }
    }
    sums
}

/// Compares the mean repulsion of each row over many draws with −n ∂L, where `energy` returns n·L from all
/// positions.
fn check_draws<L: EdgeLoss>(loss: L, tolerance: f64, energy: &dyn Fn(&[[f64; 2]]) -> f64) {
    let found = mean_pushes(loss, ASKED);
    let places: Vec<[f64; 2]> = (0..ROWS).map(|row| position(row).map(f64::from)).collect();
    let (mut worst, mut size) = (0f64, 0f64);
    for row in 0..ROWS {
        let energy = |at: [f64; 2]| {
            let mut there = places.clone();
            there[row] = at;
            energy(&there)
        };
        let expected = derivative(places[row], &energy);
        worst = (0..2).map(|d| (found[row][d] + expected[d]).abs()).fold(worst, f64::max);
        size = expected.iter().map(|x| x.abs()).fold(size, f64::max);
    }
    assert!(worst < tolerance * size, "{loss:?}: off by {worst:.1e} where the largest is {size:.1e}");
}

/// Number of negative samples: a multiple of sixteen.
const ASKED: u32 = 304;

#[test]
fn repulsion_matches_each_loss() {
    // The sum over all pairs, times the mean number of times that a pair is drawn.
    fn pairs(of: fn(f64) -> f64) -> impl Fn(&[[f64; 2]]) -> f64 {
        move |at| {
            let each = (0..ROWS).flat_map(|i| (0..ROWS).map(move |j| (i, j))).filter(|(i, j)| i != j);
            each.map(|(i, j)| of(squared(at[i], at[j]))).sum::<f64>() * f64::from(ASKED) / ROWS as f64
        }
    }
    check_draws(LargeVisLoss, 0.01, &pairs(|s| -(1.0 - 1.0 / (2.0 + s)).ln()));
    check_draws(PacmapLoss::weighing(0.0, 0.0, 1.0), 0.01, &pairs(|s| 1.0 / (2.0 + s)));
    let contrast = |at: &[[f64; 2]]| {
        let mass = |i: usize| (0..ROWS).filter(|&j| j != i).map(|j| 1.0 / (1.0 + squared(at[i], at[j]))).sum::<f64>();
        (0..ROWS).map(|i| mass(i).ln()).sum()
    };
    // The tolerance is larger, because the mean of 1 / mass over few draws is larger than 1 / mass of all rows.
    check_draws(InfoTsneLoss, 0.03, &contrast);
}

#[test]
fn repulsion_is_independent_of_the_number_of_draws() {
    let [five, sixteen] = [5, 16].map(|asked| mean_pushes(LargeVisLoss, asked));
    let size = sixteen.iter().flatten().fold(0f64, |most, x| most.max(x.abs()));
    for (five, sixteen) in five.iter().flatten().zip(sixteen.iter().flatten()) {
        assert!((five - sixteen * 5.0 / 16.0).abs() < 0.02 * size, "{five}, and of sixteen {sixteen}");
    }
}

#[test]
fn pacmap_phases_match_the_paper() {
    let weights = |number: u32| {
        format!("{:?}", PacmapLoss::weighing(0.0, 0.0, 0.0).in_epoch(&Epoch { number, ..epoch(1.0, 1, 5) }))
    };
    let of = |near: f32, middle: f32| format!("{:?}", PacmapLoss::weighing(near, middle, 1.0));
    assert_eq!(weights(1), of(2.0, 1000.0));
    assert_eq!(weights(51), of(2.0, 501.5));
    assert_eq!((weights(101), weights(200)), (of(3.0, 3.0), of(3.0, 3.0)));
    assert_eq!((weights(201), weights(450)), (of(1.0, 0.0), of(1.0, 0.0)));
}

#[test]
fn every_method_on_gpu_equals_cpu() {
    use crate::layout::cuda::shim::{all_widths, in_the_plane};
    for optimizer in Optimizer::ALL {
        all_widths(&WeightedKernel(LargeVisLoss), optimizer, 35);
        all_widths(&WeightedKernel(InfoTsneLoss), optimizer, 100);
        all_widths(&WeightedKernel(PacmapLoss::weighing(0.0, 0.0, 0.0)), optimizer, 20);
        in_the_plane(&WeightedKernel(Tsne), optimizer);
    }
}
