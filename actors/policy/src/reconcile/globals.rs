//! Global services against the table of Swarm's orchestrator, the cases of tasks that a new leader finds included.

use super::tests::{SECOND, nodes, restart};
use crate::tests::world::{World, id, node};
use essaim_model::*;
use essaim_wire::Reachability;
use std::time::Duration;

/// A world of `count` nodes with a global service whose tasks are restarted at once.
fn world(count: u128) -> (World, ServiceId) {
    let mut world = World::of(count);
    let agent = agent(&mut world, "agent", |_| ());
    (world, agent)
}

fn agent(world: &mut World, name: &str, policy: impl FnOnce(&mut RestartPolicy)) -> ServiceId {
    world.create(name, 0, |spec| {
        spec.mode = Mode::Global;
        spec.task.restart = restart(policy);
    })
}

fn force(world: &mut World, service: ServiceId) {
    world.update(service, |spec| spec.task.force_update += 1);
}

fn on(node: u128) -> Slot {
    Slot::Node(id(node))
}

fn desired(world: &World, task: TaskId) -> Desired {
    world.state.task(task).expect("it is remembered").desired
}

/// The tasks of a service that are wanted.
fn wanted(world: &World, service: ServiceId) -> Vec<TaskId> {
    world.state.tasks_of(service).filter(|task| task.is_wanted()).map(|task| task.id).collect()
}

#[test]
fn a_node_that_is_drained_or_paused_gets_no_task_by_an_update_and_gets_one_when_it_is_active() {
    let (mut world, agent) = world(1);
    world.settle();
    for availability in [Availability::Drain, Availability::Pause] {
        let [before] = wanted(&world, agent)[..] else { panic!("one runs") };
        world.set_node(1, |spec| spec.availability = availability);
        world.settle();
        if availability == Availability::Pause {
            assert_eq!(wanted(&world, agent), [before], "a paused node keeps what it has");
            world.end(id(1), TaskState::Failed);
            world.settle();
        }
        assert_eq!((wanted(&world, agent), desired(&world, before)), (vec![], Desired::Shutdown), "{availability:?}");
        force(&mut world, agent);
        world.settle();
        assert_eq!(wanted(&world, agent), [], "{availability:?}");
        world.set_node(1, |spec| spec.availability = Availability::Active);
        world.live(10 * SECOND);
        assert_eq!(world.running(agent), 1, "{availability:?}");
    }
}

/// Swarm gives up the tasks of a node as soon as it does not answer. We keep them until the node is down for good,
/// because their places are the node itself.
#[test]
fn a_node_that_is_down_gets_no_task_by_an_update_and_gets_one_when_it_is_back() {
    let (mut world, agent) = world(1);
    world.settle();
    let before = wanted(&world, agent);
    world.reach(1, Reachability::Unreachable);
    world.settle();
    assert_eq!(wanted(&world, agent), before);
    world.reach(1, Reachability::Down);
    force(&mut world, agent);
    world.settle();
    assert_eq!(wanted(&world, agent), []);
    world.reach(1, Reachability::Reachable);
    world.settle();
    assert_eq!(world.running(agent), 1);
}

#[test]
fn a_node_that_joins_gets_a_task_of_each_global_service_and_a_removed_service_leaves_none() {
    let (mut world, first) = world(1);
    let second = agent(&mut world, "second", |_| ());
    world.settle();
    world.done(vec![Change::AcceptNode(Box::new(node(2)))]);
    world.settle();
    assert_eq!((nodes(&world, first), nodes(&world, second)), (vec![1, 2], vec![1, 2]));
    world.done(vec![Change::RemoveService { id: first }]);
    world.settle();
    assert_eq!((world.state.tasks_of(first).count(), nodes(&world, second)), (0, vec![1, 2]));
}

/// A task of a global service that may not be restarted is not run again until its spec changes, as in Swarm.
#[test]
fn a_failed_task_is_followed_if_the_condition_says_so_and_otherwise_by_the_next_spec() {
    let (mut world, any) = world(1);
    let never = agent(&mut world, "never", |policy| policy.condition = Some(RestartCondition::None));
    world.settle();
    world.end(id(1), TaskState::Failed);
    world.settle();
    assert_eq!((world.running(any), world.running(never)), (1, 0));
    let ended = world.state.tasks_of(never).next().expect("it is remembered").id;
    assert_eq!(desired(&world, ended), Desired::Shutdown);
    world.update(never, |_| ());
    world.live(10 * SECOND);
    assert_eq!(world.running(never), 0, "an update that changes nothing starts nothing");
    force(&mut world, never);
    world.live(10 * SECOND);
    assert_eq!((world.running(any), world.running(never)), (1, 1));
}

#[test]
fn of_a_task_that_a_new_leader_finds_rejected_or_failed_the_successor_waits_for_the_delay() {
    for (wish, state) in [(Desired::Ready, TaskState::Rejected), (Desired::Running, TaskState::Failed)] {
        let mut world = World::of(1);
        let agent = agent(&mut world, "agent", |policy| policy.delay = Some(5 * SECOND));
        let found = world.leave_task(agent, on(1), Some(1), wish, state);
        // Nothing follows a task that could not be prepared before its own delay has passed.
        world.pass(5 * SECOND);
        world.lead();
        let [next] = wanted(&world, agent)[..] else { panic!("one follows") };
        let task = world.state.task(next).expect("there");
        assert_eq!((task.node(), task.desired), (Some(id(1)), Desired::Ready), "{state:?}");
        assert_eq!(desired(&world, found), Desired::Shutdown);
        world.live(6 * SECOND);
        assert_eq!(world.running(agent), 1);
    }
}

#[test]
fn of_two_tasks_that_a_new_leader_finds_on_a_node_the_older_one_stays() {
    let (mut world, agent) = world(1);
    let older = world.leave_task(agent, on(1), Some(1), Desired::Running, TaskState::Running);
    world.pass(SECOND);
    let newer = world.leave_task(agent, on(1), Some(1), Desired::Running, TaskState::Running);
    world.lead();
    assert_eq!((desired(&world, older), desired(&world, newer)), (Desired::Running, Desired::Shutdown));
}

#[test]
fn a_new_leader_that_finds_everything_as_it_should_be_does_nothing_and_what_concerns_one_service_touches_no_other() {
    let (mut world, first) = world(1);
    let second = agent(&mut world, "second", |_| ());
    let [one, two] =
        [first, second].map(|it| world.leave_task(it, on(1), Some(1), Desired::Running, TaskState::Running));
    assert!(world.plan(first).is_empty() && world.plan(second).is_empty());
    force(&mut world, first);
    assert!(world.plan(second).is_empty());
    world.live(10 * SECOND);
    assert_eq!((wanted(&world, second), world.running(first)), (vec![two], 1));
    assert_ne!(wanted(&world, first), [one]);
    let kept = wanted(&world, first);
    let observed = Observed { state: TaskState::Failed, ..Observed::nothing(world.now()) };
    world.done(vec![Change::Observe { node: id(1), reports: vec![(two, observed)] }]);
    assert!(world.plan(first).is_empty());
    world.settle();
    assert_eq!((wanted(&world, first), world.running(second)), (kept, 1));
    assert_ne!(wanted(&world, second), [two]);
}

/// Swarm's leader deletes tasks whose service it does not find. In our state there are none: the removal of a service
/// marks its tasks, and a new leader only waits for their end.
#[test]
fn tasks_of_a_service_that_was_removed_before_the_leader_changed_end_and_are_forgotten() {
    let (mut world, agent) = world(2);
    world.settle();
    world.done(vec![Change::RemoveService { id: agent }]);
    assert!(world.state.tasks_of(agent).all(|task| task.desired == Desired::Remove));
    world.change_leader(Duration::ZERO);
    world.settle();
    assert_eq!(world.state.tasks().len(), 0);
}

#[test]
fn a_task_that_a_new_leader_finds_on_a_drained_or_a_removed_node_ends_and_none_follows() {
    for removed in [false, true] {
        let (mut world, agent) = world(2);
        let found = world.leave_task(agent, on(2), Some(2), Desired::Running, TaskState::Running);
        if removed {
            world.done(vec![Change::RemoveNode { id: id(2), until: world.now(), force: true }]);
        } else {
            world.set_node(2, |spec| spec.availability = Availability::Drain);
        }
        world.settle();
        assert_eq!(nodes(&world, agent), [1], "removed: {removed}");
        assert!(world.state.task(found).is_none_or(|task| task.has_ended() && task.desired == Desired::Shutdown));
    }
}

/// Swarm counts the attempts *within* the window, here of ten minutes: a program that fails every four minutes, with two
/// failures in any ten minutes, is restarted for ever although it may be restarted three times. Here a restart has failed
/// unless its task ran for the window (see `restart`), so the fourth failure in a row is the last. In both, tasks of
/// an earlier spec do not count, and a new leader counts as the old one did.
#[test]
fn the_attempts_of_a_node_are_counted_across_leaders_and_those_of_an_earlier_spec_are_not() {
    let mut world = World::of(1);
    let agent = agent(&mut world, "agent", |policy| {
        (policy.max_attempts, policy.window) = (Some(3), Some(600 * SECOND));
    });
    world.settle();
    for _ in 0..3 {
        world.end(id(1), TaskState::Failed);
        world.settle();
    }
    force(&mut world, agent);
    world.live(10 * SECOND);
    for failure in 1..=4 {
        assert_eq!(world.running(agent), 1, "failure {failure}");
        world.pass(240 * SECOND);
        world.change_leader(Duration::ZERO);
        world.end(id(1), TaskState::Failed);
        world.settle();
    }
    assert_eq!(wanted(&world, agent), []);
    // A task that ran for the window, and a new spec, begin the count again.
    force(&mut world, agent);
    world.live(600 * SECOND);
    for _ in 0..3 {
        world.end(id(1), TaskState::Failed);
        world.settle();
        assert_eq!(world.running(agent), 1);
    }
}
