//! Every instruction set of the machine against [`Portable`], bit for bit, on numbers of every kind.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::array::{uniform8, uniform16};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A number: of any bits, or one of those at which operations differ.
fn number() -> impl Strategy<Value = f32> {
    let tiny = f32::from_bits(1);
    let special = [0.0, -0.0, 1.0, -1.0, tiny, -tiny, f32::MIN_POSITIVE, f32::MAX, f32::MIN, f32::EPSILON];
    let unordered = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
    prop_oneof![any::<u32>().prop_map(f32::from_bits), -8f32..8.0, select([&special[..], &unordered].concat())]
}

/// The bits of the results of an operation; those of NaN, whose payload is unspecified, are all the same.
fn arithmetic(vector: impl Lanes) -> [u32; LANES] {
    vector.to_array().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() })
}

fn bits(vector: impl Lanes) -> [u32; LANES] {
    vector.to_array().map(f32::to_bits)
}

/// Every operation once.
#[derive(Debug, Clone)]
struct Operations {
    vectors: [[f32; LANES]; 3],
    codes: [u16; LANES],
    indices: [u32; LANES],
    points: Vec<[f32; 8]>,
    count: usize,
    mask: u16,
    number: u16,
}

impl Operations {
    fn any() -> impl Strategy<Value = Self> {
        let vectors = [(); 3].map(|()| uniform16(number()));
        let points = vec(uniform8(number()), 1..40);
        let others = (uniform16(any::<u16>()), uniform16(any::<u32>()), 0usize..20, any::<u16>(), any::<u16>());
        (vectors, points, others).prop_map(|(vectors, points, (codes, indices, count, mask, number))| {
            let indices = indices.map(|i| i % points.len() as u32);
            Operations { vectors, codes, indices, points, count, mask, number }
        })
    }

    fn gather<S: Simd, const DIM: usize>(&self, on: S) -> Vec<[u32; LANES]> {
        let points: Vec<[f32; DIM]> = self.points.iter().map(|point| std::array::from_fn(|d| point[d])).collect();
        on.gather(&points, &self.indices).map(bits).to_vec()
    }
}

/// The bits of their results.
#[derive(Debug, PartialEq)]
struct Results {
    vectors: Vec<(&'static str, [u32; LANES])>,
    /// Of points of 1, 2, 3, 5 and 8 components in turn.
    gathered: Vec<[u32; LANES]>,
    /// Of `at_most` and `firing`.
    masks: [u16; 2],
    compressed: Vec<u32>,
}

impl SimdTask for &Operations {
    type Output = Results;

    #[inline(always)]
    fn run<S: Simd>(self, on: S) -> Results {
        let [x, y, z] = self.vectors.map(|numbers| on.load(&numbers));
        let (e, m) = x.split();
        let mut stored = [7.0; LANES];
        y.store(&mut stored);
        let vectors = vec![
            ("load", bits(x)),
            ("store", stored.map(f32::to_bits)),
            ("splat", bits(on.splat(self.vectors[0][3]))),
            ("load_first", bits(on.load_first(&self.vectors.as_flattened()[..self.count]))),
            ("widen", bits(on.widen(&self.codes))),
            ("add", arithmetic(x.add(y))),
            ("sub", arithmetic(x.sub(y))),
            ("mul", arithmetic(x.mul(y))),
            ("div", arithmetic(x.div(y))),
            ("mul_add", arithmetic(x.mul_add(y, z))),
            ("min", bits(x.min(y))),
            ("max", bits(x.max(y))),
            ("first", bits(x.first(self.count, y))),
            ("split, exponent", bits(e)),
            ("split, mantissa", bits(m)),
            ("scale", bits(x.scale(y))),
        ];
        let gathers = [
            self.gather::<S, 1>(on),
            self.gather::<S, 2>(on),
            self.gather::<S, 3>(on),
            self.gather::<S, 5>(on),
            self.gather::<S, 8>(on),
        ];
        let mut out = [0; LANES];
        on.compress(&self.indices, self.mask, &mut out);
        let compressed = out[..self.mask.count_ones() as usize].to_vec();
        let masks = [x.at_most(y), on.firing(&self.codes, self.number)];
        Results { vectors, gathered: gathers.concat(), masks, compressed }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_operation_gives_the_bits_of_the_portable_one(operations in Operations::any()) {
        let portable = InstructionSet::Portable(Portable).run(&operations);
        for on in InstructionSet::all() {
            let found = on.run(&operations);
            for (found, portable) in found.vectors.iter().zip(&portable.vectors) {
                prop_assert_eq!(found, portable, "{:?}", on);
            }
            prop_assert_eq!(&found, &portable, "{:?}", on);
        }
    }
}

/// A gather of points of `DIM` components.
struct Gather<'a, const DIM: usize>(&'a [[f32; DIM]], [u32; LANES]);

impl<const DIM: usize> SimdTask for Gather<'_, DIM> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, on: S) -> f32 {
        on.gather(self.0, &self.1)[0].to_array()[0]
    }
}

fn gathers<const DIM: usize>(points: usize, indices: [u32; LANES]) -> Vec<bool> {
    // A vector with room after its end, so that a gather that does not check still reads its own memory.
    let room = vec![[0.0; DIM]; points + 100];
    let gather = |on: InstructionSet| on.run(Gather(&room[..points], indices));
    InstructionSet::all().map(|on| catch_unwind(AssertUnwindSafe(|| gather(on))).is_ok()).collect()
}

#[test]
fn no_gather_reads_beyond_the_points() {
    let expected = |ok: bool| vec![ok; InstructionSet::all().count()];
    for lane in 0..LANES {
        let mut indices = [3; LANES];
        for (index, ok) in [(9, true), (10, false), (60, false)] {
            indices[lane] = index;
            assert_eq!(gathers::<2>(10, indices), expected(ok), "{indices:?}");
            assert_eq!(gathers::<3>(10, indices), expected(ok), "{indices:?}");
        }
    }
    assert_eq!(gathers::<2>(0, [0; LANES]), expected(false));
    assert_eq!(gathers::<2>(10, [u32::MAX; LANES]), expected(false));
    assert_eq!(gathers::<3>(0, [0; LANES]), expected(false));
}
