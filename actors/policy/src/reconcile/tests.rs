//! Reconciliation against the tables of Swarm's orchestrator tests, and where Essaim improves on them.

use crate::tests::world::{World, id, node};
use essaim_model::*;
use essaim_wire::{NodeId, Reachability};
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn slots(world: &World, service: ServiceId) -> Vec<u32> {
    let mut slots: Vec<u32> =
        world.state.tasks_of(service).filter(|task| task.is_wanted()).map(|task| task.slot.number()).collect();
    slots.sort_unstable();
    slots
}

pub(super) fn nodes(world: &World, service: ServiceId) -> Vec<u128> {
    world.wanted_by_node(service).keys().map(|node| node.bits()).collect()
}

pub(super) fn restart(edit: impl FnOnce(&mut RestartPolicy)) -> Option<RestartPolicy> {
    let mut policy = RestartPolicy { delay: Some(Duration::ZERO), ..RestartPolicy::default() };
    edit(&mut policy);
    Some(policy)
}

pub(super) fn set_image(image: &'static str) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| spec.task.container.image = image.into()
}

pub(super) fn scale(replicas: u32) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| spec.mode = Mode::Replicated { replicas }
}

/// Number of wanted tasks that follow a spec with this image.
pub(super) fn following(world: &World, service: ServiceId, image: &str) -> usize {
    let wanted = world.state.tasks_of(service).filter(|task| task.is_wanted());
    wanted
        .filter(|task| {
            world.state.spec(service, task.spec_version).is_some_and(|spec| &*spec.task.container.image == image)
        })
        .count()
}

#[test]
fn a_service_is_created_scaled_up_and_scaled_down() {
    let mut world = World::of(3);
    let web = world.create("web", 2, |_| ());
    world.settle();
    assert_eq!((slots(&world, web), world.running(web)), (vec![1, 2], 2));
    world.update(web, scale(3));
    world.settle();
    assert_eq!((slots(&world, web), world.running(web)), (vec![1, 2, 3], 3));
    world.update(web, scale(1));
    world.settle();
    assert_eq!(slots(&world, web), [1]);
    assert_eq!(world.state.tasks_of(web).count(), 1, "what was scaled away is forgotten");
    world.update(web, scale(0));
    world.settle();
    assert_eq!(world.state.tasks_of(web).count(), 0);
}

#[test]
fn a_plan_that_was_carried_out_is_followed_by_an_empty_one() {
    let mut world = World::of(3);
    let web = world.create("web", 7, |_| ());
    world.settle();
    assert!(world.plan(web).is_empty());
}

#[test]
fn scaling_down_takes_what_waits_then_what_does_not_run_then_evens_out() {
    let mut world = World::of(3);
    let max = |spec: &mut ServiceSpec| spec.task.placement.get_or_insert_default().replicas_max_per_node = 2;
    let web = world.create("web", 8, max);
    world.settle();
    assert_eq!(world.running(web), 6);
    assert_eq!(slots(&world, web), [1, 2, 3, 4, 5, 6, 7, 8]);
    world.update(web, scale(6));
    world.settle();
    assert_eq!(slots(&world, web), [1, 2, 3, 4, 5, 6], "the two that waited are gone");
    world.update(web, scale(3));
    world.settle();
    assert_eq!(nodes(&world, web), [1, 2, 3], "one is left on each node");
    assert_eq!(slots(&world, web), [1, 2, 3]);
}

#[test]
fn a_free_number_is_used_again() {
    let mut world = World::of(2);
    let web = world.create("web", 4, |_| ());
    world.settle();
    world.set_node(2, |spec| spec.availability = Availability::Drain);
    world.settle();
    world.update(web, scale(2));
    world.settle();
    world.update(web, scale(4));
    world.settle();
    assert_eq!(slots(&world, web), [1, 2, 3, 4]);
}

#[test]
fn a_removed_service_leaves_nothing_behind() {
    let mut world = World::of(2);
    let web = world.create("web", 4, |_| ());
    world.settle();
    world.done(vec![Change::RemoveService { id: web }]);
    world.settle();
    assert_eq!(world.state.tasks().len(), 0);
}

#[test]
fn an_unreachable_nodes_tasks_are_replaced_at_once_and_the_surplus_goes_when_it_returns() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |_| ());
    world.settle();
    let before = world.state.tasks_of(web).map(|task| task.id).collect::<Vec<_>>();
    world.reach(3, Reachability::Unreachable);
    world.settle();
    assert_eq!(world.state.tasks_of(web).filter(|task| task.is_wanted()).count(), 4, "one stands in");
    let sound = world.wanted_by_node(web);
    assert_eq!(sound[&id(1)] + sound[&id(2)], 3);
    world.reach(3, Reachability::Reachable);
    world.settle();
    assert_eq!(
        world.state.tasks_of(web).filter(|task| task.is_wanted()).count(),
        4,
        "until node 3 has surely reported"
    );
    world.live(Duration::from_secs(1));
    let after: Vec<_> = world.state.tasks_of(web).filter(|task| task.is_wanted()).map(|task| task.id).collect();
    assert_eq!(after, before, "the stand-in, being newer, went");
}

#[test]
fn a_running_stand_in_does_not_give_way_to_a_task_that_ended_while_its_node_was_away() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |_| ());
    world.settle();
    world.reach(3, Reachability::Unreachable);
    world.settle();
    let lost = world.state.tasks_on(id(3)).next().expect("it had one").id;
    let before: Vec<_> = world.state.tasks_of(web).filter(|task| task.id != lost).map(|task| task.id).collect();
    // The machine lost its power. It is back, and its worker is about to report what is left of its tasks.
    world.reach(3, Reachability::Reachable);
    world.settle();
    world.end(id(3), TaskState::Failed);
    world.live(Duration::from_secs(5));
    let after: Vec<_> = world.state.tasks_of(web).filter(|task| task.is_wanted()).map(|task| task.id).collect();
    assert_eq!(after, before, "the stand-in stayed, and no other task was needed");
}

#[test]
fn a_running_stand_in_does_not_give_way_to_a_task_whose_engine_says_nothing_yet() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |_| ());
    world.settle();
    world.reach(3, Reachability::Unreachable);
    world.settle();
    // The daemon is back before its engine.
    world.describe(3, |it| it.engines.clear());
    world.reach(3, Reachability::Reachable);
    world.live(Duration::from_secs(5));
    assert_eq!(world.state.tasks_of(web).filter(|task| task.is_wanted()).count(), 4);
    world.describe(3, |it| it.engines = vec![EngineKind::Process]);
    world.live(Duration::from_secs(1));
    assert_eq!(world.state.tasks_of(web).filter(|task| task.is_wanted()).count(), 3);
}

#[test]
fn a_node_that_is_down_loses_its_tasks_for_good() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |_| ());
    world.settle();
    world.reach(3, Reachability::Unreachable);
    world.settle();
    world.reach(3, Reachability::Down);
    world.settle();
    let gone = world.state.tasks_on(id(3)).next().expect("history");
    assert_eq!(gone.written_off.as_ref().map(|off| off.why.as_str()), Some("node n3 is down"));
    world.reach(3, Reachability::Reachable);
    world.settle();
    assert_eq!(nodes(&world, web), [1, 2], "nothing moves back by itself");
    assert_eq!(world.running(web), 3);
}

#[test]
fn a_loss_never_waits_for_the_restart_delay() {
    let mut world = World::of(2);
    let web = world.create("web", 1, |spec| spec.task.restart = restart(|it| it.delay = Some(3600 * SECOND)));
    world.settle();
    world.reach(1, Reachability::Unreachable);
    world.settle();
    let stand_in = world.state.tasks_on(id(2)).find(|task| task.service == web).expect("placed");
    assert!(stand_in.is_running());
}

#[test]
fn a_service_that_waits_for_down_is_left_alone_until_then() {
    let says = |word: &'static str| {
        move |spec: &mut ServiceSpec| drop(spec.labels.insert(service::ON_UNREACHABLE_LABEL.into(), word.into()))
    };
    let writes = |spec: &mut ServiceSpec| spec.task.container.mounts = fixtures::volume("data");
    let left_alone = |edit: &dyn Fn(&mut ServiceSpec)| {
        let mut world = World::of(2);
        let db = world.create("db", 1, edit);
        world.settle();
        world.reach(1, Reachability::Unreachable);
        world.settle();
        let waits = nodes(&world, db) == [1];
        world.reach(1, Reachability::Down);
        world.settle();
        assert_eq!(nodes(&world, db), [2]);
        waits
    };
    assert!(left_alone(&says("wait")));
    assert!(left_alone(&writes), "its data is on the node");
    assert!(!left_alone(&|spec| (writes(spec), says("replace")(spec)).1), "unless its label says otherwise");
    assert!(!left_alone(&|_| ()));
}

/// What the default grace of ten seconds makes of the lease, with the margin for a fast clock.
const DRIFTS: Duration = Duration::from_secs(33);

fn stops(spec: &mut ServiceSpec) {
    spec.labels.insert(service::ON_DISCONNECT_LABEL.into(), "stop".into());
}

#[test]
fn a_task_that_must_not_run_twice_is_replaced_when_its_lost_worker_has_ended_it_for_certain() {
    let mut world = World::of(2);
    let db = world.create("db", 1, stops);
    world.settle();
    world.reach(1, Reachability::Unreachable);
    world.settle();
    world.pass(Duration::from_secs(5));
    world.reach(1, Reachability::Down);
    world.live(DRIFTS - Duration::from_secs(7));
    assert_eq!(nodes(&world, db), [1]);
    // A new leader does not know since when the task is adrift, and waits the whole time.
    world.change_leader(Duration::ZERO);
    world.live(DRIFTS - Duration::from_secs(2));
    assert_eq!(nodes(&world, db), [1]);
    world.live(Duration::from_secs(4));
    assert_eq!(nodes(&world, db), [2]);
}

#[test]
fn the_removal_of_its_node_does_not_shorten_the_wait_for_a_task_that_must_not_run_twice() {
    let mut world = World::of(2);
    let db = world.create("db", 1, |spec| {
        stops(spec);
        spec.task.placement = Some(Placement { constraints: vec![], ..Placement::default() });
    });
    world.settle();
    let home = *world.wanted_by_node(db).keys().next().expect("placed");
    if home == id(1) {
        world.set_node(1, |node| node.availability = Availability::Drain);
        world.settle();
    }
    assert_eq!(nodes(&world, db), [2]);
    world.set_node(1, |node| node.availability = Availability::Active);
    world.reach(2, Reachability::Unreachable);
    world.settle();
    world.done(vec![Change::RemoveNode { id: id(2), until: world.now(), force: true }]);
    world.live(DRIFTS - Duration::from_secs(3));
    assert_eq!(nodes(&world, db), [] as [u128; 0]);
    world.live(Duration::from_secs(5));
    assert_eq!(nodes(&world, db), [1]);
}

#[test]
fn a_slot_that_was_scaled_away_and_back_waits_for_its_lost_task_that_must_not_run_twice() {
    let mut world = World::of(2);
    let db = world.create("db", 1, stops);
    world.settle();
    world.reach(1, Reachability::Unreachable);
    world.settle();
    for replicas in [0, 1] {
        world.update(db, |spec| spec.mode = Mode::Replicated { replicas });
        world.settle();
    }
    world.live(DRIFTS - Duration::from_secs(3));
    assert_eq!(world.running(db), 0);
    world.live(Duration::from_secs(5));
    assert_eq!(nodes(&world, db), [2]);
}

#[test]
fn the_successor_in_an_update_waits_for_a_lost_task_that_must_not_run_twice_and_was_told_to_end() {
    let mut world = World::of(2);
    let db = world.create("db", 1, stops);
    world.settle();
    assert_eq!(nodes(&world, db), [1]);
    world.set_node(1, |node| node.availability = Availability::Pause);
    world.update(db, set_image("b"));
    while world.lead() {}
    let told = |task: &&std::sync::Arc<Task>| task.is_running() && task.desired == Desired::Shutdown;
    assert_eq!(world.state.tasks_of(db).filter(told).count(), 1, "its worker has not heard of it");
    world.reach(1, Reachability::Unreachable);
    let new = |world: &World| world.state.tasks_of(db).filter(|it| it.is_running() && it.node() == Some(id(2))).count();
    world.live(DRIFTS - Duration::from_secs(3));
    assert_eq!(new(&world), 0);
    world.live(Duration::from_secs(5));
    assert_eq!(new(&world), 1);
}

#[test]
fn a_task_that_ended_before_its_node_was_lost_is_replaced_at_once_and_one_that_is_back_goes_on() {
    let mut world = World::of(2);
    let db = world.create("db", 1, stops);
    world.settle();
    world.reach(1, Reachability::Unreachable);
    world.live(Duration::from_secs(20));
    world.reach(1, Reachability::Reachable);
    world.settle();
    assert_eq!(nodes(&world, db), [1]);
    // Lost again, the wait begins anew: the lease was renewed meanwhile.
    world.reach(1, Reachability::Unreachable);
    world.live(DRIFTS - Duration::from_secs(2));
    assert_eq!(nodes(&world, db), [1]);
    world.reach(1, Reachability::Reachable);
    world.settle();
    world.end(id(1), TaskState::Shutdown);
    world.reach(1, Reachability::Unreachable);
    world.settle();
    assert_eq!(nodes(&world, db), [2]);
}

#[test]
fn the_brake_holds_slots_even_of_nodes_that_are_down() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |_| ());
    world.settle();
    for reachability in [Reachability::Unreachable, Reachability::Down] {
        world.reach(3, reachability);
        world.released.clear();
        world.settle();
        assert_eq!(nodes(&world, web), [1, 2, 3], "{reachability:?}");
    }
    world.released.insert(id(3));
    world.settle();
    assert_eq!(nodes(&world, web), [1, 2]);
}

#[test]
fn losing_the_stand_ins_node_as_well_makes_another_and_never_a_third_at_a_time() {
    let mut world = World::of(4);
    let web = world.create("web", 1, |_| ());
    world.settle();
    for lost in 1..=3 {
        world.reach(lost, Reachability::Unreachable);
        world.settle();
        assert_eq!(nodes(&world, web).last(), Some(&(lost + 1)));
    }
    (1..=3).for_each(|back| world.reach(back, Reachability::Reachable));
    world.live(Duration::from_secs(1));
    assert_eq!(world.running(web), 1);
}

#[test]
fn nodes_of_which_nothing_was_heard_yet_keep_their_tasks() {
    let mut world = World::of(2);
    let web = world.create("web", 2, |_| ());
    world.settle();
    world.reach(2, Reachability::Unknown);
    world.settle();
    assert_eq!(nodes(&world, web), [1, 2]);
}

#[test]
fn a_drained_nodes_task_goes_when_its_replacement_runs_and_not_before() {
    let mut world = World::of(2);
    let web = world.create("web", 1, |_| ());
    world.settle();
    world.set_node(1, |spec| spec.availability = Availability::Drain);
    world.lead();
    assert_eq!(nodes(&world, web), [1, 2], "the old one goes on");
    world.lead();
    assert_eq!(nodes(&world, web), [1, 2]);
    world.settle();
    assert_eq!(nodes(&world, web), [2]);
}

#[test]
fn a_drain_stops_first_what_keeps_data_on_its_node_unless_the_label_says_otherwise() {
    let says = |word: &'static str| {
        move |spec: &mut ServiceSpec| drop(spec.labels.insert(service::DRAIN_LABEL.into(), word.into()))
    };
    let writes = |spec: &mut ServiceSpec| spec.task.container.mounts = fixtures::volume("data");
    let stops_first = |edit: &dyn Fn(&mut ServiceSpec)| {
        let mut world = World::of(2);
        let web = world.create("web", 1, edit);
        world.settle();
        world.set_node(1, |spec| spec.availability = Availability::Drain);
        world.lead();
        let waits = world.state.tasks_on(id(2)).next().expect("placed").desired == Desired::Ready;
        world.settle();
        assert_eq!((nodes(&world, web), world.running(web)), (vec![2], 1));
        waits
    };
    assert!(stops_first(&says("stop-first")), "the new task waits for the old one's end");
    assert!(stops_first(&writes), "beside the old task a new one would take writes on an empty volume");
    assert!(!stops_first(&|spec| (writes(spec), says("start-first")(spec)).1));
    assert!(!stops_first(&|_| ()));
}

#[test]
fn when_no_other_node_is_eligible_the_old_task_goes_after_a_minute_with_the_reason() {
    let mut world = World::of(2);
    let here = |spec: &mut ServiceSpec| {
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints.push("node.hostname==n1".parse().expect("a constraint"));
    };
    let web = world.create("web", 1, here);
    world.settle();
    world.set_node(1, |spec| spec.availability = Availability::Drain);
    world.live(58 * SECOND);
    assert_eq!(world.running(web), 1, "it goes on");
    assert_eq!(world.plan(web).notes, [""; 0]);
    let text = "no suitable node (1 node not available for new tasks; scheduling constraints not satisfied on 1 node)";
    assert_eq!(world.reasons(web), [text]);
    world.pass(2 * SECOND);
    let note = format!("slot 1 stops on its draining node, and runs nowhere: {text} for 60 s");
    assert_eq!(world.plan(web).notes, [note]);
    world.live(SECOND);
    assert_eq!(world.running(web), 0);
    assert_eq!(world.reasons(web), [text]);
    world.set_node(1, |spec| spec.availability = Availability::Active);
    world.settle();
    assert_eq!(world.running(web), 1);
}

#[test]
fn a_paused_node_keeps_what_it_has_and_gets_nothing() {
    let mut world = World::of(2);
    let web = world.create("web", 2, |_| ());
    world.settle();
    world.set_node(1, |spec| spec.availability = Availability::Pause);
    world.update(web, scale(4));
    world.settle();
    let by_node = world.wanted_by_node(web);
    assert_eq!((by_node[&id(1)], by_node[&id(2)]), (1, 3));
}

#[test]
fn a_task_whose_node_no_longer_fits_is_stopped_and_replaced() {
    let mut world = World::of(2);
    world.set_node(1, |spec| drop(spec.labels.insert("disk".into(), "ssd".into())));
    let on_ssd = |spec: &mut ServiceSpec| {
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints.push("node.labels.disk==ssd".parse().expect("a constraint"));
    };
    let web = world.create("web", 1, on_ssd);
    world.settle();
    assert_eq!(nodes(&world, web), [1]);
    world.set_node(1, |spec| spec.labels.clear());
    world.set_node(2, |spec| drop(spec.labels.insert("disk".into(), "ssd".into())));
    world.settle();
    assert_eq!((nodes(&world, web), world.running(web)), (vec![2], 1));
}

#[test]
fn a_change_of_placement_alone_keeps_the_tasks_that_still_fit() {
    let mut world = World::of(2);
    let web = world.create("web", 2, |_| ());
    world.settle();
    let before: Vec<_> = world.state.tasks_of(web).map(|task| (task.id, task.node())).collect();
    world.update(web, |spec| {
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints.push("node.hostname!=n2".parse().expect("a constraint"));
    });
    world.settle();
    let after: Vec<_> =
        world.state.tasks_of(web).filter(|task| task.is_running()).map(|task| (task.id, task.node())).collect();
    let kept: Vec<_> = before.into_iter().filter(|(_, node)| *node == Some(id(1))).collect();
    assert_eq!(after.len(), 2);
    assert!(kept.iter().all(|task| after.contains(task)));
    assert_eq!(nodes(&world, web), [1]);
}

#[test]
fn a_completed_slot_counts_and_is_not_run_again_by_scaling() {
    let mut world = World::of(1);
    let job = world.create("job", 2, |spec| {
        spec.task.restart = restart(|it| it.condition = Some(RestartCondition::OnFailure));
    });
    world.settle();
    world.end(id(1), TaskState::Complete);
    world.settle();
    world.update(job, scale(3));
    world.settle();
    assert_eq!((slots(&world, job), world.running(job)), (vec![3], 1));
}

#[test]
fn a_global_service_has_one_task_on_every_node_that_may_have_it() {
    let mut world = World::of(3);
    let agent = world.create("agent", 0, |spec| spec.mode = Mode::Global);
    world.settle();
    assert_eq!(nodes(&world, agent), [1, 2, 3]);
    world.done(vec![Change::AcceptNode(Box::new(node(4)))]);
    world.settle();
    assert_eq!(nodes(&world, agent), [1, 2, 3, 4]);
    world.set_node(2, |spec| spec.availability = Availability::Drain);
    world.settle();
    assert_eq!(nodes(&world, agent), [1, 3, 4]);
    world.set_node(2, |spec| spec.availability = Availability::Active);
    world.set_node(3, |spec| spec.availability = Availability::Pause);
    world.settle();
    assert_eq!(nodes(&world, agent), [1, 2, 3, 4], "pause keeps");
    world.reach(4, Reachability::Unreachable);
    world.settle();
    assert_eq!(nodes(&world, agent), [1, 2, 3, 4], "a place that is a node waits for it");
    world.reach(4, Reachability::Down);
    world.settle();
    assert_eq!(nodes(&world, agent), [1, 2, 3]);
    world.done(vec![Change::RemoveNode { id: id(4), until: Default::default(), force: true }]);
    world.settle();
    assert!(world.state.tasks_of(agent).all(|task| task.slot != Slot::Node(id(4))), "forgotten with its node");
    world.end(id(1), TaskState::Failed);
    world.live(6 * SECOND);
    assert_eq!(world.running(agent), 3);
}

#[test]
fn the_next_task_of_a_node_waits_for_the_end_of_the_last_also_while_the_node_cannot_be_reached() {
    let mut world = World::of(1);
    let agent = world.create("agent", 0, |spec| spec.mode = Mode::Global);
    world.settle();
    let first = world.state.tasks_of(agent).next().expect("it runs").id;
    world.update(agent, |spec| spec.task.force_update += 1);
    for reach in [Reachability::Reachable, Reachability::Unreachable] {
        world.reach(1, reach);
        for _ in 0..3 {
            world.lead();
            let mut others = world.state.tasks_of(agent).filter(|task| task.id != first);
            assert!(others.all(|task| task.desired != Desired::Running), "both would run on the one node");
        }
    }
    assert_eq!(world.state.task(first).expect("remembered").desired, Desired::Shutdown);
    world.reach(1, Reachability::Reachable);
    world.live(6 * SECOND);
    assert_eq!(world.running(agent), 1);
}

#[test]
fn a_second_update_waits_for_what_the_first_one_stopped() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |_| ());
    world.settle();
    let first = world.state.tasks_of(web).next().expect("it runs").id;
    // The worker is slow: no task ends, and the first successor has no node yet.
    let impossible = Some(Share { memory_bytes: 1 << 50, ..Share::default() });
    world.update(web, |spec| spec.task.resources = Some(Resources { reservation: impossible, ..Resources::default() }));
    world.lead();
    world.lead();
    world.update(web, |spec| spec.task.resources = None);
    for _ in 0..3 {
        world.lead();
        let mut others = world.state.tasks_of(web).filter(|task| task.id != first);
        assert!(others.all(|task| task.desired != Desired::Running), "the first one still runs");
    }
    world.live(6 * SECOND);
    assert_eq!(world.running(web), 1);
}

#[test]
fn a_task_that_waits_for_its_node_waits_no_more_when_that_is_to_take_nothing() {
    let mut world = World::of(2);
    let agent = world.create("agent", 0, |spec| {
        spec.mode = Mode::Global;
        let reservation = Some(Share { memory_bytes: 1 << 50, ..Share::default() });
        spec.task.resources = Some(Resources { reservation, ..Resources::default() });
    });
    world.settle();
    let waiting = |world: &World| {
        world.state.tasks_of(agent).filter(|task| task.is_wanted() && !task.has_ended()).map(|task| task.slot).collect()
    };
    let all: Vec<Slot> = waiting(&world);
    assert_eq!(all, [Slot::Node(id(1)), Slot::Node(id(2))], "no node has so much memory");
    world.set_node(2, |spec| spec.availability = Availability::Drain);
    world.settle();
    let left: Vec<Slot> = waiting(&world);
    assert_eq!(left, [Slot::Node(id(1))]);
}

#[test]
fn a_global_service_obeys_its_constraints() {
    let mut world = World::of(3);
    let agent = world.create("agent", 0, |spec| {
        spec.mode = Mode::Global;
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints.push("node.role==worker".parse().expect("a constraint"));
    });
    world.settle();
    assert_eq!(nodes(&world, agent), [2, 3]);
}

#[test]
fn a_global_service_has_no_place_where_its_image_has_no_variant_and_takes_nothing_down_there() {
    let mut world = World::of(3);
    for number in 1..=3 {
        world.describe(number, |node| {
            node.platform =
                Platform { architecture: if number == 3 { "aarch64" } else { "x86_64" }.into(), os: "linux".into() };
        });
    }
    let for_amd64 = |spec: &mut ServiceSpec| {
        let platform = Platform { architecture: "amd64".into(), os: "linux".into() };
        spec.task.placement.get_or_insert_default().platforms = vec![platform];
    };
    let agent = world.create("agent", 0, |spec| {
        spec.mode = Mode::Global;
        for_amd64(spec);
    });
    world.settle();
    assert_eq!((nodes(&world, agent), world.reasons(agent).len()), (vec![1, 2], 0));

    let other = world.create("other", 0, |spec| spec.mode = Mode::Global);
    world.settle();
    world.update(other, |spec| {
        set_image("b")(spec);
        for_amd64(spec);
    });
    world.live(20 * SECOND);
    assert_eq!(nodes(&world, other), [1, 2, 3], "the old image goes on where the new one cannot run");
    assert_eq!(world.reasons(other), ["no suitable node (unsupported platform on 1 node)"]);
}

#[test]
fn a_slot_is_never_filled_twice_while_its_old_task_ends() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |_| ());
    world.settle();
    let task = world.state.tasks_of(web).next().expect("one").id;
    world.done(vec![Change::SetDesired { id: task, desired: Desired::Shutdown }]);
    world.lead();
    let new = world.state.tasks_of(web).find(|task| task.is_wanted()).expect("it follows");
    assert_eq!(new.desired, Desired::Ready, "the old one has not ended");
    // The old task never ends: a minute later the new one starts anyway.
    for _ in 0..70 {
        world.pass(SECOND);
        world.lead();
    }
    let new = world.state.tasks_of(web).find(|task| task.is_wanted()).expect("still there");
    assert_eq!(new.desired, Desired::Running);
    let _: Option<NodeId> = new.node();
}

#[test]
fn a_slot_that_was_scaled_away_and_is_wanted_again_waits_for_its_old_task() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |_| ());
    world.settle();
    world.update(web, scale(0));
    world.lead();
    world.update(web, scale(1));
    world.lead();
    let new = world.state.tasks_of(web).find(|task| task.is_wanted()).expect("it is wanted again");
    assert_eq!(new.desired, Desired::Ready, "the old one has not ended");
    world.settle();
    assert_eq!(world.running(web), 1);
}

#[test]
fn what_waits_for_an_old_task_to_end_goes_on_waiting_under_a_leader_whose_clock_is_ahead() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |_| ());
    world.settle();
    world.update(web, set_image("b"));
    while world.lead() {}
    let new = |world: &World| world.state.tasks_of(web).find(|task| task.is_wanted()).expect("it waits").desired;
    assert_eq!(new(&world), Desired::Ready);
    world.change_leader(Duration::from_secs(3600));
    while world.lead() {}
    assert_eq!(new(&world), Desired::Ready, "the old one has not ended");
    world.pass(Duration::from_secs(61));
    while world.lead() {}
    assert_eq!(new(&world), Desired::Running, "it never will");
}

#[test]
fn what_waits_for_an_old_task_to_end_goes_on_waiting_when_its_node_is_drained_or_lost() {
    for lost in [false, true] {
        let mut world = World::of(3);
        let web = world.create("web", 1, |_| ());
        world.settle();
        let old = world.state.tasks_of(web).next().expect("one").clone();
        let there = old.node().expect("it was placed").bits();
        world.set_node(there, |spec| spec.availability = Availability::Pause);
        world.update(web, set_image("b"));
        while world.lead() {}
        let waiting = |world: &World| {
            world.state.tasks_of(web).find(|task| task.is_wanted() && task.id != old.id).cloned().expect("it waits")
        };
        let first = waiting(&world);
        assert_eq!(first.desired, Desired::Ready);
        let node = first.node().expect("it was placed");
        assert_ne!(Some(node), old.node());
        if lost {
            world.reach(node.bits(), Reachability::Unreachable);
        } else {
            world.set_node(node.bits(), |spec| spec.availability = Availability::Drain);
        }
        while world.lead() {}
        let runs = world.state.tasks_of(web).filter(|task| task.id != old.id && task.desired == Desired::Running);
        assert_eq!(runs.count(), 0, "the old task has not ended");
        world.settle();
        assert_eq!(following(&world, web, "b"), 1 + usize::from(lost), "the lost one may come back");
        assert_eq!(world.running(web), 1);
    }
}

#[test]
fn what_waits_for_an_old_task_to_end_on_a_node_that_drains_is_stopped_although_there_is_no_other_place() {
    let mut world = World::of(2);
    let web = world.create("web", 1, |_| ());
    world.settle();
    let old = world.state.tasks_of(web).next().expect("one").clone();
    world.set_node(old.node().expect("it was placed").bits(), |spec| spec.availability = Availability::Pause);
    world.update(web, set_image("b"));
    while world.lead() {}
    let waiting =
        world.state.tasks_of(web).find(|task| task.is_wanted() && task.id != old.id).expect("it waits").clone();
    let node = waiting.node().expect("it was placed");
    world.set_node(node.bits(), |spec| spec.availability = Availability::Drain);
    world.settle();
    let wanted: Vec<_> = world.state.tasks_of(web).filter(|task| task.is_wanted()).map(|task| task.node()).collect();
    assert_eq!(wanted, [None], "one task, and it waits for a node");
}
