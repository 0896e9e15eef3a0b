//! The tree of a YAML file, each node with its place.
//!
//! Scalars keep the text that was written beside the kind that YAML gives it, since the meaning depends on the key:
//! `1.10` is a number of processors, and a text in a label. So a variable that is put in later needs no conversion
//! back: a reader that wants a number takes a text that is one.

use std::fmt;

use crate::fault::Place;

/// Tags of Compose's that steer a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `!reset`: takes the key out of the result.
    Reset,
    /// `!override`: replaces what earlier files say, and merges nothing.
    Override,
}

/// A node of the tree.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) mark: Option<Mark>,
    pub(crate) value: Value,
}

/// Contents of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Map),
}

/// A scalar: its text as it was written, and what YAML takes it for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

/// What YAML takes a scalar for. Quoted scalars are texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Text,
    Flag(bool),
    Integer(i64),
    Number(f64),
}

/// A mapping, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map(pub(crate) Vec<Entry>);

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

/// Places and the order of keys do not count: equal nodes say the same.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value && self.mark == other.mark
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|entry| other.get(&entry.key).is_some_and(|node| *node == entry.node))
    }
}

impl Scalar {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Text }
    }

    /// Kind of a plain scalar by YAML 1.2's core schema, with the octal numbers of YAML 1.1 (`0444`), which modes of
    /// files are written in.
    pub(crate) fn plain(text: &str) -> Self {
        let kind = match text {
            "true" | "True" | "TRUE" => Kind::Flag(true),
            "false" | "False" | "FALSE" => Kind::Flag(false),
            _ => integer(text).map(Kind::Integer).or_else(|| number(text).map(Kind::Number)).unwrap_or(Kind::Text),
        };
        Self { text: text.to_owned(), kind }
    }

    /// The value as a text, as Compose writes it where a text is wanted: `1.10` was read as the number 1.1.
    pub(crate) fn as_text(&self) -> String {
        match self.kind {
            Kind::Text => self.text.clone(),
            Kind::Flag(flag) => flag.to_string(),
            Kind::Integer(number) => number.to_string(),
            Kind::Number(number) => go_number(number),
        }
    }
}

/// A whole number as YAML writes it, with the prefixes and underscores of Go's YAML.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (8, &digits[1..])
        }
        _ => (10, digits.as_str()),
    };
    let number = i64::from_str_radix(digits, radix).ok().or_else(|| digits.parse().ok())?;
    Some(if negative { -number } else { number })
}

fn number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let begins = unsigned.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    if plain && begins { text.parse().ok() } else { None }
}

/// A float as Go prints it with `%v`.
fn go_number(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{number}")
}

impl Map {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }

    /// Puts a value in the place of the key's former one, or at the end.
    pub(crate) fn set(&mut self, key: &str, node: Node) {
        match self.get_mut(key) {
            Some(held) => *held = node,
            None => self.0.push(Entry { key: key.to_owned(), place: node.place.clone(), node }),
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.0.iter().position(|entry| entry.key == key)?;
        Some(self.0.remove(at).node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|entry| (entry.key.as_str(), &entry.node))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Node {
    pub(crate) fn new(place: &Place, value: Value) -> Self {
        Self { place: place.clone(), mark: None, value }
    }

    pub(crate) fn text(place: &Place, text: impl Into<String>) -> Self {
        Self::new(place, Value::Scalar(Scalar::text(text)))
    }

    pub(crate) fn integer(place: &Place, number: i64) -> Self {
        Self::new(place, Value::Scalar(Scalar { text: number.to_string(), kind: Kind::Integer(number) }))
    }

    pub(crate) fn flag(place: &Place, flag: bool) -> Self {
        Self::new(place, Value::Scalar(Scalar { text: flag.to_string(), kind: Kind::Flag(flag) }))
    }

    pub(crate) fn map(place: &Place) -> Self {
        Self::new(place, Value::Map(Map::default()))
    }

    /// A mapping with these keys, without those that have no value.
    pub(crate) fn of<const N: usize>(place: &Place, entries: [(&str, Option<Self>); N]) -> Self {
        let mut map = Map::default();
        for (key, node) in entries {
            if let Some(node) = node {
                map.set(key, node);
            }
        }
        Self::new(place, Value::Map(map))
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn as_scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The value of this key, when the node is a mapping that has it and it is not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.get(key).filter(|node| !node.is_null())
    }

    /// The text of a scalar.
    pub(crate) fn as_text(&self) -> Option<String> {
        self.as_scalar().map(Scalar::as_text)
    }

    /// Name of the node's form, for errors.
    pub(crate) fn form(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(scalar) => match scalar.kind {
                Kind::Text => "a text",
                Kind::Flag(_) => "true or false",
                Kind::Integer(_) | Kind::Number(_) => "a number",
            },
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked against the docker CLI's own `stack config`.
    #[test]
    fn a_scalar_is_read_and_written_as_docker_does() {
        for (text, shown) in [
            ("yes", "yes"),
            ("1.10", "1.1"),
            ("0x10", "16"),
            ("010", "8"),
            ("0o17", "15"),
            ("true", "true"),
            ("1e3", "1000"),
            ("1_000", "1000"),
            ("2001-01-01", "2001-01-01"),
            ("1234567890123", "1234567890123"),
            (".5", "0.5"),
            ("12:30:45", "12:30:45"),
            ("123456.789", "123456.789"),
            ("1.2.3", "1.2.3"),
            ("-5", "-5"),
            ("-", "-"),
            ("e5", "e5"),
            ("0", "0"),
            ("089", "89"),
        ] {
            assert_eq!(Scalar::plain(text).as_text(), shown, "{text}");
        }
        assert_eq!(Scalar::text("1.10").as_text(), "1.10");
    }

    #[test]
    fn equal_nodes_say_the_same_wherever_they_stand() {
        let place = |line| Place { file: "a".into(), line };
        let a =
            Node::of(&place(1), [("a", Some(Node::flag(&place(2), true))), ("b", Some(Node::integer(&place(3), 1)))]);
        let b =
            Node::of(&place(9), [("b", Some(Node::integer(&place(8), 1))), ("a", Some(Node::flag(&place(7), true)))]);
        assert_eq!(a, b);
    }
}
