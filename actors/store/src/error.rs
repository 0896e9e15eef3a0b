//! Errors of the store, in words for the caller: what is the cause, did anything change, what to do now.

use essaim_model::{Refusal, RefusalKind};
use essaim_wire::{DecodeError, NodeId};
use std::fmt;
use std::io;

/// A manager that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Id of the manager's node.
    pub node: NodeId,
    /// Name of the node, for people.
    pub name: String,
}

/// No quorum: too few managers can be reached to change anything, or to know that nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoQuorum {
    /// Number of voters in the group.
    pub voters: usize,
    /// Voters that do not answer.
    pub missing: Vec<Missing>,
}

impl std::error::Error for NoQuorum {}

impl fmt::Display for NoQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Swarm's text comes first, because clients and scripts search for it.
        f.write_str(
            "The swarm does not have a leader. It's possible that too few managers are online. \
             Make sure more than half of the managers are online.",
        )?;
        match self.missing.as_slice() {
            [] => f.write_str(" All of them answer, but have not agreed on a leader yet: try again in a moment."),
            missing => {
                write!(f, " Of {} managers, {} cannot be reached:", self.voters, missing.len())?;
                for (place, Missing { node, name }) in missing.iter().enumerate() {
                    let comma = if place == 0 { "" } else { "," };
                    if *name == node.to_string() {
                        write!(f, "{comma} {node}")?;
                    } else {
                        write!(f, "{comma} {name} ({node})")?;
                    }
                }
                f.write_str(
                    ". Start them again, or mend the network between them; if they are gone for good, \
                     run `swarm init --force-new-cluster` on one that is left.",
                )
            }
        }
    }
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No quorum. Nothing was changed, and nothing will be.
    #[error("{0}")]
    NoQuorum(NoQuorum),
    /// The proposal was given to the group and could not be confirmed in time: it may still be applied, once.
    #[error("it could not be confirmed in time whether the change was made; look before you ask again. {0}")]
    Unknown(String),
    /// The proposal is larger than a log entry may be. Nothing was changed; propose it in parts.
    #[error("a proposal of {bytes} bytes is over the limit of {}", crate::pieces::PROPOSAL_BYTES_MAX)]
    TooLarge {
        /// Encoded size of the proposal, in bytes.
        bytes: usize,
    },
    /// The store is closed, or its disk failed. Nothing was changed.
    #[error("this manager is stopping: {0}")]
    Closed(String),
}

impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Self {
        let kind = match error {
            ProposeError::NoQuorum(_) => RefusalKind::NoQuorum,
            ProposeError::Unknown(_) => RefusalKind::Unknown,
            ProposeError::TooLarge { .. } => RefusalKind::Invalid,
            ProposeError::Closed(_) => RefusalKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

/// Why a read could not be made linearizable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too few managers can be reached; [`Store::state`](crate::Store::state) has the last known state.
    #[error("{0}")]
    NoQuorum(NoQuorum),
    /// This manager lags too far behind the leader; ask another one, or wait.
    #[error("this manager is still catching up with the others; ask another, or wait")]
    Behind,
    /// The store is closed, or its disk failed.
    #[error("this manager is stopping: {0}")]
    Closed(String),
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::NoQuorum(_) => RefusalKind::NoQuorum,
            ReadError::Behind => RefusalKind::Unknown,
            ReadError::Closed(_) => RefusalKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

/// Why the store cannot be opened. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder contains no group.
    #[error("this node has no part in a group of managers")]
    Nothing,
    /// The folder belongs to another node.
    #[error("the store in this folder belongs to node {0}")]
    OtherNode(NodeId),
    /// A file differs from what was written; the text names it, and the way out.
    #[error("{0}")]
    Damaged(String),
    /// The files were written by a newer program, or the cluster's level is higher than this program understands. The
    /// text says which.
    #[error(
        "{0}. This manager does not start with an older essaim than its cluster needs, and its files are as they \
         were. The way on: start the newer essaim on this machine again"
    )]
    Newer(String),
    /// The disk returned an error.
    #[error("the store's folder: {0}")]
    Disk(#[from] io::Error),
    /// openraft refused to start.
    #[error("the group did not start: {0}")]
    Raft(String),
}

impl OpenError {
    /// The error for a damaged file, with what to do about it; or for a whole file that a newer program wrote.
    pub(crate) fn damaged(what: impl fmt::Display, folder: &str) -> Self {
        let what = what.to_string();
        if DecodeError::tells_of_newer(&what) {
            return Self::Newer(what);
        }
        Self::Damaged(format!(
            "{what}. This manager may have acknowledged what cannot be read any more, so it does not start with it. \
             Nothing is lost as long as the other managers form a majority. The way back: on another manager, demote \
             this node (`essaim node demote NODE`); stop this daemon; delete {folder}; start it, and promote the node \
             again (`essaim node promote NODE`). If it was the only manager, put a backup of {folder} in its place: \
             what was changed since that backup is lost."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_quorum_the_words_are_swarms_and_name_those_that_are_missing() {
        let id = NodeId::from_bits(7);
        let missing =
            vec![Missing { node: NodeId::from_bits(2), name: "n2".into() }, Missing { node: id, name: id.to_string() }];
        let text = NoQuorum { voters: 3, missing }.to_string();
        assert!(text.starts_with("The swarm does not have a leader. It's possible that too few managers are online."));
        assert!(text.contains("Of 3 managers, 2 cannot be reached: n2 (0000000000000000000000002),"), "{text}");
        assert!(text.contains("`swarm init --force-new-cluster`"), "{text}");
    }
}
