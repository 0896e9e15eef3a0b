//! Invariants: what must hold at every moment, whatever goes wrong.
//!
//! Every node is watched from the moment it runs, and every tenth of a second all of them are looked at ([`look`]). All
//! observations go into one ledger, which compares each with all earlier ones, of any node. Each file has one concern,
//! and a bad history for each of its complaints:
//!
//! - [`agreement`]: the managers' logs are the same, a request has its effect once, one leader's orders per term; the
//!   log replayed, and the events of that replayed, give the managers' states, by hash;
//! - [`course`]: what tasks go through: forward, on one node, ended by order, moved before they are stopped;
//! - [`updates`], [`jobs`]: an update keeps to its parallelism and its pause, and a job to its counts;
//! - [`homes`]: a slot that is bound to its data gets its tasks on the node of the data;
//! - [`host_ports`]: no task is given a node whose port in host mode another task has;
//! - [`retries`]: a replacement that failed is followed by another after the restart delay;
//! - [`leaders`]: one leader a term, and one that decides at a time; no manager forgets its vote;
//! - [`detector`]: no node that lives and can be reached is `Down`, none is missed by too few observers, a node that is
//!   cut
//!   off accuses no other, and nothing old is believed of a node;
//! - [`returns`]: a dead node is not recorded as reachable again, and no running replacement gives way to its tasks;
//! - [`liars`]: a node that lies harms only itself;
//! - [`machines`]: one task of a slot runs, except where the design allows two, and none is started twice;
//! - [`networks`]: no two networks have anything in common, nor a new one with one that was removed a moment ago;
//! - [`orders`]: no order is followed by an older one;
//! - [`payloads`]: a node has no secret that no task of it uses.
//!
//! [`history`](crate::testkit::history) judges the answers to clients, and [`convergence`](crate::testkit::convergence)
//! what must be true after the last fault.

pub mod agreement;
pub mod course;
pub mod detector;
#[cfg(test)]
mod fixture;
pub mod homes;
pub mod host_ports;
pub mod jobs;
pub mod leaders;
pub mod liars;
pub mod machines;
pub mod networks;
pub mod orders;
pub mod payloads;
pub mod retries;
pub mod returns;
pub mod troubles;
pub mod updates;

use crate::testkit::fault::Number;
use agreement::Agreement;
use detector::Rosters;
use essaim_model::{State, TaskId};
use essaim_node::{Handle, Standing};
use essaim_presence::roster::Heard;
use essaim_protocol::AssignmentVersion;
use essaim_store::Store;
use essaim_wire::{Generation, NodeId, Timestamp};
use leaders::Leaders;
use machines::Machines;
use orders::Orders;
use parking_lot::{Mutex, MutexGuard};
use returns::Returns;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinSet;
use troubles::Troubles;

pub(crate) use troubles::AFTERMATH;

/// A ledger that all watchers of a run write into.
pub type SharedLedger = Arc<Mutex<Ledger>>;

/// All observations of a run that later ones are compared with.
#[derive(Default)]
pub struct Ledger {
    /// Violations so far, in words.
    pub violations: Vec<String>,
    numbers: BTreeMap<NodeId, Number>,
    /// Nodes that have begun to leave the cluster: what they had of ended tasks is removed, also when the daemon is stopped
    /// before it has left.
    leaving: BTreeSet<NodeId>,
    troubles: Troubles,
    agreement: Agreement,
    leaders: Leaders,
    rosters: Rosters,
    machines: Machines,
    orders: Orders,
    starts: liars::Starts,
    returns: Returns,
}

/// Locks the ledger.
pub fn lock(ledger: &SharedLedger) -> MutexGuard<'_, Ledger> {
    ledger.lock()
}

impl Ledger {
    /// Sets whether updates and jobs are judged.
    pub(crate) const fn judge_containers(&mut self, are: bool) {
        self.agreement.containers = are;
    }

    /// Notes that the node with this number has this id.
    pub(crate) fn meet(&mut self, id: NodeId, number: Number) {
        self.numbers.insert(id, number);
    }

    /// Notes that a node left the cluster: from then on its id may be taken for gone.
    pub(crate) fn part(&mut self, id: NodeId) {
        self.numbers.remove(&id);
    }

    /// Notes that a node begins to leave the cluster.
    pub(crate) fn begins_to_leave(&mut self, id: NodeId) {
        self.leaving.insert(id);
    }

    /// Whether a node has ever begun to leave the cluster.
    pub(crate) fn has_begun_to_leave(&self, id: NodeId) -> bool {
        self.leaving.contains(&id)
    }

    /// Adds a violation.
    pub(crate) fn violated(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Sets whether faults take a node away now.
    pub(crate) fn set_trouble(&mut self, number: Number, is: bool) {
        self.troubles.set(number, is);
    }

    /// Sets whether faults let a running node reach less than half of all nodes.
    pub(crate) fn set_cut_off(&mut self, number: Number, is: bool) {
        self.troubles.set_cut_off(number, is);
    }

    /// Sets whether a node's daemon does not look after its tasks.
    pub(crate) fn set_unattended(&mut self, number: Number, is: bool) {
        self.troubles.set_unattended(number, is);
    }

    /// Sets whether any node lies now.
    pub(crate) fn set_lies(&mut self, are: bool) {
        self.troubles.set_lies(are);
    }

    /// Notes that an actor of a node is made to fail: the node's roster may be a new one from now on.
    pub(crate) fn actor_fails(&mut self, number: Number) {
        self.rosters.on_actor_failed(number);
    }

    /// Notes that an engine has forgotten a task, whose container somebody removed while the node's daemon ran or not.
    pub(crate) fn task_is_forgotten(&mut self, task: TaskId, runs: bool) {
        self.machines.on_forgotten(task, runs, self.agreement.state());
    }

    /// Whether a node has been without trouble for this long.
    pub fn is_calm(&self, number: Number, time: std::time::Duration) -> bool {
        self.troubles.is_calm(number, time)
    }

    /// The state that the log seen so far gives.
    pub(crate) const fn newest(&self) -> &State {
        self.agreement.state()
    }

    fn on_verdict(&mut self, number: Number, heard: &Heard) {
        let wrong = self.rosters.on_verdict(number, heard, &self.numbers, &self.troubles);
        self.violations.extend(wrong);
    }

    fn on_orders(&mut self, number: Number, node: NodeId, orders: Option<AssignmentVersion>) {
        self.violations.extend(self.orders.on_orders(number, node, orders));
    }
}

/// The nodes and machines of a run at one moment.
pub struct Snapshot {
    /// The nodes that run.
    pub running: BTreeMap<Number, Handle>,
    /// The running tasks of every machine, each with the time of its start.
    pub tasks: BTreeMap<Number, Vec<(TaskId, Timestamp)>>,
    /// Number of times that each machine's engine was asked to start each task.
    pub attempts: BTreeMap<Number, BTreeMap<TaskId, u32>>,
    /// The running tasks whose containers were started by somebody else than their workers.
    pub revived: BTreeSet<TaskId>,
    /// The nodes whose engine does not answer, or says nothing of some task.
    pub silent_engines: Vec<Number>,
    /// The nodes that lie.
    pub liars: Vec<Number>,
    /// Whether the only faults are slow disks and liars, and the liars are fewer than a quorum of observers.
    pub is_only_lied_to: bool,
}

/// Checks every running node, and every machine.
pub fn look(seen: &Snapshot, ledger: &SharedLedger) {
    let mut ledger = lock(ledger);
    let ledger = &mut *ledger;
    let mut managers = Vec::new();
    for (&number, handle) in &seen.running {
        let standing = handle.standing();
        let Some(part) = standing.membership() else { continue };
        let generation = handle.generation();
        ledger.violations.extend(payloads::look(number, &part.worker.payloads()));
        ledger.violations.extend(ledger.rosters.on_roster(number, generation, &part.roster.current()));
        if let Some(control) = &part.control {
            look_at_log(ledger, number, generation, control.store());
            managers.push(leaders::ManagerView::of(number, handle, control.store()));
        }
    }
    ledger.violations.extend(ledger.leaders.look(&managers));
    let Ledger { numbers, troubles, starts, returns, .. } = ledger;
    let lied = liars::look(seen, ledger.agreement.state(), numbers, troubles, starts);
    let trusts = std::mem::take(&mut ledger.agreement.trusts);
    let returned = returns.look(seen, ledger.agreement.state(), numbers, trusts);
    ledger.violations.extend(lied.into_iter().chain(returned));
    ledger.violations.extend(ledger.machines.on_attempts(&seen.attempts));
    ledger.machines.on_silence(&seen.silent_engines);
    ledger.machines.on_revived(&seen.revived);
    let running = seen.tasks.iter().map(|(number, tasks)| (*number, tasks.clone()));
    let wrong = ledger.machines.look(running, ledger.agreement.state(), &ledger.numbers, &ledger.troubles);
    ledger.violations.extend(wrong);
}

fn look_at_log(ledger: &mut Ledger, number: Number, generation: Generation, store: &Store) {
    let after = ledger.agreement.seen(number, generation, store.raft_id());
    let state = store.state();
    if state.applied().index > after {
        match store.agreed(after) {
            Ok(agreed) => ledger.violations.extend(ledger.agreement.on_log(number, &agreed)),
            // The log of a store whose disk fails, or that was closed a moment ago, is read again from its beginning
            // later.
            Err(_) => ledger.agreement.forget(number),
        }
    }
    ledger.violations.extend(ledger.agreement.on_state(number, &state));
}

/// Watches the verdicts and orders of a daemon while it runs.
pub async fn watch(number: Number, handle: Handle, ledger: SharedLedger) {
    let mut watchers = JoinSet::new();
    let mut part_seen = None;
    let mut standings = handle.standings();
    drop(handle);
    loop {
        let standing = standings.borrow_and_update().clone();
        if let Standing::Active(part) = &standing {
            let has_part = part.control.is_some();
            lock(&ledger).violations.extend(leaders::part_without_certificate(number, part.role, has_part));
        }
        if let Standing::Active(part) = &standing
            && part_seen != Some(part.node)
        {
            part_seen = Some(part.node);
            watchers.spawn(watch_verdicts(number, part.roster.verdicts(), Arc::clone(&ledger)));
            watchers.spawn(watch_orders(number, part.node, part.worker.orders(), Arc::clone(&ledger)));
        }
        if standings.changed().await.is_err() {
            return;
        }
    }
}

async fn watch_orders(
    number: Number,
    node: NodeId,
    mut orders: watch::Receiver<Option<AssignmentVersion>>,
    ledger: SharedLedger,
) {
    // The first value is skipped: it is from before the worker has read its disk.
    while orders.changed().await.is_ok() {
        let now = *orders.borrow_and_update();
        lock(&ledger).on_orders(number, node, now);
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
