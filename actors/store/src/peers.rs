//! The store's way to other managers: opens lanes, each of which is a pipe.
//!
//! In a node the endpoint of `transport` implements it; in the store's tests, memory. Either way the other end is the
//! manager with that id or there is none, and both directions are bounded.

use essaim_transport::{FrameReceiver, FrameSender, Lane};
use essaim_wire::NodeId;
use futures::future::BoxFuture;

/// Opens lanes to other managers.
pub trait Peers: Send + Sync + 'static {
    /// Opens a lane to `node`, dialling it when there is no session. The error says why it failed, for people.
    fn open(&self, node: NodeId, lane: Lane) -> BoxFuture<'_, Result<Pipe, String>>;
}

/// Both directions of an open lane.
pub struct Pipe {
    /// Frames to the peer.
    pub send: FrameSender,
    /// Frames from the peer.
    pub recv: FrameReceiver,
}
