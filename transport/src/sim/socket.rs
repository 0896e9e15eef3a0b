//! Simulated sockets: dialling, accepting and the sentinel probe.

use super::Shared;
use super::connection::SimConnection;
use super::end::{Conn, Phase};
use super::handle::Handle;
use super::packet::{Asked, Body, ConnId, Packet, Side};
use super::state::{Bound, end};
use crate::code;
use crate::network::{Arrival, Connection, DialError, Probe, Socket, SocketKey, Trust, TrustLevel, Utc};
use crate::trust::{Certificate, Identity, PeerIdentity, TrustError, verify};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A dial that is not answered within this time fails; equal to the idle timeout of the real network.
const DIAL_MAX: Duration = Duration::from_secs(3);

/// Time that a sentinel probe waits for a refusal; equal to that of the real network.
const SENTINEL_MAX: Duration = Duration::from_millis(200);

pub(super) struct SimSocket {
    shared: Arc<Shared>,
    addr: SocketAddr,
    number: u64,
    key: SocketKey,
    utc: Utc,
}

impl SimSocket {
    pub(super) fn new(shared: Arc<Shared>, bound: Bound) -> Self {
        let Bound { addr, number, key, utc, .. } = bound;
        Self { shared, addr, number, key, utc }
    }

    fn ask(
        &self,
        to: SocketAddr,
        trust: Trust,
    ) -> Result<(ConnId, oneshot::Receiver<Result<PeerIdentity, DialError>>), DialError> {
        let mut state = self.shared.state();
        let Some(bound) = state.socket(self.addr, self.number) else {
            return Err(DialError::Unable("the socket is closed".into()));
        };
        let identity = bound.identity.clone();
        let shown = match (&identity, trust) {
            (_, Trust::Join { .. }) => Vec::new(),
            (Some(identity), Trust::Member) => identity.chain().to_vec(),
            (None, Trust::Member) => return Err(DialError::Unable("this node has no certificate".into())),
        };
        let id = ConnId(state.number());
        let (reply, answer) = oneshot::channel();
        let asked = Asked { conn: id, from: self.addr, trust, shown };
        let phase = Phase::Dialling { asked, identity, utc: self.utc.clone(), reply };
        let conn = Conn::new(phase, end(self.addr, self.number, Some(self.key)), end(to, 0, None));
        state.conns.insert(id, conn);
        state.dials(id);
        drop(state);
        self.shared.queued.notify_one();
        Ok((id, answer))
    }
}

impl Socket for SimSocket {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Arrival>>> {
        async {
            loop {
                let arrived = {
                    let mut state = self.shared.state();
                    let bound = state.socket(self.addr, self.number)?;
                    match bound.arrivals.pop_front() {
                        Some(asked) => {
                            if let Some(conn) = state.conns.get_mut(&asked.conn) {
                                conn.taken = true;
                            }
                            let (addr, number) = (self.addr, self.number);
                            let shared = self.shared.clone();
                            let arrival = SimArrival { shared, asked: Some(asked), addr, number };
                            return Some(Box::new(arrival) as Box<dyn Arrival>);
                        }
                        None => bound.arrived.clone().notified_owned(),
                    }
                };
                arrived.await;
            }
        }
        .boxed()
    }

    fn dial(&self, addr: SocketAddr, trust: Trust) -> BoxFuture<'_, Result<Arc<dyn Connection>, DialError>> {
        async move {
            let (id, answer) = self.ask(addr, trust)?;
            let peer = match timeout(DIAL_MAX, answer).await {
                Ok(Ok(answer)) => answer?,
                Ok(Err(_)) => return Err(DialError::Unable("the socket is closed".into())),
                Err(_) => {
                    self.shared.state().forget_ended();
                    return Err(DialError::NoAnswer { addr });
                }
            };
            let level = if trust == Trust::Member { TrustLevel::Member } else { TrustLevel::Join };
            let Some(handle) = Handle::new(&self.shared, id, Side::Dialler) else {
                return Err(DialError::NoAnswer { addr });
            };
            Ok(Arc::new(SimConnection::new(handle, level, Some(peer), addr)) as Arc<dyn Connection>)
        }
        .boxed()
    }

    fn present(&self, identity: Identity) -> Result<(), TrustError> {
        verify::of_dialled(identity.roots())?;
        if let Some(bound) = self.shared.state().socket(self.addr, self.number) {
            bound.identity = Some(identity);
        }
        Ok(())
    }

    fn probe(&self, addr: SocketAddr) -> BoxFuture<'_, Probe> {
        async move {
            let (reply, refused) = oneshot::channel();
            let reply = Arc::new(Mutex::new(Some(reply)));
            // The probe is sent from port 0, on which no socket listens.
            let from = SocketAddr::new(self.addr.ip(), 0);
            self.shared.state().send(Packet { from, to: addr, body: Body::Probe { reply } });
            self.shared.queued.notify_one();
            match timeout(SENTINEL_MAX, refused).await {
                Ok(Ok(())) => Probe::Refused,
                _ => {
                    // A lost probe and one that reached a living daemon look the same: the sentinel waits its whole
                    // time.
                    Probe::Silent
                }
            }
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.shared.state().close_socket(self.addr, self.number, code::GOING, "the node closes its endpoint");
            self.shared.queued.notify_one();
        }
        .boxed()
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.shared.state().close_socket(self.addr, self.number, code::GOING, "");
    }
}

struct SimArrival {
    shared: Arc<Shared>,
    /// The dial to complete; `None` once it was completed.
    asked: Option<Asked>,
    addr: SocketAddr,
    number: u64,
}

impl SimArrival {
    fn refuse(&self, asked: &Asked, why: String) {
        let body = Body::DialRefused { conn: asked.conn, why };
        self.shared.state().send(Packet { from: self.addr, to: asked.from, body });
        self.shared.queued.notify_one();
    }
}

impl Arrival for SimArrival {
    fn remote_addr(&self) -> SocketAddr {
        self.asked.as_ref().map_or(self.addr, |asked| asked.from)
    }

    /// Addresses are never forged in the simulation.
    fn is_validated(&self) -> bool {
        true
    }

    fn demand_validation(self: Box<Self>) {}

    /// In the simulation the peer is told, because it would not retry.
    fn ignore(self: Box<Self>) {}

    fn complete(mut self: Box<Self>) -> BoxFuture<'static, Result<Arc<dyn Connection>, DialError>> {
        let addr = self.remote_addr();
        let closed = || DialError::Unable("the socket is closed".into());
        let completed = (|| {
            let asked = self.asked.take().ok_or_else(closed)?;
            let mut state = self.shared.state();
            let bound = state.socket(self.addr, self.number).ok_or_else(closed)?;
            let (key, number, now) = (bound.key, bound.number, (bound.utc)());
            let identity = bound.identity.clone().ok_or_else(closed)?;
            let peer = match asked.trust {
                Trust::Join { .. } => None,
                Trust::Member => match verify::chain(identity.roots(), &asked.shown, now) {
                    Ok(peer) => Some(peer),
                    Err(why) => {
                        let why = why.to_string();
                        drop(state);
                        self.refuse(&asked, why.clone());
                        return Err(DialError::Untrusted { addr, why });
                    }
                },
            };
            let shown = shown(&identity);
            let Some(conn) = state.conns.get_mut(&asked.conn) else {
                return Err(DialError::NoAnswer { addr });
            };
            let end = conn.end_mut(Side::Acceptor);
            (end.socket, end.key) = (number, Some(key));
            end.open();
            state.ticks(asked.conn, Side::Acceptor);
            state.send(Packet { from: self.addr, to: asked.from, body: Body::Accepted { conn: asked.conn, shown } });
            drop(state);
            self.shared.queued.notify_one();
            let level = if peer.is_some() { TrustLevel::Member } else { TrustLevel::Join };
            let handle = Handle::new(&self.shared, asked.conn, Side::Acceptor).ok_or_else(closed)?;
            Ok(Arc::new(SimConnection::new(handle, level, peer, asked.from)) as Arc<dyn Connection>)
        })();
        async { completed }.boxed()
    }
}

impl Drop for SimArrival {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.refuse(&asked, "the connection is refused".into());
        }
    }
}

/// The certificates that an accepting side shows: its own, and the roots for joiners, as in the real network.
pub(super) fn shown(identity: &Identity) -> Vec<Certificate> {
    identity.chain().iter().chain(identity.roots()).cloned().collect()
}
