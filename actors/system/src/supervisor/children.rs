//! Performs what the core decides: starts, stops, waits, and writes it down.
//!
//! A field of an actor that has children. The actor forwards three things:
//!
//! ```text
//! handle(Msg::Wake(wake))        → children.on_wake(wake).await?
//! handle_supervisor_evt(event)   → children.on_event(event).await?
//! post_stop()                    → children.shutdown("…").await
//! ```
//!
//! The `?` matters: when children failed too often, all of them have been stopped in order, and the error makes the
//! actor itself fail, which its own supervisor sees.
//!
//! Starting a child waits for its `pre_start`. Taking down a group waits too, within the deadlines; releasing one
//! child does not. A killed parent cannot stop its children in order: ractor kills them, and the parent's successor
//! is not started before they have ended (or a second has passed).

use super::core::{Core, Effect, Exit, Input, Supervision, Wake};
use super::spec::ChildSpec;
use crate::journal::{NewEntry, RecordKind, State};
use crate::path::Path;
use crate::scope::Scope;
use futures::future::join_all;
use ractor::{ActorCell, ActorId, ActorRef, Message, SpawnErr, SupervisionEvent};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a killed actor is waited for: only code that never awaits can take longer, and nothing can end that.
const KILL_WAIT: Duration = Duration::from_secs(1);

/// How long a child may take to come up. Nothing else is heard meanwhile, so it cannot be for ever; opening a large
/// store after a power cut takes the longest.
const START_WAIT: Duration = Duration::from_secs(120);

/// The children of an actor.
pub struct Children {
    core: Core,
    scope: Scope,
    parent: ActorCell,
    wake: Arc<dyn Fn(Wake) + Send + Sync>,
    members: BTreeMap<String, Member>,
    /// Which child an exit event is about. An id that is not here belongs to nobody that is still cared for.
    names: BTreeMap<ActorId, String>,
}

struct Member {
    spec: ChildSpec,
    path: Path,
    cell: Option<ActorCell>,
    started_before: bool,
    /// The record that its next one follows from.
    cause: Option<u64>,
    /// Actors below it that were killed with it and may not have ended yet.
    orphans: Vec<ActorCell>,
    /// Declared while it was stopping, under the same name.
    heir: Option<ChildSpec>,
}

/// Children failed too often; all were stopped, and the actor has to fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{child} failed again after {restarts} restarts: {reason}")]
pub struct Escalated {
    child: String,
    restarts: u32,
    reason: String,
}

/// A child could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{child} could not be started: {reason}")]
pub struct NotStarted {
    child: String,
    reason: String,
}

/// A child has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exited {
    /// Which.
    pub name: String,
    /// How.
    pub exit: Exit,
    /// Why.
    pub reason: String,
    /// Whether it will be started again.
    pub returns: bool,
}

impl Children {
    /// No children yet, of the actor `parent` which stands at `scope`. `wake` makes the message by which the actor
    /// hears that a delay is over; it forwards it to [`Children::on_wake`].
    pub fn new<M: Message>(
        scope: Scope,
        parent: &ActorRef<M>,
        plan: Supervision,
        wake: impl Fn(Wake) -> M + Send + Sync + 'static,
    ) -> Self {
        let me = parent.clone();
        let wake = move |number| {
            // An actor that has ended needs no wake-up.
            let _ = me.cast(wake(number));
        };
        Self {
            core: Core::new(plan, scope.env.seed.draw_number()),
            scope,
            parent: parent.get_cell(),
            wake: Arc::new(wake),
            members: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// Starts a child that the actor cannot do without: for `pre_start`, which fails when this does.
    pub async fn start(&mut self, spec: ChildSpec) -> Result<(), NotStarted> {
        let name = spec.name.clone();
        if self.core.wants(&name) {
            return Err(NotStarted { child: name, reason: "there is one of this name".into() });
        }
        let restart = spec.restart;
        self.admit(spec);
        match self.spawn(&name).await {
            Input::Started { name } => {
                let now = self.scope.now();
                let mut effects = Vec::new();
                self.core.handle(now, Input::Added { name: name.clone(), restart }, &mut effects);
                self.core.handle(now, Input::Started { name }, &mut effects);
                Ok(())
            }
            _ => {
                let reason = self.scope.journal.entry(&self.path(&name)).map(|entry| entry.reason).unwrap_or_default();
                self.forget(&name);
                Err(NotStarted { child: name, reason })
            }
        }
    }

    /// Declares a child and starts it; one that cannot be started now is tried again after a delay. A child of a
    /// name that is still stopping is started when that has ended; of one that runs, nothing happens.
    pub async fn add(&mut self, spec: ChildSpec) -> Result<(), Escalated> {
        if self.core.wants(&spec.name) {
            return Ok(());
        }
        let input = Input::Added { name: spec.name.clone(), restart: spec.restart };
        match self.members.get_mut(&spec.name) {
            Some(leaving) => leaving.heir = Some(spec),
            None => self.admit(spec),
        }
        self.feed(input).await
    }

    /// Stops a child that is not wanted any more. Does not wait: its end comes as an event, by its deadline.
    pub async fn remove(&mut self, name: &str) -> Result<(), Escalated> {
        if let Some(member) = self.members.get_mut(name) {
            member.heir = None;
        }
        self.feed(Input::Removed { name: name.to_owned() }).await
    }

    /// An event of ractor's: of a child, or of anybody else, which is ignored. What it meant, if it was a child's end.
    pub async fn on_event(&mut self, event: SupervisionEvent) -> Result<Option<Exited>, Escalated> {
        let (cell, exit, reason) = match event {
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                let reason = reason.unwrap_or_default();
                let exit = if is_failure(&reason) { Exit::Failed } else { Exit::Normal };
                (cell, exit, reason)
            }
            SupervisionEvent::ActorFailed(cell, error) => (cell, Exit::Failed, error.to_string()),
            _ => return Ok(None),
        };
        let Some(name) = self.names.remove(&cell.get_id()) else { return Ok(None) };
        self.on_end(&name, exit, &reason);
        self.feed(Input::Exited { name: name.clone(), exit }).await?;
        let returns = self.core.wants(&name);
        Ok(Some(Exited { name, exit, reason, returns }))
    }

    /// A delay is over.
    pub async fn on_wake(&mut self, wake: Wake) -> Result<(), Escalated> {
        self.feed(Input::Elapsed(wake)).await
    }

    /// Stops all children, the last one first, each within its deadline and killed after it. Neighbours of the same
    /// kind (the tasks of a worker) stop together: among equals there is no order. For `post_stop`.
    pub async fn shutdown(&mut self, reason: &str) {
        let mut names: Vec<String> = self.core.names().map(str::to_owned).collect();
        while let Some(last) = names.pop() {
            let mut together = vec![last];
            let kind = self.path(&together[0]).kind().to_owned();
            while names.last().is_some_and(|name| self.path(name).kind() == kind) {
                together.extend(names.pop());
            }
            self.stop_together(&together, reason).await;
            for name in &together {
                self.forget(name);
            }
        }
        self.core = Core::new(Supervision::default(), 0);
    }

    /// The names of all children, in the order in which they were started.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.core.names()
    }

    /// Whether a child of this name is wanted.
    pub fn contains(&self, name: &str) -> bool {
        self.core.wants(name)
    }

    /// The child that runs under this name.
    pub fn cell(&self, name: &str) -> Option<&ActorCell> {
        self.members.get(name)?.cell.as_ref()
    }

    /// Hands over to the core, and performs what it says until it has nothing more to say.
    async fn feed(&mut self, input: Input) -> Result<(), Escalated> {
        let mut inputs = VecDeque::from([input]);
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.core.handle(self.scope.now(), input, &mut effects);
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Start { name } => inputs.push_back(self.spawn(&name).await),
                    Effect::Delay { name, after } => self.on_delay(&name, after),
                    Effect::Stop { name } => self.stop_together(&[name], "stopped with its group").await,
                    Effect::Release { name } => self.release(&name),
                    Effect::WakeAt(at, wake) => self.arm(at.saturating_since(self.scope.now()), wake),
                    Effect::Forget { name } => self.bury(&name),
                    Effect::Escalate { name, restarts } => return Err(self.escalate(name, restarts).await),
                }
            }
        }
        Ok(())
    }

    fn admit(&mut self, spec: ChildSpec) {
        let path = self.path(&spec.name);
        let name = spec.name.clone();
        let member =
            Member { spec, path, cell: None, started_before: false, cause: None, orphans: Vec::new(), heir: None };
        self.members.insert(name, member);
    }

    /// Starts a child; what to tell the core.
    async fn spawn(&mut self, name: &str) -> Input {
        let Some(member) = self.members.get_mut(name) else {
            return Input::NotStarted { name: name.to_owned() };
        };
        for orphan in member.orphans.drain(..) {
            let _ = orphan.wait(Some(KILL_WAIT)).await;
        }
        let journal = &self.scope.journal;
        let again = member.started_before;
        let entry = NewEntry { path: member.path.clone(), source: member.spec.source.clone(), cell: None };
        journal.with_tree(|tree, now| {
            tree.enter(now, entry);
            tree.set_state(now, &member.path, State::Starting);
            if again {
                tree.count_restart(&member.path);
            }
        });
        let scope = self.scope.child(name);
        let starting = (member.spec.start)(scope, self.parent.clone());
        let late = |_| Err(SpawnErr::StartupFailed(format!("not up after {} s", START_WAIT.as_secs()).into()));
        match tokio::time::timeout(START_WAIT, starting).await.unwrap_or_else(late) {
            Ok(cell) => {
                let kind = if again { RecordKind::Restarted } else { RecordKind::Started };
                let reason = if again { "runs again" } else { "runs" };
                member.cause = Some(journal.record(&member.path, kind, reason, member.cause));
                member.started_before = true;
                let entry = NewEntry {
                    path: member.path.clone(),
                    source: member.spec.source.clone(),
                    cell: Some(cell.clone()),
                };
                journal.with_tree(|tree, now| tree.enter(now, entry));
                self.names.insert(cell.get_id(), name.to_owned());
                member.cell = Some(cell);
                Input::Started { name: name.to_owned() }
            }
            Err(error) => {
                let reason = match error {
                    SpawnErr::StartupFailed(error) => format!("could not be started: {error}"),
                    other => format!("could not be started: {other}"),
                };
                // A second try is a restart to whoever reads the tree.
                member.started_before = true;
                self.on_end(name, Exit::Failed, &reason);
                Input::NotStarted { name: name.to_owned() }
            }
        }
    }

    /// A child ended, or never came up: writes it down, and remembers who was killed with it.
    fn on_end(&mut self, name: &str, exit: Exit, reason: &str) {
        let leaving = self.core.is_leaving(name);
        let Some(member) = self.members.get_mut(name) else { return };
        member.cell = None;
        let journal = &self.scope.journal;
        member.orphans.extend(journal.with_tree(|tree, now| {
            tree.set_waiting(now, &member.path, reason);
            tree.take_below(&member.path)
        }));
        let killed_by_us = leaving && reason == KILLED;
        let (kind, words) = match exit {
            Exit::Failed if killed_by_us => (RecordKind::Killed, "it did not stop within its deadline"),
            Exit::Failed => (RecordKind::Failed, reason),
            Exit::Normal if reason.is_empty() => (RecordKind::Stopped, "it ended"),
            Exit::Normal => (RecordKind::Stopped, reason),
        };
        member.cause = Some(journal.record(&member.path, kind, words, member.cause));
    }

    fn on_delay(&mut self, name: &str, after: Duration) {
        let Some(member) = self.members.get_mut(name) else { return };
        let words = format!("in {} ms", after.as_millis());
        member.cause = Some(self.scope.journal.record(&member.path, RecordKind::Restarting, words, member.cause));
    }

    fn arm(&self, after: Duration, wake: Wake) {
        let send = Arc::clone(&self.wake);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            send(wake);
        });
    }

    /// Asks a child to stop, and kills it at its deadline; its end comes as an event.
    fn release(&mut self, name: &str) {
        let Some(member) = self.members.get(name) else { return };
        let Some(cell) = member.cell.clone() else { return };
        self.scope.journal.with_tree(|tree, now| tree.set_state(now, &member.path, State::Stopping));
        let deadline = member.spec.shutdown;
        tokio::spawn(async move { end(&cell, "not wanted any more", deadline).await });
    }

    /// Stops children, all at the same time, and waits for them. Their exit events are nobody's from here on.
    async fn stop_together(&mut self, names: &[String], reason: &str) {
        let mut ends = Vec::new();
        for name in names {
            let Some(member) = self.members.get_mut(name) else { continue };
            let Some(cell) = member.cell.take() else { continue };
            self.names.remove(&cell.get_id());
            self.scope.journal.with_tree(|tree, now| tree.set_state(now, &member.path, State::Stopping));
            let deadline = member.spec.shutdown;
            ends.push(async move { (name, end(&cell, reason, deadline).await) });
        }
        for (name, in_time) in join_all(ends).await {
            let Some(member) = self.members.get_mut(name) else { continue };
            let journal = &self.scope.journal;
            member.orphans.extend(journal.with_tree(|tree, now| {
                tree.set_waiting(now, &member.path, reason);
                tree.take_below(&member.path)
            }));
            let (kind, words) = if in_time {
                (RecordKind::Stopped, reason)
            } else {
                (RecordKind::Killed, "it did not stop within its deadline")
            };
            member.cause = Some(journal.record(&member.path, kind, words, member.cause));
        }
    }

    /// A child is gone for good; whoever was declared under its name while it was stopping takes its place.
    fn bury(&mut self, name: &str) {
        let heir = self.members.get_mut(name).and_then(|member| member.heir.take());
        self.forget(name);
        if let Some(spec) = heir {
            self.admit(spec);
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(member) = self.members.remove(name) {
            self.scope.journal.leave(&member.path);
        }
    }

    async fn escalate(&mut self, child: String, restarts: u32) -> Escalated {
        let member = self.members.get(&child);
        let cause = member.and_then(|member| member.cause);
        let entry = member.and_then(|member| self.scope.journal.entry(&member.path));
        let reason = entry.map(|entry| entry.reason).unwrap_or_default();
        let escalated = Escalated { child, restarts, reason };
        self.scope.journal.record(&self.scope.path, RecordKind::Escalated, escalated.to_string(), cause);
        self.shutdown("stopped, because a sibling failed too often").await;
        escalated
    }

    fn path(&self, name: &str) -> Path {
        self.scope.path.child(name)
    }
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Children")
            .field("of", &self.scope.path)
            .field("names", &self.core.names().collect::<Vec<_>>())
            .finish()
    }
}

/// What ractor says of a killed actor, as if it had ended in order.
const KILLED: &str = "killed";

/// Whether an end that ractor reports as normal was none.
fn is_failure(reason: &str) -> bool {
    reason == KILLED || reason == "actor_task_cancelled" || reason.starts_with("noconnection")
}

/// Stops an actor; whether it ended within the deadline. After that it is killed.
async fn end(cell: &ActorCell, reason: &str, deadline: Duration) -> bool {
    cell.stop(Some(reason.to_owned()));
    if cell.wait(Some(deadline)).await.is_ok() {
        return true;
    }
    cell.kill();
    let _ = cell.wait(Some(KILL_WAIT)).await;
    false
}
