//! Updates and rollbacks against the tables of Swarm's updater, and where Essaim improves on them.

use super::tests::{SECOND, following, restart, scale, set_image};
use crate::history::forgettable;
use crate::tests::world::{World, id};
use essaim_model::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Step of the stories in this module.
const STEP: Duration = Duration::from_millis(100);

/// Lets leader, workers and reaper work for a while. A task of the image `bad` fails when it has run for `lifespan`. After
/// each step `look` sees the world.
fn play(world: &mut World, web: ServiceId, time: Duration, lifespan: Duration, mut look: impl FnMut(&World)) {
    for _ in 0..time.as_millis() / STEP.as_millis() {
        world.lead();
        look(world);
        world.work();
        let image =
            |task: &Task| world.state.spec(web, task.spec_version).map(|it| it.task.container.image.to_string());
        let is_over = |task: &&Arc<Task>| {
            task.is_running() && task.ran_for(world.now()) >= lifespan && image(task).as_deref() == Some("bad")
        };
        let over: Vec<Arc<Task>> = world.state.tasks_of(web).filter(is_over).cloned().collect();
        for task in over {
            let at = world.now();
            let observed = Observed { state: TaskState::Failed, at, exit_code: Some(1), ..task.observed.clone() };
            let node = task.node().expect("it ran");
            world.done(vec![Change::Observe { node, reports: vec![(task.id, observed)] }]);
        }
        let slots: BTreeSet<Slot> = world.state.tasks_of(web).map(|task| task.slot).collect();
        for slot in slots {
            let changes = forgettable(&world.state, web, slot);
            world.done(changes);
        }
        world.pass(STEP);
    }
}

fn status(world: &World, web: ServiceId) -> (UpdateState, String) {
    let status = world.state.service(web).expect("there").update.clone().expect("an update");
    (status.state, status.message)
}

fn state(world: &World, web: ServiceId) -> UpdateState {
    status(world, web).0
}

fn image(world: &World, web: ServiceId) -> String {
    world.state.service(web).expect("there").spec.task.container.image.to_string()
}

/// Running tasks of `web` that follow a spec with this image.
fn running(world: &World, web: ServiceId, image: &str) -> BTreeSet<TaskId> {
    let follows = |task: &&Arc<Task>| {
        world.state.spec(web, task.spec_version).is_some_and(|it| &*it.task.container.image == image)
    };
    world
        .state
        .tasks_of(web)
        .filter(|task| task.is_running() && task.is_wanted())
        .filter(follows)
        .map(|it| it.id)
        .collect()
}

/// A service of `replicas` tasks of the image `a`, at rest.
fn service(replicas: u32, edit: impl FnOnce(&mut ServiceSpec)) -> (World, ServiceId) {
    let mut world = World::of(4);
    let web = world.create("web", replicas, |spec| {
        spec.task.restart = restart(|_| ());
        edit(spec);
    });
    world.settle();
    world.pass(60 * SECOND);
    (world, web)
}

fn update(edit: impl FnOnce(&mut UpdateConfig)) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| edit(spec.update.get_or_insert_default())
}

fn roll_back(world: &mut World, web: ServiceId) {
    let expect = world.state.service(web).expect("there").meta.version;
    world.done(vec![Change::UpdateService { id: web, expect, spec: None }]);
}

fn update_state(world: &World, service: ServiceId) -> Option<UpdateState> {
    world.state.service(service).expect("there").update.as_ref().map(|update| update.state)
}

/// Lets the workers of a world do everything except run this image.
fn work_without(world: &mut World, image: &str) {
    world.work();
    let bad: Vec<_> = world
        .state
        .tasks()
        .filter(|task| !task.has_ended() && task.desired == Desired::Running && task.node().is_some())
        .filter(|task| {
            world.state.spec(task.service, task.spec_version).is_some_and(|spec| &*spec.task.container.image == image)
        })
        .cloned()
        .collect();
    for task in bad {
        let at = world.now();
        let observed = Observed { state: TaskState::Failed, at, exit_code: Some(1), ..task.observed.clone() };
        let node = task.node().expect("it was given to one");
        world.done(vec![Change::Observe { node, reports: vec![(task.id, observed)] }]);
    }
}

#[test]
fn an_update_replaces_one_task_at_a_time_and_stops_it_first() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |_| ());
    world.settle();
    world.update(web, set_image("b"));
    assert_eq!(update_state(&world, web), Some(UpdateState::Updating));
    for _ in 0..40 {
        world.lead();
        assert!(world.running(web) >= 2, "never more than one is missing");
        let live = world.state.tasks_of(web).filter(|task| !task.has_ended());
        let started = live.filter(|task| task.observed.state >= TaskState::Starting).count();
        assert!(started <= 3, "the old one ends before the new one starts");
        world.work();
        world.pass(SECOND / 10);
    }
    assert_eq!(following(&world, web, "b"), 3);
    assert_eq!(update_state(&world, web), Some(UpdateState::Updating), "the last one is watched");
    world.live(6 * SECOND);
    assert_eq!(update_state(&world, web), Some(UpdateState::Completed));
    assert!(world.plan(web).is_empty());
}

#[test]
fn an_update_of_nothing_is_complete_at_once() {
    let mut world = World::of(1);
    let web = world.create("web", 0, |_| ());
    world.update(web, set_image("b"));
    world.settle();
    assert_eq!(update_state(&world, web), Some(UpdateState::Completed));
}

#[test]
fn between_two_slots_an_update_waits_for_its_delay() {
    let mut world = World::of(2);
    let delay = UpdateConfig { delay: 20 * SECOND, ..UpdateConfig::default() };
    let web = world.create("web", 2, |spec| spec.update = Some(delay));
    world.settle();
    world.update(web, set_image("b"));
    world.live(15 * SECOND);
    assert_eq!((following(&world, web, "a"), following(&world, web, "b")), (1, 1));
    world.live(10 * SECOND);
    assert_eq!(following(&world, web, "b"), 2);
}

#[test]
fn a_failing_update_pauses_with_one_new_task_and_the_others_old() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |spec| spec.task.restart = restart(|_| ()));
    world.settle();
    world.update(web, set_image("bad"));
    for _ in 0..20 {
        world.lead();
        work_without(&mut world, "bad");
        world.pass(SECOND / 10);
    }
    assert_eq!(update_state(&world, web), Some(UpdateState::Paused));
    assert_eq!((following(&world, web, "a"), world.running(web)), (2, 2));
    let message = world.state.service(web).and_then(|it| it.update.clone()).expect("an update").message;
    assert!(message.starts_with("update paused due to failure or early termination of task "), "{message}");
}

#[test]
fn a_failure_that_may_be_goes_on_or_takes_the_update_back() {
    for (action, expected) in [(FailureAction::Continue, "bad"), (FailureAction::Rollback, "a")] {
        let mut world = World::of(3);
        let config = UpdateConfig { failure_action: action, ..UpdateConfig::default() };
        let web = world.create("web", 3, |spec| {
            spec.task.restart = restart(|it| it.condition = Some(RestartCondition::None));
            spec.update = Some(config);
        });
        world.settle();
        world.update(web, set_image("bad"));
        for _ in 0..200 {
            world.lead();
            work_without(&mut world, "bad");
            world.pass(SECOND / 10);
        }
        let service = world.state.service(web).expect("there");
        assert_eq!(service.spec.task.container.image.as_str(), expected);
        match action {
            FailureAction::Rollback => {
                assert_eq!((following(&world, web, "a"), world.running(web)), (3, 3));
                assert_eq!(update_state(&world, web), Some(UpdateState::RollbackCompleted));
            }
            _ => {
                assert_eq!(following(&world, web, "a"), 0, "all were replaced");
                assert_eq!(update_state(&world, web), Some(UpdateState::Completed));
            }
        }
    }
}

#[test]
fn a_start_first_update_never_runs_fewer_than_asked_for() {
    let mut world = World::of(3);
    let config = UpdateConfig { order: UpdateOrder::StartFirst, ..UpdateConfig::default() };
    let web = world.create("web", 3, |spec| spec.update = Some(config));
    world.settle();
    world.update(web, set_image("b"));
    for _ in 0..60 {
        world.lead();
        assert!(world.running(web) >= 3);
        world.work();
        world.pass(SECOND / 10);
    }
    assert_eq!(following(&world, web, "b"), 3);
}

#[test]
fn scaling_during_an_update_touches_no_running_task_and_the_update_ends() {
    let mut world = World::of(3);
    let web = world.create("web", 2, |_| ());
    world.settle();
    world.update(web, set_image("b"));
    world.lead();
    world.work();
    world.update(web, scale(5));
    world.live(20 * SECOND);
    assert_eq!((following(&world, web, "b"), world.running(web)), (5, 5));
}

#[test]
fn a_second_update_overtakes_the_first() {
    let mut world = World::of(3);
    let web = world.create("web", 3, |_| ());
    world.settle();
    world.update(web, set_image("b"));
    world.lead();
    world.work();
    world.update(web, set_image("c"));
    world.live(20 * SECOND);
    assert_eq!((following(&world, web, "c"), world.running(web)), (3, 3));
    assert_eq!(update_state(&world, web), Some(UpdateState::Completed));
}

#[test]
fn scaling_alone_replaces_nothing() {
    let mut world = World::of(3);
    let web = world.create("web", 2, |_| ());
    world.settle();
    let before: Vec<_> = world.state.tasks_of(web).map(|task| task.id).collect();
    world.update(web, scale(4));
    world.settle();
    let after: Vec<_> = world.state.tasks_of(web).filter(|task| task.is_wanted()).map(|task| task.id).collect();
    assert_eq!(after[..2], before[..]);
    assert_eq!(update_state(&world, web), None);
}

#[test]
fn parallelism_is_the_number_of_slots_that_are_down_at_a_time_and_zero_means_all() {
    for (parallelism, expected) in [(1, 5), (2, 4), (4, 2), (0, 0)] {
        let (mut world, web) = service(6, update(|it| it.parallelism = parallelism));
        world.update(web, set_image("b"));
        let mut least = usize::MAX;
        play(&mut world, web, 10 * SECOND, SECOND, |world| least = least.min(world.running(web)));
        assert_eq!(least, expected, "parallelism {parallelism}");
        assert_eq!((following(&world, web, "b"), state(&world, web)), (6, UpdateState::Completed));
    }
}

/// The reaper forgets the replaced tasks at once, and with them what the update knew of its slots.
#[test]
fn parallelism_and_delay_hold_when_no_history_is_kept() {
    let (mut world, web) = service(4, update(|it| it.delay = 10 * SECOND));
    world.set_cluster(|spec| spec.task_history = 0);
    world.update(web, set_image("b"));
    for done in 1..=4 {
        play(&mut world, web, 9 * SECOND, SECOND, |world| assert!(world.running(web) >= 3));
        assert_eq!(following(&world, web, "b"), done);
        play(&mut world, web, 16 * STEP, SECOND, |world| assert!(world.running(web) >= 3));
    }
    play(&mut world, web, 12 * SECOND, SECOND, |_| ());
    assert_eq!(state(&world, web), UpdateState::Completed);
}

#[test]
fn a_delay_counts_from_when_the_task_ran_whatever_is_reported_later() {
    let (mut world, web) = service(2, update(|it| it.delay = 5 * SECOND));
    world.update(web, set_image("b"));
    for _ in 0..12 {
        play(&mut world, web, SECOND, SECOND, |_| ());
        // The health of a task is reported again and again.
        let tasks: Vec<Arc<Task>> = world.state.tasks_of(web).filter(|task| task.is_running()).cloned().collect();
        for task in tasks {
            let observed = Observed { at: world.now(), health: Some(Health::Healthy), ..task.observed.clone() };
            world.done(vec![Change::Observe {
                node: task.node().expect("it runs"),
                reports: vec![(task.id, observed)],
            }]);
        }
    }
    assert_eq!(following(&world, web, "b"), 2);
}

#[test]
fn after_the_last_slot_one_more_monitor_time_is_watched() {
    let monitor = Some(8 * SECOND);
    for (lifespan, expected) in [(7 * SECOND, UpdateState::Paused), (9 * SECOND, UpdateState::Completed)] {
        let (mut world, web) = service(1, update(|it| it.monitor = monitor));
        world.update(web, set_image("bad"));
        play(&mut world, web, 4 * SECOND, lifespan, |_| ());
        assert_eq!((running(&world, web, "bad").len(), state(&world, web)), (1, UpdateState::Updating));
        play(&mut world, web, 6 * SECOND, lifespan, |_| ());
        assert_eq!(state(&world, web), expected, "a task that fails after {lifespan:?}");
    }
}

#[test]
fn what_each_action_does_after_a_failure() {
    for (action, new, ended, message) in [
        (FailureAction::Pause, 1, UpdateState::Paused, "update paused due to failure or early termination of task "),
        (FailureAction::Continue, 4, UpdateState::Completed, "update completed"),
        (FailureAction::Rollback, 0, UpdateState::RollbackCompleted, "rollback completed"),
    ] {
        let (mut world, web) = service(4, |spec| {
            update(|it| it.failure_action = action)(spec);
            spec.task.restart = restart(|it| it.delay = Some(SECOND));
        });
        world.update(web, set_image("bad"));
        let mut said = BTreeSet::new();
        play(&mut world, web, 60 * SECOND, Duration::ZERO, |world| {
            said.insert(status(world, web).1);
        });
        let (state, last) = status(&world, web);
        assert!(state == ended && last.starts_with(message), "{action:?}: {state:?} {last}");
        assert_eq!(4 - following(&world, web, "a"), new, "{action:?}");
        let rolled = said
            .iter()
            .filter(|text| text.starts_with("update rolled back due to failure or early termination of task "));
        assert_eq!(rolled.count(), usize::from(action == FailureAction::Rollback));
    }
}

#[test]
fn a_paused_update_is_left_alone_until_an_operator_acts() {
    let (mut world, web) = service(3, |_| ());
    world.update(web, set_image("bad"));
    play(&mut world, web, 20 * SECOND, Duration::ZERO, |_| ());
    assert_eq!((state(&world, web), running(&world, web, "a").len()), (UpdateState::Paused, 2));
    let before = status(&world, web);
    play(&mut world, web, 60 * SECOND, Duration::ZERO, |world| assert_eq!(running(world, web, "a").len(), 2));
    assert_eq!(status(&world, web), before);
    // A change of the spec that replaces no task goes on with the update.
    world.update(web, scale(4));
    assert_eq!(status(&world, web), (UpdateState::Updating, "update in progress".into()));
    play(&mut world, web, 20 * SECOND, SECOND, |_| ());
    assert_eq!(state(&world, web), UpdateState::Paused);
    world.update(web, set_image("b"));
    play(&mut world, web, 30 * SECOND, SECOND, |_| ());
    assert_eq!((following(&world, web, "b"), state(&world, web)), (4, UpdateState::Completed));
}

/// A slot that fails again and again is one failed slot.
#[test]
fn the_failure_ratio_is_the_share_of_slots_that_failed() {
    for (millionths, failing, expected) in [
        (0, 0, UpdateState::Completed),
        (0, 1, UpdateState::Paused),
        (250_000, 1, UpdateState::Completed),
        (250_000, 2, UpdateState::Paused),
        (500_000, 2, UpdateState::Completed),
        (990_000, 4, UpdateState::Paused),
        (1_000_000, 4, UpdateState::Completed),
    ] {
        let (mut world, web) = service(4, |spec| {
            update(|it| (it.max_failure_millionths, it.parallelism) = (millionths, 0))(spec);
            spec.task.restart = restart(|it| it.delay = Some(SECOND));
        });
        world.set_cluster(|spec| spec.task_history = 0);
        world.update(web, set_image("b"));
        for _ in 0..200 {
            world.lead();
            world.work();
            for number in 1..=failing {
                let failed = world.state.tasks_in(web, Slot::Number(number)).find(|task| {
                    task.is_running()
                        && following_b(&world, task)
                        && task.ran_for(world.now()) > SECOND
                        && task.restarts < 3
                });
                if let Some(task) = failed.cloned() {
                    let observed = Observed { state: TaskState::Failed, at: world.now(), ..task.observed.clone() };
                    world.done(vec![Change::Observe {
                        node: task.node().expect("it ran"),
                        reports: vec![(task.id, observed)],
                    }]);
                }
                let changes = forgettable(&world.state, web, Slot::Number(number));
                world.done(changes);
            }
            world.pass(STEP);
        }
        assert_eq!(state(&world, web), expected, "{failing} of 4 with a ratio of {millionths} millionths");
    }
}

fn following_b(world: &World, task: &Task) -> bool {
    world.state.spec(task.service, task.spec_version).is_some_and(|spec| &*spec.task.container.image == "b")
}

#[test]
fn a_new_leader_judges_a_failure_as_the_old_one_did() {
    let (mut world, web) = service(2, update(|it| it.monitor = Some(2 * SECOND)));
    world.update(web, set_image("bad"));
    play(&mut world, web, SECOND, 5 * SECOND, |_| ());
    // The leader that saw the task begin to run is gone.
    world.change_leader(Duration::ZERO);
    play(&mut world, web, 10 * SECOND, 5 * SECOND, |_| ());
    assert_ne!(state(&world, web), UpdateState::Paused, "the task failed after the monitor time");
}

/// Moby's issue 43081: the rollback restarted tasks that the update had not reached.
#[test]
fn a_rollback_replaces_no_task_that_already_follows_the_spec_it_goes_back_to() {
    for automatic in [false, true] {
        let action = if automatic { FailureAction::Rollback } else { FailureAction::Pause };
        let (mut world, web) = service(4, update(|it| it.failure_action = action));
        world.set_cluster(|spec| spec.task_history = 0);
        let before = running(&world, web, "a");
        world.update(web, set_image("bad"));
        play(&mut world, web, SECOND, Duration::ZERO, |_| ());
        if !automatic {
            assert_eq!(state(&world, web), UpdateState::Paused);
            roll_back(&mut world, web);
        }
        let mut kept = before.clone();
        play(&mut world, web, 30 * SECOND, Duration::ZERO, |world| {
            kept = &kept & &running(world, web, "a");
            assert!(kept.len() >= 3, "a healthy task was taken down");
        });
        assert_eq!((running(&world, web, "a").len(), kept.len()), (4, 3), "automatic: {automatic}");
        assert_eq!(state(&world, web), UpdateState::RollbackCompleted);
    }
}

/// Moby's issue 37972: with an update delay longer than the monitor time, a failure was noticed too late.
#[test]
fn an_update_is_rolled_back_whatever_the_delays_are() {
    for delay in [0, 1, 4, 5, 6, 20, 90] {
        for restart_delay in [0, 5, 30] {
            for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
                let (mut world, web) = service(3, |spec| {
                    update(|it| {
                        (it.delay, it.order) = (delay * SECOND, order);
                        it.failure_action = FailureAction::Rollback;
                    })(spec);
                    spec.task.restart = restart(|it| it.delay = Some(restart_delay * SECOND));
                });
                world.set_cluster(|spec| spec.task_history = 0);
                let before = running(&world, web, "a");
                world.update(web, set_image("bad"));
                play(&mut world, web, 60 * SECOND, 3 * SECOND, |_| ());
                let after = running(&world, web, "a");
                assert_eq!(image(&world, web), "a", "delay {delay}, restart delay {restart_delay}, {order:?}");
                let untouched = before.intersection(&after).count();
                assert!(after.len() == 3 && (untouched == 2 || delay < 4), "{untouched} untouched with delay {delay}");
                assert_eq!(status(&world, web), (UpdateState::RollbackCompleted, "rollback completed".into()));
            }
        }
    }
}

#[test]
fn a_failed_rollback_pauses_and_rolls_nothing_back_again() {
    for action in [FailureAction::Pause, FailureAction::Rollback, FailureAction::Continue] {
        for monitor in [None, Some(2 * SECOND)] {
            let (mut world, web) = service(3, |spec| {
                set_image("bad")(spec);
                let config = UpdateConfig { failure_action: action, monitor, ..UpdateConfig::default() };
                (spec.update, spec.rollback) = (Some(config.clone()), Some(config));
            });
            world.update(web, set_image("b"));
            play(&mut world, web, 30 * SECOND, 3600 * SECOND, |_| ());
            assert_eq!(following(&world, web, "b"), 3);
            roll_back(&mut world, web);
            play(&mut world, web, 60 * SECOND, Duration::ZERO, |_| ());
            assert_eq!(image(&world, web), "bad", "{action:?}");
            let (state, message) = status(&world, web);
            if action == FailureAction::Continue {
                assert_eq!((state, following(&world, web, "b")), (UpdateState::RollbackCompleted, 0));
            } else {
                assert_eq!((state, following(&world, web, "b")), (UpdateState::RollbackPaused, 2));
                let expected = "rollback paused due to failure or early termination of task ";
                assert!(message.starts_with(expected), "{message}");
            }
        }
    }
}

/// Swarm's test of the rollback: of four slots 40 % may fail, and every second new task does.
#[test]
fn an_update_is_rolled_back_at_its_second_failure_and_the_rollback_ends_as_its_own_action_says() {
    use FailureAction::{Continue, Pause, Rollback};
    for monitor in [None, Some(SECOND / 2)] {
        for (action, fails_again) in [(Pause, false), (Pause, true), (Continue, true), (Rollback, true)] {
            let config = |failure_action| UpdateConfig {
                delay: SECOND / 100,
                max_failure_millionths: 400_000,
                failure_action,
                monitor,
                ..UpdateConfig::default()
            };
            let (mut world, web) = service(4, |spec| {
                spec.task.restart = restart(|it| it.condition = Some(RestartCondition::None));
                (spec.update, spec.rollback) = (Some(config(Rollback)), Some(config(action)));
            });
            world.update(web, set_image("b"));
            let mut before = running(&world, web, "a");
            let (mut new, mut back) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..400 {
                world.lead();
                world.work();
                for task in world.state.tasks_of(web).filter(|task| task.is_running()).cloned().collect::<Vec<_>>() {
                    let is_b = following_b(&world, &task);
                    let is_first = match (is_b, before.contains(&task.id)) {
                        (true, _) => new.insert(task.id),
                        (false, false) => back.insert(task.id),
                        (false, true) => false,
                    };
                    if is_first && if is_b { new.len() % 2 == 1 } else { fails_again } {
                        let observed = Observed { state: TaskState::Failed, at: world.now(), ..task.observed.clone() };
                        let node = task.node().expect("it ran");
                        world.done(vec![Change::Observe { node, reports: vec![(task.id, observed)] }]);
                    }
                }
                world.pass(STEP);
            }
            before = &before & &running(&world, web, "a");
            let paused = fails_again && action != Continue;
            let ended = if paused { UpdateState::RollbackPaused } else { UpdateState::RollbackCompleted };
            let what = format!("{action:?}, monitor {monitor:?}, fails again: {fails_again}");
            assert_eq!((state(&world, web), new.len(), before.len()), (ended, 3, 1), "{what}");
            assert_eq!(back.len(), if paused { 2 } else { 3 }, "{what}");
        }
    }
}

#[test]
fn a_failed_update_without_a_former_spec_pauses() {
    let (mut world, web) = service(2, update(|it| it.failure_action = FailureAction::Rollback));
    world.update(web, set_image("bad"));
    play(&mut world, web, 60 * SECOND, SECOND, |_| ());
    assert_eq!(state(&world, web), UpdateState::RollbackCompleted);
    assert_eq!(world.state.service(web).expect("there").previous, None, "an automatic rollback leaves none");
}

#[test]
fn a_rollback_goes_by_the_rollback_config() {
    let (mut world, web) = service(4, |spec| {
        update(|it| it.delay = 3600 * SECOND)(spec);
        spec.rollback = Some(UpdateConfig { parallelism: 0, ..UpdateConfig::default() });
    });
    world.update(web, |spec| {
        set_image("b")(spec);
        update(|it| (it.delay, it.parallelism) = (Duration::ZERO, 0))(spec);
    });
    play(&mut world, web, 10 * SECOND, SECOND, |_| ());
    assert_eq!(following(&world, web, "b"), 4);
    roll_back(&mut world, web);
    play(&mut world, web, SECOND, SECOND, |_| ());
    assert_eq!((following(&world, web, "a"), status(&world, web).1.as_str()), (4, "manually requested rollback"));
    play(&mut world, web, 10 * SECOND, SECOND, |_| ());
    assert_eq!(status(&world, web), (UpdateState::RollbackCompleted, "rollback completed".into()));
}

#[test]
fn a_rollback_that_waits_for_a_node_keeps_its_message() {
    let (mut world, web) = service(2, |spec| {
        let placement = spec.task.placement.get_or_insert_default();
        placement.constraints.push("node.labels.x==1".parse().expect("a constraint"));
    });
    world.update(web, |spec| spec.task.placement = None);
    world.live(10 * SECOND);
    assert_eq!(world.running(web), 2);
    roll_back(&mut world, web);
    world.live(2 * SECOND);
    let message = status(&world, web).1;
    assert!(message.starts_with("manually requested rollback; what runs goes on until"), "{message}");
    for node in (1..=4).filter(|node| !world.wanted_by_node(web).contains_key(&id(*node))).collect::<Vec<_>>() {
        world.set_node(node, |spec| drop(spec.labels.insert("x".into(), "1".into())));
    }
    world.settle();
    assert_eq!(status(&world, web), (UpdateState::RollbackStarted, "manually requested rollback".into()));
}

#[test]
fn what_makes_a_task_dated() {
    type Edit = fn(&mut ServiceSpec);
    let table: [(&str, Edit, bool); 10] = [
        ("the image", |spec| spec.task.container.image = "b".into(), true),
        ("the log driver", |spec| spec.task.log_driver = Some(LogDriver::default()), true),
        ("a forced update", |spec| spec.task.force_update += 1, true),
        ("the endpoint", |spec| spec.endpoint = Some(EndpointSpec { dns_round_robin: true, ports: vec![] }), true),
        ("the resources", |spec| spec.task.resources = Some(Resources::default()), true),
        (
            "constraints that the node satisfies",
            |spec| {
                let placement = spec.task.placement.get_or_insert_default();
                placement.constraints.push("node.hostname!=ghost".parse().expect("a constraint"));
            },
            false,
        ),
        ("the number of replicas", |spec| spec.mode = Mode::Replicated { replicas: 1 }, false),
        ("a label of the service", |spec| drop(spec.labels.insert("a".into(), "b".into())), false),
        ("how updates go", |spec| spec.update = Some(UpdateConfig::default()), false),
        // Swarm replaces every task to apply a restart policy, which only managers act on.
        ("the restart policy", |spec| spec.task.restart = Some(RestartPolicy::default()), false),
    ];
    for (what, edit, dated) in table {
        let mut world = World::of(1);
        let web = world.create("web", 1, |_| ());
        world.settle();
        let before = world.state.tasks_on(id(1)).next().expect("it runs").id;
        world.update(web, edit);
        world.live(10 * SECOND);
        let runs = world.state.tasks_of(web).find(|task| task.is_running()).expect("one runs").id;
        assert_eq!(runs != before, dated, "{what}");
    }
}

#[test]
fn a_forced_update_replaces_every_task_with_one_of_the_same_spec() {
    let (mut world, web) = service(3, |_| ());
    let before = running(&world, web, "a");
    world.update(web, |spec| spec.task.force_update += 1);
    play(&mut world, web, 20 * SECOND, SECOND, |_| ());
    let after = running(&world, web, "a");
    assert_eq!((after.len(), before.intersection(&after).count()), (3, 0));
    assert_eq!(status(&world, web), (UpdateState::Completed, "update completed".into()));
}
