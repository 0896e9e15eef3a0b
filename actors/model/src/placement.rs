//! Placement constraints: where the tasks of a service may run, as operators write it and as a node matches it.
//!
//! A constraint is `key==value` or `key!=value`. Values match as a whole and without regard to case; a node without the
//! label fails `==` and passes `!=`. An unknown key is refused; Swarm accepts one and then never places a task.

use crate::{Node, Platform};
use bincode::{Decode, Encode};
use essaim_wire::record;
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
        match text.parse()? {
            key @ (ConstraintKey::Label(_) | ConstraintKey::EngineLabel(_)) => Ok(Self(key)),
            _ => Err(InvalidConstraint::UnknownKey(text.into())),
        }
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
    /// Whether the property must equal the value or must differ from it.
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
}

/// The comparison of a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ConstraintOp {
    /// `==`
    Eq,
    /// `!=`
    NotEq,
}

/// Reason why a text is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConstraint {
    /// The text has neither `==` nor `!=`.
    #[error("constraint expected one operator from ==, !=")]
    NoOperator,
    /// The key has a character that keys may not have.
    #[error("key '{0}' is invalid")]
    MalformedKey(String),
    /// The value is empty, or has a character that values may not have.
    #[error("value '{0}' is invalid")]
    MalformedValue(String),
    /// No property of nodes has this key.
    #[error(
        "constraint key '{0}' is unknown: use node.id, node.hostname, node.role, node.platform.os, \
         node.platform.arch, node.labels.NAME or engine.labels.NAME"
    )]
    UnknownKey(String),
}

impl Constraint {
    /// Whether `node` satisfies the constraint.
    pub fn matches(&self, node: &Node) -> bool {
        let description = node.description.as_ref();
        let is = |actual: &str| actual.eq_ignore_ascii_case(&self.value);
        let equal = match &self.key {
            ConstraintKey::Id => is(&node.id.to_string()),
            ConstraintKey::Hostname => description.is_some_and(|it| is(&it.hostname)),
            ConstraintKey::Role => is(&node.role.to_string()),
            ConstraintKey::Os => description.is_some_and(|it| is(&it.platform.os)),
            ConstraintKey::Architecture => {
                description.is_some_and(|it| same_architecture(&it.platform.architecture, &self.value))
            }
            ConstraintKey::Label(name) => node.spec.labels.get(name).is_some_and(|value| is(value)),
            ConstraintKey::EngineLabel(name) => {
                description.is_some_and(|it| it.engine_labels.get(name).is_some_and(|value| is(value)))
            }
        };
        equal == (self.op == ConstraintOp::Eq)
    }
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

impl FromStr for ConstraintKey {
    type Err = InvalidConstraint;

    fn from_str(text: &str) -> Result<Self, InvalidConstraint> {
        let well_formed = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        if !well_formed {
            return Err(InvalidConstraint::MalformedKey(text.into()));
        }
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "node.id" => Ok(Self::Id),
            "node.hostname" => Ok(Self::Hostname),
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
            _ => Err(InvalidConstraint::UnknownKey(text.into())),
        }
    }
}

impl FromStr for Constraint {
    type Err = InvalidConstraint;

    fn from_str(text: &str) -> Result<Self, InvalidConstraint> {
        let (key, op, value) = [("==", ConstraintOp::Eq), ("!=", ConstraintOp::NotEq)]
            .into_iter()
            .filter_map(|(sign, op)| text.split_once(sign).map(|(key, value)| (key, op, value)))
            .min_by_key(|(key, _, _)| key.len())
            .ok_or(InvalidConstraint::NoOperator)?;
        let (key, value) = (key.trim(), value.trim());
        let key = key.parse()?;
        let well_formed = value.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_ .*()?+[]\\^$|/".contains(&byte));
        if !well_formed {
            return Err(InvalidConstraint::MalformedValue(value.into()));
        }
        Ok(Self { key, op, value: value.into(), written: text.into() })
    }
}

impl fmt::Display for ConstraintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("node.id"),
            Self::Hostname => f.write_str("node.hostname"),
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
            ("NODE.ID==abc", Id, Eq, "abc"),
            ("engine.labels.a.b==x*y", EngineLabel("a.b".into()), Eq, "x*y"),
        ] {
            let read = parse(text).expect(text);
            assert_eq!(read.to_string(), text);
            assert_eq!((read.key, read.op, read.value.as_str()), (key, op, value), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused_by_its_fault() {
        use InvalidConstraint::*;
        assert_eq!(parse(""), Err(NoOperator));
        assert_eq!(parse("node.role"), Err(NoOperator));
        assert_eq!(parse("node.role~=x"), Err(NoOperator));
        assert_eq!(parse("==x"), Err(MalformedKey(String::new())));
        assert_eq!(parse("1node==x"), Err(MalformedKey("1node".into())));
        assert_eq!(parse("no de==x"), Err(MalformedKey("no de".into())));
        assert_eq!(parse("node.role== "), Err(MalformedValue(String::new())));
        assert_eq!(parse("node.colour==red"), Err(UnknownKey("node.colour".into())));
        assert_eq!(parse("node.labels.==red"), Err(UnknownKey("node.labels.".into())));
    }

    #[test]
    fn a_missing_label_fails_equal_and_passes_not_equal() {
        let mut node = worker(1);
        let (eq, not) = (parse("node.labels.disk==SSD").unwrap(), parse("node.labels.disk!=ssd").unwrap());
        assert_eq!((eq.matches(&node), not.matches(&node)), (false, true));
        node.spec.labels.insert("disk".into(), "ssd".into());
        assert_eq!((eq.matches(&node), not.matches(&node)), (true, false));
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
