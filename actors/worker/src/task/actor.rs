//! The actor of one task.
//!
//! Parent: `worker`. Children: none; each operation of the engine runs beside the actor and comes back as a message.
//! Hears: `Goal` (from the worker, when an order asks for more than before), the confirmation of the orders, answers of
//! the engine.
//! Says: observations of its task.
//! Dies: in order, when nothing is left to do about its task; with the reason [`FORGOTTEN`] when the engine has
//! forgotten the task. Any other death ends no task: the restarted actor asks the engine for the task's phase.

use super::core::{Core, Effect, Goal, Input};
use super::execution::Execution;
use crate::engine::{Engine, EngineError, Observation, Phase, Progress};
use crate::machine::EngineDescriptions;
use crate::mesh::{DRAIN_MAX, Mesh};
use crate::observations::Observations;
use essaim_model::{EngineKind, Observed, TaskId, TaskState};
use essaim_system::{RecordKind, Scope, Timer};
use essaim_wire::planted::{Bug, planted};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Shortest interval between progress messages of a preparation that are reported: each costs a commit.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Time that an engine may take to answer a question: longer than the twenty seconds that Swarm gives it.
const ASK_PATIENCE: Duration = Duration::from_secs(30);

/// Time that an engine may take to start or remove a task: these mount and unpack, on a disk that may be busy.
const WORK_PATIENCE: Duration = Duration::from_secs(150);

/// Time beyond its grace that a stop may take: the kill, and the unmounting after it.
const STOP_MARGIN: Duration = Duration::from_secs(60);

/// Time for which an engine may say nothing of a preparation. A pull as a whole has no bound: an image may be large, and
/// a registry slow.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Exit reason of the actor when its task was removed with its logs.
pub(crate) const FORGOTTEN: &str = "nothing is left of its task";

/// Messages to a task's actor.
#[derive(RactorMessage)]
pub(crate) enum TaskMsg {
    /// The goal of the managers for the task, equal to or beyond the earlier one.
    Goal(Goal),
    /// The task is to end, because this node has had no manager for the length of its lease.
    LeaseLapsed,
    /// An operation of the engine, or a delay, has ended.
    Did(Input),
}

/// Start arguments of a task's actor.
pub(crate) struct TaskArgs {
    pub(crate) scope: Scope,
    pub(crate) engine: Result<Arc<dyn Engine>, EngineKind>,
    pub(crate) task: TaskId,
    /// How to run the task; none for a task that only the engine knows, which can be stopped and removed only. Before the
    /// orders are confirmed it may lack the credentials for a registry.
    pub(crate) execution: watch::Receiver<Option<Execution>>,
    pub(crate) goal: Goal,
    /// The observation of the task that the managers have.
    pub(crate) known: Observed,
    pub(crate) subnet: Ipv4Addr,
    pub(crate) observations: Observations,
    pub(crate) confirmed: watch::Receiver<bool>,
    pub(crate) descriptions: EngineDescriptions,
    pub(crate) mesh: Mesh,
}

/// The actor of one task.
pub(crate) struct Task;

pub(crate) struct State {
    args: TaskArgs,
    core: Core,
    effects: Vec<Effect>,
    timer: Timer,
    /// Operations of the engine under way; dropped, and so ended, with the actor.
    operations: JoinSet<()>,
    /// Handle of the preparation under way, which can be aborted.
    preparing: Option<AbortHandle>,
    /// State of the task in its latest journal record.
    recorded: Option<TaskState>,
    removed: bool,
}

impl Actor for Task {
    type Msg = TaskMsg;
    type State = State;
    type Arguments = TaskArgs;

    async fn pre_start(&self, myself: ActorRef<TaskMsg>, args: TaskArgs) -> Result<State, ActorProcessingErr> {
        let mut effects = Vec::new();
        let confirmed = *args.confirmed.borrow();
        let core = Core::new(args.goal, &args.known, confirmed, &mut effects);
        let mut state = State {
            args,
            core,
            effects,
            timer: Timer::default(),
            operations: JoinSet::new(),
            preparing: None,
            recorded: None,
            removed: false,
        };
        if !confirmed {
            let mut confirmed = state.args.confirmed.clone();
            let (observations, task) = (state.args.observations.clone(), state.args.task);
            state.spawn(&myself, async move {
                if confirmed.wait_for(|confirmed| *confirmed).await.is_err() {
                    // The worker has ended, and this actor ends with it.
                    std::future::pending::<()>().await;
                }
                // The orders that were confirmed say what the managers know.
                let known = observations.seen(task).map_or(TaskState::New, |seen| seen.state);
                TaskMsg::Did(Input::Confirmed(known))
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
            TaskMsg::Goal(goal) => state.feed(&myself, Input::Goal(goal)),
            TaskMsg::LeaseLapsed => state.feed(&myself, Input::LeaseLapsed),
            TaskMsg::Did(input) => state.feed(&myself, input),
        }
        Ok(())
    }
}

impl State {
    fn feed(&mut self, myself: &ActorRef<TaskMsg>, input: Input) {
        if matches!(input, Input::Removed(Ok(()))) {
            self.removed = true;
        }
        if input.is_silence() {
            self.args.descriptions.doubt();
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
                    let tells = self.tells_ports(myself);
                    self.ask(myself, ASK_PATIENCE, Input::Found, move |engine| async move {
                        let phase = engine.phase(task).await?;
                        if matches!(phase, Some(Phase::Running(_))) {
                            tells(&*engine).await?;
                        }
                        Ok(phase)
                    });
                }
                Effect::Claim => {
                    let subnet = self.args.subnet;
                    self.ask(myself, ASK_PATIENCE, Input::Claimed, move |engine| async move {
                        engine.claim(task, subnet).await
                    });
                }
                Effect::Prepare => self.prepare(myself),
                Effect::Abandon => {
                    if let Some(preparing) = self.preparing.take() {
                        preparing.abort();
                    }
                }
                Effect::Start => {
                    let tells = self.tells_ports(myself);
                    self.ask(myself, WORK_PATIENCE, Input::Started, move |engine| async move {
                        let started = engine.start(task).await?;
                        tells(&*engine).await?;
                        Ok(started)
                    });
                }
                Effect::Watch => {
                    self.open_door();
                    self.watch(myself);
                }
                Effect::Stop => {
                    // No connection to a published port comes in from here on. Those that are inside get a while to end,
                    // and then the task gets its signal.
                    let empty = self.args.mesh.doors().close(task);
                    let drain = if self.core.is_pressed() { Duration::ZERO } else { DRAIN_MAX };
                    let (signal, grace) = match &*self.args.execution.borrow() {
                        Some(execution) => (execution.stop_signal, execution.stop_grace),
                        None => Default::default(),
                    };
                    let patience = grace.saturating_add(STOP_MARGIN).saturating_add(drain);
                    self.ask(myself, patience, Input::Stopped, move |engine| async move {
                        // A connection that stays open does not keep the task.
                        let _ = tokio::time::timeout(drain, empty).await;
                        engine.stop(task, signal, grace).await
                    });
                }
                Effect::Remove => {
                    // What the engine removes, it may have to kill.
                    self.args.mesh.doors().remove(task);
                    self.ask(
                        myself,
                        WORK_PATIENCE,
                        Input::Removed,
                        move |engine| async move { engine.remove(task).await },
                    );
                }
                Effect::Observe(seen) => self.observe(seen),
                Effect::WakeAt(at, wake) => {
                    let after = at.saturating_since(self.args.scope.now());
                    self.timer.arm(myself, after, move || TaskMsg::Did(Input::Elapsed(wake)));
                }
                Effect::Done => self.leave(myself),
            }
        }
    }

    /// Starts an operation of the engine beside the actor; its result, or that there was none in time, comes back as a
    /// message.
    fn ask<T, F>(
        &mut self,
        myself: &ActorRef<TaskMsg>,
        patience: Duration,
        input: fn(Result<T, EngineError>) -> Input,
        what: impl FnOnce(Arc<dyn Engine>) -> F,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        if let Ok(engine) = &self.args.engine {
            let asked = what(Arc::clone(engine));
            self.spawn(myself, async move {
                let answer = tokio::time::timeout(patience, asked).await;
                TaskMsg::Did(input(answer.unwrap_or_else(|_| Err(unanswered(patience)))))
            });
        }
    }

    /// An operation that has the engine tell under which numbers the ports in host mode are published, if the service names
    /// none for some.
    fn tells_ports(
        &self,
        myself: &ActorRef<TaskMsg>,
    ) -> impl FnOnce(&dyn Engine) -> BoxFuture<'_, Result<(), EngineError>> + Send + 'static {
        let has_open = self.args.execution.borrow().as_ref().is_some_and(|execution| execution.has_open_numbers)
            && !planted(Bug::HostNumberUntold);
        let (task, hears) = (self.args.task, myself.clone());
        move |engine| {
            async move {
                if has_open {
                    let ports = engine.host_ports(task).await?;
                    // The actor may have ended meanwhile.
                    let _ = hears.cast(TaskMsg::Did(Input::Published(ports)));
                }
                Ok(())
            }
            .boxed()
        }
    }

    fn prepare(&mut self, myself: &ActorRef<TaskMsg>) {
        let execution = self.args.execution.borrow().clone();
        let (Ok(engine), Some(mut execution)) = (self.args.engine.clone(), execution) else { return };
        if let Some(address) = self.core.address() {
            execution.set_address(address);
        }
        let numbered = execution.number_ports(|protocol| self.args.mesh.choose_host_port(self.args.task, protocol));
        let hears = myself.clone();
        let preparing = self.spawn(myself, async move {
            let (progress, mut latest) = Progress::new();
            let prepared = async {
                numbered?;
                if execution.has_templates() {
                    execution.expand(&engine.describe().await?.platform)?;
                }
                execution.check_payloads()?;
                if let Some(interactive) = engine.interactive().filter(|_| execution.has_ports()) {
                    interactive.check_network().await?;
                }
                execution.run.resolved = engine.resolve(&execution.run.container.image).await?;
                engine.prepare(&execution.run, &execution.payloads, &progress).await
            };
            // Ends when the engine has been silent for too long.
            let tell = async {
                while let Ok(Ok(())) = tokio::time::timeout(SILENCE_MAX, latest.changed()).await {
                    let words = latest.borrow_and_update().clone();
                    // The actor may have ended meanwhile.
                    let _ = hears.cast(TaskMsg::Did(Input::Progress(words)));
                    tokio::time::sleep(PROGRESS_EVERY).await;
                }
            };
            tokio::select! {
                biased;
                done = prepared => TaskMsg::Did(Input::Prepared(done)),
                () = tell => TaskMsg::Did(Input::Prepared(Err(unanswered(SILENCE_MAX)))),
            }
        });
        self.preparing = Some(preparing);
    }

    /// Opens the way to a task that was started, if it publishes ports.
    fn open_door(&self) {
        let published = self.args.execution.borrow().as_ref().and_then(|execution| execution.published.clone());
        if let (Some(published), Ok(engine)) = (published, &self.args.engine) {
            let published = published.numbered(self.core.ports());
            self.args.mesh.doors().open(self.args.task, published, Arc::clone(engine));
        }
    }

    /// Passes the engine's observations of the started task to the core, one by one.
    fn watch(&mut self, myself: &ActorRef<TaskMsg>) {
        let Ok(engine) = self.args.engine.clone() else { return };
        let (task, hears) = (self.args.task, myself.clone());
        self.spawn(myself, async move {
            let mut seen = engine.observe(task);
            while let Some(next) = seen.next().await {
                if matches!(next, Ok(Observation::Ended(_)) | Err(_)) {
                    return TaskMsg::Did(Input::Observed(next));
                }
                let _ = hears.cast(TaskMsg::Did(Input::Observed(next)));
            }
            let why = EngineError::NoAnswer("the engine watches the task no longer".into());
            TaskMsg::Did(Input::Observed(Err(why)))
        });
    }

    fn observe(&mut self, seen: Observed) {
        // Progress of a preparation becomes the task's message but no journal record, because it would fill the
        // journal.
        if self.recorded != Some(seen.state) || seen.health.is_some() {
            let mut words = format!("{}: {}", seen.state.as_str(), seen.message);
            if let Some(error) = &seen.error {
                words.push_str(": ");
                words.push_str(error);
            }
            self.args.scope.record(RecordKind::Task, words);
            self.recorded = Some(seen.state);
        }
        if seen.state.is_final() {
            self.release();
        }
        self.args.observations.observe(self.args.task, seen);
    }

    fn leave(&self, myself: &ActorRef<TaskMsg>) {
        self.release();
        let why = if self.removed { FORGOTTEN } else { "nothing is left to do about its task" };
        myself.stop(Some(why.into()));
    }

    /// Releases the address, the files and the door of a task that has ended.
    fn release(&self) {
        self.args.mesh.doors().remove(self.args.task);
        if let Ok(engine) = &self.args.engine {
            engine.release(self.args.task);
        }
    }

    fn spawn(
        &mut self,
        myself: &ActorRef<TaskMsg>,
        what: impl Future<Output = TaskMsg> + Send + 'static,
    ) -> AbortHandle {
        let myself = myself.clone();
        self.operations.spawn(async move {
            let message = what.await;
            // The actor may have ended meanwhile.
            let _ = myself.cast(message);
        })
    }
}

fn unanswered(patience: Duration) -> EngineError {
    EngineError::NoAnswer(format!("the engine does not answer within {} s", patience.as_secs()))
}

/// The answer to an effect on behalf of an engine that this node does not have.
fn without(kind: EngineKind, effect: &Effect) -> Option<TaskMsg> {
    match effect {
        Effect::Find => Some(TaskMsg::Did(Input::Found(Ok(None)))),
        Effect::Claim => {
            let why = format!("this node has no {kind} engine");
            Some(TaskMsg::Did(Input::Claimed(Err(EngineError::Rejected(why)))))
        }
        Effect::Remove => Some(TaskMsg::Did(Input::Removed(Ok(())))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::cluster::{Cluster, World};
    use crate::fixture::{assignment, order, spec};
    use essaim_model::{EndpointSpec, PortConfig, PortProtocol, PublishMode, TaskState};
    use essaim_system::env::SimDisk;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_task_with_a_published_port_is_rejected_where_its_engine_has_no_network() {
        let publishing = |mode| {
            let (name, protocol) = (String::new(), PortProtocol::Tcp);
            let port = PortConfig { name, protocol, target: 80, published: 8080, mode };
            let mut orders = assignment(6, &[order(1)]);
            let endpoint = Some(EndpointSpec { ports: vec![port], ..EndpointSpec::default() });
            orders.specs[0].2 = Arc::new(essaim_model::ServiceSpec { endpoint, ..spec() });
            orders
        };
        for mode in [PublishMode::Ingress, PublishMode::Host] {
            let world = World::of(Cluster::new(assignment(5, &[])), Arc::new(SimDisk::new())).await;
            world.machine.take_network();
            world.until("linked", |world| world.cluster.linked().is_some()).await;
            world.cluster.order(publishing(mode));
            let rejected = world.until_reported(order(1).id, TaskState::Rejected).await;
            assert_eq!(rejected.error.as_deref(), Some("tasks have no network here"));
        }
        let world = World::of(Cluster::new(assignment(5, &[])), Arc::new(SimDisk::new())).await;
        world.machine.take_network();
        world.until("linked", |world| world.cluster.linked().is_some()).await;
        world.cluster.order(assignment(6, &[order(1)]));
        world.until_reported(order(1).id, TaskState::Running).await;
    }
}
