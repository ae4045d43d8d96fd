//! Stub for builds without CUDA: no GPU can be found, so none of this code can run.

use std::ops::Range;

use super::super::segments::SegmentTable;
use super::super::tie_breaker::TieBreaker;
use super::super::window::Window;
use crate::Result;
use crate::device::Gpu;
use crate::observe::Progress;

/// A type without values.
pub(in crate::neighbors) struct GpuJoin<'a>(&'a Gpu);

impl<'a> GpuJoin<'a> {
    pub(in crate::neighbors) fn new(
        gpu: &'a Gpu,
        _: &SegmentTable<'_>,
        _: usize,
        _: TieBreaker,
        _: &Progress<'_>,
    ) -> Result<Self> {
        match *gpu {}
    }
}

impl Window {
    pub(in crate::neighbors) fn compare_on_gpu<I: Iterator<Item = u32>>(
        &mut self,
        joiner: &mut GpuJoin<'_>,
        _: impl Fn(usize) -> I,
        _: impl FnMut(Range<u32>) -> Result<()>,
    ) -> Result<()> {
        match *joiner.0 {}
    }
}
