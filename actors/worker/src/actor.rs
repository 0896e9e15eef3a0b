//! The worker: supervises the uplink, the log server and the tasks of this machine, and nothing else.
//!
//! Parent: the node. Children: `logs`, `uplink`, one `task.…` for each task that something is to be done about.
//! Hears: `Obey` (from the uplink: these are all orders now), `Confirm` (from the uplink: they are still meant), `Clear`
//! (from the node, when it leaves its cluster), `Wake`.
//! Says: `Wish` to its tasks.
//! Dies: with the node. Its tasks go on, and its successor adopts them.
//!
//! Children restart as often as it takes: an engine that fails is no reason to give up the machine.

use crate::board::Board;
use crate::engine::{Adopted, Engine, Phase};
use crate::logs::{Logs, LogsArgs};
use crate::orders::{self, Orders};
use crate::past::{Past, surplus};
use crate::task::{FORGOTTEN, Here, Plan, Task, TaskArgs, TaskMsg, Wish, label, plan};
use crate::uplink::{Uplink, UplinkArgs, UplinkMsg};
use essaim_model::{EngineKind, Observed, TaskId, TaskState};
use essaim_protocol::TaskOrder;
use essaim_system::supervisor::{Intensity, Supervision, Wake};
use essaim_system::{Address, ChildSpec, Children, RecordKind, Scope};
use essaim_wire::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the uplink may take to say its last report.
const UPLINK_SHUTDOWN: Duration = Duration::from_secs(2);

/// What the worker hears.
#[derive(RactorMessage)]
pub(crate) enum WorkerMsg {
    /// These are all orders now; they are on disk.
    Obey(Arc<Orders>),
    /// What is on disk is still meant: a manager has had the chance to say otherwise.
    Confirm,
    /// Stop and remove every task, forget the orders, and answer when that is done.
    Clear(RpcReplyPort<()>),
    /// Stop every task, keep what is left of them, and answer when they have ended.
    Halt(RpcReplyPort<()>),
    /// A delay of the supervisor is over.
    Wake(Wake),
}

/// What it starts with; its children are given parts of it.
#[derive(Clone)]
pub(crate) struct WorkerArgs {
    pub(crate) scope: Scope,
    pub(crate) here: Here,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) uplink: UplinkArgs,
    pub(crate) uplink_address: Address<UplinkMsg>,
    pub(crate) logs: LogsArgs,
    pub(crate) board: Board,
    pub(crate) confirmed: watch::Sender<bool>,
    pub(crate) me: Address<WorkerMsg>,
}

/// The actor.
pub(crate) struct Worker;

pub(crate) struct State {
    args: WorkerArgs,
    children: Children,
    orders: Arc<Orders>,
    /// Tasks that have an actor.
    tended: BTreeMap<TaskId, Tended>,
    /// Tasks of which an engine keeps something.
    kept: BTreeMap<TaskId, Kept>,
    /// Everything ends, and this is wanted of every task: no orders are taken any more.
    ending: Option<Wish>,
    /// Whoever waits for the end of everything.
    waiting: Vec<RpcReplyPort<()>>,
}

struct Tended {
    name: String,
    address: Address<TaskMsg>,
    /// What is wanted of it; a successor of its actor begins with that.
    wish: watch::Sender<Wish>,
}

struct Kept {
    engine: EngineKind,
    /// Service and slot.
    group: String,
    ended: Option<Timestamp>,
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
        };
        let started = state.start_all().await;
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
        // The actors stop; what they tend goes on without them.
        state.children.shutdown("the worker stops; its tasks go on").await;
        Ok(())
    }
}

impl State {
    async fn start_all(&mut self) -> Result<(), ActorProcessingErr> {
        let logs = self.args.logs.clone();
        self.children.start(ChildSpec::actor("logs", move |_| (Logs, logs.clone()))).await?;
        self.recall().await?;
        let (address, args) = (self.args.uplink_address.clone(), self.args.uplink.clone());
        let uplink = ChildSpec::actor_at(&address, "uplink", move |scope| (Uplink, (scope, args.clone())));
        self.children.start(uplink.shutdown(UPLINK_SHUTDOWN)).await?;
        Ok(())
    }

    /// Reads what was ordered, asks the engines what they keep, and goes on from there.
    async fn recall(&mut self) -> Result<(), ActorProcessingErr> {
        match orders::load(&*self.args.scope.env.disk) {
            Ok(found) => self.orders = Arc::new(found.unwrap_or_default()),
            // Nothing is lost: a manager says it all again to whoever has nothing.
            Err(why) => {
                self.args.scope.record(RecordKind::Note, format!("the orders on disk are of no use: {why}"));
            }
        }
        for engine in self.args.engines.clone() {
            let found = engine.adopt().await?;
            let running = found.iter().filter(|task| matches!(task.phase, Phase::Running(_))).count();
            if !found.is_empty() {
                let words = format!("found {} tasks ({}), {running} of them running", found.len(), engine.kind());
                self.args.scope.record(RecordKind::Task, words);
            }
            for Adopted { run, phase } in found {
                let ended = match phase {
                    Phase::Ended(ended) => Some(ended.at),
                    Phase::Prepared | Phase::Running(_) => None,
                };
                let group = run.name.rsplit_once('.').map_or("", |(group, _)| group).to_owned();
                self.kept.insert(run.task, Kept { engine: engine.kind(), group, ended });
            }
        }
        // Who has no orders does not know what is wanted, and stops nothing.
        if self.orders.version.is_some() { self.tend().await } else { Ok(()) }
    }

    async fn on_orders(&mut self, orders: Arc<Orders>) -> Result<(), ActorProcessingErr> {
        if self.ending.is_some() {
            return Ok(());
        }
        self.orders = orders;
        self.tend().await
    }

    /// Gives every task that something is to be done about an actor, and tells each what is wanted of it.
    async fn tend(&mut self) -> Result<(), ActorProcessingErr> {
        let orders = Arc::clone(&self.orders);
        for order in orders.tasks.values() {
            self.args.board.learn(order.id, &order.observed);
            if self.tended.contains_key(&order.id) {
                self.wish(order.id, order.desired.into());
            } else if !self.args.board.seen(order.id).is_some_and(|seen| seen.state.is_final()) {
                self.begin(order, &orders).await?;
            }
        }
        let unwanted: Vec<TaskId> = self.tended.keys().filter(|id| !orders.tasks.contains_key(id)).copied().collect();
        for task in unwanted {
            self.wish(task, Wish::Dropped);
        }
        let stray = |(id, kept): &(&TaskId, &Kept)| {
            kept.ended.is_none() && !orders.tasks.contains_key(id) && !self.tended.contains_key(id)
        };
        let strays: Vec<TaskId> = self.kept.iter().filter(stray).map(|(id, _)| *id).collect();
        for task in strays {
            self.begin_end(task, Wish::Dropped).await?;
        }
        for (task, _) in self.args.board.all() {
            if !orders.tasks.contains_key(&task) {
                self.args.board.forget(task);
            }
        }
        self.prune().await
    }

    fn wish(&self, task: TaskId, wish: Wish) {
        if let Some(tended) = self.tended.get(&task) {
            tended.wish.send_modify(|wanted| *wanted = (*wanted).max(wish));
            // An actor that is just being restarted reads what is wanted when it comes up.
            let _ = tended.address.cast(TaskMsg::Wish(wish));
        }
    }

    async fn begin(&mut self, order: &TaskOrder, orders: &Orders) -> Result<(), ActorProcessingErr> {
        let Some(spec) = orders.spec(order) else { return Ok(()) };
        let engine = self.engine(order.engine);
        if let Ok(engine) = &engine {
            let group = format!("{}.{}", spec.name, order.slot);
            self.kept.entry(order.id).or_insert(Kept { engine: engine.kind(), group, ended: None });
        }
        let plan = plan(order, spec, &self.args.here);
        let name = label(spec.name.as_str(), &order.slot, order.id);
        self.start(name, order.id, engine, Some(plan), order.desired.into(), order.observed.clone()).await
    }

    /// Ends a task that nobody ordered and of which an engine still keeps something.
    async fn begin_end(&mut self, task: TaskId, wish: Wish) -> Result<(), ActorProcessingErr> {
        let Some(kept) = self.kept.get(&task) else { return Ok(()) };
        let name = format!("task.{}.{task}", kept.group);
        let engine = self.engine(kept.engine);
        let known = Observed::nothing(self.args.scope.utc());
        self.start(name, task, engine, None, wish, known).await
    }

    async fn start(
        &mut self,
        name: String,
        task: TaskId,
        engine: Result<Arc<dyn Engine>, EngineKind>,
        plan: Option<Plan>,
        wish: Wish,
        known: Observed,
    ) -> Result<(), ActorProcessingErr> {
        let (address, wish) = (Address::new(), watch::Sender::new(wish));
        let (latest, subnet) = (wish.clone(), self.orders.subnet);
        let args = self.args.clone();
        let spec = ChildSpec::actor_at(&address, name.clone(), move |scope| {
            let arguments = TaskArgs {
                scope,
                engine: engine.clone(),
                task,
                plan: plan.clone(),
                wish: *latest.borrow(),
                known: args.board.seen(task).unwrap_or_else(|| known.clone()),
                subnet,
                board: args.board.clone(),
                confirmed: args.confirmed.subscribe(),
            };
            (Task, arguments)
        });
        self.tended.insert(task, Tended { name, address, wish });
        Ok(self.children.add(spec.transient()).await?)
    }

    /// The engine of a kind; the kind when this node has none of it.
    fn engine(&self, kind: EngineKind) -> Result<Arc<dyn Engine>, EngineKind> {
        self.args.engines.iter().find(|engine| engine.kind() == kind).cloned().ok_or(kind)
    }

    /// A task's actor has nothing left to do.
    async fn on_leave(&mut self, name: &str, forgotten: bool) -> Result<(), ActorProcessingErr> {
        let Some(task) = self.tended.iter().find(|(_, it)| it.name == name).map(|(task, _)| *task) else {
            return Ok(());
        };
        self.tended.remove(&task);
        // What was refused before it was prepared left nothing behind either.
        let refused = self.args.board.seen(task).is_some_and(|seen| seen.state == TaskState::Rejected);
        if forgotten || refused {
            self.kept.remove(&task);
        }
        if let Some(kept) = self.kept.get_mut(&task) {
            kept.ended.get_or_insert(self.args.scope.utc());
        }
        match self.ending {
            None => self.prune().await?,
            // It was about to leave when it was told to remove its task.
            Some(Wish::Gone) if self.kept.contains_key(&task) => self.begin_end(task, Wish::Gone).await?,
            Some(_) => self.answer_if_over(),
        }
        Ok(())
    }

    /// Removes what is left of the oldest tasks that nobody ordered.
    async fn prune(&mut self) -> Result<(), ActorProcessingErr> {
        let orders = Arc::clone(&self.orders);
        if orders.version.is_none() {
            return Ok(());
        }
        let past = |(task, kept): (&TaskId, &Kept)| {
            let over = !orders.tasks.contains_key(task) && !self.tended.contains_key(task);
            kept.ended.filter(|_| over).map(|ended| Past { task: *task, group: kept.group.clone(), ended })
        };
        for task in surplus(self.kept.iter().filter_map(past).collect()) {
            self.begin_end(task, Wish::Gone).await?;
        }
        Ok(())
    }

    /// The node leaves its cluster.
    async fn clear(&mut self, reply: RpcReplyPort<()>) -> Result<(), ActorProcessingErr> {
        self.args.scope.record(RecordKind::Task, "all tasks are stopped and removed: the node leaves its cluster");
        self.ending = Some(Wish::Gone);
        self.orders = Arc::default();
        let disk = Arc::clone(&self.args.scope.env.disk);
        if let Err(why) = crate::off_thread(disk, |disk| orders::forget(disk)).await {
            self.args.scope.record(RecordKind::Note, format!("the orders cannot be removed from disk: {why}"));
        }
        for task in self.tended.keys().copied().collect::<Vec<_>>() {
            self.wish(task, Wish::Gone);
        }
        for task in self.kept.keys().copied().collect::<Vec<_>>() {
            if !self.tended.contains_key(&task) {
                self.begin_end(task, Wish::Gone).await?;
            }
        }
        self.wait_for_all(reply);
        Ok(())
    }

    /// The machine goes down.
    async fn halt(&mut self, reply: RpcReplyPort<()>) -> Result<(), ActorProcessingErr> {
        self.args.scope.record(RecordKind::Task, "all tasks are stopped: the machine goes down");
        self.ending = Some(self.ending.unwrap_or(Wish::Shutdown));
        for task in self.tended.keys().copied().collect::<Vec<_>>() {
            self.wish(task, Wish::Shutdown);
        }
        self.wait_for_all(reply);
        Ok(())
    }

    /// Answers when no task has an actor any more.
    fn wait_for_all(&mut self, reply: RpcReplyPort<()>) {
        self.waiting.push(reply);
        self.answer_if_over();
    }

    fn answer_if_over(&mut self) {
        if self.tended.is_empty() {
            for waiting in self.waiting.drain(..) {
                // Whoever asked may have given up.
                let _ = waiting.send(());
            }
        }
    }
}
