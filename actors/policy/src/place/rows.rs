//! The rules of Swarm's scheduler, by name of its test, as far as `tests` and `tables` do not show them: which nodes are
//! there, which tasks wait, and what failures and ended tasks count for.

use super::tests::{constrain, reserve, spread};
use crate::tests::world::{GIB, World, id, node};
use essaim_model::*;
use essaim_wire::{NodeId, Reachability};
use std::time::Duration;

fn nodes(world: &World, service: ServiceId) -> Vec<u128> {
    world.wanted_by_node(service).into_keys().map(NodeId::bits).collect()
}

/// Creates a service and returns the nodes that its tasks are on.
fn placed(world: &mut World, name: &str, replicas: u32) -> Vec<u128> {
    let service = world.create(name, replicas, |_| ());
    world.settle();
    nodes(world, service)
}

/// A restart policy without a delay.
fn restart(spec: &mut ServiceSpec) {
    spec.task.restart = Some(RestartPolicy { delay: Some(Duration::ZERO), ..RestartPolicy::default() });
}

#[test]
fn scheduler_the_next_task_goes_to_the_emptiest_node_of_those_that_are_there() {
    let mut world = World::of(3);
    let first = world.create("first", 1, |_| ());
    world.settle();
    assert_eq!((nodes(&world, first), placed(&mut world, "two", 2)), (vec![1], vec![2, 3]));
    // That a node is described and set again changes nothing.
    for number in 1..=3 {
        world.describe(number, |node| drop(node.engine_labels.insert("a".into(), "b".into())));
        world.set_node(number, |spec| drop(spec.labels.insert("a".into(), "b".into())));
    }
    world.done(vec![Change::RemoveService { id: first }]);
    world.settle();
    assert_eq!(placed(&mut world, "freed", 1), [1]);
    for number in 4..=6 {
        world.done(vec![Change::AcceptNode(Box::new(node(number)))]);
    }
    world.reach(4, Reachability::Down);
    world.done(vec![Change::RemoveNode { id: id(5), until: world.now(), force: true }]);
    assert_eq!(placed(&mut world, "joined", 1), [6]);
    assert_eq!(placed(&mut world, "full", 1), [1], "node 4 is down and node 5 is gone");
    world.reach(4, Reachability::Reachable);
    assert_eq!(placed(&mut world, "back", 1), [4]);
}

#[test]
fn resource_constraint_ha_the_emptier_node_gets_what_fits_and_the_fuller_one_the_rest() {
    let mut world = World::of(2);
    world.describe(1, |node| node.hardware.memory_bytes = 2 * GIB);
    for (number, replicas) in [(1, 1), (2, 3)] {
        world.create(&format!("ballast{number}"), replicas, |spec| {
            reserve(spec, GIB);
            constrain(spec, &format!("node.hostname==n{number}"));
        });
    }
    world.settle();
    let web = world.create("web", 2, |spec| reserve(spec, GIB));
    world.settle();
    assert_eq!(spread(&world, web, 2), [1, 1]);
}

#[test]
fn resource_constraint_dead_task_what_has_ended_takes_no_room_for_this_leader_and_the_next() {
    for leader_changes in [false, true] {
        let mut world = World::of(1);
        let first = world.create("first", 1, |spec| {
            reserve(spec, 8 * GIB);
            let condition = Some(RestartCondition::None);
            spec.task.restart = Some(RestartPolicy { condition, ..RestartPolicy::default() });
        });
        world.settle();
        let second = world.create("second", 1, |spec| reserve(spec, 8 * GIB));
        world.settle();
        assert_eq!(world.reasons(second), ["no suitable node (insufficient resources on 1 node)"]);
        world.end(id(1), TaskState::Failed);
        if leader_changes {
            world.change_leader(Duration::ZERO);
        }
        world.settle();
        assert_eq!((world.running(first), world.running(second)), (0, 1));
    }
}

/// What a failure says of a node concerns tasks that could go elsewhere.
#[test]
fn faulty_node_a_global_service_stays_on_its_node_however_often_it_fails_there() {
    let mut world = World::of(2);
    let agent = world.create("agent", 0, |spec| {
        spec.mode = Mode::Global;
        restart(spec);
    });
    world.settle();
    for _ in 0..7 {
        world.end(id(1), TaskState::Failed);
        world.settle();
        assert_eq!((nodes(&world, agent), world.running(agent)), (vec![1, 2], 2));
    }
}

#[test]
fn faulty_node_spec_version_failures_of_one_version_of_a_spec_do_not_count_against_the_next() {
    let mut world = World::of(2);
    world.create("ballast", 20, |spec| constrain(spec, "node.hostname==n2"));
    let web = world.create("web", 1, restart);
    world.settle();
    for version in ["b", "c"] {
        for _ in 0..5 {
            assert_eq!(nodes(&world, web), [1]);
            world.end(id(1), TaskState::Failed);
            world.settle();
        }
        assert_eq!(nodes(&world, web), [2], "five failures");
        world.update(web, |spec| spec.task.container.image = version.into());
        world.live(Duration::from_secs(10));
    }
    assert_eq!(nodes(&world, web), [1]);
}

#[test]
fn unassigned_map_a_task_that_waits_goes_with_its_service() {
    let mut world = World::of(1);
    let web = world.create("web", 2, |spec| constrain(spec, "node.platform.os==windows"));
    world.settle();
    assert!(world.board.has_pending());
    world.done(vec![Change::RemoveService { id: web }]);
    world.settle();
    assert!(!world.board.has_pending());
    assert_eq!(world.state.tasks().len(), 0);
}

/// A global service has one node for each of its tasks, and another service has all of them.
#[test]
fn preassigned_tasks_of_global_services_are_given_room_before_others() {
    let mut world = World::of(1);
    let ballast = world.create("ballast", 1, |spec| reserve(spec, 8 * GIB));
    world.settle();
    let web = world.create("web", 2, |spec| reserve(spec, 4 * GIB));
    let agent = world.create("agent", 0, |spec| {
        spec.mode = Mode::Global;
        reserve(spec, 6 * GIB);
    });
    world.settle();
    assert_eq!((world.running(web), world.running(agent)), (0, 0));
    world.done(vec![Change::RemoveService { id: ballast }]);
    world.settle();
    assert_eq!((world.running(web), world.running(agent)), (0, 1));
    // Tasks that are created together get their room in the same order.
    let mut world = World::of(1);
    let wish = |world: &World, service, slot| {
        let spec_version = world.state.service(service).expect("created").spec_version;
        crate::Wanted { service, spec_version, slot, desired: Desired::Running, restarts: 0 }
    };
    let web = world.create("web", 1, |spec| reserve(spec, 4 * GIB));
    let agent = world.create("agent", 0, |spec| {
        spec.mode = Mode::Global;
        reserve(spec, 6 * GIB);
    });
    let wanted = [wish(&world, web, Slot::Number(1)), wish(&world, agent, Slot::Node(id(1)))];
    let mut drawn = 0;
    let mut draw = || {
        drawn += 1;
        drawn
    };
    let (state, now) = (world.state.clone(), world.now());
    let changes = world.board.create_tasks(&state, now, &wanted, &mut draw, &mut |_| true);
    let has_node = changes.iter().filter_map(|change| match change {
        Change::CreateTask(task) => Some((task.service, task.node().is_some())),
        _ => None,
    });
    assert_eq!(has_node.collect::<Vec<_>>(), [(agent, true), (web, false)]);
}

#[test]
fn ignore_tasks_a_task_that_is_told_to_end_while_it_waits_gets_no_node() {
    let mut world = World::of(1);
    world.set_node(1, |spec| spec.availability = Availability::Pause);
    let web = world.create("web", 1, |_| ());
    world.settle();
    let told = world.state.tasks_of(web).next().expect("it waits").id;
    world.done(vec![Change::SetDesired { id: told, desired: Desired::Shutdown }]);
    world.set_node(1, |spec| spec.availability = Availability::Active);
    world.settle();
    assert_eq!(world.state.task(told).and_then(|task| task.node()), None);
    let runs = world.state.tasks_of(web).find(|task| task.is_running()).expect("another one");
    assert_ne!(runs.id, told);
}

/// Swarm tells the old task, which waits, to end when the spec changes, and another one waits in its place. Here the task
/// itself follows the new spec, so that one that waits keeps its id, and its turn.
#[test]
fn unscheduleable_task_a_task_that_waits_follows_the_next_spec() {
    let mut world = World::of(1);
    let web = world.create("web", 2, |spec| spec.task.placement.get_or_insert_default().replicas_max_per_node = 1);
    world.settle();
    assert_eq!(world.reasons(web), ["no suitable node (max replicas per node limit exceed)"]);
    let waits = world.state.tasks_of(web).find(|task| task.node().is_none()).expect("one waits").id;
    world.update(web, |spec| {
        spec.task.container.image = "b".into();
        spec.update.get_or_insert_default().order = UpdateOrder::StartFirst;
        spec.task.placement.get_or_insert_default().replicas_max_per_node = 3;
    });
    world.live(Duration::from_secs(20));
    assert_eq!(world.running(web), 2);
    let version = world.state.service(web).expect("there").spec_version;
    let task = world.state.task(waits).expect("it is remembered");
    assert_eq!((task.is_running(), task.spec_version), (true, version));
}

/// Where Swarm's test has a limit of three and a constraint, Swarm's text speaks of the constraint on all nodes. Here it
/// says of each node why the node was not chosen.
#[test]
fn max_replicas_the_next_task_waits_for_another_node_and_the_reason_counts_each_node_once() {
    let mut world = World::of(2);
    let most = |spec: &mut ServiceSpec, most| spec.task.placement.get_or_insert_default().replicas_max_per_node = most;
    let web = world.create("web", 3, |spec| most(spec, 1));
    world.settle();
    assert_eq!((spread(&world, web, 2), world.reasons(web).len()), (vec![1, 1], 1));
    world.done(vec![Change::AcceptNode(Box::new(node(3)))]);
    world.settle();
    assert_eq!((spread(&world, web, 3), world.reasons(web).len()), (vec![1, 1, 1], 0));
    let here = world.create("here", 4, |spec| {
        most(spec, 3);
        constrain(spec, "node.hostname==n1");
    });
    world.settle();
    assert_eq!(spread(&world, here, 3), [3, 0, 0]);
    let reason =
        "no suitable node (scheduling constraints not satisfied on 2 nodes; max replicas per node limit exceed)";
    assert_eq!(world.reasons(here), [reason]);
}
