//! The mesh: this node's published ports. It accepts connections on every port that the cluster publishes, whichever
//! nodes run the tasks, and carries each to a task.
//!
//! *In*: the actor listens on the ports of the table that managers tell every node. Each accepted connection is given to
//! the backend with the fewest connections through this node. A service's backends are asked for at its first connection,
//! and given up ten idle minutes later. Nodes that membership misses come last, whether or not managers have given them up;
//! a backend that could not be reached is passed over for a second, and the connection tries the next one.
//!
//! *Out*: the node of a task is the only way to it. Connections of this node's own clients and those that come over the
//! `port` lane pass the same *door*, which knows what the task publishes. A task that is to end has its door closed first:
//! from that moment no connection reaches it, whatever other nodes believe, and who is turned away tries another backend.
//! The connections that are inside get [`DRAIN_MAX`] to end, and then the task is told to stop. So nothing has to be
//! announced and acknowledged all over the cluster before a task may end, and a node that hears late loses nothing.
//!
//! *UDP* has flows in place of connections: the datagrams of one client at one port. A flow is given to a backend like a
//! connection, and to another one when that one is about to end or cannot be reached.
//!
//! - `core`: the table, the backends and the choice among them. Pure.
//! - `doors`: the doors of this node's tasks. `sockets`: how ports are listened on, in the world and in a simulation.
//! - `carry`: one accepted connection, from its backend's choice to its end. `proxy`: the header that tells a task the
//!   address of its client. `pump`: the bytes; `splice`: bytes that the kernel moves.
//! - `flows`: the table of UDP flows. Pure. `flow`: one of them, from its first datagram until it is forgotten.
//! - `serve`: connections and flows that other nodes accepted for tasks of this node.
//! - `stalls`: connections from other nodes whose end here takes nothing, and when they make room.
//! - `failures`: the ports that cannot be listened on, in words. Pure.
//! - `actor`: the listeners.
//!
//! If the actor dies, its connections end with it, and the next one listens again.

mod actor;
mod carry;
mod core;
mod doors;
mod failures;
mod flow;
mod flows;
mod proxy;
mod pump;
mod serve;
pub(crate) mod sockets;
mod splice;
mod stalls;

pub(crate) use actor::{MeshActor, MeshArgs};
pub(crate) use doors::Published;

use core::{Core, Pick};
use doors::Doors;
use essaim_model::{IngressPort, PortKey, PortProtocol, ServiceId, TaskId, UnpublishedPort};
use essaim_presence::endpoint::Endpoint;
use essaim_presence::roster::RosterHandle;
use essaim_protocol::{Backends, PortTable, Subscribe};
use essaim_system::env::Clock;
use essaim_wire::NodeId;
use essaim_wire::planted::{Bug, planted};
use flow::Waiting;
use flows::Flows;
use parking_lot::Mutex;
use sockets::Sockets;
use stalls::Stalls;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};

/// Time for which a task that is to end waits for the connections that are inside. It is Swarm's delay between the removal
/// of a task from balancing and its signal; here a task without connections is signalled at once.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Connections and UDP flows that this node carries at a time, those of its own clients and those that come from other nodes
/// together. Each takes two file descriptors and a few KiB at most.
const CONNECTIONS_MAX: usize = 32_768;

/// Numbers from which a node chooses for ports in host mode for which the operator named none: those from which Linux, and
/// so Docker Engine, chooses.
const HOST_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// Numbers that are tried for one port. A machine on which so many in a row are taken has other troubles.
const HOST_PORT_TRIES: u16 = 200;

/// Handle on the mesh; clones share it. The uplink writes the table and the backends, connections choose among them.
#[derive(Clone)]
pub(crate) struct Mesh {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    core: Mutex<Core>,
    /// Counter that rises with every change of the table or of backends.
    changed: watch::Sender<u64>,
    /// What this node asks its manager for.
    wanted: watch::Sender<Subscribe>,
    /// Published ports that this node cannot listen on.
    unpublished: watch::Sender<Vec<UnpublishedPort>>,
    doors: Doors,
    endpoint: Option<Endpoint>,
    roster: Option<RosterHandle>,
    sockets: Arc<dyn Sockets>,
    places: Arc<Semaphore>,
    flows: Mutex<Flows<mpsc::Sender<Waiting>>>,
    refusals: Refusals,
    stalls: Stalls,
    /// Bytes that datagrams which wait for their flows may take.
    waiting: Arc<Semaphore>,
}

/// Connections that the kernel did not hand over, as a rule because no file descriptor is left. They wait in its queue.
#[derive(Default)]
struct Refusals {
    count: AtomicU64,
    /// Whether the journal was told, and not yet that it is over.
    are_told: AtomicBool,
}

impl Mesh {
    pub(crate) fn new(
        node: NodeId,
        endpoint: Option<Endpoint>,
        roster: Option<RosterHandle>,
        sockets: Arc<dyn Sockets>,
    ) -> Self {
        let shared = Shared {
            node,
            core: Mutex::new(Core::default()),
            changed: watch::Sender::new(0),
            wanted: watch::Sender::new(Subscribe { ports: 0, services: Vec::new() }),
            unpublished: watch::Sender::new(Vec::new()),
            doors: Doors::default(),
            endpoint,
            roster,
            sockets,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            flows: Mutex::default(),
            refusals: Refusals::default(),
            stalls: Stalls::default(),
            waiting: Arc::new(Semaphore::new(flow::WAITING_BYTES_MAX)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The doors of this node's tasks.
    pub(crate) fn doors(&self) -> &Doors {
        &self.shared.doors
    }

    /// Chooses a port of this node for a task in host mode, and keeps it for the task until the door of the task is removed.
    /// Must be called inside the runtime.
    pub(crate) fn choose_host_port(&self, task: TaskId, protocol: PortProtocol) -> Option<u16> {
        let addresses = self.addresses(protocol);
        let sockets = &self.shared.sockets;
        let is_free = |number: &u16| {
            addresses.iter().map(|address| SocketAddr::new(*address, *number)).all(|at| match protocol {
                PortProtocol::Tcp => sockets.listen(at).is_ok(),
                PortProtocol::Udp => sockets.bind(at).is_ok(),
                PortProtocol::Sctp => false,
            })
        };
        // Tasks begin at numbers of their own, so that one that ended leaves its number alone for a while.
        let count = HOST_PORTS.end() - HOST_PORTS.start();
        let first = u16::try_from(task.bits() % u128::from(count)).unwrap_or(0);
        let mut numbers = (0..HOST_PORT_TRIES).map(|step| HOST_PORTS.start() + (first + step) % count);
        let published = self.shared.core.lock().ports().collect::<Vec<_>>();
        numbers.find(|number| {
            let key = PortKey { protocol, number: *number };
            !published.contains(&key) && is_free(number) && self.shared.doors.keep(task, key)
        })
    }

    /// The addresses on which ports are published.
    fn addresses(&self, protocol: PortProtocol) -> Vec<IpAddr> {
        let home = self.shared.endpoint.as_ref().map(|endpoint| endpoint.transport().local_addr().ip());
        self.shared.sockets.addresses(home.unwrap_or(Ipv4Addr::LOCALHOST.into()), protocol)
    }

    /// Takes over the table of published ports, or a part of it.
    pub(crate) fn on_ports(&self, table: PortTable) {
        let mut core = self.shared.core.lock();
        if core.on_ports(table) {
            let ports = core.checksum();
            drop(core);
            // Not told to the manager, which knows it; the next link begins with it.
            self.shared.wanted.send_if_modified(|wanted| {
                wanted.ports = ports;
                false
            });
            self.touch();
        }
    }

    /// Takes over backends of a service, or how they changed.
    pub(crate) fn on_backends(&self, backends: Backends) {
        self.shared.core.lock().on_backends(backends);
        self.touch();
    }

    /// Watches what this node asks its manager for.
    pub(crate) fn wanted(&self) -> watch::Receiver<Subscribe> {
        self.shared.wanted.subscribe()
    }

    /// Watches which published ports this node cannot listen on; the machine's description has them.
    pub(crate) fn unpublished(&self) -> watch::Receiver<Vec<UnpublishedPort>> {
        self.shared.unpublished.subscribe()
    }

    /// Chooses a backend of the service that publishes a port, and subscribes to the service if that is new. `None` when no
    /// service publishes the port.
    fn pick(&self, clock: &dyn Clock, port: PortKey, tried: &[TaskId]) -> Option<(IngressPort, Pick)> {
        let is_missed = self.misses();
        let mut core = self.shared.core.lock();
        let port = core.port(port)?;
        let prefers = port.is_local_first.then_some(self.shared.node).filter(|_| !planted(Bug::LocalTaskPassedOver));
        let (pick, subscribes) = core.pick(clock.now(), port.service, tried, prefers, is_missed);
        let services = subscribes.then(|| core.subscriptions());
        drop(core);
        self.subscribe(services);
        Some((port, pick))
    }

    /// Whether a flow of datagrams is to leave its backend for another one.
    fn is_better_elsewhere(&self, clock: &dyn Clock, service: ServiceId, task: TaskId) -> bool {
        let is_missed = self.misses();
        self.shared.core.lock().is_better_elsewhere(clock.now(), service, task, is_missed)
    }

    /// Whether membership misses a node, as of now.
    fn misses(&self) -> impl Fn(NodeId) -> bool + use<> {
        let roster = self.shared.roster.as_ref().map(RosterHandle::current);
        let node = self.shared.node;
        // A node that the roster does not know yet may have joined a moment ago.
        move |it| {
            it != node && roster.as_ref().is_some_and(|roster| roster.state(it).is_some() && !roster.is_present(it))
        }
    }

    /// Gives up UDP flows that have had no datagram for long, and the backends of services that have had no connection for long.
    fn expire(&self, clock: &dyn Clock) {
        self.shared.flows.lock().expire(clock.now());
        let services = self.shared.core.lock().expire(clock.now());
        self.subscribe(services);
    }

    fn subscribe(&self, services: Option<Vec<ServiceId>>) {
        if let Some(services) = services {
            self.shared.wanted.send_modify(|wanted| wanted.services = services);
        }
    }

    fn touch(&self) {
        self.shared.changed.send_modify(|changes| *changes += 1);
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mesh({:?})", self.shared.core.lock())
    }
}

/// Both ends of a client's connection, or flow of datagrams, to a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    client: SocketAddr,
    server: SocketAddr,
}
