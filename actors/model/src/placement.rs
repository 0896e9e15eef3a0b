//! Placement constraints: where the tasks of a service may run, as operators write it and as a node matches it.
//!
//! As in Swarm, a constraint is `key==value` or `key!=value`. Values match as a whole and without regard to case, and
//! `*` stands for itself; a node without the label fails `==` and passes `!=`. The value of `node.ip` is an address or
//! a subnet. An unknown key or a malformed address is refused; Swarm accepts either and then never places a task.
//!
//! Beyond Swarm, which refuses these expressions, there are `key<value`, `key<=value`, `key>value` and `key>=value` for
//! numbers and versions, `key in (a, b)` for a list, and `key~=pattern`, in which `*` stands for any text and `?` for
//! any character. A node without the label fails each of them.
//!
//! Two whole numbers are compared as numbers. Everything else is compared as versions: part by part between the dots,
//! where a missing part counts as 0 and a leading `v` is ignored; a version with a suffix (`1.2-rc1`) comes before the
//! one without. So `1.10` is newer than `1.9`. A node whose value is neither a number nor a version fails.

use crate::{Node, Platform, Subnet};
use bincode::{Decode, Encode};
use essaim_wire::{Level, record};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Where the tasks of a service may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Constraints, all of which must hold on a node.
    pub constraints: Vec<Constraint>,
    /// Tasks of the service that one node may have at most; 0 means no limit.
    pub replicas_max_per_node: u64,
    /// Labels over whose values the tasks are spread, the most important first (`node.labels.zone`).
    pub preferences: Vec<SpreadOver>,
    /// Platforms that the image has variants for; empty means every platform. A client reads them from a registry.
    pub platforms: Vec<Platform>,
}
record!(Placement { 1: constraints, replicas_max_per_node, preferences, platforms });

/// A label over whose values the tasks of a service are spread evenly (`node.labels.zone`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SpreadOver(ConstraintKey);

impl SpreadOver {
    /// Parses the key of a node label or an engine label.
    pub fn parse(text: &str) -> Result<Self, InvalidConstraint> {
        match ConstraintKey::parse(text) {
            Ok(key @ (ConstraintKey::Label(_) | ConstraintKey::EngineLabel(_))) => Ok(Self(key)),
            _ => Err(InvalidConstraint::Spread(text.into())),
        }
    }

    /// The value of the label on a node; `None` when the node does not have the label.
    pub fn value<'n>(&self, node: &'n Node) -> Option<&'n str> {
        match &self.0 {
            ConstraintKey::Label(name) => node.spec.labels.get(name),
            ConstraintKey::EngineLabel(name) => node.description.as_ref()?.engine_labels.get(name),
            _ => None,
        }
        .map(String::as_str)
    }
}

impl fmt::Display for SpreadOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Placement {
    /// Whether every constraint holds on `node`.
    pub fn allows(&self, node: &Node) -> bool {
        self.constraints.iter().all(|constraint| constraint.matches(node))
    }

    /// Whether the image has a variant for the platform of `node`. Without a list of platforms it has one for every node.
    pub fn supports(&self, node: &Node) -> bool {
        let has_variant = |platform: &Platform| self.platforms.iter().any(|image| platform.runs(image));
        self.platforms.is_empty() || node.description.as_ref().is_some_and(|it| has_variant(&it.platform))
    }
}

/// One condition on a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Constraint {
    /// Property of the node that the constraint compares.
    pub key: ConstraintKey,
    /// How the property is compared with the value.
    pub op: ConstraintOp,
    /// Value to compare with, as written.
    pub value: String,
    /// The whole constraint as written, because a client removes a constraint by its text.
    written: String,
}

/// A property of nodes that a constraint can compare.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ConstraintKey {
    /// `node.id`
    Id,
    /// `node.hostname`
    Hostname,
    /// `node.role`
    Role,
    /// `node.platform.os`
    Os,
    /// `node.platform.arch`
    Architecture,
    /// `node.labels.NAME`
    Label(String),
    /// `engine.labels.NAME`
    EngineLabel(String),
    /// `node.ip`, since level 2
    Ip,
}

/// The comparison of a constraint. The first two are Swarm's; the others came with level 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ConstraintOp {
    /// `==`
    Eq,
    /// `!=`
    NotEq,
    /// `<`
    Less,
    /// `<=`
    LessEq,
    /// `>`
    Greater,
    /// `>=`
    GreaterEq,
    /// `in (a, b)`
    In,
    /// `~=`
    Like,
}

/// Reason why a text is no constraint. Each begins with Swarm's words where Swarm refuses the text, too, and names the whole
/// constraint, because a service may have many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConstraint {
    /// The text has no comparison.
    #[error("constraint expected one operator from ==, !=: '{0}' has none; there are <, <=, >, >=, ~= and in besides")]
    NoOperator(String),
    /// The key has a character that keys may not have.
    #[error("key '{key}' is invalid: the constraint is '{written}'; use {KEYS}")]
    MalformedKey {
        /// The key.
        key: String,
        /// The whole constraint.
        written: String,
    },
    /// The value is empty, has a character that values may not have, or is none that the key or the comparison takes.
    #[error("value '{value}' is invalid: the constraint is '{written}'; {why}")]
    MalformedValue {
        /// The value.
        value: String,
        /// The whole constraint.
        written: String,
        /// What is wrong with the value.
        why: &'static str,
    },
    /// No property of nodes has this key.
    #[error("constraint key '{key}' is unknown in '{written}': use {KEYS}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The whole constraint.
        written: String,
    },
    /// No label of nodes, over whose values tasks could be spread, has this key.
    #[error("tasks cannot be spread over '{0}': use node.labels.NAME or engine.labels.NAME")]
    Spread(String),
}

/// The keys of constraints, in words.
const KEYS: &str = "node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, \
                    node.labels.NAME or engine.labels.NAME";

impl Constraint {
    /// Whether `node` satisfies the constraint.
    pub fn matches(&self, node: &Node) -> bool {
        let description = node.description.as_ref();
        let (id, role);
        let actual = match &self.key {
            ConstraintKey::Id => {
                id = node.id.to_string();
                Some(id.as_str())
            }
            ConstraintKey::Role => {
                role = node.role.to_string();
                Some(role.as_str())
            }
            ConstraintKey::Hostname => description.map(|it| it.hostname.as_str()),
            ConstraintKey::Os => description.map(|it| it.platform.os.as_str()),
            ConstraintKey::Architecture => description.map(|it| it.platform.architecture.as_str()),
            ConstraintKey::Label(name) => node.spec.labels.get(name).map(String::as_str),
            ConstraintKey::EngineLabel(name) => {
                description.and_then(|it| it.engine_labels.get(name)).map(String::as_str)
            }
            ConstraintKey::Ip => {
                let ip = node.addr.map(|addr| addr.ip().to_canonical());
                let inside = ip.is_some_and(|ip| Subnet::parse(&self.value).is_some_and(|it| it.contains(ip)));
                return inside == (self.op == ConstraintOp::Eq);
            }
        };
        let is = |actual: &str, value: &str| match self.key {
            ConstraintKey::Architecture => same_architecture(actual, value),
            _ => actual.eq_ignore_ascii_case(value),
        };
        let compares =
            |wanted: fn(Ordering) -> bool| actual.and_then(|actual| compare(actual, &self.value)).is_some_and(wanted);
        match self.op {
            ConstraintOp::Eq => actual.is_some_and(|actual| is(actual, &self.value)),
            ConstraintOp::NotEq => !actual.is_some_and(|actual| is(actual, &self.value)),
            ConstraintOp::Less => compares(Ordering::is_lt),
            ConstraintOp::LessEq => compares(Ordering::is_le),
            ConstraintOp::Greater => compares(Ordering::is_gt),
            ConstraintOp::GreaterEq => compares(Ordering::is_ge),
            ConstraintOp::In => actual.is_some_and(|actual| listed(&self.value).any(|value| is(actual, value))),
            ConstraintOp::Like => actual
                .is_some_and(|actual| is_like(actual.to_lowercase().as_bytes(), self.value.to_lowercase().as_bytes())),
        }
    }

    /// The lowest level whose programs know this key and this comparison.
    pub(crate) fn level(&self) -> Level {
        let old = matches!(self.op, ConstraintOp::Eq | ConstraintOp::NotEq) && self.key != ConstraintKey::Ip;
        if old { Level::FIRST } else { Level(2) }
    }
}

/// The values of a list `(a, b)`.
fn listed(list: &str) -> impl Iterator<Item = &str> {
    list.trim_start_matches('(').trim_end_matches(')').split(',').map(str::trim)
}

/// Compares two values as whole numbers, or else as versions; see the module. `None` when one is neither.
fn compare(a: &str, b: &str) -> Option<Ordering> {
    if let (Ok(a), Ok(b)) = (a.parse::<i64>(), b.parse::<i64>()) {
        return Some(a.cmp(&b));
    }
    let (mut a, mut b) = (Version::parse(a)?, Version::parse(b)?);
    let parts = a.parts.len().max(b.parts.len());
    a.parts.resize(parts, 0);
    b.parts.resize(parts, 0);
    // No suffix comes after every suffix.
    let suffix = || match (a.suffix.is_empty(), b.suffix.is_empty()) {
        (false, false) => a.suffix.cmp(b.suffix),
        (empty_a, empty_b) => empty_a.cmp(&empty_b),
    };
    Some(a.parts.cmp(&b.parts).then_with(suffix))
}

/// A version: numbers between dots, and a suffix after `-` or `+`.
struct Version<'a> {
    parts: Vec<u64>,
    suffix: &'a str,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (numbers, suffix) = text.split_at(end);
        let parts = numbers.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
        // What follows a plus sign says how something was built, not how new it is.
        let suffix = suffix.split('+').next().unwrap_or_default().trim_start_matches('-');
        Some(Self { parts, suffix })
    }
}

/// Whether `text` is what `pattern` describes, in which `*` is any text and `?` any character. Takes time in proportion
/// to the product of the lengths at most.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut in_pattern) = (0, 0);
    // Place after the last star, and how much of the text that star stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                star = Some((in_pattern + 1, at));
                in_pattern += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[at] => (at, in_pattern) = (at + 1, in_pattern + 1),
            _ => match &mut star {
                Some((after, taken)) => {
                    *taken += 1;
                    (at, in_pattern) = (*taken, *after);
                }
                None => return false,
            },
        }
    }
    pattern[in_pattern..].iter().all(|byte| *byte == b'*')
}

impl Platform {
    /// Whether a machine of this platform runs what is built for `image`. A word that `image` leaves empty means any.
    pub fn runs(&self, image: &Self) -> bool {
        (image.architecture.is_empty() || same_architecture(&self.architecture, &image.architecture))
            && (image.os.is_empty() || self.os.eq_ignore_ascii_case(&image.os))
    }
}

/// Whether two words mean the same processor architecture: kernels and registries use different words for it.
pub(crate) fn same_architecture(a: &str, b: &str) -> bool {
    fn canonical(text: &str) -> String {
        match text.to_ascii_lowercase().as_str() {
            "amd64" => "x86_64".into(),
            "arm64" => "aarch64".into(),
            other => other.into(),
        }
    }
    canonical(a) == canonical(b)
}

/// Reason why a text is no key.
enum InvalidKey {
    Malformed,
    Unknown,
}

impl ConstraintKey {
    fn parse(text: &str) -> Result<Self, InvalidKey> {
        let well_formed = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        if !well_formed {
            return Err(InvalidKey::Malformed);
        }
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "node.id" => Ok(Self::Id),
            "node.hostname" => Ok(Self::Hostname),
            "node.ip" => Ok(Self::Ip),
            "node.role" => Ok(Self::Role),
            "node.platform.os" => Ok(Self::Os),
            "node.platform.arch" => Ok(Self::Architecture),
            // The prefix is matched without regard to case; the name of a label is kept as written.
            _ if lower.starts_with("node.labels.") && lower.len() > "node.labels.".len() => {
                Ok(Self::Label(text["node.labels.".len()..].into()))
            }
            _ if lower.starts_with("engine.labels.") && lower.len() > "engine.labels.".len() => {
                Ok(Self::EngineLabel(text["engine.labels.".len()..].into()))
            }
            _ => Err(InvalidKey::Unknown),
        }
    }
}

/// The comparisons as they are written. Of two that begin at the same place, the longer one comes first.
const OPERATORS: [(&str, ConstraintOp); 8] = [
    ("==", ConstraintOp::Eq),
    ("!=", ConstraintOp::NotEq),
    ("~=", ConstraintOp::Like),
    ("<=", ConstraintOp::LessEq),
    (">=", ConstraintOp::GreaterEq),
    ("<", ConstraintOp::Less),
    (">", ConstraintOp::Greater),
    (" in ", ConstraintOp::In),
];

impl FromStr for Constraint {
    type Err = InvalidConstraint;

    fn from_str(text: &str) -> Result<Self, InvalidConstraint> {
        let found = OPERATORS.into_iter().filter_map(|(sign, op)| Some((text.find(sign)?, sign, op)));
        let (at, sign, op) =
            found.min_by_key(|(at, _, _)| *at).ok_or_else(|| InvalidConstraint::NoOperator(text.into()))?;
        let (key, value) = (text[..at].trim(), text[at + sign.len()..].trim());
        let written = || text.to_owned();
        let key = ConstraintKey::parse(key).map_err(|why| match (why, key.to_owned()) {
            (InvalidKey::Malformed, key) => InvalidConstraint::MalformedKey { key, written: written() },
            (InvalidKey::Unknown, key) => InvalidConstraint::UnknownKey { key, written: written() },
        })?;
        let is_plain = |value: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b":-_ .*()?+[]\\^$|/".contains(&byte);
            !value.is_empty() && value.bytes().all(known)
        };
        let (fits, why) = match (&key, op) {
            (ConstraintKey::Ip, ConstraintOp::Eq | ConstraintOp::NotEq) => {
                (Subnet::parse(value).is_some(), "it is no address and no subnet (10.0.0.7, 10.0.0.0/8)")
            }
            (ConstraintKey::Ip, _) => (false, "node.ip can be compared with == and != only"),
            (_, ConstraintOp::Less | ConstraintOp::LessEq | ConstraintOp::Greater | ConstraintOp::GreaterEq) => {
                (compare(value, value).is_some(), "<, <=, > and >= compare whole numbers and versions (8, 6.10)")
            }
            (_, ConstraintOp::In) => (
                value.starts_with('(') && value.ends_with(')') && value.len() > 2 && listed(value).all(is_plain),
                "`in` takes a list: (a, b)",
            ),
            (_, ConstraintOp::Eq | ConstraintOp::NotEq | ConstraintOp::Like) if value.is_empty() => {
                (false, "there is none after the operator")
            }
            (_, ConstraintOp::Eq | ConstraintOp::NotEq | ConstraintOp::Like) => {
                (is_plain(value), r"it may have letters, digits, spaces and :-_.*()?+[]\^$|/ only")
            }
        };
        if fits {
            Ok(Self { key, op, value: value.into(), written: written() })
        } else {
            Err(InvalidConstraint::MalformedValue { value: value.into(), written: written(), why })
        }
    }
}

impl fmt::Display for ConstraintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("node.id"),
            Self::Hostname => f.write_str("node.hostname"),
            Self::Ip => f.write_str("node.ip"),
            Self::Role => f.write_str("node.role"),
            Self::Os => f.write_str("node.platform.os"),
            Self::Architecture => f.write_str("node.platform.arch"),
            Self::Label(name) => write!(f, "node.labels.{name}"),
            Self::EngineLabel(name) => write!(f, "engine.labels.{name}"),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("placement": SpreadOver, Constraint, ConstraintKey, ConstraintOp, Placement);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::worker;

    fn parse(text: &str) -> Result<Constraint, InvalidConstraint> {
        text.parse()
    }

    #[test]
    fn what_operators_write_is_read_and_written_back() {
        use ConstraintKey::*;
        use ConstraintOp::*;
        for (text, key, op, value) in [
            ("node.role==manager", Role, Eq, "manager"),
            ("node.hostname != n 3", Hostname, NotEq, "n 3"),
            (" node.labels.Disk == ssd ", Label("Disk".into()), Eq, "ssd"),
            ("NoDe.HostName==_node1", Hostname, Eq, "_node1"),
            ("node.labels._a.B-c==[a-b]+c*(n|b)/", Label("_a.B-c".into()), Eq, "[a-b]+c*(n|b)/"),
            ("NODE.ID==abc", Id, Eq, "abc"),
            ("engine.labels.a.b==x*y", EngineLabel("a.b".into()), Eq, "x*y"),
            ("node.labels.x==[a-z]+ or .*$", Label("x".into()), Eq, "[a-z]+ or .*$"),
            ("node.ip != 10.0.0.0/8", Ip, NotEq, "10.0.0.0/8"),
            ("node.labels.x>=2.10", Label("x".into()), GreaterEq, "2.10"),
            ("node.labels.x in (a, b)", Label("x".into()), In, "(a, b)"),
            ("node.hostname~=web-*", Hostname, Like, "web-*"),
        ] {
            let read = parse(text).expect(text);
            assert_eq!(read.to_string(), text);
            assert_eq!((read.key, read.op, read.value.as_str()), (key, op, value), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused_by_its_fault_and_named_with_it() {
        let refused = |text: &str| parse(text).expect_err(text).to_string();
        for text in ["", "node.role", "node.role~x", "node.role=worker", " "] {
            let (words, rest) = ("constraint expected one operator from ==, !=", "<, <=, >, >=, ~= and in besides");
            assert_eq!(refused(text), format!("{words}: '{text}' has none; there are {rest}"));
        }
        for key in ["1node", "no de", "no*de", "no$de", ""] {
            let words = format!("key '{key}' is invalid: the constraint is '{key}==x'; use node.id, ");
            assert!(refused(&format!("{key}==x")).starts_with(&words), "{}", refused(&format!("{key}==x")));
        }
        let invalid = |text: &str, value: &str, why: &str| {
            let words = format!("value '{value}' is invalid: the constraint is '{text}'; {why}");
            assert!(refused(text).starts_with(&words), "{}", refused(text));
        };
        invalid("node.role== ", "", "there is none after the operator");
        invalid("node.labels.a==b>c", "b>c", "it may have letters, ");
        for value in ["not.an.address", "266.0.0.1", "10.0.0.0/33", "10.0.0.1/x", "fe80::/129"] {
            invalid(&format!("node.ip=={value}"), value, "it is no address and no subnet");
        }
        invalid("node.ip>10.0.0.1", "10.0.0.1", "node.ip can be compared with == and != only");
        for value in ["b", "()", "(b,)"] {
            invalid(&format!("node.labels.a in {value}"), value, "`in` takes a list: (a, b)");
        }
        invalid("node.labels.a > new", "new", "<, <=, > and >= compare whole numbers and versions");
        // Swarm takes a key that is well formed and unknown, and then never places a task.
        for key in ["node.colour", "node", "_node", "NoDe", "no.de", "node.labels."] {
            let words = format!("constraint key '{key}' is unknown in '{key}==red': use node.id, ");
            assert!(refused(&format!("{key}==red")).starts_with(&words), "{}", refused(&format!("{key}==red")));
        }
        let spread = SpreadOver::parse("node.role").expect_err("no label").to_string();
        assert_eq!(spread, "tasks cannot be spread over 'node.role': use node.labels.NAME or engine.labels.NAME");
    }

    #[test]
    fn a_missing_label_fails_equal_and_passes_not_equal() {
        let mut node = worker(1);
        let (eq, not) = (parse("node.labels.disk==SSD").unwrap(), parse("node.labels.disk!=ssd").unwrap());
        assert_eq!((eq.matches(&node), not.matches(&node)), (false, true));
        node.spec.labels.insert("disk".into(), "ssd".into());
        assert_eq!((eq.matches(&node), not.matches(&node)), (true, false));
    }

    /// A node with the label `x`, if a value is given.
    fn labelled(value: Option<&str>) -> Node {
        let mut node = worker(1);
        node.spec.labels.extend(value.map(|value| ("x".to_owned(), value.to_owned())));
        node
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_the_rest_as_versions() {
        for (op, value, holds, fails) in [
            (">", "9", ["10", "+11", "9.1"], ["9", "-10", "9-rc1"]),
            ("<", "9", ["8", "-10", "9-rc1"], ["9", "10", "9.0"]),
            (">=", "1.10", ["1.10", "v1.10.0", "2"], ["1.9", "1.10-rc1", "1.9.99"]),
            ("<=", "1.10", ["1.10.0", "1.2+build7", "1"], ["1.10.1", "1.11", "2-alpha"]),
            (">", "1.0-rc1", ["1.0-rc2", "1.0", "1"], ["1.0-rc1", "1.0-beta", "0.9"]),
        ] {
            let constraint = parse(&format!("node.labels.x{op}{value}")).expect("a constraint");
            holds.iter().for_each(|it| assert!(constraint.matches(&labelled(Some(it))), "{it} {op} {value}"));
            fails.iter().for_each(|it| assert!(!constraint.matches(&labelled(Some(it))), "not {it} {op} {value}"));
            assert!(!constraint.matches(&labelled(None)) && !constraint.matches(&labelled(Some("new"))));
        }
    }

    #[test]
    fn a_list_holds_one_of_its_values_and_a_pattern_the_whole_value() {
        let matches = |text: &str, value| parse(text).expect(text).matches(&labelled(value));
        assert!(
            matches("node.labels.x in (ssd, NVMe)", Some("nvme")) && matches("node.labels.x in (ssd)", Some("ssd"))
        );
        assert!(!matches("node.labels.x in (ssd, nvme)", Some("hdd")) && !matches("node.labels.x in (ssd)", None));
        for (pattern, value, expected) in [
            ("web-*", "WEB-1", true),
            ("web-*", "web-", true),
            ("web-?", "web-", false),
            ("*-eu-*", "a-b-eu-c", true),
            ("*-eu-*", "a-eu", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXbcd", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(&format!("node.labels.x~={pattern}"), Some(value)), expected, "{pattern} {value}");
        }
        assert!(!matches("node.labels.x~=*", None));
        // In Swarm's own comparisons a star is a star.
        assert!(!matches("node.labels.x==web-*", Some("web-1")) && matches("node.labels.x==web-*", Some("web-*")));
    }

    #[test]
    fn an_address_matches_as_such_and_as_part_of_a_subnet() {
        let mut node = worker(1);
        let check = |node: &Node, value: &str, expected: bool| {
            assert_eq!(parse(&format!("node.ip=={value}")).expect(value).matches(node), expected, "{value}");
            assert_eq!(parse(&format!("node.ip!={value}")).expect(value).matches(node), !expected, "{value}");
        };
        check(&node, "10.1.2.3", false);
        check(&node, "0.0.0.0", false);
        node.addr = Some("10.1.2.3:2377".parse().expect("an address"));
        for (value, expected) in [
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("0.0.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("10.1.2.0/24", true),
            ("10.1.2.77/24", true),
            ("10.1.3.0/24", false),
            ("10.1.2.2/31", true),
            ("0.0.0.0/0", true),
            ("2001:db8::/32", false),
        ] {
            check(&node, value, expected);
        }
        node.addr = Some("[2001:db8::2]:2377".parse().expect("an address"));
        check(&node, "2001:0db8:0:0::2", true);
        for (value, expected) in [("2001:db8::2/128", true), ("2001:db8::/32", true), ("2001:db9::/64", false)] {
            check(&node, value, expected);
        }
    }

    #[test]
    fn an_id_matches_as_a_whole_and_labels_of_nodes_are_not_those_of_engines() {
        let mut node = worker(1);
        let id = node.id.to_string();
        assert!(parse(&format!("node.id=={id}")).unwrap().matches(&node));
        assert!(!parse(&format!("node.id=={}", &id[..20])).unwrap().matches(&node));
        assert!(
            parse("node.role==WORKER").unwrap().matches(&node) && !parse("node.role==manager").unwrap().matches(&node)
        );
        node.spec.labels.insert("x".into(), "1".into());
        assert!(
            parse("node.labels.x==1").unwrap().matches(&node) && !parse("engine.labels.x==1").unwrap().matches(&node)
        );
        node.description = None;
        assert!(
            !parse("node.hostname==n1").unwrap().matches(&node) && parse("node.hostname!=n1").unwrap().matches(&node)
        );
    }

    #[test]
    fn a_value_matches_as_a_whole_without_regard_to_case() {
        for (constraint, holds, fails) in [
            ("foo", vec!["foo", "FOO"], vec!["fo", "fooE"]),
            ("f*o", vec!["f*o", "F*o"], vec!["fo", "foo"]),
            ("f.-$o", vec!["f.-$o"], vec!["fa-$o"]),
            ("Ubuntu 14.04", vec!["ubuntu 14.04"], vec!["ubuntu 15.04"]),
        ] {
            let (eq, not) = (format!("node.labels.x=={constraint}"), format!("node.labels.x!={constraint}"));
            let (eq, not) = (parse(&eq).expect("a constraint"), parse(&not).expect("a constraint"));
            let all = holds.into_iter().map(|it| (it, true)).chain(fails.into_iter().map(|it| (it, false)));
            for (value, expected) in all {
                let node = labelled(Some(value));
                assert_eq!((eq.matches(&node), not.matches(&node)), (expected, !expected), "{constraint} {value}");
            }
        }
    }

    /// Each row: a property of a node, and the constraints that hold and that fail with it.
    #[test]
    fn host_name_role_platform_and_labels_are_compared_each_with_its_own_key() {
        type Edit = fn(&mut Node);
        let rows: [(Edit, &[&str], &[&str]); 7] = [
            (|node| node.description = None, &["node.hostname!=n1"], &["node.hostname==n1", "node.platform.os==linux"]),
            (|_| (), &["node.hostname==N1", "node.hostname!=n2"], &["node.hostname!=n1"]),
            (|_| (), &["node.role==worker"], &["node.role==manager", "node.role==worker-manager"]),
            (
                |node| described_as(node, "x86_64", "windows"),
                &["node.platform.os!=linux", "node.platform.arch==amd64"],
                &["node.platform.os==linux", "node.platform.arch!=amd64"],
            ),
            (|node| described_as(node, "x86_64", "linux"), &["node.platform.os==linux"], &["node.platform.os!=linux"]),
            (
                |node| drop(node.spec.labels.insert("disk".into(), "ssd".into())),
                &["node.labels.disk==ssd", "engine.labels.disk!=ssd"],
                &["engine.labels.disk==ssd"],
            ),
            (
                |node| {
                    let labels = &mut node.description.as_mut().unwrap().engine_labels;
                    labels.extend([("disk".into(), "ssd".into()), ("memory".into(), "large".into())]);
                },
                &["engine.labels.disk==ssd", "node.labels.disk!=ssd"],
                &["engine.labels.disk!=ssd", "node.labels.disk==ssd"],
            ),
        ];
        for (edit, hold, fail) in rows {
            let mut node = worker(1);
            edit(&mut node);
            for (constraints, expected) in [(hold, true), (fail, false)] {
                for constraint in constraints {
                    assert_eq!(parse(constraint).expect("a constraint").matches(&node), expected, "{constraint}");
                }
            }
        }
    }

    fn described_as(node: &mut Node, architecture: &str, os: &str) {
        node.description.as_mut().unwrap().platform = Platform { architecture: architecture.into(), os: os.into() };
    }

    #[test]
    fn every_constraint_of_a_service_must_hold() {
        let constraints = ["node.hostname==n1", "engine.labels.os!=Ubuntu 14.04", "node.labels.security==high"]
            .map(|it| parse(it).expect("a constraint"));
        let placement = Placement { constraints: constraints.into(), ..Placement::default() };
        let mut node = worker(1);
        assert!(!placement.allows(&node), "it lacks the label");
        node.spec.labels.extend([("security".to_owned(), "high".to_owned()), ("more".to_owned(), "1".to_owned())]);
        assert!(placement.allows(&node));
        node.description.as_mut().unwrap().engine_labels.insert("os".into(), "ubuntu 14.04".into());
        assert!(!placement.allows(&node));
    }

    #[test]
    fn registries_and_kernels_mean_the_same_processor() {
        let mut node = worker(1);
        node.description.as_mut().unwrap().platform.architecture = "x86_64".into();
        assert!(parse("node.platform.arch==amd64").unwrap().matches(&node));
        assert!(!parse("node.platform.arch==arm64").unwrap().matches(&node));
    }

    #[test]
    fn a_node_is_supported_by_one_of_the_platforms_of_an_image() {
        let mut node = worker(1);
        let supports = |node: &Node, platforms: &[(&str, &str)]| {
            let platform =
                |(architecture, os): &(&str, &str)| Platform { architecture: (*architecture).into(), os: (*os).into() };
            Placement { platforms: platforms.iter().map(platform).collect(), ..Placement::default() }.supports(node)
        };
        for (machine, image) in [("x86_64", "amd64"), ("amd64", "x86_64"), ("aarch64", "arm64"), ("arm64", "aarch64")] {
            node.description.as_mut().unwrap().platform = Platform { architecture: machine.into(), os: "linux".into() };
            assert!(supports(&node, &[(image, "linux")]), "{machine} runs {image}");
            assert!(supports(&node, &[("riscv64", "linux"), (image, "")]) && supports(&node, &[("", "linux")]));
            assert!(supports(&node, &[("", "")]) && supports(&node, &[]));
            assert!(!supports(&node, &[(image, "windows")]) && !supports(&node, &[("riscv64", "linux")]));
        }
        node.description = None;
        assert!(!supports(&node, &[("amd64", "linux")]) && supports(&node, &[]));
    }
}
