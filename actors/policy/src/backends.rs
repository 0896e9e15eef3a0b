//! Backends: the tasks that get the connections to a service's published ports.
//!
//! A task is a backend while it runs, its health check has passed if it has one, and managers do not want it to end.
//! Whether its node can be reached is not asked here: every node follows membership itself, which is faster.

use essaim_model::{Desired, ServiceId, State, Task, TaskId, TaskState};
use essaim_wire::NodeId;

/// The backends of a service, by slot and id, each with its node.
pub fn backends(state: &State, service: ServiceId) -> impl Iterator<Item = (TaskId, NodeId)> {
    state.tasks_of(service).filter_map(|task| Some((task.id, backend(task)?)))
}

/// The node of a task that is a backend.
pub fn backend(task: &Task) -> Option<NodeId> {
    let is_running = task.observed.state == TaskState::Running && task.desired == Desired::Running;
    if is_running && task.written_off.is_none() { task.node() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::World;
    use essaim_model::Change;

    #[test]
    fn a_task_is_a_backend_from_when_it_runs_until_it_is_to_end() {
        let mut world = World::of(2);
        let web = world.create("web", 2, |_| ());
        world.plan(web);
        assert_eq!(backends(&world.state, web).count(), 0, "none runs yet");
        world.settle();
        let all: Vec<_> = backends(&world.state, web).collect();
        assert_eq!(all.len(), 2);
        world.done(vec![Change::SetDesired { id: all[0].0, desired: Desired::Shutdown }]);
        assert_eq!(backends(&world.state, web).collect::<Vec<_>>(), all[1..]);
        world.done(vec![Change::WriteOffTask { id: all[1].0, why: "a test".into() }]);
        assert_eq!(backends(&world.state, web).count(), 0);
    }
}
