//! Detects components that single precision represents too coarsely. Floats near 4e8, for example, are 32
//! apart; where a component's spread is not many times larger, rows that differ in the file become equal.

use lowland_io::Source;

use crate::Result;
use crate::component_variance::{ComponentVariance, component_name};

/// Minimum spread of a component, in steps of single precision.
const MIN_STEPS: f64 = 64.0;
/// Number of rows read to find out whether a component is constant in the file.
const CHECKED_ROWS: u64 = 64;
/// Number of components that the note names.
const MAX_NAMED_COLUMNS: usize = 3;

/// Returns a note about the components that single precision represents too coarsely, or none. The rows
/// were read from `source`.
///
/// # Errors
/// The first rows cannot be read again.
pub(crate) fn precision_note(spread: &ComponentVariance, source: &dyn Source) -> Result<Option<String>> {
    let rounded = !source.dtype().is_single();
    let mut coarse = Vec::new();
    let mut constant = Vec::new();
    for column in 0..source.shape().dim {
        let (mean, spread) = spread.moments(column);
        let step = f32_step(mean);
        if spread > 0.0 && spread < MIN_STEPS * step {
            coarse.push((column, mean, step, spread));
        } else if spread == 0.0 && rounded && mean != 0.0 {
            constant.push((column, mean, step));
        }
    }
    if !constant.is_empty() {
        coarse.extend(not_constant(source, &constant)?);
        coarse.sort_unstable_by_key(|&(column, ..)| column);
    }
    if coarse.is_empty() {
        return Ok(None);
    }
    let named: Vec<String> = coarse
        .iter()
        .take(MAX_NAMED_COLUMNS)
        .map(|&(column, mean, step, spread)| {
            let name = component_name(source, column);
            format!("{name} (steps of {step:.1e} near {mean:.3e}, where values spread by {spread:.1e})")
        })
        .collect();
    let more = match coarse.len().saturating_sub(MAX_NAMED_COLUMNS) {
        0 => String::new(),
        more => format!("; and {more} more components"),
    };
    let scores = if rounded { ", and the scores are those of the rounded values" } else { "" };
    Ok(Some(format!(
        "single precision is too coarse for {}{more}: differences between rows are lost{scores}; subtract a constant from these components",
        named.join("; ")
    )))
}

/// Returns the distance from a number to the next larger float.
fn f32_step(near: f64) -> f64 {
    let near = (near.abs() as f32).min(f32::MAX / 2.0);
    f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near)
}

/// Returns the components that vary within the file's first rows, with their spread there.
fn not_constant(source: &dyn Source, constant: &[(usize, f64, f64)]) -> Result<Vec<(usize, f64, f64, f64)>> {
    let shape = source.shape();
    let mut values = vec![0.0; shape.rows.min(CHECKED_ROWS) as usize * shape.dim];
    source.read_rows_f64(0, &mut values)?;
    let spread = |column: usize| {
        let numbers = values.iter().skip(column).step_by(shape.dim);
        let (low, high) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
        high - low
    };
    let spreads = constant.iter().map(|&(column, mean, step)| (column, mean, step, spread(column)));
    Ok(spreads.filter(|&(_, _, step, spread)| spread > 0.0 && spread < MIN_STEPS * step).collect())
}
