//! Replicated services against the tables of Swarm's orchestrator: scaling down, what a change of a node does to its tasks,
//! and the cases of tasks that a new leader finds.

use super::tests::{SECOND, nodes, restart, scale, slots};
use crate::tests::world::{World, id};
use essaim_model::*;
use essaim_wire::Reachability;
use std::collections::BTreeMap;
use std::time::Duration;

fn number(slot: u32) -> Slot {
    Slot::Number(slot)
}

/// Six slots on three nodes as in Swarm's test, the first of which is starting, and a seventh that waits for a node.
fn uneven() -> (World, ServiceId) {
    let mut world = World::of(3);
    let web = world.create("web", 6, |_| ());
    for (slot, node) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 3)] {
        let state = if slot == 1 { TaskState::Starting } else { TaskState::Running };
        world.leave_task(web, number(slot), Some(node), Desired::Running, state);
    }
    world.leave_task(web, number(7), None, Desired::Running, TaskState::New);
    (world, web)
}

/// Swarm evens out the nodes before it looks at which tasks run, and so keeps the task that is starting and stops two
/// that run: three of four are left for the moment, or for good if the starting one never runs. Here four run throughout.
/// In the end both keep the same two tasks.
#[test]
fn scaling_down_takes_what_waits_then_what_does_not_run_then_what_is_too_much_on_a_node() {
    let (mut world, web) = uneven();
    world.lead();
    assert_eq!(slots(&world, web), [1, 2, 3, 4, 5, 6], "the one that has no node went");
    world.update(web, scale(4));
    world.lead();
    assert_eq!((slots(&world, web), world.running(web)), (vec![2, 3, 4, 5], 4));
    world.update(web, scale(2));
    world.lead();
    assert_eq!((slots(&world, web), nodes(&world, web)), (vec![2, 4], vec![2, 3]));
}

/// The table of Swarm's drain test: six slots, one task without a node and one on each kind of node. The service restarts
/// nothing by itself, which does not concern tasks that have to leave their node.
#[test]
fn which_tasks_a_change_of_their_node_moves() {
    let mut world = World::of(7);
    let web = world.create("web", 6, |spec| {
        spec.task.restart = restart(|it| it.condition = Some(RestartCondition::None));
    });
    let place = |world: &mut World, slot: u32, node: Option<u128>| {
        let state = if node.is_some() { TaskState::Running } else { TaskState::New };
        (number(slot), world.leave_task(web, number(slot), node, Desired::Running, state))
    };
    let mut left: BTreeMap<Slot, TaskId> = [place(&mut world, 1, None)].into();
    left.extend((2..=6).map(|slot| place(&mut world, slot, Some(u128::from(slot)))));
    world.reach(3, Reachability::Down);
    world.reach(4, Reachability::Unknown);
    world.set_node(5, |spec| spec.availability = Availability::Pause);
    world.set_node(6, |spec| spec.availability = Availability::Drain);
    world.settle();
    let stayed = |world: &World| -> Vec<u32> {
        let stays = |(_, id): &(&Slot, &TaskId)| world.state.task(**id).is_some_and(|task| task.is_wanted());
        left.iter().filter(stays).map(|(slot, _)| slot.number()).collect()
    };
    assert_eq!(stayed(&world), [1, 2, 4, 5], "what is down and what drains has to leave");
    assert_eq!((slots(&world, web), world.running(web)), (vec![1, 2, 3, 4, 5, 6], 6));
    world.set_node(5, |spec| spec.availability = Availability::Drain);
    world.settle();
    assert_eq!((stayed(&world), world.running(web)), (vec![1, 2, 4], 6));
    world.done(vec![Change::RemoveNode { id: id(2), until: world.now(), force: true }]);
    world.settle();
    assert_eq!((stayed(&world), world.running(web)), (vec![1, 4], 6));
}

#[test]
fn of_a_task_that_a_new_leader_finds_rejected_or_failed_the_successor_is_prepared_and_the_other_slots_stay() {
    for (wish, state) in [(Desired::Ready, TaskState::Rejected), (Desired::Running, TaskState::Failed)] {
        let mut world = World::of(1);
        let web = world.create("web", 2, |spec| spec.task.restart = restart(|it| it.delay = Some(5 * SECOND)));
        let ended = world.leave_task(web, number(1), Some(1), wish, state);
        let other = world.leave_task(web, number(2), Some(1), Desired::Running, TaskState::Starting);
        world.pass(5 * SECOND);
        world.lead();
        let desired = |id: TaskId| world.state.task(id).expect("there").desired;
        assert_eq!((desired(ended), desired(other)), (Desired::Shutdown, Desired::Running));
        let next = world.state.tasks_in(web, number(1)).find(|task| task.is_wanted()).expect("one follows");
        assert_eq!(next.desired, Desired::Ready, "{state:?}");
        assert_eq!(slots(&world, web), [1, 2]);
    }
}

/// Swarm lets the replacement wait for the restart delay; here it does not, because the task did not fail.
#[test]
fn the_task_that_a_new_leader_finds_on_a_node_that_is_down_is_replaced() {
    let mut world = World::of(2);
    let web = world.create("web", 1, |spec| spec.task.restart = restart(|it| it.delay = Some(3600 * SECOND)));
    let lost = world.leave_task(web, number(1), Some(2), Desired::Running, TaskState::Running);
    world.reach(2, Reachability::Down);
    world.change_leader(Duration::ZERO);
    world.settle();
    assert!(world.state.task(lost).is_none_or(|task| task.written_off.is_some()));
    assert_eq!((nodes(&world, web), world.running(web)), (vec![1], 1));
}

#[test]
fn a_task_that_a_new_leader_finds_waiting_for_its_delay_waits_for_it_to_pass_and_then_runs() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |spec| spec.task.restart = restart(|it| it.delay = Some(5 * SECOND)));
    world.leave_task(web, number(1), Some(1), Desired::Running, TaskState::Failed);
    world.live(2 * SECOND);
    let waits = world.state.tasks_of(web).find(|task| task.is_wanted()).expect("one waits").id;
    world.change_leader(Duration::ZERO);
    world.live(2 * SECOND);
    assert_eq!(world.state.task(waits).expect("there").observed.state, TaskState::Ready);
    world.live(4 * SECOND);
    assert!(world.state.task(waits).expect("there").is_running());
}
