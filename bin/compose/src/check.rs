//! A file against the table: keys that nobody knows, values of another form, and what has no effect here.

use crate::fault::{Fault, FaultKind, Notice, Outcome, Weight};
use crate::table::{Fate, Form, Row, keys, nearest, row};
use crate::tree::{Kind, Node, Scalar, Value};
use crate::values;

/// Checks the keys and forms of a document. Values may still hold variables when `open` is set.
pub(crate) fn document(node: &Node, open: bool) -> Outcome<()> {
    let Value::Map(_) = node.value else {
        if node.is_null() {
            return Ok(());
        }
        return Err(values::form(node, "", "a mapping", "begin with `services:` and a service below it"));
    };
    Checker { open }.keys(node, "", "")
}

struct Checker {
    open: bool,
}

impl Checker {
    fn keys(&self, node: &Node, path: &str, shown: &str) -> Outcome<()> {
        let Some(map) = node.as_map() else {
            let known: Vec<_> = keys(path).take(3).collect();
            let example = format!("write its keys below it, such as {}", known.join(", "));
            return Err(values::form(node, shown, "a mapping", &example));
        };
        for entry in &map.0 {
            if entry.key.starts_with("x-") {
                continue;
            }
            let (below, shown) = (under(path, &entry.key), under(shown, &entry.key));
            let Some(row) = row(&below) else {
                return Err(unknown(&entry.key, &entry.place, path, &shown));
            };
            self.value(&entry.node, row, &shown)?;
        }
        Ok(())
    }

    fn named(&self, node: &Node, row: &Row, shown: &str) -> Outcome<()> {
        let example = "write names below it, each with its settings";
        let map = node.as_map().ok_or_else(|| values::form(node, shown, "a mapping of names", example))?;
        let item = self.row(&format!("{}.*", row.path));
        // The top level lets `x-` keys stand beside names, as do mappings of services.
        let extensions = ["services", "networks", "volumes", "secrets", "configs"].contains(&row.path);
        for entry in &map.0 {
            if extensions && entry.key.starts_with("x-") {
                continue;
            }
            let shown = under(shown, &entry.key);
            if !good_name(&entry.key) {
                let cause = format!("{:?} cannot be a name", entry.key);
                let way_out = "use letters, digits, dots, dashes and underscores";
                return Err(Fault::new(FaultKind::Value, &entry.place, shown, cause, way_out));
            }
            self.value(&entry.node, item, &shown)?;
        }
        Ok(())
    }

    fn items(&self, node: &Node, row: &Row, shown: &str) -> Outcome<()> {
        let example = "write each behind a dash";
        let items = node.as_list().ok_or_else(|| values::form(node, shown, "a list", example))?;
        let below = self.row(&format!("{}[]", row.path));
        items.iter().enumerate().try_for_each(|(at, item)| self.value(item, below, &format!("{shown}[{at}]")))
    }

    fn row(&self, path: &str) -> &'static Row {
        row(path).unwrap_or_else(|| unreachable!("the table's own test finds a row for {path}"))
    }

    fn value(&self, node: &Node, row: &Row, shown: &str) -> Outcome<()> {
        if node.mark == Some(crate::tree::Mark::Reset) || node.is_null() {
            return Ok(());
        }
        let scalar = node.as_scalar();
        if self.open && scalar.is_some_and(|scalar| scalar.kind == Kind::Text && scalar.text.contains('$')) {
            return Ok(());
        }
        match row.form {
            Form::Any => Ok(()),
            Form::Text => values::text(node, shown).map(drop),
            Form::Flag => values::flag(node, shown).map(drop),
            Form::Integer => values::integer(node, shown).map(drop),
            Form::Number => values::number(node, shown).map(drop),
            Form::Duration => values::duration(node, shown).map(drop),
            Form::Bytes => values::bytes(node, shown).map(drop),
            Form::Texts if scalar.is_some() => Err(values::form(
                node,
                shown,
                "a list of texts",
                "write each behind a dash, or all in brackets: [a, b]",
            )),
            Form::Texts | Form::TextOrTexts | Form::Words => values::texts(node, shown).map(drop),
            Form::Pairs => pairs(node, shown),
            Form::Keys | Form::NullOrKeys => self.keys(node, row.path, shown),
            Form::TextOrKeys if scalar.is_some() => Ok(()),
            Form::FlagOrKeys if scalar.is_some() => values::flag(node, shown).map(drop),
            Form::IntegerOrKeys if scalar.is_some() => values::integer(node, shown).map(drop),
            Form::TextOrKeys | Form::FlagOrKeys | Form::IntegerOrKeys => self.keys(node, row.path, shown),
            Form::Named => self.named(node, row, shown),
            Form::TextsOrNamed if node.as_list().is_some() => values::texts(node, shown).map(drop),
            Form::TextsOrNamed => self.named(node, row, shown),
            Form::TextOrItems if scalar.is_some() => Ok(()),
            Form::Items | Form::TextOrItems => self.items(node, row, shown),
        }
    }
}

fn pairs(node: &Node, shown: &str) -> Outcome<()> {
    match &node.value {
        Value::Map(map) => map.iter().try_for_each(|(key, value)| match &value.value {
            Value::Null | Value::Scalar(_) => Ok(()),
            // A host may have several addresses.
            Value::List(_) => values::texts(value, &under(shown, key)).map(drop),
            Value::Map(_) => Err(values::form(value, &under(shown, key), "a text", "write one value behind the colon")),
        }),
        Value::List(_) => values::texts(node, shown).map(drop),
        _ => Err(values::form(node, shown, "a mapping or a list", "write `NAME: value` lines, or `- NAME=value`")),
    }
}

/// Gives texts that came from variables the types that their keys have: `replicas: ${N}` becomes a number.
pub(crate) fn restore(node: &mut Node, path: &str) {
    match &mut node.value {
        Value::Map(map) => {
            for entry in &mut map.0 {
                if let Some(row) = row(&under(path, &entry.key)).or_else(|| row(&under(path, "*"))) {
                    restore(&mut entry.node, row.path);
                }
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| restore(item, &format!("{path}[]"))),
        Value::Scalar(scalar) if scalar.kind == Kind::Text => {
            let typed = match row(path).map(|row| row.form) {
                Some(Form::Flag | Form::FlagOrKeys) => values::flag(node, path).ok().map(Kind::Flag),
                Some(Form::Integer | Form::IntegerOrKeys) => values::integer(node, path).ok().map(Kind::Integer),
                Some(Form::Number) => values::number(node, path).ok().map(Kind::Number),
                _ => None,
            };
            if let (Some(kind), Value::Scalar(scalar)) = (typed, &mut node.value) {
                *scalar = Scalar { text: Scalar { text: String::new(), kind }.as_text(), kind };
            }
        }
        Value::Null | Value::Scalar(_) => (),
    }
}

/// Notices about numbers that stand where a text is wanted and change when they are read: `1.10` becomes `1.1`.
pub(crate) fn numbers(node: &Node, path: &str, shown: &str, notices: &mut Vec<Notice>) {
    let texts = matches!(row(path).map(|row| row.form), Some(Form::Pairs | Form::Text));
    match &node.value {
        Value::Map(map) => {
            for (key, node) in map.iter() {
                let below = row(&under(path, key)).or_else(|| row(&under(path, "*"))).map(|row| row.path);
                match below {
                    Some(below) => numbers(node, below, &under(shown, key), notices),
                    // The values of names that have no rows of their own.
                    None if texts && node.as_map().is_none() => numbers(node, path, &under(shown, key), notices),
                    None => (),
                }
            }
        }
        Value::List(items) => {
            for (at, item) in items.iter().enumerate() {
                numbers(item, &format!("{path}[]"), &format!("{shown}[{at}]"), notices);
            }
        }
        // The modes of files are octal numbers, and ports are numbers of people.
        Value::Scalar(scalar)
            if texts && scalar.kind != Kind::Text && !path.ends_with(".mode") && path != "version" =>
        {
            let read = scalar.as_text();
            if !read.eq_ignore_ascii_case(&scalar.text) {
                notices.push(Notice {
                    place: node.place.clone(),
                    path: shown.to_owned(),
                    weight: Weight::Read,
                    why: format!("{} is a number in YAML, and is read as {read}", scalar.text),
                    instead: format!("write \"{}\" in quotes if the text is meant", scalar.text),
                });
            }
        }
        Value::Null | Value::Scalar(_) => (),
    }
}

/// The path of a key below another.
pub(crate) fn under(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn good_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn unknown(key: &str, place: &crate::fault::Place, path: &str, shown: &str) -> Box<Fault> {
    let cause = format!("the Compose specification has no key {key:?} here");
    let way_out = match nearest(path, key) {
        Some(near) => format!("write {near:?}, if that is meant; keys of your own begin with x-"),
        None => format!("keys of your own begin with x-: write \"x-{key}\", or take it out"),
    };
    Fault::new(FaultKind::UnknownKey, place, shown, cause, way_out)
}

/// Notices about the keys of an application that have no effect here.
pub(crate) fn notices(node: &Node, notices: &mut Vec<Notice>) {
    walk(node, "", "", notices);
}

fn walk(node: &Node, path: &str, shown: &str, notices: &mut Vec<Notice>) {
    match &node.value {
        Value::Map(map) => {
            for entry in &map.0 {
                let shown = under(shown, &entry.key);
                let found = row(&under(path, &entry.key)).or_else(|| row(&under(path, "*")));
                let Some(row) = found else { continue };
                let notice = |weight, why: &str, instead: &str| Notice {
                    place: entry.place.clone(),
                    path: shown.clone(),
                    weight,
                    why: why.to_owned(),
                    instead: instead.to_owned(),
                };
                match row.fate {
                    _ if is_unset(&entry.node) => (),
                    Fate::Ignored { why, instead } => notices.push(notice(Weight::Ignored, why, instead)),
                    Fate::Moot(why) if row.path != "version" => notices.push(notice(Weight::Moot, why, "")),
                    _ => walk(&entry.node, row.path, &shown, notices),
                }
            }
        }
        Value::List(items) => {
            let path = format!("{path}[]");
            for (at, item) in items.iter().enumerate() {
                walk(item, &path, &format!("{shown}[{at}]"), notices);
            }
        }
        Value::Null | Value::Scalar(_) => (),
    }
}

/// Whether a key says nothing: it has no value, is switched off or empty.
fn is_unset(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar(scalar) => scalar.kind == Kind::Flag(false) || scalar.text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
    }
}
