//! Types that all of Docker's objects share: times, versions, labels, and Go's two ways to leave a field out.
//!
//! Go marks a field `omitempty` (absent when it has its zero value) or not (always present; a map or list that was
//! never made is `null`). Clients depend on both, so every field here is declared as one of the two: with one of the
//! `skip_…` tests below it is left out when empty, without one it is always written, and an `Option` that is always
//! written becomes `null`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;

/// A duration as Go writes it: nanoseconds.
pub type Nanos = i64;

/// Nanoseconds from Go's spelling of a duration: `1h30m`, `1.5s`, `250ms`. A bare `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("{text:?} is no duration: write it like 10s, 1m30s or 250ms");
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        total += number * scale;
        rest = &rest[end..];
    }
    // A float is exact below 2^53 ns (104 days); a longer duration loses nanoseconds that its author did not write.
    if total.is_finite() && total < i64::MAX as f64 { Ok(total.round() as i64) } else { Err(invalid()) }
}

/// Labels or options: text to text, in the order of their keys.
pub type Labels = BTreeMap<String, String>;

/// The version of an object; an update of the object must send it back as `?version=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObjectVersion {
    /// Number that grows with each change of the object.
    #[serde(rename = "Index", default, skip_serializing_if = "is_zero")]
    pub index: u64,
}

/// A point in time in RFC 3339, with as many decimals as it needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// Go's zero time, which stands for "never".
    pub(crate) fn zero() -> Self {
        Self("0001-01-01T00:00:00Z".parse().expect("the year 1 can be written down"))
    }

    /// Seconds, and nanoseconds, since 1970, as events carry them.
    pub fn unix(self) -> (i64, i64) {
        let nanos = i64::try_from(self.0.as_nanosecond()).unwrap_or(i64::MIN);
        (self.0.as_second(), nanos)
    }

    /// The time with nine decimals, as the lines of a log begin.
    pub fn fixed(self) -> String {
        format!("{:.9}", self.0)
    }

    /// Parses `since` and `until` of a query: seconds since 1970 with or without decimals, or RFC 3339.
    pub fn from_query(text: &str) -> Option<Self> {
        if let Ok(time) = text.parse() {
            return Some(time);
        }
        let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
        let nanos = format!("{decimals:0<9}").get(..9)?.parse::<i32>().ok()?;
        let seconds = seconds.parse::<i64>().ok()?;
        jiff::Timestamp::new(seconds, nanos).ok().map(Self)
    }

    /// Parses `since` and `until` of a query that may also name a time before `now` (`10m`, `1h30m`), a date, or a date
    /// and time without a zone, which are UTC.
    pub fn from_query_at(text: &str, now: essaim_wire::Timestamp) -> Option<Self> {
        if let Some(time) = Self::from_query(text) {
            return Some(time);
        }
        if let Ok(nanos) = parse_duration(text) {
            return Self::from(now).0.checked_sub(jiff::SignedDuration::from_nanos(nanos)).ok().map(Self);
        }
        let date: jiff::civil::DateTime = text.parse().ok()?;
        date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|time| Self(time.timestamp()))
    }

    /// The time as microseconds since 1970; `None` when it is before that.
    pub fn timestamp(self) -> Option<essaim_wire::Timestamp> {
        u64::try_from(self.0.as_microsecond()).ok().map(essaim_wire::Timestamp::from_micros)
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::zero()
    }
}

impl From<essaim_wire::Timestamp> for Time {
    fn from(at: essaim_wire::Timestamp) -> Self {
        let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
        Self(jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl std::str::FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|why| de::Error::custom(format!("{text:?} is no time: {why}")))
    }
}

/// Test for numbers that Go leaves out when they are 0.
pub(crate) fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// Test for flags that Go leaves out when they are false.
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Test for lists that Go leaves out when they are empty.
pub(crate) fn is_empty<T>(list: &[T]) -> bool {
    list.is_empty()
}

/// Reads `null` as the empty value: Go makes no difference between the two, and clients send either.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Serialises ratios as Go does: `0`, not `0.0`.
pub(crate) mod ratio {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(ratio: &f64, to: S) -> Result<S::Ok, S::Error> {
        if ratio.fract() == 0.0 && ratio.abs() < 1e9 {
            to.serialize_i64(*ratio as i64)
        } else {
            to.serialize_f64(*ratio)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        f64::deserialize(from)
    }
}

/// Serialises bytes as Go does: base64. Both `null` and an absent field read as no bytes.
pub(crate) mod base64_bytes {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = Option::<String>::deserialize(from)?.unwrap_or_default();
        BASE64_STANDARD.decode(text).map_err(|why| de::Error::custom(format!("no base64: {why}")))
    }
}

/// An object without fields: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A field that Docker always writes, as `null` while Essaim does not have what it describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Null;

impl Serialize for Null {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Null {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(from).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_nine_decimals_and_writes_no_more_than_it_needs() {
        for text in ["2026-11-20T18:57:22.68242653Z", "2026-11-20T18:57:23.966981909Z", "0001-01-01T00:00:00Z"] {
            assert_eq!(text.parse::<Time>().map(|time| time.to_string()).ok().as_deref(), Some(text));
        }
    }

    #[test]
    fn clients_say_since_in_three_ways() {
        let time: Time = "2026-11-20T18:57:22.5Z".parse().expect("RFC 3339");
        for text in ["1795201042.5", "1795201042.500000000", "2026-11-20T18:57:22.5Z"] {
            assert_eq!(Time::from_query(text), Some(time), "{text}");
        }
        assert_eq!(Time::from_query("yesterday"), None);
        assert_eq!(time.fixed(), "2026-11-20T18:57:22.500000000Z");
    }

    #[test]
    fn a_time_may_be_said_as_a_span_before_now_or_as_a_date() {
        let now: Time = "2026-11-20T18:00:00Z".parse().expect("RFC 3339");
        let now = now.timestamp().expect("after 1970");
        for (text, expected) in [
            ("10m", "2026-11-20T17:50:00Z"),
            ("1h30m", "2026-11-20T16:30:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T18:57:22", "2026-11-20T18:57:22Z"),
            ("1795201042.5", "2026-11-20T18:57:22.5Z"),
        ] {
            assert_eq!(
                Time::from_query_at(text, now).map(|time| time.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        assert_eq!(Time::from_query_at("yesterday", now), None);
    }

    #[test]
    fn a_timestamp_and_its_time_are_the_same_moment() {
        let at = essaim_wire::Timestamp::from_micros(1_795_201_044_472_415);
        let time = Time::from(at);
        assert_eq!(time.timestamp(), Some(at));
        assert_eq!(time.unix(), (1_795_201_044, 1_795_201_044_472_415_000));
        assert_eq!(Time::zero().timestamp(), None);
    }
}
