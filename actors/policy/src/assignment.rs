//! The tasks that a node is told of: all tasks assigned to it that the managers have a record of, and nothing of other
//! nodes' tasks.
//!
//! A task that has not ended is an order, and its node gets the spec that it follows. Of a task that has ended, or was
//! written off, the node is told the id only: it stops what still runs of the task, and keeps the logs until the reaper
//! has removed the record. How orders are sent (as a difference to those sent before) is decided by the manager's link to
//! the node.

use essaim_model::{State, Task, TaskId};
use essaim_wire::NodeId;
use std::sync::Arc;

/// The tasks that `node` has orders for, by id.
pub fn due(state: &State, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
    state.tasks_on(node).filter(|task| !task.has_ended())
}

/// The ended tasks whose logs `node` keeps, by id.
pub fn ended(state: &State, node: NodeId) -> impl Iterator<Item = TaskId> {
    state.tasks_on(node).filter(|task| task.has_ended()).map(|task| task.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::{World, id};
    use essaim_model::Change;

    #[test]
    fn a_node_is_told_of_its_own_tasks_only_and_of_every_one_of_them() {
        let mut world = World::of(3);
        world.create("web", 6, |_| ());
        world.settle();
        let mut told = 0;
        for node in world.state.nodes().map(|node| node.id) {
            assert!(due(&world.state, node).all(|task| task.node() == Some(node)));
            told += due(&world.state, node).count();
        }
        assert_eq!(told, 6);
        assert_eq!(due(&world.state, id(99)).count(), 0);
    }

    #[test]
    fn a_task_that_was_written_off_has_ended_for_its_node() {
        let mut world = World::of(1);
        world.create("web", 1, |_| ());
        world.settle();
        let task = world.state.tasks().next().map(|task| task.id).expect("one task");
        world.done(vec![Change::WriteOffTask { id: task, why: "a test".into() }]);
        assert_eq!(due(&world.state, id(1)).count(), 0);
        assert_eq!(ended(&world.state, id(1)).collect::<Vec<_>>(), [task]);
    }
}
