//! The mesh's actor: listens on the published ports.
//!
//! Parent: `worker`. Children: none; each port is listened on, and each connection carried, by a tokio task that ends with
//! the actor.
//! Hears: that the table of ports changed, and that it is time to look again.
//! Says: nothing. It serves the `port` lane.
//! Dies: with the worker; the ports are free then, and the connections end.

use super::carry::Carrier;
use super::failures::Failures;
use super::flow::{self, Flow, Waiting};
use super::flows::FlowKey;
use super::serve::PortServer;
use super::sockets::{Arrival, Datagrams, Listener};
use super::{Ends, Mesh, stalls};
use essaim_model::{PortKey, PortProtocol};
use essaim_system::{RecordKind, Scope, Timer};
use essaim_transport::Lane;
use essaim_wire::planted::{Bug, planted};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// Interval at which the machine's addresses are looked up again, ports that could not be opened are tried again, and
/// services without connections are given up.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Pause after a connection could not be accepted, which as a rule means that no file descriptor is left, or a datagram
/// could not be received.
const AGAIN: Duration = Duration::from_millis(100);

/// Messages to the mesh's actor.
#[derive(RactorMessage)]
pub(crate) enum MeshMsg {
    /// The table of ports, or what tasks publish in host mode, may have changed.
    Changed,
    /// It is time to look again.
    Look,
    /// The programs that hold these ports, as far as the machine tells.
    Holders(Vec<(PortProtocol, SocketAddr)>, Vec<Option<String>>),
}

/// Start arguments of the actor, beside its scope.
#[derive(Clone)]
pub(crate) struct MeshArgs {
    pub(crate) mesh: Mesh,
}

/// The mesh's actor.
pub(crate) struct MeshActor;

pub(crate) struct State {
    scope: Scope,
    mesh: Mesh,
    listening: BTreeMap<(PortKey, IpAddr), AbortHandle>,
    /// Ports that could not be opened, and why.
    failures: Failures,
    timer: Timer,
    /// Tokio tasks beside the actor; dropped, and so ended, with it.
    beside: JoinSet<()>,
    /// Ends the connections when it is dropped with the actor.
    ends: watch::Sender<()>,
    /// Accepts that had failed at the last look.
    refused: u64,
}

impl Actor for MeshActor {
    type Msg = MeshMsg;
    type State = State;
    type Arguments = (Scope, MeshArgs);

    async fn pre_start(
        &self,
        myself: ActorRef<MeshMsg>,
        (scope, MeshArgs { mesh }): (Scope, MeshArgs),
    ) -> Result<State, ActorProcessingErr> {
        if let Some(endpoint) = &mesh.shared.endpoint {
            endpoint.serve(Lane::Port, Arc::new(PortServer(mesh.clone())));
        }
        let mut beside = JoinSet::new();
        let mut changes = mesh.shared.changed.subscribe();
        let me = myself.clone();
        beside.spawn(async move { while changes.changed().await.is_ok() && me.cast(MeshMsg::Changed).is_ok() {} });
        let (mut changes, me) = (mesh.doors().changes(), myself.clone());
        beside.spawn(async move { while changes.changed().await.is_ok() && me.cast(MeshMsg::Changed).is_ok() {} });
        let mut state = State {
            scope,
            mesh,
            listening: BTreeMap::new(),
            failures: Failures::default(),
            timer: Timer::default(),
            beside,
            ends: watch::Sender::new(()),
            refused: 0,
        };
        state.look(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<MeshMsg>,
        message: MeshMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while state.beside.try_join_next().is_some() {}
        match message {
            MeshMsg::Changed => state.look(&myself),
            MeshMsg::Look => {
                state.mesh.expire(&*state.scope.env.clock);
                let ended = state.mesh.shared.stalls.expire();
                if ended > 0 {
                    state.scope.record(RecordKind::Node, stalls::words(ended));
                }
                state.look_for_refusals();
                state.look(&myself);
            }
            MeshMsg::Holders(held, holders) => {
                state.failures.on_holders(&held, holders);
                state.tell_failures();
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<MeshMsg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        if let Some(endpoint) = &state.mesh.shared.endpoint {
            endpoint.unserve(Lane::Port);
        }
        state.beside.shutdown().await;
        Ok(())
    }
}

impl State {
    /// Listens on a port at an address.
    fn publish(&mut self, key: PortKey, address: IpAddr) -> io::Result<AbortHandle> {
        let carrier = Arc::new(Carrier { mesh: self.mesh.clone(), scope: self.scope.clone() });
        let (sockets, at) = (&self.mesh.shared.sockets, SocketAddr::new(address, key.number));
        Ok(match key.protocol {
            PortProtocol::Tcp => {
                let runtime = sockets.runtime();
                let listener = {
                    let _entered = runtime.enter();
                    sockets.listen(at)?
                };
                self.beside.spawn_on(accept(carrier, key, address, listener, self.ends.subscribe()), &runtime)
            }
            PortProtocol::Udp => {
                let socket = sockets.bind(at)?;
                self.beside.spawn(receive(carrier, key, address, socket))
            }
            PortProtocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Tells the journal when connections are accepted again, none having been refused since the last look.
    fn look_for_refusals(&mut self) {
        let refusals = &self.mesh.shared.refusals;
        let refused = refusals.count.load(Ordering::Relaxed);
        if refused == self.refused && refusals.are_told.swap(false, Ordering::Relaxed) {
            self.scope.record(RecordKind::Node, "connections to published ports are accepted again");
        }
        self.refused = refused;
    }

    /// Listens on every published port at every address of this machine, and on nothing else.
    fn look(&mut self, myself: &ActorRef<MeshMsg>) {
        let mut ports: Vec<_> = self.mesh.shared.core.lock().ports().collect();
        ports.extend(self.mesh.doors().of_host());
        if ports.is_empty() && self.listening.is_empty() {
            self.failures.retain(|_| false);
            self.tell_failures();
            return;
        }
        let wanted: BTreeSet<_> = [PortProtocol::Tcp, PortProtocol::Udp]
            .into_iter()
            .flat_map(|protocol| {
                let addresses = self.mesh.addresses(protocol);
                let ports = ports.iter().filter(move |key| key.protocol == protocol);
                ports.flat_map(move |key| addresses.clone().into_iter().map(move |address| (*key, address)))
            })
            .collect();
        self.listening.retain(|at, listens| {
            let stays = wanted.contains(at);
            if !stays {
                listens.abort();
            }
            stays
        });
        self.failures.retain(|at| wanted.contains(at));
        for (key, address) in wanted {
            if self.listening.contains_key(&(key, address)) {
                continue;
            }
            match self.publish(key, address) {
                Ok(listens) => {
                    if self.failures.listens(&(key, address)) {
                        self.scope.record(RecordKind::Node, format!("port {key} is published on {address} now"));
                    }
                    self.listening.insert((key, address), listens);
                }
                Err(why) => self.failures.failed((key, address), &why),
            }
        }
        self.look_for_holders(myself);
        self.timer.arm(myself, LOOK_EVERY, || MeshMsg::Look);
    }
}

impl State {
    /// Has the machine asked which programs hold ports, beside the actor: it looks into every process. The journal and the
    /// managers are told with the answer.
    fn look_for_holders(&mut self, myself: &ActorRef<MeshMsg>) {
        let held = self.failures.held();
        if held.is_empty() {
            return self.tell_failures();
        }
        let (looking, myself) = (self.mesh.shared.sockets.holders(held.clone()), myself.clone());
        self.beside.spawn(async move { drop(myself.cast(MeshMsg::Holders(held, looking.await))) });
    }

    /// Tells the journal and the machine's description which ports cannot be listened on.
    fn tell_failures(&mut self) {
        for record in self.failures.untold() {
            self.scope.record(RecordKind::Node, record);
        }
        let unpublished = self.failures.unpublished();
        self.mesh.shared.unpublished.send_if_modified(|before| {
            let is_new = *before != unpublished;
            *before = unpublished;
            is_new
        });
    }
}

/// Accepts the connections of one port at one address.
async fn accept(
    carrier: Arc<Carrier>,
    key: PortKey,
    address: IpAddr,
    mut listener: Box<dyn Listener>,
    ends: watch::Receiver<()>,
) {
    let server = SocketAddr::new(address, key.number);
    loop {
        match listener.accept().await {
            Ok((arrival, from)) => {
                let between = Ends { client: from, server };
                let runtime = carrier.mesh.shared.sockets.runtime();
                drop(runtime.spawn(carry(Arc::clone(&carrier), key, arrival, between, ends.clone())));
            }
            Err(why) => {
                let refusals = &carrier.mesh.shared.refusals;
                refusals.count.fetch_add(1, Ordering::Relaxed);
                // All ports fail together when no descriptor is left, and again and again.
                if !refusals.are_told.swap(true, Ordering::Relaxed) {
                    let words = format!("connections to published ports, such as {key}, cannot be accepted: {why}");
                    carrier.scope.record(RecordKind::Node, words);
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Carries one connection until it ends, or the mesh does. A port that is published no longer ends no connection.
async fn carry(carrier: Arc<Carrier>, key: PortKey, arrival: Arrival, between: Ends, mut ends: watch::Receiver<()>) {
    // It fails when the machine has no room for the connection, which is closed then.
    let Ok(client) = arrival() else { return };
    tokio::select! {
        () = carrier.carry(key, client, between) => (),
        // The sender is only ever dropped.
        _ = ends.changed() => (),
    }
}

/// Gives each datagram that comes to one port at one address to its flow. The flows end with it.
async fn receive(carrier: Arc<Carrier>, port: PortKey, address: IpAddr, socket: Arc<dyn Datagrams>) {
    let _closes = ClosesFlows { mesh: carrier.mesh.clone(), port, address };
    let shared = Arc::clone(&carrier.mesh.shared);
    loop {
        let got = flow::receive(&*socket).await;
        let Ok((bytes, client)) = got else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let client = if planted(Bug::AnswersToOnePort) { SocketAddr::new(client.ip(), port.number) } else { client };
        let share = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Ok(share) = Arc::clone(&shared.waiting).try_acquire_many_owned(share) else { continue };
        let (waiting, key) = (Waiting { bytes, _share: share }, FlowKey { port, address, client });
        let now = carrier.scope.now();
        let mut flows = shared.flows.lock();
        let waiting = match flows.used(now, key) {
            None => waiting,
            Some(way) => match way.try_send(waiting) {
                Err(TrySendError::Closed(waiting)) => waiting,
                // A datagram that the flow has no room for is dropped.
                Ok(()) | Err(TrySendError::Full(_)) => continue,
            },
        };
        let (way, arrivals) = mpsc::channel(flow::WAITING_MAX);
        if way.try_send(waiting).is_ok() {
            let number = flows.begin(now, key, way);
            drop(flows);
            let socket = Arc::downgrade(&socket);
            tokio::spawn(Flow { carrier: Arc::clone(&carrier), key, number, socket, arrivals }.run());
        }
    }
}

/// Ends the flows of a port at an address when it is dropped.
struct ClosesFlows {
    mesh: Mesh,
    port: PortKey,
    address: IpAddr,
}

impl Drop for ClosesFlows {
    fn drop(&mut self) {
        self.mesh.shared.flows.lock().close(self.port, self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::cluster::scope;
    use crate::mesh::sockets::Sockets;
    use essaim_model::{IngressPort, ServiceId};
    use essaim_protocol::PortTable;
    use essaim_wire::NodeId;
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    /// A machine without a free descriptor, until that is over; it counts how often it was asked for a connection.
    #[derive(Clone, Default)]
    struct NoDescriptors {
        asked: Arc<AtomicU64>,
        is_over: Arc<AtomicBool>,
    }

    impl Sockets for NoDescriptors {
        fn addresses(&self, _: IpAddr, _: PortProtocol) -> Vec<IpAddr> {
            vec![Ipv4Addr::LOCALHOST.into()]
        }

        fn listen(&self, _: SocketAddr) -> io::Result<Box<dyn Listener>> {
            Ok(Box::new(self.clone()))
        }
    }

    impl Listener for NoDescriptors {
        fn accept(&mut self) -> BoxFuture<'_, io::Result<(Arrival, SocketAddr)>> {
            if self.is_over.load(Ordering::Relaxed) {
                return std::future::pending().boxed();
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            // EMFILE of Linux.
            std::future::ready(Err(io::Error::from_raw_os_error(24))).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_descriptor_accepting_backs_off_and_the_journal_is_told_once() {
        let sockets = NoDescriptors::default();
        let mesh = Mesh::new(NodeId::from_bits(1), None, None, Arc::new(sockets.clone()));
        let port = |number| {
            let service = ServiceId::from_bits(1);
            let key = PortKey { protocol: PortProtocol::Tcp, number };
            (key, IngressPort { service, target: 80, is_local_first: false })
        };
        mesh.on_ports(PortTable { ports: vec![port(80), port(81)], more: false });
        let scope = scope();
        let (actor, _) =
            Actor::spawn(None, MeshActor, (scope.clone(), MeshArgs { mesh: mesh.clone() })).await.expect("it starts");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let asked = sockets.asked.load(Ordering::Relaxed);
        assert!((1000..1300).contains(&asked), "{asked} times in a minute, by two ports");
        let told = |words: &str| {
            let page = scope.journal.read(0, 1000).expect("nothing is forgotten");
            page.records.iter().filter(|record| record.reason.contains(words)).count()
        };
        assert_eq!((told("cannot be accepted: Too many open files"), told("are accepted again")), (1, 0));
        sockets.is_over.store(true, Ordering::Relaxed);
        tokio::time::sleep(3 * LOOK_EVERY).await;
        assert_eq!((told("cannot be accepted: Too many open files"), told("are accepted again")), (1, 1));
        actor.stop(None);
    }
}
