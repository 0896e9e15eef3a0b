//! `…/leader/reaper`: history, and the records of nodes that left.
//!
//! Parent: `leader`. Children: none.
//! Hears: in which slots tasks ended, or that nodes changed (one mark), that it is time to sweep. Says: proposals to the
//! store.
//! Dies: with `leader`. Started again it looks at every slot once.

use crate::leader::context::{Context, Errand};
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

/// How long ended tasks are gathered.
const GATHER: Duration = Duration::from_millis(250);

/// How long it waits after a proposal that was not made.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// After so many tasks to forget a sweep ends, so that it does not hold a core for long; the other slots are next.
const FORGOTTEN_MAX: usize = 10_000;

/// What the reaper has not looked at yet.
#[derive(Debug, Default)]
pub(in crate::leader) struct Ended {
    /// Slots in which tasks ended.
    pub(in crate::leader) slots: BTreeSet<(ServiceId, Slot)>,
    /// Every slot may have more history than is kept: the cluster's settings changed, or events were missed.
    pub(in crate::leader) everything: bool,
}

/// The actor.
pub(in crate::leader) struct ReaperActor;

/// What it hears.
#[derive(RactorMessage)]
pub(in crate::leader) enum Msg {
    /// Tasks ended, or nodes changed.
    Look,
    /// It is time.
    Sweep,
    /// The record of a node that left is due; an older number is stale.
    Due(u64),
    /// Its proposal came back; whether it was made.
    Proposed(bool),
}

/// What it holds.
pub(in crate::leader) struct State {
    scope: Scope,
    context: Arc<Context>,
    /// Slots with tasks that ended since they were last swept.
    dirty: BTreeSet<(ServiceId, Slot)>,
    timer: Timer,
    armed: bool,
    /// When the next record of a node that left is due.
    due: Option<Timestamp>,
    /// The number of the wake-up for that.
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
            // It sweeps again when that has come back.
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
            // An actor that has ended needs not know.
            let _ = myself.cast(Msg::Proposed(made.is_ok()));
        }));
    }

    /// Removes the records of nodes that left long ago, and wakes for the next.
    fn departed(&mut self, myself: &ActorRef<Msg>, cluster: &essaim_model::State) -> Vec<Change> {
        let now = self.context.store.now();
        let (due, next) = history::departed(cluster, now);
        if let Some(next) = next.filter(|next| self.due.is_none_or(|armed| *next < armed)) {
            self.due = Some(next);
            self.wake += 1;
            let number = self.wake;
            // A moment later, so that the time has surely come.
            let after = next.saturating_since(now) + Duration::from_millis(1);
            self.departing.arm(myself, after, move || Msg::Due(number));
        }
        due.into_iter()
            .map(|id| {
                let name = cluster.node(id).map_or_else(|| id.to_string(), |node| node.name());
                self.scope.record(RecordKind::Node, format!("{name} left long ago: its record goes"));
                // How long that is remembered follows from the certificates that were issued, and is for `apply` to say.
                Change::RemoveNode { id, until: now, force: true }
            })
            .collect()
    }

    /// Takes over the slots that the leader has marked.
    fn gather(&mut self) {
        let Ended { slots, everything } = self.context.reaper.take();
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
