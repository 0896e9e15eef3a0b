//! Cron expressions: the times at which a scheduled job runs.
//!
//! Five fields: minute, hour, day of the month, month and day of the week (0 and 7 are Sunday). A field is `*`, a number,
//! a range `1-5`, a list `1,15,30`, each with an optional step `*/5`; months and weekdays have their English names too.
//! Where both days are given, either makes a day due, as in every cron. Times are in UTC, so that a day has 24 hours and
//! all managers agree without a table of time zones.

use essaim_wire::Timestamp;
use std::str::FromStr;

/// Microseconds of a minute, which is the resolution of cron.
const MINUTE: u64 = 60_000_000;

/// Minutes of a day.
const DAY: u64 = 24 * 60;

/// Days that are searched for the next time: a date such as 29 February on a given weekday comes once in 40 years at
/// worst, around a year 2100 without one.
const DAYS_MAX: u64 = 366 * 41;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A parsed cron expression. Each field is a set of numbers, one bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day is due if either its number or its weekday is: both fields were given.
    either_day: bool,
}

/// The text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// The number of fields is wrong.
    #[error("a schedule has five fields (minute, hour, day, month, weekday), not {0}")]
    Fields(usize),
    /// A field cannot be read.
    #[error("{0:?} is no {1} of a schedule")]
    Field(String, &'static str),
    /// No date satisfies the expression, such as 30 February.
    #[error("no date ever satisfies this schedule")]
    Never,
}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return Err(InvalidCron::Fields(fields.len())) };
        let weekdays = field(weekday, "weekday", (0, 7), &WEEKDAYS, 0)?;
        let cron = Self {
            minutes: field(minute, "minute", (0, 59), &[], 0)?,
            hours: field(hour, "hour", (0, 23), &[], 0)?,
            days: field(day, "day", (1, 31), &[], 0)?,
            months: field(month, "month", (1, 12), &MONTHS, 1)?,
            // 7 is Sunday as well.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        cron.next(Timestamp::default()).map(|_| cron).ok_or(InvalidCron::Never)
    }
}

impl Cron {
    /// The first time after `after` that the expression names.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let first = after.as_micros() / MINUTE + 1;
        let (mut minute, last) = (first, first + DAYS_MAX * DAY);
        while minute < last {
            let (day, of_day) = (minute / DAY, minute % DAY);
            if !self.is_due_on(day) {
                minute = (day + 1) * DAY;
            } else if !has(self.hours, of_day / 60) {
                minute = (minute / 60 + 1) * 60;
            } else if !has(self.minutes, of_day % 60) {
                minute += 1;
            } else {
                return Some(Timestamp::from_micros(minute * MINUTE));
            }
        }
        None
    }

    /// Whether the expression names any time of this day, counted from 1 January 1970.
    fn is_due_on(&self, day: u64) -> bool {
        let (month, of_month) = date(day);
        // 1 January 1970 was a Thursday.
        let (number, weekday) = (has(self.days, of_month), has(self.weekdays, (day + 4) % 7));
        has(self.months, month) && if self.either_day { number || weekday } else { number && weekday }
    }
}

const fn has(set: u64, number: u64) -> bool {
    set >> number & 1 == 1
}

/// Month and day of the month of a day counted from 1 January 1970.
const fn date(day: u64) -> (u64, u64) {
    // The calendar repeats every 400 years, and a year that begins in March ends with the leap day.
    let day = day + 719_468;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    (if from_march < 10 { from_march + 3 } else { from_march - 9 }, of_month)
}

/// The set of numbers that a field names. `names` stand for numbers from `first_name` on.
fn field(
    text: &str,
    what: &'static str,
    (min, max): (u64, u64),
    names: &[&str],
    first_name: u64,
) -> Result<u64, InvalidCron> {
    let invalid = || InvalidCron::Field(text.to_owned(), what);
    let number = |text: &str| {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let number = named.map(|place| place as u64 + first_name).or_else(|| text.parse().ok());
        number.filter(|number| (min..=max).contains(number)).ok_or_else(invalid)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u64>().ok().filter(|it| *it > 0).ok_or_else(invalid)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((from, to)) => (number(from)?, number(to)?),
            // A number with a step is the beginning of a range.
            None => (number(range)?, if step.is_some() { max } else { number(range)? }),
        };
        if from > to {
            return Err(invalid());
        }
        for number in (from..=to).step_by(usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX)) {
            set |= 1 << number;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds from 1970 to 2026-11-30T12:34:56Z, a Monday.
    const NOW: u64 = 1_796_042_096;

    /// The next time of an expression after [`NOW`], in seconds after it.
    fn next(text: &str) -> u64 {
        let cron: Cron = text.parse().unwrap_or_else(|invalid| panic!("{text}: {invalid}"));
        cron.next(Timestamp::from_micros(NOW * 1_000_000)).expect("a time").as_micros() / 1_000_000 - NOW
    }

    #[test]
    fn the_next_time_is_the_first_that_every_field_names() {
        let (minute, hour, day) = (60, 3_600, 86_400);
        // 12:34:56 is 4 s before 12:35.
        for (text, expected) in [
            ("* * * * *", 4),
            ("*/5 * * * *", 4),
            ("*/15 * * * *", 4 + 10 * minute),
            ("34 * * * *", 4 + 59 * minute),
            ("0 13 * * *", 4 + 25 * minute),
            ("0 12 * * *", 4 + 25 * minute + 23 * hour),
            ("0 0 * * *", 4 + 25 * minute + 11 * hour),
            ("0 0 1 * *", 4 + 25 * minute + 11 * hour),
            ("0 0 2 dec *", 4 + 25 * minute + 11 * hour + day),
            ("0 0 * * tue", 4 + 25 * minute + 11 * hour),
            ("0 0 * * 7", 4 + 25 * minute + 11 * hour + 5 * day),
            ("0 0 * * SUN", 4 + 25 * minute + 11 * hour + 5 * day),
            ("0 0 10 * fri", 4 + 25 * minute + 11 * hour + 3 * day),
            ("0,30 8-18/2 * * 1-5", 4 + 25 * minute + hour),
            ("5/20 * * * *", 4 + 10 * minute),
        ] {
            assert_eq!(next(text), expected, "{text}");
        }
    }

    #[test]
    fn a_leap_day_comes_and_a_date_that_never_comes_is_refused() {
        // 2028-02-29T00:00:00Z
        assert_eq!(next("0 0 29 2 *"), 1_835_395_200 - NOW);
        assert_eq!("0 0 30 2 *".parse::<Cron>(), Err(InvalidCron::Never));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_field() {
        for (text, words) in [
            ("", "a schedule has five fields (minute, hour, day, month, weekday), not 0"),
            ("@daily", "a schedule has five fields (minute, hour, day, month, weekday), not 1"),
            ("60 * * * *", "\"60\" is no minute of a schedule"),
            ("* 24 * * *", "\"24\" is no hour of a schedule"),
            ("* * 0 * *", "\"0\" is no day of a schedule"),
            ("* * * foo *", "\"foo\" is no month of a schedule"),
            ("* * * * 8", "\"8\" is no weekday of a schedule"),
            ("*/0 * * * *", "\"*/0\" is no minute of a schedule"),
            ("5-1 * * * *", "\"5-1\" is no minute of a schedule"),
            ("1,,2 * * * *", "\"1,,2\" is no minute of a schedule"),
        ] {
            assert_eq!(text.parse::<Cron>().expect_err(text).to_string(), words);
        }
    }

    #[test]
    fn every_day_of_a_century_has_the_date_of_the_calendar() {
        let (mut year, mut month, mut of_month) = (1970, 1, 1);
        for day in 0..36_525 {
            assert_eq!(date(day), (month, of_month), "day {day}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            of_month += 1;
            if of_month > last {
                (month, of_month) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
