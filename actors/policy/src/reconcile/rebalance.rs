//! Rebalancing: slots of a replicated service move to nodes that have fewer of them, such as one that returned.
//!
//! Off unless the label `essaim.rebalance` gives the pause between two moves. One slot of a service moves at a time, from
//! a node that has at least two slots more than the node with the fewest, and start-first: its second task runs before
//! the first one is told to end. `place` puts that second task on the node with the fewest tasks of the service. A node
//! takes part when it has been reachable for the pause, so one that flaps draws nothing, and nothing moves while the
//! service is updated or lacks a task.
//!
//! That a slot moves is read from its tasks: two of them are wanted, and the newer one is where the service gains. A
//! second task that was placed where it gains nothing is told to end.

use super::Work;
use crate::scene::Condition;
use essaim_model::{Desired, Hardware, Node, State, Task};
use essaim_wire::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Slots by which a node must exceed another for one to move: with one fewer, the two would only change places.
const GAIN: usize = 2;

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
        let takes = |node: &&Arc<Node>| self.may_start_on(node) && self.has_room(node);
        let nodes: Vec<&Arc<Node>> = scene.state.nodes().filter(takes).collect();
        let (steady, fresh): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| scene.now >= node.since + pause);
        fresh.iter().for_each(|node| self.plan.look_again(node.since + pause));
        let Some(fewest) = steady.iter().map(|node| self.slots_on(node.id)).min() else { return };
        // Of the nodes with the most slots the last one by id, and its slot with the highest number.
        let holder =
            |tasks: &Vec<&'a Arc<Task>>| tasks.iter().find(|task| task.is_wanted()).and_then(|task| task.node());
        let slots =
            self.slots.iter().filter_map(|(slot, tasks)| Some((self.slots_on(holder(tasks)?), holder(tasks)?, *slot)));
        let Some((most, _, slot)) = slots.max() else { return };
        if most < fewest + GAIN {
            return;
        }
        let newest = self.slots.values().flatten().map(|task| task.meta.created_at).max().unwrap_or_default();
        if scene.now < newest + pause {
            return self.plan.look_again(newest + pause);
        }
        self.plan.notes.push(format!("slot {slot} moves to a node with fewer tasks: {most} here, {fewest} there"));
        self.want(slot, Desired::Running);
    }

    /// The two tasks of a slot that moves, the old one first; `None` when the service gains nothing by it.
    pub(super) fn movers(&self, current: &[&'a Arc<Task>]) -> Option<(&'a Arc<Task>, &'a Arc<Task>)> {
        let [old, new] = current else { return None };
        self.service.spec.rebalance_pause()?;
        let (from, to) = (old.node()?, new.node()?);
        (self.slots_on(from) >= self.slots_on(to) + GAIN).then_some((*old, *new))
    }

    /// Slots whose oldest wanted task is on this node.
    fn slots_on(&self, node: NodeId) -> usize {
        let counts = self.spread.get_or_init(|| {
            let mut counts = BTreeMap::new();
            for tasks in self.slots.values() {
                let holder = tasks.iter().find(|task| task.is_wanted()).and_then(|task| task.node());
                holder.into_iter().for_each(|node| *counts.entry(node).or_default() += 1);
            }
            counts
        });
        counts.get(&node).copied().unwrap_or_default()
    }

    /// Whether the reservation of one more task fits on the node. What else may keep it off is for `place` to find out.
    fn has_room(&self, node: &Node) -> bool {
        let used = reserved(self.scene.state, node.id);
        let (asks, all) = (self.service.spec.task.reservation(), node.description.as_ref().map(|it| &it.hardware));
        all.is_some_and(|all| {
            (asks.nano_cpus == 0 || used.nano_cpus + asks.nano_cpus <= all.nano_cpus)
                && (asks.memory_bytes == 0 || used.memory_bytes + asks.memory_bytes <= all.memory_bytes)
        })
    }
}

/// What the tasks on a node have reserved.
fn reserved(state: &State, node: NodeId) -> Hardware {
    let mut used = Hardware::default();
    for task in state.tasks_on(node).filter(|task| !task.has_ended()) {
        let Some(spec) = state.spec(task.service, task.spec_version) else { continue };
        let share = spec.task.reservation();
        used.nano_cpus = used.nano_cpus.saturating_add(share.nano_cpus);
        used.memory_bytes = used.memory_bytes.saturating_add(share.memory_bytes);
    }
    used
}
