//! Which ended tasks to forget.
//!
//! A slot keeps its last few ended tasks, so that `service ps` tells what happened: as many as the cluster's setting
//! says, and at least as many as its restart policy has to count. The newest task of a slot is never forgotten: it is
//! what says that the slot was filled and need not be filled again.

use essaim_model::{Change, Desired, Service, State, Task};
use essaim_wire::Reachability;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tasks of `service` to forget, oldest first in each slot.
pub fn forgettable(state: &State, service: &Service) -> Vec<Change> {
    let Some(cluster) = state.cluster() else { return Vec::new() };
    let Ok(kept) = u64::try_from(cluster.spec.task_history) else { return Vec::new() };
    // One more than the attempts that are counted: the first one was no restart.
    let attempts = service.spec.task.restart().max_attempts.filter(|max| *max > 0).map_or(0, |max| max + 1);
    let kept = usize::try_from(kept.max(attempts)).unwrap_or(usize::MAX);
    let mut slots: BTreeMap<_, Vec<&Arc<Task>>> = BTreeMap::new();
    for task in state.tasks_of(service.id) {
        slots.entry(task.slot).or_default().push(task);
    }
    let mut changes = Vec::new();
    for tasks in slots.values_mut() {
        tasks.sort_by_key(|task| (task.meta.created_at, task.id));
        let newest = tasks.last().map(|task| task.id);
        let ended: Vec<_> = tasks.iter().filter(|task| is_history(task) && Some(task.id) != newest).collect();
        let surplus = ended.len().saturating_sub(kept);
        changes.extend(ended.iter().take(surplus).map(|task| Change::ForgetTask { id: task.id }));
    }
    changes
}

/// Tasks of removed services whose node is down: nobody will ever say that they have ended.
pub fn orphans(state: &State) -> Vec<Change> {
    let down = state.nodes().filter(|node| node.reachability == Reachability::Down);
    let left = down.flat_map(|node| {
        let tasks = state.tasks_on(node.id).filter(|task| !task.has_ended() && state.service(task.service).is_none());
        tasks.map(|task| Change::WriteOffTask { id: task.id, why: format!("node {} is down", node.name()) })
    });
    left.collect()
}

/// Whether it has ended and nobody has to decide anything about it any more.
fn is_history(task: &Task) -> bool {
    task.has_ended() && task.desired >= Desired::Shutdown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::{World, id};
    use essaim_model::{ServiceId, TaskState};
    use std::time::Duration;

    /// A world in which the only task of `web` has failed this often, and the history was cleaned each time.
    fn after_failures(failures: usize, history: i64, attempts: Option<u64>) -> (World, ServiceId) {
        let mut world = World::of(1);
        world.set_cluster(|spec| spec.task_history = history);
        let web = world.create("web", 1, |spec| {
            spec.task.restart = Some(essaim_model::RestartPolicy {
                delay: Some(Duration::ZERO),
                max_attempts: attempts,
                ..Default::default()
            });
        });
        world.settle();
        for _ in 0..failures {
            world.end(id(1), TaskState::Failed);
            world.settle();
            let service = Arc::clone(world.state.service(web).expect("created"));
            let changes = forgettable(&world.state, &service);
            world.done(changes);
        }
        (world, web)
    }

    #[test]
    fn a_slot_keeps_five_ended_tasks_beside_the_one_that_runs() {
        let (world, web) = after_failures(9, 5, None);
        assert_eq!(world.state.tasks_of(web).count(), 6);
        assert_eq!(world.state.tasks_of(web).filter(|task| task.is_running()).count(), 1);
    }

    #[test]
    fn a_negative_limit_forgets_nothing_and_zero_keeps_only_what_is_in_use() {
        assert_eq!(after_failures(9, -1, None).0.state.tasks().len(), 10);
        assert_eq!(after_failures(9, 0, None).0.state.tasks().len(), 1);
    }

    #[test]
    fn attempts_are_remembered_as_long_as_they_are_counted() {
        let (mut world, web) = after_failures(7, 0, Some(7));
        assert_eq!(world.state.tasks_of(web).count(), 8);
        world.end(id(1), TaskState::Failed);
        world.settle();
        assert_eq!(world.state.tasks_of(web).filter(|task| task.is_wanted()).count(), 0, "seven attempts are spent");
    }

    #[test]
    fn the_last_task_of_a_slot_is_what_says_that_it_is_done() {
        let mut world = World::of(1);
        world.set_cluster(|spec| spec.task_history = 0);
        let job = world.create("job", 1, |spec| {
            spec.task.restart = Some(essaim_model::RestartPolicy {
                condition: Some(essaim_model::RestartCondition::None),
                ..Default::default()
            });
        });
        world.settle();
        world.end(id(1), TaskState::Complete);
        world.settle();
        let service = Arc::clone(world.state.service(job).expect("created"));
        assert_eq!(forgettable(&world.state, &service), []);
        assert_eq!(world.state.tasks().len(), 1);
    }

    #[test]
    fn what_a_removed_service_left_on_a_node_that_is_down_is_written_off() {
        let mut world = World::of(2);
        let web = world.create("web", 2, |_| ());
        world.settle();
        world.reach(2, Reachability::Unreachable);
        world.done(vec![Change::RemoveService { id: web }]);
        world.settle();
        assert_eq!((world.state.tasks().len(), orphans(&world.state)), (1, vec![]));
        world.reach(2, Reachability::Down);
        let changes = orphans(&world.state);
        world.done(changes);
        assert_eq!(world.state.tasks().len(), 0);
    }

    #[test]
    fn only_what_has_ended_and_is_meant_to_have_is_history() {
        let mut world = World::of(1);
        world.create("web", 1, |_| ());
        world.settle();
        let task = Task::clone(world.state.tasks().next().expect("one task"));
        for desired in [Desired::Ready, Desired::Running, Desired::Shutdown, Desired::Remove] {
            for state in TaskState::ALL {
                let mut task = Task { desired, ..task.clone() };
                task.observed.state = state;
                let expected = desired >= Desired::Shutdown && state.is_final();
                assert_eq!(is_history(&task), expected, "{desired:?} and {state:?}");
            }
        }
    }
}
