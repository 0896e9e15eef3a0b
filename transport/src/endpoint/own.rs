//! Lanes of a node to itself: the same servers, over memory.
//!
//! A manager's own worker is linked like every other one, and asks for logs or the tree go to every node alike; no
//! session is needed for that, since both ends are this process. The lane is judged by the same table as a stranger's.

use super::inner::Inner;
use super::{LaneStream, OpenError, PeerInfo, SessionId};
use crate::admission::Denied;
use crate::frame::{FrameReceiver, FrameSender};
use crate::lane::{Direction, Lane};
use crate::network::{RecvStream, SendStream};
use std::sync::Arc;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};

/// How much one end may write ahead of the other's reading, in each direction.
const WINDOW: usize = 256 << 10;

impl SendStream for WriteHalf<DuplexStream> {
    /// The other half of this end ends with it: there is nobody to tell a code to but ourselves.
    fn reset(&mut self, _code: u32) {}
}

impl RecvStream for ReadHalf<DuplexStream> {
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
        remote: inner.advertise,
        advertise: inner.advertise,
        traffic: lane.traffic(),
        identity,
    };
    for direction in [Direction::Outgoing, Direction::Incoming] {
        inner.judge(&peer, lane, direction, Some(admission.lineage))?;
    }
    let server = inner.server(lane).ok_or(Denied::Unserved { lane })?;
    let (near, far) = duplex(WINDOW);
    let stream = |end| {
        let (recv, send) = split(end);
        let (send, recv) = (FrameSender::new(Box::new(send)), FrameReceiver::new(Box::new(recv)));
        LaneStream { lane, peer: peer.clone(), send, recv }
    };
    let served = server.serve(peer.clone(), stream(far));
    inner.tasks.spawn(served);
    Ok(stream(near))
}
