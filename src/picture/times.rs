//! Labels of times along a range, as dates and clock times.
//!
//! What must hold: any number of nanoseconds has a label, in any time zone.

use chrono::{
    DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Timelike,
};

use super::range::{Ticks, multiples, number, round_step, with_ends};

const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;
/// The mean lengths of a year and a month.
const YEAR: i128 = 31_556_952 * SECOND;
const MONTH: i128 = YEAR / 12;

/// A time zone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zone {
    Named(chrono_tz::Tz),
    Fixed(FixedOffset),
}

impl Zone {
    /// Returns the time zone of an Arrow name: an offset such as +05:30, or a name of the IANA
    /// database.
    pub(super) fn named(name: &str) -> Option<Self> {
        if let Ok(zone) = name.parse() {
            return Some(Zone::Named(zone));
        }
        let (sign, digits) = match name.as_bytes() {
            [b'+', ..] => (1, &name[1..]),
            [b'-', ..] => (-1, &name[1..]),
            _ => return None,
        };
        let digits = digits.replace(':', "");
        let minutes = match digits.len() {
            2 => digits.parse::<i32>().ok()? * 60,
            4 => digits.get(..2)?.parse::<i32>().ok()? * 60 + digits.get(2..)?.parse::<i32>().ok()?,
            _ => return None,
        };
        FixedOffset::east_opt(sign * minutes * 60).map(Zone::Fixed)
    }

    /// Returns the offset at a time in UTC.
    fn at(&self, utc: &NaiveDateTime) -> FixedOffset {
        match self {
            Zone::Named(zone) => zone.offset_from_utc_datetime(utc).fix(),
            Zone::Fixed(offset) => *offset,
        }
    }

    /// Returns the offset when clocks show `at`: the first of two, `None` if clocks never show
    /// `at`.
    fn shown(&self, at: &NaiveDateTime) -> Option<FixedOffset> {
        match self {
            Zone::Named(zone) => zone.offset_from_local_datetime(at).earliest().map(|offset| offset.fix()),
            Zone::Fixed(offset) => Some(*offset),
        }
    }
}

/// Returns the ticks of durations, in the largest unit of which the range has at least two.
pub(super) fn durations(low: i128, high: i128) -> Ticks {
    const UNITS: [(i128, &str); 7] =
        [(DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns")];
    let span = high.abs_diff(low);
    let size = if span > 0 { span } else { low.unsigned_abs() };
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| size >= 2 * unit.unsigned_abs()).unwrap_or((1, "ns"));
    let label = |value: i128, grain: f64| {
        let grain = if span > 0 { grain / unit as f64 } else { 0.0 };
        format!("{} {name}", number(value as f64 / unit as f64, grain))
    };
    let step = clock_step(span as f64 / 5.0).unwrap_or_else(|| {
        let days = round_step(span as f64 / 5.0 / DAY as f64).ceil();
        days as i128 * DAY
    });
    let between = multiples(low, high, step).map(|v| (v, label(v, step as f64 / 2.0))).collect();
    with_ends(low, high, |v| label(v, span as f64 / 100.0), between)
}

pub(super) fn times_of_day(low: i128, high: i128) -> Ticks {
    let label = |value: i128, fineness: TimeResolution| {
        let time = |value: i128| {
            let seconds = u32::try_from(value.div_euclid(SECOND)).ok()?;
            NaiveTime::from_num_seconds_from_midnight_opt(seconds, value.rem_euclid(SECOND) as u32)
        };
        time(value).map_or_else(|| format!("{value} ns"), |time| clock(time, fineness))
    };
    let span = high.abs_diff(low) as f64;
    let step = clock_step(span / 5.0).unwrap_or(DAY);
    let between = multiples(low, high, step).map(|v| (v, label(v, TimeResolution::of_step(step)))).collect();
    with_ends(low, high, |v| label(v, TimeResolution::of_span(span, v).max(TimeResolution::Minute)), between)
}

/// The finest part of a time that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimeResolution {
    Year,
    Month,
    Day,
    Minute,
    Second,
    /// Digits of a second.
    Digits(usize),
}

impl TimeResolution {
    /// Returns the fineness that shows a hundredth of `span` nanoseconds; for a span of 0, every
    /// digit of `value`.
    fn of_span(span: f64, value: i128) -> Self {
        let span = span as i128;
        if span == 0 {
            return match value.rem_euclid(SECOND) {
                0 => TimeResolution::Second,
                part => TimeResolution::Digits(9 - (1..9).take_while(|d| part % 10i128.pow(*d) == 0).count()),
            };
        }
        match span {
            span if span >= 10 * DAY => TimeResolution::Day,
            span if span >= 10 * MINUTE => TimeResolution::Minute,
            span if span >= 20 * SECOND => TimeResolution::Second,
            span => TimeResolution::digits(span / 100),
        }
    }

    fn of_step(step: i128) -> Self {
        match step {
            step if step >= DAY => TimeResolution::Day,
            step if step >= MINUTE => TimeResolution::Minute,
            step if step >= SECOND => TimeResolution::Second,
            step => TimeResolution::digits(step),
        }
    }

    /// Returns the digits that distinguish times which differ by `grain` nanoseconds.
    fn digits(grain: i128) -> Self {
        TimeResolution::Digits((1..9).find(|digits| 10i128.pow(9 - digits) <= grain).unwrap_or(9) as usize)
    }
}

fn clock(time: NaiveTime, fine: TimeResolution) -> String {
    let mut text = format!("{:02}:{:02}", time.hour(), time.minute());
    if fine >= TimeResolution::Second {
        text += &format!(":{:02}", time.second());
    }
    if let TimeResolution::Digits(digits) = fine {
        let part = format!("{:09}", time.nanosecond() % 1_000_000_000);
        text += &format!(".{}", &part[..digits.clamp(1, 9)]);
    }
    text
}

fn calendar(at: NaiveDateTime, fine: TimeResolution) -> String {
    let date = match fine {
        TimeResolution::Year => format!("{:04}", at.year()),
        TimeResolution::Month => format!("{:04}-{:02}", at.year(), at.month()),
        _ => format!("{:04}-{:02}-{:02}", at.year(), at.month(), at.day()),
    };
    if fine > TimeResolution::Day { format!("{date} {}", clock(at.time(), fine)) } else { date }
}

/// Converts nanoseconds since 1970 in UTC to the local time of a zone; `None` outside of the
/// calendar's range.
fn local(value: i128, zone: Option<&Zone>) -> Option<NaiveDateTime> {
    let seconds = i64::try_from(value.div_euclid(SECOND)).ok()?;
    let utc = DateTime::from_timestamp(seconds, value.rem_euclid(SECOND) as u32)?.naive_utc();
    match zone {
        Some(zone) => utc.checked_add_offset(zone.at(&utc)),
        None => Some(utc),
    }
}

/// Converts a local time to nanoseconds since 1970. Of a time that occurs twice, the first; `None`
/// for a time that is skipped.
fn universal(at: NaiveDateTime, zone: Option<&Zone>) -> Option<i128> {
    let utc = match zone {
        Some(zone) => at.checked_sub_offset(zone.shown(&at)?)?,
        None => at,
    };
    let utc = utc.and_utc();
    Some(i128::from(utc.timestamp()) * SECOND + i128::from(utc.timestamp_subsec_nanos()))
}

/// Returns the ticks of nanoseconds since 1970 as dates, with the time of day if the range needs it
/// and `days` is not set.
pub(super) fn moments(low: i128, high: i128, zone: Option<Zone>, days: bool) -> Ticks {
    let zone = zone.as_ref();
    let span = high.abs_diff(low) as f64;
    let fine = |fine: TimeResolution| if days { fine.min(TimeResolution::Day) } else { fine };
    let label = |value: i128| match local(value, zone) {
        Some(at) => calendar(at, fine(TimeResolution::of_span(span, value))),
        // Outside of the calendar's range only the year is shown.
        None => format!("year {}", 1970 + value / YEAR),
    };
    let between = match (local(low, zone), local(high, zone)) {
        (Some(first), Some(last)) if low < high => round_moments(first, last, span, days, zone),
        _ => Vec::new(),
    };
    with_ends(low, high, label, between)
}

/// Returns round local times between two times: years, months, days or parts of a day.
fn round_moments(first: NaiveDateTime, last: NaiveDateTime, span: f64, days: bool, zone: Option<&Zone>) -> Ticks {
    let rough = span / 5.0;
    let labelled =
        |at: NaiveDateTime, fine: TimeResolution| universal(at, zone).map(|value| (value, calendar(at, fine)));
    let of_date = |date: Option<NaiveDate>| date.map(|date| date.and_time(NaiveTime::MIN));
    if let Some(step) = clock_step(rough).filter(|_| !days) {
        let midnight = first.date().and_time(NaiveTime::MIN);
        // Counted from midnight, so that steps of hours and minutes fall on round times.
        let since = |at: NaiveDateTime| {
            let passed = at - midnight;
            i128::from(passed.num_seconds()) * SECOND + i128::from(passed.subsec_nanos())
        };
        let at = |offset: i128| midnight.checked_add_signed(TimeDelta::nanoseconds(i64::try_from(offset).ok()?));
        return multiples(since(first), since(last) + 1, step)
            .filter_map(|offset| labelled(at(offset)?, TimeResolution::of_step(step)))
            .collect();
    }
    if let Some(step) = [1, 2, 5, 7, 14].into_iter().find(|step| *step as f64 * DAY as f64 >= rough) {
        let date = |n: u64| of_date(first.date().checked_add_days(Days::new(n * step)));
        return (1..9).filter_map(|n| labelled(date(n)?, TimeResolution::Day)).collect();
    }
    if let Some(step) = [1, 2, 3, 6].into_iter().find(|step| *step as f64 * MONTH as f64 >= rough) {
        let months = first.year() * 12 + first.month0() as i32;
        let date = |n: i32| {
            let month = (months.div_euclid(step) + n) * step;
            of_date(NaiveDate::from_ymd_opt(month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1))
        };
        return (1..9).filter_map(|n| labelled(date(n)?, TimeResolution::Month)).collect();
    }
    let step = round_step(rough / YEAR as f64).ceil().max(1.0) as i32;
    let year = |n: i32| of_date(NaiveDate::from_ymd_opt((first.year().div_euclid(step) + n).checked_mul(step)?, 1, 1));
    (1..9).filter_map(|n| labelled(year(n)?, TimeResolution::Year)).collect()
}

/// Returns the smallest round part of a day, in nanoseconds, that is at least `rough`.
fn clock_step(rough: f64) -> Option<i128> {
    if rough <= SECOND as f64 / 2.0 {
        // Parts of a second are decimal.
        let step = round_step(rough.max(1.0));
        return Some(if step.fract() == 0.0 { step as i128 } else { 5 });
    }
    let steps = [SECOND, MINUTE].into_iter().flat_map(|unit| [1, 2, 5, 10, 15, 30].map(|n| n * unit));
    steps.chain([1, 2, 3, 6, 12].map(|n| n * HOUR)).find(|step| *step as f64 >= rough)
}

#[cfg(test)]
mod tests {
    use super::super::range::tests::check;
    use super::super::range::{ValueRange, ValueUnit};
    use super::*;

    fn moment(text: &str) -> i128 {
        let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
        universal(at, None).unwrap()
    }

    fn moments(low: &str, high: &str, zone: Option<&str>) -> ValueRange {
        ValueRange::wholes(moment(low), moment(high), ValueUnit::Moment { zone: zone.map(Into::into) })
    }

    #[test]
    fn times_are_labelled_as_times() {
        check(
            &moments("2024-05-01 12:00:00", "2024-05-01 12:00:59.9", None),
            &[
                "2024-05-01 12:00:00",
                "2024-05-01 12:00:59",
                "2024-05-01 12:00:15",
                "2024-05-01 12:00:30",
                "2024-05-01 12:00:45",
            ],
        );
        check(
            &moments("2024-05-01 12:00:00", "2024-05-01 12:00:00.01", None),
            &[
                "2024-05-01 12:00:00.0000",
                "2024-05-01 12:00:00.0100",
                "2024-05-01 12:00:00.002",
                "2024-05-01 12:00:00.004",
                "2024-05-01 12:00:00.006",
                "2024-05-01 12:00:00.008",
            ],
        );
        check(
            &moments("2024-05-01 08:10:00", "2024-05-01 20:00:00", None),
            &[
                "2024-05-01 08:10",
                "2024-05-01 20:00",
                "2024-05-01 09:00",
                "2024-05-01 12:00",
                "2024-05-01 15:00",
                "2024-05-01 18:00",
            ],
        );
        check(
            &moments("2024-05-03 08:10:00", "2024-07-01 20:00:00", None),
            &["2024-05-03", "2024-07-01", "2024-05-17", "2024-05-31", "2024-06-14", "2024-06-28"],
        );
        check(
            &moments("2024-02-03 08:10:00", "2025-01-01 20:00:00", None),
            &["2024-02-03", "2025-01-01", "2024-04", "2024-07", "2024-10", "2025-01"],
        );
        check(
            &moments("1980-02-03 08:10:00", "2025-01-01 20:00:00", None),
            &["1980-02-03", "2025-01-01", "1990", "2000", "2010", "2020"],
        );
        check(&moments("2024-05-01 12:00:00.25", "2024-05-01 12:00:00.25", None), &["2024-05-01 12:00:00.25"]);
        check(&moments("2024-05-01 12:00:00", "2024-05-01 12:00:00", None), &["2024-05-01 12:00:00"]);
        // Outside of the calendar's range.
        check(
            &ValueRange::wholes(0, i128::from(i64::MAX) * SECOND, ValueUnit::Moment { zone: None }),
            &["1970-01-01", "year 292277026596"],
        );
    }

    #[test]
    fn zones_have_their_own_clocks() {
        let berlin = moments("2024-03-30 23:30:00", "2024-03-31 02:30:00", Some("Europe/Berlin"));
        // One hour is skipped in that night.
        check(
            &berlin,
            &["2024-03-31 00:30", "2024-03-31 04:30", "2024-03-31 01:00", "2024-03-31 03:00", "2024-03-31 04:00"],
        );
        assert_eq!(berlin.remark().as_deref(), Some("Europe/Berlin"));
        let offset = moments("2024-01-01 00:00:00", "2024-01-01 00:00:00", Some("+05:30"));
        check(&offset, &["2024-01-01 05:30:00"]);
        let unknown = moments("2024-01-01 00:00:00", "2024-01-01 00:00:00", Some("Mars/Olympus"));
        check(&unknown, &["2024-01-01 00:00:00"]);
        assert_eq!(unknown.remark().as_deref(), Some("UTC"));
        assert_eq!(moments("2024-01-01 00:00:00", "2024-01-02 00:00:00", None).remark(), None);
    }

    #[test]
    fn dates_times_of_day_and_durations() {
        let dates = ValueRange::wholes(moment("2024-05-01 00:00:00"), moment("2024-05-04 00:00:00"), ValueUnit::Date);
        check(&dates, &["2024-05-01", "2024-05-04", "2024-05-02", "2024-05-03"]);
        check(&ValueRange::wholes(0, 0, ValueUnit::Date), &["1970-01-01"]);
        check(
            &ValueRange::wholes(8 * HOUR, 17 * HOUR + MINUTE, ValueUnit::TimeOfDay),
            &["08:00", "17:01", "10:00", "12:00", "14:00", "16:00"],
        );
        check(
            &ValueRange::wholes(SECOND, 2 * SECOND, ValueUnit::TimeOfDay),
            &["00:00:01.00", "00:00:02.00", "00:00:01.2", "00:00:01.4", "00:00:01.6", "00:00:01.8"],
        );
        check(&ValueRange::wholes(0, 90 * MINUTE, ValueUnit::Duration), &["0 min", "90 min", "30 min", "60 min"]);
        check(
            &ValueRange::wholes(-DAY, 9 * DAY, ValueUnit::Duration),
            &["-1 d", "9 d", "0 d", "2 d", "4 d", "6 d", "8 d"],
        );
        check(&ValueRange::wholes(0, 1_500, ValueUnit::Duration), &["0 ns", "1500 ns", "500 ns", "1000 ns"]);
        check(&ValueRange::wholes(HOUR, HOUR, ValueUnit::Duration), &["60 min"]);
    }
}
