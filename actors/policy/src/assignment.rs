//! What one node may know: the tasks that were given to it and the specs they follow, and nothing of anybody else.
//!
//! A task that has ended stays until it is forgotten, so that its worker keeps its logs; one that was written off is
//! none of the node's concern any more, and whatever still runs of it there is to be stopped.

use essaim_model::{ServiceSpec, State, Task, loopback};
use essaim_wire::{ClusterId, Index, Lineage, NodeId};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Everything that a node is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTasks {
    /// The cluster.
    pub cluster: ClusterId,
    /// The history that these orders belong to.
    pub lineage: Lineage,
    /// Where in the log what this node has to do last changed.
    pub version: Index,
    /// The /24 of loopback addresses for its tasks.
    pub subnet: Ipv4Addr,
    /// Its tasks by id, each with the spec it follows.
    pub tasks: Vec<(Arc<Task>, Arc<ServiceSpec>)>,
}

/// What `node` may know; `None` for one that is no part of the cluster.
pub fn tasks_of_node(state: &State, node: NodeId) -> Option<NodeTasks> {
    let (cluster, record) = (state.cluster()?, state.node(node)?);
    let tasks = state.tasks_on(node).filter(|task| task.written_off.is_none());
    Some(NodeTasks {
        cluster: cluster.id,
        lineage: cluster.lineage,
        version: state.assignment_version(node),
        subnet: loopback::subnet(cluster.id, record.loopback),
        tasks: tasks
            .filter_map(|task| Some((Arc::clone(task), Arc::clone(state.spec(task.service, task.spec_version)?))))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, id};
    use essaim_model::Change;

    #[test]
    fn a_node_is_told_of_its_own_tasks_only_and_of_every_one_of_them() {
        let mut world = World::of(3);
        world.create("web", 6, |_| ());
        world.settle();
        let mut told = 0;
        for node in world.state.nodes().map(|node| node.id).collect::<Vec<_>>() {
            let all = tasks_of_node(&world.state, node).expect("a node of the cluster");
            assert!(all.tasks.iter().all(|(task, _)| task.node() == Some(node)));
            told += all.tasks.len();
        }
        assert_eq!(told, 6);
        assert_eq!(tasks_of_node(&world.state, id(99)), None);
    }

    #[test]
    fn a_task_that_was_written_off_is_no_concern_of_its_node() {
        let mut world = World::of(1);
        world.create("web", 1, |_| ());
        world.settle();
        let task = world.state.tasks().next().map(|task| task.id).expect("one task");
        world.done(vec![Change::WriteOffTask { id: task, why: "a test".into() }]);
        let told = tasks_of_node(&world.state, id(1)).expect("a node of the cluster");
        assert_eq!(told.tasks, []);
    }
}
