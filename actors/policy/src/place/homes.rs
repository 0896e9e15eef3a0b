//! Slots that are bound to the node on which their data is.

use crate::tests::world::{GIB, World, id};
use essaim_model::service::STICKY_LABEL;
use essaim_model::{Assigned, Change, Mode, Resources, ServiceId, ServiceSpec, Share, fixtures};
use essaim_wire::{Reachability, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

fn sticky(patience: &'static str) -> impl Fn(&mut ServiceSpec) {
    move |spec| {
        spec.task.container.mounts = fixtures::volume("data");
        spec.labels.insert(STICKY_LABEL.into(), patience.into());
    }
}

/// By slot the node of its wanted task, or the reason why the task is pending.
fn places(world: &World, service: ServiceId) -> BTreeMap<u32, Result<u128, String>> {
    let wanted = world.state.tasks_of(service).filter(|task| task.is_wanted());
    let place = |assigned: &Assigned| match assigned {
        Assigned::Node(node) => Ok(node.bits()),
        Assigned::Pending { reason } => Err(reason.clone()),
    };
    wanted.map(|task| (task.slot.number(), place(&task.assigned))).collect()
}

fn waits_for(name: &str) -> Result<u128, String> {
    Err(format!("waits for node {name}, where its data is (1 node not available for new tasks)"))
}

#[test]
fn a_slot_waits_for_the_node_with_its_data_and_goes_back_there() {
    let mut world = World::of(3);
    let db = world.create("db", 1, sticky("wait"));
    world.settle();
    world.reach(1, Reachability::Down);
    world.settle();
    assert_eq!(places(&world, db), [(1, waits_for("n1"))].into());
    world.pass(Duration::from_secs(24 * 3600));
    world.settle();
    assert_eq!(places(&world, db), [(1, waits_for("n1"))].into(), "for as long as it takes");
    world.reach(1, Reachability::Reachable);
    world.settle();
    assert_eq!(places(&world, db), [(1, Ok(1))].into());
}

#[test]
fn a_slot_starts_elsewhere_after_the_time_that_its_service_sets_and_stays_there() {
    let mut world = World::of(2);
    let db = world.create("db", 1, sticky("10m"));
    world.settle();
    world.reach(1, Reachability::Down);
    world.settle();
    let plan = world.again();
    assert_eq!(plan, Some(world.created_at(db) + Duration::from_secs(600)), "the leader looks again without an event");
    world.pass(Duration::from_secs(590));
    world.settle();
    assert_eq!(places(&world, db), [(1, waits_for("n1"))].into());
    world.pass(Duration::from_secs(10));
    world.settle();
    assert_eq!(places(&world, db), [(1, Ok(2))].into());
    // Its data is there now.
    world.reach(1, Reachability::Reachable);
    world.reach(2, Reachability::Down);
    world.settle();
    assert_eq!(places(&world, db), [(1, waits_for("n2"))].into());
}

#[test]
fn data_on_a_node_that_was_removed_is_not_waited_for() {
    let mut world = World::of(3);
    // Node 1 is a manager, which cannot be removed.
    let db = world.create("db", 3, sticky("wait"));
    world.settle();
    world.reach(3, Reachability::Down);
    world.settle();
    assert_eq!(places(&world, db)[&3], waits_for("n3"));
    world.done(vec![Change::RemoveNode { id: id(3), until: Timestamp::default(), force: true }]);
    world.settle();
    assert_eq!(places(&world, db)[&3], Ok(1));
}

#[test]
fn a_slot_that_is_scaled_away_and_back_finds_its_data() {
    let mut world = World::of(3);
    let db = world.create("db", 3, sticky("wait"));
    world.settle();
    let before = places(&world, db);
    for replicas in [1, 0, 3] {
        world.update(db, |spec| spec.mode = Mode::Replicated { replicas });
        // Whatever is free meanwhile, no other node takes its place.
        world.create(&format!("other{replicas}"), 1, |_| ());
        world.settle();
    }
    assert_eq!(places(&world, db), before);
}

#[test]
fn slots_that_return_to_one_node_are_given_no_more_than_it_has() {
    let mut world = World::of(2);
    world.describe(2, |it| it.hardware.memory_bytes = 0);
    let db = world.create("db", 2, |spec| {
        sticky("wait")(spec);
        let reservation = Some(Share { memory_bytes: GIB, ..Share::default() });
        spec.task.resources = Some(Resources { reservation, ..Resources::default() });
    });
    world.settle();
    assert_eq!(places(&world, db), [(1, Ok(1)), (2, Ok(1))].into());
    world.reach(1, Reachability::Down);
    world.settle();
    world.describe(1, |it| it.hardware.memory_bytes = GIB);
    world.describe(2, |it| it.hardware.memory_bytes = 4 * GIB);
    world.reach(1, Reachability::Reachable);
    world.settle();
    let full = "waits for node n1, where its data is (insufficient resources on 1 node)";
    assert_eq!(places(&world, db), [(1, Ok(1)), (2, Err(full.into()))].into());
}

#[test]
fn without_the_label_a_slot_starts_anywhere() {
    let mut world = World::of(2);
    let db = world.create("db", 1, |spec| {
        sticky("wait")(spec);
        spec.labels.clear();
    });
    world.settle();
    world.reach(1, Reachability::Down);
    world.settle();
    assert_eq!(places(&world, db), [(1, Ok(2))].into());
}
