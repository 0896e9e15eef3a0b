//! The endpoint: sessions with other nodes, by node id.
//!
//! To send something to a node, other code opens a lane to it or sends it a datagram; the endpoint dials when there is
//! no session yet. A session is one connection on which both sides have said Hello (wire versions, lineage, generation,
//! control or bulk) and which both sides admit. Between two nodes there are at most two: control, and bulk once a bulk
//! lane is opened. Each session has its own number on this node, so that the end of an old one is never taken for the
//! end of its successor.
//!
//! - `hello`: the first frames of a connection, and the frames that open a lane.
//! - `table`: the sessions, and which one stays when two compete; pure.
//! - `session`: an established session. `streams`: its task, which serves the peer's streams and opens lanes.
//! - `dial`: session setup, in both directions. `meeting`: what becomes of a connection after both have said Hello.
//! - `door`: admission of handshakes, while no peer is identified yet; pure.
//! - `book`: addresses, dials under way, back-off.
//! - `places`, `datagrams`: limits on what a peer may occupy of this node, and a queue of its own for its datagrams.
//! - `own`: the lanes of a node to itself.
//! - `enrol`, `strangers`, `limit`: how a stranger becomes a node, how many may be connected, and how often one may
//!   ask.
//! - `inner`: the state that all clones share, and the maintenance of sessions.
//! - `event`, `error`: events of sessions, and errors.
//!
//! Nothing here decides which nodes are alive: the end of a session is an event for the membership, not a verdict.

use crate::admission::Admission;
use crate::code;
use crate::frame::{FrameError, FrameReceiver, FrameSender};
use crate::issuer::Issuer;
use crate::lane::{Lane, Traffic};
use crate::network::{Binding, DatagramError, Ended, Network, Probe, SocketKey, Utc};
use crate::trust::{Identity, TrustError};
use bytes::Bytes;
use essaim_wire::{Generation, NodeId, WireVersion};
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

mod book;
mod datagrams;
mod dial;
mod door;
mod enrol;
mod error;
mod event;
mod hello;
mod inner;
mod limit;
mod meeting;
mod own;
mod places;
mod session;
mod strangers;
mod streams;
mod table;
mod tasks;
#[cfg(test)]
mod tests;

use inner::Inner;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use std::io;
use std::time::Duration;

/// Events that may wait to be received: one for each of a thousand nodes. A full queue slows down the sessions that
/// have an event to send.
const EVENTS_MAX: usize = 1024;

pub use datagrams::{DatagramSink, Datagrams};
pub use enrol::{EnrolError, enrol};
pub use error::{OpenError, Unreached};
pub use event::{Datagram, Event, Lost, PeerInfo, SessionId};

/// Configuration of an endpoint.
#[derive(Clone)]
pub struct Config {
    /// Address to bind.
    pub listen: SocketAddr,
    /// Address at which others reach this node, told in Hello. With port 0, the bound port is told.
    pub advertise: SocketAddr,
    /// Certificate and key of this node.
    pub identity: Identity,
    /// Generation (number of this start) of the daemon.
    pub generation: Generation,
    /// The newest wire version that this node's program speaks.
    pub wire: WireVersion,
    /// Key for stateless resets; kept on disk.
    pub key: SocketKey,
    /// Seed of the jitter between redials.
    pub seed: u64,
    /// Clock by which certificates are judged.
    pub utc: Utc,
    /// Admission table in force. A change drops every session that it denies.
    pub admission: watch::Receiver<Arc<Admission>>,
}

/// Both directions of an open lane, as frames.
pub struct LaneStream {
    /// Purpose of the stream.
    pub lane: Lane,
    /// Peer of the session.
    pub peer: PeerInfo,
    /// Frames to the peer.
    pub send: FrameSender,
    /// Frames from the peer.
    pub recv: FrameReceiver,
}

/// Server of a lane.
pub trait Serve: Send + Sync {
    /// Serves one stream until its end. The endpoint aborts the task when the session ends or the endpoint closes.
    fn serve(self: Arc<Self>, peer: PeerInfo, stream: LaneStream) -> BoxFuture<'static, ()>;
}

/// The endpoint of a node. Cheap to clone; all clones are the same endpoint, which runs until [`Endpoint::close`].
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

/// Receivers of an endpoint's events (sessions that come and go) and of its datagrams.
pub type Receivers = (mpsc::Receiver<Event>, Datagrams);

impl Endpoint {
    /// Binds the port and starts the endpoint. Must be called inside the runtime.
    pub fn start(network: &dyn Network, config: Config) -> io::Result<(Self, Receivers)> {
        let Config { listen, identity, key, utc, .. } = config.clone();
        let socket = network.bind(listen, Binding { identity: Some(identity), key, utc })?;
        let advertise = match config.advertise {
            any if any.port() == 0 => SocketAddr::new(any.ip(), socket.local_addr().port()),
            addr => addr,
        };
        let (events, hear_events) = mpsc::channel(EVENTS_MAX);
        let (datagrams, hear_datagrams) = Datagrams::queues();
        let jitter = ChaCha8Rng::seed_from_u64(config.seed);
        let inner = Arc::new(Inner::new(socket, &config, advertise, jitter, events, datagrams));
        inner.tasks.spawn(inner.clone().accept());
        inner.tasks.spawn(inner.clone().keep(config.admission));
        Ok((Self { inner }, (hear_events, hear_datagrams)))
    }

    /// Id of this node.
    pub fn node(&self) -> NodeId {
        self.inner.node()
    }

    /// Generation (number of this start) of the daemon.
    pub fn generation(&self) -> Generation {
        self.inner.generation
    }

    /// Address to which the endpoint is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.socket.local_addr()
    }

    /// Address at which this node tells others to reach it.
    pub fn advertise(&self) -> SocketAddr {
        self.inner.advertise
    }

    /// Present certificate and key of this node.
    pub fn identity(&self) -> Identity {
        self.inner.identity()
    }

    /// Admission table in force.
    pub fn admission(&self) -> Arc<Admission> {
        self.inner.admission()
    }

    /// Registers the server of a lane, in place of an earlier one. Until then, a peer that opens the lane is denied.
    pub fn serve(&self, lane: Lane, server: Arc<dyn Serve>) {
        self.inner.set_server(lane, Some(server));
    }

    /// Removes the server of a lane. Open streams stay open.
    pub fn unserve(&self, lane: Lane) {
        self.inner.set_server(lane, None);
    }

    /// Registers the issuer that answers strangers that want to join.
    pub fn issue(&self, issuer: Arc<dyn Issuer>) {
        self.inner.set_issuer(Some(issuer));
    }

    /// Records the address of a node. The address in a node's Hello is recorded as well.
    pub fn learn(&self, node: NodeId, addr: SocketAddr) {
        self.inner.book().learn(node, addr);
    }

    /// Forgets the address of a node.
    pub fn forget(&self, node: NodeId) {
        self.inner.book().forget(node);
    }

    /// Address of a node, if known.
    pub fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.inner.book().address(node)
    }

    /// Makes a control session with the node at an address, whichever it is, and returns that node's info.
    pub async fn meet(&self, addr: SocketAddr) -> Result<PeerInfo, Unreached> {
        if self.inner.is_closed() {
            return Err(Unreached::Closed);
        }
        Ok(self.inner.meet(addr).await?.info.clone())
    }

    /// Makes a control session with the node, unless there is one, and returns the node's info.
    pub async fn reach(&self, node: NodeId) -> Result<PeerInfo, Unreached> {
        Ok(self.inner.reach(node, Traffic::Control).await?.info.clone())
    }

    /// Opens a lane; dials when there is no session. After a failed dial the next one waits for a back-off that grows
    /// up to two seconds.
    pub async fn open(&self, node: NodeId, lane: Lane) -> Result<LaneStream, OpenError> {
        if node == self.node() {
            return own::open(&self.inner, lane);
        }
        let session = self.inner.reach(node, lane.traffic()).await?;
        match session.open(&self.inner, lane).await {
            // The session ended, or was replaced by another one, at this moment. Nothing was sent yet, so a second
            // attempt is safe.
            Err(OpenError::Ended(_) | OpenError::Frame(FrameError::Failed(_))) if session.is_over() => {
                self.inner.reach(node, lane.traffic()).await?.open(&self.inner, lane).await
            }
            opened => opened,
        }
    }

    /// Sends a datagram on the control session. Without a session, dials in the background and keeps a few datagrams
    /// until the session is established. Never waits, and may lose any datagram.
    pub fn send_datagram(&self, node: NodeId, bytes: Bytes) {
        if let Some(session) = self.inner.session(node, Traffic::Control) {
            session.touch();
            match session.connection.send_datagram(bytes.clone()) {
                Ok(()) => return,
                Err(why @ DatagramError::TooLong { .. }) => {
                    return tracing::warn!(%node, %why, "a datagram is dropped");
                }
                Err(DatagramError::Ended(_)) => self.inner.forget_session(&session.info),
            }
        }
        if self.inner.book().wait(node, bytes)
            && let Err(why) = self.inner.dial(node, Traffic::Control)
        {
            tracing::debug!(%node, %why, "a datagram is dropped");
        }
    }

    /// Probes whether the node's daemon still listens; the operating system of the node's host answers.
    pub async fn probe(&self, node: NodeId) -> Probe {
        match self.address(node) {
            Some(addr) => self.inner.socket.probe(addr).await,
            None => Probe::Silent,
        }
    }

    /// Peers of all control sessions, sorted by node.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let table = self.inner.table();
        table
            .iter()
            .filter(|(traffic, _)| *traffic == Traffic::Control)
            .map(|(_, session)| session.info.clone())
            .collect()
    }

    /// Peer of the control session with the node, if there is one.
    pub fn peer(&self, node: NodeId) -> Option<PeerInfo> {
        Some(self.inner.session(node, Traffic::Control)?.info.clone())
    }

    /// Ends all sessions with the node. The next use of the node dials again.
    pub fn disconnect(&self, node: NodeId, reason: &str) {
        for traffic in [Traffic::Control, Traffic::Bulk] {
            if let Some(session) = self.inner.session(node, traffic) {
                let how = Lost::Ended(Ended::Local { reason: reason.into() });
                session.close(how, code::DISCONNECTED, reason);
            }
        }
    }

    /// Replaces this node's certificate. If its role differs, all sessions are dropped, so that both sides judge anew;
    /// a mere renewal drops none.
    pub fn present(&self, identity: Identity) -> Result<(), TrustError> {
        let old = self.inner.identity();
        if (identity.node(), identity.cluster()) != (old.node(), old.cluster()) {
            return Err(TrustError::Mismatch("it is for another node or cluster".into()));
        }
        self.inner.socket.present(identity.clone())?;
        self.inner.set_identity(identity.clone());
        if identity.role() != old.role() {
            for session in self.inner.all() {
                session.close(Lost::RoleChanged, code::IDENTITY, "the node shows another certificate now");
            }
        }
        Ok(())
    }

    /// Ends every session, aborts servers of lanes that do not end by themselves, and waits until the port can be bound
    /// again. Must not be called from a server's own task.
    pub async fn close(&self) {
        for session in self.inner.shut() {
            let how = Lost::Ended(Ended::Local { reason: "the endpoint is closed".into() });
            session.close(how, code::GOING, "the node closes its endpoint");
        }
        self.inner.socket.close().await;
        self.inner.tasks.end(streams::SERVERS_GRACE + Duration::from_millis(500)).await;
        // A server owns what it serves, and the issuer what it asks, which may own this endpoint: removing them breaks the
        // cycle, so that a closed endpoint is freed.
        for lane in Lane::ALL {
            self.unserve(lane);
        }
        self.inner.set_issuer(None);
    }
}
