//! Stub for builds without CUDA: no GPU can be found, so none of this code can run.

use std::ops::Range;

use super::super::segments::Segments;
use super::super::ties::Ties;
use super::super::window::Window;
use crate::Result;
use crate::device::Gpu;
use crate::observe::Progress;

/// A type without values.
pub(in crate::neighbors) struct Joiner<'a>(&'a Gpu);

impl<'a> Joiner<'a> {
    pub(in crate::neighbors) fn new(
        gpu: &'a Gpu,
        _: &Segments<'_>,
        _: usize,
        _: Ties,
        _: &Progress<'_>,
    ) -> Result<Self> {
        match *gpu {}
    }
}

impl Window {
    pub(in crate::neighbors) fn meet_on<I: Iterator<Item = u32>>(
        &mut self,
        joiner: &mut Joiner<'_>,
        _: impl Fn(usize) -> I,
        _: impl FnMut(Range<u32>) -> Result<()>,
    ) -> Result<()> {
        match *joiner.0 {}
    }
}
