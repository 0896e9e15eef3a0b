//! The course of each task: what a task goes through, as the log tells it one change after the other.
//!
//! - A task stays on its node, and its desired and observed state only go forward.
//! - A worker ends a task when it was told to, and not before, unless it had no manager and the task's service asks for
//!   it, or the task was unhealthy.
//! - A node that is drained keeps each task until its replacement runs.
//! - A running task on a node that keeps its tasks is stopped only when its replacement has a place.
//! - Of two running tasks of a slot, the one that has run for longer stays, unless the slot moves to a node with fewer
//!   slots (`essaim.rebalance`).

use crate::testkit::specs::AILING;
use essaim_model::{Availability, Desired, Event, Proposal, ServiceSpec, State, Task, TaskState};
use essaim_wire::{Reachability, Timestamp};
use std::time::Duration;

/// Age up to which a leader may decide on an outdated state: a change within this time is no reason to blame a
/// decision. Three times what an election takes.
const SETTLED: Duration = Duration::from_millis(500);

/// Time that a task waits for another node before it is stopped without a replacement, with a margin.
const DRAIN_PATIENCE: Duration = Duration::from_secs(59);

/// Time after a change of its service within which a task may be stopped because of the change.
const CHANGE_FELT: Duration = Duration::from_secs(5);

/// Returns what is wrong with the step from one state to the next.
pub fn judge(before: &State, after: &State, events: &[Event], proposal: &Proposal) -> Vec<String> {
    let mut wrong = Vec::new();
    for event in events {
        let Event::Task { old: Some(old), new: Some(new) } = event else { continue };
        let complaints = [
            went_wrong(old, new),
            unordered_end(before, old, new),
            stopped_too_early(before, after, old, new, proposal),
        ];
        let what = |why| format!("task {} at index {}: {why}", old.id, after.applied().index.0);
        wrong.extend(complaints.into_iter().flatten().map(what));
    }
    wrong
}

/// Returns a step of a task that no task may take.
fn went_wrong(old: &Task, new: &Task) -> Option<String> {
    if old.node().is_some() && old.node() != new.node() {
        return Some(format!("it moved from {:?} to {:?}", old.node(), new.node()));
    }
    if new.observed.state < old.observed.state
        || (old.observed.state.is_final() && new.observed.state != old.observed.state)
    {
        return Some(format!("it went from {} back to {}", old.observed.state.as_str(), new.observed.state.as_str()));
    }
    if new.desired < old.desired {
        return Some(format!("it was to be {:?} and is to be {:?}", old.desired, new.desired));
    }
    (old.written_off.is_some() && new.written_off.is_none()).then(|| "it was written off and is not any more".into())
}

/// Whether the task's worker stopped it without having been told to. A task that ends by itself has an exit code; a
/// task that is lost with its machine has none, and says so.
fn unordered_end(before: &State, old: &Task, new: &Task) -> Option<String> {
    let ended = !old.observed.state.is_final() && new.observed.state.is_final();
    // A task without memory is killed too, by the kernel, and says so.
    let killed = |error: &String| error.contains("non-zero exit (143)") || error.contains("non-zero exit (137)");
    let signalled = |error: &String| killed(error) && !error.contains("out of memory");
    let stopped = new.observed.state == TaskState::Shutdown || new.observed.error.as_ref().is_some_and(signalled);
    let told = old.desired >= Desired::Shutdown || old.written_off.is_some() || new.desired > old.desired;
    // A node that leaves, or is being removed, ends its tasks by itself.
    let home = old.node().and_then(|node| before.node(node));
    let stays = home.is_some_and(|node| node.reachability != Reachability::Down && node.departure.is_none());
    let followed = before.spec(old.service, old.spec_version);
    // A worker ends a task by itself when its lease has lapsed or its health check fails. A daemon that is started again
    // after that, and before it could say so, finds a task that was ended by a signal.
    let by_itself = |spec: &ServiceSpec| {
        spec.stops_on_disconnect()
            || spec.task.container.image.as_str() == AILING && new.observed.state == TaskState::Failed
    };
    (ended && stopped && !told && !followed.is_some_and(|spec| by_itself(spec)) && stays)
        .then(|| "its worker stopped it, and nobody had ordered that".into())
}

/// Whether the leader stopped a task that should have been kept.
fn stopped_too_early(before: &State, after: &State, old: &Task, new: &Task, proposal: &Proposal) -> Option<String> {
    let now = proposal.at;
    let settled = |at: Timestamp| at + SETTLED <= now;
    let stops = old.desired == Desired::Running && new.desired == Desired::Shutdown && new.written_off.is_none();
    if !stops || proposal.fence.is_none() || !old.is_running() || new.observed.state.is_final() {
        return None;
    }
    let service = before.service(old.service)?;
    let home = before.node(old.node()?)?;
    let others = || after.tasks_in(old.service, old.slot).filter(|other| other.id != old.id);
    // A replacement that had a place and ended a moment ago counts, because the leader may not have heard of its end.
    let has_place = |other: &Task| other.node().is_some() && (other.is_wanted() || !settled(other.meta.updated_at));
    if home.spec.availability != Availability::Drain
        && home.reachability == Reachability::Reachable
        && settled(home.meta.updated_at)
        && service.spec.replicas().is_some()
        && !others().any(|other| has_place(other))
    {
        return Some("it was stopped before anything had a place to run in its stead".into());
    }
    let updates = service.update.as_ref().is_some_and(|update| update.completed_at.is_none());
    if updates || service.spec.replicas().is_none() || service.meta.updated_at + CHANGE_FELT > now {
        return None;
    }
    let node = home;
    let placement = service.spec.task.placement();
    if node.reachability != Reachability::Reachable {
        return None;
    }
    let others = || others().filter(|other| other.is_wanted());
    match node.spec.availability {
        Availability::Drain if !service.spec.drains_stop_first() => {
            let waits = |other: &Task| other.node().is_none() && other.meta.created_at + DRAIN_PATIENCE <= now;
            let replaced = others().any(|other| other.is_running() || waits(other));
            (!replaced).then(|| "it was stopped on a node that drains before another one ran in its place".into())
        }
        // A task on a node that its placement forbids is no surplus: it goes in favour of a newer task elsewhere.
        Availability::Active if !placement.allows(node) || placement.replicas_max_per_node > 0 => None,
        Availability::Active => {
            let newer = |other: &Task| {
                let answers = other.node().and_then(|node| after.node(node));
                other.spec_version == old.spec_version
                    && other.desired == Desired::Running
                    && other.is_running()
                    && answers.is_some_and(|node| node.reachability == Reachability::Reachable)
                    && other.meta.created_at > old.meta.created_at
                    && settled(other.meta.updated_at)
                    && settled(old.meta.updated_at)
            };
            let may_move = |other: &Task| service.spec.rebalance_pause().is_some() && other.node() != old.node();
            let stays = others().find(|other| newer(other) && !may_move(other))?;
            Some(format!("it was stopped as surplus, and {}, which is newer, stays", stays.id))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::invariants::fixture::{self, HOUR, apply, world};
    use essaim_model::fixtures::service;
    use essaim_model::{Assigned, Change, TaskId, WrittenOff};
    use essaim_wire::NodeId;
    use std::sync::Arc;

    fn task(number: u64, node: u128, state: TaskState) -> Task {
        Task { assigned: Assigned::Node(NodeId::from_bits(node)), ..fixture::task(number, state) }
    }

    fn changed(task: &Task, change: impl FnOnce(&mut Task)) -> Task {
        let mut task = task.clone();
        change(&mut task);
        task
    }

    fn stop(state: &State, id: u64) -> Vec<String> {
        let mut after = state.clone();
        let id = TaskId::from_bits(id.into());
        let (events, proposal) = apply(&mut after, HOUR, vec![Change::SetDesired { id, desired: Desired::Shutdown }]);
        judge(state, &after, &events, &proposal)
    }

    fn drain(state: &mut State, node: u64) {
        let id = NodeId::from_bits(node.into());
        let node = Arc::clone(state.node(id).expect("it is there"));
        let spec = essaim_model::NodeSpec { availability: Availability::Drain, ..node.spec.clone() };
        apply(state, Timestamp::from_micros(50), vec![Change::SetNode { id, expect: node.meta.version, spec }]);
    }

    #[test]
    fn a_task_that_moves_goes_backwards_or_comes_back_is_seen() {
        let old = task(1, 1, TaskState::Running);
        assert_eq!(went_wrong(&old, &old), None);
        let bad: [fn(&mut Task); 3] = [
            |task| task.assigned = Assigned::Node(NodeId::from_bits(2)),
            |task| task.observed.state = TaskState::Ready,
            |task| task.desired = Desired::Ready,
        ];
        for change in bad {
            assert!(went_wrong(&old, &changed(&old, change)).is_some());
        }
        let ended = task(1, 1, TaskState::Failed);
        assert!(went_wrong(&ended, &task(1, 1, TaskState::Shutdown)).is_some());
        let off = changed(&old, |task| task.written_off = Some(WrittenOff { at: HOUR, why: String::new() }));
        assert!(went_wrong(&off, &old).is_some());
    }

    #[test]
    fn a_task_that_its_worker_stops_without_an_order_is_seen() {
        let state = world(service("web", 1), &[task(1, 2, TaskState::Running)]);
        let old = state.task(TaskId::from_bits(1)).expect("it is there");
        let seen = |change: fn(&mut Task)| unordered_end(&state, old, &changed(old, change)).is_some();
        assert!(seen(|task| task.observed.state = TaskState::Shutdown));
        assert!(seen(|task| {
            task.observed.state = TaskState::Failed;
            task.observed.error = Some("task: non-zero exit (143)".into());
        }));
        assert!(!seen(|task| {
            task.observed.state = TaskState::Failed;
            task.observed.error = Some("task: non-zero exit (1)".into());
        }));
        let told = changed(old, |task| task.desired = Desired::Shutdown);
        let ended = changed(&told, |task| task.observed.state = TaskState::Shutdown);
        assert_eq!(unordered_end(&state, &told, &ended), None);
    }

    #[test]
    fn of_two_that_run_the_older_one_must_stay() {
        let state = world(service("web", 1), &[task(1, 1, TaskState::Running), task(2, 2, TaskState::Running)]);
        assert_eq!(stop(&state, 2), [""; 0]);
        let wrong = stop(&state, 1);
        assert!(wrong.len() == 1 && wrong[0].contains("which is newer, stays"), "{wrong:?}");
        let alone = world(service("web", 1), &[task(1, 1, TaskState::Running), task(2, 2, TaskState::Ready)]);
        assert_eq!(stop(&alone, 1), [""; 0], "the other does not run: there may be a reason");
    }

    #[test]
    fn a_task_that_drains_must_be_replaced_before_it_is_stopped() {
        let mut state = world(service("web", 1), &[task(1, 2, TaskState::Running), task(2, 1, TaskState::Starting)]);
        drain(&mut state, 2);
        let wrong = stop(&state, 1);
        assert!(wrong.len() == 1 && wrong[0].contains("before another one ran in its place"), "{wrong:?}");
        let mut state = world(service("web", 1), &[task(1, 2, TaskState::Running), task(2, 1, TaskState::Running)]);
        drain(&mut state, 2);
        assert_eq!(stop(&state, 1), [""; 0]);
    }
}
