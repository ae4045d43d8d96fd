//! The range of a column of numbers or times: the place of a value between the ends, and the labels
//! along the range.
//!
//! What must hold: differences are computed in the column's own type, so that different values have
//! different places; a label has as many digits, or as fine a part of a time, as are needed to tell
//! it from the next one.

use super::times::{Zone, durations, moments, times_of_day};

/// A value in the type in which its column's differences are exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueNumber {
    /// An integer, whose meaning the [`ValueUnit`] gives.
    Integer(i128),
    /// A floating-point number.
    Float(f64),
}

/// The meaning of a column's numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueUnit {
    /// Plain numbers. A [`ValueNumber::Integer`] is divided by 10 to the power of `scale`, as decimals
    /// are.
    Plain {
        /// The number of digits after the decimal point; if negative, of zeros before it.
        scale: i8,
    },
    /// Nanoseconds since 1970, shown as days.
    Date,
    /// Nanoseconds since 1970, shown in a time zone if one is given (an offset, or a name of the
    /// IANA database).
    Moment {
        /// The time zone, as Arrow writes it.
        zone: Option<String>,
    },
    /// Nanoseconds since midnight.
    TimeOfDay,
    /// Nanoseconds.
    Duration,
}

/// The range from the smallest to the largest value of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueRange {
    low: ValueNumber,
    high: ValueNumber,
    unit: ValueUnit,
}

impl ValueRange {
    /// Returns a range of floating-point numbers. An end that is not finite counts as 0.
    pub fn floats(low: f64, high: f64) -> Self {
        let [low, high] = [low, high].map(|v| if v.is_finite() { v } else { 0.0 });
        let unit = ValueUnit::Plain { scale: 0 };
        ValueRange { low: ValueNumber::Float(low.min(high)), high: ValueNumber::Float(high.max(low)), unit }
    }

    /// Returns a range of integers with their unit.
    pub fn wholes(low: i128, high: i128, unit: ValueUnit) -> Self {
        ValueRange { low: ValueNumber::Integer(low.min(high)), high: ValueNumber::Integer(high.max(low)), unit }
    }

    /// Returns the smallest and the largest value.
    pub fn ends(&self) -> (ValueNumber, ValueNumber) {
        (self.low, self.high)
    }

    /// Returns the place of a value, from 0 (smallest) to 1 (largest). Values outside have the
    /// nearer end's place; in a range of one value the place is 0.5. NaN for NaN.
    pub fn place(&self, value: ValueNumber) -> f64 {
        let place = match (self.low, self.high, value) {
            (ValueNumber::Integer(low), ValueNumber::Integer(high), ValueNumber::Integer(value)) if low < high => {
                let value = value.clamp(low, high);
                (value.abs_diff(low)) as f64 / high.abs_diff(low) as f64
            }
            (ValueNumber::Float(low), ValueNumber::Float(high), ValueNumber::Float(value)) if low < high => {
                // Halved first, because the difference may exceed the largest number.
                (value.clamp(low, high) / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)
            }
            (_, _, ValueNumber::Float(value)) if value.is_nan() => f64::NAN,
            _ => 0.5,
        };
        if place.is_nan() { f64::NAN } else { place.clamp(0.0, 1.0) }
    }

    /// Returns the remark about the labels that the legend's heading contains: the time zone.
    pub(super) fn remark(&self) -> Option<String> {
        match &self.unit {
            ValueUnit::Moment { zone: Some(zone) } => {
                Some(if Zone::named(zone).is_some() { zone.clone() } else { "UTC".into() })
            }
            _ => None,
        }
    }

    /// Returns places (0 to 1) and labels along the range: the two ends first, then round values in
    /// between. If the range is a single value, one label in the middle.
    pub(super) fn ticks(&self) -> Vec<(f32, String)> {
        match (self.low, self.high, &self.unit) {
            (ValueNumber::Integer(low), ValueNumber::Integer(high), unit) => {
                let ticks = match unit {
                    ValueUnit::Plain { scale } => plain(low, high, *scale),
                    ValueUnit::Duration => durations(low, high),
                    ValueUnit::TimeOfDay => times_of_day(low, high),
                    ValueUnit::Date => moments(low, high, None, true),
                    ValueUnit::Moment { zone } => moments(low, high, zone.as_deref().and_then(Zone::named), false),
                };
                let place = |value| if low == high { 0.5 } else { self.place(ValueNumber::Integer(value)) as f32 };
                ticks.into_iter().map(|(value, label)| (place(value), label)).collect()
            }
            (ValueNumber::Float(low), ValueNumber::Float(high), _) => floats(low, high),
            _ => Vec::new(),
        }
    }
}

/// Values with labels, the ends first.
pub(super) type Ticks = Vec<(i128, String)>;

/// Returns the labelled ends of a range (or its only value), followed by those of `between` inside
/// the range.
pub(super) fn with_ends(low: i128, high: i128, label: impl Fn(i128) -> String, between: Ticks) -> Ticks {
    if low == high {
        return vec![(low, label(low))];
    }
    let inside = between.into_iter().filter(|(value, _)| low < *value && *value < high);
    [(low, label(low)), (high, label(high))].into_iter().chain(inside).collect()
}

/// Returns the multiples of `step` above `low` and below `high`, at most eight.
pub(super) fn multiples(low: i128, high: i128, step: i128) -> impl Iterator<Item = i128> {
    let first = low.div_euclid(step).checked_add(1).and_then(|n| n.checked_mul(step));
    std::iter::successors(first, move |value| value.checked_add(step)).take_while(move |v| *v < high).take(8)
}

/// Returns the smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `rough`.
pub(super) fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough).unwrap_or(rough)
}

/// Returns the ticks of integers that are divided by 10 to the power of `scale`.
fn plain(low: i128, high: i128, scale: i8) -> Ticks {
    let span = high.abs_diff(low) as f64;
    let unit = 10f64.powi(i32::from(scale));
    let label = |value: i128, grain: f64| {
        let digits = digits(value as f64, grain);
        // Up to fifteen digits are exact in f64.
        if digits <= 15.0 && grain > 0.0 { number(value as f64 / unit, grain / unit) } else { decimal(value, scale) }
    };
    // Steps are whole numbers: a step of 2.5 becomes 5.
    let step = round_step(span / 5.0).max(1.0);
    let step = if step.fract() == 0.0 { step } else { 5.0 };
    let between = multiples(low, high, step as i128).map(|v| (v, label(v, step / 2.0))).collect();
    with_ends(low, high, |v| label(v, span / 100.0), between)
}

/// Formats an integer divided by 10 to the power of `scale`, exactly, without trailing zeros.
fn decimal(value: i128, scale: i8) -> String {
    let Ok(scale) = usize::try_from(scale) else {
        let zeros = "0".repeat(usize::from(scale.unsigned_abs()));
        return if value == 0 { "0".into() } else { format!("{value}{zeros}") };
    };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { trimmed(&format!("{sign}{whole}.{fraction}")).into() }
}

fn floats(low: f64, high: f64) -> Vec<(f32, String)> {
    let span = high - low;
    if low >= high {
        return vec![(0.5, number(low, 0.0))];
    }
    let grain = high / 100.0 - low / 100.0;
    let mut ticks = vec![(0.0, number(low, grain)), (1.0, number(high, grain))];
    if !span.is_finite() {
        return ticks;
    }
    let step = round_step(span / 5.0);
    let first = (low / step).ceil();
    for i in 0..8 {
        let value = (first + f64::from(i)) * step;
        let at = ((value - low) / span) as f32;
        if at > 0.0 && at < 1.0 {
            ticks.push((at, number(value, step / 2.0)));
        }
    }
    ticks
}

/// Returns the number of significant digits of a value with which a difference of `grain` is
/// visible.
fn digits(value: f64, grain: f64) -> f64 {
    (value.abs().max(grain).log10().floor() - grain.log10().floor() + 1.0).max(1.0)
}

/// Formats a value so that a difference of `grain` is visible; with all its digits if `grain` is 0.
pub(super) fn number(value: f64, grain: f64) -> String {
    let size = value.abs();
    let value = if size < grain / 10.0 { 0.0 } else { value };
    let plain = value == 0.0 || (1e-4..1e16).contains(&size);
    if grain <= 0.0 || !grain.is_finite() {
        return if plain { format!("{value}") } else { format!("{value:e}") };
    }
    let digits = digits(size, grain).min(17.0);
    if !plain || (size >= 1e6 && digits <= 6.0 && value != 0.0) {
        let text = format!("{value:.*e}", (digits as usize).saturating_sub(1).max(1));
        // Without trailing zeros: 2.50e6 becomes 2.5e6.
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}e{exponent}", trimmed(mantissa))
    } else {
        let decimals = (-grain.log10()).ceil().clamp(0.0, 20.0);
        trimmed(&format!("{value:.*}", decimals as usize)).to_owned()
    }
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn labels(range: &ValueRange) -> Vec<String> {
        range.ticks().into_iter().map(|tick| tick.1).collect()
    }

    #[track_caller]
    pub(in super::super) fn check(range: &ValueRange, expected: &[&str]) {
        let ticks = range.ticks();
        assert_eq!(labels(range), expected);
        let places: Vec<f32> = ticks.iter().map(|tick| tick.0).collect();
        assert!(places.iter().all(|at| (0.0..=1.0).contains(at)), "{places:?}");
        assert!(places[1.min(places.len() - 1)..].iter().skip(1).is_sorted(), "{places:?}");
    }

    fn plain(low: i128, high: i128, scale: i8) -> ValueRange {
        ValueRange::wholes(low, high, ValueUnit::Plain { scale })
    }

    #[test]
    fn floats_are_short_and_telling() {
        assert_eq!(number(2.5e7, 1e5), "2.5e7");
        assert_eq!(number(0.1 + 0.2, 0.01), "0.3");
        assert_eq!(number(1e-18, 0.5), "0");
        assert_eq!(number(1e30, 1e28), "1e30");
        assert_eq!(number(1_714_521_607.5, 0.6), "1714521607.5");
        check(&ValueRange::floats(0.0, 1.0), &["0", "1", "0.2", "0.4", "0.6", "0.8"]);
        check(&ValueRange::floats(1990.0, 2024.0), &["1990", "2024", "2000", "2010", "2020"]);
        check(
            &ValueRange::floats(1e12, 1e12 + 1.0),
            &[
                "1000000000000",
                "1000000000001",
                "1000000000000.2",
                "1000000000000.4",
                "1000000000000.6",
                "1000000000000.8",
            ],
        );
        check(&ValueRange::floats(3.0, 3.0), &["3"]);
        check(&ValueRange::floats(0.0, 0.0), &["0"]);
        check(&ValueRange::floats(f64::NAN, f64::INFINITY), &["0"]);
        check(&ValueRange::floats(f64::MIN, f64::MAX), &["-1.8e308", "1.8e308"]);
        assert!(labels(&ValueRange::floats(5e-324, 1e-323)).len() >= 2);
    }

    #[test]
    fn integers_and_decimals_keep_their_digits() {
        check(&plain(1990, 2024, 0), &["1990", "2024", "2000", "2010", "2020"]);
        check(&plain(-5, 7, 0), &["-5", "7", "0", "5"]);
        check(&plain(7, 7, 0), &["7"]);
        check(&plain(0, 40_000_000, 0), &["0", "4e7", "1e7", "2e7", "3e7"]);
        let far = 1i128 << 53;
        check(
            &plain(far + 1, far + 601, 0),
            &["9007199254740993", "9007199254741593", "9007199254741000", "9007199254741200", "9007199254741400"],
        );
        check(&plain(u64::MAX.into(), u64::MAX.into(), 0), &["18446744073709551615"]);
        check(&plain(12_345, 12_395, 2), &["123.45", "123.95", "123.5", "123.6", "123.7", "123.8", "123.9"]);
        check(&plain(-1, -1, 2), &["-0.01"]);
        check(&plain(12_300, 12_300, -2), &["1230000"]);
        assert!(labels(&plain(i128::MIN, i128::MAX, 38)).len() > 2);
    }

    #[test]
    fn differences_are_exact() {
        let far = (1i128 << 60) + 1;
        let range = plain(far, far + 600, 0);
        let places: Vec<f64> = (0..=600).map(|i| range.place(ValueNumber::Integer(far + i))).collect();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((places[0], places[300], places[600]), (0.0, 0.5, 1.0));
        let range = ValueRange::floats(1.7e9, 1.7e9 + 60.0);
        assert_eq!(range.place(ValueNumber::Float(1.7e9 + 15.0)), 0.25);
        assert_eq!(range.place(ValueNumber::Float(f64::INFINITY)), 1.0);
        assert!(range.place(ValueNumber::Float(f64::NAN)).is_nan());
        assert!(ValueRange::floats(1.0, 1.0).place(ValueNumber::Float(f64::NAN)).is_nan());
        assert_eq!(ValueRange::floats(f64::MIN, f64::MAX).place(ValueNumber::Float(0.0)), 0.5);
        assert_eq!(plain(3, 3, 0).place(ValueNumber::Integer(3)), 0.5);
        assert_eq!(plain(i128::MIN, i128::MAX, 0).place(ValueNumber::Integer(0)), 0.5);
    }
}
