//! `…/leader/reaper`: the actor that removes ended tasks beyond the history, and the records of nodes that left.
//!
//! Parent: `leader`. Children: none.
//! Hears: in which slots tasks ended, or that nodes changed (one notification at most); that it is time to sweep; the
//! outcome of its proposal. Says: proposals to the store.
//! Dies: with `leader`. Started again it looks at every slot once.

use crate::leader::context::{Context, EndedSlots, Errand};
use essaim_model::{Change, ServiceId, Slot};
use essaim_policy::history;
use essaim_system::journal::RecordKind;
use essaim_system::{Scope, Timer};
use essaim_wire::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Delay between the first ended task and the sweep, so that one sweep covers several tasks.
const GATHER: Duration = Duration::from_millis(250);

/// Wait after a refused proposal, before the next sweep.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Changes after which a sweep ends, so that it does not hold a core for long; the next sweep takes the other slots.
const FORGOTTEN_MAX: usize = 10_000;

/// The actor that removes ended tasks and the records of nodes that left.
pub(in crate::leader) struct ReaperActor;

/// Messages to [`ReaperActor`].
#[derive(RactorMessage)]
pub(in crate::leader) enum Msg {
    /// Tasks ended, or nodes changed.
    Look,
    /// A sweep is due.
    Sweep,
    /// The record of a node that left is due; an older number is stale.
    Due(u64),
    /// The proposal under way has ended; `true` when it was committed.
    Proposed(bool),
}

/// State of [`ReaperActor`].
pub(in crate::leader) struct State {
    scope: Scope,
    context: Arc<Context>,
    /// Slots with tasks that ended since they were last swept.
    dirty: BTreeSet<(ServiceId, Slot)>,
    timer: Timer,
    armed: bool,
    /// Time at which the next record of a node that left is to be removed.
    due: Option<Timestamp>,
    /// Number of the newest wake-up for such a record.
    wake: u64,
    departing: Timer,
    proposing: Option<Errand>,
}

impl Actor for ReaperActor {
    type Msg = Msg;
    type State = State;
    type Arguments = (Scope, Arc<Context>);

    async fn pre_start(
        &self,
        _: ActorRef<Msg>,
        (scope, context): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let cluster = context.store.state();
        let dirty = slots(&cluster);
        Ok(State {
            scope,
            context,
            dirty,
            timer: Timer::default(),
            armed: false,
            due: None,
            wake: 0,
            departing: Timer::default(),
            proposing: None,
        })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.gather();
        state.arm(&myself);
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Look => {
                state.gather();
                state.arm(&myself);
            }
            Msg::Due(number) if number == state.wake => {
                state.due = None;
                state.arm(&myself);
            }
            Msg::Due(_) => (),
            Msg::Sweep => {
                state.armed = false;
                state.sweep(&myself);
            }
            Msg::Proposed(made) => {
                state.proposing = None;
                if !made {
                    state.mark_all();
                }
                state.arm(&myself);
            }
        }
        Ok(())
    }
}

impl State {
    fn arm(&mut self, myself: &ActorRef<Msg>) {
        if !std::mem::replace(&mut self.armed, true) {
            self.timer.arm(myself, GATHER, || Msg::Sweep);
        }
    }

    fn sweep(&mut self, myself: &ActorRef<Msg>) {
        if self.proposing.is_some() {
            // The next sweep follows when the proposal under way has ended.
            return;
        }
        let cluster = self.context.store.state();
        let mut changes = history::orphans(&cluster);
        changes.extend(self.departed(myself, &cluster));
        while changes.len() < FORGOTTEN_MAX
            && let Some((service, slot)) = self.dirty.pop_first()
        {
            changes.extend(history::forgettable(&cluster, service, slot));
        }
        if changes.is_empty() {
            return;
        }
        let (context, scope, myself) = (Arc::clone(&self.context), self.scope.clone(), myself.clone());
        self.proposing = Some(Errand::run(async move {
            let made = context.propose_in_pieces(changes).await;
            if let Err(refusal) = &made {
                scope.record(RecordKind::Note, format!("history was not shortened, and is looked at again: {refusal}"));
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            // The cast fails only when the actor has ended, and then no answer is needed.
            let _ = myself.cast(Msg::Proposed(made.is_ok()));
        }));
    }

    /// Returns the removals of records of nodes that left long ago, and arms the wake-up for the next record.
    fn departed(&mut self, myself: &ActorRef<Msg>, cluster: &essaim_model::State) -> Vec<Change> {
        let now = self.context.store.now();
        let (due, next) = history::departed(cluster, now);
        if let Some(next) = next.filter(|next| self.due.is_none_or(|armed| *next < armed)) {
            self.due = Some(next);
            self.wake += 1;
            let number = self.wake;
            // One millisecond is added, so that the record is certainly due when the timer fires.
            let after = next.saturating_since(now) + Duration::from_millis(1);
            self.departing.arm(myself, after, move || Msg::Due(number));
        }
        due.into_iter()
            .map(|id| {
                let name = cluster.node(id).map_or_else(|| id.to_string(), |node| node.name());
                self.scope.record(RecordKind::Node, format!("{name} left long ago: its record goes"));
                // `until` is only a lower bound: `apply` decides from the issued certificates how long the removal is
                // remembered.
                Change::RemoveNode { id, until: now, force: true }
            })
            .collect()
    }

    /// Takes over the slots that the leader has marked.
    fn gather(&mut self) {
        let EndedSlots { slots, everything } = self.context.reaper.take();
        self.dirty.extend(slots);
        if everything {
            self.mark_all();
        }
    }

    fn mark_all(&mut self) {
        self.dirty.extend(slots(&self.context.store.state()));
    }
}

/// Every slot that has tasks.
fn slots(state: &essaim_model::State) -> BTreeSet<(ServiceId, Slot)> {
    state.tasks().map(|task| (task.service, task.slot)).collect()
}
