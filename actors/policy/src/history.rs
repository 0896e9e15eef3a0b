//! Retention of records: which ended tasks and departed nodes to forget.
//!
//! A slot keeps its last few ended tasks, so that `service ps` shows what happened: as many as the cluster's setting
//! says, and at most [`TASK_HISTORY_MAX`]. The newest task of a slot is never forgotten, because it records that the
//! slot was filled and need not be filled again, and how often it was restarted. A completed task of a job counts as a
//! completion for as long as its iteration goes on, and is not forgotten before the next one begins. While a service is
//! updated, what its update knows from ended tasks is kept beside them.

use crate::restart;
use essaim_model::{Change, Departure, Desired, ServiceId, Slot, State, TASK_HISTORY_MAX, Task, TaskId};
use essaim_wire::{NodeId, Reachability, Role, Timestamp};
use std::sync::Arc;

/// Changes that forget the ended tasks of a slot beyond the limit, oldest first.
pub fn forgettable(state: &State, service: ServiceId, slot: Slot) -> Vec<Change> {
    let Some(cluster) = state.cluster() else { return Vec::new() };
    // A negative setting keeps the maximum.
    let kept = usize::try_from(cluster.spec.task_history).map_or(TASK_HISTORY_MAX, |kept| kept.min(TASK_HISTORY_MAX));
    let mut tasks: Vec<&Arc<Task>> = state.tasks_in(service, slot).collect();
    tasks.sort_by_key(|task| (task.meta.created_at, task.id));
    let newest = tasks.last().map(|task| task.id);
    let iteration = state.service(service).and_then(|service| service.iteration());
    let is_past = |task: &Task| is_history(task) || (task.has_ended() && task.job_iteration != iteration);
    let ended: Vec<_> = tasks.iter().filter(|task| is_past(task) && Some(task.id) != newest).collect();
    if let Some(runs) = state.service(service).and_then(|service| service.spec.schedule_kept()) {
        return of_past_runs(&ended, iteration.unwrap_or_default(), runs);
    }
    let surplus = ended.len().saturating_sub(kept);
    let evidence = evidence(state, service, &tasks);
    let surplus = ended.iter().take(surplus).filter(|task| !evidence.contains(&task.id));
    surplus.map(|task| Change::ForgetTask { id: task.id }).collect()
}

/// Changes that forget the tasks of a scheduled job which belong to none of its last `runs` earlier runs, and those beyond
/// the most that a slot may have.
fn of_past_runs(ended: &[&&Arc<Task>], iteration: u64, runs: u64) -> Vec<Change> {
    let oldest = iteration.saturating_sub(runs);
    let surplus = ended.len().saturating_sub(TASK_HISTORY_MAX);
    let past = ended
        .iter()
        .enumerate()
        .filter(|(at, task)| *at < surplus || task.job_iteration.is_none_or(|iteration| iteration < oldest));
    past.map(|(_, task)| Change::ForgetTask { id: task.id }).collect()
}

/// The tasks of a slot by which an update that goes on knows how far it is: the newest one of another spec, which shows
/// that the slot was replaced and counts against the parallelism, and the first one of the new spec that ended by itself,
/// which may show a failure. At most two of a slot.
fn evidence(state: &State, service: ServiceId, tasks: &[&Arc<Task>]) -> Vec<TaskId> {
    let Some(service) = state.service(service) else { return Vec::new() };
    if service.update.as_ref().is_none_or(|update| update.completed_at.is_some()) {
        return Vec::new();
    }
    let is_new = |task: &&&Arc<Task>| task.spec_version == service.spec_version;
    let dated = tasks.iter().rev().find(|task| !is_new(task));
    let failed = tasks.iter().filter(is_new).find(|task| restart::ended_by_itself(task));
    dated.into_iter().chain(failed).map(|task| task.id).collect()
}

/// Changes that write off tasks of removed services on nodes that are down, whose end will never be reported.
pub fn orphans(state: &State) -> Vec<Change> {
    let down = state.nodes().filter(|node| node.reachability == Reachability::Down);
    let left = down.flat_map(|node| {
        let tasks = state.tasks_on(node.id).filter(|task| !task.has_ended() && state.service(task.service).is_none());
        tasks.map(|task| Change::WriteOffTask { id: task.id, why: format!("node {} is down", node.name()) })
    });
    left.collect()
}

/// Nodes that left long enough ago for their records to be removed, and the time at which the next one is due.
pub fn departed(state: &State, now: Timestamp) -> (Vec<NodeId>, Option<Timestamp>) {
    let Some(cluster) = state.cluster() else { return (Vec::new(), None) };
    let kept = cluster.spec.left_nodes_kept();
    let (mut due, mut next) = (Vec::new(), None::<Timestamp>);
    for node in state.nodes() {
        let Some(Departure::Left { at }) = node.departure else { continue };
        // A node that is still a voter has the role of a manager in its record, and cannot be removed yet.
        if node.role == Role::Manager || node.reachability != Reachability::Down {
            continue;
        }
        if now >= at + kept {
            due.push(node.id);
        } else {
            next = Some(next.map_or(at + kept, |earlier| earlier.min(at + kept)));
        }
    }
    (due, next)
}

/// Whether the task has ended and needs no further decision.
fn is_history(task: &Task) -> bool {
    task.has_ended() && task.desired >= Desired::Shutdown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::{World, id};
    use essaim_model::{ServiceId, TaskState};
    use std::time::Duration;

    /// A world in which the only task of `web` has failed this often, with the history cleaned after each failure.
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
            let changes = forgettable(&world.state, web, Slot::Number(1));
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
    fn attempts_are_counted_and_not_kept() {
        let (mut world, web) = after_failures(7, 0, Some(7));
        assert_eq!(world.state.tasks_of(web).count(), 1);
        world.end(id(1), TaskState::Failed);
        world.settle();
        assert_eq!(world.state.tasks_of(web).filter(|task| task.is_wanted()).count(), 0, "seven attempts are spent");
        for attempts in [1_000_000, u64::MAX] {
            assert_eq!(after_failures(9, 5, Some(attempts)).0.state.tasks().len(), 6);
        }
    }

    #[test]
    fn history_is_bounded_whatever_the_setting() {
        let (mut world, web) = after_failures(1, -1, None);
        let ended = Task::clone(world.state.tasks().find(|task| task.has_ended()).expect("one failed"));
        let many = |count: u128| {
            let made = (0..count).map(|number| {
                let task = Task { id: TaskId::from_bits(1 << 80 | number), ..ended.clone() };
                Change::CreateTask(Box::new(task))
            });
            made.collect::<Vec<_>>()
        };
        world.done(many(TASK_HISTORY_MAX as u128 + 40));
        let changes = forgettable(&world.state, web, Slot::Number(1));
        world.done(changes);
        // The newest task is kept in addition to the maximum.
        assert_eq!(world.state.tasks_of(web).filter(|task| task.has_ended()).count(), TASK_HISTORY_MAX + 1);
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
        assert_eq!(forgettable(&world.state, job, Slot::Number(1)), []);
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
    fn a_node_that_left_goes_after_a_day_and_one_that_was_lost_stays() {
        let mut world = World::of(3);
        for lost in [2, 3] {
            world.reach(lost, Reachability::Down);
        }
        let generation = world.state.node(id(2)).expect("there").generation;
        world.done(vec![Change::DepartNode { id: id(2), generation, left: true }]);
        let left_at = world.now();
        assert_eq!(departed(&world.state, left_at), (vec![], Some(left_at + Duration::from_secs(86_400))));
        world.pass(Duration::from_secs(86_400));
        assert_eq!(departed(&world.state, world.now()), (vec![id(2)], None));
    }

    /// The 26 rows of Swarm's table, with a history of 0: what is wanted, what was observed, whether Swarm forgets the
    /// task, and whether we do. A task that ended by itself is forgotten when the leader has decided what follows it, and
    /// so wants no more of it: until then it is how the leader knows of the end.
    #[test]
    fn which_tasks_are_forgotten_by_what_is_wanted_and_observed() {
        const LOST: Option<TaskState> = None;
        let at = |desired, state: Option<TaskState>, swarm: bool, ours: bool| (desired, state, swarm, ours);
        let mut rows = Vec::new();
        for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Shutdown) {
            let ended = state.is_final();
            rows.push(at(Desired::Running, Some(state), ended, false));
            // A task that no worker has been given ends when it is told to; see `State::apply`.
            rows.push(at(Desired::Shutdown, Some(state), ended, ended));
        }
        for (desired, ours) in [(Desired::Running, false), (Desired::Shutdown, true)] {
            // Swarm's REMOVE is our Shutdown as a state that was observed; its ORPHANED is a task written off.
            rows.push(at(desired, Some(TaskState::Shutdown), true, ours));
            rows.push(at(desired, LOST, true, ours));
            // Swarm's NEW and PENDING, before a task has a node, and ASSIGNED are one state of ours.
            rows.push(at(desired, Some(TaskState::New), false, false));
            rows.push(at(desired, Some(TaskState::New), false, false));
        }
        assert_eq!(rows.len(), 26);
        for (desired, state, swarm, ours) in rows {
            let mut world = World::of(1);
            world.set_cluster(|spec| spec.task_history = 0);
            let web = world.create("web", 1, |_| ());
            world.settle();
            let newest = Task::clone(world.state.tasks_of(web).next().expect("one"));
            let id = TaskId::from_bits(1);
            let mut task = Task { id, desired, ..newest };
            task.observed.state = state.unwrap_or(TaskState::Running);
            task.written_off =
                state.is_none().then(|| essaim_model::WrittenOff { at: world.now(), why: "a test".into() });
            world.pass(Duration::from_secs(1));
            world.done(vec![Change::CreateTask(Box::new(task.clone()))]);
            // A newer task of the slot, which is never forgotten.
            world.pass(Duration::from_secs(1));
            let shut = Change::SetDesired { id: newest_of(&world, web, id), desired: Desired::Shutdown };
            let next = Task { id: TaskId::from_bits(2), desired: Desired::Shutdown, ..task };
            world.done(vec![shut, Change::CreateTask(Box::new(next))]);
            let forgotten = forgettable(&world.state, web, Slot::Number(1)).contains(&Change::ForgetTask { id });
            assert_eq!(forgotten, ours, "{desired:?} and {state:?}; Swarm: {swarm}");
        }
    }

    fn newest_of(world: &World, service: ServiceId, other: TaskId) -> TaskId {
        world.state.tasks_of(service).map(|task| task.id).find(|id| *id != other).expect("there")
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
