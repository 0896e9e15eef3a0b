//! The handle: all that others hold of a node.

use crate::actor::{Msg, Root};
use crate::request::{Farewell, InitRequest, JoinRequest};
use crate::standing::Standing;
use essaim_manager::Control;
use essaim_model::{EngineKind, Refusal, RefusalKind};
use essaim_presence::endpoint::KeepError;
use essaim_presence::view::View;
use essaim_system::{ChildSpec, Env, Journal, RecordKind, Scope};
use essaim_wire::{Generation, NodeId};
use essaim_worker::Engine;
use ractor::rpc::CallResult;
use ractor::{ActorRef, RpcReplyPort};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a manager that leaves waits to be let go by the group: a few commits, and an election in between.
const STEP_DOWN_MAX: Duration = Duration::from_secs(10);

/// How long init and join may take: a join asks several nodes in turn.
const CHANGE_DEADLINE: Duration = Duration::from_secs(40);

/// How long a node may take to stop: its tasks may take their grace.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(60);

/// How long a manager may take to become part of the group before `join` says that it goes on by itself.
const GROUP_DEADLINE: Duration = Duration::from_secs(20);

/// How long a new cluster may take to know of itself: one election, one link and three commits, as a rule 0.3 s.
const READY_DEADLINE: Duration = Duration::from_secs(5);

/// Makes a face, an actor that shows the node to somebody, from its handle.
pub type Face = Box<dyn FnOnce(Handle) -> ChildSpec + Send + Sync>;

/// What a node is made of beside its `Env`.
pub struct Parts {
    /// What was said when the daemon was started.
    pub settings: Settings,
    /// What runs tasks. The first is the default of a cluster that this node makes.
    pub engines: Vec<Arc<dyn Engine>>,
    /// Who shows the node.
    pub faces: Vec<Face>,
}

/// What was said when the daemon was started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The machine's name, and the first label of every path.
    pub hostname: String,
    /// Of `--listen-addr`; empty when not said.
    pub listen: String,
    /// Of `--advertise-addr`; empty when not said.
    pub advertise: String,
}

/// A node. Clones are the same node.
#[derive(Clone)]
pub struct Handle {
    pub(crate) root: ActorRef<Msg>,
    pub(crate) shared: Arc<Shared>,
}

/// What is known of a node without asking it.
pub(crate) struct Shared {
    pub(crate) scope: Scope,
    pub(crate) hostname: String,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) generation: Generation,
    pub(crate) standing: watch::Receiver<Standing>,
}

/// A node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its files cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A face could not be started.
    #[error("{0}")]
    Actor(String),
}

/// Starts a node. If its disk says that it has a part in a cluster, it takes it up again.
pub async fn start(env: Env, parts: Parts) -> Result<Handle, StartError> {
    Root::start(env, parts).await
}

impl Handle {
    /// What the node is part of.
    pub fn standing(&self) -> Standing {
        self.shared.standing.borrow().clone()
    }

    /// The same, as it changes.
    pub fn standings(&self) -> watch::Receiver<Standing> {
        self.shared.standing.clone()
    }

    /// Requests to the cluster; or why not here.
    pub fn control(&self) -> Result<Control, Refusal> {
        self.shared.standing.borrow().control()
    }

    /// The same node, which says of its part in a cluster whatever `standing` does: for tests of what shows a node.
    #[cfg(feature = "fixtures")]
    pub fn that_stands(&self, standing: watch::Receiver<Standing>) -> Self {
        let Shared { scope, hostname, engines, generation, .. } = &*self.shared;
        let (scope, hostname, engines) = (scope.clone(), hostname.clone(), engines.clone());
        let shared = Shared { scope, hostname, engines, generation: *generation, standing };
        Self { root: self.root.clone(), shared: Arc::new(shared) }
    }

    /// What happened on this node, and its tree.
    pub fn journal(&self) -> &Journal {
        &self.shared.scope.journal
    }

    /// What the nodes show of themselves: of the whole cluster, or outside of one of this node.
    pub fn view(&self) -> View {
        match self.shared.standing.borrow().membership() {
            Some(membership) => membership.view.clone(),
            None => View::alone(self.shared.scope.journal.clone()),
        }
    }

    /// Its place in the tree, its clock and its disk.
    pub fn scope(&self) -> &Scope {
        &self.shared.scope
    }

    /// The machine's name.
    pub fn hostname(&self) -> &str {
        &self.shared.hostname
    }

    /// Which start of the daemon this is.
    pub fn generation(&self) -> Generation {
        self.shared.generation
    }

    /// What runs its tasks.
    pub fn engines(&self) -> &[Arc<dyn Engine>] {
        &self.shared.engines
    }

    /// The engine of services that name none, in a cluster that this node makes.
    pub fn default_engine(&self) -> EngineKind {
        self.shared.engines.first().map_or(EngineKind::Process, |engine| engine.kind())
    }

    /// Begins a cluster with this node as its first manager.
    pub async fn init(&self, request: InitRequest) -> Result<NodeId, Refusal> {
        // A cluster that `apply` would refuse to found is not begun at all.
        request.spec.check()?;
        let node = self.ask(|reply| Msg::Init(Box::new(request), reply), CHANGE_DEADLINE).await?;
        self.until_ready().await;
        node
    }

    /// Has this node join a cluster. Returns when it is a node of it; a manager, when it votes.
    pub async fn join(&self, request: JoinRequest) -> Result<NodeId, Refusal> {
        let node = self.ask(|reply| Msg::Join(Box::new(request), reply), CHANGE_DEADLINE).await?;
        if node.is_ok() {
            self.until_in_group().await?;
        }
        node
    }

    /// Has this node leave its cluster. A manager only by `force`, and the group of managers lets it go first, where the
    /// others can agree without it.
    pub async fn leave(&self, force: bool) -> Result<(), Refusal> {
        if force {
            self.step_down().await;
        }
        self.ask(|reply| Msg::Leave { force, reply }, FAREWELL_DEADLINE).await?
    }

    /// A manager that is about to leave says so, and waits until the group has let it go: a voter that is gone would count
    /// for ever. What keeps it from that is written down, and keeps nobody from leaving.
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

    /// Ends the node, and says how to the others.
    pub async fn farewell(&self, farewell: Farewell) {
        // One that cannot answer has ended already.
        let _ = self.ask(|reply| Msg::Farewell(farewell, reply), FAREWELL_DEADLINE).await;
        let _ = self.root.stop_and_wait(Some("farewell".into()), Some(FAREWELL_DEADLINE)).await;
    }

    /// Waits until the node has ended by itself, and says that it did: its children failed too often, or it was told
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

    /// A new cluster is of use once its only manager leads, and knows of itself as a node that takes tasks.
    async fn until_ready(&self) {
        let Ok(control) = self.control() else { return };
        let node = control.store().node();
        let mut states = control.store().states();
        let ready = states.wait_for(|state| state.node(node).is_some_and(|node| node.is_ready()));
        // What is asked too early is answered in words.
        let _ = tokio::time::timeout(READY_DEADLINE, ready).await;
    }

    /// A joined manager has its part in the group once the group has taken it in.
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
