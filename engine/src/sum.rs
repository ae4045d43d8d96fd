//! The sum of sixteen numbers in a fixed order, so that every instruction set gives the same bits: the upper
//! half is added to the lower half until one number is left.

/// Returns the sum of the lanes.
#[inline(always)]
pub(crate) fn total(mut lanes: [f32; 16]) -> f32 {
    let mut width = lanes.len() / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
