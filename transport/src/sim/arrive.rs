//! Arrivals of the simulated network: what a socket or a connection does with a packet that reaches it.

use super::packet::{Asked, Body, ConnId, Packet, Side, What};
use super::socket::shown;
use super::state::State;
use crate::network::{DialError, Ended};
use crate::trust::Certificate;
use std::net::{IpAddr, SocketAddr};
use tokio::time::Instant;

/// Dials that may wait at a socket to be accepted; further ones are dropped, as a full accept queue does.
const ARRIVALS_MAX: usize = 256;

impl State {
    pub(super) fn arrives(&mut self, packet: Packet) {
        let (from, to) = (packet.from, packet.to);
        if self.dark(to.ip()) || self.faults.blocks(from.ip(), to.ip()) {
            return;
        }
        let is_kernels = matches!(packet.body, Body::Probe { .. } | Body::Refusal { .. } | Body::NothingListens { .. });
        if self.frozen(to.ip()) && !is_kernels {
            return self.hold(to.ip(), packet);
        }
        self.sum_up(&packet);
        match packet.body {
            Body::Dial(asked) => self.on_dial(from, to, asked),
            Body::Accepted { conn, shown } => self.on_accepted(conn, &shown),
            Body::DialRefused { conn, why } => self.dial_fails(conn, DialError::Refused { addr: from, why }),
            Body::NothingListens { conn } => self.dial_fails(conn, DialError::NothingListens { addr: from }),
            Body::Said { conn, to: side, what } => self.on_said(from, to, conn, side, what),
            Body::Unknown { conn, to: side } => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.end_mut(side).end(Ended::Reset);
                    self.forget_ended();
                }
            }
            Body::Probe { reply } => {
                if !self.sockets.contains_key(&to) {
                    self.send(Packet { from: to, to: from, body: Body::Refusal { reply } });
                }
            }
            Body::Refusal { reply } => {
                let reply = reply.lock().take();
                let _ = reply.map(|reply| reply.send(()));
            }
        }
    }

    fn on_dial(&mut self, from: SocketAddr, to: SocketAddr, asked: Asked) {
        let conn = asked.conn;
        let Some(bound) = self.sockets.get_mut(&to) else {
            return self.send(Packet { from: to, to: from, body: Body::NothingListens { conn } });
        };
        // A socket without an identity accepts no connections, and a resent dial may arrive twice.
        if bound.identity.is_none() || bound.arrivals.iter().any(|waits| waits.conn == conn) {
            return;
        }
        let Some(known) = self.conns.get(&conn) else { return };
        if known.end(Side::Acceptor).is_open() && known.end(Side::Acceptor).socket == bound.number {
            // The dial was answered before and the answer was lost: answer again.
            let shown = bound.identity.as_ref().map(shown).unwrap_or_default();
            return self.send(Packet { from: to, to: from, body: Body::Accepted { conn, shown } });
        }
        if known.taken {
            return;
        }
        if bound.arrivals.len() >= ARRIVALS_MAX {
            let why = "too many connections wait".into();
            return self.send(Packet { from: to, to: from, body: Body::DialRefused { conn, why } });
        }
        bound.arrivals.push_back(asked);
        bound.arrived.notify_waiters();
    }

    fn on_accepted(&mut self, id: ConnId, shown: &[Certificate]) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match conn.on_accepted(shown) {
            Some(Ok(())) => {
                self.met += 1;
                self.ticks(id, Side::Dialler);
            }
            Some(Err(close)) => self.mention(id, Side::Dialler, close),
            None => (),
        }
    }

    fn dial_fails(&mut self, id: ConnId, why: DialError) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.dial_fails(why);
            self.forget_ended();
        }
    }

    fn on_said(&mut self, from: SocketAddr, to: SocketAddr, id: ConnId, side: Side, what: What) {
        let Some(bound) = self.sockets.get(&to) else { return };
        let (key, number) = (bound.key, bound.number);
        match self.conns.get_mut(&id) {
            Some(conn) if conn.end(side).is_open() && conn.end(side).socket == number => {
                conn.end_mut(side).heard = Instant::now();
                let is_end = matches!(what, What::Close { .. });
                conn.on_said(side, what);
                if is_end {
                    self.forget_ended();
                }
            }
            // A stateless reset: only a daemon with the key of the former socket can say that the connection is gone.
            Some(conn) if conn.end(side).key == Some(key) && !matches!(what, What::Close { .. }) => {
                self.send(Packet { from: to, to: from, body: Body::Unknown { conn: id, to: side.other() } });
            }
            _ => (),
        }
    }

    /// Adds an arrival to the fingerprint of the run.
    fn sum_up(&mut self, packet: &Packet) {
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        let (kind, size) = packet.body.shape();
        let when = u64::try_from((now - begun).as_micros()).unwrap_or(u64::MAX);
        for word in [when, place(packet.from), place(packet.to), kind, size as u64] {
            self.fingerprint.add(&word.to_le_bytes());
        }
        self.arrived += 1;
        self.carried += size as u64;
    }
}

/// An address as a number, for the fingerprint. Collisions between the addresses of one simulation do not occur in
/// practice.
fn place(addr: SocketAddr) -> u64 {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ ip.to_bits() as u64,
    };
    ip << 16 ^ u64::from(addr.port())
}
