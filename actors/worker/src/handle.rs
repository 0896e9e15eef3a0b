//! Handle on the worker for the rest of the node.

use crate::actor::{Worker, WorkerArgs, WorkerMsg};
use crate::engine::Engine;
use crate::exec::ExecServer;
use crate::link_state::{LinkState, PayloadsHeld};
use crate::logs::{LogServer, LogsArgs};
use crate::machine::{EngineDescriptions, Machine};
use crate::mesh::sockets::Sockets;
use crate::mesh::{Mesh, MeshArgs};
use crate::observations::Observations;
use crate::task::Here;
use crate::uplink::{Dial, UplinkArgs, UplinkMsg};
use essaim_model::{Availability, GenericStock, Labels, Observed, TaskId, UnpublishedPort};
use essaim_presence::endpoint::Endpoint;
use essaim_presence::roster::RosterHandle;
use essaim_protocol::{AssignmentVersion, LogFrame, LogRequest, RoleStatement};
use essaim_system::{Address, ChildSpec, Disk, Scope};
use essaim_wire::{Accusation, Generation, NodeId};
use futures::stream::BoxStream;
use ractor::RpcReplyPort;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Time that stopping all tasks may take when the node leaves or halts. A task with a longer grace is left to its
/// engine, which ends the task when the grace is over.
const CLEAR_PATIENCE: Duration = Duration::from_secs(60);

/// Time for which a leaving node waits until a manager has committed its departure: enough for an election and a new
/// link.
const DEPART_DEADLINE: Duration = Duration::from_secs(4);

/// Delay before a leaving node tells a manager again.
const DEPART_AGAIN: Duration = Duration::from_millis(200);

/// Time that the worker may take to stop: its task actors, the uplink and the log server, one after the other.
const SHUTDOWN: Duration = Duration::from_secs(15);

/// Settings of a worker.
#[derive(Clone)]
pub struct WorkerSettings {
    /// Endpoint of the node, which carries links and log lanes.
    pub endpoint: Endpoint,
    /// Roster of the node: connections to published ports avoid nodes that it misses.
    pub roster: RosterHandle,
    /// Sockets on which published ports are listened on.
    pub sockets: Arc<dyn Sockets>,
    /// Engines, at most one of each kind. An order names the engine of its task.
    pub engines: Vec<Arc<dyn Engine>>,
    /// Host name of this machine.
    pub hostname: String,
    /// Labels of this machine, beside those of its engines; constraints match them as `engine.labels.…`.
    pub labels: Labels,
    /// Generic resources of this machine, beside those that its engines state.
    pub generic: GenericStock,
    /// Disk of the worker's folder.
    pub disk: Arc<dyn Disk>,
}

/// Handle on this machine's worker. Clones share it.
#[derive(Clone)]
pub struct WorkerHandle {
    parts: WorkerParts,
    worker: Address<WorkerMsg>,
    uplink: Address<UplinkMsg>,
    observations: Observations,
    link_state: LinkState,
    logs: LogServer,
    mesh: Mesh,
}

/// Parts of a worker, each of which a test can replace.
#[derive(Clone)]
pub(crate) struct WorkerParts {
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) hostname: String,
    pub(crate) labels: Labels,
    pub(crate) generic: GenericStock,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) roster: Option<RosterHandle>,
    pub(crate) sockets: Arc<dyn Sockets>,
    pub(crate) managers: Vec<(NodeId, SocketAddr)>,
}

impl WorkerHandle {
    /// A worker that does not run yet: its [`spec`](Self::spec) starts it.
    pub fn new(settings: WorkerSettings) -> Self {
        let WorkerSettings { endpoint, roster, sockets, engines, hostname, labels, generic, disk } = settings;
        Self::assemble(WorkerParts {
            node: endpoint.node(),
            generation: endpoint.generation(),
            hostname,
            labels,
            generic,
            engines,
            disk,
            managers: endpoint.managers(),
            dial: Arc::new(endpoint.clone()),
            endpoint: Some(endpoint),
            roster: Some(roster),
            sockets,
        })
    }

    pub(crate) fn assemble(parts: WorkerParts) -> Self {
        Self {
            worker: Address::new(),
            uplink: Address::new(),
            observations: Observations::new(),
            link_state: LinkState::new(),
            logs: LogServer::new(parts.engines.clone()),
            mesh: Mesh::new(parts.node, parts.endpoint.clone(), parts.roster.clone(), Arc::clone(&parts.sockets)),
            parts,
        }
    }

    /// Published ports that this node cannot listen on.
    pub fn unpublished(&self) -> Vec<UnpublishedPort> {
        self.mesh.unpublished().borrow().clone()
    }

    /// Child spec of the actor `worker`, to be started by the node's root actor.
    pub fn spec(&self) -> ChildSpec {
        let this = self.clone();
        ChildSpec::actor("worker", move |scope| (Worker, this.args(scope))).shutdown(SHUTDOWN)
    }

    fn args(&self, mut scope: Scope) -> WorkerArgs {
        let parts = self.parts.clone();
        let WorkerParts {
            node, generation, hostname, labels, generic, engines, disk, dial, endpoint, managers, ..
        } = parts;
        scope.env.disk = disk;
        let descriptions = EngineDescriptions::default();
        let machine = Machine {
            hostname: hostname.clone(),
            labels,
            generic,
            engines: engines.clone(),
            descriptions: descriptions.clone(),
            unpublished: self.mesh.unpublished(),
        };
        WorkerArgs {
            scope,
            here: Here { node, hostname },
            exec: ExecServer::new(engines.clone()),
            engines,
            descriptions,
            uplink: UplinkArgs {
                node,
                generation,
                machine,
                dial,
                managers,
                observations: self.observations.clone(),
                link_state: self.link_state.clone(),
                worker: self.worker.clone(),
                mesh: self.mesh.clone(),
            },
            mesh: MeshArgs { mesh: self.mesh.clone() },
            uplink_address: self.uplink.clone(),
            logs: LogsArgs { server: self.logs.clone(), endpoint },
            observations: self.observations.clone(),
            confirmed: watch::Sender::new(false),
            me: self.worker.clone(),
        }
    }

    /// What a manager said this node is in its cluster, now and whenever that changes.
    pub fn role(&self) -> watch::Receiver<Option<RoleStatement>> {
        self.link_state.watch_role()
    }

    /// The manager that this node is linked to.
    pub fn linked(&self) -> watch::Receiver<Option<NodeId>> {
        self.link_state.watch_linked()
    }

    /// Whether a manager has refused this node because it was removed from the cluster: no manager will serve it again.
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.link_state.watch_removed()
    }

    /// Watches the version of the orders in force; none before the first orders.
    pub fn orders(&self) -> watch::Receiver<Option<AssignmentVersion>> {
        self.link_state.watch_orders()
    }

    /// The secrets and configs whose data this node has, as of its last orders.
    pub fn payloads(&self) -> PayloadsHeld {
        self.link_state.held()
    }

    /// Suggests possible managers, for a node that no manager has sent a list yet.
    pub fn suggest(&self, managers: Vec<(NodeId, SocketAddr)>) {
        // If the uplink does not run at this moment, its successor asks for the initial managers.
        let _ = self.uplink.cast(UplinkMsg::Managers(managers));
    }

    /// Tells the uplink that the roster counts `node` as unreachable: if it is the linked manager, the uplink turns to
    /// another manager at once.
    pub fn on_unreachable(&self, node: NodeId) {
        let _ = self.uplink.cast(UplinkMsg::Unreachable(node));
    }

    /// Sets the nodes that this node accuses by its own observations; the linked manager is told at once.
    pub fn accuse(&self, ballot: Arc<[Accusation]>) {
        if self.link_state.set_ballot(ballot) {
            // If the uplink does not run at this moment, its successor sends the ballot with its first link.
            let _ = self.uplink.cast(UplinkMsg::Ballot);
        }
    }

    /// Sends false messages over this node's link, for the simulator: reports about tasks of other nodes, and a hello
    /// of another generation.
    #[cfg(feature = "sim")]
    pub fn lie(&self, tasks: Vec<(TaskId, Observed)>, hello: Option<Generation>) {
        let _ = self.uplink.cast(UplinkMsg::Lie(tasks, hello));
    }

    /// Sets the availability that an operator chose when the node joined; the next hello carries it to a manager.
    pub fn set_availability(&self, availability: Availability) {
        self.link_state.set_availability(availability);
        let _ = self.uplink.cast(UplinkMsg::Availability);
    }

    /// The latest observation of each task.
    pub fn tasks(&self) -> Vec<(TaskId, Observed)> {
        self.observations.all()
    }

    /// Reads log lines of a task of this machine.
    pub fn logs(&self, request: LogRequest) -> BoxStream<'static, LogFrame> {
        self.logs.read(request)
    }

    /// Stops and removes every task and forgets all orders, because the node leaves its cluster. No orders are accepted
    /// afterwards.
    pub async fn clear(&self) {
        self.link_state.leave();
        self.end_all(WorkerMsg::Clear).await;
    }

    /// Tells a manager over the link that this node has left, and returns when the manager has committed it. `Err` says
    /// why no manager committed it in time: the cluster will detect the node as lost instead.
    pub async fn depart(&self) -> Result<(), String> {
        let mut why = "it has no uplink at the moment".to_owned();
        let tries = async {
            loop {
                let told = self.uplink.call(|reply| UplinkMsg::Depart { left: true, reply }, DEPART_DEADLINE).await;
                match told {
                    Ok(Ok(())) => return,
                    Ok(Err(words)) => why = words,
                    Err(_) => (),
                }
                tokio::time::sleep(DEPART_AGAIN).await;
            }
        };
        let kept = tokio::time::timeout(DEPART_DEADLINE, tries).await.is_ok();
        if kept { Ok(()) } else { Err(why) }
    }

    /// Stops every task and keeps what the engines have of it, because the machine shuts down.
    pub async fn halt(&self) {
        self.end_all(WorkerMsg::Halt).await;
    }

    async fn end_all(&self, message: impl FnOnce(RpcReplyPort<()>) -> WorkerMsg + Send) {
        // A task that does not end in time must not hold up the shutdown.
        let _ = self.worker.call(message, CLEAR_PATIENCE).await;
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerHandle({})", self.parts.node)
    }
}

impl fmt::Debug for WorkerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSettings").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
