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

use super::kernel::{LANES, Piece, piece, piece_length};

/// Components up to which no sum of the kernel's leaves 32 bits.
const WIDEST: usize = 16_384;
/// Added to a small number, leaves it rounded in the lowest bits.
const ROUND: f32 = 12_582_912.0;

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

mod between;
mod products;

pub(super) use between::Between;

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
