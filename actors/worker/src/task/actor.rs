//! The actor of one task.
//!
//! Parent: `worker`. Children: none; each operation of the engine runs beside it and comes back as a message.
//! Hears: `Wish` (from the worker, when an order says more than before), `Confirmed`, answers of the engine.
//! Says: what it sees, to the board.
//! Dies: in order, when there is nothing left to do about its task, with [`FORGOTTEN`] when the engine has nothing of
//! it any more; its death otherwise ends no task, and its successor asks the engine how far the task is.

use super::core::{Core, Effect, Input, Wish};
use super::plan::Plan;
use crate::addresses::Addresses;
use crate::board::Board;
use crate::engine::{Engine, EngineError};
use essaim_model::{EngineKind, Observed, TaskId, TaskState};
use essaim_system::{RecordKind, Scope};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Why the actor ended: its task was removed, logs and all.
pub(crate) const FORGOTTEN: &str = "nothing is left of its task";

/// What the actor of a task hears.
#[derive(RactorMessage)]
pub(crate) enum TaskMsg {
    /// The managers want this of it, or more.
    Wish(Wish),
    /// The engine, or a delay, has answered.
    Did(Input),
    /// The engine has prepared it, or not, and this is the address it got.
    Prepared(Result<(), EngineError>, Option<IpAddr>),
}

/// What it starts with.
pub(crate) struct TaskArgs {
    pub(crate) scope: Scope,
    pub(crate) engine: Result<Arc<dyn Engine>, EngineKind>,
    pub(crate) task: TaskId,
    /// None of a task of which only the engine knows: it can be removed and nothing else.
    pub(crate) plan: Option<Plan>,
    pub(crate) wish: Wish,
    /// What the managers know of it.
    pub(crate) known: Observed,
    pub(crate) subnet: Ipv4Addr,
    pub(crate) board: Board,
    pub(crate) addresses: Addresses,
    pub(crate) confirmed: watch::Receiver<bool>,
}

/// The actor.
pub(crate) struct Task;

pub(crate) struct State {
    args: TaskArgs,
    core: Core,
    effects: Vec<Effect>,
    /// Dropped with the actor: nothing of it goes on.
    operations: JoinSet<()>,
    removed: bool,
}

impl Actor for Task {
    type Msg = TaskMsg;
    type State = State;
    type Arguments = TaskArgs;

    async fn pre_start(&self, myself: ActorRef<TaskMsg>, args: TaskArgs) -> Result<State, ActorProcessingErr> {
        let mut effects = Vec::new();
        let confirmed = *args.confirmed.borrow();
        let core = Core::new(args.wish, &args.known, confirmed, &mut effects);
        let mut state = State { args, core, effects, operations: JoinSet::new(), removed: false };
        if !confirmed {
            let mut confirmed = state.args.confirmed.clone();
            state.spawn(&myself, async move {
                if confirmed.wait_for(|confirmed| *confirmed).await.is_err() {
                    // The worker has ended, and this actor with it.
                    std::future::pending::<()>().await;
                }
                TaskMsg::Did(Input::Confirmed)
            });
        }
        state.perform(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<TaskMsg>,
        message: TaskMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while state.operations.try_join_next().is_some() {}
        match message {
            TaskMsg::Wish(wish) => state.feed(&myself, Input::Wish(wish)),
            TaskMsg::Did(input) => state.feed(&myself, input),
            TaskMsg::Prepared(done, address) => {
                state.core.set_address(address);
                state.feed(&myself, Input::Prepared(done));
            }
        }
        Ok(())
    }
}

impl State {
    fn feed(&mut self, myself: &ActorRef<TaskMsg>, input: Input) {
        if let Input::Found(Ok(Some(_))) = input {
            self.core.set_address(self.args.addresses.of(self.args.task));
        }
        if matches!(input, Input::Removed(Ok(()))) {
            self.removed = true;
        }
        let (now, utc) = (self.args.scope.now(), self.args.scope.utc());
        self.core.handle(now, utc, input, &mut self.effects);
        self.perform(myself);
    }

    fn perform(&mut self, myself: &ActorRef<TaskMsg>) {
        let task = self.args.task;
        for effect in std::mem::take(&mut self.effects) {
            if let Err(kind) = self.args.engine
                && let Some(answer) = without(kind, &effect)
            {
                let _ = myself.cast(answer);
                continue;
            }
            match effect {
                Effect::Find => {
                    self.ask(myself, move |engine| async move { Input::Found(engine.phase(task).await) });
                }
                Effect::Prepare => self.prepare(myself),
                Effect::Start => {
                    self.ask(myself, move |engine| async move { Input::Started(engine.start(task).await) });
                }
                Effect::Wait => {
                    self.ask(myself, move |engine| async move { Input::Ended(engine.wait(task).await) });
                }
                Effect::Stop => {
                    let (signal, grace) = match &self.args.plan {
                        Some(plan) => (plan.stop_signal, plan.stop_grace),
                        None => Default::default(),
                    };
                    self.ask(
                        myself,
                        move |engine| async move { Input::Stopped(engine.stop(task, signal, grace).await) },
                    );
                }
                Effect::Remove => {
                    self.ask(myself, move |engine| async move { Input::Removed(engine.remove(task).await) });
                }
                Effect::Observe(seen) => self.observe(seen),
                Effect::WakeAt(at, wake) => {
                    let after = at.saturating_since(self.args.scope.now());
                    myself.send_after(after, move || TaskMsg::Did(Input::Elapsed(wake)));
                }
                Effect::Done => self.leave(myself),
            }
        }
    }

    /// Has the engine do something, and hears of it when it is done.
    fn ask<F>(&mut self, myself: &ActorRef<TaskMsg>, what: impl FnOnce(Arc<dyn Engine>) -> F)
    where
        F: Future<Output = Input> + Send + 'static,
    {
        if let Ok(engine) = &self.args.engine {
            let asked = what(Arc::clone(engine));
            self.spawn(myself, async move { TaskMsg::Did(asked.await) });
        }
    }

    fn prepare(&mut self, myself: &ActorRef<TaskMsg>) {
        let (Ok(engine), Some(mut plan)) = (self.args.engine.clone(), self.args.plan.clone()) else { return };
        let (task, subnet, addresses) = (self.args.task, self.args.subnet, self.args.addresses.clone());
        self.spawn(myself, async move {
            if engine.kind() == EngineKind::Process {
                match claim(&*engine, &addresses, task, subnet).await {
                    Some(address) => plan.set_address(address),
                    None => {
                        let why = format!("no loopback address of {subnet}/24 is free on this node");
                        return TaskMsg::Prepared(Err(EngineError::Failed(why)), None);
                    }
                }
            }
            TaskMsg::Prepared(engine.prepare(&plan.run).await, plan.run.address)
        });
    }

    fn observe(&mut self, seen: Observed) {
        let mut words = format!("{}: {}", seen.state.as_str(), seen.message);
        if let Some(error) = &seen.error {
            words.push_str(": ");
            words.push_str(error);
        }
        self.args.scope.record(RecordKind::Task, words);
        if seen.state.is_final() {
            self.args.addresses.release(self.args.task);
        }
        if seen.state == TaskState::Running {
            // Found again after a restart of this actor: the engine remembers the address.
            self.args.addresses.keep(self.args.task, seen.address);
        }
        self.args.board.observe(self.args.task, seen);
    }

    fn leave(&self, myself: &ActorRef<TaskMsg>) {
        self.args.addresses.release(self.args.task);
        let why = if self.removed { FORGOTTEN } else { "nothing is left to do about its task" };
        myself.stop(Some(why.into()));
    }

    fn spawn(&mut self, myself: &ActorRef<TaskMsg>, what: impl Future<Output = TaskMsg> + Send + 'static) {
        let myself = myself.clone();
        self.operations.spawn(async move {
            let message = what.await;
            // An actor that has ended does not want to hear it.
            let _ = myself.cast(message);
        });
    }
}

/// What there is to say for an engine that this node does not have.
fn without(kind: EngineKind, effect: &Effect) -> Option<TaskMsg> {
    match effect {
        Effect::Find => Some(TaskMsg::Did(Input::Found(Ok(None)))),
        Effect::Prepare => {
            let why = format!("this node has no {kind} engine");
            Some(TaskMsg::Prepared(Err(EngineError::Rejected(why)), None))
        }
        Effect::Remove => Some(TaskMsg::Did(Input::Removed(Ok(())))),
        _ => None,
    }
}

/// An address that is free here and on the machine.
async fn claim(engine: &dyn Engine, addresses: &Addresses, task: TaskId, subnet: Ipv4Addr) -> Option<IpAddr> {
    if let Some(address) = addresses.of(task) {
        return Some(address);
    }
    for address in addresses.candidates(subnet) {
        // Taken first, so that two tasks never ask the machine for the same.
        if addresses.take(task, address) {
            if engine.is_free(address.into()).await {
                return Some(address.into());
            }
            addresses.release(task);
        }
    }
    None
}
