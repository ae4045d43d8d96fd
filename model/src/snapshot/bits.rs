//! A set of places as bits, with the number of places before each block, so that membership and rank take constant time.
//!
//! The set of `places` bits is ⌈places / 64⌉ words (u64; place p is bit p mod 64 of word p / 64).

use std::ops::Range;

/// The words of one block, of which the rank is stored.
pub(super) const BLOCK: usize = 8;

/// Returns the number of words of a set.
pub(super) fn words(places: u64) -> u64 {
    places.div_ceil(64)
}

/// Returns the number of blocks of a set, each of which has a rank.
pub(super) fn blocks(places: u64) -> u64 {
    words(places).div_ceil(BLOCK as u64)
}

/// A set of places that is being filled in ascending order. Holds one bit for each place up to the last one.
#[derive(Debug, Default)]
pub(super) struct BitSet {
    words: Vec<u64>,
    /// The least place that may be added next.
    next: u32,
}

impl BitSet {
    /// Adds a place; returns false if it is not above the one before, or cannot be a place.
    pub(super) fn add(&mut self, place: u32) -> bool {
        if place < self.next || place == u32::MAX {
            return false;
        }
        self.words.resize(place as usize / 64 + 1, 0);
        self.words[place as usize / 64] |= 1 << (place % 64);
        self.next = place + 1;
        true
    }

    /// Returns the last place + 1.
    pub(super) fn places(&self) -> u32 {
        self.next
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Returns the number of places before each block.
    pub(super) fn ranks(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.chunks(BLOCK).scan(0u32, |before, block| {
            let rank = *before;
            *before += block.iter().map(|word| word.count_ones()).sum::<u32>();
            Some(rank)
        })
    }
}

/// Returns whether the set has the place.
pub(super) fn has(words: &[u64], place: u32) -> bool {
    words.get(place as usize / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
}

/// Returns the number of places of the set that are below `place`, given the ranks of the blocks.
pub(super) fn rank(words: &[u64], ranks: &[u32], place: u32) -> Option<u32> {
    let (word, block) = (place as usize / 64, place as usize / 64 / BLOCK);
    let before: u32 = words.get(block * BLOCK..word)?.iter().map(|word| word.count_ones()).sum();
    let within = words.get(word)? & ((1 << (place % 64)) - 1);
    ranks.get(block)?.checked_add(before + within.count_ones())
}

/// Returns the places of the set that are in `range`, ascending.
pub(super) fn places(words: &[u64], range: Range<u32>) -> impl Iterator<Item = u32> + '_ {
    let first = range.start as usize / 64;
    let last = (range.end as usize).div_ceil(64).min(words.len());
    let whole = (first..last).flat_map(move |index| {
        let mut left = words[index];
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (bit < 64).then(|| index as u32 * 64 + bit)
        })
    });
    whole.filter(move |place| range.contains(place))
}
