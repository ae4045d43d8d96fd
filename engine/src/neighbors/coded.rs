//! Vectors in eight bits a component, or some more, for processors that multiply
//! many such pairs at a time: a coarser sieve than the kernel's, and faster.
//!
//! Vectors that lie together, a segment's rows or a group of a window's, are
//! shifted by a common centre and share a scale: a code is whole numbers times
//! that scale. With u from the segment's centre to the group's, q̂ and x̂ what
//! the codes of a query and a row stand for, half their squared distance is
//!
//! ½|u + q̂|² + (½|x̂|² − u·x̂) − q̂·x̂
//!
//! a number of the query's, one of the row's, and a dot product of whole
//! numbers. So a vector is coded once, whatever it meets, and what is compared
//! is whole numbers too. What coding loses is measured as a distance: by the
//! triangle inequality two vectors are no nearer than their codes less what
//! both lost. The bar thus says for certain which pairs can be skipped, and
//! the map never hears of codes.

use super::kernel::{LANES, Masks, Piece, QUERIES, piece, piece_length};

/// Components up to which no sum of the kernel's leaves 32 bits.
const WIDEST: usize = 16_384;
/// The largest of a query's, a row's and a pair's whole numbers before the
/// product; with the product, less than 2^29, they stay within 32 bits.
const LARGEST: f32 = (1 << 29) as f32;
/// A bar that no row meets.
const NEVER: i32 = 1 << 30;
/// Added to a small number, leaves it rounded in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// Steps that the largest component of u is divided into: 15 bits, in two codes.
const STEPS: f32 = 32_000.0;

/// Instructions that codes are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Instructions {
    /// AVX-512 VNNI: four products of a lane add up in 32 bits. Eight bits.
    Vnni,
    /// AVX2: two products of a lane add up in 32 bits. As many bits as leave
    /// the sums there, eleven for 128 components. Eight bits would be no faster,
    /// six would, but let many times as many rows through.
    #[default]
    Avx2,
}

impl Instructions {
    /// All that this processor has, the best first.
    fn all() -> impl Iterator<Item = Self> {
        [Instructions::Vnni, Instructions::Avx2].into_iter().filter(|with| with.there())
    }

    #[cfg(target_arch = "x86_64")]
    fn there(self) -> bool {
        match self {
            Instructions::Vnni => {
                std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("avx512vnni")
            }
            Instructions::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn there(self) -> bool {
        false
    }

    /// The best for vectors of so many components, if there is one.
    pub(super) fn best(dim: usize) -> Option<Self> {
        Self::all().next().filter(|_| dim <= WIDEST)
    }

    /// The largest code of vectors of so many components: the sum of all
    /// products stays below 2^27.
    fn largest(self, dim: usize) -> f32 {
        match self {
            Instructions::Vnni => 127.0,
            Instructions::Avx2 => ((1 << 27) as f32 / dim as f32).sqrt().min(4095.0).floor(),
        }
    }

    /// Added to a row's codes, where the instruction takes them as unsigned.
    fn shift(self) -> i32 {
        match self {
            Instructions::Vnni => 128,
            Instructions::Avx2 => 0,
        }
    }

    /// Components in a word.
    fn together(self) -> usize {
        match self {
            Instructions::Vnni => 4,
            Instructions::Avx2 => 2,
        }
    }

    /// Words of a vector.
    fn words(self, dim: usize) -> usize {
        dim.div_ceil(self.together())
    }

    /// Blocks in a piece: an even number, at least two.
    fn blocks_a_piece(self, dim: usize) -> usize {
        (piece_length(dim) / (self.words(dim) * LANES)) & !1
    }

    /// The word of the next components' codes, each with `shift`.
    #[inline(always)]
    fn word(self, codes: &[i16], shift: i32) -> u32 {
        match self {
            Instructions::Vnni => {
                let code = |i: usize| (i32::from(codes[i]) + shift) as u8;
                u32::from_le_bytes([code(0), code(1), code(2), code(3)])
            }
            Instructions::Avx2 => u32::from(codes[0] as u16) | u32::from(codes[1] as u16) << 16,
        }
    }
}

/// The scale that vectors around one centre share.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Coding {
    scale: f32,
    /// Codes a unit: 1 / scale, or 0.
    per: f32,
    /// The largest component.
    most: f32,
    /// How far any code lies from the centre, at most.
    farthest: f32,
}

impl Coding {
    /// That of `rows`, each less `center`.
    fn of(with: Instructions, rows: &[f32], center: &[f32]) -> Self {
        let (most, codes) = (largest_of(with, rows, center), with.largest(center.len()));
        // Below this the quotient would be no number; then the code is 0, and all is lost.
        let (scale, per) = if most > 1e-30 { (most / codes, codes / most) } else { (0.0, 0.0) };
        Coding { scale, per, most, farthest: 0.0 }
    }

    /// Says how far codes lie whose squares come to `most` at most.
    fn reach(&mut self, most: f32) {
        self.farthest = most.sqrt() * self.scale * (1.0 + 4.0 * f32::EPSILON);
    }
}

/// What is known of a coded vector beside its codes.
#[derive(Debug, Clone, Copy, Default)]
struct Code {
    /// At least the distance between the vector and what its code stands for.
    lost: f32,
    /// The sum of the codes' squares.
    square: f32,
    /// The sum of the codes.
    sum: i32,
}

/// A function that runs another's body with all that the instructions' processors have.
macro_rules! wide {
    ($(#[$about:meta])* $name:ident = $body:ident($($argument:ident: $type:ty),*) $(-> $out:ty)?) => {
        $(#[$about])*
        #[inline]
        fn $name(with: Instructions, $($argument: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
                fn vnni($($argument: $type),*) $(-> $out)? {
                    $body($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) $(-> $out)? {
                    $body($($argument),*)
                }
                // SAFETY: instructions are named where the processor has them.
                #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
                unsafe {
                    match with {
                        Instructions::Vnni => vnni($($argument),*),
                        Instructions::Avx2 => avx2($($argument),*),
                    }
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = with;
                $body($($argument),*)
            }
        }
    };
}

wide! {
    /// The largest component of any of `rows` less `center`.
    largest_of = largest_of_body(rows: &[f32], center: &[f32]) -> f32
}
wide! {
    /// Codes `rows`, each less `center`: `rows.known.len()` of them.
    encode_each = encode_each_body(coding: &Coding, rows: &[f32], center: &[f32], slots: Slots<'_>)
}
wide! {
    /// The same, into blocks.
    encode_blocks = encode_blocks_body(coding: &Coding, rows: &[f32], center: &[f32], to: &mut Rows)
}
wide! {
    /// Codes `center` less `from` in two numbers a component, high and low: what
    /// that stands for goes to `away`. Returns its square, what was lost, the low
    /// number's unit, and the sums of both.
    split = split_body(
        center: &[f32], from: &[f32], away: &mut [f32], high: &mut [i16], low: &mut [i16]
    ) -> (f32, f32, f32, [i32; 2])
}
wide! {
    /// The dot product of numbers and codes of eight bits.
    dot_bytes = dot_body(numbers: &[f32], codes: &[i8]) -> f32
}
wide! {
    /// The same of sixteen bits.
    dot_halves = dot_body(numbers: &[f32], codes: &[i16]) -> f32
}

/// The dot product of numbers and a vector's words.
#[inline]
fn dot(with: Instructions, numbers: &[f32], words: &[u32]) -> f32 {
    match with {
        Instructions::Vnni => dot_bytes(with, numbers, bytemuck::cast_slice(words)),
        Instructions::Avx2 => dot_halves(with, numbers, bytemuck::cast_slice(words)),
    }
}

#[inline(always)]
fn largest_of_body(rows: &[f32], center: &[f32]) -> f32 {
    rows.chunks_exact(center.len()).fold(0f32, |most, row| most.max(largest(row, center)))
}

#[inline(always)]
fn encode_each_body(coding: &Coding, rows: &[f32], center: &[f32], slots: Slots<'_>) {
    let (with, together) = (slots.with, slots.with.together());
    let mut codes = vec![0i16; slots.words * together];
    let values = slots.values.chunks_exact_mut(slots.words);
    for ((values, known), row) in values.zip(slots.known).zip(rows.chunks_exact(center.len())) {
        *known = encode(coding, row, center, &mut codes);
        for (word, codes) in values.iter_mut().zip(codes.chunks_exact(together)) {
            *word = with.word(codes, 0);
        }
    }
}

#[inline(always)]
fn encode_blocks_body(coding: &Coding, rows: &[f32], center: &[f32], to: &mut Rows) {
    let (with, together, shift) = (to.with, to.with.together(), to.with.shift());
    let (words, a_piece) = (with.words(to.dim), to.with.blocks_a_piece(to.dim));
    let mut codes = vec![0i16; words * together];
    let mut most = 0f32;
    for (i, row) in rows.chunks_exact(to.dim).enumerate() {
        let code = encode(coding, row, center, &mut codes);
        let (block, lane) = (i / LANES, i % LANES);
        let piece: &mut [u32] = bytemuck::cast_slice_mut(&mut to.pieces[block / a_piece]);
        let block = &mut piece[block % a_piece * words * LANES..][..words * LANES];
        for (out, codes) in block.as_chunks_mut::<LANES>().0.iter_mut().zip(codes.chunks_exact(together)) {
            out[lane] = with.word(codes, shift);
        }
        to.half_squares[i] = 0.5 * code.square;
        to.lost = to.lost.max(code.lost);
        most = most.max(code.square);
    }
    to.coding.reach(most);
}

/// The largest component of `row` less `center`.
#[inline(always)]
fn largest(row: &[f32], center: &[f32]) -> f32 {
    let (rows, row_tail) = row.as_chunks::<LANES>();
    let (centers, center_tail) = center.as_chunks::<LANES>();
    let mut most = [0f32; LANES];
    for (x, c) in rows.iter().zip(centers) {
        for lane in 0..LANES {
            let away = (x[lane] - c[lane]).abs();
            most[lane] = if away > most[lane] { away } else { most[lane] };
        }
    }
    let tail = row_tail.iter().zip(center_tail).fold(0f32, |most, (&x, &c)| most.max((x - c).abs()));
    most.into_iter().fold(tail, f32::max)
}

/// Codes `vector` less `center` into `codes`, which may be longer: the rest becomes 0.
#[inline(always)]
fn encode(coding: &Coding, vector: &[f32], center: &[f32], codes: &mut [i16]) -> Code {
    let Coding { scale, per, most, .. } = *coding;
    let dim = vector.len();
    codes[dim..].fill(0);
    let (vectors, vector_tail) = vector.as_chunks::<LANES>();
    let (centers, center_tail) = center.as_chunks::<LANES>();
    let (mut lost, mut squares, mut sums) = ([0f32; LANES], [0i32; LANES], [0i32; LANES]);
    let code = |x: f32, c: f32, lost: &mut f32, square: &mut i32, sum: &mut i32| {
        let away = x - c;
        let code = (away * per + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
        let left = away - scale * code as f32;
        *lost += left * left;
        *square += code * code;
        *sum += code;
        code as i16
    };
    let (chunks, codes_tail) = codes[..dim].as_chunks_mut::<LANES>();
    for ((x, c), codes) in vectors.iter().zip(centers).zip(chunks) {
        for lane in 0..LANES {
            codes[lane] = code(x[lane], c[lane], &mut lost[lane], &mut squares[lane], &mut sums[lane]);
        }
    }
    for (lane, ((&x, &c), out)) in vector_tail.iter().zip(center_tail).zip(codes_tail).enumerate() {
        *out = code(x, c, &mut lost[lane], &mut squares[lane], &mut sums[lane]);
    }
    Code {
        // A sum of so many squares may be short by a few thousandths at most, and
        // what is left of a component by two roundings of the largest.
        lost: lost.iter().sum::<f32>().sqrt() * 1.005
            + 4.0 * f32::EPSILON * most * (dim as f32).sqrt()
            + f32::MIN_POSITIVE,
        square: squares.iter().sum::<i32>() as f32,
        sum: sums.iter().sum(),
    }
}

/// A segment's rows, in blocks of [`LANES`]: a word of each of them after the other.
#[derive(Default)]
pub struct Rows {
    with: Instructions,
    dim: usize,
    rows: usize,
    pieces: Vec<Piece>,
    coding: Coding,
    /// What any of them lost, at most.
    lost: f32,
    /// Half the sum of each row's squared codes.
    half_squares: Vec<f32>,
}

impl Rows {
    /// Codes `rows`, each less `center`, into `pieces` as far as they go.
    pub(super) fn encode(with: Instructions, pieces: Vec<Piece>, rows: &[f32], center: &[f32]) -> Self {
        let dim = center.len();
        let count = rows.len() / dim;
        let coding = Coding::of(with, rows, center);
        let mut coded = Rows { with, dim, rows: count, pieces, coding, ..Rows::default() };
        let blocks = count.div_ceil(LANES);
        let (a_piece, length) = (with.blocks_a_piece(dim), piece_length(dim));
        coded.pieces.retain(|piece| piece.len() == length);
        let wanted = blocks.div_ceil(a_piece);
        coded.pieces.reserve_exact(wanted.saturating_sub(coded.pieces.len()));
        while coded.pieces.len() < wanted {
            coded.pieces.push(piece(dim));
        }
        coded.half_squares = vec![0.0; blocks * LANES];
        encode_blocks(with, &coding, rows, center, &mut coded);
        coded
    }

    pub(super) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    /// Bytes held by so many rows.
    pub(super) fn bytes(rows: usize, dim: usize) -> u64 {
        let a_piece = Instructions::best(dim).map_or(2, |with| with.blocks_a_piece(dim));
        let pieces = rows.div_ceil(LANES).div_ceil(a_piece);
        (pieces * piece_length(dim) * 4 + rows.next_multiple_of(LANES) * 4) as u64
    }

    /// One block from `first` on, or two that lie together, and how many they are.
    fn pair(&self, first: usize) -> (&[u32], usize) {
        let (words, a_piece) = (self.with.words(self.dim), self.with.blocks_a_piece(self.dim));
        let blocks = (self.half_squares.len() / LANES - first).min(2);
        let piece: &[u32] = bytemuck::cast_slice(&self.pieces[first / a_piece]);
        (&piece[first % a_piece * words * LANES..][..blocks * words * LANES], blocks)
    }
}

/// Vectors in groups, each around a centre of its own, one after the other.
#[derive(Default)]
pub(super) struct Codes {
    with: Instructions,
    words: usize,
    values: Vec<u32>,
    known: Vec<Code>,
}

impl Codes {
    /// Room for so many.
    pub(super) fn new(with: Instructions, rows: usize, dim: usize) -> Self {
        let words = with.words(dim);
        let values = crate::pages::filled(rows * words, 0);
        Codes { with, words, values, known: vec![Code::default(); rows] }
    }

    /// Leaves only the first `rows`.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows * self.words);
        self.known.truncate(rows);
    }

    /// The first `rows` of what is still to be filled, and the rest.
    pub(super) fn slots(&mut self) -> Slots<'_> {
        Slots { with: self.with, words: self.words, values: &mut self.values, known: &mut self.known }
    }

    /// Bytes of a vector.
    pub(super) fn row_bytes(dim: usize) -> u64 {
        let words = Instructions::best(dim).map_or(0, |with| with.words(dim));
        (words * 4 + size_of::<Code>()) as u64
    }
}

/// Where codes go.
pub(super) struct Slots<'a> {
    with: Instructions,
    words: usize,
    values: &'a mut [u32],
    known: &'a mut [Code],
}

impl<'a> Slots<'a> {
    /// The first `rows` of them, and the others.
    pub(super) fn split(self, rows: usize) -> (Self, Self) {
        let Slots { with, words, values, known } = self;
        let (values, later_values) = values.split_at_mut(rows * words);
        let (known, later_known) = known.split_at_mut(rows);
        (Slots { with, words, values, known }, Slots { with, words, values: later_values, known: later_known })
    }

    /// Codes `rows`, each less `center`.
    pub(super) fn encode(self, rows: &[f32], center: &[f32]) -> Coding {
        let mut coding = Coding::of(self.with, rows, center);
        let Slots { with, words, values, known } = self;
        encode_each(with, &coding, rows, center, Slots { with, words, values, known: &mut *known });
        coding.reach(known.iter().fold(0f32, |most, known| most.max(known.square)));
        coding
    }
}

/// A query of a group that meets a segment.
#[derive(Debug, Clone, Copy)]
struct Query {
    /// Its place among those that meet the segment.
    number: u32,
    /// Its place among those that were chosen.
    chosen: u32,
    /// Its place among the codes.
    place: u32,
    /// ½|u + q̂|², and what it, u and any row lost together.
    half_square: f32,
    lost: f32,
    /// What the kernel's product has too much, since rows are unsigned.
    excess: i32,
}

/// A group of a window's rows and a segment, brought together.
#[derive(Default)]
pub(super) struct Between {
    dim: usize,
    /// What u's code stands for, and the square of it.
    away: Vec<f32>,
    square: f32,
    /// How far that is from u, at most.
    lost: f32,
    /// The scale of the dot product; 0 where codes cannot tell.
    scale: f32,
    query_scale: f32,
    /// What rounding may add, in the scale of squared distances.
    room: f32,
    /// u's code: [high, low] components, and the same as words.
    halves: [Vec<i16>; 2],
    codes: [Vec<u32>; 2],
    /// What each row adds to the product.
    offsets: Vec<i32>,
    queries: Vec<Query>,
    bars: Vec<i32>,
    /// The dot products of two queries with all rows.
    sums: [Vec<i32>; 2],
    /// Where rows look for queries as well: see [`Both`].
    lifts: Vec<i32>,
    beyond: Vec<i32>,
}

impl Between {
    /// Brings a group, coded by `coding` around `center`, before rows coded around `rows_center`.
    pub(super) fn set(&mut self, coding: &Coding, center: &[f32], rows: &Rows, rows_center: &[f32]) {
        let (with, dim) = (rows.with, center.len());
        let together = with.together();
        self.dim = dim;
        let length = with.words(dim) * together;
        self.away.resize(length, 0.0);
        self.halves.iter_mut().for_each(|codes| codes.resize(length, 0));
        let [high, low] = &mut self.halves;
        let (step, sums);
        (self.square, self.lost, step, sums) = split(with, center, rows_center, &mut self.away, high, low);
        for (words, codes) in self.codes.iter_mut().zip(&self.halves) {
            words.clear();
            words.extend(codes.chunks_exact(together).map(|codes| with.word(codes, 0)));
        }
        self.scale = coding.scale * rows.coding.scale;
        self.query_scale = coding.scale;
        let reach = self.square.sqrt() + coding.farthest + rows.coding.farthest;
        // Sums of `dim` products in lanes err by (dim/16 + 6)·ε/2 of what they add up, the rest by a few ε.
        self.room = (dim as f32 / 16.0 + 32.0) * f32::EPSILON * reach * reach + f32::MIN_POSITIVE;
        // Where centres lie so far apart that whole numbers would overflow, or
        // the scale is no number, codes cannot tell.
        let sane = self.scale.is_normal() && reach * reach <= self.scale * LARGEST;
        if !sane {
            self.scale = 0.0;
            return;
        }
        let blocks = rows.half_squares.len() / LANES;
        self.offsets.resize(blocks * LANES, 0);
        let shift = rows.with.shift();
        let (of_row, of_step) = (rows.coding.scale / coding.scale, step / coding.scale);
        for first in (0..blocks).step_by(2) {
            let (values, count) = rows.pair(first);
            let mut dots = [[0i32; 2 * LANES]; 2];
            products(rows.with, values, count, [&self.codes[0], &self.codes[1]], &mut dots);
            let at = first * LANES..(first + count) * LANES;
            let rows = self.offsets[at.clone()].iter_mut().zip(&rows.half_squares[at]);
            for ((offset, half_square), (high, low)) in rows.zip(dots[0].iter().zip(&dots[1])) {
                let dot = 256.0 * (high - shift * sums[0]) as f32 + (low - shift * sums[1]) as f32;
                *offset = (of_step * dot - of_row * half_square) as i32;
            }
        }
    }

    /// The bar of a query whose rows are to be no farther (squared) than `limit`.
    ///
    /// Half of (√limit + all losses)² is what the codes' distance comes to at
    /// most. The limit itself errs by (dim/16 + 8)·ε/2; one is lost where an
    /// offset is rounded, one where the bar is.
    #[inline]
    fn bar(&self, query: &Query, limit: f32) -> i32 {
        let limit = limit * (1.0 + (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON);
        let within = limit.sqrt() + query.lost;
        let bar = (query.half_square - 0.5 * within * within - self.room) / self.scale - 2.0;
        bar.clamp(-LARGEST, LARGEST) as i32 + query.excess
    }

    /// A query of the group that was [set](Between::set): what is known of it here.
    #[inline]
    fn query(&self, codes: &Codes, rows: &Rows, chosen: usize, place: u32) -> Query {
        let known = codes.known[place as usize];
        let code = &codes.values[place as usize * codes.words..][..codes.words];
        let (dot, scale) = (dot(codes.with, &self.away, code), self.query_scale);
        let square = (self.square + scale * (2.0 * dot + scale * known.square)).max(0.0);
        let lost = self.lost + known.lost + rows.lost;
        let excess = codes.with.shift() * known.sum;
        Query { number: 0, chosen: chosen as u32, place, half_square: 0.5 * square, lost, excess }
    }

    /// How far (squared) the `crowd` rows nearest to each of the queries at
    /// `chosen` among `codes` are at most: infinitely, where there are fewer.
    pub(super) fn crowd(&mut self, codes: &Codes, chosen: &[u32], rows: &Rows, crowd: usize, far: &mut Vec<f32>) {
        far.clear();
        far.resize(chosen.len(), f32::INFINITY);
        if self.scale == 0.0 || rows.rows < crowd || crowd == 0 {
            return;
        }
        let blocks = rows.half_squares.len() / LANES;
        let mut sums = std::mem::take(&mut self.sums);
        for (two, far) in chosen.chunks(2).zip(far.chunks_mut(2)) {
            let code = |place: u32| &codes.values[place as usize * codes.words..][..codes.words];
            let vectors = [code(two[0]), code(two[two.len() - 1])];
            sums.iter_mut().for_each(Vec::clear);
            for first in (0..blocks).step_by(2) {
                let (values, count) = rows.pair(first);
                let mut dots = [[0i32; 2 * LANES]; 2];
                products(rows.with, values, count, vectors, &mut dots);
                let offsets = &self.offsets[first * LANES..(first + count) * LANES];
                for (sums, dots) in sums.iter_mut().zip(&dots) {
                    sums.extend(dots.iter().zip(offsets).map(|(dot, offset)| dot + offset));
                }
            }
            for ((&place, far), sums) in two.iter().zip(far).zip(&mut sums) {
                let query = self.query(codes, rows, 0, place);
                let (_, sum, _) = sums[..rows.rows].select_nth_unstable_by(crowd - 1, |a, b| b.cmp(a));
                // As of a bar: one may be lost where an offset was rounded.
                let half = query.half_square - self.scale * (*sum - query.excess - 2) as f32 + self.room;
                let within = (2.0 * half.max(0.0)).sqrt() + query.lost;
                *far = within * within * (1.0 + (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON);
            }
        }
        self.sums = sums;
    }

    /// Looks for rows that may be no farther (squared) from the query at
    /// `chosen[i]` among `codes` than `limit(i)`: `hit(i, row)` for each of them
    /// gives its next limit. Rows that have limits themselves are hit as well
    /// where a query may be no farther than theirs.
    pub(super) fn for_each_near(
        &mut self,
        codes: &Codes,
        chosen: &[u32],
        rows: &Rows,
        row_limits: Option<&[f32]>,
        limit: impl Fn(usize) -> f32,
        mut hit: impl FnMut(usize, usize) -> f32,
    ) {
        let most_of_rows = row_limits.map_or(0.0, |limits| limits.iter().fold(0f32, |most, &limit| most.max(limit)));
        let code = |place: u32| &codes.values[place as usize * codes.words..][..codes.words];
        let (mut queries, mut bars) = (std::mem::take(&mut self.queries), std::mem::take(&mut self.bars));
        queries.clear();
        bars.clear();
        for (i, &place) in chosen.iter().enumerate() {
            let query = self.query(codes, rows, i, place);
            let (square, lost) = (2.0 * query.half_square, query.lost);
            // No row is nearer than the nearest point of the ball around them all.
            let least =
                (square - 2.0 * self.room).max(0.0).sqrt() * (1.0 - 4.0 * f32::EPSILON) - rows.coding.farthest - lost;
            let most = limit(i);
            let any = most.max(most_of_rows);
            if least > 0.0 && least * least * (1.0 - (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON) > any {
                continue;
            }
            if self.scale == 0.0 {
                (0..rows.rows).for_each(|row| _ = hit(i, row));
                continue;
            }
            bars.push(self.bar(&query, most));
            queries.push(Query { number: queries.len() as u32, ..query });
        }
        bars.resize(bars.len().next_multiple_of(QUERIES), NEVER);
        if let Some(limits) = row_limits.filter(|_| !queries.is_empty()) {
            self.look_back(&queries, limits, rows);
        }
        let blocks = if queries.is_empty() { 0 } else { rows.half_squares.len() / LANES };
        for first in (0..blocks).step_by(2) {
            let (values, count) = rows.pair(first);
            let offsets = &self.offsets[first * LANES..(first + count) * LANES];
            let groups = queries.chunks(QUERIES).zip(bars.as_chunks_mut::<QUERIES>().0);
            for (queries, bars) in groups {
                let group = std::array::from_fn(|q| code(queries[q.min(queries.len() - 1)].place));
                let both = row_limits.map(|_| Both {
                    lifts: &self.lifts[first * LANES..(first + count) * LANES],
                    beyond: std::array::from_fn(|q| match queries.get(q) {
                        Some(query) => bars[q] - self.beyond[query.number as usize],
                        None => 0,
                    }),
                });
                let Some(masks) = near(codes.with, values, offsets, &group, bars, both) else { continue };
                for ((query, bar), mut mask) in queries.iter().zip(bars).zip(masks) {
                    while mask != 0 {
                        let row = first * LANES + mask.trailing_zeros() as usize;
                        mask &= mask - 1;
                        if row < rows.rows {
                            *bar = self.bar(query, hit(query.chosen as usize, row));
                        }
                    }
                }
            }
        }
        (self.queries, self.bars) = (queries, bars);
    }

    /// What rows of such limits add to a sum, and what is taken from it then.
    ///
    /// A query is near a row where half their codes' distance is at most half of
    /// (√limit + all losses)²: the largest loss of any query does for all.
    fn look_back(&mut self, queries: &[Query], limits: &[f32], rows: &Rows) {
        let lost = queries.iter().fold(0f32, |most, query| most.max(query.lost));
        self.lifts.clear();
        self.lifts.extend(limits.iter().map(|limit| {
            let within = (limit * (1.0 + (self.dim as f32 / 16.0 + 16.0) * f32::EPSILON)).sqrt() + lost;
            // Two are lost where this and an offset are rounded.
            (0.5 * within * within / self.scale + 3.0).min(LARGEST) as i32
        }));
        // Nobody is there.
        self.lifts.resize(rows.half_squares.len(), 0);
        self.beyond.clear();
        self.beyond.extend(queries.iter().map(|query| {
            let bar = (query.half_square - self.room) / self.scale - 2.0;
            bar.clamp(-LARGEST, LARGEST) as i32 + query.excess
        }));
    }
}

#[inline(always)]
fn split_body(
    center: &[f32],
    from: &[f32],
    away: &mut [f32],
    high: &mut [i16],
    low: &mut [i16],
) -> (f32, f32, f32, [i32; 2]) {
    let most = largest(center, from);
    let (step, per) = if most > 1e-30 { (most / STEPS, STEPS / most) } else { (0.0, 0.0) };
    let (mut square, mut lost, mut sums) = (0f32, 0f32, [0i32; 2]);
    for ((((away, high), low), &c), &f) in away.iter_mut().zip(high).zip(low).zip(center).zip(from) {
        let exact = c - f;
        let code = (exact * per) as i32;
        *away = code as f32 * step;
        *high = ((code + 128) >> 8) as i16;
        *low = (code - 256 * i32::from(*high)) as i16;
        sums[0] += i32::from(*high);
        sums[1] += i32::from(*low);
        square += *away * *away;
        lost += (exact - *away) * (exact - *away);
    }
    let dim = center.len() as f32;
    // As of a code's own loss; sums of `dim` squares one after the other err by dim·ε/2.
    let lost = lost.sqrt() * (1.005 + dim * f32::EPSILON) + 4.0 * f32::EPSILON * most * dim.sqrt() + f32::MIN_POSITIVE;
    (square, lost, step, sums)
}

#[inline(always)]
fn dot_body<T: Copy + Into<f32>>(numbers: &[f32], codes: &[T]) -> f32 {
    let mut sums = [0f32; LANES];
    let (numbers, numbers_tail) = numbers.as_chunks::<LANES>();
    let (codes, codes_tail) = codes.as_chunks::<LANES>();
    for (x, c) in numbers.iter().zip(codes) {
        for lane in 0..LANES {
            sums[lane] = x[lane].mul_add(c[lane].into(), sums[lane]);
        }
    }
    for (lane, (&x, &c)) in numbers_tail.iter().zip(codes_tail).enumerate() {
        sums[lane] = x.mul_add(c.into(), sums[lane]);
    }
    crate::sum::total(sums)
}

/// The products of two vectors' codes with one block of rows, or two.
fn products(with: Instructions, values: &[u32], blocks: usize, vectors: [&[u32]; 2], out: &mut [[i32; 2 * LANES]; 2]) {
    let words = vectors[0].len();
    assert!(vectors[1].len() == words && values.len() == blocks * words * LANES && blocks <= 2, "whole blocks");
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: instructions are named where the processor has them; the lengths were just asserted.
        #[expect(unsafe_code, reason = "measured kernel")]
        unsafe {
            match (with, blocks) {
                (Instructions::Vnni, 1) => products_vnni::<1>(values, vectors, out),
                (Instructions::Vnni, _) => products_vnni::<2>(values, vectors, out),
                (Instructions::Avx2, _) => products_avx2(values, vectors, out),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    products_plain(with, values, vectors, out);
}

/// What rows add where they look for queries as well.
#[derive(Debug, Clone, Copy)]
struct Both<'a> {
    /// Of each row: half of what it may be away, in the bars' scale.
    lifts: &'a [i32],
    /// Of each query: its bar less what it would be if the query looked for nothing.
    beyond: [i32; QUERIES],
}

/// Which rows of one block, or two, meet the bars of eight queries, or are met by them.
#[inline]
fn near(
    with: Instructions,
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: Option<Both<'_>>,
) -> Option<Masks> {
    assert!(both.is_none_or(|both| both.lifts.len() == offsets.len()), "whole blocks");
    let (words, blocks) = (queries[0].len(), offsets.len() / LANES);
    assert!(queries.iter().all(|query| query.len() == words) && (blocks == 1 || blocks == 2), "whole blocks");
    assert!(offsets.len() == blocks * LANES && values.len() == blocks * words * LANES, "whole blocks");
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: as of `products`.
        #[expect(unsafe_code, reason = "measured kernel")]
        unsafe {
            const ALONE: &Both<'_> = &Both { lifts: &[], beyond: [0; QUERIES] };
            match (with, blocks, &both) {
                (Instructions::Vnni, 1, None) => near_vnni::<1, false>(values, offsets, queries, bars, ALONE),
                (Instructions::Vnni, _, None) => near_vnni::<2, false>(values, offsets, queries, bars, ALONE),
                (Instructions::Vnni, 1, Some(both)) => near_vnni::<1, true>(values, offsets, queries, bars, both),
                (Instructions::Vnni, _, Some(both)) => near_vnni::<2, true>(values, offsets, queries, bars, both),
                (Instructions::Avx2, _, None) => near_avx2::<false>(values, offsets, queries, bars, ALONE),
                (Instructions::Avx2, _, Some(both)) => near_avx2::<true>(values, offsets, queries, bars, both),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    near_plain(with, values, offsets, queries, bars, both)
}

/// Adds the products of `Q` vectors' codes with `BLOCKS` blocks to `sums`.
///
/// # Safety
/// The processor has AVX-512F and VNNI; there are `BLOCKS` blocks, and all is of one dimension.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn add_products<const BLOCKS: usize, const Q: usize>(
    values: &[u32],
    vectors: &[&[u32]; Q],
    sums: &mut [[std::arch::x86_64::__m512i; BLOCKS]; Q],
) {
    use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32};
    let words = vectors[0].len();
    for word in 0..words {
        // SAFETY: word < words, so that every read below ends within its slice.
        unsafe {
            let rows: [_; BLOCKS] =
                std::array::from_fn(|b| _mm512_loadu_si512(values.as_ptr().add((b * words + word) * LANES).cast()));
            for (vector, sums) in vectors.iter().zip(sums.iter_mut()) {
                let vector = _mm512_set1_epi32(*vector.as_ptr().add(word) as i32);
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = _mm512_dpbusd_epi32(*sum, row, vector);
                }
            }
        }
    }
}

/// # Safety
/// As of [`add_products`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn products_vnni<const BLOCKS: usize>(values: &[u32], vectors: [&[u32]; 2], out: &mut [[i32; 2 * LANES]; 2]) {
    use std::arch::x86_64::{_mm512_setzero_si512, _mm512_storeu_si512};
    let mut sums = [[_mm512_setzero_si512(); BLOCKS]; 2];
    // SAFETY: what the caller promises; each block's sums have room in `out`.
    unsafe {
        add_products(values, &vectors, &mut sums);
        for (out, sums) in out.iter_mut().zip(sums) {
            for (b, sum) in sums.into_iter().enumerate() {
                _mm512_storeu_si512(out.as_mut_ptr().add(b * LANES).cast(), sum);
            }
        }
    }
}

/// Sums begin with what the row adds and the bar takes away: a row that is not near leaves them below zero.
///
/// # Safety
/// As of [`add_products`]; `offsets` has a number for each row of the blocks, and so have the lifts of `BOTH`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn near_vnni<const BLOCKS: usize, const BOTH: bool>(
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: &Both<'_>,
) -> Option<Masks> {
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_and_si512, _mm512_cmpge_epi32_mask, _mm512_loadu_si512, _mm512_max_epi32,
        _mm512_set1_epi32, _mm512_setzero_si512, _mm512_sub_epi32,
    };
    let zero = _mm512_setzero_si512();
    // SAFETY: what the caller promises.
    let offsets: [_; BLOCKS] =
        std::array::from_fn(|b| unsafe { _mm512_loadu_si512(offsets.as_ptr().add(b * LANES).cast()) });
    let mut sums = bars.map(|bar| offsets.map(|offset| _mm512_sub_epi32(offset, _mm512_set1_epi32(bar))));
    // SAFETY: what the caller promises.
    unsafe { add_products(values, queries, &mut sums) };
    if BOTH {
        // SAFETY: the rows have a lift each.
        let lifts: [_; BLOCKS] =
            std::array::from_fn(|b| unsafe { _mm512_loadu_si512(both.lifts.as_ptr().add(b * LANES).cast()) });
        sums = std::array::from_fn(|q| {
            let beyond = _mm512_set1_epi32(both.beyond[q]);
            std::array::from_fn(|b| {
                _mm512_max_epi32(sums[q][b], _mm512_add_epi32(sums[q][b], _mm512_add_epi32(lifts[b], beyond)))
            })
        });
    }
    // Almost always nothing is near: the signs of all sums together first.
    let all = sums.as_flattened().iter().fold(_mm512_set1_epi32(-1), |all, &sum| _mm512_and_si512(all, sum));
    if _mm512_cmpge_epi32_mask(all, zero) == 0 {
        return None;
    }
    Some(sums.map(|sums| {
        let masks = sums.iter().enumerate();
        masks.fold(0, |mask, (b, &sum)| mask | u32::from(_mm512_cmpge_epi32_mask(sum, zero)) << (b * LANES))
    }))
}

/// Rows that a register of AVX2 has a word of.
#[cfg(target_arch = "x86_64")]
const HALF: usize = LANES / 2;

/// # Safety
/// The processor has AVX2; `values` are whole blocks of the vectors' words, at most two.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn products_avx2(values: &[u32], vectors: [&[u32]; 2], out: &mut [[i32; 2 * LANES]; 2]) {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
        _mm256_storeu_si256,
    };
    let words = vectors[0].len();
    for half in 0..values.len() / (words * HALF) {
        let first = (half / 2 * words * 2 + half % 2) * HALF;
        let mut sums = [_mm256_setzero_si256(); 2];
        for word in 0..words {
            // SAFETY: half a block has eight rows' word, and each vector that word.
            unsafe {
                let rows = _mm256_loadu_si256(values.as_ptr().add(first + word * LANES).cast::<__m256i>());
                for (sum, vector) in sums.iter_mut().zip(vectors) {
                    let vector = _mm256_set1_epi32(*vector.as_ptr().add(word) as i32);
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(rows, vector));
                }
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            // SAFETY: eight numbers are there to be written.
            unsafe { _mm256_storeu_si256(out[half * HALF..][..HALF].as_mut_ptr().cast::<__m256i>(), sum) };
        }
    }
}

/// Four queries at a time against a block: eight registers of sums.
///
/// # Safety
/// The processor has AVX2; `values` are whole blocks of the queries' words, at most
/// two, and `offsets` has a number for each row of them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn near_avx2<const BOTH: bool>(
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: &Both<'_>,
) -> Option<Masks> {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_max_epi32, _mm256_movemask_ps, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sub_epi32,
    };
    const AT_ONCE: usize = 4;
    let words = queries[0].len();
    let mut masks = None;
    for (block, offsets) in offsets.as_chunks::<LANES>().0.iter().enumerate() {
        let rows = values[block * words * LANES..][..words * LANES].as_ptr();
        // SAFETY: a block has sixteen offsets.
        let (low, high) = unsafe {
            let offsets = offsets.as_ptr().cast::<__m256i>();
            (_mm256_loadu_si256(offsets), _mm256_loadu_si256(offsets.add(1)))
        };
        for (part, (queries, bars)) in
            queries.as_chunks::<AT_ONCE>().0.iter().zip(bars.as_chunks::<AT_ONCE>().0).enumerate()
        {
            // The last group's padding.
            if bars[0] == NEVER {
                continue;
            }
            let mut sums = [[_mm256_setzero_si256(); 2]; AT_ONCE];
            for (sums, &bar) in sums.iter_mut().zip(bars) {
                let bar = _mm256_set1_epi32(bar);
                *sums = [_mm256_sub_epi32(low, bar), _mm256_sub_epi32(high, bar)];
            }
            for word in 0..words {
                // SAFETY: word < words: a block has sixteen rows' word, and each query has that word.
                unsafe {
                    let rows = rows.add(word * LANES).cast::<__m256i>();
                    let (low, high) = (_mm256_loadu_si256(rows), _mm256_loadu_si256(rows.add(1)));
                    for (sums, query) in sums.iter_mut().zip(queries) {
                        let query = _mm256_set1_epi32(*query.as_ptr().add(word) as i32);
                        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(low, query));
                        sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(high, query));
                    }
                }
            }
            if BOTH {
                // SAFETY: a block has sixteen lifts.
                let lifts = unsafe {
                    let lifts = both.lifts.as_ptr().add(block * LANES).cast::<__m256i>();
                    [_mm256_loadu_si256(lifts), _mm256_loadu_si256(lifts.add(1))]
                };
                sums = std::array::from_fn(|q| {
                    let beyond = _mm256_set1_epi32(both.beyond[part * AT_ONCE + q]);
                    std::array::from_fn(|h| {
                        _mm256_max_epi32(sums[q][h], _mm256_add_epi32(sums[q][h], _mm256_add_epi32(lifts[h], beyond)))
                    })
                });
            }
            // Almost always nothing is near: the signs of all sums together first.
            let all = sums.as_flattened().iter().fold(_mm256_set1_epi32(-1), |all, &sum| _mm256_and_si256(all, sum));
            if _mm256_movemask_ps(_mm256_castsi256_ps(all)) == 0xff {
                continue;
            }
            let masks: &mut Masks = masks.get_or_insert([0; QUERIES]);
            for (mask, sums) in masks[part * AT_ONCE..].iter_mut().zip(&sums) {
                for (h, &sum) in sums.iter().enumerate() {
                    let far = _mm256_movemask_ps(_mm256_castsi256_ps(sum)) as u32;
                    *mask |= (!far & 0xff) << (block * LANES + h * HALF);
                }
            }
        }
    }
    masks
}

/// The product of a vector's codes with those of row `row` of some blocks, in plain Rust.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn product(with: Instructions, values: &[u32], row: usize, vector: &[u32]) -> i32 {
    let block = &values[row / LANES * vector.len() * LANES..][..vector.len() * LANES];
    let words = vector.iter().enumerate().map(|(word, vector)| {
        let row = block[word * LANES + row % LANES];
        match with {
            Instructions::Vnni => {
                let pairs = row.to_le_bytes().into_iter().zip(vector.to_le_bytes());
                pairs.map(|(x, q)| i32::from(x) * i32::from(q as i8)).sum::<i32>()
            }
            Instructions::Avx2 => {
                [0, 16].map(|at| i32::from((row >> at) as i16) * i32::from((vector >> at) as i16)).iter().sum()
            }
        }
    });
    words.sum()
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn products_plain(with: Instructions, values: &[u32], vectors: [&[u32]; 2], out: &mut [[i32; 2 * LANES]; 2]) {
    let rows = values.len() / vectors[0].len();
    for (out, vector) in out.iter_mut().zip(vectors) {
        (0..rows).for_each(|row| out[row] = product(with, values, row, vector));
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn near_plain(
    with: Instructions,
    values: &[u32],
    offsets: &[i32],
    queries: &[&[u32]; QUERIES],
    bars: &[i32; QUERIES],
    both: Option<Both<'_>>,
) -> Option<Masks> {
    let masks = std::array::from_fn(|q| {
        let near = |row: usize| {
            let sum = offsets[row] - bars[q] + product(with, values, row, queries[q]);
            sum >= 0 || both.is_some_and(|both| sum.wrapping_add(both.lifts[row].wrapping_add(both.beyond[q])) >= 0)
        };
        (0..offsets.len()).fold(0, |mask, row| mask | u32::from(near(row)) << row)
    });
    (masks != [0; QUERIES]).then_some(masks)
}

#[cfg(test)]
mod tests {
    use super::super::kernel::squared_distance;
    use super::*;
    use crate::random::unit;

    /// Looks for rows around one centre from queries around another; returns how many were hit in vain.
    fn nothing_is_passed_over(
        with: Instructions,
        queries: &[f32],
        center: &[f32],
        rows: &[f32],
        rows_center: &[f32],
        limit: f32,
    ) -> usize {
        let dim = center.len();
        let (count, row_count) = (queries.len() / dim, rows.len() / dim);
        let mut codes = Codes::new(with, count, dim);
        let coding = codes.slots().encode(queries, center);
        let coded = Rows::encode(with, Vec::new(), rows, rows_center);
        let mut between = Between::default();
        between.set(&coding, center, &coded, rows_center);
        let mut hit = vec![false; count * row_count];
        let chosen: Vec<u32> = (0..count as u32).rev().collect();
        between.for_each_near(
            &codes,
            &chosen,
            &coded,
            None,
            |_| limit,
            |query, row| {
                hit[(count - 1 - query) * row_count + row] = true;
                limit
            },
        );
        let mut vain = 0;
        for (q, query) in queries.chunks_exact(dim).enumerate() {
            for (r, row) in rows.chunks_exact(dim).enumerate() {
                let squared = squared_distance(query, row);
                let hit = hit[q * row_count + r];
                assert!(squared > limit || hit, "{dim}: {q} and {r}: {squared} within {limit}");
                vain += usize::from(squared > 1.2 * limit && hit);
            }
        }
        // The same from the rows' side: queries look for nothing.
        let mut hit = vec![false; count * row_count];
        let limits: Vec<f32> = (0..row_count).map(|row| if row % 3 == 0 { 0.0 } else { limit }).collect();
        between.for_each_near(
            &codes,
            &chosen,
            &coded,
            Some(&limits),
            |_| 0.0,
            |query, row| {
                hit[(count - 1 - query) * row_count + row] = true;
                0.0
            },
        );
        for (q, query) in queries.chunks_exact(dim).enumerate() {
            for (r, row) in rows.chunks_exact(dim).enumerate() {
                let squared = squared_distance(query, row);
                let hit = hit[q * row_count + r];
                assert!(squared > limits[r] || hit, "{dim}: row {r} looks for {q}: {squared} within {}", limits[r]);
                vain += usize::from(squared > 1.2 * limit && hit);
            }
        }
        vain / 2
    }

    #[test]
    fn no_near_row_is_passed_over() {
        let cases = [
            (1, 1.0, 0.0, 1.0),
            (3, 1.0, 1e3, 0.0),
            (37, 1.0, 0.0, 3.0),
            (130, 1e6, 3e9, 1.0),
            (64, 1e-33, 0.0, 1.0),
            (200, 1.0, 5.0, 300.0),
            (40, 1.0, 0.0, 1e6),
        ];
        for (dim, scale, away, apart) in cases {
            let (rows, queries) = (70, 45);
            let some = |stream, count: usize, at: f32| -> Vec<f32> {
                (0..count * dim).map(|i| (unit(3, stream, i as u64) * 4.0 - 2.0) * scale + at).collect()
            };
            let mut values = some(9, rows, away);
            // Some rows all but equal, some with one component that outweighs the others.
            values.copy_within(0..dim, dim);
            values[dim] += scale * 1e-3;
            values[5 * dim] += scale * 30.0;
            // Queries elsewhere, narrower, and some of the rows themselves.
            let mut asked = some(10, queries, away + apart * scale);
            asked.iter_mut().for_each(|x| *x = away + apart * scale + (*x - away - apart * scale) * 0.1);
            asked[..20 * dim].copy_from_slice(&values[..20 * dim]);
            let center: Vec<f32> = asked[30 * dim..31 * dim].to_vec();
            let rows_center: Vec<f32> = values[3 * dim..4 * dim].to_vec();
            for limit in [0.0, 1e-6, 0.5, 1.0, 2.0, 4.0].map(|x: f32| x * scale * scale * dim as f32) {
                for with in Instructions::all() {
                    let vain = nothing_is_passed_over(with, &asked, &center, &values, &rows_center, limit);
                    let plain = dim >= 30 && limit > 0.0 && away == 0.0 && apart < 10.0;
                    assert!(!plain || vain < rows * queries / 3, "{with:?}, {dim}: {vain} in vain at {limit}");
                    nothing_is_passed_over(with, &values, &rows_center, &values, &rows_center, limit);
                }
            }
        }
    }

    #[test]
    fn plain_sums_are_those_of_the_instructions() {
        for (with, dim) in Instructions::all().flat_map(|with| [1, 33, 45, 200].map(|dim| (with, dim))) {
            let mut values: Vec<f32> = (0..32 * dim).map(|i| unit(4, 9, i as u64) - 0.5).collect();
            // Rows whose codes are all as large as can be.
            values[..dim].fill(0.6);
            values[dim..2 * dim].fill(-0.4);
            let center = vec![0.1; dim];
            let mut codes = Codes::new(with, 8, dim);
            codes.slots().encode(&values[..8 * dim], &center);
            let rows = Rows::encode(with, Vec::new(), &values, &center);
            let (pair, blocks) = rows.pair(0);
            let queries: [&[u32]; QUERIES] = std::array::from_fn(|q| &codes.values[q * codes.words..][..codes.words]);
            let product = product(with, pair, 3, queries[0]);
            let (offsets, bars) = ([-9000; 32], [product - 9000, 20_000, 90_000, -20_000, 5, 6, NEVER, 0]);
            let found = near(with, pair, &offsets, &queries, &bars, None);
            assert_eq!(found, near_plain(with, pair, &offsets, &queries, &bars, None));
            let lifts = std::array::from_fn::<i32, 32, _>(|row| 100_000 * row as i32);
            let both =
                Some(Both { lifts: &lifts, beyond: [-1000, 0, 50_000, -200_000, 0, 9, NEVER - 2_000_000, -77_000] });
            let looked_back = near(with, pair, &offsets, &queries, &bars, both);
            assert_eq!(looked_back, near_plain(with, pair, &offsets, &queries, &bars, both));
            assert_ne!(looked_back, found);
            assert!(found.is_some_and(|masks| masks[0] >> 3 & 1 == 1 && masks[6] == 0), "{found:?}");
            let one = near(with, &pair[..pair.len() / 2], &offsets[..16], &queries, &bars, None);
            assert_eq!(one, near_plain(with, &pair[..pair.len() / 2], &offsets[..16], &queries, &bars, None));
            let mut dots = [[[0; 2 * LANES]; 2]; 2];
            products(with, pair, blocks, [queries[0], queries[1]], &mut dots[0]);
            products_plain(with, pair, [queries[0], queries[1]], &mut dots[1]);
            assert_eq!(dots[0], dots[1]);
        }
    }
}
