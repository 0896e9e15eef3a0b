//! The tasks that a node is told of: the tasks assigned to it that have not ended, and so the specs that they follow. A
//! node learns nothing of other nodes' tasks.
//!
//! A task that has ended is no longer in the orders: its worker decides by itself how long it keeps logs. A task that
//! was written off is not either, and if it still runs on the node, the worker stops it. How orders are sent (as a
//! difference to those sent before) is the business of the manager's link to the node.

use essaim_model::{State, Task};
use essaim_wire::NodeId;
use std::sync::Arc;

/// The tasks that `node` is told of, by id.
pub fn due(state: &State, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
    state.tasks_on(node).filter(|task| !task.has_ended())
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
    fn a_task_that_was_written_off_is_no_concern_of_its_node() {
        let mut world = World::of(1);
        world.create("web", 1, |_| ());
        world.settle();
        let task = world.state.tasks().next().map(|task| task.id).expect("one task");
        world.done(vec![Change::WriteOffTask { id: task, why: "a test".into() }]);
        assert_eq!(due(&world.state, id(1)).count(), 0);
    }
}
