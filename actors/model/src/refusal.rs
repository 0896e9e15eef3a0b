//! Refusals: an expected "no" as a value, with its kind and a text for the caller.

use bincode::{Decode, Encode};
use essaim_wire::record;
use std::fmt;

/// The kind of a refusal. The HTTP status and the exit code follow from it, in one table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RefusalKind {
    /// The request is invalid; repeating it changes nothing.
    Invalid,
    /// The object that the request names does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The object changed since it was read; read it again and repeat.
    OutOfSequence,
    /// Another object needs this object, or its state does not allow the request.
    Precondition,
    /// This node is not part of a cluster, or is no manager: ask a manager.
    NotManager,
    /// This node is already part of a cluster.
    AlreadyInCluster,
    /// The secret or certificate shown does not allow the request.
    Denied,
    /// No quorum: too few managers can be reached. Nothing was changed, and nothing will be until they are back.
    NoQuorum,
    /// The outcome is unknown: it could not be confirmed in time whether the change was made. Read the state before
    /// asking again.
    Unknown,
    /// The request uses a setting of Swarm that has no effect here yet.
    Unsupported,
    /// Essaim itself has a fault, which the text describes.
    Internal,
}

/// An expected "no": why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The kind of the refusal.
    pub kind: RefusalKind,
    /// Cause and next step, in words for people.
    pub text: String,
}
record!(Refusal { 1: kind, text });

impl Refusal {
    /// A refusal of `kind` with this text.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// A refusal of an invalid request.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(RefusalKind::Invalid, text)
    }

    /// A refusal because an object does not exist, in Docker's words (`node x not found`).
    pub fn not_found(what: &str, which: impl fmt::Display) -> Self {
        Self::new(RefusalKind::NotFound, format!("{what} {which} not found"))
    }

    /// A refusal because the object changed since it was read. The text is Docker's: clients look for it and then read
    /// again.
    pub(crate) fn out_of_sequence() -> Self {
        Self::new(RefusalKind::OutOfSequence, "update out of sequence")
    }
}

#[cfg(test)]
essaim_wire::golden_bytes!("refusal": RefusalKind, Refusal);
