//! The handle through which other code controls and observes a node.

use crate::actor::Msg;
use crate::machine::Machine;
use crate::request::{Farewell, InitRequest, JoinRequest};
use crate::standing::Standing;
use essaim_manager::Control;
use essaim_model::{GenericStock, Labels, Refusal, RefusalKind};
use essaim_presence::endpoint::KeepError;
use essaim_presence::view::{Gather, View};
use essaim_store::LogBounds;
use essaim_system::{ChildSpec, Journal, RecordKind, Scope};
use essaim_wire::{Generation, NodeId};
use essaim_worker::{Engine, Sockets};
use ractor::rpc::CallResult;
use ractor::{ActorRef, RpcReplyPort};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Upper bound on the time that a leaving manager waits for the group to release it: a few commits, and an election in
/// between.
const STEP_DOWN_MAX: Duration = Duration::from_secs(10);

/// Upper bound on the duration of init and join: a join asks several nodes in turn.
const CHANGE_DEADLINE: Duration = Duration::from_secs(40);

/// Upper bound on the time that a node takes to stop: its tasks may take their grace.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(60);

/// Upper bound on the time until a joining manager votes; after it `join` returns and says that the admission
/// continues.
const GROUP_DEADLINE: Duration = Duration::from_secs(20);

/// Upper bound on the time until a new cluster shows its own node as ready: one election, one link and three commits,
/// as a rule 0.3 s.
const READY_DEADLINE: Duration = Duration::from_secs(5);

/// Makes a face from the node's handle: an actor that shows the node to clients, such as the API.
pub type Face = Box<dyn FnOnce(Handle) -> ChildSpec + Send + Sync>;

/// The parts of a node beside its `Env`.
pub struct Parts {
    /// The machine as the daemon was told of it.
    pub settings: Settings,
    /// Engines that run tasks. The first is the default of a cluster that this node founds.
    pub engines: Vec<Arc<dyn Engine>>,
    /// Sockets on which published ports are listened on.
    pub sockets: Arc<dyn Sockets>,
    /// The machine, as `essaim doctor` looks at it.
    pub machine: Arc<dyn Machine>,
    /// Actors that show the node to clients, such as the API.
    pub faces: Vec<Face>,
}

/// The machine as the daemon was told of it: host name, addresses, labels and generic resources.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The machine's name, which is also the first label of every actor's path.
    pub hostname: String,
    /// Value of `--listen-addr`; empty when the flag was not given.
    pub listen: String,
    /// Value of `--advertise-addr`; empty when the flag was not given.
    pub advertise: String,
    /// Labels of the machine, beside those of its engines.
    pub labels: Labels,
    /// Generic resources of the machine, beside those that its engines state.
    pub generic: GenericStock,
    /// Bounds of the log, where the node is a manager.
    pub log: LogBounds,
}

/// Handle on a node. Clones are handles on the same node.
#[derive(Clone)]
pub struct Handle {
    pub(crate) root: ActorRef<Msg>,
    pub(crate) shared: Arc<Shared>,
}

/// The facts of a node that can be read without asking its root actor.
pub(crate) struct Shared {
    pub(crate) scope: Scope,
    pub(crate) hostname: String,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) machine: Arc<dyn Machine>,
    /// Collects the facts of the machine while the node is in no cluster.
    pub(crate) alone: Arc<dyn Gather>,
    /// Which start of the daemon this is.
    pub(crate) generation: AtomicU64,
    pub(crate) standing: watch::Receiver<Standing>,
}

impl Shared {
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }
}

/// A node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node's files cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A face could not be started.
    #[error("{0}")]
    Actor(String),
}

impl Handle {
    /// The node's standing now: inactive, active in a cluster, or broken.
    pub fn standing(&self) -> Standing {
        self.shared.standing.borrow().clone()
    }

    /// Watches the node's standing: the present value, and every later one.
    pub fn standings(&self) -> watch::Receiver<Standing> {
        self.shared.standing.clone()
    }

    /// The handle for requests to the cluster; a refusal says why this node takes none.
    pub fn control(&self) -> Result<Control, Refusal> {
        self.shared.standing.borrow().control()
    }

    /// A handle on the same node that shows another standing: for tests of what shows a node.
    #[cfg(feature = "fixtures")]
    pub fn that_stands(&self, standing: watch::Receiver<Standing>) -> Self {
        let Shared { scope, hostname, engines, machine, alone, .. } = &*self.shared;
        let generation = AtomicU64::new(self.shared.generation().0);
        let (scope, hostname, engines) = (scope.clone(), hostname.clone(), engines.clone());
        let (machine, alone) = (Arc::clone(machine), Arc::clone(alone));
        let shared = Shared { scope, hostname, engines, machine, alone, generation, standing };
        Self { root: self.root.clone(), shared: Arc::new(shared) }
    }

    /// The node's journal, with its tree of actors.
    pub fn journal(&self) -> &Journal {
        &self.shared.scope.journal
    }

    /// The view of the whole cluster; outside of a cluster, of this node alone.
    pub fn view(&self) -> View {
        match self.shared.standing.borrow().membership() {
            Some(membership) => membership.view.clone(),
            None => View::alone(self.shared.scope.journal.clone(), Arc::clone(&self.shared.alone)),
        }
    }

    /// The root's scope: its place in the tree, its clock and its disk.
    pub fn scope(&self) -> &Scope {
        &self.shared.scope
    }

    /// The machine's name.
    pub fn hostname(&self) -> &str {
        &self.shared.hostname
    }

    /// The number of this start of the daemon.
    pub fn generation(&self) -> Generation {
        self.shared.generation()
    }

    /// The engines that run this node's tasks.
    pub fn engines(&self) -> &[Arc<dyn Engine>] {
        &self.shared.engines
    }

    /// The machine that this node runs on.
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.shared.machine
    }

    /// Begins a cluster with this node as its first manager.
    pub async fn init(&self, request: InitRequest) -> Result<NodeId, Refusal> {
        // Settings that `apply` would refuse are refused before anything is begun.
        request.spec.check()?;
        let node = self.ask(|reply| Msg::Init(Box::new(request), reply), CHANGE_DEADLINE).await?;
        self.until_ready().await;
        node
    }

    /// Has this node join a cluster. Returns when the node is part of the cluster; for a manager, when it votes.
    pub async fn join(&self, request: JoinRequest) -> Result<NodeId, Refusal> {
        let node = self.ask(|reply| Msg::Join(Box::new(request), reply), CHANGE_DEADLINE).await?;
        if node.is_ok() {
            self.until_in_group().await?;
        }
        node
    }

    /// Has this node leave its cluster. A manager leaves only with `force`; the group releases it first, where the
    /// other managers can agree without it.
    pub async fn leave(&self, force: bool) -> Result<(), Refusal> {
        if force {
            self.step_down().await;
        }
        self.ask(|reply| Msg::Leave { force, reply }, FAREWELL_DEADLINE).await?
    }

    /// Announces the departure of a manager, and waits until the group has released it, because a voter that is gone
    /// would count towards the quorum for ever. A failure is recorded, and does not keep the node from leaving.
    async fn step_down(&self) {
        let Ok(control) = self.control() else { return };
        let note = |words: String| {
            self.scope().record(RecordKind::Raft, words);
        };
        if let Err(why) = control.announce_departure(self.generation()).await {
            return note(format!("it leaves as a manager that the group has not let go: {why}"));
        }
        drop(control);
        let mut standings = self.standings();
        let let_go = standings.wait_for(|standing| standing.control().is_err());
        if tokio::time::timeout(STEP_DOWN_MAX, let_go).await.is_err() {
            let seconds = STEP_DOWN_MAX.as_secs();
            note(format!("the group of managers has not let it go within {seconds} s; it leaves anyway"));
        }
    }

    /// Ends the node, and tells the other nodes how it ends.
    pub async fn farewell(&self, farewell: Farewell) {
        // A root that cannot answer has ended already.
        let _ = self.ask(|reply| Msg::Farewell(farewell, reply), FAREWELL_DEADLINE).await;
        let _ = self.root.stop_and_wait(Some("farewell".into()), Some(FAREWELL_DEADLINE)).await;
    }

    /// Waits until the node has ended by itself, and returns the reason: its children failed too often, or it was told
    /// to stop. The journal of a daemon that still answers says more.
    pub async fn ended(&self) -> String {
        // The root has no parent; waiting for its end is the only way to hear of it.
        let _ = self.root.wait(None).await;
        self.shared.scope.journal.entry(&self.shared.scope.path).map(|entry| entry.reason).unwrap_or_default()
    }

    async fn ask<R: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<R>) -> Msg,
        within: Duration,
    ) -> Result<R, Refusal> {
        match self.root.call(message, Some(within)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout) => {
                let text = "the node did not answer in time; look at `essaim journal` before you ask again";
                Err(Refusal::new(RefusalKind::Unknown, text))
            }
            Ok(CallResult::SenderError) | Err(_) => Err(Refusal::new(RefusalKind::Internal, "the daemon is stopping")),
        }
    }

    /// Waits until a new cluster is usable: its only manager leads, and the state shows the node as ready for tasks.
    async fn until_ready(&self) {
        let Ok(control) = self.control() else { return };
        let node = control.store().node();
        let mut states = control.store().states();
        let ready = states.wait_for(|state| state.node(node).is_some_and(|node| node.is_ready()));
        // After the deadline requests are refused in words until the cluster is ready.
        let _ = tokio::time::timeout(READY_DEADLINE, ready).await;
    }

    /// Waits until the group has admitted this node as a voter; a worker does not wait.
    async fn until_in_group(&self) -> Result<(), Refusal> {
        let in_group = async {
            let mut standings = self.standings();
            loop {
                let control = match &*standings.borrow_and_update() {
                    Standing::Active(part) if part.role == essaim_wire::Role::Worker => return,
                    Standing::Active(part) => part.control.clone(),
                    _ => return,
                };
                if let Some(control) = control {
                    let mut states = control.store().states();
                    let node = control.store().node();
                    let votes = states.wait_for(|state| {
                        state.node(node).and_then(|node| node.manager).is_some_and(|manager| manager.voter)
                    });
                    if votes.await.is_ok() {
                        return;
                    }
                }
                if standings.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(GROUP_DEADLINE, in_group).await.map_err(|_| {
            let text = "Timeout was reached before node joined. The attempt to join the swarm will continue in the \
                        background. Use the \"docker info\" command to see the current swarm status of your node.";
            Refusal::new(RefusalKind::Unknown, text)
        })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.shared.scope.path)
    }
}
