//! Values of keys: flags, numbers, durations, sizes. A text that is one is taken as one, since it may come from a variable.

use essaim_docker::base::parse_duration;

use crate::fault::{Fault, FaultKind, Outcome};
use crate::tree::{Kind, Node, Value};

/// Error about the form of a value.
pub(crate) fn form(node: &Node, path: &str, wanted: &str, example: &str) -> Box<Fault> {
    let cause = format!("{} stands here, and {wanted} is wanted", node.form());
    Fault::new(FaultKind::Form, &node.place, path, cause, example)
}

/// Error about a value of the right form.
pub(crate) fn wrong(node: &Node, path: &str, cause: impl Into<String>, way_out: impl Into<String>) -> Box<Fault> {
    Fault::new(FaultKind::Value, &node.place, path, cause, way_out)
}

/// Text of a scalar.
pub(crate) fn text(node: &Node, path: &str) -> Outcome<String> {
    node.as_text().ok_or_else(|| form(node, path, "a text", "write one value behind the colon"))
}

/// Flag; also as the words that Compose takes for one.
pub(crate) fn flag(node: &Node, path: &str) -> Outcome<bool> {
    let wanted = || form(node, path, "true or false", "write true or false");
    let scalar = node.as_scalar().ok_or_else(wanted)?;
    match scalar.kind {
        Kind::Flag(flag) => Ok(flag),
        Kind::Text => match scalar.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" | "1" => Ok(true),
            "false" | "no" | "n" | "off" | "0" => Ok(false),
            _ => Err(wrong(node, path, format!("{:?} is neither true nor false", scalar.text), "write true or false")),
        },
        Kind::Integer(_) | Kind::Number(_) => Err(wanted()),
    }
}

/// Whole number.
pub(crate) fn integer(node: &Node, path: &str) -> Outcome<i64> {
    let wanted = || form(node, path, "a whole number", "write a whole number, such as 3");
    let scalar = node.as_scalar().ok_or_else(wanted)?;
    match scalar.kind {
        Kind::Integer(number) => Ok(number),
        Kind::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(number as i64),
        Kind::Text => scalar.text.trim().parse().map_err(|_| {
            wrong(node, path, format!("{:?} is no whole number", scalar.text), "write a whole number, such as 3")
        }),
        Kind::Number(_) | Kind::Flag(_) => Err(wanted()),
    }
}

/// Whole number that is not negative.
pub(crate) fn count(node: &Node, path: &str) -> Outcome<u64> {
    let number = integer(node, path)?;
    u64::try_from(number).map_err(|_| wrong(node, path, format!("{number} is negative"), "write 0 or more"))
}

/// Number.
pub(crate) fn number(node: &Node, path: &str) -> Outcome<f64> {
    let wanted = || form(node, path, "a number", "write a number, such as 0.5");
    let scalar = node.as_scalar().ok_or_else(wanted)?;
    match scalar.kind {
        Kind::Integer(number) => Ok(number as f64),
        Kind::Number(number) => Ok(number),
        Kind::Text => match scalar.text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(wrong(node, path, format!("{:?} is no number", scalar.text), "write a number, such as 0.5")),
        },
        Kind::Flag(_) => Err(wanted()),
    }
}

/// Processors in billionths.
pub(crate) fn cpus(node: &Node, path: &str) -> Outcome<i64> {
    let number = number(node, path)?;
    if !(0.0..=1e6).contains(&number) {
        return Err(wrong(node, path, format!("{number} is no number of processors"), "write a number, such as 0.5"));
    }
    Ok((number * 1e9).round() as i64)
}

/// Duration in nanoseconds. A bare number counts microseconds, as Compose has it.
pub(crate) fn duration(node: &Node, path: &str) -> Outcome<i64> {
    let scalar = node.as_scalar().ok_or_else(|| form(node, path, "a duration", "write it like 10s or 1m30s"))?;
    if let Kind::Integer(micros) = scalar.kind {
        return Ok(micros.saturating_mul(1000));
    }
    let text = scalar.text.trim();
    if let Ok(micros) = text.parse::<i64>() {
        return Ok(micros.saturating_mul(1000));
    }
    // Compose also knows days and weeks in some of its durations.
    let unfolded =
        text.strip_suffix('d').and_then(|days| days.parse::<f64>().ok()).map(|days| format!("{}h", days * 24.0));
    parse_duration(unfolded.as_deref().unwrap_or(text))
        .map_err(|_| wrong(node, path, format!("{text:?} is no duration"), "write it like 10s, 1m30s or 250ms"))
}

/// Number of bytes.
pub(crate) fn bytes(node: &Node, path: &str) -> Outcome<i64> {
    let scalar = node.as_scalar().ok_or_else(|| form(node, path, "a number of bytes", "write it like 64m or 1.5g"))?;
    let no = || wrong(node, path, format!("{:?} is no number of bytes", scalar.text), "write it like 64m or 1.5g");
    let text = scalar.text.trim().to_ascii_lowercase();
    if text == "-1" {
        return Ok(-1);
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| no())?;
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(no()),
    };
    let bytes = number * (1_u64 << shift) as f64;
    if bytes < 9e18 { Ok(bytes as i64) } else { Err(no()) }
}

/// Mode of a file: octal digits in a text, or a number that YAML has read as one.
pub(crate) fn mode(node: &Node, path: &str) -> Outcome<u32> {
    let scalar = node.as_scalar().ok_or_else(|| form(node, path, "a file mode", "write it like \"0440\""))?;
    let no = || wrong(node, path, format!("{:?} is no file mode", scalar.text), "write it like \"0440\"");
    let number = match scalar.kind {
        Kind::Integer(number) => u32::try_from(number).map_err(|_| no())?,
        _ => u32::from_str_radix(scalar.text.trim_start_matches("0o"), 8).map_err(|_| no())?,
    };
    if number <= 0o7777 { Ok(number) } else { Err(no()) }
}

/// One of these words.
pub(crate) fn word(node: &Node, path: &str, words: &[&str]) -> Outcome<String> {
    let text = text(node, path)?;
    if words.contains(&text.as_str()) {
        return Ok(text);
    }
    Err(wrong(node, path, format!("{text:?} is none of its values"), format!("write one of: {}", words.join(", "))))
}

/// The texts of a list; none of nothing.
pub(crate) fn texts(node: &Node, path: &str) -> Outcome<Vec<String>> {
    match &node.value {
        Value::Null => Ok(Vec::new()),
        Value::List(items) => items.iter().enumerate().map(|(at, item)| text(item, &format!("{path}[{at}]"))).collect(),
        Value::Scalar(_) => Ok(vec![text(node, path)?]),
        Value::Map(_) => {
            Err(form(node, path, "a list of texts", "write each behind a dash, or all in brackets: [a, b]"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Place;
    use crate::tree::Scalar;

    fn plain(text: &str) -> Node {
        Node::new(&Place::whole("f"), Value::Scalar(Scalar::plain(text)))
    }

    #[test]
    fn sizes_and_durations_are_read_as_docker_reads_them() {
        for (text, size) in [
            ("50M", 52_428_800),
            ("1.5G", 1_610_612_736),
            ("64k", 65_536),
            ("100", 100),
            ("1gb", 1 << 30),
            ("-1", -1),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(bytes(&plain(text), "p"), Ok(size), "{text}");
        }
        for (text, nanos) in [
            ("1m30s", 90_000_000_000),
            ("250ms", 250_000_000),
            ("0s", 0),
            ("100000", 100_000_000),
            ("2d", 172_800_000_000_000),
        ] {
            assert_eq!(duration(&plain(text), "p"), Ok(nanos), "{text}");
        }
        assert_eq!(bytes(&plain("1x"), "p").expect_err("refused").what(), "f: p: \"1x\" is no number of bytes");
        assert_eq!(duration(&plain("soon"), "p").expect_err("refused").what(), "f: p: \"soon\" is no duration");
    }

    #[test]
    fn a_mode_is_octal_however_it_is_written() {
        for text in ["0440", "0o440"] {
            assert_eq!(mode(&plain(text), "p"), Ok(0o440), "{text}");
        }
        assert_eq!(mode(&Node::text(&Place::whole("f"), "0440"), "p"), Ok(0o440));
        assert_eq!(mode(&Node::text(&Place::whole("f"), "rw"), "p").expect_err("refused").kind, FaultKind::Value);
    }

    #[test]
    fn a_text_that_is_a_number_or_flag_is_taken_as_one() {
        let place = Place::whole("f");
        assert_eq!(integer(&Node::text(&place, "3"), "p"), Ok(3));
        assert_eq!(flag(&Node::text(&place, "yes"), "p"), Ok(true));
        assert_eq!(cpus(&Node::text(&place, "0.50"), "p"), Ok(500_000_000));
        assert_eq!(integer(&plain("true"), "p").expect_err("refused").kind, FaultKind::Form);
        assert_eq!(count(&plain("-1"), "p").expect_err("refused").what(), "f: p: -1 is negative");
    }
}
