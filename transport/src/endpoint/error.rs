//! Why there is no session, or no lane.

use crate::admission::Denied;
use crate::frame::FrameError;
use crate::network::{DialError, Ended};
use essaim_wire::NodeId;
use std::net::SocketAddr;

/// There is no session with the node, and none could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// Nobody has said where the node is.
    #[error("no address is known for {0}")]
    NoAddress(NodeId),
    /// Dialling failed.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Another node answers at the address.
    #[error("{addr} is {found} now, not {wanted}")]
    OtherNode {
        /// Who was wanted.
        wanted: NodeId,
        /// Who answered.
        found: NodeId,
        /// Where.
        addr: SocketAddr,
    },
    /// It is this node itself.
    #[error("{0} is this node itself")]
    Itself(NodeId),
    /// The admission table of either side forbids it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The connection ended before both sides had said Hello.
    #[error("the session was not established: {0}")]
    Hello(String),
    /// The endpoint was closed.
    #[error("the endpoint is closed")]
    Closed,
}

/// A lane was not opened. Nothing was said on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No session.
    #[error(transparent)]
    Unreached(#[from] Unreached),
    /// One of the two sides does not allow the lane, or nobody serves it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The session ended meanwhile.
    #[error("the session ended: {0}")]
    Ended(#[from] Ended),
    /// The answer of the peer was no answer.
    #[error(transparent)]
    Frame(#[from] FrameError),
}
