//! Actor paths: the place of an actor in the supervision tree, such as `/n3/worker/task.web.3`.
//!
//! A path is an actor's identity. It survives restarts, means the same in every record, and names the source folder
//! that a developer opens. (ractor's own ids are process-global counters and its names a process-global table, so
//! neither is used.) A label is a kind and, where several actors of a kind exist, what tells them apart, with dots
//! between: `task.web.3` is a `task`.

use bincode::{Decode, Encode};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The path of an actor in the supervision tree.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Path(Arc<str>);

/// The text is no path. A path looks like `/n3/worker/task.web.3`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a path: a path is like /n3/worker/task.web.3")]
pub struct InvalidPath(String);

impl Path {
    /// The path of a node's root actor, `/label`.
    pub fn root(label: &str) -> Self {
        Self(format!("/{}", clean(label)).into())
    }

    /// The path of this actor's child with this label.
    #[must_use]
    pub fn child(&self, label: &str) -> Self {
        Self(format!("{}/{}", self.0, clean(label)).into())
    }

    /// The path of this actor's parent; `None` for a root actor.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.0.rsplit_once('/')?;
        (!parent.is_empty()).then(|| Self(parent.into()))
    }

    /// The last label: `task.web.3`.
    pub fn label(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The kind of actor: the last label up to its first dot (`task`).
    pub fn kind(&self) -> &str {
        self.label().split('.').next().unwrap_or_default()
    }

    /// The label of the node: the first label of the path.
    pub fn node(&self) -> &str {
        self.labels().next().unwrap_or_default()
    }

    /// All labels, beginning with the node's.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// Whether this path is `other` or lies below it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.strip_prefix(&*other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// This path with its beginning `from` replaced by `to`; `None` when it does not lie within `from`.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(&*from.0).filter(|_| self.is_within(from))?;
        Some(Self(format!("{}{rest}", to.0).into()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Replaces slashes in a label that contains a user's text (a service's name), so that it stays one label.
fn clean(label: &str) -> String {
    if label.is_empty() { "_".into() } else { label.replace('/', "_") }
}

impl Ord for Path {
    /// Orders a parent before its children, and those before its next sibling.
    fn cmp(&self, other: &Self) -> Ordering {
        self.labels().cmp(other.labels())
    }
}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Path {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let labels = text.strip_prefix('/').ok_or_else(|| InvalidPath(text.into()))?;
        if labels.split('/').any(str::is_empty) {
            return Err(InvalidPath(text.into()));
        }
        Ok(Self(text.into()))
    }
}

impl Encode for Path {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        self.as_str().encode(encoder)
    }
}

impl<Context> Decode<Context> for Path {
    fn decode<D: bincode::de::Decoder<Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        let text = String::decode(decoder)?;
        text.parse().map_err(|why: InvalidPath| bincode::error::DecodeError::OtherString(why.to_string()))
    }
}

bincode::impl_borrow_decode!(Path);

#[cfg(test)]
essaim_wire::golden_bytes!("path": Path);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_knows_its_kind_its_parent_and_its_node() {
        let task = Path::root("n3").child("worker").child("task.web.3");
        assert_eq!(task.as_str(), "/n3/worker/task.web.3");
        assert_eq!((task.kind(), task.node()), ("task", "n3"));
        assert_eq!(task.parent(), Some(Path::root("n3").child("worker")));
        assert_eq!(Path::root("n3").parent(), None);
    }

    #[test]
    fn a_slash_in_a_users_word_makes_no_second_label() {
        assert_eq!(Path::root("a/b").child("").as_str(), "/a_b/_");
    }

    #[test]
    fn the_order_is_that_of_the_tree() {
        let mut paths: Vec<Path> =
            ["/n/a.b", "/n/a/x", "/n", "/n/a"].iter().map(|text| text.parse().expect("a path")).collect();
        paths.sort();
        assert_eq!(paths.iter().map(Path::as_str).collect::<Vec<_>>(), ["/n", "/n/a", "/n/a/x", "/n/a.b"]);
        assert!(paths[2].is_within(&paths[1]) && !paths[3].is_within(&paths[1]));
    }

    #[test]
    fn what_is_no_path_is_refused_also_from_a_wire() {
        for text in ["", "n3", "/", "/n3//x", "/n3/"] {
            text.parse::<Path>().expect_err(text);
            essaim_wire::decode::<Path>(&essaim_wire::encode(&text.to_owned())).expect_err(text);
        }
        let path = Path::root("n3");
        assert_eq!(essaim_wire::decode(&essaim_wire::encode(&path)), Ok(path));
    }
}
