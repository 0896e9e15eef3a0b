//! `…/leader/service.X`: the actor that reconciles, updates and restarts the tasks of one service.
//!
//! Parent: `leader`. Children: none.
//! Hears: that something about its service changed (one notification, however much it was), the outcome of its plan, that
//! a wake-up is due. Says: plans to `scheduler`.
//! Dies: with `leader`, or when its service is removed. Started again it looks at the state, and has lost only the
//! times since when tasks run.

use crate::leader::context::Context;
use crate::leader::scheduler::{self, Answer, Want};
use essaim_model::{Refusal, Service, ServiceId, UpdateState};
use essaim_policy::{Scene, Watch, reconcile};
use essaim_system::journal::RecordKind;
use essaim_system::{Notifier, Scope, Timer};
use essaim_wire::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::sync::Arc;
use std::time::Duration;

/// Wait after a plan that was refused: the change that took its basis away may still be going on.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The actor of one service.
pub(in crate::leader) struct ServiceActor;

/// Arguments of [`ServiceActor`].
pub(in crate::leader) struct Arguments {
    pub(in crate::leader) scope: Scope,
    pub(in crate::leader) context: Arc<Context>,
    pub(in crate::leader) id: ServiceId,
    pub(in crate::leader) notifier: Notifier<Msg>,
}

/// Messages to [`ServiceActor`].
#[derive(RactorMessage)]
pub(in crate::leader) enum Msg {
    /// Something about the service changed.
    Look,
    /// The outcome of the plan under way.
    Settled(Result<(), Refusal>),
    /// The wake-up is due; an older number is stale.
    Elapsed(u64),
}

/// State of [`ServiceActor`].
pub(in crate::leader) struct State {
    scope: Scope,
    context: Arc<Context>,
    id: ServiceId,
    notifier: Notifier<Msg>,
    watch: Watch,
    /// Whether a plan is under way.
    planned: bool,
    wake: u64,
    timer: Timer,
    told: Option<(Timestamp, UpdateState)>,
}

impl Actor for ServiceActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, _: ActorRef<Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let Arguments { scope, context, id, notifier } = arguments;
        let told = context.store.state().service(id).and_then(|service| told(service));
        Ok(State {
            scope,
            context,
            id,
            notifier,
            watch: Watch::default(),
            planned: false,
            wake: 0,
            timer: Timer::default(),
            told,
        })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.look(&myself);
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Look => state.look(&myself),
            Msg::Settled(Ok(())) => {
                state.planned = false;
                state.look(&myself);
            }
            Msg::Settled(Err(refusal)) => {
                state.planned = false;
                state
                    .scope
                    .record(RecordKind::Service, format!("its plan was not carried out, and is made anew: {refusal}"));
                state.wake_after(&myself, AGAIN_AFTER);
            }
            Msg::Elapsed(wake) if wake == state.wake => state.look(&myself),
            Msg::Elapsed(_) => (),
        }
        Ok(())
    }
}

impl State {
    fn look(&mut self, myself: &ActorRef<Msg>) {
        self.notifier.take();
        if self.planned {
            // The actor looks again when the plan under way has its outcome.
            return;
        }
        let context = Arc::clone(&self.context);
        let cluster = context.store.state();
        let Some(service) = cluster.service(self.id) else { return };
        self.tell(service);
        let now = context.store.now();
        let released = Arc::clone(&context.released.borrow());
        let scene = Scene { state: &cluster, now, released: &released };
        let plan = reconcile(&scene, service, &mut self.watch);
        if let Some(again) = plan.again {
            // One millisecond is added, so that the time has certainly come when the timer fires.
            self.wake_after(myself, again.saturating_since(now) + Duration::from_millis(1));
        }
        for note in &plan.notes {
            self.scope.record(RecordKind::Service, note.as_str());
        }
        if !plan.is_empty() {
            self.planned = true;
            let seen = cluster.applied().index;
            let want = Want { service: self.id, plan, seen, answer: Answer::to(myself.clone()) };
            // When the scheduler is gone, dropping the plan answers that it was lost.
            let _ = context.scheduler.address().cast(scheduler::Msg::Want(Box::new(want)));
        }
    }

    fn wake_after(&mut self, myself: &ActorRef<Msg>, after: Duration) {
        self.wake += 1;
        let wake = self.wake;
        self.timer.arm(myself, after, move || Msg::Elapsed(wake));
    }

    /// Writes a record of how an update proceeds.
    fn tell(&mut self, service: &Service) {
        let now = told(service);
        if let (true, Some(update)) = (now != self.told, &service.update) {
            self.scope.record(RecordKind::Service, update.message.clone());
        }
        self.told = now;
    }
}

fn told(service: &Service) -> Option<(Timestamp, UpdateState)> {
    service.update.as_ref().map(|update| (update.started_at, update.state))
}
