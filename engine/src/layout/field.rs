//! The repulsive force of all rows on all rows in linear time, for maps in the plane (FIt-SNE: Linderman,
//! Rachh, Hoskins, Steinerberger, Kluger 2019): the rows' charges are spread on a regular grid, convolved with
//! the kernel by FFT, and the force is interpolated between the nodes. Nodes have equal distances over the
//! whole grid, and a row's weights are the cubic ones of its four nearest nodes on each axis.
//!
//! With t-SNE's kernel q = 1 / (1 + d²), the force on a row at y is Σⱼ q² (y − yⱼ), and the normalisation of
//! all rows is Z = Σᵢ≠ⱼ q. The force and Z follow from the charges' transform ρ̂: the force is one inverse
//! transform (its two components are the real and the imaginary part), and Z is Σ |ρ̂|² q̂ without an inverse
//! transform (Parseval).
//!
//! What must hold: every sum has a fixed order (rows by the strip of the grid that they lie in, then by number;
//! strips in order), and the transform is the scalar one, so that the bits depend neither on threads nor on
//! instruction sets. The distance of nodes is at most [`MAX_STEP`] while the map is no wider than the plan allows
//! for (a map of n rows is about 0.7 √n wide). The forces' error is then at most 1 % of their root mean square
//! over the rows, and the error of Z at most 5·10⁻⁴ of Z. A wider map has a larger distance of nodes; at twice
//! the distance the errors are 2 % and 10⁻³.
//!
//! q and q² d share one transform in f32. In a map that is much narrower than 1, q is about 1 and q² d is as
//! small as the map, so that a plain sum would round q² d away, and all forces with it. Therefore q² d is first
//! multiplied by a power of two ([`FieldGrid::odd_scale`]) that makes it about as large as q, and the forces are
//! divided by it.

use rayon::prelude::*;
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlannerScalar};
use std::sync::Arc;

use crate::Result;

/// The largest distance of nodes, where the plan's largest grid allows for it.
const MAX_STEP: f64 = 1.0 / 3.0;
/// The smallest number of nodes on a side.
const MIN_NODES: usize = 64;
/// Number of nodes on each axis that a row's charge is spread over.
const NODES_PER_ROW: usize = 4;
/// Number of grid rows that one task fills.
const STRIP: usize = 8;
/// Number of grid columns that one task transforms: the complex numbers in one cache line.
const COLUMNS: usize = 8;

type Complex32 = Complex<f32>;

/// Factor between successive distances of nodes, 2^(1/4): the distance changes in steps so that the kernel's
/// transform is seldom computed anew.
const STEP_RATIO: f64 = 1.189_207_115_002_721;

/// Returns the largest number of nodes on a side, for a map of this many rows.
fn max_nodes(rows: u64) -> usize {
    fft_size((2.5 * (rows as f64).sqrt()) as usize).clamp(256, 2048)
}

/// Returns the smallest number from `least` on that is a multiple of 8 and has no prime factor above 5.
fn fft_size(least: usize) -> usize {
    let only = |mut n: usize| {
        for prime in [2, 3, 5] {
            while n.is_multiple_of(prime) {
                n /= prime;
            }
        }
        n == 1
    };
    (least.div_ceil(8).max(1)..).find(|&n| only(n)).map_or(least, |n| 8 * n)
}

/// Returns the bytes that a field of this many rows takes.
pub(super) fn bytes(rows: u64) -> u64 {
    let side = max_nodes(rows) as u64;
    // `force` and `columns`, the kernel's transform (twice while it is computed), and the rows sorted by strip.
    side * side * (2 * 2 * 8 + 2 * 8) + (1 << 20) + rows * 4
}

/// Returns the largest number of f32 of the force on all nodes, in a GPU's memory.
pub(super) fn force_floats(rows: u64) -> usize {
    2 * max_nodes(rows).pow(2)
}

/// The parameters of a field that a GPU needs besides the forces.
#[cfg(any(test, feature = "cuda"))]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FieldNodes {
    pub(super) side: u32,
    pub(super) step: f64,
    pub(super) origin: [f64; 2],
    /// Factor of the interpolated forces.
    pub(super) factor: f32,
}

/// Returns the approximate number of multiply-adds of a field's transforms in one epoch.
pub(crate) fn operations(rows: u64) -> f64 {
    // A map is assumed to be two thirds as wide as the largest grid.
    let side = max_nodes(rows) as f64 / 1.5;
    3.0 * side * side * 2.0 * 5.0 * side.log2()
}

/// The repulsive field of all rows' charges, in the plane: t-SNE's forces of all rows on a row anywhere.
///
/// ```
/// use lowland_engine::layout::RepulsionField;
///
/// let mut field = RepulsionField::new(2);
/// field.update(&[[0.0, 0.0], [1.0, 0.0]])?;
/// let [along, across] = field.force_at(&[3.0, 0.0]);
/// assert!(along > 0.0 && across.abs() < 1e-3);
/// # Ok::<(), lowland_engine::Error>(())
/// ```
pub struct RepulsionField {
    /// The largest number of nodes on a side.
    most: usize,
    grid: FieldGrid,
    /// The force on each node, in lines of `2 * side` of which the first half is used.
    force: Vec<Complex32>,
    /// The columns between the transforms along y and the last transform along x.
    columns: Vec<Complex32>,
    /// The kernel's transform for kx, ky ≤ side. The real part is q̂, the imaginary part is the x component of
    /// the transform of q² d, divided by i.
    kernel: Vec<Complex32>,
    /// Side and step of the grid that `kernel` was computed for.
    of: (usize, f64),
    plan: Option<Arc<dyn Fft<f32>>>,
    back: Option<Arc<dyn Fft<f32>>>,
    order: Vec<u32>,
    /// Factor of the interpolated forces: 4 n / Z, divided by the scale of the inverse transform and of the
    /// kernel's odd part.
    factor: f32,
    /// The larger side of the map's bounding box.
    extent: f64,
    /// Z: Σ q over all pairs of different rows.
    total: f64,
}

/// The position of the nodes: node (i, j) lies at (origin + (i, j)) · step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct FieldGrid {
    side: usize,
    step: f64,
    origin: [f64; 2],
}

impl FieldGrid {
    /// Returns a grid of at most `most` nodes on a side for positions in `least..=greatest`.
    fn covering(least: [f32; 2], greatest: [f32; 2], most: usize) -> FieldGrid {
        let place = |step: f64| {
            let origin = least.map(|x| (f64::from(x) / step).floor() - 1.0);
            let last = greatest.map(|x| (f64::from(x) / step).floor() + 2.0);
            ((last[0] - origin[0]).max(last[1] - origin[1]) as usize + 1, origin)
        };
        let mut step = MAX_STEP;
        while place(step).0 > most {
            step *= STEP_RATIO;
        }
        while step > 1e-30 && place(step / STEP_RATIO).0 <= MIN_NODES {
            step /= STEP_RATIO;
        }
        let (side, origin) = place(step);
        FieldGrid { side: fft_size(side.max(MIN_NODES)), step, origin }
    }

    /// Returns the factor of q² d where q² d is transformed together with q. The factor is 1 if the grid is
    /// wide enough for q² d to reach its largest value, 0.32 at d = 1/√3; otherwise the factor is the power of
    /// two that brings the value of q² d at a distance of the grid's width to between 1/2 and 1.
    fn odd_scale(&self) -> f64 {
        let width = self.side as f64 * self.step;
        if width >= 0.5 { 1.0 } else { (-width.log2().ceil()).exp2() }
    }

    /// Returns the first of the four nodes of a coordinate on one axis, and their weights.
    #[inline(always)]
    fn nodes_of(&self, x: f32, axis: usize) -> (usize, [f32; NODES_PER_ROW]) {
        let place = f64::from(x) / self.step - self.origin[axis];
        let before = place.floor();
        let t = (place - before) as f32;
        // The weights of the cubic polynomial through the values at −1, 0, 1 and 2.
        let (a, b, c) = (t + 1.0, t - 1.0, t - 2.0);
        let weights = [-t * b * c / 6.0, a * b * c / 2.0, -a * t * c / 2.0, a * t * b / 6.0];
        // NaN falls on the edge of the grid; `RepulsionField::update` refuses such positions.
        ((before as usize).saturating_sub(1).min(self.side - NODES_PER_ROW), weights)
    }

    /// Returns Σ q of all rows with themselves, as the grid approximates it: about 1 for each row.
    fn self_interaction(&self, positions: &[[f32; 2]]) -> f64 {
        // q between nodes at each distance, doubled where two directions have that distance.
        let q: [[f64; NODES_PER_ROW]; NODES_PER_ROW] = std::array::from_fn(|j| {
            std::array::from_fn(|i| {
                let ways = if i == 0 { 1.0 } else { 2.0 } * if j == 0 { 1.0 } else { 2.0 };
                ways / (1.0 + ((i * i + j * j) as f64) * self.step * self.step)
            })
        });
        // Sums of products of a row's weights at each distance.
        let shifted = |weights: [f32; NODES_PER_ROW]| -> [f64; NODES_PER_ROW] {
            std::array::from_fn(|by| weights.iter().zip(&weights[by..]).map(|(a, b)| f64::from(a * b)).sum())
        };
        let parts: Vec<f64> = positions
            .par_chunks(1 << 14)
            .map(|rows| {
                let own = |row: &[f32; 2]| {
                    let (x, y) = (shifted(self.nodes_of(row[0], 0).1), shifted(self.nodes_of(row[1], 1).1));
                    q.iter().zip(y).map(|(q, y)| y * q.iter().zip(x).map(|(q, x)| q * x).sum::<f64>()).sum::<f64>()
                };
                rows.iter().map(own).sum()
            })
            .collect();
        parts.iter().sum()
    }
}

impl RepulsionField {
    /// Returns an empty field for a map of this many rows.
    pub fn new(rows: u64) -> Self {
        RepulsionField {
            most: max_nodes(rows),
            grid: FieldGrid { side: 0, step: 0.0, origin: [0.0; 2] },
            force: Vec::new(),
            columns: Vec::new(),
            kernel: Vec::new(),
            of: (0, 0.0),
            plan: None,
            back: None,
            order: vec![0; rows as usize],
            factor: 0.0,
            extent: 0.0,
            total: 0.0,
        }
    }

    /// Returns the bytes that the field of this many rows takes.
    pub fn bytes(rows: u64) -> u64 {
        bytes(rows)
    }

    /// Computes the forces and Z for these positions (x and y of each row), as many as the field was made for.
    ///
    /// # Errors
    /// If a position is not finite, or its absolute value is above 10¹².
    pub fn update(&mut self, positions: &[[f32; 2]]) -> Result<()> {
        let bounds = positions.par_chunks(1 << 14).map(|rows| {
            let none = [[f32::INFINITY; 2], [f32::NEG_INFINITY; 2]];
            rows.iter().fold(none, |[least, greatest], row| {
                let of = |a: [f32; 2], f: fn(f32, f32) -> bool| {
                    std::array::from_fn(|d| if f(row[d], a[d]) || row[d].is_nan() { row[d] } else { a[d] })
                };
                [of(least, |x, y| x < y), of(greatest, |x, y| x > y)]
            })
        });
        let [least, greatest] = bounds.reduce(
            || [[f32::INFINITY; 2], [f32::NEG_INFINITY; 2]],
            |[a, b], [c, d]| {
                let of = |a: [f32; 2], b: [f32; 2], f: fn(f32, f32) -> bool| {
                    std::array::from_fn(|i| if f(a[i], b[i]) || a[i].is_nan() { a[i] } else { b[i] })
                };
                [of(a, c, |x, y| x < y), of(b, d, |x, y| x > y)]
            },
        );
        if least.iter().chain(&greatest).any(|x| !x.is_finite() || x.abs() > 1e12) {
            return Err(super::diverged());
        }
        self.extent = (0..2).map(|d| f64::from(greatest[d]) - f64::from(least[d])).fold(0.0, f64::max);
        self.grid = FieldGrid::covering(least, greatest, self.most);
        self.prepare();
        self.spread_charges(positions);
        let own = self.grid.self_interaction(positions);
        self.convolve(positions.len(), own);
        Ok(())
    }

    /// Returns the force of all rows on a row at `own`: the negative of n times the gradient of log Z.
    #[inline(always)]
    pub fn force_at<const DIM: usize>(&self, own: &[f32; DIM]) -> [f32; DIM] {
        let mut out = [0.0; DIM];
        let (x, along_x) = self.grid.nodes_of(own[0], 0);
        let (y, along_y) = self.grid.nodes_of(own[1.min(DIM - 1)], 1);
        let mut force = [0f32; 2];
        for (j, wy) in along_y.into_iter().enumerate() {
            let row = &self.force[(y + j) * 2 * self.grid.side + x..][..NODES_PER_ROW];
            let mut sum = [0f32; 2];
            for (value, wx) in row.iter().zip(along_x) {
                sum[0] = wx.mul_add(value.re, sum[0]);
                sum[1] = wx.mul_add(value.im, sum[1]);
            }
            force[0] = wy.mul_add(sum[0], force[0]);
            force[1] = wy.mul_add(sum[1], force[1]);
        }
        for (out, force) in out.iter_mut().zip(force) {
            *out = self.factor * force;
        }
        out
    }

    /// Returns the larger side of the map's bounding box.
    pub(super) fn map_width(&self) -> f64 {
        self.extent
    }

    /// Returns the nodes' positions and the factor of the forces.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn nodes(&self) -> FieldNodes {
        let FieldGrid { side, step, origin } = self.grid;
        FieldNodes { side: side as u32, step, origin, factor: self.factor }
    }

    /// Writes x and y of the force on each node to `out`, line by line, and returns how many numbers were
    /// written.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn forces(&self, out: &mut [f32]) -> usize {
        let side = self.grid.side;
        let out = &mut out[..2 * side * side];
        out.par_chunks_exact_mut(2 * side).zip(self.force.par_chunks_exact(2 * side)).for_each(|(out, line)| {
            out.as_chunks_mut::<2>().0.iter_mut().zip(line).for_each(|(out, force)| *out = [force.re, force.im]);
        });
        out.len()
    }

    /// Allocates memory and computes the kernel's transform for the current grid, unless both fit already.
    fn prepare(&mut self) {
        let FieldGrid { side, step, .. } = self.grid;
        if self.of == (side, step) {
            return;
        }
        if self.of.0 != side {
            let mut planner = FftPlannerScalar::new();
            self.plan = Some(planner.plan_fft_forward(2 * side));
            self.back = Some(planner.plan_fft_inverse(2 * side));
            // The old memory is freed before the new memory is allocated.
            (self.force, self.columns, self.kernel) = (Vec::new(), Vec::new(), Vec::new());
            self.force = vec![Complex32::default(); 2 * side * side];
            self.columns = vec![Complex32::default(); 2 * side * side];
            self.kernel = vec![Complex32::default(); (side + 1) * (side + 1)];
        }
        self.of = (side, step);
        let Some(fft) = self.plan.clone() else { return };
        // Transforms each line of q + q² dx along x. q is even in dx, so that its transform is real; q² dx is
        // odd, so that its transform is imaginary.
        let wide = side + 1;
        let scale = self.grid.odd_scale();
        let transform = |line: &mut [Complex32], scratch: &mut Vec<Complex32>| {
            scratch.resize(fft.get_inplace_scratch_len(), Complex32::default());
            fft.process_with_scratch(line, scratch);
        };
        let started = || (vec![Complex32::default(); 2 * side], Vec::new());
        self.kernel.par_chunks_mut(wide).enumerate().for_each_init(started, |(line, scratch), (dy, out)| {
            for (i, value) in line.iter_mut().enumerate() {
                let dx = if i <= side { i as f64 } else { i as f64 - 2.0 * side as f64 } * step;
                let q = 1.0 / (1.0 + dx * dx + (dy as f64 * step).powi(2));
                // The distance of half the period does not occur between nodes.
                let odd = if i == side { 0.0 } else { q * q * dx * scale };
                *value = Complex32::new((q + odd) as f32, 0.0);
            }
            transform(line, scratch);
            out.copy_from_slice(&line[..wide]);
        });
        // q and q² dx are even in dy, so that the transform along y keeps real parts real and imaginary parts
        // imaginary.
        let columns: Vec<Vec<Complex32>> = (0..wide)
            .into_par_iter()
            .map_init(started, |(line, scratch), kx| {
                for (i, value) in line.iter_mut().enumerate() {
                    *value = self.kernel[i.min(2 * side - i) * wide + kx];
                }
                transform(line, scratch);
                line[..wide].to_vec()
            })
            .collect();
        self.kernel.par_chunks_mut(wide).enumerate().for_each(|(ky, out)| {
            out.iter_mut().zip(&columns).for_each(|(out, column)| *out = column[ky]);
        });
    }

    /// Spreads the rows' charges on the grid.
    fn spread_charges(&mut self, positions: &[[f32; 2]]) {
        let (grid, side) = (self.grid, self.grid.side);
        let strips = side.div_ceil(STRIP);
        let strip_of = |row: &[f32; 2]| grid.nodes_of(row[1], 1).0 / STRIP;
        let mut ends = vec![0usize; strips + 1];
        positions.iter().for_each(|row| ends[strip_of(row) + 1] += 1);
        for strip in 0..strips {
            ends[strip + 1] += ends[strip];
        }
        let mut next = ends.clone();
        for (row, position) in positions.iter().enumerate() {
            let place = &mut next[strip_of(position)];
            self.order[*place] = row as u32;
            *place += 1;
        }
        let order = &self.order;
        self.force.par_chunks_mut(2 * side * STRIP).enumerate().for_each(|(strip, out)| {
            let mut sums = vec![0f64; out.len() / 2];
            // A row's charge reaches four grid rows up, and therefore into the next strip.
            for &row in &order[ends[strip.saturating_sub(1)]..ends[strip + 1]] {
                let position = &positions[row as usize];
                let (x, along_x) = grid.nodes_of(position[0], 0);
                let (y, along_y) = grid.nodes_of(position[1], 1);
                for (j, wy) in along_y.into_iter().enumerate() {
                    let Some(line) = (y + j).checked_sub(strip * STRIP) else { continue };
                    let Some(line) = sums.get_mut(line * side + x..line * side + x + NODES_PER_ROW) else { continue };
                    for (sum, wx) in line.iter_mut().zip(along_x) {
                        *sum += f64::from(wx * wy);
                    }
                }
            }
            for (out, sums) in out.chunks_exact_mut(2 * side).zip(sums.chunks_exact(side)) {
                let (left, right) = out.split_at_mut(side);
                left.iter_mut().zip(sums).for_each(|(out, &sum)| *out = Complex32::new(sum as f32, 0.0));
                right.fill(Complex32::default());
            }
        });
    }

    /// Computes the forces on the nodes and Z from the charges. `own` is Σ q of all rows with themselves, which
    /// is subtracted from Z.
    fn convolve(&mut self, rows: usize, own: f64) {
        let (Some(there), Some(back)) = (self.plan.clone(), self.back.clone()) else { return };
        let side = self.grid.side;
        let (round, wide) = (2 * side, side + 1);
        let room = there.get_inplace_scratch_len().max(back.get_inplace_scratch_len());
        let scratch = || vec![Complex32::default(); room];
        // Transforms along x. The lines of the grid's second half have no charges; their transform is 0 and is
        // not stored.
        self.force
            .par_chunks_mut(round)
            .for_each_init(scratch, |scratch, line| there.process_with_scratch(line, scratch));
        // Transforms along y, multiplies by the kernel, and transforms back along y, some columns at a time.
        let (force, kernel) = (&self.force, &self.kernel);
        let started = || (vec![Complex32::default(); COLUMNS * round], scratch());
        let parts: Vec<f64> = self
            .columns
            .par_chunks_mut(COLUMNS * side)
            .enumerate()
            .map_init(started, |(lines, scratch), (strip, out)| {
                for y in 0..side {
                    let from = &force[y * round + strip * COLUMNS..][..COLUMNS];
                    from.iter().enumerate().for_each(|(c, &value)| lines[c * round + y] = value);
                }
                let mut total = 0.0;
                for (c, line) in lines.chunks_exact_mut(round).enumerate() {
                    line[side..].fill(Complex32::default());
                    there.process_with_scratch(line, scratch);
                    let kx = strip * COLUMNS + c;
                    let (fx, sx) = if kx <= side { (kx, 1.0) } else { (round - kx, -1.0) };
                    for (ky, value) in line.iter_mut().enumerate() {
                        let (fy, sy) = if ky <= side { (ky, 1.0) } else { (round - ky, -1.0) };
                        let here = kernel[fy * wide + fx];
                        total += f64::from(value.norm_sqr()) * f64::from(here.re);
                        // The y component of the kernel is its x component with x and y exchanged. The two
                        // components of the force are combined into one complex transform: i·along_x +
                        // i·(i·along_y).
                        let along_x: f32 = sx * here.im;
                        let along_y: f32 = sy * kernel[fx * wide + fy].im;
                        *value *= Complex32::new(-along_y, along_x);
                    }
                    back.process_with_scratch(line, scratch);
                    out.iter_mut().skip(c).step_by(COLUMNS).zip(&line[..side]).for_each(|(out, &value)| *out = value);
                }
                total
            })
            .collect();
        let columns = &self.columns;
        self.force.par_chunks_mut(round).enumerate().for_each_init(scratch, |scratch, (y, line)| {
            for (strip, line) in line.chunks_exact_mut(COLUMNS).enumerate() {
                line.copy_from_slice(&columns[strip * COLUMNS * side + y * COLUMNS..][..COLUMNS]);
            }
            back.process_with_scratch(line, scratch);
        });
        let cells = (round * round) as f64;
        // In a very wide map, Z may be less than a thousandth of `own`, and then less than its rounding error.
        self.total = (parts.iter().sum::<f64>() / cells - own).max(1e-6 * rows as f64);
        self.factor = (4.0 * rows as f64 / self.total / cells / self.grid.odd_scale()) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    /// Returns rows in a few clusters, in a map of this width.
    fn clumps(rows: usize, width: f32) -> Vec<[f32; 2]> {
        (0..rows as u64)
            .map(|row| {
                let near = |d: u64| unit(3, d, row) + unit(4, d, row) + unit(5, d, row) - 1.5;
                let center = |d: u64| unit(6, d, row % 9) - 0.5;
                std::array::from_fn(|d| width * (center(d as u64) + 0.1 * near(d as u64)))
            })
            .collect()
    }

    /// Computes Σⱼ q² (yᵢ − yⱼ) for each row and Σ q over all pairs, pair by pair.
    fn exact(rows: &[[f32; 2]]) -> (Vec<[f64; 2]>, f64) {
        let mut total = 0.0;
        let forces = rows
            .iter()
            .enumerate()
            .map(|(i, a)| {
                let mut force = [0.0; 2];
                for (j, b) in rows.iter().enumerate().filter(|&(j, _)| j != i) {
                    let away: [f64; 2] = std::array::from_fn(|d| f64::from(a[d]) - f64::from(b[d]));
                    let q = 1.0 / (1.0 + away[0] * away[0] + away[1] * away[1]);
                    total += q;
                    (0..2).for_each(|d| force[d] += q * q * away[d]);
                    debug_assert_ne!(i, j);
                }
                force
            })
            .collect();
        (forces, total)
    }

    #[test]
    fn forces_are_within_their_stated_error() {
        // Includes maps much narrower than 1, whose forces are differences of nearly equal numbers.
        for (rows, width) in
            [(4, 60.0), (300, 1e-15), (300, 1e-8), (300, 1e-3), (300, 1.0), (2_000, 20.0), (2_000, 45.0), (3_000, 60.0)]
        {
            let positions = clumps(rows, width);
            let mut field = RepulsionField::new(rows as u64);
            field.update(&positions).expect("numbers");
            assert!(field.grid.step <= MAX_STEP, "{:?}", field.grid);
            let (forces, total) = exact(&positions);
            let scale = 4.0 * rows as f64 / total;
            let mean = forces.iter().flatten().map(|f| f * f).sum::<f64>() / rows as f64;
            let mut wrong = 0.0;
            for (position, force) in positions.iter().zip(&forces) {
                let found = field.force_at(position);
                wrong += (0..2).map(|d| (f64::from(found[d]) / scale - force[d]).powi(2)).sum::<f64>();
            }
            let wrong = (wrong / rows as f64 / mean).sqrt();
            let off = (field.total / total - 1.0).abs();
            assert!(wrong < 1e-2 && off < 5e-4, "{rows} rows, {width} wide: force off by {wrong}, Z by {off}");
        }
    }

    #[test]
    fn field_is_independent_of_threads_and_refuses_nan() {
        let mut positions = clumps(5_000, 40.0);
        let mut found = Vec::new();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mut field = RepulsionField::new(5_000);
            // The second call computes no new kernel.
            for _ in 0..2 {
                pool.install(|| field.update(&positions)).expect("numbers");
            }
            found.push(positions.iter().flat_map(|p| field.force_at(p)).map(f32::to_bits).collect::<Vec<_>>());
        }
        assert!(found[0] == found[1]);
        positions[77][1] = f32::NAN;
        assert!(RepulsionField::new(5_000).update(&positions).is_err());
    }

    #[test]
    fn fft_sizes_have_small_factors() {
        assert_eq!([1, 64, 65, 100, 257, 2047].map(fft_size), [8, 64, 72, 120, 288, 2048]);
    }
}
