//! Lanes of a node to itself: the same servers, over memory.
//!
//! A manager's own worker has a link like every other one, and requests for logs or the tree go to every node alike. No
//! session is needed for that, since both ends are this process. The lane is judged by the same admission table as that
//! of another node.

use super::inner::Inner;
use super::{LaneStream, OpenError, PeerInfo, SessionId};
use crate::admission::Denied;
use crate::frame::{FrameReceiver, FrameSender};
use crate::lane::{Direction, Lane};
use crate::network::{RecvStream, SendStream};
use std::sync::Arc;
use tokio::io::{DuplexStream, duplex};

/// Bytes that one end may write ahead of the other's reading, in each direction.
const WINDOW: usize = 256 << 10;

// Each direction has a pipe of its own, used one way: dropping either end of the pipe ends the direction.
impl SendStream for DuplexStream {
    /// Both ends are this process, so the code has no receiver.
    fn reset(&mut self, _code: u32) {}
}

impl RecvStream for DuplexStream {
    fn stop(&mut self, _code: u32) {}
}

/// Opens a lane to this node itself.
pub(super) fn open(inner: &Arc<Inner>, lane: Lane) -> Result<LaneStream, OpenError> {
    let identity = inner.identity().says().clone();
    let admission = inner.admission();
    let peer = PeerInfo {
        session: SessionId(0),
        node: identity.node,
        role: admission.role(&identity),
        generation: inner.generation,
        lineage: admission.lineage,
        wire: inner.wire,
        remote: inner.advertise,
        advertise: inner.advertise,
        traffic: lane.traffic(),
        identity,
    };
    for direction in [Direction::Outgoing, Direction::Incoming] {
        inner.judge(&peer, lane, direction, Some(admission.lineage))?;
    }
    let server = inner.server(lane).ok_or(Denied::Unserved { lane })?;
    let ((near_send, far_recv), (far_send, near_recv)) = (duplex(WINDOW), duplex(WINDOW));
    let stream = |send, recv| LaneStream {
        lane,
        peer: peer.clone(),
        send: FrameSender::new(Box::new(send) as Box<dyn SendStream>),
        recv: FrameReceiver::new(Box::new(recv) as Box<dyn RecvStream>),
    };
    inner.tasks.spawn(server.serve(peer.clone(), stream(far_send, far_recv)));
    Ok(stream(near_send, near_recv))
}
