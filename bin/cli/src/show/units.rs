//! Durations, sizes, ages and points in time, in docker's spelling.

pub(crate) use essaim_docker::base::parse_duration;
use jiff::Timestamp;

/// Nanoseconds in Go's spelling: `1s`, `1m30s`, `250ms`, `1h0m0s`.
pub(crate) fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let rest = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let rest = rest.trim_end_matches('0');
        let dot = if rest.is_empty() || unit == 1 { String::new() } else { format!(".{rest}") };
        format!("{}{dot}{name}", value / unit)
    };
    if nanos < 1_000 {
        return format!("{sign}{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{sign}{}", fraction(nanos, 1_000, "µs"));
    }
    if nanos < 1_000_000_000 {
        return format!("{sign}{}", fraction(nanos, 1_000_000, "ms"));
    }
    let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
    let minutes = nanos / 60_000_000_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

/// An age in words: `Less than a second`, `About a minute`, `5 hours`.
pub(crate) fn human_duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as i64;
    let minutes = whole / 60;
    let hours = (seconds / 3600.0 + 0.5) as i64;
    match () {
        () if whole < 1 => "Less than a second".to_owned(),
        () if whole == 1 => "1 second".to_owned(),
        () if whole < 60 => format!("{whole} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", whole / 3600 / 24 / 365),
    }
}

/// Time since `moment` (RFC 3339) as tables print it: `5 minutes ago`.
pub(crate) fn ago(moment: &str, now: Timestamp) -> String {
    match moment.parse::<Timestamp>() {
        Ok(then) => age(then, now),
        Err(_) => "at an unknown time".to_owned(),
    }
}

/// Time between `then` and `now` as tables print it: `5 minutes ago`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human_duration(now.duration_since(then).as_secs_f64()).to_lowercase())
}

/// How long ago this moment (RFC 3339) was, as the tables of configs and secrets say it: `Less than a second ago`.
pub(crate) fn human_age(moment: &str, now: Timestamp) -> String {
    match moment.parse::<Timestamp>() {
        Ok(then) => format!("{} ago", human_duration(now.duration_since(then).as_secs_f64())),
        Err(_) => "at an unknown time".to_owned(),
    }
}

/// A moment (RFC 3339) as Go spells it, in lower case: `2026-11-20 18:57:35.345098014 +0000 utc`.
pub(crate) fn long_moment(moment: &str) -> String {
    match moment.parse::<Timestamp>() {
        Ok(then) => then.strftime("%Y-%m-%d %H:%M:%S%.f +0000 utc").to_string(),
        Err(_) => moment.to_owned(),
    }
}

/// A timestamp of Essaim's own routes, as jiff's type.
pub(crate) fn moment(time: essaim_docker::Time) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time.unix().1)).unwrap_or(Timestamp::MIN)
}

/// The present time, for ages. The command line never runs in a simulation, so it may ask the machine.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Bytes from `64M`, `1.5g`, `900GiB`. All units are powers of 1024, as docker takes them.
pub(crate) fn parse_bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("{text:?} is no size: write it like 64M or 1.5G");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| invalid())?;
    let power = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(invalid()),
    };
    let bytes = number * 1024_f64.powi(power);
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(invalid()) }
}

/// A number of bytes with four significant digits: `23.54GiB`.
pub(crate) fn bytes(count: i64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{}{}", significant(size), UNITS[unit])
}

/// Billionths of a CPU from a decimal number such as `0.5`.
pub(crate) fn parse_cpus(text: &str) -> Result<i64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.0..1e9).contains(&cpus) => Ok((cpus * 1e9).round() as i64),
        _ => Err(format!("{text:?} is no number of CPUs: write it like 0.5 or 2")),
    }
}

/// A number of CPUs from billionths of one, without trailing zeros.
pub(crate) fn cpus(nanos: i64) -> String {
    let text = format!("{:.9}", nanos as f64 / 1e9);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Go's `%.4g`, for values from 0 to 1023.
fn significant(value: f64) -> String {
    let whole = if value < 1.0 { 1 } else { (value.log10().floor() as usize) + 1 };
    let text = format!("{value:.*}", 4_usize.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The first twelve characters of an id, as tables show it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The word with a capital letter: `running` becomes `Running`.
pub(crate) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The text cut to `max` characters, with `…` as the last one when it was longer.
pub(crate) fn ellipsis(text: &str, max: usize) -> String {
    if text.chars().count() <= max { text.to_owned() } else { text.chars().take(max - 1).chain(['…']).collect() }
}

/// Orders names as people count: `web.2` before `web.10`.
pub(crate) fn natural_order(left: &str, right: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (left.as_bytes(), right.as_bytes());
    while let (Some(x), Some(y)) = (a.first(), b.first()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (m, n) = (digits(a), digits(b));
            let value = |text: &[u8]| std::str::from_utf8(text).unwrap_or("").trim_start_matches('0').to_owned();
            let (u, v) = (value(&a[..m]), value(&b[..n]));
            let order = u.len().cmp(&v.len()).then_with(|| u.cmp(&v));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[m..], &b[n..]);
        } else if x != y {
            return x.cmp(y);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
    a.len().cmp(&b.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanos) in [
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("250ms", 250_000_000),
            ("1h0m0s", 3_600_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
            assert_eq!(duration(nanos), text);
        }
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(720 * 3_600_000_000_000), "720h0m0s");
        for text in ["", "10", "s", "10x", "1.2.3s", "-5s"] {
            assert!(parse_duration(text).is_err(), "{text:?} is no duration");
        }
    }

    #[test]
    fn ages_are_told_in_dockers_words() {
        for (seconds, words) in [
            (0.3, "Less than a second"),
            (1.2, "1 second"),
            (53.0, "53 seconds"),
            (61.0, "About a minute"),
            (305.0, "5 minutes"),
            (3600.0, "About an hour"),
            (7300.0, "2 hours"),
            (3.0 * 86_400.0, "3 days"),
            (30.0 * 86_400.0, "4 weeks"),
        ] {
            assert_eq!(human_duration(seconds), words);
        }
        let now: Timestamp = "2026-11-20T18:58:00Z".parse().unwrap();
        assert_eq!(ago("2026-11-20T18:57:07.5Z", now), "52 seconds ago");
    }

    #[test]
    fn sizes_are_units_of_1024() {
        assert_eq!(parse_bytes("64M"), Ok(64 << 20));
        assert_eq!(parse_bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("900g"), Ok(900 << 30));
        assert!(parse_bytes("lots").is_err());
        assert_eq!(bytes(25_276_502_016), "23.54GiB");
        assert_eq!(bytes(64 << 20), "64MiB");
        assert_eq!(bytes(0), "0B");
    }

    #[test]
    fn cpus_are_billionths() {
        assert_eq!(parse_cpus("0.5"), Ok(500_000_000));
        assert!(parse_cpus("-1").is_err());
        assert_eq!(cpus(2_000_000_000), "2");
        assert_eq!(cpus(100_000_000), "0.1");
    }

    #[test]
    fn names_sort_as_people_count() {
        let mut names = vec!["web.10", "web.2", "api.1", "web.1", "web"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["api.1", "web", "web.1", "web.2", "web.10"]);
    }

    #[test]
    fn long_errors_are_cut_at_thirty() {
        assert_eq!(ellipsis("short", 30), "short");
        assert_eq!(ellipsis("no suitable node (scheduling constraints)", 30).chars().count(), 30);
    }
}
