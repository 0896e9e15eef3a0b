//! The functions that a template may call, and Go's rules for printing and truth of values.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Functions, TemplateError};

/// Spaces that a function adds at most, as in Go's `fmt`.
const WIDTH_MAX: usize = 1_000_000;

/// Calls the function `name` with these arguments.
pub(super) fn call(functions: Functions, name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let of_command_line = ["json", "split", "upper", "lower", "title", "truncate", "pad"];
    match functions {
        Functions::Service if of_command_line.contains(&name) => {
            return Err(TemplateError(format!("function {name:?} is not defined")));
        }
        Functions::Service if name == "join" => {
            let words: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
            return match words.split_first() {
                Some((separator, parts)) if words.len() == arguments.len() => Ok(Value::from(parts.join(separator))),
                _ => Err(TemplateError("join takes a separator and texts".into())),
            };
        }
        Functions::Service if name == "index" => {
            let found = call(Functions::CommandLine, name, arguments)?;
            return Ok(if found.is_null() { Value::from("") } else { found });
        }
        _ => (),
    }
    let wrong = || TemplateError(format!("{name} does not take {} arguments of these kinds", arguments.len()));
    let text = |at: usize| arguments.get(at).and_then(Value::as_str).ok_or_else(wrong);
    let number =
        |at: usize| arguments.get(at).and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong);
    let first = || arguments.first().ok_or_else(wrong);
    Ok(match name {
        "json" => Value::from(json(first()?)),
        "join" => {
            let parts = first()?.as_array().ok_or_else(wrong)?;
            Value::from(parts.iter().map(shown).collect::<Vec<_>>().join(text(1)?))
        }
        "split" => Value::from(text(0)?.split(text(1)?).collect::<Vec<_>>()),
        "upper" => Value::from(text(0)?.to_uppercase()),
        "lower" => Value::from(text(0)?.to_lowercase()),
        "title" => Value::from(capital(text(0)?)),
        "truncate" => Value::from(text(0)?.chars().take(number(1)?).collect::<String>()),
        "pad" => Value::from(match text(0)? {
            "" => String::new(),
            word => format!("{}{word}{}", " ".repeat(number(1)?.min(WIDTH_MAX)), " ".repeat(number(2)?.min(WIDTH_MAX))),
        }),
        "print" => Value::from(spaced(arguments)),
        "println" => Value::from(arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => Value::from(printf(text(0)?, &arguments[1..])),
        "len" => match first()? {
            Value::String(text) => Value::from(text.len()),
            Value::Array(items) => Value::from(items.len()),
            Value::Object(map) => Value::from(map.len()),
            Value::Null => Value::from(0),
            _ => return Err(wrong()),
        },
        "index" => {
            let mut value = first()?.clone();
            for key in &arguments[1..] {
                value = match (&value, key) {
                    (Value::Object(map), Value::String(key)) => map.get(key).cloned().unwrap_or(Value::Null),
                    (Value::Array(items), Value::Number(at)) => {
                        let at = at.as_u64().and_then(|at| usize::try_from(at).ok()).ok_or_else(wrong)?;
                        items
                            .get(at)
                            .cloned()
                            .ok_or_else(|| TemplateError(format!("index {at} is beyond the list's end")))?
                    }
                    (Value::Null, _) => Value::Null,
                    _ => return Err(wrong()),
                };
            }
            value
        }
        "not" => Value::from(!truth(first()?)),
        "and" => arguments.iter().find(|value| !truth(value)).or_else(|| arguments.last()).ok_or_else(wrong)?.clone(),
        "or" => arguments.iter().find(|value| truth(value)).or_else(|| arguments.last()).ok_or_else(wrong)?.clone(),
        "eq" => Value::from(arguments.len() > 1 && arguments[1..].iter().any(|other| same(&arguments[0], other))),
        "ne" => Value::from(!same(first()?, arguments.get(1).ok_or_else(wrong)?)),
        "lt" | "le" | "gt" | "ge" => {
            let order = compare(first()?, arguments.get(1).ok_or_else(wrong)?).ok_or_else(wrong)?;
            Value::from(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            })
        }
        _ => return Err(TemplateError(format!("function {name:?} is not defined"))),
    })
}

/// The text with a capital letter.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

/// Whether `if` takes the value as true: anything but false, 0, and empty text, lists and maps.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The text that `{{.}}` prints for the value.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// The kind of the value, for errors: values themselves may be secret.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// JSON as Go's encoder writes it: keys sorted, and `<`, `>`, `&` escaped.
fn json(value: &Value) -> String {
    sorted(value).to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(pairs.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn same(left: &Value, right: &Value) -> bool {
    left == right || compare(left, right) == Some(Ordering::Equal)
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Go's `Sprint`: a space between two operands when neither is a string.
fn spaced(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&shown(value));
    }
    out
}

/// Go's `Sprintf` for `%s %d %v %q %t %%`, with a width. Other verbs and flags are printed as they stand.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let flags = after.find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '.')).unwrap_or(after.len());
        let Some(verb) = after[flags..].chars().next() else {
            out.push_str(&rest[at..]);
            return out;
        };
        let width: i64 = after[..flags].split('.').next().unwrap_or("").parse().unwrap_or(0);
        let piece = match verb {
            '%' => "%".to_owned(),
            'q' => arguments.next().map_or_else(|| "%!q(MISSING)".to_owned(), |value| format!("{:?}", shown(value))),
            _ => arguments.next().map_or_else(|| format!("%!{verb}(MISSING)"), shown),
        };
        let width_max = usize::try_from(width.unsigned_abs()).unwrap_or(0).min(WIDTH_MAX);
        let padding = width_max.saturating_sub(piece.chars().count());
        if width >= 0 {
            out.extend(std::iter::repeat_n(' ', padding));
        }
        out.push_str(&piece);
        if width < 0 {
            out.extend(std::iter::repeat_n(' ', padding));
        }
        rest = &after[flags + verb.len_utf8()..];
    }
    out.push_str(rest);
    out
}
