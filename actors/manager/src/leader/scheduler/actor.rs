//! `…/leader/scheduler`: the actor that turns the plans of services into proposals, one batch after the other.
//!
//! Parent: `leader`. Children: none.
//! Hears: what services want, that an entry was applied, the outcome of its proposal, that a wake-up is due. Says: the
//! outcome of its plan to each service; proposals to the store.
//! Dies: with `leader`. Started again it builds its board from the state. The plans that it held are lost, and their
//! services are told so.

use super::Answer;
use crate::feed::Subscription;
use crate::leader::context::{Context, Errand};
use essaim_model::{Assigned, Change, Refusal, RefusalKind, ServiceId};
use essaim_policy::{Board, Plan, Retried};
use essaim_store::{Advance, Room};
use essaim_system::journal::RecordKind;
use essaim_system::{Scope, Timer};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Index, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Plans that may wait: each service has at most one, so the bound is beyond any cluster. More are refused.
const WANTS_MAX: usize = 100_000;

/// Tasks by which each look spreads the cost of checking the board against the state (feature `checks`): the board is
/// checked once in as many looks as the state has tasks, divided by this number.
const CHECKED_PER_LOOK: usize = 16;

/// Wait after a proposal that reached no quorum, or whose outcome is unknown.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The actor that places tasks on nodes.
pub(in crate::leader) struct SchedulerActor;

/// The plan of a service, with what the scheduler needs to carry it out.
pub(in crate::leader) struct Want {
    pub(in crate::leader) service: ServiceId,
    pub(in crate::leader) plan: Plan,
    /// The log index of the state that the plan was made from.
    pub(in crate::leader) seen: Index,
    /// Tells the service the outcome of its plan.
    pub(in crate::leader) answer: Answer,
}

/// Messages to [`SchedulerActor`].
#[derive(RactorMessage)]
pub(in crate::leader) enum Msg {
    /// A service has a plan.
    Want(Box<Want>),
    /// The store applied an entry of the log.
    Look,
    /// The outcome of each part of the proposal under way.
    Proposed(Vec<(Part, Result<Index, Refusal>)>),
    /// The wake-up for waiting tasks is due; an older number is stale.
    Elapsed(u64),
}

/// The changes of one service in a batch; with `from: None`, the changes of tasks that waited.
pub(in crate::leader) struct Part {
    changes: Vec<Change>,
    from: Option<(ServiceId, Answer)>,
}

/// State of [`SchedulerActor`].
pub(in crate::leader) struct State {
    scope: Scope,
    context: Arc<Context>,
    wants: VecDeque<Want>,
    board: Board,
    _subscription: Subscription,
    proposing: Option<Errand>,
    /// The wake-up at which waiting tasks are tried again although the state has not changed.
    again: Option<Again>,
    wakes: u64,
    /// Looks at the state since the board was last checked against it; see [`State::check`].
    unchecked: usize,
}

/// An armed wake-up for waiting tasks.
struct Again {
    at: Timestamp,
    number: u64,
    _timer: Timer,
}

impl Actor for SchedulerActor {
    type Msg = Msg;
    type State = State;
    type Arguments = (Scope, Arc<Context>);

    async fn pre_start(
        &self,
        _: ActorRef<Msg>,
        (scope, context): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let (cluster, subscription) = context.feed.subscribe(&context.scheduler);
        let board = Board::new(&cluster);
        let wants = VecDeque::new();
        Ok(State {
            scope,
            context,
            wants,
            board,
            _subscription: subscription,
            proposing: None,
            again: None,
            wakes: 0,
            unchecked: 0,
        })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.place(&myself);
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Want(want) if state.wants.len() >= WANTS_MAX => {
                let refusal = Refusal::new(RefusalKind::Unknown, "too many services want something at once");
                want.answer.tell(Err(refusal));
            }
            Msg::Want(want) => {
                state.wants.push_back(*want);
                state.place(&myself);
            }
            Msg::Look => state.place(&myself),
            Msg::Proposed(parts) => {
                state.proposing = None;
                state.settle(parts);
                state.place(&myself);
            }
            Msg::Elapsed(number) => {
                if state.again.take_if(|again| again.number == number).is_some() {
                    state.place(&myself);
                }
            }
        }
        Ok(())
    }
}

impl State {
    /// Makes a batch of the plans and of the tasks that wait, and proposes it, unless a proposal is under way.
    fn place(&mut self, myself: &ActorRef<Msg>) {
        if self.proposing.is_some() {
            return;
        }
        let cluster = self.follow();
        self.check(&cluster);
        let now = self.context.store.now();
        let mut parts = Vec::new();
        let mut room = Room::new();
        while let Some(want) = self.wants.pop_front_if(|want| Self::has_room(&mut room, want)) {
            parts.push(self.fulfil(&cluster, want, now, &mut room));
        }
        if self.board.has_pending() {
            let Retried { changes, again } = self.board.assign_pending(&cluster, now, &mut |change| room.take(change));
            if !changes.is_empty() {
                parts.push(Part { changes, from: None });
            }
            self.wake_at(myself, now, again);
        }
        if !parts.is_empty() {
            let (context, myself) = (Arc::clone(&self.context), myself.clone());
            self.proposing = Some(Errand::run(async move {
                let settled = propose(&context, parts).await;
                // The cast fails only when the actor has ended, and then no answer is needed.
                let _ = myself.cast(Msg::Proposed(settled));
            }));
        }
    }

    /// Arms the wake-up for waiting tasks at `at`, in place of an earlier wake-up; `None` disarms it.
    fn wake_at(&mut self, myself: &ActorRef<Msg>, now: Timestamp, at: Option<Timestamp>) {
        let Some(at) = at else { return self.again = None };
        if self.again.as_ref().is_some_and(|again| again.at == at) {
            return;
        }
        self.wakes += 1;
        let number = self.wakes;
        let mut timer = Timer::default();
        // One millisecond is added, so that the tasks are certainly due when the timer fires.
        let after = at.saturating_since(now) + Duration::from_millis(1);
        timer.arm(myself, after, move || Msg::Elapsed(number));
        self.again = Some(Again { at, number, _timer: timer });
    }

    /// Brings the board up to the applied entries, and returns the state that the board now describes.
    fn follow(&mut self) -> Arc<essaim_model::State> {
        // The feed is pulled here, because its notification may come later: services plan from the newest state, and
        // the board must contain what was proposed last.
        let newest = self.context.feed.pull();
        match self.context.scheduler.take() {
            Some(Advance { state, events: Some(events), .. }) => {
                events.iter().for_each(|event| self.board.note(&state, event));
                state
            }
            Some(Advance { state, events: None, .. }) => {
                self.board = Board::new(&state);
                state
            }
            None => newest,
        }
    }

    /// Checks the board against the state when no proposal is under way (feature `checks`, for the simulator): every
    /// booking must be a task of the state. A booking that was neither proposed nor taken back would take up room for
    /// ever. The more tasks there are, the more rarely the check runs.
    fn check(&mut self, cluster: &essaim_model::State) {
        self.unchecked += 1;
        if cfg!(feature = "checks") && self.unchecked * CHECKED_PER_LOOK > cluster.tasks().len() {
            self.unchecked = 0;
            if let Some(phantom) = self.board.find_phantom(cluster) {
                panic!("the board differs from the state at index {}: {phantom}", cluster.applied().index.0);
            }
        }
    }

    /// Takes room in the proposal for the first change of a plan; `false` when the plan has to wait for the next
    /// proposal.
    fn has_room(room: &mut Room, want: &Want) -> bool {
        room.take(&Change::CarryOutPlan { service: want.service, seen: want.seen })
    }

    /// Turns a plan into the changes of one part, with a node for each new task, as far as the proposal has room. The
    /// service asks again for what did not fit.
    fn fulfil(&mut self, cluster: &essaim_model::State, want: Want, now: Timestamp, room: &mut Room) -> Part {
        let Want { service, plan, seen, answer } = want;
        let mut changes = vec![Change::CarryOutPlan { service, seen }];
        let planned = plan.changes.len();
        changes.extend(plan.changes.into_iter().take_while(|change| room.take(change)));
        changes.iter().for_each(|change| self.board.expect(change));
        // New tasks come only after all changes of the plan, because a slot is vacated before it is filled again.
        if changes.len() == 1 + planned {
            let (seed, room) = (&self.scope.env.seed, &mut |change: &Change| room.take(change));
            changes.extend(self.board.create_tasks(cluster, now, &plan.wanted, &mut || seed.draw_id(), room));
        }
        Part { changes, from: Some((service, answer)) }
    }

    fn settle(&mut self, parts: Vec<(Part, Result<Index, Refusal>)>) {
        let cluster = self.follow();
        for (part, settled) in parts {
            if settled.is_ok() {
                self.tell(&cluster, &part);
            } else if !planted(Bug::RefusedStaysBooked) {
                self.board.retract(&cluster, &part.changes);
            }
            if let Some((_, answer)) = part.from {
                answer.tell(settled.map(|_| ()));
            }
        }
    }

    /// Writes a record of how many tasks of the part were placed, and why others wait.
    fn tell(&self, cluster: &essaim_model::State, part: &Part) {
        let (mut placed, mut waiting) = (0, None);
        for change in &part.changes {
            match change {
                Change::CreateTask(task) => match &task.assigned {
                    Assigned::Node(_) => placed += 1,
                    Assigned::Pending { reason } => waiting = Some(reason.as_str()),
                },
                Change::AssignTask { .. } => placed += 1,
                Change::PendTask { reason, .. } => waiting = Some(reason.as_str()),
                _ => (),
            }
        }
        let name = part.from.as_ref().and_then(|(id, _)| cluster.service(*id)).map(|it| it.spec.name.as_str());
        let whose = name.map_or_else(|| "tasks that waited".to_owned(), |name| format!("tasks of {name}"));
        match (placed, waiting) {
            (0, None) => (),
            (0, Some(why)) => drop(self.scope.record(RecordKind::Task, format!("{whose} wait: {why}"))),
            (placed, None) => drop(self.scope.record(RecordKind::Task, format!("{whose} placed: {placed}"))),
            (placed, Some(why)) => {
                self.scope.record(RecordKind::Task, format!("{whose} placed: {placed}; others wait: {why}"));
            }
        }
    }
}

/// Proposes all parts together, and one by one when the proposal was refused because of one part.
async fn propose(context: &Context, parts: Vec<Part>) -> Vec<(Part, Result<Index, Refusal>)> {
    let all = parts.iter().flat_map(|part| part.changes.iter().cloned()).collect();
    match context.propose(all).await {
        Err(refusal) if parts.len() > 1 && is_about_one_part(&refusal) => {
            let mut settled = Vec::with_capacity(parts.len());
            for part in parts {
                let outcome = context.propose(part.changes.clone()).await;
                settled.push((part, outcome));
            }
            settled
        }
        outcome => {
            if outcome.as_ref().is_err_and(|refusal| !is_about_one_part(refusal)) {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            parts.into_iter().map(|part| (part, outcome.clone())).collect()
        }
    }
}

/// Whether one part may be the cause of the refusal, because the state that it was planned from has changed.
const fn is_about_one_part(refusal: &Refusal) -> bool {
    !matches!(refusal.kind, RefusalKind::NoQuorum | RefusalKind::Unknown | RefusalKind::Internal)
}
