//! Updates: how the leader replaces the tasks of a service that follow an older spec, change after change of the log.
//!
//! A slot's update *begins* when the leader creates a task in it while another task of the slot, on a node that may keep
//! it, follows a spec that asks for another task than the one in force. It *takes effect* when the new task has a node: at
//! its creation, or later if it had to wait for one. A slot is *in flight* from then until its new task has run for the
//! delay: the new task has a node and does not run yet or has not run for the delay, and the old one is still there or
//! ended by order. A slot that was removed, because the service became smaller, and is there again, because it became
//! larger, is not updated: its new task waits for the end of the old one and interrupts nothing.
//!
//! - When a slot's update takes effect, no more slots are in flight than the parallelism in force.
//! - No slot's update begins or takes effect while the update is paused.
//! - No task is replaced that runs, may stay, and follows the spec in force, unless its slot moves to a node with fewer
//!   slots (`essaim.rebalance`), which waits for the end of an update; so a rollback leaves those that already follow
//!   the spec it goes back to.

use essaim_model::{
    Availability, Change, Desired, Event, Proposal, Service, Slot, State, Task, TaskState, UpdateConfig, UpdateState,
};
use essaim_wire::{Reachability, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Age up to which a leader may decide on an outdated state; as for the course of a task.
const SETTLED: Duration = Duration::from_millis(500);

/// The tasks that are created in a step from one state to the next.
pub(super) fn created(events: &[Event]) -> impl Iterator<Item = &Arc<Task>> {
    events.iter().filter_map(|event| match event {
        Event::Task { old: None, new: Some(new) } => Some(new),
        _ => None,
    })
}

/// The tasks that wait for a node before a step from one state to the next, and have one after it.
pub(super) fn given(events: &[Event]) -> impl Iterator<Item = &Arc<Task>> {
    events.iter().filter_map(|event| match event {
        Event::Task { old: Some(old), new: Some(new) } => {
            Some(new).filter(|new| old.node().is_none() && new.node().is_some())
        }
        _ => None,
    })
}

/// Returns what is wrong with the updates that begin or take effect in the step from one state to the next.
pub fn judge(before: &State, after: &State, events: &[Event], proposal: &Proposal) -> Vec<String> {
    // Only a leader's decisions are judged: they carry its term.
    if proposal.fence.is_none() {
        return Vec::new();
    }
    let index = after.applied().index.0;
    let begun = created(events).filter_map(|new| begins(before, after, new, proposal, true));
    let waited = given(events).filter_map(|new| begins(before, after, new, proposal, false));
    begun.chain(waited).map(|why| format!("at index {index}: {why}")).collect()
}

/// What is wrong with the creation of this task, or with giving it its node later.
fn begins(before: &State, after: &State, new: &Task, proposal: &Proposal, is_creation: bool) -> Option<String> {
    let service = before.service(new.service)?;
    let changes_the_spec =
        |change: &Change| matches!(change, Change::UpdateService { .. } | Change::RollBackService { .. });
    let is_settled = |at: Timestamp| at + SETTLED <= proposal.at;
    // A task that waited gets its node by its present spec, or not at all; so only a pause may have come in between.
    let is_outdated = !is_settled(service.meta.updated_at);
    if service.job.is_some()
        || is_creation && is_outdated
        || new.spec_version != service.spec_version
        || proposal.changes.iter().any(changes_the_spec)
    {
        return None;
    }
    let others = || before.tasks_in(new.service, new.slot).filter(|other| other.id != new.id);
    let stays = |other: &Task| is_wanted(other) && may_stay(before, service, other, &is_settled);
    let replaced = others().find(|other| stays(other))?;
    // With two wanted tasks in the slot, or with one that waits, another reason than the update is at work.
    if others().filter(|other| is_wanted(other)).count() > 1 || !is_settled(replaced.meta.updated_at) {
        return None;
    }
    let (slot, name) = (new.slot, &service.spec.name);
    let backwards = matches!(
        service.update.as_ref().map(|update| update.state),
        Some(UpdateState::RollbackStarted | UpdateState::RollbackPaused)
    );
    if is_alike(before, service, replaced) {
        let what = if backwards { "the spec that the rollback goes back to" } else { "the spec in force" };
        let id = replaced.id;
        let updates = service.update.as_ref().is_some_and(|update| update.completed_at.is_none());
        let may_move = service.spec.rebalance_pause().is_some() && !updates;
        return (is_creation && replaced.is_running() && !may_move)
            .then(|| format!("slot {slot} of {name} gets another task, and {id} in it runs and follows {what}"));
    }
    let paused = service
        .update
        .as_ref()
        .is_some_and(|update| matches!(update.state, UpdateState::Paused | UpdateState::RollbackPaused));
    if paused {
        return (!is_outdated).then(|| format!("slot {slot} of {name} is updated while its update is paused"));
    }
    new.node()?;
    let config = if backwards { &service.spec.rollback } else { &service.spec.update }.clone().unwrap_or_default();
    let flights = in_flight(after, service, &config, proposal.at, &is_settled);
    let is_too_many = config.parallelism > 0 && flights.len() as u64 > config.parallelism;
    is_too_many.then(|| {
        let describe = |slot: &Slot| format!("slot {slot}: {}", describe(after, service, *slot));
        let list: Vec<String> = flights.iter().map(describe).collect();
        let (count, list) = (flights.len(), list.join("; "));
        format!("{name} has {count} slots in flight, and {} are allowed: {list}", config.parallelism)
    })
}

/// The tasks of a slot, oldest first, for a violation's text.
fn describe(state: &State, service: &Service, slot: Slot) -> String {
    let word = |task: &&Arc<Task>| {
        let node = task.node().and_then(|node| state.node(node)).map_or_else(|| "no node".to_owned(), |it| it.name());
        let follows = if is_alike(state, service, task) { "follows the spec" } else { "is dated" };
        let off = if task.written_off.is_some() { ", written off" } else { "" };
        let (id, desired, observed) = (task.id, task.desired, task.observed.state.as_str());
        format!("{id} on {node} {follows} ({desired:?}, {observed}{off})")
    };
    in_order(state, service, slot).iter().map(word).collect::<Vec<_>>().join(", ")
}

/// The tasks of a slot, oldest first.
fn in_order<'a>(state: &'a State, service: &Service, slot: Slot) -> Vec<&'a Arc<Task>> {
    let mut tasks: Vec<_> = state.tasks_in(service.id, slot).collect();
    tasks.sort_by_key(|task| (task.meta.created_at, task.id));
    tasks
}

/// The slots of a service whose update has taken effect and whose new task has not run for the delay.
fn in_flight(
    state: &State,
    service: &Service,
    config: &UpdateConfig,
    now: Timestamp,
    is_settled: &impl Fn(Timestamp) -> bool,
) -> BTreeSet<Slot> {
    let slots: BTreeSet<Slot> = state.tasks_of(service.id).map(|task| task.slot).collect();
    let is_flying = |slot: &Slot| {
        let tasks = in_order(state, service, *slot);
        let Some((new, older)) = tasks.split_last() else { return false };
        // One that never had a node was replaced without an interruption.
        let Some((old, node_of_old)) = older.iter().rev().find_map(|it| Some((it, it.node()?))) else { return false };
        let has_settled = new.is_running() && new.began_at.is_some_and(|began| began + config.delay <= now);
        let by_order = !old.has_ended() || old.observed.state == TaskState::Shutdown;
        is_wanted(new)
            && old.desired != Desired::Remove
            && !has_settled
            && by_order
            && is_alike(state, service, new)
            && !is_alike(state, service, old)
            && new.node().and_then(|node| state.node(node)).is_some_and(|node| {
                // A node that was away a moment ago held up no other slot of a global service.
                is_sound(state, node.id) && (matches!(slot, Slot::Number(_)) || is_settled(node.meta.updated_at))
            })
            && is_sound(state, node_of_old)
    };
    slots.into_iter().filter(is_flying).collect()
}

fn is_wanted(task: &Task) -> bool {
    task.is_wanted() && !task.has_ended() && task.desired <= Desired::Running && task.written_off.is_none()
}

/// Whether a task asks for the same as the spec in force.
fn is_alike(state: &State, service: &Service, task: &Task) -> bool {
    task.spec_version == service.spec_version
        || state.spec(service.id, task.spec_version).is_some_and(|spec| Service::same_task(spec, &service.spec))
}

fn is_sound(state: &State, node: essaim_wire::NodeId) -> bool {
    state.node(node).is_some_and(|node| {
        node.reachability == Reachability::Reachable && node.spec.availability == Availability::Active
    })
}

/// Whether the task's node may keep the task, and has not changed a moment ago.
fn may_stay(state: &State, service: &Service, task: &Task, is_settled: &impl Fn(Timestamp) -> bool) -> bool {
    let placement = service.spec.task.placement();
    let Some(node) = task.node().and_then(|node| state.node(node)) else { return false };
    let level = state.spec(service.id, task.spec_version).map(|spec| spec.level());
    is_sound(state, node.id)
        && !node.unsteady
        && is_settled(node.meta.updated_at)
        && placement.allows(node)
        && placement.replicas_max_per_node == 0
        && level.is_some_and(|level| level <= node.level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::invariants::fixture::{self, HOUR, SERVICE, apply};
    use essaim_model::fixtures::service;
    use essaim_model::{Assigned, TaskId, UpdateStatus};
    use essaim_wire::NodeId;

    fn task(number: u64, slot: u32, state: TaskState) -> Task {
        Task { slot: Slot::Number(slot), ..fixture::task(number, state) }
    }

    /// A state with three running tasks of the first spec of a service, and another spec in force.
    fn world() -> State {
        world_after(|_| ())
    }

    /// The same, with something that happens before the service is updated.
    fn world_after(happens: impl FnOnce(&mut State)) -> State {
        let mut spec = service("web", 3);
        spec.update = Some(UpdateConfig { parallelism: 1, ..UpdateConfig::default() });
        let running = [(1, 1), (2, 2), (3, 3)].map(|(number, slot)| task(number, slot, TaskState::Running));
        let mut state = fixture::world(spec.clone(), &running);
        happens(&mut state);
        let expect = state.service(SERVICE).expect("it is there").meta.version;
        spec.task.force_update += 1;
        let update = Change::UpdateService { id: SERVICE, expect, spec: Some(Box::new(spec)) };
        apply(&mut state, Timestamp::from_micros(20), vec![update]);
        state
    }

    /// Complaints about a new task of the spec in force in this slot.
    fn begin(state: &mut State, number: u64, slot: u32) -> Vec<String> {
        let before = state.clone();
        let spec_version = before.service(SERVICE).expect("it is there").spec_version;
        let new = Task { desired: Desired::Ready, spec_version, ..task(number, slot, TaskState::New) };
        let (events, proposal) = apply(state, HOUR, vec![Change::CreateTask(Box::new(new))]);
        judge(&before, state, &events, &proposal)
    }

    #[test]
    fn more_slots_than_the_parallelism_are_seen() {
        let mut state = world();
        assert_eq!(begin(&mut state, 11, 1), [""; 0]);
        let wrong = begin(&mut state, 12, 2);
        assert!(wrong.len() == 1 && wrong[0].contains("2 slots in flight, and 1 are allowed"), "{wrong:?}");
    }

    #[test]
    fn a_slot_whose_task_failed_is_filled_beside_others_also_if_a_task_waited_in_it_meanwhile() {
        let mut state = world_after(|state| {
            let at = Timestamp::from_micros(15);
            let failed = task(2, 2, TaskState::Failed);
            let node = failed.node().expect("it has one");
            let waits =
                Task { assigned: Assigned::Pending { reason: "no room".into() }, ..task(21, 2, TaskState::New) };
            let id = waits.id;
            apply(state, at, vec![Change::Observe { node, reports: vec![(failed.id, failed.observed)] }]);
            apply(state, at, vec![Change::CreateTask(Box::new(waits))]);
            apply(state, at, vec![Change::SetDesired { id, desired: Desired::Shutdown }]);
        });
        assert_eq!(begin(&mut state, 22, 2), [""; 0]);
        assert_eq!(begin(&mut state, 11, 1), [""; 0], "one slot is interrupted");
    }

    /// A global service with running tasks of its first spec on two nodes, and another spec in force, under which a task
    /// waits in each slot.
    fn waiting(parallelism: u64) -> State {
        let mut spec = service("web", 3);
        spec.mode = essaim_model::Mode::Global;
        spec.update = Some(UpdateConfig { parallelism, ..UpdateConfig::default() });
        let nodes = [1, 2].map(NodeId::from_bits);
        let on = |node, task: Task| Task { slot: Slot::Node(node), assigned: Assigned::Node(node), ..task };
        let running =
            [(nodes[0], 1), (nodes[1], 2)].map(|(node, number)| on(node, fixture::task(number, TaskState::Running)));
        let mut state = fixture::world(spec.clone(), &running);
        let expect = state.service(SERVICE).expect("it is there").meta.version;
        spec.task.force_update += 1;
        let update = Change::UpdateService { id: SERVICE, expect, spec: Some(Box::new(spec)) };
        apply(&mut state, Timestamp::from_micros(20), vec![update]);
        let spec_version = state.service(SERVICE).expect("it is there").spec_version;
        let waits = |node, number| Task {
            desired: Desired::Ready,
            spec_version,
            assigned: Assigned::Pending { reason: "no room".into() },
            ..on(node, fixture::task(number, TaskState::New))
        };
        for (node, number) in [(nodes[0], 11), (nodes[1], 12)] {
            let before = state.clone();
            let create = Change::CreateTask(Box::new(waits(node, number)));
            let (events, proposal) = apply(&mut state, HOUR, vec![create]);
            assert_eq!(judge(&before, &state, &events, &proposal), [""; 0], "a task that waits interrupts nothing");
        }
        state
    }

    /// Complaints when the waiting task of a node gets it.
    fn give(state: &mut State, node: u128) -> Vec<String> {
        let before = state.clone();
        let spec_version = before.service(SERVICE).expect("it is there").spec_version;
        let (id, node) = (TaskId::from_bits(10 + node), NodeId::from_bits(node));
        let assign = Change::AssignTask { id, node, spec_version, generic: Default::default() };
        let (events, proposal) = apply(state, HOUR + Duration::from_secs(60), vec![assign]);
        judge(&before, state, &events, &proposal)
    }

    #[test]
    fn slots_of_a_global_service_that_have_waited_and_are_updated_at_once_are_seen() {
        for (parallelism, count) in [(1, 1), (2, 0)] {
            let mut state = waiting(parallelism);
            assert_eq!(give(&mut state, 1), [""; 0]);
            let wrong = give(&mut state, 2);
            assert_eq!(wrong.len(), count, "{wrong:?}");
            assert!(wrong.iter().all(|it| it.contains("2 slots in flight, and 1 are allowed")), "{wrong:?}");
        }
    }

    #[test]
    fn a_slot_that_has_waited_and_is_updated_while_the_update_is_paused_is_seen() {
        let mut state = waiting(0);
        pause(&mut state);
        let wrong = give(&mut state, 1);
        assert!(wrong.len() == 1 && wrong[0].contains("is updated while its update is paused"), "{wrong:?}");
    }

    #[test]
    fn a_slot_that_was_removed_and_begins_anew_is_not_in_flight() {
        let mut state = world();
        let removed = state.tasks_in(SERVICE, Slot::Number(1)).next().expect("it is there").id;
        let change = Change::SetDesired { id: removed, desired: Desired::Remove };
        apply(&mut state, Timestamp::from_micros(30), vec![change]);
        assert_eq!(begin(&mut state, 11, 1), [""; 0]);
        assert_eq!(begin(&mut state, 12, 2), [""; 0]);
        assert_eq!(begin(&mut state, 13, 3).len(), 1);
    }

    fn pause(state: &mut State) {
        let service = state.service(SERVICE).expect("it is there");
        let status = UpdateStatus {
            state: UpdateState::Paused,
            started_at: Timestamp::from_micros(20),
            completed_at: None,
            message: "update paused".into(),
        };
        let change = Change::SetUpdateStatus { id: SERVICE, spec_version: service.spec_version, status };
        apply(state, Timestamp::from_micros(30), vec![change]);
    }

    #[test]
    fn a_slot_that_is_updated_while_the_update_is_paused_is_seen() {
        let mut state = world();
        pause(&mut state);
        let wrong = begin(&mut state, 11, 1);
        assert!(wrong.len() == 1 && wrong[0].contains("is updated while its update is paused"), "{wrong:?}");
    }

    #[test]
    fn a_healthy_task_that_follows_the_spec_of_the_rollback_is_not_replaced() {
        let mut state = world();
        let expect = state.service(SERVICE).expect("it is there").meta.version;
        apply(&mut state, Timestamp::from_micros(30), vec![Change::UpdateService { id: SERVICE, expect, spec: None }]);
        let wrong = begin(&mut state, 11, 1);
        let words = "runs and follows the spec that the rollback goes back to";
        assert!(wrong.len() == 1 && wrong[0].contains(words), "{wrong:?}");
    }
}
