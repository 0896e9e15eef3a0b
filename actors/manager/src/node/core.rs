//! The core computes what a node has to be told: the difference between what it was told and what the state says now.
//!
//! The version of a node's orders is the log index at which they last changed; while it is the same, nothing is sent.
//! The first assignment of a link is complete, unless the node says in its hello that it already obeys the current one;
//! every later one is a difference to the one before. The end of a task that the node itself reported makes no new
//! version: the node knows it, and gets the task's id among the ended ones with the next difference. Only the end of a task
//! with secrets or configs does, because the node drops their data with the last order that uses them. Removals from the
//! cluster are told in the same way. The core notes its effects as told at once, because the actor sends all of them in
//! this order or ends the link.

use essaim_model::{
    Availability, Change, Desired, Node, NodeSpec, PayloadId, SecretSpec, ServiceId, ServiceSpec, State, Task, TaskId,
    loopback,
};
use essaim_policy::assignment::{due, ended};
use essaim_protocol::{Assignment, AssignmentVersion, Hello, Managers, RoleStatement, TaskOrder};
use essaim_wire::planted::{Bug, planted};
use essaim_wire::{Generation, Index, NodeId, Removals};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Input of the core.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// The node introduced itself, and said what it was told so far.
    Hello(&'a Hello),
    /// This manager applied entries of the log.
    Applied,
}

/// A message for the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The node's orders, or a part of them.
    Assign(Assignment),
    /// The managers, and the removed nodes.
    Managers(Managers),
    /// The node's role and replica, as the state says them.
    Role(RoleStatement),
}

/// What one node was told on this link.
#[derive(Debug)]
pub(crate) struct Core {
    node: NodeId,
    /// A hello that waits for an answer: this manager was started or promoted a moment ago, and has not yet applied
    /// what other managers have told the node.
    hello: Option<Hello>,
    /// What the node was told; `None` before its hello.
    told: Option<Sent>,
}

/// The managers' addresses and the removed nodes, as of a place in the log.
#[derive(Debug)]
struct Known {
    version: AssignmentVersion,
    managers: Vec<(NodeId, SocketAddr)>,
    removals: Removals,
}

#[derive(Debug, Default)]
struct Sent {
    version: Option<AssignmentVersion>,
    tasks: BTreeMap<TaskId, Told>,
    specs: BTreeSet<(ServiceId, Index)>,
    /// Payloads of the secrets and configs that `specs` name.
    payloads: BTreeSet<PayloadId>,
    known: Option<Known>,
    role: Option<RoleStatement>,
    /// The start of the daemon that said hello.
    generation: Generation,
}

/// What a node was told of one of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// An order in which managers want this of the task.
    Order(Desired),
    /// The task has ended, and what is left of it is to be kept.
    Ended,
}

impl Core {
    /// The core of a node at the other end of a new link.
    pub(crate) const fn new(node: NodeId) -> Self {
        Self { node, hello: None, told: None }
    }

    /// Handles `input` with the present `state`, and adds the messages for the node to `effects`.
    pub(crate) fn handle(&mut self, state: &State, input: Input<'_>, effects: &mut Vec<Effect>) {
        if let Input::Hello(hello) = input {
            self.hello = Some(hello.clone());
        }
        let Some(cluster) = state.cluster() else { return };
        let version = |index| AssignmentVersion { lineage: cluster.lineage, index };
        if self.hello.as_ref().is_some_and(|hello| hello.seen > Some(version(state.applied().index))) {
            return;
        }
        // A manager that has just begun replays the log, and its state may be older than the node: the managers in it may
        // be gone, and a node that has seen no version yet would believe it. A node that was removed is told so.
        if state.node(self.node).is_none() && !state.removals().contains(self.node) {
            return;
        }
        let current = version(state.assignment_version(self.node));
        if let Some(hello) = self.hello.take() {
            let mut told =
                Sent { specs: hello.specs.iter().copied().collect(), generation: hello.generation, ..Sent::default() };
            // A node that has a spec has the payloads that it names.
            told.payloads = payloads(state, &told.specs);
            if hello.have == Some(current) {
                told.version = Some(current);
                // A task that ended since that version is still an order at the node, so all of them count as orders,
                // and the next difference names the ended ones.
                told.tasks = state.tasks_on(self.node).map(|task| (task.id, Told::Order(task.desired))).collect();
            }
            self.told = Some(told);
        }
        let Some(told) = &mut self.told else { return };

        if told.version != Some(current) {
            let now: BTreeMap<TaskId, &Arc<Task>> = due(state, self.node).map(|task| (task.id, task)).collect();
            let mut specs = Vec::new();
            let (mut payloads, mut tasks) = (Vec::new(), Vec::new());
            for task in now.values() {
                if told.version.is_some() && told.tasks.get(&task.id) == Some(&Told::Order(task.desired)) {
                    continue;
                }
                let follows = (task.service, task.spec_version);
                if told.specs.insert(follows)
                    && let Some(spec) = state.spec(task.service, task.spec_version)
                {
                    specs.push((follows.0, follows.1, Arc::clone(spec)));
                    let others = state.all::<SecretSpec>().map(|secret| PayloadId::Secret(secret.id));
                    let others = others.filter(|_| planted(Bug::SecretsToEveryNode));
                    let unsent = named(spec).chain(others).filter(|id| told.payloads.insert(*id));
                    payloads.extend(unsent.filter_map(|id| Some((id, state.payload(id)?.clone()))));
                }
                tasks.push(order(task));
            }
            let past: BTreeSet<TaskId> = ended(state, self.node).collect();
            let is_news = |task: &TaskId| told.version.is_none() || told.tasks.get(task) != Some(&Told::Ended);
            let is_left = |task: &TaskId| !now.contains_key(task) && !past.contains(task);
            let subnet = state.node(self.node).map_or(0, |node| node.loopback);
            let orders = Assignment {
                version: current,
                base: told.version,
                cluster: cluster.id,
                subnet: loopback::subnet(cluster.id, subnet),
                tasks,
                ended: past.iter().filter(|task| is_news(task)).copied().collect(),
                dropped: told.tasks.keys().filter(|task| is_left(task)).copied().collect(),
                specs,
                payloads,
                part: 0,
                more: false,
            };
            let mut parts = orders.parts();
            if planted(Bug::OrdersNotedUnsent) && parts.len() > 1 {
                parts.pop();
            }
            effects.extend(parts.into_iter().map(Effect::Assign));
            let orders = now.into_iter().map(|(id, task)| (id, Told::Order(task.desired)));
            told.tasks = orders.chain(past.into_iter().map(|id| (id, Told::Ended))).collect();
            // A spec that no task follows any more is forgotten at both ends.
            let followed: BTreeSet<_> = due(state, self.node).map(|task| (task.service, task.spec_version)).collect();
            told.specs.retain(|spec| followed.contains(spec));
            told.payloads = self::payloads(state, &told.specs);
            told.version = Some(current);
        }

        let managers: Vec<_> = state.managers().filter_map(|node| Some((node.id, node.addr?))).collect();
        let removals = state.removals();
        let (removed, lapsed) = match &told.known {
            None => (removals.iter().collect(), Vec::new()),
            Some(known) => removals.since(&known.removals),
        };
        let is_same = |known: &Known| known.managers == managers && removed.is_empty() && lapsed.is_empty();
        if !told.known.as_ref().is_some_and(is_same) {
            let version = version(state.applied().index);
            let base = told.known.as_ref().map(|known| known.version);
            effects.push(Effect::Managers(Managers { version, base, managers: managers.clone(), removed, lapsed }));
            told.known = Some(Known { version, managers, removals: removals.clone() });
        }

        let role = state.node(self.node).map(|node| RoleStatement {
            role: node.role,
            lineage: cluster.lineage,
            raft_id: node.manager.map(|manager| manager.raft_id),
            index: state.applied().index,
            later_start: Some(node.generation).filter(|known| *known > told.generation),
        });
        let what = |said: RoleStatement| RoleStatement { index: Index(0), ..said };
        if let Some(role) = role.filter(|role| told.role.map(what) != Some(what(*role))) {
            effects.push(Effect::Role(role));
            told.role = Some(role);
        }
    }
}

/// The payloads that a spec names.
fn named(spec: &ServiceSpec) -> impl Iterator<Item = PayloadId> {
    spec.task.container.files().map(|(id, ..)| id)
}

/// The payloads that these specs name.
fn payloads(state: &State, specs: &BTreeSet<(ServiceId, Index)>) -> BTreeSet<PayloadId> {
    let specs = specs.iter().filter_map(|(service, version)| state.spec(*service, *version));
    specs.flat_map(|spec| named(spec).collect::<Vec<_>>()).collect()
}

/// The change that sets the availability an operator chose when the node joined: only while the cluster knows nothing of
/// the node's machine, so that a worker cannot change its own availability, and with it the version that operators'
/// changes name, at any later time. The version in the change keeps a manager that lags behind from setting it again.
pub(super) fn availability_at_join(node: &Node, said: Option<Availability>) -> Option<Change> {
    let availability = said.filter(|said| node.description.is_none() && *said != node.spec.availability)?;
    let spec = NodeSpec { availability, ..node.spec.clone() };
    Some(Change::SetNode { id: node.id, expect: node.meta.version, spec })
}

fn order(task: &Task) -> TaskOrder {
    TaskOrder {
        id: task.id,
        service: task.service,
        spec_version: task.spec_version,
        slot: task.slot,
        engine: task.engine,
        generic: task.generic.clone(),
        desired: task.desired,
        observed: task.observed.clone(),
    }
}
