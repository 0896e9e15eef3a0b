//! What one node may know: the tasks that were given to it and have not ended, the specs they follow, and nothing of
//! anybody else.
//!
//! A task that has ended is no order any more: its worker knows by itself how long it keeps what is left of it. One
//! that was written off is none of the node's concern, and whatever still runs of it there is to be stopped. How that
//! is told (what differs from what was told before) is the manager's link to the node.

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
