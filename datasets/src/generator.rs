//! The generators of the data sets.
//!
//! What must hold: row i of a generator is a pure function of its kind, parameters, dimensions,
//! seed and i. Row i does not depend on the number of rows, on the rows drawn before, on threads or
//! on the machine. A change of any value is a breaking change, because recorded measurements name
//! seeds.

use std::{num::NonZero, str::FromStr, thread};

use crate::{
    Error,
    random::{RandomStream, sin_cos_turns},
};

/// The number of directions in which a mixture's component is wide.
const RANK: usize = 16;

/// The standard deviation of a mixture's noise in every direction.
const ISOTROPIC: f32 = 0.1;

/// The distance of a far blob from the origin. Blobs have a standard deviation of 1.
const FAR: f32 = 1000.0;

// The purposes of streams. The values are part of every data set's definition.
const CENTRES: u64 = 1;
const FACTORS: u64 = 2;
const COMPONENTS: u64 = 3;
const ROWS: u64 = 4;
const COPIES: u64 = 5;
// Within a row's stream, counter 0 selects the class and counter 1 the position within the class;
// these two are child streams.
const LATENT: u64 = 16;
const NOISE: u64 = 17;

/// A Gaussian mixture: centres with normal coordinates, and around each a cloud that is wide in 16
/// random directions (fewer in data of fewer dimensions) and has a standard deviation of 0.1 in
/// all. Components differ in size (the largest has some hundred times the rows of the smallest) and
/// in width (½ to 1½ times `spread`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixture {
    /// Number of components.
    pub components: u32,
    /// Standard deviation of the centres' coordinates.
    pub centre_scale: f32,
    /// Standard deviation of a coordinate that the 16 wide directions cause, in a component of mean
    /// width.
    pub spread: f32,
}

impl Default for Mixture {
    /// 1,000 components that overlap; `datasets/README.md` says by how much.
    fn default() -> Self {
        Self { components: 1000, centre_scale: 1.0, spread: 1.5 }
    }
}

/// The kind of data set.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum DatasetKind {
    /// A Gaussian mixture; the label is the component.
    Mixture(Mixture),
    /// Uniform in [0, 1)ᵈ: no structure at all, the hardest case for an index.
    Uniform,
    /// Uniform on the unit sphere, like normalised vectors without structure.
    Sphere,
    /// A mixture in which a share of the rows are exact copies of earlier rows.
    Duplicates {
        /// The mixture of the copied rows.
        mixture: Mixture,
        /// The share of rows that are copies, 0 to 1.
        share: f32,
    },
    /// Round blobs with standard deviation 1, at least 1,000 apart: the neighbour graph has one
    /// connected component for each blob. The label is the blob.
    BlobsFar {
        /// Number of blobs.
        blobs: u32,
    },
    /// Two interleaved half circles in the first two coordinates; the label is the circle.
    Moons {
        /// Standard deviation of the noise on every coordinate.
        noise: f32,
    },
    /// A rolled-up sheet in the first three coordinates; the label is the tenth of its length.
    SwissRoll {
        /// Standard deviation of the noise on every coordinate.
        noise: f32,
    },
}

impl DatasetKind {
    /// The names that [`FromStr`] parses, in the order of the variants.
    pub const NAMES: [&'static str; 7] =
        ["mixture", "uniform", "sphere", "duplicates", "blobs_far", "moons", "swiss_roll"];

    /// Returns the kind's name, one of [`DatasetKind::NAMES`].
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mixture(_) => "mixture",
            Self::Uniform => "uniform",
            Self::Sphere => "sphere",
            Self::Duplicates { .. } => "duplicates",
            Self::BlobsFar { .. } => "blobs_far",
            Self::Moons { .. } => "moons",
            Self::SwissRoll { .. } => "swiss_roll",
        }
    }

    fn min_dim(&self) -> usize {
        match self {
            Self::Moons { .. } => 2,
            Self::SwissRoll { .. } => 3,
            _ => 1,
        }
    }

    /// Returns the reason why the parameters are invalid, if they are.
    fn fault(&self) -> Option<&'static str> {
        let usable = |scale: f32| scale.is_finite() && scale >= 0.0;
        match *self {
            Self::Mixture(mixture) | Self::Duplicates { mixture, .. } if mixture.components == 0 => {
                Some("components must be at least 1")
            }
            Self::Mixture(mixture) | Self::Duplicates { mixture, .. }
                if !usable(mixture.centre_scale) || !usable(mixture.spread) =>
            {
                Some("scales must be finite and not negative")
            }
            Self::Duplicates { share, .. } if !(0.0..=1.0).contains(&share) => {
                Some("the share of copies must be between 0 and 1")
            }
            Self::BlobsFar { blobs: 0 } => Some("blobs must be at least 1"),
            Self::Moons { noise } | Self::SwissRoll { noise } if !usable(noise) => {
                Some("noise must be finite and not negative")
            }
            _ => None,
        }
    }
}

impl FromStr for DatasetKind {
    type Err = Error;

    /// Returns a kind by its name, with default parameters: a fifth of the rows of `duplicates` are
    /// copies, `blobs_far` has 5 blobs, `moons` and `swiss_roll` have noise of 0.05.
    fn from_str(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "mixture" => Self::Mixture(Mixture::default()),
            "uniform" => Self::Uniform,
            "sphere" => Self::Sphere,
            "duplicates" => Self::Duplicates { mixture: Mixture::default(), share: 0.2 },
            "blobs_far" => Self::BlobsFar { blobs: 5 },
            "moons" => Self::Moons { noise: 0.05 },
            "swiss_roll" => Self::SwissRoll { noise: 0.05 },
            _ => return Err(Error::Name(name.to_owned())),
        })
    }
}

/// A table of `rows × dim` numbers, any row of which can be drawn.
#[derive(Debug, Clone)]
pub struct Generator {
    kind: DatasetKind,
    rows: u64,
    dim: usize,
    seed: u64,
    stream: RandomStream,
    tables: Option<MixtureTables>,
}

/// The parameters that all rows of a mixture share.
#[derive(Debug, Clone)]
struct MixtureTables {
    /// `components × dim`.
    centres: Vec<f32>,
    /// `components × rank × dim`.
    factors: Vec<f32>,
    rank: usize,
    /// The upper end of each component's share of [0, 1), ascending.
    shares: Vec<f32>,
}

impl MixtureTables {
    fn new(mixture: Mixture, dim: usize, stream: RandomStream) -> Self {
        let components = mixture.components as usize;
        let rank = RANK.min(dim);
        let mut centres = vec![0.0; components * dim];
        stream.child(CENTRES).normals(&mut centres);
        for value in &mut centres {
            *value *= mixture.centre_scale;
        }
        let traits = stream.child(COMPONENTS);
        let mut factors = vec![0.0; components * rank * dim];
        let mut total = 0.0;
        let mut shares = Vec::with_capacity(components);
        for (component, factors) in (0u64..).zip(factors.chunks_exact_mut(rank * dim)) {
            let width = mixture.spread * (0.5 + traits.unit(2 * component)) / (rank as f32).sqrt();
            stream.child(FACTORS).child(component).normals(factors);
            for value in factors {
                *value *= width;
            }
            total += f64::from(0.05 + traits.exponential(2 * component + 1));
            shares.push(total);
        }
        Self { centres, factors, rank, shares: shares.iter().map(|share| (share / total) as f32).collect() }
    }

    fn component(&self, row: RandomStream) -> usize {
        let unit = row.unit(0);
        let at = self.shares.partition_point(|&share| share <= unit);
        at.min(self.shares.len() - 1)
    }

    fn fill_row(&self, row: RandomStream, out: &mut [f32]) {
        let dim = out.len();
        let component = self.component(row);
        row.child(NOISE).normals(out);
        for (value, centre) in out.iter_mut().zip(&self.centres[component * dim..]) {
            *value = ISOTROPIC * *value + centre;
        }
        let mut latent = [0f32; RANK];
        row.child(LATENT).normals(&mut latent);
        let size = self.rank * dim;
        let factors = &self.factors[component * size..(component + 1) * size];
        for (weight, factor) in latent.iter().zip(factors.chunks_exact(dim)) {
            for (value, factor) in out.iter_mut().zip(factor) {
                *value += weight * factor;
            }
        }
    }
}

impl Generator {
    /// Returns a table of `kind`.
    ///
    /// A mixture holds `components × 17 × dim` floats: 8.7 MB for the default mixture with 128
    /// dimensions.
    ///
    /// # Errors
    /// If the kind needs more dimensions, or a parameter is invalid.
    pub fn new(kind: DatasetKind, rows: u64, dim: usize, seed: u64) -> Result<Self, Error> {
        if dim < kind.min_dim() {
            return Err(Error::Dim { name: kind.name(), least: kind.min_dim(), dim });
        }
        if let Some(fault) = kind.fault() {
            return Err(Error::Parameter { name: kind.name(), fault });
        }
        let stream = RandomStream::new(seed);
        let tables = match kind {
            DatasetKind::Mixture(mixture) | DatasetKind::Duplicates { mixture, .. } => {
                Some(MixtureTables::new(mixture, dim, stream))
            }
            _ => None,
        };
        Ok(Self { kind, rows, dim, seed, stream, tables })
    }

    /// Returns the kind of data set.
    pub fn kind(&self) -> DatasetKind {
        self.kind
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the number of components of each row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Returns the seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Writes the rows from `first` on into `out`, row-major.
    ///
    /// # Panics
    ///
    /// If `out` is not a whole number of rows, or reaches beyond the last row.
    pub fn fill(&self, first: u64, out: &mut [f32]) {
        self.check(first, out);
        for (row, out) in (first..).zip(out.chunks_exact_mut(self.dim)) {
            self.fill_row(row, out);
        }
    }

    /// Does the same as [`Generator::fill`] on `threads` threads, with the same values.
    ///
    /// # Panics
    ///
    /// As [`Generator::fill`].
    pub fn fill_parallel(&self, first: u64, out: &mut [f32], threads: NonZero<usize>) {
        self.check(first, out);
        let rows = (out.len() / self.dim).div_ceil(threads.get()).max(1);
        thread::scope(|scope| {
            let mut parts = (first..).step_by(rows).zip(out.chunks_mut(rows * self.dim));
            let own = parts.next();
            for (first, part) in parts {
                scope.spawn(move || self.fill(first, part));
            }
            if let Some((first, part)) = own {
                self.fill(first, part);
            }
        });
    }

    /// Returns `rows` rows from `first` on, computed on all cores.
    ///
    /// # Panics
    ///
    /// If the range reaches beyond the last row.
    pub fn table(&self, first: u64, rows: usize) -> Vec<f32> {
        let mut out = vec![0.0; rows * self.dim];
        let threads = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        self.fill_parallel(first, &mut out, threads);
        out
    }

    /// Returns the class from which a row was drawn; 0 if the kind has no classes.
    pub fn label(&self, row: u64) -> u32 {
        let stream = self.row_stream(self.origin(row));
        match self.kind {
            DatasetKind::Mixture(_) | DatasetKind::Duplicates { .. } => {
                self.tables.as_ref().map_or(0, |tables| tables.component(stream) as u32)
            }
            DatasetKind::Uniform | DatasetKind::Sphere => 0,
            DatasetKind::BlobsFar { blobs } => stream.below(0, u64::from(blobs)) as u32,
            DatasetKind::Moons { .. } => stream.below(0, 2) as u32,
            DatasetKind::SwissRoll { .. } => (stream.unit(1) * 10.0) as u32,
        }
    }

    /// Returns the row of which `row` is an exact copy: itself, or an earlier row of
    /// [`DatasetKind::Duplicates`].
    pub fn origin(&self, mut row: u64) -> u64 {
        let DatasetKind::Duplicates { share, .. } = self.kind else {
            return row;
        };
        let copies = self.stream.child(COPIES);
        // The origin of a copy of a copy is followed to the first row. Each step halves the row
        // number on average, so the loop is short.
        while row > 0 {
            let copy = copies.child(row);
            if copy.unit(0) >= share {
                break;
            }
            row = copy.below(1, row);
        }
        row
    }

    /// Returns a range that contains nearly all values. The 8-bit formats divide the range into 256
    /// steps and saturate outside.
    pub fn range(&self) -> (f32, f32) {
        match self.kind {
            DatasetKind::Mixture(mixture) | DatasetKind::Duplicates { mixture, .. } => {
                // The mean square of a width that is uniform in ½ … 1½ is 13/12.
                let variance = mixture.centre_scale * mixture.centre_scale
                    + mixture.spread * mixture.spread * (13.0 / 12.0)
                    + ISOTROPIC * ISOTROPIC;
                let end = 4.0 * variance.sqrt();
                (-end, end)
            }
            DatasetKind::Uniform => (0.0, 1.0),
            DatasetKind::Sphere => {
                let end = (4.0 / (self.dim as f32).sqrt()).min(1.0);
                (-end, end)
            }
            DatasetKind::BlobsFar { blobs } => {
                let end = FAR * (1 + (blobs as usize - 1) / (2 * self.dim)) as f32 + 4.0;
                (-end, end)
            }
            DatasetKind::Moons { noise } => (-1.0 - 4.0 * noise, 2.0 + 4.0 * noise),
            DatasetKind::SwissRoll { noise } => (-15.0 - 4.0 * noise, 21.0 + 4.0 * noise),
        }
    }

    fn check(&self, first: u64, out: &[f32]) {
        assert!(out.len().is_multiple_of(self.dim), "{} values are not whole rows of {}", out.len(), self.dim);
        let rows = (out.len() / self.dim) as u64;
        assert!(
            first.checked_add(rows).is_some_and(|end| end <= self.rows),
            "{rows} rows from {first} on, of {}",
            self.rows
        );
    }

    fn row_stream(&self, row: u64) -> RandomStream {
        self.stream.child(ROWS).child(row)
    }

    fn fill_row(&self, row: u64, out: &mut [f32]) {
        let stream = self.row_stream(self.origin(row));
        match self.kind {
            DatasetKind::Mixture(_) | DatasetKind::Duplicates { .. } => {
                if let Some(tables) = &self.tables {
                    tables.fill_row(stream, out);
                }
            }
            DatasetKind::Uniform => stream.child(NOISE).units(out),
            DatasetKind::Sphere => {
                stream.child(NOISE).normals(out);
                let norm = out.iter().map(|value| value * value).sum::<f32>().sqrt();
                if norm > 0.0 {
                    for value in out {
                        *value /= norm;
                    }
                } else {
                    out[0] = 1.0;
                }
            }
            DatasetKind::BlobsFar { blobs } => {
                stream.child(NOISE).normals(out);
                // Blobs lie on the axes: at +1, −1, +2, −2, … times the distance on each axis in
                // turn.
                let blob = stream.below(0, u64::from(blobs)) as usize;
                let (axis, ring) = (blob / 2 % self.dim, blob / (2 * self.dim));
                let side = if blob.is_multiple_of(2) { FAR } else { -FAR };
                out[axis] += side * (1 + ring) as f32;
            }
            DatasetKind::Moons { noise } => {
                scaled_noise(stream, noise, out);
                let (sine, cosine) = sin_cos_turns(0.5 * stream.unit(1));
                let (x, y) = if stream.below(0, 2) == 0 { (cosine, sine) } else { (1.0 - cosine, 0.5 - sine) };
                out[0] += x;
                out[1] += y;
            }
            DatasetKind::SwissRoll { noise } => {
                scaled_noise(stream, noise, out);
                // The angle runs from ¾ of a turn to 2¼ turns, and the radius with it.
                let turns = 0.75 * (1.0 + 2.0 * stream.unit(1));
                let radius = turns * std::f32::consts::TAU;
                let (sine, cosine) = sin_cos_turns(turns);
                out[0] += radius * cosine;
                out[1] += 21.0 * stream.unit(0);
                out[2] += radius * sine;
            }
        }
    }
}

fn scaled_noise(row: RandomStream, noise: f32, out: &mut [f32]) {
    row.child(NOISE).normals(out);
    for value in out {
        *value *= noise;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn make(name: &str, rows: u64, dim: usize, seed: u64) -> Generator {
        Generator::new(name.parse().unwrap(), rows, dim, seed).unwrap()
    }

    fn distance(a: &[f32], b: &[f32]) -> f32 {
        let square = |(a, b): (&f32, &f32)| (a - b) * (a - b);
        a.iter().zip(b).map(square).sum::<f32>().sqrt()
    }

    #[test]
    fn rows_depend_on_nothing_but_seed_and_number() {
        for name in DatasetKind::NAMES {
            for dim in [3, 21, 32] {
                let whole = make(name, 503, dim, 11);
                assert_eq!(whole.kind().name(), name);
                let mut all = vec![0.0; 503 * dim];
                whole.fill(0, &mut all);
                assert!(all.iter().all(|value| value.is_finite()), "{name}");
                // Any division into parts, backwards, and with another number of rows.
                let other = make(name, 600, dim, 11);
                let mut first = 503;
                for rows in [1, 2, 200, 7, 0, 100, 193] {
                    first -= rows;
                    let mut part = vec![f32::NAN; rows * dim];
                    other.fill(first as u64, &mut part);
                    assert_eq!(part, all[first * dim..(first + rows) * dim], "{name} {first}");
                }
                assert_eq!(first, 0);
                for threads in [1, 2, 5, 999] {
                    let mut part = vec![f32::NAN; 100 * dim];
                    whole.fill_parallel(3, &mut part, NonZero::new(threads).unwrap());
                    assert_eq!(part, all[3 * dim..103 * dim], "{name} {threads}");
                }
                assert!((0..503).all(|row| whole.label(row) == other.label(row)));
                assert_ne!(make(name, 503, dim, 12).table(0, 503), all, "{name}");
            }
        }
    }

    /// The values are part of the definition, because recorded measurements name seeds. A change
    /// that fails this test is not a refactoring.
    #[test]
    fn values_stay_what_they_were() {
        let print = |name: &str| {
            let table = make(name, 100, 20, 42).table(0, 100);
            table.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, value| {
                (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
            })
        };
        let prints: Vec<String> = DatasetKind::NAMES.map(|name| format!("{:016x}", print(name))).into();
        assert_eq!(
            prints,
            [
                "07108e499734a42e",
                "38e60111736e771a",
                "5ccb059309f95e21",
                "d8bc5bb4cd88660c",
                "de207555570414ef",
                "e093fc479fe1728e",
                "5f19646a20987d44"
            ]
        );
    }

    #[test]
    fn uniform_and_sphere_have_their_moments() {
        let values = make("uniform", 20_000, 8, 1).table(0, 20_000);
        for axis in 0..8 {
            let column: Vec<f32> = values.iter().skip(axis).step_by(8).copied().collect();
            let mean = column.iter().sum::<f32>() / 20_000.0;
            let square = column.iter().map(|v| (v - 0.5) * (v - 0.5)).sum::<f32>() / 20_000.0;
            assert!((mean - 0.5).abs() < 0.011, "{mean}");
            assert!((square - 1.0 / 12.0).abs() < 0.003, "{square}");
        }
        let values = make("sphere", 20_000, 5, 1).table(0, 20_000);
        for row in values.chunks_exact(5) {
            assert!((distance(row, &[0.0; 5]) - 1.0).abs() < 1e-5);
        }
        for axis in 0..5 {
            let mean = values.iter().skip(axis).step_by(5).sum::<f32>() / 20_000.0;
            assert!(mean.abs() < 0.016, "{mean}");
        }
    }

    #[test]
    fn mixture_follows_its_components() {
        let mixture = Mixture { components: 20, ..Mixture::default() };
        let generator = Generator::new(DatasetKind::Mixture(mixture), 40_000, 64, 5).unwrap();
        let values = generator.table(0, 40_000);
        let tables = generator.tables.as_ref().unwrap();
        let mut groups: HashMap<u32, Vec<&[f32]>> = HashMap::new();
        for (row, values) in (0..).zip(values.chunks_exact(64)) {
            groups.entry(generator.label(row)).or_default().push(values);
        }
        assert_eq!(groups.len(), 20);
        let mut previous = 0.0;
        for component in 0..20usize {
            let group = &groups[&(component as u32)];
            let rows = group.len() as f32;
            let share = tables.shares[component] - previous;
            previous = tables.shares[component];
            assert!((rows / 40_000.0 - share).abs() < 5.0 * (share / 40_000.0).sqrt());
            for axis in 0..64 {
                let mean = group.iter().map(|row| row[axis]).sum::<f32>() / rows;
                let square = |row: &&[f32]| (row[axis] - mean) * (row[axis] - mean);
                let variance = group.iter().map(square).sum::<f32>() / rows;
                let factor = |rank: usize| tables.factors[(component * 16 + rank) * 64 + axis];
                let expected = (0..16).map(|r| factor(r) * factor(r)).sum::<f32>() + 0.01;
                let centre = tables.centres[component * 64 + axis];
                assert!((mean - centre).abs() < 5.5 * (expected / rows).sqrt());
                assert!((variance / expected - 1.0).abs() < 5.5 * (2.0 / rows).sqrt());
            }
        }
        let sizes: Vec<usize> = groups.values().map(Vec::len).collect();
        assert!(sizes.iter().max() > sizes.iter().min().map(|size| size * 4).as_ref());
        let (low, high) = generator.range();
        let outside = values.iter().filter(|v| !(low..high).contains(*v)).count();
        assert!(outside < values.len() / 500, "{outside}");
    }

    #[test]
    fn duplicates_are_exact_copies_of_earlier_rows() {
        let generator = make("duplicates", 5000, 12, 9);
        let values = generator.table(0, 5000);
        let row = |at: u64| &values[at as usize * 12..][..12];
        let mut copies = 0;
        for at in 0..5000 {
            let origin = generator.origin(at);
            assert!(origin <= at);
            assert_eq!(generator.origin(origin), origin);
            assert_eq!(row(at), row(origin));
            assert_eq!(generator.label(at), generator.label(origin));
            copies += u32::from(origin < at);
        }
        assert!((900..1100).contains(&copies), "{copies}");
        let mixture = make("mixture", 5000, 12, 9).table(0, 5000);
        assert_eq!(row(generator.origin(17)), &mixture[generator.origin(17) as usize * 12..][..12]);
    }

    #[test]
    fn blobs_are_far_apart() {
        for (blobs, dim) in [(5, 4), (9, 1), (7, 2)] {
            let generator = Generator::new(DatasetKind::BlobsFar { blobs }, 2000, dim, 3).unwrap();
            let values = generator.table(0, 2000);
            let (low, high) = generator.range();
            for (a, x) in (0..).zip(values.chunks_exact(dim)).take(50) {
                assert!(x.iter().all(|v| (low..high).contains(v)));
                for (b, y) in (0..).zip(values.chunks_exact(dim)) {
                    let near = distance(x, y) < 15.0;
                    let far = distance(x, y) > 980.0;
                    let same = generator.label(a) == generator.label(b);
                    assert!(if same { near } else { far }, "{a} {b}");
                }
            }
            assert_eq!((0..2000).map(|r| generator.label(r)).max(), Some(blobs - 1));
        }
    }

    #[test]
    fn shapes_are_where_they_should_be() {
        let moons = Generator::new(DatasetKind::Moons { noise: 0.0 }, 500, 3, 4).unwrap();
        for (row, p) in (0..).zip(moons.table(0, 500).chunks_exact(3)) {
            let centre = if moons.label(row) == 0 { [0.0, 0.0] } else { [1.0, 0.5] };
            assert!((distance(&p[..2], &centre) - 1.0).abs() < 1e-5);
            assert_eq!((p[1] >= centre[1] - 1e-6, p[2]), (moons.label(row) == 0, 0.0));
        }
        let roll = Generator::new(DatasetKind::SwissRoll { noise: 0.0 }, 500, 3, 4).unwrap();
        let mut seen = [0; 10];
        for (row, p) in (0..).zip(roll.table(0, 500).chunks_exact(3)) {
            let turns = p[0].hypot(p[2]) / std::f32::consts::TAU;
            assert!((0.75..=2.25).contains(&turns) && (0.0..=21.0).contains(&p[1]));
            let angle = p[2].atan2(p[0]) / std::f32::consts::TAU;
            assert!(((turns - angle) - (turns - angle).round()).abs() < 1e-4);
            assert!(((turns / 0.75 - 1.0) * 5.0 - roll.label(row) as f32 - 0.5).abs() < 0.501);
            seen[roll.label(row) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 25), "{seen:?}");
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let refused = |kind: DatasetKind, dim: usize| Generator::new(kind, 1, dim, 0).unwrap_err().to_string();
        assert_eq!(refused(DatasetKind::Uniform, 0), "uniform needs at least 1 dimensions, but 0 were requested");
        assert!(refused(DatasetKind::Moons { noise: 0.1 }, 1).contains("at least 2"));
        assert!(refused(DatasetKind::SwissRoll { noise: f32::NAN }, 3).contains("noise"));
        assert!(refused(DatasetKind::BlobsFar { blobs: 0 }, 3).contains("blobs"));
        let mixture = Mixture { components: 0, ..Mixture::default() };
        assert!(refused(DatasetKind::Mixture(mixture), 3).contains("components"));
        let mixture = Mixture::default();
        assert!(refused(DatasetKind::Duplicates { mixture, share: 1.5 }, 3).contains("share"));
        assert!("circles".parse::<DatasetKind>().unwrap_err().to_string().contains("swiss_roll"));
    }
}
