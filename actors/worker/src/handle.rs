//! The worker as the rest of the node holds it.

use crate::actor::{Worker, WorkerArgs, WorkerMsg};
use crate::board::Board;
use crate::engine::Engine;
use crate::logs::{LogServer, LogsArgs};
use crate::machine::Machine;
use crate::task::Here;
use crate::told::Told;
use crate::uplink::{Dial, UplinkArgs, UplinkMsg};
use essaim_model::{Availability, Labels, Observed, TaskId};
use essaim_presence::endpoint::Endpoint;
use essaim_protocol::{AssignmentVersion, LogFrame, LogRequest, Managers, Standing};
use essaim_system::{Address, ChildSpec, Disk, Scope};
use essaim_wire::{Accusation, Generation, NodeId};
use futures::stream::BoxStream;
use ractor::RpcReplyPort;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long stopping every task may take when the node leaves or halts. A task with a longer grace is left to its
/// engine, which ends it when the grace is over.
const CLEAR_PATIENCE: Duration = Duration::from_secs(60);

/// How long a node that leaves waits until a manager has kept that: an election and a new link.
const DEPART_DEADLINE: Duration = Duration::from_secs(4);

/// How long it waits before it tells a manager again.
const DEPART_AGAIN: Duration = Duration::from_millis(200);

/// How long the worker may take to stop: the actors of its tasks, the uplink and the log server one after the other.
const SHUTDOWN: Duration = Duration::from_secs(15);

/// What a worker is made of.
#[derive(Clone)]
pub struct WorkerSettings {
    /// The node's port: links and log lanes.
    pub endpoint: Endpoint,
    /// What runs tasks, one of each kind. An order names the engine of its task.
    pub engines: Vec<Arc<dyn Engine>>,
    /// The name of this machine.
    pub hostname: String,
    /// The worker's folder.
    pub disk: Arc<dyn Disk>,
}

/// A handle on this machine's worker. Clones are the same.
#[derive(Clone)]
pub struct WorkerHandle {
    parts: WorkerParts,
    worker: Address<WorkerMsg>,
    uplink: Address<UplinkMsg>,
    board: Board,
    told: Told,
    logs: LogServer,
}

/// What a worker is made of, with every part of the world replaceable.
#[derive(Clone)]
pub(crate) struct WorkerParts {
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) hostname: String,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) managers: Vec<(NodeId, SocketAddr)>,
}

impl WorkerHandle {
    /// A worker that does not run yet: its [`spec`](Self::spec) starts it.
    pub fn new(settings: WorkerSettings) -> Self {
        let WorkerSettings { endpoint, engines, hostname, disk } = settings;
        Self::assemble(WorkerParts {
            node: endpoint.node(),
            generation: endpoint.generation(),
            hostname,
            engines,
            disk,
            managers: endpoint.managers(),
            dial: Arc::new(endpoint.clone()),
            endpoint: Some(endpoint),
        })
    }

    pub(crate) fn assemble(parts: WorkerParts) -> Self {
        Self {
            worker: Address::new(),
            uplink: Address::new(),
            board: Board::new(),
            told: Told::new(),
            logs: LogServer::new(parts.engines.clone()),
            parts,
        }
    }

    /// The actor `worker`, to be started by the root.
    pub fn spec(&self) -> ChildSpec {
        let this = self.clone();
        ChildSpec::actor("worker", move |scope| (Worker, this.args(scope))).shutdown(SHUTDOWN)
    }

    fn args(&self, mut scope: Scope) -> WorkerArgs {
        let WorkerParts { node, generation, hostname, engines, disk, dial, endpoint, managers } = self.parts.clone();
        scope.env.disk = disk;
        let machine = Machine { hostname: hostname.clone(), labels: Labels::default(), engines: engines.clone() };
        WorkerArgs {
            scope,
            here: Here { node, hostname },
            engines,
            uplink: UplinkArgs {
                node,
                generation,
                machine,
                dial,
                managers,
                board: self.board.clone(),
                told: self.told.clone(),
                worker: self.worker.clone(),
            },
            uplink_address: self.uplink.clone(),
            logs: LogsArgs { server: self.logs.clone(), endpoint },
            board: self.board.clone(),
            confirmed: watch::Sender::new(false),
            me: self.worker.clone(),
        }
    }

    /// What a manager said this node is in its cluster, now and whenever that changes.
    pub fn told(&self) -> watch::Receiver<Option<Standing>> {
        self.told.watch_standing()
    }

    /// Which managers there are, as managers said it.
    pub fn managers(&self) -> watch::Receiver<Option<Arc<Managers>>> {
        self.told.watch_managers()
    }

    /// The manager that this node is linked to.
    pub fn linked(&self) -> watch::Receiver<Option<NodeId>> {
        self.told.watch_linked()
    }

    /// Which orders are in force, now and whenever that changes; none before the first.
    pub fn orders(&self) -> watch::Receiver<Option<AssignmentVersion>> {
        self.told.watch_orders()
    }

    /// These may be managers: for a node that no manager has told anything yet.
    pub fn suggest(&self, managers: Vec<(NodeId, SocketAddr)>) {
        // Without an uplink at this moment: the one that comes up asks whom it was told at first.
        let _ = self.uplink.cast(UplinkMsg::Managers(managers));
    }

    /// The roster misses this node: should the uplink be linked to it, it turns to another manager at once.
    pub fn on_unreachable(&self, node: NodeId) {
        let _ = self.uplink.cast(UplinkMsg::Unreachable(node));
    }

    /// Whom this node accuses by what it found out itself: its manager is told at once.
    pub fn accuse(&self, ballot: Arc<[Accusation]>) {
        if self.told.set_ballot(ballot) {
            // Without an uplink at this moment: the one that comes up says it with its next link.
            let _ = self.uplink.cast(UplinkMsg::Ballot);
        }
    }

    /// Says over this node's link what is not so: reports about tasks of others, and a hello of another start.
    #[cfg(feature = "sim")]
    pub fn lie(&self, tasks: Vec<(TaskId, Observed)>, hello: Option<Generation>) {
        let _ = self.uplink.cast(UplinkMsg::Lie(tasks, hello));
    }

    /// An operator said, when the node joined, whether it shall take tasks: a manager is told at the next hello.
    pub fn set_availability(&self, availability: Availability) {
        self.told.set_availability(availability);
        let _ = self.uplink.cast(UplinkMsg::Availability);
    }

    /// What was last seen of each task.
    pub fn tasks(&self) -> Vec<(TaskId, Observed)> {
        self.board.all()
    }

    /// Lines of a task of this machine.
    pub fn logs(&self, request: LogRequest) -> BoxStream<'static, LogFrame> {
        self.logs.read(request)
    }

    /// Stops and removes every task and forgets all orders: the node leaves its cluster. Takes no orders afterwards.
    pub async fn clear(&self) {
        self.end_all(WorkerMsg::Clear).await;
    }

    /// Tells a manager that this node has left, over its own link, and returns when that is kept. `Err` says why no
    /// manager kept it in time: the others will find out that the node is gone, and take it for lost.
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

    /// Stops every task and keeps what is left of them: the machine goes down.
    pub async fn halt(&self) {
        self.end_all(WorkerMsg::Halt).await;
    }

    async fn end_all(&self, message: impl FnOnce(RpcReplyPort<()>) -> WorkerMsg + Send) {
        // Whoever stops is not held up by a task that does not.
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
