//! The simulated network: memory, virtual time and a seed in place of UDP, QUIC and chance.
//!
//! The simulation replaces sessions, not packets: certificates are verified as TLS would, streams are reliable and
//! ordered with bounded windows, datagrams are neither, a silent connection ends by the idle timeout, a restarted
//! daemon answers with a reset, and the host of a dead daemon reports that nothing listens. What QUIC does below that
//! (encryption, congestion control, packet sizes) is left out.
//!
//! Everything happens in one queue ordered by virtual time and number, and every draw comes from one seeded generator,
//! so the same seed and the same callers give the same run. [`SimNetwork::fingerprint`] is a checksum of a run.
//!
//! Faults are values, set through [`SimNetwork`] by host, that is, by IP address. A frozen host (SIGSTOP) and a crashed
//! daemon differ from a cut as they do in the real world: the frozen host receives everything late, and the host of a
//! crashed daemon refuses the sentinel.
//!
//! - `state`, `arrive`: the queue, and what happens when a packet arrives.
//! - `packet`: what travels, and what the sides of a connection say in it.
//! - `end`: the two ends of a connection. `handle`: a counted handle on one of them.
//! - `fault`: what stands between two hosts.
//! - `socket`: sockets, dialling and accepting.
//! - `connection`, `stream`: the `Connection` and `Stream` traits on an end.

mod arrive;
mod connection;
mod end;
mod fault;
mod handle;
mod packet;
mod socket;
mod state;
mod stream;

use crate::network::{Binding, Network, Socket};
use end::Conn;
use packet::Side;
use parking_lot::{Mutex, MutexGuard};
use socket::SimSocket;
use state::State;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The simulated network: all hosts and the paths between them. Clones are the same network.
#[derive(Clone)]
pub struct SimNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Notified when a packet was put into the queue.
    queued: Arc<Notify>,
}

/// The network as one of its hosts sees it.
struct Host {
    network: SimNetwork,
    ip: IpAddr,
}

impl SimNetwork {
    /// A network without faults, whose packets take between 0.2 and 2 ms.
    pub fn new(seed: u64) -> Self {
        let shared = Shared { state: Mutex::new(State::new(seed)), queued: Arc::new(Notify::new()) };
        Self { shared: Arc::new(shared) }
    }

    /// The network as the host with this address sees it. Binding an unspecified address binds this one.
    pub fn host(&self, ip: IpAddr) -> Arc<dyn Network> {
        self.state().power_on(ip);
        Arc::new(Host { network: self.clone(), ip })
    }

    /// Sets the range from which the delay of every packet is drawn.
    pub fn set_delay(&self, delay: Range<Duration>) {
        self.state().faults.delay = delay;
    }

    /// Sets how many of a thousand packets are lost. A loss delays a stream and drops a datagram.
    pub fn set_loss(&self, per_mille: u32) {
        self.state().faults.loss = per_mille;
    }

    /// Cuts the path between two hosts in both directions. Packets vanish without an error.
    pub fn cut(&self, a: IpAddr, b: IpAddr) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts the path from one host to another; the way back stays open.
    pub fn cut_one_way(&self, from: IpAddr, to: IpAddr) {
        self.state().faults.cut(from, to);
    }

    /// Cuts the paths between a host and all others.
    pub fn isolate(&self, ip: IpAddr) {
        self.state().faults.isolated.insert(ip);
    }

    /// Removes every fault between two hosts.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.state().faults.heal(a, b);
    }

    /// Removes the isolation of a host and every fault of its paths.
    pub fn heal_host(&self, ip: IpAddr) {
        self.state().faults.heal_host(ip);
    }

    /// Removes every fault between hosts and the general loss. Frozen and crashed hosts stay as they are.
    pub fn heal_all(&self) {
        self.state().faults.heal_all();
    }

    /// Kills the daemon on the host (SIGKILL): its sockets and connections vanish without a message, and the host lives
    /// on. Tasks of the daemon that still run find everything closed.
    pub fn crash(&self, ip: IpAddr) {
        self.state().crash(ip);
        self.shared.queued.notify_one();
    }

    /// Powers the host off, together with the daemon on it.
    pub fn power_off(&self, ip: IpAddr) {
        self.state().power_off(ip);
        self.shared.queued.notify_one();
    }

    /// Freezes the daemon on the host (SIGSTOP): it receives nothing, and what it sends waits.
    pub fn freeze(&self, ip: IpAddr) {
        self.state().freeze(ip);
    }

    /// Thaws the daemon on the host (SIGCONT), and everything that waited arrives.
    pub fn thaw(&self, ip: IpAddr) {
        self.state().thaw(ip);
        self.shared.queued.notify_one();
    }

    /// Checksum of everything that has arrived so far, with time and place: two runs with the same sum were the same.
    pub fn fingerprint(&self) -> u64 {
        self.state().fingerprint.value()
    }

    /// Number of packets that have arrived so far.
    pub fn arrived(&self) -> u64 {
        self.state().arrived
    }

    /// Bytes that these packets carried, without what QUIC, UDP and IP would add.
    pub fn carried(&self) -> u64 {
        self.state().carried
    }

    /// Number of handshakes that have succeeded so far.
    pub fn handshakes(&self) -> u64 {
        self.state().met
    }

    /// Number of open sessions, each counted once.
    pub fn sessions(&self) -> usize {
        let stands = |conn: &&Conn| conn.end(Side::Dialler).is_open() && conn.end(Side::Acceptor).is_open();
        self.state().conns.values().filter(stands).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Network for Host {
    fn bind(&self, listen: SocketAddr, binding: Binding) -> io::Result<Arc<dyn Socket>> {
        let ip = if listen.ip().is_unspecified() { self.ip } else { listen.ip() };
        let shared = self.network.shared.clone();
        let bound = {
            let mut state = shared.state();
            if !state.running {
                state.running = true;
                tokio::spawn(run(Arc::downgrade(&shared), shared.queued.clone()));
            }
            state.bind(SocketAddr::new(ip, listen.port()), binding)?
        };
        Ok(Arc::new(SimSocket::new(shared, bound)))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Runs the queue: each event is handled at its time, until the last handle on the network is dropped.
async fn run(shared: Weak<Shared>, queued: Arc<Notify>) {
    loop {
        let next = {
            let Some(shared) = shared.upgrade() else { return };
            let mut state = shared.state();
            state.advance(Instant::now());
            state.next()
        };
        match next {
            Some(at) => tokio::select! {
                biased;
                () = queued.notified() => (),
                () = sleep_until(at) => (),
            },
            None => queued.notified().await,
        }
    }
}
