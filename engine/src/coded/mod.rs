//! Reduced codes: vectors quantised to 8 bits per component (more bits with AVX2), for processors that multiply many
//! such pairs at once. A filter by codes is coarser than a filter by full-precision scores, and faster.
//!
//! Vectors that belong together (the rows of a segment, or a group of queries) are shifted by a common
//! centre and share a scale: a decoded vector is a vector of integers times that scale. With u the vector
//! from the segment's centre to the group's centre, and q̂ and x̂ the decoded query and row, half of
//! their squared distance is
//!
//! ½|u + q̂|² + (½|x̂|² − u·x̂) − q̂·x̂
//!
//! that is, a term of the query, a term of the row, and a dot product of integers. A vector is therefore
//! coded once, whatever it is compared with, and comparisons use integers only. The quantisation error of
//! each vector is measured as a distance: by the triangle inequality two vectors are no nearer than their
//! decoded vectors less both errors. The threshold thus proves which pairs can be skipped, and codes do
//! not influence the resulting graph.

use crate::distances::{LANES, PackedPiece, empty_piece, piece_length};
use crate::simd::{Avx2, DotProduct, Neon, ROUND, Vnni};

/// The largest number of components for which no sum of the kernels exceeds 32 bits.
const MAX_COMPONENTS: usize = 16_384;

/// Instruction sets for products of codes, each with the proof that the processor has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum CodeInstructions {
    /// AVX-512 VNNI: adds four products per lane in 32 bits. Codes have eight bits.
    Vnni(Vnni),
    /// AVX2: adds two products per lane in 32 bits. Codes have as many bits as keep the sums within 32
    /// bits, eleven for 128 components. Eight bits would not be faster; six would be, but would pass many
    /// times as many rows.
    Avx2(Avx2),
    /// FEAT_DotProd of aarch64: as VNNI, but both codes are signed.
    DotProduct(DotProduct),
    /// NEON without FEAT_DotProd: the same codes and sums, by four instructions instead of one.
    Neon(Neon),
}

impl CodeInstructions {
    /// Returns all instruction sets of this processor, the best first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let all = [
            Vnni::detect().map(CodeInstructions::Vnni),
            Avx2::detect().map(CodeInstructions::Avx2),
            DotProduct::detect().map(CodeInstructions::DotProduct),
            Neon::detect().map(CodeInstructions::Neon),
        ];
        all.into_iter().flatten()
    }

    /// Returns the best instruction set for vectors of `dim` components, if there is one.
    pub(crate) fn best(dim: usize) -> Option<Self> {
        Self::all().next().filter(|_| dim <= MAX_COMPONENTS)
    }

    /// Returns the largest code for vectors of `dim` components: the sum of all products stays below 2^27.
    fn largest(self, dim: usize) -> f32 {
        match self {
            CodeInstructions::Avx2(_) => ((1 << 27) as f32 / dim as f32).sqrt().min(4095.0).floor(),
            CodeInstructions::Vnni(_) | CodeInstructions::DotProduct(_) | CodeInstructions::Neon(_) => 127.0,
        }
    }

    /// Returns the offset added to the codes of rows where the instruction takes them as unsigned.
    fn shift(self) -> i32 {
        match self {
            CodeInstructions::Vnni(_) => 128,
            CodeInstructions::Avx2(_) | CodeInstructions::DotProduct(_) | CodeInstructions::Neon(_) => 0,
        }
    }

    /// Returns the number of components in a 32-bit word.
    fn components_per_word(self) -> usize {
        match self {
            CodeInstructions::Avx2(_) => 2,
            CodeInstructions::Vnni(_) | CodeInstructions::DotProduct(_) | CodeInstructions::Neon(_) => 4,
        }
    }

    /// Returns the number of words of a vector.
    fn words(self, dim: usize) -> usize {
        dim.div_ceil(self.components_per_word())
    }

    /// Returns the number of blocks in a piece: an even number, at least two.
    fn blocks_a_piece(self, dim: usize) -> usize {
        (piece_length(dim) / (self.words(dim) * LANES)) & !1
    }

    /// Packs the first components of `codes`, each plus `shift`, into a word.
    #[inline(always)]
    fn word(self, codes: &[i16], shift: i32) -> u32 {
        match self {
            CodeInstructions::Vnni(_) | CodeInstructions::DotProduct(_) | CodeInstructions::Neon(_) => {
                let code = |i: usize| (i32::from(codes[i]) + shift) as u8;
                u32::from_le_bytes([code(0), code(1), code(2), code(3)])
            }
            CodeInstructions::Avx2(_) => u32::from(codes[0] as u16) | u32::from(codes[1] as u16) << 16,
        }
    }
}

/// The scale that vectors around one centre share.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CodeScale {
    scale: f32,
    /// Codes per unit: 1 / scale, or 0.
    per: f32,
    /// The largest absolute component.
    most: f32,
    /// Upper bound of the distance of any decoded vector from the centre.
    farthest: f32,
}

impl CodeScale {
    /// Returns the scale for `rows`, each less `center`.
    fn of(with: CodeInstructions, rows: &[f32], center: &[f32]) -> Self {
        let (most, codes) = (largest_of(with, rows, center), with.largest(center.len()));
        // Smaller values would overflow the quotient; all codes are then 0, and the whole vector is
        // quantisation error.
        let (scale, per) = if most > 1e-30 { (most / codes, codes / most) } else { (0.0, 0.0) };
        CodeScale { scale, per, most, farthest: 0.0 }
    }

    /// Sets `farthest` from `most`, the largest sum of squared codes of any vector.
    fn limit_lengths(&mut self, most: f32) {
        self.farthest = most.sqrt() * self.scale * (1.0 + 4.0 * f32::EPSILON);
    }
}

/// Properties of a coded vector, beside its codes.
#[derive(Debug, Clone, Copy, Default)]
struct CodeSums {
    /// Quantisation error: an upper bound of the distance between the vector and its decoded code.
    lost: f32,
    /// Sum of the squared codes.
    square: f32,
    /// Sum of the codes.
    sum: i32,
}

/// Defines a function that runs the body of another function compiled for the given instruction set.
macro_rules! wide {
    ($(#[$about:meta])* $name:ident = $body:ident($($argument:ident: $type:ty),*) $(-> $out:ty)?) => {
        $(#[$about])*
        #[inline]
        fn $name(with: CodeInstructions, $($argument: $type),*) $(-> $out)? {
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
                // SAFETY: `with` proves that the processor has the instruction set.
                #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
                unsafe {
                    match with {
                        CodeInstructions::Vnni(_) => vnni($($argument),*),
                        CodeInstructions::Avx2(_) => avx2($($argument),*),
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

mod comparison;
mod products;
#[cfg(target_arch = "aarch64")]
mod products_neon;

pub(crate) use comparison::CodedComparison;

wide! {
    /// Returns the largest absolute component of `rows` less `center`.
    largest_of = largest_of_body(rows: &[f32], center: &[f32]) -> f32
}
wide! {
    /// Codes `rows`, each less `center`; `slots` has space for all of them.
    encode_each = encode_each_body(coding: &CodeScale, rows: &[f32], center: &[f32], slots: CodeSlots<'_>)
}
wide! {
    /// Codes `rows`, each less `center`, into the blocks of `to`.
    encode_blocks = encode_blocks_body(coding: &CodeScale, rows: &[f32], center: &[f32], to: &mut CodedRows)
}
#[inline(always)]
fn largest_of_body(rows: &[f32], center: &[f32]) -> f32 {
    rows.chunks_exact(center.len()).fold(0f32, |most, row| most.max(largest_component(row, center)))
}

#[inline(always)]
fn encode_each_body(coding: &CodeScale, rows: &[f32], center: &[f32], slots: CodeSlots<'_>) {
    let (with, together) = (slots.with, slots.with.components_per_word());
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
fn encode_blocks_body(coding: &CodeScale, rows: &[f32], center: &[f32], to: &mut CodedRows) {
    let (with, together, shift) = (to.with, to.with.components_per_word(), to.with.shift());
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
    to.coding.limit_lengths(most);
}

/// Returns the largest absolute component of `row` less `center`.
#[inline(always)]
fn largest_component(row: &[f32], center: &[f32]) -> f32 {
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

/// Codes `vector` less `center` into `codes`, which may be longer; the rest is set to 0.
#[inline(always)]
fn encode(coding: &CodeScale, vector: &[f32], center: &[f32], codes: &mut [i16]) -> CodeSums {
    let CodeScale { scale, per, most, .. } = *coding;
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
    CodeSums {
        // Allows for rounding: a sum of this many squares may be too small by a few thousandths, and the
        // remainder of a component by two roundings of the largest component.
        lost: lost.iter().sum::<f32>().sqrt() * 1.005
            + 4.0 * f32::EPSILON * most * (dim as f32).sqrt()
            + f32::MIN_POSITIVE,
        square: squares.iter().sum::<i32>() as f32,
        sum: sums.iter().sum(),
    }
}

/// Coded rows of a segment, in blocks of [`LANES`] rows: the first word of each row of the block, then
/// the second word of each row, and so on.
pub(crate) struct CodedRows {
    with: CodeInstructions,
    dim: usize,
    rows: usize,
    pieces: Vec<PackedPiece>,
    coding: CodeScale,
    /// The largest quantisation error of a row.
    lost: f32,
    /// Half of the sum of each row's squared codes.
    half_squares: Vec<f32>,
}

impl CodedRows {
    /// Codes `rows`, each less `center`, reusing the memory of `pieces`.
    pub(crate) fn encode(with: CodeInstructions, pieces: Vec<PackedPiece>, rows: &[f32], center: &[f32]) -> Self {
        let dim = center.len();
        let count = rows.len() / dim;
        let coding = CodeScale::of(with, rows, center);
        let blocks = count.div_ceil(LANES);
        let half_squares = vec![0.0; blocks * LANES];
        let mut coded = CodedRows { with, dim, rows: count, pieces, coding, lost: 0.0, half_squares };
        let (a_piece, length) = (with.blocks_a_piece(dim), piece_length(dim));
        coded.pieces.retain(|piece| piece.len() == length);
        let wanted = blocks.div_ceil(a_piece);
        coded.pieces.reserve_exact(wanted.saturating_sub(coded.pieces.len()));
        while coded.pieces.len() < wanted {
            coded.pieces.push(empty_piece(dim));
        }
        encode_blocks(with, &coding, rows, center, &mut coded);
        coded
    }

    pub(crate) fn into_pieces(self) -> Vec<PackedPiece> {
        self.pieces
    }

    /// Returns the bytes held by `rows` rows.
    pub(crate) fn bytes(rows: usize, dim: usize) -> u64 {
        let a_piece = CodeInstructions::best(dim).map_or(2, |with| with.blocks_a_piece(dim));
        let pieces = rows.div_ceil(LANES).div_ceil(a_piece);
        (pieces * piece_length(dim) * 4 + rows.next_multiple_of(LANES) * 4) as u64
    }

    /// Returns the words of the blocks `first` and `first + 1`, which are contiguous, and their number;
    /// only of `first` if that block is the last.
    fn pair(&self, first: usize) -> (&[u32], usize) {
        let (words, a_piece) = (self.with.words(self.dim), self.with.blocks_a_piece(self.dim));
        let blocks = (self.half_squares.len() / LANES - first).min(2);
        let piece: &[u32] = bytemuck::cast_slice(&self.pieces[first / a_piece]);
        (&piece[first % a_piece * words * LANES..][..blocks * words * LANES], blocks)
    }
}

/// Coded queries, in groups with a centre each.
pub(crate) struct CodedVectors {
    with: CodeInstructions,
    words: usize,
    values: Vec<u32>,
    known: Vec<CodeSums>,
}

impl CodedVectors {
    /// Allocates space for `rows` vectors.
    pub(crate) fn new(with: CodeInstructions, rows: usize, dim: usize) -> Self {
        let words = with.words(dim);
        let values = crate::pages::filled(rows * words, 0);
        CodedVectors { with, words, values, known: vec![CodeSums::default(); rows] }
    }

    /// Keeps only the first `rows` vectors.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows * self.words);
        self.known.truncate(rows);
    }

    /// Returns the space for all vectors.
    pub(crate) fn slots(&mut self) -> CodeSlots<'_> {
        CodeSlots { with: self.with, words: self.words, values: &mut self.values, known: &mut self.known }
    }

    /// Returns the bytes of a vector.
    pub(crate) fn row_bytes(dim: usize) -> u64 {
        let words = CodeInstructions::best(dim).map_or(0, |with| with.words(dim));
        (words * 4 + size_of::<CodeSums>()) as u64
    }
}

/// Space for the codes of some vectors.
pub(crate) struct CodeSlots<'a> {
    with: CodeInstructions,
    words: usize,
    values: &'a mut [u32],
    known: &'a mut [CodeSums],
}

impl<'a> CodeSlots<'a> {
    /// Splits the space into that of the first `rows` vectors and the rest.
    pub(crate) fn split(self, rows: usize) -> (Self, Self) {
        let CodeSlots { with, words, values, known } = self;
        let (values, later_values) = values.split_at_mut(rows * words);
        let (known, later_known) = known.split_at_mut(rows);
        (CodeSlots { with, words, values, known }, CodeSlots { with, words, values: later_values, known: later_known })
    }

    /// Codes `rows`, each less `center`, and returns their scale.
    pub(crate) fn encode(self, rows: &[f32], center: &[f32]) -> CodeScale {
        let mut coding = CodeScale::of(self.with, rows, center);
        let CodeSlots { with, words, values, known } = self;
        encode_each(with, &coding, rows, center, CodeSlots { with, words, values, known: &mut *known });
        coding.limit_lengths(known.iter().fold(0f32, |most, known| most.max(known.square)));
        coding
    }
}
