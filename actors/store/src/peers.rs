//! How the store reaches other managers: one way to open a lane, and the pipe that comes of it.
//!
//! In a node that is `transport`'s endpoint; in a test of the store it is memory. Either way the other end is the
//! manager with that id or nobody, and both directions are bounded.

use essaim_transport::{FrameReceiver, FrameSender, Lane};
use essaim_wire::NodeId;
use futures::future::BoxFuture;

/// Opens lanes to other managers.
pub trait Peers: Send + Sync + 'static {
    /// Opens a lane to `node`, dialling it when there is no session. The error says why not, for people.
    fn open(&self, node: NodeId, lane: Lane) -> BoxFuture<'_, Result<Pipe, String>>;
}

/// Both directions of an open lane.
pub struct Pipe {
    /// Towards the peer.
    pub send: FrameSender,
    /// From the peer.
    pub recv: FrameReceiver,
}
