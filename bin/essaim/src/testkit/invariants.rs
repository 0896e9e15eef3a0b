//! What must hold at every moment, whatever goes wrong.
//!
//! Every node is watched from the moment it runs: each state its store publishes, each leadership, each verdict goes
//! into one ledger, which compares it with everything that was seen before, anywhere:
//!
//! - two managers that applied the same index have the same state (`State::hash`);
//! - a task stays on its node, and what is wanted and seen of it only goes forward;
//! - in one term one manager leads;
//! - a node that lives and can be reached is never taken for `Down`. A node counts as in trouble while a fault takes
//!   it away and for [`AFTERMATH`] more, and the verdicts of one that is itself in trouble do not count;
//! - one task a slot runs on the machines, but where the design allows two ([`surplus`]).

use crate::testkit::fault::Number;
use crate::testkit::world::World;
use essaim_membership::Verdict;
use essaim_model::{Availability, Desired, ServiceId, Slot, State, Task, TaskId, UpdateOrder};
use essaim_node::{Handle, Standing};
use essaim_store::{Leadership, Store};
use essaim_system::roster::Heard;
use essaim_wire::{Index, NodeId, Term};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a fault is felt after its end: the idle timeout of a session and the grace of a verdict, with a margin.
pub const AFTERMATH: Duration = Duration::from_secs(8);

/// How long a second task of a slot may live after the trouble or the drain that brought it: the return of its node,
/// an order, and a stop that takes its whole grace.
const SURPLUS_MAX: Duration = Duration::from_secs(30);

/// A ledger that many write into.
pub type SharedLedger = Arc<Mutex<Ledger>>;

/// Everything seen so far that later sights are compared with.
#[derive(Default)]
pub struct Ledger {
    /// What was violated, in words.
    pub violations: Vec<String>,
    numbers: BTreeMap<NodeId, Number>,
    hashes: BTreeMap<Index, (u64, Number)>,
    leaders: BTreeMap<Term, Number>,
    /// The newest state seen anywhere.
    newest: Option<Arc<State>>,
    /// Who is in trouble, or when it was last.
    troubles: BTreeMap<Number, Trouble>,
    /// When a node was last seen not taking tasks.
    drained: BTreeMap<NodeId, Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Now,
    Until(Instant),
}

/// The ledger, for a moment.
pub fn lock(ledger: &SharedLedger) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// A node has this id.
    pub fn meet(&mut self, id: NodeId, number: Number) {
        self.numbers.insert(id, number);
    }

    /// Something that must hold did not.
    pub fn violated(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Whether faults take a node away now.
    pub fn set_trouble(&mut self, number: Number, is: bool) {
        match (is, self.troubles.get(&number)) {
            (true, _) => drop(self.troubles.insert(number, Trouble::Now)),
            (false, Some(Trouble::Now)) => drop(self.troubles.insert(number, Trouble::Until(Instant::now()))),
            (false, _) => (),
        }
    }

    /// Whether a node has been without trouble for so long.
    pub fn is_calm(&self, number: Number, time: Duration) -> bool {
        match self.troubles.get(&number) {
            Some(Trouble::Now) => false,
            Some(Trouble::Until(end)) => end.elapsed() >= time,
            None => true,
        }
    }

    fn number(&self, id: NodeId) -> Option<Number> {
        self.numbers.get(&id).copied()
    }

    /// The newest state seen anywhere.
    pub fn newest(&self) -> Option<&Arc<State>> {
        self.newest.as_ref()
    }

    fn on_state(&mut self, number: Number, state: &Arc<State>) {
        let index = state.applied().index;
        if index == Index(0) {
            return;
        }
        let hash = state.hash();
        match self.hashes.get(&index) {
            Some((known, _)) if *known == hash => (),
            Some((_, other)) => {
                let text = format!("n{number} and n{other} applied index {} and have different states", index.0);
                self.violated(text);
            }
            None => drop(self.hashes.insert(index, (hash, number))),
        }
        let Some(before) = self.newest.clone() else {
            self.newest = Some(Arc::clone(state));
            return;
        };
        if before.applied().index >= index {
            return;
        }
        for old in before.tasks() {
            let Some(new) = state.task(old.id) else { continue };
            if let Some(how) = went_wrong(old, new) {
                self.violated(format!("task {} of n{number} at index {}: {how}", old.id, index.0));
            }
        }
        for node in state.nodes().filter(|node| node.spec.availability != Availability::Active) {
            self.drained.insert(node.id, Instant::now());
        }
        self.newest = Some(Arc::clone(state));
    }

    fn on_leadership(&mut self, number: Number, leadership: Leadership) {
        let Some(term) = leadership.active() else { return };
        let first = *self.leaders.entry(term).or_insert(number);
        if first != number {
            self.violated(format!("n{first} and n{number} both lead in term {}", term.0));
        }
    }

    fn on_verdict(&mut self, number: Number, heard: &Heard) {
        let Verdict::Down { node, cause } = &heard.verdict else { return };
        let Some(subject) = self.number(*node) else { return };
        if self.is_calm(number, AFTERMATH) && self.is_calm(subject, AFTERMATH) {
            self.violated(format!("n{number} takes n{subject} for down ({cause:?}), which lives and can be reached"));
        }
    }

    /// Whether a second task of a slot may live on this node: it was in trouble, or gives its tasks away.
    fn may_be_surplus(&self, node: NodeId) -> bool {
        let drained = self.drained.get(&node).is_some_and(|at| at.elapsed() < SURPLUS_MAX);
        drained || self.number(node).is_none_or(|number| !self.is_calm(number, SURPLUS_MAX))
    }
}

/// What a task did that none may do.
fn went_wrong(old: &Task, new: &Task) -> Option<String> {
    if old.node().is_some() && old.node() != new.node() {
        return Some(format!("it moved from {:?} to {:?}", old.node(), new.node()));
    }
    if new.observed.state < old.observed.state
        || (old.observed.state.is_final() && new.observed.state != old.observed.state)
    {
        return Some(format!("it went from {} back to {}", old.observed.state.as_str(), new.observed.state.as_str()));
    }
    if new.desired < old.desired {
        return Some(format!("it was to be {:?} and is to be {:?}", old.desired, new.desired));
    }
    (old.written_off.is_some() && new.written_off.is_none()).then(|| "it was written off and is not any more".into())
}

/// Looks at the machines: at most one task of a slot runs, but
///
/// - while a node of one of them is, or was lately, in trouble (it may run on there, unseen);
/// - while one gives its tasks away, since drain moves before it stops;
/// - in an update that starts the new task first.
pub fn surplus(world: &World, ledger: &mut Ledger) {
    let Some(state) = ledger.newest().cloned() else { return };
    let mut slots: BTreeMap<(ServiceId, Slot), Vec<(TaskId, NodeId)>> = BTreeMap::new();
    for number in 1..=world.nodes {
        for id in world.machine(number).running() {
            let Some(task) = state.task(id) else { continue };
            if let Some(node) = task.node() {
                slots.entry((task.service, task.slot)).or_default().push((id, node));
            }
        }
    }
    for ((service, slot), tasks) in slots.into_iter().filter(|(_, tasks)| tasks.len() > 1) {
        let Some(service) = state.service(service) else { continue };
        let start_first = service.spec.update.as_ref().is_some_and(|update| update.order == UpdateOrder::StartFirst);
        if start_first || tasks.iter().any(|(_, node)| ledger.may_be_surplus(*node)) {
            continue;
        }
        let what = |id: &TaskId| state.task(*id).map_or(Desired::Remove, |task| task.desired);
        let list: Vec<String> = tasks.iter().map(|(id, _)| format!("{id} ({:?})", what(id))).collect();
        ledger.violated(format!("slot {slot} of {} has two running tasks: {}", service.spec.name, list.join(", ")));
    }
}

/// Watches a daemon for as long as it runs.
pub async fn watch(number: Number, handle: Handle, ledger: SharedLedger) {
    let mut watchers = JoinSet::new();
    let (mut listens, mut store_seen) = (false, None);
    let mut standings = handle.standings();
    drop(handle);
    loop {
        if let Standing::Active(part) = &*standings.borrow_and_update() {
            if !listens {
                listens = true;
                watchers.spawn(watch_verdicts(number, part.roster.verdicts(), Arc::clone(&ledger)));
            }
            let store = part.control.as_ref().map(|control| control.store());
            if let Some(store) = store
                && store_seen != Some(store.raft_id())
            {
                store_seen = Some(store.raft_id());
                watchers.spawn(watch_states(number, store, Arc::clone(&ledger)));
                watchers.spawn(watch_leadership(number, store, Arc::clone(&ledger)));
            }
        }
        if standings.changed().await.is_err() {
            return;
        }
    }
}

fn watch_states(number: Number, store: &Store, ledger: SharedLedger) -> impl Future<Output = ()> + use<> {
    let mut states = store.states();
    async move {
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            lock(&ledger).on_state(number, &state);
            if states.changed().await.is_err() {
                return;
            }
        }
    }
}

fn watch_leadership(number: Number, store: &Store, ledger: SharedLedger) -> impl Future<Output = ()> + use<> {
    let mut leadership = store.leadership();
    async move {
        loop {
            let now = *leadership.borrow_and_update();
            lock(&ledger).on_leadership(number, now);
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn watch_verdicts(number: Number, mut verdicts: tokio::sync::broadcast::Receiver<Heard>, ledger: SharedLedger) {
    loop {
        match verdicts.recv().await {
            Ok(heard) => lock(&ledger).on_verdict(number, &heard),
            Err(RecvError::Lagged(_)) => (),
            Err(RecvError::Closed) => return,
        }
    }
}
