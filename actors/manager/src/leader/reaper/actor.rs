//! `…/leader/reaper`: history, and the records of nodes that left.
//!
//! Parent: `leader`. Children: none.
//! Hears: that tasks ended or nodes changed (one mark), that it is time to sweep. Says: proposals to the store.
//! Dies: with `leader`. Started again it looks at every slot once.

use crate::leader::context::{Context, Errand};
use essaim_model::{Change, Event, ServiceId, Slot};
use essaim_policy::history;
use essaim_store::Cursor;
use essaim_system::Scope;
use essaim_system::journal::RecordKind;
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
    cursor: Cursor,
    /// Slots with tasks that ended since they were last swept.
    dirty: BTreeSet<(ServiceId, Slot)>,
    armed: bool,
    /// When the next record of a node that left is due.
    due: Option<Timestamp>,
    /// The number of the wake-up for that.
    wake: u64,
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
        let cursor = context.store.events(cluster.applied().index);
        let dirty = slots(&cluster);
        Ok(State { scope, context, cursor, dirty, armed: false, due: None, wake: 0, proposing: None })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        // A mark may have been lost with a former one.
        state.context.reaper.answer();
        state.arm(&myself);
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, message: Msg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Look => {
                state.context.reaper.answer();
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
            myself.send_after(GATHER, || Msg::Sweep);
        }
    }

    fn sweep(&mut self, myself: &ActorRef<Msg>) {
        if self.proposing.is_some() {
            // It sweeps again when that has come back.
            return;
        }
        self.gather();
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
            myself.send_after(after, move || Msg::Due(number));
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

    /// Reads on in the log, for the services of tasks that ended.
    fn gather(&mut self) {
        loop {
            match self.cursor.try_next() {
                Ok(Some(happened)) => {
                    for event in happened.events.iter() {
                        self.mark(event);
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    self.cursor = self.context.store.events(self.context.store.state().applied().index);
                    self.mark_all();
                }
            }
        }
    }

    fn mark(&mut self, event: &Event) {
        match event {
            Event::Task { new: Some(task), .. } if task.has_ended() => {
                self.dirty.insert((task.service, task.slot));
            }
            // How much history is kept may be another now.
            Event::Cluster { .. } => self.mark_all(),
            _ => (),
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
