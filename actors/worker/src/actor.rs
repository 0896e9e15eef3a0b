//! The worker's root actor: supervises the uplink, the log server, the mesh and the task actors of this machine, and nothing
//! else.
//!
//! Parent: the node. Children: `logs`, `mesh`, `uplink`, one `task.…` for each task with something left to do.
//! Hears: `Obey` (from the uplink: the complete new orders), `Confirm` (from the uplink: the orders on disk are still
//! valid), `Clear` (from the node, when it leaves its cluster), `Halt` (from the node, when the machine shuts down),
//! `Leased` (from the uplink: a manager has renewed the lapsed lease), `Adopted` and `Revived` (from tokio tasks beside it,
//! which wait for the engines), its own `LeaseDue`, `List`, `Wake`.
//! Says: `Goal` to its task actors. It serves the `exec` lane, whose sessions belong to their streams.
//! Dies: with the node. The tasks go on, and the next worker adopts them.
//!
//! Children restart without limit: a failing engine is no reason to give up the machine.

use crate::engine::{Adopted, Engine, Phase};
use crate::exec::ExecServer;
use crate::logs::{Logs, LogsArgs};
use crate::machine::EngineDescriptions;
use crate::mesh::{MeshActor, MeshArgs};
use crate::observations::Observations;
use crate::orders::{self, Orders};
use crate::task::{Execution, FORGOTTEN, Goal, Here, Task, TaskArgs, TaskMsg, execution, label};
use crate::uplink::{Uplink, UplinkArgs, UplinkMsg};
use essaim_model::service::{DISCONNECT_LEASE, ON_DISCONNECT_LABEL};
use essaim_model::{Desired, EngineKind, Observed, TaskId, TaskState};
use essaim_protocol::TaskOrder;
use essaim_system::supervisor::{Intensity, Supervision, Wake};
use essaim_system::{Address, ChildSpec, Children, RecordKind, Scope, Timer};
use essaim_transport::Lane;
use essaim_wire::NodeId;
use essaim_wire::planted::{Bug, planted};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Time that the uplink may take for its last report when the worker stops.
const UPLINK_SHUTDOWN: Duration = Duration::from_secs(2);

/// Time for which the start of the worker waits until its engines have said which tasks they have. An engine that takes
/// longer is waited for beside the actor, and must not hold up a manager on the same machine.
const ADOPT_PATIENCE: Duration = Duration::from_secs(2);

/// Time that an engine may take to list its tasks before it is asked again.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

/// Delay before an engine that did not list its tasks is asked again. It doubles up to the bound.
const LIST_AGAIN: Duration = Duration::from_secs(1);
const LIST_AGAIN_MAX: Duration = Duration::from_secs(8);

/// Interval at which the engines list their tasks again. A request to create a container that a killed daemon had sent may
/// be carried out after the next daemon has listed the containers.
const LIST_EVERY: Duration = Duration::from_secs(5 * 60);

/// Ended tasks that are removed at the same time. A service with hundreds of ended tasks on this machine may be removed at
/// once, and the engine has other things to do.
const REMOVALS_MAX: usize = 16;

/// Messages to the worker's root actor.
#[derive(RactorMessage)]
pub(crate) enum WorkerMsg {
    /// The complete orders of this machine, which are on disk already.
    Obey(Arc<Orders>),
    /// The orders on disk are still valid: a manager has had the chance to replace them.
    Confirm,
    /// Stop and remove every task, obey no orders any more, and reply when that is done.
    Clear(RpcReplyPort<()>),
    /// Stop every task, keep what its engine has of it, and reply when all have ended.
    Halt(RpcReplyPort<()>),
    /// The tasks that an engine of this kind knows. Until then the worker stops none that it does not know itself.
    Adopted(EngineKind, Vec<Adopted>),
    /// Somebody else than this worker has started the container of this task.
    Revived(TaskId),
    /// It is time to ask the engines again which tasks they have.
    List,
    /// The lease of tasks that end without a manager has lapsed, or may have.
    LeaseDue,
    /// The lease had lapsed, and a manager has renewed it.
    Leased,
    /// A delay of the supervision of children has elapsed.
    Wake(Wake),
}

/// Start arguments of the worker, from which its children get theirs.
#[derive(Clone)]
pub(crate) struct WorkerArgs {
    pub(crate) scope: Scope,
    pub(crate) here: Here,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) descriptions: EngineDescriptions,
    pub(crate) uplink: UplinkArgs,
    pub(crate) uplink_address: Address<UplinkMsg>,
    pub(crate) exec: ExecServer,
    pub(crate) logs: LogsArgs,
    pub(crate) mesh: MeshArgs,
    pub(crate) observations: Observations,
    pub(crate) confirmed: watch::Sender<bool>,
    pub(crate) me: Address<WorkerMsg>,
}

/// The worker's root actor.
pub(crate) struct Worker;

pub(crate) struct State {
    args: WorkerArgs,
    children: Children,
    orders: Arc<Orders>,
    /// Tasks that have an actor.
    tended: BTreeMap<TaskId, Tended>,
    /// Tasks that an engine knows, running or ended.
    kept: BTreeMap<TaskId, Kept>,
    /// Goal for every task once the node leaves or the machine shuts down; no orders are accepted from then on.
    ending: Option<Goal>,
    /// Replies that are due when no task has an actor any more.
    waiting: Vec<RpcReplyPort<()>>,
    /// Whether a task is not started before others have ended on this machine.
    waits_for_leftovers: bool,
    /// Engines that have not listed their tasks yet.
    unlisted: BTreeSet<EngineKind>,
    /// Tokio tasks that wait for such engines; dropped, and so ended, with the actor.
    listing: JoinSet<()>,
    /// Tokio tasks that wait for starts by somebody else, one for each engine; dropped, and so ended, with the actor.
    noticing: JoinSet<()>,
    /// Fires at the end of the lease, while any task needs it.
    lease_timer: Timer,
    /// Fires when the engines are to be asked again which tasks they have.
    list_timer: Timer,
    myself: ActorRef<WorkerMsg>,
}

struct Tended {
    name: String,
    address: Address<TaskMsg>,
    /// Latest goal for the task; a restarted task actor begins with it.
    goal: watch::Sender<Goal>,
    /// How to run the task; none for a task that only the engine knows.
    execution: watch::Sender<Option<Execution>>,
    /// Whether the execution lacks credentials for a registry or payloads, which are not on disk.
    is_bare: bool,
    /// Whether the task ends when the lease lapses.
    leased: bool,
    /// Whether the actor only removes what is left of an ended task.
    removes: bool,
    /// Whether somebody else has started the task's container since the actor began: it may run when the task has ended.
    revived: bool,
}

struct Kept {
    engine: EngineKind,
    /// Service and slot of the task, for the name of its actor.
    group: String,
    has_ended: bool,
}

impl Actor for Worker {
    type Msg = WorkerMsg;
    type State = State;
    type Arguments = WorkerArgs;

    async fn pre_start(&self, myself: ActorRef<WorkerMsg>, args: WorkerArgs) -> Result<State, ActorProcessingErr> {
        args.me.set(myself.clone());
        let supervision = Supervision::default().intensity(Intensity::UNLIMITED);
        let children = Children::new(args.scope.clone(), &myself, supervision, WorkerMsg::Wake);
        let mut state = State {
            args,
            children,
            orders: Arc::default(),
            tended: BTreeMap::new(),
            kept: BTreeMap::new(),
            ending: None,
            waiting: Vec::new(),
            waits_for_leftovers: false,
            unlisted: BTreeSet::new(),
            listing: JoinSet::new(),
            noticing: JoinSet::new(),
            lease_timer: Timer::default(),
            list_timer: Timer::default(),
            myself: myself.clone(),
        };
        state.args.uplink.link_state.begin_lease(state.args.scope.now());
        let started = state.start_all(&myself).await;
        if started.is_err() {
            state.children.shutdown("stopped, because the worker could not be started").await;
        }
        started.map(|()| state)
    }

    async fn handle(
        &self,
        _: ActorRef<WorkerMsg>,
        message: WorkerMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMsg::Obey(orders) => state.on_orders(orders).await,
            WorkerMsg::Confirm => {
                state.args.confirmed.send_if_modified(|confirmed| !std::mem::replace(confirmed, true));
                Ok(())
            }
            WorkerMsg::Clear(reply) => state.clear(reply).await,
            WorkerMsg::Halt(reply) => state.halt(reply).await,
            WorkerMsg::Adopted(kind, found) => state.on_adopted(kind, found).await,
            WorkerMsg::Revived(task) => state.on_revived(task).await,
            WorkerMsg::List => {
                state.list_again();
                Ok(())
            }
            WorkerMsg::LeaseDue => {
                state.on_lease_due();
                Ok(())
            }
            WorkerMsg::Leased if state.ending.is_none() => state.tend().await,
            WorkerMsg::Leased => Ok(()),
            WorkerMsg::Wake(wake) => Ok(state.children.on_wake(wake).await?),
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<WorkerMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match state.children.on_event(event).await? {
            Some(exited) if !exited.returns => state.on_leave(&exited.name, exited.reason == FORGOTTEN).await,
            _ => Ok(()),
        }
    }

    async fn post_stop(&self, _: ActorRef<WorkerMsg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        if let Some(endpoint) = &state.args.logs.endpoint {
            endpoint.unserve(Lane::Exec);
        }
        // Only the actors stop; the tasks go on without them.
        state.children.shutdown("the worker stops; its tasks go on").await;
        Ok(())
    }
}

impl State {
    async fn start_all(&mut self, myself: &ActorRef<WorkerMsg>) -> Result<(), ActorProcessingErr> {
        let logs = self.args.logs.clone();
        self.children.start(ChildSpec::actor("logs", move |_| (Logs, logs.clone()))).await?;
        let mesh = self.args.mesh.clone();
        self.children.start(ChildSpec::actor("mesh", move |scope| (MeshActor, (scope, mesh.clone())))).await?;
        self.recall(myself).await?;
        if let Some(endpoint) = &self.args.logs.endpoint {
            endpoint.serve(Lane::Exec, Arc::new(self.args.exec.clone()));
        }
        let (address, args) = (self.args.uplink_address.clone(), self.args.uplink.clone());
        let uplink = ChildSpec::actor_at(&address, "uplink", move |scope| (Uplink, (scope, args.clone())));
        self.children.start(uplink.shutdown(UPLINK_SHUTDOWN)).await?;
        Ok(())
    }

    /// Restores the worker from the orders on disk and from what the engines know.
    async fn recall(&mut self, myself: &ActorRef<WorkerMsg>) -> Result<(), ActorProcessingErr> {
        match orders::load(&*self.args.scope.env.disk) {
            Ok(found) => {
                self.orders = Arc::new(found.unwrap_or_default());
                // The uplink asks for all orders again, and they are confirmed again.
                self.args.confirmed.send_replace(false);
            }
            // Nothing is lost: a manager sends the complete orders to a worker that has none.
            Err(why) => {
                self.args.scope.record(RecordKind::Note, format!("the orders on disk are of no use: {why}"));
            }
        }
        let until = Instant::now() + ADOPT_PATIENCE;
        for engine in self.args.engines.clone() {
            let (kind, node) = (engine.kind(), self.args.here.node);
            let (listed, mut list) = oneshot::channel();
            // The worker may have ended meanwhile, and then nobody wants the list.
            self.listing.spawn(async move { drop(listed.send(all_of(engine, node).await)) });
            match timeout_at(until, &mut list).await {
                Ok(found) => self.adopt(kind, found.unwrap_or_default()),
                Err(_) => {
                    let words = format!("the {kind} engine does not say which tasks it has, and is waited for");
                    self.args.scope.record(RecordKind::Task, words);
                    self.unlisted.insert(kind);
                    let myself = myself.clone();
                    self.listing.spawn(async move {
                        if let Ok(found) = list.await {
                            let _ = myself.cast(WorkerMsg::Adopted(kind, found));
                        }
                    });
                }
            }
        }
        for engine in self.args.engines.clone() {
            let myself = myself.clone();
            self.noticing
                .spawn(async move { while myself.cast(WorkerMsg::Revived(engine.revived().await)).is_ok() {} });
        }
        self.list_timer.arm(myself, LIST_EVERY, || WorkerMsg::List);
        // A worker without orders does not know which tasks are wanted, and stops none.
        if self.orders.version.is_some() { self.tend().await } else { Ok(()) }
    }

    /// Asks the engines again which tasks they have, beside the actor. Engines that have not answered yet are being asked.
    fn list_again(&mut self) {
        while self.listing.try_join_next().is_some() {}
        let (node, myself) = (self.args.here.node, self.myself.clone());
        for engine in self.args.engines.iter().filter(|engine| !self.unlisted.contains(&engine.kind())) {
            let (engine, myself) = (Arc::clone(engine), myself.clone());
            self.listing.spawn(async move {
                let kind = engine.kind();
                // An engine that does not answer is asked at the next turn.
                if let Ok(Ok(found)) = timeout(LIST_PATIENCE, engine.adopt(node)).await {
                    let _ = myself.cast(WorkerMsg::Adopted(kind, found));
                }
            });
        }
        self.list_timer.arm(&self.myself, LIST_EVERY, || WorkerMsg::List);
    }

    /// Takes note of the tasks that an engine knows. A task that has an actor already is known better by it.
    fn adopt(&mut self, kind: EngineKind, mut found: Vec<Adopted>) {
        for Adopted { task, phase, .. } in &found {
            let kept = self.kept.get_mut(task).filter(|_| !self.tended.contains_key(task));
            if let (Some(kept), Phase::Running(_)) = (kept, phase) {
                kept.has_ended = false;
            }
        }
        found.retain(|task| !self.kept.contains_key(&task.task));
        let running = found.iter().filter(|task| matches!(task.phase, Phase::Running(_))).count();
        if !found.is_empty() {
            let words = format!("found {} tasks ({kind}), {running} of them running", found.len());
            self.args.scope.record(RecordKind::Task, words);
        }
        for Adopted { task, name, phase } in found {
            let has_ended = matches!(phase, Phase::Ended(_));
            let group = name.rsplit_once('.').map_or("", |(group, _)| group).to_owned();
            self.kept.entry(task).or_insert(Kept { engine: kind, group, has_ended });
        }
    }

    /// Handles that an engine which did not answer at the start of the worker has listed its tasks.
    async fn on_adopted(&mut self, kind: EngineKind, found: Vec<Adopted>) -> Result<(), ActorProcessingErr> {
        self.unlisted.remove(&kind);
        self.adopt(kind, found);
        self.tend_kept().await?;
        self.answer_if_over();
        Ok(())
    }

    /// Handles that somebody else has started the container of a task. When the task has ended, its container is stopped.
    async fn on_revived(&mut self, task: TaskId) -> Result<(), ActorProcessingErr> {
        if planted(Bug::RevivedRunsOn) {
            return Ok(());
        }
        if let Some(tended) = self.tended.get_mut(&task) {
            tended.revived = true;
            return Ok(());
        }
        // Any other task is another node's, or is gone.
        let Some(kept) = self.kept.get_mut(&task) else { return Ok(()) };
        kept.has_ended = false;
        let words = format!("the container of task {}.{task} was started by somebody else, and is stopped", kept.group);
        self.args.scope.record(RecordKind::Task, words);
        self.tend_kept().await
    }

    /// Ends the tasks of the engines that are not wanted.
    async fn tend_kept(&mut self) -> Result<(), ActorProcessingErr> {
        match self.ending {
            None if self.orders.version.is_some() => self.tend().await?,
            Some(Goal::Gone) => {
                for task in self.kept.keys().copied().collect::<Vec<_>>() {
                    if !self.tended.contains_key(&task) {
                        self.begin_end(task, Goal::Gone).await?;
                    }
                }
            }
            // The machine shuts down, and ends its tasks.
            None | Some(_) => (),
        }
        Ok(())
    }

    async fn on_orders(&mut self, orders: Arc<Orders>) -> Result<(), ActorProcessingErr> {
        if self.ending.is_some() {
            return Ok(());
        }
        self.orders = orders;
        self.tend().await
    }

    /// Reconciles the task actors with the orders: starts an actor for each task with something left to do, and sends
    /// each actor its goal.
    async fn tend(&mut self) -> Result<(), ActorProcessingErr> {
        let orders = Arc::clone(&self.orders);
        let lapsed = self.lease_left().is_zero();
        let leftovers = self.has_leftovers();
        self.waits_for_leftovers = false;
        for order in orders.tasks.values() {
            self.args.observations.learn(order.id, &order.observed);
            // What a task holds that managers gave up, because its node was down, is given to another task. That one is
            // prepared meanwhile, and is watched if it runs already.
            let waits = (leftovers || self.unlisted.contains(&order.engine))
                && order.desired == Desired::Running
                && !order.generic.is_empty()
                && !planted(Bug::GivenTwice);
            let goal = if waits { Goal::Ready } else { order.desired.into() };
            let held_back = lapsed && orders.spec(order).is_some_and(|spec| spec.stops_on_disconnect());
            if let Some(tended) = self.tended.get_mut(&order.id) {
                self.waits_for_leftovers |= waits && *tended.goal.borrow() == Goal::Ready;
                if let Some(spec) = orders.spec(order).filter(|_| tended.is_bare) {
                    tended.execution.send_replace(Some(execution(order, spec, &orders.payloads, &self.args.here)));
                    tended.is_bare = orders.is_bare(order);
                }
                self.set_goal(order.id, goal);
            } else if !held_back && !self.args.observations.seen(order.id).is_some_and(|seen| seen.state.is_final()) {
                self.waits_for_leftovers |= waits;
                self.begin(order, goal, &orders).await?;
            }
        }
        let unwanted: Vec<TaskId> = self.tended.keys().filter(|id| !orders.tasks.contains_key(id)).copied().collect();
        let unordered = |task| if orders.know(task) { Goal::Dropped } else { Goal::Gone };
        for task in unwanted {
            self.set_goal(task, unordered(task));
        }
        for task in self.strays().collect::<Vec<_>>() {
            self.begin_end(task, unordered(task)).await?;
        }
        for (task, _) in self.args.observations.all() {
            if !orders.tasks.contains_key(&task) {
                self.args.observations.forget(task);
            }
        }
        self.watch_lease();
        self.remove_forgotten().await
    }

    /// Tasks that an engine runs, that are not in the orders or have ended before, and that no actor ends yet.
    fn strays(&self) -> impl Iterator<Item = TaskId> {
        let has_ended = |id| self.args.observations.seen(id).is_some_and(|seen| seen.state.is_final());
        let is_stray = move |(id, kept): &(&TaskId, &Kept)| {
            let is_wanted = self.orders.tasks.contains_key(id) && !has_ended(**id);
            !kept.has_ended && !is_wanted && !self.tended.contains_key(id)
        };
        self.kept.iter().filter(is_stray).map(|(id, _)| *id)
    }

    /// Whether a task that may hold generic resources has not ended on this machine, although it is to end or is in no
    /// orders any more. What an engine that has not listed its tasks may have is not known.
    fn has_leftovers(&self) -> bool {
        let is_one = |id| {
            let order = self.orders.tasks.get(id);
            order.is_none_or(|order| order.desired >= Desired::Shutdown && !order.generic.is_empty())
        };
        self.kept.iter().any(|(id, kept)| !kept.has_ended && is_one(id))
    }

    /// Time until the lease of tasks that end without a manager lapses.
    fn lease_left(&self) -> Duration {
        self.args.uplink.link_state.leased_until().saturating_since(self.args.scope.now())
    }

    /// Arms the timer for the end of the lease, if any task needs the lease.
    fn watch_lease(&mut self) {
        if self.tended.values().any(|tended| tended.leased) {
            let left = self.lease_left();
            self.lease_timer.arm(&self.myself, left, || WorkerMsg::LeaseDue);
        }
    }

    /// Ends the tasks that need the lease, unless it was renewed meanwhile.
    fn on_lease_due(&mut self) {
        if !self.lease_left().is_zero() {
            return self.watch_lease();
        }
        let leased = self.tended.values().filter(|tended| tended.leased && *tended.goal.borrow() < Goal::Shutdown);
        let mut ended = 0;
        for tended in leased {
            tended.goal.send_replace(Goal::Shutdown);
            // A task actor that is being restarted reads the goal when it starts.
            let _ = tended.address.cast(TaskMsg::LeaseLapsed);
            ended += 1;
        }
        if ended > 0 {
            let words = format!(
                "no manager for {} s: {ended} tasks with {ON_DISCONNECT_LABEL}=stop are stopped",
                DISCONNECT_LEASE.as_secs()
            );
            self.args.scope.record(RecordKind::Task, words);
        }
    }

    fn set_goal(&self, task: TaskId, goal: Goal) {
        if let Some(tended) = self.tended.get(&task) {
            tended.goal.send_modify(|wanted| *wanted = (*wanted).max(goal));
            // A task actor that is being restarted reads the goal when it starts.
            let _ = tended.address.cast(TaskMsg::Goal(goal));
        }
    }

    async fn begin(&mut self, order: &TaskOrder, goal: Goal, orders: &Orders) -> Result<(), ActorProcessingErr> {
        let Some(spec) = orders.spec(order) else { return Ok(()) };
        let engine = self.engine(order.engine);
        if let Ok(engine) = &engine {
            let group = format!("{}.{}", spec.name, order.slot);
            self.kept.entry(order.id).or_insert(Kept { engine: engine.kind(), group, has_ended: false });
        }
        let execution = execution(order, spec, &orders.payloads, &self.args.here);
        let name = label(spec.name.as_str(), &order.slot, order.id);
        self.start(name, order.id, engine, Some(execution), goal, order.observed.clone()).await?;
        if let Some(tended) = self.tended.get_mut(&order.id) {
            tended.leased = spec.stops_on_disconnect();
            tended.is_bare = orders.is_bare(order);
        }
        Ok(())
    }

    /// Starts an actor that ends a task which is not in the orders but which an engine still knows.
    async fn begin_end(&mut self, task: TaskId, goal: Goal) -> Result<(), ActorProcessingErr> {
        let Some(kept) = self.kept.get(&task) else { return Ok(()) };
        let name = format!("task.{}.{task}", kept.group);
        let engine = self.engine(kept.engine);
        let known = Observed::nothing(self.args.scope.utc());
        self.start(name, task, engine, None, goal, known).await
    }

    async fn start(
        &mut self,
        name: String,
        task: TaskId,
        engine: Result<Arc<dyn Engine>, EngineKind>,
        execution: Option<Execution>,
        goal: Goal,
        known: Observed,
    ) -> Result<(), ActorProcessingErr> {
        let (address, goal, execution) = (Address::new(), watch::Sender::new(goal), watch::Sender::new(execution));
        let (latest, known_execution, subnet) = (goal.clone(), execution.clone(), self.orders.subnet);
        let args = self.args.clone();
        let spec = ChildSpec::actor_at(&address, name.clone(), move |scope| {
            let arguments = TaskArgs {
                scope,
                engine: engine.clone(),
                task,
                execution: known_execution.subscribe(),
                goal: *latest.borrow(),
                known: args.observations.seen(task).unwrap_or_else(|| known.clone()),
                subnet,
                observations: args.observations.clone(),
                confirmed: args.confirmed.subscribe(),
                descriptions: args.descriptions.clone(),
                mesh: args.mesh.mesh.clone(),
            };
            (Task, arguments)
        });
        self.tended.insert(
            task,
            Tended { name, address, goal, execution, is_bare: false, leased: false, removes: false, revived: false },
        );
        Ok(self.children.add(spec.transient()).await?)
    }

    /// The engine of a kind; the kind itself as the error when this node has no such engine.
    fn engine(&self, kind: EngineKind) -> Result<Arc<dyn Engine>, EngineKind> {
        self.args.engines.iter().find(|engine| engine.kind() == kind).cloned().ok_or(kind)
    }

    /// Handles the end of a task actor that has nothing left to do.
    async fn on_leave(&mut self, name: &str, forgotten: bool) -> Result<(), ActorProcessingErr> {
        let Some(task) = self.tended.iter().find(|(_, it)| it.name == name).map(|(task, _)| *task) else {
            return Ok(());
        };
        let revived = self.tended.remove(&task).is_some_and(|tended| tended.revived);
        // A task that was rejected before it was prepared left nothing with the engine either.
        let refused = self.args.observations.seen(task).is_some_and(|seen| seen.state == TaskState::Rejected);
        if forgotten || refused {
            self.kept.remove(&task);
        }
        if let Some(kept) = self.kept.get_mut(&task) {
            kept.has_ended = !revived;
        }
        match self.ending {
            None if self.waits_for_leftovers || revived => self.tend_kept().await?,
            None => self.remove_forgotten().await?,
            // The goal to remove the task came while its actor was ending.
            Some(Goal::Gone) if self.kept.contains_key(&task) => self.begin_end(task, Goal::Gone).await?,
            Some(_) => self.answer_if_over(),
        }
        Ok(())
    }

    /// Begins to remove ended tasks of which the managers have no record any more, as many as may be removed at a time.
    /// The end of each removal calls this again.
    async fn remove_forgotten(&mut self) -> Result<(), ActorProcessingErr> {
        // A worker without orders does not know which records the managers have.
        if self.orders.version.is_none() || planted(Bug::ForgottenTaskStays) {
            return Ok(());
        }
        let under_way = self.tended.values().filter(|tended| tended.removes).count();
        let is_forgotten = |(task, kept): &(&TaskId, &Kept)| {
            kept.has_ended && !self.orders.know(**task) && !self.tended.contains_key(*task)
        };
        let forgotten = self.kept.iter().filter(is_forgotten).map(|(task, _)| *task);
        for task in forgotten.take(REMOVALS_MAX.saturating_sub(under_way)).collect::<Vec<_>>() {
            self.begin_end(task, Goal::Gone).await?;
            if let Some(tended) = self.tended.get_mut(&task) {
                tended.removes = true;
            }
        }
        Ok(())
    }

    /// Handles `Clear`: the node leaves its cluster. Its orders stay on disk until everything of the cluster is removed: a
    /// node that loses its power before that returns as a member, and must not obey older orders.
    async fn clear(&mut self, reply: RpcReplyPort<()>) -> Result<(), ActorProcessingErr> {
        self.args.scope.record(RecordKind::Task, "all tasks are stopped and removed: the node leaves its cluster");
        self.ending = Some(Goal::Gone);
        for task in self.tended.keys().copied().collect::<Vec<_>>() {
            self.set_goal(task, Goal::Gone);
        }
        for task in self.kept.keys().copied().collect::<Vec<_>>() {
            if !self.tended.contains_key(&task) {
                self.begin_end(task, Goal::Gone).await?;
            }
        }
        self.wait_for_all(reply);
        Ok(())
    }

    /// Handles `Halt`: the machine shuts down.
    async fn halt(&mut self, reply: RpcReplyPort<()>) -> Result<(), ActorProcessingErr> {
        self.args.scope.record(RecordKind::Task, "all tasks are stopped: the machine goes down");
        self.ending = Some(self.ending.unwrap_or(Goal::Shutdown));
        for task in self.tended.keys().copied().collect::<Vec<_>>() {
            self.set_goal(task, Goal::Shutdown);
        }
        self.wait_for_all(reply);
        Ok(())
    }

    /// Replies once no task has an actor any more.
    fn wait_for_all(&mut self, reply: RpcReplyPort<()>) {
        self.waiting.push(reply);
        self.answer_if_over();
    }

    fn answer_if_over(&mut self) {
        // A node that leaves its cluster leaves no task behind, so it waits for engines that do not answer.
        let is_listed = self.unlisted.is_empty() || self.ending != Some(Goal::Gone);
        if self.tended.is_empty() && is_listed {
            for waiting in self.waiting.drain(..) {
                // The caller may have given up waiting.
                let _ = waiting.send(());
            }
        }
    }
}

/// The tasks that an engine knows; asks until it says.
async fn all_of(engine: Arc<dyn Engine>, node: NodeId) -> Vec<Adopted> {
    let mut again = LIST_AGAIN;
    loop {
        if let Ok(Ok(found)) = timeout(LIST_PATIENCE, engine.adopt(node)).await {
            return found;
        }
        sleep(again).await;
        again = (again * 2).min(LIST_AGAIN_MAX);
    }
}
