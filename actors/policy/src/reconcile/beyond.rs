//! Settings beyond Swarm's, which labels make: restart back-off, a bounded drain, rebalancing, schedules. Each is off
//! unless it is set.

use super::tests::{SECOND, restart};
use crate::history::forgettable;
use crate::tests::world::{World, id};
use essaim_model::service::GenericResources;
use essaim_model::service::labels::*;
use essaim_model::*;
use essaim_wire::{NodeId, Reachability, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn label(label: &'static str, value: &'static str) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| drop(spec.labels.insert(label.into(), value.into()))
}

/// Fails the running task of a service of one task at once, `times` times; returns how long each successor waited.
fn waits(world: &mut World, web: ServiceId, times: usize) -> Vec<u64> {
    let mut waits = Vec::new();
    for _ in 0..times {
        world.end(id(1), TaskState::Failed);
        let failed_at = world.now();
        while world.running(web) == 0 {
            world.settle();
            world.pass(SECOND / 2);
        }
        waits.push(world.now().saturating_since(failed_at).as_secs());
    }
    waits
}

#[test]
fn a_restart_delay_doubles_up_to_its_maximum_and_begins_anew_after_a_stable_while() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |spec| {
        spec.task.restart = restart(|it| it.delay = Some(2 * SECOND));
        label(RESTART_DELAY_MAX_LABEL, "20s")(spec);
    });
    world.settle();
    assert_eq!(waits(&mut world, web, 6), [2, 4, 8, 16, 20, 20]);
    world.pass(21 * SECOND);
    assert_eq!(waits(&mut world, web, 2), [2, 4], "it ran for longer than the longest delay");
    // Another leader goes on with the same delays.
    world.change_leader(Duration::ZERO);
    assert_eq!(waits(&mut world, web, 1), [8]);
}

#[test]
fn a_restart_delay_without_a_maximum_stays_as_it_is() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |spec| spec.task.restart = restart(|it| it.delay = Some(2 * SECOND)));
    world.settle();
    assert_eq!(waits(&mut world, web, 5), [2; 5]);
}

#[test]
fn attempts_are_limited_with_a_back_off_as_without() {
    let mut world = World::of(1);
    let web = world.create("web", 1, |spec| {
        spec.task.restart = restart(|it| (it.delay, it.max_attempts) = (Some(SECOND), Some(2)));
        label(RESTART_DELAY_MAX_LABEL, "60s")(spec);
    });
    world.settle();
    waits(&mut world, web, 2);
    world.end(id(1), TaskState::Failed);
    world.live(2 * MINUTE);
    assert_eq!(world.running(web), 0);
}

/// Lets leader and workers take turns, and returns the most tasks on node 1 that were on their way at a time.
fn most_moving(world: &mut World, web: ServiceId) -> usize {
    let mut most = 0;
    for _ in 0..100 {
        world.lead();
        let on_their_way = world.state.tasks_of(web).filter(|task| task.is_wanted() && !task.is_running());
        most = most.max(on_their_way.count());
        world.work();
        world.pass(SECOND / 5);
    }
    most
}

#[test]
fn a_drain_moves_as_many_slots_at_a_time_as_it_may() {
    for (parallelism, stop_first, expected) in
        [(None, false, 4), (Some("1"), false, 1), (Some("3"), false, 3), (Some("1"), true, 1)]
    {
        let mut world = World::of(3);
        world.set_node(2, |spec| spec.availability = Availability::Pause);
        world.set_node(3, |spec| spec.availability = Availability::Pause);
        let web = world.create("web", 4, |spec| {
            spec.labels.extend(parallelism.map(|value| (DRAIN_PARALLELISM_LABEL.into(), value.into())));
            if stop_first {
                label(DRAIN_LABEL, "stop-first")(spec);
            }
        });
        world.settle();
        assert_eq!(world.wanted_by_node(web), BTreeMap::from([(id(1), 4)]));
        for node in [2, 3] {
            world.set_node(node, |spec| spec.availability = Availability::Active);
        }
        world.set_node(1, |spec| spec.availability = Availability::Drain);
        assert_eq!(most_moving(&mut world, web), expected, "{parallelism:?}, stop-first: {stop_first}");
        assert_eq!((world.running(web), world.wanted_by_node(web).contains_key(&id(1))), (4, false));
    }
}

/// Wanted tasks of a service on each of three nodes.
fn spread(world: &World, web: ServiceId) -> [usize; 3] {
    let nodes = world.wanted_by_node(web);
    [1, 2, 3].map(|node| nodes.get(&id(node)).copied().unwrap_or_default())
}

/// A service of six tasks on three nodes, of which the third has returned without its tasks.
fn after_a_return(edit: impl FnOnce(&mut ServiceSpec)) -> (World, ServiceId) {
    let mut world = World::of(3);
    for node in [1, 2] {
        world.describe(node, gpus);
    }
    let web = world.create("web", 6, edit);
    world.settle();
    world.reach(3, Reachability::Down);
    world.live(5 * SECOND);
    assert_eq!(spread(&world, web), [3, 3, 0]);
    world.reach(3, Reachability::Reachable);
    (world, web)
}

#[test]
fn slots_move_one_at_a_time_to_a_node_that_returned_and_none_is_down_meanwhile() {
    let (mut world, web) = after_a_return(label(REBALANCE_LABEL, "30s"));
    let mut moved_at = Vec::new();
    let (began, mut before) = (world.now(), 0);
    for _ in 0..1_000 {
        world.lead();
        assert!(world.running(web) >= 6, "the second task of a slot runs before the first one ends");
        assert!(world.state.tasks_of(web).filter(|task| task.is_wanted()).count() <= 7, "one slot at a time");
        world.work();
        world.pass(SECOND / 5);
        let there = spread(&world, web)[2];
        if there > before {
            moved_at.push(world.now().saturating_since(began).as_secs());
            before = there;
        }
    }
    assert_eq!(spread(&world, web), [2, 2, 2]);
    assert!(moved_at[0] >= 30 && moved_at[1] >= moved_at[0] + 30, "after the pause: {moved_at:?}");
    assert!(world.plan(web).is_empty());
}

#[test]
fn nothing_moves_back_unless_it_was_asked_for() {
    let (mut world, web) = after_a_return(|_| ());
    world.live(10 * MINUTE);
    assert_eq!(spread(&world, web), [3, 3, 0]);
}

#[test]
fn nothing_moves_to_a_node_that_flaps_or_has_no_room_or_during_an_update() {
    let (mut world, web) = after_a_return(label(REBALANCE_LABEL, "30s"));
    for _ in 0..6 {
        world.live(20 * SECOND);
        world.reach(3, Reachability::Unreachable);
        world.live(SECOND);
        world.reach(3, Reachability::Reachable);
    }
    assert_eq!(spread(&world, web), [3, 3, 0], "never reachable for the pause");

    let (mut world, web) = after_a_return(|spec| {
        label(REBALANCE_LABEL, "30s")(spec);
        let reservation = Some(Share { memory_bytes: 1 << 30, ..Share::default() });
        spec.task.resources = Some(Resources { reservation, ..Resources::default() });
    });
    world.describe(3, |node| node.hardware.memory_bytes = 1 << 20);
    let before = world.state.tasks_of(web).count();
    world.live(3 * MINUTE);
    assert_eq!((spread(&world, web), world.state.tasks_of(web).count()), ([3, 3, 0], before));
}

#[test]
fn a_slot_does_not_begin_to_move_where_the_scheduler_would_not_put_it() {
    let (mut world, web) = after_a_return(|spec| {
        label(REBALANCE_LABEL, "30s")(spec);
        let generic = GenericResources::parse(vec![("gpu".into(), 1)]).expect("one of a kind");
        spec.task.resources = Some(Resources { generic, ..Resources::default() });
    });
    let before = world.state.tasks_of(web).count();
    world.live(3 * MINUTE);
    let tasks = world.state.tasks_of(web).count();
    assert_eq!((spread(&world, web), tasks), ([3, 3, 0], before), "no task came and went");
    world.describe(3, gpus);
    world.live(3 * MINUTE);
    assert_eq!(spread(&world, web), [2, 2, 2]);
}

/// Gives a node eight of a generic resource.
fn gpus(node: &mut NodeDescription) {
    node.generic = GenericStock::parse(["gpu=8"]).expect("generic resources");
}

#[test]
fn slots_move_to_the_branch_of_a_spread_preference_that_has_fewer_of_them() {
    let mut world = World::of(3);
    for (node, zone) in [(1, "a"), (2, "b"), (3, "b")] {
        world.set_node(node, |spec| drop(spec.labels.insert("zone".into(), zone.into())));
    }
    let web = world.create("web", 8, label(REBALANCE_LABEL, "30s"));
    world.settle();
    assert_eq!(spread(&world, web).iter().max(), Some(&3), "without a preference they are even");
    world.update(web, |spec| {
        let zone = SpreadOver::parse("node.labels.zone").expect("a label");
        spec.task.placement = Some(Placement { preferences: vec![zone], ..Placement::default() });
    });
    world.live(10 * MINUTE);
    assert_eq!(spread(&world, web), [4, 2, 2]);
    let before = world.state.tasks_of(web).count();
    world.live(10 * MINUTE);
    assert_eq!(world.state.tasks_of(web).count(), before, "and then they rest");
}

#[test]
fn a_second_task_that_gains_nothing_is_told_to_end() {
    let (mut world, web) = after_a_return(label(REBALANCE_LABEL, "30s"));
    world.live(31 * SECOND);
    // The node that the slot moves to drains before its task runs.
    world.set_node(3, |spec| spec.availability = Availability::Drain);
    world.live(2 * MINUTE);
    assert_eq!((spread(&world, web), world.running(web)), ([3, 3, 0], 6));
}

fn scheduled(cron: &'static str) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| {
        spec.mode = Mode::ReplicatedJob { concurrent_max: Some(1), completions: Some(1) };
        spec.task.restart = restart(|_| ());
        label(SCHEDULE_LABEL, cron)(spec);
    }
}

#[test]
fn a_task_that_waits_for_a_node_does_not_run_before_the_schedule_says_so() {
    let mut world = World::of(1);
    world.set_node(1, |spec| spec.availability = Availability::Pause);
    let job = world.create("job", 1, |spec| {
        scheduled("0 0 * * *")(spec);
        spec.labels.clear();
    });
    world.settle();
    assert_eq!(world.state.tasks_of(job).filter(|task| task.is_wanted()).count(), 1, "it waits for a node");
    world.update(job, label(SCHEDULE_LABEL, "0 0 * * *"));
    world.settle();
    world.set_node(1, |spec| spec.availability = Availability::Active);
    world.settle();
    assert_eq!(world.state.tasks_of(job).filter(|task| !task.has_ended()).count(), 0);
}

/// Begins of the runs of a job during this time; each task completes after `lifespan`, and the reaper sweeps.
fn runs(world: &mut World, job: ServiceId, time: Duration, lifespan: Duration) -> Vec<Timestamp> {
    let mut begun = BTreeSet::new();
    for _ in 0..time.as_secs() {
        world.lead();
        world.work();
        let over: Vec<_> = world
            .state
            .tasks_of(job)
            .filter(|task| task.is_running() && task.ran_for(world.now()) >= lifespan)
            .cloned()
            .collect();
        for task in over {
            let observed = Observed { state: TaskState::Complete, at: world.now(), ..task.observed.clone() };
            let node: NodeId = task.node().expect("it ran");
            world.done(vec![Change::Observe { node, reports: vec![(task.id, observed)] }]);
        }
        begun.extend(world.state.tasks_of(job).filter_map(|task| task.began_at));
        let slots: BTreeSet<Slot> = world.state.tasks_of(job).map(|task| task.slot).collect();
        for slot in slots {
            let changes = forgettable(&world.state, job, slot);
            world.done(changes);
        }
        world.pass(SECOND);
    }
    begun.into_iter().collect()
}

#[test]
fn a_scheduled_job_runs_at_its_times_and_not_when_it_is_created_or_updated() {
    let mut world = World::of(2);
    let job = world.create("job", 0, scheduled("*/5 * * * *"));
    let begun = runs(&mut world, job, 16 * MINUTE, 2 * SECOND);
    assert_eq!(begun.len(), 3);
    for at in begun {
        let of_period = at.as_micros() / 1_000_000 % 300;
        assert!(of_period <= 2, "{of_period} s after the time of the schedule");
    }
    let iteration = world.state.service(job).expect("there").iteration();
    assert_eq!(iteration, Some(3));
    let version = world.state.service(job).expect("there").meta.version;
    world.update(job, label("a", "b"));
    assert_eq!(runs(&mut world, job, MINUTE, 2 * SECOND).len(), 3, "those before it");
    assert_ne!(version, world.state.service(job).expect("there").meta.version, "the operator's change");
    // A forced update runs it now.
    world.update(job, |spec| spec.task.force_update += 1);
    world.settle();
    assert_eq!(world.running(job), 1);
}

#[test]
fn a_run_that_is_due_while_the_last_one_goes_on_waits_for_it_or_ends_it() {
    for (overlap, expected) in [(None, 3), (Some("forbid"), 3), (Some("replace"), 5)] {
        let mut world = World::of(2);
        let job = world.create("job", 0, |spec| {
            scheduled("* * * * *")(spec);
            spec.labels.extend(overlap.map(|value| (SCHEDULE_OVERLAP_LABEL.into(), value.into())));
        });
        world.pass(Duration::from_secs(60 - world.now().as_micros() / 1_000_000 % 60));
        let begun = runs(&mut world, job, 4 * MINUTE + 30 * SECOND, 130 * SECOND);
        assert_eq!(begun.len(), expected, "{overlap:?}: {begun:?}");
        let live = world.state.tasks_of(job).filter(|task| !task.has_ended());
        assert_eq!(live.count(), 1, "one run at a time");
    }
}

#[test]
fn times_that_passed_without_a_leader_are_one_run() {
    let mut world = World::of(1);
    let job = world.create("job", 0, scheduled("* * * * *"));
    world.pass(60 * MINUTE);
    world.change_leader(Duration::ZERO);
    assert_eq!(runs(&mut world, job, 20 * SECOND, 2 * SECOND).len(), 1);
}

#[test]
fn as_many_runs_are_kept_as_was_asked_for() {
    for (kept, expected) in [(None, 4), (Some("1"), 2), (Some("6"), 7)] {
        let mut world = World::of(1);
        world.set_cluster(|spec| spec.task_history = 0);
        let job = world.create("job", 0, |spec| {
            scheduled("* * * * *")(spec);
            spec.labels.extend(kept.map(|value| (SCHEDULE_KEPT_LABEL.into(), value.into())));
        });
        runs(&mut world, job, 10 * MINUTE, SECOND);
        assert_eq!(world.state.tasks_of(job).count(), expected, "the last run, and {kept:?} before it");
    }
}
