//! The sum of sixteen numbers in a fixed order: halves onto halves, as a
//! register is folded, so that it is the same whatever held the numbers.

/// The sum of the lanes.
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
