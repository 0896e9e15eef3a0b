//! An expected "no": what kind it is, and the words for whoever asked.

use bincode::{Decode, Encode};
use essaim_wire::record;
use std::fmt;

/// Why a request was not done. The HTTP status and the exit code follow from it, in one table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RefusalKind {
    /// The request makes no sense as it stands; asking again changes nothing.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The object changed since it was read; read it again and repeat.
    OutOfSequence,
    /// The object is needed by another, or is in a state that does not allow it.
    Precondition,
    /// This node has no part in a cluster, or is no manager: ask one.
    NotManager,
    /// This node already has a part in a cluster.
    AlreadyInCluster,
    /// The secret or certificate shown does not allow it.
    Denied,
    /// Too few managers can be reached; nothing was changed, or will be until they are back.
    NoQuorum,
    /// It could not be confirmed in time whether the change was made; read before asking again.
    Unknown,
    /// A setting of Swarm that has no effect here yet.
    Unsupported,
    /// Something of ours broke; the words say what.
    Internal,
}

/// A "no" that explains itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind of "no".
    pub kind: RefusalKind,
    /// Cause and next step.
    pub text: String,
}
record!(Refusal { 1: kind, text });

impl Refusal {
    /// A refusal of `kind` with these words.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The request makes no sense as it stands.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(RefusalKind::Invalid, text)
    }

    /// There is no such object, in Docker's words (`node x not found`).
    pub fn not_found(what: &str, which: impl fmt::Display) -> Self {
        Self::new(RefusalKind::NotFound, format!("{what} {which} not found"))
    }

    /// The object changed since it was read, in Docker's words: clients look for them and read again.
    pub fn out_of_sequence() -> Self {
        Self::new(RefusalKind::OutOfSequence, "update out of sequence")
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("refusal": RefusalKind, Refusal);
