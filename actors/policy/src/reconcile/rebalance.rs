//! Rebalancing: slots of a replicated service move to nodes that have fewer of them, such as one that returned.
//!
//! Off unless the label `essaim.rebalance` gives the pause between two moves. One slot of a service moves at a time, and
//! start-first: its second task runs before the first one is told to end. A node takes part when it has been reachable
//! for the pause, so one that flaps draws nothing, and nothing moves while the service is updated or lacks a task.
//!
//! The service gains by a move if the node that the slot leaves has at least two slots more than the one that it comes
//! to. With spread preferences, branches of nodes are compared before single nodes. Each move makes the numbers more
//! even, so moves come to an end. Where the second task goes is for `place` to decide, which knows what else keeps a task
//! off a node; so before a second task is wanted, [`why`] is asked where it would go.
//!
//! That a slot moves is read from its tasks: two of them are wanted, and the newer one is where the service gains. A
//! second task that was placed where it gains nothing is told to end.

use super::Work;
use crate::place::why;
use crate::scene::Condition;
use essaim_model::{Desired, Node, Slot, Task};
use essaim_wire::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Slots by which a node must exceed another for one to move: with one fewer, the two would only change places.
const GAIN: usize = 2;

/// Shortest time after which a service looks again whether the scheduler would put a slot where the service gains. The
/// look costs as much as a pass over all tasks of the cluster.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Number of slots on each node, and on each branch of the spread preferences, by the oldest wanted task of each slot.
#[derive(Default)]
pub(super) struct Spread<'a> {
    nodes: BTreeMap<NodeId, usize>,
    /// By the values of the first preferences, of all lengths.
    branches: BTreeMap<Vec<Option<&'a str>>, usize>,
}

impl<'a> Work<'a> {
    /// Wants a second task in one slot, if the service is at rest and gains by moving it.
    pub(super) fn rebalance(&mut self) {
        let Some(pause) = self.service.spec.rebalance_pause() else { return };
        let updates = self.service.update.as_ref().is_some_and(|update| update.completed_at.is_none());
        let at_rest = self.slots.values().all(|tasks| {
            let mut wanted = tasks.iter().filter(|task| task.is_wanted());
            wanted.next().is_some_and(|task| task.is_running() && self.condition(task) == Condition::Sound)
                && wanted.next().is_none()
        });
        if updates || !at_rest || !self.plan.is_empty() || self.slots.is_empty() {
            return;
        }
        let scene = self.scene;
        let nodes: Vec<&'a Arc<Node>> = scene.state.nodes().filter(|node| self.may_start_on(node)).collect();
        let (steady, fresh): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| scene.now >= node.since + pause);
        fresh.iter().for_each(|node| self.plan.look_again(node.since + pause));
        let Some(emptiest) = steady.iter().min_by_key(|node| (self.rank(node), node.id)) else { return };
        if self.mover_to(emptiest.id).is_none() {
            return;
        }
        let newest = self.slots.values().flatten().map(|task| task.meta.created_at).max().unwrap_or_default();
        if scene.now < newest + pause {
            return self.plan.look_again(newest + pause);
        }
        let first = why(scene.state, self.service, scene.now).nodes.into_iter().find(|node| node.rank == Some(1));
        let target = first.filter(|first| steady.iter().any(|node| node.id == first.node)).map(|first| first.node);
        let Some((to, (from, slot))) = target.and_then(|to| Some((to, self.mover_to(to)?))) else {
            return self.plan.look_again(scene.now + pause.max(LOOK_AGAIN));
        };
        let (here, there) = (self.slots_on(from), self.slots_on(to));
        self.plan.notes.push(format!("slot {slot} moves to a node with fewer tasks: {here} here, {there} there"));
        self.want(slot, Desired::Running);
    }

    /// The two tasks of a slot that moves, the old one first; `None` when the service gains nothing by it.
    pub(super) fn movers(&self, current: &[&'a Arc<Task>]) -> Option<(&'a Arc<Task>, &'a Arc<Task>)> {
        let [old, new] = current else { return None };
        self.service.spec.rebalance_pause()?;
        self.gains(old.node()?, new.node()?).then_some((*old, *new))
    }

    /// The slot by whose move to this node the service gains, and its present node: of those nodes the one with the most
    /// slots, then the last one by id, and its slot with the highest number.
    fn mover_to(&self, to: NodeId) -> Option<(NodeId, Slot)> {
        let holders = self.slots.iter().filter_map(|(slot, tasks)| Some((holder(tasks)?, *slot)));
        let gains = holders.filter(|(from, _)| self.gains(*from, to));
        gains.max_by_key(|(from, slot)| (self.slots_on(*from), *from, *slot))
    }

    /// Whether the service gains by a slot that moves from one node to another. The first spread preference that tells
    /// the nodes apart decides, and without one the numbers on the nodes. Nodes without a label come last: a slot moves
    /// away from them, and none to them.
    fn gains(&self, from: NodeId, to: NodeId) -> bool {
        let (Some(a), Some(b)) = (self.path(from), self.path(to)) else { return false };
        match a.iter().zip(&b).position(|(a, b)| a != b) {
            None => self.slots_on(from) >= self.slots_on(to) + GAIN,
            Some(at) => match (a[at], b[at]) {
                (_, None) => false,
                (None, _) => true,
                _ => self.slots_below(&a[..=at]) >= self.slots_below(&b[..=at]) + GAIN,
            },
        }
    }

    /// Rank of a node as the place of the next task: the node with the smallest one comes first.
    fn rank(&self, node: &Node) -> (Vec<(bool, usize)>, usize) {
        let path = self.path(node.id).unwrap_or_default();
        let branches = (0..path.len()).map(|at| (path[at].is_none(), self.slots_below(&path[..=at]))).collect();
        (branches, self.slots_on(node.id))
    }

    /// The values of a node's labels over which the service is spread.
    fn path(&self, node: NodeId) -> Option<Vec<Option<&'a str>>> {
        let node = self.scene.state.node(node)?;
        Some(self.placement.preferences.iter().map(|label| label.value(node)).collect())
    }

    /// Slots whose oldest wanted task is on this node.
    fn slots_on(&self, node: NodeId) -> usize {
        self.spread().nodes.get(&node).copied().unwrap_or_default()
    }

    /// Slots whose oldest wanted task is on a node with these values of the first spread preferences.
    fn slots_below(&self, branch: &[Option<&'a str>]) -> usize {
        self.spread().branches.get(branch).copied().unwrap_or_default()
    }

    fn spread(&self) -> &Spread<'a> {
        self.spread.get_or_init(|| {
            let mut spread = Spread::default();
            for node in self.slots.values().filter_map(|tasks| holder(tasks)) {
                *spread.nodes.entry(node).or_default() += 1;
                let path = self.path(node).unwrap_or_default();
                for length in 1..=path.len() {
                    *spread.branches.entry(path[..length].to_vec()).or_default() += 1;
                }
            }
            spread
        })
    }
}

/// The node of a slot's oldest wanted task.
fn holder(tasks: &[&Arc<Task>]) -> Option<NodeId> {
    tasks.iter().find(|task| task.is_wanted()).and_then(|task| task.node())
}
