//! The endpoint: sessions with other nodes, by node id.
//!
//! Whoever wants to say something to a node opens a lane to it, or sends it a datagram; the endpoint dials when there
//! is no session yet. A session is one connection on which both sides have said Hello (wire version, lineage,
//! generation, control or bulk) and which both sides admit. Between two nodes there are at most two: control, and
//! bulk once a bulk lane is opened. A session has a number of its own on this node, so that the end of an old one is
//! never taken for the end of its successor.
//!
//! - `hello`: the first words, and the frames that open a lane.
//! - `table`: which session stands when two compete; pure.
//! - `session`: what runs while one stands.
//! - `dial`: making one, with back-off.
//! - `enrol`: how a stranger becomes a node.
//!
//! Nothing here decides who is alive: the end of a session is an event for the membership, not a verdict.

use crate::admission::{Admission, Denied};
use crate::frame::{FrameError, FrameReceiver, FrameSender};
use crate::lane::{Lane, Traffic};
use crate::network::{DialError, Ended, Network, Probe, SocketKey, Utc};
use crate::trust::{Identity, Issuer, PeerIdentity, TrustError};
use bytes::Bytes;
use essaim_wire::{Generation, Lineage, NodeId, Role};
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

mod enrol;

pub use enrol::{EnrolError, enrol};

/// What an endpoint is started with.
#[derive(Clone)]
pub struct Config {
    /// Where to bind.
    pub listen: SocketAddr,
    /// Where others reach this node; told in Hello. With port 0, the port that was bound is told.
    pub advertise: SocketAddr,
    /// Who this node is.
    pub identity: Identity,
    /// Which start of the daemon this is.
    pub generation: Generation,
    /// Signs stateless resets; kept on disk.
    pub key: SocketKey,
    /// Spreads redials.
    pub seed: u64,
    /// The time by which certificates are judged.
    pub utc: Utc,
    /// The table in force. A change drops whatever it denies.
    pub admission: watch::Receiver<Arc<Admission>>,
}

/// Numbers the sessions of this node since its start. An event about one number says nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The other end of a session, as it proved and said when the session was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Which session.
    pub session: SessionId,
    /// Which node.
    pub node: NodeId,
    /// What it may do here: its certificate, less what the table takes away.
    pub role: Role,
    /// Which start of its daemon.
    pub generation: Generation,
    /// Its history of the log, when it said Hello.
    pub lineage: Lineage,
    /// Where its packets come from.
    pub remote: SocketAddr,
    /// Where it wants to be reached.
    pub advertise: SocketAddr,
    /// Which of the two connections.
    pub traffic: Traffic,
    /// Its certificate.
    pub identity: PeerIdentity,
}

/// What happened to control sessions, in order. Bulk sessions come and go silently: they are no evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A control session stands.
    Up(PeerInfo),
    /// A control session has ended.
    Lost {
        /// With whom.
        node: NodeId,
        /// Which.
        session: SessionId,
        /// Which start of the peer's daemon it was with.
        generation: Generation,
        /// How it ended.
        how: Lost,
    },
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Another session with the same node took its place; nothing is wrong.
    Replaced,
    /// The peer has a new generation: it was restarted.
    Restarted,
    /// The table denied it.
    Denied(Denied),
    /// The connection ended.
    Ended(Ended),
}

/// A datagram of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it, by its certificate.
    pub from: NodeId,
    /// What it says.
    pub bytes: Bytes,
}

/// Both directions of an open lane, as frames.
pub struct LaneStream {
    /// Which lane.
    pub lane: Lane,
    /// With whom.
    pub peer: PeerInfo,
    /// Towards the peer.
    pub send: FrameSender,
    /// From the peer.
    pub recv: FrameReceiver,
}

/// Whoever serves a lane.
pub trait Serve: Send + Sync {
    /// Serves one stream until its end. The endpoint aborts it when the session ends or the endpoint closes.
    fn serve(self: Arc<Self>, peer: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()>;
}

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

/// The endpoint of a node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<()>,
}

impl Endpoint {
    /// Binds the port and starts. Must be called inside the runtime.
    pub fn start(
        _network: &dyn Network,
        _config: Config,
    ) -> std::io::Result<(Self, mpsc::Receiver<Event>, mpsc::Receiver<Datagram>)> {
        unimplemented!()
    }
    /// This node.
    pub fn node(&self) -> NodeId {
        unimplemented!()
    }
    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }
    /// Where it tells others to reach it.
    pub fn advertise(&self) -> SocketAddr {
        unimplemented!()
    }
    /// Who this node is now.
    pub fn identity(&self) -> Identity {
        unimplemented!()
    }
    /// The table in force.
    pub fn admission(&self) -> Arc<Admission> {
        unimplemented!()
    }
    /// Registers who serves a lane; the last one counts.
    pub fn serve(&self, _lane: Lane, _server: Arc<dyn Serve>) {
        unimplemented!()
    }
    /// Nobody serves the lane any more.
    pub fn unserve(&self, _lane: Lane) {
        unimplemented!()
    }
    /// Registers who answers strangers that want to join.
    pub fn issue(&self, _issuer: Arc<dyn Issuer>) {
        unimplemented!()
    }
    /// Notes where a node is. What Hello says counts as well.
    pub fn learn(&self, _node: NodeId, _addr: SocketAddr) {
        unimplemented!()
    }
    /// Forgets where a node is.
    pub fn forget(&self, _node: NodeId) {
        unimplemented!()
    }
    /// Where a node is, as far as known.
    pub fn address(&self, _node: NodeId) -> Option<SocketAddr> {
        unimplemented!()
    }
    /// Makes a control session with whoever is at the address, and says who it is.
    pub async fn meet(&self, _addr: SocketAddr) -> Result<PeerInfo, Unreached> {
        unimplemented!()
    }
    /// Opens a lane; dials when there is no session.
    pub async fn open(&self, _node: NodeId, _lane: Lane) -> Result<LaneStream, OpenError> {
        unimplemented!()
    }
    /// Sends a datagram on the control session. Without one it dials in the background and keeps a few datagrams
    /// until the session stands. Never waits; may lose.
    pub fn send_datagram(&self, _node: NodeId, _bytes: Bytes) {
        unimplemented!()
    }
    /// Asks the operating system of the node's host whether its daemon still listens.
    pub async fn probe(&self, _node: NodeId) -> Probe {
        unimplemented!()
    }
    /// The control sessions that stand, by node.
    pub fn peers(&self) -> Vec<PeerInfo> {
        unimplemented!()
    }
    /// Ends all sessions with the node.
    pub fn disconnect(&self, _node: NodeId, _reason: &str) {
        unimplemented!()
    }
    /// Shows another certificate from now on. When its role differs, all sessions are dropped, so that both sides
    /// judge anew.
    pub fn present(&self, _identity: Identity) -> Result<(), TrustError> {
        unimplemented!()
    }
    /// Ends every session, aborts every server, and waits until the port can be bound again. Not to be called from
    /// a server's own task.
    pub async fn close(&self) {
        unimplemented!()
    }
}
