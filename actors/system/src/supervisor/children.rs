//! Carries out what the supervisor's core decides: starts and stops children, waits, and writes records.
//!
//! [`Children`] is a field of an actor that has children. The actor forwards three things to it:
//!
//! ```text
//! handle(Msg::Wake(wake))        → children.on_wake(wake).await?
//! handle_supervisor_evt(event)   → children.on_event(event).await?
//! post_stop()                    → children.shutdown("…").await
//! ```
//!
//! The `?` matters: when children fail more often than the restart intensity allows, all of them have been stopped in
//! order, and the error makes the actor itself fail, which its own supervisor sees.
//!
//! Starting a child waits for its `pre_start`. Stopping a group of children waits too, within their shutdown deadlines;
//! removing one child does not. A killed actor cannot stop its children in order: ractor kills them, and the successor
//! of that actor is started only when they have ended or after one second.

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

/// Time that a killed actor is given to end. Only code that never awaits takes longer, and nothing can end that.
const KILL_WAIT: Duration = Duration::from_secs(1);

/// Deadline for a child's `pre_start`. The supervisor handles nothing else meanwhile, so a child that hangs must not
/// hold it for ever; opening a large store after a power cut takes the longest.
const START_WAIT: Duration = Duration::from_secs(120);

/// The children of one actor, their specs and their supervision.
pub struct Children {
    core: Core,
    scope: Scope,
    parent: ActorCell,
    wake: Arc<dyn Fn(Wake) + Send + Sync>,
    members: BTreeMap<String, Member>,
    /// Names of running children by actor id. An exit event with another id concerns no child and is ignored.
    names: BTreeMap<ActorId, String>,
}

struct Member {
    spec: ChildSpec,
    path: Path,
    cell: Option<ActorCell>,
    started_before: bool,
    /// Number of the journal record that the child's next record names as its cause.
    cause: Option<u64>,
    /// Descendants that were killed together with this child and may not have ended yet.
    orphans: Vec<ActorCell>,
    /// Spec that was added under the same name while this child was stopping; it is started when the child has ended.
    successor: Option<ChildSpec>,
}

/// The restart intensity was exceeded; all children were stopped, and the supervising actor has to fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{child} failed again after {restarts} restarts: {reason}")]
pub struct Escalated {
    child: String,
    restarts: u32,
    reason: String,
}

/// A child failed to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{child} {reason}")]
pub struct NotStarted {
    child: String,
    reason: String,
}

/// The end of a child, for an actor that wants to react to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exited {
    /// Name of the child that ended.
    pub name: String,
    /// Whether the child ended in order or failed.
    pub exit: Exit,
    /// The reason that ractor or the child gave for the end, in words for people.
    pub reason: String,
    /// Whether the child will be started again.
    pub returns: bool,
}

impl Children {
    /// An empty set of children for the actor `parent` at `scope`. `wake` makes the message that the actor is sent when
    /// a back-off delay has passed; the actor forwards it to [`Children::on_wake`].
    pub fn new<M: Message>(
        scope: Scope,
        parent: &ActorRef<M>,
        plan: Supervision,
        wake: impl Fn(Wake) -> M + Send + Sync + 'static,
    ) -> Self {
        let me = parent.clone();
        let wake = move |number| {
            // The cast fails only when the actor has ended, and then no restart is due.
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

    /// Starts a child without which the supervising actor cannot run. Called in `pre_start`, which fails when the child
    /// does not start. A child of the same name that was removed has ended before the new one starts.
    pub async fn start(&mut self, spec: ChildSpec) -> Result<(), NotStarted> {
        let name = spec.name.clone();
        if self.core.wants(&name) {
            return Err(NotStarted { child: name, reason: "there is one of this name".into() });
        }
        self.end_namesake(&name).await;
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

    /// Waits until a removed child of this name has ended, by its shutdown deadline, and forgets it. Its exit event
    /// would otherwise be taken for the end of the child that is about to start.
    async fn end_namesake(&mut self, name: &str) {
        if !self.core.is_leaving(name) {
            return;
        }
        self.stop_together(&[name.to_owned()], UNWANTED).await;
        // The only effect is that the child is forgotten: no child of its name was added while it was stopping.
        self.core.handle(
            self.scope.now(),
            Input::Exited { name: name.to_owned(), exit: Exit::Normal },
            &mut Vec::new(),
        );
        self.forget(name);
    }

    /// Adds a child and starts it. A start that fails is tried again after the back-off. A child whose former namesake
    /// is still stopping is started when that one has ended. Nothing happens when a child of that name runs.
    pub async fn add(&mut self, spec: ChildSpec) -> Result<(), Escalated> {
        if self.core.wants(&spec.name) {
            return Ok(());
        }
        let input = Input::Added { name: spec.name.clone(), restart: spec.restart };
        match self.members.get_mut(&spec.name) {
            Some(leaving) => leaving.successor = Some(spec),
            None => self.admit(spec),
        }
        self.feed(input).await
    }

    /// Stops a child and forgets its spec. Returns at once; the child ends by its shutdown deadline, and its end
    /// arrives as an event.
    pub async fn remove(&mut self, name: &str) -> Result<(), Escalated> {
        if let Some(member) = self.members.get_mut(name) {
            member.successor = None;
        }
        self.feed(Input::Removed { name: name.to_owned() }).await
    }

    /// Handles a supervision event of ractor's. Returns the end of a child, or `None` for any other event.
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

    /// Handles the end of a back-off delay.
    pub async fn on_wake(&mut self, wake: Wake) -> Result<(), Escalated> {
        self.feed(Input::Elapsed(wake)).await
    }

    /// Stops all children in reverse order of their start; a child that misses its shutdown deadline is killed.
    /// Adjacent children of the same kind (the tasks of a worker) stop at the same time. Called in `post_stop`.
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

    /// Shows the child with this name under another label, for as long as it lives.
    pub fn relabel(&self, name: &str, label: &str) {
        self.scope.journal.relabel(&self.path(name), label);
    }

    /// The names of all children, in the order in which they were started.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.core.names()
    }

    /// Whether a child of this name was added and not removed.
    pub fn contains(&self, name: &str) -> bool {
        self.core.wants(name)
    }

    /// The running actor of the child with this name.
    pub fn cell(&self, name: &str) -> Option<&ActorCell> {
        self.members.get(name)?.cell.as_ref()
    }

    /// Hands `input` to the core and carries out its effects, until there are none left.
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
                    Effect::Forget { name } => self.forget_for_successor(&name),
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
            Member { spec, path, cell: None, started_before: false, cause: None, orphans: Vec::new(), successor: None };
        self.members.insert(name, member);
    }

    /// Starts the child with this name. Returns the input that tells the core whether it started.
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
                // A second attempt to start counts as a restart in the tree, also when the first one failed.
                member.started_before = true;
                self.on_end(name, Exit::Failed, &reason);
                Input::NotStarted { name: name.to_owned() }
            }
        }
    }

    /// Records that a child ended or failed to start, and notes the descendants that were killed with it.
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

    /// Asks a child to stop and kills it at its shutdown deadline. Returns at once; the end arrives as an event.
    fn release(&mut self, name: &str) {
        let Some(member) = self.members.get(name) else { return };
        let Some(cell) = member.cell.clone() else { return };
        self.scope.journal.with_tree(|tree, now| tree.set_state(now, &member.path, State::Stopping));
        let deadline = member.spec.shutdown;
        tokio::spawn(async move { end(&cell, UNWANTED, deadline).await });
    }

    /// Stops these children at the same time and waits until all have ended. Their exit events are ignored from then
    /// on.
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

    /// Forgets a child that has ended for good, and starts the spec that was added under its name while it was
    /// stopping.
    fn forget_for_successor(&mut self, name: &str) {
        let successor = self.members.get_mut(name).and_then(|member| member.successor.take());
        self.forget(name);
        if let Some(spec) = successor {
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

/// Reason of the stop of a removed child.
const UNWANTED: &str = "not wanted any more";

/// The reason by which ractor reports a killed actor, in an event that otherwise reads like a normal end.
const KILLED: &str = "killed";

/// Whether an end that ractor reports as normal was a failure: a kill, or a lost peer.
fn is_failure(reason: &str) -> bool {
    reason == KILLED || reason == "actor_task_cancelled" || reason.starts_with("noconnection")
}

/// Stops an actor, and kills it at the deadline. Returns whether it ended before the deadline.
async fn end(cell: &ActorCell, reason: &str, deadline: Duration) -> bool {
    cell.stop(Some(reason.to_owned()));
    if cell.wait(Some(deadline)).await.is_ok() {
        return true;
    }
    cell.kill();
    let _ = cell.wait(Some(KILL_WAIT)).await;
    false
}
