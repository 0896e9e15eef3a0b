//! Trees as JSON and as YAML.
//!
//! Mappings are written in the order of their keys, except those in lists, whose keys have an order that people know
//! (`type, source, target`). A text is quoted when YAML would take it for something else, so that what is written reads
//! back as itself.

use serde_json::{Number, Value as Json};

use crate::tree::{Kind, Map, Node, Scalar, Value};

/// The tree as JSON.
pub(crate) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar(scalar) => match scalar.kind {
            Kind::Text => Json::String(scalar.text.clone()),
            Kind::Flag(flag) => Json::Bool(flag),
            Kind::Integer(number) => Json::Number(number.into()),
            Kind::Number(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        },
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(map) => Json::Object(map.iter().map(|(key, node)| (key.to_owned(), json(node))).collect()),
    }
}

/// The tree as YAML.
pub(crate) fn yaml(node: &Node) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Map(map) if !map.is_empty() => mapping(map, 0, &mut out),
        _ => {
            value(node, 0, &mut out);
            out.insert_str(0, "");
        }
    }
    out.trim_start().to_owned()
}

/// Sorts the keys of a tree: those of the top level as people write them, all others by the alphabet. Mappings in lists
/// keep the order of their keys.
pub(crate) fn sort(node: &mut Node) {
    if let Value::Map(map) = &mut node.value {
        let place = |key: &str| TOP.iter().position(|top| *top == key).unwrap_or(TOP.len());
        map.0.sort_by(|a, b| (place(&a.key), &a.key).cmp(&(place(&b.key), &b.key)));
        map.0.iter_mut().for_each(|entry| sort_below(&mut entry.node));
    }
}

const TOP: &[&str] = &["name", "services", "networks", "volumes", "secrets", "configs"];

fn sort_below(node: &mut Node) {
    if let Value::Map(map) = &mut node.value {
        map.0.sort_by(|a, b| a.key.cmp(&b.key));
        map.0.iter_mut().for_each(|entry| sort_below(&mut entry.node));
    }
}

fn mapping(map: &Map, indent: usize, out: &mut String) {
    for (at, (key, node)) in map.iter().enumerate() {
        if at > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&scalar(&Scalar::text(key), 0));
        out.push(':');
        value(node, indent, out);
    }
}

/// Writes a value behind a colon or dash, with the end of its line.
fn value(node: &Node, indent: usize, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str(" null\n"),
        Value::Scalar(held) => {
            out.push(' ');
            out.push_str(&scalar(held, indent + 2));
            out.push('\n');
        }
        Value::List(items) if items.is_empty() => out.push_str(" []\n"),
        Value::List(items) => {
            out.push('\n');
            for item in items {
                out.push_str(&" ".repeat(indent + 2));
                out.push('-');
                match &item.value {
                    Value::Map(map) if !map.is_empty() => {
                        out.push(' ');
                        mapping(map, indent + 4, out);
                    }
                    _ => value(item, indent + 2, out),
                }
            }
        }
        Value::Map(map) if map.is_empty() => out.push_str(" {}\n"),
        Value::Map(map) => {
            out.push('\n');
            out.push_str(&" ".repeat(indent + 2));
            mapping(map, indent + 2, out);
        }
    }
}

fn scalar(held: &Scalar, indent: usize) -> String {
    let text = &held.text;
    if held.kind != Kind::Text {
        return held.as_text();
    }
    if indent > 0 && text.contains('\n') && is_block(text) {
        let head = if text.ends_with('\n') { "|" } else { "|-" };
        let lines = text.trim_end_matches('\n').split('\n');
        let pad = " ".repeat(indent);
        let lines: Vec<_> =
            lines.map(|line| if line.is_empty() { String::new() } else { format!("{pad}{line}") }).collect();
        return format!("{head}\n{}", lines.join("\n"));
    }
    if is_plain(text) { text.clone() } else { quoted(text) }
}

/// Whether a text can stand as a block of lines: lines that begin with a blank, or several empty ones at the end, cannot.
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    !body.ends_with('\n')
        && !body.is_empty()
        && text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
        && body.split('\n').all(|line| !line.ends_with([' ', '\t']))
        && !body.starts_with([' ', '\t', '\n'])
}

/// Whether YAML takes the bare text for this text.
fn is_plain(text: &str) -> bool {
    const MARKS: &str = "-?:,[]{}#&*!|>'\"%@`=";
    let words = ["~", "null", "yes", "no", "on", "off", "y", "n", "true", "false"];
    !text.is_empty()
        && Scalar::plain(text).kind == Kind::Text
        && !words.contains(&text.to_ascii_lowercase().as_str())
        && !text.starts_with(|c: char| MARKS.contains(c))
        && !text.starts_with(|c: char| c.is_ascii_digit() && text.contains(':'))
        && !text.starts_with(['.', '+'])
        && text.trim() == text
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !text.chars().any(|c| c.is_control() || c == '\u{feff}')
        && text.parse::<f64>().is_err()
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    #[test]
    fn every_text_reads_back_as_itself() {
        for text in [
            "a",
            "",
            " a",
            "a ",
            "yes",
            "1",
            "1.5",
            "0x10",
            "null",
            "~",
            "a: b",
            "a #b",
            "#a",
            "- a",
            "[a",
            "{{.Task.Name}}",
            "8080:80",
            "12:30",
            "a\nb",
            "a\nb\n",
            "\na",
            "a\n\n",
            "  a\n b",
            "\"q\"",
            "it's",
            "$$x",
            "\u{7}bell",
            "tab\there",
            "@a",
            "a:",
            "*",
            "0440",
            "é",
            ".",
            "1e3",
            "=",
            "Infinity",
            "nan",
            "a\r\nb",
        ] {
            let mut map = Map::default();
            map.set("k", Node::text(&crate::fault::Place::whole("f"), text));
            let tree = Node::new(&crate::fault::Place::whole("f"), Value::Map(map));
            let shown = yaml(&tree);
            let back = parse("f", &shown).expect(&shown).pop().expect("a document");
            assert_eq!(back.get("k").and_then(Node::as_scalar), Some(&Scalar::text(text)), "{shown}");
        }
    }

    #[test]
    fn a_tree_is_written_as_people_write_it() {
        let text = "services:\n  web:\n    image: nginx:1.27\n    command:\n      - sh\n      - -c\n    ports:\n      - target: 80\n        published: 8080\n    tmpfs: []\nvolumes: {}\n";
        let tree = parse("f", text).expect("YAML").pop().expect("a document");
        let shown = yaml(&tree);
        assert_eq!(shown, text.replace("- -c", "- \"-c\""));
    }
}
