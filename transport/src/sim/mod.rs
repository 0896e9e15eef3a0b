//! The simulated network: memory, virtual time and a seed in place of UDP, QUIC and luck.
//!
//! It is cut at sessions, not at packets: certificates are verified as TLS would, streams are reliable and ordered
//! with bounded windows, datagrams are neither, a silent connection ends by the idle timeout, a restarted daemon
//! answers with a reset, a dead daemon's host says that nothing listens. What QUIC does below (encryption,
//! congestion, packet sizes) is left out.
//!
//! Everything happens in one queue ordered by virtual time and number, and every draw comes from one seeded
//! generator, so the same seed and the same callers give the same run. [`SimNetwork::fingerprint`] sums a run up.
//!
//! Faults are values: set them through [`SimNetwork`] by host, that is, by IP address. A frozen host (SIGSTOP) and a
//! crashed daemon differ from a cut as they do in the world: the frozen one hears everything late, the crashed one's
//! host still refuses the sentinel.
//!
//! - `state`, `arrive`: the queue, and what happens when something arrives.
//! - `end`: the two ends of a connection.
//! - `fault`: what stands between two hosts.
//! - `socket`: sockets, dialling and accepting.
//! - `connection`, `stream`: an end behind the traits.

mod arrive;
mod connection;
mod end;
mod fault;
mod socket;
mod state;
mod stream;

use crate::network::{Binding, Network, Socket};
use end::{Conn, Side};
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

/// All the hosts and what is between them. Cheap to clone; all clones are the same network.
#[derive(Clone)]
pub struct SimNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something was put into the queue.
    queued: Arc<Notify>,
}

/// One host of the network, as its node sees it.
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

    /// How long packets take, everywhere.
    pub fn set_delay(&self, delay: Range<Duration>) {
        self.state().faults.delay = delay;
    }

    /// How long packets from one host to another take, instead.
    pub fn set_delay_between(&self, from: IpAddr, to: IpAddr, delay: Range<Duration>) {
        self.state().faults.link(from, to).delay = Some(delay);
    }

    /// How many of a thousand packets are lost, everywhere. Streams lose time by it, datagrams themselves.
    pub fn set_loss(&self, per_mille: u32) {
        self.state().faults.loss = per_mille;
    }

    /// How many of a thousand packets from one host to another are lost, instead.
    pub fn set_loss_between(&self, from: IpAddr, to: IpAddr, per_mille: u32) {
        self.state().faults.link(from, to).loss = Some(per_mille);
    }

    /// Nothing passes between the two, silently.
    pub fn cut(&self, a: IpAddr, b: IpAddr) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nothing passes from the one to the other; the way back is open.
    pub fn cut_one_way(&self, from: IpAddr, to: IpAddr) {
        self.state().faults.link(from, to).cut = true;
    }

    /// Nothing passes between a host and all others.
    pub fn isolate(&self, ip: IpAddr) {
        self.state().faults.isolated.insert(ip);
    }

    /// Takes back every fault between the two.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.state().faults.heal(a, b);
    }

    /// Takes back the isolation of a host, and every fault of its links.
    pub fn heal_host(&self, ip: IpAddr) {
        self.state().faults.heal_host(ip);
    }

    /// Takes back every fault between hosts, and the general loss. Frozen and crashed hosts stay as they are.
    pub fn heal_all(&self) {
        self.state().faults.heal_all();
    }

    /// The daemon on the host dies without a word (SIGKILL): its sockets and connections vanish, the host lives.
    /// Whatever still runs of the daemon finds everything closed.
    pub fn crash(&self, ip: IpAddr) {
        self.state().crash(ip);
        self.shared.queued.notify_one();
    }

    /// The host itself goes dark, with the daemon on it.
    pub fn power_off(&self, ip: IpAddr) {
        self.state().power_off(ip);
        self.shared.queued.notify_one();
    }

    /// The host is there again; nothing runs on it yet. A bind does the same.
    pub fn power_on(&self, ip: IpAddr) {
        self.state().power_on(ip);
    }

    /// The daemon on the host stands still (SIGSTOP): it hears nothing, and what it says waits.
    pub fn freeze(&self, ip: IpAddr) {
        self.state().freeze(ip);
    }

    /// The daemon goes on (SIGCONT), and everything that waited arrives.
    pub fn thaw(&self, ip: IpAddr) {
        self.state().thaw(ip);
        self.shared.queued.notify_one();
    }

    /// A sum of everything that has arrived so far, when, and where: two runs with the same sum were the same.
    pub fn fingerprint(&self) -> u64 {
        self.state().fingerprint.value()
    }

    /// How many packets have arrived so far.
    pub fn arrived(&self) -> u64 {
        self.state().arrived
    }

    /// How many bytes they carried, without what QUIC, UDP and IP would add.
    pub fn carried(&self) -> u64 {
        self.state().carried
    }

    /// How many handshakes have succeeded so far.
    pub fn handshakes(&self) -> u64 {
        self.state().met
    }

    /// How many sessions stand, each counted once.
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

/// Lets everything happen at its time, until nobody holds the network any more.
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
