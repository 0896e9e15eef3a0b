//! Errors: why there is no session, or no lane.

use crate::admission::Denied;
use crate::frame::FrameError;
use crate::network::{DialError, Ended};
use essaim_wire::NodeId;
use std::net::SocketAddr;

/// Reasons why there is no session with a node, and none could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// The node's address is unknown.
    #[error("no address is known for {0}")]
    NoAddress(NodeId),
    /// Dialling failed.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Another node answers at the address.
    #[error("{addr} is {found} now, not {wanted}")]
    OtherNode {
        /// Node that was dialled.
        wanted: NodeId,
        /// Node that answered.
        found: NodeId,
        /// Address at which it answered.
        addr: SocketAddr,
    },
    /// The node is this node itself.
    #[error("{0} is this node itself")]
    Itself(NodeId),
    /// The admission table of one side forbids the session.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The connection ended before both sides had said Hello.
    #[error("the session was not established: {0}")]
    Hello(String),
    /// The endpoint was closed.
    #[error("the endpoint is closed")]
    Closed,
}

/// Reasons why a lane was not opened. Nothing was sent on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no session with the node.
    #[error(transparent)]
    Unreached(#[from] Unreached),
    /// One side does not allow the lane, or the peer does not serve it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The session ended in the meantime.
    #[error("the session ended: {0}")]
    Ended(#[from] Ended),
    /// The peer's answer was missing or malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}
