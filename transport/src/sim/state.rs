//! The event queue of the simulated network: everything under way, in the order of virtual time.

use super::end::{Conn, End, Phase};
use super::fault::Faults;
use super::packet::{Asked, Body, ConnId, Packet, Side, What};
use crate::network::{Binding, DialError, Ended, SocketKey, Utc};
use crate::trust::Identity;
use essaim_wire::Sum;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Idle timeout of a connection, as in the real network.
const IDLE: Duration = Duration::from_secs(3);

/// Interval of keep-alive packets, as in the real network.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Time after which a reliable message is sent again that was lost, or whose path is cut.
const RESEND: Duration = Duration::from_millis(100);

/// Time after which an unanswered dial is sent again.
const DIAL_RESEND: Duration = Duration::from_millis(200);

/// Packets that the socket of a frozen process holds; further ones are lost, as in a kernel's buffer.
const HELD_MAX: usize = 16 << 10;

/// First of the ports that are assigned for port 0.
const EPHEMERAL: u16 = 49152;

pub(super) struct State {
    pub(super) rng: ChaCha8Rng,
    pub(super) faults: Faults,
    pub(super) running: bool,
    pub(super) fingerprint: Sum,
    pub(super) arrived: u64,
    pub(super) carried: u64,
    /// Number of dials that were accepted on both ends.
    pub(super) met: u64,
    pub(super) sockets: BTreeMap<SocketAddr, Bound>,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    queue: BTreeMap<(Instant, u64), Happening>,
    hosts: BTreeMap<IpAddr, HostState>,
    numbers: u64,
    /// Moment of the first packet's arrival; times in the fingerprint count from there.
    pub(super) begun: Option<Instant>,
}

/// A bound socket. Its number tells it from a later socket on the same address.
#[derive(Clone)]
pub(super) struct Bound {
    pub(super) number: u64,
    pub(super) addr: SocketAddr,
    pub(super) identity: Option<Identity>,
    pub(super) key: SocketKey,
    pub(super) utc: Utc,
    pub(super) arrivals: VecDeque<Asked>,
    pub(super) arrived: Arc<Notify>,
}

#[derive(Default)]
struct HostState {
    dark: bool,
    frozen: bool,
    held: Vec<Packet>,
}

enum Happening {
    Arrives(Packet),
    /// The first reliable message of one side of a connection is due.
    Pipe(ConnId, Side),
    /// Keep-alive and idle timeout of one side of a connection are due.
    Tick(ConnId, Side),
    /// A dial may have to be sent again.
    Redial(ConnId),
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            faults: Faults::new(),
            running: false,
            fingerprint: Sum::default(),
            arrived: 0,
            carried: 0,
            met: 0,
            sockets: BTreeMap::new(),
            conns: BTreeMap::new(),
            queue: BTreeMap::new(),
            hosts: BTreeMap::new(),
            numbers: 0,
            begun: None,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn bind(&mut self, mut addr: SocketAddr, binding: Binding) -> io::Result<Bound> {
        if addr.port() == 0 {
            let free =
                (EPHEMERAL..=u16::MAX).find(|port| !self.sockets.contains_key(&SocketAddr::new(addr.ip(), *port)));
            addr.set_port(free.ok_or(io::ErrorKind::AddrInUse)?);
        }
        if self.sockets.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.power_on(addr.ip());
        let Binding { identity, key, utc } = binding;
        let number = self.number();
        let (arrivals, arrived) = (VecDeque::new(), Arc::new(Notify::new()));
        let bound = Bound { number, addr, identity, key, utc, arrivals, arrived };
        self.sockets.insert(addr, bound.clone());
        Ok(bound)
    }

    /// The socket at the address, if it still is the one with this number.
    pub(super) fn socket(&mut self, addr: SocketAddr, number: u64) -> Option<&mut Bound> {
        self.sockets.get_mut(&addr).filter(|bound| bound.number == number)
    }

    pub(super) fn power_on(&mut self, ip: IpAddr) {
        self.hosts.entry(ip).or_default().dark = false;
    }

    pub(super) fn power_off(&mut self, ip: IpAddr) {
        self.crash(ip);
        self.hosts.entry(ip).or_default().dark = true;
    }

    pub(super) fn crash(&mut self, ip: IpAddr) {
        let ended = || Ended::Local { reason: "the daemon was killed".into() };
        for (_, bound) in self.sockets.extract_if(SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX), |_, _| true) {
            bound.arrived.notify_waiters();
        }
        for conn in self.conns.values_mut() {
            if conn.end(Side::Dialler).addr.ip() == ip {
                conn.dial_fails(DialError::Unable("the daemon was killed".into()));
            }
            for side in [Side::Dialler, Side::Acceptor] {
                if conn.end(side).addr.ip() == ip {
                    conn.end_mut(side).end(ended());
                    conn.end_mut(side).pipe.clear();
                }
            }
        }
        self.forget_ended();
        let host = self.hosts.entry(ip).or_default();
        (host.frozen, host.held) = (false, Vec::new());
    }

    /// Closes a socket and all of its connections, and tells the peers.
    pub(super) fn close_socket(&mut self, addr: SocketAddr, number: u64, code: u32, reason: &str) {
        if self.socket(addr, number).is_none() {
            return;
        }
        if let Some(bound) = self.sockets.remove(&addr) {
            bound.arrived.notify_waiters();
        }
        let ends: Vec<(ConnId, Side)> = self
            .conns
            .iter()
            .flat_map(|(id, conn)| [Side::Dialler, Side::Acceptor].map(|side| (*id, side, conn.end(side))))
            .filter(|(_, _, end)| end.addr == addr && end.socket == number && end.is_open())
            .map(|(id, side, _)| (id, side))
            .collect();
        for (id, side) in ends {
            self.say(id, side, What::Close { code, reason: reason.into() });
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.end_mut(side).end(closed());
            }
        }
        let dials = self
            .conns
            .values_mut()
            .filter(|conn| conn.end(Side::Dialler).addr == addr && matches!(conn.phase, Phase::Dialling { .. }));
        dials.for_each(|conn| conn.dial_fails(DialError::Unable("the socket is closed".into())));
        self.forget_ended();
    }

    pub(super) fn freeze(&mut self, ip: IpAddr) {
        self.hosts.entry(ip).or_default().frozen = true;
    }

    pub(super) fn thaw(&mut self, ip: IpAddr) {
        let now = Instant::now();
        let host = self.hosts.entry(ip).or_default();
        host.frozen = false;
        for packet in std::mem::take(&mut host.held) {
            self.at(now, Happening::Arrives(packet));
        }
        // The frozen host's own clock stood still too: what has arrived is read before any timeout counts.
        for conn in self.conns.values_mut() {
            for side in [Side::Dialler, Side::Acceptor] {
                if conn.end(side).addr.ip() == ip {
                    conn.end_mut(side).heard = now;
                }
            }
        }
    }

    pub(super) fn frozen(&self, ip: IpAddr) -> bool {
        self.hosts.get(&ip).is_some_and(|host| host.frozen)
    }

    pub(super) fn dark(&self, ip: IpAddr) -> bool {
        self.hosts.get(&ip).is_none_or(|host| host.dark)
    }

    /// Keeps a packet for a frozen host until it thaws.
    pub(super) fn hold(&mut self, ip: IpAddr, packet: Packet) {
        let held = &mut self.hosts.entry(ip).or_default().held;
        if held.len() < HELD_MAX {
            held.push(packet);
        }
    }

    /// Sends a packet that may be lost.
    pub(super) fn send(&mut self, packet: Packet) {
        let (from, to) = (packet.from.ip(), packet.to.ip());
        if self.frozen(from) {
            return self.hold(from, packet);
        }
        let delay = self.faults.delays(&mut self.rng);
        if self.faults.blocks(from, to) || self.faults.loses(from, to, &mut self.rng) {
            return;
        }
        self.at(Instant::now() + delay, Happening::Arrives(packet));
    }

    /// Sends a reliable message: it arrives in order while both sides live.
    pub(super) fn say(&mut self, id: ConnId, side: Side, what: What) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (from, to) = (conn.end(side).addr.ip(), conn.end(side.other()).addr.ip());
        let mut due = Instant::now() + self.faults.delays(&mut self.rng);
        while self.faults.loses(from, to, &mut self.rng) {
            due += RESEND;
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let pipe = &mut conn.end_mut(side).pipe;
        // Messages stay in order: this one is due no earlier than the one before it.
        let due = pipe.back().map_or(due, |(last, _)| due.max(*last));
        let idle = pipe.is_empty();
        pipe.push_back((due, what));
        if idle {
            self.at(due, Happening::Pipe(id, side));
        }
    }

    /// Sends a message between the two sides that may be lost and may overtake reliable ones.
    pub(super) fn mention(&mut self, id: ConnId, side: Side, what: What) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (from, to) = (conn.end(side).addr, conn.end(side.other()).addr);
        self.send(Packet { from, to, body: Body::Said { conn: id, to: side.other(), what } });
    }

    pub(super) fn ticks(&mut self, id: ConnId, side: Side) {
        self.at(Instant::now() + KEEP_ALIVE, Happening::Tick(id, side));
    }

    pub(super) fn dials(&mut self, id: ConnId) {
        self.at(Instant::now() + DIAL_RESEND, Happening::Redial(id));
        self.send_dial(id);
    }

    fn send_dial(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Phase::Dialling { asked, .. } = &conn.phase else { return };
        let packet = Packet { from: asked.from, to: conn.end(Side::Acceptor).addr, body: Body::Dial(asked.clone()) };
        self.send(packet);
    }

    fn at(&mut self, at: Instant, happening: Happening) {
        let number = self.number();
        self.queue.insert((at, number), happening);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Handles everything that is due by `now`, in order.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > now {
                return;
            }
            match entry.remove() {
                Happening::Arrives(packet) => self.arrives(packet),
                Happening::Pipe(id, side) => self.pipe(id, side, now),
                Happening::Tick(id, side) => self.tick(id, side, now),
                Happening::Redial(id) => {
                    if self.conns.get(&id).is_some_and(|conn| matches!(conn.phase, Phase::Dialling { .. })) {
                        self.dials(id);
                    }
                }
            }
        }
    }

    fn pipe(&mut self, id: ConnId, side: Side, now: Instant) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (from, to) = (conn.end(side).addr, conn.end(side.other()).addr);
        let blocked = self.faults.blocks(from.ip(), to.ip()) || self.frozen(from.ip()) || self.frozen(to.ip());
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if blocked {
            // A side whose connection has ended sends nothing again.
            if conn.end(side).is_open() {
                self.at(now + RESEND, Happening::Pipe(id, side));
            } else {
                conn.end_mut(side).pipe.clear();
            }
            return;
        }
        while let Some((due, _)) = self.conns.get(&id).and_then(|conn| conn.end(side).pipe.front()) {
            if *due > now {
                let due = *due;
                return self.at(due, Happening::Pipe(id, side));
            }
            let said = self.conns.get_mut(&id).and_then(|conn| conn.end_mut(side).pipe.pop_front());
            let Some((_, what)) = said else { return };
            self.arrives(Packet { from, to, body: Body::Said { conn: id, to: side.other(), what } });
        }
        // The last reliable message of an ended side was delivered, so the connection can be dropped.
        self.conns.extract_if(id..=id, |_, conn| !conn.is_needed()).for_each(drop);
    }

    fn tick(&mut self, id: ConnId, side: Side, now: Instant) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let ip = conn.end(side).addr.ip();
        if !conn.end(side).is_open() {
            return;
        }
        if self.hosts.get(&ip).is_some_and(|host| host.frozen) {
            return self.at(now + KEEP_ALIVE, Happening::Tick(id, side));
        }
        if now.saturating_duration_since(conn.end(side).heard) >= IDLE {
            conn.end_mut(side).end(Ended::TimedOut);
            return self.forget_ended();
        }
        let at = (now + KEEP_ALIVE).min(conn.end(side).heard + IDLE);
        self.mention(id, side, What::KeepAlive);
        self.at(at, Happening::Tick(id, side));
    }

    /// Drops connections on which neither side holds a handle.
    pub(super) fn forget_ended(&mut self) {
        self.conns.retain(|_, conn| conn.is_needed());
    }
}

/// A new end of a connection, at the socket with this number.
pub(super) fn end(addr: SocketAddr, socket: u64, key: Option<SocketKey>) -> End {
    End::new(addr, socket, key, Instant::now())
}

/// The end of a connection whose socket was closed.
fn closed() -> Ended {
    Ended::Local { reason: "the socket was closed".into() }
}
