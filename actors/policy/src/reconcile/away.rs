//! Updates while nodes are away: a slot that is being updated holds up the others also while its node does not answer,
//! drains or no longer fits.

use super::tests::{SECOND, following, restart, set_image};
use crate::tests::world::{World, id};
use essaim_model::*;
use essaim_wire::{NodeId, Reachability};
use std::collections::BTreeSet;

/// A service of three tasks of the image `a` on three nodes, of which one at a time may be updated.
fn service(edit: impl FnOnce(&mut ServiceSpec)) -> (World, ServiceId) {
    let mut world = World::of(3);
    let web = world.create("web", 3, |spec| {
        spec.task.restart = restart(|_| ());
        edit(spec);
    });
    world.settle();
    world.pass(60 * SECOND);
    (world, web)
}

/// Slots with a running task that may go on.
fn filled(world: &World, web: ServiceId) -> BTreeSet<Slot> {
    world.state.tasks_of(web).filter(|task| task.is_running() && task.is_wanted()).map(|task| task.slot).collect()
}

/// Slots with a task that follows the spec in force and does not run yet.
fn coming(world: &World, web: ServiceId) -> BTreeSet<Slot> {
    let version = world.state.service(web).expect("there").spec_version;
    let comes = |task: &&std::sync::Arc<Task>| task.is_wanted() && !task.is_running() && task.spec_version == version;
    world.state.tasks_of(web).filter(comes).map(|task| task.slot).collect()
}

/// Lets leader and workers take `turns` turns, and asserts that one slot at most is without a running task.
fn play(world: &mut World, web: ServiceId, turns: usize, what: &str) {
    for _ in 0..turns {
        world.lead();
        assert!(filled(world, web).len() >= 2, "{what}: {:?} are filled", filled(world, web));
        world.work();
        assert!(filled(world, web).len() >= 2, "{what}: {:?} are filled", filled(world, web));
        world.pass(SECOND / 10);
    }
}

#[test]
fn a_node_that_does_not_answer_for_a_moment_lets_no_other_slot_begin_its_update() {
    for node in 1..=3 {
        for is_released in [false, true] {
            for turns in 0..8 {
                let what = format!("node {node} is away after {turns} turns, released: {is_released}");
                let (mut world, web) = service(|_| ());
                world.update(web, set_image("b"));
                play(&mut world, web, turns, &what);
                world.lead();
                world.reach(node, Reachability::Unreachable);
                if !is_released {
                    world.released.clear();
                }
                play(&mut world, web, 3, &what);
                world.reach(node, Reachability::Reachable);
                play(&mut world, web, 30, &what);
                world.live(30 * SECOND);
                let state = world.state.service(web).and_then(|it| it.update.clone()).map(|update| update.state);
                assert_eq!((following(&world, web, "b"), state), (3, Some(UpdateState::Completed)), "{what}");
            }
        }
    }
}

#[test]
fn a_slot_that_is_filled_again_after_its_node_was_lost_counts_against_the_parallelism() {
    for reachability in [Reachability::Unreachable, Reachability::Down] {
        let (mut world, web) = service(|_| ());
        world.update(web, set_image("b"));
        world.reach(3, reachability);
        world.lead();
        assert_eq!(coming(&world, web).len(), 1, "{reachability:?}: only the lost one");
        play(&mut world, web, 30, "after the loss");
        assert_eq!(following(&world, web, "b"), 3);
    }
}

#[test]
fn slots_that_move_off_a_node_that_no_longer_fits_count_against_the_parallelism() {
    for what in ["drained", "without its label"] {
        let mut world = World::of(3);
        for node in 1..=3 {
            world.set_node(node, |spec| drop(spec.labels.insert("x".into(), "1".into())));
        }
        let web = world.create("web", 3, |spec| {
            let constraints = vec!["node.labels.x==1".parse().expect("a constraint")];
            spec.task.placement = Some(Placement { constraints, ..Placement::default() });
        });
        world.settle();
        world.update(web, set_image("b"));
        world.set_node(3, |spec| match what {
            "drained" => spec.availability = Availability::Drain,
            _ => drop(spec.labels.remove("x")),
        });
        for _ in 0..40 {
            world.lead();
            assert!(coming(&world, web).len() <= 1, "{what}: {:?} are updated at a time", coming(&world, web));
            world.work();
            world.pass(SECOND / 10);
        }
        world.live(20 * SECOND);
        assert_eq!(following(&world, web, "b"), 3, "{what}");
    }
}

#[test]
fn a_global_service_goes_on_with_the_nodes_that_answer() {
    let mut world = World::of(3);
    let agent = world.create("agent", 0, |spec| spec.mode = Mode::Global);
    world.settle();
    world.update(agent, set_image("b"));
    world.lead();
    let first = coming(&world, agent);
    let [Slot::Node(away)] = first.into_iter().collect::<Vec<_>>()[..] else { panic!("one node at a time") };
    world.reach(away.bits(), Reachability::Unreachable);
    world.live(20 * SECOND);
    let others = world.state.tasks_of(agent).filter(|task| task.is_running() && task.node() != Some(away));
    let version = world.state.service(agent).expect("there").spec_version;
    let follow: Vec<NodeId> = others.filter(|task| task.spec_version == version).filter_map(|it| it.node()).collect();
    assert_eq!(follow, [1, 2, 3].map(id).into_iter().filter(|node| *node != away).collect::<Vec<_>>());
}
