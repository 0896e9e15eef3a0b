//! `.env` and `env_file`: lines of `NAME=value`, with quotes, comments and variables.
//!
//! Values without quotes and values in double quotes may use variables, those of the same file included; values in single
//! quotes are taken as they are. Quoted values may span lines. The format `raw` is that of `docker run --env-file`: no
//! quotes, no variables, no comments behind a value.

use std::collections::BTreeMap;

use crate::fault::{Fault, FaultKind, Outcome, Place};
use crate::variables::{Wrong, expand};

/// Variables of a file in their order; `None` for a name without a value, which takes that of the environment.
pub(crate) type Lines = Vec<(String, Option<String>)>;

/// Reads a file of variables. `lookup` knows the environment.
pub(crate) fn parse(file: &str, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Outcome<Lines> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines::new();
    let mut held: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let place = Place { file: file.into(), line: text[..text.len() - rest.len()].matches('\n').count() + 1 };
        let trimmed = rest.trim_start_matches([' ', '\t', '\r']);
        if trimmed.is_empty() {
            break;
        }
        if let Some(next) = trimmed.strip_prefix('\n') {
            rest = next;
            continue;
        }
        if trimmed.starts_with('#') {
            rest = trimmed.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let trimmed = match trimmed.strip_prefix("export") {
            Some(after) if after.starts_with([' ', '\t']) => after.trim_start_matches([' ', '\t']),
            _ => trimmed,
        };
        let end = trimmed.find(['=', ':', '\n']).unwrap_or(trimmed.len());
        let name = trimmed[..end].trim();
        if name.is_empty() || name.contains([' ', '\t', '"', '\'']) {
            let cause = format!("{name:?} cannot be the name of a variable");
            return Err(Fault::new(FaultKind::Value, &place, "", cause, "write lines of the form NAME=value"));
        }
        let after = &trimmed[end..];
        if after.is_empty() || after.starts_with('\n') {
            lines.push((name.to_owned(), None));
            rest = after.strip_prefix('\n').unwrap_or("");
            continue;
        }
        let (value, next) = value(&after[1..], name, &place)?;
        let value = match value {
            Quoted::Literal(value) => value,
            Quoted::Open(value) => {
                let known = |name: &str| lookup(name).or_else(|| held.get(name).cloned());
                expand(&value, &known, &mut |_| ()).map_err(|wrong| wrong_variable(&wrong, &place, name))?
            }
        };
        held.insert(name.to_owned(), value.clone());
        lines.push((name.to_owned(), Some(value)));
        rest = next;
    }
    Ok(lines)
}

/// Reads a file in the format `raw`.
pub(crate) fn parse_raw(text: &str) -> Lines {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (line.trim_end().to_owned(), None),
        })
        .collect()
}

/// The error for a wrong expression in a file or key.
pub(crate) fn wrong_variable(wrong: &Wrong, place: &Place, path: &str) -> Box<Fault> {
    match wrong {
        Wrong::Syntax(text) => Fault::new(
            FaultKind::Variable,
            place,
            path,
            format!("{text:?} is no variable"),
            "write ${NAME} or ${NAME:-default}; for a dollar itself write $$",
        ),
        Wrong::Required { name, text } => {
            let text = if text.is_empty() { String::new() } else { format!(": {text}") };
            Fault::new(
                FaultKind::Variable,
                place,
                path,
                format!("the variable {name} is required and not set{text}"),
                format!(
                    "set it: `{name}=… essaim stack …`, or a line {name}=… in the file .env beside the compose file"
                ),
            )
        }
    }
}

enum Quoted {
    /// Taken as it is.
    Literal(String),
    /// May contain variables.
    Open(String),
}

/// Reads a value, and returns what follows its line.
fn value<'a>(text: &'a str, name: &str, place: &Place) -> Outcome<(Quoted, &'a str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let unclosed = || {
        let cause = format!("the quotes of {name} are not closed");
        Fault::new(FaultKind::Value, place, "", cause, "close the quotes at the end of the value")
    };
    if let Some(inner) = text.strip_prefix('\'') {
        let end = inner.find('\'').ok_or_else(unclosed)?;
        return Ok((Quoted::Literal(inner[..end].to_owned()), line_after(&inner[end + 1..])));
    }
    if let Some(inner) = text.strip_prefix('"') {
        let mut out = String::new();
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Ok((Quoted::Open(out), line_after(&inner[at + 1..]))),
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('$') => out.push_str("$$"),
                    Some(c @ ('"' | '\\' | '\'')) => out.push(c),
                    Some(c) => out.extend(['\\', c]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        return Err(unclosed());
    }
    let end = text.find('\n').unwrap_or(text.len());
    let line = &text[..end];
    let line = match line.find(" #").or_else(|| line.find("\t#")) {
        Some(at) => &line[..at],
        None if line.starts_with('#') => "",
        None => line,
    };
    Ok((Quoted::Open(line.trim_end().to_owned()), text.get(end + 1..).unwrap_or("")))
}

fn line_after(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, Option<String>)> {
        parse("x.env", text, &|name| (name == "HOST").then(|| "h1".to_owned())).expect("variables")
    }

    #[test]
    fn a_file_is_read_as_compose_reads_it() {
        let text = "# comment\n\nA=1\nexport B = two words  # behind\nC='$HOST #x'\nD=\"$HOST\\n\\$5\"\nE=${A}-${HOST}\nF\nG=\nH: yes\nI=\"a\nb\"\nJ=x#y\n";
        let expected = [
            ("A", Some("1")),
            ("B", Some("two words")),
            ("C", Some("$HOST #x")),
            ("D", Some("h1\n$5")),
            ("E", Some("1-h1")),
            ("F", None),
            ("G", Some("")),
            ("H", Some("yes")),
            ("I", Some("a\nb")),
            ("J", Some("x#y")),
        ];
        assert_eq!(of(text), expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
    }

    #[test]
    fn the_raw_format_takes_everything_behind_the_sign() {
        let lines = parse_raw("A=\"q\" # c\n#x\n  B=$HOST\nC\n");
        let expected = [("A", Some("\"q\" # c")), ("B", Some("$HOST")), ("C", None)];
        assert_eq!(lines, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
    }

    #[test]
    fn what_is_no_line_is_said_with_its_number() {
        let what = |text: &str| parse("x.env", text, &|_| None).expect_err("refused").what();
        assert_eq!(what("A=1\nB=\"x\n"), "x.env:2: the quotes of B are not closed");
        assert_eq!(what("A B=1\n"), "x.env:1: \"A B\" cannot be the name of a variable");
        assert_eq!(what("A=1\nB=${C:?no}\n"), "x.env:2: B: the variable C is required and not set: no");
    }
}
